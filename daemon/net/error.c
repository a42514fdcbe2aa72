// SPDX-License-Identifier: Apache-2.0
/*
 * error.c - from errno to the status of a reply, in one table.
 *
 * A status is an errno number, but only these: what else a call may return
 * inside the daemon tells a client nothing.
 */
#include <errno.h>
#include "daemon/net/error.h"

static const struct error_row rows[] = {
	{ EINVAL, EINVAL, "a field of the request is out of range" },
	{ ENOENT, ENOENT, "no such space or segment; open the space again" },
	{ ESTALE, ESTALE,
	  "a page of the request is not held by this client, or was lost: drop "
	  "the sequence and start it again" },
	{ ENOSPC, ENOSPC,
	  "the pool is full and nothing can be reclaimed: release pages, wait "
	  "longer, or give kvd a larger pool" },
	{ EAGAIN, ENOSPC,
	  "no page was free in time: ask again with a longer deadline" },
	{ EINPROGRESS, EAGAIN,
	  "a step of it is done: ask again, for the rest" },
	{ EDQUOT, EDQUOT,
	  "the tenant's limit is reached: release pages, or have its max "
	  "raised (kvctl tenant set, or kvd.conf)" },
	{ EBUSY, EBUSY,
	  "too many requests wait: read replies first, or ask again later" },
	{ ENOMEM, ENOMEM, "kvd is out of memory; try again later" },
	{ EMFILE, ENOMEM,
	  "kvd is out of file descriptors: raise LimitNOFILE= or lower "
	  "max-clients" },
	{ EACCES, EACCES, "not allowed for this user" },
	{ EUSERS, EUSERS,
	  "too many clients: raise max-clients or max-clients-per-user in "
	  "kvd.conf" },
	{ EPROTO, EPROTO, "not allowed at this point of the conversation" },
	{ EBADMSG, EPROTO, "the payload is not a valid message of its type" },
	{ ENOMSG, EPROTO, "unknown request type: this kvd is older than the "
			  "client" },
	{ EMSGSIZE, EMSGSIZE, "larger than 65536 bytes: split the request" },
	{ EBADF, EBADF,
	  "file descriptors that this request does not take, or not of the "
	  "right kind" },
};

static const struct error_row other = {
	EIO, EIO, "kvd failed to carry this out; see its log"
};

/**
 * error_row() - the row of a negative or positive errno
 */
const struct error_row *error_row(int err)
{
	unsigned i;

	if (err < 0)
		err = -err;
	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (rows[i].err == err)
			return &rows[i];
	return &other;
}
