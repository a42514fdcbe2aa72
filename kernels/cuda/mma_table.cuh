/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mma_table.cuh - codes that look values up, and keys held before RoPE, on
 * tensor cores: the family of kernels for kvquant and its open pages.
 *
 * Sixteen tokens at a time, a side's codes become f16 values in fragments A,
 * in shared memory of the warp: its part of exchange, which nobody needs while
 * a run goes on. There outliers are added, each by one lane, and from there
 * the products take them, as they take pages in f16. So neither costs more
 * with more columns, and the list may be in any order of channels.
 *
 * Keys before RoPE are turned by their token's angle between memory and
 * product; by their page's angle the warp's queries are turned back instead,
 * once a page. Minima of V are summed by themselves: a page that was refused
 * has them NaN, and no column may know that does not see it.
 *
 * A table is two planes of bytes in registers: codes select from it.
 */
#ifndef KERNELS_CUDA_MMA_TABLE_CUH
#define KERNELS_CUDA_MMA_TABLE_CUH

#include "kernels/cuda/mma_values.cuh"

/* Families of kernels: what formats one takes. */
struct by_mask { /* all but kvquant, keys as they are */
	enum { TABLE = 0 };
};

struct by_table { /* kvquant and 16 bits, keys before RoPE too */
	enum { TABLE = 1 };
};

/* What a warp has of the family's shared memory. */
struct table {
	uint8_t *luts;		/* [2]: K, V; mma_shared_of() */
	uint8_t *channels;	/* f16 range[dim], zero[dim] of the item's K */
	uint8_t *turned;	/* fragments B: queries, turned back */
	uint8_t *tile;		/* fragments A: 16 tokens of one side */
	uint32_t page;		/* number of the page they are turned by */
};

DEVICE void table_init(struct table &t, uint8_t *shared,
		       const struct mma_shared &at, uint32_t dim,
		       uint32_t columns)
{
	const uint32_t warp = threadIdx.x / WARP;

	t.luts = shared + at.table;
	t.channels = t.luts + 2 * MMA_LUT_BYTES;
	t.turned = t.channels + 4 * dim + warp * 2 * dim * columns;
	t.tile = shared + at.exchange + warp * columns * (dim + MMA_PAD) * 4;
	t.page = UINT32_MAX;
}

/* By a block, once: tables of the layer, low bytes, then high ones. */
DEVICE void luts_fill(const struct kv_attend_args *a, uint8_t *luts)
{
	const uint32_t i = threadIdx.x % TABLES_CODES;
	const uint32_t is_v = threadIdx.x / TABLES_CODES;
	const float *out;

	if (is_v > 1 || !a->tables)
		return;
	out = is_v ? a->tables->v_out : a->tables->k_out;
	if (!out)
		return;
	const uint32_t x = f16x2_pack(out[a->layer * TABLES_CODES + i], 0.0f);

	luts[is_v * MMA_LUT_BYTES + i] = (uint8_t)x;
	luts[is_v * MMA_LUT_BYTES + TABLES_CODES + i] = (uint8_t)(x >> 8);
}

/* By a block: range and zero of an item's keys. */
DEVICE void channels_fill(const struct kv_attend_args *a, uint32_t head,
			  uint32_t dim, uint8_t *channels)
{
	const struct kv_tables *tb = a->tables;
	uint16_t *to = (uint16_t *)channels;

	if (!tb || !tb->k_range)
		return;
	const uint64_t first = ((uint64_t)a->layer * tb->nr_heads + head) * dim;

	for (uint32_t d = threadIdx.x; d < dim; d += MMA_THREADS) {
		to[d] = (uint16_t)f16x2_pack(tb->k_range[first + d], 0.0f);
		to[dim + d] = (uint16_t)f16x2_pack(tb->k_zero[first + d], 0.0f);
	}
}

/* ---- codes to values ---- */

/* Bytes of entries 0 to 3, 4 to 7 and so on. */
struct lut {
	uint32_t low[4], high[4];
};

DEVICE struct lut lut_load(const uint8_t *from)
{
	struct lut t;

	load16(t.low, from);
	load16(t.high, from + TABLES_CODES);
	return t;
}

/*
 * Values of four codes, as two registers: nibbles of @select are their low
 * three bits, those of @upper 4 where the fourth is set.
 */
