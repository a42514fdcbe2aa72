/* SPDX-License-Identifier: Apache-2.0 */
/*
 * image_none.c - stands in for the kernels in a build without nvcc.
 */
#include "tools/kvworker/image.h"

static const unsigned char none[] = "no CUDA kernels in this build";

const unsigned char *const worker_images[1] = { none };
