/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fake_mps.h - a script in the place of nvidia-cuda-mps-control.
 *
 * It answers from a directory: `servers`, and of each `clients.PID`, or
 * `clients.PID.N` in the Nth question; `self` adds kvd itself, as MPS would. It
 * notes each command in `asked`, and does what `how` has first. PATH finds it,
 * and the double of libcuda is under MPS (FAKECUDA_MPS).
 */
#ifndef TESTS_NET_FAKE_MPS_H
#define TESTS_NET_FAKE_MPS_H

#include <sys/types.h>

#define MPS_CONTROL "nvidia-cuda-mps-control"

/* Of a group of tests; KVD_TEST_MPS is the directory. */
int mps_setup(void **state);
int mps_teardown(void **state);

/* Of each: as MPS is when nobody but kvd uses it, of one server, 77. */
int mps_fresh(void **state);

/* The path of a file of the directory. Static storage. */
const char *mps_file(const char *name);

/* Writes a file, all at once: it may be read at any time. */
void mps_put(const char *name, const char *text);
void mps_put_clients(const char *name, pid_t a, pid_t b);

/* The script itself; mps_fresh() does it. */
void mps_install(void);

/* How often the list of servers was asked for, since mps_fresh(). */
unsigned mps_nr_asked(void);

/* Until that has been done @nr times more. */
void mps_wait_asked(unsigned nr);

#endif
