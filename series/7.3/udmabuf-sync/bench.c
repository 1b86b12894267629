// SPDX-License-Identifier: GPL-2.0
/*
 * What udmabuf costs: for each operation a line "bench NAME TIME", the time of one
 * in nanoseconds. Under QEMU's -icount these are guest instructions.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include <linux/dma-buf.h>
#include <linux/memfd.h>
#include <linux/udmabuf.h>

#define SIZE	(1UL << 20)
#define ROUNDS	200

static int dev, memfd;
static char *mem;

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1e9 + ts.tv_nsec;
}

static int create(void)
{
	struct udmabuf_create arg = { .memfd = memfd, .size = SIZE };
	int buf = ioctl(dev, UDMABUF_CREATE, &arg);

	if (buf < 0) {
		perror("UDMABUF_CREATE");
		exit(1);
	}
	return buf;
}

static void sync_pair(int buf, unsigned long direction)
{
	struct dma_buf_sync start = { DMA_BUF_SYNC_START | direction };
	struct dma_buf_sync end = { DMA_BUF_SYNC_END | direction };

	if (ioctl(buf, DMA_BUF_IOCTL_SYNC, &start) || ioctl(buf, DMA_BUF_IOCTL_SYNC, &end)) {
		perror("DMA_BUF_IOCTL_SYNC");
		exit(1);
	}
}

static void create_close(int buf)
{
	close(create());
}

static void fault_in(int buf)
{
	volatile char *map = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, buf, 0);

	for (size_t i = 0; i < SIZE; i += 4096)
		map[i]++;
	munmap((void *)map, SIZE);
}

static void sync_first(int buf)
{
	int fresh = create();

	sync_pair(fresh, DMA_BUF_SYNC_WRITE);
	close(fresh);
}

static void sync_read(int buf) { sync_pair(buf, DMA_BUF_SYNC_READ); }
static void sync_write(int buf) { sync_pair(buf, DMA_BUF_SYNC_WRITE); }
static void sync_rw(int buf) { sync_pair(buf, DMA_BUF_SYNC_RW); }

static void measure(const char *name, void (*operation)(int buf))
{
	int buf = create();
	double start;

	for (int i = 0; i < 3; i++)
		operation(buf);
	start = now();
	for (int i = 0; i < ROUNDS; i++)
		operation(buf);
	printf("bench %s %.0f\n", name, (now() - start) / ROUNDS);
	close(buf);
}

int main(void)
{
	dev = open("/dev/udmabuf", O_RDWR);
	memfd = memfd_create("bench", MFD_ALLOW_SEALING);
	if (dev < 0 || ftruncate(memfd, SIZE) || fcntl(memfd, F_ADD_SEALS, F_SEAL_SHRINK)) {
		perror("setup");
		return 1;
	}
	mem = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, memfd, 0);
	setvbuf(stdout, NULL, _IOLBF, 0);
	measure("create_1MiB", create_close);
	measure("create_and_first_sync_1MiB", sync_first);
	measure("fault_in_1MiB", fault_in);
	measure("sync_read_1MiB", sync_read);
	measure("sync_write_1MiB", sync_write);
	measure("sync_rw_1MiB", sync_rw);
	return 0;
}
