// SPDX-License-Identifier: Apache-2.0
/*
 * events_test.c - what a router knows from what it is told is what the index
 * has: from an empty start, from a list, after it has missed some, and after
 * the daemon was restarted.
 *
 * Pages are filled by nobody: reserved and committed, which publishes them.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <kvd/events.h>
#include "tests/client/toy.h"
#include "tests/support/check.h"
#include "tests/support/daemon.h"
#include "tests/support/manager.h"

#define MAX_KNOWN 4096u

static const char *const small[] = { "--pool", "8M", "--segment", "2M", NULL };
static uint64_t seed;

/* ---- a router ---- */

struct known {
	uint8_t name[16], parent[16];
	uint32_t depth, classes;
	uint32_t tokens[TOY_PAGE];
	bool has_tokens;
};

struct router {
	struct kvd *k;
	struct kvd_space *sp;
	struct known known[MAX_KNOWN];
	uint32_t nr;
	uint64_t next;		/* number that is expected; 0: any */
	uint64_t nr_stored, nr_removed, nr_lost, lost, nr_cleared, nr_levels;
	uint32_t pool, tenant;	/* levels, as told last */
};

static struct known *find(struct router *r, const uint8_t *name)
{
	for (uint32_t i = 0; i < r->nr; i++)
		if (!memcmp(r->known[i].name, name, 16))
			return &r->known[i];
	return NULL;
}

static void learn(struct router *r, const struct kvd_block *b)
{
	struct known *n = find(r, b->name);

	if (!n) {
		CHECK(r->nr < MAX_KNOWN, "blocks");
		n = &r->known[r->nr++];
	}
	CHECK(b->nr_tokens == TOY_PAGE, "%u tokens", b->nr_tokens);
	CHECK(b->classes, "a block without a page");
	memcpy(n->name, b->name, 16);
	memcpy(n->parent, b->parent, 16);
	n->depth = b->depth;
	n->classes = b->classes;
	n->has_tokens = b->tokens;
	if (b->tokens)
		memcpy(n->tokens, b->tokens, sizeof(n->tokens));
}

static int on_listed(const struct kvd_block *b, void *ctx)
{
	learn(ctx, b);
	return 0;
}

/* Forgets all, and begins with the list. */
static void list(struct router *r)
{
	r->nr = 0;
	CHECK(!kvd_space_blocks(r->sp, on_listed, r), "%s", kvd_error(r->k));
}

static void on_event(const struct kvd_event *e, void *ctx)
{
	struct router *r = ctx;
	struct known *n;

	CHECK(e->size == sizeof(*e), "size %u", e->size);
	if (e->kind == KVD_EVENT_STORED || e->kind == KVD_EVENT_REMOVED) {
		CHECK(e->space == r->sp, "of another space");
		CHECK(!r->next || e->sequence == r->next, "%llu after %llu",
		      (unsigned long long)e->sequence,
		      (unsigned long long)r->next);
		r->next = e->sequence + 1;
	}
	switch (e->kind) {
	case KVD_EVENT_PRESSURE:
		CHECK(!e->space, "levels of a space");
		r->nr_levels++;
		r->pool = e->pool;
		r->tenant = e->tenant;
		break;
	case KVD_EVENT_STORED:
		r->nr_stored++;
		learn(r, &e->block);
		break;
	case KVD_EVENT_REMOVED:
		r->nr_removed++;
		n = find(r, e->block.name);
		if (n)
			*n = r->known[--r->nr];
		break;
	case KVD_EVENT_LOST:
		r->nr_lost++;
		r->lost += e->lost;
		r->next = 0;
		list(r);
		break;
	case KVD_EVENT_CLEARED:
		r->nr_cleared++;
		r->next = 0;
		list(r);
		break;
	default:
		CHECK(false, "event %u", e->kind);
	}
}

static int subscribe(struct router *r, uint32_t events, struct kvd_space *sp)
{
	struct kvd_subscribe_opts o = { sizeof(o), events, sp };

	return kvd_subscribe(r->k, &o, on_event, r);
}

