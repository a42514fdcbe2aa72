/* SPDX-License-Identifier: Apache-2.0 */
/*
 * name.c - names: the formula, and that every input counts.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#define XXH_FORCE_MEMORY_ACCESS 0 /* by memcpy: no aliasing */
#define XXH_INLINE_ALL
#include <xxhash.h>
#include "proto/name.h"

static struct name_key key_of(uint8_t first)
{
	uint8_t bytes[NAME_KEY_BYTES] = { first, 2, 3 };
	struct name_key key;

	name_key_init(&key, bytes);
	return key;
}

/* name.h's words, done the long way: one buffer, one call. */
static void test_formula(void **state)
{
	struct name_key key = key_of(1);
	struct name parent = { "parent" }, extra = { "extra" };
	uint32_t tokens[300];
	uint8_t buf[32 + sizeof(tokens)];
	static const uint32_t lengths[] = { 1, 32, 64, 127, 128, 129, 300 };

	for (uint32_t i = 0; i < 300; i++)
		tokens[i] = i * 2654435761u;
	memcpy(buf, parent.b, 16);
	memcpy(buf + 16, extra.b, 16);
	for (uint32_t i = 0; i < 1200; i++)
		buf[32 + i] = (uint8_t)(tokens[i / 4] >> 8 * (i % 4));
	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		struct name n = name_block(&key, &parent, &extra, tokens,
					   lengths[i]);
		XXH128_canonical_t want;

		XXH128_canonicalFromHash(
			&want, XXH3_128bits_withSecret(buf, 32 + 4 * lengths[i],
						       key.secret,
						       sizeof(key.secret)));
		assert_memory_equal(n.b, want.digest, 16);
	}
}

static void test_every_input_counts(void **state)
{
	struct name_key key = key_of(1), other = key_of(9);
	struct name zero = { { 0 } }, one = { { 1 } };
	uint32_t tokens[33] = { 5, 6, 7 };
	struct name base = name_block(&key, &zero, &zero, tokens, 32);
	struct name n[5];

	n[0] = name_block(&other, &zero, &zero, tokens, 32);
	n[1] = name_block(&key, &one, &zero, tokens, 32);
	n[2] = name_block(&key, &zero, &one, tokens, 32);
	n[3] = name_block(&key, &zero, &zero, tokens, 33);
	tokens[31] = 1;
	n[4] = name_block(&key, &zero, &zero, tokens, 32);
	for (int i = 0; i < 5; i++) {
		assert_false(name_equal(&n[i], &base));
		for (int j = 0; j < i; j++)
			assert_false(name_equal(&n[i], &n[j]));
	}
	tokens[31] = 0;
	n[0] = name_block(&key, &zero, &zero, tokens, 32);
	assert_true(name_equal(&n[0], &base));
	assert_true(name_hash(&n[0]) == name_hash(&base));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_formula),
		cmocka_unit_test(test_every_input_counts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
