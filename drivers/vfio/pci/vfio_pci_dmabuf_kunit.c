// SPDX-License-Identifier: GPL-2.0-only
/*
 * KUnit tests for DMABUFs: how ranges are merged, which PFN a page has, what a page
 * fault puts into the page table, and how importers are waited for. Included by
 * vfio_pci_dmabuf.c.
 */
#include <kunit/resource.h>
#include <kunit/test.h>
#include <linux/fdtable.h>
#include <linux/file.h>
#include <linux/iopoll.h>
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

static const struct vfio_pci_device_ops test_pci_ops = {
	.get_dmabuf_phys = vfio_pci_core_get_dmabuf_phys,
};

/* A device that is none: what it exports is mapped, but nothing is accessed. */
static struct vfio_pci_core_device *test_device(struct kunit *test)
{
	struct vfio_pci_core_device *vdev;

	vdev = kunit_kzalloc(test, sizeof(*vdev), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, vdev);
	vdev->pdev = kunit_kzalloc(test, sizeof(*vdev->pdev), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, vdev->pdev);
	vdev->pdev->dev.init_name = "kunit";
	vdev->pci_ops = &test_pci_ops;
	/* Accessible, as far as vfio_pci_dma_buf_resume() can tell */
	vdev->pdev->no_command_memory = 1;
	vdev->vconfig = kunit_kzalloc(test, PCI_STD_HEADER_SIZEOF, GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, vdev->vconfig);
	vdev->vdev.device.init_name = "vfio";
	refcount_set(&vdev->vdev.refcount, 1);
	init_rwsem(&vdev->memory_lock);
	mutex_init(&vdev->dmabufs_lock);
	INIT_LIST_HEAD(&vdev->dmabufs);

	return vdev;
}

/* A DMABUF, for which test_unexport() has to be called */
static struct vfio_pci_dma_buf *test_export_of(struct kunit *test,
					       struct vfio_pci_core_device *vdev,
					       unsigned long pfn,
					       unsigned long nr_pages)
{
	struct vfio_pci_dma_buf *priv;

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
	refcount_inc(&vdev->vdev.refcount);

	return priv;
}

static struct vfio_pci_dma_buf *test_export(struct kunit *test,
					    unsigned long pfn,
					    unsigned long nr_pages)
{
	return test_export_of(test, test_device(test), pfn, nr_pages);
}

static void test_unexport(struct vfio_pci_dma_buf *priv)
{
	dma_buf_put(priv->dmabuf);
	/* What a thread of the kernel releases is released later. */
	flush_delayed_fput();
}

/* Take a page fault at an address, and look up what that has mapped. */
static void test_access(struct kunit *test, unsigned long addr, unsigned int flags,
			struct follow_pfnmap_args *found)
{
	int ret;

	mmap_read_lock(current->mm);
	ret = fixup_user_fault(current->mm, addr, flags, NULL);
	found->vma = vma_lookup(current->mm, addr);
	found->address = addr;
	if (!ret)
		ret = follow_pfnmap_start(found);
	if (!ret)
		follow_pfnmap_end(found);
	mmap_read_unlock(current->mm);
	KUNIT_EXPECT_EQ(test, ret, 0);
}

static void test_fault(struct kunit *test, unsigned long addr,
		       struct follow_pfnmap_args *found)
{
	test_access(test, addr, 0, found);
}

static unsigned long test_mmap(struct kunit *test, struct vfio_pci_dma_buf *priv)
{
	return kunit_vm_mmap(test, priv->dmabuf->file, 0, priv->size,
			     PROT_READ | PROT_WRITE, MAP_SHARED, 0);
}

typedef int test_feature_fn(struct vfio_pci_core_device *vdev, u32 flags,
			    void __user *arg, size_t argsz);

