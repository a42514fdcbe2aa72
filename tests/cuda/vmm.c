// SPDX-License-Identifier: Apache-2.0
/*
 * vmm.c - physical memory across processes: export, import, read-only
 * mappings, the exporter's death.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>
#include "tests/cuda/child.h"

#define BYTES (4ul << 20)

static const struct cu_allocation_prop prop = {
	.type = CU_ALLOCATION_PINNED,
	.handle_types = CU_HANDLE_POSIX_FD,
	.location = { CU_LOCATION_DEVICE, 0 },
};

static cu_ptr map(const struct cuda_driver *cu, cu_mem mem, int access)
{
	struct cu_access desc = { { CU_LOCATION_DEVICE, 0 }, access };
	cu_ptr p;

	REQUIRE(cu->cuMemAddressReserve(&p, BYTES, 0, 0, 0) == CU_OK);
	REQUIRE(cu->cuMemMap(p, BYTES, 0, mem, 0) == CU_OK);
	REQUIRE(cu->cuMemSetAccess(p, BYTES, &desc, 1) == CU_OK);
	return p;
}

static void unmap(const struct cuda_driver *cu, cu_ptr p)
{
	REQUIRE(cu->cuMemUnmap(p, BYTES) == CU_OK);
	REQUIRE(cu->cuMemAddressFree(p, BYTES) == CU_OK);
}

static void exporter(int socket)
{
	const struct cuda_driver *cu = child_cuda();
	cu_mem mem;
	cu_ptr p;
	int fd;

	REQUIRE(cu->cuMemCreate(&mem, BYTES, &prop, 0) == CU_OK);
	p = map(cu, mem, CU_ACCESS_READWRITE);
	REQUIRE(cu->cuMemsetD8Async(p, 0x5a, BYTES, NULL) == CU_OK);
	REQUIRE(cu->cuStreamSynchronize(NULL) == CU_OK);
	REQUIRE(cu->cuMemExportToShareableHandle(&fd, mem, CU_HANDLE_POSIX_FD,
						 0) == CU_OK);
	child_send(socket, "x", 1, fd);
	for (;;)
		pause();
}

static cu_mem import(const struct cuda_driver *cu, int socket)
{
	cu_mem mem;
	char c;
	int fd;

	child_receive(socket, &c, 1, &fd);
	REQUIRE(cu->cuMemImportFromShareableHandle(
			&mem, (void *)(intptr_t)fd, CU_HANDLE_POSIX_FD) ==
		CU_OK);
	close(fd);
	return mem;
}

static unsigned char byte_at(const struct cuda_driver *cu, cu_ptr p)
{
	unsigned char c;

	REQUIRE(cu->cuMemcpyDtoHAsync(&c, p, 1, NULL) == CU_OK);
	REQUIRE(cu->cuStreamSynchronize(NULL) == CU_OK);
	return c;
}

/* Both views of one import see the bytes; only one of them takes a copy. */
static void importer(int socket)
{
	const struct cuda_driver *cu = child_cuda();
	cu_mem mem = import(cu, socket);
	cu_ptr ro = map(cu, mem, CU_ACCESS_READ);
	cu_ptr rw = map(cu, mem, CU_ACCESS_READWRITE);

	REQUIRE(cu->cuMemRelease(mem) == CU_OK);
	REQUIRE(byte_at(cu, ro) == 0x5a);
	REQUIRE(byte_at(cu, ro + BYTES - 1) == 0x5a);
	if (child_double()) /* on a GPU: tests/gpu/readonly.c */
		REQUIRE(cu->cuMemsetD8Async(ro, 1, 1, NULL) ==
			CU_INVALID_VALUE);
	REQUIRE(cu->cuMemsetD8Async(rw + 7, 0x77, 1, NULL) == CU_OK);
	REQUIRE(byte_at(cu, ro + 7) == 0x77);
	unmap(cu, ro);
	unmap(cu, rw);
}

static void stray_writer(int socket)
{
	const struct cuda_driver *cu = child_cuda();
	cu_ptr ro = map(cu, import(cu, socket), CU_ACCESS_READ);

	signal(SIGSEGV, SIG_DFL);
	*(volatile char *)(uintptr_t)ro = 1;
}

/* What the exporter gave, handed on to a child that runs @fn. */
static int handed_on(void (*fn)(int), int exported)
{
	int socket, fd, status;
	pid_t pid = child_start(fn, &socket);
	char c;

	child_receive(exported, &c, 1, &fd);
	child_send(socket, "x", 1, fd);
	close(fd);
	status = child_wait(pid);
	close(socket);
	return status;
}

