// SPDX-License-Identifier: Apache-2.0
/*
 * convert.c - the kernels that store pages once more, launched; and loaded with
 * no others, for who needs no others.
 */
#include "kernels/cuda/convert.h"
#include "kernels/cuda/module.h"

int convert_find(struct kv_cuda *kc, struct cuda_why *why)
{
	int rc = kv_cuda_find(kc, KV_CUDA_convert, "kv_convert", &kc->convert,
			      why);

	if (rc)
		return rc;
	return kv_cuda_find(kc, KV_CUDA_convert, "kv_convert_far",
			    &kc->convert_far, why);
}

int kv_cuda_new_convert(const struct cuda_driver *cu, struct kv_cuda **ret,
			char *why, size_t why_bytes)
{
	struct cuda_why line = { why, why_bytes };
	struct kv_cuda *kc;
	int rc;

	rc = kv_cuda_alloc(cu, &kc, &line);
	if (rc)
		return rc;
	rc = kv_cuda_load(kc, KV_CUDA_convert, kv_image_convert, &line);
	if (!rc)
		rc = convert_find(kc, &line);
	if (rc)
		kv_cuda_free(kc);
	else
		*ret = kc;
	return rc;
}

/* What the largest side takes: any layout may be that of a source. */
static uint32_t convert_shared(const struct kv_convert_args *a)
{
	uint32_t most = 0, bytes, i, v;

	for (i = 0; i < KV_MAX_LAYOUTS; i++)
		for (v = 0; v < 2; v++) {
			const struct codes c = page_codes(&a->layouts[i], v);

			bytes = convert_shared_bytes(
				c.tokens, c.dim,
				format_coding(c.format) == CODING_16);
			most = bytes > most ? bytes : most;
		}
	return most;
}

int kv_cuda_convert(struct kv_cuda *kc, const struct kv_convert_args *a,
		    cu_stream stream)
{
	const struct page_layout *l = &a->layouts[0];
	const uint32_t shared = convert_shared(a);
	struct convert_params p = { .args = *a, .shared_bytes = shared };
	struct shape s = {
		.grid = { a->nr_layers * l->nr_heads,
			  a->nr_pages < CONVERT_PAGES ? a->nr_pages :
							CONVERT_PAGES,
			  l->v_dim ? 2 : 1 },
		.threads = CONVERT_THREADS,
	};
	int rc;

	if (!a->nr_pages || !a->nr_layers)
		return 0;
	if (shared > SHARED_BYTES)
		p.shared_bytes = SHARED_BYTES;
	s.shared_bytes = p.shared_bytes;
	rc = kv_cuda_launch(kc, kc->convert, &s, stream, &p);
	if (rc || shared <= SHARED_BYTES)
		return rc;
	s.shared_bytes = SHARED_BYTES;
	return kv_cuda_launch(kc, kc->convert_far, &s, stream, &p);
}
