// SPDX-License-Identifier: Apache-2.0
/*
 * log.c - lines on stderr, as journald or a terminal likes them.
 *
 * A line is one write(2), so that lines of threads never mix.
 */
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "daemon/net/log.h"

#define LOG_LINE_BYTES 1024

static log_sink *log_journal;	/* NULL: stderr is something else */
static atomic_int log_level = LOG_INFO;

bool log_init(log_sink *journal)
{
	const char *stream = getenv("JOURNAL_STREAM");
	unsigned long long dev, ino;
	struct stat st;

	if (stream && sscanf(stream, "%llu:%llu", &dev, &ino) == 2 &&
	    fstat(STDERR_FILENO, &st) == 0 && st.st_dev == dev &&
	    st.st_ino == ino)
		log_journal = journal;
	return log_journal;
}

void log_set_level(int level)
{
	atomic_store(&log_level, level);
}

static size_t log_prefix(char *line, size_t size, int level)
{
	struct timespec now;
	struct tm tm;
	size_t n;

	if (log_journal)
		return (size_t)snprintf(line, size, "<%d>", level);
	clock_gettime(CLOCK_REALTIME, &now);
	localtime_r(&now.tv_sec, &tm);
	n = strftime(line, size, "%F %T", &tm);
	return n + (size_t)snprintf(line + n, size - n, ".%03ld kvd: ",
				    now.tv_nsec / 1000000);
}

static void log_vline(int level, const struct log_about *about,
		      const char *format, va_list ap)
{
	static const struct log_about nothing;
	char line[LOG_LINE_BYTES];
	size_t n;
	int len;

	n = log_prefix(line, sizeof(line), level);
	len = vsnprintf(line + n, sizeof(line) - n - 1, format, ap);
	if (len < 0)
		return;
	if (log_journal &&
	    log_journal(level, line + n, about ? about : &nothing))
		return;
	n += (size_t)len < sizeof(line) - n - 2 ? (size_t)len :
						  sizeof(line) - n - 2;
	line[n++] = '\n';
	if (write(STDERR_FILENO, line, n) < 0)
		return; /* nobody left to tell */
}

static bool log_wants(int level)
{
	return level <= atomic_load(&log_level);
}

void log_line(int level, const char *format, ...)
{
	va_list ap;

	if (!log_wants(level))
		return;
	va_start(ap, format);
	log_vline(level, NULL, format, ap);
	va_end(ap);
}

void log_about(int level, const struct log_about *about, const char *format,
	       ...)
{
	va_list ap;

	if (!log_wants(level))
		return;
	va_start(ap, format);
	log_vline(level, about, format, ap);
	va_end(ap);
}

void log_limited(uint64_t *last_ms, int level, const struct log_about *about,
		 const char *format, ...)
{
	struct timespec now;
	uint64_t ms;
	va_list ap;

	if (!log_wants(level))
		return;
	clock_gettime(CLOCK_MONOTONIC, &now);
	ms = (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
	if (*last_ms != 0 && ms - *last_ms < 1000)
		return;
	*last_ms = ms;
	va_start(ap, format);
	log_vline(level, about, format, ap);
	va_end(ap);
}
