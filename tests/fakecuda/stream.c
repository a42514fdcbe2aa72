// SPDX-License-Identifier: Apache-2.0
/*
 * stream.c - streams, and the work recorded in them.
 *
 * A stream is a queue that stands still until somebody waits for it (then all
 * of it runs) or asks about an event in it (then one piece runs). Every piece
 * has a number, in the order of recording, from which the rule of the legacy
 * stream follows: a piece of it runs after all earlier pieces of the context's
 * other streams, and theirs after its earlier ones, but for streams that asked
 * for an order of their own.
 */
#include <stdlib.h>
#include <string.h>
#include "tests/fakecuda/stream.h"

struct CUstream_st *streams;
static uint64_t op_numbers;

void ops_init(struct ops *ops)
{
	ops->first = NULL;
	ops->last = &ops->first;
}

cu_result ops_add(struct ops *ops, const struct op *what)
{
	struct op *op = malloc(sizeof(*op));

	if (!op)
		return CU_OUT_OF_MEMORY;
	*op = *what;
	op->next = NULL;
	op->number = ++op_numbers;
	*ops->last = op;
	ops->last = &op->next;
	return CU_OK;
}

void op_free(struct op *op)
{
	if (op->graph) {
		graph_put(op->graph);
	} else {
		free(op->launch);
		free(op->kept);
	}
	free(op);
}

struct CUstream_st *stream_new(struct CUctx_st *ctx, bool own_order)
{
	struct CUstream_st *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->ctx = ctx;
	ops_init(&s->ops);
	s->own_order = own_order;
	s->next = streams;
	streams = s;
	return s;
}

static bool on_device(cu_ptr ptr, size_t bytes, int access)
{
	const struct range *r = range_find(ptr, bytes);

	return r && (r->access & access) == access;
}

static bool kernel_may(const void *p, size_t bytes, bool write)
{
	return on_device((cu_ptr)(uintptr_t)p, bytes,
			 write ? CU_ACCESS_READWRITE : CU_ACCESS_READ) ||
	       memory_pinned(p, bytes);
}

