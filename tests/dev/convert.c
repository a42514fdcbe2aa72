/* SPDX-License-Identifier: Apache-2.0 */
/*
 * convert.c - pages stored once more by the device: the reference's bytes and
 * flags, for every pair of formats that demotion may have, in either order.
 *
 * The device is the host's, or what KVD_TEST_DEVICE says. Each of two segments
 * has a copy here, in which the reference does the same; then all of it is
 * compared, what is around the pages too.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "daemon/dev/dev.h"
#include "kernels/host/half.h"
#include "kernels/host/host.h"
#include "tests/kernels/random.h"

#define BYTES	 ((uint64_t)DEV_GRANULE)
#define SEGMENTS 2u
#define PAGES	 5u
#define BROKEN	 3u /* holds NaN */
#define FILL	 0x5a
#define PAIRS	 38u /* that a side may have: kernels/geometry.c */

struct bench {
	struct dev *d;
	struct dev_segment segments[SEGMENTS];
	uint8_t *want[SEGMENTS], *got;
};

/* ---- on the device's thread ---- */

struct call {
	struct dev_job job;
	void (*fn)(struct dev *d, struct call *c);
	struct bench *b;
	const struct dev_convert *convert;
	uint32_t segment;
	int r;
};

static void call_run(struct dev *d, struct dev_job *job)
{
	struct call *c = (struct call *)(void *)job;

	c->fn(d, c);
}

static void call_done(struct dev *d, struct dev_job *job)
{
}

static void call(struct bench *b, struct call c)
{
	c.b = b;
	c.job.run = call_run;
	c.job.done = call_done;
	dev_submit(b->d, &c.job);
	dev_drain(b->d);
	assert_int_equal(c.r, 0);
}

static void do_new(struct dev *d, struct call *c)
{
	c->r = dev_ops(d)->segment_new(d, BYTES, &c->b->segments[c->segment]);
}

static void do_free(struct dev *d, struct call *c)
{
	dev_ops(d)->segment_free(d, &c->b->segments[c->segment]);
}

static void do_write(struct dev *d, struct call *c)
{
	c->r = dev_ops(d)->write(d, &c->b->segments[c->segment], 0,
				 c->b->want[c->segment], BYTES);
}

static void do_read(struct dev *d, struct call *c)
{
	c->r = dev_ops(d)->read(d, &c->b->segments[c->segment], 0, c->b->got,
				BYTES);
}

static void do_convert(struct dev *d, struct call *c)
{
	c->r = dev_ops(d)->convert(d, c->convert);
}

static void wake(void *ctx)
{
}

static int setup(void **state)
{
	const char *spec = getenv("KVD_TEST_DEVICE");
	struct bench *b = calloc(1, sizeof(*b));
	char note[200];

	assert_non_null(b);
	assert_int_equal(dev_new(spec ? spec : "host", wake, NULL, &b->d, note,
				 sizeof(note)), 0);
	b->got = malloc(BYTES);
	assert_non_null(b->got);
	for (uint32_t i = 0; i < SEGMENTS; i++) {
		b->want[i] = malloc(BYTES);
		assert_non_null(b->want[i]);
		call(b, (struct call){ .fn = do_new, .segment = i });
	}
	*state = b;
	return 0;
}

static int teardown(void **state)
{
	struct bench *b = *state;

	for (uint32_t i = 0; i < SEGMENTS; i++) {
		call(b, (struct call){ .fn = do_free, .segment = i });
		free(b->want[i]);
	}
	free(b->got);
	dev_free(b->d);
	free(b);
	return 0;
}

/* ---- pages ---- */

static uint8_t *page_at(struct bench *b, const struct dev_segment *s,
			uint64_t at)
{
	return b->want[s - b->segments] + at;
}

/* As the reference stores it. Return: its flag. */
static uint32_t reference(const struct page_layout *from, uint8_t *from_page,
			  const struct page_layout *to, uint8_t *to_page)
{
	void *const bases[] = { from_page, to_page };
	const struct kv_convert_page page = {
		.to = { .segment = 1, .layout = 1 },
		.nr_tokens = from->page_tokens,
	};
	uint32_t bad = 0;
	struct kv_convert_args a = {
		.layouts = { *from, *to },
		.bases = bases,
		.pages = &page,
		.nr_pages = 1,
		.nr_layers = from->nr_layers,
		.nonfinite = &bad,
		.nr_threads = 1,
	};

	host_kernels_ref.convert(&a);
	return bad;
}

/* Numbers in every record, one NaN in @broken, stored as @l has them. */
static void source_make(const struct kvd_geometry *g,
			const struct page_layout *l, uint8_t *page, bool broken)
{
	struct kvd_geometry rows = *g;
	struct page_layout open;
	uint16_t *x;

	rows.tile_order = KVD_TILE_ROW;
	assert_int_equal(page_layout_init(&open, &rows, 0, KVD_F16, KVD_F16),
			 0);
	x = malloc(open.page_bytes);
	assert_non_null(x);
	for (uint32_t i = 0; i < open.page_bytes / 2; i++)
		x[i] = f16_from_f32(random_normal() * (1 + i % 7));
	if (broken)
		x[random_below(open.page_bytes / 2)] = f16_from_f32(NAN);
	assert_int_equal(reference(&open, (uint8_t *)x, l, page), broken);
	free(x);
}

