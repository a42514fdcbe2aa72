// SPDX-License-Identifier: Apache-2.0
/*
 * device_cuda.c - GPU memory: segments are CUDA's, calls go to streams.
 *
 * Everything happens in the caller's current context, which must be the same
 * one from open() to close(). A descriptor is mapped twice, for reading and
 * for writing; an IPC handle opens to one address that takes both. Kernels
 * find a segment's address in arrays in device memory, of fixed size so that
 * they never move.
 *
 * Block tables and flags cross through device_cuda_stage; scratch for
 * attention is one block of device memory, handed from stream to stream by an
 * event. Calls that stage are refused on a stream that is being captured: what
 * they stage would be gone when the graph runs. Calls over fixed arrays are in
 * device_cuda_fixed.c.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "client-lib/device_cuda.h"
#include "proto/wire.h"

struct device_event {
	cu_event event;
	uint64_t serial;	/* of the last call before it */
};

int cuda_result(cu_result err)
{
	switch (cu_errno(err)) {
	case 0:
		return 0;
	case -ENOMEM:
		return -ENOMEM;
	default:
		return -EIO;
	}
}

/* ---- open, close ---- */

/*
 * Is the context's GPU the pool's? With CUDA_VISIBLE_DEVICES set this
 * process's numbers are its own and say nothing.
 */
static bool gpu_matches(const struct device_cuda *c, const char *spec)
{
	const char *colon = strchr(spec, ':');

	return getenv("CUDA_VISIBLE_DEVICES") || !colon ||
	       strtol(colon + 1, NULL, 10) == c->gpu;
}

static int cuda_start(struct device_cuda *c, const char *spec)
{
	char why[160];
	cu_context ctx;
	int mps, r;

	c->cu = cuda_driver(why, sizeof(why));
	if (!c->cu || c->cu->cuCtxGetCurrent(&ctx) || !ctx ||
	    c->cu->cuCtxGetDevice(&c->gpu) || !gpu_matches(c, spec))
		return -ENODEV;
	c->d.mps = !c->cu->cuDeviceGetAttribute(&mps, CU_ATTR_MPS, c->gpu) &&
		   mps;
	r = cuda_result(c->cu->cuStreamCreateWithPriority(
		&c->stream, CU_STREAM_OWN_ORDER, 0));
	if (r) {
		c->stream = NULL;
		return r;
	}
	r = cuda_result(c->cu->cuEventCreate(&c->scratch_free,
					     CU_EVENT_NO_TIMING));
	if (r) {
		c->scratch_free = NULL;
		return r;
	}
	r = cuda_result(c->cu->cuMemAlloc(&c->bases,
				     2 * MAX_SEGMENTS * sizeof(cu_ptr)));
	if (r) {
		c->bases = 0;
		return r;
	}
	r = stage_init(&c->stage, c->cu);
	if (r)
		return r;
	r = kv_cuda_new(c->cu, &c->kc, why, sizeof(why));
	return r && r != -ENOMEM ? -ENODEV : r;
}

static void segment_unmap(struct device_cuda *c, const struct segment *s)
{
	if (s->ipc) {
		c->cu->cuIpcCloseMemHandle(s->ro);
		return;
	}
	c->cu->cuMemUnmap(s->ro, s->bytes);
	c->cu->cuMemAddressFree(s->ro, s->bytes);
	if (!s->rw)
		return;
	c->cu->cuMemUnmap(s->rw, s->bytes);
	c->cu->cuMemAddressFree(s->rw, s->bytes);
}

/* Work that used a page there has ended, or the page were held still. */
static int cuda_unmap(struct device *d, uint32_t i)
{
	struct device_cuda *c = (struct device_cuda *)d;

	if (!c->segments[i].bytes)
		return 0;
	segment_unmap(c, &c->segments[i]);
	c->segments[i] = (struct segment){ .bytes = 0 };
	d->read_only[i] = d->writable_at[i] = NULL;
	return 0;
}

static void cuda_close(struct device *d)
{
	struct device_cuda *c = (struct device_cuda *)d;

	if (!d)
		return;
	stage_fini(&c->stage);
	cuda_tables_fini(c->kv_tables, c->cu);
	for (uint32_t i = 0; i < d->nr_segments; i++)
		cuda_unmap(d, i);
	kv_cuda_free(c->kc);
	if (c->scratch)
		c->cu->cuMemFree(c->scratch);
	if (c->bases)
		c->cu->cuMemFree(c->bases);
	if (c->scratch_free)
		c->cu->cuEventDestroy(c->scratch_free);
	if (c->stream)
		c->cu->cuStreamDestroy(c->stream);
	free(c->segments);
	free(d->read_only);
	free(d->writable_at);
	free(c);
}

