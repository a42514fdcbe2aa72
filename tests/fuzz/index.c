// SPDX-License-Identifier: Apache-2.0
/*
 * index.c - a client's lookups in an index that is garbage, or changes.
 *
 * A small genuine index of eight blocks is bent by words that the input
 * writes: before it is mapped, between lookups, and amid them, where a reader
 * that finds a block being written lets others run. What is found is read;
 * what leads out of the mapping ends the test.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "client-lib/index.h"
#include "tests/fuzz/bytes.h"
#include "tests/fuzz/fuzz.h"
#include "tests/support/check.h"

#define TOKENS	   32u
#define NR_CLASSES 2u
#define NR_GENUINE 8u
#define NR_BLOCKS  16u
#define NR_BUCKETS 4u
#define BLOCKS_OFF 256u
#define BYTES	   (BLOCKS_OFF + NR_BLOCKS * 384u)
#define MAX_OPS	   256

static int fd = -1;
static uint8_t genuine[BYTES];
static uint32_t *words;		/* of the memory behind @fd */
static struct bytes in;

static struct name name_of(uint32_t nr)
{
	struct name n = { { 0 } };

	if (nr)
		memset(n.b, (int)nr, sizeof(n.b));
	return n;
}

/* Two chains of four, the second a sibling of the first. */
static void put_block(struct shm_index *ix, uint32_t nr)
{
	struct shm_block *b = shm_block_at(ix, nr);
	uint32_t before = nr % 4 == 1 ? 0 : nr - 1;
	_Atomic uint32_t *child;

	b->name = name_of(nr);
	b->parent = name_of(before);
	b->page[0] = handle_make(1, nr);
	b->page[1] = nr % 2 ? handle_make(1, nr + 100) : 0;
	b->depth = (nr - 1) % 4;
	for (uint32_t i = 0; i < TOKENS; i++)
		b->tokens[i] = nr;
	b->next = *shm_bucket(ix, &b->name);
	*shm_bucket(ix, &b->name) = nr;
	child = before ? &shm_block_at(ix, before)->child : &ix->child;
	b->sibling = *child;
	*child = nr;
}

static void init(void)
{
	struct shm_index *ix = (struct shm_index *)(void *)genuine;

	*ix = (struct shm_index){
		.magic = SHM_INDEX_MAGIC,
		.version = SHM_VERSION,
		.page_tokens = TOKENS,
		.nr_classes = NR_CLASSES,
		.nr_buckets = NR_BUCKETS,
		.nr_blocks = NR_BLOCKS,
		.block_bytes = (uint32_t)shm_block_bytes(TOKENS),
		.buckets_off = sizeof(*ix),
		.blocks_off = BLOCKS_OFF,
		.bytes = BYTES,
		.nr_used = NR_GENUINE,
		.nr_touched = NR_GENUINE,
	};
	for (uint32_t nr = 1; nr <= NR_GENUINE; nr++)
		put_block(ix, nr);
	fd = memfd_create("index", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	CHECK(fd >= 0 && !ftruncate(fd, BYTES) &&
	      !fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK), "memfd");
	words = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CHECK(words != MAP_FAILED, "mmap");
}

/* A word anywhere, more often one that leads somewhere. */
static void bend(void)
{
	uint64_t at = bytes_get(&in, 2), value = bytes_get(&in, 1);

	if (value == 0xff)
		value = bytes_get(&in, 4);
	words[at % (BYTES / 4)] = (uint32_t)value;
}

/* A reader waits for whoever writes. */
int sched_yield(void)
{
	if (in.nr)
		bend();
	return 0;
}

static void find(const struct index *x)
{
	uint32_t nr = (uint32_t)bytes_get(&in, 1) % (NR_GENUINE + 1);
	struct name name = name_of(nr), zero = name_of(0);
	struct name parent = name_of(nr % 4 == 1 ? 0 : nr - 1);
	uint32_t tokens[TOKENS], at = (uint32_t)bytes_get(&in, 1);
	struct index_key key = { &name, &parent, &zero, tokens };
	struct index_run run = { &parent, &zero, tokens, at, at % 4 };
	handle_t pages[SHM_MAX_CLASSES];

	for (uint32_t i = 0; i < TOKENS; i++)
		tokens[i] = nr;
	CHECK(index_find(x, &key, pages) <= NR_BLOCKS, "beyond the last");
	if (run.nr_tokens > TOKENS)
		run.nr_tokens = TOKENS;
	CHECK(index_find_run(x, &run, pages) <= TOKENS, "too many tokens");
	at = index_follow(x, at % (NR_BLOCKS + 1), &key, &name, pages);
	CHECK(at <= NR_BLOCKS, "beyond the last");
}

static void copy_all(const struct index *x)
{
	union {
		struct index_copy copy;
		char room[sizeof(struct index_copy) + 4 * TOKENS];
	} u;
	uint32_t nr = index_touched(x);

	CHECK(nr <= NR_BLOCKS, "beyond the last");
	for (uint32_t i = 1; i <= nr; i++)
		if (index_copy(x, i, &u.copy))
			CHECK(u.copy.classes < 1u << NR_CLASSES, "classes");
	index_used(x);
}

static void map(struct index *x)
{
	int r = index_map(x, fd, TOKENS, NR_CLASSES);

	CHECK(r == 0 || r == -EPROTO, "%d", r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct index x = { NULL };

	if (fd < 0)
		init();
	memcpy(words, genuine, BYTES);
	in = (struct bytes){ data, size };
	for (unsigned nr = 0; in.nr && nr < MAX_OPS; nr++) {
		unsigned op = (unsigned)bytes_get(&in, 1) % 8;

		if (op < 4)
			bend();
		else if (op == 4 || !x.ix)
			map(&x);
		else if (op == 5)
			copy_all(&x);
		else
			find(&x);
	}
	in.nr = 0;
	index_unmap(&x);
	return 0;
}
