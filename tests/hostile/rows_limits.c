// SPDX-License-Identifier: Apache-2.0
/*
 * rows_limits.c - to have so much that nothing is left for others.
 *
 * While it has all it can get, the victim is served.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>
#include "proto/shm.h"
#include "tests/hostile/hostile.h"

#define NR_PAGES (HOSTILE_MAX / PAGE)

static struct raw_frame f;

static int hello(void)
{
	int fd = raw_connect(w->socket), r;

	if (fd < 0)
		return fd;
	if (raw_send(fd, WIRE_HELLO, 1, "\x08\x01", 2) < 0)
		return -ECONNRESET;
	r = reply_to(fd, 1, &f);
	if (r == 0)
		return fd;
	close(fd);
	return r;
}

static void connections(void)
{
	int nr = 0, r = 0;

	while (nr < 1000 && (r = hello()) >= 0)
		nr++;
	want_either(r, -EUSERS, -ECONNRESET);
	MUST(nr <= MAX_CLIENTS && nr > MAX_CLIENTS / 2, "%d connections", nr);
	VICTIM_IS_SERVED();
}

/* Those that never say hello count too. */
static void mute_connections(void)
{
	int nr = 0;

	for (int i = 0; i < 500; i++)
		nr += raw_connect(w->socket) >= 0;
	VICTIM_IS_SERVED();
	MUST(hello() < 0, "one more");
	saw("%d, of which kvd keeps %d", nr, MAX_CLIENTS);
}

/* Has been connected, and lives on. */
static void was_here(int ready)
{
	int fd = hello();
	char byte = fd < 0 ? 'n' : 'y';

	if (fd >= 0 && (raw_open_space(fd, 3) < 0 || raw_bye(fd) < 0))
		byte = '?';
	close(fd);
	CHECK(write(ready, &byte, 1) == 1, "write");
	for (;;)
		pause();
}

/* kvd watches each until it has ended, which takes a descriptor. */
static void processes(void)
{
	pid_t pids[2 * MAX_CLIENTS];
	unsigned nr = 0;
	int ready[2];
	char byte;

	MUST(pipe(ready) == 0, "pipe");
	for (int i = 0; i < 2 * MAX_CLIENTS; i++) {
		pids[i] = fork();
		if (pids[i] == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			was_here(ready[1]);
		}
		MUST(read(ready[0], &byte, 1) == 1 && byte != '?', "worker");
		nr += byte == 'y';
	}
	VICTIM_IS_SERVED();
	for (int i = 0; i < 2 * MAX_CLIENTS; i++)
		kill_and_reap(pids[i]);
	MUST(nr <= MAX_CLIENTS && nr > MAX_CLIENTS / 2, "%u processes", nr);
	saw("EUSERS to all but %u", nr);
}

static void spaces(void)
{
	int fd = raw_open(w->socket), nr, r = 0;

	for (nr = 0; nr < 240; nr++) {
		r = raw_open_space(fd, (uint8_t)(nr + 8));
		if (r < 0)
			break;
	}
	want(r, -ENOSPC);
	MUST(nr == TENANT_SPACES, "%d spaces", nr);
	VICTIM_IS_SERVED();
	saw("after %d", nr);
}

static void pages(void)
{
	int fd = raw_open(w->socket), id = raw_open_space(fd, 3), r = 0;
	uint64_t h;
	uint32_t nr;

	for (nr = 0; nr <= NR_PAGES; nr++) {
		r = raw_alloc(fd, (uint32_t)id, 1, 100, &h, NULL);
		if (r < 0)
			break;
	}
	want_either(r, -EDQUOT, -ENOSPC);
	MUST(nr > NR_PAGES / 2, "%u pages", nr);
	VICTIM_IS_SERVED();
	MUST(victim_do(VICTIM_FILL), "%s", w->victim.said);
	MUST(victim_do(VICTIM_EMPTY), "%s", w->victim.said);
	want_either(raw_alloc(fd, (uint32_t)id, 64, 200, &h, NULL), -EDQUOT,
		    -ENOSPC);
}

