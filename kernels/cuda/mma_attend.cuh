/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mma_attend.cuh - attention over pages in tile order, on tensor cores.
 *
 * mma.h says how the work is cut and why that changes no bit. A block goes
 * through items; in an item each warp through its runs, stage by stage, as an
 * online softmax of its own, and the four runs of a quad are added up through
 * shared memory. What is left for kv_mma_merge() are sums that are relative
 * to a maximum, in powers of 2. mma_64.cu, mma_128.cu and mma_256.cu have the
 * kernels by dim, mma_table_*.cu those of the family that mma_table.cuh is.
 *
 * Bytes: every code and its metadata once per tile and kv head, from memory to
 * shared memory (mma_ring.cuh), from there once to registers.
 */
#ifndef KERNELS_CUDA_MMA_ATTEND_CUH
#define KERNELS_CUDA_MMA_ATTEND_CUH

#include "kernels/cuda/mma_sum.cuh"
#include "kernels/cuda/mma_ring.cuh"
#include "kernels/cuda/mma_table.cuh"

/* What a block has of its item in shared memory, not in registers. */
struct state {
	struct item x;
	uint32_t begin[MMA_MAX_COLUMNS]; /* positions that each column sees */
	uint32_t end[MMA_MAX_COLUMNS];
	uint32_t all_begin, all_end;	 /* that every column sees */
	uint32_t any_begin, any_end;	 /* that some do */
	float q_sum[MMA_MAX_COLUMNS];	 /* of each column's query */
};

static_assert(sizeof(struct state) <= MMA_STATE_BYTES, "no room in mma_shared");

/* A warp's softmax over one run. */
template <uint32_t DIM, uint32_t NT> struct run {
	float max[NT][2];
	float sum[NT][2];	/* this lane's tokens only */
	struct product<NT> o[DIM / 16];
};

/* ---- kv_mma: items ---- */

/* The entry of @first, ascending, that item @n belongs to. */
DEVICE uint32_t item_owner(const uint32_t *first, uint32_t nr, uint32_t n)
{
	uint32_t low = 0, high = nr;

	while (high - low > 1) {
		const uint32_t mid = (low + high) / 2;

		if (first[mid] <= n)
			low = mid;
		else
			high = mid;
	}
	return low;
}

/*
 * Cuts tile, head and quad from number @n of what @columns columns have. Quads
 * outermost, then tiles, then heads: what is read together is near.
 */
DEVICE uint32_t item_cut(const struct mma_params &p, uint32_t columns,
			 uint32_t n, struct item &x)
{
	const struct kv_attend_args *a = &p.args;
	const uint32_t heads = a->layouts[0].nr_heads;
	const uint32_t tiles = div_up(columns, p.columns);

	x.kv_head = n % heads;
	x.first_column = n / heads % tiles * p.columns;
	x.nr_columns = columns - x.first_column;
	if (x.nr_columns > p.columns)
		x.nr_columns = p.columns;
	return n / heads / tiles;
}

DEVICE void item_of_seq(const struct mma_params &p, uint32_t n,
			struct item &x)
{
	const struct kv_attend_args *a = &p.args;
	const uint32_t i = item_owner(p.plan.first_item, a->nr_seqs, n);
	const struct kv_seq *s = &a->seqs[i];
	uint32_t quad;

	x.seq = s;
	x.bundle = false;
	quad = item_cut(p, s->nr_rows * x.group, n - p.plan.first_item[i], x);
	x.end = row_end(s, (x.first_column + x.nr_columns - 1) / x.group);
	x.begin = row_begin(a, row_end(s, x.first_column / x.group));
	seq_quads(p, i, x.first_quad, x.last_quad);
	if (p.nr_slots > 1) {
		x.first_quad += quad;
		x.last_quad = x.first_quad + 1;
		if (x.end > x.last_quad * MMA_QUAD)
			x.end = x.last_quad * MMA_QUAD;
	} else {
		x.last_quad = div_up(x.end, MMA_QUAD);
	}
}

/* Of a bundle: a quad that all columns see all of. */
DEVICE void item_of_bundle(const struct mma_params &p, uint32_t n,
			   struct item &x)
{
	const struct mma_plan *plan = &p.plan;
	const uint32_t i = item_owner(plan->first_shared, p.args.nr_seqs, n);

