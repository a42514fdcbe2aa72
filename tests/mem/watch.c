/* SPDX-License-Identifier: Apache-2.0 */
/*
 * watch.c - what is told of a space's blocks: each change once, in order, and
 * of that space alone.
 *
 * walk.c has a shadow of every space; here are those changes that are few.
 */
#include "tests/mem/shadow.h"

static const uint32_t small[] = { 4, 0 };
static struct fx f;

static void begin(void)
{
	fx_init(&f, 16 * MIB, 4 * MIB);
	f.changed = shadow_change;
}

static handle_t publish(struct mem_client *c, struct mem_space *s,
			uint32_t seq, uint32_t depth, uint32_t class)
{
	handle_t h = fx_page(&f, c, s, class);

	return fx_publish(c, s, seq, depth, class, h);
}

static void test_told(void **state)
{
	struct mem_client *c;
	struct mem_space *s, *other;
	struct shadow *sh;
	struct name name;
	handle_t h, again;
	struct mem_given given;
	bool more;

	begin();
	c = fx_client(&f, 1, "alice", 0);
	s = fx_space(c, 1, small);
	other = fx_space(c, 2, small);
	sh = shadow_new(s);
	h = publish(c, s, 7, 0, 0);
	assert_int_equal(sh->nr_stored, 1);
	name = fx_name(s, 7, 0);
	assert_non_null(shadow_find(sh, &name));
	assert_int_equal(shadow_find(sh, &name)->classes, 1);
	shadow_check(sh);
	/* The same again, by another: the first page stays, nothing changes. */
	again = publish(c, s, 7, 0, 0);
	assert_int_equal(again, h);
	assert_int_equal(sh->nr_stored, 1);
	publish(c, other, 7, 0, 0);
	assert_int_equal(sh->nr_stored, 1);
	/* Held, cached, woken: it is there. */
	fx_release(c, h);
	fx_release(c, h);
	assert_int_equal(sh->nr_removed, 0);
	assert_int_equal(mem_reclaim(f.m, NULL, UINT64_MAX, &given, &more), 0);
	assert_int_equal(sh->nr_removed, 1);
	assert_int_equal(sh->nr, 0);
	shadow_check(sh);
	/* Nobody is told any more. */
	shadow_free(sh);
	fx_release(c, publish(c, s, 8, 0, 0));
	fx_fini(&f);
}

/* An exact copy comes to its sealed page, and goes before it. */
static void test_classes(void **state)
{
	struct mem_space_key key = fx_kivi_key(1, small, 0);
	struct mem_given given;
	struct mem_client *c;
	struct mem_space *s;
	struct shadow *sh;
	struct name name;
	bool more;

	begin();
	c = fx_client(&f, 1, "alice", 0);
	s = fx_open(c, &key);
	sh = shadow_new(s);
	name = fx_name(s, 1, 0);
	fx_release(c, publish(c, s, 1, 0, 1));
	assert_int_equal(shadow_find(sh, &name)->classes, 2);
	fx_release(c, publish(c, s, 1, 0, 0));
	assert_int_equal(shadow_find(sh, &name)->classes, 3);
	shadow_check(sh);
	assert_int_equal(mem_reclaim(f.m, NULL, 1, &given, &more), 0);
	assert_int_equal(shadow_find(sh, &name)->classes, 2);
	assert_int_equal(sh->nr_stored, 3);
	assert_int_equal(sh->nr_removed, 0);
	assert_int_equal(mem_reclaim(f.m, NULL, 1, &given, &more), 0);
	assert_int_equal(sh->nr_removed, 1);
	shadow_check(sh);
	shadow_free(sh);
	fx_fini(&f);
}

/* A space that is recycled: its blocks go, then itself. */
static void test_gone(void **state)
{
	struct mem_client *c;
	struct mem_space *s;
	struct shadow *sh;
	uint32_t i;

	begin();
	c = fx_client(&f, 1, "alice", 0);
	s = fx_space(c, 1, small);
	fx_release(c, publish(c, s, 1, 0, 0));
	fx_release(c, publish(c, s, 1, 1, 0));
	sh = shadow_new(s);
	assert_int_equal(sh->nr, 2);
	mem_space_close(c, s);
	/* A quarter of 256 is what a tenant may have. */
	for (i = 0; i < 63; i++) {
		assert_false(sh->gone);
		fx_space(c, (uint8_t)(2 + i), small);
	}
	fx_space(c, (uint8_t)(2 + i), small);
	assert_true(sh->gone);
	assert_int_equal(sh->nr_removed, 2);
	assert_int_equal(sh->nr, 0);
	shadow_free(sh);
	fx_fini(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_told),
		cmocka_unit_test(test_classes),
		cmocka_unit_test(test_gone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
