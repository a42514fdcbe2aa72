/* SPDX-License-Identifier: Apache-2.0 */
/*
 * finish.c - from what was collected of each layer to its part of a profile.
 *
 * How much an error of a key's element matters is how much it moves scores:
 * the error times the query's element. KVQuant weighs by the diagonal of the
 * Fisher matrix, which needs gradients; the mean square of the queries that
 * read the channel stands for it here (RoPE mixes the two channels of a pair,
 * so they share theirs), times the channel's range squared, because codebooks
 * are of normalised elements. A value's error goes to the output as it is.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "kernels/host/half.h"
#include "tools/calibrate/codebook.h"
#include "tools/calibrate/collect.h"
#include "tools/calibrate/rotation.h"
#include "tools/calibrate/stats.h"

#define INLIERS	  0.995		/* upper percentile of a channel */
#define MIN_RANGE 0x1p-14f	/* of a channel that does not change */

/* One layer's work. */
struct job {
	const struct calibration *c;
	const struct layer_stats *l;
	uint32_t layer;
	struct profile *p;
	struct calibration_report *report;
	struct samples samples;	/* room for all elements of K or V */
	float *column;		/* [kept] */
	float *peaks;		/* [kv heads * dim] */
	double *moment;		/* [dim][dim] */
};

static float *part_at(const struct job *j, enum profile_part part)
{
	uint64_t n = profile_part_floats(&j->p->shape, part);

	return j->p->parts[part] + n / j->p->shape.nr_layers * j->layer;
}

static void take_column(const struct job *j, const uint16_t *x, size_t at)
{
	for (size_t t = 0; t < j->l->kept; t++)
		j->column[t] = f16_to_f32(x[t * kv_width(j->c) + at]);
}

/* zero and range of each channel, from percentiles of keys before RoPE. */
static int make_channels(struct job *j)
{
	float *zero = part_at(j, PROFILE_K_ZERO);
	float *range = part_at(j, PROFILE_K_RANGE);

	for (size_t i = 0; i < kv_width(j->c); i++) {
		double u, l;

		take_column(j, j->l->k_before, i);
		stats_sort(j->column, j->l->kept);
		u = stats_quantile(j->column, j->l->kept, INLIERS);
		l = stats_quantile(j->column, j->l->kept, 1 - INLIERS);
		zero[i] = f16_round((float)((u + l) / 2));
		range[i] = fmaxf(f16_round((float)((u - l) / 2)), MIN_RANGE);
		if (!isfinite(zero[i]) || !isfinite(range[i]))
			return -ERANGE;
	}
	return 0;
}

/* The largest magnitude of a channel over the median one's. */
static double channel_ratio(struct job *j, const uint16_t *x)
{
	size_t nr = kv_width(j->c);
	double median;

	for (size_t i = 0; i < nr; i++) {
		take_column(j, x, i);
		j->peaks[i] = 0;
		for (size_t t = 0; t < j->l->kept; t++)
			j->peaks[i] = fmaxf(j->peaks[i], fabsf(j->column[t]));
	}
	stats_sort(j->peaks, nr);
	median = stats_quantile(j->peaks, nr, 0.5);
	return median > 0 ? j->peaks[nr - 1] / median : 1;
}

/* Mean square of the queries' elements of the pair that has channel @i. */
static double pair_power(const struct job *j, uint32_t head, uint32_t i)
{
	size_t dim = j->c->shape.head_dim, half = dim / 2;
	const double *gram = j->l->gram + head * dim * dim;
	size_t a = i % half, b = a + half;

	return j->l->queries ? (gram[a * dim + a] + gram[b * dim + b]) /
				       (2 * (double)j->l->queries) : 1;
}

static void add_sample(struct samples *s, float x, double w)
{
	if (!(fabsf(x) <= 1))
		return;
	s->x[s->nr] = x;
	s->w[s->nr++] = (float)w;
}

