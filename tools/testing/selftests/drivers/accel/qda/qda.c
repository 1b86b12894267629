// SPDX-License-Identifier: GPL-2.0-only
/*
 * The accel driver of Qualcomm's DSPs, on the software DSP: what each ioctl does
 * and refuses, what other drivers do with its buffers, and what neither DSPs nor
 * programs that misbehave can do to anybody.
 */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>

#include <linux/capability.h>
#include <linux/dma-buf.h>
#include <linux/dma-heap.h>
#include <linux/udmabuf.h>
#include <drm/drm.h>
#include <drm/qda_accel.h>
#include <misc/fastrpc.h>

#include "../../../kselftest_harness.h"
#include "../../fastrpc/sim.h"

/* Machines that are emulated on machines that are busy take their time. */
#undef TEST_TIMEOUT_DEFAULT
#define TEST_TIMEOUT_DEFAULT 120

#define RPMSG		"/sys/bus/rpmsg"
#define PAGE		4096
#define MIB		(1024 * 1024)

/* The DSPs, and their channels as the software DSP names them. */
#define CDSP		"cdsp"
#define CDSP_CHANNEL	"fastrpc-sim.fastrpcglink-apps-dsp.1.-1"
#define ADSP		"adsp"
#define ADSP_CHANNEL	"fastrpc-sim.fastrpcglink-apps-dsp.0.-1"

#define ROUND_UP(x)	(((x) + 127) / 128 * 128)

static int write_file(const char *path, const char *what)
{
	int fd = open(path, O_WRONLY), ret;

	if (fd < 0)
		return -1;
	ret = write(fd, what, strlen(what)) == (ssize_t)strlen(what) ? 0 : -1;
	close(fd);
	return ret;
}

/* Let the driver have the channel; 0 if it does. */
static int bind_driver(const char *channel)
{
	char path[256];

	snprintf(path, sizeof(path), RPMSG "/drivers/qda/%s", channel);
	if (!access(path, F_OK))
		return 0;
	snprintf(path, sizeof(path), RPMSG "/devices/%s/driver_override", channel);
	if (write_file(path, "qda"))
		return -1;
	snprintf(path, sizeof(path), RPMSG "/devices/%s/driver/unbind", channel);
	write_file(path, channel);
	return write_file(RPMSG "/drivers/qda/bind", channel);
}

/* Let whoever would have it by default have it. */
static void unbind_driver(const char *channel)
{
	char path[256];

	snprintf(path, sizeof(path), RPMSG "/devices/%s/driver_override", channel);
	write_file(path, "\n");
	write_file(RPMSG "/drivers/qda/unbind", channel);
	write_file(RPMSG "/drivers_probe", channel);
}

static int open_device(const char *channel)
{
	struct dirent *entry;
	char path[300];
	int fd = -1;
	DIR *dir;

	snprintf(path, sizeof(path), RPMSG "/devices/%s/accel", channel);
	dir = opendir(path);
	while (dir && (entry = readdir(dir))) {
		if (entry->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "/dev/accel/%s", entry->d_name);
		fd = open(path, O_RDWR | O_CLOEXEC);
	}
	if (dir)
		closedir(dir);
	return fd;
}

/* The ioctl as far as it goes, not again when a signal comes. */
#define ERRNO(call)	((call) ? errno : 0)

static int query_device(int dev, struct drm_qda_device *device)
{
	struct drm_qda_query query = {
		.type = DRM_QDA_QUERY_DEVICE, .size = sizeof(*device), .data = (uintptr_t)device,
	};

	return ioctl(dev, DRM_IOCTL_QDA_QUERY, &query);
}

struct buffer {
	int dev;
	uint32_t handle;
	size_t size;
	char *mem;
};

static int gem_create(int dev, struct buffer *buf, size_t size)
{
	struct drm_qda_gem_create create = { .size = size };
	struct drm_qda_gem_mmap_offset map = {};

	if (ioctl(dev, DRM_IOCTL_QDA_GEM_CREATE, &create))
		return -1;
	map.handle = create.handle;
	if (ioctl(dev, DRM_IOCTL_QDA_GEM_MMAP_OFFSET, &map))
		return -1;
	buf->dev = dev;
	buf->handle = create.handle;
	buf->size = size;
	buf->mem = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, dev, map.offset);
	return buf->mem == MAP_FAILED ? -1 : 0;
}

static int gem_close(int dev, uint32_t handle)
{
	struct drm_gem_close close = { .handle = handle };

	return ioctl(dev, DRM_IOCTL_GEM_CLOSE, &close);
}

static void gem_destroy(struct buffer *buf)
{
	munmap(buf->mem, buf->size);
	gem_close(buf->dev, buf->handle);
}

static int prime_export(int dev, uint32_t handle)
{
	struct drm_prime_handle prime = { .handle = handle, .flags = DRM_CLOEXEC | DRM_RDWR };

	return ioctl(dev, DRM_IOCTL_PRIME_HANDLE_TO_FD, &prime) ? -1 : prime.fd;
}

static int prime_import(int dev, int fd, uint32_t *handle)
{
	struct drm_prime_handle prime = { .fd = fd };

	if (ioctl(dev, DRM_IOCTL_PRIME_FD_TO_HANDLE, &prime))
		return -1;
	*handle = prime.handle;
	return 0;
}

static struct drm_qda_arg arg(uint32_t handle, uint64_t offset, uint64_t length)
{
	return (struct drm_qda_arg){ .handle = handle, .offset = offset, .length = length };
}

static int invoke(int dev, uint32_t module, uint32_t scalars, struct drm_qda_arg *args, int *result)
{
	struct drm_qda_invoke request = {
		.module = module, .scalars = scalars, .args = (uintptr_t)args,
	};
	int ret = ioctl(dev, DRM_IOCTL_QDA_INVOKE, &request);

	*result = request.result;
	return ret;
}

/* What a session with a buffer for small arguments needs. */
struct session {
	int dev;
	struct buffer args;
};

static int session_create(struct session *session, int dev, uint32_t attributes, uint32_t flags)
{
	struct drm_qda_session_create create = {
		.kind = DRM_QDA_SESSION_USER, .attributes = attributes, .flags = flags,
		.shell_size = 1000,
	};

	session->dev = dev;
	if (gem_create(dev, &session->args, 16 * PAGE))
		return -1;
	memcpy(session->args.mem, "\177ELF", 4);
	create.shell_handle = session->args.handle;
	return ioctl(dev, DRM_IOCTL_QDA_SESSION_CREATE, &create);
}

static int session_release(int dev)
{
	struct drm_qda_session_release release = {};

	return ioctl(dev, DRM_IOCTL_QDA_SESSION_RELEASE, &release);
}

/* A buffer that is mapped holds the file, and with it the session. */
static void drop(int dev)
{
	session_release(dev);
	close(dev);
}

/* The number of a module; negative for an error of the DSP's, 0 for one of the kernel's. */
static int open_module(struct session *session, const char *name)
{
	struct { uint32_t name_len, text_len; } in;
	struct { uint32_t module; int32_t error; } out;
	uint32_t handle = session->args.handle;
	struct drm_qda_arg args[4];
	char uri[128];
	int result;

	sim_uri(uri, sizeof(uri), name);
	in.name_len = strlen(uri) + 1;
	in.text_len = 64;
	memcpy(session->args.mem, &in, sizeof(in));
	memcpy(session->args.mem + 128, uri, in.name_len);
	args[0] = arg(handle, 0, sizeof(in));
	args[1] = arg(handle, 128, in.name_len);
	args[2] = arg(handle, 512, sizeof(out));
	args[3] = arg(handle, 640, in.text_len);
	if (invoke(session->dev, SIM_REMOTECTL, DRM_QDA_SCALARS(0, 2, 2, 0, 0), args, &result))
		return 0;
	if (result)
		return result;
	memcpy(&out, session->args.mem + 512, sizeof(out));
	return out.error ?: out.module;
}

/* Have @len bytes come back; 0 if they do. */
static int echo(struct session *session, int module, char with, size_t len)
{
	char *in = session->args.mem + PAGE, *out = in + ROUND_UP(len);
	struct drm_qda_arg args[2];
	int result;

	memset(in, with, len);
	memset(out, ~with, len + 1);
	args[0] = arg(session->args.handle, PAGE, len);
	args[1] = arg(session->args.handle, PAGE + ROUND_UP(len), len);
	if (invoke(session->dev, module, DRM_QDA_SCALARS(2, 1, 1, 0, 0), args, &result))
		return -1;
	return result ?: memcmp(in, out, len) || out[len] != (char)~with;
}

/* Call a method that takes a number. */
static int call_u32(struct session *session, int module, uint32_t number, int *result)
{
	struct drm_qda_arg args[] = { arg(session->args.handle, 64, sizeof(number)) };

	memcpy(session->args.mem + 64, &number, sizeof(number));
	return invoke(session->dev, module, DRM_QDA_SCALARS(2, 1, 0, 0, 0), args, result);
}

/* Copy between memory that the DSP can reach and a buffer of its. */
static int dsp_memory(struct session *session, int module, int method, uint64_t addr, char *data)
{
	uint32_t handle = session->args.handle;
	struct drm_qda_arg args[] = { arg(handle, 0, 8), arg(handle, 128, 64) };
	bool write = method == 4 || method == 6;
	int result;

	memcpy(session->args.mem, &addr, sizeof(addr));
	memcpy(session->args.mem + 128, data, 64);
	if (invoke(session->dev, module, DRM_QDA_SCALARS(method, 1 + write, !write, 0, 0), args,
		   &result))
		return -1;
	memcpy(data, session->args.mem + 128, 64);
	return result;
}

/* The bus address of a buffer. */
static uint64_t locate(struct session *session, int module, uint32_t handle)
{
	uint32_t own = session->args.handle;
	struct drm_qda_arg args[] = { arg(own, 0, 8), arg(handle, 0, 1), arg(own, 128, 8) };
	uint64_t addr;
	int result;

	if (invoke(session->dev, module, DRM_QDA_SCALARS(2, 2, 1, 0, 0), args, &result) || result)
		return 0;
	memcpy(&addr, session->args.mem + 128, sizeof(addr));
	return addr;
}

/* A page that belongs to another driver; -1 if there is none. */
static int foreign_page(void)
{
	int memfd = memfd_create("qda", MFD_ALLOW_SEALING), fd = -1;
	struct udmabuf_create create = { .memfd = memfd, .size = PAGE };
	int udmabuf = open("/dev/udmabuf", O_RDWR);

	if (!ftruncate(memfd, PAGE) && !fcntl(memfd, F_ADD_SEALS, F_SEAL_SHRINK))
		fd = ioctl(udmabuf, UDMABUF_CREATE, &create);
	close(udmabuf);
	close(memfd);
	return fd;
}

static double seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec + now.tv_nsec / 1e9;
}

#define BANKS	"/sys/bus/qda/devices"

/* How many context banks there are; if @groups, how many behind an IOMMU. */
static int count_banks(bool groups)
{
	struct dirent *entry;
	char path[300];
	int n = 0;
	DIR *dir;

	dir = opendir(BANKS);
	while (dir && (entry = readdir(dir))) {
		if (entry->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), BANKS "/%s/iommu_group", entry->d_name);
		n += !groups || !access(path, F_OK);
	}
	if (dir)
		closedir(dir);
	return n;
}

/* How many pieces of memory the DMA API knows of in the DSP's banks; -1 if it does not tell. */
static int bank_memory(void)
{
	FILE *dump = fopen("/sys/kernel/debug/dma-api/dump", "r");
	char line[512];
	int n = 0;

	if (!dump)
		return -1;
	while (fgets(line, sizeof(line), dump))
		n += !!strstr(line, CDSP_CHANNEL ".compute-cb");
	fclose(dump);
	return n;
}

/* Wait until it is @wanted, for ten seconds at most; true if it is, or nobody can tell. */
static bool bank_memory_is(int wanted)
{
	int i, n;

	for (i = 0; i < 100; i++) {
		n = bank_memory();
		if (n < 0 || n == wanted)
			return true;
		usleep(100000);
	}
	return false;
}

FIXTURE(qda) {
	int dev;
	long outside;
};

FIXTURE_SETUP(qda)
{
	if (access(SIM_DEBUGFS "/" CDSP, F_OK))
		SKIP(return, "no software DSP");
	if (access(RPMSG "/drivers/qda", F_OK))
		SKIP(return, "no driver");
	ASSERT_EQ(0, bind_driver(CDSP_CHANNEL));
	self->dev = open_device(CDSP_CHANNEL);
	ASSERT_LE(0, self->dev);
	self->outside = sim_count(CDSP, "outside");
}

FIXTURE_TEARDOWN(qda)
{
	if (self->dev > 0)
		drop(self->dev);
	EXPECT_EQ(0, sim_wait_count(CDSP, "processes", 0));
	EXPECT_EQ(0, sim_wait_count(CDSP, "calls", 0));
	EXPECT_EQ(self->outside, sim_count(CDSP, "outside"));
	/* As long as there are banks to tell it of: nothing is left in them. */
	EXPECT_TRUE(bank_memory_is(0));
	unbind_driver(CDSP_CHANNEL);
}

/* What has no session has nothing to tell the DSP of, and nothing in a bank. */
TEST_F(qda, no_session)
{
	long busy = sim_count(CDSP, "busy_ns");
	struct session session;
	struct buffer buf;
	int dev;

	dev = open_device(CDSP_CHANNEL);
	ASSERT_LE(0, dev);
	ASSERT_EQ(0, gem_create(dev, &buf, PAGE));
	gem_destroy(&buf);
	close(dev);
	EXPECT_EQ(busy, sim_count(CDSP, "busy_ns"));
	EXPECT_TRUE(bank_memory_is(0));

	/* Both would be seen. */
	ASSERT_EQ(0, session_create(&session, self->dev, 0, 0));
	EXPECT_LT(busy, sim_count(CDSP, "busy_ns"));
	EXPECT_NE(0, bank_memory());
}

TEST_F(qda, query)
{
	struct drm_qda_capabilities capabilities;
	struct drm_qda_device device = {};
	struct drm_qda_query query = { .type = DRM_QDA_QUERY_DEVICE };
	struct session session;
	struct { struct drm_qda_device device; char more[16]; } longer;

	ASSERT_EQ(0, ioctl(self->dev, DRM_IOCTL_QDA_QUERY, &query));
	EXPECT_EQ(sizeof(device), query.size);
	ASSERT_EQ(0, query_device(self->dev, &device));
	EXPECT_STREQ("cdsp", (char *)device.name);
	EXPECT_EQ(DRM_QDA_DOMAIN_CDSP, device.domain);
	EXPECT_EQ(DRM_QDA_DEVICE_SECURE | DRM_QDA_DEVICE_UNSIGNED | DRM_QDA_DEVICE_POLL,
		  device.flags);
	EXPECT_EQ(SIM_SESSIONS, device.sessions);
	EXPECT_EQ(SIM_SESSIONS, device.sessions_free);
	EXPECT_LT(16, device.max_calls);
	EXPECT_EQ(2 * MIB, device.max_shell_size);
	EXPECT_LE(4 * MIB, device.max_buffer_size);

	ASSERT_EQ(0, session_create(&session, self->dev, 0, 0));
	ASSERT_EQ(0, query_device(self->dev, &device));
	EXPECT_EQ(SIM_SESSIONS - 1, device.sessions_free);

	memset(&longer, 0xff, sizeof(longer));
	query.data = (uintptr_t)&longer;
	query.size = sizeof(longer);
	ASSERT_EQ(0, ioctl(self->dev, DRM_IOCTL_QDA_QUERY, &query));
	EXPECT_EQ(0, longer.more[0] | longer.more[15]);
	EXPECT_EQ(0, memcmp(&device, &longer.device, sizeof(device)));
	memset(&longer, 0xff, sizeof(longer));
	query.size = 4;
	ASSERT_EQ(0, ioctl(self->dev, DRM_IOCTL_QDA_QUERY, &query));
	EXPECT_EQ(0, memcmp("cdsp\377", &longer, 5));
	query.data = 8;
	EXPECT_EQ(EFAULT, ERRNO(ioctl(self->dev, DRM_IOCTL_QDA_QUERY, &query)));
	query.type = 7;
	EXPECT_EQ(EINVAL, ERRNO(ioctl(self->dev, DRM_IOCTL_QDA_QUERY, &query)));

	query.type = DRM_QDA_QUERY_CAPABILITIES;
	query.data = (uintptr_t)&capabilities;
	query.size = sizeof(capabilities);
	ASSERT_EQ(0, ioctl(self->dev, DRM_IOCTL_QDA_QUERY, &query));
	EXPECT_EQ(0, capabilities.attributes[0]);
	EXPECT_EQ(SIM_ARCH, capabilities.attributes[SIM_ARCH_VERSION]);
	EXPECT_EQ(0, capabilities.attributes[255]);
}

