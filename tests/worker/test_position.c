/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_position.c - the position law in every format, by kvworker processes.
 *
 *	worker_position [FORMAT | pressure]
 *
 * Prompts of three pages and a tail.
 * In each format a worker leaves a prefix and another one takes it; logits are
 * the same bit for bit whatever the chunks and whoever computed the prefix.
 * With 2 and 3 bits that holds where the exact copy of the newest page is
 * still there; where it is not, the worker says so. What kvctl shows of the
 * pages is what the library says of them.
 */
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <kvd/geometry.h>
#include "tests/support/daemon.h"
#include "tests/worker/runworker.h"

#define VOCAB	     256
#define PAGE	     32
#define SHARED	     75	/* bytes of prompt that two workers have in common */
#define TAIL	     31	/* bytes of each worker's own */
#define NR_TOKENS    (1 + SHARED + TAIL)
#define NR_FULL	     (NR_TOKENS / PAGE)
#define MAX_OPTIONS  4

static const struct variant {
	const char *formats;
	const char *options[MAX_OPTIONS];
	bool calibrated;
} variants[] = {
	{ "f16", { NULL }, false },
	{ "bf16", { NULL }, false },
	{ "fp8_e4m3", { NULL }, false },
	{ "fp8_e4m3", { "--open-format", "bf16" }, true },
	{ "fp8_e5m2", { NULL }, false },
	{ "int8", { NULL }, false },
	{ "int8", { "--exact-pages", "1" }, false },
	{ "int4", { NULL }, false },
	{ "int4h", { NULL }, false },
	{ "kivi4", { NULL }, false },
	{ "kivi4", { "--v-group", "32", "--open-format", "bf16" }, false },
	{ "kivi2", { NULL }, false },
	{ "kivi2", { "--exact-layers", "1", "--exact-pages", "0" }, false },
	{ "kvquant4", { NULL }, true },
	{ "kvquant3", { NULL }, true },
	{ "kvquant2", { NULL }, true },
	{ "kvquant3", { "--exact-layers", "0" }, true },
	{ "kvarn44", { NULL }, false },
	{ "kvarn42", { NULL }, false },
	{ "kvarn33", { NULL }, false },
	{ "kvarn22", { NULL }, false },
	{ "oscar2", { NULL }, true },
	{ "oscar2", { "--exact-layers", "0" }, true },
	{ "k=int8,v=int4", { NULL }, false },
	{ "k=kivi2,v=int8", { NULL }, false },
	{ "k=kivi4,v=fp8_e4m3", { NULL }, false },
	{ "k=int8,v=kvquant3", { NULL }, true },
	{ "k=kvquant4,v=int8", { NULL }, true },
};

#define NR_VARIANTS (sizeof(variants) / sizeof(variants[0]))

/* One run of a worker. */
struct ask {
	const struct variant *v;
	const char *prompt;
	const char *chunk;
	bool publish;
	bool match;
};

static char dir[] = "/tmp/kvworker-test-XXXXXX";
static const char *const files[] = { "profile", "first", "next", "fill",
				     "logits" };
static char *valid; /* valid.txt */

/* A path in the test's directory; static storage for a few. */
static const char *in_dir(const char *name)
{
	static char paths[8][64];
	static unsigned next;
	char *path = paths[next++ % 8];

	snprintf(path, sizeof(paths[0]), "%s/%s", dir, name);
	return path;
}

static void write_file(const char *name, const char *a, size_t na,
		       const char *b, size_t nb)
{
	FILE *f = fopen(in_dir(name), "wb");

	if (!f || fwrite(a, 1, na, f) != na || fwrite(b, 1, nb, f) != nb ||
	    fclose(f))
		run_fail("%s: %m", name);
}

static void make_profile(void)
{
	char command[512];

	snprintf(command, sizeof(command),
		 KVCTL " calibrate %s --text %s --max-bytes 2048 -o %s "
		       ">/dev/null",
		 run_model(""), run_model("/valid.txt"), in_dir("profile"));
	if (system(command))
		run_fail("kvctl calibrate failed");
}

