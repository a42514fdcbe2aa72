// SPDX-License-Identifier: Apache-2.0
/*
 * space.c - opening, coming back to, and closing a space.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "client-lib/conn.h"
#include "client-lib/error.h"
#include "client-lib/hold.h"
#include "client-lib/request.h"
#include "client-lib/seq.h"
#include "client-lib/shared.h"
#include "client-lib/space.h"

void space_counts(const struct kvd_space *sp, uint64_t *ret_hit,
		  uint64_t *ret_miss)
{
	*ret_hit = sp->hits_due > 0 ? (uint64_t)sp->hits_due : 0;
	*ret_miss = sp->misses_due > 0 ? (uint64_t)sp->misses_due : 0;
}

void space_counted(struct kvd_space *sp, uint64_t hit, uint64_t miss)
{
	sp->hits_due -= (int64_t)hit;
	sp->misses_due -= (int64_t)miss;
}

void space_uncounted(struct kvd_space *sp, uint64_t hit, uint64_t miss)
{
	sp->hits_due += (int64_t)hit;
	sp->misses_due += (int64_t)miss;
}

/* Are the daemon's classes and names those this library would make? */
static int grant_check(struct kvd_space *sp, const struct space_grant *g)
{
	const struct kvd_geometry *geo = &sp->opts.geometry;

	if (g->fingerprint != kvd_geometry_fingerprint(geo))
		return fail(sp->k, -EPROTO, "the daemon's fingerprint of the "
			    "geometry differs: it is of another version");
	if (g->nr_classes != sp->nr_classes)
		return fail(sp->k, -EPROTO, "the daemon has %u page classes "
			    "for this geometry, not %u", g->nr_classes,
			    sp->nr_classes);
	for (uint32_t i = 0; i < sp->nr_classes; i++)
		if (g->group[i] != geometry_class_group(geo, i) ||
		    g->page_bytes[i] != sp->layouts[i].page_bytes)
			return fail(sp->k, -EPROTO, "the daemon's pages of "
				    "class %u have another size", i);
	return 0;
}

static int stats_map(struct kvd_space *sp, int fd)
{
	const struct shm_stats *st;

	if (shared_check(fd, sizeof(*st)) < 0)
		return fail(sp->k, -EPROTO, "the daemon's statistics are cut "
			    "short");
	st = mmap(NULL, sizeof(*st), PROT_READ, MAP_SHARED, fd, 0);
	if (st == MAP_FAILED)
		return -ENOMEM;
	if (sp->stats)
		munmap((void *)(uintptr_t)sp->stats, sizeof(*sp->stats));
	sp->stats = st;
	return 0;
}

/* Opens the space on the present connection and maps what comes with it. */
static int space_attach(struct kvd_space *sp, struct space_grant *g)
{
	int r;

	r = request_open_space(sp, g);
	if (r)
		return r;
	sp->id = g->id;
	sp->fingerprint = g->fingerprint;
	sp->stock_bytes = g->stock_bytes;
	if (sp->opts.stock_bytes && sp->opts.stock_bytes < g->stock_bytes)
		sp->stock_bytes = sp->opts.stock_bytes;
	name_key_init(&sp->key, g->name_key);
	r = grant_check(sp, g);
	if (!r)
		r = index_map(&sp->index, g->index_fd, space_page_tokens(sp),
			      sp->nr_classes);
	if (!r)
		r = stats_map(sp, g->stats_fd);
	if (r && r != -EPROTO)
		fail(sp->k, r, "cannot map the index");
	close(g->index_fd);
	close(g->stats_fd);
	if (r)
		request_close_space(sp);
	return r;
}

#define MAX_THREADS 1024u

static int opts_check(struct kvd *k, const struct kvd_space_opts *o)
{
	const char *why;
	int r;

	r = fail_size(k, o, sizeof(*o));
	if (!r)
		r = fail_size(k, &o->geometry, sizeof(o->geometry));
	if (r)
		return r;
	why = kvd_geometry_check(&o->geometry);
	if (why)
		return fail(k, -EINVAL, "geometry: %s", why);
	if (o->tp_rank >= (o->tp_size ? o->tp_size : 1))
		return fail(k, -EINVAL, "tp_rank must be below tp_size");
	if (o->nr_threads > MAX_THREADS)
		return fail(k, -EINVAL, "nr_threads must be at most %u",
			    MAX_THREADS);
	return 0;
}

