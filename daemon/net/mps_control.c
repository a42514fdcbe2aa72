// SPDX-License-Identifier: Apache-2.0
/*
 * mps_control.c - which processes CUDA's Multi-Process Service works for.
 *
 *	get_server_list		a pid in each line
 *	get_client_list PID	the same, of that server
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "daemon/net/mps_control.h"

#define OUT_BYTES   65536u	/* of one command's answer */
#define MAX_SERVERS 64u
#define LOOK_MS	    20	/* how often give_up, and the child, are looked at */
#define KILL_MS	    200	/* that one which was killed has to end in */

extern char **environ;

struct run {
	struct mps_control *c;
	int64_t deadline_ms;
	char *out;		/* OUT_BYTES */
};

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static bool is_over(const struct run *r)
{
	return now_ms() >= r->deadline_ms || atomic_load(&r->c->give_up);
}

static int fail(struct mps_control *c, int err, const char *what,
		const char *how)
{
	snprintf(c->why, sizeof(c->why), MPS_CONTROL ": %s%s", what, how);
	return err;
}

/* ---- the program ---- */

/* A descriptor that @text can be read from. */
static int text_fd(const char *text)
{
	int fds[2];

	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	if (write(fds[1], text, strlen(text)) != (ssize_t)strlen(text)) {
		close(fds[0]);
		fds[0] = -EIO;
	}
	close(fds[1]);
	return fds[0];
}

static int set_attr(posix_spawnattr_t *attr)
{
	sigset_t none, all;

	sigemptyset(&none);
	sigfillset(&all);
	posix_spawnattr_setsigmask(attr, &none);
	posix_spawnattr_setsigdefault(attr, &all);
	return posix_spawnattr_setflags(attr, POSIX_SPAWN_SETPGROUP |
						      POSIX_SPAWN_SETSIGMASK |
						      POSIX_SPAWN_SETSIGDEF);
}

#define PIPE_DIR     "CUDA_MPS_PIPE_DIRECTORY="
#define PIPE_DIR_KVD "KVD_MPS_PIPE_DIRECTORY"

/* Ours, but that kvd itself may not be under the MPS that it asks. free() it.
 * @dir is part of it. */
static char **child_environ(char *dir, size_t dir_bytes)
{
	const char *own = getenv(PIPE_DIR_KVD);
	size_t i, nr = 0;
	char **env;

	while (environ[nr])
		nr++;
	env = calloc(nr + 2, sizeof(*env));
	if (!env)
		return NULL;
	for (i = nr = 0; environ[i]; i++)
		if (!own || strncmp(environ[i], PIPE_DIR, strlen(PIPE_DIR)))
			env[nr++] = environ[i];
	snprintf(dir, dir_bytes, PIPE_DIR "%s", own ? own : "");
	if (own)
		env[nr] = dir;
	return env;
}

static int spawn_with(const posix_spawn_file_actions_t *files,
		      const posix_spawnattr_t *attr, pid_t *ret)
{
	char *const argv[] = { (char *)(uintptr_t)MPS_CONTROL, NULL };
	char dir[4096], **env = child_environ(dir, sizeof(dir));
	int err = ENOMEM;

	if (env)
		err = posix_spawnp(ret, MPS_CONTROL, files, attr, argv, env);
	free(env);
	return err;
}

/* In a process group of its own. Return: 0 or a negative errno. */
static int spawn(int in, int out, pid_t *ret)
{
	posix_spawn_file_actions_t files;
	posix_spawnattr_t attr;
	int err;

	if (posix_spawn_file_actions_init(&files))
		return -ENOMEM;
	if (posix_spawnattr_init(&attr)) {
		posix_spawn_file_actions_destroy(&files);
		return -ENOMEM;
	}
	err = posix_spawn_file_actions_adddup2(&files, in, 0);
	if (!err)
		err = posix_spawn_file_actions_adddup2(&files, out, 1);
	if (!err)
		err = posix_spawn_file_actions_addopen(&files, 2, "/dev/null",
						       O_WRONLY, 0);
	if (!err)
		err = set_attr(&attr);
	if (!err)
		err = spawn_with(&files, &attr, ret);
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&files);
	return -err;
}

/* All that comes, up to its end, is in r->out. Return: 0 or a negative errno
 * with a reason. */
static int read_all(struct run *r, int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	size_t have = 0;
	ssize_t n = 1;

	while (n > 0) {
		if (is_over(r))
			return fail(r->c, -ETIMEDOUT, "no answer in time", "");
		if (poll(&p, 1, LOOK_MS) <= 0)
			continue;
		n = read(fd, r->out + have, OUT_BYTES - 1 - have);
		if (n < 0)
			return fail(r->c, -errno, "", strerror(errno));
		have += (size_t)n;
		if (have == OUT_BYTES - 1)
			return fail(r->c, -EMSGSIZE, "too long an answer", "");
	}
	r->out[have] = '\0';
	return 0;
}