/* Pages of every size, one of each kept: segments, with little in them. */
static int open_sized(int fd, uint32_t layers)
{
	Kvd__OpenSpaceRequest req = KVD__OPEN_SPACE_REQUEST__INIT;
	Kvd__Geometry geometry = KVD__GEOMETRY__INIT;
	Kvd__Group group = KVD__GROUP__INIT, *groups = &group;
	Kvd__OpenSpaceReply *reply;
	uint8_t model[32] = { 9 };
	int r;

	group.nr_layers = layers;
	group.nr_kv_heads = 2;
	group.k_dim = group.v_dim = 64;
	geometry.page_tokens = 32;
	geometry.n_groups = 1;
	geometry.groups = &groups;
	req.model.data = model;
	req.model.len = sizeof(model);
	req.geometry = &geometry;
	req.tp_size = 1;
	r = raw_call(fd, WIRE_OPEN_SPACE, &req.base,
		     &kvd__open_space_reply__descriptor, &reply, NULL);
	return r < 0 ? r : (int)reply->space;
}

static void sizes(void)
{
	int fd = raw_open(w->socket);
	uint64_t h;
	unsigned nr = 0;

	for (uint32_t layers = 1; layers <= 30; layers++) {
		int id = open_sized(fd, layers);

		if (id > 0)
			nr += raw_alloc(fd, (uint32_t)id, 1, 20, &h,
					NULL) == 0;
	}
	MUST(nr > 0 && nr < 30, "%u sizes of page", nr);
	VICTIM_IS_SERVED();
	MUST(victim_do(VICTIM_FILL), "%s", w->victim.said);
	MUST(victim_do(VICTIM_EMPTY), "%s", w->victim.said);
	saw("%u of 30 sizes of page", nr);
}

/* All that it may have waits, for what it will never have. */
static void waiting(void)
{
	int fd = raw_open(w->socket), id = raw_open_space(fd, 3);
	unsigned nr = 0, busy = 0;
	uint64_t h[64];

	MUST(raw_alloc(fd, (uint32_t)id, 64, SLOW_MS, h, NULL) == 0, "alloc");
	for (int c = 0; c < 8; c++) {
		int other = raw_open(w->socket);
		uint32_t space = (uint32_t)raw_open_space(other, 3);

		for (uint32_t i = 1; i <= MAX_WAITING + 1; i++)
			send_alloc(other, i, space, 500, 60000);
		MUST(raw_send(other, WIRE_PING, 100, NULL, 0) == 0, "send");
		do {
			MUST(raw_recv(other, &f) == 0, "recv");
			busy += f.header.status == EBUSY;
		} while (f.header.id != 100);
		nr += MAX_WAITING + 1;
	}
	MUST(nr - busy == USER_WAITING, "%u wait", nr - busy);
	VICTIM_IS_SERVED();
	MUST(victim_do(VICTIM_FILL), "%s", w->victim.said);
	MUST(victim_do(VICTIM_EMPTY), "%s", w->victim.said);
	saw("%u wait, EBUSY to %u", nr - busy, busy);
}

/* One connection alone. */
static void waiting_one(void)
{
	int fd = raw_open(w->socket), id = raw_open_space(fd, 3);
	uint64_t h[64];

	MUST(raw_alloc(fd, (uint32_t)id, 64, SLOW_MS, h, NULL) == 0, "alloc");
	for (uint32_t i = 1; i <= MAX_WAITING; i++)
		send_alloc(fd, i, (uint32_t)id, 500, 60000);
	send_alloc(fd, 50, (uint32_t)id, 500, 60000);
	want(reply_to(fd, 50, &f), -EBUSY);
	VICTIM_IS_SERVED();
}