template <bool WIDE>
DEVICE void lut_look(const struct lut &t, uint32_t select, uint32_t upper,
		     uint32_t *a)
{
	uint32_t low = permute(t.low[0], t.low[1], select);
	uint32_t high = permute(t.high[0], t.high[1], select);

	if (WIDE) {
		const uint32_t mask = permute(0, ~0u, upper);

		low = (low & ~mask) |
		      (permute(t.low[2], t.low[3], select) & mask);
		high = (high & ~mask) |
		       (permute(t.high[2], t.high[3], select) & mask);
	}
	a[0] = permute(low, high, 0x5140);
	a[1] = permute(low, high, 0x7362);
}

/* Registers of tile (@j, @i) of a brick. */
DEVICE void lut_tile(codes_4, const struct lut &t, const struct words &x,
		     uint32_t j, uint32_t, uint32_t *a)
{
	const uint32_t select = x.w[j] & 0x77777777u;
	const uint32_t upper = x.w[j] >> 1 & 0x44444444u;

	lut_look<true>(t, select, upper, a);
	lut_look<true>(t, select >> 16, upper >> 16, a + 2);
}

DEVICE void lut_tile(codes_3, const struct lut &t, const struct words &x,
		     uint32_t j, uint32_t i, uint32_t *a)
{
	const uint32_t third = x.high[j / 2] >> (j % 2 * 2 + i) & 0x11111111u;
	const uint32_t select = (x.w[j] >> 2 * i & 0x33333333u) | third << 2;

	lut_look<false>(t, select, 0, a);
	lut_look<false>(t, select >> 16, 0, a + 2);
}

DEVICE void lut_tile(codes_2, const struct lut &t, const struct words &x,
		     uint32_t j, uint32_t i, uint32_t *a)
{
	const uint32_t select = x.w[j] >> 2 * i & 0x33333333u;

	lut_look<false>(t, select, 0, a);
	lut_look<false>(t, select >> 16, 0, a + 2);
}

/* ---- outliers ---- */

/* Where a warp is in a page's list. */
struct outliers {
	const struct sparse_entry *e;
	uint32_t at, nr;
};

/* The first entry of place @first or later. */
template <uint32_t DIM>
DEVICE struct outliers outliers_of(const uint8_t *list, uint32_t page_tokens,
				   uint32_t first)
{
	const struct sparse_head *head = (const struct sparse_head *)list;
	const uint32_t most = sparse_max(page_tokens, DIM);
	struct outliers o;
	uint32_t end;

	o.e = (const struct sparse_entry *)(head + 1);
	o.nr = head->nr < most ? head->nr : most;
	o.at = 0;
	end = first ? o.nr : 0;
	while (o.at < end) {
		const uint32_t mid = (o.at + end) / 2;

		if (o.e[mid].at < first)
			o.at = mid + 1;
		else
			end = mid;
	}
	return o;
}

/* Adds those of the 16 tokens whose places begin at @first to their tile. */
template <uint32_t DIM>
DEVICE void outliers_add(struct outliers &o, uint32_t first, bool is_v,
			 uint8_t *tile, uint32_t lane)
{
	uint32_t n;

	__syncwarp();
	do {
		const uint32_t i = o.at + lane;
		uint32_t w = 0, place = UINT32_MAX;

		if (i < o.nr) {
			load4(&w, &o.e[i]);
			place = (w & 0xffffu) - first;
		}
		if (place < 16 * DIM) {
			const uint32_t t = place / DIM, d = place % 16;
			const uint32_t m = is_v ? d : t, k = is_v ? t : d;
			const uint32_t at = place % DIM / 16 * WARP +
					    m % 8 * 4 + k % 8 / 2;
			uint16_t *x = (uint16_t *)tile + at * 8 +
				      (m / 8 + k / 8 * 2) * 2 + k % 2;

			*x = (uint16_t)f16x2_add(*x, w >> 16);
		}
		n = (uint32_t)__popc(
			__ballot_sync(ALL_LANES, place < 16 * DIM));
		o.at += n;
	} while (n == WARP);
	__syncwarp();
}

/* ---- RoPE ---- */

/* Turns the pair (@x, @y). */
DEVICE void pair_turn(float c, float s, float &x, float &y)
{
	const float u = x;

	x = mad(u, c, -y * s);
	y = mad(u, s, y * c);
}

