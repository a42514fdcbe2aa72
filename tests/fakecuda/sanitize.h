/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sanitize.h - tell sanitizers that the stack is about to change.
 *
 * Empty in a build without them.
 */
#ifndef TESTS_FAKECUDA_SANITIZE_H
#define TESTS_FAKECUDA_SANITIZE_H

#include <stddef.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define __SANITIZE_ADDRESS__ 1
#endif
#if __has_feature(thread_sanitizer)
#define __SANITIZE_THREAD__ 1
#endif
#endif

#ifdef __SANITIZE_ADDRESS__
extern "C" {
void __sanitizer_start_switch_fiber(void **fake, const void *bottom,
				    size_t bytes);
void __sanitizer_finish_switch_fiber(void *fake, const void **bottom,
				     size_t *bytes);
void __asan_unpoison_memory_region(const volatile void *p, size_t bytes);
}
#else
static inline void __sanitizer_start_switch_fiber(void **, const void *, size_t)
{
}
static inline void __sanitizer_finish_switch_fiber(void *, const void **,
						   size_t *)
{
}
static inline void __asan_unpoison_memory_region(const volatile void *, size_t)
{
}
#endif

#ifdef __SANITIZE_THREAD__
extern "C" {
void *__tsan_get_current_fiber(void);
void *__tsan_create_fiber(unsigned flags);
void __tsan_switch_to_fiber(void *fiber, unsigned flags);
void __tsan_acquire(void *addr);
void __tsan_release(void *addr);
}
#else
static inline void *__tsan_get_current_fiber(void)
{
	return nullptr;
}
static inline void *__tsan_create_fiber(unsigned)
{
	return nullptr;
}
static inline void __tsan_switch_to_fiber(void *, unsigned)
{
}
static inline void __tsan_acquire(void *)
{
}
static inline void __tsan_release(void *)
{
}
#endif

#endif