/* Pages cached and pinned, as many as it may have. */
static void pins(void)
{
	int fd = raw_open(w->socket);
	uint32_t space = (uint32_t)raw_open_space(fd, 3), block = 0;
	uint64_t h;
	int r = 0;

	for (uint32_t i = 0; i < NR_PAGES && r == 0; i++) {
		if (raw_alloc(fd, space, 1, 500, &h, NULL) < 0 ||
		    raw_publish(fd, space, h, 50000 + i) < 0 ||
		    raw_release(fd, &h, 1) < 0)
			break;
		r = pin(fd, space, ++block, 600000);
	}
	want(r, -EDQUOT);
	MUST(block - 1 <= NR_PAGES / 4, "%u pages pinned", block - 1);
	VICTIM_IS_SERVED();
	want(pin(fd, space, block, UINT64_MAX), -EINVAL);
	saw("after %u pages", block - 1);
	while (block > 0) {
		Kvd__UnpinRequest req = KVD__UNPIN_REQUEST__INIT;

		req.space = space;
		req.block = block--;
		raw_call(fd, WIRE_UNPIN, &req.base, NULL, NULL, NULL);
	}
}

static void subscriptions(void)
{
	unsigned nr = 0;
	int r = 0;

	for (int c = 0; c < 4 && r == 0; c++) {
		int fd = raw_open(w->socket);

		for (uint8_t m = 3; m < 6 && r == 0; m++) {
			r = subscribe(fd, (uint32_t)raw_open_space(fd, m),
				      WIRE_SUBSCRIBE_BLOCKS);
			nr += r == 0;
		}
	}
	want(r, -EBUSY);
	MUST(nr == USER_SUBSCRIPTIONS, "%u", nr);
	VICTIM_IS_SERVED();
}

/* Announces @nr blocks that it will never compute; waits for the first. */
static int announce(int fd, uint32_t space, uint32_t nr, uint32_t wait_ms)
{
	static uint64_t names[2 * WIRE_MAX_NAMES], last;
	Kvd__FlightRequest req = KVD__FLIGHT_REQUEST__INIT;
	Kvd__FlightReply *reply;
	int state;

	for (uint32_t i = 0; i < nr && !wait_ms; i++)
		names[2 * i] = ++last;
	req.space = space;
	req.names.data = (uint8_t *)names;
	req.names.len = nr * 16;
	req.announce = 1;
	req.wait_ms = wait_ms;
	state = raw_call(fd, WIRE_FLIGHT, &req.base,
			 &kvd__flight_reply__descriptor, &reply, NULL);
	if (state < 0)
		return state;
	state = (int)reply->state;
	kvd__flight_reply__free_unpacked(reply, NULL);
	return state;
}

static void announcements(void)
{
	int fd[4], r = WIRE_FLIGHT_OURS;
	uint32_t space = 0, nr = 0;

	for (int i = 0; i < 4; i++) {
		fd[i] = raw_open(w->socket);
		space = (uint32_t)raw_open_space(fd[i], 3);
	}
	for (int i = 0; i < 80 && r == WIRE_FLIGHT_OURS; i++) {
		r = announce(fd[i % 4], space, 512, 0);
		nr += r == WIRE_FLIGHT_OURS ? 512 : 0;
	}
	want(r, -EBUSY);
	MUST(nr == USER_ANNOUNCED, "%u blocks", nr);
	VICTIM_IS_SERVED();
	MUST(victim_do(VICTIM_FILL), "%s", w->victim.said);
	MUST(victim_do(VICTIM_EMPTY), "%s", w->victim.said);
	saw("after %u", nr);
}

