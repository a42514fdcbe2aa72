/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log.h - lines on stderr, as journald or a terminal likes them.
 *
 * Levels are those of <syslog.h>. Any thread may log. Nothing a client can do
 * at will is logged above LOG_DEBUG without log_limited().
 */
#ifndef DAEMON_NET_LOG_H
#define DAEMON_NET_LOG_H

#include <stdint.h>
#include <syslog.h>

/* Looks once whether stderr is the journal. */
void log_init(void);

/* Drops what is less important than @level; default LOG_INFO. */
void log_set_level(int level);

void log_line(int level, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* At most one line a second for each @last_ms, which the caller keeps. */
void log_limited(uint64_t *last_ms, int level, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

#endif
