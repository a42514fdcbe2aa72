// SPDX-License-Identifier: Apache-2.0
/*
 * context.c - start, devices, contexts, names of errors.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "tests/fakecuda/fakecuda.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pid_t owner; /* that called cuInit() */
static int nr_devices;
static struct CUctx_st contexts[FAKE_MAX_DEVICES];
static __thread struct CUctx_st *current;

struct fake_live fake_live;

uint64_t fake_env(const char *name, uint64_t otherwise)
{
	const char *value = getenv(name);

	return value ? strtoull(value, NULL, 10) : otherwise;
}

cu_result fake_enter(const char *call)
{
	cu_result err;

	if (owner != getpid())
		return CU_NOT_INITIALIZED;
	pthread_mutex_lock(&lock);
	err = fault_lost();
	if (!err && call)
		err = fault_next(call);
	if (err)
		pthread_mutex_unlock(&lock);
	return err;
}

cu_result fake_leave(cu_result err)
{
	pthread_mutex_unlock(&lock);
	return err;
}

cu_result fake_enter_context(const char *call, struct CUctx_st **ret)
{
	cu_result err = fake_enter(call);

	if (err)
		return err;
	if (!current || !current->retained)
		return fake_leave(CU_INVALID_CONTEXT);
	err = current->crashed;
	if (!err && call)
		err = capture_check(call);
	if (err)
		return fake_leave(err);
	*ret = current;
	return CU_OK;
}

int fake_nr_devices(void)
{
	return nr_devices;
}

unsigned fakecuda_live(void)
{
	const struct fake_live *l = &fake_live;

	return l->allocations + l->pinned + l->mems + l->reservations +
	       l->mappings + l->imports + l->streams + l->events + l->graphs +
	       l->modules + l->contexts;
}

cu_result cuInit(unsigned flags)
{
	cu_result err;

	if (flags)
		return CU_INVALID_VALUE;
	pthread_mutex_lock(&lock);
	err = fault_lost();
	if (!err)
		err = fault_next("cuInit");
	if (err || owner == getpid())
		goto out;
	if (owner) { /* a fork of a process that has CUDA */
		err = CU_NOT_INITIALIZED;
		goto out;
	}
	nr_devices = (int)fake_env("FAKECUDA_DEVICES", 1);
	if (nr_devices > FAKE_MAX_DEVICES)
		nr_devices = FAKE_MAX_DEVICES;
	if (!nr_devices) {
		err = CU_NO_DEVICE;
		goto out;
	}
	owner = getpid();
out:
	pthread_mutex_unlock(&lock);
	return err;
}

cu_result cuDriverGetVersion(int *version)
{
	*version = 13000;
	return CU_OK;
}

static const struct {
	cu_result err;
	const char *name, *text;
} errors[] = {
	{ CU_OK, "CUDA_SUCCESS", "no error" },
	{ CU_INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE", "invalid argument" },
	{ CU_OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory" },
	{ CU_NOT_INITIALIZED, "CUDA_ERROR_NOT_INITIALIZED",
	  "initialization error" },
	{ CU_NO_DEVICE, "CUDA_ERROR_NO_DEVICE",
	  "no CUDA-capable device is detected" },
	{ CU_INVALID_DEVICE, "CUDA_ERROR_INVALID_DEVICE",
	  "invalid device ordinal" },
	{ CU_INVALID_CONTEXT, "CUDA_ERROR_INVALID_CONTEXT",
	  "invalid device context" },
	{ CU_INVALID_HANDLE, "CUDA_ERROR_INVALID_HANDLE",
	  "invalid resource handle" },
	{ CU_NOT_FOUND, "CUDA_ERROR_NOT_FOUND", "named symbol not found" },
	{ CU_NOT_READY, "CUDA_ERROR_NOT_READY", "device not ready" },
	{ CU_DEVICE_UNAVAILABLE, "CUDA_ERROR_DEVICE_UNAVAILABLE",
	  "CUDA-capable device(s) is/are busy or unavailable" },
	{ CU_ILLEGAL_ADDRESS, "CUDA_ERROR_ILLEGAL_ADDRESS",
	  "an illegal memory access was encountered" },
	{ CU_LAUNCH_FAILED, "CUDA_ERROR_LAUNCH_FAILED",
	  "unspecified launch failure" },
	{ CU_CAPTURE_UNSUPPORTED, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED",
	  "operation not permitted when stream is capturing" },
	{ CU_CAPTURE_INVALIDATED, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED",
	  "operation failed due to a previous error during capture" },
	{ CU_NOT_SUPPORTED, "CUDA_ERROR_NOT_SUPPORTED",
	  "operation not supported" },
};

cu_result cuGetErrorName(cu_result err, const char **name)
{
	for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++)
		if (errors[i].err == err) {
			*name = errors[i].name;
			return CU_OK;
		}
	return CU_INVALID_VALUE;
}

cu_result cuGetErrorString(cu_result err, const char **text)
{
	for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++)
		if (errors[i].err == err) {
			*text = errors[i].text;
			return CU_OK;
		}
	return CU_INVALID_VALUE;
}

