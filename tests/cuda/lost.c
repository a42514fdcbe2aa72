// SPDX-License-Identifier: Apache-2.0
/*
 * lost.c - the client's side of a CUDA pool when the device is gone, from
 * whichever call on: an error each time, and no hang.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>
#include "tests/cuda/child.h"
#include "tests/cuda/pool.h"

/* Three calls start CUDA; two hundred are more than there are. */
#define LOST_FIRST 4
#define LOST_NEVER 200

static int lost_at;
static bool gone;

/* Once the device is gone, it stays gone; and nothing else goes wrong. */
static void step(int r)
{
	REQUIRE(r == (gone ? -EIO : 0) || r == -EIO);
	gone = r != 0;
}

static void lost(int socket)
{
	const struct device_place to = { 1, 0 }, from = { 0, 0 };
	struct device_segment segments[POOL_SEGMENTS];
	struct device_event *e = NULL;
	struct device *d;
	char at[16];
	int r;

	alarm(60);
	snprintf(at, sizeof(at), "%d", lost_at);
	setenv("FAKECUDA_LOST", at, 1);
	child_cuda();
	pool_receive(segments);
	r = device_open(pool_spec, true, &d);
	if (r) {
		REQUIRE(r == -EIO || r == -ENODEV);
		return;
	}
	step(pool_map(d, segments));
	for (int i = 0; !gone && i < 3; i++)
		step(d->ops->copy(d, to, from, 64, NULL));
	if (!gone)
		step(d->ops->event_record(d, NULL, &e));
	if (e)
		step(d->ops->event_wait(d, e));
	if (e && gone)
		REQUIRE(d->ops->event_done(d, e) == -EIO);
	r = d->ops->sync(d);
	REQUIRE(r == 0 || r == -EIO);
	d->ops->event_free(d, e);
	d->ops->close(d);
	if (lost_at != LOST_NEVER)
		return;
	REQUIRE(!gone && !r);
	child_live_is(1);
}

static void test_lost(void **state)
{
	for (lost_at = LOST_FIRST; lost_at <= LOST_NEVER; lost_at++)
		pool_both(lost);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lost),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
