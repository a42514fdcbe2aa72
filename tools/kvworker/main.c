/* SPDX-License-Identifier: Apache-2.0 */
/*
 * main.c - kvworker: inference with a Llama model whose KV cache is in kvd.
 *
 * The connection is made first: before CUDA is initialised, as the library
 * asks for, and before the weights are read, which takes long.
 */
#include <cblas.h>
#include <poll.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>
#include "tools/kvworker/worker.h"

double worker_now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec * 1e3 + (double)ts.tv_nsec / 1e6;
}

int worker_bytes_per_token(struct worker *w, uint64_t *ret, struct error *e)
{
	struct kvd_space_info info = { .size = sizeof(info) };
	int err = kvd_space_info(w->kv.space, &info);

	if (err)
		return kv_error(&w->kv, err, "cannot read the space", e);
	*ret = info.bytes_per_token;
	return 0;
}

/* A daemon that has been restarted is found again, and asked for the pages. */
void worker_hold(const struct worker *w)
{
	struct pollfd p[2] = { { .fd = STDIN_FILENO, .events = POLLIN },
			       { .events = POLLIN } };
	bool more = w->options.hold;
	char byte;

	fflush(stdout);
	while (more) {
		p[1].fd = kvd_fd(w->kv.conn);
		poll(p, 2, p[1].fd < 0 ? 20 : -1);
		kvd_process(w->kv.conn);
		if (p[0].revents)
			more = read(STDIN_FILENO, &byte, 1) > 0;
	}
}

const char *worker_matrices(const struct worker *w)
{
	return model_on_gpu(w->model) ? "gpu" : "cpu";
}

/* Where auto finds no way to the GPU, the CPU will do. */
static int place_matrices(struct worker *w, struct error *e)
{
	struct error why;
	int err;

	if (w->options.matrices == MATRICES_CPU)
		return 0;
	err = model_to_gpu(w->model, &why);
	if (!err || w->options.matrices == MATRICES_AUTO)
		return 0;
	return error_set(e, err, "--matrices gpu: %.480s", why.text);
}

static int run(struct worker *w, struct error *e)
{
	const struct options *o = &w->options;
	struct kv_opts kv_opts = o->kv;
	int err;

	kv_opts.nr_threads = o->threads;
	err = config_read(o->model, &w->config, e);
	if (!err)
		err = kv_connect(&w->kv, o->socket, e);
	if (!err)
		err = weights_load(&w->weights, o->model, &w->config, e);
	if (!err)
		err = kv_open(&w->kv, &w->config, w->weights.digest, &kv_opts,
			      e);
	if (!err)
		err = model_new(&w->config, &w->weights, &w->kv, o->chunk,
				&w->model, e);
	if (!err)
		err = place_matrices(w, e);
	if (err)
		return err;
	if (o->calibrate)
		return calibrate_run(w, e);
	if (o->serve)
		return serve_run(w, e);
	return o->ppl ? ppl_run(w, e) : generate_run(w, e);
}

int main(int argc, char **argv)
{
	struct worker w = { 0 };
	struct error e;
	int err;

	options_parse(&w.options, argc, argv);
	openblas_set_num_threads((int)w.options.threads);
	err = run(&w, &e);
	model_free(w.model);
	kv_close(&w.kv);
	weights_free(&w.weights);
	if (err)
		fprintf(stderr, "kvworker: %s\n", e.text);
	return err ? 1 : 0;
}
