/* SPDX-License-Identifier: Apache-2.0 */
/*
 * seal_oscar.cuh - a side in oscar2: kernels/host/ref_oscar.c on the device.
 *
 * A warp has a token. The limit, an element of sorted magnitudes, is found
 * bit by bit: the largest number that few enough magnitudes are below.
 */
#ifndef KERNELS_CUDA_SEAL_OSCAR_CUH
#define KERNELS_CUDA_SEAL_OSCAR_CUH

#include "kernels/cuda/values.cuh"

template <typename VALUES> struct oscar_coder {
	const VALUES &v;
	const float *limit, *min, *scale; /* shared, [tokens]; scale 0: codes
					   * are 0 */
};

DEVICE float clip(float x, float limit)
{
	x = x < -limit ? -limit : x;
	return x > limit ? limit : x;
}

template <typename VALUES>
DEVICE uint32_t code_of(const struct oscar_coder<VALUES> &o, uint32_t t,
			 uint32_t d)
{
	const float scale = o.scale[t];
	float q;

	if (scale == 0.0f)
		return 0;
	q = (clip(value_at(o.v, t, d), o.limit[t]) - o.min[t]) / scale + 0.5f;
	return q < 3.0f ? (uint32_t)q : 3;
}

/* Magnitude number @rank, from 0, of the sorted ones of token @t. */
template <typename VALUES>
DEVICE float magnitude_of_rank(const VALUES &v, uint32_t t,
			       uint32_t rank)
{
	uint32_t found = 0;

	for (uint32_t bit = 1u << 30; bit; bit >>= 1) {
		uint32_t below = 0;

		for (uint32_t d = lane_here(); d < v.dim; d += WARP)
			below += (f32_bits(value_at(v, t, d)) & 0x7fffffffu) <
				 (found | bit);
		if (warp_sum(below) <= rank)
			found |= bit;
	}
	return f32_from_bits(found);
}

/* Return: whether the token is refused. */
template <typename VALUES>
DEVICE bool oscar_token(const struct side &to, const VALUES &v,
			uint32_t t, float *limit, float *min, float *scale)
{
	struct affine_meta m = { 0, NAN_MIN };
	bool bad = false;
	float low, high, step = 0.0f;

	for (uint32_t d = lane_here(); d < v.dim; d += WARP)
		bad = bad || !(fabsf(value_at(v, t, d)) <= 65504.0f);
	bad = warp_any(bad);
	*limit = low = high = 0.0f;
	if (!bad) {
		*limit = magnitude_of_rank(
			v, t, v.dim * (to.place.is_v ? 92 : 96) / 100);
		low = *limit;
		high = -*limit;
		for (uint32_t d = lane_here(); d < v.dim; d += WARP) {
			const float y = clip(value_at(v, t, d), *limit);

			low = y < low ? y : low;
			high = y > high ? y : high;
		}
		low = warp_min(low) + 0.0f; /* no -0 */
		high = warp_max(high);
		step = (high - low > 1e-8f ? high - low : 1e-8f) / 3.0f;
		m.scale = f16_from_f32(step);
		m.min = f16_from_f32(low);
	}
	*min = low;
	*scale = m.scale ? step : 0.0f;
	if (lane_here() == 0)
		side_affine(to)[t] = m;
	return bad;
}

/* Return: whether what this thread saw is flagged. */
template <typename VALUES>
DEVICE bool oscar_seal(const struct side &to, const VALUES &v,
		       const struct room &r)
{
	float *limit = r.floats, *min = limit + v.tokens,
	      *scale = min + v.tokens;
	struct oscar_coder<VALUES> o = { v, limit, min, scale };
	bool bad = false;

	for (uint32_t t = warp_here(); t < v.tokens;
	     t += CONVERT_THREADS / WARP) {
		float l, m, s;

		bad = oscar_token(to, v, t, &l, &m, &s) || bad;
		if (lane_here() == 0) {
			limit[t] = l;
			min[t] = m;
			scale[t] = s;
		}
	}
	__syncthreads();
	codes_store(to, v.tokens, r, o);
	return bad;
}

#endif
