// SPDX-License-Identifier: Apache-2.0
/* revoke.c - segments that the daemon takes back. */
#include <stdbool.h>
#include "client-lib/conn.h"
#include "client-lib/map.h"
#include "client-lib/request.h"
#include "client-lib/revoke.h"
#include "client-lib/space.h"

void revoked_note(struct kvd *k, uint32_t id)
{
	struct revoked *v = &k->revoked;

	if (v->nr < REVOKE_MAX)
		v->ids[v->nr++] = id;
}

/* Return: it is mapped in no space any more. */
static bool unmap_all(struct kvd *k, uint32_t id)
{
	struct kvd_space *sp;
	bool gone = true;

	LIST_FOREACH(sp, &k->spaces, link)
		gone &= map_revoke(sp, id);
	return gone;
}

/* Those that are unmapped now are moved out of the list. */
static uint32_t take_unmapped(struct kvd *k, uint32_t *ids)
{
	struct revoked *v = &k->revoked;
	uint32_t nr = 0, left = 0;

	for (uint32_t i = 0; i < v->nr; i++)
		if (unmap_all(k, v->ids[i]))
			ids[nr++] = v->ids[i];
		else
			v->ids[left++] = v->ids[i];
	v->nr = left;
	return nr;
}

/* Who loses the connection is asked again on the next. */
void revoked_serve(struct kvd *k)
{
	uint32_t ids[REVOKE_MAX], nr;

	if (!k->revoked.nr || k->fd < 0)
		return;
	nr = take_unmapped(k, ids);
	if (nr)
		request_unmapped(k, ids, nr);
}
