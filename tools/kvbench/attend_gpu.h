/* SPDX-License-Identifier: Apache-2.0 */
/*
 * attend_gpu.h - kvbench attend on a GPU.
 */
#ifndef TOOLS_KVBENCH_ATTEND_GPU_H
#define TOOLS_KVBENCH_ATTEND_GPU_H

/* As struct bench's run(), for arguments that gpu_wanted(). */
int attend_gpu(int argc, char **argv, const char *summary);

#endif
