// SPDX-License-Identifier: Apache-2.0
/*
 * fault.c - the double's later errors: a kernel that crashes and takes its
 * context with it, a device that is gone from some call on.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>
#include "kernels/cuda/attend.h"
#include "kernels/cuda/image.h"
#include "tests/cuda/child.h"

#define DIM 16u
#define SECONDS 30	/* more is a hang */

static cu_result wanted; /* of what fails */

static void run(void (*fn)(int), const char *name, const char *value)
{
	int socket;
	pid_t pid;

	setenv(name, value, 1);
	pid = child_start(fn, &socket);
	unsetenv(name);
	assert_int_equal(child_wait(pid), 0);
	close(socket);
}

/* ---- a kernel crashes ---- */

struct bench {
	const struct cuda_driver *cu;
	cu_module module;
	cu_function function;
	struct dequant_params params;
	cu_ptr page, out;
	unsigned char *host; /* page-locked */
};

static void bench_init(struct bench *b)
{
	struct kvd_geometry g = { .size = sizeof(g),
				  .page_tokens = 16,
				  .nr_groups = 1,
				  .groups = { { 1, 1, 0, DIM, DIM } } };
	const struct cuda_driver *cu = child_cuda();
	void *p;

	b->cu = cu;
	REQUIRE(!page_layout_init(&b->params.layout, &g, 0, KVD_F16, KVD_F16));
	REQUIRE(!cu->cuModuleLoadData(&b->module, kv_image_dequant));
	REQUIRE(!cu->cuModuleGetFunction(&b->function, b->module,
					 "kv_dequant"));
	REQUIRE(!cu->cuMemAlloc(&b->page, b->params.layout.page_bytes));
	REQUIRE(!cu->cuMemAlloc(&b->out, DIM * 4));
	REQUIRE(!cu->cuMemHostAlloc(&p, 64, 0));
	b->host = p;
	b->params.page = (void *)(uintptr_t)b->page;
	b->params.out = (float *)(uintptr_t)b->out;
	b->params.nr_tokens = 1;
}

static cu_result dequant(struct bench *b)
{
	void *list[] = { &b->params };

	return b->cu->cuLaunchKernel(b->function, 1, 1, 1, 32, 1, 1, 0, NULL,
				     list, NULL);
}

/* Whatever needs the context says what has happened to it. */
static void nothing_works(struct bench *b, cu_event e)
{
	const struct cuda_driver *cu = b->cu;
	cu_stream s;
	cu_ptr p;
	void *host;
	int status;

	REQUIRE(cu->cuStreamSynchronize(NULL) == wanted);
	REQUIRE(cu->cuEventQuery(e) == wanted);
	REQUIRE(cu->cuEventSynchronize(e) == wanted);
	REQUIRE(cu->cuEventRecord(e, NULL) == wanted);
	REQUIRE(dequant(b) == wanted);
	REQUIRE(cu->cuMemAlloc(&p, 1) == wanted);
	REQUIRE(cu->cuMemHostAlloc(&host, 1, 0) == wanted);
	REQUIRE(cu->cuMemFree(b->page) == wanted);
	REQUIRE(cu->cuMemcpyDtoHAsync(&p, b->out, 1, NULL) == wanted);
	REQUIRE(cu->cuMemsetD8Async(b->out, 0, 1, NULL) == wanted);
	REQUIRE(cu->cuStreamCreateWithPriority(&s, 0, 0) == wanted);
	REQUIRE(cu->cuStreamIsCapturing(NULL, &status) == wanted);
	REQUIRE(cu->cuModuleUnload(b->module) == wanted);
}

/* The first kernel runs, the second does not, nor what comes after it. */
static void crash(int socket)
{
	cu_context again;
	struct bench b = { 0 };
	cu_event e;
	int n;

	alarm(SECONDS);
	bench_init(&b);
	REQUIRE(!b.cu->cuEventCreate(&e, CU_EVENT_NO_TIMING));
	REQUIRE(!b.cu->cuMemsetD8Async(b.page, 0, b.params.layout.page_bytes,
				       NULL));
	REQUIRE(!dequant(&b));
	REQUIRE(!b.cu->cuMemcpyDtoHAsync(b.host, b.out, 1, NULL));
	REQUIRE(!b.cu->cuStreamSynchronize(NULL));
	REQUIRE(b.host[0] == 0);
	REQUIRE(!b.cu->cuMemsetD8Async(b.out, 7, 1, NULL));
	REQUIRE(!b.cu->cuMemcpyDtoHAsync(b.host, b.out, 1, NULL));
	REQUIRE(!dequant(&b));
	REQUIRE(!b.cu->cuMemcpyDtoHAsync(b.host + 1, b.out, 1, NULL));
	REQUIRE(!b.cu->cuEventRecord(e, NULL));
	b.host[1] = 99;
	REQUIRE(b.cu->cuEventSynchronize(e) == wanted);
	REQUIRE(b.host[0] == 7 && b.host[1] == 99);
	nothing_works(&b, e);
	REQUIRE(!b.cu->cuDeviceGetCount(&n) && n == 1);
	REQUIRE(!b.cu->cuDevicePrimaryCtxRelease(0));
	REQUIRE(!b.cu->cuDevicePrimaryCtxRetain(&again, 0));
	REQUIRE(!b.cu->cuCtxSetCurrent(again));
	nothing_works(&b, e);
}

