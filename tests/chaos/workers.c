// SPDX-License-Identifier: Apache-2.0
/*
 * workers.c - kvworker --serve, many of them, and what they answer.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include "tests/chaos/chaos.h"
#include "tests/support/check.h"
#include "tests/support/daemon.h"
#include "tests/worker/runworker.h"

const char *const formats[NR_FORMATS] = { "f16", "kivi4", "kvarn22" };
struct tally tally;

static void child(const struct worker *w, int in, int out)
{
	const char *args[16] = {
		"kvworker", run_model(""), "--serve", "--socket", w->socket,
		"--format", formats[w->format], "--generate", "16", "--chunk",
		"50", "--page-tokens", "32",
	};
	int err = open(w->log, O_WRONLY | O_CREAT | O_APPEND, 0600), n = 13;

	_Static_assert(GENERATE == 16 && PAGE_TOKENS == 32, "as said");
	if (w->kind == WORKER_QUIET) {
		args[n++] = "--no-match";
		args[n++] = "--no-publish";
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	dup2(in, STDIN_FILENO);
	dup2(out, STDOUT_FILENO);
	dup2(err, STDERR_FILENO);
	execv(daemon_program("kvworker", KVWORKER),
	      (char **)(uintptr_t)args);
	_exit(127);
}

void worker_start(struct worker *w)
{
	int in[2], out[2];

	CHECK(!pipe2(in, O_CLOEXEC) && !pipe2(out, O_CLOEXEC), "%s",
	      strerror(errno));
	w->pid = fork();
	CHECK(w->pid >= 0, "fork: %s", strerror(errno));
	if (w->pid == 0)
		child(w, in[0], out[1]);
	close(in[0]);
	close(out[1]);
	w->in = in[1];
	w->out = out[0];
	w->nr = 0;
	w->cont_at_ms = 0;
}

static void send_line(struct worker *w, const char *line)
{
	size_t n = strlen(line);

	/* A pipe takes it all at once. */
	CHECK(write(w->in, line, n) == (ssize_t)n && write(w->in, "\n", 1) == 1,
	      "worker %d reads no more: %s", (int)w->pid, strerror(errno));
}

void worker_give(struct worker *w, int prompt)
{
	struct prompt *p = &prompts[prompt];

	w->prompt = prompt;
	w->told = p->told;
	w->since_ms = now_ms();
	if (w->kind != WORKER_QUIET)
		p->nr_runs++;
	send_line(w, p->line);
}

void worker_finish(struct worker *w)
{
	if (w->in >= 0)
		close(w->in);
	w->in = -1;
}

/* ---- answers ---- */

static const char *get_text(const json_t *o, const char *field)
{
	const char *s = json_string_value(json_object_get(o, field));

	CHECK(s, "no %s in an answer", field);
	return s;
}

static json_int_t get_number(const json_t *o, const char *field)
{
	const json_t *v = json_object_get(o, field);

	CHECK(json_is_integer(v), "no %s in an answer", field);
	return json_integer_value(v);
}

static void learn(struct prompt *p, const json_t *o)
{
	p->text = strdup(get_text(o, "text"));
	snprintf(p->digest, sizeof(p->digest), "%s",
		 get_text(o, "logits_digest"));
}

/* What it found, and what it made of that. */
static void judge(const struct worker *w, struct prompt *p, const json_t *o)
{
	json_int_t hit = get_number(o, "hit_tokens");

	CHECK(!w->told || hit >= prompt_whole(p->line),
	      "%s: %lld tokens found, %u had been published",
	      formats[p->format], (long long)hit, prompt_whole(p->line));
	if (json_is_true(json_object_get(o, "inexact_lag"))) {
		tally.nr_inexact++;
	} else {
		CHECK(!strcmp(p->text, get_text(o, "text")), "%s: \"%s\" not "
		      "\"%s\"", formats[p->format], get_text(o, "text"),
		      p->text);
		CHECK(!strcmp(p->digest, get_text(o, "logits_digest")),
		      "%s: other logits, after a hit of %lld",
		      formats[p->format], (long long)hit);
	}
	if (json_is_false(json_object_get(o, "publish_due")))
		p->told = true;
	tally.nr_answers++;
	tally.hit_tokens += (uint64_t)hit;
	tally.all_tokens += (uint64_t)get_number(o, "prompt_tokens");
}

static json_t *parse(const struct worker *w, const char *line, size_t n)
{
	json_t *o = json_loadb(line, n, 0, NULL);
	const json_t *why = json_object_get(o, "error");

	CHECK(o, "worker %d answers %.*s", (int)w->pid, (int)n, line);
	CHECK(!why, "worker %d: %s", (int)w->pid, json_string_value(why));
	return o;
}

static void take(struct worker *w, size_t n)
{
	json_t *o = parse(w, w->buf, n);

	CHECK(w->prompt >= 0, "an answer without a question");
	if (w->kind == WORKER_QUIET)
		learn(&prompts[w->prompt], o);
	else
		judge(w, &prompts[w->prompt], o);
	json_decref(o);
	w->prompt = -1;
	w->left -= w->left > 0;
	memmove(w->buf, w->buf + n, w->nr - n);
	w->nr -= n;
}

/* ---- its end ---- */

static int reap(struct worker *w)
{
	int status;

	worker_finish(w);
	close(w->out);
	CHECK(waitpid(w->pid, &status, 0) == w->pid, "%s", strerror(errno));
	w->pid = 0;
	return status;
}

/* What workers have complained about. */
static void show_log(const struct worker *w)
{
	char line[512];
	FILE *f = fopen(w->log, "re");

	while (f && fgets(line, sizeof(line), f))
		fputs(line, stderr);
	if (f)
		fclose(f);
}

void worker_read(struct worker *w)
{
	ssize_t n = read(w->out, w->buf + w->nr, sizeof(w->buf) - w->nr);
	char *end;
	int status;

	CHECK(n >= 0, "%s", strerror(errno));
	if (n == 0) {
		bool told = w->in < 0 && w->prompt < 0;
		int pid = (int)w->pid;

		status = reap(w);
		if (status)
			show_log(w);
		CHECK(told && WIFEXITED(status) && !WEXITSTATUS(status),
		      "worker %d ended: status %#x", pid, status);
		return;
	}
	w->nr += (size_t)n;
	while ((end = memchr(w->buf, '\n', w->nr)))
		take(w, (size_t)(end - w->buf) + 1);
}

void worker_kill(struct worker *w)
{
	kill(w->pid, SIGKILL);
	reap(w);
	tally.nr_killed++;
	tally.nr_repeated += w->prompt >= 0;
}

void worker_stop(struct worker *w, uint64_t ms)
{
	kill(w->pid, SIGSTOP);
	w->cont_at_ms = now_ms() + ms;
	tally.nr_stopped++;
}

void worker_cont(struct worker *w)
{
	if (!w->cont_at_ms)
		return;
	kill(w->pid, SIGCONT);
	w->cont_at_ms = 0;
}

json_t *worker_ask(struct worker *w, const char *line)
{
	char *end = NULL;

	send_line(w, line);
	while (!end) {
		ssize_t n = read(w->out, w->buf + w->nr,
				 sizeof(w->buf) - w->nr);

		CHECK(n > 0, "worker %d ended", (int)w->pid);
		w->nr += (size_t)n;
		end = memchr(w->buf, '\n', w->nr);
	}
	w->nr = 0;
	return parse(w, w->buf, (size_t)(end - w->buf) + 1);
}
