// SPDX-License-Identifier: Apache-2.0
/* error.c - the sentence behind an errno value. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "client-lib/conn.h"
#include "client-lib/error.h"

int fail(struct kvd *k, int err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(k->error, sizeof(k->error), fmt, ap);
	va_end(ap);
	return err;
}

int fail_fds(struct kvd *k, const char *what)
{
	return fail(k, -EMFILE, "%s: this process is out of file descriptors: "
		    "close some, or raise RLIMIT_NOFILE (ulimit -n)", what);
}

int fail_size(struct kvd *k, const void *arg, size_t known)
{
	return fail_size_since(k, arg, known, known);
}

int fail_size_since(struct kvd *k, const void *arg, size_t least, size_t known)
{
	const unsigned char *b = arg;
	uint32_t size;

	memcpy(&size, arg, sizeof(size));
	if (size < least || (size < known && size != least))
		return fail(k, -EINVAL, "size is %u, must be at least %zu",
			    size, known);
	for (size_t i = known; i < size; i++)
		if (b[i])
			return fail(k, -EINVAL,
				    "byte %zu is set, but this library knows "
				    "only %zu: it is older than the program",
				    i, known);
	return 0;
}

const char *kvd_error(const struct kvd *k)
{
	return k ? k->error : "no connection";
}
