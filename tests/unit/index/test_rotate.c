/* test_rotate.c - the rotation against one in float64, its bound on rounding, and golden values:
 * codes on disk were made by these very signs. */
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
#include "index/rotate.h"
#include "tests/unit/index/rotate_reference.h"

enum { KINDS = 6 };

/* Vectors of every shape and of lengths from 2^-60 to 2^60. */
static void draw(int kind, size_t n, float *x)
{
    const size_t only = (size_t)(test_random() % n);
    const float scale = ldexpf(1.0f, (int)(test_random() % 121) - 60);

    for (size_t i = 0; i < n; i++) {
        double v = kind == 0 ? test_normal() : kind == 1 ? 0.0 : kind == 2 ? 1.0
                 : kind == 3 ? (i % 97 == 3 ? test_plus_minus_one() : 0.0)
                 : kind == 4 ? test_plus_minus_one() * 1e-30 : test_plus_minus_one();

        x[i] = (float)v;
    }
    if (kind == 1 || kind == 3 || kind == 4)
        x[only] = 1.0f;
    for (size_t i = 0; i < n; i++)
        x[i] *= scale / sqrtf((float)n);
}

static double length_of(const double *x, size_t n)
{
    double sum = 0.0;

    for (size_t i = 0; i < n; i++)
        sum += x[i] * x[i];
    return sqrt(sum);
}

static void stays_within_its_slack(void **state)
{
    static const size_t sizes[] = {256, 512, 768, 1280, 2048, 4352, 16384, 16640, 65536, 131072,
                                   131072 + 65536, ROTATE_MAX};
    float *x = malloc(ROTATE_MAX * sizeof *x);
    double *want = malloc(ROTATE_MAX * sizeof *want);

    (void)state;
    assert_true(x && want);
    test_random_state = 1;
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
        for (int kind = 0; kind < KINDS; kind++) {
            const size_t n = sizes[s];
            double before, after;

            draw(kind, n, x);
            for (size_t i = 0; i < n; i++)
                want[i] = (double)x[i];
            before = length_of(want, n);
            reference_rotate(want, n);
            after = length_of(want, n);
            assert_true(fabs(after - before) <= 1e-10 * before); /* orthogonal */
            rotate(x, n);
            for (size_t i = 0; i < n; i++)
                want[i] -= (double)x[i];
            assert_true(length_of(want, n) <= rotate_slack(n) * before);
            assert_true(rotate_slack(n) < 6e-6); /* and it is small */
        }
    free(x);
    free(want);
}

static void is_the_same_under_every_table(void **state)
{
    static const char *const names[] = {"generic", "avx2", "avx512", "avx512vnni", "neon"};
    static const size_t sizes[] = {256, 768, 16384, 33024};
    float *x = malloc(4 * 33024 * sizeof *x), *want = x + 33024, *from = want + 33024;

    (void)state;
    assert_non_null(x);
    test_random_state = 2;
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        draw(0, sizes[s], from);
        for (size_t t = 0; t < sizeof names / sizeof *names; t++) {
            kern_init(names[t]);
            memcpy(x, from, sizes[s] * sizeof *x);
            rotate(x, sizes[s]);
            if (!t)
                memcpy(want, x, sizes[s] * sizeof *x);
            assert_memory_equal(x, want, sizes[s] * sizeof *x);
        }
    }
    free(x);
}

/* Signs of the rotated first axis, in words. If this changes, so must CODE_VERSION. */
static void is_the_format_s(void **state)
{
    static const uint64_t want[4] = {0x5C360FCCEDB89488, 0x2C99F42AC575D2D6,
                                     0x313BE23EA8AD4127, 0x830B0019B0CC17EF};
    float x[256] = {1.0f};

    (void)state;
    rotate(x, 256);
    for (size_t w = 0; w < 4; w++) {
        uint64_t word = 0;

        for (size_t i = 0; i < 64; i++)
            word |= (uint64_t)(x[64 * w + i] < 0.0f) << i;
        if (word != want[w])
            fprintf(stderr, "word %zu is 0x%016llx\n", w, (unsigned long long)word);
        assert_true(word == want[w]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stays_within_its_slack),
        cmocka_unit_test(is_the_same_under_every_table),
        cmocka_unit_test(is_the_format_s),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
