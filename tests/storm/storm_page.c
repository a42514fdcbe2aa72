// SPDX-License-Identifier: Apache-2.0
/*
 * storm_page.c - what a page has to hold, from its prefix alone.
 *
 * A page is made twice, over zeros and over ones: bits that come out alike are
 * those that the format writes, and only they are compared. Full pages have
 * their checksum remembered; it is never taken from what was read.
 */
#include <errno.h>
#include <string.h>
#include "kernels/host/host.h"
#include "tests/storm/storm.h"
#include "tests/support/check.h"

#define MAX_PAGE_BYTES (64u << 10)
#define MAX_ROW	       256u	/* elements of all heads */
#define CACHE	       (1u << 14)

/* A page over zeros, and over ones. */
struct pair {
	_Alignas(64) uint8_t of[2][MAX_PAGE_BYTES];
};

static struct pair opened, sealed, demoted;
static uint8_t masks[STORM_KINDS][PAGE_MAX_CLASSES][MAX_PAGE_BYTES];
static bool have_mask[STORM_KINDS][PAGE_MAX_CLASSES];
static struct known {
	uint64_t key;
	uint64_t sum;
} cache[CACHE];

static uint64_t mix(uint64_t x)
{
	x ^= x >> 30;
	x *= 0xbf58476d1ce4e5b9ULL;
	x ^= x >> 27;
	x *= 0x94d049bb133111ebULL;
	return x ^ x >> 31;
}

uint64_t storm_random(uint64_t *seed)
{
	*seed += 0x9e3779b97f4a7c15ULL;
	return mix(*seed);
}

uint32_t storm_zipf(uint64_t *seed, uint32_t n)
{
	uint64_t r = storm_random(seed), s = storm_random(seed);

	/* Of a random range that begins with the most likely. */
	return (uint32_t)(r % (1 + s % n));
}

uint64_t storm_root(uint32_t extra)
{
	return mix(0x5707 + extra);
}

uint64_t storm_next(uint64_t chain, uint32_t token)
{
	return mix(chain + 0x9e3779b97f4a7c15ULL * (token + 1));
}

uint32_t storm_token(uint64_t chain, uint32_t choice)
{
	return (uint32_t)(mix(chain ^ choice) % 50000);
}

void storm_row(float *row, size_t n, uint64_t chain, uint32_t group,
	       uint32_t layer, bool is_v)
{
	uint64_t x = mix(chain + group * 64 + layer * 2 + is_v);

	for (size_t i = 0; i < n; i += 4) {
		uint64_t r = mix(x + i);

		for (size_t k = i; k < i + 4 && k < n; k++, r >>= 16)
			row[k] = (float)(int16_t)(uint16_t)r / 32768.0f;
	}
}

void storm_kind(uint32_t kind, struct kvd_space_opts *o)
{
	static const struct {
		const char *formats;
		uint32_t page_tokens, exact_pages, window;
		uint32_t nr_groups;
		const char *demoted;	/* NULL: pages are not */
	} kinds[STORM_KINDS] = {
		{ "f16", 32, 0, 0, 1, NULL },
		{ "int8", 32, 0, 40, 2, "int4" },
		{ "kivi2", 32, 0, 0, 1, NULL },
		{ "kivi4", 64, 1, 0, 1, "kivi2" },
		{ "k=int8,v=int4", 64, 2, 0, 1, "int4" },
		{ "kvarn3", 32, 0, 70, 2, NULL },
	};
	struct kvd_geometry *g = &o->geometry;

	memset(o, 0, sizeof(*o));
	o->size = sizeof(*o);
	o->nr_threads = 1;
	memset(o->model, (int)kind, sizeof(o->model));
	g->size = sizeof(*g);
	g->page_tokens = kinds[kind].page_tokens;
	g->exact_pages = kinds[kind].exact_pages;
	g->v_group = 32;
	CHECK(!kvd_formats_parse(kinds[kind].formats, &g->k_format,
				 &g->v_format), "%s", kinds[kind].formats);
	CHECK(!kinds[kind].demoted ||
	      !kvd_formats_parse(kinds[kind].demoted, &g->demote_k,
				 &g->demote_v), "%s", kinds[kind].demoted);
	g->nr_groups = kinds[kind].nr_groups;
	g->groups[0] = (struct kvd_group){ .nr_layers = 2, .nr_kv_heads = 2,
					   .k_dim = 32, .v_dim = 32 };
	g->groups[1] = (struct kvd_group){ .nr_layers = 1, .nr_kv_heads = 1,
					   .k_dim = 64, .v_dim = 32,
					   .window = kinds[kind].window };
	if (g->nr_groups < 2)
		g->groups[1] = (struct kvd_group){ 0 };
}

