// SPDX-License-Identifier: GPL-2.0-only
/*
 * Buffers in the bank of a session: mapped at first use, found again after that.
 */

#include <linux/dma-buf.h>
#include <linux/dma-mapping.h>
#include <linux/slab.h>

#include <drm/drm_gem.h>
#include <drm/drm_prime.h>

#include "qda.h"

static struct sg_table *map_import(struct qda_mapping *mapping, struct dma_buf *dmabuf,
				   struct device *bank)
{
	struct sg_table *sgt;

	mapping->attach = dma_buf_attach(dmabuf, bank);
	if (IS_ERR(mapping->attach))
		return ERR_CAST(mapping->attach);
	sgt = dma_buf_map_attachment_unlocked(mapping->attach, DMA_BIDIRECTIONAL);
	if (IS_ERR(sgt))
		dma_buf_detach(dmabuf, mapping->attach);
	return sgt;
}

static int pin(struct drm_gem_object *obj)
{
	int ret;

	if (!obj->funcs->pin)
		return 0;
	dma_resv_lock(obj->resv, NULL);
	ret = obj->funcs->pin(obj);
	dma_resv_unlock(obj->resv);
	return ret;
}

static void unpin(struct drm_gem_object *obj)
{
	if (!obj->funcs->unpin)
		return;
	dma_resv_lock(obj->resv, NULL);
	obj->funcs->unpin(obj);
	dma_resv_unlock(obj->resv);
}

static struct sg_table *map_native(struct drm_gem_object *obj, struct device *bank)
{
	struct sg_table *sgt;
	int ret;

	ret = pin(obj);
	if (ret)
		return ERR_PTR(ret);
	sgt = obj->funcs->get_sg_table(obj);
	if (IS_ERR(sgt)) {
		unpin(obj);
		return sgt;
	}
	ret = dma_map_sgtable(bank, sgt, DMA_BIDIRECTIONAL, 0);
	if (ret) {
		sg_free_table(sgt);
		kfree(sgt);
		unpin(obj);
		return ERR_PTR(ret);
	}
	return sgt;
}

static void unmap(struct qda_session *session, struct qda_mapping *mapping)
{
	struct device *bank = &session->bank->dev;
	struct sg_table *sgt = mapping->sgt;

	mapping->sgt = NULL;
	if (mapping->attach) {
		struct dma_buf *dmabuf = mapping->attach->dmabuf;

		dma_buf_unmap_attachment_unlocked(mapping->attach, sgt, DMA_BIDIRECTIONAL);
		dma_buf_detach(dmabuf, mapping->attach);
		return;
	}
	/* Calls have synchronised their outputs. What the CPU has written since must stay. */
	dma_unmap_sgtable(bank, sgt, DMA_BIDIRECTIONAL, DMA_ATTR_SKIP_CPU_SYNC);
	sg_free_table(sgt);
	kfree(sgt);
	unpin(mapping->obj);
}

static void destroy(struct qda_session *session, struct qda_mapping *mapping)
{
	if (mapping->sgt)
		unmap(session, mapping);
	hash_del(&mapping->node);
	drm_gem_object_put(mapping->obj);
	kfree(mapping);
}

static struct qda_mapping *create(struct qda_session *session, struct drm_gem_object *obj)
{
	struct dma_buf *dmabuf = qda_gem_imported(obj);
	struct device *bank = &session->bank->dev;
	struct qda_mapping *mapping;
	struct sg_table *sgt;

	mapping = kzalloc_obj(*mapping, GFP_KERNEL_ACCOUNT);
	if (!mapping)
		return ERR_PTR(-ENOMEM);
	sgt = dmabuf ? map_import(mapping, dmabuf, bank) : map_native(obj, bank);
	if (IS_ERR(sgt)) {
		kfree(mapping);
		return ERR_CAST(sgt);
	}
	mapping->sgt = sgt;
	mapping->addr = qda_session_address(session, sg_dma_address(sgt->sgl));
	mapping->obj = obj;
	drm_gem_object_get(obj);
	hash_add(session->mappings, &mapping->node, (unsigned long)obj);
	if (drm_prime_get_contiguous_size(sgt) < obj->size) {
		destroy(session, mapping);
		return ERR_PTR(-EOPNOTSUPP);
	}
	return mapping;
}

