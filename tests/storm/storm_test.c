// SPDX-License-Identifier: Apache-2.0
/*
 * storm_test.c - a storm of random operations; nothing is lost, nothing is
 * anybody else's, all adds up.
 *
 *	storm_random [--seed N] [--ops N] [--restart ROUNDS] [--resize 1]
 *		     [--tier 1]
 *
 * After each round of ROUND operations, by all clients at once and by the
 * admin among them, all stand still: then the walker runs, states add up to
 * what there is, of the pool and of each tenant, and the pages that clients
 * believe to hold are exactly those that the daemon counts as theirs. As root
 * clients are of several tenants with limits of their own, which change; where
 * we are not root they are all of one.
 *
 * After some rounds kvd is killed in the middle of one, and the next kvd has its
 * pages; clients claim what they hold.
 *
 * With --resize the pool is made larger and smaller meanwhile, by the admin.
 * With --tier what it gives up is saved, and comes back.
 *
 * A seed decides what is done, not how it interleaves.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "tests/storm/storm.h"
#include "tests/support/check.h"
#include "tests/support/daemon.h"
#include "tests/support/manager.h"
#include "tests/support/raw.h"

#define MANY_OPS 10000u	/* all that can happen has, by then */
#define CLIENTS	      16
#define ROUND	      1000u
#define ADMIN_OPS     8u	/* of them */
#define POOL	      (48ull << 20)
#define WAIT_MS	      20
#define ROUND_MS      120000	/* at most */
#define TENANT_BYTES  32

static struct manager m;
static const char *const args[] = {
	"--pool", "48M", "--segment", "2M", "--set", "grace=1s", "--set",
	"pool-max=96M", NULL
};
static char tier_file[64];
static const char *const args_tier[] = {
	"--pool", "48M", "--segment", "2M", "--set", "grace=1s", "--set",
	"pool-max=96M", "--set", "tier-memory=24M", "--set", tier_file,
	"--set", "tier-file-size=48M", NULL
};
static bool tier;
static bool resizes;
static struct storm_options opts;
static uint64_t rng, nr_ops = 40000, worst_walk_us, rounds;
static uint64_t restart_every = 20, nr_restarts, published, evicted, moved;
static uint64_t made_smaller;
static uint64_t saved, fetched; /* by tiers */
static uint64_t admin_nr[STORM_NR_OPS];

static struct storm_crew crew = { .o = &opts, .nr = CLIENTS };

static const char *const op_names[] = {
#define STORM_NAME(name, text) text,
	STORM_OPS(STORM_NAME)
#undef STORM_NAME
};

static uint32_t roll(uint32_t below)
{
	return (uint32_t)(storm_random(&rng) % below);
}

static int64_t now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static const char *tenant_name(uint32_t tenant, char name[TENANT_BYTES])
{
	snprintf(name, TENANT_BYTES, "uid-%u", crew_uid(tenant));
	return name;
}

/* ---- the admin's operations ---- */

static void set_limits(uint32_t tenant, uint64_t min, uint64_t high,
		       uint64_t max)
{
	Kvd__TenantSetRequest req = KVD__TENANT_SET_REQUEST__INIT;
	char name[TENANT_BYTES];
	int r;

	req.name = (char *)(uintptr_t)tenant_name(tenant, name);
	req.keys = 7;
	req.min = min;
	req.high = high;
	req.max = max;
	req.runtime = 1;
	r = raw_call(crew.admin, WIRE_TENANT_SET, &req.base, NULL, NULL, NULL);
	CHECK(!r, "limits of %s: %s", name, strerror(-r));
}

/* Of each tenant a kind of limits that it keeps, and figures that change. */
static void admin_limits(void)
{
	uint32_t t = roll(STORM_TENANTS);
	uint64_t mb = 1 << 20, max;

	if (geteuid() || t == 0)
		t = 0;
	max = (6 + roll(14)) * mb;
	switch (t) {
	case 0:
		set_limits(0, 0, 0, roll(4) ? 0 : POOL - roll(8) * mb);
		break;
	case 1:
		set_limits(1, roll(8) * mb, 0, 0);
		break;
	case 2:
		set_limits(2, roll(3) * mb, max - roll(2) * mb, max);
		break;
	default:
		set_limits(3, 0, 0, max);
		break;
	}
}

static void admin_reclaim(void)
{
	Kvd__ReclaimRequest req = KVD__RECLAIM_REQUEST__INIT;
	char name[TENANT_BYTES] = "";
	int r;

	if (roll(2))
		tenant_name(roll(STORM_TENANTS), name);
	req.tenant = name;
	req.bytes = 1 + roll(4 << 20);
	r = raw_call(crew.admin, WIRE_RECLAIM, &req.base, NULL, NULL, NULL);
	CHECK(!r, "reclaim of %s: %s", name, strerror(-r));
}

