// SPDX-License-Identifier: GPL-2.0-only
/*
 * /dev/fastrpc-* on the software DSP: what programs do with DSPs works, and what
 * DSPs do wrong harms nobody.
 */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>

#include <linux/udmabuf.h>
#include <misc/fastrpc.h>

#include "../../kselftest_harness.h"
#include "sim.h"

#define DSP		"cdsp"
#define NODE		"/dev/fastrpc-cdsp-secure"
#define NODE_UNSIGNED	"/dev/fastrpc-cdsp"
#define PAGE		4096
#define MIB		(1024 * 1024)
#define ADD_PAGES	0x1000

struct buffer {
	int fd;
	size_t size;
	void *mem;
};

/* A dma-buf of pages, as other devices share them. */
static int buffer_create(struct buffer *buf, size_t size)
{
	struct udmabuf_create create = { .size = size };
	int udmabuf = open("/dev/udmabuf", O_RDWR);
	int memfd = memfd_create("fastrpc", MFD_ALLOW_SEALING | MFD_CLOEXEC);

	create.memfd = memfd;
	if (udmabuf < 0 || memfd < 0 || ftruncate(memfd, size) ||
	    fcntl(memfd, F_ADD_SEALS, F_SEAL_SHRINK))
		return -1;
	buf->size = size;
	buf->fd = ioctl(udmabuf, UDMABUF_CREATE, &create);
	buf->mem = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
	close(memfd);
	close(udmabuf);
	return buf->fd < 0 || buf->mem == MAP_FAILED ? -1 : 0;
}

static void buffer_destroy(struct buffer *buf)
{
	munmap(buf->mem, buf->size);
	close(buf->fd);
}

static struct fastrpc_invoke_args arg(void *mem, size_t len)
{
	return (struct fastrpc_invoke_args){ .ptr = (uintptr_t)mem, .length = len, .fd = -1 };
}

static struct fastrpc_invoke_args arg_of(struct buffer *buf)
{
	return (struct fastrpc_invoke_args){
		.ptr = (uintptr_t)buf->mem, .length = buf->size, .fd = buf->fd
	};
}

static int invoke(int dev, unsigned int handle, unsigned int sc, struct fastrpc_invoke_args *args)
{
	struct fastrpc_invoke req = { .handle = handle, .sc = sc, .args = (uintptr_t)args };

	return ioctl(dev, FASTRPC_IOCTL_INVOKE, &req);
}

/* The handle of a module, or a negative error. */
static int open_module(int dev, const char *name)
{
	uint32_t in[2];
	int32_t out[2];
	char uri[128], text[64] = "";
	int ret;

	sim_uri(uri, sizeof(uri), name);
	in[0] = strlen(uri) + 1;
	in[1] = sizeof(text);
	struct fastrpc_invoke_args args[] = {
		arg(in, sizeof(in)), arg(uri, in[0]), arg(out, sizeof(out)), arg(text, in[1]),
	};
	ret = invoke(dev, SIM_REMOTECTL, SIM_SC(0, 2, 2, 0, 0), args);
	if (ret)
		return ret;
	return out[1] ?: out[0];
}

/* 0, an error of the kernel's, or one of the DSP's. */
static int create_session_from(int dev, unsigned int attrs, const char *magic)
{
	struct fastrpc_init_create req = { .attrs = attrs };
	struct buffer shell;
	int ret, error;

	if (buffer_create(&shell, PAGE))
		return -1;
	memcpy(shell.mem, magic, 4);
	req.filelen = PAGE;
	req.filefd = shell.fd;
	req.file = (uintptr_t)shell.mem;
	ret = ioctl(dev, FASTRPC_IOCTL_INIT_CREATE, &req);
	error = errno;
	buffer_destroy(&shell);
	errno = error;
	return ret;
}

static int create_session(int dev, unsigned int attrs)
{
	return create_session_from(dev, attrs, "\177ELF");
}

static long ms_since(const struct timespec *before)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (now.tv_sec - before->tv_sec) * 1000 + (now.tv_nsec - before->tv_nsec) / 1000000;
}

/*
 * How large a udmabuf can be: the driver takes its first DMA address for all of it,
 * and without an IOMMU its pages lie apart.
 */
static size_t up_to(size_t size)
{
	return sim_groups() ? size : PAGE;
}

static int echo(int dev, int handle, void *in, void *out, size_t len)
{
	struct fastrpc_invoke_args args[] = { arg(in, len), arg(out, len) };

	return invoke(dev, handle, SIM_SC(2, 1, 1, 0, 0), args);
}

FIXTURE(fastrpc) {
	int dev;
	int session;
	long outside;
};

