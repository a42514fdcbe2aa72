// SPDX-License-Identifier: Apache-2.0
/*
 * main.c - kvd: configuration, service manager, server.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
#include "daemon/config.h"
#include "daemon/net/log.h"
#include "daemon/options.h"
#include "daemon/service.h"

/* A client is two descriptors here, a segment one. */
static void raise_nofile(void)
{
	struct rlimit lim;

	if (getrlimit(RLIMIT_NOFILE, &lim) < 0 || lim.rlim_cur >= lim.rlim_max)
		return;
	lim.rlim_cur = lim.rlim_max;
	setrlimit(RLIMIT_NOFILE, &lim);
}

static int serve(struct config *c)
{
	char why[512];
	struct server *server = NULL;
	struct service service;
	int r;

	log_init();
	log_set_level(c->log_level);
	raise_nofile();
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
	if (r < 0)
		log_line(LOG_ERR, "%s", why);
	else
		server_run(server);
	server_free(server);
	service_fini(&service);
	return r;
}

int main(int argc, char **argv)
{
	struct options options;
	struct config config;
	int r;

	r = options_parse(argc, argv, &options);
	if (r < 0 || options.done)
		return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
	config_init(&config);
	r = options_config(&options, &config);
	if (r < 0)
		fprintf(stderr, "kvd: %s\n", config.why);
	else if (options.check)
		puts("configuration is good");
	else
		r = serve(&config);
	config_fini(&config);
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
