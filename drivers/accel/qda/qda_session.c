// SPDX-License-Identifier: GPL-2.0-only
/*
 * Sessions. Nothing here knows what kind of file they belong to: qda_drv.c is a
 * front end for accel files, and there can be others.
 */

#include <linux/cleanup.h>
#include <linux/delay.h>
#include <linux/dma-mapping.h>
#include <linux/jiffies.h>
#include <linux/sched.h>
#include <linux/sizes.h>
#include <linux/slab.h>

#include <drm/drm_drv.h>
#include <drm/drm_print.h>
#include <drm/qda_accel.h>

#include "qda.h"

/* Memory that a user domain starts with: what the firmware expects. */
#define QDA_INIT_MEM_MIN	SZ_2M
#define QDA_INIT_MEM_PER_SHELL	4

/* How long to try to tell the DSP of the end, and how often */
#define QDA_END_TRY		(10 * HZ)
#define QDA_END_PAUSE_MS	20

static struct qda_session *new_session(struct qda_device *qda, bool own_slot)
{
	struct qda_session *session;
	struct qda_slot *slot = NULL;

	session = kzalloc_obj(*session);
	if (!session)
		return ERR_PTR(-ENOMEM);
	kref_init(&session->ref);
	mutex_init(&session->range_lock);
	init_rwsem(&session->sending);
	mutex_init(&session->lock);
	hash_init(session->mappings);
	INIT_LIST_HEAD(&session->ranges);
	INIT_LIST_HEAD(&session->call_pool);

	guard(mutex)(&qda->session_lock);
	/* Whoever comes later than this is not detached. */
	if (drm_dev_is_unplugged(&qda->drm)) {
		kfree(session);
		return ERR_PTR(-ENODEV);
	}
	if (own_slot) {
		slot = qda_slot_get(qda);
		if (!slot) {
			kfree(session);
			return ERR_PTR(-EBUSY);
		}
		session->client_id = slot - qda->slots + 1;
	}
	session->qda = qda;
	session->slot = slot;
	session->bank = slot ? slot->bank : qda->slots[0].bank;
	list_add_tail(&session->node, &qda->sessions);
	drm_dev_get(&qda->drm);
	return session;
}

/**
 * qda_session_new() - take room for a session, which the DSP does not know of yet
 * @qda: the DSP
 *
 * Return: the session, or an error pointer: -EBUSY if there is no room, -ENODEV
 * if the device is gone, or -ENOMEM
 */
struct qda_session *qda_session_new(struct qda_device *qda)
{
	return new_session(qda, true);
}

/* Leave the bank: nothing of the session is mapped after this. */
static void detach(struct qda_session *session)
{
	guard(mutex)(&session->lock);
	if (!session->bank)
		return;
	qda_mappings_unmap(session);
	qda_calls_free(session);
	if (session->init_mem)
		dma_free_coherent(&session->bank->dev, session->init_size, session->init_mem,
				  session->init_addr);
	session->bank = NULL;
}

static struct qda_session *take_orphan(struct qda_device *qda)
{
	struct qda_session *session;

	guard(mutex)(&qda->session_lock);
	list_for_each_entry(session, &qda->sessions, node) {
		if (session->orphan) {
			session->orphan = false;
			return session;
		}
	}
	return NULL;
}

/**
 * qda_sessions_detach() - unmap what sessions have mapped, as the DSP is gone
 * @qda: the DSP, which is unplugged and has no calls
 */
void qda_sessions_detach(struct qda_device *qda)
{
	struct qda_session *session;

	scoped_guard(mutex, &qda->session_lock)
		list_for_each_entry(session, &qda->sessions, node)
			detach(session);
	while ((session = take_orphan(qda)))
		qda_session_put(session);
}

static void free_session(struct kref *ref)
{
	struct qda_session *session = container_of(ref, struct qda_session, ref);
	struct qda_device *qda = session->qda;

	scoped_guard(mutex, &qda->session_lock) {
		qda_ranges_free(session);
		detach(session);
		list_del(&session->node);
		if (session->slot)
			session->slot->used = false;
	}
	mutex_destroy(&session->lock);
	mutex_destroy(&session->range_lock);
	kfree(session);
	drm_dev_put(&qda->drm);
}

