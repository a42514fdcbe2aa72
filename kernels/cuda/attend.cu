/* SPDX-License-Identifier: Apache-2.0 */
/*
 * attend.cu - attention of query rows over pages, in any format and geometry.
 *
 * A block has one row and up to ATTEND_HEADS query heads of one kv head, so
 * that a key or value is decoded once for all of them. It takes positions in
 * tiles of ATTEND_TILE, of which a chunk of keys, then of values, is decoded
 * into shared memory at a time. Tiles gather into splits of ATTEND_SPLIT
 * tokens, each an online softmax of its own; splits are merged from first to
 * last. Tiles, chunks and splits lie at multiples of their size, so what a
 * row gives depends on its position and its pages alone, bit for bit: not on
 * the rows beside it, nor on whether one block went through its splits or one
 * block did each.
 *
 * Queries are brought to the basis of keys, results back from that of values.
 * Keys stored before RoPE are brought back themselves, and turned.
 *
 * Positions a row does not see are never read as numbers.
 */
#include "kernels/cuda/attend.h"
#include "kernels/cuda/attend_rows.cuh"
#include "kernels/cuda/side.cuh"

/* One block's view of the call; arrays are of the block's shared memory. */
struct block {
	const struct kv_attend_args *a;
	const struct kv_seq *seq;
	uint32_t row;
	uint32_t kv_head;
	uint32_t first_head;	/* of the query heads */
	uint32_t nr;		/* query heads */
	uint32_t end;		/* positions seen: [begin, end) */
	uint32_t begin;
	uint32_t chunk;		/* tokens decoded at a time */
	float *q;		/* [nr][k_dim] */
	float *scores;		/* [nr][ATTEND_TILE], then weights */
	float *acc;		/* [nr][v_dim], of a split */
	float *total;		/* [nr][v_dim], of the splits so far */
	float *parts;		/* [nr][ATTEND_PARTS] maxima, then sums */
	float *max, *sum;	/* [nr] of the split's softmax */
	float *all_max, *all_sum; /* [nr] of the splits so far */
	float *old, *added;	/* [nr] what sums are multiplied by; the maximum
				 * to be is in added[] while a tile is made */
	struct matrix tile;	/* keys or values of a chunk */
	float *spare;		/* a row more */
};

/* Positions [begin, end). */
struct range {
	uint32_t begin, end;
};

DEVICE struct range range_cut(const struct range &s, uint32_t at, uint32_t n)
{
	struct range r;

	r.begin = s.begin > at ? s.begin : at;
	r.end = s.end - at < n ? s.end : at + n;
	return r;
}

DEVICE uint32_t window_begin(const struct kv_attend_args *a, uint32_t end)
{
	return a->window && end > a->window ? end - a->window : 0;
}

/* ---- keys and values of a chunk ---- */

DEVICE struct side side_of(const struct block &b, uint32_t page, bool v)
{
	const struct kv_page_ref *ref = &b.a->pages[kv_seq_page(b.seq, page)];
	uint8_t *base = (uint8_t *)(uintptr_t)b.a->bases[ref->segment];

	return side_at(&b.a->layouts[ref->layout], base + ref->offset,
		       b.a->layer, b.kv_head, v);
}

/* Tokens from @first on, of 8 or 16 bits in row order: a warp a token. */
template <uint32_t FORMAT>
DEVICE void rows_load(const struct matrix &r, const struct side &s,
		      uint32_t first)
{
	struct affine a = {};

	for (uint32_t i = row_first(); i < r.nr; i += ROW_STEP) {
		const uint64_t at = (uint64_t)(first + i) * r.dim;

		if (FORMAT == KVD_INT8)
			a = affine_load(&side_affine(s)[first + i]);
		for (uint32_t d = row_lane() * 4; d < r.dim; d += WARP * 4)
			f4_store(row_at(r, i) + d,
				 values_load<FORMAT>(s.codes, at + d, a));
	}
}

/* The same in any format and order. */
DEVICE void any_load(const struct matrix &r, const struct side &s,
		     const struct kv_tables *tb, uint32_t first)
{
	for (uint32_t i = row_first(); i < r.nr; i += ROW_STEP)
		for (uint32_t d = row_lane(); d < r.dim; d += WARP)
			row_at(r, i)[d] = side_value(s, tb, first + i, d);
	if (format_coding(s.place.format) != CODING_KVQUANT)
		return;
	const struct sparse_head *h = side_sparse(s);
	const struct sparse_entry *e = (const struct sparse_entry *)(h + 1);

	__syncthreads();
	for (uint32_t i = threadIdx.x; i < h->nr; i += ATTEND_THREADS) {
		const uint32_t t = e[i].at / r.dim - first;

		if (t < r.nr)
			row_at(r, t)[e[i].at % r.dim] +=
				f16_to_f32(e[i].value);
	}
}

