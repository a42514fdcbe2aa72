// SPDX-License-Identifier: Apache-2.0
/*
 * test_nomem.c - the daemon finds no memory, at each of its allocations once.
 *
 *	net_nomem [STRIDE]
 *
 * First in what clients ask for: who asks gets an error, or its connection is
 * closed; the daemon lives, balances, and serves the next. Then as it starts,
 * with what a predecessor left: it ends with an error, or serves; what was
 * published is there when it is started again. (libuv knows one error, abort(),
 * where its table of watchers is to grow: kvd has it grown before it listens.)
 * A start that fails takes a second: of starts only every STRIDEth allocation.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include "tests/support/check.h"
#include "tests/support/manager.h"
#include "tests/support/nomem.h"
#include "tests/support/raw.h"

#define PAGES 4
#define LIBUV_ABORTS 2	/* its table of watchers, grown twice at start */
#define QUIET 20	/* rounds that reach no failing allocation any more */

static const char *const args[] = { "--grace", "60s", NULL };
static struct nomem *nomem;
static struct manager m;

static void nomem_init(void)
{
	char text[16];
	int fd = memfd_create("kvd-nomem", 0);

	CHECK(fd >= 0 && ftruncate(fd, sizeof(*nomem)) == 0, "%s",
	      strerror(errno));
	/* Beyond those a service manager passes, and not close-on-exec. */
	fd = fcntl(fd, F_DUPFD, 500);
	nomem = mmap(NULL, sizeof(*nomem), PROT_READ | PROT_WRITE, MAP_SHARED,
		     fd, 0);
	CHECK(fd >= 0 && nomem != MAP_FAILED, "%s", strerror(errno));
	snprintf(text, sizeof(text), "%d", fd);
	setenv(NOMEM_FD_ENV, text, 1);
	setenv("LD_PRELOAD", NOMEM_SO, 1);
}

/* An answer of any kind in time, or the end of the connection. */
static int answered(int r, const char *what)
{
	CHECK(r != -ETIMEDOUT, "no answer to %s", what);
	return r;
}

static int ask(int fd, unsigned type, const ProtobufCMessage *req)
{
	return answered(raw_call(fd, type, req, NULL, NULL, NULL), "a request");
}

static void ask_admin(int fd, uint32_t space)
{
	Kvd__SubscribeRequest subscribe = KVD__SUBSCRIBE_REQUEST__INIT;
	Kvd__TenantSetRequest set = KVD__TENANT_SET_REQUEST__INIT;
	Kvd__ClientsRequest clients = KVD__CLIENTS_REQUEST__INIT;
	Kvd__TenantsRequest tenants = KVD__TENANTS_REQUEST__INIT;
	Kvd__SpacesRequest spaces = KVD__SPACES_REQUEST__INIT;
	Kvd__ReclaimRequest reclaim = KVD__RECLAIM_REQUEST__INIT;
	Kvd__StatRequest stat = KVD__STAT_REQUEST__INIT;
	Kvd__IndexRequest index = KVD__INDEX_REQUEST__INIT;
	Kvd__UnpinRequest unpin = KVD__UNPIN_REQUEST__INIT;
	Kvd__PinRequest pin = KVD__PIN_REQUEST__INIT;
	char ours[32];

	subscribe.space = space;
	subscribe.mask = WIRE_SUBSCRIBE_BLOCKS;
	ask(fd, WIRE_SUBSCRIBE, &subscribe.base);
	ask(fd, WIRE_CLIENTS, &clients.base);
	ask(fd, WIRE_TENANTS, &tenants.base);
	ask(fd, WIRE_SPACES, &spaces.base);
	stat.verify = 1;
	ask(fd, WIRE_STAT, &stat.base);
	index.space = space;
	ask(fd, WIRE_INDEX, &index.base);
	pin.space = space;
	pin.block = 1;
	pin.ttl_ms = 60000;
	ask(fd, WIRE_PIN, &pin.base);
	unpin.space = space;
	unpin.block = 1;
	ask(fd, WIRE_UNPIN, &unpin.base);
	snprintf(ours, sizeof(ours), "uid-%u", (unsigned)geteuid());
	set.name = ours;
	set.keys = 4;
	set.max = 32u << 20;
	ask(fd, WIRE_TENANT_SET, &set.base);
	reclaim.bytes = 1;
	ask(fd, WIRE_RECLAIM, &reclaim.base);
}

