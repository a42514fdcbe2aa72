/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shrink.c - pools that grow and shrink.
 *
 * Pages are 64 KiB: 64 in a segment of 4 MiB.
 */
#include "tests/mem/fixture.h"
#include "daemon/mem/elastic.h"

#define SEG (4ull * MIB)
#define NR  64u		/* pages of a segment */
#define PAGE_BYTES (64u << 10)

static const uint32_t shape[] = { 4, 0 };

struct told {
	struct mem_client *c;
	uint32_t segment;
};

static struct told told[16];
static int nr_told;

static void tell(struct mem_client *c, uint32_t segment)
{
	assert_true(nr_told < 16);
	told[nr_told++] = (struct told){ c, segment };
}

static void begin(struct fx *f, uint64_t bytes, uint64_t max,
		  struct mem_client **c, struct mem_space **s)
{
	nr_told = 0;
	fx_init_elastic(f, bytes, max, SEG);
	f->revoked = tell;
	*c = fx_client(f, 1, "t", 0);
	*s = fx_space(*c, 1, shape);
}

/* All that can be done without anybody else's doing. */
static void settle(struct fx *f)
{
	for (int i = 0; i < 60; i++) {
		mem_trim(f->m);
		fx_verify(f);
		dev_drain(f->dev);
	}
	fx_verify(f);
}

static struct mem_size size_of(struct fx *f)
{
	struct mem_size size;

	mem_size(f->m, &size);
	return size;
}

static void release(struct mem_client *c, const handle_t *h, uint32_t nr)
{
	uint32_t released;

	assert_int_equal(mem_release(c, h, nr, &released), 0);
}

/* The first @cached of @nr pages are named for @seq and cached, others free. */
static void cache(struct fx *f, struct mem_client *c, struct mem_space *s,
		  uint32_t seq, uint32_t nr, uint32_t cached, handle_t *h)
{
	assert_int_equal(fx_alloc(f, c, s, 0, nr, h), 0);
	for (uint32_t d = 0; d < cached; d++)
		assert_int_equal(fx_publish(c, s, seq, d, 0, h[d]), h[d]);
	release(c, h, nr);
}

static uint32_t in_index(struct mem_space *s, uint32_t seq, uint32_t nr)
{
	uint32_t found = 0;

	for (uint32_t d = 0; d < nr; d++)
		found += fx_lookup(s, seq, d, 0) != 0;
	return found;
}

/* Where a page is in this process. */
static uint32_t *page_memory(struct mem_client *c, struct mem_space *s,
			     handle_t h)
{
	const struct dev_segment *seg;
	place_t place;

	assert_int_equal(mem_match(c, s, &h, 1, &place), 1);
	assert_int_equal(mem_segment_get(s, place_segment(place), &seg), 0);
	release(c, &h, 1);
	return (uint32_t *)(uintptr_t)(seg->base + place_offset(place));
}

static void fill(uint32_t *at, uint32_t what)
{
	for (uint32_t i = 0; i < PAGE_BYTES / 4; i++)
		at[i] = what * 2654435761u + i;
}

static void check(const uint32_t *at, uint32_t what)
{
	for (uint32_t i = 0; i < PAGE_BYTES / 4; i++)
		assert_int_equal(at[i], what * 2654435761u + i);
}

/* ---- tests ---- */

static void test_sizes(void **state)
{
	struct mem_client *c;
	struct mem_space *s;
	struct fx f;
	handle_t h[3 * NR];

	begin(&f, SEG, 3 * SEG, &c, &s);
	assert_int_equal(fx_alloc(&f, c, s, 0, NR, h), 0);
	assert_int_equal(fx_alloc(&f, c, s, 0, 1, h + NR), -ENOSPC);
	assert_int_equal(mem_resize(f.m, 0), -EINVAL);
	assert_int_equal(mem_resize(f.m, 3 * SEG + DEV_GRANULE), -EINVAL);
	f.rooms = 0;
	assert_int_equal(mem_resize(f.m, 3 * SEG), 0);
	assert_int_equal(f.rooms, 1);
	assert_int_equal(fx_alloc(&f, c, s, 0, NR, h + NR), 0);
	assert_int_equal(fx_alloc(&f, c, s, 0, NR, h + 2 * NR), 0);
	assert_int_equal(size_of(&f).segments, 3 * SEG);
	fx_limit(&f, "t", 2 * SEG, 0, 0);
	assert_int_equal(mem_resize(f.m, SEG), -ERANGE);
	assert_int_equal(size_of(&f).bytes, 3 * SEG);
	fx_fini(&f);
}

