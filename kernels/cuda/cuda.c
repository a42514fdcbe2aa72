// SPDX-License-Identifier: Apache-2.0
/*
 * cuda.c - loads all kernels and launches them.
 */
#include <errno.h>
#include "kernels/cuda/append.h"
#include "kernels/cuda/attend.h"
#include "kernels/cuda/copy.h"
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/module.h"

#define WARP 32u
#define FEW_TOKENS 8u	/* a chunk of fewer is a waste */

/*
 * Blocks that fill a large GPU: with as many rows and heads, one block each
 * goes through all tokens of its row.
 */
#define ENOUGH_BLOCKS 256u

static const unsigned char *const images[KV_CUDA_NR_IMAGES] = {
#define KV_CUDA_IMAGE(name) kv_image_##name,
	KV_CUDA_IMAGES(KV_CUDA_IMAGE)
#undef KV_CUDA_IMAGE
};

static int kernels_find(struct kv_cuda *kc, struct cuda_why *why)
{
	const struct {
		enum kv_cuda_image image;
		cu_function *function;
		const char *name;
	} list[] = {
		{ KV_CUDA_append, &kc->append, "kv_append" },
		{ KV_CUDA_attend, &kc->attend, "kv_attend" },
		{ KV_CUDA_attend, &kc->merge, "kv_merge" },
		{ KV_CUDA_dequant, &kc->dequant, "kv_dequant" },
		{ KV_CUDA_copy, &kc->gather, "kv_gather" },
		{ KV_CUDA_copy, &kc->scatter, "kv_scatter" },
		{ KV_CUDA_copy, &kc->zero, "kv_zero" },
	};
	int rc = 0;

	for (size_t i = 0; !rc && i < sizeof(list) / sizeof(list[0]); i++)
		rc = kv_cuda_find(kc, list[i].image, list[i].name,
				  list[i].function, why);
	return rc;
}

static int images_load(struct kv_cuda *kc, struct cuda_why *why)
{
	int rc = 0;

	for (uint32_t i = 0; !rc && i < KV_CUDA_NR_IMAGES; i++)
		rc = kv_cuda_load(kc, i, images[i], why);
	return rc;
}

int kv_cuda_new(const struct cuda_driver *cu, struct kv_cuda **ret, char *why,
		size_t why_bytes)
{
	struct cuda_why line = { why, why_bytes };
	struct kv_cuda *kc;
	int rc;

	rc = kv_cuda_alloc(cu, &kc, &line);
	if (rc)
		return rc;
	rc = images_load(kc, &line);
	if (!rc)
		rc = kernels_find(kc, &line);
	if (!rc)
		rc = convert_find(kc, &line);
	if (!rc)
		rc = mma_prepare(kc, &line);
	if (rc)
		kv_cuda_free(kc);
	else
		*ret = kc;
	return rc;
}

int kv_cuda_append(struct kv_cuda *kc, const struct kv_append_args *a,
		   cu_stream stream)
{
	const struct page_layout *l = &a->layouts[0];
	const uint32_t dim = l->k_dim > l->v_dim ? l->k_dim : l->v_dim;
	const int tiled = l->tile_order != KVD_TILE_ROW;
	const unsigned threads = tiled ? APPEND_TILE_THREADS : WARP;
	const uint32_t rows = tiled ? APPEND_TILE : 1;
	struct shape s = {
		.grid = { tiled ? append_tiles_most(a->nr_rows, a->nr_seqs) :
				  a->nr_rows,
			  l->nr_heads, l->v_dim ? 2 : 1 },
		.threads = threads,
		.shared_bytes = append_shared_bytes(threads / WARP, rows, dim),
	};

	return a->nr_rows ? kv_cuda_launch(kc, kc->append, &s, stream, a) : 0;
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

uint64_t kv_cuda_attend_bytes(const struct kv_cuda *kc,
			      const struct kv_attend_args *a,
			      const struct kv_cuda_batch *b)
{
	if (mma_knows(kc, a, b))
		return mma_bytes(kc, a, b);
	return sizeof(float) * (2 + page_value_dim(&a->layouts[0])) *
	       split_count(a, b->max_tokens) * a->nr_rows * a->nr_q_heads;
}

int kv_cuda_attend_tensor(const struct kv_cuda *kc,
			  const struct kv_attend_args *a,
			  const struct kv_cuda_batch *b)
{
	return mma_knows(kc, a, b);
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
	if (mma_knows(kc, a, &scratch->batch))
		return mma_attend(kc, a, scratch, stream);
	if (scratch->bytes >= kv_cuda_attend_bytes(kc, a, &scratch->batch)) {
		p.nr_splits = split_count(a, scratch->batch.max_tokens);
		p.partial = (float *)(uintptr_t)scratch->ptr;
	}
	if (p.nr_splits)
		s.grid[2] = p.nr_splits;
	p.chunk = block_chunk(&a->layouts[0], p.nr_heads);
	s.shared_bytes = attend_shared_floats(&a->layouts[0], p.nr_heads,
					      p.chunk) *
			 (unsigned)sizeof(float);
	rc = kv_cuda_launch(kc, kc->attend, &s, stream, &p);
	if (rc || !p.nr_splits)
		return rc;
	return kv_cuda_launch(kc, kc->merge, &merge, stream, &p);
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

	return d->nr_tokens ? kv_cuda_launch(kc, kc->dequant, &s, stream, &p) : 0;
}

/* What was asked for, or the default, and no more than there are chunks. */
static unsigned copy_blocks(const struct kv_cuda *kc,
			    const struct kv_cuda_pages *p)
{
	const uint64_t chunks = (uint64_t)p->max_pages *
				copy_parts(p->page_bytes);
	uint32_t nr = p->nr_blocks;

	if (!nr)
		nr = (kc->nr_multiprocessors + COPY_BLOCKS_OF - 1) /
		     COPY_BLOCKS_OF * COPY_BLOCKS;
	if (nr > INT32_MAX)
		nr = INT32_MAX; /* the most there is of a grid */
	return nr < chunks ? nr : (unsigned)chunks;
}

static int copy_launch(struct kv_cuda *kc, cu_function function,
		       const struct kv_cuda_pages *p, cu_ptr buffer,
		       cu_stream stream)
{
	const struct copy_params params = {
		.pages = (const uint64_t *)(uintptr_t)p->list,
		.nr = (const uint32_t *)(uintptr_t)p->nr,
		.buffer = (uint8_t *)(uintptr_t)buffer,
		.max_pages = p->max_pages,
		.page_bytes = p->page_bytes,
	};
	struct shape s = { .grid = { copy_blocks(kc, p), 1, 1 },
			   .threads = COPY_THREADS };

	if (p->page_bytes % COPY_ALIGN)
		return -EINVAL;
	return s.grid[0] ? kv_cuda_launch(kc, function, &s, stream, &params) :
			   0;
}

int kv_cuda_gather(struct kv_cuda *kc, const struct kv_cuda_pages *p, cu_ptr to,
		   cu_stream stream)
{
	return copy_launch(kc, kc->gather, p, to, stream);
}

int kv_cuda_scatter(struct kv_cuda *kc, const struct kv_cuda_pages *p,
		    cu_ptr from, cu_stream stream)
{
	return copy_launch(kc, kc->scatter, p, from, stream);
}

int kv_cuda_zero(struct kv_cuda *kc, const struct kv_cuda_pages *p,
		 cu_stream stream)
{
	return copy_launch(kc, kc->zero, p, 0, stream);
}
