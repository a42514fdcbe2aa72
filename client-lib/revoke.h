/* SPDX-License-Identifier: Apache-2.0 */
/*
 * revoke.h - segments that the daemon takes back.
 *
 * It tells of one that has no pages any more. Where no page of ours is there
 * either it is unmapped, in every space, and the daemon is told so; until then
 * its bytes are charged to our tenant. It is noted when the event is read and
 * done when the connection is served, which is never amid a call that has
 * pages in its hands.
 */
#ifndef CLIENT_LIB_REVOKE_H
#define CLIENT_LIB_REVOKE_H

#include <stdint.h>

struct kvd;

#define REVOKE_MAX 256u	/* known at a time: the daemon asks for fewer */

struct revoked {
	uint32_t nr;
	uint32_t ids[REVOKE_MAX];
};

/* The daemon has said so. */
void revoked_note(struct kvd *k, uint32_t id);

/* Unmaps what can be, and says so. */
void revoked_serve(struct kvd *k);

#endif
