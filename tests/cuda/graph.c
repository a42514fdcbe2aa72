// SPDX-License-Identifier: Apache-2.0
/*
 * graph.c - captured streams, graphs of them, what a launch may ask for, and
 * what may not be done while a stream is captured.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include "kernels/cuda/attend.h"
#include "kernels/cuda/driver.h"
#include "kernels/cuda/image.h"

#define DIM 64u

static const struct cuda_driver *cu;
static cu_context ctx;
static cu_module module;
static cu_function function;
static cu_ptr source, page, out;
static unsigned char *host; /* page-locked */
static struct dequant_params params;

static void must(cu_result err)
{
	assert_int_equal(err, CU_OK);
}

static int setup(void **state)
{
	struct kvd_geometry g = { .size = sizeof(g),
				  .page_tokens = 16,
				  .k_format = KVD_F16,
				  .v_format = KVD_F16,
				  .nr_groups = 1,
				  .groups = { { 1, 1, 0, DIM, DIM } } };
	char why[256];
	void *p;

	cu = cuda_driver(why, sizeof(why));
	if (!cu || cu->cuInit(0) || cu->cuDevicePrimaryCtxRetain(&ctx, 0) ||
	    cu->cuCtxSetCurrent(ctx) ||
	    cu->cuModuleLoadData(&module, kv_image_dequant) ||
	    cu->cuModuleGetFunction(&function, module, "kv_dequant") ||
	    page_layout_init(&params.layout, &g, 0, KVD_F16, KVD_F16) ||
	    cu->cuMemAlloc(&source, DIM * 2) ||
	    cu->cuMemAlloc(&page, params.layout.page_bytes) ||
	    cu->cuMemAlloc(&out, DIM * 4) || cu->cuMemHostAlloc(&p, 512, 0))
		return -1;
	host = p;
	params.page = (void *)(uintptr_t)page;
	params.out = (float *)(uintptr_t)out;
	params.nr_tokens = 1;
	return 0;
}

static int teardown(void **state)
{
	return cu->cuMemFree(source) || cu->cuMemFree(page) ||
	       cu->cuMemFree(out) || cu->cuMemFreeHost(host) ||
	       cu->cuModuleUnload(module) || cu->cuDevicePrimaryCtxRelease(0);
}

static cu_stream stream_new(void)
{
	cu_stream s;

	must(cu->cuStreamCreateWithPriority(&s, CU_STREAM_OWN_ORDER, 0));
	return s;
}

static cu_result dequant(cu_stream s, unsigned shared_bytes)
{
	void *list[] = { &params };

	return cu->cuLaunchKernel(function, 1, 1, 1, DEQUANT_THREADS, 1, 1,
				  shared_bytes, s,
				  list, NULL);
}

/* From source to the page, from there to out; then source is cleared. */
static cu_graph_exec graph_make(cu_stream s, int mode)
{
	const uint64_t codes = page_record(&params.layout, 0, 0);
	cu_graph graph;
	cu_graph_exec exec;
	int status;

	must(cu->cuStreamBeginCapture(s, mode));
	must(cu->cuStreamIsCapturing(s, &status));
	assert_int_equal(status, CU_CAPTURE_ACTIVE);
	must(cu->cuMemcpyDtoDAsync(page + codes, source, DIM * 2, s));
	must(dequant(s, 0));
	must(cu->cuMemsetD8Async(source, 0, DIM * 2, s));
	must(cu->cuStreamEndCapture(s, &graph));
	must(cu->cuStreamIsCapturing(s, &status));
	assert_int_equal(status, CU_CAPTURE_NONE);
	must(cu->cuGraphInstantiateWithFlags(&exec, graph, 0));
	must(cu->cuGraphDestroy(graph));
	return exec;
}

/* f16 codes of 1 + @add, then what the graph's launch makes of them. */
static void replay(cu_graph_exec exec, cu_stream s, unsigned add)
{
	uint16_t *codes = (uint16_t *)host;
	float *got = (float *)(host + 128);

	for (unsigned i = 0; i < DIM; i++)
		codes[i] = (uint16_t)(0x3c00 + (add << 8));
	must(cu->cuMemcpyHtoDAsync(source, codes, DIM * 2, s));
	must(cu->cuGraphLaunch(exec, s));
	must(cu->cuMemcpyDtoHAsync(got, out, DIM * 4, s));
	must(cu->cuMemcpyDtoHAsync(host + 384, source, DIM * 2, s));
	must(cu->cuStreamSynchronize(s));
	for (unsigned i = 0; i < DIM; i++) {
		assert_true(got[i] == 1.0f + 0.25f * (float)add);
		assert_int_equal(host[384 + 2 * i] | host[385 + 2 * i], 0);
	}
}

