// SPDX-License-Identifier: GPL-2.0-only
/*
 * Process management: what the kernel alone asks of the DSP, by handle 1, and
 * the query for its capabilities, by handle 2. The layouts are those of
 * drivers/misc/fastrpc.c.
 */

#include <linux/cleanup.h>
#include <linux/elf.h>
#include <linux/sizes.h>
#include <linux/slab.h>

#include "sim.h"

enum {
	SIM_ATTACH		= 0,
	SIM_RELEASE		= 1,
	SIM_MMAP		= 4,
	SIM_MUNMAP		= 5,
	SIM_CREATE		= 6,
	SIM_CREATE_ATTR		= 7,
	SIM_CREATE_STATIC	= 8,
	SIM_MEM_MAP		= 10,
	SIM_MEM_UNMAP		= 11,
};

struct sim_create {
	__le32 client_id;
	__le32 name_len;
	__le32 file_len;
	__le32 pages;
	__le32 attrs;
	__le32 signature_len;
};

struct sim_create_static {
	__le32 client_id;
	__le32 name_len;
	__le32 pages;
};

struct sim_mmap {
	__le32 client_id;
	__le32 flags;
	__le64 va;
	__le32 pages_len;
};

struct sim_mem_map {
	__le32 client_id;
	__le32 fd;
	__le32 offset;
	__le32 flags;
	__le64 va;
	__le32 pages_len;
	__le32 data_len;
};

struct sim_munmap {
	__le32 client_id;
	__le32 pad;
	__le64 va;
	__le64 size;
};

struct sim_mem_unmap {
	__le32 client_id;
	__le32 fd;
	__le64 va;
	__le64 len;
};

struct sim_page {
	__le64 addr;
	__le64 size;
};

#define SIM_CAPABILITIES	255
#define SIM_ARCH_VERSION	6

/**
 * sim_find_process() - look a session up
 * @dsp: the DSP, whose process_lock is held
 * @client_id: what the kernel calls it
 *
 * Return: the process, or NULL
 */
struct sim_process *sim_find_process(struct sim_dsp *dsp, u32 client_id)
{
	struct sim_process *process;

	lockdep_assert_held(&dsp->process_lock);
	list_for_each_entry(process, &dsp->processes, node)
		if (process->client_id == client_id)
			return process;
	return NULL;
}

/**
 * sim_stream() - tell by which stream a call reaches memory
 * @call: the call
 *
 * Return: the number of the stream that its process began with. The kernel's own
 * calls have that of their payload, and so have those of processes that are gone.
 */
u32 sim_stream(struct sim_call *call)
{
	struct sim_process *process;

	guard(mutex)(&call->dsp->process_lock);
	process = sim_find_process(call->dsp, call->client_id);
	return process ? process->stream : call->addr >> call->dsp->sid_shift;
}

static void free_process(struct sim_process *process)
{
	struct sim_map *map, *tmp;

	list_for_each_entry_safe(map, tmp, &process->maps, node)
		kfree(map);
	list_del(&process->node);
	kfree(process);
}

static s32 start_process(struct sim_call *call, u32 client_id)
{
	struct sim_process *process;

	guard(mutex)(&call->dsp->process_lock);
	if (!client_id || sim_find_process(call->dsp, client_id))
		return SIM_EBADSTATE;
	process = kzalloc_obj(*process);
	if (!process)
		return SIM_ENOMEMORY;
	process->client_id = client_id;
	process->pd = call->pd;
	process->stream = call->addr >> call->dsp->sid_shift;
	process->next_va = SZ_1G;
	INIT_LIST_HEAD(&process->maps);
	list_add_tail(&process->node, &call->dsp->processes);
	return 0;
}

/**
 * sim_end_process() - end a session
 * @dsp: the DSP
 * @client_id: the process, which need not exist
 * @retval: what its pending calls are answered
 *
 * Return: whether there was such a process, or a call of it that waited
 */
bool sim_end_process(struct sim_dsp *dsp, u32 client_id, s32 retval)
{
	struct sim_process *process;
	bool ended;

	scoped_guard(mutex, &dsp->process_lock) {
		process = sim_find_process(dsp, client_id);
		ended = process;
		if (process)
			free_process(process);
	}
	return sim_end_calls(dsp, client_id, retval) || ended;
}

/**
 * sim_end_processes() - forget all sessions, and the heap
 * @dsp: the DSP, which has no calls any more
 */
void sim_end_processes(struct sim_dsp *dsp)
{
	struct sim_process *process, *tmp;

	guard(mutex)(&dsp->process_lock);
	list_for_each_entry_safe(process, tmp, &dsp->processes, node)
		free_process(process);
	dsp->heap_size = 0;
}

