/* SPDX-License-Identifier: Apache-2.0 */
/*
 * demote.c - cached pages are stored once more, smaller, before they are lost.
 *
 * Pages are of int8 (8.5 KiB a layer) and are demoted to int4 (4.5 KiB).
 */
#include "tests/mem/fixture.h"

#include <stdio.h>

#define LAYERS 15u
#define SMALL  1u	/* the class of what is demoted */
#define POOL   (8u * MIB)
#define FULL   60u	/* pages that it holds in int8: 15 in a granule */
#define MANY   100u	/* more than that */
#define HELD   22u	/* more than are cached in int8 then */

static const uint32_t layers[] = { LAYERS, 0 };

/* Of a device without kernels, when that is what mem/ is to see. */
static struct dev_ops without;
static bool without_kernels;
static uint32_t nr_refused;

const struct dev_ops *__real_dev_ops(const struct dev *d);
const struct dev_ops *__wrap_dev_ops(const struct dev *d);

const struct dev_ops *__wrap_dev_ops(const struct dev *d)
{
	return without_kernels ? &without : __real_dev_ops(d);
}

static int convert_not(struct dev *d, const struct dev_convert *c)
{
	nr_refused++;
	return -EOPNOTSUPP;
}

static struct mem_space *demoting(struct mem_client *c)
{
	struct mem_space_key key = fx_key(1, layers);

	key.geometry.k_format = key.geometry.v_format = KVD_INT8;
	key.geometry.demote_k = key.geometry.demote_v = KVD_INT4;
	return fx_open(c, &key);
}

/* Publishes block @depth of a chain and lets go of it. */
static handle_t store(struct fx *f, struct mem_client *c, struct mem_space *s,
		      uint32_t seq)
{
	handle_t h = fx_page(f, c, s, 0);

	h = fx_publish(c, s, seq, 0, 0, h);
	fx_release(c, h);
	return h;
}

/* All jobs, and what they make worth doing. */
static void settle(struct fx *f)
{
	do
		dev_drain(f->dev);
	while (mem_trim(f->m));
	dev_drain(f->dev);
	fx_verify(f);
}

static uint32_t count(const struct mem_space *s, uint32_t class)
{
	uint32_t nr = 0;

	for (uint32_t i = 0; i < MANY; i++)
		nr += fx_lookup(s, i, 0, class) != 0;
	return nr;
}

/* The number of a block that has a page of @class, and the page. */
static uint32_t find(const struct mem_space *s, uint32_t class, handle_t *ret)
{
	uint32_t i = 0;

	while (i < MANY && !(*ret = fx_lookup(s, i, 0, class)))
		i++;
	assert_true(i < MANY);
	return i;
}

static struct mem_space *fill(struct fx *f, struct mem_client **c)
{
	struct mem_space *s;

	fx_init(f, POOL, 4 * MIB);
	*c = fx_client(f, 1, "t", 0);
	s = demoting(*c);
	for (uint32_t i = 0; i < MANY; i++) {
		store(f, *c, s, i);
		if (i % 32 == 0)
			fx_verify(f);
	}
	settle(f);
	return s;
}

static void test_demote(void **state)
{
	struct mem_client *c;
	struct mem_space_stat st;
	struct mem_stat all;
	struct mem_space *s;
	uint32_t large, small;
	place_t place;
	handle_t h;
	struct fx f;

	s = fill(&f, &c);
	large = count(s, 0);
	small = count(s, SMALL);
	mem_stat(f.m, &all);
	mem_space_stat(s, &st);
	assert_true(all.demoted >= small);
	assert_int_equal(all.pages.of[PAGE_DEMOTED], small);
	assert_int_equal(all.pages.of[PAGE_CACHED], large);
	assert_int_equal(st.class_pages[SMALL].of[PAGE_DEMOTED], small);
	printf("%u as they were, %u demoted\n", large, small);
	assert_true(large + small > FULL * 5 / 4);

	/* Found, held, let go of: it is what it was. */
	find(s, SMALL, &h);
	assert_int_equal(mem_match(c, s, &h, 1, &place), 1);
	fx_verify(&f);
	assert_int_equal(fx_pages(&f, PAGE_SEALED), 1);
	fx_release(c, h);
	assert_int_equal(fx_pages(&f, PAGE_DEMOTED), small);
	fx_fini(&f);
}

