/* SPDX-License-Identifier: Apache-2.0 */
/*
 * profile_test.c - profiles to bytes and back, and bytes that are none.
 */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>
#define XXH_INLINE_ALL
#include <xxhash.h>
#include "kernels/profile.h"
#include "tests/kernels/random.h"

static const struct profile_shape shape = { 2, 3, 16, 8 };

static void fill(struct profile *p)
{
	assert_int_equal(profile_init(p, &shape), 0);
	for (uint32_t i = 0; i < PROFILE_NR_PARTS; i++) {
		uint64_t n = profile_part_floats(&shape, i);
		uint32_t dim = i == PROFILE_V_ROTATION ? 8 : 16;

		for (uint64_t k = 0; k < n; k++) {
			/* Ascending in a codebook, positive, exact in f16. */
			p->parts[i][k] = (float)(i + 1 + k % 16) / 64;
			if (i >= PROFILE_K_ROTATION)
				p->parts[i][k] = k / dim % dim == k % dim;
		}
	}
}

static uint8_t *encode(struct profile *p, size_t *ret_nr)
{
	uint8_t *bytes;

	*ret_nr = profile_bytes(p);
	bytes = malloc(*ret_nr);
	assert_non_null(bytes);
	profile_encode(p, bytes);
	return bytes;
}

/* Decodes a copy of exactly @nr bytes, so that a sanitizer sees the end. */
static int decode(const uint8_t *bytes, size_t nr)
{
	struct profile p = PROFILE_NULL;
	const char *why = NULL;
	uint8_t *copy = malloc(nr ? nr : 1);
	int err;

	memcpy(copy, bytes, nr);
	err = profile_decode(copy, nr, &p, &why);
	free(copy);
	assert_true(err == 0 || err == -EINVAL || err == -EPROTO);
	assert_int_equal(why != NULL, err != 0);
	assert_int_equal(p.digest != 0, err == 0);
	profile_fini(&p);
	return err;
}

static void test_round_trip(void **state)
{
	struct profile p, q;
	const char *why;
	size_t nr;
	uint8_t *bytes;

	fill(&p);
	bytes = encode(&p, &nr);
	assert_int_equal(profile_decode(bytes, nr, &q, &why), 0);
	assert_memory_equal(&q.shape, &shape, sizeof(shape));
	assert_true(q.digest == p.digest && q.digest != 0);
	for (uint32_t i = 0; i < PROFILE_NR_PARTS; i++)
		assert_memory_equal(q.parts[i], p.parts[i],
				    4 * profile_part_floats(&shape, i));
	p.parts[PROFILE_K_AMAX][1] += 1;
	free(bytes);
	bytes = encode(&p, &nr);
	assert_true(p.digest != q.digest);
	free(bytes);
	profile_fini(&p);
	profile_fini(&q);
}

/* Without rotations, and a model whose K serves as V. */
static void test_absent(void **state)
{
	struct profile_shape mla = { 1, 1, 24, 0 };
	struct profile p, q;
	const char *why;
	size_t nr;
	uint8_t *bytes;

	assert_int_equal(profile_init(&p, &mla), 0);
	for (int i = 0; i < 24; i++)
		p.parts[PROFILE_K_RANGE][i] = 1;
	free(p.parts[PROFILE_K_ROTATION]);
	p.parts[PROFILE_K_ROTATION] = NULL;
	bytes = encode(&p, &nr);
	assert_int_equal(profile_decode(bytes, nr, &q, &why), 0);
	assert_null(q.parts[PROFILE_K_ROTATION]);
	assert_non_null(q.parts[PROFILE_V_ROTATION]);
	free(bytes);
	profile_fini(&p);
	profile_fini(&q);
}

static void test_cut_and_flipped(void **state)
{
	struct profile p;
	size_t nr;
	uint8_t *bytes;

	fill(&p);
	bytes = encode(&p, &nr);
	assert_int_equal(decode(bytes, nr), 0);
	for (size_t i = 0; i < nr; i++)
		assert_int_equal(decode(bytes, i), -EINVAL);
	for (size_t i = 0; i < 8 * nr; i++) {
		bytes[i / 8] ^= 1 << i % 8;
		assert_int_equal(decode(bytes, nr),
				 i / 32 == 2 ? -EPROTO : -EINVAL);
		bytes[i / 8] ^= 1 << i % 8;
	}
	assert_int_equal(decode(bytes, nr), 0);
	free(bytes);
	profile_fini(&p);
}

static void rehash(uint8_t *bytes, size_t nr)
{
	uint64_t h = XXH3_64bits_withSeed(bytes + 24, nr - 24,
					  PROFILE_VERSION);

	h = h ? h : 1;
	memcpy(bytes + 16, &h, 8);
}

/* A digest that fits proves nothing: lengths and values are checked too. */
static void test_forged(void **state)
{
	struct profile p;
	size_t nr, i;
	uint8_t *bytes, *copy;
	int refused = 0;

	random_seed();
	fill(&p);
	bytes = encode(&p, &nr);
	copy = malloc(nr);
	for (i = 0; i < 20000; i++) {
		size_t cut = random_below(8) ? nr : 48 + random_below(nr - 48);
		size_t reach = random_below(2) ? 48 + 18 * 16 : cut;

		memcpy(copy, bytes, nr);
		for (int k = random_below(4); k >= 0; k--)
			copy[24 + random_below((reach < cut ? reach : cut) -
					       24)] = random_u64();
		rehash(copy, cut);
		refused += decode(copy, cut) != 0;
	}
	assert_true(refused > 10000 && refused < 20000);
	/* The header's and the table's fields, each a little off. */
	for (i = 24; i < 48 + 18 * 16; i += 4) {
		memcpy(copy, bytes, nr);
		copy[i]++;
		rehash(copy, nr);
		assert_int_equal(decode(copy, nr), -EINVAL);
	}
	free(copy);
	free(bytes);
	profile_fini(&p);
}

static void test_values(void **state)
{
	static const struct {
		enum profile_part part;
		float value;
	} bad[] = {
		{ PROFILE_K_AMAX, NAN },     { PROFILE_V_AMAX, -1 },
		{ PROFILE_K_ZERO, 1e-9f },   { PROFILE_K_RANGE, 0 },
		{ PROFILE_K_RANGE, -1 },     { PROFILE_BOOKS, 9 },
		{ PROFILE_K_ROTATION, 2 },   { PROFILE_V_ROTATION, INFINITY },
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct profile p;
		size_t nr;
		uint8_t *bytes;

		fill(&p);
		p.parts[bad[i].part][0] = bad[i].value;
		bytes = encode(&p, &nr);
		assert_int_equal(decode(bytes, nr), -EINVAL);
		free(bytes);
		profile_fini(&p);
	}
}

static void test_shapes(void **state)
{
	static const struct profile_shape bad[] = {
		{ 0, 1, 8, 8 },	    { 5000, 1, 8, 8 }, { 1, 0, 8, 8 },
		{ 1, 600, 8, 8 },   { 1, 1, 0, 8 },    { 1, 1, 12, 8 },
		{ 1, 1, 2048, 8 },  { 1, 1, 8, 4 },
	};
	struct profile p;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(profile_init(&p, &bad[i]), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_absent),
		cmocka_unit_test(test_cut_and_flipped),
		cmocka_unit_test(test_forged),
		cmocka_unit_test(test_values),
		cmocka_unit_test(test_shapes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
