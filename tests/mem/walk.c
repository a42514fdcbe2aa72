/* SPDX-License-Identifier: Apache-2.0 */
/*
 * walk.c - random operations of several processes, everything verified.
 *
 * Each fake process knows what it holds; what the pool says of it must agree.
 * In the last space groups have two classes, and blocks exact copies. Every
 * space has a shadow, made of what is told of it.
 * KVD_SEED repeats a run, KVD_STEPS makes it longer. With KVD_WALK_RESIZE the
 * pool is given other sizes, and clients unmap what is revoked, or do not. With
 * KVD_WALK_TIERS there is a tier, of which blocks are asked for. With
 * KVD_WALK_DEMOTE pages are demoted.
 */
#include "tests/mem/shadow.h"
#include "tests/mem/walk_tiers.h"
#include "daemon/mem/elastic.h"

#include <stdio.h>
#include <time.h>

#define PROCS	 8
#define TENANTS	 2
#define SPACES	 4
#define KIVI	 3 /* the space of two classes */
#define MAX_HELD 4000
#define SEQS	 8
#define DEPTHS	 40

static const uint32_t shapes[SPACES][4] = {
	{ 4, 0 },	 /* 64 KiB */
	{ 8, 3, 0 },	 /* 128 and 48 KiB */
	{ 1, 40, 2, 0 }, /* 16, 640 and 32 KiB */
	{ 3, 1, 2, 0 },	 /* 48, 16 and 32 KiB, the outer two sealed in 14, 9 */
};

/* Of what can be allocated; and of what can be found. */
#define NR_CLASSES(space) ((uint32_t[]){ 1, 2, 3, 5 }[space])
#define NR_FOUND(space) \
	(NR_CLASSES(space) + (demotes ? (uint32_t[]){ 1, 2, 3, 2 }[space] : 0))

struct held {
	handle_t h;
	uint32_t space;
	uint32_t class;
	uint32_t seq, depth;	/* of its name, when it is named */
	bool open;
	bool named;
};

struct proc {
	struct mem_client *c;
	struct mem_space *s[SPACES];
	pid_t pid;
	uint32_t nr;		/* holds, one entry each */
	struct held held[MAX_HELD];
};

static struct fx f;
static struct proc procs[PROCS];
static pid_t next_pid = 100;
static pid_t zombies[100000];	/* gone, pages quarantined */
static uint32_t nr_zombies;
static bool resizes, demotes;
static uint64_t moved, revoked, unmapped;
static uint64_t published, deduplicated, evicted, demoted, copies;

/* xorshift64*: the same on every machine. */
static uint64_t rng;

static uint32_t below(uint32_t n)
{
	rng ^= rng >> 12;
	rng ^= rng << 25;
	rng ^= rng >> 27;
	return (uint32_t)((rng * 0x2545f4914f6cdd1dULL) >> 33) % n;
}

static bool one_in(uint32_t n)
{
	return below(n) == 0;
}

/* ---- shadows ---- */

static struct shadow *shadows[TENANTS * SPACES];
static uint64_t told;

/* Every space is as it was told to be, or is watched from here on. */
static void shadows_check(void)
{
	struct mem_space *s = NULL;
	uint32_t i = 0;

	for (; (s = mem_space_next(f.m, s)); i++) {
		assert_true(i < TENANTS * SPACES);
		if (!shadows[i])
			shadows[i] = shadow_new(s);
		assert_ptr_equal(shadows[i]->space, s);
		shadow_check(shadows[i]);
	}
}

/* With the pool itself each space goes; nothing can be told before. */
static void shadows_end(bool gone)
{
	for (uint32_t i = 0; i < TENANTS * SPACES; i++) {
		if (!shadows[i])
			continue;
		assert_int_equal(shadows[i]->gone, gone);
		told += shadows[i]->nr_stored + shadows[i]->nr_removed;
		shadow_free(shadows[i]);
		shadows[i] = NULL;
	}
}

/* ---- processes ---- */

