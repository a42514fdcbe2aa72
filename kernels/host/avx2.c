/* SPDX-License-Identifier: Apache-2.0 */
/*
 * avx2.c - the kernels on AVX2, FMA and F16C: attend.inc.c on vec_avx2.h.
 */
#include "kernels/host/vec_avx2.h"
#include "kernels/host/attend.inc.c"
#include "kernels/host/convert.h"
#include "kernels/host/isa.h"
#include "kernels/host/row.h"

static void avx2_append(const struct kv_append_args *a)
{
	append_rows(a, avx2_row_store);
}

static int avx2_attend(const struct kv_attend_args *a)
{
	return attend_tiles(a, run_attend);
}

const struct host_kernels host_kernels_avx2 = {
	.name = "avx2",
	.append = avx2_append,
	.convert = avx2_convert,
	.attend = avx2_attend,
	.dequant = ref_dequant,
};