/* Keys or values at @p, which is of one page, into the tile. */
DEVICE void chunk_load(struct block &b, const struct range &p, bool v)
{
	const struct page_layout *l = &b.a->layouts[0];
	const uint32_t page = p.begin / l->page_tokens;
	const uint32_t first = p.begin % l->page_tokens;
	const struct side s = side_of(b, page, v);
	const bool row_order = s.place.order == KVD_TILE_ROW;

	b.tile.nr = p.end - p.begin;
	b.tile.dim = s.place.dim;
	switch (row_order ? s.place.format : (uint32_t)KVD_NR_FORMATS) {
	case KVD_F16:
		rows_load<KVD_F16>(b.tile, s, first);
		break;
	case KVD_BF16:
		rows_load<KVD_BF16>(b.tile, s, first);
		break;
	case KVD_INT8:
		rows_load<KVD_INT8>(b.tile, s, first);
		break;
	default:
		any_load(b.tile, s, b.a->tables, first);
	}
	__syncthreads();
	if (v || l->rope_order != KVD_ROPE_PRE)
		return;
	rows_undo(b.tile, s.basis, rotation_of(b.a, false), b.spare);
	rows_turn(b.tile, b.a->tables, page, first);
}

/* ---- a tile ---- */

/* Of a query with a key. */
DEVICE float score(const struct kv_attend_args *a, const float *q,
		   const float *k, uint32_t dim)
{
	f4 sums[2] = {};
	float s;

	for (uint32_t d = 0; d < dim; d += 8) {
		sums[0] = f4_mad(f4_load(k + d), f4_load(q + d), sums[0]);
		sums[1] = f4_mad(f4_load(k + d + 4), f4_load(q + d + 4),
				 sums[1]);
	}
	s = (f4_sum(sums[0]) + f4_sum(sums[1])) * a->scale;
	return a->softcap > 0.0f ? a->softcap * tanhf(s / a->softcap) : s;
}

/* Scores of a chunk, to @scores of each head. */
DEVICE void chunk_scores(const struct block &b, float *scores)
{
	const uint32_t dim = b.tile.dim, n = b.tile.nr;

	for (uint32_t i = threadIdx.x; i < b.nr * n; i += ATTEND_THREADS)
		scores[i / n * ATTEND_TILE + i % n] =
			score(b.a, b.q + i / n * dim, row_at(b.tile, i % n),
			      dim);
}

/* The largest of a few scores of one head, by each thread. */
DEVICE void tile_maxima(const struct block &b)
{
	const uint32_t n = ATTEND_TILE / ATTEND_PARTS;

	for (uint32_t i = threadIdx.x; i < b.nr * ATTEND_PARTS;
	     i += ATTEND_THREADS) {
		float max = -INFINITY;

		for (uint32_t t = 0; t < n; t++)
			max = larger(max, b.scores[i * n + t]);
		b.parts[i] = max;
	}
}

/*
 * Turns scores into weights relative to the new maximum, and tells by how
 * much what was summed before shrinks.
 */
DEVICE void tile_weights(const struct block &b)
{
	for (uint32_t i = threadIdx.x; i < b.nr * ATTEND_TILE;
	     i += ATTEND_THREADS) {
		const uint32_t h = i / ATTEND_TILE;
		float max = b.max[h];

		for (uint32_t p = 0; p < ATTEND_PARTS; p++)
			max = larger(max, b.parts[h * ATTEND_PARTS + p]);
		b.scores[i] = expf(b.scores[i] - max);
		if (i % ATTEND_TILE == 0) {
			b.added[h] = max;
			b.old[h] = expf(b.max[h] - max);
		}
	}
}

/* Sums of as many weights as tile_maxima() took scores. */
DEVICE void tile_sums(const struct block &b)
{
	const uint32_t n = ATTEND_TILE / ATTEND_PARTS;

	for (uint32_t i = threadIdx.x; i < b.nr * ATTEND_PARTS;
	     i += ATTEND_THREADS) {
		float sum = 0.0f;

		for (uint32_t t = 0; t < n; t++)
			sum += b.scores[i * n + t];
		b.parts[i] = sum;
	}
}

