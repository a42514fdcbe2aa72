/* SPDX-License-Identifier: Apache-2.0 */
/*
 * trap.c - stops a program after each of its stores to the page table.
 */
#include "tests/mem/trap.h"

#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>
#include "daemon/util/memfd.h"

#define TRAP_FLAG 0x100 /* of EFLAGS: one instruction, then SIGTRAP */

int __real_memfd_map(int fd, uint64_t bytes, void **ret);
int __wrap_memfd_map(int fd, uint64_t bytes, void **ret);

struct region {
	char *base;
	size_t bytes;
};

static struct region regions[TRAP_DEPTHS];
static struct region *next;	/* gets what is mapped next */
static struct region *stepping; /* a store to it is under way */
static void (*on_stop)(unsigned depth);
static pid_t thread; /* the only one that may store */
static bool tear;
static uint64_t nr_wide;

/* Words about the address of a store, as they were. No store is wider. */
#define WINDOW 24 /* a cache line before, that of the address, and the next */
struct window {
	uint64_t *at;
	size_t nr;
	uint64_t before[WINDOW];
};

static struct window window; /* of the store under way */

static bool is_table(int fd)
{
	char path[32], name[64];
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	n = readlink(path, name, sizeof(name) - 1);
	if (n < 0)
		return false;
	name[n] = '\0';
	return strstr(name, "kvd-table") != NULL;
}

static void protect(const struct region *r, int how)
{
	if (mprotect(r->base, r->bytes, how) < 0)
		abort();
}

int __wrap_memfd_map(int fd, uint64_t bytes, void **ret)
{
	int r = __real_memfd_map(fd, bytes, ret);

	if (r == 0 && next && is_table(fd)) {
		*next = (struct region){ *ret, bytes };
		protect(next, PROT_READ);
		next = NULL;
	}
	return r;
}

static struct region *region_of(const char *at)
{
	for (unsigned i = 0; i < TRAP_DEPTHS; i++)
		if (regions[i].base && at >= regions[i].base &&
		    at < regions[i].base + regions[i].bytes)
			return &regions[i];
	return NULL;
}

static void window_open(const struct region *r, char *at)
{
	char *from = (char *)((uintptr_t)at & ~(uintptr_t)63) - 64;
	size_t nr;

	if (from < r->base)
		from = r->base;
	nr = (size_t)(r->base + r->bytes - from) / 8;
	window.at = (uint64_t *)(void *)from;
	window.nr = nr < WINDOW ? nr : WINDOW;
	memcpy(window.before, from, window.nr * 8);
}

/*
 * A store of more than one word, which need not be one to the memory: stops
 * as if only the words below each of them had been stored.
 */
static void window_tear(const struct region *r)
{
	const struct window w = window;
	uint64_t after[WINDOW];
	size_t first = 0, last = w.nr;

	memcpy(after, w.at, w.nr * 8);
	while (first < w.nr && after[first] == w.before[first])
		first++;
	while (last > first && after[last - 1] == w.before[last - 1])
		last--;
	if (last - first < 2)
		return;
	nr_wide++;
	for (size_t i = first + 1; tear && i < last; i++) {
		memcpy(w.at + i, w.before + i, (last - i) * 8);
		protect(r, PROT_READ);
		on_stop((unsigned)(r - regions));
		protect(r, PROT_READ | PROT_WRITE);
		memcpy(w.at + i, after + i, (last - i) * 8);
	}
}

static void on_fault(int sig, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;
	struct region *r = region_of(info->si_addr);

	if (!r || stepping || gettid() != thread) {
		static const char said[] = "trap: a fault that is no store to "
					   "the table by its one thread\n";

		if (write(STDERR_FILENO, said, sizeof(said) - 1) < 0)
			_exit(98);
		signal(sig, SIG_DFL);
		return;
	}
	stepping = r;
	protect(r, PROT_READ | PROT_WRITE);
	window_open(r, info->si_addr);
	uc->uc_mcontext.gregs[REG_EFL] |= TRAP_FLAG;
}

static void on_trap(int sig, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;
	struct region *r = stepping;

	if (!r)
		_exit(99);
	uc->uc_mcontext.gregs[REG_EFL] &= ~TRAP_FLAG;
	stepping = NULL;
	window_tear(r);
	protect(r, PROT_READ);
	on_stop((unsigned)(r - regions));
}

bool trap_init(void (*stopped)(unsigned depth))
{
#ifdef __x86_64__
	struct sigaction fault = { .sa_sigaction = on_fault,
				   .sa_flags = SA_SIGINFO | SA_NODEFER };
	struct sigaction trap = { .sa_sigaction = on_trap,
				  .sa_flags = SA_SIGINFO | SA_NODEFER };

	on_stop = stopped;
	thread = gettid();
	return sigaction(SIGSEGV, &fault, NULL) == 0 &&
	       sigaction(SIGTRAP, &trap, NULL) == 0;
#else
	return false;
#endif
}

void trap_tear(void)
{
	tear = true;
}

uint64_t trap_nr_wide(void)
{
	return nr_wide;
}

void trap_next(unsigned depth)
{
	next = &regions[depth];
}

void trap_forget(unsigned depth)
{
	if (next == &regions[depth])
		next = NULL;
	if (regions[depth].base)
		protect(&regions[depth], PROT_READ | PROT_WRITE);
	regions[depth].base = NULL;
}