/* Starts what @a asks for, and leaves its pages where they are. */
static void start(struct run *r, const struct ask *a)
{
	const char *args[RUN_MAX_ARGS] = {
		run_model(""), "--prompt-file", in_dir(a->prompt),
		"--generate", "0", "--page-tokens", "32", "--hold",
		"--logits", in_dir("logits"), "--format", a->v->formats,
		"--chunk", a->chunk };
	int n = 14;

	for (int i = 0; i < MAX_OPTIONS && a->v->options[i]; i++)
		args[n++] = a->v->options[i];
	if (a->v->calibrated) {
		args[n++] = "--profile";
		args[n++] = in_dir("profile");
	}
	if (!a->publish)
		args[n++] = "--no-publish";
	if (!a->match)
		args[n++] = "--no-match";
	run_start(r, args);
	run_read_json(r);
}

/* Ends it; the logits of the tokens it computed are *ret. */
static size_t end(struct run *r, float **ret)
{
	size_t bytes;

	run_end(r);
	if (r->status)
		run_fail("kvworker: status %d: %s", r->status, r->said);
	*ret = run_file(in_dir("logits"), &bytes);
	return bytes / (VOCAB * sizeof(float));
}

/* Logits of the whole prompt, computed alone. */
static float *alone(const struct variant *v, const char *chunk)
{
	struct ask a = { v, "next", chunk, false, false };
	struct run r;
	float *logits;
	size_t rows;

	start(&r, &a);
	rows = end(&r, &logits);
	if (rows != NR_TOKENS)
		run_fail("%s: %zu rows of logits", v->formats, rows);
	run_free(&r);
	return logits;
}

/* What `kvctl COMMAND --json` prints. */
static json_t *kvctl(const char *command)
{
	char line[512];
	json_t *o;
	FILE *f;

	snprintf(line, sizeof(line), KVCTL " %s --json", command);
	f = popen(line, "r");
	o = f ? json_loadf(f, 0, NULL) : NULL;
	if (!o || pclose(f))
		run_fail("kvctl %s failed", command);
	return o;
}

static double number(const json_t *o, const char *key)
{
	const json_t *v = json_object_get(o, key);

	if (!json_is_number(v))
		run_fail("kvctl shows no %s", key);
	return json_number_value(v);
}

/* The one space that somebody is in. */
static const json_t *space_in_use(const json_t *answer)
{
	const json_t *list = json_object_get(answer, "spaces"), *found = NULL;

	for (size_t i = 0; i < json_array_size(list); i++) {
		const json_t *s = json_array_get(list, i);

		if (number(s, "clients") == 0)
			continue;
		if (found)
			run_fail("two spaces in use");
		found = s;
	}
	if (!found)
		run_fail("no space in use");
	return found;
}

/* Bytes of a group's page, open or as full ones end. */
struct sizes {
	bool two;
	double open, sealed;
};

static struct sizes sizes_of(const json_t *answer, double space, double group)
{
	const json_t *pool = json_array_get(json_object_get(answer, "pools"),
					    0);
	const json_t *list = json_object_get(pool, "classes");
	struct sizes s = { false, 0, 0 };

	for (size_t i = 0; i < json_array_size(list); i++) {
		const json_t *c = json_array_get(list, i);
		double bytes = number(c, "page_bytes");

		if (number(c, "space") != space || number(c, "group") != group)
			continue;
		if (number(c, "bytes_per_token") * PAGE != bytes)
			run_fail("bytes_per_token is not a page's");
		if (number(c, "page_class") == group)
			s.open = bytes;
		else
			s.sealed = bytes;
	}
	s.two = s.sealed > 0;
	if (!s.two)
		s.sealed = s.open;
	return s;
}

/* Adds what a sequence of all tokens must hold in one group. */
static void add_group(const struct sizes *s, const json_t *space,
		      double *open, double *sealed)
{
	int k = kvd_format_parse(json_string_value(
		json_object_get(space, "k_format")));
	int v = kvd_format_parse(json_string_value(
		json_object_get(space, "v_format")));
	bool whole = kvd_formats_whole((uint32_t)k, (uint32_t)v);
	double exact = s->two ? number(space, "exact_pages") : 0, nr = exact;

	if (s->two && whole) /* the tail, and a second copy of the newest */
		nr += 1 + kvd_formats_lag((uint32_t)k, (uint32_t)v);
	*open += nr * s->open;
	*sealed += (NR_FULL - exact + !(s->two && whole)) * s->sealed;
}

