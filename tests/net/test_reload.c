// SPDX-License-Identifier: Apache-2.0
/*
 * test_reload.c - SIGHUP: what the files say anew is in force, or nothing is.
 *
 * The pool has 64 MiB. As root we can be another user too; where we are not,
 * what needs that is skipped.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>
#include "tests/support/check.h"
#include "tests/support/manager.h"
#include "tests/support/raw.h"

#define MIB   (1ull << 20)
#define OTHER 4242

enum { MIN = 1, HIGH = 2, MAX = 4 };

static struct manager m;
static char dir[] = "/tmp/kvd-reload-XXXXXX";
static char conf[64];
static long log_seen;		/* bytes of the log */

static void write_conf(const char *text)
{
	FILE *f = fopen(conf, "w");

	CHECK(f && fputs(text, f) >= 0, "%s", conf);
	fclose(f);
}

/* What was logged since it was asked last. */
static const char *logged(void)
{
	static char text[16384];
	FILE *f = fopen(m.daemon.log, "r");
	size_t n;

	CHECK(f && fseek(f, log_seen, SEEK_SET) == 0, "%s", m.daemon.log);
	n = fread(text, 1, sizeof(text) - 1, f);
	text[n] = '\0';
	log_seen += (long)n;
	fclose(f);
	return text;
}

static void reload(const char *text)
{
	logged();
	write_conf(text);
	manager_reload(&m);
}

/* The new configuration is taken; @says is logged, if it is not NULL. */
static void takes(const char *text, const char *says)
{
	const char *log;

	reload(text);
	log = logged();
	CHECK(strstr(log, "was read again"), "%s", log);
	CHECK(!says || strstr(log, says), "no '%s' in: %s", says, log);
}

static void refuses(const char *text, const char *says)
{
	const char *log;

	reload(text);
	log = logged();
	CHECK(strstr(log, "stays as it is") && strstr(log, says),
	      "no '%s' in: %s", says, log);
}

static int setup(void **state)
{
	const char *args[] = { "--config", conf, NULL };

	CHECK(mkdtemp(dir), "%s", dir);
	snprintf(conf, sizeof(conf), "%s/kvd.conf", dir);
	write_conf("");
	manager_start(&m, args);
	chmod(m.daemon.dir, 0711);
	chmod(m.daemon.socket, 0666);
	return 0;
}

static int teardown(void **state)
{
	char cmd[64];

	daemon_assert_idle_at(m.daemon.socket);
	manager_stop(&m);
	snprintf(cmd, sizeof(cmd), "rm -r %s", dir);
	return system(cmd);
}

/* ---- tenants ---- */

struct limits {
	uint64_t min, high, max;
	size_t nr_uids;
};

static bool limits_of(const char *tenant, struct limits *ret)
{
	Kvd__TenantsRequest req = KVD__TENANTS_REQUEST__INIT;
	int fd = raw_open(m.daemon.socket);
	Kvd__TenantsReply *reply;
	bool found = false;

	assert_int_equal(raw_call(fd, WIRE_TENANTS, &req.base,
				  &kvd__tenants_reply__descriptor, &reply,
				  NULL), 0);
	for (size_t i = 0; i < reply->n_tenants; i++) {
		const Kvd__TenantStat *t = reply->tenants[i];

		if (strcmp(t->name, tenant) != 0)
			continue;
		*ret = (struct limits){ t->min, t->high, t->max, t->n_uids };
		found = true;
	}
	kvd__tenants_reply__free_unpacked(reply, NULL);
	raw_bye(fd);
	close(fd);
	return found;
}

static void limits_are(const char *tenant, uint64_t min, uint64_t high,
		       uint64_t max)
{
	struct limits l;

	assert_true(limits_of(tenant, &l));
	assert_int_equal(l.min, min * MIB);
	assert_int_equal(l.high, high * MIB);
	assert_int_equal(l.max, max * MIB);
}

static int set_max(int fd, const char *tenant, uint64_t max, bool runtime)
{
	Kvd__TenantSetRequest req = KVD__TENANT_SET_REQUEST__INIT;

	req.name = (char *)(uintptr_t)tenant;
	req.keys = MAX;
	req.max = max * MIB;
	req.runtime = runtime;
	return raw_call(fd, WIRE_TENANT_SET, &req.base, NULL, NULL, NULL);
}

