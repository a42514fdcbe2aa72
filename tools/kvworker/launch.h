/* SPDX-License-Identifier: Apache-2.0 */
/*
 * launch.h - layer.cu's kernels, loaded, and how each is launched.
 */
#ifndef KVWORKER_LAUNCH_H
#define KVWORKER_LAUNCH_H

#include <stddef.h>
#include "tools/kvworker/error.h"
#include "tools/kvworker/gpu.h"
#include "tools/kvworker/layer.h"

struct launcher {
	struct gpu *gpu;
	cu_module module;	/* NULL: not loaded */
	cu_function embed;
	cu_function normalize;
	cu_function rotate;
	cu_function activate;
};

/**
 * launcher_init() - load the kernels into the GPU's context
 * @l:		zeroed; launcher_fini() it
 *
 * Return: 0, -ENOEXEC when this build has no code for the GPU, or another of
 * the driver's.
 */
int launcher_init(struct launcher *l, struct gpu *g, struct error *e);

/* A zeroed struct is fine. */
void launcher_fini(struct launcher *l);

/* Each gives the stream @rows of what layer.h says; 0 or -errno. */
int launch_embed(const struct launcher *l, size_t rows,
		 const struct embed_params *p, struct error *e);
int launch_normalize(const struct launcher *l, size_t rows,
		     const struct normalize_params *p, struct error *e);
int launch_rotate(const struct launcher *l, size_t rows,
		  const struct rotate_params *p, struct error *e);
int launch_activate(const struct launcher *l, size_t rows,
		    const struct activate_params *p, struct error *e);

#endif
