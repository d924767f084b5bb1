/* test_whiten.c - S (R + damp) S = I, S applied fast and plain, its image, and clear refusals. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cblas.h>
#include <cmocka.h>

#include "index/kern.h"
#include "index/lapack.h"
#include "index/philox.h"
#include "index/vec.h"
#include "index/whiten.h"
#include "storage/base/bytes.h"

enum { MOST = 70 };

/* A Gram of `count` normal rows whose columns spread over `decades`. */
static void make_gram(struct gram *g, size_t dim, size_t count, double decades, double size, uint64_t seed)
{
    struct err e = ERR_INIT;
    double x[MOST];
    float row[MOST];

    assert_int_equal(gram_init(g, dim, &e), 0);
    for (size_t r = 0; r < count; r++) {
        philox_normals(seed, 4, PHILOX_LEFT, r * dim, dim, x);
        for (size_t i = 0; i < dim; i++)
            row[i] = (float)(size * x[i] * pow(10.0, -decades * (double)i / (double)dim));
        assert_int_equal(gram_add(g, row, DTYPE_F32, sizeof row, NULL, 1, r, &e), 0);
    }
    gram_finish(g);
}

static double *copy_of_mean(const struct gram *g)
{
    double *a = malloc(g->dim * g->dim * sizeof *a);

    assert_non_null(a);
    for (size_t i = 0; i < g->dim; i++)
        for (size_t j = i; j < g->dim; j++)
            a[i * g->dim + j] = a[j * g->dim + i] = g->sum[i * g->stride + j] / (double)g->rows;
    return a;
}

/* max |S A S - I| for float64 or float32 S given as doubles */
static double from_identity(const double *s, const double *a, size_t n)
{
    double worst = 0.0, *t = malloc(n * n * sizeof *t);

    assert_non_null(t);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++) {
            t[i * n + j] = 0.0;
            for (size_t k = 0; k < n; k++)
                t[i * n + j] += s[i * n + k] * a[k * n + j];
        }
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++) {
            double sum = i == j ? -1.0 : 0.0;

            for (size_t k = 0; k < n; k++)
                sum += t[i * n + k] * s[k * n + j];
            worst = fmax(worst, fabs(sum));
        }
    free(t);
    return worst;
}

static void is_the_inverse_root(void **state)
{
    double worst64 = 0.0, worst32 = 0.0;

    (void)state;
    for (uint64_t c = 0; c < 60; c++) {
        size_t n = 1 + c * 11 % MOST;
        struct err e = ERR_INIT;
        struct whiten_block b;
        struct gram g;
        double *a, *s, values[MOST], damp, trace, pooled = 0.0;

        make_gram(&g, n, 1 + c * 7 % 90, (double)(c % 4), pow(10.0, (double)(c % 7) * 4.0 - 12.0), c);
        a = copy_of_mean(&g);
        s = copy_of_mean(&g);
        damp = WHITEN_DAMPING * gram_mean_eigenvalue(&g);
        trace = gram_trace(&g);
        assert_int_equal(whiten_root(s, n, damp, values, "b", &e), 0);
        assert_int_equal(whiten_fit(&b, "b", &g, WHITEN_DAMPING, &e), 0);
        assert_true(b.dim == n && b.rows == 1 + c * 7 % 90 && b.damp == damp);
        for (size_t i = 0; i < n; i++) {
            a[i * n + i] += damp;
            pooled += b.eigenvalues[i];
            assert_true(b.eigenvalues[i] == values[i] && values[i] >= 0.0);
            assert_true(i == 0 || values[i] <= values[i - 1]);
        }
        assert_true(fabs(pooled - trace) <= 1e-13 * trace);
        worst64 = fmax(worst64, from_identity(s, a, n));
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < n; j++) {
                assert_true(s[i * n + j] == s[j * n + i]);
                assert_true(b.root[i * n + j] == (float)s[i * n + j]);
            }
        for (size_t i = 0; i < n * n; i++)
            s[i] = (double)b.root[i];
        worst32 = fmax(worst32, from_identity(s, a, n));
        whiten_block_fini(&b);
        gram_fini(&g);
        free(a);
        free(s);
    }
    print_message("|S (R + damp) S - I|: %g in float64, %g as stored\n", worst64, worst32);
    assert_true(worst64 <= 1e-12 && worst32 <= 1e-5);
}

