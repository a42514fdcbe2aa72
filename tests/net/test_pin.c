// SPDX-License-Identifier: Apache-2.0
/*
 * test_pin.c - pins over the socket: who may, and what is refused.
 *
 * Pages are 32 KiB, and hold 32 tokens. We are the daemon's own user, so an
 * admin; as root we can be another user too.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>
#include "tests/support/daemon.h"
#include "tests/support/raw.h"

#define PAGE   32768ull
#define TOKENS 32
#define OTHER  4242

static struct daemon d;
static struct raw_frame f;

static int setup(void **state)
{
	const char *const args[] = { "--pool", "16M", "--segment", "8M",
				     "--set", "socket-mode=0666",
				     "--set", "pin-max=99%", NULL };

	daemon_prepare(&d);
	chmod(d.dir, 0711);
	daemon_start_in(&d, args);
	return 0;
}

static int teardown(void **state)
{
	daemon_assert_idle(&d);
	daemon_stop(&d);
	return 0;
}

/* A connection of another user; -1 where we cannot be one. */
static int open_other(void)
{
	int fd;

	if (geteuid() != 0)
		return -1;
	assert_int_equal(seteuid(OTHER), 0);
	fd = raw_open(d.socket);
	assert_int_equal(seteuid(0), 0);
	return fd;
}

static void cache(int fd, uint32_t space, uint32_t nr, uint32_t seed)
{
	uint64_t h[64];

	assert_int_equal(raw_alloc(fd, space, nr, 5000, h, NULL), 0);
	for (uint32_t i = 0; i < nr; i++)
		assert_int_equal(raw_publish(fd, space, h[i], seed + i), 0);
	assert_int_equal(raw_release(fd, h, nr), 0);
}

/* Status of it. The reply, if any, is the caller's to free. */
static int pin(int fd, Kvd__PinRequest *m, Kvd__PinReply **ret)
{
	Kvd__PinReply *reply = NULL;
	int r = raw_call(fd, WIRE_PIN, &m->base, &kvd__pin_reply__descriptor,
			 &reply, &f);

	if (r == 0 && ret)
		*ret = reply;
	else if (reply)
		kvd__pin_reply__free_unpacked(reply, NULL);
	return r;
}

static int pin_block(int fd, uint32_t space, uint32_t block, uint64_t ttl)
{
	Kvd__PinRequest m = KVD__PIN_REQUEST__INIT;

	m.space = space;
	m.block = block;
	m.ttl_ms = ttl;
	return pin(fd, &m, NULL);
}

static int unpin(int fd, uint32_t space, uint32_t block)
{
	Kvd__UnpinRequest m = KVD__UNPIN_REQUEST__INIT;

	m.space = space;
	m.block = block;
	return raw_call(fd, WIRE_UNPIN, &m.base,
			&kvd__unpin_reply__descriptor, NULL, &f);
}

static void test_bad(void **state)
{
	static uint8_t bytes[17] = { 1 };
	static uint32_t tokens[TOKENS];
	int fd = raw_open(d.socket);
	uint32_t space = (uint32_t)raw_open_space(fd, 1);
	Kvd__PinRequest m = KVD__PIN_REQUEST__INIT;
	Kvd__UnpinRequest u = KVD__UNPIN_REQUEST__INIT;

	cache(fd, space, 2, 100);
	assert_int_equal(pin_block(fd, space, 1, 0), -EINVAL);
	assert_int_equal(pin_block(fd, space, 1, 3600001), -EINVAL);
	assert_int_equal(pin_block(fd, space, 1, 1ull << 63), -EINVAL);
	assert_int_equal(pin_block(fd, space, 1, UINT64_MAX), -EINVAL);
	assert_non_null(strstr(raw_error(&f), "3600 s at most"));
	assert_int_equal(pin_block(fd, space, 0, 1000), -ENOENT);
	assert_int_equal(pin_block(fd, space, 3, 1000), -ENOENT);
	assert_int_equal(pin_block(fd, space, UINT32_MAX, 1000), -ENOENT);
	assert_non_null(strstr(raw_error(&f), "no block 4294967295"));
	assert_int_equal(pin_block(fd, 0, 1, 1000), -ENOENT);
	assert_int_equal(pin_block(fd, 77, 1, 1000), -ENOENT);
	assert_int_equal(pin_block(fd, UINT32_MAX, 1, 1000), -ENOENT);
	assert_int_equal(unpin(fd, space, 1), -ENOENT);
	assert_int_equal(unpin(fd, 77, 1), -ENOENT);
	assert_int_equal(unpin(fd, space, UINT32_MAX), -ENOENT);

	m.space = space;
	m.ttl_ms = 1000;
	m.name.data = u.name.data = m.extra.data = bytes;
	m.name.len = 15;
	assert_int_equal(pin(fd, &m, NULL), -EINVAL);
	m.name.len = 17;
	assert_int_equal(pin(fd, &m, NULL), -EINVAL);
	m.name.len = 16;
	assert_int_equal(pin(fd, &m, NULL), -ENOENT);
	m.block = 1;
	assert_int_equal(pin(fd, &m, NULL), -EINVAL);
	assert_non_null(strstr(raw_error(&f), "not both"));
	m.name.len = 0;
	m.extra.len = 3;
	assert_int_equal(pin(fd, &m, NULL), -EINVAL);
	m.extra.len = 0;
	/* Tokens after a block that is not there, too few, of nobody. */
	m.tokens = tokens;
	m.n_tokens = TOKENS;
	m.block = 99;
	assert_int_equal(pin(fd, &m, NULL), -ENOENT);
	m.block = 0;
	m.n_tokens = TOKENS - 1;
	assert_int_equal(pin(fd, &m, NULL), -ENOENT);
	m.n_tokens = TOKENS;
	assert_int_equal(pin(fd, &m, NULL), -ENOENT);
	assert_non_null(strstr(raw_error(&f), "no page of this prompt"));
	u.space = space;
	u.name.len = 3;
	assert_int_equal(raw_call(fd, WIRE_UNPIN, &u.base,
				  &kvd__unpin_reply__descriptor, NULL, &f),
			 -EINVAL);
	raw_bye(fd);
	close(fd);
	daemon_assert_idle(&d);
}

