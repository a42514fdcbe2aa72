/* SPDX-License-Identifier: Apache-2.0 */
/*
 * seal_kvarn.cuh - a side in kvarn: kernels/host/ref_kvarn.c on the device.
 *
 * Eight lanes share a token and add what they have as v8_sum() does, a thread
 * has a channel and goes from token to token: the sums of the reference, in
 * its order. Each of the 8 rounds goes through all values twice.
 */
#ifndef KERNELS_CUDA_SEAL_KVARN_CUH
#define KERNELS_CUDA_SEAL_KVARN_CUH

#include "kernels/cuda/values.cuh"

#define KVARN_ROUNDS 8u
#define KVARN_LANES 8u
#define STD_MIN 1e-3f
#define STD_MAX 1e3f
#define GAIN_MIN 0.740818221f /* e^-0.3 */
#define GAIN_MAX 22026.4658f  /* e^10 */

/* Per token or per channel; shared. */
struct axis {
	uint32_t n;
	float *factor, *inv, *sd;
};

template <typename VALUES> struct tile {
	const VALUES &v;
	struct axis token, channel;
	float *best; /* factors of columns */
};

template <typename VALUES> struct kvarn_coder {
	const VALUES &v;
	const float *inv;	   /* of columns */
	const float *zero, *scale; /* of rows; scale is 1 / scale, or 0 */
	bool is_v;
	float top;
};

template <typename VALUES>
DEVICE uint32_t code_of(const struct kvarn_coder<VALUES> &k, uint32_t t,
			 uint32_t d)
{
	const uint32_t row = k.is_v ? t : d;
	const float y = value_at(k.v, t, d) * k.inv[k.is_v ? d : t];
	const float q = (y - k.zero[row]) * k.scale[row] + 0x1.8p23f -
			0x1.8p23f; /* to the nearest integer */

	return q < k.top ? (uint32_t)q : (uint32_t)k.top;
}

DEVICE float sd_of(float sum, float squares, uint32_t n)
{
	const float v = squares - sum * sum * (1.0f / (float)n);

	return v > 0.0f ? sqrtf(v * (1.0f / (float)(n - 1))) : 0.0f;
}

DEVICE float eight_sum(float x)
{
	x += __shfl_xor_sync(ALL_LANES, x, 4);
	x += __shfl_xor_sync(ALL_LANES, x, 2);
	x += __shfl_xor_sync(ALL_LANES, x, 1);
	return x;
}

template <typename VALUES>
DEVICE void token_std(const struct tile<VALUES> &m)
{
	const uint32_t lane = threadIdx.x % KVARN_LANES;

	for (uint32_t t = threadIdx.x / KVARN_LANES; t < m.token.n;
	     t += CONVERT_THREADS / KVARN_LANES) {
		const float first = value_at(m.v, t, 0) * m.channel.inv[0];
		float sum = 0.0f, squares = 0.0f;

		for (uint32_t d = lane; d < m.channel.n; d += KVARN_LANES) {
			const float y =
				value_at(m.v, t, d) * m.channel.inv[d] - first;

			sum += y;
			squares += y * y;
		}
		sum = eight_sum(sum);
		squares = eight_sum(squares);
		if (lane == 0)
			m.token.sd[t] = sd_of(sum, squares, m.channel.n);
	}
}

template <typename VALUES>
DEVICE void channel_std(const struct tile<VALUES> &m)
{
	for (uint32_t d = threadIdx.x; d < m.channel.n; d += CONVERT_THREADS) {
		const float first = value_at(m.v, 0, d) * m.token.inv[0];
		float sum = 0.0f, squares = 0.0f;

		for (uint32_t t = 0; t < m.token.n; t++) {
			const float y =
				value_at(m.v, t, d) * m.token.inv[t] - first;

			sum += y;
			squares += y * y;
		}
		m.channel.sd[d] = sd_of(sum, squares, m.token.n);
	}
}

