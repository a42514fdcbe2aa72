/* SPDX-License-Identifier: Apache-2.0 */
/*
 * map.h - segments mapped: the daemon's id -> index in the bases.
 *
 * Those that are known when the space is opened are mapped then, others when
 * a page in them is first seen.
 * Indexes count up in the order in which segments are first seen and stay
 * what they are until the space is closed. When the pool did not survive a
 * restart its ids mean other segments: they are forgotten, the mappings stay.
 * There are few of them; their ids, which are not used again, may be any.
 */
#ifndef CLIENT_LIB_MAP_H
#define CLIENT_LIB_MAP_H

#include <stdbool.h>
#include <stdint.h>
#include "proto/shm.h"

struct kvd_space;

struct map {
	uint32_t *ids;		/* [nr] the daemon's, MAP_NONE: forgotten */
	uint64_t *bytes;	/* [nr] */
	uint32_t nr;		/* as many as the device has */
	uint32_t room;
	uint32_t last;		/* that was looked for: mostly it is the next */
};

#define MAP_NONE UINT32_MAX

/**
 * map_place() - the segment a page is in, mapped now if it was not
 * @page_class:	the page has this class's size
 *
 * Return: 0; -EPROTO when the page is not inside the segment; -ENOMEM,
 * -ENODEV, -EIO from the device; what the daemon said.
 */
int map_place(struct kvd_space *sp, place_t place, uint32_t page_class,
	      uint32_t *ret_segment);

/*
 * Maps those of the segments that can be: what cannot is tried again when a
 * page in it is seen.
 */
void map_ahead(struct kvd_space *sp, const uint32_t *ids, uint32_t nr);

/**
 * map_revoke() - unmap segment @id, which the daemon takes back
 * Its index is not used again. Return: it is not mapped; false where a page
 * is in it that @sp holds, or its device cannot.
 */
bool map_revoke(struct kvd_space *sp, uint32_t id);

/* The daemon's ids mean nothing any more. */
void map_forget(struct map *m);
void map_fini(struct map *m);

#endif