FIXTURE_SETUP(fastrpc)
{
	if (access(SIM_DEBUGFS "/" DSP, F_OK))
		SKIP(return, "no software DSP");
	if (access("/dev/udmabuf", F_OK))
		SKIP(return, "no udmabuf");
	self->dev = open(NODE, O_RDWR);
	if (self->dev < 0 && errno == ENOENT)
		SKIP(return, "fastrpc does not drive it");
	ASSERT_LE(0, self->dev);
	if (sim_has_iommu())
		ASSERT_LT(1, sim_groups());
	self->outside = sim_count(DSP, "outside");
	ASSERT_EQ(0, create_session(self->dev, 0));
	ASSERT_EQ(1, sim_count(DSP, "processes"));
}

FIXTURE_TEARDOWN(fastrpc)
{
	if (self->dev > 0)
		close(self->dev);
	EXPECT_EQ(0, sim_wait_count(DSP, "processes", 0));
	EXPECT_EQ(0, sim_wait_count(DSP, "calls", 0));
	EXPECT_EQ(self->outside, sim_count(DSP, "outside"));
}

TEST_F(fastrpc, modules)
{
	uint32_t close_in[2] = { 0, 0 };
	int32_t error = -1;
	struct fastrpc_invoke_args args[] = {
		arg(close_in, sizeof(close_in)), arg(&error, sizeof(error)), arg(NULL, 0),
	};
	int handle;

	EXPECT_EQ(SIM_EUNABLETOLOAD, open_module(self->dev, "nothing"));
	handle = open_module(self->dev, "echo");
	ASSERT_LT(20, handle);
	EXPECT_EQ(0, invoke(self->dev, handle, SIM_SC(2, 0, 0, 0, 0), NULL));
	EXPECT_EQ(SIM_EUNSUPPORTED, invoke(self->dev, handle, SIM_SC(7, 0, 0, 0, 0), NULL));

	close_in[0] = handle;
	EXPECT_EQ(0, invoke(self->dev, SIM_REMOTECTL, SIM_SC(1, 1, 2, 0, 0), args));
	EXPECT_EQ(0, error);
	EXPECT_EQ(SIM_EBADPARM, invoke(self->dev, handle, SIM_SC(2, 0, 0, 0, 0), NULL));
	EXPECT_EQ(0, invoke(self->dev, SIM_REMOTECTL, SIM_SC(1, 1, 2, 0, 0), args));
	EXPECT_EQ(SIM_EBADPARM, error);
}

TEST_F(fastrpc, module_by_64_bit_handle)
{
	char uri[128];
	uint32_t len;
	uint64_t handle64 = 0;
	int handle = open_module(self->dev, "echo");

	sim_uri(uri, sizeof(uri), "error");
	len = strlen(uri) + 1;
	struct fastrpc_invoke_args open_args[] = {
		arg(&len, sizeof(len)), arg(uri, len), arg(&handle64, sizeof(handle64)),
	};
	struct fastrpc_invoke_args close_args[] = { arg(&handle64, sizeof(handle64)) };

	ASSERT_LT(20, handle);
	ASSERT_EQ(0, invoke(self->dev, handle, SIM_SC(0, 2, 1, 0, 0), open_args));
	EXPECT_NE(handle, handle64);
	EXPECT_EQ(SIM_EBADPARM, invoke(self->dev, handle64, SIM_SC(2, 0, 0, 0, 0), NULL));
	EXPECT_EQ(0, invoke(self->dev, handle64, SIM_SC(1, 1, 0, 0, 0), close_args));
	EXPECT_EQ(SIM_EBADPARM, invoke(self->dev, handle64, SIM_SC(1, 1, 0, 0, 0), close_args));
}

TEST_F(fastrpc, echo)
{
	static const size_t sizes[] = { 1, 127, 128, 129, PAGE, 5 * PAGE + 1 };
	int handle = open_module(self->dev, "echo");
	static char in[6 * PAGE], out[6 * PAGE];
	size_t i, j;

	ASSERT_LT(20, handle);
	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		for (j = 0; j < sizeof(in); j++)
			in[j] = i + j + j / PAGE;
		memset(out, 0, sizeof(out));
		ASSERT_EQ(0, echo(self->dev, handle, in, out, sizes[i]));
		EXPECT_EQ(0, memcmp(in, out, sizes[i]));
		EXPECT_EQ(0, out[sizes[i]]);
	}
}

