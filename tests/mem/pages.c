/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pages.c - a page's life through the calls of mem.h.
 */
#include "tests/mem/fixture.h"

static const uint32_t two_groups[] = { 8, 3, 0 }; /* 128 KiB, 48 KiB */
static const uint32_t one_group[] = { 4, 0 };	  /* 64 KiB */

static void test_life(void **state)
{
	struct mem_client *a, *b;
	struct mem_space *sa, *sb;
	struct mem_client_stat cs;
	struct fx f;
	handle_t h, none;
	place_t place;
	uint32_t nr;

	fx_init(&f, 16 * MIB, 4 * MIB);
	a = fx_client(&f, 1, "t", 0);
	b = fx_client(&f, 2, "t", 0);
	sa = fx_space(a, 1, one_group);
	sb = fx_space(b, 1, one_group);
	assert_ptr_equal(sa, sb);
	h = fx_page(&f, a, sa, 0);
	assert_int_equal(fx_pages(&f, PAGE_OPEN), 1);
	mem_client_stat(a, &cs);
	assert_int_equal(cs.open_pages, 1);
	assert_int_equal(cs.bytes, 64 * 1024);

	/* OPEN is its writer's alone. */
	assert_int_equal(mem_match(b, sb, &h, 1, &place), 0);
	assert_int_equal(mem_reference(a, &h, 1), -ESTALE);
	assert_int_equal(mem_release(b, &h, 1, &nr), -ESTALE);
	assert_int_equal(nr, 0);
	assert_int_equal(fx_lookup(sa, 1, 0, 0), 0);

	assert_int_equal(fx_publish(a, sa, 1, 0, 0, h), h);
	assert_int_equal(fx_pages(&f, PAGE_SEALED), 1);
	assert_int_equal(fx_lookup(sa, 1, 0, 0), h);
	mem_client_stat(a, &cs);
	assert_int_equal(cs.open_pages, 0);
	assert_int_equal(cs.held_pages, 1);
	fx_verify(&f);

	/* Idempotent: no second hold. */
	assert_int_equal(fx_publish(a, sa, 1, 0, 0, h), h);
	fx_release(a, h);
	assert_int_equal(fx_pages(&f, PAGE_CACHED), 1);
	fx_verify(&f);

	assert_int_equal(mem_match(b, sb, &h, 1, &place), 1);
	assert_int_equal(fx_pages(&f, PAGE_SEALED), 1);
	assert_int_equal(mem_reference(b, &h, 1), 0);
	assert_int_equal(mem_reference(a, &h, 1), -ESTALE);
	fx_release(b, h);
	assert_int_equal(fx_pages(&f, PAGE_SEALED), 1);
	fx_release(b, h);
	assert_int_equal(fx_pages(&f, PAGE_CACHED), 1);

	/* Never published: FREE, and its handle is stale. */
	none = fx_page(&f, a, sa, 0);
	fx_release(a, none);
	assert_int_equal(mem_release(a, &none, 1, &nr), -ESTALE);
	assert_int_equal(fx_pages(&f, PAGE_OPEN), 0);
	mem_client_free(a, MEM_END_DEAD);
	mem_client_free(b, MEM_END_DEAD);
	mem_client_free(NULL, MEM_END_DEAD);
	assert_int_equal(fx_pages(&f, PAGE_CACHED), 1);
	fx_fini(&f);
}

