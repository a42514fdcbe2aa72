/* SPDX-License-Identifier: Apache-2.0 */
/*
 * memfd.h - memory that has a descriptor.
 */
#ifndef DAEMON_UTIL_MEMFD_H
#define DAEMON_UTIL_MEMFD_H

#include <stdint.h>

/**
 * memfd_new() - anonymous memory behind a descriptor, size fixed for good
 * @name:	shown in /proc
 * @bytes:	zeroed and untouched: costs memory where it is written
 *
 * Mode 0600, close-on-exec, sealed against shrinking and growing; more seals
 * may be added. Return: descriptor, or -errno.
 */
int memfd_new(const char *name, uint64_t bytes);

/* Another descriptor of the same memory, read-only for good; or -errno. */
int memfd_reopen_readonly(int fd);

/* 0 when @fd is a memfd of at least @bytes that nobody can shrink. */
int memfd_check(int fd, uint64_t bytes);

/**
 * memfd_map() - map all @bytes of it, shared, readable and writable
 * Return: 0 or -errno.
 */
int memfd_map(int fd, uint64_t bytes, void **ret);

/**
 * memfd_share() - memory that this process writes and others may only read
 * @ret_fd:	a read-only descriptor to hand out
 * @ret:	the one writable mapping there will ever be
 *
 * Return: 0 or -errno.
 */
int memfd_share(const char *name, uint64_t bytes, int *ret_fd, void **ret);

#endif
