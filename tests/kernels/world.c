/* SPDX-License-Identifier: Apache-2.0 */
/*
 * world.c - see world.h.
 */
#include <assert.h>
#include <math.h>
#include <string.h>
#include "tests/kernels/random.h"
#include "tests/kernels/world.h"
#include "tests/kernels/world_fill.h"

static float *random_array(size_t n)
{
	float *p = malloc(n * sizeof(*p));
	size_t i;

	assert(p);
	for (i = 0; i < n; i++)
		p[i] = random_normal();
	return p;
}

static void world_layouts(struct world *w)
{
	const struct shape *s = &w->s;
	unsigned i;

	w->g = (struct kvd_geometry){
		.size = sizeof(w->g),
		.page_tokens = s->page_tokens,
		.k_format = s->format[0][0],
		.v_format = s->format[0][1],
		.rope_order = s->rope_order,
		.tile_order = s->tile_order,
		.v_group = s->v_group,
		.profile = 1,
		.nr_groups = 1,
		.groups = { { .nr_layers = 2,
		              .nr_kv_heads = s->nr_heads,
		              .k_dim = s->k_dim,
		              .v_dim = s->v_dim } },
	};
	assert(!kvd_geometry_check(&w->g));
	for (i = 0; i < 2; i++)
		assert(!page_layout_init(&w->layouts[i], &w->g, 0,
		                         s->format[i][0], s->format[i][1]));
}

/* Gives each page a place of its own, in random order. */
static void world_pages(struct world *w)
{
	uint64_t size = w->layouts[0].page_bytes;
	uint32_t i, j;

	if (w->layouts[1].page_bytes > size)
		size = w->layouts[1].page_bytes;
	w->pages = calloc(2 * w->nr_pages, sizeof(*w->pages)); /* overlays */
	w->segment_bytes = size * w->nr_pages;
	for (i = 0; i < 2; i++)
		w->segments[i] = malloc(w->segment_bytes);
	assert(w->pages && w->segments[0] && w->segments[1]);
	for (i = 0; i < w->nr_pages; i++) {
		j = random_below(i + 1);
		w->pages[i].offset = w->pages[j].offset;
		w->pages[j].offset = i * size;
		w->pages[i].segment = random_below(2);
	}
	world_wipe(w);
}

void world_init(struct world *w, const struct shape *s)
{
	uint32_t i, p;

	*w = (struct world){ .s = *s };
	world_layouts(w);
	w->v_out = page_value_dim(&w->layouts[0]);
	for (i = 0; i < s->nr_seqs; i++) {
		w->seqs[i].first_page = w->nr_pages;
		w->nr_pages += s->len[i] / s->page_tokens + 1;
		w->nr_tokens += s->len[i];
	}
	world_pages(w);
	for (i = 0; i < s->nr_seqs; i++)
		for (p = 0; p <= s->len[i] / s->page_tokens; p++)
			w->pages[w->seqs[i].first_page + p].layout = p % 2;
	w->k = random_array((size_t)w->nr_tokens * s->nr_heads * s->k_dim);
	w->v = random_array((size_t)w->nr_tokens * s->nr_heads * w->v_out);
	w->q = random_array((size_t)w->nr_tokens * s->nr_heads * s->group *
	                    s->k_dim);
	for (i = 0; i < 64; i++)
		w->sinks[i] = 2 * random_normal();
}

void world_fini(struct world *w)
{
	free(w->pages);
	free(w->segments[0]);
	free(w->segments[1]);
	free(w->k);
	free(w->v);
	free(w->q);
	world_unfill(w);
}

void world_wipe(struct world *w)
{
	memset(w->segments[0], 0xff, w->segment_bytes);
	memset(w->segments[1], 0xff, w->segment_bytes);
}

uint32_t world_row(const struct world *w, uint32_t seq, uint32_t pos)
{
	uint32_t i;

	for (i = 0; i < seq; i++)
		pos += w->s.len[i];
	return pos;
}

/* Rows first..first+n-1 of every sequence, those that it has. */
static uint32_t world_seqs(struct world *w, uint32_t first, uint32_t n,
                           struct kv_seq *seqs)
{
	uint32_t i, rows = 0;

	for (i = 0; i < w->s.nr_seqs; i++) {
		uint32_t len = w->s.len[i];

		seqs[i] = w->seqs[i];
		seqs[i].pos = first;
		seqs[i].first_row = world_row(w, i, first);
		seqs[i].nr_rows = first >= len      ? 0
		                  : len - first < n ? len - first
		                                    : n;
		if (w->only && i != w->only - 1)
			seqs[i].nr_rows = 0;
		rows += seqs[i].nr_rows;
	}
	return rows;
}

void world_share(struct world *w, uint32_t seq, uint32_t pages)
{
	memcpy(&w->pages[w->seqs[seq].first_page],
	       &w->pages[w->seqs[0].first_page], pages * sizeof(*w->pages));
}