/* Two pairs whose halves are two registers, at @angles of @n cosines first. */
DEVICE void pairs_apart(const float *angles, uint32_t n, uint32_t &a,
			uint32_t &b)
{
	float x[2] = { f16x2_lo(a), f16x2_hi(a) };
	float y[2] = { f16x2_lo(b), f16x2_hi(b) };
	uint32_t c[2], s[2];

	load8(c, angles);
	load8(s, angles + n);
	UNROLL
	for (uint32_t i = 0; i < 2; i++)
		pair_turn(f32_from_bits(c[i]), f32_from_bits(s[i]), x[i], y[i]);
	a = f16x2_pack(x[0], x[1]);
	b = f16x2_pack(y[0], y[1]);
}

/* A pair that is a register. */
DEVICE void pair_within(const float *angle, uint32_t n, uint32_t &a)
{
	float x = f16x2_lo(a), y = f16x2_hi(a);

	pair_turn(angle[0], angle[n], x, y);
	a = f16x2_pack(x, y);
}

/*
 * Keys of channel tiles @kt and @kt + DIM / 32, by angles of token @token on:
 * in f32, for a score should have no more than an f16's rounding of its key.
 */
template <uint32_t DIM>
DEVICE void keys_turn(const struct kv_tables *tb, uint32_t token, uint32_t kt,
		      uint32_t lane, uint32_t (*a)[4])
{
	const float *first = tb->rope_token + (token + lane / 4) * DIM;

	if (tb->rope_interleaved) {
		UNROLL
		for (uint32_t i = 0; i < 8; i++)
			pair_within(first + i % 2 * 8 * DIM + kt * 8 +
					    i / 4 * (DIM / 4) + lane % 4 +
					    i / 2 % 2 * 4,
				    DIM / 2, a[i / 4][i % 4]);
		return;
	}
	UNROLL
	for (uint32_t r = 0; r < 4; r++)
		pairs_apart(first + r % 2 * 8 * DIM + kt * 16 + lane % 4 * 2 +
				    r / 2 * 8,
			    DIM / 2, a[0][r], a[1][r]);
}

/* A lane's four elements of a query in channel tile @kt, to 16 bits. */
template <uint32_t NT>
DEVICE void query_wide(const struct keys &k, uint32_t kt, uint32_t n, float *x)
{
	const uint8_t *at = k.q + k.q_bytes + ((kt * NT + n) * WARP + k.lane) * 8;
	uint32_t b[2], rest[2];

	load8(b, at);
	load8(rest, at + k.q_bytes);
	UNROLL
	for (uint32_t i = 0; i < 4; i++)
		x[i] = bf16_to_f32((uint16_t)(b[i / 2] >> i % 2 * 16)) +
		       bf16_to_f32((uint16_t)(rest[i / 2] >> i % 2 * 16));
}

DEVICE void pair_back(const float *angle, uint32_t n, float &x, float &y)
{
	pair_turn(angle[0], -angle[n], x, y);
}

/* The warp's queries, turned back by the angles of page @page. */
template <uint32_t DIM, uint32_t NT>
DEVICE void queries_turn(const struct kv_tables *tb, const struct keys &k,
			 uint32_t page, uint8_t *turned)
{
	const float *angles = tb->rope_page + (uint64_t)page * DIM;

	NO_UNROLL
	for (uint32_t i = 0; i < DIM / 32 * NT; i++) {
		const uint32_t kt = i / NT, n = i % NT;
		float x[2][4];

		query_wide<NT>(k, kt, n, x[0]);
		query_wide<NT>(k, kt + DIM / 32, n, x[1]);
		UNROLL
		for (uint32_t j = 0; j < 4; j++) {
			const uint32_t h = j / 2, u = j % 2 * 2;
			const uint32_t at = kt * 16 + k.lane % 4 * 2 + h * 8 +
					    j % 2;

			if (tb->rope_interleaved)
				pair_back(angles + (kt + h * (DIM / 32)) * 8 +
						  k.lane % 4 + u * 2,
					  DIM / 2, x[h][u], x[h][u + 1]);
			else
				pair_back(angles + at, DIM / 2, x[0][j],
					  x[1][j]);
		}
		UNROLL
		for (uint32_t h = 0; h < 2; h++) {
			const uint32_t w[2] = { f16x2_pack(x[h][0], x[h][1]),
						f16x2_pack(x[h][2], x[h][3]) };

			store8(turned + (((kt + h * (DIM / 32)) * NT + n) *
						 WARP +
					 k.lane) * 8,
			       w);
		}
	}
}

/* ---- keys ---- */