/* kvctl, the worker and arithmetic say the same of who is there now. */
static void check_bytes(const struct run *r, const struct variant *v)
{
	json_t *spaces = kvctl("spaces"), *stat = kvctl("stat");
	const json_t *space = space_in_use(spaces);
	size_t nr_groups = json_array_size(json_object_get(space, "groups"));
	double open = 0, sealed = 0, token = 0;

	for (size_t g = 0; g < nr_groups; g++) {
		struct sizes s = sizes_of(stat, number(space, "id"),
					  (double)g);

		token += s.sealed / PAGE;
		add_group(&s, space, &open, &sealed);
	}
	if (run_number(r, "kv_bytes_per_token") != ceil(token))
		run_fail("%s: %g bytes a token, kvctl shows %g", v->formats,
			 run_number(r, "kv_bytes_per_token"), token);
	if (run_number(r, "open_bytes") != open ||
	    run_number(r, "sealed_bytes") != sealed)
		run_fail("%s: holds %g open and %g sealed bytes, not %g and "
			 "%g", v->formats, run_number(r, "open_bytes"),
			 run_number(r, "sealed_bytes"), open, sealed);
	if (strcmp(json_string_value(json_object_get(r->json, "format")),
		   json_string_value(json_object_get(space, "format"))))
		run_fail("%s has two names", v->formats);
	json_decref(spaces);
	json_decref(stat);
}

/* A worker computes a prompt, publishes its pages, and stays. */
static void first_start(struct run *r, const struct variant *v, size_t text,
			const char *chunk)
{
	struct ask a = { v, "first", chunk, true, true };

	write_file("first", valid + text, SHARED, valid + text + 2048, TAIL);
	start(r, &a);
	if (run_number(r, "hit_tokens") != 0)
		run_fail("%s: the first worker hit something", v->formats);
	check_bytes(r, v);
}

static void first_end(struct run *r)
{
	float *logits;

	end(r, &logits);
	free(logits);
	run_free(r);
}

/*
 * Another takes them, @hit tokens. *ret_inexact: without the newest page's
 * exact copy.
 */
static float *follow(const struct variant *v, size_t hit, bool *ret_inexact)
{
	struct ask a = { v, "next", "512", false, true };
	struct run r;
	float *logits;
	size_t rows;

	start(&r, &a);
	rows = end(&r, &logits);
	if (run_number(&r, "hit_tokens") != (double)hit ||
	    rows != NR_TOKENS - hit)
		run_fail("%s: %g tokens hit, %zu rows of logits", v->formats,
			 run_number(&r, "hit_tokens"), rows);
	*ret_inexact = json_is_true(json_object_get(r.json, "inexact_lag"));
	run_free(&r);
	return logits;
}

/*
 * Tokens that two workers have in common: within a page where its rows are
 * found as they were appended, as long as there is memory for those.
 */
static size_t in_common(const struct variant *v, size_t text, bool pressed)
{
	size_t n = 1 + SHARED + run_alike(valid + text + 2048,
					  valid + text + 4096, TAIL);
	uint32_t k, val;

	if (kvd_formats_parse(v->formats, &k, &val))
		run_fail("%s is no format", v->formats);
	if (kvd_formats_whole(k, val) &&
	    (pressed || !kvd_formats_lag(k, val)))
		n = n / PAGE * PAGE;
	return n;
}

static bool same(const float *whole, const float *tail, size_t hit)
{
	return !memcmp(whole + hit * VOCAB, tail,
		       (NR_TOKENS - hit) * VOCAB * sizeof(float));
}

static void check_chunks(const struct variant *v, const float *want)
{
	static const char *const chunks[] = { "64", "37", "1" };

	for (size_t i = 0; i < sizeof(chunks) / sizeof(chunks[0]); i++) {
		float *got = alone(v, chunks[i]);

		if (memcmp(got, want, NR_TOKENS * VOCAB * sizeof(float)))
			run_fail("%s: chunk %s gives other logits", v->formats,
				 chunks[i]);
		free(got);
	}
}

