// SPDX-License-Identifier: Apache-2.0
/*
 * test_mixed.c - many clients, all operations, some killed at any point.
 *
 *	net_mixed [SECONDS [CLIENTS [SEED]]]
 *
 * Clients share two spaces and a small range of prefixes, so that they find,
 * replace and reclaim each other's pages in a pool that is too small for
 * all. Some leave without a bye, some are killed, and start again. In the end
 * the walker has to be content and everything given back.
 */
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "tests/support/check.h"
#include "tests/support/daemon.h"
#include "tests/support/raw.h"

#define MAX_CLIENTS 256
#define MAX_HELD 256
#define NR_PREFIXES 64

struct rng {
	uint64_t state;
};

struct worker {
	struct rng rng;
	int fd;
	uint32_t space[2];
	uint64_t held[MAX_HELD];	/* one hold each */
	unsigned nr_held;
};

static uint32_t roll(struct rng *r, uint32_t below)
{
	r->state ^= r->state << 13;
	r->state ^= r->state >> 7;
	r->state ^= r->state << 17;
	return (uint32_t)(r->state >> 33) % below;
}

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* ---- a client ---- */

/* What the daemon may refuse at any time, without anybody being wrong. */
static bool may_refuse(int r)
{
	return r == -ENOSPC || r == -ESTALE || r == -EINVAL;
}

static uint32_t any_space(struct worker *w)
{
	return w->space[roll(&w->rng, 2)];
}

static void do_alloc(struct worker *w)
{
	uint32_t nr = 1 + roll(&w->rng, 16);
	int r;

	if (w->nr_held + nr > MAX_HELD)
		return;
	r = raw_alloc(w->fd, any_space(w), nr, roll(&w->rng, 8),
		      w->held + w->nr_held, NULL);
	CHECK(r == 0 || r == -ENOSPC, "alloc: %d", r);
	if (r == 0)
		w->nr_held += nr;
}

static void do_release(struct worker *w)
{
	uint32_t nr = roll(&w->rng, w->nr_held + 1);
	int r;

	if (nr == 0)
		return;
	r = raw_release(w->fd, w->held + w->nr_held - nr, nr);
	CHECK(r == 0, "release: %d", r);
	w->nr_held -= nr;
}

/* Of the wrong space half of the time; of one prefix with other clients. */
static void do_publish(struct worker *w)
{
	Kvd__PublishRequest req = KVD__PUBLISH_REQUEST__INIT;
	Kvd__Block block = KVD__BLOCK__INIT, *blocks = &block;
	uint8_t parent[16] = { 0 };
	Kvd__PublishReply *reply;
	uint32_t tokens[32] = { 0 };
	uint64_t h;
	int r;

	if (w->nr_held == 0 || w->nr_held == MAX_HELD)
		return;
	h = w->held[roll(&w->rng, w->nr_held)];
	tokens[0] = roll(&w->rng, NR_PREFIXES);
	block.parent.data = parent;
	block.parent.len = 16;
	block.n_tokens = 32;
	block.tokens = tokens;
	block.n_handles = 1;
	block.handles = &h;
	req.space = any_space(w);
	req.n_blocks = 1;
	req.blocks = &blocks;
	req.private_ = roll(&w->rng, 8) == 0;
	r = raw_call(w->fd, WIRE_PUBLISH, &req.base,
		     &kvd__publish_reply__descriptor, &reply, NULL);
	CHECK(r == 0 || may_refuse(r), "publish: %d", r);
	if (r < 0)
		return;
	if (reply->handles[0] != h) /* one more hold, on the page kept */
		w->held[w->nr_held++] = reply->handles[0];
	kvd__publish_reply__free_unpacked(reply, NULL);
}

static void do_match(struct worker *w)
{
	uint64_t h;
	int r;

	if (w->nr_held == 0 || w->nr_held == MAX_HELD)
		return;
	h = w->held[roll(&w->rng, w->nr_held)];
	r = raw_match(w->fd, any_space(w), &h, 1);
	CHECK(r == 0 || r == 1, "match: %d", r);
	if (r == 1)
		w->held[w->nr_held++] = h;
}

