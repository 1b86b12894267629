// SPDX-License-Identifier: GPL-2.0
/*
 * KUnit tests for the life of a dma-buf heap. Included by dma-heap.c.
 */
#include <kunit/test.h>
#include <linux/completion.h>
#include <linux/delay.h>
#include <linux/file.h>
#include <linux/fs_context.h>
#include <linux/jiffies.h>
#include <linux/mount.h>
#include <linux/namei.h>
#include <linux/workqueue.h>

#define TEST_NAME	"kunit-heap"
#define TEST_LEN	PAGE_SIZE

/* Like a heap's private data, this is gone when the heap is unregistered. */
struct heap_test {
	struct vfsmount *devtmpfs;
	struct completion entered;
	struct completion proceed;
	bool wait;
	bool stop;
};

static atomic_t test_buffers;

static struct sg_table *test_map(struct dma_buf_attachment *attach,
				 enum dma_data_direction dir)
{
	return ERR_PTR(-EOPNOTSUPP);
}

static void test_unmap(struct dma_buf_attachment *attach, struct sg_table *sgt,
		       enum dma_data_direction dir)
{
}

/* A buffer that holds its heap, as it has to where no module does that. */
static void test_release(struct dma_buf *dmabuf)
{
	put_device(dma_heap_get_dev(dmabuf->priv));
	atomic_dec(&test_buffers);
}

static const struct dma_buf_ops test_buf_ops = {
	.map_dma_buf = test_map,
	.unmap_dma_buf = test_unmap,
	.release = test_release,
};

static struct dma_buf *test_allocate(struct dma_heap *heap, unsigned long len,
				     u32 fd_flags, u64 heap_flags)
{
	struct heap_test *t = dma_heap_get_drvdata(heap);
	DEFINE_DMA_BUF_EXPORT_INFO(exp_info);
	struct dma_buf *dmabuf;

	if (t->wait) {
		complete(&t->entered);
		wait_for_completion(&t->proceed);
	}

	exp_info.exp_name = dma_heap_get_name(heap);
	exp_info.ops = &test_buf_ops;
	exp_info.size = len;
	exp_info.priv = heap;
	dmabuf = dma_buf_export(&exp_info);
	if (!IS_ERR(dmabuf)) {
		get_device(dma_heap_get_dev(heap));
		atomic_inc(&test_buffers);
	}

	return dmabuf;
}

static const struct dma_heap_ops test_heap_ops = {
	.allocate = test_allocate,
};

static struct dma_heap *test_create(struct kunit *test)
{
	return dma_heap_create(&(struct dma_heap_export_info) {
		.name = TEST_NAME, .ops = &test_heap_ops, .priv = test->priv });
}

static struct dma_heap *test_add(struct kunit *test)
{
	return dma_heap_add(&(struct dma_heap_export_info) {
		.name = TEST_NAME, .ops = &test_heap_ops, .priv = test->priv });
}

static struct file *test_open(struct kunit *test)
{
	struct heap_test *t = test->priv;

	return file_open_root_mnt(t->devtmpfs, DEVNAME "/" TEST_NAME, O_RDWR, 0);
}

/* What the descriptor @file, or @dmabuf, held is gone when this returns. */
static void test_close(struct file *file)
{
	fput(file);
	flush_delayed_fput();
}

static unsigned int minor(struct dma_heap *heap)
{
	return MINOR(heap->dev.devt);
}

static void create_refuses(struct kunit *test)
{
	static const struct dma_heap_ops no_allocate;
	struct dma_heap_export_info info = { .ops = &test_heap_ops };

	KUNIT_EXPECT_PTR_EQ(test, dma_heap_create(&info), ERR_PTR(-EINVAL));
	info.name = "";
	KUNIT_EXPECT_PTR_EQ(test, dma_heap_create(&info), ERR_PTR(-EINVAL));
	info.name = TEST_NAME;
	info.ops = NULL;
	KUNIT_EXPECT_PTR_EQ(test, dma_heap_create(&info), ERR_PTR(-EINVAL));
	info.ops = &no_allocate;
	KUNIT_EXPECT_PTR_EQ(test, dma_heap_create(&info), ERR_PTR(-EINVAL));
}

