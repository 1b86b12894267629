// SPDX-License-Identifier: GPL-2.0
/*
 * Calls of the software DSP by /dev/fastrpc-* and by the accel driver, in one
 * boot: lines "versus NAME FASTRPC QDA", in nanoseconds, which are guest
 * instructions under QEMU's -icount; first everything, then without what the
 * simulator itself spent on it.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include <drm/drm.h>
#include <drm/qda_accel.h>
#include <linux/udmabuf.h>
#include <misc/fastrpc.h>

#include "../../../tools/testing/selftests/drivers/fastrpc/sim.h"

#define DSP		"cdsp"
#define CHANNEL		"fastrpc-sim.fastrpcglink-apps-dsp.1.-1"
#define RPMSG		"/sys/bus/rpmsg"
#define PAGE		4096
#define MAX_BUFFERS	64
#define ROUNDS		50
#define MEMORY_SESSIONS	4

struct buffer {
	int fd;
	uint32_t handle;
	size_t size;
	void *mem;
};

/* A way to use the DSP; what fails ends the program. */
struct way {
	int (*open)(void);
	struct buffer (*create)(int dev, size_t size);
	void (*destroy)(int dev, struct buffer *buf);
	void (*session)(int dev, struct buffer *shell);
	/* Inputs that are whole buffers. */
	int (*call)(int dev, uint32_t module, unsigned int n, struct buffer *bufs);
	/* Two inputs and two outputs, which lie in a buffer. */
	int (*remotectl)(int dev, struct buffer *buf, const size_t *at, const size_t *len);
};

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1e9 + ts.tv_nsec;
}

/* /dev/fastrpc-*: buffers are dma-bufs */

static int fastrpc_open(void)
{
	return open("/dev/fastrpc-cdsp-secure", O_RDWR);
}

static struct buffer fastrpc_create(int dev, size_t size)
{
	struct udmabuf_create create = { .size = size };
	int udmabuf = open("/dev/udmabuf", O_RDWR), memfd = memfd_create("bench", MFD_ALLOW_SEALING);
	struct buffer buf = { .size = size };

	create.memfd = memfd;
	if (udmabuf < 0 || ftruncate(memfd, size) || fcntl(memfd, F_ADD_SEALS, F_SEAL_SHRINK))
		die("memfd");
	buf.fd = ioctl(udmabuf, UDMABUF_CREATE, &create);
	buf.mem = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
	if (buf.fd < 0 || buf.mem == MAP_FAILED)
		die("UDMABUF_CREATE");
	close(memfd);
	close(udmabuf);
	return buf;
}

static void fastrpc_destroy(int dev, struct buffer *buf)
{
	munmap(buf->mem, buf->size);
	close(buf->fd);
}

static void fastrpc_session(int dev, struct buffer *shell)
{
	struct fastrpc_init_create create = {
		.file = (uintptr_t)shell->mem, .filelen = shell->size, .filefd = shell->fd,
	};

	if (ioctl(dev, FASTRPC_IOCTL_INIT_CREATE, &create))
		die("FASTRPC_IOCTL_INIT_CREATE");
}

static int fastrpc_invoke(int dev, uint32_t module, uint32_t sc, struct fastrpc_invoke_args *args)
{
	struct fastrpc_invoke request = { .handle = module, .sc = sc, .args = (uintptr_t)args };

	return ioctl(dev, FASTRPC_IOCTL_INVOKE, &request);
}

static int fastrpc_call(int dev, uint32_t module, unsigned int n, struct buffer *bufs)
{
	struct fastrpc_invoke_args args[MAX_BUFFERS] = {};

	for (unsigned int i = 0; i < n; i++) {
		args[i].ptr = (uintptr_t)bufs[i].mem;
		args[i].length = bufs[i].size;
		args[i].fd = bufs[i].fd;
	}
	return fastrpc_invoke(dev, module, SIM_SC(2, n, 0, 0, 0), args);
}

static int fastrpc_remotectl(int dev, struct buffer *buf, const size_t *at, const size_t *len)
{
	struct fastrpc_invoke_args args[4] = {};

	for (int i = 0; i < 4; i++) {
		args[i].ptr = (uintptr_t)buf->mem + at[i];
		args[i].length = len[i];
		args[i].fd = -1;
	}
	return fastrpc_invoke(dev, SIM_REMOTECTL, SIM_SC(0, 2, 2, 0, 0), args);
}

static const struct way fastrpc = {
	fastrpc_open, fastrpc_create, fastrpc_destroy, fastrpc_session, fastrpc_call,
	fastrpc_remotectl,
};

/* The accel driver */