static void sample_k(struct job *j)
{
	const float *zero = part_at(j, PROFILE_K_ZERO);
	const float *range = part_at(j, PROFILE_K_RANGE);
	uint32_t dim = j->c->shape.head_dim;

	j->samples.nr = 0;
	for (uint32_t i = 0; i < kv_width(j->c); i++) {
		double w = pair_power(j, i / dim, i % dim) * range[i] *
			   range[i];

		take_column(j, j->l->k_before, i);
		for (size_t t = 0; t < j->l->kept; t++)
			add_sample(&j->samples,
				   (j->column[t] - zero[i]) / range[i], w);
	}
}

/*
 * One token's v of one head. Its range is what its page will hold: from the
 * next largest after the outliers to the next smallest.
 */
static void sample_value(struct job *j, const uint16_t *v)
{
	uint32_t dim = j->c->shape.head_dim, outliers = dim / 200 + 1;
	float sorted[KVD_MAX_DIM], min, max, scale, offset;

	for (uint32_t i = 0; i < dim; i++)
		sorted[i] = f16_to_f32(v[i]);
	stats_sort(sorted, dim);
	max = sorted[dim - 1 - outliers];
	min = sorted[outliers];
	scale = (max - min) / 2;
	offset = (max + min) / 2;
	for (uint32_t i = 0; i < dim && scale > 0; i++)
		add_sample(&j->samples, (f16_to_f32(v[i]) - offset) / scale,
			   (double)scale * scale);
}

static void sample_v(struct job *j)
{
	uint32_t dim = j->c->shape.head_dim;
	size_t nr = j->l->kept * kv_width(j->c);

	j->samples.nr = 0;
	for (size_t i = 0; i < nr; i += dim)
		sample_value(j, j->l->v + i);
}

static int make_books(struct job *j, enum profile_book lut,
		      enum profile_book out, double *mse, double *qnorm_mse)
{
	struct codebook books[3];
	int err = codebook_make(&j->samples, books);

	for (uint32_t i = 0; !err && i < 3; i++) {
		uint32_t bits = PROFILE_MAX_BITS - i;

		memcpy(part_at(j, profile_book(lut, bits)), books[i].lut,
		       sizeof(books[i].lut));
		memcpy(part_at(j, profile_book(out, bits)), books[i].out,
		       sizeof(books[i].out));
		mse[i] = books[i].mse;
		*qnorm_mse = books[i].out_mse;
	}
	return err;
}

/* K: mean over kv heads of the queries' second moment. */
static int make_k_rotation(struct job *j)
{
	size_t dim = j->c->shape.head_dim;

	memset(j->moment, 0, dim * dim * sizeof(double));
	for (uint32_t h = 0; h < j->c->shape.nr_kv_heads; h++)
		for (size_t i = 0; i < dim; i++)
			for (size_t k = i; k < dim; k++)
				j->moment[k * dim + i] = j->moment[i * dim + k] +=
					j->l->gram[(h * dim + i) * dim + k];
	return rotation_make(j->moment, (uint32_t)dim,
			     part_at(j, PROFILE_K_ROTATION));
}

/* k Q^T Q k^T: how strongly queries look at the key. */
static double attention_weight(const double *gram, const uint16_t *k,
			       size_t dim)
{
	float x[KVD_MAX_DIM];
	double sum = 0;

	for (size_t i = 0; i < dim; i++)
		x[i] = f16_to_f32(k[i]);
	for (size_t i = 0; i < dim; i++) {
		double row = gram[i * dim + i] * x[i] / 2;

		for (size_t m = i + 1; m < dim; m++)
			row += gram[i * dim + m] * x[m];
		sum += 2 * row * x[i];
	}
	return sum;
}

static void add_outer(double *moment, const uint16_t *v, double w, size_t dim)
{
	float x[KVD_MAX_DIM];

	for (size_t i = 0; i < dim; i++)
		x[i] = f16_to_f32(v[i]);
	for (size_t i = 0; i < dim; i++)
		for (size_t k = 0; k < dim; k++)
			moment[i * dim + k] += w * x[i] * x[k];
}

