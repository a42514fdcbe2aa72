/* SPDX-License-Identifier: Apache-2.0 */
/*
 * attend.c - cuts an attention call into tiles and runs, and folds the runs.
 *
 * Runs are cut at fixed positions and folded in order of position, so a row's
 * result is the same for any number of threads and any chunking of a prompt.
 * With many tiles (prefill, large batches) a thread takes a whole tile;
 * with few (decode of few sequences) it takes one run of a tile, and the runs
 * wait in memory to be folded. Both fold the same numbers in the same order.
 *
 * Any thread may call. All memory is taken at the start and given back at the
 * end: nothing is kept between calls.
 */
#include <errno.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>
#include "kernels/host/attend.h"
#include "kernels/host/strip.h"

#define TILE_ROWS     32u        /* wanted query rows in a tile */
#define TEAM_ELEMENTS (1u << 21) /* scores x dims worth a second thread */
#define SCRATCH_ALIGN 64u

/*
 * One call, cut: either what groups of sequences share (share.h), or what is
 * then left of each sequence. Float counts are multiples of LANES.
 */
struct plan {
	const struct kv_attend_args *a;
	run_attend_fn *run;
	const struct share *share;
	float *saved;         /* [token of share][q head][saved_floats] */
	uint32_t saved_floats;
	int shared;           /* the first of the two */
	uint32_t tile_tokens; /* query tokens of a full tile */
	uint32_t group;
	uint32_t *first_tile; /* [nr] of each sequence, or group of them */
	uint32_t nr;
	uint32_t nr_tiles;
	uint32_t nr_runs; /* at most, of one tile */
	uint32_t run_pages;
	uint32_t q_stride;
	uint32_t acc_stride;
	uint32_t q_floats;    /* of a tile's q and q_sum */
	uint32_t part_floats; /* of a struct part's arrays */
	uint32_t rows_floats; /* of a strip's codes in tile order, as rows */
	uint64_t own_floats;  /* of a thread */
	int team;             /* threads */
	int by_run;           /* a thread takes runs, not tiles */
};

static uint32_t lanes_up(uint32_t n)
{
	return (n + LANES - 1) / LANES * LANES;
}

static uint32_t plan_rows(const struct plan *p)
{
	return p->tile_tokens * p->group;
}

/* Query tokens of sequence, or group, @i. */
static uint32_t plan_tokens(const struct plan *p, uint32_t i)
{
	return p->shared ? p->share->groups[i].nr_tokens
	                 : p->a->seqs[i].nr_rows;
}

static uint32_t share_tokens(const struct plan *p)
{
	return p->group < TILE_ROWS ? TILE_ROWS / p->group : 1;
}

/* Cuts sequences into tiles; the longest decides how large a tile is. */
static int plan_tiles(struct plan *p)
{
	uint32_t longest = 1, i;

	for (i = 0; i < p->nr; i++)
		if (plan_tokens(p, i) > longest)
			longest = plan_tokens(p, i);
	p->tile_tokens = share_tokens(p);
	if (p->tile_tokens > longest)
		p->tile_tokens = longest;
	p->first_tile = malloc((p->nr + 1ull) * sizeof(*p->first_tile));
	if (!p->first_tile)
		return -ENOMEM;
	for (i = 0; i < p->nr; i++) {
		p->first_tile[i] = p->nr_tiles;
		p->nr_tiles += (plan_tokens(p, i) + p->tile_tokens - 1) /
		               p->tile_tokens * p->a->layouts[0].nr_heads;
	}
	return 0;
}

/* Scores there are to make, times dims; and the most runs of a tile. */
static uint64_t plan_work(struct plan *p)
{
	const struct kv_attend_args *a = p->a;
	uint64_t work = 0, end, from;
	uint32_t i, runs;

	for (i = 0; i < p->nr; i++) {
		if (p->shared) {
			from = 0;
			end = (uint64_t)p->share->groups[i].nr_runs *
			      RUN_TOKENS;
		} else {
			from = window_first(a->window, a->seqs[i].pos);
			end = a->seqs[i].pos + a->seqs[i].nr_rows;
		}
		runs = (end - from) / RUN_TOKENS + 2;
		if (runs > p->nr_runs)
			p->nr_runs = runs;
		work += end * plan_tokens(p, i);
	}
	return work * a->nr_q_heads * a->layouts[0].k_dim;
}

