// SPDX-License-Identifier: Apache-2.0
/*
 * elastic_test.c - a pool is made ten times larger and smaller under load.
 *
 * Workers share prompts and compare all that attention returns with what they
 * get from a daemon of which nobody changes anything. None of them may fail,
 * and no allocation wait as long as it may. When the pool is small it really
 * is: what was given back has been unmapped by all of them.
 *
 *	client_elastic [DEVICE [MIB]]
 *
 * It is made smaller when MIB of it are used, 72 unless said; on a GPU once.
 */
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "client-lib/call.h"
#include "proto/kvd.pb-c.h"
#include "tests/client/toy.h"
#include "tests/support/check.h"
#include "tests/support/daemon.h"

#define MIB	   (1ull << 20)
#define SMALL	   (8 * MIB)
#define LARGE	   (80 * MIB)
#define NR_WORKERS 4
#define NR_OFTEN  50	/* prompts that are asked for again and again */
#define NR_PROMPTS 20000
#define COMMON	   96u		/* tokens of a prompt, half of all are alike */
#define MOST	   320u
#define WAIT_S	   100

static const char *device;	/* NULL: the host's memory */
static uint64_t grown = 72 * MIB; /* as large as it has to get */
static int cycles = 3, enough = 40;
static struct daemon elastic, quiet;
static struct kvd_space_opts opts;

/* Shared with the workers. */
static struct {
	_Atomic bool stop;
	_Atomic uint64_t nr_answers, nr_hit, nr_tokens;
} *all;

/* ---- workers ---- */

static size_t make_prompt(uint32_t *tokens, uint64_t nr)
{
	uint64_t common = nr % 16 + 1, own = nr * 7919 + 12345;

	toy_tokens(&common, tokens, COMMON);
	toy_tokens(&own, tokens + COMMON, MOST - COMMON);
	return COMMON + toy_random(&own) % (MOST - COMMON);
}

static void check_prompt(struct toy *t, struct toy *ref, uint64_t nr,
			 float *out, float *want)
{
	struct kvd_seq_opts o = { .size = sizeof(o), .no_publish = 1 };
	uint32_t tokens[MOST];
	size_t n = make_prompt(tokens, nr), floats = toy_out_floats(t), hit;
	struct kvd_seq *seq, *alone;

	seq = toy_match(t, tokens, n - 1, &hit);
	CHECK(!toy_run(t, seq, tokens + hit, n - hit, 64, out), "%s",
	      kvd_error(t->k));
	CHECK(!kvd_seq_new(ref->sp, &o, &alone) &&
	      !toy_run(ref, alone, tokens, n, n, want), "%s",
	      kvd_error(ref->k));
	CHECK(!memcmp(out, want + hit * floats,
		      (n - hit) * floats * sizeof(float)),
	      "prompt %llu: attention is not what was appended, after %zu of "
	      "%zu tokens found", (unsigned long long)nr, hit, n);
	kvd_seq_free(seq);
	kvd_seq_free(alone);
	all->nr_answers++;
	all->nr_hit += hit;
	all->nr_tokens += n;
}

static void worker(uint64_t seed)
{
	struct toy t, ref;
	float *out, *want;

	if (device)
		toy_on_cuda(device);
	toy_open(&t, elastic.socket, &opts);
	toy_open(&ref, quiet.socket, &opts);
	out = malloc(MOST * toy_out_floats(&t) * sizeof(float));
	want = malloc(MOST * toy_out_floats(&t) * sizeof(float));
	CHECK(out && want, "out of memory");
	while (!all->stop) {
		uint64_t of = toy_random(&seed) % 2 ? NR_OFTEN : NR_PROMPTS;

		check_prompt(&t, &ref, toy_random(&seed) % of, out, want);
		CHECK(!kvd_process(t.k), "the connection is lost");
	}
	free(out);
	free(want);
	toy_close(&t);
	toy_close(&ref);
}

static void workers_start(uint64_t seed, pid_t *pids)
{
	for (uint64_t i = 0; i < NR_WORKERS; i++) {
		pids[i] = fork();
		CHECK(pids[i] >= 0, "fork");
		if (!pids[i]) {
			worker(seed + i);
			exit(0);
		}
	}
}

/* None has ended by itself. */
static void workers_look(const pid_t *pids)
{
	int status;

	for (int i = 0; i < NR_WORKERS; i++)
		CHECK(waitpid(pids[i], &status, WNOHANG) == 0,
		      "worker %d ended: %#x", i, status);
}

