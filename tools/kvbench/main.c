// SPDX-License-Identifier: Apache-2.0
/*
 * main.c - kvbench: how fast kvd and its kernels are on this machine.
 */
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include "tools/kvbench/bench.h"

static const struct bench *const benches[] = {
	&bench_attend, &bench_quantize, &bench_copy,	 &bench_alloc, &bench_rpc,
	&bench_match,  &bench_control,	&bench_overhead, &bench_trace,
	&bench_loop,   &bench_fanout,
};

#define NR_BENCHES (sizeof(benches) / sizeof(benches[0]))

static void usage(FILE *out)
{
	size_t i;

	fprintf(out,
	        "usage: kvbench BENCHMARK [options] [--json] [--help]\n\n");
	for (i = 0; i < NR_BENCHES; i++)
		fprintf(out, "  %-10s %s\n", benches[i]->name,
		        benches[i]->summary);
}

int main(int argc, char **argv)
{
	size_t i;

	if (argc < 2) {
		usage(stderr);
		return BENCH_USAGE;
	}
	for (i = 0; i < NR_BENCHES; i++) {
		if (strcmp(argv[1], benches[i]->name) == 0)
			return benches[i]->run(argc - 1, argv + 1);
	}
	if (strcmp(argv[1], "--help") == 0) {
		usage(stdout);
		return 0;
	}
	fprintf(stderr, "kvbench: no benchmark %s\n", argv[1]);
	usage(stderr);
	return BENCH_USAGE;
}
