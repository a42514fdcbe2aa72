/* SPDX-License-Identifier: Apache-2.0 */
/*
 * quantize.c - kvbench quantize: keys and values into quantized pages.
 *
 * Each round takes sources and pages that the caches no longer hold, in one
 * format after the other, and after each copies between the same memory for as
 * long, with as many threads and as many bytes written for those read: the
 * bandwidth that storing is measured against. Half of that time stores go past
 * the caches, half not; the faster of the two counts. Sources are f16 pages,
 * which are sealed, where the format is sealed whole, and rows, which are
 * appended, where it is not. Bytes are those read and those written.
 */
#include <errno.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tools/kvbench/args.h"
#include "tools/kvbench/bandwidth.h"
#include "tools/kvbench/bench.h"
#include "tools/kvbench/formats.h"
#include "tools/kvbench/gpu.h"
#include "tools/kvbench/pages.h"
#include "tools/kvbench/quantize_gpu.h"
#include "tools/kvbench/report.h"
#include "tools/kvbench/stats.h"

static const char summary[] = "keys and values into quantized pages";

struct opts {
	const char *device, *formats, *dtype_name;
	unsigned kv_heads, dim, tokens, page_tokens;
	unsigned threads; /* 0: all */
	unsigned memory;  /* MiB; 0: more than caches hold */
	unsigned rounds;
	bool json;
	uint32_t dtype; /* of rows */
};

/* One format. */
struct run {
	const struct opts *o;
	const struct host_kernels *k;
	struct format_pair format;
	struct pages pages;
	struct memory source; /* as many sets of rows, or of open pages */
	struct kv_convert_page *converts; /* of one step */
	uint32_t *nonfinite;
	double *us, *plain, *stream; /* [rounds]; of copying: GB/s */
	struct bandwidth_mix copy;
};

static void run_fini(struct run *r)
{
	pages_fini(&r->pages);
	memory_fini(&r->source);
	free(r->converts);
	free(r->nonfinite);
	free(r->us);
	free(r->plain);
	free(r->stream);
}

/* Elements of K, or of V, in one set. */
static size_t set_elements(const struct run *r)
{
	return (size_t)r->pages.per_set * r->o->page_tokens * r->o->kv_heads *
	       r->o->dim;
}

static uint32_t element_bytes(const struct run *r)
{
	return r->o->dtype == KVD_DTYPE_F32 ? 4 : 2;
}

/* Bytes of sources in one set. */
static size_t source_bytes(const struct run *r)
{
	if (pages_are_sealed(&r->pages))
		return (size_t)r->pages.per_set * r->pages.open.page_bytes;
	return 2 * set_elements(r) * element_bytes(r);
}

/* Bytes that one step has to read and write. */
static size_t step_bytes(const struct run *r)
{
	return source_bytes(r) +
	       (size_t)r->pages.per_set * r->pages.layout.page_bytes;
}

/* Random rows of the type that is asked for, set after set. */
static void fill_rows(struct run *r, const float *values)
{
	size_t n = set_elements(r), i, set;

	for (set = 0; set < 2 * (size_t)r->pages.nr_sets; set++)
		for (i = 0; i < n; i++) {
			size_t at = set * n + i;

			if (r->o->dtype == KVD_DTYPE_F32)
				((float *)r->source.base)[at] = values[i];
			else
				((_Float16 *)r->source.base)[at] =
					(_Float16)values[i];
		}
}

/* Open pages with random rows: one, and copies of it. */
static int fill_pages(struct run *r, const float *values)
{
	const struct page_layout *l = &r->pages.open;
	uint32_t nr = r->pages.nr_sets * r->pages.per_set, bad = 0, i;
	void *base = r->source.base;
	const struct kv_page_ref first = { .offset = 0 };
	const struct kv_seq seq = { .nr_rows = l->page_tokens };
	const struct kv_append_args a = {
		.layouts = { *l },
		.bases = &base,
		.pages = &first,
		.seqs = &seq,
		.nr_seqs = 1,
		.nr_rows = l->page_tokens,
		.k = values,
		.v = values,
		.k_stride = (uint64_t)l->nr_heads * l->k_dim,
		.v_stride = (uint64_t)l->nr_heads * l->v_dim,
		.tables = &r->pages.synth.tables,
		.nonfinite = &bad,
	};

	r->k->append(&a);
	for (i = 1; i < nr; i++)
		memcpy(r->source.base + (size_t)i * l->page_bytes,
		       r->source.base, l->page_bytes);
	r->converts = calloc(r->pages.per_set, sizeof(*r->converts));
	return r->converts ? 0 : -ENOMEM;
}

