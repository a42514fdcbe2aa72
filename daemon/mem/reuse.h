/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reuse.h - how often pages are used again, and when: learned, by kind.
 *
 * A page waits from the time it is released until it is used again, in ticks
 * (pages taken by anybody). Kinds are the number of uses a page has seen. For
 * every kind there is a histogram of the ages at which waits ended, and how
 * many waits there were; old counts fade. A wait that outlives its page ends
 * when the same name is published again: so giving pages up early does not
 * hide that they would have been used.
 *
 * What a page of an age is worth is the best it can do: the largest, over all
 * times one might go on keeping it, of uses to be expected divided by the
 * ticks it is expected to take up its room. (Gittins' index of the wait, as in
 * "Least Hit Density", Beckmann et al., NSDI 2018, which has the density over
 * the whole rest of a lifetime.) A conversation's next turn comes a minute
 * after the last, so a page that has waited half a minute is worth more than
 * a new one, and one that has waited ten minutes less than either.
 */
#ifndef DAEMON_MEM_REUSE_H
#define DAEMON_MEM_REUSE_H

#include <stdint.h>

#define REUSE_KINDS   4u  /* 0, 1, 2, and more uses */
#define REUSE_OCTAVES 9u  /* from a 16th of the pool's pages to 32 times it */
#define REUSE_STEPS   4u  /* an octave */
#define REUSE_AGES    (REUSE_OCTAVES * REUSE_STEPS + 1)

struct reuse {
	double unit;		/* ticks of the first age */
	double uses[REUSE_KINDS][REUSE_AGES];
	double waits[REUSE_KINDS];
	double worth[REUSE_KINDS][REUSE_AGES + 1]; /* the last: too old */
	uint64_t last_ticks;	/* what was asked for last, and */
	uint32_t last_age;	/* what that is */
};

void reuse_init(struct reuse *r, uint64_t nr_pages);

/* Which of the ages @ticks is; REUSE_AGES: older than any. */
uint32_t reuse_age(const struct reuse *r, uint64_t ticks);

/* A wait begins, or ends in a use after @ticks. */
void reuse_wait(struct reuse *r, uint32_t kind);
void reuse_use(struct reuse *r, uint32_t kind, uint64_t ticks);

/* Lets what is known fade a little, and makes worth[] of it. */
void reuse_learn(struct reuse *r);

#endif
