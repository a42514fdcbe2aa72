/* SPDX-License-Identifier: Apache-2.0 */
/*
 * plainkv.h - limits of the plain arrays that stand in for libkvd.
 */
#ifndef TESTS_WORKER_PLAINKV_H
#define TESTS_WORKER_PLAINKV_H

#define PLAINKV_TOKENS 1024 /* of a sequence */

#endif
