// SPDX-License-Identifier: Apache-2.0
/*
 * test_frames.c - frames and payloads that are wrong in every way.
 *
 * What cannot be trusted ends that one connection; what can gets an error and
 * the connection lives. A second client is served all the time.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include "tests/support/daemon.h"
#include "tests/support/raw.h"

static struct daemon d;
static int bystander;
static struct raw_frame f;

static int setup(void **state)
{
	daemon_start(&d, NULL);
	bystander = raw_open(d.socket);
	return 0;
}

static int teardown(void **state)
{
	assert_int_equal(raw_ping(bystander), 0);
	close(bystander);
	daemon_assert_idle(&d);
	daemon_stop(&d);
	return 0;
}

/* These bytes end the connection, and no other. */
static void ends(const void *buf, size_t size)
{
	int fd = raw_open(d.socket);

	assert_int_equal(raw_send_bytes(fd, buf, size, NULL, 0), 0);
	assert_true(raw_at_end(fd));
	close(fd);
	assert_int_equal(raw_ping(bystander), 0);
}

static void test_garbage(void **state)
{
	uint8_t buf[4096];

	memset(buf, 0xff, sizeof(buf));
	ends(buf, sizeof(buf));
	memset(buf, 0, sizeof(buf));
	ends(buf, sizeof(buf));
	ends("GET / HTTP/1.1\r\n\r\n", 18);
	ends("PING", 4);
	ends("", 0);
}

static void test_truncated(void **state)
{
	struct wire_header h = { .length = 100, .type = WIRE_PING, .id = 1 };
	uint8_t buf[WIRE_HEADER_BYTES + 100] = { 0 };
	size_t i;

	wire_put(buf, &h);
	for (i = 1; i < sizeof(buf); i += 7)
		ends(buf, i);
}

/* A payload cut anywhere is an error; what comes after is served. */
static void test_truncated_payload(void **state)
{
	Kvd__PublishRequest req = KVD__PUBLISH_REQUEST__INIT;
	Kvd__Block block = KVD__BLOCK__INIT, *blocks = &block;
	uint8_t parent[16] = { 0 }, buf[512];
	uint32_t tokens[32] = { 0 };
	uint64_t handle = 1;
	int fd = raw_open(d.socket);
	size_t size, i;

	block.parent.data = parent;
	block.parent.len = 16;
	block.n_tokens = 32;
	block.tokens = tokens;
	block.n_handles = 1;
	block.handles = &handle;
	req.space = 1;
	req.n_blocks = 1;
	req.blocks = &blocks;
	size = kvd__publish_request__pack(&req, buf);
	for (i = 3; i < size; i++) {
		assert_int_equal(raw_send(fd, WIRE_PUBLISH, 5, buf, i), 0);
		assert_int_equal(raw_recv(fd, &f), 0);
		assert_int_equal(f.header.id, 5);
		assert_int_not_equal(f.header.status, 0);
	}
	assert_int_equal(raw_ping(fd), 0);
	close(fd);
}

static void test_oversized(void **state)
{
	static uint8_t big[WIRE_MAX_FRAME * 2];
	int fd = raw_open(d.socket);

	assert_int_equal(raw_send(fd, WIRE_PUBLISH, 9, big,
				  WIRE_MAX_FRAME - WIRE_HEADER_BYTES + 1), 0);
	assert_int_equal(raw_recv(fd, &f), 0);
	assert_int_equal(f.header.id, 9);
	assert_int_equal(f.header.status, EMSGSIZE);
	assert_non_null(strstr(raw_error(&f), "65536"));
	assert_int_equal(raw_send(fd, WIRE_PUBLISH, 10, big, sizeof(big)), 0);
	assert_int_equal(raw_recv(fd, &f), 0);
	assert_int_equal(f.header.status, EMSGSIZE);
	assert_int_equal(raw_ping(fd), 0);
	close(fd);
}

static void test_wrong_version(void **state)
{
	static const uint32_t versions[] = { 0, WIRE_VERSION + 1, UINT32_MAX };
	Kvd__HelloRequest hello = KVD__HELLO_REQUEST__INIT;
	unsigned i;
	int fd;

	for (i = 0; i < 3; i++) {
		fd = raw_connect(d.socket);
		hello.version = versions[i];
		assert_int_equal(raw_call(fd, WIRE_HELLO, &hello.base, NULL,
					  NULL, &f), -EPROTO);
		assert_non_null(strstr(raw_error(&f), "speaks protocol "
						      "version 1"));
		assert_true(raw_at_end(fd));
		close(fd);
	}
}

static void test_no_hello(void **state)
{
	unsigned type;
	int fd;

	for (type = WIRE_OPEN_SPACE; type < WIRE_NR_TYPES; type++) {
		if (type == WIRE_EVENT || wire_type_name(type)[0] == '?')
			continue;
		fd = raw_connect(d.socket);
		assert_int_equal(raw_send(fd, type, 1, NULL, 0), 0);
		assert_int_equal(raw_recv(fd, &f), 0);
		assert_int_equal(f.header.status, EPROTO);
		assert_non_null(strstr(raw_error(&f), "hello"));
		assert_true(raw_at_end(fd));
		close(fd);
	}
}

