// SPDX-License-Identifier: Apache-2.0
/*
 * client.c - a client from accept to the end.
 *
 * Connected, it is NEW and counted against its user; its hello makes it READY
 * and gives it a mem_client; a bye, or the end of its socket, takes back all
 * it held. Whether its open pages are free at once or quarantined is decided
 * here, and only here.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "daemon/mem/mem.h"
#include "daemon/net/dispatch/dispatch.h"
#include "daemon/net/log.h"
#include "daemon/net/state.h"
#include "daemon/net/throttle.h"

/* Clients over the limit that are kept for an answer to their hello. */
#define CLIENT_MAX_REFUSED 32

static void client_on_frame(struct conn *conn, const struct conn_frame *f)
{
	struct client *c = (struct client *)conn;

	c->nr_requests++;
	c->server->nr_requests++;
	dispatch_frame(c, f);
}

static void client_spaces_free(struct client *c)
{
	struct client_space *sp;

	while ((sp = LIST_FIRST(&c->spaces))) {
		LIST_REMOVE(sp, link);
		free(sp);
	}
}

/* What only a connection can have. */
static void client_give_up(struct client *c)
{
	waiters_cancel(c);
	throttle_cancel(c);
	events_forget(c);
	flights_forget(c);
	client_spaces_free(c);
}

void client_release(struct client *c, enum mem_end end)
{
	struct proc *p = c->proc;

	if (end == MEM_END_BYE && p && c->series)
		away_end(c->server, p, c->series);
	client_give_up(c);
	mem_client_free(c->mem, end);
	c->mem = NULL;
	c->proc = NULL;
	if (p)
		proc_put(p, end != MEM_END_DEAD);
}

static void client_unlink(struct client *c)
{
	struct server *s = c->server;

	TAILQ_REMOVE(c->state == CLIENT_NEW ? &s->greeting : &s->clients, c,
		     link);
	peer_fini(&c->peer);
	s->nr_clients--;
	c->user->nr_clients--;
	if (c->refused)
		s->nr_refused--;
}

struct log_about client_about(const struct client *c)
{
	return (struct log_about){ .client = c->id,
				   .peer = &c->peer,
				   .tenant = c->tenant ? c->tenant->name :
							 NULL };
}

/* It has gone without a goodbye. @ended: its process has, too. */
static void client_log_gone(struct client *c, bool ended)
{
	struct log_about about = client_about(c);
	struct mem_client_stat st;

	mem_client_stat(c->mem, &st);
	about.pages = st.held_pages;
	about.bytes = st.bytes;
	if (!st.held_pages) {
		log_about(LOG_DEBUG, &about, "client %u (pid %d, %s) has gone",
			  c->id, (int)c->peer.pid, c->program);
		return;
	}
	log_limited(&c->server->lost_logged_ms, LOG_INFO, &about,
		    "client %u (pid %d, %s) of tenant %s has gone and left "
		    "%" PRIu64 " pages, %" PRIu64 " of them open%s", c->id,
		    (int)c->peer.pid, c->program, c->tenant->name,
		    st.held_pages, st.open_pages,
		    ended ? "" :
		    away_may_begin(c) ? ": kept for its next connection, until its "
				"process has ended, grace= at most" :
		    !st.open_pages ? "" :
		    c->proc->mps ? ": quarantined, until MPS does not list it" :
				   ": quarantined, until its process has ended");
}

/* How much is known of the end of one that has gone without a bye. */
static enum mem_end client_end(const struct client *c)
{
	if (!c->proc) /* it never had a page */
		return MEM_END_BYE;
	return proc_quiesced(c->proc) ? MEM_END_DEAD : MEM_END_UNKNOWN;
}

static void client_on_gone(struct conn *conn, bool hung_up)
{
	struct client *c = (struct client *)conn;
	enum mem_end end;

	client_unlink(c);
	user_leave_fds(c);
	if (c->state != CLIENT_READY)
		return;
	if (!hung_up && c->proc)
		proc_unseen(c->proc);
	end = client_end(c);
	client_log_gone(c, end != MEM_END_UNKNOWN);
	if (end == MEM_END_UNKNOWN && away_begin(c))
		client_give_up(c);
	else
		client_release(c, end);
}

static void client_on_writable(struct conn *conn)
{
	events_writable((struct client *)conn);
}