/* The base format, published again, takes the place of what was demoted. */
static void test_replaced(void **state)
{
	struct mem_client *c;
	struct mem_space *s;
	uint32_t seq;
	handle_t h, held;
	place_t place;
	struct fx f;

	s = fill(&f, &c);
	seq = find(s, SMALL, &h);
	store(&f, c, s, seq);
	assert_int_not_equal(fx_lookup(s, seq, 0, 0), 0);
	assert_int_equal(fx_lookup(s, seq, 0, SMALL), 0);

	/* Who holds it keeps it; then it is a copy, and the first to go. */
	seq = find(s, SMALL, &held);
	assert_int_equal(mem_match(c, s, &held, 1, &place), 1);
	store(&f, c, s, seq);
	assert_int_equal(fx_lookup(s, seq, 0, SMALL), held);
	fx_release(c, held);
	fx_verify(&f);
	for (uint32_t i = 0; i < MANY; i++)
		store(&f, c, s, MANY + i);
	settle(&f);
	assert_int_equal(fx_lookup(s, seq, 0, SMALL) == held, 0);
	fx_fini(&f);
}

/* It is held for longer than the new one stays: there is nothing to demote. */
static void test_held(void **state)
{
	struct mem_client *c;
	struct mem_space *s;
	uint32_t seq;
	handle_t held;
	place_t place;
	struct fx f;

	s = fill(&f, &c);
	seq = find(s, SMALL, &held);
	assert_int_equal(mem_match(c, s, &held, 1, &place), 1);
	store(&f, c, s, seq);
	assert_int_not_equal(fx_lookup(s, seq, 0, 0), 0);
	for (uint32_t i = 0; i < 3 * MANY && fx_lookup(s, seq, 0, 0); i++) {
		store(&f, c, s, MANY + i);
		fx_verify(&f);
	}
	settle(&f);
	assert_int_equal(fx_lookup(s, seq, 0, 0), 0);
	assert_int_equal(fx_lookup(s, seq, 0, SMALL), held);
	fx_release(c, held);
	fx_verify(&f);
	fx_fini(&f);
}

/* Nobody makes such pages by himself. */
static void test_alloc(void **state)
{
	struct mem_client *c;
	struct mem_space *s;
	uint64_t need;
	place_t place;
	handle_t h;
	struct fx f;

	fx_init(&f, 8 * MIB, 4 * MIB);
	c = fx_client(&f, 1, "t", 0);
	s = demoting(c);
	assert_int_equal(mem_space_class(s, SMALL)->k_format, KVD_INT4);
	assert_int_equal(mem_alloc(c, s, SMALL, 1, &h, &place, &need), -EINVAL);
	fx_fini(&f);
}

/* Where the device cannot, that is seen once; then pages are lost at once. */
static void test_cannot(void **state)
{
	struct mem_client *c;
	struct mem_space *s;
	struct mem_stat all;
	struct fx f;

	fx_init(&f, POOL, 4 * MIB);
	without = *__real_dev_ops(f.dev);
	without.convert = convert_not;
	without_kernels = true;
	c = fx_client(&f, 1, "t", 0);
	s = demoting(c);
	for (uint32_t i = 0; i < MANY; i++) {
		store(&f, c, s, i);
		dev_drain(f.dev);
		fx_verify(&f);
	}
	settle(&f);
	mem_stat(f.m, &all);
	assert_int_equal(nr_refused, 1);
	assert_int_equal(all.demoted, 0);
	assert_true(count(s, 0) >= FULL - 15);
	fx_fini(&f);
	without_kernels = false;
}

/* The first bytes of a page, on the device's thread. */
struct word {
	struct dev_job job;
	struct dev_segment *segment;
	uint64_t at;
	uint32_t value;
	bool writes;
};

static void word_run(struct dev *d, struct dev_job *job)
{
	struct word *w = (struct word *)job;

	if (w->writes)
		dev_ops(d)->write(d, w->segment, w->at, &w->value, 4);
	else
		dev_ops(d)->read(d, w->segment, w->at, &w->value, 4);
}

static void word_done(struct dev *d, struct dev_job *job)
{
}

