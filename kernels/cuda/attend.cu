/* SPDX-License-Identifier: Apache-2.0 */
/*
 * attend.cu - attention of query rows over pages.
 *
 * A block has one row and up to ATTEND_HEADS query heads of one kv head, so
 * that a key or value is read once for all of them. It takes positions in
 * tiles of ATTEND_TILE: a thread has a token while scores are made, and
 * four elements while values are summed. Tiles gather into splits
 * of ATTEND_SPLIT tokens, each an online softmax of its own; splits are merged
 * from first to last. Tiles and splits lie at multiples of their size, so what
 * a row gives depends on its position and its pages alone, bit for bit: not on
 * the rows beside it, nor on whether one block went through its splits or one
 * block did each.
 *
 * Positions a row does not see are never read as numbers.
 */
#include "kernels/cuda/attend.h"
#include "kernels/cuda/page.cuh"

/* One block's view of the call. */
struct block {
	const struct kv_attend_args *a;
	const struct kv_seq *seq;
	uint32_t row;
	uint32_t kv_head;
	uint32_t first_head;	/* of the query heads */
	uint32_t nr;		/* query heads */
	uint32_t end;		/* positions seen: [begin, end) */
	uint32_t begin;
	float *q;		/* [nr][k_dim] */
	float *scores;		/* [nr][ATTEND_TILE] */
	float *maxima;		/* [nr][ATTEND_PARTS] */
	float *sums;		/* [nr][ATTEND_PARTS] */
	float *acc;		/* [nr][v_dim], of a split */
	float *total;		/* [nr][v_dim], of the splits so far */
};

/* Of an online softmax; the same in every thread. */
struct softmax {
	float max[ATTEND_HEADS];
	float sum[ATTEND_HEADS];
};

DEVICE void softmax_init(struct softmax &s)
{
	UNROLL
	for (uint32_t h = 0; h < ATTEND_HEADS; h++) {
		s.max[h] = -INFINITY;
		s.sum[h] = 0.0f;
	}
}

DEVICE uint32_t window_begin(const struct kv_attend_args *a, uint32_t end)
{
	return a->window && end > a->window ? end - a->window : 0;
}

DEVICE struct part part_at(const struct block &b, uint32_t page, bool v)
{
	const struct kv_page_ref *ref = &b.a->pages[kv_seq_page(b.seq, page)];
	uint8_t *base = (uint8_t *)(uintptr_t)b.a->bases[ref->segment];

	return page_part(&b.a->layouts[ref->layout], base + ref->offset,
			 b.a->layer, b.kv_head, v);
}

/* Dot products of key @token with the block's queries. */
template <uint32_t FORMAT>
DEVICE void dot(const struct block &b, const struct part &p, uint32_t token,
		float *dots)
{
	const uint64_t row = (uint64_t)token * p.dim;
	f4 sums[ATTEND_HEADS][2] = {};
	struct affine a = {};

	if (FORMAT == KVD_INT8)
		a = affine_load(&p.meta[token]);
	for (uint32_t d = 0; d < p.dim; d += 8) {
		const f4 k0 = values_load<FORMAT>(p.codes, row + d, a);
		const f4 k1 = values_load<FORMAT>(p.codes, row + d + 4, a);

		UNROLL
		for (uint32_t h = 0; h < ATTEND_HEADS; h++) {
			const float *q = b.q + h * p.dim + d;

			if (h >= b.nr)
				break;
			sums[h][0] = f4_mad(k0, f4_load(q), sums[h][0]);
			sums[h][1] = f4_mad(k1, f4_load(q + 4), sums[h][1]);
		}
	}
	UNROLL
	for (uint32_t h = 0; h < ATTEND_HEADS; h++)
		dots[h] = f4_sum(sums[h][0]) + f4_sum(sums[h][1]);
}

