/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shared.h - memory behind a descriptor that somebody else has made.
 */
#ifndef CLIENT_LIB_SHARED_H
#define CLIENT_LIB_SHARED_H

#include <stdint.h>

/**
 * shared_check() - can @bytes of @fd be mapped and read, now and later?
 *
 * Where there is less, or somebody could cut it, reading ends in SIGBUS.
 * Return: 0 or -EPROTO.
 */
int shared_check(int fd, uint64_t bytes);

#endif
