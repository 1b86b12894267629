// SPDX-License-Identifier: GPL-2.0-only
/*
 * Calls: from a request to the reply to it, whichever of caller, DSP and device
 * goes first.
 */

#include <linux/cleanup.h>
#include <linux/dma-mapping.h>
#include <linux/iopoll.h>
#include <linux/sched.h>
#include <linux/slab.h>

#include <drm/drm_drv.h>
#include <drm/drm_print.h>

#include "qda.h"

#define QDA_TIMEOUT	(10 * HZ)
#define QDA_POLL_US	10000
#define QDA_POLL_AGAIN	(HZ / 50)
#define QDA_POLL_REAP	(HZ / 5)

static size_t inline_start(unsigned int nargs)
{
	return ALIGN(qda_payload_size(nargs), QDA_ALIGN);
}

/**
 * qda_max_calls() - tell how many calls a session can have pending
 * @qda: the DSP
 *
 * Return: so many that the sessions leave some of all ids to the kernel
 */
unsigned int qda_max_calls(struct qda_device *qda)
{
	return (QDA_MAX_ID - QDA_KERNEL_CALLS) / qda->nslots;
}

static void free_call(struct qda_call *call)
{
	list_del(&call->node);
	kvfree(call->args);
	kvfree(call->mappings);
	kfree(call);
}

static struct qda_call *alloc_call(struct qda_session *session, size_t size)
{
	struct qda_call *call;

	call = kzalloc_obj(*call, GFP_KERNEL_ACCOUNT);
	if (!call)
		return NULL;
	INIT_LIST_HEAD(&call->node);
	call->session = session;
	call->payload_size = PAGE_ALIGN(size);
	call->capacity = (call->payload_size - sizeof(struct qda_wire_tail)) / QDA_WIRE_ARG;
	call->args = kvzalloc_objs(*call->args, call->capacity, GFP_KERNEL_ACCOUNT);
	call->mappings = kvzalloc_objs(*call->mappings, call->capacity, GFP_KERNEL_ACCOUNT);
	if (call->args && call->mappings)
		call->payload = dma_alloc_coherent(&session->bank->dev, call->payload_size,
						   &call->payload_addr, GFP_KERNEL);
	if (!call->payload) {
		free_call(call);
		return NULL;
	}
	init_completion(&call->ended);
	list_add(&call->node, &session->call_pool);
	return call;
}

/**
 * qda_calls_free() - free the payloads of a session's calls, and those not in use
 * @session: the session, whose lock is held and which is in its bank
 */
void qda_calls_free(struct qda_session *session)
{
	struct qda_call *call, *tmp;

	list_for_each_entry_safe(call, tmp, &session->call_pool, node) {
		dma_free_coherent(&session->bank->dev, call->payload_size, call->payload,
				  call->payload_addr);
		call->payload = NULL;
		if (!call->busy)
			free_call(call);
	}
}

/**
 * qda_call_reserve() - keep a call for the end of a session
 * @session: the session, which has made no call yet but the one that began it
 *
 * Whatever its program takes after this, there is memory to end it.
 */
void qda_call_reserve(struct qda_session *session)
{
	struct qda_call *call;

	guard(mutex)(&session->lock);
	call = list_first_entry_or_null(&session->call_pool, struct qda_call, node);
	if (call)
		call->reserved = true;
}

static struct qda_call *find_call(struct qda_session *session, bool last, unsigned int nargs,
				  size_t size)
{
	struct qda_call *call;

	list_for_each_entry(call, &session->call_pool, node)
		if (!call->busy && (!call->reserved || last) && call->capacity >= nargs &&
		    call->payload_size >= size)
			return call;
	return NULL;
}

static bool is_last(bool kernel, u32 module, u32 scalars)
{
	return kernel && module == QDA_MODULE_PROCESS &&
	       qda_scalars_method(scalars) == QDA_PROCESS_RELEASE;
}

/**
 * qda_call_get() - begin a call
 * @session: where to make it
 * @kernel: the kernel makes it, not user space
 * @module: that it goes to
 * @scalars: method and number of arguments, which are empty at first
 * @inline_size: room for qda_call_inline_arg(), each argument aligned to 128 bytes
 *
 * Return: the call, which qda_call_put() ends, or an error pointer: -EPIPE if
 * the session has left its bank, -EBUSY for too many at a time, or -ENOMEM
 */
