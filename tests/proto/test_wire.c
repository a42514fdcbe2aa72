// SPDX-License-Identifier: Apache-2.0
/*
 * test_wire.c - headers of frames: what is read, what is refused and how.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include "proto/wire.h"

#define REQUEST 0
#define REPLY 1

/* wire_get() of a frame with header @h that is really @size long. */
static int get(struct wire_header h, size_t size, unsigned nr_fds, int reply)
{
	uint8_t buf[WIRE_HEADER_BYTES];
	struct wire_header got;
	int r;

	memset(&got, 0xee, sizeof(got));
	wire_put(buf, &h);
	r = wire_get(buf, size, nr_fds, reply, &got);
	if (r != -EPROTO)
		assert_memory_equal(&got, &h, sizeof(h));
	return r;
}

static void test_bytes(void **state)
{
	static const uint8_t want[WIRE_HEADER_BYTES] = {
		0x04, 0x03, 0x02, 0x01, 0x05, 0x00, 0x07, 0x06,
		0x0b, 0x0a, 0x09, 0x08, 0x00, 0x00, 0x00, 0x00
	};
	struct wire_header h = { 0x01020304, 5, 0x0607, 0x08090a0b, 0 };
	uint8_t buf[WIRE_HEADER_BYTES];

	wire_put(buf, &h);
	assert_memory_equal(buf, want, sizeof(want));
}

static void test_request(void **state)
{
	struct wire_header h = { .length = 10, .type = WIRE_PING, .id = 1 };

	assert_int_equal(get(h, 26, 0, REQUEST), 0);
	assert_int_equal(get(h, 25, 0, REQUEST), -EPROTO);
	assert_int_equal(get(h, 27, 0, REQUEST), -EPROTO);
	assert_int_equal(get(h, 15, 0, REQUEST), -EPROTO);
	assert_int_equal(get(h, 0, 0, REQUEST), -EPROTO);
	h.id = 0;
	assert_int_equal(get(h, 26, 0, REQUEST), -EPROTO);
	h.id = 1;
	h.status = 1;
	assert_int_equal(get(h, 26, 0, REQUEST), -EPROTO);
	h.status = 0;
	h.reserved = 1;
	assert_int_equal(get(h, 26, 0, REQUEST), -EPROTO);
}

static void test_size(void **state)
{
	struct wire_header h = { .type = WIRE_PUBLISH, .id = 1 };

	h.length = WIRE_MAX_FRAME - WIRE_HEADER_BYTES;
	assert_int_equal(get(h, WIRE_MAX_FRAME, 0, REQUEST), 0);
	h.length++;
	assert_int_equal(get(h, WIRE_MAX_FRAME + 1, 0, REQUEST), -EMSGSIZE);
	h.length = UINT32_MAX;
	assert_int_equal(get(h, 16, 0, REQUEST), -EPROTO);
	assert_int_equal(get(h, 15, 0, REQUEST), -EPROTO);
}

static void test_types(void **state)
{
	struct wire_header h = { .id = 1 };
	unsigned type;

	for (type = 0; type <= UINT16_MAX; type++) {
		h.type = (uint16_t)type;
		if (type == WIRE_EVENT)
			continue;
		assert_int_equal(get(h, 16, 0, REQUEST),
				 strcmp(wire_type_name(type), "?") ?
					 0 : -ENOMSG);
	}
	assert_string_equal(wire_type_name(WIRE_PUBLISH), "publish");
	assert_string_equal(wire_type_name(WIRE_SUBSCRIBE), "subscribe");
	assert_string_equal(wire_type_name(0), "?");
	assert_string_equal(wire_type_name(WIRE_NR_TYPES), "?");
}

static void test_events(void **state)
{
	struct wire_header h = { .type = WIRE_EVENT };

	assert_int_equal(get(h, 16, 0, REPLY), 0);
	assert_int_equal(get(h, 16, 0, REQUEST), -EPROTO);
	h.id = 1;
	assert_int_equal(get(h, 16, 0, REPLY), -EPROTO);
	assert_int_equal(get(h, 16, 0, REQUEST), -EPROTO);
	h.type = WIRE_PING;
	assert_int_equal(get(h, 16, 0, REPLY), 0);
	h.id = 0;
	assert_int_equal(get(h, 16, 0, REPLY), -EPROTO);
}

static void test_fds(void **state)
{
	struct wire_header h = { .type = WIRE_HELLO, .id = 1 };

	assert_int_equal(get(h, 16, 1, REQUEST), 0);
	assert_int_equal(get(h, 16, 2, REQUEST), -EBADF);
	assert_int_equal(get(h, 16, 1, REPLY), -EBADF);
	h.type = WIRE_OPEN_SPACE;
	assert_int_equal(get(h, 16, 1, REQUEST), -EBADF);
	assert_int_equal(get(h, 16, 2, REPLY), 0);
	assert_int_equal(get(h, 16, 3, REPLY), -EBADF);
	h.type = WIRE_MAP;
	assert_int_equal(get(h, 16, WIRE_MAX_FDS, REPLY), 0);
	assert_int_equal(get(h, 16, WIRE_MAX_FDS + 1, REPLY), -EBADF);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bytes),
		cmocka_unit_test(test_request),
		cmocka_unit_test(test_size),
		cmocka_unit_test(test_types),
		cmocka_unit_test(test_events),
		cmocka_unit_test(test_fds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
