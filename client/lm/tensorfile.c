/* tensorfile.c - see tensorfile.h. */
#include "client/lm/tensorfile.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "storage/base/check.h"
#include "storage/base/mem.h"

void tensorfile_header(struct buf *out, const struct tensorfile_fact *facts, size_t fact_count,
                       const struct tensorfile_tensor *tensors, size_t count)
{
    size_t start = out->len, at = 0;
    uint64_t zero = 0;

    buf_add(out, &zero, sizeof zero);
    buf_add_text(out, "{");
    if (fact_count)
        buf_add_text(out, "\"__metadata__\":{");
    for (size_t i = 0; i < fact_count; i++)
        buf_format(out, "%s\"%s\":\"%s\"", i ? "," : "", facts[i].name, facts[i].value);
    if (fact_count)
        buf_add_text(out, "},");
    for (size_t i = 0; i < count; i++) {
        const struct tensorfile_tensor *t = &tensors[i];
        buf_format(out, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[%zu", i ? "," : "", t->name,
                   t->dtype, t->shape[0]);
        if (t->dims == 2)
            buf_format(out, ",%zu", t->shape[1]);
        buf_format(out, "],\"data_offsets\":[%zu,%zu]}", at, at + t->bytes);
        at += t->bytes;
    }
    buf_add_text(out, "}");
    while (!out->failed && (out->len - start) % 8)
        buf_add_text(out, " ");
    if (!out->failed)
        bytes_put_le64(out->data + start, out->len - start - 8);
}

size_t tensorfile_size(const struct tensorfile_fact *facts, size_t fact_count,
                       const struct tensorfile_tensor *tensors, size_t count)
{
    struct buf header = {0};
    size_t size;

    tensorfile_header(&header, facts, fact_count, tensors, count);
    require(!header.failed);
    size = header.len;
    buf_free(&header);
    for (size_t i = 0; i < count; i++)
        size += tensors[i].bytes;
    return size;
}

static int write_all(int fd, const void *bytes, size_t len, struct err *e)
{
    const char *p = bytes;

    while (len) {
        ssize_t done = write(fd, p, len);
        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0)
            return err_errno(e, errno, "write");
        p += done;
        len -= (size_t)done;
    }
    return 0;
}

static int sync_folder(const char *path, struct err *e)
{
    char copy[PATH_MAX];
    int fd, rc = 0;

    snprintf(copy, sizeof copy, "%s", path);
    fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(e, errno, "open the folder");
    if (fsync(fd))
        rc = err_errno(e, errno, "sync the folder");
    close(fd);
    return rc;
}

struct part {
    const void *bytes;
    size_t len;
};

static void forget(struct tensorfile_half *half)
{
    free(half->path);
    free(half->temporary);
    *half = (struct tensorfile_half){.fd = -1};
}

void tensorfile_drop(struct tensorfile_half *half)
{
    if (half->fd >= 0) {
        close(half->fd);
        unlink(half->temporary);
    }
    forget(half);
}

static int begin_parts(struct tensorfile_half *half, const char *path, const struct part *parts,
                       size_t count, struct err *e)
{
    const size_t room = strlen(path) + sizeof ".XXXXXX";
    int rc = 0;

    half->path = mem_copy(path, strlen(path));
    half->temporary = mem_new(room, 1);
    snprintf(half->temporary, room, "%s.XXXXXX", path);
    half->fd = mkostemp(half->temporary, O_CLOEXEC);
    if (half->fd < 0)
        rc = err_errno(e, errno, "make a file");
    for (size_t i = 0; i < count && !rc; i++)
        rc = write_all(half->fd, parts[i].bytes, parts[i].len, e);
    if (!rc && fchmod(half->fd, 0644))
        rc = err_errno(e, errno, "set the mode");
    if (rc) {
        err_wrap(e, "%s: ", path);
        tensorfile_drop(half);
        return rc;
    }
    sync_file_range(half->fd, 0, 0, SYNC_FILE_RANGE_WRITE); /* only a hint: fsync decides */
    return 0;
}

int tensorfile_finish(struct tensorfile_half *half, struct err *e)
{
    int rc = 0;

    if (fsync(half->fd))
        rc = err_errno(e, errno, "sync");
    if (!rc && rename(half->temporary, half->path))
        rc = err_errno(e, errno, "rename");
    if (rc) {
        err_wrap(e, "%s: ", half->path);
        tensorfile_drop(half);
        return rc;
    }
    close(half->fd);
    rc = sync_folder(half->path, e);
    forget(half);
    return rc;
}

int tensorfile_begin(struct tensorfile_half *half, const char *path,
                     const struct tensorfile_fact *facts, size_t fact_count,
                     const struct tensorfile_tensor *tensors, size_t count, struct err *e)
{
    struct buf header = {0};
    struct part *parts = mem_new(count + 1, sizeof *parts);
    int rc;

    *half = (struct tensorfile_half){.fd = -1};
    tensorfile_header(&header, facts, fact_count, tensors, count);
    parts[0] = (struct part){header.data, header.len};
    for (size_t i = 0; i < count; i++)
        parts[i + 1] = (struct part){tensors[i].data, tensors[i].bytes};
    if (header.failed)
        rc = err_set(e, ERR_BUSY, "no memory for a header of %zu tensors", count);
    else
        rc = begin_parts(half, path, parts, count + 1, e);
    buf_free(&header);
    free(parts);
    return rc;
}

int tensorfile_write(const char *path, const struct tensorfile_fact *facts, size_t fact_count,
                     const struct tensorfile_tensor *tensors, size_t count, struct err *e)
{
    struct tensorfile_half half;
    int rc = tensorfile_begin(&half, path, facts, fact_count, tensors, count, e);

    return rc ? rc : tensorfile_finish(&half, e);
}

int tensorfile_write_bytes(const char *path, const void *bytes, size_t len, struct err *e)
{
    const struct part part = {bytes, len};
    struct tensorfile_half half = {.fd = -1};
    int rc = begin_parts(&half, path, &part, 1, e);

    return rc ? rc : tensorfile_finish(&half, e);
}
