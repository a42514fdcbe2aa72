// SPDX-License-Identifier: Apache-2.0
/* tiers.c - the tiers behind a pool, one behind the other. */
#include "daemon/tier/tiers.h"

#include <errno.h>
#include <stdlib.h>

struct tiers {
	uint32_t nr;
	struct tier *at[TIERS_MAX];
};

/* The first gives it up: the next may have it. */
static void tiers_spill(void *ctx, const struct tier_key *key,
			struct tier_page *page, const struct tier_use *use)
{
	struct tiers *t = ctx;

	if (t->nr > 1)
		t->at[1]->ops->put(t->at[1], key, page, use);
}

int tiers_new(const struct tiers_config *cfg, const struct tier_say *say,
	      void (*wake)(void *ctx), void *wake_ctx, struct tiers **ret)
{
	bool file = cfg->file && cfg->file[0];
	struct tiers *t;
	int r = 0;

	*ret = NULL;
	if (!cfg->memory_bytes && !file)
		return 0;
	t = calloc(1, sizeof(*t));
	if (!t)
		return -ENOMEM;
	if (cfg->memory_bytes) {
		t->at[0] = tier_memory_new(cfg->memory_bytes, tiers_spill, t);
		r = t->at[0] ? 0 : -ENOMEM;
		t->nr += t->at[0] != NULL;
	}
	if (r == 0 && file)
		r = tier_file_new(cfg->file, cfg->file_bytes, say, wake,
				  wake_ctx, &t->at[t->nr]);
	if (r < 0) {
		tiers_free(t);
		return r;
	}
	t->nr += file;
	*ret = t;
	return 0;
}

void tiers_free(struct tiers *t)
{
	if (!t)
		return;
	for (uint32_t i = 0; i < t->nr; i++)
		t->at[i]->ops->free(t->at[i]);
	free(t);
}

bool tiers_has(const struct tiers *t, const struct tier_key *key)
{
	for (uint32_t i = 0; i < t->nr; i++)
		if (t->at[i]->ops->has(t->at[i], key))
			return true;
	return false;
}

bool tiers_take(const struct tiers *t)
{
	return t->at[0]->ops->takes(t->at[0]);
}

bool tiers_renew(struct tiers *t, const struct tier_key *key,
		 const struct tier_use *use)
{
	for (uint32_t i = 0; i < t->nr; i++)
		if (t->at[i]->ops->renew(t->at[i], key, use))
			return true;
	return false;
}

void tiers_put(struct tiers *t, const struct tier_key *key,
	       struct tier_page *page, const struct tier_use *use)
{
	t->at[0]->ops->put(t->at[0], key, page, use);
}

void tiers_get(struct tiers *t, const struct tier_key *key,
	       struct tier_get *get)
{
	for (uint32_t i = 0; i < t->nr; i++) {
		if (!t->at[i]->ops->has(t->at[i], key))
			continue;
		t->at[i]->ops->get(t->at[i], key, get);
		return;
	}
	get->done(get, NULL);
}

/* One after the other: what one gives up the next may have. */
bool tiers_forget(struct tiers *t, uint64_t origin, uint32_t max,
		  struct tier_forgot *ret)
{
	uint64_t end = ret->pages + max;

	for (uint32_t i = 0; i < t->nr; i++) {
		const struct tier_ops *ops = t->at[i]->ops;

		if (max && ret->pages == end)
			return true;
		if (ops->forget(t->at[i], origin,
				(uint32_t)(end - ret->pages), ret))
			return true;
	}
	return false;
}

void tiers_tick(struct tiers *t, uint64_t now_ns)
{
	for (uint32_t i = 0; i < t->nr; i++)
		t->at[i]->ops->tick(t->at[i], now_ns);
}

void tiers_reap(struct tiers *t)
{
	for (uint32_t i = 0; i < t->nr; i++)
		if (t->at[i]->ops->reap)
			t->at[i]->ops->reap(t->at[i]);
}

void tiers_flush(struct tiers *t)
{
	for (uint32_t i = 0; i < t->nr; i++)
		if (t->at[i]->ops->flush)
			t->at[i]->ops->flush(t->at[i]);
}

bool tiers_stat(const struct tiers *t, uint32_t i, struct tier_stat *ret)
{
	if (!t || i >= t->nr)
		return false;
	t->at[i]->ops->stat(t->at[i], ret);
	return true;
}
