// SPDX-License-Identifier: Apache-2.0
/*
 * tenant.c - whose pages: users and groups to tenants, and their name keys.
 *
 * A key is in its file, by its name, before it is handed out: what a daemon
 * that dies leaves is whole. That the disk has it too is waited for elsewhere;
 * a machine that loses power before has lost the pages as well. All it can
 * leave is an empty file, which counts as none.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>
#include "daemon/net/peer.h"
#include "daemon/net/tenant.h"

int tenant_name_check(const char *name)
{
	size_t n = strlen(name);

	if (n == 0 || n >= TENANT_NAME_BYTES || name[0] == '.')
		return -EINVAL;
	return strspn(name, "abcdefghijklmnopqrstuvwxyz"
			    "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
			    "0123456789-_.") == n ? 0 : -EINVAL;
}

bool tenant_name_is_user(const char *name, uid_t *ret)
{
	char text[TENANT_NAME_BYTES];
	unsigned long n;

	if (strncmp(name, "uid-", 4) != 0)
		return false;
	n = strtoul(name + 4, NULL, 10);
	if (n >= UINT32_MAX)
		return false;
	snprintf(text, sizeof(text), "uid-%lu", n);
	*ret = (uid_t)n;
	return strcmp(text, name) == 0;
}

/* ---- keys ---- */

static int key_read(const char *path, uint8_t key[NAME_KEY_BYTES])
{
	uint8_t buf[NAME_KEY_BYTES + 1];
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	ssize_t n;

	if (fd < 0)
		return -errno;
	n = read(fd, buf, sizeof(buf));
	close(fd);
	if (n != NAME_KEY_BYTES)
		return n < 0 ? -EIO : n == 0 ? -ENOENT : -EINVAL;
	memcpy(key, buf, NAME_KEY_BYTES);
	return 0;
}

static void key_sync(const struct tenants *ts, int fd)
{
	if (ts->sync) {
		ts->sync(ts->ctx, fd);
		return;
	}
	fsync(fd);
	close(fd);
}

