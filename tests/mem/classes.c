/* SPDX-License-Identifier: Apache-2.0 */
/*
 * classes.c - groups whose pages are sealed in other formats than they are
 * filled in: blocks with two pages of a group, and which of them goes first.
 *
 * Group 0 has two classes, OPEN (64 KiB: 32 in a granule) and SEALED (18 KiB);
 * group 1 is exact and has one.
 */
#include "tests/mem/fixture.h"

#include <fcntl.h>
#include "daemon/mem/table.h"

static const uint32_t layers[] = { 4, 3, 0 };

#define OPEN	   0
#define EXACT	   1 /* 48 KiB */
#define SEALED	   2
#define NR_CLASSES 3
#define OPEN_BYTES (64 * 1024)

static struct mem_space *two(struct mem_client *c)
{
	struct mem_space_key key = fx_kivi_key(1, layers, 1 << 1);

	return fx_open(c, &key);
}

static void expect_class(const struct mem_space *s, uint32_t i, uint32_t group,
			 uint32_t format, uint32_t bytes)
{
	const struct mem_class *class = mem_space_class(s, i);

	assert_non_null(class);
	assert_int_equal(class->group, group);
	assert_int_equal(class->k_format, format);
	assert_int_equal(class->v_format, format);
	assert_int_equal(class->page_bytes, bytes);
}

static void test_classes(void **state)
{
	static const uint32_t large[] = { 260, 0 }; /* 4.1 MiB, sealed 1.2 */
	struct mem_space_key key = fx_kivi_key(2, large, 0);
	struct mem_client *c;
	struct mem_space *s;
	const char *why;
	struct fx f;

	fx_init(&f, 8 * MIB, 4 * MIB);
	c = fx_client(&f, 1, "t", 0);
	s = two(c);
	expect_class(s, OPEN, 0, KVD_F16, OPEN_BYTES);
	expect_class(s, EXACT, 1, KVD_F16, 48 * 1024);
	expect_class(s, SEALED, 0, KVD_KIVI4, 4 * 4608);
	assert_null(mem_space_class(s, NR_CLASSES));
	/* Every class must fit: here the open one does not. */
	assert_int_equal(mem_space_open(c, &key, &s, &why), -EINVAL);
	assert_non_null(strstr(why, "segments"));
	/* Sealed in place, and yet two: the first pages stay exact. */
	key = fx_key(3, layers);
	key.geometry.k_format = key.geometry.v_format = KVD_INT8;
	key.geometry.open_format = KVD_BF16;
	key.geometry.exact_pages = 1;
	s = fx_open(c, &key);
	assert_int_equal(mem_space_class(s, 1)->k_format, KVD_BF16);
	assert_int_equal(mem_space_class(s, 2)->group, 0);
	assert_int_equal(mem_space_class(s, 3)->group, 1);
	assert_int_equal(mem_space_class(s, 3)->k_format, KVD_INT8);
	assert_null(mem_space_class(s, 4));
	fx_fini(&f);
}

/* ---- publishing ---- */

/* Publishes one page of each class that is not 0, in one request. */
static int publish(struct mem_client *c, struct mem_space *s, uint32_t seq,
		   uint32_t depth, const handle_t *pages, handle_t *out)
{
	struct mem_block b = fx_block(s, seq, depth);
	place_t places[MEM_MAX_CLASSES];

	memcpy(b.pages, pages, NR_CLASSES * sizeof(*pages));
	return mem_publish(c, s, &b, false, out, places);
}

static uint64_t nr_blocks(const struct mem_space *s)
{
	struct mem_space_stat st;

	mem_space_stat(s, &st);
	return st.blocks;
}

