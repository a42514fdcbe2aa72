// SPDX-License-Identifier: Apache-2.0
/*
 * stream.c - the double's streams: nothing happens before somebody waits, and
 * then in the order CUDA promises.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include "kernels/cuda/driver.h"

static const struct cuda_driver *cu;
static cu_ptr mem;
static unsigned char *host; /* page-locked */

static int setup(void **state)
{
	char why[256];
	cu_context ctx;
	void *p;

	cu = cuda_driver(why, sizeof(why));
	if (!cu || cu->cuInit(0) || cu->cuDevicePrimaryCtxRetain(&ctx, 0) ||
	    cu->cuCtxSetCurrent(ctx) || cu->cuMemAlloc(&mem, 64) ||
	    cu->cuMemHostAlloc(&p, 64, 0))
		return -1;
	host = p;
	return 0;
}

static int teardown(void **state)
{
	return cu->cuMemFree(mem) || cu->cuMemFreeHost(host) ||
	       cu->cuDevicePrimaryCtxRelease(0);
}

static cu_stream stream(unsigned flags)
{
	cu_stream s;

	assert_int_equal(cu->cuStreamCreateWithPriority(&s, flags, 0), CU_OK);
	return s;
}

static void test_lazy(void **state)
{
	cu_stream s = stream(CU_STREAM_OWN_ORDER);
	unsigned char plain[4] = { 1, 2, 3, 4 };

	memset(host, 9, 8);
	assert_int_equal(cu->cuMemcpyHtoDAsync(mem, plain, 4, s), CU_OK);
	assert_int_equal(cu->cuMemcpyHtoDAsync(mem + 4, host, 4, s), CU_OK);
	memset(plain, 0, 4);
	memset(host, 7, 4); /* too early: the copy has not run */
	assert_int_equal(cu->cuMemcpyDtoHAsync(host + 8, mem, 8, s), CU_OK);
	assert_int_not_equal(host[8], 1);
	assert_int_equal(cu->cuStreamSynchronize(s), CU_OK);
	assert_memory_equal(host + 8, "\1\2\3\4\7\7\7\7", 8);
	assert_int_equal(cu->cuStreamDestroy(s), CU_OK);
}

static void test_events(void **state)
{
	cu_stream a = stream(CU_STREAM_OWN_ORDER);
	cu_stream b = stream(CU_STREAM_OWN_ORDER);
	cu_event e;

	assert_int_equal(cu->cuEventCreate(&e, CU_EVENT_NO_TIMING), CU_OK);
	assert_int_equal(cu->cuEventQuery(e), CU_OK);
	assert_int_equal(cu->cuMemsetD8Async(mem, 1, 1, a), CU_OK);
	assert_int_equal(cu->cuEventRecord(e, a), CU_OK);
	assert_int_equal(cu->cuStreamWaitEvent(b, e, 0), CU_OK);
	assert_int_equal(cu->cuMemcpyDtoHAsync(host, mem, 1, b), CU_OK);
	assert_int_equal(cu->cuEventQuery(e), CU_NOT_READY);
	assert_int_equal(cu->cuEventQuery(e), CU_OK);
	assert_int_equal(cu->cuMemsetD8Async(mem, 2, 1, a), CU_OK);
	assert_int_equal(cu->cuStreamSynchronize(b), CU_OK);
	assert_int_equal(host[0], 1);
	assert_int_equal(cu->cuEventDestroy(e), CU_OK);
	assert_int_equal(cu->cuStreamDestroy(a), CU_OK);
	assert_int_equal(cu->cuStreamDestroy(b), CU_OK);
}

/* The legacy stream waits for ordinary ones, and they for it. */
static void test_legacy(void **state)
{
	cu_stream s = stream(0);

	assert_int_equal(cu->cuMemsetD8Async(mem, 1, 1, s), CU_OK);
	assert_int_equal(cu->cuMemcpyDtoHAsync(host, mem, 1, NULL), CU_OK);
	assert_int_equal(cu->cuMemsetD8Async(mem, 2, 1, s), CU_OK);
	assert_int_equal(cu->cuStreamSynchronize(s), CU_OK);
	assert_int_equal(host[0], 1);
	assert_int_equal(cu->cuMemcpyDtoHAsync(host, mem, 1, NULL), CU_OK);
	assert_int_equal(cu->cuStreamSynchronize(NULL), CU_OK);
	assert_int_equal(host[0], 2);
	assert_int_equal(cu->cuStreamDestroy(s), CU_OK);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lazy),
		cmocka_unit_test(test_events),
		cmocka_unit_test(test_legacy),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