struct qda_call *qda_call_get(struct qda_session *session, bool kernel, u32 module, u32 scalars,
			      size_t inline_size)
{
	unsigned int nargs = qda_scalars_args(scalars);
	size_t size = inline_start(nargs) + inline_size;
	bool last = is_last(kernel, module, scalars);
	struct qda_call *call;

	guard(mutex)(&session->lock);
	if (!session->bank)
		return ERR_PTR(-EPIPE);
	if (!kernel && session->ncalls >= qda_max_calls(session->qda))
		return ERR_PTR(-EBUSY);
	call = find_call(session, last, nargs, size);
	if (!call)
		call = alloc_call(session, size);
	if (!call)
		return ERR_PTR(-ENOMEM);

	kref_get(&session->ref);
	session->ncalls += !kernel;
	call->busy = true;
	call->kernel = kernel;
	call->last = last;
	call->sent = false;
	call->done = false;
	call->abandoned = false;
	call->timed_out = false;
	reinit_completion(&call->ended);
	call->module = module;
	call->scalars = scalars;
	call->nargs = nargs;
	call->inline_size = 0;
	call->error = 0;
	call->result = 0;
	memset(call->args, 0, nargs * sizeof(*call->args));
	memset(call->mappings, 0, nargs * sizeof(*call->mappings));
	return call;
}

/* Nobody else has the call any more. */
static void recycle(struct qda_call *call)
{
	struct qda_session *session = call->session;
	unsigned int i;

	scoped_guard(mutex, &session->lock) {
		for (i = 0; i < call->nargs; i++)
			if (call->mappings[i])
				qda_mapping_put(session, call->mappings[i]);
		session->ncalls -= !call->kernel;
		call->busy = false;
		if (call->payload)
			memset(call->payload, 0, inline_start(call->nargs) + call->inline_size);
		else
			free_call(call);
	}
	qda_session_put(session);
}

/* Nobody waits for the call any more, which is over now. */
static void finish_late(struct qda_call *call)
{
	/* The session has ended late. */
	if (call->last && !call->error && !call->result)
		qda_session_ended(call->session);
	recycle(call);
}

static bool may_poll(struct qda_call *call)
{
	return call->session->poll && !call->kernel && call->module > QDA_MODULE_FIXED &&
	       call->session->pd == QDA_PD_USER;
}

/**
 * qda_call_put() - leave a call
 * @call: the call; if the DSP has it still, it keeps what it needs until it replies
 */
void qda_call_put(struct qda_call *call)
{
	scoped_guard(spinlock_irqsave, &call->session->qda->call_lock) {
		if (call->sent && !call->done) {
			call->abandoned = true;
			if (may_poll(call))
				schedule_delayed_work(&call->session->qda->reap_work,
						      QDA_POLL_REAP);
			return;
		}
	}
	/* The reply may have come since. */
	if (call->timed_out)
		finish_late(call);
	else
		recycle(call);
}

/**
 * qda_call_set_arg() - let an argument be a part of a buffer
 * @call: the call, which has not been sent
 * @i: number of the argument
 * @obj: the buffer
 * @handle: what the DSP calls the buffer
 * @offset: where the part begins
 * @len: its length in bytes, not 0
 *
 * Return: 0, -EINVAL if the buffer has no such part, or an error of
 * qda_mapping_get()
 */
int qda_call_set_arg(struct qda_call *call, unsigned int i, struct drm_gem_object *obj,
		     u32 handle, u64 offset, u64 len)
{
	struct qda_session *session = call->session;
	struct qda_mapping *mapping;

	if (offset > obj->size || len > obj->size - offset)
		return -EINVAL;
	/* Those by handle have 32 bits for each on the wire. */
	if (i >= qda_scalars_bufs(call->scalars) && (offset > U32_MAX || len > U32_MAX))
		return -EINVAL;

	guard(mutex)(&session->lock);
	mapping = qda_mapping_get(session, obj);
	if (IS_ERR(mapping))
		return PTR_ERR(mapping);
	call->mappings[i] = mapping;
	call->args[i].addr = mapping->addr + offset;
	call->args[i].len = len;
	call->args[i].buffer = mapping->addr;
	call->args[i].buffer_size = obj->size;
	call->args[i].handle = handle;
	return 0;
}

