// SPDX-License-Identifier: Apache-2.0
/*
 * call.c - frames out, frames in.
 *
 * The buffer of the connection holds one frame at a time: the request until
 * it is sent, then what is received. A reply is matched by id to the calls
 * that wait; since a connection is closed when a reply is overdue, any other
 * id is nonsense.
 */
#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>
#include "client-lib/call.h"
#include "client-lib/clock.h"
#include "client-lib/error.h"
#include "client-lib/flight.h"
#include "proto/kvd.pb-c.h"

static void close_fds(const int *fds, unsigned nr)
{
	for (unsigned i = 0; i < nr; i++)
		if (fds[i] >= 0)
			close(fds[i]);
}

/* Packs the request behind a header. Return: bytes, or negative errno. */
static ssize_t call_pack(struct kvd *k, const struct call *c, uint32_t id)
{
	size_t size = protobuf_c_message_get_packed_size(c->request);
	struct wire_header h = {
		.length = (uint32_t)size,
		.type = (uint16_t)c->type,
		.id = id,
	};

	if (size > WIRE_MAX_FRAME - WIRE_HEADER_BYTES)
		return fail(k, -EMSGSIZE, "%s request of %zu bytes: a frame "
			    "holds %u", wire_type_name(c->type), size,
			    WIRE_MAX_FRAME);
	wire_put(k->frame, &h);
	protobuf_c_message_pack(c->request, k->frame + WIRE_HEADER_BYTES);
	return (ssize_t)(WIRE_HEADER_BYTES + size);
}

static int frame_lost(struct kvd *k, int err, const char *what)
{
	conn_lost(k);
	return fail(k, err, "%s: %s", k->socket, what);
}

/* Room for the descriptors of a frame. */
union control {
	char buf[CMSG_SPACE(WIRE_MAX_FDS * sizeof(int))];
	struct cmsghdr align;
};

static void put_fd(struct msghdr *m, union control *u, int fd)
{
	struct cmsghdr *c;

	m->msg_control = u->buf;
	m->msg_controllen = CMSG_SPACE(sizeof(fd));
	memset(u->buf, 0, m->msg_controllen); /* its padding */
	c = CMSG_FIRSTHDR(m);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(fd));
	memcpy(CMSG_DATA(c), &fd, sizeof(fd));
}

static int frame_send(struct kvd *k, size_t size, const int *fd)
{
	struct iovec iov = { k->frame, size };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
	union control u;
	ssize_t n;

	if (fd)
		put_fd(&m, &u, *fd);
	do {
		n = sendmsg(k->fd, &m, MSG_NOSIGNAL);
	} while (n < 0 && errno == EINTR);
	if (n == (ssize_t)size)
		return 0;
	if (n < 0 && errno == EAGAIN)
		return frame_lost(k, -ETIMEDOUT, "the daemon reads nothing");
	return frame_lost(k, -ENOTCONN, "the daemon went away");
}

/* Copies the descriptors of a message. Return: how many. */
static unsigned frame_fds(struct msghdr *m, int fds[WIRE_MAX_FDS])
{
	unsigned nr = 0;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
		size_t bytes = c->cmsg_len - CMSG_LEN(0);

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		if (nr + bytes / sizeof(int) > WIRE_MAX_FDS)
			break;
		memcpy(fds + nr, CMSG_DATA(c), bytes);
		nr += (unsigned)(bytes / sizeof(int));
	}
	return nr;
}

/* What comes with the bytes in k->frame. */
struct frame {
	struct wire_header h;
	int fds[WIRE_MAX_FDS];
	unsigned nr_fds;
	bool cut;	/* there were more, which this process had no room for */
};

/*
 * Receives a frame into k->frame. Return: 0; -EAGAIN when there is none (with
 * MSG_DONTWAIT) or none came in time; else the connection is gone.
 */
