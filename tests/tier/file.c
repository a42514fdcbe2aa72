/* SPDX-License-Identifier: Apache-2.0 */
/*
 * file.c - the tier in a file: the ring, restarts, files that are not as left.
 *
 * A page takes two blocks; before the first record is one.
 */
#include "tests/tier/fixture.h"
#include "daemon/tier/crc32c.h"
#include "daemon/tier/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

static uint64_t size_of_file(void)
{
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	return (uint64_t)st.st_size;
}

/* Writes @nr bytes of junk at @at. */
static void spoil(uint64_t at, uint32_t nr)
{
	uint8_t junk[TIER_ALIGN];
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	memset(junk, 0xa5, sizeof(junk));
	assert_true(fd >= 0 && nr <= sizeof(junk));
	assert_int_equal(pwrite(fd, junk, nr, (off_t)at), nr);
	close(fd);
}

static void test_put_get(void **state)
{
	struct tier *t = file_tier(ROOM(8));

	put(t, 1);
	assert_true(got(t, 1)); /* not written yet, perhaps */
	put(t, 2);
	t->ops->flush(t);
	assert_true(got(t, 2));
	assert_true(got(t, 1));
	assert_false(got(t, 3));
	assert_int_equal(stat_of(t).puts, 2);
	put(t, 2); /* it is there, and not old */
	assert_int_equal(stat_of(t).puts, 2);
	assert_int_equal(size_of_file(), ROOM(2));
	tier_free(t);
}

static void test_ring(void **state)
{
	struct tier *t = file_tier(ROOM(8) + TIER_ALIGN);

	for (uint64_t i = 0; i < 30; i++) {
		put(t, i);
		t->ops->flush(t);
		for (uint64_t j = i < 8 ? 0 : i - 7; j <= i; j++)
			assert_true(got(t, j));
		assert_int_equal(how_many(t, 0, i + 1), i < 8 ? i + 1 : 8);
	}
	assert_int_equal(size_of_file(), ROOM(8));
	tier_free(t);
}

/* What is put again is written again only where the ring soon comes. */
static void test_again(void **state)
{
	struct tier *t = file_tier(ROOM(8));

	for (uint64_t i = 0; i < 8; i++)
		put(t, i);
	put(t, 7);
	assert_int_equal(stat_of(t).puts, 8);
	put(t, 1); /* over 0 */
	assert_int_equal(stat_of(t).puts, 9);
	put(t, 8); /* over where 1 was */
	t->ops->flush(t);
	assert_true(got(t, 1));
	assert_false(got(t, 0));
	assert_int_equal(how_many(t, 0, 9), 8);
	tier_free(t);
}

/* After any number of pages a successor has the same. */
static void test_restart(void **state)
{
	for (uint64_t nr = 0; nr < 28; nr += 3) {
		struct tier *t = file_tier(ROOM(8) + TIER_ALIGN);
		uint64_t first = nr < 8 ? 0 : nr - 8;

		for (uint64_t i = 0; i < nr; i++)
			put(t, i);
		t->ops->flush(t);
		tier_free(t);
		t = file_tier(ROOM(8) + TIER_ALIGN);
		assert_int_equal(how_many(t, 0, nr), nr - first);
		for (uint64_t i = first; i < nr; i++)
			assert_true(got(t, i));
		/* And goes on where that one was. */
		put(t, 100);
		assert_true(got(t, 100));
		assert_int_equal(how_many(t, 0, 101), nr < 8 ? nr + 1 : 8);
		if (nr >= 8)
			assert_int_equal(how_many(t, first, first + 1), 0);
		tier_free(t);
		unlink(path);
	}
}

static void test_corrupt(void **state)
{
	struct tier *t = file_tier(ROOM(8));

	for (uint64_t i = 0; i < 3; i++)
		put(t, i);
	t->ops->flush(t);
	spoil(TIER_ALIGN + COST + 4000, 1); /* a byte of page 1 */
	assert_true(got(t, 0));
	assert_false(got(t, 1));
	assert_true(got(t, 2));
	assert_int_equal(stat_of(t).bad, 1);
	assert_int_equal(how_many(t, 1, 2), 0);
	spoil(TIER_ALIGN + 2 * COST + TIER_HEAD_AT, 1); /* page 2's head */
	assert_false(got(t, 2));
	assert_int_equal(stat_of(t).bad, 2);
	put(t, 1); /* it may be put anew */
	assert_true(got(t, 1));
	assert_int_equal(said.bad, 0);
	tier_free(t);
}

