/* test_kern.c - every table this processor runs against the generic one, bit for bit, and the
 * generic one against a long double oracle. In the manner of checkasm: random sizes, any alignment,
 * buffers that end at an unmapped page, and values from denormal to FLT_MAX.
 *
 * `test_kern --bench [d]` times each kernel of each table, in memory and in cache (GB/s of x read).
 */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "index/kern.h"

static const struct kern *const tables[] = {&kern_generic, &kern_avx2, &kern_avx512, &kern_neon};

enum { TABLES = sizeof tables / sizeof tables[0], MODES = 5 };

static uint64_t state_of_random = 1;

static uint64_t random64(void) /* splitmix64 */
{
    uint64_t z = state_of_random += UINT64_C(0x9E3779B97F4A7C15);

    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

/* Memory of `bytes` bytes that end exactly where an unmapped page begins. */
struct guarded {
    char *map, *data;
    size_t mapped;
};

static struct guarded guarded_new(size_t bytes)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    struct guarded g = {.mapped = (bytes + page - 1) / page * page + page};

    g.map = mmap(NULL, g.mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(g.map != MAP_FAILED);
    assert_int_equal(mprotect(g.map + g.mapped - page, page, PROT_NONE), 0);
    g.data = g.map + g.mapped - page - bytes;
    return g;
}

static void guarded_free(struct guarded *g)
{
    munmap(g->map, g->mapped);
}

static float float_of(uint32_t bits)
{
    float v;

    memcpy(&v, &bits, sizeof v);
    return v;
}

/* One finite float32: 0 ordinary, 1 any bits at all, 2 denormals and tiny, 3 huge, 4 a few values
 * that cancel. */
static float some_float(unsigned mode)
{
    uint64_t r = random64();
    float v;

    switch (mode) {
    case 0:
        return (float)((double)(int64_t)r * 0x1p-63);
    case 1:
        v = float_of((uint32_t)r);
        return isfinite(v) ? v : FLT_MAX;
    case 2:
        return float_of((uint32_t)r & 0x80ffffff);
    case 3:
        return r & 1 ? FLT_MAX : -FLT_MAX;
    default:
        return (float)((int)(r % 5) - 2) * (r >> 60 ? 1.0f : 0x1p60f);
    }
}

static uint16_t some_f16(unsigned mode)
{
    uint16_t h = (uint16_t)random64();

    if (mode == 2)
        h &= 0x83ff;
    return (h & 0x7c00) == 0x7c00 ? (uint16_t)(h & 0xfbff) : h;
}

static uint16_t some_bf16(unsigned mode)
{
    uint16_t h = (uint16_t)random64();

    if (mode == 2)
        h &= 0x80ff;
    return (h & 0x7f80) == 0x7f80 ? (uint16_t)(h & 0xff7f) : h;
}

static void same_bits(double a, double b)
{
    assert_memory_equal(&a, &b, sizeof a);
}

/* The generic sum lies within gamma_(d-1) of the true one, and any table gives the generic bits. */
static void check_dots(size_t d, size_t shift, unsigned mode)
{
    struct guarded q = guarded_new(4 * d + shift), x = guarded_new(16 * d + shift);
    struct guarded h = guarded_new(2 * d + shift), b = guarded_new(2 * d + shift);
    long double sum = 0.0L, magnitude = 0.0L;
    double want, four[4], want_f16, want_bf16;
    const float *qf = (const float *)(const void *)q.data;
    const float *xf = (const float *)(const void *)x.data;
    const uint16_t *hf = (const uint16_t *)(const void *)h.data;
    const uint16_t *bf = (const uint16_t *)(const void *)b.data;

    for (size_t i = 0; i < 4 * d; i++) {
        float v = some_float(mode);

        memcpy(x.data + 4 * i, &v, 4);
    }
    for (size_t i = 0; i < d; i++) {
        float v = some_float(mode), w;
        uint16_t u = some_f16(mode), t = some_bf16(mode);

        memcpy(&w, x.data + 4 * i, 4);
        memcpy(q.data + 4 * i, &v, 4);
        memcpy(h.data + 2 * i, &u, 2);
        memcpy(b.data + 2 * i, &t, 2);
        sum += (long double)v * (long double)w;
        magnitude += fabsl((long double)v * (long double)w);
    }
    want = kern_generic.dot_f32(qf, xf, d);
    assert_true(fabsl((long double)want - sum) <= (long double)d * 0x1.01p-53L * magnitude);
    want_f16 = kern_generic.dot_f16(qf, hf, d);
    want_bf16 = kern_generic.dot_bf16(qf, bf, d);
    for (size_t t = 0; t < TABLES; t++) {
        if (!kern_supported(tables[t]))
            continue;
        same_bits(tables[t]->dot_f32(qf, xf, d), want);
        same_bits(tables[t]->dot_f16(qf, hf, d), want_f16);
        same_bits(tables[t]->dot_bf16(qf, bf, d), want_bf16);
        tables[t]->dot4_f32(qf, xf, 4 * d, d, four);
        for (size_t r = 0; r < 4; r++)
            same_bits(four[r], kern_generic.dot_f32(
                                   qf, (const float *)(const void *)(x.data + 4 * d * r), d));
    }
    guarded_free(&q);
    guarded_free(&x);
    guarded_free(&h);
    guarded_free(&b);
}

static void dots_of_every_small_size(void **state)
{
    (void)state;
    for (size_t d = 0; d <= 300; d++)
        check_dots(d, d % 7, (unsigned)(d % MODES));
    for (size_t i = 0; i < 300; i++)
        check_dots(random64() % 100, random64() % 64, (unsigned)(random64() % MODES));
}

static void dots_of_large_sizes(void **state)
{
    static const size_t sizes[] = {4095, 4096, 16384, 65537, 131072};

    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        for (unsigned mode = 0; mode < MODES; mode++)
            check_dots(sizes[i], 4 * i + mode % 3, mode);
}

/* A textbook reading of the rule of the lanes, apart from the code under test. */
static void the_rule_of_the_lanes(void **state)
{
    (void)state;
    for (size_t d = 0; d < 200; d++) {
        double lane[32] = {0};
        float q[200], x[200];

        for (size_t i = 0; i < d; i++) {
            q[i] = some_float(0);
            x[i] = some_float(0);
        }
        for (size_t j = 0; j < 32; j++)
            for (size_t i = j; i < d; i += 32)
                lane[j] = lane[j] + (double)q[i] * (double)x[i];
        for (size_t j = 0; j < 16; j++)
            lane[j] = lane[j] + lane[j + 16];
        for (size_t j = 0; j < 8; j++)
            lane[j] = lane[j] + lane[j + 8];
        for (size_t j = 0; j < 4; j++)
            lane[j] = lane[j] + lane[j + 4];
        same_bits(kern_generic.dot_f32(q, x, d),
                  (lane[0] + lane[2]) + (lane[1] + lane[3]));
    }
}

/* fmaf of the C library is the rule; the tables, and what a processor without the instruction does,
 * must give its bits: where sums cancel, round at the half, are denormal or pass the largest. */
static void multiplications_are_fused_and_ascending(void **state)
{
    static float a[70 * KERN_TALL], b[70 * KERN_WIDE], want[KERN_TALL * KERN_WIDE], got[KERN_TALL * KERN_WIDE];
    static float m[70 * 90], x[70], start[90], acc[90], right[90];
    size_t odd = 0;

    (void)state;
    for (size_t turn = 0; turn < 400; turn++) {
        const size_t depth = turn % 70, count = turn * 7 % 91, stride = count + turn % 3;
        const unsigned mode = (unsigned)(turn % MODES);

        for (size_t i = 0; i < sizeof a / sizeof *a; i++)
            a[i] = some_float(mode);
        for (size_t i = 0; i < sizeof b / sizeof *b; i++)
            b[i] = mode == 3 ? some_float(2) : some_float(mode);
        /* products a hair from half a last place of a sum near 1: float64 would call it a tie */
        for (size_t i = KERN_TALL; turn % 7 == 6 && i < sizeof a / sizeof *a; i++)
            a[i] = (random64() & 1 ? 0x1p-12f : -0x1p-12f) * (1.0f + 0x1p-23f);
        for (size_t i = KERN_WIDE; turn % 7 == 6 && i < sizeof b / sizeof *b; i++)
            b[i] = 0x1p-12f * (1.0f - 0x1p-23f);
        for (size_t i = 0; turn % 7 == 6 && i < KERN_WIDE; i++)
            b[i] = 1.0f + 0x1p-23f * (float)i;
        for (size_t i = 0; turn % 7 == 6 && i < KERN_TALL; i++)
            a[i] = 1.0f;
        for (size_t r = 0; r < KERN_TALL; r++)
            for (size_t j = 0; j < KERN_WIDE; j++) {
                float sum = 0.0f;

                for (size_t k = 0; k < depth; k++) {
                    float p = a[k * KERN_TALL + r], q = b[k * KERN_WIDE + j];

                    odd += fmaf(p, q, sum) != (float)((double)p * (double)q + (double)sum);
                    sum = fmaf(p, q, sum);
                }
                want[r * KERN_WIDE + j] = sum;
            }
        for (size_t i = 0; i < sizeof x / sizeof *x; i++)
            x[i] = some_float(mode);
        for (size_t i = 0; i < sizeof m / sizeof *m; i++)
            m[i] = some_float(mode == 1 ? 0 : mode);
        for (size_t j = 0; j < count; j++) {
            right[j] = start[j] = some_float(mode);
            for (size_t k = 0; k < depth && stride * depth <= 70 * 90; k++)
                right[j] = fmaf(x[k], m[k * stride + j], right[j]);
        }
        for (size_t t = 0; t < TABLES; t++) {
            if (!kern_supported(tables[t]))
                continue;
            tables[t]->multiply(a, b, depth, got);
            for (size_t i = 0; i < KERN_TALL * KERN_WIDE; i++)
                if (!isnan(want[i]) || !isnan(got[i]))
                    assert_memory_equal(&got[i], &want[i], sizeof *got);
            if (stride * depth > 70 * 90)
                continue;
            memcpy(acc, start, sizeof acc);
            tables[t]->multiply_row(x, m, stride * sizeof *m, depth, count, acc);
            for (size_t j = 0; j < count; j++)
                if (!isnan(right[j]) || !isnan(acc[j]))
                    assert_memory_equal(&acc[j], &right[j], sizeof *acc);
        }
    }
    assert_true(odd > 100); /* where rounding twice would have shown */
}

/* All 65,536 patterns, at every alignment of the vector loops. Values against ldexp. */
static void widening_is_exact(void **state)
{
    enum { ALL = 65536 };
    uint16_t *in = malloc((ALL + 16) * sizeof *in);
    float *want = malloc(ALL * sizeof *want), *out = malloc((ALL + 1) * sizeof *out);

    (void)state;
    assert_true(in && want && out);
    for (size_t i = 0; i < ALL; i++)
        in[i] = (uint16_t)i;
    kern_generic.widen_f16(in, ALL, want);
    for (unsigned i = 0; i < ALL; i++) {
        int exponent = (int)(i >> 10 & 31), part = (int)(i & 1023);
        double sign = i >> 15 ? -1.0 : 1.0;

        if (exponent == 31 && part)
            assert_true(isnan(want[i]));
        else if (exponent == 31)
            assert_true(want[i] == (float)(sign * INFINITY));
        else
            assert_true(want[i] == (float)(sign * (exponent ? ldexp(1024 + part, exponent - 25)
                                                            : ldexp(part, -24))) &&
                        !signbit(want[i]) == !(i >> 15));
    }
    for (size_t t = 0; t < TABLES; t++)
        if (kern_supported(tables[t])) {
            tables[t]->widen_f16(in, ALL, out);
            assert_memory_equal(out, want, ALL * sizeof *out);
        }
    for (size_t i = 0; i < ALL; i++) {
        uint32_t bits = (uint32_t)i << 16;

        memcpy(want + i, &bits, sizeof bits);
    }
    for (size_t t = 0; t < TABLES; t++)
        if (kern_supported(tables[t])) {
            tables[t]->widen_bf16(in, ALL, out);
            assert_memory_equal(out, want, ALL * sizeof *out);
        }
    free(in);
    free(want);
    free(out);
}

/* Small counts next to an unmapped page, at odd addresses; nothing is written past the end. */
static void edges_of_the_other_kernels(void **state)
{
    (void)state;
    for (size_t n = 0; n < 80; n++) {
        struct guarded in = guarded_new(4 * n + n % 5), out = guarded_new(4 * n + n % 3);
        float *x = (float *)(void *)in.data, *y = (float *)(void *)out.data;
        char want[4 * 80];

        for (size_t i = 0; i < n; i++) {
            float v = some_float((unsigned)(i % MODES));

            memcpy(in.data + 4 * i, &v, 4);
        }
        for (size_t t = 0; t < TABLES; t++) {
            const struct kern *k = tables[t];
            double norm = fabs((double)some_float(1)) + 1e-40;

            if (!kern_supported(k))
                continue;
            assert_int_equal(k->first_bad_f32(x, n), n);
            kern_generic.scale_f32(x, n, norm, y);
            memcpy(want, out.data, 4 * n);
            memset(out.data, 0, 4 * n);
            k->scale_f32(x, n, norm, y);
            assert_memory_equal(out.data, want, 4 * n);

            kern_generic.widen_f16((const uint16_t *)(const void *)in.data, n, y);
            memcpy(want, out.data, 4 * n);
            k->widen_f16((const uint16_t *)(const void *)in.data, n, y);
            assert_memory_equal(out.data, want, 4 * n);
            kern_generic.widen_bf16((const uint16_t *)(const void *)in.data, n, y);
            memcpy(want, out.data, 4 * n);
            k->widen_bf16((const uint16_t *)(const void *)in.data, n, y);
            assert_memory_equal(out.data, want, 4 * n);
        }
        guarded_free(&in);
        guarded_free(&out);
    }
}

static void finds_the_first_bad_value(void **state)
{
    static const uint32_t bad[] = {0x7f800000, 0xff800000, 0x7fc00000, 0x7f800001, 0xffffffff};
    float x[200];

    (void)state;
    for (size_t n = 1; n < 200; n += 3)
        for (size_t at = 0; at < n; at++) {
            for (size_t i = 0; i < n; i++)
                x[i] = i > at && random64() % 8 == 0 ? float_of(bad[random64() % 5]) : FLT_MAX;
            memcpy(x + at, &bad[(n + at) % 5], sizeof x[0]);
            for (size_t t = 0; t < TABLES; t++)
                if (kern_supported(tables[t]))
                    assert_int_equal(tables[t]->first_bad_f32(x, n), at);
        }
}

static void init_picks_and_masks(void **state)
{
    const char *best;

    (void)state;
    unsetenv("ASCRIBE_SIMD");
    best = kern_init(NULL);
    assert_string_equal(kern_init("generic"), "generic");
    assert_ptr_equal(kern, &kern_generic);
    assert_string_equal(kern_init("sse9"), best);
    setenv("ASCRIBE_SIMD", "generic", 1);
    assert_string_equal(kern_init(NULL), "generic");
    assert_string_equal(kern_init(best), best);
    unsetenv("ASCRIBE_SIMD");
    for (size_t t = 0; t < TABLES; t++)
        assert_string_equal(kern_init(tables[t]->name),
                            kern_supported(tables[t]) ? tables[t]->name : best);
    assert_string_equal(kern_init(NULL), best);
}

static double seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t); /* a busy machine does not count */
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* Best of 7 passes over `rows` rows; prints GB/s of x. */
static void bench_one(const struct kern *k, const char *place, const char *what, const float *q,
                      const float *x, size_t rows, size_t d)
{
    double best = 1e9, sink = 0.0, out[4];
    size_t width = strcmp(what, "f32") == 0 || strcmp(what, "f32x4") == 0 ? 4 : 2;
    const uint16_t *h = (const uint16_t *)(const void *)x;

    for (int pass = 0; pass < 7; pass++) {
        double from = seconds();

        for (size_t r = 0; r + 4 <= rows; r += 4) {
            if (strcmp(what, "f32x4") == 0) {
                k->dot4_f32(q, x + r * d, 4 * d, d, out);
                sink += out[0];
                continue;
            }
            for (size_t n = r; n < r + 4; n++)
                sink += width == 4                  ? k->dot_f32(q, x + n * d, d)
                        : strcmp(what, "f16") == 0 ? k->dot_f16(q, h + n * d, d)
                                                   : k->dot_bf16(q, h + n * d, d);
        }
        best = fmin(best, seconds() - from);
    }
    printf("{\"kernel\":\"%s\",\"table\":\"%s\",\"in\":\"%s\",\"d\":%zu,\"gb_per_s\":%.1f}\n", what,
           k->name, place, d, (double)(rows * d * width) / best * 1e-9);
    if (sink == 0.123)
        puts("");
}

