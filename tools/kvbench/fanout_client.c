// SPDX-License-Identifier: Apache-2.0
/*
 * fanout_client.c - one of many clients that come with the same prefix.
 *
 * To compute is to have a device for us_per_token for each token. Keys and
 * values are made up, but are quantized into pages as a worker's are, within
 * that time. What is committed is published when the device is the next one's.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <kvd/kvd.h>
#include "tools/kvbench/daemon.h"
#include "tools/kvbench/fanout.h"
#include "tools/kvbench/pages.h"
#include "tools/kvbench/stats.h"

struct client {
	struct fanout_round *r;
	struct kvd *kvd;
	struct kvd_space *space;
	struct kvd_seq *seq;
	uint32_t *tokens;
	uint32_t nr_tokens;
	float *rows; /* [chunk][dim], of keys and of values */
};

static int client_open(struct client *c, const struct child *daemon)
{
	const struct fanout_opts *o = &c->r->o;
	struct kvd_space_opts so = { .size = sizeof(so), .nr_threads = 1 };
	int err;

	memcpy(so.model, "kvbench fanout", sizeof("kvbench fanout"));
	so.geometry.size = sizeof(so.geometry);
	so.geometry.page_tokens = FANOUT_PAGE;
	so.geometry.k_format = so.geometry.v_format = KVD_INT8;
	so.geometry.nr_groups = 1;
	so.geometry.groups[0] = (struct kvd_group){ .nr_layers = FANOUT_LAYERS,
		                                    .nr_kv_heads = 1,
		                                    .k_dim = FANOUT_DIM,
		                                    .v_dim = FANOUT_DIM };
	c->nr_tokens = o->prefix + o->tail;
	c->tokens = calloc(c->nr_tokens, sizeof(*c->tokens));
	c->rows = pages_values((size_t)o->chunk * FANOUT_DIM);
	if (!c->tokens || !c->rows)
		return -ENOMEM;
	err = daemon_connect(daemon, "kvbench fanout", &c->kvd);
	return err ? err : kvd_space_open(c->kvd, &so, &c->space);
}

static void client_prompt(struct client *c, unsigned nr)
{
	uint32_t i;

	for (i = 0; i < c->nr_tokens; i++)
		c->tokens[i] = i < c->r->o.prefix
		                       ? c->r->seed + i
		                       : 1u << 31 | nr << 16 |
		                                 (i - c->r->o.prefix);
}

static int append(struct client *c, uint32_t nr)
{
	const struct kvd_item item = { c->seq, nr };
	struct kvd_append_args kv = { .size = sizeof(kv),
		                      .dtype = KVD_DTYPE_F32,
		                      .items = &item,
		                      .nr_items = 1,
		                      .k = c->rows,
		                      .v = c->rows };
	int err = 0;

	for (; kv.layer < FANOUT_LAYERS && !err; kv.layer++)
		err = kvd_append(c->space, &kv);
	return err;
}

/* The next @nr tokens, on a device. */
static int compute(struct client *c, uint32_t nr)
{
	uint64_t end_ns;
	struct timespec ts;
	int err;

	while (sem_wait(&c->r->devices))
		;
	end_ns = stats_now_ns() + nr * (uint64_t)c->r->o.us_per_token * 1000;
	err = append(c, nr);
	ts = (struct timespec){ (time_t)(end_ns / 1000000000),
		                (long)(end_ns % 1000000000) };
	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL))
		;
	sem_post(&c->r->devices);
	return err;
}

static int client_run(struct client *c, struct fanout_result *ret)
{
	const struct fanout_opts *o = &c->r->o;
	uint64_t start_ns = stats_now_ns();
	size_t hit = 0;
	uint32_t at, nr;
	int err = kvd_seq_new(c->space, NULL, &c->seq);

	if (!err && c->r->declined)
		err = kvd_seq_match(c->seq, c->tokens, c->nr_tokens - 1, &hit);
	else if (!err)
		err = kvd_seq_match_wait(c->seq, c->tokens, c->nr_tokens - 1,
		                         o->wait_ms, &hit);
	for (at = (uint32_t)hit; at < c->nr_tokens && !err; at += nr) {
		nr = c->nr_tokens - at < o->chunk ? c->nr_tokens - at
		                                  : o->chunk;
		err = compute(c, nr);
		if (!err)
			err = kvd_commit(c->seq, c->tokens + at, nr, NULL);
	}
	ret->ttft_ms = (double)(stats_now_ns() - start_ns) / 1e6;
	ret->computed = c->nr_tokens - (uint32_t)hit;
	return err;
}

void fanout_client(const struct child *daemon, struct fanout_round *r,
                   unsigned nr)
{
	struct client c = { .r = r };
	struct fanout_result *result = &r->results[nr];

	result->err = client_open(&c, daemon);
	if (!result->err)
		client_prompt(&c, nr);
	pthread_barrier_wait(&r->start);
	if (!result->err)
		result->err = client_run(&c, result);
	if (result->err)
		fprintf(stderr, "kvbench fanout: client %u: %s: %s\n", nr,
		        strerror(-result->err),
		        c.kvd ? kvd_error(c.kvd) : "no connection");
	kvd_close(c.kvd);
	free(c.tokens);
	free(c.rows);
}
