// SPDX-License-Identifier: Apache-2.0
/* append.c - store K and V of the tokens after the committed ones. */
#include <errno.h>
#include <stddef.h>
#include "client-lib/error.h"
#include "client-lib/fixed.h"
#include "client-lib/seq.h"
#include "client-lib/space.h"

/* What was appended: the rest of the arguments. */
static int rows_check(struct kvd_space *sp, const struct kvd_append_args *args)
{
	const struct page_layout *l = &sp->layouts[args->group];

	if (sp->opts.read_only)
		return fail(sp->k, -EACCES, "the space is read-only");
	if (!args->k || (l->v_dim && !args->v))
		return fail(sp->k, -EINVAL, "k or v is missing");
	if (args->k_stride && args->k_stride < l->nr_heads * l->k_dim)
		return fail(sp->k, -EINVAL, "k_stride is less than a row");
	if (args->v_stride && args->v_stride < l->nr_heads * l->v_dim)
		return fail(sp->k, -EINVAL, "v_stride is less than a row");
	return 0;
}

/* All but which sequences, and their pages. */
static struct kv_append_args args_of(const struct kvd_space *sp,
				     const struct kvd_append_args *args)
{
	const struct page_layout *l = &sp->layouts[args->group];
	struct kv_append_args a = {
		.layer = args->layer,
		.dtype = args->dtype,
		.k = args->k,
		.v = args->v,
		.k_stride = args->k_stride,
		.v_stride = args->v_stride,
		.nr_threads = sp->opts.nr_threads,
	};

	space_layouts(sp, args->group, a.layouts);
	if (!a.k_stride)
		a.k_stride = (uint64_t)l->nr_heads * l->k_dim;
	if (!a.v_stride)
		a.v_stride = (uint64_t)l->nr_heads * l->v_dim;
	return a;
}

static int append_run(struct kvd_space *sp, const struct kvd_append_args *args)
{
	struct kv_append_args a = args_of(sp, args);
	struct batch *b = &sp->batch;
	int r;

	a.pages = b->pages;
	a.seqs = b->seqs;
	a.nr_seqs = b->nr_seqs;
	a.nr_rows = b->nr_rows;
	r = tables_get(sp, args->group, 0, &a.tables);
	if (r)
		return r;
	r = sp->device->ops->append(sp->device, &a, b->nr_pages, b->nonfinite,
				    args->stream);
	if (r)
		return fail(sp->k, r, "append failed on the device");
	return 0;
}

static int append_items(struct kvd_space *sp,
			const struct kvd_append_args *args)
{
	const struct batch_args b = { args->group, args->layer, args->dtype,
				      args->items, args->nr_items };
	int r = batch_check(sp, &b);

	if (!r)
		r = rows_check(sp, args);
	if (!r)
		r = fixed_refuse_capture(sp, args->stream);
	if (!r)
		r = batch_reserve(sp, &b);
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

static int append_batch(struct kvd_space *sp,
			const struct kvd_append_args *args)
{
	const struct fixed_call call = { args->batch, args->group,
					 args->nr_items, args->stream };
	struct kv_append_args a;
	int r = batch_check_layer(sp, args->group, args->layer, args->dtype);

	if (!r)
		r = rows_check(sp, args);
	if (!r)
		r = fixed_check(sp, &call);
	if (r)
		return r;
	a = args_of(sp, args);
	return fixed_append(&call, &a);
}

int kvd_append(struct kvd_space *sp, const struct kvd_append_args *args)
{
	size_t first = offsetof(struct kvd_append_args, batch);
	int r = fail_size_since(sp->k, args, first, sizeof(*args));

	if (r)
		return r;
	return args->size > first && args->batch ? append_batch(sp, args) :
						   append_items(sp, args);
}
