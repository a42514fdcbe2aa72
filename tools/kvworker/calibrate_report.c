/* SPDX-License-Identifier: Apache-2.0 */
/*
 * calibrate_report.c - what a person sees of a calibration.
 */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include "tools/kvworker/calibrate.h"

static json_t *layer_to_json(const struct calibration_report *r)
{
	return json_pack("{s:f, s:f, s:[fff], s:[fff], s:f, s:f}",
			 "ratio_before_rope", r->ratio_before,
			 "ratio_after_rope", r->ratio_after,
			 "k_mse", r->k_mse[0], r->k_mse[1], r->k_mse[2],
			 "v_mse", r->v_mse[0], r->v_mse[1], r->v_mse[2],
			 "k_qnorm_mse", r->k_qnorm_mse,
			 "v_qnorm_mse", r->v_qnorm_mse);
}

static int print_json(const struct calibrated *d)
{
	json_t *layers = json_array(), *o;
	int err;

	for (uint32_t i = 0; i < d->profile.shape.nr_layers; i++)
		json_array_append_new(layers, layer_to_json(&d->reports[i]));
	o = json_pack("{s:s, s:o, s:I, s:I, s:o}", "profile", d->path,
		      "digest", json_sprintf("%016" PRIx64,
					     d->profile.digest),
		      "bytes", (json_int_t)d->bytes,
		      "tokens", (json_int_t)d->nr_tokens, "layers", layers);
	err = json_dumpf(o, stdout, JSON_COMPACT | JSON_REAL_PRECISION(6));
	json_decref(o);
	putchar('\n');
	return err;
}

static void print_layer(uint32_t i, const struct calibration_report *r)
{
	printf("%5" PRIu32 " %8.1f %8.1f", i, r->ratio_before,
	       r->ratio_after);
	for (int k = 0; k < 3; k++)
		printf(" %7.4f", r->k_mse[k]);
	printf(" %7.4f", r->k_qnorm_mse);
	for (int k = 0; k < 3; k++)
		printf(" %7.4f", r->v_mse[k]);
	printf(" %7.4f\n", r->v_qnorm_mse);
}

static void print_human(const struct calibrated *d)
{
	printf("      key channels,     error of keys' codebooks        "
	       "error of values'\n"
	       "      largest / median  (weighted, relative)\n"
	       "layer   before    after  4 bits  3 bits  2 bits  Q-Norm  "
	       "4 bits  3 bits  2 bits  Q-Norm\n");
	for (uint32_t i = 0; i < d->profile.shape.nr_layers; i++)
		print_layer(i, &d->reports[i]);
	printf("%s: %zu bytes, digest %016" PRIx64 ", from %zu tokens\n",
	       d->path, d->bytes, d->profile.digest, d->nr_tokens);
}

int calibrate_print(const struct calibrated *d, bool json, struct error *e)
{
	int err = 0;

	if (json)
		err = print_json(d);
	else
		print_human(d);
	if (err || fflush(stdout))
		return error_set(e, -EIO, "cannot write the result");
	return 0;
}
