// SPDX-License-Identifier: GPL-2.0
/*
 * dma_heap.mem_accounting: what the system heap allocates is charged to the
 * cgroup of who allocates it, if the command line asks for that, and else to
 * nobody.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/stat.h>

#include "../kselftest_harness.h"
#include "heap.h"

#define SIZE	(8L << 20)
/* The memory controller charges in batches, some of which may be unused. */
#define ENOUGH	(SIZE * 3 / 4)
#define LITTLE	(SIZE / 4)

static bool write_text(const char *dir, const char *file, const char *text)
{
	char path[PATH_MAX];
	bool ok;
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, file);
	fd = open(path, O_WRONLY);
	ok = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
	close(fd);
	return ok;
}

static bool read_text(const char *path, char *text, size_t size)
{
	FILE *file = fopen(path, "r");
	bool ok;

	if (!file)
		return false;
	ok = fgets(text, size, file);
	text[strcspn(text, "\n")] = 0;
	fclose(file);
	return ok;
}

/* The cgroup of this process in the hierarchy of cgroup2 */
static bool find_home(char home[256])
{
	FILE *file = fopen("/proc/self/cgroup", "r");
	char line[512];
	bool found = false;

	while (file && !found && fgets(line, sizeof(line), file))
		found = sscanf(line, "0::%255s", home) == 1;
	if (file)
		fclose(file);
	return found;
}

/* Where cgroup2 is mounted */
static bool find_cgroup2(char root[256])
{
	FILE *mounts = fopen("/proc/mounts", "r");
	char line[1024];
	bool found = false;

	while (mounts && !found && fgets(line, sizeof(line), mounts))
		found = sscanf(line, "%*s %255s cgroup2 ", root) == 1 && strstr(line, " cgroup2 ");
	if (mounts)
		fclose(mounts);
	return found;
}

FIXTURE(accounting)
{
	char root[256];
	char home[512];		/* the cgroup of this process before */
	char cgroup[512];	/* a new one */
	bool enabled;
};

static long charged(const char *cgroup)
{
	char path[PATH_MAX], text[32];

	snprintf(path, sizeof(path), "%s/memory.current", cgroup);
	return read_text(path, text, sizeof(text)) ? atol(text) : -1;
}

FIXTURE_SETUP(accounting)
{
	char text[256];

	if (!read_text("/sys/module/dma_heap/parameters/mem_accounting", text, sizeof(text)))
		SKIP(return, "no dma_heap.mem_accounting");
	self->enabled = text[0] == 'Y';
	heap_load("system_heap");
	if (!heap_exists("system"))
		SKIP(return, "no system heap");
	if (geteuid())
		SKIP(return, "needs root");
	if (!find_cgroup2(self->root) ||
	    !write_text(self->root, "cgroup.subtree_control", "+memory"))
		SKIP(return, "no cgroup2 with the memory controller");
	ASSERT_TRUE(find_home(text));
	snprintf(self->home, sizeof(self->home), "%s%s", self->root, text);
	snprintf(self->cgroup, sizeof(self->cgroup), "%s/heap_accounting.%d", self->root, getpid());
	ASSERT_EQ(0, mkdir(self->cgroup, 0755));
	ASSERT_TRUE(write_text(self->cgroup, "cgroup.procs", "0"));
}

FIXTURE_TEARDOWN(accounting)
{
	EXPECT_TRUE(write_text(self->home, "cgroup.procs", "0"));
	EXPECT_EQ(0, rmdir(self->cgroup));
}

/* The charge stays where it was made when the buffer is used from elsewhere. */
TEST_F(accounting, charged_if_asked_for)
{
	long before;
	int buf;

	if (!self->enabled)
		SKIP(return, "dma_heap.mem_accounting is off");
	before = charged(self->cgroup);
	buf = heap_alloc("system", SIZE);
	ASSERT_LE(0, buf);
	EXPECT_LE(before + ENOUGH, charged(self->cgroup));
	EXPECT_TRUE(write_text(self->home, "cgroup.procs", "0"));
	EXPECT_LE(before + ENOUGH, charged(self->cgroup));
	close(buf);
	EXPECT_GT(before + LITTLE, charged(self->cgroup));
}

TEST_F(accounting, not_charged_to_others)
{
	long before = charged(self->cgroup);
	int buf;

	ASSERT_LE(0, before);
	ASSERT_TRUE(write_text(self->home, "cgroup.procs", "0"));
	buf = heap_alloc("system", SIZE);
	ASSERT_LE(0, buf);
	EXPECT_GT(before + LITTLE, charged(self->cgroup));
	close(buf);
}

TEST_F(accounting, not_charged_by_default)
{
	long before = charged(self->cgroup);
	int buf;

	if (self->enabled)
		SKIP(return, "dma_heap.mem_accounting is on");
	buf = heap_alloc("system", SIZE);
	ASSERT_LE(0, buf);
	EXPECT_GT(before + LITTLE, charged(self->cgroup));
	close(buf);
}

TEST_HARNESS_MAIN
