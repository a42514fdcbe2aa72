// SPDX-License-Identifier: Apache-2.0
/*
 * dev.c - the daemon's two CUDA devices: segments made, handed over, adopted,
 * given back; pages converted; and every driver call failing once.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include "daemon/dev/dev.h"
#include "kernels/page.h"
#include "tests/cuda/child.h"

#define BYTES (2 * (uint64_t)DEV_GRANULE)

/* One of dev_ops, called on the device's thread. */
struct call {
	struct dev_job job;
	enum { NEW, ADOPT, FREE, READ, ZERO, CONVERT } what;
	struct dev_segment *seg;
	int fd;
	uint64_t offset;
	uint8_t byte;
	int r;
};

/* A page of zeros in f16 becomes one of int8, at the end of the segment. */
static int convert(struct dev *d, struct dev_segment *s)
{
	const struct kvd_geometry g = {
		.page_tokens = 32,
		.nr_groups = 1,
		.groups = { { 1, 1, 0, 64, 64 } },
	};
	struct page_layout from, to;
	struct dev_convert_page page = { .from = s, .to = s, .bad = 1 };
	struct dev_convert what = { &from, &to, &page, 1 };
	int r;

	REQUIRE(page_layout_init(&from, &g, 0, KVD_F16, KVD_F16) == 0);
	REQUIRE(page_layout_init(&to, &g, 0, KVD_INT8, KVD_INT8) == 0);
	page.to_at = BYTES - to.page_bytes;
	r = dev_ops(d)->convert(d, &what);
	REQUIRE(r || !page.bad);
	return r;
}

static void call_run(struct dev *d, struct dev_job *job)
{
	struct call *c = (struct call *)(void *)job;
	const struct dev_ops *ops = dev_ops(d);

	switch (c->what) {
	case NEW:
		c->r = ops->segment_new(d, BYTES, c->seg);
		break;
	case ADOPT:
		c->r = ops->segment_adopt(d, c->fd, BYTES, c->seg);
		break;
	case FREE:
		ops->segment_free(d, c->seg);
		break;
	case READ:
		c->r = ops->read(d, c->seg, c->offset, &c->byte, 1);
		break;
	case ZERO:
		c->r = ops->zero(d, c->seg, c->offset, 1);
		break;
	case CONVERT:
		c->r = convert(d, c->seg);
		break;
	}
}

static void call_done(struct dev *d, struct dev_job *job)
{
}

static int call(struct dev *d, struct call *c)
{
	c->job.run = call_run;
	c->job.done = call_done;
	dev_submit(d, &c->job);
	dev_drain(d);
	return c->r;
}

static int segment_new(struct dev *d, struct dev_segment *s)
{
	return call(d, &(struct call){ .what = NEW, .seg = s });
}

static void segment_free(struct dev *d, struct dev_segment *s)
{
	call(d, &(struct call){ .what = FREE, .seg = s });
}

static uint8_t byte_at(struct dev *d, struct dev_segment *s, uint64_t offset)
{
	struct call c = { .what = READ, .seg = s, .offset = offset };

	REQUIRE(call(d, &c) == 0);
	return c.byte;
}

static void wake(void *ctx)
{
}

static struct dev *device(const char *spec)
{
	struct dev *d;
	char note[256];

	REQUIRE(dev_new(spec, wake, NULL, &d, note, sizeof(note)) == 0);
	return d;
}

/* A GPU's driver keeps some of its own open. */
static unsigned nr_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned n = 0;

	REQUIRE(dir);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

static void run(void (*fn)(int), const char *name, const char *value)
{
	int socket;
	pid_t pid;

	if (name)
		setenv(name, value, 1);
	pid = child_start(fn, &socket);
	if (name)
		unsetenv(name);
	assert_int_equal(child_wait(pid), 0);
	close(socket);
}

/* ---- lives of a segment ---- */

static void life(const char *spec)
{
	unsigned fds = nr_fds();
	struct dev *d = device(spec);
	struct dev_segment s;

	for (int i = 0; i < 3; i++) {
		REQUIRE(segment_new(d, &s) == 0);
		REQUIRE(s.bytes == BYTES);
		REQUIRE(byte_at(d, &s, 0) == 0);
		REQUIRE(byte_at(d, &s, BYTES - 1) == 0);
		segment_free(d, &s);
	}
	dev_free(d);
	child_live_is(0);
	if (child_double())
		REQUIRE(nr_fds() == fds);
}

static void vmm_life(int socket)
{
	life("cuda-vmm:0");
}

