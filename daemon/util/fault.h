/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fault.h - places where a test can have something go wrong: KVD_FAULT.
 *
 *	KVD_FAULT=dev-job@3:12s,accept@1-5:EMFILE,segment:ENOSPC,send@1%:EIO
 *
 * A list of NAME[@WHEN][:WHAT]. WHEN counts the times the place is passed,
 * from 1: N the Nth, N-M from one to another, N- from there on; P% a part of
 * them, drawn from the seed that an entry seed=N sets. Left out, it is always.
 * WHAT is the name of an error the place then returns, a time it sleeps (5ms,
 * 2s), kill (SIGKILL), stop (SIGSTOP) or abort. Left out, it is EIO.
 *
 * For tests: who can set the environment of the daemon can end it anyway. It
 * is read once; without it a place costs one branch. Places may be passed on
 * any thread.
 */
#ifndef DAEMON_UTIL_FAULT_H
#define DAEMON_UTIL_FAULT_H

#include <stdbool.h>
#include <stddef.h>

enum fault_point {
	FAULT_ACCEPT,		/* a connection is taken */
	FAULT_DEV_JOB,		/* on the device's thread, before each job */
	FAULT_EXPORT,		/* a segment gets a descriptor for a client */
	FAULT_MEMFD,		/* a memfd is made */
	FAULT_REQUEST,		/* a frame has come, nothing is done yet */
	FAULT_SEGMENT,		/* a segment is made, on any device */
	FAULT_SEND,		/* a frame goes to a client */
	FAULT_TIER_READ,	/* a tier's file, on its thread, */
	FAULT_TIER_WRITE,	/* before each read or write */
	FAULT_NR
};

extern bool fault_on;

/**
 * fault_init() - read what is to go wrong
 * @spec:	of KVD_FAULT, NULL: nothing
 * @why:	what is wrong with it, one line
 *
 * Before there are threads. Return: 0 or -EINVAL, and nothing goes wrong then.
 */
int fault_init(const char *spec, char *why, size_t why_bytes);

/* Use fault_at(). */
int fault_hit(enum fault_point point);

/* Return: 0, or the negative errno that is to be had here. */
static inline int fault_at(enum fault_point point)
{
	return __builtin_expect(fault_on, 0) ? fault_hit(point) : 0;
}

#endif
