/* SPDX-License-Identifier: Apache-2.0 */
/*
 * trace_report.h - what replays of a trace have shown.
 */
#ifndef TOOLS_KVBENCH_TRACE_REPORT_H
#define TOOLS_KVBENCH_TRACE_REPORT_H

#include <jansson.h>
#include "tools/kvbench/trace_run.h"

/* All figures of one replay; NULL is no memory. */
json_t *trace_figures(const struct trace_options *o,
                      const struct trace_pool *pool,
                      const struct trace_result *r);

/**
 * trace_report() - print them and let go of them
 * @runs:	array of trace_figures(); NULL is no memory
 * @json:	one object: of the only run, or {"bench", "runs"}
 *
 * Several runs become a table as text; either way with the ratio of each hit
 * rate to that of policy lru, where there is one of that pool and so many
 * clients. Return: exit status.
 */
int trace_report(json_t *runs, bool json);

#endif
