/* SPDX-License-Identifier: Apache-2.0 */
/*
 * priority.c - of a tenant's cached pages those of low priority go first,
 * those of high last, under every policy; and a prefix not before its end.
 *
 * Pages are 64 KiB.
 */
#include "tests/mem/fixture.h"

#include <stdio.h>

#define PAGE (64u << 10)

static const uint32_t small[] = { 4, 0 };

static handle_t publish(struct mem_client *c, struct mem_space *s,
			uint32_t seq, uint32_t depth, int priority, handle_t h)
{
	struct mem_block b = fx_block(s, seq, depth);
	handle_t got[MEM_MAX_CLASSES];
	place_t places[MEM_MAX_CLASSES];

	b.pages[0] = h;
	b.priority = priority;
	assert_int_equal(mem_publish(c, s, &b, false, got, places), 0);
	return got[0];
}

/* Blocks [from, to) of @seq, let go of together. */
static void cache(struct fx *f, struct mem_client *c, struct mem_space *s,
		  uint32_t seq, uint32_t from, uint32_t to, int priority)
{
	handle_t h[64], own;
	uint32_t nr = to - from, released;

	assert_int_equal(fx_alloc(f, c, s, 0, nr, h), 0);
	for (uint32_t i = 0; i < nr; i++) {
		own = h[i];
		h[i] = publish(c, s, seq, from + i, priority, own);
		if (h[i] != own)
			fx_release(c, own);
	}
	assert_int_equal(mem_release(c, h, nr, &released), 0);
	fx_verify(f);
}

static uint32_t found(const struct mem_space *s, uint32_t seq)
{
	uint32_t d = 0;

	while (d < 64 && fx_lookup(s, seq, d, 0))
		d++;
	return d;
}

/* As many pages of @tenant (NULL: of all) as are said are given up. */
static void reclaim(struct fx *f, const char *tenant, uint32_t pages)
{
	struct mem_given g;
	bool more;

	assert_int_equal(mem_reclaim(f->m, tenant, (uint64_t)pages * PAGE, &g,
				     &more), 0);
	assert_int_equal(g.pages, pages);
	fx_verify(f);
}

/* The one published first, so the coldest, goes last. */
static void test_order(void **state)
{
	struct mem_client *c;
	struct mem_space *s;
	struct fx f;

	fx_init(&f, 16 * MIB, 4 * MIB);
	c = fx_client(&f, 1, "t", 0);
	s = fx_space(c, 1, small);
	cache(&f, c, s, 1, 0, 10, MEM_HIGH);
	cache(&f, c, s, 2, 0, 10, MEM_NORMAL);
	cache(&f, c, s, 3, 0, 10, MEM_LOW);
	cache(&f, c, s, 4, 0, 10, MEM_HIGH);
	reclaim(&f, "t", 4);
	assert_int_equal(found(s, 3), 6);
	reclaim(&f, "t", 7);
	assert_int_equal(found(s, 3), 0);
	assert_int_equal(found(s, 2), 9);
	reclaim(&f, "t", 9);
	assert_int_equal(found(s, 2), 0);
	assert_int_equal(found(s, 1) + found(s, 4), 20);
	reclaim(&f, "t", 20);
	fx_fini(&f);
}

/* So it is for who allocates, whatever makes room. */
static void test_alloc(void **state)
{
	struct mem_client *c;
	struct mem_space *s, *other;
	const uint32_t large[] = { 8, 0 };
	handle_t h[64];
	struct fx f;

	fx_init(&f, 16 * MIB, 4 * MIB);
	c = fx_client(&f, 1, "t", 4 * MIB);
	s = fx_space(c, 1, small);
	other = fx_space(c, 2, large);
	cache(&f, c, s, 1, 0, 32, MEM_HIGH);
	cache(&f, c, s, 2, 0, 32, MEM_LOW);
	assert_int_equal(fx_alloc(&f, c, s, 0, 8, h), 0);
	assert_int_equal(found(s, 1), 32);
	assert_int_equal(found(s, 2), 24);
	/* Of another size. */
	assert_int_equal(fx_alloc(&f, c, other, 0, 8, h), 0);
	assert_int_equal(found(s, 1), 32);
	assert_int_equal(found(s, 2), 8);
	fx_fini(&f);
}

