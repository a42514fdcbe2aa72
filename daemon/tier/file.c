// SPDX-License-Identifier: Apache-2.0
/*
 * file.c - a tier in a file: a ring of records, and which are where.
 *
 * Which records there are is known here, on the loop's thread, as of the last
 * that was submitted; bytes are the tier's thread's, which does one thing after
 * the other. So a record may be read as soon as it is put, and may be
 * overwritten as soon as it is asked for: the read comes before the write.
 *
 * A page that is put again is written again only if the ring would soon come
 * to where it is. Whatever goes wrong the tier is of no use for a time, in
 * which it takes nothing, and says so; then it is tried again.
 */
#include "daemon/tier/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "daemon/util/clock.h"

#define SECOND	    1000000000ull
#define RETRY_NS    (5 * SECOND)	/* then twice as long, at most */
#define RETRY_MOST  (300 * SECOND)
#define SLOW_NS	    (2 * SECOND)	/* one read or write */
#define CHECK_NS    (10 * SECOND)
#define MAX_QUEUED  (64ull << 20)	/* bytes to be written */
#define MAX_READS   256u
#define SCAN_BLOCKS 256u

struct entry {
	struct list link;	/* file.ring, oldest first */
	struct tier_key key;
	uint64_t at, nr;
	uint32_t head_bytes, bytes;
};

enum state { SHUT, OPENING, READY };

struct file {
	struct tier tier;
	struct worker thread;
	struct tier_say say;
	char *path;
	enum state state;
	int fd;			/* the thread's; set here between its jobs */
	uint8_t id[FILE_ID];
	struct map map;
	struct list ring;
	uint64_t head;		/* where the next record goes */
	uint64_t nr;		/* its number */
	uint64_t queued;	/* bytes */
	uint32_t nr_reads;
	uint64_t retry_ns, delay_ns, check_ns;
	bool bad, slow;
	bool trying;		/* whether it still is */
	bool checking;
	char why[200];
	struct tier_stat stat;
};

static uint64_t entry_cost(const struct entry *e)
{
	return tier_cost(e->head_bytes, e->bytes);
}

static uint64_t page_cost(const struct tier_page *p)
{
	return tier_cost(p->head_bytes, p->bytes);
}

static struct file *file_of(struct tier *t)
{
	return (struct file *)(void *)t;
}

/* ---- trouble ---- */

static void file_good(struct file *f)
{
	f->delay_ns = RETRY_NS;
	f->trying = false;
	if (!f->bad)
		return;
	f->bad = false;
	f->say.say(f->say.ctx, true, f->path);
}

/* Of all that fails at once the first counts, and of tries each. */
static void file_bad(struct file *f, const char *why)
{
	snprintf(f->why, sizeof(f->why), "%s", why);
	if (f->bad && !f->trying)
		return;
	f->retry_ns = clock_ns() + f->delay_ns;
	f->delay_ns = f->delay_ns * 2 < RETRY_MOST ? f->delay_ns * 2 :
						     RETRY_MOST;
	if (!f->bad)
		f->say.say(f->say.ctx, false, f->why);
	f->bad = true;
	f->trying = false;
}

static void file_failed(struct file *f, const char *what, int err)
{
	char why[sizeof(f->why)];

	f->stat.errors++;
	snprintf(why, sizeof(why), "%s: %s: %s", f->path, what,
		 strerror(-err));
	file_bad(f, why);
}

/* Does its thread wait for the disk for too long? */
static bool file_is_slow(const struct file *f)
{
	uint64_t since = atomic_load(&f->thread.since_ns), now;

	if (!since || f->state != READY)
		return false;
	now = clock_ns();
	return now > since && now - since > SLOW_NS;
}

/* ---- entries ---- */

static struct entry *entry_find(const struct file *f,
				const struct tier_key *key)
{
	struct entry *e = tier_map_get(&f->map, key);

	return e && tier_key_equal(&e->key, key) ? e : NULL;
}

static void entry_free(struct file *f, struct entry *e)
{
	list_del(&e->link);
	if (tier_map_get(&f->map, &e->key) == e)
		map_del(&f->map, tier_key_hash(&e->key));
	f->stat.bytes -= entry_cost(e);
	f->stat.entries--;
	free(e);
}

/* The newest of the ring. Return: NULL: out of memory. */
static struct entry *entry_new(struct file *f, const struct file_found *at)
{
	struct entry *old = tier_map_get(&f->map, &at->key);
	struct entry *e = malloc(sizeof(*e));

	if (!e || map_put(&f->map, tier_key_hash(&at->key),
			  (uintptr_t)e) < 0) {
		free(e);
		return NULL;
	}
	*e = (struct entry){ .key = at->key,
			     .at = at->at,
			     .nr = at->nr,
			     .head_bytes = at->head_bytes,
			     .bytes = at->bytes };
	list_add_tail(&f->ring, &e->link);
	f->stat.bytes += entry_cost(e);
	f->stat.entries++;
	if (old)
		entry_free(f, old);
	return e;
}