/* Takes what is there of a prompt, and compares it with nobody's help. */
static void check_follow(const struct variant *v, size_t text,
			 bool want_inexact)
{
	size_t hit = in_common(v, text, want_inexact);
	float *want, *got;
	bool inexact;

	write_file("next", valid + text, SHARED, valid + text + 4096, TAIL);
	want = alone(v, "512");
	got = follow(v, hit, &inexact);
	if (inexact != want_inexact)
		run_fail("%s: inexact_lag is %d", v->formats, inexact);
	if (same(want, got, hit) == inexact)
		run_fail("%s: a prefix of another process gives %s logits",
			 v->formats, inexact ? "the same" : "other");
	if (!inexact)
		check_chunks(v, want);
	free(want);
	free(got);
}

static void test_variant(const struct variant *v, size_t text)
{
	bool lives = text / 8192 % 2;
	struct run first;

	/* Page by page, or all at once and then it goes. */
	first_start(&first, v, text, lives ? "32" : "512");
	if (!lives)
		first_end(&first);
	check_follow(v, text, false);
	if (lives)
		first_end(&first);
	printf("%s%s%s: ok\n", v->formats, v->options[0] ? " " : "",
	       v->options[0] ? v->options[0] : "");
	fflush(stdout);
}

/* Publishes other text, until exact copies had to go. */
static void fill(const struct variant *v)
{
	const char *args[] = { run_model(""), "--ppl", in_dir("fill"),
			       "--page-tokens", "32", "--format", v->formats,
			       "--profile", in_dir("profile"), NULL };
	struct daemon_stat stat = { 0 };

	if (!v->calibrated)
		args[7] = NULL;
	for (size_t text = 65536; !stat.evicted; text += 2048) {
		struct run r;

		if (text > 131072)
			run_fail("%s: nothing was evicted", v->formats);
		write_file("fill", valid + text, 2048, "", 0);
		run(&r, args);
		if (r.status)
			run_fail("kvworker: status %d: %s", r.status, r.said);
		run_free(&r);
		daemon_stat(getenv("KVD_SOCKET"), &stat);
	}
}

/* Under pressure exact copies go first: the prefix is hit, and says so. */
static void test_pressure(const char *formats, bool calibrated)
{
	const struct variant v = { formats, { NULL }, calibrated };
	const char *const small[] = { "--pool", "8M", "--segment", "8M", NULL };
	struct daemon d;
	struct run first;

	daemon_start(&d, small);
	setenv("KVD_SOCKET", d.socket, 1);
	first_start(&first, &v, 0, "512");
	first_end(&first);
	fill(&v);
	check_follow(&v, 0, true);
	printf("%s under pressure: ok\n", formats);
	fflush(stdout);
	daemon_assert_idle(&d);
	daemon_stop(&d);
}

/* No format is left out. */
static void check_complete(void)
{
	for (uint32_t i = 0; i < KVD_NR_FORMATS; i++) {
		bool found = false;

		for (size_t j = 0; j < NR_VARIANTS; j++) {
			uint32_t k, v;

			found |= !kvd_formats_parse(variants[j].formats, &k,
						    &v) && k == i && v == i;
		}
		if (!found)
			run_fail("%s is not tested", kvd_format_name(i));
	}
}

int main(int argc, char **argv)
{
	struct daemon d;
	size_t bytes;

	if (!mkdtemp(dir))
		run_fail("mkdtemp: %m");
	valid = run_file(run_model("/valid.txt"), &bytes);
	daemon_start(&d, NULL);
	setenv("KVD_SOCKET", d.socket, 1);
	check_complete();
	make_profile();
	for (size_t i = 0; i < NR_VARIANTS; i++)
		if (argc < 2 || !strcmp(argv[1], variants[i].formats))
			test_variant(&variants[i], 8192 * (i % 15));
	daemon_assert_idle(&d);
	daemon_stop(&d);
	if (argc < 2 || !strcmp(argv[1], "pressure")) {
		test_pressure("kivi2", false);
		test_pressure("kvquant3", true);
	}
	free(valid);
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
		unlink(in_dir(files[i]));
	return rmdir(dir) ? 1 : 0;
}
