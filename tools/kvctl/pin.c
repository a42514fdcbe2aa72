// SPDX-License-Identifier: Apache-2.0
/*
 * pin.c - kvctl pin, unpin, pins: prompts that stay cached, for a time.
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
#include "tools/kvctl/table.h"

#define FAILED	   1
#define USAGE	   2
#define TTL_MS	   300000u
#define STEP	   8192u	/* tokens of a request: pages of any size */
#define MAX_TOKENS (1u << 24)

static const char pin_usage[] =
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

static const char unpin_usage[] =
	"usage: kvctl unpin SPACE:BLOCK|all [--json] [--socket PATH]\n"
	"\n"
	"Ends a pin (kvctl pins has them), or all that may be ended: what it kept\n"
	"is cached as anything else then.\n"
	"\n"
	"For root, the daemon's own user and the admin group; of their own tenant\n"
	"for its users.\n"
	"Exit status: 0; 1 refused; 2 bad usage.\n";

struct pin_args {
	const char *socket;
	const char *tokens;	/* a file */
	uint32_t space;
	uint32_t block;
	uint64_t ttl_ms;
	bool on;
	bool look;
	bool all;		/* unpin */
	bool json;
};

static int bad(const char *command, const char *what, const char *text)
{
	fprintf(stderr, "kvctl: %s%s (kvctl %s --help)\n", what, text, command);
	return -EINVAL;
}

/* "3:17", or "3" alone. */
static int parse_id(const char *text, struct pin_args *a)
{
	const char *colon = strchr(text, ':');
	char space[16];

	if (!colon)
		return space_parse(text, &a->space);
	if ((size_t)(colon - text) >= sizeof(space))
		return -EINVAL;
	snprintf(space, sizeof(space), "%.*s", (int)(colon - text), text);
	if (space_parse(space, &a->space) < 0)
		return -EINVAL;
	return space_parse(colon + 1, &a->block);
}

static int parse_pin(int argc, char **argv, struct pin_args *a)
{
	int i;

	for (i = 0; i < argc; i++) {
		if (strcmp(argv[i], "--json") == 0)
			a->json = true;
		else if (strcmp(argv[i], "--on") == 0)
			a->on = true;
		else if (strcmp(argv[i], "--look") == 0)
			a->look = true;
		else if (strcmp(argv[i], "--socket") == 0 && i + 1 < argc)
			a->socket = argv[++i];
		else if (strcmp(argv[i], "--tokens") == 0 && i + 1 < argc)
			a->tokens = argv[++i];
		else if (strcmp(argv[i], "--ttl") == 0 && i + 1 < argc) {
			if (time_parse(argv[++i], &a->ttl_ms) < 0 ||
			    !a->ttl_ms)
				return bad("pin", "not a time, with s, min or "
					   "h: ", argv[i]);
		} else if (argv[i][0] == '-' || a->space)
			return bad("pin", "what is ", argv[i]);
		else if (parse_id(argv[i], a) < 0)
			return bad("pin", "not SPACE:BLOCK, nor a space: ",
				   argv[i]);
	}
	if (!a->space)
		return bad("pin", "which prompt? SPACE:BLOCK, or SPACE "
			   "--tokens FILE", "");
	if (!a->block == !a->tokens)
		return bad("pin", "a block, or else --tokens", "");
	return 0;
}

