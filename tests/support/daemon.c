// SPDX-License-Identifier: Apache-2.0
/*
 * daemon.c - a private kvd for one test: own socket, own state, a deadline.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "tests/support/check.h"
#include "tests/support/daemon.h"
#include "tests/support/raw.h"

#define MAX_WRAPPER 16		/* words */

static void sleep_ms(long ms)
{
	struct timespec t = { .tv_sec = ms / 1000,
			      .tv_nsec = ms % 1000 * 1000000 };

	nanosleep(&t, NULL);
}

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* What it has said, for whoever reads why the test failed. */
static void show_log(const struct daemon *d)
{
	char buf[4096];
	ssize_t n;
	int fd = open(d->log, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return;
	while ((n = read(fd, buf, sizeof(buf))) > 0)
		fwrite(buf, 1, (size_t)n, stderr);
	close(fd);
}

const char *daemon_program(const char *name, const char *built)
{
	static char path[4096];
	const char *dir = getenv("KVD_TEST_BIN");

	if (!dir)
		return built;
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return path;
}

const char *daemon_path(void)
{
	return daemon_program("kvd", KVD_DAEMON);
}

void daemon_prepare(struct daemon *d)
{
	memset(d, 0, sizeof(*d));
	strcpy(d->dir, "/tmp/kvd-test-XXXXXX");
	CHECK(mkdtemp(d->dir), "%s", strerror(errno));
	snprintf(d->socket, sizeof(d->socket), "%s/kvd.sock", d->dir);
	snprintf(d->state_dir, sizeof(d->state_dir), "%s/state", d->dir);
	snprintf(d->log, sizeof(d->log), "%s/log", d->dir);
}

void daemon_args(const struct daemon *d, const char *const *args,
		 const char **argv)
{
	const char *const base[] = { "kvd", "--config", "/dev/null",
				     "--device", "host", "--pool", "64M",
				     "--segment", "8M",
				     "--socket", d->socket,
				     "--state-dir", d->state_dir };
	size_t n = sizeof(base) / sizeof(base[0]);

	memcpy(argv, base, sizeof(base));
	while (args && *args) {
		CHECK(n < DAEMON_MAX_ARGS - 1, "too many arguments");
		argv[n++] = *args++;
	}
	argv[n] = NULL;
}

void daemon_exec(const char *const *argv)
{
	const char *all[MAX_WRAPPER + DAEMON_MAX_ARGS];
	char *wrapper = getenv("KVD_TEST_WRAPPER"), *word;
	size_t n = 0;

	for (word = wrapper ? strtok(wrapper, " ") : NULL; word;
	     word = strtok(NULL, " ")) {
		CHECK(n < MAX_WRAPPER - 1, "too many words before kvd");
		all[n++] = word;
	}
	all[n++] = daemon_path();
	do
		all[n++] = *++argv;
	while (*argv);
	execvp(all[0], (char **)(uintptr_t)all);
	CHECK(0, "%s: %s", all[0], strerror(errno));
}

static void exec_daemon(const struct daemon *d, const char **argv)
{
	int fd = open(d->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);

	CHECK(fd >= 0 && dup2(fd, STDERR_FILENO) >= 0, "%s", strerror(errno));
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	daemon_exec(argv);
}

static int try_hello(const char *socket)
{
	Kvd__HelloRequest hello = KVD__HELLO_REQUEST__INIT;
	int fd = raw_connect(socket), r;

	if (fd < 0)
		return fd;
	hello.version = WIRE_VERSION;
	r = raw_call(fd, WIRE_HELLO, &hello.base, NULL, NULL, NULL);
	if (r == 0)
		r = raw_bye(fd);
	close(fd);
	return r;
}

void daemon_wait_ready(struct daemon *d)
{
	int64_t deadline = now_ms() + DAEMON_DEADLINE_MS;
	int status, r;

	while ((r = try_hello(d->socket)) < 0) {
		if (waitpid(d->pid, &status, WNOHANG) == d->pid) {
			show_log(d);
			CHECK(0, "kvd ended at start: status %#x", status);
		}
		if (now_ms() > deadline) {
			show_log(d);
			CHECK(0, "kvd is not ready: %s", strerror(-r));
		}
		sleep_ms(5);
	}
}

void daemon_start_in(struct daemon *d, const char *const *args)
{
	const char *argv[DAEMON_MAX_ARGS];

	daemon_args(d, args, argv);
	d->pid = fork();
	CHECK(d->pid >= 0, "fork: %s", strerror(errno));
	if (d->pid == 0)
		exec_daemon(d, argv);
	daemon_wait_ready(d);
}

void daemon_start(struct daemon *d, const char *const *args)
{
	daemon_prepare(d);
	daemon_start_in(d, args);
}

int daemon_wait_exit(struct daemon *d)
{
	int64_t deadline = now_ms() + DAEMON_DEADLINE_MS;
	int status;

	while (waitpid(d->pid, &status, WNOHANG) != d->pid) {
		if (now_ms() > deadline) {
			show_log(d);
			CHECK(0, "kvd does not end");
		}
		sleep_ms(5);
	}
	d->pid = 0;
	return status;
}

void daemon_stop(struct daemon *d)
{
	int status;

	kill(d->pid, SIGTERM);
	status = daemon_wait_exit(d);
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
		show_log(d);
		CHECK(0, "kvd ended badly: status %#x", status);
	}
	CHECK(access(d->socket, F_OK) < 0, "%s was left behind", d->socket);
	daemon_remove(d);
}

