// SPDX-License-Identifier: Apache-2.0
/*
 * pressure.c - for what share of the time somebody had to wait for pages.
 *
 * The formula is that of Linux's load averages: a period of T seconds with a
 * share s takes an average over W seconds from a to a d + s (1 - d), where d
 * is exp(-T / W). The same share n times over is the same with d^n. Between
 * two calls nobody begins or ends, so a span is the rest of a period, then
 * whole ones that are all alike, then the beginning of one.
 */
#include <assert.h>
#include <math.h>
#include "daemon/net/pressure.h"

static const double window_us[NR_PRESSURE_WINDOWS] = { 10e6, 60e6, 300e6 };

/* Takes in @nr periods, each with @stalled_us of waiting. */
static void fold(struct pressure *p, uint64_t stalled_us, uint64_t nr)
{
	double pct = 100.0 * (double)stalled_us / PRESSURE_PERIOD_US;
	double span_us = (double)nr * PRESSURE_PERIOD_US;
	int i;

	for (i = 0; i < NR_PRESSURE_WINDOWS; i++) {
		double keep = exp(-span_us / window_us[i]);

		/* So written, 100 is not passed by a rounding. */
		p->avg[i] = pct + (p->avg[i] - pct) * keep;
	}
}

static void catch_up(struct pressure *p, uint64_t now_us)
{
	uint64_t span, left, share = p->nr_waiting > 0;

	if (now_us <= p->at_us)
		return;
	span = now_us - p->at_us;
	left = PRESSURE_PERIOD_US - p->at_us % PRESSURE_PERIOD_US;
	p->at_us = now_us;
	p->total_us += share * span;
	if (span < left) {
		p->period_us += share * span;
		return;
	}
	fold(p, p->period_us + share * left, 1);
	span -= left;
	fold(p, share * PRESSURE_PERIOD_US, span / PRESSURE_PERIOD_US);
	p->period_us = share * (span % PRESSURE_PERIOD_US);
}

void pressure_begin(struct pressure *p, uint64_t now_us)
{
	catch_up(p, now_us);
	p->nr_waiting++;
}

void pressure_end(struct pressure *p, uint64_t now_us)
{
	assert(p->nr_waiting > 0);
	catch_up(p, now_us);
	p->nr_waiting--;
}

struct pressure pressure_at(const struct pressure *p, uint64_t now_us)
{
	struct pressure now = *p;

	catch_up(&now, now_us);
	return now;
}

uint32_t pressure_hundredths(const struct pressure *p,
			     enum pressure_window window)
{
	return (uint32_t)(p->avg[window] * 100.0 + 0.5);
}
