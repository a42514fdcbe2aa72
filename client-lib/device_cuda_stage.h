/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device_cuda_stage.h - what a recorded call needs until it has run.
 *
 * A ring of page-locked host memory and one of device memory, as large: a call
 * writes its arrays into a slot of the first, records their copy into the same
 * place of the second, and its kernel reads them there. A slot lasts until the
 * event recorded after its call is done. Slots are taken and given back in
 * order; a call that finds the ring full waits for the oldest.
 *
 * A call without arrays has a slot too: so that waiting for all slots is
 * waiting for all calls.
 */
#ifndef CLIENT_LIB_DEVICE_CUDA_STAGE_H
#define CLIENT_LIB_DEVICE_CUDA_STAGE_H

#include <stdbool.h>
#include <stdint.h>
#include "kernels/cuda/driver.h"

struct stage_slot {
	uint64_t serial;	/* of calls, from 1 */
	uint64_t begin, end;	/* positions in the ring */
	cu_event event;
	bool done;
	uint32_t nr_flags;	/* words the kernel may set, page-locked, */
	const uint32_t *flags;
	uint32_t **flags_to;	/* and where each must come to */
};

struct stage {
	const struct cuda_driver *cu;
	char *host;
	cu_ptr device;
	uint64_t bytes;		/* of the ring; positions are modulo this */
	uint64_t head;		/* where the next slot begins */
	uint64_t serial;	/* of the last call */
	struct stage_slot *slots; /* [room], a ring too */
	uint32_t room;
	uint32_t first;		/* oldest */
	uint32_t nr;
};

/* Return: 0, -ENOMEM, -EIO. After an error stage_fini() is still due. */
int stage_init(struct stage *s, const struct cuda_driver *cu);

/* Waits for everything. */
void stage_fini(struct stage *s);

/**
 * stage_begin() - a slot for the next call
 * @bytes:	that its arrays need
 * @ret:	filled in but for flags; valid until the next call here
 *
 * stage_end() must follow. Return: 0, -ENOMEM, -EIO.
 */
int stage_begin(struct stage *s, uint64_t bytes, struct stage_slot **ret);

/* Where the slot's arrays are. */
char *stage_host(const struct stage *s, const struct stage_slot *slot);
cu_ptr stage_device(const struct stage *s, const struct stage_slot *slot);

/**
 * stage_flags() - expect flags from the slot's call
 * @words:	in the slot's host memory, zero now
 * @to:		[nr] words to be set to 1 as these are, when the call is done
 *
 * Return: 0 or -ENOMEM.
 */
int stage_flags(struct stage_slot *slot, const uint32_t *words, uint32_t nr,
		uint32_t *const *to);

/* All of the call is recorded on @stream. 0 or -EIO */
int stage_end(struct stage *s, cu_stream stream);

/*
 * Takes note of calls up to number @serial that are done, or that an error
 * has ended: no flag of theirs is written to later. Never blocks.
 */
void stage_reap(struct stage *s, uint64_t serial);

/* Waits for all calls. 0 or -EIO */
int stage_wait(struct stage *s);

#endif
