// SPDX-License-Identifier: Apache-2.0
/*
 * outage_test.c - what a worker can do while the daemon is away, and that none
 * of it waits.
 *
 * The service manager holds the socket all the time, so that connecting
 * succeeds and only an answer is missing. Calls that would wait for one are
 * counted: recvmsg() and ppoll() are ours.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "client-lib/request.h"
#include "client-lib/space.h"
#include "tests/client/toy.h"
#include "tests/support/check.h"
#include "tests/support/manager.h"

#define N 320u

ssize_t __real_recvmsg(int fd, struct msghdr *m, int flags);
ssize_t __wrap_recvmsg(int fd, struct msghdr *m, int flags);
int __real_ppoll(struct pollfd *p, nfds_t nr, const struct timespec *t,
		 const sigset_t *set);
int __wrap_ppoll(struct pollfd *p, nfds_t nr, const struct timespec *t,
		 const sigset_t *set);

int __real_request_alloc(struct kvd_space *sp, uint32_t page_class, uint32_t nr,
			 uint32_t deadline_ms, handle_t *handles,
			 place_t *places);
int __wrap_request_alloc(struct kvd_space *sp, uint32_t page_class, uint32_t nr,
			 uint32_t deadline_ms, handle_t *handles,
			 place_t *places);

static _Thread_local bool counting; /* the manager has a thread of its own */
static _Thread_local unsigned nr_waits;
static bool lose;		/* the answer of the next request_alloc() */
static uint32_t tokens[2][N];

ssize_t __wrap_recvmsg(int fd, struct msghdr *m, int flags)
{
	nr_waits += counting && !(flags & MSG_DONTWAIT);
	return __real_recvmsg(fd, m, flags);
}

int __wrap_ppoll(struct pollfd *p, nfds_t nr, const struct timespec *t,
		 const sigset_t *set)
{
	nr_waits += counting && (!t || t->tv_sec || t->tv_nsec);
	return __real_ppoll(p, nr, t, set);
}

int __wrap_request_alloc(struct kvd_space *sp, uint32_t page_class, uint32_t nr,
			 uint32_t deadline_ms, handle_t *handles,
			 place_t *places)
{
	int r = __real_request_alloc(sp, page_class, nr, deadline_ms, handles,
				     places);

	if (!lose)
		return r;
	lose = false;
	conn_lost(sp->k);
	return -ENOTCONN;
}

static void come_back(struct toy *t)
{
	int tries = 0;

	while (kvd_process(t->k)) {
		CHECK(tries++ < 5000, "%s", kvd_error(t->k));
		usleep(1000);
	}
}

/*
 * Two requests go on, and one of them to its end: pages fill and are published
 * by nobody. The daemon is away for longer than a backoff or two.
 */
static void test_outage(struct manager *m)
{
	struct kvd_space_opts o;
	struct kvd_page pages[2 * N / TOY_PAGE];
	struct kvd_seq *seq, *freed;
	struct toy t, late;
	size_t hit;

	toy_opts(&o, 1);
	toy_open(&t, m->daemon.socket, &o);
	seq = toy_match(&t, tokens[0], N, &hit);
	freed = toy_match(&t, tokens[1], N, &hit);
	/* A stock is at hand. */
	CHECK(!kvd_page_alloc(t.sp, 0, 2 * N / TOY_PAGE, pages) &&
	      !kvd_page_free(t.sp, pages, 2 * N / TOY_PAGE), "%s",
	      kvd_error(t.k));
	manager_kill(m);
	counting = true;
	for (uint32_t i = 0; i < N; i++) {
		CHECK(!toy_run(&t, seq, tokens[0] + i, 1, 1, NULL) &&
		      !toy_run(&t, freed, tokens[1] + i, 1, 1, NULL), "%s",
		      kvd_error(t.k));
		CHECK(kvd_process(t.k) == -ENOTCONN, "a daemon");
		usleep(300);
	}
	kvd_seq_free(freed);
	CHECK(kvd_process(t.k) == -ENOTCONN, "a daemon");
	counting = false;
	CHECK(!nr_waits, "waited %u times", nr_waits);

	manager_again(m, NULL);
	come_back(&t);
	toy_open(&late, m->daemon.socket, &o);
	for (int i = 0; i < 2; i++) {
		kvd_seq_free(toy_match(&late, tokens[i], N, &hit));
		CHECK(hit == N, "%d: %zu tokens found", i, hit);
	}
	toy_close(&late);
	kvd_seq_free(seq);
	toy_close(&t);
	daemon_assert_idle(&m->daemon);
}

