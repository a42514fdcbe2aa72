// SPDX-License-Identifier: Apache-2.0
/*
 * question.c - what programs that ask a GPU something share.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "tests/gpu/question.h"

int question_begin(void)
{
	char why[256];

	if (cuda_driver(why, sizeof(why)))
		return 0;
	fprintf(stderr, "%s\n", why);
	return 77;
}

bool question_quick(void)
{
	return getenv("KVD_TEST_QUICK") != NULL;
}

uint64_t question_now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

const char *question_error(const struct cuda_driver *cu, cu_result err)
{
	const char *name = NULL;

	return cu->cuGetErrorName(err, &name) || !name ? "unknown" : name;
}

cu_mem question_create(const struct cuda_driver *cu, size_t bytes)
{
	static const struct cu_allocation_prop prop = {
		.type = CU_ALLOCATION_PINNED,
		.handle_types = CU_HANDLE_POSIX_FD,
		.location = { CU_LOCATION_DEVICE, 0 },
	};
	cu_mem mem;

	REQUIRE(cu->cuMemCreate(&mem, bytes, &prop, 0) == CU_OK);
	return mem;
}

cu_ptr question_map(const struct cuda_driver *cu, cu_mem mem, size_t bytes,
		    int access)
{
	struct cu_access desc = { { CU_LOCATION_DEVICE, 0 }, access };
	cu_ptr p;

	REQUIRE(cu->cuMemAddressReserve(&p, bytes, 0, 0, 0) == CU_OK);
	REQUIRE(cu->cuMemMap(p, bytes, 0, mem, 0) == CU_OK);
	REQUIRE(cu->cuMemSetAccess(p, bytes, &desc, 1) == CU_OK);
	return p;
}

int question_export(const struct cuda_driver *cu, size_t bytes, cu_ptr *ret)
{
	cu_mem mem = question_create(cu, bytes);
	int fd;

	*ret = question_map(cu, mem, bytes, CU_ACCESS_READWRITE);
	REQUIRE(cu->cuMemsetD8Async(*ret, QUESTION_PATTERN, bytes, NULL) ==
		CU_OK);
	REQUIRE(cu->cuStreamSynchronize(NULL) == CU_OK);
	REQUIRE(cu->cuMemExportToShareableHandle(&fd, mem, CU_HANDLE_POSIX_FD,
						 0) == CU_OK);
	REQUIRE(cu->cuMemRelease(mem) == CU_OK);
	return fd;
}

uint64_t question_wrong(const struct cuda_driver *cu, cu_ptr p, size_t bytes,
			int byte)
{
	unsigned char *got = malloc(bytes);
	uint64_t wrong = 0;

	REQUIRE(got);
	REQUIRE(cu->cuMemcpyDtoHAsync(got, p, bytes, NULL) == CU_OK);
	REQUIRE(cu->cuStreamSynchronize(NULL) == CU_OK);
	for (size_t i = 0; i < bytes; i++)
		wrong += got[i] != byte;
	free(got);
	return wrong;
}

static void finder(int socket)
{
	const struct cuda_driver *cu = child_cuda();
	struct question_found found = { .wrong = 0 };
	cu_result err;
	size_t bytes;
	cu_mem mem;
	int fd;

	child_receive(socket, &bytes, sizeof(bytes), &fd);
	err = cu->cuMemImportFromShareableHandle(&mem, (void *)(intptr_t)fd,
						 CU_HANDLE_POSIX_FD);
	snprintf(found.import, sizeof(found.import), "%s",
		 question_error(cu, err));
	if (!err)
		found.wrong = question_wrong(
			cu, question_map(cu, mem, bytes, CU_ACCESS_READ), bytes,
			QUESTION_PATTERN);
	child_send(socket, &found, sizeof(found), -1);
}

struct question_found question_find(int fd, size_t bytes)
{
	struct question_found found;
	int socket;
	pid_t pid = child_start(finder, &socket);

	child_send(socket, &bytes, sizeof(bytes), fd);
	child_receive(socket, &found, sizeof(found), NULL);
	REQUIRE(child_wait(pid) == 0);
	close(socket);
	return found;
}
