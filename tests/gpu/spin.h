/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spin.h - a kernel that writes the same words again and again.
 */
#ifndef TESTS_GPU_SPIN_H
#define TESTS_GPU_SPIN_H

#include <stdint.h>
#include "kernels/cuda/driver.h"

/**
 * spin_start() - round r of @rounds stores r to each of @words words at @at
 *
 * On the legacy stream of the current context; waits for nothing.
 *
 * Return: what the launch returned.
 */
cu_result spin_start(const struct cuda_driver *cu, cu_ptr at, uint64_t words,
		     uint64_t rounds);

#endif
