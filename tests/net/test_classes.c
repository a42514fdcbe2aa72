// SPDX-License-Identifier: Apache-2.0
/*
 * test_classes.c - a space whose pages are filled in one format and sealed in
 * another: its classes over the socket.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include "kvd/geometry.h"
#include "tests/support/daemon.h"
#include "tests/support/raw.h"

#define TOKENS 32

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

/*
 * Two groups of one layer and head of 64, the second exact. Return: as
 * raw_call(), the reply in *ret; a refusal is in f.
 */
static int open_space(int fd, Kvd__Geometry *g, Kvd__OpenSpaceReply **ret)
{
	Kvd__OpenSpaceRequest req = KVD__OPEN_SPACE_REQUEST__INIT;
	Kvd__Group group[2] = { KVD__GROUP__INIT, KVD__GROUP__INIT };
	Kvd__Group *groups[2] = { &group[0], &group[1] };
	uint8_t model[32] = { 1 };
	int r;

	for (int i = 0; i < 2; i++) {
		group[i].nr_layers = group[i].nr_kv_heads = 1;
		group[i].k_dim = group[i].v_dim = 64;
		group[i].exact = (uint32_t)i;
	}
	g->page_tokens = TOKENS;
	g->groups = groups;
	g->n_groups = 2;
	req.model.data = model;
	req.model.len = sizeof(model);
	req.geometry = g;
	req.tp_size = 1;
	r = raw_call(fd, WIRE_OPEN_SPACE, &req.base,
		     &kvd__open_space_reply__descriptor, ret, &f);
	while (f.nr_fds > 0)
		close(f.fds[--f.nr_fds]);
	return r;
}

/* Class 0 is filled, 1 exact, 2 sealed of group 0. Return: space. */
static uint32_t open_kivi(int fd)
{
	Kvd__Geometry g = KVD__GEOMETRY__INIT;
	Kvd__OpenSpaceReply *reply;
	uint32_t space;

	g.k_format = KVD_KIVI4;
	g.v_format = KVD_KIVI2;
	g.open_format = KVD_BF16;
	assert_int_equal(open_space(fd, &g, &reply), 0);
	space = reply->space;
	kvd__open_space_reply__free_unpacked(reply, NULL);
	return space;
}

static void expect_class(const Kvd__PageClass *c, uint32_t group, uint32_t k,
			 uint32_t v, uint32_t bytes)
{
	assert_int_equal(c->group, group);
	assert_int_equal(c->k_format, k);
	assert_int_equal(c->v_format, v);
	assert_int_equal(c->page_bytes, bytes);
}

static void test_open(void **state)
{
	Kvd__Geometry g = KVD__GEOMETRY__INIT;
	Kvd__OpenSpaceReply *reply;
	int fd = raw_open(d.socket);

	g.k_format = KVD_KIVI4;
	g.v_format = KVD_KIVI2;
	g.open_format = KVD_BF16;
	assert_int_equal(open_space(fd, &g, &reply), 0);
	assert_int_equal(reply->n_classes, 3);
	expect_class(reply->classes[0], 0, KVD_BF16, KVD_BF16, 8192);
	expect_class(reply->classes[1], 1, KVD_BF16, KVD_BF16, 8192);
	/* 32 tokens: 1024 + 256 of K, 512 + 128 of V, in steps of 256. */
	expect_class(reply->classes[2], 0, KVD_KIVI4, KVD_KIVI2, 2048);
	kvd__open_space_reply__free_unpacked(reply, NULL);
	close(fd);
}

/* What only a calibrated model can have says how to come by it. */
static void test_profile(void **state)
{
	static const uint32_t formats[] = { KVD_KVQUANT4, KVD_KVQUANT3,
					    KVD_KVQUANT2, KVD_OSCAR2 };
	Kvd__OpenSpaceReply *reply;
	int fd = raw_open(d.socket);

	for (unsigned i = 0; i < 4; i++) {
		Kvd__Geometry g = KVD__GEOMETRY__INIT;

		g.k_format = g.v_format = formats[i];
		g.rope_order = KVD_ROPE_PRE;
		assert_int_equal(open_space(fd, &g, &reply), -EINVAL);
		assert_non_null(strstr(raw_error(&f), "kvctl calibrate"));
		g.profile = 1;
		assert_int_equal(open_space(fd, &g, &reply), 0);
		assert_int_equal(reply->n_classes, 3);
		kvd__open_space_reply__free_unpacked(reply, NULL);
	}
	close(fd);
}

/* ---- publishing ---- */

static uint64_t alloc(int fd, uint32_t space, uint32_t class)
{
	Kvd__AllocRequest req = KVD__ALLOC_REQUEST__INIT;
	Kvd__AllocReply *reply;
	uint64_t h;

	req.space = space;
	req.page_class = class;
	req.count = 1;
	req.deadline_ms = 1000;
	assert_int_equal(raw_call(fd, WIRE_ALLOC, &req.base,
				  &kvd__alloc_reply__descriptor, &reply, NULL),
			 0);
	assert_int_equal(reply->n_handles, 1);
	h = reply->handles[0];
	kvd__alloc_reply__free_unpacked(reply, NULL);
	return h;
}

