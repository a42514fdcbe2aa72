/* SPDX-License-Identifier: Apache-2.0 */
/*
 * host.c - chooses the kernel set for this process, once. Any thread.
 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include "kernels/host/isa.h"

static const struct host_kernels *chosen;
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* The last set, or the one KVD_ISA names if this CPU has it. */
static void choose(void)
{
	const char *want = getenv("KVD_ISA");
	const struct host_kernels *k;
	unsigned i;

	for (i = 0; (k = isa_nth(i)); i++) {
		chosen = k;
		if (want && !strcmp(want, k->name))
			return;
	}
}

/**
 * host_kernels() - the set in use on this CPU, never NULL
 *
 * KVD_ISA=ref|avx2|avx512 in the environment narrows the choice; a name that
 * this CPU lacks changes nothing.
 */
const struct host_kernels *host_kernels(void)
{
	pthread_once(&once, choose);
	return chosen;
}

/**
 * host_kernels_nth() - set @i that this CPU can run, or NULL past the last
 */
const struct host_kernels *host_kernels_nth(unsigned i)
{
	return isa_nth(i);
}
