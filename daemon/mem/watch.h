/* SPDX-License-Identifier: Apache-2.0 */
/*
 * watch.h - tells what becomes of a space's blocks, where somebody watches.
 *
 * Whoever changes an index asks s->watch first: all that it costs where nobody
 * does. What is told is the block as it is now, so that telling it twice does
 * no harm.
 */
#ifndef DAEMON_MEM_WATCH_H
#define DAEMON_MEM_WATCH_H

#include "daemon/mem/space.h"

/* Bit i: block @nr has a page of class i. */
uint32_t watch_classes(const struct mem_space *s, uint32_t nr);

/* Block @nr may have more pages than @had, the bits of before. */
void watch_given(struct mem_space *s, uint32_t nr, uint32_t had);

/* Block @nr, named @name, has lost a page; and if that was the last, itself. */
void watch_taken(struct mem_space *s, uint32_t nr, const struct name *name);

/* The space is about to be freed. */
void watch_gone(struct mem_space *s);

#endif
