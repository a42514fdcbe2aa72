// SPDX-License-Identifier: Apache-2.0
/*
 * test_flight.c - single flight over the socket: who has announced a block, who
 * is told of it, and how waiting ends.
 *
 * Pages hold 32 tokens. Names are made as a client makes them, with the key in
 * the state directory. We are the daemon's own user; as root we can be another
 * too, and where we are not, what needs two tenants is skipped.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>
#include "kvd/geometry.h"
#include "proto/name.h"
#include "tests/support/daemon.h"
#include "tests/support/raw.h"

#define TOKENS 32u
#define NR     10u
#define LONG   60000u
#define OTHER  4242
#define NAMES  16384u	/* of one connection */
#define USER   20000u

static struct daemon d;
static struct raw_frame f;
static struct name_key key;
static uint32_t tokens[NR][TOKENS];
static struct name names[NR];
static Kvd__FlightReply told;	/* the last answer */
static uint32_t wait_id;	/* and its id */

/* ---- prompts ---- */

static void read_key(void)
{
	uint8_t bytes[NAME_KEY_BYTES];
	char path[160];
	FILE *file;

	snprintf(path, sizeof(path), "%s/uid-%u.key", d.state_dir,
		 (unsigned)geteuid());
	file = fopen(path, "re");
	assert_non_null(file);
	assert_int_equal(fread(bytes, 1, sizeof(bytes), file), sizeof(bytes));
	fclose(file);
	name_key_init(&key, bytes);
}

/* Another prompt than any before; of its own from block @first on. */
static void prompt(uint32_t first)
{
	static const struct name none;
	static uint32_t last;

	last++;
	for (uint32_t i = first; i < NR; i++) {
		for (uint32_t t = 0; t < TOKENS; t++)
			tokens[i][t] = last * 1000 + i;
		names[i] = name_block(&key, i ? &names[i - 1] : &none, &none,
				      tokens[i], TOKENS);
	}
}

static int setup(void **state)
{
	const char *const args[] = { "--set", "max-waiting=4",
				     "--set", "max-announced-per-user=20000",
				     "--set", "announce-timeout=60s",
				     "--set", "socket-mode=0666", NULL };

	daemon_prepare(&d);
	chmod(d.dir, 0711);
	daemon_start_in(&d, args);
	close(raw_open(d.socket)); /* makes the key */
	read_key();
	return 0;
}

static int teardown(void **state)
{
	daemon_assert_idle(&d);
	daemon_stop(&d);
	return 0;
}

/* ---- requests ---- */

static int request(int fd, const Kvd__FlightRequest *m)
{
	Kvd__FlightReply *reply;
	int r = raw_call(fd, WIRE_FLIGHT, &m->base,
			 &kvd__flight_reply__descriptor, &reply, &f);

	if (r < 0)
		return r;
	wait_id = f.header.id;
	told = *reply;
	kvd__flight_reply__free_unpacked(reply, NULL);
	return (int)told.state;
}

static Kvd__FlightRequest asking(uint32_t space, uint32_t first, uint32_t nr)
{
	Kvd__FlightRequest m = KVD__FLIGHT_REQUEST__INIT;

	m.space = space;
	m.depth = first;
	m.names.data = (uint8_t *)&names[first];
	m.names.len = (size_t)nr * NAME_BYTES;
	m.announce = 1;
	return m;
}

/* Who wants blocks [first, first + nr): the state, or -errno. */
static int ask(int fd, uint32_t space, uint32_t first, uint32_t nr,
	       uint32_t wait_ms)
{
	Kvd__FlightRequest m = asking(space, first, nr);

	m.wait_ms = wait_ms;
	return request(fd, &m);
}

static void end_flight(int fd, uint64_t flight)
{
	Kvd__FlightRequest m = KVD__FLIGHT_REQUEST__INIT;

	m.end = flight;
	assert_int_equal(request(fd, &m), 0);
}

