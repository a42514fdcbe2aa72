/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pin_walk.c - many pins, long ones, and anything in any order; the walker
 * looks.
 *
 * KVD_SEED repeats the random part, KVD_STEPS makes it longer.
 */
#include "tests/mem/fixture.h"

#include <stdio.h>
#include <time.h>

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

static struct mem_pin_room room_of(struct fx *f, const char *tenant)
{
	struct mem_pin_room room;

	mem_pin_room(f->m, tenant, &room);
	return room;
}

/* As many as there may be, and none more. */
static void test_many(void **state)
{
	struct mem_client *c;
	struct mem_space *s;
	struct fx f;
	const uint32_t tiny[] = { 1, 0 };

	fx_init(&f, 128 * MIB, 16 * MIB);
	c = fx_client(&f, 1, "t", 0);
	s = fx_space(c, 1, tiny);
	for (uint32_t i = 0; i <= MEM_MAX_PINS; i++) {
		cache(&f, c, s, i, 1);
		assert_int_equal(pin(s, i, 0, i, 1000),
				 i < MEM_MAX_PINS ? 0 : -EDQUOT);
	}
	assert_int_equal(room_of(&f, "t").nr_pins, MEM_MAX_PINS);
	fx_verify(&f);
	while (mem_pin_tick(f.m, 5000))
		;
	assert_int_equal(room_of(&f, "t").nr_pins, 0);
	assert_int_equal(room_of(&f, "t").bytes, 0);
	fx_fini(&f);
}

static double ms_since(const struct timespec *start)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)(now.tv_sec - start->tv_sec) * 1e3 +
	       (double)(now.tv_nsec - start->tv_nsec) / 1e6;
}

static double last_ms; /* publishing the last block of a chain */

/* A sequence of @nr blocks, cached. Return: the last. */
static uint32_t chain(struct fx *f, struct mem_client *c, struct mem_space *s,
		      uint32_t nr, int priority)
{
	struct name parent = { { 0 } };
	struct timespec start;
	struct name_key key;

	name_key_init(&key, mem_space_name_key(s));
	for (uint32_t d = 0; d < nr; d++) {
		handle_t h = fx_page(f, c, s, 0), got[MEM_MAX_CLASSES];
		struct mem_block b = fx_block(s, 0, 0);
		place_t places[MEM_MAX_CLASSES];

		b.parent = parent;
		b.depth = d;
		b.pages[0] = h;
		b.priority = d + 1 == nr ? priority : MEM_LOW;
		clock_gettime(CLOCK_MONOTONIC, &start);
		assert_int_equal(mem_publish(c, s, &b, false, got, places), 0);
		last_ms = ms_since(&start);
		fx_release(c, h);
		parent = name_block(&key, &b.parent, &b.extra, b.tokens, 64);
	}
	return mem_pin_find(s, &parent);
}

/* A large one is let go of from its end, so many blocks at a time. */
static void test_steps(void **state)
{
	const uint32_t tiny[] = { 1, 0 };
	struct mem_pin_stat st;
	struct mem_client *c;
	struct mem_space *s;
	uint32_t end, steps;
	struct fx f;

	fx_init(&f, 256 * MIB, 64 * MIB);
	c = fx_client(&f, 1, "t", 0);
	s = fx_space(c, 1, tiny);
	end = chain(&f, c, s, 3000, MEM_LOW);
	mem_pin_tick(f.m, 1);
	assert_int_equal(mem_pin(s, end, 1, 1000, &st), 0);
	assert_int_equal(st.blocks, 3000);
	fx_verify(&f);
	assert_true(mem_pin_tick(f.m, 1001));
	assert_int_equal(fx_pages(&f, PAGE_CACHED), 1024);
	assert_int_equal(room_of(&f, "t").nr_pins, 0);
	fx_verify(&f);
	/* Anew while it ends: it covers the whole again. */
	assert_int_equal(mem_pin(s, end, 2000, 1000, &st), 0);
	fx_verify(&f);
	assert_int_equal(fx_pages(&f, PAGE_CACHED), 0);
	while (mem_trim(f.m))
		fx_verify(&f);
	assert_int_equal(fx_pages(&f, PAGE_CACHED), 0);
	assert_int_equal(mem_unpin(s, end), 0);
	for (steps = 1; mem_trim(f.m); steps++)
		fx_verify(&f);
	assert_int_equal(steps, 2);
	assert_int_equal(fx_pages(&f, PAGE_CACHED), 3000);
	fx_fini(&f);
}

