/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mma_ring.cuh - a warp's way through its runs: stages of pages, copied to
 * shared memory well before they are needed.
 *
 * A warp has the runs of one number in all quads of an item. It looks up the
 * addresses of its next 32 records at once, one a lane, and keeps as many
 * copies in flight as its ring has stages. ring_begin() starts an item,
 * ring_wait() gives the next stage of a run, ring_next() gives it back.
 */
#ifndef KERNELS_CUDA_MMA_RING_CUH
#define KERNELS_CUDA_MMA_RING_CUH

#include <mma.cuh>
#include "kernels/cuda/mma.h"
#include "kernels/cuda/page.cuh"

/* One tile of columns over a range of quads. */
struct item {
	const struct kv_seq *seq; /* of a bundle, the first */
	bool bundle;
	uint32_t kv_head;
	uint32_t group;		/* query heads of a kv head */
	uint32_t first_column;	/* of the sequence */
	uint32_t nr_columns;
	uint32_t begin, end;	/* positions that some column sees */
	uint32_t first_quad, last_quad;
};

struct ring {
	const struct mma_params *p;
	const struct item *x;	/* in shared memory */
	uint8_t *stages;	/* [depth] of this warp */
	struct mma_slot *slots;
	uint32_t lane;
	uint32_t warp;
	uint32_t issued, taken;	/* stages, since the kernel began */
	uint32_t pos;		/* of the next stage to be copied */
	uint64_t record;	/* the lane's: address, and layout below 16 */
	uint32_t table;		/* record number of lane 0's */
};

DEVICE void ring_init(struct ring &r, const struct mma_params *p,
		      const struct item *x, uint8_t *shared,
		      const struct mma_shared &at)
{
	r.p = p;
	r.x = x;
	r.lane = threadIdx.x % WARP;
	r.warp = threadIdx.x / WARP;
	r.stages = shared + at.rings + r.warp * p->depth * p->stage_bytes;
	r.slots = (struct mma_slot *)(shared + at.slots) +
		  r.warp * MMA_MAX_DEPTH;
	r.issued = r.taken = 0;
	if (!device_bulk())
		return;
	if (r.lane < p->depth)
		mbar_init(&r.slots[r.lane].barrier, 1);
	mbar_fence_init();
	__syncwarp();
}

/* This lane's record of the 32 from number @first of the warp's. */
DEVICE void ring_look_up(struct ring &r, uint32_t first)
{
	const struct kv_attend_args *a = &r.p->args;
	const uint32_t page_tokens = a->layouts[0].page_tokens;
	const uint32_t of_run = MMA_RUN / page_tokens, n = first + r.lane;
	const uint32_t pos = (r.x->first_quad + n / of_run) * MMA_QUAD +
			     r.warp * MMA_RUN + n % of_run * page_tokens;

	r.table = first;
	r.record = 0;
	if (pos >= r.x->end || pos + page_tokens <= r.x->begin)
		return;
	const struct kv_page_ref *ref =
		&a->pages[kv_seq_page(r.x->seq, pos / page_tokens)];
	const uint64_t base = (uint64_t)(uintptr_t)a->bases[ref->segment];

	r.record = (base + ref->offset +
		    page_record(&a->layouts[ref->layout], a->layer,
				r.x->kv_head)) |
		   ref->layout;
}

/* The record of position r.pos. */
DEVICE uint64_t ring_record(struct ring &r)
{
	const uint32_t page_tokens = r.p->args.layouts[0].page_tokens;
	const uint32_t n = (r.pos / MMA_QUAD - r.x->first_quad) *
				   (MMA_RUN / page_tokens) +
			   r.pos % MMA_RUN / page_tokens;

	if (n - r.table >= WARP)
		ring_look_up(r, n);
	const uint32_t low = __shfl_sync(ALL_LANES, (uint32_t)r.record,
					 n - r.table);
	const uint32_t high = __shfl_sync(
		ALL_LANES, (uint32_t)(r.record >> 32), n - r.table);

	return (uint64_t)high << 32 | low;
}

DEVICE void ring_copy(const struct ring &r, uint8_t *to, const uint8_t *from,
		      uint32_t bytes, struct mma_slot *slot)
{
	if (device_bulk()) {
		if (r.lane == 0)
			bulk_copy(to, from, bytes, &slot->barrier);
		return;
	}
	for (uint32_t i = r.lane * 16; i < bytes; i += WARP * 16)
		copy16(to + i, from + i);
}

