// SPDX-License-Identifier: GPL-2.0-only
/*
 * Tests for DMABUFs of BARs: CPU mappings of them and of the device file, what
 * suspends and what revokes them, memory attributes, and importers.
 *
 *   vfio_dmabuf_test [options] BDF...
 *
 * The first of them that is QEMU's ivshmem-plain is tested, or else the first of
 * them, by its largest BAR that can be mapped. That of ivshmem-plain is memory, and
 * contents are checked too. Some tests use a second device (anything), and QEMU's
 * edu, which has a DMA engine. RACE_SECONDS in the environment sets the length of
 * the races.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <uapi/linux/types.h>
#include <linux/compiler.h>
#include <linux/iommufd.h>
#include <linux/pci_regs.h>
#include <linux/sizes.h>
#include <linux/udmabuf.h>
#include <linux/vfio.h>

#include <libvfio.h>

#include "../kselftest_harness.h"

#ifndef MFD_ALLOW_SEALING
#define MFD_ALLOW_SEALING	0x0002U
#endif

#define FAULT_AROUND	16	/* pages that a fault maps at most */
#define MAGIC		0x600df00d	/* what is in the memory of a device, and nowhere else */

static char **bdfs;
static int nr_bdfs;

static size_t page_size;

/* ---- What the tests have in common ---- */

static __thread sigjmp_buf on_sigbus;
static __thread bool sigbus_expected;	/* on_sigbus is there to be jumped to */

static void handle_sigbus(int signo)
{
	if (READ_ONCE(sigbus_expected))
		siglongjmp(on_sigbus, 1);
	/* The access is about to be taken again, and ends the test. */
	signal(SIGBUS, SIG_DFL);
}

/* Read at @addr; false for a SIGBUS. */
static bool read_word(void *addr, u32 *word)
{
	bool readable = false;

	if (!sigsetjmp(on_sigbus, 1)) {
		WRITE_ONCE(sigbus_expected, true);
		*word = READ_ONCE(*(u32 *)addr);
		readable = true;
	}
	WRITE_ONCE(sigbus_expected, false);
	return readable;
}

static bool can_read(void *addr)
{
	u32 word;

	return read_word(addr, &word);
}

static long minor_faults(void)
{
	struct rusage usage;

	VFIO_ASSERT_EQ(getrusage(RUSAGE_THREAD, &usage), 0);
	return usage.ru_minflt;
}

/* Read each page; returns how many faults it took. */
static long faults_of(void *addr, size_t size)
{
	long before = minor_faults();
	size_t offset;

	for (offset = 0; offset < size; offset += page_size)
		READ_ONCE(*(u32 *)(addr + offset));

	return minor_faults() - before;
}

static u32 sysfs_id(const char *bdf, const char *name)
{
	char path[128];
	unsigned int id = 0;
	FILE *file;
	int found;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/%s", bdf, name);
	file = fopen(path, "r");
	VFIO_ASSERT_NOT_NULL(file, "%s\n", path);
	found = fscanf(file, "%x", &id);
	VFIO_ASSERT_EQ(found, 1);
	fclose(file);
	return id;
}

static bool is_device(const char *bdf, u16 vendor, u16 device)
{
	return sysfs_id(bdf, "vendor") == vendor &&
	       sysfs_id(bdf, "device") == device;
}

/* The device of the command line that is this one, or NULL */
static const char *find_device(u16 vendor, u16 device)
{
	int i;

	for (i = 0; i < nr_bdfs; i++)
		if (is_device(bdfs[i], vendor, device))
			return bdfs[i];

	return NULL;
}

static bool is_ivshmem(const char *bdf)
{
	return is_device(bdf, 0x1af4, 0x1110);
}

static int largest_bar(struct vfio_pci_device *device)
{
	int i, largest = -1;

	for (i = 0; i < PCI_STD_NUM_BARS; i++)
		if (device->bars[i].vaddr &&
		    (largest < 0 || device->bars[i].info.size >
				    device->bars[largest].info.size))
			largest = i;

	return largest;
}

static bool has_feature(struct vfio_pci_device *device, u32 feature, u32 op)
{
	return !__vfio_pci_device_feature(device, VFIO_DEVICE_FEATURE_PROBE |
					  op | feature, NULL, 0);
}

/* Map @size bytes of @fd at @offset, at an address that is @align aligned. */
static void *map_aligned(int fd, size_t size, off_t offset, size_t align)
{
	void *addr = mmap_reserve(size, align, 0);

	addr = mmap(addr, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
		    fd, offset);
	VFIO_ASSERT_NE(addr, MAP_FAILED);
	madvise(addr, size, MADV_HUGEPAGE);
	return addr;
}

static void *map(int fd, size_t size, off_t offset)
{
	return mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, offset);
}

/* Run @child in a process; true if it returned true. */
static bool in_child(bool (*child)(void *), void *arg)
{
	int status;
	pid_t pid = fork();

	VFIO_ASSERT_GE(pid, 0);
	if (!pid)
		_exit(child(arg) ? 0 : 1);

	VFIO_ASSERT_EQ(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) && !WEXITSTATUS(status);
}

static bool child_reads(void *addr)
{
	return can_read(addr);
}

FIXTURE(dmabuf) {
	struct iommu *iommu;
	struct vfio_pci_device *device;
	struct vfio_pci_bar *bar;
	const char *bdf;
	int index;		/* of the BAR */
	size_t size;		/* of the BAR */
	bool ram;		/* the BAR is memory */
	u32 *mem;		/* the BAR mapped by the device file */
	bool can_export, can_mmap, can_revoke;
};

static void open_device_by(struct _test_data_dmabuf *self, const char *bdf,
			   struct iommu *iommu)
{
	self->iommu = iommu;
	self->bdf = bdf;
	self->device = vfio_pci_device_init(bdf, self->iommu);
	self->index = largest_bar(self->device);
	if (self->index < 0)
		return;

	self->bar = &self->device->bars[self->index];
	self->size = self->bar->info.size;
	self->mem = self->bar->vaddr;
	self->ram = is_ivshmem(bdf) && self->index == 2;
}

static void open_device(struct _test_data_dmabuf *self, const char *bdf)
{
	open_device_by(self, bdf, iommu_init(MODE_IOMMUFD));
}

static void close_device(struct _test_data_dmabuf *self)
{
	vfio_pci_device_cleanup(self->device);
	iommu_cleanup(self->iommu);
	self->device = NULL;
}

static int export(struct _test_data_dmabuf *self, u64 offset, u64 length)
{
	return vfio_pci_dma_buf_export(self->device, self->index, offset, length);
}

static int feature(struct _test_data_dmabuf *self, u32 flags, void *arg, size_t size)
{
	return __vfio_pci_device_feature(self->device, flags, arg, size);
}

static int revoke_dmabuf(struct _test_data_dmabuf *self, int fd)
{
	return __vfio_pci_dma_buf_revoke(self->device, fd);
}

static void set_memory(struct _test_data_dmabuf *self, bool on)
{
	if (on)
		vfio_pci_cmd_set(self->device, PCI_COMMAND_MEMORY);
	else
		vfio_pci_cmd_clear(self->device, PCI_COMMAND_MEMORY);
}

FIXTURE_SETUP(dmabuf)
{
	struct sigaction action = { .sa_handler = handle_sigbus };
	void *mem;
	int fd;

	VFIO_ASSERT_EQ(sigaction(SIGBUS, &action, NULL), 0);
	open_device(self, bdfs[0]);
	if (self->index < 0)
		SKIP(return, "%s has no BAR that can be mapped", self->bdf);
	self->can_export = has_feature(self->device, VFIO_DEVICE_FEATURE_DMA_BUF,
				       VFIO_DEVICE_FEATURE_GET);
	if (!self->can_export)
		return;

	self->can_revoke = has_feature(self->device,
				       VFIO_DEVICE_FEATURE_DMA_BUF_REVOKE,
				       VFIO_DEVICE_FEATURE_SET);
	fd = export(self, 0, page_size);
	mem = map(fd, page_size, 0);
	self->can_mmap = mem != MAP_FAILED && !munmap(mem, page_size);
	close(fd);
}

FIXTURE_TEARDOWN(dmabuf)
{
	if (self->device)
		close_device(self);
}

/* Without these, most of the tests below are skipped. */
TEST_F(dmabuf, features)
{
	if (!self->can_export)
		SKIP(return, "the kernel cannot export DMABUFs");
	EXPECT_TRUE(self->can_mmap);
	EXPECT_TRUE(self->can_revoke);
	EXPECT_TRUE(has_feature(self->device, VFIO_DEVICE_FEATURE_DMA_BUF_MEMATTR,
				VFIO_DEVICE_FEATURE_SET));
}

TEST_F(dmabuf, no_features)
{
	struct vfio_device_feature_dma_buf_revoke arg = { .dmabuf_fd = -1 };
	struct vfio_region_dma_range range = { .length = page_size };

	if (self->can_export)
		SKIP(return, "the kernel can export DMABUFs");
	EXPECT_EQ(-ENOTTY, __vfio_pci_dma_buf_export(self->device, self->index, O_RDWR,
						     &range, 1));
	EXPECT_EQ(-ENOTTY, feature(self, VFIO_DEVICE_FEATURE_SET |
				   VFIO_DEVICE_FEATURE_DMA_BUF_REVOKE, &arg, sizeof(arg)));
	EXPECT_EQ(-ENOTTY, feature(self, VFIO_DEVICE_FEATURE_SET |
				   VFIO_DEVICE_FEATURE_DMA_BUF_MEMATTR, &arg, sizeof(arg)));
}

