/* SPDX-License-Identifier: Apache-2.0 */
/*
 * memfd.c - memory that has a descriptor.
 */
#include "daemon/util/memfd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "daemon/util/fault.h"

int memfd_new(const char *name, uint64_t bytes)
{
	int fd, r;

	r = fault_at(FAULT_MEMFD);
	if (r < 0)
		return r;
	fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return -errno;
	if (fchmod(fd, 0600) < 0 || ftruncate(fd, (off_t)bytes) < 0 ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) < 0) {
		r = -errno;
		close(fd);
		return r;
	}
	return fd;
}

int memfd_reopen_readonly(int fd)
{
	char path[32];
	int ro;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	ro = open(path, O_RDONLY | O_CLOEXEC);
	return ro < 0 ? -errno : ro;
}

int memfd_check(int fd, uint64_t bytes)
{
	struct stat st;
	int seals;

	seals = fcntl(fd, F_GET_SEALS);
	if (seals < 0)
		return -errno;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (!(seals & F_SEAL_SHRINK) || (uint64_t)st.st_size < bytes)
		return -EINVAL;
	return 0;
}

int memfd_map(int fd, uint64_t bytes, void **ret)
{
	void *p;

	p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return -errno;
	*ret = p;
	return 0;
}

int memfd_share(const char *name, uint64_t bytes, int *ret_fd, void **ret)
{
	int fd, ro, r;
	void *p = NULL;

	fd = memfd_new(name, bytes);
	if (fd < 0)
		return fd;
	r = memfd_map(fd, bytes, &p);
	if (r < 0)
		goto close_fd;
	r = -EIO;
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE | F_SEAL_SEAL) < 0)
		goto unmap;
	ro = memfd_reopen_readonly(fd);
	if (ro < 0) {
		r = ro;
		goto unmap;
	}
	close(fd);
	*ret_fd = ro;
	*ret = p;
	return 0;
unmap:
	munmap(p, bytes);
close_fd:
	close(fd);
	return r;
}