/* Takes the axis' present deviation into its factor. */
DEVICE void axis_update(const struct axis &a)
{
	for (uint32_t i = threadIdx.x; i < a.n; i += CONVERT_THREADS) {
		float sd = a.sd[i] * a.inv[i], f;

		sd = sd < STD_MIN ? STD_MIN : sd;
		sd = sd > STD_MAX ? STD_MAX : sd;
		f = a.factor[i] * sd;
		f = f < GAIN_MIN ? GAIN_MIN : f;
		f = f > GAIN_MAX ? GAIN_MAX : f;
		a.factor[i] = f;
		a.inv[i] = 1.0f / f;
	}
}

/* Largest deviation over smallest; every warp finds out for itself. */
DEVICE float axis_spread(const struct axis &a)
{
	float min = INFINITY, max = 0.0f;

	for (uint32_t i = lane_here(); i < a.n; i += WARP) {
		const float sd = a.sd[i] * a.inv[i];

		min = sd < min ? sd : min;
		max = sd > max ? sd : max;
	}
	min = warp_min(min);
	max = warp_max(max);
	return max / (min < 1e-8f ? 1e-8f : min);
}

DEVICE void axis_reset(const struct axis &a)
{
	for (uint32_t i = threadIdx.x; i < a.n; i += CONVERT_THREADS)
		a.factor[i] = a.inv[i] = 1.0f;
}

template <typename VALUES>
DEVICE void best_keep(const struct tile<VALUES> &m, const struct axis &col)
{
	for (uint32_t i = threadIdx.x; i < col.n; i += CONVERT_THREADS)
		m.best[i] = col.factor[i];
}

/* Leaves in m.best the factors of the columns. */
template <typename VALUES>
DEVICE void balance(const struct tile<VALUES> &m, bool is_v)
{
	const struct axis col = is_v ? m.channel : m.token;
	const struct axis row = is_v ? m.token : m.channel;
	float least;

	axis_reset(m.token);
	axis_reset(m.channel);
	__syncthreads();
	token_std(m);
	channel_std(m);
	__syncthreads();
	least = axis_spread(col) + axis_spread(row);
	best_keep(m, col);
	for (uint32_t i = 0; i < KVARN_ROUNDS; i++) {
		float spread;

		__syncthreads();
		axis_update(col);
		__syncthreads();
		is_v ? token_std(m) : channel_std(m);
		__syncthreads();
		axis_update(row);
		__syncthreads();
		is_v ? channel_std(m) : token_std(m);
		__syncthreads();
		spread = axis_spread(col) + axis_spread(row);
		if (!(spread <= least))
			continue;
		least = spread;
		best_keep(m, col);
	}
	__syncthreads();
}

/* Of a row of the tile. Return: whether its zero is past f16. */
DEVICE bool kvarn_row(float min, float max, float top, float *ret_zero,
		      float *ret_inv, struct affine_meta *ret)
{
	const float zero = min + 0.0f; /* no -0 */
	const float scale = (max - min + 0.0f) * (1.0f / top);

	*ret_zero = zero;
	*ret_inv = scale > 0x1p-25f ? 1.0f / scale : 0.0f;
	ret->scale = f16_from_f32(scale);
	ret->min = f16_from_f32(zero);
	return !isfinite(f16_round(min));
}

template <typename VALUES>
DEVICE bool kvarn_channels(const struct side &to, const VALUES &v,
			   const float *inv, float top, float *zero,
			   float *scale)
{
	bool past = false;

	for (uint32_t d = threadIdx.x; d < v.dim; d += CONVERT_THREADS) {
		float min = INFINITY, max = -INFINITY;
		struct affine_meta meta;

		for (uint32_t t = 0; t < v.tokens; t++) {
			const float y = value_at(v, t, d) * inv[t];

			min = y < min ? y : min;
			max = y > max ? y : max;
		}
		past = kvarn_row(min, max, top, zero + d, scale + d, &meta) ||
		       past;
		side_scales(to)[d] = meta.scale;
		side_mins(to)[d] = meta.min;
	}
	return past;
}