TEST_F(qda, query_unsupported)
{
	struct drm_qda_capabilities capabilities;
	struct drm_qda_query query = {
		.type = DRM_QDA_QUERY_CAPABILITIES, .size = 16,
		.data = (uintptr_t)&capabilities,
	};

	ASSERT_EQ(0, sim_write(CDSP, "no_capabilities", "Y"));
	EXPECT_EQ(EOPNOTSUPP, ERRNO(ioctl(self->dev, DRM_IOCTL_QDA_QUERY, &query)));
	/* Who asks again still has room for this much only. */
	EXPECT_EQ(16, query.size);
	ASSERT_EQ(0, sim_write(CDSP, "no_capabilities", "N"));
	EXPECT_EQ(0, ioctl(self->dev, DRM_IOCTL_QDA_QUERY, &query));
	EXPECT_EQ(sizeof(capabilities), query.size);
	query.data = 8;
	query.size = 16;
	EXPECT_EQ(EFAULT, ERRNO(ioctl(self->dev, DRM_IOCTL_QDA_QUERY, &query)));
	EXPECT_EQ(16, query.size);
}

TEST_F(qda, buffers)
{
	struct drm_qda_gem_create create = {};
	struct drm_qda_gem_mmap_offset offset = {};
	struct drm_qda_device device;
	struct buffer buf;
	char *part;
	size_t i;
	int fd;

	ASSERT_EQ(0, query_device(self->dev, &device));
	EXPECT_EQ(EINVAL, ERRNO(ioctl(self->dev, DRM_IOCTL_QDA_GEM_CREATE, &create)));
	create.size = device.max_buffer_size + 1;
	EXPECT_EQ(EINVAL, ERRNO(ioctl(self->dev, DRM_IOCTL_QDA_GEM_CREATE, &create)));
	create.size = ~0ULL;
	EXPECT_EQ(EINVAL, ERRNO(ioctl(self->dev, DRM_IOCTL_QDA_GEM_CREATE, &create)));
	create.size = PAGE;
	create.flags = 1;
	EXPECT_EQ(EINVAL, ERRNO(ioctl(self->dev, DRM_IOCTL_QDA_GEM_CREATE, &create)));
	offset.handle = 99;
	EXPECT_EQ(ENOENT, ERRNO(ioctl(self->dev, DRM_IOCTL_QDA_GEM_MMAP_OFFSET, &offset)));

	ASSERT_EQ(0, gem_create(self->dev, &buf, 3 * PAGE));
	for (i = 0; i < buf.size && !buf.mem[i]; i++)
		;
	EXPECT_EQ(buf.size, i);
	offset.handle = buf.handle;
	offset.pad = 1;
	EXPECT_EQ(EINVAL, ERRNO(ioctl(self->dev, DRM_IOCTL_QDA_GEM_MMAP_OFFSET, &offset)));

	/* A part of contiguous memory; what the shmem helpers map begins at its start. */
	fd = prime_export(self->dev, buf.handle);
	ASSERT_LE(0, fd);
	if (device.max_buffer_size < 1024 * MIB) {
		buf.mem[PAGE] = 7;
		part = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, PAGE);
		ASSERT_NE(MAP_FAILED, part);
		EXPECT_EQ(7, part[0]);
		munmap(part, PAGE);
	}
	close(fd);
	gem_destroy(&buf);
	EXPECT_EQ(EINVAL, ERRNO(gem_close(self->dev, buf.handle)));
}

TEST_F(qda, session_errors)
{
	struct drm_qda_session_create good = { .kind = DRM_QDA_SESSION_USER, .shell_size = 100 };
	struct drm_qda_session_create bad;
	struct drm_qda_session_release release = {};
	struct drm_qda_invoke invoke_request = {};
	struct drm_qda_map map = {};
	struct drm_qda_unmap unmap = {};
	struct buffer shell;

	ASSERT_EQ(0, gem_create(self->dev, &shell, PAGE));
	good.shell_handle = shell.handle;

#define REFUSED(error, change) do {							\
		bad = good;								\
		change;									\
		EXPECT_EQ(error, ERRNO(ioctl(self->dev, DRM_IOCTL_QDA_SESSION_CREATE, &bad)));	\
	} while (0)
	/* Not an ELF file. */
	REFUSED(EREMOTEIO, (void)0);
	EXPECT_EQ(SIM_EUNABLETOLOAD, bad.result);
	memcpy(shell.mem, "\177ELF", 4);
	REFUSED(EINVAL, bad.kind = 4);
	REFUSED(EINVAL, bad.flags = 2);
	REFUSED(EINVAL, bad.attributes = 4);
	REFUSED(EINVAL, bad.attributes = 1 << 7);
	REFUSED(EINVAL, bad.pad = 1);
	REFUSED(EINVAL, bad.shell_size = 0);
	REFUSED(EINVAL, bad.shell_size = 2 * MIB + 1);
	REFUSED(EINVAL, bad.shell_size = PAGE + 1);
	REFUSED(EINVAL, bad.shell_offset = PAGE);
	REFUSED(EINVAL, bad.shell_offset = ~0ULL);
	REFUSED(EINVAL, bad.name_size = 1);
	REFUSED(EINVAL, bad.name = 1);
	REFUSED(ENOENT, bad.shell_handle = 99);
	REFUSED(EINVAL, bad.kind = DRM_QDA_SESSION_ROOT);
	memset(&good, 0, sizeof(good));
	REFUSED(EINVAL, bad.kind = DRM_QDA_SESSION_STATIC);
	good.name = (uintptr_t)"audiopd";
	good.name_size = sizeof("audiopd");
	REFUSED(EOPNOTSUPP, bad.kind = DRM_QDA_SESSION_STATIC);
	memset(&good, 0, sizeof(good));
	REFUSED(EINVAL, (bad.kind = DRM_QDA_SESSION_ROOT, bad.attributes = 1));
	REFUSED(EINVAL, (bad.kind = DRM_QDA_SESSION_SENSORS, bad.signature_size = 1));
	REFUSED(EINVAL, (bad.kind = DRM_QDA_SESSION_ROOT, bad.flags = DRM_QDA_SESSION_POLL));
#undef REFUSED

	/* The largest shell asks for more memory than there may be in one piece. */
	ASSERT_EQ(0, gem_create(self->dev, &shell, 2 * MIB));
	memcpy(shell.mem, "\177ELF", 4);
	bad = (struct drm_qda_session_create){
		.kind = DRM_QDA_SESSION_USER, .shell_handle = shell.handle, .shell_size = 2 * MIB,
	};
	if (ioctl(self->dev, DRM_IOCTL_QDA_SESSION_CREATE, &bad))
		ASSERT_EQ(ENOMEM, errno);
	session_release(self->dev);

	EXPECT_EQ(0, sim_count(CDSP, "processes"));
	EXPECT_EQ(ENOTCONN, ERRNO(ioctl(self->dev, DRM_IOCTL_QDA_SESSION_RELEASE, &release)));
	EXPECT_EQ(ENOTCONN, ERRNO(ioctl(self->dev, DRM_IOCTL_QDA_INVOKE, &invoke_request)));
	EXPECT_EQ(ENOTCONN, ERRNO(ioctl(self->dev, DRM_IOCTL_QDA_MAP, &map)));
	EXPECT_EQ(ENOTCONN, ERRNO(ioctl(self->dev, DRM_IOCTL_QDA_UNMAP, &unmap)));
	release.pad = 1;
	EXPECT_EQ(EINVAL, ERRNO(ioctl(self->dev, DRM_IOCTL_QDA_SESSION_RELEASE, &release)));
}

TEST_F(qda, sessions_of_each_kind)
{
	struct drm_qda_session_create create = {};
	struct session session;
	unsigned int kind;

	ASSERT_EQ(0, gem_create(self->dev, &session.args, 16 * PAGE));
	session.dev = self->dev;
	for (kind = DRM_QDA_SESSION_ROOT; kind <= DRM_QDA_SESSION_SENSORS; kind++) {
		create.kind = kind;
		ASSERT_EQ(0, ioctl(self->dev, DRM_IOCTL_QDA_SESSION_CREATE, &create));
		EXPECT_LT(20, open_module(&session, "echo"));
		EXPECT_EQ(EEXIST, ERRNO(ioctl(self->dev, DRM_IOCTL_QDA_SESSION_CREATE, &create)));
		ASSERT_EQ(0, session_release(self->dev));
	}
	ASSERT_EQ(0, session_create(&session, self->dev, DRM_QDA_SESSION_UNSIGNED, 0));
	EXPECT_LT(20, open_module(&session, "echo"));
	ASSERT_EQ(0, session_release(self->dev));
	ASSERT_EQ(0, session_create(&session, self->dev, 0, 0));
	EXPECT_LT(20, open_module(&session, "echo"));
}

TEST_F(qda, sessions_in_use)
{
	struct drm_qda_session_create create = { .kind = DRM_QDA_SESSION_ROOT };
	struct session sessions[SIM_SESSIONS];
	int i, dev, module;

	for (i = 0; i < SIM_SESSIONS; i++) {
		dev = open_device(CDSP_CHANNEL);
		ASSERT_LE(0, dev);
		ASSERT_EQ(0, session_create(&sessions[i], dev, 0, 0));
	}
	EXPECT_EQ(SIM_SESSIONS, sim_count(CDSP, "processes"));
	EXPECT_EQ(EBUSY, ERRNO(ioctl(self->dev, DRM_IOCTL_QDA_SESSION_CREATE, &create)));
	for (i = 0; i < SIM_SESSIONS; i++) {
		module = open_module(&sessions[i], "echo");
		ASSERT_LT(20, module);
		EXPECT_EQ(0, echo(&sessions[i], module, i, 100));
	}
	ASSERT_EQ(0, session_release(sessions[2].dev));
	EXPECT_EQ(0, ioctl(self->dev, DRM_IOCTL_QDA_SESSION_CREATE, &create));
	for (i = 0; i < SIM_SESSIONS; i++)
		drop(sessions[i].dev);
}

TEST_F(qda, echo)
{
	static const size_t sizes[] = { 1, 127, 128, 129, PAGE - 1, PAGE, 5 * PAGE + 1 };
	struct session session;
	int module, result;
	size_t i;

	ASSERT_EQ(0, session_create(&session, self->dev, 0, 0));
	EXPECT_EQ(SIM_EUNABLETOLOAD, open_module(&session, "nothing"));
	module = open_module(&session, "echo");
	ASSERT_LT(20, module);
	for (i = 0; i < ARRAY_SIZE(sizes); i++)
		EXPECT_EQ(0, echo(&session, module, i + 1, sizes[i]));
	ASSERT_EQ(0, invoke(self->dev, module, DRM_QDA_SCALARS(2, 0, 0, 0, 0), NULL, &result));
	EXPECT_EQ(0, result);
	ASSERT_EQ(0, invoke(self->dev, module, DRM_QDA_SCALARS(9, 0, 0, 0, 0), NULL, &result));
	EXPECT_EQ(SIM_EUNSUPPORTED, result);
	ASSERT_EQ(0, invoke(self->dev, module + 1, DRM_QDA_SCALARS(2, 0, 0, 0, 0), NULL, &result));
	EXPECT_EQ(SIM_EBADPARM, result);
}

TEST_F(qda, errors_of_the_dsp)
{
	struct session session;
	int module, result;
	uint32_t code;

	ASSERT_EQ(0, session_create(&session, self->dev, 0, 0));
	module = open_module(&session, "error");
	ASSERT_LT(20, module);
	for (code = 0x80000401; code < 0x80000450; code++) {
		EXPECT_EQ(0, call_u32(&session, module, code, &result));
		EXPECT_EQ((int)code, result);
	}
}

TEST_F(qda, all_arguments)
{
	static char expected[PAGE];
	struct drm_qda_arg args[255 * 2 + 30] = {};
	struct session session;
	struct buffer handles;
	int echo_module, copy_module, result, i, j;
	char *in, *out;

	ASSERT_EQ(0, session_create(&session, self->dev, 0, 0));
	ASSERT_EQ(0, gem_create(self->dev, &handles, 2 * PAGE));
	echo_module = open_module(&session, "echo");
	ASSERT_LT(20, echo_module);
	copy_module = open_module(&session, "copy");
	ASSERT_LT(20, copy_module);
	in = session.args.mem;
	out = in + PAGE;
	for (i = 0; i < PAGE; i++) {
		in[i] = i % 251 + 1;
		handles.mem[i] = i % 241 + 1;
	}
	/* Of each eight bytes, the first one up to all of them. */
	for (i = 0; i < 255; i++) {
		args[i] = arg(session.args.handle, i * 8, 1 + i % 8);
		args[255 + i] = arg(session.args.handle, PAGE + i * 8, 1 + i % 8);
		for (j = 0; j < 1 + i % 8; j++)
			expected[i * 8 + j] = in[i * 8 + j];
	}
	for (i = 0; i < 15; i++) {
		args[510 + i] = arg(handles.handle, i * 256, 256);
		args[525 + i] = arg(handles.handle, PAGE + i * 256, 256);
	}
	memset(out, 0, PAGE);
	ASSERT_EQ(0, invoke(self->dev, echo_module, DRM_QDA_SCALARS(2, 255, 255, 15, 15), args,
			    &result));
	EXPECT_EQ(0, result);
	EXPECT_EQ(0, memcmp(out, expected, PAGE));
	EXPECT_EQ(0, handles.mem[PAGE]);
	ASSERT_EQ(0, invoke(self->dev, copy_module, DRM_QDA_SCALARS(2, 255, 255, 15, 15), args,
			    &result));
	EXPECT_EQ(0, result);
	EXPECT_EQ(0, memcmp(handles.mem, handles.mem + PAGE, 15 * 256));
	EXPECT_EQ(0, handles.mem[PAGE + 15 * 256]);
	/* Small ones after large ones. */
	EXPECT_EQ(0, echo(&session, echo_module, 7, 64));
}

TEST_F(qda, handles)
{
	struct session session;
	struct buffer from, to;
	struct drm_qda_arg args[2];
	int module, result;

	ASSERT_EQ(0, session_create(&session, self->dev, 0, 0));
	module = open_module(&session, "copy");
	ASSERT_LT(20, module);
	ASSERT_EQ(0, gem_create(self->dev, &from, 3 * PAGE));
	ASSERT_EQ(0, gem_create(self->dev, &to, 3 * PAGE));
	memset(from.mem, 0x5a, from.size);
	args[0] = arg(from.handle, 100, 2 * PAGE);
	args[1] = arg(to.handle, PAGE, 2 * PAGE);
	ASSERT_EQ(0, invoke(self->dev, module, DRM_QDA_SCALARS(2, 0, 0, 1, 1), args, &result));
	EXPECT_EQ(0, result);
	EXPECT_EQ(0, to.mem[PAGE - 1]);
	EXPECT_EQ(0, memcmp(from.mem, to.mem + PAGE, 2 * PAGE));
}

/* Where mappings bounce, there is no room for one that is large, and the rest works on. */
TEST_F(qda, too_large_to_bounce)
{
	struct session session;
	struct buffer buf;
	struct drm_qda_map map = { .length = 4 * MIB };
	struct drm_qda_arg args[1];
	int module, result;

	if (sim_groups() || system("grep -qw swiotlb=force /proc/cmdline"))
		SKIP(return, "nothing bounces here");
	ASSERT_EQ(0, session_create(&session, self->dev, 0, 0));
	module = open_module(&session, "echo");
	ASSERT_LT(20, module);
	ASSERT_EQ(0, gem_create(self->dev, &buf, 4 * MIB));
	args[0] = arg(buf.handle, 0, 1);
	EXPECT_EQ(EIO, ERRNO(invoke(self->dev, module, DRM_QDA_SCALARS(2, 1, 0, 0, 0), args,
				    &result)));
	map.handle = buf.handle;
	EXPECT_EQ(EIO, ERRNO(ioctl(self->dev, DRM_IOCTL_QDA_MAP, &map)));
	EXPECT_EQ(0, echo(&session, module, 1, 100));
}

