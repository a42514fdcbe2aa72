/* SPDX-License-Identifier: Apache-2.0 */
/*
 * values.cuh - the values of one side, for a block that goes through them
 * more than once; and their codes, stored as whole words.
 *
 * Values are those of kernels/host/ref_dequant.c, NaNs included: a GPU's own
 * arithmetic has a NaN of other bits.
 */
#ifndef KERNELS_CUDA_VALUES_CUH
#define KERNELS_CUDA_VALUES_CUH

#include "kernels/cuda/code.cuh"
#include "kernels/cuda/convert.h"
#include "kernels/cuda/side.cuh"
#include "kernels/cuda/words.cuh"

/* The side that values are of; shared, for functions that are called. */
struct source {
	struct side side;
	const struct kv_tables *tables;
};

static_assert(sizeof(struct source) <= CONVERT_SOURCE * 4, "room");

/* Values in shared memory: one of the two. */
struct near_values {
	const uint16_t *half; /* [tokens][stride]: codes of 16 bits */
	const float *x;	      /* [tokens][stride] */
	uint32_t stride;
	uint32_t tokens;      /* that there are; not all, perhaps */
	uint32_t dim;
	uint32_t format;
	const struct source *source;
};

/* Values where they lie, made anew each time. */
struct far_values {
	uint32_t tokens;
	uint32_t dim;
	const struct source *source;
};

/* What a block has besides values: convert_floats() of shared memory. */
struct room {
	float *floats;	   /* [3 * (tokens + dim) + the larger] */
	uint32_t *bins;	   /* [CONVERT_BINS] */
	uint32_t *scratch; /* [CONVERT_SCRATCH] */
	uint32_t *steps;   /* [CONVERT_STEPS] */
	struct source *source;
};

DEVICE float half_value(uint32_t format, uint32_t code)
{
	return format == KVD_F16 ? f16_to_f32((uint16_t)code) :
				   bf16_to_f32((uint16_t)code);
}

/* The outlier of element @at, or 0: the list is in order of place. */
DEVICE float outlier_of(const struct side &s, uint32_t at)
{
	const struct sparse_head *h = side_sparse(s);
	const struct sparse_entry *e = (const struct sparse_entry *)(h + 1);
	uint32_t low = 0, high = h->nr;

	while (low < high) {
		const uint32_t mid = (low + high) / 2;

		if (e[mid].at < at)
			low = mid + 1;
		else
			high = mid;
	}
	return low < h->nr && e[low].at == at ? f16_to_f32(e[low].value) :
						0.0f;
}

/* What is in the page, with no shared memory. */
DEVICE_CALL float value_far(const struct source *from, uint32_t t, uint32_t d)
{
	const struct side &s = from->side;
	const struct codes &c = s.place;
	float x = side_value(s, from->tables, t, d);

	if (format_coding(c.format) == CODING_KVQUANT) {
		const float more = outlier_of(s, t * c.dim + d);

		x = more != 0.0f ? x + more : x;
	}
	if (x == x || format_coding(c.format) == CODING_16)
		return x;
	if (c.format == KVD_FP8_E5M2)
		return fp8_value(KVD_FP8_E5M2,
				  (uint8_t)codes_get(&c, s.codes, t, d));
	return f32_from_bits(ONE_NAN);
}

DEVICE_CALL uint32_t code_far(const struct source *from, uint32_t t, uint32_t d)
{
	return codes_get(&from->side.place, from->side.codes, t, d);
}

DEVICE float value_at(const struct near_values &v, uint32_t t, uint32_t d)
{
	return v.half ? half_value(v.format, v.half[t * v.stride + d]) :
			v.x[t * v.stride + d];
}

DEVICE float value_at(const struct far_values &v, uint32_t t, uint32_t d)
{
	return value_far(v.source, t, d);
}

/* Sixteen bytes at a time: 8 codes of a row, or those of a lane of a tile. */
DEVICE void halves_load(const struct near_values &v, const struct side &s,
			uint16_t *half)
{
	const struct codes &c = s.place;
	const bool tiled = c.order != KVD_TILE_ROW;
	const uint32_t nr = (tiled ? c.tokens : v.tokens) * c.dim / 8;

	for (uint32_t i = threadIdx.x; i < nr; i += CONVERT_THREADS) {
		const uint32_t *in = (const uint32_t *)s.codes + i * 4;
		struct word w;

		if (!tiled) {
			const uint32_t t = i * 8 / c.dim, d = i * 8 - t * c.dim;

			f4_store((float *)(half + t * v.stride + d),
				 f4_load((const float *)in));
			continue;
		}
		w = tile_word(c, 16, i * 4);
		for (uint32_t n = 0; n < 8; n++) {
			const uint32_t m = n / 2 % 2 * 8, k = n / 4 * 8 + n % 2;
			const uint32_t t = w.first.t + (c.is_v ? k : m);
			const uint32_t d = w.first.d + (c.is_v ? m : k);

			half[t * v.stride + d] =
				(uint16_t)(in[n / 2] >> n % 2 * 16);
		}
	}
}

