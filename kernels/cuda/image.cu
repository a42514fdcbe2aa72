/* SPDX-License-Identifier: Apache-2.0 */
/*
 * image.cu - all kernels, as the one module that is embedded.
 */
#include "kernels/cuda/append.cu"
#include "kernels/cuda/attend.cu"
#include "kernels/cuda/attend_mma.cu"
#include "kernels/cuda/convert.cu"
#include "kernels/cuda/dequant.cu"
#include "kernels/cuda/mma_merge.cu"
