// SPDX-License-Identifier: Apache-2.0
/* flight.c - what a sequence has announced that it will compute. */
#include "client-lib/conn.h"
#include "client-lib/flight.h"
#include "client-lib/request.h"
#include "client-lib/seq.h"

static void flight_forget(struct kvd_seq *seq)
{
	LIST_REMOVE(seq, of_flights);
	seq->flight = 0;
}

void flight_begin(struct kvd_seq *seq, uint64_t flight, uint32_t depth,
		  uint32_t nr)
{
	seq->flight = flight;
	seq->flight_end = depth + nr;
	LIST_INSERT_HEAD(&seq->sp->k->flights, seq, of_flights);
}

void flight_settled(struct kvd_seq *seq, bool private)
{
	if (private)
		flight_end(seq);
	else if (seq->flight && seq->nr_settled >= seq->flight_end)
		flight_forget(seq); /* as the daemon has */
}

void flight_end(struct kvd_seq *seq)
{
	struct kvd *k = seq->sp->k;
	uint64_t flight = seq->flight;

	if (!flight)
		return;
	flight_forget(seq);
	if (k->fd >= 0)
		request_flight_end(k, flight, 0);
}

void flights_lost(struct kvd *k)
{
	while (!LIST_EMPTY(&k->flights))
		flight_forget(LIST_FIRST(&k->flights));
	match_wait_told(k, 0, false);
}