/* What the CPU wrote after the last call is its own when the buffer is unmapped. */
TEST_F(qda, unmap_keeps_writes)
{
	struct session session;
	int module;

	ASSERT_EQ(0, session_create(&session, self->dev, 0, 0));
	module = open_module(&session, "echo");
	ASSERT_LT(20, module);
	EXPECT_EQ(0, echo(&session, module, 1, 100));
	memset(session.args.mem, 0x77, PAGE);
	ASSERT_EQ(0, session_release(self->dev));
	EXPECT_EQ(0x77, session.args.mem[0]);
	EXPECT_EQ(0x77, session.args.mem[PAGE - 1]);
}

TEST_F(qda, sum_of_a_vector)
{
	struct session session;
	struct buffer vector;
	struct drm_qda_arg args[3];
	uint32_t count = MIB, i;
	int module, result;
	int64_t sum, expected = 0;

	ASSERT_EQ(0, session_create(&session, self->dev, 0, 0));
	module = open_module(&session, "calculator");
	ASSERT_LT(20, module);
	ASSERT_EQ(0, gem_create(self->dev, &vector, count * 4));
	for (i = 0; i < count; i++) {
		((int32_t *)vector.mem)[i] = i * 2654435761U;
		expected += ((int32_t *)vector.mem)[i];
	}
	memcpy(session.args.mem, &count, sizeof(count));
	args[0] = arg(session.args.handle, 0, sizeof(count));
	args[1] = arg(vector.handle, 0, vector.size);
	args[2] = arg(session.args.handle, 128, sizeof(sum));
	ASSERT_EQ(0, invoke(self->dev, module, DRM_QDA_SCALARS(2, 2, 1, 0, 0), args, &result));
	EXPECT_EQ(0, result);
	memcpy(&sum, session.args.mem + 128, sizeof(sum));
	EXPECT_EQ(expected, sum);
}

/* What the documentation shows as a program does what it says. */
TEST_F(qda, example)
{
	int shell = memfd_create("shell", 0);
	char program[256], command[320], line[64] = "";
	ssize_t n = readlink("/proc/self/exe", program, sizeof(program) - 1);
	FILE *output;

	ASSERT_LT(0, n);
	program[n] = '\0';
	*strrchr(program, '/') = '\0';
	ASSERT_EQ(4, write(shell, "\177ELF", 4));
	snprintf(command, sizeof(command), "%s/example /proc/%d/fd/%d", program, getpid(), shell);
	output = popen(command, "r");
	ASSERT_NE(NULL, output);
	EXPECT_NE(NULL, fgets(line, sizeof(line), output));
	EXPECT_STREQ("the sum is 499500\n", line);
	EXPECT_EQ(0, pclose(output));
	close(shell);
}

TEST_F(qda, invoke_errors)
{
	struct drm_qda_invoke good = { .scalars = DRM_QDA_SCALARS(2, 1, 0, 0, 0) }, bad;
	struct drm_qda_arg good_arg, bad_arg;
	struct session session;
	int module;

	ASSERT_EQ(0, session_create(&session, self->dev, 0, 0));
	module = open_module(&session, "echo");
	ASSERT_LT(20, module);
	good.module = module;
	good.args = (uintptr_t)&bad_arg;
	good_arg = arg(session.args.handle, 0, PAGE);

#define INVOKED(error, change) do {							\
		bad = good;								\
		bad_arg = good_arg;							\
		change;									\
		EXPECT_EQ(error, ERRNO(ioctl(self->dev, DRM_IOCTL_QDA_INVOKE, &bad)));	\
	} while (0)
	INVOKED(0, (void)0);
	INVOKED(EPERM, bad.module = SIM_PROCESS);
	INVOKED(EINVAL, bad.flags = 1);
	INVOKED(EINVAL, bad.scalars |= 1U << 29);
	INVOKED(EINVAL, bad.scalars |= 1U << 31);
	INVOKED(EFAULT, bad.args = 0);
	INVOKED(EFAULT, bad.args = ~7ULL);
	INVOKED(EINVAL, bad_arg.flags = 1);
	INVOKED(ENOENT, bad_arg.handle = 99);
	INVOKED(ENOENT, bad_arg.handle = 0);
	INVOKED(EINVAL, bad_arg.offset = 1 + 15 * PAGE);
	INVOKED(EINVAL, bad_arg.offset = ~0ULL);
	INVOKED(EINVAL, bad_arg.length = 16 * PAGE + 1);
	INVOKED(EINVAL, bad_arg.length = ~0ULL);
	INVOKED(EINVAL, bad_arg.length = 0);
	INVOKED(EINVAL, (bad_arg.length = 0, bad_arg.handle = 0, bad_arg.offset = 1));
	INVOKED(0, (bad_arg.length = 0, bad_arg.handle = 0));
	INVOKED(0, (bad_arg.length = 16 * PAGE));
#undef INVOKED
}

TEST_F(qda, map)
{
	static const uint32_t types[] = {
		DRM_QDA_MAP_STATIC, DRM_QDA_MAP_BUFFER, DRM_QDA_MAP_DELAYED, DRM_QDA_MAP_NO_CPU,
		DRM_QDA_MAP_HEAP,
	};
	char data[64];
	struct session session;
	struct buffer buf;
	unsigned int i;
	int module;

	ASSERT_EQ(0, session_create(&session, self->dev, 0, 0));
	module = open_module(&session, "memory");
	ASSERT_LT(20, module);
	for (i = 0; i < ARRAY_SIZE(types); i++) {
		struct drm_qda_map map = {
			.type = types[i], .offset = PAGE, .length = 2 * PAGE,
		};
		struct drm_qda_unmap unmap = { .length = 2 * PAGE };

		ASSERT_EQ(0, gem_create(self->dev, &buf, 4 * PAGE));
		map.handle = buf.handle;
		strcpy(buf.mem + 2 * PAGE, "for the DSP");
		ASSERT_EQ(0, ioctl(self->dev, DRM_IOCTL_QDA_MAP, &map));
		EXPECT_EQ(0, map.result);
		EXPECT_EQ(0, dsp_memory(&session, module, 5, map.dsp_address + PAGE, data));
		EXPECT_STREQ("for the DSP", data);
		EXPECT_EQ(SIM_EFAILED, dsp_memory(&session, module, 5,
						  map.dsp_address + 2 * PAGE, data));

		/* It stays when the handle is closed. */
		strcpy(data, "by the DSP");
		ASSERT_EQ(0, gem_close(self->dev, buf.handle));
		EXPECT_EQ(0, dsp_memory(&session, module, 6, map.dsp_address, data));
		EXPECT_STREQ("by the DSP", buf.mem + PAGE);

		unmap.dsp_address = map.dsp_address + PAGE;
		EXPECT_EQ(EINVAL, ERRNO(ioctl(self->dev, DRM_IOCTL_QDA_UNMAP, &unmap)));
		unmap.dsp_address = map.dsp_address;
		unmap.length = PAGE;
		EXPECT_EQ(EINVAL, ERRNO(ioctl(self->dev, DRM_IOCTL_QDA_UNMAP, &unmap)));
		unmap.length = 2 * PAGE;
		unmap.pad = 1;
		EXPECT_EQ(EINVAL, ERRNO(ioctl(self->dev, DRM_IOCTL_QDA_UNMAP, &unmap)));
		unmap.pad = 0;
		EXPECT_EQ(0, ioctl(self->dev, DRM_IOCTL_QDA_UNMAP, &unmap));
		EXPECT_EQ(EINVAL, ERRNO(ioctl(self->dev, DRM_IOCTL_QDA_UNMAP, &unmap)));
		EXPECT_EQ(SIM_EFAILED, dsp_memory(&session, module, 5, map.dsp_address, data));
		munmap(buf.mem, buf.size);
	}
}

static void nothing(int signal)
{
}

struct request {
	int dev;
	unsigned long number;
	void *data;
};

static void *send_request(void *arg)
{
	struct request *request = arg;

	return (void *)(intptr_t)ERRNO(ioctl(request->dev, request->number, request->data));
}

/* A signal comes to who makes @second while the DSP takes its time for @first. */
static void interrupt_second(struct __test_metadata *_metadata, const char *dsp,
			     struct request first, struct request second)
{
	struct sigaction action = { .sa_handler = nothing };
	struct itimerval timer = { .it_value.tv_usec = 100000 };
	sigset_t alarm, before;
	pthread_t thread;
	void *error;

	ASSERT_EQ(0, sigaction(SIGALRM, &action, NULL));
	sigemptyset(&alarm);
	sigaddset(&alarm, SIGALRM);
	ASSERT_EQ(0, pthread_sigmask(SIG_BLOCK, &alarm, &before));
	ASSERT_EQ(0, pthread_create(&thread, NULL, send_request, &first));
	ASSERT_EQ(0, pthread_sigmask(SIG_SETMASK, &before, NULL));
	ASSERT_EQ(1, sim_wait_count(dsp, "calls", 1));
	ASSERT_EQ(0, setitimer(ITIMER_REAL, &timer, NULL));
	EXPECT_EQ(EINTR, (intptr_t)send_request(&second));
	EXPECT_EQ(1, sim_count(dsp, "calls"));
	ASSERT_EQ(0, pthread_join(thread, &error));
	EXPECT_EQ(0, (intptr_t)error);
}

/* While the DSP has one of them, another one waits, which signals end. */
TEST_F(qda, signal_while_waiting)
{
	struct drm_qda_capabilities capabilities;
	struct drm_qda_query queries[2] = { {
		.type = DRM_QDA_QUERY_CAPABILITIES, .size = sizeof(capabilities),
		.data = (uintptr_t)&capabilities,
	} };
	struct drm_qda_map map = { .length = PAGE }, late = map;
	struct drm_qda_unmap unmap = { .length = PAGE };
	struct session session;
	struct request first, second;
	struct buffer buf;

	ASSERT_EQ(0, session_create(&session, self->dev, 0, 0));
	ASSERT_EQ(0, gem_create(self->dev, &buf, PAGE));
	map.handle = session.args.handle;
	late.handle = buf.handle;
	ASSERT_EQ(0, ioctl(self->dev, DRM_IOCTL_QDA_MAP, &map));
	unmap.dsp_address = map.dsp_address;
	map.dsp_address = 0;
	ASSERT_EQ(0, sim_write(CDSP, "delay_ms", "3000"));

	first = (struct request){ self->dev, DRM_IOCTL_QDA_MAP, &late };
	second = (struct request){ self->dev, DRM_IOCTL_QDA_MAP, &map };
	ASSERT_EQ(0, sim_write(CDSP, "misbehave", "late 1"));
	interrupt_second(_metadata, CDSP, first, second);
	second = (struct request){ self->dev, DRM_IOCTL_QDA_UNMAP, &unmap };
	ASSERT_EQ(0, sim_write(CDSP, "misbehave", "late 1"));
	interrupt_second(_metadata, CDSP, first, second);
	/* It was not unmapped. */
	EXPECT_EQ(0, ioctl(self->dev, DRM_IOCTL_QDA_UNMAP, &unmap));

	/* The DSP is asked once for each device. */
	queries[1] = queries[0];
	first = (struct request){ self->dev, DRM_IOCTL_QDA_QUERY, &queries[0] };
	second = (struct request){ self->dev, DRM_IOCTL_QDA_QUERY, &queries[1] };
	ASSERT_EQ(0, sim_write(CDSP, "misbehave", "late 2"));
	interrupt_second(_metadata, CDSP, first, second);
	EXPECT_EQ(SIM_ARCH, capabilities.attributes[SIM_ARCH_VERSION]);
	ASSERT_EQ(0, sim_write(CDSP, "delay_ms", "200"));
}

static void *map_and_unmap(void *arg)
{
	struct buffer *buf = arg;
	intptr_t error = 0;
	int i;

	for (i = 0; i < 20 && !error; i++) {
		struct drm_qda_map map = { .handle = buf->handle, .length = PAGE };
		struct drm_qda_unmap unmap = { .length = PAGE };

		error = ERRNO(ioctl(buf->dev, DRM_IOCTL_QDA_MAP, &map));
		unmap.dsp_address = map.dsp_address;
		error = error ?: ERRNO(ioctl(buf->dev, DRM_IOCTL_QDA_UNMAP, &unmap));
	}
	return (void *)error;
}

/* More than the DSP is asked for at a time */
TEST_F(qda, map_by_threads)
{
	struct session session;
	struct buffer bufs[16];
	pthread_t threads[16];
	void *error;
	int i;

	ASSERT_EQ(0, session_create(&session, self->dev, 0, 0));
	for (i = 0; i < 16; i++) {
		ASSERT_EQ(0, gem_create(self->dev, &bufs[i], PAGE));
		ASSERT_EQ(0, pthread_create(&threads[i], NULL, map_and_unmap, &bufs[i]));
	}
	for (i = 0; i < 16; i++) {
		ASSERT_EQ(0, pthread_join(threads[i], &error));
		EXPECT_EQ(0, (intptr_t)error);
	}
}

TEST_F(qda, map_errors)
{
	struct session session;
	struct drm_qda_map good = { .length = PAGE }, bad;
	struct buffer buf;

	ASSERT_EQ(0, session_create(&session, self->dev, 0, 0));
	ASSERT_EQ(0, gem_create(self->dev, &buf, 4 * PAGE));
	good.handle = buf.handle;
#define MAPPED(error, change) do {							\
		bad = good;								\
		change;									\
		EXPECT_EQ(error, ERRNO(ioctl(self->dev, DRM_IOCTL_QDA_MAP, &bad)));	\
	} while (0)
	MAPPED(EINVAL, bad.type = 1);
	MAPPED(EINVAL, bad.type = 0x3000);
	MAPPED(EINVAL, bad.pad = 1);
	MAPPED(EINVAL, bad.length = 0);
	MAPPED(EINVAL, bad.length = 100);
	MAPPED(EINVAL, bad.offset = 100);
	MAPPED(EINVAL, bad.length = 5 * PAGE);
	MAPPED(EINVAL, bad.offset = 4 * PAGE);
	MAPPED(EINVAL, bad.offset = ~0ULL << 12);
	MAPPED(ENOENT, bad.handle = 99);
	/* What the session has mapped goes with it. */
	MAPPED(0, (void)0);
	MAPPED(0, bad.type = DRM_QDA_MAP_HEAP);
#undef MAPPED
}

/* Another process looks for what is mapped at @addr; what went wrong, or 0. */
static int look_for(uint64_t addr, long outside)
{
	int dev = open_device(CDSP_CHANNEL), module, i;
	struct session session;
	uint64_t own_addr;
	char data[64];

	if (dev < 0 || session_create(&session, dev, 0, 0))
		return 1;
	module = open_module(&session, "memory");
	own_addr = locate(&session, module, session.args.handle);
	if (module <= 20 || addr >> 56 == own_addr >> 56)
		return 2;
	/* By the other one's stream, then by its own; to read, then to write */
	for (i = 0; i < 3; i++) {
		strcpy(data, "untouched");
		if (dsp_memory(&session, module, i < 2 ? 3 : 4, addr, data) != SIM_EFAILED ||
		    strcmp(data, "untouched"))
			return 3 + i;
		if (sim_count(CDSP, "outside") != ++outside)
			return 6 + i;
		addr = (addr & ~(0xffULL << 56)) | (own_addr & 0xffULL << 56);
	}
	drop(dev);
	return 0;
}

/* What a session has mapped is nothing to another one. */
TEST_F(qda, isolation)
{
	struct session session;
	char data[64] = "";
	struct buffer buf;
	int module, status;
	uint64_t addr;
	pid_t child;

	if (sim_groups() < 2)
		SKIP(return, "context banks have no IOMMU");
	ASSERT_EQ(0, session_create(&session, self->dev, 0, 0));
	module = open_module(&session, "memory");
	ASSERT_LT(20, module);

	/* 8 MiB lie where the other session has none of its own. */
	ASSERT_EQ(0, gem_create(self->dev, &buf, 8 * MIB));
	strcpy(buf.mem, "private");
	addr = locate(&session, module, buf.handle);
	EXPECT_EQ(0, dsp_memory(&session, module, 3, addr, data));
	EXPECT_STREQ("private", data);

	child = fork();
	ASSERT_LE(0, child);
	if (!child)
		_exit(look_for(addr, self->outside));
	ASSERT_EQ(child, waitpid(child, &status, 0));
	EXPECT_EQ(0, status);
	EXPECT_STREQ("private", buf.mem);
	self->outside += 3;
}

