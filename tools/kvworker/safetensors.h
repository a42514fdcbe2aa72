/* SPDX-License-Identifier: Apache-2.0 */
/*
 * safetensors.h - the tensors of a model directory, mapped read-only.
 */
#ifndef KVWORKER_SAFETENSORS_H
#define KVWORKER_SAFETENSORS_H

#include <stddef.h>
#include <stdint.h>
#include "tools/kvworker/error.h"

#define TENSOR_MAX_DIMS 8

enum tensor_dtype {
	TENSOR_F16,
	TENSOR_BF16,
	TENSOR_F32,
	TENSOR_OTHER,	/* well-formed, but nothing a weight can be read from */
};

struct tensor {
	const char *name;
	const char *path;	/* of its file */
	enum tensor_dtype dtype;
	const char *dtype_name;
	uint32_t nr_dims;
	uint64_t dims[TENSOR_MAX_DIMS];
	const uint8_t *data;	/* little-endian, of any alignment */
	size_t bytes;
};

struct safetensors;

/**
 * safetensors_open() - map every *.safetensors file of a directory
 * @dir:	model directory; no index file is needed
 * @ret:	the tensors; safetensors_close() them
 * @e:		the first thing wrong, with file and tensor
 *
 * Every header is checked in full: its length, its JSON, each tensor's dtype,
 * and that shape and byte range agree, lie in the file, neither overlap nor
 * leave holes.
 *
 * Return: 0 or -errno.
 */
int safetensors_open(const char *dir, struct safetensors **ret,
		     struct error *e);

/* NULL is fine. */
void safetensors_close(struct safetensors *st);

/* The tensor of this name, or NULL. */
const struct tensor *safetensors_find(const struct safetensors *st,
				      const char *name);

#endif