	x.seq = &p.args.seqs[i];
	x.bundle = true;
	x.first_quad = item_cut(p, plan->bundle[i] * x.group,
				n - plan->first_shared[i], x);
	x.last_quad = x.first_quad + 1;
	x.begin = x.first_quad * MMA_QUAD;
	x.end = x.last_quad * MMA_QUAD;
}

DEVICE struct item item_at(const struct mma_params &p, uint32_t n)
{
	struct item x;

	x.group = p.args.nr_q_heads / p.args.layouts[0].nr_heads;
	if (p.bundles)
		item_of_bundle(p, n, x);
	else
		item_of_seq(p, n, x);
	return x;
}

/* Row and query head of the item's column @c. */
DEVICE uint64_t item_row(const struct item &x, uint32_t c)
{
	const uint32_t i = (x.first_column + c) / x.group;

	return x.bundle ? x.seq[i].first_row : x.seq->first_row + i;
}

DEVICE uint32_t item_head(const struct item &x, uint32_t c)
{
	return x.kv_head * x.group + (x.first_column + c) % x.group;
}

/* Element @k of the query of the item's column @c; 0 past the last. */
DEVICE float query_element(const struct mma_params &p, const struct item &x,
			   uint32_t c, uint32_t k)
{
	const struct kv_attend_args *a = &p.args;

	if (c >= x.nr_columns)
		return 0.0f;
	return element_load(p.q_dtype, a->q,
			    item_row(x, c) * a->q_stride +
				    (uint64_t)item_head(x, c) *
					    a->layouts[0].k_dim + k);
}

/* The block's queries, as fragments B: one word, two channels, at a time. */
template <class FAMILY, uint32_t DIM, uint32_t NT>
DEVICE void queries_load(const struct mma_params &p, const struct item &x,
			 uint8_t *q)
{
	const uint32_t words = DIM / 2 * MMA_COLUMNS * NT;
	uint32_t *to = (uint32_t *)q;

	for (uint32_t i = threadIdx.x; i < words; i += MMA_THREADS) {
		const uint32_t lane = i / 2 % WARP, kt = i / (2 * WARP * NT);
		const uint32_t c = i / (2 * WARP) % NT * MMA_COLUMNS + lane / 4;
		const uint32_t k = kt * 16 + i % 2 * 8 + lane % 4 * 2;
		const float u = query_element(p, x, c, k);
		const float v = query_element(p, x, c, k + 1);

		bf16x2_split(u, v, to[QUERY_BF16 * words + i],
			     to[QUERY_BF16_REST * words + i]);
		if constexpr (FAMILY::TABLE)
			continue;
		const uint32_t x = f16x2_pack(u, v);

		to[QUERY_F16 * words + i] = x;
		to[QUERY_F16_REST * words + i] =
			f16x2_pack(u - f16x2_lo(x), v - f16x2_hi(x));
	}
}

/* What columns see, by a thread each. Those past the last see what it sees. */
DEVICE void sight_init(const struct kv_attend_args *a, struct state *st)
{
	const struct item &x = st->x;
	const uint32_t first = x.first_column / x.group, c = threadIdx.x;
	const uint32_t last = (x.first_column + x.nr_columns - 1) / x.group;
	uint32_t row = (x.first_column + c) / x.group;

	if (c >= MMA_MAX_COLUMNS)
		return;
	row = row < last ? row : last;
	st->end[c] = x.bundle ? x.end : row_end(x.seq, row);
	st->begin[c] = x.bundle ? 0 : row_begin(a, st->end[c]);
	if (c)
		return;
	st->any_begin = x.begin;
	st->any_end = x.bundle ? x.end : row_end(x.seq, last);
	st->all_begin = x.bundle ? 0 : row_begin(a, st->any_end);
	st->all_end = x.bundle ? x.end : row_end(x.seq, first);
}

/* ---- the softmax of a run ---- */

template <uint32_t DIM, uint32_t NT>
DEVICE void run_init(struct run<DIM, NT> &r)
{
	UNROLL
	for (uint32_t i = 0; i < 2 * NT; i++) {
		r.max[i / 2][i % 2] = -INFINITY;
		r.sum[i / 2][i % 2] = 0.0f;
	}
	UNROLL
	for (uint32_t m = 0; m < DIM / 16; m++)
		product_zero(r.o[m]);
}

