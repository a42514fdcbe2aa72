/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_prefix.c - kvworker processes on one daemon: what they compute, and
 * what they take from each other.
 *
 *	worker_prefix DEVICE WINDOW SHARED
 *
 * WINDOW tokens are compared with the reference of the whole model, SHARED
 * bytes of prompt are common to all workers. 0: not this part.
 *
 * The position law, seen from outside: logits are the same bit for bit
 * whatever the chunks of prefill and whoever computed the prefix.
 */
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "tests/support/daemon.h"
#include "tests/worker/runworker.h"

#define VOCAB 256
#define TAIL 90			/* bytes of prompt of each worker's own */

static char dir[] = "/tmp/kvworker-test-XXXXXX";
static char *valid;		/* valid.txt */
static size_t window, shared;

/* A path in the test's directory; static storage for a few. */
static const char *in_dir(const char *name)
{
	static char paths[8][64];
	static unsigned next;
	char *path = paths[next++ % 8];

	snprintf(path, sizeof(paths[0]), "%s/%s", dir, name);
	return path;
}

static const char *write_prompt(const char *name, const char *a, size_t na,
				const char *b, size_t nb)
{
	const char *path = in_dir(name);
	FILE *f = fopen(path, "wb");

	if (!f || fwrite(a, 1, na, f) != na || fwrite(b, 1, nb, f) != nb ||
	    fclose(f))
		run_fail("%s: %m", path);
	return path;
}

/* Runs a prompt with logits; more options end with NULL. */
static float *logits_of(struct run *r, const char *prompt, size_t *ret_rows,
			const char *const *options)
{
	const char *path = in_dir("logits");
	const char *args[RUN_MAX_ARGS] = { run_model(""), "--prompt-file", prompt,
					   "--logits", path, "--generate",
					   "12" };
	size_t bytes;
	float *logits;
	int n = 7;

	while (*options)
		args[n++] = *options++;
	run(r, args);
	if (r->status)
		run_fail("kvworker: status %d: %s", r->status, r->said);
	logits = run_file(path, &bytes);
	*ret_rows = bytes / (VOCAB * sizeof(float));
	return logits;
}

/* The reference window through pages of @format. */
static void test_reference(const char *format, double tolerance)
{
	const char *prompt = write_prompt("window", valid + 20480,
					  window - 1, "", 0);
	const char *const options[] = { "--generate", "0", "--format", format,
					"--no-publish", "--no-match", NULL };
	double max = 0;
	struct run r;
	size_t rows, bytes;
	float *got = logits_of(&r, prompt, &rows, options);
	float *want = run_file(run_model("/kv_sample_logits.bin"), &bytes);

	if (rows != window || bytes < rows * VOCAB * sizeof(float))
		run_fail("%zu rows of logits", rows);
	for (size_t i = 0; i < rows * VOCAB; i++)
		max = fmax(max, fabs((double)got[i] - want[i]));
	printf("%s: logits within %g of the reference\n", format, max);
	if (!(max <= tolerance))
		run_fail("%s: more than %g", format, tolerance);
	free(got);
	free(want);
	run_free(&r);
}

/* Same bits for every chunk length. */
static void test_chunks(const char *format)
{
	static const char *const chunks[] = { "64", "37", "1" };
	const char *prompt = write_prompt("chunks", valid, 150, "", 0);
	struct run r;
	size_t rows, n;
	float *want = logits_of(&r, prompt, &rows, (const char *[]){
		"--format", format, "--chunk", "1024", "--no-match",
		"--no-publish", NULL });

	run_free(&r);
	for (size_t i = 0; i < sizeof(chunks) / sizeof(chunks[0]); i++) {
		float *got = logits_of(&r, prompt, &n, (const char *[]){
			"--format", format, "--chunk", chunks[i],
			"--no-match", "--no-publish", NULL });

		if (n != rows || memcmp(got, want, n * VOCAB * sizeof(float)))
			run_fail("%s: chunk %s gives other logits", format,
				 chunks[i]);
		free(got);
		run_free(&r);
	}
	free(want);
}

static void must_equal_text(const struct run *a, const struct run *b)
{
	const char *x = json_string_value(json_object_get(a->json, "text"));
	const char *y = json_string_value(json_object_get(b->json, "text"));

	if (!x || !y || strcmp(x, y))
		run_fail("texts differ: %s | %s", x, y);
}

/*
 * Tokens that the prompt of worker @i of test_share() has in common with one
 * before it. They are in full pages: prompts go on long enough.
 */
static size_t in_common(int i)
{
	const char *own = valid + 4096 * i;
	size_t most = run_alike(own, valid + 2048, TAIL);

	for (int j = 1; j < i; j++) {
		size_t n = run_alike(own, valid + 4096 * j, TAIL);

		most = n > most ? n : most;
	}
	return shared + 1 + most;
}

