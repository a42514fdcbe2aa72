// SPDX-License-Identifier: Apache-2.0
/*
 * image_none.c - stands in for the kernels in a build without nvcc.
 */
#include "kernels/cuda/image.h"

#define NONE(name)                                                             \
	const unsigned char kv_image_##name[] = "no CUDA kernels in this build";
KV_CUDA_IMAGES(NONE)

const char kv_cuda_image_text[] =
	"this build has no CUDA kernels: nvcc was not there when it was made";
