// SPDX-License-Identifier: Apache-2.0
/*
 * event.c - events: recorded, waited for, asked about.
 *
 * An event counts how often it was recorded, and how many of these pieces of
 * work have run.
 */
#include <stdlib.h>
#include <time.h>
#include "tests/fakecuda/stream.h"

void event_run_until(struct CUevent_st *e, uint64_t version)
{
	while (e->done < version)
		stream_run_until(e->stream, e->stream->ops.first->number);
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

void event_done(struct CUevent_st *e, uint64_t version)
{
	e->done = version;
	e->done_ns = now_ns();
}

/* In a graph order is all there is: events of the same capture add nothing. */
static cu_result event_wait(struct CUstream_st *s, struct CUevent_st *event)
{
	if (s->capture && s->capture->broken)
		return CU_CAPTURE_INVALIDATED;
	if (s->capture && event->captured == s->capture->graph->number)
		return CU_OK;
	if (s->capture)
		return capture_break(s, CU_CAPTURE_ISOLATION);
	if (event->captured)
		return CU_NOT_SUPPORTED;
	return stream_add(s, &(struct op){ .kind = OP_WAIT,
					   .event = event,
					   .version = event->recorded });
}

cu_result cuStreamWaitEvent(cu_stream stream, cu_event event, unsigned flags)
{
	struct CUctx_st *ctx;
	cu_result err = fake_enter_context("cuStreamWaitEvent", &ctx);
	struct CUstream_st *s;

	if (err)
		return err;
	err = stream_use(ctx, stream, &s);
	if (!err && flags)
		err = CU_INVALID_VALUE;
	return fake_leave(err ? err : event_wait(s, event));
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
	(*event)->timed = !flags;
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

static cu_result event_record(struct CUstream_st *s, struct CUevent_st *event)
{
	cu_result err;

	if (s->capture && s->capture->broken)
		return CU_CAPTURE_INVALIDATED;
	if (s->capture) {
		event->captured = s->capture->graph->number;
		return CU_OK;
	}
	err = stream_add(s, &(struct op){ .kind = OP_RECORD,
					  .event = event,
					  .version = event->recorded + 1 });
	if (err)
		return err;
	event->captured = 0;
	event->stream = s;
	event->recorded++;
	return CU_OK;
}

cu_result cuEventRecord(cu_event event, cu_stream stream)
{
	struct CUctx_st *ctx;
	cu_result err = fake_enter_context("cuEventRecord", &ctx);
	struct CUstream_st *s;

	if (err)
		return err;
	err = stream_use(ctx, stream, &s);
	return fake_leave(err ? err : event_record(s, event));
}

/* Time passes while somebody looks: one piece of work a look. */
cu_result cuEventQuery(cu_event event)
{
	struct CUctx_st *ctx;
	cu_result err = fake_enter_context("cuEventQuery", &ctx);

	if (err)
		return err;
	if (event->captured)
		return fake_leave(CU_CAPTURED_EVENT);
	if (event->done < event->recorded)
		stream_run_one(event->stream);
	if (ctx->crashed)
		return fake_leave(ctx->crashed);
	return fake_leave(event->done < event->recorded ? CU_NOT_READY : CU_OK);
}

cu_result cuEventSynchronize(cu_event event)
{
	struct CUctx_st *ctx;
	cu_result err = fake_enter_context(NULL, &ctx);

	if (err)
		return err;
	err = event->captured ? CU_CAPTURED_EVENT :
				capture_check("cuEventSynchronize");
	if (err)
		return fake_leave(err);
	event_run_until(event, event->recorded);
	return fake_leave(ctx->crashed ? ctx->crashed :
					 fault_next("cuEventSynchronize"));
}

cu_result cuEventElapsedTime(float *ms, cu_event start, cu_event end)
{
	struct CUctx_st *ctx;
	cu_result err = fake_enter_context("cuEventElapsedTime", &ctx);

	if (err)
		return err;
	if (start->captured || end->captured)
		return fake_leave(CU_CAPTURED_EVENT);
	if (!start->timed || !end->timed || !start->recorded || !end->recorded)
		return fake_leave(CU_INVALID_HANDLE);
	if (start->done < start->recorded || end->done < end->recorded)
		return fake_leave(CU_NOT_READY);
	*ms = (float)((double)end->done_ns - (double)start->done_ns) * 1e-6f;
	return fake_leave(CU_OK);
}
