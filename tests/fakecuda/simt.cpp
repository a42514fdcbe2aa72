// SPDX-License-Identifier: Apache-2.0
/*
 * simt.cpp - runs the threads of a block as fibers of one thread.
 *
 * Fibers go round in order (from a start that FAKECUDA_SEED moves) and each
 * runs until it waits for a barrier that is not complete, or ends. Barriers
 * count arrivals in generations. When nobody can run and somebody has not
 * ended, the kernel has a divergent barrier: the program ends and says where.
 *
 * To ThreadSanitizer fibers are threads that only barriers order, so that a
 * missing one is a data race; this file itself is compiled without it.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include "tests/fakecuda/copy.h"
#include "tests/fakecuda/sanitize.h"
#include "tests/fakecuda/simt.h"

#define MAX_WARPS (SIMT_MAX_THREADS / SIMT_WARP)
#define STACK_BYTES (128ul << 10)
#define GUARD_BYTES 4096ul
#define SHARED_ALIGN 128

extern "C" void simt_switch(void **save, void *load);

struct barrier {
	unsigned generation;
	unsigned arrived;
	unsigned threads;
};

struct warp {
	struct barrier barrier;
	uint64_t values[2][SIMT_WARP]; /* by the generation's parity */
	alignas(64) char wide[2][SIMT_WIDE_BYTES]; /* likewise */
};

struct fiber {
	struct simt_thread self; /* first: simt_thread points here */
	unsigned number;
	void *sp;
	char *stack;
	void *tsan;
	bool done;
	struct barrier *waits; /* NULL: can run */
	unsigned generation;   /* of it, on arrival */
	const struct simt_wait *until; /* NULL: not for this */
};

struct simt_thread *simt_thread;
struct simt_block simt_block;

static struct fiber fibers[SIMT_MAX_THREADS];
static unsigned nr_fibers;
static struct warp warps[MAX_WARPS];
static struct barrier block_barrier;
static const struct launch *launch;
static uint64_t seed;

static struct fiber outside; /* whoever called simt_launch() */
static const void *outside_stack;
static size_t outside_bytes;
static char launched, ended; /* what TSan orders blocks by */

static struct fiber *current(void)
{
	return (struct fiber *)simt_thread;
}

void simt_die(const char *format, ...)
{
	const struct simt_dim *b = &simt_block.block;
	va_list args;

	fprintf(stderr, "simt: %s, block (%u,%u,%u), thread %u: ",
		launch->function->name, b->x, b->y, b->z, current()->number);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	abort();
}

void simt_touch(const void *p, size_t bytes, bool write)
{
	if ((uintptr_t)p % bytes)
		simt_die("%zu bytes at %p: misaligned", bytes, p);
	if (launch->may_touch && !launch->may_touch(p, bytes, write))
		simt_die("%s %zu bytes at %p: not the device's, and not "
			 "page-locked",
			 write ? "writes" : "reads", bytes, p);
}

static const char *fiber_state(const struct fiber *f)
{
	if (f->done)
		return "has ended";
	if (f->until)
		return f->until->lacks(f->until->what);
	return f->waits == &block_barrier ? "waits for its block" :
					    "waits for its warp";
}

[[noreturn]] static void diverged(void)
{
	const struct simt_dim *b = &simt_block.block;

	fprintf(stderr, "simt: %s, block (%u,%u,%u): divergent barrier\n",
		launch->function->name, b->x, b->y, b->z);
	for (unsigned i = 0; i < nr_fibers; i++)
		fprintf(stderr, "simt: thread %u %s\n", i,
			fiber_state(&fibers[i]));
	abort();
}

static bool runnable(const struct fiber *f)
{
	if (f->until)
		return f->until->ready(f->until->what);
	return !f->done &&
	       (!f->waits || f->waits->generation != f->generation);
}

/* Who runs after fiber number @after; the outside when all have ended. */
static struct fiber *next_fiber(unsigned after)
{
	bool all_done = true;

	for (unsigned i = 1; i <= nr_fibers; i++) {
		struct fiber *f = &fibers[(after + i) % nr_fibers];

		if (runnable(f))
			return f;
		all_done = all_done && f->done;
	}
	if (!all_done)
		diverged();
	return &outside;
}

static void go(struct fiber *from, struct fiber *to)
{
	void *fake = nullptr;

	simt_thread = &to->self;
	if (to == &outside)
		__sanitizer_start_switch_fiber(from->done ? nullptr : &fake,
					       outside_stack, outside_bytes);
	else
		__sanitizer_start_switch_fiber(from->done ? nullptr : &fake,
					       to->stack, STACK_BYTES);
	__tsan_switch_to_fiber(to->tsan, 1);
	simt_switch(&from->sp, to->sp);
	__sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
}

/* The first frame of every fiber. */
static void fiber_main(void)
{
	struct fiber *f;

	if (!outside_stack)
		__sanitizer_finish_switch_fiber(nullptr, &outside_stack,
						&outside_bytes);
	else
		__sanitizer_finish_switch_fiber(nullptr, nullptr, nullptr);
	__tsan_acquire(&launched);
	launch->function->entry(launch->params);
	__tsan_release(&ended);
	f = current();
	f->done = true;
	go(f, next_fiber(f->number));
	abort();
}