static int cuda_open(const char *spec, bool writable, struct device **ret)
{
	struct device_cuda *c = calloc(1, sizeof(*c));
	int r;

	if (!c)
		return -ENOMEM;
	c->d.ops = &device_cuda_ops;
	c->d.writable = writable;
	r = cuda_start(c, spec);
	if (r) {
		cuda_close(&c->d);
		return r;
	}
	c->d.device_read_only = (const void *const *)(uintptr_t)c->bases;
	*ret = &c->d;
	return 0;
}

/* ---- segments ---- */

static int vmm_view(struct device_cuda *c, cu_mem mem, uint64_t bytes,
		    int flags, cu_ptr *ret)
{
	const struct cu_access access = { { CU_LOCATION_DEVICE, c->gpu },
					  flags };
	cu_result err;
	cu_ptr at;

	err = c->cu->cuMemAddressReserve(&at, bytes, 0, 0, 0);
	if (err)
		return cuda_result(err);
	err = c->cu->cuMemMap(at, bytes, 0, mem, 0);
	if (!err) {
		err = c->cu->cuMemSetAccess(at, bytes, &access, 1);
		if (err)
			c->cu->cuMemUnmap(at, bytes);
	}
	if (err) {
		c->cu->cuMemAddressFree(at, bytes);
		return cuda_result(err);
	}
	*ret = at;
	return 0;
}

static int vmm_views(struct device_cuda *c, cu_mem mem, struct segment *s)
{
	int r = vmm_view(c, mem, s->bytes, CU_ACCESS_READ, &s->ro);

	if (r || !c->d.writable)
		return r;
	r = vmm_view(c, mem, s->bytes, CU_ACCESS_READWRITE, &s->rw);
	if (r) {
		s->rw = 0;
		segment_unmap(c, s);
	}
	return r;
}

static int vmm_map(struct device_cuda *c, int fd, struct segment *s)
{
	cu_result err;
	cu_mem mem;
	int r;

	err = c->cu->cuMemImportFromShareableHandle(&mem, (void *)(intptr_t)fd,
						    CU_HANDLE_POSIX_FD);
	if (err)
		return cuda_result(err);
	r = vmm_views(c, mem, s);
	c->cu->cuMemRelease(mem); /* the views hold it now */
	return r;
}

static int ipc_map(struct device_cuda *c, const uint8_t *bytes,
		   struct segment *s)
{
	struct cu_ipc_handle handle;
	int r;

	memcpy(&handle, bytes, sizeof(handle));
	r = cuda_result(c->cu->cuIpcOpenMemHandle(&s->ro, handle,
						  CU_IPC_LAZY_PEER));
	s->ipc = true;
	s->rw = c->d.writable ? s->ro : 0;
	return r;
}

/* Enters a segment into the kernels' arrays; done when it returns. */
static int bases_set(struct device_cuda *c, uint32_t i,
		      const struct segment *s)
{
	const uint64_t bytes = sizeof(cu_ptr);
	cu_result err;

	err = c->cu->cuMemcpyHtoDAsync(c->bases + i * bytes, &s->ro, bytes,
				       c->stream);
	if (!err)
		err = c->cu->cuMemcpyHtoDAsync(
			c->bases + (MAX_SEGMENTS + i) * bytes, &s->rw, bytes,
			c->stream);
	if (!err)
		err = c->cu->cuStreamSynchronize(c->stream);
	return cuda_result(err);
}

static int segments_grow(struct device_cuda *c)
{
	struct segment *p;

	if (c->d.nr_segments == MAX_SEGMENTS)
		return -ENOMEM;
	p = realloc(c->segments, (c->d.nr_segments + 1) * sizeof(*p));
	if (!p)
		return -ENOMEM;
	c->segments = p;
	return device_grow(&c->d);
}

