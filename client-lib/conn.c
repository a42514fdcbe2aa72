// SPDX-License-Identifier: Apache-2.0
/*
 * conn.c - connecting, coming back after the daemon did, events, closing.
 *
 * Coming back: the same epoch means that the pool has survived, so spaces are
 * opened again and every page is claimed; what is refused is stale, and so is
 * each sequence that uses it. Another epoch means that nothing has survived.
 * Attempts are spaced by a doubling, jittered pause, so that a host full of
 * workers does not fall over a daemon that has just started.
 *
 * A service manager holds the socket while the daemon is away: then connecting
 * succeeds at once, and the hello waits in the socket for the next daemon. So
 * an attempt has two halves, and whoever cannot wait leaves it between them.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>
#include "client-lib/call.h"
#include "client-lib/clock.h"
#include "client-lib/conn.h"
#include "client-lib/error.h"
#include "client-lib/flight.h"
#include "client-lib/request.h"
#include "client-lib/space.h"
#include "client-lib/stock.h"

#define SYSTEM_SOCKET "/run/kvd/kvd.sock"

const char *kvd_default_socket(void)
{
	static __thread char user[sizeof(((struct sockaddr_un *)0)->sun_path)];
	const char *env = getenv("KVD_SOCKET");
	const char *dir = getenv("XDG_RUNTIME_DIR");
	int n;

	if (env && *env)
		return env;
	if (geteuid() == 0 || !dir || !*dir)
		return SYSTEM_SOCKET;
	n = snprintf(user, sizeof(user), "%s/kvd/kvd.sock", dir);
	if (n < 0 || (size_t)n >= sizeof(user))
		return SYSTEM_SOCKET;
	if (access(user, F_OK) && !access(SYSTEM_SOCKET, F_OK))
		return SYSTEM_SOCKET;
	return user;
}

static uint32_t jitter(struct kvd *k, uint32_t ms)
{
	k->jitter = k->jitter * 1664525u + 1013904223u;
	return ms / 2 + (uint32_t)(((uint64_t)ms * (k->jitter >> 8)) >> 24);
}

void conn_lost(struct kvd *k)
{
	if (k->fd >= 0)
		close(k->fd);
	if (k->hello_fd >= 0)
		close(k->hello_fd);
	k->fd = k->hello_fd = -1;
	calls_lost(k);
	flights_lost(k);
	call_end(k->hello);
	k->rcvtimeo_ms = 0;
	k->recalled = false;
	k->revoked.nr = 0;
	k->retry_at_ns = clock_ns() + jitter(k, k->backoff_ms) * NSEC_PER_MSEC;
	k->backoff_ms = 2 * k->backoff_ms;
	if (k->backoff_ms > CONN_MAX_BACKOFF_MS)
		k->backoff_ms = CONN_MAX_BACKOFF_MS;
}

uint64_t conn_deadline_ns(const struct kvd *k)
{
	return clock_ns() + k->timeout_ms * NSEC_PER_MSEC;
}

bool conn_retry(const struct kvd *k, int r, uint64_t deadline_ns)
{
	return r == -ENOTCONN && k->fd < 0 && clock_ns() < deadline_ns;
}

static int connect_error(struct kvd *k, int err)
{
	if (err == EACCES || err == EPERM)
		return fail(k, -EACCES, "%s: %s", k->socket, strerror(err));
	if (err == EMFILE || err == ENFILE)
		return fail_fds(k, k->socket);
	return fail(k, -ENOTCONN, "%s: no daemon there: %s", k->socket,
		    strerror(err));
}

/* Never waits: where too many do already, -EAGAIN. */
static int conn_socket(struct kvd *k, int *ret)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	struct timeval tv = { k->timeout_ms / 1000,
			      k->timeout_ms % 1000 * 1000 };
	int fd, err;

	if (strlen(k->socket) >= sizeof(a.sun_path))
		return fail(k, -EINVAL, "%s: longer than a socket's path may "
			    "be", k->socket);
	memcpy(a.sun_path, k->socket, strlen(k->socket) + 1);
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return connect_error(k, errno);
	if (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv)) < 0 ||
	    connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0 ||
	    fcntl(fd, F_SETFL, 0) < 0) {
		err = errno;
		close(fd);
		if (err == EAGAIN)
			return fail(k, -EAGAIN, "%s: too many wait for the "
				    "daemon", k->socket);
		return connect_error(k, err);
	}
	*ret = fd;
	return 0;
}

