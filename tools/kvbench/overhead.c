// SPDX-License-Identifier: Apache-2.0
/*
 * overhead.c - kvbench overhead: what kvd costs where nothing is shared.
 *
 * Two requests are under way at a time, one through libkvd and a daemon, one
 * on an arena of its own (overhead.h). They take turns step by step, and who
 * is first changes, so that whatever else the machine does meets both alike;
 * a ratio is of two steps that follow each other. A request is a prefix that
 * is looked for and not found, a prompt that is stored, and steps that decode
 * a token each; no matrices of a model are multiplied and nothing is attended
 * over while the prompt is stored: that would be the same on both sides, and
 * hide what differs. The first round only warms up.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tools/kvbench/args.h"
#include "tools/kvbench/bench.h"
#include "tools/kvbench/formats.h"
#include "tools/kvbench/overhead.h"
#include "tools/kvbench/pages.h"
#include "tools/kvbench/report.h"
#include "tools/kvbench/stats.h"

#define CHUNK 256u /* tokens of a prompt in one call */
#define KVD   0
#define OWN   1
#define SIDES 2

static const char summary[] =
	"a request that shares nothing, beside one without kvd";

static const struct overhead_side *const sides[SIDES] = { &overhead_kvd,
	                                                  &overhead_own };

struct opts {
	const char *formats;
	const char *arena;
	unsigned layers, heads, kv_heads, dim, page_tokens;
	unsigned batch, ctx, steps, rounds, threads;
	bool json;
};

/* Of each side; a step is one of nr, a request one of rounds. */
struct samples {
	double *step_us[SIDES], *step_cpu_us[SIDES];
	double *request_us[SIDES];
	size_t nr;
	unsigned nr_requests;
};

struct run {
	const struct opts *o;
	const struct format_pair *format;
	struct overhead_shape shape;
	void *side[SIDES];
	float *q, *kv, *out[SIDES];
	uint32_t *tokens; /* [batch][ctx] */
	uint32_t *next;   /* [batch] */
	struct samples s;
};

static int shape_init(struct overhead_shape *s, const struct opts *o,
                      const struct format_pair *f)
{
	struct kvd_geometry *g = &s->geometry;
	uint64_t pages;
	const char *err;

	*g = (struct kvd_geometry){
		.size = sizeof(*g),
		.page_tokens = o->page_tokens,
		.k_format = f->k,
		.v_format = f->v,
		.nr_groups = 1,
		.groups = { { .nr_layers = o->layers,
		              .nr_kv_heads = o->kv_heads,
		              .k_dim = o->dim,
		              .v_dim = o->dim } },
	};
	err = kvd_geometry_check(g);
	if (!err && kvd_formats_whole(f->k, f->v))
		err = "only formats that tokens are appended to in place";
	if (!err && (o->heads % o->kv_heads || o->heads > KVD_MAX_HEADS))
		err = "--heads is not a multiple of --kv-heads";
	if (!err && strcmp(o->arena, "memfd") && strcmp(o->arena, "private"))
		err = "--arena is memfd or private";
	if (!err && page_layout_class(&s->layout, g, 0))
		err = "a page would be too large";
	if (err) {
		fprintf(stderr, "kvbench overhead: %s: %s\n", f->name, err);
		return -EINVAL;
	}
	s->heads = o->heads;
	s->batch = o->batch;
	s->max_tokens = o->ctx + o->steps;
	s->threads = o->threads;
	s->memfd = strcmp(o->arena, "memfd") == 0;
	pages = (s->max_tokens + o->page_tokens - 1) / o->page_tokens;
	s->pool_bytes = (4u << 20) +
	                (pages * o->batch + pages / 2 + 16) *
	                        s->layout.page_bytes;
	return 0;
}

static int samples_init(struct samples *s, const struct opts *o)
{
	size_t nr = (size_t)o->rounds * o->steps;
	int i;

	for (i = 0; i < SIDES; i++) {
		s->step_us[i] = calloc(nr, sizeof(double));
		s->step_cpu_us[i] = calloc(nr, sizeof(double));
		s->request_us[i] = calloc(o->rounds, sizeof(double));
		if (!s->step_us[i] || !s->step_cpu_us[i] || !s->request_us[i])
			return -ENOMEM;
	}
	return 0;
}

static void run_fini(struct run *r)
{
	int i;

	for (i = 0; i < SIDES; i++) {
		sides[i]->fini(r->side[i]);
		free(r->out[i]);
		free(r->s.step_us[i]);
		free(r->s.step_cpu_us[i]);
		free(r->s.request_us[i]);
	}
	free(r->q);
	free(r->kv);
	free(r->tokens);
	free(r->next);
}

