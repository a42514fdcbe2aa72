/* SPDX-License-Identifier: Apache-2.0 */
/*
 * limits.c - what min keeps, what high gives up and slows, what max refuses.
 *
 * Pages are 64 KiB unless said: 32 in a granule, 64 in a segment of 4 MiB.
 * KVD_SEED repeats the random part, KVD_STEPS makes it longer.
 */
#include "tests/mem/fixture.h"

#include <stdio.h>
#include <time.h>

#define PAGE (64u << 10)
#define STEP 256 /* pages that one step gives up */

static const uint32_t small[] = { 4, 0 };
static const uint32_t tiny[] = { 1, 0 };

static int set(struct fx *f, const char *tenant, uint64_t min, uint64_t high,
	       uint64_t max)
{
	struct mem_limits l = { min, high, max };

	return mem_tenant_set(f->m, tenant, &l);
}

static struct mem_tenant_stat stat_of(struct fx *f, const char *tenant)
{
	struct mem_tenant_stat st;

	mem_tenant_stat(f->m, tenant, &st);
	return st;
}

/* @nr pages published and let go of, the first the coldest. */
static void cache(struct fx *f, struct mem_client *c, struct mem_space *s,
		  uint32_t seq, uint32_t nr)
{
	handle_t h;

	for (uint32_t i = 0; i < nr; i++) {
		h = fx_page(f, c, s, 0);
		assert_int_equal(fx_publish(c, s, seq + i, 0, 0, h), h);
		fx_release(c, h);
	}
}

static void fx_init_pages(struct fx *f, uint64_t pool, uint32_t max_pages)
{
	fx_init(f, pool, 4 * MIB);
	mem_free(f->m);
	fx_forget(f);
	f->cfg.max_pages = max_pages;
	assert_int_equal(fx_new(f), 0);
}

static void test_bad(void **state)
{
	struct fx f;

	fx_init(&f, 16 * MIB, 4 * MIB);
	assert_int_equal(set(&f, "", 0, 0, 0), -EINVAL);
	assert_int_equal(set(&f, "a name of more than 31 bytes ...", 0, 0, 0),
			 -EINVAL);
	assert_int_equal(set(&f, "t", 2, 1, 0), -EINVAL);
	assert_int_equal(set(&f, "t", 2, 0, 1), -EINVAL);
	assert_int_equal(set(&f, "t", 0, 2, 1), -EINVAL);
	assert_int_equal(set(&f, "t", 1, 1, 1), 0);
	/* Promises fit into the pool, those to who is not there too. */
	assert_int_equal(set(&f, "t", 10 * MIB, 0, 0), 0);
	assert_int_equal(set(&f, "u", 6 * MIB + 1, 0, 0), -ERANGE);
	assert_int_equal(stat_of(&f, "u").limits.min_bytes, 0);
	assert_int_equal(set(&f, "u", 6 * MIB, 0, 0), 0);
	assert_int_equal(set(&f, "t", 10 * MIB + 1, 0, 0), -ERANGE);
	assert_int_equal(set(&f, "t", 9 * MIB, 0, 0), 0);
	assert_int_equal(set(&f, "t", 10 * MIB, 0, 0), 0);
	assert_int_equal(stat_of(&f, "t").limits.min_bytes, 10 * MIB);
	fx_verify(&f);
	assert_int_equal(set(&f, "t", 0, 0, 0), 0);
	assert_int_equal(set(&f, "u", 16 * MIB, 0, 0), 0);
	fx_fini(&f);
}

/* Set before it comes, and kept when its record is gone and comes again. */
static void test_before(void **state)
{
	struct mem_client *c;
	struct fx f;
	handle_t h[5];

	fx_init(&f, 16 * MIB, 4 * MIB);
	fx_limit(&f, "t", 0, 0, 4 * PAGE);
	c = fx_client(&f, 1, "t", 0);
	assert_int_equal(fx_alloc(&f, c, fx_space(c, 1, small), 0, 5, h),
			 -EINVAL);
	mem_client_free(c, MEM_END_DEAD);
	for (uint32_t i = 0; i < 300; i++) { /* more than there are records */
		char name[16];

		snprintf(name, sizeof(name), "n%u", i);
		mem_client_free(fx_client(&f, 2, name, 0), MEM_END_DEAD);
	}
	c = fx_client(&f, 1, "t", 0);
	assert_int_equal(fx_alloc(&f, c, fx_space(c, 1, small), 0, 5, h),
			 -EINVAL);
	mem_client_free(c, MEM_END_DEAD);
	fx_fini(&f);
}

