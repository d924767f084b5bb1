/* bench_kern.c - every integer kernel of every table this processor runs, timed in cache and out of
 * it, against a plain read of the same bytes and against the peak of the instruction that counts.
 *
 *   bench_kern [DIM [MIB]]        16384 elements, 256 MiB for what must not lie in cache
 *
 * JSON lines. Best of many short runs, so that a busy neighbour costs runs, not truth.
 * Cycles are of the clock that a chain of dependent additions shows at that moment. No result is
 * judged here: tests/unit/index/test_qkern.c does that.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "index/code.h"
#include "index/kern.h"
#include "index/qkern.h"
#include "index/unroll.h"

static const struct qkern *const tables[] = {&qkern_generic, &qkern_avx2, &qkern_avx512,
                                             &qkern_avx512vnni, &qkern_neon, &qkern_neondot};

enum { TABLES = sizeof tables / sizeof tables[0], QUERIES = 64, CACHED = 8 /* rows */ };

static const struct {
    const char *name;
    size_t bytes; /* of a group */
} planes[] = {{"dot_bits", QKERN_BITS}, {"dot_six", QKERN_SIX}, {"dot_low", QKERN_LOW},
              {"dot_joined", QKERN_GROUP}};

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static double hertz; /* of this core, while it runs */

static void measure_clock(void)
{
    enum { TURNS = 2000, ADDS = 10 }; /* many in a turn: the loop itself must not count */
    double best = 1.0;

    for (int pass = 0; pass < 1000; pass++) {
        const double from = now();
        unsigned long x = 0;

        for (int i = 0; i < TURNS; i++)
            UNROLL
            for (int add = 0; add < ADDS; add++) {
                x += 1;
                __asm__ volatile("" : "+r"(x)); /* keeps the chain */
            }
        const double took = now() - from;

        best = took < best ? took : best;
    }
    hertz = TURNS * ADDS / best;
}

struct data {
    size_t d, groups, bytes;
    unsigned char *codes; /* bytes, out of cache as a whole */
    float *x;             /* CACHED vectors */
    int8_t *q[QUERIES];
    int32_t *out;
};

/* Seconds of one call over `rows` rows, best of `runs`; from random places when the rows are not to
 * be in cache. */
static double time_dot(qkern_dot *dot, const struct data *b, size_t plane, size_t nq, size_t rows,
                       int cold, int runs)
{
    const size_t stride = b->groups * planes[plane].bytes, places = b->bytes / (rows * stride);
    double best = 1e9;

    for (int i = 0; i < runs; i++) {
        const size_t at = cold ? ((size_t)i * 7919 % places) * rows * stride : 0;
        const double from = now();

        dot(b->codes + at, stride, rows, (const int8_t *const *)b->q, nq, b->groups, b->out);
        const double took = now() - from;

        best = took < best ? took : best;
    }
    return best;
}

static void bench_dot(const struct qkern *k, const struct data *b, size_t plane, size_t nq)
{
    qkern_dot *const dots[] = {k->dot_bits, k->dot_six, k->dot_low, k->dot_joined};
    qkern_dot *dot = dots[plane];
    const size_t row = b->groups * planes[plane].bytes;
    const size_t many = b->bytes / 4 / row; /* a quarter at a time: more than any cache */
    const int slow = k == &qkern_generic || nq > 8;
    const double hot = time_dot(dot, b, plane, nq, CACHED, 0, slow ? 30 : 1000) / CACHED;
    const double cold = slow ? 0.0 : time_dot(dot, b, plane, nq, many, 1, 12) / (double)many;

    printf("{\"kernel\":\"%s\",\"table\":\"%s\",\"d\":%zu,\"queries\":%zu,\"cycles_a_row\":%.0f,"
           "\"mac_a_cycle\":%.1f,\"gb_per_s_cache\":%.2f",
           planes[plane].name, k->name, b->d, nq, hot * hertz,
           (double)(b->d * nq) / (hot * hertz), (double)row / hot * 1e-9);
    if (!slow)
        printf(",\"gb_per_s_memory\":%.2f", (double)row / cold * 1e-9);
    printf("}\n");
}

