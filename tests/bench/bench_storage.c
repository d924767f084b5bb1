/* bench_storage.c - how fast batches become durable, beside what the disk itself does.
 *
 *   bench_storage DIR [batches] [group]
 *
 * Commits batches of 512 x 16,384 float32 rows (32 MiB) with texts into a new store under DIR. In turn
 * with every commit the same bytes are appended to a plain file and synced, so that both meet the same
 * disk and the same neighbours; before and after, they are written as one stream with a single sync at
 * the end (what `dd conv=fdatasync` does). Then reads all encodings back, once with checksums and once
 * without. Prints one line of JSON.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "storage/base/keep.h"
#include "storage/base/mem.h"
#include "storage/commit.h"
#include "storage/fs.h"
#include "storage/store.h"

enum { ROWS = 512, DIM = 16384, TEXT = 400, GROUP_MAX = 32 };

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void stop(const char *what, const struct err *e)
{
    fprintf(stderr, "%s: %s\n", what, e ? e->text : "failed");
    exit(1);
}

struct raw {
    char *path;
    int fd;
    double took;
};

static void raw_open(struct raw *r, const char *path)
{
    *r = (struct raw){.path = mem_copy(path, strlen(path))};
    r->fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (r->fd < 0)
        stop(path, NULL);
}

static void raw_write(struct raw *r, const void *bytes, size_t len, bool sync)
{
    double start = now();

    for (size_t done = 0; done < len;) {
        size_t step = len - done < 1 << 20 ? len - done : 1 << 20; /* as dd bs=1M */
        ssize_t wrote = write(r->fd, (const char *)bytes + done, step);

        if (wrote <= 0)
            stop(r->path, NULL);
        done += (size_t)wrote;
    }
    if (sync && fdatasync(r->fd))
        stop(r->path, NULL);
    r->took += now() - start;
}

/* Seconds all writes took. */
static double raw_close(struct raw *r)
{
    double start = now();

    if (fdatasync(r->fd))
        stop(r->path, NULL);
    r->took += now() - start;
    close(r->fd);
    unlink(r->path);
    free(r->path);
    return r->took;
}

static double mib_s(size_t len, unsigned pieces, double took)
{
    return (double)len * pieces / took / (1 << 20);
}

static double stream_rate(const char *path, const void *bytes, size_t len, unsigned pieces)
{
    struct raw r;

    raw_open(&r, path);
    for (unsigned i = 0; i < pieces; i++)
        raw_write(&r, bytes, len, false);
    return mib_s(len, pieces, raw_close(&r));
}

struct batch {
    struct commit_batch b;
    char name[32];
    struct commit_example examples[ROWS];
    char ids[ROWS][24];
};

static void fill_batch(struct batch *x, struct corpus *c, unsigned number, const void *encodings,
                       const double *norms, const char *text)
{
    snprintf(x->name, sizeof x->name, "b%u", number);
    for (unsigned i = 0; i < ROWS; i++) {
        x->examples[i] = (struct commit_example){.id = x->ids[i], .text = text + i, .text_len = TEXT};
        x->examples[i].id_len =
            (uint32_t)snprintf(x->ids[i], sizeof x->ids[i], "passage-%u", number * ROWS + i);
    }
    x->b = (struct commit_batch){.corpus = c,
                                 .name = x->name,
                                 .count = ROWS,
                                 .encodings = encodings,
                                 .norms = norms,
                                 .examples = x->examples};
}

