// SPDX-License-Identifier: Apache-2.0
/*
 * mma.c - launches attention on tensor cores: mma.h's kernels, three or four
 * in a row, with grids that depend on no length.
 *
 * Scratch has, each 16-byte aligned: the plan, then queries in the basis of
 * the pages, where that is not plain, then what is left of quads.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "kernels/cuda/mma.h"
#include "kernels/cuda/module.h"

#define SHARED_MARGIN 1024u /* the system's, of each block */

/* Kernels that take codes by mask, or by table: mma_table.cuh. */
enum family { BY_MASK, BY_TABLE };

/* Kernels by family, dim and columns. */
static const struct mma_shape {
	enum kv_cuda_image image;
	const char *name;
	uint32_t dim, columns;
	enum family family;
} shapes[MMA_SHAPES] = {
	{ KV_CUDA_mma_64, "kv_mma_64x8", 64, 8 },
	{ KV_CUDA_mma_64, "kv_mma_64x16", 64, 16 },
	{ KV_CUDA_mma_128, "kv_mma_128x8", 128, 8 },
	{ KV_CUDA_mma_128, "kv_mma_128x16", 128, 16 },
	{ KV_CUDA_mma_256, "kv_mma_256x8", 256, 8 },
	{ KV_CUDA_mma_table_64, "kv_mma_table_64x8", 64, 8, BY_TABLE },
	{ KV_CUDA_mma_table_64, "kv_mma_table_64x16", 64, 16, BY_TABLE },
	{ KV_CUDA_mma_table_128, "kv_mma_table_128x8", 128, 8, BY_TABLE },
	{ KV_CUDA_mma_table_128, "kv_mma_table_128x16", 128, 16, BY_TABLE },
	{ KV_CUDA_mma_table_256, "kv_mma_table_256x8", 256, 8, BY_TABLE },
};

/* One launch of kv_mma. */
struct form {
	uint32_t shape;		/* in shapes[] */
	uint32_t depth, shared_bytes;
	uint32_t nr_blocks;
};

/* How a call is cut up. */
struct cut {
	struct mma_stage stages[KV_MAX_LAYOUTS];
	enum family family;
	uint32_t stage_bytes;
	struct form own, bundles;
	uint32_t nr_slots;
	int share;
	int turn;		/* queries must be turned */
	uint64_t q, partial, bytes; /* in scratch */
};

static int attribute(struct kv_cuda *kc, int which, uint32_t *ret,
		     struct cuda_why *why)
{
	int value = 0;
	cu_device dev;
	cu_result err = kc->cu->cuCtxGetDevice(&dev);

	if (!err)
		err = kc->cu->cuDeviceGetAttribute(&value, which, dev);
	if (err)
		cu_text(kc->cu, "cuDeviceGetAttribute", err, why->text,
			why->bytes);
	*ret = (uint32_t)value;
	return cu_errno(err);
}

static int shape_find(struct kv_cuda *kc, size_t i, struct cuda_why *why)
{
	cu_result err;
	int rc = kv_cuda_find(kc, shapes[i].image, shapes[i].name, &kc->mma[i],
			      why);

	if (rc)
		return rc;
	err = kc->cu->cuFuncSetAttribute(kc->mma[i], CU_FUNCTION_MAX_SHARED,
					 (int)kc->shared_bytes);
	if (err)
		cu_text(kc->cu, "cuFuncSetAttribute", err, why->text,
			why->bytes);
	return cu_errno(err);
}

int mma_prepare(struct kv_cuda *kc, struct cuda_why *why)
{
	const struct {
		cu_function *function;
		const char *name;
	} ends[] = {
		{ &kc->mma_plan, "kv_mma_plan" },
		{ &kc->mma_turn, "kv_mma_turn" },
		{ &kc->mma_merge, "kv_mma_merge" },
	};
	int rc = attribute(kc, CU_ATTR_MULTIPROCESSORS, &kc->nr_multiprocessors,
			   why);

	if (!rc)
		rc = attribute(kc, CU_ATTR_MAX_SHARED, &kc->shared_bytes, why);
	for (size_t i = 0; !rc && i < sizeof(ends) / sizeof(ends[0]); i++)
		rc = kv_cuda_find(kc, KV_CUDA_mma_ends, ends[i].name,
				  ends[i].function, why);
	for (size_t i = 0; !rc && i < MMA_SHAPES; i++)
		rc = shape_find(kc, i, why);
	return rc;
}