static void test_replay(void **state)
{
	cu_stream s = stream_new();
	struct dequant_params kept = params;
	float *got = (float *)host;
	cu_graph_exec exec;

	must(cu->cuMemsetD8Async(out, 1, DIM * 4, s));
	exec = graph_make(s, CU_CAPTURE_GLOBAL);
	params.out = NULL; /* arguments are those of the capture */
	must(cu->cuMemcpyDtoHAsync(got, out, DIM * 4, s));
	must(cu->cuStreamSynchronize(s));
	assert_int_equal(host[0], 1); /* nothing captured has run */
	replay(exec, s, 1);
	replay(exec, s, 3);
	must(cu->cuGraphLaunch(exec, s)); /* outlives its handle */
	must(cu->cuGraphExecDestroy(exec));
	must(cu->cuMemcpyDtoHAsync(got, out, DIM * 4, s));
	must(cu->cuStreamSynchronize(s));
	assert_true(got[0] == 0.0f); /* of the cleared source */
	must(cu->cuStreamDestroy(s));
	params = kept;
}

static void broken(cu_stream s)
{
	cu_graph graph = (cu_graph)host;
	int status;

	must(cu->cuStreamIsCapturing(s, &status));
	assert_int_equal(status, CU_CAPTURE_BROKEN);
	assert_int_equal(cu->cuMemsetD8Async(source, 0, 1, s),
			 CU_CAPTURE_INVALIDATED);
	assert_int_equal(cu->cuStreamEndCapture(s, &graph),
			 CU_CAPTURE_INVALIDATED);
	assert_null(graph);
	must(cu->cuStreamIsCapturing(s, &status));
	assert_int_equal(status, CU_CAPTURE_NONE);
}

static void test_misuse(void **state)
{
	cu_stream s = stream_new();
	unsigned char plain[4] = { 0 };
	cu_graph graph;

	assert_int_equal(cu->cuStreamBeginCapture(NULL, CU_CAPTURE_GLOBAL),
			 CU_CAPTURE_UNSUPPORTED);
	assert_int_equal(cu->cuStreamEndCapture(s, &graph), CU_ILLEGAL_STATE);
	assert_int_equal(cu->cuStreamBeginCapture(s, 3), CU_INVALID_VALUE);
	must(cu->cuStreamBeginCapture(s, CU_CAPTURE_RELAXED));
	assert_int_equal(cu->cuStreamBeginCapture(s, CU_CAPTURE_RELAXED),
			 CU_ILLEGAL_STATE);
	assert_int_equal(cu->cuStreamSynchronize(s), CU_CAPTURE_UNSUPPORTED);
	broken(s);
	must(cu->cuStreamBeginCapture(s, CU_CAPTURE_RELAXED));
	assert_int_equal(cu->cuMemcpyHtoDAsync(source, plain, 4, s),
			 CU_CAPTURE_UNSUPPORTED);
	broken(s);
	must(cu->cuStreamBeginCapture(s, CU_CAPTURE_RELAXED));
	assert_int_equal(cu->cuMemcpyDtoHAsync(plain, source, 4, s),
			 CU_CAPTURE_UNSUPPORTED);
	broken(s);
	must(cu->cuStreamDestroy(s));
}

/* Allocating breaks a capture, unless the capture is relaxed about it. */
static void test_modes(void **state)
{
	cu_stream s = stream_new();
	cu_graph graph;
	cu_ptr p;

	must(cu->cuStreamBeginCapture(s, CU_CAPTURE_RELAXED));
	must(cu->cuMemAlloc(&p, 1));
	must(cu->cuMemFree(p));
	must(cu->cuStreamEndCapture(s, &graph));
	must(cu->cuGraphDestroy(graph));
	must(cu->cuStreamBeginCapture(s, CU_CAPTURE_GLOBAL));
	assert_int_equal(cu->cuMemAlloc(&p, 1), CU_CAPTURE_UNSUPPORTED);
	broken(s);
	must(cu->cuStreamBeginCapture(s, CU_CAPTURE_THREAD_LOCAL));
	assert_int_equal(cu->cuMemAlloc(&p, 1), CU_CAPTURE_UNSUPPORTED);
	broken(s);
	must(cu->cuStreamDestroy(s));
}

/* The legacy stream would have to wait for a captured one. */
static void test_legacy(void **state)
{
	cu_stream s, own = stream_new();
	cu_graph graph;

	must(cu->cuStreamBeginCapture(own, CU_CAPTURE_GLOBAL));
	must(cu->cuMemsetD8Async(source, 0, 1, NULL));
	must(cu->cuStreamEndCapture(own, &graph));
	must(cu->cuGraphDestroy(graph));
	must(cu->cuStreamDestroy(own));
	must(cu->cuStreamCreateWithPriority(&s, 0, 0));
	must(cu->cuStreamBeginCapture(s, CU_CAPTURE_GLOBAL));
	assert_int_equal(cu->cuMemsetD8Async(source, 0, 1, NULL),
			 CU_CAPTURE_IMPLICIT);
	broken(s);
	must(cu->cuStreamDestroy(s));
}

