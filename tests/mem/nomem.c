/* SPDX-License-Identifier: Apache-2.0 */
/*
 * nomem.c - a successor finds no memory, at each of its requests once.
 *
 * Whatever it asks for in vain, memory or a mapping, it does not start, or
 * starts with all that was left to it. The next one has enough, and finds
 * everything that there was: nothing is lost for want of memory.
 */
#include "tests/mem/fixture.h"

#include <stdio.h>
#include <sys/mman.h>
#include <sys/types.h>

#define NR	 24u	/* blocks */
#define NR_OPEN	 6u
#define NR_PAGES (2 * NR + NR_OPEN)

static const uint32_t groups[] = { 8, 3, 0 }; /* 128 KiB, 48 KiB */

static unsigned fail_at;	/* 0: none */
static _Atomic unsigned nr_asked; /* the device's thread asks too */

static bool fails(void)
{
	return ++nr_asked == fail_at;
}

void *__real_calloc(size_t nr, size_t bytes);
void *__real_malloc(size_t bytes);
void *__real_realloc(void *p, size_t bytes);
void *__real_mmap(void *at, size_t bytes, int prot, int flags, int fd,
		  off_t offset);
int __real_memfd_create(const char *name, unsigned flags);
void *__wrap_calloc(size_t nr, size_t bytes);
void *__wrap_malloc(size_t bytes);
void *__wrap_realloc(void *p, size_t bytes);
void *__wrap_mmap(void *at, size_t bytes, int prot, int flags, int fd,
		  off_t offset);
int __wrap_memfd_create(const char *name, unsigned flags);

void *__wrap_calloc(size_t nr, size_t bytes)
{
	return fails() ? NULL : __real_calloc(nr, bytes);
}

void *__wrap_malloc(size_t bytes)
{
	return fails() ? NULL : __real_malloc(bytes);
}

void *__wrap_realloc(void *p, size_t bytes)
{
	return fails() ? NULL : __real_realloc(p, bytes);
}

void *__wrap_mmap(void *at, size_t bytes, int prot, int flags, int fd,
		  off_t offset)
{
	if (!fails())
		return __real_mmap(at, bytes, prot, flags, fd, offset);
	errno = ENOMEM;
	return MAP_FAILED;
}

int __wrap_memfd_create(const char *name, unsigned flags)
{
	if (!fails())
		return __real_memfd_create(name, flags);
	errno = EMFILE;
	return -1;
}

/* Pages of two classes, in three segments or more, the daemon gone. */
static void leave(struct fx *f, handle_t *h)
{
	struct mem_client *c;
	struct mem_space *s;

	fx_init(f, 32 * MIB, 2 * MIB);
	c = fx_client(f, 1, "t", 0);
	s = fx_space(c, 1, groups);
	for (uint32_t d = 0; d < NR; d++) {
		for (uint32_t i = 0; i < 2; i++) {
			h[2 * d + i] = fx_page(f, c, s, i);
			fx_publish(c, s, 1, d, i, h[2 * d + i]);
		}
	}
	for (uint32_t i = 0; i < NR_OPEN; i++)
		h[2 * NR + i] = fx_page(f, c, s, i % 2);
	fx_verify(f);
	mem_free(f->m);
}

static void check_all(struct fx *f, const handle_t *h)
{
	struct mem_client *c;
	struct mem_space *s;

	fx_verify(f);
	assert_int_equal(fx_pages(f, PAGE_CACHED), 2 * NR);
	assert_int_equal(fx_pages(f, PAGE_OPEN), NR_OPEN);
	c = fx_client(f, 1, "t", 0);
	s = fx_space(c, 1, groups);
	for (uint32_t d = 0; d < NR; d++)
		for (uint32_t i = 0; i < 2; i++)
			assert_int_equal(fx_lookup(s, 1, d, i), h[2 * d + i]);
	for (uint32_t i = 0; i < NR_OPEN; i++)
		assert_int_equal(mem_claim(c, s, h[2 * NR + i], 1), 0);
	fx_verify(f);
	mem_free(f->m);
}

static bool nobody(pid_t pid, uint64_t start_time)
{
	return false;
}

static void test_restart(void **state)
{
	handle_t h[NR_PAGES];
	struct fx f;
	unsigned at = 0, failed = 0, asked;

	leave(&f, h);
	do {
		int r;

		nr_asked = 0;
		fail_at = ++at;
		r = fx_new(&f);
		asked = nr_asked;
		fail_at = 0;
		if (r == 0) {
			check_all(&f, h);
		} else {
			assert_int_equal(r, -ENOMEM);
			failed++;
		}
		assert_int_equal(fx_new(&f), 0);
		check_all(&f, h);
	} while (asked >= at && at < 10000);
	printf("%u starts failed of %u\n", failed, at);
	assert_true(failed > 20 && at < 10000);
	assert_int_equal(fx_new(&f), 0);
	mem_grace_end(f.m, nobody);
	fx_fini(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_restart),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