/* Counts runs and work, and decides on threads. */
static int plan_init(struct plan *p)
{
	const struct kv_attend_args *a = p->a;
	const struct page_layout *l = &a->layouts[0];
	int err;

	p->nr_runs = 1;
	p->nr_tiles = 0;
	p->nr = p->shared ? p->share->nr_groups : a->nr_seqs;
	p->team = a->nr_threads ? (int)a->nr_threads : omp_get_max_threads();
	if (plan_work(p) < TEAM_ELEMENTS)
		p->team = 1;
	err = plan_tiles(p);
	p->part_floats =
		plan_rows(p) * p->acc_stride + 2 * lanes_up(plan_rows(p));
	p->q_stride = lanes_up(l->k_dim);
	p->q_floats = plan_rows(p) * p->q_stride + lanes_up(plan_rows(p));
	p->own_floats = 2ull * p->q_floats + 2ull * p->part_floats +
	                2ull * p->rows_floats +
	                sizeof(struct strip) / sizeof(float);
	p->by_run = p->team > 1 && p->nr_tiles < 4 * (uint32_t)p->team;
	return err;
}

/* The sequence, or group, that tile @i is of. */
static uint32_t tile_of(const struct plan *p, uint32_t i)
{
	uint32_t lo = 0, hi = p->nr, mid;

	while (hi - lo > 1) {
		mid = lo + (hi - lo) / 2;
		if (p->first_tile[mid] <= i)
			lo = mid;
		else
			hi = mid;
	}
	return lo;
}

/* Tokens of a sequence from its @token-th. */
static void tile_rest(struct tile *t, const struct plan *p, uint32_t seq,
                      uint32_t token)
{
	const struct kv_seq *s = &p->a->seqs[seq];

	t->seq = s;
	t->row = s->first_row + token;
	t->pos = s->pos + token;
	t->last = t->pos + t->nr_tokens - 1;
	t->first_run = window_first(p->a->window, t->pos) / RUN_TOKENS;
	t->end_run = t->last / RUN_TOKENS + 1;
	t->saved = NULL;
	if (!p->share->runs[seq])
		return;
	t->saved = p->saved + (p->share->first[seq] + token) *
	                              (uint64_t)p->a->nr_q_heads *
	                              p->saved_floats;
	if (p->share->runs[seq] > t->first_run)
		t->first_run = p->share->runs[seq];
}

/* Tokens of a group from its @token-th, over what they share. */
static void tile_shared(struct tile *t, const struct plan *p, uint32_t group,
                        uint32_t token)
{
	const struct share_group *g = &p->share->groups[group];
	uint32_t i;

	token += g->first_token;
	t->seq = &p->a->seqs[g->seq];
	t->tokens = p->share->tokens + token;
	t->pos = UINT32_MAX;
	for (i = 0; i < t->nr_tokens; i++)
		if (t->tokens[i].pos < t->pos)
			t->pos = t->tokens[i].pos;
	t->last = g->nr_runs * RUN_TOKENS - 1;
	t->first_run = window_first(p->a->window, t->pos) / RUN_TOKENS;
	t->end_run = g->nr_runs;
	if (t->first_run > t->end_run)
		t->first_run = t->end_run;
	t->saved = p->saved + token * (uint64_t)p->a->nr_q_heads *
	                              p->saved_floats;
}

/*
 * Tile number @i: tiles of a sequence are [row tile][kv head]. A thread's
 * memory is queries, two parts, queries as a strip has them, the strip, and
 * room for rows of K and of V.
 */
