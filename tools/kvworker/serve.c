// SPDX-License-Identifier: Apache-2.0
/*
 * serve.c - prompts from standard input, a line each, one after the other.
 *
 * The connection, the weights and the space stay; each prompt has a sequence
 * of its own, as it would have in a process of its own.
 */
#include <errno.h>
#include <jansson.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "tools/kvworker/text.h"
#include "tools/kvworker/worker.h"

#define AWAY_MS 20	/* between looks whether the daemon is back */

static int serve_line(struct worker *w, const char *line, size_t len,
		      struct error *e)
{
	uint32_t *prompt;
	size_t nr;
	int err;

	if (w->config.vocab == BYTE_VOCAB)
		err = text_bytes((const uint8_t *)line, len, &prompt, &nr, e);
	else
		err = text_ids("a line", line, len, w->config.vocab, &prompt,
			       &nr, e);
	if (err)
		return err;
	err = generate_tokens(w, prompt, nr, e);
	free(prompt);
	return err;
}

static void answer_error(const struct error *e)
{
	json_t *o = json_pack("{ss}", "error", e->text);

	json_dumpf(o, stdout, JSON_COMPACT);
	json_decref(o);
	putchar('\n');
}

/* Lines as they come; the last may end with the input. */
struct input {
	char *buf;
	size_t room;
	size_t nr;		/* bytes read */
	size_t used;		/* of these, in lines that have been served */
	bool end;
};

/* The next whole line of what was read, with 0 at its end; NULL: none. */
static char *input_line(struct input *in, size_t *ret_len)
{
	char *line = in->buf + in->used;
	char *end = in->nr > in->used ?
			    memchr(line, '\n', in->nr - in->used) : NULL;

	if (!end && (!in->end || in->nr == in->used))
		return NULL;
	if (!end)
		end = in->buf + in->nr; /* there is room for one byte more */
	*end = 0;
	*ret_len = (size_t)(end - line);
	in->used += *ret_len + (in->nr > in->used + *ret_len);
	return line;
}

static int input_read(struct input *in)
{
	ssize_t n;

	if (in->used)
		memmove(in->buf, in->buf + in->used, in->nr - in->used);
	in->nr -= in->used;
	in->used = 0;
	if (in->room - in->nr < 2) {
		size_t room = in->room ? 2 * in->room : 4096;
		char *grown = realloc(in->buf, room);

		if (!grown)
			return -ENOMEM;
		in->buf = grown;
		in->room = room;
	}
	n = read(STDIN_FILENO, in->buf + in->nr, in->room - in->nr - 1);
	if (n < 0)
		return errno == EINTR ? 0 : -errno;
	in->nr += (size_t)n;
	in->end = n == 0;
	return 0;
}

/*
 * Until there is input. Meanwhile the library is let have its way: what the
 * daemon asks back is given, and one that has come back is told what is held.
 */
static void wait_for_input(struct worker *w)
{
	struct pollfd p[2] = { { .fd = STDIN_FILENO, .events = POLLIN },
			       { .events = POLLIN } };

	while (!p[0].revents) {
		int away = kvd_process(w->kv.conn);

		p[1].fd = kvd_fd(w->kv.conn);
		poll(p, 2, away ? AWAY_MS : -1);
	}
}

int serve_run(struct worker *w, struct error *e)
{
	struct input in = { 0 };
	size_t len = 0;
	char *line;
	int err = 0;

	while (!err) {
		line = in.buf ? input_line(&in, &len) : NULL;
		if (line && serve_line(w, line, len, e))
			answer_error(e);
		if (line && fflush(stdout))
			err = -errno;
		if (line)
			continue;
		if (in.end)
			break;
		wait_for_input(w);
		err = input_read(&in);
	}
	free(in.buf);
	return err ? error_set(e, err, "cannot read prompts or write answers: "
			       "%s", strerror(-err)) : 0;
}