/* The row that make_gram adds as its r-th. */
static void make_row(float *row, size_t dim, double decades, uint64_t seed, size_t r)
{
    double x[MOST];

    philox_normals(seed, 4, PHILOX_LEFT, r * dim, dim, x);
    for (size_t i = 0; i < dim; i++)
        row[i] = (float)(x[i] * pow(10.0, -decades * (double)i / (double)dim));
}

/* Fitted again through what was whitened before: the root of the gradients' own Hessian, and rows
 * that land where the gradients would; with more rows and another damping than the first fit. */
static void a_later_fit_is_that_of_the_gradients(void **state)
{
    double worst_root = 0.0, worst_row = 0.0;

    (void)state;
    for (uint64_t c = 0; c < 40; c++) {
        size_t n = 1 + c * 13 % MOST, first = 3 + c % 50, all = first + 20 + c * 5 % 60;
        double decades = (double)(c % 3), damping = c % 2 ? 0.1 : 0.03, largest = 0.0;
        float row[MOST], x[MOST], got[MOST], want[MOST];
        float *move = malloc(n * n * sizeof *move), *scratch = malloc(whiten_scratch(n) * sizeof *scratch);
        struct whiten_block old, direct, again;
        struct gram g;
        struct err e = ERR_INIT;

        assert_true(move && scratch);
        make_gram(&g, n, first, decades, 1.0, c);
        assert_int_equal(whiten_fit(&old, "b", &g, 0.1, &e), 0);
        make_gram(&g, n, all, decades, 1.0, c);
        assert_int_equal(whiten_fit(&direct, "b", &g, damping, &e), 0);
        assert_int_equal(gram_init(&g, n, &e), 0);
        for (size_t r = 0; r < all; r++) {
            make_row(row, n, decades, c, r);
            whiten_apply_plain(&old, row, x);
            assert_int_equal(gram_add(&g, x, DTYPE_F32, sizeof x, NULL, 1, r, &e), 0);
        }
        gram_finish(&g);
        assert_int_equal(whiten_refit(&again, move, "b", &g, &old, damping, &e), 0);
        assert_true(again.rows == all && fabs(again.mean / direct.mean - 1.0) < 1e-5);
        for (size_t i = 0; i < n * n; i++)
            largest = fmax(largest, fabs((double)direct.root[i]));
        for (size_t i = 0; i < n * n; i++)
            worst_root = fmax(worst_root,
                              fabs((double)again.root[i] - (double)direct.root[i]) / largest);
        for (size_t r = 0; r < all; r++) {
            struct whiten_block mover = {.dim = n, .root = move};
            double length = 0.0;

            make_row(row, n, decades, c, r);
            whiten_apply_plain(&direct, row, want);
            whiten_apply_plain(&old, row, x);
            whiten_apply(&mover, x, DTYPE_F32, sizeof x, 1, got, n, scratch);
            for (size_t i = 0; i < n; i++)
                length += (double)want[i] * (double)want[i];
            for (size_t i = 0; i < n; i++)
                worst_row = fmax(worst_row,
                                 fabs((double)got[i] - (double)want[i]) / sqrt(length));
        }
        whiten_block_fini(&old);
        whiten_block_fini(&direct);
        whiten_block_fini(&again);
        free(move);
        free(scratch);
    }
    print_message("refit: root %.2g of its largest element, rows %.2g of their length\n", worst_root,
                  worst_row);
    assert_true(worst_root < 2e-5);
    assert_true(worst_row < 2e-5);
}

