// SPDX-License-Identifier: Apache-2.0
/*
 * tiers_test.c - what the pool has given up comes back from a tier.
 *
 * A prompt is computed, others push it out of a pool of 4 MiB, and it is asked
 * for again: what it attends over is what it was, byte for byte, or it is
 * computed anew.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "tests/client/toy.h"
#include "tests/support/check.h"
#include "tests/support/daemon.h"

#define N     400u
#define HIT   384u
#define LONG  10000u
#define FULL  60	/* prompts that fill the pool more than once */

static uint64_t seed;
static uint32_t tokens[N];

static const char *const memory_args[] = { "--pool", "4M", "--segment", "2M",
					   "--set", "policy=lru",
					   "--set", "tier-memory=64M", NULL };

static float *outputs(struct toy *t)
{
	float *out = calloc(N, toy_out_floats(t) * sizeof(float));

	CHECK(out, "out of memory");
	return out;
}

static void open_toy(struct toy *t, const struct daemon *d)
{
	struct kvd_space_opts o;

	toy_opts(&o, 1);
	toy_open(t, d->socket, &o);
}

/* The prompt, computed; what was found of it is not. */
static void compute(struct toy *t, struct kvd_seq *seq, size_t hit, float *out)
{
	size_t all = toy_out_floats(t);

	CHECK(!toy_run(t, seq, tokens + hit, N - hit, 50, out + hit * all),
	      "%s", kvd_error(t->k));
	kvd_seq_free(seq);
}

/* Others' prompts, until nothing of it is in the pool. */
static void push_out(struct toy *t)
{
	uint32_t other[N];
	struct kvd_seq *seq;
	size_t hit = N;

	for (int i = 0; i < FULL; i++) {
		toy_tokens(&seed, other, N);
		seq = toy_match(t, other, N, &hit);
		CHECK(!toy_run(t, seq, other, N, N, NULL), "%s",
		      kvd_error(t->k));
		kvd_seq_free(seq);
	}
	seq = toy_match(t, tokens, N, &hit);
	CHECK(!hit, "it is there still: %zu", hit);
	kvd_seq_free(seq);
}

static struct kvd_seq *match_wait(struct toy *t, size_t *ret_hit)
{
	struct kvd_seq *seq;

	CHECK(!kvd_seq_new(t->sp, NULL, &seq), "seq");
	CHECK(!kvd_seq_match_wait(seq, tokens, N, LONG, ret_hit), "%s",
	      kvd_error(t->k));
	return seq;
}

static void same(struct toy *t, const float *a, const float *b, size_t from)
{
	size_t all = toy_out_floats(t);

	CHECK(!memcmp(a + from * all, b + from * all,
		      (N - from) * all * sizeof(float)), "outputs differ");
}

/* Computes the prompt, and has it pushed out. Return: what it gave. */
static float *prepare(struct toy *t)
{
	float *ref = outputs(t);
	struct kvd_seq *seq;
	size_t hit;

	toy_tokens(&seed, tokens, N);
	seq = toy_match(t, tokens, N, &hit);
	CHECK(!hit, "new");
	compute(t, seq, 0, ref);
	push_out(t);
	return ref;
}

/* Goes on with the prompt, with what was found of it, as without. */
static void check(struct toy *t, struct kvd_seq *seq, size_t hit,
		  const float *ref)
{
	float *out = outputs(t);

	compute(t, seq, hit, out);
	same(t, out, ref, hit);
	free(out);
}

