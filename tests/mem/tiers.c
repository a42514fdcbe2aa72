/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tiers.c - what is about to go is saved, and what was saved is had again.
 *
 * Pages are 64 KiB, 64 in a pool of one segment; the bytes of each say of which
 * block it is.
 */
#include "tests/mem/fixture.h"
#include "daemon/mem/elastic.h"
#include "daemon/mem/page.h"
#include "daemon/mem/tiers.h"
#include "daemon/tier/tiers.h"

#include <stdio.h>
#include <unistd.h>

#define PAGE (64u << 10)
#define COST (PAGE + TIER_ALIGN) /* of head and page */

static const uint32_t small[] = { 4, 0 };	 /* 64 KiB */
static const uint32_t two[] = { 4, 2, 0 };	 /* 64 KiB, 32 KiB windowed */

#define DEMOTED 150u
#define SMALL   1u /* the class of what is demoted */

struct tx {
	struct fx f;
	struct tiers *tiers;
	struct mem_client *c;
	struct mem_space *s;
	bool told;
	uint32_t nr;		/* by mem_fetch() */
};

static void on_say(void *ctx, enum tier_news news, const char *what)
{
}

static void on_wake(void *ctx)
{
}

static void tx_tiers(struct tx *t, uint64_t memory, const char *file)
{
	static const struct tier_say say = { .say = on_say };
	struct tiers_config cfg = { .memory_bytes = memory,
				    .file = file,
				    .file_bytes = 64 * MIB };

	assert_int_equal(tiers_new(&cfg, &say, on_wake, NULL, &t->tiers), 0);
	tiers_flush(t->tiers);
	mem_set_tiers(t->f.m, t->tiers);
}

static void tx_init(struct tx *t, uint64_t memory, const uint32_t *layers)
{
	memset(t, 0, sizeof(*t));
	fx_init(&t->f, 4 * MIB, 4 * MIB);
	tx_tiers(t, memory, NULL);
	t->c = fx_client(&t->f, 1, "t", 0);
	t->s = fx_space(t->c, 1, layers);
}

static void tx_fini(struct tx *t)
{
	mem_set_tiers(t->f.m, NULL);
	tiers_free(t->tiers);
	fx_fini(&t->f);
}

/* Until there is nothing more to be done. */
static void settle(struct tx *t)
{
	int idle = 0;

	/* From a file to a pool it is three turns. */
	while (idle < 4) {
		idle = mem_trim(t->f.m) ? 0 : idle + 1;
		dev_drain(t->f.dev);
		tiers_flush(t->tiers);
	}
}

static uint8_t *bytes_of(const struct tx *t, handle_t h)
{
	const struct dev_segment *seg;
	place_t place;

	assert_int_equal(mem_match(t->c, t->s, &h, 1, &place), 1);
	assert_int_equal(mem_segment_get(t->s, place_segment(place), &seg), 0);
	fx_release(t->c, h);
	return (uint8_t *)(uintptr_t)seg->base + place_offset(place);
}

static uint8_t value(uint32_t seq, uint32_t depth, uint32_t i)
{
	return (uint8_t)(seq * 37 + depth * 11 + i * 3 + (i >> 9));
}

static void fill(uint8_t *b, uint32_t seq, uint32_t depth, uint32_t bytes)
{
	for (uint32_t i = 0; i < bytes; i++)
		b[i] = value(seq, depth, i);
}

static bool is_filled(const uint8_t *b, uint32_t seq, uint32_t depth,
		      uint32_t bytes)
{
	for (uint32_t i = 0; i < bytes; i++)
		if (b[i] != value(seq, depth, i))
			return false;
	return true;
}

/* One block of @seq, held by nobody. */
static void store(struct tx *t, uint32_t seq, uint32_t depth, uint32_t class)
{
	uint32_t bytes = mem_space_class(t->s, class)->page_bytes;
	handle_t h = fx_page(&t->f, t->c, t->s, class);

	assert_int_equal(fx_publish(t->c, t->s, seq, depth, class, h), h);
	fill(bytes_of(t, h), seq, depth, bytes);
	fx_release(t->c, h);
	settle(t);
}

