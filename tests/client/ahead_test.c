// SPDX-License-Identifier: Apache-2.0
/*
 * ahead_test.c - a long match, which asks for pages many requests at a time.
 *
 * Pages are made to go between the lookup and any of the requests, memory to
 * run out and the daemon to die amid them. What is found then is what is left,
 * and nothing stays held. A new client has the segments mapped beforehand.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "client-lib/map.h"
#include "client-lib/match.h"
#include "tests/client/toy.h"
#include "tests/support/check.h"
#include "tests/support/daemon.h"

#define CHUNK  (ASK_PAGES - 1)
#define ASKS   (ASKS_AHEAD + 2) /* the ring goes round */
#define BLOCKS (CHUNK * (ASKS - 1) + CHUNK / 2)
#define P      TOY_PAGE
#define N      ((size_t)BLOCKS * P)

static struct daemon d;
static struct kvd_space_opts opts;
static uint32_t *tokens;
static uint64_t hits, misses; /* of all that was matched */

/* ---- what goes wrong ---- */

#define NEVER UINT32_MAX

static uint32_t lose[2] = { NEVER, NEVER }; /* blocks whose pages have gone */
static handle_t gone[2];		    /* those, once asked for */
static bool moved;			    /* but for the first time only */
static uint32_t refuse_at = NEVER;	    /* which place cannot be mapped */
static uint32_t kill_at_begin = NEVER, kill_at_end = NEVER;
static uint32_t nr_begun, nr_ended, nr_way, most_way, nr_maps;

int __real_request_match_begin(struct kvd_space *sp, struct request_match *q,
			       const handle_t *handles, uint32_t nr);
int __wrap_request_match_begin(struct kvd_space *sp, struct request_match *q,
			       const handle_t *handles, uint32_t nr);
int __real_request_match_end(struct kvd_space *sp, struct request_match *q,
			     uint32_t *ret_granted, place_t *places);
int __wrap_request_match_end(struct kvd_space *sp, struct request_match *q,
			     uint32_t *ret_granted, place_t *places);
int __real_request_map(struct kvd_space *sp, uint32_t id,
		       struct device_segment *s);
int __wrap_request_map(struct kvd_space *sp, uint32_t id,
		       struct device_segment *s);
int __real_map_place(struct kvd_space *sp, place_t place, uint32_t page_class,
		     uint32_t *ret_segment);
int __wrap_map_place(struct kvd_space *sp, place_t place, uint32_t page_class,
		     uint32_t *ret_segment);

static const char *const args[] = { "--pool", "256M", NULL };

static void daemon_again(void)
{
	daemon_kill(&d);
	daemon_start_in(&d, args);
}

static void refuse(handle_t *handles, uint32_t nr)
{
	for (uint32_t k = 0; k < nr; k++)
		for (int i = 0; i < 2; i++)
			if (gone[i] && handles[k] == gone[i]) {
				handles[k] += 1ULL << 32;
				gone[i] = moved ? 0 : gone[i];
			}
}

/* As if the daemon had reclaimed the pages after the lookup. */
int __wrap_request_match_begin(struct kvd_space *sp, struct request_match *q,
			       const handle_t *handles, uint32_t nr)
{
	static handle_t changed[WIRE_MAX_PAGES];
	uint32_t first = nr_begun * CHUNK;
	int r;

	if (nr_begun++ == kill_at_begin)
		daemon_again();
	memcpy(changed, handles, nr * sizeof(*handles));
	for (int i = 0; i < 2; i++)
		if (lose[i] >= first && lose[i] < first + nr) {
			gone[i] = handles[lose[i] - first];
			lose[i] = NEVER;
		}
	refuse(changed, nr);
	r = __real_request_match_begin(sp, q, changed, nr);
	if (!r && ++nr_way > most_way)
		most_way = nr_way;
	return r;
}

