// SPDX-License-Identifier: Apache-2.0
/*
 * survive_test.c - the daemon is killed again and again under working clients.
 *
 *	survive_test [KILLS]
 *	survive_test client SOCKET SEED PROMPTS	(until SIGTERM)
 *
 * None of the clients may see anything but a pause: no error, no stale
 * sequence, and attention that is byte for byte what it would be. In the end
 * nothing is left.
 */
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "tests/client/toy.h"
#include "tests/support/check.h"
#include "tests/support/daemon.h"
#include "tests/support/manager.h"

#define N 200u
#define PROMPTS 4u
#define CLIENTS 6

static struct toy t;
static uint32_t prompts[PROMPTS][N];
static float *refs[PROMPTS];
static volatile sig_atomic_t end;

static void on_term(int sig)
{
	end = 1;
}

static void ok(int r, const char *what)
{
	CHECK(!r, "%s: %s: %s", what, strerror(-r), kvd_error(t.k));
}

static void make_references(uint64_t seed)
{
	struct kvd_seq_opts o = { .size = sizeof(o), .no_publish = 1 };
	struct kvd_seq *seq;

	for (uint32_t p = 0; p < PROMPTS; p++) {
		toy_tokens(&seed, prompts[p], N);
		refs[p] = malloc(N * toy_out_floats(&t) * sizeof(float));
		ok(kvd_seq_new(t.sp, &o, &seq), "new");
		ok(toy_run(&t, seq, prompts[p], N, N, refs[p]), "reference");
		kvd_seq_free(seq);
	}
}

/* One request, and a fork of it that goes its own way. */
static bool serve(uint64_t *seed, float *out)
{
	uint32_t p = (uint32_t)(toy_random(seed) % PROMPTS);
	size_t all = toy_out_floats(&t), hit;
	struct kvd_seq *seq = toy_match(&t, prompts[p], N - 1, &hit), *child;

	ok(toy_run(&t, seq, prompts[p] + hit, N - hit,
		   1 + toy_random(seed) % 20, out), "run");
	CHECK(!memcmp(out, refs[p] + hit * all,
		      (N - hit) * all * sizeof(float)), "differs");
	ok(kvd_fork(seq, NULL, &child), "fork");
	ok(kvd_truncate(child, N - 4, NULL), "truncate");
	ok(toy_run(&t, child, prompts[p], 60, 7, NULL), "run a fork");
	kvd_seq_free(child);
	kvd_seq_free(seq);
	return hit != 0;
}

static void client(const char *socket, uint64_t seed, uint64_t prompt_seed)
{
	struct kvd_space_opts o;
	uint64_t nr = 0, hits = 0;
	float *out;

	signal(SIGTERM, on_term);
	toy_opts_two_groups(&o, 1, 65);
	toy_open(&t, socket, &o);
	make_references(prompt_seed);
	out = malloc(N * toy_out_floats(&t) * sizeof(float));
	for (; !end; nr++)
		hits += serve(&seed, out);
	ok(kvd_ping(t.k), "ping");
	printf("%llu requests, %llu with a hit\n", (unsigned long long)nr,
	       (unsigned long long)hits);
	CHECK(hits + 8 * PROMPTS > nr, "published pages were lost");
	toy_close(&t);
	free(out);
	for (uint32_t p = 0; p < PROMPTS; p++)
		free(refs[p]);
}

static pid_t spawn(const char *socket, uint64_t seed, uint64_t prompt_seed)
{
	char a[32], b[32];
	pid_t pid = fork();

	CHECK(pid >= 0, "fork");
	if (pid)
		return pid;
	snprintf(a, sizeof(a), "%llu", (unsigned long long)seed);
	snprintf(b, sizeof(b), "%llu", (unsigned long long)prompt_seed);
	execl("/proc/self/exe", "survive_test", "client", socket, a, b,
	      (char *)NULL);
	abort();
}

static void kill_often(struct manager *m, uint64_t *seed, int kills)
{
	struct daemon_stat st;

	for (int i = 0; i < kills; i++) {
		usleep((useconds_t)(toy_random(seed) % 150000));
		manager_kill(m);
		usleep((useconds_t)(toy_random(seed) % 20000));
		manager_again(m, NULL);
		daemon_stat(m->daemon.socket, &st); /* it verifies */
	}
}

int main(int argc, char **argv)
{
	int kills = argc == 2 ? atoi(argv[1]) : 20, status;
	struct manager m;
	uint64_t seed, prompt_seed;
	pid_t pids[CLIENTS];

	if (argc == 5) {
		client(argv[2], strtoull(argv[3], NULL, 10),
		       strtoull(argv[4], NULL, 10));
		return 0;
	}
	seed = toy_seed();
	prompt_seed = toy_random(&seed);
	manager_start(&m, NULL);
	for (int i = 0; i < CLIENTS; i++)
		pids[i] = spawn(m.daemon.socket, toy_random(&seed),
				prompt_seed);
	kill_often(&m, &seed, kills);
	for (int i = 0; i < CLIENTS; i++) {
		kill(pids[i], SIGTERM);
		CHECK(waitpid(pids[i], &status, 0) == pids[i] &&
		      WIFEXITED(status) && !WEXITSTATUS(status),
		      "client %d: status %d", i, status);
	}
	daemon_assert_idle(&m.daemon);
	manager_stop(&m);
	return 0;
}
