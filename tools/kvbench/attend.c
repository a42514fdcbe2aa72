/* SPDX-License-Identifier: Apache-2.0 */
/*
 * attend.c - kvbench attend: one decode step of attention on the host.
 *
 * Each round attends with one query token per sequence over keys and values
 * that the caches no longer hold, then reads the same memory for as long, with
 * as many threads: the bandwidth that the step is measured against.
 */
#include <errno.h>
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tools/kvbench/args.h"
#include "tools/kvbench/bandwidth.h"
#include "tools/kvbench/bench.h"
#include "tools/kvbench/pages.h"
#include "tools/kvbench/report.h"
#include "tools/kvbench/stats.h"

#define FILL_TOKENS KVD_MAX_PAGE_TOKENS /* random, the same in every page */
#define MAX_HEADS   4096

static const char summary[] =
	"attention of one token per sequence, against read bandwidth";

struct opts {
	const char *format_name;
	unsigned heads, kv_heads, dim, ctx, page_tokens, batch;
	unsigned threads; /* 0: all */
	unsigned rounds;
	bool json;
};

struct run {
	const struct opts *o;
	const struct host_kernels *k;
	struct pages pages;
	unsigned seq_pages;
	struct kv_seq *seqs;
	float *q, *out, *fill;
	double *us, *membw; /* [rounds] */
};

#define RUN_NULL                                                               \
	{                                                                      \
		.pages = PAGES_NULL                                            \
	}

static void run_fini(struct run *r)
{
	pages_fini(&r->pages);
	free(r->seqs);
	free(r->q);
	free(r->out);
	free(r->fill);
	free(r->us);
	free(r->membw);
}

/* Fills every page of every set. */
static void run_fill(struct run *r)
{
	struct page_layout *l = &r->pages.layout;
	void *base = r->pages.mem.base;
	uint32_t bad = 0, i;
	struct kv_seq seq = { .nr_rows = l->page_tokens };
	struct kv_append_args a = {
		.layouts = { *l },
		.bases = &base,
		.seqs = &seq,
		.nr_seqs = 1,
		.nr_rows = l->page_tokens,
		.k = r->fill,
		.v = r->fill,
		.k_stride = (uint64_t)l->nr_heads * l->k_dim,
		.v_stride = (uint64_t)l->nr_heads * l->v_dim,
		.nonfinite = &bad,
	};

	for (i = 0; i < r->pages.nr_sets * r->pages.per_set; i++) {
		a.pages = r->pages.refs + i;
		r->k->append(&a);
	}
}

static int run_init(struct run *r, const struct opts *o, unsigned format)
{
	const struct pages_shape shape = { format, o->kv_heads, o->dim,
		                           o->page_tokens };
	size_t nr_q = (size_t)o->batch * o->heads * o->dim;
	unsigned i;
	int err;

	r->o = o;
	r->k = host_kernels();
	r->seq_pages = (o->ctx + o->page_tokens - 1) / o->page_tokens;
	err = pages_init(&r->pages, &shape, (uint64_t)r->seq_pages * o->batch);
	if (err)
		return err;
	r->seqs = calloc(o->batch, sizeof(*r->seqs));
	r->q = pages_values(nr_q);
	r->out = calloc(nr_q, sizeof(*r->out));
	r->fill = pages_values((size_t)FILL_TOKENS * o->kv_heads * o->dim);
	r->us = calloc(o->rounds, sizeof(*r->us));
	r->membw = calloc(o->rounds, sizeof(*r->membw));
	if (!r->seqs || !r->q || !r->out || !r->fill || !r->us || !r->membw) {
		fprintf(stderr, "kvbench attend: out of memory\n");
		return -ENOMEM;
	}
	for (i = 0; i < o->batch; i++)
		r->seqs[i] = (struct kv_seq){ .first_page = i * r->seq_pages,
			                      .first_row = i,
			                      .nr_rows = 1,
			                      .pos = o->ctx - 1 };
	run_fill(r);
	return 0;
}

/* Bytes of K and V, metadata included, that one step has to read. */
static size_t step_bytes(const struct run *r)
{
	const struct page_layout *l = &r->pages.layout;
	size_t token = 2 * (size_t)l->k_dim * page_code_bytes(l->k_format);

	if (l->k_format == KVD_INT8)
		token += 2 * sizeof(struct affine_meta);
	return token * l->nr_heads * r->o->ctx * r->o->batch;
}

