/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kill.c - the daemon is killed at any instruction.
 *
 * A child is the daemon and its worker in one: it writes into pages, then
 * publishes them, as fast as it can, until it gets SIGKILL. The parent is the
 * service manager: descriptors come to it over a socket as they are kept and
 * dropped. What the child knew to be published and held is in memory both
 * share (a promise: made after mem_publish(), taken back before the release).
 * After each kill the parent makes a pool from the descriptors, verifies it,
 * and finds every promise kept and every indexed page to hold what its name
 * says. Then the next child goes on from there. KVD_SEED repeats the child's
 * choices, not the moment of death. With KVD_KILL_RESIZE the child's pool is made
 * smaller and larger, and pages move.
 */
#include "tests/mem/fixture.h"
#include "daemon/mem/elastic.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define KILLS  60
#define SEQS   8
#define DEPTHS 30
#define CLASSES 3

/* 64 and 16 KiB, the first group sealed in 18 and the second exact. */
static const uint32_t shape[] = { 4, 1, 0 };

static struct mem_space *open_space(struct mem_client *c)
{
	struct mem_space_key key = fx_kivi_key(1, shape, 1 << 1);

	return fx_open(c, &key);
}

struct store {
	struct kept kept[MAX_KEPT];
	int sock[2];		/* parent's, child's */
};

struct shared {
	_Atomic uint64_t promise[SEQS][DEPTHS][CLASSES];
	_Atomic uint64_t nr_published, nr_moved;
};

static struct store store;
static struct shared *shared;
static uint64_t rng;

static uint32_t below(uint32_t n)
{
	rng ^= rng >> 12;
	rng ^= rng << 25;
	rng ^= rng >> 27;
	return (uint32_t)((rng * 0x2545f4914f6cdd1dULL) >> 33) % n;
}

/* ---- the service manager ---- */

static void store_send(const char *name, int fd)
{
	union {
		struct cmsghdr h;
		char buf[CMSG_SPACE(sizeof(int))];
	} c = { .h = { .cmsg_len = CMSG_LEN(sizeof(int)),
		       .cmsg_level = SOL_SOCKET,
		       .cmsg_type = SCM_RIGHTS } };
	struct iovec iov = { (void *)(uintptr_t)name, strlen(name) + 1 };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (fd >= 0) {
		memcpy(CMSG_DATA(&c.h), &fd, sizeof(fd));
		msg.msg_control = c.buf;
		msg.msg_controllen = sizeof(c.buf);
	}
	if (sendmsg(store.sock[1], &msg, 0) < 0)
		_exit(10);
}

static void store_keep(const char *name, int fd)
{
	for (int i = 0; i < MAX_KEPT; i++)
		if (!store.kept[i].name[0]) {
			snprintf(store.kept[i].name,
				 sizeof(store.kept[i].name), "%s", name);
			store.kept[i].fd = fd;
			return;
		}
	fail_msg("too many descriptors");
}

static void store_drop(const char *name)
{
	for (int i = 0; i < MAX_KEPT; i++)
		if (strcmp(store.kept[i].name, name) == 0) {
			close(store.kept[i].fd);
			store.kept[i].name[0] = '\0';
		}
}

/* What the child said before it died, in its order. */
static void store_receive(void)
{
	for (;;) {
		union {
			struct cmsghdr h;
			char buf[CMSG_SPACE(sizeof(int))];
		} c;
		char name[32] = "";
		struct iovec iov = { name, sizeof(name) - 1 };
		struct msghdr msg = {
			.msg_iov = &iov, .msg_iovlen = 1,
			.msg_control = c.buf, .msg_controllen = sizeof(c.buf),
		};
		int fd;

		if (recvmsg(store.sock[0], &msg,
			    MSG_DONTWAIT | MSG_CMSG_CLOEXEC) < 0)
			return;
		if (!CMSG_FIRSTHDR(&msg)) {
			store_drop(name);
			continue;
		}
		memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(fd));
		store_keep(name, fd);
	}
}

/* ---- a pool in either process ---- */

static void no_room(void *ctx)
{
}

static void send_keep(void *ctx, const char *name, int fd)
{
	store_send(name, fd);
}

static void send_drop(void *ctx, const char *name)
{
	store_send(name, -1);
}

static uint32_t revoked[16];	/* segments, to be unmapped */
static uint32_t nr_revoked;

