/* SPDX-License-Identifier: Apache-2.0 */
/*
 * restart.c - a daemon goes, its successor has the descriptors.
 */
#include "tests/mem/fixture.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>
#include "daemon/dev/device.h"
#include "daemon/mem/table.h"
#include "daemon/util/memfd.h"

static const uint32_t groups[] = { 8, 3, 0 }; /* 128 KiB, 48 KiB */

static pid_t living; /* the one that alive() finds */

static bool alive(pid_t pid, uint64_t start_time)
{
	return pid == living && start_time == 1000;
}

static struct kept *kept(struct fx *f, const char *name)
{
	for (int i = 0; i < MAX_KEPT; i++)
		if (strcmp(f->kept[i].name, name) == 0)
			return &f->kept[i];
	fail_msg("%s was not kept", name);
	return NULL;
}

/* The table, to be meddled with; closed by table_fini(). */
static struct table view(struct fx *f)
{
	int fd = fcntl(kept(f, "kvd-table")->fd, F_DUPFD_CLOEXEC, 0);
	struct table t = TABLE_NULL;
	const char *why;

	assert_int_equal(table_adopt(&t, fd, dev_spec(f->dev), &why), 0);
	return t;
}

static int nr_kept(struct fx *f)
{
	int nr = 0;

	for (int i = 0; i < MAX_KEPT; i++)
		nr += f->kept[i].name[0] != '\0';
	return nr;
}

static void test_restart(void **state)
{
	struct mem_client *c, *other;
	struct mem_space *s;
	struct mem_space_stat st;
	struct fx f;
	handle_t open[2], named[20], private, stale, out[MEM_MAX_CLASSES];
	struct mem_block b = { .tokens = NULL };
	place_t before[20], after[20];
	uint64_t epoch;

	fx_init(&f, 16 * MIB, 4 * MIB);
	epoch = mem_epoch(f.m);
	c = fx_client(&f, 1, "t", 0);
	s = fx_space(c, 1, groups);
	assert_int_equal(fx_alloc(&f, c, s, 0, 10, named), 0);
	assert_int_equal(fx_alloc(&f, c, s, 1, 10, named + 10), 0);
	for (uint32_t d = 0; d < 10; d++) {
		fx_publish(c, s, 1, d, 0, named[d]);
		fx_publish(c, s, 1, d, 1, named[10 + d]);
	}
	assert_int_equal(mem_match(c, s, named, 20, before), 20);
	fx_release(c, named[3]);
	fx_release(c, named[3]);
	assert_int_equal(fx_alloc(&f, c, s, 1, 2, open), 0);
	private = b.pages[0] = fx_page(&f, c, s, 0);
	assert_int_equal(mem_publish(c, s, &b, true, out, after), 0);
	stale = fx_page(&f, c, s, 0);
	fx_release(c, stale);

	fx_restart(&f);
	assert_non_null(strstr(f.note, "restored 23 pages"));
	assert_int_equal(mem_epoch(f.m), epoch);
	assert_int_equal(mem_restarts(f.m), 1);
	assert_true(mem_in_grace(f.m));
	assert_int_equal(fx_pages(&f, PAGE_CACHED), 20);
	assert_int_equal(fx_pages(&f, PAGE_OPEN), 2);
	assert_int_equal(fx_pages(&f, PAGE_SEALED), 1);

	/* Published pages match again, at the same places. */
	other = fx_client(&f, 2, "t", 0);
	s = fx_space(other, 1, groups);
	mem_space_stat(s, &st);
	assert_int_equal(st.blocks, 10);
	assert_int_equal(fx_lookup(s, 1, 7, 1), named[17]);
	assert_int_equal(mem_match(other, s, named, 20, after), 20);
	assert_memory_equal(before, after, sizeof(before));
	fx_verify(&f);

	/* The owner takes back what it had; others may not have it. */
	c = fx_client(&f, 1, "t", 0);
	fx_space(c, 1, groups);
	assert_int_equal(mem_claim(other, s, open[0], 1), -ESTALE);
	assert_int_equal(mem_claim(c, s, open[0], 1), 0);
	assert_int_equal(mem_claim(c, s, private, 2), 0);
	assert_int_equal(mem_claim(c, s, named[0], 1), 0);
	assert_int_equal(mem_claim(c, s, stale, 1), -ESTALE);
	assert_int_equal(mem_claim(c, s, named[0] + (1ull << 32), 1), -ESTALE);
	fx_verify(&f);
	living = 0;
	mem_grace_end(f.m, alive);
	assert_false(mem_in_grace(f.m));
	fx_verify(&f);
	assert_int_equal(fx_pages(&f, PAGE_OPEN), 1);
	assert_int_equal(fx_pages(&f, PAGE_SEALED), 21);
	assert_int_equal(mem_claim(c, s, open[1], 1), -ESTALE);

	/* And once more, with a new generation where the old one was freed. */
	fx_publish(c, s, 1, 10, 1, open[0]);
	fx_restart(&f);
	assert_int_equal(mem_restarts(f.m), 2);
	other = fx_client(&f, 2, "t", 0);
	s = fx_space(other, 1, groups);
	assert_int_equal(fx_lookup(s, 1, 10, 1), open[0]);
	stale = fx_page(&f, other, s, 0);
	assert_int_equal(mem_claim(other, s, open[1], 1), -ESTALE);
	assert_int_equal(mem_release(other, &stale, 1, &(uint32_t){ 0 }), 0);
	fx_fini(&f);
}

