// SPDX-License-Identifier: Apache-2.0
/*
 * simt_test.cpp - fibers as CUDA threads: what must work, and what must not.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <device.cuh>

#define THREADS 80u /* two warps and a half */

alignas(16) static unsigned long result[4 * THREADS];

static unsigned linear(void)
{
	return blockIdx.x * simt_block.block_dim.x + threadIdx.x;
}

/* Each thread reads what its neighbour of the block wrote. */
static void rotate(void **)
{
	SHARED_FLOATS(shared);
	const unsigned n = simt_block.block_dim.x;

	for (int turn = 0; turn < 3; turn++) {
		shared[threadIdx.x] = (float)threadIdx.x;
		__syncthreads();
		result[linear()] = (unsigned long)shared[(threadIdx.x + 1) % n];
		__syncthreads();
	}
}

static void shuffle(void **)
{
	float sum = (float)threadIdx.x;
	unsigned odd = __ballot_sync(~0u, threadIdx.x % 2);

	for (unsigned mask = 8; mask; mask /= 2)
		sum += __shfl_xor_sync(~0u, sum, mask);
	result[linear()] = (unsigned long)sum << 32 | odd;
}

static void uneven(void **)
{
	if (threadIdx.x < 40)
		__syncthreads();
}

/* A warp that waits for a lane that is at the block's barrier. */
static void crossed(void **)
{
	if (threadIdx.x == 3)
		__syncthreads();
	else
		__ballot_sync(~0u, true);
}

static u4 theirs[2];

static void misaligned(void **)
{
	u4_load_once((const char *)result + 8);
}

static void reads_foreign(void **)
{
	u4_load_once(theirs);
}

static void writes_foreign(void **)
{
	u4_store_once(theirs, u4_zero());
}

static bool is_result(const void *p, size_t bytes, bool)
{
	return p >= result &&
	       (const char *)p + bytes <= (const char *)(result + 4 * THREADS);
}

static void run_kernel(void (*kernel)(void **), unsigned seed)
{
	const struct CUfunc_st f = { "test", 0, nullptr, kernel };
	struct launch l = {};

	l.function = &f;
	l.grid[0] = 4;
	l.grid[1] = l.grid[2] = l.block[1] = l.block[2] = 1;
	l.block[0] = THREADS;
	l.shared_bytes = THREADS * sizeof(float);
	l.seed = seed;
	l.may_touch = is_result;
	memset(result, 0, sizeof(result));
	simt_launch(&l);
}

static int check(bool ok, const char *what, unsigned seed)
{
	if (!ok)
		fprintf(stderr, "%s, seed %u\n", what, seed);
	return !ok;
}

/* Sum of the 16 lanes of @thread's half warp. */
static unsigned long half_warp_sum(unsigned thread)
{
	const unsigned long first = thread / 16 * 16;

	return 16 * first + 120;
}

static int test_works(unsigned seed)
{
	bool rotated = true, shuffled = true;

	run_kernel(rotate, seed);
	for (unsigned i = 0; i < 4 * THREADS; i++)
		rotated = rotated && result[i] == (i % THREADS + 1) % THREADS;
	run_kernel(shuffle, seed);
	for (unsigned i = 0; i < 4 * THREADS; i++) {
		const unsigned t = i % THREADS;
		const unsigned odd = t < 64 ? 0xaaaaaaaau : 0xaaaau;

		shuffled = shuffled &&
			   result[i] == (half_warp_sum(t) << 32 | odd);
	}
	return check(rotated, "rotate", seed) +
	       check(shuffled, "shuffle", seed);
}

/* The kernel ends its process, and says @why and @what. */
static int test_aborts(void (*kernel)(void **), const char *why,
		       const char *what)
{
	char said[65536] = "";
	size_t n = 0;
	ssize_t got;
	int status, pipes[2];
	pid_t pid;

	if (pipe(pipes))
		return 1;
	pid = fork();
	if (!pid) {
		const struct rlimit no_core = { 0, 0 };

		setrlimit(RLIMIT_CORE, &no_core);
		dup2(pipes[1], STDERR_FILENO);
		close(pipes[0]);
		close(pipes[1]);
		run_kernel(kernel, 0);
		_exit(0);
	}
	close(pipes[1]);
	while ((got = read(pipes[0], said + n, sizeof(said) - 1 - n)) > 0)
		n += (size_t)got;
	close(pipes[0]);
	waitpid(pid, &status, 0);
	if (strstr(said, why) && strstr(said, what))
		return 0;
	fprintf(stderr, "not said: %s: %s\n%s", why, what, said);
	return 1;
}

int main(void)
{
	const char *const barrier = "divergent barrier";
	const char *const foreign = "not the device's, and not page-locked";
	int bad = 0;

	for (unsigned seed = 0; seed < 20; seed++)
		bad += test_works(seed);
	bad += test_aborts(uneven, barrier, "thread 39 waits for its block");
	bad += test_aborts(uneven, barrier, "thread 40 has ended");
	bad += test_aborts(crossed, barrier, "thread 4 waits for its warp");
	bad += test_aborts(misaligned, "16 bytes at", "misaligned");
	bad += test_aborts(reads_foreign, "reads 16 bytes at", foreign);
	bad += test_aborts(writes_foreign, "writes 16 bytes at", foreign);
	return bad != 0;
}
