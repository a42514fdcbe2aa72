/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pin.h - prefixes that stay though nobody holds them, for a time.
 *
 * A pin ends at a block and covers its whole prefix. A page it covers has one
 * hold more, however many pins cover it: so it is SEALED and, as anything
 * held, given up for nobody. Of exact copies (page.h) only those of the block
 * where a pin ends are kept.
 *
 * Blocks count: one for each pin that ends there, one for each block that
 * follows and has a count. So an end is found from its end: it takes its one
 * from the block; where that leaves none the block's pages are let go of, and
 * it goes on with the parent. That can stop after any block. What is being
 * ended so is in mem.pins.ending, and no pin to anybody any more.
 *
 * Pins stand in a wheel by the second in which their time is over. They are
 * this process' alone: after a restart what they covered is CACHED.
 */
#ifndef DAEMON_MEM_PIN_H
#define DAEMON_MEM_PIN_H

#include "daemon/mem/tenant.h"

/* Blocks of a pin, at most: bounds the time of pinning. */
#define PIN_MAX_BLOCKS 16384u

/* Blocks let go of in one step. */
#define PIN_STEP_BLOCKS 1024u

struct page;

struct mem_pin {
	struct list link;	/* tenant.pins, or mem.pins.ending */
	struct list due;	/* of the wheel; alone when it is ending */
	struct mem_space *space;
	uint32_t block;
	uint32_t root;		/* the first block of its prefix */
	uint32_t blocks;	/* covered, those of other pins too, */
	uint32_t pages;		/* when it was last pinned */
	uint64_t bytes;
	uint64_t until_ms;
};

/* Also where the parent came later than @block. 0: it is the first, or its
 * parent is not in the index. */
uint32_t pin_block_up(const struct mem_space *s, uint32_t block);

/* Is @p, of a block that pins cover, of which one ends there if @end, pinned
 * by them? */
bool pin_wants(const struct page *p, bool covered, bool end);

void pins_init(struct pins *pins);

/* Forgets all, with the pool. */
void pins_fini(struct mem *m);

/* What all pages of @t that are pinned may have in bytes. */
uint64_t pins_max(const struct tenant *t);

/* Lets go of what was ended, *@budget blocks of it. Return: there is more. */
bool pins_undo(struct mem *m, uint32_t *budget);

/* A step of that; and ends the oldest pins of tenants that may not have as
 * much. Return: there is more. */
bool pins_trim(struct mem *m);

/* Ends all pins of @s. Return: how many. */
uint32_t pins_end_space(struct mem_space *s);

/* Is something of @s still to be let go of? */
bool pins_are_ending(const struct mem_space *s);

/* The walker's part. Return: what does not add up, or NULL. */
const char *pins_verify(const struct mem *m);

#endif
