/* SPDX-License-Identifier: Apache-2.0 */
/*
 * profile.c - calibration profiles to bytes and back. Pure; any thread.
 *
 * Every length in a file is compared with what the shape asks for before
 * anything is allocated, so a profile takes no more memory than its file.
 */
#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include "kernels/host/half.h"
#include "kernels/profile.h"
#define XXH_FORCE_MEMORY_ACCESS 0 /* by memcpy: no aliasing */
#define XXH_INLINE_ALL
#include <xxhash.h>

#define HASHED_AT   24u /* where what the digest covers begins */
#define HEADER_AT   24u
#define TABLE_AT    48u
#define ENTRY_BYTES 16u
#define NORM_SLACK  1e-3 /* of a rotation's rows: rounding is far below */

static const char magic[8] = "kvdprof\n";

static void put32(uint8_t *p, uint32_t x)
{
	for (int i = 0; i < 4; i++)
		p[i] = (uint8_t)(x >> 8 * i);
}

static void put64(uint8_t *p, uint64_t x)
{
	put32(p, (uint32_t)x);
	put32(p + 4, (uint32_t)(x >> 32));
}

static uint32_t get32(const uint8_t *p)
{
	return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 |
	       (uint32_t)p[3] << 24;
}

static uint64_t get64(const uint8_t *p)
{
	return get32(p) | (uint64_t)get32(p + 4) << 32;
}

static uint64_t digest_of(const uint8_t *bytes, size_t nr)
{
	uint64_t h = XXH3_64bits_withSeed(bytes + HASHED_AT, nr - HASHED_AT,
					  PROFILE_VERSION);

	return h ? h : 1;
}

static bool part_is_book(enum profile_part part)
{
	return part >= PROFILE_BOOKS && part < PROFILE_K_ROTATION;
}

static bool part_is_v(enum profile_part part)
{
	if (part_is_book(part))
		return (part - PROFILE_BOOKS) % PROFILE_NR_BOOKS >=
		       PROFILE_V_LUT;
	return part == PROFILE_V_AMAX || part == PROFILE_V_ROTATION;
}

uint64_t profile_part_floats(const struct profile_shape *s,
			     enum profile_part part)
{
	uint64_t layers = s->nr_layers, heads = s->nr_heads;
	uint64_t dim = part_is_v(part) ? s->v_dim : s->k_dim;

	if (part_is_v(part) && !s->v_dim)
		return 0;
	if (part_is_book(part))
		return layers * TABLES_CODES;
	switch (part) {
	case PROFILE_K_AMAX:
	case PROFILE_V_AMAX:
		return layers * heads;
	case PROFILE_K_ZERO:
	case PROFILE_K_RANGE:
		return layers * heads * dim;
	default:
		return layers * dim * dim;
	}
}

bool profile_shape_ok(const struct profile_shape *s)
{
	return s->nr_layers && s->nr_layers <= PROFILE_MAX_LAYERS &&
	       s->nr_heads && s->nr_heads <= KVD_MAX_HEADS && s->k_dim &&
	       s->k_dim <= KVD_MAX_DIM && s->k_dim % 8 == 0 &&
	       s->v_dim <= KVD_MAX_DIM && s->v_dim % 8 == 0;
}

/* At least one float, so that an empty part is still not an absent one. */
static float *part_new(const struct profile_shape *s, enum profile_part part)
{
	uint64_t n = profile_part_floats(s, part);

	return calloc(n ? n : 1, sizeof(float));
}

int profile_init(struct profile *p, const struct profile_shape *shape)
{
	struct profile x = { .shape = *shape };

	if (!profile_shape_ok(shape))
		return -EINVAL;
	for (int i = 0; i < PROFILE_NR_PARTS; i++) {
		x.parts[i] = part_new(shape, (enum profile_part)i);
		if (!x.parts[i]) {
			profile_fini(&x);
			return -ENOMEM;
		}
	}
	*p = x;
	return 0;
}

