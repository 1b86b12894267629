// SPDX-License-Identifier: GPL-2.0-only
/*
 * Buffers. They belong to no bank: qda_mapping.c maps them where they are used.
 *
 * A kind of native memory is a set of GEM functions with pin, unpin and
 * get_sg_table; qda_gem_create() chooses one. What is imported stays the
 * exporter's, and each bank attaches to it. drm_gem_prime_import() cannot do
 * that: it attaches and maps once, to a device that does no DMA.
 */

#include <linux/dma-buf.h>
#include <linux/sizes.h>
#include <linux/slab.h>

#include <drm/drm_gem_shmem_helper.h>
#include <drm/drm_prime.h>

#include "qda.h"

static const struct drm_gem_object_funcs qda_pages_funcs = {
	.free = drm_gem_shmem_object_free,
	.close = qda_gem_close,
	.print_info = drm_gem_shmem_object_print_info,
	.pin = drm_gem_shmem_object_pin,
	.unpin = drm_gem_shmem_object_unpin,
	.get_sg_table = drm_gem_shmem_object_get_sg_table,
	.vmap = drm_gem_shmem_object_vmap,
	.vunmap = drm_gem_shmem_object_vunmap,
	.mmap = drm_gem_shmem_object_mmap,
	.vm_ops = &drm_gem_shmem_vm_ops,
};

/**
 * qda_gem_create_object() - implementation of &drm_driver.gem_create_object
 * @drm: the DSP's accel device
 * @size: in bytes
 *
 * Return: an object for the shmem helpers, or an error pointer
 */
struct drm_gem_object *qda_gem_create_object(struct drm_device *drm, size_t size)
{
	struct drm_gem_shmem_object *shmem = kzalloc_obj(*shmem);

	if (!shmem)
		return ERR_PTR(-ENOMEM);
	shmem->base.funcs = &qda_pages_funcs;
	/* What the DSP wrote must not be lost when nobody has the pages mapped. */
	shmem->pages_mark_dirty_on_put = true;
	return &shmem->base;
}

static struct drm_gem_object *qda_pages_create(struct qda_device *qda, size_t size)
{
	struct drm_gem_shmem_object *shmem = drm_gem_shmem_create(&qda->drm, size);

	return IS_ERR(shmem) ? ERR_CAST(shmem) : &shmem->base;
}

/**
 * qda_gem_max_size() - how large a buffer can be
 * @qda: the DSP
 *
 * Return: that, in bytes
 */
u64 qda_gem_max_size(struct qda_device *qda)
{
	return qda->contiguous ? QDA_CONTIGUOUS_MAX : SZ_1G;
}

/**
 * qda_gem_create() - make a buffer and a handle of it
 * @qda: the DSP
 * @file: whose handle it is
 * @size: in bytes
 * @handle: where to put the handle
 *
 * Return: 0, -EINVAL if the size is none, or another error
 */
int qda_gem_create(struct qda_device *qda, struct drm_file *file, u64 size, u32 *handle)
{
	struct drm_gem_object *obj;
	int ret;

	if (!size || size > qda_gem_max_size(qda))
		return -EINVAL;
	size = PAGE_ALIGN(size);
	obj = qda->contiguous ? qda_contiguous_create(qda, size) : qda_pages_create(qda, size);
	if (IS_ERR(obj))
		return PTR_ERR(obj);
	ret = drm_gem_handle_create(file, obj, handle);
	drm_gem_object_put(obj);
	return ret;
}

struct qda_import {
	struct drm_gem_object base;
	struct dma_buf *dmabuf;
};

static void qda_import_free(struct drm_gem_object *obj)
{
	struct qda_import *import = container_of(obj, struct qda_import, base);

	drm_gem_object_release(obj);
	dma_buf_put(import->dmabuf);
	kfree(import);
}

static int qda_import_mmap(struct drm_gem_object *obj, struct vm_area_struct *vma)
{
	return -EINVAL;
}

static const struct drm_gem_object_funcs qda_import_funcs = {
	.free = qda_import_free,
	.close = qda_gem_close,
	.mmap = qda_import_mmap,
};

/**
 * qda_gem_import() - implementation of &drm_driver.gem_prime_import
 * @drm: the DSP's accel device
 * @dmabuf: what to import
 *
 * Return: a buffer, or an error pointer
 */
struct drm_gem_object *qda_gem_import(struct drm_device *drm, struct dma_buf *dmabuf)
{
	struct qda_import *import;

	if (drm_gem_is_prime_exported_dma_buf(drm, dmabuf)) {
		struct drm_gem_object *obj = dmabuf->priv;

		/* Its own buffer, without a bank's address in it. */
		drm_gem_object_get(obj);
		return obj;
	}
	if (!PAGE_ALIGNED(dmabuf->size))
		return ERR_PTR(-EINVAL);
	import = kzalloc_obj(*import);
	if (!import)
		return ERR_PTR(-ENOMEM);
	drm_gem_private_object_init(drm, &import->base, dmabuf->size);
	import->base.funcs = &qda_import_funcs;
	import->base.resv = dmabuf->resv;
	get_dma_buf(dmabuf);
	import->dmabuf = dmabuf;
	return &import->base;
}

/**
 * qda_gem_imported() - tell what a buffer was imported from
 * @obj: the buffer
 *
 * Return: the dma-buf, NULL for native memory
 */
struct dma_buf *qda_gem_imported(struct drm_gem_object *obj)
{
	if (obj->funcs != &qda_import_funcs)
		return NULL;
	return container_of(obj, struct qda_import, base)->dmabuf;
}
