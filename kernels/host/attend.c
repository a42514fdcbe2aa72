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
#include "kernels/host/attend.h"
#include "kernels/host/basis.h"
#include "kernels/host/half.h"
#include "kernels/host/strip.h"

#define TILE_ROWS     32u        /* wanted query rows in a tile */
#define TEAM_ELEMENTS (1u << 21) /* scores x dims worth a second thread */
#define SCRATCH_ALIGN 64u

/* One call, cut. Float counts are multiples of LANES. */
struct plan {
	const struct kv_attend_args *a;
	run_attend_fn *run;
	uint32_t tile_tokens; /* query tokens of a full tile */
	uint32_t group;
	uint32_t *first_tile; /* [nr_seqs] of each sequence */
	uint32_t nr_tiles;
	uint32_t nr_runs; /* at most, of one tile */
	uint32_t run_pages;
	uint32_t q_stride;
	uint32_t acc_stride;
	uint32_t q_floats;    /* of a tile's q and q_sum */
	uint32_t part_floats; /* of a struct part's arrays */
	uint64_t own_floats;  /* of a thread */
	int team;             /* threads */
	int by_run;           /* a thread takes runs, not tiles */
};

static uint32_t lanes_up(uint32_t n)
{
	return (n + LANES - 1) / LANES * LANES;
}

static uint32_t seq_tiles(const struct plan *p, const struct kv_seq *s)
{
	return (s->nr_rows + p->tile_tokens - 1) / p->tile_tokens *
	       p->a->layouts[0].nr_heads;
}

static uint32_t plan_rows(const struct plan *p)
{
	return p->tile_tokens * p->group;
}

/* Cuts sequences into tiles; the longest decides how large a tile is. */
static int plan_tiles(struct plan *p)
{
	const struct kv_attend_args *a = p->a;
	uint32_t longest = 1, i;

	for (i = 0; i < a->nr_seqs; i++)
		if (a->seqs[i].nr_rows > longest)
			longest = a->seqs[i].nr_rows;
	p->tile_tokens = p->group < TILE_ROWS ? TILE_ROWS / p->group : 1;
	if (p->tile_tokens > longest)
		p->tile_tokens = longest;
	p->first_tile = malloc((a->nr_seqs + 1ull) * sizeof(*p->first_tile));
	if (!p->first_tile)
		return -ENOMEM;
	for (i = 0; i < a->nr_seqs; i++) {
		p->first_tile[i] = p->nr_tiles;
		p->nr_tiles += seq_tiles(p, &a->seqs[i]);
	}
	return 0;
}

/* Counts runs and work, and decides on threads. */
static int plan_init(struct plan *p, const struct kv_attend_args *a,
                      run_attend_fn *run)
{
	const struct page_layout *l = &a->layouts[0];
	uint32_t end, runs, i;
	uint64_t work = 0;
	int err;

	*p = (struct plan){ .a = a, .run = run, .nr_runs = 1 };
	p->run_pages = RUN_TOKENS / l->page_tokens;
	p->group = a->nr_q_heads / l->nr_heads;
	for (i = 0; i < a->nr_seqs; i++) {
		end = a->seqs[i].pos + a->seqs[i].nr_rows;
		runs = (end - window_first(a->window, a->seqs[i].pos)) /
		               RUN_TOKENS +
		       2;
		if (runs > p->nr_runs)
			p->nr_runs = runs;
		work += (uint64_t)end * a->seqs[i].nr_rows;
	}
	work *= a->nr_q_heads * l->k_dim;
	p->q_stride = lanes_up(l->k_dim);
	p->acc_stride = lanes_up(page_value_dim(l));
	p->team = a->nr_threads ? (int)a->nr_threads : omp_get_max_threads();
	if (work < TEAM_ELEMENTS)
		p->team = 1;
	err = plan_tiles(p);
	p->part_floats =
		plan_rows(p) * p->acc_stride + 2 * lanes_up(plan_rows(p));
	p->q_floats = plan_rows(p) * p->q_stride + lanes_up(plan_rows(p));
	p->own_floats = 2ull * p->q_floats + 2ull * p->part_floats +
	                sizeof(struct strip) / sizeof(float);
	p->by_run = p->team > 1 && p->nr_tiles < 4 * (uint32_t)p->team;
	return err;
}

/* The sequence that tile @i is of. */
static uint32_t tile_seq(const struct plan *p, uint32_t i)
{
	uint32_t lo = 0, hi = p->a->nr_seqs, mid;

	while (hi - lo > 1) {
		mid = lo + (hi - lo) / 2;
		if (p->first_tile[mid] <= i)
			lo = mid;
		else
			hi = mid;
	}
	return lo;
}