/* What nobody can have mapped goes at once. */
static void test_empty(void **state)
{
	struct mem_client *c;
	struct mem_space *s;
	struct fx f;
	handle_t h[3 * NR];

	begin(&f, 3 * SEG, 3 * SEG, &c, &s);
	assert_int_equal(fx_alloc(&f, c, s, 0, 2 * NR, h), 0);
	assert_int_equal(fx_alloc(&f, c, s, 0, NR, h + 2 * NR), 0);
	release(c, h, 3 * NR - 1);
	assert_int_equal(mem_resize(f.m, SEG), 0);
	settle(&f);
	assert_int_equal(size_of(&f).segments, SEG);
	assert_int_equal(size_of(&f).draining, 0);
	/* The held page is where it was. */
	assert_int_equal(fx_pages(&f, PAGE_OPEN), 1);
	assert_int_equal(fx_alloc(&f, c, s, 0, NR, h), -ENOSPC);
	assert_int_equal(fx_alloc(&f, c, s, 0, NR - 1, h), 0);
	assert_int_equal(nr_told, 0);
	fx_fini(&f);
}

/* 2 segments: in one 32 pages are cached, in the other 16, and these move. */
static void make_two(struct fx *f, struct mem_client *c, struct mem_space *s,
		     handle_t *a, handle_t *b)
{
	assert_int_equal(fx_alloc(f, c, s, 0, NR, a), 0);
	cache(f, c, s, 2, NR, 16, b);
	for (uint32_t d = 0; d < 32; d++)
		fx_publish(c, s, 1, d, 0, a[d]);
	release(c, a, NR);
	for (uint32_t d = 0; d < 16; d++)
		fill(page_memory(c, s, b[d]), d);
	for (uint32_t d = 0; d < 32; d++)
		fill(page_memory(c, s, a[d]), 100 + d);
}

static void test_move(void **state)
{
	struct mem_client *c;
	struct mem_space *s;
	struct mem_stat st;
	struct fx f;
	handle_t a[NR], b[NR];

	begin(&f, 2 * SEG, 2 * SEG, &c, &s);
	make_two(&f, c, s, a, b);
	assert_int_equal(mem_resize(f.m, SEG), 0);
	settle(&f);
	assert_int_equal(size_of(&f).moved, 16);
	mem_stat(f.m, &st);
	assert_int_equal(st.evicted, 0);
	assert_int_equal(in_index(s, 1, 32) + in_index(s, 2, 16), 48);
	for (uint32_t d = 0; d < 16; d++) {
		handle_t h = fx_lookup(s, 2, d, 0);
		place_t place;

		assert_int_not_equal(h, b[d]);
		assert_int_equal(mem_match(c, s, &b[d], 1, &place), 0);
		check(page_memory(c, s, h), d);
	}
	for (uint32_t d = 0; d < 32; d++) {
		assert_int_equal(fx_lookup(s, 1, d, 0), a[d]);
		check(page_memory(c, s, a[d]), 100 + d);
	}
	/* It was handed out: it is its tenant's until that is over. */
	assert_int_equal(size_of(&f).segments, 2 * SEG);
	assert_int_equal(size_of(&f).revoked, SEG);
	assert_int_equal(st.bytes.of[PAGE_REVOKED], SEG);
	assert_int_equal(nr_told, 1);
	mem_unmapped(c, told[0].segment + 1);
	assert_int_equal(size_of(&f).revoked, SEG);
	mem_unmapped(c, told[0].segment);
	settle(&f);
	assert_int_equal(size_of(&f).segments, SEG);
	assert_int_equal(size_of(&f).revoked, 0);
	fx_fini(&f);
}

/* A page that somebody takes while it is being copied stays where it is. */
static void test_held(void **state)
{
	struct mem_client *c;
	struct mem_space *s;
	struct fx f;
	handle_t a[NR], b[NR];
	place_t place;

	begin(&f, 2 * SEG, 2 * SEG, &c, &s);
	make_two(&f, c, s, a, b);
	assert_int_equal(mem_resize(f.m, SEG), 0);
	mem_trim(f.m);
	fx_verify(&f);
	assert_int_equal(mem_match(c, s, &b[3], 1, &place), 1);
	settle(&f);
	assert_int_equal(fx_lookup(s, 2, 3, 0), b[3]);
	assert_int_equal(size_of(&f).moved, 15);
	assert_int_equal(size_of(&f).draining, SEG);
	assert_int_equal(nr_told, 0);
	check(page_memory(c, s, b[3]), 3);
	release(c, &b[3], 1);
	settle(&f);
	assert_int_equal(size_of(&f).moved, 16);
	assert_int_equal(nr_told, 1);
	check(page_memory(c, s, fx_lookup(s, 2, 3, 0)), 3);
	fx_fini(&f);
}

