/* artifact.c - see artifact.h. The life of one file; what the ledger says of it is in
 * storage/state.c. */
#include "storage/artifact.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "storage/artifact_file.h"
#include "storage/base/bytes.h"
#include "storage/base/check.h"
#include "storage/base/mem.h"
#include "storage/catalog.h"
#include "storage/hash.h"

/* Head, little-endian (docs/format.md). The sum covers the head up to itself and the table of
 * pieces, so a file in another's place is caught as well as a flipped bit. */
enum {
    AT_MAGIC = 0,
    AT_VERSION = 4,
    AT_ID = 8,
    AT_BYTES = 16,
    AT_PIECE = 24,
    AT_SUM = 32,
    HEAD = 64,
    VERSION = 1,
    PIECE = 4 << 20,
};
static const unsigned char magic[4] = {'a', 's', 'c', 'a'};

struct artifact {
    atomic_uint refs;
    struct store *store;
    uint64_t id, bytes;
    char *path; /* owned */
    atomic_bool doomed;
    pthread_mutex_t lock; /* guards the rest */
    unsigned char *map;   /* NULL until the first artifact_map */
    size_t map_len;
    uint64_t round; /* of checks: when it was last right */
};

struct artifact_writer {
    struct store *store;
    uint64_t id, bytes;
    char *path; /* owned */
    int fd;
    unsigned char *piece; /* PIECE bytes, owned */
    size_t filled;
    struct buf sums; /* HASH_BYTES a piece */
    bool finished;
};

static char *path_of(const struct store *s, uint64_t id)
{
    char name[32], *dir = fs_join(s->dir, ARTIFACT_DIR), *path;

    snprintf(name, sizeof name, "%06" PRIu64, id);
    path = fs_join(dir, name);
    free(dir);
    return path;
}

static uint64_t piece_count(uint64_t bytes)
{
    return (bytes + PIECE - 1) / PIECE;
}

uint64_t artifact_file_bytes(uint64_t bytes)
{
    return HEAD + bytes + piece_count(bytes) * HASH_BYTES;
}

/* Of one piece, with its place. */
static void piece_sum(uint64_t id, uint64_t number, const void *bytes, size_t len,
                      unsigned char out[HASH_BYTES])
{
    unsigned char place[16];
    struct hash h;

    bytes_put_le64(place, id);
    bytes_put_le64(place + 8, number);
    hash_begin(&h);
    hash_add(&h, place, sizeof place);
    hash_add(&h, bytes, len);
    hash_end(&h, out);
}

static void head_sum(const unsigned char *head, const void *sums, size_t len,
                     unsigned char out[HASH_BYTES])
{
    struct hash h;

    hash_begin(&h);
    hash_add(&h, head, AT_SUM);
    hash_add(&h, sums, len);
    hash_end(&h, out);
}

static void fill_head(unsigned char head[HEAD], uint64_t id, uint64_t bytes)
{
    memset(head, 0, HEAD);
    memcpy(head + AT_MAGIC, magic, sizeof magic);
    bytes_put_le32(head + AT_VERSION, VERSION);
    bytes_put_le64(head + AT_ID, id);
    bytes_put_le64(head + AT_BYTES, bytes);
    bytes_put_le64(head + AT_PIECE, PIECE);
}

/* ---- Writing --------------------------------------------------------------------------------- */

static int make_dir(struct store *s, struct err *e)
{
    char *dir = fs_join(s->dir, ARTIFACT_DIR);
    bool is_new = !fs_is_dir(dir);
    int rc = fs_make_dir(dir, true, e);

    if (rc == 0 && is_new)
        rc = fs_sync_parent(dir, e);
    free(dir);
    return rc;
}

