/* SPDX-License-Identifier: Apache-2.0 */
/*
 * world.h - sequences in pages, for the tests of append and attend.
 *
 * Pages of two layers lie shuffled in two segments filled with 0xff bytes
 * (NaN in every format), so that reading what was not written shows.
 */
#ifndef TESTS_KERNELS_WORLD_H
#define TESTS_KERNELS_WORLD_H

#include "kernels/host/host.h"

#define WORLD_LAYER 1u /* of two, the one in use */
#define WORLD_SEQS  4u

struct shape {
	uint32_t k_dim, v_dim;
	uint32_t nr_heads; /* kv heads */
	uint32_t group;    /* query heads per kv head */
	uint32_t page_tokens;
	uint32_t format[2][2]; /* k, v of even and of odd pages */
	uint32_t nr_seqs;
	uint32_t len[WORLD_SEQS]; /* tokens of each sequence */
	uint32_t window;
	float softcap;
	int sinks;
	uint32_t rope_order;
	uint32_t tile_order;
	uint32_t v_group;
	uint32_t rope_pairs; /* PRE: of k_dim; 0: k_dim / 2 */
	int interleaved;
};

struct world {
	struct shape s;
	struct kvd_geometry g;
	struct page_layout layouts[KV_MAX_LAYOUTS];
	uint8_t *segments[2];
	uint64_t segment_bytes;
	struct kv_page_ref *pages;
	struct kv_seq seqs[WORLD_SEQS];
	uint32_t nr_tokens; /* of all sequences */
	uint32_t nr_pages;
	uint32_t v_out;   /* elements of one output */
	float *k, *v, *q; /* [token][head][dim], sequence by sequence */
	float sinks[64];
	struct kv_tables tables; /* of world_fill() */
	uint32_t only;		 /* 1 + the sequence that attends; 0: all */
};

/* Can pages of @s be in tile order? */
static inline int shape_tiles(const struct shape *s)
{
	return s->v_dim && s->k_dim % TILE_DIM == 0 && s->v_dim % TILE_DIM == 0;
}

void world_init(struct world *w, const struct shape *s);
void world_fini(struct world *w);

/* Fills the segments with 0xff. */
void world_wipe(struct world *w);

/* Appends tokens first..first+n-1 of every sequence that has them. */
void world_append(struct world *w, const struct host_kernels *k, uint32_t first,
                  uint32_t n, uint32_t nr_threads);

/*
 * Fills every page with random codes and plausible metadata, in any formats,
 * and makes tables. Tokens past a sequence's end stay what they are where the
 * format is appended in place.
 */
void world_fill(struct world *w);

/*
 * Overwrites tokens from @from on of every sequence with NaN, where a format
 * is appended in place: what such a page holds before they are written.
 */
void world_poison(struct world *w, uint32_t from);

/* Lets sequence @seq begin with the first @pages of sequence 0. */
void world_share(struct world *w, uint32_t seq, uint32_t pages);

/* Pages of sequence @seq from @from on are found in its overlay alone. */
void world_overlay(struct world *w, uint32_t seq, uint32_t from);

/*
 * Attends with tokens first..first+n-1 of every sequence that has them; out
 * is [token][q head][v_out] and lse [token][q head], sequence by sequence.
 */
int world_attend(struct world *w, const struct host_kernels *k, uint32_t first,
                 uint32_t n, uint32_t nr_threads, float *out, float *lse);

/* The same for one query head of one token, in float64 over ref's dequant. */
void world_oracle(struct world *w, uint32_t seq, uint32_t pos, uint32_t head,
                  double *out, double *lse);

/* Row of token @pos of sequence @seq in k, v, q and out. */
uint32_t world_row(const struct world *w, uint32_t seq, uint32_t pos);

#endif
