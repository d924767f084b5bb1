/* fuzz.c - see fuzz.h. */
#include "tests/fuzz/fuzz.h"

#include <sys/mman.h>
#include <unistd.h>

void fuzz_file_open(struct fuzz_file *f, const void *bytes, size_t len)
{
    const char *from = bytes;

    f->fd = memfd_create("input", MFD_CLOEXEC);
    fuzz_require(f->fd >= 0);
    while (len > 0) {
        ssize_t put = write(f->fd, from, len);

        fuzz_require(put > 0);
        from += put;
        len -= (size_t)put;
    }
    snprintf(f->path, sizeof f->path, "/proc/self/fd/%d", f->fd);
}

void fuzz_file_close(struct fuzz_file *f)
{
    close(f->fd);
}

void *fuzz_exact(const void *bytes, size_t len)
{
    void *p = malloc(len ? len : 1);

    fuzz_require(p);
    if (len)
        memcpy(p, bytes, len);
    return p;
}