/* The argument that names the process is all that some methods have. */
static s32 read_client_id(struct sim_call *call, u32 *client_id)
{
	__le32 id;
	s32 ret = sim_read_arg(call, 0, 0, &id, sizeof(id));

	*client_id = ret ? 0 : le32_to_cpu(id);
	return ret;
}

static s32 attach(struct sim_call *call)
{
	u32 client_id;

	if (call->pd != SIM_PD_ROOT && call->pd != SIM_PD_SENSORS)
		return SIM_EBADPARM;
	return read_client_id(call, &client_id) ?: start_process(call, client_id);
}

static s32 release(struct sim_call *call)
{
	struct sim_process *process;
	u32 client_id;
	s32 ret = read_client_id(call, &client_id);
	bool ended;

	if (ret)
		return ret;
	/* The kernel's own calls, of which this is one, do not end. */
	if (!client_id)
		return SIM_EBADSTATE;
	scoped_guard(mutex, &call->dsp->process_lock) {
		process = sim_find_process(call->dsp, client_id);
		if (process && process->pd != call->pd)
			return SIM_EBADSTATE;
	}
	/* A process that has exited may have left calls. */
	ended = sim_end_process(call->dsp, client_id, SIM_EEXPIRED);
	ended |= sim_finish_calls(call->dsp, client_id, SIM_EEXPIRED);
	return ended ? 0 : SIM_EBADSTATE;
}

/* The process gets memory of the kernel's: all of it must be there. */
static s32 check_memory(struct sim_call *call, u64 addr, u64 size)
{
	s32 ret = 0;
	u64 offset;
	u8 byte;

	for (offset = 0; !ret && offset < size; offset += PAGE_SIZE)
		ret = sim_read(call, addr + offset, &byte, 1);
	return ret;
}

static s32 create(struct sim_call *call)
{
	struct sim_create request;
	struct sim_page page;
	char magic[SELFMAG];
	s32 ret;

	ret = sim_read_arg(call, 0, 0, &request, sizeof(request));
	if (ret)
		return ret;
	if (call->pd != SIM_PD_USER || call->nin != 4 ||
	    le32_to_cpu(request.name_len) != call->args[1].len ||
	    le32_to_cpu(request.file_len) != call->args[2].len ||
	    le32_to_cpu(request.pages) * sizeof(struct sim_page) != call->args[3].len)
		return SIM_EBADPARM;
	if (sim_read_arg(call, 2, 0, magic, sizeof(magic)) || memcmp(magic, ELFMAG, SELFMAG))
		return SIM_EUNABLETOLOAD;
	return sim_read_arg(call, 3, 0, &page, sizeof(page)) ?:
	       check_memory(call, le64_to_cpu(page.addr), le64_to_cpu(page.size)) ?:
	       start_process(call, le32_to_cpu(request.client_id));
}

/* It is given with the first static domain, and kept until a restart. */
static s32 take_heap(struct sim_dsp *dsp, const struct sim_page *page)
{
	guard(mutex)(&dsp->process_lock);
	if (!page == !dsp->heap_size)
		return SIM_EBADSTATE;
	if (page) {
		dsp->heap_address = le64_to_cpu(page->addr);
		dsp->heap_size = le64_to_cpu(page->size);
	}
	return 0;
}

static s32 create_static(struct sim_call *call)
{
	struct sim_create_static request;
	struct sim_page page;
	u32 pages;
	s32 ret;

	ret = sim_read_arg(call, 0, 0, &request, sizeof(request));
	if (ret)
		return ret;
	pages = le32_to_cpu(request.pages);
	if (call->pd != SIM_PD_USER || call->nin != 3 || pages > 1 ||
	    le32_to_cpu(request.name_len) != call->args[1].len)
		return SIM_EBADPARM;
	ret = sim_read_arg(call, 2, 0, &page, sizeof(page)) ?:
	      start_process(call, le32_to_cpu(request.client_id));
	if (ret)
		return ret;
	/* Physical memory, which no bank of ours reaches. */
	ret = take_heap(call->dsp, pages ? &page : NULL);
	if (ret)
		sim_end_process(call->dsp, le32_to_cpu(request.client_id), SIM_EBADSTATE);
	return ret;
}

