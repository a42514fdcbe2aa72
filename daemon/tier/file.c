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
#include <stdatomic.h>
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
#define MAX_MARKS   64u		/* being written */
#define SCAN_BLOCKS 256u
#define SCAN_STEP   1024u	/* records deleted, or looked at */

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
	uint32_t nr_reads, nr_marks;
	bool going_back;	/* until what was queued has been given up */
	atomic_bool stopped;	/* nothing is written behind what was not: a
				 * scan goes from record to record */
	atomic_bool ending;
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
	f->say.say(f->say.ctx, TIER_GOOD, f->path);
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
		f->say.say(f->say.ctx, TIER_BAD, f->why);
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
	struct file_found as;
	int err;
};

static bool page_is_mark(const struct tier_page *p)
{
	return p->bytes == 0;
}

static void write_run(struct worker_job *job)
{
	struct write_job *w = (struct write_job *)job;
	struct file *f = w->f;

	w->err = -ECANCELED;
	if (atomic_load(&f->stopped))
		return;
	file_seal(w->page, &w->as, f->id);
	w->err = file_write(f->fd, w->page->block, page_cost(w->page),
			    w->as.at);
	if (w->err < 0)
		atomic_store(&f->stopped, true);
}

static void file_marks(struct file *f);

/* What was not written is not there; a mark is owed again. */
static void write_failed(struct file *f, const struct write_job *w)
{
	if (!f->going_back)
		ring_back(&f->ring, &w->as);
	f->going_back = true;
	if (!w->job.dropped && w->err != -ECANCELED)
		file_failed(f, "writing", w->err);
	f->trying = false;
}

static void write_done(struct worker_job *job)
{
	struct write_job *w = (struct write_job *)job;
	struct file *f = w->f;
	bool good = !job->dropped && w->err == 0;

	f->queued -= page_cost(w->page);
	if (good)
		file_good(f);
	else
		write_failed(f, w);
	if (page_is_mark(w->page)) {
		f->nr_marks--;
		ring_marked(&f->ring, &w->as.key, good);
	}
	tier_page_put(w->page);
	free(w);
	if (f->queued == 0 && f->going_back) {
		f->going_back = false;
		atomic_store(&f->stopped, false);
	}
	if (good)
		file_marks(f);
}

static bool file_takes(const struct tier *t)
{
	const struct file *f = (const struct file *)(const void *)t;

	return f->state == READY && !f->going_back && !file_is_slow(f) &&
	       (!f->bad || (!f->trying && clock_ns() >= f->retry_ns)) &&
	       f->queued < MAX_QUEUED;
}

static bool file_has_room(const struct file *f, const struct tier_page *p)
{
	return f->queued + page_cost(p) <= MAX_QUEUED &&
	       page_cost(p) <= (f->stat.max_bytes - TIER_ALIGN) / 2;
}

/* Return: false: out of memory. */
static bool write_submit(struct file *f, struct tier_page *page,
			 const struct tier_key *key)
{
	struct write_job *w = malloc(sizeof(*w));

	if (!w)
		return false;
	*w = (struct write_job){ .job = { .run = write_run,
					  .done = write_done },
				 .f = f,
				 .page = page,
				 .as = { .key = *key,
					 .head_bytes = page->head_bytes,
					 .bytes = page->bytes } };
	w->as.at = ring_take(&f->ring, page_cost(page));
	w->as.nr = ++f->ring.nr;
	w->as.oldest = f->ring.oldest;
	if (!ring_add(&f->ring, &w->as)) {
		f->ring.head = w->as.at;
		free(w);
		return false;
	}
	tier_page_get(page);
	f->queued += page_cost(page);
	f->trying = f->bad; /* one is enough */
	worker_submit(&f->thread, &w->job);
	return true;
}

static void file_put(struct tier *t, const struct tier_key *key,
		     struct tier_page *page, const struct tier_use *use)
{
	struct file *f = file_of(t);
	struct record *e = ring_find(&f->ring, key);

	if (e && !ring_is_old(&f->ring, e))
		return;
	if (!file_takes(t) || !file_has_room(f, page) ||
	    ring_owes(&f->ring, key->origin) || !write_submit(f, page, key))
		f->stat.refused++;
	else
		f->stat.puts++;
}