/* Writes a new file of @key whole, or nothing. */
static int key_write(const struct tenants *ts, const char *path,
		     const uint8_t key[NAME_KEY_BYTES])
{
	char tmp[640];
	int fd, r = 0;

	snprintf(tmp, sizeof(tmp), "%s.%d.new", path, (int)getpid());
	unlink(tmp); /* of one with our pid that was killed right here */
	fd = open(tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	if (write(fd, key, NAME_KEY_BYTES) != NAME_KEY_BYTES)
		r = -EIO;
	else if (rename(tmp, path) < 0)
		r = -errno;
	if (r < 0) {
		unlink(tmp);
		close(fd);
		return r;
	}
	key_sync(ts, fd);
	return 0;
}

static int key_make(const struct tenants *ts, const char *path,
		    uint8_t key[NAME_KEY_BYTES])
{
	if (getrandom(key, NAME_KEY_BYTES, 0) != NAME_KEY_BYTES)
		return -EIO;
	return key_write(ts, path, key);
}

/* A configured key file has to be there; one of ours is made when missing. */
static int tenant_load_key(const struct tenants *ts, struct tenant *t)
{
	char path[600];
	int r;

	if (t->key_file[0])
		return key_read(t->key_file, t->key);
	snprintf(path, sizeof(path), "%s/%s.key", ts->state_dir, t->name);
	r = key_read(path, t->key);
	if (r == -ENOENT)
		r = key_make(ts, path, t->key);
	return r;
}

/* ---- tenants ---- */

/* mkdir -p, private. */
static int make_dirs(const char *path)
{
	char buf[256], *p;

	snprintf(buf, sizeof(buf), "%s", path);
	for (p = buf + 1; (p = strchr(p, '/')); p++) {
		*p = '\0';
		if (mkdir(buf, 0755) < 0 && errno != EEXIST)
			return -errno;
		*p = '/';
	}
	if (mkdir(buf, 0700) < 0 && errno != EEXIST)
		return -errno;
	return access(buf, W_OK | X_OK) < 0 ? -errno : 0;
}

int tenants_load_key(const struct tenants *ts, struct tenant *t, char *why,
		     size_t why_bytes)
{
	int r = tenant_load_key(ts, t);

	if (r < 0)
		snprintf(why, why_bytes, "key of tenant %s in %s: %s", t->name,
			 t->key_file[0] ? t->key_file : ts->state_dir,
			 r == -EINVAL ? "not a file of exactly 32 bytes" :
					strerror(-r));
	return r;
}

int tenants_init(struct tenants *ts, struct tenant_list *list,
		 const char *state_dir, uint64_t default_max, char *why,
		 size_t why_bytes)
{
	struct tenant *t;
	int r;

	TAILQ_INIT(&ts->list);
	TAILQ_CONCAT(&ts->list, list, link);
	snprintf(ts->state_dir, sizeof(ts->state_dir), "%s", state_dir);
	ts->default_max = default_max;
	ts->sync = NULL;
	r = make_dirs(ts->state_dir);
	if (r < 0) {
		snprintf(why, why_bytes,
			 "state directory %s: %s; name another with "
			 "--state-dir", ts->state_dir, strerror(-r));
		return r;
	}
	TAILQ_FOREACH(t, &ts->list, link) {
		t->limits = t->stored;
		r = tenants_load_key(ts, t, why, why_bytes);
		if (r < 0)
			return r;
	}
	return 0;
}

void tenants_fini(struct tenants *ts)
{
	struct tenant *t;

	while ((t = TAILQ_FIRST(&ts->list))) {
		TAILQ_REMOVE(&ts->list, t, link);
		assert(t->pressure.nr_waiting == 0);
		explicit_bzero(t->key, sizeof(t->key));
		free(t);
	}
}

static struct tenant *tenants_by_uid(struct tenants *ts, uid_t uid,
				     bool configured)
{
	struct tenant *t;
	unsigned i;

	TAILQ_FOREACH(t, &ts->list, link) {
		if (t->configured != configured)
			continue;
		for (i = 0; i < t->nr_uids; i++)
			if (t->uids[i] == uid)
				return t;
	}
	return NULL;
}

static struct tenant *tenants_by_group(struct tenants *ts,
				       const struct peer *p)
{
	struct tenant *t;
	unsigned i;

	TAILQ_FOREACH(t, &ts->list, link)
		for (i = 0; i < t->nr_gids; i++)
			if (peer_in_group(p, t->gids[i]))
				return t;
	return NULL;
}

/* The user's own tenant. */
static int tenants_add(struct tenants *ts, uid_t uid, struct tenant **ret)
{
	struct tenant *t = calloc(1, sizeof(*t));
	int r;

	if (!t)
		return -ENOMEM;
	snprintf(t->name, sizeof(t->name), "uid-%u", (unsigned)uid);
	t->limits.of[LIMIT_MAX] = ts->default_max;
	t->stored = t->limits;
	t->uids[t->nr_uids++] = uid;
	r = tenant_load_key(ts, t);
	if (r < 0) {
		free(t);
		return r;
	}
	TAILQ_INSERT_TAIL(&ts->list, t, link);
	*ret = t;
	return 0;
}

struct tenant *tenants_by_name(struct tenants *ts, const char *name)
{
	struct tenant *t;

	TAILQ_FOREACH(t, &ts->list, link)
		if (strcmp(t->name, name) == 0)
			return t;
	return NULL;
}

int tenants_by_user_name(struct tenants *ts, const char *name,
			 struct tenant **ret)
{
	struct tenant *t = tenants_by_name(ts, name);
	uid_t uid;

	if (!t)
		return tenant_name_is_user(name, &uid) ?
			       tenants_add(ts, uid, ret) : -ENOENT;
	*ret = t;
	return 0;
}

int tenants_find(struct tenants *ts, const struct peer *p, struct tenant **ret)
{
	struct tenant *t = tenants_by_uid(ts, p->uid, true);

	if (!t)
		t = tenants_by_group(ts, p);
	if (!t)
		t = tenants_by_uid(ts, p->uid, false);
	if (!t)
		return tenants_add(ts, p->uid, ret);
	*ret = t;
	return 0;
}
