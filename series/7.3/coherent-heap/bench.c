// SPDX-License-Identifier: GPL-2.0
/*
 * What the coherent heap costs beside the CMA heap, on regions of 128 MiB each:
 * lines "versus NAME OTHER THIS", in nanoseconds, which are guest instructions under
 * QEMU's -icount. And how much fits: lines "figure NAME VALUE".
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include <linux/dma-heap.h>

#define DEVPATH		"/dev/dma_heap/"
#define FRAME		13002342	/* bytes: 12.4 MiB */
#define POOL_PAGES	(128UL << 20 >> 12)

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1e9 + ts.tv_nsec;
}

static int try_alloc(int heap, size_t size)
{
	struct dma_heap_allocation_data data = { .len = size, .fd_flags = O_RDWR };

	return ioctl(heap, DMA_HEAP_IOCTL_ALLOC, &data) ? -1 : (int)data.fd;
}

static int alloc(int heap, size_t size)
{
	int buf = try_alloc(heap, size);

	if (buf < 0) {
		perror("DMA_HEAP_IOCTL_ALLOC");
		exit(1);
	}
	return buf;
}

static double alloc_free(int heap, size_t size)
{
	int rounds = size < 1 << 20 ? 200 : 10;
	double start;

	close(alloc(heap, size));
	start = now();
	for (int i = 0; i < rounds; i++)
		close(alloc(heap, size));
	return (now() - start) / rounds;
}

static double mmap_touch(int heap, size_t size)
{
	int rounds = size < 1 << 20 ? 200 : 10, buf = alloc(heap, size);
	double start = now();

	for (int i = 0; i < rounds; i++) {
		volatile char *map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, buf, 0);

		for (size_t at = 0; at < size; at += 4096)
			map[at]++;
		munmap((void *)map, size);
	}
	start = (now() - start) / rounds;
	close(buf);
	return start;
}

/*
 * Allocation where of each four pages @used are in use, and where none is: each
 * second one, or those that leave two that are not aligned
 */
static void checkerboard(int heap, const char *name, int used, const size_t *sizes,
			 const double *empty)
{
	static int bufs[POOL_PAGES];
	double checkered[3];
	size_t i;

	for (i = 0; i < POOL_PAGES; i++)
		bufs[i] = alloc(heap, 4096);
	/* The last 2 MiB are free. */
	for (i = 0; i < POOL_PAGES; i++)
		if (!(used & 1 << i % 4) || i >= POOL_PAGES - 512)
			close(bufs[i]);
	for (i = 0; i < 3; i++)
		checkered[i] = alloc_free(heap, sizes[i]);
	for (i = 0; i < POOL_PAGES - 512; i++)
		if (used & 1 << i % 4)
			close(bufs[i]);
	for (i = 0; i < 3; i++)
		printf("versus %s_%zuKiB_(empty,_checkered) %.0f %.0f\n", name, sizes[i] >> 10,
		       empty[i], checkered[i]);
}

int main(void)
{
	const size_t sizes[] = { 4 << 10, 64 << 10, 1 << 20, 4 << 20, 16 << 20 };
	struct rlimit files = { POOL_PAGES + 100, POOL_PAGES + 100 };
	const size_t pieces[] = { 8 << 10, 64 << 10, 1 << 20 };
	int cma, coherent, frames = 0, bufs[64];
	double empty[3];

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (system("modprobe -q cma_heap; modprobe -q coherent_heap") < 0)
		return 1;
	if (setrlimit(RLIMIT_NOFILE, &files))
		return 1;
	cma = open(DEVPATH "default_cma_region", O_RDWR);
	coherent = open(DEVPATH "far@100000000", O_RDWR);
	if (cma < 0 || coherent < 0)
		return 0; /* a kernel without the heaps, or a machine without the regions */
	for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
		printf("versus alloc_zero_free_%zuKiB_(CMA,_coherent) %.0f %.0f\n", sizes[i] >> 10,
		       alloc_free(cma, sizes[i]), alloc_free(coherent, sizes[i]));
		printf("versus mmap_touch_%zuKiB_(CMA,_coherent) %.0f %.0f\n", sizes[i] >> 10,
		       mmap_touch(cma, sizes[i]), mmap_touch(coherent, sizes[i]));
	}
	while (frames < 64 && (bufs[frames] = try_alloc(coherent, FRAME)) >= 0)
		frames++;
	printf("figure frames_of_12.4MiB_in_128MiB %d\n", frames);
	while (frames--)
		close(bufs[frames]);
	/* All of these before thousands of files have been open */
	for (size_t i = 0; i < 3; i++)
		empty[i] = alloc_free(coherent, pieces[i]);
	checkerboard(coherent, "checkerboard", 0b0101, pieces, empty);
	checkerboard(coherent, "unaligned_holes", 0b1001, pieces, empty);
	return 0;
}
