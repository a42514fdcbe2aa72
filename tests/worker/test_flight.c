// SPDX-License-Identifier: Apache-2.0
/*
 * test_flight.c - two kvworkers with one prompt at the same time: one computes
 * it, the other takes its pages as they come.
 *
 * The first is stopped when it has announced what it computes, and goes on when
 * the second waits for it; or never, and is killed. Either way both answer what
 * a worker alone does, bit for bit.
 */
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "tests/support/check.h"
#include "tests/support/daemon.h"
#include "tests/support/raw.h"
#include "tests/worker/runworker.h"

#define BYTES 900	/* of a prompt, which is a token more */
#define PAGE  64
#define TRIES 10

static struct daemon d;
static char prompt[] = "/tmp/kvworker-test-XXXXXX";
static char *valid;

struct stats {
	Kvd__FlightStat flight;
	uint64_t deduplicated;
};

static struct stats look(void)
{
	Kvd__StatRequest req = KVD__STAT_REQUEST__INIT;
	Kvd__StatReply *reply;
	struct stats st;
	int fd = raw_open(d.socket);

	CHECK(!raw_call(fd, WIRE_STAT, &req.base,
			&kvd__stat_reply__descriptor, &reply, NULL), "stat");
	st.flight = *reply->flight;
	st.deduplicated = reply->pools[0]->deduplicated;
	kvd__stat_reply__free_unpacked(reply, NULL);
	close(fd);
	return st;
}

/* The next part of the text is the prompt. */
static void next_prompt(void)
{
	static size_t at;
	FILE *f = fopen(prompt, "wb");

	CHECK(f && fwrite(valid + at, 1, BYTES, f) == BYTES && !fclose(f),
	      "%s: %m", prompt);
	at += BYTES;
}

static void start(struct run *r, const char *option, const char *value)
{
	const char *args[] = { run_model(""), "--prompt-file", prompt,
			       "--chunk", "64", "--generate", "8", option,
			       value, NULL };

	run_start(r, args);
}

static const char *digest(const struct run *r)
{
	const char *text = json_string_value(
		json_object_get(r->json, "logits_digest"));

	CHECK(!r->status && text, "kvworker: status %d: %s", r->status,
	      r->said);
	return text;
}

/* A worker that stands still in the midst of what it has announced. */
static void start_stopped(struct run *r)
{
	for (int i = 0; i < TRIES; i++) {
		next_prompt();
		start(r, "--format", "f16");
		while (!look().flight.flights)
			usleep(500);
		kill(r->pid, SIGSTOP);
		usleep(20000); /* what it has sent is there */
		if (look().flight.flights)
			return;
		kill(r->pid, SIGCONT); /* it was faster */
		run_end(r);
		run_free(r);
	}
	run_fail("it was never met while it computes");
}

static void wait_waiting(void)
{
	while (!look().flight.waiting)
		usleep(1000);
}

static void check_alone(const struct run *r)
{
	struct run alone;

	start(&alone, "--no-match", NULL);
	run_end(&alone);
	CHECK(!strcmp(digest(r), digest(&alone)), "other logits: %s and %s",
	      digest(r), digest(&alone));
	run_free(&alone);
}

static void test_together(void)
{
	struct run first, second;
	struct stats was = look(), is;

	start_stopped(&first);
	start(&second, "--wait-ms", "60000");
	wait_waiting();
	kill(first.pid, SIGCONT);
	run_end(&first);
	run_end(&second);
	CHECK(!strcmp(digest(&first), digest(&second)), "other logits");
	CHECK(run_number(&first, "hit_tokens") == 0 &&
	      run_number(&second, "hit_tokens") == BYTES / PAGE * PAGE,
	      "%g and %g tokens found", run_number(&first, "hit_tokens"),
	      run_number(&second, "hit_tokens"));
	is = look();
	CHECK(is.deduplicated == was.deduplicated, "computed twice");
	CHECK(is.flight.saved_tokens > was.flight.saved_tokens,
	      "nothing was waited for");
	check_alone(&second);
	run_free(&first);
	run_free(&second);
}

/* Not to wait is to compute it too. */
static void test_declined(void)
{
	struct run first, second;

	start_stopped(&first);
	start(&second, "--wait-ms", "0");
	run_end(&second);
	CHECK(run_number(&second, "hit_tokens") < BYTES / PAGE * PAGE,
	      "%g tokens found", run_number(&second, "hit_tokens"));
	kill(first.pid, SIGCONT);
	run_end(&first);
	CHECK(!strcmp(digest(&first), digest(&second)), "other logits");
	run_free(&first);
	run_free(&second);
}

/* The first dies: the second has what is there, and computes the rest. */
static void test_dies(void)
{
	struct run first, second;

	start_stopped(&first);
	start(&second, "--wait-ms", "60000");
	wait_waiting();
	kill(first.pid, SIGKILL);
	run_end(&first);
	run_end(&second);
	check_alone(&second);
	run_free(&first);
	run_free(&second);
}

int main(void)
{
	const char *const args[] = { "--set", "announce-timeout=60s", NULL };
	size_t bytes;
	int fd = mkstemp(prompt);

	CHECK(fd >= 0, "%s: %m", prompt);
	close(fd);
	valid = run_file(run_model("/valid.txt"), &bytes);
	CHECK(bytes > 3 * (TRIES + 1) * BYTES, "%zu bytes", bytes);
	daemon_start(&d, args);
	setenv("KVD_SOCKET", d.socket, 1);
	test_together();
	test_declined();
	test_dies();
	daemon_assert_idle(&d);
	daemon_stop(&d);
	free(valid);
	return unlink(prompt) ? 1 : 0;
}