/* A feature whose argument, of @size bytes, ends where nothing is mapped */
static int feature_at_end(struct _test_data_dmabuf *self, u32 flags, size_t argsz,
			  const void *arg, size_t size)
{
	struct vfio_device_feature feature = {
		.argsz = sizeof(feature) + argsz,
		.flags = flags,
	};
	void *end = mmap(NULL, 2 * page_size, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	VFIO_ASSERT_NE(end, MAP_FAILED);
	VFIO_ASSERT_EQ(munmap(end + page_size, page_size), 0);
	end += page_size - sizeof(feature) - size;
	memcpy(end, &feature, sizeof(feature));
	memcpy(end + sizeof(feature), arg, size);
	return ioctl(self->device->fd, VFIO_DEVICE_FEATURE, end) < 0 ? -errno : 0;
}

TEST_F(dmabuf, export_errors)
{
	struct {
		struct vfio_device_feature_dma_buf dma_buf;
		struct vfio_region_dma_range range;
	} arg, good = {
		.dma_buf = { .region_index = self->index, .open_flags = O_RDWR, .nr_ranges = 1 },
		.range = { .length = page_size },
	};
	const struct {
		u64 offset, length;
		int error;
	} ranges[] = {
		{ self->size, page_size, EINVAL },
		{ 0, self->size + page_size, EINVAL },
		{ page_size, self->size, EINVAL },
		{ 1, page_size, EINVAL },
		{ 0, page_size - 1, EINVAL },
		{ 0, 0, EINVAL },
		/* Neither what is before the BAR, nor around the end of all addresses */
		{ -page_size, page_size, EOVERFLOW },
		{ page_size, -page_size, EINVAL },
	};
	u32 get = VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_DMA_BUF;
	u32 set = VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_DMA_BUF;
	int i, fd;

	if (!self->can_export)
		SKIP(return, "the kernel cannot export DMABUFs");
	for (i = 0; i < 32; i++) {
		arg = good;
		arg.dma_buf.flags = 1U << i;
		ASSERT_EQ(-EINVAL, feature(self, get, &arg, sizeof(arg)));
	}
	for (i = 0; i < ARRAY_SIZE(ranges); i++) {
		arg = good;
		arg.range.offset = ranges[i].offset;
		arg.range.length = ranges[i].length;
		ASSERT_EQ(-ranges[i].error, feature(self, get, &arg, sizeof(arg)))
			TH_LOG("range %d", i);
	}
	arg = good;
	arg.dma_buf.nr_ranges = 0;
	ASSERT_EQ(-EINVAL, feature(self, get, &arg, sizeof(arg)));
	arg = good;
	for (i = VFIO_PCI_ROM_REGION_INDEX; i <= VFIO_PCI_NUM_REGIONS; i++) {
		arg.dma_buf.region_index = i;
		ASSERT_EQ(-ENODEV, feature(self, get, &arg, sizeof(arg)));
	}
	arg.dma_buf.region_index = -1;
	ASSERT_EQ(-ENODEV, feature(self, get, &arg, sizeof(arg)));

	ASSERT_EQ(-EINVAL, feature(self, set, &good, sizeof(good)));
	ASSERT_EQ(-EINVAL, feature(self, set | get, &good, sizeof(good)));
	ASSERT_EQ(-EINVAL, feature(self, VFIO_DEVICE_FEATURE_DMA_BUF, &good, sizeof(good)));
	ASSERT_EQ(-EINVAL, feature(self, get, &good, sizeof(good.dma_buf) - 1));
	/* Without all of the structure, or of its ranges */
	ASSERT_EQ(-EFAULT, feature_at_end(self, get, sizeof(good), &good,
					  sizeof(good.dma_buf) - 4));
	ASSERT_EQ(-EFAULT, feature_at_end(self, get, sizeof(good), &good,
					  sizeof(good) - 4));

	fd = feature(self, get, &good, sizeof(good));
	ASSERT_LE(0, fd);
	close(fd);
}

/* ---- Mappings ---- */

struct vma {
	unsigned long long offset;
	char flags[128];	/* without those of executing and of dirt */
};

static struct vma find_vma(void *addr)
{
	FILE *smaps = fopen("/proc/self/smaps", "r");
	unsigned long start, end;
	struct vma vma = {};
	bool found = false;
	char line[512], *flag;

	VFIO_ASSERT_NOT_NULL(smaps);
	while (fgets(line, sizeof(line), smaps)) {
		if (sscanf(line, "%lx-%lx %*s %llx", &start, &end, &vma.offset) == 3)
			found = start == (unsigned long)addr;
		if (!found || strncmp(line, "VmFlags:", 8))
			continue;
		for (flag = strtok(line + 8, "\n "); flag; flag = strtok(NULL, "\n "))
			if (strcmp(flag, "me") && strcmp(flag, "sd"))
				strcat(strcat(vma.flags, flag), " ");
		break;
	}
	fclose(smaps);
	return vma;
}

/* The last one is VM_ALLOW_ANY_UNCACHED, by which KVM knows such mappings. */
TEST_F(dmabuf, flags)
{
	off_t bar = self->bar->info.offset;
	struct vma vma;
	void *mem;

	mem = map(self->device->fd, page_size, bar);
	ASSERT_NE(MAP_FAILED, mem);
	vma = find_vma(mem);
	ASSERT_EQ(bar, vma.offset);
	ASSERT_STREQ("rd wr sh mr mw ms pf io de dd ?? ", vma.flags);

	if (!self->can_mmap)
		SKIP(return, "the kernel cannot map DMABUFs");
	mem = map(export(self, page_size, 2 * page_size), page_size, page_size);
	ASSERT_NE(MAP_FAILED, mem);
	vma = find_vma(mem);
	ASSERT_EQ(page_size, vma.offset);
	ASSERT_STREQ("rd wr sh mr mw ms pf io de dd ?? ", vma.flags);
}

/* What a mapping of a BAR is, whatever is behind it */
TEST_F(dmabuf, bar)
{
	off_t bar = self->bar->info.offset;
	int fd = self->device->fd;

	ASSERT_EQ(MAP_FAILED, map(fd, self->size + page_size, bar));
	ASSERT_EQ(EINVAL, errno);
	ASSERT_EQ(MAP_FAILED, map(fd, page_size, bar + self->size));
	ASSERT_EQ(EINVAL, errno);
	ASSERT_EQ(MAP_FAILED, mmap(NULL, page_size, PROT_READ, MAP_PRIVATE, fd, bar));
	ASSERT_EQ(EINVAL, errno);

	ASSERT_EQ(1, faults_of(self->mem, page_size));
	set_memory(self, false);
	ASSERT_FALSE(can_read(self->mem));
	set_memory(self, true);
	ASSERT_EQ(1, faults_of(self->mem, page_size));
	ASSERT_EQ(0, faults_of(self->mem, page_size));
	if (page_size == SZ_4K && self->size >= SZ_8M)
		ASSERT_EQ(1, faults_of(map_aligned(fd, SZ_2M, bar + SZ_4M, SZ_2M), SZ_2M));
	if (__vfio_pci_device_reset(self->device) != -EINVAL)
		ASSERT_EQ(1, faults_of(self->mem, page_size));
	if (self->ram) {
		self->mem[5] = 0x5eed;
		ASSERT_EQ(0x5eed, *((u32 *)map(fd, page_size, bar) + 5));
	}
}

TEST_F(dmabuf, contents)
{
	u32 *mem, *other, i;
	int fd;

	if (!self->can_mmap)
		SKIP(return, "the kernel cannot map DMABUFs");
	fd = export(self, 0, self->size);
	mem = map(fd, self->size, 0);
	ASSERT_NE(MAP_FAILED, mem);
	ASSERT_TRUE(can_read(mem));

	if (self->ram) {
		for (i = 0; i < self->size / 4; i += page_size / 4)
			mem[i] = i ^ 0x55aa;
		for (i = 0; i < self->size / 4; i += page_size / 4)
			ASSERT_EQ(i ^ 0x55aa, self->mem[i]);
		self->mem[1] = 0x1234567;
		ASSERT_EQ(0x1234567, mem[1]);
	}

	/* The same descriptor once more, and after it is closed */
	other = map(fd, self->size, 0);
	ASSERT_NE(MAP_FAILED, other);
	ASSERT_EQ(0, close(fd));
	ASSERT_TRUE(can_read(other));
	ASSERT_EQ(0, munmap(mem, self->size));
	ASSERT_TRUE(can_read(other));
	if (self->ram)
		ASSERT_EQ(0x1234567, other[1]);
	ASSERT_EQ(0, munmap(other, self->size));
}

TEST_F(dmabuf, bounds)
{
	int fd;

	if (!self->can_mmap)
		SKIP(return, "the kernel cannot map DMABUFs");
	fd = export(self, page_size, 4 * page_size);

	ASSERT_EQ(MAP_FAILED, map(fd, 5 * page_size, 0));
	ASSERT_EQ(EINVAL, errno);
	ASSERT_EQ(MAP_FAILED, map(fd, 4 * page_size, page_size));
	ASSERT_EQ(EINVAL, errno);
	ASSERT_EQ(MAP_FAILED, map(fd, page_size, 4 * page_size));
	ASSERT_EQ(EINVAL, errno);
	ASSERT_EQ(MAP_FAILED, map(fd, page_size, 1ULL << 40));
	ASSERT_EQ(EINVAL, errno);
	ASSERT_NE(MAP_FAILED, map(fd, page_size, 3 * page_size));
	ASSERT_NE(MAP_FAILED, map(fd, 4 * page_size, 0));
}

TEST_F(dmabuf, private)
{
	int fd;

	if (!self->can_mmap)
		SKIP(return, "the kernel cannot map DMABUFs");
	fd = export(self, 0, page_size);
	ASSERT_EQ(MAP_FAILED, mmap(NULL, page_size, PROT_READ, MAP_PRIVATE, fd, 0));
	ASSERT_EQ(EINVAL, errno);
}

/* What is unmapped is no mapping any more, whatever the DMABUF is. */
TEST_F(dmabuf, unmapped)
{
	int fd, status;
	pid_t pid;
	u32 *mem;

	if (!self->can_mmap)
		SKIP(return, "the kernel cannot map DMABUFs");
	fd = export(self, 0, page_size);
	mem = map(fd, page_size, 0);
	ASSERT_TRUE(can_read(mem));
	ASSERT_EQ(0, munmap(mem, page_size));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		signal(SIGSEGV, SIG_DFL);
		READ_ONCE(*mem);
		_exit(0);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	ASSERT_TRUE(WIFSIGNALED(status));
	ASSERT_EQ(SIGSEGV, WTERMSIG(status));
}

static bool file_has(const char *path, const char *text)
{
	char line[512];
	bool found = false;
	FILE *file = fopen(path, "r");

	VFIO_ASSERT_NOT_NULL(file, "%s\n", path);
	while (!found && fgets(line, sizeof(line), file))
		found = strstr(line, text);
	fclose(file);
	return found;
}

static bool maps_have(const char *text)
{
	return file_has("/proc/self/maps", text);
}

/* QEMU's pci-testdev has a BAR of a page, with names of tests, and a larger one. */
TEST_F(dmabuf, two_bars)
{
	const char *testdev = find_device(0x1b36, 0x0005);
	const int name = 16;	/* where the name of the test is that was chosen */
	void *mem[3];
	int fd[3], i;

	if (!self->can_revoke)
		SKIP(return, "the kernel cannot revoke DMABUFs");
	if (!testdev)
		SKIP(return, "there is no QEMU pci-testdev");
	close_device(self);
	open_device(self, testdev);
	ASSERT_EQ(2, self->index);
	if (self->device->bars[0].info.size < page_size)
		SKIP(return, "a page is larger than the BAR");
	fd[0] = vfio_pci_dma_buf_export(self->device, 0, 0, page_size);
	/* The first page of the last one is the other's second. */
	fd[1] = export(self, 3 * page_size, 2 * page_size);
	fd[2] = export(self, 4 * page_size, 2 * page_size);
	for (i = 0; i < 3; i++) {
		mem[i] = map(fd[i], page_size, i == 1 ? page_size : 0);
		ASSERT_NE(MAP_FAILED, mem[i]);
		ASSERT_TRUE(can_read(mem[i]));
	}
	WRITE_ONCE(*(u8 *)self->device->bars[0].vaddr, 0);
	ASSERT_EQ('m', READ_ONCE(*(u8 *)(mem[0] + name)));
	ASSERT_NE('m', READ_ONCE(*(u8 *)(mem[1] + name)));
	ASSERT_TRUE(maps_have("/bar0\n"));
	ASSERT_TRUE(maps_have("/bar2\n"));
	ASSERT_EQ(0, revoke_dmabuf(self, fd[0]));
	ASSERT_FALSE(can_read(mem[0]));
	ASSERT_EQ(0, faults_of(mem[1], page_size));
	ASSERT_EQ(0, faults_of(mem[2], page_size));
	ASSERT_EQ(0, revoke_dmabuf(self, fd[1]));
	ASSERT_FALSE(can_read(mem[1]));
	ASSERT_EQ(0, faults_of(mem[2], page_size));
}

/* DMABUFs that share some of the BAR */
TEST_F(dmabuf, aliases)
{
	const size_t page = page_size / 4, half = self->size / 2;
	u32 *mem[2];
	int fd[2], i;

	if (!self->can_mmap)
		SKIP(return, "the kernel cannot map DMABUFs");
	for (i = 0; i < 2; i++) {
		fd[i] = export(self, half + i * page_size, 2 * page_size);
		mem[i] = map(fd[i], 2 * page_size, 0);
		ASSERT_NE(MAP_FAILED, mem[i]);
		ASSERT_TRUE(can_read(mem[i]));
		ASSERT_TRUE(can_read(mem[i] + page));
	}
	if (self->ram) {
		mem[0][page] = 0xa11a5;
		ASSERT_EQ(0xa11a5, mem[1][0]);
		ASSERT_EQ(0xa11a5, self->mem[half / 4 + page]);
	}
	if (self->can_revoke) {
		ASSERT_EQ(0, revoke_dmabuf(self, fd[0]));
		ASSERT_FALSE(can_read(mem[0] + page));
		ASSERT_EQ(0, faults_of(mem[1], 2 * page_size));
	}
}

TEST_F(dmabuf, access_modes)
{
	struct vfio_region_dma_range range = { .length = page_size };
	void *mem;
	int fd;

	if (!self->can_mmap)
		SKIP(return, "the kernel cannot map DMABUFs");
	fd = __vfio_pci_dma_buf_export(self->device, self->index, O_RDONLY, &range, 1);
	ASSERT_LE(0, fd);
	ASSERT_EQ(MAP_FAILED, map(fd, page_size, 0));
	ASSERT_EQ(EACCES, errno);
	mem = mmap(NULL, page_size, PROT_READ, MAP_SHARED, fd, 0);
	ASSERT_NE(MAP_FAILED, mem);
	ASSERT_TRUE(can_read(mem));
	ASSERT_EQ(-1, mprotect(mem, page_size, PROT_READ | PROT_WRITE));
	ASSERT_EQ(EACCES, errno);
}

TEST_F(dmabuf, name)
{
	char name[64];

	if (!self->can_mmap)
		SKIP(return, "the kernel cannot map DMABUFs");
	snprintf(name, sizeof(name), ":%s/bar%d\n", self->bdf, self->index);
	ASSERT_TRUE(maps_have(name));
	ASSERT_EQ(0, munmap(self->mem, self->size));
	self->bar->vaddr = NULL;
	ASSERT_FALSE(maps_have(name));
	ASSERT_NE(MAP_FAILED, map(export(self, 0, page_size), page_size, 0));
	ASSERT_TRUE(maps_have(name));
}

static bool is_mapped(void *addr)
{
	unsigned char present;

	return !mincore(addr, page_size, &present) || errno != ENOMEM;
}

/* Its offset is not that of the device file. What was there is not any more. */
TEST_F(dmabuf, remap_file_pages)
{
	void *mem;

	if (!self->can_mmap)
		SKIP(return, "the kernel cannot map DMABUFs");
	ASSERT_TRUE(is_mapped(self->mem));
	ASSERT_EQ(-1, remap_file_pages(self->mem, page_size, 0, 0, 0));
	ASSERT_EQ(EINVAL, errno);
	ASSERT_FALSE(is_mapped(self->mem));

	mem = map(export(self, page_size, page_size), page_size, 0);
	ASSERT_NE(MAP_FAILED, mem);
	ASSERT_EQ(-1, remap_file_pages(mem, page_size, 0, 1, 0));
	ASSERT_EQ(EINVAL, errno);
	ASSERT_FALSE(is_mapped(mem));
}

TEST_F(dmabuf, ranges)
{
	struct vfio_region_dma_range ranges[3] = {
		{ .offset = self->size / 2, .length = 2 * page_size },
		{ .offset = 0, .length = page_size },
		{ .offset = self->size - page_size, .length = page_size },
	};
	size_t page = page_size / 4;
	u32 *mem;
	int fd;

	if (!self->can_mmap)
		SKIP(return, "the kernel cannot map DMABUFs");
	fd = __vfio_pci_dma_buf_export(self->device, self->index, O_RDWR, ranges, 3);
	ASSERT_LE(0, fd);
	mem = map(fd, 4 * page_size, 0);
	ASSERT_NE(MAP_FAILED, mem);
	ASSERT_TRUE(can_read(mem));
	if (!self->ram)
		return;

	mem[0] = 1;
	mem[page] = 2;
	mem[2 * page] = 3;
	mem[4 * page - 1] = 4;
	ASSERT_EQ(1, self->mem[self->size / 8]);
	ASSERT_EQ(2, self->mem[self->size / 8 + page]);
	ASSERT_EQ(3, self->mem[0]);
	ASSERT_EQ(4, self->mem[self->size / 4 - 1]);

	/* With an offset that begins in the middle */
	mem = map(fd, 2 * page_size, 2 * page_size);
	ASSERT_NE(MAP_FAILED, mem);
	ASSERT_EQ(3, mem[0]);
	ASSERT_EQ(4, mem[2 * page - 1]);
}

TEST_F(dmabuf, many_ranges)
{
	struct vfio_region_dma_range ranges[1024];
	u32 *mem, i, page = page_size / 4;
	int fd;

	if (!self->can_mmap)
		SKIP(return, "the kernel cannot map DMABUFs");
	if (!self->ram || self->size < 2048 * page_size)
		SKIP(return, "the BAR is too small, or no memory");

	/* Backwards, every other page */
	for (i = 0; i < 1024; i++) {
		ranges[i].offset = (2046 - 2 * i) * page_size;
		ranges[i].length = page_size;
	}
	fd = __vfio_pci_dma_buf_export(self->device, self->index, O_RDWR, ranges, 1024);
	ASSERT_LE(0, fd);
	mem = map(fd, 1024 * page_size, 0);
	ASSERT_NE(MAP_FAILED, mem);
	for (i = 0; i < 1024; i++)
		mem[i * page] = i + 7;
	for (i = 0; i < 1024; i++)
		ASSERT_EQ(i + 7, self->mem[(2046 - 2 * i) * page]);
}

/* ---- How much a fault maps ---- */

TEST_F(dmabuf, huge_pages)
{
	struct vfio_region_dma_range halves[2] = {
		{ .offset = SZ_2M, .length = SZ_1M },
		{ .offset = SZ_2M + SZ_1M, .length = SZ_1M },
	};
	struct vfio_region_dma_range apart[2] = {
		{ .offset = SZ_2M, .length = SZ_1M },
		{ .offset = SZ_4M, .length = SZ_1M },
	};
	long pages = SZ_1M / page_size;
	int fd;

	if (!self->can_mmap)
		SKIP(return, "the kernel cannot map DMABUFs");
	if (page_size != SZ_4K || self->size < SZ_16M)
		SKIP(return, "the BAR is too small, or the pages are large");

	/* By the device file, as ever */
	ASSERT_EQ(1, faults_of(map_aligned(self->device->fd, SZ_2M,
					   self->bar->info.offset + SZ_4M, SZ_2M),
			       SZ_2M));
	/* Some of the BAR, and an offset into that */
	fd = export(self, SZ_2M, SZ_8M);
	ASSERT_EQ(4, faults_of(map_aligned(fd, SZ_8M, 0, SZ_2M), SZ_8M));
	ASSERT_EQ(1, faults_of(map_aligned(fd, SZ_2M, SZ_4M, SZ_2M), SZ_2M));
	ASSERT_EQ(SZ_2M / page_size / FAULT_AROUND + 1,
		  faults_of(map_aligned(fd, SZ_2M, SZ_1M, SZ_2M), SZ_2M));
	/* Two ranges, which follow each other or do not */
	fd = __vfio_pci_dma_buf_export(self->device, self->index, O_RDWR, halves, 2);
	ASSERT_LE(0, fd);
	ASSERT_EQ(1, faults_of(map_aligned(fd, SZ_2M, 0, SZ_2M), SZ_2M));
	fd = __vfio_pci_dma_buf_export(self->device, self->index, O_RDWR, apart, 2);
	ASSERT_LE(0, fd);
	ASSERT_EQ(2 * pages / FAULT_AROUND + 1,
		  faults_of(map_aligned(fd, SZ_2M, 0, SZ_2M), SZ_2M));
	/* Some that is far into the BAR, at an address that is aligned as much */
	if (self->size >= SZ_64M)
		ASSERT_EQ(2, faults_of(map_aligned(export(self, SZ_32M, SZ_4M), SZ_4M, 0, SZ_32M),
				       SZ_4M));
}

/* What is mapped anew after that is read-only, until a write faults. */
TEST_F(dmabuf, write_after_clear_refs)
{
	int clear_refs = open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC);
	u32 *mem;

	if (!self->ram || self->size < SZ_2M)
		SKIP(return, "the BAR is not memory, or too small");
	mem = map_aligned(self->device->fd, SZ_2M, self->bar->info.offset, SZ_2M);
	/* Unless the kernel has no soft-dirty bits, a mapping begins with one. */
	if (clear_refs < 0 || !file_has("/proc/self/smaps", " sd "))
		SKIP(return, "the kernel has no soft-dirty bits");
	ASSERT_EQ(1, write(clear_refs, "4", 1));
	mem[0] = 0x50f7;
	ASSERT_EQ(0x50f7, self->mem[0]);
	set_memory(self, false);
	set_memory(self, true);
	ASSERT_EQ(0x50f7, mem[0]);
	mem[1] = 0xd187;
	ASSERT_EQ(0xd187, self->mem[1]);
}

