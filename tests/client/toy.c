// SPDX-License-Identifier: Apache-2.0
/* toy.c - a worker with a toy model. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "kernels/cuda/driver.h"
#include "tests/client/toy.h"
#include "tests/support/check.h"

uint32_t toy_nan_token = UINT32_MAX;

static const struct cuda_driver *cuda; /* NULL: the host's memory */

void toy_on_cuda(const char *spec)
{
	const char *colon = strchr(spec, ':');
	char why[160] = "";
	cu_context ctx;

	cuda = cuda_driver(why, sizeof(why));
	CHECK(cuda, "%s", why);
	CHECK(!cuda->cuInit(0) &&
	      !cuda->cuDevicePrimaryCtxRetain(&ctx, colon ? atoi(colon + 1) : 0) &&
	      !cuda->cuCtxSetCurrent(ctx), "no context for %s", spec);
}

float *toy_floats(size_t n)
{
	const size_t bytes = n * sizeof(float);
	void *p = NULL;

	if (!cuda)
		return calloc(1, bytes);
	CHECK(!cuda->cuMemHostAlloc(&p, bytes, 0), "out of memory");
	return memset(p, 0, bytes);
}

void toy_floats_free(float *p)
{
	if (!cuda)
		free(p);
	else if (p)
		CHECK(!cuda->cuMemFreeHost(p), "the device failed");
}

void toy_sync(struct toy *t)
{
	if (!cuda)
		return;
	CHECK(!cuda->cuStreamSynchronize(NULL), "the device failed");
	kvd_process(t->k);
}

static uint64_t mix(uint64_t x)
{
	x ^= x >> 30;
	x *= 0xbf58476d1ce4e5b9ULL;
	x ^= x >> 27;
	x *= 0x94d049bb133111ebULL;
	return x ^ x >> 31;
}

uint64_t toy_random(uint64_t *seed)
{
	*seed += 0x9e3779b97f4a7c15ULL;
	return mix(*seed);
}

void toy_tokens(uint64_t *seed, uint32_t *tokens, size_t n)
{
	for (size_t i = 0; i < n; i++)
		tokens[i] = (uint32_t)(toy_random(seed) % 50000);
}

uint64_t toy_seed(void)
{
	const char *env = getenv("KVD_SEED");
	uint64_t seed = env ? strtoull(env, NULL, 0) : (uint64_t)time(NULL);

	printf("KVD_SEED=%llu\n", (unsigned long long)seed);
	fflush(stdout);
	return seed;
}

void toy_opts(struct kvd_space_opts *o, uint8_t model)
{
	memset(o, 0, sizeof(*o));
	o->size = sizeof(*o);
	o->nr_threads = 1;
	o->wait_ms = TOY_WAIT_MS;
	memset(o->model, model, sizeof(o->model));
	o->geometry.size = sizeof(o->geometry);
	o->geometry.page_tokens = TOY_PAGE;
	o->geometry.k_format = KVD_F16;
	o->geometry.v_format = KVD_F16;
	o->geometry.nr_groups = 1;
	o->geometry.groups[0] = (struct kvd_group){
		.nr_layers = 2,
		.nr_kv_heads = 2,
		.k_dim = 32,
		.v_dim = 32,
	};
}

void toy_opts_two_groups(struct kvd_space_opts *o, uint8_t model,
			 uint32_t window)
{
	toy_opts(o, model);
	o->geometry.nr_groups = 2;
	o->geometry.groups[1] = (struct kvd_group){
		.nr_layers = 3,
		.nr_kv_heads = 1,
		.k_dim = 64,
		.v_dim = 16,
		.window = window,
	};
}

void toy_open(struct toy *t, const char *socket,
	      const struct kvd_space_opts *o)
{
	struct kvd_connect_opts c = { .size = sizeof(c), .socket = socket,
				      .timeout_ms = 20000 };
	int r;

	memset(t, 0, sizeof(*t));
	t->opts = *o;
	r = kvd_connect(&c, &t->k);
	CHECK(r == 0, "connect %s: %s", socket, strerror(-r));
	r = kvd_space_open(t->k, o, &t->sp);
	CHECK(r == 0, "%s: %s", strerror(-r), kvd_error(t->k));
}

void toy_close(struct toy *t)
{
	kvd_close(t->k);
	for (int i = 0; i < 4; i++)
		toy_floats_free(t->rows[i]);
}

/* Query heads are twice the kv heads. */
static size_t out_floats(const struct kvd_group *g)
{
	return 2 * g->nr_kv_heads * g->v_dim;
}

size_t toy_out_floats(const struct toy *t)
{
	size_t n = 0;

	for (uint32_t g = 0; g < t->opts.geometry.nr_groups; g++)
		n += t->opts.geometry.groups[g].nr_layers *
		     out_floats(&t->opts.geometry.groups[g]);
	return n;
}

