// SPDX-License-Identifier: Apache-2.0
/*
 * pin.c - kvctl pin: a prompt stays cached, for a time.
 *
 * A pin is called SPACE:BLOCK, by where its prefix ends. Tokens are looked up
 * in as many requests as they take, each going on where the last has ended.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "client-lib/call.h"
#include "proto/kvd.pb-c.h"
#include "tools/kvctl/json.h"
#include "tools/kvctl/kvctl.h"
#include "tools/kvctl/size.h"

#define TTL_MS	   300000u
#define STEP	   8192u	/* tokens of a request: pages of any size */
#define MAX_TOKENS (1u << 24)

static const char usage[] =
	"usage: kvctl pin SPACE:BLOCK [--on] [--ttl TIME] [--look]\n"
	"       kvctl pin SPACE --tokens FILE [--on] [--ttl TIME] [--look]\n"
	"                 [--json] [--socket PATH]\n"
	"\n"
	"Keeps the beginning of a prompt cached, up to a block (kvctl index has\n"
	"their numbers) or as far as the token ids in FILE (- is the standard\n"
	"input; any space between them) are cached: whole pages. No one is given\n"
	"its memory, until the time is over or kvctl unpin. What is pinned already\n"
	"ends later, never sooner.\n"
	"\n"
	"  --on    and on from there, as long as a block is followed by one only:\n"
	"          what all prompts share that begin so\n"
	"  --ttl   a number with s, min or h (5min)\n"
	"  --look  only say what would be pinned\n"
	"\n"
	"For root, the daemon's own user and the admin group; of their own tenant\n"
	"for its users.\n"
	"Exit status: 0; 1 refused, or nothing of it is cached; 2 bad usage.\n";

struct pin_args {
	struct common common;
	const char *tokens;	/* a file */
	uint32_t space;
	uint32_t block;
	uint64_t ttl_ms;
	bool on;
	bool look;
};

static int take(int argc, char **argv, int *i, void *args)
{
	struct pin_args *a = args;

	if (strcmp(argv[*i], "--on") == 0)
		a->on = true;
	else if (strcmp(argv[*i], "--look") == 0)
		a->look = true;
	else if (strcmp(argv[*i], "--tokens") == 0 && *i + 1 < argc)
		a->tokens = argv[++*i];
	else if (strcmp(argv[*i], "--ttl") == 0 && *i + 1 < argc) {
		if (time_parse(argv[++*i], &a->ttl_ms) < 0 || !a->ttl_ms)
			return bad("not a time, with s, min or h: ", argv[*i]);
	} else if (argv[*i][0] == '-' || a->space)
		return bad("what is ", argv[*i]);
	else if (block_parse(argv[*i], &a->space, &a->block) < 0)
		return bad("not SPACE:BLOCK, nor a space: ", argv[*i]);
	return 0;
}

static int check(const void *args)
{
	const struct pin_args *a = args;

	if (!a->space)
		return bad("which prompt? SPACE:BLOCK, or SPACE --tokens FILE",
			   "");
	return !a->block == !a->tokens ? bad("a block, or else --tokens", "") :
					 0;
}

/* ---- tokens ---- */

/* Return: 1 a token; 0 the end; -EINVAL something else. */
static int read_token(FILE *f, uint32_t *ret)
{
	unsigned long n;
	char word[16];
	int r = fscanf(f, "%15[0123456789]%*[ \t\r\n,]", word);

	if (r != 1)
		return r == EOF ? 0 : -EINVAL;
	errno = 0;
	n = strtoul(word, NULL, 10);
	if (errno || n > UINT32_MAX)
		return -EINVAL;
	*ret = (uint32_t)n;
	return 1;
}

static int read_all(FILE *f, uint32_t **ret, uint32_t *ret_nr)
{
	uint32_t *tokens = NULL, room = 0, nr = 0;
	int r = fscanf(f, "%*[ \t\r\n,]");

	for (;;) {
		if (nr == room) {
			room = room ? room * 2 : 1024;
			tokens = reallocarray(tokens, room, sizeof(*tokens));
			if (!tokens)
				return -ENOMEM;
		}
		r = read_token(f, &tokens[nr]);
		if (r <= 0 || ++nr == MAX_TOKENS)
			break;
	}
	*ret = tokens;
	*ret_nr = nr;
	return r < 0 ? r : nr == MAX_TOKENS ? -E2BIG : 0;
}

