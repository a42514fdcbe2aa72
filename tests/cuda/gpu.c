// SPDX-License-Identifier: Apache-2.0
/*
 * gpu.c - the device and its memory, for tests of kernels.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>
#include "tests/cuda/gpu.h"

const struct cuda_driver *gpu;
struct kv_cuda *gpu_kernels;

static void must(cu_result err)
{
	assert_int_equal(err, CU_OK);
}

int gpu_setup(void **state)
{
	char why[256] = "";
	cu_context ctx;

	gpu = cuda_driver(why, sizeof(why));
	if (!gpu || gpu->cuInit(0) || gpu->cuDevicePrimaryCtxRetain(&ctx, 0) ||
	    gpu->cuCtxSetCurrent(ctx) ||
	    kv_cuda_new(gpu, &gpu_kernels, why, sizeof(why))) {
		fprintf(stderr, "%s\n", why);
		return -1;
	}
	return 0;
}

int gpu_teardown(void **state)
{
	kv_cuda_free(gpu_kernels);
	return gpu->cuDevicePrimaryCtxRelease(0);
}

cu_ptr gpu_copy(const void *src, size_t bytes)
{
	cu_ptr p;

	must(gpu->cuMemAlloc(&p, bytes + 1));
	if (src && bytes)
		must(gpu->cuMemcpyHtoDAsync(p, src, bytes, NULL));
	return p;
}

void gpu_free(cu_ptr p)
{
	must(gpu->cuMemFree(p));
}

void gpu_read(void *dst, cu_ptr src, size_t bytes)
{
	if (bytes)
		must(gpu->cuMemcpyDtoHAsync(dst, src, bytes, NULL));
	must(gpu->cuStreamSynchronize(NULL));
}

void *xcalloc(size_t n, size_t bytes)
{
	void *p = calloc(n + 1, bytes);

	assert_non_null(p);
	return p;
}
