/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hostile.h - what a hostile user tries, one row each.
 *
 * A row is a function that runs in a process of its own, as uid HOSTILE, and
 * returns when its attempt has come to nothing; if it has not, or what came of
 * it is not what was to be, lost() ends it. What happened is said with saw();
 * want() looks at a status and says it. After each row the victim, uid VICTIM,
 * is served as before and finds what it had. After each file of them kvd's
 * structure is walked, and nothing of them is left in it.
 */
#ifndef TESTS_HOSTILE_HOSTILE_H
#define TESTS_HOSTILE_HOSTILE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "tests/support/check.h"
#include "tests/support/raw.h"

#define KVD_UID 4240
#define VICTIM	4242
#define HOSTILE 4243
#define THIRD	4244

#define PAGE	  32768u	/* of raw_open_space() */
#define SEGMENT	  (2u << 20)
#define MODEL	  7		/* of the victim's space */
#define NR_OPEN	  8
#define NR_PUBLISHED 4

/* As kvd is told; and descriptors that it may have, and have on their way. */
#define POOL_BYTES   (32u << 20)
#define VICTIM_MIN   (8u << 20)
#define HOSTILE_MAX  (16u << 20)
#define MAX_CLIENTS  48		/* of a user */
#define MAX_WAITING  8		/* of a client */
#define USER_WAITING 20		/* of a user */
#define USER_SUBSCRIPTIONS 3
#define USER_ANNOUNCED 8192
#define USER_FDS     64
#define TENANT_SPACES 24
#define HELLO_MS     1000
#define KVD_FILES    1024

#define SLOW_MS	     20000	/* what a machine may take */

struct row {
	const char *name;
	const char *tried;
	void (*run)(void);
	void (*before)(void);	/* a third user, to its end; or NULL */
};

/* The victim, as everybody may know it; and what has become of a row. */
struct world {
	char socket[96];
	char state_dir[96];
	pid_t kvd;
	struct {
		pid_t pid;
		uint32_t space;
		uint32_t segment;	/* of its open pages */
		uint64_t open[NR_OPEN];
		uint64_t published[NR_PUBLISHED];
		char said[160];		/* why it is not content */
	} victim;
	char saw[200];
};

extern struct world *w;		/* shared by all processes */

/* ---- of a row ---- */

void saw(const char *format, ...) __attribute__((format(printf, 1, 2)));
_Noreturn void lost(const char *format, ...)
	__attribute__((format(printf, 1, 2)));

/* @got is the status @wanted, a negative errno or 0; @wanted is seen. */
void want(int got, int wanted);

/* One of two. */
void want_either(int got, int wanted, int or);

#define MUST(cond, ...)                     \
	do {                                \
		if (!(cond))                \
			lost(__VA_ARGS__);  \
	} while (0)

/* ---- the victim ---- */

enum victim_order {
	VICTIM_CHECK = 'c',	/* is all there, is it served? */
	VICTIM_FILL = 'f',	/* take 4 MiB and write to it */
	VICTIM_EMPTY = 'e',	/* give them back */
	VICTIM_END = 'x'
};

/* Starts it; w->victim is filled. */
void victim_start(void);

/* Return: it is content; else w->victim.said says why not. */
bool victim_do(enum victim_order order);

#define VICTIM_IS_SERVED() \
	MUST(victim_do(VICTIM_CHECK), "the victim: %s", w->victim.said)

#define VICTIM_BYTE 0x5a

/* ---- for rows ---- */

int64_t now_ms(void);

/* A frame of @type with these descriptors. Return: 0 or a negative errno. */
int send_with(int fd, unsigned type, uint32_t id, const void *payload,
	      uint32_t size, const int *fds, unsigned nr);

/* The next reply, events skipped. Return: its status as a negative errno, or
 * -ECONNRESET. */
int reply_to(int fd, uint32_t id, struct raw_frame *f);
void close_fds(struct raw_frame *f);

/* A frame without fields. */
int call_empty(int fd, unsigned type);

/* Opens the space @model; its index and statistics. Return: id or -errno. */
int open_space_fds(int fd, uint8_t model, bool read_only, int fds[2],
		   uint8_t name_key[32]);

/* A segment's descriptor, or a negative errno. */
int map_segment(int fd, uint32_t space, uint32_t segment);

void send_alloc(int fd, uint32_t id, uint32_t space, uint32_t count,
		uint32_t deadline_ms);
int publish_after(int fd, uint32_t space, uint64_t handle, uint32_t seed,
		  const uint8_t parent[16], uint64_t *ret);
int subscribe(int fd, uint32_t space, uint32_t mask);
int pin(int fd, uint32_t space, uint32_t block, uint64_t ttl_ms);

/* Lets other processes go on until @pid of ours has ended. */
void kill_and_reap(pid_t pid);

extern const struct row rows_handles[], rows_frames[], rows_fds[],
	rows_memory[], rows_spaces[], rows_limits[], rows_death[],
	rows_restart[];

#endif
