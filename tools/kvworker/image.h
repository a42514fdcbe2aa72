/* SPDX-License-Identifier: Apache-2.0 */
/*
 * image.h - the compiled kernels of the forward pass, embedded, as those of
 * kernels/cuda are: image.S there, or image_none.c here.
 */
#ifndef KVWORKER_IMAGE_H
#define KVWORKER_IMAGE_H

/* X(name): name.cu. CMakeLists.txt has the same list. */
#define WORKER_IMAGES(X) X(layer)

#ifndef __ASSEMBLER__

extern const unsigned char *const worker_images[1]
	__attribute__((visibility("hidden")));

#endif
#endif
