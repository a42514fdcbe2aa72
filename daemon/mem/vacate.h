/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vacate.h - a slab is emptied for its granules, and what is warm moves.
 *
 * Where pages are held at full size and no others are left to be demoted, room
 * for more is granules of demoted pages. A slab has pages of all ages, so giving
 * it up whole (reclaim.h) would lose warm ones with the cold. Instead the coldest
 * of its class go, wherever they are, and the slab's own are copied to where
 * those were.
 *
 * A copy is made on the device's thread while anything may happen to the page.
 * Its bytes do not change as long as it is the page that it is: if that is so
 * afterwards, and nobody holds it, the new page is in its place, among those
 * that go next too; else the copy is dropped.
 */
#ifndef DAEMON_MEM_VACATE_H
#define DAEMON_MEM_VACATE_H

#include "daemon/mem/page.h"

/**
 * vacate_begin() - has a slab of demoted pages emptied for @sc
 * One at a time, in all. Return: one is under way, or is empty: there will be
 * room.
 */
bool vacate_begin(const struct size_class *sc);

#endif
