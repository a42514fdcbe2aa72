// SPDX-License-Identifier: Apache-2.0
/*
 * test_config.c - the configuration file and the command line, right and wrong.
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
#include "daemon/config.h"
#include "daemon/value.h"
#include "tests/support/daemon.h"

static char path[] = "/tmp/kvd-conf-XXXXXX";

/* Reads @text as a file. */
static int read_text(struct config *c, const char *text)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	fputs(text, f);
	fclose(f);
	config_init(c);
	return config_read(c, path);
}

/* @text is refused with each of the words in the error. */
static void refused(const char *text, ...)
{
	struct config c;
	const char *word;
	va_list ap;

	assert_int_equal(read_text(&c, text), -EINVAL);
	va_start(ap, text);
	while ((word = va_arg(ap, const char *)))
		if (!strstr(c.why, word))
			fail_msg("'%s' is not in: %s", word, c.why);
	va_end(ap);
	config_fini(&c);
}

static void test_good(void **state)
{
	struct config c;
	struct tenant *t;

	assert_int_equal(read_text(&c,
		"# comment\n"
		"[kvd]\n"
		"device = cuda-vmm:1 ; comment\n"
		"pool = 3G\n"
		"segment=128M\n"
		"socket = /tmp/x.sock\n"
		"socket-mode = 0666\n"
		"grace = 1500ms\n"
		"max-clients = 7\n"
		"max-waiting-per-user = 70\n"
		"max-subscriptions-per-user = 71\n"
		"max-fds-per-user = 72\n"
		"max-announced-per-user = 75\n"
		"announce-timeout = 74ms\n"
		"max-spaces-per-tenant = 73\n"
		"pin-max = 40%\n"
		"pin-ttl-max = 90s\n"
		"pool-max = 4G\n"
		"shrink-after = 72s\n"
		"tier-memory = 2G\n"
		"tier-file = /var/lib/kvd/tier\n"
		"tier-file-size = 9G\n"
		"log-level = debug\n"
		"[tenant chat]\n"
		"users = root, 4242\n"
		"max = 1G\n"
		"[tenant batch]\n"
		"groups = 0\n"
		"min = 1G\n"
		"high = 2G\n"
		"max = infinity\n"
		"[tenant uid-77]\n"
		"high = infinity\n"), 0);
	assert_string_equal(c.server.device, "cuda-vmm:1");
	assert_int_equal(c.server.pool_bytes, 3ULL << 30);
	assert_int_equal(c.server.pool_max, 4ULL << 30);
	assert_int_equal(c.server.shrink_ms, 72000);
	assert_int_equal(c.server.segment_bytes, 128 << 20);
	assert_string_equal(c.server.socket, "/tmp/x.sock");
	assert_int_equal(c.server.socket_mode, 0666);
	assert_int_equal(c.server.grace_ms, 1500);
	assert_int_equal(c.server.max_clients, 7);
	assert_int_equal(c.server.max_waiting_per_user, 70);
	assert_int_equal(c.server.max_subscriptions_per_user, 71);
	assert_int_equal(c.server.max_fds_per_user, 72);
	assert_int_equal(c.server.max_announced_per_user, 75);
	assert_int_equal(c.server.announce_ms, 74);
	assert_int_equal(c.server.max_spaces_per_tenant, 73);
	assert_int_equal(c.server.pin_percent, 40);
	assert_int_equal(c.server.pin_ttl_ms, 90000);
	assert_int_equal(c.server.tier_memory, 2ULL << 30);
	assert_string_equal(c.server.tier_file, "/var/lib/kvd/tier");
	assert_int_equal(c.server.tier_file_bytes, 9ULL << 30);
	t = TAILQ_FIRST(&c.server.tenants);
	assert_string_equal(t->name, "chat");
	assert_int_equal(t->nr_uids, 2);
	assert_int_equal(t->uids[1], 4242);
	assert_int_equal(t->stored.of[LIMIT_MAX], 1 << 30);
	assert_int_equal(t->set, 1 << LIMIT_MAX);
	assert_int_equal(t->kept, 0);
	t = TAILQ_NEXT(t, link);
	assert_string_equal(t->name, "batch");
	assert_int_equal(t->nr_gids, 1);
	assert_int_equal(t->stored.of[LIMIT_MIN], 1 << 30);
	assert_int_equal(t->stored.of[LIMIT_HIGH], 2ULL << 30);
	assert_int_equal(t->stored.of[LIMIT_MAX], 0);
	assert_int_equal(t->set, 7);
	t = TAILQ_NEXT(t, link);
	assert_false(t->configured);
	assert_int_equal(t->uids[0], 77);
	c.server.tenant_max = 3 << 20;
	assert_int_equal(config_check(&c), 0);
	/* A user's own has the default, where a file says nothing else. */
	assert_int_equal(t->stored.of[LIMIT_MAX], 3 << 20);
	config_fini(&c);
}

