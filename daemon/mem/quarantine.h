/* SPDX-License-Identifier: Apache-2.0 */
/*
 * quarantine.h - pages that wait for the end of a process: whose, how many,
 * and their release by who knows better. Of mem.h's calls.
 */
#ifndef DAEMON_MEM_QUARANTINE_H
#define DAEMON_MEM_QUARANTINE_H

#include <stdint.h>
#include <sys/types.h>

struct mem;

/* A process that is waited for. */
struct mem_writer {
	const char *tenant;
	pid_t pid;
	uint64_t start_time;
	uint64_t pages;		/* QUARANTINED, or on their way there; in the
				 * grace time also those it has not claimed */
};

/* Tells of each that has pages. @tell must not call mem/. */
void mem_writers(const struct mem *m,
		 void (*tell)(void *ctx, const struct mem_writer *w),
		 void *ctx);

/* How many pages wait for the end of that process. */
uint64_t mem_writer_pages(const struct mem *m, pid_t pid, uint64_t start_time);

/**
 * mem_writer_release() - free what waits for the end of a process all the same
 * @ret_pages:	how many will be FREE; 0: there were none
 *
 * The caller vouches that nobody writes to them any more. The process is still
 * waited for: mem_reap_writer(). Its pages become FREE by mem_trim(). Return:
 * 0; -ENOMEM, some may be left then.
 */
int mem_writer_release(struct mem *m, pid_t pid, uint64_t start_time,
		       uint64_t *ret_pages);

#endif