static void admin_drop(void)
{
	Kvd__DropRequest req = KVD__DROP_REQUEST__INIT;
	int r;

	req.space = roll(STORM_TENANTS * STORM_KINDS + 1);
	r = raw_call(crew.admin, WIRE_DROP, &req.base, NULL, NULL, NULL);
	CHECK(!r || r == -ENOENT, "drop: %s", strerror(-r));
}

static void admin_survey(void)
{
	Kvd__IndexRequest req = KVD__INDEX_REQUEST__INIT;
	int r;

	req.space = roll(STORM_TENANTS * STORM_KINDS + 1);
	req.top = 8;
	r = raw_call(crew.admin, WIRE_INDEX, &req.base, NULL, NULL, NULL);
	CHECK(!r || r == -ENOENT, "survey: %s", strerror(-r));
}

/* From what is promised to all tenants, and what clients hold, on. */
static void admin_resize(void)
{
	Kvd__PoolRequest req = KVD__POOL_REQUEST__INIT;
	int r;

	req.resize = (uint64_t)(20 + roll(77)) << 20;
	r = raw_call(crew.admin, WIRE_POOL, &req.base, NULL, NULL, NULL);
	CHECK(!r || r == -EBUSY, "resize: %s", strerror(-r));
}

static void admin_op(void)
{
	static const struct {
		enum storm_op op;
		void (*f)(void);
	} ops[] = {
		{ STORM_LIMITS, admin_limits },
		{ STORM_LIMITS, admin_limits },
		{ STORM_RECLAIM, admin_reclaim },
		{ STORM_SURVEY, admin_survey },
		{ STORM_DROP, admin_drop },
		{ STORM_RESIZE, admin_resize },
	};
	uint32_t i = roll(16);

	/* Now and then: a space that is dropped holds nothing to find. */
	i = i < 4 ? i : i == 4 ? 4 : i == 5 && resizes ? 5 : i % 4;
	admin_nr[ops[i].op]++;
	ops[i].f();
}

/* ---- the storm ---- */

/* Each some more or fewer than its share. */
static void share_out(uint32_t nr)
{
	for (uint32_t left = CLIENTS; left; left--) {
		uint32_t n = left == 1 ? nr : roll(2 * nr / left + 1);

		crew.mates[CLIENTS - left].report->todo = n;
		nr -= n;
	}
}

static uint64_t pages_moved(void)
{
	Kvd__PoolRequest req = KVD__POOL_REQUEST__INIT;
	Kvd__PoolReply *reply;
	int fd = raw_open(m.daemon.socket);
	uint64_t nr;

	CHECK(!raw_call(fd, WIRE_POOL, &req.base, &kvd__pool_reply__descriptor,
			&reply, NULL), "pool");
	nr = reply->moved;
	kvd__pool_reply__free_unpacked(reply, NULL);
	raw_bye(fd);
	close(fd);
	return nr;
}

static void note_tiers(void)
{
	Kvd__StatRequest req = KVD__STAT_REQUEST__INIT;
	int fd = raw_open(m.daemon.socket);
	Kvd__StatReply *reply;

	CHECK(!raw_call(fd, WIRE_STAT, &req.base, &kvd__stat_reply__descriptor,
			&reply, NULL), "stat");
	if (reply->tiers) {
		saved += reply->tiers->saved;
		fetched += reply->tiers->fetched;
	}
	kvd__stat_reply__free_unpacked(reply, NULL);
	raw_bye(fd);
	close(fd);
}

static void note_counts(void)
{
	struct daemon_stat st;

	moved += pages_moved();
	note_tiers();
	daemon_stat(m.daemon.socket, &st);
	published += st.published;
	evicted += st.evicted;
	made_smaller += st.made_smaller;
}

/* In the middle of whatever goes on. Limits were set for now: they are gone. */
static void restart(void)
{
	usleep(roll(30000));
	note_counts();
	close(crew.admin);
	manager_kill(&m);
	manager_again(&m, tier ? args_tier : args);
	crew.admin = raw_open(m.daemon.socket);
	nr_restarts++;
}

static void clients_go(bool again)
{
	for (uint32_t i = 0; i < CLIENTS; i++) {
		crew.mates[i].report->restart = again;
		crew_go(&crew, i);
	}
}

static void clients_wait(void)
{
	int64_t deadline = now_us() + ROUND_MS * 1000ll;

	while (crew_poll(&crew, 1000))
		CHECK(now_us() < deadline, "a round does not end, seed %llu",
		      (unsigned long long)opts.seed);
}

static void check_all(bool again)
{
	struct storm_world w = { m.daemon.socket, crew.admin, opts.seed,
				 resizes ? 0 : POOL, &crew };
	uint64_t us = storm_check(&w, again);

	if (us > worst_walk_us)
		worst_walk_us = us;
}

