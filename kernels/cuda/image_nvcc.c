// SPDX-License-Identifier: Apache-2.0
/*
 * image_nvcc.c - goes with image.S.in.
 */
#include "kernels/cuda/image.h"

const char kv_cuda_image_text[] =
	"our kernels are for compute capability 8.0 and up";