/* Tile number @i: tiles of a sequence are [row tile][kv head]. */
static void tile_init(struct tile *t, const struct plan *p, uint32_t i)
{
	const struct kv_attend_args *a = p->a;
	uint32_t seq = tile_seq(p, i), token;
	const struct kv_seq *s = &a->seqs[seq];

	i -= p->first_tile[seq];
	token = i / a->layouts[0].nr_heads * p->tile_tokens;
	*t = (struct tile){
		.a = a,
		.seq = s,
		.kv_head = i % a->layouts[0].nr_heads,
		.group = p->group,
		.row = s->first_row + token,
		.pos = s->pos + token,
		.nr_tokens = s->nr_rows - token < p->tile_tokens
		                     ? s->nr_rows - token
		                     : p->tile_tokens,
		.q_stride = p->q_stride,
		.acc_stride = p->acc_stride,
	};
}

/* One query, scaled, as keys of the page are. */
static void q_load(const struct kv_attend_args *a, uint64_t src, float *q)
{
	const struct page_layout *l = &a->layouts[0];
	uint32_t basis = score_basis(l), d;
	float scale = a->softcap > 0 ? a->scale : a->scale * LOG2E;
	float x[KVD_MAX_DIM];

	for (d = 0; d < l->k_dim; d++)
		x[d] = dtype_load(a->dtype, a->q, src + d) * scale;
	basis_apply(basis, l->k_dim,
	            basis_rotation(a->tables, basis, a->layer, l->k_dim, 0), x,
	            q);
}

/*
 * Loads the tile's queries into @mem, padded. A thread's memory is queries,
 * two parts, queries as a strip has them, the strip.
 */
static void tile_load(struct tile *t, const struct plan *p, float *mem)
{
	const struct kv_attend_args *a = t->a;
	uint32_t dim = a->layouts[0].k_dim, i, d;

	t->q = mem;
	t->q_sum = mem + plan_rows(p) * p->q_stride;
	t->strip = (struct strip *)(mem + 2ull * p->q_floats +
	                            2ull * p->part_floats);
	t->strip->q_own = mem + p->q_floats + 2ull * p->part_floats;
	t->strip->q_const = t->strip->q_own + plan_rows(p) * p->q_stride;
	for (i = 0; i < tile_rows(t); i++) {
		uint32_t head = t->kv_head * t->group + i % t->group;
		float *q = t->q + i * t->q_stride;

		q_load(a,
		       (t->row + i / t->group) * a->q_stride +
		               (uint64_t)head * dim,
		       q);
		t->q_sum[i] = 0;
		for (d = 0; d < dim; d++)
			t->q_sum[i] += q[d];
		for (; d < t->q_stride; d++)
			q[d] = 0;
	}
}

static struct part part_at(const struct plan *p, float *mem)
{
	uint32_t rows = plan_rows(p);

	return (struct part){ .max = mem,
		              .sum = mem + lanes_up(rows),
		              .acc = mem + 2 * lanes_up(rows) };
}

static void part_clear(const struct part *x, const struct tile *t)
{
	uint32_t i;

	for (i = 0; i < tile_rows(t); i++) {
		x->max[i] = -INFINITY;
		x->sum[i] = 0;
	}
	memset(x->acc, 0, sizeof(float) * tile_rows(t) * t->acc_stride);
}

/* Adds what a later run saw to @to, row by row. */
static void part_fold(const struct part *to, const struct part *x,
                      const struct tile *t)
{
	uint32_t i, d;

	for (i = 0; i < tile_rows(t); i++) {
		float *acc = to->acc + i * t->acc_stride;
		const float *add = x->acc + i * t->acc_stride;
		float max, old, new;

		if (x->sum[i] == 0)
			continue;
		max = fmaxf(to->max[i], x->max[i]);
		old = exp2f(to->max[i] - max);
		new = exp2f(x->max[i] - max);
		to->max[i] = max;
		to->sum[i] = to->sum[i] * old + x->sum[i] * new;
		for (d = 0; d < t->acc_stride; d++)
			acc[d] = acc[d] * old + add[d] * new;
	}
}

/* basis_undo() of a result, but for the order of sums. */
static void profile_undo(uint32_t dim, const float *rotation, const float *x,
                         float *y)
{
	float sum[8];
	uint32_t i, j, k;

	for (i = 0; i < dim; i++, rotation += dim) {
		memset(sum, 0, sizeof(sum));
		for (j = 0; j + 8 <= dim; j += 8)
			for (k = 0; k < 8; k++)
				sum[k] += rotation[j + k] * x[j + k];
		y[i] = ((sum[0] + sum[4]) + (sum[2] + sum[6])) +
		       ((sum[1] + sum[5]) + (sum[3] + sum[7]));
	}
}

