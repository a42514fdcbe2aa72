// SPDX-License-Identifier: Apache-2.0
/*
 * vmm.c - virtual memory management: physical memory apart from addresses.
 *
 * A physical allocation is a memfd, its shareable handle another descriptor
 * of it, access is mprotect(). So a read-only mapping faults on a write, and
 * what has been exported outlives the exporter, as with a driver.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "tests/fakecuda/fakecuda.h"

#define VMM_NAME "fakecuda-vmm"

struct mem {
	struct mem *next;
	int fd;
	int device;
	size_t bytes;
	bool exportable;
	bool imported;
};

struct reservation {
	struct reservation *next;
	cu_ptr ptr;
	size_t bytes;
	void *map;
	size_t map_bytes;
};

static struct mem *mems;
static struct reservation *reservations;

static struct mem *mem_find(cu_mem handle)
{
	for (struct mem *m = mems; m; m = m->next)
		if ((uintptr_t)m == handle)
			return m;
	return NULL;
}

static struct mem *mem_add(int fd, size_t bytes)
{
	struct mem *m = calloc(1, sizeof(*m));

	if (!m)
		return NULL;
	m->fd = fd;
	m->bytes = bytes;
	m->next = mems;
	mems = m;
	fake_live.mems++;
	return m;
}

static bool aligned(uint64_t n)
{
	return n && n % FAKE_GRANULE == 0;
}

static bool prop_valid(const struct cu_allocation_prop *p)
{
	return p->type == CU_ALLOCATION_PINNED &&
	       (p->handle_types & ~CU_HANDLE_POSIX_FD) == 0 &&
	       p->location.type == CU_LOCATION_DEVICE && p->location.id >= 0 &&
	       p->location.id < fake_nr_devices() && !p->win32_metadata;
}

cu_result cuMemGetAllocationGranularity(size_t *bytes,
					const struct cu_allocation_prop *prop,
					int option)
{
	cu_result err = fake_enter("cuMemGetAllocationGranularity");

	if (err)
		return err;
	if (!prop_valid(prop) || option != CU_GRANULARITY_MINIMUM)
		return fake_leave(CU_INVALID_VALUE);
	*bytes = FAKE_GRANULE;
	return fake_leave(CU_OK);
}

static cu_result mem_create(cu_mem *mem, size_t bytes,
			    const struct cu_allocation_prop *prop)
{
	int device = prop->location.id;
	struct mem *m;
	int fd;

	if (!memory_charge(device, bytes))
		return CU_OUT_OF_MEMORY;
	fd = memory_fd(VMM_NAME, bytes);
	m = fd < 0 ? NULL : mem_add(fd, bytes);
	if (!m) {
		memory_uncharge(device, bytes);
		return CU_OUT_OF_MEMORY;
	}
	m->device = device;
	m->exportable = prop->handle_types & CU_HANDLE_POSIX_FD;
	*mem = (uintptr_t)m;
	return CU_OK;
}

cu_result cuMemCreate(cu_mem *mem, size_t bytes,
		      const struct cu_allocation_prop *prop,
		      unsigned long long flags)
{
	cu_result err = fake_enter("cuMemCreate");

	if (err)
		return err;
	if (flags || !aligned(bytes) || !prop_valid(prop))
		return fake_leave(CU_INVALID_VALUE);
	if (!fake_env("FAKECUDA_VMM", 1))
		return fake_leave(CU_NOT_SUPPORTED);
	return fake_leave(mem_create(mem, bytes, prop));
}

cu_result cuMemRelease(cu_mem mem)
{
	cu_result err = fake_enter("cuMemRelease");
	struct mem *m;

	if (err)
		return err;
	m = mem_find(mem);
	if (!m)
		return fake_leave(CU_INVALID_VALUE);
	for (struct mem **p = &mems; *p; p = &(*p)->next)
		if (*p == m) {
			*p = m->next;
			break;
		}
	close(m->fd);
	if (!m->imported)
		memory_uncharge(m->device, m->bytes);
	free(m);
	fake_live.mems--;
	return fake_leave(CU_OK);
}

cu_result cuMemExportToShareableHandle(void *handle, cu_mem mem, int type,
				       unsigned long long flags)
{
	cu_result err = fake_enter("cuMemExportToShareableHandle");
	struct mem *m;
	int fd;

	if (err)
		return err;
	m = mem_find(mem);
	if (!m || flags)
		return fake_leave(CU_INVALID_VALUE);
	if (type != CU_HANDLE_POSIX_FD || !m->exportable)
		return fake_leave(CU_NOT_SUPPORTED);
	fd = fcntl(m->fd, F_DUPFD_CLOEXEC, 3);
	if (fd < 0)
		return fake_leave(CU_OUT_OF_MEMORY);
	memcpy(handle, &fd, sizeof(fd));
	return fake_leave(CU_OK);
}

/* Is @fd what some cuMemExportToShareableHandle() gave? */
static bool fd_is_mem(int fd, size_t *bytes)
{
	static const char prefix[] = "/memfd:" VMM_NAME;
	char path[64], target[128];
	struct stat st;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	n = readlink(path, target, sizeof(target) - 1);
	if (n < (ssize_t)sizeof(prefix) - 1 ||
	    memcmp(target, prefix, sizeof(prefix) - 1) != 0 || fstat(fd, &st))
		return false;
	*bytes = (size_t)st.st_size;
	return true;
}