DEVICE float rows_max(float x)
{
	x = larger(x, __shfl_xor_sync(ALL_LANES, x, 4));
	x = larger(x, __shfl_xor_sync(ALL_LANES, x, 8));
	return larger(x, __shfl_xor_sync(ALL_LANES, x, 16));
}

/* 1 - 2 / (e^2x + 1): off by some 1e-7, which a softcap makes some 1e-5. */
DEVICE float tanh_fast(float x)
{
	return 1.0f - divide_fast(2.0f, exp2_fast(x * (2 * LOG2_E)) + 1.0f);
}

/* Scores times attention's scale, as powers of 2. */
template <uint32_t NT>
DEVICE void scores_scale(const struct kv_attend_args *a, struct product<NT> *x)
{
	const float cap = a->softcap, inverse = 1.0f / cap;
	const float scale = a->scale * (cap > 0.0f ? 1.0f : LOG2_E);

	UNROLL
	for (uint32_t i = 0; i < STAGE_TILES * 4 * NT; i++)
		x[i / (4 * NT)].c[i / 4 % NT][i % 4] *= scale;
	if (cap <= 0.0f)
		return;
	UNROLL
	for (uint32_t i = 0; i < STAGE_TILES * 4 * NT; i++) {
		float *y = &x[i / (4 * NT)].c[i / 4 % NT][i % 4];

		*y = cap * LOG2_E * tanh_fast(*y * inverse);
	}
}

/* Takes out scores that their columns do not see. */
template <uint32_t NT>
DEVICE void scores_mask(const struct state *st, uint32_t pos, uint32_t lane,
			struct product<NT> *x)
{
	UNROLL
	for (uint32_t i = 0; i < 2 * NT; i++) {
		const uint32_t c = i / 2 * MMA_COLUMNS + lane % 4 * 2 + i % 2;
		const uint32_t begin = st->begin[c], n = st->end[c] - begin;

		UNROLL
		for (uint32_t m = 0; m < 2 * STAGE_TILES; m++)
			if (pos + m * 8 + lane / 4 - begin >= n)
				x[m / 2].c[i / 2][m % 2 * 2 + i % 2] =
					-INFINITY;
	}
}

/* The largest score of each column; those of no token become -Inf. */
template <uint32_t NT>
DEVICE void scores_max(uint32_t tokens, struct product<NT> *x,
		       float (*max)[2])
{
	UNROLL
	for (uint32_t i = 0; i < 2 * NT; i++) {
		float top = -INFINITY;

		UNROLL
		for (uint32_t m = 0; m < 2 * STAGE_TILES; m++) {
			float *y = &x[m / 2].c[i / 2][m % 2 * 2 + i % 2];

			if (m / 2 * 16 >= tokens)
				*y = -INFINITY;
			top = larger(top, *y);
		}
		max[i / 2][i % 2] = rows_max(top);
	}
}

/* The run's maxima become @max where that is more; its sums shrink. */
template <uint32_t DIM, uint32_t NT>
DEVICE void run_rescale(struct run<DIM, NT> &r, float (*max)[2])
{
	float f[NT][2];
	bool change = false;

	UNROLL
	for (uint32_t i = 0; i < 2 * NT; i++) {
		float *to = &max[i / 2][i % 2], *old = &r.max[i / 2][i % 2];

		*to = larger(*old, *to);
		f[i / 2][i % 2] = *to > *old ? exp2_fast(*old - *to) : 1.0f;
		change = change || *to > *old;
		*old = *to;
		r.sum[i / 2][i % 2] *= f[i / 2][i % 2];
	}
	if (!__ballot_sync(ALL_LANES, change))
		return;
	UNROLL
	for (uint32_t m = 0; m < DIM / 16; m++) {
		UNROLL
		for (uint32_t i = 0; i < 4 * NT; i++)
			r.o[m].c[i / 4][i % 4] *= f[i / 4][i % 2];
	}
}

/* Scores to weights, relative to the run's maximum. */
template <uint32_t DIM, uint32_t NT>
DEVICE void scores_weigh(struct run<DIM, NT> &r, struct product<NT> *x)
{
	UNROLL
	for (uint32_t i = 0; i < 2 * NT; i++) {
		const float max = r.max[i / 2][i % 2];
		const float base = max == -INFINITY ? 0.0f : max;

		UNROLL
		for (uint32_t m = 0; m < 2 * STAGE_TILES; m++) {
			float *y = &x[m / 2].c[i / 2][m % 2 * 2 + i % 2];

			*y = exp2_fast(*y - base);
			r.sum[i / 2][i % 2] += *y;
		}
	}
}

