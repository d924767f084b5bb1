/* test_lens.c - TrackStar as the textbook has it, against the lens over a whitened corpus.
 *
 * The oracle builds the whole d x d matrix R = lambda R_eval + (1 - lambda)(R_train + damp), takes its
 * inverse square root by Jacobi's method in long double, puts it on both sides, normalises after and
 * multiplies. It shares no line with index/: not the order of sums, not LAPACK, not the lens.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "index/gram.h"
#include "index/kern.h"
#include "index/lambda.h"
#include "index/lens.h"
#include "index/philox.h"
#include "index/vec.h"
#include "index/whiten.h"
#include "storage/base/bytes.h"

enum { BLOCKS = 3, MOST = 20, WIDEST = BLOCKS * MOST, ROWS = 70, EVALS = 40 };

static uint64_t seed_of_case;
static uint64_t drawn;

static double normal(void)
{
    double x;

    philox_normals(seed_of_case, 77, PHILOX_LEFT, drawn++, 1, &x);
    return x;
}

static size_t below(size_t n) /* 0 .. n-1 */
{
    return (size_t)(fabs(normal()) * 1e6) % n;
}

/* One random corpus and evaluation set. Rows are what a store holds: unit float32 and a norm. */
struct world {
    size_t blocks, dims[BLOCKS], d, rows, evals;
    double lambda, damping;
    float unit[ROWS][WIDEST], eval_unit[EVALS][WIDEST];
    double norm[ROWS], eval_norm[EVALS];
};

static void fill_unit(float *unit, double *norm, size_t d, const double *scale, const double *common)
{
    float raw[WIDEST], scratch[WIDEST];
    struct err e = ERR_INIT;

    for (size_t i = 0; i < d; i++)
        raw[i] = (float)(scale[i] * (normal() + common[i]));
    assert_int_equal(vec_normalise(raw, DTYPE_F32, d, DTYPE_F32, unit, norm, scratch, "g", 0, &e), 0);
}

static void make_world(struct world *w, uint64_t seed)
{
    static const double lambdas[] = {0.0, 0.1, 0.5, 0.9, 0.99, 0.999};
    double scale[WIDEST], common[WIDEST], zero[WIDEST] = {0}, spread;

    seed_of_case = seed;
    drawn = 0;
    memset(w, 0, sizeof *w);
    w->blocks = 1 + below(BLOCKS);
    for (size_t b = 0; b < w->blocks; b++)
        w->d += w->dims[b] = 1 + below(MOST);
    w->rows = 1 + below(ROWS);
    w->evals = 1 + below(EVALS);
    w->lambda = lambdas[seed % 6];
    w->damping = seed % 4 == 3 ? 1e-3 : WHITEN_DAMPING;
    spread = (double)(seed % 5); /* decades of column scales: ill-conditioned Grams */
    for (size_t i = 0; i < w->d; i++) {
        scale[i] = pow(10.0, spread * (fabs(normal()) - 1.0));
        common[i] = 2.0 * normal(); /* what all evaluation gradients share: the template */
    }
    for (size_t r = 0; r < w->rows; r++)
        fill_unit(w->unit[r], &w->norm[r], w->d, scale, zero);
    for (size_t r = 0; r < w->evals; r++)
        fill_unit(w->eval_unit[r], &w->eval_norm[r], w->d, scale, common);
}

/* --- the oracle ---------------------------------------------------------------------------------- */

struct oracle {
    size_t d;
    long double r[WIDEST][WIDEST], root[WIDEST][WIDEST];
};

/* Jacobi: a becomes diagonal, v's columns its eigenvectors. */
static void jacobi(long double a[WIDEST][WIDEST], long double v[WIDEST][WIDEST], size_t n)
{
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++)
            v[i][j] = i == j;
    for (int sweep = 0; sweep < 60; sweep++) {
        int turned = 0;

        for (size_t p = 0; p + 1 < n; p++)
            for (size_t q = p + 1; q < n; q++) {
                long double theta, t, c, s;

                if (fabsl(a[p][q]) <= 1e-22L * sqrtl(fabsl(a[p][p] * a[q][q])))
                    continue;
                turned = 1;
                theta = (a[q][q] - a[p][p]) / (2 * a[p][q]);
                t = (theta < 0 ? -1 : 1) / (fabsl(theta) + sqrtl(theta * theta + 1));
                c = 1 / sqrtl(t * t + 1);
                s = t * c;
                for (size_t k = 0; k < n; k++) {
                    long double x = a[k][p], y = a[k][q];

                    a[k][p] = c * x - s * y;
                    a[k][q] = s * x + c * y;
                }
                for (size_t k = 0; k < n; k++) {
                    long double x = a[p][k], y = a[q][k], vx = v[k][p], vy = v[k][q];

                    a[p][k] = c * x - s * y;
                    a[q][k] = s * x + c * y;
                    v[k][p] = c * vx - s * vy;
                    v[k][q] = s * vx + c * vy;
                }
            }
        if (!turned)
            return;
    }
}

