// SPDX-License-Identifier: GPL-2.0-only
/*
 * What runs on the DSP: remotectl, by which modules are opened, and the modules.
 * Their methods take their arguments as the stubs that an IDL compiler makes
 * pass them: the numbers first, together in one buffer. Methods 0 and 1 open and
 * close a module's 64-bit handle.
 */

#include <linux/cleanup.h>
#include <linux/slab.h>

#include "sim.h"

struct sim_module {
	const char *name;
	s32 (*invoke)(struct sim_call *call, unsigned int method);
};

/* Copy between arguments a page at a time, both as long as @len. */
static s32 copy(struct sim_call *call, unsigned int to, unsigned int from, u64 len)
{
	void *page __free(kfree) = kmalloc(PAGE_SIZE, GFP_KERNEL);
	u64 offset;
	s32 ret = 0;

	if (!page)
		return SIM_ENOMEMORY;
	for (offset = 0; !ret && offset < len; offset += PAGE_SIZE) {
		size_t n = min(len - offset, PAGE_SIZE);

		ret = sim_read_arg(call, from, offset, page, n) ?:
		      sim_write_arg(call, to, offset, page, n);
	}
	return ret;
}

/* Method 2: each input is copied to the output of its place. */
static s32 echo(struct sim_call *call, unsigned int method)
{
	unsigned int i, nout = call->nbufs - call->nin;
	s32 ret = 0;

	if (method != 2)
		return SIM_EUNSUPPORTED;
	for (i = 0; !ret && i < min(call->nin, nout); i++)
		ret = copy(call, call->nin + i, i,
			   min(call->args[i].len, call->args[call->nin + i].len));
	return ret;
}

/* Method 2: the same for handles; method 3 also has the kernel drop their maps. */
static s32 copy_handles(struct sim_call *call, unsigned int method)
{
	unsigned int nin = (call->sc >> 4) & 0xf, nout = call->sc & 0xf, i;
	s32 ret = 0;

	if (method != 2 && method != 3)
		return SIM_EUNSUPPORTED;
	for (i = call->nbufs; !ret && i < call->nbufs + min(nin, nout); i++)
		ret = copy(call, nin + i, i, min(call->args[i].len, call->args[nin + i].len));
	return ret || method == 2 ? ret : sim_list_handles(call);
}

/* Method 2: the sum of a vector, s64; method 3: the largest of it, s32. */
static s32 calculator(struct sim_call *call, unsigned int method)
{
	__le32 *page __free(kfree) = kmalloc(PAGE_SIZE, GFP_KERNEL);
	s32 max = S32_MIN, ret;
	__le32 count, wire_max;
	__le64 wire_sum;
	u64 offset, len;
	s64 sum = 0;

	if (method != 2 && method != 3)
		return SIM_EUNSUPPORTED;
	if (!page)
		return SIM_ENOMEMORY;
	ret = sim_read_arg(call, 0, 0, &count, sizeof(count));
	if (ret)
		return ret;

	len = 4ULL * le32_to_cpu(count);
	for (offset = 0; offset < len; offset += PAGE_SIZE) {
		size_t n = min(len - offset, PAGE_SIZE), i;

		ret = sim_read_arg(call, 1, offset, page, n);
		if (ret)
			return ret;
		for (i = 0; i < n / 4; i++) {
			s32 value = le32_to_cpu(page[i]);

			sum += value;
			max = max(max, value);
		}
	}
	if (method == 2) {
		wire_sum = cpu_to_le64(sum);
		return sim_write_arg(call, 2, 0, &wire_sum, sizeof(wire_sum));
	}
	wire_max = cpu_to_le32(max);
	return sim_write_arg(call, 2, 0, &wire_max, sizeof(wire_max));
}

/* Method 2: takes as many milliseconds as it is told. */
static s32 sleep(struct sim_call *call, unsigned int method)
{
	__le32 ms;
	s32 ret;

	if (method != 2)
		return SIM_EUNSUPPORTED;
	ret = sim_read_arg(call, 0, 0, &ms, sizeof(ms));
	if (!ret)
		call->delay_ms = le32_to_cpu(ms);
	return ret;
}

