/* SPDX-License-Identifier: Apache-2.0 */
/*
 * strip.h - a few tokens of a page as the loops of attention take them.
 *
 * A strip is at most STRIP tokens of one record, and everything a tile's rows
 * share about it: where codes are, and the scales and zero points that are
 * folded into queries, scores, weights and results, so that codes go from
 * memory to registers and no value is ever made of them:
 *
 *	score_t = a_t * (sum_d (q_d * scale_d) c_td + sum_d q_d * zero_d) +
 *		  b_t * sum_d q_d
 *	out_d   = fold_d * sum_t (p_t * a_t) c_td + min_d * sum_t p_t * b_t
 *
 * Formats differ in which of these are there, and in the form of their codes.
 * Packed codes are taken out of a word by a mask alone: field j of a word is
 * then 2^(bits * j) times its code, and scale_d or fold_d is as much less.
 * Only the last field of a word is shifted by one field, for it would reach
 * the sign.
 *
 * K of kvquant, and any K that is to be turned by RoPE, is made dense: floats
 * in scratch, once for all rows of a tile. Rows whose words are not all of 32
 * bits, and codes of 3 bits (to 4), are packed anew in scratch; of pages in
 * tile order, rows are first gathered there (order.h).
 */
#ifndef KERNELS_HOST_STRIP_H
#define KERNELS_HOST_STRIP_H

#include "kernels/host/attend.h"
#include "kernels/host/side.h"

#define STRIP	    64u /* tokens */
#define STRIP_DENSE 32u /* of those made dense: 16 KB of 128 dims */
#define BLOCK	    4u	/* query rows that share loads of codes */
#define MAX_DIM	    (KVD_MAX_DIM + 128) /* to the end of a row's last word */
#define V_GROUPS    (KVD_MAX_DIM / 32)	/* of kivi's V, at most */

/* What a code is in memory. N and L are 8 lanes of words of 32 bits. */
enum form {
	FORM_F32,
	FORM_F16,
	FORM_BF16,
	FORM_U8,
	FORM_E4M3, /* 1 / 256 of its value; there is no NaN */
	FORM_E4M3N, /* there may be */
	FORM_E5M2,
	FORM_N4,   /* numbers of 4 bits */
	FORM_N2,
	FORM_L4,   /* indices of a table of floats */
	FORM_L3,   /* the same; 3 bits in fields of 4 */
	FORM_L2,
	NR_FORMS
};

/* Bits of a field of a packed form, else 0. */
static inline uint32_t form_field(enum form f)
{
	switch (f) {
	case FORM_N4:
	case FORM_L4:
	case FORM_L3:
		return 4;
	case FORM_N2:
	case FORM_L2:
		return 2;
	default:
		return 0;
	}
}

/* Bytes of a code of a form that is not packed. */
static inline uint32_t form_bytes(enum form f)
{
	return f == FORM_F32 ? 4 : f <= FORM_BF16 ? 2 : 1;
}

/* Values are added where they belong at once, without fold. */
static inline int form_exact(enum form f)
{
	return f <= FORM_BF16;
}

struct strip_side {
	enum form form;
	uint32_t dim;
	uint32_t row;	   /* bytes from token to token */
	const char *codes; /* of the strip's first token */
	const char *page;  /* the same where they lie, to be prefetched: */
	uint32_t page_row; /* bytes from token to token, */
	uint32_t ahead;	   /* and for 8 elements of the other side's */
};

/* One per thread; large arrays are used as far as dims go. */
struct strip {
	uint64_t pos;	    /* of its first token */
	uint32_t nr_tokens; /* a multiple of KVD_MIN_PAGE_TOKENS */
	struct strip_side k, v;
	const char *next_k; /* K codes of the strip after this one */
	int k_affine;	    /* k_a and k_b are to be used */
	int k_scaled;	    /* k_scale is to be used: codes are packed, */
	int k_channel;	    /* or have scales (and k_zero) of their own */
	int v_affine;
	uint32_t v_groups;
	uint32_t v_group;   /* dims of each; the last may have fewer */
	const struct sparse_entry *v_out, *v_end; /* outliers, by token */
	uint32_t v_base;    /* token of the page that is the strip's first */
	float *q;	    /* [rows][q_stride] times k_scale, or the tile's */
	float *q_own;	    /* room for that */
	float *q_const;	    /* [rows] q times k_zero */
	enum form q_form;   /* q_own is of; NR_FORMS: of one page */
	uint32_t q_page;    /* q_own is turned back by; UINT32_MAX: none */
	uint32_t v_format;  /* v_fold and v_min are of; KVD_NR_FORMATS: of one
			     * page */
	char *k_rows, *v_rows; /* room for rows of pages in tile order */
	float k_a[STRIP], k_b[STRIP];
	float lut[16];	    /* of V; a small table is repeated */
	float k_scale[MAX_DIM], k_zero[MAX_DIM];
	float v_a[V_GROUPS * STRIP], v_b[V_GROUPS * STRIP];
	float v_fold[MAX_DIM], v_min[MAX_DIM];
	float sum[BLOCK * MAX_DIM]; /* of a block's rows over the strip */
	float k_lut[16];
	char k_words[STRIP * KVD_MAX_DIM / 2] __attribute__((aligned(64)));
	char v_words[STRIP * KVD_MAX_DIM / 2] __attribute__((aligned(64)));
	float dense[STRIP_DENSE * KVD_MAX_DIM] __attribute__((aligned(64)));
};

/* Before the first strip of a run. */
static inline void strip_begin(struct strip *s)
{
	s->q_form = NR_FORMS;
	s->q_page = UINT32_MAX;
	s->v_format = KVD_NR_FORMATS;
}

/**
 * strip_init() - the strip at token @base of page number @page of @t
 *
 * @s->nr_tokens is the way to the next one. Needs AVX2, FMA and F16C.
 */
void strip_init(struct strip *s, const struct tile *t, uint32_t page,
		uint32_t base);

#endif
