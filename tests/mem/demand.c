/* SPDX-License-Identifier: Apache-2.0 */
/*
 * demand.c - pages given up on demand, a step at a time, and what an index
 * looks like.
 *
 * Pages are 64 KiB unless said. KVD_PAGES makes the last test larger, whose
 * longest steps are printed.
 */
#include "tests/mem/fixture.h"

#include <stdio.h>
#include <time.h>

#define PAGE (64u << 10)
#define TINY (16u << 10)
#define STEP_PAGES 160 /* no step gives up more */

static const uint32_t small[] = { 4, 0 };
static const uint32_t tiny[] = { 1, 0 };

/* Pages of sequences of one block each, the first the coldest. */
static void cache(struct fx *f, struct mem_client *c, struct mem_space *s,
		  uint32_t seq, uint32_t nr)
{
	for (uint32_t i = 0; i < nr; i++) {
		handle_t h = fx_page(f, c, s, 0);

		assert_int_equal(fx_publish(c, s, seq + i, 0, 0, h), h);
		fx_release(c, h);
	}
}

/* A chain of them; it stays held. */
static void hold_chain(struct fx *f, struct mem_client *c, struct mem_space *s,
		       uint32_t seq, uint32_t nr, handle_t *h)
{
	assert_int_equal(fx_alloc(f, c, s, 0, nr, h), 0);
	for (uint32_t d = 0; d < nr; d++)
		assert_int_equal(fx_publish(c, s, seq, d, 0, h[d]), h[d]);
}

/* All steps of it. Return: bytes. */
static uint64_t reclaim(struct fx *f, const char *tenant, uint64_t bytes)
{
	struct mem_given g;
	uint64_t sum = 0;
	bool more = true;

	while (more) {
		assert_int_equal(mem_reclaim(f->m, tenant, bytes - sum, &g,
					     &more), 0);
		assert_true(g.pages <= STEP_PAGES);
		assert_true(!more || g.pages);
		sum += g.bytes;
	}
	fx_verify(f);
	return sum;
}

static uint64_t drop(struct fx *f, struct mem_space *s, uint32_t *ret_steps)
{
	struct mem_cursor at = { 0 };
	struct mem_given g;
	uint64_t pages = 0;
	uint32_t steps = 0;

	do {
		assert_int_equal(mem_drop(s, &at, &g), 0);
		assert_true(g.pages <= STEP_PAGES);
		pages += g.pages;
		steps++;
	} while (at.block);
	fx_verify(f);
	if (ret_steps)
		*ret_steps = steps;
	return pages;
}

static void test_reclaim(void **state)
{
	struct mem_given g;
	struct mem_client *c;
	struct mem_space *s;
	struct fx f;
	handle_t held[10];
	bool more;

	fx_init(&f, 16 * MIB, 4 * MIB);
	assert_int_equal(mem_reclaim(f.m, "t", 1, &g, &more), -ENOENT);
	assert_int_equal(reclaim(&f, NULL, 1), 0);
	c = fx_client(&f, 1, "t", 0);
	s = fx_space(c, 1, small);
	hold_chain(&f, c, s, 100, 10, held);
	cache(&f, c, s, 0, 20);
	/* Whole pages, the coldest, and no more than it takes. */
	assert_int_equal(reclaim(&f, "t", 1), PAGE);
	assert_int_equal(reclaim(&f, "t", 2 * PAGE), 2 * PAGE);
	assert_int_equal(reclaim(&f, "t", 2 * PAGE + 1), 3 * PAGE);
	for (uint32_t i = 0; i < 20; i++)
		assert_int_equal(fx_lookup(s, i, 0, 0) != 0, i >= 6);
	/* What is held stays, and its prefix can be found. */
	assert_int_equal(reclaim(&f, "t", UINT64_MAX), 14 * PAGE);
	assert_int_equal(reclaim(&f, "t", UINT64_MAX), 0);
	assert_int_equal(fx_pages(&f, PAGE_SEALED), 10);
	assert_int_equal(fx_lookup(s, 100, 9, 0), held[9]);
	fx_fini(&f);
}

