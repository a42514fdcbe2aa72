// SPDX-License-Identifier: Apache-2.0
/*
 * json.c - pieces of the answers that several commands share.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tools/kvctl/json.h"

json_t *json_safe(const char *text)
{
	char *copy = strdup(text);
	json_t *j;
	char *p;

	if (!copy)
		return NULL;
	for (p = copy; *p; p++) {
		if ((unsigned char)*p < ' ' || *p == '\177')
			*p = '?';
	}
	j = json_string(copy);
	for (p = copy; *p && !j; p++) {
		if ((unsigned char)*p > '~')
			*p = '?';
	}
	if (!j)
		j = json_string(copy);
	free(copy);
	return j;
}

json_t *json_hex64(uint64_t value)
{
	return json_sprintf("%016llx", (unsigned long long)value);
}

json_t *json_hex(const uint8_t *bytes, size_t nr)
{
	char text[2 * 64 + 1] = "";
	size_t i;

	for (i = 0; i < nr && i < 64; i++)
		snprintf(text + 2 * i, 3, "%02x", bytes[i]);
	return json_string(text);
}

json_t *json_counts(const Kvd__Counts *c)
{
	static const Kvd__Counts none = KVD__COUNTS__INIT;

	if (!c)
		c = &none;
	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "total",
	                 (json_int_t)c->total, "free", (json_int_t)c->free,
	                 "open", (json_int_t)c->open, "sealed",
	                 (json_int_t)c->sealed, "cached", (json_int_t)c->cached,
	                 "demoted", (json_int_t)c->demoted, "quarantined",
	                 (json_int_t)c->quarantined, "revoked",
	                 (json_int_t)c->revoked);
}

json_t *json_marks(uint64_t min, uint64_t low, uint64_t high)
{
	return json_pack("{s:I, s:I, s:I}", "min", (json_int_t)min, "low",
	                 (json_int_t)low, "high", (json_int_t)high);
}

int64_t json_count(const json_t *object, const char *key)
{
	return json_integer_value(json_object_get(object, key));
}

const char *json_text(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text ? text : "";
}
