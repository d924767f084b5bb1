/* spare.c - see spare.h. */
#include "storage/base/spare.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

static size_t spare_bytes; /* set once, before there are threads */
static _Atomic(void *) held;
static atomic_bool spent;
static _Thread_local bool failed;

static void *map(void)
{
    void *p = mmap(NULL, spare_bytes, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    return p == MAP_FAILED ? NULL : p;
}

void spare_hold(size_t bytes)
{
    spare_bytes = bytes;
    atomic_store(&held, map());
}

void spare_spend(void)
{
    void *p = atomic_exchange(&held, NULL);

    if (!p)
        return;
    atomic_store(&spent, true);
    munmap(p, spare_bytes);
}

/* Two threads may both have mapped one: the second gives its own back. */
bool spare_whole(void)
{
    void *none = NULL, *p;

    if (!atomic_load_explicit(&spent, memory_order_relaxed))
        return true;
    p = map();
    if (!p)
        return false;
    if (!atomic_compare_exchange_strong(&held, &none, p))
        munmap(p, spare_bytes);
    atomic_store(&spent, false);
    return true;
}

static void *said(void *p)
{
    if (!p)
        failed = true;
    return p;
}

void *spare_malloc(size_t size)
{
    void *p = malloc(size ? size : 1);

    if (p)
        return p;
    spare_spend();
    return said(malloc(size ? size : 1));
}

void *spare_calloc(size_t count, size_t size)
{
    void *p = calloc(count ? count : 1, size ? size : 1);

    if (p)
        return p;
    spare_spend();
    return said(calloc(count ? count : 1, size ? size : 1));
}

void *spare_realloc(void *p, size_t size)
{
    void *moved = realloc(p, size ? size : 1);

    if (moved)
        return moved;
    spare_spend();
    return said(realloc(p, size ? size : 1));
}

void *spare_aligned(size_t alignment, size_t size)
{
    void *p = aligned_alloc(alignment, size);

    if (p)
        return p;
    spare_spend();
    return said(aligned_alloc(alignment, size));
}

bool spare_failed(void)
{
    bool was = failed;

    failed = false;
    return was;
}

_Noreturn void spare_end(size_t size)
{
    char line[64];
    int len = snprintf(line, sizeof line, "no memory for %zu bytes\n", size);

    if (len > 0 && write(STDERR_FILENO, line, (size_t)len) < 0)
        abort();
    abort();
}
