/* SPDX-License-Identifier: Apache-2.0 */
/*
 * quantize_gpu.c - kvbench quantize --device cuda-...: pages of f16 sealed in
 * other formats on a GPU, beside a copy of its memory.
 *
 * A call seals some pages, all layers in one launch, from the order of the
 * tensor cores to the same. So many calls, each with pages of its own, that no
 * cache holds them, are one graph. Bytes are the records read and those
 * written.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tools/kvbench/args.h"
#include "tools/kvbench/bench.h"
#include "tools/kvbench/formats.h"
#include "tools/kvbench/gpu_pool.h"
#include "tools/kvbench/gpu_time.h"
#include "tools/kvbench/quantize_gpu.h"
#include "tools/kvbench/report.h"

#define MAX_PAGES (1u << 20)

struct opts {
	const char *device, *formats;
	unsigned kv_heads, dim, layers, pages, page_tokens, memory, rounds;
	bool json;
};

/* One format. */
struct run {
	const struct opts *o;
	struct gpu *g;
	struct format_pair format;
	struct pages pages; /* layouts and tables */
	struct gpu_pool from, to;
	struct gpu_tables tables;
	unsigned nr_sets;
	cu_ptr bases, converts, nonfinite;
	struct gpu_graph graph;
	struct gpu_timing timing;
};

/* Bytes that one call reads and writes. */
static uint64_t call_bytes(const struct run *r)
{
	return r->o->pages * (gpu_page_bytes(&r->from.layout) +
	                      gpu_page_bytes(&r->to.layout));
}

static int plan(struct run *r)
{
	const struct opts *o = r->o;
	const struct pages_shape shape = {
		.k_format = r->format.k,
		.v_format = r->format.v,
		.kv_heads = o->kv_heads,
		.dim = o->dim,
		.page_tokens = o->page_tokens,
		.tile_order = KVD_TILE_MMA,
		.nr_layers = o->layers,
	};

	return pages_plan(&r->pages, &shape, o->page_tokens);
}

/* So many that no cache holds them, if there is room; 1 at least. */
static unsigned sets_count(const struct run *r)
{
	uint64_t pages = r->o->pages;
	uint64_t set = pages * (r->pages.source.page_bytes +
	                        r->pages.layout.page_bytes);
	uint64_t want = (GPU_ROTATION + set - 1) / set;
	uint64_t each = pages * sizeof(struct kv_convert_page) + set + 16384;
	uint64_t room = gpu_left(r->g) / each;

	if (want > room)
		want = room;
	return want ? (unsigned)want : 1;
}

/* Return: 0, or -ENOSPC when there is less memory. */
static int take(struct run *r)
{
	struct gpu *g = r->g;
	unsigned nr = r->o->pages;

	gpu_tables_take(&r->tables, g, &r->pages.synth);
	r->bases = gpu_take(g, 2 * sizeof(cu_ptr));
	r->nonfinite = gpu_take(g, nr * sizeof(uint32_t));
	r->nr_sets = sets_count(r);
	nr *= r->nr_sets;
	r->converts = gpu_take(g, nr * sizeof(struct kv_convert_page));
	r->from = (struct gpu_pool){ .layout = r->pages.source,
		                     .nr = nr,
		                     .filled = true };
	r->to = (struct gpu_pool){ .layout = r->pages.layout, .nr = nr };
	gpu_pool_take(&r->from, g);
	gpu_pool_take(&r->to, g);
	return gpu_lacks(g) ? -ENOSPC : 0;
}

/* What lies where, each side in an order of its own. */
static void converts_fill(const struct run *r, struct kv_convert_page *pages,
                          struct kv_page_ref *refs)
{
	uint32_t nr = r->to.nr, i;

	pages_shuffle(refs, nr, 1);
	for (i = 0; i < nr; i++) {
		uint64_t to = refs[i].offset, from = refs[nr - 1 - i].offset;

		pages[i] = (struct kv_convert_page){
			.from = { .offset = from * r->from.layout.page_bytes },
			.to = { .offset = to * r->to.layout.page_bytes,
			        .segment = 1,
			        .layout = 1 },
			.nr_tokens = r->o->page_tokens,
		};
	}
}

static int put_converts(struct run *r)
{
	size_t nr = r->to.nr;
	struct kv_convert_page *pages = calloc(nr, sizeof(*pages));
	struct kv_page_ref *refs = calloc(nr, sizeof(*refs));
	int err;

	if (!pages || !refs) {
		err = gpu_complain(r->g, -ENOMEM, strerror(ENOMEM));
	} else {
		converts_fill(r, pages, refs);
		err = gpu_put(r->g, r->converts, pages, nr * sizeof(*pages));
	}
	free(pages);
	free(refs);
	return err;
}

