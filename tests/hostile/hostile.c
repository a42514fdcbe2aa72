// SPDX-License-Identifier: Apache-2.0
/*
 * hostile.c - two users on one kvd, of whom one is hostile: prints a table.
 *
 * kvd runs as a user of its own, without capabilities, as its unit has it.
 * Every row is an attempt in a process of the hostile user; after it the
 * victim has to be content. After some rows kvd's structure has to add up, and
 * its connections, descriptors and pages to be as before. Exit 0: none has
 * worked.
 *
 *	hostile_users [NAME...]	only rows whose names begin so
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "tests/hostile/hostile.h"
#include "tests/support/daemon.h"

struct world *w;

static struct daemon d;

static const struct row *const all[] = {
	rows_handles, rows_spaces, rows_memory, rows_fds, rows_frames,
	rows_limits, rows_death, rows_restart,
};

#define STR_(x) #x
#define STR(x) STR_(x)

/* ---- kvd ---- */

static void become(uid_t uid)
{
	CHECK(!setgroups(0, NULL) && !setresgid(uid, uid, uid) &&
	      !setresuid(uid, uid, uid), "setuid: %s", strerror(errno));
	prctl(PR_SET_PDEATHSIG, SIGKILL);
}

static void run_kvd(const char **argv)
{
	const struct rlimit files = { KVD_FILES, KVD_FILES };

	CHECK(setrlimit(RLIMIT_NOFILE, &files) == 0, "rlimit");
	CHECK(freopen(d.log, "a", stderr), "%s", d.log);
	become(KVD_UID);
	execv(daemon_path(), (char **)(uintptr_t)argv);
	_exit(127);
}

/* To where all users can run it. */
static void copy_kvd(void)
{
	int from = open(daemon_path(), O_RDONLY | O_CLOEXEC), to;
	char path[128];
	ssize_t n;

	snprintf(path, sizeof(path), "%s/kvd", d.dir);
	to = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0755);
	CHECK(from >= 0 && to >= 0, "%s: %s", path, strerror(errno));
	while ((n = sendfile(to, from, NULL, 1 << 20)) > 0)
		continue;
	CHECK(n == 0, "%s: %s", path, strerror(errno));
	close(from);
	close(to);
	CHECK(setenv("KVD_TEST_BIN", d.dir, 1) == 0, "setenv");
}

static void start_kvd(void)
{
	static const char *const args[] = {
		"--pool", "32M", "--segment", "2M",
		"--set", "socket-mode=0666",
		"--set", "hello-timeout=" STR(HELLO_MS) "ms",
		"--set", "max-clients-per-user=" STR(MAX_CLIENTS),
		"--set", "max-waiting=" STR(MAX_WAITING),
		"--set", "max-waiting-per-user=" STR(USER_WAITING),
		"--set", "max-subscriptions-per-user=" STR(USER_SUBSCRIPTIONS),
		"--set", "max-announced-per-user=" STR(USER_ANNOUNCED),
		"--set", "max-fds-per-user=" STR(USER_FDS),
		"--set", "max-spaces-per-tenant=" STR(TENANT_SPACES), NULL
	};
	const char *argv[DAEMON_MAX_ARGS];

	daemon_prepare(&d);
	CHECK(chmod(d.dir, 0711) == 0 && chown(d.dir, KVD_UID, KVD_UID) == 0,
	      "%s: %s", d.dir, strerror(errno));
	copy_kvd();
	daemon_args(&d, args, argv);
	d.pid = fork();
	CHECK(d.pid >= 0, "fork");
	if (d.pid == 0)
		run_kvd(argv);
	daemon_wait_ready(&d);
	snprintf(w->socket, sizeof(w->socket), "%s", d.socket);
	snprintf(w->state_dir, sizeof(w->state_dir), "%s", d.state_dir);
	w->kvd = d.pid;
}

static void set_limits(const char *name, uint32_t keys, uint64_t min,
		       uint64_t max)
{
	Kvd__TenantSetRequest req = KVD__TENANT_SET_REQUEST__INIT;
	int fd = raw_open(d.socket), r;

	req.name = (char *)(uintptr_t)name;
	req.keys = keys;
	req.min = min;
	req.max = max;
	req.runtime = 1;
	r = raw_call(fd, WIRE_TENANT_SET, &req.base, NULL, NULL, NULL);
	CHECK(r == 0, "tenant set: %s", strerror(-r));
	raw_bye(fd);
	close(fd);
}

/* ---- what is left ---- */

/* But for those of spaces and segments, which outlive who has opened them. */
static unsigned nr_fds_of_kvd(void)
{
	char path[64], to[64];
	struct dirent *e;
	unsigned nr = 0;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)d.pid);
	dir = opendir(path);
	CHECK(dir, "%s", path);
	while ((e = readdir(dir))) {
		ssize_t n = readlinkat(dirfd(dir), e->d_name, to, sizeof(to));

		nr += n > 0 && strncmp(to, "/memfd:kvd-", 11) != 0;
	}
	closedir(dir);
	return nr;
}

struct left {
	struct daemon_stat st;
	unsigned nr_fds;
};

