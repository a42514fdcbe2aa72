// SPDX-License-Identifier: Apache-2.0
/*
 * test_level.c - levels over time; and the ring that events of blocks are in,
 * against a plain list of all that was ever put in it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>
#include "daemon/net/blocklog.h"
#include "daemon/net/level.h"

#define S 1000000ull

/* What @l is when avg10 is @pct; has it changed? */
static bool at(struct level *l, double pct, uint64_t now_us)
{
	struct pressure p = { .avg = { pct } };

	return level_update(l, &p, now_us);
}

static void test_shares(void **state)
{
	struct level l = { LEVEL_NONE };
	uint64_t t = 1000 * S;

	assert_false(at(&l, 0, t));
	assert_false(at(&l, 4.99, t));
	assert_int_equal(l.now, LEVEL_NONE);
	assert_true(at(&l, 5, t)); /* at once */
	assert_int_equal(l.now, LEVEL_LOW);
	assert_false(at(&l, 24.9, t));
	assert_true(at(&l, 25, t));
	assert_int_equal(l.now, LEVEL_CRITICAL);
	/* Half of it keeps it up, for ever. */
	assert_false(at(&l, 12.5, t += 100 * S));
	assert_false(at(&l, 12.4, t += 1 * S));
	assert_false(at(&l, 12.4, t += 1 * S));
	assert_false(at(&l, 12.5, t += 1 * S)); /* it begins anew */
	assert_false(at(&l, 12.4, t += 1 * S));
	assert_false(at(&l, 12.4, t += 2 * S - 1));
	assert_true(at(&l, 12.4, t += 1));
	assert_int_equal(l.now, LEVEL_LOW);
	/* From critical to nothing at once, if that is what there is. */
	assert_true(at(&l, 100, t));
	assert_false(at(&l, 2.49, t += 1 * S));
	assert_true(at(&l, 2.49, t += 2 * S));
	assert_int_equal(l.now, LEVEL_NONE);
	assert_false(at(&l, 2.49, t += 10 * S));
}

static void test_short(void **state)
{
	struct level l = { LEVEL_NONE };
	uint64_t t = 1000 * S;

	level_short(&l, t);
	assert_true(at(&l, 0, t));
	assert_int_equal(l.now, LEVEL_CRITICAL);
	level_short(&l, t += S / 2);
	assert_false(at(&l, 0, t));
	assert_false(at(&l, 0, t += S - 1));
	assert_false(at(&l, 0, t += 1)); /* calm from here on */
	assert_false(at(&l, 6, t += 2 * S - 1));
	assert_true(at(&l, 6, t += 1));
	assert_int_equal(l.now, LEVEL_LOW);
	level_short(&l, t);
	assert_true(at(&l, 6, t));
	assert_int_equal(l.now, LEVEL_CRITICAL);
}

/* ---- the ring ---- */

#define EVENTS 100000u

static void put(struct blocklog *l)
{
	uint64_t nr = l->next;
	struct block_event *e = blocklog_add(l);

	memcpy(e->name.b, &nr, sizeof(nr));
	for (uint32_t i = 0; i < l->nr_tokens; i++)
		e->tokens[i] = (uint32_t)nr + i;
}

static void check(const struct blocklog *l, uint64_t nr)
{
	const struct block_event *e = blocklog_get(l, nr);

	assert_memory_equal(e->name.b, &nr, sizeof(nr));
	if (l->nr_tokens)
		assert_int_equal(e->tokens[l->nr_tokens - 1],
				 (uint32_t)nr + l->nr_tokens - 1);
}

static void test_ring(void **state)
{
	static const uint32_t tokens[] = { 0, 32, 64, 128 };

	for (int i = 0; i < 4; i++) {
		struct blocklog l;
		uint64_t read = 1, rewound = 1;

		assert_int_equal(blocklog_init(&l, tokens[i]), 0);
		assert_true((uint64_t)l.nr_slots * l.slot_bytes <=
			    BLOCKLOG_BYTES);
		while (l.next < EVENTS) {
			uint32_t nr = (uint32_t)rand() % (2 * l.nr_slots);

			while (nr--)
				put(&l);
			/* All that fits is there, and no more. */
			assert_int_equal(l.oldest,
					 l.next - rewound > l.nr_slots ?
						 l.next - l.nr_slots : rewound);
			if (read < l.oldest)
				read = l.oldest;
			for (; read < l.next; read++)
				check(&l, read);
			if (rand() % 2) {
				blocklog_rewind(&l);
				rewound = l.next;
			}
		}
		blocklog_fini(&l);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_shares),
		cmocka_unit_test(test_short),
		cmocka_unit_test(test_ring),
	};
	unsigned seed = (unsigned)time(NULL);

	printf("seed %u\n", seed);
	srand(seed);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
