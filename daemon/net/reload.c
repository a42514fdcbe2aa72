// SPDX-License-Identifier: Apache-2.0
/*
 * reload.c - another configuration, while the server runs.
 *
 * It is read on a thread of libuv's: files and the user database may be slow.
 * If meanwhile kvd itself has written a file of it, it is read once more.
 * Then everything is checked before anything changes.
 *
 * A limit that the files have as before stays as it is in force, so what was
 * set for now outlives a reload, as systemd's own --runtime does.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "daemon/mem/mem.h"
#include "daemon/net/limits.h"
#include "daemon/net/log.h"
#include "daemon/net/reload.h"
#include "daemon/net/state.h"

/* ---- tenants: checked ---- */

static struct tenant *section_of(const struct server_config *cfg,
				 const struct tenant *t)
{
	struct tenant *n;

	TAILQ_FOREACH(n, &cfg->tenants, link)
		if (strcmp(n->name, t->name) == 0)
			return n;
	return NULL;
}

/* What the files have for @t now, perhaps no section any more. */
static struct tenant_limits stored_of(const struct server_config *cfg,
				      const struct tenant *t)
{
	const struct tenant *section = section_of(cfg, t);
	struct tenant_limits l = { { 0 } };

	if (section)
		return section->stored;
	if (!t->configured)
		l.of[LIMIT_MAX] = cfg->tenant_max;
	return l;
}

static void find_next(const struct server_config *cfg, struct tenant *t)
{
	struct tenant_limits stored = stored_of(cfg, t);
	int i;

	t->next = t->limits;
	for (i = 0; i < NR_LIMITS; i++)
		if (stored.of[i] != t->stored.of[i])
			t->next.of[i] = stored.of[i];
}

static int check_next(const struct server *s, const struct tenant *t,
		      uint64_t *promised, char *why)
{
	int r = limits_check(t->name, &t->next, *promised, elastic_bytes(s),
			     why, RELOAD_WHY_BYTES);

	*promised += t->next.of[LIMIT_MIN];
	return r;
}

/* Nothing changes but what is next. */
static int check_tenants(struct server *s, struct server_config *cfg,
			 char *why)
{
	uint64_t promised = 0;
	struct tenant *t;
	int r = 0;

	TAILQ_FOREACH(t, &s->tenants.list, link) {
		find_next(cfg, t);
		if (r == 0)
			r = check_next(s, t, &promised, why);
	}
	TAILQ_FOREACH(t, &cfg->tenants, link) {
		if (r < 0 || tenants_by_name(&s->tenants, t->name))
			continue;
		t->limits = t->next = t->stored;
		r = check_next(s, t, &promised, why);
		if (r == 0)
			r = tenants_load_key(&s->tenants, t, why,
					     RELOAD_WHY_BYTES);
	}
	return r;
}

/* ---- tenants: changed ---- */

static void copy_section(struct tenant *t, const struct tenant *section)
{
	if (strcmp(t->key_file, section->key_file) != 0)
		log_line(LOG_NOTICE, "key-file of tenant %s: takes effect "
			 "with the next start", t->name);
	memcpy(t->uids, section->uids, sizeof(t->uids));
	t->nr_uids = section->nr_uids;
	memcpy(t->gids, section->gids, sizeof(t->gids));
	t->nr_gids = section->nr_gids;
	t->set = section->set;
	t->kept = section->kept;
}

/* Whose section is gone has his pages still, but nobody is it any more. */
static void clear_section(struct tenant *t)
{
	t->nr_uids = t->configured ? 0 : t->nr_uids;
	t->nr_gids = 0;
	t->set = t->kept = 0;
}

/* Sections are in order of precedence, so their tenants are put last. */
static void take_sections(struct server *s, struct server_config *cfg)
{
	struct tenant *t, *n;

	TAILQ_FOREACH(t, &s->tenants.list, link) {
		t->stored = stored_of(cfg, t);
		if (!section_of(cfg, t))
			clear_section(t);
	}
	while ((n = TAILQ_FIRST(&cfg->tenants))) {
		TAILQ_REMOVE(&cfg->tenants, n, link);
		t = tenants_by_name(&s->tenants, n->name);
		if (t) {
			copy_section(t, n);
			TAILQ_REMOVE(&s->tenants.list, t, link);
			free(n);
		} else {
			t = n;
		}
		TAILQ_INSERT_TAIL(&s->tenants.list, t, link);
	}
	s->tenants.default_max = cfg->tenant_max;
}

/* Promises are taken back before others are made: they would not fit. */
static void put_limits(struct server *s)
{
	struct tenant_limits l;
	struct tenant *t;

	TAILQ_FOREACH(t, &s->tenants.list, link) {
		l = t->limits;
		if (t->next.of[LIMIT_MIN] >= l.of[LIMIT_MIN])
			continue;
		l.of[LIMIT_MIN] = t->next.of[LIMIT_MIN];
		limits_put(s, t, &l);
	}
	TAILQ_FOREACH(t, &s->tenants.list, link) {
		if (t->known && memcmp(&t->limits, &t->next,
				       sizeof(t->next)) == 0)
			continue;
		if (limits_put(s, t, &t->next) < 0)
			log_line(LOG_ERR, "limits of tenant %s: out of "
				 "memory, not changed", t->name);
	}
	limits_trim(s);
}

/* ---- all of it ---- */

static void put_in_force(struct server *s, struct server_config *cfg)
{
	char socket[sizeof(s->cfg.socket)];

	take_sections(s, cfg);
	memcpy(socket, s->cfg.socket, sizeof(socket));
	s->cfg = *cfg;
	memcpy(s->cfg.socket, socket, sizeof(socket));
	mem_pin_percent(s->mem, s->cfg.pin_percent);
	mem_space_limit(s->mem, s->cfg.max_spaces_per_tenant);
	elastic_marks(s);
	put_limits(s);
	clients_check_admin(s);
}

static void reload_run(uv_work_t *work)
{
	struct server *s = work->data;
	struct reload *r = &s->reload;

	r->err = r->how->read(r->ctx, &r->cfg, r->why, sizeof(r->why));
}

static void reload_done(uv_work_t *work, int status);

static void reload_queue(struct server *s)
{
	struct reload *r = &s->reload;

	r->again = false;
	r->nr_kept = s->limits_nr_kept;
	r->work.data = s;
	uv_queue_work(&s->loop, &r->work, reload_run, reload_done);
}

static void reload_done(uv_work_t *work, int status)
{
	struct server *s = work->data;
	struct reload *r = &s->reload;

	if (!s->dev || r->again || r->nr_kept != s->limits_nr_kept) {
		r->how->done(r->ctx, -ECANCELED);
		if (s->dev)
			reload_queue(s);
		return;
	}
	if (r->err == 0)
		r->err = check_tenants(s, r->cfg, r->why);
	if (r->err == 0)
		put_in_force(s, r->cfg);
	if (r->err < 0)
		log_line(LOG_ERR, "the configuration stays as it is: %s",
			 r->why);
	else
		log_line(LOG_INFO, "the configuration was read again");
	r->how->done(r->ctx, r->err);
	r->running = false;
	s->ops->ready(s->ctx);
}

void reload_start(struct server *s)
{
	bool queued = s->reload.running;

	s->ops->reloading(s->ctx);
	s->reload.running = s->reload.again = true;
	if (!queued)
		reload_queue(s);
}