/* Lets others run until this fiber can. */
static void fiber_wait(struct fiber *f)
{
	struct fiber *next = next_fiber(f->number);

	if (next != f)
		go(f, next);
}

static void barrier_wait(struct barrier *b)
{
	struct fiber *f = current();

	__tsan_release(b);
	f->generation = b->generation;
	if (++b->arrived == b->threads) {
		b->arrived = 0;
		b->generation++;
	} else {
		f->waits = b;
		fiber_wait(f);
		f->waits = nullptr;
	}
	__tsan_acquire(b);
}

void simt_sync_block(void)
{
	barrier_wait(&block_barrier);
}

void simt_sync_warp(void)
{
	barrier_wait(&warps[simt_thread->warp].barrier);
}

/*
 * One barrier is enough: a lane that is a generation ahead writes to the other
 * set of values, and cannot be two ahead.
 */
uint64_t simt_exchange(uint64_t value, unsigned from)
{
	struct warp *w = &warps[simt_thread->warp];
	uint64_t *values = w->values[w->barrier.generation & 1];

	values[simt_thread->lane] = value;
	barrier_wait(&w->barrier);
	return values[from % SIMT_WARP];
}

unsigned simt_ballot(bool bit)
{
	struct warp *w = &warps[simt_thread->warp];
	uint64_t *values = w->values[w->barrier.generation & 1];
	unsigned bits = 0;

	values[simt_thread->lane] = bit;
	barrier_wait(&w->barrier);
	for (unsigned i = 0; i < w->barrier.threads; i++)
		bits |= (unsigned)values[i] << i;
	return bits;
}

void *simt_wide(void)
{
	struct warp *w = &warps[simt_thread->warp];

	return w->wide[w->barrier.generation & 1];
}

void simt_wait_until(const struct simt_wait *w)
{
	struct fiber *f = current();

	if (w->ready(w->what))
		return;
	f->until = w;
	fiber_wait(f);
	f->until = nullptr;
}

static void stack_make(struct fiber *f)
{
	void *map = mmap(nullptr, STACK_BYTES + GUARD_BYTES,
			 PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (map == MAP_FAILED || mprotect(map, GUARD_BYTES, PROT_NONE)) {
		perror("simt: no stack");
		abort();
	}
	f->stack = (char *)map + GUARD_BYTES;
	f->tsan = __tsan_create_fiber(0);
}

static void fiber_init(unsigned number)
{
	struct fiber *f = &fibers[number];
	const struct simt_dim *d = &simt_block.block_dim;
	void **sp;

	if (!f->stack)
		stack_make(f);
	/* Whoever ran on it last did not return from its functions. */
	__asan_unpoison_memory_region(f->stack, STACK_BYTES);
	f->number = number;
	f->self.thread = { number % d->x, number / d->x % d->y,
			   number / (d->x * d->y) };
	f->self.lane = number % SIMT_WARP;
	f->self.warp = number / SIMT_WARP;
	f->done = false;
	f->waits = nullptr;
	f->until = nullptr;
	/* As simt_switch() leaves a stack, aligned as after a call. */
	sp = (void **)(f->stack + STACK_BYTES) - 2;
	*--sp = nullptr;
	*--sp = (void *)fiber_main;
	f->sp = sp - 6;
}

static void block_run(void)
{
	memset(simt_block.shared, SIMT_DIRT, launch->shared_bytes);
	block_barrier = { 0, 0, nr_fibers };
	for (unsigned w = 0; w * SIMT_WARP < nr_fibers; w++) {
		unsigned rest = nr_fibers - w * SIMT_WARP;

		warps[w].barrier = { 0, 0, rest < SIMT_WARP ? rest : SIMT_WARP };
	}
	for (unsigned i = 0; i < nr_fibers; i++)
		fiber_init(i);
	outside.tsan = __tsan_get_current_fiber();
	__tsan_release(&launched);
	if (seed)
		seed = seed * 6364136223846793005ul + 1442695040888963407ul;
	outside_stack = nullptr;
	copy_begin(simt_block.shared, launch->shared_bytes);
	go(&outside, next_fiber((unsigned)(seed >> 33) % nr_fibers));
	__tsan_acquire(&ended);
	copy_end();
}

void simt_launch(const struct launch *l)
{
	launch = l;
	seed = l->seed;
	nr_fibers = l->block[0] * l->block[1] * l->block[2];
	simt_block.block_dim = { l->block[0], l->block[1], l->block[2] };
	simt_block.grid_dim = { l->grid[0], l->grid[1], l->grid[2] };
	if (posix_memalign(&simt_block.shared, SHARED_ALIGN,
			   l->shared_bytes ? l->shared_bytes : 1))
		abort();
	for (unsigned z = 0; z < l->grid[2]; z++)
		for (unsigned y = 0; y < l->grid[1]; y++)
			for (unsigned x = 0; x < l->grid[0]; x++) {
				simt_block.block = { x, y, z };
				block_run();
			}
	free(simt_block.shared);
	simt_thread = nullptr;
}
