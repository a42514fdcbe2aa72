// SPDX-License-Identifier: Apache-2.0
/*
 * dispatch.c - from a frame to its handler and back to a reply.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "daemon/net/dispatch/dispatch.h"
#include "daemon/net/dispatch/handlers.h"
#include "daemon/net/error.h"
#include "daemon/net/log.h"
#include "daemon/net/state.h"
#include "proto/kvd.pb-c.h"

#define PAYLOAD_BYTES (WIRE_MAX_FRAME - WIRE_HEADER_BYTES)

static const struct request_row rows[WIRE_NR_TYPES] = {
	[WIRE_HELLO] = { &kvd__hello_request__descriptor, do_hello,
			 .before_hello = true },
	[WIRE_OPEN_SPACE] = { &kvd__open_space_request__descriptor,
			      do_open_space },
	[WIRE_CLOSE_SPACE] = { &kvd__close_space_request__descriptor,
			       do_close_space },
	[WIRE_MAP] = { &kvd__map_request__descriptor, do_map },
	[WIRE_ALLOC] = { &kvd__alloc_request__descriptor, do_alloc },
	[WIRE_RELEASE] = { &kvd__release_request__descriptor, do_release },
	[WIRE_MATCH] = { &kvd__match_request__descriptor, do_match },
	[WIRE_REFERENCE] = { &kvd__reference_request__descriptor,
			     do_reference },
	[WIRE_PUBLISH] = { &kvd__publish_request__descriptor, do_publish },
	[WIRE_CLAIM] = { &kvd__claim_request__descriptor, do_claim },
	[WIRE_BYE] = { &kvd__bye_request__descriptor, do_bye,
		       .after_bye = true },
	[WIRE_PING] = { &kvd__ping_request__descriptor, do_ping,
			.after_bye = true },
	[WIRE_STATUS] = { &kvd__status_request__descriptor, do_status },
	[WIRE_STAT] = { &kvd__stat_request__descriptor, do_stat },
	[WIRE_CLIENTS] = { &kvd__clients_request__descriptor, do_clients },
	[WIRE_SPACES] = { &kvd__spaces_request__descriptor, do_spaces },
	[WIRE_TENANTS] = { &kvd__tenants_request__descriptor, do_tenants },
	[WIRE_TENANT_SET] = { &kvd__tenant_set_request__descriptor,
			      do_tenant_set },
	[WIRE_RECLAIM] = { &kvd__reclaim_request__descriptor, do_reclaim },
	[WIRE_DROP] = { &kvd__drop_request__descriptor, do_drop },
	[WIRE_INDEX] = { &kvd__index_request__descriptor, do_index },
	[WIRE_SUBSCRIBE] = { &kvd__subscribe_request__descriptor,
			     do_subscribe },
	[WIRE_FLIGHT] = { &kvd__flight_request__descriptor, do_flight },
	[WIRE_PIN] = { &kvd__pin_request__descriptor, do_pin },
	[WIRE_UNPIN] = { &kvd__unpin_request__descriptor, do_unpin },
	[WIRE_PINS] = { &kvd__pins_request__descriptor, do_pins },
	[WIRE_POOL] = { &kvd__pool_request__descriptor, do_pool },
	[WIRE_UNMAPPED] = { &kvd__unmapped_request__descriptor, do_unmapped },
	[WIRE_QUARANTINE] = { &kvd__quarantine_request__descriptor,
			      do_quarantine },
	[WIRE_QUARANTINE_RELEASE] = {
		&kvd__quarantine_release_request__descriptor,
		do_quarantine_release },
};

const struct request_row *request_row(unsigned type)
{
	return &rows[type];
}

/* ---- replies ---- */

void reply_init(struct reply *r, struct arena *a)
{
	arena_reset(a);
	r->arena = a;
	r->msg = NULL;
	r->nr_fds = 0;
	r->need_bytes = 0;
	r->why[0] = '\0';
	r->drop = false;
}

int reply_fail(struct reply *r, int err, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	vsnprintf(r->why, sizeof(r->why), format, ap);
	va_end(ap);
	return err;
}

static void reply_close_fds(struct reply *r)
{
	while (r->nr_fds > 0)
		close(r->fds[--r->nr_fds]);
}

static void send_payload(struct client *c, struct wire_header *h,
			 const ProtobufCMessage *msg, struct reply *r)
{
	uint8_t *tx = c->server->tx;

	h->length = 0;
	if (msg)
		h->length = (uint32_t)protobuf_c_message_pack(
			msg, tx + WIRE_HEADER_BYTES);
	wire_put(tx, h);
	conn_send(&c->conn, tx, WIRE_HEADER_BYTES + h->length, r->fds,
		  r->nr_fds);
}