/* Some of those that are owed, if they can be written now. */
static void file_marks(struct file *f)
{
	struct tier_page *page;
	struct tier_key key;
	bool good = true;

	while (good && f->nr_marks < MAX_MARKS && file_takes(&f->tier) &&
	       !list_empty(&f->ring.owed)) {
		page = tier_page_new(0, 0);
		if (!page)
			return;
		ring_mark(&f->ring, &key);
		good = write_submit(f, page, &key);
		if (!good)
			ring_marked(&f->ring, &key, false);
		f->nr_marks += good;
		tier_page_put(page);
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

	if (atomic_load(&r->f->ending)) {
		r->err = -ENOMEM; /* as good as: nothing is wrong with it */
		return;
	}
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
		ring_hide(&f->ring, e);
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
	bool more = max && ring_forget(&f->ring, origin, max, ret);
	bool works, waits;

	file_marks(f);
	works = f->state == READY && !f->bad && !file_is_slow(f);
	waits = ring_owes(&f->ring, origin) ||
		ring_is_marking(&f->ring, origin) ||
		f->ring.nr_owed == RING_OWED;
	ret->owed |= waits && !works;
	return max ? more : waits && works;
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
	struct list *pruned;	/* up to there */
	struct file_found found[SCAN_BLOCKS];
};

/* Between two parts of what the loop's thread has to do. */
static void scan_wait(struct worker_job *job)
{
}

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

static void scan_submit(struct scan_job *s, void (*run)(struct worker_job *job),
			void (*done)(struct worker_job *job))
{
	s->job = (struct worker_job){ .run = run, .done = done };
	worker_submit(&s->f->thread, &s->job);
}

static void scan_failed(struct scan_job *s, bool dropped)
{
	struct file *f = s->f;

	if (s->fd >= 0) {
		close(s->fd);
		snprintf(s->why, sizeof(s->why), "%s: reading: %s", f->path,
			 strerror(-s->nr));
	}
	f->state = SHUT;
	if (!dropped) {
		f->stat.errors++;
		file_bad(f, s->why);
	}
	free(s);
}

static void prune_done(struct worker_job *job)
{
	struct scan_job *s = (struct scan_job *)job;
	struct file *f = s->f;

	if (job->dropped) {
		s->nr = -ECANCELED;
		scan_failed(s, true);
	} else if (ring_prune(&f->ring, &s->pruned, SCAN_STEP)) {
		scan_submit(s, scan_wait, prune_done);
	} else {
		f->fd = s->fd;
		memcpy(f->id, s->id, FILE_ID);
		f->state = READY;
		f->check_ns = clock_ns() + CHECK_NS;
		file_good(f);
		file_marks(f);
		free(s);
	}
}

static void scan_done(struct worker_job *job)
{
	struct scan_job *s = (struct scan_job *)job;

	if (job->dropped || s->fd < 0 || s->nr < 0) {
		scan_failed(s, job->dropped);
		return;
	}
	for (int i = 0; i < s->nr; i++)
		ring_read(&s->f->ring, &s->found[i]);
	if (s->at == UINT64_MAX) {
		ring_is_read(&s->f->ring);
		scan_submit(s, scan_wait, prune_done);
	} else {
		scan_submit(s, scan_run, scan_done);
	}
}

/* What was there before. */
static void clear_done(struct worker_job *job)
{
	struct scan_job *s = (struct scan_job *)job;

	if (job->dropped)
		scan_failed(s, true);
	else if (ring_clear(&s->f->ring, SCAN_STEP))
		scan_submit(s, scan_wait, clear_done);
	else
		scan_submit(s, open_run, scan_done);
}

static void file_start(struct file *f)
{
	struct scan_job *s = calloc(1, sizeof(*s));

	f->ring.read = false;
	if (!s)
		return;
	s->f = f;
	s->fd = -1;
	f->state = OPENING;
	f->trying = f->bad;
	scan_submit(s, scan_wait, clear_done);
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
		f->state = SHUT;
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
		f->say.say(f->say.ctx, TIER_BAD, f->why);
	} else if (!slow && f->slow) {
		f->say.say(f->say.ctx, TIER_GOOD, f->path);
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
	if (f->state == READY) {
		ret->bytes = f->ring.bytes;
		ret->entries = f->ring.entries;
	}
	ret->dropped = f->ring.dropped;
	ret->trouble = f->bad || f->slow ? f->why :
		       f->state == READY ? "" : "is being read";
}

static void file_say_nothing(void *ctx, enum tier_news news,
			     const char *what)
{
}

/*
 * What a successor is not to find. There is no time for pages any more: all
 * that waits is given up, and marks go where that would have gone.
 */
static void file_end_marks(struct file *f)
{
	uint32_t left = f->ring.nr_owed + f->nr_marks;

	atomic_store(&f->ending, true);
	f->retry_ns = 0;
	if (f->state == READY) {
		atomic_store(&f->stopped, true);
		worker_drain(&f->thread);
		atomic_store(&f->stopped, false);
	}
	for (; left && f->ring.nr_owed && f->state == READY; left--) {
		file_marks(f);
		worker_drain(&f->thread);
	}
	if (f->ring.nr_owed + f->nr_marks)
		f->say.say(f->say.ctx, TIER_OWES, f->path);
}

static void file_free(struct tier *t)
{
	struct file *f = file_of(t);

	if (f->ring.nr_owed + f->nr_marks)
		file_end_marks(f);
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
