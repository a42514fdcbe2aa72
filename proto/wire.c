// SPDX-License-Identifier: Apache-2.0
/*
 * wire.c - frames: header, message types, file descriptor counts. No I/O.
 *
 * One table says for every type what may travel with it in each direction;
 * everything else here is reading and writing sixteen bytes.
 */
#include <errno.h>
#include <string.h>
#include "proto/wire.h"

struct wire_rule {
	const char *name;
	uint8_t request_fds;	/* most that may come with a request */
	uint8_t reply_fds;	/* most that may come with a reply */
};

static const struct wire_rule wire_rules[WIRE_NR_TYPES] = {
	[WIRE_HELLO] = { "hello", 1, 0 },
	[WIRE_OPEN_SPACE] = { "open-space", 0, 2 },
	[WIRE_CLOSE_SPACE] = { "close-space", 0, 0 },
	[WIRE_MAP] = { "map", 0, WIRE_MAX_FDS },
	[WIRE_ALLOC] = { "alloc", 0, 0 },
	[WIRE_RELEASE] = { "release", 0, 0 },
	[WIRE_MATCH] = { "match", 0, 0 },
	[WIRE_REFERENCE] = { "reference", 0, 0 },
	[WIRE_PUBLISH] = { "publish", 0, 0 },
	[WIRE_CLAIM] = { "claim", 0, 0 },
	[WIRE_BYE] = { "bye", 0, 0 },
	[WIRE_PING] = { "ping", 0, 0 },
	[WIRE_STATUS] = { "status", 0, 0 },
	[WIRE_STAT] = { "stat", 0, 0 },
	[WIRE_CLIENTS] = { "clients", 0, 0 },
	[WIRE_SPACES] = { "spaces", 0, 0 },
	[WIRE_EVENT] = { "event", 0, 0 },
	[WIRE_TENANTS] = { "tenants", 0, 0 },
	[WIRE_TENANT_SET] = { "tenant-set", 0, 0 },
	[WIRE_RECLAIM] = { "reclaim", 0, 0 },
	[WIRE_DROP] = { "drop", 0, 0 },
	[WIRE_INDEX] = { "index", 0, 0 },
	[WIRE_SUBSCRIBE] = { "subscribe", 0, 0 },
	[WIRE_FLIGHT] = { "flight", 0, 0 },
	[WIRE_QUARANTINE] = { "quarantine", 0, 0 },
	[WIRE_QUARANTINE_RELEASE] = { "quarantine-release", 0, 0 },
	[WIRE_POOL] = { "pool", 0, 0 },
	[WIRE_UNMAPPED] = { "unmapped", 0, 0 },
	[WIRE_PIN] = { "pin", 0, 0 },
	[WIRE_UNPIN] = { "unpin", 0, 0 },
	[WIRE_PINS] = { "pins", 0, 0 },
};

static void put_u16(uint8_t *p, uint16_t v)
{
	p[0] = (uint8_t)v;
	p[1] = (uint8_t)(v >> 8);
}

static void put_u32(uint8_t *p, uint32_t v)
{
	put_u16(p, (uint16_t)v);
	put_u16(p + 2, (uint16_t)(v >> 16));
}

static uint16_t get_u16(const uint8_t *p)
{
	return (uint16_t)(p[0] | p[1] << 8);
}

static uint32_t get_u32(const uint8_t *p)
{
	return get_u16(p) | (uint32_t)get_u16(p + 2) << 16;
}

void wire_put(uint8_t *buf, const struct wire_header *h)
{
	put_u32(buf, h->length);
	put_u16(buf + 4, h->type);
	put_u16(buf + 6, h->status);
	put_u32(buf + 8, h->id);
	put_u32(buf + 12, h->reserved);
}

/* Requests carry an id and no status; events, and only they, have no id. */
static int wire_check_direction(const struct wire_header *h, int reply)
{
	if (h->reserved != 0)
		return -EPROTO;
	if ((h->id == 0) != (h->type == WIRE_EVENT))
		return -EPROTO;
	return reply || (h->id != 0 && h->status == 0) ? 0 : -EPROTO;
}

int wire_get(const uint8_t *buf, size_t size, unsigned nr_fds, int reply,
	     struct wire_header *ret)
{
	const struct wire_rule *rule;
	struct wire_header h;

	if (size < WIRE_HEADER_BYTES)
		return -EPROTO;
	h.length = get_u32(buf);
	h.type = get_u16(buf + 4);
	h.status = get_u16(buf + 6);
	h.id = get_u32(buf + 8);
	h.reserved = get_u32(buf + 12);
	if (h.length != size - WIRE_HEADER_BYTES)
		return -EPROTO;
	if (wire_check_direction(&h, reply) < 0)
		return -EPROTO;
	*ret = h;

	if (size > WIRE_MAX_FRAME)
		return -EMSGSIZE;
	if (h.type >= WIRE_NR_TYPES || !wire_rules[h.type].name)
		return -ENOMSG;
	rule = &wire_rules[h.type];
	if (nr_fds > (reply ? rule->reply_fds : rule->request_fds))
		return -EBADF;
	return 0;
}

const char *wire_type_name(unsigned type)
{
	if (type >= WIRE_NR_TYPES || !wire_rules[type].name)
		return "?";
	return wire_rules[type].name;
}
