/* SPDX-License-Identifier: Apache-2.0 */
/*
 * side.h - K or V of one record: where its codes and metadata are.
 *
 * Where K serves as V (v_dim 0), the side of V is that of K.
 */
#ifndef KERNELS_HOST_SIDE_H
#define KERNELS_HOST_SIDE_H

#include "kernels/page.h"
#include "kernels/tables.h"

#define AFFINE_NAN 0x7e00u /* min of what could not be coded: reads as NaN */

struct side {
	uint32_t format;
	uint32_t basis;
	uint32_t dim;
	uint32_t tokens;  /* of a page */
	uint32_t row;     /* bytes of codes of one token; see order */
	uint32_t order;   /* enum kvd_tile_order; order.h */
	uint32_t v_group; /* kivi's V */
	uint32_t layer;
	uint32_t head;
	int is_v; /* has the metadata of V */
	uint8_t *codes;
	uint8_t *meta;
};

/* Side of the record of (@layer, @head) in @page. */
static inline struct side side_at(const struct page_layout *l, void *page,
				  uint32_t layer, uint32_t head, int is_v)
{
	uint8_t *rec = (uint8_t *)page + page_record(l, layer, head);
	int v = is_v && l->v_dim;

	return (struct side){
		.format = v ? l->v_format : l->k_format,
		.basis = v ? l->v_basis : l->k_basis,
		.dim = v ? l->v_dim : l->k_dim,
		.tokens = l->page_tokens,
		.row = v ? l->v_row : l->k_row,
		.order = l->tile_order,
		.v_group = l->v_group,
		.layer = layer,
		.head = head,
		.is_v = v,
		.codes = rec + (v ? l->v_codes : 0),
		.meta = rec + (v ? l->v_meta : l->k_meta),
	};
}

/* affine_meta[tokens] that begins the metadata, where the coding has it. */
static inline struct affine_meta *side_affine(const struct side *s)
{
	return (struct affine_meta *)s->meta;
}

/* Arrays of f16 of per-channel K: scale[dim], min or zero[dim], factor[T]. */
static inline uint16_t *side_scales(const struct side *s)
{
	return (uint16_t *)s->meta;
}

static inline uint16_t *side_mins(const struct side *s)
{
	return (uint16_t *)s->meta + s->dim;
}

/* kvarn: K's factor[tokens], V's factor[dim]. */
static inline uint16_t *side_factors(const struct side *s)
{
	if (s->is_v)
		return (uint16_t *)(s->meta +
				    s->tokens * sizeof(struct affine_meta));
	return (uint16_t *)s->meta + 2 * s->dim;
}

/* kvquant's list; its entries follow it. */
static inline struct sparse_head *side_sparse(const struct side *s)
{
	uint32_t affine = sizeof(struct affine_meta) * s->tokens;

	return (struct sparse_head *)(s->meta + (s->is_v ? affine : 0));
}

/* Codebook of kvquant: what codes stand for, before range and zero. */
static inline const float *side_codebook(const struct side *s,
					 const struct kv_tables *t)
{
	return (s->is_v ? t->v_out : t->k_out) + s->layer * TABLES_CODES;
}

#endif
