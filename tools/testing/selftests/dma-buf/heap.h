/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Allocation from dma-buf heaps, which may be modules.
 */
#ifndef SELFTESTS_DMA_BUF_HEAP_H
#define SELFTESTS_DMA_BUF_HEAP_H

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <sys/ioctl.h>

#include <linux/dma-heap.h>

#include "../kselftest.h"

static inline size_t page_size(void)
{
	return sysconf(_SC_PAGESIZE);
}

/* Nothing happens where @module is loaded already, or built in. */
static inline void heap_load(const char *module)
{
	char command[64];

	snprintf(command, sizeof(command), "modprobe -q %s", module);
	if (system(command))
		return;	/* There will be no such heap. */
}

static inline bool heap_exists(const char *heap)
{
	char path[128];

	snprintf(path, sizeof(path), "/dev/dma_heap/%s", heap);
	return !access(path, F_OK);
}

/* The name of the heap of the default CMA region; NULL if there is none */
static inline const char *heap_of_default_cma(void)
{
	/* The first is the name; older kernels have but one of the others. */
	static const char * const names[] = {
		"default_cma_region", "reserved", "linux,cma", "default-pool",
	};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (heap_exists(names[i]))
			return names[i];
	return NULL;
}

/* A dma-buf of @size bytes from @heap; or -1, with errno */
static inline int heap_alloc(const char *heap, size_t size)
{
	struct dma_heap_allocation_data data = {
		.len = size,
		.fd_flags = O_RDWR | O_CLOEXEC,
	};
	char path[128];
	int fd, ret;

	snprintf(path, sizeof(path), "/dev/dma_heap/%s", heap);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	ret = ioctl(fd, DMA_HEAP_IOCTL_ALLOC, &data);
	close(fd);
	return ret ? -1 : (int)data.fd;
}

#endif
