// SPDX-License-Identifier: Apache-2.0
/*
 * info.c - which GPU, which CUDA, and is it one: a line for tests/gpu/run.
 */
#include <stdio.h>
#include "tests/gpu/question.h"

static int attribute(const struct cuda_driver *cu, int attr)
{
	int value = 0;

	REQUIRE(cu->cuDeviceGetAttribute(&value, attr, 0) == CU_OK);
	return value;
}

int main(void)
{
	int version = 0, nr = 0, r = question_begin();
	const struct cuda_driver *cu;
	char name[128], why[64];
	cu_result err;

	if (r)
		return r;
	cu = cuda_driver(why, sizeof(why));
	err = cu->cuInit(0);
	if (!err)
		err = cu->cuDeviceGetCount(&nr);
	if (err || !nr) {
		fprintf(stderr, "no GPU: %s\n", question_error(cu, err));
		return 77;
	}
	REQUIRE(cu->cuDeviceGetName(name, sizeof(name), 0) == CU_OK);
	REQUIRE(cu->cuDriverGetVersion(&version) == CU_OK);
	printf("{\"gpu\": \"%s\", \"double\": %s, \"cuda\": \"%d.%d\", "
	       "\"compute_capability\": \"%d.%d\", \"multiprocessors\": %d, "
	       "\"mps\": %d}\n", child_double() ? "double" : name,
	       child_double() ? "true" : "false", version / 1000,
	       version % 1000 / 10, attribute(cu, CU_ATTR_CC_MAJOR),
	       attribute(cu, CU_ATTR_CC_MINOR),
	       attribute(cu, CU_ATTR_MULTIPROCESSORS),
	       attribute(cu, CU_ATTR_MPS));
	return 0;
}
