// SPDX-License-Identifier: Apache-2.0
/* attend.c - causal attention of new tokens over everything before them. */
#include <errno.h>
#include <math.h>
#include "client-lib/error.h"
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
	for (size_t i = 0; !r && i < b->nr_items; i++) {
		const struct kvd_item *it = &b->items[i];
		const struct table *t = &it->seq->tables[b->group];

		if (it->nr_tokens + it->seq->nr_tokens > t->stored[b->layer])
			r = fail(sp->k, -EINVAL, "item %zu: K and V of these "
				 "tokens were not appended in layer %u", i,
				 b->layer);
	}
	return r;
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

static int attend_run(struct kvd_space *sp, const struct kvd_attend_args *args)
{
	const struct page_layout *l = &sp->layouts[args->group];
	struct batch *b = &sp->batch;
	struct kv_attend_args a = {
		.layouts = { *l, sp->layouts[sp->sealed_class[args->group]] },
		.pages = b->pages,
		.seqs = b->seqs,
		.nr_seqs = b->nr_seqs,
		.nr_rows = b->nr_rows,
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
	int r;

	if (a.scale == 0)
		a.scale = 1 / sqrtf((float)l->k_dim);
	if (!a.q_stride)
		a.q_stride = (uint64_t)a.nr_q_heads * l->k_dim;
	if (!a.out_stride)
		a.out_stride = (uint64_t)a.nr_q_heads * out_dim(l);
	r = tables_get(sp, args->group, batch_end(b), &a.tables);
	if (r)
		return r;
	r = sp->device->ops->attend(sp->device, &a, b->nr_pages, args->stream);
	if (r)
		return fail(sp->k, r, "attend failed on the device");
	return 0;
}

int kvd_attend(struct kvd_space *sp, const struct kvd_attend_args *args)
{
	struct batch_args b;
	int r;

	r = fail_size(sp->k, args, sizeof(*args));
	if (r)
		return r;
	b = (struct batch_args){ args->group, args->layer, args->dtype,
				 args->items, args->nr_items };
	r = attend_check(sp, args, &b);
	if (!r)
		r = batch_attend(sp, &b);
	if (!r && sp->batch.nr_rows)
		r = attend_run(sp, args);
	for (size_t i = 0; !r && i < b.nr_items; i++)
		b.items[i].seq->stream = args->stream;
	return r;
}
