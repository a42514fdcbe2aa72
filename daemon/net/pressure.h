/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pressure.h - for what share of the time somebody had to wait for pages.
 *
 * What Linux calls `some` in /proc/pressure/memory: time in which at least one
 * waits, however many do. The total is exact. The averages are exponentially
 * weighted, over 10, 60 and 300 s, and take in two seconds at a time when
 * these are over; they start at 0. No clock of its own: whoever calls says
 * what time it is, of a clock that never goes back (an earlier time than
 * before counts as no time). Any span is caught up with at once, so nobody
 * has to call when nothing happens. All zero is a good start.
 */
#ifndef DAEMON_NET_PRESSURE_H
#define DAEMON_NET_PRESSURE_H

#include <stdint.h>

#define PRESSURE_PERIOD_US 2000000u

enum pressure_window {
	PRESSURE_10S,
	PRESSURE_60S,
	PRESSURE_300S,
	NR_PRESSURE_WINDOWS
};

struct pressure {
	uint64_t at_us;		/* up to here all is counted */
	uint64_t total_us;	/* in which somebody waited */
	uint64_t period_us;	/* of those, in the period of at_us */
	uint64_t nr_waiting;	/* from at_us on */
	double avg[NR_PRESSURE_WINDOWS]; /* percent, of periods that are over */
};

/* One more waits, from @now_us on. */
void pressure_begin(struct pressure *p, uint64_t now_us);

/* One of those that wait does so no more. */
void pressure_end(struct pressure *p, uint64_t now_us);

/* @p as it is at @now_us, what goes on included; @p itself stays. */
struct pressure pressure_at(const struct pressure *p, uint64_t now_us);

/* An average in hundredths of a percent, 0 to 10000. */
uint32_t pressure_hundredths(const struct pressure *p,
			     enum pressure_window window);

#endif
