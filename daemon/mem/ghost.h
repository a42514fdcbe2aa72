/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ghost.h - names of pages that were given up, the newest so many.
 */
#ifndef DAEMON_MEM_GHOST_H
#define DAEMON_MEM_GHOST_H

#include <stdbool.h>
#include <stdint.h>
#include "daemon/util/map.h"

struct ghost_entry {
	uint64_t name;
	uint64_t value;
};

struct ghost {
	struct map last;	/* name -> number of its entry */
	struct ghost_entry *entries; /* [max], number modulo max */
	uint32_t max;
	uint64_t nr;		/* entries ever */
};

/* Return: 0 or -ENOMEM. What is remembered takes memory as names come. */
int ghost_init(struct ghost *g, uint32_t max);
void ghost_fini(struct ghost *g);

/* Remembers @value of @name, until max more are added. */
void ghost_add(struct ghost *g, uint64_t name, uint64_t value);

/* Forgets @name. Return: whether it was there, with *ret_value. */
bool ghost_take(struct ghost *g, uint64_t name, uint64_t *ret_value);

#endif
