/* SPDX-License-Identifier: Apache-2.0 */
/*
 * value.h - text of a configuration into what it means.
 *
 * Each returns 0, or -EINVAL for what it does not take, and *@to is as it was.
 */
#ifndef DAEMON_VALUE_H
#define DAEMON_VALUE_H

/* A number with K, M, G, T; uint64_t. */
int value_size(void *to, const char *text);

/* The same, or infinity, which is 0. */
int value_limit(void *to, const char *text);

/* A size, or a percentage; struct server_part. */
int value_part(void *to, const char *text);

/* A number with ms, s or min, of seconds without; milliseconds, uint64_t. */
int value_time(void *to, const char *text);

/* 1 to 1000000; uint32_t. */
int value_count(void *to, const char *text);

/* 0 to 100, perhaps with %; uint32_t. */
int value_percent(void *to, const char *text);

/* Octal, up to 0777; uint32_t. */
int value_mode(void *to, const char *text);

/* A name or a number; gid_t, uid_t. They look in the system's databases. */
int value_group(void *to, const char *text);
int value_user(void *to, const char *text);

/* char [256]: an absolute path; what fits in a struct sockaddr_un. */
int value_path(void *to, const char *text);
int value_socket(void *to, const char *text);

/* As dev_new() takes it; char [32]. */
int value_device(void *to, const char *text);

/* char [16]. */
int value_policy(void *to, const char *text);

/* A name into what <syslog.h> has for it; int. */
int value_level(void *to, const char *text);

#endif
