// SPDX-License-Identifier: Apache-2.0
/*
 * device.c - the client's side of a CUDA pool: segments of another process
 * mapped, kernels recorded on streams, flags and events.
 */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include "client-lib/device.h"
#include "kernels/host/host.h"
#include "proto/wire.h"
#include "tests/cuda/child.h"
#include "tests/cuda/pool.h"

#define DIM 16u
#define HEADS 2u
#define Q_HEADS 4u
#define PAGE_TOKENS 32u
#define NR_PAGES 24u
#define TOKENS (NR_PAGES * PAGE_TOKENS) /* more than a split */

static struct device *device(bool writable)
{
	struct device_segment segments[POOL_SEGMENTS];
	struct device *d;

	REQUIRE(device_open(pool_spec, writable, &d) == 0);
	pool_receive(segments);
	REQUIRE(pool_map(d, segments) == 0);
	return d;
}

static void views(int socket)
{
	const struct cuda_driver *cu = child_cuda();
	struct device *d = device(true);
	bool vmm = strncmp(pool_spec, "cuda-vmm", 8) == 0;
	cu_ptr table[POOL_SEGMENTS];
	unsigned char c;

	for (uint32_t i = 0; i < POOL_SEGMENTS; i++) {
		cu_ptr ro = (uintptr_t)d->read_only[i];
		cu_ptr rw = (uintptr_t)d->writable_at[i];

		REQUIRE((ro != rw) == vmm);
		REQUIRE(cu->cuMemsetD8Async(rw, 3, 1, NULL) == CU_OK);
		REQUIRE(cu->cuMemcpyDtoHAsync(&c, ro, 1, NULL) == CU_OK);
		REQUIRE(c == 3);
		if (child_double()) /* on a GPU: tests/gpu/readonly.c */
			REQUIRE((cu->cuMemsetD8Async(ro, 3, 1, NULL) ==
				 CU_OK) == !vmm);
	}
	REQUIRE(cu->cuMemcpyDtoHAsync(table, (uintptr_t)d->device_read_only,
				      sizeof(table), NULL) == CU_OK);
	for (uint32_t i = 0; i < POOL_SEGMENTS; i++)
		REQUIRE(table[i] == (uintptr_t)d->read_only[i]);
	d->ops->close(d);
	child_live_is(1); /* the context is ours */
}

static void reader(int socket)
{
	struct device_segment memfd = { .kind = WIRE_SEGMENT_MMAP };
	struct device *d;

	child_cuda();
	d = device(false);
	for (uint32_t i = 0; i < POOL_SEGMENTS; i++)
		REQUIRE(d->read_only[i] && !d->writable_at[i]);
	REQUIRE(d->ops->map(d, &memfd) == -ENODEV);
	d->ops->close(d);
	child_live_is(1);
}

static void test_views(void **state)
{
	pool_both(views);
	pool_both(reader);
}

/* Two sequences in alternating pages of both segments, on both sides. */
struct bench {
	const struct cuda_driver *cu;
	struct device *d;
	struct page_layout layout;
	struct kv_page_ref *pages;	/* may be more than NR_PAGES */
	uint32_t nr_pages;
	uint8_t *host[POOL_SEGMENTS];
	float *k;			/* [TOKENS][HEADS][DIM], device */
	float *q, *out;			/* [TOKENS][Q_HEADS][DIM], device */
	float *host_rows;		/* as q */
};

static float *device_floats(const struct cuda_driver *cu, const float *src,
			    size_t n)
{
	cu_ptr p;

	REQUIRE(cu->cuMemAlloc(&p, n * sizeof(float)) == CU_OK);
	REQUIRE(cu->cuMemcpyHtoDAsync(p, src, n * sizeof(float), NULL) ==
		CU_OK);
	/* Other streams read it, of their own order. */
	REQUIRE(cu->cuStreamSynchronize(NULL) == CU_OK);
	return (float *)(uintptr_t)p;
}