static int frame_receive(struct kvd *k, int flags, struct frame *f)
{
	union control u;
	struct iovec iov = { k->frame, sizeof(k->frame) };
	struct msghdr m = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = u.buf,
		.msg_controllen = sizeof(u.buf),
	};
	ssize_t n;
	int r;

	n = recvmsg(k->fd, &m, flags | MSG_CMSG_CLOEXEC);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return -errno;
	if (n <= 0)
		return frame_lost(k, -ENOTCONN, "the daemon went away");
	f->nr_fds = frame_fds(&m, f->fds);
	f->cut = m.msg_flags & MSG_CTRUNC;
	r = m.msg_flags & MSG_TRUNC ?
		    -EPROTO :
		    wire_get(k->frame, (size_t)n, f->nr_fds, 1, &f->h);
	if (!r)
		return 0;
	close_fds(f->fds, f->nr_fds);
	return frame_lost(k, -EPROTO, "not a frame of this protocol");
}

/* ---- messages ---- */

/* protobuf-c says NULL of bytes that make no sense, and when memory is short:
 * these tell us which. */
static void *message_alloc(void *nomem, size_t size)
{
	void *p = malloc(size);

	if (!p)
		*(bool *)nomem = true;
	return p;
}

static void message_free(void *nomem, void *p)
{
	free(p);
}

/* What is in k->frame, as @want. Return: 0, -ENOMEM, -EPROTO. */
static int message_read(struct kvd *k, const struct wire_header *h,
			const ProtobufCMessageDescriptor *want,
			ProtobufCMessage **ret)
{
	bool nomem = false;
	ProtobufCAllocator a = { message_alloc, message_free, &nomem };

	*ret = protobuf_c_message_unpack(want, &a, h->length,
					 k->frame + WIRE_HEADER_BYTES);
	return *ret ? 0 : nomem ? -ENOMEM : -EPROTO;
}

/* ---- events ---- */

/* Is there as much of everything as there are events? */
static bool blocks_ok(const Kvd__BlocksEvent *b)
{
	size_t nr = b->kinds.len, nr_stored = 0;

	for (size_t i = 0; i < nr; i++)
		nr_stored += b->kinds.data[i] == WIRE_BLOCK_STORED;
	return b->names.len == nr * NAME_BYTES &&
	       b->parents.len == nr_stored * NAME_BYTES &&
	       b->n_depths == nr_stored && b->n_classes == nr_stored &&
	       (b->extras.len == 0 ||
		b->extras.len == nr_stored * NAME_BYTES) &&
	       (nr_stored ? b->n_tokens % nr_stored == 0 : !b->n_tokens);
}

void call_event_read(const struct Kvd__Event *e, struct event_frame *ret)
{
	const Kvd__BlocksEvent *b = e->blocks;

	*ret = (struct event_frame){
		.space = b->space,
		.first = b->first,
		.gone = b->gone,
		.nr = (uint32_t)b->kinds.len,
		.kinds = b->kinds.data,
		.names = b->names.data,
		.parents = b->parents.data,
		.extras = b->extras.len ? b->extras.data : NULL,
		.depths = b->depths,
		.classes = b->classes,
		.tokens = b->n_tokens ? b->tokens : NULL,
		.nr_tokens = b->n_depths ?
				     (uint32_t)(b->n_tokens / b->n_depths) :
				     0,
	};
}

void call_event_free(struct Kvd__Event *e)
{
	kvd__event__free_unpacked(e, NULL);
}

/* Return: it is kept for later. */
static bool event_take(struct kvd *k, Kvd__Event *e, size_t bytes)
{
	switch (e->kind) {
	case KVD__EVENT__KIND__RECALL:
		k->recalled = true;
		return false;
	case KVD__EVENT__KIND__ROOM:
		k->lean_until_ns = 0;
		return false;
	case KVD__EVENT__KIND__PRESSURE:
		if (e->pressure)
			events_levels(k, e->pressure->pool,
				      e->pressure->tenant);
		return false;
	case KVD__EVENT__KIND__BLOCKS:
		return e->blocks && blocks_ok(e->blocks) &&
		       events_keep(k, e, bytes);
	case KVD__EVENT__KIND__FLIGHT:
		if (e->flight)
			match_wait_told(k, e->flight->wait, e->flight->late);
		return false;
	case KVD__EVENT__KIND__REVOKED:
		revoked_note(k, e->segment);
		return false;
	default: /* of a newer daemon */
		return false;
	}
}