static void test_captured_events(void **state)
{
	cu_stream s = stream_new(), other = stream_new();
	cu_event inside, outside;
	cu_graph graph;

	must(cu->cuEventCreate(&inside, CU_EVENT_NO_TIMING));
	must(cu->cuEventCreate(&outside, CU_EVENT_NO_TIMING));
	must(cu->cuEventRecord(outside, s));
	must(cu->cuStreamBeginCapture(s, CU_CAPTURE_RELAXED));
	must(cu->cuEventRecord(inside, s));
	must(cu->cuStreamWaitEvent(s, inside, 0));
	assert_int_equal(cu->cuEventQuery(inside), CU_CAPTURED_EVENT);
	assert_int_equal(cu->cuEventSynchronize(inside), CU_CAPTURED_EVENT);
	assert_int_equal(cu->cuStreamWaitEvent(other, inside, 0),
			 CU_NOT_SUPPORTED);
	must(cu->cuStreamEndCapture(s, &graph));
	must(cu->cuGraphDestroy(graph));
	must(cu->cuEventRecord(inside, s));
	must(cu->cuEventSynchronize(inside));
	must(cu->cuStreamBeginCapture(s, CU_CAPTURE_RELAXED));
	assert_int_equal(cu->cuStreamWaitEvent(s, outside, 0),
			 CU_CAPTURE_ISOLATION);
	broken(s);
	must(cu->cuEventDestroy(inside));
	must(cu->cuEventDestroy(outside));
	must(cu->cuStreamDestroy(s));
	must(cu->cuStreamDestroy(other));
}

static void test_time(void **state)
{
	cu_stream s = stream_new();
	cu_event a, b, untimed;
	float ms = -1;

	must(cu->cuEventCreate(&a, 0));
	must(cu->cuEventCreate(&b, 0));
	must(cu->cuEventCreate(&untimed, CU_EVENT_NO_TIMING));
	must(cu->cuEventRecord(a, s));
	assert_int_equal(cu->cuEventElapsedTime(&ms, a, b), CU_INVALID_HANDLE);
	must(dequant(s, 0));
	must(cu->cuEventRecord(b, s));
	must(cu->cuEventRecord(untimed, s));
	assert_int_equal(cu->cuEventElapsedTime(&ms, a, b), CU_NOT_READY);
	must(cu->cuStreamSynchronize(s));
	must(cu->cuEventElapsedTime(&ms, a, b));
	assert_true(ms > 0 && ms < 60000);
	assert_int_equal(cu->cuEventElapsedTime(&ms, a, untimed),
			 CU_INVALID_HANDLE);
	must(cu->cuEventDestroy(a));
	must(cu->cuEventDestroy(b));
	must(cu->cuEventDestroy(untimed));
	must(cu->cuStreamDestroy(s));
}

static void shared(int kib)
{
	cu_function again;
	cu_module m;
	int max;

	must(cu->cuDeviceGetAttribute(&max, CU_ATTR_MAX_SHARED, 0));
	assert_int_equal(max, kib << 10);
	must(cu->cuModuleLoadData(&m, kv_image_dequant));
	must(cu->cuModuleGetFunction(&again, m, "kv_dequant"));
	assert_int_equal(dequant(NULL, (48 << 10) + 1), CU_INVALID_VALUE);
	assert_int_equal(cu->cuFuncSetAttribute(
				 function, CU_FUNCTION_MAX_SHARED, max + 1),
			 CU_INVALID_VALUE);
	must(cu->cuFuncSetAttribute(again, CU_FUNCTION_MAX_SHARED, max));
	assert_int_equal(dequant(NULL, (unsigned)max), CU_INVALID_VALUE);
	must(cu->cuFuncSetAttribute(function, CU_FUNCTION_MAX_SHARED, max));
	must(dequant(NULL, (unsigned)max));
	assert_int_equal(dequant(NULL, (unsigned)max + 1), CU_INVALID_VALUE);
	must(cu->cuFuncSetAttribute(function, CU_FUNCTION_MAX_SHARED,
				    48 << 10));
	must(cu->cuModuleUnload(m));
}

static void test_shared(void **state)
{
	int major;

	shared(227);
	setenv("FAKECUDA_SM", "80", 1);
	shared(163);
	must(cu->cuDeviceGetAttribute(&major, CU_ATTR_CC_MAJOR, 0));
	assert_int_equal(major, 8);
	unsetenv("FAKECUDA_SM");
	must(cu->cuDeviceGetAttribute(&major, CU_ATTR_CC_MAJOR, 0));
	assert_int_equal(major, 9);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_replay),
		cmocka_unit_test(test_misuse),
		cmocka_unit_test(test_modes),
		cmocka_unit_test(test_legacy),
		cmocka_unit_test(test_captured_events),
		cmocka_unit_test(test_time),
		cmocka_unit_test(test_shared),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
