/* bench_storage.c - how fast batches become durable, beside what the disk itself does.
 *
 *   bench_storage DIR [batches] [group]
 *
 * Commits batches of 512 x 16,384 float32 rows (32 MiB) with texts into a new store under DIR, and
 * before and after writes the same bytes with write + fdatasync, one file per batch-sized piece, and
 * as one stream with a single fdatasync at the end (what `dd conv=fdatasync` does). Then reads all
 * encodings back, once with checksums and once without. Prints one line of JSON.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

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

/* MiB/s of `pieces` writes of `len` bytes; a sync after each one or one at the end. */
static double raw_rate(const char *path, const void *bytes, size_t len, unsigned pieces,
                       bool sync_each)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    double start = now(), took;

    if (fd < 0)
        stop(path, NULL);
    for (unsigned i = 0; i < pieces; i++) {
        for (size_t done = 0; done < len;) {
            size_t step = len - done < 1 << 20 ? len - done : 1 << 20; /* as dd bs=1M */
            ssize_t wrote = write(fd, (const char *)bytes + done, step);

            if (wrote <= 0)
                stop(path, NULL);
            done += (size_t)wrote;
        }
        if (sync_each && fdatasync(fd))
            stop(path, NULL);
    }
    if (fdatasync(fd))
        stop(path, NULL);
    took = now() - start;
    close(fd);
    unlink(path);
    return (double)len * pieces / took / (1 << 20);
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

static double commit_rate(struct store *s, struct corpus *c, unsigned batches, unsigned group,
                          const void *encodings)
{
    struct batch *x = mem_new(group, sizeof *x);
    struct commit_batch *list[GROUP_MAX];
    char *text = mem_new(ROWS + TEXT + 1, 1);
    double *norms = mem_new(ROWS, sizeof *norms), start;
    struct err e = ERR_INIT;

    for (unsigned i = 0; i < ROWS; i++)
        norms[i] = 1;
    for (unsigned i = 0; i < ROWS + TEXT; i++)
        text[i] = "the a of in and to was is "[(i * i + i / 7) % 26];
    start = now();
    for (unsigned done = 0; done < batches; done += group) {
        for (unsigned i = 0; i < group; i++) {
            fill_batch(&x[i], c, done + i, encodings, norms, text);
            list[i] = &x[i].b;
        }
        if (commit_group(s, list, group, &e))
            stop("commit", &e);
    }
    start = now() - start;
    free(x);
    free(text);
    free(norms);
    return (double)batches * ROWS * DIM * sizeof(float) / start / (1 << 20);
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
    bool created;

    if (argc < 2 || batches == 0 || group == 0 || group > GROUP_MAX || batches % group != 0)
        return fprintf(stderr, "usage: %s DIR [batches] [group]\n", argv[0]), 2;
    dir = fs_join(argv[1], "bench-store");
    raw = fs_join(argv[1], "bench-raw");
    encodings = mem_big(len, 1);
    if (!encodings)
        stop("memory", NULL);
    for (size_t i = 0; i < len / 4; i++)
        encodings[i] = (uint32_t)(i * 2654435761u);
    stream = raw_rate(raw, encodings, len, batches, false);
    synced = raw_rate(raw, encodings, len, batches, true);
    if (store_open(dir, &o, &s, &e) || store_corpus_create(s, &def, &created, &c, &e))
        stop("open", &e);
    commit = commit_rate(s, c, batches, group, encodings);
    stream_after = raw_rate(raw, encodings, len, batches, false);
    checked = read_rate(c);
    plain = read_rate(c);
    corpus_release(c);
    store_close(s);
    if (fs_remove_tree(dir, 3, &e))
        stop("remove", &e);
    printf("{\"rows\":%d,\"dim\":%d,\"batches\":%u,\"group\":%u,\"stream_mib_s\":%.0f,"
           "\"stream_again_mib_s\":%.0f,\"write_and_sync_mib_s\":%.0f,\"commit_mib_s\":%.0f,"
           "\"commit_of_stream\":%.2f,\"first_read_mib_s\":%.0f,\"read_mib_s\":%.0f}\n",
           ROWS, DIM, batches, group, stream, stream_after, synced, commit,
           commit / ((stream + stream_after) / 2), checked, plain);
    free(encodings);
    free(dir);
    free(raw);
    return 0;
}
