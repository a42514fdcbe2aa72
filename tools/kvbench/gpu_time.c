/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gpu_time.c - see gpu_time.h.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tools/kvbench/gpu_time.h"
#include "tools/kvbench/stats.h"

#define SAMPLE_US   5000.0
#define MAX_REPLAYS 1000u
#define WARM_US     200e3 /* until clocks are up */
#define COPY_BYTES  ((uint64_t)1 << 30)
#define COPY_PART   8u
#define COPY_UNIT   ((uint64_t)64 << 10)

/* Microseconds of each of @replays. */
static int sample(struct gpu_graph *gr, struct gpu *g, unsigned replays,
                  double *us)
{
	float ms = 0;
	unsigned i;
	int err = GPU_CALL(g, cuEventRecord, g->start, g->stream);

	for (i = 0; i < replays && !err; i++)
		err = GPU_CALL(g, cuGraphLaunch, gr->exec, g->stream);
	if (!err)
		err = GPU_CALL(g, cuEventRecord, g->end, g->stream);
	if (!err)
		err = GPU_CALL(g, cuEventSynchronize, g->end);
	if (!err)
		err = GPU_CALL(g, cuEventElapsedTime, &ms, g->start, g->end);
	*us = (double)ms * 1e3 / replays;
	return err;
}

static int capture(struct gpu_graph *gr, struct gpu *g, int (*issue)(void *ctx),
                   void *ctx)
{
	cu_graph graph = NULL;
	char why[96];
	int err = GPU_CALL(g, cuStreamBeginCapture, g->stream,
	                   CU_CAPTURE_THREAD_LOCAL);

	if (err)
		return err;
	err = issue(ctx);
	if (err) {
		snprintf(why, sizeof(why), "launch: %s", strerror(-err));
		gpu_complain(g, err, why);
		g->cu->cuStreamEndCapture(g->stream, &graph);
	} else {
		err = GPU_CALL(g, cuStreamEndCapture, g->stream, &graph);
	}
	if (!err)
		err = GPU_CALL(g, cuGraphInstantiateWithFlags, &gr->exec, graph,
		               0);
	if (graph)
		g->cu->cuGraphDestroy(graph);
	return err;
}

int gpu_graph_init(struct gpu_graph *gr, struct gpu *g, int (*issue)(void *ctx),
                   void *ctx)
{
	double us = 0;
	int err;

	*gr = (struct gpu_graph){ .replays = 1 };
	err = capture(gr, g, issue, ctx);
	if (!err)
		err = sample(gr, g, 1, &us);
	if (!err)
		err = sample(gr, g, 1, &us);
	if (!err && us < SAMPLE_US)
		gr->replays = us * MAX_REPLAYS > SAMPLE_US
		                      ? (unsigned)(SAMPLE_US / us) + 1
		                      : MAX_REPLAYS;
	return err;
}

void gpu_graph_fini(struct gpu_graph *gr, struct gpu *g)
{
	if (gr->exec)
		g->cu->cuGraphExecDestroy(gr->exec);
	gr->exec = NULL;
}

static int copy_issue(void *ctx)
{
	const struct gpu_copy *c = ctx;
	const struct cuda_driver *cu = c->g->cu;
	cu_stream s = c->g->stream;

	switch (c->way) {
	case GPU_COPY_TO_HOST:
		return cu_errno(cu->cuMemcpyDtoHAsync((void *)(uintptr_t)c->to,
		                                      c->from, c->bytes, s));
	case GPU_COPY_FROM_HOST:
		return cu_errno(cu->cuMemcpyHtoDAsync(
			c->to, (void *)(uintptr_t)c->from, c->bytes, s));
	default:
		return cu_errno(
			cu->cuMemcpyDtoDAsync(c->to, c->from, c->bytes, s));
	}
}

static int copy_warm(struct gpu_copy *c)
{
	double us, sum = 0;
	int err = 0;

	while (!err && !c->g->is_double && sum < WARM_US) {
		err = sample(&c->graph, c->g, c->graph.replays, &us);
		sum += us * c->graph.replays;
	}
	return err;
}

int gpu_copy_init(struct gpu_copy *c, struct gpu *g)
{
	int err;

	*c = (struct gpu_copy){ .g = g };
	c->bytes = g->bytes / COPY_PART / COPY_UNIT * COPY_UNIT;
	if (c->bytes > COPY_BYTES)
		c->bytes = COPY_BYTES;
	c->from = gpu_take(g, c->bytes);
	c->to = gpu_take(g, c->bytes);
	err = gpu_fill(g, c->from, c->bytes);
	if (!err)
		err = gpu_graph_init(&c->graph, g, copy_issue, c);
	return err ? err : copy_warm(c);
}

int gpu_copy_host_init(struct gpu_copy *c, const struct gpu_copy *device,
                       enum gpu_copy_way way, cu_ptr host, uint64_t bytes)
{
	*c = *device;
	c->graph = (struct gpu_graph){ .exec = NULL };
	c->way = way;
	if (bytes < c->bytes)
		c->bytes = bytes;
	*(way == GPU_COPY_TO_HOST ? &c->to : &c->from) = host;
	return gpu_graph_init(&c->graph, c->g, copy_issue, c);
}

void gpu_copy_fini(struct gpu_copy *c)
{
	if (c->g)
		gpu_graph_fini(&c->graph, c->g);
}

/* Both for @rounds. */
static int samples(struct gpu_graph *gr, struct gpu_copy *c, unsigned rounds,
                   double *us, double *gbps)
{
	double copy_us;
	unsigned i;
	int err = 0;

	for (i = 0; i < rounds && !err; i++) {
		err = sample(gr, c->g, gr->replays, &us[i]);
		if (err)
			return err;
		err = sample(&c->graph, c->g, c->graph.replays, &copy_us);
		gbps[i] = (c->way == GPU_COPY_DEVICE ? 2 : 1) *
		          (double)c->bytes / copy_us / 1e3;
	}
	return err;
}

int gpu_time(struct gpu_graph *gr, struct gpu_copy *c, unsigned rounds,
             struct gpu_timing *ret)
{
	double *us = calloc(2 * (size_t)rounds, sizeof(*us));
	int err = us ? samples(gr, c, rounds, us, us + rounds)
	             : gpu_complain(c->g, -ENOMEM, strerror(ENOMEM));

	if (!err) {
		ret->us = stats_median(us, rounds);
		ret->us_min = us[0];
		ret->copy_gbps = stats_median(us + rounds, rounds);
	}
	free(us);
	return err;
}
