// SPDX-License-Identifier: Apache-2.0
/*
 * overhead_kvd.c - a client of kvd: the request path of a worker.
 *
 * A daemon of its own, with a pool that one request fills for the most part:
 * the pages of the next are those the last one left in the cache.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <kvd/kvd.h>
#include "tools/kvbench/daemon.h"
#include "tools/kvbench/overhead.h"

struct with_kvd {
	const struct overhead_shape *s;
	struct child daemon;
	struct kvd *k;
	struct kvd_space *sp;
	struct kvd_item *items; /* [batch] */
};

static int connect_daemon(struct with_kvd *w)
{
	char pool[24];
	const char *const more[] = { "--pool", pool, NULL };
	int err;

	snprintf(pool, sizeof(pool), "%lluM",
	         (unsigned long long)(w->s->pool_bytes >> 20) + 1);
	err = daemon_start(&w->daemon, more);
	if (!err)
		err = daemon_connect(&w->daemon, "kvbench overhead", &w->k);
	if (err) {
		fprintf(stderr, "kvbench overhead: no daemon: %s\n",
		        strerror(-err));
		if (w->daemon.dir[0])
			daemon_print_log(&w->daemon);
	}
	return err;
}

static int open_space(struct with_kvd *w)
{
	struct kvd_space_opts o = { .size = sizeof(o),
		                    .nr_threads = w->s->threads,
		                    .geometry = w->s->geometry };
	int err;

	memcpy(o.model, "kvbench", sizeof("kvbench"));
	err = kvd_space_open(w->k, &o, &w->sp);
	if (err)
		fprintf(stderr, "kvbench overhead: %s\n", kvd_error(w->k));
	return err;
}

static void kvd_fini(void *side)
{
	struct with_kvd *w = side;

	if (!w)
		return;
	kvd_close(w->k);
	child_fini(&w->daemon);
	free(w->items);
	free(w);
}

static int kvd_init(const struct overhead_shape *s, void **ret)
{
	struct with_kvd *w = calloc(1, sizeof(*w));
	int err = -ENOMEM;

	if (!w)
		return err;
	w->s = s;
	w->items = calloc(s->batch, sizeof(*w->items));
	if (w->items)
		err = connect_daemon(w);
	if (!err)
		err = open_space(w);
	if (err)
		kvd_fini(w);
	else
		*ret = w;
	return err;
}

static int complain(struct with_kvd *w, int err)
{
	if (err)
		fprintf(stderr, "kvbench overhead: %s: %s\n", strerror(-err),
		        kvd_error(w->k));
	return err;
}

static int kvd_begin(void *side, const uint32_t *tokens, uint32_t nr)
{
	struct with_kvd *w = side;
	size_t hit = 0;
	unsigned i;
	int err = 0;

	for (i = 0; i < w->s->batch && !err; i++) {
		w->items[i].nr_tokens = 1;
		err = kvd_seq_new(w->sp, NULL, &w->items[i].seq);
		if (!err)
			err = kvd_seq_match(w->items[i].seq,
			                    tokens + (size_t)i * nr, nr - 1,
			                    &hit);
		if (!err && hit)
			err = -EEXIST;
	}
	return complain(w, err);
}

static struct kvd_append_args append_args(const struct kvd_item *items,
                                          size_t nr,
                                          const struct overhead_rows *r)
{
	return (struct kvd_append_args){ .size = sizeof(struct kvd_append_args),
		                         .dtype = KVD_DTYPE_F32,
		                         .items = items,
		                         .nr_items = nr,
		                         .k = r->k,
		                         .v = r->v };
}

static int kvd_prefill(void *side, unsigned seq, const uint32_t *tokens,
                       uint32_t nr, const struct overhead_rows *r)
{
	struct with_kvd *w = side;
	const struct kvd_item item = { w->items[seq].seq, nr };
	struct kvd_append_args kv = append_args(&item, 1, r);
	int err = 0;

	for (; kv.layer < w->s->layout.nr_layers && !err; kv.layer++)
		err = kvd_append(w->sp, &kv);
	if (!err)
		err = kvd_commit(item.seq, tokens, nr, NULL);
	return complain(w, err);
}

static int kvd_step(void *side, const uint32_t *tokens,
                    const struct overhead_rows *r)
{
	struct with_kvd *w = side;
	struct kvd_append_args kv = append_args(w->items, w->s->batch, r);
	struct kvd_attend_args at = { .size = sizeof(at),
		                      .dtype = KVD_DTYPE_F32,
		                      .items = w->items,
		                      .nr_items = w->s->batch,
		                      .nr_q_heads = w->s->heads,
		                      .q = r->q,
		                      .out = r->out };
	unsigned i;
	int err = 0;

	for (i = 0; i < w->s->layout.nr_layers && !err; i++) {
		kv.layer = at.layer = i;
		err = kvd_append(w->sp, &kv);
		if (!err)
			err = kvd_attend(w->sp, &at);
	}
	for (i = 0; i < w->s->batch && !err; i++)
		err = kvd_commit(w->items[i].seq, tokens + i, 1, NULL);
	return complain(w, err);
}

/* The client's and the daemon's. */
static uint64_t kvd_cpu_ns(void *side)
{
	struct with_kvd *w = side;
	uint64_t ns = overhead_own.cpu_ns(NULL);
	struct timespec t;
	clockid_t clock;

	if (clock_getcpuclockid(w->daemon.pid, &clock) ||
	    clock_gettime(clock, &t))
		return ns;
	return ns + (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void kvd_end(void *side)
{
	struct with_kvd *w = side;
	unsigned i;

	for (i = 0; i < w->s->batch; i++) {
		kvd_seq_free(w->items[i].seq);
		w->items[i].seq = NULL;
	}
}

const struct overhead_side overhead_kvd = {
	.name = "kvd",
	.init = kvd_init,
	.fini = kvd_fini,
	.begin = kvd_begin,
	.prefill = kvd_prefill,
	.step = kvd_step,
	.cpu_ns = kvd_cpu_ns,
	.end = kvd_end,
};
