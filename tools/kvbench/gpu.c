/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gpu.c - see gpu.h.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tools/kvbench/gpu.h"

#define ALIGN       ((uint64_t)4 << 10)
#define GRANULE     ((uint64_t)2 << 20)
#define PERCENT     70u /* of free memory, unless said */
#define PATTERN     ((size_t)64 << 10)
#define DOUBLE_NAME "fakecuda"
#define MAX_ORDINAL 255

bool gpu_wanted(int argc, char **argv)
{
	int i;

	for (i = argc - 2; i > 0; i--)
		if (!strcmp(argv[i], "--device"))
			return strcmp(argv[i + 1], "host") != 0;
	return false;
}

int gpu_complain(const struct gpu *g, int err, const char *what)
{
	fprintf(stderr, "kvbench %s: %s: %s\n", g->bench, g->spec, what);
	return err;
}

int gpu_check(const struct gpu *g, const char *call, cu_result err)
{
	char why[256];

	if (!err)
		return 0;
	cu_text(g->cu, call, err, why, sizeof(why));
	return gpu_complain(g, cu_errno(err), why);
}

static int parse(struct gpu *g)
{
	const char *nr;
	char *end;
	long n;

	g->vmm = !strncmp(g->spec, "cuda-vmm:", 9);
	nr = g->spec + 9;
	if (!g->vmm && strncmp(g->spec, "cuda-ipc:", 9))
		nr = "";
	n = strtol(nr, &end, 10);
	if (*nr < '0' || *nr > '9' || *end || n > MAX_ORDINAL)
		return gpu_complain(
			g, -EINVAL,
			"no device: host, cuda-vmm:N or cuda-ipc:N");
	g->ordinal = (int)n;
	return 0;
}

static int find(struct gpu *g)
{
	char why[256] = "";
	int nr = 0, err;

	g->cu = cuda_driver(why, sizeof(why));
	if (!g->cu)
		return gpu_complain(g, -ENODEV, why);
	err = GPU_CALL(g, cuInit, 0);
	if (!err)
		err = GPU_CALL(g, cuDeviceGetCount, &nr);
	if (err)
		return err;
	snprintf(why, sizeof(why), "the driver shows %d GPU%s", nr,
	         nr == 1 ? "" : "s");
	if (g->ordinal >= nr)
		return gpu_complain(g, -ENODEV, why);
	err = GPU_CALL(g, cuDeviceGet, &g->device, g->ordinal);
	if (!err)
		err = GPU_CALL(g, cuDeviceGetName, g->name, sizeof(g->name),
		               g->device);
	g->is_double = !strncmp(g->name, DOUBLE_NAME, strlen(DOUBLE_NAME));
	if (g->is_double)
		strcpy(g->name, "double");
	return err;
}

static int context(struct gpu *g)
{
	cu_context ctx;
	char why[256] = "";
	int err = GPU_CALL(g, cuDevicePrimaryCtxRetain, &ctx, g->device);

	if (err)
		return err;
	g->has_ctx = true;
	err = GPU_CALL(g, cuCtxSetCurrent, ctx);
	if (!err)
		err = GPU_CALL(g, cuStreamCreateWithPriority, &g->stream,
		               CU_STREAM_OWN_ORDER, 0);
	if (!err)
		err = GPU_CALL(g, cuEventCreate, &g->start, 0);
	if (!err)
		err = GPU_CALL(g, cuEventCreate, &g->end, 0);
	if (err)
		return err;
	err = kv_cuda_new(g->cu, &g->kernels, why, sizeof(why));
	return err ? gpu_complain(g, err, why) : 0;
}

static int vmm_able(struct gpu *g)
{
	int vmm = 0, fd = 0;
	int err =
		GPU_CALL(g, cuDeviceGetAttribute, &vmm, CU_ATTR_VMM, g->device);

	if (!err)
		err = GPU_CALL(g, cuDeviceGetAttribute, &fd, CU_ATTR_POSIX_FD,
		               g->device);
	if (err || (vmm && fd))
		return err;
	return gpu_complain(g, -EOPNOTSUPP,
	                    "the GPU or its driver cannot export memory as a "
	                    "descriptor");
}

/* Physical memory, somewhere to see it, and the right to. */
static int vmm_map(struct gpu *g, cu_mem mem)
{
	const struct cu_access access = {
		.location = { CU_LOCATION_DEVICE, g->ordinal },
		.flags = CU_ACCESS_READWRITE,
	};
	cu_ptr p;
	int err = GPU_CALL(g, cuMemAddressReserve, &p, g->bytes, 0, 0, 0);

	if (err)
		return err;
	err = GPU_CALL(g, cuMemMap, p, g->bytes, 0, mem, 0);
	if (err) {
		g->cu->cuMemAddressFree(p, g->bytes);
		return err;
	}
	g->base = p;
	return GPU_CALL(g, cuMemSetAccess, p, g->bytes, &access, 1);
}

