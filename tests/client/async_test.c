// SPDX-License-Identifier: Apache-2.0
/*
 * async_test.c - publish, release and NaN follow the work on the stream.
 *
 * The host's device is put behind one whose work is done only when the test
 * says so: events stay open, and an append's verdict on NaN comes late.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "client-lib/device.h"
#include "client-lib/seq.h"
#include "client-lib/space.h"
#include "tests/client/toy.h"
#include "tests/support/check.h"
#include "tests/support/daemon.h"

#define N 128u
#define MAX_LATE 64

static uint64_t recorded, completed, nr_live;
static uint32_t *late[MAX_LATE];
static unsigned nr_late;

static int late_append(struct device *d, struct kv_append_args *a,
		       uint32_t nr_pages, uint32_t *const *nonfinite,
		       kvd_stream stream)
{
	uint32_t words[8] = { 0 }, *to[8];
	int r;

	for (uint32_t i = 0; i < a->nr_seqs; i++)
		to[i] = &words[i];
	r = device_host_ops.append(d, a, nr_pages, to, stream);
	for (uint32_t i = 0; i < a->nr_seqs; i++)
		if (words[i] && nr_late < MAX_LATE)
			late[nr_late++] = nonfinite[i];
	return r;
}

static kvd_stream last_stream; /* that an event was recorded on */

static int late_record(struct device *d, kvd_stream stream,
		       struct device_event **ret)
{
	uint64_t *e = malloc(sizeof(*e));

	last_stream = stream;
	CHECK(e, "out of memory");
	*e = ++recorded;
	nr_live++;
	*ret = (struct device_event *)e;
	return 0;
}

static int late_done(struct device *d, struct device_event *e)
{
	return *(uint64_t *)e <= completed;
}

static void complete(void)
{
	completed = recorded;
	while (nr_late)
		*late[--nr_late] = 1;
}

static int late_wait(struct device *d, struct device_event *e)
{
	complete();
	return 0;
}

static void late_free(struct device *d, struct device_event *e)
{
	nr_live -= e != NULL;
	free(e);
}

static int late_sync(struct device *d)
{
	complete();
	return 0;
}

static struct device_ops late_ops;

static void open_late(struct toy *t, const char *socket)
{
	struct kvd_space_opts o;

	toy_opts_two_groups(&o, 1, 33);
	toy_open(t, socket, &o);
	late_ops = device_host_ops;
	late_ops.append = late_append;
	late_ops.event_record = late_record;
	late_ops.event_done = late_done;
	late_ops.event_wait = late_wait;
	late_ops.event_free = late_free;
	late_ops.sync = late_sync;
	t->sp->device->ops = &late_ops;
}

static uint64_t blocks(struct toy *t)
{
	struct kvd_space_info info = { .size = sizeof(info) };

	CHECK(!kvd_space_info(t->sp, &info), "info");
	return info.blocks;
}

static size_t absent(struct kvd_seq *seq)
{
	struct kvd_page p[8];
	size_t nr, n = 0;

	CHECK(!kvd_seq_pages(seq, 1, p, 8, &nr), "pages");
	for (size_t i = 0; i < nr; i++)
		n += p[i].segment == UINT32_MAX;
	return n;
}

static void test_publish(struct toy *t, const uint32_t *tokens)
{
	struct kvd_seq *seq;

	CHECK(!kvd_seq_new(t->sp, NULL, &seq), "seq");
	CHECK(!toy_run(t, seq, tokens, 70, 70, NULL), "run");
	CHECK(!kvd_process(t->k) && blocks(t) == 0, "too early");
	complete();
	CHECK(!kvd_process(t->k) && blocks(t) == 2, "not published");
	/* One mark at a time: what is committed later waits for the next. */
	CHECK(!toy_run(t, seq, tokens + 70, 27, 9, NULL), "run");
	CHECK(!toy_run(t, seq, tokens + 97, 31, 31, NULL), "run");
	CHECK(blocks(t) == 2 && absent(seq) == 1, "too early");
	completed = recorded;
	CHECK(!kvd_process(t->k) && blocks(t) == 3, "the first mark");
	CHECK(absent(seq) == 2, "absent %zu", absent(seq));
	complete();
	CHECK(!kvd_process(t->k) && blocks(t) == 4, "the second mark");
	CHECK(absent(seq) == 3, "absent %zu", absent(seq));
	kvd_seq_free(seq);
	complete();
	CHECK(!kvd_process(t->k), "process");
}