void profile_fini(struct profile *p)
{
	for (int i = 0; i < PROFILE_NR_PARTS; i++)
		free(p->parts[i]);
	*p = (struct profile)PROFILE_NULL;
}

static uint32_t nr_parts(const struct profile *p)
{
	uint32_t nr = 0;

	for (int i = 0; i < PROFILE_NR_PARTS; i++)
		nr += p->parts[i] != NULL;
	return nr;
}

size_t profile_bytes(const struct profile *p)
{
	size_t bytes = TABLE_AT + nr_parts(p) * ENTRY_BYTES;

	for (int i = 0; i < PROFILE_NR_PARTS; i++)
		if (p->parts[i])
			bytes += 4 * profile_part_floats(&p->shape,
							 (enum profile_part)i);
	return bytes;
}

void profile_encode(struct profile *p, uint8_t *out)
{
	uint8_t *entry = out + TABLE_AT;
	uint8_t *data = entry + nr_parts(p) * ENTRY_BYTES;

	memset(out, 0, (size_t)(data - out));
	memcpy(out, magic, sizeof(magic));
	put32(out + 8, PROFILE_VERSION);
	put32(out + HEADER_AT, p->shape.nr_layers);
	put32(out + HEADER_AT + 4, p->shape.nr_heads);
	put32(out + HEADER_AT + 8, p->shape.k_dim);
	put32(out + HEADER_AT + 12, p->shape.v_dim);
	put32(out + HEADER_AT + 16, nr_parts(p));
	for (uint32_t i = 0; i < PROFILE_NR_PARTS; i++) {
		uint64_t n = profile_part_floats(&p->shape,
						 (enum profile_part)i);

		if (!p->parts[i])
			continue;
		put32(entry, i);
		put64(entry + 8, 4 * n);
		entry += ENTRY_BYTES;
		for (uint64_t k = 0; k < n; k++, data += 4)
			put32(data, f32_bits(p->parts[i][k]));
	}
	p->digest = digest_of(out, (size_t)(data - out));
	put64(out + 16, p->digest);
}

static const char *check_floats(const float *x, uint64_t n)
{
	for (uint64_t i = 0; i < n; i++)
		if (!isfinite(x[i]))
			return "holds a number that is not finite";
	return NULL;
}

static const char *check_channels(const float *x, uint64_t n, bool range)
{
	for (uint64_t i = 0; i < n; i++) {
		if (f16_round(x[i]) != x[i])
			return "holds a zero or range that is not exact in f16";
		if (range && x[i] <= 0)
			return "holds a range that is not positive";
	}
	return NULL;
}

static const char *check_books(const float *x, uint32_t nr_layers,
			       uint32_t codes)
{
	for (uint32_t l = 0; l < nr_layers; l++, x += TABLES_CODES)
		for (uint32_t i = 1; i < codes; i++)
			if (x[i] < x[i - 1])
				return "holds a codebook that does not ascend";
	return NULL;
}

/* Rows alone: all pairs of them would take longer than a loader may. */
static const char *check_rotations(const float *x, uint64_t rows, uint32_t dim)
{
	for (uint64_t r = 0; r < rows; r++, x += dim) {
		double sum = 0;

		for (uint32_t i = 0; i < dim; i++)
			sum += (double)x[i] * x[i];
		if (!(fabs(sum - 1) < NORM_SLACK))
			return "holds a rotation that is none";
	}
	return NULL;
}

static const char *check_amax(const float *x, uint64_t n)
{
	for (uint64_t i = 0; i < n; i++)
		if (x[i] < 0)
			return "holds a negative magnitude";
	return NULL;
}

static const char *check_part(const struct profile *p, enum profile_part part)
{
	const struct profile_shape *s = &p->shape;
	uint64_t n = profile_part_floats(s, part);
	const float *x = p->parts[part];
	const char *why = check_floats(x, n);
	uint32_t dim = part_is_v(part) ? s->v_dim : s->k_dim;

	if (why || !n)
		return why;
	if (part_is_book(part))
		return check_books(x, s->nr_layers,
				   1u << (PROFILE_MAX_BITS -
					  (part - PROFILE_BOOKS) /
						  PROFILE_NR_BOOKS));
	switch (part) {
	case PROFILE_K_AMAX:
	case PROFILE_V_AMAX:
		return check_amax(x, n);
	case PROFILE_K_ZERO:
	case PROFILE_K_RANGE:
		return check_channels(x, n, part == PROFILE_K_RANGE);
	default:
		return check_rotations(x, n / dim, dim);
	}
}

