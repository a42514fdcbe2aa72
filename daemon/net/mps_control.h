/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mps_control.h - which processes CUDA's Multi-Process Service works for.
 *
 * An MPS server runs the kernels of all its clients, so that one's death does
 * not end them. nvidia-cuda-mps-control is asked for the pids of all servers'
 * clients; where it finds its daemon is CUDA_MPS_PIPE_DIRECTORY's to say, or
 * KVD_MPS_PIPE_DIRECTORY's where kvd itself is not to be under it. A program is
 * run for each command, and may take its time: on a thread that may be blocked.
 * Plain system calls.
 */
#ifndef DAEMON_NET_MPS_CONTROL_H
#define DAEMON_NET_MPS_CONTROL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define MPS_CONTROL "nvidia-cuda-mps-control"
#define MPS_CONTROL_MS 5000	/* for all commands of a question */

/* Zeroed before the first question. */
struct mps_control {
	atomic_bool give_up;	/* set by another thread: return soon */
	pid_t stuck;		/* one that did not end when killed; 0: none */
	pid_t *pids;		/* of the last answer */
	size_t nr;
	size_t room;
	char why[160];		/* there is none: one line */
};

/**
 * mps_control_ask() - have all clients of all MPS servers listed
 *
 * Blocks for MPS_CONTROL_MS at most. Return: 0, or a negative errno with
 * c->why: no list is better than half of one, or one that is not understood.
 */
int mps_control_ask(struct mps_control *c);

/* Is @pid in the last answer? */
bool mps_control_lists(const struct mps_control *c, pid_t pid);

void mps_control_fini(struct mps_control *c);

#endif
