// SPDX-License-Identifier: Apache-2.0
/*
 * rows_memory.c - memory that is another's, is to be read only, or was
 * another's before.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>
#include "proto/shm.h"
#include "tests/hostile/hostile.h"

#define NR_ALL (HOSTILE_MAX / PAGE)

/* What it was not allowed to do has failed: with which errno is seen. */
#define DENIED(call)                                              \
	do {                                                      \
		errno = 0;                                        \
		MUST((intptr_t)(call) < 0, "%s worked", #call);   \
		saw("%s", strerrorname_np(errno));                \
	} while (0)

/* A space of its own, opened @read_only: its page's segment, index,
 * statistics. */
static int handed(bool read_only, int fds[3])
{
	int fd = raw_open(w->socket), rw = raw_open(w->socket), id;
	uint64_t h, place;

	id = raw_open_space(rw, 3);
	MUST(raw_alloc(rw, (uint32_t)id, 1, SLOW_MS, &h, &place) == 0,
	     "alloc");
	id = open_space_fds(fd, 3, read_only, fds + 1, NULL);
	MUST(id > 0, "space: %s", strerror(-id));
	fds[0] = map_segment(fd, (uint32_t)id, place_segment(place));
	MUST(fds[0] >= 0, "map: %s", strerror(-fds[0]));
	return fd;
}

static int reopen(int fd)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return open(path, O_RDWR | O_CLOEXEC);
}

static void write_mapped(void)
{
	int fds[3];

	handed(true, fds);
	for (int i = 0; i < 3; i++) {
		void *p = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fds[i], 0);

		MUST(p != MAP_FAILED, "mmap");
		DENIED(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED,
			    fds[i], 0) == MAP_FAILED ? -1 : 0);
		DENIED(mprotect(p, 4096, PROT_READ | PROT_WRITE));
	}
}

static void write_fd(void)
{
	int fds[3];

	handed(true, fds);
	for (int i = 0; i < 3; i++) {
		DENIED(pwrite(fds[i], "x", 1, 0));
		DENIED(fallocate(fds[i], FALLOC_FL_PUNCH_HOLE |
				 FALLOC_FL_KEEP_SIZE, 0, 4096));
		DENIED(fallocate(fds[i], FALLOC_FL_ZERO_RANGE, 0, 4096));
	}
}

static void reopen_writable(void)
{
	int fds[3];

	handed(true, fds);
	for (int i = 0; i < 3; i++) {
		DENIED(reopen(fds[i]));
		DENIED(fcntl(fds[i], F_SETFL, O_RDWR | O_APPEND) == 0 &&
		       (fcntl(fds[i], F_GETFL) & O_ACCMODE) == O_RDWR ? 0 :
		       (errno = EBADF, -1));
	}
}

static void resize(void)
{
	int fds[3], fd;
	struct stat st;

	fd = handed(false, fds);
	for (int i = 0; i < 3; i++) {
		MUST(fstat(fds[i], &st) == 0, "fstat");
		DENIED(ftruncate(fds[i], 0));
		DENIED(ftruncate(fds[i], st.st_size + 4096));
		DENIED(fallocate(fds[i], 0, st.st_size, 4096));
		DENIED(fallocate(fds[i], FALLOC_FL_COLLAPSE_RANGE, 0, 4096));
	}
	want(raw_ping(fd), 0);
}

static void seal(void)
{
	int fds[3];

	handed(false, fds);
	for (int i = 0; i < 3; i++) {
		DENIED(fcntl(fds[i], F_ADD_SEALS, F_SEAL_WRITE));
		DENIED(fcntl(fds[i], F_ADD_SEALS, F_SEAL_FUTURE_WRITE));
		DENIED(fcntl(fds[i], F_ADD_SEALS, F_SEAL_SEAL));
	}
}

static void chmod_all(void)
{
	int fds[3];

	handed(false, fds);
	for (int i = 0; i < 3; i++) {
		DENIED(fchmod(fds[i], 0666));
		DENIED(fchown(fds[i], HOSTILE, HOSTILE));
		DENIED(fcntl(fds[i], F_SETLEASE, F_WRLCK));
	}
}

