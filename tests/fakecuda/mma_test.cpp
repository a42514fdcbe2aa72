// SPDX-License-Identifier: Apache-2.0
/*
 * mma_test.cpp - the double's <mma.cuh>: fragments, conversions, copies.
 *
 * What is expected is computed from the instructions' definitions, with other
 * code than the double's: fragments from the formulas for row and column of
 * the i-th value of a thread, halves through double arithmetic.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <mma.cuh>

#define WARPS 3u
#define THREADS (WARPS * SIMT_WARP)
#define SHARED 4096u
#define REPEATS 3u

static int bad;
static uint64_t random_state = 1;

static uint32_t random_u32(void)
{
	random_state = random_state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(random_state >> 32);
}

static void check(bool ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "%s\n", what);
	bad = 1;
}

static void run_kernel(void (*kernel)(void **), unsigned seed)
{
	const struct CUfunc_st f = { "test", 0, nullptr, kernel };
	struct launch l = {};

	l.function = &f;
	l.grid[0] = l.grid[1] = l.grid[2] = l.block[1] = l.block[2] = 1;
	l.block[0] = THREADS;
	l.shared_bytes = SHARED;
	l.seed = seed;
	simt_launch(&l);
}

/* ---- fragments ---- */

static uint16_t a_bits[WARPS][16][16], b_bits[WARPS][16][8];
static float c_in[WARPS][16][8], c_out[WARPS][16][8];
static bool use_bf16;

/* Bits of f16 or bf16 between -8 and 8, without the smallest. */
static uint16_t random_half(void)
{
	const float x = (float)(int)(random_u32() % 4001 - 2000) / 256.0f;

	return use_bf16 ? bf16_from_f32(x) : f16_from_f32(x);
}

static float half_value(uint16_t h)
{
	return use_bf16 ? bf16_to_f32(h) : f16_to_f32(h);
}

/* The formulas: of the i-th of a thread's values. */
static unsigned a_row(unsigned lane, unsigned i)
{
	const unsigned group = lane >> 2;

	return i < 2 || (i >= 4 && i < 6) ? group : group + 8;
}

static unsigned a_col(unsigned lane, unsigned i)
{
	return lane % 4 * 2 + (i & 1) + (i >= 4 ? 8 : 0);
}

static unsigned b_row(unsigned lane, unsigned i)
{
	return lane % 4 * 2 + (i & 1) + (i >= 2 ? 8 : 0);
}

static unsigned c_row(unsigned lane, unsigned i)
{
	return (lane >> 2) + (i < 2 ? 0 : 8);
}

static unsigned c_col(unsigned lane, unsigned i)
{
	return lane % 4 * 2 + (i & 1);
}

static void product(void **)
{
	const unsigned w = threadIdx.x / SIMT_WARP;
	const unsigned lane = threadIdx.x % SIMT_WARP;
	uint16_t a[8], b[4];
	uint32_t a_words[4], b_words[2];
	float c[4];

	for (unsigned i = 0; i < 8; i++)
		a[i] = a_bits[w][a_row(lane, i)][a_col(lane, i)];
	for (unsigned i = 0; i < 4; i++)
		b[i] = b_bits[w][b_row(lane, i)][lane >> 2];
	for (unsigned i = 0; i < 4; i++)
		c[i] = c_in[w][c_row(lane, i)][c_col(lane, i)];
	memcpy(a_words, a, sizeof(a));
	memcpy(b_words, b, sizeof(b));
	for (unsigned turn = 0; turn < REPEATS; turn++)
		if (use_bf16)
			mma_bf16(c, a_words, b_words);
		else
			mma_f16(c, a_words, b_words);
	for (unsigned i = 0; i < 4; i++)
		c_out[w][c_row(lane, i)][c_col(lane, i)] = c[i];
}

static float product_at(unsigned w, unsigned row, unsigned col)
{
	float sum = c_in[w][row][col];

	for (unsigned turn = 0; turn < REPEATS; turn++)
		for (unsigned k = 0; k < 16; k++)
			sum += half_value(a_bits[w][row][k]) *
			       half_value(b_bits[w][k][col]);
	return sum;
}

static void product_fill(void)
{
	for (unsigned w = 0; w < WARPS; w++)
		for (unsigned i = 0; i < 16; i++) {
			for (unsigned j = 0; j < 16; j++)
				a_bits[w][i][j] = random_half();
			for (unsigned j = 0; j < 8; j++) {
				b_bits[w][i][j] = random_half();
				c_in[w][i][j] = half_value(random_half());
			}
		}
}

