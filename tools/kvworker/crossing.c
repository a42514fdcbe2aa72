/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crossing.c - room for what crosses between host and GPU.
 */
#include "tools/kvworker/crossing.h"

void crossing_free(const struct gpu *g, struct crossing *c)
{
	if (c->host)
		g->cu->cuMemFreeHost(c->host);
	if (c->device)
		g->cu->cuMemFree(c->device);
	*c = (struct crossing){ 0 };
}

int crossing_reserve(const struct gpu *g, struct crossing *c, size_t bytes,
		     struct error *e)
{
	int err;

	if (bytes <= c->bytes)
		return 0;
	crossing_free(g, c);
	err = GPU_CALL(g, e, cuMemHostAlloc, &c->host, bytes, 0);
	if (err) {
		c->host = NULL;
		return err;
	}
	err = GPU_CALL(g, e, cuMemAlloc, &c->device, bytes);
	if (err)
		c->device = 0;
	else
		c->bytes = bytes;
	return err;
}