static void publish(int fd, uint32_t space, uint64_t flight, uint32_t first,
		    uint32_t nr)
{
	static uint8_t none[NAME_BYTES];
	Kvd__PublishRequest req = KVD__PUBLISH_REQUEST__INIT;
	Kvd__Block blocks[NR], *list[NR];
	uint64_t handles[NR];

	assert_int_equal(raw_alloc(fd, space, nr, 5000, handles, NULL), 0);
	for (uint32_t i = 0; i < nr; i++) {
		uint32_t b = first + i;

		kvd__block__init(&blocks[i]);
		blocks[i].parent.data = b ? names[b - 1].b : none;
		blocks[i].parent.len = NAME_BYTES;
		blocks[i].n_tokens = TOKENS;
		blocks[i].tokens = tokens[b];
		blocks[i].depth = b;
		blocks[i].n_handles = 1;
		blocks[i].handles = &handles[i];
		list[i] = &blocks[i];
	}
	req.space = space;
	req.n_blocks = nr;
	req.blocks = list;
	req.flight = flight;
	assert_int_equal(raw_call(fd, WIRE_PUBLISH, &req.base, NULL, NULL,
				  NULL), 0);
	assert_int_equal(raw_release(fd, handles, nr), 0);
}

/* The next frame ends wait @id. Return: is it late? */
static bool event(int fd, uint32_t id)
{
	Kvd__Event *e;
	bool late;

	assert_int_equal(raw_recv(fd, &f), 0);
	assert_int_equal(f.header.type, WIRE_EVENT);
	e = kvd__event__unpack(NULL, f.header.length, f.payload);
	assert_non_null(e);
	assert_int_equal(e->kind, KVD__EVENT__KIND__FLIGHT);
	assert_int_equal(e->flight->wait, id);
	late = (bool)e->flight->late;
	kvd__event__free_unpacked(e, NULL);
	return late;
}

/* Nothing has come that was not asked for. */
static void no_event(int fd)
{
	struct wire_header h = { .type = WIRE_PING, .id = 77777 };
	uint8_t buf[WIRE_HEADER_BYTES];

	wire_put(buf, &h);
	assert_int_equal(raw_send_bytes(fd, buf, sizeof(buf), NULL, 0), 0);
	assert_int_equal(raw_recv(fd, &f), 0);
	assert_int_equal(f.header.type, WIRE_PING);
}

static Kvd__FlightStat stat_of(int fd)
{
	Kvd__StatRequest req = KVD__STAT_REQUEST__INIT;
	Kvd__FlightStat stat;
	Kvd__StatReply *reply;

	assert_int_equal(raw_call(fd, WIRE_STAT, &req.base,
				  &kvd__stat_reply__descriptor, &reply, NULL),
			 0);
	assert_non_null(reply->flight);
	stat = *reply->flight;
	kvd__stat_reply__free_unpacked(reply, NULL);
	return stat;
}

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Connections, and their space. */
static uint32_t open_some(int *fds, int nr)
{
	uint32_t space = 0;

	for (int i = 0; i < nr; i++) {
		fds[i] = raw_open(d.socket);
		space = (uint32_t)raw_open_space(fds[i], 1);
	}
	return space;
}

static void end_all(const int *fds, int nr)
{
	for (int i = 0; i < nr; i++) {
		raw_bye(fds[i]);
		close(fds[i]);
	}
}

/* ---- who has it ---- */

static void test_first_has_it(void **state)
{
	int fd[3];
	uint32_t space = open_some(fd, 3);
	Kvd__FlightRequest m;

	prompt(0);
	m = asking(space, 0, 8);
	m.announce = 0;
	assert_int_equal(request(fd[1], &m), WIRE_FLIGHT_NONE);
	assert_int_equal(ask(fd[0], space, 0, 8, 0), WIRE_FLIGHT_OURS);
	assert_int_equal(told.blocks, 8);
	assert_true(told.flight != 0);
	assert_int_equal(ask(fd[1], space, 0, NR, 0), WIRE_FLIGHT_COMING);
	assert_int_equal(told.blocks, 8);
	assert_int_equal(ask(fd[2], space, 5, 2, 0), WIRE_FLIGHT_COMING);
	assert_int_equal(told.blocks, 2);
	/* Its own, too: of another sequence. */
	assert_int_equal(ask(fd[0], space, 0, 8, 0), WIRE_FLIGHT_COMING);
	/* One that goes another way after 3 blocks. */
	prompt(3);
	assert_int_equal(ask(fd[1], space, 0, 8, 0), WIRE_FLIGHT_COMING);
	assert_int_equal(told.blocks, 3);
	assert_int_equal(ask(fd[1], space, 3, 5, 0), WIRE_FLIGHT_OURS);
	assert_int_equal(ask(fd[2], space, 3, 7, 0), WIRE_FLIGHT_COMING);
	assert_int_equal(told.blocks, 5);
	/* Nobody waits. */
	assert_int_equal(stat_of(fd[0]).waiting, 0);
	assert_int_equal(stat_of(fd[0]).flights, 2);
	end_all(fd, 3);
}

