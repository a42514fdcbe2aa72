// SPDX-License-Identifier: Apache-2.0
/*
 * driver.c - the table of calls, errors on demand, results as errno and text.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>
#include "kernels/cuda/driver.h"

/* Set before the double reads it, at its first call. */
#define FAULTS "cuDeviceGet:2,cuDeviceGetName:1+:719"

static const struct cuda_driver *driver(void)
{
	char why[256];
	const struct cuda_driver *cu = cuda_driver(why, sizeof(why));

	assert_non_null(cu);
	return cu;
}

static void test_table(void **state)
{
	const struct cuda_driver *cu = driver();
	int n;

	assert_int_equal(cu->cuDeviceGetCount(&n), CU_NOT_INITIALIZED);
	assert_int_equal(cu->cuInit(0), CU_OK);
	assert_int_equal(cu->cuDeviceGetCount(&n), CU_OK);
	assert_int_equal(n, 1);
}

static void test_faults(void **state)
{
	const struct cuda_driver *cu = driver();
	char name[32];
	cu_device dev;

	assert_int_equal(cu->cuDeviceGet(&dev, 0), CU_OK);
	assert_int_equal(cu->cuDeviceGet(&dev, 0), CU_OUT_OF_MEMORY);
	assert_int_equal(cu->cuDeviceGet(&dev, 0), CU_OK);
	assert_int_equal(cu->cuDeviceGet(&dev, 1), CU_INVALID_DEVICE);
	assert_int_equal(cu->cuDeviceGetName(name, sizeof(name), 0), 719);
	assert_int_equal(cu->cuDeviceGetName(name, sizeof(name), 0), 719);
}

static void test_no_context(void **state)
{
	const struct cuda_driver *cu = driver();
	cu_context ctx;
	cu_ptr p;

	assert_int_equal(cu->cuMemAlloc(&p, 1), CU_INVALID_CONTEXT);
	assert_int_equal(cu->cuDevicePrimaryCtxRetain(&ctx, 0), CU_OK);
	assert_int_equal(cu->cuCtxSetCurrent(ctx), CU_OK);
	assert_int_equal(cu->cuMemAlloc(&p, 1), CU_OK);
	assert_int_equal(cu->cuMemFree(p), CU_OK);
	assert_int_equal(cu->cuDevicePrimaryCtxRelease(0), CU_OK);
	assert_int_equal(cu->cuMemAlloc(&p, 1), CU_INVALID_CONTEXT);
}

static void test_memory(void **state)
{
	const struct cuda_driver *cu = driver();
	size_t before, after, total, total_after;
	cu_context ctx;
	cu_ptr p;

	assert_int_equal(cu->cuDevicePrimaryCtxRetain(&ctx, 0), CU_OK);
	assert_int_equal(cu->cuCtxSetCurrent(ctx), CU_OK);
	assert_int_equal(cu->cuMemGetInfo(&before, &total), CU_OK);
	assert_int_equal(cu->cuMemAlloc(&p, 3u << 20), CU_OK);
	assert_int_equal(cu->cuMemGetInfo(&after, &total_after), CU_OK);
	assert_int_equal(before - after, 3u << 20);
	assert_int_equal(total_after, total);
	assert_true(total >= before);
	assert_int_equal(cu->cuMemFree(p), CU_OK);
	assert_int_equal(cu->cuMemGetInfo(&after, &total), CU_OK);
	assert_int_equal(after, before);
	assert_int_equal(cu->cuDevicePrimaryCtxRelease(0), CU_OK);
}

static void test_errors(void **state)
{
	const struct cuda_driver *cu = driver();
	char text[160];

	assert_int_equal(cu_errno(CU_OK), 0);
	assert_int_equal(cu_errno(CU_OUT_OF_MEMORY), -ENOMEM);
	assert_int_equal(cu_errno(CU_NO_DEVICE), -ENODEV);
	assert_int_equal(cu_errno(CU_NOT_READY), -EAGAIN);
	assert_int_equal(cu_errno(700), -EIO);
	cu_text(cu, "cuMemCreate", CU_OUT_OF_MEMORY, text, sizeof(text));
	assert_string_equal(text, "cuMemCreate: CUDA_ERROR_OUT_OF_MEMORY "
				  "(2, out of memory)");
	cu_text(cu, "cuMemMap", 12345, text, sizeof(text));
	assert_string_equal(text, "cuMemMap: unknown error (12345, no text)");
}

/* A forked child of a process with CUDA has none. */
static void test_fork(void **state)
{
	const struct cuda_driver *cu = driver();
	pid_t pid = fork();
	int status, n;

	if (!pid)
		_exit(cu->cuDeviceGetCount(&n) == CU_NOT_INITIALIZED &&
				      cu->cuInit(0) == CU_NOT_INITIALIZED ?
			      0 :
			      1);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_table),	   cmocka_unit_test(test_faults),
		cmocka_unit_test(test_no_context), cmocka_unit_test(test_errors),
		cmocka_unit_test(test_memory),	   cmocka_unit_test(test_fork),
	};

	setenv("FAKECUDA_FAIL", FAULTS, 1);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
