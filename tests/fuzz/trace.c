// SPDX-License-Identifier: Apache-2.0
/*
 * trace.c - any text as a trace that kvbench replays.
 */
#include <stdio.h>
#include <stdlib.h>
#include "tests/fuzz/file.h"
#include "tests/fuzz/fuzz.h"
#include "tests/support/check.h"
#include "tools/kvbench/trace_file.h"

static FILE *nowhere; /* complaints: nobody reads a million of them */

static int read_all(const char *path, struct trace_total *ret)
{
	struct trace_request r = { 0 };
	struct trace_file f;
	int n = trace_open(&f, path, 0);

	*ret = (struct trace_total){ 0 };
	while (n == 0 && (n = trace_next(&f, &r)) > 0) {
		CHECK(r.input && r.input <= TRACE_MAX_TOKENS &&
		      r.output <= TRACE_MAX_TOKENS &&
		      r.nr_ids == (r.input + TRACE_BLOCK - 1) / TRACE_BLOCK,
		      "a request that cannot be");
		ret->requests++;
		ret->input += r.input;
		n = 0;
	}
	trace_close(&f);
	free(r.ids);
	return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct fuzz_file file;
	struct trace_total mine, theirs = { 0 };
	const char *path = fuzz_file_put(&file, data, size);
	FILE *was = stderr;
	int r, again = 0;

	if (!nowhere)
		nowhere = fopen("/dev/null", "we");
	CHECK(nowhere, "/dev/null");
	stderr = nowhere;
	r = read_all(path, &mine);
	if (r == 0 && mine.requests)
		again = trace_count(path, 0, &theirs);
	stderr = was;
	CHECK(again == 0, "not twice");
	CHECK(r < 0 || (mine.requests == theirs.requests &&
			mine.input == theirs.input), "counted otherwise");
	return 0;
}
