// SPDX-License-Identifier: Apache-2.0
/*
 * limits.c - tenants' limits: what they may be, and their change.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "daemon/mem/mem.h"
#include "daemon/net/limits.h"
#include "daemon/net/state.h"

/* Changes that wait to be written. */
#define LIMITS_MAX_QUEUED 64

const char *const limits_names[NR_LIMITS] = {
	[LIMIT_MIN] = "min",
	[LIMIT_HIGH] = "high",
	[LIMIT_MAX] = "max",
};

const char *limits_size_text(uint64_t bytes, char buf[LIMITS_SIZE_TEXT])
{
	static const char units[] = "KMGT";
	unsigned unit = 0;

	while (bytes && unit < 4 && bytes % 1024 == 0) {
		bytes /= 1024;
		unit++;
	}
	if (unit)
		snprintf(buf, LIMITS_SIZE_TEXT, "%" PRIu64 "%c", bytes,
			 units[unit - 1]);
	else
		snprintf(buf, LIMITS_SIZE_TEXT, "%" PRIu64, bytes);
	return buf;
}

void limits_file_name(const char *name, char buf[LIMITS_FILE_BYTES])
{
	snprintf(buf, LIMITS_FILE_BYTES, "50-kvctl-%.*s.conf",
		 TENANT_NAME_BYTES - 1, name);
}

/* ---- what they may be ---- */

/* The next limit after @i that there is, or NR_LIMITS. */
static int next_limit(const struct tenant_limits *l, int i)
{
	for (i++; i < NR_LIMITS; i++)
		if (l->of[i])
			break;
	return i;
}

int limits_check(const char *name, const struct tenant_limits *l,
		 uint64_t others, uint64_t pool, char *why, size_t why_bytes)
{
	char a[LIMITS_SIZE_TEXT], b[LIMITS_SIZE_TEXT], c[LIMITS_SIZE_TEXT];
	int i, next;

	for (i = 0; i < NR_LIMITS; i++) {
		if (l->of[i] > LIMITS_MAX_BYTES) {
			snprintf(why, why_bytes, "tenant %s: %s is above "
				 "1024T", name, limits_names[i]);
			return -EINVAL;
		}
		next = next_limit(l, i);
		if (next == NR_LIMITS || l->of[i] <= l->of[next])
			continue;
		snprintf(why, why_bytes, "tenant %s: %s %s is above %s %s",
			 name, limits_names[i],
			 limits_size_text(l->of[i], a), limits_names[next],
			 limits_size_text(l->of[next], b));
		return -EINVAL;
	}
	if (l->of[LIMIT_MIN] <= pool && others <= pool - l->of[LIMIT_MIN])
		return 0;
	snprintf(why, why_bytes, "tenant %s: with its min of %s all tenants "
		 "together are promised more than the pool's %s: others have "
		 "%s", name, limits_size_text(l->of[LIMIT_MIN], a),
		 limits_size_text(pool, b), limits_size_text(others, c));
	return -EINVAL;
}

static struct tenant_limits merge(const struct tenant_limits *from,
				  unsigned keys, const struct tenant_limits *to)
{
	struct tenant_limits l = *from;
	int i;

	for (i = 0; i < NR_LIMITS; i++)
		if (keys & 1u << i)
			l.of[i] = to->of[i];
	return l;
}

/* What the next start will find, once all is written that waits to be. */
static struct tenant_limits later_of(const struct server *s,
				     const struct tenant *t)
{
	struct tenant_limits l = t->stored;
	const struct limits_change *ch;

	TAILQ_FOREACH(ch, &s->limits_queue, link)
		if (ch->tenant == t)
			l = merge(&l, ch->keys, &ch->to);
	return l;
}

/* What is promised to all but @t: in force, or at the next start. */
static uint64_t promised(const struct server *s, const struct tenant *t,
			 bool later)
{
	const struct tenant *other;
	uint64_t sum = 0;

	TAILQ_FOREACH(other, &s->tenants.list, link)
		if (other != t)
			sum += later ? later_of(s, other).of[LIMIT_MIN] :
				       other->limits.of[LIMIT_MIN];
	return sum;
}

/* ---- in force ---- */

static void on_trim(uv_idle_t *idle)
{
	struct server *s = idle->data;

	if (!mem_trim(s->mem))
		uv_idle_stop(idle);
}

void limits_trim(struct server *s)
{
	uv_idle_start(&s->trim, on_trim);
}

static int tell(struct server *s, const struct tenant *t,
		const struct tenant_limits *l)
{
	struct mem_limits limits = { .min_bytes = l->of[LIMIT_MIN],
				     .high_bytes = l->of[LIMIT_HIGH],
				     .max_bytes = l->of[LIMIT_MAX] };

	return mem_tenant_set(s->mem, t->name, &limits);
}

int limits_tell(struct server *s, struct tenant *t)
{
	int r = t->known ? 0 : tell(s, t, &t->limits);

	t->known |= r == 0;
	return r;
}

int limits_put(struct server *s, struct tenant *t,
	       const struct tenant_limits *l)
{
	int r = tell(s, t, l);

	if (r < 0)
		return r;
	t->known = true;
	t->limits = *l;
	return 0;
}

int limits_init(struct server *s)
{
	struct tenant *t;
	int r = 0;

	TAILQ_FOREACH(t, &s->tenants.list, link) {
		r = limits_tell(s, t);
		if (r < 0)
			break;
	}
	return r;
}

int limits_set(struct server *s, struct tenant *t, unsigned keys,
	       const struct tenant_limits *to, bool runtime, char *why,
	       size_t why_bytes)
{
	struct tenant_limits now = merge(&t->limits, keys, to);
	struct tenant_limits later = later_of(s, t);
	uint64_t pool = s->cfg.pool_bytes;
	size_t n;
	int r;

	r = limits_check(t->name, &now, promised(s, t, false),
			 elastic_bytes(s), why, why_bytes);
	if (r < 0)
		return r;
	if (!runtime) {
		n = (size_t)snprintf(why, why_bytes, "after a restart, when "
				     "what was set for now is forgotten: ");
		later = merge(&later, keys, to);
		r = limits_check(t->name, &later, promised(s, t, true), pool,
				 why + n, why_bytes - n);
		if (r < 0)
			return r;
		why[0] = '\0';
		if (s->limits_nr_queued >= LIMITS_MAX_QUEUED)
			return -EBUSY;
	}
	r = limits_put(s, t, &now);
	if (r == 0)
		limits_trim(s);
	return r;
}
