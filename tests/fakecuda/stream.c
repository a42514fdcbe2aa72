// SPDX-License-Identifier: Apache-2.0
/*
 * stream.c - streams, events, and the work recorded in them.
 *
 * A stream is a queue that stands still until somebody waits for it (then all
 * of it runs) or asks about an event in it (then one piece runs). Every piece
 * has a number, in the order of recording, from which the rule of the legacy
 * stream follows: a piece of it runs after all earlier pieces of the context's
 * other streams, and theirs after its earlier ones, but for streams that asked
 * for an order of their own.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tests/fakecuda/fakecuda.h"

enum op_kind { OP_COPY, OP_SET, OP_LAUNCH, OP_RECORD, OP_WAIT };

struct op {
	struct op *next;
	uint64_t number;
	enum op_kind kind;
	void *dst;		/* copy, set */
	const void *src;	/* copy */
	void *kept;		/* freed with the op */
	size_t bytes;
	int value;		/* set */
	struct launch *launch;
	struct CUevent_st *event; /* record, wait */
	uint64_t version;	/* of the event */
};

struct CUstream_st {
	struct CUstream_st *next;
	struct CUctx_st *ctx;
	struct op *first;
	struct op **last;
	bool own_order;
};

struct CUevent_st {
	struct CUstream_st *stream; /* that recorded it last, while not done */
	uint64_t recorded;
	uint64_t done;
};

static struct CUstream_st *streams;
static uint64_t op_numbers;

struct CUstream_st *stream_new(struct CUctx_st *ctx, bool own_order)
{
	struct CUstream_st *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->ctx = ctx;
	s->last = &s->first;
	s->own_order = own_order;
	s->next = streams;
	streams = s;
	return s;
}

static void stream_run_until(struct CUstream_st *s, uint64_t number);

static void event_run_until(struct CUevent_st *e, uint64_t version)
{
	while (e->done < version)
		stream_run_until(e->stream, e->stream->first->number);
}

static void op_run(struct op *op)
{
	switch (op->kind) {
	case OP_COPY:
		memmove(op->dst, op->src, op->bytes);
		break;
	case OP_SET:
		memset(op->dst, op->value, op->bytes);
		break;
	case OP_LAUNCH:
		simt_launch(op->launch);
		free(op->launch);
		break;
	case OP_RECORD:
		op->event->done = op->version;
		break;
	case OP_WAIT:
		event_run_until(op->event, op->version);
		break;
	}
}

/* Runs what must come before piece @number of @s in other streams. */
static void stream_order(struct CUstream_st *s, uint64_t number)
{
	struct CUstream_st *legacy = s->ctx->legacy;

	if (s->own_order)
		return;
	if (s != legacy) {
		stream_run_until(legacy, number);
		return;
	}
	for (struct CUstream_st *o = streams; o; o = o->next)
		if (o != s && o->ctx == s->ctx && !o->own_order)
			stream_run_until(o, number);
}

static void stream_run_one(struct CUstream_st *s)
{
	struct op *op = s->first;

	stream_order(s, op->number);
	if (s->first != op) /* it ran in the meantime, for another stream */
		return;
	s->first = op->next;
	if (!s->first)
		s->last = &s->first;
	op_run(op);
	free(op->kept);
	free(op);
}

/* Runs the pieces of @s up to @number. */
static void stream_run_until(struct CUstream_st *s, uint64_t number)
{
	while (s->first && s->first->number <= number)
		stream_run_one(s);
}

void stream_drain_all(void)
{
	for (struct CUstream_st *s = streams; s; s = s->next)
		stream_run_until(s, UINT64_MAX);
}

void stream_free(struct CUstream_st *s)
{
	struct CUstream_st **p = &streams;

	stream_run_until(s, UINT64_MAX);
	while (*p != s)
		p = &(*p)->next;
	*p = s->next;
	free(s);
}

/* What a caller's handle means; NULL is the legacy stream. */
static struct CUstream_st *stream_get(struct CUctx_st *ctx, cu_stream handle)
{
	if (!handle)
		return ctx->legacy;
	for (struct CUstream_st *s = streams; s; s = s->next)
		if (s == handle)
			return s;
	return NULL;
}

static cu_result op_add(struct CUstream_st *s, const struct op *what)
{
	struct op *op = malloc(sizeof(*op));

	if (!op)
		return CU_OUT_OF_MEMORY;
	*op = *what;
	op->next = NULL;
	op->number = ++op_numbers;
	*s->last = op;
	s->last = &op->next;
	return CU_OK;
}

