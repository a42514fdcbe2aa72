// SPDX-License-Identifier: Apache-2.0
/*
 * rows_handles.c - pages that are not one's own, or not any more.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "proto/shm.h"
#include "tests/hostile/hostile.h"

/* A connection with the space that the victim has, in the own tenant. */
static int connect_in(uint32_t *space)
{
	int fd = raw_open(w->socket), id = raw_open_space(fd, MODEL);

	MUST(id > 0, "space: %s", strerror(-id));
	*space = (uint32_t)id;
	return fd;
}

static void alloc(int fd, uint32_t space, uint32_t nr, uint64_t *h)
{
	int r = raw_alloc(fd, space, nr, SLOW_MS, h, NULL);

	MUST(r == 0, "alloc: %s", strerror(-r));
}

static int reference(int fd, const uint64_t *h, size_t nr)
{
	Kvd__ReferenceRequest req = KVD__REFERENCE_REQUEST__INIT;

	req.n_handles = nr;
	req.handles = (uint64_t *)(uintptr_t)h;
	return raw_call(fd, WIRE_REFERENCE, &req.base, NULL, NULL, NULL);
}

static void none(int nr)
{
	MUST(nr <= 0, "%d granted", nr);
	if (nr < 0)
		want(nr, -ESTALE);
	else
		saw("none granted");
}

static void foreign_release(void)
{
	uint32_t space;
	int fd = connect_in(&space);

	for (int i = 0; i < NR_OPEN; i++)
		want(raw_release(fd, &w->victim.open[i], 1), -ESTALE);
	for (int i = 0; i < NR_PUBLISHED; i++)
		want(raw_release(fd, &w->victim.published[i], 1), -ESTALE);
}

static void foreign_match(void)
{
	uint32_t space;
	int fd = connect_in(&space);

	for (int i = 0; i < NR_PUBLISHED; i++)
		none(raw_match(fd, space, &w->victim.published[i], 1));
	none(raw_match(fd, space, w->victim.open, NR_OPEN));
}

static void foreign_reference(void)
{
	uint32_t space;
	int fd = connect_in(&space);

	want(reference(fd, w->victim.published, NR_PUBLISHED), -ESTALE);
	want(reference(fd, w->victim.open, NR_OPEN), -ESTALE);
}

static void foreign_publish(void)
{
	uint32_t space;
	int fd = connect_in(&space);

	want(raw_publish(fd, space, w->victim.open[0], 1), -ESTALE);
	want(raw_publish(fd, space, w->victim.published[0], 1), -ESTALE);
}

static void foreign_claim(void)
{
	uint32_t space;
	int fd = connect_in(&space);

	for (int i = 0; i < NR_OPEN; i++)
		none(raw_claim(fd, space, w->victim.open[i]));
	for (int i = 0; i < NR_PUBLISHED; i++)
		none(raw_claim(fd, space, w->victim.published[i]));
}

/* All generations near that of the victim's pages, and numbers near. */
static void guess(void)
{
	uint64_t h[256];
	uint32_t space;
	int fd = connect_in(&space);

	for (uint32_t nr = 0; nr < 64; nr++) {
		for (uint32_t gen = 0; gen < 256; gen++)
			h[gen] = handle_make(gen, nr);
		for (uint32_t gen = nr == 0; gen < 256; gen++)
			none(raw_match(fd, space, &h[gen], 1));
		want(raw_release(fd, h, 256), -ESTALE);
	}
}

static void out_of_range(void)
{
	const uint64_t h[] = { 0, 1, UINT64_MAX, UINT32_MAX,
			       handle_make(UINT32_MAX, 0),
			       handle_make(1, 0x7fffffff) };
	uint32_t space;
	int fd = connect_in(&space);

	for (size_t i = 0; i < sizeof(h) / sizeof(h[0]); i++) {
		want(raw_release(fd, &h[i], 1), -ESTALE);
		want(reference(fd, &h[i], 1), -ESTALE);
		if (h[i])
			none(raw_match(fd, space, &h[i], 1));
		none(raw_claim(fd, space, h[i]));
		if (h[i])
			want(raw_publish(fd, space, h[i], 1), -ESTALE);
	}
}

static void after_release(void)
{
	uint64_t h, again;
	uint32_t space;
	int fd = connect_in(&space);

	alloc(fd, space, 1, &h);
	want(raw_release(fd, &h, 1), 0);
	want(raw_release(fd, &h, 1), -ESTALE);
	want(reference(fd, &h, 1), -ESTALE);
	want(raw_publish(fd, space, h, 1), -ESTALE);
	none(raw_match(fd, space, &h, 1));
	none(raw_claim(fd, space, h));
	/* Nor when its number is used again. */
	for (int i = 0; i < 64; i++) {
		alloc(fd, space, 1, &again);
		MUST(again != h, "the same handle came again");
		want(raw_release(fd, &h, 1), -ESTALE);
		want(raw_publish(fd, space, h, 1), -ESTALE);
	}
}

