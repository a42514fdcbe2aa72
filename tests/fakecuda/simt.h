/* SPDX-License-Identifier: Apache-2.0 */
/*
 * simt.h - what a CUDA thread sees of itself and of its neighbours.
 *
 * Every thread of a block is a fiber; one runs at a time, until it waits for
 * others. So a kernel that forgets a barrier reads what is not there yet. A
 * barrier that some threads never reach ends the program with their names.
 * Blocks run one after the other.
 */
#ifndef TESTS_FAKECUDA_SIMT_H
#define TESTS_FAKECUDA_SIMT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SIMT_WARP 32u
#define SIMT_MAX_THREADS 1024u	/* of a block */
#define SIMT_DIRT 0xa5		/* what memory nobody has written holds */

/* A kernel compiled into the double; a CUfunction points to a copy. */
struct CUfunc_st {
	const char *name;
	unsigned nr_params;
	const size_t *param_bytes;
	/* Calls the kernel as one thread; @params are pointers to each. */
	void (*entry)(void **params);
	unsigned max_shared;	/* bytes a launch may ask for */
};

/* kernels.cpp's list; NULL: no such kernel. */
const struct CUfunc_st *kernel_find(const char *name);

struct launch {
	const struct CUfunc_st *function;
	unsigned grid[3];
	unsigned block[3];
	unsigned shared_bytes;
	unsigned seed;		/* 0: threads in order */
	void **params;
	/* Is it a kernel's to read, or to write? NULL: all is. */
	bool (*may_touch)(const void *p, size_t bytes, bool write);
};

/* Runs every thread of every block to its end. */
void simt_launch(const struct launch *l);

/* ---- for kernels ---- */

struct simt_dim {
	unsigned x, y, z;
};

struct simt_thread {
	struct simt_dim thread;
	unsigned lane;
	unsigned warp;
};

struct simt_block {
	struct simt_dim block;
	struct simt_dim block_dim;
	struct simt_dim grid_dim;
	void *shared;		/* of dynamic size */
};

extern struct simt_thread *simt_thread; /* that runs now */
extern struct simt_block simt_block;

/* __syncthreads(), __syncwarp(). */
void simt_sync_block(void);
void simt_sync_warp(void);

/* All lanes give @value; lane @from's comes back. */
uint64_t simt_exchange(uint64_t value, unsigned from);

/* One bit a lane. */
unsigned simt_ballot(bool bit);

#define SIMT_WIDE_BYTES 3072u

/*
 * Where the lanes of a warp show each other more than a word: each writes its
 * part, simt_sync_warp(), each reads any part. Gone with the barrier after.
 */
void *simt_wide(void);

/* ---- for what else threads wait for (copy.cpp) ---- */

struct simt_wait {
	bool (*ready)(const void *what);
	/* What @what lacks, in a few words: nobody is left who could add it. */
	const char *(*lacks)(const void *what);
	const void *what;
};

/* Others run until it is ready; as a divergent barrier if it never is. */
void simt_wait_until(const struct simt_wait *w);

/* Faults where @p is not the kernel's, or no multiple of @bytes. */
void simt_touch(const void *p, size_t bytes, bool write);

/* The kernel did what a GPU would fault at, or worse: says so, and aborts. */
#ifdef __cplusplus
[[noreturn]]
#endif
void simt_die(const char *format, ...) __attribute__((format(printf, 1, 2)));

#ifdef __cplusplus
}
#endif
#endif
