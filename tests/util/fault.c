/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fault.c - KVD_FAULT: which times, what happens, what is not accepted.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "daemon/util/clock.h"
#include "daemon/util/fault.h"

static char why[256];

static void set(const char *spec)
{
	assert_int_equal(fault_init(spec, why, sizeof(why)), 0);
}

static void test_off(void **state)
{
	set(NULL);
	assert_false(fault_on);
	set("");
	assert_false(fault_on);
	assert_int_equal(fault_at(FAULT_SEND), 0);
}

/* Counts go on over fault_init(): each test has a place of its own. */
static void test_when(void **state)
{
	set("accept@2:EMFILE,accept@4-5:ENFILE,accept@7-");
	assert_int_equal(fault_at(FAULT_ACCEPT), 0);
	assert_int_equal(fault_at(FAULT_ACCEPT), -EMFILE);
	assert_int_equal(fault_at(FAULT_SEND), 0);
	assert_int_equal(fault_at(FAULT_ACCEPT), 0);
	assert_int_equal(fault_at(FAULT_ACCEPT), -ENFILE);
	assert_int_equal(fault_at(FAULT_ACCEPT), -ENFILE);
	assert_int_equal(fault_at(FAULT_ACCEPT), 0);
	assert_int_equal(fault_at(FAULT_ACCEPT), -EIO);
	assert_int_equal(fault_at(FAULT_ACCEPT), -EIO);
}

static void test_percent(void **state)
{
	int i, nr = 0;

	set("seed=7,request@25%:EIO");
	for (i = 0; i < 4000; i++)
		nr += fault_at(FAULT_REQUEST) == -EIO;
	assert_in_range(nr, 800, 1200);
}

static void test_sleep(void **state)
{
	uint64_t t = clock_ns();

	set("memfd:30ms");
	assert_int_equal(fault_at(FAULT_MEMFD), 0);
	assert_true(clock_ns() - t >= 30000000);
}

static void test_kill(void **state)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		set("export:kill");
		fault_at(FAULT_EXPORT);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void test_refused(void **state)
{
	static const char *const bad[] = {
		"nothing", "send@", "send@0", "send@5-4", "send@0%",
		"send@101%", "send@1x", "send:EWHAT", "send:5", "send:0s",
		"send:", "seed=", "seed=1x", "send,,send",
	};
	size_t i;

	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(fault_init(bad[i], why, sizeof(why)),
				 -EINVAL);
		assert_non_null(strstr(why, "KVD_FAULT="));
		assert_false(fault_on);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_off),
		cmocka_unit_test(test_when),
		cmocka_unit_test(test_percent),
		cmocka_unit_test(test_sleep),
		cmocka_unit_test(test_kill),
		cmocka_unit_test(test_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