static int run_init(struct run *r, const struct opts *o,
                    const struct format_pair *f)
{
	size_t row = (size_t)o->kv_heads * o->dim;
	size_t q_row = (size_t)o->heads * o->dim;
	unsigned rows = o->batch > CHUNK ? o->batch : CHUNK;
	int i, err;

	*r = (struct run){ .o = o, .format = f };
	err = shape_init(&r->shape, o, f);
	if (!err)
		err = samples_init(&r->s, o);
	if (err)
		return err;
	r->q = pages_values(o->batch * q_row);
	r->kv = pages_values(2 * rows * row);
	r->tokens = calloc((size_t)o->batch * o->ctx, sizeof(*r->tokens));
	r->next = calloc(o->batch, sizeof(*r->next));
	for (i = 0; i < SIDES; i++)
		r->out[i] = calloc(o->batch * q_row, sizeof(float));
	if (!r->q || !r->kv || !r->tokens || !r->next || !r->out[KVD] ||
	    !r->out[OWN])
		return -ENOMEM;
	for (i = 0; i < SIDES && !err; i++)
		err = sides[i]->init(&r->shape, &r->side[i]);
	return err;
}

/* K and V of a prompt's rows, or of a step's, differ from each other. */
static struct overhead_rows rows_of(const struct run *r, int side)
{
	return (struct overhead_rows){
		.q = r->q,
		.k = r->kv,
		.v = r->kv + (size_t)r->o->kv_heads * r->o->dim,
		.out = r->out[side],
	};
}

/* No two sequences of no two rounds begin alike. */
static void tokens_make(struct run *r, unsigned round)
{
	unsigned b, i;

	for (b = 0; b < r->o->batch; b++)
		for (i = 0; i < r->o->ctx; i++)
			r->tokens[(size_t)b * r->o->ctx + i] =
				(round * r->o->batch + b) * 1000003u + i;
}

/* From the request's beginning to its first step. Adds to *us. */
static int prompt(struct run *r, int side, double *us)
{
	const struct overhead_side *s = sides[side];
	const struct opts *o = r->o;
	struct overhead_rows rows = rows_of(r, side);
	uint64_t start = stats_now_ns();
	unsigned b, i, n;
	int err = s->begin(r->side[side], r->tokens, o->ctx);

	for (b = 0; b < o->batch; b++) {
		for (i = 0; i < o->ctx && !err; i += n) {
			n = o->ctx - i < CHUNK ? o->ctx - i : CHUNK;
			err = s->prefill(r->side[side], b,
			                 r->tokens + (size_t)b * o->ctx + i, n,
			                 &rows);
		}
	}
	*us += (double)(stats_now_ns() - start) / 1e3;
	return err;
}

static int step(struct run *r, int side, double *us, double *cpu_us)
{
	const struct overhead_side *s = sides[side];
	struct overhead_rows rows = rows_of(r, side);
	uint64_t cpu = s->cpu_ns(r->side[side]), start = stats_now_ns();
	int err = s->step(r->side[side], r->next, &rows);

	*us = (double)(stats_now_ns() - start) / 1e3;
	*cpu_us = (double)(s->cpu_ns(r->side[side]) - cpu) / 1e3;
	return err;
}

static int same_output(const struct run *r)
{
	size_t n = (size_t)r->o->batch * r->o->heads * r->o->dim;

	if (memcmp(r->out[KVD], r->out[OWN], n * sizeof(float)) == 0)
		return 0;
	fprintf(stderr, "kvbench overhead: the outputs differ\n");
	return -EDOM;
}

/* One step of each side, @first first. */
static int step_both(struct run *r, int first, double *us)
{
	struct samples *s = &r->s;
	int i, err = 0;

	for (i = 0; i < SIDES && !err; i++) {
		int side = (first + i) % SIDES;

		err = step(r, side, &s->step_us[side][s->nr],
		           &s->step_cpu_us[side][s->nr]);
		us[side] += s->step_us[side][s->nr];
	}
	s->nr++;
	return err ? err : same_output(r);
}

static void end(struct run *r, int side, double *us)
{
	uint64_t start = stats_now_ns();

	sides[side]->end(r->side[side]);
	*us += (double)(stats_now_ns() - start) / 1e3;
}

static int measure_round(struct run *r, unsigned round)
{
	double us[SIDES] = { 0 };
	unsigned i, b;
	int side, err = 0;

	tokens_make(r, round);
	for (i = 0; i < SIDES && !err; i++) {
		side = (int)(round + i) % SIDES;
		err = prompt(r, side, &us[side]);
	}
	for (i = 0; i < r->o->steps && !err; i++) {
		for (b = 0; b < r->o->batch; b++)
			r->next[b] = i;
		err = step_both(r, (int)(round + i) % SIDES, us);
	}
	for (i = 0; i < SIDES && !err; i++) {
		side = (int)(round + i) % SIDES;
		end(r, side, &us[side]);
		r->s.request_us[side][r->s.nr_requests] = us[side];
	}
	r->s.nr_requests++;
	return err;
}

/* The first round only warms up: its samples are dropped. */
static int measure(struct run *r)
{
	unsigned round;
	int err = 0;

	for (round = 0; round <= r->o->rounds && !err; round++) {
		if (round <= 1)
			r->s.nr = r->s.nr_requests = 0;
		err = measure_round(r, round);
	}
	return err;
}