static void store_many(struct tx *t, uint32_t seq, uint32_t nr)
{
	for (uint32_t d = 0; d < nr; d++)
		store(t, seq, d, 0);
}

static void swap(struct mem_space **a, struct mem_space **b)
{
	struct mem_space *was = *a;

	*a = *b;
	*b = was;
}

static void on_fetched(void *ctx, uint32_t nr)
{
	struct tx *t = ctx;

	assert_false(t->told);
	t->told = true;
	t->nr = nr;
}

/* Return: how many of @nr blocks the tiers say that they have. */
static uint32_t begin(struct tx *t, uint32_t seq, uint32_t from, uint32_t nr,
		      struct mem_fetch **f)
{
	struct name names[64];

	for (uint32_t i = 0; i < nr; i++)
		names[i] = fx_name(t->s, seq, from + i);
	t->told = false;
	nr = mem_fetch(t->s, from, names, nr, f);
	if (nr)
		mem_fetch_wait(*f, on_fetched, t);
	return nr;
}

/* Return: how many came. */
static uint32_t fetch(struct tx *t, uint32_t seq, uint32_t from, uint32_t nr)
{
	struct mem_fetch *f;
	uint32_t may = begin(t, seq, from, nr, &f);

	if (!may)
		return 0;
	assert_false(t->told); /* later */
	settle(t);
	assert_true(t->told);
	assert_true(t->nr <= may);
	return t->nr;
}

static struct mem_tiers_stat stat_of(const struct tx *t)
{
	struct mem_tiers_stat st;

	mem_tiers_stat(t->f.m, &st);
	return st;
}

/*
 * Pages of int8 that are demoted, then given up: the tier has them as they were
 * then, and as such they come back.
 */
static void test_demoted(void **state)
{
	static const uint32_t layers[] = { 15, 0 };
	struct mem_space_key key = fx_key(1, layers);
	uint8_t was[DEMOTED][64], *b;
	bool known[DEMOTED] = { false };
	struct mem_fetch *f;
	uint32_t nr = 0;
	handle_t h;
	struct tx t;

	memset(&t, 0, sizeof(t));
	fx_init(&t.f, 8 * MIB, 4 * MIB);
	tx_tiers(&t, 64 * MIB, NULL);
	t.c = fx_client(&t.f, 1, "t", 0);
	key.geometry.k_format = key.geometry.v_format = KVD_INT8;
	key.geometry.demote_k = key.geometry.demote_v = KVD_INT4;
	t.s = fx_open(t.c, &key);
	for (uint32_t d = 0; d < DEMOTED; d++) {
		h = fx_page(&t.f, t.c, t.s, 0);
		assert_int_equal(fx_publish(t.c, t.s, 1, d, 0, h), h);
		b = bytes_of(&t, h);
		for (uint32_t i = 0; i < mem_space_class(t.s, 0)->page_bytes; i++)
			b[i] = (uint8_t)((d + i * 7) % 60); /* finite as f16 */
		fx_release(t.c, h);
		settle(&t);
		for (uint32_t i = 0; i < d; i++) {
			h = known[i] ? 0 : fx_lookup(t.s, 1, i, SMALL);
			if (h)
				memcpy(was[i], bytes_of(&t, h), 64);
			known[i] |= h != 0;
		}
	}
	while (!fx_lookup(t.s, 1, nr, 0) && !fx_lookup(t.s, 1, nr, SMALL))
		nr++;
	assert_true(nr > 40);
	assert_int_equal(stat_of(&t).lost, 0);
	assert_int_equal(begin(&t, 1, nr, 1, &f), 0); /* the pool has it */
	assert_int_equal(fetch(&t, 1, nr - 20, 20), 20);
	for (uint32_t d = nr - 20; d < nr; d++) {
		h = fx_lookup(t.s, 1, d, SMALL);
		assert_true(known[d] && h);
		assert_int_equal(fx_lookup(t.s, 1, d, 0), 0);
		assert_memory_equal(bytes_of(&t, h), was[d], 64);
	}
	/* Before there was room for any, what went was as it was written. */
	assert_int_equal(fetch(&t, 1, 0, 5), 5);
	assert_true(fx_lookup(t.s, 1, 4, 0));
	settle(&t);
	fx_verify(&t.f);
	tx_fini(&t);
}

