// SPDX-License-Identifier: Apache-2.0
/*
 * quiet.c - when a worker is killed in the middle of a kernel that writes,
 * is its memory quiet once its socket has hung up and its pidfd has fired?
 *
 *	gpu_quiet vmm|ipc
 *
 * That is when kvd gives the memory to somebody else (daemon/net). Three
 * processes: the victim writes words of shared memory again and again; the
 * watcher, whose memory it is, compares one look at it with the next; this
 * one kills and takes the times. Once both signals have come, the watcher
 * overwrites the memory, as a new owner does, and any other byte it sees from
 * then on is the dead one's. A change happened between the beginning of one
 * look and the end of the next, so times are that coarse.
 */
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "tests/gpu/question.h"
#include "tests/gpu/spin.h"

#define BYTES (2ul << 20)
#define WATCHED (256ul << 10)	/* of them */
#define NEW_OWNER 0xee
#define FOREVER (1ull << 40)	/* rounds */

/* What is handed from the watcher to the victim, besides a descriptor. */
struct parcel {
	struct cu_ipc_handle handle;
	int is_vmm;
};

/* What the watcher has seen. */
struct sight {
	uint64_t looks, changes;
	uint64_t since_ns;	/* beginning of the look before the last change */
	uint64_t until_ns;	/* end of the look that showed it */
	uint64_t overwritten;	/* looks after the new owner's fill that showed
				 * another byte */
};

/* Times of one kill. */
struct times {
	uint64_t kill_ns, hup_ns, exit_ns;
};

static bool is_vmm;

/* ---- the watcher ---- */

struct watcher {
	const struct cuda_driver *cu;
	cu_ptr at;
	unsigned char *look[2];	/* page-locked */
	uint64_t began_ns[2];
	struct sight sight;
};

static void watcher_share(struct watcher *w, int socket)
{
	struct parcel parcel = { .is_vmm = is_vmm };
	int fd = -1;

	if (is_vmm) {
		fd = question_export(w->cu, BYTES, &w->at);
	} else {
		REQUIRE(w->cu->cuMemAlloc(&w->at, BYTES) == CU_OK);
		REQUIRE(w->cu->cuIpcGetMemHandle(&parcel.handle, w->at) ==
			CU_OK);
	}
	child_send(socket, &parcel, sizeof(parcel), is_vmm ? fd : socket);
}

/* Looks into buffer @i. */
static void watcher_look(struct watcher *w, int i)
{
	w->began_ns[i] = question_now_ns();
	REQUIRE(w->cu->cuMemcpyDtoHAsync(w->look[i], w->at, WATCHED, NULL) ==
		CU_OK);
	REQUIRE(w->cu->cuStreamSynchronize(NULL) == CU_OK);
	w->sight.looks++;
}

/* Looks until something is said on @socket; says "c" at the third change. */
static void watcher_compare(struct watcher *w, int socket)
{
	char c;
	int i = 0;

	watcher_look(w, i);
	do {
		i = !i;
		watcher_look(w, i);
		if (!memcmp(w->look[0], w->look[1], WATCHED))
			continue;
		w->sight.since_ns = w->began_ns[!i];
		w->sight.until_ns = question_now_ns();
		if (++w->sight.changes == 3)
			child_send(socket, "c", 1, -1);
	} while (recv(socket, &c, 1, MSG_DONTWAIT) < 0);
}

/* As the memory's new owner, until something is said. */
static void watcher_own(struct watcher *w, int socket)
{
	char c;

	REQUIRE(w->cu->cuMemsetD8Async(w->at, NEW_OWNER, WATCHED, NULL) ==
		CU_OK);
	REQUIRE(w->cu->cuStreamSynchronize(NULL) == CU_OK);
	memset(w->look[1], NEW_OWNER, WATCHED);
	do {
		watcher_look(w, 0);
		w->sight.overwritten +=
			memcmp(w->look[0], w->look[1], WATCHED) != 0;
	} while (recv(socket, &c, 1, MSG_DONTWAIT) < 0);
}

static void watcher(int socket)
{
	struct watcher w = { .cu = child_cuda() };
	void *p;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	REQUIRE(w.cu->cuMemHostAlloc(&p, 2 * WATCHED, 0) == CU_OK);
	w.look[0] = p;
	w.look[1] = w.look[0] + WATCHED;
	watcher_share(&w, socket);
	watcher_compare(&w, socket);
	watcher_own(&w, socket);
	child_send(socket, &w.sight, sizeof(w.sight), -1);
}

/* ---- the victim ---- */