/* Each head's softmax has the tile. */
DEVICE void tile_total(const struct block &b)
{
	const uint32_t h = threadIdx.x;
	float sum;

	if (h >= b.nr)
		return;
	sum = b.sum[h] * b.old[h];
	for (uint32_t p = 0; p < ATTEND_PARTS; p++)
		sum += b.parts[h * ATTEND_PARTS + p];
	b.sum[h] = sum;
	b.max[h] = b.added[h];
}

/* Adds weighted values of a chunk whose weights begin at @w. */
DEVICE void chunk_add(const struct block &b, const float *w, bool first)
{
	const uint32_t dim = b.tile.dim, n = dim / 4;

	for (uint32_t i = threadIdx.x; i < b.nr * n; i += ATTEND_THREADS) {
		const uint32_t h = i / n, d = i % n * 4;
		const float *weight = w + h * ATTEND_TILE;
		float *acc = b.acc + h * dim + d;
		f4 sum = {};

		for (uint32_t t = 0; t < b.tile.nr; t++)
			sum = f4_mad(f4_splat(weight[t]),
				     f4_load(row_at(b.tile, t) + d), sum);
		f4_store(acc, f4_mad(f4_load(acc),
				     f4_splat(first ? b.old[h] : 1.0f), sum));
	}
}

/* Scores become weights, and a softmax knows its new maximum. */
DEVICE void tile_soften(const struct block &b)
{
	tile_maxima(b);
	__syncthreads();
	tile_weights(b);
	__syncthreads();
	tile_sums(b);
}

/*
 * Adds the tile at @at, of which @seen is seen, to the split: keys, then
 * values. What is not seen has a score of -inf, and its value no part.
 */
DEVICE void tile_add(struct block &b, uint32_t at, const struct range &seen)
{
	for (uint32_t i = threadIdx.x; i < b.nr * ATTEND_TILE;
	     i += ATTEND_THREADS)
		b.scores[i] = -INFINITY;
	for (uint32_t v = 0; v < 2; v++) {
		for (uint32_t c = at; c < seen.end; c += b.chunk) {
			const struct range p = range_cut(seen, c, b.chunk);
			float *scores = b.scores + (p.begin - at);

			if (p.begin >= p.end)
				continue;
			chunk_load(b, p, v);
			if (v)
				chunk_add(b, scores, p.begin == seen.begin);
			else
				chunk_scores(b, scores);
			__syncthreads();
		}
		if (v)
			tile_total(b);
		else
			tile_soften(b);
	}
	__syncthreads();
}

/* ---- splits ---- */

DEVICE void clear(const struct block &b, float *max, float *sum, float *acc)
{
	const uint32_t n = b.nr * page_value_dim(&b.a->layouts[0]);

	if (threadIdx.x < b.nr) {
		max[threadIdx.x] = -INFINITY;
		sum[threadIdx.x] = 0.0f;
	}
	for (uint32_t i = threadIdx.x; i < n; i += ATTEND_THREADS)
		acc[i] = 0.0f;
	__syncthreads();
}

/* Attention over the positions of split @split that the row sees. */
DEVICE void split_attend(struct block &b, uint32_t split)
{
	struct range all, seen;

	all.begin = b.begin;
	all.end = b.end;
	seen = range_cut(all, split * ATTEND_SPLIT, ATTEND_SPLIT);
	clear(b, b.max, b.sum, b.acc);
	for (uint32_t at = seen.begin / ATTEND_TILE * ATTEND_TILE;
	     at < seen.end; at += ATTEND_TILE)
		tile_add(b, at, range_cut(seen, at, ATTEND_TILE));
}

/* How two softmaxes weigh in their sum; @max becomes the sum's. */
struct weights {
	float old, added;
};

DEVICE struct weights merge_weights(float &max, float added_max)
{
	const float to = larger(max, added_max);
	struct weights w;

	w.old = expf(max - to);
	w.added = expf(added_max - to);
	max = to;
	return w;
}

DEVICE float merge(const struct weights &w, float old, float added)
{
	return mad(added, w.added, old * w.old);
}

/* Adds the split to those before it. */
DEVICE void split_merge(const struct block &b)
{
	const uint32_t dim = page_value_dim(&b.a->layouts[0]);
	const uint32_t me = threadIdx.x;
	struct weights w;

	if (me < b.nr) {
		w = merge_weights(b.all_max[me], b.max[me]);
		b.all_sum[me] = merge(w, b.all_sum[me], b.sum[me]);
		b.old[me] = w.old;
		b.added[me] = w.added;
	}
	__syncthreads();
	for (uint32_t i = me; i < b.nr * dim; i += ATTEND_THREADS) {
		w.old = b.old[i / dim];
		w.added = b.added[i / dim];
		b.total[i] = merge(w, b.total[i], b.acc[i]);
	}
	__syncthreads();
}

