/* SPDX-License-Identifier: Apache-2.0 */
/*
 * runworker.h - run kvworker as a user does, look at what it printed.
 */
#ifndef TESTS_WORKER_RUNWORKER_H
#define TESTS_WORKER_RUNWORKER_H

#include <jansson.h>
#include <stddef.h>
#include <sys/types.h>

#define RUN_MAX_ARGS 32
#define RUN_MAX_ERR 4096

/* A kvworker that runs, or ran. */
struct run {
	pid_t pid;
	int in;			/* write end of its stdin; -1: closed */
	int out;		/* read end of its stdout */
	int err;		/* read end of its stderr */
	int status;		/* exit status; 128 + signal if killed */
	json_t *json;		/* what it printed, or NULL */
	char said[RUN_MAX_ERR];	/* its stderr */
};

/**
 * run_start() - start kvworker with these arguments and --json
 * @args:	NULL-terminated, without the program's name
 */
void run_start(struct run *r, const char *const *args);

/* Waits for the one line of JSON that --hold prints while it still runs. */
void run_read_json(struct run *r);

/**
 * run_end() - close its stdin, read what it says, wait for it
 *
 * Fills status, said, and json if there is any.
 */
void run_end(struct run *r);

/* run_start() and run_end(). */
void run(struct run *r, const char *const *args);

/* Frees the JSON. */
void run_free(struct run *r);

/* A number of the JSON object; ends the program when it is not there. */
double run_number(const struct run *r, const char *field);

/* The model's directory, of $KVD_TEST_MODEL where sources were carried to
 * another place, and @file in it ("/config.json"). Static, for a few. */
const char *run_model(const char *file);

/* Reads a whole file; ends the program when it cannot. */
void *run_file(const char *path, size_t *ret_bytes);

/* How many bytes texts @a and @b begin with alike, @n at most. */
size_t run_alike(const char *a, const char *b, size_t n);

/* Ends the program with a message; tests have no other way to fail. */
__attribute__((noreturn, format(printf, 1, 2))) void run_fail(const char *fmt,
							      ...);

#endif