static void victim(int socket)
{
	const struct cuda_driver *cu;
	struct parcel parcel;
	cu_mem mem;
	cu_ptr at;
	int fd;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	cu = child_cuda(); /* the socket was there first, as in libkvd */
	child_receive(socket, &parcel, sizeof(parcel), &fd);
	if (parcel.is_vmm) {
		REQUIRE(cu->cuMemImportFromShareableHandle(
				&mem, (void *)(intptr_t)fd,
				CU_HANDLE_POSIX_FD) == CU_OK);
		at = question_map(cu, mem, BYTES, CU_ACCESS_READWRITE);
	} else {
		REQUIRE(cu->cuIpcOpenMemHandle(&at, parcel.handle,
					       CU_IPC_LAZY_PEER) == CU_OK);
	}
	close(fd);
	REQUIRE(spin_start(cu, at, WATCHED / 4, FOREVER) == CU_OK);
	cu->cuStreamSynchronize(NULL); /* the double runs it here */
}

/* ---- who kills ---- */

/* SIGKILL, then the times of both signals. */
static struct times kill_and_wait(pid_t pid, int socket)
{
	struct pollfd p[2] = { { .fd = socket, .events = POLLIN },
			       { .events = POLLIN } };
	struct times t = { 0 };

	p[1].fd = (int)syscall(SYS_pidfd_open, pid, 0);
	REQUIRE(p[1].fd >= 0);
	t.kill_ns = question_now_ns();
	kill(pid, SIGKILL);
	while (!t.hup_ns || !t.exit_ns) {
		REQUIRE(poll(p, 2, 30000) > 0);
		if (p[0].fd >= 0 && p[0].revents & POLLHUP) {
			t.hup_ns = question_now_ns();
			p[0].fd = -1;
		}
		if (p[1].fd >= 0 && p[1].revents & POLLIN) {
			t.exit_ns = question_now_ns();
			close(p[1].fd);
			p[1].fd = -1;
		}
	}
	child_wait(pid);
	return t;
}

static struct sight one_kill(struct times *ret)
{
	int watched, written, fd;
	pid_t w = child_start(watcher, &watched);
	pid_t v = child_start(victim, &written);
	struct parcel parcel;
	struct sight sight;
	char c;

	child_receive(watched, &parcel, sizeof(parcel), &fd);
	child_send(written, &parcel, sizeof(parcel), fd);
	close(fd);
	child_receive(watched, &c, 1, NULL);
	*ret = kill_and_wait(v, written);
	child_send(watched, "o", 1, -1);
	usleep(child_double() ? 100000 : 1000000);
	child_send(watched, "e", 1, -1);
	child_receive(watched, &sight, sizeof(sight), NULL);
	REQUIRE(child_wait(w) == 0);
	close(watched);
	close(written);
	return sight;
}

static double ms(uint64_t from_ns, uint64_t to_ns)
{
	return (double)(int64_t)(to_ns - from_ns) / 1e6;
}

static uint64_t later(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/* Over all kills: the longest of each time, the sums of what was seen. */
struct worst {
	double hup, exit, change, after;
	uint64_t looks, overwritten, late;
};

static void worst_add(struct worst *w, const struct sight *s,
		      const struct times *t)
{
	const uint64_t both = later(t->hup_ns, t->exit_ns);
	const double after = ms(both, s->until_ns);

	w->hup = w->hup > ms(t->kill_ns, t->hup_ns) ? w->hup :
						      ms(t->kill_ns, t->hup_ns);
	w->exit = w->exit > ms(t->kill_ns, t->exit_ns) ?
			  w->exit : ms(t->kill_ns, t->exit_ns);
	w->change = w->change > ms(t->kill_ns, s->until_ns) ?
			    w->change : ms(t->kill_ns, s->until_ns);
	w->after = w->after > after ? w->after : after;
	w->looks += s->looks;
	w->overwritten += s->overwritten;
	w->late += s->since_ns > both;
}

int main(int argc, char **argv)
{
	struct worst worst = { .after = -1e9 };
	int nr = question_quick() ? 2 : 5, r = question_begin();
	struct times t;
	struct sight s;

	if (r)
		return r;
	if (argc != 2)
		return 2;
	is_vmm = strcmp(argv[1], "vmm") == 0;
	for (int i = 0; i < nr; i++) {
		s = one_kill(&t);
		worst_add(&worst, &s, &t);
	}
	printf("{\"question\": \"quiet_%s\", \"answer\": \"%s\", "
	       "\"kills\": %d, \"kill_to_hang_up_ms\": %.3f, "
	       "\"kill_to_pidfd_ms\": %.3f, \"kill_to_last_change_ms\": %.3f, "
	       "\"last_change_after_both_ms\": %.3f, \"looks\": %llu, "
	       "\"kills_with_change_after_both\": %llu, "
	       "\"looks_that_saw_new_owner_overwritten\": %llu}\n",
	       argv[1], worst.overwritten || worst.late ? "not quiet" : "quiet",
	       nr, worst.hup, worst.exit, worst.change, worst.after,
	       (unsigned long long)worst.looks,
	       (unsigned long long)worst.late,
	       (unsigned long long)worst.overwritten);
	return 0;
}
