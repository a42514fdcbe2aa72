/* SPDX-License-Identifier: Apache-2.0 */
/*
 * alloc.h - OPEN pages for a client that is mem/'s own.
 */
#ifndef DAEMON_MEM_ALLOC_H
#define DAEMON_MEM_ALLOC_H

#include "daemon/mem/pool.h"

/* mem_alloc(), of a class of demoted pages too. */
int alloc_pages(struct mem_client *c, struct mem_space *s, uint32_t class,
		uint32_t nr, handle_t *handles, place_t *places,
		uint64_t *ret_need_bytes);

#endif
