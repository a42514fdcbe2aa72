/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stores.c - the daemon is killed at every store to its page table.
 *
 *	mem_stores [ROUNDS [EVERY [TEAR]]]
 *
 * A scripted run makes every kind of change there is, ROUNDS times over. After
 * each store to the table a pool is made of a copy of it and of the
 * descriptors that were kept, as a successor would. It has to balance; what
 * was published, and not given up since, is there under the same handle; what
 * is found holds what its name says; whoever had an open page can claim it;
 * and when all are gone and the grace time is over, nothing is held. At every
 * EVERYth stop the successor is stopped at each of its stores as well, and has
 * a successor of its own. With TEAR 1 stores wider than a word are also
 * stopped at between their words.
 */
#include "tests/mem/stores.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "daemon/mem/pool.h"
#include "daemon/util/memfd.h"
#include "tests/mem/trap.h"

#define MAX_OPEN 64
#define FIRST_PID 11

/* What a client was told of a block's page. */
struct fact {
	handle_t h;	/* 0: nothing is promised */
	uint32_t held;	/* by the script: reclaim leaves it alone */
};

struct owned {
	handle_t h;	/* 0: unused */
	uint32_t pid, space;
};

struct fx primary;		/* the daemon */
static struct fx later[TRAP_DEPTHS]; /* its successor, and that one's */
static struct fact facts[SPACES][SEQS][DEPTHS][CLASSES];
static struct owned owned[MAX_OPEN];
static struct mem_space_key keys[SPACES];
struct mem_client *clients[PIDS];
struct mem_space *spaces[PIDS][SPACES];
uint32_t kept_from, kept_to;
static uint64_t nr_stops[TRAP_DEPTHS], nr_found, nr_claimed;
static bool all_gone;		/* owners of open pages, in later[0] */
static unsigned rounds = 1, every = 50;
static const char *now = "start";

static void no_wake(void *ctx)
{
}

/* ---- a successor ---- */

static bool nobody(pid_t pid, uint64_t start_time)
{
	return false;
}

static int copy_table(int fd)
{
	struct stat st;
	void *from, *to;
	int copy;

	assert_int_equal(fstat(fd, &st), 0);
	copy = memfd_new("kvd-table", (uint64_t)st.st_size);
	assert_true(copy >= 0);
	assert_int_equal(memfd_map(fd, (uint64_t)st.st_size, &from), 0);
	assert_int_equal(memfd_map(copy, (uint64_t)st.st_size, &to), 0);
	memcpy(to, from, (size_t)st.st_size);
	munmap(from, (size_t)st.st_size);
	munmap(to, (size_t)st.st_size);
	return copy;
}

static void successor_make(struct fx *f, const struct fx *of, bool watched)
{
	struct dev *dev = f->dev;

	memset(f, 0, sizeof(*f));
	f->cfg = of->cfg;
	f->dev = dev;
	for (int i = 0; i < MAX_KEPT; i++) {
		const struct kept *k = &of->kept[i];

		if (!k->name[0])
			continue;
		f->kept[i] = *k;
		f->kept[i].fd = strcmp(k->name, MEM_FD_TABLE) == 0 ?
					copy_table(k->fd) :
					fcntl(k->fd, F_DUPFD_CLOEXEC, 0);
		assert_true(f->kept[i].fd >= 0);
	}
	if (watched)
		trap_next(1);
	assert_int_equal(fx_new(f), 0);
	fx_verify(f);
}