static void file_forget_all(struct file *f)
{
	while (!list_empty(&f->ring))
		entry_free(f, list_first(&f->ring, struct entry, link));
	f->head = TIER_ALIGN;
}

/* Would the ring come to it before half of it is written? */
static bool entry_is_old(const struct file *f, const struct entry *e)
{
	uint64_t size = f->stat.max_bytes;
	uint64_t left = e->at >= f->head ? e->at - f->head :
					   e->at + size - f->head;

	return left < size / 2 && f->stat.bytes > size / 2;
}

/* Drops what is where @bytes are to be written. Return: where that is. */
static uint64_t ring_take(struct file *f, uint64_t bytes)
{
	uint64_t at = f->head, end = at + bytes;
	bool wraps = end > f->stat.max_bytes;

	while (!list_empty(&f->ring)) {
		struct entry *e = list_first(&f->ring, struct entry, link);
		bool ahead = e->at >= at;

		if (wraps ? !ahead : !ahead || e->at >= end)
			break;
		f->stat.dropped++;
		entry_free(f, e);
	}
	f->head = wraps ? TIER_ALIGN : end;
	return wraps ? ring_take(f, bytes) : at;
}

/* ---- writing ---- */

struct write_job {
	struct worker_job job;
	struct file *f;
	struct tier_page *page;
	struct tier_key key;
	uint64_t at, nr;
	int err;
};

static void write_run(struct worker_job *job)
{
	struct write_job *w = (struct write_job *)job;

	file_seal(w->page, &w->key, w->nr, w->f->id);
	w->err = file_write(w->f->fd, w->page->block, page_cost(w->page),
			    w->at);
}

static void write_done(struct worker_job *job)
{
	struct write_job *w = (struct write_job *)job;
	struct file *f = w->f;
	struct entry *e = entry_find(f, &w->key);

	f->queued -= page_cost(w->page);
	tier_page_put(w->page);
	if (job->dropped || w->err < 0) {
		if (e && e->nr == w->nr)
			entry_free(f, e);
	}
	if (!job->dropped && w->err < 0)
		file_failed(f, "writing", w->err);
	else if (!job->dropped)
		file_good(f);
	free(w);
}

static bool file_takes(const struct tier *t)
{
	const struct file *f = (const struct file *)(const void *)t;

	return f->state == READY && !file_is_slow(f) &&
	       (!f->bad || (!f->trying && clock_ns() >= f->retry_ns)) &&
	       f->queued < MAX_QUEUED;
}

static bool file_has_room(const struct file *f, const struct tier_page *p)
{
	return f->queued + page_cost(p) <= MAX_QUEUED &&
	       page_cost(p) <= (f->stat.max_bytes - TIER_ALIGN) / 2;
}

static void file_put(struct tier *t, const struct tier_key *key,
		     struct tier_page *page, const struct tier_use *use)
{
	struct file *f = file_of(t);
	struct entry *e = entry_find(f, key);
	struct file_found at = { .key = *key, .bytes = page->bytes,
				 .head_bytes = page->head_bytes };
	struct write_job *w;

	if (e && !entry_is_old(f, e))
		return;
	w = file_takes(t) && file_has_room(f, page) ? malloc(sizeof(*w)) : NULL;
	if (!w) {
		f->stat.refused++;
		return;
	}
	at.at = ring_take(f, page_cost(page));
	at.nr = ++f->nr;
	if (!entry_new(f, &at)) {
		free(w);
		return;
	}
	*w = (struct write_job){ .job = { .run = write_run,
					  .done = write_done },
				 .f = f,
				 .page = tier_page_get(page),
				 .key = *key,
				 .at = at.at,
				 .nr = at.nr };
	f->queued += page_cost(page);
	f->stat.puts++;
	f->trying = f->bad; /* one is enough */
	worker_submit(&f->thread, &w->job);
}

/* ---- reading ---- */

struct read_job {
	struct worker_job job;
	struct file *f;
	struct tier_get *get;
	struct tier_page *page;
	struct tier_key key;
	uint64_t at;
	uint32_t head_bytes, bytes;
	int err;		/* -EBADMSG: it is not what was written */
};

static void read_run(struct worker_job *job)
{
	struct read_job *r = (struct read_job *)job;

	r->page = tier_page_new(r->head_bytes, r->bytes);
	if (!r->page) {
		r->err = -ENOMEM;
		return;
	}
	r->err = file_read(r->f->fd, r->page->block, page_cost(r->page), r->at);
	if (r->err == -ENODATA || (r->err == 0 &&
	    !file_is_whole(r->page, &r->key, r->f->id)))
		r->err = -EBADMSG;
}