/* Whatever a client does, as far as it gets. In a process of its own. */
static void session(uint8_t model)
{
	Kvd__HelloRequest hello = KVD__HELLO_REQUEST__INIT;
	uint64_t h[PAGES];
	int fd = raw_connect(m.daemon.socket), space;

	CHECK(fd >= 0, "connect: %s", strerror(-fd));
	hello.version = WIRE_VERSION;
	if (ask(fd, WIRE_HELLO, &hello.base))
		_exit(0);
	space = answered(raw_open_space(fd, model), "opening a space");
	if (space < 0)
		_exit(0);
	if (answered(raw_alloc(fd, (uint32_t)space, PAGES, 5000, h, NULL),
		     "an allocation") == 0) {
		for (uint32_t i = 0; i < PAGES - 1; i++)
			answered(raw_publish(fd, (uint32_t)space, h[i],
					     100u * model + i), "publishing");
		answered(raw_match(fd, (uint32_t)space, h, 1), "a match");
		answered(raw_release(fd, h, 1), "a release");
	}
	ask_admin(fd, (uint32_t)space);
	if (model % 2)
		answered(raw_bye(fd), "bye");
	_exit(0);
}

static void run_session(uint8_t model)
{
	pid_t pid = fork();
	int status;

	CHECK(pid >= 0, "fork: %s", strerror(errno));
	if (pid == 0)
		session(model);
	CHECK(waitpid(pid, &status, 0) == pid, "%s", strerror(errno));
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0,
	      "a session ended with %#x, allocation %lu", status,
	      nomem->fail_at);
}

static void try_sessions(void)
{
	unsigned long nr = 0, quiet = 0, k;

	run_session(1);
	for (k = 1; quiet < QUIET; k++) {
		unsigned long failed = nomem->failed;

		nomem->fail_at = nomem->count + k;
		run_session((uint8_t)(k % 8));
		nomem->fail_at = 0;
		CHECK(waitpid(m.daemon.pid, NULL, WNOHANG) == 0,
		      "kvd has died at allocation %lu of a session", k);
		daemon_assert_idle_at(m.daemon.socket);
		quiet = nomem->failed > failed ? 0 : quiet + 1;
		nr += nomem->failed - failed;
	}
	printf("%lu allocations for clients failed, one at a time\n", nr);
	CHECK(nr > 20, "only %lu failed", nr);
}

/* ---- at start ---- */

static uint64_t published(uint64_t *h)
{
	int fd = raw_open(m.daemon.socket), space, got;

	space = raw_open_space(fd, 77);
	CHECK(space > 0, "%s", strerror(-space));
	if (!h[0]) {
		CHECK(raw_alloc(fd, (uint32_t)space, PAGES, 5000, h, NULL) == 0,
		      "no pages");
		for (uint32_t i = 0; i < PAGES; i++)
			CHECK(raw_publish(fd, (uint32_t)space, h[i], 7000 + i)
			      == 0, "not published");
	}
	got = raw_match(fd, (uint32_t)space, h, PAGES);
	raw_bye(fd);
	close(fd);
	return (uint64_t)got;
}

static void try_starts(unsigned long stride)
{
	unsigned long nr = 0, quiet = 0, aborts = 0, k;
	uint64_t h[PAGES] = { 0 };

	published(h);
	for (k = 1; quiet < 3; k += stride) {
		unsigned long failed = nomem->failed;
		int status;

		manager_kill(&m);
		nomem->fail_at = k;
		status = manager_try(&m, args);
		nomem->fail_at = 0;
		if (WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT)
			aborts++;
		else
			CHECK(status == 0 || (WIFEXITED(status) &&
					      WEXITSTATUS(status) == 1),
			      "kvd ended with %#x for want of allocation %lu",
			      status, k);
		if (status)
			manager_again(&m, args);
		CHECK(published(h) == PAGES,
		      "pages were lost for want of allocation %lu", k);
		quiet = nomem->failed > failed ? 0 : quiet + 1;
		nr += nomem->failed - failed;
	}
	printf("%lu allocations of starts failed, one at a time; libuv called "
	       "abort() for %lu\n", nr, aborts);
	CHECK(nr > 40 / stride && aborts <= LIBUV_ABORTS, "%lu failed", nr);
}

int main(int argc, char **argv)
{
	unsigned long stride = argc > 1 ? strtoul(argv[1], NULL, 0) : 1;

	CHECK(stride, "a stride of 0");
	nomem_init();
	manager_start(&m, args);
	try_sessions();
	try_starts(stride);
	daemon_stat(m.daemon.socket, &(struct daemon_stat){ 0 });
	manager_stop(&m);
	return 0;
}
