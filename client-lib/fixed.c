// SPDX-License-Identifier: Apache-2.0
/* fixed.c - a batch in use: sets, calls, and when steps end. */
#include <assert.h>
#include <errno.h>
#include <string.h>
#include "client-lib/batch.h"
#include "client-lib/error.h"
#include "client-lib/fixed.h"
#include "client-lib/fixed_new.h"
#include "client-lib/seq.h"
#include "client-lib/space.h"

/* ---- steps ---- */

/* The words of step @i, of items and then of converts. */
static uint32_t *step_words(const struct kvd_batch *b, uint32_t i)
{
	return b->f->flags + (size_t)i * b->nr_words;
}

static void step_flags(const struct kvd_batch *b, uint32_t i)
{
	const struct fixed_step *s = &b->steps[i];
	const uint32_t *words = step_words(b, i);

	for (uint32_t w = 0; s->serial && w < b->nr_words; w++)
		if (words[w] && s->flags[w])
			s->flags[w]->word = 1;
}

void fixed_flags(struct kvd_space *sp)
{
	struct kvd_batch *b;

	LIST_FOREACH(b, &sp->batches, link)
		for (uint32_t i = 0; i < FIXED_STEPS; i++)
			step_flags(b, i);
}

/* All of the open step's work is recorded. */
static void step_close(struct kvd_batch *b)
{
	struct fixed_step *s = &b->steps[b->step];
	struct device *d = b->sp->device;

	if (!s->open)
		return;
	s->open = false;
	if (d->ops->event_record(d, b->stream, &s->ended)) {
		d->ops->sync(d);
		s->ended = NULL;
	}
}

/* Frees step @i where its work is done; @wait: then it is. */
static bool step_end(struct kvd_batch *b, uint32_t i, bool wait)
{
	struct fixed_step *s = &b->steps[i];
	struct device *d = b->sp->device;

	if (!s->serial)
		return true;
	if (s->open)
		return false;
	if (wait)
		d->ops->event_wait(d, s->ended);
	else if (!d->ops->event_done(d, s->ended))
		return false;
	step_flags(b, i);
	for (uint32_t w = 0; w < b->nr_words; w++) {
		flag_put(s->flags[w]);
		s->flags[w] = NULL;
	}
	memset(step_words(b, i), 0, b->nr_words * 4ull);
	d->ops->event_free(d, s->ended);
	s->ended = NULL;
	s->serial = 0;
	return true;
}

uint64_t fixed_open(const struct kvd_space *sp)
{
	const struct kvd_batch *b;
	uint64_t serial = 0;

	LIST_FOREACH(b, &sp->batches, link) {
		const struct fixed_step *s = &b->steps[b->step];

		if (s->open && s->serial > serial)
			serial = s->serial;
	}
	return serial;
}

bool fixed_past(struct kvd_space *sp, uint64_t serial)
{
	struct kvd_batch *b;

	LIST_FOREACH(b, &sp->batches, link)
		for (uint32_t i = 0; i < FIXED_STEPS; i++)
			if (b->steps[i].serial <= serial &&
			    !step_end(b, i, false))
				return false;
	return true;
}

void fixed_leave(struct kvd_seq *seq)
{
	if (!seq->batch)
		return;
	step_close(seq->batch);
	seq->batch->seqs[seq->batch_item] = NULL;
	seq->batch = NULL;
}

void fixed_end(struct kvd_batch *b)
{
	step_close(b);
	for (uint32_t i = 0; i < b->opts.max_items; i++)
		if (b->seqs[i])
			fixed_leave(b->seqs[i]);
	for (uint32_t i = 0; i < FIXED_STEPS; i++)
		step_end(b, i, true);
}

/* ---- a set ---- */