/* As user space sets it, by a descriptor and from its memory */
static int test_set_feature(struct kunit *test, struct vfio_pci_dma_buf *priv,
			    test_feature_fn *feature, u32 value)
{
	/* That of a revocation looks the same. */
	struct vfio_device_feature_dma_buf_memattr arg = { .memattr = value };
	void __user *uarg;
	int ret = -EFAULT;

	arg.dmabuf_fd = get_unused_fd_flags(O_CLOEXEC);
	if (arg.dmabuf_fd < 0)
		return arg.dmabuf_fd;
	fd_install(arg.dmabuf_fd, get_file(priv->dmabuf->file));

	uarg = (void __user *)kunit_vm_mmap(test, NULL, 0, PAGE_SIZE,
					    PROT_READ | PROT_WRITE,
					    MAP_ANONYMOUS | MAP_PRIVATE, 0);
	if (!copy_to_user(uarg, &arg, sizeof(arg)))
		ret = feature(priv->vdev, VFIO_DEVICE_FEATURE_SET, uarg, sizeof(arg));
	close_fd(arg.dmabuf_fd);
	return ret;
}

static int test_set_memattr(struct kunit *test, struct vfio_pci_dma_buf *priv,
			    u32 memattr)
{
	return test_set_feature(test, priv,
				vfio_pci_core_feature_dma_buf_memattr, memattr);
}

static int test_revoke(struct kunit *test, struct vfio_pci_dma_buf *priv)
{
	return test_set_feature(test, priv,
				vfio_pci_core_feature_dma_buf_revoke, 0);
}

/*
 * Only what is mapped later is write-combining, and a zap does not change that. x86
 * has its own idea of the memory type of a PFN, so there it cannot be asked for.
 */
static void vfio_pci_dma_buf_memattr(struct kunit *test)
{
	struct follow_pfnmap_args nc = {}, wc = {}, again = {}, back = {};
	unsigned long nc_addr, wc_addr, back_addr;
	struct vfio_pci_dma_buf *priv;

	if (!vfio_pci_can_write_combine() && !IS_ENABLED(CONFIG_X86))
		kunit_skip(test, "no write combining here");

	KUNIT_ASSERT_EQ(test, kunit_attach_mm(), 0);
	priv = test_export(test, BAR_PFN + 5, 1);
	nc_addr = test_mmap(test, priv);
	test_fault(test, nc_addr, &nc);
	KUNIT_EXPECT_EQ(test, IS_ENABLED(CONFIG_X86) ? -EOPNOTSUPP : 0,
			test_set_memattr(test, priv, VFIO_DMA_BUF_MEMATTR_WC));
	if (IS_ENABLED(CONFIG_X86))
		priv->write_combine = true;
	wc_addr = test_mmap(test, priv);
	test_fault(test, wc_addr, &wc);
	KUNIT_EXPECT_EQ(test, 0,
			test_set_memattr(test, priv, VFIO_DMA_BUF_MEMATTR_NC));
	back_addr = test_mmap(test, priv);
	test_fault(test, back_addr, &back);
	unmap_mapping_range(priv->inode->i_mapping, 0, 0, true);
	test_fault(test, nc_addr, &again);
	KUNIT_EXPECT_EQ(test, vm_munmap(nc_addr, priv->size), 0);
	KUNIT_EXPECT_EQ(test, vm_munmap(wc_addr, priv->size), 0);
	KUNIT_EXPECT_EQ(test, vm_munmap(back_addr, priv->size), 0);
	test_unexport(priv);

	KUNIT_EXPECT_EQ(test, nc.pfn, BAR_PFN + 5);
	KUNIT_EXPECT_EQ(test, wc.pfn, BAR_PFN + 5);
	KUNIT_EXPECT_EQ(test, pgprot_val(nc.pgprot),
			pgprot_val(pgprot_noncached(nc.pgprot)));
	KUNIT_EXPECT_EQ(test, pgprot_val(again.pgprot), pgprot_val(nc.pgprot));
	KUNIT_EXPECT_EQ(test, pgprot_val(back.pgprot), pgprot_val(nc.pgprot));
	if (IS_ENABLED(CONFIG_X86)) {
		KUNIT_EXPECT_EQ(test, pgprot_val(wc.pgprot), pgprot_val(nc.pgprot));
		return;
	}
	KUNIT_EXPECT_EQ(test, pgprot_val(wc.pgprot),
			pgprot_val(pgprot_writecombine(wc.pgprot)));
	KUNIT_EXPECT_NE(test, pgprot_val(nc.pgprot), pgprot_val(wc.pgprot));
}

/*
 * What an entry of @size bytes can map is mapped by one, by the first access. If it
 * is read-only because soft-dirty bits were cleared, it is so until it is written to.
 */
