/* SPDX-License-Identifier: Apache-2.0 */
/*
 * isa.h - the kernel sets this build has, narrowest first.
 *
 * isa_x86.c on x86-64, isa_none.c elsewhere.
 */
#ifndef KERNELS_HOST_ISA_H
#define KERNELS_HOST_ISA_H

#include "kernels/host/host.h"

extern const struct host_kernels host_kernels_avx2;
extern const struct host_kernels host_kernels_avx512;

/* Set @i that this CPU can run, or NULL past the last. 0 is ref. */
const struct host_kernels *isa_nth(unsigned i);

#endif
