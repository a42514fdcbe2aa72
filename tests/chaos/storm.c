// SPDX-License-Identifier: Apache-2.0
/*
 * storm.c - workers with a real model, killed and stopped at random moments,
 * and the daemon under them too; then the books are audited.
 *
 *	chaos_storm [--kills N] [--daemon-kills N] [--seconds N] [--mean MS]
 *		    [--checkpoints N] [--pool SIZE]
 *
 * The seed is KVD_SEED's, and printed. It ends when so many workers and
 * daemons have been killed, a worker every MS milliseconds in the mean and
 * daemons evenly among them; or after so many seconds, if they are given. At
 * checkpoints on the way it is calm, and all that is not at hand has to be back.
 *
 * Nothing may be lost: every answer is that of an undisturbed run, who asks for
 * what another was told is published finds it, and when all have gone no page
 * is held. Long-lived workers see nothing of a daemon's death but a pause.
 */
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "tests/chaos/chaos.h"
#include "tests/support/check.h"
#include "tests/support/daemon.h"
#include "tests/support/manager.h"

#define NR_LONG NR_FORMATS
#define NR_SHORT 6u
#define NR_STORM (NR_LONG + NR_SHORT)
#define NR_WORKERS (NR_STORM + NR_FORMATS)
#define RESTART_MS 100u		/* after which a manager starts it again */
#define STOCK_PAGES 128u	/* a worker at rest has no more at hand */

static unsigned kills = 20, daemon_kills = 5, seconds, mean_ms = 300;
static unsigned checkpoints = 1;
static const char *pool = "1G";
static uint64_t seed;

static struct manager manager;
static struct daemon quiet;
static char log_path[96];
static struct worker workers[NR_WORKERS];
static unsigned nr_deaths;	/* of the daemon */
static uint64_t start_ms, start_at_ms, cont_at_ms, kill_at_ms, stop_at_ms;

uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

uint64_t pick(uint64_t n)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed % n;
}

/* ---- who is there ---- */

static void workers_init(void)
{
	for (unsigned i = 0; i < NR_WORKERS; i++) {
		struct worker *w = &workers[i];

		w->kind = i < NR_LONG ? WORKER_LONG :
			  i < NR_STORM ? WORKER_SHORT : WORKER_QUIET;
		w->format = i < NR_LONG ? i : i - NR_STORM;
		w->socket = w->kind == WORKER_QUIET ? quiet.socket :
						      manager.daemon.socket;
		w->log = log_path;
		w->prompt = w->in = -1;
	}
}

/* A new prompt is always being prepared, as long as few are. */
static void feed_quiet(struct worker *w)
{
	if (!w->pid)
		worker_start(w);
	if (w->prompt < 0 && prompt_nr_fresh(w->format) < 2)
		worker_give(w, (int)prompt_new(w->format));
}

static void feed_storm(struct worker *w)
{
	int prompt;

	if (!w->pid) {
		if (w->prompt < 0)
			w->left = 1 + (unsigned)pick(4);
		if (w->prompt < 0 && w->kind == WORKER_SHORT)
			w->format = (unsigned)pick(NR_FORMATS);
		worker_start(w);
		if (w->prompt >= 0)
			worker_give(w, w->prompt);
	}
	if (w->prompt >= 0 || w->in < 0)
		return;
	prompt = prompt_pick(w->format);
	if (w->kind == WORKER_SHORT && !w->left)
		worker_finish(w);
	else if (prompt >= 0)
		worker_give(w, prompt);
}

static void listen_to_all(int ms)
{
	struct pollfd p[NR_WORKERS];
	unsigned who[NR_WORKERS], nr = 0;

	for (unsigned i = 0; i < NR_WORKERS; i++) {
		if (!workers[i].pid)
			continue;
		p[nr] = (struct pollfd){ .fd = workers[i].out,
					 .events = POLLIN };
		who[nr++] = i;
	}
	if (poll(p, nr, ms) <= 0)
		return;
	for (unsigned i = 0; i < nr; i++)
		if (p[i].revents)
			worker_read(&workers[who[i]]);
}

/* ---- the daemon ---- */

static void daemon_again(void)
{
	manager_again(&manager, (const char *[]){ "--pool", pool, "--segment",
						  "16M", "--grace", "2s",
						  NULL });
	start_at_ms = 0;
}

static void daemon_die(void)
{
	cont_at_ms = 0;
	manager_kill(&manager);
	start_at_ms = now_ms() + RESTART_MS;
	nr_deaths++;
}

static void daemon_look(void)
{
	int status;

	CHECK(start_at_ms || !waitpid(manager.daemon.pid, &status, WNOHANG),
	      "kvd ended by itself: status %#x, see %s", status,
	      manager.daemon.log);
}

/* ---- the storm ---- */

static void kill_one(void)
{
	struct worker *w = &workers[NR_LONG + pick(NR_SHORT)];

	if (w->pid)
		worker_kill(w);
}