static void test_stale(void **state)
{
	struct mem_client *c;
	struct mem_space *s;
	struct fx f;
	handle_t h, again, bad[5];
	place_t place;
	uint32_t nr;

	fx_init(&f, 8 * MIB, 4 * MIB);
	c = fx_client(&f, 1, "t", 0);
	s = fx_space(c, 1, one_group);
	h = fx_page(&f, c, s, 0);
	fx_release(c, h);
	again = fx_page(&f, c, s, 0);
	assert_int_equal(handle_nr(h), handle_nr(again));
	assert_int_not_equal(handle_gen(h), handle_gen(again));
	bad[0] = h;
	bad[1] = 0;
	bad[2] = handle_make(1, 0);
	bad[3] = handle_make(1, UINT32_MAX);
	bad[4] = handle_make(UINT32_MAX, handle_nr(again));
	for (int i = 0; i < 5; i++) {
		struct mem_block b = fx_block(s, 1, 0);
		handle_t out[MEM_MAX_CLASSES];
		place_t places[MEM_MAX_CLASSES];

		assert_int_equal(mem_release(c, &bad[i], 1, &nr), -ESTALE);
		assert_int_equal(mem_reference(c, &bad[i], 1), -ESTALE);
		assert_int_equal(mem_claim(c, s, bad[i], 1), -ESTALE);
		b.pages[0] = bad[i];
		if (!bad[i])
			continue;
		assert_int_equal(mem_match(c, s, &bad[i], 1, &place), 0);
		assert_int_equal(mem_publish(c, s, &b, false, out, places),
				 -ESTALE);
		assert_int_equal(mem_publish(c, s, &b, true, out, places),
				 -ESTALE);
	}
	/* Release stops at the first that is not held. */
	assert_int_equal(mem_release(c, (handle_t[]){ again, again, h }, 3,
				     &nr), -ESTALE);
	assert_int_equal(nr, 1);
	fx_fini(&f);
}

/* Whole classes of misuse leave everything as it was. */
static void test_bad_arguments(void **state)
{
	struct mem_client *c;
	struct mem_space *s;
	struct fx f;
	handle_t h[4], out[MEM_MAX_CLASSES];
	place_t places[MEM_MAX_CLASSES];
	struct mem_block b;
	uint64_t need;

	fx_init(&f, 8 * MIB, 4 * MIB);
	c = fx_client(&f, 1, "t", 0);
	s = fx_space(c, 1, two_groups);
	assert_int_equal(mem_alloc(c, s, 2, 1, h, places, &need), -EINVAL);
	assert_int_equal(mem_alloc(c, s, 0, 0, h, places, &need), -EINVAL);
	assert_int_equal(mem_alloc(c, s, 0, UINT32_MAX, h, places, &need),
			 -EINVAL);
	h[0] = fx_page(&f, c, s, 0);
	h[1] = fx_page(&f, c, s, 1);
	b = fx_block(s, 1, 0);
	b.pages[0] = h[1];
	b.pages[1] = h[0];
	assert_int_equal(mem_publish(c, s, &b, false, out, places), -EINVAL);
	assert_int_equal(fx_pages(&f, PAGE_OPEN), 2);

	/* A page has one name for life. */
	assert_int_equal(fx_publish(c, s, 1, 0, 0, h[0]), h[0]);
	b = fx_block(s, 2, 0);
	b.pages[0] = h[0];
	b.pages[1] = h[1];
	assert_int_equal(mem_publish(c, s, &b, false, out, places), -EINVAL);
	assert_int_equal(fx_pages(&f, PAGE_OPEN), 1);
	assert_int_equal(mem_publish(c, s, &b, true, out, places), 0);
	assert_int_equal(fx_pages(&f, PAGE_SEALED), 2);
	assert_int_equal(fx_lookup(s, 2, 0, 1), 0);
	/* No pages, no block. */
	b = fx_block(s, 3, 0);
	assert_int_equal(mem_publish(c, s, &b, false, out, places), 0);
	assert_int_equal(out[0], 0);
	fx_fini(&f);
}