/* Found out by a copy that blocks, and by polling. */
static void crash_seen(int socket)
{
	struct bench b = { 0 };
	unsigned char byte;

	alarm(SECONDS);
	bench_init(&b);
	REQUIRE(!dequant(&b));
	REQUIRE(b.cu->cuMemcpyDtoHAsync(&byte, b.out, 1, NULL) == wanted);
}

static void crash_polled(int socket)
{
	struct bench b = { 0 };
	cu_result err;
	cu_event e;

	alarm(SECONDS);
	bench_init(&b);
	REQUIRE(!b.cu->cuEventCreate(&e, CU_EVENT_NO_TIMING));
	REQUIRE(!b.cu->cuMemsetD8Async(b.out, 7, 1, NULL));
	REQUIRE(!dequant(&b));
	REQUIRE(!b.cu->cuEventRecord(e, NULL));
	do
		err = b.cu->cuEventQuery(e);
	while (err == CU_NOT_READY);
	REQUIRE(err == wanted);
}

/* Contexts of other devices go on. */
static void crash_alone(int socket)
{
	struct bench b = { 0 };
	cu_context other;
	cu_ptr p;

	alarm(SECONDS);
	bench_init(&b);
	REQUIRE(!dequant(&b));
	REQUIRE(b.cu->cuStreamSynchronize(NULL) == wanted);
	REQUIRE(!b.cu->cuDevicePrimaryCtxRetain(&other, 1));
	REQUIRE(!b.cu->cuCtxSetCurrent(other));
	REQUIRE(!b.cu->cuMemAlloc(&p, 1));
	REQUIRE(!b.cu->cuMemFree(p));
}

static void test_crash(void **state)
{
	wanted = CU_LAUNCH_FAILED;
	run(crash, "FAKECUDA_CRASH", "2");
	wanted = CU_ILLEGAL_ADDRESS;
	run(crash, "FAKECUDA_CRASH", "2:700");
	run(crash_seen, "FAKECUDA_CRASH", "1:700");
	run(crash_polled, "FAKECUDA_CRASH", "1:700");
	setenv("FAKECUDA_DEVICES", "2", 1);
	run(crash_alone, "FAKECUDA_CRASH", "1:700");
	unsetenv("FAKECUDA_DEVICES");
}

/* ---- a device is gone ---- */

static unsigned lost_at, nr_calls;

/* Calls are counted from 1. */
static void called(cu_result err)
{
	nr_calls++;
	REQUIRE(err == (nr_calls < lost_at ? CU_OK : wanted));
}

static void lost(int socket)
{
	char why[256];
	const struct cuda_driver *cu = cuda_driver(why, sizeof(why));
	cu_context ctx = NULL;
	cu_event e = NULL;
	cu_device dev;
	cu_ptr p = 0;

	alarm(SECONDS);
	REQUIRE(cu);
	if (lost_at == 1) { /* not even started */
		REQUIRE(cu->cuInit(0) == wanted);
		return;
	}
	called(cu->cuInit(0));
	called(cu->cuDeviceGet(&dev, 0));
	called(cu->cuDevicePrimaryCtxRetain(&ctx, 0));
	called(cu->cuCtxSetCurrent(ctx));
	called(cu->cuMemAlloc(&p, 16));
	called(cu->cuEventCreate(&e, 0));
	called(cu->cuMemsetD8Async(p, 1, 16, NULL));
	called(cu->cuEventRecord(e, NULL));
	called(cu->cuStreamSynchronize(NULL));
	called(cu->cuEventQuery(e));
	called(cu->cuEventSynchronize(e));
	called(cu->cuEventDestroy(e));
	called(cu->cuMemFree(p));
	called(cu->cuDevicePrimaryCtxRelease(0));
	called(cu->cuDevicePrimaryCtxRetain(&ctx, 0));
	REQUIRE(nr_calls == 15);
}

static void test_lost(void **state)
{
	char spec[32];

	wanted = CU_DEVICE_UNAVAILABLE;
	for (lost_at = 1; lost_at <= 16; lost_at++) {
		snprintf(spec, sizeof(spec), "%u", lost_at);
		run(lost, "FAKECUDA_LOST", spec);
	}
	wanted = 999;
	lost_at = 6;
	run(lost, "FAKECUDA_LOST", "6:999");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_crash),
		cmocka_unit_test(test_lost),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