/* Of pages, what somebody has; with what the victim has at rest. */
static void look(struct left *l)
{
	l->nr_fds = nr_fds_of_kvd();
	daemon_stat(d.socket, &l->st);
}

static bool is_as_before(const struct left *now, const struct left *then)
{
	return now->st.nr_clients == then->st.nr_clients &&
	       now->st.open == then->st.open &&
	       now->st.sealed == then->st.sealed &&
	       now->st.quarantined == 0 && now->nr_fds <= then->nr_fds;
}

/* The rows' processes are gone: is all that they had? */
static bool settles(const struct left *then)
{
	int64_t end = now_ms() + SLOW_MS;
	struct left now;

	for (;;) {
		look(&now);
		if (is_as_before(&now, then))
			return true;
		if (now_ms() > end)
			break;
		usleep(5000);
	}
	snprintf(w->saw, sizeof(w->saw), "left: %u clients, %u descriptors, "
		 "%llu open, %llu sealed, %llu quarantined",
		 now.st.nr_clients - then->st.nr_clients,
		 now.nr_fds - then->nr_fds,
		 (unsigned long long)(now.st.open - then->st.open),
		 (unsigned long long)(now.st.sealed - then->st.sealed),
		 (unsigned long long)now.st.quarantined);
	return false;
}

/* ---- rows ---- */

static void raise_nofile(void)
{
	struct rlimit lim;

	CHECK(getrlimit(RLIMIT_NOFILE, &lim) == 0, "rlimit");
	lim.rlim_cur = lim.rlim_max;
	CHECK(setrlimit(RLIMIT_NOFILE, &lim) == 0, "rlimit");
}

static int run_as(uid_t uid, void (*run)(void))
{
	pid_t pid;
	int status;

	fflush(stdout);
	pid = fork();
	CHECK(pid >= 0, "fork");
	if (pid == 0) {
		raise_nofile();
		become(uid);
		run();
		_exit(0);
	}
	CHECK(waitpid(pid, &status, 0) == pid, "waitpid");
	if (WIFSIGNALED(status))
		saw("it ended with signal %d", WTERMSIG(status));
	return status;
}

/* Return: it came to nothing. */
static bool try(const struct row *row)
{
	w->saw[0] = '\0';
	if (row->before && run_as(THIRD, row->before) != 0)
		return false;
	return run_as(HOSTILE, row->run) == 0;
}

static bool kvd_is_there(void)
{
	int status;

	if (waitpid(d.pid, &status, WNOHANG) == 0)
		return true;
	snprintf(w->saw, sizeof(w->saw), "kvd has ended: status %#x", status);
	return false;
}

/* Return: nothing of it has worked. */
static bool do_row(const struct row *row)
{
	bool good = try(row);

	if (!kvd_is_there()) {
		printf("| %s | %s | **WORKED: %s** |\n", row->name,
		       row->tried, w->saw);
		exit(1);
	}
	if (!victim_do(VICTIM_CHECK)) {
		snprintf(w->saw, sizeof(w->saw), "the victim: %s",
			 w->victim.said);
		good = false;
	}
	printf("| %s | %s | %s%s%s |\n", row->name, row->tried,
	       good ? "" : "**WORKED: ", w->saw, good ? "" : "**");
	return good;
}

static bool is_wanted(const struct row *row, char **names)
{
	if (!*names)
		return true;
	for (; *names; names++)
		if (strncmp(row->name, *names, strlen(*names)) == 0)
			return true;
	return false;
}

static unsigned do_rows(char **names, unsigned *nr)
{
	unsigned bad = 0;
	struct left then;

	look(&then);
	printf("| what | tried | happened |\n|---|---|---|\n");
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		for (const struct row *row = all[i]; row->name; row++) {
			if (!is_wanted(row, names))
				continue;
			bad += !do_row(row);
			++*nr;
		}
		if (settles(&then))
			continue;
		printf("| after these | | **%s** |\n", w->saw);
		bad++;
	}
	return bad;
}

/* Root, and not of a namespace that has no other users. */
static bool can_be_others(void)
{
	int status;
	pid_t pid = fork();

	if (pid == 0)
		_exit(setgroups(0, NULL) || setresuid(VICTIM, VICTIM, VICTIM));
	return waitpid(pid, &status, 0) == pid && status == 0;
}

int main(int argc, char **argv)
{
	unsigned bad, nr = 0;

	if (!can_be_others()) {
		printf("skipped: to be two users takes root\n");
		return 77;
	}
	w = mmap(NULL, sizeof(*w), PROT_READ | PROT_WRITE,
		 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(w != MAP_FAILED, "mmap");
	start_kvd();
	set_limits("uid-" STR(VICTIM), 1, VICTIM_MIN, 0);
	set_limits("uid-" STR(HOSTILE), 4, 0, HOSTILE_MAX);
	victim_start();
	CHECK(victim_do(VICTIM_CHECK), "%s", w->victim.said);
	bad = do_rows(argv + 1, &nr);
	victim_do(VICTIM_END);
	daemon_assert_idle(&d);
	daemon_stop(&d);
	printf("\n%u of %u worked\n", bad, nr);
	return bad != 0;
}