static void router_open(struct router *r, const char *socket, uint32_t events)
{
	struct kvd_connect_opts c = { .size = sizeof(c), .socket = socket };
	struct kvd_space_opts o;

	memset(r, 0, sizeof(*r));
	toy_opts(&o, 1);
	o.read_only = 1;
	CHECK(!kvd_connect(&c, &r->k), "connect");
	CHECK(!kvd_space_open(r->k, &o, &r->sp), "%s", kvd_error(r->k));
	CHECK(!subscribe(r, events, r->sp), "%s", kvd_error(r->k));
	list(r);
}

static void router_close(struct router *r)
{
	kvd_close(r->k);
}

/* Until nothing has come after a round trip. */
static void catch_up(struct router *r)
{
	uint64_t was;

	do {
		was = r->nr_stored + r->nr_removed + r->nr_lost;
		CHECK(!kvd_ping(r->k), "%s", kvd_error(r->k));
		CHECK(!kvd_process(r->k), "%s", kvd_error(r->k));
	} while (was != r->nr_stored + r->nr_removed + r->nr_lost);
}

struct compare {
	struct router *r;
	uint32_t nr;
};

static int on_compared(const struct kvd_block *b, void *ctx)
{
	struct compare *c = ctx;
	struct known *n = find(c->r, b->name);
	uint8_t name[16];

	CHECK(n, "block %u of the index was not told", c->nr);
	CHECK(!memcmp(n->parent, b->parent, 16) && n->depth == b->depth &&
	      n->classes == b->classes, "block %u", c->nr);
	CHECK(!n->has_tokens ||
	      !memcmp(n->tokens, b->tokens, sizeof(n->tokens)), "tokens");
	/* What it is called can be told from what it is. */
	kvd_space_name(c->r->sp, b->parent, b->extra, b->tokens, name);
	CHECK(!memcmp(name, b->name, 16), "name");
	c->nr++;
	return 0;
}

/* What it knows is all that the index has, and nothing else. */
static void check(struct router *r)
{
	struct kvd_space_info info = { .size = sizeof(info) };
	struct compare c = { .r = r };

	CHECK(!kvd_space_blocks(r->sp, on_compared, &c), "%s",
	      kvd_error(r->k));
	CHECK(c.nr == r->nr, "%u blocks, %u known", c.nr, r->nr);
	CHECK(!kvd_space_info(r->sp, &info), "%s", kvd_error(r->k));
	CHECK(info.blocks == r->nr, "%llu blocks, %u known",
	      (unsigned long long)info.blocks, r->nr);
}

/* ---- a worker ---- */

static void publish(struct toy *w, struct kvd_seq *seq,
		    const uint32_t *tokens, size_t n)
{
	CHECK(!kvd_seq_reserve(seq, n), "%s", kvd_error(w->k));
	CHECK(!kvd_commit(seq, tokens, n, NULL), "%zu: %s", n,
	      kvd_error(w->k));
}

/* A prompt of @pages, whose first pages are among few, the rest of it new. */
static void prompt(uint32_t *tokens, uint32_t pages)
{
	uint64_t few = 1 + toy_random(&seed) % 3;
	uint32_t common = (uint32_t)(toy_random(&seed) % (pages + 1));

	toy_tokens(&few, tokens, common * TOY_PAGE);
	toy_tokens(&seed, tokens + common * TOY_PAGE,
		   (pages - common) * TOY_PAGE);
}

#define PAGES 24u

/* One prompt from match to the end. Return: it stays, or NULL. */
static struct kvd_seq *serve(struct toy *w)
{
	uint32_t tokens[PAGES * TOY_PAGE];
	uint32_t pages = 1 + (uint32_t)(toy_random(&seed) % PAGES);
	struct kvd_seq *seq;
	size_t hit;

	prompt(tokens, pages);
	seq = toy_match(w, tokens, pages * TOY_PAGE, &hit);
	publish(w, seq, tokens + hit, pages * TOY_PAGE - hit);
	if (toy_random(&seed) % 4 == 0)
		return seq;
	kvd_seq_free(seq);
	return NULL;
}