/**
 * qda_call_inline_arg() - let an argument lie in the payload, for kernel calls
 * @call: the call, which has not been sent
 * @i: number of the argument
 * @data: what it is, or NULL if the DSP writes it
 * @len: its length in bytes
 *
 * Return: where it lies
 */
void *qda_call_inline_arg(struct qda_call *call, unsigned int i, const void *data, size_t len)
{
	size_t offset = inline_start(call->nargs) + call->inline_size;
	struct qda_session *session = call->session;

	guard(mutex)(&session->lock);
	/* Gone with the device: qda_call_send() will say so. */
	if (!session->bank)
		return NULL;
	call->inline_size += QDA_INLINE(len);
	call->args[i].addr = qda_session_address(session, call->payload_addr) + offset;
	call->args[i].len = len;
	if (data)
		memcpy(call->payload + offset, data, len);
	return call->payload + offset;
}

/*
 * Synchronise arguments, of which each may be a large buffer, or all of them the
 * same one: neither a caller that is killed nor who unmaps them, as the DSP is
 * gone, need wait for all.
 */
static int sync_args(struct qda_call *call, bool outputs,
		     void (*sync)(struct qda_session *session, struct qda_mapping *mapping,
				  u64 offset, u64 len))
{
	unsigned int i;

	for (i = 0; i < call->nargs; i++) {
		struct qda_mapping *mapping = call->mappings[i];

		if (!mapping || (outputs && !qda_scalars_is_output(call->scalars, i)))
			continue;
		sync(call->session, mapping, call->args[i].addr - mapping->addr,
		     call->args[i].len);
		cond_resched();
		if (fatal_signal_pending(current))
			return -EINTR;
		if (READ_ONCE(call->session->qda->dead))
			return -EPIPE;
	}
	return 0;
}

/* Everything that the DSP shall see is in memory after this. */
static int prepare(struct qda_call *call, struct qda_request *request)
{
	struct qda_session *session = call->session;
	int ret;

	guard(mutex)(&session->lock);
	if (!session->bank)
		return -EPIPE;
	/* Outputs too: lines that the CPU writes back later must not undo what the DSP wrote. */
	ret = sync_args(call, false, qda_mapping_for_device);
	if (ret)
		return ret;
	qda_payload_write(call->payload, call->scalars, call->args);
	request->tid = cpu_to_le32(task_pid_nr(current));
	request->module = cpu_to_le32(call->module);
	request->scalars = cpu_to_le32(call->scalars);
	request->addr = cpu_to_le64(qda_session_address(session, call->payload_addr));
	request->size = cpu_to_le64(PAGE_ALIGN(inline_start(call->nargs) + call->inline_size));
	return 0;
}

static int add_call(struct qda_device *qda, struct qda_call *call)
{
	unsigned int tries = 0;
	u32 id;

	guard(spinlock_irqsave)(&qda->call_lock);
	if (qda->dead)
		return -EPIPE;
	id = qda->last_id;
	do {
		if (tries++ == QDA_MAX_ID)
			return -EBUSY;
		id = id % QDA_MAX_ID + 1;
	} while (qda->calls[id]);
	qda->last_id = id;
	qda->calls[id] = call;
	call->id = id;
	call->ctx = qda_context(++qda->sequence, call->id, call->session->pd);
	call->sent = true;
	return 0;
}

/**
 * qda_call_send() - send a call to the DSP
 * @call: the call, with all its arguments
 * @client_id: the session, or 0 for what the kernel asks for itself
 *
 * Return: 0; -EPIPE if the DSP is gone or the session about to end, -EBUSY if it
 * has too many calls, -EINTR if the caller is killed, or what the transport returns,
 * but never -ETIMEDOUT: the DSP has no such call
 */
