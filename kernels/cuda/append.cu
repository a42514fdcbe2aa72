/* SPDX-License-Identifier: Apache-2.0 */
/*
 * append.cu - quantizes and stores rows of K and V.
 *
 * A warp brings a row of one head to its basis (kernels/host/basis.h, in its
 * order of operations) and makes codes of it, in shared memory; then the
 * block stores them as whole words. In tile order tokens share words: there a
 * block has all rows of this call that fall in one tile (append.h), and keeps
 * what other tokens have in its words.
 *
 * Moves a row in, once, and its codes and metadata out; in tile order also
 * the words of a tile that is not filled at once. A rotation is read for
 * every row, by way of the caches.
 */
#include "kernels/cuda/append.h"
#include "kernels/cuda/code.cuh"
#include "kernels/cuda/side.cuh"
#include "kernels/cuda/words.cuh"

/* Rows of one sequence on their way to one side of a page. */
struct rows {
	struct side side;
	const void *src;
	uint64_t first;	  /* element of src, of the first row */
	uint64_t stride;
	uint32_t dtype;
	uint32_t token;	  /* in the page, of the first row */
	uint32_t nr;
	const struct kv_tables *tables;
	uint16_t *codes;  /* [nr][dim]; shared */
};

DEVICE float one_nan(float x)
{
	return x != x ? f32_from_bits(ONE_NAN) : x;
}

/* 1 / sqrt(n) for a power of two. */
DEVICE float hadamard_factor(uint32_t n)
{
	float f = 1.0f;

	for (; n >= 4; n /= 4)
		f *= 0.5f;
	return n == 2 ? f * 0x1.6a09e6p-1f : f;
}

/* Steps of h below the warp's width: a lane is an element. */
DEVICE void hadamard_lanes(float *x, uint32_t dim, uint32_t n)
{
	for (uint32_t i = lane_here(); i - lane_here() < dim; i += WARP) {
		float y = i < dim ? x[i] : 0.0f;

		for (uint32_t h = 1; h < n && h < WARP; h *= 2) {
			float other = __shfl_xor_sync(ALL_LANES, y, h);

			y = i & h ? other - y : y + other;
		}
		if (i < dim)
			x[i] = y;
	}
}

DEVICE void hadamard(float *x, uint32_t dim)
{
	const uint32_t n = hadamard_order(dim);
	const float factor = hadamard_factor(n);

	hadamard_lanes(x, dim, n);
	for (uint32_t h = WARP; h < n; h *= 2) {
		__syncwarp();
		for (uint32_t i = lane_here(); i < dim / 2; i += WARP) {
			const uint32_t at = i / h * 2 * h + i % h;
			const float a = x[at], b = x[at + h];

			x[at] = a + b;
			x[at + h] = a - b;
		}
	}
	__syncwarp();
	for (uint32_t i = lane_here(); i < dim; i += WARP)
		x[i] = one_nan(x[i] * factor);
}

DEVICE void rotate(const struct rows &r, uint64_t first, float *x)
{
	const uint32_t dim = r.side.place.dim;
	const float *m = (r.side.place.is_v ? r.tables->v_rotation :
					      r.tables->k_rotation) +
			 (uint64_t)r.side.layer * dim * dim;

	for (uint32_t j = lane_here(); j < dim; j += WARP) {
		float sum = 0.0f;

		for (uint32_t i = 0; i < dim; i++)
			sum += element_load(r.dtype, r.src, first + i) *
			       m[(uint64_t)i * dim + j];
		x[j] = one_nan(sum);
	}
}

/* Row @i in the basis of its page: @x is [dim]. */
DEVICE void row_load(const struct rows &r, uint32_t i, float *x)
{
	const uint32_t dim = r.side.place.dim;
	const uint64_t first = r.first + i * r.stride;

	if (r.side.basis == BASIS_PROFILE) {
		rotate(r, first, x);
	} else {
		for (uint32_t d = lane_here(); d < dim; d += WARP)
			x[d] = element_load(r.dtype, r.src, first + d);
		if (r.side.basis == BASIS_HADAMARD)
			hadamard(x, dim);
	}
	__syncwarp();
}

