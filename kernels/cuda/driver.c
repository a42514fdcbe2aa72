// SPDX-License-Identifier: Apache-2.0
/*
 * driver.c - find libcuda.so.1 and fill the table of its calls.
 */
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include "kernels/cuda/driver.h"

static pthread_once_t driver_once = PTHREAD_ONCE_INIT;
static struct cuda_driver driver;
static bool driver_found;
static char driver_why[256];

/* POSIX lets an object pointer hold a function; C has no cast for it. */
static bool driver_symbol(void *library, const char *symbol, void *ret)
{
	void *p = dlsym(library, symbol);

	if (!p) {
		snprintf(driver_why, sizeof(driver_why),
			 "the NVIDIA driver is too old: libcuda.so.1 has no %s",
			 symbol);
		return false;
	}
	memcpy(ret, &p, sizeof(p));
	return true;
}

static void driver_load(void)
{
	void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);

	if (!library) {
		snprintf(driver_why, sizeof(driver_why),
			 "no NVIDIA driver: %s", dlerror());
		return;
	}
	driver_found = true;
#define LOAD(call, symbol, params)                                             \
	driver_found = driver_found &&                                         \
		       driver_symbol(library, #symbol, &driver.call);
	CUDA_DRIVER_CALLS(LOAD)
#undef LOAD
}

const struct cuda_driver *cuda_driver(char *why, size_t why_bytes)
{
	pthread_once(&driver_once, driver_load);
	if (driver_found)
		return &driver;
	snprintf(why, why_bytes, "%s", driver_why);
	return NULL;
}

static const struct {
	cu_result err;
	int value;
} errnos[] = {
	{ CU_OK, 0 },
	{ CU_INVALID_VALUE, -EINVAL },
	{ CU_OUT_OF_MEMORY, -ENOMEM },
	{ CU_NOT_INITIALIZED, -ENODEV },
	{ CU_DEINITIALIZED, -ENODEV },
	{ CU_STUB_LIBRARY, -ENODEV },
	{ CU_NO_DEVICE, -ENODEV },
	{ CU_INVALID_DEVICE, -ENODEV },
	{ CU_INVALID_IMAGE, -ENOEXEC },
	{ CU_INVALID_CONTEXT, -ENODEV },
	{ CU_ALREADY_MAPPED, -EEXIST },
	{ CU_NO_BINARY_FOR_GPU, -ENOEXEC },
	{ CU_INVALID_PTX, -ENOEXEC },
	{ CU_UNSUPPORTED_PTX, -ENOEXEC },
	{ CU_INVALID_HANDLE, -EBADF },
	{ CU_NOT_FOUND, -ENOENT },
	{ CU_NOT_READY, -EAGAIN },
	{ CU_NOT_PERMITTED, -EPERM },
	{ CU_NOT_SUPPORTED, -EOPNOTSUPP },
	{ CU_DRIVER_MISMATCH, -ENODEV },
	{ CU_COMPAT_NOT_SUPPORTED, -ENODEV },
	{ CU_CAPTURE_UNSUPPORTED, -EBUSY },
	{ CU_CAPTURE_INVALIDATED, -EBUSY },
	{ CU_CAPTURE_IMPLICIT, -EBUSY },
};

int cu_errno(cu_result err)
{
	for (size_t i = 0; i < sizeof(errnos) / sizeof(errnos[0]); i++)
		if (errnos[i].err == err)
			return errnos[i].value;
	return -EIO;
}

void cu_text(const struct cuda_driver *cu, const char *call, cu_result err,
	     char *buf, size_t bytes)
{
	const char *name = NULL;
	const char *text = NULL;

	if (cu->cuGetErrorName(err, &name) || !name)
		name = "unknown error";
	if (cu->cuGetErrorString(err, &text) || !text)
		text = "no text";
	snprintf(buf, bytes, "%s: %s (%d, %s)", call, name, err, text);
}
