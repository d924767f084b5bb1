/* matrix.c - a matrix in a .npy or safetensors file: opened, checked, read in pieces with pread.
 * Not mapped, so that a file that becomes shorter is an error and never a signal. Reading is safe
 * from several threads.
 */
#include "client/inner.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int asc__file_open(const char *path, uint64_t *out_size, struct asc_error *e)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO would wait for ever */

    if (fd < 0 || fstat(fd, &st) != 0) {
        asc__fail_errno(e, ASC_INPUT, errno, path);
        if (fd >= 0)
            close(fd);
        return -1;
    }
    if (!S_ISREG(st.st_mode)) {
        asc__fail(e, ASC_INPUT, "not_a_file", "%s: not a regular file", path);
        close(fd);
        return -1;
    }
    *out_size = (uint64_t)st.st_size;
    return fd;
}

int asc__file_read(int fd, uint64_t offset, void *out, size_t len, struct asc_error *e)
{
    char *to = out;

    while (len > 0) {
        ssize_t got = pread(fd, to, len, (off_t)offset);

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return asc__fail_errno(e, ASC_INPUT, errno, "read");
        if (got == 0)
            return asc__fail(e, ASC_INPUT, "short_file", "the file ends at byte %llu, %zu before "
                             "what is wanted", (unsigned long long)offset, len);
        to += got;
        offset += (uint64_t)got;
        len -= (size_t)got;
    }
    return 0;
}

static int open_npy(struct asc_matrix *m, const char *tensor, struct asc_error *e)
{
    size_t len = ASC__NPY_HEADER_MAX + 12;
    unsigned char *head;
    struct asc__npy npy;
    int rc;

    if (tensor)
        return asc__fail(e, ASC_ARGUMENT, "bad_tensor", "a .npy has no tensor named %.64s", tensor);
    if (len > m->file_size)
        len = (size_t)m->file_size;
    head = malloc(len);
    if (!head)
        return asc__no_memory(e, len);
    rc = asc__file_read(m->fd, 0, head, len, e);
    if (rc == 0)
        rc = asc__npy_parse(head, len, m->file_size, &npy, e);
    free(head);
    if (rc != 0)
        return rc;
    m->rows = npy.rows;
    m->dim = npy.dim;
    m->dtype = npy.dtype;
    m->offset = npy.data_offset;
    return 0;
}

static const struct asc__tensor *choose(const struct asc__tensors *t, const char *name)
{
    const struct asc__tensor *found;

    if (name)
        return asc__tensors_find(t, name);
    found = asc__tensors_find(t, "gradients");
    if (!found)
        found = asc__tensors_find(t, "queries");
    return found || t->count != 1 ? found : &t->list[0];
}

static int open_tensor(struct asc_matrix *m, const char *name, struct asc_error *e)
{
    struct asc__tensors all;
    const struct asc__tensor *t;
    int rc = asc__tensors_read(m->fd, m->file_size, &all, e);

    if (rc != 0)
        return rc;
    t = choose(&all, name);
    if (!t)
        rc = asc__fail(e, ASC_INPUT, "no_tensor", "there is no tensor %.64s among %zu; name one",
                       name ? name : "\"gradients\" or \"queries\"", all.count);
    else if (!asc__dtype_parse(t->dtype, &m->dtype))
        rc = asc__fail(e, ASC_INPUT, "wrong_dtype", "tensor %s: %s; F32, F16 and BF16 are taken",
                       t->name, t->dtype);
    else if (t->rank != 1 && t->rank != 2)
        rc = asc__fail(e, ASC_INPUT, "wrong_rank", "tensor %s: %u dimensions; a matrix has 2",
                       t->name, t->rank);
    if (rc == 0) {
        m->rows = t->rank == 2 ? t->shape[0] : 1;
        m->dim = t->shape[t->rank - 1];
        m->offset = t->begin;
    }
    asc__tensors_free(&all);
    return rc;
}

static int64_t mtime_ns(const struct stat *st)
{
    return (int64_t)st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec;
}

static int open_file(const char *path, struct asc_matrix **out, struct asc_error *e)
{
    struct asc_matrix *m = calloc(1, sizeof *m);
    struct stat st;

    if (!m || !(m->path = strdup(path))) {
        free(m);
        return asc__no_memory(e, sizeof *m);
    }
    m->fd = asc__file_open(path, &m->file_size, e);
    if (m->fd < 0) {
        asc_matrix_close(m);
        return ASC_INPUT;
    }
    if (fstat(m->fd, &st) == 0)
        m->mtime_ns = mtime_ns(&st);
    *out = m;
    return 0;
}

int asc_matrix_open_raw(const char *path, uint64_t dim, enum asc_dtype dtype,
                        struct asc_matrix **out, struct asc_error *e)
{
    struct asc_matrix *m;
    uint64_t row;
    int rc;

