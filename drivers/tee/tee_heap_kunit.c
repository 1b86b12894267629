// SPDX-License-Identifier: GPL-2.0-only
/*
 * KUnit tests for the DMA heaps of TEE devices. Included by tee_heap.c.
 */
#include <kunit/device.h>
#include <kunit/test.h>
#include <linux/delay.h>
#include <linux/file.h>
#include <linux/workqueue.h>

#define TEST_ID		TEE_DMA_HEAP_TRUSTED_UI

struct heap_test {
	struct tee_protmem_pool pool;
	struct device *parent;
	int buffers;
	bool destroyed;
};

static int test_pool_alloc(struct tee_protmem_pool *pool, struct sg_table *sgt,
			   size_t size, size_t *offs)
{
	struct heap_test *t = container_of(pool, struct heap_test, pool);
	struct page *page = alloc_pages(GFP_KERNEL | __GFP_ZERO, get_order(size));

	if (!page)
		return -ENOMEM;
	if (sg_alloc_table(sgt, 1, GFP_KERNEL)) {
		__free_pages(page, get_order(size));
		return -ENOMEM;
	}
	sg_set_page(sgt->sgl, page, size, 0);
	*offs = 0;
	t->buffers++;
	return 0;
}

static void test_pool_free(struct tee_protmem_pool *pool, struct sg_table *sgt)
{
	struct heap_test *t = container_of(pool, struct heap_test, pool);

	__free_pages(sg_page(sgt->sgl), get_order(sgt->sgl->length));
	sg_free_table(sgt);
	t->buffers--;
}

static int test_pool_update_shm(struct tee_protmem_pool *pool, struct sg_table *sgt,
				size_t offs, struct tee_shm *shm,
				struct tee_shm **parent_shm)
{
	return -EOPNOTSUPP;
}

static void test_pool_destroy(struct tee_protmem_pool *pool)
{
	container_of(pool, struct heap_test, pool)->destroyed = true;
}

static const struct tee_protmem_pool_ops test_pool_ops = {
	.alloc = test_pool_alloc,
	.free = test_pool_free,
	.update_shm = test_pool_update_shm,
	.destroy_pool = test_pool_destroy,
};

static void test_get_version(struct tee_device *teedev, struct tee_ioctl_version_data *vers)
{
}

static int test_open(struct tee_context *ctx)
{
	return 0;
}

static void test_release(struct tee_context *ctx)
{
}

static const struct tee_driver_ops test_ops = {
	.get_version = test_get_version,
	.open = test_open,
	.release = test_release,
};

static const struct tee_desc test_desc = {
	.name = "kunit",
	.ops = &test_ops,
	.owner = THIS_MODULE,
};

static struct tee_device *test_teedev(struct kunit *test)
{
	struct heap_test *t = test->priv;
	struct tee_device *teedev = tee_device_alloc(&test_desc, t->parent, NULL, NULL);

	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, teedev);
	return teedev;
}

/* A buffer of the heap that was registered last */
static struct dma_buf *test_buffer(struct kunit *test)
{
	struct tee_dma_heap *h = list_first_entry(&tee_dma_heaps, struct tee_dma_heap, list);
	struct dma_buf *dmabuf = tee_dma_heap_alloc(h->heap, PAGE_SIZE, O_RDWR, 0);

	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, dmabuf);
	return dmabuf;
}

static void test_free(struct dma_buf *dmabuf)
{
	dma_buf_put(dmabuf);
	flush_delayed_fput();
}

static void goes_with_its_device(struct kunit *test)
{
	struct heap_test *t = test->priv;
	struct tee_device *teedev;
	int round;

	for (round = 0; round < 2; round++) {
		teedev = test_teedev(test);
		KUNIT_ASSERT_EQ(test, tee_device_register_dma_heap(teedev, TEST_ID, &t->pool), 0);
		test_free(test_buffer(test));
		KUNIT_EXPECT_EQ(test, t->buffers, 0);
		KUNIT_EXPECT_FALSE(test, t->destroyed);
		tee_device_unregister(teedev);
		KUNIT_EXPECT_TRUE(test, t->destroyed);
		KUNIT_EXPECT_TRUE(test, list_empty(&tee_dma_heaps));
		t->destroyed = false;
	}
}

/* What fails takes neither the pool nor the device, nor the other one's heap. */
static void one_device_has_it(struct kunit *test)
{
	struct tee_device *first = test_teedev(test), *second = test_teedev(test);
	struct heap_test *t = test->priv;

	KUNIT_EXPECT_EQ(test, tee_device_register_dma_heap(second, 0, &t->pool), -EINVAL);
	KUNIT_ASSERT_EQ(test, tee_device_register_dma_heap(first, TEST_ID, &t->pool), 0);
	KUNIT_EXPECT_EQ(test, tee_device_register_dma_heap(second, TEST_ID, &t->pool), -EEXIST);
	KUNIT_EXPECT_FALSE(test, t->destroyed);
	tee_device_put_all_dma_heaps(second);
	test_free(test_buffer(test));

	tee_device_unregister(first);
	KUNIT_EXPECT_TRUE(test, t->destroyed);
	t->destroyed = false;
	KUNIT_EXPECT_EQ(test, tee_device_register_dma_heap(second, TEST_ID, &t->pool), 0);
	tee_device_unregister(second);
	KUNIT_EXPECT_TRUE(test, t->destroyed);
}

struct test_work {
	struct work_struct work;
	struct tee_device *teedev;
};

static void unregister_work(struct work_struct *work)
{
	tee_device_unregister(container_of(work, struct test_work, work)->teedev);
}

static void buffer_outlives_it(struct kunit *test)
{
	struct tee_device *teedev = test_teedev(test);
	struct test_work unregister = { .teedev = teedev };
	struct heap_test *t = test->priv;
	struct dma_buf *dmabuf;
	int tries;

	KUNIT_ASSERT_EQ(test, tee_device_register_dma_heap(teedev, TEST_ID, &t->pool), 0);
	dmabuf = test_buffer(test);

	INIT_WORK_ONSTACK(&unregister.work, unregister_work);
	queue_work(system_dfl_wq, &unregister.work);
	for (tries = 0; tries < 100 && !list_empty_careful(&tee_dma_heaps); tries++)
		msleep(100);
	KUNIT_EXPECT_TRUE(test, list_empty(&tee_dma_heaps));
	KUNIT_EXPECT_FALSE(test, t->destroyed);
	KUNIT_EXPECT_EQ(test, t->buffers, 1);
	KUNIT_EXPECT_TRUE(test, work_busy(&unregister.work));

	test_free(dmabuf);
	flush_work(&unregister.work);
	destroy_work_on_stack(&unregister.work);
	KUNIT_EXPECT_EQ(test, t->buffers, 0);
	KUNIT_EXPECT_TRUE(test, t->destroyed);
}

static int heap_test_init(struct kunit *test)
{
	struct heap_test *t = kunit_kzalloc(test, sizeof(*t), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, t);
	if (!list_empty(&tee_dma_heaps))
		kunit_skip(test, "a device of this machine has heaps");
	t->pool.ops = &test_pool_ops;
	t->parent = kunit_device_register(test, "tee");
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, t->parent);
	test->priv = t;
	return 0;
}

static struct kunit_case heap_test_cases[] = {
	KUNIT_CASE(goes_with_its_device),
	KUNIT_CASE(one_device_has_it),
	KUNIT_CASE(buffer_outlives_it),
	{}
};

static struct kunit_suite heap_test_suite = {
	.name = "tee_heap",
	.init = heap_test_init,
	.test_cases = heap_test_cases,
};

kunit_test_suite(heap_test_suite);