/* Pages of another size are of the same tenant. */
static void test_sizes(void **state)
{
	const uint32_t large[] = { 8, 0 };
	struct mem_client *c;
	struct mem_space *s, *other;
	struct mem_given g;
	struct fx f;
	bool more;

	fx_init(&f, 16 * MIB, 4 * MIB);
	c = fx_client(&f, 1, "t", 0);
	s = fx_space(c, 1, small);
	other = fx_space(c, 2, large);
	cache(&f, c, s, 1, 0, 10, MEM_NORMAL);
	cache(&f, c, other, 1, 0, 10, MEM_LOW);
	cache(&f, c, other, 2, 0, 10, MEM_HIGH);
	cache(&f, c, s, 2, 0, 10, MEM_LOW);
	assert_int_equal(mem_reclaim(f.m, "t", 30 * PAGE, &g, &more), 0);
	assert_int_equal(g.pages, 20);
	assert_int_equal(found(other, 1), 0);
	assert_int_equal(found(s, 2), 0);
	assert_int_equal(mem_reclaim(f.m, "t", 10 * PAGE, &g, &more), 0);
	assert_int_equal(g.pages, 10);
	assert_int_equal(found(s, 1), 0);
	assert_int_equal(found(other, 2), 10);
	fx_verify(&f);
	fx_fini(&f);
}

/* Published by two, it has the higher. */
static void test_raised(void **state)
{
	struct mem_client *c;
	struct mem_space *s;
	struct fx f;

	fx_init(&f, 16 * MIB, 4 * MIB);
	c = fx_client(&f, 1, "t", 0);
	s = fx_space(c, 1, small);
	cache(&f, c, s, 1, 0, 10, MEM_LOW);
	cache(&f, c, s, 2, 0, 10, MEM_HIGH);
	cache(&f, c, s, 3, 0, 10, MEM_NORMAL);
	cache(&f, c, s, 1, 0, 5, MEM_HIGH);
	cache(&f, c, s, 2, 0, 10, MEM_LOW);
	reclaim(&f, "t", 5);
	assert_int_equal(found(s, 1), 5);
	reclaim(&f, "t", 10);
	assert_int_equal(found(s, 1), 5);
	assert_int_equal(found(s, 2), 10);
	assert_int_equal(found(s, 3), 0);
	fx_fini(&f);
}

/*
 * What is high goes on from what is low: without its beginning it could not be
 * found, so that stays too, cached or held at that time; and its end goes
 * first.
 */
static void test_prefix(void **state)
{
	struct mem_client *c;
	struct mem_space *s;
	handle_t h[10];
	place_t places[10];
	uint32_t released;
	struct fx f;

	fx_init(&f, 16 * MIB, 4 * MIB);
	c = fx_client(&f, 1, "t", 0);
	s = fx_space(c, 1, small);
	for (int held = 0; held < 2; held++) {
		uint32_t seq = 10 * (uint32_t)held;

		cache(&f, c, s, seq, 0, 10, MEM_LOW);
		cache(&f, c, s, seq + 1, 0, 10, MEM_NORMAL);
		for (uint32_t d = 0; d < 10; d++)
			h[d] = fx_lookup(s, seq, d, 0);
		if (held)
			assert_int_equal(mem_match(c, s, h, 10, places), 10);
		cache(&f, c, s, seq, 10, 12, MEM_HIGH);
		if (held)
			assert_int_equal(mem_release(c, h, 10, &released), 0);
		fx_verify(&f);
		reclaim(&f, "t", 10);
		assert_int_equal(found(s, seq), 12);
		assert_int_equal(found(s, seq + 1), 0);
		reclaim(&f, "t", 12);
	}
	fx_fini(&f);
}