static void note_revoked(void *ctx, struct mem_client *c, uint32_t segment)
{
	if (nr_revoked == 16)
		_exit(15);
	revoked[nr_revoked++] = segment;
}

static const struct mem_ops ops = {
	.room = no_room,
	.keep_fd = send_keep,
	.drop_fd = send_drop,
	.revoked = note_revoked,
};

static void no_wake(void *ctx)
{
}

static void pool_new(struct fx *f)
{
	struct mem_fd fds[MAX_KEPT];
	size_t nr = 0;

	memset(f, 0, sizeof(*f));
	f->cfg.pool_bytes = 12 * MIB;
	f->cfg.segment_bytes = 4 * MIB;
	for (int i = 0; i < MAX_KEPT; i++)
		if (store.kept[i].name[0]) {
			fds[nr].name = store.kept[i].name;
			fds[nr++].fd = fcntl(store.kept[i].fd,
					     F_DUPFD_CLOEXEC, 0);
		}
	if (dev_new("host", no_wake, NULL, &f->dev, f->note,
		    sizeof(f->note)) < 0 ||
	    mem_new(&f->cfg, &ops, NULL, f->dev, fds, nr, f->note,
		    sizeof(f->note), &f->m) < 0)
		_exit(11);
	for (size_t i = 0; i < nr; i++)
		if (fds[i].fd >= 0)
			close(fds[i].fd);
}

/* Both ends of a page, as the daemon's own mapping shows them. */
static void page_ends(struct mem_space *s, place_t place, uint32_t class,
		      volatile uint64_t **first, volatile uint64_t **last)
{
	const struct dev_segment *seg;
	uint32_t bytes = mem_space_class(s, class)->page_bytes;
	char *base;

	if (mem_segment_get(s, place_segment(place), &seg) < 0)
		_exit(12);
	base = (char *)(uintptr_t)seg->base + place_offset(place);
	*first = (volatile uint64_t *)(void *)base;
	*last = (volatile uint64_t *)(void *)(base + bytes - 8);
}

static uint64_t content(uint32_t seq, uint32_t depth, uint32_t class)
{
	return 1 + ((uint64_t)seq << 32 | depth << 8 | class);
}

/* ---- the child ---- */

struct child {
	struct fx f;
	struct mem_client *c;
	struct mem_space *s;
	handle_t held[SEQS][DEPTHS][CLASSES];
};

static void child_publish(struct child *ch, uint32_t seq, uint32_t depth)
{
	handle_t h[CLASSES], out[MEM_MAX_CLASSES];
	place_t place[CLASSES], kept[MEM_MAX_CLASSES];
	struct mem_block b;
	uint64_t need;

	for (uint32_t i = 0; i < CLASSES; i++) {
		volatile uint64_t *first, *last;

		if (ch->held[seq][depth][i])
			return;
		if (mem_alloc(ch->c, ch->s, i, 1, &h[i], &place[i], &need)) {
			while (i--)
				fx_release(ch->c, h[i]);
			dev_drain(ch->f.dev);
			return;
		}
		page_ends(ch->s, place[i], i, &first, &last);
		*first = content(seq, depth, i);
		*last = content(seq, depth, i);
	}
	b = fx_block(ch->s, seq, depth);
	memcpy(b.pages, h, sizeof(h));
	if (mem_publish(ch->c, ch->s, &b, false, out, kept) < 0)
		_exit(13);
	for (uint32_t i = 0; i < CLASSES; i++) {
		if (out[i] != h[i])
			fx_release(ch->c, h[i]);
		ch->held[seq][depth][i] = out[i];
		shared->promise[seq][depth][i] = out[i];
	}
	shared->nr_published++;
}

static void child_release(struct child *ch, uint32_t seq, uint32_t depth)
{
	for (uint32_t i = 0; i < CLASSES; i++) {
		handle_t h = ch->held[seq][depth][i];

		if (!h)
			continue;
		shared->promise[seq][depth][i] = 0;
		fx_release(ch->c, h);
		ch->held[seq][depth][i] = 0;
	}
}

/* Holds again what is promised, so that reclaim leaves it alone. */
static void child_claim(struct child *ch)
{
	for (uint32_t i = 0; i < SEQS * DEPTHS * CLASSES; i++) {
		handle_t h = (&shared->promise[0][0][0])[i];

		if (!h)
			continue;
		if (mem_claim(ch->c, ch->s, h, 1) < 0)
			_exit(14);
		(&ch->held[0][0][0])[i] = h;
	}
}