static void test_groups(void **state)
{
	struct mem_client *a, *b;
	struct mem_space *s;
	struct mem_space_stat st;
	struct mem_block blk;
	struct fx f;
	handle_t h[4], out[MEM_MAX_CLASSES];
	place_t places[MEM_MAX_CLASSES];

	fx_init(&f, 16 * MIB, 4 * MIB);
	a = fx_client(&f, 1, "t", 0);
	b = fx_client(&f, 2, "t", 0);
	s = fx_space(a, 1, two_groups);
	fx_space(b, 1, two_groups);
	assert_int_equal(mem_space_class(s, 0)->page_bytes, 128 * 1024);
	assert_int_equal(mem_space_class(s, 1)->page_bytes, 48 * 1024);
	assert_int_equal(mem_space_class(s, 1)->group, 1);
	assert_null(mem_space_class(s, 2));
	h[0] = fx_page(&f, a, s, 0);
	h[1] = fx_page(&f, a, s, 1);
	h[2] = fx_page(&f, b, s, 0);
	h[3] = fx_page(&f, b, s, 1);

	/* a has only group 0 (the other is out of its window). */
	assert_int_equal(fx_publish(a, s, 1, 0, 0, h[0]), h[0]);
	assert_int_equal(fx_lookup(s, 1, 0, 1), 0);

	/* b fills in group 1; its group 0 is a duplicate. */
	blk = fx_block(s, 1, 0);
	blk.pages[0] = h[2];
	blk.pages[1] = h[3];
	assert_int_equal(mem_publish(b, s, &blk, false, out, places), 0);
	assert_int_equal(out[0], h[0]);
	assert_int_equal(out[1], h[3]);
	assert_int_equal(fx_lookup(s, 1, 0, 1), h[3]);
	mem_space_stat(s, &st);
	assert_int_equal(st.blocks, 1);
	assert_int_equal(st.class_pages[0].of[PAGE_SEALED], 2);
	assert_int_equal(st.class_pages[1].of[PAGE_SEALED], 1);
	assert_int_equal(st.clients, 2);
	fx_verify(&f);

	/* Both hold the kept one; the duplicate is b's alone and unnamed. */
	fx_release(a, h[0]);
	fx_release(b, h[2]);
	assert_int_equal(fx_pages(&f, PAGE_SEALED), 2);
	fx_release(b, h[0]);
	fx_release(b, h[3]);
	assert_int_equal(fx_pages(&f, PAGE_CACHED), 2);

	/* 0 means not wanted; the grant ends at the first that is gone. */
	out[0] = 0;
	out[1] = h[3];
	out[2] = h[2];
	out[3] = h[0];
	assert_int_equal(mem_match(b, s, out, 4, places), 2);
	assert_int_equal(places[0], 0);
	fx_fini(&f);
}

/* Tokens by @i, and what they are named; in bucket 0 when it says so. */
static bool in_bucket_0(const struct mem_space *s, uint32_t i,
			uint32_t nr_buckets, uint32_t *tokens)
{
	struct name none = { { 0 } };
	struct name_key key;
	struct name name;

	for (uint32_t t = 0; t < 64; t++)
		tokens[t] = i + t;
	name_key_init(&key, mem_space_name_key(s));
	name = name_block(&key, &none, &none, tokens, 64);
	return name_hash(&name) % nr_buckets == 0;
}

/* Whoever knows the key can name blocks of one bucket: so many, no more. */
static void test_crowded(void **state)
{
	handle_t h[SHM_MAX_CHAIN + 1], out[MEM_MAX_CLASSES];
	place_t places[MEM_MAX_CLASSES];
	struct mem_client *c;
	struct mem_space *s;
	struct mem_stat st;
	uint32_t tokens[64];
	struct fx f;

	fx_init(&f, 8 * MIB, 4 * MIB);
	c = fx_client(&f, 1, "t", 0);
	s = fx_space(c, 1, one_group);
	for (uint32_t i = 0, n = 0; n <= SHM_MAX_CHAIN; i++) {
		struct mem_block b = { .tokens = tokens };

		if (!in_bucket_0(s, i, 128, tokens))
			continue;
		h[n] = b.pages[0] = fx_page(&f, c, s, 0);
		assert_int_equal(mem_publish(c, s, &b, false, out, places), 0);
		assert_int_equal(out[0], h[n++]);
	}
	mem_stat(f.m, &st);
	assert_int_equal(st.published, SHM_MAX_CHAIN);
	for (uint32_t n = 0; n <= SHM_MAX_CHAIN; n++)
		fx_release(c, h[n]);
	assert_int_equal(fx_pages(&f, PAGE_CACHED), SHM_MAX_CHAIN);
	fx_restart(&f);
	assert_int_equal(fx_pages(&f, PAGE_CACHED), SHM_MAX_CHAIN);
	fx_fini(&f);
}

