/* SPDX-License-Identifier: Apache-2.0 */
/*
 * file.h - a tier in a file, for the files of this room that make it.
 *
 * The file is a ring. A first block says what it is and has a random id; then
 * records, one behind the other, the newest over the oldest:
 *
 *	| record | head | the page's bytes | 0 ... |
 *	0        TIER_HEAD_AT                      a multiple of TIER_ALIGN
 *
 * Numbers go up along the ring. A record of no bytes is a mark: those of its
 * key's origin that have lower numbers are forgotten (ring.h). What a successor
 * finds are records that are whole, with the file's id: no page that was written
 * into it can look like one, because nobody who writes pages knows that id. The
 * one of the highest number says from which on they count. Checksums of pages
 * are looked at when they are read.
 */
#ifndef DAEMON_TIER_FILE_H
#define DAEMON_TIER_FILE_H

#include "daemon/tier/entry.h"
#include "daemon/util/list.h"
#include "daemon/util/worker.h"

#define FILE_MAGIC   0x657265697464766bULL /* "kvdtiere" */
#define FILE_VERSION 2u
#define FILE_ID	     16u
#define RECORD_MAGIC 0x64726f636572766bULL

struct file_head {		/* the first block begins with */
	uint64_t magic;
	uint32_t version;
	uint32_t crc;		/* of id */
	uint8_t id[FILE_ID];
};

struct file_record {
	uint64_t magic;
	uint64_t nr;
	uint64_t oldest;	/* lower numbers are none */
	struct tier_key key;
	uint8_t id[FILE_ID];
	uint32_t head_bytes;
	uint32_t bytes;
	uint32_t crc;		/* of head and page */
	uint32_t own_crc;	/* of all before */
};

_Static_assert(sizeof(struct file_record) <= TIER_HEAD_AT, "before the head");

/* What a scan has found. */
struct file_found {
	struct tier_key key;
	uint64_t nr, oldest;
	uint64_t at;
	uint32_t head_bytes;
	uint32_t bytes;
};

/* ---- on the thread: file_scan.c ---- */

/**
 * file_open() - open or make it, locked
 * @id:	out
 * @why: what is wrong, and what to do
 * Return: a descriptor or -errno.
 */
int file_open(const char *path, uint64_t max_bytes, uint8_t id[FILE_ID],
	      char *why, size_t why_bytes);

/* Is it gone, or another one, under its name? */
bool file_is_gone(int fd, const char *path);

/**
 * file_scan() - records from @*at on
 * @limit:	where nothing is any more
 * @found:	[max]
 *
 * Moves @*at on; at @limit there are no more. Return: how many, or -errno.
 */
int file_scan(int fd, const uint8_t id[FILE_ID], uint64_t *at, uint64_t limit,
	      struct file_found *found, uint32_t max);

/* @p as the record @as of the file: fills the space before its head. */
void file_seal(struct tier_page *p, const struct file_found *as,
	       const uint8_t id[FILE_ID]);

/* Is @p, just read, the record that was written? */
bool file_is_whole(const struct tier_page *p, const struct tier_key *key,
		   const uint8_t id[FILE_ID]);

/* All of it, or an error. */
int file_write(int fd, const void *buf, uint64_t bytes, uint64_t at);

/* -ENODATA: it ends before. */
int file_read(int fd, void *buf, uint64_t bytes, uint64_t at);

#endif
