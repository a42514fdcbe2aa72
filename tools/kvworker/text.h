/* SPDX-License-Identifier: Apache-2.0 */
/*
 * text.h - text in, tokens out, and back.
 */
#ifndef KVWORKER_TEXT_H
#define KVWORKER_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "tools/kvworker/config.h"
#include "tools/kvworker/error.h"

#define BYTE_VOCAB 256	/* a byte model: token id = byte value ... */
#define BYTE_BOS 0	/* ... and every sequence starts with this one */

/**
 * text_read() - at most @max bytes of a file
 * @ret:	free() it; may hold any bytes, one 0 follows them
 */
int text_read(const char *path, uint64_t max, uint8_t **ret, size_t *ret_nr,
	      struct error *e);

/**
 * text_read_bytes() - a prompt for a byte model: BOS, then the file's bytes
 */
int text_read_bytes(const char *path, const struct config *c, uint32_t **ret,
		    size_t *ret_nr, struct error *e);

/* The same of @nr bytes that are here already. */
int text_bytes(const uint8_t *bytes, size_t nr, uint32_t **ret, size_t *ret_nr,
	       struct error *e);

/**
 * text_read_ids() - a prompt of decimal ids separated by white space
 */
int text_read_ids(const char *path, const struct config *c, uint32_t **ret,
		  size_t *ret_nr, struct error *e);

/* The same of a text that is here already; @name is for messages. */
int text_ids(const char *name, const char *text, size_t len, uint32_t vocab,
	     uint32_t **ret, size_t *ret_nr, struct error *e);

/**
 * text_show() - tokens as a person reads them
 *
 * A byte model's as UTF-8, with U+FFFD for what is not; any other model's as
 * ids. Return: free() it; NULL when out of memory.
 */
char *text_show(const struct config *c, const uint32_t *tokens, size_t nr);

#endif
