/* SPDX-License-Identifier: Apache-2.0 */
/*
 * report.h - what a benchmark found: one JSON object, or lines of text.
 */
#ifndef TOOLS_KVBENCH_REPORT_H
#define TOOLS_KVBENCH_REPORT_H

#include <jansson.h>
#include <stdbool.h>

/**
 * report_print() - print @figures and let go of it
 * @figures:	an object of plain values; NULL is reported as no memory
 * @json:	as one line of JSON, else a line for each value
 *
 * Return: exit status, 0 or BENCH_FAILED.
 */
int report_print(json_t *figures, bool json);

/* report_print() of what is in either, as JSON; lets go of both. */
int report_print_both(json_t *figures, json_t *more);

#endif
