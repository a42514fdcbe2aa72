// SPDX-License-Identifier: Apache-2.0
/*
 * file_scan.c - a tier's file: opened, read, written, and what is in it.
 *
 * On the tier's thread. Where the file system can, the page cache is left out:
 * what is here is the copy.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include "daemon/tier/crc32c.h"
#include "daemon/tier/file.h"
#include "daemon/util/fault.h"
#include "daemon/util/random.h"

#define MODE 0600

/* ---- bytes ---- */

int file_write(int fd, const void *buf, uint64_t bytes, uint64_t at)
{
	const uint8_t *from = buf;
	int r = fault_at(FAULT_TIER_WRITE);

	if (r < 0)
		return r;
	while (bytes) {
		ssize_t n = pwrite(fd, from, bytes, (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -ENOSPC;
		from += n;
		at += (uint64_t)n;
		bytes -= (uint64_t)n;
	}
	return 0;
}

int file_read(int fd, void *buf, uint64_t bytes, uint64_t at)
{
	uint8_t *to = buf;
	int r = fault_at(FAULT_TIER_READ);

	if (r < 0)
		return r;
	while (bytes) {
		ssize_t n = pread(fd, to, bytes, (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -ENODATA;
		to += n;
		at += (uint64_t)n;
		bytes -= (uint64_t)n;
	}
	return 0;
}

/* ---- the first block ---- */

static int head_write(int fd, uint8_t *block, uint8_t id[FILE_ID])
{
	struct file_head h = { .magic = FILE_MAGIC, .version = FILE_VERSION };

	random_bytes(id, FILE_ID);
	memcpy(h.id, id, FILE_ID);
	h.crc = crc32c(0, id, FILE_ID);
	memset(block, 0, TIER_ALIGN);
	memcpy(block, &h, sizeof(h));
	if (ftruncate(fd, 0) < 0)
		return -errno;
	return file_write(fd, block, TIER_ALIGN, 0);
}

/* Somebody else's is left alone; of another version, or too large, it begins
 * anew: marks may be where it would be cut off. */
static int head_read(int fd, uint64_t bytes, uint64_t max_bytes, uint8_t *block,
		     uint8_t id[FILE_ID])
{
	struct file_head h;
	int r;

	if (bytes == 0)
		return head_write(fd, block, id);
	r = file_read(fd, block, TIER_ALIGN, 0);
	if (r < 0)
		return r == -ENODATA ? -EEXIST : r;
	memcpy(&h, block, sizeof(h));
	if (h.magic != FILE_MAGIC)
		return -EEXIST;
	if (h.version != FILE_VERSION || bytes > max_bytes ||
	    h.crc != crc32c(0, h.id, FILE_ID))
		return head_write(fd, block, id);
	memcpy(id, h.id, FILE_ID);
	return 0;
}

static int file_prepare(int fd, uint64_t max_bytes, uint8_t id[FILE_ID])
{
	uint8_t *block;
	struct stat st;
	int r;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || st.st_uid != geteuid())
		return -EEXIST;
	if (flock(fd, LOCK_EX | LOCK_NB) < 0)
		return -EBUSY;
	block = aligned_alloc(TIER_ALIGN, TIER_ALIGN);
	if (!block)
		return -ENOMEM;
	r = head_read(fd, (uint64_t)st.st_size, max_bytes, block, id);
	free(block);
	if (r == 0 && fchmod(fd, MODE) < 0)
		r = -errno;
	return r;
}

static const char *prepare_why(int r)
{
	switch (r) {
	case -EEXIST:
		return "is not a tier's file of this user: remove it, or name "
		       "another with tier-file";
	case -EBUSY:
		return "another kvd has it open: name another with tier-file";
	default:
		return strerror(-r);
	}
}

int file_open(const char *path, uint64_t max_bytes, uint8_t id[FILE_ID],
	      char *why, size_t why_bytes)
{
	int flags = O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK;
	int fd, r;

	fd = open(path, flags | O_DIRECT, MODE);
	if (fd < 0 && errno == EINVAL)
		fd = open(path, flags, MODE);
	if (fd < 0) {
		r = -errno;
		snprintf(why, why_bytes, "%s: %s", path, strerror(-r));
		return r;
	}
	r = file_prepare(fd, max_bytes, id);
	if (r == 0)
		return fd;
	snprintf(why, why_bytes, "%s: %s", path, prepare_why(r));
	close(fd);
	return r;
}

bool file_is_gone(int fd, const char *path)
{
	struct stat have, named;

	if (fstat(fd, &have) < 0)
		return true;
	return lstat(path, &named) < 0 || have.st_ino != named.st_ino ||
	       have.st_dev != named.st_dev;
}

/* ---- records ---- */

static uint32_t record_crc(const struct file_record *r)
{
	return crc32c(0, r, offsetof(struct file_record, own_crc));
}

static uint32_t page_crc(const struct tier_page *p)
{
	return crc32c(crc32c(0, tier_page_head(p), p->head_bytes),
		      tier_page_data(p), p->bytes);
}

void file_seal(struct tier_page *p, const struct file_found *as,
	       const uint8_t id[FILE_ID])
{
	struct file_record r = { .magic = RECORD_MAGIC,
				 .nr = as->nr,
				 .oldest = as->oldest,
				 .key = as->key,
				 .head_bytes = p->head_bytes,
				 .bytes = p->bytes,
				 .crc = page_crc(p) };

	memcpy(r.id, id, FILE_ID);
	r.own_crc = record_crc(&r);
	memcpy(p->block, &r, sizeof(r));
}

static bool record_is_whole(const struct file_record *r,
			    const uint8_t id[FILE_ID])
{
	return r->magic == RECORD_MAGIC && r->own_crc == record_crc(r) &&
	       memcmp(r->id, id, FILE_ID) == 0 &&
	       r->head_bytes <= TIER_HEAD_BYTES;
}

bool file_is_whole(const struct tier_page *p, const struct tier_key *key,
		   const uint8_t id[FILE_ID])
{
	struct file_record r;

	memcpy(&r, p->block, sizeof(r));
	return record_is_whole(&r, id) && tier_key_equal(&r.key, key) &&
	       r.head_bytes == p->head_bytes && r.bytes == p->bytes &&
	       r.crc == page_crc(p);
}

static int scan_one(int fd, const uint8_t id[FILE_ID], uint8_t *block,
		    uint64_t *at, uint64_t limit, struct file_found *ret)
{
	struct file_record rec;
	int r = file_read(fd, block, TIER_ALIGN, *at);

	if (r < 0)
		return r;
	memcpy(&rec, block, sizeof(rec));
	if (!record_is_whole(&rec, id) ||
	    tier_cost(rec.head_bytes, rec.bytes) > limit - *at) {
		*at += TIER_ALIGN;
		return 0;
	}
	*ret = (struct file_found){ .key = rec.key,
				    .nr = rec.nr,
				    .oldest = rec.oldest,
				    .at = *at,
				    .head_bytes = rec.head_bytes,
				    .bytes = rec.bytes };
	*at += tier_cost(rec.head_bytes, rec.bytes);
	return 1;
}

int file_scan(int fd, const uint8_t id[FILE_ID], uint64_t *at, uint64_t limit,
	      struct file_found *found, uint32_t max)
{
	uint8_t *block = aligned_alloc(TIER_ALIGN, TIER_ALIGN);
	uint32_t nr = 0;
	struct stat st;
	int r = 0;

	if (!block)
		return -ENOMEM;
	if (fstat(fd, &st) == 0 && (uint64_t)st.st_size < limit)
		limit = (uint64_t)st.st_size / TIER_ALIGN * TIER_ALIGN;
	/* Blocks that are no records are looked at as well: they count. */
	for (uint32_t i = 0; i < max && *at < limit; i++) {
		r = scan_one(fd, id, block, at, limit, &found[nr]);
		if (r < 0)
			break;
		nr += (uint32_t)r;
	}
	free(block);
	if (*at >= limit)
		*at = UINT64_MAX;
	return r < 0 ? r : (int)nr;
}
