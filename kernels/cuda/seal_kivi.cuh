/* SPDX-License-Identifier: Apache-2.0 */
/*
 * seal_kivi.cuh - a side in kivi: kernels/host/ref_kivi.c on the device.
 *
 * A thread finds the range of a channel of K, a warp that of a run of V; then
 * codes are made of what the metadata says.
 */
#ifndef KERNELS_CUDA_SEAL_KIVI_CUH
#define KERNELS_CUDA_SEAL_KIVI_CUH

#include "kernels/cuda/values.cuh"

template <typename VALUES> struct kivi_coder {
	const VALUES &v;
	const struct side &to;
	float top;
};

template <typename VALUES>
DEVICE uint32_t code_of(const struct kivi_coder<VALUES> &k, uint32_t t,
			 uint32_t d)
{
	const struct side &s = k.to;
	struct affine_meta m;
	float scale, c;

	if (s.place.is_v) {
		m = side_affine(s)[d / s.v_group * s.place.tokens + t];
	} else {
		m.scale = side_scales(s)[d];
		m.min = side_mins(s)[d];
	}
	scale = f16_to_f32(m.scale);
	if (!(scale > 0.0f))
		return 0;
	c = f16_round(f16_round(value_at(k.v, t, d)) - f16_to_f32(m.min));
	c = f16_round(c / scale);
	return (uint32_t)rintf(c < k.top ? c : k.top);
}

/* Metadata of a run. *bad is set where it is flagged. */
DEVICE struct affine_meta kivi_run(float min, float max, bool finite,
				   float top, bool *bad)
{
	struct affine_meta m = { 0, NAN_MIN };
	float range, scale;

	*bad = true;
	if (!finite)
		return m;
	min += 0.0f; /* no -0 */
	max += 0.0f;
	range = f16_round(max - min);
	scale = f16_round((isfinite(range) ? range : max - min) / top);
	m.scale = f16_from_f32(scale);
	m.min = f16_from_f32(min);
	*bad = !isfinite(range);
	return m;
}

template <typename VALUES>
DEVICE bool kivi_channels(const struct side &to, const VALUES &v,
			  float top)
{
	bool bad = false;

	for (uint32_t d = threadIdx.x; d < v.dim; d += CONVERT_THREADS) {
		float min = INFINITY, max = -INFINITY;
		bool finite = true, flagged;
		struct affine_meta m;

		for (uint32_t t = 0; t < v.tokens; t++) {
			const float x = f16_round(value_at(v, t, d));

			finite = finite && isfinite(x);
			min = x < min ? x : min;
			max = x > max ? x : max;
		}
		m = kivi_run(min, max, finite, top, &flagged);
		side_scales(to)[d] = m.scale;
		side_mins(to)[d] = m.min;
		bad = bad || flagged;
	}
	return bad;
}

template <typename VALUES>
DEVICE bool kivi_rows(const struct side &to, const VALUES &v, float top)
{
	const uint32_t groups = page_v_groups(v.dim, to.v_group);
	bool bad = false;

	for (uint32_t i = warp_here(); i < groups * v.tokens;
	     i += CONVERT_THREADS / WARP) {
		const uint32_t t = i % v.tokens;
		const uint32_t first = i / v.tokens * to.v_group;
		const uint32_t end = first + to.v_group < v.dim ?
					     first + to.v_group :
					     v.dim;
		float min = INFINITY, max = -INFINITY;
		bool finite = true, flagged;
		struct affine_meta m;

		for (uint32_t d = first + lane_here(); d < end; d += WARP) {
			const float x = f16_round(value_at(v, t, d));

			finite = finite && isfinite(x);
			min = x < min ? x : min;
			max = x > max ? x : max;
		}
		finite = !warp_any(!finite);
		m = kivi_run(warp_min(min), warp_max(max), finite, top,
			     &flagged);
		if (lane_here() == 0)
			side_affine(to)[i] = m;
		bad = bad || flagged;
	}
	return bad;
}

/* Return: whether what this thread saw is flagged. */
template <typename VALUES>
DEVICE bool kivi_seal(const struct side &to, const VALUES &v,
		      const struct room &r)
{
	struct kivi_coder<VALUES> k = { v, to, code_top(to.place.format) };
	const bool bad = to.place.is_v ? kivi_rows(to, v, k.top) :
					 kivi_channels(to, v, k.top);

	__syncthreads(); /* metadata is there */
	codes_store(to, v.tokens, r, k);
	return bad;
}

#endif