/* What one has announced goes up to what another has. */
static void test_between(void **state)
{
	int fd[2];
	uint32_t space = open_some(fd, 2);

	prompt(0);
	assert_int_equal(ask(fd[0], space, 4, 3, 0), WIRE_FLIGHT_OURS);
	assert_int_equal(ask(fd[1], space, 0, NR, 0), WIRE_FLIGHT_OURS);
	assert_int_equal(told.blocks, 4);
	/* One that is alike in what it is found by; a place where it is not. */
	names[4].b[NAME_BYTES - 1] ^= 1;
	assert_int_equal(ask(fd[1], space, 4, 1, 0), WIRE_FLIGHT_OURS);
	assert_int_equal(ask(fd[1], space, 8, 1, 0), WIRE_FLIGHT_OURS);
	end_all(fd, 2);
}

/* ---- as it comes ---- */

static void test_as_it_comes(void **state)
{
	Kvd__FlightStat was, is;
	Kvd__FlightRequest m;
	uint32_t space;
	uint64_t flight;
	int fd[3];

	prompt(0);
	space = open_some(fd, 3);
	was = stat_of(fd[0]);
	assert_int_equal(ask(fd[0], space, 0, 8, 0), WIRE_FLIGHT_OURS);
	flight = told.flight;
	assert_int_equal(ask(fd[1], space, 0, NR, LONG), WIRE_FLIGHT_COMING);
	assert_int_equal(stat_of(fd[0]).waiting, was.waiting + 1);
	publish(fd[0], space, flight, 0, 3);
	assert_false(event(fd[1], wait_id));
	assert_int_equal(ask(fd[1], space, 0, NR, LONG), WIRE_FLIGHT_HERE);
	m = asking(space, 3, NR - 3);
	m.wait_ms = LONG;
	m.again = 1;
	assert_int_equal(request(fd[1], &m), WIRE_FLIGHT_COMING);
	assert_int_equal(told.blocks, 5);
	publish(fd[0], space, flight, 3, 5);
	assert_false(event(fd[1], wait_id));
	/* That was all: the rest is whose it is. */
	assert_int_equal(ask(fd[1], space, 8, 2, LONG), WIRE_FLIGHT_OURS);
	assert_int_equal(ask(fd[2], space, 8, 2, LONG), WIRE_FLIGHT_COMING);
	publish(fd[1], space, told.flight, 8, 2); /* of no flight */
	no_event(fd[2]);
	is = stat_of(fd[0]);
	assert_int_equal(is.announced - was.announced, 10);
	assert_int_equal(is.waited - was.waited, 2);
	assert_int_equal(is.saved_tokens - was.saved_tokens, 8 * TOKENS);
	assert_int_equal(is.given_up, was.given_up);
	assert_int_equal(is.flights, 1);
	end_all(fd, 3);
}

/* Only who waits for what has come is told; what is behind is not. */
static void test_further_on(void **state)
{
	int fd[2];
	uint32_t space = open_some(fd, 2), id;
	uint64_t flight;

	prompt(0);
	assert_int_equal(ask(fd[0], space, 0, 8, 0), WIRE_FLIGHT_OURS);
	flight = told.flight;
	assert_int_equal(ask(fd[1], space, 5, 3, LONG), WIRE_FLIGHT_COMING);
	id = wait_id;
	publish(fd[0], space, flight, 0, 5);
	no_event(fd[1]);
	publish(fd[0], space, flight, 5, 1);
	assert_false(event(fd[1], id));
	end_all(fd, 2);
}