static int run_init(struct run *r, const struct opts *o,
                    const struct format_pair *f)
{
	const struct pages_shape shape = { f->k, f->v, o->kv_heads, o->dim,
		                           o->page_tokens };
	float *values;
	int err;

	r->o = o;
	r->k = host_kernels();
	r->format = *f;
	err = pages_init(&r->pages, &shape,
	                 (o->tokens + o->page_tokens - 1) / o->page_tokens,
	                 memory_set_bytes(o->memory));
	if (err)
		return err;
	values = pages_values(set_elements(r));
	r->nonfinite = calloc(r->pages.per_set, sizeof(*r->nonfinite));
	r->us = calloc(o->rounds, sizeof(*r->us));
	r->plain = calloc(o->rounds, sizeof(*r->plain));
	r->stream = calloc(o->rounds, sizeof(*r->stream));
	err = memory_init(&r->source, source_bytes(r) * r->pages.nr_sets);
	if (err || !values || !r->nonfinite || !r->us || !r->plain ||
	    !r->stream)
		err = -ENOMEM;
	else if (pages_are_sealed(&r->pages))
		err = fill_pages(r, values);
	else
		fill_rows(r, values);
	free(values);
	r->copy = (struct bandwidth_mix){
		.from = &r->source,
		.to = &r->pages.mem, /* written again by each step */
		.nr_read = source_bytes(r),
		.nr_written = step_bytes(r) - source_bytes(r),
		.nr_threads = o->threads,
	};
	if (err)
		fprintf(stderr, "kvbench quantize: out of memory\n");
	return err;
}

static void seal(struct run *r, unsigned i)
{
	void *bases[] = { r->pages.mem.base, r->source.base };
	const struct kv_page_ref *to = pages_set(&r->pages, i);
	size_t first = (size_t)(i % r->pages.nr_sets) * r->pages.per_set, p;
	const struct kv_convert_args a = {
		.layouts = { r->pages.open, r->pages.layout },
		.bases = bases,
		.pages = r->converts,
		.nr_pages = r->pages.per_set,
		.nr_layers = 1,
		.tables = &r->pages.synth.tables,
		.nonfinite = r->nonfinite,
		.nr_threads = r->o->threads,
	};

	for (p = 0; p < r->pages.per_set; p++) {
		r->converts[p].to = to[p];
		r->converts[p].to.layout = 1;
		r->converts[p].from.segment = 1;
		r->converts[p].from.offset =
			(first + p) * r->pages.open.page_bytes;
		r->converts[p].nr_tokens = r->pages.layout.page_tokens;
	}
	r->k->convert(&a);
}

static void append(struct run *r, unsigned i)
{
	const struct opts *o = r->o;
	const uint8_t *k = r->source.base +
	                   i % r->pages.nr_sets * source_bytes(r);
	uint32_t nr = r->pages.per_set * o->page_tokens;
	void *base = r->pages.mem.base;
	const struct kv_seq seq = { .nr_rows = nr };
	const struct kv_append_args a = {
		.layouts = { r->pages.layout },
		.bases = &base,
		.pages = pages_set(&r->pages, i),
		.seqs = &seq,
		.nr_seqs = 1,
		.nr_rows = nr,
		.dtype = o->dtype,
		.k = k,
		.v = k + source_bytes(r) / 2,
		.k_stride = (uint64_t)o->kv_heads * o->dim,
		.v_stride = (uint64_t)o->kv_heads * o->dim,
		.tables = NULL,
		.nonfinite = r->nonfinite,
		.nr_threads = o->threads,
	};

	r->k->append(&a);
}

static double step(struct run *r, unsigned i)
{
	uint64_t start = stats_now_ns();

	if (pages_are_sealed(&r->pages))
		seal(r, i);
	else
		append(r, i);
	return (double)(stats_now_ns() - start) / 1e3;
}

static int refused(const struct run *r)
{
	unsigned i;

	for (i = 0; i < r->pages.per_set; i++)
		if (r->nonfinite[i])
			return 1;
	return 0;
}

/* As fast as memory allows what a step does. */
static void copy(struct run *r, unsigned round)
{
	r->copy.stream = false;
	r->plain[round] = bandwidth_mix_sample(&r->copy, r->us[round] / 2);
	r->copy.stream = true;
	r->stream[round] = bandwidth_mix_sample(&r->copy, r->us[round] / 2);
}

/* Once through all sets first, so that no page is touched the first time. */
static int measure(struct run *runs, int nr)
{
	unsigned rounds = runs[0].o->rounds, i;
	int f;

	for (f = 0; f < nr; f++) {
		for (i = 0; i < runs[f].pages.nr_sets; i++)
			step(&runs[f], i);
		if (!refused(&runs[f]))
			continue;
		fprintf(stderr, "kvbench quantize: %s refused the values\n",
		        runs[f].format.name);
		return -EDOM;
	}
	for (i = 0; i < rounds; i++)
		for (f = 0; f < nr; f++) {
			runs[f].us[i] = step(&runs[f], i);
			copy(&runs[f], i);
		}
	return 0;
}

static double floor_gbps(struct run *r)
{
	double plain = stats_median(r->plain, r->o->rounds);
	double stream = stats_median(r->stream, r->o->rounds);

	return plain > stream ? plain : stream;
}

