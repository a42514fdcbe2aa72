// SPDX-License-Identifier: Apache-2.0
/*
 * session_client.c - what a daemon may answer, to the library.
 *
 * The library is called as a worker would, in an order out of the input; at
 * the other end of each of its connections is reply.c. Some calls of libc are
 * wrapped: connecting makes a socketpair, what is sent is answered at once,
 * and where nothing has come the input decides between silence and the end.
 * Time stands still but for those who wait, so nothing sleeps.
 *
 * The library may fail in any way it says, and must let go of everything.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <kvd/events.h>
#include <kvd/kvd.h>
#include "tests/fuzz/bytes.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/reply.h"
#include "tests/support/check.h"

#define MAX_OPS	   48
#define NR_SEQS	   3
#define MAX_TOKENS (REPLY_TOKENS * (REPLY_BLOCKS + 2))
#define DIM	   32u

static struct bytes in;
static int lib_fd = -1, daemon_fd = -1;
static uint64_t now_ns;

/* ---- libc ---- */

int __wrap_connect(int fd, const struct sockaddr *a, socklen_t len);
ssize_t __wrap_sendmsg(int fd, const struct msghdr *m, int flags);
ssize_t __wrap_recvmsg(int fd, struct msghdr *m, int flags);
int __wrap_ppoll(struct pollfd *p, nfds_t nr, const struct timespec *ts,
		 const sigset_t *mask);
int __wrap_clock_gettime(clockid_t id, struct timespec *ts);
int __wrap_clock_nanosleep(clockid_t id, int flags, const struct timespec *ts,
			   struct timespec *left);
int __wrap_sched_yield(void);
ssize_t __real_sendmsg(int fd, const struct msghdr *m, int flags);
ssize_t __real_recvmsg(int fd, struct msghdr *m, int flags);

static void hang_up(void)
{
	if (daemon_fd >= 0)
		close(daemon_fd);
	daemon_fd = -1;
}

int __wrap_connect(int fd, const struct sockaddr *a, socklen_t len)
{
	int sv[2];

	hang_up();
	if (!in.nr) { /* the end: there is no daemon any more */
		errno = ECONNREFUSED;
		return -1;
	}
	CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv) == 0 &&
	      dup3(sv[0], fd, O_CLOEXEC) == fd, "socketpair");
	close(sv[0]);
	lib_fd = fd;
	daemon_fd = sv[1];
	return 0;
}

ssize_t __wrap_sendmsg(int fd, const struct msghdr *m, int flags)
{
	ssize_t n = __real_sendmsg(fd, m, flags);

	if (n > 0 && fd == lib_fd && daemon_fd >= 0 && reply_to(daemon_fd) < 0)
		hang_up();
	return n;
}

/* Nothing is there: something unasked comes, or the end, or nothing. */
static void wait_for_more(void)
{
	if (daemon_fd < 0)
		return;
	if (bytes_get(&in, 1) & 1) {
		if (reply_unasked(daemon_fd) < 0)
			hang_up();
	} else {
		now_ns += 10000000000ull;
	}
}

ssize_t __wrap_recvmsg(int fd, struct msghdr *m, int flags)
{
	ssize_t n = __real_recvmsg(fd, m, flags | MSG_DONTWAIT);

	if (n >= 0 || errno != EAGAIN || fd != lib_fd ||
	    flags & MSG_DONTWAIT)
		return n;
	wait_for_more();
	return __real_recvmsg(fd, m, flags | MSG_DONTWAIT);
}

int __wrap_ppoll(struct pollfd *p, nfds_t nr, const struct timespec *ts,
		 const sigset_t *mask)
{
	int n = poll(p, nr, 0);

	if (n || p->fd != lib_fd)
		return n;
	wait_for_more();
	return poll(p, nr, 0);
}

int __wrap_clock_gettime(clockid_t id, struct timespec *ts)
{
	now_ns += 1000;
	ts->tv_sec = (time_t)(now_ns / 1000000000);
	ts->tv_nsec = (long)(now_ns % 1000000000);
	return 0;
}

int __wrap_clock_nanosleep(clockid_t id, int flags, const struct timespec *ts,
			   struct timespec *left)
{
	uint64_t ns = (uint64_t)ts->tv_sec * 1000000000 + (uint64_t)ts->tv_nsec;

	now_ns = ns > now_ns ? ns : now_ns;
	return 0;
}

/* Nobody is writing: on a busy machine each would cost a turn of all others. */
int __wrap_sched_yield(void)
{
	return 0;
}

/* ---- a worker ---- */

static struct kvd *k;
static struct kvd_space *sp;
static struct kvd_seq *seqs[NR_SEQS];
static uint32_t tokens[MAX_TOKENS];
static float rows[REPLY_TOKENS * DIM];

static struct kvd_seq *any_seq(void)
{
	return seqs[bytes_get(&in, 1) % NR_SEQS];
}

static int on_block(const struct kvd_block *b, void *ctx)
{
	return b->nr_tokens > 1024;
}

static void on_event(const struct kvd_event *e, void *ctx)
{
	volatile uint8_t sum = 0;

	for (uint32_t i = 0; e->block.tokens && i < e->block.nr_tokens; i++)
		sum = (uint8_t)(sum + e->block.tokens[i]);
}

static void open_all(void)
{
	struct kvd_connect_opts c = { .size = sizeof(c), .socket = "/kvd",
				      .program = "fuzz" };
	struct kvd_space_opts o = { .size = sizeof(o), .nr_threads = 1 };

	if (!k && kvd_connect(&c, &k) < 0)
		return;
	o.geometry = reply_geometry();
	o.read_only = bytes_get(&in, 1) >= 0xf0;
	if (!sp)
		kvd_space_open(k, &o, &sp);
}

