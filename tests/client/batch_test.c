// SPDX-License-Identifier: Apache-2.0
/*
 * batch_test.c - a step at fixed addresses: captured once in a CUDA graph and
 * launched for whatever a set says, bit for bit what calls with items give.
 *
 * Sequences join with a prompt, decode beside each other, some several tokens
 * at a time, and leave, over some hundred launches of one graph.
 *
 *	client_batch [DEVICE [FIRST STEP]]
 *
 * On the host the same program calls append and attend with the batch. Of the
 * kinds every STEPth from the FIRST on.
 */
#include <errno.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <kvd/profile.h>
#include "client-lib/space.h"
#include "kernels/cuda/driver.h"
#include "tests/client/toy.h"
#include "tests/support/check.h"
#include "tests/support/daemon.h"

#define P TOY_PAGE
#define N 180u		/* tokens of a sequence, at most */
#define LONG 1000u	/* of one that makes tables grow */
#define SEQS 5u		/* at a time */
#define STEPS 220u
#define MAX_LAYERS 8u
#define UNTOUCHED -7.5f

static const struct kind {
	const char *formats;
	uint32_t dim;		/* 0: as the toy has it */
	uint32_t window;	/* of a second group; UINT32_MAX: no such */
	uint32_t tile_order;
	uint32_t rope_order;
	uint32_t item_rows;
	uint32_t exact_pages;
} kinds[] = {
	{ "f16", 0, 50, KVD_TILE_ROW, 0, 1 },
	{ "int8", 64, UINT32_MAX, KVD_TILE_MMA, 0, 3 },
	{ "kivi4", 64, UINT32_MAX, KVD_TILE_MMA, 0, 1 },
	{ "kivi4", 0, 70, KVD_TILE_ROW, 0, 40, 1 },
	{ "kvquant3", 64, UINT32_MAX, KVD_TILE_ROW, KVD_ROPE_PRE, 1 },
	{ "kivi2", 64, UINT32_MAX, KVD_TILE_MMA, 0, 40 },
	{ "k=kvarn4,v=int8", 64, 40, KVD_TILE_MMA, 0, 40, 1 },
	{ "kvquant3", 64, UINT32_MAX, KVD_TILE_MMA, KVD_ROPE_PRE, 40 },
};

static const double freq[] = { 1, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001 };

static const struct kind *kind;
static struct toy toy;
static struct daemon d;
static const char *device = "host";
static const struct cuda_driver *cu; /* NULL: on the host */
static cu_stream stream;
static uint64_t seed;
static uint8_t salt;

/* What the graph has captured: addresses of each layer's rows. */
static struct kvd_batch *batch;
static cu_graph_exec graph;
static float *rows[MAX_LAYERS][4]; /* q, k, v, out */
static uint32_t max_rows;

struct running {
	struct kvd_seq *seq;
	uint32_t n, done;
	uint32_t tokens[N];
	float *out;
};

static struct running running[SEQS];

/* ---- a geometry ---- */

static void kind_open(uint8_t model)
{
	struct kvd_profile *p = NULL;
	struct kvd_space_opts o;
	struct kvd_geometry *g = &o.geometry;

	if (kind->window == UINT32_MAX)
		toy_opts(&o, model);
	else
		toy_opts_two_groups(&o, model, kind->window);
	CHECK(!kvd_formats_parse(kind->formats, &g->k_format, &g->v_format),
	      "formats");
	for (uint32_t i = 0; kind->dim && i < g->nr_groups; i++)
		g->groups[i].k_dim = g->groups[i].v_dim = kind->dim;
	g->exact_pages = kind->exact_pages;
	g->v_group = 32;
	g->tile_order = kind->tile_order;
	g->rope_order = kind->rope_order;
	o.rope.freq = freq;
	o.rope.nr_pairs = sizeof(freq) / sizeof(*freq);
	if (strstr(kind->formats, "kvquant")) {
		p = toy_profile(g);
		g->profile = kvd_profile_digest(p);
		o.profile = p;
	}
	toy_open(&toy, d.socket, &o);
	kvd_profile_free(p);
}

static uint32_t nr_layers(void)
{
	uint32_t n = 0;

	for (uint32_t g = 0; g < toy.opts.geometry.nr_groups; g++)
		n += toy.opts.geometry.groups[g].nr_layers;
	return n;
}