/* V of one head, each token by its share of the head's attention weight. */
static int add_values(struct job *j, uint32_t head)
{
	size_t dim = j->c->shape.head_dim, width = kv_width(j->c);
	const double *gram = j->l->gram + head * dim * dim;
	double *w = calloc(j->l->kept, sizeof(double)), sum = 0;

	if (!w)
		return -ENOMEM;
	for (size_t t = 0; t < j->l->kept; t++) {
		w[t] = attention_weight(gram, j->l->k_after + t * width +
						      head * dim, dim);
		sum += w[t];
	}
	for (size_t t = 0; t < j->l->kept && sum > 0; t++)
		add_outer(j->moment, j->l->v + t * width + head * dim,
			  w[t] / sum, dim);
	free(w);
	return 0;
}

static int make_v_rotation(struct job *j)
{
	size_t dim = j->c->shape.head_dim;

	memset(j->moment, 0, dim * dim * sizeof(double));
	for (uint32_t h = 0; h < j->c->shape.nr_kv_heads; h++) {
		int err = add_values(j, h);

		if (err)
			return err;
	}
	return rotation_make(j->moment, (uint32_t)dim,
			     part_at(j, PROFILE_V_ROTATION));
}

static int run_layer(struct job *j)
{
	struct calibration_report *r = j->report;
	size_t heads = j->c->shape.nr_kv_heads;
	int err;

	memcpy(part_at(j, PROFILE_K_AMAX), j->l->k_amax, heads * 4);
	memcpy(part_at(j, PROFILE_V_AMAX), j->l->v_amax, heads * 4);
	r->ratio_before = channel_ratio(j, j->l->k_before);
	r->ratio_after = channel_ratio(j, j->l->k_after);
	err = make_channels(j);
	if (err)
		return err;
	sample_k(j);
	err = make_books(j, PROFILE_K_LUT, PROFILE_K_OUT, r->k_mse,
			 &r->k_qnorm_mse);
	if (err)
		return err;
	sample_v(j);
	err = make_books(j, PROFILE_V_LUT, PROFILE_V_OUT, r->v_mse,
			 &r->v_qnorm_mse);
	if (!err)
		err = make_k_rotation(j);
	return err ? err : make_v_rotation(j);
}

static int run_layers(struct job *j, struct calibration_report *reports)
{
	const struct calibration *c = j->c;
	int err = 0;

	for (uint32_t i = 0; !err && i < c->shape.nr_layers; i++) {
		j->layer = i;
		j->l = &c->layers[i];
		j->report = &reports[i];
		if (!j->l->kept || j->l->kept != j->l->kept_before)
			return -ENODATA;
		err = run_layer(j);
	}
	return err;
}

int calibration_finish(struct calibration *c, struct profile *ret,
		       struct calibration_report *reports)
{
	size_t dim = c->shape.head_dim, n = c->room * kv_width(c);
	struct profile_shape shape = { c->shape.nr_layers,
				       c->shape.nr_kv_heads, c->shape.head_dim,
				       c->shape.head_dim };
	struct profile p = PROFILE_NULL;
	struct job j = { .c = c, .p = &p };
	int err = profile_init(&p, &shape);

	if (err)
		return err;
	j.samples.x = calloc(n, sizeof(float));
	j.samples.w = calloc(n, sizeof(float));
	j.column = calloc(c->room, sizeof(float));
	j.peaks = calloc(kv_width(c), sizeof(float));
	j.moment = calloc(dim * dim, sizeof(double));
	err = j.samples.x && j.samples.w && j.column && j.peaks && j.moment ?
		      run_layers(&j, reports) : -ENOMEM;
	free(j.samples.x);
	free(j.samples.w);
	free(j.column);
	free(j.peaks);
	free(j.moment);
	if (err)
		profile_fini(&p);
	else
		*ret = p;
	return err;
}
