/* SPDX-License-Identifier: Apache-2.0 */
/*
 * top.h - kvctl top: the parts of the live view.
 *
 * A frame is what the daemon said at one time; a view is made of two frames
 * and is what there is to show, as JSON; the screen is made of the view.
 */
#ifndef TOOLS_KVCTL_TOP_H
#define TOOLS_KVCTL_TOP_H

#include <jansson.h>
#include <signal.h>
#include <stdbool.h>
#include <kvd/kvd.h>

/* What the commands of these names answer. */
struct top_frame {
	json_t *status, *stat, *clients, *tenants, *pressure;
	double at_s; /* of a clock that never jumps */
};

enum top_sort { TOP_BY_PAGES, TOP_BY_REQUESTS };

/**
 * top_ask() - fill a frame
 *
 * Return: 0 or -errno, kvd_error() has the reason. top_frame_fini() it in
 * both cases.
 */
int top_ask(struct kvd *k, struct top_frame *f);
void top_frame_fini(struct top_frame *f);

/**
 * top_view() - what there is to show
 * @was:	the frame before; one without answers: there is none, and
 *		what is said of an interval is null
 *
 * Return: the caller's; NULL: no memory.
 */
json_t *top_view(const struct top_frame *was, const struct top_frame *is,
                 enum top_sort sort);

/* One to show while there is no daemon. */
json_t *top_view_lost(const char *why);

/**
 * top_text() - the view as lines
 * @columns:	of the screen, at least 40
 * @rows:	lines at most; 0: as many as it takes
 *
 * Return: for free(); NULL: no memory.
 */
char *top_text(const json_t *view, unsigned columns, unsigned rows);

/* Signals that end the view or change the screen; the terminal, if any. */
struct top_term {
	bool screen; /* standard output is drawn on */
	bool keys;   /* standard input is read */
};

/* Takes over the terminal; it is given back whenever the process exits. */
void top_term_init(struct top_term *t, bool screen);
void top_term_fini(struct top_term *t);
void top_term_size(unsigned *columns, unsigned *rows);

/* Draws lines over those that were there. */
void top_term_draw(const char *text);

/**
 * top_term_wait() - wait for a key, a signal, or the time
 *
 * Return: a key; 0: nothing came; 'q' also for signals that end; '\f' where
 * the screen has to be drawn again.
 */
int top_term_wait(struct top_term *t, double seconds);

#endif
