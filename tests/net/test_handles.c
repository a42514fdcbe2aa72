// SPDX-License-Identifier: Apache-2.0
/*
 * test_handles.c - counts, handles and spaces that are out of place.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include "proto/shm.h"
#include "tests/support/daemon.h"
#include "tests/support/raw.h"

static struct daemon d;
static struct raw_frame f;

static int setup(void **state)
{
	daemon_start(&d, NULL);
	return 0;
}

static int teardown(void **state)
{
	daemon_assert_idle(&d);
	daemon_stop(&d);
	return 0;
}

/* Counts near 2^32 are refused before anything is reserved for them. */
static void test_counts(void **state)
{
	static const uint32_t counts[] = { 0, WIRE_MAX_PAGES + 1, 1u << 31,
					   UINT32_MAX - 1, UINT32_MAX };
	Kvd__AllocRequest req = KVD__ALLOC_REQUEST__INIT;
	int fd = raw_open(d.socket);
	unsigned i;

	req.space = (uint32_t)raw_open_space(fd, 1);
	for (i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
		req.count = counts[i];
		assert_int_equal(raw_call(fd, WIRE_ALLOC, &req.base, NULL,
					  NULL, &f), -EINVAL);
		assert_non_null(strstr(raw_error(&f), "512"));
	}
	req.count = 1;
	req.page_class = UINT32_MAX;
	assert_int_equal(raw_call(fd, WIRE_ALLOC, &req.base, NULL, NULL, NULL),
			 -EINVAL);
	raw_bye(fd);
	close(fd);
}

/* Geometry fields near 2^32: the one that is wrong is named. */
static void test_geometry(void **state)
{
	Kvd__OpenSpaceRequest req = KVD__OPEN_SPACE_REQUEST__INIT;
	Kvd__Geometry g = KVD__GEOMETRY__INIT;
	Kvd__Group group = KVD__GROUP__INIT;
	Kvd__Group *groups[9] = { &group, &group, &group, &group, &group,
				  &group, &group, &group, &group };
	uint8_t model[32] = { 0 };
	int fd = raw_open(d.socket);

	req.tp_size = 1;
	assert_int_equal(raw_call(fd, WIRE_OPEN_SPACE, &req.base, NULL, NULL,
				  &f), -EINVAL);
	assert_non_null(strstr(raw_error(&f), "model"));
	req.model.data = model;
	req.model.len = 32;
	assert_int_equal(raw_call(fd, WIRE_OPEN_SPACE, &req.base, NULL, NULL,
				  &f), -EINVAL);
	assert_non_null(strstr(raw_error(&f), "geometry"));
	req.geometry = &g;
	g.page_tokens = 64;
	g.groups = groups;
	g.n_groups = 9;
	assert_int_equal(raw_call(fd, WIRE_OPEN_SPACE, &req.base, NULL, NULL,
				  NULL), -EINVAL);
	g.n_groups = 1;
	group.nr_layers = group.nr_kv_heads = UINT32_MAX;
	group.k_dim = group.v_dim = UINT32_MAX;
	assert_int_equal(raw_call(fd, WIRE_OPEN_SPACE, &req.base, NULL, NULL,
				  NULL), -EINVAL);
	group.nr_layers = group.nr_kv_heads = 512;
	group.k_dim = group.v_dim = 1024; /* each allowed, the page is not */
	assert_int_equal(raw_call(fd, WIRE_OPEN_SPACE, &req.base, NULL, NULL,
				  NULL), -EINVAL);
	group.nr_layers = group.nr_kv_heads = 1;
	group.k_dim = group.v_dim = 64;
	req.tp_rank = 4;
	req.tp_size = 4;
	assert_int_equal(raw_call(fd, WIRE_OPEN_SPACE, &req.base, NULL, NULL,
				  &f), -EINVAL);
	assert_non_null(strstr(raw_error(&f), "tp_rank"));
	close(fd);
}

static void test_stale(void **state)
{
	int fd = raw_open(d.socket), space;
	uint64_t h, again;

	space = raw_open_space(fd, 1);
	assert_int_equal(raw_alloc(fd, (uint32_t)space, 1, 1000, &h, NULL), 0);
	assert_int_equal(raw_release(fd, &h, 1), 0);
	assert_int_equal(raw_release(fd, &h, 1), -ESTALE);
	assert_int_equal(raw_publish(fd, (uint32_t)space, h, 1), -ESTALE);
	assert_int_equal(raw_match(fd, (uint32_t)space, &h, 1), 0);
	assert_int_equal(raw_claim(fd, (uint32_t)space, h), 0);
	assert_int_equal(raw_alloc(fd, (uint32_t)space, 1, 1000, &again, NULL),
			 0);
	assert_int_not_equal(h, again);
	assert_int_equal(raw_release(fd, &again, 1), 0);
	close(fd);
}

