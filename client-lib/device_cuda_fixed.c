// SPDX-License-Identifier: Apache-2.0
/*
 * device_cuda_fixed.c - calls whose arrays stay at one place on a GPU.
 *
 * All memory is taken when the block is made: what a call records has no
 * address in it that could change or go away before the block does, so graphs
 * may keep it. Only fixed_send() uses the stage, for the copy's source.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "client-lib/device_cuda.h"

struct cuda_fixed {
	struct device_fixed f;	/* first */
	const char *image;
	cu_ptr block;
	void *flags;		/* page-locked */
	struct kv_cuda_scratch scratch;
};

void cuda_fixed_free(struct device *d, struct device_fixed *f)
{
	struct device_cuda *c = (struct device_cuda *)d;
	struct cuda_fixed *x = (struct cuda_fixed *)f;

	if (!f)
		return;
	if (x->block)
		c->cu->cuMemFree(x->block);
	if (x->scratch.ptr)
		c->cu->cuMemFree(x->scratch.ptr);
	if (x->flags)
		c->cu->cuMemFreeHost(x->flags);
	free(x);
}

static int block_alloc(struct device_cuda *c, struct cuda_fixed *x,
		       uint64_t bytes)
{
	int r = cuda_result(c->cu->cuMemAlloc(&x->block, bytes));

	if (r) {
		x->block = 0;
		return r;
	}
	r = cuda_result(c->cu->cuMemsetD8Async(x->block, 0, bytes, c->stream));
	if (!r)
		r = cuda_result(c->cu->cuStreamSynchronize(c->stream));
	x->f.at = (char *)(uintptr_t)x->block;
	return r;
}

static int flags_alloc(struct device_cuda *c, struct cuda_fixed *x,
		       uint32_t nr)
{
	int r = cuda_result(c->cu->cuMemHostAlloc(&x->flags, nr * 4ull, 0));

	if (r) {
		x->flags = NULL;
		return r;
	}
	memset(x->flags, 0, nr * 4ull);
	x->f.flags = x->flags;
	return 0;
}

/*
 * Of any number of query heads there may be. Fewer heads can want more: their
 * tokens are shared out among more blocks.
 */
static uint64_t scratch_want(const struct device_cuda *c,
			     const struct device_fixed_want *w,
			     const struct kv_cuda_batch *b)
{
	uint64_t most = 0;

	for (uint32_t g = 0; g < w->nr_groups; g++) {
		struct kv_attend_args a = w->groups[g];
		const uint32_t step = a.layouts[0].nr_heads;

		for (a.nr_q_heads = step; a.nr_q_heads <= w->max_q_heads;
		     a.nr_q_heads += step) {
			uint64_t n = kv_cuda_attend_bytes(c->kc, &a, b);

			most = n > most ? n : most;
		}
	}
	return most;
}

static int scratch_alloc(struct device_cuda *c, struct cuda_fixed *x,
			 const struct device_fixed_want *w)
{
	struct kv_cuda_scratch *s = &x->scratch;
	int r;

	s->batch = (struct kv_cuda_batch){ .max_tokens = w->max_tokens,
					   .max_rows = w->max_rows,
					   .share = w->share };
	s->bytes = scratch_want(c, w, &s->batch);
	if (!s->bytes)
		return 0;
	r = cuda_result(c->cu->cuMemAlloc(&s->ptr, s->bytes));
	if (r)
		s->ptr = 0;
	return r;
}

static int tables_all(struct device_cuda *c, struct cuda_fixed *x,
		      const struct device_fixed_want *w)
{
	const struct cuda_tables_way way = { c->cu, c->stream };
	int r = 0;

	for (uint32_t g = 0; !r && g < w->nr_groups; g++)
		r = cuda_tables_get(c->kv_tables, &way,
				    &w->groups[g].layouts[0],
				    w->groups[g].tables, &x->f.tables[g]);
	return r;
}

int cuda_fixed_new(struct device *d, const struct device_fixed_want *w,
		   struct device_fixed **ret)
{
	struct device_cuda *c = (struct device_cuda *)d;
	struct cuda_fixed *x = calloc(1, sizeof(*x));
	int r;

	if (!x)
		return -ENOMEM;
	x->image = w->image;
	r = block_alloc(c, x, w->bytes);
	if (!r)
		r = flags_alloc(c, x, w->nr_flags);
	if (!r)
		r = scratch_alloc(c, x, w);
	if (!r)
		r = tables_all(c, x, w);
	if (r) {
		cuda_fixed_free(d, &x->f);
		return r;
	}
	*ret = &x->f;
	return 0;
}

int cuda_fixed_send(struct device *d, struct device_fixed *f, uint64_t bytes,
		    kvd_stream stream)
{
	struct device_cuda *c = (struct device_cuda *)d;
	struct cuda_fixed *x = (struct cuda_fixed *)f;
	struct stage_slot *slot;
	char *host;
	int r, end;

	r = stage_begin(&c->stage, bytes, &slot);
	if (r)
		return r;
	host = stage_host(&c->stage, slot);
	memcpy(host, x->image, bytes);
	r = cuda_result(c->cu->cuMemcpyHtoDAsync(x->block, host, bytes,
						 stream));
	end = stage_end(&c->stage, stream);
	return r ? r : end;
}

int cuda_fixed_append(struct device *d, struct device_fixed *f,
		      struct kv_append_args *a, kvd_stream stream)
{
	struct device_cuda *c = (struct device_cuda *)d;

	a->bases = cuda_writable_bases(c);
	return kv_cuda_append(c->kc, a, stream) ? -EIO : 0;
}

int cuda_fixed_attend(struct device *d, struct device_fixed *f,
		      struct kv_attend_args *a, kvd_stream stream)
{
	struct device_cuda *c = (struct device_cuda *)d;
	struct cuda_fixed *x = (struct cuda_fixed *)f;

	a->bases = c->d.device_read_only;
	return kv_cuda_attend(c->kc, a, &x->scratch, stream) ? -EIO : 0;
}

int cuda_fixed_convert(struct device *d, struct device_fixed *f,
		       struct kv_convert_args *a, kvd_stream stream)
{
	struct device_cuda *c = (struct device_cuda *)d;

	a->bases = cuda_writable_bases(c);
	return kv_cuda_convert(c->kc, a, stream) ? -EIO : 0;
}
