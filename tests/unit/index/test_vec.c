/* test_vec.c - rounding to f16 and bf16 against an oracle by exact float64 comparison of
 * neighbours, normalising over the whole range of float32, and what is refused.
 *
 * `test_vec --narrow f16|bf16` reads float32 from stdin and writes the rounded values to stdout:
 * tests/integration/test_projection.py compares the f16 ones with numpy's.
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

#include <cmocka.h>

#include "index/kern.h"
#include "index/vec.h"

static uint64_t state_of_random = 5;

static uint64_t random64(void)
{
    uint64_t z = state_of_random += UINT64_C(0x9E3779B97F4A7C15);

    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

static float float_of(uint32_t bits)
{
    float v;

    memcpy(&v, &bits, sizeof v);
    return v;
}

static double widened(uint16_t h, enum dtype t)
{
    float v;

    vec_widen(&h, t, 1, &v);
    return (double)v;
}

/* The oracle: the magnitude's pattern is found by bisection over the (ordered) finite patterns,
 * then the nearer neighbour is taken in float64, where all of these are exact; ties go to the even
 * one. Past the last finite value, the next would be at `beyond`. */
static uint16_t nearest_even(float v, enum dtype t)
{
    uint16_t low = 0, high = t == DTYPE_F16 ? 0x7bff : 0x7f7f;
    double x = fabs((double)v), below, above;
    uint16_t sign = signbit(v) ? 0x8000 : 0, infinity = (uint16_t)(high + 1);

    while (low < high) { /* the last pattern not above x */
        uint16_t middle = (uint16_t)((low + high + 1) / 2);

        if (widened(middle, t) <= x)
            low = middle;
        else
            high = (uint16_t)(middle - 1);
    }
    below = widened(low, t);
    above = low + 1 < infinity ? widened((uint16_t)(low + 1), t)
                               : (t == DTYPE_F16 ? 0x1p16 : 0x1p128);
    if (x - below > above - x || (x - below == above - x && low % 2))
        low++;
    return (uint16_t)(sign | low);
}

static void check_narrow(uint32_t bits)
{
    static const enum dtype types[] = {DTYPE_F16, DTYPE_BF16};
    float v = float_of(bits);

    for (int i = 0; i < 2; i++) {
        uint16_t out;

        vec_narrow(&v, 1, types[i], &out);
        if (isnan(v))
            assert_true(isnan(widened(out, types[i])));
        else if (isinf(v))
            assert_true(widened(out, types[i]) == (double)v);
        else
            assert_int_equal(out, nearest_even(v, types[i]));
    }
}

static void narrowing_is_nearest_even(void **state)
{
    (void)state;
    for (uint32_t high = 0; high < 65536; high++) { /* every bf16, its ties and their neighbours */
        static const uint32_t low[] = {0, 1, 0x7fff, 0x8000, 0x8001, 0xffff};

        for (size_t i = 0; i < 6; i++)
            check_narrow(high << 16 | low[i]);
    }
    for (uint32_t h = 0; h < 0x7c00; h++) { /* every f16, its ties and their neighbours */
        double a = widened((uint16_t)h, DTYPE_F16);
        double b = h == 0x7bff ? 65536.0 : widened((uint16_t)(h + 1), DTYPE_F16);
        float middle = (float)((a + b) / 2);

        uint32_t bits;

        memcpy(&bits, &middle, sizeof bits);
        check_narrow(bits);
        check_narrow(bits - 1);
        check_narrow(bits + 1);
        check_narrow(bits | 0x80000000);
    }
    for (size_t i = 0; i < 200000; i++)
        check_narrow((uint32_t)random64());
}

static void what_was_widened_narrows_back(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 65536; i++) {
        static const enum dtype types[] = {DTYPE_F16, DTYPE_BF16};

        for (int t = 0; t < 2; t++) {
            uint16_t in = (uint16_t)i, back;
            float v;

            vec_widen(&in, types[t], 1, &v);
            vec_narrow(&v, 1, types[t], &back);
            if (!isnan(v))
                assert_int_equal(back, in);
        }
    }
}

enum { MOST = 3000 };

/* One f32 row against long double: norm within (d + 2) float64 roundings, elements within one
 * float32 rounding (or the type's own). */
static void check_row(const float *row, size_t d)
{
    static const enum dtype types[] = {DTYPE_F32, DTYPE_F16, DTYPE_BF16};
    static const double step[] = {0x1p-24, 0x1.01p-11, 0x1.01p-8};
    static const double least[] = {0x1p-150, 0x1.01p-25, 0x1p-134};
    static float scratch[MOST], out[MOST], wide[MOST];
    char unaligned[4 * MOST + 1];
    long double sum = 0.0L, norm;

    for (size_t i = 0; i < d; i++)
        sum += (long double)row[i] * row[i];
    norm = sqrtl(sum);
    memcpy(unaligned + 1, row, d * sizeof *row);
    for (int t = 0; t < 3; t++) {
        struct err e = ERR_INIT;
        double got, length;

        assert_int_equal(vec_normalise(unaligned + 1, DTYPE_F32, d, types[t], out, &got, scratch,
                                       "gradients", 0, &e), 0);
        assert_true(fabsl((long double)got - norm) <= (long double)(d + 2) * 0x1p-53L * norm);
        vec_widen(out, types[t], d, wide);
        for (size_t i = 0; i < d; i++) {
            double want = (double)((long double)row[i] / norm);

            assert_true(fabs((double)wide[i] - want) <= 1.001 * step[t] * fabs(want) + least[t]);
        }
        length = sqrt(kern_dot(DTYPE_F32, wide, wide, d));
        assert_true(fabs(length - 1.0) <= 1.1 * step[t] + least[t] * sqrt((double)d));
    }
}

