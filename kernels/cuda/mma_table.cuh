/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mma_table.cuh - codes that look values up, and keys held before RoPE, on
 * tensor cores: the family of kernels for kvquant and its open pages.
 *
 * Sixteen tokens at a time. Codes of V become f16 values in fragments A, in
 * shared memory of the warp: its part of exchange, which nobody needs while a
 * run goes on. There outliers are added, each by one lane, and from there the
 * product takes them, as it takes pages in f16. So neither costs more with
 * more columns, and the list may be in any order of channels. Minima are summed
 * by themselves: a page that was refused has them NaN, and no column may know
 * that does not see it.
 *
 * A score is to be as near as f32 is, for where few tokens are seen its error
 * is that of the log-sum: keys are f32 from their table on, K's outliers lie in
 * the warp's memory by themselves, and keys and queries are bf16 in two parts,
 * which have the range of f32 too. Keys before RoPE are turned in between.
 *
 * A table is planes of bytes in registers: codes select from it.
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
	uint8_t *k_lut;		/* mma_shared_of() */
	uint8_t *v_lut;
	float *channels;	/* range[dim], zero[dim] of the item's K */
	uint8_t *tile;		/* fragments A: 16 tokens of one side */
};

DEVICE void table_init(struct table &t, uint8_t *shared,
		       const struct mma_shared &at, uint32_t dim,
		       uint32_t columns)
{
	const uint32_t warp = threadIdx.x / WARP;

	t.k_lut = shared + at.table;
	t.v_lut = t.k_lut + MMA_K_LUT_BYTES;
	t.channels = (float *)(t.v_lut + MMA_V_LUT_BYTES);
	t.tile = shared + at.exchange + warp * columns * (dim + MMA_PAD) * 4;
}

/* Byte @i of planes that are TABLES_CODES bytes each. */
DEVICE void lut_put(uint8_t *lut, uint32_t i, uint32_t x, uint32_t planes)
{
	for (uint32_t p = 0; p < planes; p++)
		lut[p * TABLES_CODES + i] = (uint8_t)(x >> 8 * p);
}

/*
 * By a block, once: tables of the layer, low bytes first. V's are f16. K's are
 * the upper 24 bits of f32.
 */
DEVICE void luts_fill(const struct kv_attend_args *a, struct table &t)
{
	const uint32_t i = threadIdx.x % TABLES_CODES;
	const uint32_t is_v = threadIdx.x / TABLES_CODES;
	const float *out;

	if (is_v > 1 || !a->tables)
		return;
	out = is_v ? a->tables->v_out : a->tables->k_out;
	if (!out)
		return;
	const float x = out[a->layer * TABLES_CODES + i];

	if (is_v)
		lut_put(t.v_lut, i, f16x2_pack(x, 0.0f), 2);
	else
		lut_put(t.k_lut, i, (f32_bits(x) + 0x80) >> 8, 3);
}

/* By a block: range and zero of an item's keys. */
DEVICE void channels_fill(const struct kv_attend_args *a, uint32_t head,
			  uint32_t dim, float *to)
{
	const struct kv_tables *tb = a->tables;

	if (!tb || !tb->k_range)
		return;
	const uint64_t first = ((uint64_t)a->layer * tb->nr_heads + head) * dim;

	for (uint32_t d = threadIdx.x; d < dim; d += MMA_THREADS) {
		to[d] = tb->k_range[first + d];
		to[dim + d] = tb->k_zero[first + d];
	}
}

/* ---- codes to values ---- */

/*
 * What codes of a tile select, eight of a lane as nibbles: their low three bits
 * in low, 4 in upper where the fourth is set.
 */
struct selectors {
	uint32_t low, upper;
};

/* Of tile (@j, @i) of a brick: @w is word j, @high the other plane's. */
DEVICE struct selectors tile_select(codes_4, uint32_t w, uint32_t, uint32_t,
				    uint32_t)
{
	struct selectors s;

	s.low = w & 0x77777777u;
	s.upper = w >> 1 & 0x44444444u;
	return s;
}

DEVICE struct selectors tile_select(codes_3, uint32_t w, uint32_t high,
				    uint32_t j, uint32_t i)
{
	const uint32_t third = high >> (j % 2 * 2 + i) & 0x11111111u;
	struct selectors s;

	s.low = (w >> 2 * i & 0x33333333u) | third << 2;
	s.upper = 0;
	return s;
}