/* The pool is given its size back before the segment is empty. */
static void test_back(void **state)
{
	struct mem_client *c;
	struct mem_space *s;
	struct fx f;
	handle_t a[NR], b[NR], h[NR];
	place_t place;

	begin(&f, 2 * SEG, 2 * SEG, &c, &s);
	make_two(&f, c, s, a, b);
	assert_int_equal(mem_resize(f.m, SEG), 0);
	mem_trim(f.m);
	assert_int_equal(mem_match(c, s, &b[3], 1, &place), 1);
	settle(&f);
	assert_int_equal(size_of(&f).draining, SEG);
	assert_int_equal(fx_alloc(&f, c, s, 0, 18, h), 0);
	assert_int_equal(in_index(s, 1, 32) + in_index(s, 2, 16), 47);
	assert_int_equal(mem_resize(f.m, 2 * SEG), 0);
	settle(&f);
	assert_int_equal(size_of(&f).draining, 0);
	assert_int_equal(fx_alloc(&f, c, s, 0, 63 - 17, h + 18), 0);
	assert_int_equal(in_index(s, 1, 32) + in_index(s, 2, 16), 47);
	fx_fini(&f);
}

/* Of more than there is room for, the coldest goes. */
static void test_too_much(void **state)
{
	struct mem_client *c;
	struct mem_space *s;
	struct fx f;
	handle_t h[3 * NR];

	begin(&f, 3 * SEG, 3 * SEG, &c, &s);
	for (uint32_t i = 0; i < 3; i++)
		cache(&f, c, s, i, NR, NR, h + i * NR);
	for (uint32_t d = 0; d < 24; d++) /* hot, and in the first */
		page_memory(c, s, h[d]);
	assert_int_equal(mem_resize(f.m, SEG), 0);
	settle(&f);
	assert_int_equal(in_index(s, 0, 24), 24);
	assert_true(in_index(s, 0, NR) + in_index(s, 1, NR) +
		    in_index(s, 2, NR) >= NR - 8);
	assert_int_equal(nr_told, 1); /* of one that was handed out */
	mem_unmapped(c, told[0].segment);
	settle(&f);
	assert_int_equal(size_of(&f).segments, SEG);
	fx_fini(&f);
}

/* What is promised is not given up, and so the pool stays too large. */
static void test_min(void **state)
{
	struct mem_client *c, *o;
	struct mem_space *s, *os;
	struct fx f;
	handle_t h[NR], oh[NR];

	begin(&f, 2 * SEG, 2 * SEG, &c, &s);
	fx_limit(&f, "t", SEG, 0, 0);
	o = fx_client(&f, 2, "o", 0);
	os = fx_space(o, 1, shape);
	cache(&f, c, s, 1, NR, NR, h);
	assert_int_equal(fx_alloc(&f, o, os, 0, NR, oh), 0);
	assert_int_equal(mem_resize(f.m, SEG), 0);
	settle(&f);
	assert_int_equal(in_index(s, 1, NR), NR);
	assert_int_equal(size_of(&f).segments, 2 * SEG);
	assert_int_equal(size_of(&f).draining, SEG);
	release(o, oh, NR);
	settle(&f);
	assert_int_equal(in_index(s, 1, NR), NR);
	assert_int_equal(size_of(&f).segments, SEG);
	fx_fini(&f);
}

/* All that might have it mapped are waited for. */
static void test_importers(void **state)
{
	struct mem_client *c[4];
	struct mem_client_id id = { .pid = 4, .start_time = 1000, .series = 9 };
	uint8_t key[NAME_KEY_BYTES] = { 't' };
	struct mem_space *s;
	struct fx f;
	handle_t a[NR], b[NR];
	uint32_t segment;

	begin(&f, 2 * SEG, 2 * SEG, &c[0], &s);
	c[1] = fx_client(&f, 2, "t", 0);
	c[2] = fx_client(&f, 3, "t", 0);
	assert_int_equal(mem_client_new(f.m, &id, "t", key, &f, &c[3]), 0);
	for (int i = 1; i < 4; i++)
		fx_space(c[i], 1, shape);
	fx_client(&f, 5, "t", 0); /* has nothing open */
	make_two(&f, c[0], s, a, b);
	assert_int_equal(mem_resize(f.m, SEG), 0);
	settle(&f);
	assert_int_equal(nr_told, 4);
	segment = told[0].segment;
	mem_unmapped(c[0], segment);
	mem_unmapped(c[0], segment);
	mem_client_free(c[1], MEM_END_DEAD);
	mem_client_free(c[2], MEM_END_UNKNOWN);
	mem_client_free(c[3], MEM_END_UNKNOWN);
	/* It comes back and is asked again. */
	assert_int_equal(mem_client_new(f.m, &id, "t", key, &f, &c[3]), 0);
	settle(&f);
	assert_int_equal(nr_told, 4);
	fx_space(c[3], 1, shape);
	settle(&f);
	assert_int_equal(nr_told, 5);
	assert_ptr_equal(told[4].c, c[3]);
	mem_unmapped(c[3], segment);
	settle(&f);
	assert_int_equal(size_of(&f).revoked, SEG);
	mem_reap_writer(f.m, 3, 1000);
	settle(&f);
	assert_int_equal(size_of(&f).revoked, 0);
	assert_int_equal(size_of(&f).segments, SEG);
	fx_fini(&f);
}

