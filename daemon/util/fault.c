/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fault.c - places where a test can have something go wrong: KVD_FAULT.
 */
#include "daemon/util/fault.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define FAULT_MAX 16

static const char *const names[FAULT_NR] = {
	[FAULT_ACCEPT] = "accept",   [FAULT_DEV_JOB] = "dev-job",
	[FAULT_EXPORT] = "export",   [FAULT_MEMFD] = "memfd",
	[FAULT_REQUEST] = "request", [FAULT_SEGMENT] = "segment",
	[FAULT_SEND] = "send",	     [FAULT_TIER_READ] = "tier-read",
	[FAULT_TIER_WRITE] = "tier-write",
};

static const struct {
	const char *name;
	int err;
} errors[] = {
	{ "EAGAIN", EAGAIN }, { "EIO", EIO },	    { "EMFILE", EMFILE },
	{ "ENFILE", ENFILE }, { "ENOBUFS", ENOBUFS }, { "ENODEV", ENODEV },
	{ "ENOMEM", ENOMEM }, { "ENOSPC", ENOSPC },
};

static const struct {
	const char *name;
	int signum;
} signals[] = {
	{ "abort", SIGABRT },
	{ "kill", SIGKILL },
	{ "stop", SIGSTOP },
};

struct fault {
	enum fault_point point;
	uint64_t from, to;	/* both in; percent: 0 */
	unsigned percent;
	int err;		/* one of these three */
	int signum;
	uint64_t sleep_ns;
};

bool fault_on;
static struct fault faults[FAULT_MAX];
static unsigned nr_faults;
static uint64_t seed;
static _Atomic uint64_t passed[FAULT_NR];

/* ---- reading ---- */

/* Digits from @*p on, which moves behind them. */
static bool take_number(const char **p, uint64_t *ret)
{
	char *end;

	if (**p < '0' || **p > '9')
		return false;
	errno = 0;
	*ret = strtoull(*p, &end, 10);
	*p = end;
	return errno == 0;
}

static bool parse_when(const char *p, struct fault *f)
{
	if (!take_number(&p, &f->from))
		return false;
	if (strcmp(p, "%") == 0) {
		f->percent = f->from > 100 ? 0 : (unsigned)f->from;
		return f->percent > 0;
	}
	f->to = f->from;
	if (*p == '-') {
		f->to = UINT64_MAX;
		if (*++p && !take_number(&p, &f->to))
			return false;
	}
	return *p == '\0' && f->from > 0 && f->to >= f->from;
}

static bool parse_what(const char *p, struct fault *f)
{
	uint64_t n;
	size_t i;

	f->err = 0;
	for (i = 0; i < sizeof(errors) / sizeof(errors[0]); i++)
		if (strcmp(p, errors[i].name) == 0)
			f->err = errors[i].err;
	for (i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		if (strcmp(p, signals[i].name) == 0)
			f->signum = signals[i].signum;
	if (f->err || f->signum)
		return true;
	if (!take_number(&p, &n) || n == 0 || n > 1000000)
		return false;
	f->sleep_ns = n * (strcmp(p, "s") == 0 ? 1000000000ull : 1000000ull);
	return strcmp(p, "s") == 0 || strcmp(p, "ms") == 0;
}

static bool parse_name(const char *p, struct fault *f)
{
	unsigned i;

	for (i = 0; i < FAULT_NR; i++) {
		if (strcmp(p, names[i]) == 0) {
			f->point = i;
			return true;
		}
	}
	return false;
}

/* One entry; it is cut apart. Return: NULL, or what is wrong. */
static const char *parse_entry(char *entry)
{
	struct fault f = { .from = 1, .to = UINT64_MAX, .err = EIO };
	const char *nr = entry + 5;
	char *when, *what;

	if (strncmp(entry, "seed=", 5) == 0)
		return take_number(&nr, &seed) && !*nr ? NULL : "seed=N";
	what = strchr(entry, ':');
	if (what)
		*what++ = '\0';
	when = strchr(entry, '@');
	if (when)
		*when++ = '\0';
	if (!parse_name(entry, &f))
		return "the name is one of accept, dev-job, export, memfd, "
		       "request, segment, send";
	if (when && !parse_when(when, &f))
		return "after @ comes N, N-, N-M or P%";
	if (what && !parse_what(what, &f))
		return "after : comes an error (EMFILE ...), a time (5ms, 2s), "
		       "kill, stop or abort";
	if (nr_faults == FAULT_MAX)
		return "there are too many";
	faults[nr_faults++] = f;
	return NULL;
}

int fault_init(const char *spec, char *why, size_t why_bytes)
{
	char entry[64];
	const char *wrong = NULL;

	nr_faults = 0;
	for (int i = 0; i < FAULT_NR; i++)
		atomic_store(&passed[i], 0);
	while (spec && *spec && !wrong) {
		size_t n = strcspn(spec, ",");

		snprintf(entry, sizeof(entry), "%.*s", (int)n, spec);
		wrong = parse_entry(entry);
		if (wrong)
			snprintf(why, why_bytes, "KVD_FAULT=%.*s: %s", (int)n,
				 spec, wrong);
		spec += n + (spec[n] == ',');
	}
	if (wrong)
		nr_faults = 0;
	fault_on = nr_faults > 0;
	return wrong ? -EINVAL : 0;
}

/* ---- going wrong ---- */

/* splitmix64 of seed, place and count: no thread changes another's draws. */
static bool drawn(const struct fault *f, uint64_t nr)
{
	uint64_t x = seed + (nr * FAULT_NR + f->point + 1) *
				    0x9e3779b97f4a7c15ull;

	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
	return (x ^ (x >> 31)) % 100 < f->percent;
}

static int happen(const struct fault *f)
{
	struct timespec left = { .tv_sec = (time_t)(f->sleep_ns / 1000000000),
				 .tv_nsec = (long)(f->sleep_ns % 1000000000) };

	if (f->signum)
		raise(f->signum);
	while (f->sleep_ns && nanosleep(&left, &left) < 0 && errno == EINTR)
		;
	return -f->err;
}

int fault_hit(enum fault_point point)
{
	uint64_t nr = atomic_fetch_add(&passed[point], 1) + 1;
	int r = 0;
	unsigned i;

	for (i = 0; i < nr_faults && r == 0; i++) {
		const struct fault *f = &faults[i];

		if (f->point != point)
			continue;
		if (f->percent ? drawn(f, nr) : nr >= f->from && nr <= f->to)
			r = happen(f);
	}
	return r;
}
