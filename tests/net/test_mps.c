// SPDX-License-Identifier: Apache-2.0
/*
 * test_mps.c - under MPS pages of a dead writer wait until MPS does not list
 * it. On the double of libcuda, with a script for nvidia-cuda-mps-control.
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
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>
#include "tests/client/toy.h"
#include "tests/net/fake_mps.h"
#include "tests/support/check.h"
#include "tests/support/daemon.h"
#include "tests/support/manager.h"
#include "tests/support/raw.h"

#define NR_PAGES 16

static const char *const args[] = { "--device", "cuda-vmm:0", "--grace",
				    "100ms", NULL };

static struct daemon d;

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

/* ---- what an admin sees and does ---- */

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

/* ---- tests ---- */

/* As long as it is listed, and no longer. */
static void test_listed(void **state)
{
	pid_t pid;

	daemon_start(&d, args);
	pid = start_worker(d.socket, 0);
	assert_int_equal(mps_nr_asked(), 0);
	mps_put_clients("clients.77", pid, 1);
	end_worker(pid);
	mps_wait_asked(3);
	assert_int_equal(quarantined(d.socket), NR_PAGES);
	mps_put_clients("clients.77", 1, 1);
	daemon_assert_idle(&d);
	assert_true(is_logged(&d, "MPS has let go of pid"));
	daemon_stop(&d);
}

/* The client of one server of several. */
static void test_servers(void **state)
{
	pid_t pid;

	mps_put("servers", "77\n78\n79\n");
	mps_put("clients.79", "");
	daemon_start(&d, args);
	pid = start_worker(d.socket, 0);
	mps_put_clients("clients.78", pid, 1);
	end_worker(pid);
	mps_wait_asked(2);
	assert_int_equal(quarantined(d.socket), NR_PAGES);
	mps_put("clients.78", "");
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
	assert_int_equal(mps_nr_asked(), 0);
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
		mps_fresh(NULL);
		daemon_start(&d, args);
		pid = start_worker(d.socket, 0);
		if (ways[i].how)
			mps_put("how", ways[i].how);
		else
			unlink(mps_file(MPS_CONTROL));
		end_worker(pid);
		wait_logged(&d, ways[i].log);
		assert_int_equal(quarantined(d.socket), NR_PAGES);
		unlink(mps_file("how"));
		mps_put("self", "");
		mps_install();
		daemon_assert_idle(&d);
		assert_true(is_logged(&d, "tells its clients again"));
		daemon_stop(&d);
	}
}

/* It hangs: nobody waits the 5 s that it has, not even the end. */
static void test_hangs(void **state)
{
	int64_t t;
	pid_t pid;

	daemon_start(&d, args);
	pid = start_worker(d.socket, 0);
	mps_put("how", "exec sleep 1000\n");
	end_worker(pid);
	mps_wait_asked(1);
	t = now_ms();
	assert_int_equal(quarantined(d.socket), NR_PAGES);
	pid = start_worker(d.socket, 0);
	assert_true(now_ms() - t < 4000);
	end_worker(pid);
	wait_logged(&d, "no answer in time");
	assert_int_equal(quarantined(d.socket), 2 * NR_PAGES);
	mps_wait_asked(1);
	t = now_ms();
	daemon_stop(&d);
	assert_true(now_ms() - t < 4000);
}

/*
 * An answer counts for those that had ended before the question. The first one
 * is held back until a second worker has died, whom only the next one lists.
 */
static void test_asked_before(void **state)
{
	pid_t a, b;

	mps_put("how", "while [ -e hold ]; do sleep .01; done\n");
	mps_put("hold", "");
	daemon_start(&d, args);
	a = start_worker(d.socket, 0);
	b = start_worker(d.socket, 0);
	end_worker(a);
	mps_wait_asked(1);
	mps_put_clients("clients.77", b, 1);
	mps_put("clients.77.1", "");
	end_worker(b);
	wait_quarantined(d.socket, 2 * NR_PAGES);
	unlink(mps_file("hold"));
	wait_quarantined(d.socket, NR_PAGES);
	mps_wait_asked(2);
	assert_int_equal(quarantined(d.socket), NR_PAGES);
	mps_put("clients.77", "");
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
	mps_put_clients("clients.77", 1, 1);
	end_worker(pid);
	mps_wait_asked(3);
	assert_int_equal(quarantined(d.socket), NR_PAGES);
	mps_put("clients.77", "");
	daemon_assert_idle(&d);
	daemon_stop(&d);
}

