// SPDX-License-Identifier: Apache-2.0
/*
 * flight.c - single flight: who computes which blocks, and who waits for them.
 *
 * A space is found only if the asker has it open, so all this is among those of
 * one tenant.
 */
#include <errno.h>
#include <string.h>
#include "daemon/mem/mem.h"
#include "daemon/net/dispatch/handlers.h"
#include "daemon/net/state.h"
#include "proto/kvd.pb-c.h"

_Static_assert((int)FLIGHT_NONE == (int)WIRE_FLIGHT_NONE &&
	       (int)FLIGHT_OURS == (int)WIRE_FLIGHT_OURS &&
	       (int)FLIGHT_COMING == (int)WIRE_FLIGHT_COMING &&
	       (int)FLIGHT_HERE == (int)WIRE_FLIGHT_HERE, "states");
_Static_assert(sizeof(struct name) == NAME_BYTES, "names are in a row");

static int check_names(const Kvd__FlightRequest *m, struct reply *r)
{
	size_t nr = m->names.len / NAME_BYTES;

	if (m->names.len % NAME_BYTES || nr == 0 || nr > WIRE_MAX_NAMES)
		return reply_fail(r, -EINVAL, "%zu bytes of names: one request "
				  "takes 1 to %u names of 16 bytes",
				  m->names.len, WIRE_MAX_NAMES);
	if (m->depth > INT32_MAX)
		return reply_fail(r, -EINVAL, "no block has %u before it",
				  m->depth);
	return 0;
}

/* The space, if @c may do there what it asks for. */
static int get_space(const struct client *c, const Kvd__FlightRequest *m,
		     struct mem_space **ret, struct reply *r)
{
	const struct client_space *sp = client_space_find(c, m->space);

	*ret = sp ? mem_space_get(c->mem, m->space) : NULL;
	if (!*ret)
		return reply_fail(r, -ENOENT, "space %u is not open: open it "
				  "first", m->space);
	if (m->announce && sp->read_only)
		return reply_fail(r, -EACCES, "space %u was opened read-only",
				  m->space);
	return 0;
}

static int ask(struct client *c, const struct request *req,
	       Kvd__FlightReply *a, struct reply *r)
{
	const Kvd__FlightRequest *m = (const Kvd__FlightRequest *)req->msg;
	struct name *names = arena_alloc(r->arena, m->names.len);
	struct flight_ask q = { .frame_id = req->id,
				.depth = m->depth,
				.names = names,
				.nr = (uint32_t)(m->names.len / NAME_BYTES),
				.wait_ms = m->wait_ms,
				.announce = m->announce,
				.again = m->again };
	struct flight_answer answer;
	struct mem_space *space;
	int err;

	err = get_space(c, m, &space, r);
	if (err < 0)
		return err;
	if (!names)
		return -ENOMEM;
	memcpy(names, m->names.data, m->names.len);
	err = flight_ask(c, space, &q, &answer);
	if (err == -EBUSY)
		return reply_fail(r, err, "a connection announces %u blocks in "
				  "%u sequences at most, a user's connections "
				  "%u (max-announced-per-user), and waits as "
				  "for allocations (max-waiting): compute them "
				  "without", FLIGHT_MAX_NAMES, FLIGHT_MAX_NR,
				  c->server->cfg.max_announced_per_user);
	a->state = answer.state;
	a->flight = answer.id;
	a->blocks = answer.nr;
	return err;
}

int do_flight(struct client *c, const struct request *req, struct reply *r)
{
	const Kvd__FlightRequest *m = (const Kvd__FlightRequest *)req->msg;
	Kvd__FlightReply *a = arena_alloc(r->arena, sizeof(*a));
	int err = 0;

	if (!a)
		return -ENOMEM;
	kvd__flight_reply__init(a);
	r->msg = &a->base;
	if (m->end)
		flight_end(c, m->end);
	if (m->leave)
		flight_leave(c, m->leave);
	if (m->end || m->leave)
		return 0;
	err = check_names(m, r);
	return err < 0 ? err : ask(c, req, a, r);
}

/* ---- the event ---- */

void dispatch_flight(struct client *c, uint32_t id, bool late)
{
	struct wire_header h = { .type = WIRE_EVENT };
	Kvd__FlightEvent flight = KVD__FLIGHT_EVENT__INIT;
	Kvd__Event msg = KVD__EVENT__INIT;
	uint8_t buf[WIRE_HEADER_BYTES + 32];

	flight.wait = id;
	flight.late = late;
	msg.kind = KVD__EVENT__KIND__FLIGHT;
	msg.flight = &flight;
	h.length = (uint32_t)kvd__event__pack(&msg, buf + WIRE_HEADER_BYTES);
	wire_put(buf, &h);
	conn_send(&c->conn, buf, WIRE_HEADER_BYTES + h.length, NULL, 0);
}