/* Who has not called since the daemon is back gives all back all the same. */
static void test_close(struct manager *m)
{
	struct kvd_space_opts o;
	struct kvd_seq *seq;
	struct toy t, late;
	size_t hit;

	toy_opts(&o, 2);
	toy_open(&t, m->daemon.socket, &o);
	seq = toy_match(&t, tokens[0], N, &hit);
	CHECK(!toy_run(&t, seq, tokens[0], 3, 1, NULL), "run");
	manager_kill(m);
	CHECK(!toy_run(&t, seq, tokens[0] + 3, TOY_PAGE, 1, NULL), "run");
	manager_again(m, NULL);
	toy_close(&t);
	daemon_assert_idle(&m->daemon);
	toy_open(&late, m->daemon.socket, &o);
	kvd_seq_free(toy_match(&late, tokens[0], N, &hit));
	CHECK(hit >= TOY_PAGE, "%zu tokens found", hit);
	toy_close(&late);
}

/* The answer to an allocation is lost: its pages are not. */
static void test_lost_answer(struct manager *m, bool restart)
{
	struct daemon_stat st;
	struct kvd_space_opts o;
	struct kvd_page page;
	struct toy t;
	int tries = 0;

	toy_opts(&o, 3);
	o.stock_bytes = 1; /* that is: none */
	toy_open(&t, m->daemon.socket, &o);
	lose = true;
	CHECK(!kvd_page_alloc(t.sp, 0, 1, &page), "%s", kvd_error(t.k));
	CHECK(!lose, "nothing was lost");
	if (restart) {
		manager_kill(m);
		manager_again(m, NULL);
		CHECK(!kvd_ping(t.k), "%s", kvd_error(t.k));
	}
	do {
		CHECK(tries++ < 1000, "%llu open, %llu quarantined",
		      (unsigned long long)st.open,
		      (unsigned long long)st.quarantined);
		daemon_stat(m->daemon.socket, &st);
		usleep(5000);
	} while (st.open != 1 || st.quarantined);
	CHECK(!kvd_page_free(t.sp, &page, 1), "%s", kvd_error(t.k));
	toy_close(&t);
	daemon_assert_idle(&m->daemon);
}

/* ---- a daemon that dies before it has answered ---- */

static void *hang_up(void *arg)
{
	int *fd = arg, nr = 0, conn;

	for (; nr < 3; nr++) {
		conn = accept(*fd, NULL, NULL);
		CHECK(conn >= 0, "accept: %s", strerror(errno));
		close(conn);
	}
	return NULL;
}

static void test_connect(const char *dir)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	struct kvd_connect_opts o = { .size = sizeof(o), .timeout_ms = 2000 };
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0), r;
	pthread_t thread;
	struct kvd *k;

	snprintf(a.sun_path, sizeof(a.sun_path), "%s/other", dir);
	CHECK(!bind(fd, (struct sockaddr *)&a, sizeof(a)) && !listen(fd, 9),
	      "%s", strerror(errno));
	CHECK(!pthread_create(&thread, NULL, hang_up, &fd), "thread");
	o.socket = a.sun_path;
	/* Refused three times, then nobody comes. */
	r = kvd_connect(&o, &k);
	CHECK(r == -ETIMEDOUT, "%s", strerror(-r));
	pthread_join(thread, NULL);
	close(fd);
	/* Where nobody listens that is said at once. */
	r = kvd_connect(&o, &k);
	CHECK(r == -ENOTCONN, "%s", strerror(-r));
	unlink(a.sun_path);
}

int main(void)
{
	struct manager m;
	uint64_t seed = toy_seed();

	toy_tokens(&seed, tokens[0], N);
	toy_tokens(&seed, tokens[1], N);
	manager_start(&m, NULL);
	test_outage(&m);
	test_close(&m);
	test_lost_answer(&m, false);
	test_lost_answer(&m, true);
	test_connect(m.daemon.dir);
	manager_stop(&m);
	return 0;
}
