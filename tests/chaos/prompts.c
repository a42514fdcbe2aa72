// SPDX-License-Identifier: Apache-2.0
/*
 * prompts.c - texts that begin alike and end differently.
 *
 * Six beginnings of four pages and some; ends of about one and a half, so that
 * each prompt publishes pages of its own and its answer fills one more.
 */
#include <stdlib.h>
#include <string.h>
#include "tests/chaos/chaos.h"
#include "tests/support/check.h"
#include "tests/worker/runworker.h"

#define FAMILIES 6u
#define RECENT 24u		/* that are given again and again */

struct prompt *prompts;
unsigned nr_prompts;

static char *text;		/* lines of it are made */
static size_t nr_text;

/* One line: the model takes any byte. */
static void text_load(void)
{
	text = run_file(run_model("/valid.txt"), &nr_text);
	for (size_t i = 0; i < nr_text; i++)
		if (text[i] == '\n' || !text[i])
			text[i] = ' ';
}

unsigned prompt_new(unsigned format)
{
	unsigned family = (unsigned)pick(FAMILIES);
	size_t shared = 4 * PAGE_TOKENS + 11 * family;
	size_t own = PAGE_TOKENS + pick(PAGE_TOKENS), at;
	struct prompt *p;

	if (!text)
		text_load();
	prompts = realloc(prompts, (nr_prompts + 1) * sizeof(*prompts));
	CHECK(prompts, "out of memory");
	p = &prompts[nr_prompts];
	*p = (struct prompt){ .format = format,
			      .line = calloc(1, shared + own + 1) };
	CHECK(p->line, "out of memory");
	at = pick(nr_text - own);
	memcpy(p->line, text + family * 8192, shared);
	memcpy(p->line + shared, text + at, own);
	return nr_prompts++;
}

unsigned prompt_nr_fresh(unsigned format)
{
	unsigned nr = 0;

	for (unsigned i = 0; i < nr_prompts; i++)
		nr += prompts[i].format == format && prompts[i].text &&
		      !prompts[i].nr_runs;
	return nr;
}

int prompt_pick(unsigned format)
{
	int recent[RECENT];
	unsigned nr = 0;

	for (unsigned i = nr_prompts; i-- > 0 && nr < RECENT;)
		if (prompts[i].format == format && prompts[i].text)
			recent[nr++] = (int)i;
	if (!nr)
		return -1;
	if (pick(2))
		for (unsigned i = nr; i-- > 0;)
			if (!prompts[recent[i]].nr_runs)
				return recent[i];
	return recent[pick(nr)];
}

unsigned prompt_whole(const char *line)
{
	/* The first token is no byte, the last one is never taken. */
	return (unsigned)strlen(line) / PAGE_TOKENS * PAGE_TOKENS;
}

void prompts_free(void)
{
	for (unsigned i = 0; i < nr_prompts; i++) {
		free(prompts[i].line);
		free(prompts[i].text);
	}
	free(prompts);
	free(text);
}