static int layouts_init(struct kvd_space *sp)
{
	const struct kvd_geometry *geo = &sp->opts.geometry;

	sp->nr_classes = geometry_nr_classes(geo);
	sp->whole = kvd_formats_whole(geo->k_format, geo->v_format);
	sp->lag = sp->whole && kvd_formats_lag(geo->k_format, geo->v_format);
	for (uint32_t g = 0; g < geo->nr_groups; g++) {
		sp->sealed_class[g] = geometry_sealed_class(geo, g);
		sp->demoted_class[g] = geometry_demoted_class(geo, g);
	}
	for (uint32_t c = 0; c < sp->nr_classes; c++)
		if (page_layout_class(&sp->layouts[c], geo, c))
			return fail(sp->k, -EINVAL, "pages of class %u would "
				    "be too large", c);
	return 0;
}

static int space_new(struct kvd *k, const struct kvd_space_opts *opts,
		     struct kvd_space **ret)
{
	struct kvd_space *sp;
	int r;

	r = opts_check(k, opts);
	if (r)
		return r;
	sp = calloc(1, sizeof(*sp));
	if (!sp)
		return fail(k, -ENOMEM, "out of memory");
	sp->k = k;
	sp->opts = *opts;
	if (!sp->opts.tp_size)
		sp->opts.tp_size = 1;
	LIST_INIT(&sp->seqs);
	LIST_INIT(&sp->batches);
	LIST_INIT(&sp->closing);
	STAILQ_INIT(&sp->retired);
	r = layouts_init(sp);
	if (!r)
		r = tables_init(sp);
	if (r) {
		free(sp);
		return r;
	}
	*ret = sp;
	return 0;
}

/* Frees what is here; at the daemon the space is closed, or was never open. */
static void space_free(struct kvd_space *sp)
{
	batch_fini(&sp->batch);
	tables_fini(&sp->tables);
	map_fini(&sp->map);
	index_unmap(&sp->index);
	if (sp->stats)
		munmap((void *)(uintptr_t)sp->stats, sizeof(*sp->stats));
	if (sp->device)
		sp->device->ops->close(sp->device);
	free(sp);
}

/* Before the daemon opens the space, which it tells of it. */
static int space_device(struct kvd_space *sp)
{
	struct kvd *k = sp->k;
	int r;

	if (sp->device)
		return 0;
	r = device_open(k->device, !sp->opts.read_only, &sp->device);
	if (r)
		fail(k, r, "cannot reach device %s from this process",
		     k->device);
	return r;
}

static int space_connect(struct kvd_space *sp, struct space_grant *g)
{
	struct kvd *k = sp->k;
	uint64_t end_ns = conn_deadline_ns(k);
	int r;

	do {
		r = conn_ready(k, k->timeout_ms);
		if (!r)
			r = space_device(sp);
		if (!r)
			r = space_attach(sp, g);
	} while (conn_retry(k, r, end_ns));
	return r;
}

/*
 * A page is held once per connection, in the one space that has its segment
 * mapped: two would put it into each other's tables.
 */
static int unique_check(const struct kvd_space *sp)
{
	const struct kvd_space *other;

	LIST_FOREACH(other, &sp->k->spaces, link)
		if (other->id == sp->id)
			return fail(sp->k, -EINVAL, "this space is already "
				    "open on this connection");
	return 0;
}

int kvd_space_open(struct kvd *k, const struct kvd_space_opts *opts,
		   struct kvd_space **ret)
{
	struct kvd_space *sp = NULL;
	struct space_grant g;
	int r;

	if (!opts || !ret)
		return fail(k, -EINVAL, "opts and ret must be given");
	r = space_new(k, opts, &sp);
	if (r)
		return r;
	r = space_connect(sp, &g);
	if (r)
		goto err_free;
	r = unique_check(sp);
	if (r)
		goto err_close;
	r = stock_init(sp);
	if (r) {
		fail(k, r, "out of memory");
		goto err_stock;
	}
	map_ahead(sp, g.segments, g.nr_segments);
	LIST_INSERT_HEAD(&k->spaces, sp, link);
	*ret = sp;
	return 0;

err_stock:
	stock_fini(sp);
err_close:
	request_close_space(sp);
err_free:
	space_free(sp);
	return r;
}