static void ipc_life(int socket)
{
	life("cuda-ipc:0");
}

static void test_life(void **state)
{
	run(vmm_life, NULL, NULL);
	run(ipc_life, NULL, NULL);
}

/* ---- across processes ---- */

static cu_ptr vmm_map(const struct cuda_driver *cu, int fd)
{
	struct cu_access rw = { { CU_LOCATION_DEVICE, 0 },
				CU_ACCESS_READWRITE };
	cu_mem mem;
	cu_ptr p;

	REQUIRE(cu->cuMemImportFromShareableHandle(
			&mem, (void *)(intptr_t)fd, CU_HANDLE_POSIX_FD) ==
		CU_OK);
	REQUIRE(cu->cuMemAddressReserve(&p, BYTES, 0, 0, 0) == CU_OK);
	REQUIRE(cu->cuMemMap(p, BYTES, 0, mem, 0) == CU_OK);
	REQUIRE(cu->cuMemSetAccess(p, BYTES, &rw, 1) == CU_OK);
	return p;
}

/* A client: maps what it is sent and leaves a mark at its end. */
static void client(int socket)
{
	const struct cuda_driver *cu = child_cuda();
	struct cu_ipc_handle handle;
	struct dev_export e;
	cu_ptr p;
	int fd;

	child_receive(socket, &e, sizeof(e), &fd);
	if (e.kind == DEV_EXPORT_VMM) {
		p = vmm_map(cu, fd);
	} else {
		REQUIRE(e.kind == DEV_EXPORT_IPC);
		memcpy(&handle, e.ipc_handle, sizeof(handle));
		REQUIRE(cu->cuIpcOpenMemHandle(&p, handle, CU_IPC_LAZY_PEER) ==
			CU_OK);
	}
	REQUIRE(cu->cuMemsetD8Async(p + BYTES - 1, 0x42, 1, NULL) == CU_OK);
	REQUIRE(cu->cuStreamSynchronize(NULL) == CU_OK);
	child_send(socket, "x", 1, -1);
}

/* Serves the client at the other end of @socket. */
static void serve(struct dev *d, struct dev_segment *s, int socket)
{
	struct dev_export e;
	char c;

	REQUIRE(dev_export(d, s, true, &e) == 0);
	child_send(socket, &e, sizeof(e), e.fd >= 0 ? e.fd : 0);
	if (e.fd >= 0)
		close(e.fd);
	child_receive(socket, &c, 1, NULL);
	REQUIRE(byte_at(d, s, BYTES - 1) == 0x42);
	REQUIRE(byte_at(d, s, BYTES - 2) == 0);
}

static void ipc_daemon(int socket)
{
	struct dev *d = device("cuda-ipc:0");
	struct dev_segment s;

	REQUIRE(segment_new(d, &s) == 0);
	serve(d, &s, socket);
	REQUIRE(call(d, &(struct call){ .what = ADOPT, .fd = 0, .seg = &s }) ==
		-EOPNOTSUPP);
	segment_free(d, &s);
	dev_free(d);
}

/* Leaves the segment's descriptor behind, as a fd store would have it. */
static void vmm_daemon(int socket)
{
	struct dev *d = device("cuda-vmm");
	struct dev_segment s;

	REQUIRE(segment_new(d, &s) == 0);
	serve(d, &s, socket);
	child_send(socket, "s", 1, s.fd);
}

static void vmm_successor(int socket)
{
	struct dev *d = device("cuda-vmm:0");
	struct dev_segment s;
	int fd;
	char c;

	child_receive(socket, &c, 1, &fd);
	if (child_double())
		REQUIRE(call(d, &(struct call){ .what = ADOPT,
						.fd = socket,
						.seg = &s }) == -EIO);
	REQUIRE(call(d, &(struct call){ .what = ADOPT, .fd = fd, .seg = &s }) ==
		0);
	REQUIRE(byte_at(d, &s, BYTES - 1) == 0x42);
	REQUIRE(call(d, &(struct call){ .what = ZERO,
					.offset = BYTES - 1,
					.seg = &s }) == 0);
	REQUIRE(byte_at(d, &s, BYTES - 1) == 0);
	segment_free(d, &s);
	dev_free(d);
	child_live_is(0);
}

/* Passes messages of @from on to @to and the answer back. */
static void relay(int from, int to)
{
	struct dev_export e;
	char c;
	int fd;

	child_receive(from, &e, sizeof(e), &fd);
	child_send(to, &e, sizeof(e), fd);
	close(fd);
	child_receive(to, &c, 1, NULL);
	child_send(from, &c, 1, -1);
}