/* Of all tenants what their min keeps stays; asked for by name it goes. */
static void test_tenants(void **state)
{
	struct mem_client *a, *b;
	struct fx f;

	fx_init(&f, 16 * MIB, 4 * MIB);
	a = fx_client(&f, 1, "alice", 0);
	b = fx_client(&f, 2, "bob", 0);
	cache(&f, a, fx_space(a, 1, small), 0, 30);
	cache(&f, b, fx_space(b, 1, small), 0, 40);
	fx_limit(&f, "alice", 10 * PAGE, 0, 0);
	assert_int_equal(reclaim(&f, "bob", 5 * PAGE), 5 * PAGE);
	assert_int_equal(fx_pages(&f, PAGE_CACHED), 65);
	/* Alice's are the colder. */
	assert_int_equal(reclaim(&f, NULL, 15 * PAGE), 15 * PAGE);
	assert_int_equal(reclaim(&f, "alice", 1), PAGE);
	assert_int_equal(reclaim(&f, NULL, UINT64_MAX), 39 * PAGE);
	assert_int_equal(reclaim(&f, "bob", UINT64_MAX), 0);
	assert_int_equal(reclaim(&f, "alice", UINT64_MAX), 10 * PAGE);
	fx_fini(&f);
}

/* Who waits for room is told. */
static void test_room(void **state)
{
	struct mem_given g;
	struct mem_client *a, *b;
	struct mem_space *sa, *sb;
	struct mem_cursor at = { 0 };
	struct fx f;
	handle_t h[64];
	bool more;

	fx_init(&f, 4 * MIB, 4 * MIB);
	a = fx_client(&f, 1, "t", 0);
	sa = fx_space(a, 1, small);
	fx_limit(&f, "t", 0, 0, 8 * PAGE);
	assert_int_equal(fx_alloc(&f, a, sa, 0, 8, h), 0);
	assert_int_equal(fx_alloc(&f, a, sa, 0, 1, h + 8), -EDQUOT);
	f.rooms = 0;
	assert_int_equal(mem_reclaim(f.m, "t", 1, &g, &more), 0);
	assert_int_equal(f.rooms, 0); /* nothing was cached */
	fx_publish(a, sa, 1, 0, 0, h[0]);
	b = fx_client(&f, 2, "t", 0);
	sb = fx_space(b, 2, small);
	fx_release(a, h[0]);
	assert_int_equal(f.rooms, 1);
	assert_int_equal(fx_alloc(&f, b, sb, 0, 2, h + 8), -EDQUOT);
	assert_int_equal(mem_drop(sa, &at, &g), 0);
	assert_int_equal(g.pages, 1);
	assert_int_equal(f.rooms, 2);
	fx_fini(&f);
}

static void test_grace(void **state)
{
	struct mem_given g;
	struct mem_cursor at = { 0 };
	struct mem_client *c;
	struct fx f;
	bool more;

	fx_init(&f, 16 * MIB, 4 * MIB);
	c = fx_client(&f, 1, "t", 0);
	cache(&f, c, fx_space(c, 1, small), 0, 5);
	fx_restart(&f);
	assert_true(mem_in_grace(f.m));
	assert_int_equal(mem_reclaim(f.m, "t", 1, &g, &more), -EAGAIN);
	assert_int_equal(mem_reclaim(f.m, NULL, 1, &g, &more), -EAGAIN);
	assert_int_equal(mem_drop(mem_space_next(f.m, NULL), &at, &g),
			 -EAGAIN);
	assert_int_equal(fx_pages(&f, PAGE_CACHED), 5);
	mem_grace_end(f.m, NULL);
	assert_int_equal(drop(&f, mem_space_next(f.m, NULL), NULL), 5);
	fx_fini(&f);
}

static void test_drop(void **state)
{
	struct mem_given g;
	struct mem_cursor at = { 0 };
	struct mem_client *c;
	struct mem_space *s, *other;
	struct fx f;
	handle_t held[3];

	fx_init(&f, 16 * MIB, 4 * MIB);
	c = fx_client(&f, 1, "t", 0);
	s = fx_space(c, 1, small);
	other = fx_space(c, 2, small);
	assert_ptr_equal(mem_space_find(f.m, mem_space_id(s)), s);
	assert_null(mem_space_find(f.m, 0));
	assert_null(mem_space_find(f.m, 3));
	assert_null(mem_space_find(f.m, UINT32_MAX));
	assert_int_equal(drop(&f, s, NULL), 0);
	cache(&f, c, s, 0, 20);
	hold_chain(&f, c, s, 100, 3, held);
	cache(&f, c, other, 0, 7);
	assert_int_equal(drop(&f, s, NULL), 20);
	assert_int_equal(fx_lookup(s, 100, 2, 0), held[2]);
	assert_int_equal(fx_pages(&f, PAGE_CACHED), 7);
	/* From where nothing is, and from what was another space. */
	at.block = UINT32_MAX;
	assert_int_equal(mem_drop(other, &at, &g), 0);
	assert_int_equal(g.pages, 0);
	assert_int_equal(at.block, 0);
	assert_int_equal(mem_drop(s, &at, &g), -ENOENT);
	at.serial++;
	assert_int_equal(mem_drop(other, &at, &g), -ENOENT);
	assert_int_equal(fx_pages(&f, PAGE_CACHED), 7);
	fx_fini(&f);
}

