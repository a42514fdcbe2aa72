/* SPDX-License-Identifier: Apache-2.0 */
/*
 * image.h - the compiled kernels, embedded: one image, and so one module, for
 * each .cu of this folder.
 *
 * image.S.in has a fat binary made by nvcc; image_none.c a text that says there
 * was none. The double of libcuda takes either.
 */
#ifndef KERNELS_CUDA_IMAGE_H
#define KERNELS_CUDA_IMAGE_H

/* X(name): name.cu. CMakeLists.txt has the same list. */
#define KV_CUDA_IMAGES(X)                                                      \
	X(append)                                                              \
	X(attend)                                                              \
	X(convert)                                                             \
	X(copy)                                                                \
	X(dequant)                                                             \
	X(mma_64)                                                              \
	X(mma_128)                                                             \
	X(mma_256)                                                             \
	X(mma_table_64)                                                        \
	X(mma_table_128)                                                       \
	X(mma_table_256)                                                       \
	X(mma_ends)

enum kv_cuda_image {
#define KV_CUDA_IMAGE(name) KV_CUDA_##name,
	KV_CUDA_IMAGES(KV_CUDA_IMAGE)
#undef KV_CUDA_IMAGE
	KV_CUDA_NR_IMAGES
};

#define KV_CUDA_IMAGE(name)                                                    \
	extern const unsigned char kv_image_##name[]                           \
		__attribute__((visibility("hidden")));
KV_CUDA_IMAGES(KV_CUDA_IMAGE)
#undef KV_CUDA_IMAGE

/* What to tell a user whose driver refuses an image. */
extern const char kv_cuda_image_text[];

#endif
