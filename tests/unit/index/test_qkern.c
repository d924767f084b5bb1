/* test_qkern.c - every table of integer kernels this processor runs against the generic one, bit
 * for bit, and the generic one against another reading of index/qkern.h. In the manner of checkasm:
 * every small shape, any address, buffers that end at an unmapped page, and extremes: codes all 0
 * and all ones, queries of -128, 131,072 elements.
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
#include <unistd.h>

#include <cmocka.h>

#include "index/kern.h"
#include "index/qkern.h"

static const struct qkern *const tables[] = {&qkern_generic, &qkern_avx2, &qkern_avx512,
                                             &qkern_avx512vnni, &qkern_neon, &qkern_neondot};

enum { TABLES = sizeof tables / sizeof tables[0], PLANES = 3, JOINED = PLANES, KINDS };

static const size_t plane_bytes[KINDS] = {QKERN_BITS, QKERN_SIX, QKERN_LOW, QKERN_GROUP};

static qkern_dot *dot_of(const struct qkern *k, size_t plane)
{
    qkern_dot *const all[KINDS] = {k->dot_bits, k->dot_six, k->dot_low, k->dot_joined};

    return all[plane];
}

/* Of joined rows each table has its own meaning of a byte. */
static int takes(const struct qkern *k, size_t plane, int base)
{
    return qkern_supported(k) && (plane < JOINED || k->base == base);
}

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

/* How bytes are drawn: 0 any, 1 all zero, 2 all ones, 3 -128 (the least int8), 4 +127. */
enum { FILLS = 5 };

static void fill(char *p, size_t bytes, unsigned how)
{
    static const unsigned char same[FILLS] = {0, 0, 0xff, 0x80, 0x7f};

    for (size_t i = 0; i < bytes; i++)
        p[i] = (char)(how % FILLS ? same[how % FILLS] : random64());
}

static int32_t joined_at(const unsigned char *row, size_t i, int base)
{
    return base == QKERN_SIGNED ? (int8_t)row[i] : row[i];
}

/* Code of element i of a row, read as the header says it, not as the kernel does. */
static unsigned code_at(size_t plane, const unsigned char *row, size_t i)
{
    const unsigned char *g = row + i / 256 * plane_bytes[plane];
    const size_t e = i % 256, j = e % 64, k = e / 64;

    if (plane == 0)
        return g[e % 32] >> (e / 32) & 1u;
    if (plane == 2)
        return g[j] >> (2 * k) & 3u;
    if (k < 3)
        return g[64 * k + j] & 63u;
    return (unsigned)(g[j] >> 6 | g[64 + j] >> 6 << 2 | g[128 + j] >> 6 << 4);
}

static void check_dot_of(size_t plane, int base, size_t groups, size_t count, size_t nq, size_t gap,
                         unsigned how)
{
    const size_t bytes = groups * plane_bytes[plane], stride = bytes + gap, d = groups * 256;
    struct guarded rows = guarded_new(count ? (count - 1) * stride + bytes : 0);
    struct guarded q[16], out = guarded_new(count * nq * sizeof(int32_t));
    const int8_t *queries[16];
    int32_t *want = calloc(count * nq + 1, sizeof *want);

    assert_non_null(want);
    fill(rows.data, (size_t)(rows.map + rows.mapped - rows.data) - (size_t)sysconf(_SC_PAGESIZE),
         how);
    for (size_t j = 0; j < nq; j++) {
        q[j] = guarded_new(d);
        fill(q[j].data, d, how / FILLS + (unsigned)(j % 2 ? 0 : j));
        for (size_t i = 0; i < d && plane == JOINED; i++)
            q[j].data[i] = (char)((unsigned char)q[j].data[i] == 0x80 ? 0x81 : q[j].data[i]);
        queries[j] = (const int8_t *)q[j].data;
    }
    for (size_t r = 0; r < count; r++)
        for (size_t j = 0; j < nq; j++)
            for (size_t i = 0; i < d; i++)
                want[r * nq + j] +=
                    (plane == JOINED
                         ? joined_at((unsigned char *)rows.data + r * stride, i, base)
                         : (int32_t)code_at(plane, (unsigned char *)rows.data + r * stride, i)) *
                    queries[j][i];
    for (size_t t = 0; t < TABLES; t++)
        if (takes(tables[t], plane, base)) {
            memset(out.data, 0x5a, count * nq * sizeof(int32_t));
            dot_of(tables[t], plane)((const unsigned char *)rows.data, stride, count, queries, nq,
                                     groups, (int32_t *)(void *)out.data);
            assert_memory_equal(out.data, want, count * nq * sizeof(int32_t));
        }
    for (size_t j = 0; j < nq; j++)
        guarded_free(&q[j]);
    guarded_free(&rows);
    guarded_free(&out);
    free(want);
}

