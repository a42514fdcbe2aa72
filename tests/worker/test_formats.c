/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_formats.c - two workers, one prefix, in every format.
 *
 * The second takes what the first has computed, and its logits are, bit for
 * bit, those of a worker that computed all of it, in other chunks. kvctl stat
 * shows the bytes a token that the worker was told.
 */
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "tests/support/daemon.h"
#include "tests/worker/runworker.h"

#define VOCAB 256
#define SHARED 200
#define TAIL 40
#define HIT (SHARED / 64 * 64)

static char dir[] = "/tmp/kvd-formats.XXXXXX";
static char *valid;

static const struct kind {
	const char *format;
	const char *more[4];	/* options */
} kinds[] = {
	{ "f16", { NULL } },
	{ "bf16", { NULL } },
	{ "int8", { "--exact-layers", "0,5" } },
	{ "fp8_e4m3", { NULL } },
	{ "fp8", { "--profile", "profile" } },
	{ "fp8_e5m2", { NULL } },
	{ "int4", { "--exact-pages", "1" } },
	{ "int4h", { NULL } },
	{ "k=int8,v=int4", { NULL } },
	{ "kivi4", { "--open-format", "bf16" } },
	{ "kivi2", { "--v-group", "32" } },
	{ "kivi2", { "--exact-layers", "2", "--exact-pages", "0" } },
	{ "k=kivi2,v=int8", { NULL } },
	{ "kvquant4", { "--profile", "profile" } },
	{ "kvquant3", { "--profile", "profile", "--exact-layers", "1" } },
	{ "kvquant2", { "--profile", "profile" } },
	{ "kvarn44", { NULL } },
	{ "kvarn42", { NULL } },
	{ "kvarn33", { NULL } },
	{ "kvarn22", { NULL } },
	{ "oscar2", { "--profile", "profile" } },
};

static const char *in_dir(const char *name)
{
	static char paths[8][64];
	static int turn;
	char *path = paths[turn++ % 8];

	snprintf(path, sizeof(paths[0]), "%s/%s", dir, name);
	return path;
}

static void write_file(const char *name, const char *a, size_t na,
		       const char *b, size_t nb)
{
	FILE *f = fopen(in_dir(name), "wbe");

	if (!f || fwrite(a, 1, na, f) != na || fwrite(b, 1, nb, f) != nb ||
	    fclose(f))
		run_fail("cannot write %s", name);
}

static void calibrate(void)
{
	const char *const args[] = { TEST_MODEL, "--calibrate",
				     in_dir("profile"), "--ppl",
				     in_dir("text"), NULL };
	struct run r;

	write_file("text", valid + 100000, 4096, "", 0);
	run(&r, args);
	if (r.status)
		run_fail("calibrate: %s", r.said);
	run_free(&r);
}

/* Starts a worker on @prompt with @kind's options and @more. */
static void start(struct run *r, const struct kind *kind, const char *prompt,
		  const char *const *more)
{
	const char *args[RUN_MAX_ARGS] = { TEST_MODEL, "--prompt-file", prompt,
					   "--format", kind->format,
					   "--generate", "4" };
	int n = 7;

	for (int i = 0; i < 4 && kind->more[i]; i++)
		args[n++] = strcmp(kind->more[i], "profile") ? kind->more[i] :
							     in_dir("profile");
	while (*more)
		args[n++] = *more++;
	run_start(r, args);
}

/* Runs it to its end. Return: its logits, free() them. */
static float *logits_of(struct run *r, const struct kind *kind,
			const char *prompt, const char *const *more,
			size_t *ret_rows)
{
	const char *args[RUN_MAX_ARGS] = { "--logits", in_dir("logits") };
	size_t bytes;
	float *logits;
	int n = 2;

	while (*more)
		args[n++] = *more++;
	start(r, kind, prompt, args);
	run_end(r);
	if (r->status)
		run_fail("%s: %s", kind->format, r->said);
	logits = run_file(in_dir("logits"), &bytes);
	*ret_rows = bytes / sizeof(float) / VOCAB;
	return logits;
}

