/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mma_values.cuh - weighted sums of a stage's values: O += V^T P.
 *
 * Values, transposed, are operand A, channels by tokens; weights are operand
 * B. A lane's results are of channels lane / 4 (+ 8) of each 16 and of columns
 * 2 (lane % 4) and the next. What a format has per token is multiplied into
 * the weights, what it has per channel into the sums of a stage; minima are
 * summed by themselves.
 *
 * A position that is not seen has weight 0, which is not enough where its
 * value is Inf or NaN: values of tokens outside [seen_begin, seen_end) are
 * masked, and the caller takes columns one by one where it must.
 */
#ifndef KERNELS_CUDA_MMA_VALUES_CUH
#define KERNELS_CUDA_MMA_VALUES_CUH

#include "kernels/cuda/mma_keys.cuh"

struct values {
	const uint8_t *codes;
	const uint8_t *meta;
	uint32_t format;
	uint32_t group;		/* channels that share a token's scale */
	uint32_t pos;		/* of the stage */
	uint32_t first;		/* its token in its page */
	uint32_t tokens;
	uint32_t page_tokens;
	uint32_t lane;
	uint32_t seen_begin, seen_end;
};

/* Weights as operand B: f16; or bf16, and what that left. */
template <uint32_t NT> struct operand {
	uint32_t b[STAGE_TILES][NT][2];
	uint32_t rest[STAGE_TILES][NT][2];
};

/* Halves of the two tokens from @pos on that are seen. */
DEVICE uint32_t seen_mask(const struct values &v, uint32_t pos)
{
	const uint32_t n = v.seen_end - v.seen_begin, i = pos - v.seen_begin;

	return (i < n ? 0xffffu : 0u) | (i + 1 < n ? 0xffff0000u : 0u);
}

/* Is there an Inf or a NaN among the values? Asked by all lanes. */
template <uint32_t DIM> DEVICE bool values_bad(const struct values &v)
{
	const bool wide = format_bits(v.format) == 16;
	const uint32_t exponent = v.format == KVD_F16	   ? 0x7c00u :
				  v.format == KVD_BF16	   ? 0x7f80u :
				  v.format == KVD_FP8_E4M3 ? 0x7f7fu :
							     0x7c7cu;
	const uint32_t n = v.tokens * DIM * (wide ? 2 : 1);
	bool bad = false;

	if (!wide && format_coding(v.format) != CODING_FP8)
		return false;
	NO_UNROLL
	for (uint32_t i = v.lane * 4; i < n; i += WARP * 4) {
		const uint32_t of_byte = wide ? 0xffffu : 0xffu;
		uint32_t w;

		load4(&w, v.codes + i);
		NO_UNROLL
		for (uint32_t b = 0; b < 32; b += wide ? 16 : 8)
			bad = bad || (w >> b & exponent & of_byte) ==
					     (exponent & of_byte);
	}
	return __ballot_sync(ALL_LANES, bad) != 0;
}

template <class C, uint32_t NT>
DEVICE void value_product(C, const struct operand<NT> &w, uint32_t j,
			  const uint32_t *a, struct product<NT> &acc)
{
	UNROLL
	for (uint32_t n = 0; n < NT; n++)
		mma_f16(acc.c[n], a, w.b[j][n]);
}

template <uint32_t NT>
DEVICE void value_product(codes_bf16, const struct operand<NT> &w, uint32_t j,
			  const uint32_t *a, struct product<NT> &acc)
{
	UNROLL
	for (uint32_t n = 0; n < NT; n++) {
		mma_bf16(acc.c[n], a, w.b[j][n]);
		mma_bf16(acc.c[n], a, w.rest[j][n]);
	}
}

/* Sums of values and weights for the channels of bricks @mb. */
template <uint32_t DIM, uint32_t NT, class C>
DEVICE void values_multiply(C c, const struct values &v,
			    const struct bricks &bricks, uint32_t mb,
			    const struct operand<NT> &weights,
			    struct product<NT> *acc)
{
	constexpr uint32_t rows = DIM / (16 * C::HIGH);
	struct words w;