static void stop_one(void)
{
	unsigned i = (unsigned)pick(NR_STORM + 1);

	if (i < NR_STORM) {
		if (workers[i].pid && !workers[i].cont_at_ms)
			worker_stop(&workers[i], 20 + pick(400));
	} else if (!start_at_ms && !cont_at_ms) {
		kill(manager.daemon.pid, SIGSTOP);
		cont_at_ms = now_ms() + 20 + pick(300);
	}
}

/* What is due: the daemon's deaths keep up with those of workers. */
static void strike(void)
{
	uint64_t now = now_ms();

	if (cont_at_ms && now >= cont_at_ms) {
		kill(manager.daemon.pid, SIGCONT);
		cont_at_ms = 0;
	}
	for (unsigned i = 0; i < NR_STORM; i++)
		if (now >= workers[i].cont_at_ms)
			worker_cont(&workers[i]);
	if (start_at_ms && now >= start_at_ms)
		daemon_again();
	if (now >= kill_at_ms) {
		kill_at_ms = now + pick(2 * mean_ms);
		kill_one();
	}
	if (now >= stop_at_ms) {
		stop_at_ms = now + pick(2 * mean_ms);
		stop_one();
	}
	if (!start_at_ms && nr_deaths < daemon_kills &&
	    (uint64_t)tally.nr_killed * daemon_kills >
		    (uint64_t)nr_deaths * kills + pick(kills))
		daemon_die();
}

static void watch_hangs(void)
{
	for (unsigned i = 0; i < NR_STORM; i++)
		CHECK(!workers[i].pid || workers[i].prompt < 0 ||
		      now_ms() - workers[i].since_ms < DEADLINE_MS,
		      "worker %d has not answered for %u ms",
		      (int)workers[i].pid, DEADLINE_MS);
}

static void say(const char *what)
{
	printf("%6.1f s: %u workers and %u daemons killed, %u stopped; %u "
	       "answers, %u of them inexact, %u prompts repeated; %.0f %% of "
	       "tokens found%s%s\n", (double)(now_ms() - start_ms) / 1e3,
	       tally.nr_killed, nr_deaths, tally.nr_stopped, tally.nr_answers,
	       tally.nr_inexact, tally.nr_repeated,
	       tally.all_tokens ? 100.0 * (double)tally.hit_tokens /
					  (double)tally.all_tokens : 0.0,
	       what[0] ? "; " : "", what);
	fflush(stdout);
}

static void storm(unsigned upto_kills, unsigned upto_deaths, uint64_t end_ms)
{
	static uint64_t said_ms;

	while (now_ms() < end_ms &&
	       (tally.nr_killed < upto_kills || nr_deaths < upto_deaths)) {
		for (unsigned i = 0; i < NR_STORM; i++)
			feed_storm(&workers[i]);
		for (unsigned i = NR_STORM; i < NR_WORKERS; i++)
			feed_quiet(&workers[i]);
		listen_to_all(3);
		strike();
		daemon_look();
		watch_hangs();
		if (now_ms() > said_ms + 5000) {
			say("");
			said_ms = now_ms();
		}
	}
}

/* ---- audits ---- */

/* Everybody goes on undisturbed, and short ones to their end. */
static void calm(bool all)
{
	bool busy = true;

	if (start_at_ms)
		daemon_again();
	if (cont_at_ms)
		kill(manager.daemon.pid, SIGCONT);
	cont_at_ms = 0;
	for (unsigned i = 0; i < NR_STORM; i++)
		worker_cont(&workers[i]);
	while (busy) {
		busy = false;
		for (unsigned i = 0; i < NR_WORKERS; i++) {
			struct worker *w = &workers[i];

			if (w->pid && w->prompt < 0 &&
			    (all || w->kind == WORKER_SHORT))
				worker_finish(w);
			if (!w->pid && w->prompt >= 0)
				feed_storm(w); /* was killed: once more */
			busy |= w->prompt >= 0 || (w->pid && w->in < 0);
		}
		listen_to_all(3);
		daemon_look();
		watch_hangs();
	}
}

static void fsck(void)
{
	char command[300];

	snprintf(command, sizeof(command), "%s --socket %s fsck >> %s 2>&1",
		 daemon_program("kvctl", KVCTL), manager.daemon.socket,
		 log_path);
	CHECK(system(command) == 0, "kvctl fsck: see %s", log_path);
}

/* Waits until no more is held than by @nr_clients at rest. */
static void settle(unsigned nr_clients, struct daemon_stat *st)
{
	uint64_t end_ms = now_ms() + DEADLINE_MS;

	for (;;) {
		daemon_stat(manager.daemon.socket, st);
		if (!st->sealed && !st->quarantined && !st->revoked &&
		    st->nr_clients == nr_clients &&
		    st->open <= nr_clients * STOCK_PAGES)
			break;
		CHECK(now_ms() < end_ms, "left: %llu open, %llu sealed, %llu "
		      "quarantined, %u clients", (unsigned long long)st->open,
		      (unsigned long long)st->sealed,
		      (unsigned long long)st->quarantined, st->nr_clients);
		usleep(20000);
	}
	CHECK(st->total == st->free + st->open + st->cached, "pages missing");
	CHECK(!st->evicted, "%llu pages evicted: a larger --pool is needed",
	      (unsigned long long)st->evicted);
	fsck();
}