static long double entry(const struct world *w, size_t i, size_t j)
{
    long double train = 0, eval = 0, damp = 0;
    size_t from = 0, b = 0;

    while (i >= from + w->dims[b])
        from += w->dims[b++];
    if (j < from || j >= from + w->dims[b])
        return 0; /* block diagonal */
    for (size_t r = 0; r < w->rows; r++)
        train += (long double)w->norm[r] * w->norm[r] * w->unit[r][i] * w->unit[r][j];
    for (size_t r = 0; r < w->evals; r++)
        eval += (long double)w->eval_norm[r] * w->eval_norm[r] * w->eval_unit[r][i] * w->eval_unit[r][j];
    for (size_t r = 0; i == j && r < w->rows; r++)
        for (size_t k = from; k < from + w->dims[b]; k++)
            damp += (long double)w->norm[r] * w->norm[r] * w->unit[r][k] * w->unit[r][k];
    damp *= w->damping / (long double)(w->rows * w->dims[b]);
    return w->lambda * eval / w->evals + (1.0L - w->lambda) * (train / w->rows + damp);
}

static void make_oracle(struct oracle *o, const struct world *w)
{
    static long double a[WIDEST][WIDEST], v[WIDEST][WIDEST];

    o->d = w->d;
    for (size_t i = 0; i < w->d; i++)
        for (size_t j = 0; j < w->d; j++)
            o->r[i][j] = a[i][j] = entry(w, i, j);
    jacobi(a, v, w->d);
    for (size_t i = 0; i < w->d; i++)
        for (size_t j = 0; j < w->d; j++) {
            o->root[i][j] = 0;
            for (size_t k = 0; k < w->d; k++)
                o->root[i][j] += v[i][k] * v[j][k] / sqrtl(a[k][k]);
        }
}

static void oracle_encode(const struct oracle *o, const float *unit, long double *out)
{
    long double sum = 0;

    for (size_t i = 0; i < o->d; i++) {
        out[i] = 0;
        for (size_t j = 0; j < o->d; j++)
            out[i] += o->root[i][j] * unit[j];
        sum += out[i] * out[i];
    }
    for (size_t i = 0; i < o->d; i++)
        out[i] /= sqrtl(sum);
}

static double oracle_score(const struct oracle *o, const float *q, const float *m)
{
    static long double x[WIDEST], y[WIDEST];
    long double sum = 0;

    oracle_encode(o, q, x);
    oracle_encode(o, m, y);
    for (size_t i = 0; i < o->d; i++)
        sum += x[i] * y[i];
    return (double)sum;
}

/* --- the lens route ------------------------------------------------------------------------------ */

static void block_gram(const struct world *w, size_t at, size_t dim, struct gram *g)
{
    struct err e = ERR_INIT;

    assert_int_equal(gram_init(g, dim, &e), 0);
    assert_int_equal(gram_add(g, &w->unit[0][at], DTYPE_F32, sizeof w->unit[0], w->norm, w->rows, 0, &e), 0);
    gram_finish(g);
}

/* All in float64: roots[b] is S of block b. */
static void float64_roots(const struct world *w, double *roots[BLOCKS])
{
    size_t at = 0;

    for (size_t b = 0; b < w->blocks; b++) {
        double values[MOST], damp;
        struct err e = ERR_INIT;
        struct gram g;

        block_gram(w, at, w->dims[b], &g);
        damp = w->damping * gram_mean_eigenvalue(&g);
        assert_int_equal(gram_take(&g, &roots[b], &e), 0);
        assert_int_equal(whiten_root(roots[b], w->dims[b], damp, values, "b", &e), 0);
        at += w->dims[b];
    }
}