static s32 new_map(struct sim_call *call, u32 client_id, s32 fd, const struct sim_page *page,
		   u64 *va)
{
	struct sim_process *process;
	struct sim_map *map;

	guard(mutex)(&call->dsp->process_lock);
	process = sim_find_process(call->dsp, client_id);
	if (!process || process->pd != call->pd)
		return SIM_EBADSTATE;
	if (process->nmaps == SIM_MAX_MAPS)
		return SIM_ENOMEMORY;
	map = kzalloc_obj(*map);
	if (!map)
		return SIM_ENOMEMORY;
	process->nmaps++;
	map->va = process->next_va;
	map->addr = le64_to_cpu(page->addr);
	map->size = le64_to_cpu(page->size);
	map->fd = fd;
	process->next_va += ALIGN(map->size, SZ_64K) + SZ_64K;
	list_add_tail(&map->node, &process->maps);
	*va = map->va;
	return 0;
}

static s32 add_map(struct sim_call *call, u32 client_id, s32 fd, unsigned int out)
{
	struct sim_page page;
	__le64 wire;
	u64 va;
	s32 ret;

	ret = sim_read_arg(call, 1, 0, &page, sizeof(page)) ?:
	      check_memory(call, le64_to_cpu(page.addr), le64_to_cpu(page.size)) ?:
	      new_map(call, client_id, fd, &page, &va);
	if (ret)
		return ret;
	wire = cpu_to_le64(va);
	return sim_write_arg(call, out, 0, &wire, sizeof(wire));
}

static s32 remove_map(struct sim_call *call, u32 client_id, s32 fd, u64 va, u64 size)
{
	struct sim_process *process;
	struct sim_map *map;

	guard(mutex)(&call->dsp->process_lock);
	process = sim_find_process(call->dsp, client_id);
	if (!process || process->pd != call->pd)
		return SIM_EBADSTATE;
	list_for_each_entry(map, &process->maps, node) {
		if (map->va != va || map->size != size || map->fd != fd)
			continue;
		list_del(&map->node);
		kfree(map);
		process->nmaps--;
		return 0;
	}
	return SIM_EBADPARM;
}

static s32 map_pages(struct sim_call *call)
{
	struct sim_mmap request;

	return sim_read_arg(call, 0, 0, &request, sizeof(request)) ?:
	       add_map(call, le32_to_cpu(request.client_id), -1, 2);
}

static s32 map_buffer(struct sim_call *call)
{
	struct sim_mem_map request;

	return sim_read_arg(call, 0, 0, &request, sizeof(request)) ?:
	       add_map(call, le32_to_cpu(request.client_id), le32_to_cpu(request.fd), 3);
}

static s32 unmap_pages(struct sim_call *call)
{
	struct sim_munmap request;

	return sim_read_arg(call, 0, 0, &request, sizeof(request)) ?:
	       remove_map(call, le32_to_cpu(request.client_id), -1, le64_to_cpu(request.va),
			  le64_to_cpu(request.size));
}

static s32 unmap_buffer(struct sim_call *call)
{
	struct sim_mem_unmap request;

	return sim_read_arg(call, 0, 0, &request, sizeof(request)) ?:
	       remove_map(call, le32_to_cpu(request.client_id), le32_to_cpu(request.fd),
			  le64_to_cpu(request.va), le64_to_cpu(request.len));
}

static s32 capabilities(struct sim_call *call)
{
	__le32 count, arch = cpu_to_le32(0x68);
	s32 ret;

	if (SIM_METHOD(call->sc) || call->dsp->no_capabilities)
		return SIM_EUNSUPPORTED;
	ret = sim_read_arg(call, 0, 0, &count, sizeof(count));
	if (!ret && le32_to_cpu(count) != SIM_CAPABILITIES)
		ret = SIM_EBADPARM;
	/* The first one that goes over the wire is number 1; what is not written is 0. */
	return ret ?: sim_write_arg(call, 1, (SIM_ARCH_VERSION - 1) * sizeof(arch), &arch,
				    sizeof(arch));
}

/**
 * sim_manage_process() - carry out what the kernel itself asks
 * @call: a call of handle 1 or 2
 *
 * Return: the result of the call
 */
s32 sim_manage_process(struct sim_call *call)
{
	if (call->handle == SIM_HANDLE_UTILITIES)
		return capabilities(call);
	/* Only the kernel has no process to call for. */
	if (call->client_id)
		return SIM_EBADSTATE;
	switch (SIM_METHOD(call->sc)) {
	case SIM_ATTACH:
		return attach(call);
	case SIM_RELEASE:
		return release(call);
	case SIM_MMAP:
		return map_pages(call);
	case SIM_MUNMAP:
		return unmap_pages(call);
	case SIM_CREATE:
	case SIM_CREATE_ATTR:
		return create(call);
	case SIM_CREATE_STATIC:
		return create_static(call);
	case SIM_MEM_MAP:
		return map_buffer(call);
	case SIM_MEM_UNMAP:
		return unmap_buffer(call);
	default:
		return SIM_EUNSUPPORTED;
	}
}
