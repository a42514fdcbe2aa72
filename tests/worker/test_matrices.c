/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_matrices.c - the whole forward pass on the pool's GPU.
 *
 *	worker_matrices DEVICE double|gpu
 *
 * On the double (of libcuda and libcublas) the GPU's results are the CPU's but
 * for rounding; on a GPU attention has queries in f16, which rounding may flip.
 * There without libcublas: skipped.
 */
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "tests/support/daemon.h"
#include "tests/worker/runworker.h"

#define VOCAB 256
#define SHARED 150u	/* bytes of prompt that workers share */
#define TAIL 40u	/* bytes of each one's own */
#define PAGE 32u
#define LOSS_BYTES "1100" /* a window and the beginning of another */
#define MOST_CALLS 40	/* that a worker makes of one kind as it starts */

static char dir[] = "/tmp/kvmatrices-test-XXXXXX";
static char prompt_path[64], logits_path[64], profile_path[64], valid_path[4096];
static char *valid; /* valid.txt */
static bool is_double;

struct logits {
	float *rows;
	size_t nr;
};

static void write_prompt(size_t from, size_t shared, size_t tail)
{
	FILE *f = fopen(prompt_path, "wb");

	if (!f || fwrite(valid, 1, shared, f) != shared ||
	    fwrite(valid + from, 1, tail, f) != tail || fclose(f))
		run_fail("%s: %m", prompt_path);
}

static const char *text_of(const struct run *r, const char *field)
{
	const char *s = json_string_value(json_object_get(r->json, field));

	if (!s)
		run_fail("no %s: %s", field, r->said);
	return s;
}

static void must_run(const struct run *r)
{
	if (r->status)
		run_fail("kvworker: status %d: %s", r->status, r->said);
}

static void must_be_on(const struct run *r, const char *where)
{
	if (strcmp(text_of(r, "matrices"), where))
		run_fail("matrices on the %s, not the %s",
			 text_of(r, "matrices"), where);
}

/* The prompt's logits, matrices @where; more options end with NULL. */
static struct logits logits_of(struct run *r, const char *where,
			       const char *const *options)
{
	const char *args[RUN_MAX_ARGS] = {
		run_model(""), "--prompt-file", prompt_path, "--logits",
		logits_path,   "--generate",	"6",	     "--page-tokens",
		"32",	       "--matrices",	where
	};
	struct logits l;
	size_t bytes;
	int n = 11;

	while (*options)
		args[n++] = *options++;
	run(r, args);
	must_run(r);
	must_be_on(r, where);
	l.rows = run_file(logits_path, &bytes);
	l.nr = bytes / (VOCAB * sizeof(float));
	return l;
}

static double max_diff(const struct logits *a, const struct logits *b)
{
	double max = 0;

	if (a->nr != b->nr || !a->nr)
		run_fail("%zu and %zu rows of logits", a->nr, b->nr);
	for (size_t i = 0; i < a->nr * VOCAB; i++)
		max = fmax(max, fabs((double)a->rows[i] - b->rows[i]));
	return max;
}

/* Logits and the text that follows are those of the CPU's matrices. */
static void test_same(const char *format)
{
	const char *const options[] = { "--format", format, "--no-match",
					"--no-publish", NULL };
	struct logits cpu, gpu;
	struct run c, g;
	double diff;

	write_prompt(5000, 0, SHARED);
	cpu = logits_of(&c, "cpu", options);
	gpu = logits_of(&g, "gpu", options);
	diff = max_diff(&cpu, &gpu);
	printf("%s: logits within %g of the CPU's\n", format, diff);
	if (!(diff <= (is_double ? 1e-4 : 0.1)))
		run_fail("%s: other logits", format);
	if (strcmp(text_of(&c, "text"), text_of(&g, "text")))
		run_fail("%s: texts differ: %s | %s", format,
			 text_of(&c, "text"), text_of(&g, "text"));
	free(cpu.rows);
	free(gpu.rows);
	run_free(&c);
	run_free(&g);
}

