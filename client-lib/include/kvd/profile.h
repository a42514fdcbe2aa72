/* SPDX-License-Identifier: Apache-2.0 */
/*
 * profile.h - calibration profiles: what some formats need to know of a model.
 *
 * `kvctl calibrate` makes one file for a model: fp8 scales, codebooks and
 * ranges of kvquant, rotations of oscar2. A worker loads it, names its digest
 * in the geometry (so that pages made with another are never taken for its
 * own) and gives it to the space. Plain C99; any thread, a profile is
 * immutable.
 */
#ifndef KVD_PROFILE_H
#define KVD_PROFILE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#ifdef __GNUC__
#pragma GCC visibility push(default)
#endif

struct kvd_profile;

/**
 * kvd_profile_load() - read a profile
 * @ret:	kvd_profile_free() it after the spaces that use it
 * @why:	one line on what is wrong with the file, when that is the error
 *
 * Return: 0; -ENOENT, -EACCES, ...: cannot be read; -EINVAL: not a profile,
 * or broken; -EPROTO: of a version that this library does not know; -ENOMEM.
 */
int kvd_profile_load(const char *path, struct kvd_profile **ret, char *why,
		     size_t why_bytes);
void kvd_profile_free(struct kvd_profile *p); /* NULL is fine */

/* For kvd_geometry.profile: a hash of all it says; never 0. */
uint64_t kvd_profile_digest(const struct kvd_profile *p);

#ifdef __GNUC__
#pragma GCC visibility pop
#endif
#ifdef __cplusplus
}
#endif
#endif
