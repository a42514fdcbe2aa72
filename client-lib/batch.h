/* SPDX-License-Identifier: Apache-2.0 */
/*
 * batch.h - the items of an append or attend, as kernels take them.
 *
 * One per space, kept from call to call so that the steady path does not
 * touch malloc.
 */
#ifndef CLIENT_LIB_BATCH_H
#define CLIENT_LIB_BATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <kvd/kvd.h>
#include "kernels/kernels.h"

struct batch {
	struct kv_seq *seqs;		/* [nr_seqs] items that have tokens */
	uint32_t **nonfinite;		/* [nr_seqs] */
	uint32_t nr_seqs;
	uint32_t room_seqs;
	struct kv_page_ref *pages;	/* [nr_pages] */
	uint32_t nr_pages;
	uint32_t room_pages;
	uint32_t nr_rows;
};

/* What append and attend have in common. */
struct batch_args {
	uint32_t group;
	uint32_t layer;
	uint32_t dtype;
	const struct kvd_item *items;
	size_t nr_items;
};

/* Are there such a group, layer and dtype? 0 or -EINVAL. */
int batch_check_layer(struct kvd_space *sp, uint32_t group, uint32_t layer,
		      uint32_t dtype);

/**
 * batch_check() - are these sequences of @sp, each once, with room to grow?
 *
 * Return: 0, -EINVAL, or -ESTALE.
 */
int batch_check(struct kvd_space *sp, const struct batch_args *a);

/* Have the items' tokens K and V in @a's layer? 0 or -EINVAL. */
int batch_check_stored(struct kvd_space *sp, const struct batch_args *a);

/* Pages of @group for all items; as seq_reserve(). */
int batch_reserve(struct kvd_space *sp, const struct batch_args *a);

/* Do rows of a group see other pages than the table's: an overlay? */
bool batch_overlays(const struct kvd_space *sp, uint32_t group);

/**
 * batch_append() - fill @sp's batch from items that batch_check() passed
 *
 * With the pages that tokens are appended to. The tables must reach to the
 * last position. Return: 0 or -ENOMEM.
 */
int batch_append(struct kvd_space *sp, const struct batch_args *a);

/**
 * batch_attend() - the same with the pages that tokens see
 *
 * Where pages are sealed whole an item becomes one struct kv_seq for each
 * block that its tokens are in: those see their own block's open page, where
 * the tokens after them see the sealed one.
 */
int batch_attend(struct kvd_space *sp, const struct batch_args *a);
void batch_fini(struct batch *b);

#endif
