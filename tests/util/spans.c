/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spans.c - which is worth least: the order, and that spans stay few.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include "daemon/util/spans.h"

#define NR 20000u

struct thing {
	struct list link;
	uint32_t kind;
	uint64_t at;
};

static struct spans s;
static struct thing things[NR];

/* A kind more is worth as much as half the age. */
static double of(const struct spans_worth *w, uint32_t kind, uint64_t age)
{
	return (double)(1u << kind) / (double)(age + 1);
}

static const struct spans_worth worth = { of };

static void add(struct thing *t, uint32_t kind, uint64_t at)
{
	t->kind = kind;
	t->at = at;
	spans_add(&s, &t->link, kind, at, false);
}

static bool nr_more(struct list *node, void *nr)
{
	++*(unsigned *)nr;
	return true;
}

static struct thing *next(void)
{
	double w;
	struct list *node = spans_next(&s, &w);

	return node ? list_entry(node, struct thing, link) : NULL;
}

static void test_order(void **state)
{
	double w;

	spans_init(&s, 10, &worth);
	assert_null(spans_next(&s, &w));
	add(&things[0], 3, 5);
	add(&things[1], 0, 5);
	spans_add(&s, &things[2].link, 0, 5, true);
	assert_ptr_equal(next(), &things[2]);
	list_del(&things[2].link);
	assert_ptr_equal(next(), &things[1]);
	assert_false(spans_step_is_due(&s, 9));
	assert_true(spans_step_is_due(&s, 10));
	spans_step(&s, 10, &worth);
	add(&things[3], 0, 12);
	spans_step(&s, 1000, &worth);
	add(&things[4], 0, 1000);
	assert_ptr_equal(next(), &things[1]);
	list_del(&things[1].link);
	assert_ptr_equal(next(), &things[3]);
	list_del(&things[3].link);
	assert_ptr_equal(next(), &things[0]); /* 8 / 995 */
	list_del(&things[0].link);
	assert_ptr_equal(next(), &things[4]);
	list_del(&things[4].link);
	assert_null(spans_next(&s, &w));
}

/* After thousands of steps all are there, and what goes is about as old as
 * what should: spans are an eighth of their age. */
static void test_long(void **state)
{
	uint64_t now = 0, random = 1;
	unsigned nr = 0, most = 0;

	spans_init(&s, 10, &worth);
	for (uint32_t i = 0; i < NR; i++) {
		now += 5;
		if (spans_step_is_due(&s, now))
			spans_step(&s, now, &worth);
		random = random * 6364136223846793005u + 1442695040888963407u;
		add(&things[i], (uint32_t)(random >> 62), now);
		for (unsigned k = 0; k < SPANS_KINDS; k++)
			most = s.kinds[k].nr > most ? s.kinds[k].nr : most;
	}
	assert_true(most > 20 && most <= SPANS_MAX);
	assert_true(spans_walk(&s, nr_more, &nr));
	assert_int_equal(nr, NR);
	for (uint32_t i = 0; i < NR; i++) {
		struct thing *t = next();
		double is = of(&worth, t->kind, now - t->at);

		list_del(&t->link);
		t->link.next = NULL;
		if (i % 100)
			continue;
		for (uint32_t j = 0; j < NR; j++)
			if (things[j].link.next && now - things[j].at > 1000)
				assert_true(of(&worth, things[j].kind,
					       now - things[j].at) > is * .7);
	}
	assert_null(next());
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_order),
		cmocka_unit_test(test_long),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
