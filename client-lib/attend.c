// SPDX-License-Identifier: Apache-2.0
/* attend.c - causal attention of new tokens over everything before them. */
#include <errno.h>
#include <math.h>
#include <stddef.h>
#include "client-lib/error.h"
#include "client-lib/fixed.h"
#include "client-lib/seq.h"
#include "client-lib/space.h"

/* Elements of one output head: without V, K serves as V. */
static uint32_t out_dim(const struct page_layout *l)
{
	return l->v_dim ? l->v_dim : l->k_dim;
}

static int heads_check(struct kvd_space *sp, const struct kvd_attend_args *a)
{
	const struct page_layout *l = &sp->layouts[a->group];

	if (!a->q || !a->out)
		return fail(sp->k, -EINVAL, "q or out is missing");
	if (!a->nr_q_heads || a->nr_q_heads % l->nr_heads ||
	    a->nr_q_heads > KVD_MAX_HEADS * 64u)
		return fail(sp->k, -EINVAL, "%u q heads are not a multiple of "
			    "%u kv heads", a->nr_q_heads, l->nr_heads);
	if (a->q_stride && a->q_stride < (uint64_t)a->nr_q_heads * l->k_dim)
		return fail(sp->k, -EINVAL, "q_stride is less than a row");
	if (a->out_stride &&
	    a->out_stride < (uint64_t)a->nr_q_heads * out_dim(l))
		return fail(sp->k, -EINVAL, "out_stride is less than a row");
	if (!isfinite(a->scale) || !isfinite(a->softcap) || a->softcap < 0)
		return fail(sp->k, -EINVAL, "scale or softcap is no number "
			    "that makes sense");
	return 0;
}

static int attend_check(struct kvd_space *sp, const struct kvd_attend_args *a,
			const struct batch_args *b)
{
	int r = batch_check(sp, b);

	if (!r)
		r = heads_check(sp, a);
	if (!r)
		r = fixed_refuse_capture(sp, a->stream);
	return r ? r : batch_check_stored(sp, b);
}

/* Positions of the batch's rows end here. */
static uint32_t batch_end(const struct batch *b)
{
	uint32_t end = 0;

	for (uint32_t i = 0; i < b->nr_seqs; i++)
		if (b->seqs[i].pos + b->seqs[i].nr_rows > end)
			end = b->seqs[i].pos + b->seqs[i].nr_rows;
	return end;
}

/* All but which sequences, and their pages. */
static struct kv_attend_args args_of(const struct kvd_space *sp,
				     const struct kvd_attend_args *args)
{
	const struct page_layout *l = &sp->layouts[args->group];
	struct kv_attend_args a = {
		.layer = args->layer,
		.dtype = args->dtype,
		.nr_q_heads = args->nr_q_heads,
		.window = sp->opts.geometry.groups[args->group].window,
		.scale = args->scale,
		.softcap = args->softcap,
		.sinks = args->sinks,
		.q = args->q,
		.out = args->out,
		.lse = args->lse,
		.q_stride = args->q_stride,
		.out_stride = args->out_stride,
		.nr_threads = sp->opts.nr_threads,
	};

	space_layouts(sp, args->group, a.layouts);
	if (a.scale == 0)
		a.scale = 1 / sqrtf((float)l->k_dim);
	if (!a.q_stride)
		a.q_stride = (uint64_t)a.nr_q_heads * l->k_dim;
	if (!a.out_stride)
		a.out_stride = (uint64_t)a.nr_q_heads * out_dim(l);
	return a;
}

static int attend_run(struct kvd_space *sp, const struct kvd_attend_args *args)
{
	struct kv_attend_args a = args_of(sp, args);
	struct batch *b = &sp->batch;
	int r;

	a.pages = b->pages;
	a.seqs = b->seqs;
	a.nr_seqs = b->nr_seqs;
	a.nr_rows = b->nr_rows;
	r = tables_get(sp, args->group, batch_end(b), &a.tables);
	if (r)
		return r;
	r = sp->device->ops->attend(sp->device, &a, b->nr_pages, args->stream);
	if (r)
		return fail(sp->k, r, "attend failed on the device");
	return 0;
}

static int attend_items(struct kvd_space *sp,
			const struct kvd_attend_args *args)
{
	const struct batch_args b = { args->group, args->layer, args->dtype,
				      args->items, args->nr_items };
	int r = attend_check(sp, args, &b);

	if (!r)
		r = batch_attend(sp, &b);
	if (!r && sp->batch.nr_rows)
		r = attend_run(sp, args);
	for (size_t i = 0; !r && i < b.nr_items; i++)
		b.items[i].seq->stream = args->stream;
	return r;
}

static int attend_batch(struct kvd_space *sp,
			const struct kvd_attend_args *args)
{
	const struct fixed_call call = { args->batch, args->group,
					 args->nr_items, args->stream };
	struct kv_attend_args a;
	int r = batch_check_layer(sp, args->group, args->layer, args->dtype);

	if (!r)
		r = heads_check(sp, args);
	if (!r)
		r = fixed_check(sp, &call);
	if (r)
		return r;
	a = args_of(sp, args);
	return fixed_attend(&call, &a);
}

int kvd_attend(struct kvd_space *sp, const struct kvd_attend_args *args)
{
	size_t first = offsetof(struct kvd_attend_args, batch);
	int r = fail_size_since(sp->k, args, first, sizeof(*args));

	if (r)
		return r;
	return args->size > first && args->batch ? attend_batch(sp, args) :
						   attend_items(sp, args);
}
