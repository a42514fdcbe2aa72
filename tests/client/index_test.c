// SPDX-License-Identifier: Apache-2.0
/* index_test.c - lookups in an index made by hand, and in broken ones. */
#include <errno.h>
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

	fd = memfd_create("index", MFD_CLOEXEC);
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

static void bad(uint32_t page_tokens, uint32_t nr_classes, const char *what)
{
	struct index x = { NULL };

	CHECK(index_map(&x, fd, page_tokens, nr_classes) == -EPROTO, "%s",
	      what);
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
	test_bad();
	CHECK(!index_map(&x, fd, P, 2), "a good index");
	test_find(&x);
	test_races(&x);
	index_unmap(&x);
	munmap(ix, ix->bytes);
	close(fd);
	return 0;
}