/* One row through the steps of coding it, each timed alone. */
static void bench_row(const struct qkern *k, const struct data *b)
{
    static const char *const steps[] = {"flip", "fwht", "max_abs", "encode", "split"};
    uint64_t *signs = (uint64_t *)(void *)b->codes;
    unsigned char *out = b->codes + (1 << 20);
    struct qkern_sums sums;
    struct qkern_split split;
    float *x = b->x;
    size_t n = QKERN_GROUP;

    while (n * 2 <= b->d)
        n *= 2;
    for (size_t s = 0; s < sizeof steps / sizeof steps[0]; s++) {
        double best = 1e9;

        for (int run = 0; run < (k == &qkern_generic ? 50 : 1000); run++) {
            double from, took;
            float most = 0.0f;

            for (size_t i = 0; i < b->d; i++)
                x[i] = (float)((int)(i * 40503u >> 5 & 1023) - 512) * 1e-3f;
            from = now();
            if (s == 0)
                k->flip(x, signs, 0.5f, b->d);
            else if (s == 1)
                k->fwht(x, n);
            else if (s == 2)
                most = k->max_abs(x, b->d);
            else if (s == 3)
                k->encode(x, b->groups, 0.004f, out, out + b->d, out + 2 * b->d, &sums);
            else
                k->split(x, b->groups, 3e-5f, (int8_t *)out, (int8_t *)out + b->d, &split);
            __asm__ volatile("" ::"m"(most));
            took = now() - from;
            best = took < best ? took : best;
        }
        printf("{\"kernel\":\"%s\",\"table\":\"%s\",\"d\":%zu,\"us\":%.2f,"
               "\"cycles_an_element\":%.3f}\n",
               steps[s], k->name, s == 1 ? n : b->d, best * 1e6,
               best * hertz / (double)(s == 1 ? n : b->d));
    }
}

/* A whole row: lengths, two or four rounds, codes and factors, as the writer does. */
static void bench_code(const struct qkern *k, const struct data *b)
{
    unsigned char *out = b->codes + (1 << 20);
    const struct code_planes planes_out = {.bits = out,
                                           .six = out + b->d,
                                           .low = out + 2 * b->d,
                                           .factors = out + 3 * b->d,
                                           .rows = 1};
    float *scratch = malloc(b->d * sizeof *scratch);
    double best = 1e9;

    if (!scratch)
        return;
    for (size_t i = 0; i < b->d; i++)
        b->x[i] = (float)((int)(i * 40503u >> 5 & 1023) - 512) * 1e-3f;
    for (int run = 0; run < (k == &qkern_generic ? 50 : 1000); run++) {
        const double from = now();

        code_rows(DTYPE_F32, b->d, b->x, 0, 0, 1, &planes_out, scratch);
        const double took = now() - from;

        best = took < best ? took : best;
    }
    printf("{\"kernel\":\"code_rows\",\"table\":\"%s\",\"d\":%zu,\"us\":%.2f,"
           "\"rows_per_s\":%.0f}\n",
           k->name, b->d, best * 1e6, 1.0 / best);
    free(scratch);
}

/* GB/s of reading and nothing else. */
static void bench_read(const struct data *b)
{
    const uint64_t *p = (const uint64_t *)(const void *)b->codes;
    double best = 1e9;
    uint64_t any = 0;

    for (int pass = 0; pass < 8; pass++) {
        const double from = now();

        for (size_t i = 0; i + 8 <= b->bytes / 8; i += 8) /* a line at a time: the bus decides */
            any |= p[i] | p[i + 4];
        const double took = now() - from;

        best = took < best ? took : best;
    }
    printf("{\"kernel\":\"read\",\"gb_per_s_memory\":%.2f,\"clock_ghz\":%.2f,\"any\":%d}\n",
           (double)b->bytes / best * 1e-9, hertz * 1e-9, any != 0);
}

