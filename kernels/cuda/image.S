/* SPDX-License-Identifier: Apache-2.0 */
/*
 * image.S - the fat binaries that nvcc made, and where each is.
 *
 * Whose, images.cmake says: KV_IMAGE_LIST of KV_IMAGE_HEADER names them,
 * KV_IMAGE_TABLE becomes the array of addresses.
 */
#include KV_IMAGE_HEADER

/* Found with the assembler's -I. */
#define STRING(text) #text
#define BYTES(name)                                                            \
	.section .rodata;                                                      \
	.balign	64;                                                            \
image_##name:                                                                  \
	.incbin STRING(name.fatbin);
KV_IMAGE_LIST(BYTES)

#define ADDRESS(name) .quad image_##name;
	.section .data.rel.ro, "aw"
	.balign	8
	.globl	KV_IMAGE_TABLE
	.hidden	KV_IMAGE_TABLE
	.type	KV_IMAGE_TABLE, @object
KV_IMAGE_TABLE:
KV_IMAGE_LIST(ADDRESS)
	.size	KV_IMAGE_TABLE, . - KV_IMAGE_TABLE
	.section .note.GNU-stack, "", @progbits
