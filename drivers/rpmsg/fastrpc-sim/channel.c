// SPDX-License-Identifier: GPL-2.0-only
/*
 * The channel: requests come in, each becomes a call that a worker carries out,
 * and replies go out as a real transport delivers them, under a spinlock with
 * interrupts off.
 */

#include <linux/cleanup.h>
#include <linux/ktime.h>
#include <linux/slab.h>
#include <linux/wait_bit.h>

#include "../rpmsg_internal.h"
#include "sim.h"

struct sim_channel {
	struct rpmsg_device rpdev;
	struct sim_dsp *dsp;
};

struct sim_endpoint {
	struct rpmsg_endpoint ept;
	struct sim_dsp *dsp;
};

struct workqueue_struct *sim_workqueue;
/* Channels whose release is to come: a driver may hold one that was stopped. */
atomic_t sim_channels;

static struct sim_channel *to_channel(struct rpmsg_device *rpdev)
{
	return container_of(rpdev, struct sim_channel, rpdev);
}

static struct sim_endpoint *to_endpoint(struct rpmsg_endpoint *ept)
{
	return container_of(ept, struct sim_endpoint, ept);
}

static void free_call(struct sim_call *call)
{
	kvfree(call->args);
	kfree(call);
}

/**
 * sim_deliver() - give the driver a message
 * @dsp: where it comes from
 * @ctx: context of the reply
 * @retval: result of the call
 * @len: how much of the reply to send, in bytes
 *
 * Context: any; the driver's callback runs in atomic context, as it does below
 * real transports.
 */
void sim_deliver(struct sim_dsp *dsp, u64 ctx, s32 retval, int len)
{
	struct sim_reply reply = {
		.ctx = cpu_to_le64(ctx),
		.retval = cpu_to_le32(retval),
	};

	guard(spinlock_irqsave)(&dsp->rx_lock);
	if (dsp->ept)
		dsp->ept->cb(dsp->ept->rpdev, &reply, len, dsp->ept->priv, dsp->ept->addr);
}

/* Take the call off the list; false if somebody else has. */
static bool claim(struct sim_call *call)
{
	guard(spinlock_irqsave)(&call->dsp->lock);
	if (list_empty(&call->node))
		return false;
	list_del_init(&call->node);
	return true;
}

/* The call is over, with a reply to it or without one. */
static void end(struct sim_call *call, bool reply)
{
	if (!claim(call))
		return;
	atomic64_add(ktime_get_ns() - call->taken, &call->dsp->busy_ns);
	if (reply)
		sim_reply(call);
	free_call(call);
}

/* Do the step after this one, now or in a while, unless the call has been taken away. */
static void next_step(struct sim_call *call, unsigned int step, unsigned int delay_ms)
{
	guard(spinlock_irqsave)(&call->dsp->lock);
	if (list_empty(&call->node))
		return;
	call->step = step;
	queue_delayed_work(sim_workqueue, &call->work, msecs_to_jiffies(delay_ms));
}

static void park(struct sim_call *call)
{
	guard(spinlock_irqsave)(&call->dsp->lock);
	call->parked = true;
}

/* The listener waits for its process to end: an end is seen here, or sees it parked. */
static s32 listen(struct sim_call *call)
{
	struct sim_dsp *dsp = call->dsp;
	struct sim_process *process;

	guard(mutex)(&dsp->process_lock);
	process = sim_find_process(dsp, call->client_id);
	if (!process || process->pd != call->pd)
		return SIM_EBADSTATE;
	park(call);
	return 0;
}

static s32 carry_out(struct sim_call *call)
{
	s32 ret = sim_load_args(call);

	if (ret)
		return ret;
	/* From here on nothing but the caller has any use for it. */
	if (call->fault == SIM_METADATA)
		sim_corrupt_metadata(call);
	switch (call->handle) {
	case SIM_HANDLE_PROCESS:
	case SIM_HANDLE_UTILITIES:
		return sim_manage_process(call);
	default:
		return sim_invoke_module(call);
	}
}

/* The call may be gone after it. */
static void proceed(struct sim_call *call)
{
	struct sim_dsp *dsp = call->dsp;
	s32 ret;

	switch (call->step) {
	case SIM_START:
		if (sim_misbehave_early(call)) {
			next_step(call, SIM_RUN, dsp->delay_ms);
			return;
		}
		fallthrough;
	case SIM_RUN:
		if (call->fault == SIM_CRASH)
			schedule_work(&dsp->crash_work);
		if (call->fault >= SIM_SILENT) {
			park(call);
			return;
		}
		if (call->handle == SIM_HANDLE_LISTENER) {
			ret = listen(call);
			if (!ret)
				return;
		} else {
			ret = carry_out(call);
		}
		call->retval = ret;
		if (call->delay_ms) {
			next_step(call, SIM_ANSWER, call->delay_ms);
			return;
		}
		fallthrough;
	case SIM_ANSWER:
		/* The poll word may be the answer; who sees that may free the payload. */
		if (!sim_misbehave(call))
			end(call, true);
		else if (dsp->poll_reply)
			next_step(call, SIM_REPLY, dsp->delay_ms);
		else
			end(call, false);
		return;
	case SIM_REPLY:
		end(call, true);
	}
}