/* Tokens of a stage: about 8 KiB of K and V at a dim of 128. */
static uint32_t format_tokens(uint32_t format)
{
	uint32_t bits = format_bits(format);

	return bits == 16 ? 16 : bits == 8 ? 32 : 64;
}

static struct mma_stage stage_of(const struct page_layout *l)
{
	uint32_t n = format_tokens(l->k_format), v = format_tokens(l->v_format);
	struct mma_stage s;

	n = n > v ? n : v;
	s.tokens = n < l->page_tokens ? n : l->page_tokens;
	s.k_meta = s.tokens * l->k_row;
	s.v_codes = s.k_meta + (l->v_codes - l->k_meta);
	s.v_meta = s.v_codes + s.tokens * l->v_row;
	s.bytes = s.v_meta + (l->record_bytes - l->v_meta);
	return s;
}

static int format_knows(enum family family, uint32_t format)
{
	if (family == BY_TABLE)
		return format_coding(format) == CODING_KVQUANT ||
		       format_coding(format) == CODING_16;
	return format_coding(format) != CODING_KVQUANT;
}

/* Pairs of channels must be tiles apart, or neighbours. */
static int rope_knows(enum family family, const struct page_layout *l,
		      uint32_t pairs)
{
	return l->rope_order != KVD_ROPE_PRE ||
	       (family == BY_TABLE && l->k_basis == BASIS_PLAIN &&
		pairs * 2 == l->k_dim);
}

static int layout_knows(enum family family, const struct page_layout *l,
			uint32_t pairs)
{
	return l->tile_order == KVD_TILE_MMA && l->k_dim == l->v_dim &&
	       rope_knows(family, l, pairs) &&
	       format_knows(family, l->k_format) &&
	       format_knows(family, l->v_format) &&
	       (format_coding(l->v_format) != CODING_KIVI ||
		l->v_dim <= l->v_group * MMA_V_GROUPS);
}

/* Layouts in use come first. */
static uint32_t layouts_count(const struct kv_attend_args *a)
{
	uint32_t n = 0;

	while (n < KV_MAX_LAYOUTS && a->layouts[n].page_tokens)
		n++;
	return n;
}

/* Whoever has a page to look up, or keys to turn. */
static enum family family_of(const struct kv_attend_args *a)
{
	for (uint32_t i = 0; i < layouts_count(a); i++) {
		const struct page_layout *l = &a->layouts[i];

		if (l->rope_order == KVD_ROPE_PRE ||
		    format_coding(l->k_format) == CODING_KVQUANT ||
		    format_coding(l->v_format) == CODING_KVQUANT)
			return BY_TABLE;
	}
	return BY_MASK;
}

/* Kernels of 16 columns where @columns are more than 8, if there are any. */
static int shape_of(enum family family, uint32_t dim, uint32_t columns)
{
	int found = -1;

	for (uint32_t i = 0; i < MMA_SHAPES; i++)
		if (shapes[i].family == family && shapes[i].dim == dim &&
		    (shapes[i].columns == MMA_COLUMNS || columns > MMA_COLUMNS))
			found = (int)i;
	return found;
}

/* The ring: deep enough, and two blocks a multiprocessor where that is so. */
static int form_make(const struct kv_cuda *kc, const struct cut *c,
		     uint32_t dim, uint32_t columns, struct form *f)
{
	const uint32_t half = (kc->shared_bytes - SHARED_MARGIN) / 2;
	const uint32_t stage = MMA_WARPS * c->stage_bytes;
	const int shape = shape_of(c->family, dim, columns);
	uint32_t fixed;

	if (shape < 0)
		return 0;
	f->shape = (uint32_t)shape;
	columns = shapes[shape].columns;
	fixed = mma_shared_of(c->family, dim, columns, 0, 0).bytes;
	if (half >= fixed + 2 * stage)
		f->depth = (half - fixed) / stage;
	else if (kc->shared_bytes >= fixed + stage)
		f->depth = (kc->shared_bytes - fixed) / stage;
	else
		return 0;
	if (f->depth > MMA_MAX_DEPTH)
		f->depth = MMA_MAX_DEPTH;
	f->shared_bytes = mma_shared_of(c->family, dim, columns, f->depth,
					c->stage_bytes).bytes;
	return 1;
}