static void test_private(void **state)
{
	struct mem_client *c;
	struct mem_space *s;
	struct mem_block b = { .tokens = NULL };
	struct fx f;
	handle_t out[MEM_MAX_CLASSES], h;
	place_t places[MEM_MAX_CLASSES];

	fx_init(&f, 8 * MIB, 4 * MIB);
	c = fx_client(&f, 1, "t", 0);
	s = fx_space(c, 1, one_group);
	h = b.pages[0] = fx_page(&f, c, s, 0);
	assert_int_equal(mem_publish(c, s, &b, true, out, places), 0);
	assert_int_equal(fx_pages(&f, PAGE_SEALED), 1);
	assert_int_equal(mem_match(c, s, &h, 1, places), 0);
	/* Named later after all. */
	assert_int_equal(fx_publish(c, s, 1, 0, 0, h), h);
	assert_int_equal(fx_lookup(s, 1, 0, 0), h);
	fx_release(c, h);
	assert_int_equal(fx_pages(&f, PAGE_CACHED), 1);
	h = b.pages[0] = fx_page(&f, c, s, 0);
	assert_int_equal(mem_publish(c, s, &b, true, out, places), 0);
	fx_release(c, h);
	assert_int_equal(fx_pages(&f, PAGE_SEALED), 0);
	fx_fini(&f);
}

static void test_tenants(void **state)
{
	const struct dev_segment *seg;
	struct mem_client *a, *b;
	struct mem_space *sa, *sb;
	struct fx f;
	handle_t h;
	place_t place;
	uint32_t nr;

	fx_init(&f, 16 * MIB, 4 * MIB);
	a = fx_client(&f, 1, "alice", 0);
	b = fx_client(&f, 2, "bob", 0);
	sa = fx_space(a, 1, one_group);
	sb = fx_space(b, 1, one_group);
	assert_ptr_not_equal(sa, sb);
	assert_memory_not_equal(mem_space_name_key(sa), mem_space_name_key(sb),
				NAME_KEY_BYTES);
	h = fx_page(&f, a, sa, 0);
	fx_publish(a, sa, 1, 0, 0, h);
	assert_int_equal(fx_lookup(sb, 1, 0, 0), 0);
	assert_int_equal(mem_match(b, sb, &h, 1, &place), 0);
	assert_int_equal(mem_release(b, &h, 1, &nr), -ESTALE);
	assert_int_equal(mem_claim(b, sb, h, 1), -ESTALE);
	assert_int_equal(mem_match(a, sa, &h, 1, &place), 1);
	assert_int_equal(mem_segment_get(sa, place_segment(place), &seg), 0);
	assert_int_equal(mem_segment_get(sb, place_segment(place), &seg),
			 -ENOENT);
	assert_int_equal(mem_segment_get(sa, 12345, &seg), -ENOENT);
	assert_null(mem_space_get(b, mem_space_id(sa)));
	assert_ptr_equal(mem_space_get(a, mem_space_id(sa)), sa);
	assert_ptr_equal(mem_client_owner(a), &f);
	fx_fini(&f);
}

