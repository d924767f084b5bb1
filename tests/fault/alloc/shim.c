/* shim.c - see shim.h. The C library's own allocator does the work, by the names it keeps. */
#include "tests/fault/alloc/shim.h"

#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

struct alloc_control *alloc_control;

void alloc_use(struct alloc_control *c)
{
    alloc_control = c;
}

void alloc_arm(struct alloc_control *c, enum alloc_mode mode, int64_t countdown, int64_t bound)
{
    atomic_store(&c->mode, ALLOC_COUNT);
    atomic_store(&c->countdown, countdown);
    atomic_store(&c->bound, bound);
    atomic_store(&c->calls, 0);
    atomic_store(&c->hits, 0);
    atomic_store(&c->size, 0);
    c->site[0] = '\0';
    atomic_store(&c->mode, mode);
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *p, size_t size);
void *__libc_memalign(size_t alignment, size_t size);
void __libc_free(void *p);

/* ---- Who asked ------------------------------------------------------------------------------- */

enum { FRAMES = 24, OWN_FRAMES = 3 };

/* Set while a site is written down: what the unwinder itself allocates always succeeds. */
static __thread bool inside __attribute__((tls_model("initial-exec")));

static void write_site(struct alloc_control *c, size_t size)
{
    void *frames[FRAMES];
    size_t at = 0;
    int count;

    inside = true;
    count = backtrace(frames, FRAMES);
    for (int i = OWN_FRAMES; i < count && at < ALLOC_SITE - 1; i++) {
        const char *name = "?";
        uintptr_t base = 0;
        Dl_info info;
        int wrote;

        if (dladdr(frames[i], &info) && info.dli_fname) {
            name = strrchr(info.dli_fname, '/');
            name = name ? name + 1 : info.dli_fname;
            base = (uintptr_t)info.dli_fbase;
        }
        wrote = snprintf(c->site + at, ALLOC_SITE - at, "%s+%lx ", name,
                         (unsigned long)((uintptr_t)frames[i] - base));
        at += wrote > 0 ? (size_t)wrote : 0;
    }
    atomic_store(&c->size, size);
    inside = false;
}

/* ---- The fault ------------------------------------------------------------------------------- */

__attribute__((noinline)) static bool refuse(struct alloc_control *c, size_t size)
{
    if (atomic_fetch_add(&c->hits, 1) == 0)
        write_site(c, size);
    errno = ENOMEM;
    return true;
}

/* True when this allocation is to fail. */
__attribute__((noinline)) static bool denied(size_t size)
{
    struct alloc_control *c = alloc_control;
    uint32_t mode;

    if (!c || inside || size < atomic_load(&c->least))
        return false;
    mode = atomic_load(&c->mode);
    atomic_fetch_add(&c->calls, 1);
    if (mode == ALLOC_COUNT)
        return false;
    if (mode == ALLOC_LIMIT) {
        if (atomic_load(&c->bytes) + (int64_t)size <= atomic_load(&c->limit))
            return false;
        return refuse(c, size);
    }
    if (atomic_fetch_sub(&c->countdown, 1) > 0)
        return false;
    if (atomic_load(&c->hits) >= (mode == ALLOC_ONCE ? 1 : (uint64_t)atomic_load(&c->bound)))
        return false;
    return refuse(c, size);
}

static void *came(void *p)
{
    struct alloc_control *c = alloc_control;

    if (p && c) {
        atomic_fetch_add(&c->blocks, 1);
        atomic_fetch_add(&c->bytes, (int64_t)malloc_usable_size(p));
    }
    return p;
}

static void goes(void *p)
{
    struct alloc_control *c = alloc_control;

    if (p && c) {
        atomic_fetch_sub(&c->blocks, 1);
        atomic_fetch_sub(&c->bytes, (int64_t)malloc_usable_size(p));
    }
}

/* ---- The family ------------------------------------------------------------------------------ */

void *malloc(size_t size)
{
    return denied(size) ? NULL : came(__libc_malloc(size));
}

void *calloc(size_t count, size_t size)
{
    size_t bytes;

    if (__builtin_mul_overflow(count, size, &bytes))
        bytes = SIZE_MAX;
    return denied(bytes) ? NULL : came(__libc_calloc(count, size));
}

/* Smaller than it was, it cannot fail: it stays where it is. */
void *realloc(void *p, size_t size)
{
    size_t was = p ? malloc_usable_size(p) : 0;
    void *moved;

    if (size > was && denied(size))
        return NULL;
    goes(p);
    moved = __libc_realloc(p, size);
    if (moved || size == 0)
        came(moved);
    else
        came(p);
    return moved;
}

void *memalign(size_t alignment, size_t size)
{
    return denied(size) ? NULL : came(__libc_memalign(alignment, size));
}

void *aligned_alloc(size_t alignment, size_t size)
{
    return denied(size) ? NULL : came(__libc_memalign(alignment, size));
}

int posix_memalign(void **out, size_t alignment, size_t size)
{
    void *p;

    if (denied(size))
        return ENOMEM;
    p = came(__libc_memalign(alignment, size));
    if (!p)
        return ENOMEM;
    *out = p;
    return 0;
}

void free(void *p)
{
    goes(p);
    __libc_free(p);
}

void *mmap(void *at, size_t len, int protection, int flags, int fd, off_t offset)
{
    if (flags & MAP_ANONYMOUS && !(protection == PROT_NONE) && denied(len))
        return MAP_FAILED;
    return (void *)syscall(SYS_mmap, at, len, protection, flags, fd, offset);
}

void *mmap64(void *at, size_t len, int protection, int flags, int fd, off64_t offset)
{
    return mmap(at, len, protection, flags, fd, offset);
}

/* ---- In front of a program ------------------------------------------------------------------- */

__attribute__((constructor)) static void preload(void)
{
    const char *path = getenv("ASCRIBE_ALLOC_SHIM");
    void *frames[2], *map;
    long fd;

    (void)backtrace(frames, 2); /* loads the unwinder now, not in the middle of a fault */
    if (!path || alloc_control)
        return;
    fd = syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC, 0);
    if (fd < 0)
        return;
    map = (void *)syscall(SYS_mmap, NULL, sizeof *alloc_control, PROT_READ | PROT_WRITE, MAP_SHARED,
                          (int)fd, 0);
    syscall(SYS_close, fd);
    if (map != MAP_FAILED)
        alloc_control = map;
}

#endif
