/* SPDX-License-Identifier: Apache-2.0 */
/*
 * steps.c - what a client that dies had, and what nobody claims, goes back a
 * step at a time; between two everything adds up, and others are served.
 *
 * Pages are 16 KiB. A step is 256 pages. KVD_PAGES makes the last test larger,
 * whose longest steps are printed.
 */
#include "tests/mem/fixture.h"
#include "daemon/mem/quarantine.h"

#include <stdio.h>
#include <time.h>

#define STEP 256u
#define NR   (4 * STEP)

static const uint32_t tiny[] = { 1, 0 };

static handle_t h[NR];

static uint64_t held(struct fx *f)
{
	return fx_pages(f, PAGE_OPEN) + fx_pages(f, PAGE_SEALED);
}

static bool nobody_lives(pid_t pid, uint64_t start_time)
{
	return false;
}

static bool all_live(pid_t pid, uint64_t start_time)
{
	return true;
}

static struct mem_client *client_with(struct fx *f, pid_t pid, uint32_t nr,
				      struct mem_space **s)
{
	struct mem_client *c = fx_client(f, pid, "t", 0);

	*s = fx_space(c, 1, tiny);
	for (uint32_t i = 0; i < nr; i += STEP)
		assert_int_equal(fx_alloc(f, c, *s, 0,
					  nr - i < STEP ? nr - i : STEP, h + i),
				 0);
	return c;
}

/* Open pages of a dead one, of one that may live, and of one that said bye. */
static void test_open(void **state)
{
	static const enum mem_end ends[] = { MEM_END_DEAD, MEM_END_UNKNOWN,
					     MEM_END_BYE };
	enum page_state becomes[] = { PAGE_FREE, PAGE_QUARANTINED, PAGE_FREE };

	for (int i = 0; i < 3; i++) {
		struct mem_client *c;
		struct mem_space *s;
		struct fx f;

		fx_init(&f, 64 * MIB, 16 * MIB);
		c = client_with(&f, 1, NR, &s);
		f.works = 0;
		mem_client_free(c, ends[i]);
		assert_int_equal(f.works, 1);
		for (uint32_t left = NR - STEP; left; left -= STEP) {
			assert_int_equal(held(&f), left);
			if (becomes[i])
				assert_int_equal(fx_pages(&f, becomes[i]),
						 NR - left);
			fx_verify(&f);
			assert_true(mem_trim(f.m) == (left > STEP));
		}
		assert_int_equal(held(&f), 0);
		assert_int_equal(fx_pages(&f, PAGE_QUARANTINED),
				 becomes[i] ? NR : 0);
		assert_int_equal(f.works, 1);
		/* Its process ends: that takes steps, too. */
		mem_reap_writer(f.m, 1, 1000);
		for (uint32_t left = becomes[i] ? NR - STEP : 0; left;
		     left -= STEP) {
			assert_int_equal(fx_pages(&f, PAGE_QUARANTINED), left);
			fx_verify(&f);
			mem_trim(f.m);
		}
		assert_int_equal(fx_pages(&f, PAGE_QUARANTINED), 0);
		fx_fini(&f);
	}
}

/* Published ones become CACHED, what is deep in a step before its prefix. */
static void test_sealed(void **state)
{
	struct mem_client *c;
	struct mem_space *s;
	struct fx f;

	fx_init(&f, 64 * MIB, 16 * MIB);
	c = client_with(&f, 1, NR, &s);
	for (uint32_t d = 0; d < NR; d++)
		fx_publish(c, s, d / 64, d % 64, 0, h[d]);
	mem_client_free(c, MEM_END_DEAD);
	for (uint32_t left = NR - STEP; left; left -= STEP) {
		assert_int_equal(fx_pages(&f, PAGE_SEALED), left);
		assert_int_equal(fx_pages(&f, PAGE_CACHED), NR - left);
		fx_verify(&f);
		mem_trim(f.m);
	}
	assert_int_equal(fx_pages(&f, PAGE_CACHED), NR);
	/* The newest sequence is the coldest; of it the end. */
	c = client_with(&f, 2, 32, &s);
	assert_int_equal(fx_pages(&f, PAGE_CACHED), NR);
	fx_fini(&f);
}

