/* SPDX-License-Identifier: Apache-2.0 */
/*
 * name.h - how a prefix is named.
 *
 * A block's name is a keyed XXH3-128 of (parent's name, extra, token ids), so
 * one name stands for the whole prefix up to and including the block. extra
 * carries whatever besides tokens decides K and V (cache salt, adapter, media
 * digests), as 16 bytes the caller made. The root's parent is all zero. The
 * key is per tenant: without it nobody can craft two prefixes of one name.
 * Because a hash is not a proof, whoever uses a name to share pages compares
 * parent, extra and tokens too: a collision is a miss.
 */
#ifndef PROTO_NAME_H
#define PROTO_NAME_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define NAME_BYTES 16
#define NAME_KEY_BYTES 32

struct name {
	uint8_t b[NAME_BYTES];
};

/* A key made ready for hashing: XXH3's secret, derived from 32 bytes. */
struct name_key {
	uint8_t secret[192];
};

void name_key_init(struct name_key *key, const uint8_t bytes[NAME_KEY_BYTES]);

/**
 * name_block() - name of the block that follows @parent
 * @key:	the tenant's key
 * @parent:	name of the preceding block; all zero for the first
 * @extra:	16 bytes mixed in, all zero when there is nothing to say
 * @tokens:	token ids of the block
 * @nr:		how many, a full page of the geometry
 *
 * The hashed bytes are parent | extra | tokens as little-endian u32.
 */
struct name name_block(const struct name_key *key, const struct name *parent,
		       const struct name *extra, const uint32_t *tokens,
		       uint32_t nr);

static inline bool name_equal(const struct name *a, const struct name *b)
{
	return memcmp(a, b, sizeof(*a)) == 0;
}

static inline uint64_t name_hash(const struct name *n)
{
	uint64_t h;

	memcpy(&h, n->b, sizeof(h));
	return h;
}

#endif
