// SPDX-License-Identifier: GPL-2.0
/*
 * The system and the CMA heap as modules, and the names under which the CMA heap
 * offers the regions that the command line, Kconfig or the devicetree reserve.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/utsname.h>

#include <linux/dma-buf.h>

#include "../kselftest_harness.h"
#include "heap.h"

#define DEFAULT_REGION	"default_cma_region"
#define OF_REGIONS	"/proc/device-tree/reserved-memory"

/* Whether a line of the file at @path has @text */
static bool file_has(const char *path, const char *text)
{
	FILE *file = fopen(path, "r");
	char line[4096];
	bool has = false;

	while (file && !has && fgets(line, sizeof(line), file))
		has = strstr(line, text);
	if (file)
		fclose(file);
	return has;
}

/* Zeroed, can be written and read between the brackets of CPU access */
static bool is_usable(int buf, size_t size)
{
	struct dma_buf_sync sync = { .flags = DMA_BUF_SYNC_START | DMA_BUF_SYNC_RW };
	unsigned char *mem;
	bool ok;

	mem = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, buf, 0);
	if (mem == MAP_FAILED)
		return false;
	ok = !ioctl(buf, DMA_BUF_IOCTL_SYNC, &sync);
	for (size_t i = 0; i < size; i++)
		ok &= !mem[i];
	for (size_t i = 0; i < size; i++)
		mem[i] = i % 251 + 1;
	for (size_t i = 0; i < size; i++)
		ok &= mem[i] == i % 251 + 1;
	sync.flags = DMA_BUF_SYNC_END | DMA_BUF_SYNC_RW;
	ok &= !ioctl(buf, DMA_BUF_IOCTL_SYNC, &sync);
	munmap(mem, size);
	return ok;
}

/* The heaps as modules. */

static bool is_loaded(const char *module)
{
	char line[64];

	snprintf(line, sizeof(line), "%s ", module);
	return file_has("/proc/modules", line);
}

/* Code that could be a module, but that this kernel has built in */
static bool is_builtin(const char *module)
{
	struct utsname kernel;
	char path[128], file[64];

	uname(&kernel);
	snprintf(path, sizeof(path), "/lib/modules/%s/modules.builtin", kernel.release);
	snprintf(file, sizeof(file), "/%s.ko", module);
	return file_has(path, file);
}

static const char *system_heap(void)
{
	return heap_exists("system") ? "system" : NULL;
}

FIXTURE(module)
{
	bool was_loaded;	/* before this test */
	bool was_there;		/* its heap */
};

FIXTURE_VARIANT(module)
{
	const char *name;
	const char *(*heap)(void);
	bool is_optional;	/* there may be no memory for the heap */
};

FIXTURE_VARIANT_ADD(module, system) {
	.name = "system_heap",
	.heap = system_heap,
};

FIXTURE_VARIANT_ADD(module, cma) {
	.name = "cma_heap",
	.heap = heap_of_default_cma,
	.is_optional = true,
};

FIXTURE_SETUP(module)
{
	self->was_loaded = is_loaded(variant->name);
	self->was_there = variant->heap();
	heap_load(variant->name);
	if (!variant->heap() && !is_loaded(variant->name))
		SKIP(return, "no %s in this kernel", variant->name);
}

FIXTURE_TEARDOWN(module)
{
}

TEST_F(module, load)
{
	if (is_builtin(variant->name))
		SKIP(return, "%s is built in", variant->name);
	EXPECT_TRUE(is_loaded(variant->name))
		TH_LOG("there is a heap, but it cannot be a module");
	if (!self->was_loaded)
		EXPECT_FALSE(self->was_there);
	if (!variant->is_optional)
		EXPECT_NE(NULL, variant->heap());
}

TEST_F(module, use)
{
	const size_t sizes[] = { 1, page_size(), 3 * page_size(), (1 << 20) + page_size() };

	if (!variant->heap() && variant->is_optional)
		SKIP(return, "no CMA region");
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		int buf = heap_alloc(variant->heap(), sizes[i]);

		ASSERT_LE(0, buf);
		EXPECT_TRUE(is_usable(buf, sizes[i]));
		close(buf);
	}
}

/*
 * The CMA heap: each region under its own name, and the default region under a
 * fixed name as well.
 */

