/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fanout.h - kvbench fanout: what its processes share.
 */
#ifndef TOOLS_KVBENCH_FANOUT_H
#define TOOLS_KVBENCH_FANOUT_H

#include <pthread.h>
#include <semaphore.h>
#include <stdbool.h>
#include <stdint.h>
#include "tools/kvbench/child.h"

#define FANOUT_PAGE    64u /* tokens */
#define FANOUT_LAYERS  4u
#define FANOUT_DIM     64u

struct fanout_opts {
	unsigned prefix; /* tokens */
	unsigned tail;   /* of each client's own */
	unsigned clients;
	unsigned us_per_token;
	unsigned devices;
	unsigned chunk; /* tokens from commit to commit */
	unsigned wait_ms;
};

/* What has become of one client. */
struct fanout_result {
	double ttft_ms;
	uint32_t computed; /* tokens */
	int err;
};

/* Shared by the processes of a round. */
struct fanout_round {
	struct fanout_opts o;
	uint32_t seed;           /* of the prefix */
	bool declined;           /* nobody announces, nobody waits */
	pthread_barrier_t start; /* all clients */
	sem_t devices;           /* that are free */
	struct fanout_result results[];
};

/**
 * fanout_client() - client number @nr: connect, wait for the others, then match
 * the prompt, compute what is missing, and know the first token
 *
 * Its result goes to r->results[@nr].
 */
void fanout_client(const struct child *daemon, struct fanout_round *r,
                   unsigned nr);

#endif
