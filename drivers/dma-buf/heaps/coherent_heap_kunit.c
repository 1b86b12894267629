// SPDX-License-Identifier: GPL-2.0
/*
 * KUnit tests for the coherent heaps: importers, and others who share a region.
 * Included by coherent_heap.c.
 *
 * They need a machine with a heap, and a PCI device behind an IOMMU.
 */
#include <kunit/device.h>
#include <kunit/test.h>
#include <linux/completion.h>
#include <linux/dma-resv.h>
#include <linux/file.h>
#include <linux/iommu.h>
#include <linux/iommu-dma.h>
#include <linux/kthread.h>
#include <linux/mman.h>
#include <linux/of_address.h>
#include <linux/pci.h>
#include <linux/sched/mm.h>
#include <linux/swiotlb.h>
#include <linux/workqueue.h>

#define TEST_LEN	(3 * PAGE_SIZE)

struct coherent_heap_test {
	struct coherent_heap *coherent;
	struct dma_buf *dmabuf;
	struct coherent_heap_buffer *buffer;
};

static void test_free(struct dma_buf *dmabuf)
{
	dma_buf_put(dmabuf);
	flush_delayed_fput();
}

static int heap_test_init(struct kunit *test)
{
	struct coherent_heap_test *t;

	t = kunit_kzalloc(test, sizeof(*t), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, t);

	t->coherent = list_first_entry_or_null(&coherent_heaps, struct coherent_heap, list);
	if (!t->coherent)
		kunit_skip(test, "no region");
	t->dmabuf = coherent_heap_allocate(t->coherent->heap, TEST_LEN, O_RDWR, 0);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, t->dmabuf);
	t->buffer = t->dmabuf->priv;
	test->priv = t;
	return 0;
}

static void heap_test_exit(struct kunit *test)
{
	struct coherent_heap_test *t = test->priv;

	if (t)
		test_free(t->dmabuf);
}

static struct device *test_device(struct kunit *test, const char *name)
{
	struct device *dev = kunit_device_register(test, name);

	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, dev);
	KUNIT_ASSERT_EQ(test, 0, dma_coerce_mask_and_coherent(dev, DMA_BIT_MASK(64)));
	return dev;
}

/* Import the buffer, and show the mapping, or its error, to @look. */
static void test_import(struct kunit *test, struct device *dev,
			void (*look)(struct kunit *test, struct device *dev,
				     struct sg_table *sgt))
{
	struct coherent_heap_test *t = test->priv;
	struct dma_buf_attachment *attach = dma_buf_attach(t->dmabuf, dev);
	struct sg_table *sgt;

	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, attach);
	sgt = dma_buf_map_attachment_unlocked(attach, DMA_BIDIRECTIONAL);
	look(test, dev, sgt);
	if (!IS_ERR(sgt))
		dma_buf_unmap_attachment_unlocked(attach, sgt, DMA_BIDIRECTIONAL);
	dma_buf_detach(t->dmabuf, attach);
}

static void expect_one_entry(struct kunit *test, struct sg_table *sgt)
{
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, sgt);
	KUNIT_EXPECT_EQ(test, sgt->nents, 1);
	KUNIT_EXPECT_EQ(test, sg_dma_len(sgt->sgl), TEST_LEN);
}

static void expect_physical_address(struct kunit *test, struct device *dev,
				    struct sg_table *sgt)
{
	struct coherent_heap_test *t = test->priv;

	expect_one_entry(test, sgt);
	KUNIT_EXPECT_EQ(test, sg_dma_address(sgt->sgl), t->buffer->phys);
}

static void import_without_iommu(struct kunit *test)
{
	test_import(test, test_device(test, "importer"), expect_physical_address);
}

/* Without what dma-buf's debug code puts in between, which hides pages */
static void import_has_no_page(struct kunit *test)
{
	struct coherent_heap_test *t = test->priv;
	struct dma_buf_attachment *attach;
	struct sg_table *sgt;

	attach = dma_buf_attach(t->dmabuf, test_device(test, "importer"));
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, attach);
	sgt = coherent_heap_map_dma_buf(attach, DMA_TO_DEVICE);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, sgt);
	KUNIT_EXPECT_EQ(test, sgt->orig_nents, 0);
	KUNIT_EXPECT_PTR_EQ(test, sg_page(sgt->sgl), NULL);
	KUNIT_EXPECT_TRUE(test, sg_is_last(sgt->sgl));
	coherent_heap_unmap_dma_buf(attach, sgt, DMA_TO_DEVICE);
	dma_buf_detach(t->dmabuf, attach);
}