static int put(struct run *r)
{
	const cu_ptr bases[] = { r->from.base, r->to.base };
	int err = gpu_tables_put(&r->tables, r->g, &r->pages.synth);

	if (!err)
		err = gpu_put(r->g, r->bases, bases, sizeof(bases));
	if (!err)
		err = put_converts(r);
	if (!err)
		err = gpu_pool_put(&r->from, r->g, &r->pages);
	if (!err)
		err = gpu_pool_put(&r->to, r->g, &r->pages);
	return err ? err
	           : GPU_CALL(r->g, cuMemsetD8Async, r->nonfinite, 0,
	                      r->o->pages * sizeof(uint32_t), r->g->stream);
}

static int issue(void *ctx)
{
	const struct run *r = ctx;
	struct kv_convert_args a = {
		.layouts = { r->from.layout, r->to.layout },
		.bases = (void *const *)(uintptr_t)r->bases,
		.nr_pages = r->o->pages,
		.nr_layers = r->o->layers,
		.tables = (const void *)(uintptr_t)r->tables.tables,
		.nonfinite = (uint32_t *)(uintptr_t)r->nonfinite,
	};
	unsigned i;
	int err = 0;

	for (i = 0; i < r->nr_sets && !err; i++) {
		a.pages =
			(const struct kv_convert_page *)(uintptr_t)r->converts +
			(size_t)i * r->o->pages;
		err = kv_cuda_convert(r->g->kernels, &a, r->g->stream);
	}
	return err;
}

/* Did the kernels take the values, and write a page? */
static int results_check(struct run *r)
{
	size_t nr = r->o->pages, i;
	uint32_t *bad = malloc(nr * sizeof(*bad));
	uint64_t record = 0;
	int err = bad ? gpu_get(r->g, bad, r->nonfinite, nr * sizeof(*bad))
	              : gpu_complain(r->g, -ENOMEM, strerror(ENOMEM));

	for (i = 0; i < nr && !err; i++)
		if (bad[i])
			err = gpu_complain(r->g, -EDOM,
			                   "the kernels refused the values");
	if (!err)
		err = gpu_get(r->g, &record, r->to.base, sizeof(record));
	if (!err && record == UINT64_MAX)
		err = gpu_complain(r->g, -EIO, "a page was not written");
	free(bad);
	return err;
}

static int measure(struct run *r, struct gpu_copy *copy)
{
	int err = put(r);

	if (!err)
		err = gpu_graph_init(&r->graph, r->g, issue, r);
	if (!err)
		err = results_check(r);
	if (!err)
		err = gpu_time(&r->graph, copy, r->o->rounds, &r->timing);
	gpu_graph_fini(&r->graph, r->g);
	r->timing.us /= r->nr_sets;
	r->timing.us_min /= r->nr_sets;
	return err;
}

static bool is_cold(const struct run *r)
{
	return gpu_pool_bytes(&r->from) + gpu_pool_bytes(&r->to) >= GPU_COLD;
}

static json_t *keys(const struct run *r)
{
	const struct opts *o = r->o;

	return json_pack("{s:s, s:s, s:s, s:b, s:s, s:s, s:i, s:i, s:i, s:i,"
	                 " s:i, s:i}",
	                 "bench", "quantize", "device", o->device, "gpu",
	                 r->g->name, "double", r->g->is_double, "format",
	                 r->format.name, "source", "f16 pages", "kv_heads",
	                 (int)o->kv_heads, "dim", (int)o->dim, "layers",
	                 (int)o->layers, "pages", (int)o->pages, "page_tokens",
	                 (int)o->page_tokens, "rounds", (int)o->rounds);
}

static json_t *figures(const struct run *r)
{
	const struct gpu_timing *t = &r->timing;
	uint64_t source = r->o->pages * gpu_page_bytes(&r->from.layout);
	double gbps = (double)call_bytes(r) / t->us / 1e3;

	return json_pack("{s:f, s:f, s:I, s:f, s:f, s:f, s:f, s:i, s:b}",
	                 "us_median", t->us, "us_min", t->us_min, "bytes",
	                 (json_int_t)call_bytes(r), "gbps", gbps, "membw_gbps",
	                 t->copy_gbps, "fraction", gbps / t->copy_gbps,
	                 "input_gbps", (double)source / t->us / 1e3, "calls",
	                 (int)r->nr_sets, "cold", is_cold(r));
}