	UNROLL
	for (uint32_t j = 0; j < STAGE_TILES; j++) {
		const uint32_t pos = v.pos + j * 16 + v.lane % 4 * 2;

		if (j * 16 >= v.tokens)
			continue;
		if (j % C::TILES == 0)
			brick_load(c, bricks, j / C::TILES * rows + mb, w);
		UNROLL
		for (uint32_t i = 0; i < C::HIGH; i++) {
			uint32_t a[4];

			brick_tile(c, bricks, w, j % C::TILES, i, a);
			UNROLL
			for (uint32_t r = 0; C::TILES < 4 && r < 4; r++)
				a[r] &= seen_mask(v, pos + r / 2 * 8);
			value_product(c, weights, j, a, acc[i]);
		}
	}
}

/* Weights times what their tokens have: @scale is of the lane's tokens. */
template <uint32_t NT>
DEVICE void weights_pack(const struct product<NT> *p, const float (*scale)[2],
			 struct operand<NT> &w)
{
	UNROLL
	for (uint32_t m = 0; m < STAGE_TILES; m++) {
		UNROLL
		for (uint32_t i = 0; i < 2 * NT; i++) {
			const float *x = &p[m].c[i / 2][i % 2 * 2];
			const float s = opaque(scale[m][i % 2]);

			w.b[m][i / 2][i % 2] = transpose8(
				f16x2_pack(x[0] * s, x[1] * s));
		}
	}
}

template <uint32_t NT>
DEVICE void weights_pack_bf16(const struct product<NT> *p, struct operand<NT> &w)
{
	UNROLL
	for (uint32_t m = 0; m < STAGE_TILES; m++) {
		UNROLL
		for (uint32_t i = 0; i < 2 * NT; i++) {
			const float x = opaque(p[m].c[i / 2][i % 2 * 2]);
			const float y = opaque(p[m].c[i / 2][i % 2 * 2 + 1]);
			const uint32_t b = bf16x2_pack(x, y);
			const uint32_t r = bf16x2_pack(
				x - bf16_to_f32((uint16_t)b),
				y - bf16_to_f32((uint16_t)(b >> 16)));

			w.b[m][i / 2][i % 2] = transpose8(b);
			w.rest[m][i / 2][i % 2] = transpose8(r);
		}
	}
}

/* 16 bits: numbers as they are, straight into the sums. */
template <uint32_t DIM, uint32_t NT, class C>
DEVICE void values_add_16(C c, const struct values &v,
			  const struct operand<NT> &w, struct product<NT> *o)
{
	const struct bricks bricks = bricks_of(v.format, v.codes, 0, v.lane,
					       false);

	UNROLL
	for (uint32_t mb = 0; mb < DIM / 16; mb++) {
		loads_in_order();
		values_multiply<DIM, NT>(c, v, bricks, mb, w, &o[mb]);
	}
}

/* The sum of @x over the lanes that have the same columns. */
DEVICE float rows_sum(float x)
{
	x += __shfl_xor_sync(ALL_LANES, x, 4);
	x += __shfl_xor_sync(ALL_LANES, x, 8);
	return x + __shfl_xor_sync(ALL_LANES, x, 16);
}

/* Scale, and in the high half minimum, of the lane's token @i for group @g. */
DEVICE uint32_t token_affine(const struct values &v, uint32_t g, uint32_t i)
{
	const uint32_t t = v.lane / 4 + i * 8;
	uint32_t w = 0;

	/* What nobody sees may not be a number. */
	if (t < v.tokens &&
	    v.pos + t - v.seen_begin < v.seen_end - v.seen_begin)
		load4(&w, v.meta + (g * v.page_tokens + v.first + t) * 4);
	return w;
}

/*
 * Weights for channel group @g, and in @bias the sums of weights times minima.
 * Weights of 0 take no part: one of theirs may be NaN.
 */
template <uint32_t NT>
DEVICE void weights_load(const struct values &v, uint32_t g,
			 const struct product<NT> *p, struct operand<NT> &w,
			 float (*bias)[2])
{
	const bool fp8 = format_coding(v.format) == CODING_FP8;
	float scale[STAGE_TILES][2];

	UNROLL
	for (uint32_t n = 0; n < 2 * NT; n++)
		bias[n / 2][n % 2] = 0.0f;
	UNROLL
	for (uint32_t i = 0; i < 2 * STAGE_TILES; i++) {
		const uint32_t a = fp8 ? 0 : token_affine(v, g, i);

		scale[i / 2][i % 2] = fp8 ? *(const float *)v.meta :
					    f16x2_lo(a);
		UNROLL
		for (uint32_t n = 0; n < 2 * NT; n++) {
			const float x = p[i / 2].c[n / 2][i % 2 * 2 + n % 2];
			float *to = &bias[n / 2][n % 2];

			*to = x > 0.0f ? mad(x, f16x2_hi(a), *to) : *to;
		}
	}
	UNROLL
	for (uint32_t n = 0; n < 2 * NT; n++)
		bias[n / 2][n % 2] = rows_sum(bias[n / 2][n % 2]);
	weights_pack<NT>(p, scale, w);
}