static void __maybe_unused test_huge_entry(struct kunit *test, unsigned long size)
{
	unsigned long addr = 8 * size;	/* aligned, and free: nothing is mapped yet */
	struct follow_pfnmap_args found = {}, clean = {}, dirty = {};
	struct vfio_pci_dma_buf *priv;
	struct vm_area_struct *vma;

	KUNIT_ASSERT_EQ(test, kunit_attach_mm(), 0);
	priv = test_export(test, BAR_PFN, size >> PAGE_SHIFT);
	KUNIT_EXPECT_EQ(test, addr,
			kunit_vm_mmap(test, priv->dmabuf->file, addr, size,
				      PROT_READ | PROT_WRITE,
				      MAP_SHARED | MAP_FIXED, 0));
	/* As by MADV_HUGEPAGE, which some configurations want */
	mmap_write_lock(current->mm);
	vm_flags_set(vma_lookup(current->mm, addr), VM_HUGEPAGE);
	mmap_write_unlock(current->mm);
	test_fault(test, addr + 5 * PAGE_SIZE, &found);
	KUNIT_EXPECT_EQ(test, found.pfn, BAR_PFN + 5);
	KUNIT_EXPECT_EQ(test, found.addr_mask, ~(size - 1));
	KUNIT_EXPECT_TRUE(test, found.writable);

	mmap_write_lock(current->mm);
	vma = vma_lookup(current->mm, addr);
	vma->vm_page_prot = pgprot_modify(vma->vm_page_prot,
					  vm_get_page_prot(vma->vm_flags & ~VM_SHARED));
	mmap_write_unlock(current->mm);
	unmap_mapping_range(priv->inode->i_mapping, 0, 0, true);
	test_fault(test, addr, &clean);
	KUNIT_EXPECT_FALSE(test, clean.writable);
	test_access(test, addr, FAULT_FLAG_WRITE, &dirty);
	KUNIT_EXPECT_TRUE(test, dirty.writable);
	KUNIT_EXPECT_EQ(test, dirty.addr_mask, ~(size - 1));
	KUNIT_EXPECT_EQ(test, vm_munmap(addr, size), 0);
	test_unexport(priv);
}

static void vfio_pci_dma_buf_pmd_entry(struct kunit *test)
{
#ifdef CONFIG_ARCH_SUPPORTS_PMD_PFNMAP
	test_huge_entry(test, PMD_SIZE);
#else
	kunit_skip(test, "PMDs do not map PFNs here");
#endif
}

static void vfio_pci_dma_buf_pud_entry(struct kunit *test)
{
#ifdef CONFIG_ARCH_SUPPORTS_PUD_PFNMAP
	test_huge_entry(test, PUD_SIZE);
#else
	kunit_skip(test, "PUDs do not map PFNs here");
#endif
}

/* The CPU may only map what lies in the BAR. */
static void vfio_pci_dma_buf_in_bar(struct kunit *test)
{
	static const struct {
		struct page_range ranges[2];
		bool is_bar;
	} cases[] = {
		{ { { BAR_PFN, 4 }, { BAR_PFN, 1 } }, true },
		{ { { BAR_PFN + 3, 1 }, { BAR_PFN, 1 } }, true },
		{ { { BAR_PFN - 1, 1 }, { BAR_PFN + 1, 1 } }, false },
		{ { { BAR_PFN - 1, 2 }, { BAR_PFN, 1 } }, false },
		{ { { BAR_PFN + 3, 2 }, { BAR_PFN, 1 } }, false },
		{ { { BAR_PFN, 1 }, { BAR_PFN + 4, 1 } }, false },
	};
	struct vfio_pci_core_device *vdev = test_device(test);
	struct vfio_pci_dma_buf *priv;
	int i;

	vdev->pdev->resource[0].start = PFN_PHYS(BAR_PFN);
	vdev->pdev->resource[0].end = PFN_PHYS(BAR_PFN + 4) - 1;
	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		priv = test_dma_buf(test, cases[i].ranges, 2);
		priv->vdev = vdev;
		vdev->bar_mmap_supported[0] = true;
		KUNIT_EXPECT_EQ_MSG(test, vfio_pci_dma_buf_is_bar(priv, 0),
				    cases[i].is_bar, "case %d", i);
		vdev->bar_mmap_supported[0] = false;
		KUNIT_EXPECT_FALSE(test, vfio_pci_dma_buf_is_bar(priv, 0));
	}
}

