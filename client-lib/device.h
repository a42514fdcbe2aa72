/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device.h - what a pool's device means to the client: map, launch, wait.
 *
 * A struct device belongs to one open space: the segments that the space has
 * mapped, and what the kernels need to run on them. Mappings are made on
 * demand and never move. They go away with the device all at once, or when no
 * page in them is used: no kernel in flight can lose its pages. device_host.c
 * runs kernels at once, on the calling thread; device_cuda.c records them on
 * the caller's stream, in the caller's current context.
 *
 * What append(), attend() and convert() are about is theirs for one call. A
 * struct device_fixed is a block of the device's memory that stays where it
 * is: calls that find all of it there can be captured in a graph.
 *
 * Nothing here is locked: one thread at a time, as kvd.h says.
 */
#ifndef CLIENT_LIB_DEVICE_H
#define CLIENT_LIB_DEVICE_H

#include <stdbool.h>
#include <stdint.h>
#include <kvd/kvd.h>
#include "kernels/kernels.h"

#define DEVICE_IPC_HANDLE_BYTES 64

struct device_event; /* a point in a stream */

/* A segment as the daemon handed it over. */
struct device_segment {
	uint32_t kind;	/* enum wire_segment_kind */
	int fd;		/* -1 for IPC; stays the caller's */
	uint64_t bytes;
	uint8_t ipc_handle[DEVICE_IPC_HANDLE_BYTES];
};

/* Byte @offset of mapped segment number @segment. */
struct device_place {
	uint64_t offset;
	uint32_t segment;
};

/*
 * The part every device shows. Implementations embed it first. The arrays may
 * move when they grow; what is in them never changes.
 */
struct device {
	const struct device_ops *ops;
	bool writable;			/* segments can be written */
	bool at_once;			/* calls are done when they return */
	bool mps;			/* an MPS server runs its kernels */
	uint32_t nr_segments;
	uint32_t room;			/* of the arrays */
	const void **read_only;		/* [nr_segments] addresses */
	void **writable_at;		/* [nr_segments]; NULL entries where
					 * the space is read-only */
	const void *const *device_read_only; /* the array read_only[], as
					      * kernels of the device see it */
};

/* A block at a fixed address; the implementation's begins with this. */
struct device_fixed {
	char *at;		/* where kernels find the block */
	uint32_t *flags;	/* words, clear at first, for kernels to set and
				 * the host to look at and clear */
	const struct kv_tables *tables[KVD_MAX_GROUPS]; /* for kernels */
};

struct device_fixed_want {
	uint64_t bytes;
	char *image;		/* [bytes], zero: what fixed_send() copies; the
				 * caller's, there until fixed_free() */
	uint32_t nr_flags;
	uint32_t nr_groups;
	const struct kv_attend_args *groups; /* [nr_groups]: what no set of
				 * arguments exceeds. Of pointers only tables */
	uint32_t max_q_heads;	/* 0: nothing is attended */
	uint32_t max_tokens;	/* of a sequence */
	uint32_t max_rows;	/* of a sequence */
	uint32_t share;		/* look for sequences that begin alike */
};

struct device_ops {
	/**
	 * open() - a device with no segments yet
	 * @spec:	as HelloReply.device says: "host", "cuda-ipc:0", ...
	 * @writable:	false: segments are mapped for reading only
	 *
	 * Return: 0, -ENOMEM, or -ENODEV when this process cannot reach it
	 * (no driver, no current context, a context of another GPU).
	 */
	int (*open)(const char *spec, bool writable, struct device **ret);

	/* Waits for all recorded work, unmaps everything. NULL is fine. */
	void (*close)(struct device *d);

	/**
	 * map() - map one more segment, as number d->nr_segments
	 *
	 * Return: 0 (d->nr_segments is one more), -ENOMEM, -ENODEV for a kind
	 * that this device does not know, -EPROTO where there are not so
	 * many bytes, -EIO. @s->fd is not consumed.
	 */
	int (*map)(struct device *d, const struct device_segment *s);

	/**
	 * unmap() - of one segment, in which no page is used any more
	 *
	 * Its number is of no segment then, and its addresses are NULL. May be
	 * NULL: not until close(). Return: 0, -EIO.
	 */
	int (*unmap)(struct device *d, uint32_t segment);

