// SPDX-License-Identifier: Apache-2.0
/*
 * session_daemon.c - what clients may send, to the daemon's loop.
 *
 * The real server, on host memory, its loop turned by hand. An input is a
 * list of steps of up to three connections: a request of each kind with
 * fields out of the input, handles and names mostly such as there are; bytes
 * of any kind; a frame that was cut, grown or bent on its way; descriptors,
 * with anything. Ends are closed with a bye or without, with replies unread.
 * After each input everything must balance, and nothing is left for the next.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "daemon/config.h"
#include "daemon/dev/dev.h"
#include "daemon/mem/mem.h"
#include "daemon/net/log.h"
#include "daemon/net/restore.h"
#include "daemon/net/state.h"
#include "tests/fuzz/bytes.h"
#include "tests/fuzz/file.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/request.h"
#include "tests/support/check.h"
#include "tests/support/raw.h"

#define NR_PEERS 3
#define MAX_STEPS 64

static struct server *server;
static int odd_fds[4];		/* what else a descriptor may be */

/* ---- a server ---- */

static void nothing(void *ctx)
{
}

static void no_status(void *ctx, const char *line)
{
}

static const struct server_ops ops = {
	.ready = nothing,
	.status = no_status,
	.alive = nothing,
	.stopping = nothing,
	.tick_ms = 1000,
};

/* Nobody reads the pages: segments need no memory. */
int fallocate(int fd, int mode, off_t offset, off_t len)
{
	return 0;
}

static void init(void)
{
	static struct config c;
	struct server_config *cfg = &c.server;
	const char *dir = fuzz_dir();
	char why[256];

	log_set_level(LOG_CRIT);
	config_init(&c);
	strcpy(cfg->device, "host");
	cfg->pool_bytes = 8u << 20;
	cfg->pool_max = 16u << 20;
	cfg->segment_bytes = 2u << 20;
	cfg->hello_ms = 100000;
	cfg->max_clients = cfg->max_clients_per_user = 8;
	cfg->max_waiting = 4;
	cfg->pin_percent = 50;
	snprintf(cfg->socket, sizeof(cfg->socket), "%s/kvd.sock", dir);
	snprintf(cfg->state_dir, sizeof(cfg->state_dir), "%s/state", dir);
	CHECK(config_check(&c) == 0, "%s", c.why);
	CHECK(server_new(cfg, &ops, NULL, -1, NULL, 0, why, sizeof(why),
			 &server) == 0, "%s", why);
	odd_fds[0] = (int)syscall(SYS_pidfd_open, getpid(), 0);
	odd_fds[1] = memfd_create("odd", MFD_CLOEXEC);
	odd_fds[2] = open("/dev/null", O_RDWR | O_CLOEXEC);
	odd_fds[3] = server->listener.fd;
}

/* Until nothing more comes of what was sent. */
static void turn(void)
{
	for (int i = 0; i < 4; i++) {
		dev_drain(server->dev);
		uv_run(&server->loop, UV_RUN_NOWAIT);
	}
}

/*
 * A new pool, and tenants as they were at first. Whatever a client left to
 * wait for the end of its process, which is ours, goes with the old one.
 */
static void start_anew(uint64_t policy)
{
	struct tenant *t;
	char why[256];

	/* The default takes its time to begin. */
	snprintf(server->cfg.policy, sizeof(server->cfg.policy), "%s",
		 policy == 0xff ? "density" : policy == 0xfe ? "s3fifo" :
		 "lru");
	away_fini(server);
	procs_fini(&server->procs);
	turn();
	mem_free(server->mem);
	server->mem = NULL;
	TAILQ_FOREACH(t, &server->tenants.list, link) {
		t->known = false;
		memset(&t->limits, 0, sizeof(t->limits));
		memset(&t->stored, 0, sizeof(t->stored));
	}
	CHECK(restore_pool(server, NULL, 0, why, sizeof(why)) == 0 &&
	      limits_init(server) == 0, "%s", why);
	mem_pin_percent(server->mem, server->cfg.pin_percent);
	procs_init(&server->procs, &server->loop, server->mem, false);
}

static void verify(void)
{
	char why[256] = "";

	CHECK(mem_verify(server->mem, why, sizeof(why)) == 0, "%s", why);
}

/* ---- peers ---- */

struct peer_end {
	int fd;			/* -1: none */
};

static struct peer_end peers[NR_PEERS];
static struct request_state known; /* of replies so far */

static void peer_open_end(struct peer_end *p)
{
	int sv[2];

	CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv) == 0,
	      "socketpair");
	CHECK(fcntl(sv[1], F_SETFL, O_NONBLOCK) == 0, "flags");
	client_on_accept(server, sv[0]);
	p->fd = sv[1];
}

