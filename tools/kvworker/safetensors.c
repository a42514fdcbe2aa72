/* SPDX-License-Identifier: Apache-2.0 */
/*
 * safetensors.c - the tensors of a model directory, mapped read-only.
 *
 * A file is: u64 little-endian length of the header; the header, a JSON
 * object that maps each name to { dtype, shape, data_offsets: [begin, end] };
 * the data, to which the offsets are relative. As in the format's own
 * implementation the ranges must cover the data exactly, in any order.
 * Nothing a file says is believed before it has been checked: a file that
 * passes can be read without a further look at its bounds.
 */
#include <dirent.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "tools/kvworker/safetensors.h"

#define MAX_HEADER (100u << 20)

struct st_file {
	char *path;
	const uint8_t *map;
	size_t bytes;
	json_t *header;		/* keeps the names of its tensors */
};

struct safetensors {
	struct st_file *files;
	size_t nr_files;
	struct tensor *tensors;	/* sorted by name when open */
	size_t nr_tensors;
};

static const struct {
	const char *name;
	enum tensor_dtype dtype;
	uint32_t bytes;
} dtypes[] = {
	{ "F16", TENSOR_F16, 2 },      { "BF16", TENSOR_BF16, 2 },
	{ "F32", TENSOR_F32, 4 },      { "F64", TENSOR_OTHER, 8 },
	{ "I8", TENSOR_OTHER, 1 },     { "U8", TENSOR_OTHER, 1 },
	{ "I16", TENSOR_OTHER, 2 },    { "U16", TENSOR_OTHER, 2 },
	{ "I32", TENSOR_OTHER, 4 },    { "U32", TENSOR_OTHER, 4 },
	{ "I64", TENSOR_OTHER, 8 },    { "U64", TENSOR_OTHER, 8 },
	{ "BOOL", TENSOR_OTHER, 1 },   { "F8_E4M3", TENSOR_OTHER, 1 },
	{ "F8_E5M2", TENSOR_OTHER, 1 },
};

#define NR_DTYPES (sizeof(dtypes) / sizeof(dtypes[0]))

static int bad_tensor(const struct tensor *t, struct error *e,
		      const char *what)
{
	return error_set(e, -EINVAL, "%s: tensor %s: %s", t->path, t->name,
			 what);
}

/* Reads dtype; *ret_size is the bytes of one element. */
static int read_dtype(struct tensor *t, const json_t *entry,
		      uint32_t *ret_size, struct error *e)
{
	const char *name = json_string_value(json_object_get(entry, "dtype"));

	for (size_t i = 0; name && i < NR_DTYPES; i++) {
		if (strcmp(dtypes[i].name, name))
			continue;
		t->dtype = dtypes[i].dtype;
		t->dtype_name = dtypes[i].name;
		*ret_size = dtypes[i].bytes;
		return 0;
	}
	return error_set(e, -EINVAL, "%s: tensor %s: %s%s", t->path, t->name,
			 name ? "unknown dtype " : "no dtype",
			 name ? name : "");
}

/* Reads shape; @bytes comes in as the size of an element, leaves as of all. */
static int read_shape(struct tensor *t, const json_t *entry, uint64_t *bytes,
		      struct error *e)
{
	const json_t *shape = json_object_get(entry, "shape");

	if (!json_is_array(shape))
		return bad_tensor(t, e, "no shape");
	if (json_array_size(shape) > TENSOR_MAX_DIMS)
		return bad_tensor(t, e, "too many dimensions");
	t->nr_dims = (uint32_t)json_array_size(shape);
	for (uint32_t i = 0; i < t->nr_dims; i++) {
		const json_t *d = json_array_get(shape, i);

		if (!json_is_integer(d) || json_integer_value(d) < 0)
			return bad_tensor(t, e, "bad shape");
		t->dims[i] = (uint64_t)json_integer_value(d);
		if (__builtin_mul_overflow(*bytes, t->dims[i], bytes))
			return bad_tensor(t, e, "shape overflows");
	}
	return 0;
}