static json_t *figures(struct run *r)
{
	const struct opts *o = r->o;
	double us = stats_median(r->us, o->rounds);
	double bw = floor_gbps(r);
	double gbps = (double)step_bytes(r) / us / 1e3;

	return json_pack(
		"{s:s, s:s, s:s, s:s, s:i, s:f, s:I, s:f, s:f, s:f, s:f, s:s,"
		" s:i, s:i, s:i, s:i, s:i, s:b}",
		"bench", "quantize", "device", "host", "format",
		r->format.name, "source",
		pages_are_sealed(&r->pages) ? "f16 pages" : o->dtype_name,
		"threads", (int)o->threads, "us_median", us, "bytes",
		(json_int_t)step_bytes(r), "gbps", gbps, "membw_gbps", bw,
		"fraction", gbps / bw, "input_gbps",
		(double)source_bytes(r) / us / 1e3, "isa", r->k->name,
		"kv_heads", (int)o->kv_heads, "dim", (int)o->dim, "tokens",
		(int)o->tokens, "page_tokens", (int)o->page_tokens, "rounds",
		(int)o->rounds, "huge_pages", (int)r->pages.mem.huge_pages);
}

static int print_table(struct run *runs, int nr)
{
	const struct opts *o = runs[0].o;
	int f;

	printf("%u kv heads of %u, %u tokens, pages of %u, %u thread%s, %s, %u "
	       "rounds; GB/s of bytes read and written, memory's of copying "
	       "as many\n",
	       o->kv_heads, o->dim, o->tokens, o->page_tokens, o->threads,
	       o->threads > 1 ? "s" : "", runs[0].k->name, o->rounds);
	printf("%-16s %10s %10s %7s %7s %6s\n", "format", "us", "bytes", "GB/s",
	       "memory", "share");
	for (f = 0; f < nr; f++) {
		struct run *r = &runs[f];
		double us = stats_median(r->us, o->rounds);
		double bw = floor_gbps(r);
		double gbps = (double)step_bytes(r) / us / 1e3;

		printf("%-16s %10.0f %10zu %7.2f %7.2f %5.1f%%\n",
		       r->format.name, us, step_bytes(r), gbps, bw,
		       100 * gbps / bw);
	}
	return 0;
}

static int print(struct run *runs, int nr)
{
	int f, status = 0;

	if (nr > 1 && !runs[0].o->json)
		return print_table(runs, nr);
	for (f = 0; f < nr && !status; f++)
		status = report_print(figures(&runs[f]), runs[0].o->json);
	return status;
}

static int run_all(const struct opts *o, const struct format_pair *formats,
                   int nr)
{
	struct run *runs = calloc((size_t)nr, sizeof(*runs));
	int f, status = BENCH_FAILED, err = runs ? 0 : -ENOMEM;

	for (f = 0; f < nr && !err; f++)
		err = run_init(&runs[f], o, &formats[f]);
	if (!err)
		err = measure(runs, nr);
	if (!err)
		status = print(runs, nr);
	for (f = 0; runs && f < nr; f++)
		run_fini(&runs[f]);
	free(runs);
	return err == -EINVAL ? BENCH_USAGE : status;
}

static int opts_check(struct opts *o)
{
	o->dtype = !strcmp(o->dtype_name, "f32") ? KVD_DTYPE_F32
	                                         : KVD_DTYPE_F16;
	if (o->dtype == KVD_DTYPE_F32 || !strcmp(o->dtype_name, "f16"))
		return 0;
	fprintf(stderr, "kvbench quantize: --rows %s: not f16 or f32\n",
	        o->dtype_name);
	return -EINVAL;
}

static int run(int argc, char **argv)
{
	struct opts o = { .device = "host",
		          .formats = "int8",
		          .dtype_name = "f16",
		          .kv_heads = 8,
		          .dim = 128,
		          .tokens = 4096,
		          .page_tokens = 64,
		          .rounds = 30 };
	struct format_pair formats[FORMATS_MAX];
	const struct arg args[] = {
		{ "device", ARG_TEXT, &o.device,
		  "host, cuda-vmm:N or cuda-ipc:N; a GPU has options of its "
		  "own: add --help" },
		{ "format", ARG_TEXT, &o.formats,
		  "names with + between, or all: taken in turn" },
		{ "rows", ARG_TEXT, &o.dtype_name,
		  "f16 or f32: type of what is appended" },
		{ "kv-heads", ARG_COUNT, &o.kv_heads, "key and value heads" },
		{ "dim", ARG_COUNT, &o.dim, "of a head" },
		{ "tokens", ARG_COUNT, &o.tokens, "stored in a round" },
		{ "page-tokens", ARG_COUNT, &o.page_tokens, "32, 64 or 128" },
		{ "threads", ARG_COUNT, &o.threads, "default: one per CPU" },
		{ "memory", ARG_COUNT, &o.memory,
		  "MiB of pages; default: 4 times what caches hold" },
		{ "rounds", ARG_COUNT, &o.rounds, "of storing and of copying" },
		{ "json", ARG_FLAG, &o.json, "one JSON object a format" },
		{ NULL }
	};
	int nr, status;

	if (gpu_wanted(argc, argv))
		return quantize_gpu(argc, argv, summary);
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

const struct bench bench_quantize = { "quantize", summary, run };
