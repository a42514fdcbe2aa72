/* SPDX-License-Identifier: Apache-2.0 */
/*
 * synth.h - made-up tables for formats that need a profile.
 *
 * What kernels do with them takes the same time as with a model's.
 */
#ifndef TOOLS_KVBENCH_SYNTH_H
#define TOOLS_KVBENCH_SYNTH_H

#include <stddef.h>
#include "kernels/page.h"
#include "kernels/tables.h"

struct synth {
	struct kv_tables tables;
	float *mem; /* NULL: not made */
	size_t nr_floats;
};

/**
 * synth_init() - tables for pages of @l, for @tokens positions
 *
 * Codebooks spread evenly over [-1, 1], channels of range 1, an orthonormal
 * rotation, RoPE of theta 10000 on all pairs. Return: 0 or -ENOMEM.
 */
int synth_init(struct synth *s, const struct page_layout *l, uint32_t tokens);
void synth_fini(struct synth *s);

#endif
