// SPDX-License-Identifier: Apache-2.0
/*
 * test_fsck.c - kvctl fsck, of a pool that is well and of one that is not.
 *
 * What is broken is the page table, in the daemon's own memory: who may look
 * into its /proc directory may write to it.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>
#include "daemon/mem/mem.h"
#include "daemon/mem/table.h"
#include "tests/support/daemon.h"
#include "tests/support/raw.h"

#define NR_PAGES 100u
#define TELLS	 64	/* lines of one reply */

static struct daemon d;
static uint8_t *table;
static size_t table_bytes;

/* The daemon's descriptor of it. */
static int table_open(void)
{
	char dir[64], path[400], link[256];
	struct dirent *e;
	int fd = -1;
	ssize_t n;
	DIR *f;

	snprintf(dir, sizeof(dir), "/proc/%d/fd", (int)d.pid);
	f = opendir(dir);
	while (f && fd < 0 && (e = readdir(f))) {
		snprintf(path, sizeof(path), "%s/%s", dir, e->d_name);
		n = readlink(path, link, sizeof(link) - 1);
		link[n < 0 ? 0 : n] = '\0';
		if (strstr(link, "memfd:kvd-table"))
			fd = open(path, O_RDWR | O_CLOEXEC);
	}
	if (f)
		closedir(f);
	return fd;
}

static int setup(void **state)
{
	struct stat st;
	int fd;

	daemon_start(&d, NULL);
	fd = table_open();
	if (fd < 0 || fstat(fd, &st) < 0)
		return 0; /* where /proc is kept from us */
	table_bytes = (size_t)st.st_size;
	table = mmap(NULL, table_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
		     0);
	close(fd);
	return table == MAP_FAILED ? -1 : 0;
}

static int teardown(void **state)
{
	if (table)
		munmap(table, table_bytes);
	daemon_assert_idle(&d);
	daemon_stop(&d);
	return 0;
}

/* Says in the table that open page number @i of ours is in another slab. */
static bool flip(uint32_t i)
{
	for (size_t at = 0; at + sizeof(struct identity) <= table_bytes;
	     at += 8) {
		struct identity *id = (struct identity *)(table + at);

		if (id->pid == (uint32_t)getpid() && id->page_bytes == 32768 &&
		    id->state == PAGE_OPEN && i-- == 0) {
			id->slab_slot ^= 1u << 20;
			return true;
		}
	}
	return false;
}

/* Runs it. Return: its exit status; what it says is in @out. */
static int fsck(char *out, size_t bytes)
{
	char command[400];
	size_t n;
	FILE *f;

	snprintf(command, sizeof(command), "%s fsck --socket %s 2>&1",
		 daemon_program("kvctl", KVD_KVCTL), d.socket);
	f = popen(command, "r");
	assert_non_null(f);
	n = fread(out, 1, bytes - 1, f);
	out[n] = '\0';
	return WEXITSTATUS(pclose(f));
}

static unsigned nr_lines(const char *out, const char *what)
{
	unsigned nr = 0;

	while ((out = strstr(out, what))) {
		nr++;
		out += strlen(what);
	}
	return nr;
}

static void test_well(void **state)
{
	int fd = raw_open(d.socket);
	uint64_t h[NR_PAGES];
	char out[4096];

	assert_int_equal(raw_alloc(fd, (uint32_t)raw_open_space(fd, 1), 3,
				   5000, h, NULL), 0);
	assert_int_equal(raw_publish(fd, 1, h[0], 1), 0);
	assert_int_equal(fsck(out, sizeof(out)), 0);
	assert_non_null(strstr(out, " + 2 open + 1 sealed + 0 cached + "));
	assert_non_null(strstr(out, "everything balances\n"));
	raw_bye(fd);
	close(fd);
}

static void test_broken(void **state)
{
	static const uint32_t which[] = { 0, 7, NR_PAGES - 1 };
	int fd = raw_open(d.socket);
	uint64_t h[NR_PAGES];
	static char out[32768];
	uint32_t i;

	if (!table)
		skip();
	assert_int_equal(raw_alloc(fd, (uint32_t)raw_open_space(fd, 1),
				   NR_PAGES, 5000, h, NULL), 0);
	for (i = 0; i < 3; i++)
		assert_true(flip(which[i]));
	assert_int_equal(fsck(out, sizeof(out)), 1);
	assert_int_equal(nr_lines(out, "identity is another page's\n"), 3);
	assert_null(strstr(out, "balances"));
	assert_non_null(strstr(out, "does not add up"));
	for (i = 0; i < 3; i++)
		assert_true(flip(which[i]));
	assert_int_equal(fsck(out, sizeof(out)), 0);
	/* More than are told. */
	for (i = 0; i < NR_PAGES; i++)
		assert_true(flip(i));
	assert_int_equal(fsck(out, sizeof(out)), 1);
	assert_int_equal(nr_lines(out, "identity is another page's\n"),
			 TELLS);
	assert_non_null(strstr(out, "and 36 more\n"));
	for (i = 0; i < NR_PAGES; i++)
		assert_true(flip(i));
	raw_bye(fd);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_broken), /* a table never used yet */
		cmocka_unit_test(test_well),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
