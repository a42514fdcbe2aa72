/* SPDX-License-Identifier: Apache-2.0 */
/*
 * isa_x86.c - what an x86-64 CPU can run. Any thread.
 */
#include <cpuid.h>
#include <stddef.h>
#include "kernels/host/isa.h"

/* By hand: not every compiler's __builtin_cpu_supports() knows the name. */
static int has_f16c(void)
{
	unsigned a, b, c, d;

	return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}

static int has_avx2(void)
{
	return __builtin_cpu_supports("avx2") &&
	       __builtin_cpu_supports("fma") && has_f16c();
}

static int has_avx512(void)
{
	return has_avx2() && __builtin_cpu_supports("avx512f") &&
	       __builtin_cpu_supports("avx512bw") &&
	       __builtin_cpu_supports("avx512vl") &&
	       __builtin_cpu_supports("avx512dq");
}

/**
 * isa_nth() - set @i that this CPU can run, or NULL past the last
 */
const struct host_kernels *isa_nth(unsigned i)
{
	__builtin_cpu_init();
	if (i == 0)
		return &host_kernels_ref;
	if (i == 1 && has_avx2())
		return &host_kernels_avx2;
	if (i == 2 && has_avx512())
		return &host_kernels_avx512;
	return NULL;
}
