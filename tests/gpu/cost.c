// SPDX-License-Identifier: Apache-2.0
/*
 * cost.c - what do the calls that make, map and unmap a segment cost, for
 * each size of segment?
 *
 * Medians of several rounds; the first, which warms up, is not counted.
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "tests/gpu/question.h"

#define MIN_BYTES (2ul << 20)
#define MAX_BYTES (1ul << 30)
#define MAX_BYTES_DOUBLE (16ul << 20) /* it writes every byte of them */
#define MAX_ROUNDS 15
#define NR_STEPS 7

static const char *const steps[NR_STEPS] = { "create",	   "reserve", "map",
					     "set_access", "export",  "unmap",
					     "release" };

static double us[NR_STEPS][MAX_ROUNDS];

struct clock {
	uint64_t at_ns;
	int round, step;
};

/* Ends a step; the next one begins. */
static void lap(struct clock *c, cu_result err)
{
	uint64_t now = question_now_ns();

	if (err) {
		fprintf(stderr, "%s: error %d\n", steps[c->step], err);
		exit(1);
	}
	if (c->round >= 0)
		us[c->step][c->round] = (double)(now - c->at_ns) / 1e3;
	c->step++;
	c->at_ns = question_now_ns();
}

/* The address range is given back outside of the clock, as kvd keeps it. */
static void one_round(const struct cuda_driver *cu, size_t bytes, int round)
{
	const struct cu_allocation_prop prop = {
		.type = CU_ALLOCATION_PINNED,
		.handle_types = CU_HANDLE_POSIX_FD,
		.location = { CU_LOCATION_DEVICE, 0 },
	};
	const struct cu_access access = { { CU_LOCATION_DEVICE, 0 },
					  CU_ACCESS_READWRITE };
	struct clock c = { question_now_ns(), round, 0 };
	cu_mem mem;
	cu_ptr p;
	int fd;

	lap(&c, cu->cuMemCreate(&mem, bytes, &prop, 0));
	lap(&c, cu->cuMemAddressReserve(&p, bytes, 0, 0, 0));
	lap(&c, cu->cuMemMap(p, bytes, 0, mem, 0));
	lap(&c, cu->cuMemSetAccess(p, bytes, &access, 1));
	lap(&c, cu->cuMemExportToShareableHandle(&fd, mem, CU_HANDLE_POSIX_FD,
						 0));
	close(fd);
	c.at_ns = question_now_ns();
	lap(&c, cu->cuMemUnmap(p, bytes));
	lap(&c, cu->cuMemRelease(mem));
	REQUIRE(cu->cuMemAddressFree(p, bytes) == CU_OK);
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void say(size_t bytes, int rounds, bool first)
{
	printf("%s{\"mib\": %zu", first ? "" : ", ", bytes >> 20);
	for (int i = 0; i < NR_STEPS; i++) {
		qsort(us[i], (size_t)rounds, sizeof(us[i][0]), by_value);
		printf(", \"%s\": %.1f", steps[i], us[i][rounds / 2]);
	}
	putchar('}');
}

static void asker(int socket)
{
	const struct cuda_driver *cu = child_cuda();
	const int rounds = question_quick() ? 5 : MAX_ROUNDS;
	const size_t max = child_double() ? MAX_BYTES_DOUBLE : MAX_BYTES;

	printf("{\"question\": \"cost\", \"answer\": \"median us of %d\", "
	       "\"segments\": [", rounds);
	for (size_t bytes = MIN_BYTES; bytes <= max; bytes *= 2) {
		for (int round = -1; round < rounds; round++)
			one_round(cu, bytes, round);
		say(bytes, rounds, bytes == MIN_BYTES);
	}
	puts("]}");
	fflush(stdout);
}

int main(void)
{
	int socket, r = question_begin();

	return r ? r : child_wait(child_start(asker, &socket)) != 0;
}
