// SPDX-License-Identifier: Apache-2.0
/*
 * worker.c - the model on a GPU that is the double: a whole window's logits,
 * and a prefix that outlives the daemon.
 */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "tests/support/manager.h"
#include "tests/worker/runworker.h"

#define VOCAB 256
#define SHARED 200u	/* bytes of prompt that all workers share */
#define TAIL 40u	/* bytes of prompt of each worker's own */
#define WINDOW 1024u

static char dir[] = "/tmp/kvcuda-test-XXXXXX";
static char prompt_path[64], logits_path[64];
static char *valid; /* valid.txt */

struct logits {
	float *rows;
	size_t nr;
};

static void write_prompt(const char *a, size_t na, const char *b, size_t nb)
{
	FILE *f = fopen(prompt_path, "wb");

	if (!f || fwrite(a, 1, na, f) != na || fwrite(b, 1, nb, f) != nb ||
	    fclose(f))
		run_fail("%s: %m", prompt_path);
}

/* The prompt's logits, of what was not taken; more options end with NULL. */
static struct logits logits_of(struct run *r, const char *const *options)
{
	const char *args[RUN_MAX_ARGS] = { TEST_MODEL,	  "--prompt-file",
					   prompt_path,	  "--logits",
					   logits_path,	  "--generate",
					   "4",		  "--page-tokens",
					   "32" };
	struct logits l;
	size_t bytes;
	int n = 9;

	while (*options)
		args[n++] = *options++;
	run(r, args);
	if (r->status)
		run_fail("kvworker: status %d: %s", r->status, r->said);
	l.rows = run_file(logits_path, &bytes);
	l.nr = bytes / (VOCAB * sizeof(float));
	return l;
}

/* The sample window's logits are those of the model's makers. */
static void check_reference(void)
{
	const char *const options[] = { "--generate", "0", "--no-publish",
					"--no-match", NULL };
	struct logits got;
	double max = 0;
	struct run r;
	size_t bytes;
	float *want = run_file(TEST_MODEL "/kv_sample_logits.bin", &bytes);

	write_prompt(valid + 20 * WINDOW, WINDOW - 1, "", 0);
	got = logits_of(&r, options);
	if (got.nr != WINDOW || bytes != got.nr * VOCAB * sizeof(float))
		run_fail("%zu rows of logits", got.nr);
	for (size_t i = 0; i < got.nr * VOCAB; i++)
		max = fmax(max, fabs((double)got.rows[i] - want[i]));
	printf("logits within %g of the reference\n", max);
	if (!(max <= 2e-2))
		run_fail("more than 0.02");
	free(got.rows);
	free(want);
	run_free(&r);
}

/*
 * Worker number @i over the shared prompt: takes @hit tokens, and what it
 * computes is bit for bit what it computes alone, in other chunks.
 */
static void check_follow(const char *format, int i, size_t hit)
{
	const char *const taking[] = { "--format", format, NULL };
	const char *const alone[] = { "--format",  format, "--no-match",
				      "--no-publish", "--chunk", "37", NULL };
	struct logits got, want;
	struct run r, alone_r;

	write_prompt(valid, SHARED, valid + 4096 * i, TAIL);
	got = logits_of(&r, taking);
	want = logits_of(&alone_r, alone);
	if (run_number(&r, "hit_tokens") != (double)hit)
		run_fail("%s: %g tokens hit, not %zu", format,
			 run_number(&r, "hit_tokens"), hit);
	if (want.nr != SHARED + 1 + TAIL || got.nr != want.nr - hit ||
	    memcmp(got.rows, want.rows + hit * VOCAB,
		   got.nr * VOCAB * sizeof(float)))
		run_fail("%s: other logits after %zu tokens hit", format, hit);
	free(got.rows);
	free(want.rows);
	run_free(&r);
	run_free(&alone_r);
}

/* What two workers' prompts begin with alike: a match may end inside a page. */
static size_t alike(int i, int j)
{
	return SHARED + 1 + run_alike(valid + 4096 * i, valid + 4096 * j, TAIL);
}

static void check_share(const char *format)
{
	check_follow(format, 1, 0);
	check_follow(format, 2, alike(1, 2));
	printf("%s: a prefix crossed\n", format);
}

/* The pool outlives its daemon: descriptors come back, pages match again. */
static void test_restart(void)
{
	const char *const args[] = { "--device", "cuda-vmm:0", NULL };
	struct manager m;

	manager_start(&m, args);
	setenv("KVD_SOCKET", m.daemon.socket, 1);
	check_reference();
	check_share("int8");
	manager_kill(&m);
	manager_again(&m, args);
	check_follow("int8", 3, alike(1, 3) > alike(2, 3) ? alike(1, 3) :
							    alike(2, 3));
	printf("int8: a prefix outlived the daemon\n");
	daemon_assert_idle(&m.daemon);
	manager_stop(&m);
}

int main(void)
{
	size_t bytes;

	if (!mkdtemp(dir))
		run_fail("mkdtemp: %m");
	snprintf(prompt_path, sizeof(prompt_path), "%s/prompt", dir);
	snprintf(logits_path, sizeof(logits_path), "%s/logits", dir);
	valid = run_file(TEST_MODEL "/valid.txt", &bytes);
	test_restart();
	free(valid);
	unlink(prompt_path);
	unlink(logits_path);
	return rmdir(dir) ? 1 : 0;
}