/* Between tenants it says nothing. */
static void test_tenants(void **state)
{
	struct mem_client *a, *b;
	struct mem_space *sa, *sb;
	struct fx f;

	fx_init(&f, 16 * MIB, 4 * MIB);
	a = fx_client(&f, 1, "alice", 0);
	b = fx_client(&f, 2, "bob", 0);
	sa = fx_space(a, 1, small);
	sb = fx_space(b, 1, small);
	cache(&f, a, sa, 1, 0, 10, MEM_HIGH);
	cache(&f, b, sb, 1, 0, 10, MEM_LOW);
	if (strcmp(f.cfg.policy, "lru") == 0) {
		reclaim(&f, NULL, 5);
		assert_int_equal(found(sa, 1), 5);
		assert_int_equal(found(sb, 1), 10);
	}
	fx_fini(&f);
}

/* Exact copies go before anything, of whatever priority. */
static void test_copies(void **state)
{
	struct mem_space_key key = fx_kivi_key(1, small, 0);
	handle_t h[2], got[MEM_MAX_CLASSES];
	place_t places[MEM_MAX_CLASSES];
	struct mem_client *c;
	struct mem_space *s;
	struct mem_given g;
	struct mem_block b;
	struct fx f;
	bool more;

	fx_init(&f, 16 * MIB, 4 * MIB);
	c = fx_client(&f, 1, "t", 0);
	s = fx_open(c, &key);
	for (int i = 0; i < 2; i++) {
		h[0] = fx_page(&f, c, s, 0);
		h[1] = fx_page(&f, c, s, 1);
		b = fx_block(s, (uint32_t)i, 0);
		b.priority = i ? MEM_LOW : MEM_HIGH;
		b.pages[0] = h[0];
		b.pages[1] = h[1];
		assert_int_equal(mem_publish(c, s, &b, false, got, places), 0);
		fx_release(c, h[0]);
		fx_release(c, h[1]);
	}
	assert_int_equal(mem_reclaim(f.m, "t", 2 * PAGE, &g, &more), 0);
	assert_int_equal(g.pages, 2);
	assert_int_equal(fx_lookup(s, 0, 0, 0), 0);
	assert_int_equal(fx_lookup(s, 1, 0, 0), 0);
	assert_int_not_equal(fx_lookup(s, 1, 0, 1), 0);
	assert_int_equal(mem_reclaim(f.m, "t", 1, &g, &more), 0);
	assert_int_equal(fx_lookup(s, 1, 0, 1), 0);
	assert_int_not_equal(fx_lookup(s, 0, 0, 1), 0);
	fx_fini(&f);
}

/* A number that is given up and taken again has what it is given then. */
static void test_again(void **state)
{
	struct mem_client *c;
	struct mem_space *s;
	struct fx f;

	fx_init(&f, 16 * MIB, 4 * MIB);
	c = fx_client(&f, 1, "t", 0);
	s = fx_space(c, 1, small);
	cache(&f, c, s, 1, 0, 10, MEM_HIGH);
	reclaim(&f, "t", 10);
	cache(&f, c, s, 1, 0, 10, MEM_LOW);
	cache(&f, c, s, 2, 0, 10, MEM_NORMAL);
	reclaim(&f, "t", 10);
	assert_int_equal(found(s, 1), 0);
	assert_int_equal(found(s, 2), 10);
	fx_fini(&f);
}

/* After a restart all are normal. */
static void test_restart(void **state)
{
	struct mem_client *c;
	struct mem_space *s;
	struct fx f;

	fx_init(&f, 16 * MIB, 4 * MIB);
	c = fx_client(&f, 1, "t", 0);
	s = fx_space(c, 1, small);
	cache(&f, c, s, 1, 0, 10, MEM_HIGH);
	fx_restart(&f);
	if (fx_pages(&f, PAGE_CACHED)) {
		mem_grace_end(f.m, NULL);
		c = fx_client(&f, 1, "t", 0);
		s = fx_space(c, 1, small);
		cache(&f, c, s, 2, 0, 10, MEM_HIGH);
		reclaim(&f, "t", 10);
		assert_int_equal(found(s, 1), 0);
		assert_int_equal(found(s, 2), 10);
	}
	fx_fini(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_order),
		cmocka_unit_test(test_alloc),
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_raised),
		cmocka_unit_test(test_prefix),
		cmocka_unit_test(test_tenants),
		cmocka_unit_test(test_copies),
		cmocka_unit_test(test_again),
		cmocka_unit_test(test_restart),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