/* One worker after the first: what it takes, and that it changes nothing. */
static void follow(const char *format, const char *page_tokens, int i)
{
	size_t page = (size_t)atoi(page_tokens), rows, alone_rows, hit;
	size_t want_hit = in_common(i);
	const char *prompt = write_prompt("follow", valid, shared,
					  valid + 4096 * i, TAIL);
	const char *const options[] = { "--format", format, "--page-tokens",
					page_tokens, NULL };
	const char *const alone[] = { "--format", format, "--page-tokens",
				      page_tokens, "--no-match",
				      "--no-publish", NULL };
	struct run r, alone_r;
	float *got = logits_of(&r, prompt, &rows, options);
	float *want = logits_of(&alone_r, prompt, &alone_rows, alone);

	hit = (size_t)run_number(&r, "hit_tokens");
	if (!strcmp(format, "kivi4")) /* it is sealed whole */
		want_hit = want_hit / page * page;
	if (hit != want_hit)
		run_fail("%s, pages of %zu: %zu tokens hit", format, page, hit);
	if (alone_rows != shared + 1 + TAIL || rows != alone_rows - hit)
		run_fail("%zu and %zu rows of logits", rows, alone_rows);
	if (memcmp(got, want + hit * VOCAB, rows * VOCAB * sizeof(float)))
		run_fail("%s, pages of %zu: a prefix of another process gives "
			 "other logits", format, page);
	must_equal_text(&r, &alone_r);
	free(got);
	free(want);
	run_free(&r);
	run_free(&alone_r);
}

/* Three workers: the first computes the prefix, two take it. */
static void test_share(const char *format, const char *page_tokens,
		       bool first_lives)
{
	const char *prompt = write_prompt("first", valid, shared,
					  valid + 2048, TAIL);
	const char *const args[] = { run_model(""), "--prompt-file", prompt,
				     "--format", format, "--page-tokens",
				     page_tokens, "--hold", NULL };
	struct run first;

	run_start(&first, args);
	run_read_json(&first);
	if (!first_lives)
		run_end(&first);
	if (run_number(&first, "hit_tokens") != 0)
		run_fail("the first worker hit something");
	follow(format, page_tokens, 1);
	follow(format, page_tokens, 2);
	if (first_lives)
		run_end(&first);
	if (first.status)
		run_fail("the first worker: %s", first.said);
	run_free(&first);
}

/* Pages that decode filled are worth what prefill's are. */
static void test_conversation(void)
{
	const char *prompt = write_prompt("ask", valid + 30000, 100, "", 0);
	const char *const asked[] = { run_model(""), "--prompt-file", prompt,
				      "--page-tokens", "32", "--generate", "90",
				      NULL };
	struct run first, next, alone;
	size_t rows, all, hit;
	float *got, *want;
	const char *text;

	run(&first, asked);
	text = json_string_value(json_object_get(first.json, "text"));
	if (!text || strlen(text) < 64)
		run_fail("too short an answer: %s", first.said);
	/* The last token was never an input: it is in no page. */
	hit = (100 + strlen(text)) / 32 * 32;
	prompt = write_prompt("ask", valid + 30000, 100, text, strlen(text));
	got = logits_of(&next, prompt, &rows, (const char *[]){
		"--page-tokens", "32", "--no-publish", NULL });
	want = logits_of(&alone, prompt, &all, (const char *[]){
		"--page-tokens", "32", "--no-match", "--no-publish", NULL });
	if (run_number(&next, "hit_tokens") != (double)hit)
		run_fail("%g of %zu tokens hit", run_number(&next, "hit_tokens"),
			 hit);
	if (all != rows + hit ||
	    memcmp(got, want + hit * VOCAB, rows * VOCAB * sizeof(float)))
		run_fail("a prefix that decode wrote gives other logits");
	free(got);
	free(want);
	run_free(&first);
	run_free(&next);
	run_free(&alone);
}

/* cold is measured, publishes nothing, and takes nothing. */
static void test_cold(void)
{
	const char *prompt = write_prompt("cold", valid + 9000, shared, "", 0);
	const char *const args[] = { run_model(""), "--prompt-file", prompt,
				     "--cold-too", "--generate", "2", NULL };
	struct run r;

	run(&r, args);
	if (run_number(&r, "hit_tokens") != 0 ||
	    !(run_number(&r, "ttft_cold_ms") > 0) ||
	    !(run_number(&r, "ttft_ms") > 0) ||
	    run_number(&r, "prompt_tokens") != shared + 1)
		run_fail("cold: not what it should be");
	run_free(&r);
	run(&r, args);
	if (run_number(&r, "hit_tokens") != shared / 64 * 64)
		run_fail("cold: no prefix was left");
	run_free(&r);
}

static void test_prefixes(const char *device)
{
	test_share("int8", "64", true);
	test_cold();
	/* What kinds of GPU memory that differ in how it is mapped share. */
	if (!strncmp(device, "cuda-ipc", 8))
		return;
	test_chunks("f16");
	test_chunks("int8");
	test_share("f16", "64", true);
	test_share("bf16", "128", false);
	test_share("int8", "32", false);
	test_conversation();
	if (!strncmp(device, "cuda", 4))
		test_share("kivi4", "64", false);
}

int main(int argc, char **argv)
{
	static const char *const files[] = { "logits", "window", "chunks",
					     "first", "follow", "ask", "cold" };
	const char *const device[] = { "--device", argv[1], NULL };
	struct daemon d;
	size_t bytes;

	if (argc != 4)
		run_fail("usage: %s DEVICE WINDOW SHARED", argv[0]);
	window = (size_t)atoi(argv[2]);
	shared = (size_t)atoi(argv[3]);
	if (!mkdtemp(dir))
		run_fail("mkdtemp: %m");
	valid = run_file(run_model("/valid.txt"), &bytes);
	daemon_start(&d, device);
	setenv("KVD_SOCKET", d.socket, 1);
	if (window) {
		test_reference("f16", 2e-2);
		test_reference("int8", 0.3);
	}
	if (shared)
		test_prefixes(argv[1]);
	daemon_assert_idle(&d);
	daemon_stop(&d);
	free(valid);
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
		unlink(in_dir(files[i]));
	return rmdir(dir) ? 1 : 0;
}
