// SPDX-License-Identifier: Apache-2.0
/*
 * serve.c - prompts from standard input, a line each, one after the other.
 *
 * The connection, the weights and the space stay; each prompt has a sequence
 * of its own, as it would have in a process of its own.
 */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tools/kvworker/text.h"
#include "tools/kvworker/worker.h"

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

int serve_run(struct worker *w, struct error *e)
{
	char *line = NULL;
	size_t room = 0;
	ssize_t len;

	while ((len = getline(&line, &room, stdin)) > 0) {
		if (line[len - 1] == '\n')
			line[--len] = 0;
		if (serve_line(w, line, (size_t)len, e))
			answer_error(e);
		if (fflush(stdout))
			break;
	}
	free(line);
	if (ferror(stdout) || ferror(stdin))
		return error_set(e, -EIO, "cannot read prompts or write "
				 "answers: %s", strerror(errno));
	return 0;
}