/* Keys of 16 tokens, number @m of the stage, to the warp's tile. */
template <uint32_t DIM, class C>
DEVICE void keys_decode(C c, const struct keys &k, const struct table &t,
			uint32_t m)
{
	const struct bricks bricks = bricks_of(
		k.format, k.codes, k.tokens * (DIM / 4), k.lane, false);
	const struct lut lut = lut_load(t.luts);

	NO_UNROLL
	for (uint32_t kc = 0; kc < DIM / 64; kc++) {
		struct words w;

		brick_load(c, bricks, m / C::HIGH * (DIM / 64) + kc, w);
		UNROLL
		for (uint32_t j = 0; j < 4; j++) {
			const uint32_t kt = kc * 4 + j;
			const uint8_t *range = t.channels +
					       (kt * 16 + k.lane % 4 * 2) * 2;
			uint32_t a[4], s[2], zero[2];

			load4(&s[0], range);
			load4(&s[1], range + 16);
			load4(&zero[0], range + DIM * 2);
			load4(&zero[1], range + DIM * 2 + 16);
			lut_tile(c, lut, w, j, m % C::HIGH, a);
			UNROLL
			for (uint32_t r = 0; r < 4; r++)
				a[r] = f16x2_fma(a[r], s[r / 2], zero[r / 2]);
			store16(t.tile + (kt * WARP + k.lane) * 16, a);
		}
	}
}

/* Tile @kt of channels of the 16 tokens, in f16. */
template <uint32_t DIM>
DEVICE void keys_tile(const struct keys &k, const struct table &t, uint32_t m,
		      uint32_t kt, uint32_t *a)
{
	const uint32_t at = kt * WARP + k.lane;

	if (format_bits(k.format) != 16) {
		load16(a, t.tile + at * 16);
		return;
	}
	load16(a, k.codes + (m * (DIM / 16) * WARP + at) * 16);
	if (k.format == KVD_F16)
		return;
	UNROLL
	for (uint32_t r = 0; r < 4; r++)
		a[r] = f16x2_pack(bf16_to_f32((uint16_t)a[r]),
				  bf16_to_f32((uint16_t)(a[r] >> 16)));
}

/* Scores of the 16 tokens; @q is turned where @tb is to turn keys. */
template <uint32_t DIM, uint32_t NT>
DEVICE void keys_product(const struct keys &k, const struct table &t,
			 const struct kv_tables *tb, const uint8_t *q,
			 uint32_t m, struct product<NT> &s)
{
	NO_UNROLL
	for (uint32_t kt = 0; kt < DIM / 32; kt++) {
		uint32_t a[2][4], b[NT][2];

		keys_tile<DIM>(k, t, m, kt, a[0]);
		keys_tile<DIM>(k, t, m, kt + DIM / 32, a[1]);
		if (tb)
			keys_turn<DIM>(tb, k.first + m * 16, kt, k.lane, a);
		UNROLL
		for (uint32_t h = 0; h < 2; h++) {
			query_load<NT>(q, kt + h * (DIM / 32), k.lane, b);
			UNROLL
			for (uint32_t n = 0; n < NT; n++)
				mma_f16(s.c[n], a[h], b[n]);
		}
	}
}

/* keys_scores() of the family; @pos is the stage's. */
template <uint32_t DIM, uint32_t NT>
DEVICE void table_scores(struct table &t, const struct kv_attend_args *a,
			 const struct page_layout *l, const struct keys &k,
			 uint32_t pos, struct product<NT> *s)
{
	const bool pre = l->rope_order == KVD_ROPE_PRE;
	const bool coded = format_bits(k.format) != 16;
	struct outliers o = { nullptr, 0, 0 };

	if (!pre && !coded) {
		keys_scores_16<DIM, NT>(k, s);
		return;
	}
	if (pre && t.page != pos / l->page_tokens) {
		t.page = pos / l->page_tokens;
		queries_turn<DIM, NT>(a->tables, k, t.page, t.turned);
	}
	if (coded)
		o = outliers_of<DIM>(k.meta, l->page_tokens, k.first * DIM);
	UNROLL
	for (uint32_t m = 0; m < STAGE_TILES; m++) {
		product_zero(s[m]);
		if (m * 16 >= k.tokens)
			continue;
		if (coded) {
			if (format_bits(k.format) == 4)
				keys_decode<DIM>(codes_4(), k, t, m);
			else if (format_bits(k.format) == 3)
				keys_decode<DIM>(codes_3(), k, t, m);
			else
				keys_decode<DIM>(codes_2(), k, t, m);
			outliers_add<DIM>(o, (k.first + m * 16) * DIM, false,
					  t.tile, k.lane);
		}
		keys_product<DIM, NT>(k, t, pre ? a->tables : nullptr,
				      pre ? t.turned : k.q, m, s[m]);
	}
}