/* Room for an event that is small: recalls and levels are. */
struct spare {
	_Alignas(16) char bytes[256];
	size_t used;
};

static void *spare_alloc(void *spare, size_t size)
{
	struct spare *s = spare;
	void *p = s->bytes + s->used;

	size = (size + 15) / 16 * 16;
	if (size > sizeof(s->bytes) - s->used)
		return NULL;
	s->used += size;
	return p;
}

static void spare_free(void *spare, void *p)
{
}

/* There is no memory: others wait for what is recalled all the same. */
static void event_note_small(struct kvd *k, const struct wire_header *h)
{
	struct spare s = { .used = 0 };
	ProtobufCAllocator a = { spare_alloc, spare_free, &s };
	Kvd__Event *e = kvd__event__unpack(&a, h->length,
					   k->frame + WIRE_HEADER_BYTES);

	if (e && e->kind != KVD__EVENT__KIND__BLOCKS)
		event_take(k, e, 0);
	else
		events_missed(k);
}

static void event_note(struct kvd *k, const struct wire_header *h)
{
	ProtobufCMessage *m;
	int r = message_read(k, h, &kvd__event__descriptor, &m);

	if (r == -ENOMEM)
		event_note_small(k, h);
	else if (r)
		events_missed(k);
	else if (!event_take(k, (Kvd__Event *)m, h->length))
		protobuf_c_message_free_unpacked(m, NULL);
}

/* ---- replies ---- */

/* The kernel ends a receive that waits longer than this. */
static int set_timeout(struct kvd *k, uint32_t ms)
{
	struct timeval tv = { ms / 1000, ms % 1000 * 1000 };

	if (ms == k->rcvtimeo_ms)
		return 0;
	if (setsockopt(k->fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)) < 0)
		return frame_lost(k, -ENOTCONN, "cannot set a time limit");
	k->rcvtimeo_ms = ms;
	return 0;
}

/* The daemon's refusal as errno value and text. */
static int call_refused(struct kvd *k, const struct wire_header *h)
{
	int err = -(int)h->status;
	const Kvd__ErrorReply *e;
	ProtobufCMessage *m;

	if (message_read(k, h, &kvd__error_reply__descriptor, &m))
		return fail(k, err, "%s refused", wire_type_name(h->type));
	e = (const Kvd__ErrorReply *)m;
	if (e->need_bytes)
		fail(k, err, "%s (%llu bytes would have to be released)",
		     e->text, (unsigned long long)e->need_bytes);
	else
		fail(k, err, "%s", e->text);
	protobuf_c_message_free_unpacked(m, NULL);
	return err;
}

static struct call *call_find(const struct kvd *k, const struct wire_header *h)
{
	struct call *c;

	LIST_FOREACH(c, &k->calls, link)
		if (c->id == h->id && c->type == h->type)
			return c;
	return NULL;
}

static void call_forget(struct call *c)
{
	LIST_REMOVE(c, link);
	c->awaited = false;
}

/* A reply has come, to whichever call. Return: 0, or the connection is lost. */
static int call_take(struct kvd *k, const struct frame *f)
{
	struct call *c = call_find(k, &f->h);

	if (!c) {
		close_fds(f->fds, f->nr_fds);
		return frame_lost(k, -EPROTO, "a reply nobody awaits");
	}
	call_forget(c);
	memcpy(c->fds, f->fds, f->nr_fds * sizeof(*f->fds));
	c->nr_fds = f->nr_fds;
	if (f->h.status) {
		c->err = call_refused(k, &f->h);
		return 0;
	}
	/* What it grants nobody knows then: the next connection claims it. */
	c->err = message_read(k, &f->h, c->want, &c->reply);
	if (c->err)
		return frame_lost(k, c->err, c->err == -ENOMEM ?
				  "out of memory for a reply" :
				  "a reply that cannot be read");
	if (f->cut)
		c->err = fail_fds(k, wire_type_name(c->type));
	return 0;
}

