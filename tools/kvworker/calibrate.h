/* SPDX-License-Identifier: Apache-2.0 */
/*
 * calibrate.h - a calibration that has been done, and what it says of itself.
 */
#ifndef KVWORKER_CALIBRATE_H
#define KVWORKER_CALIBRATE_H

#include <stdbool.h>
#include "kernels/profile.h"
#include "tools/calibrate/calibrate.h"
#include "tools/kvworker/error.h"

struct calibrated {
	const char *path;	/* of the profile */
	size_t bytes;
	size_t nr_tokens;	/* that the model saw */
	struct profile profile;
	struct calibration_report *reports; /* [layers] */
};

/**
 * calibrate_print() - the summary, as text or as one JSON object
 */
int calibrate_print(const struct calibrated *d, bool json, struct error *e);

#endif