/* Of its own segment it may make what it likes: it is nobody else's. */
static void punch(void)
{
	int fds[3], fd = handed(false, fds);
	uint64_t h;

	MUST(fallocate(fds[0], FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
		       SEGMENT) == 0, "punch: %s", strerror(errno));
	VICTIM_IS_SERVED();
	MUST(raw_alloc(fd, (uint32_t)raw_open_space(fd, 3), 1, SLOW_MS, &h,
		       NULL) == 0, "alloc");
	saw("its own memory alone");
}

/* Is there a page as the victim writes them? */
static bool is_victims(int fd)
{
	const uint8_t *p = mmap(NULL, SEGMENT, PROT_READ, MAP_SHARED, fd, 0);
	uint32_t at, i;

	MUST(p != MAP_FAILED, "mmap");
	for (at = 0; at < SEGMENT; at += PAGE) {
		for (i = 0; i < PAGE && p[at] && p[at + i] == p[at]; i++)
			continue;
		if (i == PAGE)
			return true;
	}
	return false;
}

/* Those that there are it is handed only if they are its own. */
static void all_segments(void)
{
	int fd = raw_open(w->socket), id = raw_open_space(fd, 3), r;
	unsigned nr = 0;

	want(map_segment(fd, (uint32_t)id, w->victim.segment), -ENOENT);
	want(map_segment(fd, (uint32_t)id, UINT32_MAX), -ENOENT);
	for (uint32_t seg = 0; seg < 1024; seg++) {
		r = map_segment(fd, (uint32_t)id, seg);
		if (r < 0) {
			want(r, -ENOENT);
			continue;
		}
		MUST(!is_victims(r), "segment %u is the victim's", seg);
		close(r);
		nr++;
	}
	saw("%u of its own", nr);
}

static void map_late(void)
{
	Kvd__CloseSpaceRequest req = KVD__CLOSE_SPACE_REQUEST__INIT;
	int fd = raw_open(w->socket), id = raw_open_space(fd, 3);
	uint64_t h, place;

	MUST(raw_alloc(fd, (uint32_t)id, 1, SLOW_MS, &h, &place) == 0,
	     "alloc");
	req.space = (uint32_t)id;
	want(raw_call(fd, WIRE_CLOSE_SPACE, &req.base, NULL, NULL, NULL), 0);
	want(map_segment(fd, (uint32_t)id, place_segment(place)), -ENOENT);
	want(raw_bye(fd), 0);
	want(map_segment(fd, (uint32_t)id, place_segment(place)), -EPROTO);
}

/* ---- what was there before ---- */

struct own {
	int sock;
	uint32_t nr;
	uint64_t handles[NR_ALL];
	uint8_t *segments[256];
};

/* All pages it can have, and their segments. */
static void take_all(struct own *o)
{
	int space, fd;
	uint64_t place;

	o->sock = raw_open(w->socket);
	space = raw_open_space(o->sock, 3);
	for (o->nr = 0; o->nr < NR_ALL; o->nr++) {
		uint32_t id;

		if (raw_alloc(o->sock, (uint32_t)space, 1, 500,
			      o->handles + o->nr, &place) < 0)
			break;
		id = place_segment(place);
		MUST(id < 256, "segment %u", id);
		if (o->segments[id])
			continue;
		fd = map_segment(o->sock, (uint32_t)space, id);
		MUST(fd >= 0, "map: %s", strerror(-fd));
		o->segments[id] = mmap(NULL, SEGMENT, PROT_READ | PROT_WRITE,
				       MAP_SHARED, fd, 0);
		MUST(o->segments[id] != MAP_FAILED, "mmap");
		close(fd);
	}
}

/* Bytes of all it has mapped that are not 0, and those that are @byte. */
static uint64_t count(const struct own *o, int byte, uint64_t *ret_bytes)
{
	uint64_t nr = 0;

	*ret_bytes = 0;
	for (int id = 0; id < 256; id++) {
		if (!o->segments[id])
			continue;
		*ret_bytes += SEGMENT;
		for (uint32_t i = 0; i < SEGMENT; i++)
			nr += byte ? o->segments[id][i] == byte :
				     o->segments[id][i] != 0;
	}
	return nr;
}

