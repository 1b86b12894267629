// SPDX-License-Identifier: GPL-2.0-only
/*
 * The heap of static domains: reserved memory that is lent to the virtual
 * machines of the DSP while there is one. An audio DSP is told of it once, and
 * keeps it until it restarts.
 */

#include <linux/dma-mapping.h>
#include <linux/firmware/qcom/qcom_scm.h>
#include <linux/of.h>
#include <linux/of_reserved_mem.h>

#include <drm/drm_managed.h>
#include <drm/drm_print.h>
#include <drm/qda_accel.h>

#include "qda.h"

#define QDA_MAX_VMIDS	16

static int lend(struct qda_heap *heap, const u32 *vmids, unsigned int n)
{
	struct qcom_scm_vmperm perms[QDA_MAX_VMIDS];
	u64 owners = BIT_ULL(QCOM_SCM_VMID_HLOS);
	unsigned int i;
	int ret;

	for (i = 0; i < n; i++) {
		if (vmids[i] >= BITS_PER_TYPE(owners))
			return -EINVAL;
		perms[i].vmid = vmids[i];
		perms[i].perm = QCOM_SCM_PERM_RWX;
	}
	ret = qcom_scm_assign_mem(heap->addr, heap->size, &owners, perms, n);
	if (ret)
		return ret;
	for (i = 0; i < n; i++)
		heap->owners |= BIT_ULL(vmids[i]);
	return 0;
}

static void give_region_back(struct qda_device *qda)
{
	struct device *dev = qda->drm.dev;
	struct qda_heap *heap = &qda->heap;

	if (heap->mem)
		dma_free_coherent(dev, heap->size, heap->mem, heap->dma_addr);
	heap->mem = NULL;
	of_reserved_mem_device_release(dev);
}

/*
 * A region for CMA has pages of others until it is allocated. The DSP shall not see
 * what they had there, nor have it written over by what caches still have of that.
 */
static bool take_region(struct qda_device *qda, struct device_node *np)
{
	struct device_node *region __free(device_node) = of_parse_phandle(np, "memory-region", 0);
	struct device *dev = qda->drm.dev;
	struct qda_heap *heap = &qda->heap;

	if (!of_property_read_bool(region, "reusable"))
		return true;
	if (dma_coerce_mask_and_coherent(dev, DMA_BIT_MASK(64)) ||
	    of_reserved_mem_device_init_by_idx(dev, np, 0))
		return false;
	heap->mem = dma_alloc_coherent(dev, heap->size, &heap->dma_addr, GFP_KERNEL | __GFP_NOWARN);
	/* Where it fails in the region, it may have found something elsewhere. */
	if (heap->mem && heap->dma_addr == heap->addr)
		return true;
	give_region_back(qda);
	return false;
}

/**
 * qda_heap_init() - find the heap of a DSP that may have one
 * @qda: the DSP, whose domain is known
 * @np: its devicetree node
 *
 * Return: 0, also if there is none, or an error: -EPROBE_DEFER if the firmware
 * that lends memory is not there yet
 */
int qda_heap_init(struct qda_device *qda, struct device_node *np)
{
	struct qda_heap *heap = &qda->heap;
	u32 vmids[QDA_MAX_VMIDS];
	struct resource res;
	int ret, n;

	ret = drmm_mutex_init(&qda->drm, &heap->lock);
	if (ret)
		return ret;
	if (qda->domain != DRM_QDA_DOMAIN_ADSP && qda->domain != DRM_QDA_DOMAIN_SDSP)
		return 0;
	if (of_reserved_mem_region_to_resource(np, 0, &res))
		return 0;
	heap->addr = res.start;
	heap->size = resource_size(&res);

	ret = of_property_read_variable_u32_array(np, "qcom,vmids", vmids, 1, QDA_MAX_VMIDS);
	if (ret == -EINVAL)
		ret = 0;	/* It has no such property. */
	if (ret < 0)
		return ret;
	n = ret;
	if (n && !qcom_scm_is_available())
		return -EPROBE_DEFER;
	if (!take_region(qda, np)) {
		drm_warn(&qda->drm, "no static domains: their memory is in use\n");
		heap->size = 0;
		return 0;
	}
	ret = n ? lend(heap, vmids, n) : 0;
	if (ret)
		give_region_back(qda);
	return ret;
}

/**
 * qda_heap_release() - take the heap back
 * @qda: the DSP, which is gone
 */
void qda_heap_release(struct qda_device *qda)
{
	const struct qcom_scm_vmperm perm = {
		.vmid = QCOM_SCM_VMID_HLOS, .perm = QCOM_SCM_PERM_RWX,
	};
	struct qda_heap *heap = &qda->heap;

	/* What is not given back to Linux stays allocated. */
	if (heap->owners &&
	    qcom_scm_assign_mem(heap->addr, heap->size, &heap->owners, &perm, 1))
		drm_err(&qda->drm, "the heap at %pa cannot be taken back\n", &heap->addr);
	else
		give_region_back(qda);
}

/**
 * qda_heap_usable() - tell whether the DSP can have static domains
 * @qda: the DSP
 *
 * Return: whether it has a heap and is an audio DSP; others have no such domains
 */
bool qda_heap_usable(struct qda_device *qda)
{
	return qda->heap.size && qda->domain == DRM_QDA_DOMAIN_ADSP;
}