static void create_without_register(struct kunit *test)
{
	struct dma_heap *heap = test_create(test);
	unsigned int first;

	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, heap);
	KUNIT_EXPECT_STREQ(test, dma_heap_get_name(heap), TEST_NAME);
	KUNIT_EXPECT_PTR_EQ(test, dma_heap_get_drvdata(heap), test->priv);
	KUNIT_EXPECT_EQ(test, dma_get_mask(dma_heap_get_dev(heap)), DMA_BIT_MASK(64));
	KUNIT_EXPECT_EQ(test, dma_heap_get_dev(heap)->coherent_dma_mask, DMA_BIT_MASK(64));
	KUNIT_EXPECT_PTR_EQ(test, test_open(test), ERR_PTR(-ENOENT));
	first = minor(heap);
	dma_heap_destroy(heap);

	heap = test_create(test);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, heap);
	KUNIT_EXPECT_EQ(test, minor(heap), first);
	dma_heap_destroy(heap);
}

static void name_is_copied(struct kunit *test)
{
	char name[] = TEST_NAME;
	struct dma_heap_export_info info = {
		.name = name, .ops = &test_heap_ops, .priv = test->priv,
	};
	struct dma_heap *heap = dma_heap_add(&info);
	struct file *file;

	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, heap);
	memset(name, 'x', sizeof(name) - 1);
	KUNIT_EXPECT_STREQ(test, dma_heap_get_name(heap), TEST_NAME);
	file = test_open(test);
	KUNIT_EXPECT_NOT_ERR_OR_NULL(test, file);
	if (!IS_ERR(file))
		test_close(file);
	dma_heap_remove(heap);
}

static void duplicate_name(struct kunit *test)
{
	struct dma_heap *heap = test_add(test), *other;
	struct file *file;

	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, heap);
	KUNIT_EXPECT_PTR_EQ(test, test_add(test), ERR_PTR(-EEXIST));

	other = test_create(test);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, other);
	KUNIT_EXPECT_EQ(test, dma_heap_register(other), -EEXIST);

	dma_heap_destroy(other);

	/* The first one never noticed, and once it is gone its name is free. */
	file = test_open(test);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, file);
	KUNIT_EXPECT_PTR_EQ(test, file->private_data, (void *)heap);
	test_close(file);
	dma_heap_remove(heap);
	heap = test_add(test);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, heap);
	dma_heap_remove(heap);
}

static void minors_run_out(struct kunit *test)
{
	struct dma_heap **heaps;
	int n;

	heaps = kunit_kcalloc(test, NUM_HEAP_MINORS, sizeof(*heaps), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, heaps);
	for (n = 0; n < NUM_HEAP_MINORS; n++) {
		heaps[n] = test_create(test);
		if (IS_ERR(heaps[n]))
			break;
	}
	KUNIT_EXPECT_GT(test, n, 1);
	KUNIT_EXPECT_PTR_EQ(test, test_create(test), ERR_PTR(-ENOSPC));
	while (n--)
		dma_heap_destroy(heaps[n]);
}

/* Let the @n-th allocation of this thread fail; 0: none. */
static void fail_nth(unsigned int n)
{
#ifdef CONFIG_FAULT_INJECTION
	current->fail_nth = n;
#endif
}

static bool failed_nth(void)
{
#ifdef CONFIG_FAULT_INJECTION
	return !current->fail_nth;
#else
	return false;
#endif
}

