// SPDX-License-Identifier: Apache-2.0
/*
 * rows_restart.c - to claim what others had, after kvd was killed.
 *
 * On a kvd of their own, which a manager keeps the memory of. It belongs to
 * the hostile user here, as do all clients: the harder case is that uid, model
 * and space are right, and only the process is not.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include "tests/hostile/hostile.h"
#include "tests/support/manager.h"

#define NR 4

static const char *const args[] = { "--grace", "60s", NULL };
static struct manager m;

/* The worker that has pages; on a byte it claims them, and says how many. */
static pid_t start_owner(uint64_t *handles, int *ret_talk)
{
	int talk[2];
	pid_t pid;

	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, talk) == 0, "socketpair");
	pid = fork();
	if (pid == 0) {
		int fd = raw_open(m.daemon.socket), id;
		char byte = 0;

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		id = raw_open_space(fd, 1);
		CHECK(raw_alloc(fd, (uint32_t)id, NR, SLOW_MS, handles,
				NULL) == 0, "alloc");
		CHECK(write(talk[1], handles, NR * sizeof(*handles)) > 0,
		      "write");
		CHECK(read(talk[1], &byte, 1) == 1, "read");
		close(fd);
		fd = raw_open(m.daemon.socket);
		id = raw_open_space(fd, 1);
		byte = 0;
		for (int i = 0; i < NR; i++)
			byte += raw_claim(fd, (uint32_t)id, handles[i]) == 1;
		CHECK(write(talk[1], &byte, 1) == 1, "write");
		pause();
	}
	close(talk[1]);
	MUST(read(talk[0], handles, NR * sizeof(*handles)) ==
	     NR * sizeof(*handles), "it has ended");
	*ret_talk = talk[0];
	return pid;
}

/* The owner's open pages, by another process of the same user. */
static void same_user(void)
{
	uint64_t h[NR];
	int talk, fd, id;
	char byte = 'g';
	pid_t pid;

	manager_start(&m, args);
	pid = start_owner(h, &talk);
	manager_kill(&m);
	manager_again(&m, args);
	fd = raw_open(m.daemon.socket);
	id = raw_open_space(fd, 1);
	for (int i = 0; i < NR; i++) {
		MUST(raw_claim(fd, (uint32_t)id, h[i]) == 0, "claimed");
		want(raw_release(fd, &h[i], 1), -ESTALE);
		want(raw_publish(fd, (uint32_t)id, h[i], 1), -ESTALE);
		MUST(raw_match(fd, (uint32_t)id, &h[i], 1) == 0, "matched");
	}
	MUST(write(talk, &byte, 1) == 1 && read(talk, &byte, 1) == 1,
	     "the owner has ended");
	MUST(byte == NR, "the owner got %d of %d", byte, NR);
	saw("the owner has them again");
	raw_bye(fd);
	close(fd);
	kill_and_reap(pid);
	manager_stop(&m);
}

/* The owner has died: nobody gets what it was writing. */
static void of_the_dead(void)
{
	uint64_t h[NR];
	int talk, fd, id;
	pid_t pid;

	manager_start(&m, args);
	pid = start_owner(h, &talk);
	manager_kill(&m);
	kill_and_reap(pid);
	manager_again(&m, args);
	fd = raw_open(m.daemon.socket);
	id = raw_open_space(fd, 1);
	for (int i = 0; i < NR; i++)
		MUST(raw_claim(fd, (uint32_t)id, h[i]) == 0, "claimed");
	saw("none granted");
	raw_bye(fd);
	close(fd);
	manager_stop(&m);
}

/* In another space of the same user: the wrong one. */
static void wrong_space(void)
{
	uint64_t h;
	int fd, id;

	manager_start(&m, args);
	fd = raw_open(m.daemon.socket);
	id = raw_open_space(fd, 1);
	MUST(raw_alloc(fd, (uint32_t)id, 1, SLOW_MS, &h, NULL) == 0, "alloc");
	manager_kill(&m);
	close(fd);
	manager_again(&m, args);
	fd = raw_open(m.daemon.socket);
	id = raw_open_space(fd, 2);
	MUST(raw_claim(fd, (uint32_t)id, h) == 0, "claimed");
	MUST(raw_claim(fd, (uint32_t)id, h + (1ull << 32)) == 0, "claimed");
	saw("none granted");
	id = raw_open_space(fd, 1);
	MUST(raw_claim(fd, (uint32_t)id, h - (1ull << 32)) == 0, "claimed");
	MUST(raw_claim(fd, (uint32_t)id, h) == 1, "its own is refused");
	want(raw_release(fd, &h, 1), 0);
	raw_bye(fd);
	close(fd);
	manager_stop(&m);
}

const struct row rows_restart[] = {
	{ "restart: same user", "another process claims open pages",
	  same_user },
	{ "restart: the dead", "claims of a writer's that has died",
	  of_the_dead },
	{ "restart: space", "claims through another space, of other "
	  "generations", wrong_space },
	{ 0 }
};