/* ---- values ---- */

/* Values of 16 tokens but for their minima, number @j of the stage. */
template <uint32_t DIM, class C>
DEVICE void values_decode(C c, const struct values &v, const struct table &t,
			  uint32_t j)
{
	const struct bricks bricks =
		bricks_of(v.format, v.codes, v.tokens * (DIM / 4), v.lane,
			  v.page_tokens == 32);
	const struct lut lut = lut_load(t.luts + MMA_LUT_BYTES);
	uint32_t m[2], scale[2];

	UNROLL
	for (uint32_t i = 0; i < 2; i++) {
		load8(m, v.meta +
				 (v.first + j * 16 + v.lane % 4 * 2 + i * 8) *
					 4);
		scale[i] = permute(m[0], m[1], 0x5410);
	}
	NO_UNROLL
	for (uint32_t mb = 0; mb < DIM / (16 * C::HIGH); mb++) {
		struct words w;

		brick_load(c, bricks, mb, w);
		UNROLL
		for (uint32_t i = 0; i < C::HIGH; i++) {
			uint32_t a[4];

			lut_tile(c, lut, w, j, i, a);
			UNROLL
			for (uint32_t r = 0; r < 4; r++)
				a[r] = f16x2_mul(a[r], scale[r / 2]);
			store16(t.tile +
					((mb * C::HIGH + i) * WARP + v.lane) *
						16,
				a);
		}
	}
}

/* Weighted minima. Weights of 0 take no part: one of theirs may be NaN. */
template <uint32_t DIM, uint32_t NT>
DEVICE void minima_add(const struct values &v, const struct product<NT> *p,
		       struct product<NT> *o)
{
	float bias[NT][2];

	UNROLL
	for (uint32_t n = 0; n < 2 * NT; n++)
		bias[n / 2][n % 2] = 0.0f;
	UNROLL
	for (uint32_t i = 0; i < 2 * STAGE_TILES; i++) {
		const float min = f16x2_hi(token_affine(v, 0, i));

		UNROLL
		for (uint32_t n = 0; n < 2 * NT; n++) {
			const float x = p[i / 2].c[n / 2][i % 2 * 2 + n % 2];
			float *to = &bias[n / 2][n % 2];

			*to = x > 0.0f ? mad(x, min, *to) : *to;
		}
	}
	UNROLL
	for (uint32_t n = 0; n < 2 * NT; n++) {
		const float x = rows_sum(bias[n / 2][n % 2]);

		UNROLL
		for (uint32_t m = 0; m < DIM / 16; m++) {
			o[m].c[n / 2][n % 2] += x;
			o[m].c[n / 2][2 + n % 2] += x;
		}
	}
}

/* values_add() of the family. */
template <uint32_t DIM, uint32_t NT>
DEVICE void table_values(const struct table &t, const struct values &v,
			 const struct product<NT> *p, struct product<NT> *o)
{
	static const float ones[STAGE_TILES][2] = { { 1, 1 }, { 1, 1 },
						    { 1, 1 }, { 1, 1 } };
	struct operand<NT> w;

	if (format_bits(v.format) == 16) {
		values_add_halves<DIM, NT>(v, p, o);
		return;
	}
	struct outliers list = outliers_of<DIM>(
		v.meta + v.page_tokens * sizeof(struct affine_meta),
		v.page_tokens, v.first * DIM);

	minima_add<DIM, NT>(v, p, o);
	weights_pack<NT>(p, ones, w);
	UNROLL
	for (uint32_t j = 0; j < STAGE_TILES; j++) {
		if (j * 16 >= v.tokens)
			continue;
		if (format_bits(v.format) == 4)
			values_decode<DIM>(codes_4(), v, t, j);
		else if (format_bits(v.format) == 3)
			values_decode<DIM>(codes_3(), v, t, j);
		else
			values_decode<DIM>(codes_2(), v, t, j);
		outliers_add<DIM>(list, (v.first + j * 16) * DIM, true, t.tile,
				  v.lane);
		UNROLL
		for (uint32_t m = 0; m < DIM / 16; m++) {
			uint32_t a[4];

			load16(a, t.tile + (m * WARP + v.lane) * 16);
			UNROLL
			for (uint32_t n = 0; n < NT; n++)
				mma_f16(o[m].c[n], a, w.b[j][n]);
		}
	}
}

#endif