/* Page numbers run out: only what is above alice's min is taken from her. */
static void test_min_numbers(void **state)
{
	struct mem_client *a, *b;
	struct mem_space *sa, *sb;
	struct fx f;
	handle_t h[64];

	fx_init_pages(&f, 16 * MIB, 64);
	a = fx_client(&f, 1, "alice", 0);
	sa = fx_space(a, 1, tiny);
	cache(&f, a, sa, 0, 60);
	fx_limit(&f, "alice", 40 * 16384, 0, 0);
	b = fx_client(&f, 2, "bob", 0);
	sb = fx_space(b, 1, tiny);
	assert_int_equal(fx_alloc(&f, b, sb, 0, 25, h), -ENOSPC);
	assert_int_equal(stat_of(&f, "alice").charged, 60 * 16384);
	assert_int_equal(fx_alloc(&f, b, sb, 0, 24, h), 0);
	assert_int_equal(stat_of(&f, "alice").charged, 40 * 16384);
	assert_int_equal(fx_alloc(&f, b, sb, 0, 1, h), -ENOSPC);
	fx_verify(&f);
	/* Half a page more than she has keeps the page. */
	fx_limit(&f, "alice", 40 * 16384 - 8192, 0, 0);
	assert_int_equal(fx_alloc(&f, b, sb, 0, 1, h), -ENOSPC);
	/* She herself takes from her own. */
	assert_int_equal(fx_alloc(&f, a, sa, 0, 3, h), 0);
	assert_int_equal(stat_of(&f, "alice").bytes.of[PAGE_CACHED],
			 37 * 16384);
	fx_limit(&f, "alice", 0, 0, 0);
	assert_int_equal(fx_alloc(&f, b, sb, 0, 37, h), 0);
	assert_int_equal(stat_of(&f, "alice").charged, 3 * 16384);
	fx_fini(&f);
}

/* A segment goes only as far as the min of whose it was allows. */
static void test_min_segments(void **state)
{
	struct mem_client *a, *b;
	struct mem_space *sb;
	struct fx f;
	handle_t h[64];

	fx_init(&f, 8 * MIB, 4 * MIB);
	a = fx_client(&f, 1, "alice", 0);
	cache(&f, a, fx_space(a, 1, small), 0, 128);
	mem_client_free(a, MEM_END_DEAD);
	b = fx_client(&f, 2, "bob", 0);
	sb = fx_space(b, 1, small);
	fx_limit(&f, "alice", 4 * MIB + 1, 0, 0);
	assert_int_equal(fx_alloc(&f, b, sb, 0, 1, h), -ENOSPC);
	assert_int_equal(stat_of(&f, "alice").charged, 8 * MIB);
	fx_limit(&f, "alice", 4 * MIB, 0, 0);
	assert_int_equal(fx_alloc(&f, b, sb, 0, 64, h), 0);
	assert_int_equal(stat_of(&f, "alice").charged, 4 * MIB);
	assert_int_equal(fx_alloc(&f, b, sb, 0, 1, h), -ENOSPC);
	fx_fini(&f);
}

/* The record of a space is no way around it. */
static void test_min_spaces(void **state)
{
	struct mem_client *a, *b;
	const char *why;
	struct mem_space *s;
	struct mem_space_key key;
	struct fx f;

	fx_init(&f, 16 * MIB, 4 * MIB);
	mem_free(f.m);
	fx_forget(&f);
	f.cfg.max_spaces = 4; /* one for each tenant */
	assert_int_equal(fx_new(&f), 0);
	fx_limit(&f, "0", PAGE, 0, 0);
	for (uint32_t i = 0; i < 4; i++) {
		const char name[] = { (char)('0' + i), '\0' };

		a = fx_client(&f, 1 + (pid_t)i, name, 0);
		s = fx_space(a, 1, small);
		cache(&f, a, s, 0, 1 + i);
		mem_client_free(a, MEM_END_DEAD);
	}
	b = fx_client(&f, 9, "bob", 0);
	key = fx_key(1, small);
	assert_int_equal(mem_space_open(b, &key, &s, &why), 0);
	/* Of all it has the fewest pages. */
	assert_int_equal(stat_of(&f, "0").charged, PAGE);
	assert_int_equal(stat_of(&f, "1").charged, 0);
	fx_fini(&f);
}

