/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gpu.h - the device and its memory, for tests of kernels. Everything crosses
 * by copies, so that tests run on a GPU as on the double. Failures end the
 * test (cmocka).
 */
#ifndef TESTS_CUDA_GPU_H
#define TESTS_CUDA_GPU_H

#include <stddef.h>
#include "kernels/cuda/cuda.h"

extern const struct cuda_driver *gpu;
extern struct kv_cuda *gpu_kernels;

/* cmocka's, of a group: the driver, a context and our kernels. */
int gpu_setup(void **state);
int gpu_teardown(void **state);

/* A copy on the device; gpu_free() it. @src may be NULL. */
cu_ptr gpu_copy(const void *src, size_t bytes);
void gpu_free(cu_ptr p);
void gpu_read(void *dst, cu_ptr src, size_t bytes);

/* calloc() that does not fail. */
void *xcalloc(size_t n, size_t bytes);

#endif
