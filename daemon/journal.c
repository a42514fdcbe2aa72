// SPDX-License-Identifier: Apache-2.0
/*
 * journal.c - lines of the log with fields, as journald takes them.
 *
 *	journalctl -u kvd KVD_TENANT=chat -o verbose
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#define SD_JOURNAL_SUPPRESS_LOCATION /* it would be this file */
#include <systemd/sd-journal.h>
#include "daemon/net/peer.h"
#include "daemon/service.h"

#define MAX_FIELDS 10

struct entry {
	struct iovec iov[MAX_FIELDS];
	int nr;
	char text[512];		/* of all but the message */
	size_t used;
};

static void put(struct entry *e, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

static void put(struct entry *e, const char *format, ...)
{
	char *at = e->text + e->used;
	size_t room = sizeof(e->text) - e->used;
	va_list ap;
	int n;

	va_start(ap, format);
	n = vsnprintf(at, room, format, ap);
	va_end(ap);
	if (n < 0 || (size_t)n >= room || e->nr == MAX_FIELDS)
		return;
	e->iov[e->nr++] = (struct iovec){ at, (size_t)n };
	e->used += (size_t)n;
}

static void put_about(struct entry *e, const struct log_about *a)
{
	if (a->client)
		put(e, "KVD_CLIENT=%" PRIu32, a->client);
	if (a->peer) {
		put(e, "KVD_PID=%d", (int)a->peer->pid);
		put(e, "KVD_UID=%u", (unsigned)a->peer->uid);
	}
	if (a->tenant)
		put(e, "KVD_TENANT=%s", a->tenant);
	if (a->space)
		put(e, "KVD_SPACE=%" PRIu32, a->space);
	if (a->pages)
		put(e, "KVD_PAGES=%" PRIu64, a->pages);
	if (a->bytes)
		put(e, "KVD_BYTES=%" PRIu64, a->bytes);
}

bool service_journal(int level, const char *text,
		     const struct log_about *about)
{
	char message[1100];
	int n = snprintf(message, sizeof(message), "MESSAGE=%s", text);
	struct entry e = { .nr = 1 };

	e.iov[0] = (struct iovec){ message, (size_t)n };
	put(&e, "PRIORITY=%d", level);
	put(&e, "SYSLOG_IDENTIFIER=kvd");
	put_about(&e, about);
	return n > 0 && (size_t)n < sizeof(message) &&
	       sd_journal_sendv(e.iov, e.nr) == 0;
}
