// SPDX-License-Identifier: Apache-2.0
/*
 * value.c - text of a configuration into what it means.
 */
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <syslog.h>
#include "daemon/net/server.h"
#include "daemon/value.h"

/* A whole number, then one of @units; *ret_unit is its place there. */
static int parse_number(const char *text, const char *const *units,
			unsigned *ret_unit, uint64_t *ret)
{
	unsigned long long n;
	char *end;

	if (*text < '0' || *text > '9')
		return -EINVAL;
	errno = 0;
	n = strtoull(text, &end, 10);
	if (errno)
		return -EINVAL;
	for (*ret_unit = 0; units[*ret_unit]; (*ret_unit)++)
		if (strcasecmp(end, units[*ret_unit]) == 0)
			break;
	if (!units[*ret_unit])
		return -EINVAL;
	*ret = n;
	return 0;
}

int value_size(void *to, const char *text)
{
	static const char *const units[] = { "", "K", "M", "G", "T", NULL };
	uint64_t n, bytes;
	unsigned unit;

	if (parse_number(text, units, &unit, &n) < 0)
		return -EINVAL;
	if (__builtin_mul_overflow(n, 1ULL << (10 * unit), &bytes) ||
	    bytes > 1ULL << 50)
		return -EINVAL;
	*(uint64_t *)to = bytes;
	return 0;
}

int value_time(void *to, const char *text)
{
	static const char *const units[] = { "", "s", "ms", "min", NULL };
	static const uint64_t ms[] = { 1000, 1000, 1, 60000 };
	uint64_t n;
	unsigned unit;

	if (parse_number(text, units, &unit, &n) < 0 || n > 1000000000)
		return -EINVAL;
	*(uint64_t *)to = n * ms[unit];
	return 0;
}

int value_limit(void *to, const char *text)
{
	if (strcmp(text, "infinity") != 0)
		return value_size(to, text);
	*(uint64_t *)to = 0;
	return 0;
}

/* "0.4%" in millionths. Return: 0, or -EINVAL no percentage up to 100. */
static int parse_percent(const char *text, uint32_t *ret_ppm)
{
	uint32_t n = 0, digits = 0, unit = 10000;
	bool point = false;

	for (; *text != '%'; text++) {
		if (*text == '.' && digits && !point) {
			point = true;
			continue;
		}
		if (*text < '0' || *text > '9' || (point && unit == 1) ||
		    n > 100)
			return -EINVAL;
		digits++;
		if (point)
			*ret_ppm += (uint32_t)(*text - '0') * (unit /= 10);
		else
			n = n * 10 + (uint32_t)(*text - '0');
		if (!point)
			*ret_ppm = n * 10000;
	}
	return digits && !text[1] && text[-1] != '.' && *ret_ppm <= 1000000 ?
		       0 :
		       -EINVAL;
}

int value_part(void *to, const char *text)
{
	struct server_part p = { .set = true };
	int r;

	if (strchr(text, '%'))
		r = parse_percent(text, &p.ppm);
	else
		r = value_size(&p.bytes, text);
	if (r == 0)
		*(struct server_part *)to = p;
	return r;
}

int value_count(void *to, const char *text)
{
	static const char *const units[] = { "", NULL };
	unsigned unit;
	uint64_t n;

	if (parse_number(text, units, &unit, &n) < 0 || n == 0 || n > 1000000)
		return -EINVAL;
	*(uint32_t *)to = (uint32_t)n;
	return 0;
}

int value_percent(void *to, const char *text)
{
	static const char *const units[] = { "", "%", NULL };
	unsigned unit;
	uint64_t n;

	if (parse_number(text, units, &unit, &n) < 0 || n > 100)
		return -EINVAL;
	*(uint32_t *)to = (uint32_t)n;
	return 0;
}

int value_mode(void *to, const char *text)
{
	unsigned long n;
	char *end;

	n = strtoul(text, &end, 8);
	if (*end || *text < '0' || *text > '7' || n > 0777)
		return -EINVAL;
	*(uint32_t *)to = (uint32_t)n;
	return 0;
}

int value_group(void *to, const char *text)
{
	const struct group *gr = getgrnam(text);
	unsigned long n;
	char *end;

	if (gr) {
		*(gid_t *)to = gr->gr_gid;
		return 0;
	}
	n = strtoul(text, &end, 10);
	if (*end || *text < '0' || *text > '9' || n >= UINT32_MAX)
		return -EINVAL;
	*(gid_t *)to = (gid_t)n;
	return 0;
}

int value_user(void *to, const char *text)
{
	const struct passwd *pw = getpwnam(text);
	unsigned long n;
	char *end;

	if (pw) {
		*(uid_t *)to = pw->pw_uid;
		return 0;
	}
	n = strtoul(text, &end, 10);
	if (*end || *text < '0' || *text > '9' || n >= UINT32_MAX)
		return -EINVAL;
	*(uid_t *)to = (uid_t)n;
	return 0;
}

int value_path(void *to, const char *text)
{
	if (text[0] != '/' || strlen(text) >= 256)
		return -EINVAL;
	strcpy(to, text);
	return 0;
}

int value_socket(void *to, const char *text)
{
	if (text[0] == '\0' || strlen(text) >= 108)
		return -EINVAL;
	strcpy(to, text);
	return 0;
}

int value_device(void *to, const char *text)
{
	static const char *const numbered[] = { "cuda-ipc:", "cuda-vmm:" };
	unsigned i;
	size_t n;

	if (strcmp(text, "auto") == 0 || strcmp(text, "host") == 0) {
		strcpy(to, text);
		return 0;
	}
	for (i = 0; i < 2; i++) {
		n = strlen(numbered[i]);
		if (strncmp(text, numbered[i], n) == 0 && text[n] &&
		    strlen(text + n) <= 3 &&
		    strspn(text + n, "0123456789") == strlen(text + n)) {
			strcpy(to, text);
			return 0;
		}
	}
	return -EINVAL;
}

int value_policy(void *to, const char *text)
{
	static const char *const names[] = { "density", "lru", "s3fifo" };

	for (int i = 0; i < 3; i++) {
		if (strcmp(text, names[i]) == 0) {
			strcpy(to, text);
			return 0;
		}
	}
	return -EINVAL;
}

int value_level(void *to, const char *text)
{
	static const char *const names[] = { "error", "warning", "notice",
					     "info", "debug" };
	int i;

	for (i = 0; i < 5; i++) {
		if (strcmp(text, names[i]) == 0) {
			*(int *)to = LOG_ERR + i;
			return 0;
		}
	}
	return -EINVAL;
}
