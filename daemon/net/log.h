/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log.h - lines on stderr, as journald or a terminal likes them.
 *
 * Levels are those of <syslog.h>. Any thread may log. Nothing a client can do
 * at will is logged above LOG_DEBUG without log_limited().
 */
#ifndef DAEMON_NET_LOG_H
#define DAEMON_NET_LOG_H

#include <stdbool.h>
#include <stdint.h>
#include <syslog.h>

struct peer;

/* What a line is about: fields beside it where the journal takes them. What
 * is 0 or NULL says nothing. */
struct log_about {
	uint32_t client;
	const struct peer *peer;
	const char *tenant;
	uint32_t space;
	uint64_t pages;
	uint64_t bytes;
};

/* Return: false where it could not be sent; stderr gets it then. */
typedef bool log_sink(int level, const char *text,
		      const struct log_about *about);

/* Is stderr the journal? Then @journal gets the lines. */
bool log_init(log_sink *journal);

/* Drops what is less important than @level; default LOG_INFO. */
void log_set_level(int level);

void log_line(int level, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

void log_about(int level, const struct log_about *about, const char *format,
	       ...) __attribute__((format(printf, 3, 4)));

/* At most one line a second for each @last_ms, which the caller keeps. */
void log_limited(uint64_t *last_ms, int level, const struct log_about *about,
		 const char *format, ...)
	__attribute__((format(printf, 4, 5)));

#endif