/* Method 2: fails with the code that it is told. */
static s32 error(struct sim_call *call, unsigned int method)
{
	__le32 code;

	if (method != 2)
		return SIM_EUNSUPPORTED;
	return sim_read_arg(call, 0, 0, &code, sizeof(code)) ?: le32_to_cpu(code);
}

/* The bus address behind an address of the process; 0 if it has not mapped that. */
static u64 mapped(struct sim_call *call, u64 va, u64 len)
{
	struct sim_process *process;
	struct sim_map *map;

	guard(mutex)(&call->dsp->process_lock);
	process = sim_find_process(call->dsp, call->client_id);
	if (!process)
		return 0;
	list_for_each_entry(map, &process->maps, node)
		if (va >= map->va && va - map->va < map->size && len <= map->size - (va - map->va))
			return map->addr + (va - map->va);
	return 0;
}

/* Copy between memory and an argument, which is no longer than a page. */
static s32 transfer(struct sim_call *call, u64 addr, unsigned int arg, bool write)
{
	void *page __free(kfree) = NULL;
	u64 len = arg < call->nargs ? call->args[arg].len : 0;

	if (!len || len > PAGE_SIZE)
		return SIM_EBADPARM;
	page = kmalloc(PAGE_SIZE, GFP_KERNEL);
	if (!page)
		return SIM_ENOMEMORY;
	if (write)
		return sim_read_arg(call, arg, 0, page, len) ?:
		       sim_write(call, addr, page, len);
	return sim_read(call, addr, page, len) ?: sim_write_arg(call, arg, 0, page, len);
}

/*
 * For tests. The first input is an address, u64, and the second argument data.
 * Method 2 tells the bus address of the second argument in the third; 3 and 4
 * read and write at a bus address, 5 and 6 at an address that the process has
 * mapped.
 */
static s32 memory(struct sim_call *call, unsigned int method)
{
	__le64 wire;
	u64 addr;
	s32 ret;

	ret = sim_read_arg(call, 0, 0, &wire, sizeof(wire));
	if (ret)
		return ret;
	addr = le64_to_cpu(wire);
	switch (method) {
	case 2:
		if (call->nargs < 3)
			return SIM_EBADPARM;
		wire = cpu_to_le64(call->args[1].addr);
		return sim_write_arg(call, 2, 0, &wire, sizeof(wire));
	case 3:
	case 4:
		return transfer(call, addr, 1, method == 4);
	case 5:
	case 6:
		if (call->nargs < 2)
			return SIM_EBADPARM;
		addr = mapped(call, addr, call->args[1].len);
		return addr ? transfer(call, addr, 1, method == 6) : SIM_EFAILED;
	default:
		return SIM_EUNSUPPORTED;
	}
}

static const struct sim_module modules[] = {
	{ "echo", echo },
	{ "copy", copy_handles },
	{ "calculator", calculator },
	{ "sleep", sleep },
	{ "error", error },
	{ "memory", memory },
};

static_assert(ARRAY_SIZE(modules) <= SIM_MAX_MODULES);

/* The module of a URI such as "file:///libecho_skel.so?echo_skel_handle_invoke&_modver=1.0". */
static int module_of(const char *uri)
{
	const char *name = strstr(uri, ":///lib");
	unsigned int i;

	if (!name)
		return -ENOENT;
	name += strlen(":///lib");
	for (i = 0; i < ARRAY_SIZE(modules); i++) {
		size_t len = strlen(modules[i].name);

		if (!strncmp(name, modules[i].name, len) &&
		    (!strncmp(name + len, ".so", 3) || !strncmp(name + len, "_skel.so", 8)))
			return i;
	}
	return -ENOENT;
}