/**
 * qda_session_put() - give a reference up
 * @session: the session; with the last one, it is unmapped and its room is free
 *
 * Context: may sleep
 */
void qda_session_put(struct qda_session *session)
{
	kref_put(&session->ref, free_session);
}

/* Attaching and releasing: all that the DSP needs is which session it is. */
static int call_with_id(struct qda_session *session, unsigned int method, s32 *result)
{
	__le32 client_id = cpu_to_le32(session->client_id);
	struct qda_call *call;
	int ret;

	call = qda_call_get(session, true, QDA_MODULE_PROCESS, DRM_QDA_SCALARS(method, 1, 0, 0, 0),
			    QDA_INLINE(sizeof(client_id)));
	if (IS_ERR(call))
		return PTR_ERR(call);
	qda_call_inline_arg(call, 0, &client_id, sizeof(client_id));
	ret = qda_call_kernel(call, result);
	qda_call_put(call);
	return ret;
}

static int alloc_init_mem(struct qda_session *session, u64 shell_size, struct qda_wire_page *page)
{
	guard(mutex)(&session->lock);
	if (!session->bank)
		return -EPIPE;
	session->init_size = ALIGN(max(QDA_INIT_MEM_MIN, QDA_INIT_MEM_PER_SHELL * shell_size),
				   SZ_1M);
	session->init_mem = dma_alloc_coherent(&session->bank->dev, session->init_size,
					       &session->init_addr, GFP_KERNEL | __GFP_NOWARN);
	if (!session->init_mem)
		return -ENOMEM;
	page->addr = cpu_to_le64(qda_session_address(session, session->init_addr));
	page->size = cpu_to_le64(session->init_size);
	return 0;
}

static int create_user(struct qda_session *session, const struct drm_qda_session_create *request,
		       struct drm_gem_object *shell, s32 *result)
{
	struct qda_wire_create create = {
		.client_id = cpu_to_le32(session->client_id),
		.shell_len = cpu_to_le32(request->shell_size),
		.pages = cpu_to_le32(1),
		.attributes = cpu_to_le32(request->attributes),
		.signature_len = cpu_to_le32(request->signature_size),
	};
	unsigned int method = request->attributes ? QDA_PROCESS_CREATE_ATTR : QDA_PROCESS_CREATE;
	char name[TASK_COMM_LEN];
	struct qda_wire_page page;
	struct qda_call *call;
	int ret;

	get_task_comm(name, current);
	create.name_len = cpu_to_le32(strlen(name) + 1);
	ret = alloc_init_mem(session, request->shell_size, &page);
	if (ret)
		return ret;
	call = qda_call_get(session, true, QDA_MODULE_PROCESS, DRM_QDA_SCALARS(method, 4, 0, 0, 0),
			    QDA_INLINE(sizeof(create)) + QDA_INLINE(sizeof(name)) +
			    QDA_INLINE(sizeof(page)));
	if (IS_ERR(call))
		return PTR_ERR(call);
	qda_call_inline_arg(call, 0, &create, sizeof(create));
	qda_call_inline_arg(call, 1, name, strlen(name) + 1);
	qda_call_inline_arg(call, 3, &page, sizeof(page));
	ret = qda_call_set_arg(call, 2, shell, 0, request->shell_offset, request->shell_size);
	if (!ret)
		ret = qda_call_kernel(call, result);
	qda_call_put(call);
	return ret;
}

