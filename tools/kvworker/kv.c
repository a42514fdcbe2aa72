/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kv.c - keys and values of the model, in pages of kvd.
 *
 * The only place where the worker meets the data path: this process holds no
 * K and no V but the rows on their way into a page. On a CUDA pool the
 * matrices stay on the CPU and the rows cross in staging buffers (staging.c).
 */
#include <errno.h>
#include <string.h>
#include "tools/kvworker/staging.h"
#include "tools/kvworker/kv.h"

/* How long an allocation may wait for room before the worker gives up. */
#define WAIT_MS 10000

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
	return staging_open(kvd_device(kv->conn), &kv->staging, e);
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
			.k_format = opts->format,
			.v_format = opts->format,
			.nr_groups = 1,
			.groups[0] = {
				.nr_layers = c->nr_layers,
				.nr_kv_heads = c->nr_kv_heads,
				.k_dim = c->head_dim,
				.v_dim = c->head_dim,
			},
		},
	};
	int err;

	memcpy(so.model, digest, sizeof(so.model));
	kv->page_tokens = opts->page_tokens;
	kv->nr_heads = c->nr_heads;
	kv->q_width = c->nr_heads * c->head_dim;
	kv->kv_width = c->nr_kv_heads * c->head_dim;
	err = kvd_space_open(kv->conn, &so, &kv->space);
	return err ? kv_error(kv, err, "cannot open the space", e) : 0;
}

void kv_close(struct kv *kv)
{
	kvd_space_close(kv->space);
	kvd_close(kv->conn);
	staging_close(kv->staging);
	*kv = (struct kv){ 0 };
}

static int append(struct kv *kv, const struct kvd_item *item, uint32_t layer,
		  const float *qkv)
{
	struct kvd_append_args a = {
		.size = sizeof(a),
		.layer = layer,
		.dtype = KVD_DTYPE_F32,
		.items = item,
		.nr_items = 1,
		.k = qkv + kv->q_width,
		.v = qkv + kv->q_width + kv->kv_width,
		.k_stride = kv->q_width + 2 * (size_t)kv->kv_width,
		.v_stride = kv->q_width + 2 * (size_t)kv->kv_width,
	};

	return kvd_append(kv->space, &a);
}

static int attend(struct kv *kv, const struct kvd_item *item, uint32_t layer,
		  const float *qkv, float *out)
{
	struct kvd_attend_args a = {
		.size = sizeof(a),
		.layer = layer,
		.dtype = KVD_DTYPE_F32,
		.items = item,
		.nr_items = 1,
		.nr_q_heads = kv->nr_heads,
		.q = qkv,
		.out = out,
		.q_stride = kv->q_width + 2 * (size_t)kv->kv_width,
	};

	return kvd_attend(kv->space, &a);
}

int kv_layer(struct kv *kv, struct kvd_seq *seq, uint32_t layer, uint32_t nr,
	     const float *qkv, float *out, struct error *e)
{
	size_t in_bytes = nr * (kv->q_width + 2 * (size_t)kv->kv_width) * 4;
	size_t out_bytes = nr * (size_t)kv->q_width * 4;
	struct kvd_item item = { .seq = seq, .nr_tokens = nr };
	const float *in = qkv;
	float *result = out;
	int err;

	if (kv->staging) {
		err = staging_put(kv->staging, qkv, in_bytes, out_bytes, &in,
				 &result, e);
		if (err)
			return err;
	}
	err = append(kv, &item, layer, in);
	if (err)
		return kv_error(kv, err, "cannot store K and V", e);
	err = attend(kv, &item, layer, in, result);
	if (err)
		return kv_error(kv, err, "cannot attend", e);
	return kv->staging ? staging_get(kv->staging, out, out_bytes, e) : 0;
}

int kv_commit(struct kv *kv, struct kvd_seq *seq, const uint32_t *tokens,
	      size_t nr, struct error *e)
{
	int err = kvd_commit(seq, tokens, nr, NULL);

	/* Committed all the same; the library publishes when it can again. */
	if (!err || err == -ENOTCONN)
		return 0;
	return kv_error(kv, err, "cannot commit", e);
}
