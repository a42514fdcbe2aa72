/* SPDX-License-Identifier: Apache-2.0 */
/*
 * list.c - sorting a list: bottom-up merges, no memory.
 */
#include "daemon/util/list.h"

/* Merges two chains linked by next and ended by NULL; @a wins ties. */
static struct list *list_merge(struct list *a, struct list *b,
			       bool (*before)(const struct list *,
					      const struct list *))
{
	struct list *first = NULL;
	struct list **link = &first;

	while (a && b) {
		struct list **from = before(b, a) ? &b : &a;

		*link = *from;
		*from = (*from)->next;
		link = &(*link)->next;
	}
	*link = a ? a : b;
	return first;
}

void list_sort(struct list *head,
	       bool (*before)(const struct list *a, const struct list *b))
{
	struct list *runs[64] = { NULL }; /* runs[i] has 2^i nodes */
	struct list *node = head->next;
	struct list *sorted = NULL;

	while (node != head) {
		struct list *next = node->next;
		size_t i = 0;

		node->next = NULL;
		for (; runs[i]; i++) {
			node = list_merge(runs[i], node, before);
			runs[i] = NULL;
		}
		runs[i] = node;
		node = next;
	}
	for (size_t i = 0; i < 64; i++)
		if (runs[i])
			sorted = list_merge(runs[i], sorted, before);
	list_init(head);
	while (sorted) {
		struct list *next = sorted->next;

		list_add_tail(head, sorted);
		sorted = next;
	}
}
