// SPDX-License-Identifier: Apache-2.0
/*
 * image_none.c - stands in for the kernels in a build without nvcc.
 */
#include "kernels/cuda/image.h"

static const unsigned char none[] = "no CUDA kernels in this build";

#define NONE(name) none,
const unsigned char *const kv_cuda_images[KV_CUDA_NR_IMAGES] = {
	KV_CUDA_IMAGES(NONE)
};

const char kv_cuda_image_text[] =
	"this build has no CUDA kernels: nvcc was not there when it was made";