/* Reads data_offsets and sets data; @file and its data's start are known. */
static int read_range(struct tensor *t, const json_t *entry,
		      const struct st_file *f, size_t data_start,
		      uint64_t want, struct error *e)
{
	const json_t *range = json_object_get(entry, "data_offsets");
	const json_t *first = json_array_get(range, 0);
	const json_t *last = json_array_get(range, 1);
	uint64_t begin = (uint64_t)json_integer_value(first);
	uint64_t end = (uint64_t)json_integer_value(last);

	if (json_array_size(range) != 2 || !json_is_integer(first) ||
	    !json_is_integer(last) || begin > end || end > INT64_MAX)
		return bad_tensor(t, e, "bad data_offsets");
	if (end - begin != want)
		return error_set(e, -EINVAL,
				 "%s: tensor %s: shape and dtype need %" PRIu64
				 " bytes, data_offsets give %" PRIu64,
				 t->path, t->name, want, end - begin);
	if (end > f->bytes - data_start)
		return error_set(e, -EINVAL,
				 "%s: tensor %s: ends %" PRIu64 " bytes beyond "
				 "the end of the file (truncated?)", t->path,
				 t->name, end - (f->bytes - data_start));
	t->data = f->map + data_start + begin;
	t->bytes = (size_t)want;
	return 0;
}

static int read_tensor(struct tensor *t, const char *name,
		       const json_t *entry, const struct st_file *f,
		       size_t data_start, struct error *e)
{
	uint32_t size = 0;
	uint64_t bytes;
	int err;

	*t = (struct tensor){ .name = name, .path = f->path };
	if (!json_is_object(entry))
		return bad_tensor(t, e, "its entry is not an object");
	err = read_dtype(t, entry, &size, e);
	if (err)
		return err;
	bytes = size;
	err = read_shape(t, entry, &bytes, e);
	if (err)
		return err;
	return read_range(t, entry, f, data_start, bytes, e);
}

static int by_data(const void *a, const void *b)
{
	const struct tensor *x = a, *y = b;

	if (x->data != y->data)
		return x->data < y->data ? -1 : 1;
	return x->bytes < y->bytes ? -1 : x->bytes > y->bytes;
}

static int by_name(const void *a, const void *b)
{
	const struct tensor *x = a, *y = b;

	return strcmp(x->name, y->name);
}

/* The tensors of one file must cover its data exactly. */
static int check_cover(struct tensor *t, size_t nr, const struct st_file *f,
		       size_t data_start, struct error *e)
{
	const uint8_t *end = f->map + data_start;

	if (nr)
		qsort(t, nr, sizeof(*t), by_data);
	for (size_t i = 0; i < nr; i++) {
		if (t[i].data < end)
			return bad_tensor(&t[i], e,
					  "its data overlaps another's");
		if (t[i].data > end)
			return bad_tensor(&t[i], e,
					  "a hole lies before its data");
		end += t[i].bytes;
	}
	if (end != f->map + f->bytes)
		return error_set(e, -EINVAL,
				 "%s: %zu bytes after the last tensor", f->path,
				 (size_t)(f->map + f->bytes - end));
	return 0;
}

static int read_entries(struct safetensors *st, struct st_file *f,
			size_t data_start, struct error *e)
{
	size_t nr = json_object_size(f->header);
	size_t first = st->nr_tensors;
	struct tensor *grown;
	const char *name;
	json_t *entry;
	int err;

	grown = reallocarray(st->tensors, first + nr + 1, sizeof(*grown));
	if (!grown)
		return error_set(e, -ENOMEM, "out of memory");
	st->tensors = grown;
	json_object_foreach(f->header, name, entry) {
		if (!strcmp(name, "__metadata__"))
			continue;
		err = read_tensor(&st->tensors[st->nr_tensors], name, entry, f,
				  data_start, e);
		if (err)
			return err;
		st->nr_tensors++;
	}
	return check_cover(st->tensors + first, st->nr_tensors - first, f,
			   data_start, e);
}

static int read_header(struct safetensors *st, struct st_file *f,
		       struct error *e)
{
	json_error_t why;
	uint64_t len;