static void do_reference(struct worker *w)
{
	Kvd__ReferenceRequest req = KVD__REFERENCE_REQUEST__INIT;
	uint64_t h;
	int r;

	if (w->nr_held == 0 || w->nr_held == MAX_HELD)
		return;
	h = w->held[roll(&w->rng, w->nr_held)];
	req.n_handles = 1;
	req.handles = &h;
	r = raw_call(w->fd, WIRE_REFERENCE, &req.base, NULL, NULL, NULL);
	CHECK(r == 0 || r == -ESTALE, "reference: %d", r); /* an open page */
	if (r == 0)
		w->held[w->nr_held++] = h;
}

static void do_wrong(struct worker *w)
{
	uint64_t h = (uint64_t)roll(&w->rng, 10) << 32 | roll(&w->rng, 2000);
	unsigned i;
	int r;

	if (w->nr_held == MAX_HELD)
		return;
	for (i = 0; i < w->nr_held; i++)
		if (w->held[i] == h)
			return;
	CHECK(raw_release(w->fd, &h, 1) == -ESTALE, "release of nothing");
	r = raw_claim(w->fd, any_space(w), h);
	CHECK(r >= 0, "claim: %d", r);
	if (r == 1) /* another client's sealed page: a hold like any other */
		w->held[w->nr_held++] = h;
}

static void open_worker(struct worker *w, const char *socket)
{
	int i, r;

	w->fd = raw_open(socket);
	for (i = 0; i < 2; i++) {
		r = raw_open_space(w->fd, (uint8_t)i);
		CHECK(r > 0, "space: %d", r);
		w->space[i] = (uint32_t)r;
	}
	w->nr_held = 0;
}

static void run_worker(const char *socket, uint64_t seed, int64_t end)
{
	static void (*const ops[])(struct worker *w) = {
		do_alloc, do_alloc, do_release, do_publish, do_publish,
		do_match, do_reference, do_wrong
	};
	struct worker w = { .rng = { seed * 0x9e3779b97f4a7c15ULL | 1 } };

	open_worker(&w, socket);
	while (now_ms() < end) {
		ops[roll(&w.rng, 8)](&w);
		if (roll(&w.rng, 500) == 0) {
			CHECK(raw_bye(w.fd) == 0, "bye");
			close(w.fd);
			open_worker(&w, socket);
		}
	}
	if (roll(&w.rng, 2))
		raw_bye(w.fd);
}

/* ---- all of them ---- */

static pid_t start_worker(const char *socket, uint64_t seed, int64_t end)
{
	pid_t pid = fork();

	CHECK(pid >= 0, "fork: %s", strerror(errno));
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		run_worker(socket, seed, end);
		_exit(0);
	}
	return pid;
}

static void end_worker(pid_t pid, int sig)
{
	int status;

	if (sig)
		kill(pid, sig);
	CHECK(waitpid(pid, &status, 0) == pid, "%s", strerror(errno));
	CHECK(status == 0 || status == sig, "a client failed: %#x", status);
}

int main(int argc, char **argv)
{
	static const char *const args[] = { "--pool", "24M", NULL };
	unsigned seconds = argc > 1 ? (unsigned)atoi(argv[1]) : 3;
	unsigned nr = argc > 2 ? (unsigned)atoi(argv[2]) : 64, i, killed = 0;
	int64_t end = now_ms() + seconds * 1000;
	pid_t pids[MAX_CLIENTS];
	struct daemon_stat st;
	struct rng rng;
	struct daemon d;

	CHECK(nr > 0 && nr <= MAX_CLIENTS, "%u clients", nr);
	CHECK(getrandom(&rng, sizeof(rng), 0) == sizeof(rng), "seed");
	if (argc > 3)
		rng.state = strtoull(argv[3], NULL, 0);
	rng.state |= 1;
	printf("seed %#llx\n", (unsigned long long)rng.state);
	fflush(stdout);
	daemon_start(&d, args);
	for (i = 0; i < nr; i++)
		pids[i] = start_worker(d.socket, rng.state + i, end);
	while (now_ms() < end) {
		usleep(20000);
		i = roll(&rng, nr);
		end_worker(pids[i], SIGKILL);
		killed++;
		pids[i] = start_worker(d.socket, rng.state + nr + killed, end);
		daemon_stat(d.socket, &st); /* verifies */
	}
	for (i = 0; i < nr; i++)
		end_worker(pids[i], 0);
	daemon_assert_idle(&d);
	daemon_stat(d.socket, &st);
	printf("%u killed; %llu published, %llu evicted\n", killed,
	       (unsigned long long)st.published,
	       (unsigned long long)st.evicted);
	daemon_stop(&d);
	return 0;
}