static struct kvd_seq *fresh(void)
{
	struct kvd_seq_opts o = { .size = sizeof(o), .extra = { ++salt, 1 } };
	struct kvd_seq *seq;

	CHECK(!kvd_seq_new(toy.sp, &o, &seq), "%s", kvd_error(toy.k));
	return seq;
}

static float *floats(size_t n)
{
	float *p = calloc(n, sizeof(*p));

	CHECK(p, "out of memory");
	return p;
}

/* ---- the step ---- */

/* All layers; what their rows are is written before each step. */
static int layers_run(void)
{
	const struct kvd_geometry *geo = &toy.opts.geometry;
	uint32_t n = 0;
	int r = 0;

	for (uint32_t g = 0; g < geo->nr_groups; g++)
		for (uint32_t l = 0; !r && l < geo->groups[g].nr_layers;
		     l++, n++) {
			struct kvd_append_args kv = {
				.size = sizeof(kv), .group = g, .layer = l,
				.k = rows[n][1], .v = rows[n][2],
				.stream = stream, .batch = batch,
			};
			struct kvd_attend_args at = {
				.size = sizeof(at), .group = g, .layer = l,
				.nr_q_heads = 2 * geo->groups[g].nr_kv_heads,
				.q = rows[n][0], .out = rows[n][3],
				.stream = stream, .batch = batch,
			};

			r = kvd_append(toy.sp, &kv);
			if (!r)
				r = kvd_attend(toy.sp, &at);
		}
	return r;
}

/* A call with items would be lost: it says so, and spoils nothing. */
static void refused_in_capture(void)
{
	struct kvd_seq *seq = fresh();
	struct kvd_item it = { seq, 1 };
	struct kvd_append_args kv = { .size = sizeof(kv), .items = &it,
				      .nr_items = 1, .k = rows[0][1],
				      .v = rows[0][2], .stream = stream };

	CHECK(kvd_append(toy.sp, &kv) == -EINVAL &&
	      strstr(kvd_error(toy.k), "batch"), "%s", kvd_error(toy.k));
	CHECK(kvd_batch_set(batch, &it, 1, stream) == -EINVAL &&
	      strstr(kvd_error(toy.k), "captured"), "%s", kvd_error(toy.k));
	kvd_seq_free(seq);
}

static void capture(void)
{
	cu_graph g;

	if (!cu)
		return;
	CHECK(!cu->cuStreamBeginCapture(stream, CU_CAPTURE_GLOBAL), "capture");
	refused_in_capture();
	CHECK(!layers_run(), "%s", kvd_error(toy.k));
	CHECK(!cu->cuStreamEndCapture(stream, &g) &&
	      !cu->cuGraphInstantiateWithFlags(&graph, g, 0) &&
	      !cu->cuGraphDestroy(g), "no graph");
	/* Empty as it is, it does nothing. */
	CHECK(!cu->cuGraphLaunch(graph, stream) &&
	      !cu->cuStreamSynchronize(stream), "launch");
}

static void launch(void)
{
	if (cu)
		CHECK(!cu->cuGraphLaunch(graph, stream), "launch");
	else
		CHECK(!layers_run(), "%s", kvd_error(toy.k));
}

static void finish(void)
{
	if (cu)
		CHECK(!cu->cuStreamSynchronize(stream), "the device failed");
}

static size_t layer_floats(const struct kvd_group *g)
{
	return 2 * g->nr_kv_heads * g->v_dim;
}

/* Each layer's inputs, and outputs that show whether they were written. */
static void inputs(const struct kvd_item *items, size_t nr,
		   const uint32_t *const *tokens)
{
	const struct kvd_geometry *geo = &toy.opts.geometry;
	uint32_t n = 0;

	for (uint32_t g = 0; g < geo->nr_groups; g++)
		for (uint32_t l = 0; l < geo->groups[g].nr_layers; l++, n++) {
			toy_rows(&toy, items, nr, tokens, g, l, rows[n]);
			for (size_t i = 0;
			     i < max_rows * layer_floats(&geo->groups[g]); i++)
				rows[n][3][i] = UNTOUCHED;
		}
}