static void test_bad_lines(void **state)
{
	refused("[kvd]\npol = 1G\n", path, ":2: pol", "no such key",
		"device, pool, segment", "log-level", NULL);
	refused("[kvd]\n\npool = 1Q\n", ":3: pool", "'1Q'", "K, M, G or T",
		NULL);
	refused("[kvd]\npool = -1\n", ":2: pool", NULL);
	refused("[kvd]\npool = 99999999999T\n", ":2: pool", NULL);
	refused("[kvd]\ndevice = gpu\n", "auto, host, cuda-ipc:N", NULL);
	refused("[kvd]\ndevice = cuda-ipc:\n", "cuda-ipc:", NULL);
	refused("[kvd]\nsocket-mode = 0999\n", "octal", NULL);
	refused("[kvd]\nsocket-group = no-such-group\n", "a group", NULL);
	refused("[kvd]\npin-max = 101%\n", "0 to 100", NULL);
	refused("[kvd]\npin-max = 1G\n", "a percentage", NULL);
	refused("[kvd]\npin-max = -1\n", "a percentage", NULL);
	refused("[kvd]\npool-max = much\n", "a size", NULL);
	refused("[kvd]\nshrink-after = 2h\n", "ms, s or min", NULL);
	refused("[kvd]\npin-ttl-max = 2h\n", "ms, s or min", NULL);
	refused("[kvd]\ngrace = 5h\n", "ms, s or min", NULL);
	refused("[kvd]\nmax-clients = 0\n", "1 to 1000000", NULL);
	refused("[kvd]\nstate-dir = relative\n", "absolute", NULL);
	refused("[kvd]\nlog-level = loud\n", "debug", NULL);
	refused("[kv]\npool = 1G\n", ":2: pool", "[kv]", "[tenant NAME]",
		NULL);
	refused("pool = 1G\n", ":1: pool", "no section", NULL);
	refused("[kvd]\nwhat is this\n", ":2", "key = value", NULL);
	refused("[tenant a]\nusers = no-such-user\n", "list of at most 64",
		NULL);
	refused("[tenant a]\nmaximum = 1\n",
		"users, groups, min, high, max, key-file", NULL);
	refused("[tenant a]\nmin = infinity\n", ":2: min", "K, M, G or T",
		NULL);
	refused("[tenant a]\nhigh = lots\n", ":2: high", "or infinity", NULL);
	refused("[tenant a/b]\nmax = 1\n", "a/b", NULL);
	refused("[tenant uid-7]\nusers = root\n", "uid-", NULL);
	refused("[tenant uid-7]\ngroups = root\n", "uid-", NULL);
	refused("[tenant uid-07]\nmax = 1\n", "uid-", NULL);
	refused("[tenant uid-root]\nmax = 1\n", "uid-", NULL);
	refused("[tenant uid-4294967295]\nmax = 1\n", "uid-", NULL);
}

