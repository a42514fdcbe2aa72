/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ref_oscar.c - how pages of oscar are sealed: the definition, in scalar C.
 */
#include "kernels/host/seal.h"

int ref_oscar_store(const struct side *s, const float *x,
	       const struct kv_tables *tables)
{
	return 1;
}
