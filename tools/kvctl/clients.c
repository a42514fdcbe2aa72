// SPDX-License-Identifier: Apache-2.0
/*
 * clients.c - kvctl clients: who is connected, and what each holds.
 */
#include "client-lib/call.h"
#include "proto/kvd.pb-c.h"
#include "tools/kvctl/json.h"
#include "tools/kvctl/kvctl.h"
#include "tools/kvctl/table.h"

static json_t *client_to_json(const Kvd__ClientStat *c)
{
	return json_pack(
		"{s:i, s:i, s:I, s:o, s:o, s:I, s:I, s:I, s:I, s:I}", "id",
		(int)c->id, "pid", (int)c->pid, "uid", (json_int_t)c->uid, "tenant",
		json_safe(c->tenant), "program", json_safe(c->program),
		"connected_ms", (json_int_t)c->connected_ms, "requests",
		(json_int_t)c->requests, "open_pages",
		(json_int_t)c->open_pages, "held_pages",
		(json_int_t)c->held_pages, "bytes", (json_int_t)c->bytes);
}

/* Adds a reply's clients to @clients. Return: id of the last, 0: no more. */
static uint32_t add(json_t *clients, const Kvd__ClientsReply *r)
{
	size_t i;

	for (i = 0; i < r->n_clients; i++)
		json_array_append_new(clients, client_to_json(r->clients[i]));
	return r->more && i ? r->clients[i - 1]->id : 0;
}

static int ask(struct kvd *k, const struct options *o, json_t **ret)
{
	Kvd__ClientsRequest m = KVD__CLIENTS_REQUEST__INIT;
	json_t *clients = json_array();
	int err;

	do {
		struct call c = { .type = WIRE_CLIENTS,
				  .request = &m.base,
				  .want = &kvd__clients_reply__descriptor };

		err = call(k, &c);
		m.after = err ? 0 :
				add(clients,
				    (const Kvd__ClientsReply *)c.reply);
		call_end(&c);
	} while (m.after);
	*ret = json_pack("{s:o}", "clients", clients);
	return err;
}

static void print(const json_t *answer)
{
	static const char *const head[] = { "program",  "id",     "pid",
		                            "uid",      "tenant", "connected",
		                            "requests", "open",   "held",
		                            "bytes" };
	struct table t = TABLE_NULL;
	const json_t *c;
	size_t i;

	table_row(&t);
	for (i = 0; i < sizeof(head) / sizeof(head[0]); i++)
		table_text(&t, head[i]);
	json_array_foreach(json_object_get(answer, "clients"), i, c) {
		table_row(&t);
		table_text(&t, json_text(c, "program"));
		table_count(&t, json_count(c, "id"));
		table_count(&t, json_count(c, "pid"));
		table_count(&t, json_count(c, "uid"));
		table_text(&t, json_text(c, "tenant"));
		table_time(&t, json_count(c, "connected_ms"));
		table_count(&t, json_count(c, "requests"));
		table_count(&t, json_count(c, "open_pages"));
		table_count(&t, json_count(c, "held_pages"));
		table_bytes(&t, json_count(c, "bytes"));
	}
	table_print(&t);
}

const struct command command_clients = { "clients",
	                                 "who is connected and holds what", ask,
	                                 print };
