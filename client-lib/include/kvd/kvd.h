/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kvd.h - the client library of kvd: shared, quantized KV pages for LLM
 * inference workers.
 *
 * A worker connects, opens a space (one model in one geometry), and keeps
 * each request's keys and values in a sequence:
 *
 *	struct kvd *k;
 *	struct kvd_space *sp;
 *	struct kvd_seq *seq;
 *	size_t hit;
 *
 *	kvd_connect(NULL, &k);
 *	kvd_space_open(k, &opts, &sp);
 *	kvd_seq_new(sp, NULL, &seq);
 *	kvd_seq_match(seq, prompt, n - 1, &hit);   // what others computed
 *	for each chunk of prompt[hit..n), then for each new token:
 *		for each layer:
 *			compute q, K, V of the chunk's tokens
 *			kvd_append(sp, &kv);	   // K and V into pages
 *			kvd_attend(sp, &at);	   // out = attention over all
 *		kvd_commit(seq, tokens, nr_tokens, NULL); // seal, publish
 *	kvd_seq_free(seq);
 *
 * Or, where a whole step of the model is one CUDA graph, with a batch:
 *
 *	kvd_batch_new(sp, &bounds, &batch);
 *	kv.batch = at.batch = batch;
 *	capture, once: for each layer kvd_append(sp, &kv), kvd_attend(sp, &at)
 *	for each step:
 *		kvd_batch_set(batch, items, nr_items, stream);
 *		copy the step's inputs; launch the graph on the stream
 *		for each item: kvd_commit(seq, &token, 1, stream);
 *
 * Positions. A sequence has kvd_seq_tokens() committed tokens. append and
 * attend work on the tokens that follow: row i of an item is at position
 * kvd_seq_tokens(seq) + i. A query sees every position up to its own (within
 * the group's window). commit moves the line. Appending again before commit
 * overwrites. Only committed tokens are ever sealed or published, and only in
 * full pages. What a token attends over depends on positions alone: results
 * are the same however a prompt is cut into chunks and whoever computed its
 * prefix. Where the format is sealed whole, a token sees its own page as it
 * was appended and those before it quantized; with 2 and 3 bits also the page
 * before its own as it was appended (kvd_seq_info() says when it could not, and
 * how much was found in fewer bits, where the geometry allows that).
 *
 * Devices. On a "host" pool q, K, V and out are host pointers and calls
 * return when the work is done. On CUDA pools they are device pointers, the
 * CUDA context that owns them must be current, calls are asynchronous on the
 * given stream, and what commit, truncate and free do takes effect after the
 * work already recorded on that stream. The library makes no CUDA context.
 * On a stream that is being captured only append and attend with a batch work.
 *
 * Threads. There are none inside. A struct kvd and all made from it belong to
 * one thread at a time; the caller serializes. Different connections are
 * independent. Host kernels use OpenMP threads as kvd_space_opts.nr_threads
 * says. A connection belongs to the process that made it: after fork() the
 * child uses none of it, and connects anew.
 *
 * Errors. Functions return 0 or a negative errno value; errno itself is not
 * touched. Out-parameters are written on success only, unless said otherwise.
 * kvd_error() has a sentence about the last failure of a connection.
 *
 *	-EINVAL		an argument is out of range
 *	-ENOMEM		this process is out of memory: see below
 *	-EMFILE		it is out of file descriptors: a connection, a space or
 *			a segment of pages could not be had. All else goes on
 *	-ENOSPC		the pool is full and nothing can be reclaimed
 *	-EDQUOT		the tenant's limit is reached
 *	-EAGAIN		what was begun goes on: kvd_seq_match_begin()
 *	-ENOENT		there is nothing of that kind to be pinned, or unpinned
 *	-ETIMEDOUT	the daemon did not answer in time
 *	-ENOTCONN	no daemon at the socket, or it went away and has not
 *			come back; the call may be repeated
 *	-ESTALE		pages of this sequence were lost (the pool did not
 *			survive a restart of the daemon): free it, start again
 *	-EPROTO		the other side does not speak this protocol
 *	-EACCES		not allowed
 *	-ENODEV		this process cannot map the pool's device
 *	-EOPNOTSUPP	the kernels of the pool's device lack this format
 *	-EIO		a device call failed
 *
 * Out of memory. A call that finds none does without, or returns -ENOMEM: what
 * it is about is as it was, and the call may be made again, but of append and
 * attend a part may be done: make them again before what relies on it. Where
 * there is none for an answer of the daemon the connection is given up; the
 * next call makes it anew and claims what is held (unpin may say -ENOENT then).
 * Events not kept are told as lost. What frees and closes needs none: at worst
 * it waits for the device, or kvd keeps pages until the process ends. OpenMP
 * ends it where it finds none for threads, on a host pool's first kernel.
 *
 * Structs that the caller fills begin with their size, sizeof, by which a newer
 * library knows what is missing. Unnamed fields must be zero.
 */
#ifndef KVD_H
#define KVD_H

#include <stddef.h>
#include <stdint.h>
#include "kvd/geometry.h"

#ifdef __cplusplus
extern "C" {
#endif
#ifdef __GNUC__
#pragma GCC visibility push(default)
#endif

#define KVD_VERSION_MAJOR 0
#define KVD_VERSION_MINOR 1

struct kvd;	  /* a connection to the daemon */
struct kvd_space; /* a space, as this connection sees it */
struct kvd_seq;	  /* a sequence: ordered pages and an open tail */
struct kvd_batch; /* sequences of calls that a CUDA graph may capture */

/* A CUstream (or cudaStream_t); NULL is the default stream, or no device. */
typedef void *kvd_stream;

/* ---- connection ---- */

struct kvd_connect_opts {
	uint32_t size;
	uint32_t timeout_ms;	/* of one call to the daemon; 0: 5000 */
	const char *socket;	/* NULL: as kvd_default_socket() */
	const char *program;	/* name shown to the admin; NULL: argv[0] */
};

/**
 * kvd_connect() - connect to the daemon and agree on a version
 * @opts:	NULL for defaults
 * @ret:	the connection; kvd_close() it
 *
 * Connect before CUDA is initialised where you can: the socket is then the
 * last thing the kernel closes when the process dies, and the daemon can
 * reuse its pages at once.
 *
 * Return: 0, -ENOTCONN, -EPROTO, -EACCES, -ENOMEM, -EMFILE, -ETIMEDOUT.
 */
int kvd_connect(const struct kvd_connect_opts *opts, struct kvd **ret);

/**
 * kvd_close() - close the connection and all that was opened through it
 *
 * Waits for device work that still uses pages, and as kvd_space_close() does.
 * NULL is fine.
 */
void kvd_close(struct kvd *k);

/**
 * kvd_fd() - descriptor to poll for input in the caller's loop
 *
 * Changes after a reconnection; -1 while disconnected. The library needs no
 * polling to work: blocking calls serve events too.
 */
int kvd_fd(const struct kvd *k);

/**
 * kvd_process() - serve events (kvd/events.h), finished device work and
 * reconnection
 *
 * Does not wait, but for what is claimed of a daemon that has come back and has
 * answered a former call's hello: at most 100 ms for each such request. Return:
 * 0 or -ENOTCONN.
 */
int kvd_process(struct kvd *k);

/* The sentence about the last failure; never NULL, valid till the next. */
const char *kvd_error(const struct kvd *k);

/* "host", "cuda-ipc:0", "cuda-vmm:0": the pool's device. */
const char *kvd_device(const struct kvd *k);

/*
 * Where kvd_connect() looks with socket = NULL: KVD_SOCKET of the environment;
 * else for an ordinary user $XDG_RUNTIME_DIR/kvd/kvd.sock, unless only the
 * system's is there; else /run/kvd/kvd.sock. Valid till the thread's next.
 */
const char *kvd_default_socket(void);

/* ---- spaces ---- */

/*
 * RoPE of a space whose keys are stored before it (KVD_ROPE_PRE): pair i of
 * the key at position p is turned by p * freq[i], in radians. Pairs are
 * (i, i + nr_pairs), or (2 i, 2 i + 1) when interleaved; elements past
 * 2 * nr_pairs are left alone.
 */
struct kvd_rope {
	const double *freq;	/* [nr_pairs], copied */
	uint32_t nr_pairs;	/* at most k_dim / 2 */
	uint32_t interleaved;
};

struct kvd_profile;	/* kvd/profile.h */

struct kvd_space_opts {
	uint32_t size;
	uint32_t nr_threads;	/* of host kernels, at most 1024; 0: all */
	uint8_t model[32];	/* digest of what decides K and V: weights,
				 * revision, RoPE scaling */
	struct kvd_geometry geometry;
	uint32_t tp_rank;
	uint32_t tp_size;	/* 0 is 1 */
	uint32_t read_only;	/* 1: match and attend only: see
				 * kvd_truncate() */
	uint32_t wait_ms;	/* how long an allocation may wait for room that
				 * is being made; 0: 1000 */
	uint64_t stock_bytes;	/* of free pages kept at hand; 0: the daemon's
				 * default, at most what it allows */
	const struct kvd_profile *profile; /* geometry.profile's, read here
				 * and then no more. NULL where that is 0 */
	const uint32_t *layers;	/* which of the profile's layers those of the
				 * groups are, group after group; copied.
				 * NULL: 0, 1, 2, ... */
	struct kvd_rope rope;	/* KVD_ROPE_PRE only */
};

/**
 * kvd_space_open() - open the space of this model and geometry
 *
 * A connection opens a space once, for writing or read-only; what needs it
 * twice connects twice.
 *
 * Return: 0; -EINVAL with kvd_error() naming the field, or that the space is
 * already open; -ENOSPC; -ENODEV; -EOPNOTSUPP; -ENOMEM; -EMFILE.
 */
int kvd_space_open(struct kvd *k, const struct kvd_space_opts *opts,
		   struct kvd_space **ret);

/*
 * Frees its sequences too. While the daemon is away and a service manager holds
 * its socket, this waits for it for up to a second, to give pages back and
 * publish what is full. NULL is fine.
 */
void kvd_space_close(struct kvd_space *sp);

struct kvd_space_info {
	uint32_t size;
	uint32_t page_tokens;
	uint64_t fingerprint;
	uint64_t bytes_per_token;	/* of K and V, all groups, sealed;
					 * rounded up */
	uint64_t stock_bytes;
	uint64_t hit_tokens;		/* of all clients of the space */
	uint64_t miss_tokens;
	uint64_t blocks;		/* now in the index */
};

int kvd_space_info(struct kvd_space *sp, struct kvd_space_info *info);

/* ---- sequences ---- */

/*
 * Which of a tenant's cached pages go first when room is needed: all low ones
 * before any normal one, those before any high one. A page has the highest
 * priority of those it was published with, by whomever, and so have the pages
 * before it in its prefix; finding it changes nothing. It says nothing to other
 * tenants, and is forgotten when the daemon restarts.
 */
enum kvd_priority {
	KVD_PRIORITY_NORMAL = 0,
	KVD_PRIORITY_LOW = 1,	/* read once: batches, evaluations */
	KVD_PRIORITY_HIGH = 2,
};

struct kvd_seq_opts {
	uint32_t size;
	uint32_t no_publish;	/* 1: keep its pages out of the index */
	uint8_t extra[16];	/* what besides tokens decides K and V (salt,
				 * adapter, media): part of every name */
	uint32_t no_partial;	/* 1: kvd_seq_match() ends with a page: for
				 * block tables that others have fixed */
	uint32_t partial_inexact; /* 1: it may end inside a page of which only
				 * a quantized form is there */
	kvd_stream stream;	/* in which kvd_seq_match() copies a page. NULL:
				 * the default one, and it waits for that */
	uint32_t priority;	/* enum kvd_priority, of what it publishes */
	uint32_t reserved;	/* 0 */
};

int kvd_seq_new(struct kvd_space *sp, const struct kvd_seq_opts *opts,
		struct kvd_seq **ret);

/*
 * Gives back its pages once the device work recorded so far is done. Full
 * pages of committed tokens are still published then, or when the daemon is
 * back: by kvd_process(), a later commit, or closing. NULL is fine.
 */
void kvd_seq_free(struct kvd_seq *seq);

/* Committed tokens. */
size_t kvd_seq_tokens(const struct kvd_seq *seq);

struct kvd_seq_info {
	uint32_t size;
	uint32_t inexact_lag;	/* 1: kvd_seq_match() found the newest page but
				 * sealed, where who computed it attended over
				 * the exact one: its quantization error more */
	uint64_t nr_tokens;
	uint64_t open_bytes;	/* of its pages in open_format: the tail, and
				 * those kept exact */
	uint64_t sealed_bytes;	/* of all others */
	uint32_t copied_tokens;	/* of those kvd_seq_match() found, the last
				 * ones: in a page that is a copy */
	uint32_t requantized;	/* 1: pages from some on are not published: a
				 * match or truncate went on with quantized
				 * values, which are quantized again */
	uint64_t demoted_tokens; /* in pages of fewer bits: demote_k */
};

int kvd_seq_info(const struct kvd_seq *seq, struct kvd_seq_info *info);

/**
 * kvd_seq_match() - start an empty sequence with the longest known prefix
 * @seq:	must have no committed tokens; others, and its pages, are dropped
 * @tokens:	the prompt
 * @n:		how many may be taken: pass one less than the prompt has, so
 *		that a token is left to compute logits from
 * @ret_hit:	tokens now committed; 0 is a miss
 *
 * After the whole pages it looks for a page that goes on from them with the
 * same tokens and then with others. What is common is copied to a page of the
 * sequence's own, be it one token; where no page is whole an eighth of one, or
 * the token that all prompts begin with would make a hit of each. This needs a
 * free page, and may wait for it as an append does; where there is none, and in
 * read-only spaces, a match ends with a whole page. kvd_seq_opts.no_partial has
 * it always do so.
 *
 * The copy is exact: results are what they are without it, and its page is
 * published when it is full. Where the format is sealed whole the tokens have
 * to be there as they were appended: with 2 and 3 bits each page is published
 * with those, and keeps them until memory is short. Where they are not, there
 * is nothing to copy, unless kvd_seq_opts.partial_inexact is set: then
 * quantized values go on as after kvd_truncate(), and no page of the sequence
 * is published from there on. That is worth it for a sequence that nobody
 * follows.
 *
 * On CUDA pools the copy is recorded on kvd_seq_opts.stream: what uses the
 * sequence next comes after. With NULL it is done when the call returns.
 *
 * Return: 0 also for a miss; -EINVAL, -ENOTCONN, -ESTALE, -ENOMEM, -EMFILE,
 * -EIO.
 */
int kvd_seq_match(struct kvd_seq *seq, const uint32_t *tokens, size_t n,
		  size_t *ret_hit);

/**
 * kvd_seq_match_wait() - kvd_seq_match(), and what others are computing
 * @wait_ms:	at most, from one page to the next (no more than the daemon's
 *		max-wait, a minute); 0: not at all
 *
 * Single flight: of those who come with one prefix at the same time one
 * computes it, the others wait for its pages as it publishes them. Pages of
 * @tokens that nobody has, nor has announced, are announced as this sequence's:
 * they had better be computed next. Another that matches takes them as they
 * come, a reference to each. An announcement ends with its last page, with the
 * sequence, a truncate, another match, a page that cannot be published; or when
 * none came for the daemon's announce-timeout (5 s): one who waited is next.
 *
 * At most 2048 pages are announced at once, none by a sequence with
 * kvd_seq_opts.no_publish or in a read-only space; they may wait. It costs a
 * request where a page is missing. Where the daemon refuses, is older, or has
 * been restarted meanwhile, it is kvd_seq_match(); so it is while a sequence of
 * this connection has announced pages and not published them, as whoever waits
 * for those would wait longer: with several sequences use the next call.
 *
 * Return: as kvd_seq_match().
 */
int kvd_seq_match_wait(struct kvd_seq *seq, const uint32_t *tokens, size_t n,
		       uint32_t wait_ms, size_t *ret_hit);

/**
 * kvd_seq_match_begin() - the same, for who has other things to do meanwhile
 * @tokens:	stay where they are until it has ended
 * @ret_hit:	tokens now committed; with -EAGAIN those that it has got so far
 * @ret_coming:	with -EAGAIN: tokens after them that somebody is computing; 0
 *
 * -EAGAIN: it goes on. Until it has ended the sequence has no tokens, and what
 * it has got is held apart. kvd_fd() becomes readable when there is more, or its
 * time is over, or what was announced will not come; then, and after any other
 * call, which may have read that, kvd_seq_match_next(). It ends early, with
 * nothing, by kvd_seq_free(), and by another match: kvd_seq_match() takes what
 * is there by then.
 *
 * Return: 0: it has ended; -EAGAIN; or as kvd_seq_match(): it has ended too.
 */
int kvd_seq_match_begin(struct kvd_seq *seq, const uint32_t *tokens, size_t n,
			uint32_t wait_ms, size_t *ret_hit, size_t *ret_coming);

/* Goes on with it, and does not wait for anybody. As kvd_seq_match_begin();
 * -EINVAL also where no match goes on, or the sequence has tokens. */
int kvd_seq_match_next(struct kvd_seq *seq, size_t *ret_hit,
		       size_t *ret_coming);

/**
 * kvd_seq_pin() - what is published of a sequence stays, for a time
 * @ttl_ms:	from now on; the daemon has a most (an hour, unless told)
 * @ret_tokens:	tokens that are pinned, from the first on; may be NULL
 *
 * Its pages are then not given up for anybody, though no one holds them, nor
 * with the sequence, the space or the process: only when the time is over,
 * when kvd_seq_unpin() says so, when the tenant's max is lowered or an admin
 * drops the space; and pins do not outlive the daemon. A tenant may have so
 * many bytes pinned (a quarter of its max, unless told), each page counted
 * once. On CUDA pools what the device has not finished yet is not published
 * yet. A prefix that is pinned already ends later, never sooner. Of a
 * sequence that has grown the longer prefix is pinned in place of the one that
 * was. Exact copies of sealed pages go as ever, but for the last page's.
 *
 * Return: 0; -EINVAL no such time, or the sequence is too long for one pin;
 * -ENOENT nothing of it is published; -EDQUOT more than may be pinned, and
 * kvd_error() says how much is: nothing has changed then; -ENOTCONN, -ESTALE,
 * -ENOMEM.
 */
int kvd_seq_pin(struct kvd_seq *seq, uint64_t ttl_ms, size_t *ret_tokens);

/**
 * kvd_seq_unpin() - the pin that kvd_seq_pin() has made ends now
 *
 * Where this sequence has not: the one that ends where what is published of it
 * does, whoever made it. Return: 0; -ENOENT there is none (any more);
 * -ENOTCONN, -ESTALE.
 */
int kvd_seq_unpin(struct kvd_seq *seq);

/* One sequence of a batch and how many tokens of it a call is about. */
struct kvd_item {
	struct kvd_seq *seq;
	uint32_t nr_tokens;
};

struct kvd_append_args {
	uint32_t size;
	uint32_t group;
	uint32_t layer;		/* within the group */
	uint32_t dtype;		/* enum kvd_dtype of k and v */
	const struct kvd_item *items;
	size_t nr_items;	/* no sequence twice */
	const void *k;		/* [rows][kv heads][k_dim], rows of all items */
	const void *v;		/* [rows][kv heads][v_dim] */
	size_t k_stride;	/* elements from row to row; 0: dense */
	size_t v_stride;
	kvd_stream stream;
	struct kvd_batch *batch; /* instead of items: those of its last set */
};

/**
 * kvd_append() - store K and V of the tokens after the committed ones
 *
 * Call it once for each layer of each group before the commit; use a sequence
 * on one stream at a time. Allocates pages as needed (from the stock; else it
 * asks the daemon and may wait up to wait_ms). NaN, Inf, or values the format
 * cannot hold are stored as they come out; pages with such rows, and those
 * after them, are never published.
 *
 * With a batch it does nothing but record kernels, and can be captured.
 *
 * Return: 0, -EINVAL, -EACCES (read-only), -ENOSPC, -EDQUOT, -ESTALE,
 * -ENOTCONN, -ENOMEM, -EMFILE, -EIO.
 */
int kvd_append(struct kvd_space *sp, const struct kvd_append_args *args);

struct kvd_attend_args {
	uint32_t size;
	uint32_t group;
	uint32_t layer;
	uint32_t dtype;		/* of q and out */
	const struct kvd_item *items;
	size_t nr_items;
	uint32_t nr_q_heads;	/* a multiple of the group's kv heads; q head h
				 * reads kv head h * kv_heads / q_heads */
	float scale;		/* 0: 1/sqrt(k_dim) */
	float softcap;		/* 0: none; else s = cap * tanh(s / cap) */
	const float *sinks;	/* [q heads] one more logit in each softmax's
				 * sum, or NULL */
	const void *q;		/* [rows][q heads][k_dim] */
	void *out;		/* [rows][q heads][v_dim]; k_dim where the
				 * group has v_dim 0 */
	float *lse;		/* [rows][q heads] log-sum-exp, or NULL */
	size_t q_stride;	/* elements from row to row; 0: dense */
	size_t out_stride;
	kvd_stream stream;
	struct kvd_batch *batch; /* instead of items, as for append */
};

/**
 * kvd_attend() - causal attention of the new tokens over everything before
 *
 * Decode with nr_tokens 1, prefill with more; items may differ. K and V of
 * these tokens must have been appended for this layer. With a batch it can be
 * captured, as append.
 *
 * Return: 0, -EINVAL, -ESTALE, -ENOMEM, -EIO. It needs no daemon: torn off, its
 * pages given to others of its tenant, it reads theirs until a call to kvd tells.
 */
int kvd_attend(struct kvd_space *sp, const struct kvd_attend_args *args);

/* ---- batches: for steps that are captured in a CUDA graph ---- */

struct kvd_batch_opts {
	uint32_t size;
	uint32_t max_items;	/* of a set */
	uint32_t max_item_rows;	/* new tokens of one item; 0: 1 */
	uint32_t max_rows;	/* new tokens of all items; 0: max_items *
				 * max_item_rows */
	uint32_t max_tokens;	/* of a sequence, new ones too */
	uint32_t max_q_heads;	/* of an attend; 0: none is made */
	uint32_t share;		/* 1: sequences side by side that begin with the
				 * same pages have those read once. Same bits;
				 * a launch more, and scratch for max_tokens of
				 * every row */
	uint64_t max_all_tokens; /* of all sequences of a set together; 0:
				 * max_items * max_tokens */
};

/**
 * kvd_batch_new() - room for sequences of calls, at addresses that stay
 *
 * All memory that append and attend need with it is allocated here, on the
 * device: block tables of all groups, 16 bytes for each page of
 * max_all_tokens, and attention's scratch, which grows with max_rows and
 * max_q_heads, and also with max_tokens where few rows are to fill the GPU.
 * Kernels are launched for max_items and max_rows, however few there are: an
 * engine that captures graphs of several sizes makes a batch for each.
 *
 * Return: 0, -EINVAL, -ENOMEM, -EIO.
 */
int kvd_batch_new(struct kvd_space *sp, const struct kvd_batch_opts *opts,
		  struct kvd_batch **ret);

/*
 * Waits for the work on the stream of the last set, which must still exist. No
 * graph with calls of this batch may be launched any more. The space frees
 * what is left of them. NULL is fine.
 */
void kvd_batch_free(struct kvd_batch *batch);

/**
 * kvd_batch_set() - which sequences the next step is about
 * @items:	no sequence twice; may be fewer than max_items, or none
 * @stream:	where the step's work will be recorded: append and attend with
 *		this batch, or a graph that has captured them
 *
 * Makes sure that pages exist for the new tokens, as append does, and copies
 * block tables and lengths to the batch's memory, in stream order. K and V of
 * those tokens then count as appended in every layer: kvd_commit() takes your
 * word that the step has run. Rows of the step's q, k, v and out are those of
 * all items in turn; kernels leave those up to max_rows alone.
 *
 * A set is good until one of its sequences is committed, truncated, matched or
 * freed, or the batch is set again: after that its graph must not be launched.
 * Each of its steps must be recorded before that, with the sets on one stream
 * or streams that you have put in order. Other sequences may be used meanwhile,
 * and kvd_process() be called.
 *
 * Four steps of a batch may be under way: a fifth set waits for the first. A
 * set allocates nothing on the device, but when tables have become larger than
 * ever: then it may wait for the device too.
 *
 * A page with NaN or Inf is found out as with append. A batch with
 * max_item_rows 1 leaves quantizing of what became full to kvd_commit();
 * others do it in append: which is the same to all later tokens.
 *
 * Return: as kvd_append(); -EINVAL also where the batch is too small, or the
 * stream is being captured. When it fails the batch has its former set or none.
 */
int kvd_batch_set(struct kvd_batch *batch, const struct kvd_item *items,
		  size_t nr_items, kvd_stream stream);

/**
 * kvd_commit() - the next @n tokens are final
 * @tokens:	their ids
 * @stream:	where their K and V were appended
 *
 * Seals and publishes pages that became full. Where the same prefix has
 * meanwhile been published by someone else, the sequence goes on with that
 * page and gives its own back.
 *
 * Return: 0: the tokens are committed. -ENOTCONN: they are too, do not repeat
 * the call; publishing is tried again by later commits and by kvd_process().
 * -EINVAL (more tokens than were appended in some layer), -EACCES (read-only),
 * -ENOMEM, -ESTALE: nothing is committed. Pages found lost, or a device found
 * broken, after the tokens were committed show in the next call's result.
 */
int kvd_commit(struct kvd_seq *seq, const uint32_t *tokens, size_t n,
	       kvd_stream stream);

/**
 * kvd_truncate() - drop committed tokens from @n on, and uncommitted ones
 *
 * A sealed page that is cut is copied, so that appends may follow; where only
 * a quantized form is left of it, its values go on, and what is made of them is
 * not published. In a
 * read-only space nothing follows: there the line moves back, and the tokens
 * after it can still be attended, as if they had just been appended.
 *
 * Return: 0; -EINVAL when @n is more than there are, or so far back that
 * pages it would see have left a group's window; -ENOSPC, -EDQUOT, -ENOTCONN,
 * -ENOMEM, -EMFILE, -ESTALE. Nothing has changed when it fails.
 */
int kvd_truncate(struct kvd_seq *seq, size_t n, kvd_stream stream);

/**
 * kvd_fork() - a second sequence with the same committed tokens
 *
 * Shares every full page, copies the open one. Its options are those of @seq.
 * Return: 0, -ENOMEM, -EMFILE, -ENOSPC, -EDQUOT, -ENOTCONN, -ESTALE.
 */
int kvd_fork(struct kvd_seq *seq, kvd_stream stream, struct kvd_seq **ret);

/* ---- the low view: for engines with kernels of their own ---- */

/*
 * Address of byte b of a page = base of its segment + offset + b. Sealed
 * pages are read through read_only[], open pages written through writable[]
 * (the same where the device cannot map twice). On CUDA these are device
 * addresses. Bases never move, and grow in number only; one that has no page of
 * yours may become NULL. The arrays they are in may move in any call that maps a
 * segment: alloc, reserve, append, match, commit, truncate, fork, process.
 */
struct kvd_bases {
	uint32_t size;
	uint32_t nr;
	const void *const *read_only;
	void *const *writable;
	const void *const *device_read_only; /* the array itself on the device
					      * (host: same as read_only) */
};

int kvd_space_bases(struct kvd_space *sp, struct kvd_bases *bases);

/* Byte layout of a record, K codes at 0: kernels/FORMATS.md has the rest. */
struct kvd_record {
	uint32_t size;
	uint32_t k_format;
	uint32_t v_format;
	uint32_t k_meta;	/* offsets in a record */
	uint32_t v_codes;
	uint32_t v_meta;
	uint32_t record_bytes;	/* record (layer l, head h) starts at
				 * (l * kv_heads + h) * record_bytes */
	uint32_t page_bytes;
};

int kvd_space_record(struct kvd_space *sp, uint32_t page_class,
		     struct kvd_record *record);

struct kvd_page {
	uint64_t handle;	/* generation and number */
	uint64_t offset;	/* in its segment */
	uint32_t segment;	/* index in kvd_bases; UINT32_MAX: absent
				 * (out of the window) */
	uint32_t page_class;	/* of kvd_space_record() */
};

/**
 * kvd_seq_reserve() - make sure that pages exist for the next @n tokens
 *
 * append does this by itself; call it to write K and V with your own kernels
 * before kvd_commit(), which then takes your word that they are written.
 * Return: as kvd_append().
 */
int kvd_seq_reserve(struct kvd_seq *seq, size_t n);

/**
 * kvd_seq_pages() - block table of one group
 * @pages:	filled with at most @max entries; entry i holds positions
 *		[i * page_tokens, (i + 1) * page_tokens)
 * @ret_nr:	entries there are, also when more than @max
 */
int kvd_seq_pages(struct kvd_seq *seq, uint32_t group, struct kvd_page *pages,
		  size_t max, size_t *ret_nr);

/*
 * Loose pages, outside any sequence: open, this client's, unnamed. From the
 * stock where it has them. Free them when device work on them has ended.
 * alloc: all or none; as kvd_append(). free: -ESTALE, and nothing freed, when
 * one is not a loose page of this space.
 */
int kvd_page_alloc(struct kvd_space *sp, uint32_t page_class, size_t nr,
		   struct kvd_page *pages);
int kvd_page_free(struct kvd_space *sp, const struct kvd_page *pages,
		  size_t nr);

/* ---- the admin's view ---- */

/**
 * kvd_ping() - one round trip that does nothing
 */
int kvd_ping(struct kvd *k);

#ifdef __GNUC__
#pragma GCC visibility pop
#endif
#ifdef __cplusplus
}
#endif
#endif