uint8_t *reply_pack(unsigned type, uint32_t id, const struct reply *r,
		    size_t *ret_size)
{
	size_t size = protobuf_c_message_get_packed_size(r->msg);
	struct wire_header h = { .type = (uint16_t)type,
				 .id = id,
				 .length = (uint32_t)size };
	uint8_t *buf;

	buf = size > PAYLOAD_BYTES ? NULL : malloc(WIRE_HEADER_BYTES + size);
	if (!buf)
		return NULL;
	wire_put(buf, &h);
	protobuf_c_message_pack(r->msg, buf + WIRE_HEADER_BYTES);
	*ret_size = WIRE_HEADER_BYTES + size;
	return buf;
}

static void send_error(struct client *c, struct wire_header *h, int err,
		       struct reply *r)
{
	const struct error_row *row = error_row(err);
	Kvd__ErrorReply msg = KVD__ERROR_REPLY__INIT;
	char text[REPLY_WHY_BYTES];

	snprintf(text, sizeof(text), "%s", r->why[0] ? r->why : row->text);
	msg.text = text;
	if (row->status == ENOSPC || row->status == EDQUOT)
		msg.need_bytes = r->need_bytes;
	h->status = row->status;
	reply_close_fds(r);
	send_payload(c, h, &msg.base, r);
}

void reply_send(struct client *c, unsigned type, uint32_t id, int err,
		struct reply *r)
{
	struct wire_header h = { .type = (uint16_t)type, .id = id };

	if (err == 0 && r->msg &&
	    protobuf_c_message_get_packed_size(r->msg) > PAYLOAD_BYTES)
		err = reply_fail(r, -EMSGSIZE,
				 "the answer is larger than 65536 bytes: ask "
				 "for less");
	if (err == 0)
		send_payload(c, &h, r->msg, r);
	else
		send_error(c, &h, err, r);
	if (r->drop)
		conn_drop(&c->conn);
}

/* One of few bytes. */
static void send_event(struct client *c, const Kvd__Event *msg)
{
	struct wire_header h = { .type = WIRE_EVENT };
	uint8_t buf[WIRE_HEADER_BYTES + 16];

	h.length = (uint32_t)kvd__event__pack(msg, buf + WIRE_HEADER_BYTES);
	wire_put(buf, &h);
	conn_send(&c->conn, buf, WIRE_HEADER_BYTES + h.length, NULL, 0);
}

void dispatch_recall(struct client *c)
{
	Kvd__Event msg = KVD__EVENT__INIT;

	msg.kind = KVD__EVENT__KIND__RECALL;
	send_event(c, &msg);
}

void dispatch_revoked(struct client *c, uint32_t segment)
{
	Kvd__Event msg = KVD__EVENT__INIT;

	msg.kind = KVD__EVENT__KIND__REVOKED;
	msg.segment = segment;
	send_event(c, &msg);
}

/* ---- requests ---- */

/* May this client ask this now? */
static int check_state(const struct client *c, unsigned type,
		       const struct request_row *row, struct reply *r)
{
	switch (c->state) {
	case CLIENT_NEW:
		if (row->before_hello)
			return 0;
		r->drop = true;
		return reply_fail(r, -EPROTO,
				  "%s before hello: the first request has to "
				  "be a hello", wire_type_name(type));
	case CLIENT_READY:
		if (!row->before_hello)
			return 0;
		return reply_fail(r, -EPROTO, "hello was said already");
	case CLIENT_BYE:
		if (row->after_bye)
			return 0;
		return reply_fail(r, -EPROTO,
				  "%s after bye: connect again",
				  wire_type_name(type));
	}
	return -EPROTO;
}

static int handle(struct client *c, const struct conn_frame *f,
		  const struct wire_header *h, const ProtobufCMessage *msg,
		  struct reply *r)
{
	const struct request_row *row = request_row(h->type);
	struct request req = { .msg = msg,
			       .id = h->id,
			       .fds = f->fds,
			       .nr_fds = f->nr_fds };
	int err;

	err = check_state(c, h->type, row, r);
	return err < 0 ? err : row->handle(c, &req, r);
}

void dispatch_frame(struct client *c, const struct conn_frame *f)
{
	struct server *s = c->server;
	ProtobufCMessage *msg = NULL;
	struct log_about about;
	struct wire_header h;
	struct reply r;
	int err;

	reply_init(&r, &s->arena);
	err = request_unpack(&s->arena, f, &h, &msg);
	if (err == -EPROTO) {
		about = client_about(c);
		log_about(LOG_DEBUG, &about, "client %u (pid %d) sent no "
			  "frame", c->id, (int)c->peer.pid);
		conn_drop(&c->conn);
		return;
	}
	if (err == 0)
		err = handle(c, f, &h, msg, &r);
	else if (c->state == CLIENT_NEW)
		r.drop = true;
	if (err == -EMFILE && c->state == CLIENT_NEW) {
		listener_full(&s->listener);
		conn_drop(&c->conn); /* as if it had not been let in */
		return;
	}
	if (err != REPLY_LATER)
		reply_send(c, h.type, h.id, err, &r);
}
