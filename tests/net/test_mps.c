// SPDX-License-Identifier: Apache-2.0
/*
 * test_mps.c - under MPS pages of a dead writer wait until MPS does not list
 * it. On the double of libcuda, with a script for nvidia-cuda-mps-control.
 *
 * The script answers from a directory: `servers`, and of each `clients.PID`,
 * or `clients.PID.N` in the Nth question; `self` adds kvd itself, as MPS would.
 * It notes each command in `asked`, and does what `how` has first.
 */
#include <errno.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>
#include "tests/client/toy.h"
#include "tests/support/check.h"
#include "tests/support/daemon.h"
#include "tests/support/manager.h"
#include "tests/support/raw.h"

#define NR_PAGES 16
#define MPS_CONTROL "nvidia-cuda-mps-control"

static const char *const args[] = { "--device", "cuda-vmm:0", "--grace",
				    "100ms", NULL };

static const char script[] =
	"#!/bin/sh\n"
	"cd \"$KVD_TEST_MPS\" || exit 9\n"
	"read command server\n"
	"echo \"$command $server\" >>asked\n"
	"[ ! -e how ] || . ./how\n"
	"nr=$(grep -c get_server_list asked)\n"
	"case $command in\n"
	"get_server_list) cat servers ;;\n"
	"get_client_list)\n"
	"	[ ! -e self ] || echo $PPID\n"
	"	if [ -e clients.$server.$nr ]; then cat clients.$server.$nr\n"
	"	else cat clients.$server; fi ;;\n"
	"*) exit 8 ;;\n"
	"esac\n";

static struct daemon d;
static char dir[64];

/* ---- the control program ---- */

static const char *file(const char *name)
{
	static char path[128];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return path;
}

/* All at once: it may be read at any time. */
static void put(const char *name, const char *text)
{
	char tmp[128];
	FILE *f;

	snprintf(tmp, sizeof(tmp), "%s", file(".new"));
	f = fopen(tmp, "w");
	CHECK(f && fputs(text, f) >= 0 && fclose(f) == 0, "%s", tmp);
	CHECK(rename(tmp, file(name)) == 0, "%s", name);
}

static void put_clients(const char *name, pid_t a, pid_t b)
{
	char text[64];

	snprintf(text, sizeof(text), "%d\n%d\n", (int)a, (int)b);
	put(name, text);
}

static void install(void)
{
	put(MPS_CONTROL, script);
	CHECK(chmod(file(MPS_CONTROL), 0755) == 0, "chmod");
}

/* How often the list of servers was asked for. */
static unsigned nr_asked(void)
{
	char line[128];
	unsigned nr = 0;
	FILE *f = fopen(file("asked"), "r");

	while (f && fgets(line, sizeof(line), f))
		nr += strncmp(line, "get_server_list", 15) == 0;
	if (f)
		fclose(f);
	return nr;
}

static int setup(void **state)
{
	char path[4096];

	strcpy(dir, "/tmp/kvd-mps-XXXXXX");
	CHECK(mkdtemp(dir), "mkdtemp");
	snprintf(path, sizeof(path), "%s:%s", dir, getenv("PATH"));
	setenv("PATH", path, 1);
	setenv("KVD_TEST_MPS", dir, 1);
	setenv("FAKECUDA_MPS", "1", 1);
	return 0;
}

static int teardown(void **state)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -rf %s", dir);
	return system(command) != 0;
}

/* As MPS is when nobody but kvd uses it. */
static int fresh(void **state)
{
	char command[160];

	snprintf(command, sizeof(command), "cd %s && rm -f *", dir);
	CHECK(system(command) == 0, "rm");
	install();
	put("servers", "77\n");
	put("clients.77", "");
	put("self", "");
	return 0;
}

/* ---- what happens to pages ---- */

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static uint64_t quarantined(const char *socket)
{
	struct daemon_stat st;

	daemon_stat(socket, &st);
	return st.quarantined;
}

static void wait_quarantined(const char *socket, uint64_t nr)
{
	int64_t end = now_ms() + DAEMON_DEADLINE_MS;

	while (quarantined(socket) != nr) {
		CHECK(now_ms() < end, "%llu pages in quarantine",
		      (unsigned long long)quarantined(socket));
		usleep(5000);
	}
}

