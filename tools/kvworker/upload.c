/* SPDX-License-Identifier: Apache-2.0 */
/*
 * upload.c - a model's weights on the GPU, in one block of memory.
 *
 * The same walk over all matrices is done twice: to count, then to copy.
 */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include "tools/kvworker/upload.h"

#define ALIGN 256u	/* bytes; more than any kernel of a BLAS asks for */

struct walk {
	struct gpu *gpu;
	cu_ptr memory;		/* 0: count alone */
	size_t done;		/* bytes */
	int err;
	struct error *e;
};

static float *put(struct walk *k, const float *from, size_t nr)
{
	cu_ptr at = k->memory + k->done;
	size_t bytes = nr * sizeof(float);

	k->done += (bytes + ALIGN - 1) / ALIGN * ALIGN;
	if (k->memory && !k->err)
		k->err = GPU_CALL(k->gpu, k->e, cuMemcpyHtoDAsync, at, from,
				  bytes, k->gpu->stream);
	return (float *)(uintptr_t)at;
}

static void put_layer(struct walk *k, const struct layer_weights *from,
		      const struct config *c, struct layer_weights *to)
{
	size_t q = (size_t)c->nr_heads * c->head_dim;
	size_t kv = (size_t)c->nr_kv_heads * c->head_dim;
	size_t hidden = c->hidden, mlp = c->intermediate;

	to->attn_norm = put(k, from->attn_norm, hidden);
	to->qkv = put(k, from->qkv, (q + 2 * kv) * hidden);
	to->out = put(k, from->out, hidden * q);
	to->mlp_norm = put(k, from->mlp_norm, hidden);
	to->gate_up = put(k, from->gate_up, 2 * mlp * hidden);
	to->down = put(k, from->down, hidden * mlp);
}

static void put_all(struct walk *k, const struct weights *from,
		    const struct config *c, struct weights *to)
{
	size_t table = (size_t)c->vocab * c->hidden;

	to->embed = put(k, from->embed, table);
	for (uint32_t i = 0; i < c->nr_layers; i++)
		put_layer(k, &from->layers[i], c, &to->layers[i]);
	to->norm = put(k, from->norm, c->hidden);
	to->head = c->tied ? to->embed : put(k, from->head, table);
}

int upload_new(struct upload *u, struct gpu *g, const struct weights *w,
	       const struct config *c, struct error *e)
{
	struct walk k = { .gpu = g, .e = e };
	int err;

	u->gpu = g;
	u->weights.nr_layers = c->nr_layers;
	u->weights.layers = calloc(c->nr_layers, sizeof(*u->weights.layers));
	if (!u->weights.layers)
		return error_set(e, -ENOMEM, "out of memory");
	put_all(&k, w, c, &u->weights);
	err = GPU_CALL(g, e, cuMemAlloc, &u->memory, k.done);
	if (err) {
		u->memory = 0;
		return err;
	}
	k = (struct walk){ .gpu = g, .memory = u->memory, .e = e };
	put_all(&k, w, c, &u->weights);
	if (k.err)
		return k.err;
	return GPU_CALL(g, e, cuStreamSynchronize, g->stream);
}

void upload_free(struct upload *u)
{
	if (u->memory)
		u->gpu->cu->cuMemFree(u->memory);
	free(u->weights.layers);
	*u = (struct upload){ 0 };
}
