/* SPDX-License-Identifier: Apache-2.0 */
/*
 * calibrate.c - runs a text through the model and makes a profile of it.
 *
 * The text is cut into independent windows, as --ppl cuts it: a byte model's
 * begin with BOS. K and V go through the pool like any worker's, unpublished.
 * The profile appears under its name when it is complete, or not at all.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "tools/kvworker/calibrate.h"
#include "tools/kvworker/text.h"
#include "tools/kvworker/worker.h"

#define WINDOW 1024
#define MIN_TOKENS 256	/* fewer say nothing of a channel's percentiles */

struct run {
	struct worker *w;
	uint32_t *tokens;	/* windows of @window, the last one shorter */
	size_t nr_tokens;
	size_t window;
	struct calibration *calibration;
};

static void see(void *arg, const struct model_rows *rows)
{
	struct calibration_rows r = {
		.layer = rows->layer,
		.rotated = rows->rotated,
		.first = rows->first,
		.nr = rows->nr,
		.qkv = rows->qkv,
	};

	calibration_add(arg, &r);
}

/* Window i of a byte model is BOS, then its bytes without the last. */
static int read_bytes(struct run *r, const char *path, struct error *e)
{
	uint8_t *text;
	int err;

	if (r->w->config.vocab != BYTE_VOCAB)
		return error_set(e, -EINVAL, "text can calibrate a model with "
				 "one token for each byte, this one has %u "
				 "tokens: give it ids (--prompt-ids; kvctl "
				 "calibrate --ids)", r->w->config.vocab);
	err = text_read(path, r->w->options.max_bytes, &text, &r->nr_tokens,
			e);
	if (err)
		return err;
	r->tokens = calloc(r->nr_tokens + 1, sizeof(*r->tokens));
	if (!r->tokens)
		err = error_set(e, -ENOMEM, "out of memory");
	for (size_t i = 0; !err && i < r->nr_tokens; i++)
		r->tokens[i] = i % r->window ? text[i - 1] : BYTE_BOS;
	free(text);
	return err;
}

static int read_text(struct run *r, struct error *e)
{
	const struct options *o = &r->w->options;
	uint32_t max = r->w->config.max_positions;
	int err;

	r->window = max < WINDOW ? max : WINDOW;
	if (o->ppl)
		err = read_bytes(r, o->ppl, e);
	else
		err = text_read_ids(o->prompt_ids, &r->w->config, &r->tokens,
				    &r->nr_tokens, e);
	if (!err && r->nr_tokens < MIN_TOKENS)
		err = error_set(e, -EINVAL, "%s: %zu tokens are too few to "
				"calibrate with, give it %d or more (some "
				"16000 are plenty)",
				o->ppl ? o->ppl : o->prompt_ids, r->nr_tokens,
				MIN_TOKENS);
	return err;
}

static int run_window(struct run *r, const uint32_t *tokens, size_t nr,
		      struct error *e)
{
	struct kvd_seq_opts opts = { .size = sizeof(opts), .no_publish = 1 };
	uint32_t chunk = r->w->options.chunk;
	struct kvd_seq *seq;
	int err;

	err = kvd_seq_new(r->w->kv.space, &opts, &seq);
	if (err)
		return kv_error(&r->w->kv, err, "cannot start a sequence", e);
	for (size_t done = 0; !err && done < nr; done += chunk) {
		size_t left = nr - done;

		err = model_run(r->w->model, seq, tokens + done,
				left < chunk ? (uint32_t)left : chunk, 0, NULL,
				e);
	}
	kvd_seq_free(seq);
	return err;
}

static int run_text(struct run *r, struct error *e)
{
	for (size_t done = 0; done < r->nr_tokens;) {
		size_t left = r->nr_tokens - done;
		size_t nr = left < r->window ? left : r->window;
		int err = run_window(r, r->tokens + done, nr, e);

		if (err)
			return err;
		done += nr;
		if (r->w->options.progress)
			fprintf(stderr, "\rcalibrating: %zu of %zu tokens%s",
				done, r->nr_tokens,
				done == r->nr_tokens ? "\n" : "");
	}
	return 0;
}

static int finish(struct run *r, struct calibrated *d, struct error *e)
{
	int err;

	d->reports = calloc(r->w->config.nr_layers, sizeof(*d->reports));
	if (!d->reports)
		return error_set(e, -ENOMEM, "out of memory");
	if (r->w->options.progress)
		fprintf(stderr, "computing the profile\n");
	err = calibration_finish(r->calibration, &d->profile, d->reports);
	if (err == -ERANGE || err == -EIO)
		return error_set(e, err, "the model's keys or values are not "
				 "finite in f16: it cannot be calibrated");
	if (err)
		return error_set(e, err, "cannot make the profile: %s",
				 strerror(-err));
	return 0;
}

static int write_all(int fd, const uint8_t *bytes, size_t nr)
{
	while (nr > 0) {
		ssize_t n = write(fd, bytes, nr);

		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0) {
			bytes += n;
			nr -= (size_t)n;
		}
	}
	return fsync(fd) ? -errno : 0;
}

static int write_file(const char *path, const uint8_t *bytes, size_t nr)
{
	char *tmp;
	int fd, err;

	if (asprintf(&tmp, "%s.%ld.tmp", path, (long)getpid()) < 0)
		return -ENOMEM;
	fd = open(tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
	err = fd < 0 ? -errno : write_all(fd, bytes, nr);
	if (fd >= 0) {
		if (close(fd) && !err)
			err = -errno;
		if (!err && rename(tmp, path))
			err = -errno;
		if (err)
			unlink(tmp);
	}
	free(tmp);
	return err;
}

static int save(struct calibrated *d, struct error *e)
{
	uint8_t *bytes;
	int err;

	d->bytes = profile_bytes(&d->profile);
	bytes = malloc(d->bytes);
	if (!bytes)
		return error_set(e, -ENOMEM, "out of memory");
	profile_encode(&d->profile, bytes);
	err = write_file(d->path, bytes, d->bytes);
	free(bytes);
	return err ? error_set(e, err, "cannot write %s: %s", d->path,
			       strerror(-err)) : 0;
}

static int start(struct run *r, struct error *e)
{
	const struct config *c = &r->w->config;
	struct calibration_shape shape = {
		.nr_layers = c->nr_layers,
		.nr_heads = c->nr_heads,
		.nr_kv_heads = c->nr_kv_heads,
		.head_dim = c->head_dim,
	};
	struct model_tap tap = { .see = see };
	int err = calibration_new(&shape, r->nr_tokens, &r->calibration);

	if (err)
		return error_set(e, err, "cannot calibrate a model of this "
				 "shape: %s", strerror(-err));
	tap.arg = r->calibration;
	model_set_tap(r->w->model, &tap);
	return 0;
}

int calibrate_run(struct worker *w, struct error *e)
{
	struct calibrated d = { .path = w->options.calibrate };
	struct run r = { .w = w };
	int err = read_text(&r, e);

	d.nr_tokens = r.nr_tokens;
	if (!err)
		err = start(&r, e);
	if (!err)
		err = run_text(&r, e);
	if (!err)
		err = finish(&r, &d, e);
	if (!err)
		err = save(&d, e);
	if (!err)
		err = calibrate_print(&d, w->options.json, e);
	model_set_tap(w->model, &(struct model_tap){ .see = NULL });
	calibration_free(r.calibration);
	profile_fini(&d.profile);
	free(d.reports);
	free(r.tokens);
	return err;
}
