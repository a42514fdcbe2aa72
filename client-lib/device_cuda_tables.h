/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device_cuda_tables.h - struct kv_tables of a group, where kernels read it.
 *
 * Each group's are one block of device memory: the structure, then all its
 * arrays. It is made when first asked for, and once more when RoPE's angles
 * have grown. The old one stays until the end: calls under way use it, and a
 * captured graph may for as long as it lives. Angles grow by half each time,
 * so all old ones together are less than twice the new.
 */
#ifndef CLIENT_LIB_DEVICE_CUDA_TABLES_H
#define CLIENT_LIB_DEVICE_CUDA_TABLES_H

#include "kernels/cuda/driver.h"
#include "kernels/page.h"
#include "kernels/tables.h"

struct cuda_tables {
	const struct kv_tables *host;	/* whose copy it is; NULL: none yet */
	cu_ptr device;
	uint32_t rope_pages;
	uint32_t nr_old;
	cu_ptr *old;			/* [nr_old] smaller ones */
};

/* What a copy is made with. */
struct cuda_tables_way {
	const struct cuda_driver *cu;
	cu_stream stream;	/* done when a call here returns */
};

/**
 * cuda_tables_get() - @host as the device has it
 * @all:	[KVD_MAX_GROUPS], zero at first
 * @l:		of any of the group's classes
 * @host:	stays where it is until cuda_tables_fini(); but for RoPE's
 *		angles nothing of it changes. NULL: kernels need none
 * @ret:	for kernels, until cuda_tables_fini()
 *
 * Return: 0, -ENOMEM, -EIO.
 */
int cuda_tables_get(struct cuda_tables *all, const struct cuda_tables_way *way,
		    const struct page_layout *l, const struct kv_tables *host,
		    const struct kv_tables **ret);

/* All calls are done. */
void cuda_tables_fini(struct cuda_tables *all, const struct cuda_driver *cu);

#endif
