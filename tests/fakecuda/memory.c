// SPDX-License-Identifier: Apache-2.0
/*
 * memory.c - plain device memory, page-locked host memory, and IPC handles.
 *
 * Every allocation is a memfd with an inaccessible page on either side. An IPC
 * handle names a descriptor of the exporter, to be opened through its /proc
 * entry: so it dies with the exporter, or with the allocation, and what has
 * been mapped through it lives on.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "tests/fakecuda/fakecuda.h"

#define GUARD 4096ul
#define IPC_MAGIC 0x31435049454b4146ull /* "FAKEIPC1" */

struct ipc {
	uint64_t magic;
	uint64_t identity;
	uint64_t bytes;
	int32_t pid;
	int32_t fd;
};
_Static_assert(sizeof(struct ipc) <= sizeof(struct cu_ipc_handle), "handle");

struct pinned {
	struct pinned *next;
	char *ptr;
	size_t bytes;
};

struct range *ranges;
static struct pinned *pinned;
static uint64_t charged[FAKE_MAX_DEVICES];

struct range *range_add(cu_ptr ptr, size_t bytes, enum range_kind kind)
{
	struct range *r = calloc(1, sizeof(*r));

	if (!r)
		return NULL;
	r->ptr = ptr;
	r->bytes = bytes;
	r->kind = kind;
	r->fd = -1;
	r->next = ranges;
	ranges = r;
	return r;
}

void range_del(struct range *r)
{
	struct range **p = &ranges;

	while (*p != r)
		p = &(*p)->next;
	*p = r->next;
	free(r);
}

struct range *range_find(cu_ptr ptr, size_t bytes)
{
	for (struct range *r = ranges; r; r = r->next)
		if (ptr >= r->ptr && bytes <= r->bytes &&
		    ptr - r->ptr <= r->bytes - bytes)
			return r;
	return NULL;
}

static uint64_t device_bytes(void)
{
	return fake_env("FAKECUDA_MEMORY", 4ull << 30);
}

cu_result cuMemGetInfo_v2(size_t *free, size_t *total)
{
	struct CUctx_st *ctx;
	cu_result err = fake_enter_context("cuMemGetInfo", &ctx);

	if (err)
		return err;
	*total = device_bytes();
	*free = *total - charged[ctx->device];
	return fake_leave(CU_OK);
}

bool memory_charge(int device, size_t bytes)
{
	if (charged[device] + bytes > device_bytes())
		return false;
	charged[device] += bytes;
	return true;
}

void memory_uncharge(int device, size_t bytes)
{
	charged[device] -= bytes;
}

