/* SPDX-License-Identifier: Apache-2.0 */
/*
 * convert_avx2.c - pages stored once more, on AVX2. Stateless; any thread.
 */
#include "kernels/host/convert.h"
#include "kernels/host/kivi.h"

static const struct convert_ops avx2_ops = {
	.load = avx2_side_load,
	.row = avx2_row_store,
	.kivi = avx2_kivi_store,
	.kivi_seal = avx2_kivi_seal,
	.kvquant = avx2_kvquant_store,
	.kvarn = avx2_kvarn_store,
	.oscar = avx2_oscar_store,
};

/**
 * avx2_convert() - host_kernels.convert, with the bytes of ref's
 */
void avx2_convert(const struct kv_convert_args *a)
{
	convert_pages(a, &avx2_ops);
}
