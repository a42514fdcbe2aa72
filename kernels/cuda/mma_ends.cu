/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mma_ends.cu - before and after attention on tensor cores: how the work is cut,
 * queries to the basis of the pages; and what is left of quads to results.
 */
#include "kernels/cuda/mma_sum.cuh"

DEVICE uint32_t seq_items(const struct mma_params &p, uint32_t i)
{
	const struct kv_attend_args *a = &p.args;
	const struct page_layout *l = &a->layouts[0];
	uint32_t first = 0, last = 1;

	if (i >= a->nr_seqs || !a->seqs[i].nr_rows)
		return 0;
	if (p.nr_slots > 1)
		seq_quads(a, &a->seqs[i], first, last);
	return div_up(a->seqs[i].nr_rows * (a->nr_q_heads / l->nr_heads),
		      p.columns) *
	       l->nr_heads * (last - first);
}

/* One warp: first_item[i] of each sequence, the number of all at the end. */
extern "C" __global__ void __launch_bounds__(WARP)
kv_mma_plan(const __grid_constant__ struct mma_params p)
{
	const uint32_t lane = threadIdx.x;
	uint32_t before = 0;

	for (uint32_t i = lane; i - lane <= p.args.nr_seqs; i += WARP) {
		const uint32_t own = seq_items(p, i);
		uint32_t sum = own;

		for (uint32_t d = 1; d < WARP; d *= 2) {
			const uint32_t x =
				__shfl_sync(ALL_LANES, sum, lane - d);

			sum += lane >= d ? x : 0;
		}
		if (i <= p.args.nr_seqs)
			p.first_item[i] = before + sum - own;
		before += __shfl_sync(ALL_LANES, sum, WARP - 1);
	}
}

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
