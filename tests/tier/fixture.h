/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fixture.h - pages with known bytes, put and got.
 */
#ifndef TESTS_TIER_FIXTURE_H
#define TESTS_TIER_FIXTURE_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "daemon/tier/tier.h"

#define PAGE_BYTES 5000u
#define COST	   (2u * TIER_ALIGN) /* what such a page takes */

#define ROOM(pages) (TIER_ALIGN + (uint64_t)(pages) * COST) /* a file with */
#define ORIGINS	   3u

/* Number @nr as a key; @nr % ORIGINS is its origin. */
struct tier_key key_of(uint64_t nr);

/* From this number on pages take one to four blocks, by their number. */
#define SIZED 1000000u

/* A page of PAGE_BYTES, or sized, that says that it is @nr. */
void put(struct tier *t, uint64_t nr);
void put_used(struct tier *t, uint64_t nr, const struct tier_use *use);

/* Is page @nr had, as it was put? Waits. False: it is a miss. */
bool got(struct tier *t, uint64_t nr);

/* All of @origin, @step at a time. Return: how many those were. */
uint64_t forget(struct tier *t, uint64_t origin, uint32_t step);

/* How many of [from, to) has() has. */
unsigned how_many(const struct tier *t, uint64_t from, uint64_t to);
struct tier_stat stat_of(const struct tier *t);

/* A directory of its own for each test. */
extern char dir[64], path[80];
int dir_setup(void **state);
int dir_teardown(void **state);

/* What a tier says, counted. */
struct said {
	int good, bad, owes;
	char what[256];
};
extern struct said said;

/* The tier of @path, opened and read; or about to be. */
struct tier *file_tier(uint64_t bytes);
struct tier *file_tier_begun(uint64_t bytes);
void tier_free(struct tier *t);

/* What fails from now on, as KVD_FAULT says it; NULL: nothing. */
void faults(const char *spec);

#endif
