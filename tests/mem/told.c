/* SPDX-License-Identifier: Apache-2.0 */
/*
 * told.c - who waits for pages is told of those that others' calls have left.
 *
 * Page numbers run out. What bob has cached his min keeps from alice, who
 * waits; where a call of his own gives up more of it than he takes, she is told.
 * Pages are 64 KiB: 32 in a granule, 64 in a segment of 4 MiB.
 */
#include "tests/mem/fixture.h"

#define PAGE (64u << 10)
#define WANTED 8u

static const uint32_t small[] = { 4, 0 };
static const uint32_t tiny[] = { 1, 0 };

static struct mem_client *alice, *bob;
static struct mem_space *hers, *his;
static handle_t wanted[WANTED];

static int ask(void)
{
	place_t places[WANTED];
	uint64_t need;

	return mem_alloc(alice, hers, 0, WANTED, wanted, places, &need);
}

/* At once, or as soon as there is time for what is said to be to do. */
static bool told(struct fx *f)
{
	while (f->works && mem_trim(f->m))
		;
	return f->rooms;
}

/* Of @nr pages that bob has 32 are cached, and one number is left. */
static void setup(struct fx *f, uint32_t nr)
{
	handle_t h[64];

	fx_init(f, 8 * MIB, 4 * MIB);
	mem_free(f->m);
	fx_forget(f);
	f->cfg.max_pages = 33 + nr + 1;
	f->cfg.max_spaces = 4; /* one for each tenant */
	assert_int_equal(fx_new(f), 0);
	bob = fx_client(f, 1, "bob", 0);
	fx_limit(f, "bob", 4 * MIB, 0, 0);
	his = fx_space(bob, 1, small);
	alice = fx_client(f, 2, "alice", 0);
	hers = fx_space(alice, 1, small);
	assert_int_equal(fx_alloc(f, alice, hers, 0, 33, h), 0);
	assert_int_equal(fx_alloc(f, bob, his, 0, nr, h), 0);
	for (uint32_t i = 0; i < 32; i++) {
		assert_int_equal(fx_publish(bob, his, i, 0, 0, h[i]), h[i]);
		fx_release(bob, h[i]);
	}
	while (ask() == -EAGAIN || mem_trim(f->m)) /* bob is asked for his stock */
		;
	assert_int_equal(ask(), -ENOSPC);
	f->rooms = f->works = 0;
}

static void teardown(struct fx *f)
{
	assert_int_equal(ask(), 0);
	fx_fini(f);
}

/* Room for one page of another size is a slab of his. */
static void test_alloc(void **state)
{
	struct mem_space *other;
	struct fx f;

	setup(&f, 64);
	mem_space_limit(f.m, 2);
	other = fx_space(bob, 2, tiny);
	assert_false(told(&f));
	fx_page(&f, bob, other, 0);
	assert_int_equal(fx_pages(&f, PAGE_CACHED), 0);
	assert_true(told(&f));
	teardown(&f);
}

/* The record of a space is needed for another: its pages go. */
static void test_space(void **state)
{
	struct fx f;

	setup(&f, 32);
	mem_space_close(bob, his);
	assert_false(told(&f));
	fx_space(bob, 2, small);
	assert_int_equal(fx_pages(&f, PAGE_CACHED), 0);
	assert_true(told(&f));
	teardown(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_alloc),
		cmocka_unit_test(test_space),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
