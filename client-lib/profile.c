/* SPDX-License-Identifier: Apache-2.0 */
/*
 * profile.c - calibration profiles: read a file, cut out a group's part.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "client-lib/profile.h"
#include "kernels/format.h"
#include "kernels/profile.h"

#define MAX_FILE_BYTES ((off_t)1 << 32)

struct kvd_profile {
	struct profile data;
};

/* All of a file that does not change meanwhile; -EINVAL when it did. */
static int read_all(int fd, uint8_t *to, size_t nr)
{
	while (nr > 0) {
		ssize_t n = read(fd, to, nr);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -EINVAL;
		to += n;
		nr -= (size_t)n;
	}
	return 0;
}

static int read_file(const char *path, uint8_t **ret, size_t *ret_nr,
		     const char **ret_why)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	uint8_t *bytes;
	struct stat st;
	int err;

	if (fd < 0)
		return -errno;
	err = fstat(fd, &st) ? -errno : 0;
	if (!err && (!S_ISREG(st.st_mode) || st.st_size > MAX_FILE_BYTES)) {
		*ret_why = "is no profile";
		err = -EINVAL;
	}
	bytes = err ? NULL : malloc((size_t)st.st_size + 1);
	if (!err && !bytes)
		err = -ENOMEM;
	if (!err)
		err = read_all(fd, bytes, (size_t)st.st_size);
	close(fd);
	if (err) {
		free(bytes);
		return err;
	}
	*ret = bytes;
	*ret_nr = (size_t)st.st_size;
	return 0;
}

int kvd_profile_load(const char *path, struct kvd_profile **ret, char *why,
		     size_t why_bytes)
{
	struct kvd_profile *p = calloc(1, sizeof(*p));
	const char *text = NULL;
	uint8_t *bytes = NULL;
	size_t nr = 0;
	int err = p ? 0 : -ENOMEM;

	if (!err)
		err = read_file(path, &bytes, &nr, &text);
	if (!err)
		err = profile_decode(bytes, nr, &p->data, &text);
	free(bytes);
	if (!err) {
		*ret = p;
		return 0;
	}
	free(p);
	if (why && why_bytes)
		snprintf(why, why_bytes, "%s %s%s", path,
			 text ? "" : "cannot be read: ",
			 text ? text : strerror(-err));
	return err;
}

void kvd_profile_free(struct kvd_profile *p)
{
	if (!p)
		return;
	profile_fini(&p->data);
	free(p);
}

uint64_t kvd_profile_digest(const struct kvd_profile *p)
{
	return p->data.digest;
}

/* One group's part being gathered. */
struct gather {
	const struct profile *p;
	const struct kvd_group *group;
	const uint32_t *layers;	/* NULL: as they are */
	float *next;		/* where the next copy goes; NULL: count */
	uint64_t nr;		/* floats copied or counted */
	const char *why;
};

/*
 * Copies of each layer @nr floats from the @skip-th of @per_layer on.
 * Return: the copy; NULL while counting, or when the part is absent.
 */
static float *take(struct gather *g, enum profile_part part, size_t per_layer,
		   size_t skip, size_t nr)
{
	const float *from = g->p->parts[part];
	float *copy = g->next;

	if (!from) {
		g->why = "the profile has nothing for this format: make it "
			 "anew with kvctl calibrate";
		return NULL;
	}
	g->nr += g->group->nr_layers * nr;
	if (!copy)
		return NULL;
	for (uint32_t i = 0; i < g->group->nr_layers; i++) {
		uint32_t layer = g->layers ? g->layers[i] : i;

		memcpy(g->next, from + layer * per_layer + skip,
		       nr * sizeof(float));
		g->next += nr;
	}
	return copy;
}

static float *take_heads(struct gather *g, enum profile_part part, size_t dim)
{
	return take(g, part, g->p->shape.nr_heads * dim,
		    g->group->head_first * dim, g->group->nr_kv_heads * dim);
}

static float *take_layers(struct gather *g, enum profile_part part,
			  size_t per_layer)
{
	return take(g, part, per_layer, 0, per_layer);
}

