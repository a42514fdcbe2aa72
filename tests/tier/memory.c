/* SPDX-License-Identifier: Apache-2.0 */
/*
 * memory.c - the tier in memory: what it has, what goes first, its bound.
 */
#include "tests/tier/fixture.h"

static uint64_t spilled[64];
static unsigned nr_spilled;

static void on_spill(void *ctx, const struct tier_key *key,
		     struct tier_page *page, const struct tier_use *use)
{
	assert_true(nr_spilled < 64);
	memcpy(&spilled[nr_spilled++], tier_page_head(page),
	       sizeof(spilled[0]));
}

static struct tier *memory(unsigned pages)
{
	struct tier *t = tier_memory_new((uint64_t)pages * COST, on_spill,
					 NULL);

	assert_non_null(t);
	nr_spilled = 0;
	return t;
}

static void test_put_get(void **state)
{
	struct tier *t = memory(4);

	assert_false(got(t, 1));
	put(t, 1);
	put(t, 2);
	assert_true(got(t, 1));
	assert_true(got(t, 2));
	put(t, 2); /* replaced */
	assert_int_equal(stat_of(t).entries, 2);
	assert_int_equal(stat_of(t).bytes, 2 * COST);
	tier_free(t);
}

/* Wherever they are: in order, had again by the pool, followed, of a policy. */
static void test_forget(void **state)
{
	struct tier *t = memory(16);
	struct tier_use after = { .parent = key_of(4) };

	assert_int_equal(forget(t, 1, 2), 0);
	for (uint64_t i = 0; i < 9; i++)
		put(t, i);
	put_used(t, 10, &after);
	put_used(t, 11, &after);
	assert_true(got(t, 1));
	assert_int_equal(forget(t, 1, 2), 4); /* 1, 4, 7, 10 */
	for (uint64_t i = 0; i < 12; i++)
		assert_int_equal(how_many(t, i, i + 1),
				 i % ORIGINS != 1 && i != 9);
	assert_int_equal(stat_of(t).entries, 7);
	assert_int_equal(stat_of(t).bytes, 7 * COST);
	assert_int_equal(forget(t, 1, 2), 0);
	put(t, 4);
	assert_true(got(t, 4));
	for (uint64_t i = 0; i < ORIGINS; i++)
		forget(t, i, 100);
	assert_int_equal(stat_of(t).bytes, 0);
	assert_int_equal(nr_spilled, 0);
	tier_free(t);
}

static void test_bound(void **state)
{
	struct tier *t = memory(4);

	for (uint64_t i = 0; i < 10; i++)
		put(t, i);
	assert_int_equal(how_many(t, 0, 6), 0);
	assert_int_equal(how_many(t, 6, 10), 4);
	assert_int_equal(stat_of(t).bytes, 4 * COST);
	assert_int_equal(nr_spilled, 6);
	for (uint64_t i = 0; i < 6; i++)
		assert_int_equal(spilled[i], i);
	tier_free(t);
	assert_int_equal(nr_spilled, 6); /* at its end nothing is */
}

static void test_too_large(void **state)
{
	struct tier *t = tier_memory_new(COST - 1, on_spill, NULL);

	put(t, 1);
	assert_int_equal(how_many(t, 1, 2), 0);
	assert_int_equal(stat_of(t).refused, 1);
	tier_free(t);
}

/* What the pool has again goes before all others, and to no other tier. */
static void test_twice(void **state)
{
	struct tier *t = memory(4);
	struct tier_use use = { .value = NULL };
	struct tier_key key = key_of(3);

	for (uint64_t i = 0; i < 4; i++)
		put(t, i);
	assert_true(got(t, 3));
	put(t, 4);
	assert_int_equal(how_many(t, 3, 4), 0);
	assert_int_equal(how_many(t, 0, 3), 3);
	assert_int_equal(nr_spilled, 0);
	/* Given up again, it is as new. */
	assert_false(t->ops->renew(t, &key, &use));
	assert_true(got(t, 0));
	key = key_of(0);
	assert_true(t->ops->renew(t, &key, &use));
	put(t, 5);
	assert_int_equal(how_many(t, 0, 1), 1);
	assert_int_equal(how_many(t, 1, 2), 0);
	tier_free(t);
}

/* A kind more is worth as much as half the age. */
static double worth_of(const struct spans_worth *w, uint32_t kind, uint64_t age)
{
	return (double)(1u << kind) / (double)(age + 1);
}

