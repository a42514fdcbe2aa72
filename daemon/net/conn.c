// SPDX-License-Identifier: Apache-2.0
/*
 * conn.c - one connection: frames in, frames out, descriptors with them.
 *
 * A request that is answered at once costs epoll_wait, recvmsg and sendmsg,
 * and no allocation.
 */
#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>
#include "daemon/net/conn.h"
#include "daemon/util/fault.h"

/* A frame that the socket did not take yet. */
struct conn_msg {
	TAILQ_ENTRY(conn_msg) link;
	size_t size;
	unsigned nr_fds;
	int fds[WIRE_MAX_FDS];
	uint8_t buf[];
};

static void close_fds(const int *fds, unsigned nr)
{
	unsigned i;

	for (i = 0; i < nr; i++)
		if (fds[i] >= 0)
			close(fds[i]);
}

/* ---- out ---- */

static int send_frame(int fd, const uint8_t *buf, size_t size, const int *fds,
		      unsigned nr_fds)
{
	_Alignas(struct cmsghdr)
	char control[CMSG_SPACE(WIRE_MAX_FDS * sizeof(int))];
	struct iovec iov = { .iov_base = (void *)(uintptr_t)buf,
			     .iov_len = size };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct cmsghdr *cmsg;
	ssize_t n;
	int r = fault_at(FAULT_SEND);

	if (r < 0)
		return r;
	if (nr_fds > 0) {
		msg.msg_control = control;
		msg.msg_controllen = CMSG_SPACE(nr_fds * sizeof(int));
		memset(control, 0, msg.msg_controllen); /* its padding */
		cmsg = CMSG_FIRSTHDR(&msg);
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(nr_fds * sizeof(int));
		memcpy(CMSG_DATA(cmsg), fds, nr_fds * sizeof(int));
	}
	do
		n = sendmsg(fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : 0;
}

static void conn_msg_free(struct conn *c, struct conn_msg *m)
{
	TAILQ_REMOVE(&c->queue, m, link);
	c->nr_queued--;
	c->queued_bytes -= m->size;
	close_fds(m->fds, m->nr_fds);
	free(m);
}

static void conn_on_poll(uv_poll_t *poll, int status, int events);

/* While it does not read, it is not read from either. */
static void conn_listen(struct conn *c)
{
	int events = c->nr_queued > 0 ? UV_WRITABLE : UV_READABLE;

	if (c->wants)
		events |= UV_WRITABLE;
	uv_poll_start(&c->poll, events, conn_on_poll);
}

/*
 * A frame is gone, sent or not. When the peer has closed its end, its last
 * requests are still to be read; any other loss would leave it waiting.
 */
static void conn_sent(struct conn *c, int r)
{
	if (r < 0 && r != -EPIPE && r != -ECONNRESET)
		conn_drop(c);
}

static int conn_enqueue(struct conn *c, const uint8_t *buf, size_t size,
			const int *fds, unsigned nr_fds)
{
	struct conn_msg *m;

	if (c->nr_queued >= CONN_MAX_QUEUED ||
	    c->queued_bytes + size > CONN_MAX_QUEUED_BYTES)
		return -ENOBUFS;
	m = malloc(sizeof(*m) + size);
	if (!m)
		return -ENOMEM;
	memcpy(m->buf, buf, size);
	m->size = size;
	m->nr_fds = nr_fds;
	if (nr_fds > 0)
		memcpy(m->fds, fds, nr_fds * sizeof(int));
	TAILQ_INSERT_TAIL(&c->queue, m, link);
	c->queued_bytes += size;
	if (c->nr_queued++ == 0)
		conn_listen(c);
	return 0;
}

void conn_send(struct conn *c, const uint8_t *buf, size_t size, const int *fds,
	       unsigned nr_fds)
{
	int r = -EAGAIN;

	assert(size <= WIRE_MAX_FRAME && nr_fds <= WIRE_MAX_FDS);
	if (c->dropped)
		goto out;
	if (c->nr_queued == 0)
		r = send_frame(c->fd, buf, size, fds, nr_fds);
	if (r == -EAGAIN) {
		r = conn_enqueue(c, buf, size, fds, nr_fds);
		if (r == 0)
			return;
	}
	conn_sent(c, r);
out:
	close_fds(fds, nr_fds);
}

int conn_try(struct conn *c, const uint8_t *buf, size_t size)
{
	int r = c->nr_queued > 0 ? -EAGAIN : 0;

	assert(size <= WIRE_MAX_FRAME);
	if (c->dropped)
		return -EPIPE;
	if (r == 0)
		r = send_frame(c->fd, buf, size, NULL, 0);
	if (r == -EAGAIN && !c->wants) {
		c->wants = true;
		conn_listen(c);
	}
	if (r < 0 && r != -EAGAIN)
		conn_sent(c, r);
	return r;
}

static void conn_flush(struct conn *c)
{
	struct conn_msg *m;
	int r;

	while ((m = TAILQ_FIRST(&c->queue))) {
		r = send_frame(c->fd, m->buf, m->size, m->fds, m->nr_fds);
		if (r == -EAGAIN)
			return;
		conn_msg_free(c, m);
		conn_sent(c, r);
	}
	conn_listen(c);
}

/* What the peer has not read counts as ours in a local socket. */
bool socket_is_read(int fd)
{
	int bytes = 0;

	return ioctl(fd, TIOCOUTQ, &bytes) < 0 || bytes == 0;
}

bool conn_is_read(const struct conn *c)
{
	return c->nr_queued == 0 && socket_is_read(c->fd);
}

/* ---- in ---- */

/* Descriptors that came with @msg, into io->fds. Return: how many. */
static unsigned take_fds(struct conn_io *io, struct msghdr *msg)
{
	unsigned nr = 0, n;
	struct cmsghdr *cmsg;

	for (cmsg = CMSG_FIRSTHDR(msg); cmsg; cmsg = CMSG_NXTHDR(msg, cmsg)) {
		if (cmsg->cmsg_level != SOL_SOCKET ||
		    cmsg->cmsg_type != SCM_RIGHTS)
			continue;
		n = (unsigned)((cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int));
		assert(nr + n <= CONN_MAX_RECV_FDS);
		memcpy(io->fds + nr, CMSG_DATA(cmsg), n * sizeof(int));
		nr += n;
	}
	return nr;
}

/* Has every descriptor of the peer's end been closed? */
static bool peer_hung_up(int fd)
{
	struct pollfd p = { .fd = fd };

	return poll(&p, 1, 0) == 1 && (p.revents & POLLHUP);
}

static void conn_end(struct conn *c)
{
	bool hung_up = !c->dropped && peer_hung_up(c->fd);

	uv_poll_stop(&c->poll);
	c->dropped = true;
	c->ops->gone(c, hung_up);
	conn_close(c);
}

static void conn_receive(struct conn *c)
{
	struct conn_io *io = c->io;
	struct iovec iov = { .iov_base = io->data, .iov_len = sizeof(io->data) };
	struct msghdr msg = { .msg_iov = &iov,
			      .msg_iovlen = 1,
			      .msg_control = io->control,
			      .msg_controllen = sizeof(io->control) };
	struct conn_frame f = { .buf = io->data, .fds = io->fds };
	ssize_t n;

	n = recvmsg(c->fd, &msg, MSG_DONTWAIT | MSG_TRUNC | MSG_CMSG_CLOEXEC);
	if (n < 0) {
		/*
		 * ECONNRESET: the peer died with replies unread. Its last
		 * requests are still there, then comes the end.
		 */
		if (errno != EAGAIN && errno != EINTR && errno != ECONNRESET)
			conn_end(c);
		return;
	}
	f.size = (size_t)n;
	f.nr_fds = take_fds(io, &msg);
	f.fds_lost = msg.msg_flags & MSG_CTRUNC;
	if (n == 0 || fault_at(FAULT_REQUEST) < 0)
		conn_end(c); /* or an empty message, which is no frame */
	else
		c->ops->frame(c, &f);
	close_fds(f.fds, f.nr_fds);
}

static void conn_on_poll(uv_poll_t *poll, int status, int events)
{
	struct conn *c = poll->data;

	if (c->dropped) {
		conn_end(c);
		return;
	}
	if (status < 0) { /* an error on the socket: recvmsg has it */
		conn_listen(c);
		events = UV_READABLE;
	}
	if (events & UV_WRITABLE)
		conn_flush(c);
	if (events & UV_WRITABLE && c->wants && c->nr_queued == 0) {
		c->wants = false;
		conn_listen(c);
		c->ops->writable(c);
	}
	if (events & UV_READABLE)
		conn_receive(c);
}

/* ---- life ---- */

int conn_init(struct conn *c, uv_loop_t *loop, int fd, struct conn_io *io,
	      const struct conn_ops *ops)
{
	int r;

	c->fd = fd;
	c->ops = ops;
	c->io = io;
	c->nr_queued = 0;
	c->queued_bytes = 0;
	c->wants = false;
	c->dropped = false;
	TAILQ_INIT(&c->queue);
	r = uv_poll_init(loop, &c->poll, fd);
	if (r < 0)
		return r;
	c->poll.data = c;
	conn_listen(c);
	return 0;
}

void conn_drop(struct conn *c)
{
	if (c->dropped)
		return;
	c->dropped = true;
	shutdown(c->fd, SHUT_RDWR);
}

static void conn_on_close(uv_handle_t *handle)
{
	struct conn *c = handle->data;

	c->ops->closed(c);
}

void conn_close(struct conn *c)
{
	struct conn_msg *m;

	while ((m = TAILQ_FIRST(&c->queue)))
		conn_msg_free(c, m);
	uv_close((uv_handle_t *)&c->poll, conn_on_close);
	close(c->fd);
}