int __wrap_request_match_end(struct kvd_space *sp, struct request_match *q,
			     uint32_t *ret_granted, place_t *places)
{
	if (nr_ended++ == kill_at_end)
		daemon_again();
	nr_way--;
	return __real_request_match_end(sp, q, ret_granted, places);
}

int __wrap_request_map(struct kvd_space *sp, uint32_t id,
		       struct device_segment *s)
{
	nr_maps++;
	return __real_request_map(sp, id, s);
}

int __wrap_map_place(struct kvd_space *sp, place_t place, uint32_t page_class,
		     uint32_t *ret_segment)
{
	if (refuse_at != NEVER && refuse_at-- == 0)
		return -ENOMEM;
	return __real_map_place(sp, place, page_class, ret_segment);
}

/* ---- sequences ---- */

static void append(struct toy *t, struct kvd_seq *seq, size_t i)
{
	static const float zero[P * 32];
	const struct kvd_item item = { seq, P };
	const struct kvd_append_args kv = { .size = sizeof(kv),
					    .dtype = KVD_DTYPE_F32,
					    .items = &item,
					    .nr_items = 1,
					    .k = zero,
					    .v = zero };

	CHECK(!kvd_append(t->sp, &kv) && !kvd_commit(seq, tokens + i, P, NULL),
	      "%s", kvd_error(t->k));
}

static void publish(void)
{
	struct kvd_seq *seq;
	struct toy t;

	toy_open(&t, d.socket, &opts);
	CHECK(!kvd_seq_new(t.sp, NULL, &seq), "%s", kvd_error(t.k));
	for (size_t i = 0; i < N; i += P)
		append(&t, seq, i);
	kvd_seq_free(seq);
	toy_close(&t);
}

static void start(void)
{
	nr_begun = nr_ended = nr_way = most_way = 0;
}

/* A sequence of its own is matched: -E, or what is found, which then goes. */
static long match(struct toy *t, const struct kvd_seq_opts *o)
{
	struct kvd_seq *seq;
	size_t hit = 0, nr;
	int r;

	CHECK(!kvd_seq_new(t->sp, o, &seq), "%s", kvd_error(t->k));
	start();
	r = kvd_seq_match(seq, tokens, N, &hit);
	CHECK(nr_way == 0, "%u requests have not ended", nr_way);
	if (!r) {
		CHECK(kvd_seq_tokens(seq) == hit, "%zu tokens", hit);
		CHECK(!hit || !memcmp(seq->tokens, tokens, hit * 4),
		      "other tokens");
		CHECK(!kvd_seq_pages(seq, 0, NULL, 0, &nr) && nr == hit / P,
		      "%zu pages", nr);
		hits += hit;
		misses += N - hit;
	}
	kvd_seq_free(seq);
	return r ? r : (long)hit;
}

static void assert_nothing_held(struct toy *t)
{
	struct daemon_stat st;

	kvd_process(t->k);
	daemon_stat(d.socket, &st);
	CHECK(st.sealed == 0, "%llu pages are held",
	      (unsigned long long)st.sealed);
}

/* ---- tests ---- */

static void test_all(void)
{
	struct toy t;
	long hit;

	nr_maps = 0;
	toy_open(&t, d.socket, &opts);
	CHECK(nr_maps, "nothing was mapped ahead");
	nr_maps = 0;
	hit = match(&t, NULL);
	CHECK(hit == (long)N, "%ld of %zu found", hit, N);
	CHECK(nr_begun == ASKS && most_way == ASKS_AHEAD,
	      "%u requests, %u at once", nr_begun, most_way);
	CHECK(nr_maps == 0, "%u segments mapped within a match", nr_maps);
	assert_nothing_held(&t);
	toy_close(&t);
}

static void check_lost(struct toy *t, uint32_t a, uint32_t b)
{
	uint32_t first = a < b ? a : b;
	struct kvd_seq_opts o = { .size = sizeof(o), .no_partial = 1 };
	long hit;

	lose[0] = a;
	lose[1] = b;
	hit = match(t, &o);
	CHECK(hit == (long)first * P, "%ld tokens found, page %u had gone", hit,
	      first);
	lose[0] = lose[1] = NEVER;
	gone[0] = gone[1] = 0;
	assert_nothing_held(t);
}