/* Each allocation on the way fails once. */
static void import_fails(struct kunit *test)
{
#ifdef CONFIG_FAULT_INJECTION
	struct coherent_heap_test *t = test->priv;
	struct dma_buf_attachment *attach;
	unsigned int n, errors = 0;
	struct sg_table *sgt;
	bool injected = true;

	attach = dma_buf_attach(t->dmabuf, test_device(test, "importer"));
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, attach);
	for (n = 1; injected && n < 100; n++) {
		current->fail_nth = n;
		sgt = dma_buf_map_attachment_unlocked(attach, DMA_TO_DEVICE);
		injected = !current->fail_nth;
		current->fail_nth = 0;
		if (IS_ERR(sgt)) {
			KUNIT_EXPECT_PTR_EQ(test, sgt, ERR_PTR(-ENOMEM));
			errors++;
		} else {
			dma_buf_unmap_attachment_unlocked(attach, sgt, DMA_TO_DEVICE);
		}
	}
	dma_buf_detach(t->dmabuf, attach);
	if (errors)
		return;
#endif
	kunit_skip(test, "no allocation fails; see /sys/kernel/debug/failslab");
}

static void expect_erange(struct kunit *test, struct device *dev, struct sg_table *sgt)
{
	KUNIT_EXPECT_PTR_EQ(test, sgt, ERR_PTR(-ERANGE));
}

static void import_out_of_reach(struct kunit *test)
{
	struct coherent_heap_test *t = test->priv;
	struct device *dev = test_device(test, "importer");

	/* A mask that ends with the last byte, one that ends before it */
	*dev->dma_mask = t->buffer->phys + TEST_LEN - 1;
	test_import(test, dev, expect_physical_address);
	*dev->dma_mask = t->buffer->phys + TEST_LEN - 2;
	test_import(test, dev, expect_erange);
}

#ifdef CONFIG_SWIOTLB
static void expect_eio(struct kunit *test, struct device *dev, struct sg_table *sgt)
{
	KUNIT_EXPECT_PTR_EQ(test, sgt, ERR_PTR(-EIO));
}

/* What swiotlb=force makes of every device: it would get a copy. */
static void import_by_copies(struct kunit *test)
{
	static struct io_tlb_mem mem = { .force_bounce = true };
	struct device *dev = test_device(test, "importer");

	dev->dma_io_tlb_mem = &mem;
	test_import(test, dev, expect_eio);
}
#endif

static void expect_translation(struct kunit *test, struct device *dev,
			       struct sg_table *sgt)
{
	struct iommu_domain *domain = iommu_get_domain_for_dev(dev);
	struct coherent_heap_test *t = test->priv;
	dma_addr_t addr;
	size_t i;

	expect_one_entry(test, sgt);
	addr = sg_dma_address(sgt->sgl);
	for (i = 0; i < TEST_LEN; i += PAGE_SIZE)
		KUNIT_EXPECT_EQ(test, iommu_iova_to_phys(domain, addr + i), t->buffer->phys + i);
	KUNIT_EXPECT_EQ(test, iommu_iova_to_phys(domain, addr + TEST_LEN), 0);
	KUNIT_EXPECT_LE(test, addr + TEST_LEN - 1, DMA_BIT_MASK(32));
}

/* Through an IOMMU a device of 32 bits reaches a region at any address. */
static void import_behind_iommu(struct kunit *test)
{
	struct coherent_heap_test *t = test->priv;
	struct coherent_heap *coherent;
	struct pci_dev *pdev = NULL;

	for_each_pci_dev(pdev)
		if (use_dma_iommu(&pdev->dev) && !pdev->dev.driver)
			break;
	if (!pdev)
		kunit_skip(test, "no PCI device behind an IOMMU");

	test_free(t->dmabuf);
	list_for_each_entry(coherent, &coherent_heaps, list) {
		t->dmabuf = coherent_heap_allocate(coherent->heap, TEST_LEN, O_RDWR, 0);
		KUNIT_ASSERT_NOT_ERR_OR_NULL(test, t->dmabuf);
		t->buffer = t->dmabuf->priv;
		test_import(test, &pdev->dev, expect_translation);
		if (!list_is_last(&coherent->list, &coherent_heaps))
			test_free(t->dmabuf);
	}
	pci_dev_put(pdev);
}

/* More importers at once than the debug code lets overlap in cache lines */
static void import_by_many(struct kunit *test)
{
	struct coherent_heap_test *t = test->priv;
	struct device *dev = test_device(test, "importer");
	struct dma_buf_attachment *attach[10];
	struct sg_table *sgt[ARRAY_SIZE(attach)];
	int i;

	for (i = 0; i < ARRAY_SIZE(attach); i++) {
		attach[i] = dma_buf_attach(t->dmabuf, dev);
		KUNIT_ASSERT_NOT_ERR_OR_NULL(test, attach[i]);
		sgt[i] = dma_buf_map_attachment_unlocked(attach[i], DMA_BIDIRECTIONAL);
		expect_physical_address(test, dev, sgt[i]);
	}
	while (i--) {
		dma_buf_unmap_attachment_unlocked(attach[i], sgt[i], DMA_BIDIRECTIONAL);
		dma_buf_detach(t->dmabuf, attach[i]);
	}
}

