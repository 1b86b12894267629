// SPDX-License-Identifier: GPL-2.0
/*
 * dma-bufs are data: whoever exports them, they cannot be mapped executable or
 * executed, and the kernel does not warn when somebody tries.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <drm/drm.h>
#include <linux/iommufd.h>
#include <linux/udmabuf.h>
#include <linux/vfio.h>

#include "../kselftest_harness.h"
#include "heap.h"

/*
 * The exporters: each gives a dma-buf of a page, or -1 where the kernel or the
 * machine has no such exporter.
 */

static int export_system_heap(void)
{
	heap_load("system_heap");
	return heap_alloc("system", page_size());
}

static int export_cma_heap(void)
{
	const char *heap;

	heap_load("cma_heap");
	heap = heap_of_default_cma();
	return heap ? heap_alloc(heap, page_size()) : -1;
}

/* Of the regions in the devicetree, heaps of no-map memory are coherent. */
static int export_coherent_heap(void)
{
	static const char regions[] = "/sys/firmware/devicetree/base/reserved-memory";
	struct dirent *entry;
	char path[512];
	int buf = -1;
	DIR *dir;

	heap_load("coherent_heap");
	dir = opendir(regions);
	while (dir && buf < 0 && (entry = readdir(dir))) {
		snprintf(path, sizeof(path), "%s/%s/no-map", regions, entry->d_name);
		if (!access(path, F_OK))
			buf = heap_alloc(entry->d_name, page_size());
	}
	if (dir)
		closedir(dir);
	return buf;
}

static int export_udmabuf(void)
{
	struct udmabuf_create create = { .size = page_size() };
	int dev, buf = -1;

	dev = open("/dev/udmabuf", O_RDWR | O_CLOEXEC);
	create.memfd = memfd_create("noexec", MFD_ALLOW_SEALING);
	if (dev >= 0 && !ftruncate(create.memfd, page_size()) &&
	    !fcntl(create.memfd, F_ADD_SEALS, F_SEAL_SHRINK))
		buf = ioctl(dev, UDMABUF_CREATE, &create);
	close(create.memfd);
	close(dev);
	return buf;
}

/* The device node of vgem; or -1 */
static int vgem_open(void)
{
	for (int i = 0; i < 16; i++) {
		char path[32], name[8] = "";
		struct drm_version version = { .name_len = sizeof(name), .name = name };
		int fd;

		snprintf(path, sizeof(path), "/dev/dri/card%d", i);
		fd = open(path, O_RDWR | O_CLOEXEC);
		if (fd < 0)
			continue;
		if (!ioctl(fd, DRM_IOCTL_VERSION, &version) &&
		    !strncmp(name, "vgem", sizeof(name)))
			return fd;
		close(fd);
	}
	return -1;
}

static int export_vgem(void)
{
	struct drm_mode_create_dumb create = { .width = 32, .height = 32, .bpp = 32 };
	struct drm_prime_handle prime = { .flags = DRM_CLOEXEC | DRM_RDWR, .fd = -1 };
	int vgem = vgem_open();

	if (!ioctl(vgem, DRM_IOCTL_MODE_CREATE_DUMB, &create)) {
		prime.handle = create.handle;
		if (ioctl(vgem, DRM_IOCTL_PRIME_HANDLE_TO_FD, &prime))
			prime.fd = -1;
	}
	close(vgem);
	return prime.fd;
}

#ifdef VFIO_DEVICE_FEATURE_DMA_BUF
/* A page of the first region of @device that can be exported. */
static int export_bar(int device)
{
	__u64 space[8] = { 0 };
	struct vfio_device_feature *feature = (void *)space;
	struct vfio_device_feature_dma_buf *get = (void *)feature->data;
	int buf = -1;

	feature->argsz = sizeof(*feature) + sizeof(*get) + sizeof(get->dma_ranges[0]);
	feature->flags = VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_DMA_BUF;
	get->open_flags = O_RDWR | O_CLOEXEC;
	get->nr_ranges = 1;
	get->dma_ranges[0].length = page_size();
	for (int i = VFIO_PCI_BAR0_REGION_INDEX; i <= VFIO_PCI_BAR5_REGION_INDEX && buf < 0; i++) {
		get->region_index = i;
		buf = ioctl(device, VFIO_DEVICE_FEATURE, feature);
	}
	return buf;
}

static int export_vfio_device(const char *name, int iommufd)
{
	struct vfio_device_bind_iommufd bind = { .argsz = sizeof(bind), .iommufd = iommufd };
	char path[64];
	int device, buf = -1;

	snprintf(path, sizeof(path), "/dev/vfio/devices/%.32s", name);
	device = open(path, O_RDWR | O_CLOEXEC);
	if (device >= 0 && !ioctl(device, VFIO_DEVICE_BIND_IOMMUFD, &bind))
		buf = export_bar(device);
	if (buf < 0)
		close(device);
	/* Else it stays open, as a closed device has no memory to export. */
	return buf;
}

static int export_vfio(void)
{
	int iommufd = open("/dev/iommu", O_RDWR | O_CLOEXEC), buf = -1;
	DIR *dir = opendir("/dev/vfio/devices");
	struct dirent *entry;

	while (dir && buf < 0 && (entry = readdir(dir)))
		if (entry->d_name[0] != '.')
			buf = export_vfio_device(entry->d_name, iommufd);
	if (dir)
		closedir(dir);
	close(iommufd);
	return buf;
}
#else
static int export_vfio(void)
{
	return -1;
}
#endif

