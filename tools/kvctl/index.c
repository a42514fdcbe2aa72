// SPDX-License-Identifier: Apache-2.0
/*
 * index.c - kvctl index: what is cached, how deep, how much of it is shared,
 * and which prompts begin what is used most.
 *
 * kvd looks at so many blocks for each request; we add up. What comes and
 * goes meanwhile may be counted or not.
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

#define MAX_TOP	 64
#define MAX_SEEN 8	/* tokens of a root */

static const char usage[] =
	"usage: kvctl index [SPACE] [--top N] [--json] [--socket PATH]\n"
	"\n"
	"Shows of each space, or of one, what its index looks like: blocks and\n"
	"pages, how deep they are, how many blocks more than one other follows,\n"
	"how often pages were found (up to 255 times each), and the N (10) most\n"
	"used beginnings of prompts: number of the block (for kvctl pin), uses,\n"
	"blocks that follow, first tokens.\n"
	"\n"
	"For root, the daemon's own user and the admin group; of their own tenant\n"
	"for its users.\n"
	"Exit status: 0; 1 refused; 2 bad usage.\n";

struct index_args {
	struct common common;
	uint32_t space;		/* 0: all */
	uint32_t top;
};

struct root {
	uint32_t block;
	uint32_t uses;
	uint32_t nr_tokens;
	uint32_t tokens[MAX_SEEN];
};

struct survey {
	uint32_t space;
	uint64_t blocks, pages, depth_sum, shared, uses;
	uint32_t depth_max;
	uint32_t nr_roots;
	struct root roots[MAX_TOP];
};

static int take(int argc, char **argv, int *i, void *args)
{
	struct index_args *a = args;

	if (strcmp(argv[*i], "--top") == 0 && *i + 1 < argc) {
		if (space_parse(argv[++*i], &a->top) < 0 || a->top > MAX_TOP)
			return bad("not 1 to 64: ", argv[*i]);
	} else if (argv[*i][0] == '-' || a->space) {
		return bad("what is ", argv[*i]);
	} else if (space_parse(argv[*i], &a->space) < 0) {
		return bad("not the number of a space: ", argv[*i]);
	}
	return 0;
}

/* ---- asking ---- */

/* Keeps the most used @top; of equals the one seen first. */
static void add_root(struct survey *v, uint32_t top, const Kvd__IndexRoot *r)
{
	uint32_t i = v->nr_roots;

	if (i < top)
		v->nr_roots++;
	else if (v->roots[top - 1].uses < r->uses)
		i--;
	else
		return;
	for (; i && v->roots[i - 1].uses < r->uses; i--)
		v->roots[i] = v->roots[i - 1];
	v->roots[i] = (struct root){ .block = r->block, .uses = r->uses };
	for (; v->roots[i].nr_tokens < MAX_SEEN &&
	       v->roots[i].nr_tokens < r->n_tokens; v->roots[i].nr_tokens++)
		v->roots[i].tokens[v->roots[i].nr_tokens] =
			r->tokens[v->roots[i].nr_tokens];
}

static void add(struct survey *v, uint32_t top, const Kvd__IndexReply *r)
{
	size_t i;

	v->blocks += r->blocks;
	v->pages += r->pages;
	v->depth_sum += r->depth_sum;
	v->shared += r->shared;
	v->uses += r->uses;
	if (r->depth_max > v->depth_max)
		v->depth_max = r->depth_max;
	for (i = 0; i < r->n_roots; i++)
		add_root(v, top, r->roots[i]);
}

/* All steps. Return: 0 or -errno. */
static int survey(struct kvd *k, uint32_t space, uint32_t top,
		  struct survey *ret)
{
	Kvd__IndexRequest m = KVD__INDEX_REQUEST__INIT;
	const Kvd__IndexReply *r;
	int err;

	memset(ret, 0, sizeof(*ret));
	ret->space = m.space = space;
	m.top = top;
	do {
		struct call c = { .type = WIRE_INDEX,
				  .request = &m.base,
				  .want = &kvd__index_reply__descriptor };

		err = call(k, &c);
		if (!err) {
			r = (const Kvd__IndexReply *)c.reply;
			add(ret, top, r);
			m.serial = r->serial;
			m.from = r->next;
		}
		call_end(&c);
	} while (!err && m.from);
	return err;
}

/* Blocks that follow @block; *ret_more where there are more of them. */
static int below(struct kvd *k, uint32_t space, uint32_t block,
		 uint64_t *ret, bool *ret_more)
{
	Kvd__IndexRequest m = KVD__INDEX_REQUEST__INIT;
	struct call c = { .type = WIRE_INDEX,
			  .request = &m.base,
			  .want = &kvd__index_reply__descriptor };
	int err;

	m.space = space;
	m.below = block;
	err = call(k, &c);
	if (!err) {
		*ret = ((const Kvd__IndexReply *)c.reply)->below;
		*ret_more = ((const Kvd__IndexReply *)c.reply)->below_more;
	}
	call_end(&c);
	return err;
}

static int root_to_json(struct kvd *k, uint32_t space, const struct root *root,
			json_t **ret)
{
	json_t *tokens = json_array();
	uint64_t nr = 0;
	bool more = false;
	uint32_t i;
	int err = below(k, space, root->block, &nr, &more);

	for (i = 0; i < root->nr_tokens; i++)
		json_array_append_new(tokens, json_integer(root->tokens[i]));
	*ret = json_pack("{s:I, s:i, s:I, s:b, s:o}", "block",
			 (json_int_t)root->block, "uses", (int)root->uses,
			 "below", (json_int_t)nr, "below_more", (int)more,
			 "tokens", tokens);
	return err;
}