static int conn_resume(struct kvd *k, uint64_t old_epoch)
{
	bool kept = k->epoch == old_epoch;
	struct kvd_space *sp;
	int r;

	LIST_FOREACH(sp, &k->spaces, link) {
		r = space_resume(sp, kept);
		if (r)
			return r;
	}
	r = hold_resume(k, kept);
	/* Pages that a lost answer has named are nobody's. */
	if (!r && kept)
		r = request_claim_rest(k);
	return r ? r : events_resume(k);
}

/* The first half: connected, and hello is said. -EAGAIN: not this time. */
static int conn_begin(struct kvd *k)
{
	int r = conn_socket(k, &k->fd);

	if (!r) {
		r = request_hello_begin(k, k->hello);
		if (r == -ENOTCONN) /* it has died just now */
			r = -EAGAIN;
	}
	if (r) {
		conn_lost(k);
		return r;
	}
	k->hello_fd = k->fd;
	k->fd = -1;
	return 0;
}

/* The second, once there is an answer. */
static int conn_finish(struct kvd *k, bool hurry)
{
	uint32_t timeout_ms = k->timeout_ms;
	uint64_t old_epoch = k->epoch;
	int r;

	k->fd = k->hello_fd;
	k->hello_fd = -1;
	if (hurry && timeout_ms > CONN_HANDSHAKE_MS)
		k->timeout_ms = CONN_HANDSHAKE_MS;
	r = request_hello_end(k, k->hello);
	if (!r)
		r = conn_resume(k, old_epoch);
	k->timeout_ms = timeout_ms;
	if (!r) {
		k->backoff_ms = CONN_MIN_BACKOFF_MS;
		return 0;
	}
	/* Not all spaces may have heard of a new epoch: tell them again. */
	k->epoch = old_epoch;
	conn_lost(k);
	return r;
}

static void sleep_until(uint64_t ns)
{
	struct timespec ts = { (time_t)(ns / NSEC_PER_SEC),
			       (long)(ns % NSEC_PER_SEC) };

	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL);
}

/* Is there an answer to hello, or the end of the connection, by @end_ns? */
static bool conn_answered(const struct kvd *k, uint64_t end_ns)
{
	struct pollfd p = { .fd = k->hello_fd, .events = POLLIN };
	uint64_t now_ns = clock_ns();
	uint64_t wait_ns = end_ns > now_ns ? end_ns - now_ns : 0;
	struct timespec ts = { (time_t)(wait_ns / NSEC_PER_SEC),
			       (long)(wait_ns % NSEC_PER_SEC) };

	return ppoll(&p, 1, &ts, NULL) > 0;
}

/* Goes on with the attempt there is, or begins one. @end_ns 0: no waiting. */
static int conn_attempt(struct kvd *k, uint64_t end_ns)
{
	int r = k->hello_fd < 0 ? conn_begin(k) : 0;

	if (r)
		return r;
	if (!conn_answered(k, end_ns))
		return fail(k, -ETIMEDOUT, "%s: the daemon does not answer",
			    k->socket);
	return conn_finish(k, !end_ns);
}

static bool conn_try_again(int r)
{
	return r == -ENOTCONN || r == -ETIMEDOUT || r == -EAGAIN;
}

/* As conn_ready(), but says how the last attempt has failed. */
static int conn_wait(struct kvd *k, uint64_t end_ns)
{
	int r = -ENOTCONN;

	for (;;) {
		if (k->hello_fd >= 0 || clock_ns() >= k->retry_at_ns)
			r = conn_attempt(k, end_ns);
		if (!conn_try_again(r) || clock_ns() >= end_ns)
			return r;
		if (k->hello_fd >= 0) /* a signal came while waiting for it */
			continue;
		if (k->retry_at_ns >= end_ns)
			return r;
		sleep_until(k->retry_at_ns);
	}
}

int conn_ready(struct kvd *k, uint32_t wait_ms)
{
	int r;

	if (k->fd >= 0)
		return 0;
	r = conn_wait(k, wait_ms ? clock_ns() + wait_ms * NSEC_PER_MSEC : 0);
	return conn_try_again(r) ? -ENOTCONN : r;
}

