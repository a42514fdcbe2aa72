/* SPDX-License-Identifier: Apache-2.0 */
/*
 * peer.h - who is at the other end of a socket: credentials and a pidfd.
 *
 * Plain system calls. A process is known by pid and start time, which
 * together are never reused while a machine is up. One that lives in a PID
 * namespace we cannot see has pid 0; its pidfd's inode number then stands for
 * the start time.
 */
#ifndef DAEMON_NET_PEER_H
#define DAEMON_NET_PEER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define PEER_MAX_GROUPS 64

struct peer {
	pid_t pid;
	uid_t uid;
	gid_t groups[PEER_MAX_GROUPS]; /* its gid first */
	unsigned nr_groups;
	int pidfd;		/* or why there is none: as peer_pidfd() */
};

/* Who called connect(); then peer_fini(). Return: 0 or a negative errno. */
int peer_get(int socket, struct peer *ret);
void peer_fini(struct peer *p);

bool peer_in_group(const struct peer *p, gid_t gid);

/**
 * peer_pidfd() - a pidfd of the process that connected; once
 * @own:	a pidfd the client sent of itself, or -1; not taken
 * @ret_pidfd:	the caller closes it
 * @ret_start:	its start time
 *
 * Return: 0; -EBADF @own is no pidfd of that process; -ESRCH the process has
 * exited; -EACCES it cannot be identified: it has to send its own pidfd;
 * -EMFILE.
 */
int peer_pidfd(struct peer *p, int own, int *ret_pidfd, uint64_t *ret_start);

/* Start time of @pid (field 22 of /proc/PID/stat). -ESRCH when gone. */
int peer_start_time(pid_t pid, uint64_t *ret);

/* A pidfd of @pid if it is still the process that started at @start, or
 * -ESRCH, -EMFILE. */
int peer_open(pid_t pid, uint64_t start);

/* The pid of @pid in its own PID namespace; @pid where that cannot be told. */
pid_t peer_inner_pid(pid_t pid);

/* Has the process of a pidfd exited? */
bool peer_exited(int pidfd);

#endif