static int set_check(struct kvd_batch *b, const struct batch_args *a)
{
	const struct kvd_batch_opts *o = &b->opts;
	uint64_t rows = 0, all = 0;

	for (size_t i = 0; i < a->nr_items; i++) {
		uint32_t n = a->items[i].nr_tokens;
		uint64_t end = (uint64_t)a->items[i].seq->nr_tokens + n;

		if (n > o->max_item_rows)
			return fail(b->sp->k, -EINVAL, "item %zu has %u "
				    "tokens, the batch takes %u", i, n,
				    o->max_item_rows);
		if (end > o->max_tokens)
			return fail(b->sp->k, -EINVAL, "item %zu: its sequence "
				    "has %llu tokens then, the batch takes %u",
				    i, (unsigned long long)end, o->max_tokens);
		rows += n;
		all += end;
	}
	if (a->nr_items > o->max_items || rows > o->max_rows ||
	    all > o->max_all_tokens)
		return fail(b->sp->k, -EINVAL, "%zu items, %llu rows, %llu "
			    "tokens: the batch takes %u, %u and %llu",
			    a->nr_items, (unsigned long long)rows,
			    (unsigned long long)all, o->max_items, o->max_rows,
			    (unsigned long long)o->max_all_tokens);
	return 0;
}

/* Pages for the new tokens; where nothing is written, those that are there. */
static int set_reserve(struct kvd_space *sp, struct batch_args *a)
{
	const struct kvd_geometry *geo = &sp->opts.geometry;
	int r = 0;

	for (a->group = 0; !r && a->group < geo->nr_groups; a->group++) {
		if (!sp->opts.read_only)
			r = batch_reserve(sp, a);
		for (a->layer = 0; !r && sp->opts.read_only &&
				   a->layer < geo->groups[a->group].nr_layers;
		     a->layer++)
			r = batch_check_stored(sp, a);
	}
	a->group = a->layer = 0;
	return r;
}

/* The batch's sequences to @at of the block, pages counted from @base. */
static void put_seqs(struct kvd_batch *b, uint32_t at, uint32_t max,
		     uint32_t base)
{
	struct kv_seq *to = (struct kv_seq *)(void *)(b->image + at);
	const struct batch *from = &b->sp->batch;

	assert(from->nr_seqs <= max);
	memset(to, 0, max * sizeof(*to));
	for (uint32_t i = 0; i < from->nr_seqs; i++) {
		to[i] = from->seqs[i];
		to[i].first_page += base;
		to[i].overlay_page += base;
	}
}

static void step_flag(struct fixed_step *s, uint32_t word, struct flag *f)
{
	s->flags[word] = f;
	f->refs++;
}

/* Blocks that the step fills, each to be quantized as soon as it is full. */
static int put_converts(struct kvd_batch *b, const struct batch_args *a)
{
	struct fixed_group *g = &b->groups[a->group];
	struct kv_convert_page *to =
		(struct kv_convert_page *)(void *)(b->image + g->convert_at);
	struct flag **flags =
		b->steps[b->step].flags + g->convert_word;

	memset(to, 0, g->max_converts * sizeof(*to));
	g->nr_converts = 0;
	for (size_t i = 0; g->max_converts && i < a->nr_items; i++) {
		int nr = seal_list(&a->items[i], a->group,
				   to + g->nr_converts,
				   flags + g->nr_converts);

		if (nr < 0)
			return fail(b->sp->k, nr, "out of memory");
		g->nr_converts += (uint32_t)nr;
	}
	for (uint32_t i = 0; i < g->nr_converts; i++)
		to[i].word = b->step * b->nr_words + g->convert_word;
	return 0;
}

