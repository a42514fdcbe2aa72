/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_lost.c - a GPU's error that stays: kvd ends and says why, and its
 * successor has every published page. On the double of libcuda.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "tests/support/daemon.h"
#include "tests/support/manager.h"
#include "tests/support/raw.h"

#define NR 320 /* pages: of more segments than are made at first */

static const char *const args[] = { "--device", "cuda-vmm:0", "--segment",
				    "2M", "--grace", "100ms", NULL };

static uint64_t handles[NR], places[NR];

static uint32_t open_space(int *ret_fd, struct manager *m)
{
	int space;

	*ret_fd = raw_open(m->daemon.socket);
	space = raw_open_space(*ret_fd, 1);
	assert_true(space > 0);
	return (uint32_t)space;
}

static void test_stays(void **state)
{
	struct daemon_stat st;
	struct manager m;
	uint64_t first;
	uint32_t space;
	int fd, status;

	setenv("FAKECUDA_FAIL",
	       "cuMemsetD8Async:4+:719,cuStreamSynchronize:4+:719", 1);
	manager_start(&m, args);
	unsetenv("FAKECUDA_FAIL");
	space = open_space(&fd, &m);
	assert_int_equal(raw_alloc(fd, space, 1, 5000, &first, places), 0);
	assert_int_equal(raw_publish(fd, space, first, 1), 0);
	assert_true(raw_alloc(fd, space, NR, 5000, handles, places) < 0);
	status = daemon_wait_exit(&m.daemon);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == EXIT_FAILURE);
	close(fd);

	manager_again(&m, args);
	space = open_space(&fd, &m);
	assert_int_equal(raw_claim(fd, space, first), 1);
	assert_int_equal(raw_alloc(fd, space, NR, 5000, handles, places), 0);
	raw_bye(fd);
	close(fd);
	daemon_assert_idle(&m.daemon);
	daemon_stat(m.daemon.socket, &st);
	assert_int_equal(st.cached, 1);
	manager_stop(&m);
}

/* One error is no loss: that segment is not made, the next one is. */
static void test_passes(void **state)
{
	struct manager m;
	uint32_t space;
	int fd;

	setenv("FAKECUDA_FAIL", "cuMemsetD8Async:1:719", 1);
	manager_start(&m, args);
	unsetenv("FAKECUDA_FAIL");
	space = open_space(&fd, &m);
	raw_alloc(fd, space, 1, 100, handles, places);
	raw_bye(fd);
	close(fd);
	space = open_space(&fd, &m);
	assert_int_equal(raw_alloc(fd, space, NR, 5000, handles, places), 0);
	raw_bye(fd);
	close(fd);
	manager_stop(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_stays),
		cmocka_unit_test(test_passes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
