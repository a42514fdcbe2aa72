/* SPDX-License-Identifier: Apache-2.0 */
/*
 * share.c - see share.h. Any thread.
 *
 * A group is a sequence and all later ones that have its first run; it shares
 * as much as all of them do. Batches are small against what they attend over:
 * each pair is compared, by its first page where nothing is shared.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include "kernels/host/share.h"

static bool same_page(const struct kv_attend_args *a, const struct kv_seq *x,
		      const struct kv_seq *y, uint32_t n)
{
	const struct kv_page_ref *p = &a->pages[kv_seq_page(x, n)];
	const struct kv_page_ref *q = &a->pages[kv_seq_page(y, n)];

	return p->segment == q->segment && p->offset == q->offset &&
	       p->layout == q->layout && p->segment != KV_NO_SEGMENT;
}

/* Leading runs that are the same in both, @max at most. */
static uint32_t same_runs(const struct kv_attend_args *a,
			  const struct kv_seq *x, const struct kv_seq *y,
			  uint32_t run_pages, uint32_t max)
{
	uint32_t n;

	for (n = 0; n < max * run_pages; n++)
		if (!same_page(a, x, y, n))
			break;
	return n / run_pages;
}

/* Whole runs before the first query of a sequence, its own run not counted. */
static uint32_t whole_runs(const struct kv_seq *s, uint32_t run_tokens,
			   uint32_t max_rows)
{
	return s->nr_rows && s->nr_rows <= max_rows ? s->pos / run_tokens : 0;
}

static void tokens_add(struct share *s, struct share_group *g,
		       const struct kv_seq *seq)
{
	uint32_t i;

	for (i = 0; i < seq->nr_rows; i++, g->nr_tokens++)
		s->tokens[s->nr_tokens++] = (struct share_token){
			seq->first_row + i, seq->pos + i
		};
}

/* Joins to sequence @first those that follow and share a run with it. */
static void group_make(struct share *s, const struct kv_attend_args *a,
		       uint32_t first, uint32_t run_tokens, uint32_t max_rows)
{
	uint32_t pages = run_tokens / a->layouts[0].page_tokens, i, n;
	uint32_t runs = whole_runs(&a->seqs[first], run_tokens, max_rows);
	struct share_group *g = &s->groups[s->nr_groups];
	uint32_t joined = 0;

	for (i = first + 1; i < a->nr_seqs && runs; i++) {
		if (s->runs[i])
			continue;
		n = whole_runs(&a->seqs[i], run_tokens, max_rows);
		n = same_runs(a, &a->seqs[first], &a->seqs[i], pages,
			      n < runs ? n : runs);
		if (!n)
			continue;
		runs = n;
		s->runs[i] = UINT32_MAX; /* of this group */
		joined++;
	}
	if (!joined)
		return;
	s->runs[first] = UINT32_MAX;
	g->seq = first;
	g->nr_runs = runs;
	g->first_token = s->nr_tokens;
	for (i = first; i < a->nr_seqs; i++)
		if (s->runs[i] == UINT32_MAX) {
			s->runs[i] = runs;
			s->first[i] = s->nr_tokens;
			tokens_add(s, g, &a->seqs[i]);
		}
	s->nr_groups++;
}

int share_init(struct share *s, const struct kv_attend_args *a,
	       uint32_t run_tokens, uint32_t max_rows)
{
	uint64_t tokens = 1;
	uint32_t i;

	*s = (struct share)SHARE_NULL;
	for (i = 0; i < a->nr_seqs; i++)
		tokens += a->seqs[i].nr_rows;
	s->runs = calloc(a->nr_seqs + 1ull, sizeof(*s->runs));
	s->first = calloc(a->nr_seqs + 1ull, sizeof(*s->first));
	s->groups = calloc(a->nr_seqs / 2 + 1ull, sizeof(*s->groups));
	s->tokens = calloc(tokens, sizeof(*s->tokens));
	if (!s->runs || !s->first || !s->groups || !s->tokens)
		return -ENOMEM;
	for (i = 0; i + 1 < a->nr_seqs; i++)
		if (!s->runs[i])
			group_make(s, a, i, run_tokens, max_rows);
	return 0;
}

void share_fini(struct share *s)
{
	free(s->runs);
	free(s->first);
	free(s->groups);
	free(s->tokens);
}