/* Prompts come and go; some sequences stay for a while. */
static void work(struct toy *w, int rounds, struct router *r)
{
	struct kvd_seq *kept[3] = { NULL };

	for (int i = 0; i < rounds; i++) {
		struct kvd_seq **slot = &kept[toy_random(&seed) % 3];

		kvd_seq_free(*slot);
		*slot = serve(w);
		CHECK(!kvd_process(w->k), "%s", kvd_error(w->k));
		if (r && toy_random(&seed) % 8 == 0)
			CHECK(!kvd_process(r->k), "%s", kvd_error(r->k));
		if (r && toy_random(&seed) % 16 == 0) {
			catch_up(r);
			check(r);
		}
	}
	for (int i = 0; i < 3; i++)
		kvd_seq_free(kept[i]);
	CHECK(!kvd_process(w->k), "%s", kvd_error(w->k));
}

/* ---- tests ---- */

static void test_arguments(const char *socket)
{
	static struct router r, other;
	struct kvd_subscribe_opts o = { sizeof(o), 0, NULL };

	router_open(&r, socket, KVD_SUBSCRIBE_BLOCKS);
	router_open(&other, socket, KVD_SUBSCRIBE_BLOCKS);
	CHECK(kvd_subscribe(r.k, NULL, on_event, &r) == -EINVAL, "opts");
	CHECK(subscribe(&r, 2, NULL) == -EINVAL, "blocks of nothing");
	CHECK(subscribe(&r, 1, r.sp) == -EINVAL, "pressure of a space");
	CHECK(subscribe(&r, 4, r.sp) == -EINVAL, "tokens alone");
	CHECK(subscribe(&r, 8, r.sp) == -EINVAL, "unknown");
	CHECK(subscribe(&r, 2, other.sp) == -EINVAL, "another's space");
	o.events = KVD_SUBSCRIBE_PRESSURE;
	CHECK(kvd_subscribe(r.k, &o, NULL, NULL) == -EINVAL, "nobody to tell");
	o.size = 4;
	CHECK(kvd_subscribe(r.k, &o, on_event, &r) == -EINVAL, "size");
	CHECK(!subscribe(&r, 0, r.sp) && !subscribe(&r, 0, r.sp), "none");
	CHECK(!subscribe(&r, 0, NULL), "none");
	CHECK(!subscribe(&r, 1, NULL), "%s", kvd_error(r.k));
	CHECK(!r.nr_levels, "told too early");
	CHECK(!kvd_process(r.k) && r.nr_levels == 1, "the levels as they are");
	CHECK(!kvd_process(r.k) && r.nr_levels == 1, "and once");
	kvd_space_close(other.sp);
	router_close(&other);
	router_close(&r);
}

static void test_replay(const char *socket)
{
	static struct router empty, later;
	struct kvd_space_opts o;
	struct toy w;

	router_open(&empty, socket,
		    KVD_SUBSCRIBE_BLOCKS | KVD_SUBSCRIBE_TOKENS);
	CHECK(!empty.nr, "there is something");
	toy_opts(&o, 1);
	toy_open(&w, socket, &o);
	work(&w, 300, &empty);
	router_open(&later, socket, KVD_SUBSCRIBE_BLOCKS);
	CHECK(later.nr, "nothing to list");
	work(&w, 300, &later);
	catch_up(&empty);
	catch_up(&later);
	check(&empty);
	check(&later);
	printf("%llu stored, %llu removed, %u there\n",
	       (unsigned long long)empty.nr_stored,
	       (unsigned long long)empty.nr_removed, empty.nr);
	CHECK(!empty.nr_lost && empty.nr_removed > 500, "no test of it");
	/* Who wants no more is told no more. */
	CHECK(!subscribe(&later, 0, later.sp), "%s", kvd_error(later.k));
	later.nr_stored = 0;
	work(&w, 5, NULL);
	CHECK(!kvd_ping(later.k) && !kvd_process(later.k), "process");
	CHECK(!later.nr_stored, "told all the same");
	toy_close(&w);
	router_close(&empty);
	router_close(&later);
}

/*
 * One that does not even read, and one that reads because it asks something
 * but lets nothing be told: both learn that they have missed some, and know
 * all of it afterwards.
 */
