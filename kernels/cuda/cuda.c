// SPDX-License-Identifier: Apache-2.0
/*
 * cuda.c - loads the kernels and launches them.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include "kernels/cuda/append.h"
#include "kernels/cuda/attend.h"
#include "kernels/cuda/convert.h"
#include "kernels/cuda/copy.h"
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/module.h"

#define WARP 32u
#define SHARED_BYTES (48u << 10) /* a block may have without asking */

#define FEW_TOKENS 8u	/* a chunk of fewer is a waste */

/*
 * Blocks that fill a large GPU: with as many rows and heads, one block each
 * goes through all tokens of its row.
 */
#define ENOUGH_BLOCKS 256u

int kv_cuda_find(struct kv_cuda *kc, enum kv_cuda_image image,
		 const char *name, cu_function *ret, struct cuda_why *why)
{
	cu_result err =
		kc->cu->cuModuleGetFunction(ret, kc->modules[image], name);

	if (err)
		cu_text(kc->cu, name, err, why->text, why->bytes);
	return cu_errno(err);
}

/* Of the images that have been loaded. */
static int kernels_find(struct kv_cuda *kc, struct cuda_why *why)
{
	const struct {
		enum kv_cuda_image image;
		cu_function *function;
		const char *name;
	} list[] = {
		{ KV_CUDA_append, &kc->append, "kv_append" },
		{ KV_CUDA_convert, &kc->convert, "kv_convert" },
		{ KV_CUDA_convert, &kc->convert_far, "kv_convert_far" },
		{ KV_CUDA_attend, &kc->attend, "kv_attend" },
		{ KV_CUDA_attend, &kc->merge, "kv_merge" },
		{ KV_CUDA_dequant, &kc->dequant, "kv_dequant" },
		{ KV_CUDA_copy, &kc->gather, "kv_gather" },
		{ KV_CUDA_copy, &kc->scatter, "kv_scatter" },
		{ KV_CUDA_copy, &kc->zero, "kv_zero" },
	};
	int rc = 0;

	for (size_t i = 0; !rc && i < sizeof(list) / sizeof(list[0]); i++)
		if (kc->modules[list[i].image])
			rc = kv_cuda_find(kc, list[i].image, list[i].name,
					  list[i].function, why);
	return rc;
}

static int module_load(struct kv_cuda *kc, enum kv_cuda_image image,
		       struct cuda_why *why)
{
	cu_result err = kc->cu->cuModuleLoadData(&kc->modules[image],
						 kv_cuda_images[image]);

	if (!err)
		return 0;
	kc->modules[image] = NULL;
	if (cu_errno(err) == -ENOEXEC)
		snprintf(why->text, why->bytes, "%s", kv_cuda_image_text);
	else
		cu_text(kc->cu, "cuModuleLoadData", err, why->text, why->bytes);
	return cu_errno(err);
}

/* Images @first to @end - 1, and their kernels. */
static int images_load(const struct cuda_driver *cu, enum kv_cuda_image first,
		       enum kv_cuda_image end, struct kv_cuda **ret,
		       struct cuda_why *why)
{
	struct kv_cuda *kc = calloc(1, sizeof(*kc));
	int rc = 0;

	if (!kc) {
		snprintf(why->text, why->bytes, "out of memory");
		return -ENOMEM;
	}
	kc->cu = cu;
	for (uint32_t i = first; !rc && i < end; i++)
		rc = module_load(kc, i, why);
	if (!rc)
		rc = kernels_find(kc, why);
	if (rc)
		kv_cuda_free(kc);
	else
		*ret = kc;
	return rc;
}

int kv_cuda_new(const struct cuda_driver *cu, struct kv_cuda **ret, char *why,
		size_t why_bytes)
{
	struct cuda_why line = { why, why_bytes };
	struct kv_cuda *kc;
	int rc;

	rc = images_load(cu, 0, KV_CUDA_NR_IMAGES, &kc, &line);
	if (rc)
		return rc;
	rc = mma_prepare(kc, &line);
	if (rc)
		kv_cuda_free(kc);
	else
		*ret = kc;
	return rc;
}

int kv_cuda_new_convert(const struct cuda_driver *cu, struct kv_cuda **ret,
			char *why, size_t why_bytes)
{
	struct cuda_why line = { why, why_bytes };

	return images_load(cu, KV_CUDA_convert, KV_CUDA_convert + 1, ret,
			   &line);
}

void kv_cuda_free(struct kv_cuda *kc)
{
	if (!kc)
		return;
	for (int i = 0; i < KV_CUDA_NR_IMAGES; i++)
		if (kc->modules[i])
			kc->cu->cuModuleUnload(kc->modules[i]);
	free(kc);
}

int kv_cuda_launch(struct kv_cuda *kc, cu_function function,
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

/* What the largest side takes: any layout may be that of a source. */
static uint32_t convert_shared(const struct kv_convert_args *a)
{
	uint32_t most = 0, bytes, i, v;

	for (i = 0; i < KV_MAX_LAYOUTS; i++)
		for (v = 0; v < 2; v++) {
			const struct codes c = page_codes(&a->layouts[i], v);

			bytes = convert_shared_bytes(
				c.tokens, c.dim,
				format_coding(c.format) == CODING_16);
			most = bytes > most ? bytes : most;
		}
	return most;
}

int kv_cuda_convert(struct kv_cuda *kc, const struct kv_convert_args *a,
		    cu_stream stream)
{
	const struct page_layout *l = &a->layouts[0];
	const uint32_t shared = convert_shared(a);
	struct convert_params p = { .args = *a, .shared_bytes = shared };
	struct shape s = {
		.grid = { a->nr_layers * l->nr_heads,
			  a->nr_pages < CONVERT_PAGES ? a->nr_pages :
							CONVERT_PAGES,
			  l->v_dim ? 2 : 1 },
		.threads = CONVERT_THREADS,
	};
	int rc;

	if (!a->nr_pages || !a->nr_layers)
		return 0;
	if (shared > SHARED_BYTES)
		p.shared_bytes = SHARED_BYTES;
	s.shared_bytes = p.shared_bytes;
	rc = kv_cuda_launch(kc, kc->convert, &s, stream, &p);
	if (rc || shared <= SHARED_BYTES)
		return rc;
	s.shared_bytes = SHARED_BYTES;
	return kv_cuda_launch(kc, kc->convert_far, &s, stream, &p);
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
