/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fakecuda.h - the inside of a double of libcuda.so.1.
 *
 * The double stands in for a driver where there is none, behind the same ABI
 * (kernels/cuda/driver.h): device memory is memfds, streams are queues, graphs
 * are queues to copy from, and kernels are the real sources compiled for the
 * CPU (simt.h). It is stricter than a driver where that shows bugs:
 *
 *  - Work in a stream runs only when something waits for it, or polls (one
 *    piece a poll). Whoever reads a result without waiting finds nothing.
 *  - Memory comes full of SIMT_DIRT.
 *  - Page-locked memory is read when a copy runs, other host memory when it
 *    is recorded.
 *  - What a kernel loads and stores past its caches must be memory of the
 *    device, or page-locked.
 *  - Unmapping does not wait for work in streams.
 *  - A capture takes one stream, and no copies of host memory that is not
 *    page-locked.
 *  - Copies beside a kernel's threads arrive when waited for (copy.h).
 *  - A forked child of a process that called cuInit() has no CUDA.
 *
 * Environment, read once:
 *	FAKECUDA_DEVICES=n	devices there are (1)
 *	FAKECUDA_MEMORY=bytes	of each device, as this process sees it (4 GiB)
 *	FAKECUDA_VMM=0		devices without virtual memory management
 *	FAKECUDA_MPS=1		devices that say they are under MPS
 *	FAKECUDA_SM=80		devices of compute capability 8.0, not 9.0: no
 *				bulk copies, less shared memory (read at every
 *				launch)
 *	FAKECUDA_SEED=n		order in which the threads of a block run
 *	FAKECUDA_FAIL=call:n[+][:code],...	the n-th call of that name (and
 *				all after it, with +) returns code (2)
 *	FAKECUDA_CRASH=n[:code]	the n-th kernel that runs crashes; whatever
 *				needs its context returns code (719) from then
 *				on, in this process for good
 *	FAKECUDA_LOST=n[:code]	from the n-th call on all calls return code (46):
 *				the device is gone
 *
 * One lock holds everything: every exported call begins with fake_enter() and
 * ends with fake_leave(). A kernel runs under it too.
 */
#ifndef TESTS_FAKECUDA_FAKECUDA_H
#define TESTS_FAKECUDA_FAKECUDA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "kernels/cuda/driver.h"
#include "tests/fakecuda/simt.h"

#define FAKE_GRANULE (2ul << 20)
#define FAKE_MAX_DEVICES 8
#define FAKE_EXPORT __attribute__((visibility("default")))

/* The table of driver.h says what the double exports, and with what types. */
#define FAKE_PROTOTYPE(call, symbol, params) FAKE_EXPORT cu_result symbol params;
CUDA_DRIVER_CALLS(FAKE_PROTOTYPE)
#undef FAKE_PROTOTYPE

/* ---- context.c ---- */

struct CUctx_st {
	int device;
	unsigned retained;
	struct CUstream_st *legacy; /* what the NULL stream stands for */
	cu_result crashed;	    /* what its calls return since; CU_OK: no */
};

/* @call's turn: takes the lock, unless it returns an error. NULL: no fault. */
cu_result fake_enter(const char *call);
/* As fake_enter(), and some context must be current, and sane. */
cu_result fake_enter_context(const char *call, struct CUctx_st **ret);
cu_result fake_leave(cu_result err);

int fake_nr_devices(void);
uint64_t fake_env(const char *name, uint64_t otherwise);
/* FAKECUDA_SM=80 */
bool fake_sm80(void);
/* Bytes of shared memory that a block may ask for. */
int fake_max_shared(void);

/* Things alive in this process, for tests that end by counting. */
struct fake_live {
	unsigned allocations, pinned, mems, reservations, mappings, imports;
	unsigned streams, events, graphs, modules, contexts;
};
extern struct fake_live fake_live;

/**
 * fakecuda_live() - how many things are alive; what a test expects to be 0
 */
FAKE_EXPORT unsigned fakecuda_live(void);

/*
 * For doubles of other libraries on top of this one (cublas.c): work of theirs
 * in a stream, @run with a copy of @arg, and whether memory is the device's.
 */
FAKE_EXPORT cu_result fakecuda_host(cu_stream stream, void (*run)(void *arg),
				    const void *arg, size_t bytes);
FAKE_EXPORT bool fakecuda_on_device(const void *ptr, size_t bytes, bool write);

/* ---- fault.c ---- */

/* The error that FAKECUDA_FAIL has for this call of @call, or CU_OK. */
cu_result fault_next(const char *call);

/* For each kernel about to run: what it ends with, or CU_OK. */
cu_result fault_kernel(void);

/* For each call: what it returns when FAKECUDA_LOST says so, or CU_OK. */
cu_result fault_lost(void);

/* ---- memory.c ---- */

/* A range of device addresses with memory behind it. */
struct range {
	struct range *next;
	cu_ptr ptr;
	size_t bytes;
	enum range_kind {
		RANGE_ALLOCATION, /* cuMemAlloc */
		RANGE_IMPORT,	  /* cuIpcOpenMemHandle */
		RANGE_MAPPING	  /* cuMemMap */
	} kind;
	int fd;		  /* of an allocation; -1 else */
	int access;	  /* CU_ACCESS_*, 0: none */
	int device;
	unsigned refs;	  /* of an import */
	uint64_t identity; /* inode behind an import */
};

extern struct range *ranges;

struct range *range_add(cu_ptr ptr, size_t bytes, enum range_kind kind);
void range_del(struct range *r);
/* The range that holds all of [ptr, ptr + bytes), or NULL. */
struct range *range_find(cu_ptr ptr, size_t bytes);
bool memory_pinned(const void *ptr, size_t bytes);
/* Charges the device; false: it is full. */
bool memory_charge(int device, size_t bytes);
void memory_uncharge(int device, size_t bytes);
/* A memfd full of SIMT_DIRT, or -1. */
int memory_fd(const char *name, size_t bytes);

/* ---- graph.c ---- */

/* What @call returns because of captures that it would break (it does then). */
cu_result capture_check(const char *call);

/* ---- stream.c ---- */

struct CUstream_st *stream_new(struct CUctx_st *ctx, bool own_order);
void stream_free(struct CUstream_st *s);
/* Runs everything there is. */
void stream_drain_all(void);

/* Queues a kernel; owns @l and @params, what to free with it, on success. */
cu_result stream_launch(struct CUctx_st *ctx, cu_stream stream,
			struct launch *l, void *params);

#endif