static void vfio_pci_dma_buf_refused(struct kunit *test)
{
	struct vfio_pci_core_device *vdev;
	struct vfio_pci_dma_buf *priv;
	unsigned long addr;

	KUNIT_ASSERT_EQ(test, kunit_attach_mm(), 0);
	priv = test_export(test, BAR_PFN, 1);
	vdev = priv->vdev;

	/* What a driver exports in place of a BAR is not for the CPU to map. */
	priv->cpu_mappable = false;
	addr = vm_mmap(priv->dmabuf->file, 0, PAGE_SIZE, PROT_READ, MAP_SHARED, 0);
	KUNIT_EXPECT_EQ(test, (long)addr, -EINVAL);
	KUNIT_EXPECT_EQ(test, test_set_memattr(test, priv, VFIO_DMA_BUF_MEMATTR_NC), 0);
	KUNIT_EXPECT_EQ(test, test_set_memattr(test, priv, VFIO_DMA_BUF_MEMATTR_WC),
			-EOPNOTSUPP);

	/* There are drivers that cannot export. */
	vdev->pci_ops = NULL;
	KUNIT_EXPECT_EQ(test, test_set_memattr(test, priv, VFIO_DMA_BUF_MEMATTR_NC),
			-EOPNOTSUPP);
	KUNIT_EXPECT_EQ(test, -EOPNOTSUPP,
			vfio_pci_core_feature_dma_buf_revoke(vdev, VFIO_DEVICE_FEATURE_SET,
							     NULL, 0));
	KUNIT_EXPECT_EQ(test, -EOPNOTSUPP,
			vfio_pci_core_feature_dma_buf(vdev, VFIO_DEVICE_FEATURE_GET, NULL, 0));
	test_unexport(priv);
}

static void vfio_pci_dma_buf_long_name(struct kunit *test)
{
	struct vfio_pci_dma_buf *priv = test_export(test, BAR_PFN, 1);

	KUNIT_EXPECT_STREQ(test, priv->dmabuf->name, "vfio:kunit/bar0");
	kfree(priv->dmabuf->name);
	priv->vdev->vdev.device.init_name = "a-name-of-more-than-the-32-that-there-are";
	vfio_pci_dma_buf_set_name(priv, 5);
	KUNIT_EXPECT_STREQ(test, priv->dmabuf->name, "a-name-of-more-than-the-32-that");
	test_unexport(priv);
}

/* Suspends the DMABUFs of a device, and waits for importers, by itself */
struct test_suspend {
	struct work_struct work;
	struct vfio_pci_core_device *vdev;
	struct completion done;
};

static void test_suspend_work(struct work_struct *work)
{
	struct test_suspend *suspend =
		container_of(work, struct test_suspend, work);

	down_write(&suspend->vdev->memory_lock);
	vfio_pci_dma_buf_suspend(suspend->vdev);
	up_write(&suspend->vdev->memory_lock);
	complete(&suspend->done);
}

static struct test_suspend *test_suspend_start(struct kunit *test,
					       struct vfio_pci_core_device *vdev)
{
	struct test_suspend *suspend;

	suspend = kunit_kzalloc(test, sizeof(*suspend), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, suspend);
	INIT_WORK(&suspend->work, test_suspend_work);
	init_completion(&suspend->done);
	suspend->vdev = vdev;
	queue_work(system_dfl_wq, &suspend->work);
	return suspend;
}

static bool test_suspend_done(struct test_suspend *suspend, unsigned int ms)
{
	return wait_for_completion_timeout(&suspend->done, msecs_to_jiffies(ms));
}

static void test_resume(struct vfio_pci_core_device *vdev)
{
	down_write(&vdev->memory_lock);
	vfio_pci_dma_buf_resume(vdev);
	up_write(&vdev->memory_lock);
}

static void test_free_pci_dev(struct device *dev)
{
	kfree(to_pci_dev(dev));
}

KUNIT_DEFINE_ACTION_WRAPPER(test_put_device, put_device, struct device *);

/* A PCI device that is its own peer: P2PDMA does not ask for more than this. */
static struct pci_dev *test_pci_dev(struct kunit *test)
{
	struct pci_dev *pdev;
	struct pci_bus *bus;

