/* SPDX-License-Identifier: Apache-2.0 */
/*
 * profile.h - a calibration profile's part for one group of a space.
 */
#ifndef CLIENT_LIB_PROFILE_H
#define CLIENT_LIB_PROFILE_H

#include <kvd/geometry.h>
#include <kvd/profile.h>
#include "kernels/tables.h"

/* The tables point into copies that this owns; RoPE's are the caller's. */
struct profile_tables {
	struct kv_tables tables;
	float *copies;	 /* NULL: these formats need nothing of a profile */
	const char *why; /* after -EINVAL: a static text */
};

#define PROFILE_TABLES_NULL                                                    \
	{                                                                      \
		.copies = NULL                                                 \
	}

/**
 * profile_tables() - what pages of one group need of a profile
 * @p:		may go away once this returns
 * @g:		valid; its formats say what is needed
 * @group:	below g->nr_groups
 * @layers:	[nr_layers of the group], which of the model's each is; NULL
 *		when layer i of the group is layer i of the model
 * @ret:	profile_tables_fini() it; on failure only why is written
 *
 * Members of the tables that the formats do not use stay NULL. fp8 scales are
 * amax / 448 (e4m3) or amax / 57344 (e5m2); 1 where amax is 0.
 *
 * Return: 0; -EINVAL when the profile is of another model, or lacks what the
 * formats need; -ENOMEM.
 */
int profile_tables(const struct kvd_profile *p, const struct kvd_geometry *g,
		   uint32_t group, const uint32_t *layers,
		   struct profile_tables *ret);

/* PROFILE_TABLES_NULL is fine. */
void profile_tables_fini(struct profile_tables *t);

#endif
