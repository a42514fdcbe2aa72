// SPDX-License-Identifier: Apache-2.0
/*
 * tiers.c - the tiers behind the pool: begun, told of, ended.
 *
 * One that is of no use is no reason not to start, nor to end: what it would
 * have had is missed.
 */
#include "daemon/net/tiers.h"

#include "daemon/mem/tiers.h"
#include "daemon/net/log.h"
#include "daemon/net/state.h"
#include "daemon/tier/tiers.h"

static void on_say(void *ctx, enum tier_news news, const char *what)
{
	if (news == TIER_GOOD)
		log_line(LOG_NOTICE, "tier: %s: pages go there again", what);
	else if (news == TIER_OWES)
		log_line(LOG_WARNING, "tier: %s: could not be told what kvctl "
			 "drop has given up, which may be found again: remove "
			 "it", what);
	else
		log_line(LOG_WARNING, "tier: %s: goes on without, and tries it "
			 "again", what);
}

/* On the thread of a tier. */
static void on_tier(void *ctx)
{
	struct server *s = ctx;

	uv_async_send(&s->tier_wake);
}

static void on_wake(uv_async_t *wake)
{
	struct server *s = wake->data;

	if (s->tiers)
		tiers_reap(s->tiers);
}

static uint64_t file_bytes(const struct server_config *cfg)
{
	return cfg->tier_file_bytes ? cfg->tier_file_bytes :
				      4 * cfg->pool_bytes;
}

uint64_t net_tiers_bytes(const struct server_config *cfg)
{
	return cfg->tier_memory + (cfg->tier_file[0] ? file_bytes(cfg) : 0);
}

int net_tiers_init(struct server *s)
{
	static const struct tier_say say = { .say = on_say };
	const struct server_config *cfg = &s->cfg;
	struct tiers_config tc = { .memory_bytes = cfg->tier_memory,
				   .file = cfg->tier_file,
				   .file_bytes = file_bytes(cfg) };
	int r;

	r = uv_async_init(&s->loop, &s->tier_wake, on_wake);
	if (r < 0)
		return r;
	s->tier_wake.data = s;
	r = tiers_new(&tc, &say, on_tier, s, &s->tiers);
	if (r < 0)
		return r;
	if (s->tiers)
		mem_set_tiers(s->mem, s->tiers);
	return 0;
}

void net_tiers_fini(struct server *s)
{
	if (s->mem)
		mem_set_tiers(s->mem, NULL);
	tiers_free(s->tiers);
	s->tiers = NULL;
}

void net_tiers_tick(struct server *s)
{
	if (s->tiers)
		tiers_tick(s->tiers, uv_hrtime());
}
