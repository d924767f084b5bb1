/* test_code.c - codes of rows: what the factors promise, against the planes decoded by the book
 * and a rotation in float64; the same bytes under every table and split; rows that have no code. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "index/code.h"
#include "index/kern.h"
#include "index/vec.h"
#include "tests/unit/index/rotate_reference.h"

enum { KINDS = 7, ROWS = 9 };

/* A row of length near 1, of one shape or another. */
static void draw(int kind, size_t dim, float *x)
{
    const size_t only = (size_t)(test_random() % dim);
    double sum = 0.0;

    for (size_t i = 0; i < dim; i++) {
        double v = kind == 0 ? test_normal() : kind == 1 ? 0.0 : kind == 2 ? 1.0
                 : kind == 3 ? (i % 31 == 3 ? test_plus_minus_one() : 0.0)
                 : kind == 4 ? 1e-6 * test_normal() : kind == 5 ? test_plus_minus_one()
                 : (test_random() & 1 ? 1.0 : -1.0);

        x[i] = (float)v;
    }
    if (kind == 1 || kind == 3 || kind == 4)
        x[only] = kind == 1 && (test_random() & 1) ? -1.0f : 1.0f;
    for (size_t i = 0; i < dim; i++)
        sum += (double)x[i] * (double)x[i];
    for (size_t i = 0; i < dim; i++)
        x[i] = (float)((double)x[i] / sqrt(sum));
}

struct coded {
    size_t dim;
    uint32_t rows;
    struct code_planes planes;
    void *memory;
    size_t bytes;
};

static struct coded coded_new(size_t dim, uint32_t rows)
{
    struct coded c = {.dim = dim, .rows = rows};
    unsigned char *at;

    c.bytes = code_bits_bytes(dim, rows) + code_six_bytes(dim, rows) + code_low_bytes(dim, rows) +
              code_factors_bytes(rows);
    at = c.memory = malloc(c.bytes + 1);
    assert_non_null(at);
    memset(at, 0xAA, c.bytes);
    c.planes.rows = rows;
    c.planes.bits = at;
    c.planes.six = c.planes.bits + code_bits_bytes(dim, rows);
    c.planes.low = c.planes.six + code_six_bytes(dim, rows);
    c.planes.factors = c.planes.low + code_low_bytes(dim, rows);
    return c;
}

/* c8 of element i of row r, from six and low; and its sign bit. */
static unsigned code_at(const struct coded *c, uint32_t r, size_t i, bool *out_bit)
{
    const size_t groups = code_groups(c->dim), group = i / 256, j = i % 256, lane = j % 64;
    const unsigned char *bits = c->planes.bits + (r * groups + group) * 32;
    const unsigned char *six = c->planes.six + (r * groups + group) * 192;
    const unsigned char *low = c->planes.low + (r * groups + group) * 64;
    const size_t quarter = j / 64;
    unsigned c6 = six[j % 192] & 63u;

    if (quarter == 3)
        c6 = (six[128 + lane] >> 6 & 3u) << 4 | (six[64 + lane] >> 6 & 3u) << 2 | six[lane] >> 6;
    *out_bit = bits[j % 32] >> (j / 32) & 1;
    return c6 << 2 | (low[lane] >> (quarter * 2) & 3u);
}

static double factor(const struct coded *c, enum code_factor f, uint32_t r)
{
    return (double)code_factor(c->planes.factors, c->rows, f, r);
}

/* Rx is the row rotated in float64. */
static void check_row(const struct coded *c, uint32_t r, const double *rotated)
{
    const double s = factor(c, CODE_SCALE, r), reach = sqrt((double)code_padded(c->dim));
    double rest6 = 0.0, rest8 = 0.0, length6 = 0.0, length8 = 0.0, length = 0.0, sum = 0.0;
    double a, spread;

    for (size_t i = 0; i < code_padded(c->dim); i++) {
        bool bit;
        const unsigned c8 = code_at(c, r, i, &bit);
        const double x6 = s * (4.0 * (c8 >> 2) - 126.0), x8 = s * (c8 - 127.5);

        assert_int_equal(bit, c8 >= 128);
        rest6 += (rotated[i] - x6) * (rotated[i] - x6);
        rest8 += (rotated[i] - x8) * (rotated[i] - x8);
        length6 += x6 * x6;
        length8 += x8 * x8;
        length += rotated[i] * rotated[i];
        sum += bit ? rotated[i] : -rotated[i];
    }
    assert_true(factor(c, CODE_REST6, r) >= sqrt(rest6));
    assert_true(factor(c, CODE_REST8, r) >= sqrt(rest8));
    assert_true(factor(c, CODE_LENGTH6, r) >= sqrt(length6));
    assert_true(factor(c, CODE_LENGTH8, r) >= sqrt(length8));
    assert_true(factor(c, CODE_LENGTH, r) >= sqrt(length));
    /* and not by much */
    assert_true(factor(c, CODE_REST6, r) <= sqrt(rest6) + 2e-5);
    assert_true(factor(c, CODE_REST8, r) <= sqrt(rest8) + 2e-5);
    assert_true(factor(c, CODE_LENGTH6, r) <= sqrt(length6) * (1.0 + 1e-6));
    assert_true(factor(c, CODE_LENGTH8, r) <= sqrt(length8) * (1.0 + 1e-6));
    assert_true(factor(c, CODE_LENGTH, r) <= sqrt(length) * (1.0 + 1e-6));
    /* a = <sign, x> / sqrt(padded) |x|: gain = |x| / (a sqrt(padded)), spread = |x| sqrt(1/a^2 -
     * 1) */
    a = sum / (reach * sqrt(length));
    spread = sqrt(length) * sqrt(fmax(1.0 / (a * a) - 1.0, 0.0));
    if (a < 0.25) {
        assert_true(isinf(factor(c, CODE_SPREAD1, r)));
        return;
    }
    assert_true(fabs(factor(c, CODE_GAIN1, r) * a * reach / sqrt(length) - 1.0) < 2e-5);
    assert_true(factor(c, CODE_SPREAD1, r) >= spread);
    assert_true(factor(c, CODE_SPREAD1, r) <= sqrt(spread * spread + 1e-4 * length / (a * a)));
}

