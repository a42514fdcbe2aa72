/* SPDX-License-Identifier: Apache-2.0 */
/*
 * host.c - host segments: zeroed, sealed, exported both ways, adopted.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include "daemon/dev/dev.h"

#define BYTES (2 * (uint64_t)DEV_GRANULE)

struct call {
	struct dev_job job;
	int (*fn)(struct dev *d, struct call *c);
	struct dev_segment seg;
	int fd;
	int r;
};

static void call_run(struct dev *d, struct dev_job *job)
{
	struct call *c = (struct call *)(void *)job;

	c->r = c->fn(d, c);
}

static void call_done(struct dev *d, struct dev_job *job)
{
}

static int call(struct dev *d, struct call *c,
		int (*fn)(struct dev *d, struct call *c))
{
	c->job.run = call_run;
	c->job.done = call_done;
	c->fn = fn;
	dev_submit(d, &c->job);
	dev_drain(d);
	return c->r;
}

static int do_new(struct dev *d, struct call *c)
{
	return dev_ops(d)->segment_new(d, BYTES, &c->seg);
}

static int do_adopt(struct dev *d, struct call *c)
{
	return dev_ops(d)->segment_adopt(d, c->fd, BYTES, &c->seg);
}

static int do_free(struct dev *d, struct call *c)
{
	dev_ops(d)->segment_free(d, &c->seg);
	return 0;
}

static int do_zero(struct dev *d, struct call *c)
{
	return dev_ops(d)->zero(d, &c->seg, 100, 1000);
}

static int do_read(struct dev *d, struct call *c)
{
	char buf[2] = { 1, 1 };
	int r = dev_ops(d)->read(d, &c->seg, 1099, buf, 2);

	assert_int_equal(buf[0], 0);
	assert_int_equal(buf[1], 'x');
	return r;
}

static void wake(void *ctx)
{
}

static int setup(void **state)
{
	struct dev *d;
	char note[200];

	if (dev_new("host", wake, NULL, &d, note, sizeof(note)) < 0)
		return -1;
	*state = d;
	return 0;
}

static int teardown(void **state)
{
	dev_free(*state);
	return 0;
}

static void test_export(void **state)
{
	struct dev *d = *state;
	struct call c = { 0 };
	struct dev_export rw, ro;
	struct stat st;
	char *p, *q;

	assert_int_equal(call(d, &c, do_new), 0);
	assert_int_equal(c.seg.bytes, BYTES);
	assert_int_equal(fstat(c.seg.fd, &st), 0);
	assert_int_equal(st.st_blocks * 512, BYTES); /* populated */
	assert_int_equal(ftruncate(c.seg.fd, 4096), -1);

	assert_int_equal(dev_export(d, &c.seg, true, &rw), 0);
	assert_int_equal(dev_export(d, &c.seg, false, &ro), 0);
	assert_int_equal(rw.kind, DEV_EXPORT_MMAP);
	assert_int_equal(fcntl(rw.fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE), -1);
	assert_true(fcntl(rw.fd, F_GETFD) & FD_CLOEXEC);
	p = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, rw.fd, 0);
	assert_true(p != MAP_FAILED);
	assert_true(mmap(NULL, BYTES, PROT_WRITE, MAP_SHARED, ro.fd, 0) ==
		    MAP_FAILED);
	q = mmap(NULL, BYTES, PROT_READ, MAP_SHARED, ro.fd, 0);
	assert_true(q != MAP_FAILED);
	for (uint64_t i = 0; i < BYTES; i += 4096)
		assert_int_equal(p[i], 0);
	memset(p, 'x', 4096);
	assert_int_equal(q[4095], 'x');
	assert_int_equal(call(d, &c, do_zero), 0);
	assert_int_equal(call(d, &c, do_read), 0);

	/* A successor takes it over with its contents. */
	c.fd = fcntl(rw.fd, F_DUPFD_CLOEXEC, 0);
	call(d, &c, do_free);
	assert_int_equal(c.seg.fd, -1);
	assert_int_equal(call(d, &c, do_adopt), 0);
	assert_int_equal(call(d, &c, do_read), 0);
	call(d, &c, do_free);
	munmap(p, BYTES);
	munmap(q, BYTES);
	close(rw.fd);
	close(ro.fd);
}

static void test_adopt_refuses(void **state)
{
	struct call c = { 0 };
	int fds[2];

	c.fd = memfd_create("small", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	assert_int_equal(call(*state, &c, do_adopt), -EINVAL);
	assert_int_equal(ftruncate(c.fd, BYTES), 0);
	assert_int_equal(call(*state, &c, do_adopt), -EINVAL); /* unsealed */
	close(c.fd);
	assert_int_equal(pipe(fds), 0);
	c.fd = fds[0];
	assert_true(call(*state, &c, do_adopt) < 0);
	close(fds[0]);
	close(fds[1]);
}

static void test_no_fds(void **state)
{
	struct dev *d = *state;
	struct call c = { 0 };
	struct rlimit old, none = { .rlim_cur = 3 };
	struct dev_export e = { .fd = 77 };

	assert_int_equal(call(d, &c, do_new), 0);
	getrlimit(RLIMIT_NOFILE, &old);
	none.rlim_max = old.rlim_max;
	setrlimit(RLIMIT_NOFILE, &none);
	assert_int_equal(dev_export(d, &c.seg, true, &e), -EMFILE);
	assert_int_equal(dev_export(d, &c.seg, false, &e), -EMFILE);
	setrlimit(RLIMIT_NOFILE, &old);
	assert_int_equal(e.fd, 77);
	call(d, &c, do_free);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_export),
		cmocka_unit_test(test_adopt_refuses),
		cmocka_unit_test(test_no_fds),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
