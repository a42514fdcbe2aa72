/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pin.c - prefixes that stay though nobody holds them, for a time.
 */
#include "daemon/mem/pin.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "daemon/mem/hold.h"

#define SLOT_MS 1000u
#define MAX_TTL_MS (1ULL << 46)
#define PERCENT 25u	  /* of a tenant's max, unless said */
#define POOL_PERCENT 50u /* of the pool, for all; or what a tenant may have */

void pins_init(struct pins *pins)
{
	pins->percent = PERCENT;
	list_init(&pins->ending);
	for (uint32_t i = 0; i < PIN_SLOTS; i++)
		list_init(&pins->wheel[i]);
}

void mem_pin_percent(struct mem *m, uint32_t percent)
{
	m->pins.percent = percent < 100 ? percent : 100;
}

/* ---- blocks ---- */

static uint64_t pin_key(const struct mem_space *s, uint32_t block)
{
	return (uint64_t)s->id << 32 | block;
}

static struct mem_pin *pin_find(const struct mem_space *s, uint32_t block)
{
	const uint64_t *v = map_get(&s->m->pins.all, pin_key(s, block));

	return v ? (struct mem_pin *)(uintptr_t)*v : NULL;
}

static void page_pin(struct page *p)
{
	struct mem_space *s = p->space;

	if (p->state == PAGE_CACHED)
		page_wake(p);
	assert(p->state == PAGE_SEALED);
	p->pinned = true;
	p->holds++;
	s->tenant->pinned_bytes += page_bytes(p);
	s->m->pins.bytes += page_bytes(p);
}

static void page_unpin(struct page *p, struct list *cold)
{
	struct mem_space *s = p->space;

	assert(p->pinned && p->holds > 0);
	p->pinned = false;
	p->holds--;
	s->tenant->pinned_bytes -= page_bytes(p);
	s->m->pins.bytes -= page_bytes(p);
	page_unheld(p, cold);
}

/* Pins or lets go of the pages of @block, as what covers it has it. */
static void block_settle(struct mem_space *s, uint32_t block,
			 struct list *cold)
{
	bool covered = s->index.links[block].pins;
	bool end = pin_find(s, block);

	for (uint32_t i = 0; i < s->nr_classes; i++) {
		struct page *p = page_get(s->m, index_page(&s->index, block,
							   i));

		if (!p || p->pinned == pin_wants(p, covered, end))
			continue;
		if (p->pinned)
			page_unpin(p, cold);
		else
			page_pin(p);
	}
}

/* ---- its life ---- */

static struct list *pin_slot(struct mem *m, uint64_t ms)
{
	return &m->pins.wheel[ms / SLOT_MS % PIN_SLOTS];
}

uint64_t pins_max(const struct tenant *t)
{
	const struct mem *m = t->m;
	uint64_t of = m->pool_bytes;

	if (t->max_bytes && t->max_bytes < of)
		of = t->max_bytes;
	return of * m->pins.percent / 100;
}

static uint64_t pins_pool_max(const struct mem *m)
{
	uint32_t percent = m->pins.percent;

	return m->pool_bytes *
	       (percent > POOL_PERCENT ? percent : POOL_PERCENT) / 100;
}

static bool pin_fits(const struct tenant *t, uint64_t bytes)
{
	return t->pinned_bytes + bytes <= pins_max(t) &&
	       t->m->pins.bytes + bytes <= pins_pool_max(t->m);
}

/* Found or made; it covers nothing yet then. */
static int pin_get(struct mem_space *s, uint32_t block, struct mem_pin **ret)
{
	struct mem *m = s->m;
	struct mem_pin *pin = pin_find(s, block);

	*ret = pin;
	if (pin)
		return 0;
	if (s->tenant->nr_pins == MEM_MAX_PINS)
		return -EDQUOT;
	pin = calloc(1, sizeof(*pin));
	if (!pin || map_put(&m->pins.all, pin_key(s, block),
			    (uint64_t)(uintptr_t)pin) < 0) {
		free(pin);
		return -ENOMEM;
	}
	pin->space = s;
	pin->block = block;
	list_init(&pin->link);
	list_init(&pin->due);
	s->tenant->nr_pins++;
	s->index.links[block].pins++;
	*ret = pin;
	return 0;
}