/* As long as one may be, and longer; what its steps take is printed. */
static void test_longest(void **state)
{
	const uint32_t tiny[] = { 1, 0 };
	struct timespec start;
	struct mem_pin_stat st;
	struct mem_client *c;
	struct mem_space *s;
	uint32_t end;
	double took;
	struct fx f;

	fx_init(&f, 512 * MIB, 128 * MIB);
	mem_pin_percent(f.m, 100);
	c = fx_client(&f, 1, "t", 0);
	s = fx_space(c, 1, tiny);
	end = chain(&f, c, s, 16384, MEM_LOW);
	clock_gettime(CLOCK_MONOTONIC, &start);
	assert_int_equal(mem_pin(s, end, 1, 1000, &st), 0);
	took = ms_since(&start);
	assert_int_equal(st.blocks, 16384);
	clock_gettime(CLOCK_MONOTONIC, &start);
	assert_int_equal(mem_unpin(s, end), 0);
	printf("16384 blocks: pinned in %.2f ms; a step of unpinning %.2f ms\n",
	       took, ms_since(&start));
	while (mem_trim(f.m))
		;
	fx_verify(&f);
	end = chain(&f, c, s, 16385, MEM_HIGH);
	printf("one more, of a higher priority than those: published in %.2f "
	       "ms\n", last_ms);
	assert_int_equal(mem_pin(s, end, 1, 1000, &st), -E2BIG);
	assert_int_equal(mem_pin_look(s, end, &st), -E2BIG);
	assert_int_equal(room_of(&f, "t").bytes, 0);
	fx_fini(&f);
}

/* ---- anything goes ---- */

static uint64_t seed;

static uint32_t rnd(uint32_t n)
{
	seed = seed * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(seed >> 33) % n;
}

static handle_t publish(struct mem_client *c, struct mem_space *s,
			uint32_t seq, uint32_t depth, handle_t h)
{
	struct mem_block b = fx_block(s, seq, depth);
	handle_t got[MEM_MAX_CLASSES];
	place_t places[MEM_MAX_CLASSES];

	b.pages[0] = h;
	b.priority = (int)rnd(3) - 1;
	assert_int_equal(mem_publish(c, s, &b, false, got, places), 0);
	return got[0];
}

static void test_random(void **state)
{
	const char *env = getenv("KVD_SEED");
	uint32_t steps = getenv("KVD_STEPS") ?
				 (uint32_t)atoi(getenv("KVD_STEPS")) : 3000;
	static const char *const names[] = { "a", "b" };
	struct mem_client *c[2];
	struct mem_space *s[2];
	uint64_t now = 1000, pinned = 0;
	struct fx f;

	seed = env ? strtoull(env, NULL, 0) : (uint64_t)time(NULL);
	printf("KVD_SEED=%llu\n", (unsigned long long)seed);
	fx_init(&f, 16 * MIB, 4 * MIB);
	for (int i = 0; i < 2; i++) {
		c[i] = fx_client(&f, 1 + i, names[i], 0);
		s[i] = fx_space(c[i], 1, small);
	}
	for (uint32_t i = 0; i < steps; i++) {
		uint32_t who = rnd(2), seq = rnd(6), d = rnd(20);
		struct mem_cursor at = { 0 };
		struct mem_pin_stat st;
		struct mem_given g;
		handle_t h[20];

		switch (rnd(9)) {
		case 0:
		case 1: {
			uint32_t nr = d + 1, released;

			if (fx_alloc(&f, c[who], s[who], 0, nr, h) < 0)
				break;
			for (uint32_t j = 0; j < nr; j++) {
				handle_t own = h[j];

				h[j] = publish(c[who], s[who], seq, j, own);
				if (h[j] != own)
					fx_release(c[who], own);
			}
			mem_release(c[who], h, nr, &released);
			break;
		}
		case 2:
		case 3:
		case 4:
			if (mem_pin(s[who], block_of(s[who], seq, d), now,
				    1 + rnd(20000), &st) == 0) {
				pinned++;
				for (uint32_t j = 0; j <= d; j++)
					assert_int_not_equal(
						fx_lookup(s[who], seq, j, 0), 0);
			}
			break;
		case 5:
			mem_unpin(s[who], block_of(s[who], seq, d));
			break;
		case 6:
			now += rnd(5000);
			mem_pin_tick(f.m, now);
			break;
		case 7:
			fx_limit(&f, names[who], 0, 0,
				 rnd(2) ? 0 : (1 + rnd(16)) * MIB);
			break;
		case 8:
			if (rnd(10) == 0)
				do
					mem_drop(s[who], &at, &g);
				while (at.block);
			break;
		}
		if (i % 8 == 0)
			fx_verify(&f);
	}
	assert_true(pinned > steps / 100);
	while (mem_pin_tick(f.m, now + HOUR))
		;
	assert_int_equal(room_of(&f, "a").bytes, 0);
	assert_int_equal(room_of(&f, "b").bytes, 0);
	fx_fini(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_many),
		cmocka_unit_test(test_steps),
		cmocka_unit_test(test_longest),
		cmocka_unit_test(test_random),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