TEST_F(fastrpc, many_arguments)
{
	struct fastrpc_invoke_args args[200];
	int handle = open_module(self->dev, "echo");
	unsigned int in[100], out[100], i;

	ASSERT_LT(20, handle);
	for (i = 0; i < 100; i++) {
		in[i] = i * 7 + 1;
		args[i] = arg(&in[i], sizeof(in[i]));
		args[100 + i] = arg(&out[i], sizeof(out[i]));
	}
	ASSERT_EQ(0, invoke(self->dev, handle, SIM_SC(2, 100, 100, 0, 0), args));
	EXPECT_EQ(0, memcmp(in, out, sizeof(in)));
}

TEST_F(fastrpc, calculator)
{
	int handle = open_module(self->dev, "calculator");
	uint32_t count = up_to(MIB) / 4, i;
	struct buffer buf;
	int64_t sum = 0, expected = 0;
	int32_t max = 0, *vector;

	ASSERT_LT(20, handle);
	ASSERT_EQ(0, buffer_create(&buf, count * 4));
	vector = buf.mem;
	for (i = 0; i < count; i++) {
		vector[i] = i * 2654435761U;
		expected += vector[i];
	}
	vector[count / 2] = 0x7fffffff;
	expected += 0x7fffffffLL - (int32_t)(count / 2 * 2654435761U);

	struct fastrpc_invoke_args sum_args[] = {
		arg(&count, sizeof(count)), arg_of(&buf), arg(&sum, sizeof(sum)),
	};
	struct fastrpc_invoke_args max_args[] = {
		arg(&count, sizeof(count)), arg_of(&buf), arg(&max, sizeof(max)),
	};
	ASSERT_EQ(0, invoke(self->dev, handle, SIM_SC(2, 2, 1, 0, 0), sum_args));
	EXPECT_EQ(expected, sum);
	ASSERT_EQ(0, invoke(self->dev, handle, SIM_SC(3, 2, 1, 0, 0), max_args));
	EXPECT_EQ(0x7fffffff, max);
	buffer_destroy(&buf);
}

TEST_F(fastrpc, copy_handles)
{
	int handle = open_module(self->dev, "copy");
	struct fastrpc_mem_unmap unmap = {};
	struct buffer from, to;

	ASSERT_LT(20, handle);
	ASSERT_EQ(0, buffer_create(&from, up_to(3 * PAGE)));
	ASSERT_EQ(0, buffer_create(&to, up_to(3 * PAGE)));
	memset(from.mem, 0x5a, from.size);
	struct fastrpc_invoke_args args[] = {
		{ .fd = from.fd, .length = from.size }, { .fd = to.fd, .length = to.size },
	};
	/*
	 * What the DSP has listed is no longer mapped; the driver asks it about what is.
	 * The other buffer's descriptor may be what the shell had, and that is mapped.
	 */
	ASSERT_EQ(0, invoke(self->dev, handle, SIM_SC(3, 0, 0, 1, 1), args));
	EXPECT_EQ(0, memcmp(from.mem, to.mem, from.size));
	unmap.fd = to.fd;
	EXPECT_EQ(-1, ioctl(self->dev, FASTRPC_IOCTL_MEM_UNMAP, &unmap));
	EXPECT_EQ(EINVAL, errno);

	memset(to.mem, 0, to.size);
	ASSERT_EQ(0, invoke(self->dev, handle, SIM_SC(2, 0, 0, 1, 1), args));
	EXPECT_EQ(0, memcmp(from.mem, to.mem, from.size));
	EXPECT_EQ(SIM_EBADPARM, ioctl(self->dev, FASTRPC_IOCTL_MEM_UNMAP, &unmap));
	buffer_destroy(&from);
	buffer_destroy(&to);
}

TEST_F(fastrpc, errors_of_the_dsp)
{
	int handle = open_module(self->dev, "error");
	uint32_t code;
	struct fastrpc_invoke_args args[] = { arg(&code, sizeof(code)) };

	ASSERT_LT(20, handle);
	for (code = 0x80000401; code < 0x80000450; code++)
		EXPECT_EQ((int)code, invoke(self->dev, handle, SIM_SC(2, 1, 0, 0, 0), args));
}

TEST_F(fastrpc, sleep)
{
	int handle = open_module(self->dev, "sleep");
	uint32_t ms = 300;
	struct fastrpc_invoke_args args[] = { arg(&ms, sizeof(ms)) };
	struct timespec before;

	ASSERT_LT(20, handle);
	clock_gettime(CLOCK_MONOTONIC, &before);
	EXPECT_EQ(0, invoke(self->dev, handle, SIM_SC(2, 1, 0, 0, 0), args));
	EXPECT_LE(300, ms_since(&before));
}

