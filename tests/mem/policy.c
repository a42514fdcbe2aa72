/* SPDX-License-Identifier: Apache-2.0 */
/*
 * policy.c - what policies remember, learn and give up.
 */
#include "tests/mem/fixture.h"
#include "daemon/mem/ghost.h"
#include "daemon/mem/policy.h"
#include "daemon/mem/reuse.h"

static uint32_t rng_state;

static uint32_t rng(uint32_t n)
{
	rng_state = rng_state * 1664525 + 1013904223;
	return (rng_state >> 8) % n;
}

/* ---- ghosts ---- */

#define NAMES 500
#define MAX   128

/* As evenly spread as a hash. */
static uint64_t name_of(uint32_t i)
{
	uint64_t h = (i + 1) * 0x9e3779b97f4a7c15;

	h = (h ^ h >> 32) * 0xd6e8feb86659fd93;
	return h ^ h >> 32;
}

/*
 * Nothing is found that was not added, or was taken; of what was added last
 * nearly all is: of the newest half of MAX 1 in 20 is not, where names are
 * random. Released is a page some time before it is given up.
 */
static void test_ghost(void **state)
{
	struct { uint32_t stamp, at, kind; } added[NAMES] = { { 0 } };
	uint32_t clock = 1000, recent = 0, found = 0;
	struct list all;
	struct ghosts *g;

	list_init(&all);
	g = ghosts_get(&all, 4096, MAX);
	rng_state = 1;
	for (int step = 0; step < 100000; step++) {
		uint32_t i = rng(NAMES), kind = 9;
		uint64_t age = 0;

		if (rng(3) == 0) {
			bool is = ghost_take(g, name_of(i), clock, &age, &kind);

			assert_true(!is || (added[i].at &&
					    age == clock - added[i].stamp &&
					    kind == added[i].kind));
			if (added[i].at && clock - added[i].at < MAX / 2) {
				recent++;
				found += is;
			}
			added[i].at = 0;
			continue;
		}
		added[i].at = ++clock;
		added[i].stamp = clock - rng(8);
		added[i].kind = rng(GHOST_KINDS);
		ghost_add(g, name_of(i), added[i].stamp, added[i].kind, clock);
	}
	assert_true(recent > 2000 && found > recent * 9 / 10);
	ghosts_put(g);
	assert_true(list_empty(&all));
}

/* One memory for a page size, and yet no shelf meets another's names. */
static void test_ghosts_shared(void **state)
{
	struct list all;
	struct ghosts *a, *b, *other;
	uint64_t one, two, age;
	uint32_t kind;

	list_init(&all);
	a = ghosts_get(&all, 4096, MAX);
	b = ghosts_get(&all, 4096, MAX);
	other = ghosts_get(&all, 8192, MAX);
	assert_ptr_equal(a, b);
	assert_ptr_not_equal(a, other);
	one = ghosts_salt(a);
	two = ghosts_salt(b);
	ghost_add(a, name_of(1) ^ one, 5, 2, 6);
	assert_false(ghost_take(b, name_of(1) ^ two, 7, &age, &kind));
	assert_false(ghost_take(other, name_of(1) ^ one, 7, &age, &kind));
	ghosts_put(b);
	assert_true(ghost_take(a, name_of(1) ^ one, 7, &age, &kind));
	assert_int_equal(age, 2);
	assert_int_equal(kind, 2);
	assert_false(ghost_take(a, name_of(1) ^ one, 7, &age, &kind));
	ghosts_put(a);
	ghosts_put(other);
	assert_true(list_empty(&all));
}

/* ---- what is learned ---- */

static void test_ages(void **state)
{
	struct reuse r;

	reuse_init(&r, 1600);
	assert_int_equal(reuse_age(&r, 0), 0);
	assert_int_equal(reuse_age(&r, 99), 0);
	assert_int_equal(reuse_age(&r, 100), 1);
	assert_int_equal(reuse_age(&r, 200), 1 + REUSE_STEPS);
	assert_int_equal(reuse_age(&r, 100 * (1 << REUSE_OCTAVES) - 1),
			 REUSE_AGES - 1);
	assert_int_equal(reuse_age(&r, 100 * (1 << REUSE_OCTAVES)), REUSE_AGES);
	assert_int_equal(reuse_age(&r, UINT64_MAX), REUSE_AGES);
}

/* Knowing nothing, what has waited longer is worth less. */
static void test_unlearned(void **state)
{
	struct reuse r;

	reuse_init(&r, 1600);
	for (uint32_t age = 1; age <= REUSE_AGES; age++)
		assert_true(r.worth[0][age] < r.worth[0][age - 1]);
}

