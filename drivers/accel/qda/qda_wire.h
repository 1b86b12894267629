/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What goes over the wire, as drivers/misc/fastrpc.c of Linux 7.3 has it and
 * Documentation/accel/qda/protocol.rst describes it. All of it is little endian.
 */

#ifndef QDA_WIRE_H
#define QDA_WIRE_H

#include <linux/align.h>
#include <linux/bitfield.h>
#include <linux/mm.h>
#include <linux/types.h>

/**
 * struct qda_request - the kernel asks the DSP for a call
 * @client_id: the session; 0 for what the kernel asks for itself
 * @tid: thread that calls, for the DSP's debugger
 * @ctx: context, see qda_context()
 * @module: number of the module
 * @scalars: method and numbers of arguments
 * @addr: bus address of the payload, 0 for none
 * @size: size of the payload, in whole pages
 */
struct qda_request {
	__le32 client_id;
	__le32 tid;
	__le64 ctx;
	__le32 module;
	__le32 scalars;
	__le64 addr;
	__le64 size;
};

static_assert(sizeof(struct qda_request) == 40);

/**
 * struct qda_reply - the DSP says that a call has ended
 * @ctx: context of the request
 * @result: what the call returned
 * @pad: anything
 */
struct qda_reply {
	__le64 ctx;
	__le32 result;
	__le32 pad;
};

static_assert(sizeof(struct qda_reply) == 16);

/* In place of a context: a protection domain has exited. No context is like it. */
#define QDA_CTX_PD_EXIT		0xabcdabcd

#define QDA_CTX_SEQUENCE	GENMASK_ULL(63, 16)
#define QDA_CTX_ID		GENMASK_ULL(15, 8)
#define QDA_CTX_PD		GENMASK_ULL(3, 0)
#define QDA_MAX_ID		255

enum qda_pd {
	QDA_PD_ROOT = 0,
	QDA_PD_USER = 1,
	QDA_PD_SENSORS = 2,
};

static inline u64 qda_context(u64 sequence, u32 id, enum qda_pd pd)
{
	return FIELD_PREP(QDA_CTX_SEQUENCE, sequence & (QDA_CTX_SEQUENCE >> 16)) |
	       FIELD_PREP(QDA_CTX_ID, id) | FIELD_PREP(QDA_CTX_PD, pd);
}

/* Modules that have fixed numbers; those above QDA_MODULE_FIXED are given out. */
#define QDA_MODULE_PROCESS	1
#define QDA_MODULE_UTILITIES	2
#define QDA_MODULE_FIXED	20

/* Methods of QDA_MODULE_PROCESS. */
enum {
	QDA_PROCESS_ATTACH	= 0,
	QDA_PROCESS_RELEASE	= 1,
	QDA_PROCESS_MMAP	= 4,
	QDA_PROCESS_MUNMAP	= 5,
	QDA_PROCESS_CREATE	= 6,
	QDA_PROCESS_CREATE_ATTR	= 7,
	QDA_PROCESS_CREATE_STATIC = 8,
	QDA_PROCESS_MEM_MAP	= 10,
	QDA_PROCESS_MEM_UNMAP	= 11,
};

#define QDA_UNSUPPORTED		((s32)0x80000414)

/* Attributes, of which user space has none. */
#define QDA_SCALARS_RESERVED	GENMASK(31, 29)

static inline unsigned int qda_scalars_method(u32 scalars) { return scalars >> 24 & 0x1f; }
static inline unsigned int qda_scalars_in(u32 scalars) { return scalars >> 16 & 0xff; }
static inline unsigned int qda_scalars_out(u32 scalars) { return scalars >> 8 & 0xff; }

static inline unsigned int qda_scalars_bufs(u32 scalars)
{
	return qda_scalars_in(scalars) + qda_scalars_out(scalars);
}

static inline unsigned int qda_scalars_args(u32 scalars)
{
	return qda_scalars_bufs(scalars) + (scalars >> 4 & 0xf) + (scalars & 0xf);
}

static inline bool qda_scalars_is_output(u32 scalars, unsigned int i)
{
	unsigned int bufs = qda_scalars_bufs(scalars);

	return i < bufs ? i >= qda_scalars_in(scalars) : i - bufs >= (scalars >> 4 & 0xf);
}

/*
 * The payload of a call with n arguments: n struct qda_wire_arg, n struct
 * qda_wire_list, n struct qda_wire_page, and a struct qda_wire_tail.
 */