/* Is it there as promised, and does what is there hold what it should? */
static void check_page(struct mem_client *c, struct mem_space *s,
		       uint32_t space, uint32_t seq, uint32_t depth,
		       uint32_t class)
{
	handle_t promised = facts[space][seq][depth][class].h;
	handle_t h = fx_lookup(s, seq, depth, class);
	volatile uint64_t *first, *last;
	place_t place;

	if (promised && h != promised)
		fail_msg("block %u of prefix %u in space %u: class %u is %llx,"
			 " and was published as %llx", depth, seq, space,
			 class, (unsigned long long)h,
			 (unsigned long long)promised);
	if (!h)
		return;
	assert_int_equal(mem_match(c, s, &h, 1, &place), 1);
	page_ends(s, place, class, &first, &last);
	assert_int_equal(*first, content(space, seq, depth, class));
	assert_int_equal(*last, content(space, seq, depth, class));
	fx_release(c, h);
	nr_found++;
}

static void check_pages(struct mem_client *c, struct mem_space *const *s)
{
	for (uint32_t i = kept_from; i < kept_to; i++)
		assert_true(fx_lookup(s[SHRINKS], i / DEPTHS, i % DEPTHS, 0) ||
			    fx_lookup(s[SHRINKS], i / DEPTHS, i % DEPTHS,
				      SMALL));
	for (uint32_t i = 0; i < SPACES * SEQS * DEPTHS * CLASSES; i++) {
		uint32_t space = i / CLASSES / DEPTHS / SEQS;

		if (mem_space_class(s[space], i % CLASSES))
			check_page(c, s[space], space,
				   i / CLASSES / DEPTHS % SEQS,
				   i / CLASSES % DEPTHS, i % CLASSES);
	}
}

static void successor_check(struct fx *f)
{
	struct mem_client *c[PIDS];
	struct mem_space *s[PIDS][SPACES];

	for (uint32_t i = 0; i < PIDS; i++) {
		c[i] = fx_client(f, (pid_t)(FIRST_PID + i), "t", 0);
		for (uint32_t j = 0; j < SPACES; j++)
			s[i][j] = fx_open(c[i], &keys[j]);
	}
	for (uint32_t i = 0; i < MAX_OPEN; i++) {
		const struct owned *o = &owned[i];

		if (!o->h || all_gone)
			continue;
		if (mem_claim(c[o->pid], s[o->pid][o->space], o->h, 1))
			fail_msg("%llx cannot be claimed",
				 (unsigned long long)o->h);
		nr_claimed++;
	}
	check_pages(c[0], s[0]);
	fx_verify(f);
	all_gone |= f == &later[0];
	for (uint32_t i = 0; i < PIDS; i++)
		mem_client_free(c[i], MEM_END_DEAD);
}

/* All are dead: what was not claimed is free or cached then. */
static void successor_end(struct fx *f)
{
	struct mem_client *c;
	struct mem_space *s[SPACES];

	mem_grace_end(f->m, nobody);
	while (mem_trim(f->m))
		;
	dev_drain(f->dev);
	fx_verify(f);
	assert_int_equal(fx_pages(f, PAGE_OPEN), 0);
	assert_int_equal(fx_pages(f, PAGE_SEALED), 0);
	assert_int_equal(fx_pages(f, PAGE_QUARANTINED), 0);
	c = fx_client(f, FIRST_PID, "t", 0);
	for (uint32_t j = 0; j < SPACES; j++)
		s[j] = fx_open(c, &keys[j]);
	check_pages(c, s);
	mem_client_free(c, MEM_END_DEAD);
	fx_verify(f);
}

/* The daemon, or a successor, has made a store and is killed. */
static void on_stop(unsigned depth)
{
	const struct fx *of = depth ? &later[0] : &primary;
	bool deeper = depth == 0 && every && nr_stops[0] % every == 0;
	struct fx *f = &later[depth];

	nr_stops[depth]++;
	successor_make(f, of, deeper);
	successor_check(f);
	successor_end(f);
	if (depth == 0) {
		trap_forget(1);
		all_gone = false;
	}
	mem_free(f->m);
	fx_forget(f);
}

/* ---- the script's bookkeeping ---- */

static void owned_add(handle_t h, uint32_t pid, uint32_t space)
{
	for (uint32_t i = 0; i < MAX_OPEN; i++)
		if (!owned[i].h) {
			owned[i] = (struct owned){ h, pid, space };
			return;
		}
	fail_msg("more than %d open pages", MAX_OPEN);
}

