/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reclaim.c - full pools, limits, and what is given up first.
 *
 * Pages are 64 KiB unless said: 32 in a granule, 64 in a segment of 4 MiB.
 */
#include "tests/mem/fixture.h"
#include "daemon/dev/device.h"

static const uint32_t small[] = { 4, 0 };	 /* 64 KiB */
static const uint32_t large[] = { 16, 0 };	 /* 256 KiB */

/* Publishes a chain of @nr pages and lets go of it in one release. */
static void cache_chain(struct fx *f, struct mem_client *c,
			struct mem_space *s, uint32_t seq, uint32_t nr,
			handle_t *h)
{
	uint32_t released;

	assert_int_equal(fx_alloc(f, c, s, 0, nr, h), 0);
	for (uint32_t d = 0; d < nr; d++)
		assert_int_equal(fx_publish(c, s, seq, d, 0, h[d]), h[d]);
	assert_int_equal(mem_release(c, h, nr, &released), 0);
}

static uint32_t in_index(struct mem_space *s, uint32_t seq, uint32_t nr)
{
	uint32_t found = 0;

	for (uint32_t d = 0; d < nr; d++)
		found += fx_lookup(s, seq, d, 0) != 0;
	return found;
}

static void test_full_pool(void **state)
{
	struct mem_client *c;
	struct mem_space *s;
	struct fx f;
	handle_t h[129];
	place_t p[129];
	uint64_t need = 0;

	fx_init(&f, 8 * MIB, 4 * MIB);
	c = fx_client(&f, 1, "t", 0);
	s = fx_space(c, 1, small);
	assert_int_equal(fx_alloc(&f, c, s, 0, 129, h), -EINVAL);
	assert_int_equal(fx_pages(&f, PAGE_OPEN), 0);
	assert_int_equal(fx_alloc(&f, c, s, 0, 128, h), 0);
	assert_int_equal(mem_alloc(c, s, 0, 3, h, p, &need), -ENOSPC);
	assert_int_equal(need, 3 * 64 * 1024);
	fx_verify(&f);
	f.rooms = 0;
	fx_release(c, h[5]);
	assert_int_equal(f.rooms, 1);
	fx_release(c, h[6]);
	assert_int_equal(f.rooms, 1); /* nobody was refused since */
	assert_int_equal(mem_alloc(c, s, 0, 3, h, p, &need), -ENOSPC);
	assert_int_equal(need, 64 * 1024);
	assert_int_equal(mem_alloc(c, s, 0, 2, h, p, &need), 0);
	fx_fini(&f);
}

/* The coldest chain goes first, and of a chain the end before the start. */
static void test_order(void **state)
{
	struct mem_client *c;
	struct mem_space *s;
	struct mem_stat st;
	struct fx f;
	handle_t a[32], b[32], h[64];
	place_t p[32];
	uint32_t released;

	fx_init(&f, 4 * MIB, 4 * MIB);
	c = fx_client(&f, 1, "t", 0);
	s = fx_space(c, 1, small);
	cache_chain(&f, c, s, 1, 32, a);
	cache_chain(&f, c, s, 2, 32, b);
	/* A match makes the first half of chain 1 hot again. */
	assert_int_equal(mem_match(c, s, a, 16, p), 16);
	assert_int_equal(mem_release(c, a, 16, &released), 0);

	assert_int_equal(fx_alloc(&f, c, s, 0, 10, h), 0);
	assert_int_equal(in_index(s, 1, 32), 22);
	assert_int_equal(fx_lookup(s, 1, 21, 0), a[21]);
	assert_int_equal(fx_lookup(s, 1, 22, 0), 0);
	assert_int_equal(in_index(s, 2, 32), 32);
	assert_int_equal(fx_alloc(&f, c, s, 0, 36, h + 10), 0);
	assert_int_equal(in_index(s, 1, 32), 16);
	assert_int_equal(in_index(s, 2, 32), 2);
	assert_int_equal(fx_lookup(s, 2, 1, 0), b[1]);
	fx_verify(&f);
	assert_int_equal(fx_alloc(&f, c, s, 0, 18, h + 46), 0);
	assert_int_equal(in_index(s, 1, 32), 0);
	mem_stat(f.m, &st);
	assert_int_equal(st.evicted, 64);
	fx_fini(&f);
}