static void bench_init(struct bench *b, uint32_t nr_pages)
{
	const struct kvd_geometry g = { .size = sizeof(g),
					.page_tokens = PAGE_TOKENS,
					.k_format = KVD_INT8,
					.v_format = KVD_INT8,
					.nr_groups = 1,
					.groups = { { 1, HEADS, 0, DIM, DIM } } };
	const size_t n = TOKENS * Q_HEADS * DIM;

	b->cu = child_cuda();
	b->d = device(true);
	REQUIRE(page_layout_init(&b->layout, &g, 0, KVD_INT8, KVD_INT8) == 0);
	b->nr_pages = nr_pages;
	b->pages = calloc(nr_pages, sizeof(*b->pages));
	b->host_rows = malloc(n * sizeof(float));
	REQUIRE(b->pages && b->host_rows);
	for (uint32_t i = 0; i < NR_PAGES; i++) {
		b->pages[i].segment = i % POOL_SEGMENTS;
		b->pages[i].offset = (uint64_t)(NR_PAGES - i) / 2 *
				     b->layout.page_bytes;
	}
	for (uint32_t i = 0; i < POOL_SEGMENTS; i++) {
		b->host[i] = calloc(1, POOL_BYTES);
		REQUIRE(b->host[i]);
	}
	for (size_t i = 0; i < n; i++)
		b->host_rows[i] = sinf((float)i * 0.37f) + 0.01f * (i % 7);
	b->k = device_floats(b->cu, b->host_rows, TOKENS * HEADS * DIM);
	b->q = device_floats(b->cu, b->host_rows, n);
	b->out = device_floats(b->cu, b->host_rows, n);
}

static void bench_fini(struct bench *b)
{
	b->d->ops->close(b->d);
	REQUIRE(b->cu->cuMemFree((uintptr_t)b->k) == CU_OK);
	REQUIRE(b->cu->cuMemFree((uintptr_t)b->q) == CU_OK);
	REQUIRE(b->cu->cuMemFree((uintptr_t)b->out) == CU_OK);
	for (uint32_t i = 0; i < POOL_SEGMENTS; i++)
		free(b->host[i]);
	free(b->pages);
	free(b->host_rows);
	child_live_is(1);
}

/* Appends tokens [pos, pos + n) of one sequence, here and on the host. */
static void append(struct bench *b, uint32_t pos, uint32_t n, cu_stream stream)
{
	const struct kv_seq seq = { 0, 0, n, pos };
	const size_t row = HEADS * DIM;
	uint32_t bad = 0, flag = 0;
	uint32_t *flags = &flag;
	struct kv_append_args a = { .layouts = { b->layout },
				    .pages = b->pages,
				    .seqs = &seq,
				    .nr_seqs = 1,
				    .nr_rows = n,
				    .k_stride = row,
				    .v_stride = row };
	struct kv_append_args h = a;

	h.bases = (void *const *)b->host;
	h.k = h.v = b->host_rows + pos * row;
	h.nonfinite = &bad;
	host_kernels_ref.append(&h);
	a.k = a.v = b->k + pos * row;
	REQUIRE(b->d->ops->append(b->d, &a, b->nr_pages, &flags, stream) == 0);
	REQUIRE(b->cu->cuStreamSynchronize(stream) == CU_OK);
	REQUIRE(b->d->ops->sync(b->d) == 0);
	REQUIRE(!bad && !flag);
}

/* Records attention of the last @n of @tokens tokens, into out's first rows. */
static int attend_record(struct bench *b, uint32_t tokens, uint32_t n,
			 float *out, cu_stream stream)
{
	const struct kv_seq seq = { 0, 0, n, tokens - n };
	struct kv_attend_args a = { .layouts = { b->layout },
				    .pages = b->pages,
				    .seqs = &seq,
				    .nr_seqs = 1,
				    .nr_rows = n,
				    .nr_q_heads = Q_HEADS,
				    .scale = 0.25f,
				    .q = b->q,
				    .out = out,
				    .q_stride = Q_HEADS * DIM,
				    .out_stride = Q_HEADS * DIM };

	return b->d->ops->attend(b->d, &a, b->nr_pages, stream);
}

static void attend(struct bench *b, uint32_t tokens, uint32_t n, float *out,
		   cu_stream stream)
{
	REQUIRE(attend_record(b, tokens, n, out, stream) == 0);
}

