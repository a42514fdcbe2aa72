// SPDX-License-Identifier: Apache-2.0
/*
 * elastic.c - the pool's size while kvd runs.
 */
#include "daemon/mem/elastic.h"
#include "daemon/net/elastic.h"
#include "daemon/net/limits.h"
#include "daemon/net/log.h"
#include "daemon/net/state.h"

static struct mem_size size_now(const struct server *s)
{
	struct mem_size size;

	mem_size(s->mem, &size);
	return size;
}

uint64_t elastic_bytes(const struct server *s)
{
	return size_now(s).bytes;
}

/* Given as sizes they stay, unless the pool is too small for them. */
void elastic_marks(struct server *s)
{
	const struct server_config *cfg = &s->cfg;
	uint64_t bytes = elastic_bytes(s);
	struct mem_marks k = {
		.low = server_part_bytes(&cfg->watermark_low, bytes),
		.high = server_part_bytes(&cfg->watermark_high, bytes),
	};

	k.high = k.high < bytes / 2 ? k.high : bytes / 2;
	k.low = k.low < k.high ? k.low : k.high;
	s->elastic.marked = bytes;
	mem_set_marks(s->mem, &k, !cfg->watermark_low.set &&
					  !cfg->watermark_high.set);
}

void elastic_init(struct server *s)
{
	s->elastic.usual = s->cfg.pool_bytes;
	s->elastic.busy_ms = uv_now(&s->loop);
	elastic_marks(s);
}

int elastic_resize(struct server *s, uint64_t bytes)
{
	int r = mem_resize(s->mem, bytes);

	if (r < 0)
		return r;
	s->elastic.usual = elastic_bytes(s);
	elastic_marks(s);
	return 0;
}

/* Return: nobody has allocated anything for as long as is configured. */
static bool is_idle(struct server *s, const struct mem_size *size)
{
	struct elastic *e = &s->elastic;
	uint64_t now_ms = uv_now(&s->loop);

	if (size->taken != e->taken)
		e->busy_ms = now_ms;
	e->taken = size->taken;
	return s->cfg.shrink_ms && now_ms - e->busy_ms >= s->cfg.shrink_ms;
}

void elastic_tick(struct server *s)
{
	struct mem_size size = size_now(s);

	if (is_idle(s, &size) && size.bytes > s->elastic.usual &&
	    mem_resize(s->mem, s->elastic.usual) == 0)
		log_line(LOG_INFO, "the pool is idle: from %llu bytes back to "
			 "%llu", (unsigned long long)size.bytes,
			 (unsigned long long)s->elastic.usual);
	if (elastic_bytes(s) != s->elastic.marked)
		elastic_marks(s);
}