/* Rows of the items to where they are kept; rows after those are as before. */
static void outputs(const struct kvd_item *items, size_t nr,
		    float *const *out)
{
	const struct kvd_geometry *geo = &toy.opts.geometry;
	size_t n = 0, at = 0, all = toy_out_floats(&toy);

	for (uint32_t g = 0; g < geo->nr_groups; g++)
		for (uint32_t l = 0; l < geo->groups[g].nr_layers; l++, n++) {
			size_t width = layer_floats(&geo->groups[g]);
			const float *from = rows[n][3];

			for (size_t i = 0; i < nr; i++)
				for (uint32_t j = 0; j < items[i].nr_tokens;
				     j++, from += width)
					memcpy(out[i] + j * all + at, from,
					       width * sizeof(float));
			for (; from < rows[n][3] + max_rows * width; from++)
				CHECK(*from == UNTOUCHED, "%s: a row that is "
				      "no one's was written", kind->formats);
			at += width;
		}
}

/* ---- sequences come and go ---- */

static void join(struct running *r)
{
	size_t prompt = toy_random(&seed) % 70;

	r->seq = fresh();
	r->n = (uint32_t)(prompt + 1 + toy_random(&seed) % (N - prompt));
	r->out = floats(r->n * toy_out_floats(&toy));
	toy_tokens(&seed, r->tokens, r->n);
	CHECK(!toy_run(&toy, r->seq, r->tokens, prompt, 50, r->out), "%s",
	      kvd_error(toy.k));
	r->done = (uint32_t)prompt;
}

/* The same tokens by calls with items, at once. */
static void leave(struct running *r)
{
	struct kvd_seq *seq = fresh();
	size_t all = toy_out_floats(&toy);
	float *out = floats(r->done * all + 1);

	CHECK(!toy_run(&toy, seq, r->tokens, r->done, N, out), "%s",
	      kvd_error(toy.k));
	for (size_t i = 0; i < r->done * all; i++)
		CHECK(!memcmp(out + i, r->out + i, sizeof(float)),
		      "%s: token %zu of %u differs: %g, %g", kind->formats,
		      i / all, r->done, out[i], r->out[i]);
	kvd_seq_free(seq);
	kvd_seq_free(r->seq);
	free(out);
	free(r->out);
	r->seq = NULL;
}

/* Some of those that run, in some order; most with one token. */
static size_t choose(struct kvd_item *items, struct running **who)
{
	uint32_t left = max_rows, first = (uint32_t)(toy_random(&seed) % SEQS);
	size_t nr = 0;

	for (uint32_t i = 0; i < SEQS; i++) {
		struct running *r = &running[(first + i) % SEQS];
		uint32_t n = 1;

		if (!r->seq || toy_random(&seed) % 8 == 0)
			continue;
		if (kind->item_rows > 1 && toy_random(&seed) % 4 == 0)
			n = (uint32_t)(toy_random(&seed) % kind->item_rows);
		n = n < r->n - r->done ? n : r->n - r->done;
		n = n < left ? n : left;
		left -= n;
		items[nr] = (struct kvd_item){ r->seq, n };
		who[nr++] = r;
	}
	return nr;
}

static void step(void)
{
	struct kvd_item items[SEQS];
	struct running *who[SEQS];
	const uint32_t *tokens[SEQS];
	float *out[SEQS];
	size_t nr = choose(items, who);

	for (size_t i = 0; i < nr; i++) {
		tokens[i] = who[i]->tokens + who[i]->done;
		out[i] = who[i]->out + who[i]->done * toy_out_floats(&toy);
	}
	CHECK(!kvd_batch_set(batch, items, nr, stream), "%s",
	      kvd_error(toy.k));
	inputs(items, nr, tokens);
	launch();
	for (size_t i = 0; i < nr; i++)
		CHECK(!kvd_commit(items[i].seq, tokens[i], items[i].nr_tokens,
				  stream), "%s", kvd_error(toy.k));
	finish();
	outputs(items, nr, out);
	for (size_t i = 0; i < nr; i++)
		who[i]->done += items[i].nr_tokens;
}