static int cuda_map(struct device *d, const struct device_segment *what)
{
	struct device_cuda *c = (struct device_cuda *)d;
	struct segment s = { .bytes = what->bytes };
	uint32_t i = d->nr_segments;
	int r;

	if (what->kind != WIRE_SEGMENT_VMM && what->kind != WIRE_SEGMENT_IPC)
		return -ENODEV;
	r = segments_grow(c);
	if (r)
		return r;
	if (what->kind == WIRE_SEGMENT_VMM)
		r = vmm_map(c, what->fd, &s);
	else
		r = ipc_map(c, what->ipc_handle, &s);
	if (r)
		return r;
	r = bases_set(c, i, &s);
	if (r) {
		segment_unmap(c, &s);
		return r;
	}
	c->segments[i] = s;
	d->read_only[i] = (const void *)(uintptr_t)s.ro;
	d->writable_at[i] = (void *)(uintptr_t)s.rw;
	d->nr_segments++;
	return 0;
}

/* ---- calls ---- */

bool cuda_capturing(struct device *d, kvd_stream stream)
{
	struct device_cuda *c = (struct device_cuda *)d;
	int status;

	return !c->cu->cuStreamIsCapturing(stream, &status) &&
	       status != CU_CAPTURE_NONE;
}

/* May work be given to @stream that runs once, now? */
static bool stages(const struct device_cuda *c, kvd_stream stream)
{
	int status;

	return !c->cu->cuStreamIsCapturing(stream, &status) &&
	       status == CU_CAPTURE_NONE;
}

/* One array of a call, and the pointer to it. */
struct array {
	const void **at;
	uint64_t bytes;		/* a multiple of 8 */
};

/* What a call brings: two arrays, then room for @nr_flags words. */
struct arrays {
	struct array array[2];
	uint32_t nr_flags;
	uint32_t *flags;	/* page-locked, zero */
};

static struct arrays arrays_of(const struct kv_seq **seqs, uint32_t nr_seqs,
			       const struct kv_page_ref **pages,
			       uint32_t nr_pages)
{
	return (struct arrays){ .array = {
		{ (const void **)seqs, nr_seqs * sizeof(**seqs) },
		{ (const void **)pages, nr_pages * sizeof(**pages) } } };
}

/*
 * Takes a slot, copies the arrays into it, records their copy to the device
 * and puts their addresses there in place of the caller's. After success
 * stage_end() must follow.
 */
static int arrays_send(struct device_cuda *c, struct arrays *a,
		       struct stage_slot **ret, kvd_stream stream)
{
	const uint64_t bytes = a->array[0].bytes + a->array[1].bytes;
	uint64_t done = 0;
	char *host;
	cu_ptr device;
	int r;

	r = stage_begin(&c->stage, bytes + a->nr_flags * 4ull, ret);
	if (r)
		return r;
	host = stage_host(&c->stage, *ret);
	device = stage_device(&c->stage, *ret);
	for (int i = 0; i < 2; i++) {
		struct array *x = &a->array[i];

		if (!x->bytes)
			continue;
		memcpy(host + done, *x->at, x->bytes);
		*x->at = (const void *)(uintptr_t)(device + done);
		done += x->bytes;
	}
	a->flags = (uint32_t *)(void *)(host + bytes);
	memset(a->flags, 0, a->nr_flags * 4ull);
	return cuda_result(c->cu->cuMemcpyHtoDAsync(device, host, bytes, stream));
}

/* Expects flags of the slot's call, for @nonfinite. */
static int arrays_flags(const struct arrays *a, struct stage_slot *slot,
			uint32_t *const *nonfinite)
{
	return nonfinite ? stage_flags(slot, a->flags, a->nr_flags, nonfinite) :
			   0;
}

/* Tables of the call's group, in the device's memory. */
static int tables_send(struct device_cuda *c, const struct page_layout *l,
		       const struct kv_tables **at)
{
	const struct cuda_tables_way way = { c->cu, c->stream };

	return cuda_tables_get(c->kv_tables, &way, l, *at, at);
}

/* Before a call's slot is taken: what it needs for longer than it runs. */
static int call_begin(struct device_cuda *c, const struct page_layout *l,
		       const struct kv_tables **tables, kvd_stream stream)
{
	return stages(c, stream) ? tables_send(c, l, tables) : -EIO;
}

