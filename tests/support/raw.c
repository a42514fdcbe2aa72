// SPDX-License-Identifier: Apache-2.0
/*
 * raw.c - a client that may say anything: frames by hand over the socket.
 */
#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "kvd/geometry.h"
#include "tests/support/check.h"
#include "tests/support/raw.h"

#define MAX_SENT_FDS 253

int raw_connect(const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd, r;

	CHECK(strlen(path) < sizeof(addr.sun_path), "%s", path);
	memcpy(addr.sun_path, path, strlen(path));
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0)
		return fd;
	r = -errno;
	close(fd);
	return r;
}

int raw_open(const char *path)
{
	Kvd__HelloRequest hello = KVD__HELLO_REQUEST__INIT;
	int fd = raw_connect(path), r;

	CHECK(fd >= 0, "connect to %s: %s", path, strerror(-fd));
	hello.version = WIRE_VERSION;
	hello.program = (char *)"raw";
	r = raw_call(fd, WIRE_HELLO, &hello.base, NULL, NULL, NULL);
	CHECK(r == 0, "hello: %s", strerror(-r));
	return fd;
}

int raw_send_bytes(int fd, const void *buf, size_t size, const int *fds,
		   unsigned nr_fds)
{
	_Alignas(struct cmsghdr)
	char control[CMSG_SPACE(MAX_SENT_FDS * sizeof(int))];
	struct iovec iov = { .iov_base = (void *)(uintptr_t)buf,
			     .iov_len = size };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct cmsghdr *cmsg;

	CHECK(nr_fds <= MAX_SENT_FDS, "%u descriptors", nr_fds);
	if (nr_fds > 0) {
		msg.msg_control = control;
		msg.msg_controllen = CMSG_SPACE(nr_fds * sizeof(int));
		memset(control, 0, msg.msg_controllen); /* its padding */
		cmsg = CMSG_FIRSTHDR(&msg);
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(nr_fds * sizeof(int));
		memcpy(CMSG_DATA(cmsg), fds, nr_fds * sizeof(int));
	}
	return sendmsg(fd, &msg, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

int raw_send(int fd, unsigned type, uint32_t id, const void *payload,
	     size_t size)
{
	static uint8_t buf[WIRE_MAX_FRAME * 3];
	struct wire_header h = { .length = (uint32_t)size,
				 .type = (uint16_t)type,
				 .id = id };

	CHECK(size <= sizeof(buf) - WIRE_HEADER_BYTES, "%zu bytes", size);
	wire_put(buf, &h);
	if (size > 0)
		memcpy(buf + WIRE_HEADER_BYTES, payload, size);
	return raw_send_bytes(fd, buf, WIRE_HEADER_BYTES + size, NULL, 0);
}

int raw_send_msg(int fd, unsigned type, uint32_t id,
		 const ProtobufCMessage *msg)
{
	static uint8_t buf[WIRE_MAX_FRAME * 2];
	size_t size = protobuf_c_message_get_packed_size(msg);

	CHECK(size <= sizeof(buf), "%zu bytes", size);
	protobuf_c_message_pack(msg, buf);
	return raw_send(fd, type, id, buf, size);
}

static void take_fds(struct msghdr *msg, struct raw_frame *f)
{
	struct cmsghdr *cmsg;

	f->nr_fds = 0;
	for (cmsg = CMSG_FIRSTHDR(msg); cmsg; cmsg = CMSG_NXTHDR(msg, cmsg)) {
		if (cmsg->cmsg_type != SCM_RIGHTS)
			continue;
		f->nr_fds = (unsigned)((cmsg->cmsg_len - CMSG_LEN(0)) /
				       sizeof(int));
		memcpy(f->fds, CMSG_DATA(cmsg), f->nr_fds * sizeof(int));
	}
}

int raw_recv(int fd, struct raw_frame *f)
{
	static uint8_t buf[WIRE_MAX_FRAME];
	_Alignas(struct cmsghdr)
	char control[CMSG_SPACE(WIRE_MAX_FDS * sizeof(int))];
	struct iovec iov = { .iov_base = buf, .iov_len = sizeof(buf) };
	struct msghdr msg = { .msg_iov = &iov,
			      .msg_iovlen = 1,
			      .msg_control = control,
			      .msg_controllen = sizeof(control) };
	struct pollfd p = { .fd = fd, .events = POLLIN };
	ssize_t n;
	int r;

	if (poll(&p, 1, RAW_TIMEOUT_MS) == 0)
		return -ETIMEDOUT;
	n = recvmsg(fd, &msg, MSG_CMSG_CLOEXEC);
	if (n <= 0)
		return n < 0 ? -errno : -ECONNRESET;
	take_fds(&msg, f);
	r = wire_get(buf, (size_t)n, f->nr_fds, 1, &f->header);
	CHECK(r == 0 || r == -ENOMSG, "the daemon sent no valid frame: %s", strerror(-r));
	memcpy(f->payload, buf + WIRE_HEADER_BYTES, f->header.length);
	return 0;
}

int raw_at_end(int fd)
{
	static struct raw_frame f;
	int r;

	while ((r = raw_recv(fd, &f)) == 0)
		continue;
	return r == -ECONNRESET;
}

static void close_frame(struct raw_frame *f)
{
	while (f->nr_fds > 0)
		close(f->fds[--f->nr_fds]);
}

int raw_call(int fd, unsigned type, const ProtobufCMessage *req,
	     const ProtobufCMessageDescriptor *reply, void *ret,
	     struct raw_frame *f)
{
	static struct raw_frame own;
	static uint32_t last_id;
	struct raw_frame *to = f ? f : &own;
	uint32_t id = ++last_id;
	int r;

	if (ret)
		*(ProtobufCMessage **)ret = NULL;
	r = raw_send_msg(fd, type, id, req);
	if (r < 0)
		return r;
	do {
		r = raw_recv(fd, to);
		if (r < 0)
			return r;
	} while (to->header.id != id);
	CHECK(to->header.type == type, "reply of type %u", to->header.type);
	if (to->header.status == 0 && ret) {
		*(ProtobufCMessage **)ret = protobuf_c_message_unpack(
			reply, NULL, to->header.length, to->payload);
		CHECK(*(void **)ret, "reply to %s", wire_type_name(type));
	}
	if (!f)
		close_frame(to);
	return -(int)to->header.status;
}

const char *raw_error(const struct raw_frame *f)
{
	static char text[512];
	Kvd__ErrorReply *e;

	e = kvd__error_reply__unpack(NULL, f->header.length, f->payload);
	CHECK(e, "error reply");
	snprintf(text, sizeof(text), "%s", e->text);
	kvd__error_reply__free_unpacked(e, NULL);
	return text;
}

int raw_open_series(const char *socket, uint32_t series)
{
	Kvd__HelloRequest hello = KVD__HELLO_REQUEST__INIT;
	int fd = raw_connect(socket);
	int r;

	CHECK(fd >= 0, "%s: %s", socket, strerror(-fd));
	hello.version = WIRE_VERSION;
	hello.program = (char *)(uintptr_t)"raw";
	hello.series = series;
	r = raw_call(fd, WIRE_HELLO, &hello.base, NULL, NULL, NULL);
	CHECK(!r, "hello: %d", r);
	return fd;
}

int raw_open_space(int fd, uint8_t model)
{
	Kvd__OpenSpaceRequest req = KVD__OPEN_SPACE_REQUEST__INIT;
	Kvd__Geometry geometry = KVD__GEOMETRY__INIT;
	Kvd__Group group = KVD__GROUP__INIT, *groups = &group;
	Kvd__OpenSpaceReply *reply;
	uint8_t digest[32];
	int r;

	memset(digest, model, sizeof(digest));
	group.nr_layers = 2;
	group.nr_kv_heads = 2;
	group.k_dim = group.v_dim = 64;
	geometry.page_tokens = 32;
	geometry.k_format = geometry.v_format = KVD_F16;
	geometry.n_groups = 1;
	geometry.groups = &groups;
	req.model.data = digest;
	req.model.len = sizeof(digest);
	req.geometry = &geometry;
	req.tp_size = 1;
	do
		r = raw_call(fd, WIRE_OPEN_SPACE, &req.base,
			     &kvd__open_space_reply__descriptor, &reply, NULL);
	while (r == -EAGAIN); /* another space is emptied, step by step */
	if (r < 0)
		return r;
	r = (int)reply->space;
	kvd__open_space_reply__free_unpacked(reply, NULL);
	return r;
}

int raw_alloc(int fd, uint32_t space, uint32_t count, uint32_t deadline_ms,
	      uint64_t *handles, uint64_t *places)
{
	Kvd__AllocRequest req = KVD__ALLOC_REQUEST__INIT;
	Kvd__AllocReply *reply;
	int r;

	req.space = space;
	req.count = count;
	req.deadline_ms = deadline_ms;
	r = raw_call(fd, WIRE_ALLOC, &req.base, &kvd__alloc_reply__descriptor,
		     &reply, NULL);
	if (r < 0)
		return r;
	CHECK(reply->n_handles == count && reply->n_places == count,
	      "asked for %u, got %zu", count, reply->n_handles);
	memcpy(handles, reply->handles, count * sizeof(*handles));
	if (places)
		memcpy(places, reply->places, count * sizeof(*places));
	kvd__alloc_reply__free_unpacked(reply, NULL);
	return 0;
}

int raw_release(int fd, const uint64_t *handles, size_t nr)
{
	Kvd__ReleaseRequest req = KVD__RELEASE_REQUEST__INIT;

	req.n_handles = nr;
	req.handles = (uint64_t *)(uintptr_t)handles;
	return raw_call(fd, WIRE_RELEASE, &req.base, NULL, NULL, NULL);
}

int raw_publish(int fd, uint32_t space, uint64_t handle, uint32_t seed)
{
	Kvd__PublishRequest req = KVD__PUBLISH_REQUEST__INIT;
	Kvd__Block block = KVD__BLOCK__INIT, *blocks = &block;
	uint8_t parent[16] = { 0 };
	uint32_t tokens[32];
	unsigned i;

	for (i = 0; i < 32; i++)
		tokens[i] = seed * 32 + i;
	block.parent.data = parent;
	block.parent.len = sizeof(parent);
	block.n_tokens = 32;
	block.tokens = tokens;
	block.n_handles = 1;
	block.handles = &handle;
	req.space = space;
	req.n_blocks = 1;
	req.blocks = &blocks;
	return raw_call(fd, WIRE_PUBLISH, &req.base, NULL, NULL, NULL);
}

int raw_match(int fd, uint32_t space, const uint64_t *handles, size_t nr)
{
	Kvd__MatchRequest req = KVD__MATCH_REQUEST__INIT;
	Kvd__MatchReply *reply;
	int r;

	req.space = space;
	req.n_handles = nr;
	req.handles = (uint64_t *)(uintptr_t)handles;
	r = raw_call(fd, WIRE_MATCH, &req.base, &kvd__match_reply__descriptor,
		     &reply, NULL);
	if (r < 0)
		return r;
	r = (int)reply->granted;
	CHECK(reply->n_places == reply->granted, "places");
	kvd__match_reply__free_unpacked(reply, NULL);
	return r;
}

int raw_claim(int fd, uint32_t space, uint64_t handle)
{
	Kvd__ClaimRequest req = KVD__CLAIM_REQUEST__INIT;
	Kvd__ClaimReply *reply;
	uint32_t holds = 1;
	int r;

	req.space = space;
	req.n_handles = req.n_holds = 1;
	req.handles = &handle;
	req.holds = &holds;
	r = raw_call(fd, WIRE_CLAIM, &req.base, &kvd__claim_reply__descriptor,
		     &reply, NULL);
	if (r < 0)
		return r;
	CHECK(reply->n_granted == 1, "granted");
	r = reply->granted[0] ? 1 : 0;
	kvd__claim_reply__free_unpacked(reply, NULL);
	return r;
}

unsigned raw_claim_rest(int fd, uint32_t space)
{
	Kvd__ClaimRequest req = KVD__CLAIM_REQUEST__INIT;
	Kvd__ClaimReply *reply;
	unsigned nr = 0;
	bool more;

	req.space = space;
	req.rest = 1;
	do {
		int r = raw_call(fd, WIRE_CLAIM, &req.base,
				 &kvd__claim_reply__descriptor, &reply, NULL);

		CHECK(!r, "claim: %d", r);
		more = reply->more;
		kvd__claim_reply__free_unpacked(reply, NULL);
		nr++;
	} while (more);
	return nr;
}

int raw_ping(int fd)
{
	Kvd__PingRequest req = KVD__PING_REQUEST__INIT;

	return raw_call(fd, WIRE_PING, &req.base, NULL, NULL, NULL);
}

int raw_bye(int fd)
{
	Kvd__ByeRequest req = KVD__BYE_REQUEST__INIT;

	return raw_call(fd, WIRE_BYE, &req.base, NULL, NULL, NULL);
}
