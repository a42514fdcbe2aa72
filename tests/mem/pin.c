/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pin.c - pins: what they keep, from whom, for how long, and how much.
 *
 * Pages are 64 KiB unless said: 32 in a granule, 64 in a segment of 4 MiB.
 */
#include "tests/mem/fixture.h"

#define PAGE (64u << 10)
#define HOUR 3600000ull

static const uint32_t small[] = { 4, 0 };

/* Sequence @seq of @nr blocks, published and let go of. */
static void cache(struct fx *f, struct mem_client *c, struct mem_space *s,
		  uint32_t seq, uint32_t nr)
{
	handle_t h[256];
	uint32_t released;

	assert_int_equal(fx_alloc(f, c, s, 0, nr, h), 0);
	for (uint32_t d = 0; d < nr; d++)
		h[d] = fx_publish(c, s, seq, d, 0, h[d]);
	assert_int_equal(mem_release(c, h, nr, &released), 0);
}

/* Pages of @seq that can still be found from its beginning. */
static uint32_t found(const struct mem_space *s, uint32_t seq)
{
	uint32_t d = 0;

	while (fx_lookup(s, seq, d, 0))
		d++;
	return d;
}

static uint32_t block_of(const struct mem_space *s, uint32_t seq,
			 uint32_t depth)
{
	struct name name = fx_name(s, seq, depth);

	return mem_pin_find(s, &name);
}

static int pin(const struct mem_space *s, uint32_t seq, uint32_t depth,
	       uint64_t now, uint64_t ttl)
{
	struct mem_pin_stat st;

	return mem_pin((struct mem_space *)(uintptr_t)s, block_of(s, seq, depth),
		       now, ttl, &st);
}

static struct mem_tenant_stat stat_of(struct fx *f, const char *tenant)
{
	struct mem_tenant_stat st;

	mem_tenant_stat(f->m, tenant, &st);
	return st;
}

static struct mem_pin_room room_of(struct fx *f, const char *tenant)
{
	struct mem_pin_room room;

	mem_pin_room(f->m, tenant, &room);
	return room;
}

/* Everything that can be had, taken, and given back. */
static void storm(struct fx *f, struct mem_client *c, struct mem_space *s)
{
	handle_t *h = calloc(1024, sizeof(*h));
	uint32_t nr = 0, released;

	while (nr < 1024 && fx_alloc(f, c, s, 0, 1, &h[nr]) == 0)
		nr++;
	fx_verify(f);
	assert_int_equal(mem_release(c, h, nr, &released), 0);
	fx_verify(f);
	free(h);
}

/* Neither one's own allocations take it, nor another's. */
static void test_storm(void **state)
{
	struct mem_client *a, *b;
	struct mem_space *sa, *sb;
	struct mem_given g;
	struct fx f;
	bool more;

	fx_init(&f, 16 * MIB, 4 * MIB);
	a = fx_client(&f, 1, "alice", 0);
	sa = fx_space(a, 1, small);
	cache(&f, a, sa, 1, 20);
	cache(&f, a, sa, 2, 20);
	assert_int_equal(pin(sa, 1, 9, 0, HOUR), 0);
	assert_int_equal(room_of(&f, "alice").bytes, 10 * PAGE);
	assert_int_equal(stat_of(&f, "alice").bytes.of[PAGE_CACHED],
			 30 * PAGE);
	fx_verify(&f);
	storm(&f, a, sa);
	assert_int_equal(found(sa, 1), 10);
	assert_int_equal(found(sa, 2), 0);
	mem_space_close(a, sa);
	mem_client_free(a, MEM_END_DEAD);
	b = fx_client(&f, 2, "bob", 0);
	sb = fx_space(b, 1, small);
	storm(&f, b, sb);
	assert_int_equal(found(sa, 1), 10);
	assert_int_equal(mem_reclaim(f.m, "alice", UINT64_MAX, &g, &more), 0);
	assert_int_equal(found(sa, 1), 10);
	assert_int_equal(stat_of(&f, "alice").charged, 10 * PAGE);
	/* Unpinned it is cached, and goes as anything. */
	assert_int_equal(mem_unpin(sa, block_of(sa, 1, 9)), 0);
	assert_int_equal(room_of(&f, "alice").bytes, 0);
	assert_int_equal(stat_of(&f, "alice").bytes.of[PAGE_CACHED],
			 10 * PAGE);
	fx_verify(&f);
	storm(&f, b, sb);
	assert_int_equal(stat_of(&f, "alice").charged, 0);
	fx_fini(&f);
}