static int qda_open(void)
{
	const char *accel = RPMSG "/devices/" CHANNEL "/accel";
	struct dirent *entry;
	char path[300];
	int fd = -1;
	DIR *dir;

	dir = opendir(accel);
	while (dir && (entry = readdir(dir))) {
		if (entry->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "/dev/accel/%s", entry->d_name);
		fd = open(path, O_RDWR);
	}
	if (dir)
		closedir(dir);
	return fd;
}

static struct buffer qda_create(int dev, size_t size)
{
	struct drm_qda_gem_create create = { .size = size };
	struct drm_qda_gem_mmap_offset map = {};
	struct buffer buf = { .size = size };

	if (ioctl(dev, DRM_IOCTL_QDA_GEM_CREATE, &create))
		die("DRM_IOCTL_QDA_GEM_CREATE");
	map.handle = create.handle;
	if (ioctl(dev, DRM_IOCTL_QDA_GEM_MMAP_OFFSET, &map))
		die("DRM_IOCTL_QDA_GEM_MMAP_OFFSET");
	buf.handle = create.handle;
	buf.mem = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, dev, map.offset);
	if (buf.mem == MAP_FAILED)
		die("mmap");
	return buf;
}

static void qda_destroy(int dev, struct buffer *buf)
{
	struct drm_gem_close close = { .handle = buf->handle };

	munmap(buf->mem, buf->size);
	ioctl(dev, DRM_IOCTL_GEM_CLOSE, &close);
}

static void qda_session(int dev, struct buffer *shell)
{
	struct drm_qda_session_create create = {
		.kind = DRM_QDA_SESSION_USER, .shell_handle = shell->handle,
		.shell_size = shell->size,
	};

	if (ioctl(dev, DRM_IOCTL_QDA_SESSION_CREATE, &create))
		die("DRM_IOCTL_QDA_SESSION_CREATE");
}

static int qda_invoke(int dev, uint32_t module, uint32_t scalars, struct drm_qda_arg *args)
{
	struct drm_qda_invoke request = {
		.module = module, .scalars = scalars, .args = (uintptr_t)args,
	};

	return ioctl(dev, DRM_IOCTL_QDA_INVOKE, &request) ?: request.result;
}

static int qda_call(int dev, uint32_t module, unsigned int n, struct buffer *bufs)
{
	struct drm_qda_arg args[MAX_BUFFERS] = {};

	for (unsigned int i = 0; i < n; i++) {
		args[i].handle = bufs[i].handle;
		args[i].length = bufs[i].size;
	}
	return qda_invoke(dev, module, DRM_QDA_SCALARS(2, n, 0, 0, 0), args);
}

static int qda_remotectl(int dev, struct buffer *buf, const size_t *at, const size_t *len)
{
	struct drm_qda_arg args[4] = {};

	for (int i = 0; i < 4; i++) {
		args[i].handle = buf->handle;
		args[i].offset = at[i];
		args[i].length = len[i];
	}
	return qda_invoke(dev, SIM_REMOTECTL, DRM_QDA_SCALARS(0, 2, 2, 0, 0), args);
}

static const struct way qda = {
	qda_open, qda_create, qda_destroy, qda_session, qda_call, qda_remotectl,
};

/* What is measured */

struct cost {
	double all;
	double simulator;
};

static void begin(struct cost *cost)
{
	cost->simulator -= sim_count(DSP, "busy_ns");
	cost->all -= now();
}

static void end(struct cost *cost)
{
	cost->all += now();
	cost->simulator += sim_count(DSP, "busy_ns");
}

static uint32_t open_echo(const struct way *way, int dev)
{
	const size_t at[] = { 0, 128, 512, 640 };
	struct buffer buf = way->create(dev, PAGE);
	uint32_t *words = buf.mem, module;
	size_t len[] = { 8, 0, 8, 64 };

	sim_uri(buf.mem + 128, 128, "echo");
	len[1] = strlen(buf.mem + 128) + 1;
	words[0] = len[1];
	words[1] = len[3];
	if (way->remotectl(dev, &buf, at, len))
		die("remotectl");
	module = words[128];
	way->destroy(dev, &buf);
	return module;
}

static struct buffer create_shell(const struct way *way, int dev)
{
	struct buffer shell = way->create(dev, PAGE);

	memcpy(shell.mem, "\177ELF", 4);
	return shell;
}

static int open_session(const struct way *way, uint32_t *module)
{
	int dev = way->open();
	struct buffer shell;

	if (dev < 0)
		die("device");
	shell = create_shell(way, dev);
	way->session(dev, &shell);
	way->destroy(dev, &shell);
	if (module)
		*module = open_echo(way, dev);
	return dev;
}

static void call(const struct way *way, int dev, uint32_t module, unsigned int n,
		 struct buffer *bufs)
{
	if (way->call(dev, module, n, bufs))
		die("call");
}

