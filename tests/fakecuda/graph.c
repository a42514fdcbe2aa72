// SPDX-License-Identifier: Apache-2.0
/*
 * graph.c - streams whose work is recorded for later, and graphs of it.
 *
 * A captured stream's pieces go to a graph, with arguments as they are then; a
 * launch of the graph records all of them, in their order, in a stream. One
 * stream a capture: one that waits for an event of a captured stream does not
 * join the capture here, but is refused.
 *
 * What may not be done meanwhile breaks the capture, as CUDA has it: nothing
 * more can be recorded, and its end gives no graph.
 */
#include <stdlib.h>
#include <string.h>
#include "tests/fakecuda/stream.h"

void graph_get(struct CUgraph_st *g)
{
	g->refs++;
}

void graph_put(struct CUgraph_st *g)
{
	if (--g->refs)
		return;
	while (g->ops.first) {
		struct op *op = g->ops.first;

		g->ops.first = op->next;
		op_free(op);
	}
	free(g);
}

static struct CUgraph_st *graph_new(void)
{
	static uint64_t number;
	struct CUgraph_st *g = calloc(1, sizeof(*g));

	if (!g)
		return NULL;
	g->number = ++number;
	g->refs = 1;
	ops_init(&g->ops);
	return g;
}

cu_result capture_break(struct CUstream_st *s, cu_result err)
{
	s->capture->broken = true;
	return err;
}

cu_result capture_check(const char *call)
{
	static const char *const unsafe[] = {
		"cuMemAlloc",	 "cuMemFree",	       "cuMemHostAlloc",
		"cuMemFreeHost", "cuModuleLoadData",   "cuModuleUnload",
		"cuEventQuery",	 "cuEventSynchronize",
	};
	cu_result err = CU_OK;
	size_t i = 0;

	while (i < sizeof(unsafe) / sizeof(unsafe[0]) &&
	       strcmp(unsafe[i], call) != 0)
		i++;
	if (i == sizeof(unsafe) / sizeof(unsafe[0]))
		return CU_OK;
	for (struct CUstream_st *s = streams; s; s = s->next) {
		const struct capture *c = s->capture;

		if (c && (c->mode == CU_CAPTURE_GLOBAL ||
			  (c->mode == CU_CAPTURE_THREAD_LOCAL &&
			   pthread_equal(c->thread, pthread_self()))))
			err = capture_break(s, CU_CAPTURE_UNSUPPORTED);
	}
	return err;
}

cu_result stream_add(struct CUstream_st *s, const struct op *what)
{
	if (!s->capture)
		return ops_add(&s->ops, what);
	if (s->capture->broken)
		return CU_CAPTURE_INVALIDATED;
	return ops_add(&s->capture->graph->ops, what);
}

static cu_result capture_new(struct CUstream_st *s, int mode)
{
	struct capture *c = calloc(1, sizeof(*c));

	if (!c)
		return CU_OUT_OF_MEMORY;
	c->mode = mode;
	c->thread = pthread_self();
	c->graph = graph_new();
	if (!c->graph) {
		free(c);
		return CU_OUT_OF_MEMORY;
	}
	s->capture = c;
	return CU_OK;
}

cu_result cuStreamBeginCapture_v2(cu_stream stream, int mode)
{
	struct CUctx_st *ctx;
	cu_result err = fake_enter_context("cuStreamBeginCapture", &ctx);
	struct CUstream_st *s;

	if (err)
		return err;
	if (!stream)
		return fake_leave(CU_CAPTURE_UNSUPPORTED);
	err = stream_use(ctx, stream, &s);
	if (err)
		return fake_leave(err);
	if (mode < CU_CAPTURE_GLOBAL || mode > CU_CAPTURE_RELAXED)
		return fake_leave(CU_INVALID_VALUE);
	if (s->capture)
		return fake_leave(CU_ILLEGAL_STATE);
	return fake_leave(capture_new(s, mode));
}

cu_result cuStreamEndCapture(cu_stream stream, cu_graph *graph)
{
	struct CUctx_st *ctx;
	cu_result err = fake_enter_context("cuStreamEndCapture", &ctx);
	struct CUstream_st *s;
	struct capture *c;

	if (err)
		return err;
	*graph = NULL;
	err = stream_use(ctx, stream, &s);
	if (err)
		return fake_leave(err);
	c = s->capture;
	if (!c)
		return fake_leave(CU_ILLEGAL_STATE);
	if (c->mode != CU_CAPTURE_RELAXED &&
	    !pthread_equal(c->thread, pthread_self()))
		return fake_leave(
			capture_break(s, CU_CAPTURE_WRONG_THREAD));
	s->capture = NULL;
	if (c->broken) {
		graph_put(c->graph);
		err = CU_CAPTURE_INVALIDATED;
	} else {
		*graph = c->graph;
		fake_live.graphs++;
	}
	free(c);
	return fake_leave(err);
}

cu_result cuStreamIsCapturing(cu_stream stream, int *status)
{
	struct CUctx_st *ctx;
	cu_result err = fake_enter_context("cuStreamIsCapturing", &ctx);
	struct CUstream_st *s;

	if (err)
		return err;
	err = stream_use(ctx, stream, &s);
	if (err)
		return fake_leave(err);
	*status = !s->capture	     ? CU_CAPTURE_NONE :
		  s->capture->broken ? CU_CAPTURE_BROKEN :
				       CU_CAPTURE_ACTIVE;
	return fake_leave(CU_OK);
}

cu_result cuGraphInstantiateWithFlags(cu_graph_exec *exec, cu_graph graph,
				      unsigned long long flags)
{
	struct CUctx_st *ctx;
	cu_result err = fake_enter_context("cuGraphInstantiateWithFlags", &ctx);

	if (err)
		return err;
	if (!graph || flags)
		return fake_leave(CU_INVALID_VALUE);
	*exec = malloc(sizeof(**exec));
	if (!*exec)
		return fake_leave(CU_OUT_OF_MEMORY);
	(*exec)->graph = graph;
	graph_get(graph);
	fake_live.graphs++;
	return fake_leave(CU_OK);
}

/* Records all pieces of the graph; they share what it owns. */
static cu_result graph_add(struct CUgraph_st *g, struct CUstream_st *s)
{
	for (const struct op *op = g->ops.first; op; op = op->next) {
		struct op shared = *op;
		cu_result err;

		shared.kept = NULL;
		shared.graph = g;
		err = stream_add(s, &shared);
		if (err)
			return err;
		graph_get(g);
	}
	return CU_OK;
}

cu_result cuGraphLaunch(cu_graph_exec exec, cu_stream stream)
{
	struct CUctx_st *ctx;
	cu_result err = fake_enter_context("cuGraphLaunch", &ctx);
	struct CUstream_st *s;

	if (err)
		return err;
	if (!exec)
		return fake_leave(CU_INVALID_VALUE);
	err = stream_use(ctx, stream, &s);
	return fake_leave(err ? err : graph_add(exec->graph, s));
}

cu_result cuGraphExecDestroy(cu_graph_exec exec)
{
	cu_result err = fake_enter("cuGraphExecDestroy");

	if (err)
		return err;
	if (!exec)
		return fake_leave(CU_INVALID_VALUE);
	graph_put(exec->graph);
	free(exec);
	fake_live.graphs--;
	return fake_leave(CU_OK);
}

cu_result cuGraphDestroy(cu_graph graph)
{
	cu_result err = fake_enter("cuGraphDestroy");

	if (err)
		return err;
	if (!graph)
		return fake_leave(CU_INVALID_VALUE);
	graph_put(graph);
	fake_live.graphs--;
	return fake_leave(CU_OK);
}