cu_result cuDeviceGetCount(int *count)
{
	cu_result err = fake_enter("cuDeviceGetCount");

	if (err)
		return err;
	*count = nr_devices;
	return fake_leave(CU_OK);
}

cu_result cuDeviceGet(cu_device *dev, int ordinal)
{
	cu_result err = fake_enter("cuDeviceGet");

	if (err)
		return err;
	if (ordinal < 0 || ordinal >= nr_devices)
		return fake_leave(CU_INVALID_DEVICE);
	*dev = ordinal;
	return fake_leave(CU_OK);
}

cu_result cuDeviceGetName(char *name, int bytes, cu_device dev)
{
	cu_result err = fake_enter("cuDeviceGetName");

	if (err)
		return err;
	if (dev < 0 || dev >= nr_devices)
		return fake_leave(CU_INVALID_DEVICE);
	snprintf(name, (size_t)bytes, "fakecuda %d", dev);
	return fake_leave(CU_OK);
}

bool fake_sm80(void)
{
	return fake_env("FAKECUDA_SM", 90) == 80;
}

int fake_max_shared(void)
{
	return (fake_sm80() ? 163 : 227) << 10;
}

static cu_result attribute(int *value, int attr)
{
	switch (attr) {
	case CU_ATTR_MULTIPROCESSORS:
		*value = 4;
		return CU_OK;
	case CU_ATTR_CC_MAJOR:
		*value = fake_sm80() ? 8 : 9;
		return CU_OK;
	case CU_ATTR_CC_MINOR:
		*value = 0;
		return CU_OK;
	case CU_ATTR_MAX_SHARED:
		*value = fake_max_shared();
		return CU_OK;
	case CU_ATTR_VMM:
	case CU_ATTR_POSIX_FD:
		*value = (int)fake_env("FAKECUDA_VMM", 1);
		return CU_OK;
	case CU_ATTR_MPS:
		*value = (int)fake_env("FAKECUDA_MPS", 0);
		return CU_OK;
	default:
		return CU_INVALID_VALUE;
	}
}

cu_result cuDeviceGetAttribute(int *value, int attr, cu_device dev)
{
	cu_result err = fake_enter("cuDeviceGetAttribute");

	if (err)
		return err;
	if (dev < 0 || dev >= nr_devices)
		return fake_leave(CU_INVALID_DEVICE);
	return fake_leave(attribute(value, attr));
}

cu_result cuDevicePrimaryCtxRetain(cu_context *ctx, cu_device dev)
{
	cu_result err = fake_enter("cuDevicePrimaryCtxRetain");
	struct CUctx_st *c;

	if (err)
		return err;
	if (dev < 0 || dev >= nr_devices)
		return fake_leave(CU_INVALID_DEVICE);
	c = &contexts[dev];
	if (!c->retained++) {
		c->device = dev;
		c->legacy = stream_new(c, false);
		fake_live.contexts++;
	}
	*ctx = c;
	return fake_leave(CU_OK);
}

cu_result cuDevicePrimaryCtxRelease_v2(cu_device dev)
{
	cu_result err = fake_enter("cuDevicePrimaryCtxRelease");
	struct CUctx_st *c;

	if (err)
		return err;
	if (dev < 0 || dev >= nr_devices)
		return fake_leave(CU_INVALID_DEVICE);
	c = &contexts[dev];
	if (!c->retained)
		return fake_leave(CU_INVALID_CONTEXT);
	if (c->retained == 1) {
		stream_drain_all();
		stream_free(c->legacy);
		c->legacy = NULL;
		fake_live.contexts--;
	}
	c->retained--;
	return fake_leave(CU_OK);
}

cu_result cuCtxSetCurrent(cu_context ctx)
{
	cu_result err = fake_enter("cuCtxSetCurrent");

	if (err)
		return err;
	if (ctx && !ctx->retained)
		return fake_leave(CU_INVALID_CONTEXT);
	current = ctx;
	return fake_leave(CU_OK);
}

cu_result cuCtxGetCurrent(cu_context *ctx)
{
	cu_result err = fake_enter("cuCtxGetCurrent");

	if (err)
		return err;
	*ctx = current;
	return fake_leave(CU_OK);
}

cu_result cuCtxGetDevice(cu_device *dev)
{
	struct CUctx_st *ctx;
	cu_result err = fake_enter_context("cuCtxGetDevice", &ctx);

	if (err)
		return err;
	*dev = ctx->device;
	return fake_leave(CU_OK);
}

cu_result cuCtxGetStreamPriorityRange(int *least, int *greatest)
{
	struct CUctx_st *ctx;
	cu_result err =
		fake_enter_context("cuCtxGetStreamPriorityRange", &ctx);

	if (err)
		return err;
	*least = 0;
	*greatest = -5;
	return fake_leave(CU_OK);
}