static void seq_new(void)
{
	struct kvd_seq_opts o = { .size = sizeof(o) };
	unsigned i = (unsigned)bytes_get(&in, 1) % NR_SEQS;

	kvd_seq_free(seqs[i]);
	seqs[i] = NULL;
	kvd_seq_new(sp, &o, &seqs[i]);
}

static int feed_layer(const struct kvd_item *item, uint32_t group,
		      uint32_t layer)
{
	struct kvd_append_args a = { .size = sizeof(a), .items = item,
				     .nr_items = 1, .k = rows, .v = rows,
				     .group = group, .layer = layer };
	float out[REPLY_TOKENS * DIM];
	struct kvd_attend_args t = { .size = sizeof(t), .items = item,
				     .nr_items = 1, .nr_q_heads = 1,
				     .q = rows, .out = out,
				     .group = group, .layer = layer };
	int r = kvd_append(sp, &a);

	return r ? r : kvd_attend(sp, &t);
}

/* New tokens: stored, read back, committed. */
static void feed(struct kvd_seq *seq)
{
	struct kvd_item item = { seq, 1 + (uint32_t)bytes_get(&in, 1) %
					      REPLY_TOKENS };
	size_t at = kvd_seq_tokens(seq);
	int r = 0;

	if (at + item.nr_tokens > MAX_TOKENS)
		return;
	for (uint32_t g = 0; g < REPLY_GROUPS; g++)
		for (uint32_t l = 0; !r && l <= g; l++)
			r = feed_layer(&item, g, l);
	if (!r)
		kvd_commit(seq, tokens + at, item.nr_tokens, NULL);
}

/* A match that waits: all of it here, or a step. */
static void match(struct kvd_seq *seq, unsigned how)
{
	size_t n = how * 2 % MAX_TOKENS, more;

	switch (how % 4) {
	case 1:
		kvd_seq_match_wait(seq, tokens, n, how * 100, &n);
		break;
	case 2:
		kvd_seq_match_begin(seq, tokens, n, how * 100, &n, &more);
		break;
	case 3:
		kvd_seq_match_next(seq, &n, &more);
		break;
	default:
		break;
	}
}

static void change(unsigned op, struct kvd_seq *seq)
{
	unsigned i = (unsigned)bytes_get(&in, 1);
	struct kvd_page pages[4];
	size_t n;

	switch (op) {
	case 0:
		kvd_seq_match(seq, tokens, i * 2 % MAX_TOKENS, &n);
		break;
	case 1:
		kvd_truncate(seq, i, NULL);
		break;
	case 2:
		kvd_seq_free(seqs[i % NR_SEQS]);
		seqs[i % NR_SEQS] = NULL;
		if (seq != NULL && any_seq() == seq)
			kvd_fork(seq, NULL, &seqs[i % NR_SEQS]);
		break;
	case 3:
		kvd_seq_pin(seq, 1000, &n);
		break;
	case 4:
		kvd_seq_unpin(seq);
		break;
	case 5:
		kvd_seq_reserve(seq, i);
		break;
	case 6:
		kvd_seq_pages(seq, 0, pages, 4, &n);
		match(seq, i);
		break;
	default:
		feed(seq);
	}
}

static void on_space(unsigned op)
{
	struct kvd_subscribe_opts s = { .size = sizeof(s), .space = sp };
	struct kvd_space_info info = { .size = sizeof(info) };
	struct kvd_page pages[3];

	switch (op) {
	case 0:
		s.events = KVD_SUBSCRIBE_BLOCKS | KVD_SUBSCRIBE_TOKENS;
		kvd_subscribe(k, &s, on_event, NULL);
		break;
	case 1:
		s.events = KVD_SUBSCRIBE_PRESSURE;
		s.space = NULL;
		kvd_subscribe(k, &s, on_event, NULL);
		break;
	case 2:
		kvd_space_blocks(sp, on_block, NULL);
		kvd_space_info(sp, &info);
		break;
	case 3:
		if (kvd_page_alloc(sp, 1, 3, pages) == 0)
			kvd_page_free(sp, pages, 3);
		break;
	case 4:
		kvd_ping(k);
		break;
	default:
		kvd_process(k);
	}
}

static void step(void)
{
	unsigned op = (unsigned)bytes_get(&in, 1) % 32;
	struct kvd_seq *seq;

	if (!k || !sp) {
		open_all();
	} else if (op < 4) {
		seq_new();
	} else if (op < 20) {
		seq = any_seq();
		if (seq)
			change(op % 8, seq);
		else
			seq_new();
	} else if (op < 28) {
		on_space(op - 20);
	} else if (op < 30) {
		reply_bend();
	} else if (daemon_fd >= 0 && reply_unasked(daemon_fd) < 0) {
		hang_up();
	}
	CHECK(!k || memchr(kvd_error(k), 0, 512), "a text has no end");
}

static void close_all(void)
{
	for (int i = 0; i < NR_SEQS; i++) {
		kvd_seq_free(seqs[i]);
		seqs[i] = NULL;
	}
	kvd_space_close(sp);
	kvd_close(k);
	hang_up();
	sp = NULL;
	k = NULL;
	lib_fd = -1;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	in = (struct bytes){ data, size };
	now_ns = 1000000000;
	for (uint32_t i = 0; i < MAX_TOKENS; i++)
		tokens[i] = reply_token(i);
	reply_reset(&in);
	for (int i = 0; i < MAX_OPS && in.nr; i++)
		step();
	close_all();
	return 0;
}