/* Which parts follow, and that they fill the file to its last byte. */
static const char *check_table(const uint8_t *bytes, size_t nr, uint32_t parts,
			       const struct profile_shape *s)
{
	uint64_t end = TABLE_AT + (uint64_t)parts * ENTRY_BYTES;
	const uint8_t *entry = bytes + TABLE_AT;
	int64_t last = -1;

	if (parts > PROFILE_NR_PARTS || end > nr)
		return "is cut short";
	for (uint32_t i = 0; i < parts; i++, entry += ENTRY_BYTES) {
		uint32_t part = get32(entry);

		if (part >= PROFILE_NR_PARTS || part <= last ||
		    get32(entry + 4))
			return "has a part that nobody knows";
		if (get64(entry + 8) !=
		    4 * profile_part_floats(s, (enum profile_part)part))
			return "has a part of the wrong size";
		end += get64(entry + 8);
		last = part;
	}
	return end == nr ? NULL : "is cut short, or has more than it says";
}

static int read_parts(const uint8_t *bytes, uint32_t parts, struct profile *p,
		      const char **ret_why)
{
	const uint8_t *entry = bytes + TABLE_AT;
	const uint8_t *data = entry + parts * ENTRY_BYTES;

	for (uint32_t i = 0; i < parts; i++, entry += ENTRY_BYTES) {
		enum profile_part part = (enum profile_part)get32(entry);
		uint64_t n = profile_part_floats(&p->shape, part);
		float *x = part_new(&p->shape, part);

		if (!x)
			return -ENOMEM;
		p->parts[part] = x;
		for (uint64_t k = 0; k < n; k++, data += 4)
			x[k] = f32_from_bits(get32(data));
		*ret_why = check_part(p, part);
		if (*ret_why)
			return -EINVAL;
	}
	return 0;
}

static int refuse(const char **ret_why, int err, const char *why)
{
	*ret_why = why;
	return err;
}

int profile_decode(const uint8_t *bytes, size_t nr, struct profile *ret,
		   const char **ret_why)
{
	struct profile p = PROFILE_NULL;
	uint32_t parts;
	int err;

	if (nr < sizeof(magic) || memcmp(bytes, magic, sizeof(magic)))
		return refuse(ret_why, -EINVAL, "is no profile");
	if (nr < TABLE_AT)
		return refuse(ret_why, -EINVAL, "is cut short");
	if (get32(bytes + 8) != PROFILE_VERSION)
		return refuse(ret_why, -EPROTO,
			      "is of a version that this library does not "
			      "know");
	p.digest = get64(bytes + 16);
	if (get32(bytes + 12) || p.digest != digest_of(bytes, nr))
		return refuse(ret_why, -EINVAL,
			      "was cut short or changed since it was made");
	p.shape.nr_layers = get32(bytes + HEADER_AT);
	p.shape.nr_heads = get32(bytes + HEADER_AT + 4);
	p.shape.k_dim = get32(bytes + HEADER_AT + 8);
	p.shape.v_dim = get32(bytes + HEADER_AT + 12);
	parts = get32(bytes + HEADER_AT + 16);
	if (!profile_shape_ok(&p.shape) || get32(bytes + HEADER_AT + 20))
		return refuse(ret_why, -EINVAL,
			      "is of a model that cannot be");
	*ret_why = check_table(bytes, nr, parts, &p.shape);
	if (*ret_why)
		return -EINVAL;
	err = read_parts(bytes, parts, &p, ret_why);
	if (err) {
		profile_fini(&p);
		return err;
	}
	*ret = p;
	return 0;
}