static void proc_connect(struct proc *p)
{
	static const char *const names[TENANTS] = { "alice", "bob" };
	uint32_t t = (uint32_t)(p - procs) % TENANTS;

	p->c = fx_client(&f, p->pid, names[t], t ? 5 * MIB : 0);
	for (uint32_t i = 0; i < SPACES; i++) {
		struct mem_space_key key = fx_key((uint8_t)i, shapes[i]);

		if (i == KIVI)
			key = fx_kivi_key((uint8_t)i, shapes[i], 1 << 1);
		if (demotes)
			key.geometry.demote_k = key.geometry.demote_v =
				i == KIVI ? KVD_KIVI2 : KVD_INT8;
		p->s[i] = fx_open(p->c, &key);
		assert_non_null(mem_space_class(p->s[i], NR_FOUND(i) - 1));
		assert_null(mem_space_class(p->s[i], NR_FOUND(i)));
	}
}

static void proc_start(struct proc *p)
{
	p->nr = 0;
	p->pid = next_pid++;
	proc_connect(p);
}

static void proc_add(struct proc *p, struct held held)
{
	assert_true(p->nr < MAX_HELD);
	p->held[p->nr++] = held;
}

static void proc_remove(struct proc *p, uint32_t i)
{
	p->held[i] = p->held[--p->nr];
}

/* Other entries of the page that changed with it. */
static void proc_update(struct proc *p, const struct held *held)
{
	for (uint32_t i = 0; i < p->nr; i++)
		if (p->held[i].h == held->h)
			p->held[i] = *held;
}

static void proc_check(struct proc *p)
{
	struct mem_client_stat st;
	uint64_t nr_open = 0, distinct = 0;

	mem_client_stat(p->c, &st);
	for (uint32_t i = 0; i < p->nr; i++) {
		const struct held *x = &p->held[i];
		bool first = true;

		for (uint32_t j = 0; j < i && first; j++)
			first = p->held[j].h != x->h;
		distinct += first;
		nr_open += x->open;
		if (x->named && one_in(8))
			assert_int_equal(fx_lookup(p->s[x->space], x->seq,
						   x->depth, x->class), x->h);
	}
	assert_int_equal(st.open_pages, nr_open);
	assert_int_equal(st.held_pages, distinct);
}

/* ---- operations ---- */

static struct {
	struct mem_client *c;
	uint32_t segment;
} asked[4096];			/* to unmap, and have not yet */
static uint32_t nr_asked;

static void ask(struct mem_client *c, uint32_t segment)
{
	assert_true(nr_asked < 4096);
	asked[nr_asked].c = c;
	asked[nr_asked++].segment = segment;
	revoked++;
}

/* One that has gone is not asked any more. */
static void ask_no_more(const struct mem_client *c)
{
	for (uint32_t i = nr_asked; i-- > 0;)
		if (asked[i].c == c)
			asked[i] = asked[--nr_asked];
}

static void op_unmap(void)
{
	uint32_t i;

	if (!nr_asked)
		return;
	i = below(nr_asked);
	mem_unmapped(asked[i].c, asked[i].segment);
	unmapped++;
	asked[i] = asked[--nr_asked];
}

/* Clients map what they have pages in: some of it is enough. */
static void op_map(struct proc *p)
{
	const struct dev_segment *seg;
	uint32_t ids[4], nr;

	nr = mem_segments(p->s[0], ids, 4);
	for (uint32_t i = 0; i < nr; i++)
		assert_int_equal(mem_segment_get(p->s[0], ids[i], &seg), 0);
}

static void op_resize(struct proc *p)
{
	uint64_t bytes = (4 + below(41)) * (uint64_t)MIB;

	assert_int_equal(mem_resize(f.m, bytes), 0);
	for (uint32_t i = below(8); i; i--) {
		dev_drain(f.dev);
		mem_trim(f.m);
	}
	op_map(p);
}

static void op_alloc(struct proc *p)
{
	uint32_t space = below(SPACES), class, nr = 1 + below(12);
	handle_t h[12];
	place_t places[12];
	uint64_t need;
	int r;

	class = below(NR_CLASSES(space));
	if (p->nr + nr > MAX_HELD)
		return;
	r = mem_alloc(p->c, p->s[space], class, nr, h, places, &need);
	assert_true(r == 0 || r == -EAGAIN || r == -ENOSPC || r == -EDQUOT ||
		    (r == -EINVAL && nr > 1)); /* more than the limit */
	for (uint32_t i = 0; r == 0 && i < nr; i++)
		proc_add(p, (struct held){ .h = h[i], .space = space,
					   .class = class, .open = true });
}

