// SPDX-License-Identifier: Apache-2.0
/*
 * fake_mps.c - a script in the place of nvidia-cuda-mps-control.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "tests/net/fake_mps.h"
#include "tests/support/check.h"
#include "tests/support/daemon.h"

static const char script[] =
	"#!/bin/sh\n"
	"cd \"$KVD_TEST_MPS\" || exit 9\n"
	"read command server\n"
	"echo \"$command $server\" >>asked\n"
	"[ ! -e how ] || . ./how\n"
	"nr=$(grep -c get_server_list asked)\n"
	"case $command in\n"
	"get_server_list) cat servers ;;\n"
	"get_client_list)\n"
	"	[ ! -e self ] || echo $PPID\n"
	"	if [ -e clients.$server.$nr ]; then cat clients.$server.$nr\n"
	"	else cat clients.$server; fi ;;\n"
	"*) exit 8 ;;\n"
	"esac\n";

static char dir[64];

const char *mps_file(const char *name)
{
	static char path[128];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return path;
}

void mps_put(const char *name, const char *text)
{
	char tmp[128];
	FILE *f;

	snprintf(tmp, sizeof(tmp), "%s", mps_file(".new"));
	f = fopen(tmp, "w");
	CHECK(f && fputs(text, f) >= 0 && fclose(f) == 0, "%s", tmp);
	CHECK(rename(tmp, mps_file(name)) == 0, "%s", name);
}

void mps_put_clients(const char *name, pid_t a, pid_t b)
{
	char text[64];

	snprintf(text, sizeof(text), "%d\n%d\n", (int)a, (int)b);
	mps_put(name, text);
}

void mps_install(void)
{
	mps_put(MPS_CONTROL, script);
	CHECK(chmod(mps_file(MPS_CONTROL), 0755) == 0, "chmod");
}

unsigned mps_nr_asked(void)
{
	char line[128];
	unsigned nr = 0;
	FILE *f = fopen(mps_file("asked"), "r");

	while (f && fgets(line, sizeof(line), f))
		nr += strncmp(line, "get_server_list", 15) == 0;
	if (f)
		fclose(f);
	return nr;
}

int mps_setup(void **state)
{
	char path[4096];

	strcpy(dir, "/tmp/kvd-mps-XXXXXX");
	CHECK(mkdtemp(dir), "mkdtemp");
	snprintf(path, sizeof(path), "%s:%s", dir, getenv("PATH"));
	setenv("PATH", path, 1);
	setenv("KVD_TEST_MPS", dir, 1);
	setenv("FAKECUDA_MPS", "1", 1);
	return 0;
}

int mps_teardown(void **state)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -rf %s", dir);
	return system(command) != 0;
}

int mps_fresh(void **state)
{
	char command[160];

	snprintf(command, sizeof(command), "cd %s && rm -f *", dir);
	CHECK(system(command) == 0, "rm");
	mps_install();
	mps_put("servers", "77\n");
	mps_put("clients.77", "");
	mps_put("self", "");
	return 0;
}

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

void mps_wait_asked(unsigned nr)
{
	int64_t end = now_ms() + DAEMON_DEADLINE_MS;

	for (nr += mps_nr_asked(); mps_nr_asked() < nr; usleep(5000))
		CHECK(now_ms() < end, "asked %u times", mps_nr_asked());
}