/* One group's arrays; its pages come after the @nr_pages there are. */
static int put_group(struct kvd_batch *b, const struct batch_args *a,
		     uint32_t *nr_pages)
{
	struct fixed_group *g = &b->groups[a->group];
	struct batch *from = &b->sp->batch;
	struct kv_page_ref *pages =
		(struct kv_page_ref *)(void *)(b->image + b->pages_at);
	int r = batch_append(b->sp, a);

	if (r)
		return r;
	assert(from->nr_pages <= b->max_pages - *nr_pages);
	put_seqs(b, g->append_at, b->opts.max_items, *nr_pages);
	if (from->nr_pages)
		memcpy(pages + *nr_pages, from->pages,
		       from->nr_pages * sizeof(*pages));
	g->nr_append = g->nr_attend = from->nr_seqs;
	b->nr_rows = from->nr_rows;
	if (g->attend_at != g->append_at) {
		r = batch_attend(b->sp, a);
		if (r)
			return r;
		put_seqs(b, g->attend_at, g->max_seqs, *nr_pages);
		g->nr_attend = from->nr_seqs;
	}
	*nr_pages += from->nr_pages;
	return put_converts(b, a);
}

static int put_all(struct kvd_batch *b, struct batch_args *a,
		   kvd_stream stream)
{
	struct fixed_step *s = &b->steps[b->step];
	uint32_t words = b->step * b->nr_words, nr = 0, nr_pages = 0;
	int r = 0;

	memcpy(b->image, &words, sizeof(words));
	for (size_t i = 0; i < a->nr_items; i++)
		if (a->items[i].nr_tokens)
			step_flag(s, nr++, a->items[i].seq->flag);
	for (; !r && a->group < space_nr_groups(b->sp); a->group++)
		r = put_group(b, a, &nr_pages);
	if (r)
		return r;
	r = b->sp->device->ops->fixed_send(
		b->sp->device, b->f,
		b->pages_at + nr_pages * sizeof(struct kv_page_ref), stream);
	return r ? fail(b->sp->k, r, "cannot send a batch to the device") : 0;
}

/* The step's K and V are as good as there: kvd_batch_set() says so. */
static void set_done(struct kvd_batch *b, const struct batch_args *a)
{
	const struct kvd_geometry *geo = &b->sp->opts.geometry;

	for (size_t i = 0; i < a->nr_items; i++) {
		struct kvd_seq *seq = a->items[i].seq;
		uint32_t end = seq->nr_tokens + a->items[i].nr_tokens;

		fixed_leave(seq);
		seq->batch = b;
		seq->batch_item = (uint32_t)i;
		b->seqs[i] = seq;
		seq->stream = b->stream;
		for (uint32_t g = 0; !b->sp->opts.read_only &&
				     g < geo->nr_groups; g++)
			seq_vouch(seq, g, end, b->groups[g].max_converts);
	}
}

/* A step of its own for the set: the oldest's place. */
static void step_begin(struct kvd_batch *b)
{
	step_close(b);
	for (uint32_t i = 0; i < b->opts.max_items; i++)
		if (b->seqs[i])
			fixed_leave(b->seqs[i]);
	b->step = (b->step + 1) % FIXED_STEPS;
	step_end(b, b->step, true);
}

int kvd_batch_set(struct kvd_batch *b, const struct kvd_item *items,
		  size_t nr_items, kvd_stream stream)
{
	struct batch_args a = { .items = items, .nr_items = nr_items };
	struct fixed_step *s;
	int r = batch_check(b->sp, &a);

	if (!r)
		r = set_check(b, &a);
	if (!r && b->sp->device->ops->capturing(b->sp->device, stream))
		r = fail(b->sp->k, -EINVAL, "a set cannot be captured: it is "
			 "made before the graph is launched");
	if (!r)
		r = set_reserve(b->sp, &a);
	if (r)
		return r;
	step_begin(b);
	s = &b->steps[b->step];
	s->serial = ++b->sp->nr_steps;
	s->open = true;
	b->stream = stream;
	r = put_all(b, &a, stream);
	if (!r)
		set_done(b, &a);
	else
		step_close(b);
	return r;
}

/* ---- calls ---- */

int fixed_refuse_capture(struct kvd_space *sp, kvd_stream stream)
{
	if (sp->device->ops->capturing(sp->device, stream))
		return fail(sp->k, -EINVAL, "the stream is being captured: "
			    "give the call a batch, not items");
	return 0;
}

