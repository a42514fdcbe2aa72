/* SPDX-License-Identifier: Apache-2.0 */
/*
 * memfd.c - sealed size, private mode, a read-only twin; random numbers.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "daemon/util/clock.h"
#include "daemon/util/memfd.h"
#include "daemon/util/random.h"

static void test_memfd(void **state)
{
	struct stat st;
	uint32_t *rw, *view;
	void *p;
	int fd, ro;

	fd = memfd_new("test", 8192);
	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(ftruncate(fd, 4096), -1);
	assert_int_equal(ftruncate(fd, 65536), -1);
	assert_int_equal(memfd_check(fd, 8192), 0);
	assert_int_equal(memfd_check(fd, 8193), -EINVAL);
	assert_int_equal(memfd_map(fd, 8192, &p), 0);
	rw = p;
	rw[7] = 42;

	ro = memfd_reopen_readonly(fd);
	assert_true(ro >= 0);
	assert_true(mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, ro,
			 0) == MAP_FAILED);
	view = mmap(NULL, 8192, PROT_READ, MAP_SHARED, ro, 0);
	assert_true(view != MAP_FAILED);
	assert_int_equal(view[7], 42);
	assert_int_equal(mprotect(view, 8192, PROT_READ | PROT_WRITE), -1);
	munmap(view, 8192);
	munmap(rw, 8192);
	close(ro);
	close(fd);
}

static void test_not_a_memfd(void **state)
{
	int fds[2];

	assert_int_equal(pipe(fds), 0);
	assert_true(memfd_check(fds[0], 0) < 0);
	close(fds[0]);
	close(fds[1]);
	assert_int_equal(memfd_check(fds[0], 0), -EBADF);
}

static void test_random_clock(void **state)
{
	uint64_t a = random_u64(), t = clock_ns();

	assert_true(a != 0 && a != random_u64());
	assert_true(clock_ns() >= t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_memfd),
		cmocka_unit_test(test_not_a_memfd),
		cmocka_unit_test(test_random_clock),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