/* Whoever finds it holds it as ever, and may go before or after the pin. */
static void test_held(void **state)
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
	cache(&f, c, s, 1, 10);
	assert_int_equal(pin(s, 1, 9, 0, HOUR), 0);
	for (uint32_t d = 0; d < 10; d++)
		h[d] = fx_lookup(s, 1, d, 0);
	assert_int_equal(mem_match(c, s, h, 10, places), 10);
	fx_verify(&f);
	assert_int_equal(mem_unpin(s, block_of(s, 1, 9)), 0);
	fx_verify(&f);
	assert_int_equal(fx_pages(&f, PAGE_SEALED), 10);
	assert_int_equal(pin(s, 1, 4, 0, HOUR), 0);
	assert_int_equal(mem_release(c, h, 10, &released), 0);
	assert_int_equal(fx_pages(&f, PAGE_SEALED), 5);
	assert_int_equal(fx_pages(&f, PAGE_CACHED), 5);
	/* It is nobody's to release. */
	assert_int_equal(mem_release(c, h, 1, &released), -ESTALE);
	fx_verify(&f);
	fx_fini(&f);
}

static void test_ttl(void **state)
{
	struct mem_client *c;
	struct mem_space *s;
	struct mem_pin_stat st;
	struct fx f;

	fx_init(&f, 16 * MIB, 4 * MIB);
	c = fx_client(&f, 1, "t", 0);
	s = fx_space(c, 1, small);
	cache(&f, c, s, 1, 10);
	mem_pin_tick(f.m, 5000000);
	assert_int_equal(pin(s, 1, 9, 5000000, 1500), 0);
	mem_pin_tick(f.m, 5001499);
	assert_int_equal(room_of(&f, "t").nr_pins, 1);
	/* Again: it ends later, and not sooner. */
	assert_int_equal(pin(s, 1, 9, 5001499, 1000), 0);
	assert_int_equal(pin(s, 1, 9, 5001499, 1), 0);
	assert_int_equal(room_of(&f, "t").nr_pins, 1);
	mem_pin_stat(mem_pin_next(f.m, "t", NULL), 5001499, &st);
	assert_int_equal(st.left_ms, 1000);
	assert_int_equal(st.blocks, 10);
	assert_int_equal(st.tokens, 640);
	assert_int_equal(st.bytes, 10 * PAGE);
	assert_int_equal(st.block, block_of(s, 1, 9));
	assert_int_equal(st.root, block_of(s, 1, 0));
	mem_pin_tick(f.m, 5002498);
	assert_int_equal(room_of(&f, "t").nr_pins, 1);
	mem_pin_tick(f.m, 5002499);
	assert_int_equal(room_of(&f, "t").nr_pins, 0);
	assert_int_equal(fx_pages(&f, PAGE_CACHED), 10);
	fx_verify(&f);
	/* Longer than once round the wheel, and a tick that is late. */
	assert_int_equal(pin(s, 1, 9, 5002499, HOUR), 0);
	for (uint64_t t = 5002499; t < 5002499 + HOUR; t += 1000)
		mem_pin_tick(f.m, t);
	assert_int_equal(room_of(&f, "t").nr_pins, 1);
	mem_pin_tick(f.m, 5002499 + HOUR);
	assert_int_equal(room_of(&f, "t").nr_pins, 0);
	assert_int_equal(pin(s, 1, 9, 10000000, 1000), 0);
	mem_pin_tick(f.m, 10000000 + 10 * HOUR);
	assert_int_equal(room_of(&f, "t").nr_pins, 0);
	fx_fini(&f);
}

