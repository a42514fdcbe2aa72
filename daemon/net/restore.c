// SPDX-License-Identifier: Apache-2.0
/*
 * restore.c - the pool, with what a predecessor left in it.
 *
 * mem knows its own descriptors by name, and drops those that it cannot use
 * from the service manager; here they are only closed.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "daemon/mem/mem.h"
#include "daemon/net/dispatch/dispatch.h"
#include "daemon/net/log.h"
#include "daemon/net/restore.h"
#include "daemon/net/state.h"

/* ---- callbacks of mem ---- */

static void on_room(void *ctx)
{
	waiters_retry(ctx);
}

static void on_keep_fd(void *ctx, const char *name, int fd)
{
	struct server *s = ctx;

	if (s->ops->keep_fd)
		s->ops->keep_fd(s->ctx, name, fd);
}

static void on_drop_fd(void *ctx, const char *name)
{
	struct server *s = ctx;

	if (s->ops->drop_fd)
		s->ops->drop_fd(s->ctx, name);
}

static void on_recall(void *ctx, struct mem_client *mc)
{
	dispatch_recall(mem_client_owner(mc));
}

static void on_work(void *ctx)
{
	limits_trim(ctx);
}

static const struct mem_ops restore_mem_ops = {
	.room = on_room,
	.keep_fd = on_keep_fd,
	.drop_fd = on_drop_fd,
	.recall = on_recall,
	.changed = events_on_change,
	.work = on_work,
};

/* ---- the pool ---- */

static void close_unknown(struct server_fd *fds, size_t nr)
{
	size_t i;

	for (i = 0; i < nr; i++) {
		if (fds[i].fd < 0)
			continue;
		log_line(LOG_NOTICE, "descriptor %s of a predecessor is of no "
			 "use, closed", fds[i].name);
		close(fds[i].fd);
		fds[i].fd = -1;
	}
}

static int new_mem(struct server *s, struct server_fd *fds, size_t nr_fds,
		   char *note, size_t note_bytes)
{
	struct mem_config cfg = { .policy = s->cfg.policy,
				  .pool_bytes = s->cfg.pool_bytes,
				  .segment_bytes = s->cfg.segment_bytes };
	const struct server_config *sc = &s->cfg;
	struct mem_fd *mfds = calloc(nr_fds + 1, sizeof(*mfds));
	size_t i;
	int r;

	if (!mfds)
		return -ENOMEM;
	cfg.marks.low = sc->low_bytes;
	cfg.marks.high = sc->high_bytes;
	cfg.marks_bounded = !sc->watermark_low.set && !sc->watermark_high.set;
	for (i = 0; i < nr_fds; i++)
		mfds[i] = (struct mem_fd){ fds[i].name, fds[i].fd };
	r = mem_new(&cfg, &restore_mem_ops, s, s->dev, mfds, nr_fds, note,
		    note_bytes, &s->mem);
	for (i = 0; i < nr_fds; i++)
		fds[i].fd = mfds[i].fd;
	free(mfds);
	return r;
}

static void log_restored(const struct server *s, const char *note)
{
	struct mem_stat st;

	mem_stat(s->mem, &st);
	log_about(LOG_INFO,
		  &(struct log_about){
			  .pages = st.pages.total - st.pages.of[PAGE_FREE],
			  .bytes = st.bytes.total - st.bytes.of[PAGE_FREE] },
		  "%s", note);
}

int restore_pool(struct server *s, struct server_fd *fds, size_t nr_fds,
		 char *why, size_t why_bytes)
{
	char note[256] = "";
	int r;

	r = new_mem(s, fds, nr_fds, note, sizeof(note));
	if (r < 0) {
		snprintf(why, why_bytes, "pool of %llu bytes: %s%s%s",
			 (unsigned long long)s->cfg.pool_bytes, strerror(-r),
			 note[0] ? ": " : "", note);
		return r;
	}
	if (note[0] && nr_fds > 0)
		log_restored(s, note);
	close_unknown(fds, nr_fds);
	return 0;
}
