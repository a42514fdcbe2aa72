/* SPDX-License-Identifier: Apache-2.0 */
/*
 * image.S - the fat binary that nvcc made of image.cu.
 */
	.section .rodata
	.balign	64
	.globl	kv_cuda_image
	.hidden	kv_cuda_image
	.type	kv_cuda_image, @object
kv_cuda_image:
	.incbin	KV_CUDA_FATBIN
	.size	kv_cuda_image, . - kv_cuda_image
	.section .note.GNU-stack, "", @progbits
