/* spare.h - memory held back from the start, given up when a small allocation fails: then what runs
 * can end as it should, and what comes is refused, until the system has that much to give again.
 *
 * It is address space that nothing was ever written to: it costs no page, and counts where memory
 * is limited by promise (RLIMIT_DATA, RLIMIT_AS, overcommit_memory 2). Any thread.
 */
#ifndef STORAGE_BASE_SPARE_H
#define STORAGE_BASE_SPARE_H

#include <stdbool.h>
#include <stddef.h>

/* Holds `bytes` from now on, if they are to be had. Once, before there are threads. Without it the
 * functions below are the C library's. */
void spare_hold(size_t bytes);

/* False while the spare is spent and cannot be had again: nothing large may begin. Tries to get it
 * back; one load as long as it is there. */
bool spare_whole(void);

/* As those of the C library, but a failure spends the spare and tries again. For what is small:
 * our own structs, and the libraries that take an allocator. Free with free(). */
void *spare_malloc(size_t size);
void *spare_calloc(size_t count, size_t size);
void *spare_realloc(void *p, size_t size);
void *spare_aligned(size_t alignment, size_t size);

/* For libraries that take no allocator: gives the spare up; then their call is worth another
 * try. */
void spare_spend(void);

/* Did one of them return NULL on this thread since this was last asked? For libraries that do not
 * say what they failed of. */
bool spare_failed(void);

/* One line on standard error with the number of bytes, then SIGABRT. */
_Noreturn void spare_end(size_t size);

#endif
