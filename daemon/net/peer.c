// SPDX-License-Identifier: Apache-2.0
/*
 * peer.c - who is at the other end of a socket: credentials and a pidfd.
 *
 * A pid alone proves nothing, it may have been reused. So the pidfd comes
 * from the socket (SO_PEERPIDFD, Linux 6.5); before that from the pid, as the
 * connection comes in and if the uid still agrees; and only where the pid is
 * not ours to see from the client itself, which could send another's. The
 * start time is read while the pidfd shows that the process still lives.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>
#include "daemon/net/peer.h"

/* Newer than the C library's headers. */
enum {
	PEER_SO_PEERGROUPS = 59,
	PEER_SO_PEERPIDFD = 77,
	PEER_PIDFS_MAGIC = 0x50494446
};

bool peer_in_group(const struct peer *p, gid_t gid)
{
	unsigned i;

	for (i = 0; i < p->nr_groups; i++)
		if (p->groups[i] == gid)
			return true;
	return false;
}

/* Reads a small file of /proc whole. Return: bytes or a negative errno. */
static ssize_t read_proc(const char *path, char *buf, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return errno == ENOENT ? -ESRCH : -errno;
	n = read(fd, buf, size - 1);
	if (n < 0)
		n = -errno;
	else
		buf[n] = '\0';
	close(fd);
	return n;
}

int peer_start_time(pid_t pid, uint64_t *ret)
{
	char path[64], buf[1024], *p;
	ssize_t n;
	int field;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	n = read_proc(path, buf, sizeof(buf));
	if (n < 0)
		return (int)n;
	/* "pid (name) state ...": the name may hold blanks and parentheses. */
	p = strrchr(buf, ')');
	for (field = 2; p && field < 22; field++)
		p = strchr(p + 1, ' ');
	if (!p)
		return -EIO;
	*ret = strtoull(p + 1, NULL, 10);
	return 0;
}

pid_t peer_inner_pid(pid_t pid)
{
	char path[64], buf[4096], *line, *end;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	n = read_proc(path, buf, sizeof(buf));
	line = n < 0 ? NULL : strstr(buf, "\nNSpid:");
	end = line ? strchr(line + 1, '\n') : NULL;
	if (!end)
		return pid;
	*end = '\0'; /* one for each namespace, the innermost last */
	line = strrchr(line + 1, '\t');
	return line && atoi(line) > 0 ? atoi(line) : pid;
}

bool peer_exited(int pidfd)
{
	struct pollfd p = { .fd = pidfd, .events = POLLIN };

	return poll(&p, 1, 0) == 1 && (p.revents & POLLIN);
}

int peer_open(pid_t pid, uint64_t start)
{
	uint64_t now;
	int fd, r;

	fd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (fd < 0)
		return errno == EINVAL ? -ESRCH : -errno;
	r = peer_start_time(pid, &now);
	if (r == 0 && (now != start || peer_exited(fd)))
		r = -ESRCH;
	if (r < 0) {
		close(fd);
		return r;
	}
	return fd;
}

/* The pid that a pidfd stands for: 0 in a namespace we cannot see, -1 exited.
 * Return: 0; -EBADF when it is no pidfd; -EMFILE it cannot be told. */
static int pidfd_pid(int fd, pid_t *ret)
{
	char path[64], buf[1024], *line;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	n = read_proc(path, buf, sizeof(buf));
	if (n == -EMFILE || n == -ENFILE)
		return -EMFILE;
	if (n < 0)
		return -EBADF;
	line = strstr(buf, "\nPid:");
	if (!line)
		return -EBADF;
	*ret = atoi(line + 5);
	return 0;
}

/* By pid, for kernels before 6.5: the uid must still agree. */
static int pidfd_from_pid(const struct peer *p)
{
	char path[64];
	struct stat st;
	int fd, r;

	if (p->pid <= 0)
		return -EACCES;
	fd = (int)syscall(SYS_pidfd_open, p->pid, 0);
	if (fd < 0)
		return errno == EMFILE || errno == ENFILE ? -EMFILE : -ESRCH;
	snprintf(path, sizeof(path), "/proc/%d", (int)p->pid);
	if (stat(path, &st) == 0 && st.st_uid == p->uid)
		return fd;
	/* No /proc entry: hidden from us, or reaped since it was opened. */
	r = peer_exited(fd) ? -ESRCH : -EACCES;
	close(fd);
	return r;
}

