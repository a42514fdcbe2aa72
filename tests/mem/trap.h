/* SPDX-License-Identifier: Apache-2.0 */
/*
 * trap.h - stops a program after each of its stores to the page table.
 *
 * A table that is watched is mapped read-only. A store to it faults, is let
 * through as a single step, and then stopped() is called: what the table holds
 * at that moment is what a successor finds when the daemon is killed there. An
 * instruction is the unit, however wide: a process is killed between two. What
 * x86-64 promises of memory is less: that aligned words of 8 bytes are stored
 * whole. Wider stores are counted, and can be torn between their words.
 *
 * Watching nests: stopped() may make a table that is watched too. x86-64 on
 * Linux only. Link with --wrap=memfd_map.
 */
#ifndef TESTS_MEM_TRAP_H
#define TESTS_MEM_TRAP_H

#include <stdbool.h>
#include <stdint.h>

#define TRAP_DEPTHS 2

/* From here on stores are stopped at. Return: whether this machine can. */
bool trap_init(void (*stopped)(unsigned depth));

/* Stops also with each part of a store that is wider than a word. */
void trap_tear(void);

/* Stores seen that changed more than a word. */
uint64_t trap_nr_wide(void);

/* The next table that is mapped is watched, at @depth 0 or 1. */
void trap_next(unsigned depth);

/* Not any more, nor the next one. */
void trap_forget(unsigned depth);

#endif