/* Three pools' worth of pages: none is lost, all are had again, as they were. */
static void test_save_fetch(void **state)
{
	struct tx t;

	tx_init(&t, 256 * COST, small);
	for (uint32_t seq = 1; seq <= 3; seq++)
		store_many(&t, seq, 60);
	assert_int_equal(stat_of(&t).lost, 0);
	assert_true(stat_of(&t).saved >= 180 - 64);
	assert_int_equal(fx_lookup(t.s, 1, 0, 0), 0);
	assert_int_equal(fetch(&t, 1, 0, 20), 20);
	fx_verify(&t.f);
	for (uint32_t d = 0; d < 20; d++) {
		handle_t h = fx_lookup(t.s, 1, d, 0);

		assert_true(h);
		assert_true(is_filled(bytes_of(&t, h), 1, d, PAGE));
	}
	assert_int_equal(fx_pages(&t.f, PAGE_CACHED), 64);
	assert_int_equal(stat_of(&t).fetched, 20);
	/* What they were fetched for is free again: a hold and its end. */
	assert_int_equal(fx_pages(&t.f, PAGE_SEALED), 0);
	tx_fini(&t);
}

/* What a tier is asked for was used by nobody yet. */
static void test_awaited(void **state)
{
	handle_t h;
	place_t place;
	struct tx t;

	tx_init(&t, 256 * COST, small);
	for (uint32_t seq = 1; seq <= 3; seq++)
		store_many(&t, seq, 60);
	assert_int_equal(fetch(&t, 1, 0, 20), 20);
	for (uint32_t d = 0; d < 20; d++) {
		h = fx_lookup(t.s, 1, d, 0);
		assert_int_equal(page_get(t.f.m, h)->uses, 1); /* store() */
		assert_true(page_get(t.f.m, h)->awaited);
		assert_int_equal(mem_match(t.c, t.s, &h, 1, &place), 1);
		assert_int_equal(page_get(t.f.m, h)->uses, 2);
		assert_false(page_get(t.f.m, h)->awaited);
		fx_release(t.c, h);
	}
	fx_verify(&t.f);
	tx_fini(&t);
}

/* A pool is made smaller: what there is no room for any more is not lost. */
static void test_shrink(void **state)
{
	struct mem_size size;
	struct tx t;

	memset(&t, 0, sizeof(t));
	fx_init(&t.f, 8 * MIB, 4 * MIB);
	tx_tiers(&t, 256 * COST, NULL);
	t.c = fx_client(&t.f, 1, "t", 0);
	t.s = fx_space(t.c, 1, small);
	store_many(&t, 1, 60);
	store_many(&t, 2, 60);
	assert_int_equal(fx_pages(&t.f, PAGE_CACHED), 120);
	assert_int_equal(mem_resize(t.f.m, 4 * MIB), 0);
	for (int i = 0; i < 60; i++) {
		settle(&t);
		fx_verify(&t.f);
	}
	mem_size(t.f.m, &size);
	assert_int_equal(size.draining - size.revoked, 0);
	assert_true(size.moved > 0);
	assert_true(fx_pages(&t.f, PAGE_CACHED) <= 64);
	assert_int_equal(stat_of(&t).lost, 0);
	for (uint32_t seq = 1; seq <= 2; seq++) {
		assert_true(fetch(&t, seq, 0, 60) > 0 ||
			    fx_lookup(t.s, seq, 59, 0));
		for (uint32_t d = 0; d < 60; d++) {
			handle_t h = fx_lookup(t.s, seq, d, 0);

			assert_true(h);
			assert_true(is_filled(bytes_of(&t, h), seq, d, PAGE));
		}
	}
	tx_fini(&t);
}

