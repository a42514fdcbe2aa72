/* SPDX-License-Identifier: Apache-2.0 */
/*
 * convert_avx2.c - pages stored once more, on AVX2. Stateless; any thread.
 */
#include "kernels/host/convert.h"
#include "kernels/host/kivi.h"
#include "kernels/host/store8.h"

S8_INLINE void floats_load(uint32_t dtype, const void *p, size_t n, float *x)
{
	size_t i;

	for (i = 0; i < n; i += 8)
		_mm256_storeu_ps(x + i, s8_load(dtype, p, i));
}

/* Rows of 16 bits lie one after the other. */
static void avx2_side_load(const struct side *s, uint32_t nr_tokens,
			   const struct kv_tables *tables, float *x)
{
	size_t n = (size_t)nr_tokens * s->dim;

	if (s->format == KVD_F16)
		floats_load(KVD_DTYPE_F16, s->codes, n, x);
	else if (s->format == KVD_BF16)
		floats_load(KVD_DTYPE_BF16, s->codes, n, x);
	else
		ref_side_load(s, nr_tokens, tables, x);
}

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