/* What does not change from stage to stage of an item. */
struct view {
	const struct kv_attend_args *a;
	const struct mma_stage *stages;
	const uint8_t *q;
	const struct state *st;
	float *aside;		/* the lane's, of the warp's part of exchange */
	uint32_t lane;
	bool rest;		/* queries are in f32: an f16 has not all of them */
	struct table table;	/* by_table's alone */
};

/* Leaves the lane's sums at @to. */
template <uint32_t DIM, uint32_t NT>
DEVICE void sums_leave(const struct product<NT> *o, float *to)
{
	UNROLL
	for (uint32_t m = 0; m < DIM / 16; m++) {
		UNROLL
		for (uint32_t i = 0; i < 4 * NT; i++)
			to[(m * 4 * NT + i) * WARP] = o[m].c[i / 4][i % 4];
	}
}

/* Takes back what a lane's columns but @column have got since. */
template <uint32_t DIM, uint32_t NT>
DEVICE void sums_keep(struct product<NT> *o, const float *from, uint32_t lane,
		      uint32_t column)
{
	UNROLL
	for (uint32_t m = 0; m < DIM / 16; m++) {
		UNROLL
		for (uint32_t i = 0; i < 4 * NT; i++) {
			const uint32_t c = i / 4 * MMA_COLUMNS +
					   lane % 4 * 2 + i % 2;

			if (c != column)
				o[m].c[i / 4][i % 4] =
					from[(m * 4 * NT + i) * WARP];
		}
	}
}

/*
 * Adds weighted values. Where some columns see a value that is no number and
 * others do not, columns go one by one, each past nothing but what it sees.
 */
template <class FAMILY, uint32_t DIM, uint32_t NT>
DEVICE void run_values(struct run<DIM, NT> &r, const struct view &w,
		       struct values &v, bool masked, const struct product<NT> *p)
{
	const bool apart = masked && values_bad<DIM>(v);
	const uint32_t turns = apart ? MMA_COLUMNS * NT : 1;

	NO_UNROLL
	for (uint32_t column = 0; column < turns; column++) {
		if (apart) {
			v.seen_begin = w.st->begin[column];
			v.seen_end = w.st->end[column];
			sums_leave<DIM, NT>(r.o, w.aside);
		}
		if constexpr (FAMILY::TABLE)
			table_values<DIM, NT>(w.table, v, p, r.o);
		else
			values_add<DIM, NT>(v, p, r.o);
		if (apart)
			sums_keep<DIM, NT>(r.o, w.aside, w.lane, column);
	}
}

/* One stage, in shared memory at @codes, is added to the run. */
template <class FAMILY, uint32_t DIM, uint32_t NT>
DEVICE void run_add(struct run<DIM, NT> &r, struct view &w,
		    const uint8_t *codes, uint32_t pos, uint32_t layout)
{
	const struct page_layout *l = &w.a->layouts[layout];
	const struct mma_stage *s = &w.stages[layout];
	const bool masked = pos < w.st->all_begin ||
			    pos + s->tokens > w.st->all_end;
	struct product<NT> x[STAGE_TILES];
	float max[NT][2];
	struct values v;
	struct keys k;

	k.codes = codes;
	k.meta = codes + s->k_meta;
	k.q = w.q;
	k.q_bytes = 2 * DIM * MMA_COLUMNS * NT;
	k.format = l->k_format;
	k.first = pos % l->page_tokens;
	k.tokens = s->tokens;
	k.lane = opaque(w.lane);
	k.channels = format_coding(l->k_format) == CODING_KIVI ||
		     format_coding(l->k_format) == CODING_KVARN;
	k.rest = w.rest || k.channels;
	v.codes = codes + s->v_codes;
	v.meta = codes + s->v_meta;
	v.format = l->v_format;
	v.group = format_coding(l->v_format) == CODING_KIVI ? l->v_group : DIM;
	v.pos = pos;
	v.first = k.first;
	v.tokens = s->tokens;
	v.page_tokens = l->page_tokens;
	v.lane = opaque(w.lane);
	v.seen_begin = w.st->any_begin;
	v.seen_end = w.st->any_end;
	if constexpr (FAMILY::TABLE)
		table_scores<DIM, NT>(w.table, w.a, l, k, pos, x);
	else
		keys_scores<DIM, NT>(k, w.st->q_sum, x);
	scores_scale<NT>(w.a, x);
	if (masked)
		scores_mask<NT>(w.st, pos, k.lane, x);
	scores_max<NT>(s->tokens, x, max);
	run_rescale<DIM, NT>(r, max);
	scores_weigh<DIM, NT>(r, x);
	run_values<FAMILY, DIM, NT>(r, w, v, masked, x);
}

