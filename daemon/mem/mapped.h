/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mapped.h - who may still have a revoked segment mapped.
 *
 * When a segment is revoked a list is made of its tenant's clients that have
 * opened a space, and of the processes that were clients and live. Each is off
 * it once it says that it has unmapped the segment, or is dead. A client that
 * loses its connection is on it as a process, once it has ended and not only
 * lost its owner; who continues its series (mem_client_id) takes its place, and
 * is told again.
 */
#ifndef DAEMON_MEM_MAPPED_H
#define DAEMON_MEM_MAPPED_H

#include "daemon/mem/segment.h"

/* Lists who is to unmap @seg. Return: 0; -ENOMEM, and nobody is listed. */
int mapped_list(struct segment *seg);

/* So many are told to one client, who has not answered, and no more. */
#define MAPPED_MAX_ASKED 64u

/* Tells those of the list that have not been told. */
void mapped_tell(struct segment *seg);

/* @c has unmapped @seg. */
void mapped_ack(struct segment *seg, const struct mem_client *c);

/* @c's connection ends: it is in the lists as a process, or dead. */
void mapped_client_end(const struct mem_client *c);

/* A process of whatever tenant is dead. */
void mapped_process_end(struct mem *m, pid_t pid, uint64_t start_time);

/* Nobody is on the list any more. */
void mapped_forget(struct segment *seg);

#endif
