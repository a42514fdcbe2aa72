// SPDX-License-Identifier: Apache-2.0
/* view.c - the low view: bases, records, block tables, loose pages. */
#include <errno.h>
#include "client-lib/conn.h"
#include "client-lib/error.h"
#include "client-lib/hold.h"
#include "client-lib/seq.h"
#include "client-lib/stock.h"

int kvd_space_bases(struct kvd_space *sp, struct kvd_bases *bases)
{
	const struct device *d = sp->device;
	int r = fail_size(sp->k, bases, sizeof(*bases));

	if (r)
		return r;
	bases->nr = d->nr_segments;
	bases->read_only = d->read_only;
	bases->writable = d->writable_at;
	bases->device_read_only = d->device_read_only;
	return 0;
}

int kvd_space_record(struct kvd_space *sp, uint32_t page_class,
		     struct kvd_record *record)
{
	const struct page_layout *l;
	int r = fail_size(sp->k, record, sizeof(*record));

	if (r)
		return r;
	if (page_class >= sp->nr_classes)
		return fail(sp->k, -EINVAL, "there are %u page classes",
			    sp->nr_classes);
	l = &sp->layouts[page_class];
	record->k_format = l->k_format;
	record->v_format = l->v_format;
	record->k_meta = l->k_meta;
	record->v_codes = l->v_codes;
	record->v_meta = l->v_meta;
	record->record_bytes = l->record_bytes;
	record->page_bytes = l->page_bytes;
	return 0;
}

static struct kvd_page page_of(const struct hold *h, uint32_t page_class)
{
	if (!h)
		return (struct kvd_page){ .segment = KV_NO_SEGMENT,
					  .page_class = page_class };
	page_class = h->page_class;
	return (struct kvd_page){
		.handle = h->handle,
		.offset = h->offset,
		.segment = h->segment,
		.page_class = page_class,
	};
}

int kvd_seq_pages(struct kvd_seq *seq, uint32_t group, struct kvd_page *pages,
		  size_t max, size_t *ret_nr)
{
	uint32_t full = seq->nr_tokens / space_page_tokens(seq->sp);
	const struct table *t;

	if (group >= space_nr_groups(seq->sp))
		return fail(seq->sp->k, -EINVAL, "there are %u groups",
			    space_nr_groups(seq->sp));
	t = &seq->tables[group];
	for (uint32_t i = 0; i < t->nr && i < max; i++)
		pages[i] = page_of(t->opens[i] && i >= full ? t->opens[i] :
							       t->holds[i],
				   group);
	*ret_nr = t->nr;
	return 0;
}

#define LOOSE_BATCH 256u

int kvd_page_alloc(struct kvd_space *sp, uint32_t page_class, size_t nr,
		   struct kvd_page *pages)
{
	struct hold *holds[LOOSE_BATCH];
	size_t done = 0;
	int r;

	if (page_class >= sp->nr_classes)
		return fail(sp->k, -EINVAL, "there are %u page classes",
			    sp->nr_classes);
	if (space_class_demoted(sp, page_class))
		return fail(sp->k, -EINVAL, "pages of class %u are made by "
			    "the daemon alone", page_class);
	if (sp->opts.read_only)
		return fail(sp->k, -EACCES, "the space is read-only");
	while (done < nr) {
		uint32_t n = nr - done < LOOSE_BATCH ? (uint32_t)(nr - done) :
						       LOOSE_BATCH;

		r = stock_take(sp, page_class, n, holds);
		if (r) {
			kvd_page_free(sp, pages, done);
			return r;
		}
		for (uint32_t i = 0; i < n; i++) {
			holds[i]->loose = true;
			pages[done++] = page_of(holds[i], page_class);
		}
	}
	return 0;
}

int kvd_page_free(struct kvd_space *sp, const struct kvd_page *pages,
		  size_t nr)
{
	for (size_t i = 0; i < nr; i++) {
		struct hold *h = hold_find(sp->k, pages[i].handle);

		if (!h || !h->loose || h->space != sp)
			return fail(sp->k, -ESTALE, "page %zu is not a loose "
				    "page of this space", i);
	}
	for (size_t i = 0; i < nr; i++) {
		struct hold *h = hold_find(sp->k, pages[i].handle);

		/* The same page twice in the array is given back by now. */
		if (!h || !h->loose)
			continue;
		h->loose = false;
		hold_put(h);
	}
	hold_flush_many(sp->k);
	return 0;
}