/* It was published, and has gone before anybody took it. */
static void test_evicted(void **state)
{
	Kvd__DropRequest drop = KVD__DROP_REQUEST__INIT;
	uint32_t space;
	uint64_t flight;
	int fd[2];

	prompt(0);
	space = open_some(fd, 2);
	assert_int_equal(ask(fd[0], space, 0, 8, 0), WIRE_FLIGHT_OURS);
	flight = told.flight;
	assert_int_equal(ask(fd[1], space, 0, NR, LONG), WIRE_FLIGHT_COMING);
	publish(fd[0], space, flight, 0, 3);
	assert_false(event(fd[1], wait_id));
	drop.space = space;
	assert_int_equal(raw_call(fd[0], WIRE_DROP, &drop.base, NULL, NULL,
				  NULL), 0);
	assert_int_equal(ask(fd[1], space, 0, NR, LONG), WIRE_FLIGHT_OURS);
	assert_int_equal(told.blocks, 3);
	end_all(fd, 2);
}

/* ---- how it ends ---- */

static void test_deadline(void **state)
{
	int fd[2];
	uint32_t space = open_some(fd, 2);
	uint64_t late = stat_of(fd[0]).late;
	int64_t t;

	prompt(0);
	assert_int_equal(ask(fd[0], space, 0, 8, 0), WIRE_FLIGHT_OURS);
	t = now_ms();
	assert_int_equal(ask(fd[1], space, 0, 8, 300), WIRE_FLIGHT_COMING);
	assert_true(event(fd[1], wait_id));
	assert_true(now_ms() - t >= 295);
	assert_int_equal(ask(fd[1], space, 0, 8, 0), WIRE_FLIGHT_COMING);
	assert_int_equal(stat_of(fd[0]).late, late + 1);
	end_all(fd, 2);
}

enum way { END, CLOSE_SPACE, BYE, HANG_UP, NR_WAYS };

static void go(int *fd, uint32_t space, uint64_t flight, enum way way)
{
	Kvd__CloseSpaceRequest req = KVD__CLOSE_SPACE_REQUEST__INIT;

	switch (way) {
	case END:
		end_flight(*fd, flight);
		break;
	case CLOSE_SPACE:
		req.space = space;
		assert_int_equal(raw_call(*fd, WIRE_CLOSE_SPACE, &req.base,
					  NULL, NULL, NULL), 0);
		break;
	case BYE:
		raw_bye(*fd);
		break;
	default:
		close(*fd);
		*fd = raw_open(d.socket);
	}
}

/* All who wait are told; one of them has it then, and the others wait on. */
static void test_given_up(void **state)
{
	for (enum way way = 0; way < NR_WAYS; way++) {
		uint32_t space, ids[3];
		uint64_t gone;
		int fd[4];

		prompt(0);
		space = open_some(fd, 4);
		gone = stat_of(fd[1]).given_up;
		assert_int_equal(ask(fd[0], space, 0, 8, 0), WIRE_FLIGHT_OURS);
		for (int i = 1; i < 4; i++) {
			uint64_t flight = told.flight;

			assert_int_equal(ask(fd[i], space, 0, NR, LONG),
					 WIRE_FLIGHT_COMING);
			ids[i - 1] = wait_id;
			told.flight = flight;
		}
		go(&fd[0], space, told.flight, way);
		for (int i = 1; i < 4; i++)
			assert_false(event(fd[i], ids[i - 1]));
		assert_int_equal(ask(fd[2], space, 0, NR, LONG),
				 WIRE_FLIGHT_OURS);
		assert_int_equal(told.blocks, NR);
		assert_int_equal(ask(fd[1], space, 0, NR, LONG),
				 WIRE_FLIGHT_COMING);
		assert_int_equal(ask(fd[3], space, 0, NR, LONG),
				 WIRE_FLIGHT_COMING);
		assert_int_equal(stat_of(fd[1]).given_up, gone + 1);
		end_all(fd, 4);
	}
}

/* Who waits may go, and is not told any more. */
static void test_leave(void **state)
{
	Kvd__FlightRequest m = KVD__FLIGHT_REQUEST__INIT;
	int fd[3];
	uint32_t space = open_some(fd, 3);
	uint64_t flight;

	prompt(0);
	assert_int_equal(ask(fd[0], space, 0, 8, 0), WIRE_FLIGHT_OURS);
	flight = told.flight;
	assert_int_equal(ask(fd[2], space, 0, 8, LONG), WIRE_FLIGHT_COMING);
	assert_int_equal(ask(fd[1], space, 0, 8, LONG), WIRE_FLIGHT_COMING);
	m.leave = wait_id;
	assert_int_equal(request(fd[1], &m), 0);
	close(fd[2]);
	fd[2] = raw_open(d.socket);
	publish(fd[0], space, flight, 0, 8);
	no_event(fd[1]);
	assert_int_equal(stat_of(fd[0]).waiting, 0);
	end_all(fd, 3);
}

