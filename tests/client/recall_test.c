// SPDX-License-Identifier: Apache-2.0
/*
 * recall_test.c - recalls of the stock that come at any time.
 *
 * A recall is read with the answer to whatever is being asked. Here one comes
 * with each grant, and each third request is refused: pages of one class must
 * not be given back while those of another are asked for.
 */
#include <errno.h>
#include "client-lib/conn.h"
#include "client-lib/request.h"
#include "client-lib/space.h"
#include "tests/client/toy.h"
#include "tests/support/check.h"
#include "tests/support/daemon.h"

#define N 500u

static struct daemon d;
static struct toy toy;
static uint32_t tokens[N], nr_asked;

int __real_request_alloc(struct kvd_space *sp, uint32_t page_class, uint32_t nr,
			 uint32_t deadline_ms, handle_t *handles,
			 place_t *places);
int __wrap_request_alloc(struct kvd_space *sp, uint32_t page_class, uint32_t nr,
			 uint32_t deadline_ms, handle_t *handles,
			 place_t *places);

int __wrap_request_alloc(struct kvd_space *sp, uint32_t page_class, uint32_t nr,
			 uint32_t deadline_ms, handle_t *handles,
			 place_t *places)
{
	if (++nr_asked % 3 == 0)
		return -ENOSPC;
	sp->k->recalled = true;
	return __real_request_alloc(sp, page_class, nr, deadline_ms, handles,
				    places);
}

/* Each block needs an open page and a sealed one. */
static void test_two_classes(uint32_t format)
{
	struct kvd_space_opts o;
	struct kvd_seq *seq;
	uint32_t refused = 0;
	size_t n;
	int r;

	toy_opts(&o, (uint8_t)format);
	o.geometry.k_format = o.geometry.v_format = format;
	o.geometry.v_group = 32;
	toy_open(&toy, d.socket, &o);
	CHECK(!kvd_seq_new(toy.sp, NULL, &seq), "seq");
	while ((n = kvd_seq_tokens(seq)) < N) {
		r = toy_run(&toy, seq, tokens + n, 50, 50, NULL);
		CHECK(!r || r == -ENOSPC, "%s", kvd_error(toy.k));
		refused += r != 0;
	}
	CHECK(refused > 2 && nr_asked > 8, "%u refused of %u", refused,
	      nr_asked);
	toy_close(&toy);
}

int main(void)
{
	uint64_t seed = toy_seed();

	toy_tokens(&seed, tokens, N);
	daemon_start(&d, NULL);
	test_two_classes(KVD_KIVI4);
	test_two_classes(KVD_KVARN2);
	daemon_assert_idle(&d);
	daemon_stop(&d);
	return 0;
}
