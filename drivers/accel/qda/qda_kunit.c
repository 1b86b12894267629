// SPDX-License-Identifier: GPL-2.0-only
/*
 * The wire format to the byte, and what becomes of calls, with a transport that
 * goes nowhere.
 */

#include <linux/cleanup.h>
#include <linux/dma-buf.h>
#include <linux/dma-mapping.h>
#include <linux/file.h>
#include <linux/iosys-map.h>
#include <linux/slab.h>
#include <linux/unaligned.h>

#include <drm/drm_drv.h>
#include <drm/drm_gem_shmem_helper.h>
#include <drm/drm_kunit_helpers.h>
#include <drm/drm_prime.h>
#include <drm/qda_accel.h>
#include <kunit/device.h>
#include <kunit/test.h>

#include "qda.h"

static void qda_test_scalars(struct kunit *test)
{
	u32 scalars = DRM_QDA_SCALARS(31, 255, 254, 15, 14);

	KUNIT_EXPECT_EQ(test, scalars, 0x1ffffefe);
	KUNIT_EXPECT_EQ(test, qda_scalars_in(scalars), 255);
	KUNIT_EXPECT_EQ(test, qda_scalars_out(scalars), 254);
	KUNIT_EXPECT_EQ(test, qda_scalars_bufs(scalars), 509);
	KUNIT_EXPECT_EQ(test, qda_scalars_args(scalars), 538);
	KUNIT_EXPECT_EQ(test, scalars & QDA_SCALARS_RESERVED, 0);
	KUNIT_EXPECT_EQ(test, DRM_QDA_SCALARS(2, 1, 0, 0, 0), 0x02010000);
	/* What does not fit is cut off, and changes nothing else. */
	KUNIT_EXPECT_EQ(test, DRM_QDA_SCALARS(32, 256, 256, 16, 16), 0);

	/* In, out, out, in by handle, out by handle. */
	scalars = DRM_QDA_SCALARS(2, 1, 2, 1, 1);
	KUNIT_EXPECT_FALSE(test, qda_scalars_is_output(scalars, 0));
	KUNIT_EXPECT_TRUE(test, qda_scalars_is_output(scalars, 1));
	KUNIT_EXPECT_TRUE(test, qda_scalars_is_output(scalars, 2));
	KUNIT_EXPECT_FALSE(test, qda_scalars_is_output(scalars, 3));
	KUNIT_EXPECT_TRUE(test, qda_scalars_is_output(scalars, 4));
}

static void qda_test_context(struct kunit *test)
{
	KUNIT_EXPECT_EQ(test, qda_context(0x123456789abcULL, 0xef, QDA_PD_USER),
			0x123456789abcef01ULL);
	KUNIT_EXPECT_EQ(test, qda_context(1, 255, QDA_PD_SENSORS), 0x1ff02);
	KUNIT_EXPECT_EQ(test, qda_context(BIT_ULL(48) + 5, 1, QDA_PD_ROOT), 0x50100);
	/* The bits of a context that are always 0 are not those of the exit's. */
	KUNIT_EXPECT_NE(test, QDA_CTX_PD_EXIT & 0xf0, 0);
}

static void qda_test_bus_address(struct kunit *test)
{
	const struct qda_soc at_32 = { .sid_shift = 32 }, at_56 = { .sid_shift = 56 };
	/* As wide as a bank's, where the kernel has such */
	const dma_addr_t wide = (dma_addr_t)0x3fffff000ULL;

	KUNIT_EXPECT_EQ(test, qda_bus_address(&at_32, 3, 0xfffff000), 0x3fffff000ULL);
	KUNIT_EXPECT_EQ(test, qda_bus_address(&at_56, 3, wide), 0x0300000000000000ULL + wide);
	KUNIT_EXPECT_EQ(test, qda_bus_address(&at_56, 0x81, 0), 0x8100000000000000ULL);
	KUNIT_EXPECT_EQ(test, qda_bus_address(&at_32, 0, 0x1000), 0x1000);
}

static void qda_test_sizes(struct kunit *test)
{
	KUNIT_EXPECT_EQ(test, qda_payload_size(0), 388);
	KUNIT_EXPECT_EQ(test, qda_payload_size(1), 428);
	KUNIT_EXPECT_EQ(test, qda_payload_size(540), 40 * 540 + 388);
	KUNIT_EXPECT_EQ(test, qda_payload_poll_word(3), 40 * 3 + 384);
	KUNIT_EXPECT_EQ(test, sizeof(struct qda_wire_create), 24);
	KUNIT_EXPECT_EQ(test, sizeof(struct qda_wire_mmap), 24);
	KUNIT_EXPECT_EQ(test, sizeof(struct qda_wire_munmap), 24);
	KUNIT_EXPECT_EQ(test, sizeof(struct qda_wire_mem_map), 32);
	KUNIT_EXPECT_EQ(test, sizeof(struct qda_wire_mem_unmap), 24);
}