/* A page counts once, whatever covers it; each pin ends by itself. */
static void test_overlap(void **state)
{
	struct mem_client *c;
	struct mem_space *s;
	struct fx f;

	fx_init(&f, 16 * MIB, 4 * MIB);
	c = fx_client(&f, 1, "t", 0);
	s = fx_space(c, 1, small);
	cache(&f, c, s, 1, 10);
	assert_int_equal(pin(s, 1, 3, 0, 3000), 0);
	assert_int_equal(pin(s, 1, 9, 0, 2000), 0);
	assert_int_equal(pin(s, 1, 6, 0, 1000), 0);
	assert_int_equal(room_of(&f, "t").nr_pins, 3);
	assert_int_equal(room_of(&f, "t").bytes, 10 * PAGE);
	fx_verify(&f);
	mem_pin_tick(f.m, 1000);
	assert_int_equal(room_of(&f, "t").nr_pins, 2);
	assert_int_equal(room_of(&f, "t").bytes, 10 * PAGE);
	fx_verify(&f);
	mem_pin_tick(f.m, 2000);
	assert_int_equal(room_of(&f, "t").bytes, 4 * PAGE);
	fx_verify(&f);
	storm(&f, c, s);
	assert_int_equal(found(s, 1), 4);
	mem_pin_tick(f.m, 3000);
	assert_int_equal(room_of(&f, "t").bytes, 0);
	fx_fini(&f);
}

/* Two that go on from one prefix: it stays as long as either. */
static void test_fork(void **state)
{
	struct mem_client *c;
	struct mem_space *s;
	struct mem_block b;
	handle_t h[2], got[MEM_MAX_CLASSES];
	place_t places[MEM_MAX_CLASSES];
	uint32_t ends[2];
	struct name name;
	struct fx f;

	fx_init(&f, 16 * MIB, 4 * MIB);
	c = fx_client(&f, 1, "t", 0);
	s = fx_space(c, 1, small);
	cache(&f, c, s, 1, 5);
	for (uint32_t i = 0; i < 2; i++) {
		struct mem_pin_stat st;
		struct name_key key;

		h[i] = fx_page(&f, c, s, 0);
		b = fx_block(s, 2 + i, 5);
		b.parent = fx_name(s, 1, 4);
		b.pages[0] = h[i];
		assert_int_equal(mem_publish(c, s, &b, false, got, places), 0);
		fx_release(c, h[i]);
		name_key_init(&key, mem_space_name_key(s));
		name = name_block(&key, &b.parent, &b.extra, b.tokens, 64);
		ends[i] = mem_pin_find(s, &name);
		assert_int_equal(mem_pin(s, ends[i], 0, HOUR, &st), 0);
		assert_int_equal(st.blocks, 6);
		assert_int_equal(st.new_bytes, i ? PAGE : 6 * PAGE);
	}
	assert_int_equal(room_of(&f, "t").bytes, 7 * PAGE);
	fx_verify(&f);
	assert_int_equal(mem_unpin(s, ends[0]), 0);
	assert_int_equal(room_of(&f, "t").bytes, 6 * PAGE);
	fx_verify(&f);
	storm(&f, c, s);
	assert_int_equal(found(s, 1), 5);
	assert_int_equal(mem_unpin(s, ends[1]), 0);
	assert_int_equal(room_of(&f, "t").bytes, 0);
	assert_int_equal(mem_unpin(s, ends[1]), -ENOENT);
	fx_fini(&f);
}

