/* SPDX-License-Identifier: Apache-2.0 */
/*
 * seal_kvquant.cuh - a side in kvquant: kernels/host/ref_kvquant.c on the
 * device.
 *
 * Outliers are the candidates with the largest keys, where a key is the
 * residual's magnitude, then the place, lower ones first: no two are equal.
 * A histogram of 8 bits of the keys says which bin the last outlier is in,
 * one of the next 8 bits where in the bin, until a bin has no more than are
 * wanted. Keys are made anew each time; few elements are candidates.
 */
#ifndef KERNELS_CUDA_SEAL_KVQUANT_CUH
#define KERNELS_CUDA_SEAL_KVQUANT_CUH

#include "kernels/cuda/values.cuh"

#define KVQUANT_TABLES 32u /* lut, then out, in scratch after block_any()'s */

template <typename VALUES> struct kvquant_coder {
	const VALUES &v;
	const struct side &to;
	const float *lut, *out;	   /* shared, [TABLES_CODES] */
	const float *range, *zero; /* K: [dim] */
	const float *low, *high;   /* V: shared, [tokens]; inliers are within */
	uint32_t nr_codes;
	uint32_t cutoff;	   /* the least key of an outlier */
};

/* What codes of an element are normalised by. */
struct span_of_codes {
	float range, zero;
};

template <typename VALUES>
DEVICE struct span_of_codes kvquant_span(const struct kvquant_coder<VALUES> &k,
					 uint32_t t, uint32_t d)
{
	struct span_of_codes s;

	if (k.to.place.is_v) {
		const struct affine_meta m = side_affine(k.to)[t];

		s.range = f16_to_f32(m.scale);
		s.zero = f16_to_f32(m.min);
	} else {
		s.range = k.range[d];
		s.zero = k.zero[d];
	}
	return s;
}

/* The nearest code, the lower of equals. */
template <typename VALUES>
DEVICE uint32_t kvquant_nearest(const struct kvquant_coder<VALUES> &k, float x,
				struct span_of_codes s)
{
	float best = INFINITY;
	uint32_t code = 0;

	for (uint32_t c = 0; c < k.nr_codes; c++) {
		const float far = fabsf(k.lut[c] * s.range + s.zero - x);

		if (far < best) {
			best = far;
			code = c;
		}
	}
	return code;
}

/* Key of an element, 0 where it is no candidate. *past: not in f16's reach. */
template <typename VALUES>
DEVICE uint32_t kvquant_key(const struct kvquant_coder<VALUES> &k, uint32_t t,
			    uint32_t d, bool *past)
{
	const float x = value_at(k.v, t, d);
	const bool is_v = k.to.place.is_v;
	struct span_of_codes s;
	uint32_t code, residual;

	if (is_v && !(x < k.low[t] || x > k.high[t]))
		return 0;
	s = kvquant_span(k, t, d);
	if (!is_v && !(fabsf(x - s.zero) > s.range))
		return 0;
	code = is_v ? k.nr_codes / 2 - 1 : kvquant_nearest(k, x, s);
	residual = f16_from_f32(x - (k.out[code] * s.range + s.zero)) &
		   0x7fffu;
	if (residual >= 0x7c00u) {
		residual--;
		*past = true;
	}
	return residual ? residual << 16 | (0xffffu - (t * k.v.dim + d)) : 0;
}

/* As its entry in the list has it; an outlier. */
template <typename VALUES>
DEVICE uint16_t kvquant_residual(const struct kvquant_coder<VALUES> &k,
				 uint32_t t, uint32_t d)
{
	const float x = value_at(k.v, t, d);
	const struct span_of_codes s = kvquant_span(k, t, d);
	const uint32_t code = k.to.place.is_v ? k.nr_codes / 2 - 1 :
						kvquant_nearest(k, x, s);
	const uint16_t r =
		f16_from_f32(x - (k.out[code] * s.range + s.zero));

	return (r & 0x7c00u) == 0x7c00u ? r - 1 : r;
}

template <typename VALUES>
DEVICE uint32_t code_of(const struct kvquant_coder<VALUES> &k, uint32_t t,
			 uint32_t d)
{
	const float x = value_at(k.v, t, d);
	bool past;

	if (k.to.place.is_v && (x < k.low[t] || x > k.high[t]) &&
	    kvquant_key(k, t, d, &past) >= k.cutoff)
		return k.nr_codes / 2 - 1;
	return kvquant_nearest(k, x, kvquant_span(k, t, d));
}

