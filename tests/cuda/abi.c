// SPDX-License-Identifier: Apache-2.0
/*
 * abi.c - our declarations of libcuda's ABI agree with NVIDIA's header.
 *
 * <cuda.h> renames a call to the version of its ABI by a macro: the symbol in
 * our table must be the one the macro gives.
 */
#include <cuda.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include "kernels/cuda/driver.h"

#define SAME_VALUE(ours, theirs)                                               \
	_Static_assert((long long)(ours) == (long long)(theirs), #ours)
#define SAME_SIZE(ours, theirs)                                                \
	_Static_assert(sizeof(ours) == sizeof(theirs), #theirs)
#define SAME_FIELD(ours, our_field, theirs, their_field)                       \
	_Static_assert(offsetof(ours, our_field) ==                            \
				       offsetof(theirs, their_field) &&        \
			       sizeof(((ours *)0)->our_field) ==               \
				       sizeof(((theirs *)0)->their_field),     \
		       #our_field)

SAME_SIZE(cu_result, CUresult);
SAME_SIZE(cu_device, CUdevice);
SAME_SIZE(cu_ptr, CUdeviceptr);
SAME_SIZE(cu_mem, CUmemGenericAllocationHandle);
SAME_SIZE(int, CUmemAllocationHandleType);
SAME_SIZE(int, CUmemAllocationGranularity_flags);
SAME_SIZE(int, CUdevice_attribute);
SAME_SIZE(int, CUstreamCaptureStatus);
SAME_SIZE(int, CUstreamCaptureMode);
SAME_SIZE(int, CUfunction_attribute);
_Static_assert(_Generic((cu_context)0, CUcontext: 1), "context");
_Static_assert(_Generic((cu_stream)0, CUstream: 1), "stream");
_Static_assert(_Generic((cu_event)0, CUevent: 1), "event");
_Static_assert(_Generic((cu_module)0, CUmodule: 1), "module");
_Static_assert(_Generic((cu_function)0, CUfunction: 1), "function");
_Static_assert(_Generic((cu_graph)0, CUgraph: 1), "graph");
_Static_assert(_Generic((cu_graph_exec)0, CUgraphExec: 1), "graph exec");

SAME_VALUE(CU_OK, CUDA_SUCCESS);
SAME_VALUE(CU_INVALID_VALUE, CUDA_ERROR_INVALID_VALUE);
SAME_VALUE(CU_OUT_OF_MEMORY, CUDA_ERROR_OUT_OF_MEMORY);
SAME_VALUE(CU_NOT_INITIALIZED, CUDA_ERROR_NOT_INITIALIZED);
SAME_VALUE(CU_DEINITIALIZED, CUDA_ERROR_DEINITIALIZED);
SAME_VALUE(CU_STUB_LIBRARY, CUDA_ERROR_STUB_LIBRARY);
SAME_VALUE(CU_NO_DEVICE, CUDA_ERROR_NO_DEVICE);
SAME_VALUE(CU_INVALID_DEVICE, CUDA_ERROR_INVALID_DEVICE);
SAME_VALUE(CU_INVALID_IMAGE, CUDA_ERROR_INVALID_IMAGE);
SAME_VALUE(CU_INVALID_CONTEXT, CUDA_ERROR_INVALID_CONTEXT);
SAME_VALUE(CU_ALREADY_MAPPED, CUDA_ERROR_ALREADY_MAPPED);
SAME_VALUE(CU_NO_BINARY_FOR_GPU, CUDA_ERROR_NO_BINARY_FOR_GPU);
SAME_VALUE(CU_INVALID_PTX, CUDA_ERROR_INVALID_PTX);
SAME_VALUE(CU_UNSUPPORTED_PTX, CUDA_ERROR_UNSUPPORTED_PTX_VERSION);
SAME_VALUE(CU_INVALID_HANDLE, CUDA_ERROR_INVALID_HANDLE);
SAME_VALUE(CU_NOT_FOUND, CUDA_ERROR_NOT_FOUND);
SAME_VALUE(CU_NOT_READY, CUDA_ERROR_NOT_READY);
SAME_VALUE(CU_DEVICE_UNAVAILABLE, CUDA_ERROR_DEVICE_UNAVAILABLE);
SAME_VALUE(CU_ILLEGAL_STATE, CUDA_ERROR_ILLEGAL_STATE);
SAME_VALUE(CU_ILLEGAL_ADDRESS, CUDA_ERROR_ILLEGAL_ADDRESS);
SAME_VALUE(CU_LAUNCH_FAILED, CUDA_ERROR_LAUNCH_FAILED);
SAME_VALUE(CU_NOT_PERMITTED, CUDA_ERROR_NOT_PERMITTED);
SAME_VALUE(CU_NOT_SUPPORTED, CUDA_ERROR_NOT_SUPPORTED);
SAME_VALUE(CU_DRIVER_MISMATCH, CUDA_ERROR_SYSTEM_DRIVER_MISMATCH);
SAME_VALUE(CU_COMPAT_NOT_SUPPORTED,
	   CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE);
SAME_VALUE(CU_CAPTURE_UNSUPPORTED, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
SAME_VALUE(CU_CAPTURE_INVALIDATED, CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
SAME_VALUE(CU_CAPTURE_ISOLATION, CUDA_ERROR_STREAM_CAPTURE_ISOLATION);
SAME_VALUE(CU_CAPTURE_IMPLICIT, CUDA_ERROR_STREAM_CAPTURE_IMPLICIT);
SAME_VALUE(CU_CAPTURED_EVENT, CUDA_ERROR_CAPTURED_EVENT);
SAME_VALUE(CU_CAPTURE_WRONG_THREAD, CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD);
SAME_VALUE(CU_ATTR_MULTIPROCESSORS, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT);
SAME_VALUE(CU_ATTR_CC_MAJOR, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR);
SAME_VALUE(CU_ATTR_CC_MINOR, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR);
SAME_VALUE(CU_ATTR_MAX_SHARED,
	   CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN);
SAME_VALUE(CU_ATTR_VMM,
	   CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED);
SAME_VALUE(CU_ATTR_POSIX_FD,
	   CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED);
SAME_VALUE(CU_ATTR_MPS, CU_DEVICE_ATTRIBUTE_MPS_ENABLED);
SAME_VALUE(CU_STREAM_OWN_ORDER, CU_STREAM_NON_BLOCKING);
SAME_VALUE(CU_EVENT_NO_TIMING, CU_EVENT_DISABLE_TIMING);
SAME_VALUE(CU_IPC_LAZY_PEER, CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS);
SAME_VALUE(CU_ALLOCATION_PINNED, CU_MEM_ALLOCATION_TYPE_PINNED);
SAME_VALUE(CU_HANDLE_POSIX_FD, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR);
SAME_VALUE(CU_LOCATION_DEVICE, CU_MEM_LOCATION_TYPE_DEVICE);
SAME_VALUE(CU_ACCESS_READ, CU_MEM_ACCESS_FLAGS_PROT_READ);
SAME_VALUE(CU_ACCESS_READWRITE, CU_MEM_ACCESS_FLAGS_PROT_READWRITE);
SAME_VALUE(CU_GRANULARITY_MINIMUM, CU_MEM_ALLOC_GRANULARITY_MINIMUM);
SAME_VALUE(CU_FUNCTION_MAX_SHARED,
	   CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES);
SAME_VALUE(CU_CAPTURE_NONE, CU_STREAM_CAPTURE_STATUS_NONE);
SAME_VALUE(CU_CAPTURE_ACTIVE, CU_STREAM_CAPTURE_STATUS_ACTIVE);
SAME_VALUE(CU_CAPTURE_BROKEN, CU_STREAM_CAPTURE_STATUS_INVALIDATED);
SAME_VALUE(CU_CAPTURE_GLOBAL, CU_STREAM_CAPTURE_MODE_GLOBAL);
SAME_VALUE(CU_CAPTURE_THREAD_LOCAL, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL);
SAME_VALUE(CU_CAPTURE_RELAXED, CU_STREAM_CAPTURE_MODE_RELAXED);

SAME_SIZE(struct cu_location, CUmemLocation);
SAME_FIELD(struct cu_location, type, CUmemLocation, type);
SAME_FIELD(struct cu_location, id, CUmemLocation, id);
SAME_SIZE(struct cu_allocation_prop, CUmemAllocationProp);
SAME_FIELD(struct cu_allocation_prop, type, CUmemAllocationProp, type);
SAME_FIELD(struct cu_allocation_prop, handle_types, CUmemAllocationProp,
	   requestedHandleTypes);
SAME_FIELD(struct cu_allocation_prop, location, CUmemAllocationProp, location);
SAME_FIELD(struct cu_allocation_prop, win32_metadata, CUmemAllocationProp,
	   win32HandleMetaData);
SAME_FIELD(struct cu_allocation_prop, flags, CUmemAllocationProp, allocFlags);
SAME_SIZE(struct cu_access, CUmemAccessDesc);
SAME_FIELD(struct cu_access, location, CUmemAccessDesc, location);
SAME_FIELD(struct cu_access, flags, CUmemAccessDesc, flags);
SAME_SIZE(struct cu_ipc_handle, CUipcMemHandle);

#define TEXT_OF(x) #x
#define TEXT(x) TEXT_OF(x)

/*
 * The older of two versions that take the same arguments and differ in what
 * errors they tell of: older drivers have no other.
 */
static const char *const older[] = { "cuEventElapsedTime" };

static int check(const char *theirs, const char *ours)
{
	if (strcmp(theirs, ours) == 0)
		return 0;
	for (size_t i = 0; i < sizeof(older) / sizeof(older[0]); i++)
		if (strcmp(older[i], ours) == 0)
			return 0;
	fprintf(stderr, "<cuda.h> has %s, we have %s\n", theirs, ours);
	return 1;
}

int main(void)
{
	int bad = 0;

	/* The first argument is expanded by cuda.h's macros on its way. */
#define CHECK(call, symbol, params) bad += check(TEXT(call), TEXT(symbol));
	CUDA_DRIVER_CALLS(CHECK)
#undef CHECK
	return bad != 0;
}
