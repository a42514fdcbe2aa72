/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crossing.h - room for what crosses between host and GPU, on both sides.
 */
#ifndef KVWORKER_CROSSING_H
#define KVWORKER_CROSSING_H

#include <stddef.h>
#include "tools/kvworker/error.h"
#include "tools/kvworker/gpu.h"

struct crossing {
	void *host;		/* page-locked */
	cu_ptr device;
	size_t bytes;
};

/**
 * crossing_reserve() - make room, where there is less; what was there is lost
 * @c:		zeroed, or as this left it; nothing is on its way in it
 */
int crossing_reserve(const struct gpu *g, struct crossing *c, size_t bytes,
		     struct error *e);

/* A zeroed struct is fine. */
void crossing_free(const struct gpu *g, struct crossing *c);

#endif
