// SPDX-License-Identifier: Apache-2.0
/* device_cuda_tables.c - copies of tables in device memory. */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include "client-lib/device_cuda_tables.h"

#define ARRAY_ALIGN 16u

/* A block that is being filled: on the host, and where it will be. */
struct image {
	char *host;		/* NULL: only counted */
	cu_ptr device;
	uint64_t bytes;		/* so far */
};

/* Adds @n floats and puts their address in the device's place of @at. */
static void image_add(struct image *im, const float **at, uint64_t n)
{
	if (!*at)
		return;
	if (im->host) {
		memcpy(im->host + im->bytes, *at, n * sizeof(float));
		*at = (const float *)(uintptr_t)(im->device + im->bytes);
	}
	im->bytes += (n * sizeof(float) + ARRAY_ALIGN - 1) &
		     ~(uint64_t)(ARRAY_ALIGN - 1);
}

/* All of @host. Arrays are as large as tables.h says. */
static void image_make(struct image *im, const struct page_layout *l,
		       const struct kv_tables *host)
{
	const uint64_t layers = l->nr_layers, k = l->k_dim, v = l->v_dim;
	const uint64_t heads = layers * host->nr_heads;
	const uint64_t codes = layers * TABLES_CODES;
	const uint64_t angles = 2ull * host->rope_pairs;
	struct kv_tables t = *host;

	im->bytes = (sizeof(t) + ARRAY_ALIGN - 1) & ~(ARRAY_ALIGN - 1ul);
	image_add(im, &t.k_scale, heads);
	image_add(im, &t.v_scale, heads);
	image_add(im, &t.k_rotation, layers * k * k);
	image_add(im, &t.v_rotation, layers * v * v);
	image_add(im, &t.k_lut, codes);
	image_add(im, &t.k_out, codes);
	image_add(im, &t.v_lut, codes);
	image_add(im, &t.v_out, codes);
	image_add(im, &t.k_zero, heads * k);
	image_add(im, &t.k_range, heads * k);
	image_add(im, &t.rope_page, t.rope_pages * angles);
	image_add(im, &t.rope_token, l->page_tokens * angles);
	if (im->host)
		memcpy(im->host, &t, sizeof(t));
}

static int image_send(const struct image *im, const struct cuda_tables_way *way)
{
	if (way->cu->cuMemcpyHtoDAsync(im->device, im->host, im->bytes,
				       way->stream) ||
	    way->cu->cuStreamSynchronize(way->stream))
		return -EIO;
	return 0;
}

static int tables_make(struct cuda_tables *t, const struct cuda_tables_way *way,
		       const struct page_layout *l,
		       const struct kv_tables *host)
{
	struct image im = { .host = NULL };
	int r;

	image_make(&im, l, host);
	im.host = calloc(1, im.bytes);
	if (!im.host)
		return -ENOMEM;
	if (way->cu->cuMemAlloc(&im.device, im.bytes)) {
		free(im.host);
		return -ENOMEM;
	}
	image_make(&im, l, host);
	r = image_send(&im, way);
	free(im.host);
	if (r) {
		way->cu->cuMemFree(im.device);
		return r;
	}
	t->host = host;
	t->device = im.device;
	t->rope_pages = host->rope_pages;
	return 0;
}

/* Puts the copy there is with the old ones. */
static int tables_keep(struct cuda_tables *t)
{
	cu_ptr *p;

	if (!t->host)
		return 0;
	p = realloc(t->old, (t->nr_old + 1) * sizeof(*p));
	if (!p)
		return -ENOMEM;
	t->old = p;
	t->old[t->nr_old] = t->device;
	return 0;
}

/* The group's copy, or an empty one. There are as many as groups. */
static struct cuda_tables *tables_find(struct cuda_tables *all,
				       const struct kv_tables *host)
{
	for (uint32_t i = 0; i < KVD_MAX_GROUPS; i++)
		if (all[i].host == host || !all[i].host)
			return &all[i];
	return NULL;
}

int cuda_tables_get(struct cuda_tables *all, const struct cuda_tables_way *way,
		    const struct page_layout *l, const struct kv_tables *host,
		    const struct kv_tables **ret)
{
	struct cuda_tables *t;
	int r;

	*ret = NULL;
	if (!host)
		return 0;
	t = tables_find(all, host);
	if (!t)
		return -EIO;
	if (!t->host || t->rope_pages < host->rope_pages) {
		bool had = t->host != NULL;

		r = tables_keep(t);
		if (!r)
			r = tables_make(t, way, l, host);
		if (r)
			return r;
		t->nr_old += had;
	}
	*ret = (const struct kv_tables *)(uintptr_t)t->device;
	return 0;
}

void cuda_tables_fini(struct cuda_tables *all, const struct cuda_driver *cu)
{
	for (uint32_t i = 0; i < KVD_MAX_GROUPS; i++) {
		if (all[i].host)
			cu->cuMemFree(all[i].device);
		for (uint32_t o = 0; o < all[i].nr_old; o++)
			cu->cuMemFree(all[i].old[o]);
		free(all[i].old);
		all[i] = (struct cuda_tables){ .host = NULL };
	}
}