static void test_missing(void **state)
{
	struct config c;

	config_init(&c);
	assert_int_equal(config_read(&c, "/nonexistent/kvd.conf"), -ENOENT);
	assert_non_null(strstr(c.why, "/nonexistent/kvd.conf"));
}

/* The first error is the one that is told. */
static void test_first_error(void **state)
{
	refused("[kvd]\npool = x\nsegment = y\n", ":2: pool", NULL);
}

static void test_checks(void **state)
{
	struct config c;

	config_init(&c);
	assert_int_equal(config_set(&c, "segment", "3M", "--segment"), 0);
	assert_int_equal(config_check(&c), -EINVAL);
	config_init(&c);
	assert_int_equal(config_set(&c, "segment", "64M", "--segment"), 0);
	assert_int_equal(config_set(&c, "pool", "32M", "--pool"), 0);
	assert_int_equal(config_check(&c), -EINVAL);
	assert_int_equal(config_set(&c, "nothing", "1", "--nothing"), -ENOENT);
}

/* The whole of @text is wrong together. */
static void inconsistent(const char *text, const char *word)
{
	struct config c;

	assert_int_equal(read_text(&c, text), 0);
	assert_int_equal(config_check(&c), -EINVAL);
	if (!strstr(c.why, word))
		fail_msg("'%s' is not in: %s", word, c.why);
	config_fini(&c);
}

static void test_limits(void **state)
{
	struct config c;

	inconsistent("[tenant a]\nmin = 2M\nmax = 1M\n",
		     "tenant a: min 2M is above max 1M");
	inconsistent("[tenant a]\nmin = 2M\nhigh = 1M\n",
		     "min 2M is above high 1M");
	inconsistent("[tenant a]\nhigh = 2000\nmax = 1K\n",
		     "high 2000 is above max 1K");
	inconsistent("[kvd]\npool = 1G\n[tenant a]\nmin = 600M\n"
		     "[tenant b]\nmin = 425M\n",
		     "tenant b: with its min of 425M all tenants together are "
		     "promised more than the pool's 1G: others have 600M");
	inconsistent("[kvd]\ntenant-max = 1M\n[tenant uid-5]\nmin = 2M\n",
		     "tenant uid-5: min 2M is above max 1M");
	assert_int_equal(read_text(&c, "[kvd]\npool = 1G\n[tenant a]\n"
				   "min = 600M\n[tenant b]\nmin = 424M\n"),
			 0);
	assert_int_equal(config_check(&c), 0);
	config_fini(&c);
}

