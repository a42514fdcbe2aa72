// SPDX-License-Identifier: Apache-2.0
/*
 * config.c - any text as kvd.conf and a drop-in of each kind.
 *
 * Pieces of the input are divided by lines of "%%": kvd.conf, a file beside
 * it, and that which kvd itself would write in the state directory, of tenant
 * chat.
 */
#include <string.h>
#include <sys/stat.h>
#include "daemon/config.h"
#include "daemon/net/limits.h"
#include "tests/fuzz/file.h"
#include "tests/fuzz/fuzz.h"
#include "tests/support/check.h"

static struct fuzz_file files[3];
static char path[128], state[128];

static void make_dir(const char *dir, const char *name, char *ret, size_t size)
{
	snprintf(ret, size, "%s/%s", dir, name);
	CHECK(mkdir(ret, 0700) == 0, "%s", ret);
}

static void init(void)
{
	const char *dir = fuzz_dir();
	char beside[160], own[160], file[LIMITS_FILE_BYTES];

	for (int i = 0; i < 3; i++)
		fuzz_file_put(&files[i], NULL, 0);
	make_dir(dir, "kvd.conf.d", beside, sizeof(beside));
	make_dir(dir, "state", state, sizeof(state));
	make_dir(state, LIMITS_DIR, own, sizeof(own));
	fuzz_file_link(&files[0], dir, "kvd.conf");
	fuzz_file_link(&files[1], beside, "10-more.conf");
	limits_file_name("chat", file);
	fuzz_file_link(&files[2], own, file);
	snprintf(path, sizeof(path), "%s/kvd.conf", dir);
}

static void check_texts(const struct config *c)
{
	const struct server_config *s = &c->server;
	const struct tenant *t;

	CHECK(memchr(c->why, 0, sizeof(c->why)) &&
	      memchr(s->socket, 0, sizeof(s->socket)) &&
	      memchr(s->state_dir, 0, sizeof(s->state_dir)) &&
	      memchr(s->device, 0, sizeof(s->device)) &&
	      memchr(s->policy, 0, sizeof(s->policy)), "a text has no end");
	TAILQ_FOREACH(t, &s->tenants, link)
		CHECK(tenant_name_check(t->name) == 0 &&
		      t->nr_uids <= TENANT_MAX_IDS &&
		      t->nr_gids <= TENANT_MAX_IDS &&
		      memchr(t->key_file, 0, sizeof(t->key_file)),
		      "tenant %s", t->name);
}

/* What main does, in its order. */
static int read_all(struct config *c)
{
	int r = config_read(c, path);

	/* Where the state is the text may say, but not of the test. */
	strcpy(c->server.state_dir, state);
	if (r == 0)
		r = config_read_dropins(c, path);
	if (r == 0)
		r = config_check(c);
	return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct config c;
	const uint8_t *piece;
	size_t n;
	int r;

	if (!path[0])
		init();
	for (int i = 0; i < 3; i++) {
		piece = data;
		n = fuzz_cut(&data, &size);
		fuzz_file_put(&files[i], piece, n);
	}
	config_init(&c);
	r = read_all(&c);
	CHECK(r == 0 || (r < 0 && c.why[0]), "refused without a word");
	check_texts(&c);
	if (r == 0)
		CHECK(c.server.low_bytes <= c.server.high_bytes &&
		      c.server.high_bytes <= c.server.pool_bytes / 2,
		      "watermarks");
	config_fini(&c);
	return 0;
}