void daemon_kill(struct daemon *d)
{
	CHECK(d->pid > 0, "it is dead already"); /* 0 is all of us */
	kill(d->pid, SIGKILL);
	daemon_wait_exit(d);
}

/* Two levels are all there are. */
static void remove_dir(const char *path)
{
	char name[512];
	struct dirent *e;
	DIR *dir = opendir(path);

	while (dir && (e = readdir(dir))) {
		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
			continue;
		snprintf(name, sizeof(name), "%s/%s", path, e->d_name);
		if (unlink(name) < 0)
			remove_dir(name);
	}
	if (dir)
		closedir(dir);
	rmdir(path);
}

void daemon_remove(struct daemon *d)
{
	remove_dir(d->dir);
}

static void copy_stat(const Kvd__PoolStat *p, struct daemon_stat *ret)
{
	ret->total = p->pages->total;
	ret->free = p->pages->free;
	ret->open = p->pages->open;
	ret->sealed = p->pages->sealed;
	ret->cached = p->pages->cached;
	ret->demoted = p->pages->demoted;
	ret->quarantined = p->pages->quarantined;
	ret->revoked = p->pages->revoked;
	ret->hits = p->hits;
	ret->misses = p->misses;
	ret->published = p->published;
	ret->evicted = p->evicted;
	ret->made_smaller = p->demoted;
	ret->room = p->room;
	ret->mark_high = p->mark_high;
	ret->background = p->reclaimed_background;
	ret->direct = p->reclaimed_direct;
}

void daemon_stat(const char *socket, struct daemon_stat *ret)
{
	Kvd__StatRequest req = KVD__STAT_REQUEST__INIT;
	Kvd__StatusRequest status_req = KVD__STATUS_REQUEST__INIT;
	Kvd__StatusReply *status;
	Kvd__StatReply *stat;
	int fd = raw_open(socket), r;

	req.verify = 1;
	r = raw_call(fd, WIRE_STAT, &req.base, &kvd__stat_reply__descriptor,
		     &stat, NULL);
	CHECK(r == 0, "stat: %s", strerror(-r));
	CHECK(stat->verify_error[0] == '\0', "%s", stat->verify_error);
	CHECK(stat->n_pools == 1, "%zu pools", stat->n_pools);
	copy_stat(stat->pools[0], ret);
	kvd__stat_reply__free_unpacked(stat, NULL);

	r = raw_call(fd, WIRE_STATUS, &status_req.base,
		     &kvd__status_reply__descriptor, &status, NULL);
	CHECK(r == 0, "status: %s", strerror(-r));
	ret->nr_clients = status->nr_clients - 1;
	kvd__status_reply__free_unpacked(status, NULL);
	raw_bye(fd);
	close(fd);
}

void daemon_assert_idle_at(const char *socket)
{
	int64_t deadline = now_ms() + DAEMON_DEADLINE_MS;
	struct daemon_stat st;

	for (;;) {
		daemon_stat(socket, &st);
		if (st.open == 0 && st.sealed == 0 && st.quarantined == 0 &&
		    st.nr_clients == 0)
			return;
		CHECK(now_ms() < deadline,
		      "left: %llu open, %llu sealed, %llu quarantined, "
		      "%u clients", (unsigned long long)st.open,
		      (unsigned long long)st.sealed,
		      (unsigned long long)st.quarantined, st.nr_clients);
		sleep_ms(10);
	}
}

void daemon_assert_idle(const struct daemon *d)
{
	daemon_assert_idle_at(d->socket);
}

int daemon_run(const char *const *argv, char *out, size_t out_bytes)
{
	size_t have = 0;
	int pipe_fds[2], status;
	ssize_t n;
	pid_t pid;

	CHECK(pipe(pipe_fds) == 0, "%s", strerror(errno));
	pid = fork();
	if (pid == 0) {
		dup2(pipe_fds[1], STDOUT_FILENO);
		dup2(pipe_fds[1], STDERR_FILENO);
		close(pipe_fds[0]);
		close(pipe_fds[1]);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		execv(daemon_path(), (char **)(uintptr_t)argv);
		_exit(127);
	}
	close(pipe_fds[1]);
	while (have < out_bytes - 1 &&
	       (n = read(pipe_fds[0], out + have, out_bytes - 1 - have)) > 0)
		have += (size_t)n;
	out[have] = '\0';
	close(pipe_fds[0]);
	CHECK(waitpid(pid, &status, 0) == pid, "%s", strerror(errno));
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}