void conn_last(struct kvd *k)
{
	if (k->fd >= 0)
		return;
	k->retry_at_ns = 0;
	if (conn_ready(k, 0) && k->hello_fd >= 0)
		conn_ready(k, CONN_CLOSE_MS);
}

void conn_serve(struct kvd *k)
{
	struct kvd_space *sp;

	revoked_serve(k);
	if (!k->recalled)
		return;
	k->recalled = false;
	k->lean_until_ns = clock_ns() + CONN_LEAN_MS * NSEC_PER_MSEC;
	LIST_FOREACH(sp, &k->spaces, link)
		stock_trim(sp, 0);
	hold_flush(k);
}

static void conn_free(struct kvd *k)
{
	if (k->hello)
		conn_lost(k);
	events_fini(k);
	holds_fini(&k->holds);
	free(k->hello);
	free(k->socket);
	free(k->program);
	free(k);
}

static int conn_new(const struct kvd_connect_opts *o, struct kvd **ret)
{
	const char *name = o->program ? o->program : program_invocation_name;
	struct kvd *k = calloc(1, sizeof(*k));

	if (!k)
		return -ENOMEM;
	k->fd = k->hello_fd = -1;
	k->timeout_ms = o->timeout_ms ? o->timeout_ms :
					CONN_DEFAULT_TIMEOUT_MS;
	k->backoff_ms = CONN_MIN_BACKOFF_MS;
	k->jitter = (uint32_t)(getpid() * 2654435761u) ^ (uint32_t)clock_ns();
	if (getrandom(&k->series, sizeof(k->series), 0) < 0)
		k->series = k->jitter;
	LIST_INIT(&k->spaces);
	LIST_INIT(&k->calls);
	LIST_INIT(&k->flights);
	LIST_INIT(&k->waits);
	events_init(k);
	k->socket = strdup(o->socket ? o->socket : kvd_default_socket());
	k->program = strdup(name);
	k->hello = calloc(1, sizeof(*k->hello));
	if (!k->socket || !k->program || !k->hello) {
		conn_free(k);
		return -ENOMEM;
	}
	*ret = k;
	return 0;
}

int kvd_connect(const struct kvd_connect_opts *opts, struct kvd **ret)
{
	struct kvd_connect_opts o = { .size = sizeof(o) };
	struct kvd *k;
	int r;

	if (!ret || (opts && opts->size < sizeof(o)))
		return -EINVAL;
	r = conn_new(opts ? opts : &o, &k);
	if (r)
		return r;
	/* No daemon at all is said at once; one that dies meanwhile may come
	 * back. */
	r = conn_begin(k);
	if (!r || r == -EAGAIN)
		r = conn_wait(k, conn_deadline_ns(k));
	if (r == -EAGAIN)
		r = -ETIMEDOUT;
	if (r) {
		conn_free(k);
		return r;
	}
	*ret = k;
	return 0;
}

void kvd_close(struct kvd *k)
{
	if (!k)
		return;
	while (!LIST_EMPTY(&k->spaces))
		kvd_space_close(LIST_FIRST(&k->spaces));
	conn_last(k); /* what it had would wait for it */
	if (k->fd >= 0)
		request_bye(k);
	conn_free(k);
}

int kvd_fd(const struct kvd *k)
{
	return k->fd;
}

const char *kvd_device(const struct kvd *k)
{
	return k->device;
}

int kvd_process(struct kvd *k)
{
	struct kvd_space *sp;
	int r;

	r = conn_ready(k, 0);
	if (!r)
		r = call_events(k);
	conn_serve(k);
	LIST_FOREACH(sp, &k->spaces, link)
		space_process(sp);
	hold_flush(k);
	events_deliver(k);
	return r || k->fd < 0 ? -ENOTCONN : 0;
}

int kvd_ping(struct kvd *k)
{
	uint64_t end_ns = conn_deadline_ns(k);
	int r;

	do {
		r = conn_ready(k, k->timeout_ms);
		if (!r)
			r = request_ping(k);
	} while (conn_retry(k, r, end_ns));
	return r;
}
