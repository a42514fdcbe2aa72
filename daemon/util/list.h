/* SPDX-License-Identifier: Apache-2.0 */
/*
 * list.h - intrusive doubly linked lists.
 *
 * A list is a ring through its head. A node that is in no list points at
 * itself, so list_del() may be called twice and list_empty() asks of a node
 * whether it is linked.
 */
#ifndef DAEMON_UTIL_LIST_H
#define DAEMON_UTIL_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct list {
	struct list *prev;
	struct list *next;
};

static inline void list_init(struct list *l)
{
	l->prev = l;
	l->next = l;
}

static inline bool list_empty(const struct list *l)
{
	return l->next == l;
}

/* Puts @node right before @pos; before the head is at the tail. */
static inline void list_insert(struct list *pos, struct list *node)
{
	node->prev = pos->prev;
	node->next = pos;
	pos->prev->next = node;
	pos->prev = node;
}

static inline void list_add(struct list *head, struct list *node)
{
	list_insert(head->next, node);
}

static inline void list_add_tail(struct list *head, struct list *node)
{
	list_insert(head, node);
}

static inline void list_del(struct list *node)
{
	node->prev->next = node->next;
	node->next->prev = node->prev;
	list_init(node);
}

static inline void list_move_tail(struct list *head, struct list *node)
{
	list_del(node);
	list_add_tail(head, node);
}

/* Moves all of @from behind what @head has. */
static inline void list_splice_tail(struct list *head, struct list *from)
{
	if (list_empty(from))
		return;
	from->next->prev = head->prev;
	head->prev->next = from->next;
	from->prev->next = head;
	head->prev = from->prev;
	list_init(from);
}

#define list_entry(ptr, type, member) \
	((type *)(void *)((char *)(ptr) - offsetof(type, member)))

#define list_first(head, type, member) list_entry((head)->next, type, member)

#define list_for_each(pos, head) \
	for (struct list *pos = (head)->next; pos != (head); pos = pos->next)

/* @pos may be unlinked in the body, its successor may not. */
#define list_for_each_safe(pos, head)                                        \
	for (struct list *pos = (head)->next, *pos##_next = pos->next;       \
	     pos != (head); pos = pos##_next, pos##_next = pos->next)

/**
 * list_sort() - stable merge sort
 * @head:	list to sort
 * @before:	must @a stand before @b? False for equals.
 */
void list_sort(struct list *head,
	       bool (*before)(const struct list *a, const struct list *b));

#endif
