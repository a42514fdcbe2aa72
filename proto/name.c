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

/* Feeds tokens as little-endian u32, a page's worth at a time. */
static void name_tokens(XXH3_state_t *st, const uint32_t *tokens, uint32_t nr)
{
	uint32_t le[128];

	while (nr > 0) {
		uint32_t n = nr < 128 ? nr : 128;

		for (uint32_t i = 0; i < n; i++)
			le[i] = htole32(tokens[i]);
		XXH3_128bits_update(st, le, n * sizeof(le[0]));
		tokens += n;
		nr -= n;
	}
}

struct name name_block(const struct name_key *key, const struct name *parent,
		       const struct name *extra, const uint32_t *tokens,
		       uint32_t nr)
{
	XXH3_state_t st;
	XXH128_canonical_t out;
	struct name n;

	XXH3_128bits_reset_withSecret(&st, key->secret, sizeof(key->secret));
	XXH3_128bits_update(&st, parent->b, sizeof(parent->b));
	XXH3_128bits_update(&st, extra->b, sizeof(extra->b));
	name_tokens(&st, tokens, nr);
	XXH128_canonicalFromHash(&out, XXH3_128bits_digest(&st));
	memcpy(n.b, out.digest, sizeof(n.b));
	return n;
}
