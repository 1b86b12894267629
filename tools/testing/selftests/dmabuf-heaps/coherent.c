// SPDX-License-Identifier: GPL-2.0
/*
 * Which regions of the devicetree become coherent heaps, and how much they hold.
 * The tests read the devicetree of the machine, and load and unload the module.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <sys/ioctl.h>
#include <sys/klog.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <linux/dma-heap.h>

#include "kselftest_harness.h"

#define DEVPATH		"/dev/dma_heap"
#define TREE		"/sys/firmware/devicetree/base"
#define MODULE		"coherent_heap"
#define MAX_REGIONS	64
#define FRAME		13002342	/* bytes: 12.4 MiB */

struct region {
	char name[256];
	uint32_t phandle;
	bool pool;		/* a shared-dma-pool for coherent memory */
	bool fit;		/* that can be a heap */
	bool claimed;
};

static struct region regions[MAX_REGIONS];
static int region_count;

/* Text that is good until the eighth call after this one */
__printf(1, 2)
static const char *text(const char *format, ...)
{
	static char texts[8][4096];
	static int next;
	char *buf = texts[next++ % 8];
	va_list args;

	va_start(args, format);
	vsnprintf(buf, sizeof(texts[0]), format, args);
	va_end(args);
	return buf;
}

static ssize_t property(const char *node, const char *name, void *value, size_t size)
{
	int fd = open(text("%s/%s", node, name), O_RDONLY | O_CLOEXEC);
	ssize_t len;

	if (fd < 0)
		return -1;
	len = read(fd, value, size);
	close(fd);
	return len;
}

static bool has_property(const char *node, const char *name)
{
	return !access(text("%s/%s", node, name), F_OK);
}

static bool has_status(const char *node, const char *wanted)
{
	char status[32] = "okay";

	property(node, "status", status, sizeof(status) - 1);
	return !strcmp(status, wanted);
}

static bool available(const char *node)
{
	return has_status(node, "okay") || has_status(node, "ok");
}

static int note_claims(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	uint32_t claims[64];
	char node[4096];
	ssize_t len;

	if (flag != FTW_F || strcmp(path + ftw->base, "memory-region"))
		return 0;
	len = property(text("%.*s", ftw->base - 1, path), "memory-region", claims, sizeof(claims));
	/*
	 * A device that the kernel leaves to firmware has its region too; not one
	 * that lies behind what is not there.
	 */
	strcpy(node, path);
	while (strcmp(node, TREE)) {
		*strrchr(node, '/') = 0;
		if (!available(node) && !has_status(node, "reserved"))
			return 0;
	}
	for (ssize_t i = 0; i < len / 4; i++)
		for (int r = 0; r < region_count; r++)
			if (regions[r].phandle && regions[r].phandle == be32toh(claims[i]))
				regions[r].claimed = true;
	return 0;
}

static void read_devicetree(void)
{
	DIR *dir = opendir(TREE "/reserved-memory");
	struct dirent *entry;
	struct region *region;
	char compatible[256];
	const char *node;

	region_count = 0;
	while (dir && (entry = readdir(dir)) && region_count < MAX_REGIONS) {
		if (entry->d_type != DT_DIR || entry->d_name[0] == '.')
			continue;
		region = &regions[region_count++];
		memset(region, 0, sizeof(*region));
		strcpy(region->name, entry->d_name);
		node = strdup(text(TREE "/reserved-memory/%s", entry->d_name));
		memset(compatible, 0, sizeof(compatible));
		property(node, "compatible", compatible, sizeof(compatible) - 1);
		property(node, "phandle", &region->phandle, 4);
		region->phandle = be32toh(region->phandle);
		region->pool = available(node) && !strcmp(compatible, "shared-dma-pool") &&
			       !has_property(node, "reusable");
		region->fit = region->pool && has_property(node, "no-map") &&
			      !has_property(node, "linux,dma-default");
		free((void *)node);
	}
	if (dir)
		closedir(dir);
	nftw(TREE, note_claims, 16, FTW_PHYS);
}

static bool is_loaded(void)
{
	return !access("/sys/module/" MODULE "/initstate", F_OK);
}

static bool is_built_in(void)
{
	return !access("/sys/module/" MODULE "/parameters", F_OK) && !is_loaded();
}

/* Load the module with @expose as its parameter, or none; false where there is none. */
static bool load(const char *expose)
{
	int status;
	pid_t pid = fork();

	if (!pid) {
		execlp("modprobe", "modprobe", MODULE, expose ? text("expose=%s", expose) : NULL,
		       NULL);
		_exit(127);
	}
	return pid > 0 && waitpid(pid, &status, 0) == pid && !status && is_loaded();
}

