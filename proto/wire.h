/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wire.h - frames: header, message types, file descriptor counts. No I/O.
 *
 * A frame is one SOCK_SEQPACKET message: this header, then `length` bytes of
 * protobuf (kvd.proto). All integers little-endian. File descriptors belong
 * to the frame they come with; a frame with a number of them that its type
 * does not allow is refused and they are closed.
 */
#ifndef PROTO_WIRE_H
#define PROTO_WIRE_H

#include <stddef.h>
#include <stdint.h>

#define WIRE_VERSION 1
#define WIRE_MAX_FRAME 65536u	/* header included */
#define WIRE_MAX_FDS 16u	/* in one frame */
#define WIRE_MAX_PAGES 512u	/* in one request */
#define WIRE_MAX_NAMES 2048u	/* of blocks, in one request */
#define WIRE_MAX_OPEN_SEGMENTS 64u /* that opening a space tells of */
#define WIRE_FEATURES 0ULL	/* feature bits of this build */

enum wire_type {
	WIRE_HELLO = 1,
	WIRE_OPEN_SPACE = 2,
	WIRE_CLOSE_SPACE = 3,
	WIRE_MAP = 4,
	WIRE_ALLOC = 5,
	WIRE_RELEASE = 6,
	WIRE_MATCH = 7,
	WIRE_REFERENCE = 8,
	WIRE_PUBLISH = 9,
	WIRE_CLAIM = 10,
	WIRE_BYE = 11,
	WIRE_PING = 12,
	WIRE_STATUS = 13,
	WIRE_STAT = 14,
	WIRE_CLIENTS = 15,
	WIRE_SPACES = 16,
	WIRE_EVENT = 17,	/* from the daemon, unasked */
	WIRE_TENANTS = 18,
	WIRE_TENANT_SET = 19,
	WIRE_RECLAIM = 20,
	WIRE_DROP = 21,
	WIRE_INDEX = 22,
	WIRE_PIN = 23,
	WIRE_UNPIN = 24,
	WIRE_PINS = 25,
	WIRE_SUBSCRIBE = 26,
	WIRE_FLIGHT = 27,
	WIRE_QUARANTINE = 28,
	WIRE_QUARANTINE_RELEASE = 29,
	WIRE_POOL = 30,
	WIRE_UNMAPPED = 31,
	WIRE_NR_TYPES
};

/* What SubscribeRequest.mask is made of. */
enum wire_subscribe {
	WIRE_SUBSCRIBE_PRESSURE = 1, /* of no space */
	WIRE_SUBSCRIBE_BLOCKS = 2,   /* of one */
	WIRE_SUBSCRIBE_TOKENS = 4    /* and their token ids */
};

enum wire_level {
	WIRE_LEVEL_NONE = 0,
	WIRE_LEVEL_LOW = 1,
	WIRE_LEVEL_CRITICAL = 2
};

enum wire_block_kind {
	WIRE_BLOCK_STORED = 0,
	WIRE_BLOCK_REMOVED = 1
};

/* What FlightReply says of the first of the blocks that were asked for. */
enum wire_flight {
	WIRE_FLIGHT_NONE = 0,	/* nobody has announced it */
	WIRE_FLIGHT_OURS = 1,	/* the asker has, now */
	WIRE_FLIGHT_COMING = 2,	/* another sequence has */
	WIRE_FLIGHT_HERE = 3	/* it is in the index */
};

enum wire_segment_kind {
	WIRE_SEGMENT_MMAP = 0,	/* fd, mmap it */
	WIRE_SEGMENT_VMM = 1,	/* fd, cuMemImportFromShareableHandle */
	WIRE_SEGMENT_IPC = 2	/* 64-byte handle, cuIpcOpenMemHandle */
};

struct wire_header {
	uint32_t length;	/* of the payload, which ends the message */
	uint16_t type;		/* enum wire_type */
	uint16_t status;	/* requests: 0; replies: errno, 0 is success */
	uint32_t id;		/* chosen by the asker, given back; 0: event */
	uint32_t reserved;	/* 0 */
};

#define WIRE_HEADER_BYTES 16u

/* Writes @h to @buf, WIRE_HEADER_BYTES long. */
void wire_put(uint8_t *buf, const struct wire_header *h);

/**
 * wire_get() - read and check the header of a received message
 * @buf:	the message
 * @size:	its length
 * @nr_fds:	file descriptors that came with it
 * @reply:	it is a reply (or event): the limits of that direction apply
 * @ret:	filled unless -EPROTO, so that an error can be sent to its id
 *
 * Only the header is read: @size may be more than what is in @buf. Return: 0;
 * -EPROTO when it is no frame (shorter than a header, length not the
 * message's, reserved not 0, a request without id or with a status, an event
 * with an id): the connection cannot be trusted further; -EMSGSIZE over WIRE_MAX_FRAME;
 * -ENOMSG unknown type; -EBADF a number of fds that the type does not allow.
 */
int wire_get(const uint8_t *buf, size_t size, unsigned nr_fds, int reply,
	     struct wire_header *ret);

/* Name of a type for logs, "?" when unknown. */
const char *wire_type_name(unsigned type);

#endif