/* Counts and pages of its whole prefix; @fresh: its own one is new. */
static void pin_cover(struct mem_pin *pin, bool fresh)
{
	struct mem_space *s = pin->space;
	uint32_t at = pin->block;
	struct list cold;

	list_init(&cold);
	fresh = fresh && s->index.links[at].pins == 1;
	while (at) {
		uint32_t up = pin_block_up(s, at);

		block_settle(s, at, &cold);
		if (up && fresh)
			fresh = s->index.links[up].pins++ == 0;
		at = up;
	}
	page_settle(s->m, &cold); /* what has become an exact copy since */
}

int mem_pin(struct mem_space *s, uint32_t block, uint64_t now_ms,
	    uint64_t ttl_ms, struct mem_pin_stat *ret)
{
	struct mem_pin_stat st;
	struct mem_pin *pin;
	bool fresh;
	int r;

	if (ttl_ms == 0 || ttl_ms > MAX_TTL_MS)
		return -EINVAL;
	r = mem_pin_look(s, block, &st);
	if (r < 0)
		return r;
	*ret = st;
	if (st.new_bytes && !pin_fits(s->tenant, st.new_bytes))
		return -EDQUOT;
	fresh = !pin_find(s, block);
	r = pin_get(s, block, &pin);
	if (r < 0)
		return r;
	pin->root = st.root;
	pin->blocks = st.blocks;
	pin->pages = st.pages;
	pin->bytes = st.bytes;
	if (pin->until_ms < now_ms + ttl_ms)
		pin->until_ms = now_ms + ttl_ms;
	ret->left_ms = pin->until_ms - now_ms;
	list_move_tail(&s->tenant->pins, &pin->link);
	list_move_tail(pin_slot(s->m, pin->until_ms), &pin->due);
	pin_cover(pin, fresh);
	return 0;
}

/* It is no pin from here on; pins_undo() does the rest. */
static void pin_end(struct mem_pin *pin)
{
	struct mem_space *s = pin->space;

	map_del(&s->m->pins.all, pin_key(s, pin->block));
	s->tenant->nr_pins--;
	list_del(&pin->due);
	list_move_tail(&s->m->pins.ending, &pin->link);
}

/* Return: it is done with. */
static bool pin_undo(struct mem_pin *pin, uint32_t *budget, struct list *cold)
{
	struct mem_space *s = pin->space;

	while (pin->block) {
		uint32_t at = pin->block, up = pin_block_up(s, at);
		struct index_link *link = &s->index.links[at];

		if (*budget == 0)
			return false;
		(*budget)--;
		assert(link->pins > 0);
		link->pins--;
		block_settle(s, at, cold);
		pin->block = link->pins ? 0 : up;
	}
	return true;
}

bool pins_undo(struct mem *m, uint32_t *budget)
{
	struct list cold;

	list_init(&cold);
	list_for_each_safe(pos, &m->pins.ending) {
		struct mem_pin *pin = list_entry(pos, struct mem_pin, link);

		if (!pin_undo(pin, budget, &cold))
			break;
		list_del(&pin->link);
		free(pin);
	}
	page_settle(m, &cold);
	return !list_empty(&m->pins.ending);
}

/* In mem_trim(), which limits_step() is a part of. */
static void pins_go_on(struct mem *m)
{
	m->trimming = true;
	mem_has_work(m);
}

int mem_unpin(struct mem_space *s, uint32_t block)
{
	uint32_t budget = PIN_STEP_BLOCKS;
	struct mem_pin *pin = pin_find(s, block);

	if (!pin)
		return -ENOENT;
	pin_end(pin);
	if (pins_undo(s->m, &budget))
		pins_go_on(s->m);
	mem_tell_room(s->m);
	return 0;
}

/* ---- those that have to go ---- */

/* Ends those of one slot whose time is over. */
static void pins_expire(struct list *slot, uint64_t now_ms)
{
	list_for_each_safe(pos, slot) {
		struct mem_pin *pin = list_entry(pos, struct mem_pin, due);

		if (pin->until_ms <= now_ms)
			pin_end(pin);
	}
}