static void test_publish(void **state)
{
	struct mem_client *a, *b;
	struct mem_space *s;
	struct mem_space_stat st;
	struct fx f;
	handle_t x[NR_CLASSES], y[NR_CLASSES], out[MEM_MAX_CLASSES];
	place_t p[NR_CLASSES];

	fx_init(&f, 16 * MIB, 4 * MIB);
	a = fx_client(&f, 1, "t", 0);
	b = fx_client(&f, 2, "t", 0);
	s = two(a);
	two(b);
	for (uint32_t i = 0; i < NR_CLASSES; i++) {
		x[i] = fx_page(&f, a, s, i);
		y[i] = fx_page(&f, b, s, i);
	}
	/* The exact page alone, then the sealed one of the same block. */
	assert_int_equal(fx_publish(a, s, 1, 0, OPEN, x[OPEN]), x[OPEN]);
	assert_int_equal(fx_lookup(s, 1, 0, SEALED), 0);
	assert_int_equal(fx_publish(a, s, 1, 0, SEALED, x[SEALED]),
			 x[SEALED]);
	assert_int_equal(nr_blocks(s), 1);
	assert_int_equal(fx_lookup(s, 1, 0, OPEN), x[OPEN]);
	assert_int_equal(fx_lookup(s, 1, 0, SEALED), x[SEALED]);
	mem_space_stat(s, &st);
	assert_int_equal(st.class_pages[OPEN].of[PAGE_SEALED], 1);
	assert_int_equal(st.class_pages[SEALED].of[PAGE_SEALED], 1);
	fx_verify(&f);

	/* All at once: two are there already, the third is new. */
	assert_int_equal(publish(b, s, 1, 0, y, out), 0);
	assert_int_equal(out[OPEN], x[OPEN]);
	assert_int_equal(out[EXACT], y[EXACT]);
	assert_int_equal(out[SEALED], x[SEALED]);
	fx_verify(&f);

	/* The classes of a block side by side; then it loses them in turn. */
	assert_int_equal(mem_match(a, s, out, NR_CLASSES, p), NR_CLASSES);
	assert_true(p[OPEN] && p[EXACT] && p[SEALED]);
	mem_client_free(a, MEM_END_DEAD);
	mem_client_free(b, MEM_END_DEAD);
	assert_int_equal(fx_pages(&f, PAGE_CACHED), 3);
	assert_int_equal(nr_blocks(s), 1);
	fx_fini(&f);
}

static void test_wrong_slot(void **state)
{
	struct mem_client *c;
	struct mem_space *s;
	struct fx f;
	handle_t h[NR_CLASSES], out[MEM_MAX_CLASSES];

	fx_init(&f, 8 * MIB, 4 * MIB);
	c = fx_client(&f, 1, "t", 0);
	s = two(c);
	for (uint32_t i = 0; i < NR_CLASSES; i++)
		h[i] = fx_page(&f, c, s, i);
	for (uint32_t i = 0; i < NR_CLASSES; i++)
		for (uint32_t slot = 0; slot < NR_CLASSES; slot++) {
			handle_t pages[NR_CLASSES] = { 0 };

			pages[slot] = h[i];
			if (slot == i)
				continue;
			assert_int_equal(publish(c, s, 1, 0, pages, out),
					 -EINVAL);
			/* Not even together with one that is right. */
			pages[i] = h[i];
			assert_int_equal(publish(c, s, 1, 0, pages, out),
					 -EINVAL);
		}
	assert_int_equal(fx_pages(&f, PAGE_OPEN), NR_CLASSES);
	assert_int_equal(nr_blocks(s), 0);
	/* A sealed page has one name for life, whatever else comes with it. */
	assert_int_equal(fx_publish(c, s, 1, 0, SEALED, h[SEALED]),
			 h[SEALED]);
	assert_int_equal(publish(c, s, 1, 1, h, out), -EINVAL);
	assert_int_equal(fx_pages(&f, PAGE_OPEN), NR_CLASSES - 1);
	fx_fini(&f);
}

/* ---- what goes first ---- */

/* Caches blocks @first to @end of a chain, of the classes in @mask. */
static void cache(struct fx *f, struct mem_client *c, struct mem_space *s,
		  uint32_t first, uint32_t end, uint32_t mask)
{
	handle_t held[200];
	uint32_t nr = 0, released;

	for (uint32_t d = first; d < end; d++)
		for (uint32_t i = 0; i < NR_CLASSES; i++) {
			if (!(mask >> i & 1))
				continue;
			held[nr] = fx_page(f, c, s, i);
			fx_publish(c, s, 1, d, i, held[nr]);
			nr++;
		}
	assert_int_equal(mem_release(c, held, nr, &released), 0);
}

static uint32_t found(const struct mem_space *s, uint32_t first, uint32_t end,
		      uint32_t class)
{
	uint32_t nr = 0;

	for (uint32_t d = first; d < end; d++)
		nr += fx_lookup(s, 1, d, class) != 0;
	return nr;
}

