/* SPDX-License-Identifier: Apache-2.0 */
/*
 * index.c - blocks come and go; a reader never takes one for another.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include "daemon/mem/index.h"

#define BLOCKS 300

/* Prefix number @i; all in one bucket chain when @crowd. */
static struct prefix prefix(uint32_t i, bool crowd)
{
	struct prefix p;

	memset(&p, 0, sizeof(p));
	p.name.b[0] = crowd ? 1 : (uint8_t)i;
	p.name.b[1] = crowd ? 0 : (uint8_t)(i >> 8);
	memcpy(&p.name.b[8], &i, 4);
	memcpy(&p.parent, &i, 4);
	for (uint32_t t = 0; t < 64; t++)
		p.tokens[t] = i;
	return p;
}

static void add_and_del(bool crowd)
{
	struct index ix = INDEX_NULL;
	uint32_t nr[BLOCKS] = { 0 };
	uint32_t used = 0;

	assert_int_equal(index_init(&ix, BLOCKS, 64, 2), 0);
	for (int step = 0; step < 5000; step++) {
		uint32_t i = (uint32_t)rand() % BLOCKS;
		struct prefix p = prefix(i, crowd);

		assert_int_equal(index_find(&ix, &p.name), nr[i]);
		if (nr[i]) {
			assert_true(index_same(&ix, nr[i], &p));
			assert_int_equal(index_page(&ix, nr[i], 1), i + 1);
			index_set_page(&ix, nr[i], 0, 9);
			index_set_page(&ix, nr[i], 1, 0);
			assert_int_equal(index_find(&ix, &p.name), nr[i]);
			index_set_page(&ix, nr[i], 0, 0);
			nr[i] = 0;
			used--;
		} else {
			nr[i] = index_add(&ix, &p, i, 0, 0);
			index_set_page(&ix, nr[i], 1, i + 1);
			used++;
		}
		assert_int_equal(ix.shm->nr_used, used);
	}
	index_fini(&ix);
}

static void test_add_and_del(void **state)
{
	add_and_del(false);
	add_and_del(true);
}

static void test_collision(void **state)
{
	struct index ix = INDEX_NULL;
	struct prefix p = prefix(1, false), q = p;
	uint32_t nr;

	assert_int_equal(index_init(&ix, 4, 64, 1), 0);
	nr = index_add(&ix, &p, 0, 0, 0);
	assert_true(index_same(&ix, nr, &q));
	q.tokens[63]++;
	assert_false(index_same(&ix, nr, &q));
	q = p;
	q.parent.b[9]++;
	assert_false(index_same(&ix, nr, &q));
	q = p;
	q.extra.b[0]++;
	assert_false(index_same(&ix, nr, &q));
	index_fini(&ix);
}

/* ---- parents and children ---- */

/* Node @i of a tree, the child of node i / 3; node 0 begins a sequence. */
static struct prefix tree_prefix(uint32_t i)
{
	struct prefix p = prefix(i + 1, false), up = prefix(i / 3 + 1, false);

	memset(&p.parent, 0, sizeof(p.parent));
	if (i)
		p.parent = up.name;
	return p;
}

/* Children of node @i in the index, each once, linked to it and no other. */
static uint32_t tree_children(const struct index *ix, const uint32_t *nr,
			      uint32_t i)
{
	uint32_t n = 0;

	for (uint32_t b = index_block(ix, nr[i])->child; b;
	     b = index_block(ix, b)->sibling) {
		assert_int_equal(index_parent(ix, b), nr[i]);
		assert_true(++n <= 3);
	}
	return n;
}

/* What is linked: children that came after their parent, which is there. */
static void tree_check(const struct index *ix, const uint32_t *nr,
		       const bool *linked)
{
	for (uint32_t i = 0; i < BLOCKS; i++) {
		uint32_t n = 0;

		if (!nr[i])
			continue;
		for (uint32_t c = 3 * i; c < 3 * i + 3 && c < BLOCKS; c++)
			n += c && nr[c] && linked[c];
		assert_int_equal(tree_children(ix, nr, i), n);
		assert_int_equal(index_is_leaf(ix, nr[i]), n == 0);
	}
}

static void tree_del(struct index *ix, uint32_t *nr, bool *linked, uint32_t i)
{
	uint32_t up = i ? nr[i / 3] : 0, n, last;

	n = linked[i] ? tree_children(ix, nr, i / 3) : 0;
	last = index_set_page(ix, nr[i], 0, 0);
	assert_int_equal(last, n == 1 ? up : 0);
	nr[i] = 0;
	for (uint32_t c = 3 * i; c < 3 * i + 3 && c < BLOCKS; c++)
		linked[c] = false;
	linked[i] = false;
}