static void owned_remove(handle_t h)
{
	for (uint32_t i = 0; i < MAX_OPEN; i++)
		if (owned[i].h == h)
			owned[i].h = 0;
}

static void owned_remove_all(uint32_t pid)
{
	for (uint32_t i = 0; i < MAX_OPEN; i++)
		if (owned[i].pid == pid)
			owned[i].h = 0;
}

void facts_loosen(void)
{
	struct fact *f = &facts[0][0][0][0];

	for (uint32_t i = 0; i < SPACES * SEQS * DEPTHS * CLASSES; i++)
		if (!f[i].held)
			f[i].h = 0;
}

void facts_settle(void)
{
	for (uint32_t i = 0; i < SPACES * SEQS * DEPTHS * CLASSES; i++) {
		uint32_t space = i / CLASSES / DEPTHS / SEQS;
		struct mem_space *s = spaces[0][space];
		struct fact *f = &facts[0][0][0][0] + i;
		handle_t h = 0;

		if (mem_space_class(s, i % CLASSES))
			h = fx_lookup(s, i / CLASSES / DEPTHS % SEQS,
				      i / CLASSES % DEPTHS, i % CLASSES);
		assert_true(!f->h || f->h == h);
		f->h = h;
	}
}

static handle_t open_page(uint32_t pid, uint32_t space, uint32_t class)
{
	handle_t h = fx_page(&primary, clients[pid], spaces[pid][space],
			     class);

	owned_add(h, pid, space);
	return h;
}

static void release(uint32_t pid, handle_t h)
{
	owned_remove(h);
	fx_release(clients[pid], h);
}

/* An open page that holds what block (seq, depth) has to. */
static handle_t written_page(uint32_t pid, uint32_t space, uint32_t seq,
			     uint32_t depth, uint32_t class)
{
	struct mem_space *s = spaces[pid][space];
	volatile uint64_t *first, *last;
	handle_t h = 0;
	place_t place;
	uint64_t need;

	while (!h) {
		int r = mem_alloc(clients[pid], s, class, 1, &h, &place,
				  &need);

		dev_drain(primary.dev);
		while (r == -EAGAIN && mem_trim(primary.m))
			;
		assert_true(r == 0 || r == -EAGAIN);
	}
	owned_add(h, pid, space);
	page_ends(s, place, class, &first, &last);
	*first = content(space, seq, depth, class);
	*last = content(space, seq, depth, class);
	return h;
}

void publish(uint32_t pid, uint32_t space, uint32_t seq, uint32_t depth,
	     uint32_t classes)
{
	struct mem_space *s = spaces[pid][space];
	handle_t h[MEM_MAX_CLASSES] = { 0 }, out[MEM_MAX_CLASSES];
	place_t place[MEM_MAX_CLASSES];
	struct mem_block b;

	for (uint32_t i = 0; i < CLASSES; i++)
		if (classes >> i & 1)
			h[i] = written_page(pid, space, seq, depth, i);
	b = fx_block(s, seq, depth);
	memcpy(b.pages, h, sizeof(b.pages));
	assert_int_equal(mem_publish(clients[pid], s, &b, false, out, place),
			 0);
	for (uint32_t i = 0; i < CLASSES; i++) {
		if (!h[i])
			continue;
		if (out[i] != h[i])
			release(pid, h[i]);
		owned_remove(h[i]);
		facts[space][seq][depth][i].held++;
	}
	facts_settle();
}

void let_go(uint32_t pid, uint32_t space, uint32_t seq, uint32_t depth)
{
	for (uint32_t i = 0; i < CLASSES; i++) {
		struct fact *f = &facts[space][seq][depth][i];

		if (!f->held)
			continue;
		f->held--;
		fx_release(clients[pid], f->h);
	}
	facts_settle();
}

/* ---- the script ---- */