/* More where pages are demoted: only what nobody holds can be. */
static void op_release(struct proc *p)
{
	uint32_t nr = 1 + below(one_in(30) ? 200 : demotes ? 24 : 8);

	while (nr-- && p->nr) {
		uint32_t i = below(p->nr);

		fx_release(p->c, p->held[i].h);
		proc_remove(p, i);
	}
}

/* What became of page @x, published under a name that @out has now. */
static void proc_published(struct proc *p, struct held x, handle_t out,
			   struct held name)
{
	x.open = false;
	if (!name.named || out == x.h) {
		x.named |= name.named;
		x.seq = name.named ? name.seq : x.seq;
		x.depth = name.named ? name.depth : x.depth;
		proc_update(p, &x);
		return;
	}
	proc_update(p, &x);
	name.space = x.space;
	name.class = x.class;
	name.h = out;
	proc_add(p, name);
}

static uint32_t group_of(const struct held *x)
{
	return mem_space_class(procs[0].s[x->space], x->class)->group;
}

/* A page of another class than @x, of the same group if it has two; or NULL. */
static const struct held *proc_partner(const struct proc *p,
				       const struct held *x)
{
	uint32_t first = below(p->nr);

	for (uint32_t i = 0; i < p->nr; i++) {
		const struct held *y = &p->held[(first + i) % p->nr];

		if (y->space == x->space && y->class != x->class &&
		    (x->space != KIVI || group_of(y) == group_of(x)))
			return y;
	}
	return NULL;
}

/* Has the block both pages of group 0, or of group 2? */
static bool has_copy(struct proc *p, uint32_t seq, uint32_t depth)
{
	struct mem_space *s = p->s[KIVI];

	return (fx_lookup(s, seq, depth, 0) && fx_lookup(s, seq, depth, 3)) ||
	       (fx_lookup(s, seq, depth, 2) && fx_lookup(s, seq, depth, 4));
}

static bool is_renamed(const struct held *x, const struct held *name)
{
	return x->named && (x->seq != name->seq || x->depth != name->depth);
}

static void op_publish(struct proc *p)
{
	struct held name = { .seq = below(SEQS), .depth = below(DEPTHS) };
	handle_t out[MEM_MAX_CLASSES];
	place_t places[MEM_MAX_CLASSES];
	const struct held *partner;
	struct mem_block b;
	struct held x[2];
	uint32_t nr = 1;
	int r;

	name.named = !one_in(6);
	if (!p->nr || p->nr > MAX_HELD - 2)
		return;
	x[0] = p->held[below(p->nr)];
	partner = one_in(2) ? proc_partner(p, x) : NULL;
	if (partner)
		x[nr++] = *partner;
	if (partner && partner->named && one_in(2)) {
		name.seq = partner->seq; /* its block's other page */
		name.depth = partner->depth;
	}
	b = fx_block(p->s[x[0].space], name.seq, name.depth);
	for (uint32_t i = 0; i < nr; i++)
		b.pages[x[i].class] = x[i].h;
	r = mem_publish(p->c, p->s[x[0].space], &b, !name.named, out, places);
	if (r == -EINVAL) {
		assert_true(name.named && (is_renamed(&x[0], &name) ||
			    (nr > 1 && is_renamed(&x[1], &name))));
		return;
	}
	assert_int_equal(r, 0);
	for (uint32_t i = 0; i < nr; i++)
		proc_published(p, x[i], out[x[i].class], name);
	copies += x[0].space == KIVI && has_copy(p, name.seq, name.depth);
}

static void op_match(struct proc *p)
{
	uint32_t space = below(SPACES), class, seq = below(SEQS), nr = 0;
	handle_t h[DEPTHS];
	place_t places[DEPTHS];
	uint32_t granted;

	class = below(NR_FOUND(space));
	for (; nr < DEPTHS; nr++) {
		h[nr] = fx_lookup(p->s[space], seq, nr, class);
		if (!h[nr])
			break;
	}
	if (p->nr + nr > MAX_HELD)
		return;
	granted = mem_match(p->c, p->s[space], h, nr, places);
	assert_int_equal(granted, nr);
	for (uint32_t d = 0; d < nr; d++)
		proc_add(p, (struct held){ .h = h[d], .space = space,
					   .class = class, .seq = seq,
					   .depth = d, .named = true });
}

