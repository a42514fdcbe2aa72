// SPDX-License-Identifier: Apache-2.0
/*
 * copy.c - gather, scatter and zero against the same on the host: after each
 * call all memory of all pages, of the buffer, and between and around them, is
 * what it must be.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "kernels/cuda/copy.h"
#include "kernels/cuda/module.h"
#include "tests/cuda/gpu.h"

#define GUARD 80u /* bytes between pages, and around the buffer */
#define MORE 8u	  /* of the list, beyond max_pages */

enum what { GATHER, SCATTER, ZERO, NR_WHATS };

/* Memory on the device, and what it must hold. */
struct area {
	uint8_t *want;
	cu_ptr at;
	size_t bytes;
};

struct world {
	uint32_t page_bytes, nr_pages, max_pages;
	struct area pages;  /* GUARD, then each page and GUARD */
	struct area buffer; /* GUARD, max_pages pages, GUARD */
	uint32_t *list;	    /* numbers of pages, from 1; 0: none */
	cu_ptr list_at, nr_at;
};

static uint32_t seed; /* KVD_TEST_SEED */

static void must(cu_result err)
{
	assert_int_equal(err, CU_OK);
}

static uint32_t random_u32(void)
{
	seed = seed * 1664525u + 1013904223u;
	return seed >> 8;
}

static void put(cu_ptr to, const void *from, size_t bytes)
{
	must(gpu->cuMemcpyHtoDAsync(to, from, bytes, NULL));
	must(gpu->cuStreamSynchronize(NULL));
}

/* Full of bytes of which few are 0. */
static void area_init(struct area *a, size_t bytes)
{
	a->bytes = bytes;
	a->want = xcalloc(bytes, 1);
	for (size_t i = 0; i < bytes; i++)
		a->want[i] = (uint8_t)random_u32();
	a->at = gpu_copy(a->want, bytes);
	must(gpu->cuStreamSynchronize(NULL));
}

static void area_fini(struct area *a)
{
	gpu_free(a->at);
	free(a->want);
}

static void area_check(const struct area *a, const char *name)
{
	uint8_t *got = xcalloc(a->bytes, 1);
	size_t i = 0;

	gpu_read(got, a->at, a->bytes);
	while (i < a->bytes && got[i] == a->want[i])
		i++;
	if (i < a->bytes)
		fail_msg("%s: byte %zu of %zu is %02x, not %02x", name, i,
			 a->bytes, got[i], a->want[i]);
	free(got);
}

static size_t page_offset(const struct world *w, uint32_t page)
{
	return GUARD + (size_t)(page - 1) * (w->page_bytes + GUARD);
}

static void world_init(struct world *w, uint32_t page_bytes, uint32_t nr_pages,
		       uint32_t max_pages)
{
	*w = (struct world){ .page_bytes = page_bytes,
			     .nr_pages = nr_pages,
			     .max_pages = max_pages };
	area_init(&w->pages,
		  GUARD + (size_t)nr_pages * (page_bytes + GUARD));
	area_init(&w->buffer, 2 * GUARD + (size_t)max_pages * page_bytes);
	w->list = xcalloc(max_pages + MORE, sizeof(*w->list));
	w->list_at = gpu_copy(NULL, (max_pages + MORE) * sizeof(cu_ptr));
	w->nr_at = gpu_copy(NULL, sizeof(uint32_t));
}

static void world_fini(struct world *w)
{
	area_fini(&w->pages);
	area_fini(&w->buffer);
	gpu_free(w->list_at);
	gpu_free(w->nr_at);
	free(w->list);
}

/* The list, and a count, to the device. */
static void list_put(const struct world *w, uint32_t nr)
{
	cu_ptr *list = xcalloc(w->max_pages + MORE, sizeof(*list));

	for (uint32_t i = 0; i < w->max_pages + MORE; i++)
		if (w->list[i])
			list[i] = w->pages.at + page_offset(w, w->list[i]);
	put(w->list_at, list, (w->max_pages + MORE) * sizeof(*list));
	put(w->nr_at, &nr, sizeof(nr));
	free(list);
}

/* Some are left out, and each is there once, or as often as may be. */
static void list_make(struct world *w, int repeats, uint32_t nr)
{
	const uint32_t all = w->max_pages + MORE;

	for (uint32_t i = 0; i < all; i++)
		w->list[i] = repeats	     ? 1 + random_u32() % w->nr_pages :
			     i < w->nr_pages ? i + 1 :
					       0;
	for (uint32_t i = all - 1; i > 0; i--) {
		const uint32_t j = random_u32() % (i + 1);
		const uint32_t kept = w->list[i];

		w->list[i] = w->list[j];
		w->list[j] = kept;
	}
	for (uint32_t i = 0; i < all; i++)
		if (random_u32() % 5 == 0)
			w->list[i] = 0;
	list_put(w, nr);
}

