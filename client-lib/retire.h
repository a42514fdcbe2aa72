/* SPDX-License-Identifier: Apache-2.0 */
/*
 * retire.h - pages that nobody needs once the device has done its work.
 *
 * A page may go back to the daemon, or into the stock to be written again,
 * only when no kernel that was recorded before can still touch it. retire()
 * marks that point in the stream; where there is nothing to wait for (host
 * devices) it acts at once. While a step is open (fixed.h) work may yet come
 * that uses the page: then the step's work must be done too.
 */
#ifndef CLIENT_LIB_RETIRE_H
#define CLIENT_LIB_RETIRE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <kvd/kvd.h>

struct hold;
struct kvd_space;
struct retired;

STAILQ_HEAD(retired_list, retired);

/* A word that append or convert sets when it meets NaN or Inf. */
struct flag {
	uint32_t word;
	uint32_t refs;
};

struct flag *flag_new(void);
void flag_put(struct flag *f);

struct retire {
	struct hold *const *holds;	/* a use of each is taken over; NULLs
					 * are passed over */
	uint32_t nr;
	struct flag *flag;		/* likewise, or NULL */
	bool idle;			/* there is no work to wait for */
};

/* Takes over the uses in @what, for when @stream has done its work so far. */
void retire(struct kvd_space *sp, const struct retire *what,
	    kvd_stream stream);

/* Acts on those whose time has come; @wait: on all, after waiting. */
void retire_poll(struct kvd_space *sp, bool wait);

#endif
