/* SPDX-License-Identifier: Apache-2.0 */
/*
 * walk_tiers.c - a tier behind the pool of a random walk.
 */
#include "tests/mem/walk_tiers.h"

#include "daemon/mem/tiers.h"
#include "daemon/tier/tiers.h"

#define BLOCKS 12u

static struct tiers *tiers;
static uint64_t fetched;
static uint32_t nr_begun, nr_told;

static void on_say(void *ctx, enum tier_news news, const char *what)
{
}

static void on_wake(void *ctx)
{
}

void walk_tiers_begin(struct fx *f, uint64_t bytes)
{
	static const struct tier_say say = { .say = on_say };
	struct tiers_config cfg = { .memory_bytes = bytes };

	assert_int_equal(tiers_new(&cfg, &say, on_wake, NULL, &tiers), 0);
	mem_set_tiers(f->m, tiers);
}

void walk_tiers_leave(struct fx *f)
{
	struct mem_tiers_stat st;

	if (!tiers)
		return;
	mem_tiers_stat(f->m, &st);
	fetched += st.fetched;
	mem_set_tiers(f->m, NULL);
}

void walk_tiers_again(struct fx *f)
{
	if (tiers)
		mem_set_tiers(f->m, tiers);
}

/* All that were to come are in the index now. */
static void on_told(void *ctx, uint32_t nr)
{
	nr_told++;
	assert_true(nr <= BLOCKS);
}

void walk_tiers_fetch(struct mem_space *s, uint32_t seq, uint32_t depth,
		      bool cancel)
{
	struct name names[BLOCKS];
	struct mem_fetch *f;

	if (!tiers)
		return;
	for (uint32_t i = 0; i < BLOCKS; i++)
		names[i] = fx_name(s, seq, depth + i);
	if (!mem_fetch(s, depth, names, BLOCKS, &f))
		return;
	if (cancel) {
		mem_fetch_cancel(f);
		return;
	}
	nr_begun++;
	mem_fetch_wait(f, on_told, NULL);
}

void walk_tiers_drop(struct fx *f, struct mem_space *s)
{
	struct mem_cursor at = { 0 };
	struct mem_given g;

	do {
		assert_int_equal(mem_drop(s, &at, &g), 0);
		if (!g.pages && !g.tier_pages)
			dev_drain(f->dev); /* what is on its way */
	} while (at.block);
}

uint64_t walk_tiers_end(struct fx *f)
{
	if (!tiers)
		return 0;
	walk_tiers_leave(f);
	tiers_free(tiers);
	tiers = NULL;
	assert_true(nr_told <= nr_begun);
	return fetched;
}
