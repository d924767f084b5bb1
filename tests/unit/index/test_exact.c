/* test_exact.c - the float32 error bound and the lengths it uses, tried against sums in many
 * orders. */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "index/exact.h"
#include "index/kern.h"
#include "index/vec.h"

enum { MOST = 20000 };

static uint64_t state_of_random = 11;

static uint64_t random64(void)
{
    uint64_t z = state_of_random += UINT64_C(0x9E3779B97F4A7C15);

    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

static float q[MOST], x[MOST], terms[MOST];

/* One after the other; one after the other, fused; from the end; with 1, 4, 8 or 16 partial sums;
 * by pairs. */
static float in_order(size_t d, int fused)
{
    float sum = 0.0f;

    for (size_t i = 0; i < d; i++)
        sum = fused ? fmaf(q[i], x[i], sum) : sum + q[i] * x[i];
    return sum;
}

static float backwards(size_t d)
{
    float sum = 0.0f;

    for (size_t i = d; i > 0; i--)
        sum += q[i - 1] * x[i - 1];
    return sum;
}

static float in_parts(size_t d, size_t parts)
{
    float part[16] = {0}, sum = 0.0f;

    for (size_t i = 0; i < d; i++)
        part[i % parts] += q[i] * x[i];
    for (size_t j = 0; j < parts; j++)
        sum += part[j];
    return sum;
}

static float by_pairs(size_t d)
{
    for (size_t i = 0; i < d; i++)
        terms[i] = q[i] * x[i];
    for (size_t n = d; n > 1; n = (n + 1) / 2)
        for (size_t i = 0; i < n / 2; i++)
            terms[i] = i + (n + 1) / 2 < n ? terms[i] + terms[i + (n + 1) / 2] : terms[i];
    return d ? terms[0] : 0.0f;
}

/* 0 ordinary; 1 all of one sign, so that errors add up; 2 cancelling; 3 tiny, where float32
 * products underflow; 4 one large element among small ones. */
static void fill(size_t d, int mode)
{
    for (size_t i = 0; i < d; i++) {
        double a = (double)(int64_t)random64() * 0x1p-63, b = (double)(int64_t)random64() * 0x1p-63;

        if (mode == 1) {
            a = 1.0 + fabs(a) * 0x1p-10;
            b = 1.0 + fabs(b) * 0x1p-10;
        } else if (mode == 2) {
            b = i % 2 ? -1.0 : 1.0;
            a = 1.0 + a * 0x1p-20;
        } else if (mode == 3) {
            a *= 0x1p-75;
            b *= 0x1p-70;
        } else if (mode == 4) {
            a *= i == d / 2 ? 1.0 : 0x1p-12;
        }
        q[i] = (float)a;
        x[i] = (float)b;
    }
}

static void the_bound_holds_for_any_order(void **state)
{
    double closest = 0.0;

    (void)state;
    for (int round = 0; round < 600; round++) {
        size_t d = round < 300 ? (size_t)round : 1 + random64() % MOST;
        double score, e;
        float sums[8];

        fill(d, round % 5);
        score = kern->dot_f32(q, x, d);
        e = exact_float32_error(d, exact_longest(DTYPE_F32, q, 1, d),
                                exact_longest(DTYPE_F32, x, 1, d));
        sums[0] = in_order(d, 0);
        sums[1] = in_order(d, 1);
        sums[2] = backwards(d);
        sums[3] = in_parts(d, 1);
        sums[4] = in_parts(d, 4);
        sums[5] = in_parts(d, 8);
        sums[6] = in_parts(d, 16);
        sums[7] = by_pairs(d);
        for (int s = 0; s < 8; s++) {
            assert_true(fabs((double)sums[s] - score) <= e);
            closest = fmax(closest, d ? fabs((double)sums[s] - score) / e : 0.0);
        }
    }
    assert_true(closest > 0.02); /* the bound is not so wide that the test says nothing */
}

static void no_bound_is_infinite(void **state)
{
    (void)state;
    assert_true(isinf(exact_float32_error((size_t)1 << 23, 1.0, 1.0)));
    assert_true(isinf(exact_float32_error(4, INFINITY, 1.0)));
    assert_true(isfinite(exact_float32_error(131072, 1.0, 1.0)));
    assert_true(exact_float32_error(131072, 1.0, 1.0) < 0.0080);
}

static void longest_is_an_upper_bound(void **state)
{
    static const enum dtype types[] = {DTYPE_F32, DTYPE_F16, DTYPE_BF16};
    static char rows[4 * MOST];
    static float wide[MOST];

    (void)state;
    for (int round = 0; round < 300; round++) {
        enum dtype t = types[round % 3];
        size_t d = 1 + random64() % (round % 10 ? 200 : 5000), count = 1 + random64() % 4;
        long double longest = 0.0L;
        double got;

        for (size_t i = 0; i < count * d; i++) {
            float v = (float)((double)(int64_t)random64() * 0x1p-63);
            uint16_t h;

            if (t == DTYPE_F32) {
                memcpy(rows + 4 * i, &v, 4);
                continue;
            }
            vec_narrow(&v, 1, t, &h);
            memcpy(rows + 2 * i, &h, 2);
        }
        vec_widen(rows, t, count * d, wide);
        for (size_t r = 0; r < count; r++) {
            long double sum = 0.0L;

            for (size_t i = 0; i < d; i++)
                sum += (long double)wide[r * d + i] * wide[r * d + i];
            longest = sum > longest ? sum : longest;
        }
        got = exact_longest(t, rows, count, d);
        assert_true((long double)got >= sqrtl(longest));
        assert_true((long double)got <= sqrtl(longest) * (1.0L + 0x1p-19L));
    }
    assert_true(exact_longest(DTYPE_F32, rows, 0, 5) == 0.0);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_bound_holds_for_any_order),
        cmocka_unit_test(no_bound_is_infinite),
        cmocka_unit_test(longest_is_an_upper_bound),
    };

    kern_init(NULL);
    return cmocka_run_group_tests_name("exact", tests, NULL, NULL);
}
