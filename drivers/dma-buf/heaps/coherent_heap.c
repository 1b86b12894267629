// SPDX-License-Identifier: GPL-2.0
/*
 * DMABUF coherent heap exporter
 *
 * Heaps of the reserved memory regions that are non-reusable shared-dma-pools:
 * one each, named like the region's node. The memory comes from the pool that
 * dma_alloc_coherent() takes it from when such a region belongs to a device. It
 * may have no struct pages, and has no cacheable mapping: everything here knows
 * it by its physical address, or by the write-combined mapping that the pool has.
 */

#define pr_fmt(fmt) "coherent_heap: " fmt

#include <linux/dma-buf.h>
#include <linux/dma-heap.h>
#include <linux/dma-map-ops.h>
#include <linux/dma-mapping.h>
#include <linux/err.h>
#include <linux/ioport.h>
#include <linux/iosys-map.h>
#include <linux/list.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/of.h>
#include <linux/of_reserved_mem.h>
#include <linux/scatterlist.h>
#include <linux/slab.h>

static char *expose;
module_param(expose, charp, 0444);
MODULE_PARM_DESC(expose,
		 "Regions that become heaps although a device has them: names of their nodes, separated by colons");

/**
 * struct coherent_heap - the heap of a region
 * @heap:	the heap, whose device is bound to the region
 * @list:	list head connecting to coherent_heaps
 */
struct coherent_heap {
	struct dma_heap *heap;
	struct list_head list;
};

static LIST_HEAD(coherent_heaps);

/**
 * struct coherent_heap_buffer - a buffer, which pins this module
 * @dev:	the heap's device
 * @vaddr:	the memory, in the pool's write-combined mapping
 * @phys:	the memory's physical address
 * @len:	bytes, a multiple of PAGE_SIZE
 */
struct coherent_heap_buffer {
	struct device *dev;
	void *vaddr;
	phys_addr_t phys;
	size_t len;
};

/* What an importer gets: one entry with a DMA address, and no page. */
struct coherent_heap_mapping {
	struct sg_table table;
	struct scatterlist sgl;
};

/*
 * DMA_ATTR_MMIO says what this memory is: never cached by the CPU, so that there
 * is nothing to sync and nothing to bounce, and not to be looked up as a page. The
 * other one tells the DMA API's debug code that importers may share cache lines.
 */
#define COHERENT_HEAP_ATTRS	(DMA_ATTR_MMIO | DMA_ATTR_DEBUGGING_IGNORE_CACHELINES)

static struct sg_table *
coherent_heap_map_dma_buf(struct dma_buf_attachment *attachment,
			  enum dma_data_direction direction)
{
	struct coherent_heap_buffer *buffer = attachment->dmabuf->priv;
	struct coherent_heap_mapping *map;
	dma_addr_t addr;

	/* User space has chosen the device: dma_map_phys() shall not warn of it. */
	if (!dma_mmio_capable(attachment->dev, buffer->phys, buffer->len))
		return ERR_PTR(-ERANGE);

	map = kzalloc_obj(*map);
	if (!map)
		return ERR_PTR(-ENOMEM);

	addr = dma_map_phys(attachment->dev, buffer->phys, buffer->len,
			    direction, COHERENT_HEAP_ATTRS);
	if (dma_mapping_error(attachment->dev, addr)) {
		kfree(map);
		return ERR_PTR(-EIO);
	}

	sg_init_table(&map->sgl, 1);
	sg_dma_address(&map->sgl) = addr;
	sg_dma_len(&map->sgl) = buffer->len;
	map->table.sgl = &map->sgl;
	map->table.nents = 1;

	return &map->table;
}

static void coherent_heap_unmap_dma_buf(struct dma_buf_attachment *attachment,
					struct sg_table *table,
					enum dma_data_direction direction)
{
	dma_unmap_phys(attachment->dev, sg_dma_address(table->sgl),
		       sg_dma_len(table->sgl), direction, COHERENT_HEAP_ATTRS);
	kfree(container_of(table, struct coherent_heap_mapping, table));
}