static void test_tenants(void **state)
{
	struct limits l;

	assert_false(limits_of("chat", &l));
	takes("[tenant chat]\nusers = 1, 2\nmin = 8M\nmax = 40M\n", NULL);
	limits_are("chat", 8, 0, 40);
	takes("[tenant batch]\nmin = 16M\n"
	      "[tenant chat]\nusers = 3\nhigh = 30M\nmax = 41M\n", NULL);
	limits_are("chat", 0, 30, 41);
	limits_are("batch", 16, 0, 0);
	assert_true(limits_of("chat", &l));
	assert_int_equal(l.nr_uids, 1);

	/* Promises change hands; they would not fit beside each other. */
	takes("[tenant batch]\nmin = 8M\n[tenant chat]\nmin = 50M\n", NULL);
	limits_are("chat", 50, 0, 0);
	takes("[tenant batch]\nmin = 50M\n[tenant chat]\nmin = 8M\n", NULL);
	limits_are("batch", 50, 0, 0);
	limits_are("chat", 8, 0, 0);

	/* Nobody is it any more, and nothing is promised to it. */
	takes("[tenant chat]\nmin = 60M\nusers = 1\n", NULL);
	limits_are("batch", 0, 0, 0);
	takes("", NULL);
	limits_are("chat", 0, 0, 0);
	assert_true(limits_of("chat", &l));
	assert_int_equal(l.nr_uids, 0);
}

static void test_users_of_their_own(void **state)
{
	char name[32];

	snprintf(name, sizeof(name), "uid-%u", (unsigned)geteuid());
	limits_are(name, 0, 0, 0);
	takes("[kvd]\ntenant-max = 20M\n", NULL);
	limits_are(name, 0, 0, 20);
	takes("[tenant uid-77]\nhigh = 7M\n", NULL);
	limits_are(name, 0, 0, 0);
	limits_are("uid-77", 0, 7, 0);
	takes("", NULL);
	limits_are("uid-77", 0, 0, 0);
}

/* What was set by hand is there until a file says something else. */
static void test_set_for_now(void **state)
{
	int fd = raw_open(m.daemon.socket);

	takes("[tenant chat]\nmax = 40M\nhigh = 30M\n", NULL);
	assert_int_equal(set_max(fd, "chat", 35, true), 0);
	takes("[tenant chat]\nmax = 40M\nhigh = 20M\n", NULL);
	limits_are("chat", 0, 20, 35);
	refuses("[tenant chat]\nmax = 40M\nhigh = 36M\n",
		"high 36M is above max 35M");
	limits_are("chat", 0, 20, 35);
	takes("[tenant chat]\nmax = 41M\nhigh = 36M\n", NULL);
	limits_are("chat", 0, 36, 41);

	/* In a file of kvd's own it is read again. */
	assert_int_equal(set_max(fd, "chat", 38, false), 0);
	limits_are("chat", 0, 36, 38);
	takes("[tenant chat]\nmax = 42M\nhigh = 36M\n", NULL);
	limits_are("chat", 0, 36, 38);
	raw_bye(fd);
	close(fd);
}

/* ---- the rest ---- */

static int hello(int fd)
{
	Kvd__HelloRequest req = KVD__HELLO_REQUEST__INIT;

	req.version = WIRE_VERSION;
	return raw_call(fd, WIRE_HELLO, &req.base, NULL, NULL, NULL);
}

static void test_clients(void **state)
{
	int a = raw_open(m.daemon.socket), b;

	takes("[kvd]\nmax-clients = 1\n", NULL);
	b = raw_connect(m.daemon.socket);
	assert_int_equal(hello(b), -EUSERS);
	close(b);
	takes("", NULL);
	b = raw_connect(m.daemon.socket);
	assert_int_equal(hello(b), 0);
	assert_int_equal(raw_ping(a), 0);
	close(a);
	close(b);
}

static void test_spaces(void **state)
{
	int fd = raw_open(m.daemon.socket);

	assert_true(raw_open_space(fd, 1) >= 0);
	takes("[kvd]\nmax-spaces-per-tenant = 1\n", NULL);
	assert_true(raw_open_space(fd, 2) < 0);
	takes("", NULL);
	assert_true(raw_open_space(fd, 2) >= 0);
	raw_bye(fd);
	close(fd);
}

static void test_watermarks(void **state)
{
	const char text[] = "[kvd]\nwatermark-low = 1M\n"
			    "watermark-high = 6M\n";
	int fd = raw_open(m.daemon.socket);
	struct daemon_stat st;
	uint64_t h;

	assert_int_equal(raw_alloc(fd, (uint32_t)raw_open_space(fd, 1), 1,
				   5000, &h, NULL), 0);
	daemon_stat(m.daemon.socket, &st);
	assert_int_not_equal(st.mark_high, 6 * MIB);
	takes(text, NULL);
	daemon_stat(m.daemon.socket, &st);
	assert_int_equal(st.mark_high, 6 * MIB);
	raw_bye(fd);
	close(fd);
}

/* Who is connected gains and loses rights too. */
static void test_admin_group(void **state)
{
	int fd;

	if (geteuid() != 0)
		skip();
	assert_int_equal(setegid(OTHER), 0);
	assert_int_equal(seteuid(OTHER), 0);
	fd = raw_open(m.daemon.socket);
	assert_int_equal(seteuid(0), 0);
	assert_int_equal(setegid(0), 0);
	assert_int_equal(set_max(fd, "uid-4242", 1, true), -EACCES);
	takes("[kvd]\nadmin-group = 4242\n", NULL);
	assert_int_equal(set_max(fd, "uid-4242", 1, true), 0);
	takes("", NULL);
	assert_int_equal(set_max(fd, "uid-4242", 1, true), -EACCES);
	raw_bye(fd);
	close(fd);
}