	bus = kunit_kzalloc(test, sizeof(*bus), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, bus);
	/* Where some architectures keep the domain */
	bus->sysdata = kunit_kzalloc(test, PAGE_SIZE, GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, bus->sysdata);

	pdev = kzalloc_obj(*pdev);
	KUNIT_ASSERT_NOT_NULL(test, pdev);
	pdev->bus = bus;
	pdev->dev.bus = &pci_bus_type;
	pdev->dev.init_name = "kunit-peer";
	pdev->dev.release = test_free_pci_dev;
	device_initialize(&pdev->dev);
	KUNIT_ASSERT_EQ(test, kunit_add_action_or_reset(test, test_put_device,
							&pdev->dev), 0);
	KUNIT_ASSERT_EQ(test, pcim_p2pdma_init(pdev), 0);

	return pdev;
}

/* Who imports a DMABUF, and what it sees of another when it is told to stop */
struct test_importer {
	struct completion invalidated;
	struct mm_struct *mm;
	unsigned long other;
	bool other_mapped;
};

/* With mmap_lock held for reading */
static bool test_is_mapped_locked(struct mm_struct *mm, unsigned long addr)
{
	struct follow_pfnmap_args found = { .address = addr };
	bool mapped;

	found.vma = vma_lookup(mm, addr);
	mapped = found.vma && !follow_pfnmap_start(&found);
	if (mapped)
		follow_pfnmap_end(&found);
	return mapped;
}

static bool test_is_mapped(unsigned long addr)
{
	bool mapped;

	mmap_read_lock(current->mm);
	mapped = test_is_mapped_locked(current->mm, addr);
	mmap_read_unlock(current->mm);
	return mapped;
}

static void test_invalidate(struct dma_buf_attachment *attach)
{
	struct test_importer *importer = attach->importer_priv;

	/* Under a reservation lock this may not be waited for. It is free. */
	if (mmap_read_trylock(importer->mm)) {
		importer->other_mapped = test_is_mapped_locked(importer->mm,
							       importer->other);
		mmap_read_unlock(importer->mm);
	}
	complete(&importer->invalidated);
}

static const struct dma_buf_attach_ops test_importer_ops = {
	.allow_peer2peer = true,
	.invalidate_mappings = test_invalidate,
};

/*
 * An importer that takes its time to unmap the DMABUF is waited for. So long, CPUs
 * cannot access it any more, nor any other DMABUF of the device that is suspended.
 */