/* kvd in a PID namespace of its own: all pids read 0. */
static void start_apart_pids(void)
{
	const char *argv[DAEMON_MAX_ARGS];

	if (geteuid() != 0)
		skip();
	daemon_prepare(&d);
	daemon_args(&d, args, argv);
	d.pid = (pid_t)syscall(SYS_clone, CLONE_NEWPID | CLONE_NEWNS | SIGCHLD,
			       0, 0, 0, 0);
	if (d.pid < 0 && errno == EPERM) {
		daemon_remove(&d);
		skip();
	}
	CHECK(d.pid >= 0, "clone: %s", strerror(errno));
	if (d.pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		CHECK(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
		      mount("proc", "/proc", "proc", 0, NULL) == 0, "mount");
		CHECK(freopen(d.log, "a", stderr), "%s", d.log);
		daemon_exec(argv);
	}
	daemon_wait_ready(&d);
}

/* Whose pid is not to be seen is never not listed: nobody is asked. */
static void test_hidden(void **state)
{
	pid_t pid;
	int fd;

	start_apart_pids();
	pid = start_worker(d.socket, 0);
	end_worker(pid);
	wait_quarantined(d.socket, NR_PAGES);
	fd = raw_open(d.socket);
	usleep(500000);
	assert_int_equal(mps_nr_asked(), 0);
	check_wait(fd, 0, NR_PAGES, KVD__QUARANTINE_STAT__WAIT__MPS_SILENT);
	assert_int_equal(release(fd, 0), 0);
	raw_bye(fd);
	close(fd);
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
	mps_put_clients("clients.77", pid, 1);
	end_worker(pid);
	manager_again(&m, args);
	wait_quarantined(m.daemon.socket, NR_PAGES);
	mps_wait_asked(2);
	assert_int_equal(quarantined(m.daemon.socket), NR_PAGES);
	mps_put("clients.77", "");
	daemon_assert_idle(&m.daemon);
	manager_stop(&m);
}

/* Who has ended is released without force, whatever MPS says or does not. */
static void test_release(void **state)
{
	int fd, silent;
	pid_t pid;

	for (silent = 0; silent < 2; silent++) {
		mps_fresh(NULL);
		daemon_start(&d, args);
		fd = raw_open(d.socket);
		pid = start_worker(d.socket, 0);
		mps_put_clients("clients.77", pid, 1);
		if (silent)
			mps_put("how", "exit 1\n");
		assert_int_equal(release(fd, pid), -ENOENT);
		end_worker(pid);
		mps_wait_asked(3);
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

	mps_put("how", "while [ -e hold ]; do sleep .01; done\n");
	mps_put("hold", "");
	*ret = start_lib_worker(&nr);
	mps_wait_asked(mps_nr_asked() ? 0 : 1);
	if (listed)
		mps_put_clients("clients.77", *ret, 1);
	end_worker(*ret);
	unlink(mps_file("hold"));
	wait_quarantined(d.socket, nr);
	return nr;
}

static void start_apart(void)
{
	setenv("FAKECUDA_MPS", "0", 1);
	daemon_start(&d, args);
	setenv("FAKECUDA_MPS", "1", 1);
	unlink(mps_file("self"));
}

/* It was listed while it lived: when it is not any more, it has ended. */
static void test_says_so(void **state)
{
	uint64_t nr;
	pid_t pid;

	start_apart();
	nr = says_mps(true, &pid);
	mps_wait_asked(3);
	assert_int_equal(quarantined(d.socket), nr);
	mps_put("clients.77", "");
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
	asked = mps_nr_asked();
	usleep(700000);
	assert_int_equal(mps_nr_asked(), asked);
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
	mps_put("how", "tr '\\0' '\\n' </proc/$$/environ |"
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
		unlink(mps_file("dirs"));
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
	mps_put_clients("clients.77", pid, 1);
	end_worker(pid);
	daemon_assert_idle(&d);
	assert_int_equal(mps_nr_asked(), 0);
	daemon_stop(&d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_listed, mps_fresh),
		cmocka_unit_test_setup(test_servers, mps_fresh),
		cmocka_unit_test_setup(test_bye, mps_fresh),
		cmocka_unit_test_setup(test_silent, mps_fresh),
		cmocka_unit_test_setup(test_hangs, mps_fresh),
		cmocka_unit_test_setup(test_asked_before, mps_fresh),
		cmocka_unit_test_setup(test_namespace, mps_fresh),
		cmocka_unit_test_setup(test_restart, mps_fresh),
		cmocka_unit_test_setup(test_hidden, mps_fresh),
		cmocka_unit_test_setup(test_release, mps_fresh),
		cmocka_unit_test_setup(test_says_so, mps_fresh),
		cmocka_unit_test_setup(test_says_so_in_vain, mps_fresh),
		cmocka_unit_test_setup(test_says_so_and_dies, mps_fresh),
		cmocka_unit_test_setup(test_directory, mps_fresh),
		cmocka_unit_test_setup(test_without, mps_fresh),
	};

	return cmocka_run_group_tests(tests, mps_setup, mps_teardown);
}