/* ---- the pool ---- */

/* What it is like, after another size unless @resize is 0. */
static Kvd__PoolReply pool(struct kvd *k, uint64_t resize)
{
	Kvd__PoolRequest m = KVD__POOL_REQUEST__INIT;
	struct call c = { .type = WIRE_POOL, .request = &m.base,
			  .want = &kvd__pool_reply__descriptor };
	Kvd__PoolReply r;

	m.resize = resize;
	CHECK(!call(k, &c), "%s", kvd_error(k));
	r = *(const Kvd__PoolReply *)c.reply;
	call_end(&c);
	return r;
}

static double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Until its segments are of @from to @to bytes. Return: how long it took. */
static double wait_for(struct kvd *k, const pid_t *pids, uint64_t from,
		       uint64_t to)
{
	double begin = seconds();

	for (;;) {
		Kvd__PoolReply p = pool(k, 0);

		if (p.segments >= from && p.segments <= to)
			return seconds() - begin;
		CHECK(seconds() < begin + WAIT_S, "%llu bytes of segments, "
		      "%llu draining, %llu revoked",
		      (unsigned long long)p.segments,
		      (unsigned long long)p.draining,
		      (unsigned long long)p.revoked);
		workers_look(pids);
		usleep(5000);
	}
}

static void cycle(struct kvd *k, const pid_t *pids)
{
	struct daemon_stat st;
	double down, up;

	pool(k, LARGE);
	up = wait_for(k, pids, grown, LARGE);
	pool(k, SMALL);
	down = wait_for(k, pids, 0, SMALL);
	daemon_stat(elastic.socket, &st);
	printf("up in %.2f s, down in %.2f s; %llu pages moved, %llu evicted; "
	       "%llu answers, %.0f %% of tokens found\n", up, down,
	       (unsigned long long)pool(k, 0).moved,
	       (unsigned long long)st.evicted,
	       (unsigned long long)all->nr_answers,
	       100.0 * (double)all->nr_hit / (double)all->nr_tokens);
	fflush(stdout);
	CHECK(st.total * 64 * 1024 <= SMALL, "more pages than there is room");
	/* For a while it is small, and works. */
	for (uint64_t n = all->nr_answers;
	     all->nr_answers < n + (uint64_t)enough;) {
		workers_look(pids);
		usleep(5000);
	}
}

/* 64 KiB a page: 4 layers of one head of 128 and 128 dimensions. */
static void options(void)
{
	toy_opts(&opts, 3);
	opts.geometry.groups[0].nr_layers = 4;
	opts.geometry.groups[0].nr_kv_heads = 1;
	opts.geometry.groups[0].k_dim = 128;
	opts.geometry.groups[0].v_dim = 128;
}

int main(int argc, char **argv)
{
	struct kvd_connect_opts c = { .size = sizeof(c) };
	pid_t pids[NR_WORKERS];
	uint64_t seed = toy_seed(), moved;
	struct kvd *k;
	int status;

	all = mmap(NULL, sizeof(*all), PROT_READ | PROT_WRITE,
		   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(all != MAP_FAILED, "mmap");
	options();
	if (argc > 2)
		grown = (uint64_t)atoi(argv[2]) * MIB;
	if (argc > 1 && strcmp(argv[1], "host")) {
		device = argv[1];
		cycles = 1;
		enough = 4;
	}
	daemon_start(&quiet, (const char *[]){
			"--pool", "64M", "--device",
			device ? device : "host", NULL });
	daemon_start(&elastic, (const char *[]){
			"--pool", "8M", "--segment", "2M", "--set",
			"pool-max=80M", "--device",
			device ? device : "host", NULL });
	c.socket = elastic.socket;
	CHECK(!kvd_connect(&c, &k), "connect");
	workers_start(seed, pids);
	for (int i = 0; i < cycles; i++)
		cycle(k, pids);
	moved = pool(k, 0).moved;
	CHECK(moved || device, "no page has moved");
	all->stop = true;
	for (int i = 0; i < NR_WORKERS; i++) {
		CHECK(waitpid(pids[i], &status, 0) == pids[i], "waitpid");
		CHECK(WIFEXITED(status) && !WEXITSTATUS(status),
		      "worker %d: %#x", i, status);
	}
	kvd_close(k);
	daemon_assert_idle(&elastic);
	daemon_stop(&elastic);
	daemon_stop(&quiet);
	return 0;
}
