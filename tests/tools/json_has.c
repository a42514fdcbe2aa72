// SPDX-License-Identifier: Apache-2.0
/*
 * json_has.c - is standard input one JSON object with these keys?
 *
 *	json_has PATH:TYPE...
 *
 * PATH is keys and array indexes with dots between; TYPE is o, a, s, i, n
 * (object, array, string, integer, any number) or =TEXT, the exact value.
 */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const json_t *walk(const json_t *at, char *path)
{
	char *save, *key;

	for (key = strtok_r(path, ".", &save); key && at;
	     key = strtok_r(NULL, ".", &save)) {
		if (json_is_array(at))
			at = json_array_get(at, (size_t)atol(key));
		else
			at = json_object_get(at, key);
	}
	return at;
}

static int is_value(const json_t *v, const char *text)
{
	char number[32];

	if (json_is_string(v))
		return strcmp(json_string_value(v), text) == 0;
	snprintf(number, sizeof(number), "%lld",
		 (long long)json_integer_value(v));
	if (json_is_integer(v))
		return strcmp(number, text) == 0;
	return strcmp(json_is_true(v) ? "true" : "false", text) == 0;
}

static int is_type(const json_t *v, const char *type)
{
	switch (*type) {
	case 'o':
		return json_is_object(v);
	case 'a':
		return json_is_array(v);
	case 's':
		return json_is_string(v);
	case 'i':
		return json_is_integer(v);
	case 'n':
		return json_is_number(v);
	case '=':
		return is_value(v, type + 1);
	}
	return 0;
}

int main(int argc, char **argv)
{
	json_error_t error;
	json_t *root = json_loadf(stdin, 0, &error);
	int i, failed = !json_is_object(root);
	char *type;

	if (failed)
		fprintf(stderr, "no JSON object: %s\n", error.text);
	for (i = 1; i < argc && !failed; i++) {
		type = strchr(argv[i], ':');
		*type++ = '\0';
		failed = !is_type(walk(root, argv[i]), type);
		if (failed) /* walk() has cut the path at its dots */
			fprintf(stderr, "argument %d, %s...: not %s\n", i,
				argv[i], type);
	}
	json_decref(root);
	return failed;
}
