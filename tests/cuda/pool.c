// SPDX-License-Identifier: Apache-2.0
/*
 * pool.c - a CUDA pool's two sides in two processes, for tests.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include "daemon/dev/dev.h"
#include "proto/wire.h"
#include "tests/cuda/child.h"
#include "tests/cuda/pool.h"

struct job {
	struct dev_job job;
	struct dev_segment seg;
	int r;
};

static void job_new(struct dev *d, struct dev_job *job)
{
	struct job *j = (struct job *)(void *)job;

	j->r = dev_ops(d)->segment_new(d, POOL_BYTES, &j->seg);
}

static void job_done(struct dev *d, struct dev_job *job)
{
}

static void wake(void *ctx)
{
}

const char *pool_spec;

/* Hands two segments over and lives until the other side hangs up. */
static void exporter(int socket)
{
	char note[256], c;
	struct dev *d;

	REQUIRE(dev_new(pool_spec, wake, NULL, &d, note, sizeof(note)) == 0);
	for (uint32_t i = 0; i < POOL_SEGMENTS; i++) {
		struct job j = { .job = { .run = job_new, .done = job_done } };
		struct dev_export e;

		dev_submit(d, &j.job);
		dev_drain(d);
		REQUIRE(j.r == 0);
		REQUIRE(dev_export(d, &j.seg, true, &e) == 0);
		child_send(socket, &e, sizeof(e), e.fd >= 0 ? e.fd : 0);
	}
	REQUIRE(read(socket, &c, 1) == 0);
}

static int from_exporter; /* inherited by the client's process */

/* A client's process between the exporter's beginning and its end. */
void pool_run(const char *spec, void (*client)(int))
{
	pid_t kvd, worker;
	int kvd_socket, worker_socket;

	pool_spec = spec;
	kvd = child_start(exporter, &kvd_socket);
	from_exporter = kvd_socket;
	worker = child_start(client, &worker_socket);
	assert_int_equal(child_wait(worker), 0);
	close(kvd_socket);
	close(worker_socket);
	assert_int_equal(child_wait(kvd), 0);
}

void pool_both(void (*client)(int))
{
	pool_run("cuda-vmm:0", client);
	pool_run("cuda-ipc:0", client);
}

/* What the exporter sends; its descriptors are the caller's. */
void pool_receive(struct device_segment *segments)
{
	for (uint32_t i = 0; i < POOL_SEGMENTS; i++) {
		struct device_segment *s = &segments[i];
		struct dev_export e;

		*s = (struct device_segment){ .bytes = POOL_BYTES };
		child_receive(from_exporter, &e, sizeof(e), &s->fd);
		s->kind = (uint32_t)e.kind;
		memcpy(s->ipc_handle, e.ipc_handle, sizeof(s->ipc_handle));
	}
}

/* Maps and closes all; the first error. */
int pool_map(struct device *d, const struct device_segment *segments)
{
	int r = 0;

	for (uint32_t i = 0; i < POOL_SEGMENTS; i++) {
		if (!r)
			r = d->ops->map(d, &segments[i]);
		REQUIRE(r || d->nr_segments == i + 1);
		close(segments[i].fd);
	}
	return r;
}