/* A buffer is mapped by its first use, and no longer when its handle is closed. */
TEST_F(qda, mapped_while_open)
{
	struct session session;
	struct buffer buf;
	char data[64] = "";
	uint64_t addr;
	int module;

	if (sim_groups() < 2)
		SKIP(return, "context banks have no IOMMU");
	ASSERT_EQ(0, session_create(&session, self->dev, 0, 0));
	module = open_module(&session, "memory");
	ASSERT_LT(20, module);
	ASSERT_EQ(0, gem_create(self->dev, &buf, 8 * MIB));
	addr = locate(&session, module, buf.handle);
	/* By the stream's number, and 34 bits. */
	EXPECT_LT(0, addr >> 56);
	EXPECT_GT(1ULL << 34, addr & ~(0xffULL << 56));
	EXPECT_EQ(addr, locate(&session, module, buf.handle));
	EXPECT_EQ(0, dsp_memory(&session, module, 3, addr, data));
	ASSERT_EQ(0, gem_close(self->dev, buf.handle));
	EXPECT_EQ(SIM_EFAILED, dsp_memory(&session, module, 3, addr, data));
	self->outside++;
}

TEST_F(qda, share_between_files)
{
	int dev = open_device(CDSP_CHANNEL), fd, module;
	struct session own, other;
	struct drm_qda_arg args[2];
	uint32_t handle;
	struct buffer buf;
	int result;

	ASSERT_LE(0, dev);
	ASSERT_EQ(0, session_create(&own, self->dev, 0, 0));
	ASSERT_EQ(0, session_create(&other, dev, 0, 0));
	ASSERT_EQ(0, gem_create(self->dev, &buf, 2 * PAGE));
	strcpy(buf.mem, "shared");
	fd = prime_export(self->dev, buf.handle);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, prime_import(dev, fd, &handle));
	close(fd);

	module = open_module(&other, "echo");
	ASSERT_LT(20, module);
	args[0] = arg(handle, 0, 7);
	args[1] = arg(handle, PAGE, 7);
	ASSERT_EQ(0, invoke(dev, module, DRM_QDA_SCALARS(2, 1, 1, 0, 0), args, &result));
	EXPECT_EQ(0, result);
	EXPECT_STREQ("shared", buf.mem + PAGE);
	drop(dev);

	/* The session of its own maps it by itself. */
	memset(buf.mem + PAGE, 0, 7);
	module = open_module(&own, "echo");
	ASSERT_LT(20, module);
	args[0].handle = buf.handle;
	args[1].handle = buf.handle;
	ASSERT_EQ(0, invoke(self->dev, module, DRM_QDA_SCALARS(2, 1, 1, 0, 0), args, &result));
	EXPECT_STREQ("shared", buf.mem + PAGE);
}

/* A process that inherits the file uses its session; one with its own file has its own. */
TEST_F(qda, share_between_processes)
{
	struct drm_qda_arg args[2];
	struct session session;
	struct buffer buf;
	int fd, dev, module, result, status;
	uint32_t handle;
	pid_t child;

	ASSERT_EQ(0, gem_create(self->dev, &buf, 2 * PAGE));
	memset(buf.mem, 0x5a, PAGE);
	fd = prime_export(self->dev, buf.handle);
	ASSERT_LE(0, fd);
	child = fork();
	ASSERT_LE(0, child);
	if (!child) {
		dev = open_device(CDSP_CHANNEL);
		if (dev < 0 || session_create(&session, dev, 0, 0) ||
		    prime_import(dev, fd, &handle))
			_exit(1);
		module = open_module(&session, "echo");
		args[0] = arg(handle, 0, PAGE);
		args[1] = arg(handle, PAGE, PAGE);
		_exit(invoke(dev, module, DRM_QDA_SCALARS(2, 1, 1, 0, 0), args, &result) || result);
	}
	ASSERT_EQ(child, waitpid(child, &status, 0));
	EXPECT_EQ(0, status);
	EXPECT_EQ(0x5a, buf.mem[PAGE]);
	EXPECT_EQ(0, memcmp(buf.mem, buf.mem + PAGE, PAGE));
	close(fd);
	gem_destroy(&buf);
}

TEST_F(qda, fork)
{
	struct session session, own;
	int module, status, dev;
	pid_t child;

	ASSERT_EQ(0, session_create(&session, self->dev, 0, 0));
	module = open_module(&session, "echo");
	ASSERT_LT(20, module);
	child = fork();
	ASSERT_LE(0, child);
	if (!child) {
		if (echo(&session, module, 1, 100))
			_exit(1);
		dev = open_device(CDSP_CHANNEL);
		if (dev < 0 || session_create(&own, dev, 0, 0))
			_exit(2);
		if (echo(&own, module, 1, 100) != SIM_EBADPARM)
			_exit(3);
		_exit(0);
	}
	ASSERT_EQ(child, waitpid(child, &status, 0));
	EXPECT_EQ(0, status);
	EXPECT_EQ(0, echo(&session, module, 2, 100));
	EXPECT_EQ(1, sim_wait_count(CDSP, "processes", 1));
}

/* @fd is a dma-buf of two pages. */
static void try_import(struct __test_metadata *_metadata, int dev, int fd, char *mem)
{
	struct drm_qda_gem_mmap_offset offset = {};
	struct drm_qda_arg args[2];
	struct session session;
	uint32_t handle;
	int module, result, again;

	ASSERT_EQ(0, session_create(&session, dev, 0, 0));
	module = open_module(&session, "echo");
	ASSERT_LT(20, module);
	ASSERT_EQ(0, prime_import(dev, fd, &handle));
	offset.handle = handle;
	EXPECT_EQ(EINVAL, ERRNO(ioctl(dev, DRM_IOCTL_QDA_GEM_MMAP_OFFSET, &offset)));
	args[0] = arg(handle, 0, PAGE);
	args[1] = arg(handle, PAGE, PAGE);
	if (invoke(dev, module, DRM_QDA_SCALARS(2, 1, 1, 0, 0), args, &result)) {
		/* Pages that do not happen to be contiguous, and no IOMMU to make them. */
		EXPECT_EQ(EOPNOTSUPP, errno);
		EXPECT_EQ(0, sim_groups());
	} else {
		EXPECT_EQ(0, result);
		EXPECT_EQ(0, memcmp(mem, mem + PAGE, PAGE));
	}
	again = prime_export(dev, handle);
	ASSERT_LE(0, again);
	close(again);
	EXPECT_EQ(0, gem_close(dev, handle));
	EXPECT_EQ(0, session_release(dev));
}

TEST_F(qda, import_udmabuf)
{
	int memfd = memfd_create("qda", MFD_ALLOW_SEALING);
	int udmabuf = open("/dev/udmabuf", O_RDWR), fd;
	struct udmabuf_create create = { .memfd = memfd, .size = 2 * PAGE };
	char *mem;

	if (udmabuf < 0)
		SKIP(return, "no udmabuf");
	ASSERT_LE(0, memfd);
	ASSERT_EQ(0, ftruncate(memfd, 2 * PAGE));
	ASSERT_EQ(0, fcntl(memfd, F_ADD_SEALS, F_SEAL_SHRINK));
	mem = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
	ASSERT_NE(MAP_FAILED, mem);
	memset(mem, 0x3c, PAGE);
	fd = ioctl(udmabuf, UDMABUF_CREATE, &create);
	ASSERT_LE(0, fd);
	try_import(_metadata, self->dev, fd, mem);
}

/* The same page twice lies together for nobody but an IOMMU. */
TEST_F(qda, import_scattered)
{
	int memfd = memfd_create("qda", MFD_ALLOW_SEALING);
	int udmabuf = open("/dev/udmabuf", O_RDWR), fd, module, result;
	int expected = sim_groups() ? 0 : EOPNOTSUPP;
	struct drm_qda_map map = { .length = 2 * PAGE };
	struct drm_qda_session_create create = {
		.kind = DRM_QDA_SESSION_USER, .shell_size = 2 * PAGE,
	};
	struct udmabuf_create_list *list;
	struct drm_qda_arg args[2];
	struct session session;
	uint32_t handle;
	int i;

	if (udmabuf < 0)
		SKIP(return, "no udmabuf");
	ASSERT_LE(0, memfd);
	ASSERT_EQ(0, ftruncate(memfd, PAGE));
	ASSERT_EQ(4, pwrite(memfd, "\177ELF", 4, 0));
	ASSERT_EQ(0, fcntl(memfd, F_ADD_SEALS, F_SEAL_SHRINK));
	list = calloc(1, sizeof(*list) + 2 * sizeof(list->list[0]));
	ASSERT_NE(NULL, list);
	list->count = 2;
	for (i = 0; i < 2; i++) {
		list->list[i].memfd = memfd;
		list->list[i].size = PAGE;
	}
	fd = ioctl(udmabuf, UDMABUF_CREATE_LIST, list);
	ASSERT_LE(0, fd);
	free(list);

	ASSERT_EQ(0, session_create(&session, self->dev, 0, 0));
	module = open_module(&session, "echo");
	ASSERT_LT(20, module);
	ASSERT_EQ(0, prime_import(self->dev, fd, &handle));
	args[0] = arg(handle, 0, PAGE);
	args[1] = arg(handle, PAGE, PAGE);
	EXPECT_EQ(expected, ERRNO(invoke(self->dev, module, DRM_QDA_SCALARS(2, 1, 1, 0, 0), args,
					 &result)));
	map.handle = handle;
	EXPECT_EQ(expected, ERRNO(ioctl(self->dev, DRM_IOCTL_QDA_MAP, &map)));
	ASSERT_EQ(0, session_release(self->dev));
	create.shell_handle = handle;
	EXPECT_EQ(expected, ERRNO(ioctl(self->dev, DRM_IOCTL_QDA_SESSION_CREATE, &create)));
	close(udmabuf);
	close(memfd);
	close(fd);
}

/* Also where CMA pages lie, which are contiguous for everybody. */
TEST_F(qda, import_from_a_heap)
{
	static const char * const heaps[] = { "system", "default_cma_region", "reserved" };
	char path[64];
	char *mem;
	int heap, n = 0;
	unsigned int i;

	if (system("modprobe -q system_heap; modprobe -q cma_heap"))
		TH_LOG("no modules of heaps");
	for (i = 0; i < ARRAY_SIZE(heaps); i++) {
		struct dma_heap_allocation_data alloc = {
			.len = 2 * PAGE, .fd_flags = O_RDWR | O_CLOEXEC,
		};

		snprintf(path, sizeof(path), "/dev/dma_heap/%s", heaps[i]);
		heap = open(path, O_RDWR);
		if (heap < 0)
			continue;
		TH_LOG("heap %s", heaps[i]);
		ASSERT_EQ(0, ioctl(heap, DMA_HEAP_IOCTL_ALLOC, &alloc));
		close(heap);
		mem = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, alloc.fd, 0);
		ASSERT_NE(MAP_FAILED, mem);
		memset(mem, 0x3c, PAGE);
		try_import(_metadata, self->dev, alloc.fd, mem);
		munmap(mem, 2 * PAGE);
		close(alloc.fd);
		n++;
	}
	if (!n)
		SKIP(return, "no heap");
}

static int open_vgem(void)
{
	struct drm_version version;
	char path[32], name[8];
	int i, fd;

	for (i = 0; i < 16; i++) {
		snprintf(path, sizeof(path), "/dev/dri/card%d", i);
		fd = open(path, O_RDWR);
		if (fd < 0)
			continue;
		memset(&version, 0, sizeof(version));
		memset(name, 0, sizeof(name));
		version.name = name;
		version.name_len = sizeof(name) - 1;
		if (!ioctl(fd, DRM_IOCTL_VERSION, &version) && !strcmp(name, "vgem"))
			return fd;
		close(fd);
	}
	return -1;
}

TEST_F(qda, import_from_vgem)
{
	struct drm_mode_create_dumb create = { .width = PAGE, .height = 2, .bpp = 8 };
	int vgem = open_vgem(), fd;
	char *mem;

	if (vgem < 0)
		SKIP(return, "no vgem");
	ASSERT_EQ(0, ioctl(vgem, DRM_IOCTL_MODE_CREATE_DUMB, &create));
	fd = prime_export(vgem, create.handle);
	ASSERT_LE(0, fd);
	mem = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ASSERT_NE(MAP_FAILED, mem);
	memset(mem, 0x3c, PAGE);
	try_import(_metadata, self->dev, fd, mem);
}

TEST_F(qda, export_to_vgem)
{
	int vgem = open_vgem(), fd;
	struct buffer buf;
	uint32_t handle;
	char *mem;

	if (vgem < 0)
		SKIP(return, "no vgem");
	ASSERT_EQ(0, gem_create(self->dev, &buf, 2 * PAGE));
	strcpy(buf.mem + PAGE, "for vgem");
	fd = prime_export(self->dev, buf.handle);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, prime_import(vgem, fd, &handle));
	mem = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ASSERT_NE(MAP_FAILED, mem);
	EXPECT_STREQ("for vgem", mem + PAGE);
	EXPECT_EQ(0, gem_close(vgem, handle));
	close(vgem);
}

/* Calls by fastrpc, which has the other DSP. */
static int fastrpc_invoke(int dev, uint32_t handle, uint32_t scalars,
			  struct fastrpc_invoke_args *args)
{
	struct fastrpc_invoke request = {
		.handle = handle, .sc = scalars, .args = (uintptr_t)args,
	};

	return ioctl(dev, FASTRPC_IOCTL_INVOKE, &request);
}

static int fastrpc_open_echo(int dev)
{
	struct { uint32_t name_len, text_len; } in = { .text_len = 64 };
	struct { uint32_t module; int32_t error; } out = {};
	char uri[128], text[64];
	struct fastrpc_invoke_args args[] = {
		{ .ptr = (uintptr_t)&in, .length = sizeof(in), .fd = -1 },
		{ .ptr = (uintptr_t)uri, .length = 0, .fd = -1 },
		{ .ptr = (uintptr_t)&out, .length = sizeof(out), .fd = -1 },
		{ .ptr = (uintptr_t)text, .length = sizeof(text), .fd = -1 },
	};

	sim_uri(uri, sizeof(uri), "echo");
	in.name_len = strlen(uri) + 1;
	args[1].length = in.name_len;
	if (fastrpc_invoke(dev, SIM_REMOTECTL, SIM_SC(0, 2, 2, 0, 0), args) || out.error)
		return -1;
	return out.module;
}

TEST_F(qda, export_to_fastrpc)
{
	struct fastrpc_invoke_args args[2] = { };
	static char copy[3 * PAGE];
	struct buffer buf;
	int dev, fd, module;

	dev = open("/dev/fastrpc-adsp-secure", O_RDWR);
	if (dev < 0)
		SKIP(return, "no audio DSP that fastrpc drives");
	ASSERT_EQ(0, ioctl(dev, FASTRPC_IOCTL_INIT_ATTACH));
	module = fastrpc_open_echo(dev);
	ASSERT_LT(20, module);

	/* Its DSP reads the buffer by addresses of its own. */
	ASSERT_EQ(0, gem_create(self->dev, &buf, sizeof(copy)));
	memset(buf.mem, 'q', sizeof(copy));
	fd = prime_export(self->dev, buf.handle);
	ASSERT_LE(0, fd);
	args[0] = (struct fastrpc_invoke_args){
		.ptr = (uintptr_t)buf.mem, .length = sizeof(copy), .fd = fd,
	};
	args[1] = (struct fastrpc_invoke_args){
		.ptr = (uintptr_t)copy, .length = sizeof(copy), .fd = -1,
	};
	ASSERT_EQ(0, fastrpc_invoke(dev, module, SIM_SC(2, 1, 1, 0, 0), args));
	EXPECT_EQ(0, memcmp(buf.mem, copy, sizeof(copy)));
	close(fd);
	gem_destroy(&buf);
	close(dev);
	EXPECT_EQ(0, sim_wait_count(ADSP, "processes", 0));
	EXPECT_EQ(0, sim_count(ADSP, "outside"));
}

/* Sessions, which end at once; 0 or an errno. */
static int try_user(int dev, uint32_t attributes)
{
	struct session session;
	int error = ERRNO(session_create(&session, dev, attributes, 0));

	return error ?: ERRNO(session_release(dev));
}