/* Blocks that fill the device: a persistent grid. */
static uint32_t form_blocks(const struct kv_cuda *kc, const struct form *f)
{
	return kc->nr_multiprocessors *
	       (kc->shared_bytes / (f->shared_bytes + SHARED_MARGIN) + 1);
}

static int stages_make(const struct kv_attend_args *a,
		       const struct kv_cuda_batch *b, struct cut *c)
{
	c->family = family_of(a);
	for (uint32_t i = 0; i < layouts_count(a); i++) {
		if (!layout_knows(c->family, &a->layouts[i], b->rope_pairs))
			return 0;
		c->stages[i] = stage_of(&a->layouts[i]);
		if (c->stages[i].bytes > c->stage_bytes)
			c->stage_bytes = c->stages[i].bytes;
	}
	return 1;
}

int mma_knows(const struct kv_cuda *kc, const struct kv_attend_args *a,
	      const struct kv_cuda_batch *b)
{
	const uint32_t dim = a->layouts[0].k_dim;
	struct cut c = { 0 };

	return stages_make(a, b, &c) &&
	       form_make(kc, &c, dim, MMA_COLUMNS, &c.own) &&
	       form_make(kc, &c, dim, 2 * MMA_COLUMNS, &c.bundles);
}

static uint64_t align16(uint64_t n)
{
	return (n + 15) / 16 * 16;
}

static uint64_t div_up(uint64_t n, uint64_t by)
{
	return (n + by - 1) / by;
}

static uint32_t least(uint64_t a, uint32_t b)
{
	return a < b ? (uint32_t)a : b;
}

/* Slots, and blocks of either launch, from bounds on the items there are. */
static void cut_items(const struct kv_cuda *kc, const struct kv_attend_args *a,
		      const struct kv_cuda_batch *b, struct cut *c)
{
	const uint32_t heads = a->layouts[0].nr_heads;
	const uint64_t group = a->nr_q_heads / heads;
	const uint32_t blocks = form_blocks(kc, &c->own);
	uint64_t own = div_up(b->max_rows * group,
			      shapes[c->own.shape].columns) * heads *
		       a->nr_seqs;
	uint64_t bundles = div_up(a->nr_seqs * group,
				  shapes[c->bundles.shape].columns) * heads;

	c->nr_slots = 1;
	c->share = b->share && !a->window && a->nr_seqs > 1 &&
		   a->nr_seqs <= MMA_MAX_SHARING && b->max_tokens > MMA_QUAD;
	if (c->share || (own < blocks && b->max_tokens > MMA_QUAD))
		c->nr_slots = (uint32_t)div_up(b->max_tokens, MMA_QUAD);
	c->own.nr_blocks = least(own * c->nr_slots, blocks);
	c->bundles.nr_blocks = least(bundles * c->nr_slots,
				     form_blocks(kc, &c->bundles));
}

static struct cut cut_make(const struct kv_cuda *kc,
			   const struct kv_attend_args *a,
			   const struct kv_cuda_batch *b)
{
	const struct page_layout *l = &a->layouts[0];
	const uint32_t group = a->nr_q_heads / l->nr_heads;
	const uint64_t rows = (uint64_t)a->nr_rows * a->nr_q_heads;
	struct cut c = { 0 };

	stages_make(a, b, &c);
	form_make(kc, &c, l->k_dim, b->max_rows * group, &c.own);
	form_make(kc, &c, l->k_dim, 2 * MMA_COLUMNS, &c.bundles);
	cut_items(kc, a, b, &c);
	c.turn = l->k_basis != BASIS_PLAIN;
	c.q = align16((a->nr_seqs + 1ull) * (c.share ? 16 : 4));
	c.partial = c.q + (c.turn ? rows * l->k_dim * 4 : 0);
	c.bytes = c.partial + rows * c.nr_slots * (2 + l->v_dim) * 4;
	return c;
}

