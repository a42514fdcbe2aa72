// SPDX-License-Identifier: Apache-2.0
/*
 * trace_kv.c - what the tokens of a trace are, and what is in their pages.
 */
#include <string.h>
#include "tools/kvbench/trace_kv.h"

#define GOLDEN 0x9e3779b97f4a7c15ull
/* Each half of a word, as f16 or as bf16, is then finite and below 2. */
#define HALVES 0x3fff3fff3fff3fffull

static uint64_t mix(uint64_t x)
{
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
	return x ^ (x >> 31);
}

static void block_tokens(uint64_t seed, uint32_t nr, uint32_t *tokens)
{
	uint64_t base = mix(seed + GOLDEN);
	uint32_t i;

	for (i = 0; i < nr; i++)
		tokens[i] = (uint32_t)((base + i * GOLDEN) >> 32);
}

void trace_tokens(const struct trace_request *r, uint32_t *tokens)
{
	uint32_t i, nr;

	for (i = 0; i < r->nr_ids; i++) {
		nr = r->input - i * TRACE_BLOCK;
		if (nr > TRACE_BLOCK)
			nr = TRACE_BLOCK;
		block_tokens(r->ids[i], nr, tokens + i * TRACE_BLOCK);
	}
	/* Ids are not negative: these are nobody's. */
	block_tokens(~(uint64_t)r->nr, r->output, tokens + r->input);
}

/* The bytes of one token; the last has what is left of the page, too. */
static void strip_write(uint8_t *to, uint32_t bytes, uint64_t seed)
{
	uint64_t word;
	uint32_t i;

	for (i = 0; i + sizeof(word) <= bytes; i += sizeof(word)) {
		word = (seed + i * GOLDEN) & HALVES;
		memcpy(to + i, &word, sizeof(word));
	}
}

void trace_kv_write(const struct page_layout *l, uint8_t *page,
                    const uint32_t *tokens, uint32_t first, uint32_t nr,
                    uint32_t position)
{
	uint32_t strip = l->page_bytes / l->page_tokens / 8 * 8, i;

	for (i = first; i < first + nr; i++) {
		uint32_t at = i * strip, bytes = strip;
		uint64_t who = (uint64_t)tokens[i - first] << 32;

		if (i + 1 == l->page_tokens)
			bytes = l->page_bytes - at;
		strip_write(page + at, bytes, mix(who + position + i));
	}
}
