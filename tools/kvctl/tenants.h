/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tenants.h - the list of tenants, which comes in as many replies as it takes.
 */
#ifndef TOOLS_KVCTL_TENANTS_H
#define TOOLS_KVCTL_TENANTS_H

#include <jansson.h>
#include <kvd/kvd.h>
#include "proto/kvd.pb-c.h"

/**
 * tenants_ask() - call @each with every reply
 * @answer:	for @each, which adds to it
 *
 * Return: 0 or -errno, kvd_error() has the reason.
 */
int tenants_ask(struct kvd *k, json_t *answer,
                void (*each)(json_t *answer, const Kvd__TenantsReply *r));

#endif
