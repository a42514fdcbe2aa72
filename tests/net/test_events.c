// SPDX-License-Identifier: Apache-2.0
/*
 * test_events.c - events: who gets which, in which order; and one who does not
 * read, for whom nobody waits.
 *
 * Pages are 32 KiB, the pool has 512. We are the daemon's own user, so an
 * admin; as root we can be another user too, and where we are not, what needs
 * two is skipped.
 */
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>
#include "proto/name.h"
#include "tests/support/daemon.h"
#include "tests/support/raw.h"

#define OTHER  4242
#define POOL   512u		/* pages */
#define TOKENS 32u		/* of a page */
#define BATCH  64u

static struct daemon d;
static struct raw_frame f;
static char ours[32];		/* our tenant */

static int setup(void **state)
{
	const char *const args[] = { "--pool", "16M", "--segment", "8M",
				     "--set", "socket-mode=0666", NULL };

	snprintf(ours, sizeof(ours), "uid-%u", (unsigned)geteuid());
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

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* A connection of another user; -1 where we cannot be one. */
static int open_other(void)
{
	int fd;

	if (geteuid() != 0)
		return -1;
	assert_int_equal(seteuid(OTHER), 0);
	fd = raw_open(d.socket);
	assert_int_equal(seteuid(0), 0);
	return fd;
}

static void end(int fd)
{
	raw_bye(fd);
	close(fd);
}

/* Return: as raw_call(); *ret_next may be NULL. */
static int subscribe(int fd, uint32_t space, uint32_t mask, uint64_t *ret_next)
{
	Kvd__SubscribeRequest req = KVD__SUBSCRIBE_REQUEST__INIT;
	Kvd__SubscribeReply *reply;
	int r;

	req.space = space;
	req.mask = mask;
	r = raw_call(fd, WIRE_SUBSCRIBE, &req.base,
		     &kvd__subscribe_reply__descriptor, &reply, &f);
	if (r < 0)
		return r;
	if (ret_next)
		*ret_next = reply->next;
	kvd__subscribe_reply__free_unpacked(reply, NULL);
	return 0;
}

static bool readable(int fd, int wait_ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, wait_ms) == 1;
}

/* The next frame, which is an event. The caller frees it. */
static Kvd__Event *next_event(int fd)
{
	Kvd__Event *e;

	assert_int_equal(raw_recv(fd, &f), 0);
	assert_int_equal(f.header.type, WIRE_EVENT);
	e = kvd__event__unpack(NULL, f.header.length, f.payload);
	assert_non_null(e);
	return e;
}

/* The next one of blocks. */
static Kvd__Event *next_blocks(int fd)
{
	Kvd__Event *e = next_event(fd);

	assert_int_equal(e->kind, KVD__EVENT__KIND__BLOCKS);
	assert_non_null(e->blocks);
	assert_int_equal(e->blocks->names.len, 16 * e->blocks->kinds.len);
	return e;
}

/* ---- a worker ---- */

static void tokens_of(uint32_t seed, uint32_t *tokens)
{
	for (uint32_t i = 0; i < TOKENS; i++)
		tokens[i] = seed * TOKENS + i;
}

/* Publishes a page; @parent's name, all zero: none. */
static int publish_after(int fd, uint32_t space, uint64_t handle,
			 struct name *parent, uint32_t depth, uint32_t seed)
{
	Kvd__PublishRequest req = KVD__PUBLISH_REQUEST__INIT;
	Kvd__Block block = KVD__BLOCK__INIT, *blocks = &block;
	uint32_t tokens[TOKENS];

	tokens_of(seed, tokens);
	block.parent.data = parent->b;
	block.parent.len = NAME_BYTES;
	block.n_tokens = TOKENS;
	block.tokens = tokens;
	block.depth = depth;
	block.n_handles = 1;
	block.handles = &handle;
	req.space = space;
	req.n_blocks = 1;
	req.blocks = &blocks;
	return raw_call(fd, WIRE_PUBLISH, &req.base, NULL, NULL, NULL);
}

