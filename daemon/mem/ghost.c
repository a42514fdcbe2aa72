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
	g->names = calloc(max, sizeof(*g->names));
	if (g->names && map_reserve(&g->values, max) == 0)
		return 0;
	ghost_fini(g);
	return -ENOMEM;
}

void ghost_fini(struct ghost *g)
{
	map_fini(&g->values);
	free(g->names);
}

/*
 * The oldest entry goes, and with it its name, unless that was taken since. A
 * name that was taken and came again goes with its first entry: too early.
 */
static bool ghost_forget(struct ghost *g, uint64_t *ret_value)
{
	uint64_t name = g->names[g->first];

	g->first = (g->first + 1) % g->max;
	g->nr--;
	return ghost_take(g, name, ret_value);
}

bool ghost_add(struct ghost *g, uint64_t name, uint64_t value,
	       uint64_t *ret_value)
{
	bool forgot = g->nr == g->max && ghost_forget(g, ret_value);
	uint64_t *old = map_get(&g->values, name);

	if (old) {
		*old = value;
		return forgot;
	}
	map_put(&g->values, name, value);
	g->names[(g->first + g->nr++) % g->max] = name;
	return forgot;
}

bool ghost_take(struct ghost *g, uint64_t name, uint64_t *ret_value)
{
	const uint64_t *v = map_get(&g->values, name);

	if (!v)
		return false;
	*ret_value = *v;
	map_del(&g->values, name);
	return true;
}
