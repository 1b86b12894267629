// SPDX-License-Identifier: GPL-2.0-only
/*
 * How the DSP reaches memory: by the bus address of a bank, which carries the
 * number of the bank's stream above what its IOMMU translates. Each page is
 * looked up in the tables that the IOMMU itself walks, or is taken for a
 * physical one where there is no IOMMU.
 *
 * iommu_iova_to_phys() does not tell what a mapping permits, so a write to what
 * is mapped for reading only is not noticed.
 */

#include <linux/align.h>
#include <linux/bitfield.h>
#include <linux/cleanup.h>
#include <linux/highmem.h>
#include <linux/iommu.h>
#include <linux/slab.h>
#include <linux/sizes.h>

#include "sim.h"

#define SIM_FDLIST	16

/*
 * The payload of a call with n arguments: n of sim_wire_arg, n of sim_wire_list,
 * n of sim_wire_page, then this. What does not lie in a buffer of its own
 * follows.
 */
struct sim_wire_tail {
	__le64 fdlist[SIM_FDLIST];
	__le32 crc[64];
	__le32 poll;
};

struct sim_wire_arg {
	union {
		struct {
			__le64 pv;
			__le64 len;
		} buf;
		struct {
			__le32 fd;
			__le32 offset;
			__le32 len;
		} dma;
	};
};

struct sim_wire_list {
	__le32 num;
	__le32 pgidx;
};

struct sim_wire_page {
	__le64 addr;
	__le64 size;
};

/* What says where an argument lies, and all that says something of it */
#define SIM_WIRE_PLACE	(sizeof(struct sim_wire_list) + sizeof(struct sim_wire_page))
#define SIM_WIRE_ARG	(sizeof(struct sim_wire_arg) + SIM_WIRE_PLACE)
#define SIM_POLL	0xdecaf

/* Banks are children of the channel, whatever bus they are on. */
static struct device *find_bank_device(struct sim_dsp *dsp, u32 sid)
{
	struct device_node *np;

	for_each_child_of_node(dsp->node, np) {
		u32 reg;

		if (!of_property_read_u32(np, "reg", &reg) && reg == sid) {
			struct device *dev = device_find_child(dsp->bank_parent, np,
							       device_match_of_node);

			of_node_put(np);
			return dev;
		}
	}
	return NULL;
}

/* Let @bank be what a stream reaches; false if there is no such bank, or not yet. */
static bool find_bank(struct sim_dsp *dsp, u32 sid, struct sim_bank *bank)
{
	struct sim_bank *cached;

	if (!sid || sid > SIM_MAX_BANKS)
		return false;
	guard(mutex)(&dsp->bank_lock);
	cached = &dsp->banks[sid - 1];
	if (!cached->known) {
		struct device *dev __free(put_device) = find_bank_device(dsp, sid);

		if (!dev)
			return false;
		cached->group = iommu_group_get(dev);
		cached->domain = iommu_get_domain_for_dev(dev);
		/* A bank that shall have an IOMMU must not be used without. */
		if (!cached->domain && of_property_present(dev->of_node, "iommus"))
			return false;
		cached->known = true;
	}
	*bank = *cached;
	return true;
}

/**
 * sim_expect_banks() - tell where a DSP's banks will be
 * @dsp: the DSP, which carries out no calls yet
 * @parent: the device that they will be children of
 */
void sim_expect_banks(struct sim_dsp *dsp, struct device *parent)
{
	guard(mutex)(&dsp->bank_lock);
	dsp->bank_parent = parent;
}

/**
 * sim_forget_banks() - let go of the banks' domains
 * @dsp: the DSP, which carries out no calls any more
 */
void sim_forget_banks(struct sim_dsp *dsp)
{
	struct sim_bank *bank;

	guard(mutex)(&dsp->bank_lock);
	for (bank = dsp->banks; bank < dsp->banks + SIM_MAX_BANKS; bank++) {
		iommu_group_put(bank->group);
		memset(bank, 0, sizeof(*bank));
	}
}

static struct page *find_page(struct sim_bank *bank, u64 iova)
{
	phys_addr_t phys = iova;