static int try_attach(int dev, uint32_t kind)
{
	struct drm_qda_session_create create = { .kind = kind };

	return ERRNO(ioctl(dev, DRM_IOCTL_QDA_SESSION_CREATE, &create)) ?:
	       ERRNO(session_release(dev));
}

/* A session in the static domain, without a buffer; 0 or an errno. */
static int create_static(int dev, const char *name, uint32_t size)
{
	struct drm_qda_session_create create = {
		.kind = DRM_QDA_SESSION_STATIC, .name = (uintptr_t)name, .name_size = size,
	};

	return ERRNO(ioctl(dev, DRM_IOCTL_QDA_SESSION_CREATE, &create));
}

/* Whether the software DSP says in the devicetree that its domains are secure. */
static bool domains_are_secure(void)
{
	int fd = open("/sys/module/fastrpc_sim/parameters/non_secure", O_RDONLY);
	char value = 0;

	if (fd < 0 || read(fd, &value, 1) != 1)
		value = 0;
	close(fd);
	return value != 'Y';
}

/* Stay root, without what makes it that. */
static int drop_admin(void)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2];

	if (syscall(SYS_capget, &header, data))
		return -1;
	data[CAP_TO_INDEX(CAP_SYS_ADMIN)].effective &= ~CAP_TO_MASK(CAP_SYS_ADMIN);
	return syscall(SYS_capset, &header, data);
}

#define NO_NAMESPACE	77

/* See the table in Documentation/accel/qda/uapi.rst. */
TEST_F(qda, privileges)
{
	int refused = domains_are_secure() ? ECONNREFUSED : 0;
	struct drm_qda_device device;
	int i, dev, status, static_error;
	pid_t child;

	ASSERT_EQ(0, bind_driver(ADSP_CHANNEL));
	dev = open_device(ADSP_CHANNEL);
	ASSERT_LE(0, dev);
	ASSERT_EQ(0, query_device(self->dev, &device));
	EXPECT_EQ(refused ? DRM_QDA_DEVICE_SECURE : 0, device.flags & DRM_QDA_DEVICE_SECURE);
	ASSERT_EQ(0, query_device(dev, &device));
	/* Without a heap, there is no static domain for anybody. */
	static_error = device.flags & DRM_QDA_DEVICE_STATIC ? refused : EOPNOTSUPP;
	/* Neither a user's number nor what a user may do in a namespace of its own counts. */
	for (i = 0; i < 2; i++) {
		child = fork();
		ASSERT_LE(0, child);
		if (!child) {
			if (i ? unshare(CLONE_NEWUSER) : drop_admin())
				_exit(i ? NO_NAMESPACE : 1);
			_exit(try_user(self->dev, 0) != refused ||
			      try_user(dev, 0) != refused ? 2 : 0);
		}
		ASSERT_EQ(child, waitpid(child, &status, 0));
		if (!WIFEXITED(status) || WEXITSTATUS(status) != NO_NAMESPACE)
			EXPECT_EQ(0, status);
	}
	child = fork();
	ASSERT_LE(0, child);
	if (!child) {
		if (setuid(1000) || query_device(self->dev, &device))
			_exit(1);
		if (try_user(self->dev, 0) != refused)
			_exit(2);
		if (try_user(self->dev, DRM_QDA_SESSION_UNSIGNED) ||
		    try_user(self->dev, DRM_QDA_SESSION_UNSIGNED | DRM_QDA_SESSION_PRIVILEGED))
			_exit(3);
		if (try_attach(self->dev, DRM_QDA_SESSION_ROOT) ||
		    try_attach(self->dev, DRM_QDA_SESSION_SENSORS))
			_exit(4);
		if (try_attach(dev, DRM_QDA_SESSION_ROOT) != refused ||
		    try_attach(dev, DRM_QDA_SESSION_SENSORS) != refused)
			_exit(5);
		if (try_user(dev, 0) != refused ||
		    try_user(dev, DRM_QDA_SESSION_UNSIGNED) != refused)
			_exit(6);
		if (create_static(dev, "audiopd", 8) != static_error)
			_exit(7);
		if (!static_error && session_release(dev))
			_exit(8);
		_exit(0);
	}
	ASSERT_EQ(child, waitpid(child, &status, 0));
	EXPECT_EQ(0, status);
	EXPECT_EQ(0, try_attach(dev, DRM_QDA_SESSION_ROOT));
	drop(dev);
	unbind_driver(ADSP_CHANNEL);
}

/* A DSP whose addresses have the stream at bit 32, and that cannot poll. */
TEST_F(qda, audio_dsp)
{
	struct session session;
	struct drm_qda_device device;
	int dev, module;
	uint64_t addr;

	ASSERT_EQ(0, bind_driver(ADSP_CHANNEL));
	dev = open_device(ADSP_CHANNEL);
	ASSERT_LE(0, dev);
	ASSERT_EQ(0, query_device(dev, &device));
	EXPECT_EQ(DRM_QDA_DOMAIN_ADSP, device.domain);
	EXPECT_EQ(DRM_QDA_DEVICE_SECURE, device.flags & ~DRM_QDA_DEVICE_STATIC);
	EXPECT_EQ(EOPNOTSUPP, ERRNO(session_create(&session, dev, 0, DRM_QDA_SESSION_POLL)));
	ASSERT_EQ(0, session_create(&session, dev, 0, 0));
	module = open_module(&session, "echo");
	ASSERT_LT(20, module);
	EXPECT_EQ(0, echo(&session, module, 3, 5000));
	module = open_module(&session, "memory");
	addr = locate(&session, module, session.args.handle);
	EXPECT_LT(0, addr >> 32);
	EXPECT_GE(4, addr >> 32);
	drop(dev);
	EXPECT_EQ(0, sim_wait_count(ADSP, "processes", 0));
	unbind_driver(ADSP_CHANNEL);
}

TEST_F(qda, static_domain)
{
	struct drm_qda_session_create create = { .kind = DRM_QDA_SESSION_STATIC }, again;
	static char long_name[129];
	struct drm_qda_device device;
	int dev, other;

	ASSERT_EQ(0, bind_driver(ADSP_CHANNEL));
	dev = open_device(ADSP_CHANNEL);
	ASSERT_LE(0, dev);
	ASSERT_EQ(0, query_device(dev, &device));
	if (!(device.flags & DRM_QDA_DEVICE_STATIC)) {
		EXPECT_EQ(EOPNOTSUPP, create_static(dev, "audiopd", 8));
		drop(dev);
		unbind_driver(ADSP_CHANNEL);
		SKIP(return, "the audio DSP has no heap");
	}
	EXPECT_EQ(EINVAL, create_static(dev, "audiopd", 0));
	EXPECT_EQ(EINVAL, create_static(dev, "audiopd", 7));
	EXPECT_EQ(EINVAL, create_static(dev, "audio\0d", 8));
	memset(long_name, 'a', 128);
	EXPECT_EQ(EINVAL, create_static(dev, long_name, 129));
	EXPECT_EQ(EFAULT, create_static(dev, (void *)8, 8));
	EXPECT_EQ(0, sim_count(ADSP, "heap_size"));

	/* The DSP refuses a heap if it has one, and a session if it has none. */
	other = open_device(ADSP_CHANNEL);
	ASSERT_LE(0, other);
	ASSERT_EQ(0, sim_write(ADSP, "delay_ms", "3000"));
	ASSERT_EQ(0, sim_write(ADSP, "misbehave", "late 1"));
	create.name = (uintptr_t)(long_name + 1);
	create.name_size = 128;
	again = create;
	interrupt_second(_metadata, ADSP,
			 (struct request){ dev, DRM_IOCTL_QDA_SESSION_CREATE, &create },
			 (struct request){ other, DRM_IOCTL_QDA_SESSION_CREATE, &again });
	ASSERT_EQ(0, sim_write(ADSP, "delay_ms", "200"));
	EXPECT_TRUE(sim_heap_is_right(ADSP));
	EXPECT_EQ(0, create_static(other, "audiopd", 8));
	EXPECT_EQ(2, sim_count(ADSP, "processes"));
	ASSERT_EQ(0, session_release(dev));
	EXPECT_EQ(0, create_static(dev, "audiopd", 8));
	ASSERT_EQ(0, sim_write(ADSP, "online", "0"));
	EXPECT_EQ(ENODEV, create_static(dev, "audiopd", 8));
	close(other);
	close(dev);

	ASSERT_EQ(0, sim_write(ADSP, "online", "1"));
	EXPECT_EQ(0, sim_count(ADSP, "heap_size"));
	ASSERT_EQ(0, bind_driver(ADSP_CHANNEL));
	dev = open_device(ADSP_CHANNEL);
	ASSERT_LE(0, dev);
	EXPECT_EQ(0, create_static(dev, "audiopd", 8));
	EXPECT_TRUE(sim_heap_is_right(ADSP));
	drop(dev);
	EXPECT_EQ(0, sim_wait_count(ADSP, "processes", 0));
	unbind_driver(ADSP_CHANNEL);
}

TEST_F(qda, polling)
{
	struct session session;
	int module, result, i;

	ASSERT_EQ(0, session_create(&session, self->dev, 0, DRM_QDA_SESSION_POLL));
	module = open_module(&session, "echo");
	ASSERT_LT(20, module);
	/* More often than there are ids for calls. */
	ASSERT_EQ(0, sim_write(CDSP, "poll", "Y"));
	for (i = 0; i < 300; i++)
		if (echo(&session, module, i, 200))
			break;
	EXPECT_EQ(300, i);
	ASSERT_EQ(0, sim_write(CDSP, "poll", "N"));
	EXPECT_EQ(0, echo(&session, module, 1, 200));
	/* Longer than anybody polls for. */
	module = open_module(&session, "sleep");
	ASSERT_LT(20, module);
	EXPECT_EQ(0, call_u32(&session, module, 100, &result));
	EXPECT_EQ(0, result);
}

static void *listen(void *dev)
{
	int result;

	return (void *)(intptr_t)ERRNO(invoke((intptr_t)dev, SIM_LISTENER,
					      DRM_QDA_SCALARS(4, 0, 0, 0, 0), NULL, &result));
}

TEST_F(qda, listener)
{
	struct session session;
	pthread_t thread;
	void *error;

	ASSERT_EQ(0, session_create(&session, self->dev, 0, 0));
	ASSERT_EQ(0, pthread_create(&thread, NULL, listen, (void *)(intptr_t)self->dev));
	ASSERT_EQ(1, sim_wait_count(CDSP, "calls", 1));
	EXPECT_LT(20, open_module(&session, "echo"));
	EXPECT_EQ(0, session_release(self->dev));
	ASSERT_EQ(0, pthread_join(thread, &error));
	EXPECT_EQ(0, (intptr_t)error);
}

/* A session that has nothing pending has room for so many calls; it is released. */
static void fill_with_calls(struct __test_metadata *_metadata, int dev)
{
	struct drm_qda_device device;
	pthread_t threads[255];
	unsigned int i;
	int result;

	ASSERT_EQ(0, query_device(dev, &device));
	ASSERT_GE(255, device.max_calls);
	for (i = 0; i < device.max_calls; i++)
		ASSERT_EQ(0, pthread_create(&threads[i], NULL, listen, (void *)(intptr_t)dev));
	ASSERT_EQ(device.max_calls, sim_wait_count(CDSP, "calls", device.max_calls));
	EXPECT_EQ(EBUSY, ERRNO(invoke(dev, SIM_LISTENER, DRM_QDA_SCALARS(4, 0, 0, 0, 0), NULL,
				      &result)));
	EXPECT_EQ(0, session_release(dev));
	for (i = 0; i < device.max_calls; i++)
		pthread_join(threads[i], NULL);
}

TEST_F(qda, too_many_calls)
{
	struct session session;

	ASSERT_EQ(0, session_create(&session, self->dev, 0, 0));
	fill_with_calls(_metadata, self->dev);
}

TEST_F(qda, signal)
{
	struct sigaction action = { .sa_handler = nothing, .sa_flags = SA_RESTART };
	struct itimerval timer = { .it_value.tv_usec = 100000 };
	struct session session;
	struct buffer buf;
	int module, echo_module, result;
	struct drm_qda_arg args[1];
	uint32_t ms = 1000;

	ASSERT_EQ(0, session_create(&session, self->dev, 0, 0));
	echo_module = open_module(&session, "echo");
	module = open_module(&session, "sleep");
	ASSERT_LT(20, module);
	ASSERT_EQ(0, gem_create(self->dev, &buf, PAGE));
	memcpy(buf.mem, &ms, sizeof(ms));
	args[0] = arg(buf.handle, 0, sizeof(ms));
	ASSERT_EQ(0, sigaction(SIGALRM, &action, NULL));
	ASSERT_EQ(0, setitimer(ITIMER_REAL, &timer, NULL));
	/* Not twice, whatever the signal's handler asks for, or a library as drmIoctl(). */
	EXPECT_EQ(EINPROGRESS, ERRNO(invoke(self->dev, module, DRM_QDA_SCALARS(2, 1, 0, 0, 0),
					    args, &result)));
	EXPECT_EQ(1, sim_count(CDSP, "calls"));
	/* The buffer goes when the DSP is done with it. */
	gem_destroy(&buf);
	EXPECT_EQ(0, echo(&session, echo_module, 1, 100));
	EXPECT_EQ(0, sim_wait_count(CDSP, "calls", 0));
	EXPECT_EQ(0, echo(&session, echo_module, 2, 100));
}

/* The DSP reads and writes a buffer that nobody has any more. */
TEST_F(qda, signal_and_close)
{
	struct sigaction action = { .sa_handler = nothing };
	struct itimerval timer = { .it_value.tv_usec = 100000 };
	struct drm_qda_arg args[2];
	struct session session;
	struct buffer buf;
	int fd, module, result;
	char *mem;

	ASSERT_EQ(0, session_create(&session, self->dev, 0, 0));
	module = open_module(&session, "echo");
	ASSERT_LT(20, module);
	ASSERT_EQ(0, gem_create(self->dev, &buf, 2 * PAGE));
	memset(buf.mem, 0x5a, PAGE);
	args[0] = arg(buf.handle, 0, PAGE);
	args[1] = arg(buf.handle, PAGE, PAGE);
	/* What is exported shows what was written. */
	fd = prime_export(self->dev, buf.handle);
	ASSERT_LE(0, fd);

	ASSERT_EQ(0, sim_write(CDSP, "delay_ms", "1000"));
	ASSERT_EQ(0, sim_write(CDSP, "misbehave", "late"));
	ASSERT_EQ(0, sigaction(SIGALRM, &action, NULL));
	ASSERT_EQ(0, setitimer(ITIMER_REAL, &timer, NULL));
	EXPECT_EQ(EINPROGRESS, ERRNO(invoke(self->dev, module, DRM_QDA_SCALARS(2, 1, 1, 0, 0),
					    args, &result)));
	gem_destroy(&buf);
	EXPECT_EQ(1, sim_count(CDSP, "calls"));
	EXPECT_EQ(0, sim_wait_count(CDSP, "calls", 0));
	ASSERT_EQ(0, sim_write(CDSP, "delay_ms", "200"));
	EXPECT_EQ(self->outside, sim_count(CDSP, "outside"));
	mem = mmap(NULL, 2 * PAGE, PROT_READ, MAP_SHARED, fd, 0);
	ASSERT_NE(MAP_FAILED, mem);
	EXPECT_EQ(0, memcmp(mem, mem + PAGE, PAGE));
	EXPECT_EQ(0x5a, mem[PAGE]);
	munmap(mem, 2 * PAGE);
	close(fd);
}

TEST_F(qda, kill)
{
	struct session session;
	int i, dev, module, status;
	pid_t child;

	for (i = 0; i < 3; i++) {
		child = fork();
		ASSERT_LE(0, child);
		if (!child) {
			dev = open_device(CDSP_CHANNEL);
			if (dev < 0 || session_create(&session, dev, 0, 0))
				_exit(1);
			module = i ? open_module(&session, "sleep") : SIM_LISTENER;
			call_u32(&session, module, 1000, &status);
			_exit(2);
		}
		ASSERT_EQ(1, sim_wait_count(CDSP, "processes", 1));
		usleep(300000);
		kill(child, SIGKILL);
		ASSERT_EQ(child, waitpid(child, &status, 0));
		EXPECT_TRUE(WIFSIGNALED(status));
		EXPECT_EQ(0, sim_wait_count(CDSP, "processes", 0));
	}
}

