// SPDX-License-Identifier: Apache-2.0
/*
 * quarantine.c - kvctl quarantine: pages of writers that have gone, what they
 * wait for, and their release by hand.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "client-lib/call.h"
#include "proto/kvd.pb-c.h"
#include "tools/kvctl/json.h"
#include "tools/kvctl/kvctl.h"
#include "tools/kvctl/table.h"

static const char usage[] =
	"usage: kvctl quarantine [--json] [--socket PATH]\n"
	"       kvctl quarantine release PID[:START]|--all [--force] [--json]\n"
	"\n"
	"Lists pages whose writers have gone without a goodbye, and what is waited\n"
	"for until they are used again: the end of the process, or that MPS does not\n"
	"list it any more. START tells processes apart that had one pid.\n"
	"\n"
	"release frees them at once. WARNING: kvd then takes your word that no work\n"
	"of that process is on the GPU any more. If there is, it writes over the keys\n"
	"and values of whoever has the pages next, and nobody notices. Be sure: end\n"
	"the MPS server, or see that the GPU is idle.\n"
	"\n"
	"  --all    of all processes that have ended\n"
	"  --force  also of those that kvd has not seen to end: that live, or run in\n"
	"           a PID namespace that it cannot see\n"
	"\n"
	"release is for root, the daemon's own user and the admin group; other users\n"
	"are shown their own tenant's.\n"
	"Exit status: 0; 1 refused; 2 bad usage.\n";

struct quarantine_args {
	struct common common;
	bool release;
	bool pid_given;
	Kvd__QuarantineReleaseRequest m;
};

/* ---- the list ---- */

static const char *const waits[] = {
	[KVD__QUARANTINE_STAT__WAIT__UNCLAIMED] = "may be claimed yet",
	[KVD__QUARANTINE_STAT__WAIT__LIVES] = "the process lives",
	[KVD__QUARANTINE_STAT__WAIT__HIDDEN] = "the process cannot be seen",
	[KVD__QUARANTINE_STAT__WAIT__SETTLING] = "it is ending",
	[KVD__QUARANTINE_STAT__WAIT__MPS] = "MPS lists it",
	[KVD__QUARANTINE_STAT__WAIT__MPS_SILENT] =
		"MPS does not tell: release it",
};

static const char *wait_text(Kvd__QuarantineStat__Wait wait)
{
	return (unsigned)wait < sizeof(waits) / sizeof(waits[0]) ? waits[wait] :
								   "?";
}

/* What release takes: START where there is no pid. */
static json_t *id_to_json(const Kvd__QuarantineStat *w)
{
	char id[48];

	snprintf(id, sizeof(id), w->pid ? "%" PRIu32 : "%" PRIu32 ":%" PRIu64,
		 w->pid, w->start_time);
	return json_string(id);
}

static json_t *writer_to_json(const Kvd__QuarantineStat *w)
{
	return json_pack("{s:o, s:I, s:I, s:o, s:o, s:I, s:s, s:I}", "id",
			 id_to_json(w), "pid", (json_int_t)w->pid, "start_time",
			 (json_int_t)w->start_time, "tenant",
			 json_safe(w->tenant), "uid",
			 w->uid_known ? json_integer((json_int_t)w->uid) :
					json_null(),
			 "pages", (json_int_t)w->pages, "waits_for",
			 wait_text(w->wait), "since_ms",
			 (json_int_t)w->since_ms);
}

static int ask(struct kvd *k, json_t *writers)
{
	Kvd__QuarantineRequest m = KVD__QUARANTINE_REQUEST__INIT;
	const Kvd__QuarantineReply *r;
	bool more;
	size_t i;
	int err;

	do {
		struct call c = { .type = WIRE_QUARANTINE,
				  .request = &m.base,
				  .want = &kvd__quarantine_reply__descriptor };

		err = call(k, &c);
		r = err ? NULL : (const Kvd__QuarantineReply *)c.reply;
		for (i = 0; r && i < r->n_writers; i++)
			json_array_append_new(writers,
					      writer_to_json(r->writers[i]));
		m.skip += (uint32_t)i;
		more = r && r->more && i;
		call_end(&c);
	} while (more);
	return err;
}

static void print_list(const json_t *writers)
{
	static const char *const head[] = { "tenant", "uid", "pid", "pages",
					    "since", "waits for" };
	struct table t = TABLE_NULL;
	const json_t *w;
	size_t i;

	table_row(&t);
	for (i = 0; i < sizeof(head) / sizeof(head[0]); i++)
		table_text(&t, head[i]);
	t.left = 5;
	json_array_foreach(writers, i, w) {
		table_row(&t);
		table_text(&t, json_text(w, "tenant"));
		if (json_is_integer(json_object_get(w, "uid")))
			table_count(&t, json_count(w, "uid"));
		else
			table_text(&t, "?");
		table_text(&t, json_text(w, "id"));
		table_count(&t, json_count(w, "pages"));
		table_time(&t, json_count(w, "since_ms"));
		table_text(&t, json_text(w, "waits_for"));
	}
	table_print(&t);
}

