/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fixed.h - struct kvd_batch: sequences of calls at addresses that stay.
 *
 * Block tables of all groups are in one block of the device's memory, of a
 * size and layout that are decided when the batch is made. A set writes them
 * for one step of the model; append and attend find them there, and so does a
 * graph that has captured those calls.
 *
 * A set opens a step: work that reads its tables may be recorded, unseen by
 * us, until the step is closed by what changes one of its sequences (commit,
 * truncate, match, free) or by the next set. An event recorded then tells when
 * that work is done. Until it is, no page that was in use when the step was
 * opened may go (retire.c asks), and its words for NaN, of which every step
 * has its own, may be set.
 */
#ifndef CLIENT_LIB_FIXED_H
#define CLIENT_LIB_FIXED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>
#include <kvd/kvd.h>
#include "client-lib/device.h"
#include "client-lib/retire.h"
#include "kernels/kernels.h"

#define FIXED_STEPS 4u /* under way at a time */

struct fixed_step {
	uint64_t serial;	/* among the space's, from 1; 0: none */
	bool open;
	struct device_event *ended; /* when it is not open */
	struct flag **flags;	/* [nr_words] a use of each; NULL: none */
};

/* Of one group: where in the block arrays begin, and how much is in them. */
struct fixed_group {
	uint32_t append_at;	/* struct kv_seq [max_items] */
	uint32_t attend_at;	/* struct kv_seq [max_seqs]; may be the same */
	uint32_t convert_at;	/* struct kv_convert_page [max_converts] */
	uint32_t max_seqs;
	uint32_t max_converts;	/* 0: commit quantizes */
	uint32_t convert_word;	/* first of its words, within a step's */
	uint32_t nr_append, nr_attend, nr_converts; /* now */
};

struct kvd_batch {
	struct kvd_space *sp;
	LIST_ENTRY(kvd_batch) link;
	struct kvd_batch_opts opts;
	char *image;		/* of the block: a word, where the step's words
				 * begin; arrays of each group; pages of all */
	struct device_fixed *f;
	struct fixed_group groups[KVD_MAX_GROUPS];
	uint32_t pages_at;
	uint32_t max_pages;
	uint32_t nr_words;	/* of a step: of items, then of converts */
	uint32_t nr_rows;	/* now */
	struct kvd_seq **seqs;	/* [max_items] of the last set; NULL: gone */
	kvd_stream stream;	/* of the last set */
	struct fixed_step steps[FIXED_STEPS];
	uint32_t step;		/* the newest */
};

LIST_HEAD(fixed_list, kvd_batch);

/* What a call with a batch says besides its own arguments. */
struct fixed_call {
	struct kvd_batch *batch;
	uint32_t group;
	size_t nr_items;
	kvd_stream stream;
};

/* May the call be made now? 0 or -EINVAL. */
int fixed_check(struct kvd_space *sp, const struct fixed_call *call);

/* Refuses calls whose arrays a graph could not keep: 0 or -EINVAL. */
int fixed_refuse_capture(struct kvd_space *sp, kvd_stream stream);

/* @a has all but arrays and tables. 0, -EINVAL, -ENOMEM, -EIO. */
int fixed_append(const struct fixed_call *call, struct kv_append_args *a);
int fixed_attend(const struct fixed_call *call, struct kv_attend_args *a);

/* The sequence is about to change: closes the step it is in. */
void fixed_leave(struct kvd_seq *seq);

/* The newest step of the space that is open, or 0. */
uint64_t fixed_open(const struct kvd_space *sp);

/* Is all work of steps up to @serial done? Never blocks. */
bool fixed_past(struct kvd_space *sp, uint64_t serial);

/* Passes on what work has found so far. */
void fixed_flags(struct kvd_space *sp);

#endif