bool mem_pin_tick(struct mem *m, uint64_t now_ms)
{
	uint32_t budget = PIN_STEP_BLOCKS;
	uint64_t last = now_ms / SLOT_MS, at = m->pins.at;
	bool more;

	if (last >= PIN_SLOTS && at < last - PIN_SLOTS + 1)
		at = last - PIN_SLOTS + 1; /* each slot once */
	for (; at <= last; at++)
		pins_expire(&m->pins.wheel[at % PIN_SLOTS], now_ms);
	m->pins.at = last; /* of which some may not be over yet */
	more = pins_undo(m, &budget);
	if (more)
		pins_go_on(m);
	mem_tell_room(m);
	return more;
}

static bool pins_exceed(const struct tenant *t)
{
	return t->nr_pins && t->pinned_bytes > pins_max(t);
}

bool pins_trim(struct mem *m)
{
	uint32_t budget = PIN_STEP_BLOCKS;
	bool more = pins_undo(m, &budget);

	list_for_each(pos, &m->tenants) {
		struct tenant *t = list_entry(pos, struct tenant, link);

		while (!more && pins_exceed(t)) {
			pin_end(list_first(&t->pins, struct mem_pin, link));
			more = pins_undo(m, &budget);
		}
	}
	return more;
}

uint32_t pins_end_space(struct mem_space *s)
{
	uint32_t nr = 0;

	list_for_each_safe(pos, &s->tenant->pins) {
		struct mem_pin *pin = list_entry(pos, struct mem_pin, link);

		if (pin->space != s)
			continue;
		pin_end(pin);
		nr++;
	}
	return nr;
}

bool pins_are_ending(const struct mem_space *s)
{
	list_for_each(pos, &s->m->pins.ending)
		if (list_entry(pos, struct mem_pin, link)->space == s)
			return true;
	return false;
}

static void pins_free(struct list *pins)
{
	list_for_each_safe(pos, pins) {
		struct mem_pin *pin = list_entry(pos, struct mem_pin, link);

		list_del(&pin->due);
		list_del(&pin->link);
		free(pin);
	}
}

/* The pages' holds are forgotten by page_forget(). */
void pins_fini(struct mem *m)
{
	list_for_each(pos, &m->tenants) {
		struct tenant *t = list_entry(pos, struct tenant, link);

		pins_free(&t->pins);
		t->nr_pins = 0;
	}
	pins_free(&m->pins.ending);
	map_fini(&m->pins.all);
}

/* ---- figures ---- */

void mem_pin_room(const struct mem *m, const char *tenant,
		  struct mem_pin_room *ret)
{
	const struct tenant *t = tenant_find(m, tenant);

	*ret = (struct mem_pin_room){ .all_bytes = m->pins.bytes,
				      .all_max = pins_pool_max(m) };
	if (!t)
		return;
	ret->bytes = t->pinned_bytes;
	ret->max = pins_max(t);
	ret->nr_pins = t->nr_pins;
}

const struct mem_pin *mem_pin_next(const struct mem *m, const char *tenant,
				   const struct mem_pin *prev)
{
	const struct tenant *t = tenant_find(m, tenant);
	const struct list *next;

	if (!t)
		return NULL;
	next = prev ? prev->link.next : t->pins.next;
	return next == &t->pins ? NULL :
				  list_entry(next, struct mem_pin, link);
}

void mem_pin_stat(const struct mem_pin *pin, uint64_t now_ms,
		  struct mem_pin_stat *ret)
{
	const struct mem_space *s = pin->space;

	*ret = (struct mem_pin_stat){
		.space = s->id,
		.block = pin->block,
		.root = pin->root,
		.tenant = s->tenant->name,
		.blocks = pin->blocks,
		.tokens = (uint64_t)pin->blocks * s->key.geometry.page_tokens,
		.pages = pin->pages,
		.bytes = pin->bytes,
		.left_ms = pin->until_ms > now_ms ? pin->until_ms - now_ms : 0,
	};
}
