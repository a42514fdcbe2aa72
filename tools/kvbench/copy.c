// SPDX-License-Identifier: Apache-2.0
/*
 * copy.c - kvbench copy: whole pages gathered, scattered and zeroed on a GPU,
 * beside what the driver copies in one piece.
 *
 * A call moves some pages, which lie in random order, to or from a buffer on
 * the device, or on the host, in page-locked memory. So many calls, each with
 * pages of its own, that no cache holds them, are one graph. Bytes are those
 * read and those written, or those that cross the link to the host.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "kernels/page.h"
#include "tools/kvbench/args.h"
#include "tools/kvbench/bench.h"
#include "tools/kvbench/gpu_pool.h"
#include "tools/kvbench/gpu_time.h"
#include "tools/kvbench/report.h"

#define MAX_PAGES (1u << 20)
#define SEEN      4096u /* bytes of a page that are looked at */

static const char summary[] =
	"Whole pages gathered, scattered and zeroed on a GPU";

struct opts {
	const char *device;
	struct arg_list page_bytes, blocks;
	unsigned pages, memory, rounds;
	bool json;
};

enum op_kind { GATHER, SCATTER, ZERO };

static const struct op {
	const char *name;
	enum op_kind kind;
	bool host; /* the buffer is */
} ops[] = {
	{ "gather", GATHER, false }, { "scatter", SCATTER, false },
	{ "zero", ZERO, false },     { "gather to host", GATHER, true },
	{ "scatter from host", SCATTER, true },
};

#define NR_OPS (sizeof(ops) / sizeof(ops[0]))

/* One line. */
struct run {
	const struct opts *o;
	struct gpu *g;
	const struct op *op;
	uint32_t page_bytes, nr_blocks;
	unsigned nr_sets;
	cu_ptr pages, lists, nr;
	cu_ptr buffer; /* of each call; on the host all have the same */
	cu_ptr seen;   /* the page at its beginning, when all is done */
	struct gpu_graph graph;
	struct gpu_timing timing;
};

/* Of the pages of one call. */
static uint64_t set_bytes(const struct run *r)
{
	return (uint64_t)r->o->pages * r->page_bytes;
}

static bool has_buffer(const struct run *r)
{
	return r->op->kind != ZERO && !r->op->host;
}

/* Bytes that one call reads and writes, or that cross the link. */
static uint64_t call_bytes(const struct run *r)
{
	return set_bytes(r) * (1 + has_buffer(r));
}

static uint64_t all_bytes(const struct run *r)
{
	return call_bytes(r) * r->nr_sets;
}

/* So many that no cache holds them, if there is room; 1 at least. */
static unsigned sets_count(const struct run *r)
{
	uint64_t want = (GPU_ROTATION + call_bytes(r) - 1) / call_bytes(r);
	uint64_t each = call_bytes(r) + r->o->pages * sizeof(cu_ptr) + 16384;
	uint64_t room = gpu_left(r->g) / each;

	if (want > room)
		want = room;
	if (want > MAX_PAGES / r->o->pages)
		want = MAX_PAGES / r->o->pages;
	return want ? (unsigned)want : 1;
}

/* Return: 0, or -ENOSPC when there is less memory. */
static int take(struct run *r)
{
	struct gpu *g = r->g;

	r->nr_sets = sets_count(r);
	r->nr = gpu_take(g, sizeof(uint32_t));
	r->lists = gpu_take(g, (uint64_t)r->nr_sets * r->o->pages *
	                               sizeof(cu_ptr));
	r->pages = gpu_take(g, set_bytes(r) * r->nr_sets);
	if (has_buffer(r))
		r->buffer = gpu_take(g, set_bytes(r) * r->nr_sets);
	return gpu_lacks(g) ? -ENOSPC : 0;
}

static int put_lists(struct run *r)
{
	uint32_t nr = r->nr_sets * r->o->pages, i;
	struct kv_page_ref *refs = calloc(nr, sizeof(*refs));
	cu_ptr *list = calloc(nr, sizeof(*list));
	int err;

	if (!refs || !list) {
		err = gpu_complain(r->g, -ENOMEM, strerror(ENOMEM));
	} else {
		pages_shuffle(refs, nr, r->page_bytes);
		for (i = 0; i < nr; i++)
			list[i] = r->pages + refs[i].offset;
		r->seen = list[r->op->host ? nr - r->o->pages : 0];
		err = gpu_put(r->g, r->lists, list, nr * sizeof(*list));
	}
	free(refs);
	free(list);
	return err;
}