/* Releasing a chain back to front makes the same order. */
static void test_order_of_release(void **state)
{
	struct mem_client *c;
	struct mem_space *s;
	struct fx f;
	handle_t h[64], back[64];
	uint32_t released;

	fx_init(&f, 4 * MIB, 4 * MIB);
	c = fx_client(&f, 1, "t", 0);
	s = fx_space(c, 1, small);
	assert_int_equal(fx_alloc(&f, c, s, 0, 64, h), 0);
	for (uint32_t d = 0; d < 64; d++)
		fx_publish(c, s, 1, d, 0, h[d]);
	for (uint32_t d = 0; d < 64; d++)
		back[d] = h[63 - d];
	assert_int_equal(mem_release(c, back, 64, &released), 0);
	assert_int_equal(fx_alloc(&f, c, s, 0, 60, h), 0);
	for (uint32_t d = 0; d < 4; d++)
		assert_int_equal(fx_lookup(s, 1, d, 0), back[63 - d]);
	fx_fini(&f);
}

/* An allocation that cannot be had does not cost what is cached. */
static void test_in_vain(void **state)
{
	struct mem_client *c;
	struct mem_space *s;
	struct fx f;
	handle_t held[32], cached[32], h[40];

	fx_init(&f, 4 * MIB, 4 * MIB);
	c = fx_client(&f, 1, "t", 0);
	s = fx_space(c, 1, small);
	assert_int_equal(fx_alloc(&f, c, s, 0, 32, held), 0);
	cache_chain(&f, c, s, 1, 32, cached);
	assert_int_equal(fx_alloc(&f, c, s, 0, 33, h), -ENOSPC);
	assert_int_equal(in_index(s, 1, 32), 32);
	fx_fini(&f);
}

static void test_quota(void **state)
{
	struct mem_client *c, *d;
	struct mem_space *s;
	struct fx f;
	handle_t h[16], cached[4];
	place_t p[16];
	uint64_t need;

	fx_init(&f, 16 * MIB, 4 * MIB);
	c = fx_client(&f, 1, "t", 8 * 64 * 1024);
	s = fx_space(c, 1, small);
	assert_int_equal(fx_alloc(&f, c, s, 0, 9, h), -EINVAL);
	cache_chain(&f, c, s, 1, 4, cached);
	assert_int_equal(fx_alloc(&f, c, s, 0, 5, h), 0);
	/* At the limit: its own cached page went, the coldest. */
	assert_int_equal(in_index(s, 1, 4), 3);
	assert_int_equal(fx_lookup(s, 1, 3, 0), 0);
	assert_int_equal(mem_alloc(c, s, 0, 4, h + 5, p, &need), -EDQUOT);
	assert_int_equal(need, 64 * 1024);
	assert_int_equal(in_index(s, 1, 4), 3);
	fx_verify(&f);
	/* A second client of the tenant pays from the same purse. */
	d = fx_client(&f, 2, "t", 8 * 64 * 1024);
	fx_space(d, 1, small);
	assert_int_equal(f.recalls, 0);
	assert_int_equal(fx_alloc(&f, d, s, 0, 4, h + 5), -EDQUOT);
	assert_ptr_equal(f.recalled, c);
	assert_int_equal(f.recalls, 1);
	assert_int_equal(fx_alloc(&f, d, s, 0, 3, h + 5), 0);
	f.rooms = 0;
	mem_client_free(c, MEM_END_DEAD);
	assert_int_equal(f.rooms, 1);
	assert_int_equal(fx_alloc(&f, d, s, 0, 6, h), -EDQUOT);
	mem_client_free(d, MEM_END_DEAD);
	assert_int_equal(f.rooms, 2);
	fx_fini(&f);
}

/* A page of every size pins a slab each, but not the pool. */
static void test_quota_of_segments(void **state)
{
	struct mem_client *c;
	struct mem_stat st;
	struct fx f;
	handle_t h;

	fx_init(&f, 64 * MIB, 4 * MIB);
	c = fx_client(&f, 1, "t", 6 * MIB);
	for (uint32_t i = 0; i < 10; i++) {
		const uint32_t layers[] = { i + 1, 0 };
		struct mem_space *s = fx_space(c, 1, layers);
		int r = fx_alloc(&f, c, s, 0, 1, &h);

		assert_int_equal(r, i < 6 ? 0 : -ENOSPC);
	}
	mem_stat(f.m, &st);
	assert_int_equal(st.segments, 3);
	fx_fini(&f);
}