/* The DSP is told of the heap once; a call that timed out may have done it. */
static int create_static(struct qda_session *session, const char *name, u32 name_size, s32 *result)
{
	struct qda_heap *heap = &session->qda->heap;
	struct qda_wire_create_static create = {
		.client_id = cpu_to_le32(session->client_id),
		.name_len = cpu_to_le32(name_size),
	};
	struct qda_wire_page page = {};
	struct qda_call *call;
	int ret;

	ACQUIRE(mutex_intr, lock)(&heap->lock);
	if (ACQUIRE_ERR(mutex_intr, &lock))
		return -EINTR;
	if (!heap->given) {
		create.pages = cpu_to_le32(1);
		page.addr = cpu_to_le64(heap->addr);
		page.size = cpu_to_le64(heap->size);
	}
	call = qda_call_get(session, true, QDA_MODULE_PROCESS,
			    DRM_QDA_SCALARS(QDA_PROCESS_CREATE_STATIC, 3, 0, 0, 0),
			    QDA_INLINE(sizeof(create)) + QDA_INLINE(name_size) +
			    QDA_INLINE(sizeof(page)));
	if (IS_ERR(call))
		return PTR_ERR(call);
	qda_call_inline_arg(call, 0, &create, sizeof(create));
	qda_call_inline_arg(call, 1, name, name_size);
	qda_call_inline_arg(call, 2, &page, sizeof(page));
	ret = qda_call_kernel(call, result);
	qda_call_put(call);
	if (!ret || ret == -ETIMEDOUT)
		heap->given = true;
	return ret;
}

/* The DSP may have the session until it goes: so long, nothing of it is given up. */
static void keep(struct qda_session *session)
{
	guard(mutex)(&session->qda->session_lock);
	/* Nobody would drop it after the device is unplugged; nothing is mapped then. */
	if (!session->bank || session->orphan || session->ended)
		return;
	kref_get(&session->ref);
	session->orphan = true;
}

/**
 * qda_session_ended() - the DSP has ended a session, soon or late
 * @session: the session; the caller still has a reference
 */
void qda_session_ended(struct qda_session *session)
{
	bool orphan;

	qda_calls_end(session, true);
	scoped_guard(mutex, &session->qda->session_lock) {
		orphan = session->orphan;
		session->orphan = false;
		session->ended = true;
	}
	if (orphan)
		qda_session_put(session);
}

/**
 * qda_session_create() - create a session
 * @qda: the DSP
 * @request: what user space asks for, its fields and its privilege checked; sets
 *	its result
 * @shell: what a user domain starts from
 * @name: of a static domain
 *
 * Return: the session, or an error pointer as DRM_IOCTL_QDA_SESSION_CREATE has it
 */
struct qda_session *qda_session_create(struct qda_device *qda,
				       struct drm_qda_session_create *request,
				       struct drm_gem_object *shell, const char *name)
{
	struct qda_session *session;
	s32 ended;
	int ret;

	session = qda_session_new(qda);
	if (IS_ERR(session))
		return session;
	session->poll = request->flags & DRM_QDA_SESSION_POLL;
	session->shared_pd = request->kind != DRM_QDA_SESSION_USER;

	switch (request->kind) {
	case DRM_QDA_SESSION_USER:
		session->pd = QDA_PD_USER;
		ret = create_user(session, request, shell, &request->result);
		break;
	case DRM_QDA_SESSION_STATIC:
		session->pd = QDA_PD_USER;
		ret = create_static(session, name, request->name_size, &request->result);
		break;
	case DRM_QDA_SESSION_ROOT:
		session->pd = QDA_PD_ROOT;
		ret = call_with_id(session, QDA_PROCESS_ATTACH, &request->result);
		break;
	default:
		session->pd = QDA_PD_SENSORS;
		ret = call_with_id(session, QDA_PROCESS_ATTACH, &request->result);
	}
	if (!ret) {
		qda_call_reserve(session);
		return session;
	}
	/* The DSP may do it yet, and has the session for ever if it does so after this. */
	if (ret == -ETIMEDOUT && qda_session_end(session, &ended))
		keep(session);
	qda_session_put(session);
	return ERR_PTR(ret);
}