static void check_dot(size_t plane, size_t groups, size_t count, size_t nq, size_t gap,
                      unsigned how)
{
    check_dot_of(plane, QKERN_SIGNED, groups, count, nq, gap, how);
    if (plane == JOINED)
        check_dot_of(plane, QKERN_UNSIGNED, groups, count, nq, gap, how);
}

static void dots_of_every_small_shape(void **state)
{
    (void)state;
    for (size_t plane = 0; plane < KINDS; plane++)
        for (size_t groups = 0; groups <= 5; groups++)
            for (size_t count = 0; count <= 9; count++)
                for (size_t nq = 1; nq <= 9; nq += groups < 3 ? 1 : 3)
                    check_dot(plane, groups, count, nq, random64() % 3 ? 0 : random64() % 99,
                              (unsigned)(random64() % 3 ? 0 : random64() % 25));
}

static void dots_of_every_extreme(void **state)
{
    (void)state;
    for (size_t plane = 0; plane < KINDS; plane++)
        for (unsigned how = 0; how < FILLS * FILLS; how++)
            check_dot(plane, 16, 5, 1 + how % 6, how % 7, how);
}

/* Each code at its greatest and each q at its least: the most negative sums of the largest vector
 * promised, written out as products, and the same with +127. */
static void dots_of_the_largest_vectors(void **state)
{
    static const int32_t most[PLANES] = {1, 63, 3};

    (void)state;
    for (size_t plane = 0; plane < PLANES; plane++) {
        const size_t groups = plane == 1 ? 1040 : 512, d = groups * 256;
        unsigned char *row = malloc(groups * plane_bytes[plane]);
        int8_t *low = malloc(d), *high = malloc(d);
        const int8_t *q[3] = {low, high, low};
        int32_t out[3], alone[5];

        assert_true(row && low && high);
        memset(row, 0xff, groups * plane_bytes[plane]);
        memset(low, -128, d);
        memset(high, 127, d);
        for (size_t t = 0; t < TABLES; t++)
            if (qkern_supported(tables[t])) {
                dot_of(tables[t], plane)(row, 0, 1, q, 3, groups, out);
                assert_int_equal(out[0], -128 * most[plane] * (int32_t)d);
                assert_int_equal(out[1], 127 * most[plane] * (int32_t)d);
                assert_int_equal(out[2], out[0]);
                dot_of(tables[t], plane)(row, 0, 5, q, 1, groups, alone);
                for (size_t r = 0; r < 5; r++)
                    assert_int_equal(alone[r], out[0]);
            }
        free(row);
        free(low);
        free(high);
        check_dot(plane, 512, 6, 3, 0, 0);
        check_dot(plane, 512, 6, 1, 0, 0);
    }
}

/* What is meant to be added is modulo 2^32: the greatest sums of joined rows are beyond, and less
 * base times the sum of q they are themselves again. */
