// SPDX-License-Identifier: Apache-2.0
/*
 * redis.c - a private Redis to compare a round trip with.
 *
 * The client is what libkvd's is: blocking send and recv on one connection.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "tools/kvbench/redis.h"

#define START_MS 5000

static const char ping[] = "*1\r\n$4\r\nPING\r\n";
static const char pong[] = "+PONG\r\n";

/* Debian's redis-tools has the server under the name of its checker only; it
 * looks at argv[0] to see which of the two it is to be. */
static const char *const names[] = { "redis-server", "redis-check-rdb" };

static int find_in_path(const char *name, char *path, size_t size)
{
	const char *dir = getenv("PATH");
	size_t len;

	for (; dir && *dir; dir += len + (dir[len] == ':')) {
		len = strcspn(dir, ":");
		snprintf(path, size, "%.*s/%s", (int)len, dir, name);
		if (access(path, X_OK) == 0)
			return 0;
	}
	return -ENOENT;
}

static int find_server(char *path, size_t size)
{
	size_t i;

	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (find_in_path(names[i], path, size) == 0)
			return 0;
	}
	return -ENOENT;
}

static int start(struct redis *r, const char *program)
{
	char socket_path[CHILD_PATH + 16];
	const char *const argv[] = { "redis-server",
		                     "--port",
		                     "0",
		                     "--unixsocket",
		                     socket_path,
		                     "--save",
		                     "",
		                     "--appendonly",
		                     "no",
		                     "--dir",
		                     r->server.dir,
		                     NULL };

	snprintf(socket_path, sizeof(socket_path), "%s/redis.sock",
	         r->server.dir);
	return child_start(&r->server, program, argv);
}

static int connect_server(struct redis *r)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int ms;

	snprintf(a.sun_path, sizeof(a.sun_path), "%s/redis.sock",
	         r->server.dir);
	r->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (r->fd < 0)
		return -errno;
	for (ms = 0; ms < START_MS && child_alive(&r->server); ms++) {
		if (connect(r->fd, (struct sockaddr *)&a, sizeof(a)) == 0)
			return 0;
		usleep(1000);
	}
	return -ETIMEDOUT;
}

int redis_open(struct redis *r, const char *program)
{
	char path[4096];
	int err;

	if (!program) {
		err = find_server(path, sizeof(path));
		if (err)
			return err;
		program = path;
	}
	err = child_init(&r->server);
	if (!err)
		err = start(r, program);
	if (!err)
		err = connect_server(r);
	return err;
}

void redis_close(struct redis *r)
{
	if (r->fd >= 0)
		close(r->fd);
	r->fd = -1;
	child_fini(&r->server);
}

int redis_ping(struct redis *r)
{
	char buf[sizeof(pong) - 1];
	ssize_t n;

	if (send(r->fd, ping, sizeof(ping) - 1, MSG_NOSIGNAL) < 0)
		return -errno;
	n = recv(r->fd, buf, sizeof(buf), MSG_WAITALL);
	if (n < 0)
		return -errno;
	if (n != sizeof(buf) || memcmp(buf, pong, sizeof(buf)) != 0)
		return -EPROTO;
	return 0;
}

/* The same answer to each of @nr commands. */
static int expect(struct redis *r, const char *answer, size_t len, unsigned nr)
{
	char buf[REDIS_MAX_PIPELINE * (REDIS_VALUE + 16)];
	ssize_t n = recv(r->fd, buf, len * nr, MSG_WAITALL);
	unsigned i;

	if (n < 0)
		return -errno;
	if ((size_t)n != len * nr)
		return -EPROTO;
	for (i = 0; i < nr; i++)
		if (memcmp(buf + i * len, answer, len) != 0)
			return -EPROTO;
	return 0;
}

int redis_set(struct redis *r, unsigned nr)
{
	char buf[REDIS_MAX_PIPELINE * (REDIS_VALUE + 64)], value[REDIS_VALUE];
	static const char ok[] = "+OK\r\n";
	size_t len = 0;
	unsigned i;

	memset(value, 'v', sizeof(value));
	for (i = 0; i < nr; i++)
		len += (size_t)snprintf(
			buf + len, sizeof(buf) - len,
			"*3\r\n$3\r\nSET\r\n$8\r\nkey%05u\r\n$%u\r\n%.*s\r\n",
			i, REDIS_VALUE, (int)sizeof(value), value);
	if (send(r->fd, buf, len, MSG_NOSIGNAL) != (ssize_t)len)
		return -errno;
	return expect(r, ok, sizeof(ok) - 1, nr);
}

int redis_get(struct redis *r, unsigned nr)
{
	char buf[REDIS_MAX_PIPELINE * 48], answer[REDIS_VALUE + 16];
	size_t len = 0, want;
	unsigned i;

	for (i = 0; i < nr; i++)
		len += (size_t)snprintf(buf + len, sizeof(buf) - len,
		                        "*2\r\n$3\r\nGET\r\n$8\r\nkey%05u\r\n",
		                        i);
	want = (size_t)snprintf(answer, sizeof(answer), "$%u\r\n",
	                        REDIS_VALUE);
	memset(answer + want, 'v', REDIS_VALUE);
	memcpy(answer + want + REDIS_VALUE, "\r\n", 2);
	want += REDIS_VALUE + 2;
	if (send(r->fd, buf, len, MSG_NOSIGNAL) != (ssize_t)len)
		return -errno;
	return expect(r, answer, want, nr);
}
