/* test_project.c - the projection: what its matrices are made of, agreement with the plain form
 * within the float32 bound of docs/projection.md, and that inner products are kept in expectation.
 *
 * `test_project --print SEED BLOCK ROWS COLS P` prints the entries of P, of Q, and of the
 * projection of W[r][c] = ((7r + 3c) mod 11) - 5 by project_apply:
 * tests/integration/test_projection.py compares them with numpy's.
 */
#include <limits.h>
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
#include "index/project.h"

static float *floats(size_t count)
{
    float *p = malloc((count ? count : 1) * sizeof *p);

    assert_non_null(p);
    return p;
}

static void fill_normal(float *w, size_t count, uint64_t seed)
{
    double x;

    for (size_t i = 0; i < count; i++) {
        philox_normals(seed, 1000, PHILOX_LEFT, i, 1, &x);
        w[i] = (float)x;
    }
}

static void matrices_are_the_streams(void **state)
{
    struct project pr;
    struct err e = ERR_INIT;
    double x[3 * 2000];

    (void)state;
    assert_int_equal(project_init(&pr, 42, 7, 2000, 5, 3, &e), 0);
    philox_normals(42, 7, PHILOX_LEFT, 0, (size_t)3 * 2000, x);
    for (size_t i = 0; i < (size_t)3 * 2000; i++)
        assert_true(pr.left[i] == (float)(x[i] * (1.0 / sqrt(3.0))));
    philox_normals(42, 7, PHILOX_RIGHT, 0, (size_t)3 * 5, x);
    for (size_t i = 0; i < (size_t)3 * 5; i++)
        assert_true(pr.right[i] == (float)(x[i] * (1.0 / sqrt(3.0))));
    project_fini(&pr);
    project_fini(&pr);
}

/* |apply - plain| <= gamma_(o+i+2) |P| |W| |Q|^T, element by element, u = 2^-24. */
static void one_size_agrees(uint32_t rows, uint32_t cols, uint32_t p, uint64_t seed)
{
    const double n = (double)rows + (double)cols + 2.0, u = 0x1p-24, gamma = n * u / (1.0 - n * u);
    struct project pr, magnitude;
    struct err e = ERR_INIT;
    float *w = floats((size_t)rows * cols), *scratch, *fast = floats((size_t)p * p);
    float *plain = floats((size_t)p * p), *bound = floats((size_t)p * p);

    assert_int_equal(project_init(&pr, seed, 2, rows, cols, p, &e), 0);
    assert_int_equal(project_init(&magnitude, seed, 2, rows, cols, p, &e), 0);
    scratch = floats(project_scratch(&pr));
    fill_normal(w, (size_t)rows * cols, seed);
    project_apply(&pr, w, scratch, fast);
    project_apply_plain(&pr, w, plain);
    for (size_t i = 0; i < (size_t)p * rows; i++)
        magnitude.left[i] = fabsf(magnitude.left[i]);
    for (size_t i = 0; i < (size_t)p * cols; i++)
        magnitude.right[i] = fabsf(magnitude.right[i]);
    for (size_t i = 0; i < (size_t)rows * cols; i++)
        w[i] = fabsf(w[i]);
    project_apply_plain(&magnitude, w, bound);
    for (size_t i = 0; i < (size_t)p * p; i++)
        assert_true(fabs((double)fast[i] - (double)plain[i]) <= gamma * (double)bound[i] + 1e-40);
    project_fini(&pr);
    project_fini(&magnitude);
    free(w);
    free(scratch);
    free(fast);
    free(plain);
    free(bound);
}