/* User space's mappings are write-combined, whatever the architecture calls that. */
static void mmap_is_write_combined(struct kunit *test)
{
	struct coherent_heap_test *t = test->priv;
	struct vm_area_struct *vma;
	struct mm_struct *mm;
	unsigned long addr;
	pgprot_t wanted;

	KUNIT_ASSERT_EQ(test, kunit_attach_mm(), 0);
	addr = vm_mmap(t->dmabuf->file, 0, TEST_LEN, PROT_READ | PROT_WRITE, MAP_SHARED, 0);
	KUNIT_EXPECT_FALSE(test, IS_ERR_VALUE(addr));

	scoped_guard(mmap_read_lock, current->mm) {
		vma = find_vma(current->mm, addr);
		KUNIT_EXPECT_NOT_NULL(test, vma);
		if (vma) {
			wanted = pgprot_writecombine(vm_get_page_prot(vma->vm_flags));
			KUNIT_EXPECT_EQ(test, pgprot_val(vma->vm_page_prot), pgprot_val(wanted));
		}
	}
	/* kunit_attach_mm() has taken two references, and the thread would give one back. */
	mm = current->mm;
	kthread_unuse_mm(mm);
	mmput(mm);
}

/* The kernel sees the pool's own mapping, and sees it zeroed. */
static void vmap_is_the_pools(struct kunit *test)
{
	struct coherent_heap_test *t = test->priv;
	struct iosys_map map;

	KUNIT_ASSERT_EQ(test, dma_buf_vmap_unlocked(t->dmabuf, &map), 0);
	KUNIT_EXPECT_PTR_EQ(test, map.vaddr, t->buffer->vaddr);
	KUNIT_EXPECT_TRUE(test, is_vmalloc_addr(map.vaddr));
	KUNIT_EXPECT_NULL(test, memchr_inv(map.vaddr, 0, TEST_LEN));
	memset(map.vaddr, 0x5a, TEST_LEN);
	dma_buf_vunmap_unlocked(t->dmabuf, &map);

	/* The next owner of these pages sees nothing of that. */
	test_free(t->dmabuf);
	t->dmabuf = coherent_heap_allocate(t->coherent->heap, TEST_LEN, O_RDWR, 0);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, t->dmabuf);
	t->buffer = t->dmabuf->priv;
	KUNIT_ASSERT_EQ(test, dma_buf_vmap_unlocked(t->dmabuf, &map), 0);
	KUNIT_EXPECT_NULL(test, memchr_inv(map.vaddr, 0, TEST_LEN));
	dma_buf_vunmap_unlocked(t->dmabuf, &map);
}

static void refuses_what_no_entry_holds(struct kunit *test)
{
	struct coherent_heap_test *t = test->priv;

	if (sizeof(long) > sizeof(int))
		KUNIT_EXPECT_PTR_EQ(test, coherent_heap_allocate(t->coherent->heap,
								 1UL << (BITS_PER_LONG / 2),
								 O_RDWR, 0), ERR_PTR(-EINVAL));
	KUNIT_EXPECT_PTR_EQ(test, coherent_heap_allocate(t->coherent->heap, SZ_2G, O_RDWR, 0),
			    ERR_PTR(-ENOMEM));
}

/* Another heap has the name: there is no second one, and nothing is bound. */
static void name_is_taken(struct kunit *test)
{
	struct coherent_heap_test *t = test->priv;
	const char *name = dma_heap_get_name(t->coherent->heap);
	struct device_node *parent __free(device_node) =
		of_find_node_by_path("/reserved-memory");
	struct device_node *np __free(device_node) = NULL;

	for_each_child_of_node_scoped(parent, child)
		if (!np && !strcmp(kbasename(child->full_name), name))
			np = of_node_get(child);
	KUNIT_ASSERT_NOT_NULL(test, np);
	KUNIT_EXPECT_EQ(test, coherent_heap_add(np, name), -EEXIST);
	KUNIT_EXPECT_PTR_EQ(test, t->coherent,
			    list_first_entry(&coherent_heaps, struct coherent_heap, list));
}

