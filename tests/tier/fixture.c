/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fixture.c - pages with known bytes, put and got.
 */
#include "tests/tier/fixture.h"

#include <unistd.h>
#include "daemon/util/fault.h"

char dir[64], path[80];
struct said said;

struct tier_key key_of(uint64_t nr)
{
	return (struct tier_key){
		.name = { nr * 0x9e3779b97f4a7c15ULL, ~nr },
		.origin = nr % ORIGINS,
		.kind = nr,
	};
}

static void fill(uint8_t *to, uint32_t bytes, uint64_t nr)
{
	for (uint32_t i = 0; i < bytes; i++)
		to[i] = (uint8_t)((nr + 1) * 31 + i * 7 + (i >> 8));
}

static uint32_t bytes_of(uint64_t nr)
{
	return nr < SIZED ? PAGE_BYTES :
			    (uint32_t)(nr % 4 + 1) * TIER_ALIGN -
				    tier_data_at(sizeof(nr));
}

void put(struct tier *t, uint64_t nr)
{
	put_used(t, nr, &(struct tier_use){ .value = NULL });
}

void put_used(struct tier *t, uint64_t nr, const struct tier_use *use)
{
	struct tier_page *p = tier_page_new(sizeof(nr), bytes_of(nr));
	struct tier_key key = key_of(nr);

	assert_non_null(p);
	memcpy(tier_page_head(p), &nr, sizeof(nr));
	fill(tier_page_data(p), p->bytes, nr);
	t->ops->put(t, &key, p, use);
	tier_page_put(p);
}

struct wanted {
	struct tier_get get;
	struct tier_page *page;
	bool done;
};

static void on_got(struct tier_get *get, struct tier_page *page)
{
	struct wanted *w = (struct wanted *)get;

	assert_false(w->done);
	w->page = page;
	w->done = true;
}

bool got(struct tier *t, uint64_t nr)
{
	struct wanted w = { .get = { .done = on_got } };
	struct tier_key key = key_of(nr);
	uint8_t want[4 * TIER_ALIGN];

	t->ops->get(t, &key, &w.get);
	if (!w.done)
		t->ops->flush(t);
	assert_true(w.done);
	if (!w.page)
		return false;
	assert_int_equal(w.page->bytes, bytes_of(nr));
	fill(want, w.page->bytes, nr);
	assert_int_equal(w.page->head_bytes, sizeof(nr));
	assert_memory_equal(tier_page_head(w.page), &nr, sizeof(nr));
	assert_memory_equal(tier_page_data(w.page), want, w.page->bytes);
	tier_page_put(w.page);
	return true;
}

uint64_t forget(struct tier *t, uint64_t origin, uint32_t step)
{
	struct tier_forgot all = { 0 }, was;
	bool more;

	do {
		was = all;
		more = t->ops->forget(t, origin, step, &all);
		assert_true(all.pages - was.pages <= step);
	} while (more);
	while (t->ops->forget(t, origin, 0, &all))
		t->ops->flush(t);
	return all.pages;
}

unsigned how_many(const struct tier *t, uint64_t from, uint64_t to)
{
	unsigned nr = 0;

	for (uint64_t i = from; i < to; i++) {
		struct tier_key key = key_of(i);

		nr += t->ops->has(t, &key);
	}
	return nr;
}

struct tier_stat stat_of(const struct tier *t)
{
	struct tier_stat st;

	t->ops->stat(t, &st);
	return st;
}

int dir_setup(void **state)
{
	memset(&said, 0, sizeof(said));
	strcpy(dir, "/tmp/kvd-tier-XXXXXX");
	if (!mkdtemp(dir))
		return -1;
	snprintf(path, sizeof(path), "%s/tier", dir);
	return 0;
}

int dir_teardown(void **state)
{
	unlink(path);
	return rmdir(dir);
}

static void on_say(void *ctx, enum tier_news news, const char *what)
{
	said.good += news == TIER_GOOD;
	said.bad += news == TIER_BAD;
	said.owes += news == TIER_OWES;
	snprintf(said.what, sizeof(said.what), "%s", what);
}

static void on_wake(void *ctx)
{
}

struct tier *file_tier_begun(uint64_t bytes)
{
	static const struct tier_say say = { .say = on_say };
	struct tier *t;

	assert_int_equal(tier_file_new(path, bytes, &say, on_wake, NULL, &t),
			 0);
	return t;
}

struct tier *file_tier(uint64_t bytes)
{
	struct tier *t = file_tier_begun(bytes);

	t->ops->flush(t);
	return t;
}

void tier_free(struct tier *t)
{
	t->ops->free(t);
}

void faults(const char *spec)
{
	char why[200];

	assert_int_equal(fault_init(spec, why, sizeof(why)), 0);
}
