/* SPDX-License-Identifier: Apache-2.0 */
/*
 * quantize.c - kvbench quantize: f32 keys and values into pages on the host.
 *
 * Each round takes rows and pages that the caches no longer hold, then reads
 * the memory of the rows for as long, with as many threads. Bytes are those of
 * the rows read and of the pages written.
 */
#include <errno.h>
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

static const char summary[] = "f32 keys and values into pages";

struct opts {
	const char *format_name;
	unsigned kv_heads, dim, tokens, page_tokens;
	unsigned threads; /* 0: all */
	unsigned rounds;
	bool json;
};

struct run {
	const struct opts *o;
	const struct host_kernels *k;
	struct pages pages;
	struct memory rows; /* as many sets of K, then V, as of pages */
	double *us, *membw; /* [rounds] */
};

#define RUN_NULL                                                               \
	{                                                                      \
		.pages = PAGES_NULL, .rows = MEMORY_NULL                       \
	}

static void run_fini(struct run *r)
{
	pages_fini(&r->pages);
	memory_fini(&r->rows);
	free(r->us);
	free(r->membw);
}

/* Floats of K, or of V, in one set. */
static size_t set_floats(const struct run *r)
{
	return (size_t)r->o->tokens * r->o->kv_heads * r->o->dim;
}

static size_t rows_bytes(const struct run *r)
{
	return 2 * set_floats(r) * sizeof(float);
}

static int run_init(struct run *r, const struct opts *o, unsigned format)
{
	const struct pages_shape shape = { format, o->kv_heads, o->dim,
		                           o->page_tokens };
	size_t at, n;
	float *values;
	int err;

	r->o = o;
	r->k = host_kernels();
	err = pages_init(&r->pages, &shape,
	                 (o->tokens + o->page_tokens - 1) / o->page_tokens);
	if (err)
		return err;
	n = set_floats(r);
	r->us = calloc(o->rounds, sizeof(*r->us));
	r->membw = calloc(o->rounds, sizeof(*r->membw));
	values = pages_values(n);
	err = memory_init(&r->rows, rows_bytes(r) * r->pages.nr_sets);
	if (err || !r->us || !r->membw || !values) {
		fprintf(stderr, "kvbench quantize: out of memory\n");
		free(values);
		return -ENOMEM;
	}
	for (at = 0; at < 2 * r->pages.nr_sets; at++)
		memcpy(r->rows.base + at * n * sizeof(float), values,
		       n * sizeof(float));
	free(values);
	return 0;
}

/* Bytes that one step has to read and write. */
static size_t step_bytes(const struct run *r)
{
	const struct page_layout *l = &r->pages.layout;
	size_t row = (size_t)l->k_dim * page_code_bytes(l->k_format);

	if (l->k_format == KVD_INT8)
		row += sizeof(struct affine_meta);
	return rows_bytes(r) + 2 * row * l->nr_heads * r->o->tokens;
}

static double step(struct run *r, unsigned i)
{
	const struct opts *o = r->o;
	const float *k = (const float *)r->rows.base +
	                 i % r->pages.nr_sets * 2 * set_floats(r);
	void *base = r->pages.mem.base;
	const struct kv_seq seq = { .nr_rows = o->tokens };
	uint32_t bad = 0;
	const struct kv_append_args a = {
		.layouts = { r->pages.layout },
		.bases = &base,
		.pages = pages_set(&r->pages, i),
		.seqs = &seq,
		.nr_seqs = 1,
		.nr_rows = o->tokens,
		.dtype = KVD_DTYPE_F32,
		.k = k,
		.v = k + set_floats(r),
		.k_stride = (uint64_t)o->kv_heads * o->dim,
		.v_stride = (uint64_t)o->kv_heads * o->dim,
		.nonfinite = &bad,
		.nr_threads = o->threads,
	};
	uint64_t start = stats_now_ns();

	r->k->append(&a);
	return (double)(stats_now_ns() - start) / 1e3;
}

/* Once through all sets first, so that no page is touched the first time. */
static void measure(struct run *r)
{
	struct bandwidth bw = { &r->rows, 0, r->o->threads };
	unsigned i, set = 0;

	while (set < r->pages.nr_sets)
		step(r, set++);
	for (i = 0; i < r->o->rounds; i++) {
		r->us[i] = step(r, set++);
		r->membw[i] = bandwidth_sample(&bw, r->us[i]);
	}
}

static json_t *figures(struct run *r)
{
	const struct opts *o = r->o;
	double us = stats_median(r->us, o->rounds);
	double bw = stats_median(r->membw, o->rounds);
	double gbps = (double)step_bytes(r) / us / 1e3;

	return json_pack(
		"{s:s, s:s, s:s, s:i, s:f, s:I, s:f, s:f, s:f, s:f, s:s, s:i,"
		" s:i, s:i, s:i, s:i, s:b}",
		"bench", "quantize", "device", "host", "format", o->format_name,
		"threads", (int)o->threads, "us_median", us, "bytes",
		(json_int_t)step_bytes(r), "gbps", gbps, "membw_gbps", bw,
		"fraction", gbps / bw, "input_gbps",
		(double)rows_bytes(r) / us / 1e3, "isa", r->k->name, "kv_heads",
		(int)o->kv_heads, "dim", (int)o->dim, "tokens", (int)o->tokens,
		"page_tokens", (int)o->page_tokens, "rounds", (int)o->rounds,
		"huge_pages", (int)r->pages.mem.huge_pages);
}

static int run(int argc, char **argv)
{
	struct opts o = { "int8", 8, 128, 4096, 64, 0, 30, false };
	const struct arg args[] = {
		{ "format", ARG_TEXT, &o.format_name, "f16, bf16 or int8" },
		{ "kv-heads", ARG_COUNT, &o.kv_heads, "key and value heads" },
		{ "dim", ARG_COUNT, &o.dim, "of a head" },
		{ "tokens", ARG_COUNT, &o.tokens, "stored in a round" },
		{ "page-tokens", ARG_COUNT, &o.page_tokens, "32, 64 or 128" },
		{ "threads", ARG_COUNT, &o.threads, "default: one per CPU" },
		{ "rounds", ARG_COUNT, &o.rounds, "of storing and of reading" },
		{ "json", ARG_FLAG, &o.json, "one JSON object" },
		{ NULL }
	};
	struct run r = RUN_NULL;
	int format, err, status = args_parse(argc, argv, args, summary);

	if (status)
		return status < 0 ? BENCH_USAGE : 0;
	format = kvd_format_parse(o.format_name);
	if (format < 0) {
		fprintf(stderr, "kvbench quantize: no format %s\n",
		        o.format_name);
		return BENCH_USAGE;
	}
	if (!o.threads)
		o.threads = (unsigned)omp_get_max_threads();
	err = run_init(&r, &o, (unsigned)format);
	if (!err) {
		measure(&r);
		status = report_print(figures(&r), o.json);
	} else {
		status = err == -EINVAL ? BENCH_USAGE : BENCH_FAILED;
	}
	run_fini(&r);
	return status;
}

const struct bench bench_quantize = { "quantize", summary, run };