/* What is written holds ones before. */
static int put(struct run *r)
{
	const uint64_t bytes = set_bytes(r) * r->nr_sets;
	const bool to_pages = r->op->kind == SCATTER;
	struct gpu *g = r->g;
	int err = put_lists(r);

	if (!err)
		err = gpu_put(g, r->nr, &r->o->pages, sizeof(uint32_t));
	if (!err)
		err = to_pages ? GPU_CALL(g, cuMemsetD8Async, r->pages, 0xff,
		                          bytes, g->stream)
		               : gpu_fill(g, r->pages, bytes);
	if (!err && has_buffer(r))
		err = to_pages ? gpu_fill(g, r->buffer, bytes)
		               : GPU_CALL(g, cuMemsetD8Async, r->buffer, 0xff,
		                          bytes, g->stream);
	if (r->op->host)
		memset((void *)(uintptr_t)r->buffer, to_pages ? 0x5a : 0xff,
		       set_bytes(r));
	return err ? err : GPU_CALL(g, cuStreamSynchronize, g->stream);
}

static int issue(void *ctx)
{
	const struct run *r = ctx;
	struct kv_cuda_pages p = { .nr = r->nr,
		                   .max_pages = r->o->pages,
		                   .page_bytes = r->page_bytes,
		                   .nr_blocks = r->nr_blocks };
	struct kv_cuda *kc = r->g->kernels;
	cu_ptr buffer = r->buffer;
	unsigned i;
	int err = 0;

	for (i = 0; i < r->nr_sets && !err; i++) {
		p.list = r->lists + (uint64_t)i * p.max_pages * sizeof(cu_ptr);
		switch (r->op->kind) {
		case GATHER:
			err = kv_cuda_gather(kc, &p, buffer, r->g->stream);
			break;
		case SCATTER:
			err = kv_cuda_scatter(kc, &p, buffer, r->g->stream);
			break;
		default:
			err = kv_cuda_zero(kc, &p, r->g->stream);
		}
		if (has_buffer(r))
			buffer += set_bytes(r);
	}
	return err;
}

