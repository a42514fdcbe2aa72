// SPDX-License-Identifier: Apache-2.0
/*
 * test_pressure.c - pressure of stalls that are known, against the formula,
 * and of random ones against a count of every millisecond.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>
#include "daemon/net/pressure.h"

#define S  1000000ull
#define MS 1000ull

static uint32_t now_has(const struct pressure *p, uint64_t now_us,
			enum pressure_window window)
{
	struct pressure now = pressure_at(p, now_us);

	return pressure_hundredths(&now, window);
}

static void assert_avgs(const struct pressure *p, uint64_t now_us,
			uint32_t avg10, uint32_t avg60, uint32_t avg300)
{
	assert_int_equal(now_has(p, now_us, PRESSURE_10S), avg10);
	assert_int_equal(now_has(p, now_us, PRESSURE_60S), avg60);
	assert_int_equal(now_has(p, now_us, PRESSURE_300S), avg300);
}

static uint64_t total(const struct pressure *p, uint64_t now_us)
{
	return pressure_at(p, now_us).total_us;
}

static void test_nothing(void **state)
{
	struct pressure p = { 0 };

	assert_avgs(&p, 1000 * S, 0, 0, 0);
	assert_int_equal(total(&p, 1000 * S), 0);
}

/* 100 (1 - exp(-t / W)) after t of nothing but waiting. */
static void test_all_of_it(void **state)
{
	struct pressure p = { 0 };

	pressure_begin(&p, 1000 * S);
	assert_avgs(&p, 1002 * S - 1, 0, 0, 0); /* not over yet */
	assert_int_equal(total(&p, 1002 * S - 1), 2 * S - 1);
	assert_avgs(&p, 1002 * S, 1813, 328, 66);
	assert_avgs(&p, 1010 * S, 6321, 1535, 328);
	assert_avgs(&p, 1060 * S, 9975, 6321, 1813);
	assert_avgs(&p, 1300 * S, 10000, 9933, 6321);
	assert_int_equal(total(&p, 1300 * S), 300 * S);
	/* And to nothing again. */
	pressure_end(&p, 1300 * S);
	assert_avgs(&p, 1310 * S, 3679, 8408, 6114);
	assert_avgs(&p, 1360 * S, 25, 3654, 5175);
	assert_int_equal(total(&p, 1360 * S), 300 * S);
}

/* Half a second of every two: a quarter. */
static void test_some_of_it(void **state)
{
	struct pressure p = { 0 };
	uint64_t t;

	for (t = 500 * S; t < 510 * S; t += 2 * S) {
		pressure_begin(&p, t + 700 * MS);
		pressure_end(&p, t + 1200 * MS);
	}
	assert_avgs(&p, t, 1580, 384, 82);
	for (; t < 2000 * S; t += 2 * S) {
		pressure_begin(&p, t + 700 * MS);
		pressure_end(&p, t + 1200 * MS);
	}
	assert_avgs(&p, t, 2500, 2500, 2483);
	assert_int_equal(total(&p, t), 375 * S);
}

/* However many wait, time passes once. */
static void test_together(void **state)
{
	struct pressure p = { 0 };

	pressure_begin(&p, 1000 * S);
	pressure_begin(&p, 1001 * S);
	pressure_begin(&p, 1001 * S);
	pressure_end(&p, 1002 * S);
	pressure_end(&p, 1003 * S);
	assert_int_equal(total(&p, 1005 * S), 5 * S);
	pressure_end(&p, 1006 * S);
	assert_int_equal(total(&p, 1010 * S), 6 * S);
	pressure_begin(&p, 1010 * S);
	pressure_end(&p, 1010 * S); /* none at all */
	assert_int_equal(total(&p, 1011 * S), 6 * S);
}

/* Over the edge of a period: each has its own. */
static void test_edges(void **state)
{
	struct pressure p = { 0 };

	pressure_begin(&p, 1001 * S);
	assert_avgs(&p, 1002 * S - 1, 0, 0, 0);
	pressure_end(&p, 1007 * S); /* 1 s, 2 s, 2 s, 1 s */
	assert_int_equal(now_has(&p, 1008 * S - 1, PRESSURE_10S), 3904);
	/* d = exp(-0.2): ((50 d + 100) d + 100) d + 50, times 1 - d */
	assert_avgs(&p, 1008 * S, 4103, 936, 197);
	assert_int_equal(total(&p, 1008 * S), 6 * S);
}