TEST_F(fastrpc, add_pages)
{
	int handle = open_module(self->dev, "memory");
	char data[64] = "written by the DSP", back[64] = "";
	struct fastrpc_req_mmap map = { .fd = -1, .flags = ADD_PAGES, .size = 4 * PAGE };
	struct fastrpc_req_munmap unmap = { .size = 4 * PAGE };
	uint64_t va;
	struct fastrpc_invoke_args args[] = { arg(&va, sizeof(va)), arg(data, sizeof(data)) };
	struct fastrpc_invoke_args read_args[] = { arg(&va, sizeof(va)), arg(back, sizeof(back)) };

	ASSERT_LT(20, handle);
	ASSERT_EQ(0, ioctl(self->dev, FASTRPC_IOCTL_MMAP, &map));
	va = map.vaddrout + 4 * PAGE - sizeof(data);
	EXPECT_EQ(0, invoke(self->dev, handle, SIM_SC(6, 2, 0, 0, 0), args));
	EXPECT_EQ(0, invoke(self->dev, handle, SIM_SC(5, 1, 1, 0, 0), read_args));
	EXPECT_STREQ(data, back);
	va++;
	EXPECT_EQ(SIM_EFAILED, invoke(self->dev, handle, SIM_SC(6, 2, 0, 0, 0), args));

	unmap.vaddrout = map.vaddrout;
	ASSERT_EQ(0, ioctl(self->dev, FASTRPC_IOCTL_MUNMAP, &unmap));
	va = map.vaddrout;
	EXPECT_EQ(SIM_EFAILED, invoke(self->dev, handle, SIM_SC(5, 1, 1, 0, 0), read_args));
}

TEST_F(fastrpc, too_many_maps)
{
	struct fastrpc_req_mmap map = { .fd = -1, .flags = ADD_PAGES, .size = PAGE };
	struct fastrpc_req_munmap unmap = { .size = PAGE };
	int i;

	for (i = 0; i < SIM_MAPS; i++)
		ASSERT_EQ(0, ioctl(self->dev, FASTRPC_IOCTL_MMAP, &map));
	unmap.vaddrout = map.vaddrout;
	EXPECT_EQ(SIM_ENOMEMORY, ioctl(self->dev, FASTRPC_IOCTL_MMAP, &map));
	ASSERT_EQ(0, ioctl(self->dev, FASTRPC_IOCTL_MUNMAP, &unmap));
	EXPECT_EQ(0, ioctl(self->dev, FASTRPC_IOCTL_MMAP, &map));
}

TEST_F(fastrpc, map_a_buffer)
{
	int handle = open_module(self->dev, "memory");
	struct fastrpc_mem_map map = { .flags = FASTRPC_MAP_FD };
	struct fastrpc_mem_unmap unmap = {};
	size_t offset = up_to(2 * PAGE) - PAGE / 2;
	struct buffer buf;
	uint64_t va;
	char back[64];
	struct fastrpc_invoke_args args[] = { arg(&va, sizeof(va)), arg(back, sizeof(back)) };

	ASSERT_LT(20, handle);
	ASSERT_EQ(0, buffer_create(&buf, up_to(2 * PAGE)));
	strcpy((char *)buf.mem + offset, "for the DSP");
	map.fd = buf.fd;
	map.length = buf.size;
	ASSERT_EQ(0, ioctl(self->dev, FASTRPC_IOCTL_MEM_MAP, &map));
	va = map.vaddrout + offset;
	EXPECT_EQ(0, invoke(self->dev, handle, SIM_SC(5, 1, 1, 0, 0), args));
	EXPECT_STREQ("for the DSP", back);

	unmap.fd = buf.fd;
	unmap.vaddr = map.vaddrout;
	unmap.length = buf.size;
	ASSERT_EQ(0, ioctl(self->dev, FASTRPC_IOCTL_MEM_UNMAP, &unmap));
	EXPECT_EQ(SIM_EFAILED, invoke(self->dev, handle, SIM_SC(5, 1, 1, 0, 0), args));
	buffer_destroy(&buf);
}

static int capability(int dev, uint32_t attribute, uint32_t *value)
{
	struct fastrpc_ioctl_capability req = { .attribute_id = attribute };
	int ret = ioctl(dev, FASTRPC_IOCTL_GET_DSP_INFO, &req);

	*value = req.capability;
	return ret;
}

TEST_F(fastrpc, capabilities)
{
	uint32_t value;

	EXPECT_EQ(0, capability(self->dev, SIM_ARCH_VERSION, &value));
	EXPECT_EQ(SIM_ARCH, value);
	EXPECT_EQ(0, capability(self->dev, 255, &value));
	EXPECT_EQ(0, value);
}

