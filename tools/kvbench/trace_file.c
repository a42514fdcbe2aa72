// SPDX-License-Identifier: Apache-2.0
/*
 * trace_file.c - the requests of a trace, one at a time.
 */
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include "tools/kvbench/trace_file.h"

static int complain(const struct trace_file *f, const char *what)
{
	fprintf(stderr, "kvbench trace: %s:%u: %s\n", f->path, f->line, what);
	return -EINVAL;
}

int trace_open(struct trace_file *f, const char *path, uint32_t limit)
{
	int err = 0;

	*f = (struct trace_file){ .path = path, .limit = limit };
	f->buffer = malloc(TRACE_MAX_LINE);
	if (!f->buffer)
		err = -ENOMEM;
	if (!err)
		f->file = fopen(path, "re");
	if (!err && !f->file)
		err = -errno;
	if (err)
		fprintf(stderr, "kvbench trace: %s: %s\n", path,
		        strerror(-err));
	return err;
}

void trace_close(struct trace_file *f)
{
	if (f->file)
		fclose(f->file);
	free(f->buffer);
	f->file = NULL;
	f->buffer = NULL;
}

/* A whole number of @key. Return: 0 or -EINVAL. */
static int get_count(const struct trace_file *f, const json_t *o,
                     const char *key, json_int_t min, uint32_t *ret)
{
	const json_t *v = json_object_get(o, key);
	json_int_t n = json_integer_value(v);
	char what[96];

	if (json_is_integer(v) && n >= min && n <= TRACE_MAX_TOKENS) {
		*ret = (uint32_t)n;
		return 0;
	}
	snprintf(what, sizeof(what), "%s is not a whole number from %d to %u",
	         key, (int)min, TRACE_MAX_TOKENS);
	return complain(f, what);
}

static int ids_room(struct trace_request *r, uint32_t nr)
{
	uint64_t *ids;

	if (nr <= r->room)
		return 0;
	ids = realloc(r->ids, nr * sizeof(*ids));
	if (!ids)
		return -ENOMEM;
	r->ids = ids;
	r->room = nr;
	return 0;
}

static int get_ids(const struct trace_file *f, const json_t *o,
                   struct trace_request *r)
{
	const json_t *ids = json_object_get(o, "hash_ids"), *id;
	uint32_t need = (r->input + TRACE_BLOCK - 1) / TRACE_BLOCK;
	char what[96];
	size_t i;

	if (!json_is_array(ids))
		return complain(f, "hash_ids is not an array");
	if (json_array_size(ids) != need) {
		snprintf(what, sizeof(what),
		         "%zu hash_ids, but %u tokens are %u blocks of %u",
		         json_array_size(ids), r->input, need, TRACE_BLOCK);
		return complain(f, what);
	}
	if (ids_room(r, need)) {
		complain(f, strerror(ENOMEM));
		return -ENOMEM;
	}
	r->nr_ids = need;
	json_array_foreach(ids, i, id)
	{
		if (!json_is_integer(id) || json_integer_value(id) < 0)
			return complain(f, "a hash_id is not a whole number");
		r->ids[i] = (uint64_t)json_integer_value(id);
	}
	return 0;
}

static int get_request(const struct trace_file *f, const json_t *o,
                       struct trace_request *r)
{
	int err;

	if (!json_is_object(o))
		return complain(f, "not a JSON object");
	if (!json_is_number(json_object_get(o, "timestamp")))
		return complain(f, "timestamp is not a number");
	err = get_count(f, o, "input_length", 1, &r->input);
	if (!err)
		err = get_count(f, o, "output_length", 0, &r->output);
	return err ? err : get_ids(f, o, r);
}

/* Return: bytes, 0 at the end, or -errno. */
static int read_line(struct trace_file *f)
{
	size_t nr;
	int err;

	errno = 0;
	if (!fgets(f->buffer, TRACE_MAX_LINE, f->file)) {
		err = ferror(f->file) ? -errno : 0;
		if (err)
			fprintf(stderr, "kvbench trace: %s: %s\n", f->path,
			        strerror(-err));
		return err;
	}
	f->line++;
	nr = strlen(f->buffer);
	if (nr == TRACE_MAX_LINE - 1 && f->buffer[nr - 1] != '\n')
		return complain(f, "the line is longer than 1 MiB");
	return nr ? (int)nr : complain(f, "a byte of zero");
}

int trace_next(struct trace_file *f, struct trace_request *r)
{
	json_error_t why;
	json_t *o;
	int n;

	if (f->limit && f->line == f->limit)
		return 0;
	n = read_line(f);
	if (n <= 0)
		return n;
	r->nr = f->line - 1;
	o = json_loadb(f->buffer, (size_t)n, JSON_REJECT_DUPLICATES, &why);
	if (!o)
		return complain(f, why.text);
	n = get_request(f, o, r);
	json_decref(o);
	return n ? n : 1;
}

static void total_add(struct trace_total *t, const struct trace_request *r)
{
	t->requests++;
	t->input += r->input;
	t->output += r->output;
	if (r->input + r->output > t->longest)
		t->longest = r->input + r->output;
}

int trace_count(const char *path, uint32_t limit, struct trace_total *ret)
{
	struct trace_total t = { 0 };
	struct trace_request r = { 0 };
	struct trace_file f;
	int n = trace_open(&f, path, limit);

	while (!n) {
		n = trace_next(&f, &r);
		if (n <= 0)
			break;
		total_add(&t, &r);
		n = 0;
	}
	if (!n && !t.requests) {
		fprintf(stderr, "kvbench trace: %s: no request\n", path);
		n = -EINVAL;
	}
	trace_close(&f);
	free(r.ids);
	if (!n)
		*ret = t;
	return n;
}
