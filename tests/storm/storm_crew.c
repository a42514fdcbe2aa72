// SPDX-License-Identifier: Apache-2.0
/*
 * storm_crew.c - the processes of a storm's clients.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include "tests/storm/storm.h"
#include "tests/support/check.h"

#define FIRST_UID 4300

unsigned crew_uid(uint32_t tenant)
{
	return geteuid() ? (unsigned)geteuid() : FIRST_UID + tenant;
}

static void become(uint32_t id)
{
	unsigned uid = crew_uid(id % STORM_TENANTS);

	if (geteuid() == 0)
		CHECK(!setresgid(uid, uid, uid) && !setresuid(uid, uid, uid),
		      "%s", strerror(errno));
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	prctl(PR_SET_DUMPABLE, 1);
}

static void mate_run(const struct storm_crew *c, uint32_t id, const int in[2],
		     const int out[2])
{
	for (uint32_t i = 0; i < c->nr; i++)
		if (c->mates[i].pid && i != id) {
			close(c->mates[i].in);
			close(c->mates[i].out);
		}
	close(in[1]);
	close(out[0]);
	close(c->admin);
	become(id);
	storm_client(c->o, id, c->mates[id].report, in[0], out[1]);
	exit(0);
}

static void mate_start(struct storm_crew *c, uint32_t id)
{
	struct storm_mate *mate = &c->mates[id];
	int in[2], out[2];

	CHECK(!pipe2(in, O_CLOEXEC) && !pipe2(out, O_CLOEXEC), "%s",
	      strerror(errno));
	mate->pid = fork();
	CHECK(mate->pid >= 0, "%s", strerror(errno));
	if (mate->pid == 0)
		mate_run(c, id, in, out);
	close(in[0]);
	close(out[1]);
	mate->in = in[1];
	mate->out = out[0];
}

void crew_start(struct storm_crew *c)
{
	struct storm_report *reports;

	reports = mmap(NULL, c->nr * sizeof(*reports), PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	c->mates = calloc(c->nr, sizeof(*c->mates));
	CHECK(reports != MAP_FAILED && c->mates, "%s", strerror(errno));
	for (uint32_t i = 0; i < c->nr; i++) {
		c->mates[i].report = &reports[i];
		mate_start(c, i);
	}
}

void crew_go(struct storm_crew *c, uint32_t id)
{
	CHECK(write(c->mates[id].in, "g", 1) == 1, "client %u has gone", id);
	c->mates[id].busy = true;
}

/* Its end: on purpose, or the storm is over. */
static void mate_died(struct storm_crew *c, uint32_t id)
{
	struct storm_mate *mate = &c->mates[id];
	int status;

	CHECK(waitpid(mate->pid, &status, 0) == mate->pid, "%s",
	      strerror(errno));
	CHECK(mate->report->dying && WIFSIGNALED(status) &&
	      WTERMSIG(status) == SIGKILL, "client %u ended: %#x, seed %llu",
	      id, status, (unsigned long long)c->o->seed);
	close(mate->in);
	close(mate->out);
	mate->pid = 0;
	mate->report->dying = false;
	mate->report->abandoned = 0;
	mate->report->incarnation++;
	mate_start(c, id);
	crew_go(c, id);
}

unsigned crew_poll(struct storm_crew *c, int ms)
{
	struct pollfd *p = calloc(c->nr, sizeof(*p));
	unsigned busy = 0;
	char byte;

	CHECK(p, "no memory");
	for (uint32_t i = 0; i < c->nr; i++)
		p[i] = (struct pollfd){ c->mates[i].busy ? c->mates[i].out : -1,
					POLLIN, 0 };
	poll(p, c->nr, ms);
	for (uint32_t i = 0; i < c->nr; i++) {
		if (p[i].revents && read(p[i].fd, &byte, 1) != 1)
			mate_died(c, i);
		else if (p[i].revents)
			c->mates[i].busy = false;
		busy += c->mates[i].busy;
	}
	free(p);
	return busy;
}

void crew_end(struct storm_crew *c)
{
	int status;

	for (uint32_t i = 0; i < c->nr; i++) {
		const struct storm_mate *mate = &c->mates[i];

		close(mate->in);
		CHECK(waitpid(mate->pid, &status, 0) == mate->pid &&
		      status == 0, "client %u ended: %#x", i, status);
		close(mate->out);
	}
}
