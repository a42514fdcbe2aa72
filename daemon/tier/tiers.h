/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tiers.h - the tiers behind a pool, one behind the other.
 *
 * What is put goes to the first; what that gives up goes to the next. What is
 * wanted comes from the first that has it.
 */
#ifndef DAEMON_TIER_TIERS_H
#define DAEMON_TIER_TIERS_H

#include "daemon/tier/tier.h"

#define TIERS_MAX 2u

struct tiers;

struct tiers_config {
	uint64_t memory_bytes;	/* 0: none */
	const char *file;	/* NULL or "": none */
	uint64_t file_bytes;
};

/**
 * tiers_new() - as @cfg says, the fastest first
 * @wake:	on a thread of a tier: tiers_reap() is to be called soon
 * Return: 0, with NULL where there is none; -ENOMEM, -EAGAIN.
 */
int tiers_new(const struct tiers_config *cfg, const struct tier_say *say,
	      void (*wake)(void *ctx), void *wake_ctx, struct tiers **ret);

/* NULL is fine. What is wanted is told NULL. */
void tiers_free(struct tiers *t);

/* As struct tier_ops. */
bool tiers_has(const struct tiers *t, const struct tier_key *key);
bool tiers_take(const struct tiers *t);
bool tiers_renew(struct tiers *t, const struct tier_key *key,
		 const struct tier_use *use);
void tiers_put(struct tiers *t, const struct tier_key *key,
	       struct tier_page *page, const struct tier_use *use);
void tiers_get(struct tiers *t, const struct tier_key *key,
	       struct tier_get *get);
bool tiers_forget(struct tiers *t, uint64_t origin, uint32_t max,
		  struct tier_forgot *ret);
void tiers_tick(struct tiers *t, uint64_t now_ns);
void tiers_reap(struct tiers *t);
void tiers_flush(struct tiers *t);

/* Of tier @i, the first being 0. Return: false: there is none. */
bool tiers_stat(const struct tiers *t, uint32_t i, struct tier_stat *ret);

#endif