/* Chunks follow one another without a wait where nobody wants logits. */
static void test_unwaited(void)
{
	const char *args[] = { run_model(""), "--prompt-file", prompt_path,
			       "--no-match", "--no-publish", "--chunk", "200",
			       NULL };
	struct run one, many;

	write_prompt(5000, 0, SHARED);
	run(&one, args);
	args[6] = "16";
	run(&many, args);
	must_run(&one);
	must_run(&many);
	must_be_on(&many, "gpu");
	if (strcmp(text_of(&one, "text"), text_of(&many, "text")))
		run_fail("texts differ by chunks: %s | %s",
			 text_of(&one, "text"), text_of(&many, "text"));
	run_free(&one);
	run_free(&many);
}

static double loss_of(const char *where)
{
	const char *const args[] = { run_model(""), "--ppl", valid_path,
				     "--max-bytes", LOSS_BYTES, "--matrices",
				     where, "--no-publish", NULL };
	struct run r;
	double loss;

	run(&r, args);
	must_run(&r);
	must_be_on(&r, where);
	loss = run_number(&r, "nats_per_byte");
	run_free(&r);
	return loss;
}

static void test_loss(void)
{
	double cpu = loss_of("cpu"), gpu = loss_of("gpu");

	printf("loss %.10g on the CPU, %.10g on the GPU\n", cpu, gpu);
	if (!(fabs(cpu - gpu) <= (is_double ? 1e-4 : 1e-3)))
		run_fail("losses differ");
}

/* Same bits for every chunk length, and after a prefix of another process. */
static void test_bits(const char *format)
{
	static const char *const chunks[] = { "37", "16", "100" };
	const size_t hit = SHARED + 1 +
			   run_alike(valid + 4096, valid + 8192, TAIL);
	const char *const sharing[] = { "--format", format, NULL };
	struct logits want, got;
	struct run r;

	write_prompt(4096, SHARED, TAIL);
	want = logits_of(&r, "gpu", sharing);
	run_free(&r);
	for (size_t i = 0; i < sizeof(chunks) / sizeof(chunks[0]); i++) {
		const char *const options[] = { "--format", format,
						"--no-match", "--no-publish",
						"--chunk", chunks[i], NULL };

		got = logits_of(&r, "gpu", options);
		if (max_diff(&got, &want) != 0)
			run_fail("%s, chunks of %s: other logits", format,
				 chunks[i]);
		free(got.rows);
		run_free(&r);
	}
	free(want.rows);

	write_prompt(8192, SHARED, TAIL);
	want = logits_of(&r, "gpu", (const char *[]){
		"--format", format, "--no-match", "--no-publish", NULL });
	run_free(&r);
	got = logits_of(&r, "gpu", sharing);
	if (run_number(&r, "hit_tokens") != (double)hit || !got.nr ||
	    got.nr + hit != want.nr)
		run_fail("%s: %g tokens hit, not %zu", format,
			 run_number(&r, "hit_tokens"), hit);
	if (memcmp(got.rows, want.rows + hit * VOCAB,
		   got.nr * VOCAB * sizeof(float)))
		run_fail("%s: a prefix of another process gives other logits",
			 format);
	printf("%s: one result, whatever the chunks, and a prefix crossed\n",
	       format);
	free(want.rows);
	free(got.rows);
	run_free(&r);
}

/* Rows on the GPU are shown to who calibrates: the profile is the same. */
static void *profile_of(const char *where, size_t *ret_bytes)
{
	const char *const args[] = { run_model(""), "--ppl", valid_path,
				     "--max-bytes", "300", "--calibrate",
				     profile_path, "--matrices", where,
				     "--chunk", "90", NULL };
	struct run r;

	run(&r, args);
	must_run(&r);
	run_free(&r);
	return run_file(profile_path, ret_bytes);
}

static void test_calibrate(void)
{
	size_t cpu_bytes, gpu_bytes;
	void *cpu = profile_of("cpu", &cpu_bytes);
	void *gpu = profile_of("gpu", &gpu_bytes);

	if (cpu_bytes != gpu_bytes ||
	    (is_double && memcmp(cpu, gpu, cpu_bytes)))
		run_fail("another profile");
	printf("a profile of %zu bytes\n", gpu_bytes);
	free(cpu);
	free(gpu);
}