/* Until MPS was asked @nr times more, from the beginning on. */
static void wait_asked(unsigned nr)
{
	int64_t end = now_ms() + DAEMON_DEADLINE_MS;

	for (nr += nr_asked(); nr_asked() < nr; usleep(5000))
		CHECK(now_ms() < end, "asked %u times", nr_asked());
}

static void work(const char *socket, int ready)
{
	uint64_t handles[NR_PAGES];
	int fd = raw_open(socket);
	int space = raw_open_space(fd, 1);

	CHECK(space > 0, "space");
	CHECK(raw_alloc(fd, (uint32_t)space, NR_PAGES, 5000, handles, NULL) ==
	      0, "alloc");
	CHECK(write(ready, "r", 1) == 1, "pipe");
	pause();
}

/* A worker with pages, in a PID namespace of its own with CLONE_NEWPID. */
static pid_t start_worker(const char *socket, unsigned long flags)
{
	int ready[2];
	char byte;
	pid_t pid;

	CHECK(pipe(ready) == 0, "pipe");
	pid = (pid_t)syscall(SYS_clone, flags | SIGCHLD, 0, 0, 0, 0);
	if (pid < 0 && errno == EPERM)
		skip();
	CHECK(pid >= 0, "clone");
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		work(socket, ready[1]);
	}
	close(ready[1]);
	CHECK(read(ready[0], &byte, 1) == 1, "worker");
	close(ready[0]);
	return pid;
}

static void end_worker(pid_t pid)
{
	int status;

	kill(pid, SIGKILL);
	CHECK(waitpid(pid, &status, 0) == pid, "waitpid");
}

static bool is_logged(const struct daemon *of, const char *text)
{
	static char log[65536];
	FILE *f = fopen(of->log, "r");
	size_t n = f ? fread(log, 1, sizeof(log) - 1, f) : 0;

	if (f)
		fclose(f);
	log[n] = '\0';
	return strstr(log, text);
}

static void wait_logged(const struct daemon *of, const char *text)
{
	int64_t end = now_ms() + DAEMON_DEADLINE_MS;

	for (; !is_logged(of, text); usleep(5000))
		CHECK(now_ms() < end, "kvd does not say: %s", text);
}

/* ---- tests ---- */

/* As long as it is listed, and no longer. */
static void test_listed(void **state)
{
	pid_t pid;

	daemon_start(&d, args);
	pid = start_worker(d.socket, 0);
	assert_int_equal(nr_asked(), 0);
	put_clients("clients.77", pid, 1);
	end_worker(pid);
	wait_asked(3);
	assert_int_equal(quarantined(d.socket), NR_PAGES);
	put_clients("clients.77", 1, 1);
	daemon_assert_idle(&d);
	assert_true(is_logged(&d, "MPS has let go of pid"));
	daemon_stop(&d);
}

/* The client of one server of several. */
static void test_servers(void **state)
{
	pid_t pid;

	put("servers", "77\n78\n79\n");
	put("clients.79", "");
	daemon_start(&d, args);
	pid = start_worker(d.socket, 0);
	put_clients("clients.78", pid, 1);
	end_worker(pid);
	wait_asked(2);
	assert_int_equal(quarantined(d.socket), NR_PAGES);
	put("clients.78", "");
	daemon_assert_idle(&d);
	daemon_stop(&d);
}

/* Who says goodbye is believed; who had nothing is not asked about. */
static void test_bye(void **state)
{
	uint64_t handles[NR_PAGES];
	int fd, space;

	daemon_start(&d, args);
	close(raw_open(d.socket));
	fd = raw_open(d.socket);
	space = raw_open_space(fd, 1);
	assert_int_equal(raw_alloc(fd, (uint32_t)space, NR_PAGES, 5000,
				   handles, NULL), 0);
	raw_bye(fd);
	close(fd);
	daemon_assert_idle(&d);
	assert_int_equal(nr_asked(), 0);
	daemon_stop(&d);
}