static void op_reference(struct proc *p)
{
	struct held x;
	int r;

	if (!p->nr || p->nr == MAX_HELD)
		return;
	x = p->held[below(p->nr)];
	r = mem_reference(p->c, &x.h, 1);
	assert_int_equal(r, x.open ? -ESTALE : 0);
	if (r == 0)
		proc_add(p, x);
}

/* Handles nobody has, or that another process has. */
static void op_misuse(struct proc *p)
{
	const struct proc *q = &procs[below(PROCS)];
	handle_t h = handle_make(below(9), below(400));
	struct mem_block b = fx_block(p->s[0], 0, 0);
	handle_t out[MEM_MAX_CLASSES];
	place_t places[MEM_MAX_CLASSES];
	uint32_t nr;

	if (q->nr && one_in(2))
		h = q->held[below(q->nr)].h;
	for (uint32_t i = 0; i < p->nr; i++)
		if (p->held[i].h == h)
			return;
	assert_int_equal(mem_release(p->c, &h, 1, &nr), -ESTALE);
	assert_int_equal(mem_reference(p->c, &h, 1), -ESTALE);
	b.pages[0] = h;
	if (h)
		assert_int_equal(mem_publish(p->c, p->s[0], &b, false, out,
					     places), -ESTALE);
}

static void op_die(struct proc *p)
{
	static const enum mem_end ends[] = {
		MEM_END_UNKNOWN, MEM_END_DEAD, MEM_END_BYE
	};
	enum mem_end end = ends[below(3)];

	ask_no_more(p->c);
	mem_client_free(p->c, end);
	if (end != MEM_END_DEAD)
		zombies[nr_zombies++] = p->pid;
	proc_start(p);
}

static void op_reap(void)
{
	uint32_t i;

	if (!nr_zombies)
		return;
	i = below(nr_zombies);
	mem_reap_writer(f.m, zombies[i], 1000);
	zombies[i] = zombies[--nr_zombies];
}

/* The connection breaks, the process lives: it claims what it can. */
static void proc_claim(struct proc *p)
{
	uint32_t was = p->nr;

	p->nr = 0;
	for (uint32_t i = 0; i < was; i++) {
		struct held x = p->held[i];

		if (mem_claim(p->c, p->s[x.space], x.h, 1) == 0)
			p->held[p->nr++] = x;
		else
			assert_true(!x.open); /* nobody else may have it */
	}
}

static void op_reconnect(struct proc *p)
{
	ask_no_more(p->c);
	mem_client_free(p->c, MEM_END_UNKNOWN);
	zombies[nr_zombies++] = p->pid;
	proc_connect(p);
	proc_claim(p);
}

static bool nobody_lives(pid_t pid, uint64_t start_time)
{
	return pid % 2;
}

static void count(void)
{
	struct mem_size size;
	struct mem_stat st;

	mem_stat(f.m, &st);
	published += st.published;
	deduplicated += st.deduplicated;
	evicted += st.evicted;
	demoted += st.demoted;
	mem_size(f.m, &size);
	moved += size.moved;
}

/* The daemon is replaced; only some processes come back in time. */
static void op_restart(void)
{
	count();
	nr_asked = 0;
	walk_tiers_leave(&f);
	fx_restart(&f);
	walk_tiers_again(&f);
	shadows_end(true);
	for (int i = 0; i < PROCS; i++) {
		struct proc *p = &procs[i];

		if (one_in(4)) {
			if (p->pid % 2)
				zombies[nr_zombies++] = p->pid;
			proc_start(p);
			continue;
		}
		proc_connect(p);
		proc_claim(p);
		if (one_in(3))
			op_alloc(p);
	}
	fx_verify(&f);
	shadows_check();
	mem_grace_end(f.m, nobody_lives);
}