static void test_grace(void **state)
{
	static const uint32_t one[] = { 4, 0 };
	struct mem_client *c;
	struct mem_space *s;
	struct mem_block b = { .tokens = NULL };
	struct fx f;
	handle_t h[64], out[MEM_MAX_CLASSES];
	place_t p[64];
	uint64_t need;

	fx_init(&f, 4 * MIB, 4 * MIB);
	c = fx_client(&f, 1, "t", 0);
	s = fx_space(c, 1, one);
	assert_int_equal(fx_alloc(&f, c, s, 0, 64, h), 0);
	for (uint32_t d = 0; d < 60; d++)
		fx_publish(c, s, 1, d, 0, h[d]);
	b.pages[0] = h[60];
	assert_int_equal(mem_publish(c, s, &b, true, out, p), 0);
	fx_restart(&f);
	c = fx_client(&f, 2, "t", 60 * 64 * 1024);
	s = fx_space(c, 1, one);
	/* Nothing is reclaimed, not even for the limit: wait. */
	assert_int_equal(mem_alloc(c, s, 0, 1, h, p, &need), -EAGAIN);
	mem_client_free(c, MEM_END_DEAD);
	fx_limit(&f, "t", 0, 0, 0);
	c = fx_client(&f, 2, "t", 0);
	s = fx_space(c, 1, one);
	assert_int_equal(mem_alloc(c, s, 0, 1, h, p, &need), -EAGAIN);
	f.rooms = 0;
	living = 1;
	mem_grace_end(f.m, alive);
	mem_grace_end(f.m, alive);
	assert_int_equal(f.rooms, 1);
	assert_int_equal(fx_pages(&f, PAGE_QUARANTINED), 3);
	assert_int_equal(fx_pages(&f, PAGE_CACHED), 60);
	assert_int_equal(fx_pages(&f, PAGE_SEALED), 0);
	fx_verify(&f);
	assert_int_equal(fx_alloc(&f, c, s, 0, 2, h), 0);
	/* The restored order: the end of the chain is the coldest. */
	assert_int_equal(fx_lookup(s, 1, 59, 0), 0);
	assert_int_not_equal(fx_lookup(s, 1, 58, 0), 0);
	mem_reap_writer(f.m, 1, 1000);
	assert_int_equal(fx_pages(&f, PAGE_QUARANTINED), 0);
	fx_fini(&f);
}