/* No answer, or one that says nothing: they stay, and kvd serves others. */
static void test_silent(void **state)
{
	static const struct {
		const char *how, *log;
	} ways[] = {
		{ "exit 3\n", "ended with status 3" },
		{ "kill -9 $$\n", "ended with signal 9" },
		{ "echo Cannot find MPS control daemon process\nexit 0\n",
		  "not a list of pids: Cannot" },
		{ "echo -5\nexit 0\n", "not a list of pids: -5" },
		{ "yes 1\n", "too long an answer" },
		{ "[ $command = get_server_list ] || exit 1\n",
		  "ended with status 1" },
		{ "rm -f self\n", "does not list kvd itself" },
		{ NULL, "No such file" },
	};
	size_t i;
	pid_t pid;

	for (i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		fresh(NULL);
		daemon_start(&d, args);
		pid = start_worker(d.socket, 0);
		if (ways[i].how)
			put("how", ways[i].how);
		else
			unlink(file(MPS_CONTROL));
		end_worker(pid);
		wait_logged(&d, ways[i].log);
		assert_int_equal(quarantined(d.socket), NR_PAGES);
		unlink(file("how"));
		put("self", "");
		install();
		daemon_assert_idle(&d);
		assert_true(is_logged(&d, "tells its clients again"));
		daemon_stop(&d);
	}
}

/* It hangs: nobody waits for it, not even the end. */
static void test_hangs(void **state)
{
	int64_t t;
	pid_t pid;

	daemon_start(&d, args);
	pid = start_worker(d.socket, 0);
	put("how", "exec sleep 1000\n");
	end_worker(pid);
	wait_asked(1);
	t = now_ms();
	assert_int_equal(quarantined(d.socket), NR_PAGES);
	pid = start_worker(d.socket, 0);
	assert_true(now_ms() - t < 2500);
	end_worker(pid);
	wait_logged(&d, "no answer in time");
	assert_int_equal(quarantined(d.socket), 2 * NR_PAGES);
	wait_asked(1);
	t = now_ms();
	daemon_stop(&d);
	assert_true(now_ms() - t < 2500);
}

/*
 * An answer counts for those that had ended before the question. The first one
 * is held back until a second worker has died, whom only the next one lists.
 */
static void test_asked_before(void **state)
{
	pid_t a, b;

	put("how", "while [ -e hold ]; do sleep .01; done\n");
	put("hold", "");
	daemon_start(&d, args);
	a = start_worker(d.socket, 0);
	b = start_worker(d.socket, 0);
	end_worker(a);
	wait_asked(1);
	put_clients("clients.77", b, 1);
	put("clients.77.1", "");
	end_worker(b);
	wait_quarantined(d.socket, 2 * NR_PAGES);
	unlink(file("hold"));
	wait_quarantined(d.socket, NR_PAGES);
	wait_asked(2);
	assert_int_equal(quarantined(d.socket), NR_PAGES);
	put("clients.77", "");
	daemon_assert_idle(&d);
	daemon_stop(&d);
}

/* It is listed by its number in its own PID namespace, which is 1. */
static void test_namespace(void **state)
{
	pid_t pid;

	daemon_start(&d, args);
	if (geteuid() != 0) {
		daemon_stop(&d);
		skip();
	}
	pid = start_worker(d.socket, CLONE_NEWPID);
	put_clients("clients.77", 1, 1);
	end_worker(pid);
	wait_asked(3);
	assert_int_equal(quarantined(d.socket), NR_PAGES);
	put("clients.77", "");
	daemon_assert_idle(&d);
	daemon_stop(&d);
}

/* It dies while kvd is away: the next one waits for MPS too. */
static void test_restart(void **state)
{
	struct manager m;
	pid_t pid;

	manager_start(&m, args);
	pid = start_worker(m.daemon.socket, 0);
	manager_kill(&m);
	put_clients("clients.77", pid, 1);
	end_worker(pid);
	manager_again(&m, args);
	wait_quarantined(m.daemon.socket, NR_PAGES);
	wait_asked(2);
	assert_int_equal(quarantined(m.daemon.socket), NR_PAGES);
	put("clients.77", "");
	daemon_assert_idle(&m.daemon);
	manager_stop(&m);
}

/* The only one that is listed. Return: what it waits for. */
static Kvd__QuarantineStat__Wait waits_for(int fd, pid_t pid, uint64_t pages)
{
	Kvd__QuarantineRequest req = KVD__QUARANTINE_REQUEST__INIT;
	Kvd__QuarantineStat__Wait wait;
	Kvd__QuarantineReply *r;

	assert_int_equal(raw_call(fd, WIRE_QUARANTINE, &req.base,
				  &kvd__quarantine_reply__descriptor, &r,
				  NULL), 0);
	assert_int_equal(r->n_writers, 1);
	assert_int_equal(r->writers[0]->pid, pid);
	assert_int_equal(r->writers[0]->pages, pages);
	wait = r->writers[0]->wait;
	kvd__quarantine_reply__free_unpacked(r, NULL);
	return wait;
}