static int survey_to_json(struct kvd *k, const struct survey *v, json_t **ret)
{
	json_t *roots = json_array(), *root;
	uint32_t i;
	int err = 0;

	for (i = 0; i < v->nr_roots && !err; i++) {
		err = root_to_json(k, v->space, &v->roots[i], &root);
		json_array_append_new(roots, root);
	}
	*ret = json_pack("{s:i, s:I, s:I, s:i, s:f, s:I, s:I, s:o}", "space",
			 (int)v->space, "blocks", (json_int_t)v->blocks,
			 "pages", (json_int_t)v->pages, "depth_max",
			 (int)v->depth_max, "depth_mean",
			 v->blocks ? (double)v->depth_sum / (double)v->blocks :
				     0.0,
			 "shared", (json_int_t)v->shared, "uses",
			 (json_int_t)v->uses, "top", roots);
	return err;
}

static int ask_one(struct kvd *k, uint32_t space, uint32_t top, json_t *spaces)
{
	json_t *j = NULL;
	struct survey v;
	int err;

	err = survey(k, space, top, &v);
	if (err)
		return err;
	err = survey_to_json(k, &v, &j);
	json_array_append_new(spaces, j);
	return err;
}

/* Numbers of all spaces we may see, from the @skip-th on, one reply's. */
static int list(struct kvd *k, uint32_t skip, json_t *ids, bool *ret_more)
{
	Kvd__SpacesRequest m = KVD__SPACES_REQUEST__INIT;
	struct call c = { .type = WIRE_SPACES,
			  .request = &m.base,
			  .want = &kvd__spaces_reply__descriptor };
	const Kvd__SpacesReply *r;
	size_t i;
	int err;

	m.skip = skip;
	err = call(k, &c);
	*ret_more = false;
	if (!err) {
		r = (const Kvd__SpacesReply *)c.reply;
		for (i = 0; i < r->n_spaces; i++)
			json_array_append_new(
				ids, json_integer(r->spaces[i]->id));
		*ret_more = r->more && i;
	}
	call_end(&c);
	return err;
}

/* One that goes while we ask is left out. */
static int ask_all(struct kvd *k, uint32_t top, json_t *spaces)
{
	json_t *ids = json_array();
	const json_t *id;
	bool more = true;
	size_t i;
	int err = 0;

	while (!err && more)
		err = list(k, (uint32_t)json_array_size(ids), ids, &more);
	json_array_foreach(ids, i, id) {
		if (err)
			break;
		err = ask_one(k, (uint32_t)json_integer_value(id), top,
			      spaces);
		if (err == -ENOENT)
			err = 0;
	}
	json_decref(ids);
	return err;
}

/* ---- showing ---- */

static void print_space(struct table *t, const json_t *s)
{
	char text[TABLE_CELL];

	table_row(t);
	table_count(t, json_count(s, "space"));
	table_count(t, json_count(s, "blocks"));
	table_count(t, json_count(s, "pages"));
	table_count(t, json_count(s, "depth_max"));
	snprintf(text, sizeof(text), "%.1f",
		 json_real_value(json_object_get(s, "depth_mean")));
	table_text(t, text);
	table_count(t, json_count(s, "shared"));
	table_count(t, json_count(s, "uses"));
}

/* The tokens are last, and as long as they are. */
static void print_roots(const json_t *s)
{
	const json_t *root, *token;
	size_t i, j;

	json_array_foreach(json_object_get(s, "top"), i, root) {
		if (i == 0)
			printf("\nspace %lld, most used:\n"
			       "  block  uses  below  tokens\n",
			       (long long)json_count(s, "space"));
		printf("%7lld %5lld  %5lld%c ",
		       (long long)json_count(root, "block"),
		       (long long)json_count(root, "uses"),
		       (long long)json_count(root, "below"),
		       json_is_true(json_object_get(root, "below_more")) ?
			       '+' : ' ');
		json_array_foreach(json_object_get(root, "tokens"), j, token)
			printf(" %lld", (long long)json_integer_value(token));
		putchar('\n');
	}
}

static void print(const json_t *answer)
{
	static const char *const head[] = { "space", "blocks", "pages",
					    "deepest", "mean", "shared",
					    "uses" };
	const json_t *spaces = json_object_get(answer, "spaces"), *s;
	struct table t = TABLE_NULL;
	size_t i;

	table_row(&t);
	for (i = 0; i < sizeof(head) / sizeof(head[0]); i++)
		table_text(&t, head[i]);
	json_array_foreach(spaces, i, s)
		print_space(&t, s);
	table_print(&t);
	json_array_foreach(spaces, i, s)
		print_roots(s);
}

static int work(struct kvd *k, void *args)
{
	const struct index_args *a = args;
	json_t *spaces = json_array();
	json_t *answer = json_pack("{s:o}", "spaces", spaces);
	int err;

	err = a->space ? ask_one(k, a->space, a->top, spaces) :
			 ask_all(k, a->top, spaces);
	if (!err && a->common.json) {
		json_dumpf(answer, stdout, 0);
		putchar('\n');
	} else if (!err) {
		print(answer);
	}
	json_decref(answer);
	return err;
}

static int run(int argc, char **argv)
{
	static const struct runner r = {
		.name = "index", .usage = usage, .take = take,
		.work = work
	};
	struct index_args a = { .top = 10 };

	return run_with(&r, argc, argv, &a);
}

const struct command command_index = {
	.name = "index", .summary = "what is cached, shared, used most",
	.run = run
};