DEVICE struct selectors tile_select(codes_2, uint32_t w, uint32_t, uint32_t,
				    uint32_t i)
{
	struct selectors s;

	s.low = w >> 2 * i & 0x33333333u;
	s.upper = 0;
	return s;
}

/* Bytes of the plane that four codes select; @mask: whose fourth bit is set. */
template <bool WIDE>
DEVICE uint32_t plane_look(const uint32_t *plane, uint32_t select,
			   uint32_t mask)
{
	const uint32_t x = permute(plane[0], plane[1], select);

	if (!WIDE)
		return x;
	return (x & ~mask) | (permute(plane[2], plane[3], select) & mask);
}

/* Tables: bytes of entries 0 to 3, 4 to 7 and so on, low bytes first. */
struct lut_f16 {
	uint32_t p[2][4];
};

struct lut_f32 {
	uint32_t p[3][4];
};

template <uint32_t N> DEVICE void lut_load(uint32_t (*p)[4], const uint8_t *from)
{
	UNROLL
	for (uint32_t i = 0; i < N; i++)
		load16(p[i], from + i * TABLES_CODES);
}

/* A tile's registers. */
template <class C>
DEVICE void lut_tile(C, const struct lut_f16 &t, const struct selectors &s,
		     uint32_t *a)
{
	constexpr bool wide = C::BITS == 4;

	UNROLL
	for (uint32_t i = 0; i < 2; i++) {
		const uint32_t low = s.low >> 16 * i;
		const uint32_t mask =
			wide ? permute(0, ~0u, s.upper >> 16 * i) : 0;
		const uint32_t x = plane_look<wide>(t.p[0], low, mask);
		const uint32_t y = plane_look<wide>(t.p[1], low, mask);

		a[2 * i] = permute(x, y, 0x5140);
		a[2 * i + 1] = permute(x, y, 0x7362);
	}
}