static void test_priority(void **state)
{
	int fd = raw_open(d.socket);
	Kvd__PublishRequest m = KVD__PUBLISH_REQUEST__INIT;

	m.space = (uint32_t)raw_open_space(fd, 1);
	for (int i = -1; i < 4; i++) {
		m.priority = (Kvd__Priority)i;
		assert_int_equal(raw_call(fd, WIRE_PUBLISH, &m.base,
					  &kvd__publish_reply__descriptor,
					  NULL, &f),
				 i >= 0 && i < 3 ? 0 : -EINVAL);
	}
	raw_bye(fd);
	close(fd);
}

/* Pinned by one who goes, for the next. Nobody else sees it. */
static void test_who(void **state)
{
	Kvd__PinsRequest list = KVD__PINS_REQUEST__INIT;
	Kvd__PinRequest m = KVD__PIN_REQUEST__INIT;
	int fd = raw_open(d.socket), other = open_other();
	uint32_t space = (uint32_t)raw_open_space(fd, 2);
	struct daemon_stat st;
	Kvd__PinsReply *pins;
	Kvd__PinReply *reply;

	cache(fd, space, 3, 200);
	m.space = space;
	m.block = 2;
	m.ttl_ms = 60000;
	assert_int_equal(pin(fd, &m, &reply), 0);
	assert_int_equal(reply->bytes, PAGE);
	assert_int_equal(reply->tokens, TOKENS);
	assert_int_equal(reply->pinned, PAGE);
	assert_int_equal(reply->ttl_ms, 60000);
	kvd__pin_reply__free_unpacked(reply, NULL);
	raw_bye(fd);
	close(fd);
	daemon_stat(d.socket, &st);
	assert_int_equal(st.sealed, 1);
	if (other >= 0) {
		assert_int_equal(pin_block(other, space, 2, 1000), -ENOENT);
		assert_int_equal(unpin(other, space, 2), -ENOENT);
		assert_int_equal(raw_call(other, WIRE_PINS, &list.base,
					  &kvd__pins_reply__descriptor, &pins,
					  &f), 0);
		assert_int_equal(pins->n_pins, 0);
		kvd__pins_reply__free_unpacked(pins, NULL);
		raw_bye(other);
		close(other);
	}
	fd = raw_open(d.socket);
	assert_int_equal(raw_call(fd, WIRE_PINS, &list.base,
				  &kvd__pins_reply__descriptor, &pins, &f), 0);
	assert_int_equal(pins->n_pins, 1);
	assert_int_equal(pins->pins[0]->block, 2);
	assert_int_equal(pins->pins[0]->n_first, 8);
	assert_false(pins->more);
	kvd__pins_reply__free_unpacked(pins, NULL);
	assert_int_equal(unpin(fd, space, 2), 0);
	daemon_stat(d.socket, &st);
	assert_int_equal(st.sealed, 0);
	raw_bye(fd);
	close(fd);
}

/* A list of several replies. */
static void test_list(void **state)
{
	Kvd__PinsRequest list = KVD__PINS_REQUEST__INIT;
	int fd = raw_open(d.socket);
	uint32_t space = (uint32_t)raw_open_space(fd, 3), nr = 0;
	uint32_t all = 16 * 1048576 / PAGE, max = all * 99 / 100;
	Kvd__PinsReply *pins;
	bool more = true;

	for (uint32_t i = 0; i < all / 32; i++)
		cache(fd, space, 32, 1000 + 32 * i);
	for (uint32_t i = 1; i <= max; i++)
		assert_int_equal(pin_block(fd, space, i, 60000), 0);
	assert_int_equal(pin_block(fd, space, max + 1, 60000), -EDQUOT);
	assert_non_null(strstr(raw_error(&f), "nothing was pinned"));
	while (more) {
		list.skip = nr;
		assert_int_equal(raw_call(fd, WIRE_PINS, &list.base,
					  &kvd__pins_reply__descriptor, &pins,
					  &f), 0);
		nr += (uint32_t)pins->n_pins;
		more = pins->more;
		kvd__pins_reply__free_unpacked(pins, NULL);
	}
	assert_int_equal(nr, max);
	for (uint32_t i = 1; i <= max; i++)
		assert_int_equal(unpin(fd, space, i), 0);
	raw_bye(fd);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bad),
		cmocka_unit_test(test_priority),
		cmocka_unit_test(test_who),
		cmocka_unit_test(test_list),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