static void test_reap_in_grace(void **state)
{
	struct mem_client *c;
	struct mem_space *s;
	struct fx f;

	fx_init(&f, 8 * MIB, 4 * MIB);
	c = fx_client(&f, 1, "t", 0);
	s = fx_space(c, 1, groups);
	fx_page(&f, c, s, 0);
	fx_restart(&f);
	assert_int_equal(fx_pages(&f, PAGE_OPEN), 1);
	mem_reap_writer(f.m, 1, 1000);
	assert_int_equal(fx_pages(&f, PAGE_OPEN), 0);
	fx_fini(&f);
}

/* ---- what cannot be taken over ---- */

/* A pool with two published pages and one open one, daemon gone. */
static void leave(struct fx *f, handle_t *h)
{
	struct mem_client *c;
	struct mem_space *s;

	fx_init(f, 16 * MIB, 4 * MIB);
	c = fx_client(f, 1, "t", 0);
	s = fx_space(c, 1, groups);
	assert_int_equal(fx_alloc(f, c, s, 0, 3, h), 0);
	fx_publish(c, s, 1, 0, 0, h[0]);
	fx_publish(c, s, 1, 1, 0, h[1]);
	fx_verify(f);
	mem_free(f->m);
}

static void come_back(struct fx *f)
{
	assert_int_equal(fx_new(f), 0);
	fx_verify(f);
}

static void test_other_version(void **state)
{
	struct table t;
	struct fx f;
	handle_t h[3];
	uint64_t epoch;

	leave(&f, h);
	t = view(&f);
	epoch = t.h->epoch;
	t.h->version = 99;
	come_back(&f);
	assert_string_equal(f.note, "starting empty: the page table is of "
				    "another version; segments dropped: 1");
	assert_int_not_equal(mem_epoch(f.m), epoch);
	assert_false(mem_in_grace(f.m));
	assert_int_equal(nr_kept(&f), 1); /* the new table alone */
	table_fini(&t);
	fx_fini(&f);
}

static void test_nothing_kept(void **state)
{
	struct fx f;

	fx_init(&f, 8 * MIB, 4 * MIB);
	assert_string_equal(f.note, "starting empty: nothing was kept");
	fx_fini(&f);
}

static void test_does_not_survive(void **state)
{
	struct dev_ops ops;
	const struct dev_ops *real;
	struct fx f;
	handle_t h[3];

	leave(&f, h);
	real = f.dev->ops;
	ops = *real;
	ops.survives = false;
	f.dev->ops = &ops;
	come_back(&f);
	assert_non_null(strstr(f.note, "do not outlive"));
	assert_int_equal(nr_kept(&f), 0);
	f.dev->ops = real;
	fx_fini(&f);
}

/* Of another's size or kind, or none; @what is there instead of @fd. */
static int instead(int fd, int what)
{
	int pair[2];

	switch (what) {
	case 0: return memfd_create("unsealed", MFD_CLOEXEC);
	case 1: return memfd_new("small", 4 * MIB - 1);
	case 2: return memfd_reopen_readonly(fd);
	case 3: return open("/dev/null", O_RDWR | O_CLOEXEC);
	}
	assert_int_equal(pipe2(pair, O_CLOEXEC), 0);
	close(pair[1]);
	return pair[0];
}

