/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A software DSP that speaks FastRPC.
 */

#ifndef FASTRPC_SIM_H
#define FASTRPC_SIM_H

#include <linux/atomic.h>
#include <linux/bits.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/of.h>
#include <linux/rpmsg.h>
#include <linux/spinlock.h>
#include <linux/types.h>
#include <linux/wait.h>
#include <linux/workqueue.h>

#define SIM_MAX_BANKS		8
#define SIM_MAX_MODULES		8
#define SIM_MAX_MAPS		256

/*
 * What goes over the channel, as drivers/misc/fastrpc.c has it: a request, and
 * the reply to it, which echoes the request's context.
 */
struct sim_request {
	__le32 client_id;
	__le32 tid;
	__le64 ctx;
	__le32 handle;
	__le32 sc;
	__le64 addr;
	__le64 size;
};

struct sim_reply {
	__le64 ctx;
	__le32 retval;
	__le32 pad;
};

#define SIM_CTX_PD		GENMASK_ULL(3, 0)
#define SIM_CTX_ID		GENMASK_ULL(15, 8)
#define SIM_CTX_SEQUENCE	BIT_ULL(16)
/* In place of a context: a protection domain has exited. */
#define SIM_CTX_PD_EXIT		0xABCDABCD

#define SIM_PD_ROOT		0
#define SIM_PD_USER		1
#define SIM_PD_SENSORS		2

#define SIM_HANDLE_REMOTECTL	0
#define SIM_HANDLE_PROCESS	1
#define SIM_HANDLE_UTILITIES	2
#define SIM_HANDLE_LISTENER	3
/* The first one that remotectl gives out; above those that are fixed. */
#define SIM_HANDLE_MODULES	0x100

#define SIM_METHOD(sc)		(((sc) >> 24) & 0x1f)

/*
 * The DSP's own error codes. The one for what it does not support is known to
 * the kernel as 0x80000414; the others follow it by the DSP's AEEStdErr list.
 */
#define SIM_ERROR(aee)		((s32)(0x80000400 + (aee)))
#define SIM_EFAILED		SIM_ERROR(1)
#define SIM_ENOMEMORY		SIM_ERROR(2)
#define SIM_EUNABLETOLOAD	SIM_ERROR(6)
#define SIM_EEXPIRED		SIM_ERROR(12)
#define SIM_EBADSTATE		SIM_ERROR(13)
#define SIM_EBADPARM		SIM_ERROR(14)
#define SIM_EUNSUPPORTED	SIM_ERROR(20)

enum sim_fault {
	SIM_BEHAVE,
	SIM_LATE,
	SIM_STALE,
	SIM_SHORT,
	SIM_WRONG_CONTEXT,
	SIM_DUPLICATE,
	SIM_METADATA,
	SIM_EXIT,
	/* From here on the call is never answered. */
	SIM_SILENT,
	SIM_CRASH,
};

struct iommu_domain;
struct iommu_group;

/*
 * What a bank's stream can reach. The group is held so that its domain stays
 * while the DSP uses it; with neither, bus addresses are physical ones.
 */
struct sim_bank {
	bool known;
	struct iommu_group *group;
	struct iommu_domain *domain;
};

/**
 * struct sim_dsp - a DSP: one rpmsg channel
 * @label: its domain, as the devicetree binding names it
 * @compatible: the binding that its node has
 * @sid_shift: where that puts the stream's number in a bus address
 * @index: counts the DSPs of the module
 * @node: its devicetree node; the module's changeset owns it
 * @parent: the device above the channel
 * @state_lock: serializes starting and stopping, protects @channel
 * @channel: the channel while there is one
 * @crash_work: stops and starts the DSP, for one that crashes by itself
 * @rx_lock: held, with interrupts off, while a reply is delivered, as the
 *	receive paths of real transports do; protects @ept
 * @ept: where replies go, while a driver is bound
 * @lock: protects @up, @calls, @runs and the fault; taken within no other spinlock
 * @up: requests are taken
 * @calls: every call that has not been answered
 * @runs: what workers are at
 * @run_ended: woken when one of them is done
 * @fault: what to do to the next call of @fault_handle
 * @fault_handle: the handle that this is for, or %SIM_ANY_HANDLE
 * @process_lock: protects @processes and what hangs on them, and the heap
 * @processes: the sessions that exist on the DSP
 * @heap_address: physical address of the heap of static domains
 * @heap_size: its size in bytes, 0 while the DSP has none
 * @bank_lock: protects @bank_parent and @banks; it and @process_lock are not
 *	taken within each other
 * @bank_parent: the device that has the banks' as children
 * @banks: by the number in their ``reg``, less one
 * @outside: accesses outside of what was mapped, since the module was loaded
 * @busy_ns: how long it has had calls that it answered, since the module was
 *	loaded: from the request to the reply
 * @delay_ms: how late a late reply is
 * @poll: calls of user modules are answered in the poll word, not by a reply
 * @poll_reply: a reply follows all the same, @delay_ms later
 * @no_capabilities: the query for capabilities is not supported
 */
struct sim_dsp {
	const char *label;
	const char *compatible;
	unsigned int sid_shift;
	unsigned int index;
	struct device_node *node;
	struct device *parent;

	/* starting and stopping */
	struct mutex state_lock;
	struct sim_channel *channel;
	struct work_struct crash_work;

	/* delivering */
	spinlock_t rx_lock;
	struct rpmsg_endpoint *ept;