uint64_t mma_bytes(const struct kv_cuda *kc, const struct kv_attend_args *a,
		   const struct kv_cuda_batch *b)
{
	return cut_make(kc, a, b).bytes;
}

static struct mma_plan plan_at(cu_ptr ptr, uint32_t nr_seqs, int share)
{
	uint32_t *p = (uint32_t *)(uintptr_t)ptr;
	struct mma_plan plan = { .first_item = p };

	if (share) {
		plan.first_shared = p + nr_seqs + 1;
		plan.bundle = p + 2 * (nr_seqs + 1);
		plan.shared = p + 3 * (nr_seqs + 1);
	}
	return plan;
}

static int turn(struct kv_cuda *kc, struct mma_params *p, cu_ptr out,
		cu_stream stream)
{
	struct kv_attend_args *a = &p->args;
	struct turn_params t = { .layout = a->layouts[0],
				 .tables = a->tables,
				 .seqs = a->seqs,
				 .q = a->q,
				 .out = (float *)(uintptr_t)out,
				 .q_stride = a->q_stride,
				 .dtype = a->dtype,
				 .layer = a->layer,
				 .nr_q_heads = a->nr_q_heads,
				 .nr_seqs = a->nr_seqs };
	struct shape s = { .grid = { a->nr_rows, a->nr_q_heads, 1 },
			   .threads = MMA_THREADS,
			   .shared_bytes = a->layouts[0].k_dim * 4 };

	a->q = t.out;
	a->q_stride = (uint64_t)a->nr_q_heads * a->layouts[0].k_dim;
	p->q_dtype = KVD_DTYPE_F32;
	return kv_cuda_launch(kc, kc->mma_turn, &s, stream, &t);
}

static int plan(struct kv_cuda *kc, const struct mma_params *p,
		cu_stream stream)
{
	struct shape s = { .grid = { 1, 1, 1 },
			   .threads = MMA_PLAN_THREADS,
			   .shared_bytes = p->plan.first_shared ?
						   p->args.nr_seqs * 4 :
						   0 };

	return kv_cuda_launch(kc, kc->mma_plan, &s, stream, p);
}

static int attend(struct kv_cuda *kc, struct mma_params *p,
		  const struct form *f, cu_stream stream)
{
	struct shape s = { .grid = { f->nr_blocks, 1, 1 },
			   .threads = MMA_THREADS,
			   .shared_bytes = f->shared_bytes };

	p->columns = shapes[f->shape].columns;
	p->depth = f->depth;
	return kv_cuda_launch(kc, kc->mma[f->shape], &s, stream, p);
}

static int merge(struct kv_cuda *kc, const struct mma_params *p,
		 cu_stream stream)
{
	const struct kv_attend_args *a = &p->args;
	struct shape s = { .grid = { a->nr_rows, a->nr_q_heads, 1 },
			   .threads = MMA_THREADS,
			   .shared_bytes = a->layouts[0].v_dim * 4 };

	return kv_cuda_launch(kc, kc->mma_merge, &s, stream, p);
}

int mma_attend(struct kv_cuda *kc, const struct kv_attend_args *a,
	       const struct kv_cuda_scratch *scratch, cu_stream stream)
{
	const struct cut c = cut_make(kc, a, &scratch->batch);
	struct mma_params p = {
		.args = *a,
		.plan = plan_at(scratch->ptr, a->nr_seqs, c.share),
		.partial = (float *)(uintptr_t)(scratch->ptr + c.partial),
		.q_dtype = a->dtype,
		.nr_slots = c.nr_slots,
		.columns = shapes[c.own.shape].columns,
		.shared_columns = shapes[c.bundles.shape].columns,
		.stage_bytes = c.stage_bytes,
	};
	int rc = 0;

	if (scratch->bytes < c.bytes)
		return -ENOMEM;
	memcpy(p.stages, c.stages, sizeof(p.stages));
	if (c.turn)
		rc = turn(kc, &p, scratch->ptr + c.q, stream);
	if (!rc)
		rc = plan(kc, &p, stream);
	if (!rc)
		rc = attend(kc, &p, &c.own, stream);
	if (!rc && c.share) {
		p.bundles = 1;
		rc = attend(kc, &p, &c.bundles, stream);
	}
	return rc ? rc : merge(kc, &p, stream);
}