/* A segment that is lost takes its pages along, and no others. */
static void test_lost_segment(void **state)
{
	for (int what = 0; what < 6; what++) {
		struct mem_client *c;
		struct mem_space *s;
		struct kept *k;
		struct fx f;
		handle_t h[3];

		leave(&f, h);
		k = kept(&f, "kvd-seg-1");
		if (what == 2 && strcmp(dev_spec(f.dev), "host") != 0)
			what++; /* a GPU's has no such */
		if (what < 5) {
			int fd = instead(k->fd, what);

			close(k->fd);
			k->fd = fd;
			assert_true(fd >= 0);
		} else {
			close(k->fd);
			k->name[0] = '\0';
		}
		come_back(&f);
		assert_non_null(strstr(f.note, "3 pages were lost"));
		assert_int_equal(nr_kept(&f), 1);
		c = fx_client(&f, 1, "t", 0);
		s = fx_space(c, 1, groups);
		assert_int_equal(mem_claim(c, s, h[0], 1), -ESTALE);
		assert_int_equal(fx_lookup(s, 1, 0, 0), 0);
		assert_int_not_equal(fx_page(&f, c, s, 0), h[0]);
		fx_fini(&f);
	}
}

/* Segments without the table that says what is in them. */
static void test_lost_table(void **state)
{
	struct kept *k;
	struct fx f;
	handle_t h[3];

	leave(&f, h);
	k = kept(&f, "kvd-table");
	close(k->fd);
	k->name[0] = '\0';
	come_back(&f);
	assert_string_equal(f.note, "starting empty: nothing was kept; "
				    "segments dropped: 1");
	assert_int_equal(nr_kept(&f), 1);
	fx_fini(&f);
}

/* What a page says of itself must all be true. */
static void test_broken_pages(void **state)
{
	for (int what = 0; what < 14; what++) {
		struct identity id;
		struct prefix prefix;
		struct table t;
		struct fx f;
		handle_t h[3];

		leave(&f, h);
		t = view(&f);
		id = *table_get(&t, handle_nr(h[0]));
		prefix = t.prefixes[handle_nr(h[0])];
		switch (what) {
		case 0: id.space = 0; break;
		case 1: id.space = 77; break;
		case 2: id.class = 1; break;
		case 3: id.class = 9; break;
		case 4: id.page_bytes = 256; break;
		case 5: id.k_format = KVD_INT8; break;
		case 6: id.place += 256; break;
		case 7: id.place = place_make(9, 0); break;
		case 8: id.slab_slot = 1; break;
		case 9: id.slab_slot = 999; break;
		case 10: id.place = table_get(&t, handle_nr(h[1]))->place;
			 break;
		case 11: id.generation = 0; break;
		case 12: id.state = PAGE_CACHED; break;
		case 13: prefix.tokens[5]++; break;
		}
		t.prefixes[handle_nr(h[0])] = prefix;
		table_set(&t, handle_nr(h[0]), &id, NULL);
		come_back(&f);
		assert_non_null(strstr(f.note, "restored 2 pages"));
		assert_non_null(strstr(f.note, "1 pages were lost"));
		table_fini(&t);
		mem_grace_end(f.m, alive);
		fx_fini(&f);
	}
}

/* Whatever is in the table, the pool that comes of it is sound. */
static void test_garbage(void **state)
{
	for (unsigned seed = 0; seed < 150; seed++) {
		struct table t;
		struct fx f;
		handle_t h[3];
		char *part[4];
		size_t bytes[4];

		srand(seed);
		leave(&f, h);
		t = view(&f);
		part[0] = (char *)&t.entries[1];
		bytes[0] = 3 * sizeof(t.entries[0]);
		part[1] = (char *)&t.segments[0];
		bytes[1] = 2 * sizeof(t.segments[0]);
		part[2] = (char *)&t.tenants[0];
		bytes[2] = 2 * sizeof(t.tenants[0]);
		part[3] = (char *)&t.spaces[0];
		bytes[3] = 2 * sizeof(t.spaces[0]);
		for (int i = rand() % 8; i >= 0; i--)
			part[seed % 4][(size_t)rand() % bytes[seed % 4]] ^=
				(char)(1 << rand() % 8);
		table_fini(&t);
		come_back(&f);
		mem_grace_end(f.m, alive);
		fx_fini(&f);
	}
}