/* kvarn: what each channel of tile @mt is multiplied by. */
DEVICE float channel_factor(const struct values &v, uint32_t mt, bool low)
{
	const uint16_t *f = (const uint16_t *)v.meta + 2 * v.page_tokens;

	if (format_coding(v.format) != CODING_KVARN)
		return 1.0f;
	return f16x2_lo(f[mt * 16 + low * 8 + v.lane / 4]);
}

/* Codes with scales: 8 bits and fewer. */
template <uint32_t DIM, uint32_t NT, class C>
DEVICE void values_add_codes(C c, const struct values &v,
			     const struct product<NT> *p, struct product<NT> *o)
{
	const struct bricks bricks =
		bricks_of(v.format, v.codes, v.tokens * (DIM / 4), v.lane,
			  v.page_tokens == 32);
	const float unit = code_unit(v.format, 0, false);
	struct operand<NT> w;
	float bias[NT][2];

	UNROLL
	for (uint32_t mt = 0; mt < DIM / 16; mt += C::HIGH) {
		struct product<NT> acc[C::HIGH];

		/* The group changes at quarters of the row at most. */
		if (mt == 0 || (C::TILES == 4 && mt % (DIM / 64) == 0 &&
				mt * 16 % v.group == 0))
			weights_load<NT>(v, mt * 16 / v.group, p, w, bias);
		loads_in_order();
		UNROLL
		for (uint32_t i = 0; i < C::HIGH; i++)
			product_zero(acc[i]);
		values_multiply<DIM, NT>(c, v, bricks, mt / C::HIGH, w, acc);
		UNROLL
		for (uint32_t i = 0; i < 2 * C::HIGH; i++) {
			const uint32_t at = mt + i / 2, low = i % 2;
			const float u = tile_unit(c, unit, i / 2, low);
			const float f = channel_factor(v, at, low);

			UNROLL
			for (uint32_t n = 0; n < 2 * NT; n++) {
				const uint32_t r = low * 2 + n % 2;
				float *x = &o[at].c[n / 2][r];

				*x = mad(mad(acc[i / 2].c[n / 2][r], u,
					     bias[n / 2][n % 2]),
					 f, *x);
			}
		}
	}
}

/* values_add() of 16 bits alone. */
template <uint32_t DIM, uint32_t NT>
DEVICE void values_add_halves(const struct values &v,
			      const struct product<NT> *p,
			      struct product<NT> *o)
{
	static const float ones[STAGE_TILES][2] = { { 1, 1 }, { 1, 1 },
						    { 1, 1 }, { 1, 1 } };
	struct operand<NT> w;

	if (v.format == KVD_F16) {
		weights_pack<NT>(p, ones, w);
		values_add_16<DIM, NT>(codes_f16(), v, w, o);
	} else {
		weights_pack_bf16<NT>(p, w);
		values_add_16<DIM, NT>(codes_bf16(), v, w, o);
	}
}

/* Adds the stage's values, weighted by @p ([STAGE_TILES]), to @o. */
template <uint32_t DIM, uint32_t NT>
DEVICE void values_add(const struct values &v, const struct product<NT> *p,
		       struct product<NT> *o)
{
	switch (format_bits(v.format)) {
	case 16:
		values_add_halves<DIM, NT>(v, p, o);
		break;
	case 8:
		values_add_codes<DIM, NT>(codes_8(), v, p, o);
		break;
	case 4:
		values_add_codes<DIM, NT>(codes_4(), v, p, o);
		break;
	case 3:
		values_add_codes<DIM, NT>(codes_3(), v, p, o);
		break;
	default:
		values_add_codes<DIM, NT>(codes_2(), v, p, o);
	}
}

#endif
