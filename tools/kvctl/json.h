/* SPDX-License-Identifier: Apache-2.0 */
/*
 * json.h - pieces of the answers that several commands share.
 */
#ifndef TOOLS_KVCTL_JSON_H
#define TOOLS_KVCTL_JSON_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>
#include "proto/kvd.pb-c.h"

/* Text that a client chose: bytes that are no printable UTF-8 become '?'. */
json_t *json_safe(const char *text);

/* Sixteen hex digits: JSON's own numbers stop being exact at 2^53. */
json_t *json_hex64(uint64_t value);
json_t *json_hex(const uint8_t *bytes, size_t nr);

/* Pages or bytes by state. NULL is all zero. */
json_t *json_counts(const Kvd__Counts *c);

/* Watermarks, bytes. */
json_t *json_marks(uint64_t min, uint64_t low, uint64_t high);

/* A number or text of an answer, as the text form wants it. */
int64_t json_count(const json_t *object, const char *key);
const char *json_text(const json_t *object, const char *key);

#endif
