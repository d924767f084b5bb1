/* lambda.c - choosing lambda from two spectra. See lambda.h. */
#include "index/lambda.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "index/gram.h"
#include "index/lapack.h"
#include "storage/base/check.h"
#include "storage/base/mem.h"

static int descending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x < y) - (x > y);
}

void lambda_sort(double *values, size_t count)
{
    qsort(values, count, sizeof *values, descending);
}

int lambda_spectrum(const double *rows, size_t m, size_t dim, double *out, const char *name,
                    struct err *e)
{
    size_t n = m < dim ? m : dim;
    char what[ERR_TEXT_MAX / 2];
    double *gram, *values;

    if (gram_small(rows, m, dim, name, &gram, e))
        return (int)e->code;
    snprintf(what, sizeof what, "block %s", name);
    values = mem_new(n, sizeof *values);
    if (!lapack_eigenvalues(gram, n, values, what, e))
        for (size_t i = 0; i < n; i++)
            out[i] = fmax(values[n - 1 - i], 0.0);
    free(gram);
    free(values);
    return (int)e->code;
}

size_t lambda_k(size_t downweight, size_t dim)
{
    double k = fmax(round((double)downweight * (double)dim / 65536.0), 1.0);

    require(dim > 0);
    return (size_t)fmin(k, (double)dim - 1.0);
}

int lambda_choose(size_t k, const double *train, size_t train_count, const double *eval,
                  size_t eval_count, double *out, bool *clamped, struct err *e)
{
    double t = k < train_count ? train[k] : 0.0, v = k < eval_count ? eval[k] : 0.0;
    double lambda;

    if (!(t > 0.0)) {
        err_set(e, ERR_INVALID, "lambda by rule: R_train has no eigenvalue above 0 at place %zu of "
                "%zu: fit on more rows, hold down fewer directions, or give lambda", k,
                train_count);
        return err_at_field(e, "downweight");
    }
    lambda = 1.0 / (1.0 + v / t);
    *clamped = lambda > LAMBDA_MAX;
    *out = *clamped ? LAMBDA_MAX : lambda;
    return 0;
}
