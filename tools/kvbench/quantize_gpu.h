/* SPDX-License-Identifier: Apache-2.0 */
/*
 * quantize_gpu.h - kvbench quantize on a GPU.
 */
#ifndef TOOLS_KVBENCH_QUANTIZE_GPU_H
#define TOOLS_KVBENCH_QUANTIZE_GPU_H

/* As struct bench's run(), for arguments that gpu_wanted(). */
int quantize_gpu(int argc, char **argv, const char *summary);

#endif