static void joined_dots_of_the_largest_vectors(void **state)
{
    enum { GROUPS = 516, D = GROUPS * 256 };
    static const int codes[] = {0, 1, 127, 128, 255};
    unsigned char *row = malloc(D);
    int8_t *q = malloc(D);
    const int8_t *queries[1] = {q};

    (void)state;
    assert_true(row && q);
    for (size_t t = 0; t < TABLES; t++)
        for (size_t c = 0; c < sizeof codes / sizeof codes[0] && qkern_supported(tables[t]); c++)
            for (int v = -127; v <= 127; v += 254) {
                int32_t out;

                memset(row, (codes[c] - tables[t]->base) & 255, D);
                memset(q, v, D);
                tables[t]->dot_joined(row, D, 1, queries, 1, GROUPS, &out);
                out = (int32_t)((uint32_t)out -
                                (uint32_t)(QKERN_SIGNED - tables[t]->base) * (uint32_t)(v * D));
                assert_true(out == (codes[c] - QKERN_SIGNED) * v * D);
            }
    free(row);
    free(q);
    check_dot(JOINED, 512, 6, 3, 0, 0);
    check_dot(JOINED, 512, 6, 1, 0, 0);
}

static void join_makes_bytes_of_the_planes(void **state)
{
    (void)state;
    for (size_t groups = 0; groups <= 9; groups++)
        for (size_t t = 0; t < TABLES; t++) {
            struct guarded six = guarded_new(groups * QKERN_SIX);
            struct guarded low = guarded_new(groups * QKERN_LOW);
            struct guarded out = guarded_new(groups * QKERN_GROUP);
            const unsigned char *c6 = (unsigned char *)six.data, *c2 = (unsigned char *)low.data;

            fill(six.data, groups * QKERN_SIX, 0);
            fill(low.data, groups * QKERN_LOW, 0);
            if (qkern_supported(tables[t]))
                tables[t]->join(c6, c2, groups, (unsigned char *)out.data);
            for (size_t i = 0; i < groups * 256 && qkern_supported(tables[t]); i++)
                assert_int_equal(joined_at((unsigned char *)out.data, i, tables[t]->base),
                                 (int)(4 * code_at(1, c6, i) + code_at(2, c2, i)) -
                                     tables[t]->base);
            guarded_free(&six);
            guarded_free(&low);
            guarded_free(&out);
        }
}

/* One finite float32: 0 ordinary, 1 tiny and denormal, 2 huge but safe to add 2^17 times, 3 a few
 * values that cancel, 4 zeros of either sign. */
enum { MODES = 5 };

static float some_float(unsigned mode)
{
    const uint64_t r = random64();
    const float v = ((float)(r >> 40) * 0x1p-24f - 0.5f) * (r & 1 ? 1.0f : 0.01f);

    switch (mode) {
    case 0:
        return v;
    case 1:
        return v * 0x1p-140f;
    case 2:
        return v * 0x1p108f;
    case 3:
        return (float)((int)(r % 5) - 2);
    default:
        return r & 2 ? 0.0f : -0.0f;
    }
}

static struct guarded some_floats(size_t n, unsigned mode)
{
    struct guarded g = guarded_new(n * sizeof(float));

    for (size_t i = 0; i < n; i++) {
        const float v = some_float(mode);

        memcpy(g.data + 4 * i, &v, sizeof v);
    }
    return g;
}

static float *floats(struct guarded *g)
{
    return (float *)(void *)g->data;
}

static void same_bits(double a, double b)
{
    assert_memory_equal(&a, &b, sizeof a);
}

static void transform_gives_the_same_bits(void **state)
{
    (void)state;
    for (size_t n = 256; n <= 131072; n *= 2)
        for (unsigned mode = 0; mode < MODES; mode++) {
            struct guarded x = some_floats(n, mode), y = guarded_new(4 * n);
            char *from = malloc(4 * n);

            assert_non_null(from);
            memcpy(from, x.data, 4 * n);
            qkern_generic.fwht(floats(&x), n);
            for (size_t t = 1; t < TABLES; t++)
                if (qkern_supported(tables[t])) {
                    memcpy(y.data, from, 4 * n);
                    tables[t]->fwht(floats(&y), n);
                    assert_memory_equal(y.data, x.data, 4 * n);
                }
            free(from);
            guarded_free(&x);
            guarded_free(&y);
        }
}

