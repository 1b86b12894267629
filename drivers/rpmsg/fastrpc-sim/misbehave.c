// SPDX-License-Identifier: GPL-2.0-only
/*
 * What goes wrong with DSPs, on demand, and what can be seen of this one: files
 * in debugfs, described in Documentation/misc-devices/fastrpc-sim.rst.
 */

#include <linux/cleanup.h>
#include <linux/debugfs.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include "sim.h"

static const char * const faults[] = {
	[SIM_BEHAVE]		= "behave",
	[SIM_LATE]		= "late",
	[SIM_STALE]		= "stale",
	[SIM_SHORT]		= "short",
	[SIM_WRONG_CONTEXT]	= "wrong-context",
	[SIM_DUPLICATE]		= "duplicate",
	[SIM_METADATA]		= "metadata",
	[SIM_EXIT]		= "exit",
	[SIM_SILENT]		= "silent",
	[SIM_CRASH]		= "crash",
};

/**
 * sim_misbehave_early() - misbehave before a call is carried out
 * @call: the call
 *
 * Return: whether the call shall wait then, so that a reply that should not
 * have been taken for one to it shows
 */
bool sim_misbehave_early(struct sim_call *call)
{
	struct sim_dsp *dsp = call->dsp;

	switch (call->fault) {
	case SIM_LATE:
		return true;
	case SIM_STALE:
		sim_deliver(dsp, call->ctx - SIM_CTX_SEQUENCE, 0, sizeof(struct sim_reply));
		return true;
	case SIM_SHORT:
		sim_deliver(dsp, call->ctx, 0, offsetof(struct sim_reply, retval));
		return true;
	case SIM_WRONG_CONTEXT:
		sim_deliver(dsp, call->ctx ^ SIM_CTX_ID, 0, sizeof(struct sim_reply));
		return true;
	default:
		return false;
	}
}

static bool polled(struct sim_call *call)
{
	return call->dsp->poll && call->handle >= SIM_HANDLE_MODULES &&
	       call->pd == SIM_PD_USER && !call->retval;
}

/**
 * sim_misbehave() - misbehave when a call has been carried out
 * @call: the call
 *
 * Return: whether the poll word has told the caller that the call is done
 */
bool sim_misbehave(struct sim_call *call)
{
	struct sim_dsp *dsp = call->dsp;

	if (call->fault == SIM_METADATA)
		sim_corrupt_metadata(call);
	/* What the kernel asks for itself is for no process. */
	if (call->fault == SIM_EXIT && call->client_id) {
		sim_end_process(dsp, call->client_id, SIM_EBADSTATE);
		sim_deliver(dsp, SIM_CTX_PD_EXIT, 0, sizeof(struct sim_reply));
		call->retval = SIM_EBADSTATE;
	}
	return polled(call) && !sim_write_poll_word(call);
}

/**
 * sim_reply() - reply to a call
 * @call: the call, which is on no list
 */
void sim_reply(struct sim_call *call)
{
	struct sim_dsp *dsp = call->dsp;

	sim_deliver(dsp, call->ctx, call->retval, sizeof(struct sim_reply));
	if (call->fault == SIM_DUPLICATE)
		sim_deliver(dsp, call->ctx, call->retval, sizeof(struct sim_reply));
}

/* Each write is a line: a fault, and the number of a handle or nothing. */
static ssize_t fault_write(struct file *file, const char __user *from, size_t len, loff_t *pos)
{
	struct sim_dsp *dsp = file->private_data;
	u32 handle = SIM_ANY_HANDLE;
	char line[32], *rest, *name;
	int fault;

	if (len >= sizeof(line))
		return -EINVAL;
	if (copy_from_user(line, from, len))
		return -EFAULT;
	line[len] = '\0';
	rest = strim(line);
	name = strsep(&rest, " \t");
	fault = match_string(faults, ARRAY_SIZE(faults), name);
	if (fault < 0)
		return fault;
	if (rest && kstrtou32(skip_spaces(rest), 0, &handle))
		return -EINVAL;

	guard(spinlock_irqsave)(&dsp->lock);
	dsp->fault = fault;
	dsp->fault_handle = handle;
	return len;
}

static const struct file_operations fault_fops = {
	.owner = THIS_MODULE,
	.open = simple_open,
	.write = fault_write,
};

static int state_set(void *data, u64 on)
{
	struct sim_dsp *dsp = data;

	guard(mutex)(&dsp->state_lock);
	if (on)
		return sim_channel_start(dsp);
	sim_channel_stop(dsp);
	return 0;
}

static int state_get(void *data, u64 *on)
{
	struct sim_dsp *dsp = data;

	guard(mutex)(&dsp->state_lock);
	*on = !!dsp->channel;
	return 0;
}
DEFINE_DEBUGFS_ATTRIBUTE(state_fops, state_get, state_set, "%llu\n");

static int calls_get(void *data, u64 *count)
{
	struct sim_dsp *dsp = data;

	guard(spinlock_irqsave)(&dsp->lock);
	*count = list_count_nodes(&dsp->calls);
	return 0;
}
DEFINE_DEBUGFS_ATTRIBUTE(calls_fops, calls_get, NULL, "%llu\n");

static int processes_get(void *data, u64 *count)
{
	struct sim_dsp *dsp = data;

	guard(mutex)(&dsp->process_lock);
	*count = list_count_nodes(&dsp->processes);
	return 0;
}
DEFINE_DEBUGFS_ATTRIBUTE(processes_fops, processes_get, NULL, "%llu\n");

static int busy_get(void *data, u64 *ns)
{
	struct sim_dsp *dsp = data;

	*ns = atomic64_read(&dsp->busy_ns);
	return 0;
}
DEFINE_DEBUGFS_ATTRIBUTE(busy_fops, busy_get, NULL, "%llu\n");

/**
 * sim_debugfs_create() - make the DSP's files
 * @dsp: the DSP
 * @parent: the module's folder
 */
void sim_debugfs_create(struct sim_dsp *dsp, struct dentry *parent)
{
	struct dentry *dir = debugfs_create_dir(dsp->label, parent);

	debugfs_create_file_unsafe("online", 0600, dir, dsp, &state_fops);
	debugfs_create_file("misbehave", 0200, dir, dsp, &fault_fops);
	debugfs_create_u32("delay_ms", 0600, dir, &dsp->delay_ms);
	debugfs_create_bool("poll", 0600, dir, &dsp->poll);
	debugfs_create_bool("poll_reply", 0600, dir, &dsp->poll_reply);
	debugfs_create_bool("no_capabilities", 0600, dir, &dsp->no_capabilities);
	debugfs_create_atomic_t("outside", 0400, dir, &dsp->outside);
	debugfs_create_x64("heap_address", 0400, dir, &dsp->heap_address);
	debugfs_create_u64("heap_size", 0400, dir, &dsp->heap_size);
	debugfs_create_file_unsafe("busy_ns", 0400, dir, dsp, &busy_fops);
	debugfs_create_file_unsafe("calls", 0400, dir, dsp, &calls_fops);
	debugfs_create_file_unsafe("processes", 0400, dir, dsp, &processes_fops);
}
