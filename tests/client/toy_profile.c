// SPDX-License-Identifier: Apache-2.0
/*
 * toy_profile.c - a calibration for the toy's numbers: codebooks that ascend
 * evenly, and ranges that leave outliers.
 */
#include <stdlib.h>
#include <unistd.h>
#include <kvd/profile.h>
#include "kernels/profile.h"
#include "tests/client/toy.h"
#include "tests/support/check.h"

void toy_profile_write(const struct kvd_geometry *g, char *path)
{
	struct profile_shape shape = { g->groups[0].nr_layers,
				       g->groups[0].nr_kv_heads,
				       g->groups[0].k_dim, g->groups[0].v_dim };
	struct profile p;
	uint8_t *bytes;
	size_t nr;
	int fd;

	CHECK(!profile_init(&p, &shape), "profile");
	for (uint32_t i = 0; i < PROFILE_NR_PARTS; i++)
		for (uint64_t k = 0; k < profile_part_floats(&shape, i); k++)
			p.parts[i][k] = i == PROFILE_K_ZERO ? 0 :
				i == PROFILE_K_RANGE ? 0.984375f :
				i < PROFILE_BOOKS ? 1 :
				(float)(k % TABLES_CODES) / 4 - 0.875f;
	for (uint32_t i = PROFILE_K_ROTATION; i <= PROFILE_V_ROTATION; i++)
		for (uint64_t k = 0; k < profile_part_floats(&shape, i); k++)
			p.parts[i][k] = k / shape.k_dim % shape.k_dim ==
					k % shape.k_dim;
	nr = profile_bytes(&p);
	bytes = malloc(nr);
	CHECK(bytes, "out of memory");
	profile_encode(&p, bytes);
	fd = mkstemp(path);
	CHECK(fd >= 0 && write(fd, bytes, nr) == (ssize_t)nr && !close(fd),
	      "%s", path);
	free(bytes);
	profile_fini(&p);
}

struct kvd_profile *toy_profile(const struct kvd_geometry *g)
{
	char path[] = "/tmp/kvd-toy-XXXXXX", why[160] = "";
	struct kvd_profile *ret = NULL;

	toy_profile_write(g, path);
	CHECK(!kvd_profile_load(path, &ret, why, sizeof(why)), "%s", why);
	unlink(path);
	return ret;
}
