// SPDX-License-Identifier: Apache-2.0
/*
 * load_watch.c - the daemon as the system sees it: memory, descriptors, time.
 */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "tests/load/load.h"
#include "tests/support/check.h"

static FILE *proc_open(pid_t pid, const char *name)
{
	char path[64];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
	f = fopen(path, "re");
	CHECK(f, "%s: %s", path, strerror(errno));
	return f;
}

static void read_memory(pid_t pid, struct load_sample *ret)
{
	FILE *f = proc_open(pid, "status");
	unsigned long long kb;
	char line[256];

	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "RssAnon: %llu kB", &kb) == 1)
			ret->anon = kb << 10;
		else if (sscanf(line, "RssShmem: %llu kB", &kb) == 1)
			ret->shmem = kb << 10;
	}
	fclose(f);
	CHECK(ret->anon, "no RssAnon of process %d", (int)pid);
}

/* utime and stime are the 12th and 13th after the name in parentheses. */
static void read_cpu(pid_t pid, struct load_sample *ret)
{
	FILE *f = proc_open(pid, "stat");
	unsigned long user, sys;
	char line[1024], *p;

	p = fgets(line, sizeof(line), f);
	fclose(f);
	p = p ? strrchr(line, ')') : NULL;
	CHECK(p && sscanf(p + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u "
				 "%lu %lu", &user, &sys) == 2,
	      "/proc/%d/stat", (int)pid);
	ret->cpu_s = (double)(user + sys) / (double)sysconf(_SC_CLK_TCK);
}

static uint64_t count_maps(pid_t pid)
{
	FILE *f = proc_open(pid, "maps");
	uint64_t nr = 0;
	int c;

	while ((c = fgetc(f)) != EOF)
		nr += c == '\n';
	fclose(f);
	return nr;
}

static uint64_t count_fds(pid_t pid)
{
	uint64_t nr = 0;
	char path[64];
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	dir = opendir(path);
	CHECK(dir, "%s: %s", path, strerror(errno));
	while (readdir(dir))
		nr++;
	closedir(dir);
	return nr - 2; /* . and .. */
}

void load_look(pid_t pid, struct load_sample *ret)
{
	read_memory(pid, ret);
	read_cpu(pid, ret);
	ret->maps = count_maps(pid);
	ret->fds = count_fds(pid);
	if (getloadavg(&ret->loadavg, 1) != 1)
		ret->loadavg = 0;
}

void load_fit_anon(const struct load_sample *of, unsigned nr, double from_s,
		   struct load_fit *ret)
{
	double t = 0, y = 0, tt = 0, ty = 0;

	*ret = (struct load_fit){ 0 };
	for (; nr && of->s < from_s; nr--)
		of++;
	for (unsigned i = 0; i < nr; i++) {
		t += of[i].s / nr;
		y += (double)of[i].anon / nr;
	}
	for (unsigned i = 0; i < nr; i++) {
		tt += (of[i].s - t) * (of[i].s - t);
		ty += (of[i].s - t) * ((double)of[i].anon - y);
	}
	ret->nr = nr;
	ret->mean = y;
	ret->slope = nr > 1 ? ty / tt : 0;
}