static void test_product(unsigned seed)
{
	bool same = true;

	use_bf16 = seed & 1;
	product_fill();
	run_kernel(product, seed);
	for (unsigned w = 0; w < WARPS; w++)
		for (unsigned i = 0; i < 16; i++)
			for (unsigned j = 0; j < 8; j++)
				same = same && c_out[w][i][j] ==
						       product_at(w, i, j);
	check(same, use_bf16 ? "mma_bf16" : "mma_f16");
}

static uint16_t matrix[WARPS][8][8], transposed[WARPS][8][8];

static void transpose(void **)
{
	const unsigned w = threadIdx.x / SIMT_WARP;
	const unsigned lane = threadIdx.x % SIMT_WARP;
	uint32_t x;

	memcpy(&x, &matrix[w][lane / 4][lane % 4 * 2], 4);
	x = transpose8(x);
	memcpy(&transposed[w][lane / 4][lane % 4 * 2], &x, 4);
}

static void test_transpose(unsigned seed)
{
	bool same = true;

	for (unsigned i = 0; i < WARPS * 64; i++)
		(&matrix[0][0][0])[i] = (uint16_t)random_u32();
	run_kernel(transpose, seed);
	for (unsigned w = 0; w < WARPS; w++)
		for (unsigned i = 0; i < 8; i++)
			for (unsigned j = 0; j < 8; j++)
				same = same &&
				       transposed[w][j][i] == matrix[w][i][j];
	check(same, "transpose8");
}

/* Lane l gets lane 31 - l's, then lane l ^ 5's; all add to one sum. */
static uint32_t shuffled[THREADS], shuffled_sum;

static void shuffle(void **)
{
	uint32_t x = __shfl_sync(~0u, threadIdx.x * 3,
				 31 - threadIdx.x % SIMT_WARP);
	float f = (float)x;

	__syncwarp();
	x = __shfl_xor_sync(~0u, x, 5);
	f = __shfl_sync(~0u, f, (threadIdx.x ^ 5) % SIMT_WARP);
	atomicAdd(&shuffled_sum, x);
	shuffled[threadIdx.x] = x == (uint32_t)f ? x : 0;
}

static void test_shuffle(unsigned seed)
{
	uint32_t sum = 0;

	shuffled_sum = 0;
	run_kernel(shuffle, seed);
	for (unsigned t = 0; t < THREADS; t++) {
		const unsigned first = t / SIMT_WARP * SIMT_WARP;

		check(shuffled[t] == (first + 31 - (t % SIMT_WARP ^ 5)) * 3,
		      "shuffle");
		sum += t * 3;
	}
	check(shuffled_sum == sum, "atomicAdd");
}

/* ---- words ---- */

static void test_permute(void)
{
	for (unsigned i = 0; i < 4; i++)
		for (unsigned mode = 0; mode < 16; mode++) {
			const uint32_t a = random_u32(), b = random_u32();
			const uint32_t selector =
				(random_u32() & ~(0xfu << 4 * i)) |
				mode << 4 * i;
			const uint32_t word = mode & 4 ? b : a;
			const uint8_t byte =
				(uint8_t)(word >> (mode & 3) * 8);
			const uint8_t want = mode < 8	 ? byte :
					     byte >= 128 ? 0xff :
							   0;
			const uint32_t got = permute(a, b, selector);

			check((uint8_t)(got >> 8 * i) == want, "permute");
		}
	check(permute(0x33221100, 0x77665544, 0x7250) == 0x77225500,
	      "permute of four");
}

/* The nearest f16 to a number, by looking at its neighbours. */
static uint16_t nearest(double x)
{
	const double size = fabs(x);
	uint16_t low = 0, high = 0x7c00;

	if (size >= 65520.0)
		return (uint16_t)(0x7c00 | (signbit(x) ? 0x8000 : 0));
	while (high - low > 1) { /* low <= size < high */
		const uint16_t mid = (uint16_t)((low + high) / 2);

		if ((mid == 0x7c00 ? 65536.0 : f16_to_f32(mid)) <= size)
			low = mid;
		else
			high = mid;
	}
	const double above = high == 0x7c00 ? 65536.0 : f16_to_f32(high);
	const double down = size - f16_to_f32(low), up = above - size;

	if (up < down || (up == down && low & 1))
		low = high;
	return (uint16_t)(low | (signbit(x) ? 0x8000 : 0));
}

static uint16_t random_finite(void)
{
	uint16_t h;

	do
		h = (uint16_t)random_u32();
	while ((h & 0x7c00) == 0x7c00);
	return h;
}

static uint32_t both(uint16_t lo, uint16_t hi)
{
	return lo | (uint32_t)hi << 16;
}

