/* rate.c - see rate.h. Each kernel runs over a tile that fits into the second-level cache (the
 * memory rate apart) until its slice of time is over. */
#include "index/rate.h"

#include <cblas.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "index/kern.h"
#include "index/qkern.h"
#include "storage/base/mem.h"

enum {
    DIM = 4096,
    ROWS = 16,    /* of floats: 256 KiB */
    MANY = 16,    /* queries of a batch */
    BLAS_ROWS = 256,
    BLAS_QUERIES = 64,
    STREAM = 64 << 20, /* beyond any cache's share */
    SLICE_NS = 15000000,
    RUNS = 5, /* at least, where one run takes longer than that */
};

/* Eight bytes a cycle and a little vectorising: a small cloud machine. */
const struct rate rate_plain = {.read = 8e9,
                                .exact = 4e9,
                                .blas = 3e10,
                                .six = 2e10,
                                .six_many = 4e10,
                                .bits = 4e10,
                                .bits_many = 4e10};

struct ground {
    unsigned char *stream; /* STREAM bytes */
    float *rows, *queries, *out;
    int8_t *q;
    const int8_t *many[MANY];
    int32_t *sums;
    double sink; /* so that no run is left out */
};

static uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* `work` a second in the best of the runs of one slice: what else runs here only slows. */
static double best(struct ground *g, void (*run)(struct ground *g), double work)
{
    uint64_t end = now_ns() + SLICE_NS, least = UINT64_MAX, from, to = 0;

    for (int runs = 0; runs < RUNS || to < end; runs++) {
        from = now_ns();
        run(g);
        to = now_ns();
        if (to - from < least)
            least = to - from;
    }
    return work * 1e9 / (double)(least ? least : 1);
}

/* As the tiers read: the six-bit kernel over rows that are nowhere near. */
static void run_read(struct ground *g)
{
    const size_t row = (size_t)DIM / QKERN_GROUP * QKERN_SIX;

    qkern->dot_six(g->stream, row, STREAM / row, g->many, 1, DIM / QKERN_GROUP, g->sums);
    g->sink += g->sums[0];
}

static void run_exact(struct ground *g)
{
    double dots[4];

    for (size_t r = 0; r < ROWS; r += 4) {
        kern->dot4_f32(g->queries, g->rows + r * DIM, DIM * sizeof(float), DIM, dots);
        g->sink += dots[0];
    }
}

static void run_blas(struct ground *g)
{
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, BLAS_QUERIES, BLAS_ROWS, DIM, 1.0f,
                g->queries, DIM, (const float *)(const void *)g->stream, DIM, 0.0f, g->out,
                BLAS_ROWS);
    g->sink += (double)g->out[0];
}

static void run_six(struct ground *g)
{
    qkern->dot_six(g->stream, DIM / QKERN_GROUP * QKERN_SIX, ROWS, g->many, 1, DIM / QKERN_GROUP,
                   g->sums);
}

static void run_six_many(struct ground *g)
{
    qkern->dot_six(g->stream, DIM / QKERN_GROUP * QKERN_SIX, ROWS, g->many, MANY,
                   DIM / QKERN_GROUP, g->sums);
}

static void run_bits(struct ground *g)
{
    qkern->dot_bits(g->stream, DIM / QKERN_GROUP * QKERN_BITS, ROWS, g->many, 1,
                    DIM / QKERN_GROUP, g->sums);
}

static void run_bits_many(struct ground *g)
{
    qkern->dot_bits(g->stream, DIM / QKERN_GROUP * QKERN_BITS, ROWS, g->many, MANY,
                    DIM / QKERN_GROUP, g->sums);
}

static int ground_init(struct ground *g)
{
    const size_t stream_rows = STREAM / ((size_t)DIM / QKERN_GROUP * QKERN_SIX);

    /* from the kernel and back to it: malloc may keep what is freed (storage/base/mem.h) */
    g->stream = mmap(NULL, STREAM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (g->stream == MAP_FAILED)
        g->stream = NULL;
    g->rows = mem_big(ROWS * DIM, sizeof *g->rows);
    g->queries = mem_big(BLAS_QUERIES * DIM, sizeof *g->queries);
    g->out = mem_big(BLAS_QUERIES * BLAS_ROWS, sizeof *g->out);
    g->q = mem_big(MANY * DIM, sizeof *g->q);
    g->sums = mem_big(stream_rows, sizeof *g->sums);
    if (!g->stream || !g->rows || !g->queries || !g->out || !g->q || !g->sums)
        return -1;
    memset(g->stream, 0, STREAM); /* floats and codes alike; written, so that each page is there */
    for (size_t i = 0; i < ROWS * DIM; i++)
        g->rows[i] = 1.0f / (float)(1 + i % 97);
    for (size_t i = 0; i < BLAS_QUERIES * DIM; i++)
        g->queries[i] = 1.0f / (float)(1 + i % 89);
    for (size_t i = 0; i < MANY * DIM; i++)
        g->q[i] = (int8_t)(i % 127);
    for (size_t i = 0; i < MANY; i++)
        g->many[i] = g->q + i * DIM;
    return 0;
}

static void ground_fini(struct ground *g)
{
    if (g->stream)
        munmap(g->stream, STREAM);
    free(g->rows);
    free(g->queries);
    free(g->out);
    free(g->q);
    free(g->sums);
}

void rate_measure(struct rate *out)
{
    const double tile = (double)ROWS * DIM;
    struct ground g = {0};

    *out = rate_plain;
    if (!ground_init(&g)) {
        out->read = best(&g, run_read, STREAM);
        out->exact = best(&g, run_exact, tile);
        out->blas = best(&g, run_blas, (double)BLAS_QUERIES * BLAS_ROWS * DIM);
        out->six = best(&g, run_six, tile);
        out->six_many = best(&g, run_six_many, tile * MANY);
        out->bits = best(&g, run_bits, tile);
        out->bits_many = best(&g, run_bits_many, tile * MANY);
    }
    ground_fini(&g);
}