TEST_F(fastrpc, sessions_in_use)
{
	int dev[SIM_SESSIONS - 1], i, handle;
	char in = 'x', out;

	for (i = 0; i < SIM_SESSIONS - 1; i++) {
		dev[i] = open(NODE, O_RDWR);
		ASSERT_LE(0, dev[i]);
		ASSERT_EQ(0, create_session(dev[i], 0));
	}
	EXPECT_EQ(SIM_SESSIONS, sim_count(DSP, "processes"));
	EXPECT_EQ(-1, open(NODE, O_RDWR));
	EXPECT_EQ(EBUSY, errno);
	for (i = 0; i < SIM_SESSIONS - 1; i++) {
		handle = open_module(dev[i], "echo");
		EXPECT_LT(20, handle);
		EXPECT_EQ(0, echo(dev[i], handle, &in, &out, 1));
		EXPECT_EQ(in, out);
		close(dev[i]);
	}
}

TEST_F(fastrpc, unsigned_sessions)
{
	int dev = open(NODE_UNSIGNED, O_RDWR);

	ASSERT_LE(0, dev);
	EXPECT_EQ(-1, create_session(dev, 0));
	EXPECT_EQ(ECONNREFUSED, errno);
	EXPECT_EQ(0, create_session(dev, FASTRPC_MODE_UNSIGNED_MODULE));
	EXPECT_LT(20, open_module(dev, "echo"));
	close(dev);
}

TEST_F(fastrpc, attached_sessions)
{
	int dev = open(NODE, O_RDWR);

	ASSERT_LE(0, dev);
	EXPECT_EQ(SIM_EBADSTATE, open_module(dev, "echo"));
	EXPECT_EQ(SIM_EUNABLETOLOAD, create_session_from(dev, 0, "#!/b"));
	EXPECT_EQ(SIM_EBADSTATE, open_module(dev, "echo"));
	ASSERT_EQ(0, ioctl(dev, FASTRPC_IOCTL_INIT_ATTACH));
	EXPECT_LT(20, open_module(dev, "echo"));
	close(dev);
	dev = open(NODE, O_RDWR);
	ASSERT_LE(0, dev);
	ASSERT_EQ(0, ioctl(dev, FASTRPC_IOCTL_INIT_ATTACH_SNS));
	EXPECT_LT(20, open_module(dev, "echo"));
	close(dev);
}

static int open_adsp(void)
{
	int dev = open("/dev/fastrpc-adsp-secure", O_RDWR);

	return dev < 0 ? open("/dev/fastrpc-adsp", O_RDWR) : dev;
}

/* The audio DSP is given its heap once. */
TEST(static_domain)
{
	struct fastrpc_init_create_static create = {
		.namelen = 8, .name = (uintptr_t)"audiopd",
	};
	int dev, other;

	dev = open_adsp();
	if (dev < 0)
		SKIP(return, "no audio DSP that fastrpc drives");
	if (!sim_has_heap()) {
		EXPECT_EQ(-1, ioctl(dev, FASTRPC_IOCTL_INIT_CREATE_STATIC, &create));
		EXPECT_EQ(ENOMEM, errno);
		close(dev);
		SKIP(return, "the audio DSP has no heap");
	}
	ASSERT_EQ(0, ioctl(dev, FASTRPC_IOCTL_INIT_CREATE_STATIC, &create));
	EXPECT_TRUE(sim_heap_is_right("adsp"));
	other = open_adsp();
	ASSERT_LE(0, other);
	EXPECT_EQ(0, ioctl(other, FASTRPC_IOCTL_INIT_CREATE_STATIC, &create));
	close(other);
	close(dev);
	EXPECT_EQ(0, sim_wait_count("adsp", "processes", 0));
}

