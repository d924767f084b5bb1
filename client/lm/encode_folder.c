/* encode_folder.c - see encode_folder.h. A lane lets the disk write one file while the next batch
 * is computed. */
#include "client/lm/encode_folder.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/lm/tensorfile.h"
#include "storage/base/mem.h"

static const char extension[] = ".safetensors";

struct lane {
    const char *folder;
    struct tensorfile_half half; /* the file that the disk is still at */
};

static int path_of(const char *folder, const char *name, const char *tail, char out[PATH_MAX],
                   struct err *e)
{
    int len = snprintf(out, PATH_MAX, "%s/%s%s", folder, name, tail);

    if (len < 0 || len >= PATH_MAX)
        return err_set(e, ERR_INVALID, "path of %d bytes is too long", len);
    return 0;
}

/* The two tensors of a batch file. */
static void lay_out(const struct encode_batch *b, struct tensorfile_tensor out[2])
{
    out[0] = (struct tensorfile_tensor){.name = "gradients",
                                        .dtype = dtype_tensor_name(b->dtype),
                                        .shape = {b->rows, b->dim},
                                        .dims = 2,
                                        .bytes = b->rows * b->dim * dtype_size(b->dtype),
                                        .data = b->gradients};
    out[1] = (struct tensorfile_tensor){.name = "examples",
                                        .dtype = "U8",
                                        .shape = {b->lines_len},
                                        .dims = 1,
                                        .bytes = b->lines_len,
                                        .data = b->lines};
}

/* corpus.json: written when absent; another one there means that the folder is in use. */
static int claim(const char *folder, const struct buf *corpus, struct err *e)
{
    char path[PATH_MAX], *old = NULL;
    size_t room = 0;
    ssize_t len;
    FILE *file;
    int rc = path_of(folder, "corpus", ".json", path, e);

    if (rc)
        return rc;
    if (mkdir(folder, 0755) && errno != EEXIST)
        return err_errno(e, errno, folder);
    file = fopen(path, "re");
    if (!file && errno != ENOENT)
        return err_errno(e, errno, path);
    if (!file)
        return tensorfile_write_bytes(path, corpus->data, corpus->len, e);
    len = getdelim(&old, &room, '\0', file);
    if (len != (ssize_t)corpus->len || memcmp(old, corpus->data, corpus->len) != 0)
        rc = err_set(e, ERR_CONFLICT, "%s is of another model or other options: use another folder",
                     path);
    free(old);
    fclose(file);
    return rc;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(a, b);
}

/* Batch files that are none of ours would be ingested with ours; halves of a killed run go. */
static int sweep_entry(const char *folder, const char *entry, char (*names)[ENCODE_NAME_MAX],
                       size_t count, struct err *e)
{
    char key[ENCODE_NAME_MAX] = "", path[PATH_MAX];
    const char *dot = strchr(entry, '.');
    int rc;

    if (entry[0] != 'b' || !dot || strncmp(dot, extension, sizeof extension - 1) != 0 ||
        (size_t)(dot - entry) >= sizeof key)
        return 0;
    memcpy(key, entry, (size_t)(dot - entry));
    if (dot[sizeof extension - 1] == '.') {
        rc = path_of(folder, entry, "", path, e);
        if (!rc)
            unlink(path);
        return rc;
    }
    if (bsearch(key, names, count, sizeof names[0], by_name))
        return 0;
    return err_set(e, ERR_CONFLICT, "%s holds %.80s, which is of other data: use another folder",
                   folder, entry);
}

static int prepare(void *ctx, const struct buf *corpus, char (*names)[ENCODE_NAME_MAX],
                   size_t count, struct err *e)
{
    const char *folder = ctx;
    const struct dirent *entry;
    int rc = claim(folder, corpus, e);
    DIR *dir;

    if (rc)
        return rc;
    dir = opendir(folder);
    if (!dir)
        return err_errno(e, errno, folder);
    while (!rc && (entry = readdir(dir)))
        rc = sweep_entry(folder, entry->d_name, names, count, e);
    closedir(dir);
    return rc;
}

static int open_lane(void *ctx, void **out_lane, struct err *e)
{
    struct lane *l = mem_new(1, sizeof *l);

    (void)e;
    l->folder = ctx;
    l->half.fd = -1;
    *out_lane = l;
    return 0;
}

/* A file under its final name was renamed there whole; the size check is against foreign hands. */
static bool has(void *lane, const struct encode_batch *b)
{
    const struct lane *l = lane;
    struct tensorfile_tensor tensors[2];
    char path[PATH_MAX];
    struct err e = ERR_INIT;
    struct stat st;

    lay_out(b, tensors);
    return path_of(l->folder, b->name, extension, path, &e) == 0 && stat(path, &st) == 0 &&
           S_ISREG(st.st_mode) && (size_t)st.st_size == tensorfile_size(NULL, 0, tensors, 2);
}

static int settle(void *lane, struct err *e)
{
    struct lane *l = lane;

    return l->half.fd < 0 ? 0 : tensorfile_finish(&l->half, e);
}

static int put(void *lane, const struct encode_batch *b, struct err *e)
{
    struct lane *l = lane;
    struct tensorfile_tensor tensors[2];
    struct tensorfile_half half;
    char path[PATH_MAX];
    int rc = path_of(l->folder, b->name, extension, path, e);

    if (rc)
        return rc;
    lay_out(b, tensors);
    rc = tensorfile_begin(&half, path, NULL, 0, tensors, 2, e);
    if (rc)
        return rc;
    rc = settle(l, e); /* the one before */
    l->half = half;
    return rc;
}

static void close_lane(void *lane)
{
    struct lane *l = lane;

    if (l)
        tensorfile_drop(&l->half);
    free(l);
}

struct encode_sink encode_folder(char *folder)
{
    return (struct encode_sink){.ctx = folder,
                                .prepare = prepare,
                                .open = open_lane,
                                .has = has,
                                .put = put,
                                .settle = settle,
                                .close = close_lane};
}
