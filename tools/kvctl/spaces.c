// SPDX-License-Identifier: Apache-2.0
/*
 * spaces.c - kvctl spaces: which models keep pages here, in which geometry.
 */
#include <stdio.h>
#include "client-lib/call.h"
#include "proto/kvd.pb-c.h"
#include "tools/kvctl/json.h"
#include "tools/kvctl/kvctl.h"
#include "tools/kvctl/table.h"

static json_t *group_to_json(const Kvd__Group *g)
{
	return json_pack("{s:i, s:i, s:i, s:i, s:i, s:i, s:b}", "nr_layers",
	                 (int)g->nr_layers, "nr_kv_heads", (int)g->nr_kv_heads,
	                 "head_first", (int)g->head_first, "k_dim",
	                 (int)g->k_dim, "v_dim", (int)g->v_dim, "window",
	                 (int)g->window, "exact", (int)g->exact);
}

static json_t *groups_to_json(const Kvd__Geometry *g)
{
	json_t *groups = json_array();
	size_t i;

	for (i = 0; i < g->n_groups; i++)
		json_array_append_new(groups, group_to_json(g->groups[i]));
	return groups;
}

static json_t *geometry_to_json(const Kvd__Geometry *g)
{
	char text[KVD_FORMATS_TEXT];

	char demoted[KVD_FORMATS_TEXT];

	return json_pack("{s:i, s:s, s:s, s:s, s:o, s:s, s:s, s:i, s:o, s:o}",
	                 "page_tokens", (int)g->page_tokens, "format",
	                 kvd_formats_name(g->k_format, g->v_format, text),
	                 "k_format", kvd_format_name(g->k_format), "v_format",
	                 kvd_format_name(g->v_format), "demote",
	                 g->demote_k ? json_string(kvd_formats_name(
	                                       g->demote_k, g->demote_v,
	                                       demoted)) : json_null(),
	                 "open_format",
	                 kvd_format_name(g->open_format), "tile_order",
	                 g->tile_order == KVD_TILE_MMA ? "mma" : "row",
	                 "exact_pages",
	                 (int)g->exact_pages, "profile",
	                 g->profile ? json_hex64(g->profile) : json_null(),
	                 "groups", groups_to_json(g));
}

static json_t *space_to_json(const Kvd__SpaceStat *s)
{
	static const Kvd__Geometry none = KVD__GEOMETRY__INIT;
	json_t *j, *geometry;

	j = json_pack("{s:i, s:o, s:o, s:o, s:i, s:i, s:i, s:I, s:I, s:I, s:o}",
	              "id", (int)s->id, "tenant", json_safe(s->tenant), "model",
	              json_hex(s->model.data, s->model.len), "fingerprint",
	              json_hex64(s->fingerprint), "tp_rank", (int)s->tp_rank,
	              "tp_size", (int)s->tp_size, "clients", (int)s->clients,
	              "blocks", (json_int_t)s->blocks, "hits",
	              (json_int_t)s->hits, "misses", (json_int_t)s->misses,
	              "pages", json_counts(s->pages));
	geometry = geometry_to_json(s->geometry ? s->geometry : &none);
	json_object_update(j, geometry);
	json_decref(geometry);
	return j;
}

/* Adds a reply's spaces to @spaces. Return: whether there are more. */
static bool add(json_t *spaces, const Kvd__SpacesReply *r)
{
	size_t i;

	for (i = 0; i < r->n_spaces; i++)
		json_array_append_new(spaces, space_to_json(r->spaces[i]));
	return r->more && i;
}

static int ask(struct kvd *k, const struct options *o, json_t **ret)
{
	Kvd__SpacesRequest m = KVD__SPACES_REQUEST__INIT;
	json_t *spaces = json_array();
	bool more;
	int err;

	do {
		struct call c = { .type = WIRE_SPACES,
				  .request = &m.base,
				  .want = &kvd__spaces_reply__descriptor };

		m.skip = (uint32_t)json_array_size(spaces);
		err = call(k, &c);
		more = !err &&
		       add(spaces, (const Kvd__SpacesReply *)c.reply);
		call_end(&c);
	} while (more);
	*ret = json_pack("{s:o}", "spaces", spaces);
	return err;
}

/* With what pages are demoted to, if they are. */
static void print_formats(struct table *t, const json_t *s)
{
	const char *demote = json_string_value(json_object_get(s, "demote"));
	char text[TABLE_CELL];

	snprintf(text, sizeof(text), "%s%s%s", json_text(s, "format"),
	         demote ? " > " : "", demote ? demote : "");
	table_text(t, text);
}

static void print_space(struct table *t, const json_t *s)
{
	const json_t *pages = json_object_get(s, "pages");
	char text[TABLE_CELL];

	table_row(t);
	table_count(t, json_count(s, "id"));
	table_text(t, json_text(s, "tenant"));
	snprintf(text, sizeof(text), "%.12s", json_text(s, "model"));
	table_text(t, text);
	print_formats(t, s);
	table_count(t, json_count(s, "page_tokens"));
	table_count(t, json_count(s, "exact_pages"));
	table_count(t, (int64_t)json_array_size(json_object_get(s, "groups")));
	snprintf(text, sizeof(text), "%lld/%lld",
	         (long long)json_count(s, "tp_rank"),
	         (long long)json_count(s, "tp_size"));
	table_text(t, text);
	table_count(t, json_count(s, "clients"));
	table_count(t, json_count(s, "blocks"));
	table_count(t, json_count(pages, "open"));
	table_count(t, json_count(pages, "sealed"));
	table_count(t, json_count(pages, "cached"));
	table_count(t, json_count(s, "hits"));
	table_count(t, json_count(s, "misses"));
}

static void print(const json_t *answer)
{
	static const char *const head[] = { "space",  "tenant",  "model",
		                            "format", "tokens",  "exact",
		                            "groups", "tp",      "clients",
		                            "blocks", "open",    "sealed",
		                            "cached", "hits",    "misses" };
	struct table t = TABLE_NULL;
	const json_t *s;
	size_t i;

	table_row(&t);
	for (i = 0; i < sizeof(head) / sizeof(head[0]); i++)
		table_text(&t, head[i]);
	json_array_foreach(json_object_get(answer, "spaces"), i, s)
		print_space(&t, s);
	table_print(&t);
}

const struct command command_spaces = { "spaces",
	                                "models, their geometry and hits", ask,
	                                print };
