// SPDX-License-Identifier: Apache-2.0
/* commit.c - tokens become final; reserve vouches for their K and V. */
#include <errno.h>
#include <string.h>
#include "client-lib/call.h"
#include "client-lib/conn.h"
#include "client-lib/error.h"
#include "client-lib/fixed.h"
#include "client-lib/hold.h"
#include "client-lib/seq.h"

static int stored_check(struct kvd_seq *seq, uint32_t end)
{
	const struct kvd_geometry *geo = &seq->sp->opts.geometry;

	for (uint32_t g = 0; g < geo->nr_groups; g++)
		for (uint32_t l = 0; l < geo->groups[g].nr_layers; l++)
			if (seq->tables[g].stored[l] < end)
				return fail(seq->sp->k, -EINVAL, "group %u "
					    "layer %u has K and V below "
					    "position %u, the commit ends at "
					    "%u", g, l,
					    seq->tables[g].stored[l], end);
	return 0;
}

int kvd_commit(struct kvd_seq *seq, const uint32_t *tokens, size_t n,
	       kvd_stream stream)
{
	struct kvd *k = seq->sp->k;
	int r;

	r = seq_usable(seq);
	if (r)
		return r;
	if (seq->sp->opts.read_only)
		return fail(k, -EACCES, "the space is read-only");
	if (n > SEQ_MAX_TOKENS - seq->nr_tokens || (n && !tokens))
		return fail(k, -EINVAL, "%zu tokens cannot be committed", n);
	r = stored_check(seq, seq->nr_tokens + (uint32_t)n);
	if (r)
		return r;
	if (seq_room(seq, seq->nr_tokens + (uint32_t)n))
		return fail(k, -ENOMEM, "out of memory");
	fixed_leave(seq);
	r = seal_upto(seq, seq->nr_tokens + (uint32_t)n, stream);
	if (r)
		return r;
	if (n)
		memcpy(seq->tokens + seq->nr_tokens, tokens,
		       n * sizeof(*tokens));
	seq->nr_tokens += (uint32_t)n;
	seq->stream = stream;
	if (k->fd >= 0)
		call_events(k);
	conn_serve(k);
	seqs_close(seq->sp, false);
	retire_poll(seq->sp, false);
	seal_trim(seq);
	r = seq_settle(seq);
	hold_flush_many(k);
	/* The tokens are committed: what else is wrong, the next call says. */
	return r == -ENOTCONN ? r : 0;
}

int kvd_seq_reserve(struct kvd_seq *seq, size_t n)
{
	struct kvd_space *sp = seq->sp;
	uint32_t end;
	int r;

	r = seq_usable(seq);
	if (r)
		return r;
	if (sp->opts.read_only)
		return fail(sp->k, -EACCES, "the space is read-only");
	if (n > SEQ_MAX_TOKENS - seq->nr_tokens)
		return fail(sp->k, -EINVAL, "%zu tokens are too many", n);
	end = seq->nr_tokens + (uint32_t)n;
	for (uint32_t g = 0; g < space_nr_groups(sp); g++) {
		r = seq_reserve(seq, g, end);
		if (r)
			return r;
	}
	for (uint32_t g = 0; g < space_nr_groups(sp); g++)
		seq_vouch(seq, g, end, false);
	return 0;
}
