/* body.c - a request's body: up to four parts, each in memory or a stretch of a file, read at any
 * offset (so that a retry starts again), hashed, or written to disk. A file's part is read in
 * pieces and never held whole. Reading changes nothing here: any number of threads.
 */
#include "client/inner.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <xxhash.h>

void asc__body_part(struct asc__body *b, const void *data, uint64_t len)
{
    b->part[b->count++] = (struct asc__part){.data = data, .fd = -1, .len = len};
    b->len += len;
}

void asc__body_file(struct asc__body *b, int fd, uint64_t offset, uint64_t len)
{
    b->part[b->count++] = (struct asc__part){.fd = fd, .offset = offset, .len = len};
    b->len += len;
}

void asc__body_free(struct asc__body *b)
{
    free(b->head);
    free(b->text);
    *b = (struct asc__body){0};
}

/* Up to `len` bytes of one part. */
static int64_t part_read(const struct asc__part *p, uint64_t at, void *out, size_t len)
{
    ssize_t got;

    if (len > p->len - at)
        len = (size_t)(p->len - at);
    if (p->fd < 0) {
        memcpy(out, (const char *)p->data + at, len);
        return (int64_t)len;
    }
    do
        got = pread(p->fd, out, len, (off_t)(p->offset + at));
    while (got < 0 && errno == EINTR);
    if (got == 0 && len > 0) {
        errno = EIO; /* the file became shorter than it was when it was opened */
        return -1;
    }
    return got;
}

int64_t asc__body_read(const struct asc__body *b, uint64_t at, void *out, size_t len)
{
    char *to = out;
    size_t done = 0;

    for (unsigned i = 0; i < b->count && done < len;) {
        const struct asc__part *p = &b->part[i];
        int64_t got;

        if (at >= p->len) {
            at -= p->len;
            i++;
            continue;
        }
        got = part_read(p, at, to + done, len - done);
        if (got < 0)
            return -1;
        at += (uint64_t)got;
        done += (size_t)got;
    }
    return (int64_t)done;
}

/* Hands the body out in pieces. */
static int each_piece(const struct asc__body *b, int (*take)(void *user, const void *, size_t),
                      void *user, struct asc_error *e)
{
    char *piece = malloc(ASC__PIECE);
    uint64_t at = 0;
    int rc = 0;

    if (!piece)
        return asc__no_memory(e, ASC__PIECE);
    while (rc == 0 && at < b->len) {
        int64_t got = asc__body_read(b, at, piece, ASC__PIECE);

        if (got <= 0)
            rc = asc__fail_errno(e, ASC_INPUT, got < 0 ? errno : EIO, "read the body");
        else if (take(user, piece, (size_t)got) != 0)
            rc = asc__fail_errno(e, ASC_INPUT, errno, "write the body");
        else
            at += (uint64_t)got;
    }
    free(piece);
    return rc;
}

static int hash_piece(void *user, const void *bytes, size_t len)
{
    return XXH64_update(user, bytes, len) == XXH_OK ? 0 : -1;
}

int asc__body_hash(const struct asc__body *b, uint64_t *out, struct asc_error *e)
{
    XXH64_state_t *state = XXH64_createState();
    int rc;

    if (!state)
        return asc__no_memory(e, sizeof(uint64_t) * 16);
    XXH64_reset(state, 0);
    rc = each_piece(b, hash_piece, state, e);
    if (rc == 0)
        *out = XXH64_digest(state);
    XXH64_freeState(state);
    return rc;
}

static int content_piece(void *user, const void *bytes, size_t len)
{
    XXH3_128bits_update(user, bytes, len);
    return 0;
}

int asc__body_content(const struct asc__body *b, char out[ASC_HASH_MAX + 1], struct asc_error *e)
{
    XXH3_state_t *state = XXH3_createState();
    XXH128_canonical_t hash;
    int rc;

    if (!state)
        return asc__no_memory(e, sizeof hash);
    XXH3_128bits_reset(state);
    rc = each_piece(b, content_piece, state, e);
    XXH128_canonicalFromHash(&hash, XXH3_128bits_digest(state));
    XXH3_freeState(state);
    for (size_t i = 0; rc == 0 && i < sizeof hash.digest; i++)
        snprintf(out + 2 * i, 3, "%02x", hash.digest[i]);
    return rc;
}

static int write_piece(void *user, const void *bytes, size_t len)
{
    const int *fd = user;
    const char *p = bytes;

    while (len > 0) {
        ssize_t put = write(*fd, p, len);

        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return -1;
        p += put;
        len -= (size_t)put;
    }
    return 0;
}

int asc__body_save(const struct asc__body *b, const char *path, struct asc_error *e)
{
    struct asc__save save;
    int rc = asc__save_open(&save, path, e);

    if (rc != 0)
        return rc;
    rc = each_piece(b, write_piece, &save.fd, e);
    return asc__save_close(&save, rc, e);
}

/* --- Files that appear whole or not at all ---------------------------------------------------- */

int asc__save_open(struct asc__save *s, const char *path, struct asc_error *e)
{
    size_t room = strlen(path) + 64;
    struct timespec now;

    *s = (struct asc__save){.fd = -1};
    s->path = strdup(path);
    s->temporary = malloc(room);
    if (!s->path || !s->temporary) {
        asc__save_close(s, ASC_MEMORY, NULL);
        return asc__no_memory(e, room);
    }
    clock_gettime(CLOCK_REALTIME, &now);
    snprintf(s->temporary, room, "%s.part-%ld-%09ld", path, (long)getpid(), now.tv_nsec);
    s->fd = open(s->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (s->fd < 0) {
        int rc = asc__fail_errno(e, ASC_INPUT, errno, path);

        asc__save_close(s, rc, NULL);
        return rc;
    }
    return 0;
}

int asc__save_write(struct asc__save *s, const void *bytes, size_t len, struct asc_error *e)
{
    return write_piece(&s->fd, bytes, len) == 0 ? 0 : asc__fail_errno(e, ASC_INPUT, errno, s->path);
}

static int sync_folder(const char *path)
{
    char *copy = strdup(path);
    int fd = copy ? open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    int rc = fd >= 0 ? fsync(fd) : -1;

    if (fd >= 0)
        close(fd);
    free(copy);
    return rc;
}

int asc__save_close(struct asc__save *s, int rc, struct asc_error *e)
{
    if (s->fd >= 0) {
        if (rc == 0 && (fsync(s->fd) != 0 || rename(s->temporary, s->path) != 0 ||
                        sync_folder(s->path) != 0))
            rc = asc__fail_errno(e, ASC_INPUT, errno, s->path);
        if (rc != 0)
            unlink(s->temporary);
        close(s->fd);
    }
    free(s->path);
    free(s->temporary);
    *s = (struct asc__save){.fd = -1};
    return rc;
}
