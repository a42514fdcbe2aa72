// SPDX-License-Identifier: Apache-2.0
/* append.c - store K and V of the tokens after the committed ones. */
#include <errno.h>
#include "client-lib/error.h"
#include "client-lib/seq.h"
#include "client-lib/space.h"

static int append_check(struct kvd_space *sp,
			const struct kvd_append_args *args,
			const struct batch_args *b)
{
	const struct page_layout *l;
	int r = batch_check(sp, b);

	if (r)
		return r;
	if (sp->opts.read_only)
		return fail(sp->k, -EACCES, "the space is read-only");
	l = &sp->layouts[b->group];
	if (!args->k || (l->v_dim && !args->v))
		return fail(sp->k, -EINVAL, "k or v is missing");
	if (args->k_stride && args->k_stride < l->nr_heads * l->k_dim)
		return fail(sp->k, -EINVAL, "k_stride is less than a row");
	if (args->v_stride && args->v_stride < l->nr_heads * l->v_dim)
		return fail(sp->k, -EINVAL, "v_stride is less than a row");
	return 0;
}

/* Pages for all items; then, that none of them was lost on the way. */
static int append_reserve(struct kvd_space *sp, const struct batch_args *b)
{
	int r = 0;

	for (size_t i = 0; !r && i < b->nr_items; i++)
		r = seq_reserve(b->items[i].seq, b->group,
				b->items[i].seq->nr_tokens +
					b->items[i].nr_tokens);
	for (size_t i = 0; !r && i < b->nr_items; i++)
		r = seq_usable(b->items[i].seq);
	return r;
}

static int append_run(struct kvd_space *sp, const struct kvd_append_args *args)
{
	const struct page_layout *l = &sp->layouts[args->group];
	struct batch *b = &sp->batch;
	struct kv_append_args a = {
		.layouts = { *l, sp->layouts[sp->sealed_class[args->group]] },
		.pages = b->pages,
		.seqs = b->seqs,
		.nr_seqs = b->nr_seqs,
		.nr_rows = b->nr_rows,
		.layer = args->layer,
		.dtype = args->dtype,
		.k = args->k,
		.v = args->v,
		.k_stride = args->k_stride,
		.v_stride = args->v_stride,
		.nr_threads = sp->opts.nr_threads,
	};
	int r;

	if (!a.k_stride)
		a.k_stride = (uint64_t)l->nr_heads * l->k_dim;
	if (!a.v_stride)
		a.v_stride = (uint64_t)l->nr_heads * l->v_dim;
	r = tables_get(sp, args->group, 0, &a.tables);
	if (r)
		return r;
	r = sp->device->ops->append(sp->device, &a, b->nr_pages, b->nonfinite,
				    args->stream);
	if (r)
		return fail(sp->k, r, "append failed on the device");
	return 0;
}

int kvd_append(struct kvd_space *sp, const struct kvd_append_args *args)
{
	struct batch_args b;
	int r;

	r = fail_size(sp->k, args, sizeof(*args));
	if (r)
		return r;
	b = (struct batch_args){ args->group, args->layer, args->dtype,
				 args->items, args->nr_items };
	r = append_check(sp, args, &b);
	if (!r)
		r = append_reserve(sp, &b);
	if (!r)
		r = batch_append(sp, &b);
	if (!r && sp->batch.nr_rows)
		r = append_run(sp, args);
	if (!r)
		r = seal_append(sp, &b, args->stream);
	for (size_t i = 0; !r && i < b.nr_items; i++) {
		struct kvd_seq *seq = b.items[i].seq;

		seq->stream = args->stream;
		seq->tables[b.group].stored[b.layer] =
			seq->nr_tokens + b.items[i].nr_tokens;
	}
	return r;
}