cu_result cuMemImportFromShareableHandle(cu_mem *mem, void *handle, int type)
{
	cu_result err = fake_enter("cuMemImportFromShareableHandle");
	struct mem *m;
	size_t bytes;
	int fd;

	if (err)
		return err;
	if (type != CU_HANDLE_POSIX_FD ||
	    !fd_is_mem((int)(intptr_t)handle, &bytes))
		return fake_leave(CU_INVALID_VALUE);
	fd = fcntl((int)(intptr_t)handle, F_DUPFD_CLOEXEC, 3);
	m = fd < 0 ? NULL : mem_add(fd, bytes);
	if (!m)
		return fake_leave(CU_OUT_OF_MEMORY);
	m->exportable = true;
	m->imported = true;
	*mem = (uintptr_t)m;
	return fake_leave(CU_OK);
}

static cu_result reserve(cu_ptr *ptr, size_t bytes)
{
	struct reservation *r = malloc(sizeof(*r));

	if (!r)
		return CU_OUT_OF_MEMORY;
	r->bytes = bytes;
	r->map_bytes = bytes + 2 * FAKE_GRANULE;
	r->map = mmap(NULL, r->map_bytes, PROT_NONE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (r->map == MAP_FAILED) {
		free(r);
		return CU_OUT_OF_MEMORY;
	}
	r->ptr = ((uintptr_t)r->map + FAKE_GRANULE - 1) & ~(FAKE_GRANULE - 1);
	r->next = reservations;
	reservations = r;
	fake_live.reservations++;
	*ptr = r->ptr;
	return CU_OK;
}

cu_result cuMemAddressReserve(cu_ptr *ptr, size_t bytes, size_t align,
			      cu_ptr hint, unsigned long long flags)
{
	cu_result err = fake_enter("cuMemAddressReserve");

	if (err)
		return err;
	if (flags || !aligned(bytes) || align > FAKE_GRANULE)
		return fake_leave(CU_INVALID_VALUE);
	return fake_leave(reserve(ptr, bytes));
}

/* The first mapping that touches [ptr, ptr + bytes), or NULL. */
static struct range *mapping_in(cu_ptr ptr, size_t bytes)
{
	for (struct range *r = ranges; r; r = r->next)
		if (r->kind == RANGE_MAPPING && r->ptr < ptr + bytes &&
		    ptr < r->ptr + r->bytes)
			return r;
	return NULL;
}

cu_result cuMemAddressFree(cu_ptr ptr, size_t bytes)
{
	cu_result err = fake_enter("cuMemAddressFree");
	struct reservation **p = &reservations;
	struct reservation *r;

	if (err)
		return err;
	while (*p && (*p)->ptr != ptr)
		p = &(*p)->next;
	r = *p;
	if (!r || r->bytes != bytes || mapping_in(ptr, bytes))
		return fake_leave(CU_INVALID_VALUE);
	munmap(r->map, r->map_bytes);
	*p = r->next;
	free(r);
	fake_live.reservations--;
	return fake_leave(CU_OK);
}

static bool reserved(cu_ptr ptr, size_t bytes)
{
	for (struct reservation *r = reservations; r; r = r->next)
		if (ptr >= r->ptr && ptr + bytes <= r->ptr + r->bytes)
			return true;
	return false;
}

cu_result cuMemMap(cu_ptr ptr, size_t bytes, size_t offset, cu_mem mem,
		   unsigned long long flags)
{
	cu_result err = fake_enter("cuMemMap");
	struct range *r;
	struct mem *m;

	if (err)
		return err;
	m = mem_find(mem);
	if (!m || offset || flags || bytes != m->bytes ||
	    ptr % FAKE_GRANULE || !reserved(ptr, bytes))
		return fake_leave(CU_INVALID_VALUE);
	if (mapping_in(ptr, bytes))
		return fake_leave(CU_ALREADY_MAPPED);
	r = range_add(ptr, bytes, RANGE_MAPPING);
	if (!r)
		return fake_leave(CU_OUT_OF_MEMORY);
	if (mmap((void *)(uintptr_t)ptr, bytes, PROT_NONE,
		 MAP_SHARED | MAP_FIXED, m->fd, 0) == MAP_FAILED) {
		range_del(r);
		return fake_leave(CU_OUT_OF_MEMORY);
	}
	fake_live.mappings++;
	return fake_leave(CU_OK);
}

cu_result cuMemUnmap(cu_ptr ptr, size_t bytes)
{
	cu_result err = fake_enter("cuMemUnmap");
	struct range *r;

	if (err)
		return err;
	r = mapping_in(ptr, bytes);
	if (!r || r->ptr != ptr || r->bytes != bytes)
		return fake_leave(CU_INVALID_VALUE);
	mmap((void *)(uintptr_t)ptr, bytes, PROT_NONE,
	     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0);
	range_del(r);
	fake_live.mappings--;
	return fake_leave(CU_OK);
}

static int protection(int access)
{
	switch (access) {
	case CU_ACCESS_READ:
		return PROT_READ;
	case CU_ACCESS_READWRITE:
		return PROT_READ | PROT_WRITE;
	default:
		return PROT_NONE;
	}
}

cu_result cuMemSetAccess(cu_ptr ptr, size_t bytes,
			 const struct cu_access *desc, size_t count)
{
	cu_result err = fake_enter("cuMemSetAccess");
	cu_ptr end = ptr + bytes;

	if (err)
		return err;
	if (count != 1 || desc->location.type != CU_LOCATION_DEVICE ||
	    desc->location.id < 0 || desc->location.id >= fake_nr_devices())
		return fake_leave(CU_INVALID_VALUE);
	for (cu_ptr p = ptr; p < end;) {
		struct range *r = mapping_in(p, 1);

		if (!r || r->ptr != p || r->bytes > end - p)
			return fake_leave(CU_INVALID_VALUE);
		mprotect((void *)(uintptr_t)p, r->bytes,
			 protection(desc->flags));
		r->access = desc->flags;
		p += r->bytes;
	}
	return fake_leave(CU_OK);
}
