// SPDX-License-Identifier: Apache-2.0
/*
 * unpack.c - from the bytes of a frame to a message in the arena.
 *
 * Everything a stranger can send goes through here first. The arena bounds
 * what unpacking may take; protobuf-c gives up when it is full.
 */
#include <errno.h>
#include "daemon/net/arena.h"
#include "daemon/net/dispatch/dispatch.h"

int request_unpack(struct arena *a, const struct conn_frame *f,
		   struct wire_header *ret_header, ProtobufCMessage **ret)
{
	const struct request_row *row;
	int r;

	r = wire_get(f->buf, f->size, f->nr_fds, 0, ret_header);
	if (r < 0)
		return r;
	if (f->fds_lost) /* too many for a frame, or for us */
		return f->nr_fds < CONN_MAX_RECV_FDS ? -EMFILE : -EBADF;
	row = request_row(ret_header->type);
	arena_reset(a);
	*ret = protobuf_c_message_unpack(row->descriptor, &a->pb,
					 ret_header->length,
					 f->buf + WIRE_HEADER_BYTES);
	return *ret ? 0 : -EBADMSG;
}
