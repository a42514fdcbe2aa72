// SPDX-License-Identifier: Apache-2.0
/*
 * dropins.c - files beside kvd.conf that add to it, as systemd's do.
 *
 * Packages, an operator's tools and kvd itself (net/limits.h) each have files
 * of their own, so that none has to edit another's.
 */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "daemon/config.h"
#include "daemon/net/limits.h"

#define MAX_DROPINS 1024
#define NR_DIRS 3

struct dropin {
	char name[256];
	unsigned dir;		/* later ones are read later */
};

struct dropins {
	const char *dirs[NR_DIRS];
	struct dropin *files;
	size_t nr;
};

static int compare(const void *a, const void *b)
{
	const struct dropin *x = a, *y = b;
	int r = strcmp(x->name, y->name);

	return r ? r : (int)x->dir - (int)y->dir;
}

static bool is_dropin(const char *name)
{
	size_t n = strlen(name);

	return name[0] != '.' && n > 5 && strcmp(name + n - 5, ".conf") == 0;
}

static int add(struct config *c, struct dropins *ds, const char *name,
	       unsigned dir)
{
	struct dropin *files;

	if (ds->nr == MAX_DROPINS) {
		snprintf(c->why, sizeof(c->why), "%s: more than %u files",
			 ds->dirs[dir], MAX_DROPINS);
		return -EINVAL;
	}
	files = realloc(ds->files, (ds->nr + 1) * sizeof(*files));
	if (!files) {
		snprintf(c->why, sizeof(c->why), "out of memory");
		return -ENOMEM;
	}
	ds->files = files;
	snprintf(files[ds->nr].name, sizeof(files[ds->nr].name), "%s", name);
	files[ds->nr++].dir = dir;
	return 0;
}

static int list(struct config *c, struct dropins *ds, unsigned dir)
{
	struct dirent *e;
	DIR *d = opendir(ds->dirs[dir]);
	int r = 0;

	if (!d && (errno == ENOENT || errno == ENOTDIR))
		return 0;
	if (!d) {
		snprintf(c->why, sizeof(c->why), "%s: %s", ds->dirs[dir],
			 strerror(errno));
		return -EINVAL;
	}
	while (r == 0 && (e = readdir(d)))
		if (is_dropin(e->d_name))
			r = add(c, ds, e->d_name, dir);
	closedir(d);
	return r;
}

/* A device (/dev/null) or a pipe has no directory beside it. Absolute: others
 * are told of what is there. */
static void find_beside(struct server_config *s, const char *path)
{
	char cwd[PATH_MAX] = "", dir[PATH_MAX];
	struct stat st;
	int n;

	s->dropin_dir[0] = '\0';
	if (!path || stat(path, &st) < 0 || !S_ISREG(st.st_mode) ||
	    (path[0] != '/' && !getcwd(cwd, sizeof(cwd))))
		return;
	n = snprintf(dir, sizeof(dir), "%s%s%s.d", cwd, cwd[0] ? "/" : "",
		     path);
	if (n > 0 && (size_t)n < sizeof(s->dropin_dir))
		memcpy(s->dropin_dir, dir, (size_t)n + 1);
}

int config_read_dropins(struct config *c, const char *path)
{
	char state[300], file[600];
	struct dropins ds = { .dirs = { c->server.dropin_dir,
					c->dropins ? c->dropins : "", state } };
	unsigned i;
	int r = 0;

	find_beside(&c->server, path);
	state[0] = '\0';
	if (c->server.state_dir[0])
		snprintf(state, sizeof(state), "%s/" LIMITS_DIR,
			 c->server.state_dir);
	for (i = 0; i < NR_DIRS && r == 0; i++)
		if (ds.dirs[i][0])
			r = list(c, &ds, i);
	if (ds.nr)
		qsort(ds.files, ds.nr, sizeof(*ds.files), compare);
	for (i = 0; i < ds.nr && r == 0; i++) {
		snprintf(file, sizeof(file), "%s/%s",
			 ds.dirs[ds.files[i].dir], ds.files[i].name);
		r = config_read(c, file);
		if (r < 0)
			r = -EINVAL;
	}
	free(ds.files);
	return r;
}
