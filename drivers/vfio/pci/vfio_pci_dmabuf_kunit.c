// SPDX-License-Identifier: GPL-2.0-only
/*
 * KUnit tests for DMABUFs: how ranges are merged, which PFN a page has, and what a
 * page fault puts into the page table. Included by vfio_pci_dmabuf.c.
 */
#include <kunit/test.h>
#include <linux/file.h>
#include <linux/mman.h>

#define BAR_PFN		0x800000UL	/* where the BAR of the tests begins */

struct page_range {
	unsigned long pfn, nr_pages;
};

static struct vfio_pci_dma_buf *test_dma_buf(struct kunit *test,
					     const struct page_range *ranges,
					     u32 nr_ranges)
{
	struct vfio_pci_dma_buf *priv;
	u32 i;

	priv = kunit_kzalloc(test, sizeof(*priv), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, priv);
	priv->nr_ranges = nr_ranges;
	priv->phys_vec = kunit_kcalloc(test, nr_ranges, sizeof(*priv->phys_vec),
				       GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, priv->phys_vec);
	priv->range_pgoff = kunit_kcalloc(test, nr_ranges,
					  sizeof(*priv->range_pgoff), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, priv->range_pgoff);

	for (i = 0; i < nr_ranges; i++) {
		priv->phys_vec[i].paddr = PFN_PHYS(ranges[i].pfn);
		priv->phys_vec[i].len = ranges[i].nr_pages << PAGE_SHIFT;
	}
	vfio_pci_dma_buf_index_ranges(priv);

	return priv;
}

static void expect_page(struct kunit *test, struct vfio_pci_dma_buf *priv,
			pgoff_t pgoff, unsigned long pfn, pgoff_t nr_pages)
{
	pgoff_t nr = 0;

	KUNIT_EXPECT_EQ_MSG(test, vfio_pci_dma_buf_pfn(priv, pgoff, &nr), pfn,
			    "page %lu", pgoff);
	KUNIT_EXPECT_EQ_MSG(test, nr, nr_pages, "page %lu", pgoff);
}

static void vfio_pci_dma_buf_one_range(struct kunit *test)
{
	static const struct page_range ranges[] = { { BAR_PFN + 3, 7 } };
	struct vfio_pci_dma_buf *priv = test_dma_buf(test, ranges, 1);

	KUNIT_EXPECT_EQ(test, priv->nr_ranges, 1);
	expect_page(test, priv, 0, BAR_PFN + 3, 7);
	expect_page(test, priv, 1, BAR_PFN + 4, 6);
	expect_page(test, priv, 6, BAR_PFN + 9, 1);
}

/* The first and the last page of each range, in an order that is not the BAR's. */
static void vfio_pci_dma_buf_boundaries(struct kunit *test)
{
	static const struct page_range ranges[] = {
		{ BAR_PFN + 64, 1 }, { BAR_PFN, 16 }, { BAR_PFN + 32, 2 },
		{ BAR_PFN + 100, 1 }, { BAR_PFN + 63, 1 },
	};
	struct vfio_pci_dma_buf *priv = test_dma_buf(test, ranges, 5);

	KUNIT_EXPECT_EQ(test, priv->nr_ranges, 5);
	expect_page(test, priv, 0, BAR_PFN + 64, 1);
	expect_page(test, priv, 1, BAR_PFN, 16);
	expect_page(test, priv, 16, BAR_PFN + 15, 1);
	expect_page(test, priv, 17, BAR_PFN + 32, 2);
	expect_page(test, priv, 18, BAR_PFN + 33, 1);
	expect_page(test, priv, 19, BAR_PFN + 100, 1);
	expect_page(test, priv, 20, BAR_PFN + 63, 1);
}

/* Each page of many ranges, against what a linear search finds. */
static void vfio_pci_dma_buf_many_ranges(struct kunit *test)
{
	struct page_range *ranges;
	struct vfio_pci_dma_buf *priv;
	pgoff_t pgoff = 0;
	u32 i, page;

	ranges = kunit_kcalloc(test, 1024, sizeof(*ranges), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, ranges);
	for (i = 0; i < 1024; i++) {
		ranges[i].pfn = BAR_PFN + 16 * i;
		ranges[i].nr_pages = 1 + i * 7 % 13;
	}

	priv = test_dma_buf(test, ranges, 1024);
	KUNIT_EXPECT_EQ(test, priv->nr_ranges, 1024);
	for (i = 0; i < 1024; i++)
		for (page = 0; page < ranges[i].nr_pages; page++)
			expect_page(test, priv, pgoff++, ranges[i].pfn + page,
				    ranges[i].nr_pages - page);
}

