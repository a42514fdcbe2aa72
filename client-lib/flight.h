/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flight.h - single flight: what a sequence has announced that it will compute,
 * and a match that waits for what others have.
 *
 * Both are the connection's: when it is lost the daemon has forgotten them.
 */
#ifndef CLIENT_LIB_FLIGHT_H
#define CLIENT_LIB_FLIGHT_H

#include <stdbool.h>
#include <stdint.h>

struct kvd;
struct kvd_seq;
struct match_wait;

/* Blocks [@depth, @depth + @nr) are announced under number @flight. */
void flight_begin(struct kvd_seq *seq, uint64_t flight, uint32_t depth,
		  uint32_t nr);

/* Blocks have been published, or, @private, will not be. */
void flight_settled(struct kvd_seq *seq, bool private);

/* What is announced and not published will not come. It may be nothing. */
void flight_end(struct kvd_seq *seq);

/* The match that goes on ends, with nothing. There may be none. */
void match_wait_end(struct kvd_seq *seq);

/* Wait number @wait is over; @late: its time is. For call.c. */
void match_wait_told(struct kvd *k, uint32_t wait, bool late);

/* The connection is. For conn_lost(). */
void flights_lost(struct kvd *k);

#endif
