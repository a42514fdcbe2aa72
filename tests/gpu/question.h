/* SPDX-License-Identifier: Apache-2.0 */
/*
 * question.h - what programs that ask a GPU something share.
 *
 * Each prints one line, a JSON object with "question", "answer" and figures,
 * and exits with 0 whatever the answer is, 77 where there is no driver. The
 * program itself never starts CUDA: its children do (tests/cuda/child.h).
 */
#ifndef TESTS_GPU_QUESTION_H
#define TESTS_GPU_QUESTION_H

#include <stdbool.h>
#include <stdint.h>
#include "tests/cuda/child.h"

#define QUESTION_PATTERN 0x5a

/* 0, or 77 after a line on why there is no driver. */
int question_begin(void);

/* KVD_TEST_QUICK is set: fewer rounds. */
bool question_quick(void);

uint64_t question_now_ns(void);

/* "CUDA_SUCCESS" */
const char *question_error(const struct cuda_driver *cu, cu_result err);

/* Physical memory of device 0 that can be exported. */
cu_mem question_create(const struct cuda_driver *cu, size_t bytes);

/* @mem at an address of its own, with CU_ACCESS_*. */
cu_ptr question_map(const struct cuda_driver *cu, cu_mem mem, size_t bytes,
		    int access);

/* Creates, maps, fills with QUESTION_PATTERN. Return: a descriptor of it. */
int question_export(const struct cuda_driver *cu, size_t bytes, cu_ptr *ret);

/* How many of the bytes at @p are not @byte. */
uint64_t question_wrong(const struct cuda_driver *cu, cu_ptr p, size_t bytes,
			int byte);

/* What a process that imports a descriptor finds in it. */
struct question_found {
	char import[64];	/* error's name; wrong counts when there is none */
	uint64_t wrong;		/* bytes that are not QUESTION_PATTERN */
};

/* Asks a new process; @bytes have to be as they were exported. */
struct question_found question_find(int fd, size_t bytes);

#endif
