/* SPDX-License-Identifier: Apache-2.0 */
/*
 * table.c - the table's setter, and which tables are refused.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "daemon/mem/table.h"
#include "daemon/util/memfd.h"

static const struct table_config config = {
	.nr_entries = 100,
	.nr_spaces = 8,
	.segment_bytes = 4 << 20,
	.device = "host",
};

/* A killed writer leaves one of two identities, never a mix. */
static void test_set(void **state)
{
	struct table t = TABLE_NULL;
	struct identity id = { .generation = 1, .state = PAGE_OPEN };
	struct prefix p = { .tokens = { 7 } };
	const struct identity *old;

	assert_int_equal(table_new(&t, &config), 0);
	assert_int_equal(table_get(&t, 5)->state, PAGE_FREE);
	table_set(&t, 5, &id, NULL);
	assert_int_equal(t.h->nr_used, 5);
	old = table_get(&t, 5);
	id.state = PAGE_SEALED;
	id.named = 1;
	table_set(&t, 5, &id, &p);
	assert_ptr_not_equal(table_get(&t, 5), old);
	assert_int_equal(old->state, PAGE_OPEN);
	assert_int_equal(table_get(&t, 5)->state, PAGE_SEALED);
	assert_int_equal(t.prefixes[5].tokens[0], 7);
	table_set(&t, 3, &id, NULL);
	assert_int_equal(t.h->nr_used, 5);
	table_fini(&t);
	table_fini(&t);
}

static void refuse(const struct table *t, const char *device, const char *text)
{
	int fd = fcntl(t->fd, F_DUPFD_CLOEXEC, 0);
	struct table other = TABLE_NULL;
	const char *why = NULL;

	assert_int_equal(table_adopt(&other, fd, device, &why), -EINVAL);
	assert_non_null(strstr(why, text));
	assert_int_equal(other.fd, -1);
	close(fd);
}

static void test_adopt(void **state)
{
	struct table t = TABLE_NULL, other = TABLE_NULL;
	const char *why;
	int fds[2];

	assert_int_equal(table_new(&t, &config), 0);
	assert_true(t.h->epoch != 0);
	refuse(&t, "cuda-vmm:0", "device");
	t.h->version = TABLE_VERSION - 1; /* blocks had a page per group */
	refuse(&t, "host", "version");
	t.h->version = TABLE_VERSION;
	t.h->space_bytes -= 8; /* a geometry has grown since */
	refuse(&t, "host", "version");
	t.h->space_bytes += 8;
	t.h->entry_bytes--;
	refuse(&t, "host", "version");
	t.h->entry_bytes++;
	t.h->magic++;
	refuse(&t, "host", "no page table");
	t.h->magic--;
	t.h->nr_entries += 1000;
	refuse(&t, "host", "broken");
	t.h->nr_entries = UINT32_MAX;
	refuse(&t, "host", "broken");
	t.h->nr_entries = 100;
	t.h->nr_used = 101;
	refuse(&t, "host", "broken");
	t.h->nr_used = 0;
	t.h->next_segment = 0;
	refuse(&t, "host", "broken");
	t.h->next_segment = 1 << 24;
	refuse(&t, "host", "broken");
	t.h->next_segment = 1;
	t.h->segment_bytes++;
	refuse(&t, "host", "broken");
	t.h->segment_bytes = 0;
	refuse(&t, "host", "broken");
	t.h->segment_bytes = 1ull << 53; /* granules of it are 0 in 32 bits */
	refuse(&t, "host", "broken");
	t.h->segment_bytes = 4 << 20;
	t.h->bytes = 1ull << 40;
	refuse(&t, "host", "broken");
	table_fini(&t);

	assert_int_equal(table_new(&t, &config), 0);
	assert_int_equal(table_adopt(&other, fcntl(t.fd, F_DUPFD_CLOEXEC, 0),
				     "host", &why), 0);
	assert_int_equal(other.h->epoch, t.h->epoch);
	table_fini(&other);
	table_fini(&t);
	assert_int_equal(pipe(fds), 0);
	assert_int_equal(table_adopt(&other, fds[0], "host", &why), -EINVAL);
	close(fds[0]);
	close(fds[1]);
}

/* What has the right header, and not what that speaks of. */
static void test_other_memory(void **state)
{
	struct table t = TABLE_NULL, part = TABLE_NULL;
	uint64_t bytes[] = { 1, sizeof(struct table_header) - 1,
			     sizeof(struct table_header), 4096, 0 };

	assert_int_equal(table_new(&t, &config), 0);
	bytes[4] = t.h->bytes - 1;
	for (int i = 0; i < 5; i++) {
		part.fd = memfd_new("part", bytes[i]);
		assert_true(part.fd >= 0);
		assert_true(pwrite(part.fd, t.h, bytes[i], 0) > 0);
		refuse(&part, "host", i < 2 ? "no page table" : "broken");
		close(part.fd);
	}
	part.fd = memfd_create("unsealed", MFD_CLOEXEC);
	assert_true(write(part.fd, t.h, t.h->bytes) > 0);
	refuse(&part, "host", "no page table");
	close(part.fd);
	part.fd = memfd_reopen_readonly(t.fd);
	refuse(&part, "host", "cannot be mapped");
	close(part.fd);
	part.fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	refuse(&part, "host", "no page table");
	close(part.fd);
	table_fini(&t);
}

/* More memory than the table needs, and than could ever be mapped. */
static void test_larger(void **state)
{
	struct table t = TABLE_NULL, other = TABLE_NULL;
	const char *why;
	int fd = memfd_new("kvd-table", 1ull << 62);

	assert_true(fd >= 0);
	assert_int_equal(table_new(&t, &config), 0);
	assert_int_equal(pwrite(fd, t.h, t.h->bytes, 0), t.h->bytes);
	assert_int_equal(table_adopt(&other, fd, "host", &why), 0);
	assert_int_equal(other.h->epoch, t.h->epoch);
	table_fini(&other);
	table_fini(&t);
}

/* Whole, but of nothing: who divides the pool by it would not live. */
static void test_empty(void **state)
{
	struct table_config none[] = { config, config };

	none[0].nr_entries = 0;
	none[1].nr_spaces = 0;
	for (int i = 0; i < 2; i++) {
		struct table t = TABLE_NULL;

		assert_int_equal(table_new(&t, &none[i]), 0);
		refuse(&t, "host", "broken");
		table_fini(&t);
	}
}

static void test_records(void **state)
{
	struct table t = TABLE_NULL;
	uint8_t key[NAME_KEY_BYTES] = { 1 };

	assert_int_equal(table_new(&t, &config), 0);
	for (int i = 0; i < (int)TABLE_NR_TENANTS; i++) {
		assert_int_equal(table_tenant_find(&t), i);
		table_tenant_put(&t, i, "name", key);
	}
	assert_int_equal(table_tenant_find(&t), -ENOSPC);
	t.tenants[9].used = 0;
	assert_int_equal(table_tenant_find(&t), 9);
	for (int i = 0; i < (int)TABLE_NR_SEGMENTS; i++) {
		assert_int_equal(table_segment_find(&t), i);
		table_segment_put(&t, i, 1, 0, 4 << 20);
	}
	assert_int_equal(table_segment_find(&t), -ENOSPC);
	table_fini(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_set),
		cmocka_unit_test(test_adopt),
		cmocka_unit_test(test_other_memory),
		cmocka_unit_test(test_larger),
		cmocka_unit_test(test_empty),
		cmocka_unit_test(test_records),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