static void applies_as_the_plain_form(void **state)
{
    static const enum dtype types[] = {DTYPE_F32, DTYPE_F16, DTYPE_BF16};
    static float raw[120 * MOST], wide[MOST], plain[MOST];
    float *scratch = malloc(whiten_scratch(MOST) * sizeof *scratch);
    static float all[120 * (MOST + 3)], some[120 * (MOST + 3)];
    static unsigned char stored[120 * MOST * 4 + 1];

    (void)state;
    for (uint64_t c = 0; c < 24; c++) {
        size_t n = 1 + c * 29 % MOST, stride = n + c % 4;
        enum dtype t = types[c % 3];
        unsigned char *rows = stored + c % 2; /* unaligned too */
        struct err e = ERR_INIT;
        struct whiten_block b;
        struct gram g;
        double x[MOST], ignored;

        make_gram(&g, n, 50, 1.0, 1.0, c);
        assert_int_equal(whiten_fit(&b, "b", &g, WHITEN_DAMPING, &e), 0);
        for (size_t r = 0; r < 120; r++) {
            philox_normals(c, 5, PHILOX_LEFT, r * n, n, x);
            for (size_t i = 0; i < n; i++)
                raw[i] = (float)x[i];
            assert_int_equal(vec_normalise(raw, DTYPE_F32, n, t, rows + r * n * dtype_size(t), &ignored,
                                           wide, "g", r, &e), 0);
        }
        whiten_apply(&b, rows, t, n * dtype_size(t), 120, all, stride, scratch);
        for (size_t r = 0; r < 120; r++) {
            vec_widen(rows + r * n * dtype_size(t), t, n, wide);
            whiten_apply_plain(&b, wide, plain);
            assert_memory_equal(all + r * stride, plain, n * sizeof *plain);
            for (size_t i = 0; i < n; i++) {
                double bound = 0.0, right = 0.0;

                for (size_t j = 0; j < n; j++) {
                    right += (double)b.root[i * n + j] * (double)wide[j];
                    bound += fabs((double)b.root[i * n + j] * (double)wide[j]);
                }
                bound *= (double)(WHITEN_PIECE + 1) * 0x1p-24;
                assert_true(fabs((double)plain[i] - right) <= bound);
            }
        }
        for (size_t k = 0; k < 120; k += 11) { /* how many rows come along does not show */
            whiten_apply(&b, rows, t, n * dtype_size(t), k, some, stride, scratch);
            for (size_t r = 0; r < k; r++)
                assert_memory_equal(some + r * stride, all + r * stride, n * sizeof *all);
        }
        whiten_block_fini(&b);
        gram_fini(&g);
    }
    free(scratch);
}

/* Of any matrix, symmetric or not: how many rows come along, the table, tiles or strips do not
 * show. */
static void applies_the_same_bits_everywhere(void **state)
{
    static const char *const names[] = {"generic", "avx2", "avx512"};
    static const size_t dims[] = {1, 47, 48, 255, 256, 257, 700, 1100};
    enum { ROWS = 53, DIM = 1100 };
    float *root = malloc(DIM * DIM * sizeof *root), *rows = malloc(ROWS * DIM * sizeof *rows);
    float *want = malloc(ROWS * DIM * sizeof *want), *got = malloc(ROWS * DIM * sizeof *got);
    float *scratch = malloc(whiten_scratch(DIM) * sizeof *scratch);
    double *normal = malloc(DIM * DIM * sizeof *normal);

    (void)state;
    philox_normals(7, 1, PHILOX_LEFT, 0, DIM * DIM, normal);
    for (size_t i = 0; i < DIM * DIM; i++)
        root[i] = (float)normal[i];
    for (size_t i = 0; i < ROWS * DIM; i++)
        rows[i] = (float)normal[DIM * DIM - 1 - i];
    for (size_t c = 0; c < sizeof dims / sizeof *dims; c++) {
        const size_t d = dims[c], count = d > 256 ? 11 + c : ROWS;
        const struct whiten_block b = {.dim = d, .root = root};

        for (size_t r = 0; r < count; r++)
            whiten_apply_plain(&b, rows + r * d, want + r * d);
        for (size_t t = 0; t < 3; t++) {
            if (strcmp(kern_init(names[t]), names[t]) != 0)
                continue;
            for (size_t n = 1; n <= count; n += n < 10 ? 1 : 14) {
                memset(got, 0, n * d * sizeof *got);
                whiten_apply(&b, rows, DTYPE_F32, d * sizeof *rows, n, got, d, scratch);
                assert_memory_equal(got, want, n * d * sizeof *got);
            }
            for (size_t n = 1; n <= WHITEN_FEW; n++) {
                memset(got, 0, n * d * sizeof *got);
                for (size_t from = 0, to; from < d; from = to) {
                    to = from + 1 + (from * 7 + c) % 300;
                    to = to < d ? to : d;
                    whiten_strip(&b, rows, d, n, from, to, got);
                }
                assert_memory_equal(got, want, n * d * sizeof *got);
            }
        }
    }
    kern_init(NULL);
    free(root);
    free(rows);
    free(want);
    free(got);
    free(scratch);
    free(normal);
}