/* Seconds that the commits took; `beside` gets the same bytes in turn. */
static double commit_all(struct store *s, struct corpus *c, unsigned batches, unsigned group,
                         const void *encodings, struct raw *beside)
{
    size_t len = (size_t)ROWS * DIM * sizeof(float);
    struct batch *x = mem_new(group, sizeof *x);
    struct commit_batch *list[GROUP_MAX];
    char *text = mem_new(ROWS + TEXT + 1, 1);
    double *norms = mem_new(ROWS, sizeof *norms), took = 0, start;
    struct err e = ERR_INIT;

    for (unsigned i = 0; i < ROWS; i++)
        norms[i] = 1;
    for (unsigned i = 0; i < ROWS + TEXT; i++)
        text[i] = "the a of in and to was is "[(i * i + i / 7) % 26];
    for (unsigned done = 0; done < batches; done += group) {
        for (unsigned i = 0; i < group; i++) {
            fill_batch(&x[i], c, done + i, encodings, norms, text);
            list[i] = &x[i].b;
            raw_write(beside, encodings, len, i + 1 == group);
        }
        start = now();
        if (commit_group(s, list, group, &e))
            stop("commit", &e);
        took += now() - start;
    }
    free(x);
    free(text);
    free(norms);
    return took;
}

static double read_rate(struct corpus *c)
{
    const struct view *v = corpus_view(c);
    struct err e = ERR_INIT;
    double start = now(), sum = 0;
    uint64_t bytes = 0;

    for (size_t i = 0; i < v->chunk_count; i++) {
        struct block b;

        if (block_open(&v->chunks[i], BLOCK_ENCODINGS, &b, &e))
            stop("read", &e);
        for (size_t at = 0; at < b.len; at += 64)
            sum += b.bytes[at];
        bytes += b.len;
        block_close(&b);
    }
    view_release(v);
    return sum < 0 ? 0 : (double)bytes / (now() - start) / (1 << 20);
}

int main(int argc, char **argv)
{
    unsigned batches = argc > 2 ? (unsigned)atoi(argv[2]) : 32;
    unsigned group = argc > 3 ? (unsigned)atoi(argv[3]) : 1;
    size_t len = (size_t)ROWS * DIM * sizeof(float);
    struct corpus_def def = {.name = "bench", .dim = DIM, .dtype = 1, .manifest = "{}"};
    struct store_options o = {.create = true};
    struct err e = ERR_INIT;
    struct store *s;
    struct corpus *c;
    uint32_t *encodings;
    double stream, synced, commit, stream_after, checked, plain;
    char *dir, *raw;
    struct raw beside;
    bool created;

    if (argc < 2 || batches == 0 || group == 0 || group > GROUP_MAX || batches % group != 0)
        return fprintf(stderr, "usage: %s DIR [batches] [group]\n", argv[0]), 2;
    keep_begin(); /* as the server does */
    dir = fs_join(argv[1], "bench-store");
    raw = fs_join(argv[1], "bench-raw");
    encodings = mem_big(len, 1);
    if (!encodings)
        stop("memory", NULL);
    for (size_t i = 0; i < len / 4; i++)
        encodings[i] = (uint32_t)(i * 2654435761u);
    stream = stream_rate(raw, encodings, len, batches);
    if (store_open(dir, &o, &s, &e) || store_corpus_create(s, &def, &created, &c, &e))
        stop("open", &e);
    raw_open(&beside, raw);
    commit = mib_s(len, batches, commit_all(s, c, batches, group, encodings, &beside));
    synced = mib_s(len, batches, raw_close(&beside));
    stream_after = stream_rate(raw, encodings, len, batches);
    checked = read_rate(c);
    plain = read_rate(c);
    corpus_release(c);
    store_close(s);
    if (fs_remove_tree(dir, 3, &e))
        stop("remove", &e);
    printf("{\"rows\":%d,\"dim\":%d,\"batches\":%u,\"group\":%u,\"stream_mib_s\":%.0f,"
           "\"stream_again_mib_s\":%.0f,\"write_and_sync_mib_s\":%.0f,\"commit_mib_s\":%.0f,"
           "\"commit_of_write_and_sync\":%.2f,\"commit_of_stream\":%.2f,\"first_read_mib_s\":%.0f,\"read_mib_s\":%.0f}\n",
           ROWS, DIM, batches, group, stream, stream_after, synced, commit,
           commit / synced, commit / ((stream + stream_after) / 2), checked, plain);
    free(encodings);
    free(dir);
    free(raw);
    return 0;
}
