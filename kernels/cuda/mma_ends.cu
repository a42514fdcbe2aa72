/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mma_ends.cu - before and after attention on tensor cores: how the work is cut,
 * queries to the basis of the pages; and what is left of quads to results.
 */
#include "kernels/cuda/mma_sum.cuh"

/* ---- kv_mma_plan ---- */

DEVICE bool ref_same(const struct kv_page_ref &a, const struct kv_page_ref &b)
{
	return a.segment == b.segment && a.offset == b.offset &&
	       a.layout == b.layout;
}

/* Quads that sequence @i has from the same pages as the one before it. */
DEVICE uint32_t seq_common(const struct kv_attend_args *a, uint32_t i)
{
	const uint32_t page_tokens = a->layouts[0].page_tokens;
	const struct kv_seq *s = &a->seqs[i], *t = s - 1;
	uint32_t pages, n = 0;

	if (i == 0 || s->nr_rows != 1 || t->nr_rows != 1)
		return 0;
	pages = (s->pos < t->pos ? s->pos : t->pos) / page_tokens;
	for (; n < pages; n += WARP) {
		const uint32_t page = n + threadIdx.x % WARP;
		const uint32_t same = __ballot_sync(
			ALL_LANES,
			page < pages &&
				ref_same(a->pages[kv_seq_page(s, page)],
					 a->pages[kv_seq_page(t, page)]));

		if (same != ALL_LANES) {
			n += (uint32_t)__ffs((int)~same) - 1;
			break;
		}
	}
	return (n < pages ? n : pages) * page_tokens / MMA_QUAD;
}

/*
 * Makes bundles of sequences whose neighbours have quads in common: one
 * thread. A bundle ends where the next would leave it less than half.
 */
DEVICE void bundles_make(const struct mma_plan &plan, const uint32_t *common,
			 uint32_t nr_seqs)
{
	for (uint32_t i = 0, n; i < nr_seqs; i += n) {
		uint32_t quads = 0;

		for (n = 1; i + n < nr_seqs; n++) {
			const uint32_t c = common[i + n];

			if (!c || c < quads / 2)
				break;
			quads = n == 1 || c < quads ? c : quads;
		}
		for (uint32_t k = 0; k < n; k++) {
			plan.shared[i + k] = quads;
			plan.bundle[i + k] = k || n == 1 ? 0 : n;
		}
	}
}

/* Items of sequence @i, or of the bundle that begins with it. */
DEVICE uint32_t plan_items(const struct mma_params &p, uint32_t i,
			   bool bundles)
{
	const struct kv_attend_args *a = &p.args;
	const uint32_t heads = a->layouts[0].nr_heads;
	const uint32_t group = a->nr_q_heads / heads;
	uint32_t first = 0, last = 1;

	if (i >= a->nr_seqs || !a->seqs[i].nr_rows)
		return 0;
	if (bundles)
		return div_up(p.plan.bundle[i] * group, p.shared_columns) *
		       heads * p.plan.shared[i];
	if (p.nr_slots > 1)
		seq_quads(p, i, first, last);
	return div_up(a->seqs[i].nr_rows * group, p.columns) * heads *
	       (last - first);
}

/* One warp: the first item of each, and the number of all at the end. */
DEVICE void plan_sum(const struct mma_params &p, uint32_t *first, bool bundles)
{
	const uint32_t lane = threadIdx.x;
	uint32_t before = 0;

	for (uint32_t i = lane; i - lane <= p.args.nr_seqs; i += WARP) {
		const uint32_t own = plan_items(p, i, bundles);
		uint32_t sum = own;

		for (uint32_t d = 1; d < WARP; d *= 2) {
			const uint32_t x =
				__shfl_sync(ALL_LANES, sum, lane - d);

			sum += lane >= d ? x : 0;
		}
		if (i <= p.args.nr_seqs)
			first[i] = before + sum - own;
		before += __shfl_sync(ALL_LANES, sum, WARP - 1);
	}
}

/* One block. */
extern "C" __global__ void __launch_bounds__(MMA_PLAN_THREADS)
kv_mma_plan(const __grid_constant__ struct mma_params p)
{
	SHARED_BYTES(memory);
	uint32_t *const common = (uint32_t *)memory;

	if (p.plan.first_shared) {
		for (uint32_t i = threadIdx.x / WARP; i < p.args.nr_seqs;
		     i += MMA_PLAN_THREADS / WARP) {
			const uint32_t n = seq_common(&p.args, i);

			if (threadIdx.x % WARP == 0)
				common[i] = n;
		}
		__syncthreads();
		if (threadIdx.x == 0)
			bundles_make(p.plan, common, p.args.nr_seqs);
		__syncthreads();
	}
	if (threadIdx.x >= WARP)
		return;
	plan_sum(p, p.plan.first_item, false);
	if (p.plan.first_shared)
		plan_sum(p, p.plan.first_shared, true);
}

/* ---- queries and results ---- */

