// SPDX-License-Identifier: Apache-2.0
/*
 * wire.c - any bytes as a frame: its header, and every message there is.
 *
 * First as the daemon takes it in, by its type, into the arena; then as a
 * client does. Last the payload alone as each message of the protocol, by
 * malloc. It is in a block of exactly its size, so that reading past its end
 * is seen. What unpacks is packed again: that reads every field of it.
 */
#include <stdlib.h>
#include <string.h>
#include "daemon/net/arena.h"
#include "daemon/net/dispatch/dispatch.h"
#include "proto/kvd.pb-c.h"
#include "tests/fuzz/fuzz.h"
#include "tests/support/check.h"

static const ProtobufCMessageDescriptor *const replies[] = {
	&kvd__hello_reply__descriptor,
	&kvd__open_space_reply__descriptor,
	&kvd__map_reply__descriptor,
	&kvd__alloc_reply__descriptor,
	&kvd__release_reply__descriptor,
	&kvd__match_reply__descriptor,
	&kvd__publish_reply__descriptor,
	&kvd__claim_reply__descriptor,
	&kvd__status_reply__descriptor,
	&kvd__stat_reply__descriptor,
	&kvd__clients_reply__descriptor,
	&kvd__spaces_reply__descriptor,
	&kvd__tenants_reply__descriptor,
	&kvd__tenant_set_reply__descriptor,
	&kvd__event__descriptor,
	&kvd__error_reply__descriptor,
	&kvd__reclaim_reply__descriptor,
	&kvd__drop_reply__descriptor,
	&kvd__index_reply__descriptor,
	&kvd__pin_reply__descriptor,
	&kvd__unpin_reply__descriptor,
	&kvd__pins_reply__descriptor,
	&kvd__subscribe_reply__descriptor,
	&kvd__flight_reply__descriptor,
};

#define NR_REPLIES (sizeof(replies) / sizeof(replies[0]))

static void read_all(const ProtobufCMessage *msg)
{
	size_t size = protobuf_c_message_get_packed_size(msg);
	uint8_t *buf = malloc(size + 1);

	CHECK(buf, "out of memory");
	CHECK(protobuf_c_message_pack(msg, buf) == size, "packed size");
	free(buf);
}

static void as_request(const uint8_t *buf, size_t size)
{
	static struct arena arena;
	struct conn_frame f = { .buf = buf, .size = size };
	struct wire_header h;
	ProtobufCMessage *msg;

	if (!arena.base)
		CHECK(arena_init(&arena, ARENA_BYTES) == 0, "out of memory");
	if (request_unpack(&arena, &f, &h, &msg) == 0)
		read_all(msg);
}

static void as_message(const ProtobufCMessageDescriptor *d,
		       const uint8_t *buf, size_t size)
{
	ProtobufCMessage *msg = protobuf_c_message_unpack(d, NULL, size, buf);

	if (!msg)
		return;
	read_all(msg);
	protobuf_c_message_free_unpacked(msg, NULL);
}

/* Which message is the last byte of the id, that a client counts up. */
static void as_reply(const uint8_t *buf, size_t size)
{
	struct wire_header h;

	if (wire_get(buf, size, buf[0] % (WIRE_MAX_FDS + 1), 1, &h) == 0)
		wire_type_name(h.type);
	as_message(replies[buf[8] % NR_REPLIES], buf + WIRE_HEADER_BYTES,
		   size - WIRE_HEADER_BYTES);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t *copy = malloc(size ? size : 1);

	CHECK(copy, "out of memory");
	memcpy(copy, data, size);
	as_request(copy, size);
	if (size >= WIRE_HEADER_BYTES)
		as_reply(copy, size);
	free(copy);
	return 0;
}
