// SPDX-License-Identifier: Apache-2.0
/*
 * cuda_convert.c - pages stored once more, by the kernel that libkvd seals with.
 *
 * It is loaded when the first page is to be converted: most daemons never do.
 * A launch is told of its pages in one block of device memory, and leaves its
 * flags there.
 */
#include "daemon/dev/cuda.h"

#include <errno.h>
#include <stddef.h>
#include "kernels/cuda/cuda.h"

#define CHUNK 64u /* pages of a launch */

struct block {
	uint64_t bases[2 * CHUNK];
	struct kv_convert_page pages[CHUNK];
	uint32_t bad[CHUNK];
};

static int convert_prepare(struct dev *d)
{
	struct cuda *c = d->priv;
	char why[160];
	cu_ptr block;
	int r = 0;

	if (!c->kernels)
		r = kv_cuda_new_convert(c->cu, &c->kernels, why, sizeof(why));
	if (r)
		return r == -ENOEXEC ? -EOPNOTSUPP : cuda_fault(d);
	if (c->block.base)
		return 0;
	r = cuda_errno(d, c->cu->cuMemAlloc(&block, sizeof(struct block)));
	if (!r)
		c->block.base = block;
	return r;
}

static int block_send(struct dev *d, const struct dev_convert *what,
		      uint32_t first, uint32_t nr)
{
	struct cuda *c = d->priv;
	struct block b = { 0 };

	for (uint32_t i = 0; i < nr; i++) {
		const struct dev_convert_page *p = &what->pages[first + i];

		b.bases[2 * i] = p->from->base;
		b.bases[2 * i + 1] = p->to->base;
		b.pages[i] = (struct kv_convert_page){
			.from = { .offset = p->from_at, .segment = 2 * i },
			.to = { .offset = p->to_at,
				.segment = 2 * i + 1,
				.layout = 1 },
			.nr_tokens = what->from->page_tokens,
		};
	}
	return cuda_write(d, &c->block, 0, &b, sizeof(b));
}

static int block_launch(struct dev *d, const struct dev_convert *what,
			uint32_t nr)
{
	struct cuda *c = d->priv;
	char *block = (char *)(uintptr_t)c->block.base;
	const struct kv_convert_args a = {
		.layouts = { *what->from, *what->to },
		.bases = (void *)(block + offsetof(struct block, bases)),
		.pages = (void *)(block + offsetof(struct block, pages)),
		.nr_pages = nr,
		.nr_layers = what->from->nr_layers,
		.nonfinite = (void *)(block + offsetof(struct block, bad)),
	};

	return kv_cuda_convert(c->kernels, &a, c->stream) ? cuda_fault(d) : 0;
}

/* Pages @first to @first + @nr - 1; waits for them. */
static int chunk_convert(struct dev *d, const struct dev_convert *what,
			 uint32_t first, uint32_t nr)
{
	struct cuda *c = d->priv;
	uint32_t bad[CHUNK];
	int r;

	r = block_send(d, what, first, nr);
	if (!r)
		r = block_launch(d, what, nr);
	if (!r)
		r = cuda_read(d, &c->block, offsetof(struct block, bad), bad,
			      nr * sizeof(bad[0]));
	for (uint32_t i = 0; !r && i < nr; i++)
		what->pages[first + i].bad = bad[i];
	return r;
}

int cuda_convert(struct dev *d, const struct dev_convert *what)
{
	int r = convert_prepare(d);

	for (uint32_t i = 0; !r && i < what->nr; i += CHUNK)
		r = chunk_convert(d, what, i, what->nr - i < CHUNK ?
						      what->nr - i :
						      CHUNK);
	return r;
}

void cuda_convert_end(struct cuda *c)
{
	kv_cuda_free(c->kernels);
	if (c->block.base)
		c->cu->cuMemFree(c->block.base);
}
