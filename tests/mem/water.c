/* SPDX-License-Identifier: Apache-2.0 */
/*
 * water.c - room that is made before it is asked for: when it begins, when it
 * ends, and what it leaves alone.
 *
 * Pages are 64 KiB unless said: 32 in a granule, 64 in a segment of 4 MiB. Low
 * is 64 pages, high 128.
 */
#include "tests/mem/fixture.h"

#define PAGE (64u << 10)
#define TINY (16u << 10)
#define POOL (64 * MIB)
#define NR   1024u /* pages of the pool */
#define LOW  64u
#define HIGH 128u

static const uint32_t small[] = { 4, 0 };
static const uint32_t large[] = { 16, 0 };	/* 256 KiB */
static const uint32_t tiny[] = { 1, 0 };

static void set_up(struct fx *f, uint64_t pool, uint64_t low, uint64_t high)
{
	fx_init(f, pool, 4 * MIB);
	mem_free(f->m);
	fx_forget(f);
	f->cfg.marks.low = low;
	f->cfg.marks.high = high;
	assert_int_equal(fx_new(f), 0);
}

static struct mem_stat stat_of(struct fx *f)
{
	struct mem_stat st;

	mem_stat(f->m, &st);
	return st;
}

static uint64_t room(struct fx *f)
{
	return stat_of(f).room / PAGE;
}

static uint64_t reclaimed(struct fx *f, enum mem_reclaim why)
{
	struct mem_stat st = stat_of(f);
	uint64_t sum = 0;

	for (int i = 0; i < MEM_RECLAIM_NR; i++)
		sum += st.reclaimed[i];
	assert_int_equal(sum, st.evicted);
	return st.reclaimed[why];
}

/* Pages published and let go of, the first the coldest. */
static void cache(struct fx *f, struct mem_client *c, struct mem_space *s,
		  uint32_t seq, uint32_t nr)
{
	for (uint32_t i = 0; i < nr; i++) {
		handle_t h = fx_page(f, c, s, 0);

		assert_int_equal(fx_publish(c, s, seq + i, 0, 0, h), h);
		fx_release(c, h);
	}
}

static uint32_t in_index(struct mem_space *s, uint32_t seq, uint32_t nr)
{
	uint32_t found = 0;

	for (uint32_t i = 0; i < nr; i++)
		found += fx_lookup(s, seq + i, 0, 0) != 0;
	return found;
}

/* It begins below low, goes on to high, and begins not before low again. */
static void test_crossing(void **state)
{
	struct mem_client *c;
	struct mem_space *s;
	struct fx f;

	set_up(&f, POOL, LOW * PAGE, HIGH * PAGE);
	c = fx_client(&f, 1, "t", 0);
	s = fx_space(c, 1, small);
	assert_int_equal(room(&f), NR);
	assert_int_equal(stat_of(&f).marks.min, LOW * PAGE / 2);
	assert_int_equal(stat_of(&f).marks.low, LOW * PAGE);
	assert_int_equal(stat_of(&f).marks.high, HIGH * PAGE);
	cache(&f, c, s, 0, NR - LOW);
	assert_int_equal(room(&f), LOW);
	assert_int_equal(f.works, 0);
	assert_false(mem_trim(f.m));
	assert_int_equal(stat_of(&f).evicted, 0);

	cache(&f, c, s, NR, 1);
	assert_int_equal(room(&f), LOW - 1);
	assert_int_equal(f.works, 1);
	assert_int_equal(stat_of(&f).evicted, 0); /* not at once */
	assert_false(mem_trim(f.m));
	assert_int_equal(room(&f), HIGH);
	assert_int_equal(reclaimed(&f, MEM_RECLAIM_BACKGROUND),
			 HIGH - LOW + 1);
	/* The coldest, as for an allocation. */
	assert_int_equal(in_index(s, 0, HIGH - LOW + 1), 0);
	assert_int_equal(in_index(s, HIGH - LOW + 1, 10), 10);
	fx_verify(&f);

	/* What was made is used before more is. */
	cache(&f, c, s, 2 * NR, HIGH - LOW);
	assert_int_equal(room(&f), LOW);
	assert_int_equal(f.works, 1);
	assert_int_equal(stat_of(&f).evicted, HIGH - LOW + 1);
	cache(&f, c, s, 3 * NR, 1);
	assert_int_equal(f.works, 2);
	assert_int_equal(reclaimed(&f, MEM_RECLAIM_DIRECT), 0);
	fx_fini(&f);
}

