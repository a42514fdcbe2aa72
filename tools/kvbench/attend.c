/* SPDX-License-Identifier: Apache-2.0 */
/*
 * attend.c - kvbench attend: one step of attention on the host.
 *
 * Each round attends over keys and values that the caches no longer hold, in
 * one format after the other, and after each reads other memory for as long,
 * with as many threads: the bandwidth that the step is measured against. One
 * query token per sequence is decode; more are a prompt's last.
 */
#include <errno.h>
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tools/kvbench/args.h"
#include "tools/kvbench/attend_gpu.h"
#include "tools/kvbench/bandwidth.h"
#include "tools/kvbench/bench.h"
#include "tools/kvbench/formats.h"
#include "tools/kvbench/gpu.h"
#include "tools/kvbench/pages.h"
#include "tools/kvbench/report.h"
#include "tools/kvbench/stats.h"

#define MAX_HEADS 4096

static const char summary[] =
	"attention of one token per sequence, against read bandwidth";

struct opts {
	const char *device, *formats;
	unsigned heads, kv_heads, dim, ctx, page_tokens, batch;
	unsigned rows;    /* query tokens of a sequence, the last of ctx */
	unsigned shared;  /* tokens that all sequences have in common */
	unsigned threads; /* 0: all */
	unsigned memory;  /* MiB; 0: more than caches hold */
	unsigned rounds;
	bool json;
};

/* One format. */
struct run {
	const struct opts *o;
	const struct host_kernels *k;
	struct format_pair format;
	struct pages pages;
	unsigned seq_pages;
	struct kv_seq *seqs;
	struct kv_page_ref *table; /* of one step */
	float *q, *out;
	double *us, *membw; /* [rounds] */
};

static void run_fini(struct run *r)
{
	pages_fini(&r->pages);
	free(r->seqs);
	free(r->table);
	free(r->q);
	free(r->out);
	free(r->us);
	free(r->membw);
}

static int run_alloc(struct run *r)
{
	const struct opts *o = r->o;
	size_t nr_q = (size_t)o->batch * o->rows * o->heads * o->dim;

	r->seqs = calloc(o->batch, sizeof(*r->seqs));
	r->table = calloc((size_t)o->batch * r->seq_pages, sizeof(*r->table));
	r->q = pages_values(nr_q);
	r->out = calloc(nr_q, sizeof(*r->out));
	r->us = calloc(o->rounds, sizeof(*r->us));
	r->membw = calloc(o->rounds, sizeof(*r->membw));
	return r->seqs && r->table && r->q && r->out && r->us && r->membw
	               ? 0
	               : -ENOMEM;
}

static int run_init(struct run *r, const struct opts *o,
                    const struct format_pair *f)
{
	const struct pages_shape shape = { f->k, f->v, o->kv_heads, o->dim,
		                           o->page_tokens };
	unsigned i;
	int err;

	r->o = o;
	r->k = host_kernels();
	r->format = *f;
	r->seq_pages = (o->ctx + o->page_tokens - 1) / o->page_tokens;
	err = pages_init(&r->pages, &shape, (uint64_t)r->seq_pages * o->batch,
	                 memory_set_bytes(o->memory));
	if (err)
		return err;
	err = run_alloc(r);
	if (!err)
		err = pages_fill(&r->pages, r->k);
	if (err) {
		fprintf(stderr, "kvbench attend: %s: %s\n", f->name,
		        err == -EDOM ? "refused the values" : "out of memory");
		return err;
	}
	for (i = 0; i < o->batch; i++)
		r->seqs[i] = (struct kv_seq){ .first_page = i * r->seq_pages,
			                      .first_row = i * o->rows,
			                      .nr_rows = o->rows,
			                      .pos = o->ctx - o->rows };
	return 0;
}

/* Bytes of K and V, metadata included, that one step has to read. */
static size_t step_bytes(const struct run *r)
{
	const struct page_layout *l = &r->pages.layout;
	size_t tokens = (size_t)r->o->ctx * r->o->batch -
	                (size_t)r->o->shared * (r->o->batch - 1);

	return tokens * l->nr_heads * l->record_bytes / l->page_tokens;
}

/* Multiply-adds of scores and values count two each; masked pairs none. */
static double step_flop(const struct run *r)
{
	const struct opts *o = r->o;
	double pairs = (double)o->rows * o->ctx -
	               (double)o->rows * (o->rows - 1) / 2;

	return 4 * pairs * o->batch * o->heads * o->dim;
}

