/* SPDX-License-Identifier: Apache-2.0 */
/*
 * error.c - the sentence a failed step leaves for the user.
 */
#include <stdarg.h>
#include <stdio.h>
#include "tools/kvworker/error.h"

int error_set(struct error *e, int err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(e->text, sizeof(e->text), fmt, ap);
	va_end(ap);
	return err;
}
