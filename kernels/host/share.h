/* SPDX-License-Identifier: Apache-2.0 */
/*
 * share.h - which sequences of a batch begin with the same pages.
 *
 * Query tokens of such sequences attend over what they share together, in
 * tiles of their own, so that it is read once for all of them. What is shared
 * is whole runs, each seen by all of the tokens' positions; a token's row then
 * goes on from there alone. A row's numbers are the same either way.
 */
#ifndef KERNELS_HOST_SHARE_H
#define KERNELS_HOST_SHARE_H

#include "kernels/kernels.h"

/* One query token of a group. */
struct share_token {
	uint32_t row; /* in q and out */
	uint32_t pos;
};

struct share_group {
	uint32_t seq; /* one of it, whose pages are read */
	uint32_t first_token;
	uint32_t nr_tokens;
	uint32_t nr_runs; /* shared, from position 0 */
};

struct share {
	uint32_t nr_groups;
	struct share_group *groups;
	struct share_token *tokens;
	uint32_t nr_tokens;
	uint32_t *runs;	 /* [nr_seqs] that a group does, 0: in none */
	uint32_t *first; /* [nr_seqs] its first token in tokens */
};

#define SHARE_NULL                                                             \
	{                                                                      \
		0                                                              \
	}

/**
 * share_init() - groups the sequences of @a
 * @run_tokens:	of a run; a multiple of a page's
 * @max_rows:	query tokens of a sequence that is to be grouped, at most
 *
 * Return: 0 or -ENOMEM. share_fini() in either case.
 */
int share_init(struct share *s, const struct kv_attend_args *a,
	       uint32_t run_tokens, uint32_t max_rows);
void share_fini(struct share *s);

#endif