/* Each allocation on the way fails once; what was made by then is unmade. */
static void register_fails(struct kunit *test)
{
	struct dma_heap *heap;
	unsigned int n, errors = 0;
	bool injected;
	int ret;

	for (n = 1; n < 1000; n++) {
		fail_nth(n);
		heap = test_create(test);
		ret = IS_ERR(heap) ? PTR_ERR(heap) : dma_heap_register(heap);
		injected = failed_nth();
		fail_nth(0);
		if (ret) {
			KUNIT_EXPECT_EQ(test, ret, -ENOMEM);
			KUNIT_EXPECT_PTR_EQ(test, test_open(test), ERR_PTR(-ENOENT));
			errors++;
			if (!IS_ERR(heap))
				dma_heap_destroy(heap);
		} else {
			dma_heap_remove(heap);
		}
		if (!injected)
			break;
	}
	if (!errors)
		kunit_skip(test, "no allocation fails; see /sys/kernel/debug/failslab");
}

static void remove_while_open(struct kunit *test)
{
	struct dma_heap *heap = test_add(test), *next;
	struct dma_buf *dmabuf;
	unsigned int first;
	struct file *file;

	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, heap);
	first = minor(heap);
	file = test_open(test);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, file);
	dmabuf = dma_heap_allocate(file->private_data, TEST_LEN, 0, 0);
	KUNIT_EXPECT_NOT_ERR_OR_NULL(test, dmabuf);
	if (!IS_ERR(dmabuf))
		test_close(dmabuf->file);

	dma_heap_remove(heap);
	KUNIT_EXPECT_PTR_EQ(test, test_open(test), ERR_PTR(-ENOENT));
	KUNIT_EXPECT_PTR_EQ(test, dma_heap_allocate(file->private_data, TEST_LEN, 0, 0),
			    ERR_PTR(-ENODEV));

	/* Name and node are free for another heap, the minor is when it is closed. */
	next = test_add(test);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, next);
	KUNIT_EXPECT_NE(test, minor(next), first);
	KUNIT_EXPECT_PTR_EQ(test, dma_heap_allocate(file->private_data, TEST_LEN, 0, 0),
			    ERR_PTR(-ENODEV));
	dma_heap_remove(next);
	test_close(file);

	next = test_add(test);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, next);
	KUNIT_EXPECT_EQ(test, minor(next), first);
	dma_heap_remove(next);
}

static void remove_while_buffer_lives(struct kunit *test)
{
	struct dma_heap *heap = test_add(test);
	struct dma_buf *dmabuf;

	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, heap);
	dmabuf = dma_heap_allocate(heap, TEST_LEN, 0, 0);
	dma_heap_remove(heap);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, dmabuf);
	KUNIT_EXPECT_STREQ(test, dmabuf->exp_name, TEST_NAME);
	KUNIT_EXPECT_EQ(test, atomic_read(&test_buffers), 1);
	test_close(dmabuf->file);
	KUNIT_EXPECT_EQ(test, atomic_read(&test_buffers), 0);
}

/* Something that is done meanwhile */
struct test_work {
	struct work_struct work;
	struct kunit *test;
	struct dma_heap *heap;
	unsigned int buffers;
	int ret;
};

static void test_begin(struct test_work *w, work_func_t fn)
{
	INIT_WORK_ONSTACK(&w->work, fn);
	queue_work(system_dfl_wq, &w->work);
}

static int test_end(struct test_work *w)
{
	flush_work(&w->work);
	destroy_work_on_stack(&w->work);
	return w->ret;
}

static void allocate_work(struct work_struct *work)
{
	struct test_work *w = container_of(work, struct test_work, work);
	struct dma_buf *dmabuf = dma_heap_allocate(w->heap, TEST_LEN, 0, 0);

	if (IS_ERR(dmabuf))
		w->ret = PTR_ERR(dmabuf);
	else
		dma_buf_put(dmabuf);
}

static void unregister_work(struct work_struct *work)
{
	dma_heap_unregister(container_of(work, struct test_work, work)->heap);
}

