// SPDX-License-Identifier: Apache-2.0
/*
 * top_term.c - the terminal of kvctl top: taken over, drawn on, given back.
 *
 * Signals that are of interest are blocked but while it waits, so none comes
 * between a look at the flags and the wait.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>
#include "tools/kvctl/top.h"

#define ENTER "\033[?1049h\033[?25l" /* another screen, no cursor */
#define LEAVE "\033[?25h\033[?1049l"

static const int ends[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT };
static volatile sig_atomic_t ended, resized, stopped;
static struct termios before;
static bool drawn, keyed;
static sigset_t outside; /* the mask while it waits */

static void noted(int sig)
{
	if (sig == SIGWINCH)
		resized = 1;
	else if (sig == SIGTSTP)
		stopped = 1;
	else
		ended = 1;
}

static void handle(int sig, sigset_t *blocked)
{
	const struct sigaction a = { .sa_handler = noted };

	sigaction(sig, &a, NULL);
	sigaddset(blocked, sig);
}

static void say(const char *text)
{
	fputs(text, stdout);
	fflush(stdout);
}

static void enter(const struct top_term *t)
{
	struct termios raw;

	if (t->keys && tcgetattr(STDIN_FILENO, &before) == 0) {
		raw = before;
		raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
		raw.c_cc[VMIN] = 1;
		raw.c_cc[VTIME] = 0;
		keyed = tcsetattr(STDIN_FILENO, TCSANOW, &raw) == 0;
	}
	if (t->screen)
		say(ENTER);
	drawn = t->screen;
}

static void leave(void)
{
	if (drawn)
		say(LEAVE);
	if (keyed)
		tcsetattr(STDIN_FILENO, TCSANOW, &before);
	drawn = keyed = false;
}

void top_term_init(struct top_term *t, bool screen)
{
	sigset_t blocked;
	size_t i;

	t->screen = screen;
	t->keys = screen && isatty(STDIN_FILENO);
	sigemptyset(&blocked);
	for (i = 0; i < sizeof(ends) / sizeof(ends[0]); i++)
		handle(ends[i], &blocked);
	if (screen) {
		handle(SIGWINCH, &blocked);
		handle(SIGTSTP, &blocked);
	}
	sigprocmask(SIG_BLOCK, &blocked, &outside);
	for (i = 0; i < sizeof(ends) / sizeof(ends[0]); i++)
		sigdelset(&outside, ends[i]);
	atexit(leave);
	enter(t);
}

void top_term_fini(struct top_term *t)
{
	leave();
}

void top_term_size(unsigned *columns, unsigned *rows)
{
	struct winsize w;

	*columns = 80;
	*rows = 24;
	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col && w.ws_row) {
		*columns = w.ws_col;
		*rows = w.ws_row;
	}
}

/* Lines end without one after the last, or the screen would scroll. */
void top_term_draw(const char *text)
{
	size_t len;

	fputs("\033[H", stdout);
	for (;; text += len + 1) {
		len = strcspn(text, "\n");
		fwrite(text, 1, len, stdout);
		fputs("\033[K", stdout);
		if (!text[len] || !text[len + 1])
			break;
		fputs("\r\n", stdout);
	}
	say("\033[J");
}

/* Out of the way while the process is stopped. */
static void stop(const struct top_term *t)
{
	stopped = 0;
	leave();
	raise(SIGSTOP);
	enter(t);
}

static int read_key(struct top_term *t)
{
	char c;
	ssize_t n = read(STDIN_FILENO, &c, 1);

	if (n == 1)
		return (unsigned char)c;
	if (n == 0 || errno != EINTR)
		t->keys = false; /* there will be no more */
	return 0;
}

int top_term_wait(struct top_term *t, double seconds)
{
	struct pollfd p = { .fd = t->keys ? STDIN_FILENO : -1,
		            .events = POLLIN };
	struct timespec ts;
	int n;

	if (seconds < 0)
		seconds = 0;
	ts.tv_sec = (time_t)seconds;
	ts.tv_nsec = (long)((seconds - (double)ts.tv_sec) * 1e9);
	n = ppoll(&p, 1, &ts, &outside);
	if (ended)
		return 'q';
	if (stopped)
		stop(t);
	else if (!resized)
		return n > 0 ? read_key(t) : 0;
	resized = 0;
	return '\f';
}
