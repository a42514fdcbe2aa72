/* SPDX-License-Identifier: Apache-2.0 */
/*
 * image_none.c - stands in for the kernels in a build without nvcc.
 */
#include "tools/kvworker/image.h"

const unsigned char kv_image_layer[] = "no CUDA kernels in this build";