cu_result cuStreamCreateWithPriority(cu_stream *stream, unsigned flags,
				     int priority)
{
	struct CUctx_st *ctx;
	cu_result err = fake_enter_context("cuStreamCreateWithPriority", &ctx);

	if (err)
		return err;
	if (flags & ~(unsigned)CU_STREAM_OWN_ORDER)
		return fake_leave(CU_INVALID_VALUE);
	*stream = stream_new(ctx, flags & CU_STREAM_OWN_ORDER);
	if (!*stream)
		return fake_leave(CU_OUT_OF_MEMORY);
	fake_live.streams++;
	return fake_leave(CU_OK);
}

cu_result cuStreamDestroy_v2(cu_stream stream)
{
	struct CUctx_st *ctx;
	cu_result err = fake_enter_context("cuStreamDestroy", &ctx);
	struct CUstream_st *s;

	if (err)
		return err;
	s = stream ? stream_get(ctx, stream) : NULL;
	if (!s)
		return fake_leave(CU_INVALID_HANDLE);
	stream_free(s);
	fake_live.streams--;
	return fake_leave(CU_OK);
}

/* An error on demand is one of the work: it has run, or tried to. */
cu_result cuStreamSynchronize(cu_stream stream)
{
	struct CUctx_st *ctx;
	cu_result err = fake_enter_context(NULL, &ctx);
	struct CUstream_st *s;

	if (err)
		return err;
	s = stream_get(ctx, stream);
	if (!s)
		return fake_leave(CU_INVALID_HANDLE);
	stream_run_until(s, UINT64_MAX);
	if (s == ctx->legacy)
		stream_order(s, UINT64_MAX);
	return fake_leave(fault_next("cuStreamSynchronize"));
}

cu_result cuStreamWaitEvent(cu_stream stream, cu_event event, unsigned flags)
{
	struct CUctx_st *ctx;
	cu_result err = fake_enter_context("cuStreamWaitEvent", &ctx);
	struct CUstream_st *s;

	if (err)
		return err;
	s = stream_get(ctx, stream);
	if (!s || flags)
		return fake_leave(CU_INVALID_VALUE);
	return fake_leave(op_add(s, &(struct op){
					    .kind = OP_WAIT,
					    .event = event,
					    .version = event->recorded }));
}

cu_result cuStreamIsCapturing(cu_stream stream, int *status)
{
	struct CUctx_st *ctx;
	cu_result err = fake_enter_context("cuStreamIsCapturing", &ctx);

	if (err)
		return err;
	*status = CU_CAPTURE_NONE;
	return fake_leave(stream_get(ctx, stream) ? CU_OK : CU_INVALID_HANDLE);
}

cu_result cuEventCreate(cu_event *event, unsigned flags)
{
	struct CUctx_st *ctx;
	cu_result err = fake_enter_context("cuEventCreate", &ctx);

	if (err)
		return err;
	if (flags & ~(unsigned)CU_EVENT_NO_TIMING)
		return fake_leave(CU_INVALID_VALUE);
	*event = calloc(1, sizeof(**event));
	if (!*event)
		return fake_leave(CU_OUT_OF_MEMORY);
	fake_live.events++;
	return fake_leave(CU_OK);
}

/* Nothing refers to the event afterwards: what is recorded of it runs. */
cu_result cuEventDestroy_v2(cu_event event)
{
	struct CUctx_st *ctx;
	cu_result err = fake_enter_context("cuEventDestroy", &ctx);

	if (err)
		return err;
	stream_drain_all();
	free(event);
	fake_live.events--;
	return fake_leave(CU_OK);
}

cu_result cuEventRecord(cu_event event, cu_stream stream)
{
	struct CUctx_st *ctx;
	cu_result err = fake_enter_context("cuEventRecord", &ctx);
	struct CUstream_st *s;

	if (err)
		return err;
	s = stream_get(ctx, stream);
	if (!s)
		return fake_leave(CU_INVALID_HANDLE);
	event->stream = s;
	event->recorded++;
	return fake_leave(op_add(s, &(struct op){
					    .kind = OP_RECORD,
					    .event = event,
					    .version = event->recorded }));
}

