// SPDX-License-Identifier: Apache-2.0
/* retire.c - pages that nobody needs once the device has done its work. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include "client-lib/fixed.h"
#include "client-lib/hold.h"
#include "client-lib/retire.h"
#include "client-lib/space.h"

struct retired {
	STAILQ_ENTRY(retired) link;
	struct device_event *event;
	uint64_t step;		/* that was open then; 0: none was */
	struct flag *flag;
	uint32_t nr;
	struct hold *holds[];
};

struct flag *flag_new(void)
{
	struct flag *f = calloc(1, sizeof(*f));

	if (f)
		f->refs = 1;
	return f;
}

void flag_put(struct flag *f)
{
	if (!f)
		return;
	assert(f->refs);
	if (!--f->refs)
		free(f);
}

static void retire_now(struct hold *const *holds, uint32_t nr,
		       struct flag *flag)
{
	for (uint32_t i = 0; i < nr; i++)
		hold_put(holds[i]);
	flag_put(flag);
}

/*
 * Puts it off. false: there is nothing to wait for, or no memory to. Without
 * memory pages that a step to come may use are not given back at all, but with
 * the space; a flag it sets has a use of its own.
 */
static bool retire_later(struct kvd_space *sp, const struct retire *what,
			 kvd_stream stream)
{
	const struct device_ops *ops = sp->device->ops;
	const uint64_t step = fixed_open(sp);
	struct device_event *e = NULL;
	struct retired *t;

	if (ops->event_record(sp->device, stream, &e)) {
		ops->sync(sp->device);
		e = NULL;
	}
	if (!e && !step)
		return false;
	t = malloc(sizeof(*t) + what->nr * sizeof(struct hold *));
	if (!t) {
		ops->event_wait(sp->device, e);
		ops->event_free(sp->device, e);
		if (step)
			flag_put(what->flag);
		return step;
	}
	t->event = e;
	t->step = step;
	t->flag = what->flag;
	t->nr = what->nr;
	if (t->nr)
		memcpy(t->holds, what->holds, t->nr * sizeof(struct hold *));
	STAILQ_INSERT_TAIL(&sp->retired, t, link);
	return true;
}

void retire(struct kvd_space *sp, const struct retire *what,
	    kvd_stream stream)
{
	if (what->idle || !retire_later(sp, what, stream))
		retire_now(what->holds, what->nr, what->flag);
}

void retire_poll(struct kvd_space *sp, bool wait)
{
	const struct device_ops *ops = sp->device->ops;
	struct retired *t, *next;

	for (t = STAILQ_FIRST(&sp->retired); t; t = next) {
		next = STAILQ_NEXT(t, link);
		if (wait)
			ops->event_wait(sp->device, t->event);
		else if (!ops->event_done(sp->device, t->event))
			continue;
		if (t->step && !fixed_past(sp, t->step))
			continue;
		STAILQ_REMOVE(&sp->retired, t, retired, link);
		ops->event_free(sp->device, t->event);
		retire_now(t->holds, t->nr, t->flag);
		free(t);
	}
}