static void test_watermarks(void **state)
{
	struct config c;

	assert_int_equal(read_text(&c, "[kvd]\npool = 1000M\n"), 0);
	assert_int_equal(config_check(&c), 0);
	assert_int_equal(c.server.low_bytes, 4 << 20);
	assert_int_equal(c.server.high_bytes, 8 << 20);
	assert_false(c.server.watermark_low.set || c.server.watermark_high.set);
	config_fini(&c);
	assert_int_equal(read_text(&c, "[kvd]\npool = 1000M\n"
				   "watermark-low = 1.2345%\n"
				   "watermark-high = 50%\n"), 0);
	assert_int_equal(config_check(&c), 0);
	assert_int_equal(c.server.low_bytes, 12944670); /* .012345 of it */
	assert_int_equal(c.server.high_bytes, 500 << 20);
	assert_true(c.server.watermark_low.set && c.server.watermark_high.set);
	config_fini(&c);
	assert_int_equal(read_text(&c, "[kvd]\nwatermark-low = 3M\n"
				   "watermark-high = 2%\n"), 0);
	assert_int_equal(config_check(&c), 0);
	assert_int_equal(c.server.low_bytes, 3 << 20);
	config_fini(&c);
	assert_int_equal(read_text(&c, "[kvd]\nwatermark-low = 0\n"), 0);
	assert_int_equal(config_check(&c), 0);
	assert_int_equal(c.server.low_bytes, 0);
	config_fini(&c);

	refused("[kvd]\nwatermark-low = some\n", ":2: watermark-low", "'some'",
		"K, M, G or T", "0.4%", NULL);
	refused("[kvd]\nwatermark-low = -1%\n", "'-1%'", NULL);
	refused("[kvd]\nwatermark-low = %\n", "'%'", NULL);
	refused("[kvd]\nwatermark-low = .4%\n", "'.4%'", NULL);
	refused("[kvd]\nwatermark-low = 1.%\n", "'1.%'", NULL);
	refused("[kvd]\nwatermark-low = 1.2.3%\n", "'1.2.3%'", NULL);
	refused("[kvd]\nwatermark-low = 0.00001%\n", "'0.00001%'", NULL);
	refused("[kvd]\nwatermark-low = 1%%\n", "'1%%'", NULL);
	refused("[kvd]\nwatermark-low = 1% M\n", "'1% M'", NULL);
	refused("[kvd]\nwatermark-high = 101%\n", "'101%'", NULL);
	refused("[kvd]\nwatermark-high = 100.1%\n", "'100.1%'", NULL);
	refused("[kvd]\nwatermark-high = 42949672961%\n", "watermark-high",
		NULL);
	inconsistent("[kvd]\npool = 2G\npool-max = 1G\n", "pool-max: less");
	inconsistent("[kvd]\ntier-file-size = 1000K\n", "tier-file-size: less");
	inconsistent("[kvd]\npool = 1000M\nwatermark-low = 1%\n",
		     "watermark-low: its 10M bytes are above watermark-high's "
		     "8M, the default");
	inconsistent("[kvd]\nwatermark-low = 2M\nwatermark-high = 1M\n",
		     "its 2M bytes are above watermark-high's 1M");
	inconsistent("[kvd]\npool = 1G\nwatermark-high = 513M\n",
		     "513M bytes are more than half of the pool");
}

/* ---- while it runs ---- */

static void test_keep(void **state)
{
	struct config was, c;
	unsigned i = 0;

	assert_int_equal(read_text(&was, "[kvd]\ndevice = cuda-vmm:12\n"
				   "pool = 64M\nmax-clients = 7\n"), 0);
	assert_int_equal(read_text(&c, "[kvd]\ndevice = cuda-vmm:12\n"
				   "pool = 128M\nmax-clients = 8\n"
				   "state-dir = /x\n"
				   "[tenant a]\nmin = 65M\n"), 0);
	assert_int_equal(config_check(&c), 0);
	config_keep(&c, &was);
	assert_string_equal(config_next_kept(&c, &i), "pool");
	assert_string_equal(config_next_kept(&c, &i), "state-dir");
	assert_null(config_next_kept(&c, &i));
	assert_int_equal(c.server.pool_bytes, 64 << 20);
	assert_string_equal(c.server.state_dir, was.server.state_dir);
	assert_int_equal(c.server.max_clients, 8);
	assert_int_equal(config_check(&c), -EINVAL);
	config_fini(&c);

	/* What was there before and is longer makes no difference. */
	assert_int_equal(read_text(&c, "[kvd]\ndevice = cuda-vmm:123\n"
				   "device = cuda-vmm:12\npool = 64M\n"),
			 0);
	config_keep(&c, &was);
	i = 0;
	assert_null(config_next_kept(&c, &i));
	config_fini(&c);
	config_fini(&was);
}

/* ---- drop-ins ---- */

static char dropin_root[] = "/tmp/kvd-conf-d-XXXXXX";

