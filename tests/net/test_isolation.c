// SPDX-License-Identifier: Apache-2.0
/*
 * test_isolation.c - one tenant's allocations, whatever others do.
 *
 * A tenant at its max floods kvd with requests, and with as many that wait as
 * it may have; clients do not read, or are stopped, with pages they were asked
 * to give back. Who asks beside them, within what the pool has, is neither
 * refused nor late: an allocation that had to wait past its deadline is
 * answered with an error, so it is errors that are looked for. Times are
 * printed; they are held to the deadline and what a slow machine adds.
 *
 * Pages are 32 KiB, of a pool of 16 MiB. Other tenants need root.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>
#include "tests/support/check.h"
#include "tests/support/daemon.h"
#include "tests/support/raw.h"

#define PAGE	    32768ull
#define POOL_PAGES  512u
#define OTHER	    4242
#define MANY	    4096u	/* as many as wait of one tenant */
#define DEADLINE_MS 2000
#define SLOW_MS	    20000	/* what a machine may take besides */
#define NR_ASKS	    1000

enum { MIN = 1, HIGH = 2, MAX = 4 };

static struct daemon d;
static struct raw_frame f;
static char name[32];		/* of our tenant */

static int setup(void **state)
{
	const char *const args[] = { "--pool", "16M", "--segment", "2M",
				     "--set", "max-waiting=5000",
				     "--set", "socket-mode=0666", NULL };

	snprintf(name, sizeof(name), "uid-%u", (unsigned)geteuid());
	daemon_prepare(&d);
	chmod(d.dir, 0711);
	daemon_start_in(&d, args);
	return 0;
}

static int teardown(void **state)
{
	daemon_assert_idle(&d);
	daemon_stop(&d);
	return 0;
}

static int64_t now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static void set_limits(int fd, const char *tenant, uint32_t keys, uint64_t min,
		       uint64_t max)
{
	Kvd__TenantSetRequest req = KVD__TENANT_SET_REQUEST__INIT;

	req.name = (char *)(uintptr_t)tenant;
	req.keys = keys;
	req.min = min;
	req.max = max;
	req.runtime = 1;
	assert_int_equal(raw_call(fd, WIRE_TENANT_SET, &req.base, NULL, NULL,
				  NULL), 0);
}

static void send_alloc(int fd, uint32_t id, uint32_t space, uint32_t count,
		       uint32_t deadline_ms)
{
	Kvd__AllocRequest req = KVD__ALLOC_REQUEST__INIT;

	req.space = space;
	req.count = count;
	req.deadline_ms = deadline_ms;
	CHECK(raw_send_msg(fd, WIRE_ALLOC, id, &req.base) == 0, "send");
}

/* The reply to @id is the next one. Return: its status. */
static int expect(int fd, uint32_t id)
{
	do
		assert_int_equal(raw_recv(fd, &f), 0);
	while (f.header.type == WIRE_EVENT);
	assert_int_equal(f.header.id, id);
	return f.header.status;
}

static void end(int fd)
{
	raw_bye(fd);
	close(fd);
}

/* Until nobody is left but @keep clients. */
static void wait_clients(unsigned keep)
{
	int64_t deadline = now_us() + SLOW_MS * 1000ll;
	struct daemon_stat st;

	for (;;) {
		daemon_stat(d.socket, &st);
		if (st.nr_clients <= keep)
			return;
		assert_true(now_us() < deadline);
		usleep(5000);
	}
}

/* ---- another process, which may be another user's ---- */

struct child {
	pid_t pid;
	int ready;		/* it has written a byte to it */
};

static struct child child_start(void (*run)(int ready), bool other)
{
	struct child c;
	int fds[2];
	char byte;

	assert_int_equal(pipe(fds), 0);
	c.pid = fork();
	assert_true(c.pid >= 0);
	if (c.pid == 0) {
		close(fds[0]);
		if (other)
			CHECK(!setresgid(OTHER, OTHER, OTHER) &&
			      !setresuid(OTHER, OTHER, OTHER), "setuid");
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		run(fds[1]);
		_exit(0);
	}
	close(fds[1]);
	c.ready = fds[0];
	assert_int_equal(read(c.ready, &byte, 1), 1);
	return c;
}