	if (bank->domain) {
		phys = iommu_iova_to_phys(bank->domain, iova);
		if (!phys)
			return NULL;
	}
	/* Memory that the kernel must not map has struct pages too. */
	return page_is_ram(PHYS_PFN(phys)) ? pfn_to_page(PHYS_PFN(phys)) : NULL;
}

static s32 access(struct sim_call *call, u64 addr, void *buf, size_t len, bool write)
{
	struct sim_dsp *dsp = call->dsp;
	u64 iova = addr & (BIT_ULL(dsp->sid_shift) - 1);
	u32 sid = addr >> dsp->sid_shift;
	struct sim_bank bank;

	/* The hardware lets a process out by the stream of its own bank only. */
	if (sid != sim_stream(call) || !find_bank(dsp, sid, &bank))
		goto outside;
	while (len) {
		size_t n = min_t(size_t, len, PAGE_SIZE - offset_in_page(iova));
		struct page *page = find_page(&bank, iova);

		if (!page)
			goto outside;
		if (write)
			memcpy_to_page(page, offset_in_page(iova), buf, n);
		else
			memcpy_from_page(buf, page, offset_in_page(iova), n);
		iova += n;
		buf += n;
		len -= n;
	}
	return 0;
outside:
	atomic_inc(&dsp->outside);
	return SIM_EFAILED;
}

/**
 * sim_read() - read memory, as the DSP
 * @call: for which call
 * @addr: bus address, with the stream's number
 * @to: where to put it
 * @len: bytes
 *
 * Return: 0, or %SIM_EFAILED where nothing is mapped, which is counted
 */
s32 sim_read(struct sim_call *call, u64 addr, void *to, size_t len)
{
	return access(call, addr, to, len, false);
}

/**
 * sim_write() - write memory, as the DSP
 * @call: for which call
 * @addr: bus address, with the stream's number
 * @from: what to write
 * @len: bytes
 *
 * Return: 0, or %SIM_EFAILED where nothing is mapped, which is counted
 */
s32 sim_write(struct sim_call *call, u64 addr, const void *from, size_t len)
{
	return access(call, addr, (void *)from, len, true);
}

static s32 parse_buffer(const struct sim_wire_arg *wire, const struct sim_wire_list *list,
			const struct sim_wire_page *pages, unsigned int nargs, struct sim_arg *arg)
{
	u32 pgidx = le32_to_cpu(list->pgidx);
	u64 offset = offset_in_page(le64_to_cpu(wire->buf.pv));
	u64 size;

	arg->len = le64_to_cpu(wire->buf.len);
	arg->fd = -1;
	if (!arg->len)
		return 0;
	if (le32_to_cpu(list->num) != 1 || pgidx >= nargs)
		return SIM_EBADPARM;
	arg->addr = le64_to_cpu(pages[pgidx].addr) + offset;
	size = le64_to_cpu(pages[pgidx].size);
	return offset > size || arg->len > size - offset ? SIM_EBADPARM : 0;
}

static s32 parse_handle(const struct sim_wire_arg *wire, const struct sim_wire_list *list,
			const struct sim_wire_page *pages, unsigned int nargs, struct sim_arg *arg)
{
	u32 pgidx = le32_to_cpu(list->pgidx);
	u64 offset = le32_to_cpu(wire->dma.offset);

	arg->len = le32_to_cpu(wire->dma.len);
	arg->fd = le32_to_cpu(wire->dma.fd);
	if (!arg->len)
		return 0;
	if (le32_to_cpu(list->num) != 1 || pgidx >= nargs)
		return SIM_EBADPARM;
	arg->addr = le64_to_cpu(pages[pgidx].addr) + offset;
	return offset + arg->len > le64_to_cpu(pages[pgidx].size) ? SIM_EBADPARM : 0;
}

/**
 * sim_load_args() - read what the payload says about a call's arguments
 * @call: the call; sets its counts and &sim_call.args
 *
 * Return: 0, or %SIM_EBADPARM if they contradict themselves, or another error
 */