/* Above high one's own cached pages go, and nobody else's. */
static void test_high(void **state)
{
	struct mem_client *a, *b;
	struct mem_space *sa, *sb;
	struct fx f;
	handle_t h[16];

	fx_init(&f, 16 * MIB, 4 * MIB);
	a = fx_client(&f, 1, "alice", 0);
	sa = fx_space(a, 1, small);
	cache(&f, a, sa, 0, 20);
	b = fx_client(&f, 2, "bob", 0);
	sb = fx_space(b, 1, small);
	fx_limit(&f, "bob", 0, 10 * PAGE, 0);
	cache(&f, b, sb, 0, 8);
	assert_int_equal(fx_alloc(&f, b, sb, 0, 2, h), 0);
	assert_int_equal(stat_of(&f, "bob").bytes.of[PAGE_CACHED], 8 * PAGE);
	assert_int_equal(fx_alloc(&f, b, sb, 0, 3, h + 2), 0);
	assert_int_equal(stat_of(&f, "bob").bytes.of[PAGE_CACHED], 5 * PAGE);
	assert_int_equal(fx_lookup(sb, 2, 0, 0), 0); /* the coldest */
	assert_true(fx_lookup(sb, 3, 0, 0));
	assert_int_equal(mem_client_delay_ms(b), 0);
	/* More than cached pages cover: it is had, above high. */
	assert_int_equal(fx_alloc(&f, b, sb, 0, 6, h + 5), 0);
	assert_int_equal(stat_of(&f, "bob").charged, 11 * PAGE);
	assert_int_equal(stat_of(&f, "bob").bytes.of[PAGE_CACHED], 0);
	assert_true(mem_client_delay_ms(b) > 0);
	assert_int_equal(mem_client_delay_ms(a), 0);
	assert_int_equal(stat_of(&f, "alice").bytes.of[PAGE_CACHED],
			 20 * PAGE);
	fx_fini(&f);
}

/* 100 ms * (4 * excess / high)^2, rounded up. */
static void test_delay(void **state)
{
	static const uint32_t ms[] = { 0, 1, 4, 9, 16, 25, 36, 49, 64, 81,
				       100, 100, 100 };
	struct mem_client *c;
	struct mem_space *s;
	struct fx f;
	handle_t h[53];

	fx_init(&f, 16 * MIB, 4 * MIB);
	fx_limit(&f, "t", 0, 40 * PAGE, 0);
	c = fx_client(&f, 1, "t", 0);
	s = fx_space(c, 1, small);
	assert_int_equal(fx_alloc(&f, c, s, 0, 40, h), 0);
	for (uint32_t i = 0; i < 13; i++) {
		assert_int_equal(mem_client_delay_ms(c), ms[i]);
		h[40 + i] = fx_page(&f, c, s, 0);
	}
	/* What is cached could go, and is no reason to wait. */
	for (uint32_t i = 0; i < 12; i++) {
		assert_int_equal(fx_publish(c, s, i, 0, 0, h[i]), h[i]);
		fx_release(c, h[i]);
	}
	assert_int_equal(stat_of(&f, "t").charged, 53 * PAGE);
	assert_int_equal(mem_client_delay_ms(c), 1);
	/* The least of it is something. */
	fx_limit(&f, "t", 0, 41 * PAGE - 1, 0);
	assert_int_equal(mem_client_delay_ms(c), 1);
	fx_limit(&f, "t", 0, 41 * PAGE, 0);
	assert_int_equal(mem_client_delay_ms(c), 0);
	fx_fini(&f);
}

