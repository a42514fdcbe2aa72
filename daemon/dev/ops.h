/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ops.h - the devices this build knows.
 *
 * dev.c alone reads these tables. host.c is in every build; cuda.c has the
 * other two and finds out at open() whether there is a driver.
 */
#ifndef DAEMON_DEV_OPS_H
#define DAEMON_DEV_OPS_H

#include "daemon/dev/dev.h"

extern const struct dev_ops dev_host_ops;
extern const struct dev_ops dev_cuda_ipc_ops;
extern const struct dev_ops dev_cuda_vmm_ops;

#endif
