// SPDX-License-Identifier: Apache-2.0
/*
 * kernels.cpp - the kernels this double can run: those of kernels/cuda and of
 * tools/kvworker, each compiled from its own source.
 */
#include <device.cuh>
#include <string.h>
#include <type_traits>
#include <utility>

#include "kernels/cuda/append.h"
#include "kernels/cuda/attend.h"
#include "kernels/cuda/convert.h"
#include "kernels/cuda/copy.h"
#include "kernels/cuda/mma.h"
#include "tools/kvworker/layer.h"

#define DECLARE(name, params) extern "C" void name(const struct params p)
DECLARE(kv_append, kv_append_args);
DECLARE(kv_convert, convert_params);
DECLARE(kv_convert_far, convert_params);
DECLARE(kv_attend, attend_params);
DECLARE(kv_merge, attend_params);
DECLARE(kv_dequant, dequant_params);
DECLARE(kv_gather, copy_params);
DECLARE(kv_scatter, copy_params);
DECLARE(kv_zero, copy_params);
DECLARE(kv_mma_plan, mma_params);
DECLARE(kv_mma_turn, turn_params);
DECLARE(kv_mma_merge, mma_params);
DECLARE(kv_mma_64x8, mma_params);
DECLARE(kv_mma_64x16, mma_params);
DECLARE(kv_mma_128x8, mma_params);
DECLARE(kv_mma_128x16, mma_params);
DECLARE(kv_mma_256x8, mma_params);
DECLARE(kv_mma_table_64x8, mma_params);
DECLARE(kv_mma_table_64x16, mma_params);
DECLARE(kv_mma_table_128x8, mma_params);
DECLARE(kv_mma_table_128x16, mma_params);
DECLARE(kv_mma_table_256x8, mma_params);
DECLARE(worker_embed, embed_params);
DECLARE(worker_normalize, normalize_params);
DECLARE(worker_rotate, rotate_params);
DECLARE(worker_activate, activate_params);

/* tests/gpu/spin.c's, which has it in PTX. */
static void gpu_spin(uint32_t *at, uint64_t words, uint64_t rounds)
{
	const uint64_t first = blockIdx.x * simt_block.block_dim.x +
			       threadIdx.x;
	const uint64_t step = simt_block.grid_dim.x *
			      simt_block.block_dim.x;

	for (uint64_t round = 1; round <= rounds; round++)
		for (uint64_t i = first; i < words; i += step)
			*(volatile uint32_t *)&at[i] = (uint32_t)round;
}

/* A kernel's parameters, told from its signature. */
template <auto KERNEL, typename FN = decltype(KERNEL)> struct entry;

template <auto KERNEL, typename... ARGS>
struct entry<KERNEL, void (*)(ARGS...)> {
	static constexpr size_t bytes[] = { sizeof(ARGS)... };

	template <size_t... I>
	static void spread(void **params, std::index_sequence<I...>)
	{
		KERNEL(*static_cast<std::remove_reference_t<ARGS> *>(
			params[I])...);
	}

	static void call(void **params)
	{
		spread(params, std::index_sequence_for<ARGS...>());
	}

	static constexpr CUfunc_st make(const char *name)
	{
		return { name, sizeof...(ARGS), bytes, call };
	}
};

static const CUfunc_st kernels[] = {
	entry<kv_append>::make("kv_append"),
	entry<kv_convert>::make("kv_convert"),
	entry<kv_convert_far>::make("kv_convert_far"),
	entry<kv_attend>::make("kv_attend"),
	entry<kv_merge>::make("kv_merge"),
	entry<kv_mma_plan>::make("kv_mma_plan"),
	entry<kv_mma_turn>::make("kv_mma_turn"),
	entry<kv_mma_merge>::make("kv_mma_merge"),
	entry<kv_mma_64x8>::make("kv_mma_64x8"),
	entry<kv_mma_64x16>::make("kv_mma_64x16"),
	entry<kv_mma_128x8>::make("kv_mma_128x8"),
	entry<kv_mma_128x16>::make("kv_mma_128x16"),
	entry<kv_mma_256x8>::make("kv_mma_256x8"),
	entry<kv_mma_table_64x8>::make("kv_mma_table_64x8"),
	entry<kv_mma_table_64x16>::make("kv_mma_table_64x16"),
	entry<kv_mma_table_128x8>::make("kv_mma_table_128x8"),
	entry<kv_mma_table_128x16>::make("kv_mma_table_128x16"),
	entry<kv_mma_table_256x8>::make("kv_mma_table_256x8"),
	entry<kv_dequant>::make("kv_dequant"),
	entry<kv_gather>::make("kv_gather"),
	entry<kv_scatter>::make("kv_scatter"),
	entry<kv_zero>::make("kv_zero"),
	entry<worker_embed>::make("worker_embed"),
	entry<worker_normalize>::make("worker_normalize"),
	entry<worker_rotate>::make("worker_rotate"),
	entry<worker_activate>::make("worker_activate"),
	entry<gpu_spin>::make("gpu_spin"),
};

const struct CUfunc_st *kernel_find(const char *name)
{
	for (const CUfunc_st &k : kernels)
		if (strcmp(k.name, name) == 0)
			return &k;
	return nullptr;
}
