/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bytes.h - an input read from its front as numbers and texts.
 *
 * Behind the end there are zeros, so any input means something.
 */
#ifndef TESTS_FUZZ_BYTES_H
#define TESTS_FUZZ_BYTES_H

#include <stddef.h>
#include <stdint.h>

struct bytes {
	const uint8_t *p;
	size_t nr;
};

/* Little-endian, of @n bytes. */
static inline uint64_t bytes_get(struct bytes *b, unsigned n)
{
	uint64_t x = 0;

	for (unsigned i = 0; i < n && b->nr; i++, b->nr--)
		x |= (uint64_t)*b->p++ << 8 * i;
	return x;
}

/* So many of the next bytes as there are. Return: where they begin. */
static inline const uint8_t *bytes_take(struct bytes *b, size_t *nr)
{
	const uint8_t *p = b->p;

	if (*nr > b->nr)
		*nr = b->nr;
	b->p += *nr;
	b->nr -= *nr;
	return p;
}

#endif