/* Windows that the VMA cuts off, or in which a page is there already */
TEST_F(dmabuf, fault_around)
{
	struct vfio_region_dma_range ranges[2] = {
		{ .offset = 5 * page_size, .length = 3 * page_size },
		{ .offset = 0, .length = 29 * page_size },
	};
	void *mem;
	int fd;

	if (!self->can_mmap)
		SKIP(return, "the kernel cannot map DMABUFs");
	if (self->size < 64 * page_size)
		SKIP(return, "the BAR is too small");

	fd = __vfio_pci_dma_buf_export(self->device, self->index, O_RDWR, ranges, 2);
	ASSERT_LE(0, fd);
	mem = map_aligned(fd, 32 * page_size, 0, 64 * page_size);
	/* A single access maps a page, the second of two in order many. */
	ASSERT_TRUE(can_read(mem + 7 * page_size));
	ASSERT_EQ(1, faults_of(mem + 9 * page_size, page_size));
	ASSERT_EQ(3, faults_of(mem, 32 * page_size));

	mem = map_aligned(fd, 32 * page_size, 0, 64 * page_size);
	ASSERT_EQ(0, munmap(mem + 3 * page_size, page_size));
	ASSERT_EQ(2, faults_of(mem, 3 * page_size));
	ASSERT_EQ(3, faults_of(mem + 4 * page_size, 28 * page_size));

	mem = map_aligned(fd, page_size, 31 * page_size, page_size);
	ASSERT_EQ(1, faults_of(mem, page_size));
}

TEST_F(dmabuf, split_and_move)
{
	u32 *mem, *moved, page = page_size / 4, i;
	int fd;

	if (!self->can_mmap)
		SKIP(return, "the kernel cannot map DMABUFs");
	if (!self->ram)
		SKIP(return, "the BAR is no memory");

	for (i = 0; i < 8; i++)
		self->mem[(i + 3) * page] = 100 + i;
	fd = export(self, 3 * page_size, 8 * page_size);
	mem = map(fd, 8 * page_size, 0);
	ASSERT_NE(MAP_FAILED, mem);
	ASSERT_EQ(0, munmap(mem + 2 * page, page_size));
	ASSERT_EQ(0, mprotect(mem + 5 * page, page_size, PROT_READ));
	for (i = 0; i < 8; i++)
		if (i != 2)
			ASSERT_EQ(100 + i, mem[i * page]);

	moved = mremap(mem + 6 * page, page_size, page_size, MREMAP_MAYMOVE |
		       MREMAP_FIXED, mem + 2 * page);
	ASSERT_NE(MAP_FAILED, moved);
	ASSERT_EQ(106, moved[0]);
	/* Neither larger nor a second time */
	ASSERT_EQ(MAP_FAILED, mremap(moved, page_size, 2 * page_size, MREMAP_MAYMOVE));
	ASSERT_EQ(MAP_FAILED, mremap(moved, 0, page_size, MREMAP_MAYMOVE));

	/* And the device file's mapping */
	ASSERT_EQ(0, munmap(self->mem + page, page_size));
	ASSERT_EQ(100, self->mem[3 * page]);
	moved = mremap(self->mem + 4 * page, page_size, page_size, MREMAP_MAYMOVE |
		       MREMAP_FIXED, self->mem + page);
	ASSERT_NE(MAP_FAILED, moved);
	ASSERT_EQ(101, moved[0]);

	if (self->can_revoke) {
		ASSERT_EQ(0, revoke_dmabuf(self, fd));
		ASSERT_FALSE(can_read(mem));
		ASSERT_FALSE(can_read(mem + 2 * page));
		ASSERT_FALSE(can_read(mem + 7 * page));
		ASSERT_TRUE(can_read(moved));
	}
}

/* ---- What suspends DMABUFs ---- */

/* Nothing can be accessed, but mapped, which works when all works again. */
static void expect_suspended(struct __test_metadata *_metadata,
			     struct _test_data_dmabuf *self, int fd, void *mem)
{
	void *late = map(fd, page_size, 0);
	void *late_bar = map(self->device->fd, page_size, self->bar->info.offset);

	ASSERT_NE(MAP_FAILED, late);
	ASSERT_NE(MAP_FAILED, late_bar);
	ASSERT_FALSE(can_read(mem));
	ASSERT_FALSE(can_read(late));
	ASSERT_FALSE(can_read(late_bar));
	ASSERT_FALSE(can_read(self->mem));
}

static void expect_usable(struct __test_metadata *_metadata,
			  struct _test_data_dmabuf *self, int fd, void *mem)
{
	ASSERT_TRUE(can_read(mem));
	ASSERT_TRUE(can_read(self->mem));
	ASSERT_TRUE(can_read(map(fd, page_size, 0)));
}

TEST_F(dmabuf, memory_decode)
{
	void *mem, *late;
	int fd, i;

	if (!self->can_mmap)
		SKIP(return, "the kernel cannot map DMABUFs");
	fd = export(self, 0, page_size);
	mem = map(fd, page_size, 0);
	ASSERT_NE(MAP_FAILED, mem);

	for (i = 0; i < 3; i++) {
		expect_usable(_metadata, self, fd, mem);
		set_memory(self, false);
		expect_suspended(_metadata, self, fd, mem);
		late = map(fd, page_size, 0);
		/* Exported in this state */
		ASSERT_FALSE(can_read(map(export(self, 0, page_size), page_size, 0)));
		set_memory(self, true);
		ASSERT_TRUE(can_read(late));
	}
}

TEST_F(dmabuf, reset)
{
	void *mem, *large;
	int fd;

	if (!self->can_mmap)
		SKIP(return, "the kernel cannot map DMABUFs");
	fd = export(self, 0, page_size);
	mem = map(fd, page_size, 0);
	large = map(export(self, 0, self->size), self->size, 0);
	ASSERT_TRUE(can_read(large));
	expect_usable(_metadata, self, fd, mem);
	if (__vfio_pci_device_reset(self->device) == -EINVAL)
		SKIP(return, "the device cannot be reset");

	/* The mappings are gone, and come back. */
	ASSERT_EQ(1, faults_of(mem, page_size));
	ASSERT_EQ(1, faults_of(self->mem, page_size));
	expect_usable(_metadata, self, fd, mem);
	ASSERT_TRUE(can_read(large));

	/* A reset does not switch memory decode on. */
	set_memory(self, false);
	vfio_pci_device_reset(self->device);
	expect_suspended(_metadata, self, fd, mem);
	set_memory(self, true);
	expect_usable(_metadata, self, fd, mem);
}

static int hot_reset(struct vfio_pci_device *device)
{
	struct vfio_pci_hot_reset reset = { .argsz = sizeof(reset) };

	return ioctl(device->fd, VFIO_DEVICE_PCI_HOT_RESET, &reset);
}

TEST_F(dmabuf, hot_reset)
{
	void *mem;
	int fd;

	if (!self->can_mmap)
		SKIP(return, "the kernel cannot map DMABUFs");
	fd = export(self, 0, page_size);
	mem = map(fd, page_size, 0);
	expect_usable(_metadata, self, fd, mem);
	if (hot_reset(self->device)) {
		ASSERT_EQ(ENODEV, errno);
		SKIP(return, "no hot reset");
	}
	ASSERT_EQ(1, faults_of(mem, page_size));
	ASSERT_EQ(1, faults_of(self->mem, page_size));
}

/* Two functions of the command line that are one device, reset together. */
static bool find_functions(const char *functions[2])
{
	int i, j;

	for (i = 0; i < nr_bdfs; i++)
		for (j = i + 1; j < nr_bdfs; j++)
			if (!strncmp(bdfs[i], bdfs[j], strlen("0000:00:00"))) {
				functions[0] = bdfs[i];
				functions[1] = bdfs[j];
				return true;
			}

	return false;
}

TEST_F(dmabuf, hot_reset_of_two)
{
	struct vfio_pci_device *devices[2];
	const char *functions[2];
	void *mem[2];
	int i, index, fd;

	if (!self->can_mmap)
		SKIP(return, "the kernel cannot map DMABUFs");
	if (!find_functions(functions))
		SKIP(return, "no device with two functions");

	for (i = 0; i < 2; i++) {
		devices[i] = vfio_pci_device_init(functions[i], self->iommu);
		index = largest_bar(devices[i]);
		ASSERT_LE(0, index);
		fd = vfio_pci_dma_buf_export(devices[i], index, 0, page_size);
		mem[i] = map(fd, page_size, 0);
		ASSERT_TRUE(can_read(mem[i]));
	}
	if (hot_reset(devices[0])) {
		EXPECT_EQ(ENODEV, errno);
		SKIP(goto cleanup, "no hot reset");
	}
	EXPECT_EQ(1, faults_of(mem[0], page_size));
	EXPECT_EQ(1, faults_of(mem[1], page_size));
	EXPECT_EQ(0, faults_of(mem[0], page_size));

	/* What the other function decodes is its own. */
	vfio_pci_cmd_clear(devices[1], PCI_COMMAND_MEMORY);
	EXPECT_EQ(0, hot_reset(devices[0]));
	EXPECT_TRUE(can_read(mem[0]));
	EXPECT_FALSE(can_read(mem[1]));
	vfio_pci_cmd_set(devices[1], PCI_COMMAND_MEMORY);
	EXPECT_TRUE(can_read(mem[1]));

	/* A function that is closed takes part, and what it exported stays dead. */
	vfio_pci_device_cleanup(devices[1]);
	EXPECT_FALSE(can_read(mem[1]));
	EXPECT_EQ(0, hot_reset(devices[0]));
	EXPECT_TRUE(can_read(mem[0]));
	vfio_pci_device_cleanup(devices[0]);
	return;
cleanup:
	vfio_pci_device_cleanup(devices[1]);
	vfio_pci_device_cleanup(devices[0]);
}