/* Pages of one handle's places never overlap, whatever their size. */
static void test_places(void **state)
{
	static const uint32_t sizes[] = { 1, 3, 7, 129, 0 };
	uint64_t from[200], to[200];
	struct mem_client *c;
	struct mem_space *s;
	struct fx f;
	int nr = 0;

	fx_init(&f, 64 * MIB, 16 * MIB);
	c = fx_client(&f, 1, "t", 0);
	s = fx_space(c, 1, sizes);
	for (int i = 0; i < 40; i++) {
		for (uint32_t class = 0; class < 4; class++) {
			handle_t h;
			place_t p;

			if (class == 3 && i > 8)
				continue;
			h = fx_page(&f, c, s, class);
			fx_publish(c, s, class, (uint32_t)i, class, h);
			assert_int_equal(mem_match(c, s, &h, 1, &p), 1);
			assert_int_equal(place_offset(p) % 256, 0);
			from[nr] = p;
			to[nr++] = p + mem_space_class(s, class)->page_bytes;
			assert_true(place_offset(to[nr - 1]) <= 16 * MIB);
		}
	}
	for (int i = 0; i < nr; i++)
		for (int j = 0; j < i; j++)
			assert_true(from[i] >= to[j] || from[j] >= to[i]);
	fx_fini(&f);
}

static void test_spaces(void **state)
{
	static const uint32_t huge[] = { 300, 0 }; /* 4.7 MiB */
	struct mem_space *s, *t;
	struct mem_space_key key, other;
	struct mem_space_stat st;
	struct mem_client *c;
	const char *why;
	struct fx f;

	memset(&f, 0, sizeof(f));
	fx_init(&f, 8 * MIB, 4 * MIB);
	c = fx_client(&f, 1, "t", 0);
	key = fx_key(1, huge);
	assert_int_equal(mem_space_open(c, &key, &s, &why), -EINVAL);
	assert_non_null(strstr(why, "segments"));
	key = fx_key(1, one_group);
	key.geometry.page_tokens = 63;
	assert_int_equal(mem_space_open(c, &key, &s, &why), -EINVAL);
	assert_non_null(why);
	key = fx_key(1, one_group);
	key.tp_rank = 1;
	assert_int_equal(mem_space_open(c, &key, &s, &why), -EINVAL);
	assert_non_null(strstr(why, "tp_rank"));

	/* Equal but for what does not count. */
	key = fx_key(1, one_group);
	other = key;
	other.geometry.groups[5].k_dim = 7;
	assert_int_equal(mem_space_open(c, &key, &s, &why), 0);
	assert_int_equal(mem_space_open(c, &other, &t, &why), 0);
	assert_ptr_equal(s, t);
	assert_int_equal(mem_space_fingerprint(s),
			 kvd_geometry_fingerprint(&key.geometry));
	mem_space_stat(s, &st);
	assert_int_equal(st.clients, 1);
	mem_space_close(c, s);
	assert_ptr_equal(mem_space_get(c, mem_space_id(s)), s);
	mem_space_close(c, s);
	assert_null(mem_space_get(c, mem_space_id(s)));
	other = key;
	other.tp_size = 2;
	assert_int_equal(mem_space_open(c, &other, &t, &why), 0);
	assert_ptr_not_equal(s, t);
	assert_ptr_equal(mem_space_next(f.m, NULL), s);
	assert_ptr_equal(mem_space_next(f.m, s), t);
	assert_null(mem_space_next(f.m, t));
	dev_drain(f.dev);
	fx_fini(&f);
}

/* @nr cached pages in space @model of @c, which closes it. */
static uint32_t cache_and_close(struct fx *f, struct mem_client *c,
				uint8_t model, uint32_t nr)
{
	struct mem_space *s = fx_space(c, model, one_group);

	for (uint32_t i = 0; i < nr; i++) {
		handle_t h = fx_page(f, c, s, 0);

		fx_publish(c, s, 1, i, 0, h);
		fx_release(c, h);
	}
	mem_space_close(c, s); /* opened twice */
	mem_space_close(c, s);
	return mem_space_id(s);
}