static void tile_init(struct tile *t, const struct plan *p, uint32_t i,
                      float *mem)
{
	const struct kv_attend_args *a = p->a;
	uint32_t of = tile_of(p, i), token;
	float *end = mem + p->q_floats + 2ull * p->part_floats;

	i -= p->first_tile[of];
	token = i / a->layouts[0].nr_heads * p->tile_tokens;
	*t = (struct tile){
		.a = a,
		.kv_head = i % a->layouts[0].nr_heads,
		.group = p->group,
		.nr_tokens = plan_tokens(p, of) - token < p->tile_tokens
		                     ? plan_tokens(p, of) - token
		                     : p->tile_tokens,
		.q_stride = p->q_stride,
		.acc_stride = p->acc_stride,
		.q = mem,
		.q_sum = mem + plan_rows(p) * p->q_stride,
		.strip = (struct strip *)(end + p->q_floats),
	};
	t->strip->q_own = end;
	t->strip->q_const = end + plan_rows(p) * p->q_stride;
	t->strip->k_rows = (char *)(t->strip + 1);
	t->strip->v_rows = t->strip->k_rows + p->rows_floats * sizeof(float);
	if (p->shared)
		tile_shared(t, p, of, token);
	else
		tile_rest(t, p, of, token);
}

static struct part part_at(const struct plan *p, float *mem)
{
	uint32_t rows = plan_rows(p);

	return (struct part){ .max = mem,
		              .sum = mem + lanes_up(rows),
		              .acc = mem + 2 * lanes_up(rows) };
}

/* Where row @i of a tile waits between the two plans: max, sum, acc. */
static float *saved_row(const struct plan *p, const struct tile *t, uint32_t i)
{
	uint64_t row = (uint64_t)(i / t->group) * p->a->nr_q_heads +
	               t->kv_head * t->group + i % t->group;

	return t->saved + row * p->saved_floats;
}

/* What a tile's rows have seen before its first run. */
static void tile_begin(const struct plan *p, const struct tile *t,
                       const struct part *all)
{
	uint32_t i;

	part_clear(all, t);
	for (i = 0; i < tile_rows(t) && t->saved && !p->shared; i++) {
		const float *from = saved_row(p, t, i);

		all->max[i] = from[0];
		all->sum[i] = from[1];
		memcpy(all->acc + i * t->acc_stride, from + LANES,
		       t->acc_stride * sizeof(float));
	}
}

static void tile_end(const struct plan *p, const struct tile *t,
                     const struct part *all)
{
	uint32_t i;

	for (i = 0; i < tile_rows(t) && p->shared; i++) {
		float *to = saved_row(p, t, i);

		to[0] = all->max[i];
		to[1] = all->sum[i];
		memcpy(to + LANES, all->acc + i * t->acc_stride,
		       t->acc_stride * sizeof(float));
	}
	if (!p->shared)
		part_finish(all, t);
}

/* One run of a tile, by number, into @x. */
static void run_do(const struct plan *p, const struct tile *t, uint32_t run,
                   const struct part *x)
{
	uint32_t pt = p->a->layouts[0].page_tokens;
	uint32_t first = window_first(p->a->window, t->pos) / pt;
	uint32_t end = t->last / pt + 1;

	if (first < run * p->run_pages)
		first = run * p->run_pages;
	if (end > (run + 1) * p->run_pages)
		end = (run + 1) * p->run_pages;
	part_clear(x, t);
	p->run(t, first, end, x);
}

/* Tile @i in all its runs, one after the other. */
static void tile_do(const struct plan *p, uint32_t i, float *mem)
{
	struct part all = part_at(p, mem + p->q_floats);
	struct part one = part_at(p, mem + p->q_floats + p->part_floats);
	struct tile t;
	uint32_t r;

	tile_init(&t, p, i, mem);
	tile_load(&t);
	tile_begin(p, &t, &all);
	for (r = t.first_run; r < t.end_run; r++) {
		run_do(p, &t, r, &one);
		part_fold(&all, &one, &t);
	}
	tile_end(p, &t, &all);
}

/* Run @r of tile @i into its place in @parts. */
static void tile_do_run(const struct plan *p, uint32_t i, uint32_t r,
                        float *mem, float *parts)
{
	struct part x = part_at(p, parts + (uint64_t)p->part_floats * r);
	struct tile t;

	tile_init(&t, p, i, mem);
	if (t.first_run + r >= t.end_run)
		return;
	tile_load(&t);
	run_do(p, &t, t.first_run + r, &x);
}