static void remove_waits_for_allocations(struct kunit *test)
{
	struct dma_heap *heap = test_add(test);
	struct test_work allocate = { .heap = heap }, unregister = { .heap = heap };
	struct heap_test *t = test->priv;

	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, heap);
	t->wait = true;
	test_begin(&allocate, allocate_work);
	wait_for_completion(&t->entered);

	test_begin(&unregister, unregister_work);
	msleep(100);
	KUNIT_EXPECT_NOT_NULL(test, READ_ONCE(heap->ops));
	complete(&t->proceed);

	KUNIT_EXPECT_EQ(test, test_end(&allocate), 0);
	KUNIT_EXPECT_EQ(test, test_end(&unregister), 0);
	KUNIT_EXPECT_PTR_EQ(test, dma_heap_allocate(heap, TEST_LEN, 0, 0), ERR_PTR(-ENODEV));
	dma_heap_destroy(heap);
}

/* Open and allocate until told to stop; the heap may go at any time. */
static void race_work(struct work_struct *work)
{
	struct test_work *w = container_of(work, struct test_work, work);
	struct heap_test *t = w->test->priv;
	struct dma_buf *dmabuf;
	struct file *file;

	while (!READ_ONCE(t->stop)) {
		file = test_open(w->test);
		if (!IS_ERR(file)) {
			dmabuf = dma_heap_allocate(file->private_data, TEST_LEN, 0, 0);
			if (!IS_ERR(dmabuf)) {
				dma_buf_put(dmabuf);
				w->buffers++;
			} else if (dmabuf != ERR_PTR(-ENODEV)) {
				w->ret = PTR_ERR(dmabuf);
			}
			fput(file);
		} else if (file != ERR_PTR(-ENOENT) && file != ERR_PTR(-ENXIO)) {
			w->ret = PTR_ERR(file);
		}
		cond_resched();
	}
}

static void race_remove(struct kunit *test)
{
	struct test_work works[2] = { { .test = test }, { .test = test } };
	struct heap_test *t = test->priv;
	unsigned long end = jiffies + HZ;
	unsigned int buffers = 0;
	struct dma_heap *heap;
	int i;

	for (i = 0; i < ARRAY_SIZE(works); i++)
		test_begin(&works[i], race_work);
	do {
		heap = test_add(test);
		KUNIT_EXPECT_NOT_ERR_OR_NULL(test, heap);
		cond_resched();
		if (!IS_ERR(heap))
			dma_heap_remove(heap);
	} while (time_before(jiffies, end));
	WRITE_ONCE(t->stop, true);
	for (i = 0; i < ARRAY_SIZE(works); i++) {
		KUNIT_EXPECT_EQ(test, test_end(&works[i]), 0);
		buffers += works[i].buffers;
	}
	KUNIT_EXPECT_GT(test, buffers, 0);
	flush_delayed_fput();
	KUNIT_EXPECT_EQ(test, atomic_read(&test_buffers), 0);
}

static int heap_test_init(struct kunit *test)
{
	struct file_system_type *type = get_fs_type("devtmpfs");
	struct heap_test *t;

	KUNIT_ASSERT_NOT_NULL(test, type);
	t = kunit_kzalloc(test, sizeof(*t), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, t);
	init_completion(&t->entered);
	init_completion(&t->proceed);
	t->devtmpfs = vfs_kern_mount(type, SB_KERNMOUNT, "devtmpfs", NULL);
	put_filesystem(type);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, t->devtmpfs);
	test->priv = t;
	return 0;
}

static void heap_test_exit(struct kunit *test)
{
	struct heap_test *t = test->priv;

	if (t)
		mntput(t->devtmpfs);
}

static struct kunit_case heap_test_cases[] = {
	KUNIT_CASE(create_refuses),
	KUNIT_CASE(create_without_register),
	KUNIT_CASE(name_is_copied),
	KUNIT_CASE(duplicate_name),
	KUNIT_CASE(minors_run_out),
	KUNIT_CASE(register_fails),
	KUNIT_CASE(remove_while_open),
	KUNIT_CASE(remove_while_buffer_lives),
	KUNIT_CASE(remove_waits_for_allocations),
	KUNIT_CASE(race_remove),
	{}
};

static struct kunit_suite heap_test_suite = {
	.name = "dma_heap",
	.init = heap_test_init,
	.exit = heap_test_exit,
	.test_cases = heap_test_cases,
};

kunit_test_suite(heap_test_suite);
