/* SPDX-License-Identifier: Apache-2.0 */
/* error.h - the sentence behind an errno value; sizes of callers' structs. */
#ifndef CLIENT_LIB_ERROR_H
#define CLIENT_LIB_ERROR_H

#include <stddef.h>
#include <stdint.h>

struct kvd;

/**
 * fail() - remember a sentence for kvd_error() and pass an error on
 * @err:	0 or a negative errno value, returned as it is
 */
int fail(struct kvd *k, int err, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* The same of -EMFILE: @what cannot be done. */
int fail_fds(struct kvd *k, const char *what);

/**
 * fail_size() - is the size that a caller's struct begins with one we know?
 * @arg:	the struct; its first member is a uint32_t size
 * @known:	sizeof of it in this library
 *
 * A longer one comes from a program that is newer than the library: what the
 * library does not know must be zero. Return: 0 or -EINVAL.
 */
int fail_size(struct kvd *k, const void *arg, size_t known);

/*
 * The same of a struct that has grown: it had @least bytes at first. What lies
 * past its size must not be read.
 */
int fail_size_since(struct kvd *k, const void *arg, size_t least, size_t known);

#endif