/* How often this kernel has warned; 0 where it does not say. */
static int warnings(void)
{
	FILE *file = fopen("/sys/kernel/warn_count", "r");
	int count = 0;

	if (file) {
		if (fscanf(file, "%d", &count) != 1)
			count = 0;
		fclose(file);
	}
	return count;
}

/* What warns once shall do so in each test. */
static void warn_again(void)
{
	int fd = open("/sys/kernel/debug/clear_warn_once", O_WRONLY);

	if (fd >= 0 && write(fd, "1", 1) != 1)
		perror("clear_warn_once");
	close(fd);
}

FIXTURE(noexec)
{
	int buf;
	int warnings;
};

FIXTURE_VARIANT(noexec)
{
	int (*export)(void);
	bool mmap_optional;
};

FIXTURE_VARIANT_ADD(noexec, system_heap) { .export = export_system_heap };
FIXTURE_VARIANT_ADD(noexec, cma_heap) { .export = export_cma_heap };
FIXTURE_VARIANT_ADD(noexec, coherent_heap) { .export = export_coherent_heap };
FIXTURE_VARIANT_ADD(noexec, udmabuf) { .export = export_udmabuf };
FIXTURE_VARIANT_ADD(noexec, vgem) { .export = export_vgem };
FIXTURE_VARIANT_ADD(noexec, vfio) { .export = export_vfio, .mmap_optional = true };

FIXTURE_SETUP(noexec)
{
	self->buf = variant->export();
	if (self->buf < 0)
		SKIP(return, "no such exporter");
	warn_again();
	self->warnings = warnings();
}

FIXTURE_TEARDOWN(noexec)
{
	EXPECT_EQ(self->warnings, warnings());
	close(self->buf);
}

TEST_F(noexec, mmap)
{
	static const int prots[] = {
		PROT_EXEC, PROT_READ | PROT_EXEC, PROT_READ | PROT_WRITE | PROT_EXEC,
	};
	static const int flags[] = { MAP_SHARED, MAP_PRIVATE };

	for (size_t i = 0; i < ARRAY_SIZE(prots); i++) {
		for (size_t j = 0; j < ARRAY_SIZE(flags); j++) {
			errno = 0;
			EXPECT_EQ(MAP_FAILED, mmap(NULL, page_size(), prots[i], flags[j],
						   self->buf, 0));
			EXPECT_EQ(EPERM, errno)
				TH_LOG("protection %d, flags %d", prots[i], flags[j]);
		}
	}
}

static void *map(int buf, int prot)
{
	return mmap(NULL, page_size(), prot, MAP_SHARED, buf, 0);
}

TEST_F(noexec, mprotect)
{
	unsigned char *mem;

	mem = map(self->buf, PROT_READ | PROT_WRITE);
	if (mem == MAP_FAILED && variant->mmap_optional)
		SKIP(return, "the exporter has no mmap");
	ASSERT_NE(MAP_FAILED, mem);
	mem[0] = 1;
	EXPECT_EQ(-1, mprotect(mem, page_size(), PROT_READ | PROT_EXEC));
	EXPECT_EQ(EACCES, errno);
	EXPECT_EQ(-1, mprotect(mem, page_size(), PROT_READ | PROT_WRITE | PROT_EXEC));
	EXPECT_EQ(EACCES, errno);
	/* Anything else may still be changed, and the mapping is as it was. */
	mem[0]++;
	EXPECT_EQ(0, mprotect(mem, page_size(), PROT_READ));
	EXPECT_EQ(2, mem[0]);
	EXPECT_EQ(-1, mprotect(mem, page_size(), PROT_READ | PROT_EXEC));
	EXPECT_EQ(EACCES, errno);
	munmap(mem, page_size());
}

/* The permissions in /proc/self/maps of what is mapped at @mem */
static bool permissions(const void *mem, char text[5])
{
	FILE *maps = fopen("/proc/self/maps", "r");
	char line[512];
	unsigned long start;
	bool found = false;

	while (maps && !found && fgets(line, sizeof(line), maps))
		found = sscanf(line, "%lx-%*x %4s", &start, text) == 2 &&
			start == (unsigned long)mem;
	if (maps)
		fclose(maps);
	return found;
}

/* Programs of old get PROT_EXEC where they ask for PROT_READ, but not here. */
TEST_F(noexec, read_implies_exec)
{
	char text[5] = "";
	void *mem;

	ASSERT_NE(-1, personality(READ_IMPLIES_EXEC));
	mem = map(self->buf, PROT_READ);
	if (mem == MAP_FAILED && variant->mmap_optional)
		SKIP(return, "the exporter has no mmap");
	ASSERT_NE(MAP_FAILED, mem);
	ASSERT_TRUE(permissions(mem, text));
	EXPECT_STREQ("r--s", text);
	munmap(mem, page_size());
}

/* The errno of executing @buf in a child; 0 if it did run */
static int exec_error(int buf)
{
	static const char * const argv[] = { "dma-buf", NULL };
	static const char * const envp[] = { NULL };
	pid_t pid = fork();
	int status;

	if (!pid) {
		syscall(SYS_execveat, buf, "", argv, envp, AT_EMPTY_PATH);
		_exit(errno);
	}
	if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return -1;
	return WEXITSTATUS(status);
}

TEST_F(noexec, execveat)
{
	EXPECT_EQ(EACCES, exec_error(self->buf));
}

/* With a mode that allows it, what is left is that it cannot be opened again. */
TEST_F(noexec, execveat_after_fchmod)
{
	int error;

	if (fchmod(self->buf, 0700))
		SKIP(return, "the mode cannot be changed");
	error = exec_error(self->buf);
	EXPECT_TRUE(error == EACCES || error == ENXIO)
		TH_LOG("errno %d", error);
}

TEST_HARNESS_MAIN
