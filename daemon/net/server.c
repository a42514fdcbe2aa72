// SPDX-License-Identifier: Apache-2.0
/*
 * server.c - the daemon's loop: what is on it, and in which order it goes.
 *
 * Timers, signals, the listening socket, the device's wake-up; connections
 * add themselves. Nothing here blocks once server_run() has begun.
 *
 * At the end clients are let go of, not released: with a service manager that
 * keeps descriptors, a stop may be half of a restart, and what they hold has
 * to be there when they come back. Without one it ends with the process.
 */
#include <errno.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>
#include "daemon/dev/dev.h"
#include "daemon/mem/mem.h"
#include "daemon/net/ahead.h"
#include "daemon/net/log.h"
#include "daemon/net/restore.h"
#include "daemon/net/state.h"
#include "daemon/net/tiers.h"

/* Besides two for each client: segments, spaces, our own. */
#define MORE_FDS 8192u

/* A device job that runs for longer than this is not health. */
#define STUCK_NS (10ULL * 1000 * 1000 * 1000)

#define TRIM_MS 10000u

/* ---- the device ---- */

/*
 * A new process is what the driver wants, and all that is left to ask for. It
 * takes over what the service manager keeps; clients wait for it meanwhile.
 */
static void device_is_lost(struct server *s)
{
	s->lost = true;
	log_line(LOG_CRIT, "%s: lost to an error of the driver that stays; "
		 "kvd ends, to be started again (systemd does)",
		 dev_spec(s->dev));
	s->ops->status(s->ctx, "device lost, to be started again");
	uv_stop(&s->loop);
}

static void on_wake(uv_async_t *wake)
{
	struct server *s = wake->data;

	if (!s->dev)
		return;
	dev_reap(s->dev);
	if (!s->lost && dev_lost(s->dev))
		device_is_lost(s);
}

/* ---- the tick ---- */

static void update_status(struct server *s)
{
	char line[sizeof(s->status)];
	struct mem_stat st;

	mem_stat(s->mem, &st);
	snprintf(line, sizeof(line),
		 "%s: %u clients, %u spaces, %llu of %llu MiB in use%s",
		 dev_spec(s->dev), s->nr_clients, st.nr_spaces,
		 (unsigned long long)(st.bytes.total -
				      st.bytes.of[PAGE_FREE]) >> 20,
		 (unsigned long long)st.bytes.total >> 20,
		 s->stuck ? ", device stuck" :
		 mem_in_grace(s->mem) ? ", waiting for claims" : "");
	if (strcmp(line, s->status) == 0)
		return;
	memcpy(s->status, line, sizeof(line));
	s->ops->status(s->ctx, s->status);
}

static void check_device(struct server *s)
{
	uint64_t jobs, since;
	bool stuck;

	dev_progress(s->dev, &jobs, &since);
	stuck = since != 0 && uv_hrtime() > since &&
		uv_hrtime() - since > STUCK_NS;
	if (stuck && !s->stuck)
		log_line(LOG_ERR, "%s: a device call has not returned for %llu "
			 "seconds; the watchdog is not fed until it does",
			 dev_spec(s->dev), STUCK_NS / 1000000000);
	if (!stuck && s->stuck)
		log_line(LOG_NOTICE, "%s: the device call has returned",
			 dev_spec(s->dev));
	s->stuck = stuck;
}

/*
 * What was allocated for a moment in a busy one leaves holes, and what stays
 * long comes to lie between them: without this the heap would grow for days.
 */
static void give_back_holes(struct server *s)
{
	uint64_t now = uv_now(&s->loop);

	if (now - s->trimmed_ms < TRIM_MS)
		return;
	s->trimmed_ms = now;
	malloc_trim(0);
}

static void on_tick(uv_timer_t *timer)
{
	struct server *s = timer->data;

	check_device(s);
	clients_expire(s);
	procs_tick(&s->procs);
	users_tick(s);
	away_tick(s);
	mem_tick(s->mem);
	elastic_tick(s);
	events_tick(s);
	net_tiers_tick(s);
	mem_pin_tick(s->mem, uv_now(&s->loop));
	listener_tick(&s->listener);
	update_status(s);
	give_back_holes(s);
	if (!s->stuck)
		s->ops->alive(s->ctx);
}

