// SPDX-License-Identifier: GPL-2.0
/*
 * KUnit tests for udmabuf: what user space cannot see of its DMA mappings.
 * Included by udmabuf.c.
 */
#include <kunit/device.h>
#include <kunit/test.h>
#include <linux/dma-direct.h>
#include <trace/events/dma.h>

#define TEST_ORDER	4

struct udmabuf_test {
	struct miscdevice misc;
	struct device *importer;
	struct device_dma_parameters importer_parms;
	struct page *pages;
	struct udmabuf *ubuf;
	struct dma_buf *dmabuf;
	char syncs[8];
};

/* A udmabuf of physically contiguous pages, exported by a device of its own */
static int udmabuf_test_init(struct kunit *test)
{
	struct udmabuf_test *t;
	struct device *dev;
	pgoff_t i;

	t = kunit_kzalloc(test, sizeof(*t), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, t);
	test->priv = t;

	dev = kunit_device_register(test, "udmabuf-exporter");
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, dev);
	KUNIT_ASSERT_EQ(test, 0, dma_coerce_mask_and_coherent(dev, DMA_BIT_MASK(64)));
	t->misc.this_device = dev;

	dev = kunit_device_register(test, "udmabuf-importer");
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, dev);
	KUNIT_ASSERT_EQ(test, 0, dma_coerce_mask_and_coherent(dev, DMA_BIT_MASK(64)));
	dev->dma_parms = &t->importer_parms;
	t->importer = dev;

	t->pages = alloc_pages(GFP_KERNEL | __GFP_ZERO, TEST_ORDER);
	KUNIT_ASSERT_NOT_NULL(test, t->pages);

	t->ubuf = kzalloc_obj(*t->ubuf);
	KUNIT_ASSERT_NOT_NULL(test, t->ubuf);
	KUNIT_ASSERT_EQ(test, 0, init_udmabuf(t->ubuf, 1 << TEST_ORDER));
	for (i = 0; i < 1 << TEST_ORDER; i++)
		t->ubuf->pages[i] = t->pages + i;
	t->ubuf->pagecount = i;

	t->dmabuf = export_udmabuf(t->ubuf, &t->misc);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, t->dmabuf);
	return 0;
}

static void udmabuf_test_exit(struct kunit *test)
{
	struct udmabuf_test *t = test->priv;

	if (!t)
		return;
	/* Not deferred: the mapping must be gone before its device is. */
	if (!IS_ERR_OR_NULL(t->dmabuf))
		__fput_sync(t->dmabuf->file);
	if (t->pages)
		__free_pages(t->pages, TEST_ORDER);
}

static const enum dma_data_direction test_directions[] = {
	DMA_TO_DEVICE, DMA_FROM_DEVICE, DMA_BIDIRECTIONAL,
};

static void cpu_access_maps_once(struct kunit *test)
{
	struct udmabuf_test *t = test->priv;
	struct sg_table *sg;
	int i;

	if (dma_max_mapping_size(t->misc.this_device) < SIZE_MAX)
		kunit_skip(test, "every mapping bounces");

	KUNIT_ASSERT_EQ(test, 0, dma_buf_begin_cpu_access(t->dmabuf, DMA_TO_DEVICE));
	sg = t->ubuf->sg;
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, sg);
	for (i = 0; i < ARRAY_SIZE(test_directions); i++) {
		KUNIT_EXPECT_EQ(test, 0, dma_buf_begin_cpu_access(t->dmabuf,
								  test_directions[i]));
		KUNIT_EXPECT_EQ(test, 0, dma_buf_end_cpu_access(t->dmabuf,
								test_directions[i]));
		KUNIT_EXPECT_PTR_EQ(test, sg, t->ubuf->sg);
	}
}

static void end_maps_nothing(struct kunit *test)
{
	struct udmabuf_test *t = test->priv;
	int i;

	for (i = 0; i < ARRAY_SIZE(test_directions); i++)
		KUNIT_EXPECT_EQ(test, 0, dma_buf_end_cpu_access(t->dmabuf,
								test_directions[i]));
	KUNIT_EXPECT_NULL(test, t->ubuf->sg);
}

