// SPDX-License-Identifier: Apache-2.0
/*
 * status.c - kvctl status: is there a daemon, and how is it.
 */
#include <stdio.h>
#include "client-lib/call.h"
#include "proto/kvd.pb-c.h"
#include "tools/kvctl/json.h"
#include "tools/kvctl/kvctl.h"

static json_t *to_json(const Kvd__StatusReply *r)
{
	return json_pack(
		"{s:s, s:i, s:I, s:s, s:o, s:o, s:o, s:s, s:i, s:i, s:i, "
		"s:o, s:I, s:I, s:o}",
		"version", r->version, "pid", (int)r->pid, "uptime_ms",
		(json_int_t)r->uptime_ms, "device", r->device, "device_note",
		json_safe(r->device_note), "epoch", json_hex64(r->epoch),
		"instance", json_hex64(r->instance), "state", r->state,
		"clients", (int)r->nr_clients, "spaces", (int)r->nr_spaces,
		"restarts", (int)r->restarts, "socket", json_safe(r->socket),
		"requests", (json_int_t)r->requests, "room",
		(json_int_t)r->room, "watermarks",
		json_marks(r->mark_min, r->mark_low, r->mark_high));
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
	static const char *const texts[] = { "state", "version", "socket",
					     "device" };
	static const char *const counts[] = { "clients", "spaces", "requests",
					      "restarts" };
	size_t i;

	for (i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		printf("%-10s%s\n", texts[i], json_text(answer, texts[i]));
	printf("%-10s%s\n", "", json_text(answer, "device_note"));
	for (i = 0; i < sizeof(counts) / sizeof(counts[0]); i++)
		printf("%-10s%lld\n", counts[i],
		       (long long)json_count(answer, counts[i]));
	printf("%-10s", "room");
	print_room(answer);
	printf("%-10s%lld, up %.1f s\n", "pid",
	       (long long)json_count(answer, "pid"),
	       (double)json_count(answer, "uptime_ms") / 1000);
}

const struct command command_status = { "status", "the daemon and its device",
	                                ask, print };