void world_overlay(struct world *w, uint32_t seq, uint32_t from)
{
	struct kv_seq *s = &w->seqs[seq];
	uint32_t end = w->s.len[seq] / w->s.page_tokens + 1, p;

	s->overlay_from = from;
	s->overlay_page = w->nr_pages + s->first_page + from;
	for (p = from; p < end; p++) {
		struct kv_page_ref *r = &w->pages[s->first_page + p];

		w->pages[s->overlay_page + p - from] = *r;
		r->segment = KV_NO_SEGMENT;
	}
}

void world_append(struct world *w, const struct host_kernels *k, uint32_t first,
                  uint32_t n, uint32_t nr_threads)
{
	struct kv_seq seqs[WORLD_SEQS];
	uint32_t bad[WORLD_SEQS] = { 0 }, i;
	struct kv_append_args a = {
		.bases = (void *const *)w->segments,
		.pages = w->pages,
		.seqs = seqs,
		.nr_seqs = w->s.nr_seqs,
		.layer = WORLD_LAYER,
		.dtype = KVD_DTYPE_F32,
		.k = w->k,
		.v = w->v,
		.k_stride = (uint64_t)w->s.nr_heads * w->s.k_dim,
		.v_stride = (uint64_t)w->s.nr_heads * w->s.v_dim,
		.nonfinite = bad,
		.nr_threads = nr_threads,
	};

	memcpy(a.layouts, w->layouts, sizeof(a.layouts));
	a.nr_rows = world_seqs(w, first, n, seqs);
	k->append(&a);
	for (i = 0; i < w->s.nr_seqs; i++)
		assert(!bad[i]);
}

static float world_scale(const struct world *w)
{
	return 1.5f / sqrtf(w->s.k_dim);
}

int world_attend(struct world *w, const struct host_kernels *k, uint32_t first,
                 uint32_t n, uint32_t nr_threads, float *out, float *lse)
{
	struct kv_seq seqs[WORLD_SEQS];
	uint32_t q_heads = w->s.nr_heads * w->s.group;
	struct kv_attend_args a = {
		.bases = (const void *const *)w->segments,
		.pages = w->pages,
		.seqs = seqs,
		.nr_seqs = w->s.nr_seqs,
		.layer = WORLD_LAYER,
		.dtype = KVD_DTYPE_F32,
		.nr_q_heads = q_heads,
		.window = w->s.window,
		.scale = world_scale(w),
		.softcap = w->s.softcap,
		.sinks = w->s.sinks ? w->sinks : NULL,
		.q = w->q,
		.out = out,
		.lse = lse,
		.q_stride = (uint64_t)q_heads * w->s.k_dim,
		.out_stride = (uint64_t)q_heads * w->v_out,
		.tables = &w->tables,
		.nr_threads = nr_threads,
	};

	memcpy(a.layouts, w->layouts, sizeof(a.layouts));
	a.nr_rows = world_seqs(w, first, n, seqs);
	return k->attend(&a);
}

/* Tokens 0..n-1 of one head, by ref's dequant: [token][dim]. */
static float *world_values(struct world *w, uint32_t seq, uint32_t n,
                           uint32_t head, int is_v)
{
	const struct kv_page_ref *r = &w->pages[w->seqs[seq].first_page];
	uint32_t dim = is_v ? w->v_out : w->s.k_dim, t, pt = w->s.page_tokens;
	float *x = malloc(sizeof(float) * n * dim);

	assert(x);
	for (t = 0; t < n; t += pt, r++)
		host_kernels_ref.dequant(
			&w->layouts[r->layout],
			w->segments[r->segment] + r->offset, WORLD_LAYER, head,
			is_v, n - t < pt ? n - t : pt, NULL, x + (size_t)t * dim);
	return x;
}

void world_oracle(struct world *w, uint32_t seq, uint32_t pos, uint32_t head,
                  double *out, double *lse)
{
	uint32_t kd = w->s.k_dim, t, d, from = 0, kv = head / w->s.group;
	const float *q = w->q + ((size_t)world_row(w, seq, pos) *
	                                 w->s.nr_heads * w->s.group +
	                         head) * kd;
	float *k = world_values(w, seq, pos + 1, kv, 0);
	float *v = world_values(w, seq, pos + 1, kv, 1);
	double *s = malloc(sizeof(double) * (pos + 1));
	double max = w->s.sinks ? w->sinks[head] : -INFINITY, sum = 0;

	assert(s);
	if (w->s.window && pos + 1 > w->s.window)
		from = pos + 1 - w->s.window;
	for (t = from; t <= pos; t++) {
		for (s[t] = 0, d = 0; d < kd; d++)
			s[t] += (double)q[d] * k[(size_t)t * kd + d];
		s[t] *= world_scale(w);
		if (w->s.softcap > 0)
			s[t] = w->s.softcap * tanh(s[t] / w->s.softcap);
		max = s[t] > max ? s[t] : max;
	}
	for (t = from; t <= pos; t++)
		sum += s[t] = exp(s[t] - max);
	if (w->s.sinks)
		sum += exp(w->sinks[head] - max);
	memset(out, 0, sizeof(*out) * w->v_out);
	for (t = from; t <= pos; t++)
		for (d = 0; d < w->v_out; d++)
			out[d] += s[t] / sum * v[(size_t)t * w->v_out + d];
	*lse = max + log(sum);
	free(s);
	free(k);
	free(v);
}
