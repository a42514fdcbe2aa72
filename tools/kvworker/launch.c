/* SPDX-License-Identifier: Apache-2.0 */
/*
 * launch.c - layer.cu's kernels, loaded, and how each is launched.
 */
#include <errno.h>
#include <stdint.h>
#include "kernels/cuda/image.h"
#include "tools/kvworker/image.h"
#include "tools/kvworker/launch.h"

static int load(struct launcher *l, struct error *e)
{
	cu_result result = l->gpu->cu->cuModuleLoadData(&l->module,
							kv_image_layer);

	if (!result)
		return 0;
	l->module = NULL;
	if (cu_errno(result) == -ENOEXEC)
		return error_set(e, -ENOEXEC, "%s", kv_cuda_image_text);
	return gpu_check(l->gpu, "cuModuleLoadData", result, e);
}

int launcher_init(struct launcher *l, struct gpu *g, struct error *e)
{
	const struct {
		const char *name;
		cu_function *function;
	} kernels[] = {
		{ "worker_embed", &l->embed },
		{ "worker_normalize", &l->normalize },
		{ "worker_rotate", &l->rotate },
		{ "worker_activate", &l->activate },
	};
	int err;

	l->gpu = g;
	err = load(l, e);
	for (size_t i = 0; !err && i < sizeof(kernels) / sizeof(kernels[0]);
	     i++)
		err = gpu_check(g, kernels[i].name,
				g->cu->cuModuleGetFunction(kernels[i].function,
							   l->module,
							   kernels[i].name),
				e);
	return err;
}

void launcher_fini(struct launcher *l)
{
	if (l->module)
		l->gpu->cu->cuModuleUnload(l->module);
	*l = (struct launcher){ 0 };
}

/* What is launched: rows, blocks of each, and a kernel's one argument. */
struct launch {
	cu_function function;
	const char *name;
	size_t rows;
	unsigned parts;
	unsigned shared_bytes;
	const void *param;
};

static int launch(const struct launcher *l, const struct launch *what,
		  struct error *e)
{
	void *params[] = { (void *)(uintptr_t)what->param };

	return gpu_check(l->gpu, what->name,
			 l->gpu->cu->cuLaunchKernel(
				 what->function, (unsigned)what->rows,
				 what->parts, 1, LAYER_THREADS, 1, 1,
				 what->shared_bytes, l->gpu->stream, params,
				 NULL),
			 e);
}

static unsigned parts(size_t width)
{
	return (unsigned)((width + LAYER_PART - 1) / LAYER_PART);
}

int launch_embed(const struct launcher *l, size_t rows,
		 const struct embed_params *p, struct error *e)
{
	return launch(l, &(struct launch){ .function = l->embed,
					   .name = "worker_embed",
					   .rows = rows,
					   .parts = parts(p->width),
					   .param = p }, e);
}

int launch_normalize(const struct launcher *l, size_t rows,
		     const struct normalize_params *p, struct error *e)
{
	return launch(l, &(struct launch){ .function = l->normalize,
					   .name = "worker_normalize",
					   .rows = rows,
					   .parts = 1,
					   .shared_bytes = LAYER_THREADS *
							   sizeof(double),
					   .param = p }, e);
}

int launch_rotate(const struct launcher *l, size_t rows,
		  const struct rotate_params *p, struct error *e)
{
	return launch(l, &(struct launch){ .function = l->rotate,
					   .name = "worker_rotate",
					   .rows = rows,
					   .parts = parts((size_t)p->nr_heads *
							  p->nr_pairs),
					   .param = p }, e);
}

int launch_activate(const struct launcher *l, size_t rows,
		    const struct activate_params *p, struct error *e)
{
	return launch(l, &(struct launch){ .function = l->activate,
					   .name = "worker_activate",
					   .rows = rows,
					   .parts = parts(p->width),
					   .param = p }, e);
}
