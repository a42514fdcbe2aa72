// SPDX-License-Identifier: Apache-2.0
/*
 * pin.c - sequences that stay when they are let go of, for a time.
 *
 * The daemon is told the name of the last block that the index has: the prefix
 * up to it is what a later match can find.
 */
#include <errno.h>
#include "client-lib/conn.h"
#include "client-lib/error.h"
#include "client-lib/request.h"
#include "client-lib/seq.h"

static const struct name root; /* parent of every first block */

/* Is block @i of the sequence in the index, with its prefix? */
static bool block_is_found(const struct kvd_seq *seq, uint32_t i)
{
	const struct kvd_space *sp = seq->sp;
	handle_t pages[PAGE_MAX_CLASSES];
	struct index_key key = {
		.name = &seq->names[i],
		.parent = i ? &seq->names[i - 1] : &root,
		.extra = &seq->extra,
		.tokens = seq->tokens + (size_t)i * space_page_tokens(sp),
	};

	return index_find(&sp->index, &key, pages);
}

/* The last block that can be found; NULL: there is none. */
static const struct name *pin_end(const struct kvd_seq *seq)
{
	uint32_t nr = seq->nr_tokens / space_page_tokens(seq->sp);

	if (nr > seq->nr_settled)
		nr = seq->nr_settled;
	while (nr && !block_is_found(seq, nr - 1))
		nr--;
	return nr ? &seq->names[nr - 1] : NULL;
}

static int nothing(const struct kvd_seq *seq)
{
	return fail(seq->sp->k, -ENOENT, "nothing of the sequence is "
		    "published: a page has to be full for that, its tokens "
		    "committed");
}

/* The pin that was made before, of less or more, is not wanted any more. */
static int pin_replace(struct kvd_seq *seq, const struct name *end)
{
	int r = 0;

	if (seq->pinned && !name_equal(&seq->pin, end))
		r = request_unpin(seq->sp, &seq->pin);
	seq->pin = *end;
	seq->pinned = true;
	return r == -ENOTCONN ? r : 0;
}

static int pin_try(struct kvd_seq *seq, uint64_t ttl_ms, uint64_t *ret_tokens)
{
	const struct name *end;
	int r = seq_usable(seq);

	if (r)
		return r;
	r = seq_settle(seq);
	if (r)
		return r;
	end = pin_end(seq);
	if (!end)
		return nothing(seq);
	r = request_pin(seq->sp, end, ttl_ms, ret_tokens);
	return r ? r : pin_replace(seq, end);
}

int kvd_seq_pin(struct kvd_seq *seq, uint64_t ttl_ms, size_t *ret_tokens)
{
	struct kvd *k = seq->sp->k;
	uint64_t end_ns = conn_deadline_ns(k), tokens = 0;
	int r;

	do {
		r = k->fd < 0 ? conn_ready(k, k->timeout_ms) : 0;
		if (!r)
			r = pin_try(seq, ttl_ms, &tokens);
	} while (conn_retry(k, r, end_ns));
	if (!r && ret_tokens)
		*ret_tokens = tokens;
	return r;
}

static int unpin_try(struct kvd_seq *seq)
{
	const struct name *end = seq->pinned ? &seq->pin : pin_end(seq);
	int r;

	if (!end)
		return nothing(seq);
	r = request_unpin(seq->sp, end);
	if (r != -ENOTCONN)
		seq->pinned = false;
	return r;
}

int kvd_seq_unpin(struct kvd_seq *seq)
{
	struct kvd *k = seq->sp->k;
	uint64_t end_ns = conn_deadline_ns(k);
	int r;

	do {
		r = k->fd < 0 ? conn_ready(k, k->timeout_ms) : 0;
		if (!r)
			r = unpin_try(seq);
	} while (conn_retry(k, r, end_ns));
	return r;
}
