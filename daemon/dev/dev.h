/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dev.h - the memory behind a pool: one struct of operations, three devices.
 *
 * A device makes segments (large exportable allocations), exports them to
 * clients, and can take them back from a file descriptor after a restart.
 * Calls of struct dev_ops may block for long: they run on the device's own
 * thread only, through dev_submit(). Everything else here is for the loop's
 * thread.
 */
#ifndef DAEMON_DEV_DEV_H
#define DAEMON_DEV_DEV_H

#include <stdbool.h>
#include <stdint.h>
#include <stddef.h>
#include "daemon/util/worker.h"

#define DEV_IPC_HANDLE_BYTES 64
#define DEV_GRANULE (2u << 20)	/* segments are multiples of this */

struct dev;
struct page_layout;

/* One segment; the device's file keeps what it needs in it. */
struct dev_segment {
	uint64_t bytes;
	int fd;			/* memfd or exported VMM fd; -1: none */
	uint64_t base;		/* address in this process, 0: not mapped */
	uint64_t priv;		/* device handle */
	uint8_t ipc_handle[DEV_IPC_HANDLE_BYTES];
};

/* The numbers are enum wire_segment_kind's (proto/wire.h). */
enum dev_export_kind {
	DEV_EXPORT_MMAP = 0,
	DEV_EXPORT_VMM = 1,
	DEV_EXPORT_IPC = 2
};

/* Full pages to be stored once more, in another layout of the same basis. */
struct dev_convert_page {
	const struct dev_segment *from, *to;
	uint64_t from_at, to_at;	/* offsets there */
	uint32_t bad;		/* out: it holds what cannot be stored so */
};

struct dev_convert {
	const struct page_layout *from, *to;
	struct dev_convert_page *pages;
	uint32_t nr;
};

/* How a segment crosses to a client. */
struct dev_export {
	int kind;		/* enum dev_export_kind */
	int fd;			/* to send and then close; -1 for IPC */
	uint8_t ipc_handle[DEV_IPC_HANDLE_BYTES];
};

struct dev_ops {
	const char *name;	/* "host", "cuda-ipc", "cuda-vmm" */
	bool survives;		/* segments outlive the daemon through fds */
	int export_kind;	/* enum dev_export_kind */

	int (*open)(struct dev *d);
	void (*close)(struct dev *d);
	/* A zeroed segment, populated, ready to export. 0, -ENOMEM, -EIO */
	int (*segment_new)(struct dev *d, uint64_t bytes,
			   struct dev_segment *ret);
	/* The segment behind @fd, contents kept. Owns fd on success. */
	int (*segment_adopt)(struct dev *d, int fd, uint64_t bytes,
			     struct dev_segment *ret);
	void (*segment_free)(struct dev *d, struct dev_segment *s);
	int (*zero)(struct dev *d, struct dev_segment *s, uint64_t offset,
		    uint64_t bytes);
	/* Copy out of a segment: checks, tiers. */
	int (*read)(struct dev *d, struct dev_segment *s, uint64_t offset,
		    void *buf, uint64_t bytes);
	/* Copy between two segments, or within one where nothing overlaps. */
	int (*copy)(struct dev *d, struct dev_segment *to, uint64_t to_offset,
		    struct dev_segment *from, uint64_t from_offset,
		    uint64_t bytes);
	/* And into one: what a tier had. 0 or -EIO */
	int (*write)(struct dev *d, struct dev_segment *s, uint64_t offset,
		     const void *buf, uint64_t bytes);
	/* Of formats that need no profile. 0, -ENOMEM, -EIO; -EOPNOTSUPP where
	 * this build has no kernels for the device. */
	int (*convert)(struct dev *d, const struct dev_convert *c);
};

/**
 * dev_new() - open a device and start its thread
 * @spec:	"auto", "host", "cuda-ipc:N", "cuda-vmm:N"
 * @wake:	called on the device's thread after each finished job; must
 *		only arrange that dev_reap() is soon called on the loop's
 * @wake_ctx:	for @wake
 * @ret:	the device
 * @note:	what was chosen and why, or what failed; one line
 * @note_bytes:	size of @note
 *
 * auto takes cuda-vmm:0 where a driver with VMM export is, else cuda-ipc:0,
 * else host. Return: 0, -EINVAL bad @spec, -ENODEV no such device, -ENOMEM.
 */
int dev_new(const char *spec, void (*wake)(void *ctx), void *wake_ctx,
	    struct dev **ret, char *note, size_t note_bytes);

/* Waits for the running job, drops the queued ones, closes. NULL is fine. */
void dev_free(struct dev *d);

const struct dev_ops *dev_ops(const struct dev *d);

/* "host", "cuda-vmm:0" ... valid as long as @d. */
const char *dev_spec(const struct dev *d);

/* A piece of work for the device's thread. Embed it. */
struct dev_job {
	void (*run)(struct dev *d, struct dev_job *job);  /* device thread */
	void (*done)(struct dev *d, struct dev_job *job); /* loop thread */
	struct dev *dev;	/* dev.c's own, and: */
	struct worker_job work;
};

void dev_submit(struct dev *d, struct dev_job *job);

/* Runs done() of the jobs that have finished; on the loop's thread. */
void dev_reap(struct dev *d);

/*
 * Waits until everything submitted has finished and its done() has run, what
 * done() submits included. Blocks: start-up, shutdown, tests.
 */
void dev_drain(struct dev *d);

/* Jobs finished so far, and since when the same one runs, or is the next to
 * (ns, 0: there is none). */
void dev_progress(const struct dev *d, uint64_t *ret_jobs,
		  uint64_t *ret_since_ns);

/*
 * Can the device do nothing more, in this process (a GPU's error that stays)?
 * Another process may find it well, and what survives (dev_ops) unharmed.
 */
bool dev_lost(const struct dev *d);

/*
 * Does an MPS server run this process's work on the GPU, and so probably that
 * of others? Their death then does not say that their work has ended.
 */
bool dev_under_mps(const struct dev *d);

/**
 * dev_export() - what a client needs to map @s; the loop's thread
 * @writable:	false: a read-only fd where the device can give one (host)
 *
 * Never blocks: duplicates a descriptor or copies a handle. Return: 0 or
 * -EMFILE, -EIO. The caller closes ret->fd.
 */
int dev_export(struct dev *d, const struct dev_segment *s, bool writable,
	       struct dev_export *ret);

#endif
