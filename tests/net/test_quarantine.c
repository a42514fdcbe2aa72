// SPDX-License-Identifier: Apache-2.0
/*
 * test_quarantine.c - what is in quarantine, shown and released by an admin.
 *
 * Writers that are another user's need root.
 */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>
#include "tests/support/check.h"
#include "tests/support/daemon.h"
#include "tests/support/manager.h"
#include "tests/support/raw.h"

#define NR_PAGES 16
#define OTHER	 4242

static struct daemon d;
static struct raw_frame f;
static char name[32];		/* of our tenant */

static int setup(void **state)
{
	const char *const args[] = { "--set", "socket-mode=0666", NULL };

	snprintf(name, sizeof(name), "uid-%u", (unsigned)geteuid());
	daemon_prepare(&d);
	chmod(d.dir, 0711);
	daemon_start_in(&d, args);
	return 0;
}

static int teardown(void **state)
{
	daemon_assert_idle(&d);
	daemon_stop(&d);
	return 0;
}

/* ---- processes ---- */

static void tell(int ready)
{
	CHECK(write(ready, "r", 1) == 1, "nobody waits");
}

/* Has pages, and its connection ends while it lives. */
static void hang_up(int ready)
{
	uint64_t handles[NR_PAGES];
	int fd = raw_open(d.socket);
	int space = raw_open_space(fd, 1);

	CHECK(space > 0, "space");
	CHECK(raw_alloc(fd, (uint32_t)space, NR_PAGES, 5000, handles, NULL) ==
	      0, "alloc");
	close(fd);
	tell(ready);
	pause();
}

static pid_t start(void (*run)(int ready), uid_t uid)
{
	int ready[2];
	char byte;
	pid_t pid;

	CHECK(pipe(ready) == 0, "pipe");
	pid = fork();
	if (pid == 0) {
		if (uid)
			CHECK(!setresgid(uid, uid, uid) &&
			      !setresuid(uid, uid, uid), "setuid");
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		run(ready[1]);
		_exit(0);
	}
	close(ready[1]);
	CHECK(read(ready[0], &byte, 1) == 1, "child");
	close(ready[0]);
	return pid;
}

static void end(pid_t pid)
{
	int status;

	kill(pid, SIGKILL);
	CHECK(waitpid(pid, &status, 0) == pid, "waitpid");
}

/* ---- requests ---- */

static void bye(int fd)
{
	raw_bye(fd);
	close(fd);
}

/* What is listed, as @fd is shown it. The caller frees it. */
static Kvd__QuarantineReply *list(int fd)
{
	Kvd__QuarantineRequest req = KVD__QUARANTINE_REQUEST__INIT;
	Kvd__QuarantineReply *r;

	CHECK(raw_call(fd, WIRE_QUARANTINE, &req.base,
		       &kvd__quarantine_reply__descriptor, &r, NULL) == 0,
	      "list");
	return r;
}

/* So many writers, of whom the connection of process @pid has gone. */
static void wait_listed(int fd, size_t nr)
{
	Kvd__QuarantineReply *r;
	size_t n = 0;
	int i = 0;

	do {
		CHECK(i++ < 1000, "%zu writers listed", n);
		usleep(5000);
		r = list(fd);
		n = r->n_writers;
		kvd__quarantine_reply__free_unpacked(r, NULL);
	} while (n != nr);
}

static void check_listed(int fd, pid_t pid, const char *tenant, uid_t uid,
			 Kvd__QuarantineStat__Wait wait)
{
	Kvd__QuarantineReply *r = list(fd);

	assert_int_equal(r->n_writers, 1);
	assert_int_equal(r->writers[0]->pid, pid);
	assert_true(r->writers[0]->start_time > 0);
	assert_string_equal(r->writers[0]->tenant, tenant);
	assert_true(r->writers[0]->uid_known);
	assert_int_equal(r->writers[0]->uid, uid);
	assert_int_equal(r->writers[0]->pages, NR_PAGES);
	assert_int_equal(r->writers[0]->wait, wait);
	assert_true(r->writers[0]->since_ms < 60000);
	kvd__quarantine_reply__free_unpacked(r, NULL);
}

