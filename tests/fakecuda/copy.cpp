// SPDX-License-Identifier: Apache-2.0
/*
 * copy.cpp - asynchronous copies, as late as they may be.
 *
 * A thread's own copies wait in its list until it waits for their group. Bulk
 * copies wait with their mbarrier until some thread waits for its phase, all
 * arrivals are in and all expected bytes are on their way. An mbarrier's word
 * in shared memory holds its number here, so that a program that overwrites it
 * is found out.
 *
 * The lists are the machine's, not the program's: this file is compiled
 * without ThreadSanitizer, which sees the memory copied, and mbarriers' words,
 * through memcpy() and memset() of sizes the compiler does not know.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <vector>
#include "tests/fakecuda/copy.h"
#include "tests/fakecuda/sanitize.h"
#include "tests/fakecuda/simt.h"

#define MAX_MBARS 64u
#define MAX_COPIES 256u			/* of a phase */
#define MBAR_MAGIC 0x6d626172ull	/* in the upper half of its word */
#define MBAR_MAX_BYTES ((1u << 20) - 1)	/* a phase may expect */
#define MBAR_MAX_ARRIVALS ((1u << 20) - 1)

struct copy {
	void *shared;
	const void *global;
	size_t bytes;
	unsigned group; /* of its thread's; not for bulk copies */
};

/* One thread's own copies. */
struct own {
	std::vector<struct copy> copies; /* in order of issue */
	unsigned groups;		 /* committed */
};

struct mbar {
	uint64_t *at;
	unsigned arrivals; /* that complete a phase */
	unsigned missing;  /* of them, in this phase */
	unsigned phase;
	unsigned maker;
	bool fenced;
	uint64_t expected; /* bytes, of this phase */
	uint64_t issued;   /* of them, in copies */
	unsigned nr_copies;
	struct copy copies[MAX_COPIES];
};

static volatile size_t sixteen = 16, eight = 8; /* see above */
static struct own owns[SIMT_MAX_THREADS];
static unsigned nr_owns; /* those after have no copies */
static struct mbar mbars[MAX_MBARS];
static unsigned nr_mbars;
static unsigned sm;
static char *shared_begin;
static size_t shared_bytes;

unsigned simt_sm(void)
{
	return sm;
}

static unsigned thread_number(void)
{
	return simt_thread->warp * SIMT_WARP + simt_thread->lane;
}

void copy_begin(void *shared, size_t bytes)
{
	const char *env = getenv("FAKECUDA_SM");

	sm = env && strcmp(env, "80") == 0 ? 80 : 90;
	shared_begin = static_cast<char *>(shared);
	shared_bytes = bytes;
	nr_mbars = 0;
	while (nr_owns) {
		struct own *o = &owns[--nr_owns];

		o->copies.clear();
		o->groups = 0;
	}
}

void copy_end(void)
{
	for (unsigned i = 0; i < nr_mbars; i++) {
		if (!mbars[i].nr_copies)
			continue;
		fprintf(stderr,
			"simt: block ended with a bulk copy on its way\n");
		abort();
	}
}

static bool in_shared(const void *p, size_t bytes)
{
	const char *c = static_cast<const char *>(p);

	return c >= shared_begin && bytes <= shared_bytes &&
	       (size_t)(c - shared_begin) <= shared_bytes - bytes;
}

static void copy_check(const struct copy *c)
{
	if (((uintptr_t)c->shared | (uintptr_t)c->global | c->bytes) % 16 ||
	    !c->bytes)
		simt_die("copy of %zu bytes from %p to %p: not multiples of 16",
			 c->bytes, c->global, c->shared);
	if (!in_shared(c->shared, c->bytes))
		simt_die("copy to %p: not in shared memory", c->shared);
}

static void copy_issue(const struct copy *c)
{
	copy_check(c);
	memset(c->shared, SIMT_DIRT, c->bytes);
}

static void copy_arrive(const struct copy *c)
{
	const unsigned char *p = static_cast<unsigned char *>(c->shared);

	for (size_t i = 0; i < c->bytes; i++)
		if (p[i] != SIMT_DIRT)
			simt_die("%p written while a copy was on its way", p);
	memcpy(c->shared, c->global, c->bytes);
}

/* ---- a thread's own ---- */

static struct own *own_get(void)
{
	const unsigned i = thread_number();

	if (nr_owns <= i)
		nr_owns = i + 1;
	return &owns[i];
}

void simt_copy16(void *shared, const void *global)
{
	struct own *o = own_get();
	const struct copy c = { shared, global, sixteen, o->groups };

	copy_issue(&c);
	o->copies.push_back(c);
}

void simt_copy16_commit(void)
{
	own_get()->groups++;
}

void simt_copy16_wait(unsigned left)
{
	struct own *o = own_get();
	const unsigned done = o->groups > left ? o->groups - left : 0;
	size_t n = 0;

	while (n < o->copies.size() && o->copies[n].group < done)
		copy_arrive(&o->copies[n++]);
	o->copies.erase(o->copies.begin(), o->copies.begin() + (long)n);
}

/* ---- bulk ---- */