/* A quarter of a tenant's max, or of the pool; all tenants half the pool. */
static void test_limit(void **state)
{
	struct mem_client *c[4];
	struct mem_space *s[4];
	struct mem_pin_stat st;
	struct fx f;

	fx_init(&f, 16 * MIB, 4 * MIB);
	c[0] = fx_client(&f, 1, "alice", 4 * MIB);
	s[0] = fx_space(c[0], 1, small);
	cache(&f, c[0], s[0], 1, 20);
	assert_int_equal(room_of(&f, "alice").max, MIB);
	/* All or nothing. */
	assert_int_equal(mem_pin(s[0], block_of(s[0], 1, 16), 0, HOUR, &st),
			 -EDQUOT);
	assert_int_equal(st.new_bytes, 17 * PAGE);
	assert_int_equal(room_of(&f, "alice").bytes, 0);
	assert_int_equal(room_of(&f, "alice").nr_pins, 0);
	fx_verify(&f);
	assert_int_equal(pin(s[0], 1, 15, 0, HOUR), 0);
	assert_int_equal(pin(s[0], 1, 16, 0, HOUR), -EDQUOT);
	/* What is pinned already can always be pinned for longer. */
	assert_int_equal(pin(s[0], 1, 15, 0, 2 * HOUR), 0);
	assert_int_equal(pin(s[0], 1, 10, 0, 2 * HOUR), 0);
	mem_pin_percent(f.m, 50);
	assert_int_equal(pin(s[0], 1, 16, 0, HOUR), 0);
	mem_pin_percent(f.m, 25);
	fx_limit(&f, "alice", 0, 0, 0);
	for (uint32_t i = 1; i < 4; i++) {
		const char name[] = { (char)('0' + i), '\0' };

		c[i] = fx_client(&f, 1 + (pid_t)i, name, 0);
		s[i] = fx_space(c[i], 1, small);
		cache(&f, c[i], s[i], 1, 63);
	}
	/* 17 are pinned; a quarter of the pool is 64, half of it 128. */
	assert_int_equal(pin(s[1], 1, 62, 0, HOUR), 0);
	assert_int_equal(pin(s[2], 1, 62, 0, HOUR), -EDQUOT);
	assert_int_equal(pin(s[2], 1, 40, 0, HOUR), 0);
	assert_int_equal(pin(s[3], 1, 20, 0, HOUR), -EDQUOT);
	assert_int_equal(pin(s[3], 1, 5, 0, HOUR), 0);
	fx_verify(&f);
	fx_fini(&f);
}

/* A max that was lowered ends pins, those made longest ago first. */
static void test_lowered(void **state)
{
	struct mem_client *c;
	struct mem_space *s;
	struct fx f;

	fx_init(&f, 16 * MIB, 4 * MIB);
	c = fx_client(&f, 1, "t", 0);
	s = fx_space(c, 1, small);
	for (uint32_t i = 0; i < 4; i++) {
		cache(&f, c, s, i, 10);
		assert_int_equal(pin(s, i, 9, 0, HOUR), 0);
	}
	assert_int_equal(pin(s, 0, 9, 0, HOUR), 0); /* now the last */
	fx_limit(&f, "t", 0, 0, 6 * MIB); /* of it 24 pages */
	fx_verify(&f);
	assert_int_equal(room_of(&f, "t").nr_pins, 2);
	assert_int_equal(room_of(&f, "t").bytes, 20 * PAGE);
	storm(&f, c, s);
	assert_int_equal(found(s, 0), 10);
	assert_int_equal(found(s, 1), 0);
	assert_int_equal(found(s, 2), 0);
	assert_int_equal(found(s, 3), 10);
	fx_fini(&f);
}

