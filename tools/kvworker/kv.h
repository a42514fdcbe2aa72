/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kv.h - keys and values of the model, in pages of kvd.
 */
#ifndef KVWORKER_KV_H
#define KVWORKER_KV_H

#include <stdbool.h>
#include <stdint.h>
#include <kvd/kvd.h>
#include <kvd/profile.h>
#include "tools/kvworker/config.h"
#include "tools/kvworker/error.h"
#include "tools/kvworker/weights.h"

struct gpu;
struct staging;

#define KV_EXACT_AUTO UINT32_MAX
#define KV_TILE_AUTO UINT32_MAX

struct kv_opts {
	uint32_t k_format;	/* enum kvd_format */
	uint32_t v_format;
	uint32_t demote_k;	/* enum kvd_format; both 0: pages never are */
	uint32_t demote_v;
	uint32_t open_format;
	uint32_t page_tokens;
	uint32_t exact_pages;	/* KV_EXACT_AUTO: 1 where the format is one
				 * that attention sinks should not be in */
	uint32_t v_group;	/* 0: the library's default */
	uint32_t tile_order;	/* enum kvd_tile_order; KV_TILE_AUTO: CUDA's
				 * on a GPU, where head_dim lets it be */
	const char *exact_layers; /* "0,5": these stay exact; NULL: none */
	const char *profile;	/* file; NULL: none */
	uint32_t nr_threads;	/* of attention on a host pool */
};

/* Where a layer of the model is in the space. */
struct kv_layer_place {
	uint32_t group;
	uint32_t layer;		/* within the group */
};

struct kv {
	struct kvd *conn;
	struct kvd_space *space;
	struct gpu *gpu;		/* NULL on a host pool */
	struct staging *staging;	/* as gpu */
	struct kvd_profile *profile;	/* NULL: none */
	struct kv_layer_place *places;	/* [layers of the model] */
	char formats[KVD_FORMATS_TEXT];
	bool pre_rope;			/* keys go to pages before RoPE */
	bool publish_due;		/* of the last sequence committed to */
	uint32_t page_tokens;
	uint32_t nr_heads;
	uint32_t q_width;	/* floats of a row's q and of its attention */
	uint32_t kv_width;	/* floats of a row's k, and of its v */
};

/**
 * kv_connect() - connect to the daemon
 * @kv:		zeroed; kv_close() it
 * @socket:	NULL for the library's default
 */
int kv_connect(struct kv *kv, const char *socket, struct error *e);

/**
 * kv_open() - open the space of this model
 * @digest:	of the weights; workers share pages where it is equal
 */
int kv_open(struct kv *kv, const struct config *c,
	    const uint8_t digest[DIGEST_BYTES], const struct kv_opts *opts,
	    struct error *e);

/* A zeroed struct is fine. */
void kv_close(struct kv *kv);

/**
 * kv_layer() - store K and V of new tokens, then attend over all there are
 * @seq:	its next @nr tokens
 * @qkv:	[nr][q | k | v]; q after RoPE, k unless kv->pre_rope
 * @out:	[nr][q_width]
 *
 * Return: 0 or the library's error, with its sentence in @e.
 */
int kv_layer(struct kv *kv, struct kvd_seq *seq, uint32_t layer, uint32_t nr,
	     const float *qkv, float *out, struct error *e);

/**
 * kv_layer_pool() - the same with @qkv and @out in the pool's memory
 *
 * On a GPU it is given to the stream, and not waited for.
 */
int kv_layer_pool(struct kv *kv, struct kvd_seq *seq, uint32_t layer,
		  uint32_t nr, const float *qkv, float *out, struct error *e);

/**
 * kv_commit() - the next @nr tokens of @seq are final
 *
 * Where no daemon was there to publish full pages, kv->publish_due is set.
 */
int kv_commit(struct kv *kv, struct kvd_seq *seq, const uint32_t *tokens,
	      size_t nr, struct error *e);

/* What kvd_error() says about @err, after "@what: ". Return: @err. */
int kv_error(const struct kv *kv, int err, const char *what, struct error *e);

#endif
