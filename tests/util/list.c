/* SPDX-License-Identifier: Apache-2.0 */
/*
 * list.c - lists keep their order, and sort stably.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdlib.h>
#include "daemon/util/list.h"

struct item {
	struct list link;
	int key;
	int nr;
};

static void test_order(void **state)
{
	struct list head;
	struct item a, b, c;

	list_init(&head);
	assert_true(list_empty(&head));
	list_add_tail(&head, &b.link);
	list_add_tail(&head, &c.link);
	list_add(&head, &a.link);
	assert_ptr_equal(list_first(&head, struct item, link), &a);
	assert_ptr_equal(a.link.next, &b.link);
	list_del(&b.link);
	list_del(&b.link);
	assert_true(list_empty(&b.link));
	list_move_tail(&head, &a.link);
	assert_ptr_equal(list_first(&head, struct item, link), &c);
	list_for_each_safe(pos, &head)
		list_del(pos);
	assert_true(list_empty(&head));
}

static bool before(const struct list *a, const struct list *b)
{
	return list_entry(a, struct item, link)->key <
	       list_entry(b, struct item, link)->key;
}

static void sort_and_check(int nr, int keys)
{
	struct item *items = calloc((size_t)nr + 1, sizeof(*items));
	const struct item *last = NULL;
	struct list head;
	int seen = 0;

	list_init(&head);
	for (int i = 0; i < nr; i++) {
		items[i].key = rand() % keys;
		items[i].nr = i;
		list_add_tail(&head, &items[i].link);
	}
	list_sort(&head, before);
	list_for_each(pos, &head) {
		const struct item *it = list_entry(pos, struct item, link);

		assert_ptr_equal(pos->next->prev, pos);
		if (last) {
			assert_true(last->key <= it->key);
			assert_true(last->key < it->key || last->nr < it->nr);
		}
		last = it;
		seen++;
	}
	assert_int_equal(seen, nr);
	free(items);
}

static void test_sort(void **state)
{
	for (int nr = 0; nr < 200; nr++) {
		sort_and_check(nr, 10);
		sort_and_check(nr, 100000);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_order),
		cmocka_unit_test(test_sort),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
