// SPDX-License-Identifier: Apache-2.0
/* stock.c - free pages kept at hand. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "client-lib/clock.h"
#include "client-lib/conn.h"
#include "client-lib/error.h"
#include "client-lib/hold.h"
#include "client-lib/request.h"
#include "client-lib/space.h"
#include "client-lib/stock.h"

static int stock_grow(struct stock *s, uint32_t nr)
{
	struct hold **p;

	if (nr <= s->room)
		return 0;
	p = realloc(s->holds, nr * sizeof(struct hold *));
	if (!p)
		return -ENOMEM;
	s->holds = p;
	s->room = nr;
	return 0;
}

int stock_init(struct kvd_space *sp)
{
	uint32_t nr = 0;

	for (uint32_t c = 0; c < sp->nr_classes; c++)
		nr += !space_class_demoted(sp, c);
	for (uint32_t c = 0; c < sp->nr_classes; c++) {
		uint64_t pages = sp->stock_bytes / nr /
				 sp->layouts[c].page_bytes;
		struct stock *s = &sp->stocks[c];

		if (space_class_demoted(sp, c))
			continue;
		s->limit = pages < STOCK_MAX_PAGES ? (uint32_t)pages :
						     STOCK_MAX_PAGES;
		if (stock_grow(s, s->limit + 1))
			return -ENOMEM;
	}
	return 0;
}

void stock_fini(struct kvd_space *sp)
{
	stock_trim(sp, 0);
	for (uint32_t c = 0; c < sp->nr_classes; c++)
		free(sp->stocks[c].holds);
}

/* No stock for a while: the daemon has asked for it back. */
static bool stock_lean(struct kvd *k)
{
	if (!k->lean_until_ns)
		return false;
	if (clock_ns() < k->lean_until_ns)
		return true;
	k->lean_until_ns = 0;
	return false;
}

bool stock_put(struct hold *h)
{
	struct stock *s = &h->space->stocks[h->page_class];

	if (s->nr >= s->limit || stock_lean(h->space->k))
		return false;
	h->loose = false;
	s->holds[s->nr++] = h;
	return true;
}

static void trim(struct stock *s, uint32_t limit)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < s->nr; i++) {
		struct hold *h = s->holds[i];

		if (h->stale || kept >= limit)
			hold_release(h);
		else
			s->holds[kept++] = h;
	}
	s->nr = kept;
}

void stock_trim(struct kvd_space *sp, uint32_t limit)
{
	for (uint32_t c = 0; c < sp->nr_classes; c++)
		trim(&sp->stocks[c], limit);
}

void stock_settle(struct kvd_space *sp)
{
	for (uint32_t c = 0; c < sp->nr_classes; c++)
		trim(&sp->stocks[c], sp->stocks[c].limit);
	hold_flush(sp->k); /* others may want them */
}

/* Puts @nr granted pages into the stock, which has room for them. */
static int stock_accept(struct kvd_space *sp, uint32_t page_class,
			const handle_t *handles, const place_t *places,
			uint32_t nr)
{
	struct stock *s = &sp->stocks[page_class];
	int r = 0;

	for (uint32_t i = 0; i < nr; i++) {
		if (!r)
			r = hold_new(sp, handles[i], places[i], page_class,
				     &s->holds[s->nr]);
		if (!r)
			s->nr++;
		else
			hold_drop(sp->k, handles[i]);
	}
	return r;
}

static bool is_full(int r)
{
	return r == -ENOSPC || r == -EDQUOT || r == -EAGAIN;
}

/* How long the daemon may look for pages we cannot do without. */
static uint32_t stock_wait_ms(const struct kvd_space *sp)
{
	return sp->opts.wait_ms ? sp->opts.wait_ms : STOCK_WAIT_MS;
}

/* One request: @need pages, and @extra when they can be had at once. */
static int stock_ask(struct kvd_space *sp, uint32_t page_class, uint32_t need,
		     uint32_t extra)
{
	handle_t handles[WIRE_MAX_PAGES];
	place_t places[WIRE_MAX_PAGES];
	struct stock *s = &sp->stocks[page_class];
	uint32_t nr;
	int r;

	if (need > WIRE_MAX_PAGES)
		need = WIRE_MAX_PAGES;
	nr = need + extra;
	if (nr > WIRE_MAX_PAGES)
		nr = WIRE_MAX_PAGES;
	r = hold_flush(sp->k);
	if (r)
		return r;
	if (stock_grow(s, s->nr + nr))
		return fail(sp->k, -ENOMEM, "out of memory");
	r = request_alloc(sp, page_class, nr, nr > need ? 0 : stock_wait_ms(sp),
			  handles, places);
	if ((is_full(r) || r == -EINVAL) && nr > need) { /* need may fit */
		nr = need;
		r = request_alloc(sp, page_class, nr, stock_wait_ms(sp),
				  handles, places);
	}
	if (r)
		return r;
	return stock_accept(sp, page_class, handles, places, nr);
}

/* Until the stock has @nr pages, or the daemon has no more. */
static int stock_fill(struct kvd_space *sp, uint32_t page_class, uint32_t nr)
{
	struct kvd *k = sp->k;
	struct stock *s = &sp->stocks[page_class];
	uint64_t end_ns = conn_deadline_ns(k);
	uint32_t extra;
	int r = 0;

	extra = stock_lean(k) ? 0 : s->limit / 2;
	while (!r && s->nr < nr) {
		do {
			r = conn_ready(k, k->timeout_ms);
			if (!r && s->nr < nr)
				r = stock_ask(sp, page_class, nr - s->nr,
					      extra);
		} while (conn_retry(k, r, end_ns));
	}
	return r;
}

int stock_want(struct kvd_space *sp, uint32_t page_class, uint32_t nr)
{
	int r;

	if (sp->stocks[page_class].nr >= nr)
		return 0;
	r = stock_fill(sp, page_class, nr);
	if (!r)
		return 0;
	stock_settle(sp);
	return r == -EAGAIN ? -ENOSPC : r;
}

int stock_take(struct kvd_space *sp, uint32_t page_class, uint32_t nr,
	       struct hold **holds)
{
	struct stock *s = &sp->stocks[page_class];
	int r;

	if (s->nr < nr)
		conn_serve(sp->k);
	r = stock_want(sp, page_class, nr);
	if (r)
		return r;
	s->nr -= nr;
	memcpy(holds, s->holds + s->nr, nr * sizeof(struct hold *));
	return 0;
}
