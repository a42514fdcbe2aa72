// SPDX-License-Identifier: Apache-2.0
/*
 * image_none.c - stands in for the kernels in a build without nvcc.
 */
#include "kernels/cuda/image.h"

const unsigned char kv_cuda_image[] = "no CUDA kernels in this build";

const char kv_cuda_image_text[] =
	"this build has no CUDA kernels: nvcc was not there when it was made";