/* One result, brought back from the basis of values. */
static void out_store(const struct kv_attend_args *a, uint64_t dst,
                      const float *acc, float scale)
{
	const struct page_layout *l = &a->layouts[0];
	float x[KVD_MAX_DIM] = { 0 }, y[KVD_MAX_DIM];
	uint32_t dim = page_value_dim(l), d;
	int is_v = l->v_dim != 0;

	for (d = 0; d < dim; d++)
		x[d] = acc[d] * scale;
	if (l->v_basis == BASIS_PROFILE)
		profile_undo(dim,
		             basis_rotation(a->tables, l->v_basis, a->layer,
		                            dim, is_v),
		             x, y);
	else
		basis_undo(l->v_basis, dim, NULL, x, y);
	for (d = 0; d < dim; d++)
		dtype_store(a->dtype, a->out, dst + d, y[d]);
}

/* Divides by the sum, sinks included, and writes out and lse. */
static void part_finish(const struct part *x, const struct tile *t)
{
	const struct kv_attend_args *a = t->a;
	uint32_t dim = page_value_dim(&a->layouts[0]), i;

	for (i = 0; i < tile_rows(t); i++) {
		uint64_t row = t->row + i / t->group;
		uint32_t head = t->kv_head * t->group + i % t->group;
		uint64_t dst = row * a->out_stride + (uint64_t)head * dim;
		float sum = x->sum[i], max = x->max[i], scale = 1.0f;

		if (a->sinks) {
			float sink = a->sinks[head] * LOG2E;

			max = fmaxf(max, sink);
			scale = exp2f(x->max[i] - max);
			sum = sum * scale + exp2f(sink - max);
		}
		out_store(a, dst, x->acc + i * t->acc_stride, scale / sum);
		if (a->lse)
			a->lse[row * a->nr_q_heads + head] =
				(max + log2f(sum)) * LN2;
	}
}

/* The runs of a tile are first..first+nr-1, counted from position 0. */
static uint32_t tile_runs(const struct tile *t, uint32_t *first)
{
	*first = window_first(t->a->window, t->pos) / RUN_TOKENS;
	return (t->pos + t->nr_tokens - 1) / RUN_TOKENS - *first + 1;
}

/* One run of a tile, by number, into @x. */
static void run_do(const struct plan *p, const struct tile *t, uint32_t run,
                   const struct part *x)
{
	uint32_t pt = p->a->layouts[0].page_tokens;
	uint32_t first = window_first(p->a->window, t->pos) / pt;
	uint32_t end = (t->pos + t->nr_tokens - 1) / pt + 1;

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
	uint32_t first, nr, r;

	tile_init(&t, p, i);
	tile_load(&t, p, mem);
	part_clear(&all, &t);
	nr = tile_runs(&t, &first);
	for (r = 0; r < nr; r++) {
		run_do(p, &t, first + r, &one);
		part_fold(&all, &one, &t);
	}
	part_finish(&all, &t);
}

/* Run @r of tile @i into its place in @parts. */
static void tile_do_run(const struct plan *p, uint32_t i, uint32_t r,
                        float *mem, float *parts)
{
	struct part x = part_at(p, parts + (uint64_t)p->part_floats * r);
	struct tile t;
	uint32_t first;

	tile_init(&t, p, i);
	if (r >= tile_runs(&t, &first))
		return;
	tile_load(&t, p, mem);
	run_do(p, &t, first + r, &x);
}

/* Folds the runs of tile @i that tile_do_run() left in @parts. */
static void tile_fold(const struct plan *p, uint32_t i, float *mem,
                      float *parts)
{
	struct part all = part_at(p, mem), x;
	struct tile t;
	uint32_t first, nr, r;

	tile_init(&t, p, i);
	part_clear(&all, &t);
	nr = tile_runs(&t, &first);
	for (r = 0; r < nr; r++) {
		x = part_at(p, parts + (uint64_t)p->part_floats * r);
		part_fold(&all, &x, &t);
	}
	part_finish(&all, &t);
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

/**
 * attend_tiles() - attention of all rows of @a, by way of @run
 *
 * Return: 0, or -ENOMEM with nothing written.
 */
int attend_tiles(const struct kv_attend_args *a, run_attend_fn *run)
{
	struct plan p;
	uint64_t floats;
	float *mem;
	int err;

	err = plan_init(&p, a, run);
	if (err)
		return err;
	floats = p.team * p.own_floats;
	if (p.by_run)
		floats += (uint64_t)p.nr_tiles * p.nr_runs * p.part_floats;
	mem = aligned_alloc(SCRATCH_ALIGN, floats * sizeof(float));
	if (mem && p.by_run)
		do_runs(&p, mem);
	else if (mem)
		do_tiles(&p, mem);
	err = mem ? 0 : -ENOMEM;
	free(mem);
	free(p.first_tile);
	return err;
}
