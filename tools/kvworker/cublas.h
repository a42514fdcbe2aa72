/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cublas.h - NVIDIA's BLAS, from a library opened at run time.
 *
 * What kernels/cuda/driver.h does for libcuda: our own minimal declarations,
 * one table of calls; tests/cuda/abi_cublas.c compares them with
 * <cublas_v2.h>. There may be a driver and no libcublas: then matrices stay on
 * the CPU.
 */
#ifndef KVWORKER_CUBLAS_H
#define KVWORKER_CUBLAS_H

#include <stddef.h>
#include "tools/kvworker/error.h"
#include "tools/kvworker/gpu.h"

typedef int cublas_status; /* 0: success */
typedef struct cublasContext *cublas_handle;

enum {
	CUBLAS_NOT_TRANSPOSED = 0,	/* CUBLAS_OP_N */
	CUBLAS_TRANSPOSED = 1,		/* CUBLAS_OP_T */
	CUBLAS_PEDANTIC = 2		/* CUBLAS_PEDANTIC_MATH: f32 is f32 */
};

/* X(call, symbol, (parameters)); matrices are stored by columns. */
#define CUBLAS_CALLS(X)                                                        \
	X(create, cublasCreate_v2, (cublas_handle * handle))                   \
	X(destroy, cublasDestroy_v2, (cublas_handle handle))                   \
	X(set_stream, cublasSetStream_v2,                                      \
	  (cublas_handle handle, cu_stream stream))                            \
	X(set_math, cublasSetMathMode, (cublas_handle handle, int mode))       \
	X(sgemm, cublasSgemm_v2,                                               \
	  (cublas_handle handle, int a_op, int b_op, int m, int n, int k,      \
	   const float *alpha, const float *a, int lda, const float *b,        \
	   int ldb, const float *beta, float *c, int ldc))

struct cublas {
#define CUBLAS_FIELD(call, symbol, params) cublas_status(*call) params;
	CUBLAS_CALLS(CUBLAS_FIELD)
#undef CUBLAS_FIELD
	cublas_handle handle;	/* NULL until made */
};

/**
 * cublas_open() - a handle for the GPU's stream, with exact f32
 * @b:		zeroed; cublas_close() it, also where this failed
 *
 * Return: 0 or -ENODEV, with @e saying what there is not.
 */
int cublas_open(struct cublas *b, const struct gpu *g, struct error *e);

/* A zeroed struct is fine. */
void cublas_close(struct cublas *b);

/* One product of row-major matrices in device memory. */
struct product {
	const float *a;		/* [rows][k] */
	const float *b;		/* [n][k] */
	float *out;		/* [rows][n] */
	size_t rows;
	size_t n;
	size_t k;
	float beta;		/* 1: added to out, 0: not */
};

/**
 * cublas_multiply() - out = a b^T + beta out, given to the stream
 */
int cublas_multiply(const struct cublas *b, const struct product *p,
		    struct error *e);

#endif
