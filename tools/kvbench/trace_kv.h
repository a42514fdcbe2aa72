/* SPDX-License-Identifier: Apache-2.0 */
/*
 * trace_kv.h - what the tokens of a trace are, and what is in their pages.
 *
 * Token p of a block is a function of the block's id and p. Each token has a
 * strip of its page's bytes, whose contents are a function of token and
 * position: any two finite halves, so that a page of whatever format can be
 * filled so and, where it is sealed whole, quantized.
 */
#ifndef TOOLS_KVBENCH_TRACE_KV_H
#define TOOLS_KVBENCH_TRACE_KV_H

#include <stdint.h>
#include "kernels/page.h"
#include "tools/kvbench/trace_file.h"

/* Fills tokens[0 .. input + output): output is like nobody else's. */
void trace_tokens(const struct trace_request *r, uint32_t *tokens);

/**
 * trace_kv_write() - contents of tokens [first, first + nr) of a page
 * @page:	its bytes
 * @tokens:	[nr] those of the tokens
 * @position:	of the page's first token
 */
void trace_kv_write(const struct page_layout *l, uint8_t *page,
                    const uint32_t *tokens, uint32_t first, uint32_t nr,
                    uint32_t position);

#endif