/* ---- results ---- */

/* One head's softmax is complete but for its sink. */
struct result {
	float max;
	float sum;
	float factor; /* of the accumulators */
};

DEVICE struct result result_make(const struct kv_attend_args *a, uint32_t head,
				 float max, float sum)
{
	struct result r;

	r.max = max;
	r.sum = sum;
	r.factor = 1.0f;
	if (a->sinks) {
		struct weights w = merge_weights(r.max, a->sinks[head]);

		r.sum = merge(w, sum, 1.0f);
		r.factor = w.old;
	}
	return r;
}

DEVICE float result_value(const struct result &r, float acc)
{
	return acc * r.factor / r.sum;
}

DEVICE void lse_store(const struct kv_attend_args *a, uint32_t row,
		      uint32_t head, const struct result &r)
{
	if (a->lse)
		a->lse[(uint64_t)row * a->nr_q_heads + head] =
			r.max + logf(r.sum);
}

/* Results of heads from @head on, in the basis of values. */
DEVICE void results_store(const struct kv_attend_args *a, const struct matrix &x,
			  uint32_t row, uint32_t head, float *spare)
{
	const uint64_t out = row * a->out_stride + (uint64_t)head * x.dim;

	rows_undo(x, a->layouts[0].v_basis, rotation_of(a, true), spare);
	for (uint32_t i = threadIdx.x; i < x.nr * x.dim; i += ATTEND_THREADS)
		element_store(a->dtype, a->out, out + i, x.x[i]);
}

/* All splits of the row are in. */
DEVICE void row_store(const struct block &b)
{
	const uint32_t dim = page_value_dim(&b.a->layouts[0]);
	const struct matrix total = { b.total, b.nr, dim, dim };

	for (uint32_t i = threadIdx.x; i < b.nr * dim; i += ATTEND_THREADS) {
		const uint32_t h = i / dim;
		const struct result r = result_make(b.a, b.first_head + h,
						    b.all_max[h], b.all_sum[h]);

		b.total[i] = result_value(r, b.total[i]);
		if (i % dim == 0)
			lse_store(b.a, b.row, b.first_head + h, r);
	}
	__syncthreads();
	results_store(b.a, total, b.row, b.first_head, b.spare);
}

DEVICE float *partial_at(const struct attend_params &p, uint32_t row,
			 uint32_t head, uint32_t split)
{
	const uint64_t n = 2 + page_value_dim(&p.args.layouts[0]);

	return p.partial + (((uint64_t)row * p.args.nr_q_heads + head) *
				    p.nr_splits +
			    split) * n;
}

/* A split of the row, left for kv_merge(). */
DEVICE void partial_store(const struct attend_params &p, const struct block &b,
			  uint32_t split)
{
	const uint32_t dim = page_value_dim(&b.a->layouts[0]);

	for (uint32_t h = 0; h < b.nr; h++) {
		float *to = partial_at(p, b.row, b.first_head + h, split);

		for (uint32_t d = threadIdx.x; d < dim; d += ATTEND_THREADS)
			to[2 + d] = b.acc[h * dim + d];
		if (threadIdx.x == 0) {
			to[0] = b.max[h];
			to[1] = b.sum[h];
		}
	}
}

/* ---- kernels ---- */

/*
 * Shares out the block's memory: attend_shared_floats(). What is of one size
 * comes first, so that its place is known when this is compiled.
 */
DEVICE void block_share(struct block &b, uint32_t heads, float *shared)
{
	const struct page_layout *l = &b.a->layouts[0];
	const uint32_t values = heads * page_value_dim(l);

	b.max = shared;
	b.sum = b.max + ATTEND_HEADS;
	b.all_max = b.sum + ATTEND_HEADS;
	b.all_sum = b.all_max + ATTEND_HEADS;
	b.old = b.all_sum + ATTEND_HEADS;
	b.added = b.old + ATTEND_HEADS;
	b.parts = b.added + ATTEND_HEADS;
	b.scores = b.parts + ATTEND_HEADS * ATTEND_PARTS;
	b.q = b.scores + ATTEND_HEADS * ATTEND_TILE;
	b.acc = b.q + heads * l->k_dim;
	b.total = b.acc + values;
	b.tile.x = b.total + values;
	b.tile.stride = attend_stride(l);
	b.spare = b.tile.x + b.chunk * b.tile.stride;
}