/* A worker at a call, which it may have answered and freed already */
struct sim_run {
	struct list_head node;
	u32 client_id;
};

static void work(struct work_struct *w)
{
	struct sim_call *call = container_of(to_delayed_work(w), struct sim_call, work);
	struct sim_run run = { .client_id = call->client_id };
	struct sim_dsp *dsp = call->dsp;

	scoped_guard(spinlock_irqsave, &dsp->lock)
		list_add(&run.node, &dsp->runs);
	proceed(call);
	scoped_guard(spinlock_irqsave, &dsp->lock)
		list_del(&run.node);
	wake_up_all(&dsp->run_ended);
}

/**
 * sim_end_calls() - answer the calls of a process that wait for something
 * @dsp: the DSP
 * @client_id: the process
 * @retval: the answer
 *
 * A call that a worker is about to carry out is left to the worker, which
 * finds that the process is gone.
 *
 * Return: whether there were any
 */
bool sim_end_calls(struct sim_dsp *dsp, u32 client_id, s32 retval)
{
	struct sim_call *call, *tmp;
	LIST_HEAD(ended);
	bool any;

	scoped_guard(spinlock_irqsave, &dsp->lock) {
		list_for_each_entry_safe(call, tmp, &dsp->calls, node)
			if (call->client_id == client_id &&
			    (call->parked || cancel_delayed_work(&call->work)))
				list_move_tail(&call->node, &ended);
	}
	any = !list_empty(&ended);
	list_for_each_entry_safe(call, tmp, &ended, node) {
		/* What never answers does not do it now. */
		if (call->fault < SIM_SILENT)
			sim_deliver(dsp, call->ctx, retval, sizeof(struct sim_reply));
		free_call(call);
	}
	return any;
}

static bool is_busy(struct sim_dsp *dsp, u32 client_id)
{
	struct sim_call *call;
	struct sim_run *run;

	guard(spinlock_irqsave)(&dsp->lock);
	list_for_each_entry(run, &dsp->runs, node)
		if (run->client_id == client_id)
			return true;
	list_for_each_entry(call, &dsp->calls, node)
		if (call->client_id == client_id)
			return true;
	return false;
}

/**
 * sim_finish_calls() - wait until a process that has ended touches no memory
 * @dsp: the DSP
 * @client_id: the process
 * @retval: the answer to its calls that wait for something
 *
 * Context: may sleep; not from a worker at a call of that process
 * Return: whether there were any of these
 */
bool sim_finish_calls(struct sim_dsp *dsp, u32 client_id, s32 retval)
{
	bool any = false;

	/* What a worker was at may have begun to wait since. */
	while (!wait_event_timeout(dsp->run_ended, !is_busy(dsp, client_id), HZ / 50))
		any |= sim_end_calls(dsp, client_id, retval);
	return any;
}

static struct sim_call *first_call(struct sim_dsp *dsp)
{
	struct sim_call *call;

	guard(spinlock_irqsave)(&dsp->lock);
	dsp->up = false;
	call = list_first_entry_or_null(&dsp->calls, struct sim_call, node);
	if (call)
		list_del_init(&call->node);
	return call;
}

/* From here on the DSP touches no memory and delivers nothing. */
static void quiesce(struct sim_dsp *dsp)
{
	struct sim_call *call;

	scoped_guard(spinlock_irqsave, &dsp->rx_lock)
		dsp->ept = NULL;
	while ((call = first_call(dsp))) {
		cancel_delayed_work_sync(&call->work);
		free_call(call);
	}
	/* A worker that has taken its own call off is not on the list. */
	flush_workqueue(sim_workqueue);
	sim_end_processes(dsp);
	sim_forget_banks(dsp);
}

static int send(struct sim_dsp *dsp, const void *data, int len, gfp_t gfp)
{
	const struct sim_request *request = data;
	struct sim_call *call;

	if (len != sizeof(*request))
		return -EINVAL;
	call = kzalloc_obj(*call, gfp);
	if (!call)
		return -ENOMEM;

	call->dsp = dsp;
	call->taken = ktime_get_ns();
	call->client_id = le32_to_cpu(request->client_id);
	call->ctx = le64_to_cpu(request->ctx);
	call->pd = call->ctx & SIM_CTX_PD;
	call->handle = le32_to_cpu(request->handle);
	call->sc = le32_to_cpu(request->sc);
	call->addr = le64_to_cpu(request->addr);
	INIT_DELAYED_WORK(&call->work, work);

	guard(spinlock_irqsave)(&dsp->lock);
	if (!dsp->up) {
		kfree(call);
		return -ECONNRESET;
	}
	if (dsp->fault && (dsp->fault_handle == call->handle ||
			   (dsp->fault_handle == SIM_ANY_HANDLE &&
			    call->handle != SIM_HANDLE_PROCESS &&
			    call->handle != SIM_HANDLE_UTILITIES))) {
		call->fault = dsp->fault;
		dsp->fault = SIM_BEHAVE;
	}
	list_add_tail(&call->node, &dsp->calls);
	queue_delayed_work(sim_workqueue, &call->work, 0);
	return 0;
}