static void attend_check(struct bench *b, uint32_t tokens, uint32_t n,
			 const float *got)
{
	const struct kv_seq seq = { 0, 0, n, tokens - n };
	const size_t floats = (size_t)n * Q_HEADS * DIM;
	float *want = malloc(floats * sizeof(float));
	struct kv_attend_args a = { .layouts = { b->layout },
				    .bases = (const void *const *)b->host,
				    .pages = b->pages,
				    .seqs = &seq,
				    .nr_seqs = 1,
				    .nr_rows = n,
				    .nr_q_heads = Q_HEADS,
				    .scale = 0.25f,
				    .q = b->host_rows,
				    .out = want,
				    .q_stride = Q_HEADS * DIM,
				    .out_stride = Q_HEADS * DIM };

	REQUIRE(want);
	REQUIRE(host_kernels_ref.attend(&a) == 0);
	for (size_t i = 0; i < floats; i++)
		REQUIRE(fabsf(want[i] - got[i]) < 1e-4f);
	free(want);
}

/* Long tables, split attention, two streams that share the scratch. */
static void attention(int socket)
{
	struct bench b;
	cu_stream s[2];
	float *got[2];
	const size_t bytes = 3 * Q_HEADS * DIM * sizeof(float);
	void *p;

	bench_init(&b, 100000); /* more than the ring holds at first */
	for (int i = 0; i < 2; i++) {
		REQUIRE(b.cu->cuStreamCreateWithPriority(
				&s[i], CU_STREAM_OWN_ORDER, 0) == CU_OK);
		REQUIRE(b.cu->cuMemHostAlloc(&p, bytes, 0) == CU_OK);
		got[i] = p;
	}
	append(&b, 0, 500, s[0]);
	append(&b, 500, TOKENS - 500, s[1]);
	for (uint32_t tokens = 60; tokens <= TOKENS; tokens += 59) {
		for (int i = 0; i < 2; i++) {
			float *out = b.out + (size_t)i * 4 * Q_HEADS * DIM;

			attend(&b, tokens - (uint32_t)i, 3, out, s[i]);
			REQUIRE(b.cu->cuMemcpyDtoHAsync(got[i], (uintptr_t)out,
							bytes, s[i]) == CU_OK);
		}
		for (int i = 1; i >= 0; i--) {
			REQUIRE(b.cu->cuStreamSynchronize(s[i]) == CU_OK);
			attend_check(&b, tokens - (uint32_t)i, 3, got[i]);
		}
	}
	for (int i = 0; i < 2; i++) {
		REQUIRE(b.cu->cuStreamDestroy(s[i]) == CU_OK);
		REQUIRE(b.cu->cuMemFreeHost(got[i]) == CU_OK);
	}
	bench_fini(&b);
}

static void test_attention(void **state)
{
	pool_both(attention);
}

/* A call's flag comes with an event after it, not before, not with others. */
static void flags(int socket)
{
	const struct kv_seq seqs[] = { { 0, 0, 2, 0 }, { 4, 2, 1, 7 } };
	uint32_t flag[2] = { 0 };
	uint32_t *const to[] = { &flag[0], &flag[1] };
	struct kv_append_args a = { .seqs = seqs,
				    .nr_seqs = 2,
				    .nr_rows = 3,
				    .k_stride = HEADS * DIM,
				    .v_stride = HEADS * DIM };
	struct device_event *before, *after;
	const float nan = NAN;
	struct bench b;
	int done = 0;

	bench_init(&b, NR_PAGES);
	REQUIRE(b.cu->cuMemcpyHtoDAsync((uintptr_t)(b.k + 2 * HEADS * DIM + 5),
					&nan, sizeof(nan), NULL) == CU_OK);
	a.layouts[0] = b.layout;
	a.pages = b.pages;
	a.k = a.v = b.k;
	REQUIRE(b.d->ops->event_record(b.d, NULL, &before) == 0);
	REQUIRE(b.d->ops->append(b.d, &a, b.nr_pages, to, NULL) == 0);
	REQUIRE(b.d->ops->event_record(b.d, NULL, &after) == 0);
	REQUIRE(b.d->ops->event_wait(b.d, before) == 0);
	REQUIRE(b.d->ops->event_done(b.d, before) == 1);
	REQUIRE(!flag[0] && !flag[1]);
	for (int polls = 0; !done; polls++) {
		REQUIRE(polls < 100);
		usleep(1000);
		done = b.d->ops->event_done(b.d, after);
		REQUIRE(done >= 0);
	}
	REQUIRE(!flag[0] && flag[1]);
	b.d->ops->event_free(b.d, before);
	b.d->ops->event_free(b.d, after);
	bench_fini(&b);
}

