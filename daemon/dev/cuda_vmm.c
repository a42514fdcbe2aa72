// SPDX-License-Identifier: Apache-2.0
/*
 * cuda_vmm.c - GPU memory handed over as file descriptors.
 *
 * A segment is one physical allocation. Its descriptor, kept open, holds the
 * memory as the mapping does, survives this process in the service manager's
 * fd store, and lets each importer map for reading only. The driver's own
 * handle is let go as soon as the segment is mapped.
 */
#include "daemon/dev/ops.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>
#include "daemon/dev/cuda.h"

static struct cu_allocation_prop vmm_prop(const struct dev *d)
{
	return (struct cu_allocation_prop){
		.type = CU_ALLOCATION_PINNED,
		.handle_types = CU_HANDLE_POSIX_FD,
		.location = { CU_LOCATION_DEVICE, d->ordinal },
	};
}

static void vmm_unmap(struct cuda *c, cu_ptr base, uint64_t bytes)
{
	c->cu->cuMemUnmap(base, bytes);
	c->cu->cuMemAddressFree(base, bytes);
}

/* Maps all of @mem, readable and writable. */
static int vmm_map(struct dev *d, cu_mem mem, uint64_t bytes, cu_ptr *ret)
{
	const struct cu_access access = {
		.location = { CU_LOCATION_DEVICE, d->ordinal },
		.flags = CU_ACCESS_READWRITE,
	};
	struct cuda *c = d->priv;
	cu_result err;
	cu_ptr base;

	err = c->cu->cuMemAddressReserve(&base, bytes, 0, 0, 0);
	if (err)
		return cuda_errno(d, err);
	err = c->cu->cuMemMap(base, bytes, 0, mem, 0);
	if (err) {
		c->cu->cuMemAddressFree(base, bytes);
		return cuda_errno(d, err);
	}
	err = c->cu->cuMemSetAccess(base, bytes, &access, 1);
	if (err) {
		vmm_unmap(c, base, bytes);
		return cuda_errno(d, err);
	}
	*ret = base;
	return 0;
}

static void vmm_segment_free(struct dev *d, struct dev_segment *s)
{
	vmm_unmap(d->priv, s->base, s->bytes);
	close(s->fd);
	*s = (struct dev_segment){ .fd = -1 };
}

/* Maps @mem, owns @fd on success. */
static int vmm_segment_make(struct dev *d, cu_mem mem, int fd, uint64_t bytes,
			    struct dev_segment *ret)
{
	cu_ptr base;
	int r;

	r = vmm_map(d, mem, bytes, &base);
	if (r)
		return r;
	*ret = (struct dev_segment){ .bytes = bytes, .fd = fd, .base = base };
	return 0;
}

/* A descriptor of @mem that children do not inherit. */
static int vmm_export(struct dev *d, cu_mem mem, int *ret)
{
	struct cuda *c = d->priv;
	cu_result err;

	err = c->cu->cuMemExportToShareableHandle(ret, mem, CU_HANDLE_POSIX_FD,
						  0);
	if (err)
		return cuda_errno(d, err);
	fcntl(*ret, F_SETFD, FD_CLOEXEC);
	return 0;
}

static int vmm_mem_segment(struct dev *d, cu_mem mem, uint64_t bytes,
			   struct dev_segment *ret)
{
	struct dev_segment s;
	int fd, r;

	r = vmm_export(d, mem, &fd);
	if (r)
		return r;
	r = vmm_segment_make(d, mem, fd, bytes, &s);
	if (r) {
		close(fd);
		return r;
	}
	r = cuda_zero(d, &s, 0, bytes);
	if (r)
		vmm_segment_free(d, &s);
	else
		*ret = s;
	return r;
}

static int vmm_segment_new(struct dev *d, uint64_t bytes,
			   struct dev_segment *ret)
{
	const struct cu_allocation_prop prop = vmm_prop(d);
	struct cuda *c = d->priv;
	cu_mem mem;
	int r;

	r = cuda_errno(d, c->cu->cuMemCreate(&mem, bytes, &prop, 0));
	if (r)
		return r;
	r = vmm_mem_segment(d, mem, bytes, ret);
	c->cu->cuMemRelease(mem);
	return r;
}

static int vmm_segment_adopt(struct dev *d, int fd, uint64_t bytes,
			     struct dev_segment *ret)
{
	struct cuda *c = d->priv;
	cu_mem mem;
	int r;

	r = cuda_errno(d, c->cu->cuMemImportFromShareableHandle(
		&mem, (void *)(intptr_t)fd, CU_HANDLE_POSIX_FD));
	if (r)
		return r;
	r = vmm_segment_make(d, mem, fd, bytes, ret);
	c->cu->cuMemRelease(mem);
	return r;
}

const struct dev_ops dev_cuda_vmm_ops = {
	.name = "cuda-vmm",
	.survives = true,
	.export_kind = DEV_EXPORT_VMM,
	.open = cuda_open,
	.close = cuda_close,
	.segment_new = vmm_segment_new,
	.segment_adopt = vmm_segment_adopt,
	.segment_free = vmm_segment_free,
	.zero = cuda_zero,
	.read = cuda_read,
	.copy = cuda_copy,
	.write = cuda_write,
	.convert = cuda_convert,
};