/* ---- making a page ---- */

static void append_layer(const struct storm_page *p, uint32_t class,
			 uint32_t layer, uint8_t *to)
{
	static float k[KVD_MAX_PAGE_TOKENS * MAX_ROW];
	static float v[KVD_MAX_PAGE_TOKENS * MAX_ROW];
	const struct page_layout *l = &p->sp->layouts[class];
	const struct kv_page_ref page = { 0 };
	const struct kv_seq seq = { .nr_rows = p->nr_rows };
	void *const bases[] = { to };
	uint32_t bad = 0;
	struct kv_append_args a = {
		.layouts = { *l },
		.bases = bases,
		.pages = &page,
		.seqs = &seq,
		.nr_seqs = 1,
		.nr_rows = p->nr_rows,
		.layer = layer,
		.k = k,
		.v = v,
		.k_stride = (uint64_t)l->nr_heads * l->k_dim,
		.v_stride = (uint64_t)l->nr_heads * l->v_dim,
		.nonfinite = &bad,
		.nr_threads = 1,
	};

	for (uint32_t i = 0; i < p->nr_rows; i++) {
		storm_row(k + i * a.k_stride, a.k_stride, p->chain[i],
			  p->group, layer, false);
		storm_row(v + i * a.v_stride, a.v_stride, p->chain[i],
			  p->group, layer, true);
	}
	host_kernels_ref.append(&a);
	CHECK(!bad, "a row that is not finite");
}

static void append(const struct storm_page *p, uint32_t class,
		   struct pair *to)
{
	const struct page_layout *l = &p->sp->layouts[class];

	CHECK(l->page_bytes <= MAX_PAGE_BYTES, "a page of %u bytes",
	      l->page_bytes);
	for (int fill = 0; fill < 2; fill++) {
		memset(to->of[fill], fill ? 0xff : 0, l->page_bytes);
		for (uint32_t i = 0; i < l->nr_layers; i++)
			append_layer(p, class, i, to->of[fill]);
	}
}

/* A full page of class @have once more, in class @class. */
static void convert(const struct storm_page *p, struct pair *from,
		    uint32_t have, uint32_t class, struct pair *to)
{
	const struct page_layout *l = &p->sp->layouts[class];
	const struct kv_convert_page page = {
		.from = { 0, 0, 0 },
		.to = { 0, 1, 1 },
		.nr_tokens = l->page_tokens,
	};

	for (int fill = 0; fill < 2; fill++) {
		void *const bases[] = { from->of[fill], to->of[fill] };
		uint32_t bad = 0;
		struct kv_convert_args a = {
			.layouts = { p->sp->layouts[have], *l },
			.bases = bases,
			.pages = &page,
			.nr_pages = 1,
			.nr_layers = l->nr_layers,
			.nonfinite = &bad,
			.nr_threads = 1,
		};

		memset(to->of[fill], fill ? 0xff : 0, l->page_bytes);
		host_kernels_ref.convert(&a);
		CHECK(!bad, "a page that cannot be quantized");
	}
}

/* Is class @class of the page's group quantized from open pages? */
static bool is_whole(const struct storm_page *p, uint32_t class)
{
	return p->sp->whole && space_has_two(p->sp, p->group) &&
	       class == p->sp->sealed_class[p->group];
}

