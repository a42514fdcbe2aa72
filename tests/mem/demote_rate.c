/* SPDX-License-Identifier: Apache-2.0 */
/*
 * demote_rate.c - what demotion is worth: how much is found again in a pool of
 * so many bytes, of pages that are demoted, of large and of small ones.
 *
 * Conversations go on at random, each turn with all that was said before; a
 * part of them is taken up more often, and between two turns somebody asks what
 * nobody asks again. Every policy has to find nearly as much
 * with demotion as where all pages are small from the start.
 */
#include "tests/mem/fixture.h"

#include <stdio.h>
#include "daemon/mem/space.h"

#define POOL	  (128 * MIB) /* 3840 pages of int8, or 7232 of int4 */
#define TALKS	  400u
#define LONGEST	  32u	      /* pages */
#define TURNS	  3000u
#define WARM_TURN 1500u	      /* they count from here on */

static const uint32_t layers[] = { 4, 0 };

/* What pages have in them makes no difference, so nothing is computed. */
static struct dev_ops quick;

const struct dev_ops *__real_dev_ops(const struct dev *d);
const struct dev_ops *__wrap_dev_ops(const struct dev *d);

static int convert_nothing(struct dev *d, const struct dev_convert *c)
{
	for (uint32_t i = 0; i < c->nr; i++)
		c->pages[i].bad = 0;
	return 0;
}

const struct dev_ops *__wrap_dev_ops(const struct dev *d)
{
	quick = *__real_dev_ops(d);
	quick.convert = convert_nothing;
	return &quick;
}

struct talk {
	uint32_t seq;
	uint32_t nr_pages;
};

struct run {
	struct fx f;
	struct mem_client *c;
	struct mem_space *s;
	struct talk talks[TALKS];
	uint32_t nr_seqs;
	uint64_t random;
	uint64_t asked, found;
};

static uint32_t draw(struct run *r, uint32_t below)
{
	r->random = r->random * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(r->random >> 33) % below;
}

static handle_t lookup(const struct run *r, uint32_t seq, uint32_t depth)
{
	struct name name = fx_name(r->s, seq, depth);
	uint32_t block = index_find(&r->s->index, &name);
	handle_t h = 0;

	for (uint32_t i = 0; block && !h && i < r->s->nr_classes; i++)
		h = index_page(&r->s->index, block, i);
	return h;
}

static void settle(struct run *r)
{
	do
		dev_drain(r->f.dev);
	while (mem_trim(r->f.m));
}

/* All its pages: those that are there are found, as far as from the first on,
 * others are written; then they are let go of. */
static void say(struct run *r, const struct talk *t, bool counts)
{
	handle_t h[LONGEST];
	uint32_t nr = 0, released;
	place_t place;

	while (nr < t->nr_pages && (h[nr] = lookup(r, t->seq, nr)) &&
	       mem_match(r->c, r->s, &h[nr], 1, &place) == 1)
		nr++;
	if (counts) {
		r->asked += t->nr_pages;
		r->found += nr;
	}
	for (; nr < t->nr_pages; nr++) {
		h[nr] = fx_page(&r->f, r->c, r->s, 0);
		h[nr] = fx_publish(r->c, r->s, t->seq, nr, 0, h[nr]);
	}
	assert_int_equal(mem_release(r->c, h, nr, &released), 0);
	settle(r);
}

static void turn(struct run *r, bool counts)
{
	struct talk once = { ++r->nr_seqs, 1 + draw(r, LONGEST / 2) };
	struct talk *t = &r->talks[draw(r, draw(r, 3) ? TALKS : TALKS / 8)];

	t->nr_pages += 1 + draw(r, 6);
	if (!t->seq || t->nr_pages > LONGEST)
		*t = (struct talk){ ++r->nr_seqs, 1 + draw(r, 6) };
	say(r, t, counts);
	say(r, &once, false);
}

static double rate(const char *policy, uint32_t format, uint32_t demote)
{
	struct mem_space_key key = fx_key(1, layers);
	struct run r = { .random = 1 };

	key.geometry.k_format = key.geometry.v_format = format;
	key.geometry.demote_k = key.geometry.demote_v = demote;
	setenv("KVD_TEST_POLICY", policy, 1);
	fx_init(&r.f, POOL, 16 * MIB);
	r.c = fx_client(&r.f, 1, "t", 0);
	r.s = fx_open(r.c, &key);
	for (uint32_t i = 0; i < TURNS; i++)
		turn(&r, i >= WARM_TURN);
	fx_fini(&r.f);
	return (double)r.found / (double)r.asked;
}

static void test_rate(void **state)
{
	static const char *const policies[] = { "lru", "s3fifo", "density" };

	for (size_t i = 0; i < 3; i++) {
		double large = rate(policies[i], KVD_INT8, 0);
		double small = rate(policies[i], KVD_INT4, 0);
		double both = rate(policies[i], KVD_INT8, KVD_INT4);

		printf("%s: int8 %.4f, int4 %.4f, int8 and then int4 %.4f\n",
		       policies[i], large, small, both);
		assert_true(large < small * 0.9); /* else it shows nothing */
		assert_true(both > large);
		assert_true(both >= small * 0.95);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rate),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