/* Others are served meanwhile, and who needs what comes is told to wait. */
static void test_meanwhile(void **state)
{
	struct mem_client *a, *b;
	struct mem_space *sa, *sb;
	struct fx f;
	handle_t x[64];
	place_t p[64];
	uint64_t need;

	fx_init(&f, NR * 16384ull, 16 * MIB);
	b = fx_client(&f, 2, "t", 0);
	sb = fx_space(b, 1, tiny);
	a = client_with(&f, 1, NR, &sa);
	assert_int_equal(mem_alloc(b, sb, 0, 64, x, p, &need), -EAGAIN);
	assert_int_equal(mem_alloc(b, sb, 0, 64, x, p, &need), -ENOSPC);
	assert_int_equal(f.recalls, 1);
	f.recalls = f.rooms = 0;
	fx_publish(a, sa, 7, 0, 0, h[0]);
	mem_client_free(a, MEM_END_DEAD);
	assert_int_equal(f.rooms, 1);
	/* A page that is on its way is found, and held on to. */
	assert_int_equal(mem_match(b, sb, h, 1, p), 1);
	assert_int_equal(mem_alloc(b, sb, 0, 64, x, p, &need), 0);
	for (int i = 0; i < 3; i++)
		assert_int_equal(mem_alloc(b, sb, 0, 64, x, p, &need), 0);
	assert_int_equal(mem_alloc(b, sb, 0, 64, x, p, &need), -EAGAIN);
	fx_verify(&f);
	while (mem_trim(f.m))
		fx_verify(&f);
	assert_int_equal(f.rooms, 2);
	assert_int_equal(mem_alloc(b, sb, 0, 64, x, p, &need), 0);
	assert_int_equal(f.recalls, 0); /* the dead were not asked */
	assert_int_equal(fx_lookup(sb, 7, 0, 0), h[0]);
	assert_int_equal(fx_pages(&f, PAGE_SEALED), 1);
	fx_fini(&f);
}

/* It comes back before all is quarantined, and takes back what it wrote. */
static void test_claim(void **state)
{
	struct mem_client *c;
	struct mem_space *s;
	struct fx f;

	fx_init(&f, 64 * MIB, 16 * MIB);
	c = client_with(&f, 1, NR, &s);
	mem_client_free(c, MEM_END_UNKNOWN);
	assert_int_equal(fx_pages(&f, PAGE_QUARANTINED), STEP);
	c = fx_client(&f, 1, "t", 0);
	s = fx_space(c, 1, tiny);
	/* Those that are, first: the writer is empty, and yet awaited. */
	for (uint32_t i = NR; i-- > NR - STEP;)
		assert_int_equal(mem_claim(c, s, h[i], 1), 0);
	assert_int_equal(fx_pages(&f, PAGE_QUARANTINED), 0);
	fx_verify(&f);
	for (uint32_t i = 0; i < 10; i++)
		assert_int_equal(mem_claim(c, s, h[i], 1), 0);
	while (mem_trim(f.m))
		fx_verify(&f);
	assert_int_equal(fx_pages(&f, PAGE_OPEN), STEP + 10);
	assert_int_equal(fx_pages(&f, PAGE_QUARANTINED), NR - STEP - 10);
	mem_client_free(c, MEM_END_DEAD);
	mem_reap_writer(f.m, 1, 1000);
	while (mem_trim(f.m))
		;
	assert_int_equal(held(&f) + fx_pages(&f, PAGE_QUARANTINED), 0);

	/* What was given back by a bye is nobody's, though it is there still. */
	c = client_with(&f, 1, NR, &s);
	mem_client_free(c, MEM_END_BYE);
	assert_true(fx_pages(&f, PAGE_OPEN) > 0);
	c = fx_client(&f, 1, "t", 0);
	s = fx_space(c, 1, tiny);
	assert_int_equal(mem_claim(c, s, h[0], 1), -ESTALE);
	while (mem_trim(f.m))
		;
	assert_int_equal(held(&f), 0);
	/* Nor what its death is freeing. */
	mem_client_free(c, MEM_END_DEAD);
	c = client_with(&f, 1, NR, &s);
	mem_client_free(c, MEM_END_UNKNOWN);
	while (mem_trim(f.m))
		;
	mem_reap_writer(f.m, 1, 1000);
	assert_int_equal(fx_pages(&f, PAGE_QUARANTINED), NR - STEP);
	c = fx_client(&f, 1, "t", 0);
	s = fx_space(c, 1, tiny);
	for (uint32_t i = 0; i < NR; i++)
		assert_int_equal(mem_claim(c, s, h[i], 1), -ESTALE);
	while (mem_trim(f.m))
		;
	assert_int_equal(fx_pages(&f, PAGE_QUARANTINED), 0);
	fx_fini(&f);
}

/* Its process ends before its pages are all quarantined. */
static void test_reap_early(void **state)
{
	struct mem_client *c;
	struct mem_space *s;
	struct fx f;

	fx_init(&f, 64 * MIB, 16 * MIB);
	c = client_with(&f, 1, NR, &s);
	mem_client_free(c, MEM_END_UNKNOWN);
	mem_reap_writer(f.m, 1, 1000);
	fx_verify(&f);
	while (mem_trim(f.m))
		fx_verify(&f);
	assert_int_equal(held(&f) + fx_pages(&f, PAGE_QUARANTINED), 0);
	fx_fini(&f);
}

