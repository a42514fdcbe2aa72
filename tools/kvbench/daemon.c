// SPDX-License-Identifier: Apache-2.0
/*
 * daemon.c - a kvd of our own: the one beside this program, on the host.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "tools/kvbench/daemon.h"

#define START_MS 10000
#define SOCKET   (CHILD_PATH + 16)

/* A program beside this one. */
static int program_path(const char *name, char *path, size_t size)
{
	ssize_t n = readlink("/proc/self/exe", path, size - strlen(name) - 1);
	char *slash;

	if (n < 0)
		return -errno;
	path[n] = '\0';
	slash = strrchr(path, '/');
	strcpy(slash + 1, name);
	return access(path, X_OK) ? -errno : 0;
}

static void socket_path(const struct child *c, char *socket)
{
	snprintf(socket, SOCKET, "%s/kvd.sock", c->dir);
}

int daemon_start(struct child *c, const char *const *more)
{
	char path[PATH_MAX], socket[SOCKET];
	const char *argv[DAEMON_MAX_ARGS + 10] = {
		"kvd",      "--config", "/dev/null",   "--socket", socket,
		"--device", "host",     "--state-dir", c->dir
	};
	int nr = 9, err = child_init(c);

	for (; more && *more; more++) {
		assert(nr < DAEMON_MAX_ARGS + 9);
		argv[nr++] = *more;
	}
	if (!err)
		err = program_path("kvd", path, sizeof(path));
	if (err)
		return err;
	socket_path(c, socket);
	return child_start(c, path, argv);
}

int daemon_connect(const struct child *c, const char *program, struct kvd **ret)
{
	char socket[SOCKET];
	const struct kvd_connect_opts opts = { .size = sizeof(opts),
		                               .socket = socket,
		                               .program = program };
	int ms, err = -ENOTCONN;

	socket_path(c, socket);
	for (ms = 0; ms < START_MS; ms++) {
		err = kvd_connect(&opts, ret);
		if (err != -ENOTCONN || !child_alive(c))
			break;
		usleep(1000);
	}
	return err;
}

/* Starts @argv with its output into a pipe. Return: the other end or -errno. */
static int spawn_reading(const char *path, const char *const argv[], pid_t *pid)
{
	posix_spawn_file_actions_t actions;
	int fds[2], err;

	if (pipe2(fds, O_CLOEXEC))
		return -errno;
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, fds[1], STDOUT_FILENO);
	err = posix_spawn(pid, path, &actions, NULL,
	                  (char *const *)(uintptr_t)argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	close(fds[1]);
	if (!err)
		return fds[0];
	close(fds[0]);
	return -err;
}

json_t *daemon_kvctl(const struct child *c, const char *const *words)
{
	char path[PATH_MAX], socket[SOCKET];
	const char *argv[DAEMON_MAX_WORDS + 5] = { "kvctl" };
	int fd, status = 0, nr = 1;
	json_t *answer = NULL;
	pid_t pid;

	for (; *words; words++) {
		assert(nr <= DAEMON_MAX_WORDS);
		argv[nr++] = *words;
	}
	argv[nr++] = "--json";
	argv[nr++] = "--socket";
	argv[nr++] = socket;
	socket_path(c, socket);
	if (program_path("kvctl", path, sizeof(path)))
		return NULL;
	fd = spawn_reading(path, argv, &pid);
	if (fd < 0)
		return NULL;
	answer = json_loadfd(fd, 0, NULL);
	close(fd);
	if (waitpid(pid, &status, 0) == pid && status == 0)
		return answer;
	json_decref(answer);
	return NULL;
}

json_t *daemon_stat(const struct child *c)
{
	static const char *const words[] = { "stat", NULL };

	return daemon_kvctl(c, words);
}

void daemon_print_log(const struct child *c)
{
	char line[512];
	FILE *log;

	snprintf(line, sizeof(line), "%s/log", c->dir);
	log = fopen(line, "re");
	while (log && fgets(line, sizeof(line), log))
		fputs(line, stderr);
	if (log)
		fclose(log);
}
