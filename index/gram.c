/* gram.c - sums of outer products in a fixed shape. See gram.h. */
#include "index/gram.h"

#include <cblas.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "index/kern.h"
#include "index/lapack.h"
#include "index/vec.h"
#include "storage/base/check.h"
#include "storage/base/mem.h"

static double *zeros(size_t rows, size_t cols)
{
    size_t count;
    double *p = mem_mul(rows, cols, &count) ? mem_big(count, sizeof *p) : NULL;

    if (p)
        memset(p, 0, count * sizeof *p);
    return p;
}

static size_t padded(size_t dim)
{
    return (dim + GRAM_PAD - 1) / GRAM_PAD * GRAM_PAD;
}

size_t gram_bytes(size_t dim)
{
    require(dim <= LAPACK_DIM_MAX);
    return (2 * padded(dim) + GRAM_TILE) * padded(dim) * sizeof(double) + dim * sizeof(float);
}

int gram_init(struct gram *g, size_t dim, struct err *e)
{
    size_t stride = padded(dim);

    *g = (struct gram){0};
    if (dim == 0 || dim > LAPACK_DIM_MAX) {
        err_set(e, ERR_INVALID, "a block of %zu dimensions; a Hessian is for 1 to %d: cut it into "
                "smaller blocks", dim, LAPACK_DIM_MAX);
        return err_at_limit(e, LAPACK_DIM_MAX);
    }
    g->dim = dim;
    g->stride = stride;
    g->tile = zeros(GRAM_TILE, stride);
    g->part = zeros(stride, stride);
    g->sum = zeros(stride, stride);
    g->wide = mem_big(dim, sizeof *g->wide);
    if (!g->tile || !g->part || !g->sum || !g->wide) {
        gram_fini(g);
        return err_set(e, ERR_BUSY, "no memory for the Gram matrix of a block of %zu dimensions "
                       "(%zu bytes)", dim, gram_bytes(dim));
    }
    return 0;
}

void gram_fini(struct gram *g)
{
    free(g->tile);
    free(g->part);
    free(g->sum);
    free(g->wide);
    *g = (struct gram){0};
}

/* The lower triangles hold nothing; adding them too is cheaper than skipping them. */
static void add_matrix(double *into, const double *from, size_t count)
{
    for (size_t i = 0; i < count; i++)
        into[i] += from[i];
}

static void close_part(struct gram *g)
{
    add_matrix(g->sum, g->part, g->stride * g->stride);
    memset(g->part, 0, g->stride * g->stride * sizeof *g->part);
    g->in_part = 0;
}

static void close_tile(struct gram *g)
{
    const int n = (int)g->stride;

    cblas_dsyrk(CblasRowMajor, CblasUpper, CblasTrans, n, (int)g->filled, 1.0, g->tile, n, 1.0,
                g->part, n);
    g->in_part += g->filled;
    g->filled = 0;
    if (g->in_part == GRAM_PART)
        close_part(g);
}

static int bad_row(uint64_t row, const char *what, size_t element, struct err *e)
{
    if (what)
        err_set(e, ERR_NOT_FINITE, "row %llu: its %s is not a finite positive number",
                (unsigned long long)row, what);
    else
        err_set(e, ERR_NOT_FINITE, "row %llu: element %zu of the block is not finite",
                (unsigned long long)row, element);
    return err_at_index(e, (int64_t)row);
}

int gram_add(struct gram *g, const void *rows, enum dtype t, size_t stride, const double *norms,
             size_t count, uint64_t first, struct err *e)
{
    const char *row = rows;

    require(!g->finished);
    for (size_t r = 0; r < count; r++, row += stride) {
        double norm = norms ? norms[r] : 1.0, *to = g->tile + g->filled * g->stride;
        size_t bad;

        vec_widen(row, t, g->dim, g->wide);
        bad = kern->first_bad_f32(g->wide, g->dim);
        if (bad < g->dim)
            return bad_row(first + r, NULL, bad, e);
        if (!(isfinite(norm) && norm > 0.0))
            return bad_row(first + r, "norm", 0, e);
        for (size_t i = 0; i < g->dim; i++)
            to[i] = norm * (double)g->wide[i];
        g->rows++;
        if (++g->filled == GRAM_TILE)
            close_tile(g);
    }
    return 0;
}

void gram_finish(struct gram *g)
{
    if (g->filled)
        close_tile(g);
    if (g->in_part)
        close_part(g);
    g->finished = true;
}

void gram_merge(struct gram *into, const struct gram *from)
{
    require(into->finished && from->finished && into->dim == from->dim);
    add_matrix(into->sum, from->sum, into->stride * into->stride);
    into->rows += from->rows;
}

double gram_trace(const struct gram *g)
{
    double sum = 0.0;

    require(g->finished);
    for (size_t i = 0; i < g->dim; i++)
        sum += g->sum[i * g->stride + i];
    return g->rows ? sum / (double)g->rows : 0.0;
}

double gram_mean_eigenvalue(const struct gram *g)
{
    return g->dim ? gram_trace(g) / (double)g->dim : 0.0;
}

int gram_take(struct gram *g, double **out_mean, struct err *e)
{
    double *a = g->sum, count = (double)g->rows;
    size_t n = g->dim;

    require(g->finished);
    if (!g->rows)
        return err_set(e, ERR_INVALID, "no rows to take a Hessian from");
    for (size_t i = 0; i < n; i++) /* the padding goes; rows only move down */
        for (size_t j = i; j < n; j++)
            a[i * n + j] = a[i * g->stride + j] / count;
    for (size_t i = 0; i < n; i++)
        for (size_t j = i + 1; j < n; j++)
            a[j * n + i] = a[i * n + j];
    g->sum = NULL;
    gram_fini(g);
    *out_mean = a;
    return 0;
}

static int check_small(const double *rows, size_t m, size_t dim, const char *name, struct err *e)
{
    size_t n = m < dim ? m : dim;

    if (n == 0 || n > LAPACK_DIM_MAX || m > INT_MAX || dim > INT_MAX)
        return err_set(e, ERR_INVALID, "block %s: %zu gradients of %zu dimensions; at least one of "
                       "each, and one of the two at most %d", name, m, dim, LAPACK_DIM_MAX);
    for (size_t r = 0; r < m; r++)
        for (size_t c = 0; c < dim; c++)
            if (!isfinite(rows[r * dim + c])) {
                err_set(e, ERR_NOT_FINITE, "block %s: row %zu, element %zu is not finite", name,
                        r, c);
                return err_at_index(e, (int64_t)r);
            }
    return 0;
}

int gram_small(const double *rows, size_t m, size_t dim, const char *name, double **out,
               struct err *e)
{
    size_t n = m < dim ? m : dim;
    double *a;

    if (check_small(rows, m, dim, name, e))
        return (int)e->code;
    a = mem_big(n * n, sizeof *a);
    if (!a)
        return err_set(e, ERR_BUSY, "block %s: no memory for a %zu x %zu matrix", name, n, n);
    cblas_dsyrk(CblasRowMajor, CblasUpper, m < dim ? CblasNoTrans : CblasTrans, (int)n,
                (int)(m < dim ? dim : m), 1.0 / (double)m, rows, (int)dim, 0.0, a, (int)n);
    *out = a;
    return 0;
}