static void vfio_pci_dma_buf_merge(struct kunit *test)
{
	/* Neighbours in either order, the same range twice, all of it at the end */
	static const struct page_range ranges[] = {
		{ BAR_PFN, 2 }, { BAR_PFN + 2, 2 }, { BAR_PFN + 4, 1 },
		{ BAR_PFN + 3, 1 }, { BAR_PFN + 3, 1 }, { BAR_PFN + 4, 4 },
		{ BAR_PFN + 20, 1 }, { BAR_PFN + 21, 3 },
	};
	struct vfio_pci_dma_buf *priv = test_dma_buf(test, ranges, 8);

	KUNIT_EXPECT_EQ(test, priv->nr_ranges, 4);
	expect_page(test, priv, 0, BAR_PFN, 5);
	expect_page(test, priv, 4, BAR_PFN + 4, 1);
	expect_page(test, priv, 5, BAR_PFN + 3, 1);
	expect_page(test, priv, 6, BAR_PFN + 3, 5);
	expect_page(test, priv, 10, BAR_PFN + 7, 1);
	expect_page(test, priv, 11, BAR_PFN + 20, 4);
	expect_page(test, priv, 14, BAR_PFN + 23, 1);
}

static void vfio_pci_dma_buf_merge_all(struct kunit *test)
{
	struct page_range *ranges;
	struct vfio_pci_dma_buf *priv;
	u32 i;

	ranges = kunit_kcalloc(test, 64, sizeof(*ranges), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, ranges);
	for (i = 0; i < 64; i++) {
		ranges[i].pfn = BAR_PFN + i;
		ranges[i].nr_pages = 1;
	}

	priv = test_dma_buf(test, ranges, 64);
	KUNIT_EXPECT_EQ(test, priv->nr_ranges, 1);
	expect_page(test, priv, 0, BAR_PFN, 64);
	expect_page(test, priv, 63, BAR_PFN + 63, 1);
}

/* What huge pages depend on: how far a range goes, and where it begins. */
static void vfio_pci_dma_buf_huge_pages(struct kunit *test)
{
	static const unsigned long pmd = 512;
	const struct page_range ranges[] = {
		{ BAR_PFN, pmd }, { BAR_PFN + 4 * pmd + 1, pmd },
		{ BAR_PFN + 8 * pmd, 2 * pmd - 1 },
	};
	struct vfio_pci_dma_buf *priv = test_dma_buf(test, ranges, 3);

	KUNIT_EXPECT_TRUE(test, vfio_pci_dma_buf_fits(BAR_PFN, pmd, 9));
	KUNIT_EXPECT_FALSE(test, vfio_pci_dma_buf_fits(BAR_PFN, pmd - 1, 9));
	KUNIT_EXPECT_FALSE(test, vfio_pci_dma_buf_fits(BAR_PFN + 1, pmd, 9));
	KUNIT_EXPECT_TRUE(test, vfio_pci_dma_buf_fits(BAR_PFN + 1, 1, 0));

	expect_page(test, priv, 0, BAR_PFN, pmd);
	expect_page(test, priv, pmd, BAR_PFN + 4 * pmd + 1, pmd);
	expect_page(test, priv, 2 * pmd, BAR_PFN + 8 * pmd, 2 * pmd - 1);
	expect_page(test, priv, 3 * pmd, BAR_PFN + 9 * pmd, pmd - 1);
}

static void vfio_pci_dma_buf_past_4gib(struct kunit *test)
{
#ifdef CONFIG_64BIT
	static const unsigned long gib = SZ_1G >> PAGE_SHIFT;
	const struct page_range ranges[] = {
		{ BAR_PFN, 3 * gib }, { BAR_PFN + 8 * gib, 6 * gib },
		{ BAR_PFN + 14 * gib, 1 }, { BAR_PFN + 64 * gib, 2 },
	};
	struct vfio_pci_dma_buf *priv = test_dma_buf(test, ranges, 4);

	KUNIT_EXPECT_EQ(test, priv->nr_ranges, 3);
	expect_page(test, priv, 3 * gib - 1, BAR_PFN + 3 * gib - 1, 1);
	expect_page(test, priv, 5 * gib, BAR_PFN + 10 * gib, 4 * gib + 1);
	expect_page(test, priv, 9 * gib, BAR_PFN + 14 * gib, 1);
	expect_page(test, priv, 9 * gib + 2, BAR_PFN + 64 * gib + 1, 1);
#else
	kunit_skip(test, "a DMABUF has less than 4 GiB here");
#endif
}

/*
 * A DMABUF of a device that is none: it is mapped, but nothing is accessed.
 * test_unexport() has to be called.
 */
