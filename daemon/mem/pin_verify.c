/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pin_verify.c - the walker's part about pins: every count made again from
 * the pins there are and the pages that say they are pinned.
 */
#include <stdlib.h>
#include "daemon/mem/page.h"
#include "daemon/mem/pin.h"

/* A pin of @t that is not ending, as its list has it. */
static bool pin_is_listed(const struct tenant *t, const struct mem_pin *pin)
{
	const struct mem_space *s = pin->space;
	const uint64_t *v;

	v = map_get(&t->m->pins.all, (uint64_t)s->id << 32 | pin->block);
	return s->tenant == t && v && *v == (uint64_t)(uintptr_t)pin &&
	       !list_empty(&pin->due);
}

static const char *verify_lists(const struct mem *m)
{
	uint64_t all = 0;

	list_for_each(i, &m->tenants) {
		const struct tenant *t = list_entry(i, struct tenant, link);
		uint32_t nr = 0;

		list_for_each(j, &t->pins) {
			nr++;
			if (!pin_is_listed(t, list_entry(j, struct mem_pin,
							 link)))
				return "a pin is not found, or another's";
		}
		if (nr != t->nr_pins || nr > MEM_MAX_PINS)
			return "pins of a tenant are miscounted";
		all += nr;
	}
	return all == m->pins.all.nr ? NULL : "there are pins of nobody";
}

static const char *verify_bytes(const struct mem *m)
{
	uint64_t all = 0;

	list_for_each(pos, &m->tenants) {
		const struct tenant *t = list_entry(pos, struct tenant, link);
		uint64_t bytes = 0;

		for (uint32_t nr = 1; nr <= m->nr_touched; nr++) {
			const struct page *p = &m->pages[nr];

			if (p->state != PAGE_FREE && p->pinned &&
			    p->space->tenant == t)
				bytes += page_bytes(p);
		}
		if (bytes != t->pinned_bytes)
			return "pinned bytes of a tenant are not the sum of "
			       "its pages";
		all += bytes;
	}
	return all == m->pins.bytes ? NULL : "pinned bytes of the pool are "
					     "not the sum of its tenants'";
}

/* Of a block its count, without that of its children. */
static void count_pins(const struct list *pins, const struct mem_space *s,
		       uint32_t *counts)
{
	list_for_each(pos, pins) {
		const struct mem_pin *pin;

		pin = list_entry(pos, struct mem_pin, link);
		if (pin->space == s && pin->block)
			counts[pin->block]++;
	}
}

static const char *verify_block(const struct mem_space *s, uint32_t block,
				uint32_t count)
{
	uint32_t nr_pinned = 0;

	for (uint32_t c = 0; c < s->nr_classes; c++) {
		const struct page *p;

		p = page_get(s->m, index_page(&s->index, block, c));
		nr_pinned += p && p->pinned;
	}
	if (count != s->index.links[block].pins)
		return "a block's count of pins is not what covers it";
	if (!count != !nr_pinned)
		return "pages of a block are pinned that no pin covers, or "
		       "none though one does";
	return NULL;
}

static const char *verify_space(const struct mem_space *s)
{
	const struct index *ix = &s->index;
	const char *why = NULL;
	uint32_t *counts = calloc((size_t)ix->nr_touched + 1, sizeof(*counts));

	if (!counts)
		return "out of memory";
	count_pins(&s->tenant->pins, s, counts);
	count_pins(&s->m->pins.ending, s, counts);
	for (uint32_t nr = 1; nr <= ix->nr_touched; nr++)
		if (ix->links[nr].pins)
			counts[pin_block_up(s, nr)]++; /* [0]: of first ones */
	for (uint32_t nr = 1; nr <= ix->nr_touched && !why; nr++)
		why = verify_block(s, nr, counts[nr]);
	free(counts);
	return why;
}

const char *pins_verify(const struct mem *m)
{
	const char *why = verify_lists(m);

	if (!why)
		why = verify_bytes(m);
	for (struct mem_space *s = mem_space_next(m, NULL); s && !why;
	     s = mem_space_next(m, s))
		why = verify_space(s);
	return why;
}
