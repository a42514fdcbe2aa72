/* SPDX-License-Identifier: Apache-2.0 */
/*
 * image.S - the fat binaries that nvcc made, and where each is.
 */
#include "kernels/cuda/image.h"

/* Found with the assembler's -I. */
#define STRING(text) #text
#define BYTES(name)                                                            \
	.section .rodata;                                                      \
	.balign	64;                                                            \
image_##name:                                                                  \
	.incbin STRING(name.fatbin);
KV_CUDA_IMAGES(BYTES)

#define ADDRESS(name) .quad image_##name;
	.section .data.rel.ro, "aw"
	.balign	8
	.globl	kv_cuda_images
	.hidden	kv_cuda_images
	.type	kv_cuda_images, @object
kv_cuda_images:
KV_CUDA_IMAGES(ADDRESS)
	.size	kv_cuda_images, . - kv_cuda_images
	.section .note.GNU-stack, "", @progbits
