/* SPDX-License-Identifier: Apache-2.0 */
/*
 * child.h - processes that share device memory, for tests.
 *
 * CUDA does not survive a fork, so the test program itself never starts it:
 * every process that uses it is a child.
 */
#ifndef TESTS_CUDA_CHILD_H
#define TESTS_CUDA_CHILD_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include "kernels/cuda/driver.h"

/* Ends the process with a line, from a child as from the test. */
#define REQUIRE(x)                                                             \
	do {                                                                   \
		if (!(x))                                                      \
			child_fail(__FILE__, __LINE__, #x);                    \
	} while (0)

void child_fail(const char *file, int line, const char *what)
	__attribute__((noreturn));

/* The driver, cuInit() done and device 0's primary context current. */
const struct cuda_driver *child_cuda(void);

/* Is the driver tests/fakecuda? What it is strict about, a GPU may allow, or
 * answer with other errors. */
bool child_double(void);

/* How many things the double has alive in the process; a GPU's driver does
 * not say, so 0. */
unsigned child_live(void);

/* Ends the process unless the double has @nr things alive in it; a GPU's
 * driver does not say. */
void child_live_is(unsigned nr);

/* A child that runs @fn(@socket) and exits with 0 after it. */
pid_t child_start(void (*fn)(int socket), int *ret_socket);

/* Its exit status, as waitpid() gives it. */
int child_wait(pid_t pid);

/* Bytes and a descriptor (-1: none) across a socket; receive's may be NULL. */
void child_send(int socket, const void *buf, size_t bytes, int fd);
void child_receive(int socket, void *buf, size_t bytes, int *ret_fd);

#endif
