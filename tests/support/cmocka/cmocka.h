/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmocka.h - what our tests use of cmocka, where it cannot be linked.
 *
 * For builds that are carried to machines without it (KVD_STATIC_DEPS); it
 * comes as a shared library alone. A failed check leaves its test, and the
 * next one runs, as with cmocka. One thread.
 */
#ifndef TESTS_SUPPORT_CMOCKA_H
#define TESTS_SUPPORT_CMOCKA_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

struct CMUnitTest {
	const char *name;
	void (*run)(void **state);
};

enum { CM_FAILED = 1, CM_SKIPPED };

static jmp_buf cm_left;

__attribute__((noreturn, format(printf, 3, 4), unused)) static void
cm_fail(const char *file, int line, const char *format, ...)
{
	va_list ap;

	fprintf(stderr, "%s:%d: ", file, line);
	va_start(ap, format);
	vfprintf(stderr, format, ap);
	va_end(ap);
	fputc('\n', stderr);
	longjmp(cm_left, CM_FAILED);
}

#define cm_check(ok, ...)                                                      \
	((ok) ? (void)0 : cm_fail(__FILE__, __LINE__, __VA_ARGS__))

__attribute__((unused)) static void cm_same(uint64_t a, uint64_t b, int same,
					    const char *text, const char *file,
					    int line)
{
	if ((a == b) != same)
		cm_fail(file, line, "%s: %#llx, %#llx", text,
			(unsigned long long)a, (unsigned long long)b);
}

#define cm_compare(a, b, same)                                                 \
	cm_same((uint64_t)(a), (uint64_t)(b), same, #a ", " #b, __FILE__,      \
		__LINE__)

#define fail_msg(...) cm_fail(__FILE__, __LINE__, __VA_ARGS__)
#define print_message(...) printf(__VA_ARGS__)
#define skip() longjmp(cm_left, CM_SKIPPED)
#define assert_true(x) cm_check(x, "not true: %s", #x)
#define assert_false(x) cm_check(!(x), "not false: %s", #x)
#define assert_non_null(p) cm_check((p) != NULL, "is NULL: %s", #p)
#define assert_null(p) cm_check((p) == NULL, "is not NULL: %s", #p)
#define assert_int_equal(a, b) cm_compare(a, b, 1)
#define assert_int_not_equal(a, b) cm_compare(a, b, 0)
#define assert_ptr_equal(a, b) cm_compare((uintptr_t)(a), (uintptr_t)(b), 1)
#define assert_ptr_not_equal(a, b) cm_compare((uintptr_t)(a), (uintptr_t)(b), 0)
#define assert_in_range(x, low, high)                                          \
	cm_check((uint64_t)(x) >= (low) && (uint64_t)(x) <= (high),            \
		 "not in range: %s", #x)
#define assert_memory_equal(a, b, n)                                           \
	cm_check(memcmp(a, b, n) == 0, "other bytes: %s, %s", #a, #b)
#define assert_memory_not_equal(a, b, n)                                       \
	cm_check(memcmp(a, b, n) != 0, "the same bytes: %s, %s", #a, #b)
#define assert_string_equal(a, b)                                              \
	cm_check(strcmp(a, b) == 0, "not equal: \"%s\", \"%s\"", a, b)
#define assert_string_not_equal(a, b)                                          \
	cm_check(strcmp(a, b) != 0, "equal: \"%s\"", a)

#define cmocka_unit_test(f) { #f, f }
#define cmocka_run_group_tests(tests, setup, teardown)                         \
	cm_run(tests, sizeof(tests) / sizeof((tests)[0]), setup, teardown)

/* Return: whether setup or teardown failed. */
__attribute__((unused)) static int cm_around(int (*f)(void **), void **state)
{
	int r = setjmp(cm_left);

	return r || (f && f(state));
}

__attribute__((unused)) static int cm_one(const struct CMUnitTest *t,
					  void **state)
{
	static const char *const ends[] = { "OK", "FAILED", "SKIPPED" };
	int r = setjmp(cm_left);

	if (!r)
		t->run(state);
	fprintf(stderr, "[ %7s ] %s\n", ends[r], t->name);
	return r == CM_FAILED;
}

/* Return: how many failed. */
__attribute__((unused)) static int cm_run(const struct CMUnitTest *tests,
					  size_t nr, int (*setup)(void **),
					  int (*teardown)(void **))
{
	void *state = NULL;
	int failed = 0;

	if (cm_around(setup, &state))
		return 1;
	for (size_t i = 0; i < nr; i++)
		failed += cm_one(&tests[i], &state);
	return failed + cm_around(teardown, &state);
}

#endif
