/* SPDX-License-Identifier: Apache-2.0 */
/*
 * manager.h - a service manager in a test: what systemd does for kvd.
 *
 * Opens the socket, passes it with LISTEN_FDS, keeps the descriptors that
 * come with FDSTORE=1 by name, and hands them to the next kvd it starts. So a
 * test can kill the daemon at any point and see what survives:
 *
 *	struct manager m;
 *
 *	manager_start(&m, NULL);
 *	... use m.daemon.socket ...
 *	manager_kill(&m);
 *	manager_again(&m, NULL);		// the same socket and pages
 *	manager_stop(&m);
 */
#ifndef TESTS_SUPPORT_MANAGER_H
#define TESTS_SUPPORT_MANAGER_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include "tests/support/daemon.h"

#define MANAGER_MAX_FDS 256
#define MANAGER_NAME_BYTES 256

struct manager_fd {
	char name[MANAGER_NAME_BYTES];
	int fd;
};

struct manager {
	struct daemon daemon;
	char notify_path[96];
	int notify_fd;
	int listen_fd;
	pthread_t thread;	/* reads what the daemon tells */
	pthread_mutex_t lock;	/* of all below */
	bool end;
	bool ready;
	bool stopping;
	bool reloading;
	uint64_t reload_us;	/* MONOTONIC_USEC of that */
	unsigned nr_watchdog;	/* WATCHDOG=1 seen */
	char status[256];
	struct manager_fd fds[MANAGER_MAX_FDS];
	unsigned nr_fds;
};

/* Starts kvd with @args as daemon_start() does, and waits for READY=1. */
void manager_start(struct manager *m, const char *const *args);

/* SIGKILL; what was kept stays, the socket too. */
void manager_kill(struct manager *m);

/* SIGTERM and a clean end; what was kept stays: half of a restart. */
void manager_term(struct manager *m);

/* SIGHUP, and the answer that it was heard and done. */
void manager_reload(struct manager *m);

/* The next kvd, with socket and kept descriptors. */
void manager_again(struct manager *m, const char *const *args);

/* The same of one that may end before it is ready. Return: 0 when it is, or
 * the status of waitpid(), which is not 0; what was kept stays. */
int manager_try(struct manager *m, const char *const *args);

/* SIGTERM, a clean end, and everything is dropped. */
void manager_stop(struct manager *m);

/* How many are kept, or have @name if it is not NULL. */
unsigned manager_nr_fds(struct manager *m, const char *name);

#endif
