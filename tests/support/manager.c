// SPDX-License-Identifier: Apache-2.0
/*
 * manager.c - a service manager in a test: what systemd does for kvd.
 *
 * A thread reads notifications all the time, as systemd does: the daemon
 * would wait for a full socket otherwise.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "tests/support/check.h"
#include "tests/support/manager.h"

static int bind_socket(const char *path, int type)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);

	CHECK(fd >= 0 && strlen(path) < sizeof(addr.sun_path), "%s", path);
	memcpy(addr.sun_path, path, strlen(path));
	CHECK(bind(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0, "%s: %s",
	      path, strerror(errno));
	return fd;
}

/* ---- notifications ---- */

static bool same_file(int a, int b)
{
	struct stat x, y;

	return fstat(a, &x) == 0 && fstat(b, &y) == 0 &&
	       x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

static void keep_fd(struct manager *m, const char *name, int fd)
{
	unsigned i;

	for (i = 0; i < m->nr_fds; i++) {
		if (strcmp(m->fds[i].name, name) == 0 &&
		    same_file(m->fds[i].fd, fd)) {
			close(fd);
			return;
		}
	}
	CHECK(m->nr_fds < MANAGER_MAX_FDS, "too many kept");
	snprintf(m->fds[m->nr_fds].name, MANAGER_NAME_BYTES, "%s", name);
	m->fds[m->nr_fds++].fd = fd;
}

static void drop_fds(struct manager *m, const char *name)
{
	unsigned i, to = 0;

	for (i = 0; i < m->nr_fds; i++) {
		if (!name || strcmp(m->fds[i].name, name) == 0)
			close(m->fds[i].fd);
		else
			m->fds[to++] = m->fds[i];
	}
	m->nr_fds = to;
}

static void serve_line(struct manager *m, const char *line, char *name,
		       bool *store, bool *drop)
{
	if (strcmp(line, "READY=1") == 0)
		m->ready = true;
	else if (strcmp(line, "STOPPING=1") == 0)
		m->stopping = true;
	else if (strcmp(line, "RELOADING=1") == 0)
		m->reloading = true;
	else if (strncmp(line, "MONOTONIC_USEC=", 15) == 0)
		m->reload_us = strtoull(line + 15, NULL, 10);
	else if (strcmp(line, "WATCHDOG=1") == 0)
		m->nr_watchdog++;
	else if (strcmp(line, "FDSTORE=1") == 0)
		*store = true;
	else if (strcmp(line, "FDSTOREREMOVE=1") == 0)
		*drop = true;
	else if (strncmp(line, "FDNAME=", 7) == 0)
		snprintf(name, MANAGER_NAME_BYTES, "%s", line + 7);
	else if (strncmp(line, "STATUS=", 7) == 0)
		snprintf(m->status, sizeof(m->status), "%s", line + 7);
	else
		CHECK(strcmp(line, "FDPOLL=0") == 0, "%s", line);
}

static void serve_message(struct manager *m, char *text, int fd)
{
	char name[MANAGER_NAME_BYTES] = "stored", *line, *save;
	bool store = false, drop = false;

	for (line = strtok_r(text, "\n", &save); line;
	     line = strtok_r(NULL, "\n", &save))
		serve_line(m, line, name, &store, &drop);
	CHECK(store == (fd >= 0), "a descriptor and FDSTORE=1 go together");
	if (store)
		keep_fd(m, name, fd);
	if (drop)
		drop_fds(m, name);
}

static bool receive_one(struct manager *m)
{
	char text[4096];
	_Alignas(struct cmsghdr)
	char control[CMSG_SPACE(4 * sizeof(int))];
	struct iovec iov = { .iov_base = text, .iov_len = sizeof(text) - 1 };
	struct msghdr msg = { .msg_iov = &iov,
			      .msg_iovlen = 1,
			      .msg_control = control,
			      .msg_controllen = sizeof(control) };
	struct cmsghdr *cmsg;
	int fd = -1;
	ssize_t n;

	n = recvmsg(m->notify_fd, &msg, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	if (n < 0)
		return false;
	text[n] = '\0';
	cmsg = CMSG_FIRSTHDR(&msg);
	if (cmsg && cmsg->cmsg_type == SCM_RIGHTS)
		memcpy(&fd, CMSG_DATA(cmsg), sizeof(fd));
	serve_message(m, text, fd);
	return true;
}

static bool manager_has(struct manager *m, const bool *flag)
{
	bool r;

	pthread_mutex_lock(&m->lock);
	r = *flag;
	pthread_mutex_unlock(&m->lock);
	return r;
}

static void *manager_thread(void *arg)
{
	struct manager *m = arg;
	struct pollfd p = { .fd = m->notify_fd, .events = POLLIN };

	while (!manager_has(m, &m->end)) {
		poll(&p, 1, 20);
		pthread_mutex_lock(&m->lock);
		while (receive_one(m))
			continue;
		pthread_mutex_unlock(&m->lock);
	}
	return NULL;
}

/* ---- the daemon ---- */

/* Descriptors 3, 4, ...: the socket, then what was kept. In the child. */
static void pass_fds(struct manager *m)
{
	static char names[MANAGER_MAX_FDS * 64];
	int fds[MANAGER_MAX_FDS + 1];
	unsigned i, nr = 0;
	char text[32];

	strcpy(names, "kvd.socket");
	fds[nr++] = m->listen_fd;
	for (i = 0; i < m->nr_fds; i++) {
		fds[nr++] = m->fds[i].fd;
		strcat(strcat(names, ":"), m->fds[i].name);
		CHECK(strlen(names) < sizeof(names) - MANAGER_NAME_BYTES,
		      "names are too long");
	}
	for (i = 0; i < nr; i++) { /* first out of the way */
		fds[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 600);
		CHECK(fds[i] >= 0, "%s", strerror(errno));
	}
	for (i = 0; i < nr; i++)
		CHECK(dup2(fds[i], 3 + (int)i) >= 0, "%s", strerror(errno));
	snprintf(text, sizeof(text), "%u", nr);
	setenv("LISTEN_FDS", text, 1);
	snprintf(text, sizeof(text), "%d", (int)getpid());
	setenv("LISTEN_PID", text, 1);
	setenv("LISTEN_FDNAMES", names, 1);
	setenv("NOTIFY_SOCKET", m->notify_path, 1);
}

static void exec_managed(struct manager *m, const char **argv)
{
	int fd = open(m->daemon.log, O_WRONLY | O_CREAT | O_APPEND, 0600);

	CHECK(fd >= 0 && dup2(fd, STDERR_FILENO) >= 0, "%s", strerror(errno));
	close(fd);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	pass_fds(m);
	daemon_exec(argv);
}

static void wait_flag(struct manager *m, const bool *flag, const char *what)
{
	struct timespec t = { .tv_nsec = 5000000 };
	int i;

	for (i = 0; i < DAEMON_DEADLINE_MS / 5; i++) {
		if (manager_has(m, flag))
			return;
		nanosleep(&t, NULL);
	}
	CHECK(0, "kvd did not say %s", what);
}

static void launch(struct manager *m, const char *const *args)
{
	const char *argv[DAEMON_MAX_ARGS];
	pid_t pid;

	daemon_args(&m->daemon, args, argv);
	pthread_mutex_lock(&m->lock); /* the child reads what it guards */
	m->ready = m->stopping = false;
	pid = fork();
	CHECK(pid >= 0, "fork: %s", strerror(errno));
	if (pid == 0)
		exec_managed(m, argv);
	m->daemon.pid = pid;
	pthread_mutex_unlock(&m->lock);
}

void manager_again(struct manager *m, const char *const *args)
{
	launch(m, args);
	daemon_wait_ready(&m->daemon);
	wait_flag(m, &m->ready, "READY=1");
}

void manager_start(struct manager *m, const char *const *args)
{
	memset(m, 0, sizeof(*m));
	daemon_prepare(&m->daemon);
	snprintf(m->notify_path, sizeof(m->notify_path), "%s/notify",
		 m->daemon.dir);
	m->notify_fd = bind_socket(m->notify_path, SOCK_DGRAM);
	m->listen_fd = bind_socket(m->daemon.socket, SOCK_SEQPACKET);
	CHECK(listen(m->listen_fd, 128) == 0, "%s", strerror(errno));
	pthread_mutex_init(&m->lock, NULL);
	CHECK(pthread_create(&m->thread, NULL, manager_thread, m) == 0,
	      "thread");
	manager_again(m, args);
}

/* Until everything the dead daemon has said was read. */
static void drain(struct manager *m)
{
	struct timespec t = { .tv_nsec = 2000000 };
	struct pollfd p = { .fd = m->notify_fd, .events = POLLIN };

	while (poll(&p, 1, 0) > 0)
		nanosleep(&t, NULL);
	pthread_mutex_lock(&m->lock); /* the last one has been served */
	pthread_mutex_unlock(&m->lock);
}

int manager_try(struct manager *m, const char *const *args)
{
	struct timespec t = { .tv_nsec = 2000000 };
	int status;

	launch(m, args);
	for (int i = 0; i < DAEMON_DEADLINE_MS / 2; i++) {
		if (waitpid(m->daemon.pid, &status, WNOHANG) ==
		    m->daemon.pid) {
			drain(m);
			return status;
		}
		if (manager_has(m, &m->ready))
			return 0;
		nanosleep(&t, NULL);
	}
	CHECK(0, "kvd is neither ready nor at its end");
}

void manager_kill(struct manager *m)
{
	daemon_kill(&m->daemon);
	drain(m);
}

void manager_term(struct manager *m)
{
	int status;

	kill(m->daemon.pid, SIGTERM);
	status = daemon_wait_exit(&m->daemon);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0,
	      "kvd ended badly: status %#x", status);
	drain(m);
	CHECK(manager_has(m, &m->stopping), "kvd did not say STOPPING=1");
}

static uint64_t now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

void manager_reload(struct manager *m)
{
	uint64_t begin_us = now_us();

	pthread_mutex_lock(&m->lock);
	m->ready = m->reloading = false;
	pthread_mutex_unlock(&m->lock);
	kill(m->daemon.pid, SIGHUP);
	wait_flag(m, &m->reloading, "RELOADING=1");
	wait_flag(m, &m->ready, "READY=1");
	CHECK(m->reload_us >= begin_us && m->reload_us <= now_us(),
	      "MONOTONIC_USEC is %llu", (unsigned long long)m->reload_us);
}

void manager_stop(struct manager *m)
{
	manager_term(m);
	pthread_mutex_lock(&m->lock);
	m->end = true;
	drop_fds(m, NULL);
	pthread_mutex_unlock(&m->lock);
	pthread_join(m->thread, NULL);
	pthread_mutex_destroy(&m->lock);
	close(m->notify_fd);
	close(m->listen_fd);
	daemon_remove(&m->daemon);
}

unsigned manager_nr_fds(struct manager *m, const char *name)
{
	unsigned i, nr = 0;

	pthread_mutex_lock(&m->lock);
	for (i = 0; i < m->nr_fds; i++)
		nr += !name || strcmp(m->fds[i].name, name) == 0;
	pthread_mutex_unlock(&m->lock);
	return nr;
}
