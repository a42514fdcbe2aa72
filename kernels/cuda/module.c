// SPDX-License-Identifier: Apache-2.0
/*
 * module.c - what holds kernels: made, filled with images, let go.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include "kernels/cuda/module.h"

int kv_cuda_alloc(const struct cuda_driver *cu, struct kv_cuda **ret,
		  struct cuda_why *why)
{
	struct kv_cuda *kc = calloc(1, sizeof(*kc));

	if (!kc) {
		snprintf(why->text, why->bytes, "out of memory");
		return -ENOMEM;
	}
	kc->cu = cu;
	*ret = kc;
	return 0;
}

int kv_cuda_load(struct kv_cuda *kc, enum kv_cuda_image image,
		 const unsigned char *code, struct cuda_why *why)
{
	cu_result err = kc->cu->cuModuleLoadData(&kc->modules[image], code);

	if (!err)
		return 0;
	kc->modules[image] = NULL;
	if (cu_errno(err) == -ENOEXEC)
		snprintf(why->text, why->bytes, "%s", kv_cuda_image_text);
	else
		cu_text(kc->cu, "cuModuleLoadData", err, why->text, why->bytes);
	return cu_errno(err);
}

int kv_cuda_find(struct kv_cuda *kc, enum kv_cuda_image image,
		 const char *name, cu_function *ret, struct cuda_why *why)
{
	cu_result err =
		kc->cu->cuModuleGetFunction(ret, kc->modules[image], name);

	if (err)
		cu_text(kc->cu, name, err, why->text, why->bytes);
	return cu_errno(err);
}

void kv_cuda_free(struct kv_cuda *kc)
{
	if (!kc)
		return;
	for (int i = 0; i < KV_CUDA_NR_IMAGES; i++)
		if (kc->modules[i])
			kc->cu->cuModuleUnload(kc->modules[i]);
	free(kc);
}

int kv_cuda_launch(struct kv_cuda *kc, cu_function function,
		   const struct shape *s, cu_stream stream, const void *param)
{
	void *params[] = { (void *)(uintptr_t)param };

	return cu_errno(kc->cu->cuLaunchKernel(
		function, s->grid[0], s->grid[1], s->grid[2], s->threads, 1, 1,
		s->shared_bytes, stream, params, NULL));
}
