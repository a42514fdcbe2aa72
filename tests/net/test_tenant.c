// SPDX-License-Identifier: Apache-2.0
/*
 * test_tenant.c - which tenant a user gets, and that its key stays.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>
#include "daemon/net/peer.h"
#include "daemon/net/tenant.h"

static char dir[] = "/tmp/kvd-tenant-XXXXXX";
static char state_dir[64];

static struct tenant *add(struct tenant_list *list, const char *name)
{
	struct tenant *t = calloc(1, sizeof(*t));

	strcpy(t->name, name);
	t->configured = true;
	TAILQ_INSERT_TAIL(list, t, link);
	return t;
}

static void init(struct tenants *ts, struct tenant_list *list)
{
	char why[256];

	assert_int_equal(tenants_init(ts, list, state_dir, 1000, why,
				      sizeof(why)), 0);
}

static const char *name_of(struct tenants *ts, const struct peer *p)
{
	struct tenant *t;

	assert_int_equal(tenants_find(ts, p, &t), 0);
	return t->name;
}

static void test_choice(void **state)
{
	struct tenant_list list = TAILQ_HEAD_INITIALIZER(list);
	struct peer alice = { .uid = 1001, .groups = { 50 }, .nr_groups = 1 };
	struct peer bob = { .uid = 1002, .groups = { 9, 50 }, .nr_groups = 2 };
	struct peer eve = { .uid = 1003, .groups = { 9 }, .nr_groups = 1 };
	struct tenants ts;
	struct tenant *t;

	t = add(&list, "team");
	t->gids[t->nr_gids++] = 50;
	t = add(&list, "hers");
	t->uids[t->nr_uids++] = 1001;
	init(&ts, &list);
	assert_string_equal(name_of(&ts, &alice), "hers"); /* users first */
	assert_string_equal(name_of(&ts, &bob), "team");
	assert_string_equal(name_of(&ts, &eve), "uid-1003");
	/* A tenant of one's own does not hide a group joined later. */
	eve.groups[eve.nr_groups++] = 50;
	assert_string_equal(name_of(&ts, &eve), "team");
	eve.nr_groups = 1;
	assert_string_equal(name_of(&ts, &eve), "uid-1003");
	tenants_fini(&ts);
}

static void test_key_stays(void **state)
{
	struct tenant_list list = TAILQ_HEAD_INITIALIZER(list);
	struct peer p = { .uid = 7 }, q = { .uid = 8 };
	uint8_t key[NAME_KEY_BYTES];
	struct tenant *t, *other;
	struct tenants ts;
	char path[128];
	struct stat st;

	init(&ts, &list);
	assert_int_equal(tenants_find(&ts, &p, &t), 0);
	assert_int_equal(tenants_find(&ts, &q, &other), 0);
	assert_memory_not_equal(t->key, other->key, NAME_KEY_BYTES);
	memcpy(key, t->key, sizeof(key));
	tenants_fini(&ts);

	snprintf(path, sizeof(path), "%s/uid-7.key", state_dir);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(st.st_size, NAME_KEY_BYTES);

	TAILQ_INIT(&list);
	init(&ts, &list);
	assert_int_equal(tenants_find(&ts, &p, &t), 0);
	assert_memory_equal(t->key, key, sizeof(key));
	tenants_fini(&ts);
}

/* A daemon that died while it wrote a key, and whose pid is ours now. */
static void test_key_half_made(void **state)
{
	struct tenant_list list = TAILQ_HEAD_INITIALIZER(list);
	struct peer p = { .uid = 31 };
	struct tenants ts;
	char tmp[300];
	FILE *f;

	snprintf(tmp, sizeof(tmp), "%s/uid-31.key.%d.new", state_dir,
		 (int)getpid());
	f = fopen(tmp, "w");
	assert_non_null(f);
	fclose(f);
	init(&ts, &list);
	assert_string_equal(name_of(&ts, &p), "uid-31");
	assert_int_not_equal(access(tmp, F_OK), 0);
	tenants_fini(&ts);
}