/* BATCH pages allocated, published and released. */
static void churn_within(int fd, uint32_t space, uint32_t seed,
			 uint32_t deadline_ms)
{
	static uint32_t tokens[BATCH][TOKENS];
	static uint8_t parent[NAME_BYTES];
	Kvd__PublishRequest req = KVD__PUBLISH_REQUEST__INIT;
	Kvd__Block block[BATCH], *blocks[BATCH];
	uint64_t h[BATCH];

	assert_int_equal(raw_alloc(fd, space, BATCH, deadline_ms, h,
				   NULL), 0);
	for (uint32_t i = 0; i < BATCH; i++) {
		kvd__block__init(&block[i]);
		tokens_of(seed + i, tokens[i]);
		block[i].parent.data = parent;
		block[i].parent.len = NAME_BYTES;
		block[i].n_tokens = TOKENS;
		block[i].tokens = tokens[i];
		block[i].n_handles = 1;
		block[i].handles = &h[i];
		blocks[i] = &block[i];
	}
	req.space = space;
	req.n_blocks = BATCH;
	req.blocks = blocks;
	assert_int_equal(raw_call(fd, WIRE_PUBLISH, &req.base, NULL, NULL,
				  NULL), 0);
	assert_int_equal(raw_release(fd, h, BATCH), 0);
}

static void churn(int fd, uint32_t space, uint32_t seed)
{
	churn_within(fd, space, seed, 5000);
}

static void reclaim_all(int fd)
{
	Kvd__ReclaimRequest req = KVD__RECLAIM_REQUEST__INIT;
	Kvd__ReclaimReply *reply;
	bool more = true;

	req.tenant = ours;
	req.bytes = UINT64_MAX;
	while (more) {
		assert_int_equal(raw_call(fd, WIRE_RECLAIM, &req.base,
					  &kvd__reclaim_reply__descriptor,
					  &reply, NULL), 0);
		more = reply->more;
		kvd__reclaim_reply__free_unpacked(reply, NULL);
	}
}

/* ---- blocks ---- */

static void test_masks(void **state)
{
	int fd = raw_open(d.socket);
	uint32_t space = (uint32_t)raw_open_space(fd, 1);

	assert_int_equal(subscribe(fd, 0, 2, NULL), -EINVAL);
	assert_int_equal(subscribe(fd, 0, 8, NULL), -EINVAL);
	assert_int_equal(subscribe(fd, space, 1, NULL), -EINVAL);
	assert_int_equal(subscribe(fd, space, 3, NULL), -EINVAL);
	assert_int_equal(subscribe(fd, space, 4, NULL), -EINVAL);
	assert_non_null(strstr(raw_error(&f), "tokens"));
	assert_int_equal(subscribe(fd, space, 1u << 31, NULL), -EINVAL);
	assert_int_equal(subscribe(fd, 99, 2, NULL), -ENOENT);
	assert_int_equal(subscribe(fd, UINT32_MAX, 2, NULL), -ENOENT);
	assert_int_equal(subscribe(fd, 99, 0, NULL), 0);
	assert_int_equal(subscribe(fd, 0, 0, NULL), 0);
	assert_int_equal(subscribe(fd, space, 6, NULL), 0);
	assert_int_equal(subscribe(fd, space, 2, NULL), 0);
	assert_int_equal(subscribe(fd, space, 2, NULL), 0);
	assert_int_equal(subscribe(fd, 0, 1, NULL), 0);
	assert_int_equal(subscribe(fd, 0, 1, NULL), 0);
	end(fd); /* with both: after bye nothing comes */
	daemon_assert_idle(&d);
}