/* An input of 100 bytes, an output that is empty, and a handle. */
static void qda_test_payload(struct kunit *test)
{
	const struct qda_arg args[] = {
		{ .addr = 0x500000000ULL + 2 * PAGE_SIZE - 50, .len = 100 },
		{ },
		{
			.addr = 0x500000000ULL + 8 * PAGE_SIZE + 16, .len = PAGE_SIZE,
			.buffer = 0x500000000ULL + 5 * PAGE_SIZE, .buffer_size = 6 * PAGE_SIZE,
			.handle = 7,
		},
	};
	u8 *payload = kunit_kzalloc(test, qda_payload_size(3), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, payload);
	qda_payload_write(payload, DRM_QDA_SCALARS(2, 1, 1, 1, 0), args);

	KUNIT_EXPECT_EQ(test, get_unaligned_le64(payload), args[0].addr);
	KUNIT_EXPECT_EQ(test, get_unaligned_le64(payload + 8), 100);
	KUNIT_EXPECT_NULL(test, memchr_inv(payload + 16, 0, 16));
	KUNIT_EXPECT_EQ(test, get_unaligned_le32(payload + 32), 7);
	KUNIT_EXPECT_EQ(test, get_unaligned_le32(payload + 36), 3 * PAGE_SIZE + 16);
	KUNIT_EXPECT_EQ(test, get_unaligned_le32(payload + 40), PAGE_SIZE);
	KUNIT_EXPECT_EQ(test, get_unaligned_le32(payload + 44), 0);

	KUNIT_EXPECT_EQ(test, get_unaligned_le32(payload + 48), 1);
	KUNIT_EXPECT_EQ(test, get_unaligned_le32(payload + 52), 0);
	KUNIT_EXPECT_EQ(test, get_unaligned_le32(payload + 56), 0);
	KUNIT_EXPECT_EQ(test, get_unaligned_le32(payload + 60), 1);
	KUNIT_EXPECT_EQ(test, get_unaligned_le32(payload + 64), 1);
	KUNIT_EXPECT_EQ(test, get_unaligned_le32(payload + 68), 2);

	KUNIT_EXPECT_EQ(test, get_unaligned_le64(payload + 72), 0x500000000ULL + PAGE_SIZE);
	KUNIT_EXPECT_EQ(test, get_unaligned_le64(payload + 80), 2 * PAGE_SIZE);
	KUNIT_EXPECT_NULL(test, memchr_inv(payload + 88, 0, 16));
	KUNIT_EXPECT_EQ(test, get_unaligned_le64(payload + 104), 0x500000000ULL + 5 * PAGE_SIZE);
	KUNIT_EXPECT_EQ(test, get_unaligned_le64(payload + 112), 6 * PAGE_SIZE);
	KUNIT_EXPECT_NULL(test, memchr_inv(payload + 120, 0, 388));
}

/* A DSP with two banks, the first for two sessions, and what it was sent last. */
struct qda_test {
	struct qda_device *qda;
	struct qda_bank banks[2];
	u64 masks[2];
	struct qda_request request;
	unsigned int requests;
	bool refuse;
	bool agree;
	int error;
};

static int qda_test_send(struct qda_device *qda, const struct qda_request *request)
{
	struct qda_test *priv = qda->transport_priv;

	priv->request = *request;
	priv->requests++;
	if (priv->refuse || priv->agree)
		qda_receive(qda, le64_to_cpu(request->ctx), priv->refuse ? -1 : 0);
	return priv->error;
}

static const struct qda_transport_ops qda_test_transport = {
	.send = qda_test_send,
};

static const struct qda_soc qda_test_soc = {
	.sid_shift = 32,
	.dma_bits = 32,
	.cdsp_dma_bits = 32,
};

/* Only for what the DMA API wants to know. */
static void qda_test_init_bank(struct qda_test *priv, unsigned int i)
{
	struct device *dev = &priv->banks[i].dev;

	device_initialize(dev);
	dev->init_name = "qda-kunit-bank";
	priv->masks[i] = DMA_BIT_MASK(32);
	dev->dma_mask = &priv->masks[i];
	dev->coherent_dma_mask = DMA_BIT_MASK(32);
	priv->banks[i].sid = i + 1;
}

