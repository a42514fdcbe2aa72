// SPDX-License-Identifier: Apache-2.0
/*
 * nomem_test.c - the library finds no memory, at each of its allocations once.
 *
 *	client_nomem [STRIDE [DEVICE]]
 *
 * One script goes through all of the public calls; of its allocations number 1,
 * 1 + STRIDE, ... fails, in a run each. Memory and mappings count, also those of
 * kernels and of protobuf-c on our behalf. A call
 * may say -ENOMEM, and is then made again, or do without; all it is about goes
 * on as if nothing had happened, results are the same bytes, and when it is
 * closed nothing is left here or with the daemon. Then the same of a daemon that
 * is started again, with its pool and without (host only).
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>
#include <kvd/events.h>
#include <kvd/profile.h>
#include "client-lib/conn.h"
#include "client-lib/space.h"
#include "client-lib/stock.h"
#include "tests/client/toy.h"
#include "tests/support/check.h"
#include "tests/support/manager.h"
#include "tests/support/raw.h"

#define P TOY_PAGE
#define N 192u		/* tokens of a stream, at most */
#define LAYERS 2u
#define OUT_FLOATS 256u	/* of a token in a layer */
#define TRIES 10000	/* of a millisecond */

/* ---- allocations ---- */

static bool armed;	/* those of the library count, no others, */
static bool counting;	/* in this part of a run */
static unsigned long nr_asked, fail_at, nr_failed;
static bool fail_all;		/* from fail_at on */

static bool fails(void)
{
	if (!armed || !counting)
		return false;
	if (++nr_asked < fail_at || (nr_asked > fail_at && !fail_all))
		return false;
	nr_failed++;
	errno = ENOMEM;
	return true;
}

void *__real_malloc(size_t bytes);
void *__real_calloc(size_t nr, size_t bytes);
void *__real_realloc(void *p, size_t bytes);
void *__real_aligned_alloc(size_t align, size_t bytes);
char *__real_strdup(const char *s);
void *__real_mmap(void *at, size_t bytes, int prot, int flags, int fd,
		  off_t offset);
void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t nr, size_t bytes);
void *__wrap_realloc(void *p, size_t bytes);
void *__wrap_aligned_alloc(size_t align, size_t bytes);
char *__wrap_strdup(const char *s);
void *__wrap_mmap(void *at, size_t bytes, int prot, int flags, int fd,
		  off_t offset);

void *__wrap_malloc(size_t bytes)
{
	return fails() ? NULL : __real_malloc(bytes);
}

void *__wrap_calloc(size_t nr, size_t bytes)
{
	return fails() ? NULL : __real_calloc(nr, bytes);
}

void *__wrap_realloc(void *p, size_t bytes)
{
	return fails() ? NULL : __real_realloc(p, bytes);
}

void *__wrap_aligned_alloc(size_t align, size_t bytes)
{
	return fails() ? NULL : __real_aligned_alloc(align, bytes);
}

char *__wrap_strdup(const char *s)
{
	return fails() ? NULL : __real_strdup(s);
}

void *__wrap_mmap(void *at, size_t bytes, int prot, int flags, int fd,
		  off_t offset)
{
	return fails() ? MAP_FAILED :
			 __real_mmap(at, bytes, prot, flags, fd, offset);
}

/* ---- calls ---- */

static struct toy toy;
static bool away;		/* the daemon is, or was */
static unsigned long before;	/* nr_failed, when the call began */
static int last;		/* what it returned */

static void begin(void)
{
	before = nr_failed;
	if (toy.k)
		toy.k->error[0] = '\0';
	armed = true;
}

/* Is the call to be made again? @also: may be returned too, and is good. */
static bool again(const char *call, int r, int also)
{
	armed = false;
	last = r;
	if (r == 0 || (r == also && (nr_failed || away)))
		return false;
	CHECK(r == -ENOMEM && nr_failed > before, "%s: %s: %s (%lu)", call,
	      strerror(-r), kvd_error(toy.k), fail_at);
	CHECK(!toy.k || toy.k->error[0], "%s: no text (%lu)", call, fail_at);
	return true;
}

