// SPDX-License-Identifier: GPL-2.0
/*
 * What CPU mappings of a BAR cost: lines "bench NAME NANOSECONDS" for what the
 * base does too, and "versus NAME ONE OTHER" for what only the series does.
 * Nanoseconds are guest instructions under QEMU's -icount.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include <linux/vfio.h>

#define BDF		"0000:01:00.0"	/* ivshmem-plain: memory in BAR 2 */
#define PAGE		4096UL
#define MIB		(1UL << 20)
#define BAR_SIZE	(64 * MIB)
#define FAULTS		64
#define BUFFERS		256
#define RANGES		1024

static int dev, container, group;
static off_t bar;
static char *area;	/* room for mappings, aligned to 1 GiB */

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static double clock_of(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return ts.tv_sec * 1e9 + ts.tv_nsec;
}

static double now(void)
{
	return clock_of(CLOCK_MONOTONIC);
}

static void open_device(void)
{
	struct vfio_region_info info = { .argsz = sizeof(info), .index = 2 };
	char path[64], link[256] = "";

	if (readlink("/sys/bus/pci/devices/" BDF "/iommu_group", link, sizeof(link) - 1) < 0)
		die(BDF);
	snprintf(path, sizeof(path), "/dev/vfio/%s", strrchr(link, '/') + 1);
	container = open("/dev/vfio/vfio", O_RDWR);
	group = open(path, O_RDWR);
	if (container < 0 || group < 0)
		die(path);
	if (ioctl(group, VFIO_GROUP_SET_CONTAINER, &container) ||
	    ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU))
		die("container");
	dev = ioctl(group, VFIO_GROUP_GET_DEVICE_FD, BDF);
	if (dev < 0 || ioctl(dev, VFIO_DEVICE_GET_REGION_INFO, &info) || info.size != BAR_SIZE)
		die("device");
	bar = info.offset;
}

static char *map(int fd, size_t at, size_t size, off_t offset)
{
	char *mem = mmap(area + at, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd,
			 offset);

	if (mem == MAP_FAILED)
		die("mmap");
	return mem;
}

static void unmap(size_t at, size_t size)
{
	if (munmap(area + at, size))
		die("munmap");
}

static void touch(volatile char *mem)
{
	*mem;
}

/* A fault in each of some mappings of one page; the pages lie @stride bytes apart. */
static double fault(int fd, off_t offset, size_t stride)
{
	double start, took;
	size_t i;

	for (i = 0; i < FAULTS; i++)
		map(fd, 2 * i * PAGE, PAGE, offset + i * stride);
	start = now();
	for (i = 0; i < FAULTS; i++)
		touch(area + 2 * i * PAGE);
	took = (now() - start) / FAULTS;
	for (i = 0; i < FAULTS; i++)
		unmap(2 * i * PAGE, PAGE);
	return took;
}

/* Touch each @step bytes of a mapping of @size bytes that begins at @at. */
static double walk(size_t at, size_t size, size_t step)
{
	double start, took = 0;
	const int rounds = 8;

	for (int i = 0; i < rounds; i++) {
		char *mem = map(dev, at, size, bar);

		start = now();
		for (size_t where = 0; where < size; where += step)
			touch(mem + where);
		took += now() - start;
		unmap(at, size);
	}
	return took / rounds;
}

static double map_unmap(void)
{
	const int rounds = 100;
	double start = now();

	for (int i = 0; i < rounds; i++) {
		map(dev, 0, BAR_SIZE, bar);
		unmap(0, BAR_SIZE);
	}
	return (now() - start) / rounds;
}

/* CPU time: a reset sleeps for a second. The first one is not counted. */
static double reset(size_t mappings)
{
	double start, took = 0;
	const int rounds = 4;
	size_t i;

	for (i = 0; i < mappings; i++)
		map(dev, 2 * i * PAGE, PAGE, bar + i * PAGE);
	for (int round = 0; round <= rounds; round++) {
		for (i = 0; i < mappings; i++)
			touch(area + 2 * i * PAGE);
		start = clock_of(CLOCK_PROCESS_CPUTIME_ID);
		if (ioctl(dev, VFIO_DEVICE_RESET))
			die("VFIO_DEVICE_RESET");
		if (round)
			took += clock_of(CLOCK_PROCESS_CPUTIME_ID) - start;
	}
	for (i = 0; i < mappings; i++)
		unmap(2 * i * PAGE, PAGE);
	return took / rounds;
}