/* ---- adding up ---- */

/* The block's own memory. */
struct gathering {
	float *exchange;	/* [warp][column][dim + MMA_PAD] */
	float *sums;		/* [warp][column][maximum, sum] */
	float *total;		/* [column][dim] */
	float *total_sums;	/* [2][column][maximum, sum]: by quad's parity */
};

/* Leaves a warp's run to the block. */
template <uint32_t DIM, uint32_t NT>
DEVICE void run_leave(const struct run<DIM, NT> &r, const struct gathering &b,
		      uint32_t warp, uint32_t lane)
{
	const uint32_t first = warp * MMA_COLUMNS * NT;

	UNROLL
	for (uint32_t i = 0; i < 2 * NT; i++) {
		const uint32_t c = i / 2 * MMA_COLUMNS + lane % 4 * 2 + i % 2;
		float *o = b.exchange + (first + c) * (DIM + MMA_PAD) +
			   lane / 4;
		const float sum = rows_sum(r.sum[i / 2][i % 2]);
		float max = r.max[i / 2][i % 2];

		/* Nothing but NaN was seen: not the same as nothing. */
		if (max == -INFINITY && sum != 0.0f)
			max = 0.0f;
		UNROLL
		for (uint32_t m = 0; m < DIM / 16; m++) {
			o[m * 16] = r.o[m].c[i / 2][i % 2];
			o[m * 16 + 8] = r.o[m].c[i / 2][2 + i % 2];
		}
		if (lane >= 4)
			continue;
		b.sums[(first + c) * 2] = max;
		b.sums[(first + c) * 2 + 1] = sum;
	}
}

/* Element @d of column @c of the quad that the warps have left. */
template <uint32_t DIM, uint32_t NT>
DEVICE struct softsum quad_part(const struct gathering &b, uint32_t c, uint32_t d)
{
	struct softsum sum = softsum_none();

	for (uint32_t w = 0; w < MMA_WARPS; w++) {
		const uint32_t i = w * MMA_COLUMNS * NT + c;
		struct softsum x;

		x.max = b.sums[2 * i];
		x.sum = b.sums[2 * i + 1];
		x.x = b.exchange[i * (DIM + MMA_PAD) + d];
		softsum_add(sum, x);
	}
	return sum;
}

template <uint32_t DIM>
DEVICE void partial_store(const struct mma_params &p, const struct item &x,
			  uint32_t c, uint32_t d, uint32_t slot,
			  const struct softsum &sum)
{
	float *to = p.partial +
		    ((item_row(x, c) * p.args.nr_q_heads + item_head(x, c)) *
			     p.nr_slots +
		     slot) * (2 + DIM);

	to[2 + d] = sum.x;
	if (d)
		return;
	to[0] = sum.max;
	to[1] = sum.sum;
}

/* Adds the quad to the item's total; @done: to where the item's sums go. */
template <uint32_t DIM, uint32_t NT>
DEVICE void quad_add(const struct mma_params &p, const struct item &x,
		     const struct gathering &b, uint32_t quad)
{
	const bool done = quad + 1 == x.last_quad;
	const uint32_t slot = p.nr_slots > 1 ? quad : 0;

	for (uint32_t i = threadIdx.x; i < x.nr_columns * DIM;
	     i += MMA_THREADS) {
		const uint32_t c = i / DIM, d = i % DIM;
		const struct softsum add = quad_part<DIM, NT>(b, c, d);
		struct softsum sum = softsum_none();

		if (quad > x.first_quad) {
			sum.max = b.total_sums[(quad % 2 * NT * MMA_COLUMNS +
						c) * 2];
			sum.sum = b.total_sums[(quad % 2 * NT * MMA_COLUMNS +
						c) * 2 + 1];
			sum.x = b.total[i];
		}
		softsum_add(sum, add);
		if (done) {
			partial_store<DIM>(p, x, c, d, slot, sum);
			continue;
		}
		b.total[i] = sum.x;
		if (d == 0) {
			float *to = b.total_sums +
				    ((quad + 1) % 2 * NT * MMA_COLUMNS + c) * 2;

			to[0] = sum.max;
			to[1] = sum.sum;
		}
	}
}