static void test_ipc_export(void **state)
{
	int kvd, worker;
	pid_t a = child_start(ipc_daemon, &kvd);
	pid_t b = child_start(client, &worker);

	relay(kvd, worker);
	assert_int_equal(child_wait(a), 0);
	assert_int_equal(child_wait(b), 0);
	close(kvd);
	close(worker);
}

/* The daemon dies, its successor has the bytes the client wrote. */
static void test_vmm_restart(void **state)
{
	int kvd, worker, next, fd;
	pid_t a = child_start(vmm_daemon, &kvd);
	pid_t b = child_start(client, &worker);
	pid_t c;
	char byte;

	relay(kvd, worker);
	child_receive(kvd, &byte, 1, &fd);
	assert_int_equal(child_wait(a), 0);
	assert_int_equal(child_wait(b), 0);
	c = child_start(vmm_successor, &next);
	child_send(next, "s", 1, fd);
	close(fd);
	assert_int_equal(child_wait(c), 0);
	close(kvd);
	close(worker);
	close(next);
}

/* ---- what is not there ---- */

static void expect_note(const char *spec, int r, const char *text)
{
	struct dev *d = NULL;
	char note[512];

	REQUIRE(dev_new(spec, wake, NULL, &d, note, sizeof(note)) == r);
	if (!strstr(note, text)) {
		fprintf(stderr, "note: %s\n", note);
		child_fail(__FILE__, __LINE__, text);
	}
	dev_free(d);
}

static void no_gpu(int socket)
{
	expect_note("cuda-vmm:0", -ENODEV, "CUDA_ERROR_NO_DEVICE");
	expect_note("auto", 0, "host");
}

static void no_second_gpu(int socket)
{
	expect_note("cuda-ipc:1", -ENODEV, "the driver shows 1 GPU");
	expect_note("auto", 0, "cuda-vmm:0: fakecuda 0, compute capability 9.0");
}

static void no_vmm(int socket)
{
	expect_note("cuda-vmm:0", -ENODEV, "cannot export");
	expect_note("auto", 0, "cuda-ipc:0: fakecuda 0");
}

static void mps(int socket)
{
	expect_note("cuda-ipc:0", 0, "under MPS");
}

static void test_absent(void **state)
{
	if (!child_double())
		skip();
	run(no_gpu, "FAKECUDA_DEVICES", "0");
	run(no_second_gpu, NULL, NULL);
	run(no_vmm, "FAKECUDA_VMM", "0");
	run(mps, "FAKECUDA_MPS", "1");
}

/* ---- every call fails once, and nothing is left of it ---- */

static int segment_wanted; /* what segment_new() must say */

/* The device itself, open, is a context and a stream. */
static void one_failure(const char *spec)
{
	unsigned fds = nr_fds();
	struct dev *d = device(spec);
	struct dev_segment s;

	child_live_is(2);
	REQUIRE(segment_new(d, &s) == segment_wanted);
	child_live_is(2);
	REQUIRE(nr_fds() == fds);
	REQUIRE(segment_new(d, &s) == 0);
	segment_free(d, &s);
	REQUIRE(nr_fds() == fds);
	dev_free(d);
	child_live_is(0);
}

static void vmm_failure(int socket)
{
	one_failure("cuda-vmm:0");
}

static void ipc_failure(int socket)
{
	one_failure("cuda-ipc:0");
}

static void open_failure(int socket)
{
	struct dev *d;
	char note[256];

	REQUIRE(dev_new("cuda-vmm:0", wake, NULL, &d, note, sizeof(note)) ==
		-ENODEV);
	child_live_is(0);
	dev_free(device("cuda-vmm:0"));
}

static int convert_wanted; /* what convert() must say once */

static void convert_failure(int socket)
{
	struct dev *d = device("cuda-vmm:0");
	struct call c = { .what = CONVERT };
	struct dev_segment s;

	REQUIRE(segment_new(d, &s) == 0);
	c.seg = &s;
	REQUIRE(call(d, &c) == convert_wanted);
	REQUIRE(!dev_lost(d));
	REQUIRE(call(d, &c) == 0);
	segment_free(d, &s);
	dev_free(d);
	child_live_is(0);
}

