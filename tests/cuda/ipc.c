// SPDX-License-Identifier: Apache-2.0
/*
 * ipc.c - CUDA IPC handles: open elsewhere, refusals, the exporter's death.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <unistd.h>
#include <cmocka.h>
#include "tests/cuda/child.h"

#define BYTES (2ul << 20)

static void exporter(int socket)
{
	const struct cuda_driver *cu = child_cuda();
	struct cu_ipc_handle handle;
	cu_ptr p, q;
	char c;

	REQUIRE(cu->cuMemAlloc(&p, BYTES) == CU_OK);
	REQUIRE(cu->cuMemsetD8Async(p, 0x5a, BYTES, NULL) == CU_OK);
	REQUIRE(cu->cuStreamSynchronize(NULL) == CU_OK);
	if (child_double())
		REQUIRE(cu->cuIpcGetMemHandle(&handle, p + 1) ==
			CU_INVALID_VALUE);
	REQUIRE(cu->cuIpcGetMemHandle(&handle, p) == CU_OK);
	if (child_double())
		REQUIRE(cu->cuIpcOpenMemHandle(&q, handle, CU_IPC_LAZY_PEER) ==
			CU_INVALID_CONTEXT);
	child_send(socket, &handle, sizeof(handle), -1);
	child_receive(socket, &c, 1, NULL);
	REQUIRE(cu->cuMemFree(p) == CU_OK);
	child_send(socket, "f", 1, -1);
	for (;;)
		pause();
}

static unsigned char byte_at(const struct cuda_driver *cu, cu_ptr p)
{
	unsigned char c;

	REQUIRE(cu->cuMemcpyDtoHAsync(&c, p, 1, NULL) == CU_OK);
	return c;
}

/* Opens, says so, and looks again when told to. */
static void importer(int socket)
{
	const struct cuda_driver *cu = child_cuda();
	struct cu_ipc_handle handle;
	cu_ptr p, again;
	char c;

	child_receive(socket, &handle, sizeof(handle), NULL);
	if (child_double())
		REQUIRE(cu->cuIpcOpenMemHandle(&p, handle, 0) ==
			CU_INVALID_VALUE);
	REQUIRE(cu->cuIpcOpenMemHandle(&p, handle, CU_IPC_LAZY_PEER) == CU_OK);
	REQUIRE(cu->cuIpcOpenMemHandle(&again, handle, CU_IPC_LAZY_PEER) ==
		CU_OK);
	REQUIRE(p == again);
	REQUIRE(cu->cuIpcCloseMemHandle(again) == CU_OK);
	REQUIRE(byte_at(cu, p) == 0x5a);
	child_send(socket, "m", 1, -1);
	child_receive(socket, &c, 1, NULL);
	REQUIRE(byte_at(cu, p + BYTES - 1) == 0x5a);
	if (child_double())
		REQUIRE(cu->cuMemFree(p) == CU_INVALID_VALUE);
	REQUIRE(cu->cuIpcCloseMemHandle(p) == CU_OK);
	if (child_double())
		REQUIRE(cu->cuIpcCloseMemHandle(p) == CU_INVALID_VALUE);
}

static void refused(int socket)
{
	const struct cuda_driver *cu = child_cuda();
	struct cu_ipc_handle handle;
	cu_result err;
	cu_ptr p;

	child_receive(socket, &handle, sizeof(handle), NULL);
	err = cu->cuIpcOpenMemHandle(&p, handle, CU_IPC_LAZY_PEER);
	REQUIRE(child_double() ? err == CU_INVALID_HANDLE : err != CU_OK);
}

/* A mapping survives its exporter, a handle does not. */
static void test_exporter_death(void **state)
{
	struct cu_ipc_handle handle;
	int out, in, late;
	pid_t from = child_start(exporter, &out);
	pid_t to = child_start(importer, &in);
	pid_t after;
	char c;

	child_receive(out, &handle, sizeof(handle), NULL);
	child_send(in, &handle, sizeof(handle), -1);
	child_receive(in, &c, 1, NULL);
	kill(from, SIGKILL);
	child_wait(from);
	child_send(in, "d", 1, -1);
	assert_int_equal(child_wait(to), 0);
	after = child_start(refused, &late);
	child_send(late, &handle, sizeof(handle), -1);
	assert_int_equal(child_wait(after), 0);
	close(out);
	close(in);
	close(late);
}

static void test_freed(void **state)
{
	struct cu_ipc_handle handle;
	int out, late;
	pid_t from = child_start(exporter, &out);
	pid_t after;
	char c;

	child_receive(out, &handle, sizeof(handle), NULL);
	child_send(out, "f", 1, -1);
	child_receive(out, &c, 1, NULL);
	after = child_start(refused, &late);
	child_send(late, &handle, sizeof(handle), -1);
	assert_int_equal(child_wait(after), 0);
	kill(from, SIGKILL);
	child_wait(from);
	close(out);
	close(late);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_exporter_death),
		cmocka_unit_test(test_freed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