/* What a session has mapped is nothing to another one, and neither is its stream. */
TEST_F(fastrpc, isolation)
{
	int handle = open_module(self->dev, "memory"), other, other_handle;
	struct fastrpc_mem_map map = { .flags = FASTRPC_MAP_FD };
	char data[64] = "", probe[64] = "";
	uint64_t addr[2], own;
	struct buffer buf;

	other = open(NODE, O_RDWR);
	ASSERT_LE(0, other);
	ASSERT_EQ(0, create_session(other, 0));
	other_handle = open_module(other, "memory");
	ASSERT_LT(20, handle);
	ASSERT_LT(20, other_handle);

	/* 8 MiB lie where the other session has none of its own. */
	ASSERT_EQ(0, buffer_create(&buf, up_to(8 * MIB)));
	strcpy(buf.mem, "private");
	map.fd = buf.fd;
	map.length = buf.size;
	ASSERT_EQ(0, ioctl(self->dev, FASTRPC_IOCTL_MEM_MAP, &map));
	struct fastrpc_invoke_args locate[] = {
		arg(&addr[1], 8), arg_of(&buf), arg(&addr[0], 8),
	};
	struct fastrpc_invoke_args locate_own[] = { arg(&addr[1], 8), arg(probe, 1), arg(&own, 8) };
	struct fastrpc_invoke_args peek[] = { arg(&addr[0], 8), arg(data, sizeof(data)) };

	addr[1] = 0;
	ASSERT_EQ(0, invoke(self->dev, handle, SIM_SC(2, 2, 1, 0, 0), locate));
	ASSERT_EQ(0, invoke(self->dev, handle, SIM_SC(3, 1, 1, 0, 0), peek));
	EXPECT_STREQ("private", data);

	memset(data, 0, sizeof(data));
	EXPECT_EQ(SIM_EFAILED, invoke(other, other_handle, SIM_SC(3, 1, 1, 0, 0), peek));
	EXPECT_STREQ("", data);
	EXPECT_EQ(++self->outside, sim_count(DSP, "outside"));

	/* The same address, with the stream of the other session's bank. */
	ASSERT_EQ(0, invoke(other, other_handle, SIM_SC(2, 2, 1, 0, 0), locate_own));
	EXPECT_NE(own >> 56, addr[0] >> 56);
	if (sim_groups()) {
		addr[0] = (own & 0xffULL << 56) | (addr[0] & ~(0xffULL << 56));
		EXPECT_EQ(SIM_EFAILED, invoke(other, other_handle, SIM_SC(3, 1, 1, 0, 0), peek));
		EXPECT_STREQ("", data);
		EXPECT_EQ(++self->outside, sim_count(DSP, "outside"));
	}

	/* No machine has memory there, and no bank a mapping. */
	addr[0] = (own & 0xffULL << 56) | 1ULL << 47;
	EXPECT_EQ(SIM_EFAILED, invoke(other, other_handle, SIM_SC(3, 1, 1, 0, 0), peek));
	EXPECT_EQ(++self->outside, sim_count(DSP, "outside"));
	buffer_destroy(&buf);
	close(other);
}

FIXTURE(misbehaviour) {
	int dev;
	int handle;
};

FIXTURE_VARIANT(misbehaviour) {
	const char *what;
};

FIXTURE_VARIANT_ADD(misbehaviour, late) { "late" };
FIXTURE_VARIANT_ADD(misbehaviour, stale) { "stale" };
FIXTURE_VARIANT_ADD(misbehaviour, too_short) { "short" };
FIXTURE_VARIANT_ADD(misbehaviour, wrong_context) { "wrong-context" };
/*
 * "exit" is below. The others are not for this driver:
 * "duplicate": it looks the second reply's call up without a reference, and may use
 * it after the first one has let its caller free it.
 * "metadata": it copies outputs from where the payload says, by the length that it says.
 * "silent": a call that a signal ends is never freed, and nothing else ends this one.
 * "crash": with a file open, it frees memory by a bank that is gone.
 */

FIXTURE_SETUP(misbehaviour)
{
	if (access(SIM_DEBUGFS "/" DSP, F_OK))
		SKIP(return, "no software DSP");
	if (access("/dev/udmabuf", F_OK))
		SKIP(return, "no udmabuf");
	self->dev = open(NODE, O_RDWR);
	if (self->dev < 0 && errno == ENOENT)
		SKIP(return, "fastrpc does not drive it");
	ASSERT_LE(0, self->dev);
	ASSERT_EQ(0, create_session(self->dev, 0));
	self->handle = open_module(self->dev, "echo");
	ASSERT_LT(20, self->handle);
}

FIXTURE_TEARDOWN(misbehaviour)
{
	if (self->dev > 0)
		close(self->dev);
	EXPECT_EQ(0, sim_wait_count(DSP, "processes", 0));
}

/* A call ends with the reply that is its own, and so does the one after it. */
TEST_F(misbehaviour, reply)
{
	char in[PAGE], out[PAGE], what[32];
	struct timespec before;

	memset(in, 0x11, sizeof(in));
	memset(out, 0, sizeof(out));
	snprintf(what, sizeof(what), "%s %#x\n", variant->what, self->handle);
	ASSERT_EQ(0, sim_write(DSP, "misbehave", what));
	clock_gettime(CLOCK_MONOTONIC, &before);
	EXPECT_EQ(0, echo(self->dev, self->handle, in, out, sizeof(in)));
	EXPECT_LE(sim_count(DSP, "delay_ms"), ms_since(&before));
	EXPECT_EQ(0, memcmp(in, out, sizeof(in)));
	memset(in, 0x22, sizeof(in));
	EXPECT_EQ(0, echo(self->dev, self->handle, in, out, sizeof(in)));
	EXPECT_EQ(0, memcmp(in, out, sizeof(in)));
}