static int low_power(struct _test_data_dmabuf *self, bool on)
{
	return __vfio_pci_device_feature(self->device, VFIO_DEVICE_FEATURE_SET |
					 (on ? VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY :
					       VFIO_DEVICE_FEATURE_LOW_POWER_EXIT),
					 NULL, 0);
}

TEST_F(dmabuf, low_power)
{
	void *mem;
	int fd;

	if (!self->can_mmap)
		SKIP(return, "the kernel cannot map DMABUFs");
	fd = export(self, 0, page_size);
	mem = map(fd, page_size, 0);
	expect_usable(_metadata, self, fd, mem);
	if (low_power(self, true) == -ENOTTY)
		SKIP(return, "no low power states");

	expect_suspended(_metadata, self, fd, mem);
	/* Exported, and reset, in this state */
	ASSERT_FALSE(can_read(map(export(self, 0, page_size), page_size, 0)));
	__vfio_pci_device_reset(self->device);
	expect_suspended(_metadata, self, fd, mem);
	ASSERT_EQ(0, low_power(self, false));
	expect_usable(_metadata, self, fd, mem);
}

/* Access the device until this has woken it up: it may be late to fall asleep. */
static void wake_up(struct _test_data_dmabuf *self, int wakeup_eventfd)
{
	struct pollfd event = { .fd = wakeup_eventfd, .events = POLLIN };

	do
		vfio_pci_config_readw(self->device, PCI_VENDOR_ID);
	while (!poll(&event, 1, 10));
}

/* An access to the device wakes it up, which ends low power by itself. */
TEST_F(dmabuf, low_power_wakeup)
{
	struct vfio_device_low_power_entry_with_wakeup entry = {
		.wakeup_eventfd = eventfd(0, 0),
	};
	void *mem;
	int fd, ret;

	if (!self->can_mmap)
		SKIP(return, "the kernel cannot map DMABUFs");
	fd = export(self, 0, page_size);
	mem = map(fd, page_size, 0);
	ret = __vfio_pci_device_feature(self->device, VFIO_DEVICE_FEATURE_SET |
					VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP,
					&entry, sizeof(entry));
	if (ret == -ENOTTY)
		SKIP(return, "no low power states");
	ASSERT_EQ(0, ret);
	expect_suspended(_metadata, self, fd, mem);
	wake_up(self, entry.wakeup_eventfd);
	expect_usable(_metadata, self, fd, mem);
}

static u8 find_capability(struct vfio_pci_device *device, u8 id)
{
	u8 pos = vfio_pci_config_readb(device, PCI_CAPABILITY_LIST);

	while (pos && vfio_pci_config_readb(device, pos) != id)
		pos = vfio_pci_config_readb(device, pos + PCI_CAP_LIST_NEXT);
	return pos;
}

static void set_d_state(struct _test_data_dmabuf *self, u8 pm, u16 state)
{
	vfio_pci_config_writew(self->device, pm + PCI_PM_CTRL, state);
}

/* ---- Devices with less memory, but with D3 and a reset of the function ---- */

TEST_F(dmabuf, d3)
{
	const char *nvme = find_device(0x1b36, 0x0010);
	void *mem;
	u8 pm;
	int fd;

	if (!self->can_mmap)
		SKIP(return, "the kernel cannot map DMABUFs");
	if (!nvme)
		SKIP(return, "there is no QEMU nvme");
	close_device(self);
	open_device(self, nvme);
	pm = find_capability(self->device, PCI_CAP_ID_PM);
	if (!pm)
		SKIP(return, "%s has no D3", nvme);

	fd = export(self, 0, page_size);
	mem = map(fd, page_size, 0);
	expect_usable(_metadata, self, fd, mem);
	set_d_state(self, pm, 3);
	expect_suspended(_metadata, self, fd, mem);
	set_d_state(self, pm, 0);
	expect_usable(_metadata, self, fd, mem);

	/* A reset brings it back as well. */
	set_d_state(self, pm, 3);
	vfio_pci_device_reset(self->device);
	expect_usable(_metadata, self, fd, mem);
}

/* A reset of the function that is asked for in its PCI Express capability. */
TEST_F(dmabuf, flr)
{
	const char *nvme = find_device(0x1b36, 0x0010);
	void *mem;
	int fd;
	u8 exp;

	if (!self->can_mmap)
		SKIP(return, "the kernel cannot map DMABUFs");
	if (!nvme)
		SKIP(return, "there is no QEMU nvme");
	close_device(self);
	open_device(self, nvme);
	exp = find_capability(self->device, PCI_CAP_ID_EXP);
	if (!exp || !(vfio_pci_config_readl(self->device, exp + PCI_EXP_DEVCAP) &
		      PCI_EXP_DEVCAP_FLR))
		SKIP(return, "%s has no FLR", nvme);

	fd = export(self, 0, page_size);
	mem = map(fd, page_size, 0);
	expect_usable(_metadata, self, fd, mem);
	vfio_pci_config_writew(self->device, exp + PCI_EXP_DEVCTL,
			       PCI_EXP_DEVCTL_BCR_FLR);
	ASSERT_EQ(1, faults_of(mem, page_size));
	ASSERT_EQ(1, faults_of(self->mem, page_size));
	expect_usable(_metadata, self, fd, mem);
}

/* ---- Revocation ---- */

TEST_F(dmabuf, revoke)
{
	void *mem, *again;
	int fd;

	if (!self->can_revoke)
		SKIP(return, "the kernel cannot revoke DMABUFs");
	fd = export(self, 0, self->size);
	mem = map(fd, self->size, 0);
	ASSERT_TRUE(can_read(mem));
	ASSERT_TRUE(can_read(mem + self->size - page_size));

	ASSERT_EQ(0, revoke_dmabuf(self, fd));
	ASSERT_FALSE(can_read(mem));
	ASSERT_FALSE(can_read(mem + self->size - page_size));
	ASSERT_EQ(MAP_FAILED, map(fd, page_size, 0));
	ASSERT_EQ(ENODEV, errno);
	ASSERT_EQ(-EBADFD, revoke_dmabuf(self, fd));
	ASSERT_TRUE(can_read(self->mem));

	/* Whatever happens to the device */
	set_memory(self, false);
	set_memory(self, true);
	__vfio_pci_device_reset(self->device);
	ASSERT_FALSE(can_read(mem));
	ASSERT_EQ(MAP_FAILED, map(fd, page_size, 0));
	ASSERT_EQ(ENODEV, errno);

	/* The range can be exported again, and that is another DMABUF. */
	again = map(export(self, 0, self->size), self->size, 0);
	ASSERT_TRUE(can_read(again));
	ASSERT_FALSE(can_read(mem));
	ASSERT_EQ(-EBADFD, revoke_dmabuf(self, fd));
}

TEST_F(dmabuf, revoke_while_suspended)
{
	void *mem;
	int fd;

	if (!self->can_revoke)
		SKIP(return, "the kernel cannot revoke DMABUFs");
	fd = export(self, 0, page_size);
	mem = map(fd, page_size, 0);
	ASSERT_TRUE(can_read(mem));
	set_memory(self, false);
	ASSERT_EQ(0, revoke_dmabuf(self, fd));
	ASSERT_EQ(-EBADFD, revoke_dmabuf(self, fd));
	set_memory(self, true);
	ASSERT_FALSE(can_read(mem));
	ASSERT_TRUE(can_read(self->mem));
}

/* All other mappings keep their page table entries. */
TEST_F(dmabuf, revoke_one_of_many)
{
	void *mem[32];
	int fd[32], i;

	if (!self->can_revoke)
		SKIP(return, "the kernel cannot revoke DMABUFs");
	for (i = 0; i < 32; i++) {
		fd[i] = export(self, 0, page_size);
		mem[i] = map(fd[i], page_size, 0);
		ASSERT_EQ(1, faults_of(mem[i], page_size));
	}
	ASSERT_TRUE(can_read(self->mem));

	ASSERT_EQ(0, revoke_dmabuf(self, fd[7]));
	ASSERT_FALSE(can_read(mem[7]));
	for (i = 0; i < 32; i++)
		if (i != 7)
			ASSERT_EQ(0, faults_of(mem[i], page_size));
	ASSERT_EQ(0, faults_of(self->mem, page_size));
}

TEST_F(dmabuf, revoke_by_duplicate)
{
	void *mem, *twice;
	int fd, copy;

	if (!self->can_revoke)
		SKIP(return, "the kernel cannot revoke DMABUFs");
	fd = export(self, 0, page_size);
	copy = dup(fd);
	mem = map(fd, page_size, 0);
	twice = map(copy, page_size, 0);
	ASSERT_TRUE(can_read(mem));
	ASSERT_TRUE(can_read(twice));
	ASSERT_EQ(0, close(fd));
	ASSERT_EQ(0, revoke_dmabuf(self, copy));
	ASSERT_FALSE(can_read(mem));
	ASSERT_FALSE(can_read(twice));
}

static int ask(int socket)
{
	char answer = 0;

	VFIO_ASSERT_EQ(write(socket, &answer, 1), 1);
	VFIO_ASSERT_EQ(read(socket, &answer, 1), 1);
	return answer;
}

/* A child with the page table entries of its parent; it answers as client() does. */
static void inheritor(int socket, void *mem)
{
	char answer = can_read(mem);

	do {
		VFIO_ASSERT_EQ(write(socket, &answer, 1), 1);
		if (read(socket, &answer, 1) != 1)
			_exit(0);
		answer = can_read(mem);
	} while (true);
}

TEST_F(dmabuf, fork)
{
	int sockets[2];
	char answer;
	void *mem;
	pid_t pid;
	int fd;

	if (!self->can_revoke)
		SKIP(return, "the kernel cannot revoke DMABUFs");
	fd = export(self, 0, page_size);
	mem = map(fd, page_size, 0);
	ASSERT_TRUE(can_read(mem));
	ASSERT_TRUE(in_child(child_reads, mem));

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, sockets));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		close(sockets[0]);
		inheritor(sockets[1], mem);
	}
	close(sockets[1]);
	ASSERT_EQ(1, read(sockets[0], &answer, 1));
	ASSERT_EQ(1, answer);
	ASSERT_EQ(0, revoke_dmabuf(self, fd));
	ASSERT_EQ(0, ask(sockets[0]));
	ASSERT_EQ(0, close(sockets[0]));
	ASSERT_EQ(pid, waitpid(pid, NULL, 0));

	ASSERT_FALSE(in_child(child_reads, mem));
	ASSERT_TRUE(in_child(child_reads, self->mem));
}

static void send_fd(int socket, int fd)
{
	char control[CMSG_SPACE(sizeof(fd))] = {};
	struct iovec byte = { .iov_base = "", .iov_len = 1 };
	struct msghdr msg = {
		.msg_iov = &byte, .msg_iovlen = 1,
		.msg_control = control, .msg_controllen = sizeof(control),
	};
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);

	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(sizeof(fd));
	memcpy(CMSG_DATA(cmsg), &fd, sizeof(fd));
	VFIO_ASSERT_EQ(sendmsg(socket, &msg, 0), 1);
}

static int receive_fd(int socket)
{
	char control[CMSG_SPACE(sizeof(int))], data;
	struct iovec byte = { .iov_base = &data, .iov_len = 1 };
	struct msghdr msg = {
		.msg_iov = &byte, .msg_iovlen = 1,
		.msg_control = control, .msg_controllen = sizeof(control),
	};
	int fd;

	VFIO_ASSERT_EQ(recvmsg(socket, &msg, 0), 1);
	VFIO_ASSERT_NOT_NULL(CMSG_FIRSTHDR(&msg));
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(fd));
	return fd;
}

/*
 * A client: it gets a descriptor, maps it, and answers each byte by whether it can
 * read, and map, what it got.
 */
static void client(int socket)
{
	int fd = receive_fd(socket);
	void *mem = map(fd, page_size, 0);
	char answer = mem != MAP_FAILED && can_read(mem);

	do {
		VFIO_ASSERT_EQ(write(socket, &answer, 1), 1);
		if (read(socket, &answer, 1) != 1)
			_exit(0);
		answer = can_read(mem) | (map(fd, page_size, 0) != MAP_FAILED) << 1;
	} while (true);
}

static int start_client(void)
{
	int sockets[2];

	VFIO_ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets), 0);
	if (!fork()) {
		close(sockets[0]);
		client(sockets[1]);
	}
	close(sockets[1]);
	return sockets[0];
}

TEST_F(dmabuf, client)
{
	int socket = -1, fd, other;
	char answer;

	if (!self->can_revoke)
		SKIP(return, "the kernel cannot revoke DMABUFs");

	/* A process that has nothing but what it is given */
	close_device(self);
	socket = start_client();
	open_device(self, bdfs[0]);

	fd = export(self, 0, page_size);
	other = export(self, 0, page_size);
	ASSERT_TRUE(can_read(map(other, page_size, 0)));
	send_fd(socket, fd);
	ASSERT_EQ(1, read(socket, &answer, 1));
	ASSERT_EQ(1, answer);
	ASSERT_EQ(3, ask(socket));
	ASSERT_EQ(0, revoke_dmabuf(self, fd));
	ASSERT_EQ(0, ask(socket));
	vfio_pci_cmd_clear(self->device, PCI_COMMAND_MEMORY);
	vfio_pci_cmd_set(self->device, PCI_COMMAND_MEMORY);
	ASSERT_EQ(0, ask(socket));
	ASSERT_TRUE(can_read(self->mem));
}

/* The one who exports closes the device. */
TEST_F(dmabuf, client_outlives_owner)
{
	int socket, fd;
	char answer;

	if (!self->can_mmap)
		SKIP(return, "the kernel cannot map DMABUFs");
	close_device(self);
	socket = start_client();
	open_device(self, bdfs[0]);

	fd = export(self, 0, page_size);
	send_fd(socket, fd);
	ASSERT_EQ(1, read(socket, &answer, 1));
	ASSERT_EQ(1, answer);
	ASSERT_EQ(0, close(fd));
	close_device(self);
	ASSERT_EQ(0, ask(socket));

	/* The next owner's device is not what the client has. */
	open_device(self, bdfs[0]);
	ASSERT_TRUE(can_read(self->mem));
	ASSERT_EQ(0, ask(socket));
}

