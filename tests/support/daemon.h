/* SPDX-License-Identifier: Apache-2.0 */
/*
 * daemon.h - a private kvd for one test: own socket, own state, a deadline.
 *
 *	struct daemon d;
 *
 *	daemon_start(&d, NULL);			// --device host, 64 MiB
 *	... use d.socket ...
 *	daemon_assert_idle(&d);			// everything came back
 *	daemon_stop(&d);			// clean exit, sanitizers too
 *
 * It dies with the test. What goes wrong aborts with a message.
 */
#ifndef TESTS_SUPPORT_DAEMON_H
#define TESTS_SUPPORT_DAEMON_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define DAEMON_DEADLINE_MS 20000
#define DAEMON_MAX_ARGS 48

struct daemon {
	pid_t pid;
	char dir[64];		/* of its own, removed by daemon_stop() */
	char socket[96];
	char state_dir[96];
	char log[96];		/* its stderr; shown when something is wrong */
};

/**
 * daemon_start() - start kvd and wait until it answers a hello
 * @args:	more arguments, up to NULL; later ones win. NULL: none
 *
 * Without other arguments: no configuration file, --device host --pool 64M
 * --segment 8M. The environment is the test's own.
 */
void daemon_start(struct daemon *d, const char *const *args);

/* SIGTERM; it has to exit with 0 in time, and leave no socket behind. */
void daemon_stop(struct daemon *d);

/* SIGKILL, reaped; its directory stays for the next daemon_start_in(). */
void daemon_kill(struct daemon *d);

/* Starts again in the same directory after daemon_kill(). */
void daemon_start_in(struct daemon *d, const char *const *args);

/* Removes the directory. daemon_stop() does that too. */
void daemon_remove(struct daemon *d);

/* What the pool holds: kvd.proto's PoolStat, in short. */
struct daemon_stat {
	uint64_t total, free, open, sealed, cached, demoted, quarantined,
		revoked;
	uint64_t hits, misses, published, evicted, made_smaller;
	uint64_t room, mark_high, background, direct;
	uint32_t nr_clients;	/* those who ask now not counted */
};

/* Asks over a connection of its own; the structure is verified too. */
void daemon_stat(const char *socket, struct daemon_stat *ret);

/* Waits until nothing is held and nobody is connected; aborts if that does
 * not come. Cached pages are no leak. */
void daemon_assert_idle(const struct daemon *d);
void daemon_assert_idle_at(const char *socket);

/* ---- for manager.c, and tests that start kvd their own way ---- */

/* The kvd of this build. */
const char *daemon_path(void);

/* The program @name of $KVD_TEST_BIN, where a build was carried to another
 * place; else @built. Static storage. */
const char *daemon_program(const char *name, const char *built);

/*
 * This process becomes kvd with @argv. What KVD_TEST_WRAPPER has, a command and
 * its arguments with a space between them, is put before it: valgrind, strace.
 */
void daemon_exec(const char *const *argv);

/* Makes the directory and the names in it. */
void daemon_prepare(struct daemon *d);

/* Command line of daemon_start(); @argv has room for DAEMON_MAX_ARGS. */
void daemon_args(const struct daemon *d, const char *const *args,
		 const char **argv);

/* Waits until a hello is answered. */
void daemon_wait_ready(struct daemon *d);

/* Waits for its end; aborts at the deadline. Return: status of waitpid(). */
int daemon_wait_exit(struct daemon *d);

/* Runs kvd with exactly @argv to its end. Return: its exit status; what it
 * wrote to stdout and stderr is in @out. */
int daemon_run(const char *const *argv, char *out, size_t out_bytes);

#endif
