// SPDX-License-Identifier: GPL-2.0
/*
 * KUnit tests for per-device coherent memory. Included by coherent.c.
 */
#include <kunit/device.h>
#include <kunit/test.h>
#include <linux/dma-mapping.h>
#include <linux/prandom.h>

#define TEST_PAGES	200	/* not a multiple of BITS_PER_LONG */
#define TEST_PHYS	((phys_addr_t)SZ_1G)

struct coherent_test {
	struct dma_coherent_mem mem;
	struct device *dev;
};

/* A device with a pool that is just some memory */
static int coherent_test_init(struct kunit *test)
{
	struct coherent_test *t;
	int page;

	t = kunit_kzalloc(test, sizeof(*t), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, t);
	test->priv = t;

	t->mem.virt_base = kunit_kmalloc(test, TEST_PAGES * PAGE_SIZE, GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, t->mem.virt_base);
	for (page = 0; page < TEST_PAGES; page++)
		memset(t->mem.virt_base + page * PAGE_SIZE, 0xff, PAGE_SIZE);
	t->mem.bitmap = kunit_kzalloc(test, BITS_TO_LONGS(TEST_PAGES) * sizeof(long), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, t->mem.bitmap);
	bitmap_set(t->mem.bitmap, TEST_PAGES, -TEST_PAGES & (BITS_PER_LONG - 1));
	t->mem.pfn_base = PFN_DOWN(TEST_PHYS);
	t->mem.device_base = TEST_PHYS;
	t->mem.size = TEST_PAGES;
	spin_lock_init(&t->mem.spinlock);

	t->dev = kunit_device_register(test, "coherent");
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, t->dev);
	KUNIT_ASSERT_EQ(test, 0, dma_coerce_mask_and_coherent(t->dev, DMA_BIT_MASK(64)));
	t->dev->dma_mem = &t->mem;
	return 0;
}

static void coherent_test_exit(struct kunit *test)
{
	struct coherent_test *t = test->priv;

	if (t && !IS_ERR_OR_NULL(t->dev))
		t->dev->dma_mem = NULL;
}

/* Where an allocation of @size bytes begins in the pool, in pages, or less than 0 */
static long test_alloc(struct kunit *test, size_t size)
{
	struct coherent_test *t = test->priv;
	dma_addr_t dma = 0;
	void *vaddr = dma_alloc_coherent(t->dev, size, &dma, GFP_KERNEL);

	if (!vaddr)
		return -ENOMEM;
	KUNIT_EXPECT_EQ(test, dma - TEST_PHYS, vaddr - t->mem.virt_base);
	return (vaddr - t->mem.virt_base) >> PAGE_SHIFT;
}

static long test_alloc_packed(struct kunit *test, size_t size)
{
	struct coherent_test *t = test->priv;
	phys_addr_t phys = 0;
	void *vaddr = dma_coherent_mem_alloc(t->dev, size, &phys);

	if (!vaddr)
		return -ENOMEM;
	KUNIT_EXPECT_EQ(test, phys - TEST_PHYS, vaddr - t->mem.virt_base);
	return (vaddr - t->mem.virt_base) >> PAGE_SHIFT;
}

static void test_free(struct kunit *test, size_t size, long page)
{
	struct coherent_test *t = test->priv;

	dma_free_coherent(t->dev, size, t->mem.virt_base + page * PAGE_SIZE,
			  TEST_PHYS + page * PAGE_SIZE);
}

static unsigned int pages_in_use(struct kunit *test)
{
	struct coherent_test *t = test->priv;

	return bitmap_weight(t->mem.bitmap, TEST_PAGES);
}

/* The same places as a search bit by bit finds, in maps of any density */
static void finds_what_is_there(struct kunit *test)
{
	struct coherent_test *t = test->priv;
	unsigned long nr, align, expected;
	struct rnd_state rnd;
	int round, bit;

	prandom_seed_state(&rnd, 7);
	for (round = 0; round < 2000; round++) {
		u32 density = prandom_u32_state(&rnd) % 101;

		/* Some that end with a word of the map */
		t->mem.size = round % 4 ? TEST_PAGES : TEST_PAGES & ~(BITS_PER_LONG - 1);
		bitmap_clear(t->mem.bitmap, 0, TEST_PAGES);
		for (bit = 0; bit < TEST_PAGES; bit++)
			if (prandom_u32_state(&rnd) % (round % 2 ? 1000 : 100) < density)
				__set_bit(bit, t->mem.bitmap);
		nr = 1 + prandom_u32_state(&rnd) % (round % 3 ? TEST_PAGES : 8);
		align = 1UL << prandom_u32_state(&rnd) % 8;

		expected = bitmap_find_next_zero_area(t->mem.bitmap, t->mem.size, 0, nr, align - 1);
		KUNIT_ASSERT_EQ_MSG(test, coherent_find(&t->mem, nr, align),
				    expected + nr > t->mem.size ? -ENOMEM : (long)expected,
				    "%lu pages at multiples of %lu in %*pb", nr, align,
				    t->mem.size, t->mem.bitmap);
	}
	t->mem.size = TEST_PAGES;
}

