// SPDX-License-Identifier: Apache-2.0
/*
 * rows_frames.c - bytes that are no frame, and frames out of order.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "tests/hostile/hostile.h"

static struct raw_frame f;

static void ends(int fd)
{
	MUST(raw_at_end(fd), "still connected");
	saw("the connection ends");
	close(fd);
}

static void giant(void)
{
	static uint8_t buf[190000];
	int fd = raw_open(w->socket);

	memset(buf, 0xff, sizeof(buf));
	MUST(raw_send(fd, WIRE_PUBLISH, 7, buf, WIRE_MAX_FRAME) == 0, "send");
	want(reply_to(fd, 7, &f), -EMSGSIZE);
	MUST(raw_send(fd, WIRE_PUBLISH, 8, buf, sizeof(buf)) == 0, "send");
	want(reply_to(fd, 8, &f), -EMSGSIZE);
	want(raw_ping(fd), 0);
	/* Its length is a lie. */
	memset(buf, 0, WIRE_HEADER_BYTES);
	MUST(raw_send_bytes(fd, buf, 60000, NULL, 0) == 0, "send");
	ends(fd);
}

static void wrong_length(void)
{
	static const uint32_t lengths[] = { 1, 7, 65520, 65521, UINT32_MAX,
					    UINT32_MAX - 15 };
	struct wire_header h = { .type = WIRE_PING, .id = 1 };
	uint8_t buf[WIRE_HEADER_BYTES];

	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		int fd = raw_open(w->socket);

		h.length = lengths[i];
		wire_put(buf, &h);
		MUST(raw_send_bytes(fd, buf, sizeof(buf), NULL, 0) == 0,
		     "send");
		ends(fd);
	}
}

static void half(void)
{
	static const uint8_t header[WIRE_HEADER_BYTES];

	for (size_t n = 0; n < WIRE_HEADER_BYTES; n++) {
		int fd = raw_open(w->socket);

		MUST(raw_send_bytes(fd, header, n, NULL, 0) == 0, "send");
		ends(fd);
	}
}

static void header_fields(void)
{
	static const struct wire_header bad[] = {
		{ .type = WIRE_PING, .id = 0 },
		{ .type = WIRE_PING, .id = 1, .status = 1 },
		{ .type = WIRE_PING, .id = 1, .reserved = 1 },
	};
	uint8_t buf[WIRE_HEADER_BYTES];

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		int fd = raw_open(w->socket);

		wire_put(buf, &bad[i]);
		MUST(raw_send_bytes(fd, buf, sizeof(buf), NULL, 0) == 0,
		     "send");
		ends(fd);
	}
}

static void unknown_type(void)
{
	static const unsigned types[] = { 0, WIRE_NR_TYPES, 1000, 65535 };
	int fd = raw_open(w->socket);

	for (uint32_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		MUST(raw_send(fd, types[i], i + 1, NULL, 0) == 0, "send");
		want(reply_to(fd, i + 1, &f), -EPROTO);
	}
	want(raw_ping(fd), 0);
	MUST(raw_send(fd, WIRE_EVENT, 9, NULL, 0) == 0, "send");
	ends(fd);
}

/* Field @nr, of a length, around what is there already. */
static size_t wrap(uint8_t *buf, size_t have, uint8_t tag)
{
	uint8_t head[4] = { tag };
	size_t n = 1, len = have;

	for (; len >= 0x80; len >>= 7)
		head[n++] = (uint8_t)(len | 0x80);
	head[n++] = (uint8_t)len;
	memmove(buf + n, buf, have);
	memcpy(buf, head, n);
	return have + n;
}

static void deep(void)
{
	static uint8_t buf[65000];
	int fd = raw_open(w->socket);
	size_t n = 0;

	/* Unknown fields in each other, groups in each other, geometry in
	 * itself as often as fits. */
	while (n < 60000)
		n = wrap(buf, n, 0x7a);
	MUST(raw_send(fd, WIRE_PING, 1, buf, n) == 0, "send");
	want(reply_to(fd, 1, &f), 0);
	memset(buf, 0x7b, 60000);
	MUST(raw_send(fd, WIRE_PING, 2, buf, 60000) == 0, "send");
	want(reply_to(fd, 2, &f), -EPROTO);
	for (n = 0; n < 60000;)
		n = wrap(buf, n, 0x12);
	MUST(raw_send(fd, WIRE_OPEN_SPACE, 3, buf, n) == 0, "send");
	want_either(reply_to(fd, 3, &f), -EPROTO, -EINVAL);
	want(raw_ping(fd), 0);
}

/* As many elements as a frame has bytes, in a list that takes few. */
static void long_lists(void)
{
	static uint8_t buf[65000];
	int fd = raw_open(w->socket);
	size_t n;

	for (n = 0; n + 2 <= 60000; n += 2) { /* groups without fields */
		buf[n] = 0x32;
		buf[n + 1] = 0;
	}
	n = wrap(buf, n, 0x12);
	MUST(raw_send(fd, WIRE_OPEN_SPACE, 1, buf, n) == 0, "send");
	want_either(reply_to(fd, 1, &f), -EPROTO, -EINVAL);
	for (n = 0; n + 2 <= 60000; n += 2) { /* blocks without fields */
		buf[n] = 0x12;
		buf[n + 1] = 0;
	}
	MUST(raw_send(fd, WIRE_PUBLISH, 2, buf, n) == 0, "send");
	want_either(reply_to(fd, 2, &f), -EPROTO, -ENOENT);
	want(raw_ping(fd), 0);
}

