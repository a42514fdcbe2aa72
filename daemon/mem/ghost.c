/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ghost.c - names of pages that were given up, most of the newest so many.
 */
#include "daemon/mem/ghost.h"

#include <stdlib.h>

static struct ghosts *ghosts_new(struct list *all, uint32_t page_bytes,
				 uint64_t max)
{
	struct ghosts *g = calloc(1, sizeof(*g));
	uint64_t lines = (max + GHOST_LINE - 1) / GHOST_LINE;

	if (!g)
		return NULL;
	g->page_bytes = page_bytes;
	g->nr_lines = lines < 1 ? 1 : lines < UINT32_MAX ? (uint32_t)lines :
							   UINT32_MAX;
	g->all = calloc(g->nr_lines, GHOST_LINE * sizeof(*g->all));
	if (!g->all) {
		free(g);
		return NULL;
	}
	list_add_tail(all, &g->link);
	return g;
}

struct ghosts *ghosts_get(struct list *all, uint32_t page_bytes, uint64_t max)
{
	struct ghosts *g = NULL;

	list_for_each(pos, all) {
		g = list_entry(pos, struct ghosts, link);
		if (g->page_bytes == page_bytes)
			break;
		g = NULL;
	}
	if (!g)
		g = ghosts_new(all, page_bytes, max);
	if (g)
		g->refs++;
	return g;
}

void ghosts_put(struct ghosts *g)
{
	if (--g->refs)
		return;
	list_del(&g->link);
	free(g->all);
	free(g);
}

uint64_t ghosts_salt(struct ghosts *g)
{
	return g->salt += 0x9e3779b97f4a7c15; /* 2^64 / the golden ratio */
}

/* Names are hashes: the upper half chooses the line, the lower is the tag. */
static struct ghost *ghost_line(const struct ghosts *g, uint64_t name)
{
	return g->all + ((name >> 32) * g->nr_lines >> 32) * GHOST_LINE;
}

static uint32_t ghost_tag(uint64_t name)
{
	return (uint32_t)name | 1;
}

static uint32_t ghost_age(const struct ghost *g, uint64_t now)
{
	return ((uint32_t)now - g->at / GHOST_KINDS) % GHOST_AGES;
}

/* Where @tag is, else a free place, else that of the oldest. */
static struct ghost *ghost_place(struct ghost *line, uint32_t tag, uint64_t now)
{
	struct ghost *to = line;

	for (uint32_t i = 0; i < GHOST_LINE; i++) {
		if (line[i].tag == tag)
			return &line[i];
		if (to->tag && (!line[i].tag ||
				ghost_age(&line[i], now) > ghost_age(to, now)))
			to = &line[i];
	}
	return to;
}

void ghost_add(struct ghosts *g, uint64_t name, uint64_t stamp, uint32_t kind,
	       uint64_t now)
{
	uint32_t tag = ghost_tag(name);
	struct ghost *to = ghost_place(ghost_line(g, name), tag, now);

	to->tag = tag;
	to->at = (uint32_t)(stamp % GHOST_AGES) * GHOST_KINDS + kind;
}

bool ghost_take(struct ghosts *g, uint64_t name, uint64_t now,
		uint64_t *ret_age, uint32_t *ret_kind)
{
	struct ghost *line = ghost_line(g, name);

	for (uint32_t i = 0; i < GHOST_LINE; i++) {
		if (line[i].tag != ghost_tag(name))
			continue;
		*ret_age = ghost_age(&line[i], now);
		*ret_kind = line[i].at % GHOST_KINDS;
		line[i].tag = 0;
		return true;
	}
	return false;
}
