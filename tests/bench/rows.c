/* rows.c - rows for the benchmark programs; see rows.h. */
#include "tests/bench/rows.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "index/philox.h"
#include "index/vec.h"

enum { MOST_THREADS = 64, TOPIC_STREAM = 1000 };

/* A row is own deviate + SHARE x its topic's: products inside a topic are near s^2 / (1 + s^2),
 * 0.1. (Measured on real whitened encodings: the tenth best score has median 0.07.) */
static const double SHARE = 0.333;

void die(const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    fputs("bench: ", stderr);
    vfprintf(stderr, fmt, args);
    fputc('\n', stderr);
    va_end(args);
    exit(2);
}

double milliseconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

static size_t block_rows(size_t dim, size_t chunk_bytes)
{
    size_t n = chunk_bytes / (dim * sizeof(float));

    return n ? n : 1;
}

struct rows rows_open(const char *path, size_t dim, size_t most, size_t chunk_bytes)
{
    struct rows r = {.dim = dim, .per_block = block_rows(dim, chunk_bytes)};
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat s;
    void *at;

    if (fd < 0 || fstat(fd, &s))
        die("cannot read %s", path);
    r.count = (size_t)s.st_size / (dim * sizeof(float));
    if (most && most < r.count)
        r.count = most;
    r.mapped = r.count * dim * sizeof(float);
    at = r.count ? mmap(NULL, r.mapped, PROT_READ, MAP_SHARED | MAP_POPULATE, fd, 0) : MAP_FAILED;
    if (at == MAP_FAILED)
        die("%s holds no rows of %zu float32, or cannot be mapped", path, dim);
    close(fd);
    r.at = at;
    return r;
}

struct share {
    pthread_t thread;
    float *out;
    size_t dim, topics, from, to;
    uint32_t stream;
};

static void *make_some(void *arg)
{
    const struct share *s = arg;
    double *own = malloc(s->dim * sizeof *own), *topic = malloc(s->dim * sizeof *topic);
    float *row = malloc(s->dim * sizeof *row), *scratch = malloc(s->dim * sizeof *scratch);

    if (!own || !topic || !row || !scratch)
        die("no memory for rows of %zu", s->dim);
    for (size_t n = s->from; n < s->to; n++) {
        struct err e = ERR_INIT;
        double norm;

        philox_normals(2, s->stream, PHILOX_RIGHT, n * s->dim, s->dim, own);
        philox_normals(1, TOPIC_STREAM, PHILOX_LEFT, n % s->topics * s->dim, s->dim, topic);
        for (size_t i = 0; i < s->dim; i++)
            row[i] = (float)(own[i] + SHARE * topic[i]);
        if (vec_normalise(row, DTYPE_F32, s->dim, DTYPE_F32, s->out + n * s->dim, &norm, scratch,
                          "rows", n, &e))
            die("%s", e.text);
    }
    free(own);
    free(topic);
    free(row);
    free(scratch);
    return NULL;
}

struct rows rows_make(size_t count, size_t dim, size_t topics, uint32_t stream, size_t threads,
                      size_t chunk_bytes)
{
    float *at = malloc(count * dim * sizeof *at);
    struct rows r = {.at = at, .count = count, .dim = dim,
                     .per_block = block_rows(dim, chunk_bytes)};
    struct share s[MOST_THREADS];

    if (!at || !count || !topics || threads > MOST_THREADS)
        die("no memory for %zu rows of %zu", count, dim);
    for (size_t t = 0; t < threads; t++) {
        s[t] = (struct share){.out = at, .dim = dim, .topics = topics, .stream = stream,
                              .from = count * t / threads, .to = count * (t + 1) / threads};
        if (pthread_create(&s[t].thread, NULL, make_some, &s[t]))
            die("no thread");
    }
    for (size_t t = 0; t < threads; t++)
        pthread_join(s[t].thread, NULL);
    return r;
}

void rows_free(struct rows *r)
{
    void *at;

    memcpy(&at, &r->at, sizeof at); /* drops the const without a cast */
    if (r->mapped)
        munmap(at, r->mapped);
    else
        free(at);
    *r = (struct rows){0};
}

/* --- as a source ------------------------------------------------------------------------------ */

static int block_open(void *arg, size_t i, struct engine_block *out, struct err *e)
{
    const struct rows *r = arg;
    const size_t from = i * r->per_block;
    const size_t left = r->count - from;

    (void)e;
    *out = (struct engine_block){.key = i + 1,
                                 .rows = (uint32_t)(left < r->per_block ? left : r->per_block),
                                 .encodings = r->at + from * r->dim,
                                 .ctx = r};
    return 0;
}

static void block_close(void *arg, struct engine_block *b)
{
    (void)arg;
    (void)b;
}

static uint64_t block_sequence(const struct engine_block *b, uint32_t row)
{
    const struct rows *r = b->ctx;

    return (b->key - 1) * r->per_block + row;
}

static uint64_t block_key(void *arg, size_t i)
{
    (void)arg;
    return i + 1;
}

struct engine_source rows_source(const struct rows *r)
{
    struct engine_source src = {.dim = r->dim, .dtype = DTYPE_F32,
                                .count = (r->count + r->per_block - 1) / r->per_block,
                                .open = block_open, .close = block_close,
                                .sequence = block_sequence, .key = block_key};

    memcpy(&src.arg, &r, sizeof src.arg);
    return src;
}
