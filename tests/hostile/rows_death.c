// SPDX-License-Identifier: Apache-2.0
/*
 * rows_death.c - to die, or not to, so that others wait.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include "tests/hostile/hostile.h"

#define NR_PAGES (HOSTILE_MAX / PAGE)

/* A process that has @nr pages, and does @then. Return: when it has them. */
static pid_t start(uint32_t nr, void (*then)(int fd))
{
	int ready[2];
	char byte;
	pid_t pid;

	MUST(pipe(ready) == 0, "pipe");
	pid = fork();
	if (pid == 0) {
		int fd = raw_open(w->socket);
		uint32_t space = (uint32_t)raw_open_space(fd, 3);
		uint64_t h;

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (; nr > 0; nr--)
			if (raw_alloc(fd, space, 1, 500, &h, NULL) < 0)
				break;
		CHECK(write(ready[1], "r", 1) == 1, "write");
		then(fd);
		_exit(0);
	}
	close(ready[1]);
	MUST(read(ready[0], &byte, 1) == 1, "it has ended");
	close(ready[0]);
	return pid;
}

static void wait_on(int fd)
{
	for (;;)
		pause();
}

static void at_ease(void)
{
	VICTIM_IS_SERVED();
	MUST(victim_do(VICTIM_FILL), "%s", w->victim.said);
	MUST(victim_do(VICTIM_EMPTY), "%s", w->victim.said);
}

static void stopped(void)
{
	pid_t pid = start(NR_PAGES, wait_on);
	int status;

	kill(pid, SIGSTOP);
	MUST(waitpid(pid, &status, WUNTRACED) == pid && WIFSTOPPED(status),
	     "not stopped");
	for (int i = 0; i < 5; i++)
		at_ease();
	kill_and_reap(pid);
	saw("its pages stay its own, nobody waits for it");
}

/* A child has the socket, and all that its parent had stays the tenant's. */
static void fork_and_keep(int fd)
{
	if (fork() == 0) {
		prctl(PR_SET_PDEATHSIG, 0);
		usleep(300000);
		_exit(0);
	}
	_exit(0);
}

static void kept_by_child(void)
{
	pid_t pid = start(64, fork_and_keep);

	MUST(waitpid(pid, NULL, 0) == pid, "waitpid");
	at_ease();
	saw("held until the child has ended");
}

static void closes(int fd)
{
	close(fd);
	wait_on(fd);
}

static void hung_up(void)
{
	pid_t pid = start(64, closes);

	at_ease();
	kill_and_reap(pid);
	saw("quarantined until its process has ended");
}

static void talks_nonsense(int fd)
{
	raw_send_bytes(fd, "no frame", 8, NULL, 0);
	wait_on(fd);
}

static void dropped(void)
{
	pid_t pid = start(64, talks_nonsense);

	at_ease();
	kill_and_reap(pid);
	saw("quarantined until its process has ended");
}

static void in_a_loop(void)
{
	for (int i = 0; i < 100; i++) {
		pid_t pid = fork();

		if (pid == 0) {
			int fd = raw_connect(w->socket);

			if (i % 3 > 0)
				raw_send(fd, WIRE_HELLO, 1, "\x08\x01", 2);
			if (i % 3 > 1)
				raw_open_space(fd, (uint8_t)i);
			raise(SIGKILL);
		}
		MUST(waitpid(pid, NULL, 0) == pid, "waitpid");
		if (i % 50 == 0)
			at_ease();
	}
	saw("100 deaths");
}

/* Dies with all it can have, again and again. */
static void with_all(void)
{
	for (int i = 0; i < 5; i++) {
		pid_t pid = start(NR_PAGES, wait_on);

		kill_and_reap(pid);
		at_ease();
	}
	saw("given back in steps");
}

/* Half a request in the socket, and many whole ones, at its end. */
static void mid_sentence(void)
{
	static const uint8_t half[8];

	for (int i = 0; i < 50; i++) {
		int fd = raw_open(w->socket);
		uint32_t space = (uint32_t)raw_open_space(fd, 3);

		for (uint32_t k = 1; k <= MAX_WAITING; k++)
			send_alloc(fd, k, space, 4, 60000);
		raw_send_bytes(fd, half, sizeof(half), NULL, 0);
		shutdown(fd, i % 2 ? SHUT_RD : SHUT_WR);
		close(fd);
	}
	at_ease();
	saw("what was allotted comes back");
}

/* Waits for what is never to be, and dies: the queue goes on. */
static void dies_waiting(void)
{
	for (int i = 0; i < 10; i++) {
		pid_t pid = start(16, wait_on);
		int fd = raw_open(w->socket);
		uint32_t space = (uint32_t)raw_open_space(fd, 3);

		for (uint32_t k = 1; k <= MAX_WAITING; k++)
			send_alloc(fd, k, space, 400, 60000);
		kill_and_reap(pid);
		close(fd);
	}
	at_ease();
	saw("its requests end with it");
}

const struct row rows_death[] = {
	{ "death: stopped", "SIGSTOP with all pages it may have", stopped },
	{ "death: child", "a child keeps the socket", kept_by_child },
	{ "death: hung up", "closes its socket, and lives on", hung_up },
	{ "death: dropped", "is dropped for bad bytes, and lives on",
	  dropped },
	{ "death: loop", "connects and dies, 100 times", in_a_loop },
	{ "death: with all", "dies with all it may have, 5 times", with_all },
	{ "death: mid-sentence", "half a request and waiting ones at its end",
	  mid_sentence },
	{ "death: waiting", "dies while it waits for room", dies_waiting },
	{ 0 }
};
