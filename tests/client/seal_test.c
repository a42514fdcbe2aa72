// SPDX-License-Identifier: Apache-2.0
/*
 * seal_test.c - formats that are sealed whole: what a token attends over
 * depends on positions alone, however the prompt was cut, whoever computed it.
 *
 * Each test runs over geometries that differ in what may go wrong: with and
 * without a lag, with exact first pages, exact layers, a window, K and V of
 * different kinds, in either order of codes.
 *
 *	client_seal [DEVICE [FIRST STEP]]
 *
 * Of the kinds every STEPth from the FIRST on: a device that is emulated is
 * slow.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tests/client/toy.h"
#include "tests/support/check.h"
#include "tests/support/daemon.h"

#define N 300u
#define P TOY_PAGE

static struct toy toy;
static struct daemon d;
static const char *device = "host";
static uint64_t seed;
static uint8_t salt;

static const struct kind {
	const char *formats;
	uint32_t exact_pages;
	uint32_t window;	/* of the second group; UINT32_MAX: no such */
	uint32_t exact_group;	/* of the second group */
	uint32_t open_format;
	uint32_t tile_order;
	uint32_t rope_order;
} kinds[] = {
	{ "kivi4", 0, UINT32_MAX, 0, KVD_F16 },
	{ "kivi2", 0, UINT32_MAX, 0, KVD_F16 },
	{ "kivi2", 1, 0, 1, KVD_F16 },
	{ "kivi4", 2, 70, 0, KVD_BF16 },
	{ "kivi2", 0, 70, 0, KVD_F16 },
	{ "k=kivi2,v=int8", 1, 40, 1, KVD_BF16 },
	{ "kvarn42", 1, 0, 0, KVD_F16 },
	{ "int8", 1, 100, 0, KVD_F16 },
	{ "k=int4h,v=fp8_e4m3", 2, 0, 1, KVD_F16 },
	{ "kivi2", 0, UINT32_MAX, 0, KVD_F16, KVD_TILE_MMA },
	{ "k=kvarn3,v=int4", 1, UINT32_MAX, 0, KVD_BF16, KVD_TILE_MMA },
	{ "k=kvarn4,v=kivi4", 0, UINT32_MAX, 0, KVD_F16, KVD_TILE_ROW, KVD_ROPE_PRE },
};

static const double freq[] = { 1, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001 };

static const struct kind *kind;

static void kind_opts(struct kvd_space_opts *o, uint8_t model)
{
	if (kind->window == UINT32_MAX)
		toy_opts(o, model);
	else
		toy_opts_two_groups(o, model, kind->window);
	CHECK(!kvd_formats_parse(kind->formats, &o->geometry.k_format,
				 &o->geometry.v_format), "formats");
	o->geometry.exact_pages = kind->exact_pages;
	o->geometry.open_format = kind->open_format;
	o->geometry.v_group = 32;
	o->geometry.tile_order = kind->tile_order;
	o->geometry.rope_order = kind->rope_order;
	o->rope.freq = freq;
	o->rope.nr_pairs = sizeof(freq) / sizeof(*freq);
	o->geometry.groups[1].exact = kind->exact_group;
}

static bool kind_lags(void)
{
	const struct kvd_geometry *g = &toy.opts.geometry;

	return kvd_formats_whole(g->k_format, g->v_format) &&
	       kvd_formats_lag(g->k_format, g->v_format);
}

static bool kind_whole(void)
{
	const struct kvd_geometry *g = &toy.opts.geometry;

	return kvd_formats_whole(g->k_format, g->v_format);
}

/* Are rows as they were appended found of every full page? */
static bool kind_copies(void)
{
	return !kind_whole() || kind_lags();
}

/* An empty sequence that nothing published before can be found by. */
static struct kvd_seq *fresh(void)
{
	struct kvd_seq_opts o = { .size = sizeof(o) };
	struct kvd_seq *seq;

	o.extra[0] = ++salt;
	o.extra[1] = 1;
	CHECK(!kvd_seq_new(toy.sp, &o, &seq), "%s", kvd_error(toy.k));
	return seq;
}

static float *outputs(size_t n)
{
	float *out = calloc(n, toy_out_floats(&toy) * sizeof(float));

	CHECK(out, "out of memory");
	return out;
}

static void run(struct kvd_seq *seq, const uint32_t *tokens, size_t n,
		size_t chunk, float *out)
{
	CHECK(!toy_run(&toy, seq, tokens, n, chunk, out), "%s: %s",
	      kind->formats, kvd_error(toy.k));
}

