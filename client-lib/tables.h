/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tables.h - what kernels need to know besides pages: profile and RoPE.
 *
 * One struct kv_tables per group, from the profile the space was opened with.
 * Where keys are stored before RoPE, the angles of all positions seen so far
 * are kept too; they grow with the longest sequence.
 */
#ifndef CLIENT_LIB_TABLES_H
#define CLIENT_LIB_TABLES_H

#include <stdint.h>
#include <kvd/kvd.h>
#include "client-lib/profile.h"
#include "kernels/tables.h"

struct kvd_space;

struct tables {
	struct profile_tables profile[KVD_MAX_GROUPS];
	double *freq;		/* [rope_pairs], or NULL */
	float *rope_token;	/* as in struct kv_tables */
	float *rope_page;
	uint32_t nr_rope_pages;
};

/**
 * tables_init() - from @sp's options, which are checked here
 *
 * Return: 0, -EINVAL with a sentence, -ENOMEM.
 */
int tables_init(struct kvd_space *sp);
void tables_fini(struct tables *t);

/**
 * tables_get() - tables of one group, good for positions below @tokens
 * @ret:	NULL where kernels need none
 *
 * Return: 0 or -ENOMEM.
 */
int tables_get(struct kvd_space *sp, uint32_t group, uint32_t tokens,
	       const struct kv_tables **ret);

#endif
