/* SPDX-License-Identifier: Apache-2.0 */
/*
 * file.h - an input where a program looks for a file.
 *
 * A file is memory behind a descriptor and is written anew for each input; a
 * directory is in memory too, where the system has such, and goes at exit.
 */
#ifndef TESTS_FUZZ_FILE_H
#define TESTS_FUZZ_FILE_H

#include <stddef.h>
#include <stdint.h>

/* One file, of any number; static and zeroed at first. */
struct fuzz_file {
	int fd;
	char path[64];		/* empty: not made yet */
};

/* Fills it. Return: its path. */
const char *fuzz_file_put(struct fuzz_file *f, const uint8_t *data,
			  size_t size);

/* A new directory, removed at exit with the links and directories in it. */
const char *fuzz_dir(void);

/* DIR/NAME stands for @f, which has been filled once. */
void fuzz_file_link(const struct fuzz_file *f, const char *dir,
		    const char *name);

/*
 * Cuts a piece off the front of an input: up to a line of "%%", or all of it.
 * Return: its size; @data and @size are moved behind the line.
 */
size_t fuzz_cut(const uint8_t **data, size_t *size);

#endif