/* Magnitudes become scales: the largest is the format's largest. */
static float *take_scales(struct gather *g, enum profile_part part,
			  uint32_t format)
{
	float max = format == KVD_FP8_E4M3 ? PROFILE_FP8_E4M3 :
					     PROFILE_FP8_E5M2;
	float *x = take_heads(g, part, 1);
	uint32_t nr = g->group->nr_layers * g->group->nr_kv_heads;

	for (uint32_t i = 0; x && i < nr; i++)
		x[i] = x[i] / max > 0 ? x[i] / max : 1;
	return x;
}

static void gather_k(struct gather *g, uint32_t format, struct kv_tables *t)
{
	uint32_t bits = format_bits(format), dim = g->group->k_dim;

	if (format_coding(format) == CODING_FP8)
		t->k_scale = take_scales(g, PROFILE_K_AMAX, format);
	if (format_basis(format) == BASIS_PROFILE)
		t->k_rotation = take_layers(g, PROFILE_K_ROTATION,
					    (size_t)dim * dim);
	if (format_coding(format) != CODING_KVQUANT)
		return;
	t->k_lut = take_layers(g, profile_book(PROFILE_K_LUT, bits),
			       TABLES_CODES);
	t->k_out = take_layers(g, profile_book(PROFILE_K_OUT, bits),
			       TABLES_CODES);
	t->k_zero = take_heads(g, PROFILE_K_ZERO, dim);
	t->k_range = take_heads(g, PROFILE_K_RANGE, dim);
}

static void gather_v(struct gather *g, uint32_t format, struct kv_tables *t)
{
	uint32_t bits = format_bits(format), dim = g->group->v_dim;

	if (!dim) /* K serves as V */
		return;
	if (format_coding(format) == CODING_FP8)
		t->v_scale = take_scales(g, PROFILE_V_AMAX, format);
	if (format_basis(format) == BASIS_PROFILE)
		t->v_rotation = take_layers(g, PROFILE_V_ROTATION,
					    (size_t)dim * dim);
	if (format_coding(format) != CODING_KVQUANT)
		return;
	t->v_lut = take_layers(g, profile_book(PROFILE_V_LUT, bits),
			       TABLES_CODES);
	t->v_out = take_layers(g, profile_book(PROFILE_V_OUT, bits),
			       TABLES_CODES);
}

/* Is it this model's? Return: NULL, or what is not. */
static const char *check_fit(const struct profile *p,
			     const struct kvd_geometry *g, uint32_t group,
			     const uint32_t *layers)
{
	const struct kvd_group *gr = &g->groups[group];

	if (g->profile != p->digest)
		return "geometry.profile is not kvd_profile_digest() of the "
		       "profile";
	if (gr->k_dim != p->shape.k_dim || gr->v_dim != p->shape.v_dim)
		return "the profile is of a model with other k_dim or v_dim";
	if (gr->head_first > p->shape.nr_heads ||
	    gr->nr_kv_heads > p->shape.nr_heads - gr->head_first)
		return "the profile is of a model with fewer kv heads";
	for (uint32_t i = 0; i < gr->nr_layers; i++)
		if ((layers ? layers[i] : i) >= p->shape.nr_layers)
			return "the profile is of a model with fewer layers";
	return NULL;
}

static void gather_all(struct gather *g, const struct kvd_geometry *geo,
		       struct kv_tables *t)
{
	t->nr_heads = g->group->nr_kv_heads;
	gather_k(g, geo->k_format, t);
	gather_v(g, geo->v_format, t);
}

int profile_tables(const struct kvd_profile *p, const struct kvd_geometry *g,
		   uint32_t group, const uint32_t *layers,
		   struct profile_tables *ret)
{
	struct gather count = { .p = &p->data, .layers = layers,
				.group = &g->groups[group] };
	struct profile_tables t = PROFILE_TABLES_NULL;
	struct gather copy = count;

	count.why = check_fit(&p->data, g, group, layers);
	if (!count.why)
		gather_all(&count, g, &t.tables);
	if (count.why) {
		ret->why = count.why;
		return -EINVAL;
	}
	if (count.nr) {
		t.copies = calloc(count.nr, sizeof(float));
		if (!t.copies)
			return -ENOMEM;
		copy.next = t.copies;
		gather_all(&copy, g, &t.tables);
	}
	*ret = t;
	return 0;
}

void profile_tables_fini(struct profile_tables *t)
{
	free(t->copies);
	*t = (struct profile_tables)PROFILE_TABLES_NULL;
}
