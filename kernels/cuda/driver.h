/* SPDX-License-Identifier: Apache-2.0 */
/*
 * driver.h - the one table of libcuda entry points.
 *
 * CUDA is reached through the driver alone, from a libcuda.so.1 opened at run
 * time, so that one binary runs with and without a driver and a build needs no
 * CUDA toolkit. Types, values and struct layouts below are our own minimal
 * declarations of the driver's ABI; tests/cuda/abi.c compares them with
 * <cuda.h> where that is installed. The library is looked up by its name only:
 * no variable of ours can put another one in its place.
 *
 * Any thread may call anything here.
 */
#ifndef KERNELS_CUDA_DRIVER_H
#define KERNELS_CUDA_DRIVER_H

#include <stddef.h>

typedef int cu_result;
typedef int cu_device;
typedef unsigned long long cu_ptr; /* address in device memory */
typedef unsigned long long cu_mem; /* physical allocation (cuMemCreate) */
typedef struct CUctx_st *cu_context;
typedef struct CUstream_st *cu_stream;
typedef struct CUevent_st *cu_event;
typedef struct CUmod_st *cu_module;
typedef struct CUfunc_st *cu_function;
typedef struct CUgraph_st *cu_graph;
typedef struct CUgraphExec_st *cu_graph_exec;

/* What calls return; those that somebody here tells apart. */
enum {
	CU_OK = 0,
	CU_INVALID_VALUE = 1,
	CU_OUT_OF_MEMORY = 2,
	CU_NOT_INITIALIZED = 3,
	CU_DEINITIALIZED = 4,
	CU_STUB_LIBRARY = 34,
	CU_DEVICE_UNAVAILABLE = 46,
	CU_NO_DEVICE = 100,
	CU_INVALID_DEVICE = 101,
	CU_INVALID_IMAGE = 200,
	CU_INVALID_CONTEXT = 201,
	CU_ALREADY_MAPPED = 208,
	CU_NO_BINARY_FOR_GPU = 209,
	CU_INVALID_PTX = 218,
	CU_UNSUPPORTED_PTX = 222,
	CU_INVALID_HANDLE = 400,
	CU_ILLEGAL_STATE = 401,
	CU_NOT_FOUND = 500,
	CU_NOT_READY = 600,
	CU_ILLEGAL_ADDRESS = 700,
	CU_LAUNCH_FAILED = 719,
	CU_NOT_PERMITTED = 800,
	CU_NOT_SUPPORTED = 801,
	CU_DRIVER_MISMATCH = 803,
	CU_COMPAT_NOT_SUPPORTED = 804,
	CU_CAPTURE_UNSUPPORTED = 900,
	CU_CAPTURE_INVALIDATED = 901,
	CU_CAPTURE_ISOLATION = 905,
	CU_CAPTURE_IMPLICIT = 906,
	CU_CAPTURED_EVENT = 907,
	CU_CAPTURE_WRONG_THREAD = 908
};

/* Device attributes. */
enum {
	CU_ATTR_MULTIPROCESSORS = 16,
	CU_ATTR_CC_MAJOR = 75,
	CU_ATTR_CC_MINOR = 76,
	CU_ATTR_MAX_SHARED = 97,	/* of a block that asked for it */
	CU_ATTR_VMM = 102,
	CU_ATTR_POSIX_FD = 103,
	CU_ATTR_MPS = 133
};

/* Flags and kinds. */
enum {
	CU_STREAM_OWN_ORDER = 1,	/* CU_STREAM_NON_BLOCKING */
	CU_EVENT_NO_TIMING = 2,		/* CU_EVENT_DISABLE_TIMING */
	CU_IPC_LAZY_PEER = 1,
	CU_ALLOCATION_PINNED = 1,
	CU_HANDLE_POSIX_FD = 1,
	CU_LOCATION_DEVICE = 1,
	CU_ACCESS_READ = 1,
	CU_ACCESS_READWRITE = 3,
	CU_GRANULARITY_MINIMUM = 0,
	CU_FUNCTION_MAX_SHARED = 8,	/* ..MAX_DYNAMIC_SHARED_SIZE_BYTES */
	CU_CAPTURE_NONE = 0,
	CU_CAPTURE_ACTIVE = 1,
	CU_CAPTURE_BROKEN = 2,		/* ..STATUS_INVALIDATED */
	CU_CAPTURE_GLOBAL = 0,
	CU_CAPTURE_THREAD_LOCAL = 1,
	CU_CAPTURE_RELAXED = 2
};

/* CUmemLocation */
struct cu_location {
	int type;
	int id;
};

