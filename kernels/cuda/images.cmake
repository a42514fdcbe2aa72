# SPDX-License-Identifier: Apache-2.0
# images.cmake - compiles .cu files of a folder and embeds them (image.h).

# kvd_cuda_images(TARGET NONE file... IMAGES name...)
# Each name.cu of this folder becomes an image of its own, kv_image_name of an
# object of its own. Without nvcc the sources NONE are compiled instead. The
# folder says enable_language(ASM) before.
function(kvd_cuda_images target)
	cmake_parse_arguments(I "" "" "NONE;IMAGES" ${ARGN})
	if(KVD_CUDA STREQUAL "OFF" OR NOT KVD_NVCC)
		target_sources(${target} PRIVATE ${I_NONE})
		return()
	endif()
	set(cuda ${CMAKE_SOURCE_DIR}/kernels/cuda)
	set(out ${CMAKE_CURRENT_BINARY_DIR})
	file(GLOB headers CONFIGURE_DEPENDS *.cuh *.h
		${cuda}/*.cuh ${cuda}/device/*.cuh ${cuda}/*.h
		${CMAKE_SOURCE_DIR}/kernels/*.h
		${CMAKE_SOURCE_DIR}/kernels/include/kvd/*.h)
	# What ptxas says of registers and spills is kept: tests/cuda/budget.
	foreach(name ${I_IMAGES})
		add_custom_command(OUTPUT ${out}/${name}.fatbin ${out}/${name}.ptxas
			COMMAND ${CMAKE_COMMAND} -D NVCC=${KVD_NVCC}
				-D ROOT=${CMAKE_SOURCE_DIR}
				-D SOURCE=${CMAKE_CURRENT_SOURCE_DIR}/${name}.cu
				-D OUT=${out}/${name} -P ${cuda}/nvcc.cmake
			DEPENDS ${name}.cu ${headers} ${cuda}/nvcc.cmake
			COMMENT "Compiling CUDA kernels: ${name}.cu" VERBATIM)
		set_property(GLOBAL APPEND PROPERTY KVD_CUDA_BUDGET
			${out}/${name}.ptxas)
		configure_file(${cuda}/image.S.in ${out}/${name}.S @ONLY)
		set_source_files_properties(${out}/${name}.S PROPERTIES
			OBJECT_DEPENDS ${out}/${name}.fatbin)
		target_sources(${target} PRIVATE ${out}/${name}.S)
	endforeach()
endfunction()