static int qda_test_init(struct kunit *test)
{
	struct qda_test *priv = kunit_kzalloc(test, sizeof(*priv), GFP_KERNEL);
	struct qda_device *qda;
	struct device *dev;

	KUNIT_ASSERT_NOT_NULL(test, priv);
	dev = drm_kunit_helper_alloc_device(test);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, dev);
	qda = drm_kunit_helper_alloc_drm_device_with_driver(test, dev, struct qda_device, drm,
							    &qda_drm_driver);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, qda);
	qda->transport = &qda_test_transport;
	qda->transport_priv = priv;
	qda->soc = &qda_test_soc;
	mutex_init(&qda->session_lock);
	mutex_init(&qda->capability_lock);
	INIT_LIST_HEAD(&qda->sessions);
	qda_calls_init(qda);
	qda_test_init_bank(priv, 0);
	qda_test_init_bank(priv, 1);
	qda_slots_add(qda, &priv->banks[0], 2);
	qda_slots_add(qda, &priv->banks[1], 1);
	priv->qda = qda;
	test->priv = priv;
	return 0;
}

static void qda_test_exit(struct kunit *test)
{
	struct qda_test *priv = test->priv;

	qda_calls_kill(priv->qda);
	KUNIT_EXPECT_TRUE(test, list_empty(&priv->qda->sessions));
	KUNIT_EXPECT_NULL(test, memchr_inv(priv->qda->calls, 0, sizeof(priv->qda->calls)));
}

static struct qda_session *qda_test_session(struct kunit *test)
{
	struct qda_test *priv = test->priv;
	struct qda_session *session = qda_session_new(priv->qda);

	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, session);
	session->pd = QDA_PD_USER;
	return session;
}

static void qda_test_sessions(struct kunit *test)
{
	struct qda_test *priv = test->priv;
	struct qda_session *session[3];
	unsigned int i;

	for (i = 0; i < 3; i++)
		session[i] = qda_test_session(test);
	/* They share a bank when they have to. */
	KUNIT_EXPECT_EQ(test, session[0]->client_id, 1);
	KUNIT_EXPECT_PTR_EQ(test, session[0]->bank, &priv->banks[0]);
	KUNIT_EXPECT_EQ(test, session[1]->client_id, 3);
	KUNIT_EXPECT_PTR_EQ(test, session[1]->bank, &priv->banks[1]);
	KUNIT_EXPECT_EQ(test, session[2]->client_id, 2);
	KUNIT_EXPECT_PTR_EQ(test, session[2]->bank, &priv->banks[0]);
	KUNIT_EXPECT_EQ(test, PTR_ERR(qda_session_new(priv->qda)), -EBUSY);
	qda_session_put(session[1]);
	session[1] = qda_test_session(test);
	KUNIT_EXPECT_EQ(test, session[1]->client_id, 3);
	for (i = 0; i < 3; i++)
		qda_session_put(session[i]);
	qda_slots_add(priv->qda, &priv->banks[0], QDA_MAX_SESSIONS - 2);
	KUNIT_EXPECT_EQ(test, priv->qda->nslots, QDA_MAX_SESSIONS);
}

static struct qda_call *qda_test_call(struct kunit *test, struct qda_session *session)
{
	struct qda_call *call = qda_call_get(session, false, 9, DRM_QDA_SCALARS(2, 2, 0, 0, 0), 0);

	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, call);
	return call;
}

static void qda_test_request(struct kunit *test)
{
	struct qda_session *session = qda_test_session(test);
	struct qda_call *call = qda_test_call(test, session);
	struct qda_test *priv = test->priv;
	u64 ctx, id;

	KUNIT_ASSERT_EQ(test, qda_call_send(call, session->client_id), 0);
	ctx = le64_to_cpu(priv->request.ctx);
	id = FIELD_GET(QDA_CTX_ID, ctx);
	KUNIT_EXPECT_EQ(test, le32_to_cpu(priv->request.client_id), 1);
	KUNIT_EXPECT_EQ(test, le32_to_cpu(priv->request.module), 9);
	KUNIT_EXPECT_EQ(test, le32_to_cpu(priv->request.scalars), 0x02020000);
	KUNIT_EXPECT_EQ(test, le64_to_cpu(priv->request.addr), call->payload_addr + BIT_ULL(32));
	KUNIT_EXPECT_EQ(test, le64_to_cpu(priv->request.size), PAGE_SIZE);
	KUNIT_EXPECT_EQ(test, ctx & 0xff, QDA_PD_USER);
	KUNIT_EXPECT_EQ(test, id, 1);

	qda_receive(priv->qda, ctx, 0x1234);
	KUNIT_EXPECT_EQ(test, qda_call_wait(call, true), 0);
	KUNIT_EXPECT_EQ(test, call->result, 0x1234);
	qda_call_put(call);

	/* Payloads are used again, contexts are not, and ids last. */
	KUNIT_EXPECT_PTR_EQ(test, qda_test_call(test, session), call);
	KUNIT_EXPECT_NULL(test, memchr_inv(call->payload, 0, call->payload_size));
	KUNIT_ASSERT_EQ(test, qda_call_send(call, session->client_id), 0);
	KUNIT_EXPECT_EQ(test, le64_to_cpu(priv->request.ctx), ctx + 0x10100);
	qda_receive(priv->qda, le64_to_cpu(priv->request.ctx), 0);
	qda_call_put(call);
	qda_session_put(session);
}

