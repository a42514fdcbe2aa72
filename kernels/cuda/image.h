/* SPDX-License-Identifier: Apache-2.0 */
/*
 * image.h - the compiled kernels, embedded: one image, and so one module, for
 * each .cu of this folder.
 *
 * image.S has fat binaries made by nvcc; image_none.c a text that says there
 * was none. The double of libcuda takes either.
 */
#ifndef KERNELS_CUDA_IMAGE_H
#define KERNELS_CUDA_IMAGE_H

/* X(name): name.cu. CMakeLists.txt has the same list, in the same order. */
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

#ifndef __ASSEMBLER__

enum kv_cuda_image {
#define KV_CUDA_IMAGE(name) KV_CUDA_##name,
	KV_CUDA_IMAGES(KV_CUDA_IMAGE)
#undef KV_CUDA_IMAGE
	KV_CUDA_NR_IMAGES
};

extern const unsigned char *const kv_cuda_images[KV_CUDA_NR_IMAGES]
	__attribute__((visibility("hidden")));

/* What to tell a user whose driver refuses an image. */
extern const char kv_cuda_image_text[];

#endif
#endif