/* Nobody allocates: what is full stays full. */
static void test_idle(void **state)
{
	struct mem_client *c;
	struct mem_space *s;
	struct fx f;
	handle_t h[NR];

	set_up(&f, POOL, LOW * PAGE, HIGH * PAGE);
	c = fx_client(&f, 1, "t", 0);
	s = fx_space(c, 1, small);
	assert_int_equal(fx_alloc(&f, c, s, 0, NR - 10, h), 0);
	/* All is held: it ends in vain, and is not tried again and again. */
	assert_int_equal(f.works, 1);
	assert_false(mem_trim(f.m));
	for (uint32_t i = 0; i < NR - 10; i++)
		fx_publish(c, s, i, 0, 0, h[i]);
	for (uint32_t i = 0; i < NR - 10; i++)
		fx_release(c, h[i]);
	mem_tick(f.m);
	assert_false(mem_trim(f.m));
	assert_int_equal(stat_of(&f).evicted, 0);
	assert_int_equal(room(&f), 10);
	assert_int_equal(f.works, 1);
	cache(&f, c, s, NR, 1);
	assert_int_equal(f.works, 2);
	assert_false(mem_trim(f.m));
	assert_int_equal(room(&f), HIGH);
	fx_fini(&f);
}

/* Faster than the background: below min an allocation pays for itself. */
static void test_min(void **state)
{
	struct mem_client *c;
	struct mem_space *s;
	struct fx f;

	set_up(&f, POOL, LOW * PAGE, HIGH * PAGE);
	c = fx_client(&f, 1, "t", 0);
	s = fx_space(c, 1, small);
	cache(&f, c, s, 0, NR - LOW / 2);
	assert_int_equal(room(&f), LOW / 2);
	assert_int_equal(stat_of(&f).evicted, 0);
	cache(&f, c, s, NR, 100);
	assert_int_equal(room(&f), LOW / 2);
	assert_int_equal(reclaimed(&f, MEM_RECLAIM_DIRECT), 100);
	assert_int_equal(reclaimed(&f, MEM_RECLAIM_BACKGROUND), 0);
	assert_int_equal(in_index(s, 0, 101), 1);
	assert_int_equal(f.works, 1); /* told once until it is done */
	/* Where nothing may go, what is below min is given all the same. */
	mem_client_free(c, MEM_END_DEAD);
	c = fx_client(&f, 1, "t", 0);
	s = fx_space(c, 1, small);
	for (uint32_t i = 0; i < NR; i++)
		fx_page(&f, c, s, 0);
	assert_int_equal(room(&f), 0);
	fx_fini(&f);
}

/* Of a tenant nothing that its min keeps, though it is for itself. */
static void test_tenant_min(void **state)
{
	struct mem_client *c;
	struct mem_space *s;
	struct fx f;

	set_up(&f, POOL, LOW * PAGE, HIGH * PAGE);
	c = fx_client(&f, 1, "t", 0);
	s = fx_space(c, 1, small);
	fx_limit(&f, "t", (NR - 100) * (uint64_t)PAGE, 0, 0);
	cache(&f, c, s, 0, NR - LOW + 1);
	assert_int_equal(f.works, 1);
	assert_false(mem_trim(f.m));
	assert_int_equal(room(&f), 100);
	assert_int_equal(reclaimed(&f, MEM_RECLAIM_BACKGROUND),
			 100 - LOW + 1);
	/* An allocation of its own may have it. */
	cache(&f, c, s, NR, 100);
	assert_true(room(&f) < LOW);
	fx_fini(&f);
}

