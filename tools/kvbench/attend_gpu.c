/* SPDX-License-Identifier: Apache-2.0 */
/*
 * attend_gpu.c - kvbench attend --device cuda-...: one step of attention on a
 * GPU, beside a copy of its memory.
 *
 * Every combination of what is listed is a line: the time of one call
 * (gpu_step.h), the bytes that it has to read, and what part of the copy's
 * bandwidth that is. A combination that memory does not hold is left out.
 */
#include <errno.h>
#include <stdio.h>
#include "tools/kvbench/args.h"
#include "tools/kvbench/attend_gpu.h"
#include "tools/kvbench/bench.h"
#include "tools/kvbench/formats.h"
#include "tools/kvbench/gpu_step.h"
#include "tools/kvbench/report.h"

#define MAX_HEADS 4096u
#define MAX_PAGES (1u << 26) /* in block tables */

struct opts {
	const char *device, *formats, *heads;
	unsigned kv_heads, dim, page_tokens, shared, memory, rounds;
	struct arg_list batch, ctx;
	bool json;
};

/* Query heads and kv heads. */
struct heads {
	unsigned q, kv;
};

/* What line it is. */
static json_t *keys(const struct gpu_step *s, const struct opts *o)
{
	return json_pack("{s:s, s:s, s:s, s:b, s:s, s:i, s:i, s:i, s:i, s:i,"
	                 " s:i, s:i, s:i, s:i}",
	                 "bench", "attend", "device", o->device, "gpu",
	                 s->g->name, "double", s->g->is_double, "format",
	                 s->format.name, "batch", (int)s->batch, "ctx",
	                 (int)s->ctx, "heads", (int)s->heads, "kv_heads",
	                 (int)s->kv_heads, "dim", (int)o->dim, "rows", 1,
	                 "shared", (int)o->shared, "page_tokens",
	                 (int)o->page_tokens, "rounds", (int)o->rounds);
}

static json_t *figures(const struct gpu_step *s, const struct gpu_timing *t)
{
	double gbps = (double)gpu_step_bytes(s) / t->us / 1e3;

	return json_pack("{s:f, s:f, s:I, s:f, s:f, s:f, s:i, s:b}",
	                 "us_median", t->us, "us_min", t->us_min, "bytes",
	                 (json_int_t)gpu_step_bytes(s), "gbps", gbps,
	                 "membw_gbps", t->copy_gbps, "fraction",
	                 gbps / t->copy_gbps, "layers", (int)s->nr_layers,
	                 "cold", gpu_step_cold(s));
}

static void print_head(const struct opts *o, const struct gpu *g)
{
	printf("%s: %s; heads of %u, pages of %u, %u tokens in common, %u "
	       "rounds; memory's GB/s of copying\n",
	       o->device,
	       g->is_double ? "double: no GPU, no time means anything"
	                    : g->name,
	       o->dim, o->page_tokens, o->shared, o->rounds);
	printf("%-16s %7s %5s %7s %10s %12s %8s %8s %6s\n", "format", "heads",
	       "batch", "tokens", "us", "bytes", "GB/s", "memory", "share");
}

static int print(const struct gpu_step *s, const struct opts *o,
                 const struct gpu_timing *t)
{
	double gbps = (double)gpu_step_bytes(s) / t->us / 1e3;

	if (o->json)
		return report_print_both(keys(s, o), figures(s, t));
	printf("%-16s %4u/%-2u %5u %7u %10.1f %12llu %8.1f %8.1f %5.1f%%%s\n",
	       s->format.name, s->heads, s->kv_heads, s->batch, s->ctx, t->us,
	       (unsigned long long)gpu_step_bytes(s), gbps, t->copy_gbps,
	       100 * gbps / t->copy_gbps,
	       gpu_step_cold(s) ? "" : " (caches hold it)");
	return 0;
}

/* What does not fit is said, and is no failure of the others. */
static int skip(const struct gpu_step *s, const struct opts *o, uint64_t used)
{
	char why[80];

	gpu_need_text(s->g, used, why, sizeof(why));
	fprintf(stderr,
	        "kvbench attend: %s, %u/%u heads, batch %u, %u tokens: "
	        "skipped, %s\n",
	        s->format.name, s->heads, s->kv_heads, s->batch, s->ctx, why);
	if (!o->json)
		return 0;
	return report_print_both(keys(s, o),
	                         json_pack("{s:s}", "skipped", why));
}

/* Return: exit status; @measured counts. */
static int run_step(struct gpu_step *s, const struct opts *o,
                    struct gpu_copy *copy, unsigned *measured)
{
	uint64_t used = s->g->used;
	struct gpu_timing timing;
	int err = gpu_step_init(s), status;

	if (err == -ENOSPC) {
		status = skip(s, o, used);
	} else {
		if (!err)
			err = gpu_step_time(s, copy, o->rounds, &timing);
		status = err == -EINVAL ? BENCH_USAGE : BENCH_FAILED;
		if (!err)
			status = print(s, o, &timing);
		*measured += !err;
	}
	fflush(stdout);
	gpu_step_fini(s);
	s->g->used = used;
	return status;
}