/* When the context is broken, nothing is written to flags any more. */
static void broken(int socket)
{
	const struct kv_seq seq = { 0, 0, 1, 0 };
	uint32_t flag = 0;
	uint32_t *const to[] = { &flag };
	struct kv_append_args a = { .seqs = &seq,
				    .nr_seqs = 1,
				    .nr_rows = 1,
				    .k_stride = HEADS * DIM,
				    .v_stride = HEADS * DIM };
	struct device_event *after;
	const float nan = NAN;
	struct bench b;

	setenv("FAKECUDA_FAIL", "cuEventQuery:1+:700", 1);
	bench_init(&b, NR_PAGES);
	REQUIRE(b.cu->cuMemcpyHtoDAsync((uintptr_t)b.k, &nan, sizeof(nan),
					NULL) == CU_OK);
	a.layouts[0] = b.layout;
	a.pages = b.pages;
	a.k = a.v = b.k;
	REQUIRE(b.d->ops->append(b.d, &a, b.nr_pages, to, NULL) == 0);
	REQUIRE(b.d->ops->event_record(b.d, NULL, &after) == 0);
	REQUIRE(b.cu->cuStreamSynchronize(NULL) == CU_OK);
	REQUIRE(b.d->ops->event_done(b.d, after) == -EIO);
	b.d->ops->event_free(b.d, after);
	flag = 0; /* its owner has put it to another use */
	REQUIRE(b.d->ops->sync(b.d) == 0);
	REQUIRE(!flag);
	bench_fini(&b);
}

/* More calls under way than the ring has slots, and copies between pages. */
static void pile(int socket)
{
	struct bench b;
	uint8_t *page;

	bench_init(&b, NR_PAGES);
	append(&b, 0, TOKENS, NULL);
	page = malloc(b.layout.page_bytes);
	REQUIRE(page);
	for (uint32_t i = 0; i < 3000; i++) {
		struct device_place dst = { b.pages[i % 7].offset,
					    b.pages[i % 7].segment };
		struct device_place src = { b.pages[7 + i % 5].offset,
					    b.pages[7 + i % 5].segment };

		memcpy(b.host[dst.segment] + dst.offset,
		       b.host[src.segment] + src.offset, b.layout.page_bytes);
		REQUIRE(b.d->ops->copy(b.d, dst, src, b.layout.page_bytes,
				       NULL) == 0);
		if (i % 10 == 0)
			attend(&b, 70, 2, b.out, NULL);
	}
	REQUIRE(b.d->ops->sync(b.d) == 0);
	for (uint32_t i = 0; i < 7; i++) {
		const struct kv_page_ref *r = &b.pages[i];

		REQUIRE(b.cu->cuMemcpyDtoHAsync(
				page,
				(uintptr_t)b.d->read_only[r->segment] +
					r->offset,
				b.layout.page_bytes, NULL) == CU_OK);
		REQUIRE(memcmp(page, b.host[r->segment] + r->offset,
			       b.layout.page_bytes) == 0);
	}
	free(page);
	bench_fini(&b);
}

static void test_calls(void **state)
{
	pool_both(flags);
	if (child_double())
		pool_both(broken);
	pool_both(pile);
}

/* ---- what this process cannot reach ---- */

static void no_context(int socket)
{
	const struct cuda_driver *cu = child_cuda();
	struct device *d;
	cu_context ctx;

	REQUIRE(cu->cuCtxSetCurrent(NULL) == CU_OK);
	REQUIRE(device_open(pool_spec, true, &d) == -ENODEV);
	REQUIRE(cu->cuDevicePrimaryCtxRetain(&ctx, 1) == CU_OK);
	REQUIRE(cu->cuCtxSetCurrent(ctx) == CU_OK);
	REQUIRE(device_open(pool_spec, true, &d) == -ENODEV);
	setenv("CUDA_VISIBLE_DEVICES", "7,0", 1);
	REQUIRE(device_open(pool_spec, true, &d) == 0);
	d->ops->close(d);
	child_live_is(2);
}

static void not_started(int socket)
{
	struct device *d;

	REQUIRE(device_open(pool_spec, true, &d) == -ENODEV);
}