/* What a router knows of a prompt as it comes, and goes. */
static void test_told(void **state)
{
	int fd = raw_open(d.socket), router = raw_open(d.socket);
	uint32_t space = (uint32_t)raw_open_space(fd, 1), tokens[TOKENS];
	struct name none = { { 0 } }, first;
	uint64_t h[2], next;
	Kvd__Event *e;

	assert_int_equal(subscribe(router, space, 6, &next), 0);
	assert_int_equal(raw_alloc(fd, space, 2, 5000, h, NULL), 0);
	assert_false(readable(router, 20));
	assert_int_equal(publish_after(fd, space, h[0], &none, 0, 5), 0);
	e = next_blocks(router);
	assert_int_equal(e->blocks->space, space);
	assert_int_equal(e->blocks->first, next);
	assert_int_equal(e->blocks->lost, 0);
	assert_false(e->blocks->gone);
	assert_int_equal(e->blocks->kinds.len, 1);
	assert_int_equal(e->blocks->kinds.data[0], WIRE_BLOCK_STORED);
	assert_memory_equal(e->blocks->parents.data, &none, sizeof(none));
	assert_int_equal(e->blocks->extras.len, NAME_BYTES);
	assert_int_equal(e->blocks->depths[0], 0);
	assert_int_equal(e->blocks->classes[0], 1);
	assert_int_equal(e->blocks->n_tokens, TOKENS);
	tokens_of(5, tokens);
	assert_memory_equal(e->blocks->tokens, tokens, sizeof(tokens));
	memcpy(first.b, e->blocks->names.data, NAME_BYTES);
	kvd__event__free_unpacked(e, NULL);

	/* Without tokens, from here on. */
	assert_int_equal(subscribe(router, space, 2, &next), 0);
	assert_int_equal(publish_after(fd, space, h[1], &first, 1, 6), 0);
	e = next_blocks(router);
	assert_int_equal(e->blocks->first, next);
	assert_int_equal(e->blocks->n_tokens, 0);
	assert_int_equal(e->blocks->extras.len, 0);
	assert_int_equal(e->blocks->depths[0], 1);
	assert_memory_equal(e->blocks->parents.data, &first, sizeof(first));
	kvd__event__free_unpacked(e, NULL);

	/* Held pages are not given up; cached ones are, in one frame. */
	reclaim_all(fd);
	assert_false(readable(router, 20));
	assert_int_equal(raw_release(fd, h, 2), 0);
	assert_false(readable(router, 20));
	reclaim_all(fd);
	e = next_blocks(router);
	assert_int_equal(e->blocks->first, next + 1);
	assert_int_equal(e->blocks->kinds.len, 2);
	assert_int_equal(e->blocks->kinds.data[0], WIRE_BLOCK_REMOVED);
	assert_int_equal(e->blocks->kinds.data[1], WIRE_BLOCK_REMOVED);
	assert_int_equal(e->blocks->parents.len, 0);
	assert_int_equal(e->blocks->n_depths, 0);
	kvd__event__free_unpacked(e, NULL);

	/* And no more. */
	assert_int_equal(subscribe(router, space, 0, NULL), 0);
	assert_int_equal(raw_alloc(fd, space, 1, 5000, h, NULL), 0);
	assert_int_equal(raw_publish(fd, space, h[0], 7), 0);
	assert_int_equal(raw_release(fd, h, 1), 0);
	assert_false(readable(router, 50));
	reclaim_all(fd);
	end(fd);
	end(router);
}

/* Of two subscribers each has all of it, and the space dies with neither. */
static void test_drop(void **state)
{
	int fd = raw_open(d.socket), r[2] = { raw_open(d.socket),
					      raw_open(d.socket) };
	uint32_t space = (uint32_t)raw_open_space(fd, 2);
	Kvd__DropRequest req = KVD__DROP_REQUEST__INIT;
	uint32_t stored[2] = { 0 }, removed[2] = { 0 };
	Kvd__Event *e;

	assert_int_equal(subscribe(r[0], space, 2, NULL), 0);
	assert_int_equal(subscribe(r[1], space, 6, NULL), 0);
	churn(fd, space, 0);
	req.space = space;
	assert_int_equal(raw_call(fd, WIRE_DROP, &req.base, NULL, NULL, NULL),
			 0);
	for (int i = 0; i < 2; i++) {
		while (removed[i] < BATCH) {
			e = next_blocks(r[i]);
			assert_int_equal(e->blocks->lost, 0);
			for (size_t j = 0; j < e->blocks->kinds.len; j++) {
				if (e->blocks->kinds.data[j]) {
					removed[i]++;
					/* all had been stored before */
					assert_int_equal(stored[i], BATCH);
				} else {
					stored[i]++;
				}
			}
			kvd__event__free_unpacked(e, NULL);
		}
		assert_int_equal(removed[i], BATCH);
		assert_false(readable(r[i], 20));
		end(r[i]);
	}
	end(fd);
}

