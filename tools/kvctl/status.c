// SPDX-License-Identifier: Apache-2.0
/*
 * status.c - kvctl status: is there a daemon, and how is it.
 */
#include <stdio.h>
#include "client-lib/call.h"
#include "proto/kvd.pb-c.h"
#include "tools/kvctl/json.h"
#include "tools/kvctl/kvctl.h"
#include "tools/kvctl/table.h"

static json_t *to_json(const Kvd__StatusReply *r)
{
	return json_pack(
		"{s:s, s:i, s:I, s:s, s:o, s:o, s:o, s:s, s:i, s:i, s:i, "
		"s:o, s:I}",
		"version", r->version, "pid", (int)r->pid, "uptime_ms",
		(json_int_t)r->uptime_ms, "device", r->device, "device_note",
		json_safe(r->device_note), "epoch", json_hex64(r->epoch),
		"instance", json_hex64(r->instance), "state", r->state,
		"clients", (int)r->nr_clients, "spaces", (int)r->nr_spaces,
		"restarts", (int)r->restarts, "socket", json_safe(r->socket),
		"requests", (json_int_t)r->requests);
}

static int ask(struct kvd *k, const struct options *o, json_t **ret)
{
	Kvd__StatusRequest m = KVD__STATUS_REQUEST__INIT;
	struct call c = { .type = WIRE_STATUS,
		          .request = &m.base,
		          .want = &kvd__status_reply__descriptor };
	int err = call(k, &c);

	if (!err)
		*ret = to_json((const Kvd__StatusReply *)c.reply);
	call_end(&c);
	return err;
}

static void print(const json_t *answer)
{
	static const char *const lines[] = {
		"state",   "version", "socket",   "device",  "device_note",
		"clients", "spaces",  "requests", "restarts"
	};
	const json_t *value;
	size_t i;

	for (i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		value = json_object_get(answer, lines[i]);
		if (json_is_integer(value))
			printf("%-12s %lld\n", lines[i],
			       (long long)json_integer_value(value));
		else if (json_string_length(value))
			printf("%-12s %s\n", lines[i],
			       json_string_value(value));
	}
	printf("%-12s %lld, up %.1f s\n", "pid",
	       (long long)json_count(answer, "pid"),
	       (double)json_count(answer, "uptime_ms") / 1000);
}

const struct command command_status = { "status", "the daemon and its device",
	                                ask, print };