static int sim_send(struct rpmsg_endpoint *ept, const void *data, int len)
{
	return send(to_endpoint(ept)->dsp, data, len, GFP_KERNEL);
}

static int sim_trysend(struct rpmsg_endpoint *ept, const void *data, int len)
{
	return send(to_endpoint(ept)->dsp, data, len, GFP_ATOMIC);
}

static void release_endpoint(struct kref *kref)
{
	kfree(to_endpoint(container_of(kref, struct rpmsg_endpoint, refcount)));
}

static void sim_destroy_ept(struct rpmsg_endpoint *ept)
{
	quiesce(to_endpoint(ept)->dsp);
	kref_put(&ept->refcount, release_endpoint);
}

static const struct rpmsg_endpoint_ops sim_endpoint_ops = {
	.destroy_ept = sim_destroy_ept,
	.send = sim_send,
	.trysend = sim_trysend,
};

static struct rpmsg_endpoint *sim_create_ept(struct rpmsg_device *rpdev, rpmsg_rx_cb_t cb,
					     void *priv, struct rpmsg_channel_info chinfo)
{
	struct sim_dsp *dsp = to_channel(rpdev)->dsp;
	struct sim_endpoint *endpoint;
	struct rpmsg_endpoint *ept;

	endpoint = kzalloc_obj(*endpoint);
	if (!endpoint)
		return NULL;
	endpoint->dsp = dsp;
	ept = &endpoint->ept;
	kref_init(&ept->refcount);
	mutex_init(&ept->cb_lock);
	ept->rpdev = rpdev;
	ept->cb = cb;
	ept->priv = priv;
	ept->addr = rpdev->src;
	ept->ops = &sim_endpoint_ops;

	scoped_guard(spinlock_irqsave, &dsp->rx_lock) {
		/* A FastRPC channel has its one endpoint. */
		if (dsp->ept) {
			kfree(endpoint);
			return NULL;
		}
		dsp->ept = ept;
	}
	sim_expect_banks(dsp, &rpdev->dev);
	scoped_guard(spinlock_irqsave, &dsp->lock)
		dsp->up = true;
	return ept;
}

/* Called before the driver is removed, and with it the banks. */
static int sim_announce_destroy(struct rpmsg_device *rpdev)
{
	quiesce(to_channel(rpdev)->dsp);
	return 0;
}

static const struct rpmsg_device_ops sim_device_ops = {
	.create_ept = sim_create_ept,
	.announce_destroy = sim_announce_destroy,
};

static void release_channel(struct device *dev)
{
	struct sim_channel *channel = to_channel(to_rpmsg_device(dev));

	of_node_put(dev->of_node);
	kfree(channel);
	if (atomic_dec_and_test(&sim_channels))
		wake_up_var(&sim_channels);
}

/**
 * sim_channel_start() - offer the DSP's channel
 * @dsp: the DSP
 *
 * Context: may sleep; @dsp's state_lock is held.
 * Return: 0, also if it is there already, or an error
 */
int sim_channel_start(struct sim_dsp *dsp)
{
	struct sim_channel *channel;
	struct rpmsg_device *rpdev;
	int ret;

	if (dsp->channel)
		return 0;
	channel = kzalloc_obj(*channel);
	if (!channel)
		return -ENOMEM;
	atomic_inc(&sim_channels);

	channel->dsp = dsp;
	rpdev = &channel->rpdev;
	rpdev->ops = &sim_device_ops;
	rpdev->src = dsp->index;
	rpdev->dst = RPMSG_ADDR_ANY;
	rpdev->little_endian = true;
	strscpy(rpdev->id.name, "fastrpcglink-apps-dsp", sizeof(rpdev->id.name));
	rpdev->dev.parent = dsp->parent;
	rpdev->dev.of_node = of_node_get(dsp->node);
	rpdev->dev.release = release_channel;

	ret = rpmsg_register_device(rpdev);
	if (!ret)
		dsp->channel = channel;
	return ret;
}

/**
 * sim_channel_stop() - take the DSP's channel away, as a crash does
 * @dsp: the DSP
 *
 * Context: may sleep; @dsp's state_lock is held. Not from a call's worker.
 */
void sim_channel_stop(struct sim_dsp *dsp)
{
	if (!dsp->channel)
		return;
	device_unregister(&dsp->channel->rpdev.dev);
	dsp->channel = NULL;
}