#define BOTH (1 << OPEN | 1 << SEALED)

/* At the limit: copies, coldest first, before older pages that are none. */
static void test_copies_first(void **state)
{
	const uint64_t max = 16 * OPEN_BYTES;
	struct mem_client *c;
	struct mem_space *s;
	struct fx f;
	handle_t h[16], warm;
	place_t p;

	fx_init(&f, 16 * MIB, 4 * MIB);
	c = fx_client(&f, 1, "t", max);
	s = two(c);
	cache(&f, c, s, 0, 4, 1 << OPEN); /* kept exact, and the coldest */
	cache(&f, c, s, 4, 10, BOTH);
	cache(&f, c, s, 10, 12, 1 << EXACT);
	fx_verify(&f);
	warm = fx_lookup(s, 1, 9, OPEN); /* by depth it would go first */
	assert_int_equal(mem_match(c, s, &warm, 1, &p), 1);
	fx_release(c, warm);
	/* 844 of 1024 KiB are cached. */
	assert_int_equal(fx_alloc(&f, c, s, OPEN, 3, h), 0);
	assert_int_equal(found(s, 4, 10, OPEN), 5);
	assert_int_equal(fx_lookup(s, 1, 8, OPEN), 0);
	assert_int_equal(fx_alloc(&f, c, s, OPEN, 5, h), 0);
	assert_int_equal(found(s, 4, 10, OPEN), 0);
	assert_int_equal(found(s, 0, 4, OPEN), 4);
	assert_int_equal(found(s, 4, 10, SEALED), 6);
	assert_int_equal(found(s, 10, 12, EXACT), 2);
	fx_verify(&f);
	/* Then the rest, from the cold end. */
	assert_int_equal(fx_alloc(&f, c, s, OPEN, 1, h), 0);
	assert_int_equal(found(s, 0, 4, OPEN), 3);
	assert_int_equal(fx_lookup(s, 1, 3, OPEN), 0);
	assert_int_equal(found(s, 4, 10, SEALED), 6);
	fx_fini(&f);
}

/* A page of the copies' own size, then one of another. */
static void test_copies_of_a_pool(void **state)
{
	struct mem_client *c;
	struct mem_space *s;
	struct mem_stat st;
	struct fx f;
	handle_t h[120];

	fx_init(&f, 4 * MIB, 2 * MIB);
	c = fx_client(&f, 1, "t", 0);
	s = two(c);
	/* A granule each: 32 open pages, and 113 sealed. */
	cache(&f, c, s, 0, 2, 1 << OPEN);
	cache(&f, c, s, 2, 32, BOTH);
	cache(&f, c, s, 32, 113, 1 << SEALED);
	assert_int_equal(fx_pages(&f, PAGE_CACHED), 32 + 30 + 81);
	assert_int_equal(fx_alloc(&f, c, s, OPEN, 2, h), 0);
	assert_int_equal(found(s, 2, 32, OPEN), 28);
	assert_int_equal(found(s, 0, 2, OPEN), 2);
	/* Two sealed pages are free. The third costs all copies of the slab
	 * first, in vain: others pin it. */
	assert_int_equal(fx_alloc(&f, c, s, SEALED, 2, h + 2), 0);
	assert_int_equal(found(s, 2, 32, OPEN), 28);
	assert_int_equal(fx_alloc(&f, c, s, SEALED, 1, h + 4), 0);
	assert_int_equal(found(s, 2, 32, OPEN), 0);
	assert_int_equal(found(s, 0, 2, OPEN), 2);
	assert_int_equal(found(s, 2, 113, SEALED), 110);
	fx_verify(&f);
	/* Without them the granule serves any class. */
	for (uint32_t d = 0; d < 2; d++)
		fx_release(c, h[d]);
	mem_stat(f.m, &st);
	assert_int_equal(st.pages.of[PAGE_OPEN], 3);
	assert_int_equal(fx_alloc(&f, c, s, EXACT, 1, h + 5), 0);
	assert_int_equal(found(s, 0, 2, OPEN), 0);
	assert_int_equal(found(s, 2, 113, SEALED), 110);
	fx_fini(&f);
}

