// SPDX-License-Identifier: Apache-2.0
/*
 * keep.c - tenants' limits: their files.
 *
 * One file is written at a time, in the order in which changes came, on a
 * thread of the loop's pool. What a tenant's file says is known here and
 * changes only when it has been written: so a failure changes nothing for the
 * next start.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "daemon/net/limits.h"
#include "daemon/net/state.h"

#define TEXT_BYTES 512

struct keep_job {
	uv_work_t work;
	struct server *server;
	struct limits_change *ch;
	struct tenant_limits stored; /* the tenant's, once it is written */
	unsigned kept;
	char file[LIMITS_FILE_BYTES];
	char dirs[2][300];	/* the first that can be written to */
	char text[TEXT_BYTES];
};

/* ---- on the pool's thread ---- */

static int sync_dir(const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), r;

	if (fd < 0)
		return -errno;
	r = fsync(fd) < 0 ? -errno : 0;
	close(fd);
	return r;
}

/* A new directory is an entry of the one above it. */
static int make_dir(const char *path)
{
	char above[300], *slash;

	if (mkdir(path, 0755) < 0)
		return errno == EEXIST ? 0 : -errno;
	snprintf(above, sizeof(above), "%s", path);
	slash = strrchr(above, '/');
	if (!slash || slash == above)
		return 0;
	*slash = '\0';
	return sync_dir(above);
}

static int write_all(const char *path, const char *text)
{
	size_t size = strlen(text);
	int fd, r = 0;

	unlink(path); /* of one with our pid that was killed right here */
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW,
		  0644);
	if (fd < 0)
		return -errno;
	if (write(fd, text, size) != (ssize_t)size)
		r = -EIO;
	else if (fsync(fd) < 0)
		r = -errno;
	close(fd);
	return r;
}

/* A name with a dot in front is nobody's drop-in. */
static int write_in(const char *dir, const char *file, const char *text,
		    char path[LIMITS_PATH_BYTES])
{
	char tmp[LIMITS_PATH_BYTES];
	int r;

	snprintf(path, LIMITS_PATH_BYTES, "%s/%s", dir, file);
	snprintf(tmp, sizeof(tmp), "%s/.%s.%d", dir, file, (int)getpid());
	r = make_dir(dir);
	if (r < 0)
		return r;
	r = write_all(tmp, text);
	if (r == 0 && rename(tmp, path) < 0)
		r = -errno;
	if (r < 0) {
		unlink(tmp);
		return r;
	}
	return sync_dir(dir);
}

/* Does @err say that this is no place for kvd to write to? */
static bool is_not_ours(int err)
{
	return err == -EACCES || err == -EPERM || err == -EROFS ||
	       err == -ENOENT || err == -ENOTDIR;
}

static bool is_same(const char *a, const char *b)
{
	struct stat x, y;

	return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev &&
	       x.st_ino == y.st_ino;
}

/* One left in the state directory would be read after the one just written. */
static void forget_older(const struct keep_job *job)
{
	char path[LIMITS_PATH_BYTES];

	if (is_same(job->dirs[0], job->dirs[1]))
		return;
	snprintf(path, sizeof(path), "%s/%s", job->dirs[1], job->file);
	if (unlink(path) == 0)
		sync_dir(job->dirs[1]);
}

static void keep_run(uv_work_t *work)
{
	struct keep_job *job = work->data;
	struct limits_change *ch = job->ch;
	int i;

	ch->err = -ENOENT;
	for (i = 0; i < 2 && ch->err && is_not_ours(ch->err); i++)
		if (job->dirs[i][0])
			ch->err = write_in(job->dirs[i], job->file, job->text,
					   ch->path);
	if (ch->err == 0 && i == 1)
		forget_older(job);
}

/* ---- on the loop's ---- */

static void keep_text(struct keep_job *job)
{
	char size[LIMITS_SIZE_TEXT];
	size_t n;
	int i;

	n = (size_t)snprintf(job->text, TEXT_BYTES,
			     "# Written by kvd for `kvctl tenant set`. Without "
			     "it kvd.conf holds.\n[tenant %s]\n",
			     job->ch->tenant->name);
	for (i = 0; i < NR_LIMITS; i++)
		if (job->kept & 1u << i)
			n += (size_t)snprintf(
				job->text + n, TEXT_BYTES - n, "%s = %s\n",
				limits_names[i],
				limits_size_text(job->stored.of[i], size));
}

static struct keep_job *keep_prepare(struct server *s,
				     struct limits_change *ch)
{
	struct keep_job *job = calloc(1, sizeof(*job));
	int i;

	if (!job)
		return NULL;
	job->server = s;
	job->ch = ch;
	job->work.data = job;
	job->stored = ch->tenant->stored;
	job->kept = ch->tenant->kept | ch->keys;
	for (i = 0; i < NR_LIMITS; i++)
		if (ch->keys & 1u << i)
			job->stored.of[i] = ch->to.of[i];
	limits_file_name(ch->tenant->name, job->file);
	memcpy(job->dirs[0], s->cfg.dropin_dir, sizeof(job->dirs[0]));
	snprintf(job->dirs[1], sizeof(job->dirs[1]), "%s/" LIMITS_DIR,
		 s->tenants.state_dir);
	keep_text(job);
	return job;
}

static void keep_next(struct server *s);

static void keep_end(struct server *s, struct limits_change *ch)
{
	TAILQ_REMOVE(&s->limits_queue, ch, link);
	s->limits_nr_queued--;
	ch->done(s, ch);
	free(ch);
	keep_next(s);
}

static void keep_done(uv_work_t *work, int status)
{
	struct keep_job *job = work->data;
	struct server *s = job->server;
	struct limits_change *ch = job->ch;
	int i;

	for (i = 0; i < NR_LIMITS && ch->err == 0; i++)
		if (ch->keys & 1u << i) /* the rest may be read anew by now */
			ch->tenant->stored.of[i] = job->stored.of[i];
	if (ch->err == 0) {
		ch->tenant->kept |= ch->keys;
		s->limits_nr_kept++;
	}
	free(job);
	keep_end(s, ch);
}

/* The first of the queue is the one being written. */
static void keep_next(struct server *s)
{
	struct limits_change *ch = TAILQ_FIRST(&s->limits_queue);
	struct keep_job *job;

	if (!ch)
		return;
	job = keep_prepare(s, ch);
	if (job && uv_queue_work(&s->loop, &job->work, keep_run,
				 keep_done) == 0)
		return;
	free(job);
	ch->err = -ENOMEM;
	keep_end(s, ch);
}

int limits_keep(struct server *s, const struct limits_change *ch)
{
	struct limits_change *copy = malloc(sizeof(*copy));
	bool idle = TAILQ_EMPTY(&s->limits_queue);

	if (!copy)
		return -ENOMEM;
	*copy = *ch;
	copy->path[0] = '\0';
	TAILQ_INSERT_TAIL(&s->limits_queue, copy, link);
	s->limits_nr_queued++;
	if (idle)
		keep_next(s);
	return 0;
}