static void factors_hold(void **state)
{
    static const size_t dims[] = {1, 2, 100, 255, 256, 257, 1000, 4096, 5000, 16384, 70000};
    static const enum dtype types[] = {DTYPE_F32, DTYPE_F16, DTYPE_BF16};

    (void)state;
    test_random_state = 11;
    for (size_t d = 0; d < sizeof dims / sizeof *dims; d++) {
        const size_t dim = dims[d], padded = code_padded(dim);
        struct coded c = coded_new(dim, ROWS);
        float *x = malloc(dim * sizeof *x), *scratch = malloc(padded * sizeof *scratch);
        double *rotated = malloc(padded * sizeof *rotated);
        uint16_t *narrow = malloc(dim * sizeof *narrow);

        assert_true(x && scratch && rotated && narrow);
        for (uint32_t r = 0; r < ROWS; r++) {
            const enum dtype t = types[r % 3];

            draw((int)(test_random() % KINDS), dim, x);
            if (t == DTYPE_F32) {
                code_rows(t, dim, x, dim * sizeof *x, r, 1, &c.planes, scratch);
            } else {
                vec_narrow(x, dim, t, narrow);
                vec_widen(narrow, t, dim, x);
                code_rows(t, dim, narrow, dim * sizeof *narrow, r, 1, &c.planes, scratch);
            }
            memset(rotated, 0, padded * sizeof *rotated);
            for (size_t i = 0; i < dim; i++)
                rotated[i] = (double)x[i];
            reference_rotate(rotated, padded);
            check_row(&c, r, rotated);
        }
        free(x);
        free(scratch);
        free(rotated);
        free(narrow);
        free(c.memory);
    }
}

static void bytes_are_the_same_everywhere(void **state)
{
    static const char *const names[] = {"generic", "avx2", "avx512", "avx512vnni", "neon"};
    enum { DIM = 3000 };
    float *x = malloc((ROWS * DIM + code_padded(DIM)) * sizeof *x), *scratch = x + ROWS * DIM;
    struct coded want = coded_new(DIM, ROWS), got = coded_new(DIM, ROWS);

    (void)state;
    assert_non_null(x);
    test_random_state = 12;
    for (int r = 0; r < ROWS; r++)
        draw(r % KINDS, DIM, x + r * DIM);
    kern_init("generic");
    code_rows(DTYPE_F32, DIM, x, DIM * sizeof *x, 0, ROWS, &want.planes, scratch);
    for (size_t n = 0; n < sizeof names / sizeof *names; n++) {
        const uint32_t cut = (uint32_t)(test_random() % ROWS);

        kern_init(names[n]);
        memset(got.memory, 0x55, got.bytes);
        code_rows(DTYPE_F32, DIM, x + cut * DIM, DIM * sizeof *x, cut, ROWS - cut, &got.planes,
                  scratch);
        code_rows(DTYPE_F32, DIM, x, DIM * sizeof *x, 0, cut, &got.planes, scratch);
        assert_memory_equal(got.memory, want.memory, want.bytes);
    }
    free(x);
    free(want.memory);
    free(got.memory);
}

/* Nothing may be dropped by a bound that is infinite, and nothing may be made of what has no
 * code. */
static void rows_without_a_code(void **state)
{
    static const float values[] = {0.0f, NAN, INFINITY, 0x1p-80f, 0x1p80f};
    float x[300], scratch[512];
    struct coded c = coded_new(300, 1);

    (void)state;
    for (size_t n = 0; n < sizeof values / sizeof *values; n++) {
        memset(x, 0, sizeof x);
        x[17] = values[n];
        code_rows(DTYPE_F32, 300, x, sizeof x, 0, 1, &c.planes, scratch);
        for (size_t i = 0; i < c.bytes - code_factors_bytes(1); i++)
            assert_int_equal(((unsigned char *)c.memory)[i], 0);
        for (int f = 0; f < CODE_FACTORS; f++)
            if (f == CODE_SCALE || f == CODE_GAIN1)
                assert_true(!(factor(&c, (enum code_factor)f, 0) > 0.0));
            else
                assert_true(isinf(factor(&c, (enum code_factor)f, 0)));
    }
    free(c.memory);
}

static void sizes(void **state)
{
    (void)state;
    assert_int_equal(code_padded(1), 256);
    assert_int_equal(code_padded(256), 256);
    assert_int_equal(code_padded(257), 512);
    assert_int_equal(code_groups(16384), 64);
    assert_int_equal(code_bits_bytes(16384, 3), 3 * 2048);
    assert_int_equal(code_six_bytes(16384, 3), 3 * 12288);
    assert_int_equal(code_low_bytes(16384, 3), 3 * 4096);
    assert_int_equal(code_factors_bytes(3), 96);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(factors_hold),
        cmocka_unit_test(bytes_are_the_same_everywhere),
        cmocka_unit_test(rows_without_a_code),
        cmocka_unit_test(sizes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
