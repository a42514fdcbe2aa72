/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kv.c - keys and values of the model, in pages of kvd.
 *
 * The only place where the worker meets the data path: this process holds no
 * K and no V but the rows on their way into a page. On a CUDA pool these are
 * on the GPU already, or cross in staging buffers (staging.c) where matrices
 * are on the CPU.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "tools/kvworker/gpu.h"
#include "tools/kvworker/rope.h"
#include "tools/kvworker/staging.h"
#include "tools/kvworker/kv.h"

/* How long an allocation may wait for room before the worker gives up. */
#define WAIT_MS 10000

#define TILE_DIM 32 /* what dims are multiples of in CUDA's tile order */

int kv_error(const struct kv *kv, int err, const char *what, struct error *e)
{
	const char *why = kv->conn ? kvd_error(kv->conn) : "";

	return error_set(e, err, "%s: %s", what, *why ? why : strerror(-err));
}

int kv_connect(struct kv *kv, const char *socket, struct error *e)
{
	struct kvd_connect_opts opts = {
		.size = sizeof(opts),
		.socket = socket,
		.program = "kvworker",
	};
	int err;

	err = kvd_connect(&opts, &kv->conn);
	if (err)
		return error_set(e, err, "cannot connect to kvd at %s: %s",
				 socket ? socket : kvd_default_socket(),
				 strerror(-err));
	err = gpu_open(kvd_device(kv->conn), &kv->gpu, e);
	return err ? err : staging_new(kv->gpu, &kv->staging, e);
}

/* Marks the layers that @text names. */
static int parse_layers(const char *text, uint32_t nr_layers, bool *exact,
			struct error *e)
{
	const char *p = text;
	char *end;

	while (p && *p) {
		unsigned long n = strtoul(p, &end, 10);

		if (end == p || (*end && *end != ',') || n >= nr_layers)
			return error_set(e, -EINVAL, "--exact-layers %s: not "
					 "a list of layers from 0 to %u", text,
					 nr_layers - 1);
		exact[n] = true;
		p = *end ? end + 1 : end;
	}
	return 0;
}

/* Layers of one kind become group @group; their numbers go to @order. */
static uint32_t put_group(struct kv *kv, const bool *exact, bool kind,
			  uint32_t group, uint32_t nr_layers, uint32_t *order)
{
	uint32_t nr = 0;

	for (uint32_t i = 0; i < nr_layers; i++) {
		if (exact[i] != kind)
			continue;
		order[nr] = i;
		kv->places[i] = (struct kv_layer_place){ group, nr++ };
	}
	return nr;
}

/* One group of layers, or two where some stay exact. @order: [layers] */
static int make_groups(struct kv *kv, const struct config *c,
		       const char *exact_layers, struct kvd_geometry *g,
		       uint32_t *order, struct error *e)
{
	bool *exact = calloc(c->nr_layers, sizeof(*exact));
	uint32_t done = 0;
	int err;

	if (!exact)
		return error_set(e, -ENOMEM, "out of memory");
	err = parse_layers(exact_layers, c->nr_layers, exact, e);
	for (int kind = 0; !err && kind < 2; kind++) {
		uint32_t nr = put_group(kv, exact, kind, g->nr_groups,
					c->nr_layers, order + done);

		if (nr)
			g->groups[g->nr_groups++] = (struct kvd_group){
				.nr_layers = nr,
				.nr_kv_heads = c->nr_kv_heads,
				.k_dim = c->head_dim,
				.v_dim = c->head_dim,
				.exact = kind,
			};
		done += nr;
	}
	free(exact);
	return err;
}

static bool is_kvquant(uint32_t format)
{
	return format == KVD_KVQUANT4 || format == KVD_KVQUANT3 ||
	       format == KVD_KVQUANT2;
}

/* Attention sinks are not for few bits, nor were they calibrated. */
static uint32_t exact_pages(const struct kv_opts *o)
{
	if (o->exact_pages != KV_EXACT_AUTO)
		return o->exact_pages;
	return kvd_formats_lag(o->k_format, o->v_format) ||
	       is_kvquant(o->k_format) || is_kvquant(o->v_format);
}

/* Pages with codes as tensor cores take them, where there are some. */
static uint32_t tile_order(const struct kv *kv, const struct config *c,
			   const struct kv_opts *o)
{
	if (o->tile_order != KV_TILE_AUTO)
		return o->tile_order;
	return kv->gpu && c->head_dim % TILE_DIM == 0 ? KVD_TILE_MMA :
							KVD_TILE_ROW;
}

static int load_profile(struct kv *kv, const char *path, struct error *e)
{
	char why[128] = "";
	int err;

	if (!path)
		return 0;
	err = kvd_profile_load(path, &kv->profile, why, sizeof(why));
	if (!err)
		return 0;
	return error_set(e, err, "--profile %s: %s", path,
			 *why ? why : strerror(-err));
}

static int open_space(struct kv *kv, const struct config *c,
		      struct kvd_space_opts *so, const struct kv_opts *opts,
		      struct error *e)
{
	double *freq = malloc(c->head_dim / 2 * sizeof(*freq));
	uint32_t *order = calloc(c->nr_layers, sizeof(*order));
	int err;

