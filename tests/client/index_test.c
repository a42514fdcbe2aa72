// SPDX-License-Identifier: Apache-2.0
/* index_test.c - lookups in an index made by hand, and in broken ones. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "client-lib/index.h"
#include "tests/support/check.h"

#define P 32u
#define NR_BLOCKS 100u
#define NR_BUCKETS 4u
#define BLOCKS_OFF 4096u

static struct shm_index *ix;
static int fd;
static const struct name zero;

static void make(void)
{
	uint64_t bytes = BLOCKS_OFF + NR_BLOCKS * shm_block_bytes(P);

	fd = memfd_create("index", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	CHECK(fd >= 0 && !ftruncate(fd, (off_t)bytes), "memfd");
	ix = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CHECK(ix != MAP_FAILED, "mmap");
	ix->magic = SHM_INDEX_MAGIC;
	ix->version = SHM_VERSION;
	ix->page_tokens = P;
	ix->nr_classes = 2;
	ix->nr_buckets = NR_BUCKETS;
	ix->nr_blocks = NR_BLOCKS;
	ix->block_bytes = (uint32_t)shm_block_bytes(P);
	ix->buckets_off = sizeof(*ix);
	ix->blocks_off = BLOCKS_OFF;
	ix->bytes = bytes;
}

/* Block @nr with tokens nr, nr + 1, ... and a name of that number. */
static void put(uint32_t nr, uint64_t page)
{
	struct shm_block *b = shm_block_at(ix, nr);
	_Atomic uint32_t *bucket;

	memset(&b->name, (int)nr, sizeof(b->name));
	b->parent = zero;
	b->extra = zero;
	b->page[0] = page;
	b->page[1] = 0;
	for (uint32_t i = 0; i < P; i++)
		b->tokens[i] = nr + i;
	bucket = shm_bucket(ix, &b->name);
	b->next = *bucket;
	*bucket = nr;
}

static bool find(const struct index *x, uint32_t nr, uint32_t first_token,
		 handle_t *pages)
{
	uint32_t tokens[P];
	struct name name;
	struct index_key key = { &name, &zero, &zero, tokens };

	memset(&name, (int)nr, sizeof(name));
	for (uint32_t i = 0; i < P; i++)
		tokens[i] = first_token + i;
	return index_find(x, &key, pages);
}

static void test_find(const struct index *x)
{
	handle_t pages[2] = { 7, 7 };
	struct name other = { .b = { 1 } };
	uint32_t tokens[P];
	struct index_key key = { &shm_block_at(ix, 1)->name, &other, &zero,
				 tokens };

	CHECK(!find(x, 1, 1, pages), "found in an empty index");
	for (uint32_t i = 1; i <= 40; i++)
		put(i, 1000 + i);
	for (uint32_t i = 1; i <= 40; i++)
		CHECK(find(x, i, i, pages) && pages[0] == 1000 + i &&
		      pages[1] == 0, "block %u", i);
	CHECK(!find(x, 41, 41, pages), "found what is not there");
	CHECK(!find(x, 5, 6, pages), "same name, other tokens: a miss");
	for (uint32_t i = 0; i < P; i++)
		tokens[i] = 1 + i;
	CHECK(!index_find(x, &key, pages), "same name, other parent: a miss");
	key.parent = &zero;
	CHECK(index_find(x, &key, pages), "that was the parent only");
	key.extra = &other;
	CHECK(!index_find(x, &key, pages), "other extra: a miss");
}

static void test_races(const struct index *x)
{
	handle_t pages[2];
	struct shm_block *b = shm_block_at(ix, 20);

	b->seq = 1;
	CHECK(!find(x, 20, 20, pages), "found while it was written");
	b->seq = 2;
	CHECK(find(x, 20, 20, pages), "not found when written");
	b->next = 20;
	CHECK(!find(x, 99, 99, pages), "found at the end of a circle");
	b->next = NR_BLOCKS + 1;
	CHECK(!find(x, 99, 99, pages), "found beyond the last block");
	b->next = 0;
}

static struct shm_block *written; /* is, till a turn is given to its writer */
static unsigned nr_turns;

int sched_yield(void)
{
	nr_turns++;
	if (written)
		written->seq++;
	written = NULL;
	return 0;
}

static bool copied(const struct index *x, uint32_t nr)
{
	union {
		struct index_copy copy;
		char room[sizeof(struct index_copy) + 4 * P];
	} u;

	nr_turns = 0;
	return index_copy(x, nr, &u.copy) && u.copy.tokens[0] == nr;
}