static void test_foreign(void **state)
{
	int a = raw_open(d.socket), b = raw_open(d.socket);
	uint32_t sa = (uint32_t)raw_open_space(a, 1);
	uint32_t sb = (uint32_t)raw_open_space(b, 2);
	uint64_t h, made_up[] = { 0, UINT64_MAX, handle_make(1, UINT32_MAX),
				  handle_make(UINT32_MAX, 1) };
	Kvd__ReferenceRequest ref = KVD__REFERENCE_REQUEST__INIT;
	unsigned i;

	assert_int_equal(raw_alloc(a, sa, 1, 1000, &h, NULL), 0);
	/* An open page is its writer's alone. */
	assert_int_equal(raw_release(b, &h, 1), -ESTALE);
	assert_int_equal(raw_publish(b, sb, h, 1), -ESTALE);
	assert_int_equal(raw_match(b, sb, &h, 1), 0);
	assert_int_equal(raw_claim(b, sb, h), 0);
	ref.n_handles = 1;
	ref.handles = &h;
	assert_int_equal(raw_call(b, WIRE_REFERENCE, &ref.base, NULL, NULL,
				  NULL), -ESTALE);
	/* A published one is found in its own space only. */
	assert_int_equal(raw_publish(a, sa, h, 1), 0);
	assert_int_equal(raw_match(b, sb, &h, 1), 0);
	for (i = 1; i < 4; i++) {
		assert_int_equal(raw_release(a, &made_up[i], 1), -ESTALE);
		assert_int_equal(raw_publish(a, sa, made_up[i], 3), -ESTALE);
		assert_int_equal(raw_match(a, sa, &made_up[i], 1), 0);
		assert_int_equal(raw_claim(a, sa, made_up[i]), 0);
	}
	assert_int_equal(raw_release(a, &made_up[0], 1), -ESTALE);
	raw_bye(a);
	raw_bye(b);
	close(a);
	close(b);
}

/* A space is known to those who opened it. */
static void test_spaces(void **state)
{
	int a = raw_open(d.socket), b = raw_open(d.socket);
	uint32_t sa = (uint32_t)raw_open_space(a, 1);
	Kvd__CloseSpaceRequest close_req = KVD__CLOSE_SPACE_REQUEST__INIT;
	Kvd__MapRequest map = KVD__MAP_REQUEST__INIT;
	uint32_t segments[] = { UINT32_MAX, UINT32_MAX };
	uint64_t h;

	assert_int_equal(raw_alloc(b, sa, 1, 0, &h, NULL), -ENOENT);
	assert_int_equal(raw_match(b, sa, &h, 1), -ENOENT);
	assert_int_equal(raw_publish(b, sa, 1, 1), -ENOENT);
	close_req.space = sa;
	assert_int_equal(raw_call(b, WIRE_CLOSE_SPACE, &close_req.base, NULL,
				  NULL, NULL), -ENOENT);
	map.space = sa;
	map.n_segments = 1;
	map.segments = segments;
	assert_int_equal(raw_call(b, WIRE_MAP, &map.base, NULL, NULL, NULL),
			 -ENOENT);
	assert_int_equal(raw_call(a, WIRE_MAP, &map.base, NULL, NULL, NULL),
			 -ENOENT);
	map.n_segments = 2; /* the same twice */
	assert_int_equal(raw_call(a, WIRE_MAP, &map.base, NULL, NULL, NULL),
			 -EINVAL);
	map.n_segments = 0;
	assert_int_equal(raw_call(a, WIRE_MAP, &map.base, NULL, NULL, NULL),
			 -EINVAL);
	assert_int_equal(raw_call(a, WIRE_CLOSE_SPACE, &close_req.base, NULL,
				  NULL, NULL), 0);
	assert_int_equal(raw_call(a, WIRE_CLOSE_SPACE, &close_req.base, NULL,
				  NULL, NULL), -ENOENT);
	close(a);
	close(b);
}