static void float64_whiten(const struct world *w, double *const roots[BLOCKS], const float *unit,
                           double norm, double *out)
{
    size_t at = 0;

    for (size_t b = 0; b < w->blocks; b++) {
        size_t n = w->dims[b];

        for (size_t i = 0; i < n; i++) {
            out[at + i] = 0.0;
            for (size_t j = 0; j < n; j++)
                out[at + i] += roots[b][i * n + j] * norm * (double)unit[at + j];
        }
        at += n;
    }
}

/* x: evals x d whitened evaluation gradients. Every third case goes by way of a Gram's mean. */
static void make_lens(struct lens *l, const struct world *w, double x[EVALS][WIDEST], bool by_mean)
{
    struct err e = ERR_INIT;
    size_t at = 0;

    assert_int_equal(lens_init(l, w->dims, w->blocks, w->evals, w->lambda, &e), 0);
    for (size_t b = 0; b < w->blocks; b++) {
        size_t n = w->dims[b];
        double rows[EVALS * MOST], mean[MOST * MOST] = {0};

        for (size_t r = 0; r < w->evals; r++)
            memcpy(rows + r * n, &x[r][at], n * sizeof *rows);
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < n; j++)
                for (size_t r = 0; r < w->evals; r++)
                    mean[i * n + j] += rows[r * n + i] * rows[r * n + j] / (double)w->evals;
        if (by_mean)
            assert_int_equal(lens_fit_mean(l, b, "b", mean, &e), 0);
        else
            assert_int_equal(lens_fit(l, b, "b", rows, &e), 0);
        at += n;
    }
}