/* Folds the runs of tile @i that tile_do_run() left in @parts. */
static void tile_fold(const struct plan *p, uint32_t i, float *mem,
                      float *parts)
{
	struct part all = part_at(p, mem + p->q_floats), x;
	struct tile t;
	uint32_t r;

	tile_init(&t, p, i, mem);
	tile_begin(p, &t, &all);
	for (r = 0; t.first_run + r < t.end_run; r++) {
		x = part_at(p, parts + (uint64_t)p->part_floats * r);
		part_fold(&all, &x, &t);
	}
	tile_end(p, &t, &all);
}

static void do_tiles(const struct plan *p, float *mem)
{
	uint64_t own = p->own_floats;

#pragma omp parallel for schedule(dynamic) num_threads(p->team) if (p->team > 1)
	for (uint32_t i = 0; i < p->nr_tiles; i++)
		tile_do(p, i, mem + own * omp_get_thread_num());
}

static void do_runs(const struct plan *p, float *mem)
{
	uint64_t own = p->own_floats;
	uint64_t per_tile = (uint64_t)p->part_floats * p->nr_runs;
	float *parts = mem + own * p->team;

#pragma omp parallel num_threads(p->team)
	{
		float *scratch = mem + own * omp_get_thread_num();

#pragma omp for collapse(2) schedule(dynamic)
		for (uint32_t i = 0; i < p->nr_tiles; i++)
			for (uint32_t r = 0; r < p->nr_runs; r++)
				tile_do_run(p, i, r, scratch,
				            parts + per_tile * i);
#pragma omp for schedule(static)
		for (uint32_t i = 0; i < p->nr_tiles; i++)
			tile_fold(p, i, scratch, parts + per_tile * i);
	}
}

/* Two bytes of an element at most; of the wider side. */
static uint32_t rows_floats(const struct page_layout *l)
{
	uint32_t dim = l->k_dim > l->v_dim ? l->k_dim : l->v_dim;

	return l->tile_order == KVD_TILE_ROW ? 0 : STRIP * dim / 2;
}

static int plan_do(struct plan *p)
{
	uint64_t floats;
	float *mem = NULL;
	int err;

	err = plan_init(p);
	floats = p->team * p->own_floats;
	if (p->by_run)
		floats += (uint64_t)p->nr_tiles * p->nr_runs * p->part_floats;
	if (!err)
		mem = aligned_alloc(SCRATCH_ALIGN, floats * sizeof(float));
	if (mem && p->by_run)
		do_runs(p, mem);
	else if (mem)
		do_tiles(p, mem);
	free(mem);
	free(p->first_tile);
	return mem ? 0 : -ENOMEM;
}

/**
 * attend_tiles() - attention of all rows of @a, by way of @run
 *
 * Return: 0, or -ENOMEM, with part of the rows written or none.
 */
int attend_tiles(const struct kv_attend_args *a, run_attend_fn *run)
{
	const struct page_layout *l = &a->layouts[0];
	struct share share;
	struct plan p = {
		.a = a,
		.run = run,
		.share = &share,
		.group = a->nr_q_heads / l->nr_heads,
		.run_pages = RUN_TOKENS / l->page_tokens,
		.acc_stride = lanes_up(page_value_dim(l)),
		.rows_floats = rows_floats(l),
	};
	int err;

	p.saved_floats = p.acc_stride + LANES;
	err = share_init(&share, a, RUN_TOKENS, share_tokens(&p));
	if (!err && share.nr_groups) {
		p.saved = malloc((uint64_t)share.nr_tokens * a->nr_q_heads *
		                 p.saved_floats * sizeof(float));
		p.shared = 1;
		err = p.saved ? plan_do(&p) : -ENOMEM;
		p.shared = 0;
	}
	if (!err)
		err = plan_do(&p);
	free(p.saved);
	share_fini(&share);
	return err;
}