template <typename VALUES>
DEVICE bool kvarn_tokens(const struct side &to, const VALUES &v,
			 const float *inv, float top, float *zero, float *scale)
{
	bool past = false;

	for (uint32_t t = warp_here(); t < v.tokens;
	     t += CONVERT_THREADS / WARP) {
		float min = INFINITY, max = -INFINITY, z, s;
		struct affine_meta meta;

		for (uint32_t d = lane_here(); d < v.dim; d += WARP) {
			const float y = value_at(v, t, d) * inv[d];

			min = y < min ? y : min;
			max = y > max ? y : max;
		}
		past = kvarn_row(warp_min(min), warp_max(max), top, &z, &s,
				 &meta) ||
		       past;
		if (lane_here() == 0) {
			zero[t] = z;
			scale[t] = s;
			side_affine(to)[t] = meta;
		}
	}
	return past;
}

/* NaN in every zero: nobody takes this for values. */
DEVICE void kvarn_refuse(const struct side &s)
{
	const struct codes &c = s.place;
	const uint32_t halves = page_meta_bytes(c.format, (int)c.is_v, c.tokens,
						c.dim, s.v_group) /
				2;
	uint16_t *meta = (uint16_t *)s.meta;

	codes_clear(s);
	for (uint32_t i = threadIdx.x; i < halves; i += CONVERT_THREADS) {
		const bool zero = c.is_v ? i < 2 * c.tokens && i % 2 :
					   i >= c.dim && i < 2 * c.dim;

		meta[i] = zero ? NAN_MIN : 0;
	}
}

/* Metadata of rows, by the factors in @m.best. Return: as kvarn_row(). */
template <typename VALUES>
DEVICE bool kvarn_rows(const struct side &to, const struct tile<VALUES> &m,
		       float top)
{
	const bool is_v = to.place.is_v;
	const struct axis col = is_v ? m.channel : m.token;
	const struct axis row = is_v ? m.token : m.channel;

	for (uint32_t i = threadIdx.x; i < col.n; i += CONVERT_THREADS) {
		col.inv[i] = 1.0f / m.best[i];
		side_factors(to)[i] = f16_from_f32(m.best[i]);
	}
	__syncthreads();
	return is_v ? kvarn_tokens(to, m.v, col.inv, top, row.factor, row.sd) :
		      kvarn_channels(to, m.v, col.inv, top, row.factor, row.sd);
}

/* Return: whether the side is refused. */
template <typename VALUES>
DEVICE bool kvarn_seal(const struct side &to, const VALUES &v,
		       const struct room &r)
{
	const uint32_t nt = v.tokens, nd = v.dim;
	const bool is_v = to.place.is_v;
	float *f = r.floats, *g = f + 3 * nt;
	const struct tile<VALUES> m = { v,
				{ nt, f, f + nt, f + 2 * nt },
				{ nd, g, g + nd, g + 2 * nd },
				g + 3 * nd };
	const struct axis col = is_v ? m.channel : m.token;
	const struct axis row = is_v ? m.token : m.channel;
	struct kvarn_coder<VALUES> k = { v,	 col.inv, row.factor,
				 row.sd, is_v,	  code_top(to.place.format) };

	if (values_out_of_reach(v, r.scratch)) {
		kvarn_refuse(to);
		return true;
	}
	balance(m, is_v);
	if (block_any(kvarn_rows(to, m, k.top), r.scratch,
		      CONVERT_THREADS / WARP)) {
		for (uint32_t i = threadIdx.x; i < col.n; i += CONVERT_THREADS)
			m.best[i] = 1.0f;
		__syncthreads();
		kvarn_rows(to, m, k.top);
		__syncthreads();
	}
	codes_store(to, nt, r, k);
	return false;
}

#endif
