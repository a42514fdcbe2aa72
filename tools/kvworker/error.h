/* SPDX-License-Identifier: Apache-2.0 */
/*
 * error.h - the sentence a failed step leaves for the user.
 */
#ifndef KVWORKER_ERROR_H
#define KVWORKER_ERROR_H

struct error {
	char text[512];
};

/**
 * error_set() - say what went wrong
 * @e:		overwritten
 * @err:	a negative errno value
 *
 * Return: @err, so that a check is one line.
 */
__attribute__((format(printf, 3, 4))) int error_set(struct error *e, int err,
						    const char *fmt, ...);

#endif