/* Nothing comes of it: with a daemon that is not patient. */
static void test_stalled(void **state)
{
	const char *const args[] = { "--set", "announce-timeout=400ms", NULL };
	struct daemon patient = d;
	struct name_key old = key;
	uint32_t space, id[2];
	uint64_t flight;
	int64_t t;
	int fd[3], r;

	daemon_start(&d, args);
	space = open_some(fd, 3);
	read_key();
	prompt(0);
	t = now_ms();
	assert_int_equal(ask(fd[0], space, 0, 8, 0), WIRE_FLIGHT_OURS);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(ask(fd[1 + i], space, 0, 8, LONG),
				 WIRE_FLIGHT_COMING);
		id[i] = wait_id;
	}
	for (int i = 0; i < 2; i++)
		assert_false(event(fd[1 + i], id[i]));
	assert_true(now_ms() - t >= 395);
	/* The second may ask first, and nobody has it but who has asked. */
	assert_int_equal(ask(fd[2], space, 0, 8, LONG), WIRE_FLIGHT_OURS);
	assert_int_equal(stat_of(fd[0]).stalled, 1);
	/* Each block that comes is time for the next, where it is soon. */
	flight = told.flight;
	for (uint32_t i = 0; i < 3; i++) {
		t = now_ms();
		publish(fd[2], space, flight, i, 1);
		usleep(200000);
	}
	r = ask(fd[1], space, 3, 5, 0);
	if (now_ms() - t < 395)
		assert_int_equal(r, WIRE_FLIGHT_COMING);
	/* Who comes late is not made to wait at all. */
	usleep(400000);
	if (r == WIRE_FLIGHT_COMING)
		r = ask(fd[1], space, 3, 5, LONG);
	assert_int_equal(r, WIRE_FLIGHT_OURS);
	assert_int_equal(stat_of(fd[0]).stalled, 2);
	end_all(fd, 3);
	daemon_assert_idle(&d);
	daemon_stop(&d);
	d = patient;
	key = old;
}

static void test_restart(void **state)
{
	struct daemon first = d;
	struct name_key old = key;
	uint32_t space;
	int fd[2];

	daemon_start(&d, NULL);
	space = open_some(fd, 2);
	read_key();
	prompt(0);
	assert_int_equal(ask(fd[0], space, 0, 8, 0), WIRE_FLIGHT_OURS);
	assert_int_equal(ask(fd[1], space, 0, 8, 3000), WIRE_FLIGHT_COMING);
	daemon_kill(&d);
	assert_int_equal(raw_recv(fd[1], &f), -ECONNRESET);
	close(fd[0]);
	close(fd[1]);
	daemon_start_in(&d, NULL);
	space = open_some(fd, 2);
	assert_int_equal(ask(fd[1], space, 0, 8, LONG), WIRE_FLIGHT_OURS);
	end_all(fd, 2);
	daemon_assert_idle(&d);
	daemon_stop(&d);
	d = first;
	key = old;
}

/* ---- who may, and how much ---- */

static void test_apart(void **state)
{
	Kvd__FlightStat stat;
	uint32_t space, other;
	int fd[2];

	prompt(0);
	space = open_some(fd, 2);
	other = (uint32_t)raw_open_space(fd[1], 2);
	assert_int_equal(ask(fd[0], space, 0, 8, 0), WIRE_FLIGHT_OURS);
	/* Names are the same in every space of a tenant. */
	assert_int_equal(ask(fd[1], other, 0, 8, LONG), WIRE_FLIGHT_OURS);
	assert_int_equal(ask(fd[0], other, 0, 8, LONG), -ENOENT);
	if (geteuid() == 0) {
		int foreign;

		assert_int_equal(seteuid(OTHER), 0);
		foreign = raw_open(d.socket);
		assert_int_equal(seteuid(0), 0);
		assert_int_equal(ask(foreign, space, 0, 8, LONG), -ENOENT);
		other = (uint32_t)raw_open_space(foreign, 1);
		assert_int_equal(ask(foreign, other, 0, 8, LONG),
				 WIRE_FLIGHT_OURS);
		stat = stat_of(foreign);
		assert_int_equal(stat.announced, 8);
		assert_int_equal(stat.flights, 1);
		end_all(&foreign, 1);
	}
	end_all(fd, 2);
}