static int launch(const struct world *w, enum what what, uint32_t nr_blocks,
		  cu_stream stream)
{
	const struct kv_cuda_pages p = { .list = w->list_at,
					 .nr = w->nr_at,
					 .max_pages = w->max_pages,
					 .page_bytes = w->page_bytes,
					 .nr_blocks = nr_blocks };
	const cu_ptr buffer = w->buffer.at + GUARD;

	if (what == ZERO)
		return kv_cuda_zero(gpu_kernels, &p, stream);
	return what == GATHER ?
		       kv_cuda_gather(gpu_kernels, &p, buffer, stream) :
		       kv_cuda_scatter(gpu_kernels, &p, buffer, stream);
}

/* What a launch must do, done. */
static void expect(struct world *w, enum what what, uint32_t nr)
{
	if (nr > w->max_pages)
		nr = w->max_pages;
	for (uint32_t i = 0; i < nr; i++) {
		uint8_t *place = w->buffer.want + GUARD +
				 (size_t)i * w->page_bytes;
		uint8_t *page;

		if (!w->list[i])
			continue;
		page = w->pages.want + page_offset(w, w->list[i]);
		if (what == ZERO)
			memset(page, 0, w->page_bytes);
		else if (what == GATHER)
			memcpy(place, page, w->page_bytes);
		else
			memcpy(page, place, w->page_bytes);
	}
}

static void check(const struct world *w)
{
	area_check(&w->pages, "pages");
	area_check(&w->buffer, "buffer");
}

static void run(struct world *w, enum what what, uint32_t nr_blocks,
		uint32_t nr)
{
	list_make(w, what != SCATTER, nr);
	assert_int_equal(launch(w, what, nr_blocks, NULL), 0);
	expect(w, what, nr);
	check(w);
}

/* ---- tests ---- */

/* Around chunks, and around what a thread has of one. */
static void test_sizes(void **state)
{
	static const uint32_t sizes[] = {
		16,
		32,
		48,
		256,
		1008,
		4080,
		4096,
		4112,
		8192 + 16,
		12288 - 16,
		COPY_CHUNK - 16,
		COPY_CHUNK,
		COPY_CHUNK + 16,
		2 * COPY_CHUNK - 4096,
		3 * COPY_CHUNK + 512 + 16,
		7 * COPY_CHUNK,
	};
	static const uint32_t blocks[] = { 0, 1, 2, 5, 64 };
	uint32_t n = 0;

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct world w;

		world_init(&w, sizes[i], 13, 11);
		for (int what = GATHER; what < NR_WHATS; what++)
			for (int times = 0; times < 2; times++)
				run(&w, (enum what)what, blocks[n++ % 5], 11);
		world_fini(&w);
	}
}

static void test_counts(void **state)
{
	static const uint32_t counts[] = {
		0, 1, 6, 7, 8, 7 + MORE, 0x80000000u, UINT32_MAX
	};
	struct world w;

	world_init(&w, COPY_CHUNK + 2064, 7 + MORE, 7);
	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++)
		for (int what = GATHER; what < NR_WHATS; what++) {
			run(&w, (enum what)what, 0, counts[i]);
			run(&w, (enum what)what, 3, counts[i]);
		}
	world_fini(&w);
}

static void test_nothing(void **state)
{
	struct world w;

	world_init(&w, 512, 4, 4);
	for (int what = GATHER; what < NR_WHATS; what++) {
		struct world no = w;

		memset(w.list, 0, 4 * sizeof(*w.list));
		list_put(&w, 4);
		assert_int_equal(launch(&w, (enum what)what, 0, NULL), 0);
		check(&w);
		no.list_at = no.nr_at = 0; /* is not even read */
		no.max_pages = 0;
		assert_int_equal(launch(&no, (enum what)what, 0, NULL), 0);
		no.max_pages = 4;
		no.page_bytes = 0;
		assert_int_equal(launch(&no, (enum what)what, 0, NULL), 0);
		no.page_bytes = 520;
		assert_int_equal(launch(&no, (enum what)what, 0, NULL),
				 -EINVAL);
		check(&w);
	}
	world_fini(&w);
}

/* Far more pages than blocks. */
static void test_many(void **state)
{
	struct world w;

	world_init(&w, 272, 3000, 2900);
	for (int what = GATHER; what < NR_WHATS; what++) {
		run(&w, (enum what)what, 0, 2900);
		run(&w, (enum what)what, 7, 2800);
	}
	world_fini(&w);
}

static cu_graph_exec capture(const struct world *w, cu_stream s, enum what what)
{
	cu_graph graph;
	cu_graph_exec exec;

	must(gpu->cuStreamBeginCapture(s, CU_CAPTURE_GLOBAL));
	assert_int_equal(launch(w, what, 0, s), 0);
	must(gpu->cuStreamEndCapture(s, &graph));
	must(gpu->cuGraphInstantiateWithFlags(&exec, graph, 0));
	must(gpu->cuGraphDestroy(graph));
	return exec;
}