#define TRY_OR(call, also)                                  \
	do {                                                \
		begin();                                    \
		last = (call);                              \
	} while (again(#call, last, also))
#define TRY(call) TRY_OR(call, 0)

/* Serves until there is a connection, and all is done that waits for one. */
static void process(void)
{
	int i;

	for (i = 0; i < TRIES; i++) {
		begin();
		last = kvd_process(toy.k);
		armed = false;
		if (!last)
			return;
		CHECK(last == -ENOTCONN && (nr_failed || away), "process: %s",
		      strerror(-last));
		usleep(1000);
	}
	CHECK(false, "no connection: %s (%lu)", kvd_error(toy.k), fail_at);
}

/* ---- results ---- */

enum { PROMPT, OTHER, CUT, FILLED, NR_STREAMS };

static uint32_t tokens[NR_STREAMS][N];
static float want[NR_STREAMS][LAYERS][N][OUT_FLOATS];
static bool known[NR_STREAMS][LAYERS][N];
static size_t out_floats;	/* of OUT_FLOATS */

/* Rows of the last attend, from position @pos of a stream on. */
static void check_rows(int stream, uint32_t layer, size_t pos, uint32_t n,
		       const float *out)
{
	for (uint32_t i = 0; i < n; i++, out += out_floats) {
		float *w = want[stream][layer][pos + i];
		bool *is = &known[stream][layer][pos + i];

		if (*is)
			CHECK(!memcmp(w, out, out_floats * sizeof(*w)),
			      "stream %d, layer %u, position %zu differs (%lu)",
			      stream, layer, pos + i, fail_at);
		memcpy(w, out, out_floats * sizeof(*w));
		*is = true;
	}
}

/* One layer of a step: of a sequence, or of @batch where that is not NULL. */
static void layer_run(const struct kvd_item *items, size_t nr, uint32_t layer,
		      struct kvd_batch *batch)
{
	struct kvd_append_args kv = {
		.size = sizeof(kv), .layer = layer, .k = toy.rows[1],
		.v = toy.rows[2], .items = batch ? NULL : items,
		.nr_items = batch ? 0 : nr, .batch = batch,
	};
	struct kvd_attend_args at = {
		.size = sizeof(at), .layer = layer,
		.nr_q_heads = 2 * toy.opts.geometry.groups[0].nr_kv_heads,
		.q = toy.rows[0], .out = toy.rows[3],
		.items = kv.items, .nr_items = kv.nr_items, .batch = batch,
	};

	TRY(kvd_append(toy.sp, &kv));
	TRY(kvd_attend(toy.sp, &at));
	toy_sync(&toy);
}

/* The next @n tokens of a stream. */
static void feed(struct kvd_seq *seq, int stream, uint32_t n)
{
	struct kvd_item item = { seq, n };
	size_t pos = kvd_seq_tokens(seq);
	const uint32_t *t = tokens[stream] + pos;

	for (uint32_t l = 0; l < LAYERS; l++) {
		toy_rows(&toy, &item, 1, &t, 0, l, toy.rows);
		layer_run(&item, 1, l, NULL);
		check_rows(stream, l, pos, n, toy.rows[3]);
	}
	TRY_OR(kvd_commit(seq, t, n, NULL), -ENOTCONN);
	CHECK(kvd_seq_tokens(seq) == pos + n, "commit");
}

static void feed_upto(struct kvd_seq *seq, int stream, size_t end)
{
	feed(seq, stream, (uint32_t)(end - kvd_seq_tokens(seq)));
}

/* ---- events ---- */

static uint8_t salt[16];
static struct {
	uint8_t names[64][16];
	uint32_t nr;
	bool anew;		/* to be listed */
} told;

static int learn(const struct kvd_block *b, void *ctx)
{
	uint32_t i = 0;

	(void)ctx;
	if (memcmp(b->extra, salt, sizeof(salt)))
		return 0;
	while (i < told.nr && memcmp(told.names[i], b->name, 16))
		i++;
	CHECK(i < 64, "blocks");
	memcpy(told.names[i], b->name, 16);
	told.nr += i == told.nr;
	return 0;
}

static void on_event(const struct kvd_event *e, void *ctx)
{
	(void)ctx;
	if (e->kind == KVD_EVENT_STORED)
		learn(&e->block, NULL);
	told.anew |= e->kind == KVD_EVENT_LOST || e->kind == KVD_EVENT_CLEARED;
}

/* What was told of is what there is. */
static void check_told(uint32_t want_nr)
{
	uint32_t nr;

	for (int i = 0; i < 2; i++) {
		TRY(kvd_ping(toy.k));
		process();
	}
	if (told.anew)
		told.nr = 0;
	nr = told.anew ? want_nr : told.nr;
	told.anew = false;
	TRY(kvd_space_blocks(toy.sp, learn, NULL));
	CHECK(told.nr == want_nr && nr == want_nr, "%u blocks, of %u told",
	      told.nr, nr);
}

/* ---- the script ---- */

static const char *device = "host";
static char profile_path[] = "/tmp/kvd-nomem-XXXXXX";
static const double freq[] = { 1, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001 };
static struct manager m;

static void opts_make(struct kvd_space_opts *o)
{
	struct kvd_geometry *g = &o->geometry;

	toy_opts(o, 1);
	g->groups[0].k_dim = g->groups[0].v_dim = 64;
	CHECK(!kvd_formats_parse("kvquant3", &g->k_format, &g->v_format),
	      "formats");
	g->rope_order = KVD_ROPE_PRE;
	o->rope.freq = freq;
	o->rope.nr_pairs = sizeof(freq) / sizeof(*freq);
	out_floats = 2ul * g->groups[0].nr_kv_heads * g->groups[0].v_dim;
	CHECK(out_floats <= OUT_FLOATS && g->groups[0].nr_layers == LAYERS,
	      "geometry");
}

static void subscribe(struct kvd_space *sp, uint32_t events)
{
	struct kvd_subscribe_opts o = { sizeof(o), events, sp };

	TRY(kvd_subscribe(toy.k, &o, on_event, NULL));
}

static void open_all(void)
{
	struct kvd_connect_opts c = { .size = sizeof(c),
				      .socket = m.daemon.socket,
				      .timeout_ms = 20000 };
	struct kvd_profile *p;
	char why[160];

	memset(&told, 0, sizeof(told));
	TRY(kvd_profile_load(profile_path, &p, why, sizeof(why)));
	TRY(kvd_connect(&c, &toy.k));
	toy.opts.profile = p;
	toy.opts.geometry.profile = kvd_profile_digest(p);
	subscribe(NULL, KVD_SUBSCRIBE_PRESSURE);
	TRY(kvd_space_open(toy.k, &toy.opts, &toy.sp));
	kvd_profile_free(p);
	subscribe(toy.sp, KVD_SUBSCRIBE_BLOCKS | KVD_SUBSCRIBE_TOKENS);
}

static struct kvd_seq *seq_new(uint32_t no_publish)
{
	struct kvd_seq_opts o = { .size = sizeof(o), .no_publish = no_publish };
	struct kvd_seq *seq;

	memcpy(o.extra, salt, sizeof(salt));
	TRY(kvd_seq_new(toy.sp, &o, &seq));
	return seq;
}

static void close_all(void)
{
	begin();
	kvd_close(toy.k);
	armed = false;
	toy.k = NULL;
}

static void seq_free(struct kvd_seq *seq)
{
	begin();
	kvd_seq_free(seq);
	armed = false;
}

/* Two sequences decode a token each with a batch; the first fills a page. */
static void run_batch(struct kvd_seq *a, struct kvd_seq *b)
{
	struct kvd_batch_opts o = { .size = sizeof(o), .max_items = 2,
				    .max_tokens = N, .max_q_heads = 4 };
	const struct kvd_item items[] = { { a, 1 }, { b, 1 } };
	size_t at[] = { kvd_seq_tokens(a), kvd_seq_tokens(b) };
	const uint32_t *t[] = { &tokens[PROMPT][at[0]], &tokens[OTHER][at[1]] };
	struct kvd_batch *batch;

	TRY(kvd_batch_new(toy.sp, &o, &batch));
	TRY(kvd_batch_set(batch, items, 2, NULL));
	for (uint32_t l = 0; l < LAYERS; l++) {
		toy_rows(&toy, items, 2, t, 0, l, toy.rows);
		layer_run(items, 2, l, batch);
		check_rows(PROMPT, l, at[0], 1, toy.rows[3]);
		check_rows(OTHER, l, at[1], 1, toy.rows[3] + out_floats);
	}
	TRY_OR(kvd_commit(a, t[0], 1, NULL), -ENOTCONN);
	TRY_OR(kvd_commit(b, t[1], 1, NULL), -ENOTCONN);
	begin();
	kvd_batch_free(batch);
	armed = false;
}

/* K and V as a kernel of our own would write them: many pages in one go. */
static void run_filled(struct kvd_seq *seq)
{
	struct kvd_record record = { .size = sizeof(record) };
	struct kvd_bases bases = { .size = sizeof(bases) };
	struct kvd_page pages[6];
	size_t nr;

	TRY(kvd_seq_reserve(seq, N - 1));
	TRY(kvd_space_bases(toy.sp, &bases));
	TRY(kvd_space_record(toy.sp, 0, &record));
	TRY(kvd_seq_pages(seq, 0, pages, 6, &nr));
	for (size_t i = 0; i < nr; i++)
		memset((char *)bases.writable[pages[i].segment] +
			       pages[i].offset, 0x3c, record.page_bytes);
	TRY_OR(kvd_commit(seq, tokens[FILLED], N - 1, NULL), -ENOTCONN);
	feed(seq, FILLED, 1);
	TRY(kvd_truncate(seq, 1, NULL));
}

/* Pages by themselves, and what there is to be asked of everything. */
static void run_views(struct kvd_seq *seq)
{
	struct kvd_space_info info = { .size = sizeof(info) };
	struct kvd_seq_info seq_info = { .size = sizeof(seq_info) };
	struct kvd_page pages[80];
	size_t nr;

	TRY(kvd_page_alloc(toy.sp, 0, 80, pages));
	TRY(kvd_page_free(toy.sp, pages, 80));
	TRY(kvd_space_info(toy.sp, &info));
	TRY(kvd_seq_info(seq, &seq_info));
	TRY(kvd_seq_pages(seq, 0, pages, 80, &nr));
	TRY(kvd_ping(toy.k));
}

static void run_pin(struct kvd_seq *seq)
{
	size_t pinned;

	TRY(kvd_seq_pin(seq, 60000, &pinned));
	CHECK(pinned >= P, "%zu tokens pinned", pinned);
	/* What the daemon has done and could not tell is not there twice. */
	TRY_OR(kvd_seq_unpin(seq), -ENOENT);
}

/* The longest prefix; where there was no memory it may end with a page. */
static void match(struct kvd_seq *seq, int stream, size_t n, size_t want_hit)
{
	size_t hit = 0;

	TRY(kvd_seq_match(seq, tokens[stream], n, &hit));
	CHECK(hit == want_hit || (nr_failed > before && hit == want_hit / P * P),
	      "%zu tokens hit, not %zu (%lu)", hit, want_hit, fail_at);
}

static void script(void)
{
	struct kvd_seq *a, *b, *c, *d;

	open_all();
	a = seq_new(0);
	match(a, PROMPT, N, 0);
	feed_upto(a, PROMPT, 40);
	feed_upto(a, PROMPT, 3 * P - 1);
	process();
	run_pin(a);
	b = seq_new(0);
	match(b, OTHER, N, P + 6);
	feed_upto(b, OTHER, P + 20);
	run_batch(a, b);
	check_told(3);
	TRY(kvd_fork(a, NULL, &c));
	TRY(kvd_truncate(c, P + 3, NULL));
	feed_upto(c, CUT, 2 * P + 2);
	d = seq_new(1);
	run_filled(d);
	run_views(d);
	shutdown(kvd_fd(toy.k), SHUT_RDWR);
	away = true;
	process();
	away = false;
	feed_upto(a, PROMPT, 4 * P + 1);
	feed_upto(b, OTHER, 2 * P + 1);
	seq_free(d);
	seq_free(c);
	check_told(5);
	seq_free(b);
	d = seq_new(0);
	match(d, PROMPT, 4 * P, 4 * P);
	close_all();
}

/* ---- a daemon that is started again ---- */

static bool pool_lost;

static void manager_forget(void)
{
	pthread_mutex_lock(&m.lock);
	while (m.nr_fds)
		close(m.fds[--m.nr_fds].fd);
	pthread_mutex_unlock(&m.lock);
}

/* Counts from when it is back. */
static void outage(void)
{
	struct kvd_seq *a, *b;

	counting = false;
	open_all();
	a = seq_new(0);
	feed_upto(a, PROMPT, 40);
	away = true;
	manager_kill(&m);
	feed_upto(a, PROMPT, 60); /* in the pages it has */
	if (pool_lost)
		manager_forget();
	manager_again(&m, NULL);
	counting = true;
	TRY(kvd_ping(toy.k));
	process();
	away = false;
	if (pool_lost) {
		CHECK(kvd_seq_reserve(a, 1) == -ESTALE, "%s",
		      kvd_error(toy.k));
		seq_free(a);
		a = seq_new(0);
	}
	feed_upto(a, PROMPT, 3 * P);
	process();
	b = seq_new(0);
	match(b, PROMPT, 3 * P, 3 * P);
	close_all();
}

/* ---- a recall ---- */

static uint32_t in_stock(void)
{
	uint32_t nr = 0;

	for (uint32_t c = 0; c < toy.sp->nr_classes; c++)
		nr += toy.sp->stocks[c].nr;
	return nr;
}

/* Another wants more pages than there are. */
static void crowd(struct toy *other)
{
	static struct kvd_page pages[8192];
	struct kvd_space_opts o;
	size_t nr = 0;

	toy_opts(&o, 2);
	o.wait_ms = 1000;
	toy_open(other, m.daemon.socket, &o);
	while (nr < 8192 && !kvd_page_alloc(other->sp, 0, 32, pages + nr))
		nr += 32;
	CHECK(nr && nr < 8192, "the pool was not full");
}

/* Asked for its stock it gives it, though there is no memory at all. */
static void recall(void)
{
	struct toy other;
	struct kvd_seq *a;

	counting = false;
	open_all();
	a = seq_new(0);
	feed_upto(a, PROMPT, 40);
	CHECK(in_stock(), "no stock");
	crowd(&other);
	counting = fail_all = true;
	begin();
	kvd_process(toy.k);
	armed = counting = fail_all = false;
	CHECK(!in_stock(), "%u pages are kept from others", in_stock());
	toy_close(&other);
	close_all();
}

/* ---- what is left ---- */

static unsigned count_lines(const char *command)
{
	FILE *f = popen(command, "r");
	unsigned nr = 0;

	CHECK(f && fscanf(f, "%u", &nr) == 1 && !pclose(f), "%s", command);
	return nr;
}

/* Of this process, but for what the manager in it keeps. */
static void count_left(unsigned *fds, unsigned *maps)
{
	char command[128];
	unsigned kept;

	snprintf(command, sizeof(command), "ls /proc/%d/fd | wc -l",
		 (int)getpid());
	do {
		kept = manager_nr_fds(&m, NULL);
		*fds = count_lines(command) - kept;
	} while (kept != manager_nr_fds(&m, NULL));
	snprintf(command, sizeof(command), "grep -c memfd: /proc/%d/maps || :",
		 (int)getpid());
	*maps = count_lines(command);
}

static void check_left(unsigned long n)
{
	static unsigned had_fds = UINT32_MAX, had_maps;
	unsigned fds, maps, i = 0;

	daemon_assert_idle(&m.daemon);
	/* The manager may be about to take one, as it was the first time. */
	for (count_left(&fds, &maps); fds > had_fds && i++ < 100;
	     count_left(&fds, &maps))
		usleep(10000);
	if (had_fds == UINT32_MAX)
		had_maps = maps;
	CHECK(fds <= had_fds && maps == had_maps, "allocation %lu: %u "
	      "descriptors, there were %u; %u mappings, there were %u", n, fds,
	      had_fds, maps, had_maps);
	had_fds = fds;
}

/* Runs @what with allocation number @n failing; 0: none. */
static void run(void (*what)(void), unsigned long n)
{
	salt[0]++;
	salt[1] += !salt[0];
	nr_asked = nr_failed = 0;
	counting = true;
	fail_at = n;
	what();
	check_left(n);
}

static void run_all(const char *name, void (*what)(void), unsigned long stride)
{
	const char *const args[] = { "--device", device, NULL };
	unsigned long total, nr = 0, n;

	/* Each has a pool of its own: a full one is another matter. */
	manager_start(&m, args);
	run(what, 0);
	total = nr_asked;
	for (n = 1; n <= total; n += stride) {
		run(what, n);
		nr += nr_failed > 0;
	}
	printf("%s: %lu allocations, %lu failed, one at a time\n", name, total,
	       nr);
	fflush(stdout);
	CHECK(nr, "none failed");
	manager_stop(&m);
}

static void setup(void)
{
	uint64_t seed = 1;

	if (strcmp(device, "host"))
		toy_on_cuda(device);
	opts_make(&toy.opts);
	toy_profile_write(&toy.opts.geometry, profile_path);
	for (int i = 0; i < NR_STREAMS; i++)
		toy_tokens(&seed, tokens[i], N);
	memcpy(tokens[OTHER], tokens[PROMPT], (P + 6) * sizeof(uint32_t));
	for (int i = 0; i < 4; i++)
		toy.rows[i] = toy_floats(N * 256);
}

static void teardown(void)
{
	for (int i = 0; i < 4; i++)
		toy_floats_free(toy.rows[i]);
	unlink(profile_path);
}

int main(int argc, char **argv)
{
	unsigned long stride = argc > 1 ? strtoul(argv[1], NULL, 0) : 1;

	CHECK(stride, "a stride of 0");
	if (argc > 2)
		device = argv[2];
	setup();
	run_all("script", script, stride);
	if (!strcmp(device, "host")) {
		run_all("outage", outage, stride);
		pool_lost = true;
		run_all("outage, pool lost", outage, stride);
		manager_start(&m, NULL);
		run(recall, 1);
		CHECK(nr_failed, "nothing failed");
		manager_stop(&m);
	}
	teardown();
	return 0;
}