static void test_missed(const char *socket)
{
	static struct router deaf, busy;
	struct kvd_space_opts o;
	struct toy w;

	router_open(&deaf, socket,
		    KVD_SUBSCRIBE_BLOCKS | KVD_SUBSCRIBE_TOKENS);
	router_open(&busy, socket,
		    KVD_SUBSCRIBE_BLOCKS | KVD_SUBSCRIBE_TOKENS);
	toy_opts(&o, 1);
	toy_open(&w, socket, &o);
	for (int i = 0; i < 100; i++) {
		work(&w, 15, NULL);
		CHECK(!kvd_ping(busy.k), "%s", kvd_error(busy.k));
	}
	catch_up(&deaf);
	catch_up(&busy);
	printf("deaf: %llu times, %llu lost; busy: %llu times\n",
	       (unsigned long long)deaf.nr_lost,
	       (unsigned long long)deaf.lost,
	       (unsigned long long)busy.nr_lost);
	CHECK(deaf.nr_lost && deaf.lost > 1000, "it was told all");
	CHECK(busy.nr_lost, "it was told all");
	check(&deaf);
	check(&busy);
	work(&w, 20, &deaf);
	catch_up(&deaf);
	catch_up(&busy);
	check(&deaf);
	check(&busy);
	toy_close(&w);
	router_close(&deaf);
	router_close(&busy);
}

static void come_back(struct kvd *k)
{
	int tries = 0;

	while (kvd_process(k) && tries++ < 5000)
		usleep(1000);
	CHECK(!kvd_process(k), "%s", kvd_error(k));
}

/* The daemon dies, its pages stay: subscribed again, and said so. */
static void test_restart(struct manager *m)
{
	static struct router r;
	struct kvd_space_opts o;
	struct toy w;

	router_open(&r, m->daemon.socket,
		    KVD_SUBSCRIBE_BLOCKS | KVD_SUBSCRIBE_TOKENS);
	CHECK(!subscribe(&r, KVD_SUBSCRIBE_PRESSURE, NULL), "%s",
	      kvd_error(r.k));
	toy_opts(&o, 1);
	toy_open(&w, m->daemon.socket, &o);
	work(&w, 20, &r);
	catch_up(&r);
	CHECK(r.nr && !r.nr_cleared && r.nr_levels == 1, "before");
	for (uint64_t i = 1; i <= 3; i++) {
		work(&w, 1, NULL); /* what nobody was told of */
		manager_kill(m);
		CHECK(kvd_process(r.k) == -ENOTCONN, "no daemon");
		CHECK(r.nr_cleared == i - 1, "told without a daemon");
		manager_again(m, NULL);
		come_back(r.k);
		CHECK(r.nr_cleared == i && r.nr_levels == i + 1, "%llu, %llu",
		      (unsigned long long)r.nr_cleared,
		      (unsigned long long)r.nr_levels);
		come_back(r.k);
		CHECK(r.nr && r.nr_cleared == i, "cleared again");
		catch_up(&r);
		check(&r);
		/* Its pages wait for their owners for a while. */
		come_back(w.k);
		work(&w, 3, &r);
		catch_up(&r);
		check(&r);
	}
	toy_close(&w);
	router_close(&r);
}

/* Without its pages: all that was known is gone. */
static void test_lost_pool(void)
{
	static struct router r;
	struct kvd_space_opts o;
	struct daemon d;
	struct toy w;

	daemon_start(&d, NULL);
	router_open(&r, d.socket, KVD_SUBSCRIBE_BLOCKS);
	toy_opts(&o, 1);
	toy_open(&w, d.socket, &o);
	work(&w, 5, &r);
	catch_up(&r);
	CHECK(r.nr, "nothing");
	toy_close(&w);
	daemon_kill(&d);
	daemon_start_in(&d, NULL);
	come_back(r.k);
	CHECK(r.nr_cleared == 1 && !r.nr, "%u known", r.nr);
	toy_open(&w, d.socket, &o);
	work(&w, 5, &r);
	catch_up(&r);
	CHECK(r.nr, "nothing");
	check(&r);
	toy_close(&w);
	router_close(&r);
	daemon_assert_idle(&d);
	daemon_stop(&d);
}

int main(void)
{
	struct manager m;
	struct daemon d;

	seed = toy_seed();
	daemon_start(&d, small);
	test_arguments(d.socket);
	test_replay(d.socket);
	test_missed(d.socket);
	daemon_assert_idle(&d);
	daemon_stop(&d);
	manager_start(&m, NULL);
	test_restart(&m);
	manager_stop(&m);
	test_lost_pool();
	return 0;
}
