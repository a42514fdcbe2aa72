// SPDX-License-Identifier: Apache-2.0
/*
 * file.c - an input where a program looks for a file.
 */
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "tests/fuzz/file.h"
#include "tests/support/check.h"

static const char cut[] = "%%\n";

const char *fuzz_file_put(struct fuzz_file *f, const uint8_t *data,
			  size_t size)
{
	if (!f->path[0]) {
		f->fd = memfd_create("fuzz", MFD_CLOEXEC);
		CHECK(f->fd >= 0, "no memory for a file");
		snprintf(f->path, sizeof(f->path), "/proc/%d/fd/%d",
			 (int)getpid(), f->fd);
	}
	CHECK(ftruncate(f->fd, 0) == 0 &&
	      pwrite(f->fd, data, size, 0) == (ssize_t)size, "%zu bytes",
	      size);
	return f->path;
}

static char dir_path[64];

static int remove_one(const char *path, const struct stat *st, int type,
		      struct FTW *ftw)
{
	return remove(path);
}

static void remove_dir(void)
{
	nftw(dir_path, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

const char *fuzz_dir(void)
{
	snprintf(dir_path, sizeof(dir_path), "%s/kvd-fuzz-XXXXXX",
		 access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
	CHECK(mkdtemp(dir_path), "%s", dir_path);
	atexit(remove_dir);
	return dir_path;
}

void fuzz_file_link(const struct fuzz_file *f, const char *dir,
		    const char *name)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	CHECK(symlink(f->path, path) == 0, "%s", path);
}

size_t fuzz_cut(const uint8_t **data, size_t *size)
{
	const uint8_t *at = *size ? memmem(*data, *size, cut,
					   sizeof(cut) - 1) : NULL;
	size_t n = at ? (size_t)(at - *data) : *size;
	size_t skip = at ? n + sizeof(cut) - 1 : n;

	*data += skip;
	*size -= skip;
	return n;
}