/* The block tables of step @i: sequences begin with the same pages. */
static void step_table(struct run *r, unsigned i)
{
	const struct kv_page_ref *set = pages_set(&r->pages, i);
	unsigned common = r->o->shared / r->o->page_tokens, b;

	memcpy(r->table, set,
	       (size_t)r->seq_pages * r->o->batch * sizeof(*set));
	for (b = 1; b < r->o->batch; b++)
		memcpy(r->table + (size_t)b * r->seq_pages, set,
		       common * sizeof(*set));
}

static int step(struct run *r, unsigned i, double *us)
{
	const struct opts *o = r->o;
	const void *base = r->pages.mem.base;
	const struct kv_attend_args a = {
		.layouts = { r->pages.layout },
		.bases = &base,
		.pages = r->table,
		.seqs = r->seqs,
		.nr_seqs = o->batch,
		.nr_rows = o->batch * o->rows,
		.nr_q_heads = o->heads,
		.scale = 1.0f / sqrtf((float)o->dim),
		.q = r->q,
		.out = r->out,
		.q_stride = (uint64_t)o->heads * o->dim,
		.out_stride = (uint64_t)o->heads * o->dim,
		.tables = &r->pages.synth.tables,
		.nr_threads = o->threads,
	};
	uint64_t start;
	int err;

	step_table(r, i);
	start = stats_now_ns();
	err = r->k->attend(&a);
	*us = (double)(stats_now_ns() - start) / 1e3;
	return err;
}

static int measure(struct run *runs, int nr, const struct memory *other)
{
	struct bandwidth bw = { other, 0, runs[0].o->threads };
	unsigned rounds = runs[0].o->rounds, i;
	double warm;
	int f, err = 0;

	for (f = 0; f < nr && !err; f++)
		err = step(&runs[f], 0, &warm);
	for (i = 0; i < rounds && !err; i++)
		for (f = 0; f < nr && !err; f++) {
			struct run *r = &runs[f];

			err = step(r, i + 1, &r->us[i]);
			r->membw[i] = bandwidth_sample(&bw, r->us[i]);
		}
	return err;
}

/* @first_us: the median of the first format. */
static json_t *figures(struct run *r, double first_us)
{
	const struct opts *o = r->o;
	double us = stats_median(r->us, o->rounds);
	double bw = stats_median(r->membw, o->rounds);
	double gbps = (double)step_bytes(r) / us / 1e3;

	return json_pack(
		"{s:s, s:s, s:s, s:i, s:f, s:I, s:f, s:f, s:f, s:f, s:f, s:s,"
		" s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:b}",
		"bench", "attend", "device", "host", "format", r->format.name,
		"threads", (int)o->threads, "us_median", us, "bytes",
		(json_int_t)step_bytes(r), "gbps", gbps, "membw_gbps", bw,
		"fraction", gbps / bw, "gflops", step_flop(r) / us / 1e3,
		"time_to_first", us / first_us, "isa", r->k->name, "heads",
		(int)o->heads, "kv_heads", (int)o->kv_heads, "dim", (int)o->dim,
		"ctx", (int)o->ctx, "batch", (int)o->batch, "rows",
		(int)o->rows, "shared", (int)o->shared, "page_tokens",
		(int)o->page_tokens, "rounds", (int)o->rounds, "huge_pages",
		(int)r->pages.mem.huge_pages);
}

/* A line a format, and what they have in common above. */
static int print_table(struct run *runs, int nr)
{
	const struct opts *o = runs[0].o;
	double first = 0;
	int f;

	printf("%u/%u heads of %u, %u tokens, pages of %u, batch %u, %u query "
	       "tokens, %u thread%s, %s, %u rounds\n",
	       o->heads, o->kv_heads, o->dim, o->ctx, o->page_tokens, o->batch,
	       o->rows, o->threads, o->threads > 1 ? "s" : "", runs[0].k->name,
	       o->rounds);
	printf("%-16s %10s %10s %7s %7s %6s %8s %6s\n", "format", "us", "bytes",
	       "GB/s", "memory", "share", "GFLOP/s", "time");
	for (f = 0; f < nr; f++) {
		struct run *r = &runs[f];
		double us = stats_median(r->us, o->rounds);
		double bw = stats_median(r->membw, o->rounds);
		double gbps = (double)step_bytes(r) / us / 1e3;

		first = f ? first : us;
		printf("%-16s %10.0f %10zu %7.2f %7.2f %5.1f%% %8.1f %6.2f\n",
		       r->format.name, us, step_bytes(r), gbps, bw,
		       100 * gbps / bw, step_flop(r) / us / 1e3, us / first);
	}
	return 0;
}

