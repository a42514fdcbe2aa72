/* SPDX-License-Identifier: Apache-2.0 */
/*
 * thread.c - choosing a device, and its thread: order, progress, shutdown.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>
#include "daemon/dev/dev.h"

static sem_t woken;
static _Atomic int wakes;

static void wake(void *ctx)
{
	assert_ptr_equal(ctx, &wakes);
	atomic_fetch_add(&wakes, 1);
	sem_post(&woken);
}

static struct dev *host(void)
{
	struct dev *d;
	char note[200];

	assert_int_equal(dev_new("host", wake, &wakes, &d, note, sizeof(note)),
			 0);
	return d;
}

static void test_specs(void **state)
{
	static const char *const bad[] = {
		"", "hos", "host:0", "hosts", "cuda-ipc:", "cuda-ipc:x",
		"cuda-vmm:-1", "cuda-vmm:256", "cuda-vmm:1x", "cuda",
		"cuda-vmm:99999999999999999999",
	};
	struct dev *d = NULL;
	char note[200];

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(dev_new(bad[i], wake, &wakes, &d, note,
					 sizeof(note)), -EINVAL);
		assert_null(d);
		assert_non_null(strstr(note, "cuda-vmm:N"));
	}
	d = host();
	assert_string_equal(dev_spec(d), "host");
	assert_string_equal(dev_ops(d)->name, "host");
	assert_true(dev_ops(d)->survives);
	dev_free(d);
	dev_free(NULL);
}

/* Whatever auto takes, it says what, and why not the others. */
static void test_auto(void **state)
{
	struct dev *d;
	char note[500], tiny[8];

	assert_int_equal(dev_new("auto", wake, &wakes, &d, note,
				 sizeof(note)), 0);
	assert_non_null(strstr(note, dev_spec(d)));
	assert_int_equal(strncmp(note, "auto: cuda-vmm:0: ", 18), 0);
	dev_free(d);
	assert_int_equal(dev_new("auto", wake, &wakes, &d, tiny,
				 sizeof(tiny)), 0);
	assert_string_equal(tiny, "auto: c");
	dev_free(d);
}

struct job {
	struct dev_job job;
	int nr;
	int ran;
	int done;
	int again;
};

static _Atomic int next_run;
static int next_done;
static pthread_t loop;

static void job_run(struct dev *d, struct dev_job *j)
{
	struct job *job = (struct job *)(void *)j;
	uint64_t jobs, since;

	assert_false(pthread_equal(pthread_self(), loop));
	dev_progress(d, &jobs, &since);
	assert_true(since > 0);
	job->ran = ++next_run;
}

static void job_done(struct dev *d, struct dev_job *j)
{
	struct job *job = (struct job *)(void *)j;

	assert_true(pthread_equal(pthread_self(), loop));
	job->done = ++next_done;
	if (job->again-- > 0)
		dev_submit(d, j);
}

static void test_order(void **state)
{
	struct job jobs[100];
	uint64_t nr, since;
	struct dev *d;

	loop = pthread_self();
	next_run = next_done = 0;
	atomic_store(&wakes, 0);
	d = host();
	memset(jobs, 0, sizeof(jobs));
	for (int i = 0; i < 100; i++) {
		jobs[i].job.run = job_run;
		jobs[i].job.done = job_done;
		dev_submit(d, &jobs[i].job);
		/* It has been since then, started or not, till it is done. */
		dev_progress(d, &nr, &since);
		if (since == 0)
			dev_progress(d, &nr, &since);
		assert_true(since > 0 || nr == (uint64_t)i + 1);
	}
	while (next_done < 100) {
		sem_wait(&woken);
		dev_reap(d);
	}
	for (int i = 0; i < 100; i++) {
		assert_int_equal(jobs[i].ran, i + 1);
		assert_int_equal(jobs[i].done, i + 1);
	}
	dev_progress(d, &nr, &since);
	assert_int_equal(nr, 100);
	assert_int_equal(since, 0);
	dev_free(d);
	assert_int_equal(atomic_load(&wakes), 100);
}

static void test_drain(void **state)
{
	struct job job = { .job = { job_run, job_done }, .again = 5 };
	struct dev *d;

	loop = pthread_self();
	next_run = next_done = 0;
	d = host();
	dev_drain(d);
	dev_submit(d, &job.job);
	dev_drain(d);
	assert_int_equal(next_run, 6);
	assert_int_equal(next_done, 6);
	dev_free(d);
}

static atomic_bool slow_runs;

static void slow_run(struct dev *d, struct dev_job *j)
{
	atomic_store(&slow_runs, true);
	usleep(20000);
	job_run(d, j);
}

/* The running job is waited for, those after it never start. */
static void test_free_drops(void **state)
{
	struct job jobs[3] = { 0 };
	struct dev *d;

	loop = pthread_self();
	next_run = next_done = 0;
	d = host();
	for (int i = 0; i < 3; i++) {
		jobs[i].job.run = slow_run;
		jobs[i].job.done = job_done;
		dev_submit(d, &jobs[i].job);
	}
	while (!atomic_load(&slow_runs))
		continue;
	dev_free(d);
	assert_int_equal(jobs[0].ran, 1);
	assert_int_equal(jobs[1].ran, 0);
	assert_int_equal(next_done, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_specs),
		cmocka_unit_test(test_auto),
		cmocka_unit_test(test_order),
		cmocka_unit_test(test_drain),
		cmocka_unit_test(test_free_drops),
	};

	sem_init(&woken, 0, 0);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
