/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench.h - one benchmark of kvbench, one file each.
 *
 * A benchmark gets its own arguments (argv[0] is its name), prints one line
 * of text for each figure, or one JSON object with --json, and returns the
 * program's exit status: 0, 1 when it could not measure, 2 for bad usage.
 */
#ifndef TOOLS_KVBENCH_BENCH_H
#define TOOLS_KVBENCH_BENCH_H

struct bench {
	const char *name;
	const char *summary;
	int (*run)(int argc, char **argv);
};

extern const struct bench bench_attend;
extern const struct bench bench_quantize;
extern const struct bench bench_copy;
extern const struct bench bench_alloc;
extern const struct bench bench_rpc;
extern const struct bench bench_match;
extern const struct bench bench_control;
extern const struct bench bench_overhead;
extern const struct bench bench_trace;
extern const struct bench bench_loop;
extern const struct bench bench_fanout;

#define BENCH_FAILED 1
#define BENCH_USAGE  2

#endif
