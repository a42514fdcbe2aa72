/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stores_demote.c - what a page of stores.c holds, also when it was demoted.
 */
#include "tests/mem/stores.h"

#include "daemon/mem/demote.h"
#include "daemon/mem/vacate.h"

/* ---- what a page holds ---- */

void page_ends(struct mem_space *s, place_t place, uint32_t class,
	       volatile uint64_t **first, volatile uint64_t **last)
{
	const struct dev_segment *seg;
	char *base;

	assert_int_equal(mem_segment_get(s, place_segment(place), &seg), 0);
	base = (char *)(uintptr_t)seg->base + place_offset(place);
	*first = (volatile uint64_t *)(void *)base;
	*last = (volatile uint64_t *)(void *)(base - 8 +
			mem_space_class(s, class)->page_bytes);
}

uint64_t content(uint32_t space, uint32_t seq, uint32_t depth, uint32_t class)
{
	if (space == SHRINKS)
		class = 0; /* what is demoted holds the same: see below */
	return 1 + ((uint64_t)space << 48 | (uint64_t)seq << 32 | depth << 8 |
		    class);
}

/* ---- a device that keeps both ends of what it converts ---- */

const struct dev_ops *__real_dev_ops(const struct dev *d);
const struct dev_ops *__wrap_dev_ops(const struct dev *d);

static char *end_of(const struct dev_segment *s, uint64_t at, uint64_t bytes)
{
	return (char *)(uintptr_t)s->base + at + bytes - 8;
}

static int convert_ends(struct dev *d, const struct dev_convert *c)
{
	for (uint32_t i = 0; i < c->nr; i++) {
		struct dev_convert_page *p = &c->pages[i];

		memcpy(end_of(p->to, p->to_at, 8),
		       end_of(p->from, p->from_at, 8), 8);
		memcpy(end_of(p->to, p->to_at, c->to->page_bytes),
		       end_of(p->from, p->from_at, c->from->page_bytes), 8);
		p->bad = 0;
	}
	return 0;
}

const struct dev_ops *__wrap_dev_ops(const struct dev *d)
{
	static struct dev_ops ops;

	ops = *__real_dev_ops(d);
	ops.convert = convert_ends;
	return &ops;
}

/* ---- the script ---- */

static uint32_t nr_demoted(void)
{
	return (uint32_t)fx_pages(&primary, PAGE_DEMOTED);
}

/* Blocks of SHRINKS, and then in fewer bits. */
static void demote_all(uint32_t from, uint32_t to)
{
	struct mem_space *s = spaces[0][SHRINKS];

	for (uint32_t i = from; i < to; i++) {
		publish(0, SHRINKS, i / DEPTHS, i % DEPTHS, 1);
		let_go(0, SHRINKS, i / DEPTHS, i % DEPTHS);
	}
	kept_to = to;
	facts_loosen();
	assert_true(demote_begin(s->sizes[0], to - from));
	dev_drain(primary.dev);
	facts_settle();
	assert_int_equal(nr_demoted(), to);
}

/*
 * Nothing is lost where there is room. Nine demoted pages fill a slab, the
 * tenth is in another one, which is emptied when the first has room again.
 */
void do_demote(void)
{
	struct mem_space *s = spaces[0][SHRINKS];
	struct mem_given given;
	struct mem_cursor at = { 0 };
	handle_t h[16]; /* all that there is room for */

	facts_loosen();
	assert_int_equal(fx_alloc(&primary, clients[0], s, 0, 16, h), 0);
	facts_settle();
	for (uint32_t i = 0; i < 16; i++)
		fx_release(clients[0], h[i]);
	demote_all(0, 5);
	demote_all(5, 10);
	facts_loosen();
	kept_from = 1; /* the coldest goes, for one that moves */
	assert_true(vacate_begin(s->sizes[0]));
	dev_drain(primary.dev);
	facts_settle();
	assert_int_equal(nr_demoted(), 9);
	facts_loosen();
	kept_from = kept_to = 0;
	do {
		assert_int_equal(mem_drop(s, &at, &given), 0);
	} while (at.block);
	facts_settle();
}