	/* calls */
	spinlock_t lock;
	bool up;
	struct list_head calls;
	struct list_head runs;
	wait_queue_head_t run_ended;
	enum sim_fault fault;
	u32 fault_handle;

	/* sessions */
	struct mutex process_lock;
	struct list_head processes;
	u64 heap_address;
	u64 heap_size;
	/* banks */
	struct mutex bank_lock;
	struct device *bank_parent;
	struct sim_bank banks[SIM_MAX_BANKS];

	atomic_t outside;
	atomic64_t busy_ns;
	u32 delay_ms;
	bool poll;
	bool poll_reply;
	bool no_capabilities;
};

#define SIM_ANY_HANDLE		U32_MAX

/**
 * struct sim_arg - an argument of a call
 * @len: its length in bytes
 * @addr: bus address of its first byte
 * @fd: the descriptor that the caller knows it by, for a handle
 */
struct sim_arg {
	u64 len;
	u64 addr;
	s32 fd;
};

/**
 * struct sim_call - a request that has not been answered
 * @node: in &sim_dsp.calls. Who takes it off owns the call, answers and frees it.
 * @dsp: where it was sent to
 * @work: what happens to it next; not queued while @parked
 * @step: what that is
 * @parked: only the end of its process answers it
 * @fault: how the DSP misbehaves about it
 * @client_id: the process that it is for, 0 for the kernel's own
 * @pd: the protection domain that it is for
 * @taken: when it was taken, in nanoseconds
 * @ctx: the context, which the reply echoes
 * @handle: module
 * @sc: scalars: the method and numbers of arguments
 * @addr: bus address of the payload
 * @retval: the result, once it is there
 * @delay_ms: how long the module takes
 * @nargs: number of arguments
 * @nbufs: how many of them are buffers; handles follow
 * @nin: how many of the buffers are inputs; they come first
 * @args: the arguments
 */
struct sim_call {
	struct list_head node;
	struct sim_dsp *dsp;
	struct delayed_work work;
	enum { SIM_START, SIM_RUN, SIM_ANSWER, SIM_REPLY } step;
	bool parked;
	enum sim_fault fault;

	u32 client_id;
	u32 pd;
	u64 taken;
	u64 ctx;
	u32 handle;
	u32 sc;
	u64 addr;

	s32 retval;
	u32 delay_ms;
	unsigned int nargs;
	unsigned int nbufs;
	unsigned int nin;
	struct sim_arg *args;
};

/**
 * struct sim_map - memory that a process has mapped
 * @node: in &sim_process.maps
 * @va: where the DSP's process sees it
 * @addr: bus address
 * @size: bytes
 * @fd: the descriptor that it goes by, -1 for none
 */
struct sim_map {
	struct list_head node;
	u64 va;
	u64 addr;
	u64 size;
	s32 fd;
};

/**
 * struct sim_process - a session, seen from the DSP
 * @node: in &sim_dsp.processes
 * @client_id: what the kernel calls it
 * @pd: its protection domain
 * @stream: number of the stream that it reaches memory by
 * @next_va: where the next mapping goes
 * @maps: &struct sim_map
 * @nmaps: how many, %SIM_MAX_MAPS at most
 * @opened: how often each module is open
 */
struct sim_process {
	struct list_head node;
	u32 client_id;
	u32 pd;
	u32 stream;
	u64 next_va;
	struct list_head maps;
	unsigned int nmaps;
	unsigned int opened[SIM_MAX_MODULES];
};

/* tree.c */
int sim_tree_create(struct sim_dsp *dsps, unsigned int count);
void sim_tree_remove(void);

/* channel.c */
extern struct workqueue_struct *sim_workqueue;
extern atomic_t sim_channels;
int sim_channel_start(struct sim_dsp *dsp);
void sim_channel_stop(struct sim_dsp *dsp);
void sim_deliver(struct sim_dsp *dsp, u64 ctx, s32 retval, int len);
bool sim_end_calls(struct sim_dsp *dsp, u32 client_id, s32 retval);
bool sim_finish_calls(struct sim_dsp *dsp, u32 client_id, s32 retval);

/* memory.c */
s32 sim_read(struct sim_call *call, u64 addr, void *to, size_t len);
s32 sim_write(struct sim_call *call, u64 addr, const void *from, size_t len);
s32 sim_load_args(struct sim_call *call);
s32 sim_read_arg(struct sim_call *call, unsigned int i, u64 offset, void *to, size_t len);
s32 sim_write_arg(struct sim_call *call, unsigned int i, u64 offset, const void *from,
		  size_t len);
s32 sim_write_poll_word(struct sim_call *call);
s32 sim_list_handles(struct sim_call *call);
void sim_corrupt_metadata(struct sim_call *call);
void sim_expect_banks(struct sim_dsp *dsp, struct device *parent);
void sim_forget_banks(struct sim_dsp *dsp);

/* process.c */
struct sim_process *sim_find_process(struct sim_dsp *dsp, u32 client_id);
u32 sim_stream(struct sim_call *call);
s32 sim_manage_process(struct sim_call *call);
bool sim_end_process(struct sim_dsp *dsp, u32 client_id, s32 retval);
void sim_end_processes(struct sim_dsp *dsp);

/* modules.c */
s32 sim_invoke_module(struct sim_call *call);

/* misbehave.c */
bool sim_misbehave_early(struct sim_call *call);
bool sim_misbehave(struct sim_call *call);
void sim_reply(struct sim_call *call);
void sim_debugfs_create(struct sim_dsp *dsp, struct dentry *parent);

/* main.c */
extern unsigned int sim_banks;

#endif