static void connect_all(void)
{
	for (uint32_t i = 0; i < PIDS; i++) {
		clients[i] = fx_client(&primary, (pid_t)(FIRST_PID + i), "t",
				       0);
		for (uint32_t j = 0; j < SPACES; j++)
			spaces[i][j] = fx_open(clients[i], &keys[j]);
	}
}

/* Open pages; all classes of a block; one alone, the other later. */
static void do_publish(void)
{
	handle_t h[3];

	for (uint32_t i = 0; i < 3; i++)
		h[i] = open_page(0, i % SHRINKS, 0);
	publish(0, 0, 0, 0, 7);
	publish(0, 0, 0, 1, 7);
	publish(0, 0, 1, 0, 1);
	publish(0, 0, 1, 0, 4);
	publish(0, 1, 0, 0, 3);
	publish(0, 1, 0, 1, 1);
	release(0, h[1]);
	publish(0, 1, 1, 0, 2);
	release(0, h[0]);
	release(0, h[2]);
}

/* Another has the same prefix: its page is freed, the first one stays. */
static void do_share(void)
{
	handle_t h = facts[0][0][0][0].h;
	place_t place;

	publish(1, 0, 0, 0, 7);
	assert_int_equal(mem_match(clients[1], spaces[1][0], &h, 1, &place),
			 1);
	assert_int_equal(mem_reference(clients[1], &h, 1), 0);
	fx_release(clients[1], h);
	fx_release(clients[1], h);
	let_go(1, 0, 0, 0);
}

/* Sealed without a name, and given back. */
static void do_private(void)
{
	struct mem_space *s = spaces[0][1];
	handle_t h = written_page(0, 1, 2, 0, 0), out[MEM_MAX_CLASSES];
	struct mem_block b = fx_block(s, 2, 0);
	place_t place[MEM_MAX_CLASSES];

	b.pages[0] = h;
	assert_int_equal(mem_publish(clients[0], s, &b, true, out, place), 0);
	release(0, h);
}

static void do_pin(void)
{
	struct mem_pin_stat st;
	struct name name = fx_name(spaces[0][0], 0, 1);
	uint32_t block = mem_pin_find(spaces[0][0], &name);

	mem_pin_percent(primary.m, 100);
	assert_true(block != 0);
	assert_int_equal(mem_pin(spaces[0][0], block, 1000, 60000, &st), 0);
	let_go(0, 0, 0, 0);
	let_go(0, 0, 0, 1);
	while (mem_pin_tick(primary.m, 62000))
		;
}

/* More open pages of one class than there is room for beside the rest. */
static void do_demand(void)
{
	handle_t h[MAX_OPEN];
	uint32_t nr = 0, space = 0;

	facts_loosen();
	while (nr < MAX_OPEN / 2 &&
	       fx_alloc(&primary, clients[0], spaces[0][space], 0, 1,
			&h[nr]) == 0)
		owned_add(h[nr++], 0, space);
	facts_settle();
	assert_true(nr > 8);
	while (nr)
		release(0, h[--nr]);
}

static void do_limits(void)
{
	facts_loosen();
	fx_limit(&primary, "t", 0, 0, 128 << 10);
	facts_settle();
	fx_limit(&primary, "t", 0, 0, 0);
}

static void do_reclaim(void)
{
	struct mem_given given;
	struct mem_cursor at = { 0 };
	bool more = true;

	publish(0, 0, 2, 0, 7);
	publish(0, 0, 2, 1, 7);
	publish(0, 1, 2, 0, 3);
	let_go(0, 0, 2, 0);
	let_go(0, 0, 2, 1);
	let_go(0, 1, 2, 0);
	facts_loosen();
	while (more)
		assert_int_equal(mem_reclaim(primary.m, "t", 16384, &given,
					     &more), 0);
	facts_settle();
	publish(0, 0, 3, 0, 7);
	let_go(0, 0, 3, 0);
	facts_loosen();
	do {
		assert_int_equal(mem_drop(spaces[0][0], &at, &given), 0);
	} while (at.block);
	facts_settle();
}

