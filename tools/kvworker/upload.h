/* SPDX-License-Identifier: Apache-2.0 */
/*
 * upload.h - a model's weights on the GPU.
 */
#ifndef KVWORKER_UPLOAD_H
#define KVWORKER_UPLOAD_H

#include "tools/kvworker/config.h"
#include "tools/kvworker/gpu.h"
#include "tools/kvworker/weights.h"

struct upload {
	struct gpu *gpu;
	cu_ptr memory;		/* 0: none */
	struct weights weights;	/* pointers to matrices are the device's */
};

/**
 * upload_new() - copy the weights to the GPU, once
 * @u:		zeroed; upload_free() it, also where this failed
 *
 * Return: 0, -ENOMEM (here or there), or another of the driver's.
 */
int upload_new(struct upload *u, struct gpu *g, const struct weights *w,
	       const struct config *c, struct error *e);

/* A zeroed struct is fine. */
void upload_free(struct upload *u);

#endif