static void takes_no_more_than_needed(struct kunit *test)
{
	KUNIT_EXPECT_EQ(test, test_alloc(test, 3 * PAGE_SIZE), 0);
	KUNIT_EXPECT_EQ(test, test_alloc(test, 2 * PAGE_SIZE + 1), 4);
	KUNIT_EXPECT_EQ(test, test_alloc(test, 1), 3);
	KUNIT_EXPECT_EQ(test, test_alloc(test, PAGE_SIZE), 7);
	KUNIT_EXPECT_EQ(test, pages_in_use(test), 8);

	/* What is freed is what was taken. */
	test_free(test, 2 * PAGE_SIZE + 1, 4);
	KUNIT_EXPECT_EQ(test, pages_in_use(test), 5);
	KUNIT_EXPECT_EQ(test, test_alloc(test, 2 * PAGE_SIZE), 4);
	test_free(test, 3 * PAGE_SIZE, 0);
	test_free(test, 2 * PAGE_SIZE, 4);
	test_free(test, 1, 3);
	test_free(test, PAGE_SIZE, 7);
	KUNIT_EXPECT_EQ(test, pages_in_use(test), 0);
}

/* What dma-api-howto.rst says of dma_alloc_coherent() */
static void aligns_to_the_size(struct kunit *test)
{
	unsigned long nr;
	long page;

	for (nr = 1; nr <= 33; nr++) {
		long first = test_alloc(test, PAGE_SIZE);

		page = test_alloc(test, nr * PAGE_SIZE);
		KUNIT_ASSERT_GE(test, page, 0);
		KUNIT_EXPECT_TRUE(test, IS_ALIGNED(page, roundup_pow_of_two(nr)));
		test_free(test, nr * PAGE_SIZE, page);
		test_free(test, PAGE_SIZE, first);
	}
}

static void packs_for_heaps(struct kunit *test)
{
	struct coherent_test *t = test->priv;
	unsigned long step = DIV_ROUND_UP(SZ_64K, PAGE_SIZE);
	unsigned long nr = 4 * step + 1, n, fit;

	fit = (TEST_PAGES - nr) / (5 * step) + 1;
	for (n = 0; n < fit; n++)
		KUNIT_EXPECT_EQ(test, test_alloc_packed(test, nr * PAGE_SIZE), n * 5 * step);
	KUNIT_EXPECT_EQ(test, test_alloc_packed(test, nr * PAGE_SIZE), -ENOMEM);
	KUNIT_EXPECT_EQ(test, pages_in_use(test), fit * nr);
	for (n = 0; n < fit; n++)
		dma_coherent_mem_free(t->dev, nr * PAGE_SIZE,
				      t->mem.virt_base + n * 5 * step * PAGE_SIZE);
	KUNIT_EXPECT_EQ(test, pages_in_use(test), 0);

	t->dev->dma_mem = NULL;
	KUNIT_EXPECT_EQ(test, test_alloc_packed(test, PAGE_SIZE), -ENOMEM);
}

static void zeroes_whole_pages(struct kunit *test)
{
	struct coherent_test *t = test->priv;

	KUNIT_ASSERT_EQ(test, test_alloc(test, PAGE_SIZE + 10), 0);
	KUNIT_EXPECT_NULL(test, memchr_inv(t->mem.virt_base, 0, 2 * PAGE_SIZE));
	KUNIT_EXPECT_NULL(test, memchr_inv(t->mem.virt_base + 2 * PAGE_SIZE, 0xff, PAGE_SIZE));
}

static void runs_out(struct kunit *test)
{
	struct coherent_test *t = test->priv;
	long page;

	KUNIT_EXPECT_EQ(test, test_alloc(test, 0), -ENOMEM);
	KUNIT_EXPECT_EQ(test, test_alloc(test, (TEST_PAGES + 1) * PAGE_SIZE), -ENOMEM);
	KUNIT_EXPECT_EQ(test, test_alloc_packed(test, SIZE_MAX), -ENOMEM);
	for (page = 0; page < TEST_PAGES; page++)
		KUNIT_EXPECT_EQ(test, test_alloc(test, PAGE_SIZE), page);
	KUNIT_EXPECT_EQ(test, test_alloc(test, PAGE_SIZE), -ENOMEM);

	/* Each second page is free: half of the pool, and no two together. */
	for (page = 0; page < TEST_PAGES; page += 2)
		test_free(test, PAGE_SIZE, page);
	KUNIT_EXPECT_EQ(test, test_alloc(test, 2 * PAGE_SIZE), -ENOMEM);
	test_free(test, PAGE_SIZE, 131);
	KUNIT_EXPECT_EQ(test, test_alloc(test, 2 * PAGE_SIZE), 130);

	/* A pool in use is not another's. */
	KUNIT_EXPECT_FALSE(test, dma_release_from_dev_coherent(t->dev, PAGE_SIZE, test));
}

static struct kunit_case coherent_test_cases[] = {
	KUNIT_CASE(finds_what_is_there),
	KUNIT_CASE(takes_no_more_than_needed),
	KUNIT_CASE(aligns_to_the_size),
	KUNIT_CASE(packs_for_heaps),
	KUNIT_CASE(zeroes_whole_pages),
	KUNIT_CASE(runs_out),
	{}
};

static struct kunit_suite coherent_test_suite = {
	.name = "dma_coherent",
	.init = coherent_test_init,
	.exit = coherent_test_exit,
	.test_cases = coherent_test_cases,
};

kunit_test_suite(coherent_test_suite);