/* This thread's token of the tile at @tile: its scores. */
DEVICE void tile_scores(const struct block &b, uint32_t tile, uint32_t begin,
			uint32_t end)
{
	const struct kv_attend_args *a = b.a;
	const uint32_t pos = tile + threadIdx.x;
	const uint32_t page_tokens = a->layouts[0].page_tokens;
	float dots[ATTEND_HEADS] = {};

	if (pos >= begin && pos < end) {
		const struct part p = part_at(b, pos / page_tokens, false);
		const uint32_t token = pos % page_tokens;

		switch (p.format) {
		case KVD_F16:
			dot<KVD_F16>(b, p, token, dots);
			break;
		case KVD_BF16:
			dot<KVD_BF16>(b, p, token, dots);
			break;
		default:
			dot<KVD_INT8>(b, p, token, dots);
		}
	}
	UNROLL
	for (uint32_t h = 0; h < ATTEND_HEADS; h++) {
		float s = -INFINITY;

		if (h >= b.nr)
			break;
		if (pos >= begin && pos < end) {
			s = dots[h] * a->scale;
			if (a->softcap > 0.0f)
				s = a->softcap * tanhf(s / a->softcap);
		}
		b.scores[h * ATTEND_TILE + threadIdx.x] = s;
	}
}

/* The largest of a few scores of one head, by each thread. */
DEVICE void tile_maxima(const struct block &b)
{
	const uint32_t h = threadIdx.x / ATTEND_PARTS;
	const uint32_t n = ATTEND_TILE / ATTEND_PARTS;
	const float *s = b.scores + threadIdx.x * n;
	float max = -INFINITY;

	if (h >= b.nr)
		return;
	for (uint32_t i = 0; i < n; i++)
		max = larger(max, s[i]);
	b.maxima[threadIdx.x] = max;
}

/*
 * Turns this thread's scores into weights relative to the new maximum, and
 * tells how much what was summed before shrinks.
 */
DEVICE void tile_weights(const struct block &b, struct softmax &s,
			 float *shrink)
{
	UNROLL
	for (uint32_t h = 0; h < ATTEND_HEADS; h++) {
		float *score = &b.scores[h * ATTEND_TILE + threadIdx.x];
		float max = s.max[h];

		if (h >= b.nr)
			break;
		for (uint32_t i = 0; i < ATTEND_PARTS; i++)
			max = larger(max, b.maxima[h * ATTEND_PARTS + i]);
		shrink[h] = expf(s.max[h] - max);
		s.max[h] = max;
		s.sum[h] *= shrink[h];
		*score = expf(*score - max);
	}
}

/* Adds weighted values of tokens [first, last) of a page: @d to @d + 3. */
template <uint32_t FORMAT>
DEVICE void values_add(const struct block &b, const struct part &p,
		       uint32_t first, uint32_t last, const float *weights,
		       uint32_t d, f4 *sums)
{
	struct affine a = {};

	for (uint32_t t = first; t < last; t++) {
		f4 x;

		if (FORMAT == KVD_INT8)
			a = affine_load(&p.meta[t]);
		x = values_load<FORMAT>(p.codes, (uint64_t)t * p.dim + d, a);
		UNROLL
		for (uint32_t h = 0; h < ATTEND_HEADS; h++) {
			if (h >= b.nr)
				break;
			sums[h] = f4_mad(f4_splat(weights[h * ATTEND_TILE + t -
							  first]),
					 x, sums[h]);
		}
	}
}

/* Weighted sums over positions [begin, end) of a tile, elements @d to @d + 3. */
DEVICE void tile_values(const struct block &b, uint32_t tile, uint32_t begin,
			uint32_t end, uint32_t d, f4 *sums)
{
	const uint32_t page_tokens = b.a->layouts[0].page_tokens;

	for (uint32_t pos = begin; pos < end;) {
		const uint32_t page = pos / page_tokens;
		const struct part p = part_at(b, page, true);
		const uint32_t first = pos % page_tokens;
		uint32_t last = end - page * page_tokens;
		const float *w = b.scores + (pos - tile);

		if (last > page_tokens)
			last = page_tokens;
		switch (p.format) {
		case KVD_F16:
			values_add<KVD_F16>(b, p, first, last, w, d, sums);
			break;
		case KVD_BF16:
			values_add<KVD_BF16>(b, p, first, last, w, d, sums);
			break;
		default:
			values_add<KVD_INT8>(b, p, first, last, w, d, sums);
		}
		pos += last - first;
	}
}

/* The sum of a few weights of one head, by each thread. */
DEVICE void tile_sums(const struct block &b)
{
	const uint32_t n = ATTEND_TILE / ATTEND_PARTS;
	const float *w = b.scores + threadIdx.x * n;
	float sum = 0.0f;

	if (threadIdx.x / ATTEND_PARTS >= b.nr)
		return;
	for (uint32_t i = 0; i < n; i++)
		sum += w[i];
	b.sums[threadIdx.x] = sum;
}

