// SPDX-License-Identifier: Apache-2.0
/*
 * level.c - how pressing it is: none, low, critical.
 */
#include "daemon/net/level.h"

void level_short(struct level *l, uint64_t now_us)
{
	l->short_us = now_us;
}

/*
 * What speaks for which level, all of it, at a share of the thresholds. What
 * else is a sign of pressure belongs here.
 */
static enum level_value level_want(const struct level *l,
				   const struct pressure *p, uint64_t now_us,
				   double share)
{
	double avg10 = p->avg[PRESSURE_10S];

	if (l->short_us && now_us - l->short_us < LEVEL_SHORT_US)
		return LEVEL_CRITICAL;
	if (avg10 >= LEVEL_CRITICAL_PCT * share)
		return LEVEL_CRITICAL;
	return avg10 >= LEVEL_LOW_PCT * share ? LEVEL_LOW : LEVEL_NONE;
}

bool level_update(struct level *l, const struct pressure *p, uint64_t now_us)
{
	enum level_value up = level_want(l, p, now_us, 1.0);
	enum level_value down = level_want(l, p, now_us, 0.5);

	if (up > l->now) {
		l->now = up;
		l->calm_us = 0;
		return true;
	}
	if (down >= l->now) {
		l->calm_us = 0;
		return false;
	}
	if (l->calm_us == 0)
		l->calm_us = now_us;
	if (now_us - l->calm_us < LEVEL_HOLD_US)
		return false;
	l->now = down;
	l->calm_us = 0;
	return true;
}
