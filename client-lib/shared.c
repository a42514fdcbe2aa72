// SPDX-License-Identifier: Apache-2.0
/*
 * shared.c - memory behind a descriptor that somebody else has made.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include "client-lib/shared.h"

int shared_check(int fd, uint64_t bytes)
{
	int seals = fcntl(fd, F_GET_SEALS);
	struct stat st;

	if (seals < 0 || !(seals & F_SEAL_SHRINK) || fstat(fd, &st) < 0 ||
	    (uint64_t)st.st_size < bytes)
		return -EPROTO;
	return 0;
}