/* CUmemAllocationProp */
struct cu_allocation_prop {
	int type;
	int handle_types;
	struct cu_location location;
	void *win32_metadata;
	struct {
		unsigned char compression;
		unsigned char gpu_direct_rdma;
		unsigned short usage;
		unsigned char reserved[4];
	} flags;
};

/* CUmemAccessDesc */
struct cu_access {
	struct cu_location location;
	int flags;
};

/* CUipcMemHandle */
struct cu_ipc_handle {
	char reserved[64];
};

/*
 * X(call, symbol, (parameters)): symbol is the version of the call's ABI that
 * the parameters are of.
 */
#define CUDA_DRIVER_CALLS(X)                                                   \
	X(cuInit, cuInit, (unsigned flags))                                    \
	X(cuDriverGetVersion, cuDriverGetVersion, (int *version))              \
	X(cuGetErrorName, cuGetErrorName, (cu_result err, const char **name))  \
	X(cuGetErrorString, cuGetErrorString,                                  \
	  (cu_result err, const char **text))                                  \
	X(cuDeviceGetCount, cuDeviceGetCount, (int *count))                    \
	X(cuDeviceGet, cuDeviceGet, (cu_device *dev, int ordinal))             \
	X(cuDeviceGetName, cuDeviceGetName,                                    \
	  (char *name, int bytes, cu_device dev))                              \
	X(cuDeviceGetAttribute, cuDeviceGetAttribute,                          \
	  (int *value, int attr, cu_device dev))                               \
	X(cuDevicePrimaryCtxRetain, cuDevicePrimaryCtxRetain,                  \
	  (cu_context *ctx, cu_device dev))                                    \
	X(cuDevicePrimaryCtxRelease, cuDevicePrimaryCtxRelease_v2,             \
	  (cu_device dev))                                                     \
	X(cuCtxSetCurrent, cuCtxSetCurrent, (cu_context ctx))                  \
	X(cuCtxGetCurrent, cuCtxGetCurrent, (cu_context *ctx))                 \
	X(cuCtxGetDevice, cuCtxGetDevice, (cu_device *dev))                    \
	X(cuCtxGetStreamPriorityRange, cuCtxGetStreamPriorityRange,            \
	  (int *least, int *greatest))                                         \
	X(cuStreamCreateWithPriority, cuStreamCreateWithPriority,              \
	  (cu_stream *stream, unsigned flags, int priority))                   \
	X(cuStreamDestroy, cuStreamDestroy_v2, (cu_stream stream))             \
	X(cuStreamSynchronize, cuStreamSynchronize, (cu_stream stream))        \
	X(cuStreamWaitEvent, cuStreamWaitEvent,                                \
	  (cu_stream stream, cu_event event, unsigned flags))                  \
	X(cuStreamIsCapturing, cuStreamIsCapturing,                            \
	  (cu_stream stream, int *status))                                     \
	X(cuStreamBeginCapture, cuStreamBeginCapture_v2,                       \
	  (cu_stream stream, int mode))                                        \
	X(cuStreamEndCapture, cuStreamEndCapture,                              \
	  (cu_stream stream, cu_graph *graph))                                 \
	X(cuGraphInstantiateWithFlags, cuGraphInstantiateWithFlags,            \
	  (cu_graph_exec *exec, cu_graph graph, unsigned long long flags))     \
	X(cuGraphLaunch, cuGraphLaunch,                                        \
	  (cu_graph_exec exec, cu_stream stream))                              \
	X(cuGraphExecDestroy, cuGraphExecDestroy, (cu_graph_exec exec))        \
	X(cuGraphDestroy, cuGraphDestroy, (cu_graph graph))                    \
	X(cuEventCreate, cuEventCreate, (cu_event *event, unsigned flags))     \
	X(cuEventDestroy, cuEventDestroy_v2, (cu_event event))                 \
	X(cuEventRecord, cuEventRecord, (cu_event event, cu_stream stream))    \
	X(cuEventQuery, cuEventQuery, (cu_event event))                        \
	X(cuEventSynchronize, cuEventSynchronize, (cu_event event))            \
	X(cuEventElapsedTime, cuEventElapsedTime,                              \
	  (float *ms, cu_event start, cu_event end))                           \
	X(cuMemGetInfo, cuMemGetInfo_v2, (size_t *free, size_t *total))        \
	X(cuMemAlloc, cuMemAlloc_v2, (cu_ptr *ptr, size_t bytes))              \
	X(cuMemFree, cuMemFree_v2, (cu_ptr ptr))                               \
	X(cuMemHostAlloc, cuMemHostAlloc,                                      \
	  (void **ptr, size_t bytes, unsigned flags))                          \
	X(cuMemFreeHost, cuMemFreeHost, (void *ptr))                           \
	X(cuMemcpyHtoDAsync, cuMemcpyHtoDAsync_v2,                             \
	  (cu_ptr dst, const void *src, size_t bytes, cu_stream stream))       \
	X(cuMemcpyDtoHAsync, cuMemcpyDtoHAsync_v2,                             \
	  (void *dst, cu_ptr src, size_t bytes, cu_stream stream))             \
	X(cuMemcpyDtoDAsync, cuMemcpyDtoDAsync_v2,                             \
	  (cu_ptr dst, cu_ptr src, size_t bytes, cu_stream stream))            \
	X(cuMemsetD8Async, cuMemsetD8Async,                                    \
	  (cu_ptr dst, unsigned char value, size_t bytes, cu_stream stream))   \
	X(cuMemGetAllocationGranularity, cuMemGetAllocationGranularity,        \
	  (size_t *bytes, const struct cu_allocation_prop *prop, int option))  \
	X(cuMemCreate, cuMemCreate,                                            \
	  (cu_mem *mem, size_t bytes, const struct cu_allocation_prop *prop,   \
	   unsigned long long flags))                                          \
	X(cuMemRelease, cuMemRelease, (cu_mem mem))                            \
	X(cuMemExportToShareableHandle, cuMemExportToShareableHandle,          \
	  (void *handle, cu_mem mem, int type, unsigned long long flags))      \
	X(cuMemImportFromShareableHandle, cuMemImportFromShareableHandle,      \
	  (cu_mem *mem, void *handle, int type))                               \
	X(cuMemAddressReserve, cuMemAddressReserve,                            \
	  (cu_ptr *ptr, size_t bytes, size_t align, cu_ptr hint,               \
	   unsigned long long flags))                                          \
	X(cuMemAddressFree, cuMemAddressFree, (cu_ptr ptr, size_t bytes))      \
	X(cuMemMap, cuMemMap,                                                  \
	  (cu_ptr ptr, size_t bytes, size_t offset, cu_mem mem,                \
	   unsigned long long flags))                                          \
	X(cuMemUnmap, cuMemUnmap, (cu_ptr ptr, size_t bytes))                  \
	X(cuMemSetAccess, cuMemSetAccess,                                      \
	  (cu_ptr ptr, size_t bytes, const struct cu_access *desc,             \
	   size_t count))                                                      \
	X(cuIpcGetMemHandle, cuIpcGetMemHandle,                                \
	  (struct cu_ipc_handle * handle, cu_ptr ptr))                         \
	X(cuIpcOpenMemHandle, cuIpcOpenMemHandle_v2,                           \
	  (cu_ptr * ptr, struct cu_ipc_handle handle, unsigned flags))         \
	X(cuIpcCloseMemHandle, cuIpcCloseMemHandle, (cu_ptr ptr))              \
	X(cuModuleLoadData, cuModuleLoadData,                                  \
	  (cu_module *module, const void *image))                              \
	X(cuModuleUnload, cuModuleUnload, (cu_module module))                  \
	X(cuModuleGetFunction, cuModuleGetFunction,                            \
	  (cu_function *function, cu_module module, const char *name))         \
	X(cuFuncSetAttribute, cuFuncSetAttribute,                              \
	  (cu_function function, int attr, int value))                         \
	X(cuLaunchKernel, cuLaunchKernel,                                      \
	  (cu_function function, unsigned grid_x, unsigned grid_y,             \
	   unsigned grid_z, unsigned block_x, unsigned block_y,                \
	   unsigned block_z, unsigned shared_bytes, cu_stream stream,          \
	   void **params, void **extra))

struct cuda_driver {
#define CUDA_DRIVER_FIELD(call, symbol, params) cu_result(*call) params;
	CUDA_DRIVER_CALLS(CUDA_DRIVER_FIELD)
#undef CUDA_DRIVER_FIELD
};

/**
 * cuda_driver() - the driver of this machine
 * @why:	one line on why there is none; untouched when there is
 * @why_bytes:	size of @why
 *
 * Opens the library once per process and never closes it. Initialises nothing:
 * cuInit() is the caller's.
 *
 * Return: the table, every entry set, or NULL.
 */
const struct cuda_driver *cuda_driver(char *why, size_t why_bytes);

/**
 * cu_errno() - a driver's result as 0 or a negative errno value
 *
 * -EIO is whatever has no better name: a fault on the device, for one.
 */
int cu_errno(cu_result err);

/**
 * cu_text() - "cuMemCreate: CUDA_ERROR_OUT_OF_MEMORY (2, out of memory)"
 * @cu:		the driver that returned @err
 * @call:	name of the call that returned it
 * @err:	its result
 * @buf:	filled with one line
 * @bytes:	size of @buf
 */
void cu_text(const struct cuda_driver *cu, const char *call, cu_result err,
	     char *buf, size_t bytes);

#endif
