/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_cli.c - what a user of kvworker gets wrong: one line, and a status.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "tests/support/daemon.h"
#include "tests/worker/runworker.h"
#include "tests/worker/tinymodel.h"

#define PROMPT TEST_MODEL "/config.json" /* any text */

/* Runs kvworker, which must end with @status and say @want in one line. */
static void must_refuse(int status, const char *want, const char *const *args)
{
	const char *newline;
	struct run r;

	run(&r, args);
	newline = strchr(r.said, '\n');
	if (r.status != status || !strstr(r.said, want) || !newline ||
	    newline[1] || r.json)
		run_fail("wanted %d \"%s\", got %d \"%s\"", status, want,
			 r.status, r.said);
	run_free(&r);
}

#define REFUSE(status, want, ...)                                              \
	must_refuse(status, want, (const char *[]){ __VA_ARGS__, NULL })

static void test_usage(void)
{
	REFUSE(2, "no model directory", "--ppl", PROMPT);
	REFUSE(2, "give one of", TEST_MODEL);
	REFUSE(2, "give one of", TEST_MODEL, "--ppl", "x", "--prompt-ids",
	       "y");
	REFUSE(2, "one model directory", TEST_MODEL, "x", "--ppl", PROMPT);
	REFUSE(2, "--format int3", TEST_MODEL, "--format", "int3");
	REFUSE(2, "--demote int3", TEST_MODEL, "--demote", "int3");
	REFUSE(2, "--format k=int8", TEST_MODEL, "--format", "k=int8");
	REFUSE(2, "--open-format int8", TEST_MODEL, "--open-format", "int8");
	REFUSE(2, "--v-group 48", TEST_MODEL, "--v-group", "48");
	REFUSE(2, "--tile-order col", TEST_MODEL, "--tile-order", "col");
	REFUSE(2, "--exact-pages 17", TEST_MODEL, "--exact-pages", "17");
	REFUSE(2, "--page-tokens 48", TEST_MODEL, "--page-tokens", "48");
	REFUSE(2, "--page-tokens 256", TEST_MODEL, "--page-tokens", "256");
	REFUSE(2, "--chunk 0", TEST_MODEL, "--chunk", "0");
	REFUSE(2, "--chunk -1", TEST_MODEL, "--chunk", "-1");
	REFUSE(2, "--threads x", TEST_MODEL, "--threads", "x");
	REFUSE(2, "--generate 99999999999999999999", TEST_MODEL, "--generate",
	       "99999999999999999999");
	REFUSE(2, "--logits", TEST_MODEL, "--ppl", PROMPT, "--logits", "x");
	REFUSE(2, "unrecognized option", TEST_MODEL, "--nonsense");
}

static void test_inputs(const char *dir)
{
	char ids[300];
	FILE *f;

	snprintf(ids, sizeof(ids), "%s/ids", dir);
	f = fopen(ids, "w");
	if (!f || fputs("1 2 256", f) < 0 || fclose(f))
		run_fail("%s: %m", ids);
	REFUSE(1, "entry 3 is not a token id below 256", TEST_MODEL,
	       "--prompt-ids", ids);
	unlink(ids);
	REFUSE(1, "No such file", TEST_MODEL, "--prompt-ids", ids);
	REFUSE(1, "No such file", TEST_MODEL, "--ppl", ids);
	REFUSE(1, "more than the model's 1024 positions", TEST_MODEL,
	       "--prompt-file", PROMPT, "--generate", "1000");
	REFUSE(1, "/nowhere/logits: ", TEST_MODEL, "--prompt-file", PROMPT,
	       "--logits", "/nowhere/logits");
	REFUSE(1, "cannot connect to kvd at /nowhere/kvd.sock", TEST_MODEL,
	       "--socket", "/nowhere/kvd.sock", "--ppl", PROMPT);
}

/* What only the model, the profile or the library can tell. */
static void test_formats(void)
{
	REFUSE(1, "fewer bits", TEST_MODEL, "--ppl", PROMPT, "--format", "int4",
	       "--demote", "int8");
	REFUSE(1, "kvctl calibrate", TEST_MODEL, "--ppl", PROMPT, "--format",
	       "kvquant3");
	REFUSE(1, "kvctl calibrate", TEST_MODEL, "--ppl", PROMPT, "--format",
	       "k=int8,v=oscar2");
	REFUSE(1, "/nowhere/p cannot be read: No such file", TEST_MODEL, "--ppl",
	       PROMPT, "--profile", "/nowhere/p");
	REFUSE(1, PROMPT " is no profile", TEST_MODEL, "--ppl", PROMPT,
	       "--profile", PROMPT);
	REFUSE(1, "--exact-layers 0,6", TEST_MODEL, "--ppl", PROMPT,
	       "--exact-layers", "0,6");
	REFUSE(1, "--exact-layers 0-5", TEST_MODEL, "--ppl", PROMPT,
	       "--exact-layers", "0-5");
}

