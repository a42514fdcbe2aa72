// SPDX-License-Identifier: Apache-2.0
/*
 * fault.c - errors on demand: FAKECUDA_FAIL=cuMemCreate:3,cuMemMap:1+:801,
 * FAKECUDA_CRASH=2:700, FAKECUDA_LOST=40
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tests/fakecuda/fakecuda.h"

#define FAULT_MAX 16

static struct fault {
	char call[48];
	unsigned long at;	/* 1: the first call */
	bool onwards;
	cu_result err;
	unsigned long seen;
} faults[FAULT_MAX];
static unsigned nr_faults;
static bool faults_read;

static void fault_parse(char *word)
{
	struct fault *f = &faults[nr_faults];
	char *colon = strchr(word, ':');
	char *end;

	if (!colon || nr_faults == FAULT_MAX) {
		fprintf(stderr, "fakecuda: bad FAKECUDA_FAIL at \"%s\"\n", word);
		abort();
	}
	*colon = '\0';
	snprintf(f->call, sizeof(f->call), "%s", word);
	f->at = strtoul(colon + 1, &end, 10);
	f->onwards = *end == '+';
	if (f->onwards)
		end++;
	f->err = *end == ':' ? (cu_result)strtoul(end + 1, NULL, 10) :
			       CU_OUT_OF_MEMORY;
	nr_faults++;
}

static void fault_read(void)
{
	const char *env = getenv("FAKECUDA_FAIL");
	char *copy, *save = NULL;

	faults_read = true;
	if (!env)
		return;
	copy = strdup(env);
	for (char *w = strtok_r(copy, ",", &save); w;
	     w = strtok_r(NULL, ",", &save))
		fault_parse(w);
	free(copy);
}

cu_result fault_next(const char *call)
{
	cu_result err = CU_OK;

	if (!faults_read)
		fault_read();
	for (unsigned i = 0; i < nr_faults; i++) {
		struct fault *f = &faults[i];

		if (strcmp(f->call, call) != 0)
			continue;
		f->seen++;
		if (f->seen == f->at || (f->onwards && f->seen > f->at))
			err = f->err;
	}
	return err;
}

/* One "n[:code]", and what has been counted towards n. */
struct counter {
	const char *env;
	cu_result err;
	unsigned long at;	/* 0: never */
	unsigned long seen;
	bool read;
};

static bool counter_next(struct counter *c)
{
	if (!c->read) {
		const char *env = getenv(c->env);
		char *end;

		c->read = true;
		c->at = env ? strtoul(env, &end, 10) : 0;
		if (c->at && *end == ':')
			c->err = (cu_result)strtoul(end + 1, NULL, 10);
	}
	c->seen++;
	return c->at && c->seen >= c->at;
}

cu_result fault_kernel(void)
{
	static struct counter crash = { .env = "FAKECUDA_CRASH",
					.err = CU_LAUNCH_FAILED };

	return counter_next(&crash) ? crash.err : CU_OK;
}

cu_result fault_lost(void)
{
	static struct counter lost = { .env = "FAKECUDA_LOST",
				       .err = CU_DEVICE_UNAVAILABLE };

	return counter_next(&lost) ? lost.err : CU_OK;
}
