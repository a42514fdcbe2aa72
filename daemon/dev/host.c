/* SPDX-License-Identifier: Apache-2.0 */
/*
 * host.c - the host's memory as a device: a segment is a memfd.
 *
 * Every page of a segment is faulted in here, on the device's thread, before
 * anybody learns of the segment: being out of memory is then an error of
 * segment_new() and never a SIGBUS in a worker. The size is sealed, so no one
 * who is handed the descriptor can shrink it under the others, and so are the
 * seals: no one can make it read-only for those to come. The mapping
 * stays until segment_free(): it costs address space only.
 */
#include "daemon/dev/ops.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "daemon/dev/device.h"
#include "daemon/util/clock.h"
#include "daemon/util/memfd.h"
#include "kernels/host/host.h"

#define HUGE_PAGE (2ull << 20)
#define COLLAPSE  25 /* MADV_COLLAPSE, Linux 6.1 */
#define COLLAPSE_MS 200 /* of one segment */

/* "always", "advise", "never" ...: the word in brackets. */
static void host_huge_pages(char *buf, size_t bytes)
{
	char line[128] = "";
	char *from, *to = NULL;
	int fd;

	fd = open("/sys/kernel/mm/transparent_hugepage/shmem_enabled",
		  O_RDONLY | O_CLOEXEC);
	if (fd >= 0 && read(fd, line, sizeof(line) - 1) > 0 &&
	    (from = strchr(line, '[')) && (to = strchr(from, ']')))
		snprintf(buf, bytes, "%.*s", (int)(to - from - 1), from + 1);
	if (!to)
		snprintf(buf, bytes, "never");
	if (fd >= 0)
		close(fd);
}

static int host_open(struct dev *d)
{
	char huge[16];

	host_huge_pages(huge, sizeof(huge));
	/* Not NULL: to be faulted in through an advised mapping. */
	d->priv = strcmp(huge, "advise") == 0 ? d : NULL;
	snprintf(d->why, sizeof(d->why),
		 "memory of the host; huge pages: %s", huge);
	return 0;
}

static void host_close(struct dev *d)
{
}

static void *host_at(const struct dev_segment *s, uint64_t offset)
{
	return (char *)(uintptr_t)s->base + offset;
}

/*
 * Huge pages where the system makes none of a memfd by itself ("never"; not
 * where it is told to "deny" them). A range must have a page to be made one.
 * What cannot be had in huge pages is had in small ones, and so is the rest of
 * a segment so large that it takes long: who waits for it comes first.
 */
static void host_collapse(char *p, int fd, uint64_t bytes)
{
	uint64_t end_ns = clock_ns() + COLLAPSE_MS * 1000000ull;

	for (uint64_t at = 0; at < bytes && clock_ns() < end_ns;
	     at += HUGE_PAGE)
		if (fallocate(fd, 0, (off_t)at, 1) < 0 ||
		    madvise(p + at, HUGE_PAGE, COLLAPSE) < 0)
			return;
}

/*
 * fallocate() is three times as fast as faulting, but takes no advice: where
 * huge pages are made on advice only, they are made by faults through an
 * advised mapping (MADV_POPULATE_WRITE, Linux 5.14).
 */
static int host_populate(const struct dev *d, void *p, int fd, uint64_t bytes)
{
	madvise(p, bytes, MADV_HUGEPAGE);
	if (d->priv && madvise(p, bytes, MADV_POPULATE_WRITE) < 0 &&
	    errno != EINVAL)
		return -ENOMEM;
	if (!d->priv)
		host_collapse(p, fd, bytes);
	while (fallocate(fd, 0, 0, (off_t)bytes) < 0)
		if (errno != EINTR)
			return -ENOMEM;
	return 0;
}