/* What has been asked in between makes no difference. */
static void test_reading(void **state)
{
	struct pressure p = { 0 }, before, now;
	uint64_t t;

	pressure_begin(&p, 1000 * S + 123);
	before = p;
	for (t = 1000 * S; t < 1030 * S; t += 77 * MS)
		now_has(&p, t, PRESSURE_10S);
	assert_memory_equal(&p, &before, sizeof(p));
	now = pressure_at(&p, 1030 * S);
	assert_int_equal(now.total_us, 30 * S - 123);
	/* An earlier time is none at all. */
	assert_int_equal(total(&now, 5), now.total_us);
	pressure_end(&now, 5);
	assert_int_equal(total(&now, 1031 * S), 30 * S - 123);
}

/* Ten million years of idling, or waiting, are one step. */
static void test_idle_for_long(void **state)
{
	const uint64_t ages = UINT64_MAX / 2;
	struct pressure p = { 0 };
	clock_t start = clock();

	pressure_begin(&p, 1000 * S);
	pressure_end(&p, 1100 * S);
	assert_avgs(&p, 1100 * S + 5 * 3600 * S, 0, 0, 0);
	assert_avgs(&p, 1100 * S + 600 * S, 0, 0, 384);
	assert_avgs(&p, ages, 0, 0, 0);
	assert_int_equal(total(&p, ages), 100 * S);
	pressure_begin(&p, ages);
	assert_avgs(&p, UINT64_MAX, 10000, 10000, 10000);
	assert_int_equal(total(&p, UINT64_MAX), 100 * S + UINT64_MAX - ages);
	assert_true(clock() - start < CLOCKS_PER_SEC);
}

/* ---- random ---- */

struct truth {
	double avg[NR_PRESSURE_WINDOWS];
	uint64_t total_ms;
	unsigned period_ms;
};

/* A millisecond, the one that ends at @end_ms. */
static void truth_step(struct truth *t, unsigned nr, uint64_t end_ms)
{
	static const double window_s[] = { 10, 60, 300 };
	int i;

	t->total_ms += nr > 0;
	t->period_ms += nr > 0;
	if (end_ms % 2000 != 0)
		return;
	for (i = 0; i < NR_PRESSURE_WINDOWS; i++) {
		double d = exp(-2 / window_s[i]);

		t->avg[i] = t->avg[i] * d + t->period_ms / 20.0 * (1 - d);
	}
	t->period_ms = 0;
}

static void compare(const struct pressure *p, const struct truth *t)
{
	int i;

	assert_int_equal(p->total_us, t->total_ms * 1000);
	for (i = 0; i < NR_PRESSURE_WINDOWS; i++) {
		assert_true(fabs(p->avg[i] - t->avg[i]) < 1e-9);
		assert_true(p->avg[i] >= 0 && p->avg[i] <= 100);
	}
}

static void test_random(void **state)
{
	uint64_t now_ms = 5000000, next;
	struct pressure p = { 0 };
	struct truth t = { 0 };
	unsigned nr = 0;
	int i;

	for (i = 0; i < 3000; i++) {
		/* Mostly shorter than a period, some of many. */
		next = now_ms + (uint64_t)(rand() % 8 ? rand() % 900 :
						  rand() % 30000);
		while (now_ms < next)
			truth_step(&t, nr, ++now_ms);
		if (nr > 0 && (nr == 3 || rand() % 2)) {
			pressure_end(&p, now_ms * 1000);
			nr--;
		} else {
			pressure_begin(&p, now_ms * 1000);
			nr++;
		}
		compare(&p, &t);
	}
	/* For long enough to be all there is. */
	pressure_begin(&p, now_ms * 1000);
	for (i = 0; i < 200; i++) {
		p = pressure_at(&p, (now_ms += 61234) * 1000);
		assert_true(p.avg[PRESSURE_10S] <= 100);
		assert_true(p.avg[PRESSURE_300S] <= 100);
	}
	assert_int_equal(pressure_hundredths(&p, PRESSURE_300S), 10000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nothing),
		cmocka_unit_test(test_all_of_it),
		cmocka_unit_test(test_some_of_it),
		cmocka_unit_test(test_together),
		cmocka_unit_test(test_edges),
		cmocka_unit_test(test_reading),
		cmocka_unit_test(test_idle_for_long),
		cmocka_unit_test(test_random),
	};
	unsigned seed = (unsigned)time(NULL);

	printf("seed %u\n", seed);
	srand(seed);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