static void qda_test_replies(struct kunit *test)
{
	struct qda_session *session = qda_test_session(test);
	struct qda_call *call = qda_test_call(test, session);
	struct qda_test *priv = test->priv;
	u64 ctx, wrong;

	KUNIT_ASSERT_EQ(test, qda_call_send(call, session->client_id), 0);
	ctx = le64_to_cpu(priv->request.ctx);
	/* Each bit of it counts. */
	for (wrong = 1; wrong; wrong <<= 1)
		qda_receive(priv->qda, ctx ^ wrong, 5);
	qda_receive(priv->qda, QDA_CTX_PD_EXIT, 5);
	qda_receive(priv->qda, 0, 5);
	KUNIT_EXPECT_FALSE(test, call->done);
	qda_receive(priv->qda, ctx, 6);
	qda_receive(priv->qda, ctx, 7);
	KUNIT_EXPECT_TRUE(test, call->done);
	KUNIT_EXPECT_EQ(test, call->result, 6);
	qda_call_put(call);
	qda_session_put(session);
}

/* Who leaves a call leaves its session too, until the reply comes. */
static void qda_test_abandoned(struct kunit *test)
{
	struct qda_session *session = qda_test_session(test);
	struct qda_call *call = qda_test_call(test, session);
	struct qda_test *priv = test->priv;

	KUNIT_ASSERT_EQ(test, qda_call_send(call, session->client_id), 0);
	qda_call_put(call);
	qda_session_put(session);
	KUNIT_EXPECT_FALSE(test, list_empty(&priv->qda->sessions));
	KUNIT_EXPECT_TRUE(test, priv->qda->slots[0].used);
	KUNIT_EXPECT_NOT_NULL(test, call->payload);
	qda_receive(priv->qda, le64_to_cpu(priv->request.ctx), 0);
	flush_delayed_work(&priv->qda->reap_work);
	KUNIT_EXPECT_TRUE(test, list_empty(&priv->qda->sessions));
	KUNIT_EXPECT_FALSE(test, priv->qda->slots[0].used);
}

/* So it is with a reply in memory, which nobody waits for any more. */
static void qda_test_abandoned_poll(struct kunit *test)
{
	struct qda_session *session = qda_test_session(test);
	struct qda_test *priv = test->priv;
	struct qda_call *call;
	__le32 *word;

	session->poll = true;
	call = qda_call_get(session, false, QDA_MODULE_FIXED + 1, 0, 0);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, call);
	word = call->payload + qda_payload_poll_word(0);
	KUNIT_ASSERT_EQ(test, qda_call_send(call, session->client_id), 0);
	qda_call_put(call);
	qda_session_put(session);
	flush_delayed_work(&priv->qda->reap_work);
	KUNIT_EXPECT_TRUE(test, priv->qda->slots[0].used);
	*word = cpu_to_le32(QDA_POLL_DONE);
	flush_delayed_work(&priv->qda->reap_work);
	KUNIT_EXPECT_FALSE(test, priv->qda->slots[0].used);
}

/* A DSP that knows of no such session yet may have calls of it that are under way. */
static void qda_test_refused_end(struct kunit *test)
{
	struct qda_session *session = qda_test_session(test);
	struct qda_call *user = qda_test_call(test, session);
	struct qda_test *priv = test->priv;
	struct qda_call *call;
	u64 ctx, user_ctx;
	s32 result;

	call = qda_call_get(session, true, QDA_MODULE_PROCESS, 0, 0);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, call);
	KUNIT_ASSERT_EQ(test, qda_call_send(call, 0), 0);
	ctx = le64_to_cpu(priv->request.ctx);
	qda_call_put(call);
	KUNIT_ASSERT_EQ(test, qda_call_send(user, 1), 0);
	user_ctx = le64_to_cpu(priv->request.ctx);
	priv->refuse = true;
	KUNIT_EXPECT_EQ(test, qda_session_end(session, &result), -EREMOTEIO);
	KUNIT_EXPECT_EQ(test, result, -1);
	/* Who waits need not; it would wait for ever for a domain that has exited. */
	KUNIT_EXPECT_EQ(test, qda_call_wait(user, true), -EPIPE);
	qda_call_put(user);
	qda_session_put(session);
	KUNIT_EXPECT_NOT_NULL(test, call->payload);
	qda_receive(priv->qda, ctx, 0);
	flush_delayed_work(&priv->qda->reap_work);
	KUNIT_EXPECT_TRUE(test, priv->qda->slots[0].used);
	KUNIT_EXPECT_NOT_NULL(test, user->payload);
	qda_receive(priv->qda, user_ctx, 0);
	flush_delayed_work(&priv->qda->reap_work);
	KUNIT_EXPECT_FALSE(test, priv->qda->slots[0].used);
}