static void *listen(void *dev)
{
	return (void *)(intptr_t)invoke((intptr_t)dev, SIM_LISTENER, SIM_SC(4, 0, 0, 0, 0), NULL);
}

/* The listener waits for as long as its protection domain lives. */
TEST_F(fastrpc, listener_and_exit)
{
	int handle = open_module(self->dev, "echo");
	char in = 'x', out = 0;
	pthread_t thread;
	void *ret;

	ASSERT_LT(20, handle);
	ASSERT_EQ(0, pthread_create(&thread, NULL, listen, (void *)(intptr_t)self->dev));
	ASSERT_EQ(1, sim_wait_count(DSP, "calls", 1));
	EXPECT_EQ(0, echo(self->dev, handle, &in, &out, 1));
	EXPECT_EQ(in, out);
	EXPECT_EQ(1, sim_count(DSP, "calls"));

	ASSERT_EQ(0, sim_write(DSP, "misbehave", "exit"));
	EXPECT_EQ(SIM_EBADSTATE, echo(self->dev, handle, &in, &out, 1));
	ASSERT_EQ(0, pthread_join(thread, &ret));
	EXPECT_EQ(SIM_EBADSTATE, (intptr_t)ret);
	EXPECT_EQ(SIM_EBADSTATE, echo(self->dev, handle, &in, &out, 1));
	EXPECT_EQ(SIM_EBADSTATE, (intptr_t)listen((void *)(intptr_t)self->dev));
	EXPECT_EQ(0, sim_count(DSP, "processes"));
}

/* What the kernel asks for itself is for no process that could exit. */
TEST_F(fastrpc, exit_in_kernel_calls)
{
	int dev = open(NODE, O_RDWR);

	ASSERT_LE(0, dev);
	ASSERT_EQ(0, sim_write(DSP, "misbehave", "exit 1"));
	EXPECT_EQ(0, create_session(dev, 0));
	EXPECT_EQ(2, sim_count(DSP, "processes"));
	close(dev);
}

/* A session ends for the domain that it is in; a failed attempt has the driver forget that. */
TEST_F(fastrpc, end_in_another_domain)
{
	int dev = open(NODE, O_RDWR);

	ASSERT_LE(0, dev);
	ASSERT_EQ(0, ioctl(dev, FASTRPC_IOCTL_INIT_ATTACH));
	EXPECT_EQ(SIM_EBADSTATE, create_session(dev, 0));
	close(dev);
	EXPECT_EQ(2, sim_count(DSP, "processes"));

	/* Nothing but a restart ends it now, which must not find files open. */
	close(self->dev);
	self->dev = -1;
	EXPECT_EQ(1, sim_wait_count(DSP, "processes", 1));
	EXPECT_EQ(0, sim_write(DSP, "online", "0"));
	EXPECT_EQ(0, sim_write(DSP, "online", "1"));
}

/* The word in memory is the answer; the driver frees what the call has at the reply. */
TEST_F(fastrpc, polling)
{
	struct fastrpc_ioctl_set_option option = {
		.request_id = FASTRPC_POLL_MODE, .value = FASTRPC_POLL_MODE_ENABLE,
	};
	int handle = open_module(self->dev, "echo"), i;
	char in = 'x', out = 0;
	long calls = 0;

	ASSERT_LT(20, handle);
	ASSERT_EQ(0, ioctl(self->dev, FASTRPC_IOCTL_SET_OPTION, &option));
	EXPECT_EQ(0, sim_write(DSP, "poll", "Y"));
	EXPECT_EQ(0, sim_write(DSP, "poll_reply", "Y"));
	EXPECT_EQ(0, sim_write(DSP, "delay_ms", "0"));
	/* More often than there are ids for calls. */
	for (i = 0; i < 300; i++)
		if (echo(self->dev, handle, &in, &out, 1))
			break;
	EXPECT_EQ(300, i);

	/* If the DSP takes longer than the driver polls for, that waits for the reply. */
	EXPECT_EQ(0, sim_write(DSP, "delay_ms", "1000"));
	for (i = 0; i < 20 && !calls; i++) {
		out = 0;
		EXPECT_EQ(0, echo(self->dev, handle, &in, &out, 1));
		EXPECT_EQ(in, out);
		calls = sim_count(DSP, "calls");
	}
	EXPECT_EQ(1, calls);
	EXPECT_EQ(0, sim_wait_count(DSP, "calls", 0));
	EXPECT_EQ(0, sim_write(DSP, "delay_ms", "200"));
	EXPECT_EQ(0, sim_write(DSP, "poll_reply", "N"));
	EXPECT_EQ(0, sim_write(DSP, "poll", "N"));
}