/* Pages come back when the work that was recorded before is done. */
static void test_release(struct toy *t, const uint32_t *tokens,
			 const char *socket)
{
	struct daemon_stat before, st;
	struct kvd_seq *seq;
	size_t hit;

	daemon_stat(socket, &before);
	seq = toy_match(t, tokens, N, &hit);
	CHECK(hit == N, "hit %zu", hit);
	daemon_stat(socket, &st);
	CHECK(st.cached < before.cached, "nothing was taken");
	kvd_seq_free(seq);
	CHECK(!kvd_process(t->k), "process");
	daemon_stat(socket, &st);
	CHECK(st.cached < before.cached, "given back too early");
	complete();
	CHECK(!kvd_process(t->k), "process");
	daemon_stat(socket, &st);
	CHECK(st.cached == before.cached && st.sealed == before.sealed,
	      "not given back");
}

/* A page that is truncated away and written again waits for its new mark. */
static void test_truncate(struct toy *t, uint32_t *tokens)
{
	struct kvd_seq *seq;
	uint64_t nr = blocks(t);

	tokens[0]++;
	CHECK(!kvd_seq_new(t->sp, NULL, &seq), "seq");
	CHECK(!toy_run(t, seq, tokens, 32, 32, NULL), "run");
	completed = recorded;
	CHECK(!kvd_truncate(seq, 5, NULL), "truncate");
	CHECK(!toy_run(t, seq, tokens + 5, 27, 27, NULL), "run");
	CHECK(blocks(t) == nr, "published by a mark made too early");
	complete();
	CHECK(!kvd_process(t->k) && blocks(t) == nr + 1, "not published");
	kvd_seq_free(seq);
}

/* The verdict comes late, and after a fork: neither publishes. */
static void test_nan(struct toy *t, uint32_t *tokens)
{
	struct kvd_seq *seq, *child;
	uint64_t nr = blocks(t);

	tokens[0]++;
	toy_nan_token = tokens[10];
	CHECK(!kvd_seq_new(t->sp, NULL, &seq), "seq");
	CHECK(!toy_run(t, seq, tokens, 31, 31, NULL), "run");
	CHECK(!kvd_fork(seq, NULL, &child), "fork");
	toy_nan_token = UINT32_MAX;
	CHECK(!toy_run(t, child, tokens + 31, 40, 40, NULL), "run");
	CHECK(!toy_run(t, seq, tokens + 31, 50, 50, NULL), "run");
	kvd_seq_free(seq);
	complete();
	CHECK(!kvd_process(t->k) && blocks(t) == nr, "a NaN was published");
	kvd_seq_free(child);
}

/* What truncate forgets of one branch, the other has not forgotten. */
static void test_nan_truncate(struct toy *t, uint32_t *tokens)
{
	struct kvd_seq *seq, *child;
	uint64_t nr = blocks(t);

	tokens[0]++;
	toy_nan_token = tokens[10];
	CHECK(!kvd_seq_new(t->sp, NULL, &seq), "seq");
	CHECK(!toy_run(t, seq, tokens, 31, 31, NULL), "run");
	CHECK(!kvd_fork(seq, NULL, &child), "fork");
	toy_nan_token = UINT32_MAX;
	complete();
	CHECK(!kvd_truncate(seq, 0, NULL), "truncate");
	CHECK(!toy_run(t, child, tokens + 31, 40, 40, NULL), "run");
	complete();
	CHECK(!kvd_process(t->k) && blocks(t) == nr, "a NaN was published");
	kvd_seq_free(child);
	/* A verdict on rows that are gone, come late, is not on the new. */
	toy_nan_token = tokens[10];
	CHECK(!toy_run(t, seq, tokens, 31, 31, NULL), "run");
	toy_nan_token = UINT32_MAX;
	CHECK(!kvd_truncate(seq, 0, NULL), "truncate");
	CHECK(!toy_run(t, seq, tokens, 32, 32, NULL), "run");
	complete();
	CHECK(!kvd_process(t->k) && blocks(t) == nr + 1, "not published");
	kvd_seq_free(seq);
}

/* A page that a fork copies is in use on the fork's stream. */
static void test_fork_stream(struct toy *t, uint32_t *tokens)
{
	struct kvd_seq *seq, *child;
	int stream;

	tokens[0]++;
	CHECK(!kvd_seq_new(t->sp, NULL, &seq), "seq");
	CHECK(!toy_run(t, seq, tokens, 10, 10, NULL), "run");
	CHECK(!kvd_fork(seq, &stream, &child), "fork");
	last_stream = NULL;
	kvd_seq_free(seq);
	CHECK(last_stream == &stream, "retired on another stream");
	kvd_seq_free(child);
	complete();
	CHECK(!kvd_process(t->k), "process");
}