static int release_any(int fd, Kvd__QuarantineReleaseRequest *req,
		       uint64_t *ret_pages, uint64_t *ret_left)
{
	Kvd__QuarantineReleaseReply *a;
	int r = raw_call(fd, WIRE_QUARANTINE_RELEASE, &req->base,
			 &kvd__quarantine_release_reply__descriptor, &a, &f);

	if (r < 0)
		return r;
	*ret_pages = a->pages;
	*ret_left = a->left_pages;
	assert_int_equal(a->writers * NR_PAGES, a->pages);
	assert_int_equal(a->left_writers * NR_PAGES, a->left_pages);
	kvd__quarantine_release_reply__free_unpacked(a, NULL);
	return 0;
}

/* Return: pages, or a negative errno. */
static int release(int fd, pid_t pid, uint64_t start_time, bool force)
{
	Kvd__QuarantineReleaseRequest req =
		KVD__QUARANTINE_RELEASE_REQUEST__INIT;
	uint64_t pages, left;
	int r;

	req.pid = (uint32_t)pid;
	req.start_time = start_time;
	req.force = force;
	r = release_any(fd, &req, &pages, &left);
	if (r < 0)
		return r;
	assert_int_equal(left, 0);
	return (int)pages;
}

static int release_all(int fd, bool force, uint64_t *ret_left)
{
	Kvd__QuarantineReleaseRequest req =
		KVD__QUARANTINE_RELEASE_REQUEST__INIT;
	uint64_t pages;
	int r;

	req.all = true;
	req.force = force;
	r = release_any(fd, &req, &pages, ret_left);
	return r < 0 ? r : (int)pages;
}

static uint64_t released(void)
{
	Kvd__StatRequest req = KVD__STAT_REQUEST__INIT;
	Kvd__StatReply *r;
	uint64_t nr;
	int fd = raw_open(d.socket);

	CHECK(raw_call(fd, WIRE_STAT, &req.base, &kvd__stat_reply__descriptor,
		       &r, NULL) == 0, "stat");
	nr = r->pools[0]->quarantine_released;
	kvd__stat_reply__free_unpacked(r, NULL);
	bye(fd);
	return nr;
}

static bool is_logged(const char *text)
{
	static char log[65536];
	FILE *file = fopen(d.log, "r");
	size_t n = file ? fread(log, 1, sizeof(log) - 1, file) : 0;

	if (file)
		fclose(file);
	log[n] = '\0';
	return strstr(log, text);
}

/* ---- tests ---- */

/* A process that lives has to be ended, or to be insisted on. */
static void test_lives(void **state)
{
	int fd = raw_open(d.socket);
	uint64_t before = released(), left;
	struct daemon_stat st;
	char line[128];
	pid_t pid;

	wait_listed(fd, 0);
	assert_int_equal(release(fd, 1, 0, false), -ENOENT);
	assert_int_equal(release(fd, 0, 0, true), -ENOENT);
	pid = start(hang_up, 0);
	wait_listed(fd, 1);
	check_listed(fd, pid, name, geteuid(),
		     KVD__QUARANTINE_STAT__WAIT__LIVES);
	assert_int_equal(release(fd, pid, 0, false), -EBUSY);
	assert_true(strstr(raw_error(&f), "--force"));
	assert_int_equal(release(fd, pid + 1, 0, true), -ENOENT);
	assert_int_equal(release(fd, pid, 1, true), -ENOENT);
	assert_int_equal(release_all(fd, false, &left), 0);
	assert_int_equal(left, NR_PAGES);
	check_listed(fd, pid, name, geteuid(),
		     KVD__QUARANTINE_STAT__WAIT__LIVES);
	assert_int_equal(released(), before);

	assert_int_equal(release(fd, pid, 0, true), NR_PAGES);
	assert_int_equal(release(fd, pid, 0, true), -ENOENT);
	wait_listed(fd, 0);
	assert_int_equal(released(), before + NR_PAGES);
	snprintf(line, sizeof(line), "%d pages that pid %d of tenant %s has "
		 "left were released by uid %u, by force", NR_PAGES, (int)pid,
		 name, (unsigned)geteuid());
	assert_true(is_logged(line));
	daemon_stat(d.socket, &st);
	assert_int_equal(st.quarantined, 0);
	end(pid);
	bye(fd);
}

