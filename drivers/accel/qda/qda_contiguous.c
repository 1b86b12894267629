// SPDX-License-Identifier: GPL-2.0-only
/*
 * Buffers of physically contiguous memory, for banks without an IOMMU. The DMA
 * helpers of GEM cannot make them: what they allocate belongs to one device, and
 * cannot be mapped for the bank of another session.
 */

#include <linux/gfp.h>
#include <linux/iosys-map.h>
#include <linux/mm.h>
#include <linux/scatterlist.h>
#include <linux/slab.h>

#include <drm/drm_gem.h>

#include "qda.h"

struct qda_contiguous {
	struct drm_gem_object base;
	void *mem;
};

static struct qda_contiguous *to_contiguous(struct drm_gem_object *obj)
{
	return container_of(obj, struct qda_contiguous, base);
}

static void qda_contiguous_free(struct drm_gem_object *obj)
{
	struct qda_contiguous *contiguous = to_contiguous(obj);

	drm_gem_object_release(obj);
	free_pages_exact(contiguous->mem, obj->size);
	kfree(contiguous);
}

static struct sg_table *qda_contiguous_get_sg_table(struct drm_gem_object *obj)
{
	struct sg_table *sgt = kmalloc_obj(*sgt);
	int ret;

	if (!sgt)
		return ERR_PTR(-ENOMEM);
	ret = sg_alloc_table(sgt, 1, GFP_KERNEL);
	if (ret) {
		kfree(sgt);
		return ERR_PTR(ret);
	}
	sg_set_page(sgt->sgl, virt_to_page(to_contiguous(obj)->mem), obj->size, 0);
	return sgt;
}

static int qda_contiguous_vmap(struct drm_gem_object *obj, struct iosys_map *map)
{
	iosys_map_set_vaddr(map, to_contiguous(obj)->mem);
	return 0;
}

static int qda_contiguous_mmap(struct drm_gem_object *obj, struct vm_area_struct *vma)
{
	if (vma_is_cow_mapping(vma))
		return -EINVAL;
	vm_flags_set(vma, VM_PFNMAP | VM_DONTEXPAND | VM_DONTDUMP);
	return 0;
}

/* Also after the device was unplugged, which takes pages out of all mappings. */
static vm_fault_t qda_contiguous_fault(struct vm_fault *vmf)
{
	struct drm_gem_object *obj = vmf->vma->vm_private_data;
	pgoff_t i = vmf->pgoff - drm_vma_node_start(&obj->vma_node);

	if (i >= obj->size >> PAGE_SHIFT)
		return VM_FAULT_SIGBUS;
	return vmf_insert_pfn(vmf->vma, vmf->address,
			      PHYS_PFN(virt_to_phys(to_contiguous(obj)->mem)) + i);
}

static const struct vm_operations_struct qda_contiguous_vm_ops = {
	.fault = qda_contiguous_fault,
	.open = drm_gem_vm_open,
	.close = drm_gem_vm_close,
};

static const struct drm_gem_object_funcs qda_contiguous_funcs = {
	.free = qda_contiguous_free,
	.close = qda_gem_close,
	.get_sg_table = qda_contiguous_get_sg_table,
	.vmap = qda_contiguous_vmap,
	.mmap = qda_contiguous_mmap,
	.vm_ops = &qda_contiguous_vm_ops,
};

/**
 * qda_contiguous_create() - make a buffer of contiguous memory
 * @qda: the DSP
 * @size: in bytes, of whole pages, %QDA_CONTIGUOUS_MAX at most
 *
 * Return: the buffer, or an error pointer
 */
struct drm_gem_object *qda_contiguous_create(struct qda_device *qda, size_t size)
{
	struct qda_contiguous *contiguous;
	int ret;

	contiguous = kzalloc_obj(*contiguous);
	if (!contiguous)
		return ERR_PTR(-ENOMEM);
	/* The least that banks can address. */
	contiguous->mem = alloc_pages_exact(size, GFP_KERNEL_ACCOUNT | GFP_DMA32 | __GFP_ZERO |
						  __GFP_NOWARN);
	if (!contiguous->mem) {
		kfree(contiguous);
		return ERR_PTR(-ENOMEM);
	}
	contiguous->base.funcs = &qda_contiguous_funcs;
	drm_gem_private_object_init(&qda->drm, &contiguous->base, size);
	ret = drm_gem_create_mmap_offset(&contiguous->base);
	if (ret) {
		qda_contiguous_free(&contiguous->base);
		return ERR_PTR(ret);
	}
	return &contiguous->base;
}