/* One whose writer has died stays half written: it costs all listings little. */
static void test_copy(const struct index *x)
{
	struct shm_block *b = shm_block_at(ix, 20);

	b->seq = 2;
	CHECK(copied(x, 20) && !nr_turns, "a whole block, at once");
	CHECK(!copied(x, 77) && !nr_turns, "no block, at once");
	b->seq = 3;
	CHECK(!copied(x, 20), "a block that is half written");
	CHECK(nr_turns <= 4, "%u turns given to others for it", nr_turns);
	written = b;
	CHECK(copied(x, 20) && nr_turns == 1, "a block that was being written");
	b->seq = 2;
}

/* Block @nr begins with @c of the tokens that runs() asks for, and no more. */
static struct shm_block *child(uint32_t nr, uint32_t c, uint32_t sibling)
{
	struct shm_block *b = shm_block_at(ix, nr);

	memset(b, 0, sizeof(*b));
	memset(&b->name, (int)nr, sizeof(b->name));
	for (uint32_t i = 0; i < P; i++)
		b->tokens[i] = i < c ? 500 + i : 7000 + nr + i;
	b->page[0] = 1000 + nr;
	b->page[1] = 2000 + nr;
	b->sibling = sibling;
	return b;
}

/* What the blocks after @parent share with 500, 501, ..., @n of them. */
static uint32_t runs(const struct index *x, const struct name *parent,
		     uint32_t n, handle_t *pages)
{
	uint32_t tokens[P];
	struct index_run run = { parent, &zero, tokens, n, 1 };

	for (uint32_t i = 0; i < P; i++)
		tokens[i] = 500 + i;
	return index_find_run(x, &run, pages);
}

/* The longest run, of equal ones the newest; what is not of the kind is not. */
static void test_runs(const struct index *x)
{
	struct name other = { .b = { 1 } };
	handle_t pages[2] = { 7, 7 };
	struct shm_block *b;

	ix->child = 0;
	CHECK(!runs(x, &zero, P, pages), "a run of nothing");
	child(1, 0, 2);
	child(2, 3, 3);
	child(3, 9, 4);
	child(4, 9, 5);
	child(5, 5, 0);
	ix->child = 1;
	CHECK(runs(x, &zero, P, pages) == 9 && pages[0] == 1003 &&
	      pages[1] == 2003, "the longest, the newest");
	CHECK(runs(x, &zero, 4, pages) == 4 && pages[0] == 1003, "4 asked for");
	CHECK(runs(x, &zero, 3, pages) == 3 && pages[0] == 1002, "3 asked for");
	CHECK(!runs(x, &zero, 0, pages) && pages[0] == 1002, "none asked for");
	b = child(3, P, 4);
	CHECK(runs(x, &zero, 2 * P, pages) == P, "a whole page, and no more");
	b->extra = other;
	CHECK(runs(x, &zero, P, pages) == 9 && pages[0] == 1004, "extra");
	b->extra = zero;
	b->parent = other;
	CHECK(runs(x, &zero, P, pages) == 9, "another's child");
	b->parent = zero;
	b->page[0] = 0;
	CHECK(runs(x, &zero, P, pages) == 9, "without the page");
	b->page[0] = 1003;
	b->page[1] = 0;
	CHECK(runs(x, &zero, P, pages) == P, "that page is not asked for");
}

/* The same from a block on, which is found by its name. */
static void test_children(const struct index *x)
{
	handle_t pages[2] = { 7, 7 };
	struct shm_block *up = child(9, 0, 0);
	struct name name = up->name;

	for (uint32_t i = 0; i < NR_BUCKETS; i++)
		((_Atomic uint32_t *)((char *)ix + ix->buckets_off))[i] = 0;
	CHECK(!runs(x, &name, P, pages), "no such parent");
	*shm_bucket(ix, &name) = 9;
	CHECK(!runs(x, &name, P, pages), "no child");
	up->child = 10;
	child(10, 6, 0);
	CHECK(!runs(x, &name, P, pages), "a child of none");
	shm_block_at(ix, 10)->parent = name;
	CHECK(runs(x, &name, P, pages) == 6 && pages[0] == 1010, "a child");
	up->seq = 1;
	CHECK(!runs(x, &name, P, pages), "a parent that is being written");
	up->seq = 2;
	up->child = NR_BLOCKS + 1;
	CHECK(!runs(x, &name, P, pages), "a child beyond the last block");
	up->child = UINT32_MAX;
	CHECK(!runs(x, &name, P, pages), "a child far beyond");
	up->child = 9;
	CHECK(!runs(x, &name, P, pages), "its own child");
	*shm_bucket(ix, &name) = NR_BLOCKS + 1;
	CHECK(!runs(x, &name, P, pages), "a parent beyond the last block");
}

