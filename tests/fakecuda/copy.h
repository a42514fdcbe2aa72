/* SPDX-License-Identifier: Apache-2.0 */
/*
 * copy.h - copies from global to shared memory that run beside the threads.
 *
 * As late as they may be: when a copy is issued its destination fills with
 * SIMT_DIRT, and the source is read when a wait covers the copy, not before.
 * What a GPU would fault at, hang at or leave to chance ends the program with
 * a message: addresses or sizes that are no multiple of 16, an mbarrier that
 * is none (any more) or can never complete, more bytes than it expects, a
 * destination written to while a copy is on its way, a block that ends before
 * its bulk copies have.
 */
#ifndef TESTS_FAKECUDA_COPY_H
#define TESTS_FAKECUDA_COPY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What runs, as FAKECUDA_SM has it: 80, or 90 (for everything else). */
unsigned simt_sm(void);

/* ---- for simt.cpp: around a block's run ---- */

void copy_begin(void *shared, size_t bytes);
void copy_end(void);

/* ---- for kernels: mma.cuh says what each does ---- */

void simt_copy16(void *shared, const void *global);
void simt_copy16_commit(void);
/* Waits for all but the last @left groups of this thread. */
void simt_copy16_wait(unsigned left);

void simt_mbar_init(uint64_t *bar, unsigned arrivals);
void simt_mbar_fence_init(void);
void simt_mbar_expect(uint64_t *bar, uint32_t bytes);
void simt_mbar_wait(uint64_t *bar, unsigned parity);
void simt_bulk_copy(void *shared, const void *global, uint32_t bytes,
		    uint64_t *bar);

#endif