static bool nobody(pid_t pid, uint64_t start_time)
{
	return false;
}

/* Another size, or a step on the way to it. */
static void child_resize(struct child *ch)
{
	struct mem_size was, is;

	mem_size(ch->f.m, &was);
	if (below(20) == 0)
		mem_resize(ch->f.m, (4 + below(9)) * (uint64_t)MIB);
	dev_reap(ch->f.dev);
	mem_trim(ch->f.m);
	while (nr_revoked)
		mem_unmapped(ch->c, revoked[--nr_revoked]);
	mem_size(ch->f.m, &is);
	shared->nr_moved += is.moved - was.moved;
}

static void child_run(void)
{
	static struct child ch;
	bool resizes = getenv("KVD_KILL_RESIZE");

	pool_new(&ch.f);
	ch.c = fx_client(&ch.f, getpid(), "t", 0);
	ch.s = open_space(ch.c);
	child_claim(&ch);
	for (uint64_t i = 0;; i++) {
		uint32_t seq = below(SEQS), depth = below(DEPTHS);

		if (below(5) < 3)
			child_publish(&ch, seq, depth);
		else
			child_release(&ch, seq, depth);
		if (i == 200)
			mem_grace_end(ch.f.m, nobody);
		if (resizes)
			child_resize(&ch);
	}
}

/* ---- the parent ---- */

static uint32_t check_page(struct fx *f, struct mem_client *c,
			   struct mem_space *s, uint32_t seq, uint32_t depth,
			   uint32_t class)
{
	handle_t promised = shared->promise[seq][depth][class];
	handle_t h = fx_lookup(s, seq, depth, class);
	volatile uint64_t *first, *last;
	place_t place;

	if (promised)
		assert_int_equal(h, promised);
	if (!h)
		return 0;
	assert_int_equal(mem_match(c, s, &h, 1, &place), 1);
	page_ends(s, place, class, &first, &last);
	assert_int_equal(*first, content(seq, depth, class));
	assert_int_equal(*last, content(seq, depth, class));
	fx_release(c, h);
	return 1;
}

/* Return: pages found in the index. */
static uint32_t check(void)
{
	struct mem_client *c;
	struct mem_space *s;
	struct fx f;
	uint32_t found = 0;

	pool_new(&f);
	store_receive();
	fx_verify(&f);
	c = fx_client(&f, 1, "t", 0);
	s = open_space(c);
	for (uint32_t i = 0; i < SEQS * DEPTHS * CLASSES; i++)
		found += check_page(&f, c, s, i / CLASSES / DEPTHS,
				    i / CLASSES % DEPTHS, i % CLASSES);
	dev_drain(f.dev);
	store_receive();
	fx_verify(&f);
	mem_free(f.m);
	dev_free(f.dev);
	store_receive();
	return found;
}

/* Enough of them? Where all is slow, children die before they get far. */
static bool killed_enough(int kills)
{
	bool moved = shared->nr_moved || !getenv("KVD_KILL_RESIZE");

	return kills >= (moved ? KILLS : 10 * KILLS);
}

static void test_kill(void **state)
{
	uint32_t found = 0;
	int i;

	for (i = 0; !killed_enough(i); i++) {
		pid_t child = fork();
		int status;

		assert_true(child >= 0);
		if (child == 0)
			child_run();
		usleep(500 + below(i % 4 ? 20000 : 3000));
		kill(child, SIGKILL);
		assert_int_equal(waitpid(child, &status, 0), child);
		if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)
			fail_msg("the child ended with %x", status);
		store_receive();
		found += check();
		below(1);
	}
	printf("%llu blocks published, %u found after %d kills, %llu moved\n",
	       (unsigned long long)shared->nr_published, found, i,
	       (unsigned long long)shared->nr_moved);
	assert_true(shared->nr_published > 0 && found > 0);
	assert_true(shared->nr_moved || !getenv("KVD_KILL_RESIZE"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_kill),
	};
	const char *seed = getenv("KVD_SEED");

	rng = seed ? strtoull(seed, NULL, 0) :
		     (uint64_t)time(NULL) * 2654435761u;
	rng |= 1;
	printf("KVD_SEED=%llu\n", (unsigned long long)rng);
	fflush(stdout);
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED ||
	    socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0,
		       store.sock) < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
