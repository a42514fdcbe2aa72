/* SPDX-License-Identifier: Apache-2.0 */
/*
 * nomem.c - preloaded: malloc() and its kin, of which one may fail.
 *
 * Those of the C library and of libuv count like our own: nobody is exempt.
 */
#include "tests/support/nomem.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

/* The C library's own, which it exports for such as us. */
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t nr, size_t size);
void *__libc_realloc(void *p, size_t size);

static struct nomem *shared;

__attribute__((constructor)) static void nomem_begin(void)
{
	const char *fd = getenv(NOMEM_FD_ENV);
	void *p;

	if (!fd)
		return;
	p = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED,
		 atoi(fd), 0);
	if (p == MAP_FAILED)
		abort();
	shared = p;
	shared->count = 0;
}

static int nomem_now(void)
{
	unsigned long n;

	if (!shared)
		return 0;
	n = ++shared->count;
	if (n != shared->fail_at)
		return 0;
	shared->failed++;
	errno = ENOMEM;
	return 1;
}

__attribute__((visibility("default"))) void *malloc(size_t size)
{
	return nomem_now() ? NULL : __libc_malloc(size);
}

__attribute__((visibility("default"))) void *calloc(size_t nr, size_t size)
{
	return nomem_now() ? NULL : __libc_calloc(nr, size);
}

__attribute__((visibility("default"))) void *realloc(void *p, size_t size)
{
	return nomem_now() ? NULL : __libc_realloc(p, size);
}