static int list(struct kvd *k, const struct quarantine_args *a)
{
	json_t *writers = json_array(), *answer;
	int err = ask(k, writers);

	if (err || !a->common.json) {
		if (!err)
			print_list(writers);
		json_decref(writers);
		return err;
	}
	answer = json_pack("{s:o}", "writers", writers);
	json_dumpf(answer, stdout, 0);
	putchar('\n');
	json_decref(answer);
	return 0;
}

/* ---- release ---- */

static void print_released(const struct quarantine_args *a,
			   const Kvd__QuarantineReleaseReply *sum)
{
	if (a->common.json) {
		printf("{\"pages\": %" PRIu64 ", \"writers\": %" PRIu32
		       ", \"left_pages\": %" PRIu64 ", \"left_writers\": %"
		       PRIu32 "}\n",
		       sum->pages, sum->writers, sum->left_pages,
		       sum->left_writers);
		return;
	}
	printf("released %" PRIu64 " pages of %" PRIu32 " processes\n",
	       sum->pages, sum->writers);
	if (sum->left_writers)
		printf("left %" PRIu64 " pages of %" PRIu32 " processes that "
		       "have not been seen to end (--force)\n",
		       sum->left_pages, sum->left_writers);
}

/* Of all: kvd takes some hundred a request. */
static int release(struct kvd *k, const struct quarantine_args *a)
{
	Kvd__QuarantineReleaseReply sum = KVD__QUARANTINE_RELEASE_REPLY__INIT;
	const Kvd__QuarantineReleaseReply *r;
	bool more;
	int err;

	do {
		struct call c = {
			.type = WIRE_QUARANTINE_RELEASE,
			.request = &a->m.base,
			.want = &kvd__quarantine_release_reply__descriptor
		};

		err = call(k, &c);
		r = err ? NULL : (const Kvd__QuarantineReleaseReply *)c.reply;
		if (r) {
			sum.pages += r->pages;
			sum.writers += r->writers;
			sum.left_pages = r->left_pages;
			sum.left_writers = r->left_writers;
		}
		more = r && a->m.all && r->writers;
		call_end(&c);
	} while (more);
	if (!err)
		print_released(a, &sum);
	return err;
}

/* ---- arguments ---- */

/* PID, or PID:START. */
static int parse_id(const char *text, Kvd__QuarantineReleaseRequest *m)
{
	unsigned long long pid, start = 0;
	char *end;

	if (*text < '0' || *text > '9')
		return -EINVAL;
	errno = 0;
	pid = strtoull(text, &end, 10);
	if (*end == ':' && end[1] >= '0' && end[1] <= '9')
		start = strtoull(end + 1, &end, 10);
	if (*end != '\0' || errno || pid > INT32_MAX)
		return -EINVAL;
	m->pid = (uint32_t)pid;
	m->start_time = start;
	return 0;
}

static int take(int argc, char **argv, int *i, void *args)
{
	struct quarantine_args *a = args;

	if (*i == 0 && strcmp(argv[0], "release") == 0)
		a->release = true;
	else if (a->release && strcmp(argv[*i], "--all") == 0)
		a->m.all = true;
	else if (a->release && strcmp(argv[*i], "--force") == 0)
		a->m.force = true;
	else if (!a->release || a->pid_given || argv[*i][0] == '-')
		return bad("what is ", argv[*i]);
	else if (parse_id(argv[*i], &a->m) < 0)
		return bad("not PID or PID:START: ", argv[*i]);
	else
		a->pid_given = true;
	return 0;
}

static int check(const void *args)
{
	const struct quarantine_args *a = args;

	return a->release && a->pid_given == a->m.all ?
		       bad("which? PID, or --all", "") : 0;
}

static int work(struct kvd *k, void *args)
{
	struct quarantine_args *a = args;

	return a->release ? release(k, a) : list(k, a);
}

static int run(int argc, char **argv)
{
	static const struct runner r = {
		.name = "quarantine", .usage = usage, .take = take, .check = check,
		.work = work
	};
	struct quarantine_args a = {
		.m = KVD__QUARANTINE_RELEASE_REQUEST__INIT
	};

	return run_with(&r, argc, argv, &a);
}

const struct command command_quarantine = {
	.name = "quarantine",
	.summary = "pages of dead writers, their release (quarantine --help)",
	.run = run
};
