/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ghost.c - names of pages that were given up, the newest so many.
 */
#include "daemon/mem/ghost.h"

#include <errno.h>
#include <stdlib.h>

int ghost_init(struct ghost *g, uint32_t max)
{
	*g = (struct ghost){ .max = max };
	g->entries = calloc(max, sizeof(*g->entries));
	return g->entries ? 0 : -ENOMEM;
}

void ghost_fini(struct ghost *g)
{
	map_fini(&g->last);
	free(g->entries);
}

/* The entry that is to be written over goes, and its name if it is its last. */
static void ghost_forget(struct ghost *g)
{
	uint64_t name = g->entries[g->nr % g->max].name;
	const uint64_t *last = map_get(&g->last, name);

	if (g->nr >= g->max && last && *last == g->nr - g->max)
		map_del(&g->last, name);
}

void ghost_add(struct ghost *g, uint64_t name, uint64_t value)
{
	uint64_t *last;

	ghost_forget(g);
	last = map_get(&g->last, name);
	if (last)
		*last = g->nr;
	else
		map_put(&g->last, name, g->nr); /* or it is not remembered */
	g->entries[g->nr++ % g->max] = (struct ghost_entry){ name, value };
}

bool ghost_take(struct ghost *g, uint64_t name, uint64_t *ret_value)
{
	const uint64_t *last = map_get(&g->last, name);

	if (!last)
		return false;
	*ret_value = g->entries[*last % g->max].value;
	map_del(&g->last, name);
	return true;
}
