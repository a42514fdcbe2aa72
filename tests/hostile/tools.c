// SPDX-License-Identifier: Apache-2.0
/*
 * tools.c - requests that rows make.
 */
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "kvd/geometry.h"
#include "tests/hostile/hostile.h"

/* ---- what has become of it ---- */

void saw(const char *format, ...)
{
	size_t n = strlen(w->saw);
	char text[120];
	va_list ap;

	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	if (strstr(w->saw, text))
		return;
	snprintf(w->saw + n, sizeof(w->saw) - n, "%s%s", n ? ", " : "", text);
}

void lost(const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	vsnprintf(w->saw, sizeof(w->saw), format, ap);
	va_end(ap);
	_exit(1);
}

static const char *status_name(int status)
{
	return status ? strerrorname_np(-status) : "0";
}

void want(int got, int wanted)
{
	want_either(got, wanted, wanted);
}

void want_either(int got, int wanted, int or)
{
	if (got != wanted && got != or)
		lost("%s, not %s", got > 0 ? "granted" : status_name(got),
		     status_name(wanted));
	if (got)
		saw("%s", status_name(got));
}

int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* ---- frames ---- */

int send_with(int fd, unsigned type, uint32_t id, const void *payload,
	      uint32_t size, const int *fds, unsigned nr)
{
	struct wire_header h = { .length = size, .type = (uint16_t)type,
				 .id = id };
	uint8_t buf[4096];

	CHECK(size <= sizeof(buf) - WIRE_HEADER_BYTES, "%u bytes", size);
	wire_put(buf, &h);
	memcpy(buf + WIRE_HEADER_BYTES, payload, size);
	return raw_send_bytes(fd, buf, WIRE_HEADER_BYTES + size, fds, nr);
}

void close_fds(struct raw_frame *f)
{
	while (f->nr_fds > 0)
		close(f->fds[--f->nr_fds]);
}

int reply_to(int fd, uint32_t id, struct raw_frame *f)
{
	int r;

	do {
		r = raw_recv(fd, f);
		if (r < 0)
			return r;
	} while (f->header.type == WIRE_EVENT || f->header.id != id);
	return -(int)f->header.status;
}

int call_empty(int fd, unsigned type)
{
	static struct raw_frame f;
	int r = raw_send(fd, type, 99, NULL, 0);

	return r < 0 ? r : reply_to(fd, 99, &f);
}

int open_space_fds(int fd, uint8_t model, bool read_only, int fds[2],
		   uint8_t name_key[32])
{
	Kvd__OpenSpaceRequest req = KVD__OPEN_SPACE_REQUEST__INIT;
	Kvd__Geometry geometry = KVD__GEOMETRY__INIT;
	Kvd__Group group = KVD__GROUP__INIT, *groups = &group;
	static struct raw_frame f;
	Kvd__OpenSpaceReply *reply;
	uint8_t digest[32];
	int r;

	memset(digest, model, sizeof(digest));
	group.nr_layers = group.nr_kv_heads = 2;
	group.k_dim = group.v_dim = 64;
	geometry.page_tokens = 32;
	geometry.k_format = geometry.v_format = KVD_F16;
	geometry.n_groups = 1;
	geometry.groups = &groups;
	req.model.data = digest;
	req.model.len = sizeof(digest);
	req.geometry = &geometry;
	req.tp_size = 1;
	req.read_only = read_only;
	r = raw_call(fd, WIRE_OPEN_SPACE, &req.base,
		     &kvd__open_space_reply__descriptor, &reply, &f);
	if (r < 0)
		return r;
	CHECK(f.nr_fds == 2, "%u descriptors", f.nr_fds);
	memcpy(fds, f.fds, sizeof(f.fds[0]) * 2);
	if (name_key)
		memcpy(name_key, reply->name_key.data, 32);
	r = (int)reply->space;
	kvd__open_space_reply__free_unpacked(reply, NULL);
	return r;
}

int map_segment(int fd, uint32_t space, uint32_t segment)
{
	Kvd__MapRequest req = KVD__MAP_REQUEST__INIT;
	static struct raw_frame f;
	int r;

	req.space = space;
	req.n_segments = 1;
	req.segments = &segment;
	r = raw_call(fd, WIRE_MAP, &req.base, NULL, NULL, &f);
	if (r < 0)
		return r;
	CHECK(f.nr_fds == 1, "%u descriptors", f.nr_fds);
	return f.fds[0];
}

void send_alloc(int fd, uint32_t id, uint32_t space, uint32_t count,
		uint32_t deadline_ms)
{
	Kvd__AllocRequest req = KVD__ALLOC_REQUEST__INIT;

	req.space = space;
	req.count = count;
	req.deadline_ms = deadline_ms;
	CHECK(raw_send_msg(fd, WIRE_ALLOC, id, &req.base) == 0, "send");
}

int publish_after(int fd, uint32_t space, uint64_t handle, uint32_t seed,
		  const uint8_t parent[16], uint64_t *ret)
{
	Kvd__PublishRequest req = KVD__PUBLISH_REQUEST__INIT;
	Kvd__Block block = KVD__BLOCK__INIT, *blocks = &block;
	static const uint8_t none[16];
	Kvd__PublishReply *reply;
	uint32_t tokens[32];
	int r;

	for (uint32_t i = 0; i < 32; i++)
		tokens[i] = seed * 32 + i;
	block.parent.data = (uint8_t *)(uintptr_t)(parent ? parent : none);
	block.parent.len = 16;
	block.n_tokens = 32;
	block.tokens = tokens;
	block.n_handles = 1;
	block.handles = &handle;
	req.space = space;
	req.n_blocks = 1;
	req.blocks = &blocks;
	r = raw_call(fd, WIRE_PUBLISH, &req.base,
		     &kvd__publish_reply__descriptor, &reply, NULL);
	if (r < 0)
		return r;
	if (ret)
		*ret = reply->handles[0];
	kvd__publish_reply__free_unpacked(reply, NULL);
	return 0;
}

int subscribe(int fd, uint32_t space, uint32_t mask)
{
	Kvd__SubscribeRequest req = KVD__SUBSCRIBE_REQUEST__INIT;

	req.space = space;
	req.mask = mask;
	return raw_call(fd, WIRE_SUBSCRIBE, &req.base, NULL, NULL, NULL);
}

int pin(int fd, uint32_t space, uint32_t block, uint64_t ttl_ms)
{
	Kvd__PinRequest req = KVD__PIN_REQUEST__INIT;

	req.space = space;
	req.block = block;
	req.ttl_ms = ttl_ms;
	return raw_call(fd, WIRE_PIN, &req.base, NULL, NULL, NULL);
}

void kill_and_reap(pid_t pid)
{
	kill(pid, SIGKILL);
	CHECK(waitpid(pid, NULL, 0) == pid, "waitpid");
}
