/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_lost.c - a GPU's error that stays: kvd ends and says why, and its
 * successor has every published page, or on cuda-ipc says that it has none. A
 * GPU that is away is waited for, also by auto. On the double of libcuda.
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

#define ARGS(device) { "--device", device, "--segment", "2M", "--grace", \
		       "100ms", NULL }

static const char *const args[] = ARGS("cuda-vmm:0");
static const char *const args_ipc[] = ARGS("cuda-ipc:0");
static const char *const args_auto[] = ARGS("auto");
static const char *const args_host[] = ARGS("host");

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

static Kvd__HelloReply *hello(struct manager *m)
{
	Kvd__HelloRequest req = KVD__HELLO_REQUEST__INIT;
	int fd = raw_connect(m->daemon.socket);
	Kvd__HelloReply *r;

	req.version = WIRE_VERSION;
	assert_int_equal(raw_call(fd, WIRE_HELLO, &req.base,
				  &kvd__hello_reply__descriptor, &r, NULL), 0);
	raw_bye(fd);
	close(fd);
	return r;
}

static uint64_t epoch_of(struct manager *m)
{
	Kvd__HelloReply *r = hello(m);
	uint64_t epoch = r->epoch;

	kvd__hello_reply__free_unpacked(r, NULL);
	return epoch;
}

static void assert_device(struct manager *m, const char *device)
{
	Kvd__HelloReply *r = hello(m);

	assert_string_equal(r->device, device);
	kvd__hello_reply__free_unpacked(r, NULL);
}

/* Nothing survives there: another epoch says so, and no claim is granted. */
static void test_ipc_stays(void **state)
{
	struct manager m;
	uint64_t first, epoch;
	uint32_t space;
	int fd, status;

	setenv("FAKECUDA_FAIL",
	       "cuMemsetD8Async:4+:719,cuStreamSynchronize:4+:719", 1);
	manager_start(&m, args_ipc);
	unsetenv("FAKECUDA_FAIL");
	epoch = epoch_of(&m);
	space = open_space(&fd, &m);
	assert_int_equal(raw_alloc(fd, space, 1, 5000, &first, places), 0);
	assert_int_equal(raw_publish(fd, space, first, 1), 0);
	assert_true(raw_alloc(fd, space, NR, 5000, handles, places) < 0);
	status = daemon_wait_exit(&m.daemon);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == EXIT_FAILURE);
	close(fd);
	assert_int_equal(manager_nr_fds(&m, NULL), 0);

	manager_again(&m, args_ipc);
	assert_true(epoch_of(&m) != epoch);
	space = open_space(&fd, &m);
	assert_int_equal(raw_claim(fd, space, first), 0);
	assert_int_equal(raw_alloc(fd, space, NR, 5000, handles, places), 0);
	raw_bye(fd);
	close(fd);
	daemon_assert_idle(&m.daemon);
	manager_stop(&m);
}

/* kvd does not start, and what is kept stays so, until the GPU is back. */
static void try_without_gpu(struct manager *m, const char *device)
{
	unsigned nr = manager_nr_fds(m, NULL);
	int i, status;

	setenv("FAKECUDA_DEVICES", "0", 1);
	for (i = 0; i < 2; i++) {
		status = manager_try(m, args_auto);
		assert_true(WIFEXITED(status) &&
			    WEXITSTATUS(status) == EXIT_FAILURE);
		assert_int_equal(manager_nr_fds(m, NULL), nr);
	}
	unsetenv("FAKECUDA_DEVICES");
	manager_again(m, args_auto);
	assert_device(m, device);
}

/* What auto has chosen is gone for a moment: host memory is no replacement. */
static void test_auto(void **state)
{
	struct manager m;
	uint64_t first;
	uint32_t space;
	int fd;

	manager_start(&m, args_auto);
	assert_device(&m, "cuda-vmm:0");
	space = open_space(&fd, &m);
	assert_int_equal(raw_alloc(fd, space, 1, 5000, &first, places), 0);
	assert_int_equal(raw_publish(fd, space, first, 1), 0);
	manager_kill(&m);
	close(fd);
	try_without_gpu(&m, "cuda-vmm:0");
	space = open_space(&fd, &m);
	assert_int_equal(raw_claim(fd, space, first), 1);
	raw_bye(fd);
	close(fd);

	/* Who names a device has it, and auto its choice again after that. */
	manager_term(&m);
	manager_again(&m, args_host);
	assert_device(&m, "host");
	manager_term(&m);
	setenv("FAKECUDA_VMM", "0", 1);
	manager_again(&m, args_auto);
	unsetenv("FAKECUDA_VMM");
	assert_device(&m, "cuda-ipc:0");
	manager_kill(&m);
	try_without_gpu(&m, "cuda-ipc:0");
	manager_stop(&m);
}

/* Nor is a GPU that has come for host memory, which has pages. */
static void test_auto_host(void **state)
{
	struct manager m;
	uint64_t first;
	uint32_t space;
	int fd;

	setenv("FAKECUDA_DEVICES", "0", 1);
	manager_start(&m, args_auto);
	unsetenv("FAKECUDA_DEVICES");
	assert_device(&m, "host");
	space = open_space(&fd, &m);
	assert_int_equal(raw_alloc(fd, space, 1, 5000, &first, places), 0);
	assert_int_equal(raw_publish(fd, space, first, 1), 0);
	manager_kill(&m);
	close(fd);
	manager_again(&m, args_auto);
	assert_device(&m, "host");
	space = open_space(&fd, &m);
	assert_int_equal(raw_claim(fd, space, first), 1);
	raw_bye(fd);
	close(fd);
	manager_stop(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_stays),
		cmocka_unit_test(test_passes),
		cmocka_unit_test(test_ipc_stays),
		cmocka_unit_test(test_auto),
		cmocka_unit_test(test_auto_host),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