static void count_writer(void *ctx, const struct mem_writer *w)
{
	uint64_t *nr = ctx;

	assert_true(w->pid == 1 && w->start_time == 1000);
	assert_string_equal(w->tenant, "t");
	*nr += w->pages;
}

/* Pages that wait for process 1, which has @left. */
static void check_waiting(const struct fx *f, uint64_t left)
{
	uint64_t nr = 0;

	mem_writers(f->m, count_writer, &nr);
	assert_int_equal(nr, left);
	assert_int_equal(mem_writer_pages(f->m, 1, 1000), left);
	assert_int_equal(mem_writer_pages(f->m, 1, 999), 0);
	assert_int_equal(mem_writer_pages(f->m, 2, 1000), 0);
}

/*
 * What is in quarantine is released while its process lives, before all of it
 * is there: that is free by steps, and nobody's any more. What comes after it
 * waits, and so do the segments.
 */
static void test_release(void **state)
{
	const struct dev_segment *seg;
	struct mem_client *c, *other;
	struct mem_space *s;
	struct mem_stat st;
	uint64_t pages;
	uint32_t id;
	struct fx f;

	fx_init(&f, 16 * MIB, 16 * MIB);
	c = client_with(&f, 1, NR - STEP, &s);
	assert_int_equal(mem_segments(s, &id, 1), 1);
	assert_int_equal(mem_segment_get(s, id, &seg), 0);
	assert_int_equal(mem_writer_release(f.m, 1, 1000, &pages), 0);
	assert_int_equal(pages, 0);
	mem_client_free(c, MEM_END_UNKNOWN);
	check_waiting(&f, NR - STEP);
	assert_int_equal(mem_writer_release(f.m, 1, 999, &pages), 0);
	assert_int_equal(pages, 0);
	assert_int_equal(mem_writer_release(f.m, 1, 1000, &pages), 0);
	assert_int_equal(pages, NR - STEP);
	check_waiting(&f, 0);
	fx_verify(&f);
	assert_int_equal(mem_writer_release(f.m, 1, 1000, &pages), 0);
	assert_int_equal(pages, 0);
	c = fx_client(&f, 1, "t", 0);
	s = fx_space(c, 1, tiny);
	assert_int_equal(mem_claim(c, s, h[0], 1), -ESTALE);
	assert_int_equal(fx_alloc(&f, c, s, 0, 10, h), 0);
	mem_client_free(c, MEM_END_UNKNOWN);
	check_waiting(&f, 10);
	while (mem_trim(f.m))
		fx_verify(&f);
	assert_int_equal(held(&f), 0);
	assert_int_equal(fx_pages(&f, PAGE_QUARANTINED), 10);
	f.works = 0;
	assert_int_equal(mem_writer_release(f.m, 1, 1000, &pages), 0);
	assert_int_equal(pages, 10);
	assert_int_equal(f.works, 1);
	while (mem_trim(f.m))
		fx_verify(&f);
	mem_stat(f.m, &st);
	assert_int_equal(st.released, NR - STEP + 10);
	assert_int_equal(st.pages.of[PAGE_QUARANTINED], 0);

	other = fx_client(&f, 2, "u", 0);
	s = fx_space(other, 1, tiny);
	assert_int_equal(fx_alloc(&f, other, s, 0, 1, h), -ENOSPC);
	mem_reap_writer(f.m, 1, 1000);
	assert_int_equal(fx_alloc(&f, other, s, 0, 1, h), 0);
	mem_client_free(other, MEM_END_DEAD);
	fx_fini(&f);
}

/* The daemon goes while it is at it: nothing is lost, nothing stays. */
static void test_restart(void **state)
{
	struct mem_client *c;
	struct mem_space *s;
	struct fx f;

	fx_init(&f, 64 * MIB, 16 * MIB);
	if (!dev_ops(f.dev)->survives)
		skip();
	c = client_with(&f, 1, NR, &s);
	for (uint32_t d = 0; d < NR / 2; d++)
		fx_publish(c, s, d / 64, d % 64, 0, h[d]);
	mem_client_free(c, MEM_END_DEAD);
	assert_int_equal(held(&f), NR - STEP);
	fx_restart(&f);
	assert_int_equal(fx_pages(&f, PAGE_CACHED), NR / 2);
	assert_int_equal(fx_pages(&f, PAGE_OPEN), NR / 2 - STEP);
	mem_grace_end(f.m, nobody_lives);
	while (mem_trim(f.m))
		fx_verify(&f);
	assert_int_equal(held(&f), 0);
	assert_int_equal(fx_pages(&f, PAGE_CACHED), NR / 2);
	fx_fini(&f);
}

