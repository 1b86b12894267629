// SPDX-License-Identifier: GPL-2.0
/*
 * Heaps that are modules: they load, unload and load again; a buffer keeps them
 * loaded, and an open descriptor of a heap does not.
 *
 * RACE_SECONDS in the environment sets the length of the race.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <linux/dma-heap.h>

#include "kselftest_harness.h"

#define DEVPATH		"/dev/dma_heap"
#define MAX_HEAPS	32

struct heaps {
	int count;
	char names[MAX_HEAPS][256];
};

static void list_heaps(struct heaps *heaps)
{
	DIR *dir = opendir(DEVPATH);
	struct dirent *entry;

	heaps->count = 0;
	while (dir && (entry = readdir(dir)) && heaps->count < MAX_HEAPS)
		if (entry->d_name[0] != '.')
			strcpy(heaps->names[heaps->count++], entry->d_name);
	if (dir)
		closedir(dir);
}

static bool has_heap(const struct heaps *heaps, const char *name)
{
	for (int i = 0; i < heaps->count; i++)
		if (!strcmp(heaps->names[i], name))
			return true;
	return false;
}

static bool is_loaded(const char *module)
{
	char path[128];

	snprintf(path, sizeof(path), "/sys/module/%s/initstate", module);
	return !access(path, F_OK);
}

static bool load(const char *module)
{
	int status;
	pid_t pid = fork();

	if (!pid) {
		execlp("modprobe", "modprobe", module, NULL);
		_exit(127);
	}
	return pid > 0 && waitpid(pid, &status, 0) == pid && !status && is_loaded(module);
}

/* 0 or errno */
static int rmmod(const char *module)
{
	return syscall(SYS_delete_module, module, O_NONBLOCK) ? errno : 0;
}

static int heap_open(const char *name)
{
	char path[300];

	snprintf(path, sizeof(path), DEVPATH "/%s", name);
	return open(path, O_RDWR | O_CLOEXEC);
}

static int heap_alloc(int heap, size_t len)
{
	struct dma_heap_allocation_data data = { .len = len, .fd_flags = O_RDWR | O_CLOEXEC };

	return ioctl(heap, DMA_HEAP_IOCTL_ALLOC, &data) ? -1 : (int)data.fd;
}

FIXTURE(unload)
{
	bool was_loaded;
	struct heaps before;	/* without the module */
	struct heaps after;	/* and with it */
	char name[256];		/* one that is the module's */
	size_t page;
};

FIXTURE_VARIANT(unload)
{
	const char *module;
};

FIXTURE_VARIANT_ADD(unload, system)
{
	.module = "system_heap",
};

FIXTURE_VARIANT_ADD(unload, cma)
{
	.module = "cma_heap",
};

FIXTURE_VARIANT_ADD(unload, coherent)
{
	.module = "coherent_heap",
};

FIXTURE_SETUP(unload)
{
	self->page = sysconf(_SC_PAGESIZE);
	self->was_loaded = is_loaded(variant->module);
	if (!self->was_loaded && !load(variant->module))
		SKIP(return, "no module %s", variant->module);
	list_heaps(&self->after);
	ASSERT_EQ(0, rmmod(variant->module))
		TH_LOG("%s", variant->module);
	list_heaps(&self->before);
	ASSERT_TRUE(load(variant->module));
	for (int i = 0; i < self->after.count; i++)
		if (!has_heap(&self->before, self->after.names[i]))
			strcpy(self->name, self->after.names[i]);
	if (!self->name[0])
		SKIP(return, "%s has no heap on this machine", variant->module);
}

FIXTURE_TEARDOWN(unload)
{
	if (self->was_loaded != is_loaded(variant->module))
		EXPECT_TRUE(self->was_loaded ? load(variant->module) : !rmmod(variant->module));
}

