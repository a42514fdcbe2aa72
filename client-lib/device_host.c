// SPDX-License-Identifier: Apache-2.0
/*
 * device_host.c - host memory: segments are memfds, kernels run here and now.
 *
 * Each segment is mapped twice: for reading, and where the space is not
 * read-only for writing. Where it is in huge pages they are mapped as such.
 * An event never has anything to wait for, so it is always NULL.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "client-lib/device.h"
#include "client-lib/shared.h"
#include "kernels/host/host.h"
#include "proto/wire.h"

#define HUGE_PAGE ((size_t)2 << 20)
#define POPULATE_READ 22 /* MADV_POPULATE_READ, Linux 5.14 */

struct device_host {
	struct device d;	/* first */
	uint64_t *bytes;	/* [nr_segments] */
	uint32_t *nonfinite;	/* [room] of one call */
	uint32_t room;
};

static int host_open(const char *spec, bool writable, struct device **ret)
{
	struct device_host *h = calloc(1, sizeof(*h));

	if (!h)
		return -ENOMEM;
	h->d.ops = &device_host_ops;
	h->d.writable = writable;
	h->d.at_once = true;
	*ret = &h->d;
	return 0;
}

static int host_unmap(struct device *d, uint32_t i)
{
	struct device_host *h = (struct device_host *)d;

	if (d->read_only[i])
		munmap((void *)(uintptr_t)d->read_only[i], h->bytes[i]);
	if (d->writable_at[i])
		munmap(d->writable_at[i], h->bytes[i]);
	d->read_only[i] = d->writable_at[i] = NULL;
	return 0;
}

static void host_close(struct device *d)
{
	struct device_host *h = (struct device_host *)d;

	if (!d)
		return;
	for (uint32_t i = 0; i < d->nr_segments; i++)
		host_unmap(d, i);
	free(d->read_only);
	free(d->writable_at);
	free(h->bytes);
	free(h->nonfinite);
	free(h);
}

