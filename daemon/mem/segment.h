/* SPDX-License-Identifier: Apache-2.0 */
/*
 * segment.h - where bytes come from: segments of a tenant, cut into granules.
 *
 * A segment is made by the device's thread and comes back as an event. It
 * belongs to one tenant from birth to death. What was handed to a process can
 * not be called back, so a segment dies only when it was never handed out, or
 * when its tenant has no client and no process that might be alive, or when
 * all that might have it mapped have said that they have not (mapped.h): until
 * then nothing would be gained, for the memory stays as long as a mapping.
 *
 * The sum of all segments, those in making and those leaving included, never
 * exceeds the pool, but when that has just been made smaller (shrink.h).
 */
#ifndef DAEMON_MEM_SEGMENT_H
#define DAEMON_MEM_SEGMENT_H

#include "daemon/mem/pool.h"

struct slab;
struct tenant;

struct segment {
	struct dev_job job;
	struct list link;	/* tenant.segments, once made */
	struct mem *m;
	struct tenant *tenant;
	struct dev_segment dev;
	uint64_t bytes;
	uint32_t id;
	int record;		/* in the table */
	int err;		/* of the job */
	bool handed;		/* some process may have it mapped */
	bool draining;		/* no page is put there: shrink.h */
	bool revoked;		/* who may have it mapped is asked to unmap */
	struct list importers;	/* those: mapped.h */
	uint32_t nr_pages;	/* not FREE */
	uint32_t nr_cached;
	uint32_t nr_granules;
	uint32_t nr_free;	/* granules in no slab */
	struct slab *slabs[];	/* per granule */
};

/**
 * segment_make() - have a segment made for @t
 * @granules:	it must have at least as many
 *
 * Return: 0 it is on its way; -ENOSPC the pool, the table, the device or the
 * tenant's limit has no room; -ENOMEM.
 */
int segment_make(struct tenant *t, uint32_t granules);

/* May @t have one more segment under its limit? */
bool segment_is_allowed(const struct tenant *t);

/* Has one made before it is needed, when little is left. */
void segment_make_ahead(struct tenant *t);

/**
 * segment_adopt() - take back what a predecessor left
 * @record:	of an adopted table; its tenant has been restored
 * Blocks. Owns @fd on success. Return: 0, -EINVAL, -ENOMEM, -EIO.
 */
int segment_adopt(struct mem *m, int record, int fd);

/* Gives an empty segment, which nobody can have mapped, to the device. */
void segment_retire(struct segment *seg);

/* Frees it for the pool alone: a successor may adopt it. Blocks. */
void segment_fini(struct segment *seg);

/* May it be retired once its pages are free? */
bool segment_can_retire(const struct segment *seg);

struct segment *segment_find(const struct mem *m, uint32_t id);

/* First of @nr free granules in a row, or -ENOSPC. */
int segment_find_run(const struct segment *seg, uint32_t nr);

#endif