/* Slabs of one size make room for another, the colder class first. */
static void test_other_size(void **state)
{
	struct mem_client *c;
	struct mem_space *s, *l;
	struct fx f;
	handle_t cached[64], h[16], warm[8];

	fx_init(&f, 4 * MIB, 4 * MIB);
	c = fx_client(&f, 1, "t", 0);
	s = fx_space(c, 1, small);
	l = fx_space(c, 2, large);
	cache_chain(&f, c, s, 1, 64, cached);
	assert_int_equal(fx_alloc(&f, c, l, 0, 1, h), 0);
	assert_int_equal(in_index(s, 1, 64), 32);
	fx_release(c, h[0]);
	cache_chain(&f, c, l, 1, 8, warm);
	fx_verify(&f);
	/* The small ones are older: their other slab goes before the warm. */
	assert_int_equal(fx_alloc(&f, c, l, 0, 4, h), 0);
	assert_int_equal(in_index(s, 1, 64), 0);
	assert_int_equal(in_index(l, 1, 8), 8);
	assert_int_equal(fx_alloc(&f, c, l, 0, 5, h + 4), 0);
	assert_int_equal(in_index(l, 1, 8), 7);
	fx_fini(&f);
}

/* A held page pins its slab, not its neighbours of the same size. */
static void test_pinned(void **state)
{
	struct mem_client *c;
	struct mem_space *s, *l;
	struct fx f;
	handle_t cached[64], h;
	place_t p;

	fx_init(&f, 4 * MIB, 4 * MIB);
	c = fx_client(&f, 1, "t", 0);
	s = fx_space(c, 1, small);
	l = fx_space(c, 2, large);
	cache_chain(&f, c, s, 1, 64, cached);
	assert_int_equal(mem_match(c, s, &cached[0], 1, &p), 1);
	assert_int_equal(mem_match(c, s, &cached[63], 1, &p), 1);
	assert_int_equal(fx_alloc(&f, c, l, 0, 1, &h), -ENOSPC);
	assert_int_equal(fx_pages(&f, PAGE_CACHED), 62);
	/* The coldest is given up for its equal, in the second slab. */
	assert_int_equal(fx_alloc(&f, c, s, 0, 1, &h), 0);
	assert_int_equal(fx_lookup(s, 1, 62, 0), 0);
	fx_release(c, h);
	fx_release(c, cached[63]);
	assert_int_equal(fx_alloc(&f, c, l, 0, 1, &h), 0);
	assert_int_equal(in_index(s, 1, 64), 32);
	fx_fini(&f);
}

/* A tenant whose processes are gone gives its segments up. */
static void other_tenant(enum mem_end end)
{
	const struct dev_segment *seg;
	struct mem_client *a, *b;
	struct mem_space *sa, *sb;
	struct fx f;
	handle_t cached[128], h[64];
	place_t p;
	uint32_t nr;

	fx_init(&f, 8 * MIB, 4 * MIB);
	a = fx_client(&f, 1, "alice", 0);
	sa = fx_space(a, 1, small);
	cache_chain(&f, a, sa, 1, 128, cached);
	assert_int_equal(mem_match(a, sa, cached, 1, &p), 1);
	assert_int_equal(mem_segment_get(sa, place_segment(p), &seg), 0);
	assert_int_equal(mem_match(a, sa, cached + 127, 1, &p), 1);
	assert_int_equal(mem_segment_get(sa, place_segment(p), &seg), 0);
	assert_int_equal(mem_release(a, (handle_t[]){ cached[0], cached[127] },
				     2, &nr), 0);
	b = fx_client(&f, 2, "bob", 0);
	sb = fx_space(b, 1, small);
	/* Alice may have them mapped, and so may her dying process. */
	assert_int_equal(fx_alloc(&f, b, sb, 0, 1, h), -ENOSPC);
	mem_space_close(a, sa);
	mem_client_free(a, end);
	assert_int_equal(fx_alloc(&f, b, sb, 0, 1, h), -ENOSPC);
	assert_int_equal(fx_pages(&f, PAGE_CACHED), 128);
	f.rooms = 0;
	mem_reap_writer(f.m, 1, 1000);
	assert_int_equal(f.rooms, 1);
	assert_int_equal(fx_alloc(&f, b, sb, 0, 1, h), 0);
	assert_int_equal(fx_pages(&f, PAGE_CACHED), 64);
	fx_verify(&f);
	assert_int_equal(fx_alloc(&f, b, sb, 0, 64, h), 0);
	assert_int_equal(fx_pages(&f, PAGE_CACHED), 0);
	fx_fini(&f);
}