/* Lists that are no lists end; what was found till then counts. */
static void test_bad_children(const struct index *x)
{
	handle_t pages[2] = { 7, 7 };
	struct shm_block *b = child(2, 4, 0);

	child(1, 2, 2);
	ix->child = 1;
	b->sibling = 1;
	CHECK(runs(x, &zero, P, pages) == 4, "a circle");
	b->sibling = 2;
	CHECK(runs(x, &zero, P, pages) == 4, "a circle of one");
	b->sibling = NR_BLOCKS + 1;
	CHECK(runs(x, &zero, P, pages) == 4, "beyond the last block");
	b->sibling = UINT32_MAX;
	CHECK(runs(x, &zero, P, pages) == 4, "far beyond");
	b->seq = 1;
	CHECK(runs(x, &zero, P, pages) == 2 && pages[0] == 1001,
	      "one that is being written");
	child(SHM_MAX_CHAIN, 5, SHM_MAX_CHAIN + 1);
	child(SHM_MAX_CHAIN + 1, 6, 0);
	for (uint32_t i = 1; i < SHM_MAX_CHAIN; i++)
		child(i, 1, i + 1);
	CHECK(runs(x, &zero, P, pages) == 5, "one step too few or too many");
}

/* Links, words and tokens of all kinds: an answer is within bounds, and comes. */
static void test_noise(const struct index *x)
{
	uint32_t *word = (uint32_t *)shm_block_at(ix, 1);
	uint64_t random = 1;
	handle_t pages[2];

	for (int round = 0; round < 1000; round++) {
		struct name name = shm_block_at(ix, 9)->name;

		for (uint64_t i = 0; i < NR_BLOCKS * shm_block_bytes(P) / 4;
		     i++) {
			random = random * 6364136223846793005ULL + 1;
			word[i] = random >> 60 ? word[i] & 127 :
						 (uint32_t)(random >> 32);
		}
		ix->child = (uint32_t)round % 128;
		*shm_bucket(ix, &name) = (uint32_t)round % 120;
		CHECK(runs(x, &zero, 2 * P, pages) <= P &&
		      runs(x, &name, 2 * P, pages) <= P, "too long a run");
	}
}

static void bad(uint32_t page_tokens, uint32_t nr_classes, const char *what)
{
	struct index x = { NULL };

	CHECK(index_map(&x, fd, page_tokens, nr_classes) == -EPROTO, "%s",
	      what);
}

/* Who made it could cut it: reading would then be the end of the reader. */
static void test_seal(void)
{
	bad(P, 2, "a size that may change");
	CHECK(!fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK), "cannot be sealed");
}

/* What the header says once it is mapped leads nowhere. */
static void test_header(struct index *x)
{
	struct shm_index was;
	handle_t pages[2];

	memcpy(&was, ix, sizeof(was));
	ix->nr_blocks = ix->nr_buckets = ix->block_bytes = UINT32_MAX;
	ix->blocks_off = ix->buckets_off = 1ull << 40;
	CHECK(find(x, 9, 9, pages), "not found any more");
	CHECK(index_touched(x) <= NR_BLOCKS, "more blocks than there were");
	memcpy(ix, &was, sizeof(was));
}

static void test_bad(void)
{
	int empty = memfd_create("empty", MFD_CLOEXEC);
	struct index x = { NULL };

	CHECK(index_map(&x, empty, P, 2) == -EPROTO, "an empty file");
	close(empty);
	bad(64, 2, "other page size");
	bad(P, 3, "other number of classes");
	ix->nr_buckets = 3;
	bad(P, 2, "buckets not a power of two");
	ix->nr_buckets = 1u << 31;
	bad(P, 2, "buckets beyond the end");
	ix->nr_buckets = NR_BUCKETS;
	ix->nr_blocks = NR_BLOCKS + 1;
	bad(P, 2, "blocks beyond the end");
	ix->nr_blocks = NR_BLOCKS;
	ix->blocks_off = UINT64_MAX - 63;
	bad(P, 2, "an offset that wraps");
	ix->blocks_off = BLOCKS_OFF;
	ix->block_bytes = 64;
	bad(P, 2, "blocks too small for their tokens");
	ix->block_bytes = (uint32_t)shm_block_bytes(P);
	ix->version = SHM_VERSION + 1;
	bad(P, 2, "another version");
	ix->version = SHM_VERSION;
}

int main(void)
{
	struct index x = { NULL };

	make();
	test_seal();
	test_bad();
	CHECK(!index_map(&x, fd, P, 2), "a good index");
	test_find(&x);
	test_header(&x);
	test_races(&x);
	test_copy(&x);
	test_runs(&x);
	test_children(&x);
	test_bad_children(&x);
	test_noise(&x);
	index_unmap(&x);
	munmap(ix, ix->bytes);
	close(fd);
	return 0;
}
