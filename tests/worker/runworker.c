/* SPDX-License-Identifier: Apache-2.0 */
/*
 * runworker.c - run kvworker as a user does, look at what it printed.
 */
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "tests/support/daemon.h"
#include "tests/worker/runworker.h"

size_t run_alike(const char *a, const char *b, size_t n)
{
	size_t i = 0;

	while (i < n && a[i] == b[i])
		i++;
	return i;
}

void run_fail(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	exit(1);
}

static void child(const char *const *args, int in, int out, int err)
{
	char *argv[RUN_MAX_ARGS + 3];
	int n = 0;

	argv[n++] = (char *)(uintptr_t)daemon_program("kvworker",
						     KVWORKER);
	while (*args && n <= RUN_MAX_ARGS)
		argv[n++] = (char *)*args++;
	argv[n++] = (char *)"--json";
	argv[n] = NULL;
	dup2(in, STDIN_FILENO);
	dup2(out, STDOUT_FILENO);
	dup2(err, STDERR_FILENO);
	execv(argv[0], argv);
	_exit(127);
}

void run_start(struct run *r, const char *const *args)
{
	int in[2], out[2], err[2];

	*r = (struct run){ 0 };
	if (pipe2(in, O_CLOEXEC) || pipe2(out, O_CLOEXEC) ||
	    pipe2(err, O_CLOEXEC))
		run_fail("pipe2: %m");
	r->pid = fork();
	if (r->pid < 0)
		run_fail("fork: %m");
	if (r->pid == 0)
		child(args, in[0], out[1], err[1]);
	close(in[0]);
	close(out[1]);
	close(err[1]);
	r->in = in[1];
	r->out = out[0];
	r->err = err[0];
}

void run_read_json(struct run *r)
{
	char line[65536];
	size_t n = 0;

	while (n < sizeof(line) && read(r->out, line + n, 1) == 1)
		if (line[n++] == '\n')
			break;
	if (n)
		r->json = json_loadb(line, n, 0, NULL);
}

void run_end(struct run *r)
{
	size_t n = 0;
	ssize_t got;
	int status;

	close(r->in);
	if (!r->json)
		run_read_json(r);
	while ((got = read(r->err, r->said + n, sizeof(r->said) - 1 - n)) > 0)
		n += (size_t)got;
	close(r->out);
	close(r->err);
	if (waitpid(r->pid, &status, 0) != r->pid)
		run_fail("waitpid: %m");
	r->status = WIFEXITED(status) ? WEXITSTATUS(status) :
					128 + WTERMSIG(status);
}

void run(struct run *r, const char *const *args)
{
	run_start(r, args);
	run_end(r);
}

void run_free(struct run *r)
{
	json_decref(r->json);
	r->json = NULL;
}

double run_number(const struct run *r, const char *field)
{
	const json_t *v = json_object_get(r->json, field);

	if (!json_is_number(v))
		run_fail("no %s in what kvworker printed (status %d): %s",
			 field, r->status, r->said);
	return json_number_value(v);
}

const char *run_model(const char *file)
{
	static char paths[4][4096];
	static unsigned next;
	const char *dir = getenv("KVD_TEST_MODEL");
	char *path = paths[next++ % 4];

	snprintf(path, sizeof(paths[0]), "%s%s", dir ? dir : TEST_MODEL, file);
	return path;
}

void *run_file(const char *path, size_t *ret_bytes)
{
	FILE *f = fopen(path, "rb");
	size_t bytes;
	char *data;

	if (!f || fseek(f, 0, SEEK_END))
		run_fail("%s: %m", path);
	bytes = (size_t)ftell(f);
	rewind(f);
	data = malloc(bytes + 1);
	if (!data || fread(data, 1, bytes, f) != bytes)
		run_fail("%s: %m", path);
	fclose(f);
	*ret_bytes = bytes;
	return data;
}