static void client_on_closed(struct conn *conn)
{
	free((struct client *)conn);
}

static const struct conn_ops client_conn_ops = {
	.frame = client_on_frame,
	.gone = client_on_gone,
	.writable = client_on_writable,
	.closed = client_on_closed,
};

static bool is_admin(const struct server *s, const struct peer *p)
{
	if (p->uid == 0 || p->uid == geteuid())
		return true;
	return s->cfg.admin_gid != (gid_t)-1 &&
	       peer_in_group(p, s->cfg.admin_gid);
}

void clients_check_admin(struct server *s)
{
	struct client *c;

	TAILQ_FOREACH(c, &s->clients, link)
		c->admin = is_admin(s, &c->peer);
	TAILQ_FOREACH(c, &s->greeting, link)
		c->admin = is_admin(s, &c->peer);
}

/* 0, or why there is no place for one more of this user. */
static int check_limits(const struct server *s, const struct user *u)
{
	if (s->nr_clients - s->nr_refused >= s->cfg.max_clients ||
	    u->nr_clients >= s->cfg.max_clients_per_user)
		return -EUSERS;
	return 0;
}

void client_on_accept(void *ctx, int fd)
{
	struct client *c = calloc(1, sizeof(*c));
	struct server *s = ctx;

	if (!c || peer_get(fd, &c->peer) < 0)
		goto out_free;
	c->user = user_get(s, c->peer.uid);
	if (!c->user)
		goto out_peer;
	c->refused = check_limits(s, c->user);
	if (c->refused) {
		log_limited(&s->logged_ms, LOG_WARNING,
			    &(struct log_about){ .peer = &c->peer },
			    "too many clients: one of uid %u was refused",
			    (unsigned)c->peer.uid);
		if (s->nr_refused >= CLIENT_MAX_REFUSED)
			goto out_peer;
	}
	if (conn_init(&c->conn, &s->loop, fd, &s->io, &client_conn_ops) < 0)
		goto out_peer;
	c->server = s;
	c->state = CLIENT_NEW;
	c->id = ++s->last_id;
	c->admin = is_admin(s, &c->peer);
	c->since_ms = uv_now(&s->loop);
	LIST_INIT(&c->spaces);
	LIST_INIT(&c->waiters);
	LIST_INIT(&c->throttled);
	LIST_INIT(&c->events.subscriptions);
	TAILQ_INIT(&c->flights);
	LIST_INIT(&c->flight_waits);
	TAILQ_INSERT_TAIL(&s->greeting, c, link);
	s->nr_clients++;
	c->user->nr_clients++;
	s->nr_refused += c->refused != 0;
	return;

out_peer:
	peer_fini(&c->peer);
out_free:
	free(c);
	close(fd);
}

void clients_expire(struct server *s)
{
	uint64_t now = uv_now(&s->loop);
	struct log_about about;
	struct client *c;

	TAILQ_FOREACH(c, &s->greeting, link) {
		if (now - c->since_ms < s->cfg.hello_ms)
			return;
		about = client_about(c);
		log_about(LOG_DEBUG, &about, "client %u said no hello", c->id);
		conn_drop(&c->conn);
	}
}

void clients_abandon(struct server *s)
{
	struct client_list *lists[] = { &s->clients, &s->greeting };
	struct client *c;
	unsigned i;

	for (i = 0; i < 2; i++) {
		while ((c = TAILQ_FIRST(lists[i]))) {
			client_unlink(c);
			client_give_up(c);
			conn_close(&c->conn);
		}
	}
}

struct client_space *client_space_find(const struct client *c, uint32_t id)
{
	struct client_space *sp;

	LIST_FOREACH(sp, &c->spaces, link)
		if (sp->id == id)
			return sp;
	return NULL;
}

/* ---- pressure ---- */

/* Finer than uv_now(): a wait is often shorter than its milliseconds. */
uint64_t stall_now_us(void)
{
	return uv_hrtime() / 1000;
}

void client_stall_begin(struct client *c)
{
	uint64_t now_us = stall_now_us();

	pressure_begin(&c->tenant->pressure, now_us);
	pressure_begin(&c->server->pressure, now_us);
}

void client_stall_end(struct client *c)
{
	uint64_t now_us = stall_now_us();

	pressure_end(&c->tenant->pressure, now_us);
	pressure_end(&c->server->pressure, now_us);
}
