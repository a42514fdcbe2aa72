/* SPDX-License-Identifier: Apache-2.0 */
/*
 * nomem.h - a daemon that runs out of memory at one allocation of ours.
 *
 * nomem_init() makes a page that this process and every kvd it starts share,
 * and has the latter load nomem.so before anything else. Its allocations are
 * counted there, and the one whose turn it is finds no memory.
 */
#ifndef TESTS_SUPPORT_NOMEM_H
#define TESTS_SUPPORT_NOMEM_H

#include <stdatomic.h>

#define NOMEM_FD_ENV "KVD_TEST_NOMEM" /* number of the page's descriptor */

struct nomem {
	_Atomic unsigned long count;	/* since the process began */
	_Atomic unsigned long fail_at;	/* 0: none */
	_Atomic unsigned long failed;	/* that have */
};

#endif
