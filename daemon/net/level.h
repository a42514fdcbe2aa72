/* SPDX-License-Identifier: Apache-2.0 */
/*
 * level.h - how pressing it is: none, low, critical.
 *
 * Critical: in the last second somebody was refused pages because nothing
 * could be given up for them, or had waited for a quarter of the last ten
 * seconds (avg10). Low: somebody had for a twentieth. A level rises at once.
 * It falls when for two seconds nothing has spoken for it, where half of those
 * shares still does, so that one who shrinks because of it is not called back
 * the next moment. No clock of its own. All zero is a good start.
 */
#ifndef DAEMON_NET_LEVEL_H
#define DAEMON_NET_LEVEL_H

#include <stdbool.h>
#include <stdint.h>
#include "daemon/net/pressure.h"

#define LEVEL_LOW_PCT	   5.0	/* of avg10 */
#define LEVEL_CRITICAL_PCT 25.0
#define LEVEL_SHORT_US	   1000000u
#define LEVEL_HOLD_US	   2000000u

enum level_value {
	LEVEL_NONE,
	LEVEL_LOW,
	LEVEL_CRITICAL
};

struct level {
	enum level_value now;
	uint64_t short_us;	/* when somebody was refused; 0: never */
	uint64_t calm_us;	/* since when it would be lower; 0: it is not */
};

/* Somebody was refused pages at @now_us, which is not 0. */
void level_short(struct level *l, uint64_t now_us);

/**
 * level_update() - what @l is at @now_us
 * @p:	pressure of the same, as it is then
 * Return: it has changed.
 */
bool level_update(struct level *l, const struct pressure *p, uint64_t now_us);

#endif
