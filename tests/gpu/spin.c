// SPDX-License-Identifier: Apache-2.0
/*
 * spin.c - a kernel that writes the same words again and again.
 *
 * Its text is PTX, which the driver compiles, so that no nvcc is needed here;
 * tests/fakecuda/kernels.cpp has it in C++.
 */
#include "tests/cuda/child.h"
#include "tests/gpu/spin.h"

static const char image[] =
	".version 7.0\n"
	".target sm_80\n"
	".address_size 64\n"
	".visible .entry gpu_spin(.param .u64 at, .param .u64 words,\n"
	"			  .param .u64 rounds)\n"
	"{\n"
	"	.reg .pred %end;\n"
	"	.reg .b32 %value, %block, %size, %thread, %grid;\n"
	"	.reg .b64 %at, %words, %rounds, %round, %first, %step, %i, %p;\n"
	"	ld.param.u64 %at, [at];\n"
	"	cvta.to.global.u64 %at, %at;\n"
	"	ld.param.u64 %words, [words];\n"
	"	ld.param.u64 %rounds, [rounds];\n"
	"	mov.u32 %block, %ctaid.x;\n"
	"	mov.u32 %size, %ntid.x;\n"
	"	mov.u32 %thread, %tid.x;\n"
	"	mov.u32 %grid, %nctaid.x;\n"
	"	cvt.u64.u32 %first, %thread;\n"
	"	mad.wide.u32 %first, %block, %size, %first;\n"
	"	mul.wide.u32 %step, %grid, %size;\n"
	"	mov.u64 %round, 0;\n"
	"ROUND:\n"
	"	setp.ge.u64 %end, %round, %rounds;\n"
	"	@%end bra END;\n"
	"	add.u64 %round, %round, 1;\n"
	"	cvt.u32.u64 %value, %round;\n"
	"	mov.u64 %i, %first;\n"
	"WORD:\n"
	"	setp.ge.u64 %end, %i, %words;\n"
	"	@%end bra ROUND;\n"
	"	shl.b64 %p, %i, 2;\n"
	"	add.u64 %p, %at, %p;\n"
	"	st.volatile.global.u32 [%p], %value;\n"
	"	add.u64 %i, %i, %step;\n"
	"	bra WORD;\n"
	"END:\n"
	"	ret;\n"
	"}\n";

cu_result spin_start(const struct cuda_driver *cu, cu_ptr at, uint64_t words,
		     uint64_t rounds)
{
	void *params[] = { &at, &words, &rounds };
	cu_function function;
	cu_module module;

	REQUIRE(cu->cuModuleLoadData(&module, image) == CU_OK);
	REQUIRE(cu->cuModuleGetFunction(&function, module, "gpu_spin") ==
		CU_OK);
	return cu->cuLaunchKernel(function, 8, 1, 1, 128, 1, 1, 0, NULL, params,
				  NULL);
}
