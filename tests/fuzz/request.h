/* SPDX-License-Identifier: Apache-2.0 */
/*
 * request.h - requests out of an input: mostly valid, with fields bent.
 */
#ifndef TESTS_FUZZ_REQUEST_H
#define TESTS_FUZZ_REQUEST_H

#include <stddef.h>
#include <stdint.h>
#include "proto/name.h"
#include "tests/fuzz/bytes.h"

#define REQUEST_HANDLES 32
#define REQUEST_SPACES	4
#define REQUEST_NAMES	8

/* What replies have told, the newest of each; zeroed at first. */
struct request_state {
	uint32_t last_id;
	uint64_t handles[REQUEST_HANDLES];
	unsigned nr_handles;	/* ever */
	uint32_t spaces[REQUEST_SPACES];
	unsigned nr_spaces;
	uint8_t key[NAME_KEY_BYTES]; /* of names */
	struct name names[REQUEST_NAMES]; /* of blocks that were sent */
	unsigned nr_names;
	uint64_t serial;	/* of a space */
	uint32_t next;		/* where a step goes on */
};

/* A frame of @type into @buf, of two frames' room. Return: its bytes. */
size_t request_make(unsigned type, struct request_state *s, struct bytes *in,
		    uint8_t *buf);

/* A frame that has come: remembers what later requests may be about. */
void request_note(struct request_state *s, const uint8_t *buf, size_t size);

#endif