static int vmm_alloc(struct gpu *g)
{
	const struct cu_allocation_prop prop = {
		.type = CU_ALLOCATION_PINNED,
		.handle_types = CU_HANDLE_POSIX_FD,
		.location = { CU_LOCATION_DEVICE, g->ordinal },
	};
	cu_mem mem;
	int err = vmm_able(g);

	if (!err)
		err = GPU_CALL(g, cuMemCreate, &mem, g->bytes, &prop, 0);
	if (err)
		return err;
	err = vmm_map(g, mem);
	g->cu->cuMemRelease(mem);
	return err;
}

static int memory(struct gpu *g, unsigned mib)
{
	size_t free_bytes = 0, total = 0;
	int err = GPU_CALL(g, cuMemGetInfo, &free_bytes, &total);

	if (err)
		return err;
	g->bytes = mib ? (uint64_t)mib << 20 : free_bytes / 100 * PERCENT;
	g->bytes = g->bytes / GRANULE * GRANULE;
	if (!g->bytes || g->bytes > free_bytes) {
		fprintf(stderr,
		        "kvbench %s: %s: too little memory: %zu MiB are free\n",
		        g->bench, g->spec, free_bytes >> 20);
		return -ENOMEM;
	}
	return g->vmm ? vmm_alloc(g)
	              : GPU_CALL(g, cuMemAlloc, &g->base, g->bytes);
}

int gpu_open(struct gpu *g, const char *bench, const char *spec, unsigned mib)
{
	int err;

	*g = (struct gpu){ .bench = bench, .spec = spec };
	err = parse(g);
	if (!err)
		err = find(g);
	if (!err)
		err = context(g);
	return err ? err : memory(g, mib);
}

static void memory_free(struct gpu *g)
{
	if (!g->base)
		return;
	if (!g->vmm) {
		g->cu->cuMemFree(g->base);
		return;
	}
	g->cu->cuMemUnmap(g->base, g->bytes);
	g->cu->cuMemAddressFree(g->base, g->bytes);
}

void gpu_close(struct gpu *g)
{
	if (!g->has_ctx)
		return;
	if (g->stream)
		g->cu->cuStreamSynchronize(g->stream);
	memory_free(g);
	kv_cuda_free(g->kernels);
	if (g->end)
		g->cu->cuEventDestroy(g->end);
	if (g->start)
		g->cu->cuEventDestroy(g->start);
	if (g->stream)
		g->cu->cuStreamDestroy(g->stream);
	g->cu->cuDevicePrimaryCtxRelease(g->device);
	g->has_ctx = false;
}

cu_ptr gpu_take(struct gpu *g, uint64_t bytes)
{
	cu_ptr p = g->base + g->used;

	g->used += (bytes + ALIGN - 1) / ALIGN * ALIGN;
	return p;
}

bool gpu_lacks(const struct gpu *g)
{
	return g->used > g->bytes;
}

uint64_t gpu_left(const struct gpu *g)
{
	return gpu_lacks(g) ? 0 : g->bytes - g->used;
}

int gpu_put(struct gpu *g, cu_ptr to, const void *from, size_t bytes)
{
	int err = GPU_CALL(g, cuMemcpyHtoDAsync, to, from, bytes, g->stream);

	return err ? err : GPU_CALL(g, cuStreamSynchronize, g->stream);
}

int gpu_get(struct gpu *g, void *to, cu_ptr from, size_t bytes)
{
	int err = GPU_CALL(g, cuMemcpyDtoHAsync, to, from, bytes, g->stream);

	return err ? err : GPU_CALL(g, cuStreamSynchronize, g->stream);
}

int gpu_repeat(struct gpu *g, cu_ptr p, uint64_t of, uint64_t bytes)
{
	int err = 0;

	while (!err && of < bytes) {
		uint64_t more = of < bytes - of ? of : bytes - of;

		err = GPU_CALL(g, cuMemcpyDtoDAsync, p + of, p, more,
		               g->stream);
		of += more;
	}
	return err ? err : GPU_CALL(g, cuStreamSynchronize, g->stream);
}

/* Not all the same: some memory is faster with zeros. */
int gpu_fill(struct gpu *g, cu_ptr p, uint64_t bytes)
{
	size_t of = bytes < PATTERN ? (size_t)bytes : PATTERN, i;
	uint32_t *words = malloc(PATTERN), state = 1;
	int err;

	for (i = 0; words && i < PATTERN / sizeof(*words); i++)
		words[i] = state = state * 1664525u + 1013904223u;
	err = words ? gpu_put(g, p, words, of)
	            : gpu_complain(g, -ENOMEM, strerror(ENOMEM));
	free(words);
	return err ? err : gpu_repeat(g, p, of, bytes);
}
