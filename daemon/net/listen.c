// SPDX-License-Identifier: Apache-2.0
/*
 * listen.c - the socket that clients connect to.
 *
 * Two daemons that start at once on one path must not remove each other's
 * socket: looking, removing and making happen under a lock on the directory.
 */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
#include "daemon/net/listen.h"
#include "daemon/net/log.h"
#include "daemon/util/fault.h"

/* Accepted in one wake, so that a storm of them does not starve clients. */
#define LISTEN_BURST 16

/* Of the directory's lock, in tenths of a second. */
#define LOCK_TRIES 50

static int sockaddr_make(const char *path, struct sockaddr_un *ret)
{
	memset(ret, 0, sizeof(*ret));
	ret->sun_family = AF_UNIX;
	if (path[0] == '\0')
		return -EDESTADDRREQ;
	if (strlen(path) >= sizeof(ret->sun_path))
		return -ENAMETOOLONG;
	memcpy(ret->sun_path, path, strlen(path));
	return 0;
}

/* Is there somebody behind the socket file? Return: 0 no, or -errno. */
static int nobody_listens(const struct sockaddr_un *addr)
{
	int fd, r;

	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	r = connect(fd, (const struct sockaddr *)addr, sizeof(*addr));
	r = r < 0 && errno == ECONNREFUSED ? 0 : -EADDRINUSE;
	close(fd);
	return r;
}

/* Makes room at the path. Return: 0, -EADDRINUSE, -EEXIST, -errno. */
static int remove_stale(const struct sockaddr_un *addr)
{
	struct stat st;
	int r;

	if (lstat(addr->sun_path, &st) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISSOCK(st.st_mode))
		return -EEXIST;
	r = nobody_listens(addr);
	if (r < 0)
		return r;
	return unlink(addr->sun_path) < 0 ? -errno : 0;
}

/* Others hold it for as long as they make a socket. -EBUSY: for longer. */
static int lock_fd(int fd)
{
	const struct timespec pause = { .tv_nsec = 100000000 };
	int i;

	for (i = 0; i < LOCK_TRIES; i++) {
		if (flock(fd, LOCK_EX | LOCK_NB) == 0)
			return 0;
		if (errno != EWOULDBLOCK && errno != EINTR)
			return -errno;
		nanosleep(&pause, NULL);
	}
	return -EBUSY;
}

/* The directory of @path, made if it is the last part that is missing. */
static int lock_dir(const char *path)
{
	char buf[108], *dir;
	int fd, r;

	snprintf(buf, sizeof(buf), "%s", path);
	dir = dirname(buf);
	if (mkdir(dir, geteuid() == 0 ? 0755 : 0700) < 0 && errno != EEXIST)
		return -errno;
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	r = lock_fd(fd);
	if (r < 0)
		close(fd);
	return r < 0 ? r : fd;
}

static int bind_file(int fd, const struct sockaddr_un *addr, mode_t mode,
		     gid_t gid)
{
	mode_t mask = umask(0777);
	int r;

	r = bind(fd, (const struct sockaddr *)addr, sizeof(*addr));
	r = r < 0 ? -errno : 0;
	umask(mask);
	if (r < 0)
		return r;
	if (gid != (gid_t)-1 && chown(addr->sun_path, (uid_t)-1, gid) < 0)
		return -errno;
	if (chmod(addr->sun_path, mode) < 0)
		return -errno;
	return listen(fd, SOMAXCONN) < 0 ? -errno : 0;
}

static int make_socket(struct listener *l, const struct sockaddr_un *addr,
		       mode_t mode, gid_t gid)
{
	struct stat st;
	int r;

	r = remove_stale(addr);
	if (r < 0)
		return r;
	l->fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK,
		       0);
	if (l->fd < 0)
		return -errno;
	r = bind_file(l->fd, addr, mode, gid);
	if (r == 0 && lstat(addr->sun_path, &st) < 0)
		r = -errno;
	if (r < 0) {
		close(l->fd);
		l->fd = -1;
		return r;
	}
	l->made = true;
	l->dev = st.st_dev;
	l->ino = st.st_ino;
	return 0;
}

