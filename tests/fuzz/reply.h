/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reply.h - a daemon that answers as it should, or says anything at all.
 *
 * One space of one geometry, an index of a chain of blocks, one segment; all
 * of it in memory that the input may change, or lie about.
 */
#ifndef TESTS_FUZZ_REPLY_H
#define TESTS_FUZZ_REPLY_H

#include <kvd/kvd.h>
#include "tests/fuzz/bytes.h"

#define REPLY_TOKENS 32u	/* of a page */
#define REPLY_GROUPS 2u		/* of one layer, and of two with a window */
#define REPLY_BLOCKS 8u		/* in the index, of a chain */

/* The geometry of the space. */
struct kvd_geometry reply_geometry(void);

/* Token @i of the prompt whose blocks are in the index. */
uint32_t reply_token(uint32_t i);

/* Everything as at first; what follows is decided by @in. */
void reply_reset(struct bytes *in);

/**
 * reply_to() - takes what has come at @fd, one message, and answers it
 *
 * Return: 0; -EPIPE: it hangs up.
 */
int reply_to(int fd);

/* Something unasked, at @fd: an event, a late reply, garbage. Return: 0, or
 * -EPIPE. */
int reply_unasked(int fd);

/* Some memory of the index, the statistics or the segment changes. */
void reply_bend(void);

#endif