/* One frame: an event is noted, a reply taken. */
static int call_next(struct kvd *k)
{
	struct frame f;
	int r;

	r = frame_receive(k, 0, &f);
	if (r)
		return r;
	if (f.h.id || f.h.type != WIRE_EVENT)
		return call_take(k, &f);
	close_fds(f.fds, f.nr_fds);
	event_note(k, &f.h);
	return 0;
}

/* Waits for the reply to @c, taking what comes before it. */
static int call_wait(struct kvd *k, struct call *c)
{
	uint32_t ms = k->timeout_ms + c->extra_ms;
	uint64_t end_ns = 0;
	int r;

	r = set_timeout(k, ms);
	while (!r && c->awaited) {
		r = call_next(k);
		if (r == -EAGAIN || !c->awaited)
			break;
		/* Something else than the reply: watch the clock from now. */
		if (!end_ns)
			end_ns = clock_ns() + ms * NSEC_PER_MSEC;
		else if (clock_ns() > end_ns)
			r = -EAGAIN;
		if (r == -EINTR)
			r = 0;
	}
	if (r == -EAGAIN)
		return frame_lost(k, -ETIMEDOUT, "no answer in time");
	return r;
}

void calls_lost(struct kvd *k)
{
	while (!LIST_EMPTY(&k->calls)) {
		struct call *c = LIST_FIRST(&k->calls);

		call_forget(c);
		c->lost = true;
		c->err = -ENOTCONN;
	}
}

int call_begin(struct kvd *k, struct call *c)
{
	ssize_t size;
	int r;

	c->reply = NULL;
	c->nr_fds = 0;
	c->lost = c->awaited = false;
	c->err = 0;
	c->id = k->next_id++;
	if (!c->id)
		c->id = k->next_id++;
	if (k->fd < 0)
		return fail(k, -ENOTCONN, "%s: not connected", k->socket);
	size = call_pack(k, c, c->id);
	if (size < 0)
		return (int)size;
	r = frame_send(k, (size_t)size, c->send_fd);
	if (r)
		return r;
	LIST_INSERT_HEAD(&k->calls, c, link);
	c->awaited = true;
	return 0;
}

int call_finish(struct kvd *k, struct call *c)
{
	int r = c->awaited ? call_wait(k, c) : 0;

	return r ? r : c->err;
}

int call(struct kvd *k, struct call *c)
{
	int r = call_begin(k, c);

	return r ? r : call_finish(k, c);
}

void call_end(struct call *c)
{
	assert(!c->awaited);
	if (c->reply)
		protobuf_c_message_free_unpacked(c->reply, NULL);
	close_fds(c->fds, c->nr_fds);
	c->reply = NULL;
	c->nr_fds = 0;
}

int call_events(struct kvd *k)
{
	struct frame f;
	int r = 0;

	if (k->fd < 0)
		return -ENOTCONN;
	while (!events_full(k)) {
		r = frame_receive(k, MSG_DONTWAIT, &f);
		if (r)
			break;
		close_fds(f.fds, f.nr_fds);
		if (f.h.id || f.h.type != WIRE_EVENT)
			return frame_lost(k, -EPROTO, "a reply nobody awaits");
		event_note(k, &f.h);
	}
	return !r || r == -EAGAIN || r == -EINTR ? 0 : -ENOTCONN;
}

int call_event_wait(struct kvd *k, const bool *told, uint64_t end_ns)
{
	uint64_t now_ns = clock_ns();
	int r = k->fd < 0 ? -ENOTCONN : 0;

	while (!r && !*told && now_ns < end_ns) {
		uint64_t ms = (end_ns - now_ns) / NSEC_PER_MSEC + 1;

		r = set_timeout(k, ms < UINT32_MAX ? (uint32_t)ms : UINT32_MAX);
		if (!r)
			r = call_next(k);
		if (r == -EAGAIN || r == -EINTR)
			r = 0;
		if (!r)
			conn_serve(k);
		now_ns = clock_ns();
	}
	return r;
}
