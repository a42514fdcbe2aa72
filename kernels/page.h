/* SPDX-License-Identifier: Apache-2.0 */
/*
 * page.h - where each byte of a page is, for C and for CUDA.
 *
 * A page is [layer][kv head] records. A record is
 *
 *	K codes | K metadata | V codes | V metadata
 *
 * each part starting on a 16-byte boundary, the record's size a multiple of
 * 16, the page's a multiple of PAGE_ALIGN. Codes are [token][dim]. Metadata
 * of int8 is one struct int8_meta per token; f16 and bf16 have none.
 * The definition of each format is in kernels/host/ref.c.
 */
#ifndef KERNELS_PAGE_H
#define KERNELS_PAGE_H

#include <stdint.h>
#include "kvd/geometry.h"

#ifdef __CUDACC__
#define KV_INLINE static __host__ __device__ __forceinline__
#else
#define KV_INLINE static inline
#endif

#define PAGE_ALIGN 256u

/* Scale and minimum of one token of one head: x = code * scale + min. */
struct int8_meta {
	uint16_t scale;	/* f16 bits */
	uint16_t min;	/* f16 bits */
};

#ifdef __cplusplus
static_assert(sizeof(struct int8_meta) == 4, "page format");
#else
_Static_assert(sizeof(struct int8_meta) == 4, "page format");
#endif

/* Byte layout of the pages of one class of one group. */
struct page_layout {
	uint32_t page_tokens;
	uint32_t nr_layers;
	uint32_t nr_heads;
	uint32_t k_dim;
	uint32_t v_dim;		/* 0: K serves as V (MLA) */
	uint32_t k_format;
	uint32_t v_format;
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

#ifdef __cplusplus
}
#endif

/* Bytes of one code. */
KV_INLINE uint32_t page_code_bytes(uint32_t format)
{
	return format == KVD_INT8 ? 1 : 2;
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

#endif
