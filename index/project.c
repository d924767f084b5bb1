/* project.c - the two-sided random projection of one block's gradient. See project.h.
 *
 * Matrices are drawn once and then only read; applying allocates nothing. The caller sets the BLAS
 * thread count. docs/projection.md has the construction and the error bound.
 */
#include "index/project.h"

#include <cblas.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>

#include "index/philox.h"
#include "storage/base/check.h"
#include "storage/base/mem.h"

enum { DRAW = 1024 }; /* deviates drawn at a time, on the stack */

/* count entries of one matrix, row-major, variance 1/p, each rounded once to float32. */
static void draw(float *out, size_t count, uint64_t seed, uint32_t block, enum philox_side side,
                 uint32_t p)
{
    const double scale = 1.0 / sqrt((double)p);
    double normals[DRAW];

    for (size_t at = 0; at < count; at += DRAW) {
        size_t n = count - at < DRAW ? count - at : DRAW;

        philox_normals(seed, block, side, at, n, normals);
        for (size_t i = 0; i < n; i++)
            out[at + i] = (float)(normals[i] * scale);
    }
}

int project_init(struct project *pr, uint64_t seed, uint32_t block, uint32_t rows, uint32_t cols,
                 uint32_t p, struct err *e)
{
    size_t left = (size_t)p * rows, right = (size_t)p * cols;

    *pr = (struct project){.rows = rows, .cols = cols, .p = p};
    if (!rows || !cols || !p)
        return err_set(e, ERR_INVALID, "projection of %u x %u to %u x %u: a size is zero", rows,
                       cols, p, p);
    if (rows > INT_MAX || cols > INT_MAX || p > INT_MAX) /* BLAS counts in int */
        return err_set(e, ERR_INVALID, "projection of %u x %u to %u x %u: a size is past %d", rows,
                       cols, p, p, INT_MAX);
    pr->left = mem_big(left, sizeof *pr->left);
    pr->right = mem_big(right, sizeof *pr->right);
    if (!pr->left || !pr->right) {
        project_fini(pr);
        return err_set(e, ERR_BUSY, "no memory for a projection of %u x %u to %u x %u (%zu floats)",
                       rows, cols, p, p, left + right);
    }
    draw(pr->left, left, seed, block, PHILOX_LEFT, p);
    draw(pr->right, right, seed, block, PHILOX_RIGHT, p);
    return 0;
}

/* Safe after a failed project_init, and twice. */
void project_fini(struct project *pr)
{
    free(pr->left);
    free(pr->right);
    pr->left = pr->right = NULL;
}

/* Both orders cost p*o*i for the first product; the second costs p*p*i or p*p*o, so the longer side
 * of W goes first. */
static int left_first(const struct project *pr)
{
    return pr->cols <= pr->rows;
}

size_t project_scratch(const struct project *pr)
{
    return (size_t)pr->p * (left_first(pr) ? pr->cols : pr->rows);
}

void project_apply(const struct project *pr, const float *w, float *scratch, float *out)
{
    const int o = (int)pr->rows, i = (int)pr->cols, p = (int)pr->p;

    if (left_first(pr)) {
        /* T (p x i) = P W;  out = T Q^T */
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, p, i, o, 1.0f, pr->left, o, w, i,
                    0.0f, scratch, i);
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, p, p, i, 1.0f, scratch, i, pr->right,
                    i, 0.0f, out, p);
    } else {
        /* T (o x p) = W Q^T;  out = P T */
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, o, p, i, 1.0f, w, i, pr->right, i,
                    0.0f, scratch, p);
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, p, p, o, 1.0f, pr->left, o, scratch,
                    p, 0.0f, out, p);
    }
}

/* Row a of P W is summed over the rows of W in ascending order, then each of its p products over
 * the columns in ascending order. Slow; for tests and for reading. Aborts when there is no memory
 * for one row of `cols` doubles. */
void project_apply_plain(const struct project *pr, const float *w, float *out)
{
    double *t = mem_new(pr->cols, sizeof *t);

    for (size_t a = 0; a < pr->p; a++) {
        for (size_t c = 0; c < pr->cols; c++)
            t[c] = 0.0;
        for (size_t r = 0; r < pr->rows; r++)
            for (size_t c = 0; c < pr->cols; c++)
                t[c] += (double)pr->left[a * pr->rows + r] * (double)w[r * pr->cols + c];
        for (size_t b = 0; b < pr->p; b++) {
            double sum = 0.0;

            for (size_t c = 0; c < pr->cols; c++)
                sum += t[c] * (double)pr->right[b * pr->cols + c];
            out[a * pr->p + b] = (float)sum;
        }
    }
    free(t);
}