/* The one who exports exits, without closing anything. */
TEST_F(dmabuf, client_outlives_process)
{
	struct _test_data_dmabuf owner = {};
	int socket, status;
	char answer;
	pid_t pid;

	if (!self->can_mmap)
		SKIP(return, "the kernel cannot map DMABUFs");
	close_device(self);
	socket = start_client();

	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		open_device(&owner, bdfs[0]);
		send_fd(socket, export(&owner, 0, page_size));
		_exit(read(socket, &answer, 1) != 1 || answer != 1);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	ASSERT_EQ(0, status);
	ASSERT_EQ(0, ask(socket));

	open_device(self, bdfs[0]);
	ASSERT_TRUE(can_read(self->mem));
	ASSERT_EQ(0, ask(socket));
}

static int make_udmabuf(void)
{
	struct udmabuf_create create = { .size = page_size };
	int udmabuf = open("/dev/udmabuf", O_RDWR);

	VFIO_ASSERT_GE(udmabuf, 0);
	create.memfd = memfd_create("test", MFD_ALLOW_SEALING);
	VFIO_ASSERT_EQ(ftruncate(create.memfd, page_size), 0);
	VFIO_ASSERT_EQ(fcntl(create.memfd, F_ADD_SEALS, F_SEAL_SHRINK), 0);
	return ioctl(udmabuf, UDMABUF_CREATE, &create);
}

TEST_F(dmabuf, other_exporter)
{
	int fd;

	if (!self->can_revoke)
		SKIP(return, "the kernel cannot revoke DMABUFs");
	if (access("/dev/udmabuf", F_OK))
		SKIP(return, "there is no udmabuf");
	fd = make_udmabuf();
	ASSERT_LE(0, fd);
	ASSERT_EQ(-ENODEV, revoke_dmabuf(self, fd));
	ASSERT_EQ(-ENODEV, __vfio_pci_dma_buf_memattr(self->device, fd,
						      VFIO_DMA_BUF_MEMATTR_NC));
	ASSERT_NE(MAP_FAILED, map(fd, page_size, 0));
}

TEST_F(dmabuf, revoke_errors)
{
	struct vfio_device_feature_dma_buf_revoke arg = {};
	u32 set = VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_DMA_BUF_REVOKE;
	u32 get = VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_DMA_BUF_REVOKE;
	int fd;

	if (!self->can_revoke)
		SKIP(return, "the kernel cannot revoke DMABUFs");
	fd = export(self, 0, page_size);
	arg.dmabuf_fd = fd;

	ASSERT_EQ(0, feature(self, VFIO_DEVICE_FEATURE_PROBE | set, NULL, 0));
	ASSERT_EQ(-EINVAL, feature(self, get, &arg, sizeof(arg)));
	ASSERT_EQ(-EINVAL, feature(self, set | get, &arg, sizeof(arg)));
	ASSERT_EQ(-EINVAL, feature(self, VFIO_DEVICE_FEATURE_PROBE | get, NULL, 0));
	ASSERT_EQ(-EINVAL, feature(self, VFIO_DEVICE_FEATURE_DMA_BUF_REVOKE,
				   &arg, sizeof(arg)));
	for (int bit = 19; bit < 32; bit++)
		ASSERT_EQ(-EINVAL, feature(self, set | 1U << bit, &arg, sizeof(arg)));
	ASSERT_EQ(-EINVAL, feature(self, set, &arg, 7));

	for (int bit = 0; bit < 32; bit++) {
		arg.reserved = 1U << bit;
		ASSERT_EQ(-EINVAL, feature(self, set, &arg, sizeof(arg)));
	}

	ASSERT_EQ(-EFAULT, feature_at_end(self, set, sizeof(arg), &arg, 0));
	ASSERT_EQ(-EBADF, revoke_dmabuf(self, -1));
	ASSERT_EQ(-EBADF, revoke_dmabuf(self, 1000));
	ASSERT_EQ(-EINVAL, revoke_dmabuf(self, self->device->fd));
	ASSERT_EQ(-EBADF, revoke_dmabuf(self, open("/proc/self/fd/0", O_PATH)));

	ASSERT_EQ(-EINVAL, revoke_dmabuf(self, memfd_create("test", 0)));

	/* None of them did anything. */
	ASSERT_TRUE(can_read(map(fd, page_size, 0)));
	ASSERT_EQ(0, revoke_dmabuf(self, fd));
	ASSERT_EQ(-EBADFD, revoke_dmabuf(self, fd));
}

/* DMABUFs of another device, and of a time before */
TEST_F(dmabuf, revoke_others)
{
	struct _test_data_dmabuf other = {};
	void *mem;
	int fd;

	if (!self->can_revoke)
		SKIP(return, "the kernel cannot revoke DMABUFs");
	if (nr_bdfs < 2)
		SKIP(return, "there is no second device");

	open_device(&other, bdfs[1]);
	fd = export(&other, 0, page_size);
	mem = map(fd, page_size, 0);
	ASSERT_TRUE(can_read(mem));
	ASSERT_EQ(-ENODEV, revoke_dmabuf(self, fd));
	ASSERT_EQ(-ENODEV, __vfio_pci_dma_buf_memattr(self->device, fd,
						      VFIO_DMA_BUF_MEMATTR_NC));
	ASSERT_TRUE(can_read(mem));
	close_device(&other);

	fd = export(self, 0, page_size);
	mem = map(fd, page_size, 0);
	ASSERT_TRUE(can_read(mem));
	close_device(self);
	ASSERT_FALSE(can_read(mem));
	ASSERT_EQ(MAP_FAILED, map(fd, page_size, 0));
	ASSERT_EQ(ENODEV, errno);

	open_device(self, bdfs[0]);
	ASSERT_EQ(-ENODEV, revoke_dmabuf(self, fd));
	ASSERT_EQ(-ENODEV, __vfio_pci_dma_buf_memattr(self->device, fd,
						      VFIO_DMA_BUF_MEMATTR_NC));
	ASSERT_FALSE(can_read(mem));
	ASSERT_EQ(MAP_FAILED, map(fd, page_size, 0));
}

/* ---- Memory attributes ---- */

TEST_F(dmabuf, memattr_errors)
{
	struct vfio_device_feature_dma_buf_memattr arg = {};
	u32 set = VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_DMA_BUF_MEMATTR;
	u32 get = VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_DMA_BUF_MEMATTR;
	int fd;

	if (!self->can_revoke)
		SKIP(return, "the kernel cannot revoke DMABUFs");
	fd = export(self, 0, page_size);
	arg.dmabuf_fd = fd;

	ASSERT_EQ(0, feature(self, VFIO_DEVICE_FEATURE_PROBE | set, NULL, 0));
	ASSERT_EQ(-EINVAL, feature(self, get, &arg, sizeof(arg)));
	ASSERT_EQ(-EINVAL, feature(self, set | get, &arg, sizeof(arg)));
	ASSERT_EQ(-EINVAL, feature(self, VFIO_DEVICE_FEATURE_PROBE | get, NULL, 0));
	ASSERT_EQ(-EINVAL, feature(self, VFIO_DEVICE_FEATURE_DMA_BUF_MEMATTR,
				   &arg, sizeof(arg)));
	for (int bit = 19; bit < 32; bit++)
		ASSERT_EQ(-EINVAL, feature(self, set | 1U << bit, &arg, sizeof(arg)));
	ASSERT_EQ(-EINVAL, feature(self, set, &arg, 7));
	ASSERT_EQ(-ENOENT, __vfio_pci_dma_buf_memattr(self->device, fd, 2));
	for (int bit = 1; bit < 32; bit++)
		ASSERT_EQ(-ENOENT, __vfio_pci_dma_buf_memattr(self->device, fd,
							      1U << bit));
	ASSERT_EQ(-EBADF, __vfio_pci_dma_buf_memattr(self->device, -1, 0));
	ASSERT_EQ(-EINVAL, __vfio_pci_dma_buf_memattr(self->device,
						      self->device->fd, 0));
	ASSERT_EQ(-EFAULT, feature_at_end(self, set, sizeof(arg), &arg, 0));
	ASSERT_EQ(0, __vfio_pci_dma_buf_memattr(self->device, fd,
						VFIO_DMA_BUF_MEMATTR_NC));
	ASSERT_EQ(0, revoke_dmabuf(self, fd));
	ASSERT_EQ(-EBADFD, __vfio_pci_dma_buf_memattr(self->device, fd,
						      VFIO_DMA_BUF_MEMATTR_NC));
}

TEST_F(dmabuf, write_combine)
{
	u32 *nc, *wc;
	int fd, ret;

	if (!self->can_revoke)
		SKIP(return, "the kernel cannot revoke DMABUFs");
	fd = export(self, 0, page_size);
	nc = map(fd, page_size, 0);
	ret = __vfio_pci_dma_buf_memattr(self->device, fd, VFIO_DMA_BUF_MEMATTR_WC);
#if defined(__x86_64__)
	ASSERT_EQ(-EOPNOTSUPP, ret);
	return;
#endif
	ASSERT_EQ(0, ret);
	wc = map(fd, page_size, 0);
	ASSERT_NE(MAP_FAILED, wc);
	ASSERT_TRUE(can_read(nc));
	ASSERT_TRUE(can_read(wc));
	if (self->ram) {
		wc[3] = 0xabcd;
		__sync_synchronize();
		ASSERT_EQ(0xabcd, nc[3]);
	}
	ASSERT_EQ(0, revoke_dmabuf(self, fd));
	ASSERT_FALSE(can_read(nc));
	ASSERT_FALSE(can_read(wc));
}

/* ---- Importers ---- */

static int iommufd_map_dmabuf(struct iommu *iommu, int fd, u64 iova, u64 length)
{
	struct iommu_ioas_map_file map = {
		.size = sizeof(map),
		.flags = IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_WRITEABLE |
			 IOMMU_IOAS_MAP_READABLE,
		.ioas_id = iommu->ioas_id,
		.fd = fd,
		.length = length,
		.iova = iova,
	};

	return ioctl(iommu->iommufd, IOMMU_IOAS_MAP_FILE, &map) ? -errno : 0;
}

TEST_F(dmabuf, iommufd)
{
	struct vfio_region_dma_range halves[2] = {
		{ .offset = 0, .length = page_size },
		{ .offset = page_size, .length = page_size },
	};
	struct vfio_region_dma_range apart[2] = {
		{ .offset = 0, .length = page_size },
		{ .offset = 2 * page_size, .length = page_size },
	};
	int fd, merged, two;

	if (!self->can_revoke)
		SKIP(return, "the kernel cannot revoke DMABUFs");
	fd = export(self, 0, 2 * page_size);
	ASSERT_EQ(0, iommufd_map_dmabuf(self->iommu, fd, 16 * page_size, page_size));

	set_memory(self, false);
	ASSERT_EQ(-ENODEV, iommufd_map_dmabuf(self->iommu, fd, 32 * page_size, page_size));
	set_memory(self, true);
	ASSERT_EQ(0, iommufd_map_dmabuf(self->iommu, fd, 32 * page_size, page_size));

	ASSERT_EQ(0, revoke_dmabuf(self, fd));
	ASSERT_EQ(-ENODEV, iommufd_map_dmabuf(self->iommu, fd, 48 * page_size, page_size));

	merged = __vfio_pci_dma_buf_export(self->device, self->index, O_RDWR, halves, 2);
	ASSERT_LE(0, merged);
	ASSERT_EQ(0, iommufd_map_dmabuf(self->iommu, merged, 64 * page_size,
					2 * page_size));
	two = __vfio_pci_dma_buf_export(self->device, self->index, O_RDWR, apart, 2);
	ASSERT_LE(0, two);
	ASSERT_EQ(-EOPNOTSUPP, iommufd_map_dmabuf(self->iommu, two, 80 * page_size,
						  2 * page_size));
}

/* It cannot be imported in low power, whenever it was exported. */
TEST_F(dmabuf, iommufd_low_power)
{
	struct vfio_device_low_power_entry_with_wakeup entry = {
		.wakeup_eventfd = eventfd(0, 0),
	};
	int fd, late;

	if (!self->can_export)
		SKIP(return, "the kernel cannot export DMABUFs");
	fd = export(self, 0, page_size);
	if (low_power(self, true) == -ENOTTY)
		SKIP(return, "no low power states");
	ASSERT_EQ(-ENODEV, iommufd_map_dmabuf(self->iommu, fd, SZ_1M, page_size));
	late = export(self, 0, page_size);
	ASSERT_EQ(-ENODEV, iommufd_map_dmabuf(self->iommu, late, SZ_1M, page_size));
	__vfio_pci_device_reset(self->device);
	ASSERT_EQ(-ENODEV, iommufd_map_dmabuf(self->iommu, fd, SZ_1M, page_size));
	ASSERT_EQ(0, low_power(self, false));
	ASSERT_EQ(0, iommufd_map_dmabuf(self->iommu, fd, SZ_1M, page_size));

	/* Waking up ends low power by itself. */
	ASSERT_EQ(0, feature(self, VFIO_DEVICE_FEATURE_SET |
			     VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP,
			     &entry, sizeof(entry)));
	ASSERT_EQ(-ENODEV, iommufd_map_dmabuf(self->iommu, fd, SZ_2M, page_size));
	wake_up(self, entry.wakeup_eventfd);
	ASSERT_EQ(0, iommufd_map_dmabuf(self->iommu, late, SZ_2M, page_size));
}

/* QEMU's edu copies between its buffer and memory, here an IOVA. */
#define EDU_BUFFER	0x40000
#define EDU_DMA_SRC	0x80
#define EDU_DMA_DST	0x88
#define EDU_DMA_COUNT	0x90
#define EDU_DMA_CMD	0x98
#define EDU_DMA_RUN	1
#define EDU_DMA_TO_MEM	2