int qda_call_send(struct qda_call *call, u32 client_id)
{
	struct qda_request request = { .client_id = cpu_to_le32(client_id) };
	struct qda_session *session = call->session;
	struct qda_device *qda = session->qda;
	int ret;

	guard(rwsem_read)(&session->sending);
	if (session->ending && !call->last)
		return -EPIPE;
	ret = prepare(call, &request);
	if (ret)
		return ret;
	ret = add_call(qda, call);
	if (ret)
		return ret;
	request.ctx = cpu_to_le64(call->ctx);

	/* Not drm_dev_enter(): what it enters is all devices', and this may wait for the DSP. */
	guard(rwsem_read)(&qda->transport_lock);
	/* All calls have ended when the transport goes. */
	if (!qda->transport)
		return 0;
	dma_wmb();
	ret = qda->transport->send(qda, &request);
	if (!ret)
		return 0;
	scoped_guard(spinlock_irqsave, &qda->call_lock) {
		if (!call->done)
			qda->calls[call->id] = NULL;
		call->done = true;
	}
	/* Neither a timeout of the call nor a reason to make it again. */
	return ret == -ETIMEDOUT || ret == -ERESTARTSYS ? -EAGAIN : ret;
}

/* The call is over. */
static void end(struct qda_device *qda, struct qda_call *call)
{
	lockdep_assert_held(&qda->call_lock);
	qda->calls[call->id] = NULL;
	call->done = true;
	if (call->abandoned) {
		list_add_tail(&call->reap, &qda->reap);
		mod_delayed_work(system_percpu_wq, &qda->reap_work, 0);
	} else {
		complete(&call->ended);
	}
}

/**
 * qda_receive() - take a reply
 * @qda: the DSP that it comes from
 * @ctx: context that it has
 * @result: what the call returned
 *
 * What is not the reply to a call that is pending is dropped: the DSP is not
 * trusted.
 *
 * Context: any
 */
void qda_receive(struct qda_device *qda, u64 ctx, s32 result)
{
	struct qda_call *call;

	guard(spinlock_irqsave)(&qda->call_lock);
	call = qda->calls[FIELD_GET(QDA_CTX_ID, ctx)];
	/* Its other calls end by themselves when a domain exits. */
	if (ctx == QDA_CTX_PD_EXIT || !call || call->ctx != ctx) {
		drm_dbg(&qda->drm, "no call has context %#llx\n", ctx);
		return;
	}
	call->result = result;
	end(qda, call);
}

/* The payload is there until the call is out of &qda_device.calls. */
static bool is_done(struct qda_call *call)
{
	const __le32 *word = call->payload + qda_payload_poll_word(call->nargs);

	return le32_to_cpu(READ_ONCE(*word)) == QDA_POLL_DONE || READ_ONCE(call->done);
}

/* Look for the reply in memory; calls that succeed may have it there. */
static void poll_reply(struct qda_call *call, unsigned int us)
{
	struct qda_device *qda = call->session->qda;
	bool done;
	int idx;

	/* The payload stays until the device is unplugged. */
	if (!drm_dev_enter(&qda->drm, &idx))
		return;
	if (!read_poll_timeout_atomic(is_done, done, done, 1, us, false, call)) {
		guard(spinlock_irqsave)(&qda->call_lock);
		if (!call->done)
			end(qda, call);
	}
	drm_dev_exit(idx);
}

/* A reply in memory wakes nobody: after a while, look for it now and then. */
static long wait_polling(struct qda_call *call)
{
	long ret;

	poll_reply(call, QDA_POLL_US);
	do {
		ret = wait_for_completion_interruptible_timeout(&call->ended, QDA_POLL_AGAIN);
		if (!ret)
			poll_reply(call, 1);
	} while (!ret);
	return ret;
}

/**
 * qda_call_wait() - wait for the reply to a call
 * @call: the call, which has been sent
 * @interruptible: by a signal; otherwise it waits for ten seconds at most
 *
 * Return: 0 if the DSP replied; then &qda_call.result is valid. -EPIPE if the
 * DSP is gone, -ETIMEDOUT, -EINTR if the caller is killed, or -EINPROGRESS for a
 * signal: the call goes on, so it must not be -EINTR, by which programs make it again
 */
int qda_call_wait(struct qda_call *call, bool interruptible)
{
	struct qda_session *session = call->session;

	if (may_poll(call)) {
		if (wait_polling(call) < 0)
			return -EINPROGRESS;
	} else if (interruptible) {
		if (wait_for_completion_interruptible(&call->ended))
			return -EINPROGRESS;
	} else if (!wait_for_completion_timeout(&call->ended, QDA_TIMEOUT)) {
		call->timed_out = true;
		return -ETIMEDOUT;
	}
	if (call->error)
		return call->error;

	dma_rmb();
	guard(mutex)(&session->lock);
	if (!session->bank)
		return -EPIPE;
	return sync_args(call, true, qda_mapping_for_cpu);
}