static int unload(void)
{
	return syscall(SYS_delete_module, MODULE, O_NONBLOCK) ? errno : 0;
}

static bool has_heap(const char *name)
{
	return !access(text(DEVPATH "/%s", name), F_OK);
}

static int heap_open(const char *name)
{
	return open(text(DEVPATH "/%s", name), O_RDWR | O_CLOEXEC);
}

static int heap_alloc(int heap, size_t len)
{
	struct dma_heap_allocation_data data = { .len = len, .fd_flags = O_RDWR | O_CLOEXEC };

	return ioctl(heap, DMA_HEAP_IOCTL_ALLOC, &data) ? -1 : (int)data.fd;
}

/* How often the log has said why there is no heap for this region */
static int said(const char *name)
{
	static char log[1 << 22];
	int len = klogctl(3 /* SYSLOG_ACTION_READ_ALL */, log, sizeof(log) - 1), times = 0;
	const char *line = text(MODULE ": no heap for /reserved-memory/%s: ", name);

	log[len < 0 ? 0 : len] = 0;
	for (char *at = log; (at = strstr(at, line)); at++)
		times++;
	return times;
}

FIXTURE(coherent)
{
	bool was_loaded;
};

FIXTURE_SETUP(coherent)
{
	read_devicetree();
	if (is_built_in())
		return;
	self->was_loaded = is_loaded();
	if (self->was_loaded)
		ASSERT_EQ(0, unload());
	if (!load(NULL))
		SKIP(return, "no module " MODULE);
}

FIXTURE_TEARDOWN(coherent)
{
	if (is_loaded() != self->was_loaded)
		EXPECT_TRUE(self->was_loaded ? load(NULL) : !unload());
}

TEST_F(coherent, regions_that_nobody_has)
{
	int heaps = 0;

	for (int i = 0; i < region_count; i++) {
		struct region *region = &regions[i];
		bool wanted = region->fit && !region->claimed;
		int heap, buf;

		/* The name may be that of another module's heap. */
		if (!wanted && has_heap(region->name) && !is_built_in()) {
			unload();
			EXPECT_TRUE(has_heap(region->name))
				TH_LOG("heap for %s", region->name);
			ASSERT_TRUE(load(NULL));
		}
		if (!wanted)
			continue;
		heaps++;
		heap = heap_open(region->name);
		EXPECT_LE(0, heap)
			TH_LOG("no heap for %s", region->name);
		buf = heap_alloc(heap, 1);
		EXPECT_LE(0, buf);
		close(buf);
		close(heap);
	}
	if (!heaps)
		SKIP(return, "no region for a heap");
}

TEST_F(coherent, regions_of_devices)
{
	struct region *region = NULL;
	int heap, buf, heaps = 0, count;
	char unfit[MAX_REGIONS * sizeof(region->name)] = "";

	for (int i = 0; i < region_count; i++)
		if (regions[i].fit && regions[i].claimed)
			region = &regions[i];
	if (!region)
		SKIP(return, "no device has a region");
	EXPECT_FALSE(has_heap(region->name));
	if (is_built_in())
		SKIP(return, "built in");

	/* Nearly its name, and twice another one's */
	ASSERT_EQ(0, unload());
	ASSERT_TRUE(load(text("%.*s:%sx::nobody", (int)strlen(region->name) - 1, region->name,
			      region->name)));
	EXPECT_FALSE(has_heap(region->name));

	/* Those that cannot be heaps, whoever asks */
	ASSERT_EQ(0, unload());
	for (int i = 0; i < region_count; i++)
		if (regions[i].pool && !regions[i].fit)
			strcat(strcat(unfit, ":"), regions[i].name);
	ASSERT_TRUE(load(unfit));
	for (int i = 0; i < region_count; i++)
		if (regions[i].pool && !regions[i].fit)
			EXPECT_FALSE(has_heap(regions[i].name));

	ASSERT_EQ(0, unload());
	count = said(region->name);
	ASSERT_TRUE(load(text("nobody:%s", region->name)));
	EXPECT_TRUE(has_heap(region->name));
	EXPECT_EQ(count, said(region->name));
	for (int i = 0; i < region_count; i++)
		heaps += regions[i].fit && has_heap(regions[i].name);
	EXPECT_LT(1, heaps);
	heap = heap_open(region->name);
	ASSERT_LE(0, heap);
	buf = heap_alloc(heap, 1);
	EXPECT_LE(0, buf);
	EXPECT_EQ(EAGAIN, unload());
	close(buf);
	close(heap);
	ASSERT_EQ(0, unload());
}