static void edu_dma(struct _test_data_dmabuf *edu, u64 iova, u32 count, bool to_mem)
{
	u64 *regs = (u64 *)edu->mem;

	WRITE_ONCE(regs[EDU_DMA_SRC / 8], to_mem ? EDU_BUFFER : iova);
	WRITE_ONCE(regs[EDU_DMA_DST / 8], to_mem ? iova : EDU_BUFFER);
	WRITE_ONCE(regs[EDU_DMA_COUNT / 8], count);
	WRITE_ONCE(regs[EDU_DMA_CMD / 8],
		   EDU_DMA_RUN | (to_mem ? EDU_DMA_TO_MEM : 0));
	while (READ_ONCE(regs[EDU_DMA_CMD / 8]) & EDU_DMA_RUN)
		usleep(1000);
}

static void open_edu(struct _test_data_dmabuf *edu, const char *bdf)
{
	open_device(edu, bdf);
	vfio_pci_cmd_set(edu->device, PCI_COMMAND_MASTER | PCI_COMMAND_MEMORY);
}

TEST_F(dmabuf, dma)
{
	const char *bdf = find_device(0x1234, 0x11e8);
	struct _test_data_dmabuf edu = {};
	u64 iova = SZ_1M;
	int fd;

	if (!self->can_revoke)
		SKIP(return, "the kernel cannot revoke DMABUFs");
	if (!bdf || !self->ram)
		SKIP(return, "there is no QEMU edu or ivshmem");

	open_edu(&edu, bdf);
	fd = export(self, page_size, page_size);
	ASSERT_EQ(0, iommufd_map_dmabuf(edu.iommu, fd, iova, page_size));

	/* From the BAR to edu, and back to another place of the BAR */
	self->mem[page_size / 4] = 0x600d;
	self->mem[page_size / 4 + 1] = 0;
	edu_dma(&edu, iova, 4, false);
	edu_dma(&edu, iova + 4, 4, true);
	ASSERT_EQ(0x600d, self->mem[page_size / 4 + 1]);

	/* A suspension ends that too, until it is mapped again. */
	set_memory(self, false);
	set_memory(self, true);
	self->mem[page_size / 4 + 1] = 0;
	edu_dma(&edu, iova + 4, 4, true);
	ASSERT_EQ(0, self->mem[page_size / 4 + 1]);
	iova *= 2;
	ASSERT_EQ(0, iommufd_map_dmabuf(edu.iommu, fd, iova, page_size));
	edu_dma(&edu, iova, 4, false);
	edu_dma(&edu, iova + 4, 4, true);
	ASSERT_EQ(0x600d, self->mem[page_size / 4 + 1]);

	/* Neither writes nor reads: what edu has afterwards is not from there. */
	ASSERT_EQ(0, revoke_dmabuf(self, fd));
	self->mem[page_size / 4] = 0xbad;
	self->mem[page_size / 4 + 1] = 0;
	self->mem[page_size / 4 + 2] = 0xbad;
	edu_dma(&edu, iova + 4, 4, true);
	ASSERT_EQ(0, self->mem[page_size / 4 + 1]);
	edu_dma(&edu, iova, 4, false);
	fd = export(self, page_size, page_size);
	ASSERT_EQ(0, iommufd_map_dmabuf(edu.iommu, fd, 2 * iova, page_size));
	edu_dma(&edu, 2 * iova + 8, 4, true);
	ASSERT_NE(0xbad, self->mem[page_size / 4 + 2]);
	close_device(&edu);
}

TEST_F(dmabuf, type1)
{
	struct dma_region region = { .iova = SZ_16M, .size = page_size };
	struct vfio_pci_device *device;
	struct iommu *iommu;

	if (!self->can_revoke)
		SKIP(return, "the kernel cannot revoke DMABUFs");
	if (nr_bdfs < 2 || access("/dev/vfio/vfio", F_OK))
		SKIP(return, "there is no second device, or no container");

	iommu = iommu_init(MODE_VFIO_TYPE1V2_IOMMU);
	device = vfio_pci_device_init(bdfs[1], iommu);

	region.vaddr = map(export(self, 0, page_size), page_size, 0);
	ASSERT_EQ(-EOPNOTSUPP, __iommu_map(iommu, &region));
	ASSERT_TRUE(can_read(region.vaddr));
	ASSERT_EQ(-EOPNOTSUPP, __iommu_map(iommu, &region));
	region.vaddr = self->mem;
	ASSERT_EQ(0, __iommu_map(iommu, &region));
	ASSERT_EQ(0, __iommu_unmap(iommu, &region, NULL));

	vfio_pci_device_cleanup(device);
	iommu_cleanup(iommu);
}

/* ---- Lifetime ---- */

static void bind_anew(const char *bdf)
{
	int fd = open("/sys/bus/pci/drivers/vfio-pci/unbind", O_WRONLY);

	VFIO_ASSERT_GE(fd, 0);
	VFIO_ASSERT_EQ(write(fd, bdf, strlen(bdf)), strlen(bdf));
	close(fd);
	fd = open("/sys/bus/pci/drivers/vfio-pci/bind", O_WRONLY);
	VFIO_ASSERT_GE(fd, 0);
	VFIO_ASSERT_EQ(write(fd, bdf, strlen(bdf)), strlen(bdf));
	close(fd);
}

/* Nothing that is left of DMABUFs keeps the device. */
TEST_F_TIMEOUT(dmabuf, unbind_while_mapped, 30)
{
	void *mem;
	int fd;

	if (!self->can_mmap)
		SKIP(return, "the kernel cannot map DMABUFs");
	fd = export(self, 0, page_size);
	mem = map(fd, page_size, 0);
	ASSERT_TRUE(can_read(mem));
	close_device(self);
	bind_anew(bdfs[0]);
	ASSERT_FALSE(can_read(mem));
	ASSERT_EQ(MAP_FAILED, map(fd, page_size, 0));
	ASSERT_EQ(ENODEV, errno);
	ASSERT_EQ(0, munmap(mem, page_size));
}

static void *bind_anew_thread(void *bdf)
{
	bind_anew(bdf);
	return NULL;
}

/* The driver waits for the device to be closed; so long, all works as ever. */
TEST_F_TIMEOUT(dmabuf, unbind_while_open, 60)
{
	pthread_t thread;
	void *mem;

	if (!self->can_mmap)
		SKIP(return, "the kernel cannot map DMABUFs");
	mem = map(export(self, 0, page_size), page_size, 0);
	ASSERT_TRUE(can_read(mem));
	ASSERT_EQ(0, pthread_create(&thread, NULL, bind_anew_thread, bdfs[0]));
	usleep(500000);
	ASSERT_EQ(EBUSY, pthread_tryjoin_np(thread, NULL));
	ASSERT_TRUE(can_read(mem));
	ASSERT_TRUE(can_read(self->mem));
	set_memory(self, false);
	ASSERT_FALSE(can_read(mem));
	set_memory(self, true);
	ASSERT_TRUE(can_read(mem));
	close_device(self);
	ASSERT_EQ(0, pthread_join(thread, NULL));
	ASSERT_FALSE(can_read(mem));
}

static void *read_until_gone(void *mem)
{
	intptr_t wrong = 0;
	u32 word;

	while (read_word(mem, &word))
		wrong += word != MAGIC;
	return (void *)wrong;
}

/* Mappings end before the device is disabled: nobody reads what is not there. */
TEST_F_TIMEOUT(dmabuf, unmapped_before_disabled, 60)
{
	pthread_t thread;
	void *wrong, *mem;
	int i;

	if (!self->can_mmap)
		SKIP(return, "the kernel cannot map DMABUFs");
	if (!self->ram)
		SKIP(return, "the BAR is no memory");
	for (i = 0; i < 20; i++) {
		self->mem[0] = MAGIC;
		mem = map(export(self, 0, page_size), page_size, 0);
		ASSERT_TRUE(can_read(mem));
		ASSERT_EQ(0, pthread_create(&thread, NULL, read_until_gone, mem));
		usleep(10000);
		close_device(self);
		ASSERT_EQ(0, pthread_join(thread, &wrong));
		ASSERT_EQ(0, (intptr_t)wrong);
		open_device(self, bdfs[0]);
	}
}

/* A mapping of a BAR keeps the device open, as it always did. */
TEST_F(dmabuf, bar_mapping_keeps_device)
{
	struct iommu *iommu;
	int fd;

	ASSERT_EQ(0, close(self->device->fd));
	ASSERT_TRUE(can_read(self->mem));

	iommu = iommu_init(MODE_IOMMUFD);
	fd = open(vfio_pci_get_cdev_path(self->bdf), O_RDWR);
	ASSERT_LE(0, fd);
	ASSERT_EQ(-EINVAL, __vfio_device_bind_iommufd(fd, iommu->iommufd, NULL));

	for (int i = 0; i < PCI_STD_NUM_BARS; i++)
		if (self->device->bars[i].vaddr)
			munmap(self->device->bars[i].vaddr,
			       self->device->bars[i].info.size);
	ASSERT_EQ(0, __vfio_device_bind_iommufd(fd, iommu->iommufd, NULL));
	close(fd);
	iommu_cleanup(iommu);
	iommu_cleanup(self->iommu);
	self->device = NULL;
}

static int open_path(int fd)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	fd = open(path, O_PATH);
	VFIO_ASSERT_GE(fd, 0);
	return fd;
}

/* An O_PATH descriptor keeps the DMABUF, but not its file. */
TEST_F(dmabuf, o_path)
{
	int path[64], i;

	if (!self->can_export)
		SKIP(return, "the kernel cannot export DMABUFs");
	for (i = 0; i < 64; i++) {
		int fd = export(self, 0, page_size);

		path[i] = open_path(fd);
		ASSERT_EQ(0, close(fd));
	}
	/* Let RCU free the files. */
	usleep(200000);
	set_memory(self, false);
	set_memory(self, true);
	__vfio_pci_device_reset(self->device);
	for (i = 0; i < 64; i++)
		ASSERT_EQ(0, close(path[i]));
}

/* Nor does it keep the device. */
TEST_F_TIMEOUT(dmabuf, o_path_unbind, 60)
{
	int fd, path, status, tries = 100;
	pid_t pid;

	if (!self->can_export)
		SKIP(return, "the kernel cannot export DMABUFs");
	fd = export(self, 0, page_size);
	path = open_path(fd);
	ASSERT_EQ(0, close(fd));
	usleep(200000);
	close_device(self);

	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		close(path);
		bind_anew(bdfs[0]);
		_exit(0);
	}
	while (!waitpid(pid, &status, WNOHANG) && --tries)
		usleep(100000);
	/* If it waits, this is what for. */
	ASSERT_EQ(0, close(path));
	if (!tries)
		waitpid(pid, &status, 0);
	ASSERT_LT(0, tries);
	ASSERT_EQ(0, status);
}

/* Whether it has been claimed, by /proc/iomem */
static bool bar_is_claimed(const char *bdf, int index)
{
	unsigned long long start, first, last;
	char path[128], line[256];
	bool claimed = false;
	FILE *file;
	int i;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/resource", bdf);
	file = fopen(path, "r");
	VFIO_ASSERT_NOT_NULL(file, "%s\n", path);
	for (i = 0; i <= index; i++)
		VFIO_ASSERT_NOT_NULL(fgets(line, sizeof(line), file));
	start = strtoull(line, NULL, 16);
	VFIO_ASSERT_NE(start, 0);
	fclose(file);

	file = fopen("/proc/iomem", "r");
	VFIO_ASSERT_NOT_NULL(file);
	while (!claimed && fgets(line, sizeof(line), file))
		claimed = sscanf(line, " %llx-%llx :", &first, &last) == 2 &&
			  first == start && strstr(line, " : vfio\n");
	fclose(file);
	return claimed;
}

/* Claimed when the device is opened, not when it is first used */
TEST_F(dmabuf, export_before_anything)
{
	struct vfio_region_dma_range range = { .length = page_size };
	struct vfio_pci_device *device;
	int index = self->index;
	int fd;

	if (!self->can_export)
		SKIP(return, "the kernel cannot export DMABUFs");
	close_device(self);
	self->iommu = iommu_init(MODE_IOMMUFD);
	device = vfio_pci_device_alloc(bdfs[0], self->iommu);
	vfio_pci_cdev_open(device, bdfs[0]);
	ASSERT_FALSE(bar_is_claimed(bdfs[0], index));
	ASSERT_EQ(0, __vfio_device_bind_iommufd(device->fd, self->iommu->iommufd, NULL));
	ASSERT_TRUE(bar_is_claimed(bdfs[0], index));
	fd = __vfio_pci_dma_buf_export(device, index, O_RDWR, &range, 1);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, close(device->fd));
	ASSERT_FALSE(bar_is_claimed(bdfs[0], index));
	ASSERT_EQ(0, close(fd));
	vfio_pci_device_free(device);
	iommu_cleanup(self->iommu);
	self->device = NULL;
}

/* What one thread counts, another can wait for. */
static void count(int *counter)
{
	WRITE_ONCE(*counter, *counter + 1);
}

static void wait_until_moved(int *counter)
{
	int before = READ_ONCE(*counter);

	while (READ_ONCE(*counter) == before)
		usleep(200);
}

struct copies {
	struct _test_data_dmabuf edu;
	u64 from, to;
	u32 *word;	/* what is at @to */
	bool stop;
	int magic, nothing, wrong;
};

static void *copy_until_stopped(void *arg)
{
	struct copies *copies = arg;
	u32 word;

	while (!READ_ONCE(copies->stop)) {
		edu_dma(&copies->edu, copies->from, sizeof(word), false);
		edu_dma(&copies->edu, copies->to, sizeof(word), true);
		word = READ_ONCE(*copies->word);
		if (word == MAGIC)
			count(&copies->magic);
		else if (!word)
			count(&copies->nothing);
		else
			count(&copies->wrong);
	}
	return NULL;
}