/* Whoever had the memory before. */
static void third_user(void)
{
	static struct own o;
	uint64_t bytes;

	take_all(&o);
	for (int id = 0; id < 256; id++)
		if (o.segments[id])
			memset(o.segments[id], VICTIM_BYTE, SEGMENT);
	MUST(count(&o, VICTIM_BYTE, &bytes) >= HOSTILE_MAX, "%u pages", o.nr);
}

static void old_content(void)
{
	static struct own o;
	uint64_t nr, bytes;

	take_all(&o);
	nr = count(&o, 0, &bytes);
	MUST(bytes >= HOSTILE_MAX - 2 * SEGMENT, "only %llu bytes",
	     (unsigned long long)bytes);
	MUST(nr == 0, "%llu bytes of %llu are not 0", (unsigned long long)nr,
	     (unsigned long long)bytes);
	saw("%llu MiB read, all 0", (unsigned long long)bytes >> 20);
}

/* It says goodbye and keeps its mappings: what comes into that memory? */
static void keeps_mapping(void)
{
	static struct own o;
	uint64_t nr, bytes;

	take_all(&o);
	for (int id = 0; id < 256; id++)
		if (o.segments[id])
			memset(o.segments[id], 0xee, SEGMENT);
	want(raw_release(o.sock, o.handles, o.nr), 0);
	want(raw_bye(o.sock), 0);
	close(o.sock);
	MUST(victim_do(VICTIM_FILL), "%s", w->victim.said);
	nr = count(&o, VICTIM_BYTE, &bytes);
	MUST(victim_do(VICTIM_EMPTY), "%s", w->victim.said);
	MUST(nr == 0, "%llu bytes of the victim's", (unsigned long long)nr);
	saw("%llu MiB kept mapped, none of the victim's in it",
	    (unsigned long long)bytes >> 20);
}

/* ---- kvd's own process ---- */

static void look_into_kvd(void)
{
	char path[64], byte;
	struct iovec to = { &byte, 1 }, from = { (void *)0x400000, 1 };
	int pidfd = (int)syscall(SYS_pidfd_open, w->kvd, 0);

	snprintf(path, sizeof(path), "/proc/%d/mem", (int)w->kvd);
	DENIED(open(path, O_RDWR));
	snprintf(path, sizeof(path), "/proc/%d/fd/3", (int)w->kvd);
	DENIED(open(path, O_RDWR));
	DENIED(syscall(SYS_pidfd_getfd, pidfd, 3, 0));
	DENIED(process_vm_readv(w->kvd, &to, 1, &from, 1, 0));
	DENIED(ptrace(PTRACE_ATTACH, w->kvd, NULL, NULL));
	DENIED(kill(w->kvd, SIGSTOP));
}

static void look_into_victim(void)
{
	char path[64];
	int pidfd = (int)syscall(SYS_pidfd_open, w->victim.pid, 0);

	snprintf(path, sizeof(path), "/proc/%d/mem", (int)w->victim.pid);
	DENIED(open(path, O_RDWR));
	DENIED(syscall(SYS_pidfd_getfd, pidfd, 3, 0));
	DENIED(kill(w->victim.pid, SIGKILL));
}

const struct row rows_memory[] = {
	{ "memory: write mapped", "PROT_WRITE, mprotect of index, statistics, "
	  "a segment opened read-only", write_mapped },
	{ "memory: write", "pwrite, hole, zero range there", write_fd },
	{ "memory: reopen", "/proc/self/fd of them for writing",
	  reopen_writable },
	{ "memory: resize", "to shrink, grow, collapse them, and a writable "
	  "segment", resize },
	{ "memory: seals", "to add seals to them", seal },
	{ "memory: mode", "fchmod, fchown, a lease", chmod_all },
	{ "memory: hole", "a hole in all of its own segment", punch },
	{ "memory: segments", "to map every segment there could be",
	  all_segments },
	{ "memory: late", "to map after close, after bye", map_late },
	{ "memory: old content", "to read memory that a third user had, and "
	  "ended", old_content, third_user },
	{ "memory: kept mapping", "to keep its mappings after a bye, and see "
	  "the victim's pages come", keeps_mapping },
	{ "process: kvd", "its memory, descriptors, ptrace, a signal",
	  look_into_kvd },
	{ "process: victim", "the same of the victim", look_into_victim },
	{ 0 }
};