static void print_head(const struct opts *o, const struct gpu *g)
{
	printf("%s: %s; %u pages of %u tokens, %u layers, %u kv heads of %u, "
	       "%u rounds; GB/s of bytes read and written, memory's of "
	       "copying\n",
	       o->device,
	       g->is_double ? "double: no GPU, no time means anything"
	                    : g->name,
	       o->pages, o->page_tokens, o->layers, o->kv_heads, o->dim,
	       o->rounds);
	printf("%-16s %10s %12s %8s %8s %6s\n", "format", "us", "bytes", "GB/s",
	       "memory", "share");
}

static int print(const struct run *r)
{
	const struct gpu_timing *t = &r->timing;
	double gbps = (double)call_bytes(r) / t->us / 1e3;

	if (r->o->json)
		return report_print_both(keys(r), figures(r));
	printf("%-16s %10.1f %12llu %8.1f %8.1f %5.1f%%%s\n", r->format.name,
	       t->us, (unsigned long long)call_bytes(r), gbps, t->copy_gbps,
	       100 * gbps / t->copy_gbps,
	       is_cold(r) ? "" : " (caches hold it)");
	return 0;
}

/* What does not fit is said, and is no failure of the others. */
static int skip(const struct run *r, uint64_t used)
{
	char why[80];

	gpu_need_text(r->g, used, why, sizeof(why));
	fprintf(stderr, "kvbench quantize: %s: skipped, %s\n", r->format.name,
	        why);
	if (!r->o->json)
		return 0;
	return report_print_both(keys(r), json_pack("{s:s}", "skipped", why));
}

/* Return: exit status; @measured counts. */
static int run_format(struct run *r, struct gpu_copy *copy, unsigned *measured)
{
	uint64_t used = r->g->used;
	int err = plan(r), status;

	if (!err && take(r)) {
		status = skip(r, used);
	} else {
		if (!err)
			err = measure(r, copy);
		status = err == -EINVAL ? BENCH_USAGE : BENCH_FAILED;
		if (!err)
			status = print(r);
		*measured += !err;
	}
	fflush(stdout);
	pages_fini(&r->pages);
	r->g->used = used;
	return status;
}

static int run_gpu(const struct opts *o, const struct format_pair *formats,
                   int nr)
{
	struct gpu_copy copy = { .g = NULL };
	unsigned measured = 0;
	struct gpu g;
	int i, status = 0, err = gpu_open(&g, "quantize", o->device, o->memory);

	if (!err)
		err = gpu_copy_init(&copy, &g);
	if (!err && !o->json)
		print_head(o, &g);
	for (i = 0; i < nr && !err && !status; i++) {
		struct run r = { .o = o,
			         .g = &g,
			         .format = formats[i],
			         .pages = PAGES_NULL };

		status = run_format(&r, &copy, &measured);
	}
	gpu_copy_fini(&copy);
	gpu_close(&g);
	if (err)
		return err == -EINVAL ? BENCH_USAGE : BENCH_FAILED;
	return status || measured ? status : BENCH_FAILED;
}

int quantize_gpu(int argc, char **argv, const char *summary)
{
	struct opts o = {
		.formats = "int8",
		.kv_heads = 8,
		.dim = 128,
		.layers = 32,
		.pages = 64,
		.page_tokens = 64,
		.rounds = 9,
	};
	struct format_pair formats[FORMATS_MAX];
	const struct arg args[] = {
		{ "device", ARG_TEXT, &o.device, "cuda-vmm:N or cuda-ipc:N" },
		{ "format", ARG_TEXT, &o.formats,
		  "names with + between, or all" },
		{ "kv-heads", ARG_COUNT, &o.kv_heads, "key and value heads" },
		{ "dim", ARG_COUNT, &o.dim, "of a head" },
		{ "layers", ARG_COUNT, &o.layers, "of a page" },
		{ "pages", ARG_COUNT, &o.pages, "sealed in one call" },
		{ "page-tokens", ARG_COUNT, &o.page_tokens, "32, 64 or 128" },
		{ "memory", ARG_COUNT, &o.memory,
		  "MiB to use; default: 70 % of what is free" },
		{ "rounds", ARG_COUNT, &o.rounds, "of sealing and of copying" },
		{ "json", ARG_FLAG, &o.json, "one JSON object a format" },
		{ NULL }
	};
	int nr, status = args_parse(argc, argv, args, summary);

	if (status)
		return status < 0 ? BENCH_USAGE : 0;
	nr = formats_parse(o.formats, formats);
	if (nr < 0)
		return BENCH_USAGE;
	if (o.pages > MAX_PAGES) {
		fprintf(stderr, "kvbench quantize: --pages is at most %u\n",
		        MAX_PAGES);
		return BENCH_USAGE;
	}
	return run_gpu(&o, formats, nr);
}