/* What comes after the call that ends the session is not sent any more. */
static void qda_test_ending(struct kunit *test)
{
	struct qda_session *session = qda_test_session(test);
	struct qda_call *before = qda_test_call(test, session);
	struct qda_call *after = qda_test_call(test, session);
	struct qda_test *priv = test->priv;
	s32 result;

	KUNIT_ASSERT_EQ(test, qda_call_send(before, 1), 0);
	priv->agree = true;
	session->pd = QDA_PD_SENSORS;
	KUNIT_EXPECT_EQ(test, qda_session_end(session, &result), 0);
	KUNIT_EXPECT_EQ(test, priv->requests, 2);
	KUNIT_EXPECT_EQ(test, le32_to_cpu(priv->request.client_id), 0);
	KUNIT_EXPECT_EQ(test, le32_to_cpu(priv->request.module), 1);
	KUNIT_EXPECT_EQ(test, le32_to_cpu(priv->request.scalars), 0x01010000);
	KUNIT_EXPECT_EQ(test, le64_to_cpu(priv->request.ctx) & 0xff, 2);
	KUNIT_EXPECT_EQ(test, qda_call_send(after, 1), -EPIPE);
	KUNIT_EXPECT_EQ(test, priv->requests, 2);
	KUNIT_EXPECT_EQ(test, qda_call_wait(before, true), -EPIPE);
	qda_call_put(before);
	qda_call_put(after);
	qda_session_put(session);
	KUNIT_EXPECT_FALSE(test, priv->qda->slots[0].used);
}

/* A domain that does not end with the session may be at its calls still. */
static void qda_test_shared_end(struct kunit *test)
{
	struct qda_session *session = qda_test_session(test);
	struct qda_call *call = qda_test_call(test, session);
	struct qda_test *priv = test->priv;
	s32 result;
	u64 ctx;

	session->shared_pd = true;
	KUNIT_ASSERT_EQ(test, qda_call_send(call, 1), 0);
	ctx = le64_to_cpu(priv->request.ctx);
	priv->agree = true;
	KUNIT_EXPECT_EQ(test, qda_session_end(session, &result), 0);
	KUNIT_EXPECT_EQ(test, qda_call_wait(call, true), -EPIPE);
	qda_call_put(call);
	qda_session_put(session);
	KUNIT_EXPECT_TRUE(test, priv->qda->slots[0].used);
	KUNIT_EXPECT_NOT_NULL(test, call->payload);
	qda_receive(priv->qda, ctx, 0);
	flush_delayed_work(&priv->qda->reap_work);
	KUNIT_EXPECT_FALSE(test, priv->qda->slots[0].used);
}

static struct qda_call *qda_test_process_call(struct kunit *test, struct qda_session *session,
					      unsigned int method)
{
	struct qda_call *call = qda_call_get(session, true, QDA_MODULE_PROCESS,
					     DRM_QDA_SCALARS(method, 1, 0, 0, 0), 4);

	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, call);
	return call;
}

/* Whatever a session has taken, there is a call left to end it by. */
static void qda_test_reserved(struct kunit *test)
{
	struct qda_session *session = qda_test_session(test);
	struct qda_call *first, *user, *unmap, *last;

	first = qda_test_process_call(test, session, QDA_PROCESS_ATTACH);
	qda_call_put(first);
	qda_call_reserve(session);
	user = qda_test_call(test, session);
	unmap = qda_test_process_call(test, session, QDA_PROCESS_MEM_UNMAP);
	last = qda_test_process_call(test, session, QDA_PROCESS_RELEASE);
	KUNIT_EXPECT_PTR_NE(test, user, first);
	KUNIT_EXPECT_PTR_NE(test, unmap, first);
	KUNIT_EXPECT_PTR_EQ(test, last, first);
	KUNIT_EXPECT_TRUE(test, last->last);
	qda_call_put(user);
	qda_call_put(unmap);
	qda_call_put(last);
	qda_session_put(session);
}

/* The call that ends a session, which is kept for the DSP and has left another call. */
static struct qda_call *qda_test_send_last(struct kunit *test)
{
	struct qda_session *session = qda_test_session(test);
	struct qda_call *left = qda_test_call(test, session);
	struct qda_call *last;

	KUNIT_ASSERT_EQ(test, qda_call_send(left, 1), 0);
	qda_call_put(left);
	last = qda_call_get(session, true, QDA_MODULE_PROCESS, 0, 0);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, last);
	last->last = true;
	KUNIT_ASSERT_EQ(test, qda_call_send(last, 0), 0);
	session->orphan = true;
	return last;
}