static void read_done(struct worker_job *job)
{
	struct read_job *r = (struct read_job *)job;
	struct tier_get *get = r->get;
	struct tier_page *page = r->page;
	struct file *f = r->f;
	struct entry *e = entry_find(f, &r->key);

	f->nr_reads--;
	if (r->err < 0 && e && e->at == r->at)
		entry_free(f, e);
	f->stat.bad += r->err == -EBADMSG;
	if (r->err < 0 && r->err != -EBADMSG && r->err != -ENOMEM)
		file_failed(f, "reading", r->err);
	if (job->dropped || r->err < 0) {
		tier_page_put(page);
		page = NULL;
	}
	free(r);
	get->done(get, page);
}

static bool file_has(const struct tier *t, const struct tier_key *key)
{
	const struct file *f = (const struct file *)(const void *)t;

	return f->state == READY && f->nr_reads < MAX_READS &&
	       !file_is_slow(f) && entry_find(f, key);
}

static bool file_renew(struct tier *t, const struct tier_key *key,
		       const struct tier_use *use)
{
	const struct file *f = file_of(t);
	const struct entry *e = entry_find(f, key);

	return f->state == READY && e && !entry_is_old(f, e);
}

static void file_get(struct tier *t, const struct tier_key *key,
		     struct tier_get *get)
{
	struct file *f = file_of(t);
	struct entry *e = file_has(t, key) ? entry_find(f, key) : NULL;
	struct read_job *r = e ? malloc(sizeof(*r)) : NULL;

	if (!r) {
		get->done(get, NULL);
		return;
	}
	*r = (struct read_job){ .job = { .run = read_run, .done = read_done },
				.f = f,
				.get = get,
				.key = *key,
				.at = e->at,
				.head_bytes = e->head_bytes,
				.bytes = e->bytes };
	f->nr_reads++;
	f->stat.gets++;
	worker_submit(&f->thread, &r->job);
}

static void file_drop(struct tier *t, const struct tier_key *key)
{
	struct file *f = file_of(t);
	struct entry *e = entry_find(f, key);

	if (e)
		entry_free(f, e);
}

/* ---- what is in it, at the start ---- */

struct scan_job {
	struct worker_job job;
	struct file *f;
	char why[200];
	uint8_t id[FILE_ID];
	int fd;
	int nr;
	uint64_t at;
	uint64_t last_nr;	/* of the record before */
	bool fell;		/* what follows is of the round before, */
	struct list wrapped;	/* and these were of the last */
	struct file_found found[SCAN_BLOCKS];
};

static void scan_run(struct worker_job *job)
{
	struct scan_job *s = (struct scan_job *)job;

	s->nr = file_scan(s->fd, s->id, &s->at, s->f->stat.max_bytes, s->found,
			  SCAN_BLOCKS);
}

static void open_run(struct worker_job *job)
{
	struct scan_job *s = (struct scan_job *)job;

	s->fd = file_open(s->f->path, s->f->stat.max_bytes, s->id, s->why,
			  sizeof(s->why));
	s->at = TIER_ALIGN;
	if (s->fd >= 0)
		scan_run(job);
}

/*
 * In the order in which they lie. Those of the last round begin the file; the
 * first of a lower number is the oldest of all. What falls once more was left
 * behind the end of a round, and is none.
 */
static void scan_add(struct file *f, struct scan_job *s,
		     const struct file_found *found)
{
	struct entry *e;

	if (found->nr < s->last_nr) {
		if (s->fell)
			return;
		s->fell = true;
		list_splice_tail(&s->wrapped, &f->ring);
	}
	s->last_nr = found->nr;
	e = entry_new(f, found);
	if (!e)
		return;
	if (!s->fell)
		f->head = e->at + entry_cost(e);
	if (found->nr > f->nr)
		f->nr = found->nr;
}

/* The newest are behind the others now. */
static void scan_end(struct scan_job *s)
{
	struct file *f = s->f;

	list_splice_tail(&f->ring, &s->wrapped);
	f->fd = s->fd;
	memcpy(f->id, s->id, FILE_ID);
	f->state = READY;
	f->check_ns = clock_ns() + CHECK_NS;
	file_good(f);
	free(s);
}

static void scan_done(struct worker_job *job)
{
	struct scan_job *s = (struct scan_job *)job;
	struct file *f = s->f;

	if (job->dropped || s->fd < 0 || s->nr < 0) {
		if (s->fd >= 0) {
			close(s->fd);
			snprintf(s->why, sizeof(s->why), "%s: reading: %s",
				 f->path, strerror(-s->nr));
		}
		file_forget_all(f);
		list_splice_tail(&f->ring, &s->wrapped);
		file_forget_all(f);
		f->state = SHUT;
		if (!job->dropped) {
			f->stat.errors++;
			file_bad(f, s->why);
		}
		free(s);
		return;
	}
	for (int i = 0; i < s->nr; i++)
		scan_add(f, s, &s->found[i]);
	if (s->at == UINT64_MAX) {
		scan_end(s);
		return;
	}
	s->job.run = scan_run;
	worker_submit(&f->thread, &s->job);
}

