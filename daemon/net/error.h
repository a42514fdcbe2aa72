/* SPDX-License-Identifier: Apache-2.0 */
/*
 * error.h - from errno to the status of a reply, in one table.
 */
#ifndef DAEMON_NET_ERROR_H
#define DAEMON_NET_ERROR_H

#include <stdint.h>

struct error_row {
	int err;		/* positive errno */
	uint16_t status;
	const char *text;	/* what was wrong and what to do next */
};

/* Never NULL: what is not in the table is an I/O error of the daemon's. */
const struct error_row *error_row(int err);

#endif