/* Others' blocks cannot be asked for, but by an admin, and never come. */
static void test_tenants(void **state)
{
	int fd = raw_open(d.socket), admin = raw_open(d.socket);
	int other = open_other(), worker = open_other();
	uint32_t mine = (uint32_t)raw_open_space(fd, 1), theirs;
	Kvd__Event *e;

	if (other < 0) {
		end(fd);
		end(admin);
		skip();
	}
	theirs = (uint32_t)raw_open_space(other, 1);
	assert_int_not_equal(mine, theirs);
	assert_int_equal(subscribe(other, mine, 2, NULL), -ENOENT);
	assert_int_equal(subscribe(other, mine, 6, NULL), -ENOENT);
	assert_int_equal(subscribe(other, theirs, 2, NULL), 0);
	churn(fd, mine, 0);
	reclaim_all(fd);
	assert_false(readable(other, 50));
	/* An admin by number, without having it open. */
	assert_int_equal(subscribe(admin, theirs, 2, NULL), 0);
	assert_int_equal(raw_open_space(worker, 1), theirs);
	churn(worker, theirs, 0);
	e = next_blocks(admin);
	assert_int_equal(e->blocks->space, theirs);
	kvd__event__free_unpacked(e, NULL);
	e = next_blocks(other);
	assert_int_equal(e->blocks->space, theirs);
	kvd__event__free_unpacked(e, NULL);
	end(worker);
	end(other);
	end(admin);
	end(fd);
}

/* ---- one that does not read ---- */

#define ROUNDS 400u /* of BATCH: more events than ring and socket hold */

static uint64_t evicted(void)
{
	struct daemon_stat st;

	daemon_stat(d.socket, &st);
	return st.evicted;
}

/*
 * While it reads nothing each allocation gets its pages at once, and what it
 * asks itself is answered. Then it learns how much it has missed: numbers and
 * counts add up to what has happened.
 */
static void test_slow(void **state)
{
	int fd = raw_open(d.socket), slow = raw_open(d.socket);
	uint32_t space = (uint32_t)raw_open_space(fd, 3);
	uint64_t next, first, lost = 0, seen = 0, all;
	Kvd__PingRequest ping = KVD__PING_REQUEST__INIT;
	bool answered = false;
	Kvd__Event *e;

	for (uint32_t i = 0; i < POOL; i += BATCH)
		churn(fd, space, 2000000 + i); /* all memory is there */
	reclaim_all(fd);
	all = evicted();
	assert_int_equal(subscribe(slow, space, 2, &next), 0);
	first = next;
	for (uint32_t i = 0; i < ROUNDS; i++)
		churn_within(fd, space, i * BATCH, 0); /* or not at all */
	all = ROUNDS * BATCH + (evicted() - all);
	assert_true(all > 40000);

	assert_int_equal(raw_send_msg(slow, WIRE_PING, 7, &ping.base), 0);
	while (next < first + all || !answered) {
		assert_int_equal(raw_recv(slow, &f), 0);
		if (f.header.id == 7) {
			assert_int_equal(f.header.status, 0);
			answered = true;
			continue;
		}
		e = kvd__event__unpack(NULL, f.header.length, f.payload);
		assert_non_null(e);
		assert_int_equal(e->blocks->first, next + e->blocks->lost);
		lost += e->blocks->lost;
		seen += e->blocks->kinds.len;
		next = e->blocks->first + e->blocks->kinds.len;
		kvd__event__free_unpacked(e, NULL);
	}
	assert_int_equal(next, first + all);
	assert_int_equal(lost + seen, all);
	assert_true(lost > 10000);	/* it was bounded */
	assert_true(seen > 10000);	/* by no less than a ring */
	printf("%llu events, %llu lost\n", (unsigned long long)all,
	       (unsigned long long)lost);
	/* Who reads again misses nothing more. */
	churn(fd, space, 1000000);
	e = next_blocks(slow);
	assert_int_equal(e->blocks->lost, 0);
	assert_int_equal(e->blocks->first, next);
	kvd__event__free_unpacked(e, NULL);
	end(slow);
	end(fd);
}