/* Both pages of blocks that have an exact copy. */
static void test_copies(void **state)
{
	struct mem_space_key key = fx_kivi_key(1, small, 0);
	struct mem_client *c;
	struct mem_space *s;
	struct fx f;

	fx_init(&f, 16 * MIB, 4 * MIB);
	c = fx_client(&f, 1, "t", 0);
	s = fx_open(c, &key);
	for (uint32_t i = 0; i < 10; i++)
		for (uint32_t class = 0; class < 2; class++) {
			handle_t h = fx_page(&f, c, s, class);

			fx_publish(c, s, i, 0, class, h);
			fx_release(c, h);
		}
	assert_int_equal(fx_pages(&f, PAGE_CACHED), 20);
	assert_int_equal(drop(&f, s, NULL), 20);
	fx_fini(&f);
}

/* ---- the index ---- */

/* One more block that follows block 0 of @seq. */
static void branch(struct fx *f, struct mem_client *c, struct mem_space *s,
		   uint32_t seq)
{
	struct mem_block b = fx_block(s, 77, 1);
	handle_t h = fx_page(f, c, s, 0), out[MEM_MAX_CLASSES];
	place_t p[MEM_MAX_CLASSES];

	b.parent = fx_name(s, seq, 0);
	b.pages[0] = h;
	assert_int_equal(mem_publish(c, s, &b, false, out, p), 0);
	fx_release(c, h);
}

static void test_survey(void **state)
{
	struct mem_cursor at = { 0 };
	struct mem_survey v;
	struct mem_client *c;
	struct mem_space *s;
	struct fx f;
	handle_t h[3][5];
	place_t p[5];

	fx_init(&f, 16 * MIB, 4 * MIB);
	c = fx_client(&f, 1, "t", 0);
	s = fx_space(c, 1, small);
	assert_int_equal(mem_survey(s, &at, 10, &v), 0);
	assert_int_equal(v.blocks + v.pages + v.nr_roots + at.block, 0);
	for (uint32_t i = 0; i < 3; i++)
		hold_chain(&f, c, s, i, 5, h[i]);
	branch(&f, c, s, 1);
	/* Sequence 2 is found twice, 1 once, but for its last two blocks. */
	assert_int_equal(mem_match(c, s, h[2], 5, p), 5);
	assert_int_equal(mem_match(c, s, h[2], 5, p), 5);
	assert_int_equal(mem_match(c, s, h[1], 3, p), 3);
	assert_int_equal(mem_survey(s, &at, 2, &v), 0);
	assert_int_equal(at.block, 0);
	assert_int_equal(v.blocks, 16);
	assert_int_equal(v.pages, 16);
	assert_int_equal(v.depth_max, 4);
	assert_int_equal(v.depth_sum, 3 * (1 + 2 + 3 + 4) + 1);
	assert_int_equal(v.shared, 1);
	assert_int_equal(v.uses, 13);
	assert_int_equal(v.nr_roots, 2);
	assert_int_equal(v.roots[0].uses, 2);
	assert_int_equal(v.roots[1].uses, 1);
	assert_int_equal(mem_survey_tokens(s, v.roots[0].block)[3], 2000003);
	assert_int_equal(mem_survey_tokens(s, v.roots[1].block)[0], 1000000);
	assert_int_equal(mem_survey_below(s, v.roots[0].block), 4);
	assert_int_equal(mem_survey_below(s, v.roots[1].block), 5);
	assert_int_equal(mem_survey_below(s, 0), 0);
	assert_int_equal(mem_survey_below(s, 17), 0);
	assert_int_equal(mem_survey_below(s, UINT32_MAX), 0);
	/* More than there are, none, and from what was another space. */
	assert_int_equal(mem_survey(s, &at, MEM_MAX_ROOTS, &v), 0);
	assert_int_equal(v.nr_roots, 3);
	assert_int_equal(v.roots[2].uses, 0);
	assert_int_equal(mem_survey(s, &at, 0, &v), 0);
	assert_int_equal(v.nr_roots, 0);
	assert_int_equal(v.blocks, 16);
	at.serial++;
	assert_int_equal(mem_survey(s, &at, 2, &v), -ENOENT);
	fx_fini(&f);
}