static long wait_sessions_free(int dev, unsigned int count)
{
	struct drm_qda_device device;
	int i;

	for (i = 0; i < 1000 && !query_device(dev, &device); i++) {
		if (device.sessions_free == count)
			break;
		usleep(10000);
	}
	return device.sessions_free;
}

/* What the DSP never answers ends with the session, whoever ends that. */
TEST_F(qda, silent_call)
{
	struct sigaction action = { .sa_handler = nothing };
	struct itimerval timer = { .it_value.tv_usec = 100000 };
	struct session session;
	int dev, module, status;
	pid_t child;

	ASSERT_EQ(0, session_create(&session, self->dev, 0, 0));
	module = open_module(&session, "echo");
	ASSERT_LT(20, module);
	ASSERT_EQ(0, sim_write(CDSP, "misbehave", "silent"));
	ASSERT_EQ(0, sigaction(SIGALRM, &action, NULL));
	ASSERT_EQ(0, setitimer(ITIMER_REAL, &timer, NULL));
	EXPECT_EQ(EINPROGRESS, ERRNO(echo(&session, module, 1, 100)));
	EXPECT_EQ(0, session_release(self->dev));
	EXPECT_EQ(SIM_SESSIONS, wait_sessions_free(self->dev, SIM_SESSIONS));

	child = fork();
	ASSERT_LE(0, child);
	if (!child) {
		dev = open_device(CDSP_CHANNEL);
		if (dev < 0 || session_create(&session, dev, 0, 0))
			_exit(1);
		module = open_module(&session, "echo");
		sim_write(CDSP, "misbehave", "silent");
		echo(&session, module, 1, 100);
		_exit(2);
	}
	EXPECT_EQ(1, sim_wait_count(CDSP, "processes", 1));
	usleep(500000);
	EXPECT_EQ(1, sim_wait_count(CDSP, "calls", 1));
	kill(child, SIGKILL);
	ASSERT_EQ(child, waitpid(child, &status, 0));
	EXPECT_TRUE(WIFSIGNALED(status));
	EXPECT_EQ(SIM_SESSIONS, wait_sessions_free(self->dev, SIM_SESSIONS));
}

/* A call that nobody polls for any more, and whose only reply is a word in memory, ends. */
TEST_F(qda, polling_interrupted)
{
	struct sigaction action = { .sa_handler = nothing };
	struct itimerval timer = { .it_value.tv_usec = 100000 };
	int dev, module, status, result;
	struct session session;
	pid_t child;

	ASSERT_EQ(0, sim_write(CDSP, "poll", "Y"));
	ASSERT_EQ(0, session_create(&session, self->dev, 0, DRM_QDA_SESSION_POLL));
	module = open_module(&session, "sleep");
	ASSERT_LT(20, module);
	ASSERT_EQ(0, sigaction(SIGALRM, &action, NULL));
	ASSERT_EQ(0, setitimer(ITIMER_REAL, &timer, NULL));
	EXPECT_EQ(EINPROGRESS, ERRNO(call_u32(&session, module, 1000, &result)));
	EXPECT_EQ(0, sim_wait_count(CDSP, "calls", 0));
	/* The word is looked for five times a second. */
	sleep(1);
	fill_with_calls(_metadata, self->dev);

	child = fork();
	ASSERT_LE(0, child);
	if (!child) {
		dev = open_device(CDSP_CHANNEL);
		if (dev < 0 || session_create(&session, dev, 0, DRM_QDA_SESSION_POLL))
			_exit(1);
		module = open_module(&session, "sleep");
		call_u32(&session, module, 1000, &result);
		_exit(2);
	}
	EXPECT_EQ(1, sim_wait_count(CDSP, "processes", 1));
	EXPECT_EQ(1, sim_wait_count(CDSP, "calls", 1));
	kill(child, SIGKILL);
	ASSERT_EQ(child, waitpid(child, &status, 0));
	EXPECT_TRUE(WIFSIGNALED(status));
	EXPECT_EQ(0, sim_wait_count(CDSP, "calls", 0));
	EXPECT_EQ(SIM_SESSIONS, wait_sessions_free(self->dev, SIM_SESSIONS));
	ASSERT_EQ(0, sim_write(CDSP, "poll", "N"));
}

/* The kernel's own calls read their payloads where they wrote them. */
TEST_F(qda, metadata_of_kernel_calls)
{
	struct drm_qda_capabilities capabilities;
	struct drm_qda_query query = {
		.type = DRM_QDA_QUERY_CAPABILITIES, .size = sizeof(capabilities),
		.data = (uintptr_t)&capabilities,
	};
	struct drm_qda_unmap unmap = { .length = PAGE };
	struct drm_qda_map map = { .length = PAGE };
	struct session session;

	/* The fixture may have a DSP that was asked before. */
	ASSERT_EQ(0, sim_write(CDSP, "misbehave", "metadata 2"));
	ASSERT_EQ(0, ioctl(self->dev, DRM_IOCTL_QDA_QUERY, &query));
	EXPECT_EQ(SIM_ARCH, capabilities.attributes[SIM_ARCH_VERSION]);
	EXPECT_EQ(0, capabilities.attributes[255]);

	ASSERT_EQ(0, sim_write(CDSP, "misbehave", "metadata 1"));
	ASSERT_EQ(0, session_create(&session, self->dev, 0, 0));
	map.handle = session.args.handle;
	ASSERT_EQ(0, sim_write(CDSP, "misbehave", "metadata 1"));
	ASSERT_EQ(0, ioctl(self->dev, DRM_IOCTL_QDA_MAP, &map));
	unmap.dsp_address = map.dsp_address;
	ASSERT_EQ(0, sim_write(CDSP, "misbehave", "metadata 1"));
	EXPECT_EQ(0, ioctl(self->dev, DRM_IOCTL_QDA_UNMAP, &unmap));
	ASSERT_EQ(0, sim_write(CDSP, "misbehave", "behave"));
}

/* A call ends with the reply that is its own, and so does the one after it. */
TEST_F(qda, replies)
{
	static const char * const faults[] = {
		"late", "stale", "short", "wrong-context", "duplicate", "metadata",
	};
	struct session session;
	unsigned int i;
	int module;

	ASSERT_EQ(0, session_create(&session, self->dev, 0, 0));
	module = open_module(&session, "echo");
	ASSERT_LT(20, module);
	for (i = 0; i < ARRAY_SIZE(faults); i++) {
		ASSERT_EQ(0, sim_write(CDSP, "misbehave", faults[i]));
		EXPECT_EQ(0, echo(&session, module, i, PAGE));
		EXPECT_EQ(0, echo(&session, module, ~i, PAGE));
	}
}

TEST_F(qda, exit_of_the_domain)
{
	struct drm_qda_map map = { .length = PAGE }, late = { .length = PAGE };
	struct drm_qda_unmap unmap = { .length = PAGE };
	struct drm_qda_session_release release = {};
	struct session session;
	pthread_t thread;
	void *error;
	int i, module;

	ASSERT_EQ(0, session_create(&session, self->dev, 0, 0));
	map.handle = session.args.handle;
	ASSERT_EQ(0, ioctl(self->dev, DRM_IOCTL_QDA_MAP, &map));
	unmap.dsp_address = map.dsp_address;
	module = open_module(&session, "echo");
	ASSERT_LT(20, module);
	ASSERT_EQ(0, pthread_create(&thread, NULL, listen, (void *)(intptr_t)self->dev));
	ASSERT_EQ(1, sim_wait_count(CDSP, "calls", 1));
	ASSERT_EQ(0, sim_write(CDSP, "misbehave", "exit"));
	EXPECT_EQ(SIM_EBADSTATE, echo(&session, module, 1, 100));
	ASSERT_EQ(0, pthread_join(thread, &error));
	EXPECT_EQ(0, (intptr_t)error);
	EXPECT_EQ(SIM_EBADSTATE, echo(&session, module, 1, 100));
	late.handle = session.args.handle;
	EXPECT_EQ(EREMOTEIO, ERRNO(ioctl(self->dev, DRM_IOCTL_QDA_MAP, &late)));
	EXPECT_EQ(SIM_EBADSTATE, late.result);
	/* It stays mapped. */
	for (i = 0; i < 2; i++) {
		EXPECT_EQ(EREMOTEIO, ERRNO(ioctl(self->dev, DRM_IOCTL_QDA_UNMAP, &unmap)));
		EXPECT_EQ(SIM_EBADSTATE, unmap.result);
	}
	EXPECT_EQ(EREMOTEIO, ERRNO(ioctl(self->dev, DRM_IOCTL_QDA_SESSION_RELEASE, &release)));
	EXPECT_EQ(SIM_EBADSTATE, release.result);
	ASSERT_EQ(0, session_create(&session, self->dev, 0, 0));
	EXPECT_LT(20, open_module(&session, "echo"));
}

/* The kernel waits for ten seconds; then the session's bank is in doubt until a restart. */
TEST_F_TIMEOUT(qda, no_answer, 90)
{
	struct drm_qda_session_create create = { .kind = DRM_QDA_SESSION_ROOT };
	struct drm_qda_capabilities capabilities;
	struct drm_qda_query query = {
		.type = DRM_QDA_QUERY_CAPABILITIES, .size = sizeof(capabilities),
		.data = (uintptr_t)&capabilities,
	};
	struct drm_qda_unmap unmap = { .length = PAGE };
	struct drm_qda_map map = { .length = PAGE };
	struct drm_qda_device device;
	struct session session;
	struct buffer buf;
	double start;

	ASSERT_EQ(0, sim_write(CDSP, "misbehave", "silent 2"));
	start = seconds();
	EXPECT_EQ(ETIMEDOUT, ERRNO(ioctl(self->dev, DRM_IOCTL_QDA_QUERY, &query)));
	EXPECT_LT(9.9, seconds() - start);
	/* It is not asked again. */
	start = seconds();
	EXPECT_EQ(ETIMEDOUT, ERRNO(ioctl(self->dev, DRM_IOCTL_QDA_QUERY, &query)));
	EXPECT_GT(9.9, seconds() - start);

	ASSERT_EQ(0, session_create(&session, self->dev, 0, 0));
	ASSERT_EQ(0, gem_create(self->dev, &buf, PAGE));
	map.handle = buf.handle;
	ASSERT_EQ(0, ioctl(self->dev, DRM_IOCTL_QDA_MAP, &map));
	unmap.dsp_address = map.dsp_address;
	ASSERT_EQ(0, sim_write(CDSP, "misbehave", "silent 1"));
	EXPECT_EQ(ETIMEDOUT, ERRNO(ioctl(self->dev, DRM_IOCTL_QDA_UNMAP, &unmap)));
	EXPECT_EQ(EINVAL, ERRNO(ioctl(self->dev, DRM_IOCTL_QDA_UNMAP, &unmap)));
	ASSERT_EQ(0, sim_write(CDSP, "misbehave", "silent 1"));
	EXPECT_EQ(ETIMEDOUT, ERRNO(ioctl(self->dev, DRM_IOCTL_QDA_MAP, &map)));
	gem_destroy(&buf);
	EXPECT_LT(20, open_module(&session, "echo"));

	ASSERT_EQ(0, sim_write(CDSP, "misbehave", "silent 1"));
	EXPECT_EQ(ETIMEDOUT, ERRNO(session_release(self->dev)));
	ASSERT_EQ(0, query_device(self->dev, &device));
	EXPECT_EQ(SIM_SESSIONS - 1, device.sessions_free);
	EXPECT_EQ(0, ioctl(self->dev, DRM_IOCTL_QDA_SESSION_CREATE, &create));
	EXPECT_EQ(0, session_release(self->dev));

	ASSERT_EQ(0, sim_write(CDSP, "online", "0"));
	ASSERT_EQ(0, sim_write(CDSP, "online", "1"));
}

/* A session that the DSP creates when nobody waits for it any more finds its memory. */
TEST_F(qda, late_session)
{
	struct drm_qda_session_create create = { .kind = DRM_QDA_SESSION_ROOT };
	struct drm_qda_device device;
	struct session session;
	int i, devs[SIM_SESSIONS];

	ASSERT_EQ(0, sim_write(CDSP, "delay_ms", "12000"));
	ASSERT_EQ(0, sim_write(CDSP, "misbehave", "late 1"));
	EXPECT_EQ(ETIMEDOUT, ERRNO(session_create(&session, self->dev, 0, 0)));
	gem_destroy(&session.args);
	ASSERT_EQ(0, query_device(self->dev, &device));
	EXPECT_EQ(SIM_SESSIONS - 1, device.sessions_free);
	EXPECT_EQ(1, sim_wait_count(CDSP, "processes", 1));
	EXPECT_EQ(self->outside, sim_count(CDSP, "outside"));

	/* Nobody else gets what it has. */
	for (i = 0; i < SIM_SESSIONS; i++) {
		devs[i] = open_device(CDSP_CHANNEL);
		ASSERT_LE(0, devs[i]);
		EXPECT_EQ(i < SIM_SESSIONS - 1 ? 0 : EBUSY,
			  ERRNO(ioctl(devs[i], DRM_IOCTL_QDA_SESSION_CREATE, &create)));
	}
	for (i = 0; i < SIM_SESSIONS; i++)
		close(devs[i]);
	ASSERT_EQ(0, sim_write(CDSP, "delay_ms", "200"));
	ASSERT_EQ(0, sim_write(CDSP, "online", "0"));
	ASSERT_EQ(0, sim_write(CDSP, "online", "1"));
}

/* Everything that a file can be in when its DSP goes away. */
TEST_F(qda, restart)
{
	struct drm_qda_session_create create = { .kind = DRM_QDA_SESSION_ROOT };
	struct drm_qda_gem_create gem = { .size = PAGE };
	struct session session, again;
	int idle, attached, fd, foreign, dev, module, result;
	struct drm_qda_unmap unmap = { .length = PAGE };
	struct drm_qda_map map = { .length = PAGE };
	struct drm_qda_gem_mmap_offset offset = {};
	struct drm_qda_device device;
	struct drm_qda_arg args[2];
	struct buffer buf;
	pthread_t thread;
	uint32_t handle;
	void *error;

	idle = open_device(CDSP_CHANNEL);
	attached = open_device(CDSP_CHANNEL);
	ASSERT_LE(0, attached);
	ASSERT_EQ(0, ioctl(attached, DRM_IOCTL_QDA_SESSION_CREATE, &create));
	ASSERT_EQ(0, session_create(&session, self->dev, 0, 0));
	ASSERT_EQ(0, gem_create(self->dev, &buf, PAGE));
	fd = prime_export(self->dev, buf.handle);
	ASSERT_LE(0, fd);
	map.handle = buf.handle;
	ASSERT_EQ(0, ioctl(self->dev, DRM_IOCTL_QDA_MAP, &map));
	/* A bank has mapped what another driver owns, and nobody else holds. */
	foreign = foreign_page();
	if (foreign >= 0) {
		module = open_module(&session, "echo");
		ASSERT_LT(20, module);
		ASSERT_EQ(0, prime_import(self->dev, foreign, &handle));
		close(foreign);
		args[0] = arg(handle, 0, 8);
		args[1] = arg(handle, 64, 8);
		ASSERT_EQ(0, invoke(self->dev, module, DRM_QDA_SCALARS(2, 1, 1, 0, 0), args,
				    &result));
		EXPECT_EQ(0, result);
	}
	ASSERT_EQ(0, pthread_create(&thread, NULL, listen, (void *)(intptr_t)self->dev));
	ASSERT_EQ(1, sim_wait_count(CDSP, "calls", 1));
	memset(buf.mem, 0x5a, PAGE);

	ASSERT_EQ(0, sim_write(CDSP, "online", "0"));
	ASSERT_EQ(0, pthread_join(thread, &error));
	EXPECT_EQ(EPIPE, (intptr_t)error);
	/* The CPU has the buffer still. */
	EXPECT_EQ(0x5a, buf.mem[0]);
	buf.mem[PAGE - 1] = 1;
	EXPECT_EQ(ENODEV, ERRNO(invoke(self->dev, 3, 0, NULL, &result)));
	EXPECT_EQ(ENODEV, ERRNO(ioctl(self->dev, DRM_IOCTL_QDA_MAP, &map)));
	unmap.dsp_address = map.dsp_address;
	EXPECT_EQ(ENODEV, ERRNO(ioctl(self->dev, DRM_IOCTL_QDA_UNMAP, &unmap)));
	EXPECT_EQ(ENODEV, ERRNO(session_release(self->dev)));
	EXPECT_EQ(ENODEV, ERRNO(query_device(idle, &device)));
	EXPECT_EQ(ENODEV, ERRNO(ioctl(idle, DRM_IOCTL_QDA_SESSION_CREATE, &create)));
	EXPECT_EQ(ENODEV, ERRNO(ioctl(idle, DRM_IOCTL_QDA_GEM_CREATE, &gem)));
	offset.handle = buf.handle;
	EXPECT_EQ(ENODEV, ERRNO(ioctl(self->dev, DRM_IOCTL_QDA_GEM_MMAP_OFFSET, &offset)));
	close(attached);

	ASSERT_EQ(0, sim_write(CDSP, "online", "1"));
	ASSERT_EQ(0, bind_driver(CDSP_CHANNEL));
	dev = open_device(CDSP_CHANNEL);
	ASSERT_LE(0, dev);
	ASSERT_EQ(0, session_create(&again, dev, 0, 0));
	module = open_module(&again, "echo");
	ASSERT_LT(20, module);
	EXPECT_EQ(0, echo(&again, module, 1, 100));
	EXPECT_EQ(ENODEV, ERRNO(invoke(self->dev, 3, 0, NULL, &result)));
	/* The old device's buffer is another driver's for the new one. */
	EXPECT_EQ(0, prime_import(dev, fd, &map.handle));
	EXPECT_EQ(0, ioctl(dev, DRM_IOCTL_QDA_MAP, &map));
	close(fd);
	close(idle);
	drop(dev);
}

