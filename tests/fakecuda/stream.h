/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stream.h - pieces of work, and who holds them: streams, captures, graphs.
 *
 * A piece with a graph belongs to it: its launch and its arguments are the
 * graph's, which lives until the last such piece has run.
 */
#ifndef TESTS_FAKECUDA_STREAM_H
#define TESTS_FAKECUDA_STREAM_H

#include <pthread.h>
#include "tests/fakecuda/fakecuda.h"

enum op_kind { OP_COPY, OP_SET, OP_LAUNCH, OP_HOST, OP_RECORD, OP_WAIT };

struct op {
	struct op *next;
	uint64_t number;
	enum op_kind kind;
	void *dst;		/* copy, set */
	const void *src;	/* copy */
	void *kept;		/* freed with the op */
	size_t bytes;
	int value;		/* set */
	struct launch *launch;	/* freed with the op */
	void (*host)(void *arg); /* OP_HOST: with kept */
	struct CUgraph_st *graph;
	struct CUevent_st *event; /* record, wait */
	uint64_t version;	/* of the event */
};

/* In order of recording. */
struct ops {
	struct op *first;
	struct op **last;
};

struct CUgraph_st {
	uint64_t number;	/* 1, 2... */
	unsigned refs;
	struct ops ops;
};

struct CUgraphExec_st {
	struct CUgraph_st *graph;
};

struct capture {
	int mode;		/* CU_CAPTURE_GLOBAL... */
	pthread_t thread;	/* that began it */
	bool broken;
	struct CUgraph_st *graph;
};

struct CUstream_st {
	struct CUstream_st *next;
	struct CUctx_st *ctx;
	struct ops ops;
	bool own_order;
	struct capture *capture; /* NULL: none */
};

struct CUevent_st {
	struct CUstream_st *stream; /* that recorded it last, while not done */
	uint64_t recorded;
	uint64_t done;
	uint64_t done_ns;	/* when, CLOCK_MONOTONIC */
	bool timed;
	uint64_t captured;	/* graph it was recorded in last; 0: none */
};

extern struct CUstream_st *streams;

void ops_init(struct ops *ops);
/* Takes @what; its number is the next there is. */
cu_result ops_add(struct ops *ops, const struct op *what);
/* Frees what the op owns, and the op. */
void op_free(struct op *op);

/*
 * What a caller's handle means, for recording work in it; NULL is the legacy
 * stream, which cannot be used while one that it waits for is captured.
 */
cu_result stream_use(struct CUctx_st *ctx, cu_stream handle,
		     struct CUstream_st **ret);

/* Runs the next piece; the pieces up to @number. */
void stream_run_one(struct CUstream_st *s);
void stream_run_until(struct CUstream_st *s, uint64_t number);

/* ---- event.c ---- */

void event_run_until(struct CUevent_st *e, uint64_t version);
void event_done(struct CUevent_st *e, uint64_t version);

/* ---- graph.c ---- */

/* Records in the stream, or in what captures it. */
cu_result stream_add(struct CUstream_st *s, const struct op *what);

/* Ends all hope for the capture of @s; @err, for the caller to return. */
cu_result capture_break(struct CUstream_st *s, cu_result err);

void graph_get(struct CUgraph_st *g);
void graph_put(struct CUgraph_st *g);

#endif
