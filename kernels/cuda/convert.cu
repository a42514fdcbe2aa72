/* SPDX-License-Identifier: Apache-2.0 */
/*
 * convert.cu - stores pages once more in another format: seals them, opens
 * them again, makes them smaller.
 *
 * A block has one side (K or V) of one record: convert.h. It brings the side's
 * values into shared memory, finds what the format's metadata is of, and
 * makes codes as it stores them, each thread whole words, in either order:
 * every seal_*.cuh is one such way, with the bytes of kernels/host/ref_*.c.
 *
 * Moves 2 bytes of a 16-bit element in, once, and codes and metadata out, as
 * long as a side's 16-bit elements fit in shared memory: in 48 KiB 64 tokens of
 * 256 channels do, and 128 of 128. Values of other formats are floats there:
 * 64 x 128 fit. kv_convert_far() reads those of larger sides again for every
 * pass: 2 of kivi, some 6 of kvquant, 20 of kvarn, 35 of oscar2.
 */
#include "kernels/cuda/convert.h"
#include "kernels/cuda/seal_kivi.cuh"
#include "kernels/cuda/seal_kvarn.cuh"
#include "kernels/cuda/seal_kvquant.cuh"
#include "kernels/cuda/seal_oscar.cuh"

template <typename VALUES> struct half_coder {
	const VALUES &v;
	uint32_t format;
	bool bad;
};

template <typename VALUES>
DEVICE uint32_t code_of(struct half_coder<VALUES> &h, uint32_t t, uint32_t d)
{
	return half_code(h.format, value_at(h.v, t, d), &h.bad);
}

template <typename VALUES> struct fp8_coder {
	const VALUES &v;
	uint32_t format;
	float scale;
	bool bad;
};

template <typename VALUES>
DEVICE uint32_t code_of(struct fp8_coder<VALUES> &f, uint32_t t, uint32_t d)
{
	const float x = value_at(f.v, t, d);

	f.bad = f.bad || !isfinite(x);
	return fp8_code(f.format, x, f.scale);
}

template <typename VALUES> struct affine_coder {
	const VALUES &v;
	const float *min, *inv; /* shared, [tokens] */
	float top;
};

template <typename VALUES>
DEVICE uint32_t code_of(const struct affine_coder<VALUES> &a, uint32_t t,
			 uint32_t d)
{
	return affine_code(f16_round(value_at(a.v, t, d)), a.min[t], a.inv[t],
			   a.top);
}

struct copy_coder {
	const struct source *from;
};

DEVICE uint32_t code_of(const struct copy_coder &c, uint32_t t, uint32_t d)
{
	return code_far(c.from, t, d);
}

template <typename VALUES>
DEVICE bool half_convert(const struct side &to, const VALUES &v,
			 const struct room &r)
{
	struct half_coder<VALUES> h = { v, to.place.format, false };

	codes_store(to, v.tokens, r, h);
	return h.bad;
}

template <typename VALUES>
DEVICE bool fp8_convert(const struct side &to, const VALUES &v,
			const struct room &r)
{
	const struct kv_tables *tb = v.source->tables;
	const float scale = fp8_scale(tb, to.place.is_v, to.layer, to.head);
	struct fp8_coder<VALUES> f = { v, to.place.format, scale, false };

	if (threadIdx.x == 0)
		*(float *)to.meta = f.scale;
	codes_store(to, v.tokens, r, f);
	return f.bad;
}

template <typename VALUES>
DEVICE bool affine_convert(const struct side &to, const VALUES &v,
			   const struct room &r)
{
	float *min = r.floats, *inv = min + to.place.tokens;
	struct affine_coder<VALUES> a = { v, min, inv,
					  code_top(to.place.format) };
	bool bad = false;

	for (uint32_t t = warp_here(); t < v.tokens;
	     t += CONVERT_THREADS / WARP) {
		float low = INFINITY, high = -INFINITY;
		struct affine_row row;
		bool broken = false;

		for (uint32_t d = lane_here(); d < v.dim; d += WARP) {
			const float x = f16_round(value_at(v, t, d));

			broken = broken || !isfinite(x);
			low = x < low ? x : low;
			high = x > high ? x : high;
		}
		broken = warp_any(broken);
		row = affine_row_of(warp_min(low), warp_max(high), broken,
				    a.top);
		bad = bad || row.bad;
		if (lane_here() == 0) {
			min[t] = row.min;
			inv[t] = row.inv;
			side_affine(to)[t] = row.meta;
		}
	}
	__syncthreads();
	codes_store(to, v.tokens, r, a);
	return bad;
}