/* A process dies with open and sealed pages, its socket first. */
static void do_death(void)
{
	for (uint32_t i = 0; i < 4; i++)
		open_page(1, i % SHRINKS, 0);
	publish(1, 0, 3, 1, 7);
	for (uint32_t i = 0; i < CLASSES; i++)
		facts[0][3][1][i].held = 0;
	mem_client_free(clients[1], MEM_END_UNKNOWN);
	while (mem_trim(primary.m))
		;
	assert_true(fx_pages(&primary, PAGE_QUARANTINED) > 0);
	owned_remove_all(1);
	mem_reap_writer(primary.m, FIRST_PID + 1, 1000);
	while (mem_trim(primary.m))
		;
	clients[1] = fx_client(&primary, FIRST_PID + 1, "t", 0);
	for (uint32_t j = 0; j < SPACES; j++)
		spaces[1][j] = fx_open(clients[1], &keys[j]);
}

/* All of the tenant end. Its memory goes to another one, in other segments,
 * whose spaces are more than there are records; then that one ends. */
static void do_tenants(void)
{
	static const uint32_t layers[] = { 32, 0 };
	uint32_t nr = 0;

	for (uint32_t i = 0; i < SPACES * SEQS * DEPTHS * CLASSES; i++)
		(&facts[0][0][0][0])[i].held = 0;
	mem_client_free(clients[0], MEM_END_BYE);
	mem_client_free(clients[1], MEM_END_DEAD);
	while (mem_trim(primary.m))
		;
	mem_reap_writer(primary.m, FIRST_PID, 1000);
	mem_reap_writer(primary.m, FIRST_PID + 1, 1000);
	facts_loosen();
	for (uint32_t i = 0; i < 4; i++) {
		struct mem_client *c = fx_client(&primary, 20, "u", 0);
		struct mem_space *s = fx_space(c, (uint8_t)(100 + i), layers);
		handle_t h;

		for (uint32_t seq = 0; seq < 9; seq++) {
			if (fx_alloc(&primary, c, s, 0, 1, &h))
				break;
			nr++;
			fx_release(c, fx_publish(c, s, seq, 0, 0, h));
		}
		mem_client_free(c, MEM_END_DEAD);
		mem_reap_writer(primary.m, 20, 1000);
	}
	assert_true(nr > 20);
	while (mem_trim(primary.m))
		;
	dev_drain(primary.dev);
	connect_all();
	facts_settle();
}

static bool first_lives(pid_t pid, uint64_t start_time)
{
	return pid == FIRST_PID;
}

/*
 * The daemon itself comes back. One process claims an open page of its two and
 * lives, so the other one is quarantined; another process is dead.
 */
static void do_restart(void)
{
	handle_t h[4];

	for (uint32_t i = 0; i < 4; i++)
		h[i] = open_page(i / 2, 0, 0);
	publish(0, 0, 0, 2, 7);
	trap_forget(0);
	mem_free(primary.m);
	trap_next(0);
	assert_int_equal(fx_new(&primary), 0);
	connect_all();
	assert_int_equal(mem_claim(clients[0], spaces[0][0], h[0], 1), 0);
	for (uint32_t i = 0; i < CLASSES; i++)
		assert_int_equal(mem_claim(clients[0], spaces[0][0],
					   facts[0][0][2][i].h, 1), 0);
	for (uint32_t i = 1; i < 4; i++)
		owned_remove(h[i]);
	mem_grace_end(primary.m, first_lives);
	while (mem_trim(primary.m))
		;
	assert_int_equal(fx_pages(&primary, PAGE_OPEN), 1);
	assert_int_equal(fx_pages(&primary, PAGE_QUARANTINED), 1);
	facts_settle();
	release(0, h[0]);
	let_go(0, 0, 0, 2);
	mem_reap_writer(primary.m, FIRST_PID, 1000);
	assert_int_equal(fx_pages(&primary, PAGE_QUARANTINED), 0);
}