/* From the kernels' loading to the flags' coming back. */
static void test_convert_faults(void **state)
{
	static const struct {
		const char *fault;
		int wanted;
	} faults[] = {
		{ "cuModuleLoadData:1", -EIO },
		{ "cuModuleLoadData:1:209", -EOPNOTSUPP },
		{ "cuModuleGetFunction:2", -EIO },
		{ "cuMemAlloc:1", -ENOMEM },
		{ "cuMemcpyHtoDAsync:1", -ENOMEM },
		{ "cuLaunchKernel:1", -EIO },
		{ "cuMemcpyDtoHAsync:1:700", -EIO },
	};

	if (!child_double())
		skip();
	for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
		convert_wanted = faults[i].wanted;
		run(convert_failure, "FAKECUDA_FAIL", faults[i].fault);
	}
}

static void test_faults(void **state)
{
	static const char *const vmm[] = { "cuMemCreate", "cuMemMap",
					   "cuMemExportToShareableHandle",
					   "cuMemAddressReserve",
					   "cuMemSetAccess",
					   "cuMemsetD8Async",
					   "cuStreamSynchronize" };
	static const char *const ipc[] = { "cuMemAlloc", "cuIpcGetMemHandle",
					   "cuMemsetD8Async" };
	static const char *const open[] = { "cuInit", "cuDeviceGetCount",
					    "cuDeviceGet",
					    "cuDevicePrimaryCtxRetain",
					    "cuCtxSetCurrent",
					    "cuCtxGetStreamPriorityRange",
					    "cuStreamCreateWithPriority" };
	char fault[64];

	if (!child_double())
		skip();
	segment_wanted = -ENOMEM;
	for (size_t i = 0; i < sizeof(vmm) / sizeof(vmm[0]); i++) {
		snprintf(fault, sizeof(fault), "%s:1", vmm[i]);
		run(vmm_failure, "FAKECUDA_FAIL", fault);
	}
	for (size_t i = 0; i < sizeof(ipc) / sizeof(ipc[0]); i++) {
		snprintf(fault, sizeof(fault), "%s:1", ipc[i]);
		run(ipc_failure, "FAKECUDA_FAIL", fault);
	}
	for (size_t i = 0; i < sizeof(open) / sizeof(open[0]); i++) {
		snprintf(fault, sizeof(fault), "%s:1", open[i]);
		run(open_failure, "FAKECUDA_FAIL", fault);
	}
	segment_wanted = -EIO;
	run(vmm_failure, "FAKECUDA_FAIL", "cuStreamSynchronize:1:700");
}

/* ---- the device is gone from some call on ---- */

static bool device_lost;

/* Once it is lost, it stays lost; and nothing else goes wrong. */
static void lost_or(int r)
{
	REQUIRE(r == (device_lost ? -EIO : 0) || r == -EIO);
	device_lost = r != 0;
}

static void lost(const char *spec)
{
	unsigned fds = nr_fds();
	struct dev_segment s;
	char note[256] = "";
	struct dev *d;
	int r, fd;

	alarm(30); /* more is a hang */
	device_lost = false;
	r = dev_new(spec, wake, NULL, &d, note, sizeof(note));
	if (r) {
		REQUIRE(r == -ENODEV && note[0]);
		REQUIRE(nr_fds() == fds);
		return;
	}
	for (int i = 0; i < 2; i++) {
		r = segment_new(d, &s);
		lost_or(r);
		if (r)
			continue;
		lost_or(call(d, &(struct call){ .what = ZERO, .seg = &s }));
		lost_or(call(d, &(struct call){ .what = CONVERT, .seg = &s }));
		fd = s.fd;
		segment_free(d, &s);
		REQUIRE(fd < 0 || fcntl(fd, F_GETFD) < 0);
	}
	dev_free(d);
	/* What a lost device does not take back stays with its driver. */
	REQUIRE(device_lost || child_live() || nr_fds() == fds);
}

static void vmm_lost(int socket)
{
	lost("cuda-vmm:0");
}

static void ipc_lost(int socket)
{
	lost("cuda-ipc:0");
}

static void test_lost(void **state)
{
	char at[16];

	for (int n = 1; n <= 60; n++) {
		snprintf(at, sizeof(at), "%d", n);
		run(vmm_lost, "FAKECUDA_LOST", at);
		run(ipc_lost, "FAKECUDA_LOST", at);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_life),
		cmocka_unit_test(test_ipc_export),
		cmocka_unit_test(test_vmm_restart),
		cmocka_unit_test(test_absent),
		cmocka_unit_test(test_faults),
		cmocka_unit_test(test_convert_faults),
		cmocka_unit_test(test_lost),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