/* Nothing is owed to one that goes without having read. */
static void test_goes(void **state)
{
	int fd = raw_open(d.socket);
	uint32_t space = (uint32_t)raw_open_space(fd, 3);

	for (int i = 0; i < 20; i++) {
		int gone = raw_open(d.socket);

		assert_int_equal(subscribe(gone, space, i % 2 ? 2 : 6, NULL),
				 0);
		churn(fd, space, (uint32_t)i * BATCH);
		close(gone);
		churn(fd, space, 100000 + (uint32_t)i * BATCH);
	}
	end(fd);
	daemon_assert_idle(&d);
}

static void close_space(int fd, uint32_t space)
{
	Kvd__CloseSpaceRequest req = KVD__CLOSE_SPACE_REQUEST__INIT;

	req.space = space;
	assert_int_equal(raw_call(fd, WIRE_CLOSE_SPACE, &req.base, NULL, NULL,
				  NULL), 0);
}

/* Reads to the end of the space. Return: events, those lost among them. */
static uint64_t read_to_end(int fd, uint32_t space, uint64_t next,
			    uint64_t *ret_lost)
{
	uint64_t first = next;
	bool gone = false;
	Kvd__Event *e;

	*ret_lost = 0;
	while (!gone) {
		e = next_blocks(fd);
		assert_int_equal(e->blocks->space, space);
		assert_int_equal(e->blocks->first, next + e->blocks->lost);
		next = e->blocks->first + e->blocks->kinds.len;
		*ret_lost += e->blocks->lost;
		gone = e->blocks->gone;
		kvd__event__free_unpacked(e, NULL);
	}
	return next - first;
}

/* A space is not kept for who only watches it. That it goes is the last that
 * is told of it, also to one that reads only then. */
static void test_gone(void **state)
{
	int fd = raw_open(d.socket), reads = raw_open(d.socket);
	int slow = raw_open(d.socket);
	uint32_t space = (uint32_t)raw_open_space(fd, 200), id = 0;
	uint64_t next, slow_next, lost, all;

	reclaim_all(fd);
	all = evicted();
	assert_int_equal(subscribe(slow, space, 6, &slow_next), 0);
	for (uint32_t i = 0; i < 200; i++)
		churn(fd, space, i * BATCH);
	all = 200 * BATCH + (evicted() - all);
	assert_int_equal(subscribe(reads, space, 2, &next), 0);
	close_space(fd, space);
	for (uint8_t i = 0; i < 64; i++) { /* a tenant has no more */
		int other = raw_open_space(fd, 120 + i);

		if ((uint32_t)other == space)
			id = space;
	}
	assert_int_equal(id, space); /* it is another's now */
	assert_int_equal(read_to_end(reads, space, next, &lost), POOL);
	assert_int_equal(lost, 0);
	assert_int_equal(read_to_end(slow, space, slow_next, &lost),
			 all + POOL);
	assert_true(lost > 1000);
	/* Of that other one nothing was asked, but may be. */
	churn(fd, space, 0);
	assert_false(readable(reads, 20) || readable(slow, 20));
	assert_int_equal(subscribe(reads, space, 2, &next), 0);
	churn(fd, space, 10000);
	kvd__event__free_unpacked(next_blocks(reads), NULL);
	end(slow);
	end(reads);
	end(fd);
}

/* So many spaces, and no more, of one connection. */
static void test_many(void **state)
{
	int fd = raw_open(d.socket), other = open_other();
	uint32_t space = 0;

	if (other < 0) {
		end(fd);
		skip();
	}
	for (uint8_t i = 0; i < 64; i++) {
		space = (uint32_t)raw_open_space(fd, 120 + i);
		assert_int_equal(subscribe(fd, space, 2, NULL), 0);
	}
	assert_int_equal(subscribe(fd, space, 6, NULL), 0); /* instead */
	space = (uint32_t)raw_open_space(other, 1);
	assert_int_equal(subscribe(fd, space, 2, NULL), -EBUSY);
	assert_int_equal(subscribe(fd, space, 0, NULL), 0);
	end(other);
	end(fd);
}