/*
 * Which syncs the exporter's device saw: B for the device in both directions, D
 * for what it reads, C for the CPU
 */
static void note_sync(struct udmabuf_test *t, struct device *dev, char sync)
{
	size_t len = strlen(t->syncs);

	if (dev == t->misc.this_device && len < sizeof(t->syncs) - 1)
		t->syncs[len] = sync;
}

static void note_sync_for_device(void *data, struct device *dev,
				 struct scatterlist *sg, int nents,
				 enum dma_data_direction dir)
{
	note_sync(data, dev, dir == DMA_BIDIRECTIONAL ? 'B' :
			     dir == DMA_TO_DEVICE ? 'D' : '?');
}

static void note_sync_for_cpu(void *data, struct device *dev,
			      struct scatterlist *sg, int nents,
			      enum dma_data_direction dir)
{
	note_sync(data, dev, dir == DMA_BIDIRECTIONAL ? 'C' : '?');
}

/*
 * Before cache lines are dropped they are written back, or they take what the
 * CPU wrote with them. An emulator without caches cannot show this in the data;
 * the order of the syncs does.
 */
static void read_writes_back_first(struct kunit *test)
{
	static const struct {
		enum dma_data_direction dir;
		const char *begin, *end;
	} cases[] = {
		{ DMA_TO_DEVICE, "", "D" },
		{ DMA_FROM_DEVICE, "BC", "" },
		{ DMA_BIDIRECTIONAL, "BC", "D" },
	};
	struct udmabuf_test *t = test->priv;
	int i;

	if (dma_max_mapping_size(t->misc.this_device) < SIZE_MAX)
		kunit_skip(test, "every mapping bounces");
	if (!dma_dev_need_sync(t->misc.this_device))
		kunit_skip(test, "a coherent device, and no CONFIG_DMA_API_DEBUG");
	if (register_trace_dma_sync_sg_for_device(note_sync_for_device, t))
		kunit_skip(test, "no tracepoints");
	KUNIT_EXPECT_EQ(test, 0, register_trace_dma_sync_sg_for_cpu(note_sync_for_cpu, t));

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		memset(t->syncs, 0, sizeof(t->syncs));
		KUNIT_EXPECT_EQ(test, 0, dma_buf_begin_cpu_access(t->dmabuf, cases[i].dir));
		KUNIT_EXPECT_STREQ(test, t->syncs, cases[i].begin);
		memset(t->syncs, 0, sizeof(t->syncs));
		KUNIT_EXPECT_EQ(test, 0, dma_buf_end_cpu_access(t->dmabuf, cases[i].dir));
		KUNIT_EXPECT_STREQ(test, t->syncs, cases[i].end);
	}

	unregister_trace_dma_sync_sg_for_cpu(note_sync_for_cpu, t);
	unregister_trace_dma_sync_sg_for_device(note_sync_for_device, t);
	tracepoint_synchronize_unregister();
}

/* A device that cannot address memory would need bounce buffers for it. */
static void cpu_access_never_bounces(struct kunit *test)
{
	struct udmabuf_test *t = test->priv;
	struct device *dev = t->misc.this_device;

	*dev->dma_mask = DMA_BIT_MASK(16);
	if (dma_max_mapping_size(dev) == SIZE_MAX)
		kunit_skip(test, "no swiotlb");

	KUNIT_EXPECT_EQ(test, 0, dma_buf_begin_cpu_access(t->dmabuf, DMA_BIDIRECTIONAL));
	KUNIT_EXPECT_NULL(test, t->ubuf->sg);
	KUNIT_EXPECT_EQ(test, 0, dma_buf_end_cpu_access(t->dmabuf, DMA_BIDIRECTIONAL));
}