/* What goes again is not copied again. */
static void test_renewed(void **state)
{
	struct mem_tiers_stat was;
	struct tx t;

	tx_init(&t, 256 * COST, small);
	store_many(&t, 1, 60);
	store_many(&t, 2, 60);
	was = stat_of(&t);
	assert_int_equal(fetch(&t, 1, 0, 16), 16);
	store_many(&t, 3, 60);
	assert_int_equal(stat_of(&t).lost, 0);
	assert_true(stat_of(&t).renewed - was.renewed >= 16);
	assert_int_equal(fetch(&t, 1, 0, 60), 60);
	tx_fini(&t);
}

/* A tier that has only part of it. */
static void test_part(void **state)
{
	struct tier_stat st;
	struct tx t;

	tx_init(&t, 40 * COST, small);
	store_many(&t, 1, 60);
	store_many(&t, 2, 60);
	assert_true(tiers_stat(t.tiers, 0, &st));
	assert_true(st.bytes <= 40 * COST && st.bytes > 38 * COST);
	assert_int_equal(fetch(&t, 1, 0, 0 + 5), 0); /* its beginning went first */
	assert_int_equal(fetch(&t, 9, 0, 5), 0);
	tx_fini(&t);
}

/* No tier, or nothing in it. */
static void test_none(void **state)
{
	struct mem_fetch *f;
	struct tx t;

	tx_init(&t, 40 * COST, small);
	mem_set_tiers(t.f.m, NULL);
	store_many(&t, 1, 60);
	store_many(&t, 2, 60);
	assert_int_equal(begin(&t, 1, 0, 5, &f), 0);
	assert_int_equal(stat_of(&t).saved, 0);
	mem_set_tiers(t.f.m, t.tiers);
	assert_int_equal(begin(&t, 1, 0, 5, &f), 0);
	tx_fini(&t);
}

/* A tier that is of no use: nothing is copied for it. */
static void test_no_use(void **state)
{
	struct tx t;

	memset(&t, 0, sizeof(t));
	fx_init(&t.f, 4 * MIB, 4 * MIB);
	tx_tiers(&t, 0, "/proc/kvd-tier");
	t.c = fx_client(&t.f, 1, "t", 0);
	t.s = fx_space(t.c, 1, small);
	store_many(&t, 1, 60);
	store_many(&t, 2, 60);
	assert_int_equal(stat_of(&t).saved, 0);
	assert_true(stat_of(&t).lost >= 56);
	assert_int_equal(fetch(&t, 1, 0, 5), 0);
	tx_fini(&t);
}

/* All of the pool is held: what is fetched has no room, and waits for none. */
static void test_no_room(void **state)
{
	struct mem_fetch *f;
	handle_t h[64];
	struct tx t;
	int i;

	tx_init(&t, 256 * COST, small);
	store_many(&t, 1, 60);
	store_many(&t, 2, 60);
	for (i = 0; i < 64; i++) {
		h[i] = fx_page(&t.f, t.c, t.s, 0);
		settle(&t);
	}
	assert_int_equal(begin(&t, 1, 0, 20, &f), 20);
	settle(&t);
	assert_true(t.told);
	assert_int_equal(t.nr, 0);
	assert_true(stat_of(&t).missed > 0);
	fx_verify(&t.f);
	fx_release(t.c, h[0]);
	fx_release(t.c, h[1]);
	assert_int_equal(fetch(&t, 1, 0, 20), 2);
	fx_verify(&t.f);
	tx_fini(&t);
}

/* Somebody publishes them meanwhile: his stay. */
static void test_race(void **state)
{
	struct mem_fetch *f;
	handle_t h[5];
	struct tx t;

	tx_init(&t, 256 * COST, small);
	store_many(&t, 1, 60);
	store_many(&t, 2, 60);
	for (uint32_t d = 0; d < 5; d++)
		h[d] = fx_page(&t.f, t.c, t.s, 0);
	assert_int_equal(begin(&t, 1, 0, 5, &f), 5);
	for (uint32_t d = 0; d < 5; d++) {
		assert_int_equal(fx_publish(t.c, t.s, 1, d, 0, h[d]), h[d]);
	}
	settle(&t);
	assert_true(t.told);
	assert_int_equal(t.nr, 5);
	fx_verify(&t.f);
	for (uint32_t d = 0; d < 5; d++) {
		assert_int_equal(fx_lookup(t.s, 1, d, 0), h[d]);
		fx_release(t.c, h[d]);
	}
	tx_fini(&t);
}

