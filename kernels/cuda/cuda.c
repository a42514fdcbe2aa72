// SPDX-License-Identifier: Apache-2.0
/*
 * cuda.c - loads the kernels and launches them.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include "kernels/cuda/attend.h"
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/image.h"

#define WARP 32u
#define SHARED_BYTES (48u << 10) /* a block may have without asking */

#define FEW_TOKENS 8u	/* a chunk of fewer is a waste */

/*
 * Blocks that fill a large GPU: with as many rows and heads, one block each
 * goes through all tokens of its row.
 */
#define ENOUGH_BLOCKS 256u

struct kv_cuda {
	const struct cuda_driver *cu;
	cu_module module;
	cu_function append, attend, merge, dequant;
};

/* One launch. */
struct shape {
	unsigned grid[3];
	unsigned threads;
	unsigned shared_bytes;
};

static int kernels_find(struct kv_cuda *kc, char *why, size_t why_bytes)
{
	const struct {
		cu_function *function;
		const char *name;
	} list[] = {
		{ &kc->append, "kv_append" },
		{ &kc->attend, "kv_attend" },
		{ &kc->merge, "kv_merge" },
		{ &kc->dequant, "kv_dequant" },
	};

	for (size_t i = 0; i < sizeof(list) / sizeof(list[0]); i++) {
		cu_result err = kc->cu->cuModuleGetFunction(
			list[i].function, kc->module, list[i].name);

		if (err) {
			cu_text(kc->cu, list[i].name, err, why, why_bytes);
			return cu_errno(err);
		}
	}
	return 0;
}

int kv_cuda_new(const struct cuda_driver *cu, struct kv_cuda **ret, char *why,
		size_t why_bytes)
{
	struct kv_cuda *kc = calloc(1, sizeof(*kc));
	cu_result err;
	int rc;

	if (!kc) {
		snprintf(why, why_bytes, "out of memory");
		return -ENOMEM;
	}
	kc->cu = cu;
	err = cu->cuModuleLoadData(&kc->module, kv_cuda_image);
	rc = cu_errno(err);
	if (rc == -ENOEXEC)
		snprintf(why, why_bytes, "%s", kv_cuda_image_text);
	else if (rc)
		cu_text(cu, "cuModuleLoadData", err, why, why_bytes);
	else
		rc = kernels_find(kc, why, why_bytes);
	if (rc) {
		kv_cuda_free(kc);
		return rc;
	}
	*ret = kc;
	return 0;
}

void kv_cuda_free(struct kv_cuda *kc)
{
	if (!kc)
		return;
	if (kc->module)
		kc->cu->cuModuleUnload(kc->module);
	free(kc);
}

static int launch(struct kv_cuda *kc, cu_function function,
		  const struct shape *s, cu_stream stream, const void *param)
{
	void *params[] = { (void *)(uintptr_t)param };

	return cu_errno(kc->cu->cuLaunchKernel(
		function, s->grid[0], s->grid[1], s->grid[2], s->threads, 1, 1,
		s->shared_bytes, stream, params, NULL));
}

int kv_cuda_append(struct kv_cuda *kc, const struct kv_append_args *a,
		   cu_stream stream)
{
	const struct page_layout *l = &a->layouts[0];
	struct shape s = { .grid = { a->nr_rows, l->nr_heads,
				     l->v_dim ? 2 : 1 },
			   .threads = WARP };

	return a->nr_rows ? launch(kc, kc->append, &s, stream, a) : 0;
}

/* Tokens of a page, and of a tile, that fit in beside so many query heads. */
static uint32_t block_chunk(const struct page_layout *l, uint32_t heads)
{
	uint32_t chunk = l->page_tokens < ATTEND_TILE ? l->page_tokens :
							ATTEND_TILE;

	while (chunk && attend_shared_floats(l, heads, chunk) * sizeof(float) >
				SHARED_BYTES)
		chunk /= 2;
	return chunk;
}

/* Query heads that share a block: as many as leave room for a few tokens. */
static uint32_t block_heads(const struct kv_attend_args *a)
{
	const struct page_layout *l = &a->layouts[0];
	uint32_t group = a->nr_q_heads / l->nr_heads;
	uint32_t heads = group < ATTEND_HEADS ? group : ATTEND_HEADS;

	while (heads > 1 && block_chunk(l, heads) < FEW_TOKENS)
		heads--;
	return heads;
}

static uint32_t block_columns(const struct kv_attend_args *a, uint32_t heads)
{
	uint32_t group = a->nr_q_heads / a->layouts[0].nr_heads;

	return a->layouts[0].nr_heads * ((group + heads - 1) / heads);
}

static uint32_t split_count(const struct kv_attend_args *a, uint32_t max_tokens)
{
	uint64_t blocks = (uint64_t)a->nr_rows *
			  block_columns(a, block_heads(a));

	if (blocks >= ENOUGH_BLOCKS || max_tokens <= ATTEND_SPLIT)
		return 0;
	return (max_tokens + ATTEND_SPLIT - 1) / ATTEND_SPLIT;
}

uint64_t kv_cuda_attend_bytes(const struct kv_attend_args *a,
			      uint32_t max_tokens)
{
	return sizeof(float) * (2 + page_value_dim(&a->layouts[0])) *
	       split_count(a, max_tokens) * a->nr_rows * a->nr_q_heads;
}

int kv_cuda_attend(struct kv_cuda *kc, const struct kv_attend_args *a,
		   const struct kv_cuda_scratch *scratch, cu_stream stream)
{
	struct attend_params p = { .args = *a, .nr_heads = block_heads(a) };
	struct shape s = { .grid = { a->nr_rows,
				     block_columns(a, p.nr_heads), 1 },
			   .threads = ATTEND_THREADS };
	struct shape merge = { .grid = { a->nr_rows, a->nr_q_heads, 1 },
			       .threads = ATTEND_THREADS,
			       .shared_bytes = 2 * page_value_dim(&a->layouts[0]) *
					       (unsigned)sizeof(float) };
	int rc;

	if (!a->nr_rows)
		return 0;
	if (scratch->bytes >= kv_cuda_attend_bytes(a, scratch->max_tokens)) {
		p.nr_splits = split_count(a, scratch->max_tokens);
		p.partial = (float *)(uintptr_t)scratch->ptr;
	}
	if (p.nr_splits)
		s.grid[2] = p.nr_splits;
	p.chunk = block_chunk(&a->layouts[0], p.nr_heads);
	s.shared_bytes = attend_shared_floats(&a->layouts[0], p.nr_heads,
					      p.chunk) *
			 (unsigned)sizeof(float);
	rc = launch(kc, kc->attend, &s, stream, &p);
	if (rc || !p.nr_splits)
		return rc;
	return launch(kc, kc->merge, &merge, stream, &p);
}

int kv_cuda_dequant(struct kv_cuda *kc, const struct kv_cuda_dequant *d,
		    cu_stream stream)
{
	struct dequant_params p = { .layout = *d->layout,
				    .page = (void *)(uintptr_t)d->page,
				    .tables = (void *)(uintptr_t)d->tables,
				    .out = (float *)(uintptr_t)d->out,
				    .layer = d->layer,
				    .head = d->head,
				    .is_v = d->is_v,
				    .nr_tokens = d->nr_tokens };
	struct shape s = { .grid = { 1, 1, 1 }, .threads = DEQUANT_THREADS };

	return d->nr_tokens ? launch(kc, kc->dequant, &s, stream, &p) : 0;
}