/* The block's queries, as keys are when scores are made. */
DEVICE void queries_load(const struct block &b)
{
	const struct kv_attend_args *a = b.a;
	const uint32_t dim = a->layouts[0].k_dim;
	const struct matrix q = { b.q, b.nr, dim, dim };
	const uint64_t from = b.row * a->q_stride +
			      (uint64_t)b.first_head * dim;

	for (uint32_t i = threadIdx.x; i < b.nr * dim; i += ATTEND_THREADS)
		b.q[i] = element_load(a->dtype, a->q, from + i);
	__syncthreads();
	if (a->layouts[0].rope_order != KVD_ROPE_PRE)
		rows_apply(q, a->layouts[0].k_basis, rotation_of(a, false),
			   b.spare);
}

DEVICE void block_init(struct block &b, const struct attend_params &p,
		       float *shared)
{
	const uint32_t group = p.args.nr_q_heads / p.args.layouts[0].nr_heads;
	const uint32_t parts = (group + p.nr_heads - 1) / p.nr_heads;
	const uint32_t part = blockIdx.y % parts;

	b.a = &p.args;
	b.kv_head = blockIdx.y / parts;
	b.first_head = b.kv_head * group + part * p.nr_heads;
	b.nr = group - part * p.nr_heads;
	if (b.nr > p.nr_heads)
		b.nr = p.nr_heads;
	b.end = b.seq->pos + (b.row - b.seq->first_row) + 1;
	b.begin = window_begin(b.a, b.end);
	b.chunk = p.chunk;
	block_share(b, p.nr_heads, shared);
	queries_load(b);
}

/* Goes through the splits [first, last] that are the block's. */
DEVICE void splits_attend(const struct attend_params &p, struct block &b,
			  uint32_t first, uint32_t last)
{
	clear(b, b.all_max, b.all_sum, b.total);
	for (uint32_t split = first; split <= last; split++) {
		split_attend(b, split);
		if (p.nr_splits)
			partial_store(p, b, split);
		else
			split_merge(b);
	}
}

extern "C" __global__ void __launch_bounds__(ATTEND_THREADS, ATTEND_BLOCKS)
kv_attend(const __grid_constant__ struct attend_params p)
{
	SHARED_FLOATS(shared);
	const uint32_t seq = seq_of_row(p.args.seqs, p.args.nr_seqs, blockIdx.x);
	uint32_t first, last;
	struct block b;

	if (seq == p.args.nr_seqs)
		return;
	b.row = blockIdx.x;
	b.seq = &p.args.seqs[seq];
	block_init(b, p, shared);
	first = b.begin / ATTEND_SPLIT;
	last = (b.end - 1) / ATTEND_SPLIT;
	if (p.nr_splits) {
		if (blockIdx.z < first || blockIdx.z > last)
			return;
		first = last = blockIdx.z;
	}
	splits_attend(p, b, first, last);
	if (!p.nr_splits)
		row_store(b);
}

/* Blocks are (row, query head): the splits that kv_attend() left. */
extern "C" __global__ void __launch_bounds__(ATTEND_THREADS, ATTEND_BLOCKS)
kv_merge(const __grid_constant__ struct attend_params p)
{
	SHARED_FLOATS(shared);
	const struct kv_attend_args *a = &p.args;
	const uint32_t row = blockIdx.x, head = blockIdx.y;
	const uint32_t seq = seq_of_row(a->seqs, a->nr_seqs, row);
	const uint32_t dim = page_value_dim(&a->layouts[0]);
	const struct matrix x = { shared, 1, dim, dim };

	if (seq == a->nr_seqs)
		return;
	const struct kv_seq *s = &a->seqs[seq];
	const uint32_t end = s->pos + (row - s->first_row) + 1;
	const uint32_t first = window_begin(a, end) / ATTEND_SPLIT;
	const uint32_t last = (end - 1) / ATTEND_SPLIT;

	for (uint32_t d = threadIdx.x; d < dim; d += ATTEND_THREADS) {
		float max = -INFINITY, sum = 0.0f, total = 0.0f;

		for (uint32_t i = first; i <= last; i++) {
			const float *from = partial_at(p, row, head, i);
			struct weights w = merge_weights(max, from[0]);

			sum = merge(w, sum, from[1]);
			total = merge(w, total, from[2 + d]);
		}
		const struct result r = result_make(a, head, max, sum);

		shared[d] = result_value(r, total);
		if (d == 0)
			lse_store(a, row, head, r);
	}
	__syncthreads();
	results_store(a, x, row, head, shared + dim);
}