/* Ended by itself: nothing is left to release. */
static void test_ends(void **state)
{
	int fd = raw_open(d.socket);
	pid_t pid = start(hang_up, 0);

	wait_listed(fd, 1);
	end(pid);
	wait_listed(fd, 0);
	assert_int_equal(release(fd, pid, 0, false), -ENOENT);
	bye(fd);
}

/* All at once, more than a step has. */
static void test_all(void **state)
{
	int fd = raw_open(d.socket);
	uint64_t left;
	pid_t pids[5];
	int i;

	for (i = 0; i < 5; i++)
		pids[i] = start(hang_up, 0);
	wait_listed(fd, 5);
	assert_int_equal(release_all(fd, false, &left), 0);
	assert_int_equal(left, 5 * NR_PAGES);
	assert_int_equal(release_all(fd, true, &left), 5 * NR_PAGES);
	assert_int_equal(left, 0);
	assert_int_equal(release_all(fd, true, &left), 0);
	wait_listed(fd, 0);
	for (i = 0; i < 5; i++)
		end(pids[i]);
	bye(fd);
}

/* It sees its own. */
static void stranger_is_shown(int ready)
{
	int fd = raw_open(d.socket);
	Kvd__QuarantineReply *r = list(fd);

	CHECK(r->n_writers == 1 && r->writers[0]->uid == OTHER, "its own");
	CHECK(release(fd, (pid_t)r->writers[0]->pid, 0, true) == -EACCES,
	      "its own pages, too, are released by admins");
	bye(fd);
	tell(ready);
}

/* It sees nothing of ours, and frees nothing. */
static void stranger_tries(int ready)
{
	int fd = raw_open(d.socket);
	Kvd__QuarantineReply *r = list(fd);
	uint64_t left;

	CHECK(r->n_writers == 0, "sees another tenant's");
	CHECK(release_all(fd, true, &left) == -EACCES, "all");
	CHECK(strstr(raw_error(&f), "admin group"), "%s", raw_error(&f));
	bye(fd);
	tell(ready);
}

static void test_rights(void **state)
{
	int fd = raw_open(d.socket);
	pid_t ours, theirs, asks;

	if (geteuid() != 0) {
		bye(fd);
		skip();
	}
	ours = start(hang_up, 0);
	wait_listed(fd, 1);
	asks = start(stranger_tries, OTHER);
	end(asks);
	theirs = start(hang_up, OTHER);
	wait_listed(fd, 2);
	asks = start(stranger_is_shown, OTHER);
	end(asks);
	wait_listed(fd, 2);
	end(ours);
	wait_listed(fd, 1);
	check_listed(fd, theirs, "uid-4242", OTHER,
		     KVD__QUARANTINE_STAT__WAIT__LIVES);
	end(theirs);
	wait_listed(fd, 0);
	bye(fd);
}

/* In the grace time, and after it: whose they were is not known any more. */
static void test_restart(void **state)
{
	const char *const args[] = { "--grace", "500ms", NULL };
	Kvd__QuarantineReply *r;
	struct daemon first = d;
	struct manager m;
	pid_t pid;
	int fd;

	manager_start(&m, args);
	d = m.daemon;
	pid = start(hang_up, 0);
	manager_kill(&m);
	manager_again(&m, args);
	fd = raw_open(m.daemon.socket);
	r = list(fd);
	assert_int_equal(r->n_writers, 1);
	assert_int_equal(r->writers[0]->pid, pid);
	assert_int_equal(r->writers[0]->wait,
			 KVD__QUARANTINE_STAT__WAIT__UNCLAIMED);
	assert_int_equal(release(fd, pid, 0, false), -EBUSY);
	while (r->writers[0]->wait == KVD__QUARANTINE_STAT__WAIT__UNCLAIMED) {
		kvd__quarantine_reply__free_unpacked(r, NULL);
		usleep(10000);
		r = list(fd);
		assert_int_equal(r->n_writers, 1);
	}
	assert_int_equal(r->writers[0]->wait,
			 KVD__QUARANTINE_STAT__WAIT__LIVES);
	assert_int_equal(r->writers[0]->pages, NR_PAGES);
	assert_false(r->writers[0]->uid_known);
	kvd__quarantine_reply__free_unpacked(r, NULL);
	assert_int_equal(release(fd, pid, 0, true), NR_PAGES);
	wait_listed(fd, 0);
	bye(fd);
	end(pid);
	daemon_assert_idle(&m.daemon);
	manager_stop(&m);
	d = first;
}