union qda_wire_arg {
	struct {
		__le64 addr;
		__le64 len;
	} buf;
	struct {
		__le32 handle;
		__le32 offset;
		__le32 len;
		__le32 pad;
	} dma;
};

struct qda_wire_list {
	__le32 num;
	__le32 pgidx;
};

struct qda_wire_page {
	__le64 addr;
	__le64 size;
};

#define QDA_WIRE_ARG	(sizeof(union qda_wire_arg) + sizeof(struct qda_wire_list) + \
			 sizeof(struct qda_wire_page))
#define QDA_POLL_DONE	0xdecaf

/* The DSP may write to this; only the poll word is ever read. */
struct qda_wire_tail {
	__le64 fdlist[16];
	__le32 crc[64];
	__le32 poll;
} __packed;

static inline size_t qda_payload_size(unsigned int nargs)
{
	return nargs * QDA_WIRE_ARG + sizeof(struct qda_wire_tail);
}

static inline size_t qda_payload_poll_word(unsigned int nargs)
{
	return nargs * QDA_WIRE_ARG + offsetof(struct qda_wire_tail, poll);
}

/**
 * struct qda_arg - an argument, once it is known where the DSP finds it
 * @addr: bus address of its first byte
 * @len: its length in bytes; with 0, nothing else means anything
 * @buffer: bus address of the whole buffer, of which the DSP is told by handle
 * @buffer_size: its size in bytes
 * @handle: what the DSP calls the buffer
 */
struct qda_arg {
	u64 addr;
	u64 len;
	u64 buffer;
	u64 buffer_size;
	u32 handle;
};

/**
 * qda_payload_write() - write what tells the DSP where the arguments are
 * @payload: memory for qda_payload_size() bytes, filled with zeros
 * @scalars: how many there are of each kind
 * @args: the arguments
 */
static inline void qda_payload_write(void *payload, u32 scalars, const struct qda_arg *args)
{
	unsigned int i, n = qda_scalars_args(scalars), bufs = qda_scalars_bufs(scalars);
	union qda_wire_arg *arg = payload;
	struct qda_wire_list *list = (void *)(arg + n);
	struct qda_wire_page *page = (void *)(list + n);

	for (i = 0; i < n; i++) {
		list[i].pgidx = cpu_to_le32(i);
		if (!args[i].len)
			continue;
		list[i].num = cpu_to_le32(1);
		if (i < bufs) {
			u64 offset = offset_in_page(args[i].addr);

			/* Of this address, the DSP takes the offset in the page. */
			arg[i].buf.addr = cpu_to_le64(args[i].addr);
			arg[i].buf.len = cpu_to_le64(args[i].len);
			page[i].addr = cpu_to_le64(args[i].addr - offset);
			page[i].size = cpu_to_le64(PAGE_ALIGN(offset + args[i].len));
		} else {
			/* It may keep the mapping, so it gets the same of each buffer. */
			arg[i].dma.handle = cpu_to_le32(args[i].handle);
			arg[i].dma.offset = cpu_to_le32(args[i].addr - args[i].buffer);
			arg[i].dma.len = cpu_to_le32(args[i].len);
			page[i].addr = cpu_to_le64(args[i].buffer);
			page[i].size = cpu_to_le64(args[i].buffer_size);
		}
	}
}

/* Arguments of the methods of QDA_MODULE_PROCESS; those of ATTACH and RELEASE are an id. */
struct qda_wire_create {
	__le32 client_id;
	__le32 name_len;
	__le32 shell_len;
	__le32 pages;
	__le32 attributes;
	__le32 signature_len;
};

struct qda_wire_create_static {
	__le32 client_id;
	__le32 name_len;
	__le32 pages;
};

struct qda_wire_mmap {
	__le32 client_id;
	__le32 flags;
	__le64 addr;
	__le32 pages_size;
	__le32 pad;
};

struct qda_wire_munmap {
	__le32 client_id;
	__le32 pad;
	__le64 addr;
	__le64 len;
};

struct qda_wire_mem_map {
	__le32 client_id;
	__le32 handle;
	__le32 offset;
	__le32 flags;
	__le64 addr;
	__le32 pages_size;
	__le32 data_len;
};

struct qda_wire_mem_unmap {
	__le32 client_id;
	__le32 handle;
	__le64 addr;
	__le64 len;
};

#endif