static int cuda_append(struct device *d, struct kv_append_args *a,
		       uint32_t nr_pages, uint32_t *const *nonfinite,
		       kvd_stream stream)
{
	struct device_cuda *c = (struct device_cuda *)d;
	struct arrays arrays = arrays_of(&a->seqs, a->nr_seqs, &a->pages,
					 nr_pages);
	struct stage_slot *slot;
	int r, end;

	arrays.nr_flags = a->nr_seqs;
	r = call_begin(c, &a->layouts[0], &a->tables, stream);
	if (!r)
		r = arrays_send(c, &arrays, &slot, stream);
	if (r)
		return r;
	r = arrays_flags(&arrays, slot, nonfinite);
	if (!r) {
		a->nonfinite = arrays.flags;
		a->bases = cuda_writable_bases(c);
		r = kv_cuda_append(c->kc, a, stream);
	}
	end = stage_end(&c->stage, stream);
	return r == -ENOMEM ? r : r ? -EIO : end;
}

/* Do two sequences that decode begin with the same page? */
static bool begin_alike(const struct kv_attend_args *a, uint32_t i, uint32_t j)
{
	const struct kv_page_ref *p = &a->pages[kv_seq_page(&a->seqs[i], 0)];
	const struct kv_page_ref *q = &a->pages[kv_seq_page(&a->seqs[j], 0)];

	return a->seqs[i].nr_rows == 1 && a->seqs[j].nr_rows == 1 &&
	       p->segment == q->segment && p->offset == q->offset &&
	       p->layout == q->layout;
}

static struct kv_cuda_batch batch_of(const struct kv_attend_args *a)
{
	struct kv_cuda_batch b = {
		.rope_pairs = a->tables ? a->tables->rope_pairs : 0,
	};

	for (uint32_t i = 0; i < a->nr_seqs; i++) {
		const struct kv_seq *s = &a->seqs[i];

		if (s->pos + s->nr_rows > b.max_tokens)
			b.max_tokens = s->pos + s->nr_rows;
		if (s->nr_rows > b.max_rows)
			b.max_rows = s->nr_rows;
		b.share |= i && begin_alike(a, i - 1, i);
	}
	return b;
}

/*
 * Scratch for a call on @stream, which then waits for whoever has it; none
 * where there is no memory for it.
 */
static struct kv_cuda_scratch scratch_get(struct device_cuda *c,
					  const struct kv_attend_args *a,
					  const struct kv_cuda_batch *b,
					  kvd_stream stream)
{
	struct kv_cuda_scratch s = { .batch = *b };
	const uint64_t want = kv_cuda_attend_bytes(c->kc, a, b);

	if (want > c->scratch_bytes) {
		c->cu->cuEventSynchronize(c->scratch_free);
		if (c->scratch)
			c->cu->cuMemFree(c->scratch);
		c->scratch_bytes = 2 * want;
		if (c->cu->cuMemAlloc(&c->scratch, c->scratch_bytes)) {
			c->scratch = 0;
			c->scratch_bytes = 0;
		}
	}
	if (want && want <= c->scratch_bytes &&
	    !c->cu->cuStreamWaitEvent(stream, c->scratch_free, 0)) {
		s.ptr = c->scratch;
		s.bytes = c->scratch_bytes;
	}
	return s;
}

static int cuda_attend(struct device *d, struct kv_attend_args *a,
		       uint32_t nr_pages, kvd_stream stream)
{
	struct device_cuda *c = (struct device_cuda *)d;
	struct arrays arrays = arrays_of(&a->seqs, a->nr_seqs, &a->pages,
					 nr_pages);
	const struct kv_cuda_batch batch = batch_of(a);
	struct kv_cuda_scratch scratch;
	struct stage_slot *slot;
	int r, end;

	r = call_begin(c, &a->layouts[0], &a->tables, stream);
	if (!r)
		r = arrays_send(c, &arrays, &slot, stream);
	if (r)
		return r;
	a->bases = c->d.device_read_only;
	scratch = scratch_get(c, a, &batch, stream);
	r = kv_cuda_attend(c->kc, a, &scratch, stream);
	if (scratch.bytes && c->cu->cuEventRecord(c->scratch_free, stream))
		r = -EIO;
	end = stage_end(&c->stage, stream);
	return r == -ENOMEM ? r : r ? -EIO : end;
}

