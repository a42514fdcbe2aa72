/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ghost.h - names of pages that were given up, the newest so many.
 */
#ifndef DAEMON_MEM_GHOST_H
#define DAEMON_MEM_GHOST_H

#include <stdbool.h>
#include <stdint.h>
#include "daemon/util/map.h"

struct ghost {
	struct map values;	/* of names, by their 64 bits */
	uint64_t *names;	/* [max] a ring, oldest first */
	uint32_t max;
	uint32_t first, nr;
};

/* Return: 0 or -ENOMEM. All memory is reserved here, touched as names come. */
int ghost_init(struct ghost *g, uint32_t max);
void ghost_fini(struct ghost *g);

/*
 * Remembers @value of @name; the oldest is forgotten when there are max.
 * Return: the name that was forgotten had *ret_value; false: none was.
 */
bool ghost_add(struct ghost *g, uint64_t name, uint64_t value,
	       uint64_t *ret_value);

/* Forgets @name. Return: whether it was there, with *ret_value. */
bool ghost_take(struct ghost *g, uint64_t name, uint64_t *ret_value);

#endif
