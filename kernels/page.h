/* SPDX-License-Identifier: Apache-2.0 */
/*
 * page.h - where each byte of a page is, for C and for CUDA.
 *
 * A page is [layer][kv head] records. A record is
 *
 *	K codes | K metadata | V codes | V metadata
 *
 * each part starting on a 16-byte boundary, the record's size a multiple of
 * 16, the page's a multiple of PAGE_ALIGN. Codes lie as tile.h says.
 * FORMATS.md is this file in words.
 *
 * A group of layers has one class of pages or two. Class g, of group g, is
 * where tokens are appended first; where that is not already the geometry's
 * own format, a class of number nr_groups and up is (geometry_sealed_class).
 * Where sealed pages may be demoted, a class after those is of the smaller
 * ones (geometry_demoted_class).
 */
#ifndef KERNELS_PAGE_H
#define KERNELS_PAGE_H

#include <stdint.h>
#include "kernels/format.h"
#include "kernels/tile.h"

#define PAGE_ALIGN 256u
#define PAGE_MAX_CLASSES (KVD_MAX_GROUPS * 2)
#define PAGE_NO_CLASS UINT32_MAX
#define V_GROUP_DEFAULT 64u

/* Scale and minimum of a run of codes: x = code * scale + min. */
struct affine_meta {
	uint16_t scale;	/* f16 bits */
	uint16_t min;	/* f16 bits */
};

/*
 * kvquant's sparse list, after the rest of its metadata: nr entries in order
 * of place, then room up to sparse_max(). value is added to what the code
 * stands for.
 */
struct sparse_head {
	uint16_t nr;
	uint16_t reserved; /* 0 */
};

struct sparse_entry {
	uint16_t at;	/* token * dim + element */
	uint16_t value;	/* f16 bits */
};

#ifdef __cplusplus
#define PAGE_ASSERT(x) static_assert(x, "page format")
#else
#define PAGE_ASSERT(x) _Static_assert(x, "page format")
#endif

PAGE_ASSERT(sizeof(struct affine_meta) == 4);
PAGE_ASSERT(sizeof(struct sparse_head) == 4);
PAGE_ASSERT(sizeof(struct sparse_entry) == 4);

/* Byte layout of the pages of one class of one group. */
struct page_layout {
	uint32_t page_tokens;
	uint32_t nr_layers;
	uint32_t nr_heads;
	uint32_t k_dim;
	uint32_t v_dim;		/* 0: K serves as V (MLA) */
	uint32_t k_format;
	uint32_t v_format;
	uint32_t k_basis;	/* enum basis of the rows, whatever the format */
	uint32_t v_basis;
	uint32_t rope_order;	/* enum kvd_rope_order */
	uint32_t tile_order;	/* enum kvd_tile_order */
	uint32_t v_group;	/* channels of a scale of kivi's V */
	uint32_t k_row;		/* bytes of codes of one token */
	uint32_t v_row;
	uint32_t k_meta;	/* offsets in a record; K codes are at 0 */
	uint32_t v_codes;
	uint32_t v_meta;
	uint32_t record_bytes;
	uint32_t page_bytes;
};

