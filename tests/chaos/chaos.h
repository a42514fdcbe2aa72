/* SPDX-License-Identifier: Apache-2.0 */
/*
 * chaos.h - what a storm is made of: prompts with known answers, workers.
 *
 * The model is a real one and decodes greedily, so that a prompt has one
 * answer: its text, and a digest of the logits behind it. Workers of a daemon
 * that nobody disturbs give it first (WORKER_QUIET, which neither find nor
 * leave a prefix there); then a storm's worker has to give the same, however
 * often it or the daemon died on the way.
 */
#ifndef TESTS_CHAOS_CHAOS_H
#define TESTS_CHAOS_CHAOS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <jansson.h>
#include <sys/types.h>

#define PAGE_TOKENS 32u
#define NR_FORMATS 3u
#define GENERATE 16u		/* tokens of an answer */
#define DEADLINE_MS 120000u	/* for what has to come some time */

extern const char *const formats[NR_FORMATS];

uint64_t now_ms(void);

/* The next number below @n of the storm's seed. */
uint64_t pick(uint64_t n);

/* ---- prompts ---- */

struct prompt {
	char *line;
	unsigned format;
	char *text;		/* the answer; NULL: not known yet */
	char digest[17];	/* of its logits */
	unsigned nr_runs;	/* of the storm's workers */
	bool told;		/* one has said that all of it is published */
};

extern struct prompt *prompts;
extern unsigned nr_prompts;

/* A new one: a beginning shared by many, an end of its own. Return: which. */
unsigned prompt_new(unsigned format);

/* Of @format, with a known answer; rather new ones. -1: there is none yet. */
int prompt_pick(unsigned format);

/* How many with a known answer have not been given to anybody? */
unsigned prompt_nr_fresh(unsigned format);

/* Tokens of whole pages that a worker has to find if all is published. */
unsigned prompt_whole(const char *line);

void prompts_free(void);

/* ---- workers ---- */

enum worker_kind {
	WORKER_QUIET,		/* makes references on the quiet daemon */
	WORKER_SHORT,		/* a few prompts, then its end; is killed */
	WORKER_LONG,		/* lives as long as the storm */
};

struct worker {
	enum worker_kind kind;
	unsigned format;
	const char *socket;
	const char *log;	/* its stderr is appended */
	pid_t pid;		/* 0: there is none */
	int in;			/* -1: has been told to end */
	int out;
	int prompt;		/* it works on; -1: none */
	bool told;		/* prompts[prompt].told when it was given */
	unsigned left;		/* prompts to come, of a WORKER_SHORT */
	uint64_t cont_at_ms;	/* is stopped until then; 0: is not */
	uint64_t since_ms;	/* it has the prompt */
	char buf[8192];		/* of an answer */
	size_t nr;
};

struct tally {
	unsigned nr_answers;
	unsigned nr_killed;
	unsigned nr_stopped;
	unsigned nr_repeated;	/* prompts given again to who came after */
	unsigned nr_inexact;	/* answers told to differ: exact copy gone */
	uint64_t hit_tokens;
	uint64_t all_tokens;
};

extern struct tally tally;

void worker_start(struct worker *w);
void worker_give(struct worker *w, int prompt);

/* No more prompts will come: it ends when it has answered. */
void worker_finish(struct worker *w);

/* Reads what it says; checks answers. Its end, when told to, is seen too. */
void worker_read(struct worker *w);

/* SIGKILL; its prompt stays, for the next. */
void worker_kill(struct worker *w);
void worker_stop(struct worker *w, uint64_t ms);
void worker_cont(struct worker *w);

/* An answer as JSON to @line by a worker of its own; for the audit. */
json_t *worker_ask(struct worker *w, const char *line);

#endif