/* Reports what of the counts no other request has carried. */
static void space_report(struct kvd_space *sp)
{
	uint64_t hit, miss;
	uint32_t granted;

	space_counts(sp, &hit, &miss);
	if (sp->k->fd >= 0 && (hit || miss))
		request_match(sp, NULL, 0, &granted, NULL);
}

void kvd_space_close(struct kvd_space *sp)
{
	struct kvd *k;

	if (!sp)
		return;
	k = sp->k;
	if (k->holds.nr)
		conn_last(k);
	events_forget(sp);
	while (!LIST_EMPTY(&sp->batches))
		kvd_batch_free(LIST_FIRST(&sp->batches));
	while (!LIST_EMPTY(&sp->seqs))
		kvd_seq_free(LIST_FIRST(&sp->seqs));
	seqs_close(sp, true);
	retire_poll(sp, true);
	sp->device->ops->sync(sp->device);
	stock_fini(sp);
	holds_release(k, sp);
	if (k->holds.nr_released) /* it may have gone since */
		conn_last(k);
	hold_flush(k);
	space_report(sp);
	if (k->fd >= 0)
		request_close_space(sp);
	LIST_REMOVE(sp, link);
	space_free(sp);
}

int kvd_space_info(struct kvd_space *sp, struct kvd_space_info *info)
{
	uint64_t page = space_page_tokens(sp) - 1;
	int r;

	r = fail_size(sp->k, info, sizeof(*info));
	if (r)
		return r;
	for (uint32_t g = 0; g < space_nr_groups(sp); g++)
		page += sp->layouts[sp->sealed_class[g]].page_bytes;
	info->page_tokens = space_page_tokens(sp);
	info->fingerprint = sp->fingerprint;
	info->bytes_per_token = page / space_page_tokens(sp);
	info->stock_bytes = sp->stock_bytes;
	info->hit_tokens = atomic_load(&sp->stats->hit_tokens);
	info->miss_tokens = atomic_load(&sp->stats->miss_tokens);
	info->blocks = index_used(&sp->index);
	return 0;
}

void space_process(struct kvd_space *sp)
{
	struct kvd_seq *seq;

	LIST_FOREACH(seq, &sp->seqs, link)
		seq_settle(seq);
	seqs_close(sp, false);
	retire_poll(sp, false);
}

/* ---- coming back ---- */

static void mark_stale(struct hold *h, void *ctx)
{
	h->stale = true;
}

struct gather {
	struct hold **holds;
	uint32_t nr;
};

static void gather_hold(struct hold *h, void *ctx)
{
	struct gather *g = ctx;

	if (!h->stale)
		g->holds[g->nr++] = h;
}

static int claim_some(struct kvd_space *sp, struct hold **holds, uint32_t nr)
{
	handle_t handles[WIRE_MAX_PAGES];
	bool granted[WIRE_MAX_PAGES];
	int r;

	for (uint32_t i = 0; i < nr; i++)
		handles[i] = holds[i]->handle;
	r = request_claim(sp, handles, nr, granted);
	for (uint32_t i = 0; !r && i < nr; i++)
		holds[i]->stale = !granted[i];
	return r;
}

static int claim_all(struct kvd_space *sp)
{
	struct kvd *k = sp->k;
	struct gather g = { .nr = 0 };
	int r = 0;

	if (!k->holds.nr)
		return 0;
	g.holds = malloc(k->holds.nr * sizeof(struct hold *));
	if (!g.holds)
		return fail(k, -ENOMEM, "out of memory");
	holds_each(k, sp, gather_hold, &g);
	for (uint32_t i = 0; !r && i < g.nr; i += WIRE_MAX_PAGES) {
		uint32_t n = g.nr - i;

		r = claim_some(sp, g.holds + i,
			       n < WIRE_MAX_PAGES ? n : WIRE_MAX_PAGES);
	}
	free(g.holds);
	return r;
}

int space_resume(struct kvd_space *sp, bool kept)
{
	struct space_grant g;
	struct kvd_seq *seq;
	int r;

	if (!kept) {
		holds_each(sp->k, sp, mark_stale, NULL);
		map_forget(&sp->map);
	}
	r = space_attach(sp, &g);
	if (!r)
		r = claim_all(sp);
	LIST_FOREACH(seq, &sp->seqs, link)
		seq_check_stale(seq);
	LIST_FOREACH(seq, &sp->closing, link)
		seq_check_stale(seq);
	stock_trim(sp, STOCK_MAX_PAGES);
	return r;
}