static void vfio_pci_dma_buf_importer(struct kunit *test)
{
	struct pci_dev *pdev = test_pci_dev(test);
	struct p2pdma_provider provider = { .owner = &pdev->dev };
	struct test_importer importer = { .other_mapped = true };
	struct vfio_pci_dma_buf *priv, *other;
	struct dma_buf_attachment *attach;
	struct test_suspend *suspend;
	struct follow_pfnmap_args found = {};
	struct sg_table *sgt, *late;
	unsigned long addr;

	KUNIT_ASSERT_EQ(test, kunit_attach_mm(), 0);
	priv = test_export(test, BAR_PFN + 5, 2);
	priv->provider = &provider;
	addr = test_mmap(test, priv);
	test_fault(test, addr, &found);
	KUNIT_EXPECT_TRUE(test, test_is_mapped(addr));
	/* Behind it on the list of the device */
	other = test_export_of(test, priv->vdev, BAR_PFN, 1);
	importer.other = test_mmap(test, other);
	importer.mm = current->mm;
	init_completion(&importer.invalidated);
	test_fault(test, importer.other, &found);
	attach = dma_buf_dynamic_attach(priv->dmabuf, &pdev->dev,
					&test_importer_ops, &importer);
	KUNIT_EXPECT_NOT_ERR_OR_NULL(test, attach);
	if (IS_ERR(attach))
		goto unexport;

	sgt = dma_buf_map_attachment_unlocked(attach, DMA_BIDIRECTIONAL);
	KUNIT_EXPECT_NOT_ERR_OR_NULL(test, sgt);
	if (IS_ERR(sgt))
		goto detach;
	KUNIT_EXPECT_EQ(test, sg_dma_address(sgt->sgl), PFN_PHYS(BAR_PFN + 5));
	KUNIT_EXPECT_EQ(test, sg_dma_len(sgt->sgl), 2 * PAGE_SIZE);

	suspend = test_suspend_start(test, priv->vdev);
	wait_for_completion(&importer.invalidated);
	KUNIT_EXPECT_FALSE(test, importer.other_mapped);
	KUNIT_EXPECT_FALSE(test, test_is_mapped(addr));
	KUNIT_EXPECT_FALSE(test, test_suspend_done(suspend, 100));
	late = dma_buf_map_attachment_unlocked(attach, DMA_BIDIRECTIONAL);
	KUNIT_EXPECT_EQ(test, PTR_ERR(late), -ENODEV);

	dma_buf_unmap_attachment_unlocked(attach, sgt, DMA_BIDIRECTIONAL);
	KUNIT_EXPECT_TRUE(test, test_suspend_done(suspend, 10000));
	flush_work(&suspend->work);

	/* It works again, until the DMABUF is revoked. */
	test_resume(priv->vdev);
	sgt = dma_buf_map_attachment_unlocked(attach, DMA_BIDIRECTIONAL);
	KUNIT_EXPECT_NOT_ERR_OR_NULL(test, sgt);
	test_fault(test, addr, &found);
	test_fault(test, importer.other, &found);
	if (!IS_ERR(sgt)) {
		/* A signal ends the wait, but not what is waited for. */
		allow_signal(SIGUSR1);
		send_sig(SIGUSR1, current, 1);
		KUNIT_EXPECT_EQ(test, test_revoke(test, priv), -EINTR);
		flush_signals(current);
		disallow_signal(SIGUSR1);
		KUNIT_EXPECT_TRUE(test, try_wait_for_completion(&importer.invalidated));
		KUNIT_EXPECT_TRUE(test, importer.other_mapped);
		KUNIT_EXPECT_FALSE(test, test_is_mapped(addr));
		dma_buf_unmap_attachment_unlocked(attach, sgt,
						  DMA_BIDIRECTIONAL);
	}
	KUNIT_EXPECT_EQ(test, test_revoke(test, priv), -EBADFD);
	KUNIT_EXPECT_FALSE(test, try_wait_for_completion(&importer.invalidated));
	test_resume(priv->vdev);
	late = dma_buf_map_attachment_unlocked(attach, DMA_BIDIRECTIONAL);
	KUNIT_EXPECT_EQ(test, PTR_ERR(late), -ENODEV);
detach:
	dma_buf_detach(priv->dmabuf, attach);
unexport:
	KUNIT_EXPECT_EQ(test, vm_munmap(addr, priv->size), 0);
	KUNIT_EXPECT_EQ(test, vm_munmap(importer.other, other->size), 0);
	test_unexport(other);
	test_unexport(priv);
}

static const char *test_fence_name(struct dma_fence *fence)
{
	return "kunit";
}

static const struct dma_fence_ops test_fence_ops = {
	.get_driver_name = test_fence_name,
	.get_timeline_name = test_fence_name,
};

static DEFINE_SPINLOCK(test_fence_lock);

/* Add a fence to the DMABUF, as its importers or DMA_BUF_IOCTL_IMPORT_SYNC_FILE do. */
static struct dma_fence *test_add_fence(struct kunit *test,
					struct vfio_pci_dma_buf *priv)
{
	struct dma_resv *resv = priv->dmabuf->resv;
	struct dma_fence *fence = kzalloc_obj(*fence);
	int ret;

	KUNIT_ASSERT_NOT_NULL(test, fence);
	dma_fence_init(fence, &test_fence_ops, &test_fence_lock,
		       dma_fence_context_alloc(1), 1);
	dma_resv_lock(resv, NULL);
	ret = dma_resv_reserve_fences(resv, 1);
	if (!ret)
		dma_resv_add_fence(resv, fence, DMA_RESV_USAGE_WRITE);
	dma_resv_unlock(resv);
	KUNIT_EXPECT_EQ(test, ret, 0);
	return fence;
}

static void test_end_fence(struct dma_fence *fence)
{
	dma_fence_signal(fence);
	dma_fence_put(fence);
}

