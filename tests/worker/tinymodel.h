/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tinymodel.h - a Llama model of a few hundred weights, whole or broken.
 */
#ifndef TESTS_WORKER_TINYMODEL_H
#define TESTS_WORKER_TINYMODEL_H

#include <stdint.h>

/* What to break. Zeroed: nothing, the model loads. */
struct tinymodel {
	const char *find;	/* in config.json or the header: what ... */
	const char *replace;	/* ... becomes this */
	const char *dtype;	/* F16 or BF16; NULL: F32 */
	int in_config;		/* config.json, else the header */
	int no_config;		/* leave the file out */
	int no_tensors;
	uint64_t header_len;	/* say this instead; 0: the truth */
	int cut;		/* bytes cut off the end; negative: added */
	int keep;		/* if not 0, bytes kept of the whole file */
	uint8_t last_byte;	/* of the last weight */
};

/**
 * tinymodel_write() - write config.json and model.safetensors
 * @dir:	made if it is not there
 *
 * Ends the program when it cannot, also when @find is not there.
 */
void tinymodel_write(const char *dir, const struct tinymodel *t);

/* Removes what tinymodel_write() wrote, and the directory. */
void tinymodel_remove(const char *dir);

#endif