static void alone(void (*client)(int))
{
	int socket;
	pid_t pid = child_start(client, &socket);

	assert_int_equal(child_wait(pid), 0);
	close(socket);
}

static void test_unreachable(void **state)
{
	if (!child_double())
		skip();
	pool_spec = "cuda-vmm:0";
	setenv("FAKECUDA_DEVICES", "2", 1);
	alone(no_context);
	alone(not_started);
	unsetenv("FAKECUDA_DEVICES");
}

/* ---- errors that stay ---- */

/* A row of what is at k, as attend_record(). */
static int append_record(struct bench *b)
{
	static uint32_t flag;
	const struct kv_seq seq = { 0, 0, 1, 0 };
	uint32_t *flags = &flag;
	struct kv_append_args a = { .layouts = { b->layout },
				    .pages = b->pages,
				    .seqs = &seq,
				    .nr_seqs = 1,
				    .nr_rows = 1,
				    .k = b->k,
				    .v = b->k,
				    .k_stride = HEADS * DIM,
				    .v_stride = HEADS * DIM };

	return b->d->ops->append(b->d, &a, b->nr_pages, &flags, NULL);
}

static void nothing_works(struct bench *b)
{
	const struct device_ops *ops = b->d->ops;
	struct device_event *e;

	REQUIRE(append_record(b) == -EIO);
	REQUIRE(attend_record(b, 60, 3, b->out, NULL) == -EIO);
	REQUIRE(ops->copy(b->d, (struct device_place){ 1, 0 },
			  (struct device_place){ 0, 0 }, 64, NULL) == -EIO);
	REQUIRE(ops->event_record(b->d, NULL, &e) == -EIO);
	REQUIRE(ops->sync(b->d) == 0); /* nothing is on its way */
}

/* What is the process's own is given back; the rest went with the context. */
static void bench_drop(struct bench *b)
{
	b->d->ops->close(b->d);
	for (uint32_t i = 0; i < POOL_SEGMENTS; i++)
		free(b->host[i]);
	free(b->pages);
	free(b->host_rows);
}

/* An append's kernel runs, an attention's crashes: found out by waiting. */
static void crash_waited(int socket)
{
	struct bench b;
	struct device_event *e;

	alarm(30); /* more is a hang */
	setenv("FAKECUDA_CRASH", "2:700", 1);
	bench_init(&b, NR_PAGES);
	append(&b, 0, 60, NULL);
	attend(&b, 60, 3, b.out, NULL);
	attend(&b, 60, 3, b.out, NULL);
	REQUIRE(b.d->ops->event_record(b.d, NULL, &e) == 0);
	REQUIRE(b.d->ops->event_wait(b.d, e) == -EIO);
	REQUIRE(b.d->ops->event_done(b.d, e) == -EIO);
	nothing_works(&b);
	b.d->ops->event_free(b.d, e);
	bench_drop(&b);
}

static void crash_synced(int socket)
{
	struct bench b;

	alarm(30);
	setenv("FAKECUDA_CRASH", "1", 1);
	bench_init(&b, NR_PAGES);
	REQUIRE(append_record(&b) == 0);
	attend(&b, 60, 3, b.out, NULL);
	REQUIRE(b.d->ops->sync(b.d) == -EIO);
	nothing_works(&b);
	bench_drop(&b);
}

static void crash_polled(int socket)
{
	struct bench b;
	struct device_event *e;
	int r;

	alarm(30);
	setenv("FAKECUDA_CRASH", "1", 1);
	bench_init(&b, NR_PAGES);
	attend(&b, 60, 3, b.out, NULL);
	REQUIRE(b.d->ops->event_record(b.d, NULL, &e) == 0);
	do
		r = b.d->ops->event_done(b.d, e);
	while (!r);
	REQUIRE(r == -EIO);
	nothing_works(&b);
	b.d->ops->event_free(b.d, e);
	bench_drop(&b);
}

static void test_crash(void **state)
{
	pool_both(crash_waited);
	pool_both(crash_synced);
	pool_both(crash_polled);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_views),
		cmocka_unit_test(test_attention),
		cmocka_unit_test(test_calls),
		cmocka_unit_test(test_unreachable),
		cmocka_unit_test(test_crash),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
