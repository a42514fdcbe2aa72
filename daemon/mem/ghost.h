/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ghost.h - names of pages that were given up, most of the newest so many.
 *
 * All shelves of one page size share a memory, for they share the pool: what it
 * takes depends on the pool, not on the number of tenants. Each puts its own
 * salt to the names, so none is told of another's. A name has a line of eight
 * places; when all are taken, the page that was released longest ago is
 * forgotten. A ghost takes eight bytes and one look at memory.
 */
#ifndef DAEMON_MEM_GHOST_H
#define DAEMON_MEM_GHOST_H

#include <stdbool.h>
#include <stdint.h>
#include "daemon/util/list.h"

#define GHOST_LINE  8u
#define GHOST_KINDS 4u
#define GHOST_AGES  (1u << 30)	/* ages are known modulo this */

struct ghost {
	uint32_t tag;		/* of the name, never 0; 0: none is here */
	uint32_t at;		/* when it was released * GHOST_KINDS + kind */
};

struct ghosts {
	struct list link;
	uint32_t page_bytes;
	uint32_t refs;
	uint32_t nr_lines;
	uint64_t salt;		/* the last that was given out */
	struct ghost *all;	/* [nr_lines * GHOST_LINE] */
};

/**
 * ghosts_get() - the memory for @page_bytes among @all, found or made
 * @max:	ghosts there is room for, if it is made
 * Put it with ghosts_put(). What it takes it takes as names come. Return: NULL
 * when out of memory.
 */
struct ghosts *ghosts_get(struct list *all, uint32_t page_bytes, uint64_t max);
void ghosts_put(struct ghosts *g);

/* For a shelf, to be XORed to all names of it. */
uint64_t ghosts_salt(struct ghosts *g);

/* Remembers @name, whose page of @kind was released at @stamp; it is @now. */
void ghost_add(struct ghosts *g, uint64_t name, uint64_t stamp, uint32_t kind,
	       uint64_t now);

/* Forgets @name. Return: whether it was there, then with its kind and how long
 * before @now it was released. */
bool ghost_take(struct ghosts *g, uint64_t name, uint64_t now,
		uint64_t *ret_age, uint32_t *ret_kind);

#endif
