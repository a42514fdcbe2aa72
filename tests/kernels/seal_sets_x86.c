/* SPDX-License-Identifier: Apache-2.0 */
/*
 * seal_sets_x86.c - the sealing functions of an x86-64 build.
 */
#include <stddef.h>
#include "tests/kernels/sealed.h"

side_store_fn *seal_nth(enum seal_kind kind, unsigned i)
{
	static side_store_fn *const sets[][2] = {
		[SEAL_KVARN] = { ref_kvarn_store, avx2_kvarn_store },
		[SEAL_KVQUANT] = { ref_kvquant_store, avx2_kvquant_store },
		[SEAL_OSCAR] = { ref_oscar_store, avx2_oscar_store },
	};

	return i < 2 && host_kernels_nth(i) ? sets[kind][i] : NULL;
}