static void check_wait(int fd, pid_t pid, uint64_t pages,
		       Kvd__QuarantineStat__Wait wait)
{
	assert_int_equal(waits_for(fd, pid, pages), wait);
}

static int release(int fd, pid_t pid)
{
	Kvd__QuarantineReleaseRequest req =
		KVD__QUARANTINE_RELEASE_REQUEST__INIT;

	req.pid = (uint32_t)pid;
	return raw_call(fd, WIRE_QUARANTINE_RELEASE, &req.base, NULL, NULL,
			NULL);
}

/* Who has ended is released without force, whatever MPS says or does not. */
static void test_release(void **state)
{
	int fd, silent;
	pid_t pid;

	for (silent = 0; silent < 2; silent++) {
		fresh(NULL);
		daemon_start(&d, args);
		fd = raw_open(d.socket);
		pid = start_worker(d.socket, 0);
		put_clients("clients.77", pid, 1);
		if (silent)
			put("how", "exit 1\n");
		assert_int_equal(release(fd, pid), -ENOENT);
		end_worker(pid);
		wait_asked(3);
		check_wait(fd, pid, NR_PAGES, silent ?
			   KVD__QUARANTINE_STAT__WAIT__MPS_SILENT :
			   KVD__QUARANTINE_STAT__WAIT__MPS);
		assert_int_equal(release(fd, pid), 0);
		assert_int_equal(release(fd, pid), -ENOENT);
		raw_bye(fd);
		close(fd);
		daemon_assert_idle(&d);
		daemon_stop(&d);
	}
}

/* ---- a worker under MPS, of a kvd that is not ---- */

/* By the library, which says so. */
static void work_lib(int ready)
{
	struct kvd_page pages[NR_PAGES];
	struct kvd_space_opts o;
	struct toy t;

	setenv("FAKECUDA_MPS", "1", 1);
	toy_on_cuda("cuda-vmm:0");
	toy_opts(&o, 1);
	toy_open(&t, d.socket, &o);
	CHECK(!kvd_page_alloc(t.sp, 0, NR_PAGES, pages), "%s", kvd_error(t.k));
	CHECK(write(ready, "r", 1) == 1, "pipe");
	pause();
}

/* @ret_nr: pages that it has, stock included. */
static pid_t start_lib_worker(uint64_t *ret_nr)
{
	struct daemon_stat st;
	int ready[2];
	char byte;
	pid_t pid;

	CHECK(pipe(ready) == 0, "pipe");
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		work_lib(ready[1]);
	}
	close(ready[1]);
	CHECK(read(ready[0], &byte, 1) == 1, "worker");
	close(ready[0]);
	daemon_stat(d.socket, &st);
	assert_true(st.open >= NR_PAGES);
	*ret_nr = st.open;
	return pid;
}

/*
 * It lives until MPS was asked once, and was listed if @listed. Return: what
 * is in quarantine once it has ended.
 */
static uint64_t says_mps(bool listed, pid_t *ret)
{
	uint64_t nr;

	put("how", "while [ -e hold ]; do sleep .01; done\n");
	put("hold", "");
	*ret = start_lib_worker(&nr);
	wait_asked(nr_asked() ? 0 : 1);
	if (listed)
		put_clients("clients.77", *ret, 1);
	end_worker(*ret);
	unlink(file("hold"));
	wait_quarantined(d.socket, nr);
	return nr;
}

static void start_apart(void)
{
	setenv("FAKECUDA_MPS", "0", 1);
	daemon_start(&d, args);
	setenv("FAKECUDA_MPS", "1", 1);
	unlink(file("self"));
}

/* It was listed while it lived: when it is not any more, it has ended. */
static void test_says_so(void **state)
{
	uint64_t nr;
	pid_t pid;

	start_apart();
	nr = says_mps(true, &pid);
	wait_asked(3);
	assert_int_equal(quarantined(d.socket), nr);
	put("clients.77", "");
	daemon_assert_idle(&d);
	daemon_stop(&d);
}