/* "32/8,64/8": up to ARG_LIST_MAX. Return: how many, or -EINVAL. */
static int heads_parse(const struct opts *o, struct heads *ret)
{
	const char *p = o->heads;
	int nr = 0, used;

	do {
		struct heads h = { .kv = o->kv_heads };

		used = 0;
		if (sscanf(p, "%4u%n", &h.q, &used) == 1) {
			p += used;
			if (*p == '/' && sscanf(p, "/%4u%n", &h.kv, &used) == 1)
				p += used;
		}
		if (!used || (*p && *p != ',') || nr == ARG_LIST_MAX || !h.kv ||
		    !h.q || h.q > MAX_HEADS || h.q % h.kv) {
			fprintf(stderr,
			        "kvbench attend: --heads %s: not such "
			        "as 32/8,64/8\n",
			        o->heads);
			return -EINVAL;
		}
		ret[nr++] = h;
	} while (*p++);
	return nr;
}

static int opts_check(const struct opts *o)
{
	unsigned b, c;

	for (c = 0; c < o->ctx.nr; c++) {
		if (o->shared > o->ctx.n[c]) {
			fprintf(stderr, "kvbench attend: --shared is at most "
			                "--ctx\n");
			return -EINVAL;
		}
		for (b = 0; b < o->batch.nr; b++)
			if ((uint64_t)o->batch.n[b] * o->ctx.n[c] >
			    (uint64_t)MAX_PAGES * KVD_MIN_PAGE_TOKENS) {
				fprintf(stderr, "kvbench attend: too many "
				                "tokens\n");
				return -EINVAL;
			}
	}
	return 0;
}

/* Everything there is to do, in the order given; formats innermost. */
struct list {
	struct heads heads[ARG_LIST_MAX];
	struct format_pair formats[FORMATS_MAX];
	int nr_heads, nr_formats;
};

static int run_list(const struct opts *o, const struct list *l, struct gpu *g,
                    struct gpu_copy *copy)
{
	unsigned nr_shapes = o->batch.nr * o->ctx.nr, measured = 0;
	int i, status = 0, nr = l->nr_heads * (int)nr_shapes * l->nr_formats;

	if (!o->json)
		print_head(o, g);
	for (i = 0; i < nr && !status; i++) {
		unsigned shape = (unsigned)(i / l->nr_formats) % nr_shapes;
		const struct heads *h =
			&l->heads[i / l->nr_formats / (int)nr_shapes];
		struct gpu_step s = {
			.g = g,
			.format = l->formats[i % l->nr_formats],
			.heads = h->q,
			.kv_heads = h->kv,
			.dim = o->dim,
			.page_tokens = o->page_tokens,
			.shared = o->shared,
			.batch = o->batch.n[shape / o->ctx.nr],
			.ctx = o->ctx.n[shape % o->ctx.nr],
			.pages = PAGES_NULL,
		};

		status = run_step(&s, o, copy, &measured);
	}
	return status || measured ? status : BENCH_FAILED;
}

static int run_gpu(const struct opts *o, const struct list *l)
{
	struct gpu_copy copy = { .g = NULL };
	int status = BENCH_FAILED, err;
	struct gpu g;

	err = gpu_open(&g, "attend", o->device, o->memory);
	if (!err)
		err = gpu_copy_init(&copy, &g);
	if (!err)
		status = run_list(o, l, &g, &copy);
	gpu_copy_fini(&copy);
	gpu_close(&g);
	return err == -EINVAL ? BENCH_USAGE : status;
}

int attend_gpu(int argc, char **argv, const char *summary)
{
	struct opts o = {
		.formats = "f16",
		.heads = "32",
		.kv_heads = 8,
		.dim = 128,
		.page_tokens = 64,
		.rounds = 9,
		.batch = { 1, { 1 } },
		.ctx = { 1, { 16384 } },
	};
	const struct arg args[] = {
		{ "device", ARG_TEXT, &o.device, "cuda-vmm:N or cuda-ipc:N" },
		{ "format", ARG_TEXT, &o.formats,
		  "names with + between, or all" },
		{ "heads", ARG_TEXT, &o.heads,
		  "query heads, or with kv heads: 32/8,64/8" },
		{ "kv-heads", ARG_COUNT, &o.kv_heads, "key and value heads" },
		{ "dim", ARG_COUNT, &o.dim, "of a head" },
		{ "ctx", ARG_LIST, &o.ctx, "tokens attended over" },
		{ "page-tokens", ARG_COUNT, &o.page_tokens, "32, 64 or 128" },
		{ "batch", ARG_LIST, &o.batch, "sequences" },
		{ "shared", ARG_COUNT, &o.shared,
		  "tokens that all sequences have in common" },
		{ "memory", ARG_COUNT, &o.memory,
		  "MiB to use; default: 70 % of what is free" },
		{ "rounds", ARG_COUNT, &o.rounds,
		  "of attention and of copying" },
		{ "json", ARG_FLAG, &o.json, "one JSON object a line" },
		{ NULL }
	};
	int status = args_parse(argc, argv, args, summary);
	struct list l;

	if (status)
		return status < 0 ? BENCH_USAGE : 0;
	l.nr_formats = formats_parse(o.formats, l.formats);
	if (l.nr_formats < 0 || opts_check(&o))
		return BENCH_USAGE;
	l.nr_heads = heads_parse(&o, l.heads);
	return l.nr_heads < 0 ? BENCH_USAGE : run_gpu(&o, &l);
}