static void counts(void)
{
	static const uint32_t many[] = { 0, WIRE_MAX_PAGES + 1, 1u << 31, UINT32_MAX };
	int fd = raw_open(w->socket), id = raw_open_space(fd, 3);
	uint64_t h[1];

	for (size_t i = 0; i < sizeof(many) / sizeof(many[0]); i++)
		want(raw_alloc(fd, (uint32_t)id, many[i], UINT32_MAX, h, NULL),
		     -EINVAL);
}

static void random_bytes(void)
{
	uint8_t buf[512];

	srandom(1);
	for (int i = 0; i < 300; i++) {
		int fd = raw_open(w->socket);

		for (int k = 0; k < 20; k++) {
			uint32_t size = (uint32_t)random() % sizeof(buf);
			unsigned type = (unsigned)random() % WIRE_NR_TYPES;

			for (uint32_t b = 0; b < size; b++)
				buf[b] = (uint8_t)random();
			if (type == WIRE_BYE)
				type = WIRE_PING;
			raw_send(fd, type, 1, buf, size);
			if (reply_to(fd, 1, &f) == -ECONNRESET)
				break;
			close_fds(&f);
		}
		close(fd);
	}
	saw("an answer to each");
}

/* ---- order ---- */

static void versions(void)
{
	static const char *const hello[] = { "", "\x08\x02", "\x08\x7f",
					     "\x08\xff\xff\xff\xff\x0f" };

	for (size_t i = 0; i < sizeof(hello) / sizeof(hello[0]); i++) {
		int fd = raw_connect(w->socket);

		MUST(raw_send(fd, WIRE_HELLO, 1, hello[i], strlen(hello[i])) ==
		     0, "send");
		want(reply_to(fd, 1, &f), -EPROTO);
		MUST(raw_at_end(fd), "still connected");
		close(fd);
	}
}

static void twice(void)
{
	int fd = raw_open(w->socket);

	for (uint32_t i = 1; i < 10; i++) {
		MUST(raw_send(fd, WIRE_HELLO, i, "\x08\x01", 2) == 0, "send");
		want(reply_to(fd, i, &f), -EPROTO);
	}
	want(raw_ping(fd), 0);
}

static void before_hello(void)
{
	for (unsigned type = WIRE_OPEN_SPACE; type < WIRE_NR_TYPES; type++) {
		int fd = raw_connect(w->socket);

		if (type == WIRE_EVENT)
			continue;
		want(call_empty(fd, type), -EPROTO);
		MUST(raw_at_end(fd), "still connected");
		close(fd);
	}
}

static void after_bye(void)
{
	int fd = raw_open(w->socket), id = raw_open_space(fd, 3);
	uint64_t h;

	want(raw_alloc(fd, (uint32_t)id, 1, SLOW_MS, &h, NULL), 0);
	want(raw_bye(fd), 0);
	for (unsigned type = WIRE_OPEN_SPACE; type < WIRE_NR_TYPES; type++)
		if (type != WIRE_EVENT && type != WIRE_PING &&
		    type != WIRE_BYE)
			want(call_empty(fd, type), -EPROTO);
	want(raw_release(fd, &h, 1), -EPROTO);
}

/* Half a conversation: connected, and nothing said, or nothing more. */
static void silent(void)
{
	int64_t t = now_ms();
	int fd = raw_connect(w->socket);

	MUST(fd >= 0, "connect");
	VICTIM_IS_SERVED();
	MUST(raw_at_end(fd), "still connected");
	t = now_ms() - t;
	MUST(t < HELLO_MS + SLOW_MS, "after %lld ms", (long long)t);
	saw("the connection ends");
}

const struct row rows_frames[] = {
	{ "frame: giant", "64 KiB and 186 KiB, and one whose length is a lie",
	  giant },
	{ "frame: length", "lengths that are not the message's",
	  wrong_length },
	{ "frame: half", "0 to 15 bytes of a header", half },
	{ "frame: header", "no id, a status, reserved bits", header_fields },
	{ "frame: type", "types that there are not, an event", unknown_type },
	{ "frame: deep", "60000 bytes of fields in fields, known and unknown",
	  deep },
	{ "frame: lists", "30000 groups of layers, 30000 blocks",
	  long_lists },
	{ "frame: counts", "0, one more than allowed, 2^32 - 1 pages", counts },
	{ "frame: random", "6000 requests of random bytes", random_bytes },
	{ "order: version", "hello of other versions", versions },
	{ "order: hello twice", "hello nine more times", twice },
	{ "order: before hello", "every request before hello", before_hello },
	{ "order: after bye", "every request after bye", after_bye },
	{ "order: silent", "connect, and say nothing", silent },
	{ 0 }
};