/* The @n-th largest of sign * value of a token. */
template <typename VALUES>
DEVICE float nth_largest(const VALUES &v, uint32_t t, float sign,
			 uint32_t n)
{
	float last = INFINITY;
	uint32_t nr = 0;

	while (nr < n) {
		float max = -INFINITY;
		uint32_t equal = 0;

		for (uint32_t d = lane_here(); d < v.dim; d += WARP) {
			const float x = sign * value_at(v, t, d);

			if (!(x < last))
				continue;
			equal = x > max ? 1 : equal + (x == max);
			max = x > max ? x : max;
		}
		last = warp_max(max);
		nr += warp_sum(max == last ? equal : 0);
	}
	return last;
}

/* Scales of V, and what is in reach of its codes. */
template <typename VALUES>
DEVICE void kvquant_tokens(const struct side &to, const VALUES &v,
			   float *low, float *high)
{
	const uint32_t n = v.dim / 200 + 2;

	for (uint32_t t = warp_here(); t < v.tokens;
	     t += CONVERT_THREADS / WARP) {
		const float max = nth_largest(v, t, 1.0f, n);
		const float min = -nth_largest(v, t, -1.0f, n);
		struct affine_meta m;

		m.scale = f16_from_f32((max - min) * 0.5f + 0.0f);
		m.min = f16_from_f32((max + min) * 0.5f + 0.0f);
		if (lane_here() == 0) {
			low[t] = min;
			high[t] = max;
			side_affine(to)[t] = m;
		}
	}
}

/* The bin that has the @n-th from the top; *ret_above are in higher ones. */
DEVICE uint32_t bin_of_nth(const uint32_t *bins, uint32_t n,
			   uint32_t *ret_above)
{
	const uint32_t per = CONVERT_BINS / WARP, first = lane_here() * per;
	uint32_t bin = 0, above = 0;

	for (uint32_t bit = CONVERT_BINS / 2; bit; bit /= 2) {
		uint32_t from = 0; /* in bins from (bin | bit) up */

		for (uint32_t i = 0; i < per; i++)
			if (first + i >= (bin | bit))
				from += bins[first + i];
		from = warp_sum(from);
		if (from >= n)
			bin |= bit;
		else
			above = from;
	}
	*ret_above = above;
	return bin;
}

/* Bins of the 8 bits at @shift, of keys that begin as @prefix does. */
template <typename VALUES>
DEVICE bool bins_fill(const struct kvquant_coder<VALUES> &k,
		      const struct room &r, uint32_t prefix, uint32_t shift)
{
	const uint32_t nr = k.v.tokens * k.v.dim;
	const uint32_t known = shift < 24 ? 0xffffffffu << (shift + 8) : 0;
	bool past = false;

	__syncthreads();
	for (uint32_t i = threadIdx.x; i < CONVERT_BINS; i += CONVERT_THREADS)
		r.bins[i] = 0;
	__syncthreads();
	for (uint32_t i = threadIdx.x; i < nr; i += CONVERT_THREADS) {
		const uint32_t key =
			kvquant_key(k, i / k.v.dim, i % k.v.dim, &past);

		if (key && (key & known) == prefix)
			atomicAdd(&r.bins[key >> shift & 0xffu], 1u);
	}
	__syncthreads();
	return past;
}

/*
 * Sets k.cutoff, such that the @cap largest keys are outliers; *ret_nr of them
 * there are. Return: whether a residual that this thread saw is past f16.
 */
template <typename VALUES>
DEVICE bool kvquant_select(struct kvquant_coder<VALUES> &k,
			   const struct room &r, uint32_t cap, uint32_t *ret_nr)
{
	uint32_t prefix = 0, left = cap, shift = 24, above, nr = 0;
	const bool past = bins_fill(k, r, 0, shift);

	for (uint32_t i = lane_here(); i < CONVERT_BINS; i += WARP)
		nr += r.bins[i];
	nr = warp_sum(nr);
	*ret_nr = nr < cap ? nr : cap;
	k.cutoff = 1;
	if (nr <= cap)
		return past;
	for (;;) {
		const uint32_t bin = bin_of_nth(r.bins, left, &above);

		left -= above;
		prefix |= bin << shift;
		if (r.bins[bin] == left)
			break;
		shift -= 8;
		bins_fill(k, r, prefix, shift);
	}
	k.cutoff = prefix;
	return past;
}