/* An importer's mapping ends before the device does: it reads the BAR, or nothing. */
TEST_F_TIMEOUT(dmabuf, close_while_imported, 60)
{
	const char *bdf = find_device(0x1234, 0x11e8);
	struct copies copies = { .from = SZ_1M, .to = SZ_2M };
	struct dma_region region = { .iova = SZ_2M, .size = page_size };
	struct iommu *other;
	pthread_t thread;
	int fd;

	if (!self->can_export)
		SKIP(return, "the kernel cannot export DMABUFs");
	if (!bdf || !self->ram)
		SKIP(return, "there is no QEMU edu or ivshmem");
	open_edu(&copies.edu, bdf);
	other = copies.edu.iommu;
	region.vaddr = mmap(NULL, page_size, PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, region.vaddr);
	iommu_map(other, &region);
	copies.word = region.vaddr;

	self->mem[0] = MAGIC;
	fd = export(self, 0, page_size);
	ASSERT_EQ(0, iommufd_map_dmabuf(other, fd, copies.from, page_size));
	ASSERT_EQ(0, pthread_create(&thread, NULL, copy_until_stopped, &copies));
	wait_until_moved(&copies.magic);
	close_device(self);
	wait_until_moved(&copies.nothing);
	ASSERT_EQ(-ENODEV, iommufd_map_dmabuf(other, fd, SZ_4M, page_size));
	WRITE_ONCE(copies.stop, true);
	ASSERT_EQ(0, pthread_join(thread, NULL));
	TH_LOG("%d copies of the BAR, %d of nothing", copies.magic, copies.nothing);
	ASSERT_EQ(0, copies.wrong);
	close_device(&copies.edu);
	close(fd);
}

/* ---- Races ---- */

#define MANY_DMABUFS	200
#define RACE_PAGES	64	/* of a DMABUF that threads walk through */
#define OLD_MAPPINGS	64	/* that are looked at again in the end */

/* What a thread has seen; only that thread writes it. */
struct counts {
	int reads, sigbuses, wrong;	/* accesses, and values that are not the BAR's */
	int laps;			/* around a mapping */
	int mmaps, imports, enodevs;
	int revoked, badfds;		/* revocations, and those that came late */
	int resets;
};

struct racer;

struct race {
	struct _test_data_dmabuf *self;
	void *(*first)(void *racer), *(*second)(void *racer);
	/* What to wait for before a DMABUF is revoked, and before the revoked one is closed */
	void (*before)(struct racer *racers), (*after)(struct racer *racers);
	bool revokes;
	size_t size;	/* of a DMABUF and its mapping */
	int fds[MANY_DMABUFS];
	bool stop;
	int fd;		/* the DMABUF of this round, or -1 */
	void *mem;	/* and its mapping, or NULL */
	void *old[OLD_MAPPINGS];
	int rounds;
};

struct racer {
	struct race *race;
	pthread_t thread;
	struct counts counts;
};

static time_t race_seconds(void)
{
	const char *seconds = getenv("RACE_SECONDS");

	return seconds ? atoi(seconds) : 1;
}

static void race_read(struct racer *racer, void *addr)
{
	u32 word;

	if (!read_word(addr, &word))
		count(&racer->counts.sigbuses);
	else if (racer->race->self->ram && word != MAGIC)
		count(&racer->counts.wrong);
	else
		count(&racer->counts.reads);
}

/* Backwards, so that each page is a fault of its own */
static void *race_fault(void *arg)
{
	struct racer *racer = arg;
	struct race *race = racer->race;

	while (!READ_ONCE(race->stop)) {
		void *mem = READ_ONCE(race->mem);
		size_t offset = race->size;

		if (!mem)
			continue;
		for (; offset && READ_ONCE(race->mem) == mem; offset -= page_size)
			race_read(racer, mem + offset - page_size);
		if (!offset)
			count(&racer->counts.laps);
	}
	return NULL;
}

static void *race_mmap(void *arg)
{
	struct racer *racer = arg;
	struct race *race = racer->race;

	while (!READ_ONCE(race->stop)) {
		void *mem = map(READ_ONCE(race->fd), page_size, 0);

		if (mem != MAP_FAILED) {
			race_read(racer, mem);
			munmap(mem, page_size);
			count(&racer->counts.mmaps);
		} else if (errno == ENODEV) {
			count(&racer->counts.enodevs);
		}
	}
	return NULL;
}

static void *race_import(void *arg)
{
	struct racer *racer = arg;
	struct race *race = racer->race;
	struct iommu *iommu = race->self->iommu;
	struct iommu_ioas_unmap unmap = {
		.size = sizeof(unmap),
		.ioas_id = iommu->ioas_id,
		.iova = SZ_1M,
		.length = page_size,
	};

	while (!READ_ONCE(race->stop)) {
		int ret = iommufd_map_dmabuf(iommu, READ_ONCE(race->fd), SZ_1M, page_size);

		if (!ret)
			count(&racer->counts.imports);
		else if (ret == -ENODEV)
			count(&racer->counts.enodevs);
		unmap.length = page_size;
		ioctl(iommu->iommufd, IOMMU_IOAS_UNMAP, &unmap);
	}
	return NULL;
}

static void *race_reset(void *arg)
{
	struct racer *racer = arg;
	struct race *race = racer->race;

	while (!READ_ONCE(race->stop)) {
		set_memory(race->self, false);
		set_memory(race->self, true);
		if (!__vfio_pci_device_reset(race->self->device))
			count(&racer->counts.resets);
	}
	return NULL;
}

static void *race_revoke(void *arg)
{
	struct racer *racer = arg;
	struct race *race = racer->race;

	while (!READ_ONCE(race->stop)) {
		int ret = revoke_dmabuf(race->self, READ_ONCE(race->fd));

		if (!ret)
			count(&racer->counts.revoked);
		else if (ret == -EBADFD)
			count(&racer->counts.badfds);
	}
	return NULL;
}

static void *race_close(void *arg)
{
	struct race *race = ((struct racer *)arg)->race;

	while (!READ_ONCE(race->stop)) {
		int fd = READ_ONCE(race->fd);

		if (fd >= 0)
			close(fd);
	}
	return NULL;
}

static void start_racer(struct racer *racer, struct race *race, void *(*run)(void *))
{
	racer->race = race;
	VFIO_ASSERT_EQ(pthread_create(&racer->thread, NULL, run, racer), 0);
}

/* What is read nowhere else than in the BAR */
static void fill_bar(struct _test_data_dmabuf *self, size_t size)
{
	for (size_t i = 0; self->ram && i < size / 4; i += page_size / 4)
		self->mem[i] = MAGIC;
}

/* No page of it can be read. */
static void expect_revoked(void *mem, size_t size)
{
	for (size_t offset = 0; offset < size; offset += page_size)
		VFIO_ASSERT_FALSE(can_read(mem + offset));
}

/* One round after the other: a new DMABUF, which is maybe revoked. */
static int race_rounds(struct race *race, struct racer *racers)
{
	time_t end = time(NULL) + race_seconds();
	int revoked = 0;

	do {
		void **old = &race->old[race->rounds % OLD_MAPPINGS];
		int fd = export(race->self, 0, race->size);
		void *mem = map(fd, race->size, 0);

		/* Another thread may have revoked it already, by the number of before. */
		if (mem == MAP_FAILED)
			VFIO_ASSERT_TRUE(race->revokes && errno == ENODEV);
		WRITE_ONCE(race->fd, fd);
		if (mem != MAP_FAILED)
			WRITE_ONCE(race->mem, mem);
		if (race->before)
			race->before(racers);
		if (race->revokes) {
			int ret = revoke_dmabuf(race->self, fd);

			/* Whoever was first: another thread may revoke it as well. */
			VFIO_ASSERT_TRUE(!ret || ret == -EBADFD);
			revoked += !ret;
			if (race->after)
				race->after(racers);
			WRITE_ONCE(race->mem, NULL);
			if (mem != MAP_FAILED)
				expect_revoked(mem, race->size);
		}
		WRITE_ONCE(race->mem, NULL);
		WRITE_ONCE(race->fd, -1);
		close(fd);
		race->rounds++;
		if (mem == MAP_FAILED)
			continue;
		/* Others may still read there: what is unmapped is SIGSEGV. */
		if (*old)
			mmap(*old, race->size, PROT_READ, MAP_PRIVATE | MAP_FIXED |
			     MAP_ANONYMOUS, -1, 0);
		*old = mem;
	} while (time(NULL) < end);

	return revoked;
}

static struct counts run_race(struct __test_metadata *_metadata, struct race *race)
{
	struct _test_data_dmabuf *self = race->self;
	struct racer racers[2] = {};
	struct counts sum = {};
	int i, revoked;

	race->fd = -1;
	fill_bar(self, race->size);
	start_racer(&racers[0], race, race->first);
	start_racer(&racers[1], race, race->second);
	revoked = race_rounds(race, racers);
	WRITE_ONCE(race->stop, true);
	for (i = 0; i < 2; i++) {
		struct counts *counts = &racers[i].counts;

		pthread_join(racers[i].thread, NULL);
		sum.reads += counts->reads;
		sum.sigbuses += counts->sigbuses;
		sum.wrong += counts->wrong;
		sum.mmaps += counts->mmaps;
		sum.imports += counts->imports;
		sum.enodevs += counts->enodevs;
		sum.resets += counts->resets;
		sum.badfds += counts->badfds;
		sum.revoked += counts->revoked;
	}
	TH_LOG("%d rounds, %d reads, %d SIGBUSes, %d mmaps, %d imports, %d ENODEVs",
	       race->rounds, sum.reads, sum.sigbuses, sum.mmaps, sum.imports, sum.enodevs);
	TH_LOG("%d resets, %d revoked, %d EBADFDs", sum.resets, sum.revoked, sum.badfds);

	/* Each DMABUF is revoked once, and for good. The others are as they were. */
	EXPECT_EQ(race->revokes ? race->rounds : 0, revoked + sum.revoked);
	for (i = 0; i < OLD_MAPPINGS; i++)
		if (race->old[i])
			EXPECT_EQ(!race->revokes, can_read(race->old[i]));
	EXPECT_EQ(0, sum.wrong);
	EXPECT_TRUE(can_read(self->mem));
	return sum;
}

/* Without sleeping, as they are not to be through with the mapping when this is. */
static void wait_for_reads(struct racer *racers)
{
	int before = READ_ONCE(racers[0].counts.reads) + READ_ONCE(racers[1].counts.reads);

	while (READ_ONCE(racers[0].counts.reads) + READ_ONCE(racers[1].counts.reads) == before)
		;
}

/* The first one of each may have been on its way before: then no fault is any more. */
static void wait_for_sigbuses(struct racer *racers)
{
	for (int i = 0; i < 4; i++)
		wait_until_moved(&racers[i % 2].counts.sigbuses);
}

TEST_F_TIMEOUT(dmabuf, race_fault_revoke, 120)
{
	struct race race = {
		.self = self, .first = race_fault, .second = race_fault,
		.size = min_t(size_t, self->size, RACE_PAGES * page_size), .revokes = true,
		.before = wait_for_reads, .after = wait_for_sigbuses,
	};
	struct counts counts;

	if (!self->can_revoke)
		SKIP(return, "the kernel cannot revoke DMABUFs");
	counts = run_race(_metadata, &race);
	EXPECT_LT(0, counts.reads);
	EXPECT_LT(0, counts.sigbuses);
}

static void wait_for_lap(struct racer *racers)
{
	wait_until_moved(&racers[0].counts.laps);
}

/* The memory survives: who can read during a reset reads something else. */
TEST_F_TIMEOUT(dmabuf, race_fault_reset, 120)
{
	struct race race = {
		.self = self, .first = race_fault, .second = race_reset,
		.size = min_t(size_t, self->size, RACE_PAGES * page_size),
		.before = wait_for_lap,
	};
	struct counts counts;

	if (!self->can_mmap)
		SKIP(return, "the kernel cannot map DMABUFs");
	counts = run_race(_metadata, &race);
	EXPECT_LT(0, counts.reads);
	EXPECT_LT(0, counts.sigbuses);
	if (self->device->info.flags & VFIO_DEVICE_FLAGS_RESET)
		EXPECT_LT(0, counts.resets);
}

static void wait_for_mmap(struct racer *racers)
{
	wait_until_moved(&racers[0].counts.mmaps);
}

static void wait_for_import(struct racer *racers)
{
	wait_until_moved(&racers[0].counts.imports);
}

static void wait_for_enodev(struct racer *racers)
{
	wait_until_moved(&racers[0].counts.enodevs);
}

TEST_F_TIMEOUT(dmabuf, race_mmap_revoke, 120)
{
	struct race race = {
		.self = self, .first = race_mmap, .second = race_fault,
		.size = page_size, .revokes = true,
		.before = wait_for_mmap, .after = wait_for_enodev,
	};
	struct counts counts;

	if (!self->can_revoke)
		SKIP(return, "the kernel cannot revoke DMABUFs");
	counts = run_race(_metadata, &race);
	EXPECT_LT(0, counts.mmaps);
	EXPECT_LT(0, counts.enodevs);
}

TEST_F_TIMEOUT(dmabuf, race_import_revoke, 120)
{
	struct race race = {
		.self = self, .first = race_import, .second = race_fault,
		.size = page_size, .revokes = true,
		.before = wait_for_import, .after = wait_for_enodev,
	};
	struct counts counts;

	if (!self->can_revoke)
		SKIP(return, "the kernel cannot revoke DMABUFs");
	counts = run_race(_metadata, &race);
	EXPECT_LT(0, counts.imports);
	EXPECT_LT(0, counts.enodevs);
}

TEST_F_TIMEOUT(dmabuf, race_import_reset, 120)
{
	struct race race = {
		.self = self, .first = race_import, .second = race_reset,
		.size = page_size, .before = wait_for_import,
	};
	struct counts counts;

	if (!self->can_mmap)
		SKIP(return, "the kernel cannot map DMABUFs");
	counts = run_race(_metadata, &race);
	EXPECT_LT(0, counts.imports);
	EXPECT_LT(0, counts.enodevs);
	if (self->device->info.flags & VFIO_DEVICE_FLAGS_RESET)
		EXPECT_LT(0, counts.resets);
}