static void test_import(void **state)
{
	int exported;
	pid_t pid = child_start(exporter, &exported);

	assert_int_equal(handed_on(importer, exported), 0);
	kill(pid, SIGKILL);
	child_wait(pid);
	close(exported);
}

static void test_read_only(void **state)
{
	int exported, status;
	pid_t pid;

	if (!child_double())
		skip();
	pid = child_start(exporter, &exported);
	status = handed_on(stray_writer, exported);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGSEGV);
	kill(pid, SIGKILL);
	child_wait(pid);
	close(exported);
}

/* The descriptor alone, in flight, keeps the memory. */
static void test_exporter_death(void **state)
{
	int exported, socket, fd;
	pid_t pid = child_start(exporter, &exported);
	char c;

	child_receive(exported, &c, 1, &fd);
	kill(pid, SIGKILL);
	child_wait(pid);
	close(exported);
	pid = child_start(importer, &socket);
	child_send(socket, "x", 1, fd);
	close(fd);
	assert_int_equal(child_wait(pid), 0);
	close(socket);
}

static void bad_arguments(int socket)
{
	const struct cuda_driver *cu = child_cuda();
	struct cu_access rw = { { CU_LOCATION_DEVICE, 0 },
				CU_ACCESS_READWRITE };
	struct cu_allocation_prop inner = prop;
	cu_ptr p, q;
	cu_mem mem;
	int fd;

	REQUIRE(cu->cuMemCreate(&mem, BYTES + 1, &prop, 0) == CU_INVALID_VALUE);
	REQUIRE(cu->cuMemCreate(&mem, BYTES, &prop, 0) == CU_OK);
	REQUIRE(cu->cuMemAddressReserve(&p, 2 * BYTES, 0, 0, 0) == CU_OK);
	REQUIRE(cu->cuMemMap(p + 4096, BYTES, 0, mem, 0) == CU_INVALID_VALUE);
	REQUIRE(cu->cuMemMap(p, BYTES / 2, 0, mem, 0) == CU_INVALID_VALUE);
	REQUIRE(cu->cuMemMap(p, BYTES, 0, mem, 0) == CU_OK);
	REQUIRE(cu->cuMemMap(p, BYTES, 0, mem, 0) == CU_ALREADY_MAPPED);
	REQUIRE(cu->cuMemsetD8Async(p, 0, 1, NULL) == CU_INVALID_VALUE);
	REQUIRE(cu->cuMemSetAccess(p, 2 * BYTES, &rw, 1) == CU_INVALID_VALUE);
	REQUIRE(cu->cuMemSetAccess(p, BYTES, &rw, 1) == CU_OK);
	REQUIRE(cu->cuMemUnmap(p, BYTES / 2) == CU_INVALID_VALUE);
	REQUIRE(cu->cuMemAddressFree(p, 2 * BYTES) == CU_INVALID_VALUE);
	REQUIRE(cu->cuMemUnmap(p, BYTES) == CU_OK);
	REQUIRE(cu->cuMemAddressFree(p, 2 * BYTES) == CU_OK);
	REQUIRE(cu->cuMemRelease(mem) == CU_OK);
	REQUIRE(cu->cuMemRelease(mem) == CU_INVALID_VALUE);
	REQUIRE(cu->cuMemImportFromShareableHandle(
			&mem, (void *)(intptr_t)socket, CU_HANDLE_POSIX_FD) ==
		CU_INVALID_VALUE);
	inner.handle_types = 0;
	REQUIRE(cu->cuMemCreate(&mem, BYTES, &inner, 0) == CU_OK);
	REQUIRE(cu->cuMemExportToShareableHandle(
			&fd, mem, CU_HANDLE_POSIX_FD, 0) == CU_NOT_SUPPORTED);
	REQUIRE(cu->cuMemAlloc(&q, 100) == CU_OK);
	REQUIRE(cu->cuMemsetD8Async(q, 0, 5000, NULL) == CU_INVALID_VALUE);
	REQUIRE(cu->cuMemFree(q + 1) == CU_INVALID_VALUE);
	REQUIRE(cu->cuMemFree(q) == CU_OK);
}

static void test_bad_arguments(void **state)
{
	int socket;
	pid_t pid;

	if (!child_double())
		skip();
	pid = child_start(bad_arguments, &socket);
	assert_int_equal(child_wait(pid), 0);
	close(socket);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_import),
		cmocka_unit_test(test_read_only),
		cmocka_unit_test(test_exporter_death),
		cmocka_unit_test(test_bad_arguments),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