static void normalises_the_whole_range(void **state)
{
    static float row[MOST];

    (void)state;
    for (size_t d = 1; d <= MOST; d += 1 + d / 3)
        for (int mode = 0; mode < 5; mode++) {
            for (size_t i = 0; i < d; i++) {
                uint32_t r = (uint32_t)random64();
                float v = (float)((double)r * 0x1p-31 - 1.0);

                if (mode == 0)
                    row[i] = v;
                else if (mode == 1)
                    row[i] = r % 2 ? FLT_MAX : -FLT_MAX;
                else if (mode == 2)
                    row[i] = float_of(r & 0x80000007); /* denormals */
                else if (mode == 3)
                    row[i] = i ? 0x1p-149f : FLT_MAX;
                else
                    row[i] = i == d - 1 ? -0x1p-149f : 0.0f;
            }
            if (mode == 2)
                row[0] = 0x1p-149f;
            check_row(row, d);
        }
}

/* f16 and bf16 inputs: as if they had come as float32. */
static void takes_the_short_types(void **state)
{
    static const enum dtype types[] = {DTYPE_F16, DTYPE_BF16};

    (void)state;
    for (size_t d = 1; d < 100; d++)
        for (int t = 0; t < 2; t++) {
            uint16_t in[100];
            float wide[100], a[100], b[100], scratch[100];
            double norm_a, norm_b;
            struct err e = ERR_INIT;

            for (size_t i = 0; i < d; i++)
                in[i] = (uint16_t)(random64() & 0xbfff) | 1; /* finite in both, not zero */
            vec_widen(in, types[t], d, wide);
            assert_int_equal(vec_normalise(in, types[t], d, DTYPE_F32, a, &norm_a, scratch, "g", 0,
                                           &e), 0);
            assert_int_equal(vec_normalise(wide, DTYPE_F32, d, DTYPE_F32, b, &norm_b, scratch, "g",
                                           0, &e), 0);
            assert_true(norm_a == norm_b);
            assert_memory_equal(a, b, d * sizeof a[0]);
        }
}

static void refuses_by_name(void **state)
{
    static const uint32_t bad[] = {0x7f800000, 0xff800000, 0x7fc00000};
    static const char *const word[] = {"+infinity", "-infinity", "NaN"};
    float row[40], out[40], scratch[40];
    double norm = 7.0;

    (void)state;
    for (size_t at = 0; at < 40; at++)
        for (int i = 0; i < 3; i++) {
            struct err e = ERR_INIT;
            char want[100];

            for (size_t j = 0; j < 40; j++)
                row[j] = 1.0f;
            memcpy(row + at, &bad[i], sizeof row[0]);
            memset(out, 0x55, sizeof out);
            assert_int_equal(vec_normalise(row, DTYPE_F32, 40, DTYPE_F32, out, &norm, scratch,
                                           "gradients", 12, &e), ERR_NOT_FINITE);
            snprintf(want, sizeof want, "gradients: row 12, element %zu is %s", at, word[i]);
            assert_string_equal(e.text, want);
            assert_string_equal(e.field, "gradients");
            assert_int_equal(e.index, 12);
            assert_true(norm == 7.0);
            for (size_t j = 0; j < sizeof out; j++)
                assert_int_equal(((unsigned char *)out)[j], 0x55);
        }
    for (size_t d = 0; d <= 40; d++) {
        struct err e = ERR_INIT;

        for (size_t j = 0; j < 40; j++)
            row[j] = j % 2 ? 0.0f : -0.0f;
        assert_int_equal(vec_normalise(row, DTYPE_F32, d, DTYPE_BF16, out, &norm, scratch,
                                       "queries", 3, &e), ERR_ZERO_GRADIENT);
        assert_string_equal(e.text, "queries: row 3 is all zeros and has no direction");
        assert_int_equal(e.index, 3);
    }
}

/* All tables give the same row, to the bit. */
static void the_same_under_every_table(void **state)
{
    static const char *const names[] = {"generic", "avx2", "avx512"};
    float row[1000], scratch[1000], want[1000], out[1000];

    (void)state;
    for (int round = 0; round < 50; round++) {
        size_t d = 1 + random64() % 1000;
        double norm = 0.0, first = 0.0;
        struct err e = ERR_INIT;

        for (size_t i = 0; i < d; i++)
            row[i] = float_of((uint32_t)random64() & 0xbfffffff);
        row[0] = 1.0f;
        for (int t = 0; t < 3; t++) {
            kern_init(names[t]);
            assert_int_equal(vec_normalise(row, DTYPE_F32, d, DTYPE_F32, t ? out : want, &norm,
                                           scratch, "g", 0, &e), 0);
            first = t ? first : norm;
            assert_true(norm == first);
            if (t)
                assert_memory_equal(out, want, d * sizeof *out);
        }
    }
}

static int narrow(const char *type)
{
    float in[1024];
    uint16_t out[1024];
    enum dtype t;
    size_t n;

    if (!dtype_from_name(type, &t) || t == DTYPE_F32)
        return 1;
    while ((n = fread(in, sizeof *in, 1024, stdin)) > 0) {
        vec_narrow(in, n, t, out);
        if (fwrite(out, sizeof *out, n, stdout) != n)
            return 1;
    }
    return 0;
}

int main(int argc, char **argv)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(narrowing_is_nearest_even),
        cmocka_unit_test(what_was_widened_narrows_back),
        cmocka_unit_test(normalises_the_whole_range), cmocka_unit_test(takes_the_short_types),
        cmocka_unit_test(refuses_by_name),            cmocka_unit_test(the_same_under_every_table),
    };

    if (argc == 3 && strcmp(argv[1], "--narrow") == 0)
        return narrow(argv[2]);
    return cmocka_run_group_tests_name("vec", tests, NULL, NULL);
}