/* Output i is the sum over j of (-1)^popcount(i & j) x[j]: small integers, so without rounding. */
static void transform_is_walsh_hadamard(void **state)
{
    (void)state;
    for (size_t n = 256; n <= 1024; n *= 2) {
        struct guarded x = some_floats(n, 3);
        double *want = calloc(n, sizeof *want);

        assert_non_null(want);
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < n; j++)
                want[i] += __builtin_popcountll(i & j) % 2 ? -(double)floats(&x)[j]
                                                           : (double)floats(&x)[j];
        qkern_generic.fwht(floats(&x), n);
        for (size_t i = 0; i < n; i++)
            assert_true((double)floats(&x)[i] == want[i]);
        free(want);
        guarded_free(&x);
    }
}

static void flip_turns_and_scales(void **state)
{
    (void)state;
    for (size_t n = 0; n <= 1024; n += 64)
        for (unsigned mode = 0; mode < MODES; mode++) {
            struct guarded x = some_floats(n, mode), y = guarded_new(4 * n);
            struct guarded signs = guarded_new(n / 8);
            const float scale = mode % 2 ? 0.125f : some_float(0);

            fill(signs.data, n / 8, mode);
            for (size_t t = 0; t < TABLES; t++)
                if (qkern_supported(tables[t])) {
                    memcpy(y.data, x.data, 4 * n);
                    tables[t]->flip(floats(&y), (const uint64_t *)(const void *)signs.data, scale,
                                    n);
                    for (size_t i = 0; i < n; i++) {
                        const float v = floats(&x)[i] * scale;
                        const float w = signs.data[i / 8] >> i % 8 & 1 ? -v : v;

                        assert_memory_equal(floats(&y) + i, &w, sizeof w);
                    }
                }
            guarded_free(&x);
            guarded_free(&y);
            guarded_free(&signs);
        }
}

static void max_abs_finds_the_greatest(void **state)
{
    (void)state;
    for (size_t n = 0; n <= 512; n += 64)
        for (size_t at = 0; at < (n ? n : 1); at++) {
            struct guarded x = some_floats(n, (unsigned)(at % 2));
            const float most = at % 3 ? -0.75f : 0.75f;

            if (n)
                floats(&x)[at] = most;
            for (size_t t = 0; t < TABLES; t++)
                if (qkern_supported(tables[t]))
                    assert_true(tables[t]->max_abs(floats(&x), n) == (n ? 0.75f : 0.0f));
            guarded_free(&x);
        }
}

/* Values for encode: ordinary ones, and those where rounding down decides: whole multiples of s,
 * one ulp beside them, what clips, zeros and denormals. */
static void some_vector(float *x, size_t n, float s)
{
    for (size_t i = 0; i < n; i++) {
        const uint64_t r = random64();
        const float whole = (float)((int)(r % 257) - 128) * s;

        switch (r >> 32 & 7) {
        case 0:
            x[i] = whole;
            break;
        case 1:
            x[i] = nextafterf(whole, INFINITY);
            break;
        case 2:
            x[i] = nextafterf(whole, -INFINITY);
            break;
        case 3:
            x[i] = r & 256 ? -0.0f : 0x1p-149f;
            break;
        default:
            x[i] = some_float(0) * 256.0f * s;
        }
    }
    if (n)
        x[random64() % n] = 1000.0f * s;
}