static void test_too_many_spaces(void **state)
{
	static const char *const names[] = { "t", "u", "v", "w" };
	struct mem_client *c, *d[4];
	struct mem_space *s;
	struct mem_space_key key = fx_key(4, one_group);
	const char *why;
	struct fx f;
	uint32_t id;

	fx_init(&f, 32 * MIB, 4 * MIB);
	mem_free(f.m);
	fx_forget(&f);
	f.cfg.max_spaces = 16;
	assert_int_equal(fx_new(&f), 0);
	for (int t = 0; t < 4; t++) {
		d[t] = fx_client(&f, 1 + t, names[t], 0);
		for (uint8_t i = 0; i < 4; i++)
			fx_space(d[t], i, one_group);
		/* A tenant may have a quarter of them. */
		assert_int_equal(mem_space_open(d[t], &key, &s, &why),
				 -ENOSPC);
	}
	/* One that nobody has open makes place, the emptiest first. */
	cache_and_close(&f, d[0], 1, 3);
	id = cache_and_close(&f, d[0], 2, 1);
	cache_and_close(&f, d[0], 3, 2);
	assert_int_equal(mem_space_open(d[0], &key, &s, &why), 0);
	assert_int_equal(mem_space_id(s), id);
	assert_int_equal(fx_pages(&f, PAGE_CACHED), 5);
	fx_verify(&f);
	/* For another tenant too, but not what somebody holds. */
	c = fx_client(&f, 9, "x", 0);
	fx_space(c, 1, one_group);
	assert_int_equal(fx_pages(&f, PAGE_CACHED), 3);
	fx_space(c, 2, one_group);
	assert_int_equal(fx_pages(&f, PAGE_CACHED), 0);
	assert_int_equal(mem_space_open(c, &key, &s, &why), -ENOSPC);
	s = mem_space_get(d[3], 16);
	fx_page(&f, d[3], s, 0);
	mem_space_close(d[3], s);
	assert_int_equal(mem_space_open(c, &key, &s, &why), -ENOSPC);
	dev_drain(f.dev);
	fx_fini(&f);
}

/* One with more pages than a step gives up goes in several. */
static void test_recycled(void **state)
{
	enum { PAGES = 400, MOST = 160 };
	struct mem_space_key key = fx_key(9, one_group);
	struct mem_space *s;
	struct mem_client *c;
	uint64_t left = PAGES;
	const char *why;
	struct fx f;
	uint32_t id;
	int r;

	fx_init(&f, 32 * MIB, 4 * MIB);
	mem_space_limit(f.m, 2);
	c = fx_client(&f, 1, "t", 0);
	fx_space(c, 1, one_group);
	id = cache_and_close(&f, c, 1, PAGES);
	fx_space(c, 2, one_group);
	for (r = -EAGAIN; r == -EAGAIN && left;) {
		uint64_t was = left;

		r = mem_space_open(c, &key, &s, &why);
		left = fx_pages(&f, PAGE_CACHED);
		assert_true(left < was && was - left <= MOST);
		fx_verify(&f);
		if (left && left < PAGES / 2 && was >= PAGES / 2) {
			/* Somebody wants it meanwhile: what is left stays. */
			mem_space_close(c, fx_space(c, 1, one_group));
			assert_int_equal(fx_pages(&f, PAGE_CACHED), left);
		}
	}
	assert_int_equal(r, 0);
	assert_int_equal(mem_space_id(s), id);
	fx_fini(&f);
}

