/* SPDX-License-Identifier: Apache-2.0 */
/*
 * move.h - cached pages go from a segment that is being emptied to others.
 *
 * A page is copied on the device's thread, to a new page of the same class. As
 * long as that takes, a client that is nobody holds both: the old one SEALED,
 * so nobody gives it up, the new one OPEN. Then, unless somebody else holds the
 * old one by now, the new one has its name, and the old one is FREE. A daemon
 * that is killed meanwhile leaves the old page, or the new one, or both with
 * one name, of which a successor keeps the first.
 */
#ifndef DAEMON_MEM_MOVE_H
#define DAEMON_MEM_MOVE_H

#include "daemon/mem/segment.h"

enum move_result {
	MOVE_DONE = 0,		/* some are on their way, or were given up */
	MOVE_NONE,		/* there is nothing to move */
	MOVE_STUCK		/* there is no room, and none may be made */
};

/*
 * move_some() - a bounded number of cached pages of @seg, which is draining
 * None is on its way: mem.move is NULL. Where the tenant has no room it gives
 * up its coldest pages, unless its min keeps them.
 */
enum move_result move_some(struct segment *seg);

#endif