static int parse_unpin(int argc, char **argv, struct pin_args *a)
{
	int i;

	for (i = 0; i < argc; i++) {
		if (strcmp(argv[i], "--json") == 0)
			a->json = true;
		else if (strcmp(argv[i], "--socket") == 0 && i + 1 < argc)
			a->socket = argv[++i];
		else if (argv[i][0] == '-' || a->space || a->all)
			return bad("unpin", "what is ", argv[i]);
		else if (strcmp(argv[i], "all") == 0)
			a->all = true;
		else if (parse_id(argv[i], a) < 0 || !a->block)
			return bad("unpin", "not SPACE:BLOCK, nor all: ",
				   argv[i]);
	}
	return a->all || a->space ? 0 : bad("unpin", "which? SPACE:BLOCK, or "
					    "all", "");
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
	if (a->json) {
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

static int run_pin(int argc, char **argv)
{
	struct pin_args a = { .ttl_ms = TTL_MS };
	Kvd__PinReply *r = NULL;
	uint32_t *tokens = NULL, nr = 0;
	struct kvd *k;
	json_t *j;
	int err;

	if (argc == 1 && strcmp(argv[0], "--help") == 0) {
		fputs(pin_usage, stdout);
		return 0;
	}
	if (parse_pin(argc, argv, &a) < 0)
		return USAGE;
	if (a.tokens && read_tokens(a.tokens, &tokens, &nr) < 0) {
		free(tokens);
		return FAILED;
	}
	err = kvctl_connect(a.socket, &k);
	if (err) {
		free(tokens);
		return err;
	}
	err = pin(k, &a, tokens, nr, &r);
	if (err) {
		fprintf(stderr, "kvctl: %s\n", kvd_error(k));
	} else {
		j = pin_to_json(&a, r);
		print_pin(&a, j);
		json_decref(j);
		kvd__pin_reply__free_unpacked(r, NULL);
	}
	kvd_close(k);
	free(tokens);
	return err ? FAILED : 0;
}

/* ---- pins ---- */

static json_t *stat_to_json(const Kvd__PinStat *p)
{
	json_t *first = json_array();
	char id[32];
	size_t i;

	snprintf(id, sizeof(id), "%u:%u", p->space, p->block);
	for (i = 0; i < p->n_first; i++)
		json_array_append_new(first, json_integer(p->first[i]));
	return json_pack("{s:s, s:I, s:I, s:o, s:I, s:I, s:I, s:I, s:o}", "id",
			 id, "space", (json_int_t)p->space, "block",
			 (json_int_t)p->block, "tenant", json_safe(p->tenant),
			 "tokens", (json_int_t)p->tokens, "pages",
			 (json_int_t)p->pages, "bytes", (json_int_t)p->bytes,
			 "ttl_ms", (json_int_t)p->ttl_ms, "first", first);
}

static int ask_pins(struct kvd *k, const struct options *o, json_t **ret)
{
	Kvd__PinsRequest m = KVD__PINS_REQUEST__INIT;
	json_t *pins = json_array();
	const Kvd__PinsReply *r;
	bool more;
	size_t i;
	int err;

	do {
		struct call c = { .type = WIRE_PINS,
				  .request = &m.base,
				  .want = &kvd__pins_reply__descriptor };

		err = call(k, &c);
		r = err ? NULL : (const Kvd__PinsReply *)c.reply;
		for (i = 0; r && i < r->n_pins; i++)
			json_array_append_new(pins, stat_to_json(r->pins[i]));
		m.skip += (uint32_t)i;
		more = r && r->more && i;
		call_end(&c);
	} while (more);
	*ret = json_pack("{s:o}", "pins", pins);
	return err;
}

/* The tokens are last, and as long as they are. */
static void print_first(struct table *t, const json_t *pin)
{
	const json_t *token;
	char text[TABLE_CELL] = "";
	size_t i, n = 0;

	json_array_foreach(json_object_get(pin, "first"), i, token)
		if (n < sizeof(text))
			n += (size_t)snprintf(
				text + n, sizeof(text) - n, "%s%lld",
				n ? " " : "",
				(long long)json_integer_value(token));
	table_text(t, text);
}

static void print_pins(const json_t *answer)
{
	static const char *const head[] = { "pin", "tenant", "tokens", "pages",
					    "bytes", "left", "begins with" };
	struct table t = TABLE_NULL;
	const json_t *pin;
	size_t i;

	table_row(&t);
	for (i = 0; i < sizeof(head) / sizeof(head[0]); i++)
		table_text(&t, head[i]);
	t.left = 6;
	json_array_foreach(json_object_get(answer, "pins"), i, pin) {
		table_row(&t);
		table_text(&t, json_text(pin, "id"));
		table_text(&t, json_text(pin, "tenant"));
		table_count(&t, json_count(pin, "tokens"));
		table_count(&t, json_count(pin, "pages"));
		table_bytes(&t, json_count(pin, "bytes"));
		table_time(&t, json_count(pin, "ttl_ms"));
		print_first(&t, pin);
	}
	table_print(&t);
}

/* ---- unpin ---- */

static int unpin(struct kvd *k, uint32_t space, uint32_t block)
{
	Kvd__UnpinRequest m = KVD__UNPIN_REQUEST__INIT;
	struct call c = { .type = WIRE_UNPIN,
			  .request = &m.base,
			  .want = &kvd__unpin_reply__descriptor };
	int err;

	m.space = space;
	m.block = block;
	err = call(k, &c);
	call_end(&c);
	return err;
}

/* One that has ended while we ask is no failure. */
static int unpin_all(struct kvd *k, uint32_t *ret_nr)
{
	json_t *answer = NULL;
	const json_t *pin;
	size_t i;
	int err = ask_pins(k, NULL, &answer);

	json_array_foreach(json_object_get(answer, "pins"), i, pin) {
		if (err)
			break;
		err = unpin(k, (uint32_t)json_count(pin, "space"),
			    (uint32_t)json_count(pin, "block"));
		*ret_nr += !err;
		if (err == -ENOENT)
			err = 0;
	}
	json_decref(answer);
	return err;
}

static int run_unpin(int argc, char **argv)
{
	struct pin_args a = { 0 };
	uint32_t nr = 0;
	struct kvd *k;
	int err;

	if (argc == 1 && strcmp(argv[0], "--help") == 0) {
		fputs(unpin_usage, stdout);
		return 0;
	}
	if (parse_unpin(argc, argv, &a) < 0)
		return USAGE;
	err = kvctl_connect(a.socket, &k);
	if (err)
		return err;
	if (a.all)
		err = unpin_all(k, &nr);
	else
		err = unpin(k, a.space, a.block);
	nr += !a.all && !err;
	if (err)
		fprintf(stderr, "kvctl: %s\n", kvd_error(k));
	else
		printf(a.json ? "{\"pins\": %u}\n" : "ended %u pins\n", nr);
	kvd_close(k);
	return err ? FAILED : 0;
}

const struct command command_pin = {
	.name = "pin", .summary = "keep a prompt cached (pin --help)",
	.run = run_pin
};
const struct command command_unpin = {
	.name = "unpin", .summary = "end a pin (unpin --help)",
	.run = run_unpin
};
const struct command command_pins = {
	.name = "pins", .summary = "what is pinned, and for how long",
	.ask = ask_pins, .print = print_pins
};