static void test_refused(void **state)
{
	static uint8_t many[(WIRE_MAX_NAMES + 1) * NAME_BYTES];
	int fd;
	uint32_t space = open_some(&fd, 1);
	Kvd__FlightRequest m;

	prompt(0);
	assert_int_equal(ask(fd, 77, 0, 8, 0), -ENOENT);
	assert_int_equal(ask(fd, space, 0, 0, 0), -EINVAL);
	m = asking(space, 0, 1);
	m.names.len = NAME_BYTES - 1;
	assert_int_equal(request(fd, &m), -EINVAL);
	m.names.data = many;
	m.names.len = sizeof(many);
	assert_int_equal(request(fd, &m), -EINVAL);
	assert_non_null(strstr(raw_error(&f), "1 to 2048 names"));
	m = asking(space, 0, 1);
	m.depth = UINT32_MAX;
	assert_int_equal(request(fd, &m), -EINVAL);
	end_flight(fd, 1ull << 60);
	end_all(&fd, 1);
}

/* @nr names that are nobody's, in one request. */
static int ask_many(int fd, uint32_t space, uint32_t nr)
{
	static struct name many[WIRE_MAX_NAMES];
	static uint64_t last;
	Kvd__FlightRequest m = asking(space, 0, 1);

	for (uint32_t i = 0; i < nr; i++) {
		last++;
		memcpy(many[i].b, &last, sizeof(last));
	}
	m.names.data = many[0].b;
	m.names.len = (size_t)nr * NAME_BYTES;
	return request(fd, &m);
}

static void test_limits(void **state)
{
	uint32_t space, nr = 0;
	uint64_t flight;
	int fd[2], r;

	space = open_some(fd, 2);
	for (; nr < NAMES; nr += WIRE_MAX_NAMES)
		assert_int_equal(ask_many(fd[0], space, WIRE_MAX_NAMES),
				 WIRE_FLIGHT_OURS);
	flight = told.flight;
	assert_int_equal(ask_many(fd[0], space, 1), -EBUSY);
	assert_non_null(strstr(raw_error(&f), "compute them without"));
	for (; nr + WIRE_MAX_NAMES <= USER; nr += WIRE_MAX_NAMES)
		assert_int_equal(ask_many(fd[1], space, WIRE_MAX_NAMES),
				 WIRE_FLIGHT_OURS);
	assert_int_equal(ask_many(fd[1], space, USER - nr), WIRE_FLIGHT_OURS);
	assert_int_equal(ask_many(fd[1], space, 1), -EBUSY);
	/* What is given up is free again, when its names are out of the map. */
	end_flight(fd[0], flight);
	do
		r = ask_many(fd[1], space, 1);
	while (r == -EBUSY);
	assert_int_equal(r, WIRE_FLIGHT_OURS);
	end_all(fd, 2);
}

/* Of many short ones, and of those that wait. */
static void test_many(void **state)
{
	uint32_t space, nr = 0;
	int fd[2], r;

	prompt(0);
	space = open_some(fd, 2);
	while ((r = ask_many(fd[0], space, 1)) == WIRE_FLIGHT_OURS)
		nr++;
	assert_int_equal(r, -EBUSY);
	assert_int_equal(nr, 1024);
	assert_int_equal(ask(fd[1], space, 0, 8, 0), WIRE_FLIGHT_OURS);
	for (int i = 0; i < 4; i++)
		assert_int_equal(ask(fd[1], space, 0, 8, LONG),
				 WIRE_FLIGHT_COMING);
	assert_int_equal(ask(fd[1], space, 0, 8, LONG), -EBUSY);
	assert_int_equal(ask(fd[1], space, 0, 8, 0), WIRE_FLIGHT_COMING);
	end_all(fd, 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_first_has_it),
		cmocka_unit_test(test_between),
		cmocka_unit_test(test_as_it_comes),
		cmocka_unit_test(test_further_on),
		cmocka_unit_test(test_evicted),
		cmocka_unit_test(test_deadline),
		cmocka_unit_test(test_given_up),
		cmocka_unit_test(test_leave),
		cmocka_unit_test(test_stalled),
		cmocka_unit_test(test_restart),
		cmocka_unit_test(test_apart),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_many),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
