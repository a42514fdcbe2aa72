/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device_cuda.h - what the files of the CUDA device share.
 *
 * device_cuda.c makes it, maps segments and records calls whose arrays it
 * stages; device_cuda_fixed.c records calls whose arrays stay where they are.
 */
#ifndef CLIENT_LIB_DEVICE_CUDA_H
#define CLIENT_LIB_DEVICE_CUDA_H

#include <stdbool.h>
#include <stdint.h>
#include "client-lib/device.h"
#include "client-lib/device_cuda_stage.h"
#include "client-lib/device_cuda_tables.h"
#include "kernels/cuda/cuda.h"

#define MAX_SEGMENTS 8192u	/* of a space */

struct segment {
	cu_ptr ro, rw;		/* rw 0: not mapped for writing */
	uint64_t bytes;
	bool ipc;
};

struct device_cuda {
	struct device d;	/* first */
	const struct cuda_driver *cu;
	struct kv_cuda *kc;
	cu_device gpu;		/* of the context */
	cu_stream stream;	/* for bases and tables */
	cu_ptr bases;		/* [MAX_SEGMENTS] read-only, then writable */
	struct segment *segments; /* [nr_segments] */
	struct stage stage;
	struct cuda_tables kv_tables[KVD_MAX_GROUPS];
	cu_ptr scratch;
	uint64_t scratch_bytes;
	cu_event scratch_free;	/* the last call that used it is done */
};

/* What the driver's result is to callers: 0, -ENOMEM, -EIO. */
int cuda_result(cu_result err);

/* Is what @stream is given recorded, to be run by a graph? */
bool cuda_capturing(struct device *d, kvd_stream stream);

/* Where kernels that write find segments. */
static inline void *const *cuda_writable_bases(const struct device_cuda *c)
{
	return (void *const *)(uintptr_t)(c->bases +
					  MAX_SEGMENTS * sizeof(cu_ptr));
}

/* device.h has these; device_cuda_fixed.c. */
int cuda_fixed_new(struct device *d, const struct device_fixed_want *w,
		   struct device_fixed **ret);
void cuda_fixed_free(struct device *d, struct device_fixed *f);
int cuda_fixed_send(struct device *d, struct device_fixed *f, uint64_t bytes,
		    kvd_stream stream);
int cuda_fixed_append(struct device *d, struct device_fixed *f,
		      struct kv_append_args *a, kvd_stream stream);
int cuda_fixed_attend(struct device *d, struct device_fixed *f,
		      struct kv_attend_args *a, kvd_stream stream);
int cuda_fixed_convert(struct device *d, struct device_fixed *f,
		       struct kv_convert_args *a, kvd_stream stream);

#endif