static int step(struct run *r, unsigned i, double *us)
{
	const struct opts *o = r->o;
	const void *base = r->pages.mem.base;
	const struct kv_attend_args a = {
		.layouts = { r->pages.layout },
		.bases = &base,
		.pages = pages_set(&r->pages, i),
		.seqs = r->seqs,
		.nr_seqs = o->batch,
		.nr_rows = o->batch,
		.nr_q_heads = o->heads,
		.scale = 1.0f / sqrtf((float)o->dim),
		.q = r->q,
		.out = r->out,
		.q_stride = (uint64_t)o->heads * o->dim,
		.out_stride = (uint64_t)o->heads * o->dim,
		.nr_threads = o->threads,
	};
	uint64_t start = stats_now_ns();
	int err = r->k->attend(&a);

	*us = (double)(stats_now_ns() - start) / 1e3;
	return err;
}

static int measure(struct run *r)
{
	struct bandwidth bw = { &r->pages.mem, 0, r->o->threads };
	double warm;
	unsigned i;
	int err = step(r, 0, &warm);

	for (i = 0; i < r->o->rounds && !err; i++) {
		err = step(r, i + 1, &r->us[i]);
		r->membw[i] = bandwidth_sample(&bw, r->us[i]);
	}
	return err;
}

static json_t *figures(struct run *r)
{
	const struct opts *o = r->o;
	double us = stats_median(r->us, o->rounds);
	double bw = stats_median(r->membw, o->rounds);
	double gbps = (double)step_bytes(r) / us / 1e3;

	return json_pack(
		"{s:s, s:s, s:s, s:i, s:f, s:I, s:f, s:f, s:f, s:s, s:i, s:i,"
		" s:i, s:i, s:i, s:i, s:i, s:b}",
		"bench", "attend", "device", "host", "format", o->format_name,
		"threads", (int)o->threads, "us_median", us, "bytes",
		(json_int_t)step_bytes(r), "gbps", gbps, "membw_gbps", bw,
		"fraction", gbps / bw, "isa", r->k->name, "heads",
		(int)o->heads, "kv_heads", (int)o->kv_heads, "dim", (int)o->dim,
		"ctx", (int)o->ctx, "batch", (int)o->batch, "page_tokens",
		(int)o->page_tokens, "rounds", (int)o->rounds, "huge_pages",
		(int)r->pages.mem.huge_pages);
}

/* Checks what pages_init() does not. Return: the format, or -EINVAL. */
static int opts_check(struct opts *o)
{
	int format = kvd_format_parse(o->format_name);

	if (format < 0)
		fprintf(stderr, "kvbench attend: no format %s\n",
		        o->format_name);
	else if (o->heads > MAX_HEADS || o->heads % o->kv_heads)
		fprintf(stderr,
		        "kvbench attend: --heads is not a multiple of "
		        "--kv-heads up to %d\n",
		        MAX_HEADS);
	else
		return format;
	return -EINVAL;
}

static int run(int argc, char **argv)
{
	struct opts o = { "f16", 32, 8, 128, 16384, 64, 1, 0, 30, false };
	const struct arg args[] = {
		{ "format", ARG_TEXT, &o.format_name, "f16, bf16 or int8" },
		{ "heads", ARG_COUNT, &o.heads, "query heads" },
		{ "kv-heads", ARG_COUNT, &o.kv_heads, "key and value heads" },
		{ "dim", ARG_COUNT, &o.dim, "of a head" },
		{ "ctx", ARG_COUNT, &o.ctx, "tokens attended over" },
		{ "page-tokens", ARG_COUNT, &o.page_tokens, "32, 64 or 128" },
		{ "batch", ARG_COUNT, &o.batch, "sequences" },
		{ "threads", ARG_COUNT, &o.threads, "default: one per CPU" },
		{ "rounds", ARG_COUNT, &o.rounds,
		  "of attention and of reading" },
		{ "json", ARG_FLAG, &o.json, "one JSON object" },
		{ NULL }
	};
	struct run r = RUN_NULL;
	int format, err, status = args_parse(argc, argv, args, summary);

	if (status)
		return status < 0 ? BENCH_USAGE : 0;
	format = opts_check(&o);
	if (format < 0)
		return BENCH_USAGE;
	if (!o.threads)
		o.threads = (unsigned)omp_get_max_threads();
	err = run_init(&r, &o, (unsigned)format);
	if (!err)
		err = measure(&r);
	status = err == -EINVAL ? BENCH_USAGE
	         : err          ? BENCH_FAILED
	                        : report_print(figures(&r), o.json);
	run_fini(&r);
	return status;
}

const struct bench bench_attend = { "attend", summary, run };