/* To give up all that a space has is to end its pins. */
static void test_drop(void **state)
{
	struct mem_cursor at = { 0 };
	struct mem_client *c;
	struct mem_space *s, *other;
	struct mem_given g;
	uint64_t pages = 0, pins = 0;
	struct fx f;

	fx_init(&f, 16 * MIB, 4 * MIB);
	c = fx_client(&f, 1, "t", 0);
	s = fx_space(c, 1, small);
	other = fx_space(c, 2, small);
	cache(&f, c, s, 1, 10);
	cache(&f, c, s, 2, 10);
	cache(&f, c, other, 1, 10);
	assert_int_equal(pin(s, 1, 9, 0, HOUR), 0);
	assert_int_equal(pin(s, 2, 4, 0, HOUR), 0);
	assert_int_equal(pin(other, 1, 9, 0, HOUR), 0);
	do {
		assert_int_equal(mem_drop(s, &at, &g), 0);
		pages += g.pages;
		pins += g.pins;
		fx_verify(&f);
	} while (at.block);
	assert_int_equal(pages, 20);
	assert_int_equal(pins, 2);
	assert_int_equal(found(s, 1), 0);
	assert_int_equal(found(other, 1), 10);
	assert_int_equal(room_of(&f, "t").bytes, 10 * PAGE);
	fx_fini(&f);
}

/* Pages stay, as cached ones; pins are gone. */
static void test_restart(void **state)
{
	struct mem_client *c;
	struct mem_space *s;
	struct fx f;

	fx_init(&f, 16 * MIB, 4 * MIB);
	c = fx_client(&f, 1, "t", 0);
	s = fx_space(c, 1, small);
	cache(&f, c, s, 1, 10);
	assert_int_equal(pin(s, 1, 9, 0, HOUR), 0);
	fx_restart(&f);
	if (!dev_ops(f.dev)->survives) {
		fx_fini(&f);
		return;
	}
	assert_int_equal(fx_pages(&f, PAGE_CACHED), 10);
	assert_int_equal(room_of(&f, "t").bytes, 0);
	assert_null(mem_pin_next(f.m, "t", NULL));
	c = fx_client(&f, 1, "t", 0);
	s = fx_space(c, 1, small);
	assert_int_equal(pin(s, 1, 9, 0, HOUR), 0); /* in the grace time too */
	fx_verify(&f);
	fx_fini(&f);
}

static void test_bad(void **state)
{
	const struct name none = { { 0 } };
	struct mem_client *c;
	struct mem_space *s;
	struct mem_pin_stat st;
	handle_t h;
	uint32_t block;
	struct fx f;

	fx_init(&f, 16 * MIB, 4 * MIB);
	c = fx_client(&f, 1, "t", 0);
	s = fx_space(c, 1, small);
	cache(&f, c, s, 1, 3);
	block = block_of(s, 1, 2);
	assert_int_equal(mem_pin(s, block, 0, 0, &st), -EINVAL);
	assert_int_equal(mem_pin(s, block, 0, 1ull << 63, &st), -EINVAL);
	assert_int_equal(mem_pin(s, block, 0, UINT64_MAX, &st), -EINVAL);
	assert_int_equal(mem_pin(s, 0, 0, 1, &st), -ENOENT);
	assert_int_equal(mem_pin(s, 4, 0, 1, &st), -ENOENT);
	assert_int_equal(mem_pin(s, UINT32_MAX, 0, 1, &st), -ENOENT);
	assert_int_equal(mem_unpin(s, 0), -ENOENT);
	assert_int_equal(mem_unpin(s, block), -ENOENT);
	assert_int_equal(mem_unpin(s, UINT32_MAX), -ENOENT);
	assert_int_equal(mem_pin_find(s, &none), 0);
	/* One whose beginning is not there, and a number given up. */
	h = fx_page(&f, c, s, 0);
	assert_int_equal(fx_publish(c, s, 7, 5, 0, h), h);
	block = block_of(s, 7, 5);
	assert_int_not_equal(block, 0);
	assert_int_equal(mem_pin(s, block, 0, 1, &st), -ENOENT);
	fx_release(c, h);
	storm(&f, c, s);
	assert_int_equal(mem_pin(s, block, 0, 1, &st), -ENOENT);
	fx_verify(&f);
	fx_fini(&f);
}