/* That is where the node has it by its reg, or where the kernel has put it. */
static void allocates_from_its_region(struct kunit *test)
{
	struct device_node *parent __free(device_node) =
		of_find_node_by_path("/reserved-memory");
	struct coherent_heap *coherent;

	list_for_each_entry(coherent, &coherent_heaps, list) {
		const char *name = dma_heap_get_name(coherent->heap);
		struct coherent_heap_buffer *buffer;
		struct reserved_mem *rmem = NULL;
		struct resource region, mem;
		struct dma_buf *dmabuf;

		for_each_child_of_node_scoped(parent, np) {
			if (strcmp(kbasename(np->full_name), name))
				continue;
			rmem = of_reserved_mem_lookup(np);
			KUNIT_ASSERT_NOT_NULL(test, rmem);
			if (of_address_to_resource(np, 0, &region))
				region = DEFINE_RES_MEM(rmem->base, rmem->size);
		}
		KUNIT_ASSERT_NOT_NULL(test, rmem);

		dmabuf = coherent_heap_allocate(coherent->heap, TEST_LEN, O_RDWR, 0);
		KUNIT_ASSERT_NOT_ERR_OR_NULL(test, dmabuf);
		buffer = dmabuf->priv;
		mem = DEFINE_RES_MEM(buffer->phys, buffer->len);
		KUNIT_EXPECT_TRUE_MSG(test, resource_contains(&region, &mem), "%s: %pR, not in %pR",
				      name, &mem, &region);
		test_free(dmabuf);
	}
}

struct test_binding {
	struct work_struct work;
	struct completion *start;
	struct device *dev;
	struct device_node *region;
	int ret;
};

static void bind_work(struct work_struct *work)
{
	struct test_binding *binding = container_of(work, struct test_binding, work);

	wait_for_completion(binding->start);
	binding->ret = of_reserved_mem_device_init_by_region(binding->dev, binding->region);
}

/*
 * Two devices at once, on each region: those that have a heap are set up
 * already, but those that belong to a device are not, as the tests' has no driver.
 */
static void devices_share_a_pool(struct kunit *test)
{
	struct device_node *parent __free(device_node) =
		of_find_node_by_path("/reserved-memory");
	unsigned int regions = 0;

	for_each_available_child_of_node_scoped(parent, np) {
		DECLARE_COMPLETION_ONSTACK(start);
		struct test_binding bindings[2];
		int i;

		if (!of_device_is_compatible(np, "shared-dma-pool") ||
		    !of_property_read_bool(np, "no-map") || !of_reserved_mem_lookup(np))
			continue;
		for (i = 0; i < 2; i++) {
			bindings[i].dev = test_device(test, i ? "second" : "first");
			bindings[i].region = np;
			bindings[i].start = &start;
			INIT_WORK_ONSTACK(&bindings[i].work, bind_work);
		}
		for (i = 0; i < 2; i++)
			queue_work(system_dfl_wq, &bindings[i].work);
		complete_all(&start);
		for (i = 0; i < 2; i++) {
			flush_work(&bindings[i].work);
			destroy_work_on_stack(&bindings[i].work);
			KUNIT_EXPECT_EQ(test, bindings[i].ret, 0);
		}
		KUNIT_EXPECT_NOT_NULL(test, bindings[0].dev->dma_mem);
		KUNIT_EXPECT_PTR_EQ(test, bindings[0].dev->dma_mem, bindings[1].dev->dma_mem);

		/* Bound is bound, and released by the same function as ever. */
		KUNIT_EXPECT_EQ(test, -EBUSY,
				of_reserved_mem_device_init_by_region(bindings[0].dev, np));
		for (i = 0; i < 2; i++) {
			of_reserved_mem_device_release(bindings[i].dev);
			KUNIT_EXPECT_NULL(test, bindings[i].dev->dma_mem);
			kunit_device_unregister(test, bindings[i].dev);
		}
		regions++;
	}
	KUNIT_EXPECT_GT(test, regions, 0);

	/* Not a region of this kind */
	KUNIT_EXPECT_EQ(test, -EINVAL,
			of_reserved_mem_device_init_by_region(test_device(test, "third"), parent));
}

static struct kunit_case heap_test_cases[] = {
	KUNIT_CASE(import_without_iommu),
	KUNIT_CASE(import_has_no_page),
	KUNIT_CASE(import_fails),
	KUNIT_CASE(import_out_of_reach),
#ifdef CONFIG_SWIOTLB
	KUNIT_CASE(import_by_copies),
#endif
	KUNIT_CASE(import_behind_iommu),
	KUNIT_CASE(import_by_many),
	KUNIT_CASE(mmap_is_write_combined),
	KUNIT_CASE(vmap_is_the_pools),
	KUNIT_CASE(refuses_what_no_entry_holds),
	KUNIT_CASE(name_is_taken),
	KUNIT_CASE(allocates_from_its_region),
	KUNIT_CASE(devices_share_a_pool),
	{}
};

static struct kunit_suite heap_test_suite = {
	.name = "coherent_heap",
	.init = heap_test_init,
	.exit = heap_test_exit,
	.test_cases = heap_test_cases,
};

kunit_test_suite(heap_test_suite);
