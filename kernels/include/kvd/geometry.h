/* SPDX-License-Identifier: Apache-2.0 */
/*
 * geometry.h - everything that decides the bytes of a KV page.
 *
 * Public, plain C99. Two processes may share pages only when their geometries
 * are equal field by field; the fingerprint is a hash of exactly these fields.
 */
#ifndef KVD_GEOMETRY_H
#define KVD_GEOMETRY_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#ifdef __GNUC__
#pragma GCC visibility push(default)
#endif

#define KVD_MAX_GROUPS 8
#define KVD_MAX_LAYERS 512	  /* in one group */
#define KVD_MAX_HEADS 512	  /* kv heads in one group */
#define KVD_MAX_DIM 1024	  /* k_dim, v_dim */
#define KVD_MIN_PAGE_TOKENS 32
#define KVD_MAX_PAGE_TOKENS 128
#define KVD_MAX_PAGE_BYTES (64u << 20)

/*
 * How the codes of K or V are stored; kernels/FORMATS.md has every byte.
 * Numbers are wire format: never reuse. "Whole": tokens cannot be appended in
 * place; a page is filled in 16 bits and quantized when it is full.
 */
enum kvd_format {
	KVD_F16 = 0,	  /* IEEE binary16, exact */
	KVD_BF16 = 1,	  /* bfloat16, exact */
	KVD_INT8 = 2,	  /* asymmetric, f16 scale and min per token and head */
	KVD_FP8_E4M3 = 3, /* OCP E4M3FN, one scale per kv head */
	KVD_FP8_E5M2 = 4, /* OCP E5M2, one scale per kv head */
	KVD_INT4 = 5,	  /* as int8 with 4 bits */
	KVD_INT4H = 6,	  /* int4 of the Hadamard transform */
	KVD_KIVI4 = 7,	  /* whole; K per channel, V per token and v_group */
	KVD_KIVI2 = 8,
	KVD_KVQUANT4 = 9, /* whole; codebook, sparse outliers, K before RoPE */
	KVD_KVQUANT3 = 10,
	KVD_KVQUANT2 = 11,
	KVD_KVARN4 = 12,  /* whole; Hadamard, variance-normalised tile */
	KVD_KVARN3 = 13,
	KVD_KVARN2 = 14,
	KVD_OSCAR2 = 15,  /* whole; calibrated rotation, 2 bits per token */
	KVD_NR_FORMATS
};

/* Element type of the q, K, V and output arrays a caller passes. */
enum kvd_dtype {
	KVD_DTYPE_F32 = 0,
	KVD_DTYPE_F16 = 1,
	KVD_DTYPE_BF16 = 2,
	KVD_NR_DTYPES
};

/* Whether keys in pages already carry their rotation. */
enum kvd_rope_order {
	KVD_ROPE_POST = 0, /* keys are stored after RoPE */
	KVD_ROPE_NONE = 1, /* the model has no RoPE on these layers */
	KVD_ROPE_PRE = 2,  /* keys are stored before RoPE; attention rotates
			    * them (queries come rotated) */
	KVD_NR_ROPE_ORDERS
};

/* Order of the codes inside a record. */
enum kvd_tile_order {
	KVD_TILE_ROW = 0, /* [token][dim], row-major */
	KVD_TILE_MMA = 1, /* in fragments of mma.m16n8k16: what the fast kernels
			   * of CUDA read. k_dim and v_dim are multiples of
			   * 32, v_dim not 0 */
	KVD_NR_TILE_ORDERS
};

/*
 * Layers that share one block table: same heads, dims and window. A page
 * belongs to one group and holds all of the group's layers for page_tokens
 * consecutive tokens.
 */
struct kvd_group {
	uint32_t nr_layers;
	uint32_t nr_kv_heads;	/* held by this rank */
	uint32_t head_first;	/* first kv head held (tensor parallel) */
	uint32_t k_dim;		/* elements of one key; a multiple of 8 */
	uint32_t v_dim;		/* elements of one value; a multiple of 8;
				 * 0: K serves as V */
	uint32_t window;	/* tokens a query sees, itself included; 0: all */
	uint32_t exact;		/* 1: these layers stay in open_format */
};

struct kvd_geometry {
	uint32_t size;		/* sizeof(struct kvd_geometry) */
	uint32_t page_tokens;	/* 32, 64 or 128 */
	uint32_t k_format;	/* enum kvd_format */
	uint32_t v_format;	/* enum kvd_format; any pair is allowed */
	uint32_t rope_order;	/* enum kvd_rope_order */
	uint32_t tile_order;	/* enum kvd_tile_order */
	uint32_t open_format;	/* KVD_F16 or KVD_BF16: of pages that are being
				 * filled, where the format is sealed whole,
				 * and of exact ones */
	uint32_t exact_pages;	/* first pages of a sequence (attention sinks)
				 * that stay in open_format; 0 to 16 */
	uint32_t v_group;	/* channels of V that share a scale in kivi:
				 * 32, 64 or 128; 0 is 64 */
	uint32_t demote_k;	/* enum kvd_format that pages in k_format and */
	uint32_t demote_v;	/* v_format are stored once more in when nobody
				 * holds them and room is short, before they
				 * are given up; 0, both: in none. A match finds
				 * them, and kvd_seq_info() says so; what is
				 * published again in full takes their place */
	uint32_t nr_groups;
	uint64_t profile;	/* kvd_profile_digest() of the calibration the
				 * pages are made with; 0: none */
	struct kvd_group groups[KVD_MAX_GROUPS];
};

/**
 * kvd_geometry_check() - is this a geometry kvd can hold?
 * @g:	geometry to check
 *
 * Return: NULL when it is, else a static text that names the first bad field.
 */
const char *kvd_geometry_check(const struct kvd_geometry *g);

/**
 * kvd_geometry_fingerprint() - XXH3-64 over all fields but size, in
 * declaration order, as little-endian u32, groups beyond nr_groups left out;
 * demote_k and demote_v come last, where they are not both 0.
 * @g must be valid.
 */
uint64_t kvd_geometry_fingerprint(const struct kvd_geometry *g);

/**
 * kvd_format_name() - "f16", "int8", "kivi2", ...; "?" for an unknown number.
 */
const char *kvd_format_name(uint32_t format);

/**
 * kvd_format_parse() - the number of a format's name, or -EINVAL.
 */
int kvd_format_parse(const char *name);

/**
 * kvd_formats_parse() - the formats of K and V from one text
 * @text:	"int8" (both), "fp8" (fp8_e4m3), "kvarn42" (K 4 bits, V 2),
 *		"k=int8,v=int4"
 *
 * Return: 0, or -EINVAL with nothing written.
 */
int kvd_formats_parse(const char *text, uint32_t *ret_k, uint32_t *ret_v);

#define KVD_FORMATS_TEXT 32

/**
 * kvd_formats_name() - a text that kvd_formats_parse() takes
 * @text:	[KVD_FORMATS_TEXT]
 *
 * Return: @text.
 */
const char *kvd_formats_name(uint32_t k_format, uint32_t v_format, char *text);

/* Is a page of these formats sealed whole, rather than appended in place? */
int kvd_formats_whole(uint32_t k_format, uint32_t v_format);

/*
 * Does the owner of a sequence keep the newest full page exact, and attend
 * over that? With 2 and 3 bits: the last tokens matter most.
 */
int kvd_formats_lag(uint32_t k_format, uint32_t v_format);

#ifdef __GNUC__
#pragma GCC visibility pop
#endif
#ifdef __cplusplus
}
#endif
#endif