static void test_cancel(void **state)
{
	struct mem_fetch *f;
	struct tx t;

	tx_init(&t, 256 * COST, small);
	store_many(&t, 1, 60);
	store_many(&t, 2, 60);
	assert_int_equal(begin(&t, 1, 0, 50, &f), 50);
	mem_fetch_cancel(f);
	settle(&t);
	assert_false(t.told);
	fx_verify(&t.f);
	assert_int_equal(fx_pages(&t.f, PAGE_OPEN), 0);
	/* And with the tiers going in the middle of it. */
	assert_int_equal(begin(&t, 1, 0, 50, &f), 50);
	mem_set_tiers(t.f.m, NULL);
	assert_false(t.told);
	fx_verify(&t.f);
	assert_int_equal(fx_pages(&t.f, PAGE_OPEN), 0);
	tx_fini(&t);
}

/* Return: pages of tiers. */
static uint64_t drop(struct tx *t)
{
	struct mem_cursor at = { 0 };
	uint64_t pages = 0;
	struct mem_given g;

	do {
		assert_int_equal(mem_drop(t->s, &at, &g), 0);
		assert_true(g.tier_pages <= 256);
		assert_int_equal(g.tier_bytes, g.tier_pages * PAGE);
		pages += g.tier_pages;
		if (!g.pages && !g.tier_pages)
			settle(t); /* what was on its way */
	} while (at.block);
	fx_verify(&t->f);
	return pages;
}

/* Of a space, of which something is on its way too; another's stays. */
static void test_drop(void **state)
{
	struct tier_stat before, after;
	struct mem_space *other;
	struct mem_fetch *f;
	struct tx t;

	tx_init(&t, 1024 * COST, small);
	other = fx_space(t.c, 2, small);
	for (uint32_t i = 0; i < 2; i++) {
		for (uint32_t seq = 1; seq < 7; seq++)
			store_many(&t, seq, 60);
		if (i == 0)
			assert_true(tiers_stat(t.tiers, 0, &before));
		swap(&t.s, &other);
	}
	assert_int_equal(begin(&t, 1, 0, 50, &f), 50);
	assert_true(drop(&t) >= before.entries);
	settle(&t);
	assert_true(t.told);
	assert_int_equal(t.nr, 0);
	assert_int_equal(fetch(&t, 1, 0, 20), 0);
	assert_int_equal(fetch(&t, 6, 40, 20), 0);
	assert_int_equal(drop(&t), 0);
	assert_true(tiers_stat(t.tiers, 0, &after));
	assert_true(after.entries >= before.entries);
	swap(&t.s, &other);
	assert_int_equal(fetch(&t, 1, 0, 20), 20);
	assert_true(is_filled(bytes_of(&t, fx_lookup(t.s, 1, 19, 0)), 1, 19,
			      PAGE));
	tx_fini(&t);
}

/*
 * Pages of more than one chunk, six in a pool. Of what is asked for some are
 * there still: they are not what goes for the others.
 */
static void test_large(void **state)
{
	struct mem_space *s;
	struct tx t;

	memset(&t, 0, sizeof(t));
	fx_init(&t.f, 16 * MIB, 16 * MIB);
	tx_tiers(&t, 64 * MIB, NULL);
	t.c = fx_client(&t.f, 1, "t", 0);
	t.s = s = fx_space(t.c, 1, (const uint32_t[]){ 160, 0 }); /* 2.5 MiB */
	assert_int_equal(mem_space_class(s, 0)->page_bytes, 160 * 16 << 10);
	store_many(&t, 1, 4);
	store_many(&t, 2, 4);
	assert_int_equal(stat_of(&t).lost, 0);
	assert_int_equal(fetch(&t, 1, 0, 4), 4);
	for (uint32_t d = 0; d < 4; d++)
		assert_true(is_filled(bytes_of(&t, fx_lookup(s, 1, d, 0)), 1,
				      d, 160 * 16 << 10));
	tx_fini(&t);
}

