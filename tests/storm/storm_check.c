// SPDX-License-Identifier: Apache-2.0
/*
 * storm_check.c - what has to add up while all clients stand still.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "tests/storm/storm.h"
#include "tests/support/check.h"
#include "tests/support/daemon.h"
#include "tests/support/raw.h"

#define SETTLE_MS     20000
#define QUARANTINE_MS 500	/* where some may stay */

static uint64_t grants;		/* pages of those lost on their way */

static int64_t now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

/* ---- what has to add up ---- */

static uint64_t sum_of(const Kvd__Counts *n)
{
	return n->free + n->open + n->sealed + n->cached + n->demoted +
	       n->quarantined + n->revoked;
}

/* Return: they are all of the pool. */
static bool tenants_are_all(const struct storm_world *w,
			    const Kvd__Counts *pool)
{
	Kvd__TenantsRequest req = KVD__TENANTS_REQUEST__INIT;
	Kvd__TenantsReply *reply;
	Kvd__Counts all = KVD__COUNTS__INIT;
	bool same;
	int r;

	r = raw_call(w->admin, WIRE_TENANTS, &req.base,
		     &kvd__tenants_reply__descriptor, &reply, NULL);
	CHECK(!r && !reply->more, "tenants: %s", strerror(-r));
	for (size_t i = 0; i < reply->n_tenants; i++) {
		const Kvd__TenantStat *t = reply->tenants[i];
		const Kvd__Counts *n = t->bytes;

		CHECK(sum_of(n) == n->total &&
		      t->charged == n->total - n->free,
		      "tenant %s: %llu bytes charged of %llu, states are %llu",
		      t->name, (unsigned long long)t->charged,
		      (unsigned long long)n->total,
		      (unsigned long long)sum_of(n));
		CHECK(t->waiting == 0, "%u wait", t->waiting);
		all.open += n->open;
		all.sealed += n->sealed;
		all.cached += n->cached;
		all.demoted += n->demoted;
		all.quarantined += n->quarantined;
		all.revoked += n->revoked;
	}
	same = all.open == pool->open && all.sealed == pool->sealed &&
	       all.cached == pool->cached && all.demoted == pool->demoted &&
	       all.quarantined == pool->quarantined &&
	       all.revoked == pool->revoked &&
	       (!w->pool_bytes || !pool->revoked);
	kvd__tenants_reply__free_unpacked(reply, NULL);
	return same;
}

/* Two questions: what is above lowered limits may go between them. */
static void check_tenants(const struct storm_world *w)
{
	int64_t deadline = now_us() + SETTLE_MS * 1000;
	Kvd__StatRequest req = KVD__STAT_REQUEST__INIT;
	Kvd__StatReply *reply;
	bool same;

	do {
		CHECK(!raw_call(w->admin, WIRE_STAT, &req.base,
				&kvd__stat_reply__descriptor, &reply, NULL),
		      "stat");
		same = tenants_are_all(w, reply->pools[0]->bytes);
		kvd__stat_reply__free_unpacked(reply, NULL);
		CHECK(same || now_us() < deadline,
		      "tenants are not all of the pool");
	} while (!same);
}

/* ---- what clients hold ---- */

static int by_handle(const void *a, const void *b)
{
	handle_t x = ((const struct storm_held *)a)->handle;
	handle_t y = ((const struct storm_held *)b)->handle;

	return x < y ? -1 : x > y;
}

/*
 * Pages in quarantine: those that their clients have abandoned. When kvd is
 * killed a grant may be lost on its way, one of each client at most.
 */
static void check_quarantine(const struct storm_world *w, uint64_t pages,
			     uint64_t abandoned, bool again)
{
	uint64_t most = (uint64_t)w->crew->nr * STOCK_MAX_PAGES;

	if (again && pages > abandoned + grants) {
		CHECK(pages - abandoned - grants <= most, "%llu pages in "
		      "quarantine, %llu abandoned", (unsigned long long)pages,
		      (unsigned long long)abandoned);
		grants = pages - abandoned;
	}
	CHECK(pages <= abandoned + grants, "%llu pages in quarantine, %llu "
	      "abandoned, %llu lost", (unsigned long long)pages,
	      (unsigned long long)abandoned, (unsigned long long)grants);
}

/*
 * An open page has one holder. Return: false where kvd counts others and may
 * yet come to these: pages that it moves are held by nobody, and what a torn
 * connection had is held until the end of its process is noticed.
 */