static void peer_close_end(struct peer_end *p)
{
	close(p->fd);
	p->fd = -1;
	turn();
}

/* Everything that has come, of which the good is noted. */
static void peer_read(struct peer_end *p)
{
	static uint8_t buf[WIRE_MAX_FRAME];
	_Alignas(struct cmsghdr)
	char control[CMSG_SPACE(WIRE_MAX_FDS * sizeof(int))];
	struct iovec iov = { buf, sizeof(buf) };
	ssize_t n;

	for (;;) {
		struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1,
				    .msg_control = control,
				    .msg_controllen = sizeof(control) };
		struct cmsghdr *c;

		n = recvmsg(p->fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
		if (n <= 0)
			break;
		c = CMSG_FIRSTHDR(&m);
		for (size_t at = CMSG_LEN(0); c && at < c->cmsg_len;
		     at += sizeof(int)) {
			int fd;

			memcpy(&fd, (uint8_t *)c + at, sizeof(fd));
			close(fd);
		}
		request_note(&known, buf, (size_t)n);
	}
	if (n == 0)
		peer_close_end(p);
}

/* ---- steps ---- */

/* A message may be shorter, longer or other than it was meant. */
static size_t bend(uint8_t *buf, size_t size, struct bytes *in)
{
	unsigned how = (unsigned)bytes_get(in, 1);
	size_t at, nr = how & 7;

	if (how & 0x40 && size > 1)
		return bytes_get(in, 2) % size + 1;
	at = bytes_get(in, 2) % (size + 1);
	if (how & 0x80 || at + nr > size)
		size = at + nr;
	for (size_t i = 0; i < nr; i++)
		buf[at + i] = (uint8_t)bytes_get(in, 1);
	return size;
}

static void send_bytes(struct peer_end *p, const uint8_t *buf, size_t size,
		       unsigned fds)
{
	int list[16];
	unsigned nr = fds & 0xf;

	for (unsigned i = 0; i < nr; i++)
		list[i] = odd_fds[((fds >> 4) + i) % 4];
	raw_send_bytes(p->fd, buf, size, list, nr);
}

/* What a step may be besides a request: what types leave of five bits. Types
 * that came later are in a byte of their own, after a STEP_SHUT of peer 0 that
 * has both bits of the peer clear. */
enum { STEP_BYTES = 30, STEP_SHUT };

static bool step_is_later(unsigned op)
{
	return (op & 0x1f) == STEP_SHUT && !(op >> 6 & 3);
}

static void step(struct bytes *in)
{
	static uint8_t buf[2 * WIRE_MAX_FRAME];
	unsigned op = (unsigned)bytes_get(in, 1), type = op & 0x1f;
	bool bent = op & 0x20;
	struct peer_end *p = &peers[op >> 6 & 3 ? (op >> 6 & 3) - 1 : 0];
	size_t size;

	if (p->fd < 0) {
		peer_open_end(p);
		if (bent) { /* mostly it begins as it should */
			size = request_make(WIRE_HELLO, &known, in, buf);
			send_bytes(p, buf, size, 0);
			turn();
			peer_read(p);
		}
		return;
	}
	if (step_is_later(op))
		type = STEP_BYTES + (unsigned)bytes_get(in, 1) %
				    (WIRE_NR_TYPES - STEP_BYTES);
	if (type < STEP_BYTES || step_is_later(op)) {
		size = request_make(type, &known, in, buf);
		if (bent)
			size = bend(buf, size, in);
		send_bytes(p, buf, size, bent ? (unsigned)bytes_get(in, 1) : 0);
	} else if (type == STEP_BYTES && !bent) {
		size = bytes_get(in, 1);
		memcpy(buf, bytes_take(in, &size), size);
		send_bytes(p, buf, size, (unsigned)bytes_get(in, 1));
	} else if (type == STEP_BYTES) {
		peer_close_end(p);
		return;
	} else {
		shutdown(p->fd, bent ? SHUT_RD : SHUT_WR);
	}
	if (bytes_get(in, 1) < 0xc0) { /* else more is sent before it is read */
		turn();
		peer_read(p);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bytes in = { data, size };

	if (!server)
		init();
	start_anew(bytes_get(&in, 1));
	memset(&known, 0, sizeof(known));
	for (int i = 0; i < NR_PEERS; i++)
		peers[i].fd = -1;
	for (int i = 0; i < MAX_STEPS && in.nr; i++)
		step(&in);
	turn();
	verify();
	for (int i = 0; i < NR_PEERS; i++)
		if (peers[i].fd >= 0)
			peer_close_end(&peers[i]);
	/* One message a turn: what was sent last is still served. */
	for (int i = 0; i < 1000 && server->nr_clients; i++)
		turn();
	CHECK(server->nr_clients == 0, "%u clients are left",
	      server->nr_clients);
	verify();
	return 0;
}