/* A slab of copies alone makes room for another size. */
static void test_slab_of_copies(void **state)
{
	struct mem_client *c;
	struct mem_space *s;
	struct fx f;
	handle_t h;

	fx_init(&f, 4 * MIB, 2 * MIB);
	c = fx_client(&f, 1, "t", 0);
	s = two(c);
	cache(&f, c, s, 0, 32, BOTH);
	assert_int_equal(fx_alloc(&f, c, s, EXACT, 1, &h), 0);
	assert_int_equal(found(s, 0, 32, OPEN), 0);
	assert_int_equal(found(s, 0, 32, SEALED), 32);
	fx_fini(&f);
}

/* An exact page becomes a copy when its sealed page comes. */
static void test_becomes_copy(void **state)
{
	const uint64_t max = 8 * OPEN_BYTES;
	struct mem_client *c;
	struct mem_space *s;
	struct fx f;
	handle_t h[8];

	fx_init(&f, 8 * MIB, 4 * MIB);
	c = fx_client(&f, 1, "t", max);
	s = two(c);
	cache(&f, c, s, 0, 3, 1 << OPEN);
	cache(&f, c, s, 3, 5, 1 << OPEN);
	cache(&f, c, s, 4, 5, 1 << SEALED);
	fx_verify(&f);
	cache(&f, c, s, 3, 4, 1 << SEALED);
	fx_verify(&f);
	/* The warmest two are copies now: of them, what became one first. */
	assert_int_equal(fx_alloc(&f, c, s, OPEN, 3, h), 0);
	assert_int_equal(fx_lookup(s, 1, 4, OPEN), 0);
	assert_int_not_equal(fx_lookup(s, 1, 3, OPEN), 0);
	assert_int_equal(fx_alloc(&f, c, s, OPEN, 1, h), 0);
	assert_int_equal(found(s, 0, 5, OPEN), 3);
	assert_int_equal(found(s, 3, 5, SEALED), 2);
	fx_verify(&f);
	fx_fini(&f);
}

/* A held copy is nobody's to give up; nor is a held page's copy special. */
static void test_held(void **state)
{
	struct mem_client *c;
	struct mem_space *s;
	struct fx f;
	handle_t h[4], sealed, copy;
	place_t p;

	fx_init(&f, 8 * MIB, 4 * MIB);
	c = fx_client(&f, 1, "t", 4 * OPEN_BYTES);
	s = two(c);
	cache(&f, c, s, 0, 2, BOTH);
	copy = fx_lookup(s, 1, 0, OPEN);
	sealed = fx_lookup(s, 1, 1, SEALED);
	assert_int_equal(mem_match(c, s, &copy, 1, &p), 1);
	assert_int_equal(mem_match(c, s, &sealed, 1, &p), 1);
	fx_verify(&f);
	assert_int_equal(fx_alloc(&f, c, s, OPEN, 2, h), 0);
	assert_int_equal(fx_lookup(s, 1, 0, OPEN), copy);
	assert_int_equal(fx_lookup(s, 1, 1, OPEN), 0);
	assert_int_equal(fx_lookup(s, 1, 1, SEALED), sealed);
	/* Its sealed page goes while it is held: it is cached as any other. */
	assert_int_equal(found(s, 0, 2, SEALED), 2);
	assert_int_equal(fx_alloc(&f, c, s, SEALED, 2, h + 2), 0);
	assert_int_equal(fx_lookup(s, 1, 0, SEALED), 0);
	fx_release(c, copy);
	fx_verify(&f);
	assert_int_equal(fx_lookup(s, 1, 0, OPEN), copy);
	fx_fini(&f);
}

/* When sealed pages go with their segment, the copies are all there is. */
static void test_ceases_to_be_copy(void **state)
{
	struct mem_client *a, *b;
	struct mem_space *s, *sb;
	struct fx f;
	handle_t h[32], one;

	fx_init(&f, 4 * MIB, 2 * MIB);
	a = fx_client(&f, 1, "alice", 0);
	b = fx_client(&f, 2, "bob", 0);
	s = two(a);
	one = fx_page(&f, a, s, SEALED); /* the first segment */
	cache(&f, a, s, 0, 1, 1 << OPEN);
	cache(&f, a, s, 1, 4, BOTH);
	fx_release(a, one);
	sb = two(b);
	assert_int_equal(fx_alloc(&f, b, sb, OPEN, 1, &one), 0);
	assert_int_equal(found(s, 1, 4, SEALED), 0);
	assert_int_equal(found(s, 0, 4, OPEN), 4);
	fx_verify(&f);
	/* They are as warm as can be: the page that was none is older. */
	assert_int_equal(fx_alloc(&f, a, s, OPEN, 29, h), 0);
	assert_int_equal(fx_lookup(s, 1, 0, OPEN), 0);
	assert_int_equal(found(s, 1, 4, OPEN), 3);
	fx_fini(&f);
}