/* One tenant's want costs another nothing. */
static void test_apart(void **state)
{
	struct mem_client *a, *b;
	struct mem_space *sa, *sb;
	struct fx f;

	set_up(&f, POOL, LOW * PAGE, HIGH * PAGE);
	b = fx_client(&f, 2, "bob", 0);
	sb = fx_space(b, 1, small);
	cache(&f, b, sb, 0, 64);
	a = fx_client(&f, 1, "alice", 0);
	sa = fx_space(a, 1, small);
	cache(&f, a, sa, 0, 2 * NR);
	while (mem_trim(f.m))
		;
	assert_true(reclaimed(&f, MEM_RECLAIM_DIRECT) > 0);
	assert_true(reclaimed(&f, MEM_RECLAIM_BACKGROUND) > 0);
	assert_int_equal(in_index(sb, 0, 64), 64);
	fx_fini(&f);
}

/* The other size's pages are older: its slabs make the room. */
static void test_sizes(void **state)
{
	struct mem_client *c;
	struct mem_space *s, *l;
	struct fx f;

	set_up(&f, POOL, LOW * PAGE, HIGH * PAGE);
	c = fx_client(&f, 1, "t", 0);
	l = fx_space(c, 2, large);
	s = fx_space(c, 1, small);
	cache(&f, c, l, 0, 64); /* 16 MiB, 256 of the small */
	cache(&f, c, s, 0, NR - 256 - LOW + 1);
	assert_int_equal(f.works, 1);
	assert_false(mem_trim(f.m));
	assert_true(room(&f) >= HIGH && room(&f) < HIGH + 32);
	assert_int_equal(in_index(s, 0, 10), 10);
	assert_true(in_index(l, 0, 64) < 64);
	fx_fini(&f);
}

static bool nobody_lives(pid_t pid, uint64_t start_time)
{
	return false;
}

/* Nothing goes while owners may come back. */
static void test_grace(void **state)
{
	struct mem_client *c;
	struct mem_space *s;
	struct fx f;

	set_up(&f, POOL, LOW * PAGE, HIGH * PAGE);
	if (!dev_ops(f.dev)->survives)
		skip();
	c = fx_client(&f, 1, "t", 0);
	s = fx_space(c, 1, small);
	cache(&f, c, s, 0, NR - 20);
	fx_restart(&f);
	f.works = 0;
	c = fx_client(&f, 2, "t", 0);
	s = fx_space(c, 1, small);
	cache(&f, c, s, NR, 10);
	assert_int_equal(f.works, 0);
	assert_false(mem_trim(f.m));
	assert_int_equal(stat_of(&f).evicted, 0);
	mem_grace_end(f.m, nobody_lives);
	cache(&f, c, s, 2 * NR, 1);
	while (mem_trim(f.m))
		;
	assert_int_equal(room(&f), HIGH);
	fx_fini(&f);
}

/* Numbers run out before bytes do. */
static void test_numbers(void **state)
{
	struct mem_client *c;
	struct mem_space *s;
	struct fx f;

	set_up(&f, POOL, LOW * PAGE, HIGH * PAGE);
	mem_free(f.m);
	fx_forget(&f);
	f.cfg.max_pages = 512; /* 32 of them are low, 64 high */
	assert_int_equal(fx_new(&f), 0);
	c = fx_client(&f, 1, "t", 0);
	s = fx_space(c, 1, tiny);
	cache(&f, c, s, 0, 480);
	assert_int_equal(f.works, 0);
	cache(&f, c, s, 480, 1);
	assert_int_equal(f.works, 1);
	assert_false(mem_trim(f.m));
	assert_int_equal(fx_pages(&f, PAGE_CACHED), 512 - 64);
	fx_fini(&f);
}