static int bench(size_t d)
{
    static const char *const what[] = {"f32", "f32x4", "f16", "bf16"};
    size_t rows = ((size_t)400 << 20) / (4 * d) & ~(size_t)3;
    float *x = malloc(rows * d * sizeof *x), *q = malloc(d * sizeof *q);

    if (!x || !q)
        return 1;
    for (size_t i = 0; i < rows * d; i++)
        x[i] = (float)(i % 1000) * 1e-3f - 0.5f;
    memcpy(q, x, d * sizeof *q);
    for (size_t t = 0; t < TABLES; t++)
        for (size_t w = 0; w < 4 && kern_supported(tables[t]); w++) {
            bench_one(tables[t], "memory", what[w], q, x, rows, d);
            bench_one(tables[t], "cache", what[w], q, x, 4, d);
        }
    free(x);
    free(q);
    return 0;
}

int main(int argc, char **argv)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(dots_of_every_small_size), cmocka_unit_test(dots_of_large_sizes),
        cmocka_unit_test(the_rule_of_the_lanes),
        cmocka_unit_test(multiplications_are_fused_and_ascending),    cmocka_unit_test(widening_is_exact),
        cmocka_unit_test(edges_of_the_other_kernels),
        cmocka_unit_test(finds_the_first_bad_value), cmocka_unit_test(init_picks_and_masks),
    };

    if (argc > 1 && strcmp(argv[1], "--bench") == 0)
        return bench(argc > 2 ? strtoull(argv[2], NULL, 0) : 16384);
    return cmocka_run_group_tests_name("kern", tests, NULL, NULL);
}