/* The beginning of a page, and of what it went to, came from, or must be. */
static int results_check(struct run *r)
{
	const size_t bytes = r->page_bytes < SEEN ? r->page_bytes : SEEN;
	unsigned char page[SEEN], other[SEEN] = { 0 };
	int err = gpu_get(r->g, page, r->seen, bytes);

	if (!err && r->op->host)
		memcpy(other, (void *)(uintptr_t)r->buffer, bytes);
	else if (!err && has_buffer(r))
		err = gpu_get(r->g, other, r->buffer, bytes);
	if (!err && memcmp(page, other, bytes))
		err = gpu_complain(r->g, -EIO, "a page is not what it must be");
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

/* With a buffer of the host's, and a copy to or from it to compare with. */
static int measure_host(struct run *r, const struct gpu_copy *device)
{
	const enum gpu_copy_way way = r->op->kind == GATHER
	                                      ? GPU_COPY_TO_HOST
	                                      : GPU_COPY_FROM_HOST;
	struct gpu_copy copy = { .g = NULL };
	void *host = NULL;
	int err = GPU_CALL(r->g, cuMemHostAlloc, &host, set_bytes(r), 0);

	if (err)
		return err;
	r->buffer = (uintptr_t)host;
	err = gpu_copy_host_init(&copy, device, way, r->buffer, set_bytes(r));
	if (!err)
		err = measure(r, &copy);
	gpu_copy_fini(&copy);
	r->g->cu->cuStreamSynchronize(r->g->stream);
	r->g->cu->cuMemFreeHost(host);
	return err;
}

static bool is_cold(const struct run *r)
{
	return all_bytes(r) >= GPU_COLD;
}

/* 0 blocks: as many as the library takes unless it is told. */
static json_t *keys(const struct run *r)
{
	return json_pack("{s:s, s:s, s:s, s:b, s:s, s:i, s:i, s:i, s:i}",
	                 "bench", "copy", "device", r->o->device, "gpu",
	                 r->g->name, "double", r->g->is_double, "op",
	                 r->op->name, "page_bytes", (int)r->page_bytes,
	                 "pages", (int)r->o->pages, "blocks",
	                 (int)r->nr_blocks, "rounds", (int)r->o->rounds);
}

static json_t *figures(const struct run *r)
{
	const struct gpu_timing *t = &r->timing;
	double gbps = (double)call_bytes(r) / t->us / 1e3;

	return json_pack("{s:f, s:f, s:I, s:f, s:f, s:f, s:i, s:b}",
	                 "us_median", t->us, "us_min", t->us_min, "bytes",
	                 (json_int_t)call_bytes(r), "gbps", gbps, "copy_gbps",
	                 t->copy_gbps, "fraction", gbps / t->copy_gbps, "calls",
	                 (int)r->nr_sets, "cold", is_cold(r));
}

static void print_head(const struct opts *o, const struct gpu *g)
{
	printf("%s: %s; %u pages a call, %u rounds; GB/s of bytes read and "
	       "written, or across the link; the driver's of copying\n",
	       o->device,
	       g->is_double ? "double: no GPU, no time means anything"
	                    : g->name,
	       o->pages, o->rounds);
	printf("%-18s %10s %8s %10s %12s %8s %8s %6s\n", "", "page", "blocks",
	       "us", "bytes", "GB/s", "driver's", "share");
}

static int print(const struct run *r)
{
	const struct gpu_timing *t = &r->timing;
	double gbps = (double)call_bytes(r) / t->us / 1e3;
	char blocks[16] = "default";

	if (r->o->json)
		return report_print_both(keys(r), figures(r));
	if (r->nr_blocks)
		snprintf(blocks, sizeof(blocks), "%u", r->nr_blocks);
	printf("%-18s %10u %8s %10.1f %12llu %8.1f %8.1f %5.1f%%%s\n",
	       r->op->name, r->page_bytes, blocks, t->us,
	       (unsigned long long)call_bytes(r), gbps, t->copy_gbps,
	       100 * gbps / t->copy_gbps,
	       is_cold(r) ? "" : " (caches hold it)");
	return 0;
}

/* What does not fit is said, and is no failure of the others. */
static int skip(const struct run *r, uint64_t used)
{
	char why[80];

	gpu_need_text(r->g, used, why, sizeof(why));
	fprintf(stderr, "kvbench copy: %s of pages of %u: skipped, %s\n",
	        r->op->name, r->page_bytes, why);
	if (!r->o->json)
		return 0;
	return report_print_both(keys(r), json_pack("{s:s}", "skipped", why));
}

/* Return: exit status; @measured counts. */
static int run_line(struct run *r, struct gpu_copy *copy, unsigned *measured)
{
	uint64_t used = r->g->used;
	int err, status;

	if (take(r)) {
		status = skip(r, used);
	} else {
		err = r->op->host ? measure_host(r, copy) : measure(r, copy);
		status = err ? BENCH_FAILED : print(r);
		*measured += !err;
	}
	fflush(stdout);
	r->g->used = used;
	return status;
}

static int run_gpu(const struct opts *o)
{
	const unsigned nr = o->page_bytes.nr * o->blocks.nr * NR_OPS;
	struct gpu_copy copy = { .g = NULL };
	unsigned measured = 0, i;
	struct gpu g;
	int status = 0, err = gpu_open(&g, "copy", o->device, o->memory);

	if (!err)
		err = gpu_copy_init(&copy, &g);
	if (!err && !o->json)
		print_head(o, &g);
	for (i = 0; i < nr && !err && !status; i++) {
		unsigned line = i / NR_OPS;
		struct run r = {
			.o = o,
			.g = &g,
			.op = &ops[i % NR_OPS],
			.page_bytes = o->page_bytes.n[line / o->blocks.nr],
			.nr_blocks = o->blocks.n[line % o->blocks.nr],
		};

		status = run_line(&r, &copy, &measured);
	}
	gpu_copy_fini(&copy);
	gpu_close(&g);
	if (err)
		return err == -EINVAL ? BENCH_USAGE : BENCH_FAILED;
	return status || measured ? status : BENCH_FAILED;
}

static int complain(const char *what)
{
	fprintf(stderr, "kvbench copy: %s\n", what);
	return BENCH_USAGE;
}

static int run(int argc, char **argv)
{
	struct opts o = {
		.device = "",
		.page_bytes = { 1, { 2u << 20 } },
		.blocks = { 1, { 0 } },
		.pages = 64,
		.rounds = 9,
	};
	const struct arg args[] = {
		{ "device", ARG_TEXT, &o.device, "cuda-vmm:N or cuda-ipc:N" },
		{ "page-bytes", ARG_LIST, &o.page_bytes,
		  "of a page, each in turn; multiples of 256" },
		{ "pages", ARG_COUNT, &o.pages, "of one call" },
		{ "blocks", ARG_LIST, &o.blocks,
		  "at most, each in turn; default: the library's" },
		{ "memory", ARG_COUNT, &o.memory,
		  "MiB to use; default: 70 % of what is free" },
		{ "rounds", ARG_COUNT, &o.rounds, "of pages and of copying" },
		{ "json", ARG_FLAG, &o.json, "one JSON object a line" },
		{ NULL }
	};
	int status = args_parse(argc, argv, args, summary);
	unsigned i;

	if (status)
		return status < 0 ? BENCH_USAGE : 0;
	for (i = 0; i < o.page_bytes.nr; i++)
		if (o.page_bytes.n[i] % PAGE_ALIGN ||
		    o.page_bytes.n[i] > KVD_MAX_PAGE_BYTES)
			return complain("--page-bytes are multiples of 256, "
			                "64 MiB at most");
	if (o.pages > MAX_PAGES)
		return complain("--pages is at most 1048576");
	return run_gpu(&o);
}

const struct bench bench_copy = { "copy", summary, run };