/* So many connections, and no more, of one space. */
static void test_crowd(void **state)
{
	int fd[65];
	uint32_t space = 0;

	for (int i = 0; i < 65; i++) {
		fd[i] = raw_open(d.socket);
		space = (uint32_t)raw_open_space(fd[i], 1);
		assert_int_equal(subscribe(fd[i], space, i % 2 ? 2 : 6, NULL),
				 i < 64 ? 0 : -EBUSY);
	}
	assert_int_equal(subscribe(fd[3], space, 6, NULL), 0); /* instead */
	end(fd[5]);
	assert_int_equal(subscribe(fd[64], space, 2, NULL), 0);
	churn(fd[64], space, 0);
	for (int i = 0; i < 65; i++)
		if (i != 5)
			end(fd[i]);
	daemon_assert_idle(&d);
}

/* ---- levels ---- */

static void set_max(int fd, uint64_t bytes)
{
	Kvd__TenantSetRequest req = KVD__TENANT_SET_REQUEST__INIT;

	req.name = ours;
	req.keys = 4;
	req.max = bytes;
	req.runtime = true;
	assert_int_equal(raw_call(fd, WIRE_TENANT_SET, &req.base, NULL, NULL,
				  NULL), 0);
}

/* The next event says so. */
static void assert_levels(int fd, uint32_t pool, uint32_t tenant)
{
	Kvd__Event *e = next_event(fd);

	assert_int_equal(e->kind, KVD__EVENT__KIND__PRESSURE);
	assert_non_null(e->pressure);
	assert_int_equal(e->pressure->pool, pool);
	assert_int_equal(e->pressure->tenant, tenant);
	kvd__event__free_unpacked(e, NULL);
}

/* A tenant that is refused is in need, and the pool is not; one that takes the
 * last page of the pool makes both so. It is over when nobody is refused. */
static void test_levels(void **state)
{
	int fd = raw_open(d.socket), sub = raw_open(d.socket);
	uint32_t space = (uint32_t)raw_open_space(fd, 1);
	static uint64_t h[POOL], one;
	int64_t t;

	reclaim_all(fd);
	assert_int_equal(subscribe(sub, 0, 1, NULL), 0);
	assert_int_equal(raw_alloc(fd, space, 4, 5000, h, NULL), 0);
	assert_false(readable(sub, 50));
	set_max(fd, 8 * 32768);
	assert_int_equal(raw_alloc(fd, space, 8, 0, h + 4, NULL), -EDQUOT);
	t = now_ms();
	assert_levels(sub, 0, 2);
	assert_true(now_ms() - t < 1000); /* at once */
	/* Again, and nothing has changed. */
	assert_int_equal(raw_alloc(fd, space, 8, 0, h + 4, NULL), -EDQUOT);
	assert_false(readable(sub, 100));
	assert_levels(sub, 0, 0);
	assert_true(now_ms() - t >= 2900); /* 1 s for which it counts, and 2 */
	set_max(fd, 0);
	assert_int_equal(raw_alloc(fd, space, POOL - 4, 5000, h + 4, NULL), 0);
	assert_false(readable(sub, 50));
	assert_int_equal(raw_alloc(fd, space, 1, 0, &one, NULL), -ENOSPC);
	assert_levels(sub, 2, 2);
	assert_levels(sub, 0, 0);
	assert_int_equal(subscribe(sub, 0, 0, NULL), 0);
	assert_int_equal(raw_alloc(fd, space, 1, 0, &one, NULL), -ENOSPC);
	assert_false(readable(sub, 100));
	assert_int_equal(raw_release(fd, h, POOL), 0);
	end(sub);
	end(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_masks),
		cmocka_unit_test(test_told),
		cmocka_unit_test(test_drop),
		cmocka_unit_test(test_tenants),
		cmocka_unit_test(test_slow),
		cmocka_unit_test(test_goes),
		cmocka_unit_test(test_levels),
		cmocka_unit_test(test_gone),
		cmocka_unit_test(test_many),
		cmocka_unit_test(test_crowd),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