/* Much goes a step at a time. */
static void test_steps(void **state)
{
	struct mem_client *c;
	struct mem_space *s;
	uint64_t before;
	struct fx f;

	set_up(&f, POOL, 32 * MIB, 32 * MIB);
	c = fx_client(&f, 1, "t", 0);
	s = fx_space(c, 1, tiny);
	cache(&f, c, s, 0, 2000);
	assert_false(mem_trim(f.m));
	cache(&f, c, s, 2000, 49);
	assert_int_equal(f.works, 1);
	/* As if there had been a burst. */
	cache(&f, c, s, 4000, 1500);
	before = stat_of(&f).evicted;
	for (; mem_trim(f.m); before = stat_of(&f).evicted) {
		assert_in_range(stat_of(&f).evicted - before, 1, 256);
		fx_verify(&f);
	}
	assert_int_equal(f.works, 1);
	assert_int_equal(stat_of(&f).room, 32 * MIB);
	fx_fini(&f);
}

/* What an allocation has found stays its own while min is made up for. */
static void test_found(void **state)
{
	struct mem_client *c;
	struct mem_space *s;
	handle_t h[16];
	struct fx f;

	set_up(&f, 4 * MIB, 2 * MIB, 4 * MIB);
	c = fx_client(&f, 1, "t", 0);
	s = fx_space(c, 1, large);
	assert_int_equal(fx_alloc(&f, c, s, 0, 16, h), 0);
	fx_publish(c, s, 0, 0, 0, h[0]);
	for (uint32_t i = 0; i < 16; i++)
		fx_release(c, h[i]);
	/* The one cached page leaves its slab empty, beside another. */
	assert_int_equal(fx_alloc(&f, c, s, 0, 15, h), 0);
	assert_int_equal(reclaimed(&f, MEM_RECLAIM_DIRECT), 1);
	assert_int_equal(fx_pages(&f, PAGE_OPEN), 15);
	fx_fini(&f);
}

/* Marks that were chosen: of few pages none, of many no more than so many. */
static void test_bounds(void **state)
{
	struct mem_client *c;
	struct mem_space *s;
	struct fx f;

	set_up(&f, POOL, MIB, 2 * MIB);
	mem_free(f.m);
	fx_forget(&f);
	f.cfg.marks_bounded = true;
	assert_int_equal(fx_new(&f), 0);
	c = fx_client(&f, 1, "t", 0);
	s = fx_space(c, 2, large);
	cache(&f, c, s, 0, 256 - 1);
	assert_int_equal(stat_of(&f).marks.high, 0); /* 4 pages are low */
	assert_int_equal(f.works, 0);
	fx_space(c, 1, small);
	assert_int_equal(stat_of(&f).marks.low, MIB); /* 16 pages */
	mem_free(f.m);
	fx_forget(&f);
	f.cfg.pool_bytes = 1024 * MIB;
	f.cfg.marks.low = 64 * MIB;
	f.cfg.marks.high = 128 * MIB;
	assert_int_equal(fx_new(&f), 0);
	c = fx_client(&f, 1, "t", 0);
	fx_space(c, 1, tiny);
	assert_int_equal(stat_of(&f).marks.high, 4096 * TINY);
	assert_int_equal(stat_of(&f).marks.low, 2048 * TINY);
	fx_fini(&f);
}

static void test_bad(void **state)
{
	struct fx f;

	set_up(&f, POOL, 0, 0);
	mem_free(f.m);
	fx_forget(&f);
	f.cfg.marks.low = 2;
	f.cfg.marks.high = 1;
	assert_int_equal(fx_new(&f), -EINVAL);
	f.cfg.marks.high = POOL + 1ull;
	assert_int_equal(fx_new(&f), -EINVAL);
	f.cfg.marks.high = 2;
	assert_int_equal(fx_new(&f), 0);
	fx_fini(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_crossing),
		cmocka_unit_test(test_idle),
		cmocka_unit_test(test_min),
		cmocka_unit_test(test_tenant_min),
		cmocka_unit_test(test_apart),
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_grace),
		cmocka_unit_test(test_numbers),
		cmocka_unit_test(test_steps),
		cmocka_unit_test(test_found),
		cmocka_unit_test(test_bounds),
		cmocka_unit_test(test_bad),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