/* It has done its part up to now, and ends. */
static void child_kill(const struct child *c)
{
	int status;

	kill(c->pid, SIGKILL);
	assert_int_equal(waitpid(c->pid, &status, 0), c->pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	close(c->ready);
}

static void tell_ready(int ready)
{
	CHECK(write(ready, "r", 1) == 1, "nobody waits");
}

/* Pages into the index, and let go of. */
static void cache(int fd, uint32_t space, uint32_t nr, uint32_t *seed)
{
	uint64_t h[64];

	for (uint32_t i = 0; i < nr; i += 8) {
		int r = raw_alloc(fd, space, 8, 0, h, NULL);

		if (r == -EDQUOT || r == -ENOSPC || r == -EAGAIN ||
		    r == -EBUSY)
			continue;
		CHECK(r == 0, "alloc: %s", strerror(-r));
		for (uint32_t k = 0; k < 8; k++)
			CHECK(raw_publish(fd, space, h[k], ++*seed) == 0,
			      "publish");
		CHECK(raw_release(fd, h, 8) == 0, "release");
	}
}

/* ---- a flood ---- */

/* Asks for more than it may have, and turns over what it has cached. */
static void flood(int ready)
{
	int fd = raw_open(d.socket), waits = raw_open(d.socket);
	uint32_t space = (uint32_t)raw_open_space(fd, 1), seed = 0;
	static uint64_t held[64];

	raw_open_space(waits, 1);
	CHECK(raw_alloc(fd, space, 64, 5000, held, NULL) == 0, "alloc");
	cache(fd, space, POOL_PAGES, &seed);
	/* All that may wait, for what can never be had while we hold these. */
	for (uint32_t i = 1; i <= MANY; i++)
		send_alloc(waits, i, space, 321, 60000);
	CHECK(raw_ping(waits) == 0, "they wait");
	tell_ready(ready);
	for (;;) {
		uint64_t h[64];
		int r = raw_alloc(fd, space, 384, 0, h, NULL);

		CHECK(r == -EDQUOT || r == -ENOSPC, "more than max: %s",
		      strerror(-r));
		/* Nobody of its own is served while older ones wait. */
		r = raw_alloc(fd, space, 1, 1, h, NULL);
		CHECK(r == -EBUSY, "one more: %s", strerror(-r));
	}
}

/* The same with nobody waiting: it is at max all the time, and gives up. */
static void churn(int ready)
{
	int fd = raw_open(d.socket);
	uint32_t space = (uint32_t)raw_open_space(fd, 1), seed = 0;
	static uint64_t held[64];

	CHECK(raw_alloc(fd, space, 64, 5000, held, NULL) == 0, "alloc");
	cache(fd, space, POOL_PAGES, &seed);
	tell_ready(ready);
	for (;;) {
		cache(fd, space, 64, &seed);
		CHECK(raw_alloc(fd, space, 384, 0, held, NULL) < 0, "max");
	}
}

static int by_value(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return x < y ? -1 : x > y;
}

/*
 * Takes what it was promised in portions, publishes some, gives it back: none
 * of it may be refused.
 */
static void ask_all(int fd, uint32_t space, uint32_t pages, const char *what)
{
	static uint64_t h[POOL_PAGES];
	static int64_t us[NR_ASKS];
	uint32_t have = 0, seed = 1u << 24;

	for (int i = 0; i < NR_ASKS; i++) {
		uint32_t n = 1 + (uint32_t)i * 7 % 16;
		int64_t t = now_us();

		if (have + n > pages) {
			assert_int_equal(raw_release(fd, h, have), 0);
			have = 0;
		}
		assert_int_equal(raw_alloc(fd, space, n, DEADLINE_MS,
					   h + have, NULL), 0);
		us[i] = now_us() - t;
		if (i % 3 == 0)
			assert_int_equal(raw_publish(fd, space, h[have],
						     ++seed), 0);
		have += n;
	}
	assert_int_equal(raw_release(fd, h, have), 0);
	qsort(us, NR_ASKS, sizeof(*us), by_value);
	printf("%s: %d allocations, median %lld us, p99 %lld, most %lld\n",
	       what, NR_ASKS, (long long)us[NR_ASKS / 2],
	       (long long)us[NR_ASKS * 99 / 100],
	       (long long)us[NR_ASKS - 1]);
	assert_true(us[NR_ASKS - 1] < (DEADLINE_MS + SLOW_MS) * 1000ll);
}

static void beside(void (*run)(int ready), const char *what)
{
	int fd = raw_open(d.socket);
	uint32_t space = (uint32_t)raw_open_space(fd, 1);
	struct child c;

	if (geteuid() != 0) {
		end(fd);
		skip();
	}
	/* It may have 384 pages of 512, of which we are promised 192. */
	set_limits(fd, "uid-4242", MAX, 0, 384 * PAGE);
	set_limits(fd, name, MIN, 192 * PAGE, 0);
	c = child_start(run, true);
	ask_all(fd, space, 192, what);
	child_kill(&c);
	wait_clients(1);
	set_limits(fd, "uid-4242", MAX, 0, 0);
	set_limits(fd, name, MIN, 0, 0);
	end(fd);
}

static void test_flood(void **state)
{
	beside(flood, "beside a flood");
}

static void test_churn(void **state)
{
	beside(churn, "beside a churn");
}

/* A space whose pages are of @layers times 16 KiB. */
static uint32_t open_sized(int fd, uint32_t layers)
{
	Kvd__OpenSpaceRequest req = KVD__OPEN_SPACE_REQUEST__INIT;
	Kvd__Geometry geometry = KVD__GEOMETRY__INIT;
	Kvd__Group group = KVD__GROUP__INIT, *groups = &group;
	Kvd__OpenSpaceReply *reply;
	uint8_t model[32] = { 0 };
	uint32_t id;

	group.nr_layers = layers;
	group.nr_kv_heads = 2;
	group.k_dim = group.v_dim = 64;
	geometry.page_tokens = 32;
	geometry.n_groups = 1;
	geometry.groups = &groups;
	req.model.data = model;
	req.model.len = sizeof(model);
	req.geometry = &geometry;
	req.tp_size = 1;
	CHECK(raw_call(fd, WIRE_OPEN_SPACE, &req.base,
		       &kvd__open_space_reply__descriptor, &reply, NULL) == 0,
	      "open");
	id = reply->space;
	kvd__open_space_reply__free_unpacked(reply, NULL);
	return id;
}

/*
 * Of each of several sizes all it can have, of which it then keeps one page in
 * sixteen: few pages, in as many segments as it can get.
 */
static void scatter(int ready)
{
	int fd = raw_open(d.socket);
	uint32_t nr_segments = 0;

	for (uint32_t layers = 1; layers <= 6; layers++) {
		uint32_t space = open_sized(fd, layers), have = 0;
		static uint64_t h[POOL_PAGES];

		while (have < POOL_PAGES &&
		       raw_alloc(fd, space, 1, 100, h + have, NULL) == 0)
			have++;
		nr_segments += have != 0;
		for (uint32_t i = 0; i < have; i++)
			if (i % 16)
				CHECK(raw_release(fd, h + i, 1) == 0,
				      "release");
	}
	CHECK(nr_segments >= 2, "%u sizes", nr_segments);
	tell_ready(ready);
	for (;;)
		pause();
}

/* Segments it has, with room in them that others cannot have, are few. */
static void test_scattered(void **state)
{
	int fd = raw_open(d.socket);
	uint32_t space = (uint32_t)raw_open_space(fd, 1);
	struct child c;

	if (geteuid() != 0) {
		end(fd);
		skip();
	}
	set_limits(fd, "uid-4242", MAX, 0, 128 * PAGE); /* 2 of 8 segments */
	c = child_start(scatter, true);
	ask_all(fd, space, 5 * 64, "beside one that is scattered");
	child_kill(&c);
	wait_clients(1);
	set_limits(fd, "uid-4242", MAX, 0, 0);
	end(fd);
}

/* Its own requests wait in its own queue, and are served in time. */
static void test_queue_is_own(void **state)
{
	struct child c;
	int fd = raw_open(d.socket);
	uint32_t space = (uint32_t)raw_open_space(fd, 1);
	uint64_t h[64];

	if (geteuid() != 0) {
		end(fd);
		skip();
	}
	set_limits(fd, "uid-4242", MAX, 0, 384 * PAGE);
	set_limits(fd, name, MIN | MAX, 64 * PAGE, 64 * PAGE);
	c = child_start(flood, true);
	assert_int_equal(raw_alloc(fd, space, 64, DEADLINE_MS, h, NULL), 0);
	for (uint32_t i = 1; i <= MANY; i++)
		send_alloc(fd, i, space, 1, 60000);
	for (uint32_t i = 0; i < 64; i++) {
		assert_int_equal(raw_release(fd, h + i, 1), 0);
		assert_int_equal(expect(fd, i + 1), 0);
	}
	child_kill(&c);
	raw_bye(fd);
	close(fd);
	wait_clients(0);
	fd = raw_open(d.socket);
	set_limits(fd, "uid-4242", MAX, 0, 0);
	set_limits(fd, name, MIN | MAX, 0, 0);
	end(fd);
}

/* ---- who does not answer ---- */

static uint64_t filled[POOL_PAGES];

/* Takes all pages there are; how many that was. */
static uint32_t fill(int fd, uint32_t space)
{
	uint32_t have = 0, step = 64;
	int r;

	while (step) {
		r = raw_alloc(fd, space, step, 200, filled + have, NULL);
		assert_true(r == 0 || r == -ENOSPC || r == -EINVAL);
		if (r == 0)
			have += step;
		else
			step /= 2;
	}
	return have;
}

/*
 * With nothing left others have been asked for what they do not use, which
 * some do not hear. Then there is room again, all of it cached.
 */
static void ask_after(int fd, uint32_t space, const char *what)
{
	uint32_t all = fill(fd, space), seed = 1u << 25;

	assert_in_range(all, 440, POOL_PAGES - 64);
	for (uint32_t i = 0; i < all; i++)
		assert_int_equal(raw_publish(fd, space, filled[i], ++seed), 0);
	assert_int_equal(raw_release(fd, filled, all), 0);
	ask_all(fd, space, 400, what);
}

/* Holds pages, and lets its socket fill up. */
static void deaf(int ready)
{
	struct wire_header h = { .type = WIRE_STATUS, .id = 1 };
	uint8_t buf[WIRE_HEADER_BYTES];
	int fd = raw_open(d.socket), cached = raw_open(d.socket);
	uint32_t space = (uint32_t)raw_open_space(fd, 1), seed = 9000;
	static uint64_t held[64];

	raw_open_space(cached, 1);
	CHECK(raw_alloc(fd, space, 64, 5000, held, NULL) == 0, "alloc");
	cache(cached, space, 384, &seed);
	raw_bye(cached);
	close(cached);
	wire_put(buf, &h);
	while (send(fd, buf, sizeof(buf), MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
		continue;
	CHECK(errno == EAGAIN, "%s", strerror(errno));
	tell_ready(ready);
	for (;;)
		pause();
}

/* Open pages, as a stock; it is stopped before it is asked for them. */
static void stopped(int ready)
{
	int fd = raw_open(d.socket);
	uint32_t space = (uint32_t)raw_open_space(fd, 1), seed = 90000;
	static uint64_t held[64];
	static struct raw_frame frame;

	CHECK(raw_alloc(fd, space, 64, 5000, held, NULL) == 0, "alloc");
	cache(fd, space, 384, &seed);
	tell_ready(ready);
	raise(SIGSTOP);
	while (raw_recv(fd, &frame) == 0 && frame.header.type != WIRE_EVENT)
		continue;
	CHECK(raw_release(fd, held, 64) == 0, "release");
	for (;;)
		pause();
}

/* Of all but 64 pages most are cached: they are had, in the deadline. */
static void test_not_reading(void **state)
{
	struct child c = child_start(deaf, false);
	int fd = raw_open(d.socket);
	uint32_t space = (uint32_t)raw_open_space(fd, 1);
	struct daemon_stat st;
	int64_t t;

	daemon_stat(d.socket, &st);
	assert_true(st.cached >= 300);
	ask_all(fd, space, 400, "beside one that reads nothing");
	ask_after(fd, space, "after it was asked for pages");
	assert_in_range(fill(fd, space), 440, POOL_PAGES - 64);
	/* Now there is nothing; that is said at the deadline, not later. */
	t = now_us();
	send_alloc(fd, 1, space, 64, 300);
	assert_int_equal(expect(fd, 1), ENOSPC);
	t = now_us() - t;
	assert_in_range(t, 295000, (300 + SLOW_MS) * 1000);
	child_kill(&c);
	wait_clients(1);
	end(fd);
}

static void test_stopped(void **state)
{
	struct child c = child_start(stopped, false);
	int fd = raw_open(d.socket), status;
	uint32_t space = (uint32_t)raw_open_space(fd, 1);

	assert_int_equal(waitpid(c.pid, &status, WUNTRACED), c.pid);
	assert_true(WIFSTOPPED(status));
	ask_all(fd, space, 400, "beside one that is stopped");
	ask_after(fd, space, "after it was asked for pages");
	assert_in_range(fill(fd, space), 440, POOL_PAGES - 64);
	/* It has been asked; when it goes on it gives its pages back. */
	send_alloc(fd, 1, space, 48, SLOW_MS);
	assert_int_equal(raw_ping(fd), 0);
	kill(c.pid, SIGCONT);
	assert_int_equal(expect(fd, 1), 0);
	child_kill(&c);
	wait_clients(1);
	end(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_scattered),
		cmocka_unit_test(test_flood),
		cmocka_unit_test(test_churn),
		cmocka_unit_test(test_queue_is_own),
		cmocka_unit_test(test_not_reading),
		cmocka_unit_test(test_stopped),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