static void refuses_what_has_no_root(void **state)
{
    static const double bad[] = {-0.1, (double)NAN, (double)INFINITY};
    float zeros[4] = {0};
    struct err e = ERR_INIT;
    struct whiten_block b;
    struct gram g;

    (void)state;
    make_gram(&g, 8, 5, 0.0, 1.0, 1); /* 5 rows in 8 dimensions: rank 5 */
    assert_int_equal(whiten_fit(&b, "h3.mlp", &g, 0.0, &e), ERR_INVALID);
    assert_non_null(strstr(e.text, "block h3.mlp: singular to working precision: smallest eigenvalue"));
    assert_string_equal(e.field, "damping");
    assert_true(b.root == NULL && b.memory == NULL);
    gram_fini(&g);
    make_gram(&g, 8, 50, 0.0, 1.0, 1); /* of full rank, no damping is needed */
    assert_int_equal(whiten_fit(&b, "b", &g, 0.0, &e), 0);
    assert_true(b.damp == 0.0);
    whiten_block_fini(&b);
    gram_fini(&g);
    for (size_t i = 0; i < 3; i++) {
        make_gram(&g, 2, 5, 0.0, 1.0, 1);
        assert_int_equal(whiten_fit(&b, "b", &g, bad[i], &e), ERR_INVALID);
        assert_string_equal(e.field, "damping");
        gram_fini(&g);
    }
    make_gram(&g, 2, 0, 0.0, 1.0, 1);
    assert_int_equal(whiten_fit(&b, "h0", &g, 0.1, &e), ERR_INVALID);
    assert_string_equal(e.text, "block h0: no rows to take a Hessian from");
    gram_fini(&g);
    assert_int_equal(gram_init(&g, 4, &e), 0);
    assert_int_equal(gram_add(&g, zeros, DTYPE_F32, sizeof zeros, NULL, 1, 0, &e), 0);
    gram_finish(&g);
    assert_int_equal(whiten_fit(&b, "h0", &g, 0.1, &e), ERR_INVALID);
    assert_non_null(strstr(e.text, "block h0"));
    gram_fini(&g);
    make_gram(&g, 2, 5, 0.0, 1e-41, 1); /* the root of a denormal's square is past float32 */
    assert_int_equal(whiten_fit(&b, "h0", &g, 0.1, &e), ERR_INVALID);
    assert_non_null(strstr(e.text, "scale the loss"));
    gram_fini(&g);
}

static void lapack_refuses(void **state)
{
    double a[4] = {1.0, (double)NAN, 0.0, 1.0}, v[2];
    struct err e = ERR_INIT;

    (void)state;
    assert_int_equal(lapack_eigen(a, 2, v, "block x", &e), ERR_NOT_FINITE);
    assert_string_equal(e.text, "block x: element (0, 1) of the matrix is not finite");
    assert_int_equal(lapack_eigenvalues(a, 0, v, "block x", &e), ERR_INVALID);
    assert_int_equal(lapack_eigenvalues(a, LAPACK_DIM_MAX + 1, v, "block x", &e), ERR_INVALID);
    a[1] = 0.5;
    a[2] = (double)NAN; /* the lower triangle is not read */
    assert_int_equal(lapack_eigen(a, 2, v, "block x", &e), 0);
    assert_true(fabs(v[0] - 0.5) < 1e-15 && fabs(v[1] - 1.5) < 1e-15);
    assert_true(fabs(a[0] + a[1]) < 1e-15 && fabs(a[2] - a[3]) < 1e-15);
    a[0] = a[1] = a[2] = a[3] = 1.0;
    assert_int_equal(lapack_invert(a, 2, "block x", &e), ERR_INVALID);
    a[0] = a[3] = 2.0;
    a[1] = a[2] = 1.0;
    assert_int_equal(lapack_invert(a, 2, "block x", &e), 0);
    assert_true(fabs(a[0] - 2.0 / 3) < 1e-15 && fabs(a[1] + 1.0 / 3) < 1e-15 && a[1] == a[2]);
}

static int into_buffer(void *arg, const void *bytes, size_t len, struct err *e)
{
    (void)e;
    buf_add(arg, bytes, len);
    return 0;
}

static int into_nothing(void *arg, const void *bytes, size_t len, struct err *e)
{
    (void)bytes;
    (void)len;
    return --*(int *)arg < 0 ? err_set(e, ERR_FULL, "no room") : 0;
}