/* Calls with @n buffers that have been used before, or @fresh ones. */
static struct cost calls(const struct way *way, unsigned int n, size_t size, int fresh)
{
	struct buffer bufs[MAX_BUFFERS];
	struct cost cost = {};
	int rounds = fresh ? 1 : ROUNDS;
	uint32_t module;
	int dev;

	dev = open_session(way, &module);
	call(way, dev, module, 0, NULL);
	for (unsigned int i = 0; i < n; i++) {
		bufs[i] = way->create(dev, size);
		memset(bufs[i].mem, i, size);
	}
	if (!fresh)
		call(way, dev, module, n, bufs);
	begin(&cost);
	for (int i = 0; i < rounds; i++)
		call(way, dev, module, n, bufs);
	end(&cost);
	for (unsigned int i = 0; i < n; i++)
		way->destroy(dev, &bufs[i]);
	close(dev);
	sim_wait_count(DSP, "processes", 0);
	cost.all /= rounds;
	cost.simulator /= rounds;
	return cost;
}

/* Creating a session and destroying it: a close waits for the DSP. */
static struct cost sessions(const struct way *way)
{
	struct buffer shell;
	struct cost cost = {};
	int dev;

	for (int i = -1; i < ROUNDS / 5; i++) {
		dev = way->open();
		shell = create_shell(way, dev);
		if (i >= 0)
			begin(&cost);
		way->session(dev, &shell);
		way->destroy(dev, &shell);
		close(dev);
		sim_wait_count(DSP, "processes", 0);
		if (i >= 0)
			end(&cost);
	}
	cost.all /= ROUNDS / 5;
	cost.simulator /= ROUNDS / 5;
	return cost;
}

static long free_kib(void)
{
	char line[128];
	long kib = 0;
	FILE *f;

	f = fopen("/proc/meminfo", "r");
	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "MemFree: %ld", &kib) == 1)
			break;
	if (f)
		fclose(f);
	return kib;
}

static long memory_of_session(const struct way *way)
{
	int devs[MEMORY_SESSIONS];
	long kib;

	close(open_session(way, NULL));
	sim_wait_count(DSP, "processes", 0);
	kib = free_kib();
	for (int i = 0; i < MEMORY_SESSIONS; i++)
		devs[i] = open_session(way, NULL);
	kib -= free_kib();
	for (int i = 0; i < MEMORY_SESSIONS; i++)
		close(devs[i]);
	sim_wait_count(DSP, "processes", 0);
	return kib / MEMORY_SESSIONS;
}

static const char * const names[] = {
	"null_call", "1_buffer_of_4KiB", "16_buffers_of_4KiB", "64_buffers_of_4KiB",
	"1_buffer_of_1MiB", "first_use_of_1MiB", "first_use_of_64_of_4KiB", "session",
};

#define NAMES	(sizeof(names) / sizeof(*names))

struct figures {
	struct cost costs[NAMES];
	long kib;
};

static struct figures measure(const struct way *way)
{
	return (struct figures){
		.costs = {
			calls(way, 0, 0, 0), calls(way, 1, PAGE, 0), calls(way, 16, PAGE, 0),
			calls(way, 64, PAGE, 0), calls(way, 1, 1 << 20, 0),
			calls(way, 1, 1 << 20, 1), calls(way, 64, PAGE, 1), sessions(way),
		},
		.kib = memory_of_session(way),
	};
}

static void write_file(const char *path, const char *what)
{
	int fd = open(path, O_WRONLY);

	if (fd < 0 || write(fd, what, strlen(what)) < 0)
		die(path);
	close(fd);
}

int main(void)
{
	struct figures today, series;
	unsigned int i;

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (access(SIM_DEBUGFS "/" DSP, F_OK))
		return 0; /* a kernel without the software DSP */
	today = measure(&fastrpc);
	write_file(RPMSG "/devices/" CHANNEL "/driver_override", "qda");
	write_file(RPMSG "/devices/" CHANNEL "/driver/unbind", CHANNEL);
	write_file(RPMSG "/drivers/qda/bind", CHANNEL);
	series = measure(&qda);

	for (i = 0; i < NAMES; i++)
		printf("versus %s_(fastrpc,_qda) %.0f %.0f\n", names[i], today.costs[i].all,
		       series.costs[i].all);
	for (i = 0; i < NAMES; i++)
		printf("versus %s_less_simulator_(fastrpc,_qda) %.0f %.0f\n", names[i],
		       today.costs[i].all - today.costs[i].simulator,
		       series.costs[i].all - series.costs[i].simulator);
	printf("versus KiB_of_an_idle_session_(fastrpc,_qda) %ld %ld\n", today.kib, series.kib);
	return 0;
}
