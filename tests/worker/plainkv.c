/* SPDX-License-Identifier: Apache-2.0 */
/*
 * plainkv.c - the calls of kvd.h that the model makes, over plain f32 arrays.
 *
 * Takes libkvd's place in tests of the model alone: no daemon, no pages, no
 * rounding of K and V, one loop after the other. What comes out is what the
 * model itself computes. One sequence per space.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <kvd/kvd.h>
#include <kvd/profile.h>
#include "tests/worker/plainkv.h"

struct kvd {
	int unused;
};

struct kvd_space {
	struct kvd_group group;
};

struct kvd_seq {
	struct kvd_space *space;
	size_t nr;
	float *k[KVD_MAX_LAYERS];	/* [PLAINKV_TOKENS][head][dim] */
	float *v[KVD_MAX_LAYERS];
};

int kvd_connect(const struct kvd_connect_opts *opts, struct kvd **ret)
{
	*ret = calloc(1, sizeof(**ret));
	return *ret ? 0 : -ENOMEM;
}

void kvd_close(struct kvd *k)
{
	free(k);
}

const char *kvd_device(const struct kvd *k)
{
	return "host";
}

const char *kvd_error(const struct kvd *k)
{
	return "";
}

int kvd_profile_load(const char *path, struct kvd_profile **ret, char *why,
		     size_t why_bytes)
{
	return -ENOENT;
}

void kvd_profile_free(struct kvd_profile *p)
{
}

uint64_t kvd_profile_digest(const struct kvd_profile *p)
{
	return 0;
}

const char *kvd_default_socket(void)
{
	return "";
}

int kvd_space_open(struct kvd *k, const struct kvd_space_opts *opts,
		   struct kvd_space **ret)
{
	*ret = calloc(1, sizeof(**ret));
	if (!*ret)
		return -ENOMEM;
	(*ret)->group = opts->geometry.groups[0];
	return 0;
}

void kvd_space_close(struct kvd_space *sp)
{
	free(sp);
}

int kvd_seq_new(struct kvd_space *sp, const struct kvd_seq_opts *opts,
		struct kvd_seq **ret)
{
	size_t width = (size_t)sp->group.nr_kv_heads * sp->group.k_dim;
	struct kvd_seq *seq = calloc(1, sizeof(*seq));

	if (!seq)
		return -ENOMEM;
	seq->space = sp;
	for (uint32_t l = 0; l < sp->group.nr_layers; l++) {
		seq->k[l] = calloc(PLAINKV_TOKENS, width * sizeof(float));
		seq->v[l] = calloc(PLAINKV_TOKENS, width * sizeof(float));
	}
	*ret = seq;
	return 0;
}

void kvd_seq_free(struct kvd_seq *seq)
{
	for (uint32_t l = 0; l < KVD_MAX_LAYERS; l++) {
		free(seq->k[l]);
		free(seq->v[l]);
	}
	free(seq);
}

size_t kvd_seq_tokens(const struct kvd_seq *seq)
{
	return seq->nr;
}

int kvd_truncate(struct kvd_seq *seq, size_t n, kvd_stream stream)
{
	seq->nr = n;
	return 0;
}

int kvd_commit(struct kvd_seq *seq, const uint32_t *tokens, size_t n,
	       kvd_stream stream)
{
	seq->nr += n;
	return 0;
}

int kvd_append(struct kvd_space *sp, const struct kvd_append_args *a)
{
	size_t width = (size_t)sp->group.nr_kv_heads * sp->group.k_dim;
	struct kvd_seq *seq = a->items[0].seq;
	const float *k = a->k, *v = a->v;

	for (size_t i = 0; i < a->items[0].nr_tokens; i++) {
		size_t at = (seq->nr + i) * width;

		memcpy(seq->k[a->layer] + at, k + i * a->k_stride,
		       width * sizeof(float));
		memcpy(seq->v[a->layer] + at, v + i * a->v_stride,
		       width * sizeof(float));
	}
	return 0;
}

/* One query head over positions 0..@pos of one kv head. */
static void attend_one(const struct kvd_seq *seq, uint32_t layer,
		       uint32_t head, const float *q, size_t pos, float *out)
{
	const struct kvd_group *g = &seq->space->group;
	size_t width = (size_t)g->nr_kv_heads * g->k_dim;
	const float *k = seq->k[layer] + head * g->k_dim;
	const float *v = seq->v[layer] + head * g->k_dim;
	double score[PLAINKV_TOKENS], max = -INFINITY, sum = 0;
	double acc[KVD_MAX_DIM] = { 0 };

	for (size_t t = 0; t <= pos; t++) {
		score[t] = 0;
		for (uint32_t i = 0; i < g->k_dim; i++)
			score[t] += (double)q[i] * k[t * width + i];
		score[t] /= sqrt(g->k_dim);
		max = fmax(max, score[t]);
	}
	for (size_t t = 0; t <= pos; t++) {
		double p = exp(score[t] - max);

		sum += p;
		for (uint32_t i = 0; i < g->k_dim; i++)
			acc[i] += p * v[t * width + i];
	}
	for (uint32_t i = 0; i < g->k_dim; i++)
		out[i] = (float)(acc[i] / sum);
}

int kvd_attend(struct kvd_space *sp, const struct kvd_attend_args *a)
{
	const struct kvd_group *g = &sp->group;
	uint32_t share = a->nr_q_heads / g->nr_kv_heads;
	struct kvd_seq *seq = a->items[0].seq;

	for (size_t i = 0; i < a->items[0].nr_tokens; i++) {
		const float *q = (const float *)a->q + i * a->q_stride;
		float *out = (float *)a->out + i * a->nr_q_heads * g->k_dim;

		for (uint32_t h = 0; h < a->nr_q_heads; h++)
			attend_one(seq, a->layer, h / share, q + h * g->k_dim,
				   seq->nr + i, out + h * g->k_dim);
	}
	return 0;
}