/* Return: true with its status when @pid has ended by then. */
static bool reap(pid_t pid, int64_t until_ms, int *ret_status)
{
	pid_t r;

	while ((r = waitpid(pid, ret_status, WNOHANG)) == 0 &&
	       now_ms() < until_ms)
		poll(NULL, 0, 2);
	return r == pid;
}

/* No more of it than one: the next question is not asked before it has gone. */
static void kill_off(struct mps_control *c, pid_t pid)
{
	int status;

	kill(-pid, SIGKILL);
	if (!reap(pid, now_ms() + KILL_MS, &status))
		c->stuck = pid;
}

static int wait_end(struct run *r, pid_t pid)
{
	char how[48];
	int status;

	if (!reap(pid, r->deadline_ms, &status)) {
		kill_off(r->c, pid);
		return fail(r->c, -ETIMEDOUT, "did not end in time", "");
	}
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	snprintf(how, sizeof(how), WIFEXITED(status) ? "status %d" :
		 "signal %d", WIFEXITED(status) ? WEXITSTATUS(status) :
						  WTERMSIG(status));
	return fail(r->c, -EIO, "ended with ", how);
}

/* Runs it once, with @command. Return: 0 with the answer in r->out. */
static int run(struct run *r, const char *command)
{
	int in, out[2], err;
	pid_t pid;

	in = text_fd(command);
	if (in < 0)
		return fail(r->c, in, "", strerror(-in));
	if (pipe2(out, O_CLOEXEC) < 0) {
		close(in);
		return fail(r->c, -EMFILE, "", strerror(errno));
	}
	err = spawn(in, out[1], &pid);
	close(in);
	close(out[1]);
	if (err < 0) {
		close(out[0]);
		return fail(r->c, err, "", strerror(-err));
	}
	err = read_all(r, out[0]);
	close(out[0]);
	if (err < 0)
		kill_off(r->c, pid);
	return err < 0 ? err : wait_end(r, pid);
}

/* ---- its answers ---- */

static int add(struct mps_control *c, pid_t pid)
{
	size_t room = c->room ? 2 * c->room : 64;
	pid_t *pids;

	if (c->nr == c->room) {
		pids = reallocarray(c->pids, room, sizeof(*pids));
		if (!pids)
			return fail(c, -ENOMEM, "", strerror(ENOMEM));
		c->pids = pids;
		c->room = room;
	}
	c->pids[c->nr++] = pid;
	return 0;
}

/* Adds those of r->out, which has to have nothing else. */
static int add_all(struct run *r)
{
	char *save, *word, *end;
	long pid;

	for (word = strtok_r(r->out, "\n\t\r ", &save); word;
	     word = strtok_r(NULL, "\n\t\r ", &save)) {
		pid = strtol(word, &end, 10);
		if (*end != '\0' || pid <= 0 || pid > 1 << 30)
			return fail(r->c, -EBADMSG, "not a list of pids: ",
				    word);
		if (add(r->c, (pid_t)pid) < 0)
			return -ENOMEM;
	}
	return 0;
}

static int ask_servers(struct run *r, pid_t *servers, size_t *ret_nr)
{
	int err = run(r, "get_server_list\n");

	if (err == 0)
		err = add_all(r);
	if (err < 0)
		return err;
	if (r->c->nr > MAX_SERVERS)
		return fail(r->c, -E2BIG, "too many servers", "");
	memcpy(servers, r->c->pids, r->c->nr * sizeof(*servers));
	*ret_nr = r->c->nr;
	r->c->nr = 0;
	return 0;
}

static int ask_all(struct run *r)
{
	pid_t servers[MAX_SERVERS];
	char command[64];
	size_t i, nr;
	int err;

	r->c->nr = 0;
	err = ask_servers(r, servers, &nr);
	for (i = 0; err == 0 && i < nr; i++) {
		snprintf(command, sizeof(command), "get_client_list %d\n",
			 (int)servers[i]);
		err = run(r, command);
		if (err == 0)
			err = add_all(r);
	}
	return err;
}

int mps_control_ask(struct mps_control *c)
{
	struct run r = { .c = c, .deadline_ms = now_ms() + MPS_CONTROL_MS };
	int status, err;

	if (c->stuck && !reap(c->stuck, 0, &status))
		return fail(c, -EBUSY, "has not ended since it was killed", "");
	c->stuck = 0;
	r.out = malloc(OUT_BYTES);
	if (!r.out)
		return fail(c, -ENOMEM, "", strerror(ENOMEM));
	err = ask_all(&r);
	free(r.out);
	return err;
}

bool mps_control_lists(const struct mps_control *c, pid_t pid)
{
	size_t i;

	for (i = 0; i < c->nr; i++)
		if (c->pids[i] == pid)
			return true;
	return false;
}

void mps_control_fini(struct mps_control *c)
{
	free(c->pids);
	*c = (struct mps_control){ 0 };
}