/* Two pages of one name: the first stays. */
static void test_twins(void **state)
{
	struct identity id;
	struct table t;
	struct fx f;
	handle_t h[3];

	leave(&f, h);
	t = view(&f);
	t.prefixes[handle_nr(h[1])] = t.prefixes[handle_nr(h[0])];
	id = *table_get(&t, handle_nr(h[1]));
	table_set(&t, handle_nr(h[1]), &id, NULL);
	come_back(&f);
	assert_non_null(strstr(f.note, "restored 2 pages"));
	table_fini(&t);
	fx_fini(&f);
}

/* A smaller pool keeps the segments that fit. */
static void test_smaller_pool(void **state)
{
	struct mem_client *c;
	struct mem_space *s;
	struct fx f;
	handle_t h[64];

	fx_init(&f, 16 * MIB, 4 * MIB);
	c = fx_client(&f, 1, "t", 0);
	s = fx_space(c, 1, groups);
	assert_int_equal(fx_alloc(&f, c, s, 0, 64, h), 0);
	for (uint32_t d = 0; d < 64; d++)
		fx_publish(c, s, 1, d, 0, h[d]);
	mem_free(f.m);
	f.cfg.pool_bytes = 4 * MIB;
	come_back(&f);
	assert_int_equal(fx_pages(&f, PAGE_CACHED), 32);
	mem_grace_end(f.m, alive);
	fx_fini(&f);
}

static void test_config(void **state)
{
	static const struct mem_config bad[] = {
		{ .pool_bytes = 0 },
		{ .pool_bytes = DEV_GRANULE - 1 },
		{ .pool_bytes = 64 * MIB, .segment_bytes = 3 * MIB },
		{ .pool_bytes = 64 * MIB, .max_pages = 1ull << 40 },
		{ .pool_bytes = 64 * MIB, .max_spaces = 1u << 30 },
	};
	struct fx f;

	fx_init(&f, 8 * MIB, 4 * MIB);
	mem_free(f.m);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		f.cfg = bad[i];
		assert_int_equal(fx_new(&f), -EINVAL);
	}
	fx_forget(&f);
	f.cfg = (struct mem_config){ .pool_bytes = 100ull << 30 };
	come_back(&f);
	fx_fini(&f);
	mem_free(NULL);
}

/* A store that has two of a name drops both: what is used stays kept. */
static void test_twice_kept(void **state)
{
	struct mem_client *c;
	struct mem_space *s;
	struct fx f;
	handle_t h;
	int nr;

	fx_init(&f, 16 * MIB, 4 * MIB);
	c = fx_client(&f, 1, "t", 0);
	s = fx_space(c, 1, groups);
	h = fx_page(&f, c, s, 0);
	fx_publish(c, s, 1, 0, 0, h);
	nr = nr_kept(&f);
	for (int i = 0; i < nr; i++) {
		f.kept[nr + i] = f.kept[i];
		f.kept[nr + i].fd = fcntl(f.kept[i].fd, F_DUPFD_CLOEXEC, 0);
	}
	fx_restart(&f);
	assert_int_equal(nr_kept(&f), nr);
	fx_restart(&f);
	assert_int_equal(nr_kept(&f), nr);
	assert_int_equal(fx_pages(&f, PAGE_CACHED), 1);
	fx_fini(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_restart),
		cmocka_unit_test(test_grace),
		cmocka_unit_test(test_reap_in_grace),
		cmocka_unit_test(test_other_version),
		cmocka_unit_test(test_nothing_kept),
		cmocka_unit_test(test_does_not_survive),
		cmocka_unit_test(test_lost_segment),
		cmocka_unit_test(test_lost_table),
		cmocka_unit_test(test_broken_pages),
		cmocka_unit_test(test_garbage),
		cmocka_unit_test(test_twins),
		cmocka_unit_test(test_smaller_pool),
		cmocka_unit_test(test_config),
		cmocka_unit_test(test_twice_kept),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