/* Revoked bytes are in the charge: a limit that they fill is a limit. */
static void test_charge(void **state)
{
	struct mem_client *c;
	struct mem_space *s;
	struct mem_tenant_stat st;
	struct fx f;
	handle_t a[NR], b[NR], h[NR];

	begin(&f, 2 * SEG, 2 * SEG, &c, &s);
	make_two(&f, c, s, a, b);
	fx_limit(&f, "t", 0, 0, 2 * SEG - MIB);
	assert_int_equal(mem_resize(f.m, SEG), 0);
	settle(&f);
	mem_tenant_stat(f.m, "t", &st);
	assert_int_equal(st.bytes.of[PAGE_REVOKED], SEG);
	assert_int_equal(st.charged, SEG + 48 * PAGE_BYTES);
	assert_int_equal(fx_alloc(&f, c, s, 0, 56, h), -EDQUOT);
	f.rooms = 0;
	mem_unmapped(c, told[0].segment);
	dev_drain(f.dev);
	assert_true(f.rooms > 0);
	assert_int_equal(fx_alloc(&f, c, s, 0, 56, h), 0);
	fx_fini(&f);
}

/* A restart in the middle keeps what there was, and the size it takes. */
static void test_restart(void **state)
{
	struct mem_client *c;
	struct mem_space *s;
	struct fx f;
	handle_t a[NR], b[NR];

	begin(&f, SEG, 2 * SEG, &c, &s);
	assert_int_equal(mem_resize(f.m, 2 * SEG), 0);
	make_two(&f, c, s, a, b);
	assert_int_equal(mem_resize(f.m, SEG), 0);
	mem_trim(f.m); /* pages are on their way */
	fx_restart(&f);
	assert_int_equal(size_of(&f).bytes, 2 * SEG);
	assert_int_equal(mem_resize(f.m, SEG), -EAGAIN);
	mem_grace_end(f.m, NULL);
	c = fx_client(&f, 1, "t", 0);
	s = fx_space(c, 1, shape);
	assert_int_equal(in_index(s, 1, 32) + in_index(s, 2, 16), 48);
	assert_int_equal(fx_pages(&f, PAGE_CACHED), 48);
	for (uint32_t d = 0; d < 16; d++)
		check(page_memory(c, s, fx_lookup(s, 2, d, 0)), d);
	fx_fini(&f);
}

/* One that may grow does so before anything cached is given up. */
static void test_on_demand(void **state)
{
	struct mem_client *c;
	struct mem_space *s;
	struct fx f;
	handle_t h[3 * NR];

	begin(&f, SEG, 3 * SEG, &c, &s);
	mem_free(f.m);
	fx_forget(&f);
	f.cfg.on_demand = true;
	f.cfg.marks = (struct mem_marks){ .low = MIB, .high = 2 * MIB };
	assert_int_equal(fx_new(&f), 0);
	c = fx_client(&f, 1, "t", 0);
	s = fx_space(c, 1, shape);
	for (uint32_t i = 0; i < 2; i++) {
		cache(&f, c, s, i, NR, NR, h + i * NR);
		settle(&f);
	}
	assert_int_equal(in_index(s, 0, NR), NR);
	cache(&f, c, s, 2, NR, NR - 1, h);
	assert_int_equal(size_of(&f).bytes, 3 * SEG);
	cache(&f, c, s, 3, NR, NR, h);
	assert_int_equal(in_index(s, 0, NR), 0);
	assert_int_equal(size_of(&f).bytes, 3 * SEG);
	assert_int_equal(size_of(&f).taken, 4 * NR);
	fx_fini(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_empty),
		cmocka_unit_test(test_move),
		cmocka_unit_test(test_held),
		cmocka_unit_test(test_back),
		cmocka_unit_test(test_too_much),
		cmocka_unit_test(test_min),
		cmocka_unit_test(test_importers),
		cmocka_unit_test(test_charge),
		cmocka_unit_test(test_restart),
		cmocka_unit_test(test_on_demand),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