/* ---- restarts ---- */

static bool nobody(pid_t pid, uint64_t start_time)
{
	return false;
}

static void test_restart(void **state)
{
	const uint64_t max = 8 * OPEN_BYTES;
	struct mem_client *c;
	struct mem_space *s;
	struct fx f;
	handle_t open, copy, sealed, h[8];

	fx_init(&f, 8 * MIB, 4 * MIB);
	c = fx_client(&f, 1, "t", max);
	s = two(c);
	cache(&f, c, s, 0, 2, 1 << OPEN);
	cache(&f, c, s, 2, 4, BOTH);
	cache(&f, c, s, 0, 1, 1 << EXACT);
	open = fx_page(&f, c, s, OPEN);
	copy = fx_lookup(s, 1, 3, OPEN);
	sealed = fx_lookup(s, 1, 3, SEALED);
	fx_restart(&f);
	assert_non_null(strstr(f.note, "restored 8 pages"));
	c = fx_client(&f, 1, "t", max);
	s = two(c);
	assert_int_equal(nr_blocks(s), 4);
	assert_int_equal(fx_lookup(s, 1, 3, OPEN), copy);
	assert_int_equal(fx_lookup(s, 1, 3, SEALED), sealed);
	assert_int_equal(mem_claim(c, s, open, 1), 0);
	mem_grace_end(f.m, nobody);
	fx_verify(&f);
	/* What is a copy is found out again: they go first. */
	assert_int_equal(fx_alloc(&f, c, s, OPEN, 3, h), 0);
	assert_int_equal(fx_lookup(s, 1, 3, OPEN), 0);
	assert_int_equal(found(s, 0, 2, OPEN), 2);
	assert_int_equal(found(s, 2, 4, SEALED), 2);
	fx_verify(&f);
	fx_fini(&f);
}

/* A page that says it is of its group's other class is not believed. */
static void test_restart_wrong_class(void **state)
{
	struct table t = TABLE_NULL;
	struct mem_client *c;
	struct mem_space *s;
	struct identity id;
	const char *why;
	struct fx f;
	uint32_t nr;

	fx_init(&f, 8 * MIB, 4 * MIB);
	c = fx_client(&f, 1, "t", 0);
	s = two(c);
	cache(&f, c, s, 0, 1, BOTH);
	nr = handle_nr(fx_lookup(s, 1, 0, OPEN));
	fx_verify(&f);
	mem_free(f.m);
	for (int i = 0; i < MAX_KEPT; i++)
		if (strcmp(f.kept[i].name, "kvd-table") == 0)
			table_adopt(&t,
				    fcntl(f.kept[i].fd, F_DUPFD_CLOEXEC, 0),
				    dev_spec(f.dev), &why);
	assert_true(t.fd >= 0);
	id = *table_get(&t, nr);
	assert_int_equal(id.class, OPEN);
	id.class = SEALED;
	table_set(&t, nr, &id, NULL);
	table_fini(&t);
	assert_int_equal(fx_new(&f), 0);
	assert_non_null(strstr(f.note, "restored 1 pages"));
	assert_non_null(strstr(f.note, "1 pages were lost"));
	fx_fini(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_classes),
		cmocka_unit_test(test_publish),
		cmocka_unit_test(test_wrong_slot),
		cmocka_unit_test(test_copies_first),
		cmocka_unit_test(test_copies_of_a_pool),
		cmocka_unit_test(test_slab_of_copies),
		cmocka_unit_test(test_becomes_copy),
		cmocka_unit_test(test_held),
		cmocka_unit_test(test_ceases_to_be_copy),
		cmocka_unit_test(test_restart),
		cmocka_unit_test(test_restart_wrong_class),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