/* Exact in a double. */
static void test_arithmetic(void)
{
	for (unsigned i = 0; i < 50000; i++) {
		const uint16_t a = random_finite(), b = random_finite();
		const double x = f16_to_f32(a), y = f16_to_f32(b);
		const uint32_t ab = both(a, b), ba = both(b, a);

		check(f16x2_mul(ab, ba) == both(nearest(x * y), nearest(x * y)),
		      "f16x2_mul");
		check(f16x2_add(ab, ba) == both(nearest(x + y), nearest(x + y)),
		      "f16x2_add");
		check(f16x2_sub(ab, ba) == both(nearest(x - y), nearest(y - x)),
		      "f16x2_sub");
		check(f16x2_pack((float)x, (float)y) == ab, "f16x2_pack");
		check(f16x2_lo(ab) == x && f16x2_hi(ab) == y, "f16x2_lo, _hi");
	}
}

/* a * b + c and c * 1 - 0; exact in a double, since exponents are close. */
static void test_fma(void)
{
	const uint32_t ties = both(f16_from_f32(683.0f / 512.0f),
				   f16_from_f32(293.0f / 256.0f));

	for (unsigned i = 0; i < 50000; i++) {
		const uint16_t a = 0x3800 + random_u32() % 0x800;
		const uint16_t b = 0x3800 + random_u32() % 0x800;
		const uint16_t c = (uint16_t)(random_u32() % 0x8000 / 2 +
					      (random_u32() & 0x8000));
		const double x = (double)f16_to_f32(a) * f16_to_f32(b) +
				 f16_to_f32(c);

		check(f16x2_fma(both(a, c), both(b, 0x3c00), both(c, 0x8000)) ==
			      both(nearest(x), c),
		      "f16x2_fma");
	}
	/* 1 + 2^-11 and 1 + 3 * 2^-11, and 2^-24 up and down from there. */
	check(f16x2_fma(ties, both(0x3a00, 0x3b00), both(0x0001, 0x8001)) ==
		      both(0x3c01, 0x3c01),
	      "f16x2_fma near ties");
	check(f16x2_fma(0x7bff7bff, 0x7bff7bff, 0xfc00fbff) == 0xfc007c00,
	      "f16x2_fma of infinity");
}

static void test_special(void)
{
	check(f16x2_pack(NAN, INFINITY) == 0x7c007fff, "f16x2_pack of NaN");
	check(f16x2_pack(-65520.0f, 0x1p-25f) == 0x0000fc00, "f16x2_pack ends");
	check(bf16x2_pack(1.0f, -2.0f) == 0xc0003f80, "bf16x2_pack");
	check(bf16x2_pack(0x1.01p0f, 0x1.03p0f) == 0x3f823f80,
	      "bf16x2_pack of ties");
	check(bf16x2_pack(NAN, -INFINITY) == 0xff807fff, "bf16x2_pack of NaN");
	check(f16x2_mul(0x7c003c00, 0x00007e01) == 0x7fff7fff, "NaN");
	check(exp2_fast(-INFINITY) == 0.0f && exp2_fast(3.0f) == 8.0f &&
		      exp2_fast(-126.0f) == 0x1p-126f &&
		      exp2_fast(-127.0f) == 0.0f,
	      "exp2_fast");
}

/* ---- 8-bit floats, every code beside every other ---- */

static uint32_t fp8_bad;

/* By the definition; an f16 holds them all. */
static uint16_t fp8_want(unsigned code, int mantissa, int bias, bool infinity)
{
	const int e = (int)(code & 0x7f) >> mantissa;
	const int top = 0x7f >> mantissa;
	const int m = (int)(code & ((1u << mantissa) - 1));
	const int all = (1 << mantissa) - 1;
	double x;

	if (e == top && infinity)
		return m ? 0x7fff : (uint16_t)((code & 0x80) << 8 | 0x7c00);
	if (e == top && m == all)
		return 0x7fff;
	x = e ? ldexp((1 << mantissa) + m, e - bias - mantissa) :
		ldexp(m, 1 - bias - mantissa);
	return nearest(code & 0x80 ? -x : x);
}

static void fp8(void **)
{
	for (unsigned a = threadIdx.x; a < 256; a += THREADS)
		for (unsigned b = 0; b < 256; b++) {
			const uint32_t two = a | b << 8 | 0xabcd0000;

			if (f16x2_from_e4m3(two) !=
				    both(fp8_want(a, 3, 7, false),
					 fp8_want(b, 3, 7, false)) ||
			    f16x2_from_e5m2(two) !=
				    both(fp8_want(a, 2, 15, true),
					 fp8_want(b, 2, 15, true)))
				atomicAdd(&fp8_bad, 1);
		}
}

