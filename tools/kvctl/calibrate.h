/* SPDX-License-Identifier: Apache-2.0 */
/*
 * calibrate.h - kvctl calibrate, the command that a worker carries out.
 */
#ifndef TOOLS_KVCTL_CALIBRATE_H
#define TOOLS_KVCTL_CALIBRATE_H

/**
 * calibrate_main() - becomes a kvworker that makes a profile
 * @argc, @argv:	from the command's name on
 *
 * Return: an exit status, when there is no becoming.
 */
int calibrate_main(int argc, char **argv);

/* One line for the list of commands. */
extern const char calibrate_summary[];

#endif
