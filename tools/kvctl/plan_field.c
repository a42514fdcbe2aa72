// SPDX-License-Identifier: Apache-2.0
/*
 * plan_field.c - numbers of config.json, with limits: the file is not ours.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include "tools/kvctl/plan_model.h"

int plan_fail(const char *format, ...)
{
	va_list ap;

	fprintf(stderr, "kvctl plan: ");
	va_start(ap, format);
	vfprintf(stderr, format, ap);
	va_end(ap);
	fputc('\n', stderr);
	return -EINVAL;
}

bool plan_absent(const json_t *c, const char *name)
{
	const json_t *v = json_object_get(c, name);

	return !v || json_is_null(v);
}

int plan_field_read(const json_t *c, const struct plan_field *f, uint32_t *ret)
{
	const json_t *v;
	json_int_t n;
	size_t i;

	for (i = 0; i < 4 && f->names[i]; i++) {
		if (plan_absent(c, f->names[i]))
			continue;
		v = json_object_get(c, f->names[i]);
		if (!json_is_integer(v))
			return plan_fail("%s must be a whole number",
			                 f->names[i]);
		n = json_integer_value(v);
		if (n < 1 || n > f->max)
			return plan_fail("%s is %lld; it must be 1 to %u",
			                 f->names[i], (long long)n, f->max);
		*ret = n;
		return 0;
	}
	if (!f->fallback)
		return plan_fail("config.json has no %s", f->names[0]);
	*ret = f->fallback;
	return 0;
}

int plan_bool_read(const json_t *c, const char *name, bool fallback, bool *ret)
{
	const json_t *v = json_object_get(c, name);

	if (!plan_absent(c, name) && !json_is_boolean(v))
		return plan_fail("%s must be true or false", name);
	*ret = plan_absent(c, name) ? fallback : json_is_true(v);
	return 0;
}