static void run(void (*step)(void), const char *name)
{
	uint64_t before = nr_stops[0];

	now = name;
	step();
	fx_verify(&primary);
	printf("  %-10s %6llu stores\n", name,
	       (unsigned long long)(nr_stops[0] - before));
	fflush(stdout);
}

static void primary_make(void)
{
	const char *policy = getenv("KVD_TEST_POLICY");

	primary.cfg = (struct mem_config){
		.pool_bytes = 8 * MIB,
		.segment_bytes = 4 * MIB,
		.max_pages = 512,
		.max_spaces = 12, /* a tenant has a quarter */
		.policy = policy ? policy : "lru",
	};
	assert_int_equal(fx_new(&primary), 0);
}

static void test_stores(void **state)
{
	assert_true(trap_init(on_stop));
	trap_next(0);
	run(primary_make, "make");
	run(connect_all, "connect");
	for (unsigned i = 0; i < rounds; i++) {
		run(do_publish, "publish");
		run(do_share, "share");
		run(do_private, "private");
		run(do_pin, "pin");
		run(do_death, "death");
		run(do_restart, "restart");
		run(do_publish, "again");
		run(do_limits, "limits");
		run(do_reclaim, "reclaim");
		run(do_demand, "demand");
		run(do_tenants, "tenants");
		run(do_demote, "demote");
	}
	trap_forget(0);
	printf("stopped at %llu stores, and at %llu of successors: %llu pages "
	       "claimed, %llu found, as they were\n",
	       (unsigned long long)nr_stops[0],
	       (unsigned long long)nr_stops[1],
	       (unsigned long long)nr_claimed, (unsigned long long)nr_found);
	printf("%llu stores were wider than 8 bytes\n",
	       (unsigned long long)trap_nr_wide());
	assert_true(nr_stops[0] > 1000 && nr_found > 0 && nr_claimed > 0);
	mem_free(primary.m);
	fx_forget(&primary);
}

static void say_where(void)
{
	fprintf(stderr, "at store %llu (%llu of a successor), in %s\n",
		(unsigned long long)nr_stops[0],
		(unsigned long long)nr_stops[1], now);
}

int main(int argc, char **argv)
{
	static const uint32_t kivi[] = { 1, 1, 0 }, plain[] = { 2, 1, 0 },
			      many[] = { 48, 0 };
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_stores) };
	char note[200];
	int r;

#ifndef __x86_64__
	puts("single steps are known for x86-64 only");
	return 77;
#endif
	if (argc > 1)
		rounds = (unsigned)strtoul(argv[1], NULL, 0);
	if (argc > 2)
		every = (unsigned)strtoul(argv[2], NULL, 0);
	if (argc > 3 && atoi(argv[3]))
		trap_tear();
	keys[0] = fx_kivi_key(1, kivi, 1 << 1);
	keys[1] = fx_key(2, plain);
	keys[SHRINKS] = fx_key(3, many);
	keys[SHRINKS].geometry.k_format = KVD_INT8;
	keys[SHRINKS].geometry.v_format = KVD_INT8;
	keys[SHRINKS].geometry.demote_k = KVD_INT4;
	keys[SHRINKS].geometry.demote_v = KVD_INT4;
	if (dev_new("host", no_wake, NULL, &primary.dev, note, sizeof(note)) ||
	    dev_new("host", no_wake, NULL, &later[0].dev, note,
		    sizeof(note)) ||
	    dev_new("host", no_wake, NULL, &later[1].dev, note, sizeof(note)))
		return 1;
	r = cmocka_run_group_tests(tests, NULL, NULL);
	if (r)
		say_where();
	dev_free(primary.dev);
	dev_free(later[0].dev);
	dev_free(later[1].dev);
	return r;
}