static void round_of(uint32_t nr)
{
	uint32_t ours = nr < ADMIN_OPS ? 0 : ADMIN_OPS;
	bool again = restart_every && (rounds + 1) % restart_every == 0;

	share_out(nr - ours);
	clients_go(again);
	while (ours--) {
		admin_op();
		crew_poll(&crew, 1);
	}
	if (again)
		restart();
	clients_wait();
	if (again) { /* some were done before: they settle once more */
		clients_go(true);
		clients_wait();
	}
	check_all(again);
	rounds++;
}

static void end(void)
{
	crew_end(&crew);
	raw_bye(crew.admin);
	close(crew.admin);
	daemon_assert_idle(&m.daemon);
}

static void tell(int64_t us)
{
	struct storm_report all = { .refused = 0 };
	uint64_t sum = 0;

	for (int i = 0; i < CLIENTS; i++) {
		const struct storm_report *r = crew.mates[i].report;

		for (int k = 0; k < STORM_NR_OPS; k++)
			all.nr[k] += r->nr[k];
		all.refused += r->refused;
		all.lost += r->lost;
		all.tokens += r->tokens;
		all.hits += r->hits;
		all.events += r->events;
		all.read += r->read;
		all.made += r->made;
	}
	for (int k = 0; k < STORM_NR_OPS; k++) {
		all.nr[k] += admin_nr[k];
		sum += all.nr[k];
		printf("%10llu %s\n", (unsigned long long)all.nr[k],
		       op_names[k]);
	}
	note_counts();
	printf("%10llu operations, %.1f s; walked %llu times, at most %llu us\n"
	       "%10llu refused for room, %llu sequences lost\n"
	       "%10llu of %llu tokens found\n"
	       "%10llu pages read back, %llu of them made again to compare\n"
	       "%10llu pages published, %llu demoted, %llu evicted, %llu moved\n"
	       "%10llu saved to tiers, %llu fetched\n"
	       "%10llu events told\n"
	       "%10llu restarts of kvd\n",
	       (unsigned long long)sum, (double)us / 1e6,
	       (unsigned long long)rounds, (unsigned long long)worst_walk_us,
	       (unsigned long long)all.refused, (unsigned long long)all.lost,
	       (unsigned long long)all.hits, (unsigned long long)all.tokens,
	       (unsigned long long)all.read, (unsigned long long)all.made,
	       (unsigned long long)published, (unsigned long long)made_smaller,
	       (unsigned long long)evicted,
	       (unsigned long long)moved, (unsigned long long)saved,
	       (unsigned long long)fetched,
	       (unsigned long long)all.events, (unsigned long long)nr_restarts);
	CHECK(sum == nr_ops, "%llu operations", (unsigned long long)sum);
	CHECK(sum < MANY_OPS || (evicted && made_smaller && all.hits &&
				 all.refused && all.read && all.events &&
				 (!tier || (saved && fetched))),
	      "that was no storm");
}

static void options(int argc, char **argv)
{
	const char *env = getenv("KVD_SEED");

	opts.seed = env ? strtoull(env, NULL, 0) : (uint64_t)time(NULL);
	for (int i = 1; i + 1 < argc; i += 2) {
		uint64_t n = strtoull(argv[i + 1], NULL, 0);

		if (!strcmp(argv[i], "--seed"))
			opts.seed = n;
		else if (!strcmp(argv[i], "--ops"))
			nr_ops = n;
		else if (!strcmp(argv[i], "--restart"))
			restart_every = n;
		else if (!strcmp(argv[i], "--resize"))
			resizes = n;
		else if (!strcmp(argv[i], "--tier"))
			tier = n;
		else
			CHECK(0, "storm_random [--seed N] [--ops N] "
			      "[--restart ROUNDS] [--resize 1] [--tier 1]");
	}
	if (tier)
		opts.wait_ms = WAIT_MS;
	rng = opts.seed;
	printf("seed %llu\n", (unsigned long long)opts.seed);
	fflush(stdout);
}

int main(int argc, char **argv)
{
	int64_t t;

	options(argc, argv);
	snprintf(tier_file, sizeof(tier_file), "tier-file=/tmp/kvd-storm-%d",
		 (int)getpid());
	manager_start(&m, tier ? args_tier : args);
	chmod(m.daemon.dir, 0711);
	chmod(m.daemon.socket, 0666);
	opts.socket = m.daemon.socket;
	crew.admin = raw_open(m.daemon.socket);
	t = now_us();
	crew_start(&crew);
	round_of(0); /* all have come */
	for (uint64_t left = nr_ops; left;) {
		uint32_t n = left < ROUND ? (uint32_t)left : ROUND;

		round_of(n);
		left -= n;
	}
	end();
	tell(now_us() - t);
	manager_stop(&m);
	if (tier)
		CHECK(!unlink(strchr(tier_file, '/')), "%s: %s", tier_file,
		      strerror(errno));
	return 0;
}
