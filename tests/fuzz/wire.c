// SPDX-License-Identifier: Apache-2.0
/*
 * frame.c - any bytes through wire_get() and the unpacking of requests.
 *
 * The message is in a block of exactly its size, so that reading past its end
 * is seen. What unpacks is packed again: that reads every field of it.
 */
#include <stdlib.h>
#include <string.h>
#include "daemon/net/arena.h"
#include "daemon/net/dispatch/dispatch.h"
#include "tests/fuzz/fuzz.h"
#include "tests/support/check.h"

static void read_all(const ProtobufCMessage *msg)
{
	size_t size = protobuf_c_message_get_packed_size(msg);
	uint8_t *buf = malloc(size + 1);

	CHECK(buf, "out of memory");
	CHECK(protobuf_c_message_pack(msg, buf) == size, "packed size");
	free(buf);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct arena arena;
	struct wire_header h;
	ProtobufCMessage *msg;
	struct conn_frame f = { .size = size };
	uint8_t *copy = malloc(size ? size : 1);

	if (!arena.base)
		CHECK(arena_init(&arena, ARENA_BYTES) == 0, "out of memory");
	CHECK(copy, "out of memory");
	memcpy(copy, data, size);
	f.buf = copy;
	if (request_unpack(&arena, &f, &h, &msg) == 0)
		read_all(msg);
	free(copy);
	return 0;
}