/* A lower max takes what is cached, and refuses until the rest is released. */
static void test_lower_max(void **state)
{
	struct mem_client *c;
	struct mem_space *s;
	struct fx f;
	handle_t h[8], x;
	place_t p;
	uint64_t need = 0;

	fx_init(&f, 16 * MIB, 4 * MIB);
	c = fx_client(&f, 1, "t", 0);
	s = fx_space(c, 1, small);
	cache(&f, c, s, 0, 12);
	assert_int_equal(fx_alloc(&f, c, s, 0, 8, h), 0);
	fx_limit(&f, "t", 0, 0, 14 * PAGE);
	assert_int_equal(stat_of(&f, "t").charged, 14 * PAGE);
	fx_verify(&f);
	fx_limit(&f, "t", 0, 0, 4 * PAGE);
	assert_int_equal(stat_of(&f, "t").charged, 8 * PAGE);
	assert_int_equal(fx_pages(&f, PAGE_CACHED), 0);
	fx_verify(&f);
	assert_int_equal(mem_alloc(c, s, 0, 1, &x, &p, &need), -EDQUOT);
	assert_int_equal(need, 5 * PAGE);
	for (uint32_t i = 0; i < 4; i++)
		fx_release(c, h[i]);
	fx_verify(&f);
	assert_int_equal(mem_alloc(c, s, 0, 1, &x, &p, &need), -EDQUOT);
	assert_int_equal(need, PAGE);
	fx_release(c, h[4]);
	assert_int_equal(fx_alloc(&f, c, s, 0, 1, &x), 0);
	/* Who was refused is told of a higher one. */
	assert_int_equal(mem_alloc(c, s, 0, 1, h, &p, &need), -EDQUOT);
	f.rooms = 0;
	fx_limit(&f, "t", 0, 0, 5 * PAGE);
	assert_int_equal(f.rooms, 1);
	assert_int_equal(fx_alloc(&f, c, s, 0, 1, h), 0);
	fx_fini(&f);
}

/* Much goes in steps; until it has gone an allocation is to come again. */
static void test_steps(void **state)
{
	struct mem_client *c;
	struct mem_space *s;
	struct fx f;
	handle_t h;
	place_t p;
	uint64_t need;

	fx_init_pages(&f, 240 * MIB, 15000);
	c = fx_client(&f, 1, "t", 0);
	s = fx_space(c, 1, tiny);
	cache(&f, c, s, 0, 14000);
	assert_int_equal(set(&f, "t", 0, 0, 16384), 0);
	assert_int_equal(stat_of(&f, "t").pages.of[PAGE_CACHED], 14000 - STEP);
	fx_verify(&f);
	assert_int_equal(mem_alloc(c, s, 0, 1, &h, &p, &need), -EAGAIN);
	assert_int_equal(fx_pages(&f, PAGE_CACHED), 14000 - 2 * STEP);
	f.rooms = 0;
	for (int i = 3; i <= 14000 / STEP; i++) {
		assert_true(mem_trim(f.m));
		assert_int_equal(f.rooms, 1);
		assert_int_equal(fx_pages(&f, PAGE_CACHED), 14000 - i * STEP);
	}
	assert_false(mem_trim(f.m));
	assert_int_equal(fx_pages(&f, PAGE_CACHED), 1);
	assert_int_equal(fx_alloc(&f, c, s, 0, 1, &h), 0);
	fx_fini(&f);
}

static bool nobody_lives(pid_t pid, uint64_t start_time)
{
	return false;
}

/* Nothing goes while owners may come back; then what is too much does. */
static void test_grace(void **state)
{
	struct mem_client *c;
	struct mem_space *s;
	struct fx f;
	handle_t h;
	place_t p;
	uint64_t need;

	fx_init(&f, 16 * MIB, 4 * MIB);
	if (!dev_ops(f.dev)->survives)
		skip();
	c = fx_client(&f, 1, "t", 0);
	s = fx_space(c, 1, small);
	cache(&f, c, s, 0, 20);
	fx_restart(&f);
	fx_limit(&f, "t", 0, 10 * PAGE, 15 * PAGE);
	c = fx_client(&f, 2, "t", 0);
	s = fx_space(c, 1, small);
	assert_int_equal(stat_of(&f, "t").charged, 20 * PAGE);
	fx_verify(&f);
	assert_int_equal(mem_alloc(c, s, 0, 1, &h, &p, &need), -EAGAIN);
	assert_int_equal(stat_of(&f, "t").charged, 20 * PAGE);
	mem_grace_end(f.m, nobody_lives);
	while (mem_trim(f.m))
		;
	assert_int_equal(stat_of(&f, "t").charged, 10 * PAGE);
	fx_fini(&f);
}

