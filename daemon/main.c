// SPDX-License-Identifier: Apache-2.0
/*
 * main.c - kvd: configuration, service manager, server.
 */
#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
#include "daemon/config.h"
#include "daemon/net/log.h"
#include "daemon/options.h"
#include "daemon/service.h"
#include "daemon/util/fault.h"

/* A client is two descriptors here, a segment one. */
static void raise_nofile(void)
{
	struct rlimit lim;

	if (getrlimit(RLIMIT_NOFILE, &lim) < 0 || lim.rlim_cur >= lim.rlim_max)
		return;
	lim.rlim_cur = lim.rlim_max;
	setrlimit(RLIMIT_NOFILE, &lim);
}

/*
 * What is large is mapped by itself, however often something as large was freed
 * before: so it is given back when it is freed, and leaves no holes.
 */
static void map_large_blocks(void)
{
	mallopt(M_MMAP_THRESHOLD, 128 << 10);
}

/* ---- SIGHUP ---- */

struct rereading {
	const struct options *options;
	const struct config *running;	/* as at the start */
	struct config next;
};

static int reread(void *ctx, struct server_config **ret, char *why,
		  size_t why_bytes)
{
	struct rereading *rr = ctx;
	struct config *c = &rr->next;
	int r;

	config_init(c);
	r = options_config(rr->options, c);
	snprintf(why, why_bytes, "%s", c->why);
	if (r < 0)
		return r;
	config_keep(c, rr->running);
	r = config_check(c);
	if (r < 0)
		snprintf(why, why_bytes, "beside what only a restart changes: "
			 "%s", c->why);
	*ret = &c->server;
	return r;
}

static void reread_done(void *ctx, int r)
{
	struct rereading *rr = ctx;
	const char *key;
	unsigned i = 0;

	if (r == 0) {
		log_set_level(rr->next.log_level);
		while ((key = config_next_kept(&rr->next, &i)))
			log_line(LOG_NOTICE, "%s: takes effect with the next "
				 "start", key);
	}
	config_fini(&rr->next);
}

static const struct server_reload reload = {
	.read = reread,
	.done = reread_done,
};

/* ---- life ---- */

static int serve(const struct options *options, struct config *c)
{
	struct rereading rr = { .options = options, .running = c };
	char why[512];
	struct server *server = NULL;
	struct service service;
	int r;

	log_set_level(c->log_level);
	log_init(service_journal);
	raise_nofile();
	r = fault_init(getenv("KVD_FAULT"), why, sizeof(why));
	if (r < 0) {
		log_line(LOG_ERR, "%s", why);
		return r;
	}
	if (fault_on)
		log_line(LOG_WARNING, "KVD_FAULT is set: what it names goes "
			 "wrong on purpose");
	r = service_init(&service);
	if (r < 0) {
		log_line(LOG_ERR, "%s", service.why[0] ? service.why :
							 strerror(-r));
		service_fini(&service);
		return r;
	}
	log_line(LOG_INFO, "kvd " KVD_VERSION);
	r = server_new(&c->server, &service.ops, &service, service.listen_fd,
		       service.fds, service.nr_fds, why, sizeof(why), &server);
	if (r < 0) {
		log_line(LOG_ERR, "%s", why);
	} else {
		server_on_reload(server, &reload, &rr);
		r = server_run(server);
	}
	server_free(server);
	service_fini(&service);
	return r;
}

int main(int argc, char **argv)
{
	struct options options;
	struct config config;
	int r;

	map_large_blocks();
	r = options_parse(argc, argv, &options);
	if (r < 0 || options.done)
		return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
	config_init(&config);
	r = options_config(&options, &config);
	if (r < 0 && log_init(service_journal))
		log_line(LOG_ERR, "%s", config.why);
	else if (r < 0)
		fprintf(stderr, "kvd: %s\n", config.why);
	else if (options.check)
		puts("configuration is good");
	else
		r = serve(&options, &config);
	config_fini(&config);
	if (r < 0 && getenv("NOTIFY_SOCKET"))
		sleep(1); /* we are started again at once, and without end */
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