static void checkpoint(void)
{
	struct daemon_stat st;
	char text[100];

	calm(false);
	settle(NR_LONG, &st);
	snprintf(text, sizeof(text), "checkpoint: %llu open, %llu cached",
		 (unsigned long long)st.open, (unsigned long long)st.cached);
	say(text);
}

/* All that workers were told is published can still be found. */
static unsigned audit_told(unsigned format)
{
	struct worker w = { .kind = WORKER_SHORT, .format = format,
			    .socket = manager.daemon.socket, .log = log_path,
			    .prompt = -1 };
	unsigned nr = 0;
	char line[1024];

	worker_start(&w);
	for (unsigned i = 0; i < nr_prompts; i++) {
		const struct prompt *p = &prompts[i];
		json_int_t hit;
		json_t *o;

		if (!p->told || p->format != format)
			continue;
		/* Its answer is in the pages too, as far as it is a line. */
		snprintf(line, sizeof(line), "%s%.*s", p->line,
			 (int)strcspn(p->text, "\n\xef"), p->text);
		o = worker_ask(&w, line);
		hit = json_integer_value(json_object_get(o, "hit_tokens"));
		CHECK(hit >= prompt_whole(line), "%s: %lld of %u tokens found",
		      formats[format], (long long)hit, prompt_whole(line));
		json_decref(o);
		nr++;
	}
	worker_finish(&w);
	while (w.pid)
		worker_read(&w);
	return nr;
}

static void audit(void)
{
	struct daemon_stat st, again;
	unsigned told = 0;
	char text[200];

	calm(true);
	settle(0, &st);
	CHECK(!st.open, "%llu open pages", (unsigned long long)st.open);
	for (unsigned i = 0; i < NR_FORMATS; i++)
		told += audit_told(i);
	settle(0, &st);
	daemon_die();
	daemon_again();
	settle(0, &again);
	CHECK(again.cached == st.cached && !again.open, "%llu pages were "
	      "cached, %llu are after one more death",
	      (unsigned long long)st.cached, (unsigned long long)again.cached);
	snprintf(text, sizeof(text), "audit: 0 pages held, %llu cached, %u of "
		 "%u prompts told to be published, all found",
		 (unsigned long long)st.cached, told, nr_prompts);
	say(text);
}

/* ---- life ---- */

static unsigned number(const char *text)
{
	char *end;
	unsigned long n = strtoul(text, &end, 10);

	CHECK(end != text && !*end && n < 1000000, "%s: no number", text);
	return (unsigned)n;
}

static void parse_args(int argc, char **argv)
{
	static const struct option options[] = {
		{ "kills", required_argument, NULL, 'k' },
		{ "daemon-kills", required_argument, NULL, 'd' },
		{ "seconds", required_argument, NULL, 's' },
		{ "mean", required_argument, NULL, 'm' },
		{ "checkpoints", required_argument, NULL, 'c' },
		{ "pool", required_argument, NULL, 'p' },
		{ 0 }
	};
	int opt;

	while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
		CHECK(opt != '?', "see the first lines of %s", __FILE__);
		if (opt == 'k')
			kills = number(optarg);
		else if (opt == 'd')
			daemon_kills = number(optarg);
		else if (opt == 's')
			seconds = number(optarg);
		else if (opt == 'm')
			mean_ms = number(optarg);
		else if (opt == 'c')
			checkpoints = number(optarg);
		else
			pool = optarg;
	}
	CHECK(kills && mean_ms, "--kills and --mean are 1 at least");
}

static void begin(void)
{
	const char *env = getenv("KVD_SEED");

	seed = env ? strtoull(env, NULL, 0) : (uint64_t)time(NULL);
	printf("KVD_SEED=%llu\n", (unsigned long long)seed);
	seed = seed * 0x9e3779b97f4a7c15ULL | 1;
	signal(SIGPIPE, SIG_IGN);
	start_ms = now_ms();
	daemon_start(&quiet, NULL);
	manager_start(&manager, (const char *[]){ "--pool", pool, "--segment",
						  "16M", "--grace", "2s",
						  NULL });
	snprintf(log_path, sizeof(log_path), "%s/workers", manager.daemon.dir);
	workers_init();
}

int main(int argc, char **argv)
{
	uint64_t end_ms;

	parse_args(argc, argv);
	begin();
	end_ms = seconds ? start_ms + 1000ull * seconds : UINT64_MAX;
	for (unsigned i = 1; i <= checkpoints + 1 && now_ms() < end_ms; i++) {
		storm(kills * i / (checkpoints + 1),
		      daemon_kills * i / (checkpoints + 1), end_ms);
		if (i <= checkpoints)
			checkpoint();
	}
	audit();
	CHECK(tally.nr_answers, "no answer at all");
	manager_stop(&manager);
	daemon_assert_idle(&quiet);
	daemon_stop(&quiet);
	prompts_free();
	return 0;
}
