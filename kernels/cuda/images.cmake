# SPDX-License-Identifier: Apache-2.0
# images.cmake - compiles .cu files of a folder and embeds them (image.h).

# kvd_cuda_images(TARGET HEADER h LIST X TABLE t NONE file... IMAGES name...)
# Each name.cu of this folder becomes an image of its own; TABLE is the array
# of their addresses in the order of the list X of HEADER, which must be that
# of IMAGES. Without nvcc the sources NONE are compiled instead. The folder
# says enable_language(ASM) before.
function(kvd_cuda_images target)
	cmake_parse_arguments(I "" "HEADER;LIST;TABLE" "NONE;IMAGES" ${ARGN})
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
		list(APPEND fatbins ${out}/${name}.fatbin)
		set_property(GLOBAL APPEND PROPERTY KVD_CUDA_BUDGET
			${out}/${name}.ptxas)
	endforeach()
	set_source_files_properties(${cuda}/image.S PROPERTIES
		COMPILE_DEFINITIONS "KV_IMAGE_HEADER=\"${I_HEADER}\";KV_IMAGE_LIST=${I_LIST};KV_IMAGE_TABLE=${I_TABLE}"
		COMPILE_OPTIONS "-Wa,-I,${out}"
		OBJECT_DEPENDS "${fatbins}")
	target_sources(${target} PRIVATE ${cuda}/image.S)
endfunction()