/* Without libcublas, or with one that the driver is not for. */
static void test_none(void)
{
	char *path = strdup(getenv("LD_LIBRARY_PATH"));
	const char *const gpu[] = { run_model(""), "--prompt-file",
				    prompt_path, "--matrices", "gpu", NULL };
	const char *const any[] = { run_model(""), "--prompt-file",
				    prompt_path, "--generate", "0", NULL };
	struct run r;

	setenv("LD_LIBRARY_PATH", strchr(path, ':') + 1, 1);
	run(&r, gpu);
	if (r.status != 1 || !strstr(r.said, "--matrices gpu: ") ||
	    !strstr(r.said, "cublas"))
		run_fail("no libcublas: status %d: %s", r.status, r.said);
	run_free(&r);
	run(&r, any);
	must_run(&r);
	must_be_on(&r, "cpu");
	run_free(&r);
	setenv("LD_LIBRARY_PATH", path, 1);
	free(path);
}

/*
 * One call of the driver fails, each in turn: the worker says so, or does with
 * the CPU, or it was a call that nothing depends on.
 */
static void test_fault(const char *call)
{
	const char *const args[] = { run_model(""), "--prompt-file",
				     prompt_path,   "--generate", "1",
				     "--no-match",  "--no-publish", NULL };
	int refused = 0, on_cpu = 0, n;
	char fail[64];

	for (n = 1; n <= MOST_CALLS; n++) {
		struct run r;
		bool fine;

		snprintf(fail, sizeof(fail), "%s:%d", call, n);
		setenv("FAKECUDA_FAIL", fail, 1);
		run(&r, args);
		if (r.status > 1 || (r.status && !*r.said))
			run_fail("%s: status %d: %s", fail, r.status, r.said);
		refused += r.status;
		on_cpu += !r.status && !strcmp(text_of(&r, "matrices"), "cpu");
		fine = !r.status && !strcmp(text_of(&r, "matrices"), "gpu");
		run_free(&r);
		if (fine && on_cpu)
			break;
	}
	unsetenv("FAKECUDA_FAIL");
	printf("%s: %d calls, %d refused, %d on the CPU\n", call, n, refused,
	       on_cpu);
	if (!on_cpu || n > MOST_CALLS)
		run_fail("%s: no failure ended on the CPU", call);
}

/* On a real GPU there need not be a libcublas. */
static bool has_cublas(void)
{
	const char *const args[] = { run_model(""), "--prompt-file",
				     prompt_path, "--generate", "0",
				     "--no-publish", NULL };
	struct run r;
	bool has;

	run(&r, args);
	must_run(&r);
	has = !strcmp(text_of(&r, "matrices"), "gpu");
	run_free(&r);
	return has;
}

static void test_all(void)
{
	test_same("f16");
	test_same("int8");
	test_unwaited();
	test_loss();
	test_bits("f16");
	test_bits("int8");
	test_calibrate();
	if (!is_double)
		return;
	write_prompt(5000, 0, 20);
	test_none();
	test_fault("cuMemAlloc");
	test_fault("cuMemHostAlloc");
	test_fault("cuModuleGetFunction");
}

int main(int argc, char **argv)
{
	const char *const device[] = { "--device", argv[1], NULL };
	struct daemon d;
	size_t bytes;
	bool has;

	if (argc != 3)
		run_fail("usage: %s DEVICE double|gpu", argv[0]);
	is_double = !strcmp(argv[2], "double");
	if (!mkdtemp(dir))
		run_fail("mkdtemp: %m");
	snprintf(prompt_path, sizeof(prompt_path), "%s/prompt", dir);
	snprintf(logits_path, sizeof(logits_path), "%s/logits", dir);
	snprintf(profile_path, sizeof(profile_path), "%s/profile", dir);
	snprintf(valid_path, sizeof(valid_path), "%s", run_model("/valid.txt"));
	valid = run_file(valid_path, &bytes);
	daemon_start(&d, device);
	setenv("KVD_SOCKET", d.socket, 1);
	write_prompt(5000, 0, SHARED);
	has = has_cublas();
	if (has)
		test_all();
	else if (is_double)
		run_fail("auto did not find the double of libcublas");
	daemon_assert_idle(&d);
	daemon_stop(&d);
	free(valid);
	unlink(prompt_path);
	unlink(logits_path);
	unlink(profile_path);
	if (rmdir(dir))
		return 1;
	return has ? 0 : 77;
}