/* Sums up the sums, the same in every thread. */
DEVICE void tile_total(const struct block &b, struct softmax &s)
{
	UNROLL
	for (uint32_t h = 0; h < ATTEND_HEADS; h++) {
		if (h >= b.nr)
			break;
		for (uint32_t i = 0; i < ATTEND_PARTS; i++)
			s.sum[h] += b.sums[h * ATTEND_PARTS + i];
	}
}

/* Adds the tile at @tile, seen in [begin, end), to the split. */
DEVICE void tile_add(const struct block &b, struct softmax &s, uint32_t tile,
		     uint32_t begin, uint32_t end)
{
	const uint32_t dim = page_value_dim(&b.a->layouts[0]);
	float shrink[ATTEND_HEADS] = {};

	tile_scores(b, tile, begin, end);
	__syncthreads();
	tile_maxima(b);
	__syncthreads();
	tile_weights(b, s, shrink);
	__syncthreads();
	tile_sums(b);
	for (uint32_t d = threadIdx.x * 4; d < dim;
	     d += ATTEND_THREADS * 4) {
		f4 sums[ATTEND_HEADS] = {};

		tile_values(b, tile, begin, end, d, sums);
		UNROLL
		for (uint32_t h = 0; h < ATTEND_HEADS; h++) {
			float *acc = &b.acc[h * dim + d];

			if (h >= b.nr)
				break;
			f4_store(acc, f4_mad(f4_load(acc), f4_splat(shrink[h]),
					     sums[h]));
		}
	}
	__syncthreads();
	tile_total(b, s);
}