DEVICE void floats_load(const struct near_values &v, float *x)
{
	const uint32_t nr = v.tokens * v.dim;

	for (uint32_t i = threadIdx.x; i < nr; i += CONVERT_THREADS) {
		const uint32_t t = i / v.dim, d = i - t * v.dim;

		x[t * v.stride + d] = value_far(v.source, t, d);
	}
}

DEVICE void source_set(struct source *source, const struct side &s,
		       const struct kv_tables *tables)
{
	if (threadIdx.x == 0) {
		source->side = s;
		source->tables = tables;
	}
	__syncthreads();
}

/*
 * Values of the first @tokens of the source; @shared has room for them. Ends
 * with a barrier.
 */
DEVICE struct near_values values_load(const struct source *source,
				      uint32_t tokens, float *shared)
{
	const struct codes &c = source->side.place;
	struct near_values v;

	v.half = nullptr;
	v.x = nullptr;
	v.stride = c.dim + CONVERT_PAD;
	v.tokens = tokens;
	v.dim = c.dim;
	v.format = c.format;
	v.source = source;
	if (format_coding(c.format) == CODING_16) {
		v.half = (const uint16_t *)shared;
		halves_load(v, source->side, (uint16_t *)shared);
	} else {
		v.x = shared;
		floats_load(v, shared);
	}
	__syncthreads();
	return v;
}

/* Is one of the values NaN, Inf or more than f16 holds? With barriers. */
template <typename VALUES>
DEVICE bool values_out_of_reach(const VALUES &v, uint32_t *scratch)
{
	const uint32_t nr = v.tokens * v.dim;
	bool bad = false;

	for (uint32_t i = threadIdx.x; i < nr; i += CONVERT_THREADS)
		bad = bad ||
		      !(fabsf(value_at(v, i / v.dim, i % v.dim)) <= 65504.0f);
	return block_any(bad, scratch, CONVERT_THREADS / WARP);
}

/* The table of steps of a plane: its token, then its channel in 16 bits. */
DEVICE void steps_fill(const struct codes &c, uint32_t bits, uint32_t *steps)
{
	__syncthreads();
	for (uint32_t i = threadIdx.x; i < WORD_KINDS * 32;
	     i += CONVERT_THREADS) {
		struct element e = { 0, 0 };

		if (i % 32 * bits < 32 && 32u >> i / 32 >= bits)
			e = word_step(c, bits, i / 32, i % 32);
		steps[i] = e.t << 16 | e.d;
	}
	__syncthreads();
}

/*
 * Stores bits @first and up, @bits of them, of all codes of the first @tokens:
 * code_of(coder, t, d) makes a code. Words have 0 where there is none.
 */
template <typename CODER>
DEVICE void plane_store(const struct side &s, uint32_t tokens, uint32_t bits,
			uint32_t first, const uint32_t *steps, CODER &coder)
{
	const struct codes &c = s.place;
	const uint32_t nr = plane_words(c, bits) *
			    (c.order == KVD_TILE_ROW ? tokens : c.tokens);
	uint8_t *out = s.codes + (first ? codes_high(&c) : 0);

	for (uint32_t n = threadIdx.x; n < nr; n += CONVERT_THREADS) {
		const struct word w = word_at(c, bits, n);
		const uint32_t *step = steps + w.kind * 32;
		uint32_t value = 0;

		NO_UNROLL
		for (uint32_t i = 0; i * bits < 32; i++) {
			const uint32_t t = w.first.t + (step[i] >> 16);
			const uint32_t d = w.first.d + (step[i] & 0xffffu);

			if (t < tokens && d < c.dim)
				value |= (code_of(coder, t, d) >> first &
					  ((1u << bits) - 1))
					 << i * bits;
		}
		*(uint32_t *)(out + w.byte) = value;
	}
}

/* All codes of a side. Has barriers. */
template <typename CODER>
DEVICE void codes_store(const struct side &s, uint32_t tokens,
			const struct room &r, CODER &coder)
{
	const uint32_t bits = format_bits(s.place.format);

	for (uint32_t first = 0; first < bits; first += 2) {
		/* All, or of 3 bits the low two, then the high one. */
		const uint32_t plane = bits != 3 ? bits : first ? 1 : 2;

		steps_fill(s.place, plane, r.steps);
		plane_store(s, tokens, plane, first, r.steps, coder);
		if (bits != 3)
			break;
	}
}

/* Every code 0: of a side that is refused. */
DEVICE void codes_clear(const struct side &s)
{
	uint32_t *out = (uint32_t *)s.codes;
	const uint32_t row = codes_row_bytes(s.place.order, s.place.format,
					     s.place.dim);

	for (uint32_t i = threadIdx.x; i < s.place.tokens * row / 4;
	     i += CONVERT_THREADS)
		out[i] = 0;
}

#endif
