// SPDX-License-Identifier: Apache-2.0
/*
 * device_cuda_stage.c - rings of arrays under way to a GPU.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "client-lib/device_cuda_stage.h"

#define STAGE_BYTES (1u << 20)	/* to begin with */
#define STAGE_ALIGN 256u
#define STAGE_SLOTS 64u

static struct stage_slot *slot_at(const struct stage *s, uint32_t i)
{
	return &s->slots[(s->first + i) % s->room];
}

char *stage_host(const struct stage *s, const struct stage_slot *slot)
{
	return s->host + slot->begin % s->bytes;
}

cu_ptr stage_device(const struct stage *s, const struct stage_slot *slot)
{
	return s->device + slot->begin % s->bytes;
}

/* Memory is lacking, or worse. */
static int allocated(cu_result err)
{
	return !err ? 0 : err == CU_OUT_OF_MEMORY ? -ENOMEM : -EIO;
}

static void ring_free(struct stage *s)
{
	if (s->host)
		s->cu->cuMemFreeHost(s->host);
	if (s->device)
		s->cu->cuMemFree(s->device);
	s->host = NULL;
	s->device = 0;
	s->bytes = 0;
}

/* Rings of @bytes; there are no slots in use. */
static int ring_alloc(struct stage *s, uint64_t bytes)
{
	void *host;
	int r;

	ring_free(s);
	r = allocated(s->cu->cuMemHostAlloc(&host, bytes, 0));
	if (r)
		return r;
	s->host = host;
	r = allocated(s->cu->cuMemAlloc(&s->device, bytes));
	if (r) {
		s->device = 0;
		return r;
	}
	s->bytes = bytes;
	s->head = 0;
	return 0;
}

int stage_init(struct stage *s, const struct cuda_driver *cu)
{
	*s = (struct stage){ .cu = cu };
	return ring_alloc(s, STAGE_BYTES);
}

static void slot_settle(struct stage_slot *slot)
{
	for (uint32_t i = 0; i < slot->nr_flags; i++)
		if (slot->flags[i])
			*slot->flags_to[i] = 1;
	free(slot->flags_to);
	slot->flags_to = NULL;
	slot->nr_flags = 0;
	slot->done = true;
}

/* Slots done leave the ring in order; their events stay for the next. */
static void stage_pop(struct stage *s)
{
	while (s->nr && slot_at(s, 0)->done) {
		s->first = (s->first + 1) % s->room;
		s->nr--;
	}
}

void stage_reap(struct stage *s, uint64_t serial)
{
	for (uint32_t i = 0; i < s->nr; i++) {
		struct stage_slot *slot = slot_at(s, i);

		if (slot->serial > serial)
			break;
		/* After an error nothing more will come of it. */
		if (!slot->done &&
		    s->cu->cuEventQuery(slot->event) != CU_NOT_READY)
			slot_settle(slot);
	}
	stage_pop(s);
}

static int stage_wait_oldest(struct stage *s)
{
	struct stage_slot *slot = slot_at(s, 0);
	int r = 0;

	if (!slot->done) {
		if (s->cu->cuEventSynchronize(slot->event))
			r = -EIO;
		slot_settle(slot);
	}
	stage_pop(s);
	return r;
}

int stage_wait(struct stage *s)
{
	int r = 0;

	while (s->nr) {
		int one = stage_wait_oldest(s);

		r = r ? r : one;
	}
	return r;
}

void stage_fini(struct stage *s)
{
	stage_wait(s);
	for (uint32_t i = 0; i < s->room; i++)
		if (s->slots[i].event)
			s->cu->cuEventDestroy(s->slots[i].event);
	free(s->slots);
	if (s->cu)
		ring_free(s);
}

/* Room for one more slot: moves them when the array is full. */
static int slots_grow(struct stage *s)
{
	uint32_t room = s->room ? 2 * s->room : STAGE_SLOTS;
	struct stage_slot *slots;

	if (s->nr < s->room)
		return 0;
	slots = calloc(room, sizeof(*slots));
	if (!slots)
		return -ENOMEM;
	for (uint32_t i = 0; i < s->nr; i++)
		slots[i] = *slot_at(s, i);
	free(s->slots);
	s->slots = slots;
	s->room = room;
	s->first = 0;
	return 0;
}

/* Where @bytes next fit, in one piece. */
static uint64_t ring_place(const struct stage *s, uint64_t bytes)
{
	uint64_t offset = s->head % s->bytes;

	return offset + bytes <= s->bytes ? s->head : s->head + s->bytes - offset;
}

/* Waits until @bytes fit, in a larger ring if need be. */
static int ring_room(struct stage *s, uint64_t bytes, uint64_t *ret)
{
	uint64_t size = s->bytes;
	int r = 0;

	while (size < 4 * bytes)
		size *= 2;
	if (size > s->bytes) {
		r = stage_wait(s);
		if (!r)
			r = ring_alloc(s, size);
	}
	while (!r && s->nr &&
	       ring_place(s, bytes) + bytes > slot_at(s, 0)->begin + s->bytes)
		r = stage_wait_oldest(s);
	*ret = r ? 0 : ring_place(s, bytes);
	return r;
}

int stage_begin(struct stage *s, uint64_t bytes, struct stage_slot **ret)
{
	uint64_t size = (bytes + STAGE_ALIGN - 1) & ~(uint64_t)(STAGE_ALIGN - 1);
	struct stage_slot *slot;
	uint64_t begin;
	int r;

	if (!s->bytes) /* a larger ring could not be had */
		r = ring_alloc(s, STAGE_BYTES);
	else
		r = 0;
	if (!r)
		r = ring_room(s, size, &begin);
	if (!r)
		r = slots_grow(s);
	if (r)
		return r;
	slot = slot_at(s, s->nr);
	if (!slot->event)
		r = allocated(s->cu->cuEventCreate(&slot->event,
						   CU_EVENT_NO_TIMING));
	if (r) {
		slot->event = NULL;
		return r;
	}
	slot->serial = s->serial + 1;
	slot->begin = begin;
	slot->end = begin + size;
	slot->done = false;
	*ret = slot;
	return 0;
}

int stage_flags(struct stage_slot *slot, const uint32_t *words, uint32_t nr,
		uint32_t *const *to)
{
	slot->flags_to = malloc((nr + 1) * sizeof(*to));
	if (!slot->flags_to)
		return -ENOMEM;
	memcpy(slot->flags_to, to, nr * sizeof(*to));
	slot->flags = words;
	slot->nr_flags = nr;
	return 0;
}

int stage_end(struct stage *s, cu_stream stream)
{
	struct stage_slot *slot = slot_at(s, s->nr);

	s->serial = slot->serial;
	s->head = slot->end;
	s->nr++;
	if (s->cu->cuEventRecord(slot->event, stream) == CU_OK)
		return 0;
	/* Nothing is known of it any more: wait for it here. */
	s->cu->cuStreamSynchronize(stream);
	slot_settle(slot);
	stage_pop(s);
	return -EIO;
}
