// SPDX-License-Identifier: Apache-2.0
/*
 * test_random.c - random bytes at the socket, with a seed that is printed.
 *
 *	net_random [SEED [ROUNDS]]
 *
 * Half are plain noise, half good frames with bytes changed, cut or added, so
 * that they get past the header. A second client is served throughout.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include "tests/support/check.h"
#include "tests/support/daemon.h"
#include "tests/support/raw.h"

static uint64_t rng;

static uint32_t roll(uint32_t below)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return (uint32_t)(rng >> 33) % below;
}

/* Good frames to start from: one of each kind, with small numbers in it. */
static size_t make_payload(unsigned type, uint8_t *buf)
{
	size_t n = 0, i, nr = roll(12);

	(void)type;
	for (i = 0; i < nr; i++) {
		uint8_t wire = (uint8_t[]){ 0, 1, 2, 5 }[roll(4)];
		uint32_t len = wire == 2 ? roll(40) : wire == 1 ? 8 :
						      wire == 5 ? 4 : 1;

		buf[n++] = (uint8_t)(((1 + roll(6)) << 3) | wire);
		if (wire == 2)
			buf[n++] = (uint8_t)len;
		while (len--)
			buf[n++] = (uint8_t)roll(roll(2) ? 4 : 256);
	}
	return n;
}

static size_t make_frame(uint8_t *buf, size_t max)
{
	struct wire_header h = { .type = (uint16_t)(1 + roll(WIRE_NR_TYPES)),
				 .id = 1 + roll(1000) };
	size_t n, i;

	if (roll(8) == 0) {
		n = roll((uint32_t)max);
		for (i = 0; i < n; i++)
			buf[i] = (uint8_t)roll(256);
		return n;
	}
	n = make_payload(h.type, buf + WIRE_HEADER_BYTES);
	h.length = (uint32_t)n;
	wire_put(buf, &h);
	n += WIRE_HEADER_BYTES;
	for (i = roll(4) == 0 ? roll(4) : 0; i > 0; i--)
		buf[roll((uint32_t)n)] = (uint8_t)roll(256);
	return n;
}

/* Reads whatever there is, so that we are not the client that never reads. */
static int drain(int fd)
{
	static uint8_t buf[WIRE_MAX_FRAME];
	ssize_t n;

	while ((n = recv(fd, buf, sizeof(buf), MSG_DONTWAIT)) > 0)
		continue;
	return n < 0 && errno == EAGAIN ? 0 : -ECONNRESET;
}

static int open_victim(const char *socket)
{
	uint64_t handles[4];
	int fd = roll(10) ? raw_open(socket) : raw_connect(socket);
	int space;

	CHECK(fd >= 0, "connect");
	space = roll(2) ? raw_open_space(fd, 1) : -1;
	if (space > 0)
		raw_alloc(fd, (uint32_t)space, 4, 0, handles, NULL);
	return fd;
}

static void attack(const char *socket, unsigned rounds)
{
	static uint8_t buf[8192];
	int victim = -1, other = raw_open(socket), fds[2] = { 0, 1 };
	unsigned i;

	for (i = 0; i < rounds; i++) {
		if (victim < 0)
			victim = open_victim(socket);
		if (raw_send_bytes(victim, buf, make_frame(buf, sizeof(buf)),
				   fds, roll(20) ? 0 : 2) < 0 ||
		    drain(victim) < 0 || roll(200) == 0) {
			close(victim);
			victim = -1;
		}
		if (i % 500 == 0)
			CHECK(raw_ping(other) == 0, "round %u: ping", i);
	}
	CHECK(raw_ping(other) == 0, "ping");
}

int main(int argc, char **argv)
{
	unsigned rounds = argc > 2 ? (unsigned)atoi(argv[2]) : 20000;
	struct daemon d;
	uint64_t seed;
	int status;
	pid_t pid;

	if (argc > 1)
		seed = strtoull(argv[1], NULL, 0);
	else
		CHECK(getrandom(&seed, sizeof(seed), 0) == sizeof(seed), "seed");
	rng = seed | 1;
	printf("seed %#llx\n", (unsigned long long)seed);
	fflush(stdout);

	daemon_start(&d, NULL);
	pid = fork(); /* pages of a client wait for the end of its process */
	if (pid == 0) {
		attack(d.socket, rounds);
		_exit(0);
	}
	CHECK(waitpid(pid, &status, 0) == pid && status == 0, "%#x", status);
	daemon_assert_idle(&d);
	daemon_stop(&d);
	return 0;
}