/* A record that is not whole is passed over when the file is read. */
static void test_corrupt_record(void **state)
{
	struct tier *t = file_tier(ROOM(8));

	for (uint64_t i = 0; i < 3; i++)
		put(t, i);
	t->ops->flush(t);
	tier_free(t);
	spoil(TIER_ALIGN + COST + 16, 1);
	t = file_tier(ROOM(8));
	assert_true(got(t, 0));
	assert_false(got(t, 1));
	assert_true(got(t, 2));
	tier_free(t);
}

static void test_truncated(void **state)
{
	struct tier *t = file_tier(ROOM(8));

	for (uint64_t i = 0; i < 3; i++)
		put(t, i);
	t->ops->flush(t);
	assert_int_equal(truncate(path, (off_t)ROOM(2) + 100), 0);
	assert_true(got(t, 1));
	assert_false(got(t, 2));
	assert_int_equal(stat_of(t).bad, 1);
	tier_free(t);
	t = file_tier(ROOM(8));
	assert_int_equal(how_many(t, 0, 3), 2);
	tier_free(t);
	/* With a smaller limit it begins anew. */
	t = file_tier(ROOM(1));
	assert_int_equal(how_many(t, 0, 3), 0);
	assert_int_equal(size_of_file(), TIER_ALIGN);
	tier_free(t);
}

/* A page in which a record lies as a scan would look for it. */
static void put_forged(struct tier *t, bool knows)
{
	struct tier_page *p = tier_page_new(8, 3 * TIER_ALIGN);
	uint32_t at = TIER_ALIGN - tier_data_at(8);
	struct tier_key key = key_of(50);
	struct tier_use use = { .value = NULL };
	struct file_record r;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	assert_int_equal(pread(fd, &r, sizeof(r), TIER_ALIGN), sizeof(r));
	close(fd);
	if (!knows)
		memset(r.id, 0, sizeof(r.id));
	r.own_crc = crc32c(0, &r, offsetof(struct file_record, own_crc));
	memset(tier_page_data(p), 0, p->bytes);
	memcpy(tier_page_data(p) + at, &r, sizeof(r));
	t->ops->put(t, &key, p, &use);
	tier_page_put(p);
}

/*
 * Where a record is not whole others are looked for inside it: a page's bytes
 * are none, for who wrote them does not know the file's id. If he did it would
 * be found.
 */
static void test_forged(void **state)
{
	for (int knows = 0; knows < 2; knows++) {
		struct tier *t = file_tier(ROOM(8));

		put(t, 1);
		t->ops->flush(t);
		put_forged(t, knows);
		t->ops->flush(t);
		tier_free(t);
		spoil(TIER_ALIGN, 8);
		spoil(TIER_ALIGN + COST, 8);
		t = file_tier(ROOM(8));
		assert_int_equal(stat_of(t).entries, knows);
		tier_free(t);
		unlink(path);
	}
}

static void test_foreign(void **state)
{
	struct tier *t;
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	assert_int_equal(write(fd, "a letter", 8), 8);
	close(fd);
	t = file_tier(ROOM(8));
	assert_int_equal(said.bad, 1);
	assert_non_null(strstr(said.what, "remove it"));
	put(t, 1);
	assert_false(got(t, 1));
	assert_int_equal(size_of_file(), 8);
	tier_free(t);
}

/* Two daemons on one file: the second has none. */
static void test_locked(void **state)
{
	struct tier *a = file_tier(ROOM(8)), *b = file_tier(ROOM(8));

	put(a, 1);
	put(b, 2);
	assert_true(got(a, 1));
	assert_false(got(b, 2));
	assert_non_null(strstr(stat_of(b).trouble, "another kvd"));
	tier_free(b);
	tier_free(a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_put_get, dir_setup,
						dir_teardown),
		cmocka_unit_test_setup_teardown(test_ring, dir_setup,
						dir_teardown),
		cmocka_unit_test_setup_teardown(test_again, dir_setup,
						dir_teardown),
		cmocka_unit_test_setup_teardown(test_restart, dir_setup,
						dir_teardown),
		cmocka_unit_test_setup_teardown(test_corrupt, dir_setup,
						dir_teardown),
		cmocka_unit_test_setup_teardown(test_corrupt_record, dir_setup,
						dir_teardown),
		cmocka_unit_test_setup_teardown(test_truncated, dir_setup,
						dir_teardown),
		cmocka_unit_test_setup_teardown(test_forged, dir_setup,
						dir_teardown),
		cmocka_unit_test_setup_teardown(test_foreign, dir_setup,
						dir_teardown),
		cmocka_unit_test_setup_teardown(test_locked, dir_setup,
						dir_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