/* Blocks that do not fit the geometry change nothing. */
static void test_blocks(void **state)
{
	Kvd__PublishRequest req = KVD__PUBLISH_REQUEST__INIT;
	Kvd__Block block = KVD__BLOCK__INIT, *blocks = &block;
	uint8_t name[16] = { 0 };
	uint32_t tokens[64] = { 0 };
	uint64_t handles[2] = { 0 };
	int fd = raw_open(d.socket);

	req.space = (uint32_t)raw_open_space(fd, 1);
	assert_int_equal(raw_alloc(fd, req.space, 1, 1000, handles, NULL), 0);
	req.n_blocks = 1;
	req.blocks = &blocks;
	block.tokens = tokens;
	block.handles = handles;
	block.n_tokens = 32;
	block.n_handles = 1;
	assert_int_equal(raw_call(fd, WIRE_PUBLISH, &req.base, NULL, NULL, &f),
			 -EINVAL);
	assert_non_null(strstr(raw_error(&f), "parent"));
	block.parent.data = block.extra.data = name;
	block.parent.len = 16;
	block.extra.len = 15;
	assert_int_equal(raw_call(fd, WIRE_PUBLISH, &req.base, NULL, NULL,
				  NULL), -EINVAL);
	block.extra.len = 0;
	block.n_tokens = 33;
	assert_int_equal(raw_call(fd, WIRE_PUBLISH, &req.base, NULL, NULL, &f),
			 -EINVAL);
	assert_non_null(strstr(raw_error(&f), "33 tokens"));
	block.n_tokens = 32;
	block.n_handles = 2;
	assert_int_equal(raw_call(fd, WIRE_PUBLISH, &req.base, NULL, NULL, &f),
			 -EINVAL);
	assert_non_null(strstr(raw_error(&f), "2 handles"));
	assert_int_equal(raw_release(fd, handles, 1), 0);
	close(fd);
}

/* A request that fails half-way leaves no holds that nobody knows of. */
static void test_half_published(void **state)
{
	Kvd__PublishRequest req = KVD__PUBLISH_REQUEST__INIT;
	Kvd__Block block[2] = { KVD__BLOCK__INIT, KVD__BLOCK__INIT };
	Kvd__Block *blocks[] = { &block[0], &block[1] };
	uint8_t name[16] = { 0 };
	uint32_t tokens[32], i;
	uint64_t h[3];
	int fd = raw_open(d.socket);

	req.space = (uint32_t)raw_open_space(fd, 1);
	assert_int_equal(raw_alloc(fd, req.space, 2, 1000, h, NULL), 0);
	assert_int_equal(raw_publish(fd, req.space, h[0], 5), 0);
	h[2] = h[1] + 1; /* not ours */
	for (i = 0; i < 32; i++)
		tokens[i] = 5 * 32 + i;
	for (i = 0; i < 2; i++) {
		block[i].parent.data = name;
		block[i].parent.len = sizeof(name);
		block[i].n_tokens = 32;
		block[i].tokens = tokens;
		block[i].n_handles = 1;
		block[i].handles = &h[1 + i];
	}
	req.n_blocks = 2;
	req.blocks = blocks;
	assert_int_equal(raw_call(fd, WIRE_PUBLISH, &req.base, NULL, NULL, &f),
			 -ESTALE);
	assert_non_null(strstr(raw_error(&f), "block 1 of 2"));
	assert_int_equal(raw_release(fd, h, 2), 0);
	assert_int_equal(raw_release(fd, h, 1), -ESTALE);
	close(fd);
}

static void test_read_only(void **state)
{
	Kvd__OpenSpaceRequest req = KVD__OPEN_SPACE_REQUEST__INIT;
	Kvd__Geometry g = KVD__GEOMETRY__INIT;
	Kvd__Group group = KVD__GROUP__INIT, *groups = &group;
	Kvd__OpenSpaceReply *reply;
	uint8_t model[32] = { 7 };
	int fd = raw_open(d.socket);
	uint64_t h;

	req.model.data = model;
	req.model.len = 32;
	req.geometry = &g;
	req.tp_size = 1;
	req.read_only = 1;
	g.page_tokens = 32;
	g.n_groups = 1;
	g.groups = &groups;
	group.nr_layers = group.nr_kv_heads = 1;
	group.k_dim = group.v_dim = 32;
	assert_int_equal(raw_call(fd, WIRE_OPEN_SPACE, &req.base,
				  &kvd__open_space_reply__descriptor, &reply,
				  &f), 0);
	assert_int_equal(f.nr_fds, 2);
	close(f.fds[0]);
	close(f.fds[1]);
	assert_int_equal(reply->n_classes, 1);
	assert_int_equal(reply->name_key.len, 32);
	assert_int_equal(raw_alloc(fd, reply->space, 1, 0, &h, NULL), -EACCES);
	assert_int_equal(raw_publish(fd, reply->space, 1, 1), -EACCES);
	kvd__open_space_reply__free_unpacked(reply, NULL);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_counts),
		cmocka_unit_test(test_geometry),
		cmocka_unit_test(test_stale),
		cmocka_unit_test(test_foreign),
		cmocka_unit_test(test_spaces),
		cmocka_unit_test(test_blocks),
		cmocka_unit_test(test_half_published),
		cmocka_unit_test(test_read_only),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