	kv->places = calloc(c->nr_layers, sizeof(*kv->places));
	if (!freq || !order || !kv->places)
		err = error_set(e, -ENOMEM, "out of memory");
	else
		err = make_groups(kv, c, opts->exact_layers, &so->geometry,
				  order, e);
	if (!err) {
		rope_frequencies(c, freq);
		so->layers = order;
		so->rope.freq = freq;
		so->rope.nr_pairs = c->head_dim / 2;
		err = kvd_space_open(kv->conn, so, &kv->space);
		if (err)
			kv_error(kv, err, "cannot open the space", e);
	}
	free(freq);
	free(order);
	return err;
}

int kv_open(struct kv *kv, const struct config *c,
	    const uint8_t digest[DIGEST_BYTES], const struct kv_opts *opts,
	    struct error *e)
{
	struct kvd_space_opts so = {
		.size = sizeof(so),
		.nr_threads = opts->nr_threads,
		.wait_ms = WAIT_MS,
		.geometry = {
			.size = sizeof(so.geometry),
			.page_tokens = opts->page_tokens,
			.k_format = opts->k_format,
			.v_format = opts->v_format,
			.demote_k = opts->demote_k,
			.demote_v = opts->demote_v,
			.open_format = opts->open_format,
			.exact_pages = exact_pages(opts),
			.v_group = opts->v_group,
			.tile_order = tile_order(kv, c, opts),
		},
	};
	int err;

	memcpy(so.model, digest, sizeof(so.model));
	kv->page_tokens = opts->page_tokens;
	kv->nr_heads = c->nr_heads;
	kv->q_width = c->nr_heads * c->head_dim;
	kv->kv_width = c->nr_kv_heads * c->head_dim;
	kv->pre_rope = is_kvquant(opts->k_format);
	if (kv->pre_rope)
		so.geometry.rope_order = KVD_ROPE_PRE;
	kvd_formats_name(opts->k_format, opts->v_format, kv->formats);
	err = load_profile(kv, opts->profile, e);
	if (err)
		return err;
	if (kv->profile)
		so.geometry.profile = kvd_profile_digest(kv->profile);
	so.profile = kv->profile;
	return open_space(kv, c, &so, opts, e);
}

void kv_close(struct kv *kv)
{
	kvd_space_close(kv->space);
	kvd_close(kv->conn);
	staging_free(kv->staging);
	gpu_close(kv->gpu);
	kvd_profile_free(kv->profile);
	free(kv->places);
	*kv = (struct kv){ 0 };
}

static kvd_stream stream_of(const struct kv *kv)
{
	return kv->gpu ? kv->gpu->stream : NULL;
}

static int append(struct kv *kv, const struct kvd_item *item, uint32_t layer,
		  const float *qkv)
{
	struct kvd_append_args a = {
		.size = sizeof(a),
		.group = kv->places[layer].group,
		.layer = kv->places[layer].layer,
		.dtype = KVD_DTYPE_F32,
		.items = item,
		.nr_items = 1,
		.k = qkv + kv->q_width,
		.v = qkv + kv->q_width + kv->kv_width,
		.k_stride = kv->q_width + 2 * (size_t)kv->kv_width,
		.v_stride = kv->q_width + 2 * (size_t)kv->kv_width,
		.stream = stream_of(kv),
	};

	return kvd_append(kv->space, &a);
}

static int attend(struct kv *kv, const struct kvd_item *item, uint32_t layer,
		  const float *qkv, float *out)
{
	struct kvd_attend_args a = {
		.size = sizeof(a),
		.group = kv->places[layer].group,
		.layer = kv->places[layer].layer,
		.dtype = KVD_DTYPE_F32,
		.items = item,
		.nr_items = 1,
		.nr_q_heads = kv->nr_heads,
		.q = qkv,
		.out = out,
		.q_stride = kv->q_width + 2 * (size_t)kv->kv_width,
		.stream = stream_of(kv),
	};

	return kvd_attend(kv->space, &a);
}

int kv_layer_pool(struct kv *kv, struct kvd_seq *seq, uint32_t layer,
		  uint32_t nr, const float *qkv, float *out, struct error *e)
{
	struct kvd_item item = { .seq = seq, .nr_tokens = nr };
	int err;

	err = append(kv, &item, layer, qkv);
	if (err)
		return kv_error(kv, err, "cannot store K and V", e);
	err = attend(kv, &item, layer, qkv, out);
	return err ? kv_error(kv, err, "cannot attend", e) : 0;
}

int kv_layer(struct kv *kv, struct kvd_seq *seq, uint32_t layer, uint32_t nr,
	     const float *qkv, float *out, struct error *e)
{
	size_t in_bytes = nr * (kv->q_width + 2 * (size_t)kv->kv_width) * 4;
	size_t out_bytes = nr * (size_t)kv->q_width * 4;
	const float *in;
	float *result;
	int err;

	if (!kv->staging)
		return kv_layer_pool(kv, seq, layer, nr, qkv, out, e);
	err = staging_put(kv->staging, qkv, in_bytes, out_bytes, &in, &result,
			  e);
	if (!err)
		err = kv_layer_pool(kv, seq, layer, nr, in, result, e);
	return err ? err : staging_get(kv->staging, out, out_bytes, e);
}

int kv_commit(struct kv *kv, struct kvd_seq *seq, const uint32_t *tokens,
	      size_t nr, struct error *e)
{
	int err = kvd_commit(seq, tokens, nr, stream_of(kv));

	/* Committed all the same; the library publishes when it can again. */
	kv->publish_due = err == -ENOTCONN;
	if (!err || err == -ENOTCONN)
		return 0;
	return kv_error(kv, err, "cannot commit", e);
}