static float *reference(const uint32_t *tokens, size_t n)
{
	struct kvd_seq *seq = fresh();
	float *out = outputs(n);

	run(seq, tokens, n, n, out);
	kvd_seq_free(seq);
	return out;
}

static bool equal(const float *a, const float *b, size_t n)
{
	return !memcmp(a, b, n * toy_out_floats(&toy) * sizeof(float));
}

static void same(const float *a, const float *b, size_t n, const char *what)
{
	size_t all = toy_out_floats(&toy);

	for (size_t i = 0; i < n * all; i++)
		CHECK(!memcmp(a + i, b + i, sizeof(float)),
		      "%s, %s: token %zu of %zu differs: %g, %g",
		      kind->formats, what, i / all, n, a[i], b[i]);
}

static struct kvd_seq_info info_of(const struct kvd_seq *seq)
{
	struct kvd_seq_info info = { .size = sizeof(info) };

	CHECK(!kvd_seq_info(seq, &info), "%s", kvd_error(toy.k));
	return info;
}

static void test_chunks(void)
{
	static const size_t chunks[] = { 1, 7, 31, 32, 33, 64, 100 };
	uint32_t tokens[N];
	float *ref, *out = outputs(N);

	toy_tokens(&seed, tokens, N);
	ref = reference(tokens, N);
	for (size_t i = 0; i < sizeof(chunks) / sizeof(*chunks); i++) {
		struct kvd_seq *seq = fresh();

		run(seq, tokens, N, chunks[i], out);
		same(ref, out, N, "chunks");
		kvd_seq_free(seq);
	}
	free(ref);
	free(out);
}

/* Quantization shows, or the other tests say nothing. */
static void test_loss(void)
{
	struct kvd_space_opts o = toy.opts;
	struct toy quantized = toy;
	uint32_t tokens[N];
	float *a, *b;

	toy_tokens(&seed, tokens, N);
	a = reference(tokens, N);
	o.geometry.k_format = o.geometry.v_format = KVD_F16;
	o.geometry.exact_pages = 0;
	o.geometry.groups[1].exact = 0;
	toy_open(&toy, d.socket, &o);
	b = reference(tokens, N);
	CHECK(!equal(a, b, N), "%s is exact", kind->formats);
	free(a);
	free(b);
	toy_close(&toy);
	toy = quantized;
}

static void test_batch(void)
{
	toy_check_batch(&toy, &seed, N, 80, fresh);
}

/* Another process's prefix, through the index: bit for bit as without. */
static void test_match(void)
{
	static const size_t lengths[] = { P, 2 * P + 5, 5 * P, N - 1 };
	uint32_t tokens[N];
	float *ref, *out = outputs(N);
	struct kvd_seq *seq;
	struct toy first = toy;

	toy_tokens(&seed, tokens, N);
	ref = reference(tokens, N);
	CHECK(!kvd_seq_new(toy.sp, NULL, &seq), "new");
	run(seq, tokens, N, 90, out);
	kvd_seq_free(seq);
	toy_open(&toy, d.socket, &first.opts);
	for (size_t i = 0; i < sizeof(lengths) / sizeof(*lengths); i++) {
		size_t hit, all = toy_out_floats(&toy);

		seq = toy_match(&toy, tokens, lengths[i], &hit);
		CHECK(hit == (kind_copies() && lengths[i] < N / P * P ?
				      lengths[i] : lengths[i] / P * P),
		      "%s: hit %zu of %zu", kind->formats, hit, lengths[i]);
		CHECK(!info_of(seq).inexact_lag, "%s: no exact copy",
		      kind->formats);
		run(seq, tokens + hit, N - hit, 50, out);
		same(ref + hit * all, out, N - hit, "match");
		kvd_seq_free(seq);
	}
	toy_close(&toy);
	toy = first;
	free(ref);
	free(out);
}

static void test_fork(void)
{
	static const size_t at[] = { 0, 1, P, 3 * P + 7, 4 * P, N - 1 };
	uint32_t a[N], b[N];
	float *out = outputs(N);
	size_t all = toy_out_floats(&toy);

	toy_tokens(&seed, a, N);
	for (size_t i = 0; i < sizeof(at) / sizeof(*at); i++) {
		struct kvd_seq *seq = fresh(), *child;
		float *ref_a, *ref_b;

		memcpy(b, a, sizeof(b));
		toy_tokens(&seed, b + at[i], N - at[i]);
		ref_a = reference(a, N);
		ref_b = reference(b, N);
		run(seq, a, at[i], 64, out);
		CHECK(!kvd_fork(seq, NULL, &child), "%s", kvd_error(toy.k));
		run(seq, a + at[i], N - at[i], 40, out);
		same(ref_a + at[i] * all, out, N - at[i], "fork's parent");
		run(child, b + at[i], N - at[i], 11, out);
		same(ref_b + at[i] * all, out, N - at[i], "fork's child");
		kvd_seq_free(seq);
		kvd_seq_free(child);
		free(ref_a);
		free(ref_b);
	}
	free(out);
}