static struct qda_mapping *find(struct qda_session *session, struct drm_gem_object *obj)
{
	struct qda_mapping *mapping;

	hash_for_each_possible(session->mappings, mapping, node, (unsigned long)obj)
		if (mapping->obj == obj && mapping->sgt)
			return mapping;
	return NULL;
}

/**
 * qda_mapping_get() - use a buffer in a session
 * @session: the session, whose lock is held
 * @obj: the buffer
 *
 * Return: the mapping, which qda_mapping_put() gives back; or an error pointer:
 * -EPIPE if the session has left its bank, -EOPNOTSUPP if the buffer cannot be
 * mapped contiguously
 */
struct qda_mapping *qda_mapping_get(struct qda_session *session, struct drm_gem_object *obj)
{
	struct qda_mapping *mapping;

	lockdep_assert_held(&session->lock);
	if (!session->bank)
		return ERR_PTR(-EPIPE);
	mapping = find(session, obj);
	if (!mapping)
		mapping = create(session, obj);
	if (IS_ERR(mapping))
		return mapping;
	mapping->closed = false;
	mapping->users++;
	return mapping;
}

/**
 * qda_mapping_put() - give a mapping back
 * @session: its session, whose lock is held
 * @mapping: the mapping
 */
void qda_mapping_put(struct qda_session *session, struct qda_mapping *mapping)
{
	lockdep_assert_held(&session->lock);
	if (!--mapping->users && (mapping->closed || !mapping->sgt))
		destroy(session, mapping);
}

/**
 * qda_mapping_close() - a buffer's handle is gone: unmap it once nobody uses it
 * @session: the session
 * @obj: the buffer
 */
void qda_mapping_close(struct qda_session *session, struct drm_gem_object *obj)
{
	struct qda_mapping *mapping;

	guard(mutex)(&session->lock);
	mapping = find(session, obj);
	if (!mapping)
		return;
	mapping->closed = true;
	if (!mapping->users)
		destroy(session, mapping);
}

/**
 * qda_mappings_unmap() - unmap all buffers of a session
 * @session: the session, whose lock is held; the DSP uses none of them
 *
 * What somebody uses stays, without an address, until it is given back.
 */
void qda_mappings_unmap(struct qda_session *session)
{
	struct qda_mapping *mapping;
	struct hlist_node *tmp;
	unsigned int bucket;

	lockdep_assert_held(&session->lock);
	hash_for_each_safe(session->mappings, bucket, tmp, mapping, node) {
		if (!mapping->users)
			destroy(session, mapping);
		else if (mapping->sgt)
			unmap(session, mapping);
	}
}

/*
 * Page by page, as what is contiguous for the bank need not be so in memory.
 * Importers of a dma-buf leave this to the exporter.
 */
static void sync(struct qda_session *session, struct qda_mapping *mapping, u64 offset, u64 len,
		 void (*sync_page)(struct device *dev, dma_addr_t addr, size_t size,
				   enum dma_data_direction dir))
{
	dma_addr_t addr = sg_dma_address(mapping->sgt->sgl) + offset;
	struct device *bank = &session->bank->dev;
	size_t n;

	if (mapping->attach || !dma_need_sync(bank, addr))
		return;
	for (; len; addr += n, len -= n) {
		n = min_t(u64, len, PAGE_SIZE - offset_in_page(addr));
		sync_page(bank, addr, n, DMA_BIDIRECTIONAL);
	}
}

/**
 * qda_mapping_for_device() - let the DSP see what the CPU wrote
 * @session: its session, whose lock is held and which is in its bank
 * @mapping: the mapping
 * @offset: where the part of the buffer begins that the DSP may use
 * @len: its length in bytes
 */
void qda_mapping_for_device(struct qda_session *session, struct qda_mapping *mapping, u64 offset,
			    u64 len)
{
	sync(session, mapping, offset, len, dma_sync_single_for_device);
}

/**
 * qda_mapping_for_cpu() - let the CPU see what the DSP wrote
 * @session: its session, whose lock is held and which is in its bank
 * @mapping: the mapping
 * @offset: where the part of the buffer begins that the DSP wrote
 * @len: its length in bytes
 */
void qda_mapping_for_cpu(struct qda_session *session, struct qda_mapping *mapping, u64 offset,
			 u64 len)
{
	sync(session, mapping, offset, len, dma_sync_single_for_cpu);
}
