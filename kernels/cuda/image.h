/* SPDX-License-Identifier: Apache-2.0 */
/*
 * image.h - the compiled kernels, embedded.
 *
 * image.S has a fat binary made by nvcc; image_none.c a text that says there
 * was none. The double of libcuda takes either.
 */
#ifndef KERNELS_CUDA_IMAGE_H
#define KERNELS_CUDA_IMAGE_H

extern const unsigned char kv_cuda_image[] __attribute__((visibility("hidden")));

/* What to tell a user whose driver refuses the image. */
extern const char kv_cuda_image_text[];

#endif