/* Quarantine ends with the writer; a live writer may take pages back. */
static void test_quarantine(void **state)
{
	struct mem_client *c, *d, *e;
	struct mem_space *s;
	struct fx f;
	handle_t h[3];
	uint32_t nr;

	fx_init(&f, 8 * MIB, 4 * MIB);
	c = fx_client(&f, 1, "t", 0);
	s = fx_space(c, 1, one_group);
	assert_int_equal(fx_alloc(&f, c, s, 0, 3, h), 0);
	fx_publish(c, s, 1, 0, 0, h[2]);
	mem_client_free(c, MEM_END_UNKNOWN);
	assert_int_equal(fx_pages(&f, PAGE_QUARANTINED), 2);
	assert_int_equal(fx_pages(&f, PAGE_CACHED), 1);
	fx_verify(&f);
	d = fx_client(&f, 2, "t", 0);
	s = fx_space(d, 1, one_group);
	assert_int_equal(mem_claim(d, s, h[0], 1), -ESTALE);
	e = fx_client(&f, 1, "t", 0);
	fx_space(e, 1, one_group);
	assert_int_equal(mem_claim(e, s, h[0], 2), -ESTALE);
	assert_int_equal(mem_claim(e, s, h[0], 1), 0);
	assert_int_equal(mem_claim(e, s, h[0], 1), 0); /* has it already */
	assert_int_equal(mem_claim(e, s, h[2], 3), 0);
	fx_verify(&f);
	assert_int_equal(fx_pages(&f, PAGE_OPEN), 1);

	/* A second connection of the process while the first still is. */
	c = fx_client(&f, 1, "t", 0);
	assert_int_equal(mem_claim(c, s, h[0], 1), 0);
	assert_int_equal(mem_release(e, h, 1, &nr), -ESTALE);
	fx_verify(&f);
	mem_client_free(e, MEM_END_UNKNOWN);
	mem_client_free(c, MEM_END_UNKNOWN);
	fx_verify(&f);
	assert_int_equal(fx_pages(&f, PAGE_QUARANTINED), 2);
	mem_reap_writer(f.m, 1, 999);
	assert_int_equal(fx_pages(&f, PAGE_QUARANTINED), 2);
	mem_reap_writer(f.m, 1, 1000);
	assert_int_equal(fx_pages(&f, PAGE_QUARANTINED), 0);
	assert_int_equal(fx_pages(&f, PAGE_CACHED), 1);
	fx_fini(&f);
}

static void test_counters(void **state)
{
	struct mem_client *c;
	struct mem_space *s;
	struct mem_stat st;
	struct fx f;
	handle_t h[2];

	fx_init(&f, 8 * MIB, 4 * MIB);
	c = fx_client(&f, 1, "t", 0);
	s = fx_space(c, 1, one_group);
	assert_int_equal(fx_alloc(&f, c, s, 0, 2, h), 0);
	fx_publish(c, s, 1, 0, 0, h[0]);
	fx_publish(c, s, 1, 0, 0, h[1]);
	mem_space_count(s, 640, 64, 1);
	mem_stat(f.m, &st);
	assert_int_equal(st.published, 1);
	assert_int_equal(st.deduplicated, 1);
	assert_int_equal(st.hits, 640);
	assert_int_equal(st.misses, 64);
	assert_int_equal(st.nonfinite, 1);
	assert_int_equal(st.bytes.total, 8 * MIB);
	assert_int_equal(st.bytes.of[PAGE_SEALED], 2 * 64 * 1024);
	assert_int_equal(st.bytes.of[PAGE_FREE], 8 * MIB - 2 * 64 * 1024);
	assert_int_equal(st.pages.of[PAGE_FREE] + st.pages.of[PAGE_SEALED],
			 st.pages.total);
	assert_int_equal(st.nr_spaces, 1);
	fx_fini(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_life),
		cmocka_unit_test(test_stale),
		cmocka_unit_test(test_bad_arguments),
		cmocka_unit_test(test_groups),
		cmocka_unit_test(test_crowded),
		cmocka_unit_test(test_private),
		cmocka_unit_test(test_tenants),
		cmocka_unit_test(test_places),
		cmocka_unit_test(test_spaces),
		cmocka_unit_test(test_too_many_spaces),
		cmocka_unit_test(test_recycled),
		cmocka_unit_test(test_quarantine),
		cmocka_unit_test(test_counters),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
