// SPDX-License-Identifier: Apache-2.0
/*
 * kill_test.c - workers die by SIGKILL at random points, one after another.
 *
 * After each the books balance and nothing of its is left; the pages that
 * were published still match, and attention over them gives the same bytes.
 *
 *	kill_test [WORKERS]
 *	kill_test worker SOCKET SEED	(what is killed)
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "tests/client/toy.h"
#include "tests/support/check.h"
#include "tests/support/daemon.h"

#define N 200u

/* Does all that a worker does, until it is killed. */
static void worker(const char *socket, uint64_t seed)
{
	struct kvd_space_opts o;
	uint32_t tokens[N];
	struct toy t;

	toy_opts_two_groups(&o, 1, 50);
	toy_open(&t, socket, &o);
	for (;;) {
		uint64_t prompt = 1 + toy_random(&seed) % 4;
		struct kvd_seq *seq, *child;
		struct kvd_page pages[20];
		size_t hit, n = 1 + toy_random(&seed) % N;

		toy_tokens(&prompt, tokens, N);
		seq = toy_match(&t, tokens, n - 1, &hit);
		toy_run(&t, seq, tokens + hit, n - hit,
			1 + toy_random(&seed) % 64, NULL);
		if (!kvd_fork(seq, NULL, &child)) {
			toy_run(&t, child, tokens, 40, 9, NULL);
			kvd_truncate(child, toy_random(&seed) % n, NULL);
		}
		if (!kvd_page_alloc(t.sp, 1, 20, pages))
			kvd_page_free(t.sp, pages, 20);
		kvd_seq_free(seq);
	}
}

static pid_t spawn(const char *self, const char *socket, uint64_t seed)
{
	char text[32];
	pid_t pid = fork();

	CHECK(pid >= 0, "fork");
	if (pid)
		return pid;
	snprintf(text, sizeof(text), "%llu", (unsigned long long)seed);
	execl(self, self, "worker", socket, text, (char *)NULL);
	abort();
}

static void sleep_us(uint64_t us)
{
	struct timespec ts = { (time_t)(us / 1000000),
			       (long)(us % 1000000 * 1000) };

	nanosleep(&ts, NULL);
}

struct probe {
	struct toy t;
	uint32_t tokens[N];
	float *ref;
};

static void probe_open(struct probe *p, const char *socket)
{
	struct kvd_space_opts o;
	struct kvd_seq *seq;
	uint64_t prompt = 99;

	toy_opts_two_groups(&o, 1, 50);
	toy_open(&p->t, socket, &o);
	toy_tokens(&prompt, p->tokens, N);
	p->ref = calloc(N, toy_out_floats(&p->t) * sizeof(float));
	CHECK(!kvd_seq_new(p->t.sp, NULL, &seq), "seq");
	CHECK(!toy_run(&p->t, seq, p->tokens, N, N, p->ref), "run");
	kvd_seq_free(seq);
}

/* What was published at the beginning still matches, byte for byte. */
static void probe_check(struct probe *p)
{
	size_t hit, all = toy_out_floats(&p->t);
	float *out = calloc(N, all * sizeof(float));
	struct kvd_seq *seq = toy_match(&p->t, p->tokens, N - 1, &hit);

	CHECK(hit == 192, "hit %zu", hit);
	CHECK(!toy_run(&p->t, seq, p->tokens + hit, N - hit, N, out), "run");
	CHECK(!memcmp(out, p->ref + hit * all, (N - hit) * all *
		      sizeof(float)), "published pages have changed");
	kvd_seq_free(seq);
	free(out);
}

/* Waits until the dead worker's pages are back; the books balance. */
static void settle(const char *socket)
{
	struct daemon_stat st;
	int tries = 0;

	do {
		daemon_stat(socket, &st);
		if (st.nr_clients == 1 && !st.quarantined)
			return;
		sleep_us(5000);
	} while (tries++ < 2000);
	CHECK(0, "%u clients, %llu pages quarantined", st.nr_clients,
	      (unsigned long long)st.quarantined);
}

int main(int argc, char **argv)
{
	int nr = argc == 2 ? atoi(argv[1]) : 200;
	struct daemon_stat st;
	struct daemon d;
	struct probe p;
	uint64_t seed;

	if (argc == 4) {
		worker(argv[2], strtoull(argv[3], NULL, 10));
		return 0;
	}
	seed = toy_seed();
	daemon_start(&d, NULL);
	probe_open(&p, d.socket);
	for (int i = 0; i < nr; i++) {
		pid_t pid = spawn("/proc/self/exe", d.socket,
				  toy_random(&seed));

		sleep_us(toy_random(&seed) % 60000);
		kill(pid, SIGKILL);
		CHECK(waitpid(pid, NULL, 0) == pid, "waitpid");
		settle(d.socket);
		probe_check(&p);
	}
	daemon_stat(d.socket, &st);
	CHECK(st.published > 20, "the workers did nothing");
	toy_close(&p.t);
	free(p.ref);
	daemon_assert_idle(&d);
	daemon_stop(&d);
	return 0;
}