/* Waits for what a match says is on its way. */
static void test_memory(void)
{
	struct kvd_seq *seq;
	struct daemon d;
	struct toy t;
	size_t hit, coming;
	float *ref;
	int r;

	daemon_start(&d, memory_args);
	open_toy(&t, &d);
	ref = prepare(&t);
	CHECK(!kvd_seq_new(t.sp, NULL, &seq), "seq");
	r = kvd_seq_match_begin(seq, tokens, N, LONG, &hit, &coming);
	CHECK(r == -EAGAIN && hit == 0 && coming == HIT,
	      "%d: %zu here, %zu on their way", r, hit, coming);
	while (r == -EAGAIN) {
		struct pollfd p = { .fd = kvd_fd(t.k), .events = POLLIN };

		CHECK(poll(&p, 1, LONG) == 1, "nothing comes");
		r = kvd_seq_match_next(seq, &hit, &coming);
	}
	CHECK(!r && hit == HIT && !coming, "%d: %zu", r, hit);
	check(&t, seq, hit, ref);
	/* And all over, some times. */
	for (int i = 0; i < 3; i++) {
		push_out(&t);
		seq = match_wait(&t, &hit);
		CHECK(hit == HIT, "hit %zu", hit);
		check(&t, seq, hit, ref);
	}
	toy_close(&t);
	daemon_assert_idle(&d);
	daemon_stop(&d);
	free(ref);
}

/* Another process of the tenant's waits for the same: both have it. */
static void test_two(void)
{
	struct kvd_seq *one, *two;
	struct daemon d;
	struct toy t, u;
	size_t hit, coming;
	float *ref;
	int r, s;

	daemon_start(&d, memory_args);
	open_toy(&t, &d);
	open_toy(&u, &d);
	ref = prepare(&t);
	CHECK(!kvd_seq_new(t.sp, NULL, &one), "seq");
	CHECK(!kvd_seq_new(u.sp, NULL, &two), "seq");
	r = kvd_seq_match_begin(one, tokens, N, LONG, &hit, &coming);
	s = kvd_seq_match_begin(two, tokens, N, LONG, &hit, &coming);
	CHECK(r == -EAGAIN && (s == -EAGAIN || hit == HIT), "%d %d", r, s);
	while (s == -EAGAIN) {
		struct pollfd p = { .fd = kvd_fd(u.k), .events = POLLIN };

		CHECK(poll(&p, 1, LONG) == 1, "nothing comes");
		s = kvd_seq_match_next(two, &hit, &coming);
	}
	CHECK(!s && hit == HIT, "%d: %zu", s, hit);
	check(&u, two, hit, ref);
	kvd_seq_free(one); /* its wait goes with it */
	toy_close(&t);
	toy_close(&u);
	daemon_assert_idle(&d);
	daemon_stop(&d);
	free(ref);
}

/* ---- a file ---- */

struct filed {
	struct daemon d;
	char set[200], path[160];
	const char *args[11];
};

/* The file is beside the daemon's directory, which may be removed. */
static void filed_args(struct filed *f, const char *path)
{
	static const char *const words[] = {
		"--pool", "4M", "--segment", "2M", "--set", "", "--set",
		"tier-file-size=64M", "--set", "policy=lru", NULL
	};

	memcpy(f->args, words, sizeof(words));
	snprintf(f->path, sizeof(f->path), "%s", path);
	snprintf(f->set, sizeof(f->set), "tier-file=%s", path);
	f->args[5] = f->set;
}

static void filed_start(struct filed *f)
{
	char path[160];

	snprintf(path, sizeof(path), "/tmp/kvd-tiers-test-%d", (int)getpid());
	unlink(path);
	filed_args(f, path);
	daemon_start(&f->d, f->args);
}

/* The log of the daemon has @text, in ten seconds. */
static void log_has(const struct daemon *d, const char *text)
{
	static char log[1 << 16];

	for (int ms = 0; ms < 10000; ms += 20) {
		int fd = open(d->log, O_RDONLY | O_CLOEXEC);
		ssize_t n = read(fd, log, sizeof(log) - 1);

		close(fd);
		log[n < 0 ? 0 : n] = '\0';
		if (strstr(log, text))
			return;
		usleep(20000);
	}
	CHECK(0, "the log does not say: %s", text);
}

