// SPDX-License-Identifier: Apache-2.0
/*
 * test_demand.c - pages given up, and the index shown, on demand: to whom, and
 * what is refused.
 *
 * Pages are 32 KiB. We are the daemon's own user, so an admin; as root we can
 * be another user too, and where we are not, what needs two is skipped.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>
#include "tests/support/daemon.h"
#include "tests/support/raw.h"

#define PAGE  32768ull
#define OTHER 4242

static struct daemon d;
static struct raw_frame f;
static char name[32];		/* of our tenant */

static int setup(void **state)
{
	const char *const args[] = { "--pool", "16M", "--segment", "8M",
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

/* @nr pages cached, of prompts that begin with token 32 * @seed and on. */
static void cache(int fd, uint32_t space, uint32_t nr, uint32_t seed)
{
	uint64_t h[64];

	assert_int_equal(raw_alloc(fd, space, nr, 5000, h, NULL), 0);
	for (uint32_t i = 0; i < nr; i++)
		assert_int_equal(raw_publish(fd, space, h[i], seed + i), 0);
	assert_int_equal(raw_release(fd, h, nr), 0);
}

static uint64_t cached(void)
{
	struct daemon_stat st;

	daemon_stat(d.socket, &st);
	return st.cached;
}

/* Return: bytes, or a negative errno; f is the frame. */
static int64_t reclaim(int fd, const char *tenant, uint64_t bytes)
{
	Kvd__ReclaimRequest req = KVD__RECLAIM_REQUEST__INIT;
	Kvd__ReclaimReply *reply;
	int64_t r;

	req.tenant = (char *)(uintptr_t)tenant;
	req.bytes = bytes;
	r = raw_call(fd, WIRE_RECLAIM, &req.base,
		     &kvd__reclaim_reply__descriptor, &reply, &f);
	if (r < 0)
		return r;
	r = (int64_t)reply->bytes;
	assert_int_equal(reply->pages * PAGE, reply->bytes);
	assert_false(reply->more);
	kvd__reclaim_reply__free_unpacked(reply, NULL);
	return r;
}

/* Return: pages, or a negative errno. */
static int64_t drop(int fd, uint32_t space, uint64_t *serial, uint32_t from)
{
	Kvd__DropRequest req = KVD__DROP_REQUEST__INIT;
	Kvd__DropReply *reply;
	int64_t r;

	req.space = space;
	req.serial = *serial;
	req.from = from;
	r = raw_call(fd, WIRE_DROP, &req.base, &kvd__drop_reply__descriptor,
		     &reply, &f);
	if (r < 0)
		return r;
	r = (int64_t)reply->pages;
	*serial = reply->serial;
	assert_int_equal(reply->next, 0);
	kvd__drop_reply__free_unpacked(reply, NULL);
	return r;
}

/* Status of it; the reply is the caller's to free. */
static int survey(int fd, Kvd__IndexRequest *req, Kvd__IndexReply **ret)
{
	return raw_call(fd, WIRE_INDEX, &req->base,
			&kvd__index_reply__descriptor, ret, &f);
}

static void test_reclaim(void **state)
{
	int fd = raw_open(d.socket);
	uint32_t space = (uint32_t)raw_open_space(fd, 1);

	assert_int_equal(reclaim(fd, name, 1), 0);
	cache(fd, space, 10, 0);
	assert_int_equal(reclaim(fd, name, 2 * PAGE), 2 * PAGE);
	assert_int_equal(reclaim(fd, "", 3 * PAGE - 1), 3 * PAGE);
	assert_int_equal(cached(), 5);
	assert_int_equal(reclaim(fd, name, 0), -EINVAL);
	assert_int_equal(reclaim(fd, "nobody", 1), -ENOENT);
	assert_non_null(strstr(raw_error(&f), "no tenant nobody"));
	assert_int_equal(reclaim(fd, "12345678901234567890123456789012", 1),
			 -ENOENT);
	assert_int_equal(cached(), 5);
	assert_int_equal(reclaim(fd, "", UINT64_MAX), 5 * PAGE);
	assert_int_equal(cached(), 0);
	end(fd);
}

static void test_drop(void **state)
{
	int fd = raw_open(d.socket);
	uint32_t space = (uint32_t)raw_open_space(fd, 1);
	uint32_t other = (uint32_t)raw_open_space(fd, 2);
	uint64_t serial = 0, held;

	cache(fd, space, 10, 0);
	cache(fd, other, 4, 0);
	assert_int_equal(raw_alloc(fd, space, 1, 5000, &held, NULL), 0);
	assert_int_equal(drop(fd, 0, &serial, 0), -ENOENT);
	assert_int_equal(drop(fd, 99, &serial, 0), -ENOENT);
	assert_non_null(strstr(raw_error(&f), "no space 99"));
	assert_int_equal(drop(fd, UINT32_MAX, &serial, 0), -ENOENT);
	assert_int_equal(cached(), 14);
	assert_int_equal(drop(fd, space, &serial, UINT32_MAX), 0);
	assert_int_equal(drop(fd, other, &serial, 1), -ENOENT);
	assert_non_null(strstr(raw_error(&f), "recycled"));
	assert_int_equal(drop(fd, space, &serial, 1), 10);
	assert_int_equal(cached(), 4);
	serial = 0;
	assert_int_equal(drop(fd, other, &serial, 0), 4);
	assert_int_equal(raw_release(fd, &held, 1), 0);
	end(fd);
}

static void test_index(void **state)
{
	Kvd__IndexRequest req = KVD__INDEX_REQUEST__INIT;
	Kvd__IndexReply *reply;
	int fd = raw_open(d.socket);
	uint64_t serial = 0;

	req.space = (uint32_t)raw_open_space(fd, 1);
	req.top = 3;
	cache(fd, req.space, 5, 100);
	assert_int_equal(survey(fd, &req, &reply), 0);
	assert_int_equal(reply->next, 0);
	assert_int_equal(reply->blocks, 5);
	assert_int_equal(reply->pages, 5);
	assert_int_equal(reply->n_roots, 3);
	assert_int_equal(reply->roots[0]->n_tokens, 8);
	assert_int_equal(reply->roots[0]->tokens[7],
			 reply->roots[0]->tokens[0] + 7);
	req.below = reply->roots[0]->block;
	kvd__index_reply__free_unpacked(reply, NULL);
	assert_int_equal(survey(fd, &req, &reply), 0);
	assert_int_equal(reply->below, 0);
	assert_int_equal(reply->blocks, 0);
	kvd__index_reply__free_unpacked(reply, NULL);
	req.below = UINT32_MAX;
	assert_int_equal(survey(fd, &req, &reply), 0);
	assert_int_equal(reply->below, 0);
	kvd__index_reply__free_unpacked(reply, NULL);
	req.below = 0;
	req.from = UINT32_MAX;
	assert_int_equal(survey(fd, &req, &reply), 0);
	assert_int_equal(reply->blocks, 0);
	kvd__index_reply__free_unpacked(reply, NULL);
	req.top = 65;
	assert_int_equal(survey(fd, &req, &reply), -EINVAL);
	req.top = 0;
	req.serial = UINT64_MAX;
	assert_int_equal(survey(fd, &req, &reply), -ENOENT);
	assert_int_equal(drop(fd, req.space, &serial, 0), 5);
	req.space = 99;
	assert_int_equal(survey(fd, &req, &reply), -ENOENT);
	end(fd);
}

/* Another user has all of it for its own tenant, and nothing of others'. */
static void test_not_admin(void **state)
{
	Kvd__IndexRequest req = KVD__INDEX_REQUEST__INIT;
	Kvd__IndexReply *reply;
	int fd = raw_open(d.socket), other = open_other();
	uint32_t ours = (uint32_t)raw_open_space(fd, 1), theirs;
	uint64_t serial = 0;

	if (other < 0) {
		end(fd);
		skip();
	}
	theirs = (uint32_t)raw_open_space(other, 1);
	cache(fd, ours, 6, 0);
	cache(other, theirs, 7, 0);
	assert_int_equal(reclaim(other, "", 1), -EACCES);
	assert_non_null(strstr(raw_error(&f), "your own tenant, uid-4242"));
	assert_int_equal(reclaim(other, name, 1), -EACCES);
	assert_int_equal(reclaim(other, "nobody", 1), -EACCES);
	assert_int_equal(drop(other, ours, &serial, 0), -ENOENT);
	req.space = ours;
	assert_int_equal(survey(other, &req, &reply), -ENOENT);
	assert_int_equal(cached(), 13);
	req.space = theirs;
	assert_int_equal(survey(other, &req, &reply), 0);
	assert_int_equal(reply->blocks, 7);
	kvd__index_reply__free_unpacked(reply, NULL);
	assert_int_equal(reclaim(other, "uid-4242", 2 * PAGE), 2 * PAGE);
	assert_int_equal(drop(other, theirs, &serial, 0), 5);
	assert_int_equal(cached(), 6);
	assert_int_equal(reclaim(fd, "uid-4242", 1), 0);
	assert_int_equal(reclaim(fd, "", UINT64_MAX), 6 * PAGE);
	end(other);
	end(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reclaim),
		cmocka_unit_test(test_drop),
		cmocka_unit_test(test_index),
		cmocka_unit_test(test_not_admin),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