static struct pair *make(const struct storm_page *p, uint32_t class)
{
	if (!is_whole(p, class)) {
		append(p, class, &opened);
		return &opened;
	}
	append(p, p->group, &opened);
	convert(p, &opened, p->group, class, &sealed);
	return &sealed;
}

/* As kvd does it where it demotes. */
static struct pair *make_demoted(const struct storm_page *p)
{
	uint32_t have = p->sp->sealed_class[p->group];

	convert(p, make(p, have), have, p->sp->demoted_class[p->group],
		&demoted);
	return &demoted;
}

/* ---- comparing ---- */

static uint64_t sum_of(const uint8_t *page, const uint8_t *mask, uint32_t n)
{
	uint64_t sum = n, a, m;

	for (uint32_t i = 0; i < n; i += 8) {
		memcpy(&a, page + i, 8);
		memcpy(&m, mask + i, 8);
		sum = (sum ^ (a & m)) * 0x9e3779b97f4a7c15ULL;
		sum ^= sum >> 29;
	}
	return sum;
}

static uint64_t page_key(const struct storm_page *p, uint32_t kind)
{
	return mix(p->chain[p->nr_rows - 1] + kind * 64 + p->group * 32 +
		   p->hold->page_class) | 1;
}

static void differ(const struct storm_page *p, uint32_t at, uint8_t have,
		   uint8_t want)
{
	char text[KVD_FORMATS_TEXT];
	const struct page_layout *l = &p->sp->layouts[p->hold->page_class];

	CHECK(0, "page %#llx (%s, group %u, class %u, %u rows of %u) has "
	      "%02x at byte %u, its prefix says %02x",
	      (unsigned long long)p->hold->handle,
	      kvd_formats_name(l->k_format, l->v_format, text), p->group,
	      p->hold->page_class, p->nr_rows, l->page_tokens, have, at, want);
}

/* What is written of a full page of a class is the same for all. */
static void learn(const struct storm_page *p, uint32_t kind,
		  const struct pair *want)
{
	uint32_t c = p->hold->page_class, n = p->sp->layouts[c].page_bytes;
	struct known *k = &cache[page_key(p, kind) % CACHE];

	for (uint32_t i = 0; i < n; i++) {
		uint8_t m = (uint8_t)~(want->of[0][i] ^ want->of[1][i]);

		CHECK(!have_mask[kind][c] || masks[kind][c][i] == m,
		      "pages of class %u differ in what is written", c);
		masks[kind][c][i] = m;
	}
	have_mask[kind][c] = true;
	k->key = page_key(p, kind);
	k->sum = sum_of(want->of[0], masks[kind][c], n);
}

static bool known(const struct storm_page *p, uint32_t kind,
		  const uint8_t *page)
{
	uint32_t c = p->hold->page_class, n = p->sp->layouts[c].page_bytes;
	const struct known *k = &cache[page_key(p, kind) % CACHE];

	return k->key == page_key(p, kind) &&
	       k->sum == sum_of(page, masks[kind][c], n);
}

int storm_page_check(const struct storm_page *p)
{
	uint32_t c = p->hold->page_class, kind = p->sp->opts.model[0];
	const uint8_t *page = (const uint8_t *)p->sp->device->read_only
				      [p->hold->segment] + p->hold->offset;
	const struct page_layout *l = &p->sp->layouts[c];
	bool full = p->nr_rows == l->page_tokens;
	struct pair *want;

	if (full && !p->again && known(p, kind, page))
		return 0;
	want = c == p->sp->demoted_class[p->group] ? make_demoted(p) :
						     make(p, c);
	for (uint32_t i = 0; i < l->page_bytes; i++) {
		uint8_t m = (uint8_t)~(want->of[0][i] ^ want->of[1][i]);

		if (!((page[i] ^ want->of[0][i]) & m))
			continue;
		if (p->may_differ)
			return -EIO;
		differ(p, i, page[i], want->of[0][i]);
	}
	if (full)
		learn(p, kind, want);
	return 1;
}