static void test_steps(void)
{
	uint32_t tokens[LONG];
	struct kvd_seq *seq;

	for (uint32_t s = 0; s < STEPS; s++) {
		for (uint32_t i = 0; i < SEQS; i++) {
			struct running *r = &running[i];

			if (r->seq && (r->done == r->n ||
				       toy_random(&seed) % 60 == 0))
				leave(r);
			else if (!r->seq && toy_random(&seed) % 4 == 0)
				join(r);
		}
		if (s == STEPS / 2 && kind->rope_order == KVD_ROPE_PRE) {
			toy_tokens(&seed, tokens, LONG);
			seq = fresh();
			CHECK(!toy_run(&toy, seq, tokens, LONG, LONG, NULL),
			      "%s", kvd_error(toy.k));
			kvd_seq_free(seq);
		}
		step();
	}
	for (uint32_t i = 0; i < SEQS; i++)
		if (running[i].seq)
			leave(&running[i]);
}

/* One sequence, a step for each token from @from on. */
static void decode(struct kvd_seq *seq, const uint32_t *tokens, uint32_t from,
		   uint32_t n)
{
	for (uint32_t i = from; i < n; i++) {
		struct kvd_item it = { seq, 1 };
		const uint32_t *tok = tokens + i;

		CHECK(!kvd_batch_set(batch, &it, 1, stream), "%s",
		      kvd_error(toy.k));
		inputs(&it, 1, &tok);
		launch();
		finish();
		CHECK(!kvd_commit(seq, tok, 1, stream), "%s",
		      kvd_error(toy.k));
	}
	finish();
	CHECK(!kvd_process(toy.k), "process");
}

/* In whole pages. */
static size_t found(const uint32_t *tokens)
{
	struct kvd_seq_opts whole = { .size = sizeof(whole), .no_partial = 1 };
	struct kvd_seq *seq;
	size_t hit;

	CHECK(!kvd_seq_new(toy.sp, &whole, &seq) &&
		      !kvd_seq_match(seq, tokens, 5 * P - 1, &hit),
	      "%s", kvd_error(toy.k));
	kvd_seq_free(seq);
	return hit;
}

/* What a launch has found is known when its page would be published. */
static void test_nan_at(uint32_t at)
{
	uint32_t tokens[5 * P];
	struct kvd_seq *seq, *child;

	toy_tokens(&seed, tokens, 5 * P);
	toy_nan_token = tokens[at] = UINT32_MAX - 1;
	CHECK(!kvd_seq_new(toy.sp, NULL, &seq), "new");
	decode(seq, tokens, 0, at + 1);
	CHECK(!kvd_fork(seq, stream, &child), "fork");
	decode(seq, tokens, at + 1, 5 * P);
	kvd_seq_free(seq);
	CHECK(found(tokens) == 2 * P, "%s: %zu tokens found, NaN at %u",
	      kind->formats, found(tokens), at);
	decode(child, tokens, at + 1, 5 * P);
	kvd_seq_free(child);
	CHECK(found(tokens) == 2 * P, "%s: %zu tokens found after a fork",
	      kind->formats, found(tokens));
	toy_nan_token = UINT32_MAX;
}

/* A launch's words are its own: who decodes in between is not suspected. */
static void test_nan_between(void)
{
	uint32_t tokens[2][5 * P];
	struct kvd_seq *seqs[2];

	for (int i = 0; i < 2; i++) {
		toy_tokens(&seed, tokens[i], 5 * P);
		CHECK(!kvd_seq_new(toy.sp, NULL, &seqs[i]), "new");
	}
	toy_nan_token = tokens[1][2 * P + 4] = UINT32_MAX - 1;
	for (uint32_t n = 0; n < 5 * P; n++)
		for (int i = 0; i < 2; i++)
			decode(seqs[i], tokens[i], n, n + 1);
	for (int i = 0; i < 2; i++)
		kvd_seq_free(seqs[i]);
	CHECK(found(tokens[1]) == 2 * P && found(tokens[0]) == 4 * P,
	      "%s: %zu tokens found beside NaN, %zu with it", kind->formats,
	      found(tokens[0]), found(tokens[1]));
	toy_nan_token = UINT32_MAX;
}

static void test_nan(void)
{
	test_nan_at(2 * P + 4);
	test_nan_at(3 * P - 1);
	test_nan_between();
	CHECK(!kvd_batch_set(batch, NULL, 0, stream), "an empty set");
	test_nan_between(); /* its steps are now in other places */
}

/*
 * Between a set and its launch pages of its tables may be given up: a prefix
 * that somebody else was quicker to publish. They stay until it has run.
 */
