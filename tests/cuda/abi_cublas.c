/* SPDX-License-Identifier: Apache-2.0 */
/*
 * abi_cublas.c - our declarations of libcublas's ABI agree with NVIDIA's
 * header, which renames a call to the version of its ABI by a macro.
 */
#include <cublas_v2.h>
#include <stdio.h>
#include <string.h>
#include "tools/kvworker/cublas.h"

#define SAME_VALUE(ours, theirs)                                               \
	_Static_assert((long long)(ours) == (long long)(theirs), #ours)

_Static_assert(_Generic((cublas_handle)0, cublasHandle_t: 1), "handle");
_Static_assert(_Generic((cu_stream)0, cudaStream_t: 1), "stream");
_Static_assert(sizeof(cublas_status) == sizeof(cublasStatus_t), "status");
_Static_assert(sizeof(int) == sizeof(cublasOperation_t), "operation");
_Static_assert(sizeof(int) == sizeof(cublasMath_t), "math");
SAME_VALUE(0, CUBLAS_STATUS_SUCCESS);
SAME_VALUE(CUBLAS_NOT_TRANSPOSED, CUBLAS_OP_N);
SAME_VALUE(CUBLAS_TRANSPOSED, CUBLAS_OP_T);
SAME_VALUE(CUBLAS_PEDANTIC, CUBLAS_PEDANTIC_MATH);

/* Enums are ints of another sign there, which a call does not tell apart. */
typedef cublasStatus_t (*their_sgemm)(cublasHandle_t, cublasOperation_t,
				      cublasOperation_t, int, int, int,
				      const float *, const float *, int,
				      const float *, int, const float *,
				      float *, int);
_Static_assert(_Generic(&cublasSgemm, their_sgemm: 1), "sgemm");
_Static_assert(_Generic(((struct cublas *)0)->sgemm,
			cublas_status (*)(cublas_handle, int, int, int, int,
					  int, const float *, const float *,
					  int, const float *, int,
					  const float *, float *, int): 1),
	       "our sgemm");

#define TEXT_OF(x) #x
#define TEXT(x) TEXT_OF(x)

static int check(const char *theirs, const char *ours)
{
	if (strcmp(theirs, ours) == 0)
		return 0;
	fprintf(stderr, "<cublas_v2.h> has %s, we have %s\n", theirs, ours);
	return 1;
}

int main(void)
{
	return check(TEXT(cublasCreate), "cublasCreate_v2") |
	       check(TEXT(cublasDestroy), "cublasDestroy_v2") |
	       check(TEXT(cublasSetStream), "cublasSetStream_v2") |
	       check(TEXT(cublasSetMathMode), "cublasSetMathMode") |
	       check(TEXT(cublasSgemm), "cublasSgemm_v2");
}