/* Written block by block as they are fitted, read back, cut short anywhere, and changed anywhere. */
static void an_image_reads_back(void **state)
{
    static const size_t dims[] = {7, 1, 17};
    struct whiten_block fitted[3];
    struct whiten w, whole = {.count = 3, .dim = 25, .rows = 40, .damping = 0.1, .block = fitted};
    struct buf b = {0}, again = {0};
    struct err e = ERR_INIT;
    struct image_sink to = {into_buffer, &b}, to_again = {into_buffer, &again};
    size_t changed = 0;

    (void)state;
    assert_int_equal(whiten_write_head(dims, 3, 40, 0.1, &to, &e), 0);
    assert_int_equal(b.len, whiten_head_bytes(3));
    for (size_t i = 0; i < 3; i++) {
        struct gram g;

        make_gram(&g, dims[i], 40, 1.0, 1.0, i);
        assert_int_equal(whiten_fit(&fitted[i], "b", &g, 0.1, &e), 0);
        gram_fini(&g);
        assert_int_equal(fitted[i].bytes, whiten_block_bytes(dims[i]));
        assert_int_equal(whiten_write_block(&fitted[i], &to, &e), 0);
    }
    assert_int_equal(whiten_write(&whole, &to_again, &e), 0);
    assert_true(again.len == b.len);
    assert_memory_equal(again.data, b.data, b.len);
    assert_int_equal(whiten_read(b.data, b.len, &w, &e), 0);
    assert_true(w.count == 3 && w.dim == 25 && w.rows == 40 && w.damping == 0.1);
    for (size_t i = 0; i < 3; i++) {
        assert_true(w.block[i].memory == NULL && w.block[i].damp == fitted[i].damp);
        assert_memory_equal(w.block[i].image, fitted[i].image, fitted[i].bytes);
        assert_memory_equal(w.block[i].root, fitted[i].root, dims[i] * dims[i] * sizeof(float));
    }
    whiten_fini(&w);
    whiten_fini(&w);
    for (size_t n = 0; n < b.len; n++) {
        unsigned char *cut = malloc(n ? n : 1);

        assert_non_null(cut);
        memcpy(cut, b.data, n);
        assert_int_equal(whiten_read(cut, n, &w, &e), ERR_CORRUPT);
        free(cut);
    }
    for (size_t at = 0; at < b.len; at++)
        for (int bit = 0; bit < 8; bit++) {
            b.data[at] ^= (unsigned char)(1 << bit);
            if (whiten_read(b.data, b.len, &w, &e) == 0) {
                whiten_fini(&w);
            } else {
                assert_int_equal(e.code, ERR_CORRUPT);
                changed++;
            }
            b.data[at] ^= (unsigned char)(1 << bit);
        }
    assert_true(changed > 1000);
    for (int left = 0; left < 4; left++) {
        int puts = left;
        struct image_sink none = {into_nothing, &puts};

        assert_int_equal(whiten_write(&whole, &none, &e), ERR_FULL);
    }
    for (size_t i = 0; i < 3; i++)
        whiten_block_fini(&fitted[i]);
    buf_free(&b);
    buf_free(&again);
}

static void sizes_do_not_overflow(void **state)
{
    (void)state;
    assert_true(whiten_block_bytes(SIZE_MAX) == SIZE_MAX);
    assert_true(whiten_block_bytes((size_t)1 << 31) == SIZE_MAX || sizeof(size_t) > 4);
    assert_true(whiten_head_bytes(SIZE_MAX / 4) == SIZE_MAX);
    assert_int_equal(whiten_block_bytes(4096), 64 + 4096 * 8 + 4096 * 4096 * 4);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(is_the_inverse_root),
        cmocka_unit_test(a_later_fit_is_that_of_the_gradients),
        cmocka_unit_test(applies_as_the_plain_form),
        cmocka_unit_test(applies_the_same_bits_everywhere),
        cmocka_unit_test(refuses_what_has_no_root), cmocka_unit_test(lapack_refuses),
        cmocka_unit_test(an_image_reads_back),      cmocka_unit_test(sizes_do_not_overflow),
    };

    kern_init(NULL);
    openblas_set_num_threads(1);
    return cmocka_run_group_tests_name("whiten", tests, NULL, NULL);
}
