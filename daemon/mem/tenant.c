/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tenant.c - who pays: tenants, their limit, their charge.
 */
#include "daemon/mem/tenant.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "daemon/mem/limits.h"
#include "daemon/mem/space.h"

void charge_init(struct charge *c, struct tenant *t, uint64_t bytes)
{
	assert(!c->tenant);
	c->tenant = t;
	c->bytes = bytes;
	t->charged += bytes;
}

void charge_fini(struct charge *c)
{
	assert(c->tenant && c->tenant->charged >= c->bytes);
	c->tenant->charged -= c->bytes;
	if (c->tenant->charged <= c->tenant->max_bytes)
		c->tenant->lowered = false;
	c->tenant = NULL;
	c->bytes = 0;
}

struct tenant *tenant_find(const struct mem *m, const char *name)
{
	list_for_each(pos, &m->tenants) {
		struct tenant *t = list_entry(pos, struct tenant, link);

		if (strcmp(t->name, name) == 0)
			return t;
	}
	return NULL;
}

/* Frees the record of a tenant that has nothing left but its name. */
static int tenant_recycle(struct mem *m)
{
	list_for_each(pos, &m->tenants) {
		struct tenant *t = list_entry(pos, struct tenant, link);
		int nr = t->record;

		if (!list_empty(&t->clients) || !list_empty(&t->segments) ||
		    t->nr_writers || t->making)
			continue;
		for (uint32_t i = 0; i < m->table.h->nr_spaces; i++)
			if (m->spaces[i] && m->spaces[i]->tenant == t)
				space_destroy(m->spaces[i]);
		m->table.tenants[nr].used = 0;
		tenant_free(t);
		return nr;
	}
	return -ENOSPC;
}

int tenant_restore(struct mem *m, int nr)
{
	const struct table_tenant *rec = &m->table.tenants[nr];
	struct tenant *t = calloc(1, sizeof(*t));

	if (!t)
		return -ENOMEM;
	t->m = m;
	t->record = nr;
	memcpy(t->name, rec->name, sizeof(t->name) - 1);
	memcpy(t->key, rec->key, sizeof(t->key));
	name_key_init(&t->name_key, t->key);
	list_init(&t->pins);
	list_init(&t->clients);
	list_init(&t->segments);
	list_init(&t->classes);
	list_add_tail(&m->tenants, &t->link);
	limits_apply(t);
	return 0;
}

int tenant_get(struct mem *m, const char *name,
	       const uint8_t key[NAME_KEY_BYTES], struct tenant **ret)
{
	struct tenant *t = tenant_find(m, name);
	int nr, r;

	if (t) {
		*ret = t;
		return 0;
	}
	if (name[0] == '\0' || strlen(name) >= TABLE_NAME_BYTES)
		return -EINVAL;
	nr = table_tenant_find(&m->table);
	if (nr < 0)
		nr = tenant_recycle(m);
	if (nr < 0)
		return nr;
	table_tenant_put(&m->table, nr, name, key);
	r = tenant_restore(m, nr);
	if (r < 0) {
		m->table.tenants[nr].used = 0;
		return r;
	}
	*ret = tenant_find(m, name);
	return 0;
}

uint32_t tenant_max_pages(const struct tenant *t)
{
	uint32_t all = t->m->table.h->nr_entries;
	uint64_t each = t->m->pool_max / all;
	uint64_t nr;

	if (!t->max_bytes || t->max_bytes >= t->m->pool_max || !each)
		return all;
	nr = (t->max_bytes + each - 1) / each;
	return nr < all ? (uint32_t)nr : all;
}

bool tenant_may_lose(const struct tenant *t, uint64_t bytes)
{
	return !t->min_bytes || !bytes ||
	       t->charged - t->tally.bytes[PAGE_REVOKED] >=
		       bytes + t->min_bytes;
}

uint64_t tenant_nr_pages(const struct tenant *t)
{
	uint64_t nr = 0;

	for (int i = PAGE_FREE + 1; i < PAGE_NR_STATES; i++)
		nr += t->tally.pages[i];
	return nr;
}

void tenant_free(struct tenant *t)
{
	assert(t->charged == 0 && t->nr_spaces == 0 && t->nr_writers == 0);
	assert(list_empty(&t->clients) && list_empty(&t->segments) &&
	       list_empty(&t->classes));
	list_del(&t->link);
	if (t->m->short_tenant == t)
		t->m->short_tenant = NULL;
	free(t);
}

bool tenant_is_mapped(const struct tenant *t)
{
	return !list_empty(&t->clients) || t->nr_writers;
}