static void test_retire(void)
{
	uint32_t tokens[2 * P];
	struct kvd_seq *seq, *other;
	struct kvd_item it;
	const uint32_t *tok = tokens + P;
	struct kvd_seq_opts o = { .size = sizeof(o), .extra = { ++salt, 2 } };

	if (!cu) /* the host publishes in commit */
		return;
	toy_tokens(&seed, tokens, 2 * P);
	CHECK(!kvd_seq_new(toy.sp, &o, &seq) &&
	      !kvd_seq_new(toy.sp, &o, &other), "new");
	decode(seq, tokens, 0, P - 1);
	CHECK(!toy_run(&toy, other, tokens, P, P, NULL), "run");
	finish();
	CHECK(!kvd_process(toy.k) && STAILQ_EMPTY(&toy.sp->retired), "idle");
	it = (struct kvd_item){ seq, 1 };
	tok = tokens + P - 1;
	CHECK(!kvd_batch_set(batch, &it, 1, stream), "set");
	inputs(&it, 1, &tok);
	launch();
	CHECK(!kvd_commit(seq, tok, 1, stream), "commit");
	tok = tokens + P;
	CHECK(!kvd_batch_set(batch, &it, 1, stream), "set");
	finish();
	CHECK(!kvd_process(toy.k), "process");
	CHECK(!STAILQ_EMPTY(&toy.sp->retired), "%s: a page that the next launch "
	      "reads has gone", kind->formats);
	inputs(&it, 1, &tok);
	launch();
	CHECK(!kvd_commit(seq, tok, 1, stream), "commit");
	finish();
	CHECK(!kvd_process(toy.k) && !kvd_process(toy.k) &&
	      STAILQ_EMPTY(&toy.sp->retired), "pages stay");
	kvd_seq_free(seq);
	kvd_seq_free(other);
}

static void refused(int r, const char *text)
{
	CHECK(r == -EINVAL && strstr(kvd_error(toy.k), text), "%d: %s, not %s",
	      r, kvd_error(toy.k), text);
}

static int set(struct kvd_seq *seq, uint32_t n)
{
	struct kvd_item it = { seq, n };

	return kvd_batch_set(batch, &it, 1, stream);
}

static void test_refused(void)
{
	struct kvd_batch_opts o = { .size = sizeof(o), .max_items = 2 };
	struct kvd_item items[SEQS + 1];
	struct kvd_append_args kv = {
		.size = sizeof(kv), .k = rows[0][1], .v = rows[0][2],
		.stream = stream, .batch = batch,
	};
	struct kvd_attend_args at = {
		.size = sizeof(at), .q = rows[0][0], .out = rows[0][3],
		.nr_q_heads = 2 * toy.opts.geometry.groups[0].nr_kv_heads,
		.stream = stream, .batch = batch,
	};
	uint32_t tokens[N] = { 0 };
	struct kvd_batch *small;
	struct kvd_seq *seq = fresh();
	struct toy first;

	refused(kvd_batch_new(toy.sp, &o, &small), "max_tokens");
	o.max_tokens = 2 * P;
	o.max_rows = 3;
	refused(kvd_batch_new(toy.sp, &o, &small), "max_rows");
	o.max_rows = 0;
	CHECK(!kvd_batch_new(toy.sp, &o, &small), "%s", kvd_error(toy.k));
	refused(set(seq, kind->item_rows + 1), "tokens, the batch takes");
	for (size_t i = 0; i <= SEQS; i++)
		items[i] = (struct kvd_item){ i ? fresh() : seq, 1 };
	refused(kvd_batch_set(batch, items, SEQS + 1, stream), "the batch takes");
	items[1].seq = seq;
	refused(kvd_batch_set(small, items, 2, stream), "came before");
	refused(kvd_append(toy.sp, &kv), "not set");
	CHECK(!set(seq, 1) && !kvd_append(toy.sp, &kv) &&
	      !kvd_attend(toy.sp, &at), "%s", kvd_error(toy.k));
	kv.nr_items = 1;
	refused(kvd_append(toy.sp, &kv), "which is meant");
	kv.nr_items = 0;
	at.nr_q_heads *= 64;
	refused(kvd_attend(toy.sp, &at), "q heads");
	at.nr_q_heads /= 64;
	at.batch = small;
	refused(kvd_attend(toy.sp, &at), "not set");
	CHECK(!kvd_batch_set(small, items, 1, stream), "%s", kvd_error(toy.k));
	refused(kvd_attend(toy.sp, &at), "q heads"); /* it has none */
	refused(kvd_append(toy.sp, &kv), "not set"); /* the other has it now */
	CHECK(!set(seq, 1) && !kvd_commit(seq, tokens, 1, stream), "%s",
	      kvd_error(toy.k));
	refused(kvd_append(toy.sp, &kv), "has changed");
	CHECK(!toy_run(&toy, seq, tokens, 2 * P - 1, N, NULL), "run");
	refused(kvd_batch_set(small, items, 1, stream), "its sequence has");
	kv.size = offsetof(struct kvd_append_args, batch); /* an old program's */
	kv.items = items;
	kv.nr_items = 1;
	CHECK(!kvd_append(toy.sp, &kv), "%s", kvd_error(toy.k));
	kv.size++;
	refused(kvd_append(toy.sp, &kv), "size");
	kv.size = sizeof(kv);
	kv.nr_items = 0;
	first = toy;
	kind_open(9);
	refused(kvd_append(toy.sp, &kv), "another space");
	toy_close(&toy);
	toy = first;
	finish();
	for (size_t i = 2; i <= SEQS; i++)
		kvd_seq_free(items[i].seq);
	kvd_seq_free(seq);
	kvd_batch_free(small);
	kvd_batch_free(NULL);
}