static void give_up_own(int fd)
{
	Kvd__ReclaimRequest req = KVD__RECLAIM_REQUEST__INIT;
	Kvd__ReclaimReply *reply;
	protobuf_c_boolean more = 1;
	char name[16];
	int r;

	snprintf(name, sizeof(name), "uid-%d", HOSTILE);
	req.tenant = name;
	req.bytes = UINT64_MAX / 2;
	while (more) {
		r = raw_call(fd, WIRE_RECLAIM, &req.base,
			     &kvd__reclaim_reply__descriptor, &reply, NULL);
		MUST(r == 0, "reclaim: %s", strerror(-r));
		more = reply->more;
		kvd__reclaim_reply__free_unpacked(reply, NULL);
	}
}

static void after_eviction(void)
{
	uint64_t h, again;
	uint32_t space;
	int fd = connect_in(&space);

	alloc(fd, space, 1, &h);
	want(raw_publish(fd, space, h, 4711), 0);
	want(raw_release(fd, &h, 1), 0);
	give_up_own(fd);
	none(raw_match(fd, space, &h, 1));
	none(raw_claim(fd, space, h));
	alloc(fd, space, 1, &again);
	want(raw_publish(fd, space, again, 4711), 0);
	MUST(again != h, "the same handle came again");
	none(raw_match(fd, space, &h, 1));
	want(raw_release(fd, &again, 1), 0);
	give_up_own(fd);
}

static void too_often(void)
{
	uint64_t h[WIRE_MAX_PAGES], one;
	uint32_t space;
	int fd = connect_in(&space);

	alloc(fd, space, 1, &one);
	for (uint32_t i = 0; i < WIRE_MAX_PAGES; i++)
		h[i] = one;
	want(raw_release(fd, h, WIRE_MAX_PAGES), -ESTALE);
	alloc(fd, space, 1, &one);
	want(raw_publish(fd, space, one, 4712), 0);
	for (uint32_t i = 0; i < WIRE_MAX_PAGES; i++)
		h[i] = one;
	want(reference(fd, h, WIRE_MAX_PAGES - 1), 0);
	want(raw_release(fd, h, WIRE_MAX_PAGES), 0);
	want(raw_release(fd, h, 1), -ESTALE);
	give_up_own(fd);
}

/* Holds without end of one's own page. */
static void claim_all(void)
{
	Kvd__ClaimRequest req = KVD__CLAIM_REQUEST__INIT;
	uint64_t h[WIRE_MAX_PAGES];
	uint32_t space, holds[WIRE_MAX_PAGES];
	int fd = connect_in(&space);

	alloc(fd, space, 1, h);
	want(raw_publish(fd, space, h[0], 4713), 0);
	for (uint32_t i = 0; i < WIRE_MAX_PAGES; i++) {
		h[i] = h[0];
		holds[i] = UINT32_MAX;
	}
	req.space = space;
	req.n_handles = req.n_holds = WIRE_MAX_PAGES;
	req.handles = h;
	req.holds = holds;
	for (int i = 0; i < 8; i++)
		want(raw_call(fd, WIRE_CLAIM, &req.base, NULL, NULL, NULL), 0);
	want(raw_release(fd, h, WIRE_MAX_PAGES), 0);
	want(raw_bye(fd), 0);
	fd = connect_in(&space);
	none(raw_claim(fd, space, w->victim.published[0]));
	give_up_own(fd);
	saw("given back with a bye");
}

/* Another's open page within one tenant: not published by who has it not. */
static void own_tenants(void)
{
	uint32_t space, space2;
	int fd = connect_in(&space), fd2 = connect_in(&space2);
	uint64_t h;

	MUST(space == space2, "two spaces");
	alloc(fd, space, 1, &h);
	want(raw_release(fd2, &h, 1), -ESTALE);
	want(raw_publish(fd2, space, h, 1), -ESTALE);
	none(raw_match(fd2, space, &h, 1));
	want(reference(fd2, &h, 1), -ESTALE);
}

const struct row rows_handles[] = {
	{ "handle: release", "to release the victim's pages",
	  foreign_release },
	{ "handle: match", "to match them, in a space of the same model",
	  foreign_match },
	{ "handle: reference", "to take another hold on them",
	  foreign_reference },
	{ "handle: publish", "to publish them", foreign_publish },
	{ "handle: claim", "to claim them, with no restart", foreign_claim },
	{ "handle: guess", "256 generations of 64 page numbers", guess },
	{ "handle: out of range", "0, numbers and generations at the ends",
	  out_of_range },
	{ "handle: after release", "every request with a handle given back",
	  after_release },
	{ "handle: after eviction", "a page that was evicted, and came again",
	  after_eviction },
	{ "handle: twice", "to release one hold hundreds of times", too_often },
	{ "handle: holds", "to overflow the number of holds by claims",
	  claim_all },
	{ "handle: a colleague's", "an open page of another connection of "
	  "the same tenant", own_tenants },
	{ 0 }
};
