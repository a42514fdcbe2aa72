// SPDX-License-Identifier: Apache-2.0
/*
 * top_text.c - the view as lines, no wider and no more than the screen has.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tools/kvctl/json.h"
#include "tools/kvctl/top.h"

#define BYTES_TEXT 12

/* Lines, each of which ends where the screen does. */
struct page {
	FILE *out;
	unsigned columns, rows, nr; /* rows 0: no end */
};

static const struct {
	const char *state;
	char sign;
} signs[] = {
	{ "open", 'o' },	{ "sealed", '#' },  { "cached", '=' },
	{ "demoted", 'd' },	{ "quarantined", 'q' }, { "revoked", 'r' },
	{ "free", '.' },
};

#define NR_SIGNS (sizeof(signs) / sizeof(signs[0]))

/* Is this byte the first of a character? */
static bool begins(char c)
{
	return (c & 0xc0) != 0x80;
}

__attribute__((format(printf, 2, 3))) static void line(struct page *p,
                                                       const char *fmt, ...)
{
	char text[1024];
	unsigned i, width = 0;
	va_list ap;

	if (p->rows && p->nr >= p->rows)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	for (i = 0; text[i]; i++) {
		width += begins(text[i]);
		if (width > p->columns)
			break;
	}
	while (i && text[i - 1] == ' ')
		i--;
	fprintf(p->out, "%.*s\n", (int)i, text);
	p->nr++;
}

static const char *bytes_text(int64_t bytes, char text[BYTES_TEXT])
{
	static const char units[] = "BKMGTP";
	double n = (double)bytes;
	int unit = 0;

	for (; n >= 1024 && units[unit + 1]; unit++)
		n /= 1024;
	snprintf(text, BYTES_TEXT, "%.*f%c", unit && n < 100, n, units[unit]);
	return text;
}

/* A limit that there is not, a figure that is not known: "-". */
static const char *limit_text(int64_t bytes, char text[BYTES_TEXT])
{
	return bytes ? bytes_text(bytes, text) : "-";
}

static const char *real_text(const json_t *of, const char *key, double times,
                             char text[BYTES_TEXT])
{
	const json_t *n = json_object_get(of, key);

	if (!json_is_number(n))
		return "-";
	snprintf(text, BYTES_TEXT, "%.1f", times * json_number_value(n));
	return text;
}

static void put_head(struct page *p, const json_t *v)
{
	long long s = json_count(v, "uptime_ms") / 1000;

	line(p,
	     "kvd %s, pid %lld, up %lld:%02lld:%02lld, %s, %s; clients %lld, "
	     "spaces %lld",
	     json_text(v, "version"), (long long)json_count(v, "pid"), s / 3600,
	     s / 60 % 60, s % 60, json_text(v, "device"), json_text(v, "state"),
	     (long long)json_count(v, "nr_clients"),
	     (long long)json_count(v, "nr_spaces"));
}

/* Each state has its part of the bar, rounded so that all of it is filled. */
static void put_bar(struct page *p, const json_t *bytes)
{
	double total = (double)json_count(bytes, "total"), sum = 0;
	unsigned width = p->columns - 10, at = 0;
	char bar[256], text[BYTES_TEXT];
	size_t i;

	if (width > sizeof(bar) - 1)
		width = sizeof(bar) - 1;
	for (i = 0; i < NR_SIGNS && total > 0; i++) {
		sum += (double)json_count(bytes, signs[i].state);
		while (at < width && at < sum / total * width - .5)
			bar[at++] = signs[i].sign;
	}
	memset(bar + at, '.', width - at);
	bar[width] = '\0';
	line(p, "[%s] %s", bar,
	     bytes_text(json_count(bytes, "total"), text));
}

static void put_states(struct page *p, const json_t *bytes)
{
	char all[256] = "", text[BYTES_TEXT];
	size_t i, n = 0;

	for (i = 0; i < NR_SIGNS; i++) {
		int64_t b = json_count(bytes, signs[i].state);

		/* The last four are rare but for free. */
		if (i > 2 && !b && strcmp(signs[i].state, "free"))
			continue;
		n += (size_t)snprintf(all + n, sizeof(all) - n, "%s%c %s %s",
		                      n ? "   " : "", signs[i].sign,
		                      signs[i].state, bytes_text(b, text));
	}
	line(p, "%s", all);
}