int artifact_begin(struct store *s, struct artifact_writer **out, struct err *e)
{
    struct artifact_writer *w;
    unsigned char *piece;

    if (catalog_may_write(s, e) || make_dir(s, e))
        return (int)e->code;
    piece = mem_big(PIECE, 1);
    if (!piece)
        return err_set(e, ERR_BUSY, "no memory for a piece of an artifact");
    w = mem_new(1, sizeof *w);
    *w = (struct artifact_writer){.store = s, .piece = piece};
    w->id = atomic_fetch_add(&s->next_artifact, 1);
    w->path = path_of(s, w->id);
    w->fd = open(w->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (w->fd < 0 || lseek(w->fd, HEAD, SEEK_SET) < 0) {
        (void)err_errno(e, errno, w->path);
        artifact_writer_end(w);
        return (int)e->code;
    }
    *out = w;
    return 0;
}

static int write_all(struct artifact_writer *w, const unsigned char *bytes, size_t len,
                     struct err *e)
{
    while (len > 0) {
        ssize_t wrote = write(w->fd, bytes, len);

        if (wrote < 0 && errno == EINTR)
            continue;
        if (wrote < 0)
            return err_errno(e, errno, w->path);
        bytes += wrote;
        len -= (size_t)wrote;
    }
    return 0;
}

static int flush(struct artifact_writer *w, struct err *e)
{
    unsigned char sum[HASH_BYTES];

    if (w->filled == 0)
        return 0;
    piece_sum(w->id, w->sums.len / HASH_BYTES, w->piece, w->filled, sum);
    buf_add(&w->sums, sum, sizeof sum);
    w->bytes += w->filled;
    if (w->sums.failed)
        return err_set(e, ERR_BUSY, "no memory for the checksums of an artifact");
    if (write_all(w, w->piece, w->filled, e))
        return (int)e->code;
    w->filled = 0;
    return 0;
}

int artifact_add(struct artifact_writer *w, const void *bytes, size_t len, struct err *e)
{
    const unsigned char *from = bytes;

    while (len > 0) {
        size_t room = PIECE - w->filled, step = len < room ? len : room;

        memcpy(w->piece + w->filled, from, step);
        w->filled += step;
        from += step;
        len -= step;
        if (w->filled == PIECE && flush(w, e))
            return (int)e->code;
    }
    return 0;
}

/* A failed sync latches the store: the kernel may have dropped the pages (storage/db.h). */
static int sync_file(struct artifact_writer *w, struct err *e)
{
    char *dir = fs_join(w->store->dir, ARTIFACT_DIR);
    int rc = fs_sync_file(w->path, e);

    if (rc == 0)
        rc = fs_sync_dir(dir, e);
    if (rc == ERR_SYNC_FAILED)
        atomic_store(&w->store->latch.failed, true);
    free(dir);
    return rc;
}

int artifact_finish(struct artifact_writer *w, struct artifact **out, struct err *e)
{
    unsigned char head[HEAD];
    int rc = flush(w, e);

    if (rc == 0)
        rc = write_all(w, w->sums.data, w->sums.len, e);
    fill_head(head, w->id, w->bytes);
    head_sum(head, w->sums.data, w->sums.len, head + AT_SUM);
    if (rc == 0 && lseek(w->fd, 0, SEEK_SET) < 0)
        rc = err_errno(e, errno, w->path);
    if (rc == 0)
        rc = write_all(w, head, HEAD, e);
    if (rc == 0)
        rc = sync_file(w, e);
    if (rc)
        return rc;
    w->finished = true;
    *out = artifact_new(w->store, w->id, w->bytes);
    artifact_doom(*out);
    return 0;
}

void artifact_writer_end(struct artifact_writer *w)
{
    if (!w)
        return;
    if (w->fd >= 0)
        close(w->fd);
    if (!w->finished && w->fd >= 0)
        (void)unlink(w->path); /* what stays is removed at the next open */
    buf_free(&w->sums);
    free(w->piece);
    free(w->path);
    free(w);
}

/* ---- Handles --------------------------------------------------------------------------------- */

struct artifact *artifact_new(struct store *s, uint64_t id, uint64_t bytes)
{
    struct artifact *a = mem_new(1, sizeof *a);

    atomic_init(&a->refs, 1);
    a->store = s;
    a->id = id;
    a->bytes = bytes;
    a->path = path_of(s, id);
    pthread_mutex_init(&a->lock, NULL);
    return a;
}

void artifact_retain(struct artifact *a)
{
    atomic_fetch_add(&a->refs, 1);
}

/* While a backup may be copying, the file stays: the next open removes it. */
static void remove_file(struct artifact *a)
{
    struct shard_home *h = &a->store->home;

    pthread_mutex_lock(&h->lock);
    if (h->holds == 0)
        (void)unlink(a->path);
    pthread_mutex_unlock(&h->lock);
}

void artifact_release(struct artifact *a)
{
    if (!a || atomic_fetch_sub(&a->refs, 1) != 1)
        return;
    if (a->map)
        munmap(a->map, a->map_len);
    if (atomic_load(&a->doomed))
        remove_file(a);
    pthread_mutex_destroy(&a->lock);
    free(a->path);
    free(a);
}

void artifact_doom(struct artifact *a)
{
    atomic_store(&a->doomed, true);
}

void artifact_adopt(struct artifact *a)
{
    atomic_store(&a->doomed, false);
}

uint64_t artifact_id(const struct artifact *a)
{
    return a->id;
}

uint64_t artifact_bytes(const struct artifact *a)
{
    return a->bytes;
}

/* ---- Reading --------------------------------------------------------------------------------- */

static int damage(const struct artifact *a, const char *what, struct err *e)
{
    return err_set(e, ERR_CORRUPT, "artifact %06" PRIu64 ": %s", a->id, what);
}

static int check_file(const struct artifact *a, const unsigned char *file, artifact_report *report,
                 void *arg, struct err *e)
{
    const unsigned char *payload = file + HEAD, *sums = payload + a->bytes;
    unsigned char head[HEAD], sum[HASH_BYTES];
    uint64_t pieces = piece_count(a->bytes);

    fill_head(head, a->id, a->bytes);
    head_sum(head, sums, (size_t)pieces * HASH_BYTES, head + AT_SUM);
    if (memcmp(head, file, HEAD) != 0)
        return damage(a, "head or table of checksums is damaged, or the file belongs elsewhere", e);
    for (uint64_t i = 0; i < pieces; i++) {
        uint64_t left = a->bytes - i * PIECE;
        size_t len = left < PIECE ? (size_t)left : PIECE;

        piece_sum(a->id, i, payload + i * PIECE, len, sum);
        if (memcmp(sum, sums + i * HASH_BYTES, HASH_BYTES) != 0)
            return err_set(e, ERR_CORRUPT, "artifact %06" PRIu64 ": piece %" PRIu64 " of %" PRIu64
                           " is damaged", a->id, i, pieces);
        if (report && !report(arg, len))
            return err_set(e, ERR_CANCELLED, "stopped at piece %" PRIu64 " of %" PRIu64, i, pieces);
    }
    return 0;
}

static int open_map(struct artifact *a, unsigned char **out, size_t *out_len, struct err *e)
{
    int fd = open(a->path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    void *map;

    if (fd < 0 && errno == ENOENT)
        return damage(a, "the file is missing", e);
    if (fd < 0)
        return err_errno(e, errno, a->path);
    if (fstat(fd, &st) != 0 || (uint64_t)st.st_size != artifact_file_bytes(a->bytes)) {
        close(fd);
        return damage(a, "the file has another length than the ledger says", e);
    }
    map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
    if (map == MAP_FAILED)
        return err_errno(e, errno, a->path);
    *out = map;
    *out_len = (size_t)st.st_size;
    return 0;
}

int artifact_check(struct artifact *a, artifact_report *report, void *arg, struct err *e)
{
    unsigned char *map;
    size_t len;
    int rc = open_map(a, &map, &len, e);

    if (rc)
        return rc;
    rc = check_file(a, map, report, arg, e);
    munmap(map, len);
    return rc;
}

int artifact_map(struct artifact *a, const unsigned char **out, size_t *out_len, struct err *e)
{
    uint64_t round = atomic_load(&a->store->home.round);
    int rc = 0;

    pthread_mutex_lock(&a->lock);
    if (!a->map || a->round < round) {
        unsigned char *map = a->map;
        size_t len = a->map_len;

        if (!map)
            rc = open_map(a, &map, &len, e);
        if (rc == 0)
            rc = check_file(a, map, NULL, NULL, e);
        if (rc == 0) {
            a->map = map;
            a->map_len = len;
            a->round = round;
        } else if (map && !a->map) {
            munmap(map, len);
        }
    }
    pthread_mutex_unlock(&a->lock);
    if (rc)
        return rc;
    *out = a->map + HEAD;
    *out_len = (size_t)a->bytes;
    return 0;
}

/* ---- The directory --------------------------------------------------------------------------- */

int artifact_copy(const char *from_store, const char *to_store, uint64_t id, fs_report *report,
                  void *arg, struct err *e)
{
    char name[48], *from, *to;
    int rc;

    snprintf(name, sizeof name, ARTIFACT_DIR "/%06" PRIu64, id);
    from = fs_join(from_store, name);
    to = fs_join(to_store, name);
    rc = fs_copy_file(from, to, report, arg, e);
    free(to);
    free(from);
    return rc;
}

struct tidy {
    struct store *s;
    char *dir;
    const uint64_t *named;
    size_t count;
};

/* Only files with the name of an artifact are ours to remove. */
static bool tidy_entry(void *arg, const char *name)
{
    struct tidy *t = arg;
    char *end, *path;
    unsigned long long id = strtoull(name, &end, 10);

    if (end == name || *end != '\0' || strlen(name) < 6)
        return true;
    for (size_t i = 0; i < t->count; i++)
        if (t->named[i] == id)
            return true;
    path = fs_join(t->dir, name);
    (void)unlink(path); /* what cannot be removed now only takes room */
    free(path);
    return true;
}

int artifact_tidy(struct store *s, const uint64_t *named, size_t count, struct err *e)
{
    struct tidy t = {.s = s, .named = named, .count = count};
    int rc = 0;

    t.dir = fs_join(s->dir, ARTIFACT_DIR);
    if (fs_is_dir(t.dir))
        rc = fs_list(t.dir, tidy_entry, &t, e);
    free(t.dir);
    return rc;
}