/* A parent that comes after its child: its pages belong to the prefix. */
static void test_late_parent(void **state)
{
	struct mem_client *c;
	struct mem_space *s;
	struct mem_pin_stat st;
	handle_t h[2];
	struct fx f;

	fx_init(&f, 16 * MIB, 4 * MIB);
	c = fx_client(&f, 1, "t", 0);
	s = fx_space(c, 1, small);
	assert_int_equal(fx_alloc(&f, c, s, 0, 2, h), 0);
	assert_int_equal(fx_publish(c, s, 1, 1, 0, h[1]), h[1]);
	assert_int_equal(fx_publish(c, s, 1, 0, 0, h[0]), h[0]);
	fx_release(c, h[0]);
	fx_release(c, h[1]);
	assert_int_equal(mem_pin(s, block_of(s, 1, 1), 0, HOUR, &st), 0);
	assert_int_equal(st.pages, 2);
	fx_verify(&f);
	storm(&f, c, s);
	assert_int_equal(found(s, 1), 2);
	assert_int_equal(mem_unpin(s, block_of(s, 1, 1)), 0);
	assert_int_equal(room_of(&f, "t").bytes, 0);
	fx_fini(&f);
}

/* Sealed pages stay; exact copies of them go, but for the last block's. */
static void test_copies(void **state)
{
	const uint32_t one[] = { 4, 0 };
	struct mem_space_key key = fx_kivi_key(1, one, 0);
	handle_t h[2], got[MEM_MAX_CLASSES];
	place_t places[MEM_MAX_CLASSES];
	struct mem_client *c;
	struct mem_space *s;
	struct mem_block b;
	struct fx f;

	fx_init(&f, 16 * MIB, 4 * MIB);
	c = fx_client(&f, 1, "t", 0);
	s = fx_open(c, &key);
	for (uint32_t d = 0; d < 3; d++) {
		h[0] = fx_page(&f, c, s, 0);
		h[1] = fx_page(&f, c, s, 1);
		b = fx_block(s, 1, d);
		b.pages[0] = h[0];
		b.pages[1] = h[1];
		assert_int_equal(mem_publish(c, s, &b, false, got, places), 0);
		fx_release(c, h[0]);
		fx_release(c, h[1]);
	}
	assert_int_equal(fx_pages(&f, PAGE_CACHED), 6);
	assert_int_equal(pin(s, 1, 1, 0, HOUR), 0);
	assert_int_equal(fx_pages(&f, PAGE_SEALED), 3);
	fx_verify(&f);
	/* Further on: the copy that was the last block's is let go of when
	 * the pin that ended there is. */
	assert_int_equal(pin(s, 1, 2, 0, HOUR), 0);
	assert_int_equal(fx_pages(&f, PAGE_SEALED), 5);
	assert_int_equal(mem_unpin(s, block_of(s, 1, 1)), 0);
	assert_int_equal(fx_pages(&f, PAGE_SEALED), 4);
	fx_verify(&f);
	storm(&f, c, s);
	assert_int_equal(fx_lookup(s, 1, 1, 0), 0);
	assert_int_not_equal(fx_lookup(s, 1, 2, 0), 0);
	for (uint32_t d = 0; d < 3; d++)
		assert_int_not_equal(fx_lookup(s, 1, d, 1), 0);
	fx_fini(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_storm),
		cmocka_unit_test(test_held),
		cmocka_unit_test(test_ttl),
		cmocka_unit_test(test_overlap),
		cmocka_unit_test(test_fork),
		cmocka_unit_test(test_limit),
		cmocka_unit_test(test_lowered),
		cmocka_unit_test(test_drop),
		cmocka_unit_test(test_restart),
		cmocka_unit_test(test_bad),
		cmocka_unit_test(test_late_parent),
		cmocka_unit_test(test_copies),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