/* Outliers in order of place: each warp has a part of the side. */
template <typename VALUES>
DEVICE void list_store(const struct kvquant_coder<VALUES> &k,
		       const struct room &r, uint32_t cap, uint32_t nr)
{
	const uint32_t warps = CONVERT_THREADS / WARP;
	const uint32_t part = k.v.tokens * k.v.dim / warps;
	const uint32_t first = warp_here() * part, dim = k.v.dim;
	struct sparse_head *head = side_sparse(k.to);
	struct sparse_entry *e = (struct sparse_entry *)(head + 1);
	uint32_t at = 0;
	bool past;

	for (uint32_t i = nr + threadIdx.x; i < cap; i += CONVERT_THREADS)
		e[i].at = e[i].value = 0;
	if (threadIdx.x == 0) {
		head->nr = (uint16_t)nr;
		head->reserved = 0;
	}
	for (uint32_t i = first + lane_here(); i < first + part; i += WARP)
		at += kvquant_key(k, i / dim, i % dim, &past) >= k.cutoff;
	at = warp_sum(at);
	__syncthreads();
	if (lane_here() == 0)
		r.bins[warp_here()] = at;
	__syncthreads();
	at = 0;
	for (uint32_t i = 0; i < warp_here(); i++)
		at += r.bins[i];
	for (uint32_t i = first + lane_here(); i < first + part; i += WARP) {
		const bool is = kvquant_key(k, i / dim, i % dim, &past) >=
				k.cutoff;
		const unsigned lanes = __ballot_sync(ALL_LANES, is);
		const unsigned before = lanes & ((1u << lane_here()) - 1);

		if (is) {
			struct sparse_entry *own = e + at + __popc(before);

			own->at = (uint16_t)i;
			own->value = kvquant_residual(k, i / dim, i % dim);
		}
		at += (uint32_t)__popc(lanes);
	}
}

/* Of V, every token's zero is NaN; of K, the first bad element. */
template <typename VALUES>
DEVICE void kvquant_refuse(const struct side &s, const VALUES &v,
			   const struct room &r, uint32_t cap)
{
	const uint32_t nr = v.tokens * v.dim;
	struct sparse_head *head = side_sparse(s);
	struct sparse_entry *e = (struct sparse_entry *)(head + 1);
	const struct affine_meta nan = { 0, NAN_MIN };
	uint32_t first = nr;

	codes_clear(s);
	for (uint32_t i = threadIdx.x; i < cap; i += CONVERT_THREADS)
		e[i].at = e[i].value = 0;
	for (uint32_t i = threadIdx.x; s.place.is_v && i < v.tokens;
	     i += CONVERT_THREADS)
		side_affine(s)[i] = nan;
	for (uint32_t i = threadIdx.x; i < first; i += CONVERT_THREADS)
		if (!(fabsf(value_at(v, i / v.dim, i % v.dim)) <= 65504.0f))
			first = i;
	first = (uint32_t)warp_min((float)first); /* exact: below 2^24 */
	if (lane_here() == 0)
		r.bins[warp_here()] = first;
	__syncthreads();
	if (threadIdx.x)
		return;
	for (uint32_t i = 0; i < CONVERT_THREADS / WARP; i++)
		first = r.bins[i] < first ? r.bins[i] : first;
	head->nr = s.place.is_v ? 0 : 1;
	head->reserved = 0;
	if (!s.place.is_v) {
		e[0].at = (uint16_t)first;
		e[0].value = NAN_MIN;
	}
}

/* Return: whether what this thread saw is flagged. */
template <typename VALUES>
DEVICE bool kvquant_seal(const struct side &to, const VALUES &v,
			 const struct kv_tables *tb, const struct room &r)
{
	const uint32_t cap = sparse_max(v.tokens, v.dim);
	const uint64_t c = ((uint64_t)to.layer * tb->nr_heads + to.head) *
			   v.dim;
	const float *luts = to.place.is_v ? tb->v_lut : tb->k_lut;
	float *tables = (float *)r.scratch + KVQUANT_TABLES;
	float *low = r.floats, *high = low + v.tokens;
	struct kvquant_coder<VALUES> k = { v,
				   to,
				   tables,
				   tables + TABLES_CODES,
				   tb->k_range + c,
				   tb->k_zero + c,
				   low,
				   high,
				   1u << format_bits(to.place.format),
				   1 };
	uint32_t nr;
	bool past;

	if (threadIdx.x < TABLES_CODES) {
		const uint32_t i = threadIdx.x;

		tables[i] = luts[to.layer * TABLES_CODES + i];
		tables[TABLES_CODES + i] = side_codebook(to, tb)[i];
	}
	if (values_out_of_reach(v, r.scratch)) {
		kvquant_refuse(to, v, r, cap);
		return true;
	}
	if (to.place.is_v)
		kvquant_tokens(to, v, low, high);
	__syncthreads();
	past = kvquant_select(k, r, cap, &nr);
	list_store(k, r, cap, nr);
	codes_store(to, v.tokens, r, k);
	return past;
}

#endif