/* After a crash of its context work is dropped, and nobody waits for it. */
static void op_run(struct CUctx_st *ctx, struct op *op)
{
	if (!ctx->crashed && op->kind == OP_LAUNCH)
		ctx->crashed = fault_kernel();
	if (ctx->crashed && op->kind != OP_RECORD)
		return;
	switch (op->kind) {
	case OP_COPY:
		memmove(op->dst, op->src, op->bytes);
		break;
	case OP_SET:
		memset(op->dst, op->value, op->bytes);
		break;
	case OP_LAUNCH:
		op->launch->may_touch = kernel_may;
		simt_launch(op->launch);
		break;
	case OP_HOST:
		op->host(op->kept);
		break;
	case OP_RECORD:
		event_done(op->event, op->version);
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

void stream_run_one(struct CUstream_st *s)
{
	struct op *op = s->ops.first;

	stream_order(s, op->number);
	if (s->ops.first != op) /* it ran meanwhile, for another stream */
		return;
	s->ops.first = op->next;
	if (!s->ops.first)
		ops_init(&s->ops);
	op_run(s->ctx, op);
	op_free(op);
}

void stream_run_until(struct CUstream_st *s, uint64_t number)
{
	while (s->ops.first && s->ops.first->number <= number)
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

static struct CUstream_st *stream_find(cu_stream handle)
{
	struct CUstream_st *s = streams;

	while (s && s != handle)
		s = s->next;
	return s;
}

cu_result stream_use(struct CUctx_st *ctx, cu_stream handle,
		     struct CUstream_st **ret)
{
	cu_result err = CU_OK;

	*ret = handle ? stream_find(handle) : ctx->legacy;
	if (!*ret)
		return CU_INVALID_HANDLE;
	if (*ret != ctx->legacy)
		return CU_OK;
	for (struct CUstream_st *s = streams; s; s = s->next)
		if (s->capture && s->ctx == ctx && !s->own_order)
			err = capture_break(s, CU_CAPTURE_IMPLICIT);
	return err;
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
	s = stream ? stream_find(stream) : NULL;
	if (!s)
		return fake_leave(CU_INVALID_HANDLE);
	if (s->capture)
		return fake_leave(capture_break(s, CU_CAPTURE_UNSUPPORTED));
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
	err = stream_use(ctx, stream, &s);
	if (err)
		return fake_leave(err);
	if (s->capture)
		return fake_leave(capture_break(s, CU_CAPTURE_UNSUPPORTED));
	stream_run_until(s, UINT64_MAX);
	if (s == ctx->legacy)
		stream_order(s, UINT64_MAX);
	return fake_leave(ctx->crashed ? ctx->crashed :
					 fault_next("cuStreamSynchronize"));
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
	err = stream_use(ctx, stream, &s);
	if (err)
		return fake_leave(err);
	if (!on_device(dst, bytes, CU_ACCESS_READWRITE))
		return fake_leave(CU_INVALID_VALUE);
	op.dst = (void *)(uintptr_t)dst;
	if (!memory_pinned(src, bytes)) {
		if (s->capture)
			return fake_leave(
				capture_break(s, CU_CAPTURE_UNSUPPORTED));
		op.kept = malloc(bytes ? bytes : 1);
		if (!op.kept)
			return fake_leave(CU_OUT_OF_MEMORY);
		op.src = memcpy(op.kept, src, bytes);
	}
	err = stream_add(s, &op);
	if (err)
		free(op.kept);
	return fake_leave(err);
}

/* To memory that is not page-locked the driver's copy blocks: so does this. */
cu_result cuMemcpyDtoHAsync_v2(void *dst, cu_ptr src, size_t bytes,
			       cu_stream stream)
{
	struct CUctx_st *ctx;
	cu_result err = fake_enter_context("cuMemcpyDtoHAsync", &ctx);
	struct CUstream_st *s;
	bool blocks;

	if (err)
		return err;
	err = stream_use(ctx, stream, &s);
	if (err)
		return fake_leave(err);
	if (!on_device(src, bytes, CU_ACCESS_READ))
		return fake_leave(CU_INVALID_VALUE);
	blocks = !memory_pinned(dst, bytes);
	if (blocks && s->capture)
		return fake_leave(capture_break(s, CU_CAPTURE_UNSUPPORTED));
	err = stream_add(s, &(struct op){ .kind = OP_COPY,
					  .dst = dst,
					  .src = (void *)(uintptr_t)src,
					  .bytes = bytes });
	if (err || !blocks)
		return fake_leave(err);
	stream_run_until(s, UINT64_MAX);
	return fake_leave(ctx->crashed);
}

cu_result cuMemcpyDtoDAsync_v2(cu_ptr dst, cu_ptr src, size_t bytes,
			       cu_stream stream)
{
	struct CUctx_st *ctx;
	cu_result err = fake_enter_context("cuMemcpyDtoDAsync", &ctx);
	struct CUstream_st *s;

	if (err)
		return err;
	err = stream_use(ctx, stream, &s);
	if (err)
		return fake_leave(err);
	if (!on_device(src, bytes, CU_ACCESS_READ) ||
	    !on_device(dst, bytes, CU_ACCESS_READWRITE))
		return fake_leave(CU_INVALID_VALUE);
	return fake_leave(stream_add(
		s, &(struct op){ .kind = OP_COPY,
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
	err = stream_use(ctx, stream, &s);
	if (err)
		return fake_leave(err);
	if (!on_device(dst, bytes, CU_ACCESS_READWRITE))
		return fake_leave(CU_INVALID_VALUE);
	return fake_leave(stream_add(
		s, &(struct op){ .kind = OP_SET,
				 .dst = (void *)(uintptr_t)dst,
				 .value = value,
				 .bytes = bytes }));
}

cu_result stream_launch(struct CUctx_st *ctx, cu_stream stream,
			struct launch *l, void *params)
{
	struct CUstream_st *s;
	cu_result err = stream_use(ctx, stream, &s);

	if (err)
		return err;
	return stream_add(s, &(struct op){ .kind = OP_LAUNCH,
					   .launch = l,
					   .kept = params });
}

cu_result fakecuda_host(cu_stream stream, void (*run)(void *arg),
			const void *arg, size_t bytes)
{
	struct CUctx_st *ctx;
	cu_result err = fake_enter_context("fakecuda_host", &ctx);
	struct op op = { .kind = OP_HOST, .host = run };
	struct CUstream_st *s;

	if (err)
		return err;
	err = stream_use(ctx, stream, &s);
	if (!err)
		op.kept = malloc(bytes);
	if (err || !op.kept)
		return fake_leave(err ? err : CU_OUT_OF_MEMORY);
	memcpy(op.kept, arg, bytes);
	err = stream_add(s, &op);
	if (err)
		free(op.kept);
	return fake_leave(err);
}

bool fakecuda_on_device(const void *ptr, size_t bytes, bool write)
{
	bool is;

	if (fake_enter(NULL))
		return false;
	is = on_device((cu_ptr)(uintptr_t)ptr, bytes,
		       write ? CU_ACCESS_READWRITE : CU_ACCESS_READ);
	fake_leave(CU_OK);
	return is;
}
