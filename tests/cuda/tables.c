// SPDX-License-Identifier: Apache-2.0
/*
 * tables.c - libkvd's copies of tables in device memory: every array whole,
 * also after RoPE's angles have grown, when the old copy stays, and one copy a
 * group.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "client-lib/device_cuda_tables.h"

#define LAYERS 3u
#define HEADS  2u
#define K_DIM  16u
#define V_DIM  24u
#define TOKENS 32u
#define PAIRS  5u
#define ROOM   4096u /* floats, more than any array has */

static const struct cuda_driver *cu;
static cu_stream stream;
static struct cuda_tables all[KVD_MAX_GROUPS];
static float numbers[10][ROOM]; /* all different */

static const struct page_layout layout = {
	.page_tokens = TOKENS,
	.nr_layers = LAYERS,
	.nr_heads = HEADS,
	.k_dim = K_DIM,
	.v_dim = V_DIM,
};

static void to_host(void *dst, const void *src, size_t bytes)
{
	assert_int_equal(cu->cuMemcpyDtoHAsync(dst, (cu_ptr)(uintptr_t)src,
					       bytes, stream), CU_OK);
	assert_int_equal(cu->cuStreamSynchronize(stream), CU_OK);
}

/* @n floats at @device are those at @host, which are somewhere else. */
static void same(const float *device, const float *host, size_t n)
{
	float got[ROOM];

	assert_ptr_not_equal(device, host);
	to_host(got, device, n * sizeof(float));
	assert_memory_equal(got, host, n * sizeof(float));
}

static const struct kv_tables *get(const struct kv_tables *host)
{
	const struct cuda_tables_way way = { cu, stream };
	const struct kv_tables *r;

	assert_int_equal(cuda_tables_get(all, &way, &layout, host, &r), 0);
	return r;
}

static struct kv_tables tables(uint32_t rope_pages)
{
	return (struct kv_tables){
		.nr_heads = HEADS,
		.k_scale = numbers[0],
		.k_rotation = numbers[1],
		.v_rotation = numbers[2],
		.k_out = numbers[3],
		.v_lut = numbers[4],
		.v_out = numbers[5],
		.k_zero = numbers[6],
		.k_range = numbers[7],
		.rope_page = numbers[8],
		.rope_token = numbers[9],
		.rope_pages = rope_pages,
		.rope_pairs = PAIRS,
		.rope_interleaved = 1,
	};
}

static void check(const struct kv_tables *host, const struct kv_tables *device)
{
	struct kv_tables t;

	to_host(&t, device, sizeof(t));
	assert_int_equal(t.nr_heads, HEADS);
	assert_int_equal(t.rope_pairs, PAIRS);
	assert_int_equal(t.rope_interleaved, 1);
	assert_null(t.v_scale);
	assert_null(t.k_lut);
	same(t.k_scale, host->k_scale, LAYERS * HEADS);
	same(t.k_rotation, host->k_rotation, LAYERS * K_DIM * K_DIM);
	same(t.v_rotation, host->v_rotation, LAYERS * V_DIM * V_DIM);
	same(t.k_out, host->k_out, LAYERS * TABLES_CODES);
	same(t.v_lut, host->v_lut, LAYERS * TABLES_CODES);
	same(t.v_out, host->v_out, LAYERS * TABLES_CODES);
	same(t.k_zero, host->k_zero, LAYERS * HEADS * K_DIM);
	same(t.k_range, host->k_range, LAYERS * HEADS * K_DIM);
	same(t.rope_page, host->rope_page, host->rope_pages * 2 * PAIRS);
	same(t.rope_token, host->rope_token, TOKENS * 2 * PAIRS);
}

static void test_all(void **state)
{
	struct kv_tables host = tables(3);
	const struct kv_tables *device = get(&host);

	check(&host, device);
	assert_ptr_equal(get(&host), device);
	assert_null(get(NULL));
	cuda_tables_fini(all, cu);
}

static void test_grow(void **state)
{
	struct kv_tables host = tables(3), old = host;
	const struct kv_tables *first = get(&host), *device;

	host.rope_pages = 300;
	device = get(&host);
	check(&host, device);
	assert_ptr_not_equal(device, first);
	host.rope_pages = 301;
	check(&host, get(&host));
	check(&old, first); /* a graph may have captured it */
	cuda_tables_fini(all, cu);
}

static void test_groups(void **state)
{
	struct kv_tables host[KVD_MAX_GROUPS];
	const struct kv_tables *device[KVD_MAX_GROUPS];
	uint32_t g;

	for (g = 0; g < KVD_MAX_GROUPS; g++) {
		host[g] = tables(g);
		host[g].k_scale = numbers[g];
		device[g] = get(&host[g]);
	}
	for (g = 0; g < KVD_MAX_GROUPS; g++) {
		assert_ptr_equal(get(&host[g]), device[g]);
		check(&host[g], device[g]);
	}
	cuda_tables_fini(all, cu);
}

static int setup(void **state)
{
	char why[160];
	cu_context ctx;

	for (uint32_t i = 0; i < 10 * ROOM; i++)
		numbers[i / ROOM][i % ROOM] = (float)i;
	cu = cuda_driver(why, sizeof(why));
	return !cu || cu->cuInit(0) || cu->cuDevicePrimaryCtxRetain(&ctx, 0) ||
	       cu->cuCtxSetCurrent(ctx) ||
	       cu->cuStreamCreateWithPriority(&stream, CU_STREAM_OWN_ORDER, 0);
}

static int teardown(void **state)
{
	return cu->cuStreamDestroy(stream) || cu->cuDevicePrimaryCtxRelease(0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_all),
		cmocka_unit_test(test_grow),
		cmocka_unit_test(test_groups),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