/* Two groups of two sizes, which take slabs from each other: some are lost. */
static void test_groups(void **state)
{
	uint32_t nr;
	struct tx t;

	tx_init(&t, 256 * COST, two);
	for (uint32_t seq = 1; seq <= 4; seq++)
		for (uint32_t d = 0; d < 20; d++) {
			store(&t, seq, d, 0);
			store(&t, seq, d, 1);
		}
	assert_int_equal(fx_lookup(t.s, 1, 0, 0), 0);
	assert_int_equal(fx_lookup(t.s, 1, 0, 1), 0);
	nr = fetch(&t, 1, 0, 20);
	assert_true(nr >= 1);
	fx_verify(&t.f);
	for (uint32_t d = 0; d < nr; d++)
		for (uint32_t g = 0; g < 2; g++) {
			handle_t h = fx_lookup(t.s, 1, d, g);

			assert_true(h || g);
			assert_true(!h || is_filled(bytes_of(&t, h), 1, d,
				mem_space_class(t.s, g)->page_bytes));
		}
	tx_fini(&t);
}

/* Another tenant, another model: nothing is found, though names are equal. */
static void test_apart(void **state)
{
	struct mem_client *other;
	struct mem_fetch *f;
	struct name name;
	struct tx t;

	tx_init(&t, 256 * COST, small);
	store_many(&t, 1, 60);
	store_many(&t, 2, 60);
	name = fx_name(t.s, 1, 0);
	other = fx_client(&t.f, 2, "u", 0);
	assert_int_equal(mem_fetch(fx_space(other, 1, small), 0, &name, 1, &f),
			 0);
	assert_int_equal(mem_fetch(fx_space(t.c, 2, small), 0, &name, 1, &f),
			 0);
	assert_int_equal(mem_fetch(t.s, 1, &name, 1, &f), 1);
	mem_fetch_wait(f, on_fetched, &t);
	settle(&t); /* not of that depth */
	assert_int_equal(t.nr, 0);
	assert_int_equal(fetch(&t, 1, 0, 1), 1);
	tx_fini(&t);
}

/* A file outlives pool and tiers; with no segment made yet it waits for one. */
static void test_restart(void **state)
{
	char dir[64] = "/tmp/kvd-mem-tiers-XXXXXX", path[80];
	struct tx t;

	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/tier", dir);
	memset(&t, 0, sizeof(t));
	for (int again = 0; again < 2; again++) {
		fx_init(&t.f, 4 * MIB, 4 * MIB);
		tx_tiers(&t, again ? 0 : 8 * COST, path);
		t.c = fx_client(&t.f, 1, "t", 0);
		t.s = fx_space(t.c, 1, small);
		if (again) {
			assert_int_equal(fetch(&t, 1, 0, 30), 30);
			assert_true(is_filled(bytes_of(&t, fx_lookup(
					      t.s, 1, 29, 0)), 1, 29, PAGE));
		} else {
			store_many(&t, 1, 60);
			store_many(&t, 2, 60);
			assert_int_equal(stat_of(&t).lost, 0);
		}
		tx_fini(&t);
	}
	unlink(path);
	rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_save_fetch),
		cmocka_unit_test(test_demoted),
		cmocka_unit_test(test_awaited),
		cmocka_unit_test(test_shrink),
		cmocka_unit_test(test_renewed),
		cmocka_unit_test(test_part),
		cmocka_unit_test(test_none),
		cmocka_unit_test(test_no_use),
		cmocka_unit_test(test_no_room),
		cmocka_unit_test(test_race),
		cmocka_unit_test(test_cancel),
		cmocka_unit_test(test_drop),
		cmocka_unit_test(test_large),
		cmocka_unit_test(test_groups),
		cmocka_unit_test(test_apart),
		cmocka_unit_test(test_restart),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