/*
 * A DSP that says so when nobody waits for it any more has ended the calls, too, and
 * what was kept for it.
 */
static void qda_test_late_end(struct kunit *test)
{
	struct qda_call *last = qda_test_send_last(test);
	struct qda_test *priv = test->priv;

	qda_call_put(last);
	KUNIT_EXPECT_TRUE(test, priv->qda->slots[0].used);
	qda_receive(priv->qda, le64_to_cpu(priv->request.ctx), 0);
	flush_delayed_work(&priv->qda->reap_work);
	flush_delayed_work(&priv->qda->reap_work);
	KUNIT_EXPECT_FALSE(test, priv->qda->slots[0].used);
}

/* So has one that says so before who waited has left. */
static void qda_test_end_in_time(struct kunit *test)
{
	struct qda_call *last = qda_test_send_last(test);
	struct qda_test *priv = test->priv;

	last->timed_out = true;
	qda_receive(priv->qda, le64_to_cpu(priv->request.ctx), 0);
	qda_call_put(last);
	flush_delayed_work(&priv->qda->reap_work);
	KUNIT_EXPECT_FALSE(test, priv->qda->slots[0].used);
}

static void qda_test_dead(struct kunit *test)
{
	struct qda_session *session = qda_test_session(test);
	struct qda_call *waiting = qda_test_call(test, session);
	struct qda_call *left = qda_test_call(test, session);
	struct qda_call *late = qda_test_call(test, session);
	struct qda_test *priv = test->priv;

	KUNIT_ASSERT_EQ(test, qda_call_send(waiting, 1), 0);
	KUNIT_ASSERT_EQ(test, qda_call_send(left, 1), 0);
	qda_call_put(left);
	qda_calls_kill(priv->qda);
	KUNIT_EXPECT_FALSE(test, left->busy);
	KUNIT_EXPECT_EQ(test, qda_call_wait(waiting, true), -EPIPE);
	KUNIT_EXPECT_EQ(test, qda_call_send(late, 1), -EPIPE);
	KUNIT_EXPECT_EQ(test, priv->requests, 2);

	qda_sessions_detach(priv->qda);
	KUNIT_EXPECT_NULL(test, session->bank);
	KUNIT_EXPECT_EQ(test, PTR_ERR(qda_call_get(session, false, 9, 0, 0)), -EPIPE);
	qda_call_put(waiting);
	qda_call_put(late);
	qda_session_put(session);
}

static void qda_test_transport_error(struct kunit *test)
{
	/* -ETIMEDOUT is for calls that the DSP has. */
	const int errors[][2] = {
		{ -EINVAL, -EINVAL }, { -ETIMEDOUT, -EAGAIN }, { -ERESTARTSYS, -EAGAIN },
	};
	struct qda_session *session = qda_test_session(test);
	struct qda_test *priv = test->priv;
	struct qda_call *call;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(errors); i++) {
		call = qda_test_call(test, session);
		priv->error = errors[i][0];
		KUNIT_EXPECT_EQ(test, qda_call_send(call, 1), errors[i][1]);
		KUNIT_EXPECT_NULL(test, memchr_inv(priv->qda->calls, 0, sizeof(priv->qda->calls)));
		qda_call_put(call);
	}
	qda_session_put(session);
}

static void qda_test_too_many_calls(struct kunit *test)
{
	struct qda_session *session = qda_test_session(test);
	struct qda_test *priv = test->priv;
	unsigned int i, max = qda_max_calls(priv->qda);
	struct qda_call **calls = kunit_kcalloc(test, max, sizeof(*calls), GFP_KERNEL);
	struct qda_call *kernel;

	KUNIT_ASSERT_NOT_NULL(test, calls);
	KUNIT_EXPECT_EQ(test, max, (255 - QDA_KERNEL_CALLS) / 3);
	for (i = 0; i < max; i++)
		calls[i] = qda_test_call(test, session);
	KUNIT_EXPECT_EQ(test, PTR_ERR(qda_call_get(session, false, 9, 0, 0)), -EBUSY);
	kernel = qda_call_get(session, true, 1, 0, 0);
	KUNIT_EXPECT_FALSE(test, IS_ERR(kernel));
	qda_call_put(kernel);
	for (i = 0; i < max; i++)
		qda_call_put(calls[i]);
	qda_session_put(session);
}