/* Median and quartiles of @a over @b, or of their difference. */
static void put_pairs(json_t *j, const char *name, const double *a,
                      const double *b, size_t nr, bool ratio)
{
	double *x = calloc(nr, sizeof(*x));
	char key[48];
	size_t i;

	for (i = 0; x && i < nr; i++)
		x[i] = ratio ? a[i] / b[i] : a[i] - b[i];
	if (!x)
		return;
	json_object_set_new(j, name, json_real(stats_median(x, nr)));
	snprintf(key, sizeof(key), "%s_q1", name);
	json_object_set_new(j, key, json_real(stats_percentile(x, nr, 25)));
	snprintf(key, sizeof(key), "%s_q3", name);
	json_object_set_new(j, key, json_real(stats_percentile(x, nr, 75)));
	free(x);
}

/* Pairs come first: a median sorts its samples. */
static void put_samples(json_t *j, struct samples *s)
{
	put_pairs(j, "step_ratio", s->step_us[KVD], s->step_us[OWN], s->nr,
	          true);
	put_pairs(j, "step_cpu_ratio", s->step_cpu_us[KVD],
	          s->step_cpu_us[OWN], s->nr, true);
	put_pairs(j, "step_added_us", s->step_us[KVD], s->step_us[OWN], s->nr,
	          false);
	put_pairs(j, "request_ratio", s->request_us[KVD], s->request_us[OWN],
	          s->nr_requests, true);
	json_object_set_new(j, "step_us_kvd",
	                    json_real(stats_median(s->step_us[KVD], s->nr)));
	json_object_set_new(j, "step_us_own",
	                    json_real(stats_median(s->step_us[OWN], s->nr)));
	json_object_set_new(j, "request_us_kvd",
	                    json_real(stats_median(s->request_us[KVD],
	                                           s->nr_requests)));
	json_object_set_new(j, "request_us_own",
	                    json_real(stats_median(s->request_us[OWN],
	                                           s->nr_requests)));
}

static json_t *figures(struct run *r)
{
	const struct opts *o = r->o;
	json_t *j = json_pack(
		"{s:s, s:s, s:s, s:s, s:i, s:i, s:i, s:i, s:i, s:i}", "bench",
		"overhead", "device", "host", "format", r->format->name,
		"arena", o->arena, "threads", (int)o->threads, "layers",
		(int)o->layers, "batch", (int)o->batch, "ctx", (int)o->ctx,
		"steps", (int)r->s.nr, "requests", (int)r->s.nr_requests);

	if (j)
		put_samples(j, &r->s);
	return j;
}

static int run_one(const struct opts *o, const struct format_pair *f)
{
	struct run r;
	int status = BENCH_FAILED, err = run_init(&r, o, f);

	if (!err)
		err = measure(&r);
	if (!err)
		status = report_print(figures(&r), o->json);
	run_fini(&r);
	return err == -EINVAL ? BENCH_USAGE : status;
}

static int run(int argc, char **argv)
{
	struct opts o = { .formats = "f16+int8",
		          .arena = "memfd",
		          .layers = 32,
		          .heads = 32,
		          .kv_heads = 8,
		          .dim = 128,
		          .page_tokens = 64,
		          .batch = 1,
		          .ctx = 2048,
		          .steps = 64,
		          .rounds = 5,
		          .threads = 1 };
	struct format_pair formats[FORMATS_MAX];
	const struct arg args[] = {
		{ "format", ARG_TEXT, &o.formats, "names with + between" },
		{ "layers", ARG_COUNT, &o.layers, "of the model" },
		{ "heads", ARG_COUNT, &o.heads, "query heads" },
		{ "kv-heads", ARG_COUNT, &o.kv_heads, "key and value heads" },
		{ "dim", ARG_COUNT, &o.dim, "of a head" },
		{ "page-tokens", ARG_COUNT, &o.page_tokens, "32, 64 or 128" },
		{ "batch", ARG_COUNT, &o.batch, "sequences" },
		{ "ctx", ARG_COUNT, &o.ctx, "tokens of a prompt" },
		{ "steps", ARG_COUNT, &o.steps, "tokens decoded after it" },
		{ "rounds", ARG_COUNT, &o.rounds, "requests on each side" },
		{ "threads", ARG_COUNT, &o.threads, "of the kernels" },
		{ "arena", ARG_TEXT, &o.arena,
		  "of the other side: memfd, as the pool's segments are, or "
		  "private memory" },
		{ "json", ARG_FLAG, &o.json, "one JSON object a format" },
		{ NULL }
	};
	int i, nr, status = args_parse(argc, argv, args, summary);

	if (status)
		return status < 0 ? BENCH_USAGE : 0;
	nr = formats_parse(o.formats, formats);
	if (nr < 0)
		return BENCH_USAGE;
	for (i = 0; i < nr && !status; i++)
		status = run_one(&o, &formats[i]);
	return status;
}

const struct bench bench_overhead = { "overhead", summary, run };