/* The same format: codes and metadata as they are. */
template <typename VALUES>
DEVICE bool side_copy(const struct side &from, const struct side &to,
		      const VALUES &v, const struct room &r)
{
	const struct codes &c = from.place;
	const uint32_t all = page_meta_bytes(c.format, (int)c.is_v, c.tokens,
					     c.dim, from.v_group);
	const uint32_t affine = v.tokens * sizeof(struct affine_meta);
	const uint32_t meta =
		format_coding(c.format) == CODING_TOKEN ? affine : all;
	const uint32_t nr = v.tokens * v.dim;
	struct copy_coder copy = { v.source };
	bool bad = false;

	for (uint32_t i = threadIdx.x; i < meta / 4; i += CONVERT_THREADS)
		((uint32_t *)to.meta)[i] = ((const uint32_t *)from.meta)[i];
	codes_store(to, v.tokens, r, copy);
	for (uint32_t i = threadIdx.x; i < nr; i += CONVERT_THREADS)
		bad = bad || !isfinite(value_at(v, i / v.dim, i % v.dim));
	return bad;
}

/* Return: whether what this thread saw is flagged. */
template <typename VALUES>
DEVICE bool side_convert(const struct side &from, const struct side &to,
			 const VALUES &v, const struct room &r)
{
	const uint32_t format = to.place.format;

	if (format_coding(format) == CODING_16)
		return half_convert(to, v, r);
	if (from.place.format == format)
		return side_copy(from, to, v, r);
	switch (format_coding(format)) {
	case CODING_FP8:
		return fp8_convert(to, v, r);
	case CODING_KIVI:
		return kivi_seal(to, v, r);
	case CODING_KVQUANT:
		return kvquant_seal(to, v, v.source->tables, r);
	case CODING_KVARN:
		return kvarn_seal(to, v, r);
	default:
		return format == KVD_OSCAR2 ? oscar_seal(to, v, r) :
					      affine_convert(to, v, r);
	}
}

DEVICE uint8_t *page_at(const struct kv_convert_args &a,
			const struct kv_page_ref &r)
{
	return (uint8_t *)a.bases[r.segment] + r.offset;
}

/*
 * One side of one record of page @i: one that fits in shared memory, or, FAR,
 * one that does not. Return: whether what this thread saw is flagged.
 */
template <bool FAR>
DEVICE bool record_convert(const struct convert_params &p, uint32_t i,
			   float *shared)
{
	const struct kv_convert_args &a = p.args;
	const struct kv_convert_page page = a.pages[i];
	const struct page_layout &fl = a.layouts[page.from.layout];
	const struct page_layout &tl = a.layouts[page.to.layout];
	const uint32_t layer = a.first_layer + blockIdx.x / fl.nr_heads;
	const uint32_t head = blockIdx.x % fl.nr_heads;
	const struct side from = side_at(&fl, page_at(a, page.from), layer,
					 head, blockIdx.z);
	const struct side to = side_at(&tl, page_at(a, page.to), layer, head,
				       blockIdx.z);
	const struct codes &c = from.place;
	struct room r;

	if (!page.nr_tokens ||
	    FAR == convert_fits(c.tokens, c.dim,
				format_coding(c.format) == CODING_16,
				p.shared_bytes))
		return false;
	r.scratch = (uint32_t *)shared;
	r.source = (struct source *)(r.scratch + CONVERT_SCRATCH);
	r.steps = r.scratch + CONVERT_SCRATCH + CONVERT_SOURCE;
	r.bins = r.steps + CONVERT_STEPS;
	r.floats = (float *)(r.bins + CONVERT_BINS);
	source_set(r.source, from, a.tables);
	if constexpr (FAR) {
		const struct far_values v = { page.nr_tokens, c.dim,
					      r.source };

		return side_convert(from, to, v, r);
	} else {
		const struct near_values v = values_load(
			r.source, page.nr_tokens,
			shared + convert_floats(c.tokens, c.dim));

		return side_convert(from, to, v, r);
	}
}

template <bool FAR>
DEVICE void pages_convert(const struct convert_params &p, float *shared)
{
	for (uint32_t i = blockIdx.y; i < p.args.nr_pages; i += gridDim.y) {
		const bool bad = record_convert<FAR>(p, i, shared);

		/* With barriers: the next page takes this one's place. */
		if (block_any(bad, (uint32_t *)shared,
			      CONVERT_THREADS / WARP) &&
		    threadIdx.x == 0)
			p.args.nonfinite[p.args.pages[i].word + i] = 1;
		__syncthreads();
	}
}

extern "C" __global__ void __launch_bounds__(CONVERT_THREADS, CONVERT_BLOCKS)
kv_convert(const __grid_constant__ struct convert_params p)
{
	SHARED_FLOATS(shared);

	pages_convert<false>(p, shared);
}

/* Of sides that kv_convert() has no room for. */
extern "C" __global__ void
__launch_bounds__(CONVERT_THREADS, CONVERT_FAR_BLOCKS)
kv_convert_far(const __grid_constant__ struct convert_params p)
{
	SHARED_FLOATS(shared);

	pages_convert<true>(p, shared);
}