static void test_tree(void **state)
{
	struct index ix = INDEX_NULL;
	uint32_t nr[BLOCKS] = { 0 };
	bool linked[BLOCKS] = { false };

	assert_int_equal(index_init(&ix, BLOCKS, 64, 1), 0);
	for (int step = 0; step < 5000; step++) {
		uint32_t i = (uint32_t)rand() % BLOCKS;
		struct prefix p = tree_prefix(i);

		if (nr[i]) {
			tree_del(&ix, nr, linked, i);
		} else {
			nr[i] = index_add(&ix, &p, i, 0, 0);
			index_set_page(&ix, nr[i], 0, i + 1);
			linked[i] = i && nr[i / 3];
		}
		if (step % 1000 == 999) {
			index_adopt(&ix);
			for (uint32_t c = 1; c < BLOCKS; c++)
				linked[c] = nr[c] && nr[c / 3];
		}
		if (step % 10 == 0)
			tree_check(&ix, nr, linked);
	}
	index_fini(&ix);
}

/* ---- readers ---- */

/* As proto/shm.h tells a client to do it. Return: page, 0 for a miss. */
static handle_t reader_find(const struct shm_index *s, const struct name *name,
			    uint32_t *token)
{
	uint32_t nr = atomic_load_explicit(shm_bucket(s, name),
					   memory_order_acquire);

	for (int i = 0; nr && i < SHM_MAX_CHAIN; i++) {
		struct shm_block *b = shm_block_at(s, nr);
		uint32_t seq = atomic_load_explicit(&b->seq,
						    memory_order_acquire);
		bool same = name_equal(&b->name, name);
		handle_t h = atomic_load_explicit(&b->page[0],
						  memory_order_relaxed);

		*token = b->tokens[63];
		atomic_thread_fence(memory_order_acquire);
		if (seq % 2 || seq != atomic_load_explicit(
					      &b->seq, memory_order_relaxed))
			return 0;
		if (same)
			return h;
		nr = atomic_load_explicit(&b->next, memory_order_relaxed);
	}
	return 0;
}

/* Another process, as a client is; it counts its hits. Exit status: 0, or what
 * went wrong. */
static void reader(int fd, uint64_t bytes, _Atomic uint64_t *hits)
{
	const struct shm_index *ix;

	ix = mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, 0);
	if (ix == MAP_FAILED)
		_exit(3);
	/* More than 100 blocks: the writer has finished. */
	for (uint32_t i = 0; ix->nr_used <= 100; i = (i + 1) % 100) {
		struct prefix p = prefix(i, true);
		uint32_t token = 0;
		handle_t h = reader_find(ix, &p.name, &token);

		if (!h)
			continue;
		atomic_fetch_add(hits, 1);
		if (h != i + 1 || token != i)
			_exit(1);
	}
	_exit(0);
}

/* The writer changes what the reader looks at as fast as it can, for as long as
 * that takes to find something. */
static void test_readers(void **state)
{
	_Atomic uint64_t *hits = mmap(NULL, sizeof(*hits),
				      PROT_READ | PROT_WRITE,
				      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct index ix = INDEX_NULL;
	uint32_t nr[200] = { 0 };
	pid_t child;
	int status;

	assert_int_equal(index_init(&ix, 200, 64, 1), 0);
	assert_true(hits != MAP_FAILED);
	child = fork();
	assert_true(child >= 0);
	if (child == 0)
		reader(ix.fd, ix.shm->bytes, hits);
	for (int step = 0; step < 300000 || !atomic_load(hits); step++) {
		uint32_t i = (uint32_t)rand() % 100;
		struct prefix p = prefix(i, true);

		if (nr[i]) {
			index_set_page(&ix, nr[i], 0, 0);
			nr[i] = 0;
		} else {
			nr[i] = index_add(&ix, &p, i, 0, 0);
			index_set_page(&ix, nr[i], 0, i + 1);
		}
	}
	for (uint32_t i = 0; i < 200; i++) {
		struct prefix p = prefix(i, true);

		if (!nr[i])
			index_set_page(&ix, index_add(&ix, &p, i, 0, 0), 0,
				       i + 1);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	munmap(hits, sizeof(*hits));
	index_fini(&ix);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_add_and_del),
		cmocka_unit_test(test_collision),
		cmocka_unit_test(test_tree),
		cmocka_unit_test(test_readers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
