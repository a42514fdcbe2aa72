// SPDX-License-Identifier: Apache-2.0
/*
 * replay.c - a fuzz target's corpus as an ordinary test.
 *
 *	fuzz_X_replay DIRECTORY
 *
 * Each file as it is; those that have a name also every beginning of it, and
 * with each byte changed. The others, named by libFuzzer for their SHA-1, were
 * found by changing these.
 */
#include <dirent.h>
#include <stdbool.h>
#include <string.h>
#include "tests/fuzz/fuzz.h"
#include "tests/support/check.h"

#define INPUT_BYTES 65536
#define SHA1_DIGITS 40
#define MUTATED_BYTES 512	/* beginnings and changes only of small ones */

static void replay(uint8_t *buf, size_t size, bool named)
{
	size_t i, n = named && size < MUTATED_BYTES ? size : 0;

	LLVMFuzzerTestOneInput(buf, size);
	for (i = 0; i < n; i++)
		LLVMFuzzerTestOneInput(buf, i);
	for (i = 0; i < n; i++) {
		buf[i] ^= 0xff;
		LLVMFuzzerTestOneInput(buf, size);
		buf[i] ^= 0xfe;
		LLVMFuzzerTestOneInput(buf, size);
		buf[i] ^= 0x01;
	}
}

static void replay_file(const char *dir, const char *name)
{
	static uint8_t buf[INPUT_BYTES];
	char path[1024];
	size_t size;
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "rb");
	CHECK(f, "%s", path);
	size = fread(buf, 1, sizeof(buf), f);
	fclose(f);
	replay(buf, size, strlen(name) != SHA1_DIGITS);
}

int main(int argc, char **argv)
{
	struct dirent *e;
	unsigned nr = 0;
	DIR *dir;

	CHECK(argc == 2, "usage: %s DIRECTORY", argv[0]);
	dir = opendir(argv[1]);
	CHECK(dir, "%s", argv[1]);
	while ((e = readdir(dir))) {
		if (e->d_name[0] == '.')
			continue;
		replay_file(argv[1], e->d_name);
		nr++;
	}
	closedir(dir);
	printf("%u inputs\n", nr);
	return nr > 0 ? 0 : 1;
}