/* More is appended than committed, as who guesses tokens does. */
static void test_speculate(void)
{
	uint32_t tokens[N], wrong[N];
	float *ref, *out = outputs(N), *junk = outputs(N);
	struct kvd_seq *seq = fresh();
	size_t all = toy_out_floats(&toy), done = 0;

	toy_tokens(&seed, tokens, N);
	ref = reference(tokens, N);
	while (done < N) {
		size_t n = 1 + toy_random(&seed) % 45, extra = 70;
		const uint32_t *tok = wrong;
		struct kvd_item it = { seq, 0 };
		struct kvd_seq *child;

		n = n < N - done ? n : N - done;
		memcpy(wrong, tokens + done, n * sizeof(*wrong));
		extra = n + extra < N ? extra : N - n;
		toy_tokens(&seed, wrong + n, extra);
		it.nr_tokens = (uint32_t)(n + extra);
		CHECK(!toy_store(&toy, &it, tok, junk), "%s",
		      kvd_error(toy.k));
		memcpy(out + done * all, junk, n * all * sizeof(float));
		CHECK(!kvd_commit(seq, tok, n, NULL), "%s", kvd_error(toy.k));
		done += n;
		CHECK(!kvd_fork(seq, NULL, &child), "%s", kvd_error(toy.k));
		kvd_seq_free(child);
	}
	same(ref, out, N, "speculation");
	kvd_seq_free(seq);
	free(ref);
	free(out);
	free(junk);
}

/* Back within the page that is open: nothing is lost by it. */
static void test_truncate_open(void)
{
	uint32_t tokens[N], other[N];
	float *ref, *out = outputs(N);
	struct kvd_seq *seq = fresh();
	size_t all = toy_out_floats(&toy), n = 5 * P + 20, to = 5 * P + 3;

	toy_tokens(&seed, tokens, N);
	toy_tokens(&seed, other, N);
	memcpy(other, tokens, to * sizeof(*other));
	ref = reference(other, N);
	run(seq, tokens, n, 50, out);
	if (kvd_truncate(seq, to, NULL) == 0) {
		run(seq, other + to, N - to, 33, out);
		same(ref + to * all, out, N - to, "truncate");
	} else { /* pages left the window meanwhile, and nothing else */
		CHECK(kind->window && kind->window < N, "%s",
		      kvd_error(toy.k));
	}
	kvd_seq_free(seq);
	free(ref);
	free(out);
}

/*
 * Far back only quantized values are left: what is made of them twice must
 * not be found under a true name.
 */
static void test_truncate_sealed(void)
{
	uint32_t tokens[N], other[N];
	float *out = outputs(N);
	struct kvd_seq *seq;
	size_t hit, to = 3 * P + 9;

	if (!kind_whole())
		goto out;
	toy_tokens(&seed, tokens, N);
	toy_tokens(&seed, other, N);
	memcpy(other, tokens, to * sizeof(*other));
	CHECK(!kvd_seq_new(toy.sp, NULL, &seq), "new");
	run(seq, tokens, N, N, out);
	if (kvd_truncate(seq, to, NULL) == -EINVAL) { /* out of the window */
		kvd_seq_free(seq);
		goto out;
	}
	run(seq, other + to, N - to, 40, out);
	for (size_t i = 0; i < N * toy_out_floats(&toy); i++)
		CHECK(isfinite(out[i]), "%s: not finite", kind->formats);
	kvd_seq_free(seq);
	seq = toy_match(&toy, other, N - 1, &hit);
	CHECK(hit == (kind_lags() ? to : 3 * P), "%s: %zu tokens found",
	      kind->formats, hit);
	kvd_seq_free(seq);
	seq = toy_match(&toy, tokens, N - 1, &hit);
	CHECK(hit == (N - 1) / P * P, "%s: %zu tokens found", kind->formats,
	      hit);
	kvd_seq_free(seq);
out:
	free(out);
}

/* What is in 16 bits of a sequence of full pages and a tail, and @more. */
static uint64_t bytes_16(uint32_t more)
{
	uint64_t page = 2ULL * 2 * P * 2 * 64; /* of group 0 */

	return page * (1 + kind_lags() + toy.opts.geometry.exact_pages + more);
}