/* Makes item @n the block's: all of it is there when this returns. */
template <class FAMILY, uint32_t DIM, uint32_t NT>
DEVICE void item_begin(const struct mma_params &p, uint32_t n,
		       struct state *st, uint8_t *q, struct view &w)
{
	if (threadIdx.x == 0)
		st->x = item_at(p, n);
	__syncthreads();
	sight_init(&p.args, st);
	queries_load<FAMILY, DIM, NT>(p, st->x, q);
	if constexpr (FAMILY::TABLE)
		channels_fill(&p.args, st->x.kv_head, DIM, w.table.channels);
	__syncthreads();
	if constexpr (FAMILY::TABLE)
		return;
	if (threadIdx.x < WARP)
		query_sums<DIM, NT>(q + QUERY_F16 * 2 * DIM * MMA_COLUMNS * NT,
				    threadIdx.x, st->q_sum);
	__syncthreads();
}

template <class FAMILY, uint32_t DIM, uint32_t NT>
DEVICE void item_run(const struct mma_params &p, const struct item &x,
		     const struct gathering &b, struct ring &ring,
		     struct view &w)
{
	/* By the end of the last quad the block may have another item. */
	const uint32_t last_quad = x.last_quad;

	ring_begin(ring);
	for (uint32_t quad = x.first_quad; quad < last_quad; quad++) {
		const uint32_t first = quad * MMA_QUAD + ring.warp * MMA_RUN;
		struct run<DIM, NT> r;
		const uint8_t *codes;
		uint32_t pos, layout;

		run_init<DIM, NT>(r);
		while ((codes = ring_wait(ring, first, pos, layout))) {
			run_add<FAMILY, DIM, NT>(r, w, codes, pos, layout);
			ring_next(ring);
		}
		run_leave<DIM, NT>(r, b, ring.warp, w.lane);
		__syncthreads();
		quad_add<DIM, NT>(p, x, b, quad);
		__syncthreads();
	}
}

template <class FAMILY, uint32_t DIM, uint32_t NT>
DEVICE void mma_attend(const struct mma_params &p)
{
	SHARED_BYTES(memory);
	uint8_t *const shared = (uint8_t *)memory;
	const uint32_t columns = MMA_COLUMNS * NT;
	const struct mma_shared at =
		mma_shared_of(FAMILY::TABLE, DIM, columns, p.depth,
			      p.stage_bytes);
	const uint32_t *first =
		p.bundles ? p.plan.first_shared : p.plan.first_item;
	const uint32_t nr_items = first[p.args.nr_seqs];
	struct state *const st = (struct state *)(shared + at.state);
	struct gathering b;
	struct ring ring;
	struct view w;

	b.exchange = (float *)(shared + at.exchange);
	b.sums = (float *)(shared + at.sums);
	b.total = (float *)(shared + at.total);
	b.total_sums = b.total + columns * DIM;
	w.a = &p.args;
	w.stages = p.stages;
	w.q = shared + at.q;
	w.st = st;
	w.lane = threadIdx.x % WARP;
	w.rest = p.q_dtype == KVD_DTYPE_F32;
	w.aside = b.exchange +
		  threadIdx.x / WARP * columns * (DIM + MMA_PAD) + w.lane;
	if constexpr (FAMILY::TABLE) {
		table_init(w.table, shared, at, DIM, columns);
		luts_fill(w.a, w.table);
	}
	ring_init(ring, &p, &st->x, shared, at);
	for (uint32_t i = blockIdx.x; i < nr_items; i += gridDim.x) {
		item_begin<FAMILY, DIM, NT>(p, i, st, shared + at.q, w);
		item_run<FAMILY, DIM, NT>(p, st->x, b, ring, w);
	}
}

#endif
