/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz.h - the entry point that libFuzzer and the replay call.
 */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