/* ---- kvctl ---- */

static char said[8192];

/* Return: its exit status; what it says is in @said. */
static int kvctl(const char *args)
{
	char command[512];
	size_t n;
	FILE *p;
	int r;

	snprintf(command, sizeof(command), "KVD_SOCKET=%s %s quarantine %s "
		 "2>&1", d.socket, daemon_program("kvctl", KVD_KVCTL), args);
	p = popen(command, "r");
	CHECK(p, "popen");
	n = fread(said, 1, sizeof(said) - 1, p);
	said[n] = '\0';
	r = pclose(p);
	return WIFEXITED(r) ? WEXITSTATUS(r) : -1;
}

static void test_usage(void **state)
{
	static const char *const wrong[] = {
		"1", "free", "--all", "--force", "release", "release x",
		"release -1", "release 1:", "release 1:x", "release 1 2",
		"release 1 --all", "release 99999999999", "release --socket"
	};
	size_t i;

	for (i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		assert_int_equal(kvctl(wrong[i]), 2);
		assert_true(strstr(said, "(kvctl quarantine --help)"));
	}
	assert_int_equal(kvctl("--help"), 0);
	assert_true(strstr(said, "WARNING"));
}

static void test_kvctl(void **state)
{
	char args[64], want[160];
	pid_t pid, other;
	int fd = raw_open(d.socket);

	assert_int_equal(kvctl("--json"), 0);
	assert_string_equal(said, "{\"writers\": []}\n");
	assert_int_equal(kvctl("release 1"), 1);
	assert_true(strstr(said, "no pages of process 1 are in quarantine"));
	pid = start(hang_up, 0);
	other = start(hang_up, 0);
	wait_listed(fd, 2);
	assert_int_equal(kvctl(""), 0);
	assert_true(strstr(said, "waits for") && strstr(said, name) &&
		    strstr(said, "the process lives"));
	assert_int_equal(kvctl("--json"), 0);
	snprintf(want, sizeof(want), "{\"id\": \"%d\", \"pid\": %d, ",
		 (int)pid, (int)pid);
	assert_true(strstr(said, want));
	snprintf(args, sizeof(args), "release %d", (int)pid);
	assert_int_equal(kvctl(args), 1);
	assert_true(strstr(said, "kvd does not know that process"));
	assert_int_equal(kvctl("release --all"), 0);
	assert_string_equal(said, "released 0 pages of 0 processes\n"
			    "left 32 pages of 2 processes that have not been "
			    "seen to end (--force)\n");
	strcat(args, " --force");
	assert_int_equal(kvctl(args), 0);
	assert_string_equal(said, "released 16 pages of 1 processes\n");
	assert_int_equal(kvctl("release --all --force --json"), 0);
	assert_string_equal(said, "{\"pages\": 16, \"writers\": 1, "
			    "\"left_pages\": 0, \"left_writers\": 0}\n");
	wait_listed(fd, 0);
	end(pid);
	end(other);
	bye(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lives),
		cmocka_unit_test(test_ends),
		cmocka_unit_test(test_all),
		cmocka_unit_test(test_rights),
		cmocka_unit_test(test_restart),
		cmocka_unit_test(test_usage),
		cmocka_unit_test(test_kvctl),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
