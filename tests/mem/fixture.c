/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fixture.c - a pool on a device, driven by hand.
 */
#include "tests/mem/fixture.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- what mem/ tells upward ---- */

static void fx_room(void *ctx)
{
	((struct fx *)ctx)->rooms++;
}

static void fx_keep(void *ctx, const char *name, int fd)
{
	struct fx *f = ctx;

	for (int i = 0; i < MAX_KEPT; i++) {
		assert_string_not_equal(f->kept[i].name, name);
		if (f->kept[i].name[0])
			continue;
		snprintf(f->kept[i].name, sizeof(f->kept[i].name), "%s", name);
		f->kept[i].fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
		assert_true(f->kept[i].fd >= 0);
		return;
	}
	fail_msg("more than %d descriptors to keep", MAX_KEPT);
}

static void fx_drop(void *ctx, const char *name)
{
	struct fx *f = ctx;
	bool found = false;

	for (int i = 0; i < MAX_KEPT; i++)
		if (strcmp(f->kept[i].name, name) == 0) {
			close(f->kept[i].fd);
			f->kept[i].name[0] = '\0';
			found = true;
		}
	if (!found)
		fail_msg("%s was not kept", name);
}

static void fx_recall(void *ctx, struct mem_client *client)
{
	struct fx *f = ctx;

	f->recalls++;
	f->recalled = client;
}

static void fx_changed(void *ctx, void *watch, const struct mem_change *what)
{
	struct fx *f = ctx;

	f->changed(f, watch, what);
}

static void fx_work(void *ctx)
{
	((struct fx *)ctx)->works++;
}

static void fx_revoked(void *ctx, struct mem_client *client, uint32_t segment)
{
	struct fx *f = ctx;

	if (f->revoked)
		f->revoked(client, segment);
}

static const struct mem_ops fx_ops = {
	.room = fx_room,
	.keep_fd = fx_keep,
	.drop_fd = fx_drop,
	.recall = fx_recall,
	.changed = fx_changed,
	.work = fx_work,
	.revoked = fx_revoked,
};

static void fx_wake(void *ctx)
{
}

/* ---- life ---- */

int fx_new(struct fx *f)
{
	struct mem_fd fds[MAX_KEPT];
	struct kept was[MAX_KEPT];
	int r, nr = 0;

	memcpy(was, f->kept, sizeof(was));
	for (int i = 0; i < MAX_KEPT; i++)
		if (was[i].name[0]) {
			fds[nr].name = was[i].name;
			fds[nr++].fd = fcntl(was[i].fd, F_DUPFD_CLOEXEC, 0);
		}
	r = mem_new(&f->cfg, &fx_ops, f, f->dev, fds, (size_t)nr, f->note,
		    sizeof(f->note), &f->m);
	for (int i = 0; i < nr; i++)
		if (fds[i].fd >= 0)
			close(fds[i].fd);
	return r;
}

void fx_init(struct fx *f, uint64_t pool_bytes, uint64_t segment_bytes)
{
	fx_init_elastic(f, pool_bytes, 0, segment_bytes);
}

void fx_init_elastic(struct fx *f, uint64_t pool_bytes, uint64_t max_bytes,
		     uint64_t segment_bytes)
{
	const char *spec = getenv("KVD_TEST_DEVICE");

	memset(f, 0, sizeof(*f));
	f->cfg.pool_bytes = pool_bytes;
	f->cfg.pool_max = max_bytes;
	f->cfg.segment_bytes = segment_bytes;
	f->cfg.policy = getenv("KVD_TEST_POLICY");
	if (!f->cfg.policy)
		f->cfg.policy = "lru";
	if (dev_new(spec ? spec : "host", fx_wake, NULL, &f->dev, f->note,
		    sizeof(f->note)) < 0)
		fail_msg("%s", f->note);
	assert_int_equal(fx_new(f), 0);
	fx_verify(f);
}

void fx_fini(struct fx *f)
{
	fx_verify(f);
	mem_free(f->m);
	dev_free(f->dev);
	fx_forget(f);
}

void fx_forget(struct fx *f)
{
	for (int i = 0; i < MAX_KEPT; i++)
		if (f->kept[i].name[0])
			close(f->kept[i].fd);
	memset(f->kept, 0, sizeof(f->kept));
}

void fx_restart(struct fx *f)
{
	fx_verify(f);
	mem_free(f->m);
	assert_int_equal(fx_new(f), 0);
	fx_verify(f);
}

void fx_verify(struct fx *f)
{
	char why[200] = "";

	if (mem_verify(f->m, why, sizeof(why)) < 0)
		fail_msg("%s", why);
}

uint64_t fx_pages(struct fx *f, enum page_state s)
{
	struct mem_stat st;

	mem_stat(f->m, &st);
	return st.pages.of[s];
}

void fx_limit(struct fx *f, const char *tenant, uint64_t min, uint64_t high,
	      uint64_t max)
{
	struct mem_limits l = { min, high, max };

	assert_int_equal(mem_tenant_set(f->m, tenant, &l), 0);
	while (mem_trim(f->m))
		;
}

struct mem_client *fx_client(struct fx *f, pid_t pid, const char *tenant,
			     uint64_t max)
{
	struct mem_client_id id = { .pid = pid, .start_time = 1000u };
	uint8_t key[NAME_KEY_BYTES] = { 0 };
	struct mem_client *c;

	key[0] = (uint8_t)tenant[0];
	if (max)
		fx_limit(f, tenant, 0, 0, max);
	assert_int_equal(mem_client_new(f->m, &id, tenant, key, f, &c), 0);
	return c;
}

