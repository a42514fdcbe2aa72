/* SPDX-License-Identifier: Apache-2.0 */
/*
 * image.h - the compiled kernels of the forward pass, embedded, as those of
 * kernels/cuda are: image.S.in there, or image_none.c here.
 */
#ifndef KVWORKER_IMAGE_H
#define KVWORKER_IMAGE_H

extern const unsigned char kv_image_layer[]
	__attribute__((visibility("hidden")));

#endif