/* One at its max neither refuses nor delays another. */
static void test_apart(void **state)
{
	struct mem_client *a, *b;
	struct mem_space *sa, *sb;
	struct fx f;
	handle_t h[64], x[64];
	place_t p[64];
	uint64_t need;

	fx_init(&f, 16 * MIB, 4 * MIB);
	a = fx_client(&f, 1, "alice", 32 * PAGE);
	sa = fx_space(a, 1, small);
	assert_int_equal(fx_alloc(&f, a, sa, 0, 32, h), 0);
	b = fx_client(&f, 2, "bob", 0);
	sb = fx_space(b, 1, small);
	for (uint32_t i = 0; i < 64; i++) {
		assert_int_equal(mem_alloc(a, sa, 0, 1, h + 32, p, &need),
				 -EDQUOT);
		x[i] = fx_page(&f, b, sb, 0);
	}
	assert_int_equal(f.recalls, 0);
	fx_release(b, x[0]);
	assert_int_equal(mem_alloc(b, sb, 0, 1, x, p, &need), 0);
	fx_fini(&f);
}

/* ---- at random ---- */

#define TENANTS 4
#define HELD	400
#define TABLE	300 /* page numbers: they run out too */

static const char *const names[TENANTS] = { "a", "b", "c", "d" };
static struct fx rf;
static uint64_t rng, taken, kept;

static struct actor {
	struct mem_client *c;
	struct mem_space *s[2];
	struct mem_limits l;
	handle_t h[HELD];
	uint32_t nr;
	pid_t pid;
} actors[TENANTS];

static uint32_t below(uint32_t n)
{
	rng ^= rng >> 12;
	rng ^= rng << 25;
	rng ^= rng >> 27;
	return (uint32_t)((rng * 0x2545f4914f6cdd1dULL) >> 33) % n;
}

static void actor_start(struct actor *a)
{
	a->c = fx_client(&rf, ++a->pid, names[a - actors], 0);
	a->s[0] = fx_space(a->c, 1, small);
	a->s[1] = fx_space(a->c, 2, tiny);
	a->nr = 0;
}

/* Often the process ends, so that its segments can be another's. */
static void actor_die(struct actor *a)
{
	mem_client_free(a->c, MEM_END_DEAD);
	a->c = NULL;
	a->nr = 0;
}

static void actor_alloc(struct actor *a)
{
	uint32_t nr = 1 + below(16);
	place_t p[16];
	uint64_t need;
	int r;

	if (a->nr + nr > HELD)
		return;
	r = mem_alloc(a->c, a->s[below(2)], 0, nr, a->h + a->nr, p, &need);
	if (r == 0)
		a->nr += nr;
	else
		assert_true(r == -EAGAIN || r == -ENOSPC || r == -EDQUOT ||
			    r == -EINVAL);
}

/* Most are published first, under names that may be taken. */
static void actor_release(struct actor *a)
{
	for (uint32_t i = below(24); i && a->nr; i--) {
		uint32_t at = below(a->nr);
		handle_t h = a->h[at], out[MEM_MAX_CLASSES];
		place_t p[MEM_MAX_CLASSES];

		a->h[at] = a->h[--a->nr];
		for (uint32_t s = 0; s < 2; s++) {
			struct mem_block b = fx_block(a->s[s], below(5000), 0);

			b.pages[0] = h;
			if (below(8) && mem_publish(a->c, a->s[s], &b, false,
						    out, p) == 0 &&
			    out[0] != h)
				fx_release(a->c, out[0]);
		}
		fx_release(a->c, h);
	}
}

static uint64_t random_bytes(uint64_t most)
{
	return below(5) ? below((uint32_t)most) : 0;
}

static void actor_limit(struct actor *a)
{
	struct mem_limits l = { random_bytes(6 * MIB), random_bytes(12 * MIB),
				random_bytes(16 * MIB) };
	uint64_t min = l.min_bytes;
	bool good = (!l.high_bytes || l.min_bytes <= l.high_bytes) &&
		    (!l.max_bytes || l.min_bytes <= l.max_bytes) &&
		    (!l.high_bytes || !l.max_bytes ||
		     l.high_bytes <= l.max_bytes);
	int r = mem_tenant_set(rf.m, names[a - actors], &l);

	for (int i = 0; i < TENANTS; i++)
		min += &actors[i] == a ? 0 : actors[i].l.min_bytes;
	assert_int_equal(r, !good ? -EINVAL : min > 12 * MIB ? -ERANGE : 0);
	if (r == 0)
		a->l = l;
}

