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
#include "daemon/tier/ring.h"

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

enum state { SHUT, OPENING, READY };

struct file {
	struct tier tier;
	struct worker thread;
	struct tier_say say;
	char *path;
	enum state state;
	int fd;			/* the thread's; set here between its jobs */
	uint8_t id[FILE_ID];
	struct ring ring;
	uint64_t queued;	/* bytes */
	uint32_t nr_reads;
	uint64_t retry_ns, delay_ns, check_ns;
	bool bad, slow;
	bool trying;		/* whether it still is */
	bool checking;
	char why[200];
	struct tier_stat stat;
};

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

static void file_marks(struct file *f);

/* What was not written is not there; a mark is owed again. */
static void write_done(struct worker_job *job)
{
	struct write_job *w = (struct write_job *)job;
	struct file *f = w->f;
	struct record *e = ring_find(&f->ring, &w->key);
	bool good = !job->dropped && w->err == 0;

	f->queued -= page_cost(w->page);
	if (w->page->bytes == 0)
		ring_marked(&f->ring, &w->key, good);
	else if (!good && e && e->nr == w->nr)
		ring_del(&f->ring, e);
	tier_page_put(w->page);
	if (!job->dropped && w->err < 0)
		file_failed(f, "writing", w->err);
	else if (!job->dropped)
		file_good(f);
	free(w);
	if (good)
		file_marks(f);
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

static void write_submit(struct file *f, struct write_job *w,
			 struct tier_page *page, const struct file_found *at)
{
	*w = (struct write_job){ .job = { .run = write_run,
					  .done = write_done },
				 .f = f,
				 .page = tier_page_get(page),
				 .key = at->key,
				 .at = at->at,
				 .nr = at->nr };
	f->queued += page_cost(page);
	f->trying = f->bad; /* one is enough */
	worker_submit(&f->thread, &w->job);
}

static void file_put(struct tier *t, const struct tier_key *key,
		     struct tier_page *page, const struct tier_use *use)
{
	struct file *f = file_of(t);
	struct record *e = ring_find(&f->ring, key);
	struct file_found at = { .key = *key, .bytes = page->bytes,
				 .head_bytes = page->head_bytes };
	struct write_job *w;

	if (e && !ring_is_old(&f->ring, e))
		return;
	w = file_takes(t) && file_has_room(f, page) &&
			    !ring_owes(&f->ring, key->origin) ?
		    malloc(sizeof(*w)) : NULL;
	if (!w) {
		f->stat.refused++;
		return;
	}
	at.at = ring_take(&f->ring, page_cost(page));
	at.nr = ++f->ring.nr;
	if (!ring_add(&f->ring, &at)) {
		free(w);
		return;
	}
	f->stat.puts++;
	write_submit(f, w, page, &at);
}

/* Those that are owed, as far as they can be written now. */
static void file_marks(struct file *f)
{
	struct file_found at = { .bytes = 0 };
	struct tier_page *page;
	struct write_job *w;

	while (file_takes(&f->tier) && !list_empty(&f->ring.owed)) {
		page = tier_page_new(0, 0);
		w = page ? malloc(sizeof(*w)) : NULL;
		if (w && ring_mark(&f->ring, &at.key)) {
			at.at = ring_take(&f->ring, page_cost(page));
			at.nr = ++f->ring.nr;
			write_submit(f, w, page, &at);
		}
		tier_page_put(page);
		if (!w)
			return;
	}
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
	struct record *e = ring_find(&f->ring, &r->key);

	f->nr_reads--;
	if (r->err < 0 && e && e->at == r->at)
		ring_del(&f->ring, e);
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
	       !file_is_slow(f) && ring_find(&f->ring, key);
}

static bool file_renew(struct tier *t, const struct tier_key *key,
		       const struct tier_use *use)
{
	const struct file *f = file_of(t);
	const struct record *e = ring_find(&f->ring, key);

	return f->state == READY && e && !ring_is_old(&f->ring, e);
}

static void file_get(struct tier *t, const struct tier_key *key,
		     struct tier_get *get)
{
	struct file *f = file_of(t);
	struct record *e = file_has(t, key) ? ring_find(&f->ring, key) : NULL;
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

static bool file_forget(struct tier *t, uint64_t origin, uint32_t max,
			struct tier_forgot *ret)
{
	struct file *f = file_of(t);
	bool more = ring_forget(&f->ring, origin, f->state == READY, max, ret);

	file_marks(f);
	return more;
}

/* ---- what is in it, at the start ---- */

struct scan_job {
	struct worker_job job;
	struct file *f;
	char why[200];
	uint8_t id[FILE_ID];
	int fd;
	int nr, added;
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
	s->added = 0;
}

static void scan_wait(struct worker_job *job)
{
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
 * behind the end of a round, and is none. Return: false: a mark is for more
 * than a turn takes, again.
 */
static bool scan_add(struct file *f, struct scan_job *s,
		     const struct file_found *found)
{
	if (found->nr < s->last_nr) {
		if (s->fell)
			return true;
		s->fell = true;
		list_splice_tail(&s->wrapped, &f->ring.records);
	}
	s->last_nr = found->nr;
	if (!s->fell)
		f->ring.head = found->at +
			       tier_cost(found->head_bytes, found->bytes);
	if (found->nr > f->ring.nr)
		f->ring.nr = found->nr;
	if (found_is_mark(found))
		return !ring_read_mark(&f->ring, found, SCAN_BLOCKS);
	ring_add(&f->ring, found);
	return true;
}

/* The newest are behind the others now. */
static void scan_end(struct scan_job *s)
{
	struct file *f = s->f;

	list_splice_tail(&f->ring.records, &s->wrapped);
	f->fd = s->fd;
	memcpy(f->id, s->id, FILE_ID);
	f->state = READY;
	f->check_ns = clock_ns() + CHECK_NS;
	ring_is_read(&f->ring);
	file_good(f);
	file_marks(f);
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
		ring_clear(&f->ring);
		list_splice_tail(&f->ring.records, &s->wrapped);
		ring_clear(&f->ring);
		f->state = SHUT;
		if (!job->dropped) {
			f->stat.errors++;
			file_bad(f, s->why);
		}
		free(s);
		return;
	}
	while (s->added < s->nr && scan_add(f, s, &s->found[s->added]))
		s->added++;
	if (s->added == s->nr && s->at == UINT64_MAX) {
		scan_end(s);
		return;
	}
	s->job.run = s->added == s->nr ? scan_run : scan_wait;
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
		ring_clear(&f->ring);
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

	map_trim(&f->ring.map);
	map_trim(&f->ring.origins);
	file_marks(f);
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
	ret->bytes = f->ring.bytes;
	ret->entries = f->ring.entries;
	ret->dropped = f->ring.dropped;
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
	ring_fini(&f->ring);
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
	.forget = file_forget,
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
	ring_init(&f->ring, f->stat.max_bytes);
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