/* As the kernel says, or negative: what peer_pidfd() returns. */
static int pidfd_from_socket(int socket, const struct peer *p)
{
	socklen_t len = sizeof(int);
	int fd;

	if (getsockopt(socket, SOL_SOCKET, PEER_SO_PEERPIDFD, &fd, &len) == 0)
		return fd;
	switch (errno) {
	case ENOPROTOOPT:
		return pidfd_from_pid(p);
	case EMFILE:
	case ENFILE:
		return -EMFILE;
	default: /* ESRCH, ENODATA, EINVAL: there is none any more */
		return -ESRCH;
	}
}

int peer_get(int socket, struct peer *ret)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);

	if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0)
		return -errno;
	ret->pid = cred.pid;
	ret->uid = cred.uid;
	ret->groups[0] = cred.gid;
	ret->nr_groups = 1;
	len = (PEER_MAX_GROUPS - 1) * sizeof(gid_t);
	/* ERANGE, in more groups than we look at: its own gid must do. */
	if (getsockopt(socket, SOL_SOCKET, PEER_SO_PEERGROUPS, ret->groups + 1,
		       &len) == 0)
		ret->nr_groups += len / sizeof(gid_t);
	ret->pidfd = pidfd_from_socket(socket, ret);
	return 0;
}

/* Where the pid is not ours to see: the inode of the pidfd, if it is unique
 * (pidfs, Linux 6.9). */
static int foreign_start_time(int pidfd, uint64_t *ret)
{
	struct statfs fs;
	struct stat st;

	if (fstatfs(pidfd, &fs) < 0 || fs.f_type != PEER_PIDFS_MAGIC ||
	    fstat(pidfd, &st) < 0)
		return -EACCES;
	*ret = st.st_ino;
	return 0;
}

/* The inode of a pidfd is its process's, where it is on pidfs. */
static bool is_same_process(int a, int b)
{
	uint64_t x, y;
	pid_t p, q;

	if (foreign_start_time(a, &x) == 0 && foreign_start_time(b, &y) == 0)
		return x == y;
	return pidfd_pid(a, &p) == 0 && pidfd_pid(b, &q) == 0 && p == q;
}

/*
 * What a client says of itself counts where nothing else does. Return: a
 * descriptor, or what peer_pidfd() returns.
 */
static int choose(struct peer *p, int own)
{
	pid_t pid;
	int fd, r;

	r = own >= 0 ? pidfd_pid(own, &pid) : 0;
	if (r < 0)
		return r;
	if (own >= 0 && p->pidfd >= 0 && !is_same_process(p->pidfd, own))
		return -EBADF;
	if (p->pidfd != -EACCES || own < 0) {
		fd = p->pidfd;
		p->pidfd = -ESRCH;
		return fd;
	}
	if (pid != p->pid)
		return pid == -1 ? -ESRCH : -EBADF;
	fd = fcntl(own, F_DUPFD_CLOEXEC, 3);
	return fd < 0 ? -errno : fd;
}

int peer_pidfd(struct peer *p, int own, int *ret_pidfd, uint64_t *ret_start)
{
	int fd = choose(p, own), r;

	if (fd < 0)
		return fd;
	if (p->pid > 0)
		r = peer_start_time(p->pid, ret_start);
	else
		r = foreign_start_time(fd, ret_start);
	if (r == 0 && peer_exited(fd))
		r = -ESRCH;
	if (r < 0) {
		close(fd);
		return r;
	}
	*ret_pidfd = fd;
	return 0;
}

void peer_fini(struct peer *p)
{
	if (p->pidfd >= 0)
		close(p->pidfd);
	p->pidfd = -ESRCH;
}