static int print(struct run *runs, int nr)
{
	double first = stats_median(runs[0].us, runs[0].o->rounds);
	int f, status = 0;

	if (nr > 1 && !runs[0].o->json)
		return print_table(runs, nr);
	for (f = 0; f < nr && !status; f++)
		status = report_print(figures(&runs[f], first), runs[0].o->json);
	return status;
}

/* Checks what pages_init() does not. Return: 0 or -EINVAL. */
static int opts_check(const struct opts *o)
{
	if (o->heads > MAX_HEADS || o->heads % o->kv_heads)
		fprintf(stderr,
		        "kvbench attend: --heads is not a multiple of "
		        "--kv-heads up to %d\n",
		        MAX_HEADS);
	else if (o->rows > o->ctx || o->shared > o->ctx)
		fprintf(stderr, "kvbench attend: --rows and --shared are at "
		                "most --ctx\n");
	else
		return 0;
	return -EINVAL;
}

/* Memory to read that steps do not: none of it is in a cache by luck. */
static int other_init(struct memory *m, const struct opts *o)
{
	int err = memory_init(m, memory_set_bytes(o->memory));

	if (!err)
		memset(m->base, 1, m->bytes);
	return err;
}

static int run_all(const struct opts *o, const struct format_pair *formats,
                   int nr)
{
	struct run *runs = calloc((size_t)nr, sizeof(*runs));
	struct memory other = MEMORY_NULL;
	int f, status = BENCH_FAILED;
	int err = runs ? other_init(&other, o) : -ENOMEM;

	for (f = 0; f < nr && !err; f++)
		err = run_init(&runs[f], o, &formats[f]);
	if (!err)
		err = measure(runs, nr, &other);
	if (!err)
		status = print(runs, nr);
	for (f = 0; runs && f < nr; f++)
		run_fini(&runs[f]);
	free(runs);
	memory_fini(&other);
	return err == -EINVAL ? BENCH_USAGE : status;
}

static int run(int argc, char **argv)
{
	struct opts o = { .device = "host",
		          .formats = "f16",
		          .heads = 32,
		          .kv_heads = 8,
		          .dim = 128,
		          .ctx = 16384,
		          .page_tokens = 64,
		          .batch = 1,
		          .rows = 1,
		          .rounds = 30 };
	struct format_pair formats[FORMATS_MAX];
	const struct arg args[] = {
		{ "device", ARG_TEXT, &o.device,
		  "host, cuda-vmm:N or cuda-ipc:N; a GPU has options of its "
		  "own: add --help" },
		{ "format", ARG_TEXT, &o.formats,
		  "names with + between, or all: taken in turn" },
		{ "heads", ARG_COUNT, &o.heads, "query heads" },
		{ "kv-heads", ARG_COUNT, &o.kv_heads, "key and value heads" },
		{ "dim", ARG_COUNT, &o.dim, "of a head" },
		{ "ctx", ARG_COUNT, &o.ctx, "tokens attended over" },
		{ "page-tokens", ARG_COUNT, &o.page_tokens, "32, 64 or 128" },
		{ "batch", ARG_COUNT, &o.batch, "sequences" },
		{ "rows", ARG_COUNT, &o.rows,
		  "query tokens of each, the last of ctx" },
		{ "shared", ARG_COUNT, &o.shared,
		  "tokens that all sequences have in common" },
		{ "threads", ARG_COUNT, &o.threads, "default: one per CPU" },
		{ "memory", ARG_COUNT, &o.memory,
		  "MiB of pages; default: 4 times what caches hold" },
		{ "rounds", ARG_COUNT, &o.rounds,
		  "of attention and of reading" },
		{ "json", ARG_FLAG, &o.json, "one JSON object a format" },
		{ NULL }
	};
	int nr, status;

	if (gpu_wanted(argc, argv))
		return attend_gpu(argc, argv, summary);
	status = args_parse(argc, argv, args, summary);
	if (status)
		return status < 0 ? BENCH_USAGE : 0;
	nr = formats_parse(o.formats, formats);
	if (nr < 0 || opts_check(&o))
		return BENCH_USAGE;
	if (!o.threads)
		o.threads = (unsigned)omp_get_max_threads();
	return run_all(&o, formats, nr);
}

const struct bench bench_attend = { "attend", summary, run };