/* Natural-order Sylvester butterflies, in place; @x is the block's. */
DEVICE void block_hadamard(float *x, uint32_t dim)
{
	const uint32_t n = hadamard_order(dim);
	float factor = 1.0f;

	for (uint32_t h = 1; h < n; h *= 2) {
		for (uint32_t i = threadIdx.x; i < dim / 2; i += MMA_THREADS) {
			float *a = x + i / h * 2 * h + i % h;
			const float u = a[0], v = a[h];

			a[0] = u + v;
			a[h] = u - v;
		}
		__syncthreads();
	}
	for (uint32_t i = n; i >= 4; i /= 4)
		factor *= 0.5f;
	if (__ffs((int)n) % 2 == 0)
		factor *= 0x1.6a09e6p-1f;
	for (uint32_t i = threadIdx.x; i < dim; i += MMA_THREADS)
		x[i] *= factor;
	__syncthreads();
}

/* y[j] = sum of x[i] * rotation[i][j]; with @undo of rotation[j][i]. */
DEVICE float rotated(const float *x, const float *rotation, uint32_t dim,
		     uint32_t j, bool undo)
{
	const float *r = rotation + (undo ? j * dim : j);
	float sum = 0.0f;

	for (uint32_t i = 0; i < dim; i++)
		sum = mad(x[i], r[undo ? i : i * dim], sum);
	return sum;
}

/* A block has one row of one query head. */
extern "C" __global__ void __launch_bounds__(MMA_THREADS)
kv_mma_turn(const __grid_constant__ struct turn_params p)
{
	SHARED_FLOATS(x);
	const uint32_t row = blockIdx.x, head = blockIdx.y;
	const uint32_t dim = p.layout.k_dim;
	float *out = p.out + ((uint64_t)row * p.nr_q_heads + head) * dim;

	if (seq_of_row(p.seqs, p.nr_seqs, row) == p.nr_seqs)
		return;
	for (uint32_t i = threadIdx.x; i < dim; i += MMA_THREADS)
		x[i] = element_load(p.dtype, p.q,
				    row * p.q_stride + (uint64_t)head * dim +
					    i);
	__syncthreads();
	if (p.layout.k_basis == BASIS_HADAMARD)
		block_hadamard(x, dim);
	for (uint32_t i = threadIdx.x; i < dim; i += MMA_THREADS)
		out[i] = p.layout.k_basis == BASIS_PROFILE ?
				 rotated(x,
					 p.tables->k_rotation +
						 (uint64_t)p.layer * dim * dim,
					 dim, i, false) :
				 x[i];
}

/* Element @d of what the quads of a row have given. */
DEVICE struct softsum quads_sum(const struct mma_params &p, uint32_t seq,
			     uint32_t row, uint32_t head, uint32_t d)
{
	const struct kv_attend_args *a = &p.args;
	const struct kv_seq *s = &a->seqs[seq];
	const uint32_t end = row_end(s, row - s->first_row);
	const uint32_t dim = a->layouts[0].v_dim;
	uint32_t first = 0, last = 1;
	struct softsum sum = softsum_none();

	if (p.nr_slots > 1) {
		first = row_begin(a, end) / MMA_QUAD;
		last = div_up(end, MMA_QUAD);
	}
	for (uint32_t i = first; i < last; i++) {
		const float *from =
			p.partial + (((uint64_t)row * a->nr_q_heads + head) *
					     p.nr_slots +
				     i) * (2 + dim);
		struct softsum x;

		x.max = from[0];
		x.sum = from[1];
		x.x = from[2 + d];
		softsum_add(sum, x);
	}
	return sum;
}

/* A block has one row of one query head. */
extern "C" __global__ void __launch_bounds__(MMA_THREADS)
kv_mma_merge(const __grid_constant__ struct mma_params p)
{
	SHARED_FLOATS(y);
	const struct kv_attend_args *a = &p.args;
	const struct page_layout *l = &a->layouts[0];
	const uint32_t row = blockIdx.x, head = blockIdx.y;
	const uint32_t seq = seq_of_row(a->seqs, a->nr_seqs, row);

	if (seq == a->nr_seqs)
		return;
	for (uint32_t d = threadIdx.x; d < l->v_dim; d += MMA_THREADS) {
		struct softsum sum = quads_sum(p, seq, row, head, d);

		if (a->sinks) {
			struct softsum sink = softsum_none();

			sink.max = a->sinks[head] * LOG2_E;
			sink.sum = 1.0f;
			softsum_add(sum, sink);
		}
		y[d] = sum.x / sum.sum;
		if (a->lse && d == 0)
			a->lse[(uint64_t)row * a->nr_q_heads + head] =
				(sum.max + log2f(sum.sum)) * LN_2;
	}
	__syncthreads();
	if (l->v_basis == BASIS_HADAMARD)
		block_hadamard(y, l->v_dim);
	for (uint32_t d = threadIdx.x; d < l->v_dim; d += MMA_THREADS)
		element_store(a->dtype, a->out,
			      row * a->out_stride + (uint64_t)head * l->v_dim +
				      d,
			      l->v_basis == BASIS_PROFILE ?
				      rotated(y,
					      a->tables->v_rotation +
						      (uint64_t)a->layer *
							      l->v_dim *
							      l->v_dim,
					      l->v_dim, d, true) :
				      y[d]);
}