static struct tier_value *value_new(void)
{
	struct tier_value *v = malloc(sizeof(*v));

	assert_non_null(v);
	*v = (struct tier_value){ .worth.of = worth_of, .step = 1, .refs = 1 };
	return v;
}

static void put_at(struct tier *t, struct tier_value *v, uint64_t nr,
		   uint32_t kind, uint64_t at, uint64_t now)
{
	struct tier_use use = { .value = v, .kind = kind, .at = at, .now = now };

	put_used(t, nr, &use);
}

/* What is worth least goes, whatever came first, and however many policies
 * there are. */
static void test_worth(void **state)
{
	struct tier_value *v = value_new(), *other = value_new();
	struct tier *t = memory(6);

	for (uint64_t i = 0; i < 6; i++)
		put_at(t, v, i, i == 2 ? 0 : 3, 90, 100);
	put_at(t, v, 6, 3, 90, 100);
	assert_int_equal(nr_spilled, 1);
	assert_int_equal(spilled[0], 2);
	put_at(t, other, 7, 1, 90, 101);
	put_at(t, v, 8, 3, 90, 102);
	assert_int_equal(spilled[2], 7);
	put_at(t, v, 9, 2, 99, 103); /* what it makes room for goes by itself */
	assert_int_equal(how_many(t, 9, 10), 1);
	assert_int_equal(how_many(t, 0, 9), 5);
	/* Who ordered them may be gone before they are. */
	tier_value_put(other);
	put_at(t, v, 10, 3, 104, 104);
	tier_value_put(v);
	tier_free(t);
}

/* What nobody adds to any more ages all the same; of whom nobody learns any
 * more goes first. */
static void left(bool gone)
{
	struct tier_value *v = value_new(), *other = value_new();
	struct tier *t = memory(4);
	uint32_t kind = gone ? 3 : 0;

	put_at(t, v, 0, kind, 10, 10);
	put_at(t, v, 1, kind, 10, 10);
	if (gone)
		tier_value_put(v);
	for (uint64_t i = 2; i < 7; i++)
		put_at(t, other, i, 0, 1000 * i, 1000 * i);
	assert_int_equal(how_many(t, 0, 2), 0);
	assert_int_equal(how_many(t, 3, 7), 4);
	tier_free(t);
	if (!gone)
		tier_value_put(v);
	tier_value_put(other);
}

static void test_left(void **state)
{
	left(false);
	left(true);
}

/* Without number @parent it is of no use. */
static void put_behind(struct tier *t, struct tier_value *v, uint64_t nr,
		       uint64_t parent, uint32_t kind)
{
	struct tier_use use = { .value = v, .kind = kind, .at = 1, .now = 2,
				.parent = key_of(parent) };

	put_used(t, nr, &use);
}

/* What others follow goes after them, whatever it is worth and whichever came
 * first; then it goes as what it is worth. */
static void follow(struct tier_value *v)
{
	struct tier *t = memory(4);

	put_behind(t, v, 1, 0, 1); /* 0 comes later */
	put_behind(t, v, 2, 1, 2);
	put_behind(t, v, 0, 99, 0);
	put_behind(t, v, 50, 98, 3);
	for (uint64_t i = 51; i < 54; i++)
		put_behind(t, v, i, 98, 3);
	assert_int_equal(nr_spilled, 3);
	assert_int_equal(spilled[0], 2);
	assert_int_equal(spilled[1], 1);
	assert_int_equal(spilled[2], 0);
	/* All follow each other: one goes all the same. */
	put_behind(t, v, 60, 61, 3);
	put_behind(t, v, 61, 60, 3);
	for (uint64_t i = 62; i < 66; i++)
		put_behind(t, v, i, 98, 3);
	assert_int_equal(stat_of(t).entries, 4);
	tier_free(t);
}

static void test_followed(void **state)
{
	struct tier_value *v = value_new();

	follow(v);
	assert_int_equal(v->refs, 1);
	follow(NULL);
	tier_value_put(v);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_put_get),
		cmocka_unit_test(test_forget),
		cmocka_unit_test(test_bound),
		cmocka_unit_test(test_too_large),
		cmocka_unit_test(test_twice),
		cmocka_unit_test(test_worth),
		cmocka_unit_test(test_left),
		cmocka_unit_test(test_followed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