static void qda_test_too_many_ids(struct kunit *test)
{
	struct qda_call **calls = kunit_kcalloc(test, QDA_MAX_ID + 1, sizeof(*calls), GFP_KERNEL);
	struct qda_session *session = qda_test_session(test);
	struct qda_test *priv = test->priv;
	unsigned int i, last;
	u64 ctx;

	KUNIT_ASSERT_NOT_NULL(test, calls);
	for (i = 0; i <= QDA_MAX_ID; i++) {
		calls[i] = qda_call_get(session, true, QDA_MODULE_PROCESS, 0, 0);
		KUNIT_ASSERT_NOT_ERR_OR_NULL(test, calls[i]);
		KUNIT_EXPECT_EQ(test, qda_call_send(calls[i], 0), i < QDA_MAX_ID ? 0 : -EBUSY);
	}
	ctx = le64_to_cpu(priv->request.ctx);
	last = FIELD_GET(QDA_CTX_ID, ctx);
	KUNIT_EXPECT_EQ(test, last, QDA_MAX_ID);
	qda_calls_kill(priv->qda);
	for (i = 0; i <= QDA_MAX_ID; i++)
		qda_call_put(calls[i]);
	qda_session_put(session);
}

static void qda_test_args(struct kunit *test)
{
	struct drm_gem_object *obj = kunit_kzalloc(test, sizeof(*obj), GFP_KERNEL);
	struct qda_session *session = qda_test_session(test);
	struct qda_call *call;

	KUNIT_ASSERT_NOT_NULL(test, obj);
	/* Input, and input by handle. */
	call = qda_call_get(session, false, 9, DRM_QDA_SCALARS(2, 1, 0, 1, 0), 0);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, call);
	obj->size = 4096;
	KUNIT_EXPECT_EQ(test, qda_call_set_arg(call, 0, obj, 1, 0, 4097), -EINVAL);
	KUNIT_EXPECT_EQ(test, qda_call_set_arg(call, 0, obj, 1, 4096, 1), -EINVAL);
	KUNIT_EXPECT_EQ(test, qda_call_set_arg(call, 0, obj, 1, U64_MAX, 2), -EINVAL);
	KUNIT_EXPECT_EQ(test, qda_call_set_arg(call, 0, obj, 1, 2, U64_MAX), -EINVAL);
	obj->size = SIZE_MAX;
	KUNIT_EXPECT_EQ(test, qda_call_set_arg(call, 1, obj, 1, 0, BIT_ULL(32)), -EINVAL);
	qda_call_put(call);
	qda_session_put(session);
}

/* As many as the DSP may leave unanswered, and none more. */
static void qda_test_too_many_ranges(struct kunit *test)
{
	struct drm_gem_object *obj = kunit_kzalloc(test, sizeof(*obj), GFP_KERNEL);
	struct qda_session *session = qda_test_session(test);
	struct qda_test *priv = test->priv;
	u64 addr;
	s32 result;

	KUNIT_ASSERT_NOT_NULL(test, obj);
	obj->size = PAGE_SIZE;
	session->nbusy = QDA_KERNEL_CALLS / priv->qda->nslots - 1;
	KUNIT_EXPECT_EQ(test, qda_range_map(session, obj, 1, DRM_QDA_MAP_STATIC, 0, PAGE_SIZE,
					    &addr, &result), -EBUSY);
	KUNIT_EXPECT_TRUE(test, list_empty(&session->ranges));
	KUNIT_EXPECT_EQ(test, qda_range_unmap(session, 0, PAGE_SIZE, &result), -EBUSY);
	session->nbusy--;
	KUNIT_EXPECT_EQ(test, qda_range_unmap(session, 0, PAGE_SIZE, &result), -EINVAL);
	session->nbusy = 0;
	qda_session_put(session);
}

static void qda_test_export_one(struct kunit *test, struct device *importer,
				struct drm_gem_object *obj)
{
	struct dma_buf *dmabuf = drm_gem_prime_export(obj, O_RDWR);
	struct dma_buf_attachment *attach;
	struct scatterlist *sg;
	struct iosys_map map;
	struct sg_table *sgt;
	size_t len = 0;
	int i;

	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, dmabuf);
	attach = dma_buf_attach(dmabuf, importer);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, attach);
	sgt = dma_buf_map_attachment_unlocked(attach, DMA_BIDIRECTIONAL);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, sgt);
	for_each_sgtable_dma_sg(sgt, sg, i)
		len += sg_dma_len(sg);
	KUNIT_EXPECT_EQ(test, len, 2 * PAGE_SIZE);
	dma_buf_unmap_attachment_unlocked(attach, sgt, DMA_BIDIRECTIONAL);
	dma_buf_detach(dmabuf, attach);

	KUNIT_ASSERT_EQ(test, dma_buf_vmap_unlocked(dmabuf, &map), 0);
	KUNIT_EXPECT_NULL(test, memchr_inv(map.vaddr, 0, 2 * PAGE_SIZE));
	memset(map.vaddr, 0x5a, 2 * PAGE_SIZE);
	dma_buf_vunmap_unlocked(dmabuf, &map);
	KUNIT_ASSERT_EQ(test, dma_buf_vmap_unlocked(dmabuf, &map), 0);
	KUNIT_EXPECT_NULL(test, memchr_inv(map.vaddr, 0x5a, 2 * PAGE_SIZE));
	dma_buf_vunmap_unlocked(dmabuf, &map);

	dma_buf_put(dmabuf);
	flush_delayed_fput();
	drm_gem_object_put(obj);
}

