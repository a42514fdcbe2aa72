/* SPDX-License-Identifier: Apache-2.0 */
/*
 * toy.h - a worker with a toy model, for tests of the library.
 *
 * Q, K and V of a token are pseudo-random numbers made of its id, position,
 * group, layer, head and dimension; they depend on nothing else, so that any
 * process computes the same. What attention returns is kept: two ways to the
 * same tokens must give the same bytes.
 */
#ifndef TESTS_CLIENT_TOY_H
#define TESTS_CLIENT_TOY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <kvd/kvd.h>

#define TOY_PAGE 32u

/* Nobody waits as long for a segment, however busy the machine: who fills a
 * pool, to be refused, waits less. */
#define TOY_WAIT_MS 20000u

struct toy {
	struct kvd *k;
	struct kvd_space *sp;
	struct kvd_space_opts opts;
	float *rows[4];		/* scratch: q, k, v, out */
	size_t room;		/* of each, in rows */
};

/*
 * Of now on the pool is on @spec, "cuda-vmm:0" or the like: makes its context
 * current, and waits for its work wherever the host's would be done.
 */
void toy_on_cuda(const char *spec);

/* Zeros that the library may be given as rows; page-locked on CUDA. */
float *toy_floats(size_t n);
void toy_floats_free(float *p);

/* Waits; then what depended on the device is done. On the host nothing. */
void toy_sync(struct toy *t);

/* One group of 2 layers and 2 kv heads, f16, pages of TOY_PAGE tokens. */
void toy_opts(struct kvd_space_opts *o, uint8_t model);

/* The same, and a second group: other layers, heads, dims, and a window. */
void toy_opts_two_groups(struct kvd_space_opts *o, uint8_t model,
			 uint32_t window);

/* A calibration profile for the first group; kvd_profile_free() it. */
struct kvd_profile *toy_profile(const struct kvd_geometry *g);

/* The same to a file of its own: @path ends with XXXXXX, as for mkstemp(). */
void toy_profile_write(const struct kvd_geometry *g, char *path);

/* Connects and opens; what goes wrong aborts. */
void toy_open(struct toy *t, const char *socket,
	      const struct kvd_space_opts *o);
void toy_close(struct toy *t);

/* Floats that attention returns for one token, all groups and layers. */
size_t toy_out_floats(const struct toy *t);

/**
 * toy_feed() - append, attend and commit tokens of several sequences at once
 * @items:	sequences and numbers of tokens
 * @tokens:	[item] those tokens
 * @out:	[item] NULL, or room for nr_tokens * toy_out_floats() floats
 *
 * Return: 0, or the first failure of the library. -ENOTCONN of a commit is
 * none.
 */
int toy_feed(struct toy *t, const struct kvd_item *items, size_t nr,
	     const uint32_t *const *tokens, float *const *out);

/* One sequence, in chunks of at most @chunk tokens. */
int toy_run(struct toy *t, struct kvd_seq *seq, const uint32_t *tokens,
	    size_t n, size_t chunk, float *out);

/**
 * toy_check_batch() - sequences of different lengths in one call, prefill
 * beside decode, give what each gives alone
 * @tokens:	of each sequence
 * @most:	new tokens of a sequence in one call, at most
 * @fresh:	a new sequence that nothing published before can be found by
 *
 * Aborts where they do not.
 */
void toy_check_batch(struct toy *t, uint64_t *seed, size_t tokens,
		     uint32_t most, struct kvd_seq *(*fresh)(void));

/* Q, K and V of one layer, rows of all items in turn, to @rows. */
void toy_rows(const struct toy *t, const struct kvd_item *items, size_t nr,
	      const uint32_t *const *tokens, uint32_t group, uint32_t layer,
	      float *const *rows);

/* Appends and attends, and commits nothing. */
int toy_store(struct toy *t, const struct kvd_item *item,
	      const uint32_t *tokens, float *out);

/* Only attends, over tokens that are stored and not committed. */
int toy_attend(struct toy *t, struct kvd_seq *seq, const uint32_t *tokens,
	       size_t n, float *out);

/* Appends and commits, and attends over nothing: pages, for others to find. */
int toy_fill(struct toy *t, struct kvd_seq *seq, const uint32_t *tokens,
	     size_t n);

/* A new sequence that has matched; aborts on failure. */
struct kvd_seq *toy_match(struct toy *t, const uint32_t *tokens, size_t n,
			  size_t *ret_hit);

/* Random tokens from a seed. */
void toy_tokens(uint64_t *seed, uint32_t *tokens, size_t n);
uint64_t toy_random(uint64_t *seed);

/* KVD_SEED of the environment, else the clock; printed. */
uint64_t toy_seed(void);

/* NaN is put into K of this token id; UINT32_MAX: none. */
extern uint32_t toy_nan_token;

#endif