static void test_fp8(const char *sm)
{
	setenv("FAKECUDA_SM", sm, 1);
	fp8_bad = 0;
	run_kernel(fp8, 0);
	check(fp8_bad == 0, "fp8");
	unsetenv("FAKECUDA_SM");
}

/* ---- copies ---- */

static char source[2 * SHARED] __attribute__((aligned(16)));
static uint32_t early, wrong;

static void count(uint32_t *what, bool is)
{
	if (is)
		atomicAdd(what, 1);
}

static bool is_dirt(const char *p, size_t bytes)
{
	while (bytes && (uint8_t)*p == SIMT_DIRT)
		p++, bytes--;
	return !bytes;
}

/* Two groups a thread; a wait for all but one covers the first alone. */
static void groups(void **)
{
	SHARED_BYTES(shared);
	char *own = shared + 32 * threadIdx.x;
	char *from = source + 32 * threadIdx.x;

	memset(own, 0, 32);
	copy16(own, from);
	copy16_commit();
	copy16(own + 16, from + 16);
	copy16_commit();
	count(&early, !is_dirt(own, 32));
	from[0] = 77; /* too early: not read yet */
	copy16_wait<1>();
	count(&wrong, memcmp(own, from, 16) || own[0] != 77);
	count(&early, !is_dirt(own + 16, 16));
	copy16_wait<0>();
	count(&wrong, memcmp(own, from, 32));
	__syncthreads();
	own = shared + 32 * ((threadIdx.x + 1) % THREADS);
	from = source + 32 * ((threadIdx.x + 1) % THREADS);
	count(&wrong, memcmp(own, from, 32));
}

/* What has not been committed, no wait covers. */
static void uncommitted(void **)
{
	SHARED_BYTES(shared);
	char *own = shared + 16 * threadIdx.x;

	copy16(own, source);
	copy16_wait<0>();
	count(&early, !is_dirt(own, 16));
}

#define STAGES 2u
#define STAGE_BYTES 1024u
#define BARS_AT 3072u

/* Thread 0 fetches, two stages ahead of the others. */
static void pipeline(void **)
{
	SHARED_BYTES(shared);
	uint64_t *bars = (uint64_t *)(shared + BARS_AT);

	if (threadIdx.x == 0) {
		for (unsigned s = 0; s < STAGES; s++)
			mbar_init(&bars[s], 1);
		mbar_fence_init();
	}
	__syncthreads();
	for (unsigned i = 0; i < 6 + STAGES; i++) {
		const unsigned s = i % STAGES;
		char *stage = shared + s * STAGE_BYTES;

		if (i >= STAGES) {
			mbar_wait(&bars[s], (i / STAGES - 1) & 1);
			count(&wrong, memcmp(stage,
					     source + (i - STAGES) * STAGE_BYTES,
					     STAGE_BYTES));
			__syncthreads();
		}
		if (threadIdx.x || i >= 6)
			continue;
		mbar_expect(&bars[s], STAGE_BYTES);
		bulk_copy(stage, source + i * STAGE_BYTES, 16, &bars[s]);
		bulk_copy(stage + 16, source + i * STAGE_BYTES + 16,
			  STAGE_BYTES - 16, &bars[s]);
		count(&early, !is_dirt(stage, STAGE_BYTES));
	}
}

/* Two arrive; others may wait first, and all get both their bytes. */
static void two_arrive(void **)
{
	SHARED_BYTES(shared);
	uint64_t *bar = (uint64_t *)(shared + BARS_AT);

	if (threadIdx.x == 0) {
		mbar_init(bar, 2);
		mbar_fence_init();
	}
	__syncthreads();
	if (threadIdx.x == 40 || threadIdx.x == 80) {
		char *to = shared + threadIdx.x * 16;

		mbar_expect(bar, 16);
		bulk_copy(to, source + threadIdx.x * 16, 16, bar);
	}
	mbar_wait(bar, 0);
	count(&wrong, memcmp(shared + 640, source + 640, 16) ||
			      memcmp(shared + 1280, source + 1280, 16));
}

static void test_copies(unsigned seed)
{
	void (*const list[])(void **) = { groups, uncommitted, pipeline,
					  two_arrive };

	for (char &c : source)
		c = (char)random_u32();
	for (void (*kernel)(void **) : list) {
		early = wrong = 0;
		run_kernel(kernel, seed);
		check(!early, "a copy was there before a wait");
		check(!wrong, "a copy was not there after a wait");
	}
}

/* ---- misuse; thread 0 alone ---- */