/* A sequence that is freed right after its commit is still published. */
static void test_free(struct toy *t, uint32_t *tokens, const char *socket)
{
	struct daemon_stat before, st;
	struct kvd_seq *seq;
	uint64_t nr = blocks(t);
	int stream;

	daemon_stat(socket, &before);
	tokens[0]++;
	CHECK(!kvd_seq_new(t->sp, NULL, &seq), "seq");
	CHECK(!toy_run(t, seq, tokens, 40, 40, NULL), "run");
	CHECK(!toy_run(t, seq, tokens + 40, 30, 30, NULL), "run");
	seq->stream = &stream;
	kvd_seq_free(seq);
	CHECK(last_stream == &stream, "no mark of its own");
	last_stream = NULL;
	CHECK(!kvd_process(t->k) && blocks(t) == nr, "too early");
	complete();
	CHECK(!kvd_process(t->k) && blocks(t) == nr + 2, "not published");
	CHECK(!last_stream, "a freed sequence's stream");
	daemon_stat(socket, &st);
	CHECK(st.sealed == before.sealed, "not given back");
}

/*
 * The copy of a match that ends inside a page is awaited, unless it is in a
 * stream that the caller named: then that is the last the sequence used. The
 * page it was made of is held till it is done.
 */
static void test_partial(struct toy *t, const uint32_t *tokens)
{
	struct kvd_seq_opts o = { .size = sizeof(o) };
	struct kvd_seq *seq;
	uint64_t before;
	size_t hit;
	int stream;

	t->sp->device->at_once = false;
	complete();
	CHECK(!kvd_process(t->k), "process");
	before = recorded;
	seq = toy_match(t, tokens, 45, &hit);
	CHECK(hit == 45, "hit %zu", hit);
	CHECK(recorded > before && completed == recorded, "not awaited");
	kvd_seq_free(seq);
	complete();
	CHECK(!kvd_process(t->k) && STAILQ_EMPTY(&t->sp->retired), "process");

	o.stream = &stream;
	before = completed;
	CHECK(!kvd_seq_new(t->sp, &o, &seq), "seq");
	CHECK(!kvd_seq_match(seq, tokens, 45, &hit) && hit == 45, "hit %zu",
	      hit);
	CHECK(completed == before, "awaited");
	CHECK(last_stream == &stream && seq->stream == &stream,
	      "not in the stream named");
	CHECK(!kvd_process(t->k) && !STAILQ_EMPTY(&t->sp->retired),
	      "the page copied was given back too early");
	complete();
	CHECK(!kvd_process(t->k) && STAILQ_EMPTY(&t->sp->retired), "process");
	t->sp->device->at_once = true;
	seq->stream = NULL;
	kvd_seq_free(seq);
	complete();
	CHECK(!kvd_process(t->k), "process");
}

/* Closing waits for the device, and publishes what that ends. */
static void test_close(struct toy *t, uint32_t *tokens, const char *socket)
{
	struct kvd_seq *seq;
	size_t hit;

	tokens[0]++;
	CHECK(!kvd_seq_new(t->sp, NULL, &seq), "seq");
	CHECK(!toy_run(t, seq, tokens, 70, 70, NULL), "run");
	toy_close(t);
	CHECK(!nr_live, "%llu events left", (unsigned long long)nr_live);
	open_late(t, socket);
	kvd_seq_free(toy_match(t, tokens, 70, &hit));
	CHECK(hit == 64, "hit %zu", hit);
}

int main(void)
{
	uint64_t seed = toy_seed();
	uint32_t tokens[N];
	struct daemon d;
	struct toy t;

	toy_tokens(&seed, tokens, N);
	daemon_start(&d, NULL);
	open_late(&t, d.socket);
	test_publish(&t, tokens);
	test_release(&t, tokens, d.socket);
	test_partial(&t, tokens);
	test_truncate(&t, tokens);
	test_nan(&t, tokens);
	test_nan_truncate(&t, tokens);
	test_fork_stream(&t, tokens);
	test_free(&t, tokens, d.socket);
	test_close(&t, tokens, d.socket);
	toy_close(&t);
	CHECK(!nr_live, "%llu events left", (unsigned long long)nr_live);
	daemon_assert_idle(&d);
	daemon_stop(&d);
	return 0;
}