/* Return: did it allocate? */
static bool actor_step(struct actor *a)
{
	uint32_t n = below(100);

	if (!a->c)
		actor_start(a);
	else if (n < 48)
		actor_alloc(a);
	else if (n < 90)
		actor_release(a);
	else if (n < 93)
		actor_limit(a);
	else if (n < 95)
		actor_die(a);
	else
		dev_reap(rf.dev);
	return a->c && n < 48;
}

/* What @a did has cost others what is above their min, no more. */
static void check_others(const struct actor *a, const uint64_t *before)
{
	for (int i = 0; i < TENANTS; i++) {
		uint64_t now = stat_of(&rf, names[i]).charged;

		if (&actors[i] == a || now == before[i])
			continue;
		assert_true(now < before[i] && now >= actors[i].l.min_bytes);
		taken++;
		kept += actors[i].l.min_bytes > 0;
	}
}

static void actor_check(const struct actor *a)
{
	struct mem_tenant_stat st = stat_of(&rf, names[a - actors]);
	uint64_t target = a->l.high_bytes ? a->l.high_bytes : a->l.max_bytes;
	uint64_t cached = st.bytes.of[PAGE_CACHED];

	assert_memory_equal(&st.limits, &a->l, sizeof(a->l));
	assert_int_equal(st.charged, st.bytes.total - st.bytes.of[PAGE_FREE]);
	if (a->c)
		assert_int_equal(a->l.high_bytes &&
					 st.charged - cached > a->l.high_bytes,
				 mem_client_delay_ms(a->c) > 0);
	if (!target || below(100))
		return;
	mem_tick(rf.m); /* fewer than one step's */
	st = stat_of(&rf, names[a - actors]);
	assert_true(st.charged <= target || st.bytes.of[PAGE_CACHED] == 0);
}

static void test_random(void **state)
{
	const char *seed = getenv("KVD_SEED"), *steps = getenv("KVD_STEPS");
	unsigned long nr = steps ? strtoul(steps, NULL, 0) : 60000;
	uint64_t before[TENANTS];

	rng = seed ? strtoull(seed, NULL, 0) : (uint64_t)time(NULL) * 2654435761u;
	rng |= 1;
	printf("KVD_SEED=%llu KVD_STEPS=%lu\n", (unsigned long long)rng, nr);
	fflush(stdout);
	fx_init_pages(&rf, 12 * MIB, TABLE);
	rf.cfg.segment_bytes = 2 * MIB;
	for (int i = 0; i < TENANTS; i++)
		actors[i].pid = 1000 * i;
	for (unsigned long i = 1; i <= nr; i++) {
		struct actor *a = &actors[below(TENANTS)];

		for (int t = 0; t < TENANTS; t++)
			before[t] = stat_of(&rf, names[t]).charged;
		if (actor_step(a))
			check_others(a, before);
		actor_check(a);
		if (i % 1000 == 0)
			fx_verify(&rf);
	}
	printf("%llu times from others, %llu from one with a min\n",
	       (unsigned long long)taken, (unsigned long long)kept);
	for (int i = 0; i < TENANTS; i++)
		mem_client_free(actors[i].c, MEM_END_DEAD);
	for (int i = 0; i < TENANTS; i++)
		assert_int_equal(stat_of(&rf, names[i]).charged,
				 stat_of(&rf, names[i]).bytes.of[PAGE_CACHED]);
	fx_fini(&rf);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bad),
		cmocka_unit_test(test_before),
		cmocka_unit_test(test_min_numbers),
		cmocka_unit_test(test_min_segments),
		cmocka_unit_test(test_min_spaces),
		cmocka_unit_test(test_high),
		cmocka_unit_test(test_delay),
		cmocka_unit_test(test_lower_max),
		cmocka_unit_test(test_steps),
		cmocka_unit_test(test_grace),
		cmocka_unit_test(test_apart),
		cmocka_unit_test(test_random),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