#ifdef __cplusplus
extern "C" {
#endif

/**
 * page_layout_init() - the layout of @group's pages in the given formats
 * @l:		filled on success
 * @g:		a geometry that kvd_geometry_check() passes
 * @group:	below g->nr_groups
 *
 * Return: 0, or -EINVAL when group or format is out of range, or -E2BIG when
 * a page would exceed KVD_MAX_PAGE_BYTES.
 */
int page_layout_init(struct page_layout *l, const struct kvd_geometry *g,
		     uint32_t group, uint32_t k_format, uint32_t v_format);

/* Classes of pages there are: nr_groups, up to three times that; a geometry
 * that is good has PAGE_MAX_CLASSES at most. */
uint32_t geometry_nr_classes(const struct kvd_geometry *g);

/* Group of class @c, below geometry_nr_classes(). */
uint32_t geometry_class_group(const struct kvd_geometry *g, uint32_t c);

/*
 * The class of @group in the geometry's own formats: @group itself where
 * that is the only one.
 */
uint32_t geometry_sealed_class(const struct kvd_geometry *g, uint32_t group);

/* The class of what is demoted of @group, or PAGE_NO_CLASS. */
uint32_t geometry_demoted_class(const struct kvd_geometry *g, uint32_t group);

/* Formats of class @c. */
void geometry_class_formats(const struct kvd_geometry *g, uint32_t c,
			    uint32_t *ret_k, uint32_t *ret_v);

/* page_layout_init() of class @c. */
int page_layout_class(struct page_layout *l, const struct kvd_geometry *g,
		      uint32_t c);

#ifdef __cplusplus
}
#endif

/* Bytes of one code of a format of 8 or 16 bits. */
KV_INLINE uint32_t page_code_bytes(uint32_t format)
{
	return format_bits(format) / 8;
}

/* Elements of one value, also where K serves as V. */
KV_INLINE uint32_t page_value_dim(const struct page_layout *l)
{
	return l->v_dim ? l->v_dim : l->k_dim;
}

/* Byte offset of a record in its page. */
KV_INLINE uint64_t page_record(const struct page_layout *l, uint32_t layer,
			       uint32_t head)
{
	return ((uint64_t)layer * l->nr_heads + head) * l->record_bytes;
}

/* Where codes of a side are. K is the side of V where there is no other. */
KV_INLINE struct codes page_codes(const struct page_layout *l, int is_v)
{
	struct codes c;

	c.order = l->tile_order;
	c.is_v = is_v && l->v_dim;
	c.format = c.is_v ? l->v_format : l->k_format;
	c.tokens = l->page_tokens;
	c.dim = c.is_v ? l->v_dim : l->k_dim;
	return c;
}

/* Scales of one token of kivi's V. The last group may be short. */
KV_INLINE uint32_t page_v_groups(uint32_t dim, uint32_t v_group)
{
	return (dim + v_group - 1) / v_group;
}

/* Most outliers of one head's K or V: one element in a hundred. */
KV_INLINE uint32_t sparse_max(uint32_t tokens, uint32_t dim)
{
	return (tokens * dim + 99) / 100;
}

KV_INLINE uint32_t sparse_bytes(uint32_t tokens, uint32_t dim)
{
	return (uint32_t)(sizeof(struct sparse_head) +
			  sparse_max(tokens, dim) *
				  sizeof(struct sparse_entry));
}

/*
 * Metadata, by coding; T tokens, D elements, all f16 unless said:
 *
 *	16	nothing
 *	FP8	f32 scale
 *	TOKEN	affine_meta[T]
 *	KIVI K	scale[D], min[D]
 *	KIVI V	affine_meta[groups][T]
 *	KVQUANT K	sparse
 *	KVQUANT V	affine_meta[T], sparse
 *	KVARN K	scale[D], zero[D], factor[T]
 *	KVARN V	affine_meta[T], factor[D]
 */
KV_INLINE uint32_t page_meta_bytes(uint32_t format, int is_v, uint32_t tokens,
				   uint32_t dim, uint32_t v_group)
{
	const uint32_t affine = sizeof(struct affine_meta);

	switch (format_coding(format)) {
	case CODING_FP8:
		return 4;
	case CODING_TOKEN:
		return affine * tokens;
	case CODING_KIVI:
		return is_v ? affine * tokens * page_v_groups(dim, v_group) :
			      4 * dim;
	case CODING_KVQUANT:
		return (is_v ? affine * tokens : 0) + sparse_bytes(tokens, dim);
	case CODING_KVARN:
		return is_v ? affine * tokens + 2 * dim : 4 * dim + 2 * tokens;
	default:
		return 0;
	}
}

#endif
