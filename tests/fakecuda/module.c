// SPDX-License-Identifier: Apache-2.0
/*
 * module.c - modules and launches.
 *
 * Any image will do: the kernels are those compiled into the double.
 */
#include <stdlib.h>
#include <string.h>
#include "tests/fakecuda/fakecuda.h"

#define SHARED_UNASKED (48u << 10)
#define MAX_FUNCTIONS 32u

/* Functions are the module's own: each has what was asked for it. */
struct CUmod_st {
	unsigned nr;
	struct CUfunc_st functions[MAX_FUNCTIONS];
};

cu_result cuModuleLoadData(cu_module *module, const void *image)
{
	struct CUctx_st *ctx;
	cu_result err = fake_enter_context("cuModuleLoadData", &ctx);

	if (err)
		return err;
	if (!image)
		return fake_leave(CU_INVALID_IMAGE);
	*module = calloc(1, sizeof(**module));
	if (!*module)
		return fake_leave(CU_OUT_OF_MEMORY);
	fake_live.modules++;
	return fake_leave(CU_OK);
}

cu_result cuModuleUnload(cu_module module)
{
	struct CUctx_st *ctx;
	cu_result err = fake_enter_context("cuModuleUnload", &ctx);

	if (err)
		return err;
	stream_drain_all();
	free(module);
	fake_live.modules--;
	return fake_leave(CU_OK);
}

static struct CUfunc_st *module_function(struct CUmod_st *m, const char *name)
{
	const struct CUfunc_st *kernel = kernel_find(name);
	struct CUfunc_st *f;

	for (unsigned i = 0; i < m->nr; i++)
		if (strcmp(m->functions[i].name, name) == 0)
			return &m->functions[i];
	if (!kernel || m->nr == MAX_FUNCTIONS)
		return NULL;
	f = &m->functions[m->nr++];
	*f = *kernel;
	f->max_shared = SHARED_UNASKED;
	return f;
}

cu_result cuModuleGetFunction(cu_function *function, cu_module module,
			      const char *name)
{
	struct CUctx_st *ctx;
	cu_result err = fake_enter_context("cuModuleGetFunction", &ctx);

	if (err)
		return err;
	*function = module_function(module, name);
	return fake_leave(*function ? CU_OK : CU_NOT_FOUND);
}

cu_result cuFuncSetAttribute(cu_function function, int attr, int value)
{
	struct CUctx_st *ctx;
	cu_result err = fake_enter_context("cuFuncSetAttribute", &ctx);

	if (err)
		return err;
	if (attr != CU_FUNCTION_MAX_SHARED || value < 0 ||
	    value > fake_max_shared())
		return fake_leave(CU_INVALID_VALUE);
	function->max_shared = (unsigned)value;
	return fake_leave(CU_OK);
}

/* One block with the pointers first, then what they point to. */
static void **params_copy(const struct CUfunc_st *f, void **params)
{
	size_t bytes = f->nr_params * sizeof(void *);
	void **copy;
	char *p;

	for (unsigned i = 0; i < f->nr_params; i++)
		bytes += (f->param_bytes[i] + 15) & ~15ul;
	copy = aligned_alloc(16, (bytes + 31) & ~15ul);
	if (!copy)
		return NULL;
	p = (char *)copy + ((f->nr_params * sizeof(void *) + 15) & ~15ul);
	for (unsigned i = 0; i < f->nr_params; i++) {
		copy[i] = memcpy(p, params[i], f->param_bytes[i]);
		p += (f->param_bytes[i] + 15) & ~15ul;
	}
	return copy;
}

static bool launch_valid(const struct launch *l)
{
	uint64_t threads = (uint64_t)l->block[0] * l->block[1] * l->block[2];

	return l->grid[0] && l->grid[1] && l->grid[2] &&
	       l->grid[0] <= 0x7fffffffu && l->grid[1] <= 65535 &&
	       l->grid[2] <= 65535 && threads && threads <= SIMT_MAX_THREADS &&
	       l->block[2] <= 64 && l->shared_bytes <= l->function->max_shared;
}

static cu_result launch(struct CUctx_st *ctx, cu_stream stream,
			const struct launch *what)
{
	struct launch *l;
	cu_result err;

	if (!launch_valid(what))
		return CU_INVALID_VALUE;
	l = malloc(sizeof(*l));
	if (!l)
		return CU_OUT_OF_MEMORY;
	*l = *what;
	l->seed = (unsigned)fake_env("FAKECUDA_SEED", 0);
	l->params = params_copy(l->function, what->params);
	err = l->params ? stream_launch(ctx, stream, l, l->params) :
			  CU_OUT_OF_MEMORY;
	if (err) {
		free(l->params);
		free(l);
	}
	return err;
}

cu_result cuLaunchKernel(cu_function function, unsigned grid_x,
			 unsigned grid_y, unsigned grid_z, unsigned block_x,
			 unsigned block_y, unsigned block_z,
			 unsigned shared_bytes, cu_stream stream, void **params,
			 void **extra)
{
	struct CUctx_st *ctx;
	cu_result err = fake_enter_context("cuLaunchKernel", &ctx);

	if (err)
		return err;
	if (!function || extra)
		return fake_leave(CU_INVALID_VALUE);
	return fake_leave(launch(
		ctx, stream,
		&(struct launch){ .function = function,
				  .grid = { grid_x, grid_y, grid_z },
				  .block = { block_x, block_y, block_z },
				  .shared_bytes = shared_bytes,
				  .params = params }));
}