/* Finds a page, which is the warmest then, and reads or writes its bytes. */
static uint32_t touch(struct fx *f, struct mem_client *c, struct mem_space *s,
		      handle_t h, uint32_t value, bool writes)
{
	struct word w = { .job = { .run = word_run, .done = word_done },
			  .value = value, .writes = writes };
	const struct dev_segment *seg;
	place_t place;

	assert_int_equal(mem_match(c, s, &h, 1, &place), 1);
	assert_int_equal(mem_segment_get(s, place_segment(place), &seg), 0);
	w.segment = (struct dev_segment *)(uintptr_t)seg;
	w.at = place_offset(place);
	dev_submit(f->dev, &w.job);
	dev_drain(f->dev);
	fx_release(c, h);
	return w.value;
}

/* What has been demoted, every third last; each says who it is. */
static uint32_t touch_all(struct fx *f, struct mem_client *c,
			  struct mem_space *s, uint32_t seqs[MANY],
			  handle_t was[MANY])
{
	uint32_t nr = 0;

	for (uint32_t last = 0; last < 2; last++)
		for (uint32_t i = 0; i < MANY; i++) {
			handle_t h = fx_lookup(s, i, 0, SMALL);

			if (!h || (i % 3 == 0) != last)
				continue;
			touch(f, c, s, h, i, true);
			seqs[nr] = i;
			was[nr++] = h;
		}
	return nr;
}

/* Pages that are held at full size take slabs of what was demoted. Of that the
 * coldest go, in whatever slabs they are, and others move. */
static void test_vacate(void **state)
{
	uint32_t seqs[MANY], nr, lost = 0, moved = 0;
	handle_t was[MANY], held;
	struct mem_client *c;
	struct mem_space *s;
	struct fx f;

	s = fill(&f, &c);
	nr = touch_all(&f, c, s, seqs, was);
	for (uint32_t i = 0; i < HELD; i++) {
		assert_int_equal(fx_alloc(&f, c, s, 0, 1, &held), 0);
		settle(&f);
	}
	assert_int_equal(count(s, 0), 0);
	while (lost < nr && !fx_lookup(s, seqs[lost], 0, SMALL))
		lost++;
	assert_true(lost && lost < nr);
	for (uint32_t i = lost; i < nr; i++) {
		handle_t h = fx_lookup(s, seqs[i], 0, SMALL);

		assert_int_not_equal(h, 0);
		moved += h != was[i];
		assert_int_equal(touch(&f, c, s, h, 0, false), seqs[i]);
	}
	assert_true(moved);
	fx_fini(&f);
}

/* A tenant at its max has its own demoted, and more of them. */
static void test_max(void **state)
{
	struct mem_client *c;
	struct mem_space *s;
	struct mem_stat all;
	struct fx f;

	fx_init(&f, 2 * POOL, 4 * MIB);
	c = fx_client(&f, 1, "t", POOL / 2);
	s = demoting(c);
	for (uint32_t i = 0; i < MANY; i++) {
		store(&f, c, s, i);
		fx_verify(&f);
	}
	settle(&f);
	mem_stat(f.m, &all);
	printf("%u as they were, %u demoted, at a max of %u\n", count(s, 0),
	       count(s, SMALL), FULL / 2);
	assert_true(count(s, 0) + count(s, SMALL) > FULL / 2 * 3 / 2);
	assert_int_not_equal(fx_lookup(s, MANY - 1, 0, 0), 0);
	fx_fini(&f);
}

static bool nobody_lives(pid_t pid, uint64_t start_time)
{
	return false;
}

/* A successor finds them under their names. */
static void test_restart(void **state)
{
	struct mem_client *c;
	struct mem_space *s;
	uint32_t small, seq;
	handle_t h;
	struct fx f;

	s = fill(&f, &c);
	small = count(s, SMALL);
	seq = find(s, SMALL, &h);
	fx_restart(&f);
	c = fx_client(&f, 1, "t", 0);
	s = demoting(c);
	assert_int_equal(count(s, SMALL), small);
	assert_int_equal(fx_lookup(s, seq, 0, SMALL), h);
	mem_grace_end(f.m, nobody_lives);
	settle(&f);
	assert_int_equal(fx_pages(&f, PAGE_DEMOTED), small);
	fx_fini(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_demote),
		cmocka_unit_test(test_replaced),
		cmocka_unit_test(test_held),
		cmocka_unit_test(test_alloc),
		cmocka_unit_test(test_cannot),
		cmocka_unit_test(test_vacate),
		cmocka_unit_test(test_max),
		cmocka_unit_test(test_restart),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