static void test_bad_key_files(void **state)
{
	struct tenant_list list = TAILQ_HEAD_INITIALIZER(list);
	struct peer p = { .uid = 9 };
	struct tenants ts;
	struct tenant *t;
	char path[128], why[256];
	FILE *f;

	/* Half a key is not a key: it is neither used nor replaced. */
	init(&ts, &list);
	snprintf(path, sizeof(path), "%s/uid-9.key", state_dir);
	f = fopen(path, "w");
	fputs("short", f);
	fclose(f);
	assert_int_equal(tenants_find(&ts, &p, &t), -EINVAL);
	tenants_fini(&ts);

	/* An empty one is what a machine that lost power may leave. */
	TAILQ_INIT(&list);
	init(&ts, &list);
	assert_int_equal(truncate(path, 0), 0);
	assert_int_equal(tenants_find(&ts, &p, &t), 0);
	tenants_fini(&ts);

	TAILQ_INIT(&list);
	t = add(&list, "configured");
	strcpy(t->key_file, "/nonexistent.key");
	assert_int_equal(tenants_init(&ts, &list, state_dir, 0, why,
				      sizeof(why)), -ENOENT);
	assert_non_null(strstr(why, "/nonexistent.key"));
	tenants_fini(&ts);
}

/* What a file says of a user's own is there before the user is. */
static void test_own_limits(void **state)
{
	struct tenant_list list = TAILQ_HEAD_INITIALIZER(list);
	struct peer p = { .uid = 77 }, q = { .uid = 78 };
	struct tenants ts;
	struct tenant *t;

	t = add(&list, "uid-77");
	t->configured = false;
	t->uids[t->nr_uids++] = 77;
	t->stored.of[LIMIT_HIGH] = 5;
	init(&ts, &list);
	assert_int_equal(tenants_find(&ts, &p, &t), 0);
	assert_string_equal(t->name, "uid-77");
	assert_int_equal(t->limits.of[LIMIT_HIGH], 5);
	assert_int_equal(t->limits.of[LIMIT_MAX], 0);
	assert_int_equal(tenants_find(&ts, &q, &t), 0);
	assert_int_equal(t->limits.of[LIMIT_MAX], 1000);
	assert_int_equal(t->stored.of[LIMIT_MAX], 1000);
	assert_ptr_equal(tenants_by_name(&ts, "uid-78"), t);
	assert_null(tenants_by_name(&ts, "uid-79"));
	assert_int_equal(tenants_by_user_name(&ts, "uid-79", &t), 0);
	assert_int_equal(tenants_by_user_name(&ts, "uid-079", &t), -ENOENT);
	assert_int_equal(tenants_by_user_name(&ts, "other", &t), -ENOENT);
	tenants_fini(&ts);
}

static void test_names(void **state)
{
	assert_int_equal(tenant_name_check("a-B_9."), 0);
	assert_int_equal(tenant_name_check(""), -EINVAL);
	assert_int_equal(tenant_name_check(".."), -EINVAL);
	assert_int_equal(tenant_name_check("a/b"), -EINVAL);
	assert_int_equal(tenant_name_check("1234567890123456789012345678901"),
			 0);
	assert_int_equal(tenant_name_check("12345678901234567890123456789012"),
			 -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_choice),
		cmocka_unit_test(test_key_stays),
		cmocka_unit_test(test_key_half_made),
		cmocka_unit_test(test_bad_key_files),
		cmocka_unit_test(test_own_limits),
		cmocka_unit_test(test_names),
	};
	char cmd[128];
	int r;

	assert_non_null(mkdtemp(dir));
	snprintf(state_dir, sizeof(state_dir), "%s/a/state", dir);
	r = cmocka_run_group_tests(tests, NULL, NULL);
	snprintf(cmd, sizeof(cmd), "rm -r %s", dir);
	return system(cmd) == 0 ? r : 1;
}