/* A DMABUF of @n ranges of @size bytes that lie @stride bytes apart, or -1. */
static int export(size_t first, size_t n, size_t size, size_t stride)
{
	struct vfio_device_feature_dma_buf *buf;
	struct vfio_device_feature *feature;
	size_t argsz = sizeof(*feature) + sizeof(*buf) + n * sizeof(buf->dma_ranges[0]);
	int fd;

	feature = calloc(1, argsz);
	feature->argsz = argsz;
	feature->flags = VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_DMA_BUF;
	buf = (void *)feature->data;
	buf->region_index = 2;
	buf->open_flags = O_RDWR | O_CLOEXEC;
	buf->nr_ranges = n;
	for (size_t i = 0; i < n; i++) {
		buf->dma_ranges[i].offset = first + i * stride;
		buf->dma_ranges[i].length = size;
	}
	fd = ioctl(dev, VFIO_DEVICE_FEATURE, feature);
	free(feature);
	return fd;
}

static void revoke_buf(int buf)
{
	struct {
		struct vfio_device_feature feature;
		struct vfio_device_feature_dma_buf_revoke revoke;
	} request = {
		.feature.argsz = sizeof(request),
		.feature.flags = VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_DMA_BUF_REVOKE,
		.revoke.dmabuf_fd = buf,
	};

	if (ioctl(dev, VFIO_DEVICE_FEATURE, &request))
		die("VFIO_DEVICE_FEATURE_DMA_BUF_REVOKE");
}

static long minor_faults(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return usage.ru_minflt;
}

/* What it takes to revoke one of @n, and how many faults the others then take. */
static double revoke_one(size_t n, long *faults)
{
	int bufs[BUFFERS];
	double start, took;
	size_t i;

	for (i = 0; i < n; i++) {
		bufs[i] = export(i * PAGE, 1, PAGE, 0);
		if (bufs[i] < 0)
			die("export");
		touch(map(bufs[i], 2 * i * PAGE, PAGE, 0));
	}
	start = now();
	revoke_buf(bufs[n / 2]);
	took = now() - start;
	*faults = minor_faults();
	for (i = 0; i < n; i++)
		if (i != n / 2)
			touch(area + 2 * i * PAGE);
	*faults = minor_faults() - *faults;
	for (i = 0; i < n; i++) {
		unmap(2 * i * PAGE, PAGE);
		close(bufs[i]);
	}
	return took;
}

static void series_only(void)
{
	struct vfio_device_feature probe = {
		.argsz = sizeof(probe),
		.flags = VFIO_DEVICE_FEATURE_PROBE | VFIO_DEVICE_FEATURE_SET |
			 VFIO_DEVICE_FEATURE_DMA_BUF_REVOKE,
	};
	double alone, of_many;
	int one, many;
	long faults;

	if (ioctl(dev, VFIO_DEVICE_FEATURE, &probe))
		return;
	one = export(0, 1, RANGES * PAGE, 0);
	many = export(0, RANGES, PAGE, 2 * PAGE);
	if (one < 0 || many < 0)
		die("export");
	fault(one, 0, PAGE);
	fault(many, 0, PAGE);
	printf("versus fault_(1_range,_1024) %.0f %.0f\n",
	       fault(one, 0, RANGES / FAULTS * PAGE), fault(many, 0, RANGES / FAULTS * PAGE));
	close(one);
	close(many);
	revoke_one(2, &faults);
	alone = revoke_one(1, &faults);
	of_many = revoke_one(BUFFERS, &faults);
	printf("versus revoke_(alone,_one_of_256) %.0f %.0f\n", alone, of_many);
	printf("figure faults_of_the_other_255 %ld\n", faults);
}

int main(void)
{
	const size_t resets[] = { 1, 16, 256 };
	uintptr_t room;

	setvbuf(stdout, NULL, _IOLBF, 0);
	open_device();
	room = (uintptr_t)mmap(NULL, 2UL << 30, PROT_NONE,
			       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	area = (char *)((room + (1UL << 30) - 1) & ~((1UL << 30) - 1));

	fault(dev, bar, PAGE); /* page tables */
	printf("bench fault_one_page %.0f\n", fault(dev, bar, PAGE));
	printf("bench first_touch_of_64MiB %.0f\n", walk(PAGE, BAR_SIZE, BAR_SIZE));
	printf("bench huge_page_fault %.0f\n", walk(0, BAR_SIZE, BAR_SIZE));
	printf("bench touch_16MiB_unaligned %.0f\n", walk(PAGE, 16 * MIB, PAGE));
	printf("bench touch_16MiB_aligned %.0f\n", walk(0, 16 * MIB, PAGE));
	printf("bench mmap_munmap_64MiB %.0f\n", map_unmap());
	for (size_t i = 0; i < sizeof(resets) / sizeof(*resets); i++)
		printf("bench reset_with_%zu_mappings %.0f\n", resets[i], reset(resets[i]));
	series_only();
	return 0;
}
