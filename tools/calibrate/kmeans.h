/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kmeans.h - the best possible codebook of numbers on a line.
 */
#ifndef TOOLS_CALIBRATE_KMEANS_H
#define TOOLS_CALIBRATE_KMEANS_H

#include <stddef.h>
#include <stdint.h>

struct kmeans;

/**
 * kmeans_new() - solve for every number of centroids up to @max_k
 * @x:	[nr], ascending
 * @w:	[nr], weights, not negative
 *
 * Finds the least sum of w (x - nearest centroid)^2 that there is: on a line
 * clusters are intervals, and the best ones of k - 1 centroids over each
 * prefix give those of k. O(max_k nr log nr).
 *
 * Return: 0, -EINVAL (no weight at all), or -ENOMEM.
 */
int kmeans_new(const double *x, const double *w, size_t nr, uint32_t max_k,
	       struct kmeans **ret);

/* NULL is fine. */
void kmeans_free(struct kmeans *km);

/**
 * kmeans_centroids() - the solution for @k, at most max_k
 * @out:	[k], ascending; repeated where there are fewer points than @k
 *
 * Return: its cost.
 */
double kmeans_centroids(const struct kmeans *km, uint32_t k, double *out);

#endif
