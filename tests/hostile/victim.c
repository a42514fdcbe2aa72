// SPDX-License-Identifier: Apache-2.0
/*
 * victim.c - a worker of another user, that minds its own business.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>
#include "proto/shm.h"
#include "tests/hostile/hostile.h"

#define NR_FILL (4u * 1024 * 1024 / PAGE)
#define SEED	1000u

static int orders[2];		/* its end is the first */
static int sock;
static uint8_t *segments[64];	/* by id, as far as mapped */
static uint64_t places[NR_OPEN], published_places[NR_PUBLISHED];
static uint64_t filled[NR_FILL];

#define CONTENT(cond, ...)                                                 \
	do {                                                               \
		if (!(cond)) {                                             \
			snprintf(w->victim.said, sizeof(w->victim.said),   \
				 __VA_ARGS__);                             \
			return false;                                      \
		}                                                          \
	} while (0)

/* Where it may write to the page at @place. */
static uint8_t *at(uint64_t place)
{
	uint32_t id = place_segment(place);
	int fd;

	CHECK(id < 64, "segment %u", id);
	if (!segments[id]) {
		fd = map_segment(sock, w->victim.space, id);
		CHECK(fd >= 0, "map: %s", strerror(-fd));
		segments[id] = mmap(NULL, SEGMENT, PROT_READ | PROT_WRITE,
				    MAP_SHARED, fd, 0);
		CHECK(segments[id] != MAP_FAILED, "mmap");
		close(fd);
	}
	return segments[id] + place_offset(place);
}

static bool page_is(uint64_t place, int byte)
{
	const uint8_t *p = at(place);

	for (uint32_t i = 0; i < PAGE; i++)
		if (p[i] != byte)
			return false;
	return true;
}

static void settle_in(void)
{
	sock = raw_open(w->socket);
	w->victim.pid = getpid();
	w->victim.space = (uint32_t)raw_open_space(sock, MODEL);
	CHECK(raw_alloc(sock, w->victim.space, NR_OPEN, SLOW_MS,
			w->victim.open, places) == 0, "alloc");
	CHECK(raw_alloc(sock, w->victim.space, NR_PUBLISHED, SLOW_MS,
			w->victim.published, published_places) == 0, "alloc");
	w->victim.segment = place_segment(places[0]);
	for (int i = 0; i < NR_OPEN; i++)
		memset(at(places[i]), 0xa0 + i, PAGE);
	for (int i = 0; i < NR_PUBLISHED; i++) {
		memset(at(published_places[i]), 0xb0 + i, PAGE);
		CHECK(raw_publish(sock, w->victim.space,
				  w->victim.published[i],
				  SEED + (uint32_t)i) == 0, "publish");
	}
	CHECK(pin(sock, w->victim.space, 1, 600000) == 0, "pin");
}

/* As any new worker of its would be. */
static bool is_served(void)
{
	int fd = raw_connect(w->socket), fds[2], space, seg, r;
	uint64_t h[4], place[4];

	CONTENT(fd >= 0, "cannot connect: %s", strerror(-fd));
	r = raw_send(fd, WIRE_HELLO, 1, "\x08\x01", 2);
	if (r == 0) {
		static struct raw_frame f;

		r = reply_to(fd, 1, &f);
	}
	CONTENT(r == 0, "hello: %s", strerror(-r));
	space = open_space_fds(fd, MODEL, false, fds, NULL);
	CONTENT(space == (int)w->victim.space, "opens space %d", space);
	r = raw_alloc(fd, (uint32_t)space, 4, SLOW_MS, h, place);
	CONTENT(r == 0, "4 pages: %s", strerror(-r));
	seg = map_segment(fd, (uint32_t)space, place_segment(place[0]));
	CONTENT(seg >= 0, "map: %s", strerror(-seg));
	r = raw_match(fd, (uint32_t)space, w->victim.published, NR_PUBLISHED);
	CONTENT(r == NR_PUBLISHED, "its prompts: %d", r);
	r = subscribe(fd, (uint32_t)space, WIRE_SUBSCRIBE_BLOCKS);
	CONTENT(r == 0, "subscribe: %s", strerror(-r));
	r = raw_bye(fd);
	CONTENT(r == 0, "bye: %s", strerror(-r));
	close(fds[0]);
	close(fds[1]);
	close(seg);
	close(fd);
	return true;
}

static bool check(void)
{
	int r = raw_ping(sock);

	CONTENT(r == 0, "ping: %s", strerror(-r));
	for (int i = 0; i < NR_OPEN; i++)
		CONTENT(page_is(places[i], 0xa0 + i), "open page %d has "
			"changed", i);
	for (int i = 0; i < NR_PUBLISHED; i++)
		CONTENT(page_is(published_places[i], 0xb0 + i), "published "
			"page %d has changed", i);
	r = pin(sock, w->victim.space, 1, 600000);
	CONTENT(r == 0, "pin: %s", strerror(-r));
	return is_served();
}

static bool fill(void)
{
	uint64_t place[NR_FILL];
	int r = raw_alloc(sock, w->victim.space, NR_FILL, SLOW_MS, filled,
			  place);

	CONTENT(r == 0, "4 MiB: %s", strerror(-r));
	for (uint32_t i = 0; i < NR_FILL; i++)
		memset(at(place[i]), VICTIM_BYTE, PAGE);
	return true;
}

static bool empty(void)
{
	int r = raw_release(sock, filled, NR_FILL);

	CONTENT(r == 0, "release: %s", strerror(-r));
	return true;
}

static void unpin(void)
{
	Kvd__UnpinRequest req = KVD__UNPIN_REQUEST__INIT;

	req.space = w->victim.space;
	req.block = 1;
	raw_call(sock, WIRE_UNPIN, &req.base, NULL, NULL, NULL);
}

static bool obey(char order)
{
	switch (order) {
	case VICTIM_CHECK:
		return check();
	case VICTIM_FILL:
		return fill();
	case VICTIM_EMPTY:
		return empty();
	default:
		unpin();
		raw_bye(sock);
		_exit(0);
	}
}

static void live(void)
{
	char order;

	CHECK(!setresgid(VICTIM, VICTIM, VICTIM) &&
	      !setresuid(VICTIM, VICTIM, VICTIM), "setuid");
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	settle_in();
	order = 'y';
	do
		CHECK(write(orders[0], &order, 1) == 1, "write");
	while (read(orders[0], &order, 1) == 1 &&
	       (order = obey(order) ? 'y' : 'n'));
	_exit(0);
}

void victim_start(void)
{
	char answer;

	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, orders) == 0, "socketpair");
	if (fork() == 0) {
		close(orders[1]);
		live();
	}
	close(orders[0]);
	CHECK(read(orders[1], &answer, 1) == 1, "the victim did not start");
}

bool victim_do(enum victim_order order)
{
	char byte = (char)order;

	CHECK(write(orders[1], &byte, 1) == 1, "write");
	if (read(orders[1], &byte, 1) == 1)
		return byte == 'y';
	snprintf(w->victim.said, sizeof(w->victim.said), "it is gone");
	return order == VICTIM_END;
}