/* Attention over the positions of split @split that the row sees. */
DEVICE void split_attend(const struct block &b, struct softmax &s,
			 uint32_t split)
{
	const uint32_t floor = split * ATTEND_SPLIT;
	const uint32_t begin = b.begin > floor ? b.begin : floor;
	const uint32_t end = b.end - floor < ATTEND_SPLIT ?
				     b.end :
				     floor + ATTEND_SPLIT;
	const uint32_t dim = page_value_dim(&b.a->layouts[0]);

	softmax_init(s);
	for (uint32_t d = threadIdx.x; d < dim; d += ATTEND_THREADS)
		for (uint32_t h = 0; h < b.nr; h++)
			b.acc[h * dim + d] = 0.0f;
	for (uint32_t tile = begin / ATTEND_TILE * ATTEND_TILE; tile < end;
	     tile += ATTEND_TILE)
		tile_add(b, s, tile, begin > tile ? begin : tile,
			 end - tile < ATTEND_TILE ? end : tile + ATTEND_TILE);
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

DEVICE void result_store(const struct kv_attend_args *a, uint32_t row,
			 uint32_t head, uint32_t d, const struct result &r,
			 float acc)
{
	const uint32_t dim = page_value_dim(&a->layouts[0]);

	element_store(a->dtype, a->out,
		      row * a->out_stride + (uint64_t)head * dim + d,
		      acc * r.factor / r.sum);
	if (a->lse && d == 0)
		a->lse[(uint64_t)row * a->nr_q_heads + head] =
			r.max + logf(r.sum);
}

/* All splits of the row, one after the other. */
DEVICE void splits_attend(const struct block &b)
{
	const uint32_t dim = page_value_dim(&b.a->layouts[0]);
	struct softmax all, s;

	softmax_init(all);
	for (uint32_t d = threadIdx.x; d < dim; d += ATTEND_THREADS)
		for (uint32_t h = 0; h < b.nr; h++)
			b.total[h * dim + d] = 0.0f;
	for (uint32_t split = b.begin / ATTEND_SPLIT;
	     split <= (b.end - 1) / ATTEND_SPLIT; split++) {
		split_attend(b, s, split);
		UNROLL
		for (uint32_t h = 0; h < ATTEND_HEADS; h++) {
			struct weights w = merge_weights(all.max[h], s.max[h]);

			if (h >= b.nr)
				break;
			all.sum[h] = merge(w, all.sum[h], s.sum[h]);
			for (uint32_t d = threadIdx.x; d < dim;
			     d += ATTEND_THREADS) {
				float *total = &b.total[h * dim + d];

				*total = merge(w, *total, b.acc[h * dim + d]);
			}
		}
	}
	UNROLL
	for (uint32_t h = 0; h < ATTEND_HEADS; h++) {
		if (h >= b.nr)
			break;
		const struct result r = result_make(b.a, b.first_head + h,
						    all.max[h], all.sum[h]);

		for (uint32_t d = threadIdx.x; d < dim; d += ATTEND_THREADS)
			result_store(b.a, b.row, b.first_head + h, d, r,
				     b.total[h * dim + d]);
	}
}

DEVICE float *partial_at(const struct attend_params &p, uint32_t row,
			 uint32_t head, uint32_t split)
{
	const uint64_t n = 2 + page_value_dim(&p.args.layouts[0]);

	return p.partial + (((uint64_t)row * p.args.nr_q_heads + head) *
				    p.nr_splits +
			    split) * n;
}

/* One split of the row, left for kv_merge(). */
DEVICE void one_split_attend(const struct attend_params &p,
			     const struct block &b, uint32_t split)
{
	const uint32_t dim = page_value_dim(&b.a->layouts[0]);
	struct softmax s;

	if (split < b.begin / ATTEND_SPLIT ||
	    split > (b.end - 1) / ATTEND_SPLIT)
		return;
	split_attend(b, s, split);
	UNROLL
	for (uint32_t h = 0; h < ATTEND_HEADS; h++) {
		if (h >= b.nr)
			break;
		float *to = partial_at(p, b.row, b.first_head + h, split);

		for (uint32_t d = threadIdx.x; d < dim; d += ATTEND_THREADS)
			to[2 + d] = b.acc[h * dim + d];
		if (threadIdx.x == 0) {
			to[0] = s.max[h];
			to[1] = s.sum[h];
		}
	}
}

/* Shares out the block's memory and loads its queries. */
DEVICE void block_init(struct block &b, const struct attend_params &p,
		       float *shared)
{
	const struct kv_attend_args *a = &p.args;
	const struct page_layout *l = &a->layouts[0];
	const uint32_t group = a->nr_q_heads / l->nr_heads;
	const uint32_t chunks = (group + p.nr_heads - 1) / p.nr_heads;
	const uint32_t chunk = blockIdx.y % chunks;

	b.a = a;
	b.kv_head = blockIdx.y / chunks;
	b.first_head = b.kv_head * group + chunk * p.nr_heads;
	b.nr = group - chunk * p.nr_heads;
	if (b.nr > p.nr_heads)
		b.nr = p.nr_heads;
	b.end = b.seq->pos + (b.row - b.seq->first_row) + 1;
	b.begin = window_begin(a, b.end);
	b.q = shared;
	b.scores = b.q + p.nr_heads * l->k_dim;
	b.maxima = b.scores + p.nr_heads * ATTEND_TILE;
	b.sums = b.maxima + p.nr_heads * ATTEND_PARTS;
	b.acc = b.sums + p.nr_heads * ATTEND_PARTS;
	b.total = b.acc + p.nr_heads * page_value_dim(l);
	for (uint32_t i = threadIdx.x; i < b.nr * l->k_dim;
	     i += ATTEND_THREADS)
		b.q[i] = element_load(a->dtype, a->q,
				      b.row * a->q_stride +
					      (uint64_t)b.first_head *
						      l->k_dim + i);
	__syncthreads();
}

extern "C" __global__ void __launch_bounds__(ATTEND_THREADS, ATTEND_BLOCKS)
kv_attend(const __grid_constant__ struct attend_params p)
{
	SHARED_FLOATS(shared);
	const uint32_t row = blockIdx.x;
	const uint32_t seq = seq_of_row(p.args.seqs, p.args.nr_seqs, row);
	struct block b;

	if (seq == p.args.nr_seqs)
		return;
	b.row = row;
	b.seq = &p.args.seqs[seq];
	block_init(b, p, shared);
	if (p.nr_splits)
		one_split_attend(p, b, blockIdx.z);
	else
		splits_attend(b);
}

/* Blocks are (row, query head): the splits that kv_attend() left. */
extern "C" __global__ void __launch_bounds__(ATTEND_THREADS, ATTEND_BLOCKS)
kv_merge(const __grid_constant__ struct attend_params p)
{
	const struct kv_attend_args *a = &p.args;
	const uint32_t row = blockIdx.x, head = blockIdx.y;
	const uint32_t seq = seq_of_row(a->seqs, a->nr_seqs, row);
	const uint32_t dim = page_value_dim(&a->layouts[0]);

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
		result_store(a, row, head, d, result_make(a, head, max, sum),
			     total);
	}
}