/* A bye does not unmap anything. */
static void test_other_tenant(void **state)
{
	other_tenant(MEM_END_UNKNOWN);
	other_tenant(MEM_END_BYE);
}

/* What waits in other clients' stock is asked for, once. */
static void test_recall(void **state)
{
	struct mem_client *a, *b;
	struct mem_space *s;
	struct fx f;
	handle_t h[64], x;
	place_t p;
	uint64_t need;

	fx_init(&f, 4 * MIB, 4 * MIB);
	a = fx_client(&f, 1, "t", 0);
	b = fx_client(&f, 2, "t", 0);
	s = fx_space(a, 1, small);
	fx_space(b, 1, small);
	assert_int_equal(fx_alloc(&f, a, s, 0, 64, h), 0);
	assert_int_equal(mem_alloc(b, s, 0, 1, &x, &p, &need), -EAGAIN);
	assert_int_equal(f.recalls, 1);
	assert_ptr_equal(f.recalled, a);
	assert_int_equal(mem_alloc(b, s, 0, 1, &x, &p, &need), -ENOSPC);
	assert_int_equal(f.recalls, 1);
	f.rooms = 0;
	fx_release(a, h[0]);
	assert_int_equal(f.rooms, 1);
	assert_int_equal(mem_alloc(b, s, 0, 1, &x, &p, &need), 0);
	assert_int_equal(mem_alloc(b, s, 0, 1, &x, &p, &need), -EAGAIN);
	assert_int_equal(f.recalls, 2);
	/* Nobody else has any: asking oneself is no use. */
	assert_int_equal(mem_alloc(a, s, 0, 1, &x, &p, &need), -EAGAIN);
	assert_ptr_equal(f.recalled, b);
	mem_client_free(b, MEM_END_DEAD);
	assert_int_equal(mem_alloc(a, s, 0, 2, &x, &p, &need), -ENOSPC);
	fx_fini(&f);
}

/* Page numbers run out before bytes do. */
static void test_numbers(void **state)
{
	static const uint32_t tiny[] = { 1, 0 };
	struct mem_client *c;
	struct mem_space *s;
	struct fx f;
	handle_t h[64], more[16];

	fx_init(&f, 8 * MIB, 4 * MIB);
	mem_free(f.m);
	fx_forget(&f);
	f.cfg.max_pages = 64;
	assert_int_equal(fx_new(&f), 0);
	c = fx_client(&f, 1, "t", 0);
	s = fx_space(c, 1, tiny);
	assert_int_equal(fx_alloc(&f, c, s, 0, 60, h), 0);
	cache_chain(&f, c, s, 1, 4, h + 60);
	assert_int_equal(fx_alloc(&f, c, s, 0, 5, more), -ENOSPC);
	assert_int_equal(in_index(s, 1, 4), 4);
	assert_int_equal(fx_alloc(&f, c, s, 0, 3, more), 0);
	assert_int_equal(in_index(s, 1, 4), 1);
	fx_fini(&f);
}

/* They are all tenants': what another has cached goes, and none has all. */
static void test_numbers_shared(void **state)
{
	static const uint32_t tiny[] = { 1, 0 };
	struct mem_client *a, *b;
	struct mem_space *sa, *sb;
	struct fx f;
	handle_t h[64], more[40];

	fx_init(&f, 16 * MIB, 4 * MIB);
	mem_free(f.m);
	fx_forget(&f);
	f.cfg.max_pages = 64;
	assert_int_equal(fx_new(&f), 0);
	a = fx_client(&f, 1, "alice", 0);
	sa = fx_space(a, 1, tiny);
	cache_chain(&f, a, sa, 1, 64, h);
	b = fx_client(&f, 2, "bob", 4 * MIB);
	sb = fx_space(b, 1, tiny);
	assert_int_equal(fx_alloc(&f, b, sb, 0, 16, more), 0);
	assert_int_equal(in_index(sa, 1, 64), 48);
	assert_int_equal(fx_alloc(&f, b, sb, 0, 1, more), -EDQUOT);
	cache_chain(&f, a, sa, 2, 48, h);
	fx_release(b, more[0]);
	cache_chain(&f, b, sb, 1, 1, more);
	assert_int_equal(fx_alloc(&f, b, sb, 0, 1, more), 0);
	assert_int_equal(in_index(sb, 1, 1), 0);
	assert_int_equal(in_index(sa, 2, 48), 48);
	/* What another tenant's client has in stock is asked for. */
	assert_int_equal(fx_alloc(&f, a, sa, 0, 49, h), -EAGAIN);
	assert_int_equal(f.recalls, 1);
	assert_ptr_equal(f.recalled, b);
	assert_int_equal(fx_alloc(&f, a, sa, 0, 49, h), -ENOSPC);
	fx_fini(&f);
}