/* Codes of @n tokens from number @t of one side, both planes of 3 bits. */
DEVICE void ring_copy_codes(const struct ring &r, uint8_t *to,
			    const uint8_t *from, const struct codes &c,
			    uint32_t t, uint32_t n, struct mma_slot *slot)
{
	const uint32_t bits = format_bits(c.format);
	const uint32_t row = c.dim * (bits == 3 ? 2 : bits) / 8;

	ring_copy(r, to, from + t * row, n * row, slot);
	if (bits == 3)
		ring_copy(r, to + n * row,
			  from + c.tokens * row + t * (row / 2), n * (row / 2),
			  slot);
}

/* Copies of the stage of tokens @t and on, of @record. */
DEVICE void ring_copies(const struct ring &r, const uint8_t *record,
			const struct page_layout *l,
			const struct mma_stage *s, uint32_t t, uint8_t *to,
			struct mma_slot *slot)
{
	if (s->tokens == l->page_tokens) {
		ring_copy(r, to, record, l->record_bytes, slot);
		return;
	}
	ring_copy_codes(r, to, record, page_codes(l, 0), t, s->tokens, slot);
	if (l->v_codes > l->k_meta)
		ring_copy(r, to + s->k_meta, record + l->k_meta,
			  l->v_codes - l->k_meta, slot);
	ring_copy_codes(r, to + s->v_codes, record + l->v_codes,
			page_codes(l, 1), t, s->tokens, slot);
	if (l->record_bytes > l->v_meta)
		ring_copy(r, to + s->v_meta, record + l->v_meta,
			  l->record_bytes - l->v_meta, slot);
}

/* Starts the copy of the next stage, if there is one. */
DEVICE void ring_issue(struct ring &r)
{
	const uint32_t page_tokens = r.p->args.layouts[0].page_tokens;
	const uint32_t at = r.issued % r.p->depth;

	/* Past what no column sees: whole pages, then whole runs. */
	while (r.pos < r.x->end && r.pos + page_tokens <= r.x->begin) {
		r.pos += page_tokens;
		if (r.pos % MMA_RUN == 0)
			r.pos += MMA_QUAD - MMA_RUN;
	}
	if (r.pos < r.x->end) {
		const uint64_t record = ring_record(r);
		const uint32_t layout = (uint32_t)record % 16;
		const struct mma_stage *s = &r.p->stages[layout];

		while (r.pos + s->tokens <= r.x->begin)
			r.pos += s->tokens;
		if (r.lane == 0) {
			r.slots[at].pos = r.pos;
			r.slots[at].layout = layout;
			if (device_bulk())
				mbar_expect(&r.slots[at].barrier, s->bytes);
		}
		ring_copies(r, (const uint8_t *)(uintptr_t)(record - layout),
			    &r.p->args.layouts[layout], s, r.pos % page_tokens,
			    r.stages + at * r.p->stage_bytes, &r.slots[at]);
		r.issued++;
		r.pos += s->tokens;
		if (r.pos % MMA_RUN == 0)
			r.pos += MMA_QUAD - MMA_RUN;
	}
	if (!device_bulk())
		copy16_commit(); /* an empty one keeps the count */
	__syncwarp();
}

/* Starts with the item that is in shared memory now. */
DEVICE void ring_begin(struct ring &r)
{
	r.pos = r.x->first_quad * MMA_QUAD + r.warp * MMA_RUN;
	ring_look_up(r, 0);
	for (uint32_t i = 0; i < r.p->depth; i++)
		ring_issue(r);
}

/* All but the newest depth - 1 copies have arrived. */
DEVICE void ring_wait_copies(uint32_t depth)
{
	switch (depth) {
	case 1:
		copy16_wait<0>();
		break;
	case 2:
		copy16_wait<1>();
		break;
	case 3:
		copy16_wait<2>();
		break;
	case 4:
		copy16_wait<3>();
		break;
	case 5:
		copy16_wait<4>();
		break;
	case 6:
		copy16_wait<5>();
		break;
	case 7:
		copy16_wait<6>();
		break;
	default:
		copy16_wait<7>();
	}
	__syncwarp();
}

/*
 * The next stage of the run of position @run, once it is there. Return: its
 * first byte, with its position and layout; NULL: the run has no more.
 */
DEVICE const uint8_t *ring_wait(struct ring &r, uint32_t run, uint32_t &pos,
				uint32_t &layout)
{
	const uint32_t at = r.taken % r.p->depth;

	if (r.taken == r.issued || r.slots[at].pos / MMA_RUN != run / MMA_RUN)
		return NULL;
	pos = r.slots[at].pos;
	layout = r.slots[at].layout;
	if (device_bulk())
		mbar_wait(&r.slots[at].barrier, r.taken / r.p->depth % 2);
	else
		ring_wait_copies(r.p->depth);
	return r.stages + at * r.p->stage_bytes;
}

/* The stage that ring_wait() gave has been read. */
DEVICE void ring_next(struct ring &r)
{
	__syncwarp();
	r.taken++;
	ring_issue(r);
}

#endif