static bool check_union(const struct storm_world *w,
			const Kvd__Counts *pages, uint64_t unsure, bool again,
			bool wait)
{
	uint64_t nr = 0, open = 0, sealed = 0, abandoned = 0;
	struct storm_held *all;

	for (uint32_t i = 0; i < w->crew->nr; i++)
		nr += w->crew->mates[i].report->nr_held;
	all = calloc(nr + 1, sizeof(*all));
	CHECK(all, "no memory");
	nr = 0;
	for (uint32_t i = 0; i < w->crew->nr; i++) {
		const struct storm_report *r = w->crew->mates[i].report;

		memcpy(all + nr, r->held, r->nr_held * sizeof(*all));
		nr += r->nr_held;
		abandoned += r->abandoned;
	}
	qsort(all, nr, sizeof(*all), by_handle);
	for (uint64_t i = 0; i < nr; i++) {
		bool twice = i && all[i].handle == all[i - 1].handle;

		CHECK(!twice || (all[i].sealed && all[i - 1].sealed),
		      "page %#llx is open and has two holders",
		      (unsigned long long)all[i].handle);
		open += !all[i].sealed;
		sealed += all[i].sealed && !twice;
	}
	free(all);
	open += unsure;
	sealed -= unsure;
	if (wait && (open != pages->open || sealed != pages->sealed))
		return false;
	CHECK(open == pages->open && sealed == pages->sealed,
	      "clients hold %llu open pages and %llu sealed ones, kvd counts "
	      "%llu and %llu", (unsigned long long)open,
	      (unsigned long long)sealed, (unsigned long long)pages->open,
	      (unsigned long long)pages->sealed);
	check_quarantine(w, pages->quarantined, abandoned, again);
	return true;
}

/* Of all that are connected: counted, and found by their processes. */
static uint32_t ask_clients(const struct storm_world *w,
			    void (*f)(const struct storm_world *w,
				      const Kvd__ClientStat *st, void *ctx),
			    void *ctx)
{
	Kvd__ClientsRequest req = KVD__CLIENTS_REQUEST__INIT;
	Kvd__ClientsReply *reply;
	bool more = true;
	uint32_t nr = 0;

	while (more) {
		CHECK(!raw_call(w->admin, WIRE_CLIENTS, &req.base,
				&kvd__clients_reply__descriptor, &reply, NULL),
		      "clients");
		for (size_t i = 0; i < reply->n_clients; i++) {
			if (f)
				f(w, reply->clients[i], ctx);
			req.after = reply->clients[i]->id;
		}
		nr += (uint32_t)reply->n_clients;
		more = reply->more;
		kvd__clients_reply__free_unpacked(reply, NULL);
	}
	return nr;
}

/* What the check of clients finds. */
struct check_clients {
	uint32_t nr;		/* of ours */
	uint64_t unsure;
};

static void check_client(const struct storm_world *w,
			 const Kvd__ClientStat *st, void *ctx)
{
	const struct storm_report *r = NULL;
	struct check_clients *c = ctx;
	uint64_t open = 0;

	for (uint32_t i = 0; i < w->crew->nr && !r; i++)
		if ((uint32_t)w->crew->mates[i].pid == st->pid)
			r = w->crew->mates[i].report;
	if (!r)
		return; /* the admin */
	for (uint32_t k = 0; k < r->nr_held; k++)
		open += !r->held[k].sealed;
	CHECK(st->held_pages == r->nr_held && st->open_pages >= open,
	      "process %u holds %u pages, %llu of them open; kvd counts %llu "
	      "and %llu", st->pid, r->nr_held, (unsigned long long)open,
	      (unsigned long long)st->held_pages,
	      (unsigned long long)st->open_pages);
	c->unsure += st->open_pages - open;
	c->nr++;
}

/*
 * When those that have ended are forgotten: each its own, and no more. Where
 * the answer to a publish was lost a client takes its pages for sealed. Return:
 * how many of them are not.
 */
static uint64_t check_clients(const struct storm_world *w)
{
	int64_t deadline = now_us() + SETTLE_MS * 1000;
	struct check_clients c = { 0 };
	uint32_t nr;

	while ((nr = ask_clients(w, NULL, NULL)) != w->crew->nr + 1) {
		CHECK(now_us() < deadline, "%u clients, there are %u", nr,
		      w->crew->nr + 1);
		usleep(2000);
	}
	ask_clients(w, check_client, &c);
	CHECK(c.nr == w->crew->nr, "%u clients are there of %u", c.nr,
	      w->crew->nr);
	return c.unsure;
}