/* Halves of a tile's registers. The last 8 bits of each are any. */
template <class C>
DEVICE void lut_tile(C, const struct lut_f32 &t, const struct selectors &s,
		     float *a)
{
	constexpr bool wide = C::BITS == 4;

	UNROLL
	for (uint32_t i = 0; i < 2; i++) {
		const uint32_t low = s.low >> 16 * i;
		const uint32_t mask =
			wide ? permute(0, ~0u, s.upper >> 16 * i) : 0;
		const uint32_t x = plane_look<wide>(t.p[0], low, mask);
		const uint32_t y = plane_look<wide>(t.p[1], low, mask);
		const uint32_t z = plane_look<wide>(t.p[2], low, mask);
		const uint32_t b[2] = { permute(x, y, 0x5140),
					permute(x, y, 0x7362) };

		UNROLL
		for (uint32_t j = 0; j < 4; j++)
			a[4 * i + j] = f32_from_bits(permute(
				b[j / 2], z,
				(j % 2 ? 0x0322 : 0x0100) | (4 + j) << 12));
	}
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

/* No outliers yet. */
template <uint32_t DIM> DEVICE void tile_clear(uint8_t *tile, uint32_t lane)
{
	const uint32_t zero[4] = { 0, 0, 0, 0 };

	UNROLL
	for (uint32_t i = 0; i < DIM / 16; i++)
		store16(tile + (i * WARP + lane) * 16, zero);
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

struct angle {
	float cos, sin;
};

/* Of the page and of the token, together. */
DEVICE struct angle angle_sum(struct angle a, struct angle b)
{
	struct angle c;

	c.cos = mad(a.cos, b.cos, -a.sin * b.sin);
	c.sin = mad(a.sin, b.cos, a.cos * b.sin);
	return c;
}

DEVICE void pair_turn(struct angle a, float &x, float &y)
{
	const float u = x;

	x = mad(u, a.cos, -y * a.sin);
	y = mad(u, a.sin, y * a.cos);
}

/* Angles of some pairs: a row of @n cosines, then sines, at the first pair. */
DEVICE void angles_load(const float *row, uint32_t n, struct angle *to)
{
	uint32_t c[2], s[2];

	load8(c, row);
	load8(s, row + n);
	UNROLL
	for (uint32_t i = 0; i < 2; i++) {
		to[i].cos = f32_from_bits(c[i]);
		to[i].sin = f32_from_bits(s[i]);
	}
}

DEVICE struct angle angle_load(const float *row, uint32_t n)
{
	struct angle a;

	a.cos = row[0];
	a.sin = row[n];
	return a;
}

/*
 * Keys of channel tiles @kt and @kt + DIM / 32, by the angles of @page and of
 * token @token on: pairs are a tile's halves, or the two tiles'.
 */
template <uint32_t DIM>
DEVICE void keys_turn(const struct kv_tables *tb, uint32_t page,
		      uint32_t token, uint32_t kt, uint32_t lane,
		      float (*x)[8])
{
	const float *pages = tb->rope_page + (uint64_t)page * DIM;
	const float *tokens = tb->rope_token + (token + lane / 4) * DIM;

	if (tb->rope_interleaved) {
		UNROLL
		for (uint32_t i = 0; i < 4; i++) {
			const uint32_t at = kt * 8 + i / 2 * (DIM / 4) +
					    lane % 4 + i % 2 * 4;
			const struct angle p = angle_load(pages + at, DIM / 2);

			UNROLL
			for (uint32_t r = 0; r < 2; r++)
				pair_turn(angle_sum(p, angle_load(
						tokens + r * 8 * DIM + at,
						DIM / 2)),
					  x[i / 2][i % 2 * 4 + r * 2],
					  x[i / 2][i % 2 * 4 + r * 2 + 1]);
		}
		return;
	}
	UNROLL
	for (uint32_t i = 0; i < 4; i++) {
		const uint32_t at = kt * 16 + lane % 4 * 2 + i / 2 * 8;
		struct angle p[2], t[2];

		angles_load(pages + at, DIM / 2, p);
		angles_load(tokens + i % 2 * 8 * DIM + at, DIM / 2, t);
		UNROLL
		for (uint32_t j = 0; j < 2; j++)
			pair_turn(angle_sum(p[j], t[j]), x[0][i * 2 + j],
				  x[1][i * 2 + j]);
	}
}

/* ---- keys ---- */

/* Keys of 16 tokens, some of a stage's. */
struct rows {
	uint32_t m;		/* their number in the stage */
	const float *channels;
	const uint8_t *tile;	/* outliers, f16 */
	struct bricks bricks;
	struct lut_f32 lut;
};

/* Tile @kt of channels. */
template <uint32_t DIM, class C>
DEVICE void keys_tile(C c, const struct rows &r, uint32_t kt, float *x)
{
	const uint32_t lane = r.bricks.lane, j = kt % 4;
	const uint32_t brick = r.m / C::HIGH * (DIM / 64) + kt / 4;
	const uint32_t at = brick * WARP + lane;
	const float *range = r.channels + kt * 16 + lane % 4 * 2;
	uint32_t w, high = 0, out[4];

	load4(&w, r.bricks.codes + at * 16 + j * 4);
	if (C::BITS == 3)
		load4(&high, r.bricks.high + at * 8 + j / 2 * 4);
	load16(out, r.tile + (kt * WARP + lane) * 16);
	lut_tile(c, r.lut, tile_select(c, w, high, j, r.m % C::HIGH), x);
	UNROLL
	for (uint32_t h = 0; h < 2; h++) {
		uint32_t s[2], zero[2];

		load8(s, range + h * 8);
		load8(zero, range + DIM + h * 8);
		UNROLL
		for (uint32_t i = 0; i < 4; i++) {
			float *y = &x[h * 4 + i];
			const uint32_t o = out[h * 2 + i / 2];

			*y = mad(*y, f32_from_bits(s[i % 2]),
				 f32_from_bits(zero[i % 2])) +
			     (i % 2 ? f16x2_hi(o) : f16x2_lo(o));
		}
	}
}

template <uint32_t DIM>
DEVICE void keys_tile(codes_f16, const struct rows &r, uint32_t kt, float *x)
{
	const uint32_t at = (r.m * (DIM / 16) + kt) * WARP + r.bricks.lane;
	uint32_t a[4];

	load16(a, r.bricks.codes + at * 16);
	UNROLL
	for (uint32_t i = 0; i < 8; i++)
		x[i] = i % 2 ? f16x2_hi(a[i / 2]) : f16x2_lo(a[i / 2]);
}

template <uint32_t DIM>
DEVICE void keys_tile(codes_bf16, const struct rows &r, uint32_t kt, float *x)
{
	const uint32_t at = (r.m * (DIM / 16) + kt) * WARP + r.bricks.lane;
	uint32_t a[4];

	load16(a, r.bricks.codes + at * 16);
	UNROLL
	for (uint32_t i = 0; i < 8; i++)
		x[i] = bf16_to_f32((uint16_t)(a[i / 2] >> i % 2 * 16));
}

/* Adds the product of a tile and its channels' queries, each in two parts. */
template <uint32_t NT>
DEVICE void tile_product(const struct keys &k, uint32_t kt, const float *x,
			 struct product<NT> &s)
{
	uint32_t a[4], rest[4], b[NT][2], b_rest[NT][2];

	UNROLL
	for (uint32_t r = 0; r < 4; r++)
		bf16x2_split(x[2 * r], x[2 * r + 1], a[r], rest[r]);
	query_load<NT>(k.q + QUERY_BF16 * k.q_bytes, kt, k.lane, b);
	query_load<NT>(k.q + QUERY_BF16_REST * k.q_bytes, kt, k.lane, b_rest);
	UNROLL
	for (uint32_t n = 0; n < NT; n++) {
		mma_bf16(s.c[n], a, b[n]);
		mma_bf16(s.c[n], rest, b[n]);
		mma_bf16(s.c[n], a, b_rest[n]);
	}
}

/* Scores of the 16 tokens; @tb: its pages hold keys before RoPE. */
template <uint32_t DIM, uint32_t NT, class C>
DEVICE void rows_product(C c, const struct keys &k, const struct rows &r,
			 const struct kv_tables *tb, uint32_t page,
			 struct product<NT> &s)
{
	NO_UNROLL
	for (uint32_t kt = 0; kt < DIM / 32; kt++) {
		float x[2][8];

		keys_tile<DIM>(c, r, kt, x[0]);
		keys_tile<DIM>(c, r, kt + DIM / 32, x[1]);
		if (tb)
			keys_turn<DIM>(tb, page, k.first + r.m * 16, kt, k.lane,
				       x);
		UNROLL
		for (uint32_t h = 0; h < 2; h++)
			tile_product<NT>(k, kt + h * (DIM / 32), x[h], s);
	}
}

/* Scores of a stage whose page is number @page. */
template <uint32_t DIM, uint32_t NT, class C>
DEVICE void stage_scores(C c, const struct table &t,
			 const struct kv_tables *tb,
			 const struct page_layout *l, const struct keys &k,
			 uint32_t page, struct product<NT> *s)
{
	struct outliers o = { nullptr, 0, 0 };
	struct rows r;

	r.channels = t.channels;
	r.tile = t.tile;
	r.bricks = bricks_of(k.format, k.codes, k.tokens * (DIM / 4), k.lane,
			     false);
	if (C::BITS < 16) {
		lut_load<3>(r.lut.p, t.k_lut);
		o = outliers_of<DIM>(k.meta, l->page_tokens, k.first * DIM);
	}
	UNROLL
	for (uint32_t m = 0; m < STAGE_TILES; m++) {
		product_zero(s[m]);
		if (m * 16 >= k.tokens)
			continue;
		if (C::BITS < 16) {
			tile_clear<DIM>(t.tile, k.lane);
			outliers_add<DIM>(o, (k.first + m * 16) * DIM, false,
					  t.tile, k.lane);
		}
		r.m = m;
		rows_product<DIM, NT>(c, k, r, tb, page, s[m]);
	}
}

/* keys_scores() of the family; @pos is the stage's. */
template <uint32_t DIM, uint32_t NT>
DEVICE void table_scores(const struct table &t, const struct kv_attend_args *a,
			 const struct page_layout *l, const struct keys &k,
			 uint32_t pos, struct product<NT> *s)
{
	const struct kv_tables *tb =
		l->rope_order == KVD_ROPE_PRE ? a->tables : nullptr;
	const uint32_t page = pos / l->page_tokens;

	switch (format_bits(k.format)) {
	case 16:
		if (k.format == KVD_F16)
			stage_scores<DIM, NT>(codes_f16(), t, tb, l, k, page,
					      s);
		else
			stage_scores<DIM, NT>(codes_bf16(), t, tb, l, k, page,
					      s);
		break;
	case 4:
		stage_scores<DIM, NT>(codes_4(), t, tb, l, k, page, s);
		break;
	case 3:
		stage_scores<DIM, NT>(codes_3(), t, tb, l, k, page, s);
		break;
	default:
		stage_scores<DIM, NT>(codes_2(), t, tb, l, k, page, s);
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
	struct lut_f16 lut;
	uint32_t m[2], scale[2];

	lut_load<2>(lut.p, t.v_lut);
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

			lut_tile(c, lut,
				 tile_select(c, w.w[j], w.high[j / 2], j, i),
				 a);
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
