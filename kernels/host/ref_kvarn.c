/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ref_kvarn.c - how pages of kvarn are sealed: the definition, in scalar C.
 */
#include "kernels/host/seal.h"

int ref_kvarn_store(const struct side *s, const float *x,
	       const struct kv_tables *tables)
{
	return 1;
}
