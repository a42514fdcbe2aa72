// SPDX-License-Identifier: Apache-2.0
/*
 * size.c - numbers as people write them: "4G", the number of a space.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include "tools/kvctl/size.h"

int size_parse(const char *text, uint64_t *ret)
{
	static const char *const units[] = { "", "K", "M", "G", "T" };
	unsigned long long n;
	unsigned unit;
	char *end;

	errno = 0;
	n = strtoull(text, &end, 10);
	if (*text < '0' || *text > '9' || errno)
		return -EINVAL;
	for (unit = 0; unit < 5; unit++)
		if (strcasecmp(end, units[unit]) == 0)
			break;
	if (unit == 5 || n > (1ULL << 50) >> (10 * unit))
		return -EINVAL;
	*ret = n << (10 * unit);
	return 0;
}

int time_parse(const char *text, uint64_t *ret_ms)
{
	static const char *const units[] = { "", "s", "min", "h" };
	static const unsigned seconds[] = { 1, 1, 60, 3600 };
	unsigned long long n;
	unsigned unit;
	char *end;

	errno = 0;
	n = strtoull(text, &end, 10);
	if (*text < '0' || *text > '9' || errno)
		return -EINVAL;
	for (unit = 0; unit < 4; unit++)
		if (strcmp(end, units[unit]) == 0)
			break;
	if (unit == 4 || n > 86400000u / seconds[unit])
		return -EINVAL;
	*ret_ms = n * seconds[unit] * 1000;
	return 0;
}

int space_parse(const char *text, uint32_t *ret)
{
	unsigned long n;
	char *end;

	errno = 0;
	n = strtoul(text, &end, 10);
	if (*text < '0' || *text > '9' || *end || errno || !n || n > UINT32_MAX)
		return -EINVAL;
	*ret = (uint32_t)n;
	return 0;
}

int block_parse(const char *text, uint32_t *ret_space, uint32_t *ret_block)
{
	const char *colon = strchr(text, ':');
	char space[16];

	if (!colon)
		return space_parse(text, ret_space);
	if ((size_t)(colon - text) >= sizeof(space))
		return -EINVAL;
	snprintf(space, sizeof(space), "%.*s", (int)(colon - text), text);
	if (space_parse(space, ret_space) < 0)
		return -EINVAL;
	return space_parse(colon + 1, ret_block);
}