/* The planes against codes found element by element, the sums against long double. */
static void check_encode(size_t groups, float s)
{
    const size_t d = groups * 256;
    struct guarded x = guarded_new(4 * d), plane[PLANES];
    struct qkern_sums want, got;
    long double rest6 = 0, rest8 = 0, norm = 0, most = 0;
    int64_t code6 = 0, code8 = 0;
    char *planes[PLANES];

    some_vector(floats(&x), d, s);
    for (size_t p = 0; p < PLANES; p++) {
        plane[p] = guarded_new(groups * plane_bytes[p]);
        planes[p] = malloc(groups * plane_bytes[p] + 1);
        assert_non_null(planes[p]);
    }
    qkern_generic.encode(floats(&x), groups, s, (unsigned char *)planes[0],
                         (unsigned char *)planes[1], (unsigned char *)planes[2], &want);
    for (size_t i = 0; i < d; i++) {
        const float v = floats(&x)[i], scaled = v * (1.0f / s);
        const int c = scaled >= 127.0f ? 255 : scaled < -128.0f ? 0 : (int)floorf(scaled) + 128;
        const int c6 = c / 4;
        const long double at6 = 2.0L * s * (2 * c6 - 63), at8 = 0.5L * s * (2 * c - 255);

        assert_int_equal(code_at(0, (unsigned char *)planes[0], i), c >= 128);
        assert_int_equal(code_at(1, (unsigned char *)planes[1], i), c6);
        assert_int_equal(code_at(2, (unsigned char *)planes[2], i), c % 4);
        rest6 += ((long double)v - at6) * ((long double)v - at6);
        rest8 += ((long double)v - at8) * ((long double)v - at8);
        norm += (long double)v * v;
        most += fabsl((long double)v);
        code6 += (2 * c6 - 63) * (2 * c6 - 63);
        code8 += (2 * c - 255) * (2 * c - 255);
    }
    /* 256 groups at most: gamma_n of a float64 sum, and three roundings of each term */
    assert_true(fabsl(want.rest6 - rest6) <= ((long double)d + 4) * 0x1p-53L * rest6);
    assert_true(fabsl(want.rest8 - rest8) <= ((long double)d + 4) * 0x1p-53L * rest8);
    assert_true(fabsl(want.norm - norm) <= ((long double)d + 4) * 0x1p-53L * norm);
    assert_true(fabsl(want.abs - most) <= ((long double)d + 4) * 0x1p-53L * most);
    assert_true(want.code6 == code6 && want.code8 == code8);
    for (size_t t = 1; t < TABLES; t++)
        if (qkern_supported(tables[t])) {
            tables[t]->encode(floats(&x), groups, s, (unsigned char *)plane[0].data,
                              (unsigned char *)plane[1].data, (unsigned char *)plane[2].data,
                              &got);
            for (size_t p = 0; p < PLANES; p++)
                assert_memory_equal(plane[p].data, planes[p], groups * plane_bytes[p]);
            same_bits(got.rest6, want.rest6);
            same_bits(got.rest8, want.rest8);
            same_bits(got.norm, want.norm);
            same_bits(got.abs, want.abs);
            assert_true(got.code6 == want.code6 && got.code8 == want.code8);
        }
    for (size_t p = 0; p < PLANES; p++) {
        guarded_free(&plane[p]);
        free(planes[p]);
    }
    guarded_free(&x);
}

static void encode_writes_the_planes_and_their_sums(void **state)
{
    static const float scales[] = {1.0f, 0.0123f, 0x1p-100f, 3e30f, 0x1.fffffep-11f};

    (void)state;
    for (size_t groups = 0; groups <= 9; groups++)
        for (size_t i = 0; i < sizeof scales / sizeof scales[0]; i++)
            check_encode(groups, scales[i]);
    for (size_t i = 0; i < 100; i++)
        check_encode(1 + random64() % 4, fabsf(some_float(0)) + 0x1p-30f);
    check_encode(64, 7e-5f);
    check_encode(512, 3e-5f);
}