/* What is written now is there. */
static void wait_written(const struct filed *f)
{
	struct stat a = { .st_size = 0 }, b;

	for (int i = 0; i < 100; i++) {
		usleep(100000);
		CHECK(!stat(f->path, &b), "no file");
		if (b.st_size && b.st_size == a.st_size)
			return;
		a = b;
	}
}

static void test_file(void)
{
	struct kvd_seq *seq;
	struct filed f;
	struct stat st;
	struct toy t;
	size_t hit;
	float *ref;

	filed_start(&f);
	open_toy(&t, &f.d);
	ref = prepare(&t);
	wait_written(&f);
	CHECK(!stat(f.path, &st) && (st.st_mode & 0777) == 0600, "mode");
	seq = match_wait(&t, &hit);
	CHECK(hit == HIT, "hit %zu", hit);
	check(&t, seq, hit, ref);
	toy_close(&t);

	/* Killed, with all that was in the pool. */
	daemon_kill(&f.d);
	daemon_start_in(&f.d, f.args);
	open_toy(&t, &f.d);
	do { /* until the file is read */
		seq = match_wait(&t, &hit);
		if (!hit)
			kvd_seq_free(seq);
	} while (!hit);
	CHECK(hit == HIT, "hit %zu after a restart", hit);
	check(&t, seq, hit, ref);
	toy_close(&t);
	daemon_assert_idle(&f.d);
	daemon_stop(&f.d);
	unlink(f.path);
	free(ref);
}

/* Every 700th byte of it is another: nothing of it is served as it was. */
static void spoil(const char *path)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);
	struct stat st;
	uint8_t b;

	CHECK(fd >= 0 && !fstat(fd, &st), "no file");
	for (off_t at = 4096 + 300; at < st.st_size; at += 700) {
		CHECK(pread(fd, &b, 1, at) == 1, "read");
		b ^= 0x55;
		CHECK(pwrite(fd, &b, 1, at) == 1, "write");
	}
	close(fd);
}

static void test_corrupt(void)
{
	struct kvd_seq *seq;
	struct filed f;
	struct toy t;
	size_t hit;
	float *ref;

	filed_start(&f);
	open_toy(&t, &f.d);
	ref = prepare(&t);
	wait_written(&f);
	spoil(f.path);
	seq = match_wait(&t, &hit);
	CHECK(!hit, "hit %zu of a file that is not what was written", hit);
	check(&t, seq, hit, ref);
	toy_close(&t);
	daemon_assert_idle(&f.d);
	daemon_stop(&f.d);
	unlink(f.path);
	free(ref);
}

/* ---- places that are none ---- */

static void run_without(struct filed *f, const char *says)
{
	struct kvd_seq *seq;
	struct toy t;
	size_t hit;
	float *ref;

	daemon_start(&f->d, f->args);
	open_toy(&t, &f->d);
	ref = prepare(&t);
	seq = match_wait(&t, &hit);
	CHECK(!hit, "hit %zu of no tier", hit);
	check(&t, seq, hit, ref);
	log_has(&f->d, says);
	toy_close(&t);
	daemon_assert_idle(&f->d);
	daemon_stop(&f->d);
	free(ref);
}

static void test_no_place(void)
{
	struct filed f;

	filed_args(&f, "/proc/kvd-tier");
	run_without(&f, "tier: /proc/kvd-tier: ");
}

static void test_full(void)
{
	struct filed f;
	char path[100];

	snprintf(path, sizeof(path), "/tmp/kvd-tiers-test-%d", (int)getpid());
	filed_args(&f, path);
	setenv("KVD_FAULT", "tier-write@2-:ENOSPC", 1);
	run_without(&f, "No space left on device: goes on without");
	unsetenv("KVD_FAULT");
	unlink(path);
}

int main(void)
{
	seed = toy_seed();
	test_memory();
	test_two();
	test_file();
	test_corrupt();
	test_no_place();
	test_full();
	return 0;
}