/* Close a device that is about to go, and open the one that is there after it. */
static int open_again(int dev)
{
	struct drm_qda_device device;
	int i;

	while (!query_device(dev, &device))
		usleep(10000);
	close(dev);
	for (i = 0, dev = -1; i < 1000 && dev < 0; i++) {
		usleep(10000);
		/* While it is being added it cannot be bound. Another driver may get it then. */
		if (i < 100 && access(RPMSG "/devices/" CDSP_CHANNEL "/driver", F_OK))
			continue;
		if (!bind_driver(CDSP_CHANNEL))
			dev = open_device(CDSP_CHANNEL);
	}
	return dev;
}

TEST_F(qda, crash_during_a_call)
{
	struct session session;
	int module;

	ASSERT_EQ(0, session_create(&session, self->dev, 0, 0));
	module = open_module(&session, "echo");
	ASSERT_LT(20, module);
	ASSERT_EQ(0, sim_write(CDSP, "misbehave", "crash"));
	EXPECT_EQ(EPIPE, ERRNO(echo(&session, module, 1, 100)));
	self->dev = open_again(self->dev);
	ASSERT_LE(0, self->dev);
	ASSERT_EQ(0, session_create(&session, self->dev, 0, 0));
}

/* The same, of those by which the kernel manages sessions */
TEST_F_TIMEOUT(qda, crash_during_a_kernel_call, 60)
{
	struct drm_qda_session_create create = { .kind = DRM_QDA_SESSION_ROOT };
	struct drm_qda_capabilities capabilities;
	struct drm_qda_query query = {
		.type = DRM_QDA_QUERY_CAPABILITIES, .size = sizeof(capabilities),
		.data = (uintptr_t)&capabilities,
	};
	int i, ret = 0;

	for (i = 0; i < 5; i++) {
		struct drm_qda_unmap unmap = { .length = PAGE };
		struct drm_qda_map map = { .length = PAGE };
		struct session session;

		if (i >= 2) {
			ASSERT_EQ(0, session_create(&session, self->dev, 0, 0));
			map.handle = session.args.handle;
			ASSERT_EQ(0, ioctl(self->dev, DRM_IOCTL_QDA_MAP, &map));
			unmap.dsp_address = map.dsp_address;
		}
		ASSERT_EQ(0, sim_write(CDSP, "misbehave", i ? "crash 1" : "crash 2"));
		switch (i) {
		case 0:
			ret = ioctl(self->dev, DRM_IOCTL_QDA_QUERY, &query);
			break;
		case 1:
			ret = ioctl(self->dev, DRM_IOCTL_QDA_SESSION_CREATE, &create);
			break;
		case 2:
			ret = ioctl(self->dev, DRM_IOCTL_QDA_MAP, &map);
			break;
		case 3:
			ret = ioctl(self->dev, DRM_IOCTL_QDA_UNMAP, &unmap);
			break;
		case 4:
			ret = session_release(self->dev);
			break;
		}
		EXPECT_EQ(EPIPE, ERRNO(ret))
			TH_LOG("call %d", i);
		self->dev = open_again(self->dev);
		ASSERT_LE(0, self->dev);
	}
}

/* The driver goes, with a call pending, while the DSP stays. */
TEST_F(qda, unbind_during_a_call)
{
	struct session session;
	pthread_t thread;
	void *error;

	ASSERT_EQ(0, session_create(&session, self->dev, 0, 0));
	ASSERT_EQ(0, pthread_create(&thread, NULL, listen, (void *)(intptr_t)self->dev));
	ASSERT_EQ(1, sim_wait_count(CDSP, "calls", 1));
	unbind_driver(CDSP_CHANNEL);
	ASSERT_EQ(0, pthread_join(thread, &error));
	EXPECT_EQ(EPIPE, (intptr_t)error);
	EXPECT_EQ(ENODEV, ERRNO(session_release(self->dev)));
	self->dev = open_again(self->dev);
	ASSERT_LE(0, self->dev);
	ASSERT_EQ(0, session_create(&session, self->dev, 0, 0));
}

static double race_seconds(void)
{
	const char *given = getenv("RACE_SECONDS");

	return given ? atof(given) : 5;
}

struct racer {
	struct session *session;
	double until;
	int module;
	int failed, passed;
};

static void *race_calls(void *data)
{
	struct racer *racer = data;
	struct drm_qda_arg args[2];
	struct buffer buf;
	int i, result;

	for (i = 1; seconds() < racer->until && !racer->failed; i++) {
		if (gem_create(racer->session->dev, &buf, 2 * PAGE)) {
			racer->failed = 1;
			break;
		}
		memset(buf.mem, i, PAGE);
		args[0] = arg(buf.handle, 0, PAGE);
		args[1] = arg(buf.handle, PAGE, PAGE);
		if (invoke(racer->session->dev, racer->module, DRM_QDA_SCALARS(2, 1, 1, 0, 0), args,
			   &result) || result || memcmp(buf.mem, buf.mem + PAGE, PAGE))
			racer->failed = 2;
		gem_destroy(&buf);
	}
	return NULL;
}

TEST_F_TIMEOUT(qda, race_calls, 300)
{
	struct racer racers[4];
	struct session session;
	pthread_t threads[4];
	int i, module;

	ASSERT_EQ(0, session_create(&session, self->dev, 0, 0));
	module = open_module(&session, "echo");
	ASSERT_LT(20, module);
	for (i = 0; i < 4; i++) {
		racers[i] = (struct racer){ &session, seconds() + race_seconds(), module, 0, 0 };
		ASSERT_EQ(0, pthread_create(&threads[i], NULL, race_calls, &racers[i]));
	}
	for (i = 0; i < 4; i++) {
		pthread_join(threads[i], NULL);
		EXPECT_EQ(0, racers[i].failed);
	}
}

struct releaser {
	int dev, module;
	uint32_t handle;
	uint64_t size;
	int error, calls;
};

static void *race_release(void *data)
{
	struct releaser *releaser = data;
	struct drm_qda_arg args[2] = {
		arg(releaser->handle, 0, releaser->size / 2),
		arg(releaser->handle, releaser->size / 2, releaser->size / 2),
	};
	int result = 0;

	do {
		releaser->error = ERRNO(invoke(releaser->dev, releaser->module,
					       DRM_QDA_SCALARS(2, 1, 1, 0, 0), args, &result));
		releaser->calls += !releaser->error;
	} while (!releaser->error);
	return NULL;
}

/* When a session has ended, the DSP is at none of its calls any more. */
TEST_F_TIMEOUT(qda, race_release, 300)
{
	double until = seconds() + race_seconds();
	struct session session;
	struct releaser releaser;
	struct buffer buf;
	pthread_t thread;
	int calls = 0;

	/* Not always before the first call */
	while (seconds() < until || !calls) {
		ASSERT_EQ(0, session_create(&session, self->dev, 0, 0));
		ASSERT_EQ(0, gem_create(self->dev, &buf, 4 * MIB));
		releaser = (struct releaser){
			self->dev, open_module(&session, "echo"), buf.handle, 4 * MIB, 0, 0
		};
		ASSERT_LT(20, releaser.module);
		ASSERT_EQ(0, pthread_create(&thread, NULL, race_release, &releaser));
		usleep(rand() % 30000);
		EXPECT_EQ(0, session_release(self->dev));
		gem_destroy(&buf);
		pthread_join(thread, NULL);
		EXPECT_TRUE(releaser.error == EPIPE || releaser.error == ENOTCONN ||
			    releaser.error == ENOENT)
			TH_LOG("%s", strerror(releaser.error));
		gem_destroy(&session.args);
		EXPECT_EQ(self->outside, sim_count(CDSP, "outside"));
		calls += releaser.calls;
	}
}

struct closer {
	pthread_barrier_t barrier;
	int dev;
	uint32_t handle;
};

static void *race_close(void *data)
{
	struct closer *closer = data;
	int i, after;

	pthread_barrier_wait(&closer->barrier);
	after = rand() % 20000;
	for (i = 0; i < after; i++)
		__asm__ __volatile__("");
	gem_close(closer->dev, closer->handle);
	return NULL;
}

/* A handle that is closed while its buffer is being mapped leaves nothing mapped. */
TEST_F_TIMEOUT(qda, race_close, 300)
{
	double until = seconds() + race_seconds();
	int i, module, result, error, before = 0, first = 0, second = 0;
	struct session session;
	struct closer closer;
	pthread_t thread;

	ASSERT_EQ(0, session_create(&session, self->dev, 0, 0));
	module = open_module(&session, "echo");
	ASSERT_LT(20, module);
	closer.dev = self->dev;
	ASSERT_EQ(0, pthread_barrier_init(&closer.barrier, NULL, 2));
	for (i = 0; seconds() < until || i < 3; i++) {
		struct drm_qda_gem_create create = { .size = PAGE };
		struct drm_qda_unmap unmap = { .length = PAGE };
		struct drm_qda_map map = { .length = PAGE };
		struct drm_qda_arg args[1];

		/* After one of each, there are payloads for them. */
		if (i == 2)
			before = bank_memory();
		ASSERT_EQ(0, ioctl(self->dev, DRM_IOCTL_QDA_GEM_CREATE, &create));
		closer.handle = create.handle;
		args[0] = arg(create.handle, 0, 8);
		map.handle = create.handle;
		ASSERT_EQ(0, pthread_create(&thread, NULL, race_close, &closer));
		if (i >= 2)
			pthread_barrier_wait(&closer.barrier);
		if (i % 2)
			error = ERRNO(invoke(self->dev, module, DRM_QDA_SCALARS(2, 1, 0, 0, 0),
					     args, &result));
		else
			error = ERRNO(ioctl(self->dev, DRM_IOCTL_QDA_MAP, &map));
		if (i < 2)
			pthread_barrier_wait(&closer.barrier);
		pthread_join(thread, NULL);
		EXPECT_TRUE(!error || error == ENOENT)
			TH_LOG("%s", strerror(error));
		unmap.dsp_address = map.dsp_address;
		if (!error && i % 2 == 0)
			EXPECT_EQ(0, ioctl(self->dev, DRM_IOCTL_QDA_UNMAP, &unmap));
		first += !error;
		second += error == ENOENT;
	}
	TH_LOG("the call came first %d times, last %d times", first, second);
	EXPECT_LT(2, first);
	EXPECT_TRUE(bank_memory_is(before));
	pthread_barrier_destroy(&closer.barrier);
}

static void *race_create(void *data)
{
	struct drm_qda_session_create create = { .kind = DRM_QDA_SESSION_ROOT };
	struct racer *racer = data;
	int error;

	while (seconds() < racer->until) {
		error = ERRNO(ioctl(racer->session->dev, DRM_IOCTL_QDA_SESSION_CREATE, &create));
		racer->passed += !error;
		racer->failed += error && error != EEXIST;
	}
	return NULL;
}

/* A file has one session at a time, and each that is created is there to be released. */
TEST_F_TIMEOUT(qda, race_create, 300)
{
	struct session session = { .dev = self->dev };
	double until = seconds() + race_seconds();
	int i, error, created = 0, released = 0;
	struct racer racers[3];
	pthread_t threads[3];

	for (i = 0; i < 3; i++) {
		racers[i] = (struct racer){ &session, until, 0, 0, 0 };
		ASSERT_EQ(0, pthread_create(&threads[i], NULL, race_create, &racers[i]));
	}
	while (seconds() < until) {
		error = ERRNO(session_release(self->dev));
		released += !error;
		EXPECT_TRUE(!error || error == ENOTCONN)
			TH_LOG("%s", strerror(error));
	}
	for (i = 0; i < 3; i++) {
		pthread_join(threads[i], NULL);
		EXPECT_EQ(0, racers[i].failed);
		created += racers[i].passed;
	}
	EXPECT_LT(1, released);
	EXPECT_EQ(created > released ? 0 : ENOTCONN, ERRNO(session_release(self->dev)));
	EXPECT_GE(1, created - released);
	EXPECT_EQ(0, sim_count(CDSP, "processes"));
}

static atomic_int sessions_passed;
static atomic_bool sessions_over;

static void *race_sessions(void *unused)
{
	struct drm_qda_device device;
	int i, dev, module;

	while (!sessions_over) {
		struct session session = {};

		dev = open_device(CDSP_CHANNEL);
		if (dev < 0)
			continue;
		for (i = 0; i < 20; i++)
			query_device(dev, &device);
		if (!session_create(&session, dev, 0, 0)) {
			module = open_module(&session, "echo");
			if (module > 0)
				sessions_passed += !echo(&session, module, 1, 100);
		}
		munmap(session.args.mem, session.args.size);
		drop(dev);
	}
	return NULL;
}

/* Sessions come and go while the DSP does. */
TEST_F_TIMEOUT(qda, race_restart, 300)
{
	double until = seconds() + race_seconds();
	pthread_t threads[4];
	int i, restarts;

	close(self->dev);
	self->dev = -1;
	for (i = 0; i < 4; i++)
		ASSERT_EQ(0, pthread_create(&threads[i], NULL, race_sessions, NULL));
	/* Now and then the DSP is there for as long as a session takes. */
	for (restarts = 0; seconds() < until || !sessions_passed; restarts++) {
		usleep(100000 + restarts % 10 * 100000);
		ASSERT_EQ(0, sim_write(CDSP, "online", "0"));
		ASSERT_EQ(0, sim_write(CDSP, "online", "1"));
		ASSERT_EQ(0, bind_driver(CDSP_CHANNEL));
	}
	sessions_over = true;
	for (i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
}

/* Each allocation and each copy of what an ioctl does fails once. */
static int fail_nth_fd = -1;

static bool fail_nth_arm(int nth)
{
	char number[16];

	if (fail_nth_fd < 0) {
		/* By default, allocations that may sleep are spared. */
		write_file("/sys/kernel/debug/failslab/ignore-gfp-wait", "N");
		write_file("/sys/kernel/debug/fail_page_alloc/ignore-gfp-wait", "N");
		fail_nth_fd = open("/proc/thread-self/fail-nth", O_RDWR);
	}
	snprintf(number, sizeof(number), "%d", nth);
	return fail_nth_fd >= 0 && pwrite(fail_nth_fd, number, strlen(number), 0) > 0;
}

/* Was there an nth one? */
static bool fail_nth_hit(void)
{
	char number[16] = "";

	pread(fail_nth_fd, number, sizeof(number) - 1, 0);
	pwrite(fail_nth_fd, "0", 1, 0);
	return atoi(number) == 0;
}

/* @cleanup, without failures, undoes what may be left of the statement. */
#define SWEEP(statement, cleanup) do {						\
		int nth_, ret_;							\
										\
		for (nth_ = 1; nth_ < 400; nth_++) {				\
			ASSERT_TRUE(fail_nth_arm(nth_));			\
			ret_ = ERRNO(statement);				\
			if (!fail_nth_hit()) {					\
				EXPECT_EQ(0, ret_);				\
				break;						\
			}							\
			cleanup;						\
			/* Some failures are made good; shmem has no ENOMEM for inodes. */ \
			if (ret_)						\
				EXPECT_TRUE(ret_ == ENOMEM || ret_ == EFAULT ||	\
					    ret_ == EINTR || ret_ == ENOSPC)	\
					TH_LOG("nth %d: errno %d", nth_, ret_);	\
		}								\
		EXPECT_GT(400, nth_);						\
	} while (0)

