# SPDX-License-Identifier: Apache-2.0
# nvcc.cmake - one .cu to a fat binary, and ptxas's figures to a file.
# -fmad=false: a product is rounded before it is added, unless fused by name,
# as kernels/host/ref.c has it.
execute_process(
	COMMAND ${NVCC} -std=c++17 -O3 -fmad=false -Werror all-warnings
		-I ${ROOT}/kernels/cuda/device -I ${ROOT} -I ${ROOT}/kernels/include
		-gencode arch=compute_80,code=sm_80
		-gencode arch=compute_90a,code=sm_90a
		-gencode arch=compute_100,code=sm_100
		-gencode arch=compute_80,code=compute_80
		-Xptxas -v -fatbin -o ${OUT}.fatbin ${SOURCE}
	OUTPUT_VARIABLE out ERROR_VARIABLE out RESULT_VARIABLE rc)
file(WRITE ${OUT}.ptxas "${out}")
if(NOT rc EQUAL 0)
	message(FATAL_ERROR "${out}")
endif()
