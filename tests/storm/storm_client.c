// SPDX-License-Identifier: Apache-2.0
/*
 * storm_client.c - one client of the storm: its connections, and what it does
 * next.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "client-lib/call.h"
#include "client-lib/conn.h"
#include "client-lib/seq.h"
#include "kvd/events.h"
#include "proto/kvd.pb-c.h"
#include "tests/storm/client.h"
#include "tests/support/check.h"

struct storm s;

/* ---- what may go wrong ---- */

static const char *op_name(void)
{
	static const char *const names[] = {
#define STORM_NAME(name, text) text,
		STORM_OPS(STORM_NAME)
#undef STORM_NAME
	};

	return names[s.op];
}

bool worked(int r)
{
	if (!r)
		return true;
	if (r == -ENOSPC || r == -EDQUOT)
		s.report->refused++;
	else if (r == -ESTALE && shaken())
		s.report->lost++;
	else
		CHECK(r == -ENOTCONN && shaken(), "client %u, %s: %s: %s", s.id,
		      op_name(), strerror(-r), kvd_error(s.k));
	return false;
}

struct view *view_any(void)
{
	struct view *v = &s.views[roll(NR_VIEWS)];

	return v->sp ? v : &s.views[0];
}

/* ---- spaces and connections ---- */

static void view_forget(struct view *v)
{
	for (uint32_t i = 0; i < NR_SEQS; i++)
		v->entries[i].seq = NULL;
	v->nr_loose = 0;
	v->sp = NULL;
}

static bool kind_is_open(uint32_t kind)
{
	for (uint32_t i = 0; i < NR_VIEWS; i++)
		if (s.views[i].sp && s.views[i].kind == kind)
			return true;
	return false;
}

static void view_open(struct view *v)
{
	struct kvd_space_opts o;
	uint32_t kind;
	int r;

	do
		kind = roll(STORM_KINDS);
	while (kind_is_open(kind));
	storm_kind(kind, &o);
	o.wait_ms = 1 + roll(20);
	o.read_only = roll(10) == 0;
	o.stock_bytes = roll(4) ? 1 + roll(1 << 17) : 0;
	r = kvd_space_open(s.k, &o, &v->sp);
	CHECK(!r, "client %u, space %u: %s: %s", s.id, kind, strerror(-r),
	      kvd_error(s.k));
	v->kind = kind;
}

static void client_connect(void)
{
	struct kvd_connect_opts c = { .size = sizeof(c),
				      .socket = s.o->socket,
				      .program = "storm",
				      .timeout_ms = 60000 };
	int r;

	do
		r = kvd_connect(&c, &s.k);
	while (r == -ENOTCONN && s.report->restart);
	CHECK(!r, "client %u: %s", s.id, strerror(-r));
	for (uint32_t i = 0; i < NR_VIEWS; i++) {
		view_forget(&s.views[i]);
		view_open(&s.views[i]);
	}
	s.torn = false;
}

/* Pages that we may still write to: kvd cannot know that we do not. */
static void abandon(void);

static void op_reopen(void)
{
	struct view *v = view_any();

	if (!worked(kvd_ping(s.k)))
		return;
	if (s.report->restart)
		abandon();
	kvd_space_close(v->sp);
	view_forget(v);
	view_open(v);
}

static void tear(void)
{
	if (kvd_fd(s.k) >= 0)
		shutdown(kvd_fd(s.k), SHUT_RDWR);
	s.torn = true;
}

/* Pages held, as we believe; to the report if @to. */
static uint32_t held(bool to, uint32_t *ret_open)
{
	const struct holds *t = &s.k->holds;
	uint32_t nr = 0;

	*ret_open = 0;
	for (uint32_t i = 0; i < t->nr_buckets; i++)
		for (const struct hold *h = t->buckets[i]; h; h = h->next) {
			if (h->stale)
				continue;
			CHECK(nr < STORM_MAX_HELD, "too many pages");
			if (to)
				s.report->held[nr] = (struct storm_held){
					h->handle, h->sealed };
			nr++;
			*ret_open += !h->sealed;
		}
	return nr;
}

static void abandon(void)
{
	uint32_t nr_open;

	held(false, &nr_open);
	s.report->abandoned += nr_open + s.k->holds.nr_released;
}

static void op_reconnect(void)
{
	if (shaken())
		abandon();
	kvd_close(s.k);
	client_connect();
}

static void op_abandon(void)
{
	tear();
	op_reconnect();
}

static void op_die(void)
{
	s.report->dying = true;
	raise(SIGKILL);
}

static void op_process(void)
{
	struct kvd_space_info info = { .size = sizeof(info) };

	worked(kvd_process(s.k));
	if (roll(4) == 0)
		worked(kvd_ping(s.k));
	if (roll(4) == 0)
		worked(kvd_space_info(view_any()->sp, &info));
}

/* ---- events ---- */

static void told(const struct kvd_event *e, void *ctx)
{
	s.report->events++;
}

/* Of levels or of a space's blocks, in place of what was asked for before. */
static void op_subscribe(void)
{
	struct kvd_subscribe_opts o = { .size = sizeof(o) };

	if (roll(2))
		o.space = view_any()->sp;
	if (roll(3))
		o.events = o.space ? KVD_SUBSCRIBE_BLOCKS :
				     KVD_SUBSCRIBE_PRESSURE;
	if (o.events == KVD_SUBSCRIBE_BLOCKS && roll(2))
		o.events |= KVD_SUBSCRIBE_TOKENS;
	worked(kvd_subscribe(s.k, &o, told, NULL));
}

/* ---- what a tenant's user may ask for ---- */