/* The first block of a prompt that begins with @token, of @nr handles. */
static int publish(int fd, uint32_t space, uint32_t token, uint64_t *handles,
		   size_t nr, uint64_t *out)
{
	Kvd__PublishRequest req = KVD__PUBLISH_REQUEST__INIT;
	Kvd__Block block = KVD__BLOCK__INIT, *blocks = &block;
	Kvd__PublishReply *reply;
	uint32_t tokens[TOKENS] = { token };
	uint8_t name[16] = { 0 };
	int r;

	block.parent.data = name;
	block.parent.len = sizeof(name);
	block.tokens = tokens;
	block.n_tokens = TOKENS;
	block.handles = handles;
	block.n_handles = nr;
	req.space = space;
	req.n_blocks = 1;
	req.blocks = &blocks;
	r = raw_call(fd, WIRE_PUBLISH, &req.base,
		     &kvd__publish_reply__descriptor, &reply, &f);
	if (r < 0)
		return r;
	assert_int_equal(reply->n_handles, nr);
	assert_int_equal(reply->n_places, nr);
	memcpy(out, reply->handles, nr * sizeof(*out));
	kvd__publish_reply__free_unpacked(reply, NULL);
	return 0;
}

static void test_wrong_slot(void **state)
{
	int fd = raw_open(d.socket);
	uint32_t space = open_kivi(fd);
	uint64_t h[3], swapped[3] = { 0 }, out[3];

	for (uint32_t i = 0; i < 3; i++)
		h[i] = alloc(fd, space, i);
	/* One per class, not per group. */
	assert_int_equal(publish(fd, space, 1, h, 2, out), -EINVAL);
	assert_non_null(strstr(raw_error(&f), "2 handles for 3 classes"));
	swapped[0] = h[2];
	assert_int_equal(publish(fd, space, 1, swapped, 3, out), -EINVAL);
	assert_non_null(strstr(raw_error(&f), "another class"));
	swapped[2] = h[0];
	assert_int_equal(publish(fd, space, 1, swapped, 3, out), -EINVAL);
	/* Nothing has changed: all three are still open. */
	assert_int_equal(publish(fd, space, 1, h, 3, out), 0);
	assert_memory_equal(out, h, sizeof(h));
	assert_int_equal(raw_release(fd, h, 3), 0);
	close(fd);
}

static void test_publish(void **state)
{
	int a = raw_open(d.socket), b = raw_open(d.socket);
	uint32_t space = open_kivi(a);
	uint64_t h[3] = { 0 }, late[3] = { 0 }, mine[3], out[3];

	assert_int_equal(open_kivi(b), space);
	/* Exact first, sealed later; the other client has all at once. */
	h[0] = alloc(a, space, 0);
	assert_int_equal(publish(a, space, 2, h, 3, out), 0);
	assert_int_equal(out[0], h[0]);
	assert_true(out[1] == 0 && out[2] == 0);
	late[2] = alloc(a, space, 2);
	assert_int_equal(publish(a, space, 2, late, 3, out), 0);
	assert_true(out[0] == 0 && out[1] == 0);
	assert_int_equal(out[2], late[2]);
	for (uint32_t i = 0; i < 3; i++)
		mine[i] = alloc(b, space, i);
	assert_int_equal(publish(b, space, 2, mine, 3, out), 0);
	assert_int_equal(out[0], h[0]);
	assert_int_equal(out[1], mine[1]);
	assert_int_equal(out[2], late[2]);
	assert_int_equal(raw_match(a, space, out, 3), 3);
	close(a);
	close(b);
}

/* ---- figures ---- */

static void expect_stat(const Kvd__ClassStat *c, uint32_t group,
			const char *format)
{
	assert_int_equal(c->group, group);
	assert_string_equal(c->format, format);
}

static void test_stat(void **state)
{
	Kvd__StatRequest req = KVD__STAT_REQUEST__INIT;
	int fd = raw_open(d.socket), nr = 0;
	uint32_t space = open_kivi(fd);
	Kvd__StatReply *reply;

	alloc(fd, space, 2);
	assert_int_equal(raw_call(fd, WIRE_STAT, &req.base,
				  &kvd__stat_reply__descriptor, &reply, NULL),
			 0);
	for (size_t i = 0; i < reply->pools[0]->n_classes; i++) {
		const Kvd__ClassStat *c = reply->pools[0]->classes[i];

		if (c->space != space)
			continue;
		assert_int_equal(c->page_class, nr++);
		if (c->page_class < 2)
			expect_stat(c, c->page_class, "bf16");
		else
			expect_stat(c, 0, "k=kivi4,v=kivi2");
		assert_int_equal(c->pages->open, c->page_class == 2);
	}
	assert_int_equal(nr, 3);
	kvd__stat_reply__free_unpacked(reply, NULL);
	raw_bye(fd);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_open),
		cmocka_unit_test(test_profile),
		cmocka_unit_test(test_wrong_slot),
		cmocka_unit_test(test_publish),
		cmocka_unit_test(test_stat),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