/* Once each time that the module is loaded, for each region of the kind */
TEST_F(coherent, log_says_why)
{
	if (is_built_in())
		SKIP(return, "built in");
	for (int i = 0; i < region_count; i++) {
		struct region *region = &regions[i];
		int before;

		if (!region->pool)
			continue;
		before = said(region->name);
		ASSERT_EQ(0, unload());
		ASSERT_TRUE(load(NULL));
		EXPECT_EQ(before + (!region->fit || region->claimed), said(region->name))
			TH_LOG("%s", region->name);
	}
}

/* A heap of 128 MiB, or of more, and its size; or -1 */
static int big_heap(uint64_t *size)
{
	for (int i = 0; i < region_count; i++) {
		uint64_t reg[2];

		if (!regions[i].fit || regions[i].claimed ||
		    property(text(TREE "/reserved-memory/%s", regions[i].name), "reg", reg,
			     sizeof(reg)) != sizeof(reg) ||
		    be64toh(reg[1]) < 128 << 20)
			continue;
		*size = be64toh(reg[1]);
		return heap_open(regions[i].name);
	}
	return -1;
}

/* Frames that are no power of two take what they are. */
TEST_F(coherent, frames)
{
	int bufs[64], n = 0, heap;
	uint64_t size;

	heap = big_heap(&size);
	if (heap < 0)
		SKIP(return, "no region of 128 MiB");
	while (n < 64 && (bufs[n] = heap_alloc(heap, FRAME)) >= 0)
		n++;
	EXPECT_EQ(ENOMEM, errno);
	EXPECT_EQ(size / FRAME, n);
	while (n--)
		close(bufs[n]);
	close(heap);
}

/* Nanoseconds of allocating and freeing @size bytes: the least of many tries */
static double alloc_time(int heap, size_t size)
{
	double least = INFINITY;

	for (int i = 0; i < 50; i++) {
		struct timespec start, end;
		double time;
		int buf;

		clock_gettime(CLOCK_MONOTONIC, &start);
		buf = heap_alloc(heap, size);
		close(buf);
		clock_gettime(CLOCK_MONOTONIC, &end);
		if (buf < 0)
			return INFINITY;
		time = (end.tv_sec - start.tv_sec) * 1e9 + end.tv_nsec - start.tv_nsec;
		if (time < least)
			least = time;
	}
	return least;
}

/* What is beyond many holes is found in time. */
TEST_F_TIMEOUT(coherent, holes, 240)
{
	const size_t page = sysconf(_SC_PAGESIZE), sizes[] = { 2 * page, 16 * page, 256 * page };
	/* Of each four pages these are closed: a checkerboard, then pairs out of line */
	const int closed[] = { 0b1010, 0b1001 };
	struct rlimit files;
	double empty[3];
	int *bufs, heap, n;
	uint64_t size;

	heap = big_heap(&size);
	if (heap < 0)
		SKIP(return, "no region of 128 MiB");
	for (int i = 0; i < 3; i++)
		empty[i] = alloc_time(heap, sizes[i]);

	/* The last 512 pages are free. */
	n = size / page - 512;
	files.rlim_cur = n + 100;
	files.rlim_max = n + 100;
	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &files));
	bufs = calloc(n, sizeof(*bufs));
	ASSERT_NE(NULL, bufs);
	memset(bufs, -1, n * sizeof(*bufs));
	for (int round = 0; round < 2; round++) {
		/* The first hole is filled first, so each page has its number. */
		for (int i = 0; i < n; i++) {
			if (bufs[i] < 0)
				bufs[i] = heap_alloc(heap, page);
			EXPECT_LE(0, bufs[i]);
		}
		for (int i = 0; i < n; i++) {
			if (closed[round] & 1 << i % 4) {
				close(bufs[i]);
				bufs[i] = -1;
			}
		}
		for (int i = 0; i < 3; i++) {
			double time = alloc_time(heap, sizes[i]);

			EXPECT_LE(time, 4 * empty[i])
				TH_LOG("%zu bytes, round %d", sizes[i], round);
		}
	}
	for (int i = 0; i < n; i++)
		close(bufs[i]);
	free(bufs);
	close(heap);
}

TEST_HARNESS_MAIN