/* One page has gone, wherever; what later requests brought is given back. */
static void test_lost(void)
{
	struct toy t;

	toy_open(&t, d.socket, &opts);
	for (uint32_t i = 0; i < ASKS; i++) {
		uint32_t first = i * CHUNK;

		check_lost(&t, first, NEVER);
		check_lost(&t, first + CHUNK / 3, NEVER);
		check_lost(&t, first + CHUNK / 2 - 1, NEVER);
		check_lost(&t, first + CHUNK / 3, first / 2);
	}
	CHECK(match(&t, NULL) == (long)N, "all is there still");
	toy_close(&t);
}

/* It is elsewhere, or demoted: the index has it, and says where. */
static void test_moved(void)
{
	struct toy t;

	toy_open(&t, d.socket, &opts);
	moved = true;
	lose[0] = CHUNK / 3;
	lose[1] = CHUNK + CHUNK / 3;
	CHECK(match(&t, NULL) == (long)N, "what has moved was not found");
	CHECK(lose[0] == NEVER && !gone[0] && !gone[1] &&
	      nr_begun > ASKS, "nothing had moved");
	moved = false;
	assert_nothing_held(&t);
	toy_close(&t);
}

/* The list of what is to be released is sent while replies are to come. */
static void test_memory(void)
{
	struct toy t;

	toy_open(&t, d.socket, &opts);
	for (uint32_t i = 0; i < 3; i++) {
		refuse_at = i * CHUNK + 1;
		CHECK(match(&t, NULL) == -ENOMEM, "not all was taken");
		CHECK(refuse_at == NEVER, "nothing was refused");
		assert_nothing_held(&t);
	}
	CHECK(match(&t, NULL) == (long)N, "the connection is as it was");
	toy_close(&t);
}

/* The counts of all matches have come, those of the failed ones taken back. */
static void test_counts(void)
{
	struct daemon_stat st;

	daemon_stat(d.socket, &st);
	CHECK(st.hits == hits && st.misses == misses,
	      "%llu hits of %llu, %llu misses of %llu",
	      (unsigned long long)st.hits, (unsigned long long)hits,
	      (unsigned long long)st.misses, (unsigned long long)misses);
}

/* Another daemon has nothing of it, whatever the last one still answered. */
static void test_killed(uint32_t begin, uint32_t end)
{
	struct toy t;
	long hit;

	publish();
	toy_open(&t, d.socket, &opts);
	kill_at_begin = begin;
	kill_at_end = end;
	hit = match(&t, NULL);
	CHECK(hit == 0 || (hit == (long)N && end != NEVER),
	      "%ld tokens found", hit);
	CHECK(begin == NEVER || nr_begun > begin, "it was not killed");
	CHECK(end == NEVER || nr_ended > end, "it was not killed");
	kill_at_begin = kill_at_end = NEVER;
	assert_nothing_held(&t);
	toy_close(&t);
	daemon_assert_idle(&d);
}

int main(void)
{
	uint64_t seed = toy_seed();

	tokens = malloc(N * sizeof(*tokens));
	CHECK(tokens, "out of memory");
	toy_tokens(&seed, tokens, N);
	toy_opts(&opts, 1);
	opts.geometry.groups[0].nr_layers = 1;
	opts.geometry.groups[0].nr_kv_heads = 1;
	daemon_start(&d, args);
	publish();
	hits = misses = 0;
	test_all();
	test_lost();
	test_moved();
	test_memory();
	test_counts();
	daemon_assert_idle(&d);
	for (uint32_t i = 0; i < 3; i++)
		test_killed(i, NEVER);
	for (uint32_t i = 0; i < ASKS; i++)
		test_killed(NEVER, i);
	daemon_stop(&d);
	free(tokens);
	return 0;
}
