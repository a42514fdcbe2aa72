/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vectors.h - arrays of numbers from the JSON files of tests/data/vectors.
 */
#ifndef TESTS_CALIBRATE_VECTORS_H
#define TESTS_CALIBRATE_VECTORS_H

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

/* Element @i of array @name; a scalar's data is the number itself. */
static inline double vector_at(const json_t *file, const char *name, size_t i)
{
	const json_t *j = json_object_get(json_object_get(file, name), "data");

	while (json_is_array(j)) {
		const json_t *first = json_array_get(j, 0);
		size_t row = 1;

		for (; json_is_array(first); first = json_array_get(first, 0))
			row *= json_array_size(first);
		j = json_array_get(j, i / row);
		i %= row;
	}
	if (!json_is_number(j)) {
		fprintf(stderr, "no %s[%zu]\n", name, i);
		abort();
	}
	return json_number_value(j);
}

static inline json_t *vector_file(const char *name)
{
	char path[512];
	json_t *j;

	snprintf(path, sizeof(path), "%s/%s.json", VECTORS, name);
	j = json_load_file(path, 0, NULL);
	if (!j) {
		fprintf(stderr, "cannot read %s\n", path);
		abort();
	}
	return j;
}

#endif
