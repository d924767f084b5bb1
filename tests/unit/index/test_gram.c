/* test_gram.c - Gram sums against the plain triple loop, and what gram.h promises of their bits:
 * the same however rows are cut into calls, whole parts merged, and under 1 to 8 BLAS threads. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cblas.h>
#include <cmocka.h>

#include "index/gram.h"
#include "index/kern.h"
#include "index/lapack.h"
#include "index/philox.h"
#include "index/vec.h"

struct rows {
    size_t count, dim, d; /* the block's columns, and all of a row */
    enum dtype t;
    size_t at;            /* where the block starts */
    unsigned char *bytes;
    double *norms;
};

static struct rows make_rows(size_t count, size_t dim, enum dtype t, uint64_t seed)
{
    struct rows r = {.count = count, .dim = dim, .d = dim + 5, .t = t, .at = seed % 6};
    double *x = malloc((r.d + 1) * sizeof *x);
    float *f = malloc(r.d * sizeof *f), *scratch = malloc(r.d * sizeof *f);
    struct err e = ERR_INIT;

    r.bytes = malloc((count ? count : 1) * r.d * dtype_size(t));
    r.norms = malloc((count ? count : 1) * sizeof *r.norms);
    assert_true(x && f && scratch && r.bytes && r.norms);
    for (size_t i = 0; i < count; i++) {
        double ignored;

        philox_normals(seed, 9, PHILOX_RIGHT, i * (r.d + 1), r.d + 1, x);
        for (size_t j = 0; j < r.d; j++)
            f[j] = (float)x[j];
        r.norms[i] = exp(x[r.d]);
        assert_int_equal(vec_normalise(f, DTYPE_F32, r.d, t, r.bytes + i * r.d * dtype_size(t), &ignored,
                                       scratch, "g", i, &e), 0);
    }
    free(x);
    free(f);
    free(scratch);
    return r;
}

static void free_rows(struct rows *r)
{
    free(r->bytes);
    free(r->norms);
}

static void add(struct gram *g, const struct rows *r, size_t from, size_t to)
{
    size_t size = dtype_size(r->t);
    struct err e = ERR_INIT;

    assert_int_equal(gram_add(g, r->bytes + (from * r->d + r->at) * size, r->t, r->d * size, r->norms + from,
                              to - from, from, &e), 0);
}

/* The Gram of rows from..to in calls of at most `most` rows, of random lengths when seed is not 0. */
static void sum(struct gram *g, const struct rows *r, size_t from, size_t to, size_t most, uint64_t seed)
{
    struct err e = ERR_INIT;
    uint32_t counter[4] = {0}, key[2] = {(uint32_t)seed, 1}, word[4];

    assert_int_equal(gram_init(g, r->dim, &e), 0);
    while (from < to) {
        size_t n = most;

        if (seed) {
            counter[0]++;
            philox_block(counter, key, word);
            n = word[0] % (most + 1);
        }
        n = to - from < n ? to - from : n;
        add(g, r, from, from + n);
        from += n;
    }
    gram_finish(g);
}

static void same_bits(const struct gram *a, const struct gram *b)
{
    assert_true(a->rows == b->rows && a->dim == b->dim);
    for (size_t i = 0; i < a->dim; i++)
        assert_memory_equal(a->sum + i * a->stride + i, b->sum + i * b->stride + i,
                            (a->dim - i) * sizeof(double));
}

static void equals_the_plain_sum(void **state)
{
    static const enum dtype types[] = {DTYPE_F32, DTYPE_F16, DTYPE_BF16};

    (void)state;
    for (uint64_t c = 0; c < 30; c++) {
        struct rows r = make_rows(1 + c * 37 % 700, 1 + c * 13 % 40, types[c % 3], c);
        float *wide = malloc(r.d * sizeof *wide);
        long double trace = 0.0L, want[40][40] = {{0}};
        struct err e = ERR_INIT;
        struct gram g;
        double *mean, got_trace, average;

        assert_non_null(wide);
        for (size_t k = 0; k < r.count; k++) {
            vec_widen(r.bytes + k * r.d * dtype_size(r.t), r.t, r.d, wide);
            for (size_t i = 0; i < r.dim; i++)
                for (size_t j = 0; j < r.dim; j++)
                    want[i][j] += (long double)r.norms[k] * wide[r.at + i] * r.norms[k] * wide[r.at + j];
        }
        sum(&g, &r, 0, r.count, 100, 0);
        assert_int_equal(g.rows, r.count);
        got_trace = gram_trace(&g);
        average = gram_mean_eigenvalue(&g);
        assert_int_equal(gram_take(&g, &mean, &e), 0);
        for (size_t i = 0; i < r.dim; i++) {
            trace += want[i][i] / (long double)r.count;
            for (size_t j = 0; j < r.dim; j++) {
                long double bound = sqrtl(want[i][i] * want[j][j]) * 1e-14L;

                assert_true(fabsl((long double)mean[i * r.dim + j] * (long double)r.count - want[i][j]) <= bound);
                assert_true(mean[i * r.dim + j] == mean[j * r.dim + i]);
            }
        }
        assert_true(fabsl((long double)got_trace - trace) <= 1e-14L * trace);
        assert_true(fabs(average * (double)r.dim - got_trace) <= 1e-15 * got_trace);
        free(mean);
        gram_fini(&g);
        free(wide);
        free_rows(&r);
    }
}