DEVICE bool affine_store(const struct rows &r, uint32_t i, const float *x)
{
	const uint32_t dim = r.side.place.dim;
	const float q = code_top(r.side.place.format);
	float min = INFINITY, max = -INFINITY;
	struct affine_row a;
	bool bad = false;

	for (uint32_t d = lane_here(); d < dim; d += WARP) {
		float y = f16_round(x[d]);

		bad = bad || !isfinite(y);
		min = y < min ? y : min;
		max = y > max ? y : max;
	}
	bad = warp_any(bad);
	a = affine_row_of(warp_min(min), warp_max(max), bad, q);
	for (uint32_t d = lane_here(); d < dim; d += WARP)
		r.codes[i * dim + d] = (uint16_t)affine_code(f16_round(x[d]),
							     a.min, a.inv, q);
	if (lane_here() == 0)
		side_affine(r.side)[r.token + i] = a.meta;
	return a.bad;
}

DEVICE bool fp8_store(const struct rows &r, uint32_t i, const float *x)
{
	const struct codes &c = r.side.place;
	const float scale = fp8_scale(r.tables, c.is_v, r.side.layer,
				      r.side.head);
	bool bad = false;

	for (uint32_t d = lane_here(); d < c.dim; d += WARP) {
		r.codes[i * c.dim + d] =
			(uint16_t)fp8_code(c.format, x[d], scale);
		bad = bad || !isfinite(x[d]);
	}
	if (lane_here() == 0) /* always the same, whoever does */
		*(float *)r.side.meta = scale;
	return bad;
}

DEVICE bool half_store(const struct rows &r, uint32_t i, const float *x)
{
	const struct codes &c = r.side.place;
	bool bad = false;

	for (uint32_t d = lane_here(); d < c.dim; d += WARP)
		r.codes[i * c.dim + d] =
			(uint16_t)half_code(c.format, x[d], &bad);
	return bad;
}

/* Codes and metadata of row @i. @x is room for a row. */
DEVICE bool row_code(const struct rows &r, uint32_t i, float *x)
{
	bool bad;

	row_load(r, i, x);
	switch (format_coding(r.side.place.format)) {
	case CODING_16:
		bad = half_store(r, i, x);
		break;
	case CODING_FP8:
		bad = fp8_store(r, i, x);
		break;
	default:
		bad = affine_store(r, i, x);
	}
	__syncwarp(); /* before the next row takes its place */
	return warp_any(bad);
}

/* Word number @n of those that codes of tile @tile are in. */
DEVICE uint32_t tile_word_number(const struct codes &c, uint32_t bits,
				 uint32_t tile, uint32_t n)
{
	const struct tile_brick b = tile_brick_of(bits, c.tokens);
	const uint32_t tiles = b.k / APPEND_TILE; /* of a brick of V */
	const uint32_t own = b.words / tiles; /* words of a lane */
	const uint32_t lane = n / own;	      /* of all bricks in a row */

	if (!c.is_v)
		return tile * plane_words(c, bits) * APPEND_TILE + n;
	return (tile / tiles * (c.dim / b.m) * TILE_LANES + lane) * b.words +
	       tile % tiles * own + n % own;
}

/* Composes a word of the codes it has of these rows; others are kept. */
template <uint32_t BITS>
DEVICE void word_store(const struct rows &r, uint32_t number)
{
	const struct codes &c = r.side.place;
	const struct word w = word_at(c, BITS, number);
	uint32_t *out = (uint32_t *)(r.side.codes + w.byte);
	uint32_t value = 0, mask = 0;

	for (uint32_t i = 0; i < 32 / BITS; i++) {
		const struct element e = word_step(c, BITS, w.kind, i);
		const uint32_t row = w.first.t + e.t - r.token;
		const uint32_t d = w.first.d + e.d;

		if (row >= r.nr)
			continue;
		mask |= ((1u << BITS) - 1) << i * BITS;
		if (d < c.dim)
			value |= (uint32_t)r.codes[row * c.dim + d]
				 << i * BITS;
	}
	if (!mask)
		return;
	if (mask != 0xffffffffu)
		value |= *out & ~mask;
	*out = value;
}

template <uint32_t BITS>
DEVICE void rows_store(const struct rows &r)
{
	const struct codes &c = r.side.place;
	const bool tiled = c.order != KVD_TILE_ROW;
	const uint32_t per = plane_words(c, BITS);
	const uint32_t nr = tiled ? per * APPEND_TILE : per;
	const uint32_t tile = r.token / APPEND_TILE;

	for (uint32_t n = threadIdx.x; n < nr; n += blockDim.x)
		word_store<BITS>(r, tiled ? tile_word_number(c, BITS, tile, n) :
					    r.token * per + n);
}

