// SPDX-License-Identifier: Apache-2.0
/*
 * probe.c - tries, in the place of kvd, what the unit's sandbox forbids.
 *
 * Run as ExecStart= of a unit that is kvd.service in all else. A line for each
 * thing that was tried; "FAILED: " before what was possible.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/keyctl.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

static void line(bool good, const char *what)
{
	printf("%ssandbox: %s\n", good ? "" : "FAILED: ", what);
}

/* The call that has just returned @r is refused with @err. */
static void refused(long r, int err, const char *what)
{
	int got = errno;

	line(r < 0 && got == err, what);
	if (r < 0 && got != err)
		printf("\tbut: %s\n", strerror(got));
}

/* The line @key of /proc/self/status is @want. */
static void status_is(const char *key, const char *want, const char *what)
{
	char buf[256], value[256] = "";
	size_t n = strlen(key);
	FILE *f = fopen("/proc/self/status", "r");

	while (f && fgets(buf, sizeof(buf), f))
		if (strncmp(buf, key, n) == 0 && buf[n] == ':')
			sscanf(buf + n + 1, "%255s", value);
	if (f)
		fclose(f);
	line(strcmp(value, want) == 0, what);
}

static void try_privileges(void)
{
	struct rlimit core;

	line(getuid() != 0 && geteuid() != 0, "a user of its own");
	status_is("NoNewPrivs", "1", "no new privileges");
	status_is("CapEff", "0000000000000000", "no capabilities");
	status_is("CapBnd", "0000000000000000", "none to be had");
	status_is("Seccomp", "2", "system calls are filtered");
	refused(setuid(0), EPERM, "no way to root");
	getrlimit(RLIMIT_CORE, &core);
	line(core.rlim_max == 0, "no core");
}

static void try_network(void)
{
	char buf[256];
	int nr = 0;
	FILE *f = fopen("/proc/self/net/dev", "r");

	while (f && fgets(buf, sizeof(buf), f))
		nr += strchr(buf, ':') && !strstr(buf, " lo:");
	line(f && nr == 0, "no network but its own loopback");
	if (f)
		fclose(f);
	refused(socket(AF_INET, SOCK_STREAM, 0), EAFNOSUPPORT,
		"no sockets of IPv4");
	refused(socket(AF_INET6, SOCK_STREAM, 0), EAFNOSUPPORT, "of IPv6");
	refused(socket(AF_NETLINK, SOCK_RAW, 0), EAFNOSUPPORT, "of netlink");
	line(socket(AF_UNIX, SOCK_SEQPACKET, 0) >= 0, "but local ones");
}

static bool is_read_only(const char *path)
{
	struct statvfs st;

	return statvfs(path, &st) == 0 && st.f_flag & ST_RDONLY;
}

static void try_files(void)
{
	refused(open("/usr/probe", O_CREAT | O_WRONLY, 0600), EROFS,
		"/usr is read-only");
	refused(open("/etc/probe", O_CREAT | O_WRONLY, 0600), EROFS,
		"/etc is read-only");
	line(is_read_only("/run"), "/run is read-only");
	refused(open("/var/lib/probe", O_CREAT | O_WRONLY, 0600), EROFS,
		"/var is read-only");
	line(open("/var/lib/kvd/probe", O_CREAT | O_WRONLY, 0600) >= 0 &&
	     unlink("/var/lib/kvd/probe") == 0, "but not the state directory");
	refused(open("/home/.", O_RDONLY), EACCES, "/home is not to be seen");
	refused(open("/root/.", O_RDONLY), EACCES, "nor is /root");
	refused(open("/tmp/of-others", O_RDONLY), ENOENT,
		"/tmp is a private one");
	refused(open("/dev/shm/of-others", O_RDONLY), ENOENT,
		"so is /dev/shm");
	line(is_read_only("/sys"), "/sys is read-only");
	refused(open("/proc/meminfo", O_RDONLY), ENOENT,
		"of /proc processes only");
	refused(open("/proc/sys", O_RDONLY), ENOENT, "no /proc/sys");
	line(open("/proc/1/stat", O_RDONLY) >= 0,
	     "but those of others, to know clients by");
}

static void try_devices(void)
{
	static const char *const usual[] = {
		"null", "zero", "full", "random", "urandom", "tty", "pts",
		"ptmx", "shm", "mqueue", "hugepages", "fd", "stdin", "stdout",
		"stderr", "log", "core", "char", "block", ".", "..",
	};
	DIR *d = opendir("/dev");
	struct dirent *e;
	bool good = d;
	size_t i;

	while (d && (e = readdir(d))) {
		for (i = 0; i < sizeof(usual) / sizeof(usual[0]); i++)
			if (strcmp(e->d_name, usual[i]) == 0)
				break;
		if (i == sizeof(usual) / sizeof(usual[0])) {
			printf("\tnot usual: /dev/%s\n", e->d_name);
			good = false;
		}
	}
	if (d)
		closedir(d);
	line(good, "no devices but pseudo ones");
	refused(mknod("/var/lib/kvd/probe", S_IFCHR | 0600, makedev(1, 1)),
		EPERM, "none can be made");
}

static void try_calls(void)
{
	struct sched_param fifo = { .sched_priority = 1 };
	void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	line(mmap(NULL, 4096, PROT_WRITE | PROT_EXEC,
		  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED &&
	     errno == EPERM, "no memory to write and execute");
	refused(mprotect(p, 4096, PROT_EXEC), EPERM, "nor to execute later");
	refused(unshare(CLONE_NEWUSER), EPERM, "no namespaces");
	refused(mount("none", "/tmp", "tmpfs", 0, NULL), EPERM, "no mounts");
	refused(sched_setscheduler(0, SCHED_FIFO, &fifo), EPERM,
		"no real-time scheduling");
	refused(setpriority(PRIO_PROCESS, 0, 5), EPERM, "no priorities");
	refused(chmod("/var/lib/kvd", 04700), EPERM, "no setuid files");
	refused(personality(PER_LINUX32), EPERM, "no personalities");
	refused(ptrace(PTRACE_TRACEME, 0, NULL, NULL), EPERM, "no ptrace");
	refused(syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, 0, 0), EPERM,
		"no keyrings");
}

int main(void)
{
	try_privileges();
	try_network();
	try_files();
	try_devices();
	try_calls();
	return 0;
}
