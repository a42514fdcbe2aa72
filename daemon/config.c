// SPDX-License-Identifier: Apache-2.0
/*
 * config.c - kvd.conf and the command line, into what the server is told.
 *
 * One row per key says where its value goes, how it is read, and in words
 * what it takes; the words are part of every error about it.
 */
#include <errno.h>
#include <ini.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>
#include "daemon/config.h"
#include "daemon/net/limits.h"
#include "daemon/value.h"

#define MAX_LINE 1024

static int config_fail(struct config *c, int err, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

static int config_fail(struct config *c, int err, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	vsnprintf(c->why, sizeof(c->why), format, ap);
	va_end(ap);
	return err;
}

/* ---- keys ---- */

struct config_key {
	const char *name;
	size_t offset;
	int (*set)(void *to, const char *text);
	const char *takes;
	size_t start_bytes;	/* of what takes effect at a start only, or 0 */
};

#define KEY(name, field, set, takes) \
	{ name, offsetof(struct config, field), set, takes, 0 }
#define START_KEY(name, field, set, takes) \
	{ name, offsetof(struct config, field), set, takes, \
	  sizeof(((struct config *)0)->field) }
#define NR_KEYS (sizeof(keys) / sizeof(keys[0]))
#define SIZE_WORDS "a size: a number with K, M, G or T"
#define LIMIT_WORDS SIZE_WORDS ", or infinity"
#define PART_WORDS SIZE_WORDS ", or a percentage of the pool: 0.4%"
#define TIME_WORDS "a time: a number with ms, s or min"

static const struct config_key keys[] = {
	START_KEY("device", server.device, value_device,
		  "auto, host, cuda-ipc:N or cuda-vmm:N"),
	START_KEY("pool", server.pool_bytes, value_size, SIZE_WORDS),
	START_KEY("segment", server.segment_bytes, value_size, SIZE_WORDS),
	START_KEY("pool-max", server.pool_max, value_size, SIZE_WORDS),
	KEY("shrink-after", server.shrink_ms, value_time, TIME_WORDS),
	START_KEY("socket", server.socket, value_socket,
		  "a path of at most 107 bytes"),
	START_KEY("socket-mode", server.socket_mode, value_mode,
		  "octal permissions up to 0777"),
	START_KEY("socket-group", server.socket_gid, value_group, "a group"),
	KEY("admin-group", server.admin_gid, value_group, "a group"),
	START_KEY("state-dir", server.state_dir, value_path,
		  "an absolute path"),
	START_KEY("grace", server.grace_ms, value_time, TIME_WORDS),
	KEY("hello-timeout", server.hello_ms, value_time, TIME_WORDS),
	KEY("max-wait", server.max_wait_ms, value_time, TIME_WORDS),
	KEY("max-clients", server.max_clients, value_count,
	    "a number from 1 to 1000000"),
	KEY("max-clients-per-user", server.max_clients_per_user, value_count,
	    "a number from 1 to 1000000"),
	KEY("max-waiting", server.max_waiting, value_count,
	    "a number from 1 to 1000000"),
	KEY("max-waiting-per-user", server.max_waiting_per_user, value_count,
	    "a number from 1 to 1000000"),
	KEY("max-subscriptions-per-user", server.max_subscriptions_per_user,
	    value_count, "a number from 1 to 1000000"),
	KEY("max-announced-per-user", server.max_announced_per_user,
	    value_count, "a number from 1 to 1000000"),
	KEY("announce-timeout", server.announce_ms, value_time, TIME_WORDS),
	KEY("max-fds-per-user", server.max_fds_per_user, value_count,
	    "a number from 1 to 1000000"),
	KEY("max-spaces-per-tenant", server.max_spaces_per_tenant,
	    value_count, "a number from 1 to 1000000"),
	KEY("tenant-max", server.tenant_max, value_size, SIZE_WORDS),
	KEY("pin-max", server.pin_percent, value_percent,
	    "a percentage from 0 to 100"),
	KEY("pin-ttl-max", server.pin_ttl_ms, value_time, TIME_WORDS),
	START_KEY("tier-memory", server.tier_memory, value_size, SIZE_WORDS),
	START_KEY("tier-file", server.tier_file, value_path,
		  "an absolute path"),
	START_KEY("tier-file-size", server.tier_file_bytes, value_size,
		  SIZE_WORDS),
	START_KEY("policy", server.policy, value_policy,
		  "density, lru or s3fifo"),
	KEY("watermark-low", server.watermark_low, value_part, PART_WORDS),
	KEY("watermark-high", server.watermark_high, value_part, PART_WORDS),
	KEY("log-level", log_level, value_level,
	    "error, warning, notice, info or debug"),
};

int config_set(struct config *c, const char *key, const char *value,
	       const char *where)
{
	char *to;
	unsigned i;

	for (i = 0; i < NR_KEYS; i++) {
		if (strcmp(keys[i].name, key) != 0)
			continue;
		to = (char *)c + keys[i].offset;
		memset(to, 0, keys[i].start_bytes); /* it may be compared */
		if (keys[i].set(to, value) == 0)
			return 0;
		return config_fail(c, -EINVAL, "%s: '%s' is not %s", where,
				   value, keys[i].takes);
	}
	return -ENOENT;
}

void config_keep(struct config *c, const struct config *from)
{
	unsigned i;

	c->later = 0;
	for (i = 0; i < NR_KEYS; i++) {
		char *to = (char *)c + keys[i].offset;
		const char *was = (const char *)from + keys[i].offset;

		if (memcmp(to, was, keys[i].start_bytes) == 0)
			continue;
		memcpy(to, was, keys[i].start_bytes);
		c->later |= 1u << i;
	}
}

const char *config_next_kept(const struct config *c, unsigned *i)
{
	while (*i < NR_KEYS)
		if (c->later & 1u << (*i)++)
			return keys[*i - 1].name;
	return NULL;
}

/* "device, pool, ...": what [kvd] may have. */
static void list_keys(char *buf, size_t size)
{
	size_t n = 0;
	unsigned i;

	for (i = 0; i < NR_KEYS && n < size; i++)
		n += (size_t)snprintf(buf + n, size - n, "%s%s",
				      i ? ", " : "", keys[i].name);
}

static int set_key(struct config *c, const char *key, const char *value,
		   const char *where)
{
	char names[CONFIG_WHY_BYTES / 2];
	int r;

	r = config_set(c, key, value, where);
	if (r != -ENOENT)
		return r;
	list_keys(names, sizeof(names));
	return config_fail(c, -EINVAL, "%s: no such key; [kvd] has %s", where,
			   names);
}

/* ---- tenants ---- */

static struct tenant *get_tenant(struct config *c, const char *name)
{
	struct tenant *t;

	TAILQ_FOREACH(t, &c->server.tenants, link)
		if (strcmp(t->name, name) == 0)
			return t;
	t = calloc(1, sizeof(*t));
	if (!t)
		return NULL;
	strcpy(t->name, name);
	t->configured = !tenant_name_is_user(name, &t->uids[0]);
	t->nr_uids = !t->configured;
	TAILQ_INSERT_TAIL(&c->server.tenants, t, link);
	return t;
}

/* "a, b c" into ids, appended. */
static int set_ids(uint32_t *ids, unsigned *nr, const char *text,
		   int (*set)(void *to, const char *word))
{
	char buf[MAX_LINE], *word, *save;

	snprintf(buf, sizeof(buf), "%s", text);
	for (word = strtok_r(buf, ", \t", &save); word;
	     word = strtok_r(NULL, ", \t", &save)) {
		if (*nr == TENANT_MAX_IDS || set(&ids[*nr], word) < 0)
			return -EINVAL;
		(*nr)++;
	}
	return 0;
}

/* One of the tenant's limits. Return: 0, -EINVAL, -ENOENT another key. */
static int set_tenant_limit(struct config *c, struct tenant *t,
			    const char *key, const char *value,
			    const char **ret_takes)
{
	const char *file = strrchr(c->reading, '/');
	char own[LIMITS_FILE_BYTES];
	unsigned i;

	for (i = 0; i < NR_LIMITS; i++)
		if (strcmp(key, limits_names[i]) == 0)
			break;
	if (i == NR_LIMITS)
		return -ENOENT;
	t->set |= 1u << i;
	limits_file_name(t->name, own);
	if (file && strcmp(file + 1, own) == 0)
		t->kept |= 1u << i;
	*ret_takes = i == LIMIT_MIN ? SIZE_WORDS : LIMIT_WORDS;
	return i == LIMIT_MIN ? value_size(&t->stored.of[i], value) :
				value_limit(&t->stored.of[i], value);
}

/* A user's own has a name that begins with uid-, and is nobody else's. */
static bool tenant_may_have(const char *name, const char *key)
{
	uid_t uid;

	if (tenant_name_check(name) < 0)
		return false;
	if (strncmp(name, "uid-", 4) != 0)
		return true;
	return tenant_name_is_user(name, &uid) && strcmp(key, "users") != 0 &&
	       strcmp(key, "groups") != 0;
}

static int set_tenant(struct config *c, const char *name, const char *key,
		      const char *value, const char *where)
{
	const char *takes = NULL;
	struct tenant *t;
	int r;

	if (!tenant_may_have(name, key))
		return config_fail(c, -EINVAL, "%s: '%s' is no name for a "
				   "tenant of users: at most 31 letters, "
				   "digits, '-', '_', '.', not beginning with "
				   "'uid-' (uid-N is a user's own, and takes "
				   "limits)", where, name);
	t = get_tenant(c, name);
	if (!t)
		return config_fail(c, -ENOMEM, "out of memory");
	r = set_tenant_limit(c, t, key, value, &takes);
	if (r != -ENOENT) {
		/* it was one */
	} else if (strcmp(key, "users") == 0) {
		takes = "a list of at most 64 users";
		r = set_ids(t->uids, &t->nr_uids, value, value_user);
	} else if (strcmp(key, "groups") == 0) {
		takes = "a list of at most 64 groups";
		r = set_ids(t->gids, &t->nr_gids, value, value_group);
	} else if (strcmp(key, "key-file") == 0) {
		takes = "an absolute path";
		r = value_path(t->key_file, value);
	} else {
		return config_fail(c, -EINVAL, "%s: no such key; [tenant] has "
				   "users, groups, min, high, max, key-file",
				   where);
	}
	if (r < 0)
		return config_fail(c, r, "%s: '%s' is not %s", where, value,
				   takes);
	return 0;
}

/* ---- the file ---- */

/* inih does not say which line it is at, so the reader counts. */
struct config_file {
	struct config *config;
	const char *path;
	FILE *file;
	unsigned line;
	int err;		/* the first */
};

static char *config_file_gets(char *buf, int size, void *ctx)
{
	struct config_file *f = ctx;

	f->line++;
	return fgets(buf, size, f->file);
}

static int config_file_entry(void *ctx, const char *section, const char *key,
			     const char *value)
{
	struct config_file *f = ctx;
	char where[400];

	if (f->err)
		return 0;
	snprintf(where, sizeof(where), "%s:%u: %s", f->path, f->line, key);
	if (strcmp(section, "kvd") == 0)
		f->err = set_key(f->config, key, value, where);
	else if (strncmp(section, "tenant ", 7) == 0)
		f->err = set_tenant(f->config, section + 7, key, value, where);
	else
		f->err = config_fail(f->config, -EINVAL,
				     "%s: no section [%s]; there are [kvd] "
				     "and [tenant NAME]", where, section);
	return f->err == 0;
}

int config_read(struct config *c, const char *path)
{
	struct config_file f = { .config = c, .path = path };
	int line;

	f.file = fopen(path, "re");
	if (!f.file)
		return config_fail(c, errno == ENOENT ? -ENOENT : -EINVAL,
				   "%s: %s", path, strerror(errno));
	c->reading = path;
	line = ini_parse_stream(config_file_gets, &f, config_file_entry, &f);
	c->reading = NULL;
	fclose(f.file);
	if (f.err)
		return f.err;
	if (line != 0)
		return config_fail(c, -EINVAL, "%s:%d: neither [section], nor "
				   "key = value, nor a comment", path, line);
	return 0;
}

/* ---- the whole ---- */

/* Where an ordinary user keeps things: $@env/kvd@tail or $HOME/@home@tail. */
static void user_path(char *to, size_t size, const char *env,
		      const char *home, const char *tail)
{
	const char *dir = getenv(env);

	to[0] = '\0';
	if (dir && dir[0] == '/')
		snprintf(to, size, "%s/kvd%s", dir, tail);
	else if (home && getenv("HOME"))
		snprintf(to, size, "%s/%s/kvd%s", getenv("HOME"), home, tail);
}

static void default_places(struct server_config *s)
{
	const char *state = getenv("STATE_DIRECTORY"); /* of systemd */

	if (geteuid() == 0) {
		strcpy(s->socket, "/run/kvd/kvd.sock");
		strcpy(s->state_dir, "/var/lib/kvd");
	} else {
		user_path(s->socket, sizeof(s->socket), "XDG_RUNTIME_DIR",
			  NULL, "/kvd.sock");
		user_path(s->state_dir, sizeof(s->state_dir),
			  "XDG_STATE_HOME", ".local/state", "");
	}
	if (state && state[0] == '/' && strlen(state) < sizeof(s->state_dir))
		strcpy(s->state_dir, state);
}

void config_init(struct config *c)
{
	struct server_config *s = &c->server;

	memset(c, 0, sizeof(*c));
	c->log_level = LOG_INFO;
	default_places(s);
	strcpy(s->device, "auto");
	s->pool_bytes = 1ULL << 30;
	s->socket_mode = geteuid() == 0 ? 0660 : 0600;
	s->socket_gid = (gid_t)-1;
	s->admin_gid = (gid_t)-1;
	s->grace_ms = 10000;
	s->hello_ms = 5000;
	s->max_wait_ms = 60000;
	s->max_clients = 4096;
	s->max_clients_per_user = 2048;
	s->max_waiting = 64;
	s->max_waiting_per_user = 4096;
	s->max_subscriptions_per_user = 256;
	s->max_announced_per_user = 65536;
	s->announce_ms = 5000;
	s->max_fds_per_user = 8192;
	s->max_spaces_per_tenant = 64;
	s->pin_percent = 25;
	s->pin_ttl_ms = 3600000;
	s->watermark_low.ppm = 4000;
	s->watermark_high.ppm = 8000;
	TAILQ_INIT(&s->tenants);
}

void config_fini(struct config *c)
{
	struct tenant *t;

	while ((t = TAILQ_FIRST(&c->server.tenants))) {
		TAILQ_REMOVE(&c->server.tenants, t, link);
		explicit_bzero(t->key, sizeof(t->key));
		free(t);
	}
}

/* Limits of each tenant, and what is promised to all together. */
static int check_tenants(struct config *c)
{
	struct server_config *s = &c->server;
	uint64_t promised = 0;
	struct tenant *t;
	int r = 0;

	TAILQ_FOREACH(t, &s->tenants, link) {
		if (!t->configured && !(t->set & 1u << LIMIT_MAX))
			t->stored.of[LIMIT_MAX] = s->tenant_max;
		r = limits_check(t->name, &t->stored, promised, s->pool_bytes,
				 c->why, sizeof(c->why));
		if (r < 0)
			break;
		promised += t->stored.of[LIMIT_MIN];
	}
	return r;
}

/* Room that is kept free is no more than half of it. */
static int check_watermarks(struct config *c)
{
	struct server_config *s = &c->server;
	char low[LIMITS_SIZE_TEXT], high[LIMITS_SIZE_TEXT];

	s->low_bytes = server_part_bytes(&s->watermark_low, s->pool_bytes);
	s->high_bytes = server_part_bytes(&s->watermark_high, s->pool_bytes);
	if (s->low_bytes > s->high_bytes)
		return config_fail(c, -EINVAL, "watermark-low: its %s bytes "
				   "are above watermark-high's %s%s",
				   limits_size_text(s->low_bytes, low),
				   limits_size_text(s->high_bytes, high),
				   s->watermark_high.set ? "" :
				   ", the default");
	if (s->high_bytes > s->pool_bytes / 2)
		return config_fail(c, -EINVAL, "watermark-high: its %s bytes "
				   "are more than half of the pool",
				   limits_size_text(s->high_bytes, high));
	return 0;
}

int config_check(struct config *c)
{
	const struct server_config *s = &c->server;

	if (!s->state_dir[0])
		return config_fail(c, -EINVAL, "neither XDG_STATE_HOME nor "
				   "HOME is set: say where with --state-dir");
	if (s->segment_bytes % (2u << 20) != 0)
		return config_fail(c, -EINVAL,
				   "segment: not a multiple of 2M");
	if (s->pool_bytes < 2u << 20 || s->pool_bytes < s->segment_bytes)
		return config_fail(c, -EINVAL, "pool: smaller than %s",
				   s->segment_bytes ? "one segment" : "2M");
	if (s->pool_max && s->pool_max < s->pool_bytes)
		return config_fail(c, -EINVAL, "pool-max: less than pool");
	if (s->tier_file_bytes && s->tier_file_bytes < 1u << 20)
		return config_fail(c, -EINVAL, "tier-file-size: less than 1M");
	if (check_watermarks(c) < 0)
		return -EINVAL;
	return check_tenants(c);
}
