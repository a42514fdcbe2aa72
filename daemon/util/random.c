/* SPDX-License-Identifier: Apache-2.0 */
/*
 * random.c - random numbers from the kernel.
 */
#include "daemon/util/random.h"

#include <assert.h>
#include <errno.h>
#include <sys/random.h>

void random_bytes(void *buf, size_t nr)
{
	char *p = buf;

	while (nr > 0) {
		ssize_t n = getrandom(p, nr, 0);

		if (n < 0) {
			assert(errno == EINTR);
			continue;
		}
		p += n;
		nr -= (size_t)n;
	}
}

uint64_t random_u64(void)
{
	uint64_t n;

	do {
		random_bytes(&n, sizeof(n));
	} while (n == 0);
	return n;
}