/* For what will never come: each is told in time, and dies waiting or not. */
static void waits(void)
{
	int fd = raw_open(w->socket), r = WIRE_FLIGHT_COMING;
	uint32_t space = (uint32_t)raw_open_space(fd, 3), nr = 0;

	MUST(announce(fd, space, 16, 0) == WIRE_FLIGHT_OURS, "announce");
	for (int i = 0; i < 8 && r == WIRE_FLIGHT_COMING; i++) {
		int other = raw_open(w->socket);

		raw_open_space(other, 3);
		while ((r = announce(other, space, 16, 60000)) ==
		       WIRE_FLIGHT_COMING)
			if (++nr % MAX_WAITING == 0)
				break;
	}
	want(r, -EBUSY);
	MUST(nr == USER_WAITING, "%u wait", nr);
	VICTIM_IS_SERVED();
	saw("%u wait", nr);
}

/* ---- answers that are not read ---- */

static void ask_map(int fd, uint32_t id, uint32_t space, uint32_t segment)
{
	Kvd__MapRequest req = KVD__MAP_REQUEST__INIT;

	req.space = space;
	req.n_segments = 1;
	req.segments = &segment;
	raw_send_msg(fd, WIRE_MAP, id, &req.base);
}

/* Of @nr answers, which are read now: those with a descriptor. */
static unsigned read_maps(int fd, unsigned nr, unsigned *ret_busy)
{
	unsigned got = 0;

	for (*ret_busy = 0; nr > 0; nr--) {
		int r = raw_recv(fd, &f);

		MUST(r == 0, "recv: %s", strerror(-r));
		got += f.nr_fds;
		*ret_busy += f.header.status == EBUSY;
		close_fds(&f);
	}
	return got;
}

#define NR_HOARDS 40
#define NR_MAPS	  60u

static void unread_fds(void)
{
	int conns[NR_HOARDS];
	uint32_t space = 0, segment;
	unsigned got = 0, busy, all_busy = 0;
	uint64_t h, place;

	for (int i = 0; i < NR_HOARDS; i++) {
		conns[i] = raw_open(w->socket);
		space = (uint32_t)raw_open_space(conns[i], 3);
	}
	MUST(raw_alloc(conns[0], space, 1, SLOW_MS, &h, &place) == 0, "alloc");
	segment = place_segment(place);
	for (int i = 0; i < NR_HOARDS; i++)
		for (uint32_t k = 1; k <= NR_MAPS; k++)
			ask_map(conns[i], k, space, segment);
	/* By now all are answered, and none read. */
	for (int i = 0; i < 10; i++)
		VICTIM_IS_SERVED();
	for (int i = 0; i < NR_HOARDS; i++) {
		got += read_maps(conns[i], NR_MAPS, &busy);
		all_busy += busy;
	}
	MUST(got <= USER_FDS, "%u descriptors unread at once", got);
	MUST(got > 0 && all_busy == NR_HOARDS * NR_MAPS - got,
	     "%u descriptors, %u refused", got, all_busy);
	saw("EBUSY after %u", got);
	/* Who has read is served again. */
	MUST(map_segment(conns[0], space, segment) >= 0, "not served again");
}

/* Dropped with answers unread, and back again: they still count. */
static void unread_and_dropped(void)
{
	uint32_t space, segment;
	unsigned got = 0, busy;
	uint64_t h, place;
	int keep = raw_open(w->socket), fd[8];

	space = (uint32_t)raw_open_space(keep, 3);
	MUST(raw_alloc(keep, space, 1, SLOW_MS, &h, &place) == 0, "alloc");
	segment = place_segment(place);
	for (int i = 0; i < 8; i++) {
		fd[i] = raw_open(w->socket);
		if (raw_open_space(fd[i], 3) == (int)space)
			for (uint32_t k = 1; k <= 20; k++)
				ask_map(fd[i], k, space, segment);
		raw_send_bytes(fd[i], "out", 3, NULL, 0);
		VICTIM_IS_SERVED();
	}
	for (int i = 0; i < 8; i++) {
		while (raw_recv(fd[i], &f) == 0) {
			got += f.nr_fds;
			close_fds(&f);
		}
		close(fd[i]);
	}
	MUST(got <= USER_FDS, "%u descriptors unread at once", got);
	saw("%u in the sockets of 8 connections that kvd has dropped", got);
	/* Once they are read, they do not count. */
	for (int64_t t = now_ms(); now_ms() < t + SLOW_MS;) {
		int r;

		ask_map(keep, 1, space, segment);
		r = read_maps(keep, 1, &busy);
		if (r == 1)
			return;
		usleep(20000);
	}
	lost("never served again");
}