    if (asc_dtype_size(dtype) == 0 || dim < 1 ||
        __builtin_mul_overflow(dim, asc_dtype_size(dtype), &row))
        return asc__fail(e, ASC_ARGUMENT, "bad_shape", "rows of dim %llu",
                         (unsigned long long)dim);
    rc = open_file(path, &m, e);
    if (rc != 0)
        return rc;
    if (m->file_size % row != 0) {
        rc = asc__fail(e, ASC_INPUT, "wrong_size", "%.300s: %llu bytes are not a whole number of "
                       "rows of dim %llu, %s (%llu bytes each)", path,
                       (unsigned long long)m->file_size, (unsigned long long)dim,
                       asc_dtype_name(dtype), (unsigned long long)row);
        asc_matrix_close(m);
        return rc;
    }
    m->rows = m->file_size / row;
    m->dim = dim;
    m->dtype = dtype;
    *out = m;
    return 0;
}

int asc_matrix_open(const char *path, const char *tensor, struct asc_matrix **out,
                    struct asc_error *e)
{
    unsigned char magic[6] = {0};
    struct asc_matrix *m;
    int rc = open_file(path, &m, e);

    if (rc != 0)
        return rc;
    rc = asc__file_read(m->fd, 0, magic, m->file_size < 6 ? (size_t)m->file_size : 6, e);
    if (rc == 0)
        rc = memcmp(magic, "\x93NUMPY", 6) == 0 ? open_npy(m, tensor, e)
                                                 : open_tensor(m, tensor, e);
    if (rc != 0) {
        asc__wrap(e, "%.300s: ", path);
        asc_matrix_close(m);
        return rc;
    }
    *out = m;
    return 0;
}

void asc_matrix_close(struct asc_matrix *m)
{
    if (!m)
        return;
    if (m->fd >= 0)
        close(m->fd);
    free(m->path);
    free(m);
}

uint64_t asc_matrix_rows(const struct asc_matrix *m)
{
    return m->rows;
}

uint64_t asc_matrix_dim(const struct asc_matrix *m)
{
    return m->dim;
}

enum asc_dtype asc_matrix_dtype(const struct asc_matrix *m)
{
    return m->dtype;
}

int asc__matrix_unchanged(const struct asc_matrix *m, struct asc_error *e)
{
    struct stat st;

    if (fstat(m->fd, &st) != 0)
        return asc__fail_errno(e, ASC_INPUT, errno, m->path);
    if ((uint64_t)st.st_size != m->file_size || mtime_ns(&st) != m->mtime_ns)
        return asc__fail(e, ASC_INPUT, "file_changed", "%.300s: changed while it was read",
                         m->path);
    return 0;
}

int asc_matrix_read(const struct asc_matrix *m, uint64_t first, uint64_t count, void *out,
                    struct asc_error *e)
{
    uint64_t row = m->dim * asc_dtype_size(m->dtype);

    if (first > m->rows || count > m->rows - first)
        return asc__fail(e, ASC_ARGUMENT, "bad_rows", "rows %llu to %llu of a matrix of %llu",
                         (unsigned long long)first, (unsigned long long)(first + count),
                         (unsigned long long)m->rows);
    return asc__file_read(m->fd, m->offset + first * row, out, (size_t)(count * row), e);
}

int asc_tensor_read(const char *path, const char *tensor,
                    int (*sink)(void *user, const void *bytes, size_t len), void *user,
                    struct asc_error *e)
{
    struct asc__tensors all = {0};
    const struct asc__tensor *t;
    uint64_t size;
    char *piece = malloc(ASC__PIECE);
    int fd = asc__file_open(path, &size, e), rc = fd < 0 ? ASC_INPUT : 0;

    if (rc == 0 && !piece)
        rc = asc__no_memory(e, ASC__PIECE);
    if (rc == 0)
        rc = asc__tensors_read(fd, size, &all, e);
    t = rc == 0 ? asc__tensors_find(&all, tensor) : NULL;
    if (rc == 0 && !t)
        rc = asc__fail(e, ASC_INPUT, "no_tensor", "%.300s: there is no tensor %.64s", path, tensor);
    for (uint64_t at = t ? t->begin : 0; rc == 0 && at < t->end;) {
        size_t len = t->end - at < ASC__PIECE ? (size_t)(t->end - at) : ASC__PIECE;

        rc = asc__file_read(fd, at, piece, len, e);
        if (rc == 0 && sink(user, piece, len) != 0)
            rc = asc__fail(e, ASC_ABORTED, "aborted", "stopped by the receiver");
        at += len;
    }
    asc__tensors_free(&all);
    free(piece);
    if (fd >= 0)
        close(fd);
    return rc;
}
