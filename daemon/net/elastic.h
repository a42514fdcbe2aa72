/* SPDX-License-Identifier: Apache-2.0 */
/*
 * elastic.h - the pool's size while kvd runs: by hand, and when nobody needs it.
 */
#ifndef DAEMON_NET_ELASTIC_H
#define DAEMON_NET_ELASTIC_H

#include <stdint.h>

struct server;

struct elastic {
	uint64_t usual;		/* what it goes back to */
	uint64_t marked;	/* size that the watermarks are of */
	uint64_t taken;		/* pages allocated, when last looked at */
	uint64_t busy_ms;	/* uv_now() when they were not as before */
};

/* The pool has been made. */
void elastic_init(struct server *s);

/* About once a second. */
void elastic_tick(struct server *s);

/* What the pool may have now. */
uint64_t elastic_bytes(const struct server *s);

/* Watermarks of that, as configured. */
void elastic_marks(struct server *s);

/* As mem_resize(); what it goes back to is this from here on. */
int elastic_resize(struct server *s, uint64_t bytes);

#endif