#if defined(__x86_64__)
/* The most that byte products can run at: twelve sums that do not wait for each other. */
__attribute__((target("avx512f,avx512vnni"))) static void bench_peak(void)
{
    enum { ROUNDS = 2000, SUMS = 12 };
    double best = 1e9;

    if (!qkern_supported(&qkern_avx512vnni))
        return;
    for (int pass = 0; pass < 1000; pass++) {
        const double from = now();

        for (int i = 0; i < ROUNDS; i++)
            __asm__ volatile("vpdpbusd %%zmm30, %%zmm31, %%zmm0\n\t"
                             "vpdpbusd %%zmm30, %%zmm31, %%zmm1\n\t"
                             "vpdpbusd %%zmm30, %%zmm31, %%zmm2\n\t"
                             "vpdpbusd %%zmm30, %%zmm31, %%zmm3\n\t"
                             "vpdpbusd %%zmm30, %%zmm31, %%zmm4\n\t"
                             "vpdpbusd %%zmm30, %%zmm31, %%zmm5\n\t"
                             "vpdpbusd %%zmm30, %%zmm31, %%zmm6\n\t"
                             "vpdpbusd %%zmm30, %%zmm31, %%zmm7\n\t"
                             "vpdpbusd %%zmm30, %%zmm31, %%zmm8\n\t"
                             "vpdpbusd %%zmm30, %%zmm31, %%zmm9\n\t"
                             "vpdpbusd %%zmm30, %%zmm31, %%zmm10\n\t"
                             "vpdpbusd %%zmm30, %%zmm31, %%zmm11\n\t" ::
                                 : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7",
                                   "xmm8", "xmm9", "xmm10", "xmm11");
        const double took = now() - from;

        best = took < best ? took : best;
    }
    printf("{\"kernel\":\"peak\",\"table\":\"avx512vnni\",\"mac_a_cycle\":%.1f}\n",
           64.0 * ROUNDS * SUMS / (best * hertz));
}
#else
static void bench_peak(void)
{
}
#endif

int main(int argc, char **argv)
{
    static const size_t queries[] = {1, 2, 4, 8, 16, 64};
    const size_t want = argc > 1 ? strtoull(argv[1], NULL, 0) : 16384;
    const size_t mib = argc > 2 ? strtoull(argv[2], NULL, 0) : 256;
    struct data b = {.groups = (want + QKERN_GROUP - 1) / QKERN_GROUP, .bytes = mib << 20};

    b.d = b.groups * QKERN_GROUP;
    if (b.d == 0 || b.d > 131072 || mib < 16 || mib > 65536) {
        fprintf(stderr, "bench_kern [DIM 1..131072 [MIB 16..65536]]\n");
        return 2;
    }
    b.codes = mmap(NULL, b.bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    b.x = malloc(b.d * sizeof *b.x);
    b.out = malloc(b.bytes / 32 / b.groups * 8 * sizeof *b.out);
    b.q[0] = malloc(QUERIES * b.d);
    if (b.codes == MAP_FAILED || !b.x || !b.out || !b.q[0]) {
        fprintf(stderr, "bench_kern: no memory for %zu MiB\n", mib);
        return 1;
    }
    for (size_t i = 0; i < b.bytes; i++)
        b.codes[i] = (unsigned char)(i * 2654435761u >> 13);
    for (size_t j = 0; j < QUERIES; j++) {
        b.q[j] = b.q[0] + j * b.d;
        for (size_t i = 0; i < b.d; i++)
            b.q[j][i] = (int8_t)(i * 40503u >> (j % 5 + 3));
    }
    measure_clock();
    bench_read(&b);
    bench_peak();
    for (size_t t = 0; t < TABLES; t++) {
        if (!qkern_supported(tables[t]))
            continue;
        for (size_t p = 0; p < sizeof planes / sizeof planes[0]; p++)
            for (size_t n = 0; n < sizeof queries / sizeof queries[0]; n++)
                if (tables[t] != &qkern_generic || queries[n] <= 2)
                    bench_dot(tables[t], &b, p, queries[n]);
        bench_row(tables[t], &b);
        kern_init(tables[t]->name);
        bench_code(tables[t], &b);
    }
    munmap(b.codes, b.bytes);
    free(b.q[0]);
    free(b.out);
    free(b.x);
    return 0;
}