int fixed_check(struct kvd_space *sp, const struct fixed_call *call)
{
	const struct kvd_batch *b = call->batch;
	const struct device *d = sp->device;

	if (b->sp != sp)
		return fail(sp->k, -EINVAL, "the batch is of another space");
	if (call->nr_items)
		return fail(sp->k, -EINVAL, "there are items and a batch: "
			    "which is meant?");
	if (!b->steps[b->step].open &&
	    !d->ops->capturing(sp->device, call->stream))
		return fail(sp->k, -EINVAL, "the batch is not set, or one of "
			    "its sequences has changed since it was");
	return 0;
}

/* Kernels' arrays are these; only the host knows how full they are. */
static const void *array(const struct kvd_batch *b, uint32_t at)
{
	return b->f->at + at;
}

static uint32_t count(const struct kvd_batch *b, uint32_t now, uint32_t max)
{
	return b->sp->device->at_once ? now : max;
}

/* The host's tables may have moved since the batch was made. */
static int tables_now(const struct fixed_call *call,
		      const struct kv_tables **ret)
{
	struct kvd_batch *b = call->batch;

	if (b->sp->device->at_once)
		return tables_get(b->sp, call->group, b->opts.max_tokens, ret);
	*ret = b->f->tables[call->group];
	return 0;
}

static int convert(const struct fixed_call *call,
		   const struct kv_append_args *append)
{
	struct kvd_batch *b = call->batch;
	const struct fixed_group *g = &b->groups[call->group];
	struct kv_convert_args a = {
		.pages = array(b, g->convert_at),
		.nr_pages = count(b, g->nr_converts, g->max_converts),
		.first_layer = append->layer,
		.nr_layers = 1,
		.tables = append->tables,
		.nonfinite = b->f->flags,
		.nr_threads = append->nr_threads,
	};

	if (!a.nr_pages)
		return 0;
	memcpy(a.layouts, append->layouts, sizeof(a.layouts));
	return b->sp->device->ops->fixed_convert(b->sp->device, b->f, &a,
						 call->stream);
}

int fixed_append(const struct fixed_call *call, struct kv_append_args *a)
{
	struct kvd_batch *b = call->batch;
	const struct fixed_group *g = &b->groups[call->group];
	int r = tables_now(call, &a->tables);

	if (r)
		return r;
	a->pages = array(b, b->pages_at);
	a->seqs = array(b, g->append_at);
	a->nr_seqs = count(b, g->nr_append, b->opts.max_items);
	a->nr_rows = count(b, b->nr_rows, b->opts.max_rows);
	a->nonfinite = b->f->flags;
	a->nonfinite_at = array(b, 0);
	if (!a->nr_rows)
		return 0;
	r = b->sp->device->ops->fixed_append(b->sp->device, b->f, a,
					     call->stream);
	if (!r)
		r = convert(call, a);
	if (b->sp->device->at_once)
		step_flags(b, b->step);
	return r ? fail(b->sp->k, r, "append failed on the device") : 0;
}

int fixed_attend(const struct fixed_call *call, struct kv_attend_args *a)
{
	struct kvd_batch *b = call->batch;
	const struct fixed_group *g = &b->groups[call->group];
	int r;

	if (a->nr_q_heads > b->opts.max_q_heads)
		return fail(b->sp->k, -EINVAL, "%u q heads, the batch takes "
			    "%u", a->nr_q_heads, b->opts.max_q_heads);
	r = tables_now(call, &a->tables);
	if (r)
		return r;
	a->pages = array(b, b->pages_at);
	a->seqs = array(b, g->attend_at);
	a->nr_seqs = count(b, g->nr_attend, g->max_seqs);
	a->nr_rows = count(b, b->nr_rows, b->opts.max_rows);
	if (!a->nr_rows)
		return 0;
	r = b->sp->device->ops->fixed_attend(b->sp->device, b->f, a,
					     call->stream);
	return r ? fail(b->sp->k, r, "attend failed on the device") : 0;
}