static void agrees_with_the_plain_form(void **state)
{
    static const uint32_t sizes[][3] = {
        {1, 1, 1},    {1, 9, 4},    {9, 1, 4},   {2, 3, 5},     {64, 64, 16},
        {128, 48, 16}, {48, 128, 16}, {33, 65, 7}, {257, 129, 12}, {512, 128, 32},
    };

    (void)state;
    for (uint64_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        one_size_agrees(sizes[i][0], sizes[i][1], sizes[i][2], 100 + i);
}

/* E <proj(A), proj(B)> = <A, B>, since E P^T P = I and E Q^T Q = I, both independent. The mean over
 * many seeds lies within 5 of its own measured standard errors. */
static void keeps_inner_products_in_expectation(void **state)
{
    enum { ROWS = 12, COLS = 9, P = 8, SEEDS = 2000 };
    float a[ROWS * COLS], b[ROWS * COLS], scratch[P * COLS], pa[P * P], pb[P * P];
    double truth = 0.0, sum = 0.0, square = 0.0;

    (void)state;
    fill_normal(a, ROWS * COLS, 1);
    fill_normal(b, ROWS * COLS, 2);
    for (size_t i = 0; i < ROWS * COLS; i++) {
        b[i] += 0.5f * a[i];
        truth += (double)a[i] * (double)b[i];
    }
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct project pr;
        struct err e = ERR_INIT;
        double dot = 0.0;

        assert_int_equal(project_init(&pr, seed, 0, ROWS, COLS, P, &e), 0);
        assert_true(project_scratch(&pr) <= P * COLS);
        project_apply(&pr, a, scratch, pa);
        project_apply(&pr, b, scratch, pb);
        for (size_t i = 0; i < (size_t)P * P; i++)
            dot += (double)pa[i] * (double)pb[i];
        sum += dot;
        square += dot * dot;
        project_fini(&pr);
    }
    sum /= SEEDS;
    square = square / SEEDS - sum * sum;
    assert_true(fabs(sum - truth) < 5.0 * sqrt(square / SEEDS));
    assert_true(sqrt(square / SEEDS) < 0.1 * fabs(truth)); /* or the line above says nothing */
}

static void refuses_sizes_it_cannot_do(void **state)
{
    static const uint32_t sizes[][3] = {
        {0, 4, 4}, {4, 0, 4}, {4, 4, 0}, {UINT32_MAX, 4, 4}, {4, UINT32_MAX, 4}, {4, 4, UINT32_MAX},
    };

    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct project pr;
        struct err e = ERR_INIT;

        assert_int_equal(project_init(&pr, 0, 0, sizes[i][0], sizes[i][1], sizes[i][2], &e),
                         ERR_INVALID);
        assert_null(pr.left);
        project_fini(&pr);
    }
}

static int print(char **arg)
{
    uint32_t v[4];
    struct project pr;
    struct err e = ERR_INIT;
    float *w, *scratch, *out;

    for (int i = 0; i < 4; i++)
        v[i] = (uint32_t)strtoul(arg[1 + i], NULL, 0);
    if (project_init(&pr, strtoull(arg[0], NULL, 0), v[0], v[1], v[2], v[3], &e)) {
        fprintf(stderr, "%s\n", e.text);
        return 1;
    }
    w = floats((size_t)v[1] * v[2]);
    scratch = floats(project_scratch(&pr));
    out = floats((size_t)v[3] * v[3]);
    for (size_t r = 0; r < v[1]; r++)
        for (size_t c = 0; c < v[2]; c++)
            w[r * v[2] + c] = (float)((7 * r + 3 * c) % 11) - 5.0f;
    project_apply(&pr, w, scratch, out);
    for (size_t i = 0; i < (size_t)v[3] * v[1]; i++)
        printf("%a\n", (double)pr.left[i]);
    for (size_t i = 0; i < (size_t)v[3] * v[2]; i++)
        printf("%a\n", (double)pr.right[i]);
    for (size_t i = 0; i < (size_t)v[3] * v[3]; i++)
        printf("%a\n", (double)out[i]);
    project_fini(&pr);
    free(w);
    free(scratch);
    free(out);
    return 0;
}

int main(int argc, char **argv)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(matrices_are_the_streams),
        cmocka_unit_test(agrees_with_the_plain_form),
        cmocka_unit_test(keeps_inner_products_in_expectation),
        cmocka_unit_test(refuses_sizes_it_cannot_do),
    };

    if (argc == 7 && strcmp(argv[1], "--print") == 0)
        return print(argv + 2);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