/* ---- grace ---- */

/*
 * mem asks this about each writer that has not come back. It has no context
 * of its own, so the list to put the living in is here while it asks.
 */
static struct procs *grace_procs;

static bool writer_alive(pid_t pid, uint64_t start_time)
{
	return procs_watch(grace_procs, pid, start_time);
}

static void on_grace_end(uv_timer_t *timer)
{
	struct server *s = timer->data;

	log_line(LOG_INFO, "grace is over, what was not claimed is released");
	grace_procs = &s->procs;
	mem_grace_end(s->mem, writer_alive);
	grace_procs = NULL;
	limits_trim(s);
}

static void start_grace(struct server *s)
{
	if (!mem_in_grace(s->mem))
		return;
	s->grace_end_ms = uv_now(&s->loop) + s->cfg.grace_ms;
	uv_timer_start(&s->grace, on_grace_end, s->cfg.grace_ms, 0);
}

/* ---- signals ---- */

static void on_signal(uv_signal_t *sig, int signum)
{
	struct server *s = sig->data;

	if (signum == SIGHUP) {
		reload_start(s);
		return;
	}
	log_line(LOG_INFO, "%s: stopping", strsignal(signum));
	s->ops->stopping(s->ctx);
	uv_stop(&s->loop);
}

/* ---- the disk ---- */

struct sync_job {
	uv_work_t work;
	int fd;
	int err;
};

static void sync_run(uv_work_t *work)
{
	struct sync_job *job = work->data;

	job->err = fsync(job->fd) < 0 ? errno : 0;
	close(job->fd);
}

static void sync_done(uv_work_t *work, int status)
{
	struct sync_job *job = work->data;

	if (job->err)
		log_line(LOG_WARNING, "a name key is not safe on disk: %s",
			 strerror(job->err));
	free(job);
}

static void on_sync(void *ctx, int fd)
{
	struct sync_job *job = malloc(sizeof(*job));
	struct server *s = ctx;

	if (!job) { /* the kernel writes it out in its own time */
		close(fd);
		return;
	}
	job->fd = fd;
	job->work.data = job;
	uv_queue_work(&s->loop, &job->work, sync_run, sync_done);
}

/* ---- life ---- */

static int init_loop(struct server *s)
{
	static const int signums[] = { SIGTERM, SIGINT, SIGHUP };
	unsigned i;
	int r;

	r = uv_loop_init(&s->loop);
	if (r < 0)
		return r;
	r = turns_init(&s->turns, &s->loop);
	if (r < 0) {
		uv_loop_close(&s->loop);
		return r;
	}
	uv_async_init(&s->loop, &s->wake, on_wake);
	uv_idle_init(&s->loop, &s->room);
	uv_idle_init(&s->loop, &s->trim);
	uv_timer_init(&s->loop, &s->tick);
	uv_timer_init(&s->loop, &s->grace);
	s->wake.data = s->room.data = s->trim.data = s;
	s->tick.data = s->grace.data = s;
	for (i = 0; i < 3; i++) {
		uv_signal_init(&s->loop, &s->signals[i]);
		s->signals[i].data = s;
		uv_signal_start(&s->signals[i], on_signal, signums[i]);
	}
	waiters_init(s);
	events_init(s);
	flights_init(s);
	return 0;
}

/* What it left for a next connection is for nobody now. */
static void on_exit_of(void *ctx, struct proc *p)
{
	away_end(ctx, p, 0);
}

