/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kivi.h - sealing pages of kivi on AVX2; ref_kivi.c is the definition.
 */
#ifndef KERNELS_HOST_KIVI_H
#define KERNELS_HOST_KIVI_H

#include "kernels/host/seal.h"

side_store_fn avx2_kivi_store;

/* The same of the values of another side, in f16 or bf16. */
int avx2_kivi_seal(const struct side *s, const struct side *from);

#endif