static void test_second_hello(void **state)
{
	Kvd__HelloRequest hello = KVD__HELLO_REQUEST__INIT;
	int fd = raw_open(d.socket);

	hello.version = WIRE_VERSION;
	assert_int_equal(raw_call(fd, WIRE_HELLO, &hello.base, NULL, NULL,
				  NULL), -EPROTO);
	assert_int_equal(raw_ping(fd), 0);
	close(fd);
}

static void test_after_bye(void **state)
{
	int fd = raw_open(d.socket);
	uint64_t handle;

	assert_true(raw_open_space(fd, 1) >= 0);
	assert_int_equal(raw_bye(fd), 0);
	assert_int_equal(raw_bye(fd), 0);
	assert_int_equal(raw_ping(fd), 0);
	assert_int_equal(raw_alloc(fd, 1, 1, 0, &handle, NULL), -EPROTO);
	assert_int_equal(raw_open_space(fd, 1), -EPROTO);
	close(fd);
}

static void test_unknown_type(void **state)
{
	static const unsigned types[] = { 0, WIRE_NR_TYPES, 9999 };
	int fd = raw_open(d.socket);
	unsigned i;

	for (i = 0; i < 3; i++) {
		assert_int_equal(raw_send(fd, types[i], 3, "xyz", 3), 0);
		assert_int_equal(raw_recv(fd, &f), 0);
		assert_int_equal(f.header.type, types[i]);
		assert_int_equal(f.header.status, EPROTO);
	}
	assert_int_equal(raw_ping(fd), 0);
	close(fd);
}

/* A newer client's fields are passed over. */
static void test_unknown_fields(void **state)
{
	/* field 500 varint; 501 fixed64; 502 bytes; 503 fixed32 */
	static const uint8_t extra[] = {
		0xa0, 0x1f, 0x96, 0x01,
		0xa9, 0x1f, 1, 2, 3, 4, 5, 6, 7, 8,
		0xb2, 0x1f, 3, 'a', 'b', 'c',
		0xbd, 0x1f, 1, 2, 3, 4
	};
	uint8_t buf[64] = { 0x08, WIRE_VERSION }; /* version */
	int fd = raw_connect(d.socket);

	memcpy(buf + 2, extra, sizeof(extra));
	assert_int_equal(raw_send(fd, WIRE_HELLO, 1, buf, 2 + sizeof(extra)),
			 0);
	assert_int_equal(raw_recv(fd, &f), 0);
	assert_int_equal(f.header.status, 0);
	assert_int_equal(raw_send(fd, WIRE_PING, 2, extra, sizeof(extra)), 0);
	assert_int_equal(raw_recv(fd, &f), 0);
	assert_int_equal(f.header.status, 0);
	close(fd);
}

/* Many fields nobody knows: more than a frame ever needs, and no harm. */
static void test_field_flood(void **state)
{
	static uint8_t buf[60000];
	int fd = raw_open(d.socket);
	size_t i;

	for (i = 0; i < sizeof(buf); i += 3) { /* field 100, value 0 */
		buf[i] = 0xa0;
		buf[i + 1] = 0x06;
		buf[i + 2] = 0;
	}
	assert_int_equal(raw_send(fd, WIRE_PING, 4, buf, sizeof(buf)), 0);
	assert_int_equal(raw_recv(fd, &f), 0);
	assert_int_equal(f.header.id, 4);
	for (i = 0; i < sizeof(buf); i += 2) { /* 30,000 empty blocks */
		buf[i] = 0x12;
		buf[i + 1] = 0;
	}
	assert_int_equal(raw_send(fd, WIRE_PUBLISH, 5, buf, sizeof(buf)), 0);
	assert_int_equal(raw_recv(fd, &f), 0);
	assert_int_equal(f.header.id, 5);
	assert_int_not_equal(f.header.status, 0);
	assert_int_equal(raw_ping(fd), 0);
	close(fd);
}

/* Flipped bits of a good request are answered, every one. */
static void test_bit_flips(void **state)
{
	Kvd__AllocRequest req = KVD__ALLOC_REQUEST__INIT;
	int fd = raw_open(d.socket);
	uint8_t buf[64];
	size_t size, i;

	req.space = (uint32_t)raw_open_space(fd, 1);
	req.count = 2;
	req.deadline_ms = 1;
	size = kvd__alloc_request__pack(&req, buf);
	for (i = 0; i < size * 8; i++) {
		buf[i / 8] ^= (uint8_t)(1 << i % 8);
		assert_int_equal(raw_send(fd, WIRE_ALLOC, 6, buf, size), 0);
		assert_int_equal(raw_recv(fd, &f), 0);
		assert_int_equal(f.header.id, 6);
		buf[i / 8] ^= (uint8_t)(1 << i % 8);
	}
	assert_int_equal(raw_bye(fd), 0);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_garbage),
		cmocka_unit_test(test_truncated),
		cmocka_unit_test(test_truncated_payload),
		cmocka_unit_test(test_oversized),
		cmocka_unit_test(test_wrong_version),
		cmocka_unit_test(test_no_hello),
		cmocka_unit_test(test_second_hello),
		cmocka_unit_test(test_after_bye),
		cmocka_unit_test(test_unknown_type),
		cmocka_unit_test(test_unknown_fields),
		cmocka_unit_test(test_field_flood),
		cmocka_unit_test(test_bit_flips),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