/* Every code the largest: the integer sums of 131,072 elements pass 2^32. */
static void encode_sums_of_the_largest_vector(void **state)
{
    const size_t groups = 512, d = groups * 256;
    float *x = malloc(d * sizeof *x);
    unsigned char *planes = malloc(groups * (QKERN_BITS + QKERN_SIX + QKERN_LOW));
    struct qkern_sums sums;

    (void)state;
    assert_true(x && planes);
    for (size_t i = 0; i < d; i++)
        x[i] = i % 2 ? 127.5f : -127.5f;
    for (size_t t = 0; t < TABLES; t++)
        if (qkern_supported(tables[t])) {
            tables[t]->encode(x, groups, 1.0f, planes, planes + groups * QKERN_BITS,
                              planes + groups * (QKERN_BITS + QKERN_SIX), &sums);
            assert_true(sums.code8 == (int64_t)d * 255 * 255);
            assert_true(sums.code6 == (int64_t)d * 63 * 63);
            assert_true(sums.norm == (double)d * 127.5 * 127.5);
            assert_true(sums.rest8 == 0.0);
            assert_true(sums.rest6 == (double)d * 1.5 * 1.5);
        }
    free(x);
    free(planes);
}

static void check_split(size_t groups, float sq)
{
    const size_t d = groups * 256;
    struct guarded u = guarded_new(4 * d), hi = guarded_new(d), lo = guarded_new(d);
    int8_t *want_hi = malloc(d + 1), *want_lo = malloc(d + 1);
    long double rest = 0, rest_hi = 0;
    struct qkern_split want, got;
    int64_t sum = 0, sum_hi = 0;

    assert_true(want_hi && want_lo);
    for (size_t i = 0; i < d; i++) {
        const uint64_t r = random64();
        const float q = (float)((int)(r % 33001) - 16500); /* beyond the greatest, too */

        floats(&u)[i] = (r >> 40 & 3 ? q : q + 0.5f) * sq * (r >> 50 & 7 ? 1.0f : 0.001f);
    }
    qkern_generic.split(floats(&u), groups, sq, want_hi, want_lo, &want);
    for (size_t i = 0; i < d; i++) {
        const float v = floats(&u)[i];
        const int q = 128 * want_hi[i] + want_lo[i];
        const long double off = v - (long double)sq * q,
                          off_hi = v - (long double)sq * 128 * want_hi[i];

        assert_in_range(want_lo[i] + 64, 0, 127);
        assert_in_range(want_hi[i] + 127, 0, 254);
        assert_in_range(q + QKERN_Q_MAX, 0, 2 * QKERN_Q_MAX);
        if (fabsf(v * (1.0f / sq)) < QKERN_Q_MAX)
            assert_true((float)q == nearbyintf(v * (1.0f / sq)));
        else
            assert_int_equal(abs(q), QKERN_Q_MAX);
        rest += off * off;
        rest_hi += off_hi * off_hi;
        sum += q;
        sum_hi += want_hi[i];
    }
    assert_true(fabsl(want.rest - rest) <= ((long double)d + 4) * 0x1p-53L * rest);
    assert_true(fabsl(want.rest_hi - rest_hi) <= ((long double)d + 4) * 0x1p-53L * rest_hi);
    assert_true(want.sum == sum && want.sum_hi == sum_hi);
    for (size_t t = 1; t < TABLES; t++)
        if (qkern_supported(tables[t])) {
            tables[t]->split(floats(&u), groups, sq, (int8_t *)hi.data, (int8_t *)lo.data, &got);
            assert_memory_equal(hi.data, want_hi, d);
            assert_memory_equal(lo.data, want_lo, d);
            same_bits(got.rest, want.rest);
            same_bits(got.rest_hi, want.rest_hi);
            assert_true(got.sum == want.sum && got.sum_hi == want.sum_hi);
        }
    free(want_hi);
    free(want_lo);
    guarded_free(&u);
    guarded_free(&hi);
    guarded_free(&lo);
}

