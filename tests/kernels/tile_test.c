// SPDX-License-Identifier: Apache-2.0
/*
 * tile_test.c - in either order every code of a side has bits of its own, and
 * the tile order gives a lane of mma.m16n8k16 the elements of its fragments.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "kernels/page.h"

static uint32_t code_of(uint32_t bits, uint32_t t, uint32_t d)
{
	uint32_t x = (t * 1031 + d * 7 + 1) * 2654435761u;

	return x >> (32 - bits);
}

static void check_side(const struct codes *c)
{
	uint32_t bits = format_bits(c->format), t, d;
	size_t bytes = (size_t)c->tokens *
		       codes_row_bytes(c->order, c->format, c->dim);
	uint8_t *p = malloc(bytes + 1);

	assert_non_null(p);
	memset(p, 0x5a, bytes + 1);
	for (t = 0; t < c->tokens; t++)
		for (d = 0; d < c->dim; d++)
			codes_set(c, p, t, d, code_of(bits, t, d));
	for (t = 0; t < c->tokens; t++)
		for (d = 0; d < c->dim; d++)
			assert_int_equal(codes_get(c, p, t, d),
					 code_of(bits, t, d));
	assert_int_equal(p[bytes], 0x5a);
	free(p);
}

/* No two codes share a bit, and none lies outside. */
static void test_own_bits(void **state)
{
	static const uint32_t dims[] = { 32, 64, 96, 128, 256 };
	struct codes c;
	uint32_t i;

	for (c.order = 0; c.order < KVD_NR_TILE_ORDERS; c.order++)
		for (c.format = 0; c.format < KVD_NR_FORMATS; c.format++)
			for (c.is_v = 0; c.is_v < 2; c.is_v++)
				for (c.tokens = 32; c.tokens <= 128;
				     c.tokens *= 2)
					for (i = 0; i < 5; i++) {
						c.dim = dims[i];
						check_side(&c);
					}
}

/* FORMATS.md says which sides are of the same size in both orders. */
static void test_sizes(void **state)
{
	uint32_t f, dim;

	for (f = 0; f < KVD_NR_FORMATS; f++)
		for (dim = 32; dim <= KVD_MAX_DIM; dim += 32)
			assert_int_equal(
				codes_row_bytes(KVD_TILE_ROW, f, dim),
				codes_row_bytes(KVD_TILE_MMA, f, dim) +
					(format_bits(f) == 3 && dim % 64 ? 4 :
									   0));
}

static uint32_t word_at(const uint8_t *codes, uint32_t i)
{
	uint32_t word;

	memcpy(&word, codes + 4 * i, 4);
	return word;
}

/*
 * Register @r of @lane for the tile at (@m, @k) of K: as the PTX manual lists
 * fragment A of mma.m16n8k16, codes in each half.
 */
static uint32_t fragment(const struct codes *c, uint32_t m, uint32_t k,
			 uint32_t lane, uint32_t r)
{
	uint32_t row = m + lane / 4 + (r % 2 ? 8 : 0);
	uint32_t column = k + lane % 4 * 2 + (r >= 2 ? 8 : 0);
	uint32_t bits = format_bits(c->format);
	uint32_t t = c->is_v ? column : row, d = c->is_v ? row : column;
	uint32_t t1 = c->is_v ? t + 1 : t, d1 = c->is_v ? d : d + 1;

	return code_of(bits, t, d) | code_of(bits, t1, d1) << 16;
}

static uint8_t *side_make(const struct codes *c)
{
	uint32_t bits = format_bits(c->format), t, d;
	uint8_t *p = calloc(c->tokens, codes_row_bytes(c->order, c->format,
						       c->dim));

	assert_non_null(p);
	for (t = 0; t < c->tokens; t++)
		for (d = 0; d < c->dim; d++)
			codes_set(c, p, t, d, code_of(bits, t, d));
	return p;
}