static const char *why_not(int r)
{
	if (r == -EDESTADDRREQ)
		return "XDG_RUNTIME_DIR is not set, so there is no usual "
		       "place: say where with --socket";
	if (r == -EADDRINUSE)
		return "another daemon answers there; stop it, or give this "
		       "one its own --socket";
	if (r == -EEXIST)
		return "there is a file that is not a socket; remove it, or "
		       "give another --socket";
	if (r == -EBUSY)
		return "another process keeps a lock on its directory; end "
		       "that one, or give another --socket";
	return strerror(-r);
}

/* Where a socket that was passed to us is. */
static void find_path(struct listener *l)
{
	struct sockaddr_un addr;
	socklen_t len = sizeof(addr);

	if (getsockname(l->fd, (struct sockaddr *)&addr, &len) == 0 &&
	    len > offsetof(struct sockaddr_un, sun_path))
		snprintf(l->path, sizeof(l->path), "%.*s",
			 (int)(len - offsetof(struct sockaddr_un, sun_path)),
			 addr.sun_path);
}

int listener_open(struct listener *l, int fd, const char *path, mode_t mode,
		  gid_t gid, char *why, size_t why_bytes)
{
	struct sockaddr_un addr;
	int dir, r;

	memset(l, 0, sizeof(*l));
	l->fd = fd;
	l->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		find_path(l);
		return 0;
	}
	snprintf(l->path, sizeof(l->path), "%s", path);
	r = sockaddr_make(path, &addr);
	dir = r < 0 ? r : lock_dir(path);
	if (dir >= 0) {
		r = make_socket(l, &addr, mode, gid);
		close(dir);
	} else {
		r = dir;
	}
	if (r < 0) {
		snprintf(why, why_bytes, "socket %s: %s", path, why_not(r));
		close(l->spare_fd);
		l->spare_fd = -1;
	}
	return r;
}

void listener_full(struct listener *l)
{
	log_limited(&l->logged_ms, LOG_WARNING, NULL,
		    "out of file descriptors, a connection was refused: raise "
		    "LimitNOFILE= or lower max-clients");
}

/*
 * Out of descriptors: the connection would wake us for ever. Take it with the
 * spare one and close it; where even that fails, look away until the tick.
 */
static void refuse_one(struct listener *l)
{
	int fd;

	listener_full(l);
	close(l->spare_fd);
	fd = accept4(l->fd, NULL, NULL, SOCK_CLOEXEC);
	if (fd >= 0)
		close(fd);
	else if (errno == EMFILE || errno == ENFILE)
		uv_poll_stop(&l->poll);
	l->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static int take_one(struct listener *l)
{
	int r = fault_at(FAULT_ACCEPT);

	if (r < 0) {
		errno = -r;
		return -1;
	}
	return accept4(l->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
}

static void listener_on_poll(uv_poll_t *poll, int status, int events)
{
	struct listener *l = poll->data;
	int i, fd;

	for (i = 0; i < LISTEN_BURST; i++) {
		fd = take_one(l);
		if (fd >= 0)
			l->accepted(l->ctx, fd);
		else if (errno == EMFILE || errno == ENFILE)
			refuse_one(l);
		else if (errno != ECONNABORTED && errno != EINTR)
			return;
	}
}

int listener_start(struct listener *l, uv_loop_t *loop,
		   void (*accepted)(void *ctx, int fd), void *ctx)
{
	int r;

	l->accepted = accepted;
	l->ctx = ctx;
	l->poll.data = l;
	r = uv_poll_init(loop, &l->poll, l->fd);
	if (r < 0)
		return r;
	return uv_poll_start(&l->poll, UV_READABLE, listener_on_poll);
}

void listener_tick(struct listener *l)
{
	if (!uv_is_active((uv_handle_t *)&l->poll))
		uv_poll_start(&l->poll, UV_READABLE, listener_on_poll);
}

void listener_close(struct listener *l)
{
	struct stat st;

	if (l->poll.data)
		uv_close((uv_handle_t *)&l->poll, NULL);
	if (l->made && lstat(l->path, &st) == 0 && st.st_dev == l->dev &&
	    st.st_ino == l->ino)
		unlink(l->path);
	if (l->fd >= 0)
		close(l->fd);
	if (l->spare_fd >= 0)
		close(l->spare_fd);
}