/* ---- the test ---- */

/* Pages of one segment that become pages of the other, and of the same. */
static void places(struct bench *b, const struct page_layout *from,
		   const struct page_layout *to,
		   struct dev_convert_page pages[PAGES])
{
	uint64_t end[SEGMENTS] = { 0 };

	for (uint32_t i = 0; i < PAGES; i++) {
		uint32_t f = i % SEGMENTS, t = i / 2 % SEGMENTS;

		pages[i] = (struct dev_convert_page){
			.from = &b->segments[f],
			.to = &b->segments[t],
			.bad = 1,
		};
		pages[i].to_at = end[t];
		end[t] += to->page_bytes;
		pages[i].from_at = end[f];
		end[f] += from->page_bytes;
	}
	assert_true(end[0] < BYTES && end[1] < BYTES);
}

static void check(struct bench *b, const struct kvd_geometry *g)
{
	struct dev_convert_page pages[PAGES];
	struct page_layout from, to;
	const struct dev_convert convert = { &from, &to, pages, PAGES };
	uint32_t i;

	assert_int_equal(page_layout_class(&from, g,
					   geometry_sealed_class(g, 0)), 0);
	assert_int_equal(page_layout_class(&to, g,
					   geometry_demoted_class(g, 0)), 0);
	places(b, &from, &to, pages);
	for (i = 0; i < SEGMENTS; i++)
		memset(b->want[i], FILL, BYTES);
	for (i = 0; i < PAGES; i++)
		source_make(g, &from,
			    page_at(b, pages[i].from, pages[i].from_at),
			    i == BROKEN);
	for (i = 0; i < SEGMENTS; i++)
		call(b, (struct call){ .fn = do_write, .segment = i });
	call(b, (struct call){ .fn = do_convert, .convert = &convert });
	for (i = 0; i < PAGES; i++) {
		assert_int_equal(reference(&from, page_at(b, pages[i].from,
							  pages[i].from_at),
					   &to, page_at(b, pages[i].to,
							pages[i].to_at)),
				 i == BROKEN);
		assert_int_equal(pages[i].bad, i == BROKEN);
	}
	for (i = 0; i < SEGMENTS; i++) {
		call(b, (struct call){ .fn = do_read, .segment = i });
		assert_memory_equal(b->got, b->want[i], BYTES);
	}
}

/* The pair is K's, V's, or of a page that has no V. */
enum side { OF_K, OF_V, ALONE, NR_SIDES };

/* Whatever the pair is: with what the other side loses a page gets smaller. */
static struct kvd_geometry geometry(uint32_t from, uint32_t to, enum side side,
				    uint32_t order)
{
	const uint32_t odd = order == KVD_TILE_ROW ? random_below(2) * 8 : 0;

	return (struct kvd_geometry){
		.size = sizeof(struct kvd_geometry),
		.page_tokens = 32u << random_below(3),
		.k_format = side == OF_V ? KVD_INT8 : from,
		.v_format = side == OF_K ? KVD_INT8 : from,
		.demote_k = side == OF_V ? KVD_KIVI2 : to,
		.demote_v = side == OF_K ? KVD_KIVI2 : to,
		.tile_order = order,
		.v_group = 32u << random_below(3),
		.nr_groups = 1,
		.groups = { { .nr_layers = 1 + random_below(2),
			      .nr_kv_heads = 2,
			      .k_dim = 32 * (1 + random_below(3)) + odd,
			      .v_dim = side == ALONE ?
					       0 :
					       32 * (1 + random_below(3)) +
						       odd } },
	};
}

/* In either order, where it may be. Return: in how many it was. */
static uint32_t check_pair(struct bench *b, uint32_t from, uint32_t to,
			   enum side side)
{
	uint32_t order, nr = 0;

	for (order = 0; order < KVD_NR_TILE_ORDERS; order++) {
		const struct kvd_geometry g = geometry(from, to, side, order);

		if (kvd_geometry_check(&g))
			continue;
		check(b, &g);
		nr++;
	}
	return nr;
}

static void test_pairs(void **state)
{
	uint32_t nr[NR_SIDES] = { 0 }, from, to, side;

	for (from = 0; from < KVD_NR_FORMATS; from++)
		for (to = 0; to < KVD_NR_FORMATS; to++)
			for (side = 0; side < NR_SIDES; side++)
				nr[side] += check_pair(*state, from, to, side);
	assert_int_equal(nr[OF_K], PAIRS * KVD_NR_TILE_ORDERS);
	assert_int_equal(nr[OF_V], PAIRS * KVD_NR_TILE_ORDERS);
	assert_true(nr[ALONE] > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pairs),
	};

	random_seed();
	return cmocka_run_group_tests(tests, setup, teardown);
}