/* A sequence, and the first of the rows of it that a block stores. */
struct span {
	uint32_t seq;	/* nr_seqs: none */
	uint32_t first;	/* in the sequence */
	uint32_t nr;
};

DEVICE struct span span_of_row(const struct kv_append_args &a, uint32_t row)
{
	struct span s;

	s.seq = seq_of_row(a.seqs, a.nr_seqs, row);
	s.first = s.seq < a.nr_seqs ? row - a.seqs[s.seq].first_row : 0;
	s.nr = 1;
	return s;
}

/* Tile number @n of all sequences'. */
DEVICE struct span span_of_tile(const struct kv_append_args &a, uint32_t n)
{
	struct span s = { a.nr_seqs, 0, 0 };

	for (uint32_t base = 0; base < a.nr_seqs; base += WARP) {
		const uint32_t i = base + lane_here();
		const bool is = i < a.nr_seqs;
		const uint32_t nr = is ? append_tiles(a.seqs[i].pos,
						      a.seqs[i].nr_rows) :
					 0;
		uint32_t total;
		const uint32_t before = warp_before(nr, &total);
		const unsigned lanes = __ballot_sync(
			ALL_LANES, n >= before && n - before < nr);

		if (lanes) {
			const uint32_t lane = (uint32_t)__ffs(lanes) - 1;

			s.seq = base + lane;
			n -= warp_sum(lane_here() == lane ? before : 0);
			break;
		}
		n -= total;
	}
	if (s.seq < a.nr_seqs) {
		const struct kv_seq *q = &a.seqs[s.seq];
		const uint32_t skip = q->pos % APPEND_TILE;

		s.first = n ? n * APPEND_TILE - skip : 0;
		s.nr = n ? APPEND_TILE : APPEND_TILE - skip;
		s.nr = s.nr < q->nr_rows - s.first ? s.nr :
						     q->nr_rows - s.first;
	}
	return s;
}

/* Where the rows of @s come from and go to. */
DEVICE struct rows rows_of(const struct kv_append_args &a, const struct span &s,
			   uint32_t head, bool v)
{
	const struct kv_seq *q = &a.seqs[s.seq];
	const uint32_t pos = q->pos + s.first;
	const uint32_t page_tokens = a.layouts[0].page_tokens;
	const struct kv_page_ref *ref =
		&a.pages[kv_seq_page(q, pos / page_tokens)];
	struct rows r;

	r.side = side_at(&a.layouts[ref->layout],
			 (uint8_t *)a.bases[ref->segment] + ref->offset,
			 a.layer, head, v);
	r.src = v ? a.v : a.k;
	r.stride = v ? a.v_stride : a.k_stride;
	r.first = (uint64_t)(q->first_row + s.first) * r.stride +
		  (uint64_t)head * r.side.place.dim;
	r.dtype = a.dtype;
	r.token = pos % page_tokens;
	r.nr = s.nr;
	r.tables = a.tables;
	r.codes = nullptr;
	return r;
}

extern "C" __global__ void __launch_bounds__(APPEND_TILE_THREADS, APPEND_BLOCKS)
kv_append(const __grid_constant__ struct kv_append_args a)
{
	SHARED_FLOATS(shared);
	const bool tiled = a.layouts[0].tile_order != KVD_TILE_ROW;
	const uint32_t warps = blockDim.x / WARP;
	const struct span s = tiled ? span_of_tile(a, blockIdx.x) :
				      span_of_row(a, blockIdx.x);
	struct rows r;
	bool bad = false;

	if (s.seq == a.nr_seqs)
		return;
	r = rows_of(a, s, blockIdx.y, blockIdx.z);
	r.codes = (uint16_t *)(shared + warps * r.side.place.dim);
	for (uint32_t i = warp_here(); i < r.nr; i += warps)
		bad = row_code(r, i, shared + warp_here() * r.side.place.dim) ||
		      bad;
	__syncthreads();
	switch (format_bits(r.side.place.format)) {
	case 16:
		rows_store<16>(r);
		break;
	case 8:
		rows_store<8>(r);
		break;
	default:
		rows_store<4>(r);
	}
	if (bad && lane_here() == 0)
		a.nonfinite[(a.nonfinite_at ? *a.nonfinite_at : 0) + s.seq] = 1;
}