static void room(struct toy *t, size_t rows)
{
	if (rows <= t->room)
		return;
	for (int i = 0; i < 4; i++) {
		toy_floats_free(t->rows[i]);
		t->rows[i] = toy_floats(rows * 256);
		CHECK(t->rows[i], "out of memory");
	}
	t->room = rows;
}

/* One row of q, k or v (what says which) of a token at a position. */
static void make_row(float *row, size_t n, uint32_t token, size_t pos,
		     uint32_t layer, uint32_t what)
{
	uint64_t x = mix(((uint64_t)token << 32 | pos) * 31 + layer * 4 + what);

	for (size_t i = 0; i < n; i++)
		row[i] = (float)(int32_t)(uint32_t)mix(x + i) / 2147483648.0f;
}

struct feed {
	struct toy *t;
	const struct kvd_item *items;
	size_t nr;
	size_t rows;
	const uint32_t *const *tokens;
	float *const *out;
	bool no_append, no_attend;
};

void toy_rows(const struct toy *t, const struct kvd_item *items, size_t nr,
	      const uint32_t *const *tokens, uint32_t group, uint32_t layer,
	      float *const *rows)
{
	const struct kvd_group *g = &t->opts.geometry.groups[group];
	size_t row = 0, nq = 2 * g->nr_kv_heads * g->k_dim;
	size_t nk = g->nr_kv_heads * g->k_dim, nv = g->nr_kv_heads * g->v_dim;

	layer += group * 64;
	for (size_t i = 0; i < nr; i++) {
		size_t pos = kvd_seq_tokens(items[i].seq);

		for (uint32_t j = 0; j < items[i].nr_tokens; j++, row++) {
			uint32_t token = tokens[i][j];

			make_row(rows[0] + row * nq, nq, token, pos + j, layer,
				 0);
			make_row(rows[1] + row * nk, nk, token, pos + j, layer,
				 1);
			make_row(rows[2] + row * nv, nv, token, pos + j, layer,
				 2);
			if (token == toy_nan_token)
				rows[1][row * nk] = NAN;
		}
	}
}

/* Out's rows of one layer, to where they belong: [token][all layers]. */
static void keep_rows(const struct feed *f, const struct kvd_group *g,
		      size_t at)
{
	size_t row = 0, n = out_floats(g), all = toy_out_floats(f->t);

	for (size_t i = 0; i < f->nr; i++)
		for (uint32_t j = 0; j < f->items[i].nr_tokens; j++, row++)
			if (f->out && f->out[i])
				memcpy(f->out[i] + j * all + at,
				       f->t->rows[3] + row * n,
				       n * sizeof(float));
}

static int feed_layer(const struct feed *f, uint32_t group, uint32_t layer)
{
	const struct kvd_group *g = &f->t->opts.geometry.groups[group];
	struct kvd_append_args kv = {
		.size = sizeof(kv),
		.group = group,
		.layer = layer,
		.items = f->items,
		.nr_items = f->nr,
		.k = f->t->rows[1],
		.v = f->t->rows[2],
	};
	struct kvd_attend_args at = {
		.size = sizeof(at),
		.group = group,
		.layer = layer,
		.items = f->items,
		.nr_items = f->nr,
		.nr_q_heads = 2 * g->nr_kv_heads,
		.q = f->t->rows[0],
		.out = f->t->rows[3],
	};
	int r = 0;

	toy_rows(f->t, f->items, f->nr, f->tokens, group, layer, f->t->rows);
	if (!f->no_append)
		r = kvd_append(f->t->sp, &kv);
	if (!r && !f->no_attend)
		r = kvd_attend(f->t->sp, &at);
	toy_sync(f->t);
	return r;
}

static int feed_layers(struct feed *f)
{
	const struct kvd_geometry *geo = &f->t->opts.geometry;
	size_t at = 0;
	int r;

	f->rows = 0;
	for (size_t i = 0; i < f->nr; i++)
		f->rows += f->items[i].nr_tokens;
	room(f->t, f->rows);
	for (uint32_t g = 0; g < geo->nr_groups; g++) {
		for (uint32_t l = 0; l < geo->groups[g].nr_layers; l++) {
			r = feed_layer(f, g, l);
			if (r)
				return r;
			keep_rows(f, &geo->groups[g], at);
			at += out_floats(&geo->groups[g]);
		}
	}
	return 0;
}