static void write_file(const char *name, const char *text)
{
	char file[200];
	FILE *f;

	snprintf(file, sizeof(file), "%s/%s", dropin_root, name);
	f = fopen(file, "w");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

/* Reads the file conf of the root, what is beside it, and in more. */
static int read_all(struct config *c)
{
	char file[200], more[200];
	int r;

	snprintf(more, sizeof(more), "%s/more", dropin_root);
	snprintf(file, sizeof(file), "%s/conf", dropin_root);
	config_init(c);
	c->dropins = more;
	snprintf(c->server.state_dir, sizeof(c->server.state_dir), "%s/state",
		 dropin_root);
	r = config_read(c, file);
	return r ? r : config_read_dropins(c, file);
}

static void make_dir(const char *name)
{
	char dir[200];

	snprintf(dir, sizeof(dir), "%s/%s", dropin_root, name);
	assert_int_equal(mkdir(dir, 0700), 0);
}

static void test_dropins(void **state)
{
	char dir[200], cmd[200];
	struct config c;
	struct tenant *t;

	assert_non_null(mkdtemp(dropin_root));
	write_file("conf", "[kvd]\npool = 1G\n[tenant a]\nmax = 1M\n");
	assert_int_equal(read_all(&c), 0);
	snprintf(dir, sizeof(dir), "%s/conf.d", dropin_root);
	assert_string_equal(c.server.dropin_dir, dir);
	config_fini(&c);

	/* In order of their names, over both directories. */
	make_dir("conf.d");
	make_dir("state");
	make_dir("state/kvd.conf.d");
	write_file("conf.d/30-x.conf", "[tenant a]\nmax = 3M\n");
	write_file("state/kvd.conf.d/20-x.conf", "[tenant a]\nmax = 2M\n"
		   "high = 2M\n");
	write_file("conf.d/.40-x.conf", "not to be read");
	write_file("conf.d/40-x.conf.bak", "not to be read");
	write_file("conf.d/10-x.conf", "[kvd]\npool = 2G\n[tenant a]\n"
		   "max = 1G\nmin = 1K\nhigh = 1G\n");
	assert_int_equal(read_all(&c), 0);
	t = TAILQ_FIRST(&c.server.tenants);
	assert_int_equal(c.server.pool_bytes, 2ULL << 30);
	assert_int_equal(t->stored.of[LIMIT_MIN], 1 << 10);
	assert_int_equal(t->stored.of[LIMIT_HIGH], 2 << 20);
	assert_int_equal(t->stored.of[LIMIT_MAX], 3 << 20);
	assert_int_equal(t->kept, 0);
	config_fini(&c);

	/* Of the same name, the state directory's counts; it is kvd's own. */
	write_file("conf.d/50-kvctl-a.conf", "[tenant a]\nmax = 5M\n"
		   "min = 5K\n");
	write_file("state/kvd.conf.d/50-kvctl-a.conf",
		   "[tenant a]\nmax = 6M\n");
	assert_int_equal(read_all(&c), 0);
	t = TAILQ_FIRST(&c.server.tenants);
	assert_int_equal(t->stored.of[LIMIT_MAX], 6 << 20);
	assert_int_equal(t->kept, 1 << LIMIT_MAX | 1 << LIMIT_MIN);
	config_fini(&c);

	/* A third directory is between the two. */
	make_dir("more");
	write_file("more/30-x.conf", "[tenant a]\nmin = 4K\n");
	write_file("more/50-kvctl-a.conf", "[tenant a]\nmin = 6K\n"
		   "max = 7M\n");
	assert_int_equal(read_all(&c), 0);
	t = TAILQ_FIRST(&c.server.tenants);
	assert_int_equal(t->stored.of[LIMIT_MIN], 6 << 10);
	assert_int_equal(t->stored.of[LIMIT_MAX], 6 << 20);
	config_fini(&c);

	/* What is wrong is told with file, line and key. */
	write_file("conf.d/60-x.conf", "[tenant a]\n\nhihg = 1G\n");
	assert_int_equal(read_all(&c), -EINVAL);
	assert_non_null(strstr(c.why, "conf.d/60-x.conf:3: hihg: no such "
				      "key"));
	config_fini(&c);
	snprintf(cmd, sizeof(cmd), "rm -r %s", dropin_root);
	assert_int_equal(system(cmd), 0);
}

/* Nothing is looked for beside a device, or in a state directory of none. */
static void test_no_dropins(void **state)
{
	struct config c;

	config_init(&c);
	c.server.state_dir[0] = '\0';
	assert_int_equal(config_read(&c, "/dev/null"), 0);
	assert_int_equal(config_read_dropins(&c, "/dev/null"), 0);
	assert_string_equal(c.server.dropin_dir, "");
	assert_int_equal(config_read_dropins(&c, NULL), 0);
	config_fini(&c);
}

static void test_units(void **state)
{
	uint64_t n;

	assert_int_equal(value_size(&n, "0"), 0);
	assert_int_equal(value_size(&n, "4k"), 0);
	assert_int_equal(n, 4096);
	assert_int_equal(value_size(&n, "2T"), 0);
	assert_int_equal(n, 2ULL << 40);
	assert_int_equal(value_size(&n, ""), -EINVAL);
	assert_int_equal(value_size(&n, "1 M"), -EINVAL);
	assert_int_equal(value_size(&n, "1MB"), -EINVAL);
	assert_int_equal(value_time(&n, "2"), 0);
	assert_int_equal(n, 2000);
	assert_int_equal(value_time(&n, "3min"), 0);
	assert_int_equal(n, 180000);
	assert_int_equal(value_time(&n, "99999999999999999999"),
			 -EINVAL);
}

/* ---- the executable ---- */

static void runs(int status, const char *word, const char *const *argv)
{
	char out[4096];

	assert_int_equal(daemon_run(argv, out, sizeof(out)), status);
	if (!strstr(out, word))
		fail_msg("'%s' is not in: %s", word, out);
}

static void test_command_line(void **state)
{
	const char *const version[] = { "kvd", "--version", NULL };
	const char *const help[] = { "kvd", "--help", NULL };
	const char *const unknown[] = { "kvd", "--nonsense", NULL };
	const char *const stray[] = { "kvd", "stray", NULL };
	const char *const pool[] = { "kvd", "--config", "/dev/null", "--pool",
				     "lots", "--check", NULL };
	const char *const set[] = { "kvd", "--config", "/dev/null", "--set",
				    "max-clients", "--check", NULL };
	const char *const good[] = { "kvd", "--config", "/dev/null",
				     "--socket", "/tmp/x", "--state-dir",
				     "/tmp/y", "--set", "max-clients=5",
				     "--check", NULL };
	const char *const file[] = { "kvd", "--config", path, "--check",
				     NULL };
	const char *const device[] = { "kvd", "--config", "/dev/null",
				       "--device", "cuda-vmm:200", "--socket",
				       "/tmp/kvd-none.sock", "--state-dir",
				       "/tmp/kvd-none", NULL };
	struct config c;

	runs(0, "kvd 0.", version);
	runs(0, "--socket PATH", help);
	runs(1, "--help", unknown);
	runs(1, "'stray'", stray);
	runs(1, "--pool: 'lots' is not a size", pool);
	runs(1, "KEY=VALUE", set);
	runs(0, "good", good);
	read_text(&c, "[kvd]\nbogus = 1\n");
	config_fini(&c);
	runs(1, ":2: bogus: no such key", file);
	runs(1, "device cuda-vmm:200", device);
	assert_int_equal(access("/tmp/kvd-none.sock", F_OK), -1);
	rmdir("/tmp/kvd-none");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good),
		cmocka_unit_test(test_bad_lines),
		cmocka_unit_test(test_missing),
		cmocka_unit_test(test_first_error),
		cmocka_unit_test(test_checks),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_watermarks),
		cmocka_unit_test(test_keep),
		cmocka_unit_test(test_dropins),
		cmocka_unit_test(test_no_dropins),
		cmocka_unit_test(test_units),
		cmocka_unit_test(test_command_line),
	};
	int r;

	close(mkstemp(path));
	r = cmocka_run_group_tests(tests, NULL, NULL);
	unlink(path);
	return r;
}