static bool has_option(const struct kind *kind, const char *name)
{
	for (int i = 0; i < 4 && kind->more[i]; i++)
		if (!strcmp(kind->more[i], name))
			return true;
	return false;
}

/* Is there a class of pages with so many bytes a token? */
static void check_stat(const struct kind *kind, double bytes_per_token)
{
	FILE *f = popen(KVCTL " stat --json", "re");
	json_t *o = f ? json_loadf(f, 0, NULL) : NULL;
	const json_t *classes = json_object_get(
		json_array_get(json_object_get(o, "pools"), 0), "classes");
	const json_t *c;
	bool found = has_option(kind, "--exact-layers"); /* a sum of two */
	size_t i;

	if (!f || pclose(f))
		run_fail("kvctl stat failed");
	json_array_foreach(classes, i, c)
		found |= fabs(json_number_value(json_object_get(
				      c, "bytes_per_token")) -
			      bytes_per_token) < 1;
	if (!found)
		run_fail("%s: kvctl stat has no class of %g bytes a token",
			 kind->format, bytes_per_token);
	json_decref(o);
}

static void test_kind(const struct kind *kind, int i)
{
	static const char *const hold[] = { "--hold", NULL };
	static const char *const alone[] = { "--no-match", "--no-publish",
					     "--chunk", "37", NULL };
	static const char *const none[] = { NULL };
	const char *text = valid + i * 500;
	struct run first, next, all;
	size_t rows, all_rows;
	float *got, *want;

	write_file("first", text, SHARED, valid + 60000, TAIL);
	write_file("next", text, SHARED, valid + 70000, TAIL);
	start(&first, kind, in_dir("first"), hold);
	run_read_json(&first);
	check_stat(kind, run_number(&first, "kv_bytes_per_token"));
	got = logits_of(&next, kind, in_dir("next"), none, &rows);
	want = logits_of(&all, kind, in_dir("next"), alone, &all_rows);
	if (run_number(&next, "hit_tokens") != HIT)
		run_fail("%s: %g tokens hit, not %d", kind->format,
			 run_number(&next, "hit_tokens"), HIT);
	if (all_rows != rows + HIT)
		run_fail("%s: %zu and %zu rows", kind->format, rows, all_rows);
	if (memcmp(got, want + (size_t)HIT * VOCAB,
		   rows * VOCAB * sizeof(float)))
		run_fail("%s: a prefix of another process gives other logits",
			 kind->format);
	run_end(&first);
	if (first.status)
		run_fail("%s: %s", kind->format, first.said);
	free(got);
	free(want);
	run_free(&first);
	run_free(&next);
	run_free(&all);
}

/* Without its profile, a format says how to make one. */
static void test_no_profile(void)
{
	static const struct kind kind = { "kvquant3", { NULL } };
	static const char *const none[] = { NULL };
	struct run r;

	start(&r, &kind, in_dir("first"), none);
	run_end(&r);
	if (!r.status || !strstr(r.said, "kvctl calibrate"))
		run_fail("no word of kvctl calibrate: %s", r.said);
	run_free(&r);
}

int main(void)
{
	static const char *const files[] = { "profile", "text", "first",
					     "next", "logits" };
	static const char *const pool[] = { "--pool", "256M", NULL };
	struct daemon d;
	size_t bytes;

	if (!mkdtemp(dir))
		run_fail("mkdtemp: %m");
	valid = run_file(TEST_MODEL "/valid.txt", &bytes);
	daemon_start(&d, pool);
	setenv("KVD_SOCKET", d.socket, 1);
	calibrate();
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		test_kind(&kinds[i], (int)i);
	test_no_profile();
	daemon_assert_idle(&d);
	daemon_stop(&d);
	free(valid);
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
		unlink(in_dir(files[i]));
	return rmdir(dir) ? 1 : 0;
}
