/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cublas.c - finds libcublas and fills the table of its calls.
 */
#include <dlfcn.h>
#include <errno.h>
#include <stdint.h>
#include <string.h>
#include "tools/kvworker/cublas.h"

/* Newest first: our calls are the same in all of them. */
static const char *const names[] = { "libcublas.so.13", "libcublas.so.12",
				     "libcublas.so.11" };

/* Opened once per process, never closed. */
static void *library(void)
{
	static void *lib;

	for (size_t i = 0; !lib && i < sizeof(names) / sizeof(names[0]); i++)
		lib = dlopen(names[i], RTLD_LAZY | RTLD_LOCAL);
	return lib;
}

static int load(struct cublas *b, struct error *e)
{
	const struct {
		const char *symbol;
		void *call;
	} calls[] = {
#define CUBLAS_CALL(call, symbol, params) { #symbol, &b->call },
		CUBLAS_CALLS(CUBLAS_CALL)
#undef CUBLAS_CALL
	};
	void *lib = library();

	if (!lib)
		return error_set(e, -ENODEV, "no libcublas: %s", dlerror());
	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
		void *p = dlsym(lib, calls[i].symbol);

		if (!p)
			return error_set(e, -ENODEV, "libcublas has no %s",
					 calls[i].symbol);
		/* C has no cast from an object's address to a function's. */
		memcpy(calls[i].call, &p, sizeof(p));
	}
	return 0;
}

static int check(const char *call, cublas_status status, int err,
		 struct error *e)
{
	return status ? error_set(e, err, "%s: status %d", call, status) : 0;
}

int cublas_open(struct cublas *b, const struct gpu *g, struct error *e)
{
	int err = load(b, e);

	if (!err)
		err = check("cublasCreate", b->create(&b->handle), -ENODEV, e);
	if (err) {
		b->handle = NULL;
		return err;
	}
	err = check("cublasSetStream", b->set_stream(b->handle, g->stream),
		    -ENODEV, e);
	if (!err)
		err = check("cublasSetMathMode",
			    b->set_math(b->handle, CUBLAS_PEDANTIC), -ENODEV,
			    e);
	return err;
}

void cublas_close(struct cublas *b)
{
	if (b->handle)
		b->destroy(b->handle);
	b->handle = NULL;
}

/* By columns a row-major matrix is its transpose: out^T = b a^T. */
int cublas_multiply(const struct cublas *b, const struct product *p,
		    struct error *e)
{
	const float alpha = 1;
	int k = (int)p->k, n = (int)p->n;

	return check("cublasSgemm",
		     b->sgemm(b->handle, CUBLAS_TRANSPOSED,
			      CUBLAS_NOT_TRANSPOSED, n, (int)p->rows, k,
			      &alpha, p->b, k, p->a, k, &p->beta, p->out, n),
		     -EIO, e);
}
