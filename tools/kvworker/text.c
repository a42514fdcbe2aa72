/* SPDX-License-Identifier: Apache-2.0 */
/*
 * text.c - text in, tokens out, and back.
 */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tools/kvworker/text.h"

#define SPACE " \t\r\n\v\f"

/* Reads what is there, also from a pipe. */
static int read_all(FILE *f, const char *path, uint64_t max, uint8_t **ret,
		    size_t *ret_nr, struct error *e)
{
	size_t room = 4096, nr = 0, got;
	uint8_t *buf = malloc(room), *grown;

	while (buf) {
		size_t want = room - nr - 1;

		if (want > max - nr)
			want = (size_t)(max - nr);
		got = fread(buf + nr, 1, want, f);
		nr += got;
		if (got < want || nr == max)
			break;
		room *= 2;
		grown = realloc(buf, room);
		if (!grown)
			free(buf);
		buf = grown;
	}
	if (!buf)
		return error_set(e, -ENOMEM, "%s: out of memory", path);
	if (ferror(f)) {
		free(buf);
		return error_set(e, -EIO, "%s: %s", path, strerror(errno));
	}
	buf[nr] = 0;
	*ret = buf;
	*ret_nr = nr;
	return 0;
}

int text_read(const char *path, uint64_t max, uint8_t **ret, size_t *ret_nr,
	      struct error *e)
{
	FILE *f = fopen(path, "rbe");
	int err;

	if (!f)
		return error_set(e, -errno, "%s: %s", path, strerror(errno));
	err = read_all(f, path, max, ret, ret_nr, e);
	fclose(f);
	return err;
}

int text_bytes(const uint8_t *bytes, size_t nr, uint32_t **ret, size_t *ret_nr,
	       struct error *e)
{
	uint32_t *tokens = reallocarray(NULL, nr + 1, sizeof(*tokens));

	if (!tokens)
		return error_set(e, -ENOMEM, "out of memory");
	tokens[0] = BYTE_BOS;
	for (size_t i = 0; i < nr; i++)
		tokens[i + 1] = bytes[i];
	*ret = tokens;
	*ret_nr = nr + 1;
	return 0;
}

int text_read_bytes(const char *path, const struct config *c, uint32_t **ret,
		    size_t *ret_nr, struct error *e)
{
	uint8_t *bytes;
	size_t nr;
	int err;

	if (c->vocab != BYTE_VOCAB)
		return error_set(e, -EINVAL,
				 "%s: the model has %u tokens, not one for "
				 "each byte: give --prompt-ids", path,
				 c->vocab);
	err = text_read(path, UINT64_MAX, &bytes, &nr, e);
	if (err)
		return err;
	err = text_bytes(bytes, nr, ret, ret_nr, e);
	free(bytes);
	return err;
}

/* Ids from text; *ret_nr counts those before the first that is bad. */
static int parse_ids(const char *text, size_t len, uint32_t vocab,
		     uint32_t *ids, size_t *ret_nr)
{
	const char *at = text;
	unsigned long id;
	char *end;

	*ret_nr = 0;
	for (;;) {
		at += strspn(at, SPACE);
		if (at == text + len)
			return 0;
		errno = 0;
		id = strtoul(at, &end, 10);
		if (!isdigit((unsigned char)*at) || errno || id >= vocab ||
		    (*end && !strchr(SPACE, *end)))
			return -EINVAL;
		ids[(*ret_nr)++] = (uint32_t)id;
		at = end;
	}
}

int text_ids(const char *name, const char *text, size_t len, uint32_t vocab,
	     uint32_t **ret, size_t *ret_nr, struct error *e)
{
	uint32_t *ids = reallocarray(NULL, len / 2 + 1, sizeof(*ids));
	int err = 0;

	if (!ids)
		err = error_set(e, -ENOMEM, "%s: out of memory", name);
	else if (parse_ids(text, len, vocab, ids, ret_nr))
		err = error_set(e, -EINVAL,
				"%s: entry %zu is not a token id below %u",
				name, *ret_nr + 1, vocab);
	else if (*ret_nr == 0)
		err = error_set(e, -EINVAL, "%s: no token ids", name);
	if (err) {
		free(ids);
		return err;
	}
	*ret = ids;
	return 0;
}

int text_read_ids(const char *path, const struct config *c, uint32_t **ret,
		  size_t *ret_nr, struct error *e)
{
	uint8_t *text;
	size_t len;
	int err;

	err = text_read(path, UINT64_MAX, &text, &len, e);
	if (err)
		return err;
	err = text_ids(path, (char *)text, len, c->vocab, ret, ret_nr, e);
	free(text);
	return err;
}

/* Length of the valid UTF-8 sequence at @s, or 0. */
static size_t utf8_length(const uint32_t *s, size_t nr)
{
	static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
	uint32_t code;
	size_t len;

	if (s[0] < 0x80)
		return 1;
	len = s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : 2;
	if (s[0] < 0xc0 || s[0] >= 0xf8 || len > nr)
		return 0;
	code = s[0] & (0x7fu >> len);
	for (size_t i = 1; i < len; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0;
		code = code << 6 | (s[i] & 0x3f);
	}
	if (code < least[len] || code > 0x10ffff ||
	    (code >= 0xd800 && code < 0xe000))
		return 0;
	return len;
}

static char *show_bytes(const uint32_t *tokens, size_t nr)
{
	char *text = malloc(3 * nr + 1);
	size_t n = 0, len;

	if (!text)
		return NULL;
	for (size_t i = 0; i < nr; i += len ? len : 1) {
		len = tokens[i] ? utf8_length(tokens + i, nr - i) : 0;
		for (size_t k = 0; k < len; k++)
			text[n++] = (char)tokens[i + k];
		if (!len) {
			memcpy(text + n, "\xef\xbf\xbd", 3);
			n += 3;
		}
	}
	text[n] = 0;
	return text;
}

char *text_show(const struct config *c, const uint32_t *tokens, size_t nr)
{
	char *text;
	size_t n = 0;

	if (c->vocab == BYTE_VOCAB)
		return show_bytes(tokens, nr);
	text = malloc(11 * nr + 1);
	if (!text)
		return NULL;
	text[0] = 0;
	for (size_t i = 0; i < nr; i++)
		n += (size_t)sprintf(text + n, "%s%" PRIu32, i ? " " : "",
				     tokens[i]);
	return text;
}