static double dot(const double *a, const double *b, size_t n)
{
    double sum = 0.0;

    for (size_t i = 0; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

/* The condition number that bounds every error: 1 + lambda s_max / (1 - lambda). */
static double kappa(const struct lens *l)
{
    double most = 0.0;

    for (size_t i = 0; i < l->count; i++)
        if (l->block[i].rank)
            most = fmax(most, l->block[i].values[0]);
    return 1.0 + l->lambda * most / (1.0 - l->lambda);
}

/* A query as the server turns it: by blocks, in any order, the parts added in order. */
static int whole_query(const struct lens *l, const double *x, float *u, double *length, struct err *e)
{
    static double mx[WIDEST], all[WIDEST], scratch[2 * WIDEST];
    double part[BLOCKS], whole, quad = 0.0;
    size_t end = l->dim;

    assert_true(l->count <= BLOCKS && l->dim <= sizeof mx / sizeof *mx);
    assert_true(lens_apply_scratch(l) <= sizeof scratch / sizeof *scratch);
    for (size_t i = l->count; i-- > 0;) {
        end -= l->block[i].dim;
        part[i] = lens_apply_block(l, i, x + end, mx + end, scratch);
    }
    for (size_t i = 0; i < l->count; i++)
        quad += part[i];
    if (isfinite(quad)) {
        lens_apply(l, x, all, &whole, scratch);
        assert_memory_equal(&whole, &quad, sizeof quad);
        assert_memory_equal(all, mx, l->dim * sizeof *mx);
    }
    return lens_settle(l, mx, quad, u, length, e);
}

static void equals_the_textbook_in_float64(void **state)
{
    static struct world w;
    static struct oracle o;
    static double x[ROWS][WIDEST], e[EVALS][WIDEST], m[WIDEST], scratch[100 * WIDEST * 2];
    size_t few = 0, many = 0, compared = 0;
    double worst = 0.0;

    (void)state;
    for (uint64_t seed = 0; seed < 360; seed++) {
        double *roots[BLOCKS];
        struct lens l;

        make_world(&w, seed);
        make_oracle(&o, &w);
        float64_roots(&w, roots);
        for (size_t r = 0; r < w.rows; r++)
            float64_whiten(&w, roots, w.unit[r], 1.0, x[r]);
        for (size_t r = 0; r < w.evals; r++)
            float64_whiten(&w, roots, w.eval_unit[r], w.eval_norm[r], e[r]);
        make_lens(&l, &w, e, seed % 3 == 2);
        assert_true(lens_scratch(&l) <= sizeof scratch / sizeof *scratch);
        for (size_t b = 0; b < w.blocks; b++)
            *(w.evals < w.dims[b] ? &few : &many) += 1;
        for (size_t q = 0; q < w.rows && q < 6; q++) {
            double quad;

            lens_apply(&l, x[q], m, &quad, scratch);
            for (size_t r = 0; r < w.rows && r < 12; r++) {
                double got, want = oracle_score(&o, w.unit[q], w.unit[r]), n, other[WIDEST];

                lens_apply(&l, x[r], other, &n, scratch);
                got = dot(m, x[r], w.d) / sqrt(quad) / sqrt(n);
                worst = fmax(worst, fabs(got - want) / fmax(fabs(want), 1e-2));
                compared++;
            }
        }
        lens_fini(&l);
        for (size_t b = 0; b < w.blocks; b++)
            free(roots[b]);
    }
    print_message("%zu scores, %zu blocks with m < d, %zu with m >= d: worst %g\n", compared, few, many,
                  worst);
    assert_true(few > 100 && many > 100 && compared > 10000);
    assert_true(worst <= 1e-9);
}

static void equals_the_textbook_through_float32(void **state)
{
    static struct world w;
    static struct oracle o;
    static float x[EVALS + ROWS][WIDEST], u[WIDEST], wide[WIDEST];
    float *scratch = malloc(whiten_scratch(MOST) * sizeof *scratch);
    static double e64[EVALS][WIDEST], q64[WIDEST], norms[ROWS], tile[100 * WIDEST * 2];
    double worst = 0.0, length;
    size_t compared = 0;

    (void)state;
    for (uint64_t seed = 1000; seed < 1240; seed++) {
        struct whiten_block s[BLOCKS];
        struct err e = ERR_INIT;
        struct lens l;
        size_t at = 0;

        make_world(&w, seed);
        make_oracle(&o, &w);
        for (size_t b = 0; b < w.blocks; at += w.dims[b++]) {
            struct gram g;

            block_gram(&w, at, w.dims[b], &g);
            assert_int_equal(whiten_fit(&s[b], "b", &g, w.damping, &e), 0);
            gram_fini(&g);
            whiten_apply(&s[b], &w.eval_unit[0][at], DTYPE_F32, sizeof w.eval_unit[0], w.evals, &x[0][at],
                         WIDEST, scratch);
            whiten_apply(&s[b], &w.unit[0][at], DTYPE_F32, sizeof w.unit[0], w.rows, &x[EVALS][at], WIDEST,
                         scratch);
        }
        for (size_t r = 0; r < w.evals; r++)
            for (size_t i = 0; i < w.d; i++)
                e64[r][i] = w.eval_norm[r] * (double)x[r][i];
        make_lens(&l, &w, e64, false);
        for (size_t r = 0; r < w.rows; r++) { /* what the store keeps */
            double ignored;

            assert_int_equal(vec_normalise(x[EVALS + r], DTYPE_F32, w.d, DTYPE_F32, x[EVALS + r], &ignored,
                                           wide, "x", r, &e), 0);
        }
        lens_norms(&l, x[EVALS], DTYPE_F32, sizeof x[0], w.rows, norms, tile);
        for (size_t q = 0; q < w.rows && q < 6; q++) {
            for (size_t i = 0; i < w.d; i++)
                q64[i] = (double)x[EVALS + q][i];
            assert_int_equal(whole_query(&l, q64, u, &length, &e), 0);
            /* each query is a row here */
            assert_true(fabs(length - norms[q]) <= (1e-12 + 1e-14 * kappa(&l)) * norms[q]);
            for (size_t r = 0; r < w.rows && r < 12; r++) {
                double got = lens_score(kern->dot_f32(u, x[EVALS + r], w.d), norms[r]);
                double off = fabs(got - oracle_score(&o, w.unit[q], w.unit[r]));

                /* docs/encoding.md: 1e-5, and past kappa = 1e4 as its square root */
                worst = fmax(worst, off / fmax(1.0, sqrt(kappa(&l) / 1e4)));
                compared++;
            }
        }
        lens_fini(&l);
        for (size_t b = 0; b < w.blocks; b++)
            whiten_block_fini(&s[b]);
    }
    free(scratch);
    print_message("%zu scores: worst %g\n", compared, worst);
    assert_true(compared > 8000);
    assert_true(worst <= 1e-5);
}

/* --- the parts ----------------------------------------------------------------------------------- */

static void random_lens(struct lens *l, const size_t *dims, size_t blocks, size_t m, double lambda,
                        double size)
{
    struct err e = ERR_INIT;

    assert_int_equal(lens_init(l, dims, blocks, m, lambda, &e), 0);
    for (size_t b = 0; b < blocks; b++) {
        double *rows = malloc(m * dims[b] * sizeof *rows);

        assert_non_null(rows);
        for (size_t i = 0; i < m * dims[b]; i++)
            rows[i] = size * (normal() + 1.0);
        assert_int_equal(lens_fit(l, b, "b", rows, &e), 0);
        free(rows);
    }
}

/* lens_norms against lens_apply row by row, every dtype, and that a row's bits depend neither on how
 * many follow nor on what lies beside it. */
static void norms_are_the_applied_ones(void **state)
{
    static const size_t dims[] = {37, 5, 64}, d = 106;
    static const enum dtype types[] = {DTYPE_F32, DTYPE_F16, DTYPE_BF16};
    static float raw[130 * 106], wide[106], scratch[106];
    static unsigned char stored[130 * 106 * 4];
    struct err e = ERR_INIT;
    double x[106], mx[106], quad, all[130], some[130], norm;

    (void)state;
    seed_of_case = 4242;
    for (int c = 0; c < 12; c++) {
        struct lens l;
        double *tile;
        enum dtype t = types[c % 3];
        size_t size = dtype_size(t) * d;

        random_lens(&l, dims, 3, c % 2 ? 20 : 90, c % 4 ? 0.9 : 0.0, 1.0);
        tile = malloc(lens_scratch(&l) * sizeof *tile);
        assert_non_null(tile);
        for (size_t r = 0; r < 130; r++) {
            for (size_t i = 0; i < d; i++)
                raw[r * d + i] = (float)normal();
            assert_int_equal(vec_normalise(raw + r * d, DTYPE_F32, d, t, stored + r * size, &norm, scratch,
                                           "x", r, &e), 0);
        }
        lens_norms(&l, stored, t, size, 130, all, tile);
        for (size_t r = 0; r < 130; r++) {
            vec_widen(stored + r * size, t, d, wide);
            for (size_t i = 0; i < d; i++)
                x[i] = (double)wide[i];
            lens_apply(&l, x, mx, &quad, tile);
            assert_true(fabs(all[r] - sqrt(quad)) <= 1e-14 * kappa(&l) * sqrt(quad));
            assert_true(fabs(dot(x, mx, d) - quad) <= 1e-13 * kappa(&l) * quad);
        }
        for (size_t n = 0; n < 130; n += 7) {
            lens_norms(&l, stored, t, size, n, some, tile);
            assert_memory_equal(some, all, n * sizeof *all);
        }
        memset(stored + 3 * size, 0xff, size); /* NaN in one row: only that row */
        lens_norms(&l, stored, t, size, 130, some, tile);
        for (size_t r = 0; r < 130; r++)
            assert_true(r == 3 ? isnan(some[r]) : some[r] == all[r]);
        free(tile);
        lens_fini(&l);
    }
}

/* lambda = 0 is the plain cosine; directions below the threshold go, and change what they may. */
static void truncation_is_bounded(void **state)
{
    static const size_t dims[] = {30};
    double rows[10 * 30] = {0}, x[30], mx[30], quad, scratch[LENS_TILE * 60 + 60];
    struct err e = ERR_INIT;
    struct lens l;

    (void)state;
    seed_of_case = 99;
    random_lens(&l, dims, 1, 10, 0.0, 1.0);
    assert_int_equal(l.rank, 0);
    for (size_t i = 0; i < 30; i++)
        x[i] = normal();
    lens_apply(&l, x, mx, &quad, scratch);
    assert_memory_equal(mx, x, sizeof x);
    assert_true(fabs(quad - dot(x, x, 30)) <= 1e-13 * quad);
    lens_fini(&l);
    /* E has rows 2 10^(-i) e_i: s_i = 4 10^(-2i) / 10; kept while s_i > 1e-9 (lambda = 1/2) */
    for (size_t i = 0; i < 10; i++)
        rows[i * 30 + i] = 2.0 * pow(10.0, -(double)i);
    assert_int_equal(lens_init(&l, dims, 1, 10, 0.5, &e), 0);
    assert_int_equal(lens_fit(&l, 0, "b", rows, &e), 0);
    assert_int_equal(l.block[0].rank, 5);
    lens_apply(&l, x, mx, &quad, scratch);
    for (size_t i = 0; i < 30; i++) {
        double s = i < 10 ? 0.4 * pow(10.0, -2.0 * (double)i) : 0.0, want = x[i] / (0.5 + 0.5 * s);

        assert_true(fabs(mx[i] - want) <= (LENS_TRUNCATE + 1e-14) * fabs(want));
    }
    lens_fini(&l);
    /* rows that are all one: rank 1 whatever m is */
    for (size_t i = 0; i < 300; i++)
        rows[i] = 1.0 + (double)(i % 30);
    assert_int_equal(lens_init(&l, dims, 1, 10, 0.99, &e), 0);
    assert_int_equal(lens_fit(&l, 0, "b", rows, &e), 0);
    assert_int_equal(l.block[0].rank, 1);
    lens_fini(&l);
}

static void refuses_what_is_no_task(void **state)
{
    static const size_t dims[] = {4, 3};
    static const double bad[] = {-1e-9, 1.0, 1.5, -1.0, (double)INFINITY, (double)NAN};
    double rows[5 * 4], x[7] = {0}, length;
    float u[7];
    struct err e = ERR_INIT;
    struct lens l;

    (void)state;
    for (size_t i = 0; i < 6; i++) {
        assert_int_equal(lens_init(&l, dims, 2, 5, bad[i], &e), ERR_INVALID);
        assert_string_equal(e.field, "lambda");
        assert_null(l.block);
    }
    assert_int_equal(lens_init(&l, dims, 2, 0, 0.5, &e), ERR_INVALID);
    assert_int_equal(lens_init(&l, dims, 2, 5, 0.5, &e), 0);
    for (size_t i = 0; i < 20; i++)
        rows[i] = 1.0;
    rows[2 * 4 + 3] = (double)NAN;
    assert_int_equal(lens_fit(&l, 0, "h0.attn", rows, &e), ERR_NOT_FINITE);
    assert_string_equal(e.text, "block h0.attn: row 2, element 3 is not finite");
    assert_int_equal(e.index, 2);
    rows[2 * 4 + 3] = 1.0;
    assert_int_equal(lens_fit(&l, 0, "h0.attn", rows, &e), 0);
    assert_int_equal(lens_fit(&l, 1, "h0.mlp", rows, &e), 0);
    assert_int_equal(whole_query(&l, x, u, &length, &e), ERR_ZERO_GRADIENT);
    x[3] = (double)INFINITY;
    assert_int_equal(whole_query(&l, x, u, &length, &e), ERR_NOT_FINITE);
    lens_fini(&l);
    lens_fini(&l);
}

static int into_buffer(void *arg, const void *bytes, size_t len, struct err *e)
{
    struct buf *b = arg;

    (void)e;
    buf_add(b, bytes, len);
    return 0;
}

static int into_nothing(void *arg, const void *bytes, size_t len, struct err *e)
{
    (void)bytes;
    (void)len;
    return --*(int *)arg < 0 ? err_set(e, ERR_FULL, "no room") : 0;
}

static void an_image_reads_back(void **state)
{
    static const size_t dims[] = {9, 1, 16};
    struct lens l, back;
    struct buf b = {0};
    struct err e = ERR_INIT;
    struct image_sink to = {into_buffer, &b};
    unsigned char *cut;

    (void)state;
    seed_of_case = 5;
    random_lens(&l, dims, 3, 6, 0.75, 1.0);
    assert_int_equal(lens_write(&l, &to, &e), 0);
    assert_int_equal(b.len, lens_bytes(&l));
    assert_int_equal(lens_read(b.data, b.len, &back, &e), 0);
    assert_true(back.count == 3 && back.dim == 26 && back.rank == l.rank && back.rows == 6);
    assert_true(back.lambda == 0.75);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(back.block[i].rank, l.block[i].rank);
        assert_memory_equal(back.block[i].image, l.block[i].image, l.block[i].bytes);
    }
    lens_fini(&back);
    for (size_t n = 0; n < b.len; n++) { /* cut short anywhere; the copy ends where the bytes do */
        cut = malloc(n ? n : 1);
        assert_non_null(cut);
        memcpy(cut, b.data, n);
        assert_int_equal(lens_read(cut, n, &back, &e), ERR_CORRUPT);
        free(cut);
    }
    for (size_t at = 0; at < b.len; at++) /* any one byte changed: read or refused, never past it */
        for (int bit = 0; bit < 8; bit += 3) {
            b.data[at] ^= (unsigned char)(1 << bit);
            if (lens_read(b.data, b.len, &back, &e) == 0)
                lens_fini(&back);
            else
                assert_int_equal(e.code, ERR_CORRUPT);
            b.data[at] ^= (unsigned char)(1 << bit);
        }
    for (int left = 0; left < 4; left++) {
        int puts = left;
        struct image_sink none = {into_nothing, &puts};

        assert_int_equal(lens_write(&l, &none, &e), ERR_FULL);
    }
    buf_free(&b);
    lens_fini(&l);
}

/* --- lambda -------------------------------------------------------------------------------------- */

static void lambda_by_rule(void **state)
{
    double train[] = {1, 8, 2, 4}, eval[] = {1, 6}, lambda;
    struct err e = ERR_INIT;
    bool clamped;

    (void)state;
    lambda_sort(train, 4);
    lambda_sort(eval, 2);
    assert_true(train[0] == 8 && train[1] == 4 && train[2] == 2 && train[3] == 1 && eval[0] == 6);
    assert_int_equal(lambda_choose(1, train, 4, eval, 2, &lambda, &clamped, &e), 0);
    assert_true(fabs(lambda - 4.0 / 5.0) < 1e-15 && !clamped);
    assert_int_equal(lambda_choose(2, train, 4, eval, 2, &lambda, &clamped, &e), 0);
    assert_true(lambda == LAMBDA_MAX && clamped); /* s_eval[2] is missing */
    lambda = 7.0;
    assert_int_equal(lambda_choose(4, train, 4, eval, 2, &lambda, &clamped, &e), ERR_INVALID);
    assert_string_equal(e.field, "downweight");
    assert_true(lambda == 7.0);
    assert_int_equal(lambda_k(1000, 65536), 1000);
    assert_int_equal(lambda_k(1000, 16384), 250);
    assert_int_equal(lambda_k(1000, 10), 1);
    assert_int_equal(lambda_k(1000, 1), 0);
    assert_int_equal(lambda_k(1000000, 128), 127);
}

static void spectrum_is_of_either_gram(void **state)
{
    double rows[6 * 9], few[6], many[9], turned[9 * 6], trace = 0.0, sum = 0.0;
    struct err e = ERR_INIT;

    (void)state;
    seed_of_case = 12;
    for (size_t i = 0; i < 54; i++) {
        rows[i] = normal();
        turned[i % 9 * 6 + i / 9] = rows[i];
        trace += rows[i] * rows[i] / 6.0;
    }
    assert_int_equal(lambda_spectrum(rows, 6, 9, few, "b", &e), 0);
    assert_int_equal(lambda_spectrum(turned, 9, 6, many, "b", &e), 0);
    for (size_t i = 0; i < 6; i++) {
        assert_true(i == 0 || few[i] <= few[i - 1]);
        assert_true(fabs(few[i] * 6.0 - many[i] * 9.0) <= 1e-12 * trace);
        sum += few[i];
    }
    assert_true(fabs(sum - trace) <= 1e-13 * trace);
    assert_int_equal(lambda_spectrum(rows, 0, 9, few, "b", &e), ERR_INVALID);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(equals_the_textbook_in_float64),
        cmocka_unit_test(equals_the_textbook_through_float32),
        cmocka_unit_test(norms_are_the_applied_ones),
        cmocka_unit_test(truncation_is_bounded),
        cmocka_unit_test(refuses_what_is_no_task),
        cmocka_unit_test(an_image_reads_back),
        cmocka_unit_test(lambda_by_rule),
        cmocka_unit_test(spectrum_is_of_either_gram),
    };

    kern_init(NULL);
    return cmocka_run_group_tests_name("lens", tests, NULL, NULL);
}