/* Pieces no longer than the importer takes, which make up the whole */
/* What a device writes by its own addresses is what the CPU reads. */
static void importer_writes(struct kunit *test)
{
	struct udmabuf_test *t = test->priv;
	struct dma_buf_attachment *attach;
	struct scatterlist *sg;
	struct sg_table *sgt;
	int i;

	if (dma_max_mapping_size(t->importer) < SIZE_MAX)
		kunit_skip(test, "every mapping bounces");

	attach = dma_buf_attach(t->dmabuf, t->importer);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, attach);
	sgt = dma_buf_map_attachment_unlocked(attach, DMA_FROM_DEVICE);
	KUNIT_EXPECT_NOT_ERR_OR_NULL(test, sgt);
	if (!IS_ERR(sgt)) {
		for_each_sgtable_dma_sg(sgt, sg, i)
			memset(phys_to_virt(dma_to_phys(t->importer, sg_dma_address(sg))),
			       0x5a, sg_dma_len(sg));
		KUNIT_EXPECT_EQ(test, 0, dma_buf_begin_cpu_access(t->dmabuf, DMA_FROM_DEVICE));
		KUNIT_EXPECT_NULL(test, memchr_inv(page_address(t->pages), 0x5a,
						   PAGE_SIZE << TEST_ORDER));
		KUNIT_EXPECT_EQ(test, 0, dma_buf_end_cpu_access(t->dmabuf, DMA_FROM_DEVICE));
		dma_buf_unmap_attachment_unlocked(attach, sgt, DMA_FROM_DEVICE);
	}
	dma_buf_detach(t->dmabuf, attach);
}

static void importer_segments(struct kunit *test)
{
	struct udmabuf_test *t = test->priv;
	struct dma_buf_attachment *attach;
	size_t size, limit = 2 * PAGE_SIZE;
	struct scatterlist *sg;
	struct sg_table *sgt;
	int i, dir;

	dma_set_max_seg_size(t->importer, limit + PAGE_SIZE / 2);
	attach = dma_buf_attach(t->dmabuf, t->importer);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, attach);
	for (dir = 0; dir < ARRAY_SIZE(test_directions); dir++) {
		sgt = dma_buf_map_attachment_unlocked(attach, test_directions[dir]);
		KUNIT_EXPECT_NOT_ERR_OR_NULL(test, sgt);
		if (IS_ERR(sgt))
			break;
		size = 0;
		for_each_sgtable_dma_sg(sgt, sg, i) {
			KUNIT_EXPECT_EQ(test, limit, sg_dma_len(sg));
			size += sg_dma_len(sg);
		}
		KUNIT_EXPECT_EQ(test, size, PAGE_SIZE << TEST_ORDER);
		/* CPU access meanwhile is nothing to the importer's mapping. */
		KUNIT_EXPECT_EQ(test, 0, dma_buf_begin_cpu_access(t->dmabuf, DMA_BIDIRECTIONAL));
		KUNIT_EXPECT_EQ(test, 0, dma_buf_end_cpu_access(t->dmabuf, DMA_BIDIRECTIONAL));
		dma_buf_unmap_attachment_unlocked(attach, sgt, test_directions[dir]);
	}
	dma_buf_detach(t->dmabuf, attach);
}

/* A segment is never less than a page, whatever the device says. */
static void segment_size(struct kunit *test)
{
	struct udmabuf_test *t = test->priv;
	unsigned int most = min_t(size_t, UINT_MAX, dma_max_mapping_size(t->importer));

	dma_set_max_seg_size(t->importer, 512);
	KUNIT_EXPECT_EQ(test, max_segment(t->importer), PAGE_SIZE);
	dma_set_max_seg_size(t->importer, UINT_MAX);
	KUNIT_EXPECT_EQ(test, max_segment(t->importer), most);
}

static struct kunit_case udmabuf_test_cases[] = {
	KUNIT_CASE(cpu_access_maps_once),
	KUNIT_CASE(end_maps_nothing),
	KUNIT_CASE(read_writes_back_first),
	KUNIT_CASE(cpu_access_never_bounces),
	KUNIT_CASE(importer_writes),
	KUNIT_CASE(importer_segments),
	KUNIT_CASE(segment_size),
	{ }
};

static struct kunit_suite udmabuf_test_suite = {
	.name = "udmabuf",
	.init = udmabuf_test_init,
	.exit = udmabuf_test_exit,
	.test_cases = udmabuf_test_cases,
};

kunit_test_suite(udmabuf_test_suite);