static void split_makes_the_query_planes(void **state)
{
    (void)state;
    for (size_t groups = 0; groups <= 9; groups++)
        check_split(groups, groups % 2 ? 1.0f : fabsf(some_float(0)) + 1e-9f);
    check_split(64, 1.0f);
    check_split(512, 3e-7f);
}

/* Addresses of floats that are not multiples of four: tensors in a body lie anywhere. */
static void any_address_will_do(void **state)
{
    (void)state;
    for (size_t shift = 1; shift < 4; shift++)
        for (size_t t = 0; t < TABLES; t++) {
            struct guarded x = guarded_new(4 * 512 + shift), y = guarded_new(4 * 512);
            float *odd = (float *)(void *)x.data;
            unsigned char out[2][2 * (QKERN_BITS + QKERN_SIX + QKERN_LOW)];
            struct qkern_sums sums[2];

            if (qkern_supported(tables[t])) {
                some_vector(floats(&y), 512, 0.01f);
                memcpy(x.data, y.data, 4 * 512);
                tables[t]->fwht(odd, 512);
                qkern_generic.fwht(floats(&y), 512);
                assert_memory_equal(x.data, y.data, 4 * 512);
                same_bits((double)tables[t]->max_abs(odd, 512),
                          (double)qkern_generic.max_abs(floats(&y), 512));
                tables[t]->encode(odd, 2, 0.1f, out[0], out[0] + 64, out[0] + 448, &sums[0]);
                qkern_generic.encode(floats(&y), 2, 0.1f, out[1], out[1] + 64, out[1] + 448,
                                     &sums[1]);
                assert_memory_equal(out[0], out[1], sizeof out[0]);
                assert_memory_equal(&sums[0], &sums[1], sizeof sums[0]);
            }
            guarded_free(&x);
            guarded_free(&y);
        }
}

static void one_name_picks_both_tables(void **state)
{
    static const struct {
        const char *name;
        const struct kern *kern;
        const struct qkern *qkern;
    } levels[] = {
        {"generic", &kern_generic, &qkern_generic}, {"avx2", &kern_avx2, &qkern_avx2},
        {"avx512", &kern_avx512, &qkern_avx512},    {"avx512vnni", &kern_avx512, &qkern_avx512vnni},
        {"neon", &kern_neon, &qkern_neon},          {"neondot", &kern_neon, &qkern_neondot},
    };

    (void)state;
    for (size_t i = 0; i < sizeof levels / sizeof levels[0]; i++) {
        if (!kern_supported(levels[i].kern) || !qkern_supported(levels[i].qkern))
            continue;
        assert_string_equal(kern_init(levels[i].name), levels[i].name);
        assert_string_equal(kern_level(), levels[i].name);
        assert_ptr_equal(kern, levels[i].kern);
        assert_ptr_equal(qkern, levels[i].qkern);
    }
    kern_init(NULL);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(dots_of_every_small_shape),
        cmocka_unit_test(dots_of_every_extreme),
        cmocka_unit_test(dots_of_the_largest_vectors),
        cmocka_unit_test(joined_dots_of_the_largest_vectors),
        cmocka_unit_test(join_makes_bytes_of_the_planes),
        cmocka_unit_test(transform_gives_the_same_bits),
        cmocka_unit_test(transform_is_walsh_hadamard),
        cmocka_unit_test(flip_turns_and_scales),
        cmocka_unit_test(max_abs_finds_the_greatest),
        cmocka_unit_test(encode_writes_the_planes_and_their_sums),
        cmocka_unit_test(encode_sums_of_the_largest_vector),
        cmocka_unit_test(split_makes_the_query_planes),
        cmocka_unit_test(any_address_will_do),
        cmocka_unit_test(one_name_picks_both_tables),
    };

    return cmocka_run_group_tests_name("qkern", tests, NULL, NULL);
}
