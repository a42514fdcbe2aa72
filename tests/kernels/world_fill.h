/* SPDX-License-Identifier: Apache-2.0 */
/*
 * world_fill.h - world.c's part that makes pages without a quantizer.
 */
#ifndef TESTS_KERNELS_WORLD_FILL_H
#define TESTS_KERNELS_WORLD_FILL_H

#include "tests/kernels/world.h"

/* Frees what world_fill() made, if it did. */
void world_unfill(struct world *w);

#endif