/* Pages of @region, as the CMA code counts them; or -1 */
static long cma_count(const char *region, const char *what)
{
	char path[192];
	long count = -1;
	FILE *file;

	snprintf(path, sizeof(path), "/sys/kernel/mm/cma/%s/%s", region, what);
	file = fopen(path, "r");
	if (file) {
		if (fscanf(file, "%ld", &count) != 1)
			count = -1;
		fclose(file);
	}
	return count;
}

static bool cma_exists(const char *region)
{
	return cma_count(region, "alloc_pages_success") >= 0;
}

static bool command_line_has_cma(void)
{
	char line[4096] = "";
	FILE *file = fopen("/proc/cmdline", "r");
	bool has = false;

	if (!file)
		return false;
	if (fgets(line, sizeof(line), file))
		for (char *word = strtok(line, " "); word; word = strtok(NULL, " "))
			has |= !strncmp(word, "cma=", 4);
	fclose(file);
	return has;
}

#define MAX_NODES	16

struct nodes {
	char names[MAX_NODES][64];
	size_t count;
};

static bool node_has(const char *node, const char *property)
{
	char path[512];

	snprintf(path, sizeof(path), OF_REGIONS "/%s/%s", node, property);
	return !access(path, F_OK);
}

/* The CMA regions of the devicetree: the default one, or the others */
static void find_nodes(struct nodes *nodes, bool want_default)
{
	DIR *dir = opendir(OF_REGIONS);
	struct dirent *entry;

	nodes->count = 0;
	while (dir && nodes->count < MAX_NODES && (entry = readdir(dir))) {
		if (entry->d_name[0] == '.' || !node_has(entry->d_name, "reusable") ||
		    node_has(entry->d_name, "linux,cma-default") != want_default)
			continue;
		snprintf(nodes->names[nodes->count++], sizeof(nodes->names[0]), "%.63s",
			 entry->d_name);
	}
	if (dir)
		closedir(dir);
}

FIXTURE(region)
{
	struct nodes nodes;
};

FIXTURE_SETUP(region)
{
	if (access("/sys/kernel/mm/cma", F_OK))
		SKIP(return, "no CONFIG_CMA_SYSFS");
	heap_load("cma_heap");
	find_nodes(&self->nodes, true);
}

FIXTURE_TEARDOWN(region)
{
}

/* What @heap allocates is of @region, and goes back there. */
static void expect_heap(struct __test_metadata *_metadata, const char *heap, const char *region)
{
	const long pages = 3;
	long allocated = cma_count(region, "alloc_pages_success");
	long released = cma_count(region, "release_pages_success");
	int buf;

	buf = heap_alloc(heap, pages * page_size());
	ASSERT_LE(0, buf)
		TH_LOG("heap %s of region %s: %s", heap, region, strerror(errno));
	EXPECT_LE(allocated + pages, cma_count(region, "alloc_pages_success"))
		TH_LOG("heap %s does not allocate from region %s", heap, region);
	EXPECT_TRUE(is_usable(buf, pages * page_size()));
	close(buf);
	EXPECT_LE(released + pages, cma_count(region, "release_pages_success"));
}

static void expect_default(struct __test_metadata *_metadata, const char *region)
{
	expect_heap(_metadata, DEFAULT_REGION, region);
	expect_heap(_metadata, region, region);
}

TEST_F(region, default_of_command_line)
{
	if (!command_line_has_cma())
		SKIP(return, "no cma= on the command line");
	expect_default(_metadata, "reserved");
}

TEST_F(region, default_of_kconfig)
{
	if (command_line_has_cma() || self->nodes.count)
		SKIP(return, "the default region is not Kconfig's");
	if (!cma_exists("reserved"))
		SKIP(return, "no default region");
	expect_default(_metadata, "reserved");
}

TEST_F(region, default_of_devicetree)
{
	if (command_line_has_cma() || !self->nodes.count)
		SKIP(return, "the default region is not the devicetree's");
	expect_default(_metadata, self->nodes.names[0]);
}

TEST_F(region, others_of_devicetree)
{
	find_nodes(&self->nodes, false);
	if (!self->nodes.count)
		SKIP(return, "the devicetree has no further region");
	for (size_t i = 0; i < self->nodes.count; i++)
		expect_heap(_metadata, self->nodes.names[i], self->nodes.names[i]);
}

TEST_HARNESS_MAIN