/* Address space for @bytes, where huge pages can be mapped. */
static void *reserve(size_t bytes)
{
	char *p = mmap(NULL, bytes + HUGE_PAGE, PROT_NONE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	size_t skip;

	if (p == MAP_FAILED)
		return MAP_FAILED;
	skip = -(uintptr_t)p % HUGE_PAGE;
	if (skip)
		munmap(p, skip);
	munmap(p + skip + bytes, HUGE_PAGE - skip);
	return p + skip;
}

static void *map_segment(const struct device_segment *s, int prot)
{
	void *at = reserve(s->bytes), *p;

	if (at == MAP_FAILED)
		return MAP_FAILED;
	p = mmap(at, s->bytes, prot, MAP_SHARED | MAP_FIXED, s->fd, 0);
	if (p == MAP_FAILED) {
		int err = errno;

		munmap(at, s->bytes);
		errno = err;
		return MAP_FAILED;
	}
	return p;
}

static int host_map(struct device *d, const struct device_segment *s)
{
	struct device_host *h = (struct device_host *)d;
	uint64_t *bytes;
	void *ro, *rw = NULL;
	int r;

	if (s->kind != WIRE_SEGMENT_MMAP)
		return -ENODEV;
	if (shared_check(s->fd, s->bytes) < 0)
		return -EPROTO;
	bytes = realloc(h->bytes, (d->nr_segments + 1) * sizeof(*bytes));
	if (!bytes)
		return -ENOMEM;
	h->bytes = bytes;
	r = device_grow(d);
	d->device_read_only = d->read_only; /* it may have moved */
	if (r)
		return r;
	ro = map_segment(s, PROT_READ);
	if (ro == MAP_FAILED)
		return errno == ENOMEM ? -ENOMEM : -EIO;
	if (d->writable)
		rw = map_segment(s, PROT_READ | PROT_WRITE);
	if (rw == MAP_FAILED) {
		r = errno == ENOMEM ? -ENOMEM : -EIO;
		munmap(ro, s->bytes);
		return r;
	}
	bytes[d->nr_segments] = s->bytes;
	d->read_only[d->nr_segments] = ro;
	d->writable_at[d->nr_segments++] = rw;
	return 0;
}

/*
 * Kernels prefetch the rows that a page has no tokens for yet. Nothing faults
 * then, so what is not in the page tables is looked for there each time: a
 * step over two pages, one of them new, took twice as long.
 */
static void host_expect(struct device *d, struct device_place at,
			uint64_t bytes)
{
	uintptr_t from = (uintptr_t)d->read_only[at.segment] + at.offset;
	uintptr_t first = from & ~((uintptr_t)sysconf(_SC_PAGESIZE) - 1);

	madvise((void *)first, from + bytes - first, POPULATE_READ);
}

/* @nr flags of a call, clear. NULL: no memory. */
static uint32_t *flags_get(struct device_host *h, uint32_t nr)
{
	if (nr > h->room) {
		uint32_t *p = realloc(h->nonfinite, 2ULL * nr * sizeof(*p));

		if (!p)
			return NULL;
		h->nonfinite = p;
		h->room = 2 * nr;
	}
	memset(h->nonfinite, 0, nr * sizeof(*h->nonfinite));
	return h->nonfinite;
}

static void flags_put(const uint32_t *flags, uint32_t nr, uint32_t *const *to)
{
	for (uint32_t i = 0; to && i < nr; i++)
		*to[i] |= flags[i];
}

static int host_append(struct device *d, struct kv_append_args *a,
		       uint32_t nr_pages, uint32_t *const *nonfinite,
		       kvd_stream stream)
{
	a->nonfinite = flags_get((struct device_host *)d, a->nr_seqs);
	if (!a->nonfinite)
		return -ENOMEM;
	a->bases = d->writable_at;
	host_kernels()->append(a);
	flags_put(a->nonfinite, a->nr_seqs, nonfinite);
	return 0;
}

static int host_attend(struct device *d, struct kv_attend_args *a,
		       uint32_t nr_pages, kvd_stream stream)
{
	a->bases = d->read_only;
	return host_kernels()->attend(a);
}

static int host_convert(struct device *d, struct kv_convert_args *a,
			uint32_t *const *nonfinite, kvd_stream stream)
{
	a->nonfinite = flags_get((struct device_host *)d, a->nr_pages);
	if (!a->nonfinite)
		return -ENOMEM;
	a->bases = d->writable_at;
	host_kernels()->convert(a);
	flags_put(a->nonfinite, a->nr_pages, nonfinite);
	return 0;
}

static int host_copy(struct device *d, struct device_place dst,
		     struct device_place src, uint64_t bytes,
		     kvd_stream stream)
{
	memcpy((char *)d->writable_at[dst.segment] + dst.offset,
	       (const char *)d->read_only[src.segment] + src.offset, bytes);
	return 0;
}

static int host_event_record(struct device *d, kvd_stream stream,
			     struct device_event **ret)
{
	*ret = NULL;
	return 0;
}

static int host_event_done(struct device *d, struct device_event *e)
{
	return 1;
}

static int host_event_wait(struct device *d, struct device_event *e)
{
	return 0;
}

static void host_event_free(struct device *d, struct device_event *e)
{
}

static int host_sync(struct device *d)
{
	return 0;
}

static bool host_capturing(struct device *d, kvd_stream stream)
{
	return false;
}

/* The block is the image itself. */
static int host_fixed_new(struct device *d, const struct device_fixed_want *w,
			  struct device_fixed **ret)
{
	struct device_fixed *f = calloc(1, sizeof(*f) + w->nr_flags * 4ull);

	if (!f)
		return -ENOMEM;
	f->at = w->image;
	f->flags = (uint32_t *)(void *)(f + 1);
	for (uint32_t g = 0; g < w->nr_groups; g++)
		f->tables[g] = w->groups[g].tables;
	*ret = f;
	return 0;
}

static void host_fixed_free(struct device *d, struct device_fixed *f)
{
	free(f);
}

static int host_fixed_send(struct device *d, struct device_fixed *f,
			   uint64_t bytes, kvd_stream stream)
{
	return 0;
}

static int host_fixed_append(struct device *d, struct device_fixed *f,
			     struct kv_append_args *a, kvd_stream stream)
{
	a->bases = d->writable_at;
	a->nonfinite += *a->nonfinite_at;
	host_kernels()->append(a);
	return 0;
}

static int host_fixed_attend(struct device *d, struct device_fixed *f,
			     struct kv_attend_args *a, kvd_stream stream)
{
	a->bases = d->read_only;
	return host_kernels()->attend(a);
}

static int host_fixed_convert(struct device *d, struct device_fixed *f,
			      struct kv_convert_args *a, kvd_stream stream)
{
	a->bases = d->writable_at;
	a->nonfinite += a->pages[0].word; /* the same of all */
	host_kernels()->convert(a);
	return 0;
}

const struct device_ops device_host_ops = {
	.open = host_open,
	.close = host_close,
	.map = host_map,
	.unmap = host_unmap,
	.append = host_append,
	.attend = host_attend,
	.convert = host_convert,
	.expect = host_expect,
	.copy = host_copy,
	.event_record = host_event_record,
	.event_done = host_event_done,
	.event_wait = host_event_wait,
	.event_free = host_event_free,
	.sync = host_sync,
	.capturing = host_capturing,
	.fixed_new = host_fixed_new,
	.fixed_free = host_fixed_free,
	.fixed_send = host_fixed_send,
	.fixed_append = host_fixed_append,
	.fixed_attend = host_fixed_attend,
	.fixed_convert = host_fixed_convert,
};