/* Waits of kind 1 end after 800 ticks, half of them; kind 0's never do. */
static void test_learned(void **state)
{
	struct reuse r;
	uint32_t peak;

	reuse_init(&r, 1600);
	peak = reuse_age(&r, 800);
	for (int i = 0; i < 20000; i++) {
		reuse_wait(&r, 0);
		reuse_wait(&r, 1);
		if (i % 2)
			reuse_use(&r, 1, 800);
		if (i % 100 == 0)
			reuse_learn(&r);
	}
	reuse_learn(&r);
	/* The nearer the use, the more it is worth; then nothing is. */
	for (uint32_t age = 1; age <= peak; age++)
		assert_true(r.worth[1][age] > r.worth[1][age - 1]);
	assert_true(r.worth[1][peak + 1] < r.worth[1][0] / 4);
	assert_true(r.worth[0][0] < r.worth[1][0] / 4);
}

/* ---- policies at work ---- */

#define PAGES 128 /* of the pool */
#define DOC   8	  /* pages of a document */

struct work {
	struct fx f;
	struct mem_client *c;
	struct mem_space *s;
	uint32_t hits, pages;
};

static void work_init(struct work *w, const char *policy)
{
	static const uint32_t layers[] = { 4, 0 };

	fx_init(&w->f, PAGES * 64 * 1024, 4 * MIB);
	mem_free(w->f.m);
	fx_forget(&w->f);
	w->f.cfg.policy = policy;
	assert_int_equal(fx_new(&w->f), 0);
	w->c = fx_client(&w->f, 1, "t", 0);
	w->s = fx_space(w->c, 1, layers);
	w->hits = w->pages = 0;
}

/* Of documents no end is there without its beginning. */
static void check_prefixes(const struct work *w, uint32_t nr_docs)
{
	for (uint32_t doc = 0; doc < nr_docs; doc++)
		for (uint32_t d = 1; d < DOC; d++)
			if (fx_lookup(w->s, doc, d, 0))
				assert_true(fx_lookup(w->s, doc, d - 1, 0));
}

/* A request that reads document @doc: what is there, and the rest anew. */
static void work_read(struct work *w, uint32_t doc)
{
	handle_t h[DOC];
	place_t places[DOC];
	uint32_t nr = 0, released;

	while (nr < DOC && (h[nr] = fx_lookup(w->s, doc, nr, 0)))
		nr++;
	assert_int_equal(mem_match(w->c, w->s, h, nr, places), nr);
	if (nr < DOC)
		assert_int_equal(fx_alloc(&w->f, w->c, w->s, 0, DOC - nr,
					  h + nr), 0);
	for (uint32_t d = nr; d < DOC; d++)
		assert_int_equal(fx_publish(w->c, w->s, doc, d, 0, h[d]), h[d]);
	assert_int_equal(mem_release(w->c, h, DOC, &released), 0);
	w->hits += nr;
	w->pages += DOC;
}

/* Return: percent of pages that were there. */
static uint32_t work_fini(struct work *w)
{
	fx_fini(&w->f);
	return w->hits * 100 / w->pages;
}

/* Round and round over more than the pool holds: of 20 documents 16 fit. */
static uint32_t read_rounds(const char *policy)
{
	struct work w;

	work_init(&w, policy);
	for (uint32_t i = 0; i < 2000; i++) {
		work_read(&w, i % 20);
		if (i % 50 == 0)
			check_prefixes(&w, 20);
	}
	fx_verify(&w.f);
	return work_fini(&w);
}

/* Few documents are read often, among many that are read once. */
static uint32_t read_scans(const char *policy)
{
	struct work w;
	uint32_t once = 100;

	rng_state = 2;
	work_init(&w, policy);
	for (uint32_t i = 0; i < 2000; i++)
		work_read(&w, rng(3) ? once++ : rng(12));
	return work_fini(&w);
}

/* A document is read some times in a short while, and never again. */
static uint32_t read_recent(const char *policy)
{
	struct work w;

	rng_state = 3;
	work_init(&w, policy);
	for (uint32_t i = 0; i < 2000; i++)
		work_read(&w, i / 5 + rng(18));
	return work_fini(&w);
}

static void test_hits(void **state)
{
	/* LRU has just given up what comes next. */
	assert_int_equal(read_rounds("lru"), 0);
	assert_true(read_rounds("density") >= 60);
	/* 12 documents would fit, if they were known. */
	assert_true(read_scans("density") > read_scans("lru") + 5);
	assert_true(read_scans("s3fifo") > read_scans("lru") + 5);
	/* Where age is all that tells, nothing is lost. */
	assert_true(read_recent("density") + 1 >= read_recent("lru"));
}

static void test_unknown(void **state)
{
	assert_null(policy_find("fifo"));
	assert_ptr_equal(policy_find(""), policy_find("density"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ghost),
		cmocka_unit_test(test_ghosts_shared),
		cmocka_unit_test(test_ages),
		cmocka_unit_test(test_unlearned),
		cmocka_unit_test(test_learned),
		cmocka_unit_test(test_hits),
		cmocka_unit_test(test_unknown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