TEST_F(unload, comes_back)
{
	struct heaps now;
	int heap, buf;

	for (int round = 0; round < 3; round++) {
		EXPECT_EQ(0, rmmod(variant->module));
		list_heaps(&now);
		EXPECT_EQ(self->before.count, now.count);
		EXPECT_FALSE(has_heap(&now, self->name));
		EXPECT_GT(0, heap_open(self->name));
		EXPECT_EQ(ENOENT, errno);

		ASSERT_TRUE(load(variant->module));
		list_heaps(&now);
		EXPECT_EQ(self->after.count, now.count);
		heap = heap_open(self->name);
		ASSERT_LE(0, heap);
		buf = heap_alloc(heap, self->page);
		EXPECT_LE(0, buf);
		close(buf);
		close(heap);
	}
}

TEST_F(unload, buffer_keeps_it)
{
	unsigned char *mem;
	int heap, buf;

	heap = heap_open(self->name);
	ASSERT_LE(0, heap);
	buf = heap_alloc(heap, self->page);
	ASSERT_LE(0, buf);
	close(heap);
	EXPECT_EQ(EAGAIN, rmmod(variant->module));

	mem = mmap(NULL, self->page, PROT_READ | PROT_WRITE, MAP_SHARED, buf, 0);
	ASSERT_NE(MAP_FAILED, mem);
	close(buf);
	EXPECT_EQ(EAGAIN, rmmod(variant->module));
	mem[self->page - 1] = 1;
	EXPECT_EQ(1, mem[self->page - 1]);
	munmap(mem, self->page);
	EXPECT_EQ(0, rmmod(variant->module));
}

TEST_F(unload, open_heap_does_not)
{
	int heap = heap_open(self->name), next, buf;

	ASSERT_LE(0, heap);
	ASSERT_EQ(0, rmmod(variant->module));
	EXPECT_EQ(-1, heap_alloc(heap, self->page));
	EXPECT_EQ(ENODEV, errno);

	/* What comes back has the name, and is another heap. */
	ASSERT_TRUE(load(variant->module));
	EXPECT_EQ(-1, heap_alloc(heap, self->page));
	EXPECT_EQ(ENODEV, errno);
	next = heap_open(self->name);
	ASSERT_LE(0, next);
	buf = heap_alloc(next, self->page);
	EXPECT_LE(0, buf);
	close(buf);
	close(next);
	close(heap);
}

struct race {
	const char *name;
	size_t len;
	atomic_bool stop;
	atomic_int unexpected;
	atomic_int buffers;
};

static void *race_thread(void *arg)
{
	struct race *race = arg;
	int heap, buf;

	while (!race->stop) {
		heap = heap_open(race->name);
		if (heap < 0) {
			if (errno != ENOENT && errno != ENXIO)
				race->unexpected = errno;
			sched_yield();
			continue;
		}
		for (int i = 0; i < 20; i++) {
			buf = heap_alloc(heap, race->len);
			if (buf >= 0)
				race->buffers++;
			else if (errno != ENODEV)
				race->unexpected = errno;
			close(buf);
		}
		close(heap);
		/* Let the module go once in a while. */
		usleep(1000);
	}
	return NULL;
}

TEST_F_TIMEOUT(unload, race, 120)
{
	struct race race = { .name = self->name, .len = 4 * self->page };
	const char *seconds = getenv("RACE_SECONDS");
	time_t end = time(NULL) + (seconds ? atoi(seconds) : 2);
	int unloads = 0, error;
	pthread_t threads[2];

	for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
		ASSERT_EQ(0, pthread_create(&threads[i], NULL, race_thread, &race));
	while (time(NULL) < end) {
		error = rmmod(variant->module);
		EXPECT_TRUE(!error || error == EAGAIN)
			TH_LOG("%s", strerror(error));
		if (!error) {
			unloads++;
			EXPECT_TRUE(load(variant->module));
		}
	}
	race.stop = true;
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
		pthread_join(threads[i], NULL);
	EXPECT_EQ(0, race.unexpected)
		TH_LOG("%s", strerror(race.unexpected));
	EXPECT_LT(0, race.buffers);
	EXPECT_LT(0, unloads);
	TH_LOG("%d unloads, %d buffers", unloads, race.buffers);
}

TEST_HARNESS_MAIN