/**
 * qda_call_kernel() - send a call of the kernel's own, and wait for the reply
 * @call: the call
 * @result: where to put what the DSP says of it
 *
 * Return: 0 if the DSP carried it out, -EREMOTEIO if it did not, or an error of
 * qda_call_send() or qda_call_wait()
 */
int qda_call_kernel(struct qda_call *call, s32 *result)
{
	int ret;

	ret = qda_call_send(call, 0);
	if (!ret)
		ret = qda_call_wait(call, false);
	if (ret)
		return ret;
	*result = call->result;
	return call->result ? -EREMOTEIO : 0;
}

/**
 * qda_call_read() - read an argument that lies in the payload
 * @call: the call, which the DSP replied to
 * @from: where qda_call_inline_arg() put it
 * @to: where to copy it
 * @len: its length in bytes, which is the caller's own
 *
 * Return: 0, or -EPIPE if the DSP is gone
 */
int qda_call_read(struct qda_call *call, const void *from, void *to, size_t len)
{
	guard(mutex)(&call->session->lock);
	if (!call->payload)
		return -EPIPE;
	memcpy(to, from, len);
	return 0;
}

/* End the abandoned calls that have their reply in memory; true if others may get it yet. */
static bool poll_abandoned(struct qda_device *qda)
{
	struct qda_call *call;
	bool left = false;
	unsigned int id;

	guard(spinlock_irqsave)(&qda->call_lock);
	for (id = 1; id <= QDA_MAX_ID; id++) {
		call = qda->calls[id];
		if (!call || !call->abandoned || !may_poll(call))
			continue;
		if (is_done(call))
			end(qda, call);
		else
			left = true;
	}
	return left;
}

static void reap(struct work_struct *work)
{
	struct qda_device *qda = container_of(work, struct qda_device, reap_work.work);
	struct qda_call *call, *tmp;
	LIST_HEAD(calls);

	if (poll_abandoned(qda))
		schedule_delayed_work(&qda->reap_work, QDA_POLL_REAP);
	scoped_guard(spinlock_irqsave, &qda->call_lock)
		list_splice_init(&qda->reap, &calls);
	list_for_each_entry_safe(call, tmp, &calls, reap)
		finish_late(call);
}

void qda_calls_init(struct qda_device *qda)
{
	init_rwsem(&qda->transport_lock);
	spin_lock_init(&qda->call_lock);
	INIT_LIST_HEAD(&qda->reap);
	INIT_DELAYED_WORK(&qda->reap_work, reap);
}

/**
 * qda_calls_end() - end the calls of a session that the DSP was to release
 * @session: the session
 * @released: the DSP has released it
 *
 * It should have replied to them. Those that were to be polled it may have not.
 * The kernel's own ran elsewhere, and may do so still. So may those in a domain
 * that others use too, or that the DSP says it has not released: their callers
 * go, and their memory stays until the DSP replies.
 */
void qda_calls_end(struct qda_session *session, bool released)
{
	struct qda_device *qda = session->qda;
	struct qda_call *call;
	unsigned int id;

	guard(spinlock_irqsave)(&qda->call_lock);
	for (id = 1; id <= QDA_MAX_ID; id++) {
		call = qda->calls[id];
		if (!call || call->session != session || call->kernel)
			continue;
		call->error = -EPIPE;
		if (released && !session->shared_pd)
			end(qda, call);
		else if (!call->abandoned)
			complete(&call->ended);
	}
}

/**
 * qda_calls_kill() - end all calls, as the DSP is gone
 * @qda: the DSP
 *
 * Nobody has an abandoned call after this, and nobody can send one.
 */
void qda_calls_kill(struct qda_device *qda)
{
	struct qda_call *call;
	unsigned int id;

	scoped_guard(spinlock_irqsave, &qda->call_lock) {
		WRITE_ONCE(qda->dead, true);
		for (id = 1; id <= QDA_MAX_ID; id++) {
			call = qda->calls[id];
			if (!call)
				continue;
			call->error = -EPIPE;
			end(qda, call);
		}
	}
	cancel_delayed_work_sync(&qda->reap_work);
	reap(&qda->reap_work.work);
}