static int open_all(struct server *s, struct server_config *cfg, int listen_fd,
		    struct server_fd *fds, size_t nr_fds, char *why,
		    size_t why_bytes)
{
	int r;

	r = listener_open(&s->listener, listen_fd, cfg->socket,
			  cfg->socket_mode, cfg->socket_gid, why, why_bytes);
	if (r < 0)
		return r;
	snprintf(s->cfg.socket, sizeof(s->cfg.socket), "%s", s->listener.path);
	r = tenants_init(&s->tenants, &cfg->tenants, cfg->state_dir,
			 cfg->tenant_max, why, why_bytes);
	if (r < 0)
		return r;
	s->tenants.sync = on_sync;
	s->tenants.ctx = s;
	r = restore_device(s, fds, nr_fds, why, why_bytes);
	if (r < 0)
		return r;
	r = restore_pool(s, fds, nr_fds, why, why_bytes);
	if (r < 0)
		return r;
	mem_pin_percent(s->mem, s->cfg.pin_percent);
	mem_space_limit(s->mem, s->cfg.max_spaces_per_tenant);
	r = net_tiers_init(s);
	if (r < 0) {
		snprintf(why, why_bytes, "tiers: %s", strerror(-r));
		return r;
	}
	r = limits_init(s);
	if (r < 0) {
		snprintf(why, why_bytes, "limits of tenants: %s",
			 strerror(-r));
		return r;
	}
	procs_init(&s->procs, &s->loop, s->mem, dev_under_mps(s->dev));
	s->procs.on_exit = on_exit_of;
	s->procs.ctx = s;
	elastic_init(s);
	start_grace(s);
	uv_timer_start(&s->tick, on_tick, 0, s->ops->tick_ms);
	return listener_start(&s->listener, &s->loop, client_on_accept, s);
}

int server_new(struct server_config *cfg, const struct server_ops *ops,
	       void *ctx, int listen_fd, struct server_fd *fds, size_t nr_fds,
	       char *why, size_t why_bytes, struct server **ret)
{
	struct server *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return -ENOMEM;
	snprintf(why, why_bytes, "out of memory or file descriptors");
	r = init_loop(s);
	if (r < 0) {
		free(s);
		return r;
	}
	ahead_of_fds(&s->loop, 2 * cfg->max_clients + MORE_FDS);
	s->ops = ops;
	s->ctx = ctx;
	s->cfg = *cfg;
	s->listener.fd = s->listener.spare_fd = -1;
	TAILQ_INIT(&s->clients);
	TAILQ_INIT(&s->away);
	TAILQ_INIT(&s->greeting);
	TAILQ_INIT(&s->tenants.list);
	TAILQ_INIT(&s->limits_queue);
	LIST_INIT(&s->procs.list);
	LIST_INIT(&s->users.list);
	LIST_INIT(&s->users.unread);
	s->start_ms = uv_now(&s->loop);
	if (getrandom(&s->instance, sizeof(s->instance), 0) < 0)
		s->instance = uv_hrtime();
	r = arena_init(&s->arena, ARENA_BYTES);
	if (r == 0)
		r = open_all(s, cfg, listen_fd, fds, nr_fds, why, why_bytes);
	if (r < 0) {
		server_free(s);
		return r;
	}
	*ret = s;
	return 0;
}

void server_on_reload(struct server *s, const struct server_reload *how,
		      void *ctx)
{
	s->reload.how = how;
	s->reload.ctx = ctx;
}

int server_run(struct server *s)
{
	log_line(LOG_INFO, "serving at %s", s->cfg.socket);
	s->ops->ready(s->ctx);
	turns_start(&s->turns);
	uv_run(&s->loop, UV_RUN_DEFAULT);
	return s->lost ? -ENODEV : 0;
}

static void close_handle(uv_handle_t *handle, void *arg)
{
	if (!uv_is_closing(handle))
		uv_close(handle, NULL);
}

void server_free(struct server *s)
{
	if (!s)
		return;
	listener_close(&s->listener);
	clients_abandon(s);
	away_fini(s);
	flights_fini(s);
	procs_fini(&s->procs);
	net_tiers_fini(s);
	mem_free(s->mem);
	dev_free(s->dev);
	s->dev = NULL;
	uv_walk(&s->loop, close_handle, NULL);
	uv_run(&s->loop, UV_RUN_DEFAULT);
	uv_loop_close(&s->loop);
	mps_fini(&s->procs.mps);
	users_fini(s);
	tenants_fini(&s->tenants);
	arena_fini(&s->arena);
	free(s);
}
