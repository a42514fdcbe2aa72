/* SPDX-License-Identifier: Apache-2.0 */
/*
 * restore.h - what a predecessor left, checked piece by piece.
 *
 * Records first, then segments by their descriptors, then every page entry: a
 * page is taken over only when its space, its segment and its cell are there
 * and are free, and when its name, computed again, is the one it has. All
 * else becomes FREE. Named pages are CACHED at once and can be matched; the
 * others wait for mem_claim().
 */
#ifndef DAEMON_MEM_RESTORE_H
#define DAEMON_MEM_RESTORE_H

#include "daemon/mem/pool.h"

/**
 * restore_table() - the page table among @fds
 * @ret_why:	static text why there is none
 * Return: 0 with m->table set, -ENOENT, or -ENOMEM.
 */
int restore_table(struct mem *m, struct mem_fd *fds, size_t nr_fds,
		  const char **ret_why);

/**
 * restore_pages() - everything else, from m->table
 * Return: 0 or -ENOMEM.
 */
int restore_pages(struct mem *m, struct mem_fd *fds, size_t nr_fds,
		  char *note, size_t note_bytes);

/* Segments among @fds. */
size_t restore_nr_segments(const struct mem_fd *fds, size_t nr_fds);

/* Tells the service manager to drop what is ours and was not used. */
void restore_drop_unused(const struct mem *m, struct mem_fd *fds,
			 size_t nr_fds);

/*
 * The grace time is over: what nobody claimed becomes FREE, within what is
 * left of the step. Return: there is more.
 */
bool restore_step(struct mem *m);

#endif
