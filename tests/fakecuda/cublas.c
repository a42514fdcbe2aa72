/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cublas.c - a double of libcublas.so.13, on top of that of libcuda.
 *
 * What tools/kvworker/cublas.h declares of it: products of f32 matrices in
 * device memory, in the order of the stream, by the host's BLAS. It is stricter
 * than cuBLAS: a product of anything that is no device memory is refused at
 * once.
 */
#include <cblas.h>
#include <stdbool.h>
#include <stdlib.h>
#include "tests/fakecuda/fakecuda.h"
#include "tools/kvworker/cublas.h"

#define CUBLAS_PROTOTYPE(call, symbol, params)                                 \
	FAKE_EXPORT cublas_status symbol params;
CUBLAS_CALLS(CUBLAS_PROTOTYPE)
#undef CUBLAS_PROTOTYPE

enum {
	NOT_INITIALIZED = 1,
	ALLOC_FAILED = 3,
	INVALID_VALUE = 7,
	EXECUTION_FAILED = 13
};

struct cublasContext {
	cu_stream stream;
};

/* A product on its way. */
struct gemm {
	int a_op, b_op, m, n, k;
	float alpha, beta;
	const float *a, *b;
	float *c;
	int lda, ldb, ldc;
};

cublas_status cublasCreate_v2(cublas_handle *handle)
{
	cu_context ctx;

	if (cuCtxGetCurrent(&ctx) || !ctx)
		return NOT_INITIALIZED;
	*handle = calloc(1, sizeof(**handle));
	return *handle ? 0 : ALLOC_FAILED;
}

cublas_status cublasDestroy_v2(cublas_handle handle)
{
	free(handle);
	return 0;
}

cublas_status cublasSetStream_v2(cublas_handle handle, cu_stream stream)
{
	handle->stream = stream;
	return 0;
}

/* All arithmetic here is as exact as a pedant wants it. */
cublas_status cublasSetMathMode(cublas_handle handle, int mode)
{
	return handle && mode == CUBLAS_PEDANTIC ? 0 : INVALID_VALUE;
}

static CBLAS_TRANSPOSE op(int ours)
{
	return ours == CUBLAS_TRANSPOSED ? CblasTrans : CblasNoTrans;
}

static void run(void *arg)
{
	const struct gemm *g = arg;

	cblas_sgemm(CblasColMajor, op(g->a_op), op(g->b_op), g->m, g->n, g->k,
		    g->alpha, g->a, g->lda, g->b, g->ldb, g->beta, g->c,
		    g->ldc);
}

/* A matrix of @columns columns, @rows of the @ld floats of each in use. */
static bool on_device(const float *p, int rows, int columns, int ld, bool write)
{
	size_t floats = (size_t)ld * (unsigned)(columns - 1) + (unsigned)rows;

	return ld >= rows &&
	       fakecuda_on_device(p, floats * sizeof(float), write);
}

static bool valid(const struct gemm *g)
{
	bool at = g->a_op == CUBLAS_TRANSPOSED;
	bool bt = g->b_op == CUBLAS_TRANSPOSED;

	return g->m > 0 && g->n > 0 && g->k > 0 &&
	       on_device(g->a, at ? g->k : g->m, at ? g->m : g->k, g->lda,
			 false) &&
	       on_device(g->b, bt ? g->n : g->k, bt ? g->k : g->n, g->ldb,
			 false) &&
	       on_device(g->c, g->m, g->n, g->ldc, true);
}

cublas_status cublasSgemm_v2(cublas_handle handle, int a_op, int b_op, int m,
			     int n, int k, const float *alpha, const float *a,
			     int lda, const float *b, int ldb,
			     const float *beta, float *c, int ldc)
{
	const struct gemm g = { a_op, b_op, m, n,   k,	 *alpha, *beta,
				a,    b,    c, lda, ldb, ldc };

	if (!valid(&g))
		return INVALID_VALUE;
	return fakecuda_host(handle->stream, run, &g, sizeof(g)) ?
		       EXECUTION_FAILED : 0;
}