/* The end of the grace time: of writers that live, that do not, of nobody. */
static void test_grace(void **state)
{
	struct mem_client *c;
	struct mem_space *s;
	struct fx f;

	fx_init(&f, 64 * MIB, 16 * MIB);
	if (!dev_ops(f.dev)->survives)
		skip();
	for (int alive = 0; alive < 2; alive++) {
		c = client_with(&f, 1, NR, &s);
		for (uint32_t i = 0; i < NR / 2; i++) {
			struct mem_block b = fx_block(s, i, 0);
			handle_t to[MEM_MAX_CLASSES];
			place_t places[MEM_MAX_CLASSES];

			b.pages[0] = h[i];
			assert_int_equal(mem_publish(c, s, &b, true, to,
						     places), 0);
		}
		fx_restart(&f);
		f.works = 0;
		assert_int_equal(held(&f), NR);
		mem_grace_end(f.m, alive ? all_live : nobody_lives);
		assert_int_equal(f.works, 1);
		assert_int_equal(held(&f), NR - STEP);
		fx_verify(&f);
		c = fx_client(&f, 2, "t", 0);
		s = fx_space(c, 1, tiny);
		while (mem_trim(f.m)) {
			fx_verify(&f);
			fx_release(c, fx_page(&f, c, s, 0));
		}
		mem_client_free(c, MEM_END_DEAD);
		assert_int_equal(held(&f), 0);
		assert_int_equal(fx_pages(&f, PAGE_QUARANTINED),
				 alive ? NR / 2 : 0);
	}
	fx_fini(&f);
}

/* ---- how long ---- */

static uint64_t cpu_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static void longer(uint64_t *longest, uint64_t since)
{
	uint64_t us = cpu_us() - since;

	*longest = us > *longest ? us : *longest;
}

static void trim_all(struct fx *f, uint64_t *longest)
{
	uint64_t t;
	bool more;

	do {
		t = cpu_us();
		more = mem_trim(f->m);
		longer(longest, t);
	} while (more);
}

static void test_time(void **state)
{
	const char *pages = getenv("KVD_PAGES");
	uint32_t nr = pages ? (uint32_t)strtoul(pages, NULL, 0) : 20000;
	uint64_t longest[5] = { 0 }, t;
	handle_t *all = calloc(nr, sizeof(*all));
	struct mem_client *c;
	struct mem_space *s;
	struct fx f;

	nr = nr / 100 * 100;
	fx_init(&f, (nr / 16384 + 2) * 256ull * MIB, 256 * MIB);
	c = fx_client(&f, 1, "t", 0);
	s = fx_space(c, 1, tiny);
	for (uint32_t i = 0; i < nr; i += 100) {
		t = cpu_us();
		assert_int_equal(fx_alloc(&f, c, s, 0, 100, all + i), 0);
		longer(&longest[0], t);
	}
	for (uint32_t i = 0; i < nr / 2; i++)
		fx_publish(c, s, i / 64, i % 64, 0, all[i]);
	t = cpu_us();
	mem_client_free(c, MEM_END_UNKNOWN);
	longer(&longest[1], t);
	trim_all(&f, &longest[1]);
	t = cpu_us();
	mem_reap_writer(f.m, 1, 1000);
	longer(&longest[2], t);
	trim_all(&f, &longest[2]);
	assert_int_equal(held(&f), 0);
	assert_int_equal(fx_pages(&f, PAGE_CACHED), nr / 2);
	if (dev_ops(f.dev)->survives) {
		c = fx_client(&f, 1, "t", 0);
		s = fx_space(c, 1, tiny);
		for (uint32_t i = nr / 2; i < nr; i += 100)
			assert_int_equal(fx_alloc(&f, c, s, 0, 100, all + i), 0);
		fx_restart(&f);
		t = cpu_us();
		mem_grace_end(f.m, all_live);
		longer(&longest[3], t);
		trim_all(&f, &longest[3]);
	}
	print_message("%u pages, computing in the longest step: alloc %llu us, "
		      "death %llu us, reap %llu us, end of grace %llu us\n", nr,
		      (unsigned long long)longest[0],
		      (unsigned long long)longest[1],
		      (unsigned long long)longest[2],
		      (unsigned long long)longest[3]);
	free(all);
	fx_fini(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_open),
		cmocka_unit_test(test_sealed),
		cmocka_unit_test(test_meanwhile),
		cmocka_unit_test(test_claim),
		cmocka_unit_test(test_reap_early),
		cmocka_unit_test(test_release),
		cmocka_unit_test(test_restart),
		cmocka_unit_test(test_grace),
		cmocka_unit_test(test_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