static void splits_do_not_show(void **state)
{
    (void)state;
    for (uint64_t c = 1; c <= 120; c++) {
        struct rows r = make_rows(c * 53 % 900, 1 + c * 17 % 70, c % 2 ? DTYPE_F32 : DTYPE_BF16, c);
        struct gram whole, cut;

        sum(&whole, &r, 0, r.count, r.count, 0);
        sum(&cut, &r, 0, r.count, c % 3 ? 50 : 600, c);
        same_bits(&whole, &cut);
        gram_fini(&whole);
        gram_fini(&cut);
        free_rows(&r);
    }
}

/* What ranks of a cluster would do: whole parts each, merged in the order of rows. */
static void parts_merge_to_the_same_bits(void **state)
{
    (void)state;
    for (uint64_t c = 0; c < 3; c++) {
        struct rows r = make_rows(3 * GRAM_PART + c * 777, 7, DTYPE_F32, c);
        struct gram whole, total, part;
        struct err e = ERR_INIT;

        sum(&whole, &r, 0, r.count, 1000, 0);
        assert_int_equal(gram_init(&total, r.dim, &e), 0);
        gram_finish(&total);
        for (size_t from = 0; from < r.count; from += GRAM_PART) {
            size_t to = from + GRAM_PART < r.count ? from + GRAM_PART : r.count;

            sum(&part, &r, from, to, 300, c + 1);
            gram_merge(&total, &part);
            gram_fini(&part);
        }
        same_bits(&whole, &total);
        gram_fini(&whole);
        gram_fini(&total);
        free_rows(&r);
    }
}

static void threads_do_not_show(void **state)
{
    static const size_t dims[] = {33, 100, 127, 255, 333, 400, 513};

    (void)state;
    for (size_t c = 0; c < sizeof dims / sizeof *dims; c++) {
        struct rows r = make_rows(300, dims[c], DTYPE_F32, c);
        struct gram one, many;

        openblas_set_num_threads(1);
        sum(&one, &r, 0, r.count, 100, 0);
        for (int t = 2; t <= 8; t++) {
            openblas_set_num_threads(t);
            sum(&many, &r, 0, r.count, 100, 0);
            same_bits(&one, &many);
            gram_fini(&many);
        }
        openblas_set_num_threads(1);
        gram_fini(&one);
        free_rows(&r);
    }
}

static void refuses_by_row(void **state)
{
    float rows[3][2] = {{0.6f, 0.8f}, {1.0f, 0.0f}, {0.0f, 1.0f}};
    double norms[3] = {1.0, 2.0, 3.0}, *mean;
    struct err e = ERR_INIT;
    struct gram g;

    (void)state;
    assert_int_equal(gram_init(&g, 0, &e), ERR_INVALID);
    assert_int_equal(gram_init(&g, LAPACK_DIM_MAX + 1, &e), ERR_INVALID);
    assert_int_equal(e.limit, LAPACK_DIM_MAX);
    assert_int_equal(gram_bytes(2), (2 * 16 + GRAM_TILE) * 16 * 8 + 2 * 4);
    assert_int_equal(gram_init(&g, 2, &e), 0);
    gram_finish(&g);
    assert_true(gram_trace(&g) == 0.0);
    assert_int_equal(gram_take(&g, &mean, &e), ERR_INVALID);
    gram_fini(&g);
    assert_int_equal(gram_init(&g, 2, &e), 0);
    rows[1][1] = NAN;
    assert_int_equal(gram_add(&g, rows, DTYPE_F32, sizeof rows[0], norms, 3, 40, &e), ERR_NOT_FINITE);
    assert_string_equal(e.text, "row 41: element 1 of the block is not finite");
    assert_int_equal(e.index, 41);
    rows[1][1] = 0.0f;
    norms[2] = (double)INFINITY;
    assert_int_equal(gram_add(&g, rows, DTYPE_F32, sizeof rows[0], norms, 3, 0, &e), ERR_NOT_FINITE);
    assert_int_equal(e.index, 2);
    norms[2] = -1.0;
    assert_int_equal(gram_add(&g, rows, DTYPE_F32, sizeof rows[0], norms, 3, 0, &e), ERR_NOT_FINITE);
    gram_fini(&g);
    gram_fini(&g);
}

static void one_row_is_its_square(void **state)
{
    float row[2] = {0.6f, 0.8f};
    double norm = 5.0, *mean;
    struct err e = ERR_INIT;
    struct gram g;

    (void)state;
    assert_int_equal(gram_init(&g, 2, &e), 0);
    assert_int_equal(gram_add(&g, row, DTYPE_F32, sizeof row, &norm, 1, 0, &e), 0);
    gram_finish(&g);
    assert_int_equal(gram_take(&g, &mean, &e), 0);
    assert_true(fabs(mean[0] - 9.0) < 1e-6);
    assert_true(mean[1] == mean[2] && fabs(mean[1] - 12.0) < 1e-6 && fabs(mean[3] - 16.0) < 1e-6);
    free(mean);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(equals_the_plain_sum), cmocka_unit_test(splits_do_not_show),
        cmocka_unit_test(parts_merge_to_the_same_bits), cmocka_unit_test(threads_do_not_show),
        cmocka_unit_test(refuses_by_row), cmocka_unit_test(one_row_is_its_square),
    };

    kern_init(NULL);
    openblas_set_num_threads(1);
    return cmocka_run_group_tests_name("gram", tests, NULL, NULL);
}
