// SPDX-License-Identifier: Apache-2.0
/*
 * user.c - what all connections of one uid may have together.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
#include "daemon/net/state.h"
#include "daemon/net/user.h"

/* A socket that we have dropped: what is in it goes when its peer has read
 * it, or closes its end. */
struct unread {
	LIST_ENTRY(unread) link;
	struct user *user;
	int fd;
	unsigned nr_fds;
};

struct user *user_get(struct server *s, uid_t uid)
{
	struct user *u;

	LIST_FOREACH(u, &s->users.list, link)
		if (u->uid == uid)
			return u;
	u = calloc(1, sizeof(*u));
	if (!u)
		return NULL;
	u->uid = uid;
	LIST_INSERT_HEAD(&s->users.list, u, link);
	return u;
}

/* ---- descriptors ---- */

static void settle(struct client *c)
{
	if (c->nr_fds == 0 || !conn_is_read(&c->conn))
		return;
	c->user->nr_fds -= c->nr_fds;
	c->nr_fds = 0;
}

/* Once a turn of the loop at most: who is at the limit may ask often. */
static void settle_all(struct server *s, struct user *u)
{
	uint64_t now = uv_now(&s->loop);
	struct client *c;

	if (u->counted_ms == now)
		return;
	u->counted_ms = now;
	TAILQ_FOREACH(c, &s->clients, link)
		if (c->user == u)
			settle(c);
}

int user_take_fds(struct client *c, unsigned nr)
{
	struct server *s = c->server;
	uint32_t max = s->cfg.max_fds_per_user;

	settle(c);
	if (c->user->nr_fds + nr > max)
		settle_all(s, c->user);
	if (c->user->nr_fds + nr > max)
		return -EBUSY;
	c->user->nr_fds += nr;
	c->nr_fds += nr;
	return 0;
}

void user_leave_fds(struct client *c)
{
	struct unread *un = NULL;
	int fd = -1;

	settle(c);
	if (c->nr_fds == 0)
		return;
	un = malloc(sizeof(*un));
	if (un)
		fd = fcntl(c->conn.fd, F_DUPFD_CLOEXEC, 3);
	if (fd < 0) { /* uncounted, rather than counted for ever */
		free(un);
		c->user->nr_fds -= c->nr_fds;
	} else {
		shutdown(fd, SHUT_RDWR);
		*un = (struct unread){ .user = c->user,
				       .fd = fd,
				       .nr_fds = c->nr_fds };
		LIST_INSERT_HEAD(&c->server->users.unread, un, link);
	}
	c->nr_fds = 0;
}

static void unread_free(struct unread *un)
{
	LIST_REMOVE(un, link);
	un->user->nr_fds -= un->nr_fds;
	close(un->fd);
	free(un);
}

void users_tick(struct server *s)
{
	struct unread *un, *next;

	for (un = LIST_FIRST(&s->users.unread); un; un = next) {
		next = LIST_NEXT(un, link);
		if (socket_is_read(un->fd))
			unread_free(un);
	}
}

void users_fini(struct server *s)
{
	struct unread *un;
	struct user *u;

	while ((un = LIST_FIRST(&s->users.unread)))
		unread_free(un);
	while ((u = LIST_FIRST(&s->users.list))) {
		LIST_REMOVE(u, link);
		free(u);
	}
}