int memory_fd(const char *name, size_t bytes)
{
	int fd = memfd_create(name, MFD_CLOEXEC);
	void *map;

	if (fd < 0)
		return -1;
	if (ftruncate(fd, (off_t)bytes))
		goto close;
	map = mmap(NULL, bytes, PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		goto close;
	memset(map, SIMT_DIRT, bytes);
	munmap(map, bytes);
	return fd;
close:
	close(fd);
	return -1;
}

static size_t rounded(size_t bytes)
{
	return (bytes + GUARD - 1) & ~(GUARD - 1);
}

/* @fd at an address of its own between two guards. 0: no room. */
static cu_ptr guarded_map(int fd, size_t bytes)
{
	char *p = mmap(NULL, bytes + 2 * GUARD, PROT_NONE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		return 0;
	if (mmap(p + GUARD, bytes, PROT_READ | PROT_WRITE,
		 MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED) {
		munmap(p, bytes + 2 * GUARD);
		return 0;
	}
	return (uintptr_t)(p + GUARD);
}

static void guarded_unmap(cu_ptr ptr, size_t bytes)
{
	munmap((char *)(uintptr_t)ptr - GUARD, bytes + 2 * GUARD);
}

static cu_result allocate(int device, size_t bytes, cu_ptr *ptr)
{
	struct range *r;
	size_t size = rounded(bytes);
	int fd;

	if (!bytes)
		return CU_INVALID_VALUE;
	if (!memory_charge(device, size))
		return CU_OUT_OF_MEMORY;
	fd = memory_fd("fakecuda-alloc", size);
	if (fd < 0)
		goto uncharge;
	*ptr = guarded_map(fd, size);
	if (!*ptr)
		goto close;
	r = range_add(*ptr, size, RANGE_ALLOCATION);
	if (!r)
		goto unmap;
	r->fd = fd;
	r->device = device;
	r->access = CU_ACCESS_READWRITE;
	fake_live.allocations++;
	return CU_OK;
unmap:
	guarded_unmap(*ptr, size);
close:
	close(fd);
uncharge:
	memory_uncharge(device, size);
	return CU_OUT_OF_MEMORY;
}

cu_result cuMemAlloc_v2(cu_ptr *ptr, size_t bytes)
{
	struct CUctx_st *ctx;
	cu_result err = fake_enter_context("cuMemAlloc", &ctx);

	if (err)
		return err;
	return fake_leave(allocate(ctx->device, bytes, ptr));
}

cu_result cuMemFree_v2(cu_ptr ptr)
{
	struct CUctx_st *ctx;
	cu_result err = fake_enter_context("cuMemFree", &ctx);
	struct range *r;

	if (err)
		return err;
	r = range_find(ptr, 1);
	if (!r || r->ptr != ptr || r->kind != RANGE_ALLOCATION)
		return fake_leave(CU_INVALID_VALUE);
	stream_drain_all(); /* as the driver does */
	guarded_unmap(r->ptr, r->bytes);
	close(r->fd);
	memory_uncharge(r->device, r->bytes);
	range_del(r);
	fake_live.allocations--;
	return fake_leave(CU_OK);
}

bool memory_pinned(const void *ptr, size_t bytes)
{
	const char *p = ptr;

	for (struct pinned *h = pinned; h; h = h->next)
		if (p >= h->ptr && p + bytes <= h->ptr + h->bytes)
			return true;
	return false;
}

cu_result cuMemHostAlloc(void **ptr, size_t bytes, unsigned flags)
{
	struct CUctx_st *ctx;
	cu_result err = fake_enter_context("cuMemHostAlloc", &ctx);
	struct pinned *h;

	if (err)
		return err;
	if (!bytes || flags)
		return fake_leave(CU_INVALID_VALUE);
	h = malloc(sizeof(*h));
	if (!h)
		return fake_leave(CU_OUT_OF_MEMORY);
	h->ptr = aligned_alloc(GUARD, rounded(bytes));
	if (!h->ptr) {
		free(h);
		return fake_leave(CU_OUT_OF_MEMORY);
	}
	memset(h->ptr, SIMT_DIRT, bytes);
	h->bytes = bytes;
	h->next = pinned;
	pinned = h;
	fake_live.pinned++;
	*ptr = h->ptr;
	return fake_leave(CU_OK);
}

cu_result cuMemFreeHost(void *ptr)
{
	struct CUctx_st *ctx;
	cu_result err = fake_enter_context("cuMemFreeHost", &ctx);
	struct pinned **p = &pinned;
	struct pinned *h;

	if (err)
		return err;
	while (*p && (*p)->ptr != ptr)
		p = &(*p)->next;
	h = *p;
	if (!h)
		return fake_leave(CU_INVALID_VALUE);
	stream_drain_all();
	*p = h->next;
	free(h->ptr);
	free(h);
	fake_live.pinned--;
	return fake_leave(CU_OK);
}

static uint64_t fd_identity(int fd)
{
	struct stat st;

	return fstat(fd, &st) ? 0 : st.st_ino;
}

cu_result cuIpcGetMemHandle(struct cu_ipc_handle *handle, cu_ptr ptr)
{
	struct CUctx_st *ctx;
	cu_result err = fake_enter_context("cuIpcGetMemHandle", &ctx);
	struct range *r;
	struct ipc ipc;

	if (err)
		return err;
	r = range_find(ptr, 1);
	if (!r || r->kind != RANGE_ALLOCATION || r->ptr != ptr)
		return fake_leave(CU_INVALID_VALUE);
	ipc = (struct ipc){ .magic = IPC_MAGIC,
			    .identity = fd_identity(r->fd),
			    .bytes = r->bytes,
			    .pid = getpid(),
			    .fd = r->fd };
	memset(handle, 0, sizeof(*handle));
	memcpy(handle, &ipc, sizeof(ipc));
	return fake_leave(CU_OK);
}

static struct range *import_find(uint64_t identity)
{
	for (struct range *r = ranges; r; r = r->next)
		if (r->kind == RANGE_IMPORT && r->identity == identity)
			return r;
	return NULL;
}

static cu_result import(const struct ipc *ipc, cu_ptr *ptr)
{
	struct range *r = import_find(ipc->identity);
	char path[64];
	int fd;

	if (r) {
		r->refs++;
		*ptr = r->ptr;
		return CU_OK;
	}
	snprintf(path, sizeof(path), "/proc/%d/fd/%d", ipc->pid, ipc->fd);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return CU_INVALID_HANDLE;
	if (fd_identity(fd) != ipc->identity) {
		close(fd);
		return CU_INVALID_HANDLE;
	}
	*ptr = guarded_map(fd, ipc->bytes);
	close(fd);
	r = *ptr ? range_add(*ptr, ipc->bytes, RANGE_IMPORT) : NULL;
	if (!r)
		return CU_OUT_OF_MEMORY;
	r->refs = 1;
	r->access = CU_ACCESS_READWRITE;
	r->identity = ipc->identity;
	fake_live.imports++;
	return CU_OK;
}

cu_result cuIpcOpenMemHandle_v2(cu_ptr *ptr, struct cu_ipc_handle handle,
				unsigned flags)
{
	struct CUctx_st *ctx;
	cu_result err = fake_enter_context("cuIpcOpenMemHandle", &ctx);
	struct ipc ipc;

	if (err)
		return err;
	memcpy(&ipc, &handle, sizeof(ipc));
	if (flags != CU_IPC_LAZY_PEER || ipc.magic != IPC_MAGIC)
		return fake_leave(CU_INVALID_VALUE);
	if (ipc.pid == getpid())
		return fake_leave(CU_INVALID_CONTEXT);
	return fake_leave(import(&ipc, ptr));
}

cu_result cuIpcCloseMemHandle(cu_ptr ptr)
{
	struct CUctx_st *ctx;
	cu_result err = fake_enter_context("cuIpcCloseMemHandle", &ctx);
	struct range *r;

	if (err)
		return err;
	r = range_find(ptr, 1);
	if (!r || r->kind != RANGE_IMPORT || r->ptr != ptr)
		return fake_leave(CU_INVALID_VALUE);
	if (!--r->refs) {
		guarded_unmap(r->ptr, r->bytes);
		range_del(r);
		fake_live.imports--;
	}
	return fake_leave(CU_OK);
}