/* Return: 0, or -errno after a line. */
static int read_tokens(const char *path, uint32_t **ret, uint32_t *ret_nr)
{
	bool is_stdin = strcmp(path, "-") == 0;
	FILE *f = is_stdin ? stdin : fopen(path, "re");
	int err;

	*ret = NULL;
	if (!f) {
		err = -errno;
		fprintf(stderr, "kvctl: %s: %s\n", path, strerror(-err));
		return err;
	}
	err = read_all(f, ret, ret_nr);
	if (!is_stdin)
		fclose(f);
	if (!err && !*ret_nr)
		err = -EINVAL;
	if (err)
		fprintf(stderr, "kvctl: %s: %s\n", path,
			err == -EINVAL ? "no list of token ids" :
					 strerror(-err));
	return err;
}

/* ---- pin ---- */

static int ask_pin(struct kvd *k, const Kvd__PinRequest *m,
		   Kvd__PinReply **ret)
{
	struct call c = { .type = WIRE_PIN,
			  .request = &m->base,
			  .want = &kvd__pin_reply__descriptor };
	int err = call(k, &c);

	if (!err) {
		*ret = (Kvd__PinReply *)c.reply;
		c.reply = NULL;
	}
	call_end(&c);
	return err;
}

/* The last block of @tokens that is cached, into @m. Return: 0 or -errno. */
static int find_block(struct kvd *k, Kvd__PinRequest *m, uint32_t *tokens,
		      uint32_t nr)
{
	uint64_t at = 0, want = nr < STEP ? nr : STEP;
	Kvd__PinReply *r;
	int err;

	do {
		m->look = true;
		m->tokens = tokens + at;
		m->n_tokens = nr - at < STEP ? nr - at : STEP;
		err = ask_pin(k, m, &r);
		if (err)
			break;
		want = at + m->n_tokens;
		at = r->tokens;
		m->block = r->block;
		kvd__pin_reply__free_unpacked(r, NULL);
	} while (at == want && at < nr);
	m->tokens = NULL;
	m->n_tokens = 0;
	return err;
}

static int pin(struct kvd *k, const struct pin_args *a, uint32_t *tokens,
	       uint32_t nr, Kvd__PinReply **ret)
{
	Kvd__PinRequest m = KVD__PIN_REQUEST__INIT;
	int err = 0;

	m.space = a->space;
	m.block = a->block;
	if (nr)
		err = find_block(k, &m, tokens, nr);
	m.on = a->on;
	m.look = a->look;
	m.ttl_ms = a->ttl_ms;
	return err ? err : ask_pin(k, &m, ret);
}

static json_t *pin_to_json(const struct pin_args *a, const Kvd__PinReply *r)
{
	char id[32];

	snprintf(id, sizeof(id), "%u:%u", a->space, r->block);
	return json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "id",
			 id, "space", (json_int_t)a->space, "tokens",
			 (json_int_t)r->tokens, "pages", (json_int_t)r->pages,
			 "bytes", (json_int_t)r->bytes, "new_bytes",
			 (json_int_t)r->new_bytes, "ttl_ms",
			 (json_int_t)r->ttl_ms, "pinned",
			 (json_int_t)r->pinned, "pin_max",
			 (json_int_t)r->pin_max);
}

static void print_pin(const struct pin_args *a, json_t *j)
{
	if (a->common.json) {
		json_dumpf(j, stdout, 0);
		putchar('\n');
		return;
	}
	printf("%s %s: %lld tokens, %lld bytes of %lld pages, %lld of them "
	       "not pinned before\n", a->look ? "would pin" : "pinned",
	       json_text(j, "id"), (long long)json_count(j, "tokens"),
	       (long long)json_count(j, "bytes"),
	       (long long)json_count(j, "pages"),
	       (long long)json_count(j, "new_bytes"));
	if (!a->look)
		printf("for %lld s\n",
		       (long long)json_count(j, "ttl_ms") / 1000);
	printf("its tenant has pinned %lld bytes of %lld\n",
	       (long long)json_count(j, "pinned"),
	       (long long)json_count(j, "pin_max"));
}

static int work(struct kvd *k, void *args)
{
	const struct pin_args *a = args;
	uint32_t *tokens = NULL, nr = 0;
	Kvd__PinReply *r = NULL;
	json_t *j;
	int err;

	if (a->tokens && read_tokens(a->tokens, &tokens, &nr) < 0) {
		free(tokens);
		return FAILED;
	}
	err = pin(k, a, tokens, nr, &r);
	if (!err) {
		j = pin_to_json(a, r);
		print_pin(a, j);
		json_decref(j);
		kvd__pin_reply__free_unpacked(r, NULL);
	}
	free(tokens);
	return err;
}

static int run(int argc, char **argv)
{
	static const struct runner r = {
		.name = "pin", .usage = usage, .take = take, .check = check,
		.work = work
	};
	struct pin_args a = { .ttl_ms = TTL_MS };

	return run_with(&r, argc, argv, &a);
}

const struct command command_pin = {
	.name = "pin", .summary = "keep a prompt cached (pin --help)",
	.run = run
};