static void never_reads(void)
{
	struct wire_header h = { .type = WIRE_STATUS, .id = 1 };
	uint8_t buf[WIRE_HEADER_BYTES];
	unsigned nr = 0;

	wire_put(buf, &h);
	for (int i = 0; i < 8; i++) {
		int fd = raw_open(w->socket);

		for (int full = 0; full < 10;)
			if (send(fd, buf, sizeof(buf), MSG_DONTWAIT) > 0) {
				nr++;
				full = 0;
			} else {
				full++;
				usleep(1000);
			}
	}
	VICTIM_IS_SERVED();
	MUST(victim_do(VICTIM_FILL), "%s", w->victim.said);
	MUST(victim_do(VICTIM_EMPTY), "%s", w->victim.said);
	saw("%u requests, then it is not heard", nr);
}

/* Told of its own blocks, and never reads. */
static void never_hears(void)
{
	int deaf = raw_open(w->socket), fd = raw_open(w->socket);
	uint32_t space = (uint32_t)raw_open_space(fd, 3);
	uint64_t h;

	raw_open_space(deaf, 3);
	want(subscribe(deaf, space, 6), 0);
	for (uint32_t i = 0; i < 3000; i++)
		if (raw_alloc(fd, space, 1, 1000, &h, NULL) < 0 ||
		    raw_publish(fd, space, h, 70000 + i) < 0 ||
		    raw_release(fd, &h, 1) < 0)
			lost("%u published", i);
	VICTIM_IS_SERVED();
	saw("3000 blocks published all the same");
}

/* Statistics of others are not falsified: they are of its own spaces. */
static void tokens(void)
{
	Kvd__MatchRequest req = KVD__MATCH_REQUEST__INIT;
	int fd = raw_open(w->socket);

	req.space = (uint32_t)raw_open_space(fd, 3);
	req.hit_tokens = req.miss_tokens = UINT64_MAX;
	for (int i = 0; i < 100; i++)
		want(raw_call(fd, WIRE_MATCH, &req.base, NULL, NULL, NULL), 0);
	saw("counted as 2^32 each, in its own space and the pool's totals");
}

const struct row rows_limits[] = {
	{ "limit: connections", "1000 connections", connections },
	{ "limit: mute connections", "500 that say nothing",
	  mute_connections },
	{ "limit: processes", "96 that were connected, and live on",
	  processes },
	{ "limit: spaces", "240 spaces", spaces },
	{ "limit: pages", "the whole pool", pages },
	{ "limit: sizes", "a segment for each of 30 sizes of page", sizes },
	{ "limit: waiting", "allocations that wait, on 8 connections",
	  waiting },
	{ "limit: waiting, one", "the same on one connection", waiting_one },
	{ "limit: pins", "to pin all it can have cached", pins },
	{ "limit: subscriptions", "12 subscriptions", subscriptions },
	{ "limit: announcements", "to announce 40000 blocks, and compute none",
	  announcements },
	{ "limit: waits", "to wait for them, on 8 connections", waits },
	{ "limit: descriptors", "2400 mappings asked for on 40 "
	  "connections, no answer read",
	  unread_fds },
	{ "limit: dropped", "the same, dropped and connected again 8 times",
	  unread_and_dropped },
	{ "limit: never reads", "status asked for on 8 connections, no answer "
	  "read", never_reads },
	{ "limit: never hears", "a subscription, no event read",
	  never_hears },
	{ "limit: tokens", "hits and misses without end", tokens },
	{ 0 }
};
