/* test_philox.c - published vectors, golden values of docs/projection.md, accuracy and
 * distribution.
 *
 * `test_philox --print SEED BLOCK SIDE FIRST COUNT` prints deviates as hexadecimal floats, one a
 * line: tests/integration/test_projection.py compares them with numpy's bit for bit.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "index/philox.h"

/* The vectors that the authors publish with Random123 for philox4x32, 10 rounds. */
static void meets_published_vectors(void **state)
{
    static const struct {
        uint32_t counter[4], key[2], out[4];
    } v[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
         {0xffffffff, 0xffffffff},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };

    (void)state;
    for (size_t i = 0; i < sizeof v / sizeof v[0]; i++) {
        uint32_t out[4];

        philox_block(v[i].counter, v[i].key, out);
        assert_memory_equal(out, v[i].out, sizeof out);
        memcpy(out, v[i].counter, sizeof out); /* in place */
        philox_block(out, v[i].key, out);
        assert_memory_equal(out, v[i].out, sizeof out);
    }
}

/* Any window of a stream is the same numbers, however it is cut. */
static void any_window_of_a_stream(void **state)
{
    double whole[300], part[300];

    (void)state;
    philox_normals(77, 3, PHILOX_RIGHT, 0, 300, whole);
    for (size_t first = 0; first < 40; first++)
        for (size_t count = 0; count < 40; count++) {
            philox_normals(77, 3, PHILOX_RIGHT, first, count, part);
            assert_memory_equal(part, whole + first, count * sizeof part[0]);
        }
}

/* The counter is 64 bits: numbers far out use its high word, and differ. */
static void far_out_and_other_streams_differ(void **state)
{
    double a[8], b[8];
    static const struct {
        uint64_t seed;
        uint32_t block;
        enum philox_side side;
        uint64_t first;
    } other[] = {
        {1, 0, PHILOX_LEFT, 0},
        {UINT64_C(1) << 32, 0, PHILOX_LEFT, 0},
        {0, 1, PHILOX_LEFT, 0},
        {0, 0, PHILOX_RIGHT, 0},
        {0, 0, PHILOX_LEFT, 8},
        {0, 0, PHILOX_LEFT, UINT64_C(1) << 34},
    };

    (void)state;
    philox_normals(0, 0, PHILOX_LEFT, 0, 8, a);
    for (size_t i = 0; i < sizeof other / sizeof other[0]; i++) {
        philox_normals(other[i].seed, other[i].block, other[i].side, other[i].first, 8, b);
        for (size_t j = 0; j < 8; j++)
            assert_true(a[j] != b[j]);
    }
}

/* Phi(deviate) gives the uniform back: an independent way from the word to the number (libm's erfc
 * against AS 241 and our logarithm). The relative error in the tail is |x| times the deviate's. */
static void deviates_invert_the_normal_distribution(void **state)
{
    enum { COUNT = 200000 };
    double *x = malloc(COUNT * sizeof *x);
    const uint32_t key[2] = {9, 0};

    (void)state;
    assert_non_null(x);
    philox_normals(9, 4, PHILOX_LEFT, 0, COUNT, x);
    for (uint32_t n = 0; n < COUNT; n++) {
        const uint32_t counter[4] = {n / 4, 0, 4, PHILOX_LEFT};
        uint32_t words[4];
        double u, tail;

        philox_block(counter, key, words);
        u = ((double)words[n % 4] + 0.5) / 4294967296.0;
        tail = u < 0.5 ? u : 1.0 - u;
        assert_true((x[n] < 0.0) == (u < 0.5));
        assert_true(fabs(0.5 * erfc(fabs(x[n]) / sqrt(2.0)) / tail - 1.0) < 2e-14);
    }
    free(x);
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* Fixed seeds, so these never flicker; the bounds are 4.5 standard errors, or 1.95 / sqrt(n) for
 * Kolmogorov-Smirnov (p = 0.001). */
static void one_stream_is_normal(uint64_t seed, uint32_t block, enum philox_side side)
{
    enum { COUNT = 100000 };
    double *x = malloc(COUNT * sizeof *x);
    double sum = 0.0, square = 0.0, cube = 0.0, fourth = 0.0, follow = 0.0, ks = 0.0;
    size_t past_two = 0, past_three = 0;
    const double n = COUNT;

    assert_non_null(x);
    philox_normals(seed, block, side, 0, COUNT, x);
    for (size_t i = 0; i < COUNT; i++) {
        double s = x[i] * x[i];

        sum += x[i];
        square += s;
        cube += s * x[i];
        fourth += s * s;
        follow += i ? x[i] * x[i - 1] : 0.0;
        past_two += fabs(x[i]) > 2.0;
        past_three += fabs(x[i]) > 3.0;
    }
    assert_true(fabs(sum / n) < 4.5 / sqrt(n));
    assert_true(fabs(square / n - 1.0) < 4.5 * sqrt(2.0 / n));
    assert_true(fabs(cube / n) < 4.5 * sqrt(15.0 / n));
    assert_true(fabs(fourth / n - 3.0) < 4.5 * sqrt(96.0 / n));
    assert_true(fabs(follow / n) < 4.5 / sqrt(n));
    assert_true(fabs((double)past_two - n * 0.0455003) < 4.5 * sqrt(n * 0.0455003));
    assert_true(fabs((double)past_three - n * 0.0026998) < 4.5 * sqrt(n * 0.0026998));

    qsort(x, COUNT, sizeof *x, by_value);
    for (size_t i = 0; i < COUNT; i++) {
        double cdf = 0.5 * erfc(-x[i] / sqrt(2.0));
        double low = fabs(cdf - (double)i / n), high = fabs((double)(i + 1) / n - cdf);

        ks = fmax(ks, fmax(low, high));
    }
    assert_true(ks < 1.95 / sqrt(n));
    free(x);
}

static void streams_are_normal(void **state)
{
    (void)state;
    one_stream_is_normal(0, 0, PHILOX_LEFT);
    one_stream_is_normal(17, 0, PHILOX_RIGHT);
    one_stream_is_normal(UINT64_C(0x123456789abcdef0), 15, PHILOX_LEFT);
}

static int print(char **arg)
{
    uint64_t first = strtoull(arg[3], NULL, 0);
    size_t count = strtoull(arg[4], NULL, 0);

    for (size_t i = 0; i < count; i++) {
        double x;

        philox_normals(strtoull(arg[0], NULL, 0), (uint32_t)strtoul(arg[1], NULL, 0),
                       strtoul(arg[2], NULL, 0) ? PHILOX_RIGHT : PHILOX_LEFT, first + i, 1, &x);
        printf("%a\n", x);
    }
    return 0;
}

int main(int argc, char **argv)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(meets_published_vectors),
        cmocka_unit_test(any_window_of_a_stream),
        cmocka_unit_test(far_out_and_other_streams_differ),
        cmocka_unit_test(deviates_invert_the_normal_distribution),
        cmocka_unit_test(streams_are_normal),
    };

    if (argc == 7 && strcmp(argv[1], "--print") == 0)
        return print(argv + 2);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