/* Time passes while somebody looks: one piece of work a look. */
cu_result cuEventQuery(cu_event event)
{
	struct CUctx_st *ctx;
	cu_result err = fake_enter_context("cuEventQuery", &ctx);

	if (err)
		return err;
	if (event->done < event->recorded)
		stream_run_one(event->stream);
	return fake_leave(event->done < event->recorded ? CU_NOT_READY : CU_OK);
}

cu_result cuEventSynchronize(cu_event event)
{
	struct CUctx_st *ctx;
	cu_result err = fake_enter_context(NULL, &ctx);

	if (err)
		return err;
	event_run_until(event, event->recorded);
	return fake_leave(fault_next("cuEventSynchronize"));
}

static bool on_device(cu_ptr ptr, size_t bytes, int access)
{
	const struct range *r = range_find(ptr, bytes);

	return r && (r->access & access) == access;
}

cu_result cuMemcpyHtoDAsync_v2(cu_ptr dst, const void *src, size_t bytes,
			       cu_stream stream)
{
	struct CUctx_st *ctx;
	cu_result err = fake_enter_context("cuMemcpyHtoDAsync", &ctx);
	struct CUstream_st *s;
	struct op op = { .kind = OP_COPY, .src = src, .bytes = bytes };

	if (err)
		return err;
	s = stream_get(ctx, stream);
	if (!s || !on_device(dst, bytes, CU_ACCESS_READWRITE))
		return fake_leave(CU_INVALID_VALUE);
	op.dst = (void *)(uintptr_t)dst;
	if (!memory_pinned(src, bytes)) {
		op.kept = malloc(bytes ? bytes : 1);
		if (!op.kept)
			return fake_leave(CU_OUT_OF_MEMORY);
		op.src = memcpy(op.kept, src, bytes);
	}
	return fake_leave(op_add(s, &op));
}

/* To memory that is not page-locked the driver's copy blocks: so does this. */
cu_result cuMemcpyDtoHAsync_v2(void *dst, cu_ptr src, size_t bytes,
			       cu_stream stream)
{
	struct CUctx_st *ctx;
	cu_result err = fake_enter_context("cuMemcpyDtoHAsync", &ctx);
	struct CUstream_st *s;

	if (err)
		return err;
	s = stream_get(ctx, stream);
	if (!s || !on_device(src, bytes, CU_ACCESS_READ))
		return fake_leave(CU_INVALID_VALUE);
	err = op_add(s, &(struct op){ .kind = OP_COPY,
				      .dst = dst,
				      .src = (void *)(uintptr_t)src,
				      .bytes = bytes });
	if (!err && !memory_pinned(dst, bytes))
		stream_run_until(s, UINT64_MAX);
	return fake_leave(err);
}

cu_result cuMemcpyDtoDAsync_v2(cu_ptr dst, cu_ptr src, size_t bytes,
			       cu_stream stream)
{
	struct CUctx_st *ctx;
	cu_result err = fake_enter_context("cuMemcpyDtoDAsync", &ctx);
	struct CUstream_st *s;

	if (err)
		return err;
	s = stream_get(ctx, stream);
	if (!s || !on_device(src, bytes, CU_ACCESS_READ) ||
	    !on_device(dst, bytes, CU_ACCESS_READWRITE))
		return fake_leave(CU_INVALID_VALUE);
	return fake_leave(op_add(s, &(struct op){
					    .kind = OP_COPY,
					    .dst = (void *)(uintptr_t)dst,
					    .src = (void *)(uintptr_t)src,
					    .bytes = bytes }));
}

cu_result cuMemsetD8Async(cu_ptr dst, unsigned char value, size_t bytes,
			  cu_stream stream)
{
	struct CUctx_st *ctx;
	cu_result err = fake_enter_context("cuMemsetD8Async", &ctx);
	struct CUstream_st *s;

	if (err)
		return err;
	s = stream_get(ctx, stream);
	if (!s || !on_device(dst, bytes, CU_ACCESS_READWRITE))
		return fake_leave(CU_INVALID_VALUE);
	return fake_leave(op_add(s, &(struct op){
					    .kind = OP_SET,
					    .dst = (void *)(uintptr_t)dst,
					    .value = value,
					    .bytes = bytes }));
}

cu_result stream_launch(struct CUctx_st *ctx, cu_stream stream,
			struct launch *l, void *params)
{
	struct CUstream_st *s = stream_get(ctx, stream);

	if (!s)
		return CU_INVALID_HANDLE;
	return op_add(s, &(struct op){ .kind = OP_LAUNCH,
				       .launch = l,
				       .kept = params });
}