static uint64_t *misuse_bar(char *shared, unsigned arrivals)
{
	uint64_t *bar = (uint64_t *)(shared + BARS_AT);

	mbar_init(bar, arrivals);
	mbar_fence_init();
	return bar;
}

static unsigned misuse_kind;

static void misuse_bulk(char *shared)
{
	uint64_t *bar = misuse_bar(shared, 1 + (misuse_kind == 5));

	switch (misuse_kind) {
	case 3:
		bulk_copy(shared, source, 24, bar);
		break;
	case 4: /* fewer bytes than expected */
		mbar_expect(bar, 64);
		bulk_copy(shared, source, 32, bar);
		mbar_wait(bar, 0);
		break;
	case 5: /* fewer arrivals */
		mbar_expect(bar, 0);
		mbar_wait(bar, 0);
		break;
	case 6: /* more bytes than expected */
		mbar_expect(bar, 16);
		bulk_copy(shared, source, 32, bar);
		break;
	case 7:
		bar[0] = 0;
		mbar_expect(bar, 16);
		break;
	case 8: /* nobody waits */
		mbar_expect(bar, 16);
		bulk_copy(shared, source, 16, bar);
		break;
	case 9: /* armed again too early */
		mbar_expect(bar, 16);
		bulk_copy(shared, source, 16, bar);
		mbar_expect(bar, 16);
		break;
	case 10: /* written to meanwhile */
		mbar_expect(bar, 16);
		bulk_copy(shared, source, 16, bar);
		shared[3] = 1;
		mbar_wait(bar, 0);
		break;
	}
}

static void misuse(void **)
{
	SHARED_BYTES(shared);
	uint32_t w[4];

	if (threadIdx.x)
		return;
	switch (misuse_kind) {
	case 0:
		copy16(shared + 8, source);
		break;
	case 1:
		copy16(shared, source + 4);
		break;
	case 2:
		copy16(source, source + 16);
		break;
	case 11: /* no fence */
		mbar_init((uint64_t *)shared, 1);
		bulk_copy(shared + 16, source, 16, (uint64_t *)shared);
		break;
	case 12:
		load16(w, source + 8);
		break;
	default:
		misuse_bulk(shared);
	}
}

/* What the kernel says before it ends its process. */
static void misuse_run(char *said, size_t bytes, bool *aborted)
{
	size_t n = 0;
	ssize_t got;
	int status, pipes[2];
	pid_t pid;

	if (pipe(pipes))
		abort();
	pid = fork();
	if (!pid) {
		const struct rlimit no_core = { 0, 0 };

		setrlimit(RLIMIT_CORE, &no_core);
		dup2(pipes[1], STDERR_FILENO);
		close(pipes[0]);
		close(pipes[1]);
		run_kernel(misuse, 0);
		_exit(0);
	}
	close(pipes[1]);
	while ((got = read(pipes[0], said + n, bytes - 1 - n)) > 0)
		n += (size_t)got;
	said[n] = '\0';
	close(pipes[0]);
	waitpid(pid, &status, 0);
	*aborted = !WIFEXITED(status) || WEXITSTATUS(status);
}

static void test_misuse(unsigned kind, const char *what)
{
	static char said[65536];
	bool aborted;

	misuse_kind = kind;
	misuse_run(said, sizeof(said), &aborted);
	if (aborted && strstr(said, what))
		return;
	fprintf(stderr, "misuse %u: not said: %s\n%s", kind, what, said);
	bad = 1;
}

int main(void)
{
	for (unsigned seed = 0; seed < 20; seed++) {
		test_product(seed);
		test_transpose(seed);
		test_shuffle(seed);
		test_copies(seed);
	}
	test_permute();
	test_arithmetic();
	test_fma();
	test_special();
	test_fp8("80");
	test_fp8("90");
	test_misuse(0, "not multiples of 16");
	test_misuse(1, "not multiples of 16");
	test_misuse(2, "not in shared memory");
	test_misuse(3, "not multiples of 16");
	test_misuse(4, "can never complete: 0 arrivals missing, 32 of 64");
	test_misuse(5, "can never complete: 1 arrivals missing");
	test_misuse(6, "32 bytes, and only 16 expected");
	test_misuse(7, "none was made, or it was overwritten");
	test_misuse(8, "ended with a bulk copy on its way");
	test_misuse(9, "a phase nobody waited for");
	test_misuse(10, "written while a copy was on its way");
	test_misuse(11, "no fence");
	test_misuse(12, "misaligned");
	setenv("FAKECUDA_SM", "80", 1);
	test_misuse(8, "not on sm_80");
	return bad;
}