/* What is given up is out of it, and no longer below anything. */
static void test_survey_dropped(void **state)
{
	struct mem_cursor at = { 0 };
	struct mem_survey v;
	struct mem_client *c;
	struct mem_space *s;
	struct fx f;
	handle_t h[6];

	fx_init(&f, 16 * MIB, 4 * MIB);
	c = fx_client(&f, 1, "t", 0);
	s = fx_space(c, 1, small);
	hold_chain(&f, c, s, 1, 6, h);
	for (uint32_t i = 2; i < 6; i++)
		fx_release(c, h[i]);
	assert_int_equal(mem_survey(s, &at, 10, &v), 0);
	assert_int_equal(mem_survey_below(s, v.roots[0].block), 5);
	assert_int_equal(drop(&f, s, NULL), 4);
	assert_int_equal(mem_survey(s, &at, 10, &v), 0);
	assert_int_equal(v.blocks, 2);
	assert_int_equal(v.depth_max, 1);
	assert_int_equal(mem_survey_below(s, v.roots[0].block), 1);
	assert_int_equal(mem_survey_below(s, 6), 0);
	fx_fini(&f);
}

/* ---- many ---- */

/* Of the processor: what others run meanwhile is not a step's. */
static uint64_t now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static void cache_many(struct fx *f, struct mem_client *c, struct mem_space *s,
		       uint32_t nr)
{
	handle_t h[1000];
	uint32_t released, n;

	for (uint32_t i = 0; i < nr; i += n) {
		n = nr - i < 1000 ? nr - i : 1000;
		assert_int_equal(fx_alloc(f, c, s, 0, n, h), 0);
		for (uint32_t j = 0; j < n; j++)
			fx_publish(c, s, i + j, 0, 0, h[j]);
		assert_int_equal(mem_release(c, h, n, &released), 0);
	}
}

static uint64_t longer(uint64_t longest, uint64_t since)
{
	uint64_t us = now_us() - since;

	return us > longest ? us : longest;
}

/* Steps are bounded, whatever there is, and each page goes once. */
static void test_many(void **state)
{
	const char *env = getenv("KVD_PAGES");
	uint32_t nr = env ? (uint32_t)strtoul(env, NULL, 10) : 20000;
	uint64_t pages = 0, blocks = 0, longest[3] = { 0 }, segment, t;
	uint32_t steps[3] = { 0 };
	struct mem_cursor at = { 0 };
	struct mem_given g;
	struct mem_survey v;
	struct mem_client *c;
	struct mem_space *s;
	struct fx f;
	bool more = true;

	/* The fixture keeps no more than some sixty segments. */
	segment = ((uint64_t)nr * TINY / (32ull * 64 * MIB) + 1) * (64 * MIB);
	fx_init(&f, ((uint64_t)nr * TINY / segment + 2) * segment, segment);
	c = fx_client(&f, 1, "t", 0);
	s = fx_space(c, 1, tiny);
	cache_many(&f, c, s, nr);
	do {
		t = now_us();
		assert_int_equal(mem_survey(s, &at, 64, &v), 0);
		longest[0] = longer(longest[0], t);
		blocks += v.blocks;
		steps[0]++;
	} while (at.block);
	assert_int_equal(blocks, nr);
	do {
		t = now_us();
		assert_int_equal(mem_reclaim(f.m, NULL, nr / 2 * (uint64_t)TINY,
					     &g, &more), 0);
		longest[1] = longer(longest[1], t);
		assert_true(g.pages && g.pages <= STEP_PAGES);
		pages += g.pages;
		steps[1]++;
		t = now_us();
		assert_int_equal(mem_drop(s, &at, &g), 0);
		longest[2] = longer(longest[2], t);
		assert_true(g.pages <= STEP_PAGES);
		pages += g.pages;
		steps[2]++;
	} while (at.block && pages < nr / 2);
	assert_true(more && at.block);
	pages += reclaim(&f, "t", (nr - pages) / 2 * (uint64_t)TINY) / TINY;
	pages += drop(&f, s, NULL);
	assert_int_equal(pages, nr);
	assert_true(steps[0] > nr / 4096 && steps[1] > nr / 4096);
	print_message("%u pages, longest of so many steps: survey %llu us of "
		      "%u, reclaim %llu us of %u, drop %llu us of %u\n", nr,
		      (unsigned long long)longest[0], steps[0],
		      (unsigned long long)longest[1], steps[1],
		      (unsigned long long)longest[2], steps[2]);
	fx_fini(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reclaim),
		cmocka_unit_test(test_tenants),
		cmocka_unit_test(test_room),
		cmocka_unit_test(test_grace),
		cmocka_unit_test(test_drop),
		cmocka_unit_test(test_copies),
		cmocka_unit_test(test_survey),
		cmocka_unit_test(test_survey_dropped),
		cmocka_unit_test(test_many),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