/* Fences are waited for, but not those that come later. */
static void vfio_pci_dma_buf_fences(struct kunit *test)
{
	struct p2pdma_provider provider = {};
	struct dma_fence *first, *second, *late;
	struct test_suspend *suspend;
	struct vfio_pci_dma_buf *priv;
	bool usable;

	KUNIT_ASSERT_EQ(test, kunit_attach_mm(), 0);
	priv = test_export(test, BAR_PFN, 1);
	/* This is what importers could be there with; here are none. */
	priv->provider = &provider;

	first = test_add_fence(test, priv);
	second = test_add_fence(test, priv);
	suspend = test_suspend_start(test, priv->vdev);
	KUNIT_EXPECT_EQ(test, read_poll_timeout(vfio_pci_dma_buf_usable, usable,
						!usable, USEC_PER_MSEC,
						10 * USEC_PER_SEC, false, priv), 0);
	late = test_add_fence(test, priv);
	test_end_fence(first);
	KUNIT_EXPECT_FALSE(test, test_suspend_done(suspend, 100));
	test_end_fence(second);
	KUNIT_EXPECT_TRUE(test, test_suspend_done(suspend, 10000));

	/* Nor does one that nobody can use any more have to be waited for. */
	suspend = test_suspend_start(test, priv->vdev);
	KUNIT_EXPECT_TRUE(test, test_suspend_done(suspend, 10000));
	test_end_fence(late);

	KUNIT_EXPECT_EQ(test, test_revoke(test, priv), 0);
	late = test_add_fence(test, priv);
	test_resume(priv->vdev);
	suspend = test_suspend_start(test, priv->vdev);
	KUNIT_EXPECT_TRUE(test, test_suspend_done(suspend, 10000));
	test_end_fence(late);
	flush_work(&suspend->work);
	test_unexport(priv);
}

struct test_ends {
	struct delayed_work work;
	struct dma_fence *fences[2];
};

static void test_ends_work(struct work_struct *work)
{
	struct test_ends *ends = container_of(work, struct test_ends, work.work);

	dma_fence_signal(ends->fences[0]);
	dma_fence_signal(ends->fences[1]);
}

/* Where there is no memory to remember fences, they are waited for at once. */
static void vfio_pci_dma_buf_fences_without_memory(struct kunit *test)
{
	struct vfio_pci_dma_buf *priv = test_export(test, BAR_PFN, 1);
	bool failed = false;
	struct test_ends ends = {
		.fences = { test_add_fence(test, priv), test_add_fence(test, priv) },
	};

	INIT_DELAYED_WORK_ONSTACK(&ends.work, test_ends_work);
	schedule_delayed_work(&ends.work, msecs_to_jiffies(100));
#ifdef CONFIG_FAULT_INJECTION
	dma_resv_lock(priv->dmabuf->resv, NULL);
	vfio_pci_dma_buf_set_unusable(priv, VFIO_PCI_DMA_BUF_REVOKED);
	current->fail_nth = 1;
	vfio_pci_dma_buf_stop_importers(priv);
	dma_resv_unlock(priv->dmabuf->resv);
	failed = !current->fail_nth;
	current->fail_nth = 0;
#endif
	if (failed) {
		KUNIT_EXPECT_NULL(test, priv->fence);
		KUNIT_EXPECT_TRUE(test, dma_fence_is_signaled(ends.fences[0]));
		KUNIT_EXPECT_TRUE(test, dma_fence_is_signaled(ends.fences[1]));
	}
	flush_delayed_work(&ends.work);
	destroy_delayed_work_on_stack(&ends.work);
	dma_fence_put(ends.fences[0]);
	dma_fence_put(ends.fences[1]);
	test_unexport(priv);
	if (!failed)
		kunit_skip(test, "no allocation fails; see /sys/kernel/debug/failslab");
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
	KUNIT_CASE(vfio_pci_dma_buf_pmd_entry),
	KUNIT_CASE(vfio_pci_dma_buf_pud_entry),
	KUNIT_CASE(vfio_pci_dma_buf_in_bar),
	KUNIT_CASE(vfio_pci_dma_buf_refused),
	KUNIT_CASE(vfio_pci_dma_buf_long_name),
	KUNIT_CASE(vfio_pci_dma_buf_importer),
	KUNIT_CASE(vfio_pci_dma_buf_fences),
	KUNIT_CASE(vfio_pci_dma_buf_fences_without_memory),
	{}
};

static struct kunit_suite vfio_pci_dma_buf_suite = {
	.name = "vfio_pci_dma_buf",
	.test_cases = vfio_pci_dma_buf_cases,
};

kunit_test_suite(vfio_pci_dma_buf_suite);