/* Buffers of each kind, by an importer that maps them, and by the kernel */
static void qda_test_export(struct kunit *test)
{
	struct device *importer = kunit_device_register(test, "importer");
	struct qda_test *priv = test->priv;
	struct drm_gem_shmem_object *shmem;
	struct drm_gem_object *obj;

	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, importer);
	KUNIT_ASSERT_EQ(test, 0, dma_coerce_mask_and_coherent(importer, DMA_BIT_MASK(64)));
	shmem = drm_gem_shmem_create(&priv->qda->drm, 2 * PAGE_SIZE);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, shmem);
	qda_test_export_one(test, importer, &shmem->base);
	obj = qda_contiguous_create(priv->qda, 2 * PAGE_SIZE);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, obj);
	qda_test_export_one(test, importer, obj);
}

static struct sg_table *qda_test_map_dma_buf(struct dma_buf_attachment *attach,
					     enum dma_data_direction dir)
{
	return ERR_PTR(-EIO);
}

static void qda_test_unmap_dma_buf(struct dma_buf_attachment *attach, struct sg_table *sgt,
				   enum dma_data_direction dir)
{
}

static void qda_test_release_dma_buf(struct dma_buf *dmabuf)
{
}

static const struct dma_buf_ops qda_test_dma_buf_ops = {
	.map_dma_buf = qda_test_map_dma_buf,
	.unmap_dma_buf = qda_test_unmap_dma_buf,
	.release = qda_test_release_dma_buf,
};

/* What a bank would map is whole pages. */
static void qda_test_import(struct kunit *test)
{
	const struct { size_t size; long error; } cases[] = {
		{ PAGE_SIZE - 1, -EINVAL }, { PAGE_SIZE + 128, -EINVAL }, { 2 * PAGE_SIZE, 0 },
	};
	DEFINE_DMA_BUF_EXPORT_INFO(info);
	struct qda_test *priv = test->priv;
	struct drm_gem_object *obj;
	struct dma_buf *dmabuf;
	unsigned int i;

	info.ops = &qda_test_dma_buf_ops;
	info.priv = priv;
	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		info.size = cases[i].size;
		dmabuf = dma_buf_export(&info);
		KUNIT_ASSERT_NOT_ERR_OR_NULL(test, dmabuf);
		obj = qda_gem_import(&priv->qda->drm, dmabuf);
		KUNIT_EXPECT_EQ(test, PTR_ERR_OR_ZERO(obj), cases[i].error);
		if (!IS_ERR(obj))
			drm_gem_object_put(obj);
		dma_buf_put(dmabuf);
	}
	flush_delayed_fput();
}

static struct kunit_case qda_wire_cases[] = {
	KUNIT_CASE(qda_test_scalars),
	KUNIT_CASE(qda_test_context),
	KUNIT_CASE(qda_test_bus_address),
	KUNIT_CASE(qda_test_sizes),
	KUNIT_CASE(qda_test_payload),
	{ }
};

static struct kunit_suite qda_wire_suite = {
	.name = "qda-wire",
	.test_cases = qda_wire_cases,
};

static struct kunit_case qda_call_cases[] = {
	KUNIT_CASE(qda_test_sessions),
	KUNIT_CASE(qda_test_request),
	KUNIT_CASE(qda_test_replies),
	KUNIT_CASE(qda_test_abandoned),
	KUNIT_CASE(qda_test_abandoned_poll),
	KUNIT_CASE(qda_test_refused_end),
	KUNIT_CASE(qda_test_ending),
	KUNIT_CASE(qda_test_shared_end),
	KUNIT_CASE(qda_test_reserved),
	KUNIT_CASE(qda_test_late_end),
	KUNIT_CASE(qda_test_end_in_time),
	KUNIT_CASE(qda_test_dead),
	KUNIT_CASE(qda_test_transport_error),
	KUNIT_CASE(qda_test_too_many_calls),
	KUNIT_CASE(qda_test_too_many_ids),
	KUNIT_CASE(qda_test_args),
	KUNIT_CASE(qda_test_too_many_ranges),
	KUNIT_CASE(qda_test_export),
	KUNIT_CASE(qda_test_import),
	{ }
};

static struct kunit_suite qda_call_suite = {
	.name = "qda-call",
	.init = qda_test_init,
	.exit = qda_test_exit,
	.test_cases = qda_call_cases,
};

kunit_test_suites(&qda_wire_suite, &qda_call_suite);