/*
 * Of who has died with a torn connection the pages come back when its end is
 * noticed: that may be a moment later.
 */
static void wait_quarantine(const struct storm_world *w, bool again)
{
	int64_t deadline = now_us() +
			   (again ? QUARANTINE_MS : SETTLE_MS) * 1000;
	struct daemon_stat st;
	uint64_t abandoned = 0;

	for (uint32_t i = 0; i < w->crew->nr; i++)
		abandoned += w->crew->mates[i].report->abandoned;
	for (;;) {
		daemon_stat(w->socket, &st);
		if (st.quarantined <= abandoned + grants ||
		    now_us() > deadline)
			return;
		usleep(2000);
	}
}

/* Until nobody can claim anything any more. */
static void wait_claims(const struct storm_world *w)
{
	Kvd__StatusRequest req = KVD__STATUS_REQUEST__INIT;
	int64_t deadline = now_us() + SETTLE_MS * 1000;
	Kvd__StatusReply *reply;
	bool ready;

	do {
		CHECK(!raw_call(w->admin, WIRE_STATUS, &req.base,
				&kvd__status_reply__descriptor, &reply, NULL) &&
		      now_us() < deadline, "status");
		ready = !strcmp(reply->state, "ready");
		kvd__status_reply__free_unpacked(reply, NULL);
		usleep(ready ? 0 : 10000);
	} while (!ready);
}

/* What is pinned is sealed, and held by no client: it is let go of. */
static void unpin_all(const struct storm_world *w)
{
	Kvd__PinsRequest ask = KVD__PINS_REQUEST__INIT;
	Kvd__PinsReply *reply;
	bool more = true;

	while (more) {
		CHECK(!raw_call(w->admin, WIRE_PINS, &ask.base,
				&kvd__pins_reply__descriptor, &reply, NULL),
		      "pins");
		more = reply->more;
		for (size_t i = 0; i < reply->n_pins; i++) {
			Kvd__UnpinRequest req = KVD__UNPIN_REQUEST__INIT;
			int r;

			req.space = reply->pins[i]->space;
			req.block = reply->pins[i]->block;
			r = raw_call(w->admin, WIRE_UNPIN, &req.base,
				     &kvd__unpin_reply__descriptor, NULL, NULL);
			CHECK(!r || r == -ENOENT, "unpin: %s", strerror(-r));
		}
		kvd__pins_reply__free_unpacked(reply, NULL);
	}
}

/* Return: nothing is on its way; microseconds of the walker in *ret_us. */
static bool check_pool(const struct storm_world *w, uint64_t unsure,
		       bool again, bool wait, uint64_t *ret_us)
{
	Kvd__StatRequest req = KVD__STAT_REQUEST__INIT;
	const Kvd__PoolStat *pool;
	Kvd__StatReply *reply;
	int64_t t = now_us();
	bool done;
	int r;

	req.verify = 1;
	r = raw_call(w->admin, WIRE_STAT, &req.base, &kvd__stat_reply__descriptor,
		     &reply, NULL);
	*ret_us = (uint64_t)(now_us() - t);
	CHECK(!r, "stat: %s", strerror(-r));
	for (size_t i = 0; i < reply->n_violations; i++)
		fprintf(stderr, "%s\n", reply->violations[i]);
	CHECK(!reply->nr_violations, "the pool does not add up, seed %llu",
	      (unsigned long long)w->seed);
	pool = reply->pools[0];
	CHECK(sum_of(pool->pages) == pool->pages->total &&
	      sum_of(pool->bytes) == pool->bytes->total &&
	      (!w->pool_bytes || pool->bytes->total == w->pool_bytes),
	      "states do not add up to the pool");
	done = check_union(w, pool->pages, unsure, again, wait);
	kvd__stat_reply__free_unpacked(reply, NULL);
	return done;
}

uint64_t storm_check(const struct storm_world *w, bool again)
{
	int64_t deadline = now_us() + SETTLE_MS * 1000;
	bool wait = true;
	uint64_t unsure, us;

	if (again)
		wait_claims(w);
	wait_quarantine(w, again);
	unsure = check_clients(w);
	unpin_all(w);
	while (!check_pool(w, unsure, again, wait, &us)) {
		wait = now_us() < deadline;
		usleep(2000);
	}
	check_tenants(w);
	return us;
}