/* One graph, and other pages each time. */
static void replay(struct world *w, cu_stream s, enum what what)
{
	static const uint32_t counts[] = { 3, 9, 0, 40, 5 };
	cu_graph_exec exec;

	list_make(w, what != SCATTER, 6);
	exec = capture(w, s, what);
	check(w); /* nothing has run */
	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
		list_make(w, what != SCATTER, counts[i]);
		must(gpu->cuGraphLaunch(exec, s));
		must(gpu->cuStreamSynchronize(s));
		expect(w, what, counts[i]);
		check(w);
	}
	must(gpu->cuGraphExecDestroy(exec));
}

static void test_replay(void **state)
{
	struct world w;
	cu_stream s;

	must(gpu->cuStreamCreateWithPriority(&s, CU_STREAM_OWN_ORDER, 0));
	world_init(&w, 2 * COPY_CHUNK + 48, 20, 9);
	for (int what = GATHER; what < NR_WHATS; what++)
		replay(&w, s, (enum what)what);
	world_fini(&w);
	must(gpu->cuStreamDestroy(s));
}

/* To the host and back, without a copy: buffer, list and count are there. */
static void test_host(void **state)
{
	struct world w, h;
	const uint32_t nr = 6;
	void *buffer, *list;

	world_init(&w, COPY_CHUNK + 1040, 8, nr);
	must(gpu->cuMemHostAlloc(&buffer, w.buffer.bytes, 0));
	must(gpu->cuMemHostAlloc(&list, nr * sizeof(cu_ptr) + 4, 0));
	memcpy(buffer, w.buffer.want, w.buffer.bytes);
	list_make(&w, 0, nr);
	gpu_read(list, w.list_at, nr * sizeof(cu_ptr));
	memcpy((char *)list + nr * sizeof(cu_ptr), &nr, 4);
	h = w;
	h.buffer.at = (uintptr_t)buffer;
	h.list_at = (uintptr_t)list;
	h.nr_at = h.list_at + nr * sizeof(cu_ptr);

	assert_int_equal(launch(&h, GATHER, 0, NULL), 0);
	must(gpu->cuStreamSynchronize(NULL));
	expect(&w, GATHER, nr);
	assert_memory_equal(buffer, w.buffer.want, w.buffer.bytes);
	assert_int_equal(launch(&w, ZERO, 0, NULL), 0);
	expect(&w, ZERO, nr);
	area_check(&w.pages, "pages");
	assert_int_equal(launch(&h, SCATTER, 0, NULL), 0);
	expect(&w, SCATTER, nr);
	area_check(&w.pages, "pages");
	assert_memory_equal(buffer, w.buffer.want, w.buffer.bytes);
	must(gpu->cuMemFreeHost(buffer));
	must(gpu->cuMemFreeHost(list));
	world_fini(&w);
}

static unsigned grid; /* of the last launch */

static cu_result grid_keep(cu_function function, unsigned x, unsigned y,
			   unsigned z, unsigned block_x, unsigned block_y,
			   unsigned block_z, unsigned shared_bytes,
			   cu_stream stream, void **params, void **extra)
{
	grid = x * y * z;
	return CU_OK;
}

/* Blocks that a launch takes of so many pages of a chunk each. */
static unsigned blocks_of(uint32_t max_pages, uint32_t nr_blocks)
{
	const struct world w = { .page_bytes = COPY_CHUNK,
				 .max_pages = max_pages };

	grid = 0;
	assert_int_equal(launch(&w, GATHER, nr_blocks, NULL), 0);
	return grid;
}

/* Copies leave most of the GPU to others, whatever they have to do. */
static void test_grid(void **state)
{
	struct cuda_driver driver = *gpu;
	int multiprocessors;
	unsigned usual;

	must(gpu->cuDeviceGetAttribute(&multiprocessors,
				       CU_ATTR_MULTIPROCESSORS, 0));
	usual = ((unsigned)multiprocessors + 7) / 8 * 2;
	driver.cuLaunchKernel = grid_keep;
	gpu_kernels->cu = &driver;
	assert_int_equal(blocks_of(100000, 0), usual);
	assert_int_equal(blocks_of(UINT32_MAX, 0), usual);
	assert_int_equal(blocks_of(UINT32_MAX, UINT32_MAX), INT32_MAX);
	assert_int_equal(blocks_of(1, 0), 1);
	assert_int_equal(blocks_of(100000, 5), 5);
	assert_int_equal(blocks_of(3, 5), 3);
	assert_int_equal(blocks_of(0, 5), 0);
	gpu_kernels->cu = gpu;
}

int main(void)
{
	const char *s = getenv("KVD_TEST_SEED");
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_counts),
		cmocka_unit_test(test_nothing),
		cmocka_unit_test(test_many),
		cmocka_unit_test(test_replay),
		cmocka_unit_test(test_host),
		cmocka_unit_test(test_grid),
	};

	seed = s ? (uint32_t)strtoul(s, NULL, 0) : 1;
	printf("KVD_TEST_SEED=%u\n", seed);
	return cmocka_run_group_tests(tests, gpu_setup, gpu_teardown);
}