/* One empty slab stays cut, so that a page may come and go cheaply. */
static void test_spare_slab(void **state)
{
	struct mem_client *c;
	struct mem_space *s;
	struct mem_stat st;
	struct fx f;
	handle_t h[128];
	uint32_t released;

	fx_init(&f, 8 * MIB, 4 * MIB);
	c = fx_client(&f, 1, "t", 0);
	s = fx_space(c, 1, small);
	assert_int_equal(fx_alloc(&f, c, s, 0, 120, h), 0);
	assert_int_equal(mem_release(c, h, 120, &released), 0);
	mem_stat(f.m, &st);
	assert_int_equal(st.pages.of[PAGE_FREE], 32);
	assert_int_equal(st.pages.total, 32);
	assert_int_equal(st.segments, 2);
	/* Slabs cut in vain are joined again. */
	fx_page(&f, c, s, 0);
	assert_int_equal(fx_alloc(&f, c, s, 0, 128, h), -ENOSPC);
	mem_stat(f.m, &st);
	assert_int_equal(st.pages.total, 64);
	fx_fini(&f);
}

/* ---- a device that runs out ---- */

struct poor {
	struct dev_ops ops;
	const struct dev_ops *real;
	int left;
};

static struct poor poor;

static int poor_new(struct dev *d, uint64_t bytes, struct dev_segment *ret)
{
	return poor.left-- > 0 ? poor.real->segment_new(d, bytes, ret) :
				 -ENOMEM;
}

static void test_no_memory(void **state)
{
	struct mem_client *c, *d;
	struct mem_space *s;
	struct fx f;
	handle_t h[65];

	fx_init(&f, 64 * MIB, 4 * MIB);
	poor.real = f.dev->ops;
	poor.ops = *poor.real;
	poor.ops.segment_new = poor_new;
	poor.left = 1;
	f.dev->ops = &poor.ops;
	c = fx_client(&f, 1, "t", 0);
	d = fx_client(&f, 2, "t", 0);
	s = fx_space(c, 1, small);
	assert_int_equal(fx_alloc(&f, c, s, 0, 65, h), -ENOSPC);
	assert_int_equal(fx_alloc(&f, c, s, 0, 64, h), 0);
	/* Tried again when something has changed, or a while later. */
	poor.left = 1;
	assert_int_equal(fx_alloc(&f, c, s, 0, 1, h), -ENOSPC);
	mem_client_free(d, MEM_END_DEAD);
	assert_int_equal(fx_alloc(&f, c, s, 0, 64, h), 0);
	assert_int_equal(fx_alloc(&f, c, s, 0, 1, h), -ENOSPC);
	poor.left = 1;
	assert_int_equal(fx_alloc(&f, c, s, 0, 1, h), -ENOSPC);
	f.rooms = 0;
	mem_tick(f.m);
	mem_tick(f.m);
	assert_int_equal(f.rooms, 1);
	assert_int_equal(fx_alloc(&f, c, s, 0, 1, h), 0);
	f.dev->ops = poor.real;
	fx_fini(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_full_pool),
		cmocka_unit_test(test_order),
		cmocka_unit_test(test_order_of_release),
		cmocka_unit_test(test_in_vain),
		cmocka_unit_test(test_quota),
		cmocka_unit_test(test_quota_of_segments),
		cmocka_unit_test(test_other_size),
		cmocka_unit_test(test_pinned),
		cmocka_unit_test(test_other_tenant),
		cmocka_unit_test(test_recall),
		cmocka_unit_test(test_numbers),
		cmocka_unit_test(test_numbers_shared),
		cmocka_unit_test(test_spare_slab),
		cmocka_unit_test(test_no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
