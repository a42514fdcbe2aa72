// SPDX-License-Identifier: Apache-2.0
/*
 * overhead_own.c - a client with pages of its own: the least that paged
 * attention takes.
 *
 * The arena is faulted in before anything is timed. Free pages are a stack.
 * What kernels take is filled in once a step, not once a layer.
 */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include "kernels/host/host.h"
#include "tools/kvbench/memory.h"
#include "tools/kvbench/overhead.h"

#define HUGE_PAGE ((size_t)2 << 20)

struct own {
	const struct overhead_shape *s;
	struct memory mem;
	uint64_t *free; /* [nr_free] offsets in the arena */
	uint32_t nr_free;
	uint32_t max_pages;        /* of a sequence */
	struct kv_page_ref *pages; /* [batch][max_pages] */
	uint32_t *nr_pages;        /* [batch] */
	uint32_t *nr_tokens;       /* [batch] */
	uint32_t *tokens;          /* [batch][max_tokens] */
	struct kv_seq *seqs;       /* [batch] of a call */
	uint32_t *nonfinite;       /* [batch] */
};

/* Shared memory, as the daemon makes it. */
static int memory_memfd(struct memory *m, size_t bytes)
{
	size_t size = (bytes + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
	int fd = memfd_create("kvbench", MFD_CLOEXEC);
	int err = 0;
	void *p;

	if (fd < 0 || ftruncate(fd, (off_t)size))
		err = -errno;
	if (!err) {
		p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		err = p == MAP_FAILED ? -errno : 0;
	}
	if (!err) {
		*m = (struct memory){ .base = p, .bytes = size };
		m->huge_pages = madvise(p, size, MADV_HUGEPAGE) == 0;
		err = fallocate(fd, 0, 0, (off_t)size) ? -errno : 0;
	}
	if (fd >= 0)
		close(fd);
	return err;
}

static int arena_init(struct own *o)
{
	uint32_t bytes = o->s->layout.page_bytes, i;
	uint32_t nr = o->max_pages * o->s->batch;
	size_t all = (size_t)nr * bytes;
	int err = o->s->memfd ? memory_memfd(&o->mem, all)
	                      : memory_init(&o->mem, all);

	if (err)
		return err;
	memset(o->mem.base, 0, o->mem.bytes);
	o->free = calloc(nr, sizeof(*o->free));
	if (!o->free)
		return -ENOMEM;
	for (i = 0; i < nr; i++)
		o->free[o->nr_free++] = (uint64_t)(nr - 1 - i) * bytes;
	return 0;
}

static void own_fini(void *side)
{
	struct own *o = side;

	if (!o)
		return;
	memory_fini(&o->mem);
	free(o->free);
	free(o->pages);
	free(o->nr_pages);
	free(o->nr_tokens);
	free(o->tokens);
	free(o->seqs);
	free(o->nonfinite);
	free(o);
}

static int own_init(const struct overhead_shape *s, void **ret)
{
	struct own *o = calloc(1, sizeof(*o));
	uint32_t p = s->layout.page_tokens;
	int err = -ENOMEM;

	if (!o)
		goto out;
	o->s = s;
	o->max_pages = (s->max_tokens + p - 1) / p;
	o->pages = calloc((size_t)s->batch * o->max_pages, sizeof(*o->pages));
	o->nr_pages = calloc(s->batch, sizeof(*o->nr_pages));
	o->nr_tokens = calloc(s->batch, sizeof(*o->nr_tokens));
	o->tokens = calloc((size_t)s->batch * s->max_tokens, sizeof(uint32_t));
	o->seqs = calloc(s->batch, sizeof(*o->seqs));
	o->nonfinite = calloc(s->batch, sizeof(*o->nonfinite));
	if (o->pages && o->nr_pages && o->nr_tokens && o->tokens && o->seqs &&
	    o->nonfinite)
		err = arena_init(o);
out:
	if (!err)
		*ret = o;
	else
		own_fini(o);
	if (err)
		fprintf(stderr, "kvbench overhead: no arena: %s\n",
		        strerror(-err));
	return err;
}

static int own_begin(void *side, const uint32_t *tokens, uint32_t nr)
{
	struct own *o = side;

	memset(o->nr_tokens, 0, o->s->batch * sizeof(*o->nr_tokens));
	return 0;
}

/* Pages for @nr more tokens, and what kernels take of them. */
static int seq_put(struct own *o, unsigned seq, uint32_t nr, struct kv_seq *s)
{
	struct kv_page_ref *pages = o->pages + (size_t)seq * o->max_pages;
	uint32_t p = o->s->layout.page_tokens;
	uint32_t need = (o->nr_tokens[seq] + nr + p - 1) / p;

	while (o->nr_pages[seq] < need) {
		if (!o->nr_free)
			return -ENOSPC;
		pages[o->nr_pages[seq]++].offset = o->free[--o->nr_free];
	}
	*s = (struct kv_seq){ .first_page = seq * o->max_pages,
		              .nr_rows = nr,
		              .pos = o->nr_tokens[seq] };
	return 0;
}

static void seq_commit(struct own *o, unsigned seq, const uint32_t *tokens,
                       uint32_t nr)
{
	memcpy(o->tokens + (size_t)seq * o->s->max_tokens + o->nr_tokens[seq],
	       tokens, nr * sizeof(*tokens));
	o->nr_tokens[seq] += nr;
}

static struct kv_append_args append_args(struct own *o, void *const *bases,
                                         const struct overhead_rows *r)
{
	const struct page_layout *l = &o->s->layout;

	return (struct kv_append_args){
		.layouts = { *l },
		.bases = bases,
		.pages = o->pages,
		.seqs = o->seqs,
		.dtype = KVD_DTYPE_F32,
		.k = r->k,
		.v = r->v,
		.k_stride = (uint64_t)l->nr_heads * l->k_dim,
		.v_stride = (uint64_t)l->nr_heads * l->v_dim,
		.nonfinite = o->nonfinite,
		.nr_threads = o->s->threads,
	};
}

static int own_prefill(void *side, unsigned seq, const uint32_t *tokens,
                       uint32_t nr, const struct overhead_rows *r)
{
	struct own *o = side;
	void *const bases[] = { o->mem.base };
	struct kv_append_args a = append_args(o, bases, r);
	const struct host_kernels *k = host_kernels();
	int err = seq_put(o, seq, nr, &o->seqs[0]);

	if (err)
		return err;
	a.nr_seqs = 1;
	a.nr_rows = nr;
	for (a.layer = 0; a.layer < o->s->layout.nr_layers; a.layer++)
		k->append(&a);
	seq_commit(o, seq, tokens, nr);
	return 0;
}

static int own_step(void *side, const uint32_t *tokens,
                    const struct overhead_rows *r)
{
	struct own *o = side;
	const struct page_layout *l = &o->s->layout;
	void *const bases[] = { o->mem.base };
	const void *const read_only[] = { o->mem.base };
	struct kv_append_args kv = append_args(o, bases, r);
	struct kv_attend_args at = {
		.layouts = { *l },
		.bases = read_only,
		.pages = o->pages,
		.seqs = o->seqs,
		.nr_seqs = o->s->batch,
		.nr_rows = o->s->batch,
		.dtype = KVD_DTYPE_F32,
		.nr_q_heads = o->s->heads,
		.scale = 1 / sqrtf((float)l->k_dim),
		.q = r->q,
		.out = r->out,
		.q_stride = (uint64_t)o->s->heads * l->k_dim,
		.out_stride = (uint64_t)o->s->heads * l->v_dim,
		.nr_threads = o->s->threads,
	};
	const struct host_kernels *k = host_kernels();
	unsigned i;
	int err = 0;

	kv.nr_seqs = kv.nr_rows = o->s->batch;
	for (i = 0; i < o->s->batch && !err; i++) {
		err = seq_put(o, i, 1, &o->seqs[i]);
		o->seqs[i].first_row = i;
	}
	for (i = 0; i < l->nr_layers && !err; i++) {
		kv.layer = at.layer = i;
		k->append(&kv);
		err = k->attend(&at);
	}
	for (i = 0; i < o->s->batch && !err; i++)
		seq_commit(o, i, tokens + i, 1);
	return err;
}

static uint64_t own_cpu_ns(void *side)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void own_end(void *side)
{
	struct own *o = side;
	unsigned i;

	for (i = 0; i < o->s->batch; i++)
		while (o->nr_pages[i])
			o->free[o->nr_free++] =
				o->pages[(size_t)i * o->max_pages +
			                 --o->nr_pages[i]]
					.offset;
}

const struct overhead_side overhead_own = {
	.name = "own",
	.init = own_init,
	.fini = own_fini,
	.begin = own_begin,
	.prefill = own_prefill,
	.step = own_step,
	.cpu_ns = own_cpu_ns,
	.end = own_end,
};