static void file_start(struct file *f)
{
	struct scan_job *s = calloc(1, sizeof(*s));

	if (!s)
		return;
	s->job = (struct worker_job){ .run = open_run, .done = scan_done };
	s->f = f;
	s->fd = -1;
	list_init(&s->wrapped);
	f->state = OPENING;
	f->trying = f->bad;
	worker_submit(&f->thread, &s->job);
}

/* ---- is it there still? ---- */

struct check_job {
	struct worker_job job;
	struct file *f;
	bool gone;
};

static void check_run(struct worker_job *job)
{
	struct check_job *c = (struct check_job *)job;

	c->gone = file_is_gone(c->f->fd, c->f->path);
	if (!c->gone)
		return;
	close(c->f->fd);
	c->f->fd = -1; /* what comes after it, until done(), fails */
}

static void check_done(struct worker_job *job)
{
	struct check_job *c = (struct check_job *)job;
	struct file *f = c->f;

	f->checking = false;
	f->check_ns = clock_ns() + CHECK_NS;
	if (c->gone && !job->dropped) {
		file_forget_all(f);
		file_start(f);
	}
	free(c);
}

static void file_check(struct file *f)
{
	struct check_job *c = calloc(1, sizeof(*c));

	if (!c)
		return;
	c->job = (struct worker_job){ .run = check_run, .done = check_done };
	c->f = f;
	f->checking = true;
	worker_submit(&f->thread, &c->job);
}

static void file_tick(struct tier *t, uint64_t now_ns)
{
	struct file *f = file_of(t);
	bool slow = file_is_slow(f);

	map_trim(&f->map);
	if (f->state == SHUT && now_ns >= f->retry_ns)
		file_start(f);
	if (f->state == READY && !f->checking && now_ns >= f->check_ns)
		file_check(f);
	if (slow && !f->slow) {
		snprintf(f->why, sizeof(f->why), "%s: the disk does not answer",
			 f->path);
		f->say.say(f->say.ctx, false, f->why);
	} else if (!slow && f->slow) {
		f->say.say(f->say.ctx, true, f->path);
	}
	f->slow = slow;
}

/* ---- life ---- */

static void file_reap(struct tier *t)
{
	worker_reap(&file_of(t)->thread);
}

static void file_flush(struct tier *t)
{
	worker_drain(&file_of(t)->thread);
}

static void file_stat(const struct tier *t, struct tier_stat *ret)
{
	const struct file *f = (const struct file *)(const void *)t;

	*ret = f->stat;
	ret->trouble = f->bad || f->slow ? f->why :
		       f->state == READY ? "" : "is being read";
}

static void file_say_nothing(void *ctx, bool good, const char *what)
{
}

static void file_free(struct tier *t)
{
	struct file *f = file_of(t);

	f->say.say = file_say_nothing;
	worker_fini(&f->thread, NULL);
	file_forget_all(f);
	map_fini(&f->map);
	if (f->fd >= 0)
		close(f->fd);
	free(f->path);
	free(f);
}

static const struct tier_ops file_ops = {
	.name = "file",
	.free = file_free,
	.has = file_has,
	.takes = file_takes,
	.renew = file_renew,
	.put = file_put,
	.get = file_get,
	.drop = file_drop,
	.tick = file_tick,
	.reap = file_reap,
	.flush = file_flush,
	.stat = file_stat,
};

int tier_file_new(const char *path, uint64_t bytes, const struct tier_say *say,
		  void (*wake)(void *ctx), void *wake_ctx, struct tier **ret)
{
	struct file *f = calloc(1, sizeof(*f));
	int r;

	if (!f)
		return -ENOMEM;
	f->tier.ops = &file_ops;
	f->say = *say;
	f->fd = -1;
	f->delay_ns = RETRY_NS;
	f->stat.name = file_ops.name;
	f->stat.max_bytes = bytes / TIER_ALIGN * TIER_ALIGN;
	list_init(&f->ring);
	f->head = TIER_ALIGN;
	f->path = strdup(path);
	r = f->path ? worker_init(&f->thread, "kvd-tier") : -ENOMEM;
	if (r < 0) {
		free(f->path);
		free(f);
		return r;
	}
	worker_wakes(&f->thread, wake, wake_ctx);
	file_start(f);
	*ret = &f->tier;
	return 0;
}