static int cuda_convert(struct device *d, struct kv_convert_args *a,
			uint32_t *const *nonfinite, kvd_stream stream)
{
	struct device_cuda *c = (struct device_cuda *)d;
	struct arrays arrays = {
		.array = { { (const void **)&a->pages,
			     a->nr_pages * sizeof(*a->pages) } },
		.nr_flags = a->nr_pages,
	};
	struct stage_slot *slot;
	int r, end;

	r = call_begin(c, &a->layouts[0], &a->tables, stream);
	if (!r)
		r = arrays_send(c, &arrays, &slot, stream);
	if (r)
		return r;
	r = arrays_flags(&arrays, slot, nonfinite);
	if (!r) {
		a->nonfinite = arrays.flags;
		a->bases = cuda_writable_bases(c);
		r = kv_cuda_convert(c->kc, a, stream);
	}
	end = stage_end(&c->stage, stream);
	return r == -ENOMEM ? r : r ? -EIO : end;
}

static int cuda_copy(struct device *d, struct device_place dst,
		     struct device_place src, uint64_t bytes,
		     kvd_stream stream)
{
	struct device_cuda *c = (struct device_cuda *)d;
	struct stage_slot *slot;
	int r, end;

	r = stages(c, stream) ? stage_begin(&c->stage, 0, &slot) : -EIO;
	if (r)
		return r;
	r = cuda_result(c->cu->cuMemcpyDtoDAsync(
		c->segments[dst.segment].rw + dst.offset,
		c->segments[src.segment].ro + src.offset, bytes, stream));
	end = stage_end(&c->stage, stream);
	return r || end ? -EIO : 0;
}

/* ---- events ---- */

/* No memory for an event: what it would stand for is waited for here. */
static int stream_wait(struct device_cuda *c, kvd_stream stream,
		       struct device_event **ret)
{
	int r = c->cu->cuStreamSynchronize(stream) ? -EIO : 0;

	stage_reap(&c->stage, c->stage.serial);
	*ret = NULL;
	return r;
}

static int cuda_event_record(struct device *d, kvd_stream stream,
			     struct device_event **ret)
{
	struct device_cuda *c = (struct device_cuda *)d;
	struct device_event *e = malloc(sizeof(*e));
	int r;

	if (!e)
		return stream_wait(c, stream, ret);
	e->serial = c->stage.serial;
	r = cuda_result(c->cu->cuEventCreate(&e->event, CU_EVENT_NO_TIMING));
	if (r) {
		free(e);
		return r == -ENOMEM ? stream_wait(c, stream, ret) : r;
	}
	if (c->cu->cuEventRecord(e->event, stream)) {
		c->cu->cuEventDestroy(e->event);
		free(e);
		return -EIO;
	}
	*ret = e;
	return 0;
}

static int cuda_event_done(struct device *d, struct device_event *e)
{
	struct device_cuda *c = (struct device_cuda *)d;
	cu_result err;

	if (!e)
		return 1;
	err = c->cu->cuEventQuery(e->event);
	if (err == CU_NOT_READY)
		return 0;
	stage_reap(&c->stage, e->serial);
	return err ? -EIO : 1;
}

static int cuda_event_wait(struct device *d, struct device_event *e)
{
	struct device_cuda *c = (struct device_cuda *)d;
	cu_result err;

	if (!e)
		return 0;
	err = c->cu->cuEventSynchronize(e->event);
	stage_reap(&c->stage, e->serial);
	return err ? -EIO : 0;
}

static void cuda_event_free(struct device *d, struct device_event *e)
{
	struct device_cuda *c = (struct device_cuda *)d;

	if (!e)
		return;
	c->cu->cuEventDestroy(e->event);
	free(e);
}

static int cuda_sync(struct device *d)
{
	struct device_cuda *c = (struct device_cuda *)d;

	return stage_wait(&c->stage);
}

const struct device_ops device_cuda_ops = {
	.open = cuda_open,
	.close = cuda_close,
	.map = cuda_map,
	.unmap = cuda_unmap,
	.append = cuda_append,
	.attend = cuda_attend,
	.convert = cuda_convert,
	.copy = cuda_copy,
	.event_record = cuda_event_record,
	.event_done = cuda_event_done,
	.event_wait = cuda_event_wait,
	.event_free = cuda_event_free,
	.sync = cuda_sync,
	.capturing = cuda_capturing,
	.fixed_new = cuda_fixed_new,
	.fixed_free = cuda_fixed_free,
	.fixed_send = cuda_fixed_send,
	.fixed_append = cuda_fixed_append,
	.fixed_attend = cuda_fixed_attend,
	.fixed_convert = cuda_fixed_convert,
};