/* It never was, so that it is not now says nothing; nobody asks for ever. */
static void test_says_so_in_vain(void **state)
{
	uint64_t nr;
	unsigned asked;
	pid_t pid;
	int fd;

	start_apart();
	nr = says_mps(false, &pid);
	fd = raw_open(d.socket);
	usleep(300000);
	asked = nr_asked();
	usleep(700000);
	assert_int_equal(nr_asked(), asked);
	check_wait(fd, pid, nr, KVD__QUARANTINE_STAT__WAIT__MPS_SILENT);
	assert_int_equal(release(fd, pid), 0);
	raw_bye(fd);
	close(fd);
	daemon_assert_idle(&d);
	daemon_stop(&d);
}

/* It dies while kvd is away, which only knows that some were under MPS. */
static void test_says_so_and_dies(void **state)
{
	struct manager m;
	uint64_t nr;
	pid_t pid;
	int fd;

	setenv("FAKECUDA_MPS", "0", 1);
	manager_start(&m, args);
	d = m.daemon;
	pid = start_lib_worker(&nr);
	for (int i = 0; i < 2; i++) { /* its successor knows, too */
		manager_kill(&m);
		if (i == 0)
			end_worker(pid);
		manager_again(&m, args);
		d = m.daemon;
		wait_quarantined(d.socket, nr);
		fd = raw_open(d.socket);
		while (waits_for(fd, pid, nr) ==
		       KVD__QUARANTINE_STAT__WAIT__SETTLING)
			usleep(20000);
		check_wait(fd, pid, nr,
			   KVD__QUARANTINE_STAT__WAIT__MPS_SILENT);
		if (i == 0)
			close(fd);
	}
	setenv("FAKECUDA_MPS", "1", 1);
	assert_int_equal(release(fd, pid), 0);
	raw_bye(fd);
	close(fd);
	daemon_assert_idle(&m.daemon);
	manager_stop(&m);
}

/* The MPS to be asked need not be that which kvd itself is under. */
static void test_directory(void **state)
{
	pid_t pid;

	setenv("CUDA_MPS_PIPE_DIRECTORY", "/nowhere", 1);
	/* As it was given: a shell shows one of each. */
	put("how", "tr '\\0' '\\n' </proc/$$/environ |"
		   "sed -n s/^CUDA_MPS_PIPE_DIRECTORY=//p >>dirs\n");
	for (int i = 0; i < 2; i++) {
		daemon_start(&d, args);
		pid = start_worker(d.socket, 0);
		end_worker(pid);
		daemon_assert_idle(&d);
		daemon_stop(&d);
		assert_int_equal(system("cd $KVD_TEST_MPS && [ \"$(sort -u "
					"dirs)\" = \"${KVD_MPS_PIPE_DIRECTORY-"
					"/nowhere}\" ]"), 0);
		unlink(file("dirs"));
		setenv("KVD_MPS_PIPE_DIRECTORY", "/run/mps of workers", 1);
	}
	unsetenv("CUDA_MPS_PIPE_DIRECTORY");
	unsetenv("KVD_MPS_PIPE_DIRECTORY");
}

/* Not under MPS nobody is asked. */
static void test_without(void **state)
{
	pid_t pid;

	setenv("FAKECUDA_MPS", "0", 1);
	daemon_start(&d, args);
	setenv("FAKECUDA_MPS", "1", 1);
	pid = start_worker(d.socket, 0);
	put_clients("clients.77", pid, 1);
	end_worker(pid);
	daemon_assert_idle(&d);
	assert_int_equal(nr_asked(), 0);
	daemon_stop(&d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_listed, fresh),
		cmocka_unit_test_setup(test_servers, fresh),
		cmocka_unit_test_setup(test_bye, fresh),
		cmocka_unit_test_setup(test_silent, fresh),
		cmocka_unit_test_setup(test_hangs, fresh),
		cmocka_unit_test_setup(test_asked_before, fresh),
		cmocka_unit_test_setup(test_namespace, fresh),
		cmocka_unit_test_setup(test_restart, fresh),
		cmocka_unit_test_setup(test_release, fresh),
		cmocka_unit_test_setup(test_says_so, fresh),
		cmocka_unit_test_setup(test_says_so_in_vain, fresh),
		cmocka_unit_test_setup(test_says_so_and_dies, fresh),
		cmocka_unit_test_setup(test_directory, fresh),
		cmocka_unit_test_setup(test_without, fresh),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
