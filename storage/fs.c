/* fs.c - see fs.h. */
#include "storage/fs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "storage/base/mem.h"
#include "storage/base/plant.h"

enum { DIR_MODE = 0700, FILE_MODE = 0600, COPY_BYTES = 4 << 20 };

char *fs_join(const char *dir, const char *name)
{
    size_t dir_len = strlen(dir), name_len = strlen(name);
    char *path = mem_new(dir_len + name_len + 2, 1);

    memcpy(path, dir, dir_len);
    path[dir_len] = '/';
    memcpy(path + dir_len + 1, name, name_len);
    return path;
}

char *fs_parent(const char *path)
{
    size_t len = strlen(path);

    while (len > 1 && path[len - 1] == '/')
        len--;
    while (len > 0 && path[len - 1] != '/')
        len--;
    if (len == 0)
        return mem_copy(".", 1);
    while (len > 1 && path[len - 1] == '/')
        len--;
    return mem_copy(path, len);
}

bool fs_exists(const char *path)
{
    struct stat st;

    return lstat(path, &st) == 0;
}

bool fs_is_dir(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

uint64_t fs_size(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 ? (uint64_t)st.st_size : 0;
}

static int fail(struct err *e, const char *path)
{
    return err_errno(e, errno, path);
}

int fs_make_dir(const char *path, bool may_exist, struct err *e)
{
    if (mkdir(path, DIR_MODE) == 0)
        return 0;
    if (errno == EEXIST && may_exist && fs_is_dir(path))
        return 0;
    return fail(e, path);
}

static int sync_fd(int fd, const char *path, struct err *e)
{
    int rc;

    do
        rc = fsync(fd);
    while (rc != 0 && (errno == EINTR || (errno == EIO && planted(SYNC_RETRIED))));
    if (rc == 0 || errno == EINVAL || errno == EROFS) /* it cannot sync directories, or at all */
        return 0;
    if (errno == ENOSPC || errno == EDQUOT)
        return fail(e, path);
    return err_set(e, ERR_SYNC_FAILED, "sync of %s: %s", path, strerror(errno));
}

static int sync_path(const char *path, int flags, struct err *e)
{
    int fd = open(path, flags | O_RDONLY | O_CLOEXEC);
    int rc;

    if (fd < 0)
        return fail(e, path);
    rc = sync_fd(fd, path, e);
    close(fd);
    return rc;
}

int fs_sync_dir(const char *path, struct err *e)
{
    return sync_path(path, O_DIRECTORY, e);
}

int fs_sync_file(const char *path, struct err *e)
{
    return sync_path(path, 0, e);
}

int fs_sync_parent(const char *path, struct err *e)
{
    char *dir = fs_parent(path);
    int rc = fs_sync_dir(dir, e);

    free(dir);
    return rc;
}

static int write_all(int fd, const unsigned char *bytes, size_t len, const char *path,
                     struct err *e)
{
    while (len > 0) {
        ssize_t wrote = write(fd, bytes, len);

        if (wrote < 0 && errno == EINTR)
            continue;
        if (wrote < 0)
            return fail(e, path);
        bytes += wrote;
        len -= (size_t)wrote;
    }
    return 0;
}

int fs_write_file(const char *path, const void *bytes, size_t len, struct err *e)
{
    size_t path_len = strlen(path);
    char *part = mem_new(path_len + sizeof ".part", 1);
    int fd, rc;

    memcpy(part, path, path_len);
    memcpy(part + path_len, ".part", sizeof ".part");
    fd = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, FILE_MODE);
    if (fd < 0) {
        rc = fail(e, part);
        goto out;
    }
    rc = write_all(fd, bytes, len, part, e);
    if (rc == 0)
        rc = sync_fd(fd, part, e);
    close(fd);
    if (rc == 0 && rename(part, path) != 0)
        rc = fail(e, path);
    if (rc == 0 && !planted(NAME_UNSYNCED))
        rc = fs_sync_parent(path, e);
out:
    free(part);
    return rc;
}

int fs_read_file(const char *path, char *out, size_t cap, size_t *out_len, struct err *e)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    size_t len = 0;
    int rc = 0;

    if (fd < 0)
        return fail(e, path);
    for (;;) {
        ssize_t got = read(fd, out + len, cap - len);

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            rc = fail(e, path);
        if (got <= 0)
            break;
        len += (size_t)got;
        if (len == cap) {
            rc = err_set(e, ERR_INVALID, "%s is larger than %zu bytes", path, cap - 1);
            break;
        }
    }
    close(fd);
    if (rc)
        return rc;
    out[len] = '\0';
    *out_len = len;
    return 0;
}

static int copy_bytes(int in, int to, const char *from_path, const char *to_path, fs_report *report,
                      void *arg, struct err *e)
{
    unsigned char *piece = mem_new(COPY_BYTES, 1);
    int rc = 0;

    while (rc == 0) {
        ssize_t got = read(in, piece, COPY_BYTES);

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            rc = fail(e, from_path);
        if (got <= 0)
            break;
        rc = write_all(to, piece, (size_t)got, to_path, e);
        if (rc == 0 && report && !report(arg, (uint64_t)got))
            rc = err_set(e, ERR_CANCELLED, "cancelled while copying %s", from_path);
    }
    free(piece);
    return rc;
}

int fs_copy_file(const char *from, const char *to, fs_report *report, void *arg, struct err *e)
{
    int in = open(from, O_RDONLY | O_CLOEXEC);
    int out, rc;

    if (in < 0)
        return fail(e, from);
    out = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, FILE_MODE);
    if (out < 0) {
        rc = fail(e, to);
        close(in);
        return rc;
    }
    rc = copy_bytes(in, out, from, to, report, arg, e);
    if (rc == 0 && !planted(COPY_UNSYNCED))
        rc = sync_fd(out, to, e);
    close(out);
    close(in);
    return rc;
}

struct removal {
    const char *path;
    unsigned depth;
    struct err *e;
    int rc;
};

static bool remove_entry(void *arg, const char *name)
{
    struct removal *r = arg;
    char *path = fs_join(r->path, name);
    struct stat st;

    if (lstat(path, &st) == 0 && S_ISDIR(st.st_mode)) {
        if (r->depth == 0)
            r->rc = err_set(r->e, ERR_INVALID, "%s is a directory and was not made here", path);
        else
            r->rc = fs_remove_tree(path, r->depth - 1, r->e);
    } else if (unlink(path) != 0 && errno != ENOENT) {
        r->rc = fail(r->e, path);
    }
    free(path);
    return r->rc == 0;
}

int fs_remove_tree(const char *path, unsigned depth, struct err *e)
{
    struct removal r = {.path = path, .depth = depth, .e = e};
    int rc;

    if (!fs_exists(path))
        return 0;
    rc = fs_list(path, remove_entry, &r, e);
    if (rc == 0)
        rc = r.rc;
    if (rc == 0 && rmdir(path) != 0 && errno != ENOENT)
        rc = fail(e, path);
    return rc;
}

int fs_list(const char *path, fs_visit *visit, void *arg, struct err *e)
{
    DIR *dir = opendir(path);
    const struct dirent *entry;
    int rc = 0;

    if (!dir)
        return fail(e, path);
    while ((errno = 0, entry = readdir(dir)) != NULL) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        if (!visit(arg, entry->d_name))
            break;
    }
    if (!entry && errno)
        rc = fail(e, path);
    closedir(dir);
    return rc;
}