static void put_rates(struct page *p, const json_t *v)
{
	const json_t *now = json_object_get(v, "interval");
	char a[BYTES_TEXT], b[BYTES_TEXT], c[BYTES_TEXT];

	line(p, "tokens found: %s %% now, %s %% since the start",
	     real_text(now, "hit_rate", 100, a),
	     real_text(v, "hit_rate", 100, b));
	line(p, "a second: requests %s, pages published %s, evicted %s",
	     real_text(now, "requests_per_s", 1, a),
	     real_text(now, "published_per_s", 1, b),
	     real_text(now, "evicted_per_s", 1, c));
	line(p, "waiting for pages: %lld now, %s %% of the last 10 s",
	     (long long)json_count(v, "waiting"), real_text(v, "avg10", 1, a));
}

/* Rows that are left for a list, when so many are to follow it. */
static size_t room(const struct page *p, unsigned after)
{
	if (!p->rows)
		return SIZE_MAX;
	return p->rows > p->nr + after ? p->rows - p->nr - after : 0;
}

static void put_tenants(struct page *p, const json_t *list)
{
	char text[6][BYTES_TEXT];
	size_t i, max;
	const json_t *t;

	line(p, "%s", "");
	line(p, "%-16s %7s %8s %8s %8s %8s %8s %5s %6s", "TENANT", "CLIENTS",
	     "USED", "CACHED", "MIN", "HIGH", "MAX", "WAIT", "WAIT%");
	max = p->rows ? room(p, 0) / 2 : SIZE_MAX; /* the others: clients */
	json_array_foreach(list, i, t) {
		if (i >= max)
			break;
		line(p, "%-16.16s %7lld %8s %8s %8s %8s %8s %5lld %6s",
		     json_text(t, "name"), (long long)json_count(t, "clients"),
		     bytes_text(json_count(t, "charged"), text[0]),
		     bytes_text(json_count(t, "cached"), text[1]),
		     limit_text(json_count(t, "min"), text[2]),
		     limit_text(json_count(t, "high"), text[3]),
		     limit_text(json_count(t, "max"), text[4]),
		     (long long)json_count(t, "waiting"),
		     real_text(t, "avg10", 1, text[5]));
	}
}

static void put_clients(struct page *p, const json_t *v)
{
	bool by_pages = strcmp(json_text(v, "sort"), "pages") == 0;
	char text[2][BYTES_TEXT];
	const json_t *c;
	size_t i;

	line(p, "%s", "");
	line(p, "%8s %-12s %-12s %7s%c %7s %8s %9s%c %s", "PID", "COMM",
	     "TENANT", "PAGES", by_pages ? '*' : ' ', "OPEN", "BYTES", "REQ/S",
	     by_pages ? ' ' : '*', "PROGRAM");
	json_array_foreach(json_object_get(v, "clients"), i, c)
		line(p, "%8lld %-12.12s %-12.12s %7lld  %7lld %8s %9s  %s",
		     (long long)json_count(c, "pid"),
		     *json_text(c, "comm") ? json_text(c, "comm") : "-",
		     json_text(c, "tenant"),
		     (long long)json_count(c, "held_pages"),
		     (long long)json_count(c, "open_pages"),
		     bytes_text(json_count(c, "bytes"), text[0]),
		     real_text(c, "requests_per_s", 1, text[1]),
		     json_text(c, "program"));
}

static void put_view(struct page *p, const json_t *v)
{
	const json_t *bytes = json_object_get(v, "bytes");

	if (json_object_get(v, "why")) {
		line(p, "reconnecting: %s", json_text(v, "why"));
		return;
	}
	put_head(p, v);
	put_bar(p, bytes);
	put_states(p, bytes);
	put_rates(p, v);
	put_tenants(p, json_object_get(v, "tenants"));
	put_clients(p, v);
}

char *top_text(const json_t *view, unsigned columns, unsigned rows)
{
	struct page p = { .columns = columns < 40 ? 40 : columns,
		          .rows = rows };
	char *text = NULL;
	size_t size;

	p.out = open_memstream(&text, &size);
	if (!p.out)
		return NULL;
	put_view(&p, view);
	fclose(p.out);
	return text;
}