static struct vfio_pci_dma_buf *test_export(struct kunit *test,
					    unsigned long pfn,
					    unsigned long nr_pages)
{
	struct vfio_pci_core_device *vdev;
	struct vfio_pci_dma_buf *priv;

	vdev = kunit_kzalloc(test, sizeof(*vdev), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, vdev);
	vdev->pdev = kunit_kzalloc(test, sizeof(*vdev->pdev), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, vdev->pdev);
	vdev->pdev->dev.init_name = "kunit";
	vdev->vdev.device.init_name = "vfio";
	refcount_set(&vdev->vdev.refcount, 2);
	mutex_init(&vdev->dmabufs_lock);
	INIT_LIST_HEAD(&vdev->dmabufs);

	priv = vfio_pci_dma_buf_alloc(vdev, 1);
	KUNIT_ASSERT_NOT_NULL(test, priv);
	priv->size = nr_pages << PAGE_SHIFT;
	priv->phys_vec->paddr = PFN_PHYS(pfn);
	priv->phys_vec->len = priv->size;
	priv->cpu_mappable = true;
	if (vfio_pci_dma_buf_create(priv, &vfio_pci_dmabuf_ops, 0, O_RDWR)) {
		vfio_pci_dma_buf_free(priv);
		KUNIT_FAIL_AND_ABORT(test, "no DMABUF");
	}

	return priv;
}

static void test_unexport(struct vfio_pci_dma_buf *priv)
{
	dma_buf_put(priv->dmabuf);
	/* What a thread of the kernel releases is released later. */
	flush_delayed_fput();
}

/* Map a DMABUF, take a page fault, and look up what that has mapped. */
static void test_fault(struct kunit *test, struct vfio_pci_dma_buf *priv,
		       struct follow_pfnmap_args *found)
{
	unsigned long addr;
	int ret;

	addr = kunit_vm_mmap(test, priv->dmabuf->file, 0, priv->size,
			     PROT_READ | PROT_WRITE, MAP_SHARED, 0);
	KUNIT_EXPECT_FALSE(test, IS_ERR_VALUE(addr));
	if (IS_ERR_VALUE(addr))
		return;

	mmap_read_lock(current->mm);
	ret = fixup_user_fault(current->mm, addr, 0, NULL);
	found->vma = vma_lookup(current->mm, addr);
	found->address = addr;
	if (!ret)
		ret = follow_pfnmap_start(found);
	if (!ret)
		follow_pfnmap_end(found);
	mmap_read_unlock(current->mm);
	KUNIT_EXPECT_EQ(test, ret, 0);
	KUNIT_EXPECT_EQ(test, vm_munmap(addr, priv->size), 0);
}

static void vfio_pci_dma_buf_memattr(struct kunit *test)
{
	struct follow_pfnmap_args nc = {}, wc = {};
	struct vfio_pci_dma_buf *priv;

	if (!vfio_pci_can_write_combine())
		kunit_skip(test, "no write combining here");

	KUNIT_ASSERT_EQ(test, kunit_attach_mm(), 0);
	priv = test_export(test, BAR_PFN + 5, 1);
	test_fault(test, priv, &nc);
	priv->write_combine = true;
	test_fault(test, priv, &wc);
	test_unexport(priv);

	KUNIT_EXPECT_EQ(test, nc.pfn, BAR_PFN + 5);
	KUNIT_EXPECT_EQ(test, wc.pfn, BAR_PFN + 5);
	KUNIT_EXPECT_EQ(test, pgprot_val(nc.pgprot),
			pgprot_val(pgprot_noncached(nc.pgprot)));
	KUNIT_EXPECT_EQ(test, pgprot_val(wc.pgprot),
			pgprot_val(pgprot_writecombine(wc.pgprot)));
	KUNIT_EXPECT_NE(test, pgprot_val(nc.pgprot), pgprot_val(wc.pgprot));
}

static struct kunit_case vfio_pci_dma_buf_cases[] = {
	KUNIT_CASE(vfio_pci_dma_buf_one_range),
	KUNIT_CASE(vfio_pci_dma_buf_boundaries),
	KUNIT_CASE(vfio_pci_dma_buf_many_ranges),
	KUNIT_CASE(vfio_pci_dma_buf_merge),
	KUNIT_CASE(vfio_pci_dma_buf_merge_all),
	KUNIT_CASE(vfio_pci_dma_buf_huge_pages),
	KUNIT_CASE(vfio_pci_dma_buf_past_4gib),
	KUNIT_CASE(vfio_pci_dma_buf_memattr),
	{}
};

static struct kunit_suite vfio_pci_dma_buf_suite = {
	.name = "vfio_pci_dma_buf",
	.test_cases = vfio_pci_dma_buf_cases,
};

kunit_test_suite(vfio_pci_dma_buf_suite);
