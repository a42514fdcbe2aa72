// SPDX-License-Identifier: Apache-2.0
/*
 * fsck.c - kvctl fsck: has a running daemon walk its whole structure.
 *
 * It counts everything again, and shows each thing that does not add up. main
 * makes an exit status of verify_error.
 */
#include <stdio.h>
#include "client-lib/call.h"
#include "proto/kvd.pb-c.h"
#include "tools/kvctl/json.h"
#include "tools/kvctl/kvctl.h"

/* Kvd serves nobody while it walks, and may have others before us. */
#define WALK_MS 60000

static const char *const states[] = { "free",	"open",	       "sealed",
				      "cached", "demoted",     "quarantined",
				      "revoked" };

#define NR_STATES (sizeof(states) / sizeof(states[0]))

static json_t *to_json(const Kvd__StatReply *r)
{
	json_t *answer = json_object(), *violations = json_array();
	size_t i;

	for (i = 0; i < r->n_violations; i++)
		json_array_append_new(violations,
				      json_safe(r->violations[i]));
	if (r->n_pools)
		json_object_set_new(answer, "pages",
				    json_counts(r->pools[0]->pages));
	json_object_set_new(answer, "violations", violations);
	json_object_set_new(answer, "nr_violations",
			    json_integer((json_int_t)r->nr_violations));
	json_object_set_new(answer, "verify_error",
			    r->nr_violations ? json_safe(r->verify_error) :
					       json_null());
	return answer;
}

static int ask(struct kvd *k, const struct options *o, json_t **ret)
{
	Kvd__StatRequest m = KVD__STAT_REQUEST__INIT;
	struct call c = { .type = WIRE_STAT,
			  .request = &m.base,
			  .want = &kvd__stat_reply__descriptor,
			  .extra_ms = WALK_MS };
	int err;

	(void)o;
	m.verify = 1;
	err = call(k, &c);
	if (!err)
		*ret = to_json((const Kvd__StatReply *)c.reply);
	call_end(&c);
	return err;
}

static void print_pages(const json_t *pages)
{
	size_t i;

	for (i = 0; i < NR_STATES; i++)
		printf("%s%lld %s", i ? " + " : "",
		       (long long)json_count(pages, states[i]), states[i]);
	printf(" = %lld pages\n", (long long)json_count(pages, "total"));
}

static void print(const json_t *answer)
{
	const json_t *lines = json_object_get(answer, "violations"), *line;
	int64_t nr = json_count(answer, "nr_violations");
	size_t i;

	print_pages(json_object_get(answer, "pages"));
	json_array_foreach(lines, i, line)
		printf("%s\n", json_string_value(line));
	if (nr > (int64_t)json_array_size(lines))
		printf("and %lld more\n",
		       (long long)nr - (long long)json_array_size(lines));
	if (!nr)
		printf("everything balances\n");
}

const struct command command_fsck = {
	"fsck", "walks the whole structure (admin)", ask, print
};