static int coherent_heap_barrier(struct dma_buf *dmabuf,
				 enum dma_data_direction direction)
{
	/* No cache lines to maintain: what is stored just has to leave the CPU. */
	mb();
	return 0;
}

static int coherent_heap_mmap(struct dma_buf *dmabuf, struct vm_area_struct *vma)
{
	struct coherent_heap_buffer *buffer = dmabuf->priv;

	if (!(vma->vm_flags & VM_MAYSHARE))
		return -EINVAL;

	/* dma-buf has checked that the buffer has these pages. */
	vma->vm_page_prot = pgprot_writecombine(vma->vm_page_prot);
	return remap_pfn_range(vma, vma->vm_start,
			       PHYS_PFN(buffer->phys) + vma->vm_pgoff,
			       vma->vm_end - vma->vm_start, vma->vm_page_prot);
}

static int coherent_heap_vmap(struct dma_buf *dmabuf, struct iosys_map *map)
{
	struct coherent_heap_buffer *buffer = dmabuf->priv;

	iosys_map_set_vaddr(map, buffer->vaddr);
	return 0;
}

static void coherent_heap_release(struct dma_buf *dmabuf)
{
	struct coherent_heap_buffer *buffer = dmabuf->priv;

	dma_coherent_mem_free(buffer->dev, buffer->len, buffer->vaddr);
	kfree(buffer);
}

static const struct dma_buf_ops coherent_heap_buf_ops = {
	.map_dma_buf = coherent_heap_map_dma_buf,
	.unmap_dma_buf = coherent_heap_unmap_dma_buf,
	.begin_cpu_access = coherent_heap_barrier,
	.end_cpu_access = coherent_heap_barrier,
	.mmap = coherent_heap_mmap,
	.vmap = coherent_heap_vmap,
	.release = coherent_heap_release,
};

static struct dma_buf *coherent_heap_allocate(struct dma_heap *heap,
					      unsigned long len,
					      u32 fd_flags, u64 heap_flags)
{
	DEFINE_DMA_BUF_EXPORT_INFO(exp_info);
	struct coherent_heap_buffer *buffer;
	struct dma_buf *dmabuf;

	/* It has to fit into the one entry that importers get. */
	if (len > UINT_MAX)
		return ERR_PTR(-EINVAL);

	buffer = kzalloc_obj(*buffer);
	if (!buffer)
		return ERR_PTR(-ENOMEM);

	buffer->dev = dma_heap_get_dev(heap);
	buffer->len = len;
	buffer->vaddr = dma_coherent_mem_alloc(buffer->dev, len, &buffer->phys);
	if (!buffer->vaddr) {
		kfree(buffer);
		return ERR_PTR(-ENOMEM);
	}

	exp_info.exp_name = dma_heap_get_name(heap);
	exp_info.ops = &coherent_heap_buf_ops;
	exp_info.size = len;
	exp_info.flags = fd_flags;
	exp_info.priv = buffer;
	dmabuf = dma_buf_export(&exp_info);
	if (IS_ERR(dmabuf)) {
		dma_coherent_mem_free(buffer->dev, len, buffer->vaddr);
		kfree(buffer);
	}

	return dmabuf;
}

static const struct dma_heap_ops coherent_heap_ops = {
	.owner = THIS_MODULE,
	.allocate = coherent_heap_allocate,
};

/*
 * Is there such a device, for the kernel or for firmware that runs it? Not if what
 * it lies behind is not there.
 */
static bool __init coherent_heap_has_device(struct device_node *np)
{
	bool has = true;

	for (of_node_get(np); np && has; np = of_get_next_parent(np))
		has = of_device_is_available(np) ||
		      of_property_match_string(np, "status", "reserved") >= 0;
	of_node_put(np);

	return has;
}

/* Does a device have this region, whether or not a driver is bound to it? */
static bool __init coherent_heap_claimed(const struct device_node *region)
{
	struct device_node *user, *target;
	int i, count;

	for_each_node_with_property(user, "memory-region") {
		if (!coherent_heap_has_device(user))
			continue;
		count = of_reserved_mem_region_count(user);
		for (i = 0; i < count; i++) {
			target = of_parse_phandle(user, "memory-region", i);
			of_node_put(target);
			if (target == region) {
				of_node_put(user);
				return true;
			}
		}
	}

	return false;
}

