/* SPDX-License-Identifier: Apache-2.0 */
/*
 * isa_none.c - a CPU for which there is only the reference.
 */
#include <stddef.h>
#include "kernels/host/isa.h"

/**
 * isa_nth() - set @i that this CPU can run, or NULL past the last
 */
const struct host_kernels *isa_nth(unsigned i)
{
	return i ? NULL : &host_kernels_ref;
}
