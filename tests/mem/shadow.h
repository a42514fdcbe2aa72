/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shadow.h - a space's blocks, known from what is told of it alone.
 *
 * A shadow is empty when its space is; every change is done to it. It must
 * always be what the index is: names, parents, tokens, classes.
 */
#ifndef TESTS_MEM_SHADOW_H
#define TESTS_MEM_SHADOW_H

#include "tests/mem/fixture.h"

#define SHADOW_BLOCKS 1024
#define SHADOW_TOKENS 64u

struct shadow_block {
	struct name name, parent, extra;
	uint32_t depth;
	uint32_t classes;
	uint32_t tokens[SHADOW_TOKENS];
};

struct shadow {
	struct mem_space *space;
	uint32_t nr;
	uint32_t nr_stored, nr_removed; /* so often was it told */
	bool gone;
	struct shadow_block blocks[SHADOW_BLOCKS];
};

/* Watches @s, whose index is taken over first. */
struct shadow *shadow_new(struct mem_space *s);

/* Frees it, and watches no more unless the space has gone. */
void shadow_free(struct shadow *sh);

/* mem_ops.changed of the fixture. */
void shadow_change(void *ctx, void *watch, const struct mem_change *what);

/* Aborts the test where it is not what the index is. */
void shadow_check(const struct shadow *sh);

/* Its entry of that name, or NULL. */
struct shadow_block *shadow_find(struct shadow *sh, const struct name *name);

#endif
