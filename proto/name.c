/* SPDX-License-Identifier: Apache-2.0 */
/*
 * name.c - how a prefix is named: XXH3-128 under a secret derived from a key.
 */
#include "proto/name.h"

#include <assert.h>
#include <endian.h>
#define XXH_FORCE_MEMORY_ACCESS 0 /* by memcpy: no aliasing */
#define XXH_INLINE_ALL
#include <xxhash.h>

_Static_assert(sizeof(((struct name_key *)NULL)->secret) >=
		       XXH3_SECRET_SIZE_MIN,
	       "XXH3 refuses a shorter secret");

void name_key_init(struct name_key *key, const uint8_t bytes[NAME_KEY_BYTES])
{
	XXH_errorcode e = XXH3_generateSecret(key->secret, sizeof(key->secret),
					      bytes, NAME_KEY_BYTES);

	assert(e == XXH_OK);
}

#define ROOM 128u /* tokens of the largest page */

/* Page by page, for what no page is as large as. */
static XXH128_hash_t name_long(const struct name_key *key,
			       const struct name *parent,
			       const struct name *extra,
			       const uint32_t *tokens, uint32_t nr)
{
	XXH3_state_t st;

	XXH3_128bits_reset_withSecret(&st, key->secret, sizeof(key->secret));
	XXH3_128bits_update(&st, parent->b, sizeof(parent->b));
	XXH3_128bits_update(&st, extra->b, sizeof(extra->b));
	for (uint32_t i = 0; i < nr; i++) {
		uint32_t le = htole32(tokens[i]);

		XXH3_128bits_update(&st, &le, sizeof(le));
	}
	return XXH3_128bits_digest(&st);
}

/* In one piece: a state to feed costs more than the hash of a page. */
static XXH128_hash_t name_short(const struct name_key *key,
				const struct name *parent,
				const struct name *extra,
				const uint32_t *tokens, uint32_t nr)
{
	struct {
		struct name parent, extra;
		uint32_t tokens[ROOM];
	} in;

	in.parent = *parent;
	in.extra = *extra;
	for (uint32_t i = 0; i < nr; i++)
		in.tokens[i] = htole32(tokens[i]);
	return XXH3_128bits_withSecret(&in, 2 * NAME_BYTES + 4ull * nr,
				       key->secret, sizeof(key->secret));
}

struct name name_block(const struct name_key *key, const struct name *parent,
		       const struct name *extra, const uint32_t *tokens,
		       uint32_t nr)
{
	XXH128_hash_t h = nr <= ROOM ?
			name_short(key, parent, extra, tokens, nr) :
			name_long(key, parent, extra, tokens, nr);
	XXH128_canonical_t out;
	struct name n;

	XXH128_canonicalFromHash(&out, h);
	memcpy(n.b, out.digest, sizeof(n.b));
	return n;
}
