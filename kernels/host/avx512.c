/* SPDX-License-Identifier: Apache-2.0 */
/*
 * avx512.c - the kernels on AVX-512: attend.inc.c on vec_avx512.h. Rows are
 * stored as on AVX2, which every CPU with AVX-512 has.
 */
#include "kernels/host/vec_avx512.h"
#include "kernels/host/attend.inc.c"
#include "kernels/host/convert.h"
#include "kernels/host/isa.h"
#include "kernels/host/row.h"

static void avx512_append(const struct kv_append_args *a)
{
	append_rows(a, avx2_row_store);
}

static int avx512_attend(const struct kv_attend_args *a)
{
	return attend_tiles(a, run_attend);
}

const struct host_kernels host_kernels_avx512 = {
	.name = "avx512",
	.append = avx512_append,
	.convert = avx2_convert,
	.attend = avx512_attend,
	.dequant = ref_dequant,
};
