// SPDX-License-Identifier: Apache-2.0
/*
 * away.c - what a client held whose connection broke, until it comes back.
 */
#include <stdlib.h>
#include "daemon/mem/mem.h"
#include "daemon/net/away.h"
#include "daemon/net/state.h"

/* Ended in one tick: each is a step of mem. */
#define AWAY_ENDS 8

struct away {
	TAILQ_ENTRY(away) link;
	struct mem_client *mem;
	struct proc *proc;
	uint32_t series;
	uint64_t since_ms;	/* uv_now() */
};

bool away_may_begin(const struct client *c)
{
	struct mem_client_stat st;

	mem_client_stat(c->mem, &st);
	return c->series && st.held_pages && c->server->cfg.grace_ms &&
	       c->proc->nr_away < AWAY_MAX_OF_PROC;
}

bool away_begin(struct client *c)
{
	struct server *s = c->server;
	struct away *a;

	if (!away_may_begin(c) || !mem_client_disown(c->mem))
		return false;
	a = malloc(sizeof(*a));
	if (!a)
		return false;
	a->mem = c->mem;
	a->proc = c->proc;
	a->series = c->series;
	a->since_ms = uv_now(&s->loop);
	a->proc->nr_away++;
	TAILQ_INSERT_TAIL(&s->away, a, link);
	c->mem = NULL;
	c->proc = NULL;
	return true;
}

static void away_free(struct server *s, struct away *a, enum mem_end end)
{
	struct proc *p = a->proc;

	TAILQ_REMOVE(&s->away, a, link);
	p->nr_away--;
	mem_client_free(a->mem, end);
	free(a);
	proc_put(p, true);
}

void away_end(struct server *s, const struct proc *p, uint32_t series)
{
	unsigned left = p->nr_away;
	struct away *a, *next;

	for (a = TAILQ_FIRST(&s->away); a && left; a = next) {
		next = TAILQ_NEXT(a, link);
		if (a->proc != p)
			continue;
		left--;
		if (!series || a->series == series)
			away_free(s, a, series ? MEM_END_BYE :
						 MEM_END_UNKNOWN);
	}
}

void away_tick(struct server *s)
{
	uint64_t now = uv_now(&s->loop);

	for (int i = 0; i < AWAY_ENDS; i++) {
		struct away *a = TAILQ_FIRST(&s->away);

		if (!a || now - a->since_ms < s->cfg.grace_ms)
			return;
		away_free(s, a, MEM_END_UNKNOWN);
	}
}

void away_fini(struct server *s)
{
	struct away *a;

	while ((a = TAILQ_FIRST(&s->away))) {
		TAILQ_REMOVE(&s->away, a, link);
		free(a);
	}
}