/* Let the other thread be first in about half of the rounds, on one CPU as well. */
static void maybe_sleep(struct racer *racers)
{
	if (rand() % 2)
		usleep(rand() % 200);
}

/* The other thread was first, or it is late. */
static void wait_for_badfd(struct racer *racers)
{
	wait_until_moved(&racers[0].counts.badfds);
}

TEST_F_TIMEOUT(dmabuf, race_revoke_revoke, 120)
{
	struct race race = {
		.self = self, .first = race_revoke, .second = race_fault,
		.size = page_size, .revokes = true,
		.before = maybe_sleep, .after = wait_for_badfd,
	};
	struct counts counts;

	if (!self->can_revoke)
		SKIP(return, "the kernel cannot revoke DMABUFs");
	counts = run_race(_metadata, &race);
	EXPECT_LT(0, counts.revoked);
	EXPECT_LT(counts.revoked, race.rounds);
	EXPECT_LT(0, counts.badfds);
}

TEST_F_TIMEOUT(dmabuf, race_revoke_reset, 120)
{
	struct race race = {
		.self = self, .first = race_revoke, .second = race_reset,
		.size = page_size, .revokes = true,
		.before = maybe_sleep, .after = wait_for_badfd,
	};
	struct counts counts;

	if (!self->can_revoke)
		SKIP(return, "the kernel cannot revoke DMABUFs");
	counts = run_race(_metadata, &race);
	EXPECT_LT(0, counts.badfds);
	if (self->device->info.flags & VFIO_DEVICE_FLAGS_RESET)
		EXPECT_LT(0, counts.resets);
}

TEST_F_TIMEOUT(dmabuf, race_close_revoke, 120)
{
	struct race race = { .self = self, .fd = -1 };
	time_t end = time(NULL) + race_seconds();
	int open = 0, closed = 0;
	struct racer racer = {};

	if (!self->can_revoke)
		SKIP(return, "the kernel cannot revoke DMABUFs");
	start_racer(&racer, &race, race_close);
	do {
		int fd = export(self, 0, page_size);
		int copy = fcntl(fd, F_DUPFD_CLOEXEC, 512);
		void *mem;
		int ret;

		/* The last round's number is still being closed. */
		if (copy < 0)
			continue;
		mem = map(copy, page_size, 0);
		ASSERT_NE(MAP_FAILED, mem);
		can_read(mem);
		WRITE_ONCE(race.fd, fd);
		/* It is closed before, meanwhile, or after. */
		maybe_sleep(&racer);
		ret = revoke_dmabuf(self, fd);
		WRITE_ONCE(race.fd, -1);
		ASSERT_TRUE(!ret || ret == -EBADF);
		ASSERT_EQ(ret ? 0 : -EBADFD, revoke_dmabuf(self, copy));
		ret ? closed++ : open++;
		ASSERT_FALSE(can_read(mem));
		ASSERT_EQ(0, munmap(mem, page_size));
		/* If the other thread has not seen it; else there would be ever more. */
		close(fd);
		close(copy);
	} while (time(NULL) < end);
	WRITE_ONCE(race.stop, true);
	pthread_join(racer.thread, NULL);
	TH_LOG("revoked %d while it was open, %d when it was closed", open, closed);
	EXPECT_LT(0, open);
	EXPECT_LT(0, closed);
}

/* Mappings of BARs would keep the device open. */
static void unmap_bars(struct vfio_pci_device *device)
{
	for (int i = 0; i < PCI_STD_NUM_BARS; i++) {
		if (!device->bars[i].vaddr)
			continue;
		munmap(device->bars[i].vaddr, device->bars[i].info.size);
		device->bars[i].vaddr = NULL;
	}
}

/*
 * For tests that open and close a device many times: have another function of it open
 * meanwhile, if there is one, so that it is not reset each time. All is with one IOMMU.
 */
static struct vfio_pci_device *keep_other_open(struct _test_data_dmabuf *self)
{
	struct vfio_pci_device *other;
	const char *functions[2];

	if (!find_functions(functions))
		return NULL;
	vfio_pci_device_cleanup(self->device);
	other = vfio_pci_device_init(functions[1], self->iommu);
	open_device_by(self, functions[0], self->iommu);
	return other;
}

/* After its descriptor has been closed */
static void reopen_device(struct _test_data_dmabuf *self)
{
	free(self->device);
	open_device_by(self, self->bdf, self->iommu);
}

/* Export as long as that works; map and read what has been exported all the time. */
static void *export_until_closed(void *arg)
{
	struct racer *racer = arg;
	struct race *race = racer->race;
	struct vfio_region_dma_range range = { .length = page_size };
	void *first = NULL, *mem;
	int fd, nr = 0;

	while (!READ_ONCE(race->stop)) {
		fd = __vfio_pci_dma_buf_export(race->self->device, race->self->index,
					       O_RDWR, &range, 1);
		if (fd >= 0) {
			/* The oldest is closed, as some always are. */
			if (nr >= MANY_DMABUFS)
				close(race->fds[nr % MANY_DMABUFS]);
			race->fds[nr++ % MANY_DMABUFS] = fd;
		}
		if (!nr)
			continue;
		mem = map(race->fds[rand() % min(nr, MANY_DMABUFS)], page_size, 0);
		if (mem != MAP_FAILED) {
			race_read(racer, mem);
			count(&racer->counts.mmaps);
			if (first)
				munmap(mem, page_size);
			else
				first = mem;
		} else if (errno == ENODEV) {
			count(&racer->counts.enodevs);
		}
		race_read(racer, first);
	}
	munmap(first, page_size);
	return NULL;
}

/*
 * An ioctl holds the file of the device, so an export cannot meet the last close,
 * though it may end with that. What does meet it are mmap(), page faults, and closes
 * of DMABUFs.
 */
TEST_F_TIMEOUT(dmabuf, race_export_close, 120)
{
	time_t end = time(NULL) + race_seconds();
	struct vfio_pci_device *other;
	struct counts sum = {};
	int i, rounds = 0;

	if (!self->can_mmap)
		SKIP(return, "the kernel cannot map DMABUFs");
	other = keep_other_open(self);
	do {
		struct race race = { .self = self };
		struct racer racer = {};

		fill_bar(self, page_size);
		memset(race.fds, -1, sizeof(race.fds));
		start_racer(&racer, &race, export_until_closed);
		wait_until_moved(&racer.counts.mmaps);
		usleep(rand() % 20000);
		unmap_bars(self->device);
		close(self->device->fd);
		wait_until_moved(&racer.counts.enodevs);
		wait_until_moved(&racer.counts.sigbuses);
		WRITE_ONCE(race.stop, true);
		pthread_join(racer.thread, NULL);
		sum.mmaps += racer.counts.mmaps;
		sum.enodevs += racer.counts.enodevs;
		sum.sigbuses += racer.counts.sigbuses;
		sum.wrong += racer.counts.wrong;
		rounds++;
		for (i = 0; i < MANY_DMABUFS; i++)
			close(race.fds[i]);
		reopen_device(self);
	} while (time(NULL) < end);
	TH_LOG("%d rounds, %d mmaps, %d ENODEVs, %d SIGBUSes", rounds, sum.mmaps,
	       sum.enodevs, sum.sigbuses);
	ASSERT_EQ(0, sum.wrong);
	if (other)
		vfio_pci_device_cleanup(other);
}

static void *close_all(void *arg)
{
	struct race *race = arg;

	for (int i = 0; i < MANY_DMABUFS; i++)
		close(race->fds[i]);
	return NULL;
}

/* The last close of the device finds DMABUFs that are being closed themselves. */
TEST_F_TIMEOUT(dmabuf, race_last_close, 120)
{
	struct vfio_region_dma_range range = { .length = page_size };
	time_t end = time(NULL) + race_seconds();
	struct vfio_pci_device *other;
	int rounds = 0;

	if (!self->can_export)
		SKIP(return, "the kernel cannot export DMABUFs");
	other = keep_other_open(self);
	do {
		struct race race = { .self = self };
		pthread_t thread;
		int i;

		for (i = 0; i < MANY_DMABUFS; i++) {
			race.fds[i] = __vfio_pci_dma_buf_export(self->device, self->index, O_RDWR,
								&range, 1);
			ASSERT_LE(0, race.fds[i]);
		}
		unmap_bars(self->device);
		ASSERT_EQ(0, pthread_create(&thread, NULL, close_all, &race));
		usleep(rand() % 1000);
		close(self->device->fd);
		pthread_join(thread, NULL);
		reopen_device(self);
		rounds++;
	} while (time(NULL) < end);
	TH_LOG("%d rounds", rounds);
	if (other)
		vfio_pci_device_cleanup(other);
}

/* ---- Failed allocations ---- */

/* Let the @nth allocation of this thread fail from now on; 0: none */
static void fail_nth(int file, int nth)
{
	char text[16];
	int tries = 100;

	snprintf(text, sizeof(text), "%d", nth);
	/* This fails too if it is what makes @nth. */
	while (pwrite(file, text, strlen(text), 0) < 0)
		VFIO_ASSERT_GT(--tries, 0);
}

/* Did it fail, that is, were there @nth? If this fails it did not. */
static bool failed_nth(int file)
{
	char text[16] = {};

	return pread(file, text, sizeof(text) - 1, 0) > 0 && atoi(text) == 0;
}

static void set_fault(const char *name, const char *value)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "/sys/kernel/debug/%s", name);
	fd = open(path, O_WRONLY);
	if (fd < 0)
		return;
	VFIO_ASSERT_EQ(write(fd, value, strlen(value)), strlen(value));
	close(fd);
}

static int open_fail_nth(void)
{
	set_fault("failslab/ignore-gfp-wait", "N");
	set_fault("fail_page_alloc/ignore-gfp-wait", "N");
	set_fault("fail_page_alloc/ignore-gfp-highmem", "N");
	return open("/proc/thread-self/fail-nth", O_RDWR);
}

/* mmap() and the first access, with each allocation failing in turn */
static void fail_nth_mmap(struct __test_metadata *_metadata, int file, int fd,
			  size_t size, off_t offset)
{
	int nth = 0, failures = 0, error;
	bool failed, readable;
	void *mem;

	do {
		fail_nth(file, ++nth);
		mem = map(fd, size, offset);
		error = errno;
		/* Page faults that lack memory are taken again. */
		readable = mem != MAP_FAILED && can_read(mem);
		failed = failed_nth(file);
		fail_nth(file, 0);
		if (mem == MAP_FAILED) {
			ASSERT_EQ(ENOMEM, error);
			failures++;
			continue;
		}
		ASSERT_TRUE(readable);
		ASSERT_EQ(0, munmap(mem, size));
	} while (failed);
	ASSERT_LT(0, failures);
	ASSERT_NE(MAP_FAILED, mem);
}

TEST_F_TIMEOUT(dmabuf, fail_nth, 300)
{
	struct vfio_region_dma_range ranges[2] = {
		{ .offset = 0, .length = page_size },
		{ .offset = 2 * page_size, .length = page_size },
	};
	int file = open_fail_nth(), nth, fd, ret;
	bool failed;
	void *mem;

	if (!self->can_revoke)
		SKIP(return, "the kernel cannot revoke DMABUFs");
	if (file < 0)
		SKIP(return, "no fault injection");

	/* Export */
	nth = 0;
	do {
		fail_nth(file, ++nth);
		fd = __vfio_pci_dma_buf_export(self->device, self->index, O_RDWR,
					       ranges, 2);
		failed = failed_nth(file);
		fail_nth(file, 0);
		if (fd >= 0)
			close(fd);
		else
			ASSERT_TRUE(fd == -ENOMEM || fd == -EFAULT || fd == -ENFILE)
				TH_LOG("%d", fd);
	} while (failed);
	ASSERT_LE(0, fd);
	ASSERT_LT(4, nth);

	fd = __vfio_pci_dma_buf_export(self->device, self->index, O_RDWR, ranges, 2);
	ASSERT_LE(0, fd);
	fail_nth_mmap(_metadata, file, fd, 2 * page_size, 0);
	fail_nth_mmap(_metadata, file, self->device->fd, page_size,
		      self->bar->info.offset);

	/* Attributes */
	nth = 0;
	do {
		fail_nth(file, ++nth);
		ret = __vfio_pci_dma_buf_memattr(self->device, fd,
						 VFIO_DMA_BUF_MEMATTR_NC);
		failed = failed_nth(file);
		fail_nth(file, 0);
		ASSERT_EQ(failed ? -EFAULT : 0, ret);
	} while (failed);
	ASSERT_EQ(0, ret);
	ASSERT_LT(1, nth);

	/* What fails has not revoked it. An importer takes part. */
	nth = 0;
	do {
		fd = export(self, 0, page_size);
		mem = map(fd, page_size, 0);
		ASSERT_NE(MAP_FAILED, mem);
		ASSERT_EQ(0, iommufd_map_dmabuf(self->iommu, fd, SZ_1M + ++nth * page_size,
						page_size));
		fail_nth(file, nth);
		ret = revoke_dmabuf(self, fd);
		failed = failed_nth(file);
		fail_nth(file, 0);
		if (ret)
			ASSERT_EQ(-EFAULT, ret);
		ASSERT_EQ(ret != 0, can_read(mem));
		ASSERT_EQ(0, munmap(mem, page_size));
		close(fd);
	} while (failed);
	ASSERT_EQ(0, ret);
	ASSERT_LT(1, nth);

	/* Unbinding waits for whatever has not been put. */
	close_device(self);
	bind_anew(bdfs[0]);
}

int main(int argc, char *argv[])
{
	char *bdf;
	int i;

	bdfs = vfio_selftests_get_bdfs(&argc, argv, &nr_bdfs);
	page_size = getpagesize();

	/* The memory of QEMU's ivshmem-plain is best to test with. */
	for (i = 0; i < nr_bdfs; i++) {
		if (is_ivshmem(bdfs[i])) {
			bdf = bdfs[i];
			bdfs[i] = bdfs[0];
			bdfs[0] = bdf;
			break;
		}
	}

	return test_harness_run(argc, argv);
}
