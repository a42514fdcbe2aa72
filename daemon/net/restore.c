// SPDX-License-Identifier: Apache-2.0
/*
 * restore.c - device and pool, with what a predecessor left.
 *
 * mem knows its own descriptors by name, and drops those that it cannot use
 * from the service manager; here they are only closed. Notes are kept beside
 * them, a word of text in a memfd each.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "daemon/dev/dev.h"
#include "daemon/mem/mem.h"
#include "daemon/net/dispatch/dispatch.h"
#include "daemon/net/log.h"
#include "daemon/net/restore.h"
#include "daemon/net/state.h"
#include "daemon/net/tiers.h"
#include "daemon/util/memfd.h"

/* Notes. */
#define FD_DEVICE "kvd-device"	/* what auto has chosen */
#define FD_MPS	  "kvd-mps"	/* workers were under MPS */

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
	struct client *c = mem_client_owner(mc);

	if (c)
		dispatch_recall(c);
}

static void on_revoked(void *ctx, struct mem_client *mc, uint32_t segment)
{
	dispatch_revoked(mem_client_owner(mc), segment);
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
	.revoked = on_revoked,
};

/* ---- notes ---- */

#define NOTE_BYTES SERVER_DEVICE_BYTES

/* What a predecessor has noted under @name, or empty. It is used up. */
static void take_note(struct server_fd *fds, size_t nr_fds, const char *name,
		      char text[NOTE_BYTES])
{
	ssize_t n;
	size_t i;

	text[0] = '\0';
	for (i = 0; i < nr_fds; i++) {
		if (fds[i].fd < 0 || strcmp(fds[i].name, name) != 0)
			continue;
		n = pread(fds[i].fd, text, NOTE_BYTES - 1, 0);
		text[n < 0 ? 0 : n] = '\0';
		close(fds[i].fd);
		fds[i].fd = -1;
	}
}

static void keep_note(struct server *s, const char *name, const char *text)
{
	int fd = memfd_new(name, strlen(text));

	if (fd >= 0 && pwrite(fd, text, strlen(text), 0) > 0)
		on_keep_fd(s, name, fd);
	else
		log_line(LOG_WARNING, "%s=%s is not noted for a successor: %s",
			 name, text, strerror(errno));
	if (fd >= 0)
		close(fd);
}

void restore_note_mps(struct server *s)
{
	if (s->procs.were_mps)
		return;
	s->procs.were_mps = true;
	keep_note(s, FD_MPS, "yes");
}

/* ---- the device ---- */

/* The wake-up comes on the device's thread. */
static void on_device(void *ctx)
{
	struct server *s = ctx;

	uv_async_send(&s->wake);
}

static int open_device(struct server *s, const char *spec)
{
	return dev_new(spec, on_device, s, &s->dev, s->device_note,
		       sizeof(s->device_note));
}

int restore_device(struct server *s, struct server_fd *fds, size_t nr_fds,
		   char *why, size_t why_bytes)
{
	bool is_auto = strcmp(s->cfg.device, "auto") == 0;
	char chosen[NOTE_BYTES];
	int r = -EINVAL;

	take_note(fds, nr_fds, FD_DEVICE, chosen);
	if (chosen[0] && !is_auto)
		on_drop_fd(s, FD_DEVICE);
	if (chosen[0] && is_auto)
		r = open_device(s, chosen);
	if (r == -EINVAL) { /* none, or of a version to come */
		chosen[0] = '\0';
		r = open_device(s, s->cfg.device);
	}
	if (r < 0) {
		snprintf(why, why_bytes, "device %s: %s%s",
			 chosen[0] ? chosen : s->cfg.device,
			 s->device_note[0] ? s->device_note : strerror(-r),
			 chosen[0] ? "; auto has chosen it before, and clients "
				     "wait for it: `systemctl stop` of the "
				     "socket has another chosen" : "");
		return r;
	}
	log_line(LOG_INFO, "device %s: %s%s", dev_spec(s->dev), s->device_note,
		 chosen[0] ? "; as auto has chosen before" : "");
	if (is_auto && !chosen[0])
		keep_note(s, FD_DEVICE, dev_spec(s->dev));
	return 0;
}

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
				  .tier_bytes = net_tiers_bytes(&s->cfg),
				  .pool_max = s->cfg.pool_max,
				  .on_demand = s->cfg.pool_max &&
					       s->cfg.shrink_ms,
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
	char note[256] = "", mps[NOTE_BYTES];
	int r;

	take_note(fds, nr_fds, FD_MPS, mps);
	s->procs.were_mps = mps[0];
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