	/**
	 * append() - run or record kernels.h's append
	 * @a:		seqs and pages are host arrays that need not outlive
	 *		the call; k and v are the device's; bases and nonfinite
	 *		are filled in here
	 * @nr_pages:	entries of a->pages
	 * @nonfinite:	[a->nr_seqs] words to be set to 1 as kernels.h says,
	 *		at the latest when an event recorded after this call is
	 *		seen done; they live until then
	 *
	 * Return: 0, -ENOMEM, -EIO.
	 */
	int (*append)(struct device *d, struct kv_append_args *a,
		      uint32_t nr_pages, uint32_t *const *nonfinite,
		      kvd_stream stream);

	/**
	 * attend() - run or record kernels.h's attend
	 * @a:		as for append(); q, out, sinks and lse are the device's
	 *
	 * Return: 0, -ENOMEM, -EIO.
	 */
	int (*attend)(struct device *d, struct kv_attend_args *a,
		      uint32_t nr_pages, kvd_stream stream);

	/**
	 * convert() - run or record kernels.h's convert
	 * @a:		pages is a host array that need not outlive the call;
	 *		bases and nonfinite are filled in here
	 * @nonfinite:	[a->nr_pages], as for append(); NULL: of no interest
	 *
	 * Return: 0, -ENOMEM, -EIO.
	 */
	int (*convert)(struct device *d, struct kv_convert_args *a,
		       uint32_t *const *nonfinite, kvd_stream stream);

	/* A page that will be appended to. NULL: that is of no interest. */
	void (*expect)(struct device *d, struct device_place at,
		       uint64_t bytes);

	/* Copy bytes of one page to another, in stream order. 0, -ENOMEM, or
	 * -EIO. */
	int (*copy)(struct device *d, struct device_place dst,
		    struct device_place src, uint64_t bytes,
		    kvd_stream stream);

	/**
	 * event_record() - mark the end of what @stream has been given so far
	 * @ret:	the event, or NULL when all of it is done already
	 *
	 * Waits for it where there is no memory for an event. Return: 0, -EIO.
	 */
	int (*event_record)(struct device *d, kvd_stream stream,
			    struct device_event **ret);

	/* 1: done, 0: not yet, -EIO. A NULL event is done. Never blocks. */
	int (*event_done)(struct device *d, struct device_event *e);

	/* Blocks until done. 0 or -EIO. */
	int (*event_wait)(struct device *d, struct device_event *e);

	/* Done or not. NULL is fine. */
	void (*event_free)(struct device *d, struct device_event *e);

	/* Blocks until everything recorded through @d is done. 0 or -EIO. */
	int (*sync)(struct device *d);

	/* Is what @stream is given recorded, to be run by a graph? */
	bool (*capturing)(struct device *d, kvd_stream stream);

	/**
	 * fixed_new() - a block of zeros, and all that calls on it need
	 *
	 * Return: 0, -ENOMEM, -EIO.
	 */
	int (*fixed_new)(struct device *d, const struct device_fixed_want *w,
			 struct device_fixed **ret);

	/* No work uses it any more. NULL is fine. */
	void (*fixed_free)(struct device *d, struct device_fixed *f);

	/*
	 * Copies the image's first @bytes to the block, in stream order; the
	 * image may then change. 0, -ENOMEM, -EIO.
	 */
	int (*fixed_send)(struct device *d, struct device_fixed *f,
			  uint64_t bytes, kvd_stream stream);

	/*
	 * The calls above, but that only bases is filled in here: seqs, pages
	 * and nonfinite_at are in the block, tables and nonfinite are of @f.
	 * One at a time, in stream order. They allocate nothing, wait for
	 * nothing, and may be captured.
	 */
	int (*fixed_append)(struct device *d, struct device_fixed *f,
			    struct kv_append_args *a, kvd_stream stream);
	int (*fixed_attend)(struct device *d, struct device_fixed *f,
			    struct kv_attend_args *a, kvd_stream stream);
	int (*fixed_convert)(struct device *d, struct device_fixed *f,
			     struct kv_convert_args *a, kvd_stream stream);
};

extern const struct device_ops device_host_ops; /* device_host.c */
extern const struct device_ops device_cuda_ops; /* device_cuda.c */

/**
 * device_open() - open the device that @spec names
 *
 * Return: as device_ops.open(); -ENODEV for a name this build does not know.
 */
int device_open(const char *spec, bool writable, struct device **ret);

/**
 * device_grow() - room for one more entry in the segment arrays
 *
 * For map() of every device. Return: 0 or -ENOMEM.
 */
int device_grow(struct device *d);

#endif
