// SPDX-License-Identifier: Apache-2.0
/*
 * test_listen.c - what may be at the socket's path when kvd starts.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>
#include "tests/support/daemon.h"
#include "tests/support/raw.h"

/* Starts a second kvd at @d's socket; it has to refuse. */
static void refused(const struct daemon *d, const char *word)
{
	const char *argv[DAEMON_MAX_ARGS];
	char out[4096];

	daemon_args(d, NULL, argv);
	assert_int_equal(daemon_run(argv, out, sizeof(out)), 1);
	if (!strstr(out, word))
		fail_msg("'%s' is not in: %s", word, out);
}

static void test_live_socket(void **state)
{
	struct daemon d;
	int fd;

	daemon_start(&d, NULL);
	refused(&d, "another daemon answers");
	fd = raw_open(d.socket); /* and the first serves on */
	assert_int_equal(raw_ping(fd), 0);
	close(fd);
	daemon_stop(&d);
}

static void test_stale_socket(void **state)
{
	struct daemon d;

	daemon_start(&d, NULL);
	daemon_kill(&d);
	assert_int_equal(access(d.socket, F_OK), 0);
	daemon_start_in(&d, NULL);
	daemon_assert_idle(&d);
	daemon_stop(&d);
}

static void test_no_socket(void **state)
{
	struct daemon d;
	FILE *f;

	daemon_prepare(&d);
	f = fopen(d.socket, "w");
	assert_non_null(f);
	fputs("precious", f);
	fclose(f);
	refused(&d, "not a socket");
	assert_int_equal(access(d.socket, F_OK), 0);
	daemon_remove(&d);
}

/* Somebody who keeps the directory locked does not keep us silent. */
static void test_locked_directory(void **state)
{
	struct daemon d;
	char *slash;
	int fd;

	daemon_prepare(&d);
	slash = strrchr(d.socket, '/');
	*slash = '\0';
	fd = open(d.socket, O_RDONLY | O_DIRECTORY);
	*slash = '/';
	assert_true(fd >= 0);
	assert_int_equal(flock(fd, LOCK_EX), 0);
	refused(&d, "keeps a lock");
	close(fd);
	daemon_remove(&d);
}

static void test_mode(void **state)
{
	const char *const args[] = { "--set", "socket-mode=0612", NULL };
	struct daemon d;
	struct stat st;

	daemon_start(&d, args);
	assert_int_equal(stat(d.socket, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0612);
	daemon_stop(&d);
}

static void test_long_path(void **state)
{
	char path[200] = "/tmp/";
	const char *argv[] = { "kvd", "--config", "/dev/null", "--socket",
			       path, NULL };
	char out[4096];

	memset(path + 5, 'x', 150);
	assert_int_equal(daemon_run(argv, out, sizeof(out)), 1);
	assert_non_null(strstr(out, "at most 107 bytes"));
}

/* A socket that another daemon has put in our place is not ours to remove. */
static void test_foreign_socket_stays(void **state)
{
	struct daemon d, other;

	daemon_start(&d, NULL);
	assert_int_equal(unlink(d.socket), 0);
	other = d;
	daemon_start_in(&other, NULL);
	kill(d.pid, SIGTERM);
	assert_int_equal(daemon_wait_exit(&d), 0);
	assert_int_equal(access(other.socket, F_OK), 0);
	daemon_assert_idle(&other);
	daemon_stop(&other);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_live_socket),
		cmocka_unit_test(test_stale_socket),
		cmocka_unit_test(test_no_socket),
		cmocka_unit_test(test_locked_directory),
		cmocka_unit_test(test_mode),
		cmocka_unit_test(test_long_path),
		cmocka_unit_test(test_foreign_socket_stays),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