/* A call with a buffer that is not mapped yet */
static int sweep_invoke(int dev, int module)
{
	struct drm_qda_gem_create create = { .size = 2 * PAGE };
	struct drm_qda_arg args[2];
	int ret, error, result;

	if (ioctl(dev, DRM_IOCTL_QDA_GEM_CREATE, &create))
		return -1;
	args[0] = arg(create.handle, 0, 100);
	args[1] = arg(create.handle, PAGE, 100);
	ret = invoke(dev, module, DRM_QDA_SCALARS(2, 1, 1, 0, 0), args, &result);
	error = errno;
	gem_close(dev, create.handle);
	errno = error;
	return ret;
}

static int sweep_buffer(int dev)
{
	struct drm_qda_gem_create create = { .size = 2 * PAGE };
	int ret = ioctl(dev, DRM_IOCTL_QDA_GEM_CREATE, &create), error = errno;

	if (!ret)
		gem_close(dev, create.handle);
	errno = error;
	return ret;
}

static int sweep_session(int dev, struct drm_qda_session_create create)
{
	return ioctl(dev, DRM_IOCTL_QDA_SESSION_CREATE, &create) || session_release(dev) ? -1 : 0;
}

static int sweep_export(int dev)
{
	struct drm_qda_gem_create create = { .size = PAGE };
	int fd, error;

	if (ioctl(dev, DRM_IOCTL_QDA_GEM_CREATE, &create))
		return -1;
	fd = prime_export(dev, create.handle);
	error = errno;
	if (fd >= 0)
		close(fd);
	gem_close(dev, create.handle);
	errno = error;
	return fd < 0 ? -1 : 0;
}

static int sweep_map(int dev, uint32_t handle)
{
	struct drm_qda_map map = { .handle = handle, .length = PAGE };
	struct drm_qda_unmap unmap = { .length = PAGE };

	if (ioctl(dev, DRM_IOCTL_QDA_MAP, &map))
		return -1;
	unmap.dsp_address = map.dsp_address;
	return ioctl(dev, DRM_IOCTL_QDA_UNMAP, &unmap);
}

static int sweep_import(int dev, int fd, struct session *session, int module)
{
	struct drm_qda_arg args[2];
	uint32_t handle;
	int ret, result, error;

	if (prime_import(dev, fd, &handle))
		return -1;
	args[0] = arg(handle, 0, 8);
	args[1] = arg(handle, 64, 8);
	ret = invoke(dev, module, DRM_QDA_SCALARS(2, 1, 1, 0, 0), args, &result);
	error = errno;
	gem_close(dev, handle);
	errno = error;
	return ret;
}

TEST_F_TIMEOUT(qda, fail_nth, 300)
{
	struct drm_qda_capabilities capabilities;
	struct drm_qda_query query = {
		.type = DRM_QDA_QUERY_CAPABILITIES, .data = (uintptr_t)&capabilities,
	};
	struct drm_qda_session_create user = {
		.kind = DRM_QDA_SESSION_USER, .shell_size = 100,
	};
	struct drm_qda_session_create root = { .kind = DRM_QDA_SESSION_ROOT };
	struct drm_qda_session_create sensors = { .kind = DRM_QDA_SESSION_SENSORS };
	struct drm_qda_session_create audio = {
		.kind = DRM_QDA_SESSION_STATIC, .name = (uintptr_t)"audiopd", .name_size = 8,
	};
	struct session session, other;
	struct drm_qda_device device;
	int module, fd, dev, ret, failed = 0;
	struct buffer buf;

	if (access("/proc/thread-self/fail-nth", F_OK))
		SKIP(return, "no fault injection");
	ASSERT_EQ(0, gem_create(self->dev, &buf, PAGE));
	memcpy(buf.mem, "\177ELF", 4);
	SWEEP((query.size = sizeof(capabilities), ioctl(self->dev, DRM_IOCTL_QDA_QUERY, &query)),
	      (void)0);
	SWEEP(sweep_buffer(self->dev), (void)0);
	SWEEP(sweep_export(self->dev), (void)0);
	user.shell_handle = buf.handle;
	SWEEP(sweep_session(self->dev, user), session_release(self->dev));
	SWEEP(sweep_session(self->dev, root), session_release(self->dev));
	SWEEP(sweep_session(self->dev, sensors), session_release(self->dev));

	ASSERT_EQ(0, bind_driver(ADSP_CHANNEL));
	dev = open_device(ADSP_CHANNEL);
	ASSERT_LE(0, dev);
	ASSERT_EQ(0, query_device(dev, &device));
	if (device.flags & DRM_QDA_DEVICE_STATIC)
		SWEEP(sweep_session(dev, audio), session_release(dev));
	drop(dev);
	unbind_driver(ADSP_CHANNEL);

	ASSERT_EQ(0, session_create(&session, self->dev, 0, 0));
	module = open_module(&session, "echo");
	ASSERT_LT(20, module);
	/* Warm, it allocates nothing: the one failure is of the DSP's own request. */
	ASSERT_EQ(0, echo(&session, module, 1, 1000));
	SWEEP((ret = ERRNO(echo(&session, module, 1, 1000)), failed += ret == ENOMEM,
	       errno = ret), (void)0);
	EXPECT_EQ(1, failed);
	SWEEP(sweep_invoke(self->dev, module), (void)0);
	SWEEP(sweep_map(self->dev, buf.handle), (void)0);
	dev = open_device(CDSP_CHANNEL);
	ASSERT_LE(0, dev);
	ASSERT_EQ(0, session_create(&other, dev, 0, 0));
	fd = prime_export(dev, other.args.handle);
	ASSERT_LE(0, fd);
	SWEEP(sweep_import(self->dev, fd, &session, module), (void)0);
	close(fd);
	drop(dev);
	fd = foreign_page();
	if (fd >= 0)
		SWEEP(sweep_import(self->dev, fd, &session, module), (void)0);
	close(fd);
}

/* Where a function of the kernel's begins and ends; 0 if it has none of that name. */
static int find_function(const char *function, unsigned long long *start, unsigned long long *end)
{
	FILE *symbols = fopen("/proc/kallsyms", "r");
	unsigned long long address;
	char name[256];

	*start = 0;
	*end = ~0ULL;
	if (!symbols)
		return 0;
	while (fscanf(symbols, "%llx %*c %255s%*[^\n]", &address, name) == 2)
		if (!strcmp(name, function))
			*start = address;
	/* It ends where the next one begins: those of modules are in no order. */
	rewind(symbols);
	while (fscanf(symbols, "%llx %*c %255s%*[^\n]", &address, name) == 2)
		if (address > *start && address < *end)
			*end = address;
	fclose(symbols);
	return *start != 0;
}

static unsigned long long read_number(const char *path)
{
	unsigned long long number = 0;
	FILE *file = fopen(path, "r");

	if (file) {
		if (fscanf(file, "%llx", &number) != 1)
			number = 0;
		fclose(file);
	}
	return number;
}

/* Let only what a function does fail (@what is "require"), or nothing of it ("reject"). */
static int fail_nth_filter(const char *what, unsigned long long start, unsigned long long end)
{
	static const char * const kinds[] = { "failslab", "fail_page_alloc", "fail_usercopy" };
	char path[64], number[24];
	unsigned int i;
	int ret = 0;

	for (i = 0; i < ARRAY_SIZE(kinds); i++) {
		snprintf(path, sizeof(path), "/sys/kernel/debug/%s/%s-start", kinds[i], what);
		snprintf(number, sizeof(number), "%#llx", start);
		ret |= write_file(path, number);
		snprintf(path, sizeof(path), "/sys/kernel/debug/%s/%s-end", kinds[i], what);
		snprintf(number, sizeof(number), "%#llx", end);
		ret |= write_file(path, number);
	}
	return ret;
}

/*
 * A probe that fails leaves nothing; one that does not leaves no bank out. DRM and the
 * device core do not all survive what fails before the banks are made.
 */
TEST_F_TIMEOUT(qda, fail_nth_probe, 900)
{
	int bind = open(RPMSG "/drivers/qda/bind", O_WRONLY);
	int banks = count_banks(false), groups = sim_groups();
	int nth, step, ret, module, failed = 0, passed = 0;
	unsigned long long start, end, spared, spared_end, before, before_end;
	struct session session;
	bool hit = true;

	if (access("/proc/thread-self/fail-nth", F_OK))
		SKIP(return, "no fault injection");
	if (!find_function("qda_banks_create", &start, &end) ||
	    fail_nth_filter("require", start, end))
		SKIP(return, "no filter of stacks for fault injection");
	before = read_number("/sys/kernel/debug/failslab/reject-start");
	before_end = read_number("/sys/kernel/debug/failslab/reject-end");
	/* The IOMMU core would warn of having to try again. */
	if (find_function("__iommu_probe_device", &spared, &spared_end))
		ASSERT_EQ(0, fail_nth_filter("reject", spared, spared_end));
	ASSERT_LE(0, bind);
	/* The banks are alike: each third fault of theirs is at another place. */
	step = race_seconds() > 5 ? 1 : 3;
	for (nth = 1; hit && nth < 5000; nth += step) {
		close(self->dev);
		self->dev = -1;
		write_file(RPMSG "/drivers/qda/unbind", CDSP_CHANNEL);
		ASSERT_EQ(0, count_banks(false));

		ASSERT_TRUE(fail_nth_arm(nth));
		ret = write(bind, CDSP_CHANNEL, strlen(CDSP_CHANNEL)) < 0 ? errno : 0;
		hit = fail_nth_hit();
		if (ret) {
			EXPECT_TRUE(hit && (ret == ENOMEM || ret == ENODEV))
				TH_LOG("nth %d: errno %d", nth, ret);
			EXPECT_EQ(0, count_banks(false))
				TH_LOG("nth %d", nth);
			failed++;
			continue;
		}
		passed++;
		EXPECT_EQ(banks, count_banks(false));
		EXPECT_EQ(groups, sim_groups())
			TH_LOG("nth %d", nth);
		self->dev = open_device(CDSP_CHANNEL);
		ASSERT_LE(0, self->dev);
		ASSERT_EQ(0, session_create(&session, self->dev, 0, 0));
		module = open_module(&session, "echo");
		EXPECT_EQ(0, echo(&session, module, 1, 100));
		gem_destroy(&session.args);
		EXPECT_EQ(0, session_release(self->dev));
	}
	EXPECT_FALSE(hit);
	EXPECT_LT(banks, failed);
	TH_LOG("%d failed, %d passed", failed, passed);
	fail_nth_filter("require", 0, ~0ULL);
	fail_nth_filter("reject", before, before_end);
	close(bind);
}

/* A bank that its IOMMU refuses does no DMA around it: there is none, and no device. */
TEST(refused_by_the_iommu)
{
	if (sim_load("qda") || sim_load("fastrpc_sim"))
		SKIP(return, "the software DSP and the driver are not modules");
	ASSERT_EQ(0, sim_unload("fastrpc_sim"));
	/* More bits than an SMMUv3's streams have here. */
	ASSERT_EQ(0, sim_load_with("fastrpc_sim", "stream=0x1000000"));
	EXPECT_EQ(-1, bind_driver(CDSP_CHANNEL));
	EXPECT_EQ(ENODEV, errno);
	EXPECT_EQ(0, count_banks(false));
	EXPECT_EQ(-1, open_device(CDSP_CHANNEL));
	ASSERT_EQ(0, sim_unload("fastrpc_sim"));
	ASSERT_EQ(0, sim_unload("qda"));
}

TEST(late_iommu)
{
	struct session session;
	int dev, i;

	if (!access("/sys/bus/platform/drivers/arm-smmu-v3", F_OK))
		SKIP(return, "the driver of the SMMU is there already");
	if (sim_load("qda") || sim_load("fastrpc_sim"))
		SKIP(return, "the software DSP and the driver are not modules");

	/*
	 * Also when the driver core no longer waits for the drivers of suppliers.
	 * Not by "bind", which does not try again.
	 */
	ASSERT_EQ(0, write_file(RPMSG "/devices/" CDSP_CHANNEL "/driver_override", "qda"));
	write_file(RPMSG "/drivers_probe", CDSP_CHANNEL);
	for (i = 0; i < 15; i++) {
		EXPECT_EQ(-1, open_device(CDSP_CHANNEL));
		EXPECT_EQ(0, count_banks(false));
		sleep(1);
	}

	if (sim_load("arm_smmu_v3"))
		SKIP(return, "no module for the SMMU");
	for (i = 0; i < 1000 && (dev = open_device(CDSP_CHANNEL)) < 0; i++)
		usleep(10000);
	ASSERT_LE(0, dev);
	ASSERT_EQ(0, session_create(&session, dev, 0, 0));
	EXPECT_LT(20, open_module(&session, "echo"));
	EXPECT_LT(0, count_banks(true));
	EXPECT_EQ(count_banks(false), count_banks(true));
	EXPECT_EQ(0, sim_count(CDSP, "outside"));
	drop(dev);
	unbind_driver(CDSP_CHANNEL);
}

/* By the module's parameter, without a driver_override */
TEST(claim)
{
	int claim, dev, i;

	if (!access(RPMSG "/drivers/qcom,fastrpc", F_OK))
		SKIP(return, "another driver takes the DSPs");
	if (sim_load("qda") || sim_load("fastrpc_sim"))
		SKIP(return, "the software DSP and the driver are not modules");
	for (claim = 0; claim < 2; claim++) {
		ASSERT_EQ(0, sim_unload("fastrpc_sim"));
		ASSERT_EQ(0, sim_unload("qda"));
		ASSERT_EQ(0, sim_load_with("qda", claim ? "claim=1" : "claim=0"));
		ASSERT_EQ(0, sim_load("fastrpc_sim"));
		for (i = 0; i < 100 && (dev = open_device(CDSP_CHANNEL)) < 0; i++)
			usleep(10000);
		EXPECT_EQ(claim, dev >= 0);
		close(dev);
	}
	ASSERT_EQ(0, sim_unload("fastrpc_sim"));
	ASSERT_EQ(0, sim_unload("qda"));
}

static void *unload(void *unused)
{
	return (void *)(intptr_t)(sim_unload("fastrpc_sim") ? errno : 0);
}

TEST(reload)
{
	struct drm_qda_device device;
	struct session session;
	pthread_t thread;
	void *error;
	int dev, i;

	if (sim_load("qda") || sim_load("fastrpc_sim"))
		SKIP(return, "the software DSP and the driver are not modules");
	for (i = 0; i < 5; i++) {
		ASSERT_EQ(0, sim_load("qda"));
		ASSERT_EQ(0, sim_load("fastrpc_sim"));
		ASSERT_EQ(0, bind_driver(CDSP_CHANNEL));
		dev = open_device(CDSP_CHANNEL);
		ASSERT_LE(0, dev);
		ASSERT_EQ(0, session_create(&session, dev, 0, 0));
		EXPECT_LT(20, open_module(&session, "echo"));
		EXPECT_EQ(-1, sim_unload("qda"));
		EXPECT_EQ(EAGAIN, errno);

		/* The DSP goes before the file or after it. */
		if (i % 2) {
			ASSERT_EQ(0, pthread_create(&thread, NULL, unload, NULL));
			while (!query_device(dev, &device))
				usleep(10000);
			EXPECT_EQ(ENODEV, ERRNO(session_release(dev)));
			gem_destroy(&session.args);
			close(dev);
			ASSERT_EQ(0, pthread_join(thread, &error));
			EXPECT_EQ(0, (intptr_t)error);
			EXPECT_EQ(0, count_banks(false));
			EXPECT_EQ(0, sim_unload("qda"));
		} else {
			gem_destroy(&session.args);
			drop(dev);
			EXPECT_EQ(0, sim_unload("qda"));
			EXPECT_EQ(0, count_banks(false));
			EXPECT_EQ(0, sim_unload("fastrpc_sim"));
		}
		EXPECT_EQ(0, sim_groups());
	}
}

TEST_HARNESS_MAIN