/* Read the name that is argument @arg and count its module open; its number, or a DSP error. */
static s32 open_module(struct sim_call *call, unsigned int arg, unsigned int *index)
{
	struct sim_process *process;
	char uri[256];
	size_t len;
	s32 ret;
	int i;

	if (arg >= call->nargs || !call->args[arg].len)
		return SIM_EBADPARM;
	len = min(call->args[arg].len, sizeof(uri) - 1);
	ret = sim_read_arg(call, arg, 0, uri, len);
	if (ret)
		return ret;
	uri[len] = '\0';
	i = module_of(uri);
	if (i < 0)
		return SIM_EUNABLETOLOAD;

	guard(mutex)(&call->dsp->process_lock);
	process = sim_find_process(call->dsp, call->client_id);
	if (!process)
		return SIM_EBADSTATE;
	process->opened[i]++;
	*index = i;
	return 0;
}

static s32 close_module(struct sim_call *call, u64 handle)
{
	struct sim_process *process;

	guard(mutex)(&call->dsp->process_lock);
	process = sim_find_process(call->dsp, call->client_id);
	if (!process)
		return SIM_EBADSTATE;
	if (handle < SIM_HANDLE_MODULES || handle - SIM_HANDLE_MODULES >= ARRAY_SIZE(modules) ||
	    !process->opened[handle - SIM_HANDLE_MODULES])
		return SIM_EBADPARM;
	process->opened[handle - SIM_HANDLE_MODULES]--;
	return 0;
}

/*
 * Method 0 opens a module: lengths and name in; handle, error and a text out.
 * Method 1 closes it: handle and length of the text in; error and text out. What
 * goes wrong with the module is in the error, and the call succeeds.
 */
static s32 remotectl(struct sim_call *call)
{
	struct {
		__le32 handle;
		__le32 error;
	} opened = {};
	unsigned int index = 0;
	__le32 handle, error;
	s32 ret;

	switch (SIM_METHOD(call->sc)) {
	case 0:
		ret = open_module(call, 1, &index);
		if (!ret)
			opened.handle = cpu_to_le32(SIM_HANDLE_MODULES + index);
		opened.error = cpu_to_le32(ret);
		return sim_write_arg(call, 2, 0, &opened, sizeof(opened));
	case 1:
		ret = sim_read_arg(call, 0, 0, &handle, sizeof(handle));
		if (ret)
			return ret;
		error = cpu_to_le32(close_module(call, le32_to_cpu(handle)));
		return sim_write_arg(call, 1, 0, &error, sizeof(error));
	default:
		return SIM_EUNSUPPORTED;
	}
}

static s32 open_handle(struct sim_call *call)
{
	unsigned int index = 0;
	__le64 handle;
	s32 ret;

	ret = open_module(call, 1, &index);
	if (ret)
		return ret;
	handle = cpu_to_le64(SIM_HANDLE_MODULES + index);
	return sim_write_arg(call, 2, 0, &handle, sizeof(handle));
}

static s32 close_handle(struct sim_call *call)
{
	__le64 handle;

	return sim_read_arg(call, 0, 0, &handle, sizeof(handle)) ?:
	       close_module(call, le64_to_cpu(handle));
}

/* May the process make this call? Its domain must be the one that it was made in. */
static s32 check_process(struct sim_call *call)
{
	struct sim_process *process;
	u32 handle = call->handle;

	guard(mutex)(&call->dsp->process_lock);
	process = sim_find_process(call->dsp, call->client_id);
	if (!process || process->pd != call->pd)
		return SIM_EBADSTATE;
	if (handle == SIM_HANDLE_REMOTECTL)
		return 0;
	if (handle < SIM_HANDLE_MODULES || handle - SIM_HANDLE_MODULES >= ARRAY_SIZE(modules) ||
	    !process->opened[handle - SIM_HANDLE_MODULES])
		return SIM_EBADPARM;
	return 0;
}

/**
 * sim_invoke_module() - carry out a call of user space's
 * @call: the call, of any handle but those of process management
 *
 * Return: the result of the call
 */
s32 sim_invoke_module(struct sim_call *call)
{
	unsigned int method = SIM_METHOD(call->sc);
	s32 ret = check_process(call);

	if (ret)
		return ret;
	if (call->handle == SIM_HANDLE_REMOTECTL)
		return remotectl(call);
	switch (method) {
	case 0:
		return open_handle(call);
	case 1:
		return close_handle(call);
	default:
		return modules[call->handle - SIM_HANDLE_MODULES].invoke(call, method);
	}
}