static void bulk_check(void)
{
	if (simt_sm() < 90)
		simt_die("bulk copies, and mbarriers for them: not on sm_%u",
			 simt_sm());
}

static struct mbar *mbar_find(uint64_t *bar)
{
	uint64_t word;

	bulk_check();
	if ((uintptr_t)bar % 8 || !in_shared(bar, 8))
		simt_die("mbarrier at %p: not aligned, or not in shared memory",
			 (void *)bar);
	memcpy(&word, bar, eight);
	if (word >> 32 != MBAR_MAGIC || (uint32_t)word >= nr_mbars ||
	    mbars[(uint32_t)word].at != bar)
		simt_die("mbarrier at %p: none was made, or it was overwritten",
			 (void *)bar);
	return &mbars[(uint32_t)word];
}

static void mbar_next_phase(struct mbar *m)
{
	m->nr_copies = 0;
	m->missing = m->arrivals;
	m->expected = m->issued = 0;
	m->phase++;
}

void simt_mbar_init(uint64_t *bar, unsigned arrivals)
{
	const uint64_t word = MBAR_MAGIC << 32 | nr_mbars;
	struct mbar *m = &mbars[nr_mbars];

	bulk_check();
	if ((uintptr_t)bar % 8 || !in_shared(bar, 8) || !arrivals ||
	    arrivals > MBAR_MAX_ARRIVALS)
		simt_die("mbarrier at %p of %u arrivals: cannot be",
			 (void *)bar, arrivals);
	for (unsigned i = 0; i < nr_mbars; i++)
		if (mbars[i].at == bar)
			simt_die("mbarrier at %p made twice", (void *)bar);
	if (++nr_mbars == MAX_MBARS)
		simt_die("more than %u mbarriers", MAX_MBARS - 1);
	mbar_next_phase(m);
	m->phase = 0;
	m->fenced = false;
	m->at = bar;
	m->arrivals = m->missing = arrivals;
	m->maker = thread_number();
	memcpy(bar, &word, eight);
}

void simt_mbar_fence_init(void)
{
	bulk_check();
	for (unsigned i = 0; i < nr_mbars; i++)
		if (mbars[i].maker == thread_number())
			mbars[i].fenced = true;
}

static bool mbar_complete(const struct mbar *m)
{
	return !m->missing && m->issued == m->expected;
}

static void mbar_check(const struct mbar *m)
{
	if (m->expected > MBAR_MAX_BYTES)
		simt_die("mbarrier at %p expects too many bytes: %llu",
			 (void *)m->at, (unsigned long long)m->expected);
	if (!m->missing && m->issued > m->expected)
		simt_die("mbarrier at %p: %llu bytes, and only %llu expected",
			 (void *)m->at, (unsigned long long)m->issued,
			 (unsigned long long)m->expected);
}

void simt_mbar_expect(uint64_t *bar, uint32_t bytes)
{
	struct mbar *m = mbar_find(bar);

	if (!m->missing)
		simt_die("mbarrier at %p: arrival in a phase nobody waited for",
			 (void *)bar);
	m->missing--;
	m->expected += bytes;
	mbar_check(m);
	__tsan_release(m);
	if (mbar_complete(m) && !m->issued)
		mbar_next_phase(m);
}

void simt_bulk_copy(void *shared, const void *global, uint32_t bytes,
		    uint64_t *bar)
{
	const struct copy c = { shared, global, bytes, 0 };
	struct mbar *m = mbar_find(bar);

	if (!m->fenced)
		simt_die("mbarrier at %p: no fence since it was made",
			 (void *)bar);
	copy_issue(&c);
	if (m->nr_copies == MAX_COPIES)
		simt_die("more than %u copies in a phase", MAX_COPIES);
	m->copies[m->nr_copies++] = c;
	m->issued += bytes;
	mbar_check(m);
	__tsan_release(m);
}

struct mbar_wait {
	const struct mbar *mbar;
	unsigned parity;
};

static bool wait_ready(const void *what)
{
	const struct mbar_wait *w = static_cast<const struct mbar_wait *>(what);

	return (w->mbar->phase & 1) != w->parity || mbar_complete(w->mbar);
}

static const char *wait_lacks(const void *what)
{
	const struct mbar *m =
		static_cast<const struct mbar_wait *>(what)->mbar;
	static char text[160];

	snprintf(text, sizeof(text),
		 "waits for an mbarrier that can never complete: "
		 "%u arrivals missing, %llu of %llu bytes on their way",
		 m->missing, (unsigned long long)m->issued,
		 (unsigned long long)m->expected);
	return text;
}

void simt_mbar_wait(uint64_t *bar, unsigned parity)
{
	struct mbar *m = mbar_find(bar);
	const struct mbar_wait what = { m, parity & 1 };
	const struct simt_wait until = { wait_ready, wait_lacks, &what };

	simt_wait_until(&until);
	__tsan_acquire(m);
	if ((m->phase & 1) != what.parity)
		return;
	for (unsigned i = 0; i < m->nr_copies; i++)
		copy_arrive(&m->copies[i]);
	mbar_next_phase(m);
	__tsan_release(m);
}
