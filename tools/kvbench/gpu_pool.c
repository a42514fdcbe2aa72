/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gpu_pool.c - see gpu_pool.h.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tools/kvbench/gpu_pool.h"

void gpu_pool_take(struct gpu_pool *p, struct gpu *g)
{
	p->base = gpu_take(g, gpu_pool_bytes(p));
}

int gpu_pool_put(const struct gpu_pool *p, struct gpu *g,
                 const struct pages *of)
{
	const struct page_layout *l = &p->layout;
	void *page = malloc(l->page_bytes);
	int err = page ? 0 : -ENOMEM;

	if (!err && p->filled)
		err = pages_sample(of, host_kernels(), l, page);
	else if (!err)
		memset(page, 0xff, l->page_bytes);
	if (err)
		gpu_complain(g, err,
		             err == -EDOM ? "the format refused the values"
		                          : strerror(-err));
	else
		err = gpu_put(g, p->base, page, l->page_bytes);
	free(page);
	return err ? err
	           : gpu_repeat(g, p->base, l->page_bytes, gpu_pool_bytes(p));
}

void gpu_tables_take(struct gpu_tables *t, struct gpu *g, const struct synth *s)
{
	t->tables = gpu_take(g, sizeof(s->tables));
	t->floats = gpu_take(g, s->nr_floats * sizeof(float));
}

/* Where the float at @p of the host's is on the device. */
static const float *moved(const struct gpu_tables *t, const struct synth *s,
                          const float *p)
{
	return p ? (const float *)(uintptr_t)t->floats + (p - s->mem) : NULL;
}

int gpu_tables_put(const struct gpu_tables *t, struct gpu *g,
                   const struct synth *s)
{
	struct kv_tables x = s->tables;
	const float **const all[] = {
		&x.k_scale, &x.v_scale, &x.k_rotation, &x.v_rotation,
		&x.k_lut,   &x.k_out,   &x.v_lut,      &x.v_out,
		&x.k_zero,  &x.k_range, &x.rope_page,  &x.rope_token,
	};
	size_t i;
	int err;

	for (i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		*all[i] = moved(t, s, *all[i]);
	err = gpu_put(g, t->tables, &x, sizeof(x));
	return err ? err
	           : gpu_put(g, t->floats, s->mem,
	                     s->nr_floats * sizeof(float));
}

void gpu_need_text(const struct gpu *g, uint64_t used, char *text, size_t bytes)
{
	snprintf(text, bytes, "needs %llu MiB of memory, %llu are there",
	         (unsigned long long)((g->used - used + (1 << 20) - 1) >> 20),
	         (unsigned long long)((g->bytes - used) >> 20));
}