/* Where huge pages can be mapped. */
static int host_map(int fd, uint64_t bytes, void **ret)
{
	char *p = mmap(NULL, bytes + HUGE_PAGE, PROT_NONE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	uint64_t skip;

	if (p == MAP_FAILED)
		return -errno;
	skip = -(uintptr_t)p % HUGE_PAGE;
	if (skip)
		munmap(p, skip);
	munmap(p + skip + bytes, HUGE_PAGE - skip);
	*ret = mmap(p + skip, bytes, PROT_READ | PROT_WRITE,
		    MAP_SHARED | MAP_FIXED, fd, 0);
	return *ret == MAP_FAILED ? -errno : 0;
}

static int host_segment_adopt(struct dev *d, int fd, uint64_t bytes,
			      struct dev_segment *ret)
{
	void *p;
	int r;

	r = memfd_check(fd, bytes);
	if (r < 0)
		return r;
	r = host_map(fd, bytes, &p);
	if (r < 0)
		return r;
	madvise(p, bytes, MADV_DONTDUMP);
	*ret = (struct dev_segment){
		.bytes = bytes,
		.fd = fd,
		.base = (uintptr_t)p,
	};
	return 0;
}

static void host_segment_free(struct dev *d, struct dev_segment *s)
{
	munmap(host_at(s, 0), s->bytes);
	close(s->fd);
	*s = (struct dev_segment){ .fd = -1 };
}

static int host_segment_new(struct dev *d, uint64_t bytes,
			    struct dev_segment *ret)
{
	struct dev_segment s;
	int fd, r;

	fd = memfd_new("kvd-segment", bytes);
	if (fd < 0)
		return fd == -ENOMEM ? -ENOMEM : -EIO;
	r = fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL);
	if (r == 0)
		r = host_segment_adopt(d, fd, bytes, &s);
	if (r < 0) {
		close(fd);
		return -ENOMEM;
	}
	r = host_populate(d, host_at(&s, 0), fd, bytes);
	if (r < 0) {
		host_segment_free(d, &s);
		return r;
	}
	*ret = s;
	return 0;
}

static int host_zero(struct dev *d, struct dev_segment *s, uint64_t offset,
		     uint64_t bytes)
{
	memset(host_at(s, offset), 0, bytes);
	return 0;
}

static int host_read(struct dev *d, struct dev_segment *s, uint64_t offset,
		     void *buf, uint64_t bytes)
{
	memcpy(buf, host_at(s, offset), bytes);
	return 0;
}

static int host_copy(struct dev *d, struct dev_segment *to, uint64_t to_offset,
		     struct dev_segment *from, uint64_t from_offset,
		     uint64_t bytes)
{
	memcpy(host_at(to, to_offset), host_at(from, from_offset), bytes);
	return 0;
}

static int host_write(struct dev *d, struct dev_segment *s, uint64_t offset,
		      const void *buf, uint64_t bytes)
{
	memcpy(host_at(s, offset), buf, bytes);
	return 0;
}

/* On this one thread: the machine is the workers'. */
static int host_convert(struct dev *d, const struct dev_convert *c)
{
	for (uint32_t i = 0; i < c->nr; i++) {
		struct dev_convert_page *p = &c->pages[i];
		void *const bases[] = { host_at(p->from, 0), host_at(p->to, 0) };
		const struct kv_convert_page page = {
			.from = { .offset = p->from_at },
			.to = { .offset = p->to_at, .segment = 1, .layout = 1 },
			.nr_tokens = c->from->page_tokens,
		};
		struct kv_convert_args a = {
			.layouts = { *c->from, *c->to },
			.bases = bases,
			.pages = &page,
			.nr_pages = 1,
			.nr_layers = c->from->nr_layers,
			.nonfinite = &p->bad,
			.nr_threads = 1,
		};

		p->bad = 0;
		host_kernels()->convert(&a);
	}
	return 0;
}

const struct dev_ops dev_host_ops = {
	.name = "host",
	.survives = true,
	.export_kind = DEV_EXPORT_MMAP,
	.open = host_open,
	.close = host_close,
	.segment_new = host_segment_new,
	.segment_adopt = host_segment_adopt,
	.segment_free = host_segment_free,
	.zero = host_zero,
	.read = host_read,
	.copy = host_copy,
	.write = host_write,
	.convert = host_convert,
};