/* ---- spaces ---- */

struct mem_space_key fx_key(uint8_t model, const uint32_t *layers)
{
	struct mem_space_key key = { .model = { model }, .tp_size = 1 };
	struct kvd_geometry *g = &key.geometry;

	g->size = sizeof(*g);
	g->page_tokens = 64;
	g->k_format = KVD_F16;
	g->v_format = KVD_F16;
	for (uint32_t i = 0; layers[i]; i++) {
		g->groups[i] = (struct kvd_group){
			.nr_layers = layers[i],
			.nr_kv_heads = 1,
			.k_dim = 64,
			.v_dim = 64,
			.window = i ? 128 * i : 0,
		};
		g->nr_groups++;
	}
	return key;
}

struct mem_space_key fx_kivi_key(uint8_t model, const uint32_t *layers,
				 uint32_t exact)
{
	struct mem_space_key key = fx_key(model, layers);
	struct kvd_geometry *g = &key.geometry;

	g->k_format = KVD_KIVI4;
	g->v_format = KVD_KIVI4;
	for (uint32_t i = 0; i < g->nr_groups; i++)
		g->groups[i].exact = exact >> i & 1;
	return key;
}

struct mem_space *fx_open(struct mem_client *c,
			  const struct mem_space_key *key)
{
	struct mem_space *s;
	const char *why;

	if (mem_space_open(c, key, &s, &why) < 0)
		fail_msg("%s", why);
	return s;
}

struct mem_space *fx_space(struct mem_client *c, uint8_t model,
			   const uint32_t *layers)
{
	struct mem_space_key key = fx_key(model, layers);

	return fx_open(c, &key);
}

/* ---- pages ---- */

int fx_alloc(struct fx *f, struct mem_client *c, struct mem_space *s,
	     uint32_t class, uint32_t nr, handle_t *handles)
{
	place_t places[1024];
	uint64_t need;
	int r;

	for (int i = 0; i < 100; i++) {
		int rooms = f->rooms, works = f->works;

		r = mem_alloc(c, s, class, nr, handles, places, &need);
		if (r != -EAGAIN)
			break;
		dev_drain(f->dev);
		while (f->works != works && mem_trim(f->m))
			;
		if (f->rooms == rooms)
			break;
	}
	dev_drain(f->dev);
	return r;
}

handle_t fx_page(struct fx *f, struct mem_client *c, struct mem_space *s,
		 uint32_t class)
{
	handle_t h;

	assert_int_equal(fx_alloc(f, c, s, class, 1, &h), 0);
	return h;
}

void fx_release(struct mem_client *c, handle_t h)
{
	uint32_t nr;

	assert_int_equal(mem_release(c, &h, 1, &nr), 0);
	assert_int_equal(nr, 1);
}

static uint32_t fx_tokens[64];

struct mem_block fx_block(const struct mem_space *s, uint32_t seq,
			  uint32_t depth)
{
	struct mem_block b = { .depth = depth, .tokens = fx_tokens };

	if (depth)
		b.parent = fx_name(s, seq, depth - 1);
	for (uint32_t i = 0; i < 64; i++)
		fx_tokens[i] = seq * 1000000 + depth * 64 + i;
	return b;
}

struct name fx_name(const struct mem_space *s, uint32_t seq, uint32_t depth)
{
	struct name name = { { 0 } }, extra = { { 0 } };
	struct name_key key;
	uint32_t tokens[64];

	name_key_init(&key, mem_space_name_key(s));
	for (uint32_t d = 0; d <= depth; d++) {
		for (uint32_t i = 0; i < 64; i++)
			tokens[i] = seq * 1000000 + d * 64 + i;
		name = name_block(&key, &name, &extra, tokens, 64);
	}
	return name;
}

handle_t fx_publish(struct mem_client *c, struct mem_space *s, uint32_t seq,
		    uint32_t depth, uint32_t class, handle_t h)
{
	struct mem_block b = fx_block(s, seq, depth);
	handle_t handles[MEM_MAX_CLASSES];
	place_t places[MEM_MAX_CLASSES];

	b.pages[class] = h;
	assert_int_equal(mem_publish(c, s, &b, false, handles, places), 0);
	return handles[class];
}

/* ---- a client's view ---- */

handle_t fx_lookup(const struct mem_space *s, uint32_t seq, uint32_t depth,
		   uint32_t class)
{
	struct name name = fx_name(s, seq, depth);
	const struct shm_index *ix;
	handle_t found = 0;
	struct stat st;
	uint32_t nr;

	assert_int_equal(fstat(mem_space_index_fd(s), &st), 0);
	ix = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED,
		  mem_space_index_fd(s), 0);
	assert_true(ix != MAP_FAILED);
	assert_int_equal(ix->magic, SHM_INDEX_MAGIC);
	assert_int_equal(ix->bytes, st.st_size);
	nr = *shm_bucket(ix, &name);
	for (int i = 0; nr && i < SHM_MAX_CHAIN; i++) {
		const struct shm_block *b = shm_block_at(ix, nr);

		if (name_equal(&b->name, &name)) {
			assert_int_equal(b->depth, depth);
			assert_int_equal(b->tokens[63],
					 seq * 1000000 + depth * 64 + 63);
			found = b->page[class];
			break;
		}
		nr = b->next;
	}
	munmap((void *)(uintptr_t)ix, (size_t)st.st_size);
	return found;
}