TEST(restart)
{
	uint32_t value;
	int dev, i;

	if (access(SIM_DEBUGFS "/" DSP, F_OK))
		SKIP(return, "no software DSP");
	if (access(NODE, F_OK))
		SKIP(return, "fastrpc does not drive it");
	for (i = 0; i < 3; i++) {
		ASSERT_EQ(0, sim_write(DSP, "online", "0"));
		EXPECT_EQ(-1, access(NODE, F_OK));
		ASSERT_EQ(0, sim_write(DSP, "online", "1"));
		dev = open(NODE, O_RDWR);
		ASSERT_LE(0, dev);
		EXPECT_EQ(0, create_session(dev, 0));
		EXPECT_LT(20, open_module(dev, "echo"));
		close(dev);
	}

	/* What a DSP can do is not asked twice, unless it has restarted. */
	ASSERT_EQ(0, sim_write(DSP, "online", "0"));
	ASSERT_EQ(0, sim_write(DSP, "no_capabilities", "Y"));
	ASSERT_EQ(0, sim_write(DSP, "online", "1"));
	dev = open(NODE, O_RDWR);
	ASSERT_LE(0, dev);
	EXPECT_EQ(-1, capability(dev, SIM_ARCH_VERSION, &value));
	EXPECT_EQ(EOPNOTSUPP, errno);
	EXPECT_EQ(0, sim_write(DSP, "no_capabilities", "N"));
	EXPECT_EQ(0, capability(dev, SIM_ARCH_VERSION, &value));
	close(dev);
}

static void *unload(void *unused)
{
	return (void *)(intptr_t)(sim_unload("fastrpc_sim") ? errno : 0);
}

TEST(reload)
{
	char in = 'x', out = 0;
	int dev, handle, i;
	pthread_t thread;
	void *error;

	if (sim_load("fastrpc") || sim_load("fastrpc_sim"))
		SKIP(return, "the software DSP and fastrpc are not modules");
	for (i = 0; i < 5; i++) {
		ASSERT_EQ(0, sim_load("fastrpc_sim"));
		dev = open(NODE, O_RDWR);
		ASSERT_LE(0, dev);
		/* Other sessions have memory, which the driver frees by a bank that is gone. */
		ASSERT_EQ(0, ioctl(dev, FASTRPC_IOCTL_INIT_ATTACH));
		handle = open_module(dev, "echo");
		ASSERT_LT(20, handle);

		/* An open file may keep the module, but neither the channel nor the node. */
		ASSERT_EQ(0, pthread_create(&thread, NULL, unload, NULL));
		while (!access(NODE, F_OK))
			usleep(10000);
		EXPECT_EQ(-1, echo(dev, handle, &in, &out, 1));
		EXPECT_EQ(EPIPE, errno);
		close(dev);
		ASSERT_EQ(0, pthread_join(thread, &error));
		ASSERT_EQ(0, (intptr_t)error);
		EXPECT_EQ(-1, access("/proc/device-tree/fastrpc-sim", F_OK));
		EXPECT_EQ(-1, access(SIM_DEBUGFS, F_OK));
		EXPECT_EQ(0, sim_groups());
	}
	EXPECT_EQ(0, sim_unload("fastrpc"));
	EXPECT_EQ(0, sim_load("fastrpc"));
	EXPECT_EQ(0, sim_unload("fastrpc"));
}

TEST(demands)
{
	static const char * const bad[] = {
		"badly", "", "late x", "late -1", "late 1 2", "late 4294967296", "late1", "late 1x",
		"behave                         7",
	};
	size_t i;
	int fd;

	if (access(SIM_DEBUGFS "/" DSP, F_OK))
		SKIP(return, "no software DSP");
	/* One file takes one after another. */
	fd = open(SIM_DEBUGFS "/" DSP "/misbehave", O_WRONLY);
	ASSERT_LE(0, fd);
	EXPECT_EQ(6, write(fd, "late 7", 6));
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		errno = 0;
		EXPECT_EQ(-1, write(fd, bad[i], strlen(bad[i])));
		EXPECT_EQ(EINVAL, errno);
	}
	EXPECT_EQ(9, write(fd, "late 0x7\n", 9));
	EXPECT_EQ(7, write(fd, "behave\n", 7));
	close(fd);
}

TEST_HARNESS_MAIN