static void op_fetch(struct proc *p)
{
	walk_tiers_fetch(p->s[below(SPACES)], below(SEQS), below(DEPTHS - 12),
			 one_in(4));
	if (one_in(60))
		walk_tiers_drop(&f, p->s[below(SPACES)]);
}

static void step(void)
{
	struct proc *p = &procs[below(PROCS)];

	switch (below(100)) {
	case 0 ... 27:
		op_alloc(p);
		break;
	case 28 ... 50:
		for (uint32_t i = 1 + below(12); i; i--)
			op_publish(p);
		break;
	case 51 ... 70:
		op_release(p);
		break;
	case 71 ... 80:
		op_match(p);
		break;
	case 81 ... 85:
		op_reference(p);
		break;
	case 86 ... 89:
		op_misuse(p);
		break;
	case 90:
		op_die(p);
		break;
	case 91 ... 93:
		op_reap();
		break;
	case 94:
		op_reconnect(p);
		break;
	case 95:
		if (one_in(20))
			op_restart();
		break;
	case 96:
		for (uint32_t i = below(6); i; i--)
			op_fetch(p);
		if (resizes && one_in(3))
			op_resize(p);
		break;
	default:
		for (uint32_t i = below(6); resizes && i; i--)
			op_unmap();
		if (resizes && one_in(4))
			mem_tick(f.m);
		if (one_in(2))
			dev_drain(f.dev);
		else
			dev_reap(f.dev);
	}
}

static void test_walk(void **state)
{
	const char *seed = getenv("KVD_SEED"), *steps = getenv("KVD_STEPS");
	unsigned long nr = steps ? strtoul(steps, NULL, 0) : 12000;
	struct mem_stat st;
	uint64_t fetched;

	rng = seed ? strtoull(seed, NULL, 0) : (uint64_t)time(NULL) * 2654435761u;
	rng |= 1;
	printf("KVD_SEED=%llu KVD_STEPS=%lu\n", (unsigned long long)rng, nr);
	fflush(stdout);
	resizes = getenv("KVD_WALK_RESIZE") != NULL;
	demotes = getenv("KVD_WALK_DEMOTE") != NULL;
	fx_init_elastic(&f, 22 * MIB, resizes ? 44 * MIB : 0, 4 * MIB);
	if (getenv("KVD_WALK_TIERS"))
		walk_tiers_begin(&f, 64 * MIB);
	f.revoked = ask;
	f.changed = shadow_change;
	for (int i = 0; i < PROCS; i++)
		proc_start(&procs[i]);
	for (unsigned long i = 0; i < nr; i++) {
		step();
		if (i % 16)
			continue;
		fx_verify(&f);
		shadows_check();
		proc_check(&procs[below(PROCS)]);
	}
	nr_asked = 0;
	for (int i = 0; i < PROCS; i++)
		mem_client_free(procs[i].c, MEM_END_DEAD);
	while (nr_zombies)
		op_reap();
	dev_drain(f.dev);
	fetched = walk_tiers_end(&f);
	shadows_check();
	shadows_end(false);
	mem_stat(f.m, &st);
	count();
	printf("%llu published, %llu deduplicated, %llu demoted, %llu evicted, "
	       "%llu times beside an exact copy, %llu times told\n",
	       (unsigned long long)published,
	       (unsigned long long)deduplicated,
	       (unsigned long long)demoted, (unsigned long long)evicted,
	       (unsigned long long)copies,
	       (unsigned long long)told);
	printf("%llu pages moved, %llu times asked to unmap, %llu done\n",
	       (unsigned long long)moved, (unsigned long long)revoked,
	       (unsigned long long)unmapped);
	assert_true(!resizes || (moved > 0 && unmapped > 0) || nr < 12000);
	printf("%llu pages fetched\n", (unsigned long long)fetched);
	assert_true(!getenv("KVD_WALK_TIERS") || fetched > 0 || nr < 12000);
	assert_true(told > 1000 || nr < 12000);
	assert_true(copies > 0 || nr < 12000);
	assert_true(demotes == (demoted > 0) || nr < 12000);
	assert_int_equal(st.pages.of[PAGE_OPEN] + st.pages.of[PAGE_SEALED] +
				 st.pages.of[PAGE_QUARANTINED], 0);
	fx_fini(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_walk),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