	memcpy(&len, f->map, sizeof(len));
	len = le64toh(len);
	if (len > MAX_HEADER)
		return error_set(e, -EINVAL, "%s: header of %" PRIu64
				 " bytes is larger than %u", f->path, len,
				 MAX_HEADER);
	if (len > f->bytes - sizeof(len))
		return error_set(e, -EINVAL, "%s: header of %" PRIu64
				 " bytes in a file of %zu (truncated?)",
				 f->path, len, f->bytes);
	f->header = json_loadb((const char *)f->map + sizeof(len), (size_t)len,
			       JSON_REJECT_DUPLICATES, &why);
	if (!f->header)
		return error_set(e, -EINVAL, "%s: header is not valid JSON: %s "
				 "at byte %d", f->path, why.text, why.position);
	if (!json_is_object(f->header))
		return error_set(e, -EINVAL, "%s: header is not a JSON object",
				 f->path);
	return read_entries(st, f, sizeof(len) + (size_t)len, e);
}

static int map_file(struct st_file *f, int fd, struct error *e)
{
	struct stat sb;
	void *map;

	if (fstat(fd, &sb))
		return error_set(e, -errno, "%s: %s", f->path, strerror(errno));
	if (!S_ISREG(sb.st_mode) || sb.st_size < (off_t)sizeof(uint64_t))
		return error_set(e, -EINVAL, "%s: too short for a header",
				 f->path);
	map = mmap(NULL, (size_t)sb.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (map == MAP_FAILED)
		return error_set(e, -errno, "%s: %s", f->path, strerror(errno));
	f->map = map;
	f->bytes = (size_t)sb.st_size;
	return 0;
}

static int open_file(struct safetensors *st, const char *dir,
		     const char *base, struct error *e)
{
	struct st_file *f, *grown;
	int fd, err;

	grown = reallocarray(st->files, st->nr_files + 1, sizeof(*grown));
	if (!grown)
		return error_set(e, -ENOMEM, "out of memory");
	st->files = grown;
	f = &st->files[st->nr_files];
	*f = (struct st_file){ 0 };
	if (asprintf(&f->path, "%s/%s", dir, base) < 0)
		return error_set(e, -ENOMEM, "out of memory");
	st->nr_files++;
	fd = open(f->path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return error_set(e, -errno, "%s: %s", f->path, strerror(errno));
	err = map_file(f, fd, e);
	close(fd);
	return err ? err : read_header(st, f, e);
}

static int is_safetensors(const struct dirent *d)
{
	const char *dot = strrchr(d->d_name, '.');

	return d->d_name[0] != '.' && dot && !strcmp(dot, ".safetensors");
}

static int open_files(struct safetensors *st, const char *dir,
		      struct error *e)
{
	struct dirent **names;
	int nr = scandir(dir, &names, is_safetensors, alphasort);
	int err = 0;

	if (nr < 0)
		return error_set(e, -errno, "%s: %s", dir, strerror(errno));
	if (nr == 0)
		err = error_set(e, -ENOENT, "%s: no *.safetensors file", dir);
	for (int i = 0; i < nr; i++) {
		if (!err)
			err = open_file(st, dir, names[i]->d_name, e);
		free(names[i]);
	}
	free(names);
	return err;
}

static int sort_names(struct safetensors *st, struct error *e)
{
	struct tensor *t = st->tensors;

	if (st->nr_tensors)
		qsort(t, st->nr_tensors, sizeof(*t), by_name);
	for (size_t i = 1; i < st->nr_tensors; i++)
		if (!strcmp(t[i - 1].name, t[i].name))
			return bad_tensor(&t[i], e, "it is also in another "
						    "file");
	return 0;
}

int safetensors_open(const char *dir, struct safetensors **ret,
		     struct error *e)
{
	struct safetensors *st = calloc(1, sizeof(*st));
	int err;

	if (!st)
		return error_set(e, -ENOMEM, "out of memory");
	err = open_files(st, dir, e);
	if (!err)
		err = sort_names(st, e);
	if (err) {
		safetensors_close(st);
		return err;
	}
	*ret = st;
	return 0;
}

void safetensors_close(struct safetensors *st)
{
	if (!st)
		return;
	for (size_t i = 0; i < st->nr_files; i++) {
		struct st_file *f = &st->files[i];

		json_decref(f->header);
		if (f->map)
			munmap((void *)(uintptr_t)f->map, f->bytes);
		free(f->path);
	}
	free(st->files);
	free(st->tensors);
	free(st);
}

const struct tensor *safetensors_find(const struct safetensors *st,
				      const char *name)
{
	struct tensor key = { .name = name };

	if (!st->nr_tensors)
		return NULL;
	return bsearch(&key, st->tensors, st->nr_tensors, sizeof(key),
		       by_name);
}