/* What is kept in 16 bits does not grow with the sequence. */
static void test_bytes(void)
{
	uint32_t tokens[N];
	struct kvd_seq *seq = fresh();
	uint64_t open, most = 0;

	if (!kind_whole() || kind->window != UINT32_MAX) {
		kvd_seq_free(seq);
		return;
	}
	toy_tokens(&seed, tokens, N);
	for (size_t i = 0; i < N; i += 20) {
		run(seq, tokens + i, 20, 20, NULL);
		open = info_of(seq).open_bytes;
		most = open > most ? open : most;
	}
	CHECK(most == bytes_16(0), "%s: %llu bytes in 16 bits, not %llu",
	      kind->formats, (unsigned long long)most,
	      (unsigned long long)bytes_16(0));
	kvd_seq_free(seq);
}

/* A page with NaN stays in 16 bits, and what follows is found by nobody. */
static void test_nan(void)
{
	uint32_t tokens[N];
	float *ref = outputs(N), *out = outputs(N);
	struct kvd_seq *seq;
	size_t hit;

	toy_tokens(&seed, tokens, N);
	toy_nan_token = tokens[2 * P + 4] = UINT32_MAX - 1; /* no other is */
	CHECK(!kvd_seq_new(toy.sp, NULL, &seq), "new");
	run(seq, tokens, N, P, ref);
	if (kind_whole() && kind->window == UINT32_MAX)
		CHECK(info_of(seq).open_bytes == bytes_16(1), "%s: %llu bytes "
		      "in 16 bits beside NaN, not %llu", kind->formats,
		      (unsigned long long)info_of(seq).open_bytes,
		      (unsigned long long)bytes_16(1));
	kvd_seq_free(seq);
	seq = toy_match(&toy, tokens, N - 1, &hit);
	CHECK(hit == 2 * P, "%s: %zu tokens found", kind->formats, hit);
	kvd_seq_free(seq);
	toy_nan_token = UINT32_MAX;
	free(ref);
	free(out);
}

/* A reader of another process attends over what is there. */
static void test_read_only(void)
{
	uint32_t tokens[N];
	float *ref = outputs(N), *out = outputs(N);
	struct kvd_seq *seq;
	struct toy writer = toy;
	struct kvd_space_opts o = toy.opts;
	size_t hit;

	toy_tokens(&seed, tokens, N);
	CHECK(!kvd_seq_new(toy.sp, NULL, &seq), "new");
	run(seq, tokens, N, N, ref);
	kvd_seq_free(seq);
	o.read_only = 1;
	toy_open(&toy, d.socket, &o);
	seq = toy_match(&toy, tokens, 4 * P, &hit);
	CHECK(hit == 4 * P, "hit");
	CHECK(!kvd_truncate(seq, 4 * P - 3, NULL), "%s", kvd_error(toy.k));
	CHECK(!toy_attend(&toy, seq, tokens + 4 * P - 3, 3, out), "%s",
	      kvd_error(toy.k));
	for (size_t i = 0; i < 3 * toy_out_floats(&toy); i++)
		CHECK(isfinite(out[i]), "not finite");
	kvd_seq_free(seq);
	toy_close(&toy);
	toy = writer;
	free(ref);
	free(out);
}

static void test_kind(void)
{
	static void (*const tests[])(void) = {
		test_chunks, test_loss, test_batch, test_match, test_fork,
		test_speculate, test_truncate_open, test_truncate_sealed,
		test_bytes, test_nan, test_read_only,
	};
	const char *const args[] = { "--device", device, NULL };
	struct kvd_space_opts o;

	daemon_start(&d, args);
	kind_opts(&o, 1);
	toy_open(&toy, d.socket, &o);
	for (size_t i = 0; i < sizeof(tests) / sizeof(*tests); i++)
		tests[i]();
	toy_close(&toy);
	daemon_assert_idle(&d);
	daemon_stop(&d);
}

int main(int argc, char **argv)
{
	int first = argc > 3 ? atoi(argv[2]) : 0;
	int step = argc > 3 ? atoi(argv[3]) : 1;

	seed = toy_seed();
	if (argc > 1) {
		device = argv[1];
		if (!strncmp(device, "cuda", 4))
			toy_on_cuda(device);
	}
	for (kind = kinds + first; kind < kinds + sizeof(kinds) / sizeof(*kinds);
	     kind += step) {
		printf("%s, %u exact pages\n", kind->formats,
		       kind->exact_pages);
		fflush(stdout);
		test_kind();
	}
	return 0;
}