/* 64 tokens, 128 channels: what the kernels load and do, word by word. */
static void test_f16_fragments(void **state)
{
	struct codes c = { KVD_TILE_MMA, KVD_F16, 0, 64, 128 };
	uint8_t *p = side_make(&c);
	uint32_t m, k, lane, r;

	for (m = 0; m < 64; m += 16)
		for (k = 0; k < 128; k += 16)
			for (lane = 0; lane < 32; lane++)
				for (r = 0; r < 4; r++)
					assert_int_equal(
						word_at(p, (m / 16 * 8 +
							    k / 16) * 128 +
								   lane * 4 + r),
						fragment(&c, m, k, lane, r));
	free(p);
}

static void check_int4(uint32_t is_v)
{
	struct codes c = { KVD_TILE_MMA, KVD_INT4, is_v, 64, 64 };
	uint8_t *p = side_make(&c);
	uint32_t m, k, lane, r, w;

	for (m = 0; m < 64; m += 16)
		for (k = 0; k < 64; k += 16)
			for (lane = 0; lane < 32; lane++)
				for (r = 0; r < 4; r++) {
					w = word_at(p, m / 16 * 128 +
							       lane * 4 + k / 16);
					w = w >> (r / 2 * 8) &
					    (r % 2 ? 0x00f000f0 : 0x000f000f);
					assert_int_equal(
						w >> (r % 2 * 4),
						fragment(&c, m, k, lane, r));
				}
	free(p);
}

static void test_int4_fragments(void **state)
{
	check_int4(0);
	check_int4(1);
}

/* 3 bits: two planes, whose codes meet at bits 0, 2, 4 and 6 of a half. */
static void test_kvarn3_fragments(void **state)
{
	static const uint32_t up[] = { 2, 1 }, down[] = { 6, 7 };
	struct codes c = { KVD_TILE_MMA, KVD_KVARN3, 0, 64, 64 };
	uint8_t *p = side_make(&c);
	uint32_t m, k, lane, r, j, lo, hi, s, i;

	for (m = 0; m < 64; m += 16)
		for (k = 0; k < 64; k += 16)
			for (lane = 0; lane < 32; lane++)
				for (r = 0; r < 4; r++) {
					i = m / 16 % 2;
					j = k / 16;
					s = 4 * i + 2 * (r % 2);
					lo = word_at(p, m / 32 * 128 +
								lane * 4 + j);
					lo = lo >> (r / 2 * 8);
					hi = word_at(p + 64 * 64 / 4,
						     m / 32 * 64 + lane * 2 +
							     j / 2);
					hi = j % 2 ? hi >> down[r / 2] :
						     hi << up[r / 2];
					lo = (lo & 0x00030003u << s) |
					     (hi & 0x00040004u << s);
					assert_int_equal(
						lo >> s,
						fragment(&c, m, k, lane, r));
				}
	free(p);
}

/* kvquant: nibbles in the order that prmt takes selectors in. */
static void test_kvquant3_fragments(void **state)
{
	struct codes c = { KVD_TILE_MMA, KVD_KVQUANT3, 1, 64, 64 };
	uint8_t *p = side_make(&c);
	uint32_t m, k, lane, r, j, lo, hi, i;

	for (m = 0; m < 64; m += 16)
		for (k = 0; k < 64; k += 16)
			for (lane = 0; lane < 32; lane++)
				for (r = 0; r < 4; r++) {
					i = m / 16 % 2;
					j = k / 16;
					lo = word_at(p, m / 32 * 128 +
								lane * 4 + j);
					lo = lo >> (2 * i) & 0x33333333;
					hi = word_at(p + 64 * 64 / 4,
						     m / 32 * 64 + lane * 2 +
							     j / 2);
					hi = hi >> (j % 2 * 2 + i) & 0x11111111;
					lo = (lo | hi << 2) >> (8 * r) & 0x77;
					lo = (lo & 7) | (lo & 0x70) << 12;
					assert_int_equal(
						lo,
						fragment(&c, m, k, lane, r));
				}
	free(p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_own_bits),
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_f16_fragments),
		cmocka_unit_test(test_int4_fragments),
		cmocka_unit_test(test_kvarn3_fragments),
		cmocka_unit_test(test_kvquant3_fragments),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
