/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kvarn.inc.c - seals a side in kvarn; ref_kvarn.c says what that means.
 *
 * Included by ref_kvarn.c and seal_kvarn_avx2.c after their token_std(),
 * channel_std(), rows_of_k(), rows_of_v() and in_reach(). No thread of its
 * own, no state.
 */

#define KVARN_ROUNDS 8
#define STD_MIN 1e-3f
#define STD_MAX 1e3f
#define GAIN_MIN 0.740818221f /* e^-0.3 */
#define GAIN_MAX 22026.4658f  /* e^10 */

/* Takes the axis' present deviation into its factor. */
static void axis_update(struct axis *a)
{
	uint32_t i;

	for (i = 0; i < a->n; i++) {
		float sd = a->sd[i] * a->inv[i], f;

		sd = sd < STD_MIN ? STD_MIN : sd;
		sd = sd > STD_MAX ? STD_MAX : sd;
		f = a->factor[i] * sd;
		f = f < GAIN_MIN ? GAIN_MIN : f;
		f = f > GAIN_MAX ? GAIN_MAX : f;
		a->factor[i] = f;
		a->inv[i] = 1.0f / f;
	}
}

/* Largest deviation over smallest. */
static float axis_spread(const struct axis *a)
{
	float mn = INFINITY, mx = 0.0f;
	uint32_t i;

	for (i = 0; i < a->n; i++) {
		float sd = a->sd[i] * a->inv[i];

		mn = sd < mn ? sd : mn;
		mx = sd > mx ? sd : mx;
	}
	return mx / (mn < 1e-8f ? 1e-8f : mn);
}

static void axis_reset(struct axis *a, uint32_t n)
{
	uint32_t i;

	a->n = n;
	for (i = 0; i < n; i++)
		a->factor[i] = a->inv[i] = 1.0f;
}

/* Leaves in @best the factors of the columns. */
static void balance(struct tile *m, int is_v, float *best)
{
	struct axis *col = is_v ? &m->channel : &m->token;
	struct axis *row = is_v ? &m->token : &m->channel;
	float least, v;
	int i;

	token_std(m);
	channel_std(m);
	least = axis_spread(col) + axis_spread(row);
	memcpy(best, col->factor, col->n * sizeof(*best));
	for (i = 0; i < KVARN_ROUNDS; i++) {
		axis_update(col);
		is_v ? token_std(m) : channel_std(m);
		axis_update(row);
		is_v ? channel_std(m) : token_std(m);
		v = axis_spread(col) + axis_spread(row);
		if (!(v <= least))
			continue;
		least = v;
		memcpy(best, col->factor, col->n * sizeof(*best));
	}
}

/* NaN in every zero: nobody takes this for values. */
static int refuse(const struct side *s)
{
	uint32_t i;

	memset(s->codes, 0, (size_t)s->tokens * s->row);
	memset(s->meta, 0, page_meta_bytes(s->format, s->is_v, s->tokens,
					   s->dim, s->v_group));
	for (i = 0; s->is_v && i < s->tokens; i++)
		side_affine(s)[i].min = F16_NAN;
	for (i = 0; !s->is_v && i < s->dim; i++)
		side_mins(s)[i] = F16_NAN;
	return 1;
}

static int kvarn_store(const struct side *s, const float *x)
{
	uint32_t nr_cols = s->is_v ? s->dim : s->tokens, i;
	float factor[KVD_MAX_DIM], inv[KVD_MAX_DIM];
	struct tile m = { .x = x, .tokens = s->tokens, .dim = s->dim };

	if (!in_reach(x, s->tokens * s->dim))
		return refuse(s);
	axis_reset(&m.token, s->tokens);
	axis_reset(&m.channel, s->dim);
	balance(&m, s->is_v, factor);
	for (;;) {
		for (i = 0; i < nr_cols; i++) {
			inv[i] = 1.0f / factor[i];
			side_factors(s)[i] = f16_from_f32(factor[i]);
		}
		if (s->is_v ? rows_of_v(s, x, inv) : rows_of_k(s, x, inv))
			return 0;
		for (i = 0; i < nr_cols; i++) /* a zero past f16 */
			factor[i] = 1.0f;
	}
}