int toy_feed(struct toy *t, const struct kvd_item *items, size_t nr,
	     const uint32_t *const *tokens, float *const *out)
{
	struct feed f = { .t = t, .items = items, .nr = nr, .tokens = tokens,
			  .out = out };
	int r = feed_layers(&f);

	for (size_t i = 0; !r && i < nr; i++) {
		r = kvd_commit(items[i].seq, tokens[i], items[i].nr_tokens,
			       NULL);
		if (r == -ENOTCONN)
			r = 0;
	}
	toy_sync(t);
	return r;
}

int toy_run(struct toy *t, struct kvd_seq *seq, const uint32_t *tokens,
	    size_t n, size_t chunk, float *out)
{
	size_t all = toy_out_floats(t);
	int r = 0;

	for (size_t i = 0; !r && i < n; i += chunk) {
		struct kvd_item it = { seq, (uint32_t)(n - i < chunk ?
						       n - i : chunk) };
		const uint32_t *tok = tokens + i;
		float *o = out ? out + i * all : NULL;

		r = toy_feed(t, &it, 1, &tok, &o);
	}
	return r;
}

#define BATCH 5

struct batch_item {
	uint32_t *tokens;
	float *alone, *out;
	size_t done;
};

/* Random numbers of the tokens that are left; false: none are. */
static bool batch_step(struct toy *t, uint64_t *seed, size_t n, uint32_t most,
		       struct batch_item *b, struct kvd_item *items)
{
	const uint32_t *tokens[BATCH];
	float *out[BATCH];
	bool more = false;

	for (int i = 0; i < BATCH; i++) {
		size_t left = n - b[i].done;
		uint32_t nr = (uint32_t)(toy_random(seed) % most);

		items[i].nr_tokens = nr < left ? nr : (uint32_t)left;
		tokens[i] = b[i].tokens + b[i].done;
		out[i] = b[i].out + b[i].done * toy_out_floats(t);
		b[i].done += items[i].nr_tokens;
		more |= b[i].done < n;
	}
	CHECK(!toy_feed(t, items, BATCH, tokens, out), "%s", kvd_error(t->k));
	return more;
}

void toy_check_batch(struct toy *t, uint64_t *seed, size_t n, uint32_t most,
		     struct kvd_seq *(*fresh)(void))
{
	size_t bytes = n * toy_out_floats(t) * sizeof(float);
	struct batch_item b[BATCH] = { 0 };
	struct kvd_item items[BATCH];

	for (int i = 0; i < BATCH; i++) {
		struct kvd_seq *seq = fresh();

		b[i].tokens = malloc(n * sizeof(uint32_t));
		b[i].alone = malloc(bytes);
		b[i].out = malloc(bytes);
		CHECK(b[i].tokens && b[i].alone && b[i].out, "out of memory");
		toy_tokens(seed, b[i].tokens, n);
		CHECK(!toy_run(t, seq, b[i].tokens, n, n, b[i].alone), "%s",
		      kvd_error(t->k));
		kvd_seq_free(seq);
		items[i].seq = fresh();
	}
	while (batch_step(t, seed, n, most, b, items))
		;
	for (int i = 0; i < BATCH; i++) {
		CHECK(!memcmp(b[i].alone, b[i].out, bytes), "sequence %d of a "
		      "batch gives other results than alone", i);
		kvd_seq_free(items[i].seq);
		free(b[i].tokens);
		free(b[i].alone);
		free(b[i].out);
	}
}

int toy_store(struct toy *t, const struct kvd_item *item,
	      const uint32_t *tokens, float *out)
{
	struct feed f = { .t = t, .items = item, .nr = 1, .tokens = &tokens,
			  .out = &out };

	return feed_layers(&f);
}

int toy_attend(struct toy *t, struct kvd_seq *seq, const uint32_t *tokens,
	       size_t n, float *out)
{
	struct kvd_item it = { seq, (uint32_t)n };
	struct feed f = { .t = t, .items = &it, .nr = 1, .tokens = &tokens,
			  .out = &out, .no_append = true };

	return feed_layers(&f);
}

int toy_fill(struct toy *t, struct kvd_seq *seq, const uint32_t *tokens,
	     size_t n)
{
	struct kvd_item it = { seq, (uint32_t)n };
	struct feed f = { .t = t, .items = &it, .nr = 1, .tokens = &tokens,
			  .no_attend = true };
	int r = feed_layers(&f);

	if (!r)
		r = kvd_commit(seq, tokens, n, NULL);
	toy_sync(t);
	return r;
}

struct kvd_seq *toy_match(struct toy *t, const uint32_t *tokens, size_t n,
			  size_t *ret_hit)
{
	struct kvd_seq *seq;
	int r;

	r = kvd_seq_new(t->sp, NULL, &seq);
	if (!r)
		r = kvd_seq_match(seq, tokens, n, ret_hit);
	CHECK(r == 0, "%s: %s", strerror(-r), kvd_error(t->k));
	return seq;
}