static void ask(unsigned type, const ProtobufCMessage *m,
		const ProtobufCMessageDescriptor *want, struct call *c)
{
	int r;

	*c = (struct call){ .type = type, .request = m, .want = want };
	r = call(s.k, c);
	if (r != -EBUSY || !s.report->restart) /* the time of claims */
		worked(r);
}

static void op_stat(void)
{
	Kvd__StatusRequest status = KVD__STATUS_REQUEST__INIT;
	Kvd__StatRequest stat = KVD__STAT_REQUEST__INIT;
	Kvd__SpacesRequest spaces = KVD__SPACES_REQUEST__INIT;
	const struct {
		unsigned type;
		const ProtobufCMessage *m;
		const ProtobufCMessageDescriptor *want;
	} asks[] = {
		{ WIRE_STATUS, &status.base, &kvd__status_reply__descriptor },
		{ WIRE_STAT, &stat.base, &kvd__stat_reply__descriptor },
		{ WIRE_SPACES, &spaces.base, &kvd__spaces_reply__descriptor },
	};
	uint32_t i = roll(3);
	struct call c;

	ask(asks[i].type, asks[i].m, asks[i].want, &c);
	call_end(&c);
}

static void op_reclaim(void)
{
	Kvd__ReclaimRequest m = KVD__RECLAIM_REQUEST__INIT;
	char name[32];
	struct call c;

	snprintf(name, sizeof(name), "uid-%u", (unsigned)geteuid());
	m.tenant = name;
	m.bytes = 1 + roll(1 << 20);
	ask(WIRE_RECLAIM, &m.base, &kvd__reclaim_reply__descriptor, &c);
	call_end(&c);
}

/* To its end, or a part: a space can be dropped by two at a time. */
static void op_drop(void)
{
	Kvd__DropRequest m = KVD__DROP_REQUEST__INIT;
	struct call c;
	bool more = true;

	m.space = view_any()->sp->id;
	while (more) {
		const Kvd__DropReply *a;

		ask(WIRE_DROP, &m.base, &kvd__drop_reply__descriptor, &c);
		a = (const Kvd__DropReply *)c.reply;
		more = a && a->next && roll(4);
		if (a) {
			m.serial = a->serial;
			m.from = a->next;
		}
		call_end(&c);
	}
}

/* ---- the storm ---- */

static const struct {
	uint32_t weight;
	void (*f)(void);
} ops[STORM_NR_OPS] = {
	[STORM_MATCH] = { 200, op_match },
	[STORM_APPEND] = { 400, op_append },
	[STORM_FORK] = { 60, op_fork },
	[STORM_TRUNCATE] = { 60, op_truncate },
	[STORM_FREE] = { 80, op_free },
	[STORM_RESERVE] = { 30, op_reserve },
	[STORM_TAKE] = { 40, op_take },
	[STORM_GIVE] = { 50, op_give },
	[STORM_PIN] = { 20, op_pin },
	[STORM_UNPIN] = { 5, op_unpin },
	[STORM_READ] = { 60, op_read },
	[STORM_PROCESS] = { 50, op_process },
	[STORM_SUBSCRIBE] = { 10, op_subscribe },
	[STORM_STAT] = { 10, op_stat },
	[STORM_REOPEN] = { 4, op_reopen },
	[STORM_RECONNECT] = { 3, op_reconnect },
	[STORM_TEAR] = { 6, tear },
	[STORM_ABANDON] = { 1, op_abandon },
	[STORM_DIE] = { 2, op_die },
	[STORM_RECLAIM] = { 4, op_reclaim },
	[STORM_DROP] = { 1, op_drop },
};

static uint32_t weight(uint32_t op)
{
	return s.o->weights ? s.o->weights[op] : ops[op].weight;
}

static enum storm_op choose(void)
{
	uint32_t all = 0, at, i = 0;

	for (uint32_t k = 0; k < STORM_NR_OPS; k++)
		all += weight(k);
	for (at = roll(all); at >= weight(i); i++)
		at -= weight(i);
	return (enum storm_op)i;
}

static void drop_stale(void)
{
	for (uint32_t i = 0; i < NR_VIEWS; i++)
		for (uint32_t k = 0; k < NR_SEQS; k++) {
			struct entry *e = &s.views[i].entries[k];

			if (e->seq && e->seq->stale) {
				s.report->lost++;
				entry_free(e);
			}
		}
}

/* Connected, nothing under way, nothing owed: then say what is held. */
static void settle(void)
{
	uint32_t nr_open;
	int r;

	do {
		r = kvd_ping(s.k);
		drop_stale();
		if (!r)
			r = kvd_process(s.k);
		if (!r)
			r = hold_flush(s.k);
	} while (r == -ENOTCONN && shaken());
	CHECK(!r && !s.k->holds.nr_released, "client %u: %s", s.id,
	      kvd_error(s.k));
	s.torn = false;
	s.report->nr_held = held(true, &nr_open);
}

static void round_of(void)
{
	while (s.report->todo && (!s.o->pace || s.o->pace())) {
		s.op = choose();
		s.report->todo--;
		s.report->nr[s.op]++;
		ops[s.op].f();
	}
	settle();
}

void storm_client(const struct storm_options *o, uint32_t id,
		  struct storm_report *report, int in, int out)
{
	char byte;

	s.o = o;
	s.id = id;
	s.report = report;
	s.rng = o->seed ^ ((uint64_t)id << 32 | report->incarnation) *
				  0xd1342543de82ef95ULL;
	client_connect();
	while (read(in, &byte, 1) == 1) {
		round_of();
		CHECK(write(out, &byte, 1) == 1, "the storm has gone");
	}
	kvd_close(s.k);
}
