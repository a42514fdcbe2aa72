/* SPDX-License-Identifier: Apache-2.0 */
/* fixed_new.h - how a batch that is in use comes to its end. */
#ifndef CLIENT_LIB_FIXED_NEW_H
#define CLIENT_LIB_FIXED_NEW_H

struct kvd_batch;

/* Closes its step and waits for all of them: nothing uses the batch then. */
void fixed_end(struct kvd_batch *b);

#endif
