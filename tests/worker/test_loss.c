/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_loss.c - the model's loss through pages of each format.
 *
 *	worker_loss OUTLIER_MODEL BYTES LOSS
 *
 * The first BYTES of valid.txt, of which the loss in f32 is LOSS, in f16; int8
 * and bf16, and int8 keys with outlier channels, on fewer windows, by two
 * workers on one daemon at once. tests/model has every format.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include "tests/support/daemon.h"
#include "tests/worker/runworker.h"

#define VALID TEST_MODEL "/valid.txt"
#define FEW "5120"

static void start(struct run *r, const char *model, const char *format,
		  const char *max_bytes, const char *chunk)
{
	const char *const args[] = { model, "--ppl", VALID, "--format", format,
				     "--max-bytes", max_bytes, "--chunk",
				     chunk, NULL };

	run_start(r, args);
}

static double finish(struct run *r, const char *what)
{
	double loss;

	run_end(r);
	loss = run_number(r, "nats_per_byte");
	printf("%s: %.6f nats a byte over %.0f bytes, %.0f tokens/s\n", what,
	       loss, run_number(r, "bytes"), run_number(r, "tokens_per_s"));
	if (r->status)
		run_fail("kvworker: status %d: %s", r->status, r->said);
	run_free(r);
	return loss;
}

static double loss_of(const char *model, const char *format,
		      const char *max_bytes, const char *chunk)
{
	struct run r;

	start(&r, model, format, max_bytes, chunk);
	return finish(&r, format);
}

static void must_be_near(double got, double want, double tolerance,
			 const char *what)
{
	if (!(fabs(got - want) <= tolerance))
		run_fail("%s: %f is not within %f of %f", what, got, tolerance,
			 want);
}

static void test_windows(const char *bytes, double loss)
{
	struct run all, few;
	double f16;

	start(&all, TEST_MODEL, "f16", bytes, "512");
	start(&few, TEST_MODEL, "int8", FEW, "512");
	must_be_near(finish(&few, "int8"),
		     loss_of(TEST_MODEL, "f16", FEW, "512"), 0.002, "int8");
	f16 = finish(&all, "f16");
	must_be_near(f16, loss, 0.002, "f16");
}

/* To the last digit that kvworker prints. */
static void test_chunks(void)
{
	double want = loss_of(TEST_MODEL, "int8", "3000", "1024");

	must_be_near(loss_of(TEST_MODEL, "int8", "3000", "64"), want, 0, "64");
	must_be_near(loss_of(TEST_MODEL, "int8", "3000", "37"), want, 0, "37");
	must_be_near(loss_of(TEST_MODEL, "int8", "200", "1"),
		     loss_of(TEST_MODEL, "int8", "200", "512"), 0, "1");
}

static void test_formats(const char *outlier)
{
	double f16 = loss_of(TEST_MODEL, "f16", FEW, "512");

	must_be_near(loss_of(TEST_MODEL, "bf16", FEW, "512"), f16, 0.002,
		     "bf16");
	must_be_near(loss_of(outlier, "f16", FEW, "512"), f16, 0.0005,
		     "outlier in f16");
	must_be_near(loss_of(outlier, "int8", FEW, "512"), f16, 0.003,
		     "outlier in int8");
}

int main(int argc, char **argv)
{
	static const char *const pool[] = { "--pool", "256M", NULL };
	struct daemon d;

	if (argc != 4)
		run_fail("usage: %s OUTLIER_MODEL BYTES LOSS", argv[0]);
	daemon_start(&d, pool);
	setenv("KVD_SOCKET", d.socket, 1);
	test_chunks();
	test_formats(argv[1]);
	test_windows(argv[2], atof(argv[3]));
	daemon_assert_idle(&d);
	daemon_stop(&d);
	return 0;
}