/**
 * qda_session_end() - tell the DSP that a session has ended
 * @session: the session; the caller still has a reference
 * @result: where to put what the DSP says of it
 *
 * If the DSP cannot be told, it has the session still, and what is mapped for it
 * stays until the DSP goes.
 *
 * Return: 0, or an error of qda_call_get() or qda_call_kernel(), but never -EAGAIN:
 * there is no session to be ended again
 */
int qda_session_end(struct qda_session *session, s32 *result)
{
	unsigned long end = jiffies + QDA_END_TRY;
	int ret;

	/* What is sent already comes first. */
	scoped_guard(rwsem_write, &session->sending)
		session->ending = true;
	do {
		ret = call_with_id(session, QDA_PROCESS_RELEASE, result);
		if (ret != -ENOMEM && ret != -EBUSY && ret != -EAGAIN)
			break;
		msleep(QDA_END_PAUSE_MS);
	} while (time_before(jiffies, end));
	switch (ret) {
	case 0:
		qda_session_ended(session);
		return 0;
	case -EREMOTEIO:
		/* It does not have it any more: a domain can exit by itself. */
		qda_calls_end(session, false);
		return ret;
	case -EPIPE:
	case -ETIMEDOUT:
		/* Over, or there are calls pending, and each holds the session. */
		return ret;
	}
	/* With the channel gone there is nothing to be told: the DSP is about to follow. */
	if (ret != -ECANCELED && ret != -ECONNRESET && ret != -EIO)
		drm_err(&session->qda->drm, "session %u cannot be ended: %d\n",
			session->client_id, ret);
	keep(session);
	return ret == -EAGAIN ? -EBUSY : ret;
}

static int ask_capabilities(struct qda_device *qda, struct qda_session *session)
{
	/* Number 0 is not the DSP's to say. */
	__le32 *wire __free(kfree) = NULL;
	const size_t size = (QDA_CAPABILITIES - 1) * sizeof(*wire);
	__le32 count = cpu_to_le32(QDA_CAPABILITIES - 1);
	struct qda_call *call;
	unsigned int i;
	s32 result = 0;
	void *out;
	int ret;

	wire = kmalloc(size, GFP_KERNEL);
	if (!wire)
		return -ENOMEM;
	call = qda_call_get(session, true, QDA_MODULE_UTILITIES, DRM_QDA_SCALARS(0, 1, 1, 0, 0),
			    QDA_INLINE(sizeof(count)) + QDA_INLINE(size));
	if (IS_ERR(call))
		return PTR_ERR(call);
	qda_call_inline_arg(call, 0, &count, sizeof(count));
	out = qda_call_inline_arg(call, 1, NULL, size);
	ret = qda_call_kernel(call, &result);
	if (!ret)
		ret = qda_call_read(call, out, wire, size);
	qda_call_put(call);
	if (ret == -EREMOTEIO && result == QDA_UNSUPPORTED)
		return -EOPNOTSUPP;
	for (i = 1; !ret && i < QDA_CAPABILITIES; i++)
		qda->capabilities[i] = le32_to_cpu(wire[i - 1]);
	return ret;
}

/**
 * qda_capabilities() - ask the DSP what it can do, unless it has been asked
 * @qda: the DSP; sets its capabilities
 *
 * Return: 0, or an error as DRM_QDA_QUERY_CAPABILITIES has it
 */
int qda_capabilities(struct qda_device *qda)
{
	struct qda_session *session;
	int ret;

	ACQUIRE(mutex_intr, lock)(&qda->capability_lock);
	if (ACQUIRE_ERR(mutex_intr, &lock))
		return -EINTR;
	if (qda->capabilities_asked)
		return qda->capabilities_error;
	/* A bank for the payload, which others may be in. The DSP knows of no such session. */
	session = new_session(qda, false);
	if (IS_ERR(session))
		return PTR_ERR(session);
	session->pd = QDA_PD_ROOT;
	ret = ask_capabilities(qda, session);
	qda_session_put(session);
	/* A DSP that does not answer has the call still: one is enough. */
	qda->capabilities_asked = !ret || ret == -ETIMEDOUT;
	qda->capabilities_error = ret;
	return ret;
}