/* ---- */

static void batch_make(void)
{
	const struct kvd_geometry *geo = &toy.opts.geometry;
	struct kvd_batch_opts o = {
		.size = sizeof(o),
		.max_items = SEQS,
		.max_item_rows = kind->item_rows,
		.max_tokens = N,
		.share = 1,
	};

	max_rows = SEQS + kind->item_rows - 1;
	o.max_rows = max_rows;
	for (uint32_t g = 0; g < geo->nr_groups; g++)
		if (2 * geo->groups[g].nr_kv_heads > o.max_q_heads)
			o.max_q_heads = 2 * geo->groups[g].nr_kv_heads;
	CHECK(!kvd_batch_new(toy.sp, &o, &batch), "%s", kvd_error(toy.k));
	for (uint32_t l = 0; l < nr_layers(); l++)
		for (int i = 0; i < 4; i++)
			rows[l][i] = toy_floats(max_rows * 256);
}

static void batch_drop(void)
{
	if (graph)
		CHECK(!cu->cuGraphExecDestroy(graph), "graph");
	graph = NULL;
	kvd_batch_free(batch);
	for (uint32_t l = 0; l < nr_layers(); l++)
		for (int i = 0; i < 4; i++)
			toy_floats_free(rows[l][i]);
}

static void test_kind(void)
{
	/* Segments so small that more are mapped between launches. */
	const char *const args[] = { "--device", device, "--segment", "2M",
				     NULL };

	printf("%s, %u rows of an item\n", kind->formats, kind->item_rows);
	fflush(stdout);
	daemon_start(&d, args);
	kind_open(1);
	batch_make();
	capture();
	test_refused();
	test_steps();
	test_nan();
	test_retire();
	batch_drop();
	toy_close(&toy);
	daemon_assert_idle(&d);
	daemon_stop(&d);
}

static void cuda_start(void)
{
	char why[160] = "";

	toy_on_cuda(device);
	cu = cuda_driver(why, sizeof(why));
	CHECK(cu, "%s", why);
	CHECK(!cu->cuStreamCreateWithPriority((cu_stream *)&stream,
					      CU_STREAM_OWN_ORDER, 0),
	      "stream");
}

int main(int argc, char **argv)
{
	int first = argc > 3 ? atoi(argv[2]) : 0;
	int by = argc > 3 ? atoi(argv[3]) : 1;

	seed = toy_seed();
	if (argc > 1)
		device = argv[1];
	if (!strncmp(device, "cuda", 4))
		cuda_start();
	for (kind = kinds + first;
	     kind < kinds + sizeof(kinds) / sizeof(*kinds); kind += by)
		test_kind();
	if (cu)
		CHECK(!cu->cuStreamDestroy(stream), "stream");
	return 0;
}