/* Each is told, while it differs. The command line is not the file's. */
static void test_later(void **state)
{
	const char *log;

	takes("[kvd]\npolicy = lru\nmax-wait = 2s\n"
	      "[tenant chat]\nkey-file = /nowhere\n",
	      "policy: takes effect with the next start");
	takes("[kvd]\npolicy = lru\n[tenant chat]\nkey-file = /nowhere\n",
	      "key-file of tenant chat: takes effect with the next start");
	takes("[kvd]\ngrace = 1min\n",
	      "grace: takes effect with the next start");
	reload("[kvd]\npool = 128M\n");
	log = logged();
	assert_null(strstr(log, "takes effect"));
}

static void test_level(void **state)
{
	takes("[kvd]\nlog-level = warning\n", NULL);
	reload("[kvd]\nlog-level = warning\n");
	assert_string_equal(logged(), "");
	reload("");
	takes("", NULL);
}

static void test_bad(void **state)
{
	takes("[tenant chat]\nmin = 1M\nmax = 40M\n", NULL);
	refuses("[tenant chat]\nmin = 2M\n[kvd]\nmax-clients = 0\n",
		"kvd.conf:4: max-clients: '0' is not");
	refuses("[tenant chat]\nmin = 2M\n[tenant new]\nkey-file = /nowhere\n",
		"key of tenant new in /nowhere: No such file");
	refuses("[tenant chat]\nmin = 2M\n[tenant new]\nmin = 63M\n",
		"promised more than the pool's");
	refuses("[tenant chat]\nmin = 2M\nrubbish\n", ":3: neither");
	unlink(conf);
	logged();
	manager_reload(&m);
	assert_non_null(strstr(logged(), "kvd.conf: No such file"));
	limits_are("chat", 1, 0, 40);
	write_conf("");
	manager_reload(&m);
}

/* ---- slow files ---- */

static char pipe_path[96];

/* A drop-in that is read when we want it to be. */
static void make_pipe(void)
{
	char path[80];

	snprintf(path, sizeof(path), "%s.d", conf);
	CHECK(mkdir(path, 0700) == 0 || errno == EEXIST, "%s", path);
	snprintf(pipe_path, sizeof(pipe_path), "%s/00-pipe.conf", path);
	assert_int_equal(mkfifo(pipe_path, 0600), 0);
}

/* Another one is there for the next reading, before this one ends. */
static void end_pipe(int fd)
{
	assert_int_equal(unlink(pipe_path), 0);
	assert_int_equal(mkfifo(pipe_path, 0600), 0);
	close(fd);
}

/* Waits until the daemon has it open. Closed, it has read an empty file. */
static int open_pipe(void)
{
	int fd = open(pipe_path, O_WRONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

static void wait_read_again(int fd)
{
	while (!strstr(logged(), "was read again"))
		assert_int_equal(raw_ping(fd), 0);
}

/* Everybody is served meanwhile; what has changed then is found. */
static void test_slow(void **state)
{
	int fd = raw_open(m.daemon.socket), slow;

	make_pipe();
	logged();
	write_conf("[tenant slow]\nmax = 50M\n");
	kill(m.daemon.pid, SIGHUP);
	slow = open_pipe();
	assert_int_equal(raw_ping(fd), 0);
	write_conf("[tenant slow]\nmax = 51M\n");
	kill(m.daemon.pid, SIGHUP);
	assert_int_equal(raw_ping(fd), 0); /* in this turn of the loop */
	assert_int_equal(raw_ping(fd), 0); /* or the next it is heard */
	end_pipe(slow);
	end_pipe(open_pipe());
	wait_read_again(fd);
	limits_are("slow", 0, 0, 51);

	/* By kvd itself, when it has looked which files there are. */
	kill(m.daemon.pid, SIGHUP);
	slow = open_pipe();
	assert_int_equal(set_max(fd, "slow", 38, false), 0);
	end_pipe(slow);
	end_pipe(open_pipe());
	wait_read_again(fd);
	limits_are("slow", 0, 0, 38);
	raw_bye(fd);
	close(fd);
	unlink(pipe_path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tenants),
		cmocka_unit_test(test_users_of_their_own),
		cmocka_unit_test(test_clients),
		cmocka_unit_test(test_spaces),
		cmocka_unit_test(test_watermarks),
		cmocka_unit_test(test_admin_group),
		cmocka_unit_test(test_later),
		cmocka_unit_test(test_level),
		cmocka_unit_test(test_bad),
		cmocka_unit_test(test_set_for_now),
		cmocka_unit_test(test_slow),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