s32 sim_load_args(struct sim_call *call)
{
	unsigned int nin = (call->sc >> 16) & 0xff, nout = (call->sc >> 8) & 0xff;
	unsigned int nbufs = nin + nout, nargs, i;
	const struct sim_wire_list *list;
	const struct sim_wire_page *pages;
	s32 ret;

	nargs = nbufs + ((call->sc >> 4) & 0xf) + (call->sc & 0xf);
	if (!nargs)
		return 0;

	const struct sim_wire_arg *wire __free(kvfree) = kvmalloc(nargs * SIM_WIRE_ARG, GFP_KERNEL);
	call->args = kvzalloc_objs(*call->args, nargs);
	if (!wire || !call->args)
		return SIM_ENOMEMORY;
	ret = sim_read(call, call->addr, (void *)wire, nargs * SIM_WIRE_ARG);
	list = (const void *)(wire + nargs);
	pages = (const void *)(list + nargs);
	for (i = 0; !ret && i < nargs; i++)
		ret = (i < nbufs ? parse_buffer : parse_handle)(&wire[i], &list[i], pages, nargs,
								&call->args[i]);
	call->nargs = nargs;
	call->nbufs = nbufs;
	call->nin = nin;
	return ret;
}

/**
 * sim_read_arg() - read from an argument
 * @call: the call
 * @i: number of the argument
 * @offset: where to begin in it
 * @to: where to put it
 * @len: bytes
 *
 * Return: 0, or %SIM_EBADPARM if it has no such bytes, or another error
 */
s32 sim_read_arg(struct sim_call *call, unsigned int i, u64 offset, void *to, size_t len)
{
	if (i >= call->nargs || offset > call->args[i].len || len > call->args[i].len - offset)
		return SIM_EBADPARM;
	return sim_read(call, call->args[i].addr + offset, to, len);
}

/**
 * sim_write_arg() - write to an argument
 * @call: the call
 * @i: number of the argument
 * @offset: where to begin in it
 * @from: what to write
 * @len: bytes
 *
 * Return: 0, or %SIM_EBADPARM if it has no such bytes, or another error
 */
s32 sim_write_arg(struct sim_call *call, unsigned int i, u64 offset, const void *from, size_t len)
{
	if (i >= call->nargs || offset > call->args[i].len || len > call->args[i].len - offset)
		return SIM_EBADPARM;
	return sim_write(call, call->args[i].addr + offset, from, len);
}

static u64 tail(struct sim_call *call)
{
	return call->addr + call->nargs * SIM_WIRE_ARG;
}

/**
 * sim_write_poll_word() - tell who polls that a call is done
 * @call: the call
 *
 * Return: 0, or an error
 */
s32 sim_write_poll_word(struct sim_call *call)
{
	__le32 done = cpu_to_le32(SIM_POLL);

	/* Who sees it reads what the call has written. */
	dma_wmb();
	return sim_write(call, tail(call) + offsetof(struct sim_wire_tail, poll),
			 &done, sizeof(done));
}

/**
 * sim_list_handles() - tell the kernel to drop the maps of a call's handles
 * @call: the call
 *
 * Return: 0, or an error
 */
s32 sim_list_handles(struct sim_call *call)
{
	__le64 fdlist[SIM_FDLIST] = {};
	unsigned int i;

	for (i = 0; i < SIM_FDLIST && call->nbufs + i < call->nargs; i++)
		fdlist[i] = cpu_to_le64(call->args[call->nbufs + i].fd);
	return sim_write(call, tail(call) + offsetof(struct sim_wire_tail, fdlist),
			 fdlist, sizeof(fdlist));
}

/**
 * sim_corrupt_metadata() - rewrite all that says where a call's arguments are
 * @call: the call, whose arguments have been loaded
 *
 * A kernel that reads any of it back would copy from where it should not.
 */
void sim_corrupt_metadata(struct sim_call *call)
{
	struct sim_wire_tail junk;
	struct sim_wire_arg arg = {
		.buf.pv = cpu_to_le64(SZ_4K),
		.buf.len = cpu_to_le64(SZ_64K),
	};
	unsigned int i;
	u64 addr;

	memset(&junk, 0x55, sizeof(junk));
	for (i = 0; i < call->nargs; i++)
		sim_write(call, call->addr + i * sizeof(arg), &arg, sizeof(arg));
	/* The lists and the pages */
	for (addr = call->addr + i * sizeof(arg); addr < tail(call); addr += SIM_WIRE_PLACE)
		sim_write(call, addr, &junk, SIM_WIRE_PLACE);
	sim_write(call, tail(call), &junk, sizeof(junk));
}