static bool __init coherent_heap_exposed(const char *name)
{
	const char *word = expose;
	size_t len;

	while (word && *word) {
		len = strcspn(word, ":");
		if (len == strlen(name) && !strncmp(word, name, len))
			return true;
		word += len + (word[len] == ':');
	}

	return false;
}

/* Why there is no heap for a region, or NULL */
static const char * __init coherent_heap_unfit(struct device_node *np,
					       const struct reserved_mem *rmem)
{
	if (of_property_read_bool(np, "linux,dma-default"))
		return "it is the default pool";
	if (coherent_heap_claimed(np) && !coherent_heap_exposed(rmem->name))
		return "it belongs to a device";
	if (!PAGE_ALIGNED(rmem->base) || rmem->size < PAGE_SIZE)
		return "it does not begin with a page, or is smaller";
	/* The pool could not be mapped, and memremap() would warn. */
	if (region_intersects(rmem->base, rmem->size, IORESOURCE_SYSTEM_RAM,
			      IORES_DESC_NONE) != REGION_DISJOINT)
		return "it is mapped as RAM, and needs no-map";
	return NULL;
}

static int coherent_heap_add(struct device_node *np, const char *name)
{
	struct dma_heap_export_info exp_info = {
		.name = name,
		.ops = &coherent_heap_ops,
	};
	struct coherent_heap *coherent;
	struct device *dev;
	int ret;

	coherent = kzalloc_obj(*coherent);
	if (!coherent)
		return -ENOMEM;

	coherent->heap = dma_heap_create(&exp_info);
	if (IS_ERR(coherent->heap)) {
		ret = PTR_ERR(coherent->heap);
		goto err_free;
	}

	dev = dma_heap_get_dev(coherent->heap);
	ret = of_reserved_mem_device_init_by_region(dev, np);
	if (ret)
		goto err_destroy;

	ret = dma_heap_register(coherent->heap);
	if (ret)
		goto err_release;

	list_add(&coherent->list, &coherent_heaps);
	return 0;

err_release:
	of_reserved_mem_device_release(dev);
err_destroy:
	dma_heap_destroy(coherent->heap);
err_free:
	kfree(coherent);
	return ret;
}

static int __init coherent_heap_init(void)
{
	struct device_node *parent __free(device_node) =
		of_find_node_by_path("/reserved-memory");
	const struct reserved_mem *rmem;
	const char *why;
	int ret;

	for_each_available_child_of_node_scoped(parent, np) {
		if (!of_device_is_compatible(np, "shared-dma-pool") ||
		    of_property_read_bool(np, "reusable"))
			continue;

		rmem = of_reserved_mem_lookup(np);
		why = rmem ? coherent_heap_unfit(np, rmem) : "it is not reserved";
		if (why) {
			pr_info("no heap for %pOF: %s\n", np, why);
			continue;
		}

		/* dma_heap_register() has told of a name that is taken. */
		ret = coherent_heap_add(np, rmem->name);
		if (ret && ret != -EEXIST)
			pr_err("no heap for %pOF: error %pe\n", np, ERR_PTR(ret));
	}

	return 0;
}
module_init(coherent_heap_init);

static void __exit coherent_heap_exit(void)
{
	struct coherent_heap *coherent, *next;

	list_for_each_entry_safe(coherent, next, &coherent_heaps, list) {
		dma_heap_unregister(coherent->heap);
		of_reserved_mem_device_release(dma_heap_get_dev(coherent->heap));
		dma_heap_destroy(coherent->heap);
		kfree(coherent);
	}
}
module_exit(coherent_heap_exit);

MODULE_DESCRIPTION("DMA-BUF Coherent Heap");
MODULE_LICENSE("GPL");
MODULE_IMPORT_NS("DMA_BUF");
MODULE_IMPORT_NS("DMA_BUF_HEAP");

#if IS_ENABLED(CONFIG_DMABUF_HEAPS_COHERENT_KUNIT_TEST)
#include "coherent_heap_kunit.c"
#endif