static void refuse_model(const char *dir, const char *want,
			 const struct tinymodel *t)
{
	tinymodel_write(dir, t);
	REFUSE(1, want, dir, "--ppl", PROMPT);
	tinymodel_remove(dir);
}

/* The whole list is in test_load.c; here the program around it. */
static void test_models(const char *root)
{
	static const struct tinymodel cut = { .cut = 4 };
	static const struct tinymodel huge = { .header_len = 1ull << 62 };
	static const struct tinymodel json = { .find = "{", .replace = "{[" };
	static const struct tinymodel dtype = { .find = "\"F32\"",
						.replace = "\"I32\"" };
	static const struct tinymodel missing = { .find = "lm_head",
						  .replace = "head" };
	static const struct tinymodel field = { .in_config = 1,
						.find = "vocab_size",
						.replace = "vocab" };
	char dir[300];

	snprintf(dir, sizeof(dir), "%s/model", root);
	refuse_model(dir, "(truncated?)", &cut);
	refuse_model(dir, "is larger than", &huge);
	refuse_model(dir, "not valid JSON", &json);
	refuse_model(dir, "dtype I32 is not supported", &dtype);
	refuse_model(dir, "lm_head.weight is missing", &missing);
	refuse_model(dir, "vocab_size is missing", &field);
	REFUSE(1, "No such file", "/nowhere", "--ppl", PROMPT);
}

/* And a whole model of that kind does run. */
static void test_tiny(const char *root)
{
	static const struct tinymodel whole = { 0 };
	char dir[300];
	struct run r;

	snprintf(dir, sizeof(dir), "%s/model", root);
	tinymodel_write(dir, &whole);
	run(&r, (const char *[]){ dir, "--ppl", PROMPT, NULL });
	if (r.status || !r.json)
		run_fail("tiny model: %d: %s", r.status, r.said);
	run_free(&r);
	tinymodel_remove(dir);
}

/* ---- --serve ---- */

/* Sends a line, waits for the answer; json_decref() it. */
static json_t *ask(struct run *r, const char *line)
{
	json_t *got;

	if (write(r->in, line, strlen(line)) < 0 || write(r->in, "\n", 1) < 0)
		run_fail("write: %m");
	run_read_json(r);
	got = r->json;
	r->json = NULL;
	if (!got)
		run_fail("no answer to a line of %zu bytes", strlen(line));
	return got;
}

static void must_have(const json_t *a, const json_t *b, const char *field)
{
	if (!json_is_string(json_object_get(a, field)) ||
	    !json_equal(json_object_get(a, field), json_object_get(b, field)))
		run_fail("%s differs", field);
}

/* Three prompts, one of them too long: the others are as if alone. */
static void test_serve(const char *dir)
{
	static const char prompt[] = "The function returns ";
	static char longer[2000];
	char file[300];
	struct run r, alone;
	json_t *got;
	FILE *f;

	snprintf(file, sizeof(file), "%s/prompt", dir);
	f = fopen(file, "w");
	if (!f || fputs(prompt, f) < 0 || fclose(f))
		run_fail("%s: %m", file);
	run(&alone, (const char *[]){ TEST_MODEL, "--prompt-file", file,
				      "--generate", "5", NULL });
	run_start(&r, (const char *[]){ TEST_MODEL, "--serve", "--generate",
					"5", NULL });
	memset(longer, 'x', sizeof(longer) - 1);
	json_decref(ask(&r, "another"));
	got = ask(&r, longer);
	if (!json_is_string(json_object_get(got, "error")))
		run_fail("a prompt that is too long was served");
	json_decref(got);
	got = ask(&r, prompt);
	must_have(got, alone.json, "text");
	must_have(got, alone.json, "logits_digest");
	json_decref(got);
	run_end(&r);
	if (r.status || r.json || r.said[0])
		run_fail("--serve: %d: %s", r.status, r.said);
	run_free(&alone);
	unlink(file);
}

int main(void)
{
	char dir[] = "/tmp/kvworker-cli-XXXXXX";
	struct daemon d;

	if (!mkdtemp(dir))
		run_fail("mkdtemp: %m");
	daemon_start(&d, NULL);
	setenv("KVD_SOCKET", d.socket, 1);
	test_usage();
	test_inputs(dir);
	test_formats();
	test_models(dir);
	test_tiny(dir);
	test_serve(dir);
	daemon_assert_idle(&d);
	daemon_stop(&d);
	return rmdir(dir) ? 1 : 0;
}
